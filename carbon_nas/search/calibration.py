"""Whether cheap scoring works in a search space, told from the trainings a search already has.

Everything here is about the *trained* architectures. They are no fair sample: the search picked them by these very
scores, and across the whole range of cost. So a correlation is that of the picked ones.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import atanh, sqrt, tanh

import numpy as np

from carbon_nas.search.cost import Cost
from carbon_nas.search.pareto import Point
from carbon_nas.search.predictor import MARGIN, MINIMUM_TRAININGS, Encode, advantage, predict
from carbon_nas.search.ranking import Pool, Vector, aggregate, ascending_ranks, column, unusable

AGGREGATE_NAME, LEARNED_NAME = "log-rank sum", "learned predictor"
REGRETS = (1, 5, 10)
TOP_SHARE = 0.1
LEAST_AT_TOP = 10
LEAST_FOR_RHO = 4

_TINY = 1e-9

USEFUL = 0.3
"""Were scores and qualities normal, training the best-ranked of many would gain rho of what knowing all would."""

Interval = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Signal:
    """How one way of ranking did on the trained. None is what cannot be told from so few.

    Attributes:
        name: of a proxy, or of a combination.
        rho: Spearman's rank correlation with trained quality.
        interval: of rho, 95 % (Bonett & Wright, 2000).
        rho_top: rho within the best 10 % by quality.
        rho_given_cost: partial rho: what is left when both are told by the cost of an inference.
        regret: by k, the quality lost by training only the k best-ranked instead of all, as a share of 1.
        unusable: scored architectures, trained or not, of which it says nothing.
    """

    name: str
    rho: float | None
    interval: Interval | None
    rho_top: float | None
    rho_given_cost: float | None
    regret: Mapping[int, float | None]
    unusable: int


@dataclass(frozen=True, slots=True)
class Calibration:
    """What the trainings tell.

    `cost` names the cost that the search weighs against quality, `followed` the signal that by its rule it follows;
    judged here over all that are scored, there over those that wait or are trained.
    """

    trained: int
    scored: int
    cost: str
    signals: tuple[Signal, ...]
    followed: str
    verdict: str


def calibrate(pool: Pool, results: Mapping[str, Point], encode: Encode | None, cost: Cost) -> Calibration:
    """Compare every proxy, their log-rank sum and the learned predictor with the qualities in `results`.

    `pool` are all scored architectures; `results` give (quality, cost) of the trained. Those never scored are
    left out. The learned one is judged on each training by what the others teach.

    Raises:
        ValueError: none of the scored is trained.
    """
    archs = sorted(pool.keys() & results.keys())
    if not archs:
        raise ValueError("none of the scored architectures is trained")
    quality, costs = np.array([results[arch] for arch in archs], dtype=np.float64).T
    qualities = dict(zip(archs, quality.tolist(), strict=True))
    summed = aggregate(pool)
    left_out = predict(pool, qualities, encode).left_out
    silent = unusable(pool)
    rankings = {
        **{proxy: column(pool, archs, proxy) for proxy in silent},
        AGGREGATE_NAME: np.array([summed[arch] for arch in archs]),
        LEARNED_NAME: np.array([left_out[arch] for arch in archs]),
    }
    signals = {
        name: _signal(name, ranking, quality, costs, silent.get(name, 0))
        for name, ranking in rankings.items()
    }
    ripe = len(archs) >= MINIMUM_TRAININGS and advantage(qualities, summed, left_out) > MARGIN
    followed = LEARNED_NAME if ripe else AGGREGATE_NAME
    return Calibration(
        trained=len(archs),
        scored=len(pool),
        cost=cost.name,
        signals=tuple(signals.values()),
        followed=followed,
        verdict=verdict(signals[followed], len(archs), cost),
    )


def verdict(signal: Signal, trained: int, cost: Cost) -> str:
    """Say in a sentence or two whether to trust `signal`, the ranking that the search follows."""
    if signal.rho is None or signal.interval is None:
        return f"{trained} trained are too few to tell anything yet."
    low, high = signal.interval
    found = f"the {signal.name} has rho {signal.rho:.2f} ({low:.2f} to {high:.2f}) with trained quality"
    if high < USEFUL:
        return f"Train at random: {found}, which is less than scoring is worth."
    if low < USEFUL:
        return f"{trained} trained are too few to tell: {found}, which spans useless and useful."
    left = signal.rho_given_cost
    if left is not None and interval(left, trained - 1)[0] <= 0:
        rest = f"only {left:.2f} is left at equal {cost.noun}: it may see nothing else"
        return f"Scoring works here: {found}. But {rest}."
    return f"Scoring works here: {found}."


def spearman(first: Vector, second: Vector) -> float | None:
    """Give the rank correlation; what is not finite ranks last. None for fewer than 4 pairs, or if one is constant."""
    ranks = ascending_ranks(first), ascending_ranks(second)
    if len(first) < LEAST_FOR_RHO or any(np.ptp(of) == 0 for of in ranks):
        return None
    return float(np.corrcoef(*ranks)[0, 1])


def interval(rho: float, n: int) -> Interval:
    """Give the 95 % interval of the Spearman rho of `n` pairs (Bonett & Wright, 2000, eq. 4).

    A perfect order, of which the formula is certain however few there are, is taken for one with a single swap.
    """
    nearly = 1 - 12 / (n * (n**2 - 1))
    centre = atanh(min(max(rho, -nearly), nearly))
    half = 1.959964 * sqrt((1 + min(abs(rho), nearly) ** 2 / 2) / (n - 3)) if n > 3 else float("inf")
    return (min(tanh(centre - half), rho), max(tanh(centre + half), rho))


def partial(rho: float, first: float, second: float) -> float | None:
    """Give the correlation of two at equal values of a third, from theirs with it; None if it tells one of them."""
    rest = (1 - first**2) * (1 - second**2)
    return (rho - first * second) / sqrt(rest) if rest > _TINY else None


def regret(ranking: Vector, quality: Vector, k: int) -> float | None:
    """Give how far the best of the `k` ranked best stays behind the best of all; None unless there are more."""
    if len(quality) <= k:
        return None
    best_ranked = np.argsort(-ascending_ranks(ranking), kind="stable")[:k]
    return float(quality.max() - quality[best_ranked].max())


def _signal(name: str, ranking: Vector, quality: Vector, costs: Vector, silent: int) -> Signal:
    rho, with_cost, of_cost = spearman(ranking, quality), spearman(ranking, costs), spearman(quality, costs)
    given = None
    if rho is not None and with_cost is not None and of_cost is not None:
        given = partial(rho, with_cost, of_cost)
    top = quality >= np.quantile(quality, 1 - TOP_SHARE)
    return Signal(
        name=name,
        rho=rho,
        interval=None if rho is None else interval(rho, len(quality)),
        rho_top=spearman(ranking[top], quality[top]) if top.sum() >= LEAST_AT_TOP else None,
        rho_given_cost=given,
        regret={k: regret(ranking, quality, k) for k in REGRETS},
        unusable=silent,
    )
