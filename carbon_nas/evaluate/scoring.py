"""Scoring architectures by proxies, so that neither the order in which they come nor their company matters."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from carbon_nas.clock import monotonic
from carbon_nas.evaluate.data import Task, epoch_order
from carbon_nas.evaluate.proxies import TABLE
from carbon_nas.evaluate.proxies.initialisation import Initialise
from carbon_nas.evaluate.proxies.passes import Passes
from carbon_nas.evaluate.randomness import generator, stable_seed
from carbon_nas.evaluate.settings import ScoreSettings
from carbon_nas.interfaces import SearchSpace


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
    """Draw the one minibatch of a study, of the kind that its settings name."""
    if settings.inputs == "images":
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

        Raises:
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
                passes[key] = Passes(self._network(source, proxy.initialise), *self._batch)
            self._known[source, name] = proxy.function(passes[key])
        return self._known[source, name]

    def _network(self, arch: str, initialise: Initialise) -> nn.Module:
        torch.manual_seed(stable_seed(self._seed, arch, initialise.__name__))
        images, _ = self._batch
        network = self._space.build(arch, images.shape[1], self._classes)
        initialise(network)
        return network.to(images.device)
