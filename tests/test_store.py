"""The store on real files: what is written is what is read, whatever else happens to the file meanwhile."""

import asyncio
import contextlib
import json
import math
import random
import signal
import sqlite3
import subprocess
import sys
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from fakes import add_job, make_job, make_reading
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy.exc import IntegrityError

from carbon_nas.errors import StoreError
from carbon_nas.model import (
    Candidate,
    Decision,
    EnergyMethod,
    Evaluation,
    Handle,
    JobKind,
    JobState,
    LedgerEntry,
    Quality,
    Transition,
    Window,
    Work,
)
from carbon_nas.states import transition
from carbon_nas.store.sql import SqlStore

NOW = datetime(2023, 6, 1, 12, 0, 0, 123456, tzinfo=UTC)
HOUR = timedelta(hours=1)


def open_store(path, **options):
    store = SqlStore(path, **options)
    store.open()
    return contextlib.closing(store)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state" / "carbon-nas.sqlite"


@pytest.fixture
def store(path):
    with open_store(path) as store:
        yield store


def move(store, job, to, at=NOW, found=(), why="because"):
    moved, step = transition(job, to, at, why)
    store.move(moved, step, found)
    return moved


def trained(arch, **values):
    return Evaluation(arch, JobKind.TRAIN, {"accuracy": 0.9, "flops": 1e6} | values, 2.0, 1.5)


def entry(joules, *, job=None, work=Work.TRAIN, start=NOW, **changes):
    reading = make_reading(start, 200.0)
    row = LedgerEntry(
        work=work,
        job_id=job,
        attempt=1 if job else 0,
        slot_id="s0",
        device="cpu",
        start=start,
        end=start + HOUR / 2,
        energy_joules=joules,
        energy_method=EnergyMethod.MODEL,
        grams_per_kwh=reading.grams_per_kwh,
        quality=reading.quality,
        signal=reading.signal,
        basis=reading.basis,
        provider=reading.provider,
        zone=reading.zone,
    )
    return replace(row, **changes)


# --- what is written is what is read


def test_settings_outlive_a_restart(store, path):
    assert store.get_meta("clock") is None
    store.set_meta("clock", "one")
    store.set_meta("clock", "two\nlines, ünï")
    with open_store(path) as again:
        assert again.get_meta("clock") == "two\nlines, ünï"
        assert again.get_meta("other") is None


def test_candidates_are_kept_once_and_in_their_order(store):
    made = [Candidate(arch, "random", NOW + n * HOUR) for n, arch in enumerate("cab")]
    assert store.add_candidates(made[:2]) == 2
    assert store.add_candidates([made[1], made[2], replace(made[2], origin="later")]) == 1
    assert store.add_candidates(made) == 0
    assert store.add_candidates([]) == 0
    kept = store.candidates()
    assert kept[:2] == made[:2]
    assert [one.arch for one in kept] == ["c", "a", "b"]


@pytest.mark.parametrize("kind", JobKind)
def test_a_job_is_read_as_it_was_written(store, kind):
    job = make_job(
        "j",
        kind,
        zone="US-CISO",
        created_at=NOW,
        state=JobState.SUSPENDED,
        attempt=3,
        retries_left=0,
        deadline=NOW + HOUR,
        progress=0.1 + 0.2,
        epochs=7,
        continues="i",
    )
    add_job(store, job)
    plain = add_job(store, make_job("k", kind, created_at=NOW + HOUR))
    assert store.jobs() == [job, plain]
    assert store.open_jobs() == [(job, None), (plain, None)]


def test_open_jobs_are_those_that_may_still_run_oldest_first(store):
    for n, state in enumerate(JobState):
        add_job(store, make_job(f"j{n}", state=state, created_at=NOW - n * HOUR))
    assert [job.state for job, _ in store.open_jobs()] == ["suspended", "running", "queued"]
    assert store.count_all_jobs() == 6
    assert store.count_jobs() == {(JobKind.TRAIN, state): 1 for state in JobState}


def test_a_move_keeps_state_step_and_results_and_forgets_the_handle(store):
    job = move(store, add_job(store, make_job("j", created_at=NOW)), JobState.RUNNING)
    handle = Handle("j", 1, "s0", {"pid": 7, "started": 8, "nested": {"a": [1, None]}})
    store.set_handle(handle)
    assert store.open_jobs() == [(job, handle)]
    found = trained("a-j")
    done = move(store, replace(job, progress=1.0), JobState.DONE, NOW + HOUR, [found], "finished")
    assert store.open_jobs() == []
    assert store.jobs() == [done]
    assert store.evaluations() == [("j", found)]
    assert store.transitions() == [
        Transition("j", JobState.QUEUED, JobState.RUNNING, NOW, "because"),
        Transition("j", JobState.RUNNING, JobState.DONE, NOW + HOUR, "finished"),
    ]
    assert store.last_steps(["j", "unknown"]) == {"j": NOW + HOUR}
    assert store.last_steps([]) == {}


