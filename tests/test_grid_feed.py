"""The feed: whom it asks and when, what it believes, and what it says of hours that nobody knows."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carbon_nas import plugins
from carbon_nas.clock import SimulatedClock
from carbon_nas.errors import (
    AccessDenied,
    BadData,
    ConfigurationError,
    NoData,
    RateLimited,
    Unavailable,
)
from carbon_nas.grid import sources
from carbon_nas.grid.feed import COAL_GRAMS_PER_KWH, Feed, FeedSettings
from carbon_nas.grid.missing import RunWhenUnknown
from carbon_nas.model import (
    Basis,
    Capabilities,
    GridState,
    GridView,
    Quality,
    Reading,
    Signal,
    Situation,
    Window,
)

NOW = datetime(2023, 3, 26, 0, 0, tzinfo=UTC)  # a night of 23 hours in Britain
STEP = timedelta(minutes=30)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


class Scripted:
    """A provider that says what it is told to say, an error included."""

    Options: ClassVar[type] = object

    def __init__(self, clock: SimulatedClock, *, name: str = "first", basis: Basis = Basis.DIRECT) -> None:
        self.clock = clock
        self.name = name
        self.basis = basis
        self.present: float | Reading | Exception = 100.0
        self.past: float | Sequence[Reading] | Exception = 100.0
        self.ahead: float | Sequence[Reading] | Exception = 100.0
        self.lag = timedelta(0)
        self.asked: list[str] = []

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(Signal.AVERAGE, self.basis, STEP, True, True, "", "", lag=self.lag)

    def reading(
        self,
        start: datetime,
        grams: float = 100.0,
        quality: Quality = Quality.ACTUAL,
        zone: str = "XX",
        step: timedelta = STEP,
    ) -> Reading:
        return Reading(
            zone, start, start + step, grams, quality, Signal.AVERAGE, self.basis, self.name, self.clock.now()
        )

    async def start(self, zone: str) -> None:
        if zone == "XX-NOWHERE":
            raise ConfigurationError("unknown zone", key="zone")

    async def latest(self, zone: str) -> Reading:
        self.asked.append("latest")
        if isinstance(self.present, Exception):
            raise self.present
        if isinstance(self.present, Reading):
            return self.present
        return self.reading(floor(self.clock.now()), self.present)

    async def history(self, zone: str, start: datetime, end: datetime) -> Sequence[Reading]:
        self.asked.append("history")
        first = floor(start) if floor(start) == start else floor(start) + STEP
        return self.series(self.past, first, (floor(end) - first) // STEP, Quality.ACTUAL)

    async def forecast(self, zone: str, until: datetime) -> Sequence[Reading]:
        self.asked.append("forecast")
        first = floor(self.clock.now()) + STEP
        return self.series(self.ahead, first, (floor(until) - first) // STEP, Quality.FORECAST)

    def series(
        self, script: float | Sequence[Reading] | Exception, first: datetime, count: int, quality: Quality
    ) -> Sequence[Reading]:
        if isinstance(script, Exception):
            raise script
        if isinstance(script, float):
            return [self.reading(first + index * STEP, script, quality) for index in range(count)]
        return script

    def fail(self, error: Exception) -> None:
        self.present = self.past = self.ahead = error


def floor(when: datetime) -> datetime:
    return when.replace(minute=when.minute // 30 * 30, second=0, microsecond=0)


def make(
    *providers: Scripted, clock: SimulatedClock | None = None, start: bool = True, **changes: object
) -> Feed:
    named = {provider.name: provider for provider in providers}
    feed = Feed(clock or providers[0].clock, "XX", named, FeedSettings(**changes))
    if start:
        asyncio.run(feed.start())
    return feed


def refresh(feed: Feed) -> None:
    asyncio.run(feed.refresh())


@pytest.fixture
def clock() -> SimulatedClock:
    return SimulatedClock(NOW)


@pytest.fixture
def first(clock: SimulatedClock) -> Scripted:
    return Scripted(clock)


@pytest.fixture
def second(clock: SimulatedClock) -> Scripted:
    return Scripted(clock, name="second")


# --- whom it asks, and when ---


def test_the_start_loads_the_past_the_present_and_the_forecast(first: Scripted) -> None:
    view = make(first).view(NOW)
    assert view.state is GridState.FRESH
    assert view.current is not None
    assert view.current.covers(NOW)
    assert len(view.history) == 7 * 48 + 1
    assert view.history[0].start == NOW - 7 * DAY
    assert len(view.forecast) == 95
    assert view.forecast[0].start == NOW + STEP


def test_it_asks_only_when_the_poll_is_due(first: Scripted, clock: SimulatedClock) -> None:
    feed = make(first)
    first.asked.clear()
    for _ in range(4):
        clock.advance(MINUTE)
        refresh(feed)
    assert first.asked == []
    clock.advance(MINUTE)
    refresh(feed)
    assert first.asked == ["latest"]


def test_it_asks_when_the_present_reading_ends(first: Scripted, clock: SimulatedClock) -> None:
    clock.advance(28 * MINUTE)
    feed = make(first)
    first.asked.clear()
    clock.advance(2 * MINUTE)
    refresh(feed)
    assert first.asked == ["history", "latest"]
    assert feed.view(clock.now()).state is GridState.FRESH


def test_the_forecast_is_asked_for_again_every_half_hour(first: Scripted, clock: SimulatedClock) -> None:
    feed = make(first)
    first.asked.clear()
    for _ in range(60):
        clock.advance(2 * MINUTE)
        refresh(feed)
    assert first.asked.count("forecast") == 4
    assert first.asked.count("latest") == pytest.approx(120 / 6, abs=4)


def test_the_next_provider_answers_where_the_first_does_not(
    first: Scripted, second: Scripted, clock: SimulatedClock
) -> None:
    first.fail(Unavailable("down"))
    second.present = 77.0
    feed = make(first, second)
    view = feed.view(NOW)
    assert view.current is not None
    assert (view.current.provider, view.current.grams_per_kwh) == ("second", 77.0)
    assert feed.outcomes["first", "unavailable"] == 1  # then it is left alone
    assert feed.outcomes["second", "ok"] == 3
    assert feed.last_success == NOW
    assert feed.last_error.endswith("Z first: down")


@pytest.mark.parametrize(
    ("error", "outcome", "again_after_seconds"),
    [
        (NoData("none"), "no_data", 300),
        (BadData("bad"), "bad_data", 300),
        (Unavailable("down"), "unavailable", 300),
        (RateLimited("slow down", 1500), "rate_limited", 1500),
        (RateLimited("slow down", 1), "rate_limited", 300),
        (AccessDenied("no key"), "access_denied", 3600),
        (KeyError("a defect of its own"), "defect", 300),
        (TimeoutError(), "unavailable", 300),
    ],
)
def test_a_failing_provider_is_left_alone_as_long_as_its_error_says(
    first: Scripted, clock: SimulatedClock, error: Exception, outcome: str, again_after_seconds: int
) -> None:
    feed = make(first)
    first.fail(error)
    clock.advance(300 * timedelta(seconds=1))
    first.asked.clear()
    refresh(feed)
    assert feed.outcomes["first", outcome] == len(first.asked) >= 1
    first.asked.clear()
    waited = 0
    while not first.asked:
        clock.advance(timedelta(seconds=60))
        waited += 60
        refresh(feed)
    assert waited == again_after_seconds


def test_repeated_failures_are_asked_after_ever_longer(first: Scripted, clock: SimulatedClock) -> None:
    first.fail(Unavailable("down"))
    feed = make(first)
    asked_at = []
    for minute in range(1, 360):
        clock.advance(MINUTE)
        first.asked.clear()
        refresh(feed)
        asked_at += [minute] if first.asked else []
    waits = [later - sooner for sooner, later in zip([0, *asked_at], asked_at, strict=False)]
    assert waits[:4] == [5, 10, 20, 40]
    assert set(waits[4:]) == {60}
    first.present = first.past = first.ahead = 100.0
    clock.advance(HOUR)
    refresh(feed)
    assert feed.view(clock.now()).state is GridState.FRESH


def test_a_provider_that_hangs_is_given_up(
    first: Scripted, second: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hang(zone: str) -> Reading:
        return await asyncio.get_running_loop().create_future()

    monkeypatch.setattr(sources, "ANSWER_SECONDS", 0.01)
    monkeypatch.setattr(first, "latest", hang)
    view = make(first, second).view(NOW)
    assert view.current is not None
    assert view.current.provider == "second"


def test_concurrent_refreshes_ask_once(first: Scripted, clock: SimulatedClock) -> None:
    feed = make(first)
    first.asked.clear()
    clock.advance(10 * MINUTE)

    async def both() -> None:
        await asyncio.gather(feed.refresh(), feed.refresh())

    asyncio.run(both())
    assert first.asked.count("latest") == 1


def test_different_emissions_are_never_mixed(first: Scripted, clock: SimulatedClock) -> None:
    other = Scripted(clock, name="second", basis=Basis.LIFECYCLE)
    with pytest.raises(ConfigurationError, match="'second' gives average lifecycle emissions but 'first'"):
        make(first, other)


def test_no_provider_and_an_unknown_zone_are_refused(first: Scripted, clock: SimulatedClock) -> None:
    with pytest.raises(ConfigurationError, match="no provider"):
        make(clock=clock)
    feed = Feed(clock, "XX-NOWHERE", {"first": first}, FeedSettings())
    with pytest.raises(ConfigurationError, match="unknown zone"):
        asyncio.run(feed.start())


@pytest.mark.parametrize(
    "changes", [{"poll_seconds": 0}, {"max_stale_seconds": -1}, {"fallback_grams_per_kwh": 0}]
)
def test_settings_must_be_above_zero(changes: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(changes))} must be above zero"):
        FeedSettings(**changes)


# --- what it believes ---


@pytest.mark.parametrize(
    ("start", "changes"),
    [
        (NOW, {"zone": "YY"}),
        (NOW + STEP, {}),
        (NOW, {"quality": Quality.STALE}),
        (NOW, {"quality": Quality.FALLBACK}),
    ],
)
def test_an_answer_that_is_not_credible_is_not_used(
    first: Scripted, second: Scripted, start: datetime, changes: dict[str, object]
) -> None:
    first.present = first.reading(start, 1.0, **changes)  # type: ignore[arg-type]
    feed = make(first, second)
    view = feed.view(NOW)
    assert view.current is not None
    assert view.current.provider == "second"
    assert feed.outcomes["first", "bad_data"] == 1
    assert all(reading.grams_per_kwh == 100.0 for reading in feed.new_readings())


@pytest.mark.parametrize("starts", [(0, 0), (1, 0), (0, 15)])
def test_history_out_of_order_or_overlapping_is_not_used(first: Scripted, starts: tuple[int, int]) -> None:
    first.past = [first.reading(NOW - DAY + minutes * MINUTE, 1.0) for minutes in starts]
    feed = make(first)
    assert feed.outcomes["first", "bad_data"] == 1
    assert [reading.start for reading in feed.new_readings()] == [NOW]


def test_another_basis_than_declared_is_not_used(first: Scripted, clock: SimulatedClock) -> None:
    first.present = Scripted(clock, basis=Basis.LIFECYCLE).reading(NOW, 1.0)
    first.ahead = NoData("none")
    assert make(first).view(NOW).state is GridState.STALE  # carried from the half hour before


def test_a_newest_reading_that_is_too_old_lets_the_next_provider_speak(
    first: Scripted, second: Scripted
) -> None:
    first.present = first.reading(NOW - 5 * HOUR)
    feed = make(first, second)
    view = feed.view(NOW)
    assert view.current is not None
    assert view.current.provider == "second"
    assert feed.outcomes["first", "no_data"] == 1


def test_a_forecast_gives_way_to_the_actual_value_and_is_reported(
    first: Scripted, clock: SimulatedClock
) -> None:
    first.present = first.reading(NOW, 90.0, Quality.FORECAST)
    feed = make(first)
    assert feed.new_readings()[-1].grams_per_kwh == 90.0
    first.present = 100.0
    first.past = [first.reading(NOW, 120.0)]
    clock.advance(35 * MINUTE)
    refresh(feed)
    news = feed.new_readings()
    assert [(r.start, r.grams_per_kwh, r.quality) for r in news] == [
        (NOW, 120.0, Quality.ACTUAL),
        (NOW + STEP, 100.0, Quality.ACTUAL),
    ]
    assert feed.intensity_at(NOW).grams_per_kwh == 120.0
    assert feed.new_readings() == []


def test_late_revisions_are_found_and_reported(first: Scripted, clock: SimulatedClock) -> None:
    feed = make(first)
    feed.new_readings()
    first.past = 111.0
    clock.advance(7 * HOUR)
    refresh(feed)
    revised = [reading for reading in feed.new_readings() if reading.start < NOW]
    assert {reading.grams_per_kwh for reading in revised} == {111.0}
    assert len(revised) == 41 * 2  # of the last 48 hours, 7 are later than NOW


def test_a_gap_is_filled_when_the_provider_is_back(first: Scripted, clock: SimulatedClock) -> None:
    feed = make(first)
    first.fail(Unavailable("down"))
    clock.advance(HOUR)
    refresh(feed)
    clock.advance(3 * DAY)
    first.present = first.past = first.ahead = 100.0
    refresh(feed)
    history = feed.view(clock.now()).history
    assert all(after.start == before.end for before, after in pairwise(history))
    assert history[-1].covers(clock.now())


def test_readings_of_before_a_restart_are_not_news(first: Scripted, clock: SimulatedClock) -> None:
    known = make(first).new_readings()
    assert len(known) == 7 * 48 + 1
    again = make(first, start=False)
    again.preload(known)
    asyncio.run(again.start())
    assert again.new_readings() == []


def test_readings_of_before_a_restart_stand_in_for_a_silent_provider(first: Scripted) -> None:
    known = make(first).new_readings()
    first.fail(Unavailable("down"))
    again = make(first, start=False)
    again.preload(known)
    asyncio.run(again.start())
    assert again.view(NOW).state is GridState.FRESH


def test_readings_of_another_configuration_are_dropped(first: Scripted, clock: SimulatedClock) -> None:
    other = Scripted(clock, basis=Basis.LIFECYCLE)
    known = [other.reading(NOW), first.reading(NOW, zone="YY"), first.reading(NOW, quality=Quality.STALE)]
    for one in known:
        first.fail(Unavailable("down"))
        feed = make(first, start=False)
        feed.preload([one])
        asyncio.run(feed.start())
        assert feed.view(NOW).state is GridState.FAILED


def test_memory_is_bounded(first: Scripted, clock: SimulatedClock) -> None:
    feed = make(first)
    sizes = []
    for _ in range(30):
        clock.advance(DAY)
        refresh(feed)
        feed.new_readings()
        sizes.append((len(feed._known), len(feed._expected)))
    assert max(known for known, _ in sizes) <= 7 * 48 + 8
    assert max(expected for _, expected in sizes) <= 9 * 48 + 8


# --- what it says of hours that nobody knows ---


def test_fresh_then_stale_then_degraded(first: Scripted, clock: SimulatedClock) -> None:
    first.ahead = NoData("no forecast")
    feed = make(first)
    first.fail(Unavailable("down"))
    seen = []
    for _ in range(10):
        refresh(feed)
        view = feed.view(clock.now())
        seen.append((view.state, view.current.quality if view.current else None))
        clock.advance(STEP)
    fresh, stale = (GridState.FRESH, Quality.ACTUAL), (GridState.STALE, Quality.STALE)
    assert seen == [fresh] + [stale] * 6 + [(GridState.DEGRADED, None)] * 3


def test_a_reading_no_older_than_the_usual_lag_is_fresh(first: Scripted, clock: SimulatedClock) -> None:
    first.ahead = NoData("no forecast")
    first.lag = timedelta(minutes=90)
    feed = make(first)
    first.fail(Unavailable("down"))
    seen = []
    for _ in range(6):
        refresh(feed)
        seen.append(feed.view(clock.now()).state)
        clock.advance(STEP)
    assert seen == [GridState.FRESH] * 4 + [GridState.STALE] * 2


def test_a_static_value_stands_in_where_the_user_declared_one(first: Scripted, clock: SimulatedClock) -> None:
    first.fail(Unavailable("down"))
    feed = make(first, on_missing="use_static", static_grams_per_kwh=333.0)
    view = feed.view(NOW)
    assert view.state is GridState.FAILED
    assert view.current is not None
    assert (view.current.grams_per_kwh, view.current.quality) == (333.0, Quality.FALLBACK)
    assert feed.intensity_at(NOW).grams_per_kwh == 333.0


def test_a_static_value_must_be_given() -> None:
    with pytest.raises(ValueError, match="needs static_grams_per_kwh"):
        FeedSettings(on_missing="use_static")


def test_work_may_run_while_nothing_is_known_but_the_hour_is_not_called_clean() -> None:
    threshold = plugins.build("policies", "threshold", {}, key="policy")
    view = GridView("XX", NOW, GridState.FAILED, None)
    decision = RunWhenUnknown(threshold).decide(Situation(NOW, view, 3))
    assert (decision.train_slots, decision.window) == (3, Window.DIRTY)
    assert "run regardless" in decision.reason


@pytest.mark.parametrize(("value", "believed"), [(15.0, False), (90.0, True), (250.0, True), (900.0, False)])
def test_a_value_far_outside_the_last_days_is_refused(
    first: Scripted, clock: SimulatedClock, value: float, believed: bool
) -> None:
    first.past = [first.reading(NOW - n * STEP, 100.0 + n % 50) for n in range(7 * 48, 0, -1)]
    first.present = first.reading(NOW, value)
    first.ahead = NoData("none")
    feed = make(first)
    assert (feed.intensity_at(NOW).grams_per_kwh == value) is believed
    assert (feed.outcomes["first", "implausible"] == 0) is believed


def test_a_forecast_of_now_stands_in_for_a_reading(first: Scripted, clock: SimulatedClock) -> None:
    first.ahead = 140.0
    feed = make(first)
    first.fail(Unavailable("down"))
    clock.advance(20 * HOUR)
    refresh(feed)
    view = feed.view(clock.now())
    assert view.current is not None
    assert (view.state, view.current.quality) == (GridState.STALE, Quality.FORECAST)
    assert view.current.grams_per_kwh == 140.0
    clock.advance(30 * HOUR)
    assert feed.view(clock.now()).state is GridState.DEGRADED


def test_the_fallback_is_the_95th_percentile_of_what_is_known(first: Scripted, clock: SimulatedClock) -> None:
    values = [float(100 + index) for index in range(99)]
    first.past = [first.reading(NOW - (99 - index) * STEP, value) for index, value in enumerate(values)]
    first.ahead = NoData("none")
    first.present = 100.0  # so that 100 half hours are known
    feed = make(first)
    later = feed.intensity_at(NOW + 2 * DAY)
    assert (later.quality, later.provider) == (Quality.FALLBACK, "fallback")
    ordered = sorted([*values, 100.0])
    assert later.grams_per_kwh == ordered[94]


def test_with_less_than_a_day_known_the_fallback_is_the_stated_constant(first: Scripted) -> None:
    first.fail(NoData("none"))
    first.present = 5.0
    assert make(first).intensity_at(NOW + DAY).grams_per_kwh == COAL_GRAMS_PER_KWH == 820.0
    feed = make(first, fallback_grams_per_kwh=600.0)
    assert feed.intensity_at(NOW + DAY).grams_per_kwh == 600.0
    assert feed.reference_grams_per_kwh(NOW) == 5.0


def test_the_reference_is_the_mean_of_the_week(first: Scripted) -> None:
    first.past = [first.reading(NOW - (48 - index) * STEP, float(index + 1)) for index in range(48)]
    first.present = 500.0
    feed = make(first)
    assert feed.reference_grams_per_kwh(NOW) == pytest.approx((sum(range(1, 49)) + 500) / 49)


def test_the_reference_of_an_unknown_grid_is_never_zero(first: Scripted) -> None:
    first.fail(NoData("none"))
    assert make(first).reference_grams_per_kwh(NOW) == COAL_GRAMS_PER_KWH


def test_the_view_does_not_see_the_future(clock: SimulatedClock) -> None:
    clock.advance(90 * DAY)
    replay = plugins.build("providers", "csv", {"trace": "gb-2023-30min"}, key="grid", clock=clock, http=None)
    feed = Feed(clock, "GB", {"csv": replay}, FeedSettings())
    asyncio.run(feed.start())
    earlier = clock.now() - DAY
    view = feed.view(earlier)
    assert all(reading.start <= earlier for reading in view.history)
    assert all(point.start > earlier for point in view.forecast)


@st.composite
def answers(draw: st.DrawFn) -> object:
    """What a provider may say at one poll: a value, a lagging reading, or any kind of failure."""
    return draw(
        st.one_of(
            st.floats(1, 2000),
            st.tuples(st.floats(1, 2000), st.integers(0, 10)),
            st.sampled_from(
                [NoData("n"), BadData("b"), Unavailable("u"), RateLimited("r", 900.0), ValueError("v")]
            ),
        )
    )


def say(provider: Scripted, answer: object) -> None:
    match answer:
        case float():
            provider.present = answer
        case (float() as grams, int() as steps):
            provider.present = provider.reading(floor(provider.clock.now()) - steps * STEP, grams)
        case Exception():
            provider.present = answer
    provider.past = provider.ahead = answer if isinstance(answer, Exception) else NoData("none")


scripts = st.lists(st.tuples(answers(), st.integers(1, 300)), min_size=1, max_size=25)


@settings(max_examples=60, deadline=None)
@given(scripts)
def test_a_missing_value_is_never_clean(script: list[tuple[object, int]]) -> None:
    clock = SimulatedClock(NOW)
    provider = Scripted(clock)
    feed = make(provider, start=False)
    policies = [plugins.build("policies", name, {}, key="policy") for name in ("threshold", "percentile")]
    newest = None  # the end of the newest interval that anybody has vouched for
    for turn, (answer, minutes) in enumerate(script):
        say(provider, answer)
        asyncio.run(feed.start() if turn == 0 else feed.refresh())
        for reading in feed.new_readings():
            newest = max(newest or reading.end, reading.end)
        clock.advance(minutes * MINUTE)
        now = clock.now()
        view = feed.view(now)
        known = newest is not None and now < newest + feed.settings.max_stale
        assert (view.state in {GridState.DEGRADED, GridState.FAILED}) == (not known)
        assert (view.state is GridState.FAILED) <= (newest is None)
        if not known:
            for policy in policies:
                decision = policy.decide(Situation(now, view, 2))
                assert decision.window is Window.DIRTY
                assert decision.train_slots == 0
        present = feed.intensity_at(now)
        assert present.covers(now)
        assert present.grams_per_kwh > 0
        assert present.quality is not Quality.FALLBACK or not known


def pieces(feed: Feed, start: datetime, end: datetime) -> list[Reading]:
    """Split an interval at the bounds of the intensities valid in it, as the ledger does."""
    found = []
    while start < end:
        piece = feed.intensity_at(start)
        found.append(piece)
        start = piece.end
    return found


starts = st.lists(st.integers(0, 24), max_size=12, unique=True)  # close, so that they often meet


@settings(max_examples=100, deadline=None)
@given(starts, starts, st.sampled_from([30, 60]), st.integers(-200, 1600), st.integers(1, 1500))
def test_intensities_tile_any_interval(
    known: list[int], expected: list[int], expected_minutes: int, begin: int, length: int
) -> None:
    clock = SimulatedClock(NOW + 3 * DAY)
    provider = Scripted(clock)
    provider.present = NoData("none")
    provider.past = [provider.reading(NOW + index * STEP, 100.0 + index) for index in sorted(known)]
    step = timedelta(minutes=expected_minutes)
    provider.ahead = [
        provider.reading(NOW + index * step, 50.0, Quality.FORECAST, step=step) for index in sorted(expected)
    ]
    feed = make(provider)
    begins, ends = NOW + begin * MINUTE, NOW + (begin + length) * MINUTE
    tiles = pieces(feed, begins, ends)
    assert tiles[0].start <= begins
    assert tiles[-1].end >= ends
    assert all(after.start == before.end for before, after in pairwise(tiles))
    for tile in tiles:
        assert tile.grams_per_kwh > 0
        assert tile.end - tile.start <= HOUR
        middle = tile.start + (tile.end - tile.start) / 2
        for when in (tile.start, middle, tile.end - timedelta(microseconds=1)):
            assert feed.intensity_at(when) == tile
    for tile in tiles:
        assert (tile.quality, tile.grams_per_kwh) == by_hand(tile.start, known, expected, step)


def by_hand(when: datetime, known: list[int], expected: list[int], step: timedelta) -> tuple[Quality, float]:
    """The order of the feed's answers, from the lists that it was fed."""
    known_ends = {NOW + (index + 1) * STEP: 100.0 + index for index in known}
    for end, grams in known_ends.items():
        if end - STEP <= when < end:
            return Quality.ACTUAL, grams
    if any(NOW + index * step <= when < NOW + (index + 1) * step for index in expected):
        return Quality.FORECAST, 50.0
    ended = [end for end in known_ends if end <= when]
    if ended and when < max(ended) + 3 * HOUR:
        return Quality.STALE, known_ends[max(ended)]
    return Quality.FALLBACK, COAL_GRAMS_PER_KWH
