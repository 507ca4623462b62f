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

from carbon_nas.evaluate.proxies.differentiation import Call, Recording, times_written
from carbon_nas.evaluate.proxies.spectra import entropies

Weighted = nn.Conv2d | nn.Linear
"""The layers whose weights proxies look at."""


@dataclass(slots=True)
class Forward:
    """What one forward pass left behind, with its graph.

    Attributes:
        logits: [B, classes].
        rectified: as `Recording` has them.
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
    by_weights: dict[int, Tensor]
    """By the weights of layers, by their place in `Passes.layers`, that were used by other means than a call."""


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
        return network.requires_grad_()

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
    def weights(self) -> list[nn.Parameter | None]:
        """The weight of each layer of `layers`; None of one that is made of others at each use, as by `parametrize`."""
        return [dict(layer.named_parameters(recurse=False)).get("weight") for layer in self.layers]

    @property
    def has_own_weights(self) -> bool:
        """Whether each layer has a weight of its own."""
        return all(weight is not None for weight in self.weights)

    @cached_property
    def forward(self) -> Forward:
        """The whole minibatch through the network; the inputs take part in the graph.

        Raises:
            ArithmeticError: a logit is no finite number.
        """
        made, overwritten = _recorded(self.network, self.weights, self.inputs, apart=False)
        if overwritten:
            made, _ = _recorded(self.network, self.weights, self.inputs, apart=True)
        if not made.logits.isfinite().all():
            raise ArithmeticError("the network's logits are not finite")
        return made

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
        by_outputs, by_blocks, by_weights = self.differentiable
        return Gradients(
            [each.detach() for each in by_outputs],
            [each.detach() for each in by_blocks],
            {place: each.detach() for place, each in by_weights.items()},
        )

    @cached_property
    def gradients(self) -> list[Tensor]:
        """dLoss/dweight of each layer of `layers`; zeros where no gradient arrives, NaN without `weights`."""
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
    def knows_all_calls(self) -> bool:
        """Whether `Forward.calls` is all that the layers' weights do to the loss."""
        return self.has_own_weights and not self._plain.by_weights

    @property
    def block_gradients(self) -> list[Tensor]:
        """dLoss/doutput of each of `Forward.blocks`, [B, C, H, W]; zeros where no gradient arrives."""
        return self._plain.by_blocks

    def _backward(self, *, create_graph: bool) -> Gradients:
        outputs, blocks = [call.output for call in self.forward.calls], self.forward.blocks
        used = self._used_otherwise
        sources = [*outputs, *blocks, *used.values()]
        found = gradients_of(self.loss, sources, create_graph=create_graph)
        by_blocks = found[len(outputs) : len(outputs) + len(blocks)]
        by_weights = found[len(outputs) + len(blocks) :]
        return Gradients(found[: len(outputs)], by_blocks, dict(zip(used, by_weights, strict=True)))

    @cached_property
    def _used_otherwise(self) -> dict[int, nn.Parameter]:
        """The weights, by place, that are leaves of the graph: in calls they are held fixed."""
        leaves = leaves_of(self.loss)
        return {
            place: weight
            for place, weight in enumerate(self.weights)
            if weight is not None and id(weight) in leaves
        }

    def _by_weights(self, gradients: Gradients) -> list[Tensor]:
        found = [
            torch.full_like(layer.weight, 0.0 if weight is not None else math.nan)
            for layer, weight in zip(self.layers, self.weights, strict=True)
        ]
        for call, gradient in zip(self.forward.calls, gradients.by_outputs, strict=True):
            found[call.place] = found[call.place] + call.by_weight(gradient)
        for place, gradient in gradients.by_weights.items():
            found[place] = found[place] + gradient
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


def leaves_of(scalar: Tensor) -> set[int]:
    """Give the ids of the leaves of a scalar's graph."""
    seen, left = set(), [scalar.grad_fn]
    found: set[int] = set()
    while left:
        node = left.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            found.add(id(node.variable))
        left += [following for following, _ in node.next_functions]
    return found


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

    A space's network names its own as `blocks`. Of another they are the parts of the `nn.Sequential` that holds more
    than half of its layers, the longest if several do; it has none if none does.
    """
    named = getattr(network, "blocks", None)
    if isinstance(named, nn.Sequential | nn.ModuleList | list | tuple):
        return list(named)
    half = _count_layers(network) / 2
    chains = [module for module in network.modules() if isinstance(module, nn.Sequential)]
    return list(max((chain for chain in chains if _count_layers(chain) > half), key=len, default=[]))


def _count_layers(module: nn.Module) -> int:
    return sum(isinstance(part, Weighted) for part in module.modules())


def _recorded(
    network: nn.Module, weights: Sequence[Tensor | None], inputs: Tensor, *, apart: bool
) -> tuple[Forward, bool]:
    """Run the network, and say whether it wrote over something that is kept."""
    blocks: list[Tensor] = []
    written: list[int] = []

    def keep_block(_: nn.Module, __: tuple[Tensor, ...], output: object) -> Tensor | None:
        if not isinstance(output, Tensor) or output.dim() != 4:
            return None
        blocks.append(output)
        written.append(times_written(output))
        return output.clone() if apart else None

    hooks = [block.register_forward_hook(keep_block) for block in blocks_of(network)]
    try:
        with Recording(weights, apart=apart) as recording:
            logits = network(inputs)
    finally:
        for hook in hooks:
            hook.remove()
    overwritten = recording.overwritten or written != [times_written(block) for block in blocks]
    return Forward(logits, recording.rectified, recording.calls, blocks), overwritten
