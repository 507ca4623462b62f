"""The tick: observe what runs, decide what should, apply the difference.

No I/O of its own: it asks the executor, the feed and the store, and never which ones they are. Time comes from
the clock it is given, so that replay and simulation are this very code with other parts plugged in.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path

import structlog

from carbon_nas.allocate import Action, Launch, Release, Suspend, allocate, by_urgency
from carbon_nas.clock import real_sleep
from carbon_nas.energy.ledger import Bookkeeper, Occupancy
from carbon_nas.energy.restatement import restate
from carbon_nas.errors import ExecutorError
from carbon_nas.grid.feed import Feed
from carbon_nas.interfaces import Clock, Executor, Policy
from carbon_nas.model import (
    Decision,
    Handle,
    Job,
    JobKind,
    JobSpec,
    JobState,
    RunState,
    RunStatus,
    SearchProgress,
    Situation,
    Slot,
    Transition,
)
from carbon_nas.states import transition
from carbon_nas.store.sql import SqlStore

STOP_POLL_SECONDS = 0.1
RESTATED = timedelta(days=7)
"""How far back a late intensity changes the ledger."""

ENDS: Mapping[RunState, JobState] = {
    RunState.DONE: JobState.DONE,
    RunState.SUSPENDED: JobState.SUSPENDED,
    RunState.FAILED: JobState.FAILED,
}


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """What goes into every job's specification."""

    seed: int
    jobs_directory: Path
    space: str
    space_options: Mapping[str, object] = field(default_factory=dict)
    task: Mapping[str, object] = field(default_factory=dict)
    score: Mapping[str, object] = field(default_factory=dict)
    train: Mapping[str, object] = field(default_factory=dict)


@dataclass(slots=True)
class Running:
    """An attempt that is under way. `asked` is why it was asked to suspend, if it was."""

    job: Job
    handle: Handle
    slot: Slot
    since: datetime
    status: RunStatus = field(default_factory=lambda: RunStatus(RunState.RUNNING))
    asked: str | None = None


