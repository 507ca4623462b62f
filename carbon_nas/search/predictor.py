"""A prediction of quality, learnt from the search's own trainings: no network, no data set, milliseconds.

Gaussian-process regression (Rasmussen & Williams, 2006, algorithm 2.1 and section 5.4) on what is known of an
architecture before it is trained. As in TG-NAS (Qiao et al., 2024) that is the architecture itself, here by the
choices that make it, and besides, where it is scored, its ranks by the zero-cost proxies:

    k = w exp(-h / 0.3) + (1 - w) f.f' + noise

with h the share of choices in which two architectures differ, and f the standardised ranks by each proxy, their
logarithms, and the normal scores of the log-rank sum, which weigh as much as all the others together. w and the
noise are those of largest marginal likelihood on a grid; the scale has a closed form. Qualities enter as
normal scores of their ranks: a few networks that learn nothing must not drown the rest.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from carbon_nas.search.ranking import Pool, Vector, aggregate, ascending_ranks, column

Matrix = NDArray[np.float64]
Encode = Callable[[str], Sequence[int]]
"""The choices that make an architecture, as many for each; see `interfaces.SearchSpace.encode`."""

LENGTH = 0.3
WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)
NOISES = (0.01, 0.03, 0.1, 0.3, 1.0)

MINIMUM_TRAININGS = 16
MARGIN = 1.0
"""Standard errors by which the learned order must be better than the log-rank sum before it is followed."""

_TINY = 1e-9
_normal_quantile = np.vectorize(NormalDist().inv_cdf, otypes=[np.float64])


@dataclass(frozen=True)
class Prediction:
    """What the trainings say of a pool. Larger is better; the unit is a standard deviation of trained qualities.

    Attributes:
        mean: by architecture of the pool.
        deviation: standard deviation of that mean, without the noise of a training.
        left_out: the mean of each trained one as the other trainings tell it.
    """

    mean: Mapping[str, float]
    deviation: Mapping[str, float]
    left_out: Mapping[str, float]


def predict(
    pool: Pool, qualities: Mapping[str, float], encode: Encode | None, proxies: Sequence[str] | None = None
) -> Prediction:
    """Learn from `qualities`, the trained architectures of the pool, and predict all of it. Deterministic.

    `encode` None leaves the choices out, `proxies` () the scores. `proxies` None takes all the pool has.

    Raises:
        ValueError: none of the trained is in the pool, or an architecture is not of the space.
    """
    archs = list(pool)
    trained = [i for i, arch in enumerate(archs) if arch in qualities]
    if not trained:
        raise ValueError("nothing to learn from: no architecture of the pool is trained")
    choices, scores = _choice_kernel(archs, trained, encode), _score_kernel(pool, trained, proxies)
    targets = _normal_scores(np.array([qualities[archs[i]] for i in trained]))
    mean, deviation, left_out = _regress(choices, scores, trained, targets)
    return Prediction(
        mean=dict(zip(archs, mean.tolist(), strict=True)),
        deviation=dict(zip(archs, deviation.tolist(), strict=True)),
        left_out=dict(zip((archs[i] for i in trained), left_out.tolist(), strict=True)),
    )


def expected(pool: Pool, qualities: Mapping[str, float], encode: Encode | None) -> Mapping[str, float]:
    """Give the pool's qualities as best they can be told; only their order means anything.

    That is the log-rank sum, until `predict` has shown itself better on the trainings there are.
    """
    summed = aggregate(pool)
    known = {arch: quality for arch, quality in qualities.items() if arch in pool}
    if len(known) < MINIMUM_TRAININGS:
        return summed
    learned = predict(pool, known, encode)
    return learned.mean if advantage(known, summed, learned.left_out) > MARGIN else summed


def advantage(
    qualities: Mapping[str, float], before: Mapping[str, float], after: Mapping[str, float]
) -> float:
    """Say by how many standard errors `after` orders the trained better than `before`; below zero if worse.

    Compares the squared errors of their ranks in pairs: the mean of these is what Spearman's rho is made of.
    """
    true, first, second = (
        ascending_ranks(np.array([of[arch] for arch in qualities])) for of in (qualities, before, after)
    )
    gains = (first - true) ** 2 - (second - true) ** 2
    error = gains.std(ddof=1) / np.sqrt(len(gains)) if len(gains) > 1 else 0.0
    return float(gains.mean() / error) if error > 0 else 0.0


@dataclass(frozen=True)
class _Kernel:
    """Covariances before scale and noise: of all [n] with the trained [n, t], and of each with itself [n]."""

    cross: Matrix
    own: Vector


def _choice_kernel(archs: Sequence[str], trained: Sequence[int], encode: Encode | None) -> _Kernel:
    if encode is None:
        return _Kernel(np.zeros((len(archs), len(trained))), np.zeros(len(archs)))
    choices = np.array([encode(arch) for arch in archs])
    differing = (choices[:, None, :] != choices[None, trained, :]).mean(axis=-1)
    return _Kernel(np.exp(-differing / LENGTH), np.ones(len(archs)))


def _score_kernel(pool: Pool, trained: Sequence[int], proxies: Sequence[str] | None) -> _Kernel:
    archs = list(pool)
    names = sorted({name for scores in pool.values() for name in scores}) if proxies is None else proxies
    if not names:
        return _Kernel(np.zeros((len(archs), len(trained))), np.zeros(len(archs)))
    shares = [ascending_ranks(column(pool, archs, name)) / len(archs) for name in names]
    summed = np.array(list(aggregate(pool, proxies).values()))
    single = _standard(np.column_stack([*shares, *np.log(shares)])) / np.sqrt(2 * len(shares))
    inputs = np.column_stack([single, _standard(_normal_scores(summed)[:, None])]) / np.sqrt(2)
    return _Kernel(inputs @ inputs[trained].T, (inputs**2).sum(axis=1))


@dataclass(frozen=True)
class _Fit:
    """One setting of the kernel: its log evidence, and the eigenvectors and values of the trained's covariance."""

    evidence: float
    weight: float
    scale: float
    vectors: Matrix
    spectrum: Vector


