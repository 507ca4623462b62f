"""The real unit and the real daemon under a real systemd: started, reloaded, killed, wedged, stopped, misconfigured.

One manager serves all tests; each begins with a service that runs and trains, however the test before left it.
"""

import json
import socket
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import systemd_box
from systemd_box import EXAMPLE, Box

from carbon_nas.errors import EX_CONFIG
from carbon_nas.evaluate import protocol
from carbon_nas.model import Job, JobKind, JobState

SETTINGS = {
    "POLICY__NAME": "always",
    "SEARCH__SCORE_BATCH": "2",
    "SEARCH__MINIMUM_POOL": "2",
    "SEARCH__MAX_SCORED": "4",
    "TRAIN__EPOCHS": "100000",  # no training ends by itself
    "TRAIN__CHECKPOINT_SECONDS": "3600",  # what is saved is saved because somebody asked
    "DAEMON__TICK_SECONDS": "0.5",
}
"""What the tests change of the example configuration, in the environment."""

DROP_IN = """
[Unit]
# The box has none of the units that every service otherwise waits for.
DefaultDependencies=no
# The tests start it more often than an operator would.
StartLimitBurst=100
[Service]
WatchdogSec=12
RestartSec=200ms
"""

PATIENCE_SECONDS = 60


def drop_in(settings: dict[str, str]) -> str:
    return DROP_IN + "".join(f"Environment=CARBON_NAS_{name}={value}\n" for name, value in settings.items())


@pytest.fixture(scope="module")
def port() -> int:
    """A free port: the box's loopback is the machine's own."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        found: int = listener.getsockname()[1]
        return found


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory, port: int) -> Iterator[Box]:
    settings = SETTINGS | {"DAEMON__LISTEN": f"127.0.0.1:{port}"}
    with systemd_box.booted(tmp_path_factory.mktemp("box"), drop_in(settings)) as box:
        yield box


@pytest.fixture
def training(box: Box) -> Job:
    """A training that is under way and has something to lose."""
    box.systemctl("start")
    return await_training(box)


def jobs(box: Box) -> list[Job]:
    with box.store() as store:
        return store.jobs()


def step_of(box: Box, job: Job) -> int:
    """Give the last step that the job's present attempt has told of."""
    progress = protocol.last_progress(box.state / "jobs" / job.id, job.attempt)
    return 0 if progress is None else progress.step


def await_training(box: Box, *, after_attempt: int = 0) -> Job:
    def look() -> Job | None:
        trainings = (job for job in jobs(box) if job.kind is JobKind.TRAIN and job.state is JobState.RUNNING)
        return next((job for job in trainings if job.attempt > after_attempt and step_of(box, job) > 0), None)

    return box.until(look, PATIENCE_SECONDS, "no training is under way")


def checkpoints(box: Box, job: Job) -> list[tuple[int, int, int]]:
    """Give (attempt, step, epochs validated) of the job's checkpoints, oldest first."""
    manifests = sorted((box.state / "jobs" / job.id / "checkpoints").glob("[0-9]*.json"))
    read = [json.loads(path.read_text()) for path in manifests]
    return [(manifest["attempt"], manifest["step"], manifest["epoch"]) for manifest in read]


def told_by_attempt(box: Box, job: Job) -> list[tuple[int, int]]:
    """Give every (step, epochs validated) that the job's present attempt has told of."""
    lines = (box.state / "jobs" / job.id / "progress.jsonl").read_text().splitlines()
    told = [line for line in map(json.loads, lines) if line["attempt"] == job.attempt]
    return [(line["step"], line["epoch"]) for line in told]


