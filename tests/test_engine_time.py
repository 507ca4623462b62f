"""Whatever the calendar, the feed or the machine's clock do, the totals stay what the meters and the grid say."""

import asyncio
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from engine_world import BOARD_WATTS, WATTS, SharedTrace, World, grams_between
from fakes import add_job, make_job
from hypothesis import given, settings
from hypothesis import strategies as st

from carbon_nas.clock import SimulatedClock
from carbon_nas.errors import NoData
from carbon_nas.model import Quality
from carbon_nas_providers.csv import CsvOptions

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


def totals(world):
    """Joules and grams of all work, and the qualities that they were booked with."""
    booked = world.store.totals()
    joules, grams = (sum(column) for column in zip(*booked.values(), strict=True))
    return joules, grams, {quality for _, quality in booked}


def require_no_overlap(world):
    """Of each device and run, no second is booked twice."""
    last = {}
    for row in sorted(world.store.entries(), key=lambda row: row.start):
        key = (row.device, row.job_id, row.attempt)
        assert last.get(key, row.start) <= row.start
        last[key] = max(row.end, last.get(key, row.end))


async def three_jobs(world, until, *, step=10 * MINUTE):
    async with world.daemon():
        await world.engine.sample()  # a board is counted from the first look at it
        for name in ("a", "b", "c"):
            add_job(world.store, make_job(name, created_at=world.clock.now()))
        await world.run(until, step=step)
        await world.engine.sample()
        require_no_overlap(world)
        return totals(world)


@pytest.fixture
def local_zone(monkeypatch):
    """Give a function that sets the machine's time zone; what it was before is in force again afterwards."""

    def put(zone):
        monkeypatch.setenv("TZ", zone)
        time.tzset()

    yield put
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("zone", "change"),
    [
        ("Europe/London", datetime(2023, 3, 26, 1, tzinfo=UTC)),
        ("Europe/London", datetime(2023, 10, 29, 1, tzinfo=UTC)),
        ("America/Los_Angeles", datetime(2023, 3, 12, 10, tzinfo=UTC)),
        ("America/Los_Angeles", datetime(2023, 11, 5, 9, tzinfo=UTC)),
    ],
)
def test_the_days_on_which_clocks_change_are_days_like_others(tmp_path, local_zone, zone, change):
    """On a machine that keeps local time; the trace is in UTC, as every reading is."""
    local_zone(zone)
    start, end = change - DAY, change + DAY
    world = World(tmp_path / "s.sqlite", start, "always", slots=1, gpu=True, lasts=lambda spec: 11 * HOUR)
    joules, grams, qualities = asyncio.run(three_jobs(world, end))
    cpu = sum(world.executor.cpu_seconds_of(name) for name in ("a", "b", "c"))
    assert qualities == {Quality.ACTUAL}
    assert joules == pytest.approx(BOARD_WATTS * 2 * DAY.total_seconds() + WATTS * (cpu + 0.01 * 2 * 86400))
    board = grams_between(start, end, BOARD_WATTS)
    controller = grams_between(start, end, WATTS * 0.01)
    attempts = world.executor.attempts.values()
    work = sum(grams_between(attempt.started, attempt.ended) for attempt in attempts)
    assert grams == pytest.approx(board + controller + work, rel=1e-9)


class Silent(SharedTrace):
    """Says nothing of `[gap[0], gap[1])` until it is over, and then all."""

    def __init__(self, clock, gap):
        super().__init__(CsvOptions(trace="gb-2023-30min"), clock=clock)
        self.gap, self.wall = gap, clock

    def _heard(self, readings):
        start, end = self.gap
        if start <= self.wall.now() < end:
            return [reading for reading in readings if reading.end <= start]
        return list(readings)

    async def latest(self, zone):
        if self.gap[0] <= self.wall.now() < self.gap[1]:
            raise NoData("nothing for now")
        return await super().latest(zone)

    async def history(self, zone, start, end):
        return self._heard(await super().history(zone, start, end))

    async def forecast(self, zone, until):
        return self._heard(await super().forecast(zone, until))


def test_a_gap_of_three_days_changes_no_total_once_it_is_filled(tmp_path):
    start = datetime(2023, 1, 10, tzinfo=UTC)
    found = {}
    for name, gap in (("whole", (start, start)), ("gap", (start + DAY, start + 4 * DAY))):
        world = World(
            tmp_path / f"{name}.sqlite", start, "always", slots=1, gpu=True, lasts=lambda _: 30 * HOUR
        )
        world.provider = Silent(world.clock, gap)
        seen = set()

        async def live(world=world, seen=seen):
            async with world.daemon():
                for job in ("a", "b", "c"):
                    add_job(world.store, make_job(job, created_at=start))
                watch = lambda w: seen.update(q for _, q in w.store.totals())  # noqa: E731
                await world.run(start + 5 * DAY, step=HOUR, watch=watch)
                return totals(world)

        found[name] = asyncio.run(live())
        assert (Quality.FALLBACK in seen) is (name == "gap")
    assert found["gap"][2] == found["whole"][2] == {Quality.ACTUAL}
    assert found["gap"][:2] == pytest.approx(found["whole"][:2], rel=1e-9)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.sampled_from([-3600, -600, 0, 0, 0, 600, 3600]), min_size=6, max_size=24))
def test_steps_of_the_machines_clock_change_no_joule(leaps):
    """The daemon's clock waits for one that was set back to catch up (`SystemClock`), and follows one set on."""
    start = datetime(2023, 1, 10, tzinfo=UTC)

    async def live(path):
        world = World(path, start, "always", slots=1, gpu=True, lasts=lambda _: HOUR)
        world.true_time = SimulatedClock(start)
        async with world.daemon():
            add_job(world.store, make_job("a", created_at=start))
            await world.engine.sample()
            wall = start
            for leap in [*leaps, 24 * 3600]:  # at last it has caught up
                world.true_time.advance(10 * MINUTE)
                wall += 10 * MINUTE + timedelta(seconds=leap)
                await world.step(max(wall - world.clock.now(), timedelta()))
            require_no_overlap(world)
            return [
                row for row in world.store.entries() if row.device.startswith("gpu/")
            ], world.true_time.now()

    with tempfile.TemporaryDirectory() as folder:
        rows, end = asyncio.run(live(Path(folder) / "s.sqlite"))
    assert sum(row.energy_joules for row in rows) == pytest.approx(
        BOARD_WATTS * (end - start).total_seconds()
    )
    assert all(row.energy_joules >= 0 for row in rows)
