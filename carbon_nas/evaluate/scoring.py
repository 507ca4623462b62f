"""Scoring architectures by proxies, so that neither the order in which they come nor their company matters."""

import logging
import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from carbon_nas.clock import monotonic
from carbon_nas.errors import JobError
from carbon_nas.evaluate import memory
from carbon_nas.evaluate.data import Task, epoch_order
from carbon_nas.evaluate.inference import require_logits
from carbon_nas.evaluate.proxies import TABLE
from carbon_nas.evaluate.proxies.initialisation import Initialise
from carbon_nas.evaluate.proxies.passes import Passes
from carbon_nas.evaluate.randomness import generator, stable_seed
from carbon_nas.evaluate.settings import ScoreSettings
from carbon_nas.interfaces import SearchSpace

log = logging.getLogger(__name__)


def images_batch(task: Task, batch_size: int, seed: int) -> tuple[Tensor, Tensor]:
    """Draw a study's one minibatch of real images: normalised [B, planes, H, W], and labels [B]."""
    chosen = epoch_order(len(task.train), seed, epoch=0)[:batch_size].to(task.train.labels.device)
    return task.normalise(task.train.images[chosen]), task.train.labels[chosen]


def noise_batch(
    shape: tuple[int, int, int], classes: int, batch_size: int, seed: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Draw a minibatch of the same form from N(0, 1), `shape` [planes, H, W], with labels at random."""
    draws = generator(seed, "noise")
    images = torch.randn(batch_size, *shape, generator=draws)
    labels = torch.randint(0, classes, (batch_size,), generator=draws)
    return images.to(device), labels.to(device)


def study_batch(task: Task, settings: ScoreSettings, seed: int) -> tuple[Tensor, Tensor]:
    """Draw the one minibatch of a study, of the kind that its settings name.

    Raises:
        JobError: there are fewer images than it needs.
    """
    if settings.inputs == "images":
        size, present = settings.batch_size, len(task.train)
        if size > present:
            raise JobError(f"score.batch_size {size} exceeds the {present} training images; make it smaller")
        return images_batch(task, settings.batch_size, seed)
    shape = (task.planes, task.side, task.side)
    return noise_batch(shape, task.classes, settings.batch_size, seed, task.train.labels.device)


class Scorer:
    """Scores architectures of one space on one minibatch, each function that they compute once.

    A proxy sees the network with the initial weights it is meant for, drawn from a seed made of the study's, the
    function and the kind of initial weights. So proxies that want the same network share its passes, and a score
    depends on nothing that was scored before or beside it.

    Attributes:
        seconds_by_proxy: the time each proxy took; a pass that several share counts for the first that asked.
    """

    def __init__(self, space: SearchSpace, batch: tuple[Tensor, Tensor], classes: int, *, seed: int) -> None:
        self._space = space
        self._batch = batch
        self._classes = classes
        self._seed = seed
        self._known: dict[tuple[str, str], float] = {}
        self.seconds_by_proxy: dict[str, float] = {}

    def score(
        self, arch: str, proxies: Iterable[str], should_stop: Callable[[], bool] = lambda: False
    ) -> dict[str, float] | None:
        """Give each proxy's raw value; None if asked to stop before all are known.

        A proxy that cannot be computed of a network has the value NaN, and the log says why.

        Raises:
            JobError: the network cannot be made, does not run, or does not fit into the memory.
            ValueError: `arch` is not of the space.
        """
        canonical = self._space.canonical(arch)
        passes: dict[object, Passes] = {}
        values: dict[str, float] = {}
        for name in sorted(proxies, key=list(TABLE).index):  # what one makes, the next may use
            if should_stop():
                return None
            began = monotonic()
            values[name] = self._value(name, arch, canonical, passes)
            spent = monotonic() - began
            self.seconds_by_proxy[name] = self.seconds_by_proxy.get(name, 0.0) + spent
        return values

    def _value(self, name: str, arch: str, canonical: str, passes: dict[object, Passes]) -> float:
        proxy = TABLE[name]
        source = arch if proxy.of_shape else canonical  # those that compute the same may differ in size
        if (source, name) not in self._known:
            key = (source, proxy.initialise)
            if key not in passes:
                network = self._network(source, proxy.initialise)
                self._require_logits(source, network)
                passes[key] = Passes(network, *self._batch)
            self._known[source, name] = _computed(name, source, passes[key])
        return self._known[source, name]

    def _network(self, arch: str, initialise: Initialise) -> nn.Module:
        torch.manual_seed(stable_seed(self._seed, arch, initialise.__name__))
        images, _ = self._batch
        try:
            network = self._space.build(arch, images.shape[1], self._classes)
            initialise(network)
        except Exception as error:  # the space is a user's, and may fail in any way
            raise JobError(f"the network of {arch} cannot be made: {_in_words(error)}") from error
        return network.to(images.device)

    def _require_logits(self, arch: str, network: nn.Module) -> None:
        """Run the network by itself: if that fails, no proxy is at fault. Two images are enough to tell."""
        images = self._batch[0][:2]
        try:
            require_logits(network, images, self._classes)
        except torch.AcceleratorError:  # the device is broken, and the runner must know
            raise
        except Exception as error:
            shape = "x".join(map(str, images.shape[1:]))
            raise JobError(f"the network of {arch} fails on images {shape}: {_in_words(error)}") from error


def _computed(name: str, arch: str, passes: Passes) -> float:
    try:
        return TABLE[name].function(passes)
    except torch.AcceleratorError:
        raise
    except Exception as error:  # a network may be such that a proxy fails in any way
        if isinstance(error, RuntimeError) and memory.is_exceeded(error):
            size = len(passes.images)
            raise JobError(
                f"{name} of {arch} does not fit into memory; lower score.batch_size, {size}"
            ) from error
        log.warning("%s of %s has no value: %s", name, arch, _in_words(error))
        return math.nan


def _in_words(error: Exception) -> str:
    """Give an error's type and the first line of what it says."""
    said = str(error).strip().splitlines()
    return f"{type(error).__name__}: {said[0]}" if said else type(error).__name__
