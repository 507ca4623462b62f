"""What one inference of a network costs on this machine: measured time and energy, parameters and operations.

Time is that of one forward pass from images on the device to logits on the device, in float32 and evaluation mode,
the device waited for after each. Latencies have a long tail from whatever else the machine does, so the median and
the quartiles are given, which it does not move.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from carbon_nas.clock import monotonic
from carbon_nas.evaluate.proxies.flops import flops
from carbon_nas.evaluate.proxies.params import params
from carbon_nas.evaluate.proxies.passes import Passes, in_mode
from carbon_nas.interfaces import Meter
from carbon_nas.model import EnergyMethod


@dataclass(frozen=True, slots=True)
class InferenceCost:
    """What a forward pass of `batch_size` images costs; None is what is not known.

    Attributes:
        batch_size: images of one pass.
        median_seconds: of one pass.
        quartile_seconds: the first and the third quartile over the passes; between them lies the middle half.
        passes: how many were timed.
        joules_per_image: energy of all timed passes, divided by their images. A GPU's counter takes in what the
            board draws idle meanwhile, and nothing of the processor that feeds it.
        energy_method: where the joules come from.
    """

    batch_size: int | None
    median_seconds: float
    quartile_seconds: tuple[float, float] | None = None
    passes: int | None = None
    joules_per_image: float | None = None
    energy_method: EnergyMethod | None = None


def measure(
    network: nn.Module,
    images: Tensor,
    meter: Meter | None,
    *,
    warm_up: int = 10,
    passes: int = 100,
    seconds: float = 2.0,
) -> InferenceCost:
    """Time forward passes of `images` [B, planes, H, W], on whose device `network` is; without `meter` no energy.

    After `warm_up` passes at least `passes` (two or more) are timed, and as many more as fill `seconds`: a GPU's
    counter moves some ten times a second, and tells nothing of less.

    Raises:
        ExecutorError: `meter` cannot be read.
    """
    with torch.inference_mode(), in_mode(network, training=False):
        for _ in range(warm_up):
            network(images)
        _wait_for(images.device)
        before = None if meter is None else meter.read()
        begun, spent = monotonic(), list[float]()
        while len(spent) < passes or monotonic() - begun < seconds:
            started = monotonic()
            network(images)
            _wait_for(images.device)
            spent.append(monotonic() - started)
        after = None if meter is None else meter.read()
    first, median, third = quartiles(spent)
    cost = InferenceCost(len(images), median, (first, third), len(spent))
    if before is None or after is None:
        return cost
    joules = (after.joules - before.joules) / (len(spent) * len(images))
    return replace(cost, joules_per_image=joules, energy_method=after.method)


def size(network: nn.Module, images: Tensor) -> tuple[int, int | None]:
    """Count parameters, and multiply-accumulates of one of `images` [B, planes, H, W]; see `evaluate.proxies`.

    None for multiply-accumulates that cannot be counted.
    """
    labels = torch.zeros(len(images), dtype=torch.int64, device=images.device)
    passes = Passes(network, images, labels)
    operations = flops(passes)
    return int(params(passes)), int(operations) if math.isfinite(operations) else None


def require_logits(network: nn.Module, images: Tensor, classes: int) -> None:
    """Run `network` once on `images` [B, planes, H, W] and check that logits [B, classes] come out.

    Raises:
        ValueError: something else comes out.
        Exception: whatever the network raises.
    """
    with torch.no_grad(), in_mode(network, training=False):
        logits: object = network(images)
    wanted = [len(images), classes]
    given = list(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
    if given != wanted:
        raise ValueError(f"logits {wanted} should come out, not {given}")


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Give the quartiles of two values or more, interpolated between neighbours (Hyndman and Fan's type 7)."""
    first, median, third = statistics.quantiles(values, n=4, method="inclusive")
    return first, median, third


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
