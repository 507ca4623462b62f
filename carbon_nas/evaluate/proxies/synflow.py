"""How much flows through the network (Tanaka et al., NeurIPS 2020, arXiv 2006.05467), as its logarithm.

With all parameters made positive and an input of ones, R is the sum of the outputs, and the score is the sum of
weight x dR/dweight over convolutions and linear layers. Three traps: values beyond float32 are usual (1e43), so
it is done in float64; with batch normalisation left in, the score says next to nothing, so it is taken out; a
network that nothing flows through scores exactly zero, so the logarithm has a floor.
"""

import copy
import math
import sys

import torch
from torch import nn

from carbon_nas.evaluate.proxies.passes import Passes

FLOOR = math.log(sys.float_info.min)
"""The score of a network that nothing flows through: the logarithm of the smallest normal number, -708.4."""


def synflow(passes: Passes) -> float:
    """Give log(sum of weight x dR/dweight). Of the images only the shape matters, the labels not at all."""
    twin = _without_normalisation(copy.deepcopy(passes.original)).double().eval()
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.abs_()
    ones = torch.ones_like(passes.images[:1], dtype=torch.float64)
    torch.autograd.backward(twin(ones).sum())
    layers = [module for module in twin.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    flow = sum(
        (layer.weight * layer.weight.grad).sum().item() for layer in layers if layer.weight.grad is not None
    )
    return math.log(flow) if flow > sys.float_info.min else FLOOR


def _without_normalisation(network: nn.Module) -> nn.Module:
    names = [name for name, module in network.named_modules() if isinstance(module, nn.BatchNorm2d)]
    for name in names:
        network.set_submodule(name, nn.Identity())
    return network
