"""How the gradient would grow with the weights (Wang et al., ICLR 2020, arXiv 2002.07376).

The sum over the weights w of convolutions and linear layers of -w (H g), with g = dL/dw and H the second derivative
of L. The sign is that of Abdelfattah et al. (arXiv 2101.08134), with which larger is better.

Only w (H g) is wanted, not H g, and that saves a third of the work. A layer's output is y = w x + b, and the weights
times the gradient of anything by them is (y - b) times its gradient by y. Now g appears in the pass forward, by y,
and in the pass backward, which is linear in w as well: there dL/dx = w dL/dy. So with z = <g, dL/dw>, g held fixed,

    w (H g) = <y - b, dz/dy> + <dL/dy, dz/d(dL/dy)> - |g|^2

summed over the calls of layers, where the last term takes away what z has of dL/dy directly, and so of g only what
comes of calls. Of a weight that is used otherwise, w dz/dw is taken as it is. Ask for it before the
others of the loss's gradient: its pass backward serves them too, with the same result. The second derivative is badly
conditioned in deep and wide cells: of one of 3x3 convolutions alone, 97 layers, float32 gives two to three digits,
whoever computes it.
"""

import math

import torch
from torch import Tensor

from carbon_nas.evaluate.proxies.passes import Passes, summed


def grasp(passes: Passes) -> float:
    """Give -sum w (H g), zero if no gradient arrives; NaN without convolutions and linear layers, or their weights."""
    if not passes.has_own_weights:
        return math.nan
    by_weights, (by_outputs, _, otherwise) = passes.differentiable_by_weights, passes.differentiable
    reached = {place: g for place, g in enumerate(by_weights) if g.requires_grad}
    if not reached:
        return summed(gradient.sum() for gradient in by_weights)
    factors: list[tuple[Tensor, Tensor]] = []  # what z is differentiated by, and what that is multiplied with
    for call, gradient in zip(passes.forward.calls, by_outputs, strict=True):
        if gradient.requires_grad:
            factors += [(call.output, call.product()), (gradient, gradient.detach())]
    factors += [(weight, weight.detach()) for weight in (passes.layers[place].weight for place in otherwise)]
    derivatives = torch.autograd.grad(
        list(reached.values()),
        [source for source, _ in factors],
        grad_outputs=[gradient.detach() for gradient in reached.values()],
        retain_graph=True,
        materialize_grads=True,
    )
    terms = [-_dot(factor, found) for (_, factor), found in zip(factors, derivatives, strict=True)]
    terms += [_dot(g, g - otherwise[place] if place in otherwise else g) for place, g in reached.items()]
    return summed(each.detach() for each in terms)


def _dot(one: Tensor, two: Tensor) -> Tensor:
    return torch.dot(one.reshape(-1), two.reshape(-1))
