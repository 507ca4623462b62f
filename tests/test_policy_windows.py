"""What the policies decide: limits, hysteresis, dwell, percentiles, and the words for it."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbon_nas import plugins
from carbon_nas.errors import ConfigurationError
from carbon_nas.interfaces import Policy
from carbon_nas.model import Decision, GridState, GridView, Quality, Situation, Window
from carbon_nas.testing.policies import HOUR, NOW, grid, reading

CLEAN, DIRTY = Window.CLEAN, Window.DIRTY
LONG_AGO = timedelta(days=1)


def make(name: str, **options: object) -> Policy:
    return plugins.build("policies", name, options, key="policy")


def situation(view: GridView, previous: Window | None = None, ago: timedelta = LONG_AGO) -> Situation:
    decision = None if previous is None else Decision(0, 4, previous, "before")
    return Situation(NOW, view, 4, previous=decision, window_since=None if previous is None else NOW - ago)


@pytest.mark.parametrize(
    ("grams", "previous", "expected"),
    [
        (149.0, None, CLEAN),
        (150.0, None, DIRTY),
        (199.0, DIRTY, DIRTY),
        (149.0, DIRTY, CLEAN),
        (200.0, CLEAN, CLEAN),
        (200.1, CLEAN, DIRTY),
    ],
)
def test_threshold_has_hysteresis(grams: float, previous: Window | None, expected: Window) -> None:
    policy = make("threshold", clean_below=150, dirty_above=200)
    assert policy.decide(situation(grid(grams), previous)).window is expected


@pytest.mark.parametrize("name", ["threshold", "percentile"])
@pytest.mark.parametrize(("minutes", "changes"), [(0, False), (29, False), (30, True)])
@pytest.mark.parametrize("previous", list(Window))
def test_a_window_lasts_its_minimum_dwell(name: str, minutes: int, changes: bool, previous: Window) -> None:
    history = tuple(float(value) for value in range(100, 300))
    extreme = 2000.0 if previous is CLEAN else 1.0
    decision = make(name).decide(situation(grid(extreme, history), previous, timedelta(minutes=minutes)))
    assert (decision.window is not previous) == changes
    assert ("at least" in decision.reason) == (not changes)


@pytest.mark.parametrize("name", ["threshold", "percentile"])
def test_dwell_never_keeps_an_unknown_hour_clean(name: str) -> None:
    decision = make(name).decide(situation(grid(None, (100.0,) * 48), CLEAN, timedelta(0)))
    assert decision.window is DIRTY
    assert "treated as dirty" in decision.reason


def test_windows_give_their_slots() -> None:
    policy = make("threshold", clean_below=150, dirty_above=200)
    clean, dirty = policy.decide(situation(grid(100.0))), policy.decide(situation(grid(300.0)))
    assert (clean.train_slots, clean.score_slots) == (4, 4)
    assert (dirty.train_slots, dirty.score_slots) == (0, 4)


def test_always_trains_and_says_that_it_is_blind() -> None:
    for view in (grid(1999.0), grid(None)):
        decision = make("always").decide(situation(view))
        assert (decision.window, decision.train_slots) == (CLEAN, 4)
        assert "carbon-blind" in decision.reason


WEEK = tuple(float(hour) for hour in range(1, 169))  # 1 to 168 g/kWh: the share below v is (v - 1) / 168


@pytest.mark.parametrize(
    ("grams", "previous", "expected", "words"),
    [
        (68.0, None, CLEAN, "68 g/kWh is at the 39th percentile of the last 7 days (clean below the 40th)"),
        (69.0, None, DIRTY, "69 g/kWh is at the 40th percentile of the last 7 days (clean below the 40th)"),
        (84.0, CLEAN, CLEAN, "84 g/kWh is at the 49th percentile of the last 7 days (dirty from the 50th)"),
        (85.0, CLEAN, DIRTY, "85 g/kWh is at the 50th percentile of the last 7 days (dirty from the 50th)"),
        (3.0, DIRTY, CLEAN, "3 g/kWh is at the 1st percentile of the last 7 days (clean below the 40th)"),
        (20.0, DIRTY, CLEAN, "20 g/kWh is at the 11th percentile of the last 7 days (clean below the 40th)"),
    ],
)
def test_percentile_compares_with_the_last_week(
    grams: float, previous: Window | None, expected: Window, words: str
) -> None:
    decision = make("percentile").decide(situation(grid(grams, WEEK), previous))
    assert decision.window is expected
    assert decision.reason == words


def test_percentile_forgets_what_is_older_than_its_history() -> None:
    history = (1.0,) * 100 + (500.0,) * 48
    recent, longer = (
        make("percentile", history_days=days).decide(situation(grid(300.0, history))) for days in (2, 7)
    )
    assert (recent.window, longer.window) == (CLEAN, DIRTY)


def test_percentile_weighs_time_not_rows() -> None:
    hour = NOW.replace(minute=0)
    quarter = timedelta(minutes=15)
    many_short = tuple(reading(hour - HOUR * 30 + quarter * n, 100.0, step=quarter) for n in range(16))
    few_long = tuple(reading(hour - HOUR * (20 - n), 300.0) for n in range(20))
    view = GridView("XX", NOW, GridState.FRESH, reading(hour, 200.0), many_short + few_long)
    decision = make("percentile").decide(situation(view))
    assert "16th percentile" in decision.reason  # 4 of 24 hours, though 16 of 36 rows


def test_percentile_with_little_history_says_so() -> None:
    decision = make("percentile").decide(situation(grid(100.0, (150.0,) * 23)))
    assert decision.window is CLEAN
    assert "of the last 23.0 hours known" in decision.reason


def test_percentile_without_history_is_dirty() -> None:
    assert make("percentile").decide(situation(grid(1.0))).window is DIRTY


def test_the_present_hour_is_not_its_own_history() -> None:
    view = grid(50.0)
    assert view.current is not None
    decision = make("percentile").decide(situation(replace(view, history=(view.current,))))
    assert decision.window is DIRTY
    assert "no history" in decision.reason


def test_a_flat_grid_is_not_worth_waiting_for() -> None:
    assert make("percentile").decide(situation(grid(30.0, (30.0,) * 168))).window is CLEAN


@pytest.mark.parametrize("name", ["threshold", "percentile", "always"])
@pytest.mark.parametrize(
    ("quality", "words"), [(Quality.STALE, "stale"), (Quality.FORECAST, "forecast"), (Quality.ACTUAL, None)]
)
def test_the_reason_says_how_far_the_value_can_be_trusted(
    name: str, quality: Quality, words: str | None
) -> None:
    view = grid(100.0, WEEK)
    assert view.current is not None
    reason = (
        make(name).decide(situation(replace(view, current=replace(view.current, quality=quality)))).reason
    )
    assert [word for word in ("stale", "forecast") if word in reason] == ([words] if words else [])


@pytest.mark.parametrize(
    ("name", "options", "key"),
    [
        ("threshold", {"clean_below": 300, "dirty_above": 200}, "policy.threshold"),
        ("threshold", {"clean_below": 0}, "policy.threshold.clean_below"),
        ("threshold", {"clean_bellow": 100}, "policy.threshold.clean_bellow"),
        ("percentile", {"percentile": 101}, "policy.percentile.percentile"),
        ("percentile", {"percentile": 95}, "policy.percentile"),
        ("percentile", {"minimum_dwell_minutes": -1}, "policy.percentile.minimum_dwell_minutes"),
        ("percentile", {"percentile": "low"}, "policy.percentile.percentile"),
        ("always", {"slots": 1}, "policy.always.slots"),
    ],
)
def test_wrong_options_are_refused_by_key(name: str, options: dict[str, object], key: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        make(name, **options)
    assert caught.value.key == key


intensities = st.floats(0.1, 2000)


@given(st.lists(intensities, min_size=24, max_size=60), intensities, intensities)
def test_percentile_is_monotone(history: list[float], one: float, other: float) -> None:
    low, high = sorted((one, other))
    policy = make("percentile")
    decisions = [policy.decide(situation(grid(value, tuple(history)))).window for value in (low, high)]
    assert decisions != [DIRTY, CLEAN]