def test_a_result_that_comes_again_with_a_later_attempt_is_kept_once(store):
    job = add_job(store, make_job("j", JobKind.SCORE))
    one, two = (Evaluation(arch, JobKind.SCORE, {"flops": 1.0}, 1.0, 1.0) for arch in job.archs)
    job = move(store, job, JobState.RUNNING)
    job = move(store, job, JobState.SUSPENDED, found=[one])
    job = move(store, job, JobState.RUNNING)
    move(store, job, JobState.DONE, found=[replace(one, values={"flops": 9.0}), two])
    assert store.evaluations() == [("j", one), ("j", two)]
    assert store.evaluations(JobKind.TRAIN) == []
    assert store.scores() == {"a-j": {"flops": 1.0}, "b-j": {"flops": 1.0}}


def test_a_move_that_cannot_be_kept_changes_nothing(store):
    job = move(store, add_job(store, make_job("j")), JobState.RUNNING)
    with pytest.raises(IntegrityError):
        move(store, job, JobState.DONE, found=[trained("an architecture nobody proposed")])
    assert store.jobs() == [job]
    assert len(store.transitions()) == 1


@given(st.dictionaries(st.text(max_size=5), st.floats(), max_size=5))
@settings(max_examples=30, deadline=None)
def test_scores_come_back_exactly_even_those_that_are_no_numbers(tmp_path_factory, values):
    with open_store(tmp_path_factory.mktemp("s") / "s.sqlite") as store:
        job = move(store, add_job(store, make_job("j", JobKind.SCORE)), JobState.RUNNING)
        move(store, job, JobState.DONE, found=[Evaluation("a-j", JobKind.SCORE, values, 1.0, 1.0)])
        read = store.scores()["a-j"]
    assert read.keys() == values.keys()
    for name, value in values.items():
        assert read[name] == value or (math.isnan(read[name]) and math.isnan(value))
        assert math.copysign(1, read[name]) == math.copysign(1, value) or math.isnan(value)


def test_readings_come_back_in_the_order_they_came(store):
    readings = [make_reading(NOW + n * HOUR, 100.0 + n, step=HOUR) for n in (2, 0, 1)]
    revision = replace(readings[1], grams_per_kwh=99.0, quality=Quality.ESTIMATED, provider="neso")
    store.add_readings(readings)
    store.add_readings([])
    store.add_readings([revision, replace(revision, zone="US-CISO")])
    assert store.readings("GB") == [*readings, revision]
    assert store.readings("GB", since=NOW + HOUR) == [readings[0], readings[2]]
    assert store.readings("XX") == []


def test_decisions_come_back_with_their_reasons(store):
    one = Decision(2, 0, Window.CLEAN, "below the 40th percentile")
    store.add_decision(NOW, one)
    store.add_decision(NOW + HOUR, Decision(0, 2, Window.DIRTY, "above", suspend=("j",)))
    assert store.decisions() == [(NOW, one), (NOW + HOUR, Decision(0, 2, Window.DIRTY, "above"))]


def test_rows_and_marks_of_the_ledger(store):
    for name in ("j", "k"):
        add_job(store, make_job(name))
    rows = [
        entry(10.0, job="j"),
        entry(20.0, job="k", quality=Quality.STALE),
        entry(30.0, job="j", work=Work.SCORE, start=NOW + HOUR),
        entry(40.0, work=Work.IDLE),
        entry(50.0, work=Work.CONTROLLER, slot_id=None),
    ]
    store.add_entries(rows[:3], {"cpu/j/1": (10.0, NOW), "gpu/x": (1e9, NOW)})
    store.add_entries(rows[3:], {"cpu/j/1": (40.0, NOW + HOUR)})
    store.add_entries([], {})
    assert store.entries() == rows
    assert store.marks() == {"cpu/j/1": (40.0, NOW + HOUR), "gpu/x": (1e9, NOW)}
    grams = 200.0 / 3.6e6
    assert store.energy_by_job() == {
        "j": (40.0, pytest.approx(40 * grams)),
        "k": (20.0, pytest.approx(20 * grams)),
    }
    assert store.totals() == {
        (Work.TRAIN, Quality.ACTUAL): (10.0, pytest.approx(10 * grams)),
        (Work.TRAIN, Quality.STALE): (20.0, pytest.approx(20 * grams)),
        (Work.SCORE, Quality.ACTUAL): (30.0, pytest.approx(30 * grams)),
        (Work.IDLE, Quality.ACTUAL): (40.0, pytest.approx(40 * grams)),
        (Work.CONTROLLER, Quality.ACTUAL): (50.0, pytest.approx(50 * grams)),
    }


