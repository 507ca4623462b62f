"""Multiply-accumulates of one image, counted as NAS-Bench-201 does.

Convolutions and linear layers, each output of a layer with bias counting one more; normalisation, pooling and
activations are free. At 32x32 with 16 channels and five cells a stage, three planes and ten classes this is
7,783,050 + 35,389,440 n3 + 3,932,160 n1 for n3 convolutions 3x3 and n1 of 1x1 in the cell.
"""

import torch
from torch import Tensor, nn

from carbon_nas.evaluate.proxies.passes import Passes, in_mode


def flops(passes: Passes) -> float:
    """Count by the shapes that one image takes. On the meta device shapes alone cost ten times as much."""
    counts: list[int] = []

    def count(module: nn.Module, _: tuple[Tensor, ...], output: Tensor) -> None:
        outputs = output.shape[1]
        positions = output[0].numel() // outputs
        per_position = sum(parameter.numel() for parameter in module.parameters(recurse=False))
        counts.append(positions * per_position)

    weighted = [m for m in passes.original.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    hooks = [module.register_forward_hook(count) for module in weighted]
    try:
        with torch.no_grad(), in_mode(passes.original, training=False):
            passes.original(passes.images[:1])
    finally:
        for hook in hooks:
            hook.remove()
    return float(sum(counts))
