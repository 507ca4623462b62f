"""What to do next with the candidates: pure decisions over what the store holds.

The flow is CE-NAS's (Zhao et al., NeurIPS 2024): proposals are scored cheaply and wait in a bounded pool, from
which trainings take what `promotion` thinks adds most to the front. Unlike there, candidates are asked for only
as scoring needs them, so that the controller has learned as much as it can when it proposes. Where trainings
pause at lower fidelities, those that earn it go on before others begin; see `fidelity`.
"""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import cached_property

from carbon_nas.model import SearchProgress
from carbon_nas.search.fidelity import Rung, going_on
from carbon_nas.search.pareto import Point, hypervolume
from carbon_nas.search.predictor import Encode, expected
from carbon_nas.search.promotion import promote


@dataclass(frozen=True, slots=True)
class StudySettings:
    """How far to search and how many candidates to keep ready.

    Attributes:
        max_scored: propose and score no more than this many; None for no limit.
        max_trained: begin to train no more than this many; None for no limit.
        queue_capacity: candidates that may wait for training, scored or not (CE-NAS's Cap(R)).
        score_batch: architectures of one score job.
        minimum_pool: train none before so many wait scored; the best of few is chance.
        train_queue: trainings kept ready beyond the slots.
        patience: asks in a row that may bring nothing new before the controller counts as exhausted.
    """

    max_scored: int | None = None
    max_trained: int | None = None
    queue_capacity: int = 300
    score_batch: int = 16
    minimum_pool: int = 32
    train_queue: int = 2
    patience: int = 50

    def __post_init__(self) -> None:
        for name in (
            "max_scored",
            "max_trained",
            "queue_capacity",
            "score_batch",
            "minimum_pool",
            "patience",
        ):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if self.train_queue < 0:
            raise ValueError(f"train_queue must not be below zero, got {self.train_queue}")
        if self.minimum_pool > self.queue_capacity:
            raise ValueError(
                f"minimum_pool ({self.minimum_pool}) must not exceed queue_capacity ({self.queue_capacity}), "
                "or no training would ever start"
            )


HOPELESS = 32
"""How many architectures may turn out not to be scorable, and none scorable, before the search gives up."""