class Engine:
    """Moves jobs through their states. `running`, `decision` and `steps` are for whoever shows them."""

    def __init__(
        self,
        settings: EngineSettings,
        *,
        clock: Clock,
        feed: Feed,
        policy: Policy,
        executor: Executor,
        store: SqlStore,
        bookkeeper: Bookkeeper,
        controller_cpu_seconds: Callable[[], float],
        progress: Callable[[], SearchProgress],
    ) -> None:
        self.policy = policy
        self.running: dict[str, Running] = {}
        self.decision: Decision | None = None
        self.window_since: datetime | None = None
        self.last_tick: datetime | None = None
        self.energy_joules = 0.0
        self.emissions_grams = 0.0
        self.steps: deque[Transition] = deque(maxlen=50)
        self._settings = settings
        self._clock = clock
        self._feed = feed
        self._executor = executor
        self._store = store
        self._bookkeeper = bookkeeper
        self._controller_cpu_seconds = controller_cpu_seconds
        self._progress = progress
        self._turn = asyncio.Lock()  # ticks, samples and the stop each see the others' work whole
        self._stopping = False
        self._log = structlog.get_logger(__name__)

    async def start(self) -> None:
        """Take up what an earlier daemon left: its decision, its totals, and the attempts it had running."""
        now = self._clock.now()
        self._bookkeeper.start(now)
        self._sum_up()
        for at, decision in self._store.decisions():
            if self.decision is None or decision.window is not self.decision.window:
                self.window_since = at
            self.decision = decision
        slots = {slot.id: slot for slot in self._executor.capacity()}
        left = [(job, handle) for job, handle in self._store.open_jobs() if job.state is JobState.RUNNING]
        since = self._store.last_steps([job.id for job, _ in left])
        await self._executor.reattach([handle for _, handle in left if handle is not None])
        for job, handle in left:
            if handle is None or handle.slot_id not in slots:
                self._move(job, JobState.QUEUED, now, "the daemon ended before its runner was known")
            else:
                self.running[job.id] = Running(job, handle, slots[handle.slot_id], since[job.id])

    async def sample(self) -> None:
        """Book what is under way, so that the ledger follows the grid's intervals and not the jobs' ends."""
        async with self._turn:
            await self._look()
            self._book()

    def restate(self) -> None:
        """Value anew what was booked before its intensity was observed, as far as it is by now."""
        view = self._feed.view(self._clock.now())
        provisional = self._store.provisional_entries(view.now - RESTATED)
        revisions = list(restate(provisional, view.history))
        if revisions:
            self._store.add_entries(revisions, {})
            self._sum_up()

    async def tick(self) -> None:
        """Observe, decide, apply."""
        async with self._turn:
            if self._stopping:
                return
            await self._observe()
            decision = self._decide()
            await self._apply(decision)
            self.last_tick = self._clock.now()

    async def stop(self, within_seconds: float) -> None:
        """Suspend everything and wait until all is saved; what does not end in time goes on by itself."""
        self._stopping = True
        async with self._turn:
            for run in self.running.values():
                await self._suspend(run, "the daemon stops")
            waited = 0.0
            while self.running and waited < within_seconds:
                await real_sleep(STOP_POLL_SECONDS)
                waited += STOP_POLL_SECONDS
                await self._observe()
            self._book()

    def _sum_up(self) -> None:
        totals = self._store.totals().values()
        self.energy_joules = sum(joules for joules, _ in totals)
        self.emissions_grams = sum(grams for _, grams in totals)

    async def _look(self) -> None:
        for run in self.running.values():
            run.status = await self._executor.poll(run.handle)
            run.job = replace(run.job, progress=max(run.job.progress, run.status.progress))

    async def _observe(self) -> None:
        """See how each attempt stands; book the energy of those that ended before they give up their slots."""
        await self._look()
        ended = [run for run in self.running.values() if run.status.state is not RunState.RUNNING]
        if ended:
            self._book()
        now = self._clock.now()
        for run in ended:
            del self.running[run.job.id]
            self._settle(run, now)

    def _book(self) -> None:
        now = self._clock.now()
        by_slot = {run.slot.id: run for run in self.running.values()}
        places = [
            Occupancy(slot)
            if (run := by_slot.get(slot.id)) is None
            else Occupancy(slot, run.job, run.since, run.status.cpu_seconds)
            for slot in self._executor.capacity()
        ]
        entries = self._bookkeeper.book(now, places, self._controller_cpu_seconds())
        self.energy_joules += sum(entry.energy_joules for entry in entries)
        self.emissions_grams += sum(entry.emissions_grams for entry in entries)

    def _settle(self, run: Running, now: datetime) -> None:
        """Move a job whose attempt is over."""
        status, job = run.status, run.job
        if status.state in ENDS:
            why = run.asked if status.state is RunState.SUSPENDED and run.asked else status.reason
            self._move(job, ENDS[status.state], now, why or status.state, status)
        elif run.asked is not None:
            # Told to leave before it could write a word: nothing is lost and no retry is spent.
            self._move(job, JobState.QUEUED, now, run.asked, status)
        else:
            self._requeue(job, now, status.reason, status)

    def _requeue(self, job: Job, now: datetime, why: str, status: RunStatus | None = None) -> None:
        if job.retries_left == 0:
            self._move(job, JobState.FAILED, now, f"{why}; no retry is left", status)
        else:
            job = replace(job, retries_left=job.retries_left - 1)
            self._move(job, JobState.QUEUED, now, f"{why}; {job.retries_left} retries left", status)

    def _decide(self) -> Decision:
        """Ask the policy; keep what it says when it says something new."""
        now = self._clock.now()
        jobs = [job for job, _ in self._store.open_jobs()]
        running = [run.job for run in self.running.values()]
        trainings = [job for job in jobs if job.kind is JobKind.TRAIN and job.id not in self.running]
        situation = Situation(
            now=now,
            grid=self._feed.view(now),
            slots=len(self._executor.capacity()),
            training=tuple(job for job in running if job.kind is JobKind.TRAIN),
            scoring=tuple(job for job in running if job.kind is JobKind.SCORE),
            waiting=tuple(by_urgency(trainings, now)),
            progress=self._progress(),
            energy_joules=self.energy_joules,
            emissions_grams=self.emissions_grams,
            previous=self.decision,
            window_since=self.window_since,
            seed=self._settings.seed,
        )
        decision, before = self.policy.decide(situation), self.decision
        if before is None or decision.window is not before.window:
            self.window_since = now
        if before is None or replace(decision, reason="-") != replace(before, reason="-"):
            self._store.add_decision(now, decision)
            self._log.info(
                "decided", window=decision.window, train=decision.train_slots, reason=decision.reason
            )
        self.decision = decision
        return decision

    async def _apply(self, decision: Decision) -> None:
        jobs = [job for job, _ in self._store.open_jobs()]
        jobs = [self.running[job.id].job if job.id in self.running else job for job in jobs]
        held = {run.job.id: run.slot.id for run in self.running.values()}
        actions = allocate(decision, jobs, self._executor.capacity(), held, self._clock.now())
        if any(isinstance(action, Launch) for action in actions):
            self._book()  # what the slots used so far is not the new jobs'
        for action in actions:
            await self._act(action)

    async def _act(self, action: Action) -> None:
        match action:
            case Launch(job, slot, why):
                await self._launch(job, slot, why)
            case Suspend(job, why):
                await self._suspend(self.running[job.id], why)
            case Release(slot):
                await self._executor.release(slot)

    async def _launch(self, job: Job, slot: Slot, why: str) -> None:
        """Keep the new attempt, then start it: a crash in between leaves a job to requeue, never two runners."""
        now = self._clock.now()
        job = self._move(replace(job, attempt=job.attempt + 1), JobState.RUNNING, now, why)
        try:
            handle = await self._executor.launch(self._specify(job), slot)
        except ExecutorError as error:
            self._requeue(job, now, str(error))
            return
        self._store.set_handle(handle)
        self.running[job.id] = Running(job, handle, slot, now)

    async def _suspend(self, run: Running, why: str) -> None:
        if run.asked is None:
            run.asked = why
            await self._executor.request_suspend(run.handle)

    def _move(self, job: Job, to: JobState, at: datetime, why: str, status: RunStatus | None = None) -> Job:
        job, step = transition(job, to, at, why)
        if to is JobState.DONE:
            job = replace(job, progress=1.0)
        self._store.move(job, step, found=() if status is None else status.evaluations)
        self.steps.append(step)
        log = self._log.warning if to is JobState.FAILED else self._log.info
        log("job", job=job.id, source=step.source, target=step.target, why=why)
        return job

    def _specify(self, job: Job) -> JobSpec:
        jobs = self._settings.jobs_directory
        return JobSpec(
            job_id=job.id,
            kind=job.kind,
            attempt=job.attempt,
            archs=job.archs,
            space=self._settings.space,
            directory=jobs / job.id,
            seed=self._settings.seed,
            space_options=self._settings.space_options,
            task=self._settings.task,
            score=self._settings.score,
            train=self._settings.train,
            epochs=job.epochs,
            continues=None if job.continues is None else jobs / job.continues,
        )
