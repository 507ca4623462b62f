"""Three of AZ-NAS's four terms (Lee and Ham, CVPR 2024, arXiv 2403.19232); the fourth, complexity, is `flops`.

All look at the outputs f_0, f_1, ... of the network's primary blocks (stem, cells, reductions) on the minibatch.
With E_l the entropy of the principal components of f_l over all positions of all images:

    expressivity    sum_l E_l
    progressivity   min_l (E_l - E_(l-1))
    trainability    mean over l >= 1 of 2 - s_l - 1 / (s_l + 1e-6)

where s_l is the largest singular value of the mean over positions of g_(l-1) g_l^T: g_l is +1 or -1 at random,
g_(l-1) what becomes of it through block l backwards, with the positions of a larger map counted as channels.
s_l = 1 is best: a gradient neither grows nor fades. A block that hands its input on as it is would score best
without doing anything, so it scores minus infinity.

Where nothing flows, E_l is not defined and both scores are minus infinity; s_l is zero. A network without blocks
has none of the terms: NaN. A covariance's eigenvalues below zero, which are rounding, count as zero; in the published
code they make some scores NaN.

Published for Kaiming's normal weights. As built, in NAS-Bench-201's case by PyTorch's own rule, the scores ranked 96 of
its cells by validation accuracy after 12 epochs at 0.59, 0.64 and 0.57 (Kaiming: 0.44, 0.00, 0.64; final test accuracy:
0.80, 0.58, 0.42 against 0.70, 0.07, 0.48), and so they share the forward pass that other proxies need anyway.
"""

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from carbon_nas.evaluate.proxies.passes import Passes
from carbon_nas.evaluate.proxies.spectra import by_size, largest_singular
from carbon_nas.evaluate.randomness import generator


def az_expressivity(passes: Passes) -> float:
    """Give the sum of the blocks' entropies."""
    return _of_defined(passes.entropies, sum)


def az_progressivity(passes: Passes) -> float:
    """Give the least gain of entropy from one block to the next."""
    return _of_defined([after - before for before, after in pairwise(passes.entropies)], min)


def az_trainability(passes: Passes) -> float:
    """Give the mean over blocks of how well they keep a gradient's size."""
    products = []
    for before, after in pairwise(passes.forward.blocks):
        arriving = _signs(after.shape).to(after.device)
        leaving = _backwards(after, before, arriving)
        if leaving.shape == arriving.shape and torch.equal(leaving, arriving):
            return -math.inf
        products.append(_mean_product(_folded(leaving, arriving.shape), arriving))
    sizes = by_size(largest_singular, products)
    return _of_defined([2 - size - 1 / (size + 1e-6) for size in sizes], lambda all_: sum(all_) / len(all_))


def _of_defined(terms: Sequence[float], combine: Callable[[Sequence[float]], float]) -> float:
    """Combine terms; NaN if there are none, minus infinity if one is not defined."""
    if not terms:
        return math.nan
    return -math.inf if any(map(math.isnan, terms)) else combine(terms)


@lru_cache(maxsize=8)
def _signs(shape: torch.Size) -> Tensor:
    """Draw +1 or -1, the same for all architectures."""
    return torch.randint(0, 2, shape, generator=generator("az_trainability")).float() * 2 - 1


def _backwards(after: Tensor, before: Tensor, arriving: Tensor) -> Tensor:
    """Give the gradient at `before` for that at `after`: what lies between is all that is gone through."""
    if not (after.requires_grad and before.requires_grad):
        return torch.zeros_like(before)
    (leaving,) = torch.autograd.grad(after, before, arriving, retain_graph=True, materialize_grads=True)
    return leaving


def _folded(leaving: Tensor, shape: torch.Size) -> Tensor:
    """Count the positions of a larger map that fall on one position of `shape` [B, C, H, W] as channels."""
    (height, width), (rows, columns) = leaving.shape[2:], shape[2:]
    if (height, width) == (rows, columns):
        return leaving
    stride = max(math.ceil(height / rows), math.ceil(width / columns))
    padded = F.pad(leaving, (0, columns * stride - width, 0, rows * stride - height))
    return F.pixel_unshuffle(padded, stride)


def _mean_product(leaving: Tensor, arriving: Tensor) -> Tensor:
    """Give the mean over images and positions of leaving x arriving^T, [C in, C out]."""
    products = torch.bmm(leaving.flatten(2), arriving.flatten(2).mT).mean(0)
    return products / arriving[0, 0].numel()
