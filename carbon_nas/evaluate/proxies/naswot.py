"""How differently the network sees the images (Mellor et al., ICML 2021, arXiv 2006.04647, version 3).

Each image has a binary code, one bit for each ReLU unit: whether it is active. K[i, j] counts the units on which
images i and j agree; the score is log |det K|. Batch normalisation must work on the minibatch (train mode): on
the initial running statistics the score ranks clearly worse. A network that tells two images not apart at all
has a singular K and scores minus infinity, which is handed on as it is: the caller ranks it last.
"""

import copy

import torch
from torch import Tensor, nn


def naswot(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Give log |det K|, K summed over all ReLUs in float64; the labels are not used."""
    twin = copy.deepcopy(network).train()
    kernel = torch.zeros(len(images), len(images), dtype=torch.float64, device=images.device)

    def add_agreements(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        active = (output > 0).flatten(1).to(torch.float32)  # counts below 2^24 are exact
        both = active @ active.T
        ones = active.sum(1)
        neither = active.shape[1] - ones[:, None] - ones[None, :] + both
        kernel.add_(both + neither)

    for module in twin.modules():
        if isinstance(module, nn.ReLU):
            module.register_forward_hook(add_agreements)
    with torch.no_grad():
        twin(images)
    return float(torch.linalg.slogdet(kernel).logabsdet)
