"""What the search has reached: the trade-off between quality and inference cost, and its size as one number.

The hypervolume (Zitzler & Thiele, 1998) is computed exactly by moocore (Fonseca, Paquete & López-Ibáñez's
algorithm). Its reference point is fixed before the search begins, at quality 0 and `reference_cost`: a
reference taken from the results would move, and make runs incomparable.
"""

from collections.abc import Collection, Mapping

import moocore
import numpy as np

Point = tuple[float, float]
"""(quality as a share of 1, cost of one inference, see `search.cost`)"""


def front(points: Mapping[str, Point]) -> list[str]:
    """Give the architectures that no other one beats in both, cheapest first.

    Those with equal quality and cost are all kept: they are different networks.

    Raises:
        ValueError: a quality is outside [0, 1], or a cost is not finite or below zero.
    """
    archs = sorted(points, key=lambda arch: (points[arch][1], arch))
    if not archs:
        return []
    objectives = _checked([points[arch] for arch in archs])
    best = moocore.is_nondominated(objectives, maximise=[True, False], keep_weakly=True)
    return [arch for arch, keep in zip(archs, best, strict=True) if keep]


def hypervolume(points: Collection[Point], *, reference_cost: float) -> float:
    """Give the share of the rectangle [0, 1] x [0, `reference_cost`] that the points dominate, 0 to 1.

    Points that cost `reference_cost` or more count nothing.

    Raises:
        ValueError: as `front`, or the reference is not finite and above zero.
    """
    if not np.isfinite(reference_cost) or reference_cost <= 0:
        raise ValueError(f"reference_cost must be finite and above zero, got {reference_cost}")
    if not points:
        return 0.0
    normalised = _checked(points) / (1.0, reference_cost)
    return float(moocore.hypervolume(normalised, ref=[0.0, 1.0], maximise=[True, False]))


def _checked(points: Collection[Point]) -> "np.ndarray[tuple[int, int], np.dtype[np.float64]]":
    values = np.array(list(points), dtype=np.float64).reshape(len(points), 2)
    quality, costs = values[:, 0], values[:, 1]
    if not np.isfinite(values).all() or (quality < 0).any() or (quality > 1).any() or (costs < 0).any():
        raise ValueError("quality must be within [0, 1], and cost finite and not below zero")
    return values
