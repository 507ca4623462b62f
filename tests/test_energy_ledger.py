"""The ledger's arithmetic, against an independent one: no joule is lost, counted twice, or valued at zero."""

import asyncio
import contextlib
import math
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from fakes import add_job, make_job, make_reading, start_feed
from hypothesis import given, settings
from hypothesis import strategies as st

from carbon_nas.clock import SimulatedClock
from carbon_nas.energy.ledger import Bookkeeper, Occupancy
from carbon_nas.energy.meters import CpuModel
from carbon_nas.errors import ExecutorError
from carbon_nas.model import (
    JOULES_PER_KWH,
    EnergyMethod,
    EnergyReading,
    JobKind,
    Quality,
    Slot,
    Work,
    emissions_grams,
)
from carbon_nas.store.sql import SqlStore

START = datetime(2023, 6, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)
WATTS = 10.0
GPU = Slot("gpu0", "here", "GB", gpu_uuid="GPU-1")
CPU = Slot("cpu0", "here", "GB")


@dataclass
class Shelf:
    """A ledger store in memory: rows and marks are kept together, or neither, as when the disk is full."""

    rows: list = field(default_factory=list)
    kept_marks: dict = field(default_factory=dict)
    full: bool = False

    def marks(self):
        return dict(self.kept_marks)

    def add_entries(self, entries, marks):
        if self.full:
            raise OSError("no space left on device")
        self.rows += entries
        self.kept_marks |= marks


@dataclass
class Counter:
    """A GPU's meter: `joules` is what it shows, None if it does not answer."""

    joules: float | None = 1000.0
    device: str = "gpu/GPU-1"

    def read(self):
        if self.joules is None:
            raise ExecutorError("the GPU does not answer")
        return EnergyReading(self.joules, EnergyMethod.COUNTER)


def flat(grams=100.0, *, step=timedelta(days=1), **changes):
    """An intensity that is always the same, in intervals of `step` from START on."""

    def intensity_at(when):
        start = START + (when - START) // step * step
        return make_reading(start, grams, step=step, **changes)

    return intensity_at


def keeper(store, intensity_at, meter=None, *, pue=1.0, run_id="1", now=START):
    made = Bookkeeper(
        store, intensity_at, CpuModel(WATTS), {"GPU-1": meter} if meter else {}, pue=pue, run_id=run_id
    )
    made.start(now)
    return made


def at(seconds):
    return START + seconds * SECOND


def joules(rows, **wanted):
    return sum(row.energy_joules for row in rows if all(getattr(row, k) == v for k, v in wanted.items()))


# --- examples


def test_a_job_on_the_cpu_is_charged_watts_times_its_cpu_seconds_from_its_launch_on():
    shelf = Shelf()
    keep = keeper(shelf, flat(360.0))
    job = make_job("j", attempt=2)
    keep.book(at(10), [Occupancy(CPU)], 0.0)
    keep.book(at(100), [Occupancy(CPU, job, at(20), 60.0)], 0.0)
    keep.book(at(150), [Occupancy(CPU, job, at(20), 95.0)], 0.0)
    assert [(row.start, row.end, row.energy_joules) for row in shelf.rows] == [
        (at(20), at(100), 600.0),
        (at(100), at(150), 350.0),
    ]
    for row in shelf.rows:
        assert (row.work, row.job_id, row.attempt, row.slot_id, row.device) == (
            Work.TRAIN,
            "j",
            2,
            "cpu0",
            "cpu",
        )
        assert (row.energy_method, row.zone, row.provider) == (EnergyMethod.MODEL, "GB", "csv")
        assert row.emissions_grams == emissions_grams(row.energy_joules, 360.0)


@pytest.mark.parametrize("kind", JobKind)
def test_energy_is_booked_for_the_kind_of_work_it_was_for(kind):
    shelf = Shelf()
    job = make_job("j", kind, attempt=1)
    keeper(shelf, flat()).book(at(60), [Occupancy(CPU, job, at(0), 60.0)], 6.0)
    assert [(row.work, row.energy_joules) for row in shelf.rows] == [
        (Work(kind), 600.0),
        ("controller", 60.0),
    ]
    assert shelf.rows[1].job_id is None
    assert shelf.rows[1].slot_id is None


