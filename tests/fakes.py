"""Fakes behind the seams: an executor whose jobs last as long as a table says, a feed on a trace, an NVML."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from carbon_nas.clock import SimulatedClock, real_sleep
from carbon_nas.errors import ExecutorError
from carbon_nas.grid.feed import Feed, FeedSettings
from carbon_nas.model import (
    Basis,
    Candidate,
    Evaluation,
    Handle,
    Job,
    JobKind,
    JobSpec,
    Quality,
    Reading,
    RunState,
    RunStatus,
    Signal,
    Slot,
)
from carbon_nas.store.sql import SqlStore
from carbon_nas_providers.csv import CsvOptions, CsvProvider

NEVER = timedelta(days=10_000)


# --- jobs and readings ------------------------------------------------------------------------------


def make_job(name: str, kind: JobKind = JobKind.TRAIN, **changes: Any) -> Job:
    """A queued job of its own architectures, `a-<name>` and so on."""
    archs = (f"a-{name}",) if kind is JobKind.TRAIN else (f"a-{name}", f"b-{name}")
    values = {"zone": "GB", "archs": archs, "created_at": datetime(2023, 1, 1, tzinfo=UTC)} | changes
    return Job(name, kind, **values)


def add_job(store: SqlStore, job: Job) -> Job:
    """Keep a job and, as the store wants it, its candidates first."""
    store.add_candidates([Candidate(arch, "test", job.created_at) for arch in job.archs])
    store.add_job(job)
    return job


def make_reading(
    start: datetime, grams_per_kwh: float = 100.0, *, step: timedelta = timedelta(minutes=30), **changes: Any
) -> Reading:
    """A measured reading of GB."""
    values = {"zone": "GB", "quality": Quality.ACTUAL, "provider": "csv", "fetched_at": start} | changes
    return Reading(
        start=start,
        end=start + step,
        grams_per_kwh=grams_per_kwh,
        signal=Signal.AVERAGE,
        basis=Basis.DIRECT,
        **values,
    )


async def start_feed(clock: SimulatedClock, *, history: Iterable[Reading] = (), **settings: float) -> Feed:
    """The real feed on the real provider of the shipped GB trace."""
    provider = CsvProvider(CsvOptions(trace="gb-2023-30min"), clock=clock)
    feed = Feed(clock, "GB", {"csv": provider}, FeedSettings(**settings))
    feed.preload(history)
    await feed.start()
    return feed


# --- the executor -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fate:
    """What becomes of an attempt: `end` comes after so long, unless the job is done before."""

    after: timedelta = NEVER
    end: RunState = RunState.LOST
    refused: bool = False  # cannot even be launched
    suspends_in: timedelta = timedelta(0)  # from the request to its exit


@dataclass
class Attempt:
    """One attempt as its machine knows it: `base` is the work done before it, all times are the clock's."""

    spec: JobSpec
    slot: Slot
    fate: Fate
    base: timedelta
    started: datetime
    leaves: datetime | None = None
    ended: datetime | None = None
    end: RunState | None = None
    why: str = ""

    @property
    def key(self) -> tuple[str, int]:
        return self.spec.job_id, self.spec.attempt


