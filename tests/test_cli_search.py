"""What `carbon-nas calibrate` shows, through the real command line, of a store made here."""

import contextlib
import json
import random
from datetime import UTC, datetime

import pytest
from daemon_process import cli, everything

from carbon_nas.model import Candidate, Evaluation, Job, JobKind, JobState
from carbon_nas.search.spaces.nasbench201 import NasBench201, NasBench201Options
from carbon_nas.state_directory import DATABASE
from carbon_nas.states import transition
from carbon_nas.store.sql import SqlStore

START = datetime(2023, 1, 10, tzinfo=UTC)


def fill(directory, scored, trained):
    """A state directory as a search leaves it; quality is told by the score, with some noise."""
    directory.mkdir()
    luck, space = random.Random(0), NasBench201(NasBench201Options())
    archs = sorted({space.sample(luck) for _ in range(scored + 9)})[:scored]
    flops = {arch: 1e6 * (1 + arch.count("conv")) for arch in archs}
    score = {arch: {"flops": flops[arch], "az_progressivity": luck.gauss(0, 1)} for arch in archs}
    score[archs[-1]] = {"flops": flops[archs[-1]], "az_progressivity": float("-inf")}
    with contextlib.closing(SqlStore(directory / DATABASE)) as store:
        store.open()
        store.set_meta(
            "identity", json.dumps({"space": {"name": "nasbench201"}, "score": {"inference_cost": "flops"}})
        )
        store.add_candidates([Candidate(arch, "random", START) for arch in archs])
        keep(store, JobKind.SCORE, archs, score)
        for arch in archs[:trained]:
            quality = 0.5 + 0.1 * score[arch]["az_progressivity"] + 0.04 * luck.gauss(0, 1)
            found = {"accuracy": min(max(quality, 0.0), 1.0), "flops": flops[arch]}
            keep(store, JobKind.TRAIN, [arch], {arch: found})


def keep(store, kind, archs, values):
    job = Job(f"{kind}-{archs[0]}", kind, "GB", tuple(archs), START)
    store.add_job(job)
    running, step = transition(job, JobState.RUNNING, START, "test")
    store.move(running, step)
    done, step = transition(running, JobState.DONE, START, "test")
    store.move(done, step, [Evaluation(arch, kind, values[arch], 1.0, 1.0) for arch in archs])


@pytest.fixture(scope="module")
def state(tmp_path_factory):
    directory = tmp_path_factory.mktemp("calibrate") / "state"
    fill(directory, scored=60, trained=24)
    return directory


def test_a_program_is_told_the_figures_and_the_verdict(state):
    before = everything(state)
    done = cli("calibrate", "--state-dir", state, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    [line] = done.stdout.splitlines()
    found = json.loads(line)
    assert (found["trained"], found["scored"]) == (24, 60)
    signals = {one["name"]: one for one in found["signals"]}
    assert list(signals) == ["az_progressivity", "flops", "log-rank sum", "learned predictor"]
    told = signals["az_progressivity"]
    low, high = told["interval"]
    assert 0.5 < low < told["rho"] < high < 1
    assert told["rho_given_cost"] > 0.5
    assert told["rho_top"] is None, "24 trained have no ten in their best tenth"
    assert (told["unusable"], signals["flops"]["unusable"]) == (1, 0)
    assert told["regret"].keys() == {"1", "5", "10"}
    assert found["followed"] in signals
    assert found["verdict"].startswith(("Scoring works here", "24 trained are too few"))
    assert {path: held for path, held in everything(state).items() if path.name == DATABASE} == {
        path: held for path, held in before.items() if path.name == DATABASE
    }


def test_a_person_is_told_the_same_in_80_columns(forked_cli, state):
    found = json.loads(forked_cli("calibrate", "--state-dir", state, "--json").stdout)
    done = forked_cli("calibrate", "--state-dir", state, COLUMNS="80")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    [row] = [line.split() for line in lines if line.startswith("az_progressivity")]
    told = found["signals"][0]
    assert row[1:5] == [
        f"{told['rho']:.2f}",
        f"{told['interval'][0]:.2f}",
        "to",
        f"{told['interval'][1]:.2f}",
    ]
    assert row[5:] == [
        "-",
        f"{told['rho_given_cost']:.2f}",
        *(f"{100 * r:.1f}" for r in told["regret"].values()),
        "1",
    ]
    assert found["verdict"] in " ".join(done.stdout.split())
    assert "rho of the picked" in " ".join(done.stdout.split())


def test_nothing_trained_yet_is_told_with_what_to_do(forked_cli, tmp_path):
    fill(tmp_path / "state", scored=8, trained=0)
    done = forked_cli("calibrate", "--state-dir", tmp_path / "state")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(
        "carbon-nas: 8 scored and 0 trained: nothing to compare yet; let `carbon-nas run`"
    )
    assert done.stderr.count("\n") == 1


def test_a_place_where_nothing_has_run_is_told_in_one_line(forked_cli, tmp_path):
    done = forked_cli("calibrate", "--state-dir", tmp_path / "none")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    assert str(tmp_path / "none") in done.stderr
