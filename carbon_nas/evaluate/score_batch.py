"""Scoring many architectures at once, on one device or on several cores: a process each, one thread each.

On a CPU two processes of one thread do more than one of two: most of a small network's operations are too short
to be shared. And sums in another order differ in their last bits, so that one process has one thread too: a score
does not depend on how many work. Architectures that compute the same go to the same process, which scores them once.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from carbon_nas import plugins
from carbon_nas.clock import monotonic
from carbon_nas.errors import JobError
from carbon_nas.evaluate.data import load_task
from carbon_nas.evaluate.scoring import Scorer, noise_batch, study_batch
from carbon_nas.evaluate.settings import ScoreSettings, TaskSettings
from carbon_nas.interfaces import SearchSpace
from carbon_nas.search.sides import require_side, side_of

NOISE_PLANES = 3


@dataclass(frozen=True, slots=True)
class ScoreRequest:
    """What to score architectures by.

    `task` None: on noise, without any data set. It is of `side` x `side`, None for what the space is for, in coloured
    planes, and of as many `classes`.
    """

    space: str
    space_options: Mapping[str, object] = field(default_factory=dict)
    score: ScoreSettings = field(default_factory=lambda: ScoreSettings(inputs="noise"))
    task: TaskSettings | None = None
    seed: int = 0
    device: str = "cpu"
    side: int | None = None
    classes: int = 10


@dataclass(frozen=True, slots=True)
class Scored:
    """One architecture's raw scores and the time they took, in all and by proxy."""

    arch: str
    values: Mapping[str, float]
    seconds: float
    seconds_by_proxy: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class ScoredBatch:
    """Architectures in the order asked for, and the `shape` [planes, H, W] and `classes` of the images they saw."""

    scored: Sequence[Scored]
    shape: tuple[int, ...]
    classes: int


def score_batch(
    request: ScoreRequest, archs: Sequence[str], *, workers: int, done: Callable[[int], None] = lambda _: None
) -> ScoredBatch:
    """Score `archs`, each once; `done` is told how many more are scored.

    Raises:
        ConfigurationError: no such space, a wrong option of it, or images of a size that it is not for.
        JobError: the device or the data set cannot be used, or a network fails.
        ValueError: an architecture is not of the space; nothing has been scored then.
    """
    archs = list(dict.fromkeys(archs))
    groups = _groups(make_space(request), archs)
    batch, classes = minibatch(request)
    found: dict[str, Scored] = {}
    with _mapper(request, batch, classes, min(workers, len(groups))) as apply:
        for scored in apply(groups):
            found.update({each.arch: each for each in scored})
            done(len(scored))
    return ScoredBatch([found[arch] for arch in archs], tuple(batch[0].shape[1:]), classes)


def make_space(request: ScoreRequest) -> SearchSpace:
    """Make the search space of a request."""
    space: SearchSpace = plugins.build("spaces", request.space, request.space_options, key="space")
    return space


def minibatch(request: ScoreRequest) -> tuple[tuple[Tensor, Tensor], int]:
    """Draw the one minibatch of a request, on its device, and say how many classes there are.

    Raises:
        ConfigurationError: its space is not for images of that size.
        JobError: the device or the data set cannot be used, or holds fewer images than the minibatch.
    """
    try:
        device = torch.device(request.device)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise JobError(f"device {request.device!r} cannot be used: {error}") from error
    space = make_space(request)
    if request.task is None:
        side = side_of(space) if request.side is None else request.side
        require_side(space, side, images="those asked for", key="--side")
        shape = (NOISE_PLANES, side, side)
        size = request.score.batch_size
        return noise_batch(shape, request.classes, size, request.seed, device), request.classes
    task = load_task(request.task, device)
    require_side(space, task.side, images=f"those of {request.task.dataset}", key=f"space.{request.space}")
    return study_batch(task, request.score, request.seed), task.classes


def _groups(space: SearchSpace, archs: Sequence[str]) -> list[list[str]]:
    groups: dict[str, list[str]] = {}
    for arch in archs:
        groups.setdefault(space.canonical(arch), []).append(arch)
    return list(groups.values())


Apply = Callable[[Sequence[Sequence[str]]], Iterator[list[Scored]]]


@contextmanager
def _mapper(
    request: ScoreRequest, batch: tuple[Tensor, Tensor], classes: int, workers: int
) -> Iterator[Apply]:
    """Give what scores groups of architectures: in this process, or in `workers` others."""
    if workers <= 1:
        worker = _Worker(request, batch, classes)
        with _one_thread():
            yield lambda groups: map(worker.score, groups)
        return
    arrays = [tensor.cpu().numpy() for tensor in batch]  # tensors would need shared memory
    start = partial(_start, request, arrays, classes)
    with ProcessPoolExecutor(workers, get_context("spawn"), start) as pool:
        yield lambda groups: pool.map(_score, groups)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Keep torch to one thread for a while; whoever embeds this has its own number again afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _Worker:
    """Scores groups of architectures that compute the same."""

    def __init__(self, request: ScoreRequest, batch: tuple[Tensor, Tensor], classes: int) -> None:
        self._proxies = request.score.proxies
        self._scorer = Scorer(make_space(request), batch, classes, seed=request.seed)

    def score(self, archs: Sequence[str]) -> list[Scored]:
        return [self._one(arch) for arch in archs]

    def _one(self, arch: str) -> Scored:
        before, began = dict(self._scorer.seconds_by_proxy), monotonic()
        values = self._scorer.score(arch, self._proxies)
        spent = {
            name: seconds - before.get(name, 0.0) for name, seconds in self._scorer.seconds_by_proxy.items()
        }
        return Scored(arch, values or {}, monotonic() - began, spent)


_worker: _Worker | None = None  # of a pool's process, which can be handed nothing else between tasks


def _start(request: ScoreRequest, arrays: Sequence[NDArray[Any]], classes: int) -> None:
    global _worker  # noqa: PLW0603
    torch.set_num_threads(1)
    images, labels = (torch.as_tensor(array).to(request.device) for array in arrays)
    _worker = _Worker(request, (images, labels), classes)


def _score(archs: Sequence[str]) -> list[Scored]:
    assert _worker is not None  # noqa: S101 -- `_start` ran first
    return _worker.score(archs)
