"""Shortened recipes learn as fast as they did when their curves were recorded, by `bench/training/run.py`."""

import json
import math
import runpy
import statistics
from pathlib import Path

import pytest
import torch

from carbon_nas.evaluate.data import load_task
from carbon_nas.evaluate.settings import TaskSettings, TrainSettings

BENCH = runpy.run_path(str(Path(__file__).parents[1] / "bench" / "training" / "run.py"))
RECORDED = json.loads(Path(__file__).with_name("learning_curves.json").read_text())
ANOTHER_SEED = 100
STUDENT_T = 5.41  # 7 degrees of freedom, two-sided 0.1 %


def interval(values):
    """Give where one more value of the same normal distribution lies in all but 0.1 % of cases: (middle, half)."""
    half = STUDENT_T * statistics.stdev(values) * math.sqrt(1 + 1 / len(values))
    return statistics.fmean(values), half


def test_what_was_recorded_is_what_is_run():
    about = {"dataset": BENCH["DATASET"], "space": BENCH["SPACE"], "cell": BENCH["CELL"]}
    assert RECORDED.items() >= {**about, "settings": BENCH["SHORTENED"]}.items()
    assert {recipe: len(curves) for recipe, curves in RECORDED["curves"].items()} == {
        "nasbench201": 8,
        "fast": 8,
    }


@pytest.mark.parametrize("recipe", ["nasbench201", pytest.param("fast", marks=pytest.mark.drill)])
def test_another_seed_learns_as_those_recorded(recipe):
    torch.set_num_threads(1)
    task = load_task(TaskSettings(dataset=RECORDED["dataset"]), torch.device("cpu"))
    chosen = TrainSettings(recipe=recipe, **RECORDED["settings"])
    found = BENCH["curve"](task, ANOTHER_SEED, chosen)
    for quantity, values in found.items():
        for epoch, value in enumerate(values):
            middle, half = interval([one[quantity][epoch] for one in RECORDED["curves"][recipe]])
            assert value == pytest.approx(middle, abs=half), (quantity, epoch)
    accuracies = [one["accuracy"][-1] for one in RECORDED["curves"][recipe]]
    assert interval(accuracies)[1] < 0.15, "seeds that differ so much would let anything pass"