def test_of_a_restated_row_the_last_revision_counts(store):
    add_job(store, make_job("j"))
    mine, idle = entry(10.0, job="j", quality=Quality.STALE), entry(5.0, work=Work.IDLE)
    store.add_entries([mine, idle], {})
    better = replace(mine, grams_per_kwh=100.0, quality=Quality.ACTUAL, revision=1)
    store.add_entries([better], {})
    assert len(store.entries()) == 3, "a row is never edited"
    assert store.energy_by_job() == {"j": (10.0, pytest.approx(10 * 100 / 3.6e6))}
    assert sum(joules for joules, _ in store.totals().values()) == 15.0
    assert store.provisional_entries(NOW) == []


def test_what_the_controller_has_learnt_it_is_not_told_again(store):
    finished = {"t": JobState.DONE, "u": JobState.DONE, "f": JobState.FAILED}
    for name, end in finished.items():
        job = move(store, add_job(store, make_job(name)), JobState.RUNNING)
        move(store, job, end, found=[trained(f"a-{name}")])
    job = move(store, add_job(store, make_job("s", JobKind.SCORE)), JobState.RUNNING)
    move(store, job, JobState.DONE, found=[Evaluation("a-s", JobKind.SCORE, {}, 1.0, 1.0)])
    further = move(store, add_job(store, make_job("v", archs=("a-t",), continues="t")), JobState.RUNNING)
    move(store, further, JobState.DONE, found=[trained("a-t")])
    assert [job_id for job_id, _ in store.unobserved()] == ["t", "u"], "what goes on is no other architecture"
    assert store.controller_state("random") is None
    store.save_controller("random", {"step": 1, "weights": [0.1, 2]}, ["t"])
    assert [job_id for job_id, _ in store.unobserved()] == ["u"]
    store.save_controller("random", {"step": 2})
    assert store.controller_state("random") == {"step": 2}
    assert store.controller_state("reinforce") is None, "a state is of the controller that made it"


def test_the_version_tells_a_reader_when_to_read_again(store):
    def changes(call, *given):
        before = store.version
        call(*given)
        return store.version > before

    job = make_job("j")
    assert changes(store.add_candidates, [Candidate(arch, "test", NOW) for arch in job.archs])
    assert changes(store.add_job, job)
    assert changes(move, store, job, JobState.RUNNING)
    for call in (store.jobs, store.scores, store.candidates, store.evaluations, store.totals):
        assert not changes(call)
    assert not changes(store.add_entries, [entry(1.0)], {})


@pytest.mark.parametrize("when", [NOW.replace(tzinfo=None), NOW.astimezone(None).replace(tzinfo=None)])
def test_a_time_without_a_zone_is_refused(store, when):
    with pytest.raises(Exception, match="must be an aware UTC time"):
        store.add_job(make_job("j", created_at=when))


# --- files that are not ours, or not there


def test_a_file_of_a_newer_version_is_refused_and_left_alone(path):
    with open_store(path):
        pass
    with sqlite3.connect(path) as connection:
        connection.execute("update alembic_version set version_num = '9999'")
    connection.close()
    for options in ({}, {"read_only": True}):
        with (
            pytest.raises(StoreError, match="newer carbon-nas \\(schema 9999\\)") as caught,
            open_store(path, **options),
        ):
            pass
        assert str(path) in str(caught.value)


@pytest.mark.parametrize("read_only", [False, True])
def test_what_is_no_database_is_refused_and_left_alone(path, read_only):
    path.parent.mkdir()
    text = "dear diary, " * 500
    path.write_text(text)
    with pytest.raises(StoreError, match="not a database") as caught, open_store(path, read_only=read_only):
        pass
    assert str(path) in str(caught.value)
    assert path.read_text() == text


def test_a_place_that_cannot_be_written_is_refused():
    with (
        pytest.raises(StoreError, match="/proc/nowhere"),
        open_store(Path("/proc/nowhere/carbon-nas.sqlite")),
    ):
        pass


def test_a_reader_makes_no_store(path):
    path.parent.mkdir()
    with pytest.raises(StoreError, match="cannot be used"), open_store(path, read_only=True):
        pass
    assert not path.exists()
    sqlite3.connect(path).close()
    with pytest.raises(StoreError, match="run the daemon once"), open_store(path, read_only=True):
        pass


