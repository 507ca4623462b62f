"""Ordering scored architectures by several zero-cost proxies at once.

AZ-NAS's non-linear rank aggregation (Lee & Ham, CVPR 2024): an architecture's score is the sum over proxies of
log(rank / m), with rank m for the best of m. A low rank costs more than a high one gains, so the winner is good
by every proxy. Raw scores are never added: their scales and spreads differ by orders of magnitude.
"""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

Pool = Mapping[str, Mapping[str, float]]
"""Raw proxy scores by architecture and proxy; more is better."""

Vector = NDArray[np.float64]

AGGREGATE = (
    *("flops", "l2_norm", "meco", "swap"),
    *("az_progressivity", "az_trainability", "grad_diversity", "norm_preservation"),
)
"""What is combined by default, where all of it was computed: of all combinations of eleven proxies one of the best on
NAS-Bench-201, and on cells it was not chosen on too (bench/proxies/ranking.md). Not everything there is: proxies that
measure the same thing twice outvote the others."""


def combined(pool: Pool, proxies: Sequence[str] | None = None) -> tuple[str, ...]:
    """Say what `aggregate` combines: `proxies` if given, else `AGGREGATE` if the pool has it all, else what it has."""
    if proxies is not None:
        return tuple(proxies)
    present = {name for scores in pool.values() for name in scores}
    return AGGREGATE if present.issuperset(AGGREGATE) else tuple(sorted(present))


def aggregate(pool: Pool, proxies: Sequence[str] | None = None) -> dict[str, float]:
    """Give each architecture's log-rank sum within the pool: 0 if best by every proxy, else below.

    A score that is missing, NaN or infinite comes last, whatever its sign: a proxy that overflowed says nothing.
    Equal scores share the mean of their ranks. A proxy that is the same for all moves nobody.
    """
    archs = list(pool)
    total = np.zeros(len(archs))
    for proxy in combined(pool, proxies):
        total += np.log(ascending_ranks(column(pool, archs, proxy)) / len(archs))
    return dict(zip(archs, total.tolist(), strict=True))


def unusable(pool: Pool) -> dict[str, int]:
    """Count for each of the pool's proxies the architectures of which it says nothing: missing, NaN or infinite."""
    archs = list(pool)
    proxies = sorted({name for scores in pool.values() for name in scores})
    return {proxy: int((~np.isfinite(column(pool, archs, proxy))).sum()) for proxy in proxies}


def column(pool: Pool, archs: Collection[str], proxy: str) -> Vector:
    """Give one proxy's raw scores of `archs`, in their order; NaN where there is none."""
    return np.array([pool.get(arch, {}).get(proxy, np.nan) for arch in archs], dtype=np.float64)


def ascending_ranks(scores: Vector) -> Vector:
    """Give ranks 1 (worst) to n (best), ties at their mean; what is not finite ranks last."""
    usable = np.where(np.isfinite(scores), scores, -np.inf)
    _, group, sizes = np.unique(usable, return_inverse=True, return_counts=True)
    mean_ranks = np.cumsum(sizes) - (sizes - 1) / 2
    return np.asarray(mean_ranks[group], dtype=np.float64)
