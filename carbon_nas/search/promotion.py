"""Which scored architectures to train next, so that the front between quality and cost grows at both ends.

By quality alone only large networks would ever be trained: proxies grow with size. So candidates are taken as
SMS-EMOA takes them (Beume, Naujoks & Emmerich, 2007), by the hypervolume they add; here to that of the
architectures that are trained or in training, and in ranks, as neither a proxy's scale nor its distribution means
anything. All are placed by what was expected of them, the trained too: a lucky training must not rule out its
like. When the known front leaves nothing to add, it is set aside and the next one is the measure.

Every fourth is the one expected best, whatever it costs: a little more quality at the dear end adds next to no
area, and yet it is what many search for. `bench/ranking` has what this rule and others reach.
"""

from collections.abc import Mapping, Sequence, Set

import moocore
import numpy as np
from numpy.typing import NDArray

from carbon_nas.search.ranking import Vector, ascending_ranks

BEST_EVERY = 4


def promote(
    count: int,
    waiting: Sequence[str],
    known: Set[str],
    quality: Mapping[str, float],
    cost: Mapping[str, float],
) -> list[str]:
    """Give up to `count` of the `waiting`, the most wanted first.

    `known` are those trained or in training; `quality` has all of both, larger is better. `cost` is that of an
    inference; only its order matters, and who is without one counts as dearest. If nobody has any, quality alone
    decides. Equals come in the order of their names.
    """
    archs = [*sorted(waiting), *sorted(known)]
    places = np.column_stack(
        [
            ascending_ranks(np.array([quality[arch] for arch in archs])),
            len(archs) - ascending_ranks(-np.array([cost.get(arch, np.nan) for arch in archs])) + 0.5,
        ]
    )
    if not any(np.isfinite(cost.get(arch, np.nan)) for arch in archs):
        places[:, 1] = 0.5
    places /= len(archs)
    left, beaten = list(range(len(waiting))), list(range(len(waiting), len(archs)))
    chosen: list[str] = []
    while left and len(chosen) < count:
        if len(beaten) % BEST_EVERY == BEST_EVERY - 1:
            best = max(left, key=lambda i: (places[i, 0], -places[i, 1]))
        else:
            best = left[int(np.argmax(_gains(places[left], places[beaten])))]
        left.remove(best)
        beaten.append(best)
        chosen.append(archs[best])
    return chosen


def _gains(points: NDArray[np.float64], known: NDArray[np.float64]) -> Vector:
    """Give the hypervolume each point (quality, cost), all in (0, 1], adds to the first known front it can add to.

    Points that add to the very first front come before all others, and so on: only the best can be compared.
    """
    while True:
        gains = added_hypervolume(points, known)
        if gains.max() > 0 or not len(known):
            return gains
        known = known[~moocore.is_nondominated(known, maximise=[True, False], keep_weakly=True)]


def added_hypervolume(points: NDArray[np.float64], known: NDArray[np.float64]) -> Vector:
    """Give what each point [n, 2] alone adds to the area that `known` [m, 2] dominates, up to quality 0 and cost 1.

    The area is cut at the known costs: between two of them, the best quality so far is that of the cheaper ones.
    """
    order = np.argsort(known[:, 1], kind="stable")
    reached = np.concatenate([[0.0], np.maximum.accumulate(known[order, 0])])
    edges = np.concatenate([[0.0], known[order, 1], [1.0]])
    quality, cost = points[:, :1], points[:, 1:]
    width = np.maximum(edges[1:] - np.maximum(edges[:-1], cost), 0.0)
    return np.asarray((width * np.maximum(quality - reached, 0.0)).sum(axis=1))
