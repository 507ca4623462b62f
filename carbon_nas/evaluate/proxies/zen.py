"""How much the features move with the images (Lin et al., ICCV 2021, arXiv 2102.01063).

With weights drawn from N(0, 1), e noise from N(0, 1), and f the maps before the global pooling,

    log mean_n sum |f(x) - f(x + 0.01 e)| + sum over batch normalisations of log sqrt(mean variance)

The second term gives back what the normalisations divided by. The variances are these images' own. In the
published code for NAS-Bench-201 they are the running ones after two passes at the usual momentum of 0.1, which
are still to four fifths their initial value of one. A normalisation of constant maps, to which nothing flows,
divides by nothing and adds nothing; where no image reaches the features, the score is minus infinity. Features
are what enters the last adaptive pooling, or else the last block's maps; NaN without either.
"""

import copy
import math
from functools import lru_cache

import torch
from torch import Tensor, nn

from carbon_nas.evaluate.proxies.differentiation import Recording
from carbon_nas.evaluate.proxies.passes import Passes, blocks_of
from carbon_nas.evaluate.randomness import generator

STEP = 0.01
IMAGES = 16
"""The first so many images are looked at, the paper's number: 64 rank 40 cells of NAS-Bench-201 the same (0.999)."""


def zen(passes: Passes) -> float:
    """Give the Zen-score, from two forward passes; the labels are not used."""
    images = passes.images[:IMAGES]
    twin = copy.deepcopy(passes.original).train()
    norms = [module for module in twin.modules() if isinstance(module, nn.BatchNorm2d)]
    variances = [_kept_variance(norm, images) for norm in norms]
    features = _kept_features(twin)
    ends: list[Tensor] = []
    with torch.no_grad(), Recording(()):  # for its poolings, which are faster
        for given in (images + STEP * _noise(images.shape).to(images.device), images):  # its variances stay
            features.clear()
            twin(given)
            ends += features[-1:]
        if not ends:
            return math.nan
        moved, still = ends
        distance = (still - moved).abs().flatten(1).sum(1).mean()
        means = [variance.mean() for variance in variances]
        return float(distance.log() + sum(mean.log() / 2 for mean in means if mean > 0))


@lru_cache(maxsize=2)
def _noise(shape: torch.Size) -> Tensor:
    """Draw from N(0, 1), the same for all architectures."""
    return torch.randn(shape, generator=generator("zen"))


def _kept_variance(norm: nn.BatchNorm2d, like: Tensor) -> Tensor:
    """Let a normalisation keep the statistics of its last pass alone; give where it writes the variance."""
    norm.momentum, norm.track_running_stats = 1.0, True
    norm.running_mean, norm.running_var = like.new_zeros(norm.num_features), like.new_ones(norm.num_features)
    return norm.running_var


def _kept_features(network: nn.Module) -> list[Tensor]:
    """Give a list that takes up the features of each pass."""
    kept: list[Tensor] = []

    def keep(features: Tensor) -> None:
        if features.dim() == 4:
            kept.append(features)

    pools = [module for module in network.modules() if isinstance(module, nn.AdaptiveAvgPool2d)]
    if pools:
        pools[-1].register_forward_pre_hook(lambda _, inputs: keep(inputs[0]))
    else:
        for block in blocks_of(network):
            block.register_forward_hook(lambda _, __, output: keep(output))
    return kept
