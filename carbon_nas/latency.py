"""What an architecture costs at inference: measured on this machine, or read from what others have published."""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import pynvml

from carbon_nas import plugins
from carbon_nas.energy.meters import CpuModel, NvmlMeter, own_cpu_seconds
from carbon_nas.errors import CarbonNasError, ConfigurationError, ExecutorError, JobError
from carbon_nas.evaluate import published
from carbon_nas.execute.gpus import list_gpus
from carbon_nas.interfaces import Meter, SearchSpace
from carbon_nas.model import EnergyMethod, EnergyReading
from carbon_nas.search.sides import require_side, side_of

if TYPE_CHECKING:  # torch is loaded only by those that need it
    import torch
    from torch import Tensor, nn

    from carbon_nas.evaluate.inference import InferenceCost

PLANES, CLASSES = 3, 10
"""Of the networks that are measured: those of CIFAR-10."""

STATEMENTS: Mapping[EnergyMethod, str] = {
    EnergyMethod.COUNTER: "the GPU's own energy counter, its idle power included",
    EnergyMethod.POWER: "the GPU's power readings, integrated, its idle power included",
    EnergyMethod.MODEL: "{watts:g} W per busy CPU core (model)",
}


@dataclass(frozen=True, slots=True)
class LatencyRequest:
    """Which network is asked about, where it runs, and how.

    The images are `side` x `side`; None for those that the space is for. `device` is torch's name of a device, or one
    of `evaluate.published.DEVICES`. `threads` and `watts_per_core` matter on a CPU.
    """

    space: str
    arch: str
    space_options: Mapping[str, object] = field(default_factory=dict)
    side: int | None = None
    device: str = "cpu"
    batch_size: int = 1
    threads: int = 1
    watts_per_core: float = 12.0
    passes: int = 100
    seconds: float = 2.0


@dataclass(frozen=True, slots=True)
class Latency:
    """The answer. `source` says who measured; `energy` where joules come from; None is what is not known."""

    arch: str
    space: str
    device: str
    side: int
    source: str
    parameters: int
    flops: int | None
    threads: int | None
    energy: str | None
    costs: "tuple[InferenceCost, ...]"


def latency(request: LatencyRequest) -> Latency:
    """Answer from the published table if it has the device; else measure, for one image and for a batch.

    Raises:
        ConfigurationError: unknown space, option or architecture, a network that fails or that is for other images,
            or nothing is published of such a network.
        JobError: the device cannot be used.
    """
    space: SearchSpace = plugins.build("spaces", request.space, request.space_options, key="space")
    try:
        space.encode(request.arch)
    except ValueError as error:
        raise ConfigurationError(str(error), key="--arch") from error
    side = side_of(space) if request.side is None else request.side
    require_side(space, side, images="those asked for", key="--side")
    answer = _published if request.device in published.DEVICES else _measured
    return answer(request, space, side)


def _published(request: LatencyRequest, space: SearchSpace, side: int) -> Latency:
    from carbon_nas.evaluate.inference import InferenceCost  # noqa: PLC0415 -- loads torch

    published.require_benchmark(space, request.space_options, side=side)
    batch_size = published.DEVICES[request.device]
    if request.batch_size not in {1, batch_size}:
        of = "batches of a size that is not stated" if batch_size is None else f"batches of {batch_size}"
        raise ConfigurationError(
            f"published of {request.device} are {of}, not {request.batch_size}", key="--batch-size"
        )
    cost = InferenceCost(batch_size, published.latency_seconds(request.device, request.arch))
    return _answer(request, _made(request, space, side, "cpu"), (cost,), source=published.SOURCE)


def _measured(request: LatencyRequest, space: SearchSpace, side: int) -> Latency:
    import torch  # noqa: PLC0415 -- with its sibling

    from carbon_nas.evaluate.inference import measure  # noqa: PLC0415 -- loads torch

    torch.set_num_threads(request.threads)
    made = _made(request, space, side, request.device)
    meter = _meter(made.image.device, request.watts_per_core)
    with _naming_the_network(request, side):
        costs = tuple(
            measure(
                made.network,
                made.image.repeat(batch_size, 1, 1, 1),
                meter,
                passes=request.passes,
                seconds=request.seconds,
            )
            for batch_size in sorted({1, request.batch_size})
        )
    return _answer(request, made, costs, source="measured here, float32")


class _Made(NamedTuple):
    network: "nn.Module"
    image: "Tensor"
    parameters: int
    flops: int | None


def _made(request: LatencyRequest, space: SearchSpace, side: int, device: str) -> _Made:
    """Make the network with its initial weights, which do not matter here, and one image of noise for it."""
    import torch  # noqa: PLC0415 -- with its sibling

    from carbon_nas.evaluate.inference import require_logits, size  # noqa: PLC0415 -- loads torch

    try:
        image = torch.randn(1, PLANES, side, side).to(device)
    except (RuntimeError, AssertionError) as error:
        near = plugins.suggestion(device, list(published.DEVICES))
        raise JobError(f"device {device!r} cannot be used{near}: {error}") from error
    with _naming_the_network(request, side):
        network = space.build(request.arch, PLANES, CLASSES).to(device)
        parameters, flops = size(network, image)
        require_logits(network, image, CLASSES)
    return _Made(network, image, parameters, flops)


@contextlib.contextmanager
def _naming_the_network(request: LatencyRequest, side: int) -> Iterator[None]:
    """Turn what a network raises, which may be anything, into an error that says whose it is."""
    try:
        yield
    except CarbonNasError:
        raise
    except Exception as error:
        raise ConfigurationError(
            f"{request.arch!r} of the space {request.space} fails on images of {side}x{side}:"
            f" {type(error).__name__}: {' '.join(str(error).split())}",
            key="--arch",
        ) from error


def _answer(
    request: LatencyRequest, made: _Made, costs: "tuple[InferenceCost, ...]", *, source: str
) -> Latency:
    method = costs[0].energy_method
    return Latency(
        arch=request.arch,
        space=request.space,
        device=request.device,
        side=made.image.shape[-1],
        source=source,
        parameters=made.parameters,
        flops=made.flops,
        threads=request.threads if request.device == "cpu" else None,
        energy=None if method is None else STATEMENTS[method].format(watts=request.watts_per_core),
        costs=costs,
    )


@dataclass(frozen=True, slots=True)
class _OwnCpu:
    """This process's share of the CPU, by the stated model."""

    model: CpuModel
    device: str = "cpu"

    def read(self) -> EnergyReading:
        return EnergyReading(self.model.joules(own_cpu_seconds()), EnergyMethod.MODEL)


def _meter(device: "torch.device", watts_per_core: float) -> Meter | None:
    """Give what measures the energy of a device; None where nothing does."""
    if device.type == "cpu":
        return _OwnCpu(CpuModel(watts_per_core))
    if device.type != "cuda":
        return None
    import torch  # noqa: PLC0415 -- with its sibling

    uuid = f"GPU-{torch.cuda.get_device_properties(device).uuid}"
    if uuid not in {gpu.uuid for gpu in list_gpus()}:
        return None
    meter = NvmlMeter(uuid, pynvml)
    try:
        meter.read()
    except ExecutorError:
        return None
    return meter
