"""How steady the gradient is from batch to batch (Li et al., ICLR 2023, arXiv 2301.11300).

The sum over convolutions and linear layers of

    log sum over the layer's weights of mean |g| / std g

over the gradients g of batches: here the two halves of the minibatch, each normalised by its own statistics. The
standard deviation is of the gradient with its sign, as in the authors' code, not of its absolute value. Weights
without spread are left out, and so is a layer of such weights alone. For two batches the quotient is
(|a| + |b|) / |a - b|, at least one, so no layer adds less than zero, and zero, which is the score of a disconnected
network, is below all others. Quotients are taken in float64: in float32, as published, the squares of the smallest
gradients vanish, which shows in the fifth digit.
"""

import math

import torch
from torch import Tensor

from carbon_nas.evaluate.proxies.passes import Passes, summed


def zico(passes: Passes) -> float:
    """Give the score, from two passes over half the images each; NaN without convolutions and linear layers."""
    if not passes.layers:
        return math.nan
    one, two = (half.gradients for half in passes.halves())
    return summed(_steadiness(a.double(), b.double()) for a, b in zip(one, two, strict=True))


def _steadiness(a: Tensor, b: Tensor) -> Tensor:
    quotients = ((a.abs() + b.abs()) / (a - b).abs())[a != b]
    return quotients.sum().log() if len(quotients) else torch.zeros((), device=a.device)
