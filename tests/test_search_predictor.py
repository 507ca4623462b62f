"""The learned predictor: equal to the textbook's formulas, and better than scores where there is more to learn."""

import math
import random
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carbon_nas.search.predictor import (
    LENGTH,
    MINIMUM_TRAININGS,
    NOISES,
    WEIGHTS,
    advantage,
    expected,
    predict,
)
from carbon_nas.search.ranking import aggregate

CHOICES = 6


def encode(arch: str) -> tuple[int, ...]:
    return tuple(int(digit) for digit in arch)


def cells(count: int, seed: int = 0) -> list[str]:
    luck = random.Random(seed)
    found: dict[str, None] = {}
    while len(found) < count:
        found["".join(str(luck.randrange(4)) for _ in range(CHOICES))] = None
    return list(found)


def worth(arch: str) -> float:
    """What only the choices tell: threes are good, but not beside each other."""
    return arch.count("3") - 1.5 * arch.count("33") + 0.1 * arch.count("1")


def noise_pool(archs: list[str]) -> dict[str, dict[str, float]]:
    luck = random.Random(1)
    return {arch: {"p": luck.random(), "q": luck.random()} for arch in archs}


def z_scores(values: list[float]) -> np.ndarray:
    ranks = [sum(b < a for b in values) + (sum(b == a for b in values) + 1) / 2 for a in values]
    return np.array([NormalDist().inv_cdf((rank - 0.5) / len(values)) for rank in ranks])


def textbook(pool, qualities, left_out=None):
    """Algorithm 2.1 of Rasmussen & Williams, kernel entry by kernel entry, at the best grid point of all trained."""
    archs = list(pool)
    n = len(archs)

    def standard(column):
        column = np.asarray(column)
        return (column - column.mean()) / max(column.std(), 1e-9)

    columns = []
    for proxy in ("p", "q"):
        values = [pool[arch][proxy] for arch in archs]
        shares = np.array([sum(b <= a for b in values) for a in values]) / n  # no ties in these tests
        columns += [standard(shares), standard(np.log(shares))]
    summed = standard(z_scores(list(aggregate(pool).values())))

    def kernel(weight, i, j):
        apart = sum(a != b for a, b in zip(archs[i], archs[j], strict=True)) / CHOICES
        alike = 0.5 * np.mean([c[i] * c[j] for c in columns]) + 0.5 * summed[i] * summed[j]
        return weight * math.exp(-apart / LENGTH) + (1 - weight) * alike

    trained = [i for i in range(n) if archs[i] in qualities]
    y = z_scores([qualities[archs[i]] for i in trained])
    best = None
    for weight in WEIGHTS:
        among = np.array([[kernel(weight, i, j) for j in trained] for i in trained])
        for noise in NOISES:
            covariance = among + noise * np.eye(len(y))
            scale = y @ np.linalg.solve(covariance, y) / len(y)
            full = scale * covariance
            log_likelihood = -0.5 * y @ np.linalg.solve(full, y) - 0.5 * np.linalg.slogdet(full)[1]
            if best is None or log_likelihood > best[0]:
                best = log_likelihood, weight, noise, scale
    _, weight, noise, scale = best
    kept = [k for k, i in enumerate(trained) if archs[i] != left_out]
    used = [trained[k] for k in kept]
    lower = np.linalg.cholesky(
        scale * np.array([[kernel(weight, i, j) + noise * (i == j) for j in used] for i in used])
    )
    alpha = np.linalg.solve(lower.T, np.linalg.solve(lower, y[kept]))
    mean, deviation = {}, {}
    for i, arch in enumerate(archs):
        with_trained = scale * np.array([kernel(weight, i, j) for j in used])
        v = np.linalg.solve(lower, with_trained)
        mean[arch] = with_trained @ alpha
        deviation[arch] = math.sqrt(max(scale * kernel(weight, i, i) - v @ v, 0.0))
    return mean, deviation


def test_mean_and_deviation_are_the_textbooks() -> None:
    archs = cells(14)
    pool = noise_pool(archs)
    qualities = {arch: worth(arch) + 0.01 * i for i, arch in enumerate(archs[:9])}
    found = predict(pool, qualities, encode)
    mean, deviation = textbook(pool, qualities)
    assert found.mean == pytest.approx(mean, abs=1e-9)
    assert found.deviation == pytest.approx(deviation, abs=1e-6)


