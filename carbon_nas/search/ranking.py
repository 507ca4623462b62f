"""Ordering scored architectures by several zero-cost proxies at once.

AZ-NAS's non-linear rank aggregation (Lee & Ham, CVPR 2024): an architecture's score is the sum over proxies of
log(rank / m), with rank m for the best of m. A low rank costs more than a high one gains, so the winner is good
by every proxy. Raw scores are never added: their scales and spreads differ by orders of magnitude.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Pool = Mapping[str, Mapping[str, float]]
"""Raw proxy scores by architecture and proxy; more is better."""


def aggregate(pool: Pool) -> dict[str, float]:
    """Give each architecture's log-rank sum within the pool: 0 if best by every proxy, else below.

    A score that is missing, NaN or infinite comes last, whatever its sign: a proxy that overflowed says nothing.
    Equal scores share the mean of their ranks. A proxy that is the same for all moves nobody.
    """
    archs = list(pool)
    total = np.zeros(len(archs))
    for proxy in sorted({name for scores in pool.values() for name in scores}):
        ranks = _ascending_ranks(np.array([pool[arch].get(proxy, np.nan) for arch in archs], dtype=float))
        total += np.log(ranks / len(archs))
    return dict(zip(archs, total.tolist(), strict=True))


def rank(pool: Pool) -> list[str]:
    """Give the pool's architectures, best first; equals in the order of their names."""
    scores = aggregate(pool)
    return sorted(scores, key=lambda arch: (-scores[arch], arch))


def _ascending_ranks(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give ranks 1 (worst) to n (best), ties at their mean."""
    usable = np.where(np.isfinite(scores), scores, -np.inf)
    _, group, sizes = np.unique(usable, return_inverse=True, return_counts=True)
    mean_ranks = np.cumsum(sizes) - (sizes - 1) / 2
    return np.asarray(mean_ranks[group], dtype=np.float64)
