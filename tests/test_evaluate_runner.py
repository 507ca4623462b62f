"""The runner as a real process, through its real files and signals."""

import asyncio
import json
import math
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from broken_networks import REST, install_broken

from carbon_nas.clock import monotonic, real_sleep
from carbon_nas.errors import EX_SUSPENDED
from carbon_nas.evaluate import checkpoint, protocol
from carbon_nas.evaluate.jobs import prepare_device
from carbon_nas.evaluate.protocol import EX_FENCED
from carbon_nas.model import JobKind, JobSpec, RunState
from carbon_nas.search.spaces.nasbench201 import NasBench201, NasBench201Options

PATIENCE_SECONDS = 240.0
SPACE = NasBench201(NasBench201Options())
CELLS = tuple(SPACE.decode(cell) for cell in [(3, 1, 2, 4, 2, 1), (0,) * 6, (1,) * 6, (2, 3, 0, 4, 1, 2)])
DONE, SUSPENDED, FAILED = RunState.DONE, RunState.SUSPENDED, RunState.FAILED


class Runner:
    """A runner process, and what an executor does with it."""

    def __init__(self):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "carbon_nas.evaluate.runner"],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )

    def send(self, spec):
        self.process.stdin.write(f"{protocol.write_spec(spec)}\n".encode())
        self.process.stdin.flush()

    def do(self, spec):
        self.send(spec)
        wait_until(lambda: protocol.read_outcome(spec.directory, spec.attempt))
        return protocol.read_outcome(spec.directory, spec.attempt)

    def signal(self, number):
        self.process.send_signal(number)

    def leave(self):
        """Close its input; give its exit status and what it said."""
        _, said = self.process.communicate(timeout=PATIENCE_SECONDS)
        return self.process.returncode, said.decode()


@pytest.fixture
def runner():
    made = []

    def start():
        made.append(Runner())
        return made[-1]

    yield start
    for one in made:
        one.process.kill()
        one.process.communicate()


def wait_until(condition):
    async def watch():
        limit = monotonic() + PATIENCE_SECONDS
        while not condition():
            assert monotonic() < limit, "waited too long"
            await real_sleep(0.005)

    asyncio.run(watch())


