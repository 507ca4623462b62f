"""The zone's ceiling, against the figures that anybody can compute by hand."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_records import reading

from carbon_nas.grid.ceiling import ceiling

TWO_DAYS = 96  # half hours


def test_the_cleanest_hours_against_all():
    # Three quarters of the time 200 g, one quarter 80 g: a job of a quarter saves 80 against 170.
    history = [reading(n, value=80.0 if n % 4 == 0 else 200.0) for n in range(TWO_DAYS)]
    found = ceiling(history)
    assert found.saved_share == pytest.approx((1 - 80 / 170, 1 - 140 / 170))
    assert str(found).startswith("best case here over the last 2.0 days: 53% using the cleanest 25%")


def test_a_flat_zone_has_nothing_to_save():
    assert ceiling([reading(n, value=490.0) for n in range(TWO_DAYS)]).saved_share == pytest.approx(
        (0.0, 0.0)
    )


def test_longer_intervals_weigh_more():
    short = [reading(n, value=100.0) for n in range(24)]
    long = replace(reading(24, value=300.0), end=reading(24).start + timedelta(hours=36))
    assert ceiling([*short, long], [0.25]).saved_share == pytest.approx((1 - 100 / 250,))


def test_less_than_a_day_tells_nothing():
    assert ceiling([reading(n) for n in range(47)]) is None


@pytest.mark.parametrize("share", [0.0, -0.1, 1.1])
def test_a_share_is_a_share(share):
    with pytest.raises(ValueError, match="shares"):
        ceiling([reading(n) for n in range(TWO_DAYS)], [share])


@given(st.lists(st.floats(1, 1999), min_size=48, max_size=80))
def test_fewer_hours_never_save_less(values):
    found = ceiling([reading(n, value=value) for n, value in enumerate(values)], [0.1, 0.3, 0.6, 1.0])
    assert list(found.saved_share) == sorted(found.saved_share, reverse=True)
    assert found.saved_share[-1] == pytest.approx(0.0, abs=1e-9)
    assert all(-1e-9 <= saved < 1 for saved in found.saved_share)
