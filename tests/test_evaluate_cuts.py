"""Trainings cut at random moments of a runner's life, and at moments aimed at its phases, again and again.

Real processes and signals, real files. Nothing is checked of what a crash of the machine would leave: the files' bytes
are in the kernel's hands when a process is killed.
"""

import json
import random
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

from carbon_nas.errors import EX_SUSPENDED
from carbon_nas.evaluate import checkpoint, protocol
from carbon_nas.model import JobKind, JobSpec, RunState

CELL = "|nor_conv_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|avg_pool_3x3~0|skip_connect~1|nor_conv_3x3~2|"
STEPS = {"epochs": 2, "batch_size": 200}  # 2 x 20
PHASES = (
    *("sync checkpoint", "write checkpoint", "forward", "backward", "optimizer", "average", "validation"),
    *("read data", "read checkpoint"),
)
AIMS = (None, *PHASES, None)
ONCE = ("read data", "read checkpoint")
INTERVALS = (0.0, 0.1)
SLACK_CPU_SECONDS = 0.5  # a step and the writing of a checkpoint
EXIT_SECONDS = 5.0
NEVER = 3600.0


@dataclass(frozen=True)
class Cut:
    signal: int
    phase: str
    status: int
    seconds: float
    lost_cpu_seconds: float | None
    torn: int


