import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbon_nas.search.pareto import Point, front, hypervolume

points = st.lists(
    st.tuples(st.floats(0, 1), st.floats(0, 300))
    | st.tuples(st.sampled_from([0.2, 0.5]), st.sampled_from([10.0, 20.0])),
    max_size=25,
)


def named(values: list[Point]) -> dict[str, Point]:
    return {f"a{i:02}": value for i, value in enumerate(values)}


def beats(one: Point, other: Point) -> bool:
    return one[0] >= other[0] and one[1] <= other[1] and one != other


@given(points)
def test_the_front_is_what_nothing_beats(values: list[Point]) -> None:
    pool = named(values)
    found = front(pool)
    assert set(found) == {a for a in pool if not any(beats(pool[b], pool[a]) for b in pool)}
    assert found == sorted(found, key=lambda arch: (pool[arch][1], arch))


def area(values: list[Point], reference: float) -> float:
    """Sweep by cost: each step of the staircase reaches to the next costlier point."""
    total, best = 0.0, 0.0
    inside = sorted((cost, quality) for quality, cost in values if cost < reference)
    for (cost, quality), (following, _) in pairwise([*inside, (reference, 0.0)]):
        best = max(best, quality)
        total += best * (following - cost)
    return total / reference


@given(points)
def test_the_hypervolume_is_the_area_under_the_staircase(values: list[Point]) -> None:
    found = hypervolume(values, reference_cost=100.0)
    assert found == pytest.approx(area(values, 100.0), abs=1e-12)
    assert 0.0 <= found <= 1.0


@given(points, st.tuples(st.floats(0, 1), st.floats(0, 300)))
def test_it_never_falls_and_only_the_front_counts(values: list[Point], another: Point) -> None:
    before = hypervolume(values, reference_cost=100.0)
    assert hypervolume([*values, another], reference_cost=100.0) >= before
    pool = named(values)
    assert hypervolume([pool[arch] for arch in front(pool)], reference_cost=100.0) == pytest.approx(before)


def test_by_hand() -> None:
    assert hypervolume([(0.5, 50.0)], reference_cost=100.0) == pytest.approx(0.25)
    assert hypervolume([(0.5, 50.0), (0.9, 80.0)], reference_cost=100.0) == pytest.approx(0.25 + 0.4 * 0.2)
    assert hypervolume([(1.0, 0.0)], reference_cost=100.0) == 1.0
    assert hypervolume([(1.0, 100.0)], reference_cost=100.0) == 0.0
    assert hypervolume([], reference_cost=100.0) == 0.0
    assert front({}) == []


def test_equal_networks_are_all_kept() -> None:
    assert front({"b": (0.5, 1.0), "a": (0.5, 1.0), "c": (0.4, 1.0)}) == ["a", "b"]


@pytest.mark.parametrize("wrong", [(1.1, 1.0), (-0.1, 1.0), (math.nan, 1.0), (0.5, -1.0), (0.5, math.inf)])
def test_refuses_what_is_no_point(wrong: Point) -> None:
    with pytest.raises(ValueError, match="quality must be within"):
        front({"a": wrong})
    with pytest.raises(ValueError, match="quality must be within"):
        hypervolume([wrong], reference_cost=1.0)


@pytest.mark.parametrize("reference", [0.0, -1.0, math.nan, math.inf])
def test_refuses_a_reference_that_is_none(reference: float) -> None:
    with pytest.raises(ValueError, match="reference_cost"):
        hypervolume([(0.5, 1.0)], reference_cost=reference)
