"""The timeline's invariants, against a minute-by-minute model that is too simple to be wrong."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbon_nas.grid.timeline import Timeline, hours, mean_grams_per_kwh, quantile_grams_per_kwh
from carbon_nas.model import Basis, Quality, Reading, Signal

START = datetime(2023, 3, 26, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
RANK = [Quality.ACTUAL, Quality.ESTIMATED, Quality.FORECAST]


def reading(
    start: int, length: int, grams: float = 100.0, quality: Quality = Quality.ACTUAL, fetched: int = 0
) -> Reading:
    """Make a reading; times in minutes since START."""
    return Reading(
        zone="XX",
        start=START + start * MINUTE,
        end=START + (start + length) * MINUTE,
        grams_per_kwh=grams,
        quality=quality,
        signal=Signal.AVERAGE,
        basis=Basis.DIRECT,
        provider="test",
        fetched_at=START + fetched * MINUTE,
    )


readings = st.builds(
    reading,
    st.integers(0, 40),
    st.integers(1, 15),
    st.sampled_from([50.0, 100.0, 150.0]),
    st.sampled_from(RANK),
    st.integers(0, 3),
)


def wins(new: Reading, old: Reading) -> bool:
    better = RANK.index(new.quality) - RANK.index(old.quality)
    return better < 0 or (better == 0 and new.fetched_at >= old.fetched_at)


@given(st.lists(readings, max_size=20))
def test_each_minute_shows_the_best_and_newest(given_: list[Reading]) -> None:
    timeline = Timeline()
    model: dict[datetime, Reading] = {}
    for new in given_:
        timeline.put(new)
        for minute in range(60):
            when = START + minute * MINUTE
            if new.covers(when) and (when not in model or wins(new, model[when])):
                model[when] = new
    for minute in range(60):
        when = START + minute * MINUTE
        shown, expected = timeline.at(when), model.get(when)
        assert (shown is None) == (expected is None)
        if shown is not None and expected is not None:
            assert (shown.grams_per_kwh, shown.quality) == (expected.grams_per_kwh, expected.quality)
    assert all(before.end <= after.start for before, after in pairwise(timeline))


@given(st.lists(readings, max_size=20))
def test_what_is_new_is_told_once(given_: list[Reading]) -> None:
    timeline = Timeline()
    for new in given_:
        parts = timeline.put(new)
        for part in parts:
            shown = timeline.at(part.start)
            assert shown is not None
            assert replace(shown, start=part.start, end=part.end) == part
            assert shown.end >= part.end
        before = list(timeline)
        assert timeline.put(new) == []
        assert list(timeline) == before


@given(st.lists(readings, min_size=1, max_size=12))
def test_replaying_the_news_gives_the_same_timeline(given_: list[Reading]) -> None:
    timeline, copy = Timeline(), Timeline()
    news = [part for new in given_ for part in timeline.put(new)]
    for part in news:
        copy.put(part)
    shown = [
        [(r.grams_per_kwh, r.quality) if r else None for r in (one.at(START + m * MINUTE) for m in range(60))]
        for one in (timeline, copy)
    ]
    assert shown[0] == shown[1]


def test_a_repeated_reading_is_no_news() -> None:
    timeline = Timeline()
    assert timeline.put(reading(0, 30)) == [reading(0, 30)]
    assert timeline.put(reading(0, 30, fetched=5)) == []


def test_a_revision_is_news() -> None:
    timeline = Timeline()
    timeline.put(reading(0, 30))
    revised = reading(0, 30, 120.0, fetched=5)
    assert timeline.put(revised) == [revised]
    assert timeline.put(reading(0, 30, 100.0, fetched=4)) == []
    assert list(timeline) == [revised]


def test_a_forecast_gives_way_to_the_truth_and_not_the_other_way() -> None:
    timeline = Timeline()
    timeline.put(reading(0, 30, 90.0, Quality.FORECAST))
    truth = reading(0, 30, 100.0, Quality.ACTUAL, fetched=40)
    timeline.put(truth)
    assert timeline.put(reading(0, 30, 80.0, Quality.FORECAST, fetched=50)) == []
    assert list(timeline) == [truth]


def test_steps_of_different_length_share_the_time() -> None:
    timeline = Timeline()
    timeline.put(reading(0, 60, 200.0))
    timeline.put(reading(15, 30, 100.0, fetched=1))
    assert [(r.start - START, r.grams_per_kwh) for r in timeline] == [
        (0 * MINUTE, 200.0),
        (15 * MINUTE, 100.0),
        (45 * MINUTE, 200.0),
    ]


def test_looking_around() -> None:
    timeline = Timeline()
    for start in (0, 30, 90):
        timeline.put(reading(start, 30))
    at = START + 75 * MINUTE
    assert timeline.at(at) is None
    assert timeline.last_begun(at) == reading(30, 30)
    assert timeline.next_start(at) == START + 90 * MINUTE
    assert timeline.last_begun(START - MINUTE) is None
    assert timeline.next_start(START + 90 * MINUTE) is None
    assert timeline.between(START + 30 * MINUTE, at) == (reading(30, 30),)
    assert timeline.between(START + 29 * MINUTE, START + 90 * MINUTE) == tuple(timeline)
    timeline.forget_before(START + 60 * MINUTE)
    assert list(timeline) == [reading(90, 30)]
    timeline.keep(lambda one: one.zone != "XX")
    assert len(timeline) == 0


@given(st.lists(st.tuples(st.integers(1, 10), st.integers(1, 2000)), min_size=1, max_size=20))
def test_statistics_are_over_time(pieces: list[tuple[int, int]]) -> None:
    given_ = [reading(100 * index, length, float(grams)) for index, (length, grams) in enumerate(pieces)]
    minutes = sorted(float(grams) for length, grams in pieces for _ in range(length))
    assert mean_grams_per_kwh(given_) == pytest.approx(sum(minutes) / len(minutes))
    assert hours(given_) == pytest.approx(len(minutes) / 60)
    for share in (0.0, 0.25, 0.5, 0.95, 1.0):
        value = quantile_grams_per_kwh(given_, share)
        assert value is not None
        at_or_below = sum(minute <= value for minute in minutes)
        below = sum(minute < value for minute in minutes)
        assert at_or_below >= share * len(minutes) - 1e-9
        assert below <= share * len(minutes) + 1e-9


def test_statistics_of_nothing_are_none() -> None:
    assert mean_grams_per_kwh([]) is None
    assert quantile_grams_per_kwh([], 0.95) is None
    assert hours([]) == 0


def test_a_partial_cut_keeps_everything_but_the_interval() -> None:
    timeline = Timeline()
    old = reading(0, 60, 200.0, Quality.ESTIMATED)
    timeline.put(old)
    timeline.put(reading(30, 60, 100.0))
    assert timeline.at(START) == replace(old, end=START + 30 * MINUTE)
