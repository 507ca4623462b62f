"""How differently the network answers to changes of the images (Mellor et al., arXiv 2006.04647, version 1).

With C the correlation matrix of the rows of the Jacobian (the gradient of the sum of logits by each image), v its
eigenvalues and k = 1e-5, the score is -sum(log(v + k) + 1 / (v + k)). It saturates: rows that have nothing to do
with each other give about -B for a minibatch of B, and the signal is in the second decimal, so all is in float64
and by the solver for symmetric matrices; a general one may return complex numbers. Where the logits do not
depend on one of the images it has no correlation, and the score is NaN.
"""

import math

import torch

from carbon_nas.evaluate.proxies.passes import Passes

K = 1e-5


def jacov(passes: Passes) -> float:
    """Give the score, NaN of a disconnected network; the labels are not used."""
    if not passes.correlation.isfinite().all():
        return math.nan
    eigenvalues = torch.linalg.eigvalsh(passes.correlation) + K
    return -float((eigenvalues.log() + 1 / eigenvalues).sum())