def catches_sigterm(process):
    """Whether the process's own handler stands, by the kernel's word (proc(5), SigCgt)."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    caught = int(next(line for line in status.splitlines() if line.startswith("SigCgt")).split()[1], 16)
    return caught >> (signal.SIGTERM - 1) & 1


def score_spec(directory, archs=CELLS, **changes):
    spec = JobSpec(directory.name, JobKind.SCORE, 1, archs, "nasbench201", directory, seed=7)
    options = {"channels": 4, "cells": 1}
    return replace(spec, space_options=options, score={"batch_size": 16}, **changes)


def train_spec(directory, **changes):
    train = {"epochs": 3, "batch_size": 100, "augment": True, "checkpoint_seconds": 0.02}
    spec = JobSpec("train-job", JobKind.TRAIN, 1, CELLS[:1], "nasbench201", directory, seed=7)
    return replace(spec, **{"space_options": {"channels": 2, "cells": 1}, "train": train, **changes})


def next_attempt(spec):
    return replace(spec, attempt=spec.attempt + 1)


def step_of(spec):
    progress = protocol.last_progress(spec.directory, spec.attempt)
    return progress.step if progress else -1


def outcome_of(spec):
    return protocol.read_outcome(spec.directory, spec.attempt)


def final_state(spec):
    state = checkpoint.read(checkpoint.manifests(spec.directory / "checkpoints")[0])[1]
    assert state["step"] == 3 * 40
    kept = ("network", "optimizer", "rng", "curve", "loss_sum")
    return {key: state[key] for key in kept}


def assert_same(one, two):
    assert type(one) is type(two)
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, two)
    elif isinstance(one, dict):
        assert one.keys() == two.keys()
        for key in one:
            assert_same(one[key], two[key])
    elif isinstance(one, list | tuple):
        assert len(one) == len(two)
        for pair in zip(one, two, strict=True):
            assert_same(*pair)
    else:
        assert one == two


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    spec = train_spec(tmp_path_factory.mktemp("whole"))
    whole = Runner()
    assert whole.do(spec).state is DONE
    assert whole.leave() == (0, "")
    return final_state(spec), protocol.read_results(spec.directory)[0]


def test_a_warm_runner_scores_batch_after_batch_in_any_order(runner, tmp_path):
    one, two = score_spec(tmp_path / "one"), score_spec(tmp_path / "two", archs=CELLS[::-1])
    warm = runner()
    assert warm.do(one).state is DONE
    assert warm.do(two).state is DONE
    assert warm.leave() == (0, "")
    first, second = (outcome_of(spec) for spec in (one, two))
    assert first.base_cpu_seconds == 0.0  # charged for the start-up
    assert first.cpu_seconds <= second.base_cpu_seconds < second.cpu_seconds
    assert second.cpu_seconds - second.base_cpu_seconds < first.cpu_seconds
    pids = {protocol.last_progress(spec.directory, 1).pid for spec in (one, two)}
    assert pids == {warm.process.pid}
    scores = [{found.arch: found.values for found in protocol.read_results(s.directory)} for s in (one, two)]
    assert scores[0] == scores[1]
    assert set(scores[0]) == set(CELLS)
    assert scores[0][CELLS[1]]["az_progressivity"] == float("-inf")
    assert scores[0][CELLS[0]]["flops"] > scores[0][CELLS[2]]["flops"]


def test_a_failed_job_does_not_harm_the_next(runner, tmp_path):
    wrong = {
        "arch": score_spec(tmp_path / "arch", archs=("nonsense",)),
        "space": score_spec(tmp_path / "space", space="nasbench210"),
        "task": score_spec(tmp_path / "task", task={"dataset": "cifar10", "data_dir": str(tmp_path)}),
        "device": score_spec(tmp_path / "device", device="cuda"),
        "settings": train_spec(tmp_path / "settings", train={"epochs": 0}),
        "archs": train_spec(tmp_path / "archs", archs=CELLS),
    }
    says = {
        "arch": "ValueError: 'nonsense' is no cell",
        "space": "did you mean 'nasbench201'?",
        "task": "put the unpacked files of cifar10 there",
        "device": "device 'cuda' cannot be used",
        "settings": "train.epochs",
        "archs": "a train job has one architecture, this one 4",
    }
    if torch.cuda.is_available():
        del wrong["device"]
    hardy = runner()
    for name, spec in wrong.items():
        outcome = hardy.do(spec)
        assert outcome.state is FAILED, name
        assert says[name] in outcome.reason
        assert "\n" not in outcome.reason
    broken = tmp_path / "broken"
    broken.mkdir()
    protocol.write_attempt(broken, 4)
    (broken / "spec.json").write_text("{")
    hardy.process.stdin.write(f"{broken / 'spec.json'}\n".encode())
    good = score_spec(tmp_path / "good", archs=CELLS[:1])
    assert hardy.do(good).state is DONE
    assert protocol.read_outcome(broken, 4).state is FAILED
    status, said = hardy.leave()
    assert status == 0
    assert "Traceback" in said


def test_one_that_cannot_be_scored_does_not_harm_the_others(runner, tmp_path, monkeypatch):
    install_broken(tmp_path, monkeypatch)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{Path(__file__).parent}")
    archs = (*(f"{kind}{REST}" for kind in (5, 0, 1, 2, 3)), "5-1-0-0-0-0")
    spec = replace(
        score_spec(tmp_path / "mixed", archs),
        space="broken",
        space_options={"choices": [6] * 6},
        score={"batch_size": 16, "proxies": ["flops", "grad_norm", "swap"]},
    )
    outcome = runner().do(spec)
    assert outcome.state is FAILED
    assert outcome.reason == (
        f"4 of 6 architectures cannot be scored: the network of 0{REST} cannot be made: RuntimeError: no such layer"
    )
    found = {result.arch: result.values for result in protocol.read_results(spec.directory)}
    assert found.keys() == {archs[0], archs[-1]}
    assert found[archs[0]]["grad_norm"] > 0
    assert math.isnan(found[archs[0]]["swap"])  # there is nothing that it could look at


def test_a_waiting_runner_leaves_at_once_and_ignores_the_terminal(runner, tmp_path):
    waiting = runner()
    assert waiting.do(score_spec(tmp_path / "one", archs=CELLS[:1])).state is DONE
    waiting.signal(signal.SIGINT)
    assert waiting.do(score_spec(tmp_path / "two", archs=CELLS[:1])).state is DONE
    waiting.signal(signal.SIGTERM)
    assert waiting.process.wait(PATIENCE_SECONDS) == EX_SUSPENDED  # its input is still open


def test_asked_to_stop_while_it_starts(runner, tmp_path, uninterrupted):
    spec = train_spec(tmp_path / "job")
    early = runner()
    early.send(spec)
    wait_until(lambda: catches_sigterm(early.process))
    early.signal(signal.SIGTERM)  # torch is still being imported
    assert early.process.wait(PATIENCE_SECONDS) == EX_SUSPENDED
    assert outcome_of(spec).state is SUSPENDED
    assert outcome_of(spec).cpu_seconds > 0.1
    assert protocol.read_results(spec.directory) == ()
    again = next_attempt(spec)
    assert runner().do(again).state is DONE
    assert_same(final_state(again), uninterrupted[0])


def test_asked_to_stop_while_it_scores(runner, tmp_path):
    archs = tuple(SPACE.decode((3, 3, 3, 3, a, b)) for a in range(5) for b in range(5))
    spec = score_spec(tmp_path / "job", archs=archs)
    first = runner()
    first.send(spec)
    wait_until(lambda: len(protocol.read_results(spec.directory)) >= 2)
    first.signal(signal.SIGTERM)
    assert first.process.wait(PATIENCE_SECONDS) == EX_SUSPENDED
    before = protocol.read_results(spec.directory)
    assert outcome_of(spec).state is SUSPENDED
    assert 2 <= len(before) < len(archs)
    again = next_attempt(spec)
    assert runner().do(again).state is DONE
    after = protocol.read_results(spec.directory)
    assert after[: len(before)] == before
    assert [found.arch for found in after] == list(archs)
    assert len((spec.directory / "results.jsonl").read_text().splitlines()) == len(archs)  # none twice


def test_stopped_and_killed_in_training_it_ends_with_the_same_bits(runner, tmp_path, uninterrupted):
    spec = train_spec(tmp_path / "job")
    for number, step in ((signal.SIGTERM, 1), (signal.SIGKILL, 45), (signal.SIGABRT, 85)):
        running = runner()
        running.send(spec)
        wait_until(lambda spec=spec, step=step: step_of(spec) >= step)
        running.signal(number)
        status = running.process.wait(PATIENCE_SECONDS)
        if number == signal.SIGKILL:
            assert status == -signal.SIGKILL
            assert outcome_of(spec) is None
        else:
            assert status == EX_SUSPENDED
            assert outcome_of(spec).state is SUSPENDED
            assert 0 < outcome_of(spec).fraction < 1
            newest = checkpoint.manifests(spec.directory / "checkpoints")[0]
            assert newest.name.startswith(f"{spec.attempt:06d}-")
        spec = next_attempt(spec)
    last = runner()
    assert last.do(spec).state is DONE
    assert last.leave() == (0, "")
    state, evaluation = uninterrupted
    assert_same(final_state(spec), state)
    resumed = protocol.read_results(spec.directory)[0]
    assert (resumed.arch, resumed.values) == (evaluation.arch, evaluation.values)
    assert steps_of(spec)[0] == 0  # the greeting
    assert steps_of(spec)[1] >= 85  # it went on, rather than began again


def steps_of(spec):
    lines = (spec.directory / "progress.jsonl").read_text().splitlines()
    found = [json.loads(line) for line in lines]
    return [line["step"] for line in found if line["attempt"] == spec.attempt]


def test_a_training_in_a_used_runner_is_the_same(runner, tmp_path, uninterrupted):
    used = runner()
    assert used.do(score_spec(tmp_path / "score")).state is DONE
    spec = train_spec(tmp_path / "train")
    assert used.do(spec).state is DONE
    assert_same(final_state(spec), uninterrupted[0])
    values = protocol.read_results(spec.directory)[0].values
    assert values.keys() == {"accuracy", "loss", "parameters", "flops", "epochs"}
    assert values["epochs"] == 3
    assert values["accuracy"] == uninterrupted[0]["curve"][-1]["accuracy"]


def rung(before, epochs, name):
    """Make the job that goes on from `before` up to `epochs`."""
    folder = before.directory.with_name(name)
    return replace(
        before, job_id=name, attempt=1, directory=folder, epochs=epochs, continues=before.directory
    )


def test_trained_rung_by_rung_it_ends_with_the_same_bits(runner, tmp_path, uninterrupted):
    warm = runner()
    first = train_spec(tmp_path / "first", epochs=1)
    assert warm.do(first).state is DONE
    assert outcome_of(first).fraction == 1.0
    second = rung(first, 2, "second")
    warm.send(second)
    wait_until(lambda: step_of(second) > 45)
    warm.signal(signal.SIGTERM)
    assert warm.process.wait(PATIENCE_SECONDS) == EX_SUSPENDED
    again = next_attempt(second)
    other = runner()
    assert other.do(again).state is DONE
    last = rung(second, 3, "third")
    assert other.do(last).state is DONE
    state, evaluation = uninterrupted
    assert_same(final_state(last), state)
    found = [protocol.read_results(spec.directory)[0].values for spec in (first, second, last)]
    assert [values["epochs"] for values in found] == [1, 2, 3]
    assert [values["accuracy"] for values in found] == [point["accuracy"] for point in state["curve"]]
    assert found[-1] == evaluation.values
    assert steps_of(second)[1] >= 40, "the first rung's 40 steps are not made again"
    assert steps_of(last)[1] >= 80
    used = [protocol.read_results(spec.directory)[0].cpu_seconds for spec in (first, second, last)]
    assert used[2] < sum(used) / 2, "each job counts its own work"


def test_a_training_goes_on_from_no_other_ones_checkpoint_and_without_one_begins_anew(
    runner, tmp_path, uninterrupted
):
    warm = runner()
    first = train_spec(tmp_path / "first", epochs=1)
    assert warm.do(first).state is DONE
    others = {
        "arch": {"archs": CELLS[2:3]},
        "seed": {"seed": 8},
        "schedule": {"train": {**first.train, "epochs": 4}},
    }
    for name, change in others.items():
        outcome = warm.do(replace(rung(first, 2, name), **change))
        assert outcome.state is FAILED
        assert "another job, or the job's settings have changed" in outcome.reason
    too_far = warm.do(replace(first, directory=tmp_path / "far", epochs=4))
    assert too_far.state is FAILED
    assert "a training of 3 epochs cannot pause after 4" in too_far.reason
    anew = rung(replace(first, directory=tmp_path / "gone"), 3, "anew")
    assert warm.do(anew).state is DONE
    assert_same(final_state(anew), uninterrupted[0])
    assert "the training begins anew" in warm.leave()[1]


@pytest.mark.parametrize(
    ("device", "asked", "exact"),
    [("cpu", False, True), ("cpu", True, True), ("meta", False, False), ("meta", True, True)],
)
def test_a_device_other_than_a_cpu_computes_the_same_bits_if_asked_to(tmp_path, device, asked, exact):
    before = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    threads = torch.get_num_threads()
    try:
        prepare_device(train_spec(tmp_path, device=device, train={"deterministic": asked}))
        assert torch.are_deterministic_algorithms_enabled() is exact
        assert torch.backends.cudnn.benchmark is not exact
    finally:
        torch.use_deterministic_algorithms(before[0])
        torch.backends.cudnn.benchmark = before[1]
        torch.set_num_threads(threads)


def test_an_overtaken_runner_writes_nothing_more(runner, tmp_path):
    spec = train_spec(tmp_path / "job")
    zombie = runner()
    zombie.send(spec)
    wait_until(lambda: step_of(spec) >= 20)
    protocol.write_attempt(spec.directory, 2)
    assert zombie.process.wait(PATIENCE_SECONDS) == EX_FENCED
    assert outcome_of(spec) is None
    assert protocol.read_results(spec.directory) == ()
    assert step_of(spec) < 120


def test_a_frozen_runner_that_wakes_up_finds_the_fence(runner, tmp_path, uninterrupted):
    """Stopped in the middle, overtaken by attempt 2 that does all the work, then let go on."""
    spec = train_spec(tmp_path / "job")
    zombie = runner()
    zombie.send(spec)
    wait_until(lambda: step_of(spec) >= 20)
    zombie.signal(signal.SIGSTOP)
    again = next_attempt(spec)
    assert runner().do(again).state is DONE
    written = {path: path.read_bytes() for path in spec.directory.rglob("*") if path.is_file()}
    zombie.signal(signal.SIGCONT)
    assert zombie.process.wait(PATIENCE_SECONDS) == EX_FENCED
    kept = {path: path.read_bytes() for path in spec.directory.rglob("*") if path.is_file()}
    assert kept == written
    assert_same(final_state(again), uninterrupted[0])


def test_a_job_that_died_between_result_and_outcome_is_not_done_twice(runner, tmp_path):
    spec = train_spec(tmp_path / "job", train={"epochs": 1, "batch_size": 500})
    warm = runner()
    assert warm.do(spec).state is DONE
    (spec.directory / "outcome-1.json").unlink()
    again = next_attempt(spec)
    assert warm.do(again).state is DONE
    assert len((spec.directory / "results.jsonl").read_text().splitlines()) == 1
    assert steps_of(again) == [0]  # the greeting, and no training


def test_another_jobs_checkpoints_are_refused(runner, tmp_path):
    spec = train_spec(tmp_path / "job", train={"epochs": 1, "batch_size": 500})
    warm = runner()
    assert warm.do(spec).state is DONE
    (spec.directory / "results.jsonl").unlink()
    outcome = warm.do(replace(next_attempt(spec), seed=8))
    assert outcome.state is FAILED
    assert "of another job" in outcome.reason
