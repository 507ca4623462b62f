"""The daemon at work and at rest: what it answers, what it shows, what it costs."""

import json
import re
from pathlib import Path

import pytest
from daemon_process import DIRTY, Daemon, cli, daemons, free_port, kill_runners, query, runners

from carbon_nas.execute import processes

EXAMPLE = Path(__file__).parents[1] / "systemd" / "carbon-nas.example.toml"
MAX_RESIDENT_MIB = 150.0  # as the kernel and every tool count a process
MAX_IDLE_CORES = 0.01


def maps_torch(pid):
    return "libtorch" in Path(f"/proc/{pid}/maps").read_text()


def resident_mib(pid):
    line = re.search(r"^VmRSS:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return int(line[1]) / 1024


def cores_used(daemon, seconds):
    """Give the share of a core that the process uses in the next `seconds`, while nobody asks it anything."""
    pid = daemon.process.pid
    before = processes.cpu_seconds(pid)
    assert daemon.stays_alive(seconds), daemon.log
    return (processes.cpu_seconds(pid) - before) / seconds


@pytest.fixture(scope="module")
def busy(tmp_path_factory):
    """A daemon that learns, with two trainings under way."""
    with daemons(tmp_path_factory.mktemp("busy")) as start:
        daemon = start(
            controller={"name": "reinforce"},
            train={"epochs": 400},
            executor__local={"cpu_slots": 2},
            energy={"sample_seconds": 0.1},
        )
        running = "select count(*) from jobs where kind = 'train' and handle is not null"
        daemon.wait_until(lambda: daemon.query(running) == [(2,)], "two trainings under way")
        yield daemon


def test_only_its_children_have_torch(busy):
    workers = busy.children("carbon_nas.search.worker")
    assert len(workers) == 1
    busy.wait_until(lambda: all(map(maps_torch, [*workers, *runners(busy.state)])), "torch in the children")
    assert not maps_torch(busy.process.pid)


def test_metrics_and_health_answer_while_trainings_run(busy):
    health = busy.get("/healthz")
    assert health.status_code == 200
    assert health.json().items() >= {"ok": True, "grid": "fresh", "zone": "GB"}.items()
    assert health.json()["tick_age_seconds"] < 10

    answer = busy.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    assert busy.metric("carbon_nas_slots") == busy.metric("carbon_nas_slots_busy") == 2
    assert busy.metric("carbon_nas_window", window="clean") == 1
    assert busy.metric("carbon_nas_candidates_scored_total") == 4
    labels = {"basis": "direct", "provider": "csv", "quality": "actual", "signal": "average", "zone": "GB"}
    assert busy.metric("carbon_nas_grid_intensity_grams_per_kilowatt_hour", **labels) == 62
    before = busy.metric("carbon_nas_energy_joules_total", work="train")
    busy.wait_until(
        lambda: busy.metric("carbon_nas_energy_joules_total", work="train") > before,
        "more energy in the ledger",
    )


def test_status_and_report_read_beside_a_daemon_that_writes(busy):
    ticks = busy.metric("carbon_nas_last_tick_timestamp_seconds")
    rows = busy.query("select count(*) from ledger")[0][0]
    with_json = cli("status", "--state-dir", busy.state, "--json")
    assert with_json.returncode == 0, with_json.stderr
    now = json.loads(with_json.stdout)
    assert (
        now.items() >= {"zone": "GB", "window": "clean", "scored": 4, "trained": 0, "best_arch": None}.items()
    )
    assert now["jobs"] == {"score done": 1, "train running": 2}
    report = cli("report", "--state-dir", busy.state)
    assert report.returncode == 0, report.stderr
    assert (busy.state / "report/report.html").stat().st_size > 10_000
    assert busy.metric("carbon_nas_last_tick_timestamp_seconds") > ticks
    assert busy.query("select count(*) from ledger")[0][0] > rows
    assert "error" not in busy.log


def test_a_second_daemon_cannot_have_its_directory_even_while_an_orphan_lives(busy):
    """Runners inherit no lock: after a crash the next daemon may begin at once."""
    lock = (busy.state / "lock").stat()
    for pid in [*busy.children("carbon_nas"), *runners(busy.state)]:
        held = [link.stat() for link in Path(f"/proc/{pid}/fd").iterdir() if link.exists()]
        assert all((one.st_dev, one.st_ino) != (lock.st_dev, lock.st_ino) for one in held)


@pytest.fixture
def idle(tmp_path):
    """A daemon at its own pace, in a dirty hour, with everything scored and nothing it may do."""
    with daemons(tmp_path) as start:
        daemon = start(
            **DIRTY,
            controller={"name": "reinforce"},
            daemon={"tick_seconds": 2.0},
            executor__local={"linger_seconds": 1.0},
        )
        daemon.wait_until(
            lambda: (
                query(daemon.state, "select count(*) from evaluations")[0][0] == 4
                and not runners(daemon.state)
            ),
            "everything scored, and the runner gone",
        )
        yield daemon


def test_an_idle_daemon_is_small_and_quiet(idle):
    assert cores_used(idle, seconds=10) < MAX_IDLE_CORES
    assert idle.get("/metrics").status_code == 200
    assert resident_mib(idle.process.pid) < MAX_RESIDENT_MIB


@pytest.mark.drill
def test_the_example_stays_small_and_quiet_in_a_dirty_window_with_a_full_queue(tmp_path, capsys):
    text, port = EXAMPLE.read_text(), free_port()
    for default, value in {
        '#name = "percentile"': 'name = "threshold"',
        "#clean_below = 150.0": "clean_below = 0.5",
        "#dirty_above = 200.0": "dirty_above = 1.0",
        '#listen = "127.0.0.1:9464"': f'listen = "127.0.0.1:{port}"',
    }.items():
        assert text.count(default) == 1
        text = text.replace(default, value)
    (tmp_path / "nas.toml").write_text(text)
    daemon = Daemon(tmp_path / "nas.toml", tmp_path / "state")
    try:
        daemon.wait_until(
            lambda: len(daemon.query("select id from evaluations")) >= 300 and not runners(daemon.state),
            "full queue, and the runner gone",
            patience_seconds=900,
        )
        used = cores_used(daemon, seconds=60)
        resident = resident_mib(daemon.process.pid)
        with capsys.disabled():
            print(f"{used:.2%} of a core, {resident:.0f} MiB resident")  # noqa: T201 -- the figures are the point
        assert used < MAX_IDLE_CORES
        assert resident < MAX_RESIDENT_MIB
    finally:
        daemon.kill()
        kill_runners(daemon.state)
