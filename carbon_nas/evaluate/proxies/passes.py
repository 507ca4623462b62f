"""The passes over one network and one minibatch that zero-cost proxies are made of, each made at most once.

Most of a proxy's cost is a forward or a backward pass, and most proxies want the same ones. A proxy asks for what
it needs by name; what was made for one is there for the next. Batch normalisation works on the minibatch's own
statistics (train mode): with the initial running ones most proxies rank clearly worse.
"""

import copy
import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from carbon_nas.evaluate.proxies.differentiation import Call, Recording
from carbon_nas.evaluate.proxies.spectra import entropies

Weighted = nn.Conv2d | nn.Linear
"""The layers whose weights proxies look at."""

Rectifier = nn.ReLU | nn.ReLU6 | nn.SiLU | nn.Hardswish | nn.GELU
"""The activations whose output is above zero exactly where their input is: a unit is active there."""


@dataclass(slots=True)
class Forward:
    """What one forward pass left behind, with its graph.

    Attributes:
        logits: [B, classes].
        rectified: the output of each call of a `Rectifier`, zero instead of what is below it, [B, ...], in the
            order of the calls.
        calls: each call of a layer of `Passes.layers`, in the order of the calls.
        blocks: the output of each of the network's blocks, [B, C, H, W]; see `blocks_of`.
    """

    logits: Tensor
    rectified: list[Tensor] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    blocks: list[Tensor] = field(default_factory=list)


class Gradients(NamedTuple):
    """Of the loss, from one pass backward; zeros where none arrives."""

    by_outputs: list[Tensor]
    """By the output of each of `Forward.calls`."""
    by_blocks: list[Tensor]
    """By each of `Forward.blocks`."""


class Passes:
    """A network, a minibatch, and the passes made so far.

    `images` is a normalised float32 minibatch [B, planes, H, W], `labels` int64 [B]. The network given is left as
    it is: a copy of it, `network`, does the work.
    """

    def __init__(self, network: nn.Module, images: Tensor, labels: Tensor) -> None:
        self.original = network
        self.images = images
        self.labels = labels

    @cached_property
    def network(self) -> nn.Module:
        """The copy, in train mode. Whoever hooks it or changes its mode puts that back; its weights are not changed."""
        network = copy.deepcopy(self.original).train()
        for module in network.modules():
            if hasattr(module, "inplace"):  # it would change the output of the layer before, which is kept
                module.inplace = False  # type: ignore[assignment]  # typed as if a tensor
        return network

    def halves(self) -> Iterator["Passes"]:
        """Give the passes over each half of the minibatch, through the same network."""
        for images, labels in zip(self.images.chunk(2), self.labels.chunk(2), strict=True):
            half = Passes(self.original, images, labels)
            half.network = self.network
            yield half

    @cached_property
    def layers(self) -> list[nn.Conv2d | nn.Linear]:
        """Convolutions and linear layers, in the order of the network's modules."""
        return [module for module in self.network.modules() if isinstance(module, Weighted)]

    @cached_property
    def forward(self) -> Forward:
        """The whole minibatch through the network; the inputs take part in the graph."""
        return _recorded(self.network, self.layers, self.inputs)

    @cached_property
    def inputs(self) -> Tensor:
        """The leaf [B, planes, H, W] that `forward` began from."""
        return self.images.detach().requires_grad_()

    @cached_property
    def loss(self) -> Tensor:
        """The mean cross-entropy of `forward`, a scalar with its graph."""
        return F.cross_entropy(self.forward.logits, self.labels)

    @cached_property
    def differentiable(self) -> Gradients:
        """The gradients with a graph, so that they can be differentiated; those that are zero have none."""
        return self._backward(create_graph=True)

    @cached_property
    def differentiable_by_weights(self) -> list[Tensor]:
        """dLoss/dweight of each layer of `layers`, with a graph."""
        return self._by_weights(self.differentiable)

    @cached_property
    def _plain(self) -> Gradients:
        """The gradients without: of the pass that has one if it was made, which gives the same to the bit."""
        if "differentiable" not in self.__dict__:
            return self._backward(create_graph=False)
        return Gradients(*([each.detach() for each in gradients] for gradients in self.differentiable))

    @cached_property
    def gradients(self) -> list[Tensor]:
        """dLoss/dweight of each layer of `layers`; zeros where no gradient arrives."""
        if "differentiable_by_weights" in self.__dict__:
            return [gradient.detach() for gradient in self.differentiable_by_weights]
        plain = self._plain
        with torch.no_grad():
            return self._by_weights(plain)

    @property
    def output_gradients(self) -> list[Tensor]:
        """dLoss/doutput of each of `Forward.calls`; zeros where no gradient arrives."""
        return self._plain.by_outputs

    @property
    def block_gradients(self) -> list[Tensor]:
        """dLoss/doutput of each of `Forward.blocks`, [B, C, H, W]; zeros where no gradient arrives."""
        return self._plain.by_blocks

    def _backward(self, *, create_graph: bool) -> Gradients:
        outputs, blocks = [call.output for call in self.forward.calls], self.forward.blocks
        found = gradients_of(self.loss, [*outputs, *blocks], create_graph=create_graph)
        return Gradients(found[: len(outputs)], found[len(outputs) :])

    def _by_weights(self, gradients: Gradients) -> list[Tensor]:
        found = [torch.zeros_like(layer.weight) for layer in self.layers]
        for call, gradient in zip(self.forward.calls, gradients.by_outputs, strict=True):
            found[call.place] = found[call.place] + call.by_weight(gradient)
        return found

    @cached_property
    def jacobian(self) -> Tensor:
        """The gradient of the sum of logits by the images, [B, planes x H x W]: one backward pass for all."""
        (rows,) = gradients_of(self.forward.logits.sum(), [self.inputs])
        return rows.flatten(1)

    @cached_property
    def correlation(self) -> Tensor:
        """The correlations of the Jacobian's rows, [B, B] in float64; NaN for an image without influence."""
        return torch.corrcoef(self.jacobian.double())

    @cached_property
    def entropies(self) -> list[float]:
        """How many directions each block's output spreads over; see `spectra.entropies`."""
        return entropies(self.forward.blocks)


