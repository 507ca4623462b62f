"""Record learning curves of shortened recipes over several seeds, on a CPU.

    OMP_NUM_THREADS=1 python bench/training/run.py [--seeds N] [--recipe NAME] [--set KEY=VALUE]

Prints JSON: the network, the settings beside the recipe, and of each recipe the curve of each seed: the mean
`train_loss`, and `loss` and `accuracy` on the validation images, after each epoch.
"""

# ruff: noqa: T201 -- a script that prints what it measured
import argparse
import json
import tomllib

import torch

from carbon_nas.evaluate.data import Task, load_task
from carbon_nas.evaluate.randomness import seed_everything
from carbon_nas.evaluate.recipes import RECIPES
from carbon_nas.evaluate.settings import TaskSettings, TrainSettings
from carbon_nas.evaluate.train import Training, run
from carbon_nas.plugins import build

DATASET = "fashion16"
CELL = "|nor_conv_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|avg_pool_3x3~0|skip_connect~1|nor_conv_3x3~2|"
SPACE = {"channels": 4, "cells": 1}
SHORTENED = {"epochs": 3, "batch_size": 64}


class Host:
    """Runs a training to its end without keeping anything."""

    def should_stop(self) -> bool:
        """Never."""
        return False

    def save_due(self) -> bool:
        """Never."""
        return False

    def save(self, training: Training) -> None:
        """Nothing."""

    def report(self, training: Training) -> None:
        """Nothing."""


def curve(task: Task, seed: int, settings: TrainSettings) -> dict[str, list[float]]:
    """Train and give each quantity's curve, to four digits."""
    seed_everything(seed)
    network = build("spaces", "nasbench201", SPACE, key="space").build(CELL, task.planes, task.classes)
    training = Training(network, task, settings, seed)
    run(training, Host())
    return {name: [round(point[name], 4) for point in training.curve] for name in training.curve[0]}


def main() -> None:
    """Print the curves."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--recipe", choices=list(RECIPES), action="append")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    asked = parser.parse_args()
    chosen = SHORTENED | tomllib.loads("\n".join(asked.set))
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(mode=True)
    task = load_task(TaskSettings(dataset=DATASET), torch.device("cpu"))
    curves = {
        recipe: [
            curve(task, seed, TrainSettings(**{"recipe": recipe, **chosen})) for seed in range(asked.seeds)
        ]
        for recipe in asked.recipe or RECIPES
    }
    about = {"dataset": DATASET, "space": SPACE, "cell": CELL, "settings": chosen}
    print(json.dumps({**about, "curves": curves}))


if __name__ == "__main__":
    main()
