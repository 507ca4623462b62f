"""The clocks: none goes back, and a replay goes on over a restart."""

import asyncio
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbon_nas import clock as module
from carbon_nas.clock import ReplayClock, SimulatedClock, SystemClock, monotonic

START = datetime(2023, 1, 10, tzinfo=UTC)
ANCHOR = datetime(2026, 5, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)


class Wall:
    """Stands in for the machine's clock, `datetime`, in the module that alone may ask for it."""

    min = START.min

    def __init__(self, now):
        self.time = now
        self.naps = []

    def now(self, zone):
        return self.time.astimezone(zone)

    async def nap(self, seconds):
        """Stands in for asyncio.sleep."""
        self.naps.append(seconds)
        self.time += timedelta(seconds=seconds)


@pytest.fixture
def wall(monkeypatch):
    wall = Wall(ANCHOR)
    monkeypatch.setattr(module, "datetime", wall)
    monkeypatch.setattr(module.asyncio, "sleep", wall.nap)
    return wall


def test_the_system_clock_tells_utc_and_waits_for_what_is_to_come():
    clock = SystemClock()
    before = clock.now()
    assert before.tzinfo is UTC
    asyncio.run(clock.sleep_until(before + timedelta(milliseconds=2)))
    assert clock.now() >= before + timedelta(milliseconds=2)


def test_the_system_clock_stands_still_when_the_machine_is_set_back(wall):
    clock = SystemClock()
    shown = []
    for step in (0, 10, -3600, 1, 3590, 20):
        wall.time += step * SECOND
        shown.append((clock.now() - ANCHOR).total_seconds())
    assert shown == [0, 10, 10, 10, 10, 21]


def test_a_long_wait_is_made_of_steps_of_a_minute_at_most(wall):
    asyncio.run(SystemClock().sleep_until(ANCHOR + 150 * SECOND))
    assert wall.naps == [60, 60, 30]
    asyncio.run(SystemClock().sleep_until(ANCHOR))
    assert len(wall.naps) == 3


def test_a_replay_goes_on_over_a_restart_as_if_there_had_been_none(wall):
    first = ReplayClock(START, 100.0, ANCHOR)
    assert first.now() == START
    wall.time += 36 * SECOND
    assert first.now() == START + timedelta(hours=1)
    wall.time += 36 * SECOND
    assert ReplayClock(START, 100.0, ANCHOR).now() == first.now() == START + timedelta(hours=2)


def test_a_replay_waits_for_its_own_time(wall):
    clock = ReplayClock(START, 60.0, ANCHOR)
    asyncio.run(clock.sleep_until(START + timedelta(hours=1)))
    assert sum(wall.naps) == 60
    assert clock.now() == START + timedelta(hours=1)


@given(
    speed=st.floats(0.01, 1e5),
    elapsed=st.lists(st.integers(0, 10**9), min_size=1, max_size=10),
)
def test_a_replay_runs_as_fast_as_it_says_and_never_back(speed, elapsed):
    clock = ReplayClock(START, speed, ANCHOR)
    clock._wall = SimulatedClock(ANCHOR)
    shown = [clock.now()]
    for microseconds in elapsed:
        clock._wall.advance(timedelta(microseconds=microseconds))
        shown.append(clock.now())
    assert shown == sorted(shown)
    wanted = sum(elapsed) / 1e6 * speed
    assert (shown[-1] - START).total_seconds() == pytest.approx(wanted, rel=1e-9, abs=2e-6)


@pytest.mark.parametrize("speed", [0.0, -1.0, float("nan")])
def test_a_replay_cannot_stand_still_or_run_back(speed):
    with pytest.raises(ValueError, match="speed must be above zero"):
        ReplayClock(START, speed, ANCHOR)


@pytest.mark.parametrize(
    "when", [START.replace(tzinfo=None), START.replace(tzinfo=timezone(timedelta(hours=1)))]
)
def test_clocks_begin_in_utc(when):
    for make in (
        lambda: SimulatedClock(when),
        lambda: ReplayClock(when, 1.0, ANCHOR),
        lambda: ReplayClock(START, 1.0, when),
    ):
        with pytest.raises(ValueError, match="must be an aware UTC time"):
            make()


def test_simulated_time_passes_only_when_it_is_let():
    clock = SimulatedClock(START)
    asyncio.run(clock.sleep_until(START + timedelta(days=400)))
    assert clock.now() == START + timedelta(days=400)
    asyncio.run(clock.sleep_until(START))
    clock.advance(SECOND)
    assert clock.now() == START + timedelta(days=400) + SECOND
    with pytest.raises(ValueError, match="does not go back"):
        clock.advance(-SECOND)


def test_other_tasks_get_their_turn_while_simulated_time_passes():
    clock, order = SimulatedClock(START), []

    async def sleeper(name, seconds):
        await clock.sleep_until(START + seconds * SECOND)
        order.append((name, clock.now()))

    async def both():
        await asyncio.gather(sleeper("long", 9), sleeper("short", 1))

    asyncio.run(both())
    assert [name for name, _ in order] == ["long", "short"]
    assert order[1][1] == START + 9 * SECOND


def test_durations_never_shrink():
    marks = [monotonic() for _ in range(100)]
    assert marks == sorted(marks)
