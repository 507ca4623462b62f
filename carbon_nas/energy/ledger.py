"""The ledger's arithmetic: from energy counters to rows of joules x the intensity valid in each interval.

Each counter has a mark: up to where it is in the ledger. Rows and marks are written in one transaction, so a
crash at any point neither loses nor doubles a joule: the next sample takes up at the mark.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import structlog

from carbon_nas.energy.meters import CpuModel
from carbon_nas.errors import ExecutorError
from carbon_nas.interfaces import Meter
from carbon_nas.model import EnergyMethod, Job, JobKind, LedgerEntry, Reading, Slot, Work

Mark = tuple[float, datetime]
IntensityAt = Callable[[datetime], Reading]

WORK = {JobKind.SCORE: Work.SCORE, JobKind.TRAIN: Work.TRAIN}


@dataclass(frozen=True, slots=True)
class Occupancy:
    """What a slot does: the attempt it runs since `since`, having used `cpu_seconds`, or nothing."""

    slot: Slot
    job: Job | None = None
    since: datetime | None = None
    cpu_seconds: float = 0.0


class LedgerStore(Protocol):
    """Where rows and marks are kept."""

    def marks(self) -> Mapping[str, Mark]:
        """Give how far each counter is in the ledger."""
        ...

    def add_entries(self, entries: Sequence[LedgerEntry], marks: Mapping[str, Mark]) -> None:
        """Keep rows and marks in one transaction."""


class Bookkeeper:
    """Turns counters into ledger rows. `run_id` tells this daemon's own counter from an earlier one's."""

    def __init__(
        self,
        store: LedgerStore,
        intensity_at: IntensityAt,
        cpu: CpuModel,
        gpus: Mapping[str, Meter],
        *,
        pue: float,
        run_id: str,
    ) -> None:
        self._store = store
        self._intensity_at = intensity_at
        self._cpu = cpu
        self._gpus = gpus
        self._pue = pue
        self._controller_key = f"controller/{run_id}"
        self._marks: dict[str, Mark] = {}
        self._log = structlog.get_logger(__name__)

    def start(self, now: datetime) -> None:
        """Take up the marks of an earlier daemon."""
        self._marks = dict(self._store.marks())
        self._marks[self._controller_key] = (0.0, now)

    def book(
        self, now: datetime, places: Sequence[Occupancy], controller_cpu_seconds: float
    ) -> list[LedgerEntry]:
        """Write what was used since the last time, and give the rows.

        Call it before a slot changes hands: a whole GPU is charged to the job that holds it.
        """
        entries: list[LedgerEntry] = []
        marks: dict[str, Mark] = {}
        for charge in self._charges(now, places, controller_cpu_seconds):
            before, start = self._marks.get(charge.key, charge.origin)
            marks[charge.key] = (before, start)
            if charge.joules > before and now > start:
                energy = (charge.joules - before) * self._pue
                entries += split(charge.row, start, now, energy, charge.method, self._intensity_at)
                marks[charge.key] = (charge.joules, now)
        if entries:
            self._store.add_entries(entries, marks)
        self._marks |= marks
        return entries

    def _charges(
        self, now: datetime, places: Sequence[Occupancy], controller_cpu_seconds: float
    ) -> Iterator["_Charge"]:
        """Read every counter. A job's CPU counter begins at zero when the job starts, a GPU's when first read."""
        for place in places:
            if place.job is not None and place.since is not None:
                yield _Charge(
                    f"cpu/{place.job.id}/{place.job.attempt}",
                    self._cpu.joules(place.cpu_seconds),
                    EnergyMethod.MODEL,
                    (0.0, place.since),
                    _Row.of(place, "cpu"),
                )
            if place.slot.gpu_uuid is not None:
                meter = self._gpus[place.slot.gpu_uuid]
                try:
                    reading = meter.read()
                except ExecutorError as error:
                    self._log.warning("energy not booked", device=meter.device, problem=str(error))
                    continue  # the counter goes on; the next reading covers this gap
                origin = (reading.joules, now)
                if reading.joules < self._marks.get(meter.device, origin)[0]:
                    self._marks[meter.device] = origin  # the driver was reloaded while no daemon ran
                yield _Charge(
                    meter.device, reading.joules, reading.method, origin, _Row.of(place, meter.device)
                )
        yield _Charge(
            self._controller_key,
            self._cpu.joules(controller_cpu_seconds),
            EnergyMethod.MODEL,
            (0.0, now),
            _Row(Work.CONTROLLER, None, 0, None, "cpu"),
        )


@dataclass(frozen=True, slots=True)
class _Row:
    work: Work
    job_id: str | None
    attempt: int
    slot_id: str | None
    device: str

    @classmethod
    def of(cls, place: Occupancy, device: str) -> "_Row":
        if place.job is None:
            return cls(Work.IDLE, None, 0, place.slot.id, device)
        return cls(WORK[place.job.kind], place.job.id, place.job.attempt, place.slot.id, device)


@dataclass(frozen=True, slots=True)
class _Charge:
    """One counter as it stands, where it began, and what its energy was for."""

    key: str
    joules: float
    method: EnergyMethod
    origin: Mark
    row: _Row


def split(
    row: _Row,
    start: datetime,
    end: datetime,
    energy_joules: float,
    method: EnergyMethod,
    intensity_at: IntensityAt,
) -> Iterator[LedgerEntry]:
    """Spread energy evenly over `[start, end)` and cut it wherever the intensity changes."""
    total = (end - start).total_seconds()
    at = start
    while at < end:
        reading = intensity_at(at)
        until = min(end, reading.end)
        yield LedgerEntry(
            work=row.work,
            job_id=row.job_id,
            attempt=row.attempt,
            slot_id=row.slot_id,
            device=row.device,
            start=at,
            end=until,
            energy_joules=energy_joules * (until - at).total_seconds() / total,
            energy_method=method,
            grams_per_kwh=reading.grams_per_kwh,
            quality=reading.quality,
            signal=reading.signal,
            basis=reading.basis,
            provider=reading.provider,
            zone=reading.zone,
        )
        at = until