def test_a_gpu_is_charged_to_whoever_holds_it_and_idle_when_nobody_does():
    shelf, meter = Shelf(), Counter()
    keep = keeper(shelf, flat(), meter)
    job = make_job("j", attempt=1)
    holders = [Occupancy(GPU), Occupancy(GPU), Occupancy(GPU, job, at(60), 0.0), Occupancy(GPU)]
    for n, place in enumerate(holders):
        meter.joules = 1000.0 + 100 * n**2
        keep.book(at(60 * n), [place], 0.0)
    assert [(row.work, row.job_id, row.energy_joules) for row in shelf.rows] == [
        ("idle", None, 100.0),
        ("train", "j", 300.0),
        ("idle", None, 500.0),
    ]
    assert all((row.device, row.energy_method) == ("gpu/GPU-1", "counter") for row in shelf.rows)


def test_a_job_on_a_gpu_is_charged_for_its_cpu_too():
    shelf, meter = Shelf(), Counter()
    keep = keeper(shelf, flat(), meter)
    keep.book(at(0), [Occupancy(GPU)], 0.0)
    meter.joules += 500.0
    keep.book(at(60), [Occupancy(GPU, make_job("j", attempt=1), at(0), 30.0)], 0.0)
    assert joules(shelf.rows, device="cpu", job_id="j") == 300.0
    assert joules(shelf.rows, device="gpu/GPU-1", job_id="j") == 500.0


def test_a_gpu_that_does_not_answer_is_booked_for_the_whole_gap_when_it_does():
    shelf, meter = Shelf(), Counter()
    keep = keeper(shelf, flat(), meter)
    for second, shown in ((0, 1000.0), (60, None), (120, None), (180, 1900.0)):
        meter.joules = shown
        keep.book(at(second), [Occupancy(GPU)], 0.0)
    assert [(row.start, row.end, row.energy_joules) for row in shelf.rows] == [(at(0), at(180), 900.0)]


def test_a_driver_loaded_anew_while_no_daemon_ran_is_a_new_beginning():
    shelf, meter = Shelf(), Counter()
    keep = keeper(shelf, flat(), meter)
    keep.book(at(0), [Occupancy(GPU)], 0.0)
    meter.joules = 1500.0
    keep.book(at(60), [Occupancy(GPU)], 0.0)
    meter.joules = 40.0
    again = keeper(shelf, flat(), meter, run_id="2", now=at(600))
    again.book(at(600), [Occupancy(GPU)], 0.0)
    meter.joules = 90.0
    again.book(at(660), [Occupancy(GPU)], 0.0)
    assert [(row.start, row.energy_joules) for row in shelf.rows] == [(at(0), 500.0), (at(600), 50.0)]


def test_energy_is_split_at_every_boundary_by_time():
    shelf = Shelf()

    def hourly(when):
        hour = when.replace(minute=0, second=0)
        return make_reading(hour, 100.0 + hour.hour, step=timedelta(hours=1))

    job = make_job("j", attempt=1)
    keeper(shelf, hourly).book(at(3600 * 3 + 900), [Occupancy(CPU, job, at(2700), 1080.0)], 0.0)
    assert [(row.start, row.end, row.energy_joules, row.grams_per_kwh) for row in shelf.rows] == [
        (at(2700), at(3600), 1080.0, 100.0),
        (at(3600), at(7200), 4320.0, 101.0),
        (at(7200), at(10800), 4320.0, 102.0),
        (at(10800), at(11700), 1080.0, 103.0),
    ]


def test_pue_multiplies_every_joule():
    rows = {}
    for pue in (1.0, 1.5):
        shelf, meter = Shelf(), Counter()
        keep = keeper(shelf, flat(), meter, pue=pue)
        for n in range(3):
            meter.joules = 1000.0 + 70 * n
            keep.book(at(60 * n), [Occupancy(GPU, make_job("j", attempt=1), at(0), 5.0 * n)], 2.0 * n)
        rows[pue] = shelf.rows
    assert len({row.work for row in rows[1.0]}) == 2
    assert [replace(row, energy_joules=row.energy_joules * 1.5) for row in rows[1.0]] == rows[1.5]


def test_time_that_stands_still_loses_nothing():
    shelf = Shelf()
    keep = keeper(shelf, flat())
    job = make_job("j", attempt=1)
    for second, used in ((0, 5.0), (0, 6.0), (60, 7.0), (60, 9.0), (120, 9.0), (180, 9.5)):
        keep.book(at(second), [Occupancy(CPU, job, at(0), used)], 0.0)
    assert [(row.start, row.end, row.energy_joules) for row in shelf.rows] == [
        (at(0), at(60), 70.0),
        (at(60), at(120), 20.0),
        (at(120), at(180), 5.0),
    ]


