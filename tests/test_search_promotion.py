"""Promotion: what is taken adds most to the front, and the cheap end does not starve."""

import math
import random

import moocore
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbon_nas.search.promotion import added_hypervolume, promote

shares = st.integers(1, 12).map(lambda i: i / 12.5)
points = st.lists(st.tuples(shares, shares), max_size=8)


@given(points.filter(len), points)
def test_added_hypervolume_is_the_difference_of_two(new: list, known: list) -> None:
    def volume(of: list) -> float:
        return moocore.hypervolume(np.array(of), ref=[0, 1], maximise=[True, False]) if of else 0.0

    found = added_hypervolume(np.array(new), np.array(known, dtype=float).reshape(-1, 2))
    assert found == pytest.approx([volume([*known, one]) - volume(known) for one in new], abs=1e-12)


def growing(count: int) -> tuple[dict[str, float], dict[str, float]]:
    """The dearer, the better, as zero-cost proxies have it; every second one is dominated by its neighbour."""
    names = [f"a{i:02}" for i in range(count)]
    quality = {name: i - 3.0 * (i % 2) for i, name in enumerate(names)}
    return quality, {name: 10.0 * i for i, name in enumerate(names)}


def test_the_cheap_end_does_not_starve() -> None:
    quality, flops = growing(40)
    chosen = promote(6, list(quality), set(), quality, flops)
    places = sorted(int(name[1:]) for name in chosen)
    assert places[0] < 10, "quality alone would take 38, 36, 34 ..."
    assert places[-1] > 25
    assert all(place % 2 == 0 for place in places), "none that another beats in both"


def test_what_is_known_is_not_bought_twice() -> None:
    quality, flops = growing(40)
    first = promote(1, list(quality), set(), quality, flops)
    rest = sorted(quality.keys() - set(first))
    assert promote(5, list(quality), set(), quality, flops)[1:] == promote(
        4, rest, set(first), quality, flops
    )
    twin = {**quality, "twin": quality[first[0]]}, {**flops, "twin": flops[first[0]]}
    [next_one] = promote(1, [*rest, "twin"], set(first), *twin)
    assert next_one != "twin"


def test_every_fourth_is_the_best_whatever_it_costs() -> None:
    poor = {f"p{i}": -float(i) for i in range(9)}
    quality = poor | {"cheap": 8.0, "best": 9.0, "dearer": 9.0}
    flops = dict.fromkeys(poor, 5.0) | {"cheap": 1.0, "best": 98.0, "dearer": 99.0}
    for known, taken in ((2, "cheap"), (3, "best"), (4, "cheap"), (7, "best")):
        assert promote(1, ["best", "cheap", "dearer"], set(sorted(poor)[:known]), quality, flops) == [taken]
    waiting = ["best", "cheap", "dearer", *poor]
    assert promote(4, waiting, set(), quality, flops)[0] == "cheap"
    assert "best" in promote(4, waiting, set(), quality, flops)


def test_when_the_front_is_known_the_next_one_is_taken() -> None:
    quality = {"best": 3.0, "cheap": 1.0, "second": 2.0, "worst": 0.0}
    flops = {"best": 2.0, "cheap": 1.0, "second": 3.0, "worst": 4.0}
    assert promote(2, ["second", "worst"], {"best", "cheap"}, quality, flops) == ["second", "worst"]


@pytest.mark.parametrize("flops", [{}, {"b": math.nan}])
def test_without_costs_quality_decides(flops: dict[str, float]) -> None:
    quality = {"a": 1.0, "b": 3.0, "c": 2.0, "d": 3.0, "e": 9.0}
    assert promote(9, ["d", "c", "b", "a"], {"e"}, quality, flops) == ["b", "d", "c", "a"]


def test_who_has_no_cost_counts_as_dearest() -> None:
    quality = {"a": 1.0, "b": 1.0, "c": 1.0}
    assert promote(3, ["a", "b", "c"], set(), quality, {"a": math.nan, "b": 5.0, "c": 4.0}) == ["c", "b", "a"]


@given(st.integers(0, 10**6), st.integers(1, 20), st.floats(1e-9, 1e9))
def test_the_unit_of_costs_does_not_matter(seed: int, many: int, factor: float) -> None:
    luck = random.Random(seed)
    names = [f"a{i}" for i in range(many + 3)]
    quality = {name: luck.random() for name in names}
    cost = {name: float(luck.randrange(6)) for name in names}
    scaled = {name: factor * value for name, value in cost.items()}
    waiting, known = names[:many], set(names[many:])
    assert promote(many, waiting, known, quality, scaled) == promote(many, waiting, known, quality, cost)


@given(st.integers(0, 10**6), st.integers(1, 14), st.integers(0, 6), st.integers(0, 20))
def test_each_is_taken_once_whatever_the_order(seed: int, many: int, trained: int, count: int) -> None:
    luck = random.Random(seed)
    names = [f"a{i}" for i in range(many + trained)]
    quality = {name: float(luck.randrange(5)) for name in names}
    flops = {name: float(luck.randrange(5)) for name in names}
    waiting, known = names[:many], set(names[many:])
    chosen = promote(count, waiting, known, quality, flops)
    assert len(chosen) == len(set(chosen)) == min(count, many)
    assert set(chosen) <= set(waiting)
    assert promote(count, luck.sample(waiting, many), known, quality, flops) == chosen
    if chosen:  # nobody beats the first in both, and is better in one
        rivals = [name for name in waiting if quality[name] >= quality[chosen[0]]]
        assert not [
            name
            for name in rivals
            if flops[name] <= flops[chosen[0]]
            and (quality[name], -flops[name]) != (quality[chosen[0]], -flops[chosen[0]])
        ]
