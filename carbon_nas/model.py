"""The values that flow through the system: frozen, with units in their names, checked when they are made.

Times are aware and UTC, intervals are half-open `[start, end)`. Missing is None, never zero.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path

from carbon_nas.errors import BadData

MAX_PLAUSIBLE_GRAMS_PER_KWH = 2000.0
"""No grid emits more: the dirtiest fuel, oil shale, is below 1,500 g/kWh at the plant."""

JOULES_PER_KWH = 3_600_000.0


def require_utc(when: datetime, name: str) -> None:
    """Refuse a time that is naive or not in UTC."""
    if when.utcoffset() != timedelta(0):
        raise ValueError(f"{name} must be an aware UTC time, got {when!r}")


def emissions_grams(energy_joules: float, grams_per_kwh: float) -> float:
    """Grams of CO2e of `energy_joules` at `grams_per_kwh` (SCI v1.1, ISO/IEC 21031: O = E x I)."""
    return energy_joules / JOULES_PER_KWH * grams_per_kwh


# --- the grid ---------------------------------------------------------------------------------------


class Signal(StrEnum):
    """What an intensity counts; the two are never mixed in one total."""

    AVERAGE = "average"
    MARGINAL = "marginal"


class Basis(StrEnum):
    """Which emissions an intensity counts; the kinds are never mixed in one total."""

    LIFECYCLE = "lifecycle"
    DIRECT = "direct"
    UNKNOWN = "unknown"


class Accounting(StrEnum):
    """Whose electricity an intensity describes: what the zone generates, or what it uses, imports included."""

    CONSUMPTION = "consumption"
    PRODUCTION = "production"
    UNKNOWN = "unknown"


class Quality(StrEnum):
    """How far an intensity can be trusted, best first."""

    ACTUAL = "actual"
    ESTIMATED = "estimated"
    FORECAST = "forecast"
    STALE = "stale"  # the last known value, carried forward
    FALLBACK = "fallback"  # a stated constant, used because nothing was known

    @property
    def observed(self) -> bool:
        """Whether the value is of what happened; the others are provisional, and restated when it is known."""
        return self in {Quality.ACTUAL, Quality.ESTIMATED}


@dataclass(frozen=True, slots=True)
class Reading:
    """The carbon intensity of one zone in one interval.

    `band` is the central 80 % interval of a forecast, g/kWh, if the forecaster gives one.

    Raises:
        BadData: the value is not finite, not above zero, or above `MAX_PLAUSIBLE_GRAMS_PER_KWH`.
        ValueError: a time is not UTC, or the interval is empty.
    """

    zone: str
    start: datetime
    end: datetime
    grams_per_kwh: float
    quality: Quality
    signal: Signal
    basis: Basis
    provider: str
    fetched_at: datetime
    band: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        require_utc(self.start, "start")
        require_utc(self.end, "end")
        require_utc(self.fetched_at, "fetched_at")
        if self.end <= self.start:
            raise ValueError(f"empty interval: {self.start} to {self.end}")
        value = self.grams_per_kwh
        if not math.isfinite(value) or not 0 < value <= MAX_PLAUSIBLE_GRAMS_PER_KWH:
            raise BadData(f"{self.provider}: {value} g/kWh for {self.zone} at {self.start} is not credible")

    def covers(self, when: datetime) -> bool:
        """Whether `when` lies in this reading's interval."""
        return self.start <= when < self.end


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a provider can tell, and under which licence.

    `lag` is how long after its end an interval is usually known: until then its absence is no fault.
    """

    signal: Signal
    basis: Basis
    step: timedelta
    history: bool
    forecast: bool
    licence: str
    attribution: str
    accounting: Accounting = Accounting.UNKNOWN
    latest: bool = True
    lag: timedelta = timedelta(0)


class GridState(StrEnum):
    """How well the present is known."""

    FRESH = "fresh"  # a reading covers now, or is no older than its provider's usual lag
    STALE = "stale"  # a forecast or the last reading, carried forward, stands in
    DEGRADED = "degraded"  # nothing recent enough
    FAILED = "failed"  # nothing was ever known


@dataclass(frozen=True, slots=True)
class GridView:
    """What is known of one zone's grid at `now`.

    `current` is None only if `state` is DEGRADED or FAILED, and then unless the user declared a static value.
    """

    zone: str
    now: datetime
    state: GridState
    current: Reading | None
    history: tuple[Reading, ...] = ()  # up to now, oldest first
    forecast: tuple[Reading, ...] = ()  # after now, oldest first

    def __post_init__(self) -> None:
        if self.current is None and self.state not in {GridState.DEGRADED, GridState.FAILED}:
            raise ValueError(f"state {self.state} needs a current reading")


# --- the work ---------------------------------------------------------------------------------------


class JobKind(StrEnum):
    """The two kinds of work of CE-NAS (NeurIPS 2024): cheap sampling and expensive evaluation."""

    SCORE = "score"
    TRAIN = "train"


class JobState(StrEnum):
    """Where a job stands; the steps between are in `states`."""

    QUEUED = "queued"
    RUNNING = "running"
    SUSPENDED = "suspended"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Job:
    """One unit of work: a batch of architectures to score, or one architecture to train.

    `attempt` counts launches and fences runners left over from earlier ones. `deadline` is when the job
    runs whatever the grid does. `progress` is the share done, 0 to 1. `epochs` is a training's fidelity: how many
    of its schedule's epochs are done when the job is; None for scoring. `continues` is the job that trained the
    same architecture up to a lower one, None at the lowest.
    """

    id: str
    kind: JobKind
    zone: str
    archs: tuple[str, ...]
    created_at: datetime
    state: JobState = JobState.QUEUED
    attempt: int = 0
    retries_left: int = 2
    deadline: datetime | None = None
    progress: float = 0.0
    epochs: int | None = None
    continues: str | None = None

    def overdue(self, now: datetime) -> bool:
        """Whether the job has waited as long as it may."""
        return self.deadline is not None and now >= self.deadline


@dataclass(frozen=True, slots=True)
class Transition:
    """One step of a job, kept for ever."""

    job_id: str
    source: JobState
    target: JobState
    at: datetime
    why: str


@dataclass(frozen=True, slots=True)
class Slot:
    """A place where one job can run: a GPU, or a share of the CPU. `gpu_uuid` is None on a CPU slot."""

    id: str
    node: str
    zone: str
    gpu_uuid: str | None = None
    name: str = "CPU"


@dataclass(frozen=True, slots=True)
class JobSpec:
    """All that a runner needs to know of a job; written as JSON into the job's directory.

    `device` is a torch device. `options` of the space, `task`, `score` and `train` are checked by the room
    that reads them. A training ends after `epochs` of those that `train` plans, or after all of them if that is
    None; it begins where the job in the directory `continues` ended, if that is given.
    """

    job_id: str
    kind: JobKind
    attempt: int
    archs: tuple[str, ...]
    space: str
    directory: Path
    seed: int
    device: str = "cpu"
    threads: int = 1
    space_options: Mapping[str, object] = field(default_factory=dict)
    task: Mapping[str, object] = field(default_factory=dict)
    score: Mapping[str, object] = field(default_factory=dict)
    train: Mapping[str, object] = field(default_factory=dict)
    epochs: int | None = None
    continues: Path | None = None


@dataclass(frozen=True, slots=True)
class Handle:
    """A running attempt, as the executor that made it can find it again after a restart (`data` is JSON)."""

    job_id: str
    attempt: int
    slot_id: str
    data: Mapping[str, object] = field(default_factory=dict)


class RunState(StrEnum):
    """What an executor sees of an attempt."""

    RUNNING = "running"
    DONE = "done"
    SUSPENDED = "suspended"
    FAILED = "failed"
    LOST = "lost"  # gone without a word: killed, crashed, or the machine was off


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What one job found out about one architecture.

    `values` are raw proxy scores, or of a training `accuracy` and `loss` on validation data, `parameters`
    and `flops` (multiply-accumulates of one image).
    """

    arch: str
    kind: JobKind
    values: Mapping[str, float]
    duration_seconds: float
    cpu_seconds: float


