"""What scoring finds out about the cost of an inference, by real runner processes and by the published table."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace

import pytest
from cifar_files import make_cifar10
from daemon_process import wait_until
from PIL import Image
from torchvision.datasets import cifar

from carbon_nas.errors import EX_SUSPENDED, ConfigurationError
from carbon_nas.evaluate import inference, protocol, published
from carbon_nas.evaluate.attempt import Attempt
from carbon_nas.evaluate.costing import FINDERS, FOLDER
from carbon_nas.evaluate.jobs import Workshop, score_job, train_job
from carbon_nas.evaluate.signals import Lines, StopRequest
from carbon_nas.model import JobKind, JobSpec
from carbon_nas.search.cost import COSTS, named
from carbon_nas.search.spaces.nasbench201 import NasBench201, NasBench201Options

SPACE = NasBench201(NasBench201Options())
PLAIN, IDLE = SPACE.decode((0, 3, 0, 0, 0, 1)), SPACE.decode((3, 3, 0, 0, 0, 1))
"""They compute the same: in the second a convolution leads nowhere."""
CELLS = tuple(SPACE.decode((3, 3, 3, 3, a, b)) for a in range(3) for b in range(3))


def spec_of(folder, archs, cost, name="score-1", **changes):
    score = {"batch_size": 8, "proxies": ["naswot"], "inference_cost": cost}
    spec = JobSpec(name, JobKind.SCORE, 1, tuple(archs), "nasbench201", folder / name, seed=7)
    return replace(spec, space_options={"channels": 4, "cells": 1}, score=score, **changes)


def started(*specs):
    """A runner process that has been sent the jobs."""
    process = subprocess.Popen(
        [sys.executable, "-m", "carbon_nas.evaluate.runner"],
        stdin=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    process.stdin.write("".join(f"{protocol.write_spec(spec)}\n" for spec in specs).encode())
    process.stdin.flush()
    return process


def done(*specs):
    """Do jobs in a runner of their own; give what each found, by architecture."""
    process = started(*specs)
    process.communicate(timeout=240)
    assert process.returncode == 0
    return [found(spec) for spec in specs]


def here(spec, workshop=None, job=score_job):
    """Do a job in this process."""
    protocol.write_spec(spec)
    assert job(Attempt(spec, StopRequest(), Lines(-1), 0.0), workshop or Workshop())
    return found(spec)


def found(spec):
    return {one.arch: one.values for one in protocol.read_results(spec.directory)}


def kept(folder):
    return {path: path.stat().st_mtime_ns for path in (folder / FOLDER).glob("*.json")}


def test_every_cost_has_a_way_to_be_found():
    assert {*(cost.kind for cost in COSTS.values()), named("latency:pixel2").kind} == FINDERS.keys()


@pytest.mark.parametrize(("cost", "proxy"), [("flops", "flops"), ("parameters", "params")])
def test_a_count_is_recorded_whatever_the_proxies_are(tmp_path, cost, proxy):
    alone = here(spec_of(tmp_path / "alone", CELLS[:3], cost))
    spec = spec_of(tmp_path / "beside", CELLS[:3], cost)
    beside = here(replace(spec, score={**spec.score, "proxies": ["naswot", proxy]}))
    recorded = named(cost).recorded
    for arch in CELLS[:3]:
        assert alone[arch].keys() == {"naswot", recorded}
        assert alone[arch][recorded] == beside[arch][recorded] == beside[arch][proxy] > 0


def test_what_a_training_reports_is_what_its_scoring_recorded(tmp_path):
    """So that one architecture has one cost. The image of a scoring is noise, that of a training one of the set."""
    training = JobSpec("train-1", JobKind.TRAIN, 1, (IDLE,), "nasbench201", tmp_path / "train-1", seed=7)
    training = replace(
        training, space_options={"channels": 2, "cells": 1}, train={"epochs": 1, "batch_size": 500}
    )
    protocol.write_spec(training)
    assert train_job(Attempt(training, StopRequest(), Lines(-1), 0.0), Workshop())
    reported = found(training)[IDLE]
    for cost in (COSTS["flops"], COSTS["parameters"]):
        spec = spec_of(tmp_path, [IDLE], cost.name, name=cost.name)
        assert (
            here(replace(spec, space_options={"channels": 2, "cells": 1}))[IDLE][cost.recorded]
            == (reported[cost.reported])
        )


def test_a_runner_measures_latency_once_for_all_that_compute_the_same(tmp_path):
    archs = (PLAIN, IDLE, CELLS[-1])
    first, again = done(
        spec_of(tmp_path, archs, "latency"), spec_of(tmp_path, reversed(archs), "latency", name="score-2")
    )
    [elsewhere] = done(spec_of(tmp_path, archs, "latency", name="score-3"))
    assert {values.keys() == {"naswot", "latency_seconds"} for values in first.values()} == {True}
    assert first[PLAIN]["latency_seconds"] == first[IDLE]["latency_seconds"]
    for arch in archs:
        assert 1e-5 < first[arch]["latency_seconds"] < 1
        assert first[arch] == again[arch] == elsewhere[arch]
    assert len(kept(tmp_path)) == 2
    names = {json.loads(path.read_text())["arch"] for path in kept(tmp_path)}
    assert names == {SPACE.canonical(PLAIN), SPACE.canonical(CELLS[-1])}


@pytest.mark.parametrize("number", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.drill)])
def test_stopped_and_gone_on_nothing_is_measured_twice(tmp_path, number):
    spec = spec_of(tmp_path, CELLS, "latency")
    process = started(spec)
    wait_until(lambda: len(found(spec)) >= 2, "two scored")
    process.send_signal(number)
    process.communicate(timeout=240)
    assert process.returncode == {signal.SIGTERM: EX_SUSPENDED}.get(number, -number)
    before, measured = found(spec), kept(tmp_path)
    assert 2 <= len(before) < len(CELLS)
    assert len(before) <= len(measured) <= len(before) + 1
    (spec.directory / "results.jsonl").unlink()  # as if the last words had not reached the disk
    [after] = done(replace(spec, attempt=2))
    assert after.keys() == set(CELLS)
    for arch, values in before.items():
        assert after[arch] == values
    assert measured.items() <= kept(tmp_path).items()
    assert len(kept(tmp_path)) == len({SPACE.canonical(arch) for arch in CELLS})


@pytest.mark.drill
def test_two_runners_at_once_agree(tmp_path):
    specs = [spec_of(tmp_path, (PLAIN, IDLE, *CELLS[:2]), "latency", name=f"score-{n}") for n in range(2)]
    for process in [started(spec) for spec in specs]:
        process.communicate(timeout=240)
    one, two = (found(spec) for spec in specs)
    assert one == two
    assert len(one) == 4


def test_other_networks_images_or_threads_have_latencies_of_their_own(tmp_path):
    spec = spec_of(tmp_path, [PLAIN], "latency")
    here(spec)
    here(replace(spec, directory=tmp_path / "wide", space_options={"channels": 8, "cells": 1}))
    here(replace(spec, directory=tmp_path / "threads", threads=2))
    assert len(kept(tmp_path)) == 3


def test_a_measurement_is_short(tmp_path, monkeypatch):
    asked = []
    real = inference.measure

    def measure(network, images, meter, **how):
        asked.append((len(images), meter, how))
        return real(network, images, meter, **how)

    monkeypatch.setattr("carbon_nas.evaluate.costing.measure", measure)
    here(spec_of(tmp_path, CELLS[:1], "latency"))
    [(batch, meter, how)] = asked
    assert (batch, meter) == (1, None)
    assert how["seconds"] <= 0.3
    assert how["passes"] + how["warm_up"] <= 10


@pytest.mark.parametrize("device", ["pixel2", "titan_rtx_256"])
def test_a_published_latency_is_looked_up(tmp_path, monkeypatch, device):
    monkeypatch.setattr(cifar, "check_integrity", lambda path, md5=None: True)
    task = {"dataset": "cifar10", "data_dir": str(make_cifar10(tmp_path))}
    spec = spec_of(tmp_path, (PLAIN, IDLE), f"latency:{device}", task=task)
    values = here(replace(spec, space_options={}, score={**spec.score, "proxies": ["params"]}))
    for arch in (PLAIN, IDLE):
        assert values[arch]["latency_seconds"] == published.latency_seconds(device, arch) > 0
    assert not (tmp_path / FOLDER).exists()


def test_a_runner_looks_up_nothing_for_other_networks(tmp_path):
    with pytest.raises(ConfigurationError, match="published latencies are of nasbench201 at 16 channels"):
        here(spec_of(tmp_path, [PLAIN], "latency:pixel2"))
    with pytest.raises(ConfigurationError, match="images of 32x32, not 16x16"):
        here(replace(spec_of(tmp_path, [PLAIN], "latency:pixel2"), space_options={}))


@pytest.mark.parametrize("job", [score_job, train_job])
def test_a_runner_takes_no_networks_that_are_for_images_of_another_size(tmp_path, job):
    mobile = spec_of(tmp_path, ["k3e1d1w1.0|" * 6 + "k3e1d1w1.0"], "flops")
    mobile = replace(mobile, space="mobile", space_options={"side": 32, "width_multiplier": 0.1})
    with pytest.raises(
        ConfigurationError,
        match=r"space.mobile: .* images of 32x32, and those of the data set are 16x16: .* side to 16",
    ):
        here(mobile, job=job)
    assert here(replace(mobile, space_options={"side": 16, "width_multiplier": 0.1}))


def test_a_runner_scores_nothing_on_pictures_that_the_space_cannot_take(tmp_path):
    (tmp_path / "train" / "cat").mkdir(parents=True)
    for number in range(5):
        Image.new("RGB", (30, 30), (number, number, number)).save(tmp_path / f"train/cat/{number}.png")
    task = {"dataset": "image-folder", "data_dir": str(tmp_path)}
    with pytest.raises(ConfigurationError, match="divisible by 4, and those of the data set are 30x30"):
        here(spec_of(tmp_path, [PLAIN], "flops", task=task))
