"""Batch normalisation whose derivative is cheap to differentiate once more.

torch has fused kernels for the pass forward and for its derivative, which are used here as they are, but the
second derivative it makes of some thirty operations, each as long as the maps. With x' the normalised maps, s the
inverse standard deviation and m(.) the mean over a channel, the derivative along g is

    D g = weight s (g - m(g) - x' m(g x'))

and <u, D g> has the derivative D u by g (D is symmetric) and, by x, the sum of x', u and g times numbers of each
channel. That takes one fused kernel and three more operations.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import Function, once_differentiable


def batch_norm(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    *,
    weight: Tensor | None,
    bias: Tensor | None,
    momentum: float,
    eps: float,
    **_: Any,
) -> Tensor:
    """Do what `F.batch_norm` does in training, to the bit.

    The gradients by weight and bias cannot be differentiated.
    """
    result: Tensor = _Normalise.apply(x, running_mean, running_var, weight, bias, momentum, eps)
    return result


class _Normalise(Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        weight: Tensor | None,
        bias: Tensor | None,
        momentum: float,
        eps: float,
    ) -> Tensor:
        y, mean, scale = torch.native_batch_norm(
            x, weight, bias, running_mean, running_var, training=True, momentum=momentum, eps=eps
        )
        ctx.save_for_backward(x, weight, mean, scale)
        ctx.eps = eps
        return y

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        by_x, by_weight, by_bias = _Derivative.apply(g, *ctx.saved_tensors, ctx.eps)
        return by_x, None, None, by_weight, by_bias, None, None


class _Derivative(Function):
    @staticmethod
    def forward(
        ctx: Any, g: Tensor, x: Tensor, weight: Tensor | None, mean: Tensor, scale: Tensor, eps: float
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        by_x, by_weight, by_bias = _backward(g, x, weight, mean, scale, eps)
        ctx.save_for_backward(g, x, weight, mean, scale)
        ctx.eps, ctx.sums = eps, (by_weight, by_bias)
        if weight is None:
            return by_x, None, None
        ctx.mark_non_differentiable(by_weight, by_bias)
        return by_x, by_weight, by_bias

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, u: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        g, x, weight, mean, scale = ctx.saved_tensors
        by_g, u_x, u_ = _backward(u, x, weight, mean, scale, ctx.eps)
        count = x.numel() / x.shape[1]
        g_x, g_ = (total / count for total in ctx.sums)  # m(g x'), m(g)
        u_x, u_ = u_x / count, u_ / count
        rest = _products(u, g) / count - u_ * g_ - u_x * g_x
        times = -scale.square() if weight is None else -scale.square() * weight
        to_x, to_u, to_g = times * (rest - 2 * u_x * g_x) * scale, times * g_x, times * u_x
        shift = -to_x * mean - to_u * u_ - to_g * g_
        wide = (1, -1) + (1,) * (x.dim() - 2)
        by_x = x * to_x.view(wide)
        by_x.addcmul_(u, to_u.view(wide)).addcmul_(g, to_g.view(wide)).add_(shift.view(wide))
        return by_g, by_x, None if weight is None else count * rest * scale, None, None, None


def _backward(
    g: Tensor, x: Tensor, weight: Tensor | None, mean: Tensor, scale: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Give D g, and of each channel the sums of g x' and of g."""
    found: tuple[Tensor, Tensor, Tensor] = torch.ops.aten.native_batch_norm_backward(
        g, x, weight, None, None, mean, scale, True, eps, [True, True, True]
    )
    return found


def _products(one: Tensor, two: Tensor) -> Tensor:
    """Give of each channel the sum of products, without a map of them."""
    rows = [maps.reshape(*maps.shape[:2], -1) for maps in (one, two)]
    found: Tensor = torch.linalg.vecdot(*rows).sum(0)
    return found
