"""What a report holds: frozen values, no I/O, cheap to import.

The fields follow SCI v1.1 (ISO/IEC 21031:2024): a boundary, a method, totals at the finest grain, functional
units, and a baseline by the same method. A value that is not known is None, and its section's `missing` says
why; it is never zero. kWh and grams stand in the names, because a report is read by people.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

from carbon_nas.model import (
    Basis,
    EnergyMethod,
    JobKind,
    JobState,
    Quality,
    Signal,
    Work,
)

SCHEMA_VERSION = "1.0"

Missing = Mapping[str, str]
"""Why a field of the same section is None, by the field's name."""


@dataclass(frozen=True, slots=True)
class Tool:
    """What made the report, and from which settings."""

    version: str
    config_sha256: str
    policy: str
    controller: str
    space: str
    dataset: str
    name: str = "carbon-nas"


@dataclass(frozen=True, slots=True)
class Period:
    """The time that the report covers. `replay` is the statement a reader must see, None in real time."""

    start: datetime
    end: datetime
    clock_speed: float | None
    real_seconds: float | None
    replay: str | None
    timezone: str = "UTC"
    missing: Missing = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Excluded:
    """Something outside the boundary."""

    what: str
    why: str


@dataclass(frozen=True, slots=True)
class Boundary:
    """What was counted, and what was not."""

    slots: tuple[str, ...]
    devices: tuple[str, ...]
    included: tuple[str, ...]
    excluded: tuple[Excluded, ...]
    pue: float
    pue_source: str


@dataclass(frozen=True, slots=True)
class IntensityMethod:
    """Where grams per kWh come from."""

    providers: tuple[str, ...]
    zone: str
    signal: Signal
    basis: Basis
    accounting: str
    licence: str
    attribution: str
    reference_grams_per_kwh: float | None
    share_of_energy_by_quality: Mapping[Quality, float]
    missing: Missing = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class EnergyAccounting:
    """Where joules come from."""

    statement: str
    share_of_energy_by_method: Mapping[EnergyMethod, float]


@dataclass(frozen=True, slots=True)
class Totals:
    """The sums. `emissions_grams` is location-based and includes the facility's overhead (PUE)."""

    device_energy_kwh: float | None
    overhead_energy_kwh: float | None
    energy_kwh: float | None
    emissions_grams: float | None
    mean_grams_per_kwh: float | None
    unsuccessful_energy_kwh: float | None  # of jobs that failed or were cancelled; inside the totals
    unsuccessful_emissions_grams: float | None
    market_based_emissions_grams: float | None
    embodied_emissions_grams: float | None
    missing: Missing


@dataclass(frozen=True, slots=True)
class Share:
    """One row of a breakdown: its key, and what is its own of energy and emissions."""

    key: str
    energy_kwh: float
    emissions_grams: float
    share_of_energy: float | None
    share_of_emissions: float | None
    missing: Missing = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class JobShare:
    """One job's energy and emissions; `job_id` is None for what belongs to no job."""

    job_id: str | None
    work: Work
    state: JobState | None
    attempts: int | None
    energy_kwh: float
    emissions_grams: float
    at_once_emissions_grams: float | None
    missing: Missing = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DayShare:
    """One UTC day's energy and emissions."""

    day: date
    energy_kwh: float
    emissions_grams: float


@dataclass(frozen=True, slots=True)
class SourceShare:
    """What was valued with one provider's intensities of one quality."""

    provider: str
    quality: Quality
    energy_kwh: float
    emissions_grams: float


@dataclass(frozen=True, slots=True)
class Breakdown:
    """The totals, taken apart in four ways; each adds up to the totals."""

    by_work: tuple[Share, ...]
    by_job: tuple[JobShare, ...]
    by_day: tuple[DayShare, ...]
    by_source: tuple[SourceShare, ...]


@dataclass(frozen=True, slots=True)
class FunctionalUnit:
    """Emissions for one unit of what the search is for (the R of SCI)."""

    name: str
    count: int
    emissions_grams: float | None
    emissions_grams_per_unit: float | None
    rationale: str
    missing: Missing = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Counterfactual:
    """The same work without waiting: hypothetical, beside the totals, never netted (`energy.counterfactual`)."""

    policy: str
    method: str
    at_once_emissions_grams: float | None
    saved_grams: float | None
    saved_percent: float | None
    moved_energy_kwh: float | None
    moved_emissions_grams: float | None
    at_once_moved_emissions_grams: float | None
    kept_emissions_grams: float | None
    idle_emissions_grams: float | None
    uncovered_share: float | None
    at_once_seconds: float | None
    actual_seconds: float | None
    delay_seconds: float | None
    caveats: tuple[str, ...]
    missing: Missing = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CostUnit:
    """The cost of an inference that the search weighs against accuracy, by its configured name.

    People read it in `unit`, which is `scale` of the unit it is kept in: a count, or seconds. `label` says besides of
    what.
    """

    name: str
    label: str
    unit: str
    scale: float


@dataclass(frozen=True, slots=True)
class TrainedCandidate:
    """One trained architecture. `flops` are multiply-accumulates of one image; `inference_cost` see `CostUnit`.

    `job_id` is the last of the jobs that trained it, `earlier_jobs` are those it went on from, oldest first. One that
    is `paused` has so far been trained for some of the epochs only, and is compared with nobody.
    """

    arch: str
    job_id: str
    earlier_jobs: tuple[str, ...]
    accuracy: float | None
    parameters: int | None
    flops: float | None
    inference_cost: float | None
    epochs: int | None
    energy_kwh: float | None
    emissions_grams: float | None
    suspensions: int
    paused: bool
    on_front: bool  # no other is both more accurate and cheaper at inference
    missing: Missing = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SearchResults:
    """What was found. `suspended` and `resumed` count steps; a job may have several.

    `trained` were trained to the end, `paused` for a part of the epochs, and no further yet; `failed` are trainings.
    """

    candidates: int
    scored: int
    trained: int
    paused: int
    suspended: int
    resumed: int
    failed: int
    jobs: Mapping[JobKind, Mapping[JobState, int]]
    best_arch: str | None
    best_accuracy: float | None
    cost: CostUnit
    trainings: tuple[TrainedCandidate, ...]  # to the end before paused, then the most accurate first
    missing: Missing = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class IntensityStatistics:
    """The grid in the period, by time; and as the work met it, by energy."""

    minimum_grams_per_kwh: float | None
    mean_grams_per_kwh: float | None
    maximum_grams_per_kwh: float | None
    share_of_period_known: float
    share_of_period_clean: float | None
    energy_weighted_grams_per_kwh: Mapping[Work, float]
    missing: Missing = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that an auditor would test, computed from the record."""

    name: str
    passed: bool = field(metadata={"key": "pass"})
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """The whole account of a run."""

    schema_version: str
    study: str
    tool: Tool
    period: Period
    boundary: Boundary
    intensity_method: IntensityMethod
    energy_method: EnergyAccounting
    totals: Totals
    breakdown: Breakdown
    functional_units: tuple[FunctionalUnit, ...]
    counterfactual: Counterfactual
    search: SearchResults
    intensity: IntensityStatistics
    restatement: Mapping[str, Any]
    checks: tuple[Check, ...]
