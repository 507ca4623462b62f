"""SIGTERM and SIGHUP to the real daemon."""

import os
import signal

import pytest
from daemon_accounts import require_whole
from daemon_process import DIRTY, command_of, daemons, reading, runners

from carbon_nas.model import JobKind

TWO_AT_A_TIME = {"train": {"epochs": 2}, "executor__local": {"cpu_slots": 2}}


@pytest.fixture
def start(tmp_path):
    with daemons(tmp_path) as start:
        yield start


def values_of(state):
    with reading(state) as store:
        return {found.arch: dict(found.values) for _, found in store.evaluations(JobKind.TRAIN)}


def trainings(daemon):
    return daemon.query("select state, progress from jobs where kind = 'train' order by id")


def test_sigterm_saves_every_training_and_all_end_as_if_nothing_had_been(start):
    whole = start(name="whole", **TWO_AT_A_TIME)
    whole.wait_until_finished()
    whole.terminate()

    first = start(**TWO_AT_A_TIME)
    first.wait_until(
        lambda: (
            [state for state, _ in trainings(first)] == ["running", "running"]
            and first.training(after_fraction=0.2)
        ),
        "two trainings under way",
    )
    assert first.terminate() < 10
    assert not runners(first.state)
    assert [state for state, _ in trainings(first)] == ["suspended", "suspended"]
    assert any(progress > 0.2 for _, progress in trainings(first))
    for job_id, progress in first.query("select id, progress from jobs where kind = 'train'"):
        kept = first.state / "jobs" / job_id / "checkpoints"
        assert not progress or list(kept.iterdir())  # one that had not begun has nothing to keep

    second = start(**TWO_AT_A_TIME)
    second.wait_until_finished()
    second.terminate()
    require_whole(second.state)
    assert values_of(second.state) == values_of(whole.state)
    assert len(values_of(whole.state)) == 2


def test_sigterm_at_once_after_the_start_leaves_in_order(start):
    daemon = start()
    daemon.wait_until_ready()
    assert daemon.terminate() < 10
    assert "Traceback" not in daemon.log
    assert not runners(daemon.state)


def test_sigterm_waits_for_no_controller(start):
    """The child that hosts it is held still in the middle of a question."""
    daemon = start(controller={"name": "reinforce"}, train={"epochs": 1})
    daemon.wait_until(daemon.training, "training under way")
    [worker] = daemon.children("carbon_nas.search.worker")
    os.kill(worker, signal.SIGSTOP)
    daemon.wait_until(lambda: daemon.trained() >= 1, "result, which the controller is to learn")
    assert daemon.stays_alive(1.0)
    assert "learnt" not in daemon.log
    assert daemon.terminate() < 10
    assert "Traceback" not in daemon.log
    assert command_of(worker) == ""


def test_sigterm_leaves_no_report_behind_that_is_still_being_written(start):
    daemon = start(daemon={"report_seconds": 0.2})
    [report] = daemon.wait_until(lambda: daemon.children("carbon_nas report"), "report under way")
    assert daemon.terminate() < 10
    assert "Traceback" not in daemon.log
    assert command_of(report) == ""


def test_ctrl_c_stops_as_sigterm_does(start):
    daemon = start()
    daemon.wait_until(daemon.training, "training under way")
    daemon.process.send_signal(signal.SIGINT)
    assert daemon.wait_for_end() == 0
    assert trainings(daemon)[0][0] == "suspended"
    assert "Traceback" not in daemon.log


def test_sighup_puts_in_force_what_it_can_and_keeps_what_was_when_the_file_is_wrong(start):
    daemon = start(**TWO_AT_A_TIME)
    daemon.wait_until(lambda: daemon.training(after_fraction=0.1), "training under way")
    assert daemon.metric("carbon_nas_config_last_reload_successful") == 1

    daemon.reconfigure(**TWO_AT_A_TIME, **DIRTY, energy={"watts_per_core": 11.0})
    daemon.wait_for_log("reloaded", "changed=['policy']", "need_restart=['energy']")
    daemon.wait_until(
        lambda: {state for state, _ in trainings(daemon)} == {"suspended"}, "all trainings suspended"
    )
    window, reason = daemon.query("select window, reason from decisions order by id desc limit 1")[0]
    assert window == "dirty"
    assert "dirty above 1 g/kWh" in reason or "clean below 0.5 g/kWh" in reason

    daemon.config.write_text("seed = [\n")
    daemon.process.send_signal(signal.SIGHUP)
    daemon.wait_for_log("the old configuration stays in force", str(daemon.config), "not valid TOML")
    assert daemon.metric("carbon_nas_config_last_reload_successful") == 0
    assert daemon.get("/healthz").json()["ok"]
    assert {state for state, _ in trainings(daemon)} == {"suspended"}

    daemon.reconfigure(**TWO_AT_A_TIME)
    daemon.wait_until_finished()
    assert daemon.metric("carbon_nas_config_last_reload_successful") == 1

    daemon.reconfigure(**TWO_AT_A_TIME, search={"max_trained": 3})
    daemon.wait_until(lambda: daemon.trained() == 3, "third training, that the new limit asks for")
    daemon.terminate()
    require_whole(daemon.state, trained=3)
