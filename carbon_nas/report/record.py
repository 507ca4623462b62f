"""What a report is made from: the record of a run, as it was kept."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from carbon_nas.errors import CarbonNasError
from carbon_nas.model import (
    Capabilities,
    Decision,
    Evaluation,
    Job,
    LedgerEntry,
    Reading,
    Slot,
    Transition,
    require_utc,
)
from carbon_nas.search.cost import FLOPS


class ReportError(CarbonNasError, ValueError):
    """The record cannot be reported honestly: it mixes what must not be summed, or its energy is not credible."""


@dataclass(frozen=True, slots=True)
class RunRecord:
    """All that was kept of a run, as the store knows it.

    `entries` holds every revision. `clock_speed` is clock seconds per real second; above 1 the grid's time was
    replayed. `inference_cost` is the name of a `search.cost`. `epochs` are those of a training to the end; if they are
    not known, the most that any job has. `pue` (power usage effectiveness, ISO/IEC 30134-2) is
    facility energy / device energy, and is already inside every row's energy.

    Raises:
        ValueError: the period is empty or not in UTC, or `pue` is below 1.
    """

    study: str
    zone: str
    start: datetime
    end: datetime
    clock_speed: float
    slots: Sequence[Slot]
    jobs: Sequence[Job]
    transitions: Sequence[Transition]
    entries: Sequence[LedgerEntry]
    readings: Sequence[Reading]
    decisions: Sequence[tuple[datetime, Decision]]
    evaluations: Sequence[tuple[str, Evaluation]]
    candidates: int
    capabilities: Capabilities
    policy: str
    controller: str
    space: str
    dataset: str
    energy_model: str
    tool_version: str
    config_sha256: str
    inference_cost: str = FLOPS.name
    epochs: int | None = None
    reference_grams_per_kwh: float | None = None
    pue: float = 1.0
    pue_source: str = "not measured: 1.0 counts the devices alone, without the facility's overhead"

    def __post_init__(self) -> None:
        require_utc(self.start, "start")
        require_utc(self.end, "end")
        if self.end <= self.start:
            raise ValueError(f"empty period: {self.start} to {self.end}")
        if not self.pue >= 1.0:
            raise ValueError(f"pue is facility energy / device energy and at least 1, got {self.pue}")
