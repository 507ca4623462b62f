"""kill -9 of the real daemon, at several moments: nothing is lost, nothing done or counted twice."""

import json
import os
import signal

import pytest
from daemon_accounts import require_whole
from daemon_process import Daemon, kill_runners, query, runners, wait_until, write_config

from carbon_nas.evaluate import protocol

LONGER = {"train": {"epochs": 8}}


@pytest.fixture
def start(tmp_path):
    """Start a daemon on the test's state directory; whatever is left at the end is killed."""
    made = []

    def start(**changes):
        crash_at = changes.pop("crash_at", None)
        made.append(Daemon(write_config(tmp_path / "nas.toml", **changes), tmp_path / "state", crash_at=crash_at))
        return made[-1]

    yield start
    for daemon in made:
        daemon.kill()
    kill_runners(tmp_path / "state")


def test_a_training_whose_daemon_was_killed_goes_on_and_is_taken_up_again(start):
    first = start(**LONGER)
    job_id = first.wait_until(lambda: first.training(after_fraction=0.1), "a training under way")
    [orphan] = runners(first.state)
    first.kill()
    assert runners(first.state) == [orphan]
    second = start(**LONGER)
    second.wait_until_ready()
    assert query(second.state, "select state, attempt from jobs where id = ?", job_id) == [("running", 1)]
    second.wait_until_finished()
    second.terminate()
    require_whole(second.state)
    assert query(second.state, "select count(*) from transitions where job_id = ?", job_id) == [(2,)]


def test_a_training_that_ended_while_no_daemon_ran_is_not_done_again(start):
    first = start()
    job_id = first.wait_until(first.training, "a training under way")
    first.kill()
    directory = first.state / "jobs" / job_id
    wait_until(lambda: protocol.read_outcome(directory, 1), "end of the orphan's training")
    second = start()
    second.wait_until_finished()
    second.terminate()
    require_whole(second.state)
    assert protocol.read_attempt(directory) == 1


def test_a_training_whose_runner_died_too_goes_on_from_its_checkpoint(start):
    first = start(**LONGER)
    job_id = first.wait_until(lambda: first.training(after_fraction=0.3), "a training under way")
    first.kill()
    assert len(kill_runners(first.state)) == 1
    wait_until(lambda: not runners(first.state), "end of the runner")
    reached = protocol.last_progress(first.state / "jobs" / job_id, 1)
    second = start(**LONGER)
    second.wait_until_finished()
    second.terminate()
    require_whole(second.state)
    lines = (second.state / "jobs" / job_id / "progress.jsonl").read_text().splitlines()
    steps = [line["step"] for line in map(json.loads, lines) if line["attempt"] == 2 and line["step"]]
    assert steps[0] > 0.5 * reached.step
    [(why,)] = query(
        second.state, "select why from transitions where job_id = ? and target = 'queued'", job_id
    )
    assert why == "the runner is gone without a word; 1 retries left"


def test_a_runner_that_nobody_knows_of_yields_to_its_successor(start):
    """It is held still before it has read what it is to do, until its successor is at work."""
    first = start(crash_at="after:1:carbon_nas.execute.local:LocalExecutor.launch")
    assert first.wait_for_end() == -signal.SIGKILL
    [orphan] = runners(first.state)
    os.kill(orphan, signal.SIGSTOP)
    second = start()
    jobs = second.state / "jobs"
    second.wait_until(lambda: protocol.last_progress(jobs / "score-000001", 2), "a second attempt")
    os.kill(orphan, signal.SIGCONT)
    second.wait_until(lambda: orphan not in runners(second.state), "end of the orphan")
    assert "attempt 1 of job score-000001 was overtaken by 2" in (second.state / "runners/cpu0.log").read_text()
    second.wait_until_finished()
    second.terminate()
    require_whole(second.state)


MOMENTS = {
    "a launch is kept, its runner not yet started": "before:1:carbon_nas.execute.local:LocalExecutor.launch",
    "the runner of a training is started, nobody knows": "after:2:carbon_nas.execute.local:LocalExecutor.launch",
    "scoring": "after:8:carbon_nas.execute.local:LocalExecutor.poll",
    "a result is there and not yet kept": "before:2:carbon_nas.store.sql:SqlStore.move",
    "a result is kept": "after:2:carbon_nas.store.sql:SqlStore.move",
    "energy is about to be kept": "before:4:carbon_nas.store.sql:SqlStore.add_entries",
    "energy is kept": "after:4:carbon_nas.store.sql:SqlStore.add_entries",
}


@pytest.mark.parametrize("crash_at", MOMENTS.values(), ids=MOMENTS.keys())
def test_the_daemon_may_die_at_any_moment(start, crash_at):
    first = start(crash_at=crash_at)
    assert first.wait_for_end() == -signal.SIGKILL
    second = start()
    second.wait_until_finished()
    second.terminate()
    require_whole(second.state)