@dataclass(frozen=True, slots=True)
class RunStatus:
    """An attempt as it stands: `cpu_seconds` is what it used since its launch, and never falls."""

    state: RunState
    progress: float = 0.0
    cpu_seconds: float = 0.0
    evaluations: tuple[Evaluation, ...] = ()  # all so far, earlier attempts included
    reason: str = ""


# --- the search -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Candidate:
    """An architecture that a controller proposed. `arch` is the space's text form and identifies it."""

    arch: str
    origin: str
    proposed_at: datetime


@dataclass(frozen=True, slots=True)
class Observation:
    """What a controller learns of a trained architecture.

    `inference_cost` is in the base unit of the study's cost, see `search.cost`.
    `emissions_grams` is energy x the zone's reference intensity, not the grams of the hours it ran in: the
    weather is not a property of an architecture.
    """

    arch: str
    quality: float
    inference_cost: float
    energy_joules: float
    emissions_grams: float
    reward: float


@dataclass(frozen=True, slots=True)
class SearchProgress:
    """How far the search has come. `hypervolume` is of (quality, inference cost), see `search.pareto`.

    `trained` went to the end; `paused` were trained for some of the epochs, and have not come to the end.
    """

    scored: int = 0
    trained: int = 0
    best_arch: str | None = None
    best_quality: float | None = None
    hypervolume: float = 0.0
    paused: int = 0


