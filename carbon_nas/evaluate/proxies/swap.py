"""How many different things the network's units say about the images (Peng et al., ICLR 2024, arXiv 2403.04161).

Each unit of a ReLU or of what spaces have in its place (`RECTIFIERS`) has a pattern, one bit for each image: whether
it is active, which is above zero. The score is the number of distinct patterns. The paper's regularisation by a
target size is left out: the size a search should aim at is not known.

The number of images matters. n of them allow 2^n patterns: of those of 16, the paper's number, full-size networks of
NAS-Bench-201 use up to 64,722 of 65,536. With many of them all units differ, and what is counted is the units: on 96
of its cells the rank correlation with accuracy was 0.80 with 16, 0.81 with 20, 0.79 with 24, 0.75 with 64 images.
"""

import math

import numpy as np
import torch

from carbon_nas.evaluate.proxies.passes import Passes

IMAGES = 20
"""The first so many images are looked at. At most 24, up to which float32 holds every pattern."""


def swap(passes: Passes) -> float:
    """Count distinct patterns over the rectifiers' maps [B, C, H, W]; NaN if there are none. Labels are not used."""
    maps = [output.detach()[:IMAGES] for output in passes.forward.rectified if output.dim() == 4]
    if not maps:
        return math.nan
    bits = 2.0 ** torch.arange(len(maps[0]), device=maps[0].device)
    patterns = torch.cat([bits @ output.flatten(1).sign() for output in maps])
    ordered = np.sort(patterns.cpu().numpy())  # many times as fast as torch.unique
    return 1.0 + int(np.count_nonzero(ordered[1:] != ordered[:-1]))