@dataclass(frozen=True)
class Study:
    """The candidates as they stand, and what follows from it.

    Attributes:
        settings: the limits.
        candidates: every architecture ever proposed, oldest first, each once.
        scores: raw proxy values of those that are scored.
        scoring: those in a score job that is not over.
        unscorable: those whose score job failed for good.
        promoted: those that ever got a training, whatever became of it.
        training: those among them whose training is not over.
        costs: of one inference, of those that are scored or trained; in the base unit of the study's cost.
        results: (quality, cost) of those that are trained to the end.
        rungs: where trainings pause before that, in ascending order.
        epochs: how many a training to the end has; None leaves it to the job.
        reduction_factor: of how many at a rung one goes on.
        futile_asks: how often in a row the controller proposed nothing new.
        encode: gives the choices that make an architecture, to learn from; None to learn from scores alone.
    """

    settings: StudySettings
    candidates: Sequence[str] = ()
    scores: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    scoring: Set[str] = frozenset()
    unscorable: Set[str] = frozenset()
    promoted: Set[str] = frozenset()
    training: Set[str] = frozenset()
    costs: Mapping[str, float] = field(default_factory=dict)
    results: Mapping[str, Point] = field(default_factory=dict)
    rungs: Sequence[Rung] = ()
    epochs: int | None = None
    reduction_factor: int = 3
    futile_asks: int = 0
    encode: Encode | None = None

    def ask(self, slots: int) -> int:
        """Say how many candidates to ask of the controller now: a batch for each slot, and one ahead."""
        if not self.proposing:
            return 0
        waiting = len(self._waiting)
        wanted = self.settings.score_batch * (slots + 1) - len(self._unscored)
        limits = [wanted, self.settings.queue_capacity - waiting]
        if self.settings.max_scored is not None:
            limits.append(self.settings.max_scored - len(self.candidates))
        return max(0, min(limits))

    def score_jobs(self) -> list[tuple[str, ...]]:
        """Give the next score jobs, oldest candidates first; a short one only when it will not fill up."""
        if self._trained_enough:
            return []
        size, ready = self.settings.score_batch, [arch for arch in self._unscored if arch not in self.scoring]
        jobs = [tuple(ready[i : i + size]) for i in range(0, len(ready), size)]
        if jobs and len(jobs[-1]) < size and self.proposing and self._has_room:
            jobs.pop()
        return jobs

    def promotions(self, slots: int) -> list[tuple[str, int | None]]:
        """Give (architecture, epochs) of the next trainings, so that `slots` + `train_queue` are open.

        Those that go on come before those that begin, each most wanted first. All is computed anew, and only if
        there is room for a training.
        """
        room = max(0, slots + self.settings.train_queue - len(self.training))
        further = self._going_on[:room]
        first = self.rungs[0].epochs if self.rungs else self.epochs
        return [*further, *((arch, first) for arch in self._beginnings(room - len(further)))]

    def _beginnings(self, room: int) -> list[str]:
        """Give up to `room` of those that wait scored."""
        if self.settings.max_trained is not None:
            room = min(room, self.settings.max_trained - self._started)
        waiting = [arch for arch in self._waiting if arch in self.scores]
        ripe = len(waiting) >= self.settings.minimum_pool or self.scoring_finished
        if room <= 0 or not waiting or not ripe:
            return []
        known = (self.training | self._judged.keys()) & self.scores.keys()
        pool = {arch: self.scores[arch] for arch in [*waiting, *sorted(known)]}
        quality = expected(pool, {arch: found for arch, (found, _) in self._judged.items()}, self.encode)
        return promote(room, waiting, known, quality, self.costs)

    @property
    def proposing(self) -> bool:
        """Whether the study may ever need another candidate, as things stand."""
        limit = self.settings.max_scored
        spent = limit is not None and len(self.candidates) >= limit
        return not (spent or self.exhausted or self.hopeless or self._trained_enough)

    @property
    def exhausted(self) -> bool:
        """Whether the controller has nothing new any more."""
        return self.futile_asks >= self.settings.patience

    @property
    def hopeless(self) -> bool:
        """Whether many cannot be scored and none can: then space, data or machine are at fault."""
        return not self.scores and len(self.unscorable) >= HOPELESS

    @property
    def scoring_finished(self) -> bool:
        """Whether every candidate there will be is scored."""
        return not self.proposing and not self._unscored

    @property
    def is_finished(self) -> bool:
        """Whether nothing is left to do: all trainings are over and no other may follow."""
        return not (self.training or self._more_begin or self._going_on)

    def progress(self, *, reference_cost: float) -> SearchProgress:
        """Say how far the search has come; equal qualities are told apart by cost, then by name."""
        best = min(
            self.results, key=lambda arch: (-self.results[arch][0], self.results[arch][1], arch), default=None
        )
        return SearchProgress(
            scored=len(self.scores),
            trained=len(self.results),
            paused=len(self._judged.keys() - self.results.keys()),
            best_arch=best,
            best_quality=None if best is None else self.results[best][0],
            hypervolume=hypervolume(list(self.results.values()), reference_cost=reference_cost),
        )

    @cached_property
    def _waiting(self) -> list[str]:
        """Give those on the way to a training: not promoted, not given up."""
        return [arch for arch in self.candidates if arch not in self.promoted and arch not in self.unscorable]

    @cached_property
    def _unscored(self) -> list[str]:
        return [arch for arch in self._waiting if arch not in self.scores]

    @property
    def _judged(self) -> Mapping[str, Point]:
        """Give all that were trained, as they stood at the one fidelity to which all come."""
        return self.rungs[0].reached if self.rungs else self.results

    @cached_property
    def _going_on(self) -> list[tuple[str, int]]:
        return going_on(self.rungs, self.results, self.reduction_factor, more_begin=self._more_begin)

    @property
    def _more_begin(self) -> bool:
        """Whether another training may begin, as things stand."""
        left = any(arch in self.scores for arch in self._waiting)
        return not self._trained_enough and (left or not self.scoring_finished)

    @property
    def _has_room(self) -> bool:
        return len(self._waiting) < self.settings.queue_capacity

    @property
    def _started(self) -> int:
        """Count architectures in training or with a result; one that failed makes room for another."""
        return len(self.training | self._judged.keys())

    @property
    def _trained_enough(self) -> bool:
        limit = self.settings.max_trained
        return limit is not None and self._started >= limit
