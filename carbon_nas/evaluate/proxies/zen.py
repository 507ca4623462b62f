"""How much the features move with the images (Lin et al., ICCV 2021, arXiv 2102.01063).

With weights drawn from N(0, 1), e noise from N(0, 1), and f the maps before the global pooling,

    log mean_n sum |f(x) - f(x + 0.01 e)| + sum over batch normalisations of log sqrt(mean variance)

The second term gives back what the normalisations divided by. The variances are these images' own. In the
published code for NAS-Bench-201 they are the running ones after two passes at the usual momentum of 0.1, which
are still to four fifths their initial value of one. A normalisation of constant maps, to which nothing flows,
divides by nothing and adds nothing; where no image reaches the features, the score is minus infinity. Features
are what enters an adaptive pooling after the last block, or else the last block's maps; NaN without either.
"""

import math
from functools import lru_cache
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from carbon_nas.evaluate.proxies.differentiation import Recording
from carbon_nas.evaluate.proxies.passes import Passes, blocks_of
from carbon_nas.evaluate.proxies.replacing import Replacing
from carbon_nas.evaluate.randomness import generator

STEP = 0.01
IMAGES = 16
"""The first so many images are looked at, the paper's number: 64 rank 40 cells of NAS-Bench-201 the same (0.999)."""


def zen(passes: Passes) -> float:
    """Give the Zen-score, from two forward passes; the labels are not used."""
    images = passes.images[:IMAGES]
    moved, still = (
        _looked_at(passes.network, given)
        for given in (images + STEP * _noise(images.shape).to(images.device), images)
    )
    if moved.features is None or still.features is None:
        return math.nan
    distance = (still.features - moved.features).abs().flatten(1).sum(1).mean()
    means = [variance.mean() for variance in still.variances]
    return float(distance.log() + sum(mean.log() / 2 for mean in means if mean > 0))


@lru_cache(maxsize=2)
def _noise(shape: torch.Size) -> Tensor:
    """Draw from N(0, 1), the same for all architectures."""
    return torch.randn(shape, generator=generator("zen"))


class _Seen(NamedTuple):
    """What one pass showed: the features [B, C, H, W], None without any, and the variances."""

    features: Tensor | None
    variances: list[Tensor]


def _looked_at(network: nn.Module, images: Tensor) -> _Seen:
    features: list[Tensor] = []
    variances: list[Tensor] = []

    def keep(maps: object) -> None:
        if isinstance(maps, Tensor) and maps.dim() == 4:
            features[:] = [maps.clone()]  # it may be written over

    def normalise(maps: Tensor, mean: Tensor | None, variance: Tensor | None, **named: Any) -> Tensor:
        if maps.dim() == 4:
            mean, variance = maps.new_zeros(maps.shape[1]), maps.new_ones(maps.shape[1])
            variances.append(variance)
            named["momentum"] = 1.0
        return F.batch_norm(maps, mean, variance, **named)

    pools = [module for module in network.modules() if isinstance(module, nn.AdaptiveAvgPool2d)]
    hooks = [pool.register_forward_pre_hook(lambda _, inputs: keep(inputs[0])) for pool in pools]
    blocks = [block for block in blocks_of(network) if block not in pools]
    hooks += [block.register_forward_hook(lambda _, __, maps: keep(maps)) for block in blocks]
    try:
        with torch.no_grad(), Recording(()), Replacing({F.batch_norm: normalise}):
            network(images)
    finally:
        for hook in hooks:
            hook.remove()
    return _Seen(features[0] if features else None, variances)