class Knife:
    """The process of `cut_runner.py`."""

    def __init__(self):
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("cut_runner.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def do(self, spec, number=signal.SIGTERM, start="fork", delay=NEVER, phase=None):
        path = protocol.write_spec(spec)
        request = {"path": str(path), "signal": number, "start": start, "delay": delay, "phase": phase}
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


@pytest.fixture(scope="module")
def knife():
    made = Knife()
    yield made
    made.process.stdin.close()
    made.process.stdout.close()
    made.process.kill()
    made.process.wait()


def job(directory, interval=0.0):
    train = {"recipe": "fast", **STEPS, "checkpoint_seconds": interval}
    spec = JobSpec("job", JobKind.TRAIN, 1, (CELL,), "nasbench201", directory, seed=7)
    return replace(spec, space_options={"channels": 4, "cells": 1}, train=train)


def lines_of(spec):
    """Give what the attempt said of its progress, without the greeting."""
    path = spec.directory / "progress.jsonl"
    found = [json.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []
    return [line for line in found if line["attempt"] == spec.attempt][1:]


def newest(spec):
    """Give (attempt, step, epoch) of the newest checkpoint; zeros if there is none."""
    found = checkpoint.manifests(spec.directory / "checkpoints")
    return tuple(map(int, found[0].stem.split("-"))) if found else (0, 0, 0)


def torn(spec):
    """Count what was being written when it was cut: files that no manifest vouches for."""
    folder = spec.directory / "checkpoints"
    whole = {path.stem for path in checkpoint.manifests(folder)}
    return sum(path.stem not in whole for path in folder.glob("*")) if folder.exists() else 0


def assert_every_manifest_has_its_checkpoint(spec):
    for path in checkpoint.manifests(spec.directory / "checkpoints"):
        manifest, state = checkpoint.read(path)
        assert (manifest.step, manifest.epoch) == (state["step"], state["epoch"])


def assert_nothing_lost(spec, answer, start):
    """After SIGTERM: the last that was said to be done is in the checkpoint."""
    if answer["status"] == -signal.SIGTERM:
        assert start == "unblocked", "only a process without a handler yet may die of it"
        assert not lines_of(spec)
        assert protocol.read_outcome(spec.directory, spec.attempt) is None
        return
    assert answer["status"] == EX_SUSPENDED
    assert protocol.read_outcome(spec.directory, spec.attempt).state is RunState.SUSPENDED
    said = lines_of(spec)
    if said:
        assert (spec.attempt, said[-1]["step"], said[-1]["epoch"]) == newest(spec)


def lost_cpu_seconds(spec, answer):
    """Give the processor time between the newest checkpoint and the death; None if the attempt has written none."""
    attempt, step, epoch = newest(spec)
    if attempt != spec.attempt:
        return None
    at = [line["cpu_seconds"] for line in lines_of(spec) if (line["step"], line["epoch"]) <= (step, epoch)]
    return answer["cpu_seconds"] - at[-1] if at else None


def check(spec, number, start, answer):
    """Check what a cut left behind."""
    assert_every_manifest_has_its_checkpoint(spec)
    lost = None
    if number == signal.SIGTERM:
        assert_nothing_lost(spec, answer, start)
    else:
        assert answer["status"] == -signal.SIGKILL
        lost = lost_cpu_seconds(spec, answer)
        assert lost is None or lost <= spec.train["checkpoint_seconds"] + SLACK_CPU_SECONDS
        if spec.train["checkpoint_seconds"] == 0:
            assert all(line["step"] <= newest(spec)[1] + 1 for line in lines_of(spec))
    phase = answer["phase"] if start == "fork" else "interpreter"
    return Cut(number, phase, answer["status"], answer["seconds"], lost, torn(spec))


def assert_same(one, two):
    """Equality to the bit, through all containers."""
    assert type(one) is type(two)
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, two)
    elif isinstance(one, dict | list | tuple):
        assert len(one) == len(two)
        for key in one if isinstance(one, dict) else range(len(one)):
            assert_same(one[key], two[key])
    else:
        assert one == two


def ending(spec):
    """Give all that a training ended with, but for whose it was and how long it took."""
    state = checkpoint.read(checkpoint.manifests(spec.directory / "checkpoints")[0])[1]
    mine = {key: state[key] for key in state.keys() - {"attempt", "duration_seconds", "cpu_seconds"}}
    found = protocol.read_results(spec.directory)
    return mine, [(one.arch, dict(one.values)) for one in found]


@pytest.fixture(scope="module")
def whole(knife, tmp_path_factory):
    """The uninterrupted training's end, and how long a forked runner lives for it."""
    spec = job(tmp_path_factory.mktemp("whole"))
    answer = knife.do(spec)
    assert (answer["status"], answer["cut"]) == (0, False)
    assert lines_of(spec)[-1]["step"] == 40
    return ending(spec), answer["life"]


class Drill:
    """Cuts one training after another until all cuts are made, and sees each training to its end."""

    def __init__(self, knife, whole, folder, seed):
        self.knife, self.folder = knife, folder
        self.end, self.life = whole
        self.random = random.Random(seed)
        self.cuts, self.trainings = [], 0

    def run(self, each, real):
        """Make `each` cuts by either signal, `real` of these in interpreters that are started for it."""
        starts = [("interpreter", None), ("unblocked", None)] * (real // 2)
        starts += [("fork", AIMS[place % len(AIMS)]) for place in range(each - real)]
        plan = [(number, *start) for number in (signal.SIGTERM, signal.SIGKILL) for start in starts]
        self.random.shuffle(plan)
        while plan:
            self.train(plan)

    def train(self, plan):
        """Cut one training until it ends, or the plan does."""
        spec = job(self.folder / f"{self.trainings}", INTERVALS[self.trainings % len(INTERVALS)])
        self.trainings += 1
        while plan:
            number, start, aim = plan[-1]
            answer = self.knife.do(spec, number, start, self.delay(start, aim), aim)
            if protocol.read_results(spec.directory):  # too late for a cut: it is trained
                spec = replace(spec, attempt=spec.attempt + 1)
                assert self.knife.do(spec)["status"] == 0
                break
            assert answer["cut"]
            plan.pop()
            self.cuts.append(check(spec, number, start, answer))
            left = newest(spec)
            spec = replace(spec, attempt=spec.attempt + 1)
        else:
            assert self.knife.do(spec)["status"] == 0
            said = lines_of(spec)
            assert (said[0]["step"], said[0]["epoch"]) >= left[1:], "it goes on, rather than begins again"
        assert_same(ending(spec), self.end)

    def delay(self, start, aim):
        if start == "interpreter":  # as long as that again until torch is imported
            return self.random.uniform(0, 2 * self.life)
        if start == "unblocked":  # about when it takes over its signals
            return self.random.uniform(0, 1)
        return 0.0 if aim in ONCE else self.random.uniform(0, self.life / 5)

    def summary(self):
        exits = sorted(cut.seconds for cut in self.cuts if cut.signal == signal.SIGTERM)
        lost = sorted(cut.lost_cpu_seconds for cut in self.cuts if cut.lost_cpu_seconds is not None)
        phases = Counter((signal.Signals(cut.signal).name, cut.phase) for cut in self.cuts)
        return {
            "trainings": self.trainings,
            "phases": {" ".join(key): count for key, count in sorted(phases.items())},
            "statuses": dict(Counter(cut.status for cut in self.cuts)),
            "seconds from SIGTERM to exit, median, p95, most": [
                exits[share(exits, s)] for s in (0.5, 0.95, 1)
            ],
            "CPU seconds lost by SIGKILL, median, p95, most": [lost[share(lost, s)] for s in (0.5, 0.95, 1)],
            "the slowest": max((cut.seconds, cut.phase) for cut in self.cuts if cut.signal == signal.SIGTERM),
            "SIGKILLs without a checkpoint of their own": sum(
                cut.signal == signal.SIGKILL and cut.lost_cpu_seconds is None for cut in self.cuts
            ),
            "cuts that left something torn": sum(cut.torn > 0 for cut in self.cuts),
        }


def share(values, part):
    """Give the place of a quantile, the higher of two."""
    return min(len(values) - 1, int(part * len(values)))


@pytest.mark.parametrize(
    ("each", "real"), [(6, 2), pytest.param(200, 20, marks=pytest.mark.drill)], ids=["short", "drill"]
)
def test_cut_at_any_moment_it_resumes_and_ends_with_the_same_bits(knife, whole, tmp_path, capsys, each, real):
    drill = Drill(knife, whole, tmp_path, seed=each)
    drill.run(each, real)
    found = drill.summary()
    with capsys.disabled():
        sys.stdout.write(f"\n{json.dumps(found, indent=1)}\n")
    by_signal = Counter(cut.signal for cut in drill.cuts)
    assert by_signal == {signal.SIGTERM: each, signal.SIGKILL: each}
    assert found["seconds from SIGTERM to exit, median, p95, most"][1] < EXIT_SECONDS
    assert {cut.phase for cut in drill.cuts} >= ({"interpreter"} if each < 100 else {*PHASES, "interpreter"})


LEAVE = "with stop.leaving_at_once(lambda: os._exit(7))"
TERM = "os.kill(os.getpid(), signal.SIGTERM)"


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (f"{LEAVE}: {TERM}; sys.exit(1)", 7),
        (f"{TERM}\n{LEAVE}: sys.exit(1)", 7),
        (f"{LEAVE}: pass\n{TERM}; sys.exit(stop.requested + 1)", 2),
        (f"with stop.leaving_at_once(lambda: {TERM} or os._exit(7)): {TERM}; sys.exit(1)", 7),
    ],
    ids=["within", "before", "after", "twice"],
)
def test_what_has_nothing_to_save_is_left_at_once(code, status):
    head = (
        "import os, signal, sys\nfrom carbon_nas.evaluate.signals import StopRequest\n"
        "stop = StopRequest(); stop.install()\n"
    )
    assert subprocess.run([sys.executable, "-c", head + code], check=False).returncode == status
