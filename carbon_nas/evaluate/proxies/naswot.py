"""How differently the network sees the images (Mellor et al., ICML 2021, arXiv 2006.04647, version 3).

Each image has a binary code, one bit for each unit of a ReLU or of what spaces have in its place (`RECTIFIERS`):
whether it is active, which is above zero. K[i, j] counts the units on which images i and j agree; the score is
log |det K|. Batch normalisation must work on the minibatch (train mode): on the initial running statistics the score
ranks clearly worse. A network that tells two images not apart at all has a singular K and scores minus infinity, which
is handed on as it is: the caller ranks it last.
"""

import math

import torch

from carbon_nas.evaluate.proxies.passes import Passes


def naswot(passes: Passes) -> float:
    """Give log |det K|, K [B, B] summed over all rectifiers in float64; NaN if there are none. Labels are not used."""
    if not passes.forward.rectified:
        return math.nan
    kernel = torch.zeros(*[len(passes.images)] * 2, dtype=torch.float64, device=passes.images.device)
    for output in passes.forward.rectified:
        active = output.detach().flatten(1).sign()  # one where active; counts below 2^24 are exact
        both = active @ active.T
        ones = both.diagonal()
        neither = active.shape[1] - ones[:, None] - ones[None, :] + both
        kernel += both + neither
    return float(torch.linalg.slogdet(kernel).logabsdet)
