"""How alike the network answers within each class (Lopes et al., ICANN 2021, arXiv 2102.08099).

With C the correlation matrix of the rows of the Jacobian, as for `jacov`, each class c has S_c, the sum of
log(|C_ij| + 1e-5) over the pairs of its images, the diagonal included. For up to a hundred classes the score is
sum |S_c|; for more, with S_c divided by the number of the class's images, it is the sum over pairs of classes of
|S_c - S_d|, divided by the number of classes (both as in the authors' code, which leaves out classes of a single
image in the second). So it wants several images of each class: with a hundred classes it ranks badly, and where
no class has two images it is NaN. It is NaN too where the logits do not depend on the images.
"""

import math

import torch
import torch.nn.functional as F

from carbon_nas.evaluate.proxies.passes import Passes

K = 1e-5
FEW_CLASSES = 100


def epe_nas(passes: Passes) -> float:
    """Give the score of the classes that the minibatch has."""
    _, classes = torch.unique(passes.labels, return_inverse=True)
    members = F.one_hot(classes).to(torch.float64)
    sizes = members.sum(0)
    if sizes.max() < 2:
        return math.nan
    alike = torch.where(members @ members.T > 0, (passes.correlation.abs() + K).log(), 0.0)
    sums = members.T @ alike.sum(1)
    if passes.forward.logits.shape[1] <= FEW_CLASSES:
        return float(sums.abs().sum())
    means = (sums / sizes)[sizes > 1]
    return float((means[:, None] - means).abs().sum() / len(means))
