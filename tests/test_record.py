"""What a run keeps of itself, read back from its state directory alone."""

import asyncio
import contextlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from engine_world import World
from fakes import add_job, make_job, make_reading

from carbon_nas import record
from carbon_nas.config import check, digest
from carbon_nas.errors import StoreError
from carbon_nas.model import (
    JOULES_PER_KWH,
    Basis,
    Capabilities,
    Decision,
    Evaluation,
    GridState,
    JobKind,
    JobState,
    Quality,
    Signal,
    Slot,
    Window,
)
from carbon_nas.report import build_report
from carbon_nas.states import transition
from carbon_nas.store.sql import SqlStore

START = datetime(2023, 1, 10, tzinfo=UTC)
HOUR = timedelta(hours=1)
STEP = timedelta(minutes=30)
CONFIG = check({"study": "mine", "grid": {"providers": ["csv"], "csv": {"trace": "gb-2023-30min"}}})
CAPABILITIES = Capabilities(Signal.AVERAGE, Basis.DIRECT, STEP, True, True, "CC BY 4.0", "NESO")
DECISION = Decision(1, 0, Window.CLEAN, "because it is clean")
SLOTS = (Slot("s0", "here", "GB"), Slot("s1", "here", "GB", gpu_uuid="GPU-1", name="Board"))


def keep(store, now, config=CONFIG):
    record.keep(store, config, now=now, speed=60.0, slots=SLOTS, capabilities=CAPABILITIES)


@pytest.fixture
def store(tmp_path):
    with contextlib.closing(SqlStore(tmp_path / "s.sqlite")) as store:
        store.open()
        yield store


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """The state of a daemon that scored and trained for half a day, and then was gone."""
    path = tmp_path_factory.mktemp("run") / "s.sqlite"

    async def live():
        world = World(path, START, "always", slots=2)
        async with world.daemon():
            keep(world.store, START)
            for name in ("t0", "t1", "t2"):
                add_job(world.store, make_job(name, created_at=START))
            add_job(world.store, make_job("s0", JobKind.SCORE, created_at=START))
            await world.run(START + 12 * HOUR, step=STEP)

    asyncio.run(live())
    return path


@pytest.fixture
def finished(path):
    with contextlib.closing(SqlStore(path, read_only=True)) as store:
        store.open()
        yield store


def test_a_store_without_a_run_says_so(store):
    for read in (record.load, record.standing):
        with pytest.raises(StoreError, match="nothing has run here yet"):
            read(store)
    keep(store, START)
    with pytest.raises(StoreError, match="nothing has happened here yet"):
        record.load(store)
    assert record.standing(store)["intensity_grams_per_kwh"] is None
    assert record.standing(store)["best_accuracy"] is None


def test_a_run_is_read_back_whole(finished):
    run = record.load(finished)
    assert (run.start, run.end) == (START, START + 12 * HOUR)
    assert (run.study, run.zone, run.policy, run.clock_speed) == ("mine", "GB", "percentile", 60.0)
    assert (run.slots, run.capabilities) == (SLOTS, CAPABILITIES)
    assert run.config_sha256 == digest(CONFIG)
    assert run.jobs == finished.jobs()
    assert run.transitions == finished.transitions()
    assert run.entries == finished.entries()
    assert run.evaluations == finished.evaluations()
    assert len(run.readings) > 7 * 48
    assert run.candidates == 5


def test_a_report_needs_nothing_else(finished):
    report = build_report(record.load(finished))
    joules = sum(one for one, _ in finished.totals().values())
    assert report.totals.energy_kwh == pytest.approx(joules / JOULES_PER_KWH)
    assert (report.search.scored, report.search.trained) == (2, 3)


