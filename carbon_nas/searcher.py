"""Keeps the queue filled: teaches the controller what came out, asks it for candidates, makes the next jobs.

What to do is decided by `search.study`; this is its shell, between the store and the controller.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

import structlog

from carbon_nas.errors import SearchError
from carbon_nas.interfaces import Clock
from carbon_nas.model import (
    Candidate,
    Evaluation,
    Job,
    JobKind,
    JobState,
    Observation,
    SearchProgress,
    emissions_grams,
)
from carbon_nas.search import cost
from carbon_nas.search.cost import Cost
from carbon_nas.search.fidelity import FidelitySettings, Stage, reached, rungs
from carbon_nas.search.hosts import AsyncController
from carbon_nas.search.predictor import Encode
from carbon_nas.search.reward import RewardSettings, observation
from carbon_nas.search.study import Study, StudySettings
from carbon_nas.states import transition
from carbon_nas.store.sql import OPEN_STATES, SqlStore


@dataclass(frozen=True, slots=True)
class RewardOptions:
    """The `[reward]` section: the exponents of `search.reward`, and what costs are measured against.

    A reference that is not given is taken from the first results and kept: the largest cost of an inference
    among the first scored candidates, and the emissions of the first training.
    """

    quality_exponent: float = 1.0
    inference_weight: float = 0.07
    emissions_weight: float = 0.07
    reference_cost: float | None = None
    reference_grams: float | None = None

    def __post_init__(self) -> None:
        given = (self.reference_cost, self.reference_grams)
        self.settings(*(1.0 if one is None else one for one in given))  # refuses the impossible

    def settings(self, reference_cost: float, reference_grams: float) -> RewardSettings:
        """Complete the references."""
        return RewardSettings(
            reference_cost,
            reference_grams,
            self.quality_exponent,
            self.inference_weight,
            self.emissions_weight,
        )


@dataclass(frozen=True, slots=True)
class SearcherSettings:
    """What to search and what new jobs look like. `max_delay` is how long a training may wait for clean hours."""

    zone: str
    controller: str
    study: StudySettings
    reward: RewardOptions
    cost: Cost
    fidelity: FidelitySettings
    epochs: int
    max_delay: timedelta
    retries: int


class Searcher:
    """The search, one `step` at a time; `study` is how it stands."""

    def __init__(
        self,
        settings: SearcherSettings,
        *,
        clock: Clock,
        store: SqlStore,
        controller: AsyncController,
        reference_grams_per_kwh: Callable[[], float],
        encode: Encode | None = None,
    ) -> None:
        self.settings = settings
        self._encode = encode
        self.study = Study(settings.study)
        self._clock = clock
        self._store = store
        self._controller = controller
        self._reference_grams_per_kwh = reference_grams_per_kwh
        self._futile_asks = 0
        self._seen: object = None
        self._said_hopeless = False
        self._reached: dict[str, str] = {}  # of each architecture the job that took it furthest
        self._log = structlog.get_logger(__name__)

    def start(self) -> None:
        """Read how the study stands."""
        self._refresh()

    def cpu_seconds(self) -> float:
        """Give the CPU time that the controller used outside this process."""
        return self._controller.cpu_seconds()

    async def step(self, slots: int) -> None:
        """Teach, ask, and make jobs, as far as the study wants it now. A failing controller is tried again."""
        self._refresh()
        try:
            await self._teach()
            await self._ask(slots)
        except SearchError as error:
            self._log.warning("the controller failed; it is asked again at the next step", error=str(error))
        for archs in self.study.score_jobs():
            self._add(JobKind.SCORE, archs)
        for arch, epochs in self.study.promotions(slots):
            self._add(JobKind.TRAIN, (arch,), epochs, self._reached.get(arch))
        self._refresh()
        if self.study.is_finished:
            self._cancel_waiting()
            self._say_if_hopeless()

    def _say_if_hopeless(self) -> None:
        if self.study.hopeless and not self._said_hopeless:
            self._said_hopeless = True
            self._log.error(
                "the search gives up: no architecture can be scored; see why the score jobs failed, mend space, data"
                " or machine, and begin with another state directory",
                tried=len(self.study.unscorable),
            )

    def progress(self) -> SearchProgress:
        """Say how far the search has come."""
        reference = self._reference_cost()
        if reference is None:
            return SearchProgress(scored=len(self.study.scores), trained=len(self.study.results))
        return self.study.progress(reference_cost=reference)

    async def _teach(self) -> None:
        news = self._store.unobserved()
        if not news:
            return
        energy = self._store.energy_by_job()
        observations = [self._observe(found, energy.get(job_id, (0.0, 0.0))[0]) for job_id, found in news]
        await self._controller.observe(observations)
        state = await self._controller.state_dict()
        self._store.save_controller(self.settings.controller, state, [job_id for job_id, _ in news])
        for seen in observations:
            self._log.info(
                "learnt", arch=seen.arch, quality=round(seen.quality, 4), reward=round(seen.reward, 4)
            )

    def _observe(self, found: Evaluation, energy_joules: float) -> Observation:
        intensity = self._reference_grams_per_kwh()
        grams = self._reference(
            "reference_grams", self.settings.reward.reference_grams, emissions_grams(energy_joules, intensity)
        )
        return observation(
            found,
            inference_cost=self.study.costs[found.arch],
            energy_joules=energy_joules,
            reference_grams_per_kwh=intensity,
            settings=self.settings.reward.settings(self._reference_cost() or 1.0, grams or 1.0),
        )

    async def _ask(self, slots: int) -> None:
        wanted = self.study.ask(slots)
        if wanted == 0:
            return
        now, origin = self._clock.now(), self.settings.controller
        archs = await self._controller.propose(wanted)
        new = self._store.add_candidates([Candidate(arch, origin, now) for arch in archs])
        self._futile_asks = 0 if new else self._futile_asks + 1
        self._refresh()

    def _add(
        self, kind: JobKind, archs: tuple[str, ...], epochs: int | None = None, continues: str | None = None
    ) -> None:
        now = self._clock.now()
        training = kind is JobKind.TRAIN
        job = Job(
            id=f"{kind}-{self._store.count_all_jobs() + 1:06d}",
            kind=kind,
            zone=self.settings.zone,
            archs=archs,
            created_at=now,
            retries_left=self.settings.retries,
            deadline=now + self.settings.max_delay if training else None,
            epochs=epochs,
            continues=continues,
        )
        self._store.add_job(job)

    def _cancel_waiting(self) -> None:
        """Drop what nobody needs any more: the search is over, and scoring on would be energy for nothing."""
        for job, _ in self._store.open_jobs():
            if job.state is not JobState.RUNNING:
                cancelled = transition(job, JobState.CANCELLED, self._clock.now(), "the search is over")
                self._store.move(*cancelled)

    def _refresh(self) -> None:
        """Read the study from the store, if anything in it or its limits have changed."""
        version = (self._store.version, self._futile_asks, self.settings.study)
        if version == self._seen:
            return
        jobs = self._store.jobs()
        evaluations = self._store.evaluations()
        found = [one for _, one in evaluations]
        scores = {one.arch: cost.proxies(one.values) for one in found if one.kind is JobKind.SCORE}
        costs = cost.known(found, self.settings.cost)
        of = _archs(jobs)
        points = {
            job_id: (one.values["accuracy"], costs[one.arch])
            for job_id, one in evaluations
            if one.kind is JobKind.TRAIN
        }
        fidelity, end = self.settings.fidelity, self.settings.epochs
        stages = [
            Stage(job.id, job.archs[0], job.epochs or end, job.state in OPEN_STATES, points.get(job.id))
            for job in jobs
            if job.kind is JobKind.TRAIN
        ]
        self._reached = {stage.arch: stage.job_id for stage in stages if stage.point is not None}
        self.study = Study(
            self.settings.study,
            candidates=[candidate.arch for candidate in self._store.candidates()],
            scores=scores,
            scoring=of(JobKind.SCORE, OPEN_STATES),
            unscorable=of(JobKind.SCORE, (JobState.FAILED,)) - scores.keys(),
            promoted=of(JobKind.TRAIN, tuple(JobState)),
            training=of(JobKind.TRAIN, OPEN_STATES),
            costs=costs,
            results=reached(stages, end),
            rungs=rungs(stages, fidelity.fidelities(end)),
            epochs=end,
            reduction_factor=fidelity.reduction_factor,
            futile_asks=self._futile_asks,
            encode=self._encode,
        )
        self._seen = version

    def _reference_cost(self) -> float | None:
        first = max(self.study.costs.values(), default=None)
        return self._reference("reference_cost", self.settings.reward.reference_cost, first)

    def _reference(self, name: str, configured: float | None, first: float | None) -> float | None:
        """Give a reference: the configured one, else the first that was known, which is kept for good."""
        if configured is not None:
            return configured
        kept = self._store.get_meta(name)
        if kept is None and first:
            self._store.set_meta(name, repr(first))
            return first
        return None if kept is None else float(kept)


def _archs(jobs: Sequence[Job]) -> Callable[[JobKind, Sequence[JobState]], frozenset[str]]:
    def of(kind: JobKind, states: Sequence[JobState]) -> frozenset[str]:
        return frozenset(
            arch for job in jobs if job.kind is kind and job.state in states for arch in job.archs
        )

    return of