def test_what_could_not_be_kept_is_booked_the_next_time():
    shelf = Shelf()
    keep = keeper(shelf, flat())
    job = make_job("j", attempt=1)
    shelf.full = True
    with pytest.raises(OSError, match="no space"):
        keep.book(at(60), [Occupancy(CPU, job, at(0), 50.0)], 1.0)
    shelf.full = False
    assert keep.book(at(120), [Occupancy(CPU, job, at(0), 70.0)], 3.0) == shelf.rows
    assert [(row.start, row.end, row.energy_joules) for row in shelf.rows] == [
        (at(0), at(120), 700.0),
        (at(0), at(120), 30.0),
    ]


def test_hours_that_nobody_knows_are_valued_as_dirty_and_say_so():
    """The real feed, in a year its trace does not hold."""

    async def book():
        shelf, clock = Shelf(), SimulatedClock(datetime(2030, 1, 1, tzinfo=UTC))
        feed = await start_feed(clock)
        keep = keeper(shelf, feed.intensity_at, now=clock.now())
        clock.advance(timedelta(hours=5, minutes=20))
        keep.book(clock.now(), [Occupancy(CPU)], 60.0)
        return shelf.rows

    rows = asyncio.run(book())
    assert sum(row.energy_joules for row in rows) == pytest.approx(600.0)
    assert {row.quality for row in rows} == {Quality.FALLBACK}
    assert all(row.grams_per_kwh > 400 for row in rows)


# --- what holds whatever happens


@st.composite
def timelines(draw):
    """Intensities of intervals of random lengths; the last one is endless."""
    lengths = draw(st.lists(st.integers(1, 4000), min_size=1, max_size=12))
    bounds = [START]
    for length in lengths:
        bounds.append(bounds[-1] + length * SECOND)
    bounds.append(START + timedelta(days=999))
    return [
        make_reading(a, draw(st.floats(1.0, 900.0)), step=b - a, quality=draw(st.sampled_from(Quality)))
        for a, b in pairwise(bounds)
    ]


@dataclass(frozen=True)
class Step:
    """Time passes and energy is used; then somebody looks, and then perhaps somebody else takes the slot."""

    seconds: int
    gpu_joules: float
    cpu_seconds: float
    controller_seconds: float
    changes_hands: bool
    restarts: bool
    fails: bool


USED = st.floats(0.0, 1e4).filter(lambda value: value == 0 or value > 1e-3)
STEPS = st.lists(
    st.builds(Step, st.integers(0, 3000), USED, USED, USED, st.booleans(), st.booleans(), st.booleans()),
    min_size=1,
    max_size=15,
)


class Books:
    """Runs a script through bookkeepers, and adds up for itself what should come out."""

    def __init__(self, timeline, pue):
        self.timeline, self.pue = timeline, pue
        self.shelf, self.meter = Shelf(), Counter()
        self.now, self.job_number, self.used, self.controller = START, 0, 0.0, 0.0
        self.since, self.idle = START, True
        self.open()

    def open(self):
        self.run = keeper(self.shelf, self.at, self.meter, pue=self.pue, run_id=str(self.now), now=self.now)
        self.controller = 0.0

    def at(self, when):
        return next(reading for reading in self.timeline if reading.covers(when))

    @property
    def place(self):
        job = None if self.idle else make_job(f"j{self.job_number}", attempt=1)
        return Occupancy(GPU, job, None if self.idle else self.since, self.used)

    def do(self, step):
        self.now += step.seconds * SECOND
        self.meter.joules += step.gpu_joules
        self.used += 0.0 if self.idle else step.cpu_seconds
        self.controller += step.controller_seconds
        self.shelf.full = step.fails
        with contextlib.suppress(OSError):
            self.run.book(self.now, [self.place], self.controller)
        self.shelf.full = False

    def change_hands(self):
        self.run.book(self.now, [self.place], self.controller)
        self.idle = not self.idle
        self.job_number += 1
        self.since, self.used = self.now, 0.0