@pytest.mark.parametrize("name", ["with space", "a#b", "a?mode=memory", "100%", "a%41", "ünï'"])
def test_any_path_is_its_own_file(tmp_path, name):
    path = tmp_path / name / "carbon-nas.sqlite"
    with open_store(path) as store:
        store.set_meta("name", name)
    assert path.read_bytes().startswith(b"SQLite format 3")
    with open_store(path, read_only=True) as store:
        assert store.get_meta("name") == name


# --- others at the same time


def test_a_reader_and_a_writer_do_not_wait_for_each_other(store, path):
    add_job(store, make_job("j"))
    with open_store(path, read_only=True) as reader, reader._reads.connect() as reading:
        reading.begin()
        assert reading.exec_driver_sql("select count(*) from jobs").scalar() == 1
        add_job(store, make_job("k"))  # the reader is in the middle of its transaction
        assert reading.exec_driver_sql("select count(*) from jobs").scalar() == 1
        with store._writes.connect() as writing, writing.begin():
            writing.exec_driver_sql("delete from jobs")
            assert len(reader.jobs()) == 2  # the writer is in the middle of its own


def test_two_writers_take_turns_and_lose_nothing(path):
    def write(prefix):
        with open_store(path) as mine:
            for n in range(15):
                mine.set_meta("shared", prefix)
                add_job(mine, make_job(f"{prefix}{n}"))

    with open_store(path) as store:
        threads = [threading.Thread(target=write, args=(prefix,)) for prefix in "xy"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert store.count_all_jobs() == 30


def test_a_commit_is_on_the_disk_when_it_returns(store):
    with store._writes.connect() as connection:
        assert connection.exec_driver_sql("pragma journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("pragma synchronous").scalar() == 2  # FULL
        assert connection.exec_driver_sql("pragma foreign_keys").scalar() == 1


# --- crashes

WRITER = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from fakes import add_job, make_job
from carbon_nas.model import JobState
from carbon_nas.states import transition
from carbon_nas.store.sql import SqlStore
store = SqlStore(Path(sys.argv[1]))
store.open()
n = store.count_all_jobs()
while True:
    job = add_job(store, make_job(f"j{n}"))
    store.move(*transition(job, JobState.RUNNING, datetime(2023, 6, 1, tzinfo=UTC), "crash test"))
    store.add_entries([], {"counter": (float(n), datetime(2023, 6, 1, tzinfo=UTC))})
    print(n, flush=True)
    n += 1
"""


async def write_until_killed(path, rows, rng):
    """Run a writer, kill it some moments after its `rows`th row; give the last row it said was kept."""
    command = [sys.executable, "-c", WRITER, str(path)]
    tests = str(Path(__file__).parent)
    process = await asyncio.create_subprocess_exec(
        *command, stdout=subprocess.PIPE, env={"PYTHONPATH": tests, "OMP_NUM_THREADS": "1"}
    )
    for _ in range(rows):
        await process.stdout.readline()
    for _ in range(rng.randrange(2000)):  # anywhere in the next row
        pass
    process.send_signal(signal.SIGKILL)
    said = (await process.stdout.read()).split()
    await process.wait()
    return len(said)


def test_a_writer_killed_at_any_moment_keeps_every_row_it_has_confirmed(path):
    rng, confirmed = random.Random(1), 0
    for rows in (1, 7, 20):
        more = asyncio.run(write_until_killed(path, rows, rng))
        confirmed += rows + more
        with contextlib.closing(sqlite3.connect(path)) as connection:
            assert connection.execute("pragma integrity_check").fetchall() == [("ok",)]
            assert connection.execute("pragma foreign_key_check").fetchall() == []
        with open_store(path) as store:
            states = {job.id: job.state for job in store.jobs()}
            kept = store.count_all_jobs()
            steps = {step.job_id for step in store.transitions()}
            mark = store.marks()["counter"][0]
        assert kept in {confirmed, confirmed + 1}
        assert all(states[f"j{n}"] is JobState.RUNNING for n in range(confirmed))
        assert steps == {name for name, state in states.items() if state is JobState.RUNNING}
        assert mark >= confirmed - 1
        confirmed = kept  # a row whose word was lost is kept all the same


def test_json_columns_hold_json_that_others_can_read(store, path):
    job = move(store, add_job(store, make_job("j", JobKind.SCORE)), JobState.RUNNING)
    move(store, job, JobState.DONE, found=[Evaluation("a-j", JobKind.SCORE, {"x": math.inf}, 1.0, 1.0)])
    with contextlib.closing(sqlite3.connect(path)) as connection:
        [(archs,)] = connection.execute("select archs from jobs").fetchall()
        [(values,)] = connection.execute('select "values" from evaluations').fetchall()
    assert json.loads(archs) == ["a-j", "b-j"]
    assert json.loads(values, parse_constant=pytest.fail) == {"x": "inf"}