def require_went_on(box: Box, before: Job, *, least_step: int) -> None:
    """Check that the next attempt at a job saved nothing less than was seen done, and went on from there."""
    after = await_training(box, after_attempt=before.attempt)
    assert (after.id, after.attempt) == (before.id, before.attempt + 1)
    assert after.retries_left == before.retries_left, "a training that saved has cost no retry"
    attempt, *saved = checkpoints(box, before)[-1]
    assert attempt == before.attempt
    assert saved[0] >= least_step
    first = next(told for told in told_by_attempt(box, after) if told[0])
    assert first > tuple(saved), "a step further, or the epoch validated that the stop had left open"
    with box.store() as store:
        steps = [step for step in store.transitions() if step.job_id == before.id]
    assert [step.target for step in steps[-2:]] == [JobState.SUSPENDED, JobState.RUNNING]


def require_nothing_done_twice(box: Box) -> None:
    with box.store() as store:
        done = Counter(step.job_id for step in store.transitions() if step.target is JobState.DONE)
        trained = Counter(job.archs for job in store.jobs() if job.kind is JobKind.TRAIN)
        found = Counter((found.kind, found.arch) for _, found in store.evaluations())
    for counted in (done, trained, found):
        assert set(counted.values()) <= {1}


def reloaded_well(port: int) -> bool:
    """Scrape, from outside, whether the last reload was taken."""
    text = httpx.get(f"http://127.0.0.1:{port}/metrics").raise_for_status().text
    return "carbon_nas_config_last_reload_successful 1.0" in text.splitlines()


def test_it_starts_and_trains_as_its_own_user(box: Box, training: Job) -> None:
    assert box.show("ActiveState") == "active"
    assert box.show("Type") == "notify"
    assert box.show("StatusText") == "running"
    status = json.loads(box.carbon_nas("status", "--json"))
    assert status["jobs"]["train running"] == 1
    assert (status["zone"], status["scored"]) == ("GB", 4)
    children = box.run("ps", "-o", "user:20=,args=", "--ppid", box.show("MainPID")).splitlines()
    assert {line.split()[0] for line in children} == {"carbon-nas"}
    assert sum("carbon_nas.evaluate.runner" in line for line in children) == 1
    assert training.attempt >= 1


def test_a_reload_changes_what_may_change_and_disturbs_nothing(box: Box, training: Job, port: int) -> None:
    pid = box.show("MainPID")
    box.configure(EXAMPLE.replace("#retries = 2", "retries = 5"))
    box.systemctl("reload")
    box.until(lambda: "event=reloaded changed=['jobs']" in box.journal(), PATIENCE_SECONDS, "not reloaded")
    assert reloaded_well(port)

    box.configure(EXAMPLE.replace("#retries = 2", "retires = 5"))
    box.systemctl("reload")
    box.until(lambda: not reloaded_well(port), PATIENCE_SECONDS, "a wrong configuration was taken")
    assert "jobs.retires: unknown key (did you mean 'retries'?)" in box.journal()
    assert "the last reload failed" in box.show("StatusText")

    box.configure(EXAMPLE)
    box.systemctl("reload")
    box.until(lambda: reloaded_well(port), PATIENCE_SECONDS, "a mended configuration was not taken")
    assert (box.show("MainPID"), box.show("ActiveState")) == (pid, "active")
    assert next(job for job in jobs(box) if job.id == training.id).attempt == training.attempt


def test_after_kill_9_the_training_has_saved_and_goes_on(box: Box, training: Job) -> None:
    restarts, step = int(box.show("NRestarts")), step_of(box, training)
    box.run("kill", "-9", box.show("MainPID"))
    require_went_on(box, training, least_step=step)
    assert int(box.show("NRestarts")) == restarts + 1
    require_nothing_done_twice(box)


def test_a_wedged_daemon_is_restarted_and_the_training_goes_on(box: Box, training: Job) -> None:
    restarts, step = int(box.show("NRestarts")), step_of(box, training)
    box.run("kill", "-STOP", box.show("MainPID"))
    require_went_on(box, training, least_step=step)
    assert int(box.show("NRestarts")) == restarts + 1
    journal = box.journal()
    assert "Watchdog timeout" in journal
    assert "Fatal Python error: Aborted" in journal, "where it hung is in the log"
    require_nothing_done_twice(box)


