"""Scoring one architecture with every proxy, so that the order in which architectures come does not matter."""

from collections.abc import Callable

import torch
from torch import Tensor

from carbon_nas.evaluate.data import Task, epoch_order
from carbon_nas.evaluate.proxies import TABLE
from carbon_nas.evaluate.randomness import stable_seed
from carbon_nas.evaluate.settings import ScoreSettings
from carbon_nas.interfaces import SearchSpace


def fixed_batch(task: Task, batch_size: int, seed: int) -> tuple[Tensor, Tensor]:
    """Draw the one minibatch of a study: normalised images [B, planes, H, W] and labels [B]."""
    chosen = epoch_order(len(task.train), seed, epoch=0)[:batch_size].to(task.train.labels.device)
    return task.normalise(task.train.images[chosen]), task.train.labels[chosen]


def score(
    space: SearchSpace,
    arch: str,
    task: Task,
    settings: ScoreSettings,
    *,
    seed: int,
    should_stop: Callable[[], bool] = lambda: False,
) -> dict[str, float] | None:
    """Give each proxy's raw value; None if asked to stop before all are known.

    Each proxy sees the architecture freshly initialised, from a seed made of the study's, the architecture and
    the proxy: scores depend on nothing that was scored before.

    Raises:
        ValueError: `arch` is not of the space.
    """
    images, labels = fixed_batch(task, settings.batch_size, seed)
    values: dict[str, float] = {}
    for name in settings.proxies:
        if should_stop():
            return None
        torch.manual_seed(stable_seed(seed, arch, name))
        network = space.build(arch, task.planes, task.classes).to(images.device)
        values[name] = TABLE[name](network, images, labels)
    return values
