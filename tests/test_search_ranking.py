import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbon_nas.search.ranking import AGGREGATE, aggregate, combined, unusable

scores = st.floats(allow_nan=True, allow_infinity=True) | st.integers(-2, 2).map(float)
pools = st.integers(1, 3).flatmap(
    lambda count: st.dictionaries(
        st.text("abcdef", min_size=1, max_size=3),
        st.tuples(*[scores] * count).map(lambda row: {f"p{i}": value for i, value in enumerate(row)}),
        min_size=1,
        max_size=12,
    )
)


def plainly(pool: dict[str, dict[str, float]], arch: str) -> float:
    """AZ-NAS's formula, counted out: the rank is 1 + those below + half of the others that are equal."""
    total = 0.0
    for proxy in pool[arch]:
        column = {a: s[proxy] if math.isfinite(s[proxy]) else -math.inf for a, s in pool.items()}
        below = sum(other < column[arch] for other in column.values())
        equal = sum(other == column[arch] for other in column.values())
        total += math.log((1 + below + (equal - 1) / 2) / len(pool))
    return total


def best(pool: dict[str, dict[str, float]]) -> str:
    """The one architecture that no other equals."""
    first, second = sorted(aggregate(pool).items(), key=lambda item: -item[1])[:2]
    assert first[1] > second[1]
    return first[0]


@given(pools)
def test_equals_the_formula_counted_out(pool: dict[str, dict[str, float]]) -> None:
    found = aggregate(pool)
    assert found.keys() == pool.keys()
    for arch, score in found.items():
        assert score == pytest.approx(plainly(pool, arch), abs=1e-12)


@given(pools, st.randoms(use_true_random=False))
def test_the_order_does_not_depend_on_the_order_of_the_pool(
    pool: dict[str, dict[str, float]], shuffler: random.Random
) -> None:
    items = list(pool.items())
    shuffler.shuffle(items)
    assert aggregate(dict(items)) == aggregate(pool)


@given(st.lists(st.floats(-100, 100), min_size=2, max_size=20, unique=True))
def test_only_the_order_of_scores_counts(values: list[float]) -> None:
    names = [f"a{i:02}" for i in range(len(values))]
    plain = {a: {"p": v} for a, v in zip(names, sorted(values), strict=True)}
    stretched = {a: {"p": float(i**3)} for i, a in enumerate(names)}
    scores = aggregate(plain)
    assert scores == aggregate(stretched)
    assert sorted(scores, key=scores.__getitem__) == names
    assert len(set(scores.values())) == len(names)


def test_no_usable_score_comes_last() -> None:
    pool = {
        "nan": {"p": math.nan, "q": 5.0},
        "plus": {"p": math.inf, "q": 4.0},
        "missing": {"q": 3.0},
        "bad": {"p": -1e30, "q": 2.0},
        "good": {"p": 1.0, "q": 6.0},
    }
    by_p_alone = {arch: {key: s[key] for key in s if key == "p"} for arch, s in pool.items()}
    shared = aggregate(by_p_alone)
    assert shared["good"] > shared["bad"] > shared["nan"]
    assert shared["nan"] == shared["plus"] == shared["missing"] == pytest.approx(math.log(2 / 5))
    assert best(pool) == "good"


def test_good_by_every_proxy_beats_best_by_one() -> None:
    pool = {"balanced": {"p": 3.0, "q": 3.0}, "lopsided": {"p": 4.0, "q": 1.0}, "x": {"p": 1.0, "q": 4.0}}
    pool["y"] = {"p": 2.0, "q": 2.0}
    assert best(pool) == "balanced"  # log(9/16), where lopsided and x have log(4/16)


def test_nothing_to_rank() -> None:
    assert aggregate({}) == {}
    assert aggregate({"b": {}, "a": {}}) == {"b": 0.0, "a": 0.0}


def test_the_default_combination_where_all_of_it_was_computed() -> None:
    luck = random.Random(0)
    everything = {f"a{i}": {p: luck.random() for p in (*AGGREGATE, "snip", "zen")} for i in range(20)}
    assert combined(everything) == AGGREGATE
    only_those = {arch: {p: s[p] for p in AGGREGATE} for arch, s in everything.items()}
    assert aggregate(everything) == aggregate(only_those)
    assert aggregate(everything, ["zen"]) == aggregate(
        {arch: {"zen": s["zen"]} for arch, s in everything.items()}
    )
    without = {arch: {p: s[p] for p in s if p != AGGREGATE[1]} for arch, s in everything.items()}
    assert set(combined(without)) == {*AGGREGATE, "snip", "zen"} - {AGGREGATE[1]}
    assert combined(everything, ["zen", "snip"]) == ("zen", "snip")


def test_unusable_scores_are_counted() -> None:
    pool = {"a": {"p": math.nan, "q": 1.0}, "b": {"p": -math.inf}, "c": {"p": 0.0, "q": 2.0}, "d": {}}
    assert unusable(pool) == {"p": 3, "q": 2}
    assert unusable({}) == {}