def test_a_stop_saves_every_training_and_a_start_goes_on(box: Box, training: Job) -> None:
    step = step_of(box, training)
    box.systemctl("stop")
    assert (box.show("ActiveState"), box.show("Result"), box.show("ExecMainStatus")) == (
        "inactive",
        "success",
        "0",
    )
    begun = [job for job in jobs(box) if job.kind is JobKind.TRAIN and job.attempt]
    assert {job.state for job in begun} == {JobState.SUSPENDED}
    for job in begun:
        assert checkpoints(box, job)[-1][0] == job.attempt
    with box.store() as store:
        assert store.transitions()[-1].why == "the daemon stops"
    assert box.run("ps", "-u", "carbon-nas", "-o", "args=", check=False) == ""
    box.systemctl("start")
    require_went_on(box, training, least_step=step)
    require_nothing_done_twice(box)


def test_a_wrong_configuration_ends_with_78_and_no_restart(box: Box) -> None:
    box.systemctl("stop")
    box.configure(EXAMPLE.replace('#zone = "GB"', 'zone = "ES"'))
    try:
        box.systemctl("start", check=False)
        # `failed`, not `auto-restart`: that is for good.
        assert (box.show("ActiveState"), box.show("SubState"), box.show("NRestarts")) == (
            "failed",
            "failed",
            "0",
        )
        assert (box.show("Result"), box.show("ExecMainStatus")) == ("exit-code", str(EX_CONFIG))
        assert "carbon-nas: /etc/carbon-nas/carbon-nas.toml: " in box.journal()
    finally:
        box.configure(EXAMPLE)
        box.run("systemctl", "reset-failed", "carbon-nas.service")


KILL_POINTS = ("working", "starting", "ready") * 4


def search_to_its_end(folder: Path, kill_points: tuple[str, ...]) -> dict[str, float]:
    """Run a small search to its end, killing the daemon at each of these points; give what each training found."""
    settings = SETTINGS | {
        "CONTROLLER__NAME": "random",
        "SEARCH__MINIMUM_POOL": "4",  # so that the ranking does not depend on who was scored first
        "SEARCH__MAX_TRAINED": "2",
        "TRAIN__EPOCHS": "40",
        "JOBS__RETRIES": "20",  # one killed while Python itself starts has nothing to save, and costs one
    }
    with systemd_box.booted(folder, drop_in(settings)) as box:
        box.systemctl("start")
        for point in kill_points:
            pid = box.until(lambda point=point: pid_at(box, point), PATIENCE_SECONDS, f"never {point}")
            box.run("kill", "-9", pid)
            box.until(
                lambda pid=pid: box.show("MainPID") not in {pid, "0"}, PATIENCE_SECONDS, "not restarted"
            )
        box.until(lambda: trained(box) == 2, 300, "the search did not end")
        require_nothing_done_twice(box)
        assert {job.state for job in jobs(box)} == {JobState.DONE}
        with box.store() as store:
            return {found.arch: found.values["accuracy"] for _, found in store.evaluations(JobKind.TRAIN)}


def trained(box: Box) -> int:
    with box.store() as store:
        return len(store.evaluations(JobKind.TRAIN))


def pid_at(box: Box, point: str) -> str | None:
    """Give the daemon's process if it is at that point of its life."""
    pid, active = box.show("MainPID"), box.show("ActiveState") == "active"
    at = {
        "starting": lambda: not active,
        "ready": lambda: active,
        "working": lambda: (
            active and any(job.state is JobState.RUNNING and step_of(box, job) for job in jobs(box))
        ),
    }
    return pid if pid != "0" and at[point]() else None


@pytest.mark.drill
def test_a_search_that_is_killed_again_and_again_finds_the_same(tmp_path: Path) -> None:
    undisturbed = search_to_its_end(tmp_path / "undisturbed", ())
    killed = search_to_its_end(tmp_path / "killed", KILL_POINTS)
    assert killed == undisturbed
