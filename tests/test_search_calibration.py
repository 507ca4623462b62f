"""Whether cheap scoring works: each figure against an independent computation, and the words against the figures."""

import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbon_nas.search.calibration import (
    AGGREGATE_NAME,
    LEARNED_NAME,
    calibrate,
    interval,
    partial,
    regret,
    spearman,
    verdict,
)
from carbon_nas.search.cost import FLOPS as COST
from carbon_nas.search.predictor import predict
from carbon_nas.search.ranking import aggregate

FLOPS = 1e6


def encode(arch: str) -> tuple[int, ...]:
    return tuple(map(int, arch))


def study(count: int, noise: float, size: float = 0.0, extra: int = 20, seed: int = 0):
    """A pool of `count + extra` with a score as good as `noise` lets it; `size` is what quality owes to flops."""
    luck = random.Random(seed)
    archs = [f"{i:03}" for i in luck.sample(range(1000), count + extra)]
    true = {arch: luck.random() for arch in archs}
    flops = {arch: FLOPS * (1 + size * true[arch] + luck.random()) for arch in archs}
    pool = {arch: {"p": true[arch] + noise * luck.gauss(0, 1), "flops": flops[arch]} for arch in archs}
    return pool, {arch: (true[arch], flops[arch]) for arch in archs[:count]}


def by_name(found):
    return {one.name: one for one in found.signals}


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=4, max_size=30))
def test_spearman_without_ties_is_the_textbooks_and_with_them_is_pearsons_of_ranks(pairs) -> None:
    first, second = (np.array(column, dtype=float) for column in zip(*pairs, strict=True))
    found = spearman(first, second)

    def ranks(values):
        return [sum(b < a for b in values) + sum(b == a for b in values) / 2 for a in values]

    x, y = (np.array(ranks(values)) - np.mean(ranks(values)) for values in (first, second))
    if not x.any() or not y.any():
        assert found is None
        return
    assert found == pytest.approx(x @ y / math.sqrt((x @ x) * (y @ y)))
    if len(set(first)) == len(first) and len(set(second)) == len(second):
        n = len(first)
        squares = ((np.argsort(np.argsort(first)) - np.argsort(np.argsort(second))) ** 2).sum()
        assert found == pytest.approx(1 - 6 * squares / (n * (n**2 - 1)))


def test_too_few_or_all_equal_have_no_rho() -> None:
    assert spearman(np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 3.0])) is None
    assert spearman(np.ones(9), np.arange(9.0)) is None
    assert spearman(np.array([np.nan, 1, 2, 3]), np.array([0.0, 1, 2, 3])) == 1.0, "unusable is last"


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    rho, n, held = 0.6, 30, 0
    pearson = 2 * math.sin(math.pi * rho / 6)  # of normal variables with that Spearman's rho
    for _ in range(1000):
        x = rng.normal(size=n)
        y = pearson * x + math.sqrt(1 - pearson**2) * rng.normal(size=n)
        low, high = interval(spearman(x, y), n)
        held += low <= rho <= high
    assert 930 <= held <= 970


def test_a_perfect_order_of_few_is_not_certain() -> None:
    low, high = interval(1.0, 5)
    assert low < 0 < high == 1.0
    assert interval(-1.0, 5) == pytest.approx((-high, -low))
    assert interval(1.0, 100)[0] > 0.99
    assert interval(0.5, 3) == (-1.0, 1.0)


def test_partial_correlation_is_that_of_the_residuals() -> None:
    rng = np.random.default_rng(1)
    size = rng.normal(size=200)
    x, y = size + rng.normal(size=200), 2 * size + 0.5 * rng.normal(size=200)
    residuals = [v - np.polyval(np.polyfit(size, v, 1), size) for v in (x, y)]
    r = np.corrcoef([x, y, size])
    assert partial(r[0, 1], r[0, 2], r[1, 2]) == pytest.approx(np.corrcoef(residuals)[0, 1])
    assert partial(0.7, 1.0, 0.7) is None