@dataclass
class FakeExecutor:
    """Behind `interfaces.Executor`; every job needs `lasts` of the simulated time in all its attempts together.

    Suspension keeps the work done; of a lost attempt nothing is kept. Uses exactly one core while it runs.
    It outlives the engine, as runners outlive a daemon; `restart` forgets what a daemon knows of them.
    """

    Options = object

    clock: SimulatedClock
    slots: int = 2
    lasts: Callable[[JobSpec], timedelta] = lambda spec: timedelta(hours=3)
    fates: Mapping[tuple[str, int], Fate] = field(default_factory=dict)
    gpu: bool = False
    attempts: dict[tuple[str, int], Attempt] = field(default_factory=dict)
    held: dict[str, tuple[str, int]] = field(default_factory=dict)
    saved: dict[str, timedelta] = field(default_factory=dict)
    released: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    reattached: list[Handle] = field(default_factory=list)
    dies_at: tuple[str, str] | None = None  # ("before" | "after", job): the daemon dies around that launch

    def capacity(self) -> Sequence[Slot]:
        return [
            Slot(f"s{n}", "here", "GB", gpu_uuid=f"GPU-{n}" if self.gpu else None) for n in range(self.slots)
        ]

    async def launch(self, spec: JobSpec, slot: Slot) -> Handle:
        await real_sleep(0)
        if self.dies_at == ("before", spec.job_id):
            raise DaemonDied
        self._advance()
        key = spec.job_id, spec.attempt
        if key not in self.attempts:
            self._start(spec, slot)
        if self.dies_at == ("after", spec.job_id):
            raise DaemonDied
        return Handle(*key, slot.id, {"key": list(key)})

    async def request_suspend(self, handle: Handle) -> None:
        await real_sleep(0)
        self._advance()
        self.asked.append(handle.job_id)
        attempt = self._of(handle)
        if attempt.end is None and attempt.leaves is None:
            attempt.leaves = self.clock.now() + attempt.fate.suspends_in

    async def kill(self, handle: Handle) -> None:
        self._advance()
        attempt = self._of(handle)
        if attempt.end is None:
            self._end(attempt, self.clock.now(), RunState.LOST, "killed")

    async def poll(self, handle: Handle) -> RunStatus:
        await real_sleep(0)  # a real executor may ask another machine here
        self._advance()
        attempt = self._of(handle)
        if attempt.end is not None and self.held.get(handle.slot_id) == attempt.key:
            del self.held[handle.slot_id]
        progress = min(self._work(attempt, self.clock.now()) / self.lasts(attempt.spec), 1.0)
        used = (attempt.ended or self.clock.now()) - attempt.started
        state = attempt.end or RunState.RUNNING
        found = evaluations(attempt.spec) if state is RunState.DONE else ()
        return RunStatus(state, progress, used.total_seconds(), found, attempt.why)

    async def release(self, slot: Slot) -> None:
        assert slot.id not in self.held, "a slot that is in use was released"
        self.released.append(slot.id)

    async def reattach(self, handles: Sequence[Handle]) -> None:
        self.reattached += handles
        self.held = {handle.slot_id: self._of(handle).key for handle in handles}

    async def close(self) -> None:
        """Runners go on."""

    def restart(self) -> None:
        """Forget what only a daemon's memory holds."""
        self.held = {}
        self.dies_at = None

    def cpu_seconds_of(self, job_id: str) -> float:
        """What all attempts of a job used."""
        mine = [attempt for attempt in self.attempts.values() if attempt.spec.job_id == job_id]
        return sum(((a.ended or self.clock.now()) - a.started).total_seconds() for a in mine)

    def _start(self, spec: JobSpec, slot: Slot) -> None:
        fate = self.fates.get((spec.job_id, spec.attempt), Fate())
        if fate.refused:
            raise ExecutorError(f"slot {slot.id} refuses {spec.job_id}")
        if slot.id in self.held:
            raise ExecutorError(f"slot {slot.id} still runs {self.held[slot.id]}")
        now = self.clock.now()
        for other in self.attempts.values():
            if other.spec.job_id == spec.job_id and other.end is None:
                self._end(other, now, RunState.LOST, "fenced")
        base = self.saved.get(spec.job_id, timedelta(0))
        self.attempts[spec.job_id, spec.attempt] = Attempt(spec, slot, fate, base, now)
        self.held[slot.id] = spec.job_id, spec.attempt

    def _advance(self) -> None:
        """Let what should have happened by now have happened, at its own time."""
        now = self.clock.now()
        for attempt in self.attempts.values():
            if attempt.end is not None:
                continue
            done = attempt.started + self.lasts(attempt.spec) - attempt.base
            due = [(done, 0, RunState.DONE, "done")]
            due.append(
                (attempt.started + attempt.fate.after, 1, attempt.fate.end, f"fate: {attempt.fate.end}")
            )
            if attempt.leaves is not None:
                due.append((attempt.leaves, 2, RunState.SUSPENDED, "asked to stop"))
            at, _, state, why = min(due)
            if at <= now:
                self._end(attempt, at, state, why)

    def _end(self, attempt: Attempt, at: datetime, state: RunState, why: str) -> None:
        attempt.ended, attempt.end, attempt.why = at, state, why
        if state is RunState.SUSPENDED:
            self.saved[attempt.spec.job_id] = self._work(attempt, at)

    def _work(self, attempt: Attempt, now: datetime) -> timedelta:
        return attempt.base + ((attempt.ended or now) - attempt.started)

    def _of(self, handle: Handle) -> Attempt:
        return self.attempts[handle.job_id, handle.attempt]


class DaemonDied(BaseException):
    """The daemon is gone in the middle of what it did, as by SIGKILL."""


def evaluations(spec: JobSpec) -> tuple[Evaluation, ...]:
    """What the fake finds out: numbers that depend on the architecture's name alone."""
    return tuple(_evaluation(arch, spec.kind) for arch in spec.archs)


def _evaluation(arch: str, kind: JobKind) -> Evaluation:
    known = 1.0 + sum(map(ord, arch)) % 97
    values = {"flops": known * 1e5, "params": known * 1e2, "synflow": known, "inference_flops": known * 1e5}
    if kind is JobKind.TRAIN:
        values = {"accuracy": known / 100, "loss": 1 / known, "parameters": known, "flops": known * 1e5}
    return Evaluation(arch, kind, values, 1.0, 1.0)


# --- NVML -------------------------------------------------------------------------------------------


class FakeNvmlError(Exception):
    """As pynvml.NVMLError: carries NVML's code."""

    def __init__(self, value: int) -> None:
        self.value = value
        super().__init__(f"NVML {value}")


@dataclass
class FakeNvml:
    """The functions of pynvml that are used, answered from fields; an exception there is raised."""

    NVMLError = FakeNvmlError
    NVML_ERROR_NOT_SUPPORTED = 3
    NVML_ERROR_GPU_IS_LOST = 15

    millijoules: float | Exception = 0.0
    milliwatts: float | Exception = 100_000.0
    limit_milliwatts: float | Exception = 300_000.0
    gone: bool = False

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:  # noqa: N802 -- NVML's name
        if self.gone:
            raise FakeNvmlError(self.NVML_ERROR_GPU_IS_LOST)
        return uuid

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: str) -> float:  # noqa: N802
        return _answer(self.millijoules)

    def nvmlDeviceGetPowerUsage(self, handle: str) -> float:  # noqa: N802
        return _answer(self.milliwatts)

    def nvmlDeviceGetEnforcedPowerLimit(self, handle: str) -> float:  # noqa: N802
        return _answer(self.limit_milliwatts)


def _answer(value: float | Exception) -> float:
    if isinstance(value, Exception):
        raise value
    return value
