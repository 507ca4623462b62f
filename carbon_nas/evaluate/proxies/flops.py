"""Multiply-accumulates of one image, counted as NAS-Bench-201 does.

Convolutions, linear layers and the projections of `nn.MultiheadAttention`, each output of a layer with bias counting
one more; normalisation, pooling, activations and products of maps with each other are free. At 32x32 with 16 channels
and five cells a stage, three planes and ten classes this is 7,783,050 + 35,389,440 n3 + 3,932,160 n1 for n3
convolutions 3x3 and n1 of 1x1 in the cell.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from carbon_nas.evaluate.proxies.passes import Passes, in_mode


def flops(passes: Passes) -> float:
    """Count by the shapes that one image takes; NaN of recurrent layers, whose steps are not seen.

    On the meta device shapes alone cost ten times as much.
    """
    network = passes.original
    if any(isinstance(module, nn.RNNBase) for module in network.modules()):
        return math.nan
    counts: list[int] = []
    hooks = [
        module.register_forward_hook(lambda *call, count=count: counts.append(count(*call)))
        for module in network.modules()
        for kind, count in COUNTS.items()
        if isinstance(module, kind)
    ]
    try:
        with torch.no_grad(), in_mode(network, training=False):
            network(passes.images[:1])
    finally:
        for hook in hooks:
            hook.remove()
    return float(sum(counts))


def _convolution(layer: _ConvNd, given: tuple[Tensor, ...], output: Tensor) -> int:
    by_input = isinstance(layer, _ConvTransposeNd)  # there each weight meets each position of the input
    positions = given[0].numel() // layer.in_channels if by_input else output.numel() // layer.out_channels
    return positions * layer.weight.numel() + _biases(layer.bias, output)


def _linear(layer: nn.Linear, _: tuple[Tensor, ...], output: Tensor) -> int:
    return output.numel() // layer.out_features * layer.weight.numel() + _biases(layer.bias, output)


def _projections(layer: nn.MultiheadAttention, _: tuple[Tensor, ...], output: tuple[Tensor, Any]) -> int:
    """Count what its parts would, had they been called: it hands their weights to one function."""
    positions: int = output[0].numel() // layer.embed_dim
    own = sum(parameter.numel() for parameter in layer.parameters(recurse=False))
    return positions * (own + sum(parameter.numel() for parameter in layer.out_proj.parameters()))


def _biases(bias: Tensor | None, output: Tensor) -> int:
    return 0 if bias is None else output.numel()


COUNTS: dict[type[nn.Module], Any] = {
    _ConvNd: _convolution,
    nn.Linear: _linear,
    nn.MultiheadAttention: _projections,
}
"""What a call (layer, inputs, output) of each kind of layer counts."""