def test_regret_is_what_the_best_ranked_lack() -> None:
    quality, ranking = np.array([0.5, 0.9, 0.7, 0.8]), np.array([4.0, np.inf, 3.0, 2.0])
    assert [regret(ranking, quality, k) for k in (1, 2, 3, 4)] == [
        pytest.approx(0.4),
        pytest.approx(0.2),
        pytest.approx(0.1),
        None,
    ]


def test_the_figures_are_those_of_the_trained_and_their_ranks_those_of_the_pool() -> None:
    pool, results = study(30, noise=0.1)
    pool["999"] = {"p": math.nan}
    found = calibrate(pool, results, encode, COST)
    signals = by_name(found)
    assert (found.trained, found.scored) == (30, 51)
    assert list(signals) == ["flops", "p", AGGREGATE_NAME, LEARNED_NAME]
    assert (signals["p"].unusable, signals["flops"].unusable) == (1, 1)
    archs = sorted(results)
    quality = np.array([results[arch][0] for arch in archs])
    summed, learned = aggregate(pool), predict(pool, {a: q for a, (q, _) in results.items()}, encode)
    for name, of in (("p", {a: s["p"] for a, s in pool.items()}), (AGGREGATE_NAME, summed)):
        assert signals[name].rho == pytest.approx(spearman(np.array([of[a] for a in archs]), quality))
    told = np.array([learned.left_out[a] for a in archs])
    assert signals[LEARNED_NAME].rho == pytest.approx(spearman(told, quality))
    assert signals["flops"].rho_given_cost is None
    assert signals["p"].regret.keys() == {1, 5, 10}


def test_the_best_tenth_is_only_looked_at_where_it_is_ten() -> None:
    for count, there in ((90, False), (100, True)):
        signals = by_name(calibrate(*study(count, noise=0.1), None, COST))
        assert (signals["p"].rho_top is not None) is there


def test_trainings_that_were_not_scored_are_left_out() -> None:
    pool, results = study(12, noise=0.1)
    assert calibrate(pool, {**results, "999": (0.1, 1.0)}, encode, COST).trained == 12
    with pytest.raises(ValueError, match="none of the scored"):
        calibrate(pool, {"999": (0.1, 1.0)}, encode, COST)


def test_one_training_tells_nothing() -> None:
    found = calibrate(*study(1, noise=0.1), encode, COST)
    assert found.verdict == "1 trained are too few to tell anything yet."
    assert {(one.rho, one.interval, one.rho_top, one.rho_given_cost) for one in found.signals} == {
        (None,) * 4
    }


@pytest.mark.parametrize(
    ("count", "noise", "size", "says"),
    [
        (60, 0.05, 0.0, "Scoring works here: the "),
        (12, 0.3, 0.0, "12 trained are too few to tell: the log-rank sum has rho "),
        (200, 1e6, 0.0, "Train at random: the "),
        (60, 1e6, 3.0, "at equal flops: it may see nothing else."),
    ],
)
def test_the_verdict_is_plain(count: int, noise: float, size: float, says: str) -> None:
    found = calibrate(*study(count, noise, size), None, COST)
    assert says in found.verdict
    followed = by_name(found)[found.followed]
    assert f"{followed.rho:.2f}" in found.verdict
    assert found.verdict == verdict(followed, count, COST)


def test_the_search_follows_what_is_told_it_follows() -> None:
    """Scores that are noise, and qualities that the choices tell: from 16 trainings on the learned one leads."""
    luck = random.Random(2)
    archs = [f"{i:03}" for i in luck.sample(range(1000), 80)]
    pool = {arch: {"p": luck.random()} for arch in archs}
    results = {arch: (int(arch[0]) / 20 + int(arch[2]) / 30, 1.0) for arch in archs}
    assert calibrate(pool, results, encode, COST).followed == LEARNED_NAME
    assert calibrate(pool, dict(list(results.items())[:15]), encode, COST).followed == AGGREGATE_NAME
