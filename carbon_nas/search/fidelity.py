"""Multi-fidelity training: some epochs for many architectures, all of them for the few that earn it.

Asynchronous successive halving (ASHA; Li et al., MLSys 2020, arXiv 1810.05934, algorithm 2): trainings pause at
rungs of `minimum_epochs`, `reduction_factor` times as many, and so on, and of those that came to a rung one in
`reduction_factor` goes on to the next as soon as it is among the best there, without waiting for the others. What
goes on is the same training, from its checkpoint: no epoch is made twice.

Two things differ. Which are best is not told by quality alone but by `promotion`, as for trainings that begin: the
cheap end of the front must not starve. And who cannot come onto the front any more is left where it is, though it
be the next in order (`hopeless`): its learning curve is judged by those that were followed to their ends.
"""

import math
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from itertools import pairwise

from carbon_nas.search.pareto import Point
from carbon_nas.search.promotion import promote

CHANCE = 0.1
"""The probability with which one that is given up would have improved by more than was hoped for, if all were of one
kind (a conformal bound; Vovk, Gammerman & Shafer, 2005). So at least nine full trainings are needed."""

_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class FidelitySettings:
    """Where trainings pause.

    Attributes:
        minimum_epochs: the first rung; None lets every training go through at once.
        reduction_factor: of how many at a rung one goes on, and how many times as many epochs the next has.
    """

    minimum_epochs: int | None = None
    reduction_factor: int = 3

    def __post_init__(self) -> None:
        if self.minimum_epochs is not None and self.minimum_epochs < 1:
            raise ValueError(f"minimum_epochs must be at least 1, got {self.minimum_epochs}")
        if self.reduction_factor < 2:
            raise ValueError(f"reduction_factor must be at least 2, got {self.reduction_factor}")

    def fidelities(self, epochs: int) -> tuple[int, ...]:
        """Give after how many epochs a training of `epochs` pauses, ascending; the last is its end."""
        pauses, rung = list[int](), self.minimum_epochs
        while rung is not None and rung < epochs:
            pauses.append(rung)
            rung *= self.reduction_factor
        return (*pauses, epochs)


@dataclass(frozen=True, slots=True)
class Stage:
    """A job that trains `arch` up to `epochs`: whether it is open, and (quality, cost) if it came there."""

    job_id: str
    arch: str
    epochs: int
    open: bool
    point: Point | None


@dataclass(frozen=True)
class Rung:
    """A fidelity below the full one, and who came to it.

    Attributes:
        epochs: how many of their epochs are done.
        next_epochs: the next fidelity.
        reached: (quality, inference cost) of all that came here.
        beyond: those of them that ever set out for the next, whatever became of it.
        coming: those in a training that leads here.
    """

    epochs: int
    next_epochs: int
    reached: Mapping[str, Point] = field(default_factory=dict)
    beyond: Set[str] = frozenset()
    coming: Set[str] = frozenset()

    @property
    def paused(self) -> list[str]:
        """Those that have not gone on, in the order of their names."""
        return sorted(self.reached.keys() - self.beyond)


def reached(stages: Sequence[Stage], epochs: int) -> dict[str, Point]:
    """Give the points of those that were trained up to `epochs`."""
    return {each.arch: each.point for each in stages if each.epochs == epochs and each.point is not None}


def rungs(stages: Sequence[Stage], fidelities: Sequence[int]) -> list[Rung]:
    """Give the rungs, all fidelities but the last, and who came to them."""
    return [
        Rung(
            epochs,
            following,
            reached(stages, epochs),
            beyond=frozenset(each.arch for each in stages if each.epochs > epochs),
            coming=frozenset(each.arch for each in stages if each.epochs == epochs and each.open),
        )
        for epochs, following in pairwise(fidelities)
    ]


def going_on(
    rungs: Sequence[Rung], final: Mapping[str, Point], factor: int, *, more_begin: bool
) -> list[tuple[str, int]]:
    """Give (architecture, epochs) of the trainings to continue, those that are furthest first.

    `rungs` are in ascending order, `final` the points of the full trainings; `more_begin` says whether any training
    may still begin. Where none will come any more a rung lets at least one go on, so that a search whose last
    trainings are few ends with a full one.
    """
    found: list[list[tuple[str, int]]] = []
    more = more_begin
    for rung in rungs:
        more = more or bool(rung.coming)
        share = len(rung.reached) // factor
        allowed = share if more else max(share, 1)
        archs = _best(rung, final, allowed - len(rung.beyond))
        more = more or bool(archs)
        found.append([(arch, rung.next_epochs) for arch in archs])
    return [each for group in reversed(found) for each in group]


def hopeless(reached: Mapping[str, Point], final: Mapping[str, Point]) -> frozenset[str]:
    """Give those at a rung that would not come onto the front of the `final` even by a curve as steep as few are.

    A curve is the share of the error at the rung that a full training had left at its end; `CHANCE` of all are steeper
    than the one hoped for. Those that were let go on are the rung's best and have less left to gain than the others,
    so that a bad one may be judged too hard; it is also the last that would be let go on.
    """
    kept = [
        (1 - final[arch][0]) / (1 - reached[arch][0])
        for arch in reached.keys() & final.keys()
        if reached[arch][0] < 1
    ]
    steeper = math.floor((len(kept) + 1) * CHANCE + _ROUNDING)
    if steeper == 0:
        return frozenset()
    hoped_share = min(1.0, sorted(kept)[steeper - 1])

    def beaten(arch: str) -> bool:
        quality, cost = reached[arch]
        hoped = 1 - (1 - quality) * hoped_share
        return any(its >= hoped and price <= cost for its, price in final.values())

    return frozenset(arch for arch in reached.keys() - final.keys() if beaten(arch))


def _best(rung: Rung, final: Mapping[str, Point], count: int) -> list[str]:
    """Give up to `count` that go on from a rung."""
    if count <= 0:
        return []
    lost = hopeless(rung.reached, final)
    waiting = [arch for arch in rung.paused if arch not in lost]
    quality = {arch: point[0] for arch, point in rung.reached.items()}
    cost = {arch: point[1] for arch, point in rung.reached.items()}
    return promote(count, waiting, rung.beyond, quality, cost)
