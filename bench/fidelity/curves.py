"""Train random NAS-Bench-201 cells to the end, twice each, and write down their learning curves and scores.

    OMP_NUM_THREADS=1 python bench/fidelity/curves.py --cells 80 --epochs 9 > curves.jsonl

A line for each cell: its choices, its scores by the default proxies on noise, and for each of two seeds the validation
accuracy after every epoch. Small networks (4 channels, one cell a stage) on the shipped images.
"""

# ruff: noqa: T201 -- a script that prints its results
import argparse
import json
import sys
from random import Random

import torch

from carbon_nas import plugins
from carbon_nas.evaluate.data import Task, load_task
from carbon_nas.evaluate.randomness import seed_everything, stable_seed
from carbon_nas.evaluate.scoring import Scorer, study_batch
from carbon_nas.evaluate.settings import ScoreSettings, TaskSettings, TrainSettings
from carbon_nas.evaluate.train import Training, run
from carbon_nas.interfaces import SearchSpace


class Unhurried:
    """A host that never stops a training and keeps nothing."""

    def should_stop(self) -> bool:
        """Never."""
        return False

    def save_due(self) -> bool:
        """Never."""
        return False

    def save(self, training: Training) -> None:
        """Keep nothing."""

    def report(self, training: Training) -> None:
        """Say nothing."""


def curve(space: SearchSpace, arch: str, task: Task, settings: TrainSettings, seed: int) -> list[float]:
    """Give the validation accuracy after each epoch."""
    seed = stable_seed(seed, arch, "train")
    seed_everything(seed)
    training = Training(space.build(arch, task.planes, task.classes), task, settings, seed)
    run(training, Unhurried())
    return [point["accuracy"] for point in training.curve]


def main() -> None:
    """Train, and print a line for each cell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=80)
    parser.add_argument("--epochs", type=int, default=9)
    parser.add_argument("--seed", type=int, default=0, help="of the cells drawn")
    given = parser.parse_args()
    torch.set_num_threads(1)
    space: SearchSpace = plugins.build("spaces", "nasbench201", {"channels": 4, "cells": 1}, key="space")
    task = load_task(TaskSettings(), torch.device("cpu"))
    settings, scoring = TrainSettings(epochs=given.epochs), ScoreSettings()
    scorer = Scorer(space, study_batch(task, scoring, 0), task.classes, seed=0)
    luck, drawn = Random(given.seed), list[str]()
    while len(drawn) < given.cells:
        if (arch := space.canonical(space.sample(luck))) not in drawn:
            drawn.append(arch)
    for arch in drawn:
        found = {
            "arch": arch,
            "choices": space.encode(arch),
            "scores": scorer.score(arch, scoring.proxies, lambda: False),
            "curves": [curve(space, arch, task, settings, seed) for seed in (1, 2)],
        }
        print(json.dumps(found))
        sys.stdout.flush()


if __name__ == "__main__":
    main()