def gradients_of(scalar: Tensor, sources: Sequence[Tensor], *, create_graph: bool = False) -> list[Tensor]:
    """Differentiate and keep the graph; zeros for sources that `scalar` does not depend on."""
    reached = [source for source in sources if source.requires_grad]
    if not (scalar.requires_grad and reached):
        return [torch.zeros_like(source) for source in sources]
    found = iter(
        torch.autograd.grad(
            scalar, reached, retain_graph=True, create_graph=create_graph, materialize_grads=True
        )
    )
    return [next(found) if source.requires_grad else torch.zeros_like(source) for source in sources]


def summed(terms: Iterable[Tensor]) -> float:
    """Add up scalars in float64. NaN of none: a network without such parts has no value."""
    scalars = list(terms)
    return float(torch.stack(scalars).double().sum()) if scalars else math.nan


@contextmanager
def in_mode(network: nn.Module, *, training: bool) -> Iterator[None]:
    """Put a network into train or evaluation mode for a while, then each of its modules back."""
    modes = [(module, module.training) for module in network.modules()]
    network.train(training)
    try:
        yield
    finally:
        for module, was_training in modes:
            module.training = was_training


def blocks_of(network: nn.Module) -> list[nn.Module]:
    """Give the primary blocks (AZ-NAS's word: stem, cells, reductions), in the order they are run.

    A space's network names its own as `blocks`. Of another they are the parts of its longest `nn.Sequential`.
    """
    named = getattr(network, "blocks", None)
    if named is not None:
        return list(named)
    chains = [module for module in network.modules() if isinstance(module, nn.Sequential)]
    return list(max(chains, key=len, default=[]))


def _recorded(network: nn.Module, layers: Sequence[nn.Conv2d | nn.Linear], inputs: Tensor) -> Forward:
    made = Forward(logits=torch.empty(0))

    def keep_rectified(module: nn.Module, _: tuple[Tensor, ...], output: Tensor) -> None:
        made.rectified.append(output if isinstance(module, nn.ReLU) else output.detach().relu())

    def keep_block(_: nn.Module, __: tuple[Tensor, ...], output: Tensor) -> None:
        if output.dim() == 4:
            made.blocks.append(output)

    hooks = [m.register_forward_hook(keep_rectified) for m in network.modules() if isinstance(m, Rectifier)]
    hooks += [block.register_forward_hook(keep_block) for block in blocks_of(network)]
    try:
        with Recording([layer.weight for layer in layers]) as recording:
            made.logits = network(inputs)
    finally:
        for hook in hooks:
            hook.remove()
    made.calls = recording.calls
    return made
