"""Eigenvalues and singular values of many small matrices: those of equal size are done in one call."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def by_size(function: Callable[[Tensor], Tensor], matrices: Sequence[Tensor]) -> list[float]:
    """Apply a function of a stack [K, rows, columns], with result [K], to matrices; one number for each, in order.

    NaN for a matrix that is not finite.
    """
    places: dict[torch.Size, list[int]] = {}
    for place, matrix in enumerate(matrices):
        places.setdefault(matrix.shape, []).append(place)
    found = [math.nan] * len(matrices)
    for alike in places.values():
        stack = torch.stack([matrices[place] for place in alike])
        finite = stack.isfinite().all(2).all(1).tolist()
        usable = [place for place, known in zip(alike, finite, strict=True) if known]
        results = function(stack if all(finite) else stack[torch.tensor(finite, device=stack.device)])
        for place, result in zip(usable, results.tolist(), strict=True):
            found[place] = result
    return found


def entropies(maps: Sequence[Tensor]) -> list[float]:
    """Give for each of some maps [B, C, H, W] the entropy of its principal components, 0 to log C.

    The eigenvalues of the channels' covariance over images and positions, as shares of their sum, are taken for
    probabilities. NaN for a map that is constant.
    """
    return by_size(_entropy, [_covariance(each.detach().flatten(2)) for each in maps])


def smallest_eigenvalue(matrices: Tensor) -> Tensor:
    """Give the smallest eigenvalue of each of symmetric [K, C, C]."""
    ascending: Tensor = torch.linalg.eigvalsh(matrices)
    return ascending[:, 0]


def largest_singular(matrices: Tensor) -> Tensor:
    """Give the largest singular value of each of [K, rows, columns]."""
    largest: Tensor = torch.linalg.matrix_norm(matrices, 2)
    return largest


def _covariance(rows: Tensor) -> Tensor:
    """Give the covariance [C, C] of [B, C, positions]."""
    centred = rows - rows.mean((0, 2), keepdim=True)
    return torch.bmm(centred, centred.mT).mean(0) / rows.shape[2]


def _entropy(covariances: Tensor) -> Tensor:
    values: Tensor = torch.linalg.eigvalsh(covariances).clamp(min=0)  # rounding puts zeros on either side
    shares = values / values.sum(1, keepdim=True)
    return -(shares * torch.log(shares + 1e-8)).sum(1)
