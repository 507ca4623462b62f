"""How much flows through the network (Tanaka et al., NeurIPS 2020, arXiv 2006.05467), as its logarithm.

With all parameters made positive and an input of ones, R is the sum of the outputs, and the score is the sum of
weight x dR/dweight over convolutions and linear layers. Three traps: values beyond float32 are usual (1e43), so
it is done in float64; with batch normalisation left in, the score says next to nothing, so that of maps is taken out; a
network that nothing flows through scores exactly zero, so the logarithm has a floor. Layer and group normalisation
stay in: of networks with these it says little.
"""

import math
import sys
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call

from carbon_nas.evaluate.proxies.passes import Passes, Weighted, gradients_of, in_mode
from carbon_nas.evaluate.proxies.replacing import Replacing

FLOOR = math.log(sys.float_info.min)
"""The score of a network that nothing flows through: the logarithm of the smallest normal number, -708.4."""


def synflow(passes: Passes) -> float:
    """Give log(sum of weight x dR/dweight). Of the images only the shape matters, the labels not at all.

    NaN without convolutions and linear layers, if a layer's weight is made of others at each use, and where what
    flows is no number, or below zero: then something in the network does not keep the sign.
    """
    if not (passes.weights and passes.has_own_weights):
        return math.nan
    network = passes.network
    parameters = {
        name: parameter.detach().double().abs().requires_grad_()
        for name, parameter in network.named_parameters()
    }
    buffers = {
        name: b.double() if b.is_floating_point() else b for name, b in passes.original.named_buffers()
    }
    ones = torch.ones_like(passes.images[:1], dtype=torch.float64)
    with in_mode(network, training=False), Replacing({F.batch_norm: _not_normalised}):
        total = functional_call(network, {**parameters, **buffers}, (ones,)).sum()
    names = [f"{name}.weight" for name, module in network.named_modules() if isinstance(module, Weighted)]
    weights = [parameters[name] for name in names if name in parameters]  # one that is shared has one name
    gradients = gradients_of(total, weights)
    flow = sum((one * two).sum().item() for one, two in zip(weights, gradients, strict=True))
    if not 0 <= flow < math.inf:
        return math.nan
    return math.log(flow) if flow > sys.float_info.min else FLOOR


def _not_normalised(maps: Tensor, *rest: Any, **named: Any) -> Tensor:
    return maps if maps.dim() == 4 else F.batch_norm(maps, *rest, **named)