# --- deciding ---------------------------------------------------------------------------------------


class Window(StrEnum):
    """What a policy takes the present hour for."""

    CLEAN = "clean"
    DIRTY = "dirty"


@dataclass(frozen=True, slots=True)
class Decision:
    """How many slots may train and how many may score until the next review, and why.

    Trainings are served first. `suspend` names trainings to stop even if their number is within `train_slots`.
    """

    train_slots: int
    score_slots: int
    window: Window
    reason: str
    suspend: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.reason.strip():
            raise ValueError("a decision must give its reason")
        if self.train_slots < 0 or self.score_slots < 0:
            raise ValueError(f"slots cannot be negative: {self.train_slots}, {self.score_slots}")


@dataclass(frozen=True, slots=True)
class Situation:
    """All that a policy may see. `previous` and `window_since` let a pure policy have hysteresis and dwell."""

    now: datetime
    grid: GridView
    slots: int
    training: tuple[Job, ...] = ()
    scoring: tuple[Job, ...] = ()
    waiting: tuple[Job, ...] = ()  # trainings queued or suspended, the most urgent first
    progress: SearchProgress = SearchProgress()
    energy_joules: float = 0.0
    emissions_grams: float = 0.0
    previous: Decision | None = None
    window_since: datetime | None = None
    seed: int = 0


# --- energy -----------------------------------------------------------------------------------------


class EnergyMethod(StrEnum):
    """Where joules come from, best first."""

    COUNTER = "counter"  # the device's own energy counter
    POWER = "power"  # power readings, integrated
    MODEL = "model"  # stated watts x busy time


@dataclass(frozen=True, slots=True)
class EnergyReading:
    """A device's cumulated energy since an arbitrary origin."""

    joules: float
    method: EnergyMethod


class Work(StrEnum):
    """What energy was used for."""

    SCORE = "score"
    TRAIN = "train"
    IDLE = "idle"  # a slot that was held without a job
    CONTROLLER = "controller"  # the daemon and the search controller


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """Energy of one job (or of none) on one device in one interval, at the intensity valid in it.

    Rows are only ever added. `revision` counts restatements of the same interval; the highest one counts.
    """

    work: Work
    job_id: str | None
    attempt: int
    slot_id: str | None
    device: str
    start: datetime
    end: datetime
    energy_joules: float
    energy_method: EnergyMethod
    grams_per_kwh: float
    quality: Quality
    signal: Signal
    basis: Basis
    provider: str
    zone: str
    revision: int = 0

    @property
    def emissions_grams(self) -> float:
        """Grams of CO2e of this row."""
        return emissions_grams(self.energy_joules, self.grams_per_kwh)


def utc(text: str) -> datetime:
    """Read an ISO 8601 time that carries its offset, as UTC.

    Raises:
        ValueError: the text is no time, or has no offset.
    """
    when = datetime.fromisoformat(text)
    if when.tzinfo is None:
        raise ValueError(f"{text!r} has no time zone; write it in UTC, as 2023-01-10T00:00Z")
    return when.astimezone(UTC)