def test_a_run_begins_at_its_first_start_and_is_as_its_last_one_says(store):
    keep(store, START)
    later = check({"study": "mine", "policy": {"name": "always"}})
    keep(store, START + 5 * HOUR, later)
    store.add_readings([make_reading(START, 100.0)])
    add_job(store, make_job("j"))
    assert record.standing(store)["policy"] == "always"
    store.add_decision(START + 9 * HOUR, DECISION)
    run = record.load(store)
    assert (run.start, run.end) == (START, START + 9 * HOUR)
    assert run.config_sha256 == digest(later)


def test_what_paused_after_some_epochs_is_not_the_best(store):
    keep(store, START)
    for name, epochs, accuracy in (("whole", CONFIG.train.epochs, 0.5), ("paused", 1, 0.99)):
        job = add_job(store, make_job(name, epochs=epochs))
        running, step = transition(job, JobState.RUNNING, START, "test")
        store.move(running, step)
        found = Evaluation(f"a-{name}", JobKind.TRAIN, {"accuracy": accuracy, "flops": 1.0}, 1.0, 1.0)
        store.move(*transition(running, JobState.DONE, START, "test"), [found])
    now = record.standing(store)
    assert (now["trained"], now["paused"], now["best_arch"]) == (1, 1, "a-whole")


def test_standing_tells_how_the_run_stands(finished):
    now = record.standing(finished)
    trained = {found.arch: found.values["accuracy"] for _, found in finished.evaluations(JobKind.TRAIN)}
    best = max(trained, key=trained.get)
    wanted = {
        "study": "mine",
        "zone": "GB",
        "window": "clean",
        "candidates": 5,
        "scored": 2,
        "trained": 3,
        "jobs": {"score done": 1, "train done": 3},
        "best_arch": best,
        "best_accuracy": trained[best],
        "intensity_valid_from": START + 12 * HOUR,
    }
    assert {name: now[name] for name in wanted} == wanted
    assert now["reason"].startswith("carbon-blind")
    joules, grams = (sum(column) for column in zip(*finished.totals().values(), strict=True))
    assert now["energy_kwh"] == pytest.approx(joules / JOULES_PER_KWH)
    assert now["emissions_grams"] == pytest.approx(grams)


def test_a_late_revision_of_an_old_hour_is_not_taken_for_the_present(store):
    keep(store, START)
    first, second = make_reading(START, 100.0), make_reading(START + STEP, 300.0)
    store.add_readings([first, second])
    store.add_readings([replace(first, grams_per_kwh=200.0, fetched_at=START + HOUR)])
    now = record.standing(store)
    assert (now["intensity_grams_per_kwh"], now["intensity_valid_from"]) == (300.0, START + STEP)
    store.add_readings([replace(second, grams_per_kwh=310.0, fetched_at=START + HOUR)])
    assert record.standing(store)["intensity_grams_per_kwh"] == 310.0
    store.add_decision(START + HOUR, DECISION)
    assert record.load(store).reference_grams_per_kwh == pytest.approx((200.0 + 310.0) / 2)


def test_an_estimate_that_comes_late_does_not_replace_what_was_measured(store):
    keep(store, START)
    measured = make_reading(START, 100.0)
    store.add_readings([measured, replace(measured, grams_per_kwh=1.0, quality=Quality.ESTIMATED)])
    assert record.standing(store)["intensity_grams_per_kwh"] == 100.0


def test_the_grids_state_is_kept_since_when_it_is_so(store):
    keep(store, START)

    def told(state, hours, problem=None):
        at = START + hours * HOUR
        record.keep_grid(store, state=state, at=at, forecaster="last day", problem=problem)
        now = record.standing(store)
        return now["grid_state"], now["grid_state_since"], now["grid_last_problem"]

    assert told(GridState.FRESH, 0) == ("fresh", START.isoformat(), None)
    assert told(GridState.FRESH, 1) == ("fresh", START.isoformat(), None)
    assert told(GridState.FRESH, 2, "neso: no answer") == ("fresh", START.isoformat(), "neso: no answer")
    assert told(GridState.STALE, 3) == ("stale", (START + 3 * HOUR).isoformat(), None)
