"""kill -9 of the real daemon, at several moments: nothing is lost, nothing done or counted twice."""

import json
import os
import signal

import pytest
from daemon_accounts import require_whole
from daemon_process import DIRTY, daemons, kill_runners, runners, wait_until

from carbon_nas.evaluate import protocol

SHORTER = {"train": {"epochs": 1}}
ONE = {"search": {"max_trained": 1}}
LONGER = {"train": {"epochs": 4}, **ONE}
LAUNCH = "carbon_nas.execute.local:LocalExecutor.launch"
POLL = "carbon_nas.execute.local:LocalExecutor.poll"
SUSPEND = "carbon_nas.execute.local:LocalExecutor.request_suspend"
STORE = "carbon_nas.store.sql:SqlStore"


@pytest.fixture
def start(tmp_path):
    with daemons(tmp_path) as start:
        yield start


def finish(start, *, trained=2, **changes):
    """Run to the end, and require that everything is as if nothing had happened."""
    daemon = start(**changes)
    daemon.wait_until_ready()
    daemon.wait_until(lambda: daemon.trained() == trained, f"end of trainings, {trained}")
    daemon.terminate()
    require_whole(daemon.state, trained=trained)
    return daemon


def steps_of(daemon, job_id):
    return [
        target
        for (target,) in daemon.query("select target from transitions where job_id = ? order by id", job_id)
    ]


def test_a_training_whose_daemon_was_killed_goes_on_and_is_taken_up_again(start):
    first = start(**LONGER)
    job_id = first.wait_until(lambda: first.training(after_fraction=0.1), "training under way")
    [orphan] = runners(first.state)
    first.kill()
    assert runners(first.state) == [orphan]
    second = finish(start, trained=1, **LONGER)
    assert steps_of(second, job_id) == ["running", "done"]
    assert protocol.read_attempt(second.state / "jobs" / job_id) == 1


@pytest.mark.drill
def test_a_training_that_ended_while_no_daemon_ran_is_not_done_again(start):
    first = start(**ONE)
    job_id = first.wait_until(first.training, "training under way")
    first.kill()
    directory = first.state / "jobs" / job_id
    wait_until(lambda: protocol.read_outcome(directory, 1), "end of the orphan's training")
    second = finish(start, trained=1, **ONE)
    assert steps_of(second, job_id) == ["running", "done"]


def test_a_training_whose_runner_died_too_goes_on_from_its_checkpoint(start):
    first = start(**LONGER)
    job_id = first.wait_until(lambda: first.training(after_fraction=0.3), "training under way")
    first.kill()
    assert len(kill_runners(first.state)) == 1
    wait_until(lambda: not runners(first.state), "end of the runner")
    directory = first.state / "jobs" / job_id
    reached = protocol.last_progress(directory, 1)
    second = finish(start, trained=1, **LONGER)
    lines = map(json.loads, (directory / "progress.jsonl").read_text().splitlines())
    steps = [line["step"] for line in lines if line["attempt"] == 2 and line["step"]]
    assert steps[0] > 0.5 * reached.step
    assert steps_of(second, job_id) == ["running", "queued", "running", "done"]
    [(why,)] = second.query("select why from transitions where job_id = ? and target = 'queued'", job_id)
    assert why == "the runner is gone without a word; 1 retries left"


@pytest.mark.drill
def test_a_runner_that_nobody_knows_of_yields_to_its_successor(start):
    """It is held still before it has read what it is to do, until its successor is at work."""
    first = start(crash_at=f"after:1:{LAUNCH}", **SHORTER)
    assert first.wait_for_end() == -signal.SIGKILL
    [orphan] = runners(first.state)
    os.kill(orphan, signal.SIGSTOP)
    second = start(**SHORTER)
    directory = second.state / "jobs/score-000001"
    second.wait_until(lambda: protocol.last_progress(directory, 2), "second attempt")
    os.kill(orphan, signal.SIGCONT)
    second.wait_until(lambda: orphan not in runners(second.state), "end of the orphan")
    assert (
        "attempt 1 of job score-000001 was overtaken by 2" in (second.state / "runners/cpu0.log").read_text()
    )
    second.wait_until_finished()
    second.terminate()
    require_whole(second.state)


def test_a_daemon_killed_while_a_training_suspends_finds_it_saved(start):
    first = start(crash_at=f"after:1:{SUSPEND}", **LONGER)
    job_id = first.wait_until(lambda: first.training(after_fraction=0.2), "training under way")
    first.reconfigure(**LONGER, **DIRTY)
    assert first.wait_for_end() == -signal.SIGKILL
    wait_until(lambda: not runners(first.state), "end of the runner")
    second = finish(start, trained=1, **LONGER)
    assert steps_of(second, job_id) == ["running", "suspended", "running", "done"]


def test_the_daemon_may_die_with_a_result_that_is_there_and_not_yet_kept(start):
    first = start(crash_at=f"before:2:{STORE}.move", **SHORTER)
    assert first.wait_for_end() == -signal.SIGKILL
    finish(start, **SHORTER)


@pytest.mark.drill
@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("nth", [1, 2, 5])
@pytest.mark.parametrize(
    "call",
    [
        *(LAUNCH, POLL, "carbon_nas.searcher:Searcher.step", "carbon_nas.engine:Engine.tick"),
        *(
            f"{STORE}.{name}"
            for name in (
                "set_meta",
                "add_candidates",
                "add_job",
                "move",
                "set_handle",
                "add_readings",
                "add_decision",
                "add_entries",
                "save_controller",
            )
        ),
    ],
)
def test_the_daemon_may_die_around_every_write(start, moment, nth, call):
    first = start(crash_at=f"{moment}:{nth}:{call}", **SHORTER)
    wait_until(lambda: first.process.poll() is not None or first.trained() == 2, "crash or end")
    if first.process.poll() is None:  # it was not called that often
        first.terminate()
    finish(start, **SHORTER)
