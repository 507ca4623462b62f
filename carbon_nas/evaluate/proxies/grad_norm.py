"""The size of the loss's gradient at initialisation (Abdelfattah et al., ICLR 2021, arXiv 2101.08134).

The sum, over convolutions and linear layers, of the L2 norm of the weights' gradient. Batch normalisation works
on the minibatch's own statistics: with the initial running ones the value means something else.
"""

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def grad_norm(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Backpropagate the cross-entropy of one minibatch; a layer that no gradient reaches adds nothing."""
    twin = copy.deepcopy(network).train()
    torch.autograd.backward(F.cross_entropy(twin(images), labels))
    layers = [module for module in twin.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    return sum(float(layer.weight.grad.norm()) for layer in layers if layer.weight.grad is not None)