@given(timelines(), STEPS, st.floats(1.0, 2.0))
@settings(deadline=None)
def test_rows_add_up_to_the_counters_whatever_happens(timeline, script, pue):
    books = Books(timeline, pue)
    books.run.book(START, [books.place], 0.0)
    first, cpu_seconds, controller_seconds = books.meter.joules, {}, 0.0
    for step in script:
        books.do(step)
        if step.restarts or step.changes_hands:
            books.now += SECOND  # so that none of it waits for time to pass
            books.run.book(books.now, [books.place], books.controller)
        cpu_seconds[books.job_number] = books.used
        if step.changes_hands:
            books.change_hands()
        if step.restarts:
            controller_seconds += books.controller
            books.open()
    books.now += SECOND
    books.run.book(books.now, [books.place], books.controller)
    controller_seconds += books.controller

    rows = books.shelf.rows
    assert all(row.energy_joules >= 0 and row.start < row.end for row in rows)
    gpu = joules(rows, device="gpu/GPU-1")
    assert gpu == pytest.approx((books.meter.joules - first) * pue, rel=1e-9, abs=1e-6)
    assert joules(rows, work=Work.CONTROLLER) == pytest.approx(WATTS * controller_seconds * pue, rel=1e-9)
    for number, seconds in cpu_seconds.items():
        charged = joules(rows, device="cpu", job_id=f"j{number}")
        assert charged == pytest.approx(WATTS * seconds * pue, rel=1e-9, abs=1e-9)

    counters = {(row.device, row.job_id if row.device == "cpu" else None, row.work) for row in rows}
    for device, job_id, work in counters:
        mine = [row for row in rows if row.device == device]
        if device == "cpu":
            mine = [row for row in mine if (row.job_id, row.work) == (job_id, work)]
        assert all(one.end <= two.start for one, two in pairwise(mine)), "no moment is booked twice"
    for row in rows:
        valid = books.at(row.start)
        assert row.end <= valid.end, "no row spans two intensities"
        assert (row.grams_per_kwh, row.quality) == (valid.grams_per_kwh, valid.quality)


@given(timelines(), st.lists(st.tuples(st.integers(1, 5000), st.floats(1e-3, 1e5)), min_size=1, max_size=12))
@settings(deadline=None)
def test_grams_are_the_integral_of_power_times_intensity(timeline, samples):
    """Each interval's share by its overlap with each sample: another way to the same number."""
    books = Books(timeline, 1.0)
    books.run.book(START, [books.place], 0.0)
    wanted, now = 0.0, START
    for seconds, used in samples:
        then, now = now, now + seconds * SECOND
        for reading in timeline:
            overlap = (min(reading.end, now) - max(reading.start, then)).total_seconds()
            wanted += max(overlap, 0.0) / seconds * used / JOULES_PER_KWH * reading.grams_per_kwh
        books.meter.joules += used
        books.run.book(now, [books.place], 0.0)
    rows = books.shelf.rows
    assert math.fsum(row.emissions_grams for row in rows) == pytest.approx(wanted, rel=1e-9)
    assert rows[0].start == START
    assert rows[-1].end == now
    assert all(one.end == two.start for one, two in pairwise(rows)), "there is no gap"


def test_a_new_bookkeeper_on_the_real_store_takes_up_where_the_old_one_was_cut_off(tmp_path):
    job = make_job("j", attempt=1)
    meter = Counter()
    wanted = 0.0
    for run in range(3):
        store = SqlStore(tmp_path / "s.sqlite")
        with contextlib.closing(store):
            store.open()
            if run == 0:
                add_job(store, job)
            keep = keeper(store, flat(step=timedelta(minutes=30)), meter, run_id=str(run), now=at(1000 * run))
            for n in range(1, 4):
                seconds = 1000 * run + 300 * n
                meter.joules = 1000.0 + 2.0 * seconds
                keep.book(at(seconds), [Occupancy(GPU, job, at(0), 0.5 * seconds)], 3.0 * n)
            wanted += 9.0 * WATTS
            # The daemon is killed here: what is used until the next one looks is booked by that one.
    with contextlib.closing(SqlStore(tmp_path / "s.sqlite", read_only=True)) as store:
        store.open()
        totals, by_job = store.totals(), store.energy_by_job()
        rows = store.entries()
    last = 2900
    assert joules(rows, work=Work.CONTROLLER) == pytest.approx(wanted)
    assert joules(rows, device="cpu", job_id="j") == pytest.approx(WATTS * 0.5 * last)
    assert joules(rows, device="gpu/GPU-1") == pytest.approx(2.0 * (last - 300))
    assert by_job["j"][0] == pytest.approx(WATTS * 0.5 * last + 2.0 * (last - 300))
    assert sum(one for one, _ in totals.values()) == pytest.approx(by_job["j"][0] + wanted)
    assert sum(one for _, one in totals.values()) == pytest.approx(sum(row.emissions_grams for row in rows))