def _fits(choices: _Kernel, scores: _Kernel, trained: Sequence[int], targets: Vector) -> Iterator[_Fit]:
    """Give every setting of the grid, each with the scale that suits it best (eq. 2.30; constants left out)."""
    for weight in WEIGHTS:
        among = (weight * choices.cross + (1 - weight) * scores.cross)[trained]
        values, vectors = np.linalg.eigh(among)
        parts = (vectors.T @ targets) ** 2
        for noise in NOISES:
            spectrum = np.maximum(values, 0.0) + noise
            scale = max(float((parts / spectrum).mean()), _TINY)
            evidence = -float(len(targets) * np.log(scale) + np.log(spectrum).sum()) / 2
            yield _Fit(evidence, weight, scale, vectors, spectrum)


def _regress(
    choices: _Kernel, scores: _Kernel, trained: Sequence[int], targets: Vector
) -> tuple[Vector, Vector, Vector]:
    """Give mean and standard deviation of all, and the means of the trained, each left out (eq. 5.12)."""
    best = max(_fits(choices, scores, trained, targets), key=lambda fit: fit.evidence)
    inverse = best.vectors / best.spectrum @ best.vectors.T
    weights = inverse @ targets
    cross = best.weight * choices.cross + (1 - best.weight) * scores.cross
    own = best.weight * choices.own + (1 - best.weight) * scores.own
    unexplained = np.maximum(own - ((cross @ inverse) * cross).sum(axis=1), 0.0)
    return cross @ weights, np.sqrt(best.scale * unexplained), targets - weights / np.diag(inverse)


def _normal_scores(values: Vector) -> Vector:
    """Give the normal quantiles of the ranks' shares: standard normal, whatever the values' distribution."""
    return np.asarray(_normal_quantile((ascending_ranks(values) - 0.5) / len(values)), dtype=np.float64)


def _standard(values: Matrix) -> Matrix:
    return np.asarray((values - values.mean(axis=0)) / np.maximum(values.std(axis=0), _TINY))
