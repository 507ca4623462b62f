"""How independent the network's channels are (Jiang et al., NeurIPS 2023, MeCo).

For one image the correlation matrix [C, C] of the channels of a module's output has a smallest eigenvalue, from 0
(a channel is a combination of others, or constant) to 1 (they have nothing in common). The score is the sum over
all modules, containers included, as in the authors' code; modules without positions add zero. So do outputs with no
more positions than channels, whose channels, less their means, cannot all be independent: nothing is computed for them,
which in wide networks is most of the work.

The image is the minibatch's first, alone. One of the authors' scripts takes a 64x64 image of noise instead, so that
even the last maps have more positions than channels. On 96 cells of NAS-Bench-201 that ranked no better: 0.63 to 0.64
with validation accuracy after 12 epochs against 0.60, 0.93 with final test accuracy against 0.95.
"""

import math
from collections import Counter

import torch
from torch import Tensor, nn

from carbon_nas.evaluate.proxies.differentiation import Recording, times_written
from carbon_nas.evaluate.proxies.passes import Passes
from carbon_nas.evaluate.proxies.spectra import by_size, smallest_eigenvalue


def meco(passes: Passes) -> float:
    """Give the sum of smallest eigenvalues; NaN if no output has channels and positions, or if one is not finite.

    The labels are not used.
    """
    correlations: dict[tuple[int, int], Tensor] = {}
    times: Counter[tuple[int, int]] = Counter()
    alive: dict[tuple[int, int], Tensor] = {}  # so that no two outputs have the same id

    def keep(_: nn.Module, __: tuple[Tensor, ...], output: object) -> None:
        if not isinstance(output, Tensor) or output.dim() < 3 or output[0, 0].numel() < 2:
            return
        which = (id(output), times_written(output))
        channels = output[0].flatten(1)
        if which not in alive and channels.shape[0] < channels.shape[1]:
            found = torch.corrcoef(channels).reshape(2 * [len(channels)])
            correlations[which] = found.nan_to_num(0, 0, 0) if channels.isfinite().all() else found
        alive[which] = output
        times[which] += 1

    hooks = [module.register_forward_hook(keep) for module in passes.network.modules()]
    try:
        with torch.no_grad(), Recording(()):
            passes.network(passes.images[:1])
    finally:
        for hook in hooks:
            hook.remove()
    if not alive:
        return math.nan
    values = by_size(smallest_eigenvalue, list(correlations.values()))
    return sum(value * times[which] for which, value in zip(correlations, values, strict=True))
