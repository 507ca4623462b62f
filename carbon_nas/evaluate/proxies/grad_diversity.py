"""How little the images' gradients have in common.

At the output of each block (stem, cells, reductions) every image has a gradient of the loss, and two images' gradients
have a correlation c. The score is minus the mean of c^2 over all pairs of images and all blocks: 0 if each image pulls
in a direction of its own, -1 if all pull along one line, so that none can be learnt without the others. With m the
mean at one block, n / (1 + (n - 1) m) is the participation ratio of the kernel of n gradients: how many directions they
span.

This is our own. It is near to the condition number of the neural tangent kernel (Chen et al., TE-NAS, ICLR 2021, arXiv
2102.11535), but looks at all of a spectrum instead of its ends, and at gradients by outputs of blocks instead of by
weights, so that one pass backward is enough; `jacov` looks at the images' end of such a pass. Sankararaman et al. (ICML
2020, arXiv 1904.06963) argue that training is slow where the images' gradients are far from orthogonal (they fear
those that oppose each other), and that batch normalisation together with shortcuts brings them near to it.
"""

import math

import torch
from torch import Tensor

from carbon_nas.evaluate.proxies.passes import Passes


def grad_diversity(passes: Passes) -> float:
    """Give the score; NaN of a network without blocks, or of one image.

    Minus infinity where an image has no gradient at a block, or one that is the same everywhere.
    """
    gradients = passes.block_gradients
    if not gradients or len(passes.images) < 2:
        return math.nan
    shared = [_shared(gradient) for gradient in gradients]
    return -math.inf if any(map(math.isnan, shared)) else -sum(shared) / len(shared)


def _shared(gradient: Tensor) -> float:
    """Give the mean over pairs of images of the squared correlation of their gradients, [B, C, H, W]; NaN of zeros."""
    correlations = torch.corrcoef(gradient.flatten(1)).double()
    images = len(correlations)
    return float((correlations.square().sum() - images) / (images * (images - 1)))
