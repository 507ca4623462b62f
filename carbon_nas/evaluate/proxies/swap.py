"""How many different things the network's units say about the images (Peng et al., ICLR 2024, arXiv 2403.04161).

Each ReLU unit has a pattern, one bit for each image: whether it is active. The score is the number of distinct
patterns. The paper's regularisation by a target size is left out: the size a search should aim at is not known.
With n images there are 2^n patterns: 16 of them, the paper's number, are nearly all used up by networks of this
size (64,000 to 65,200 of 65,536), so that the score no longer tells them apart.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from carbon_nas.evaluate.proxies.passes import Passes

WORD = 64
"""The first so many images are looked at: their bits fit into one integer."""


def swap(passes: Passes) -> float:
    """Count distinct patterns over the ReLUs of maps [B, C, H, W]; NaN if there are none. Labels are not used."""
    maps = [output for output in passes.forward.rectified if output.dim() == 4]
    if not maps:
        return math.nan
    patterns = torch.cat([_packed((output.detach()[:WORD] > 0).flatten(1)) for output in maps])
    ordered = np.sort(patterns.cpu().numpy())  # ten times as fast as torch.unique
    return 1.0 + int(np.count_nonzero(ordered[1:] != ordered[:-1]))


def _packed(active: Tensor) -> Tensor:
    """Pack the columns of [B <= 64, units] into int64 [units]."""
    octets = F.pad(active.to(torch.uint8), (0, 0, 0, WORD - len(active)))
    octets = octets.view(8, 8, -1)
    packed = octets[:, 0]
    for bit in range(1, 8):
        packed = packed | octets[:, bit] << bit
    return packed.T.contiguous().view(torch.int64).squeeze(1)