def test_left_out_is_what_the_other_trainings_tell() -> None:
    archs = cells(10)
    pool = noise_pool(archs)
    qualities = {arch: worth(arch) + 0.01 * i for i, arch in enumerate(archs[:7])}
    found = predict(pool, qualities, encode).left_out
    assert found.keys() == qualities.keys()
    for arch, told in found.items():
        assert told == pytest.approx(textbook(pool, qualities, left_out=arch)[0][arch], abs=1e-9)


def rho(found, pool_or_archs):
    true = z_scores([worth(arch) for arch in pool_or_archs])
    return float(np.corrcoef(z_scores([found[arch] for arch in pool_or_archs]), true)[0, 1])


def test_choices_teach_what_no_score_tells() -> None:
    archs = cells(240)
    pool = noise_pool(archs)
    trained, others = archs[:64], archs[64:]
    qualities = {arch: worth(arch) for arch in trained}
    found = predict(pool, qualities, encode)
    assert rho(found.mean, others) > 0.7
    without = predict(pool, qualities, None).mean
    assert len(set(without.values())) == 1 or abs(rho(without, others)) < 0.3, "the scores are noise"
    assert rho(predict(pool, qualities, encode, proxies=()).mean, others) > 0.7
    unseen = np.mean([found.deviation[arch] for arch in others])
    assert np.mean([found.deviation[arch] for arch in trained]) < 0.8 * unseen


def test_a_perfect_score_is_followed() -> None:
    archs = cells(120)
    pool = {arch: {"p": worth(arch) + 1e-6 * i} for i, arch in enumerate(archs)}
    qualities = {arch: pool[arch]["p"] for arch in archs[:20]}
    assert rho(predict(pool, qualities, encode).mean, archs[20:]) > 0.97


def test_expected_is_the_log_rank_sum_until_the_learned_is_better() -> None:
    archs = cells(100)
    noise = noise_pool(archs)
    worths = {arch: worth(arch) for arch in archs[:60]}
    few = dict(list(worths.items())[: MINIMUM_TRAININGS - 1])
    assert expected(noise, few, encode) == aggregate(noise)
    assert expected(noise, worths, encode) == predict(noise, worths, encode).mean
    told = {arch: {"p": worth(arch)} for arch in archs}
    assert expected(told, worths, encode) == aggregate(told), "nothing is better than a score that is right"


def test_those_trained_outside_the_pool_do_not_count() -> None:
    archs = cells(60)
    pool = noise_pool(archs[:40])
    worths = {arch: worth(arch) for arch in archs}
    inside = {arch: worths[arch] for arch in archs[:40]}
    assert expected(pool, worths, encode) == expected(pool, inside, encode)
    with pytest.raises(ValueError, match="nothing to learn from"):
        predict(pool, {"333333": 1.0}, encode)


@pytest.mark.parametrize("missing", [math.nan, math.inf, None])
def test_unusable_scores_and_equal_qualities_do_no_harm(missing: float | None) -> None:
    archs = cells(30)
    pool = {arch: {"p": float(i)} for i, arch in enumerate(archs)}
    pool[archs[0]] = {} if missing is None else {"p": missing}
    for qualities in (dict.fromkeys(archs[:5], 0.1), {arch: i / 9 for i, arch in enumerate(archs[:5])}):
        found = predict(pool, qualities, encode)
        assert all(map(math.isfinite, [*found.mean.values(), *found.deviation.values()]))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 12))
def test_only_the_order_of_qualities_counts_and_not_that_of_the_pool(seed: int, count: int) -> None:
    archs = cells(20, seed)
    pool = noise_pool(archs)
    luck = random.Random(seed)
    qualities = {arch: luck.random() for arch in archs[:count]}
    found = predict(pool, qualities, encode)
    shuffled = luck.sample(archs, len(archs))
    again = predict({arch: pool[arch] for arch in shuffled}, {a: q**3 for a, q in qualities.items()}, encode)
    assert again.mean == pytest.approx(found.mean, abs=1e-6)


def test_advantage_counts_in_standard_errors() -> None:
    true = {f"a{i}": float(i) for i in range(8)}
    backwards = {arch: -value for arch, value in true.items()}
    errors = [(2 * i - 7) ** 2 for i in range(8)]
    plainly = np.mean(errors) / (np.std(errors, ddof=1) / math.sqrt(8))
    assert advantage(true, backwards, true) == pytest.approx(plainly)
    assert advantage(true, true, backwards) == pytest.approx(-plainly)
    assert advantage(true, backwards, backwards) == 0.0
    assert advantage({"a": 1.0}, {"a": 2.0}, {"a": 3.0}) == 0.0
