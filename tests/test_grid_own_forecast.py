"""Where no provider forecasts, the feed does: from its own history, in a child process."""

import asyncio
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from carbon_nas import plugins
from carbon_nas.clock import SimulatedClock
from carbon_nas.errors import NoData
from carbon_nas.grid.feed import Feed, FeedSettings
from carbon_nas.grid.own_forecast import make
from carbon_nas.model import GridState, Quality

NOW = datetime(2022, 6, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.fixture(scope="module")
def feed() -> Feed:
    """California's feed, whose shipped trace has no forecast."""
    clock = SimulatedClock(NOW)
    options = {"trace": "us-ciso-2021-2022-hourly"}
    provider = plugins.build("providers", "csv", options, key="grid", clock=clock, http=None)
    feed = Feed(clock, "US-CISO", {"csv": provider}, FeedSettings(forecast_history_days=60))
    asyncio.run(feed.start())
    return feed


def test_the_next_two_days_are_forecast_with_bands(feed: Feed) -> None:
    view = feed.view(NOW)
    assert (view.state, view.current.quality) == (GridState.FRESH, Quality.ACTUAL)
    assert [after.start - before.start for before, after in pairwise(view.forecast)] == [HOUR] * 46
    assert view.forecast[0].start == NOW + HOUR
    for point in view.forecast:
        assert point.quality is Quality.FORECAST
        low, high = point.band
        assert 0 < low <= point.grams_per_kwh <= high


def test_it_says_whom_it_believes_and_what_it_cost(feed: Feed) -> None:
    choice = feed.own_forecast.choice
    assert view_names(feed) == {f"forecast:{choice.name}"}
    assert choice.name in choice.reason
    assert choice.recent_mape[choice.name] is not None
    assert feed.own_forecast.cpu_seconds > 0


def view_names(feed: Feed) -> set[str]:
    return {point.provider for point in feed.view(NOW).forecast}


def test_nothing_after_now_is_looked_at(feed: Feed) -> None:
    past = feed.view(NOW).history[:-1]
    one = make(past, NOW, NOW + 24 * HOUR)
    assert all(point.end > NOW and point.start < NOW + 24 * HOUR for point in one.points)
    assert make(past, NOW, NOW + 24 * HOUR).points == one.points  # and there is no chance in it


def test_policies_see_the_days_they_always_saw(feed: Feed) -> None:
    history = feed.view(NOW).history
    assert history[0].end > NOW - timedelta(days=7)
    assert feed.memory == timedelta(days=60)


def test_without_history_there_is_no_forecast(feed: Feed) -> None:
    with pytest.raises(NoData):
        make((), NOW, NOW + HOUR)
    assert asyncio.run(feed.own_forecast.ask((), NOW, NOW + HOUR)) == ()
