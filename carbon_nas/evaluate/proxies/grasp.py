"""How the gradient would grow with the weights (Wang et al., ICLR 2020, arXiv 2002.07376).

The sum over the weights w of convolutions and linear layers of -w (H g), with g = dL/dw and H the second derivative
of L. The sign is that of Abdelfattah et al. (arXiv 2101.08134), with which larger is better.

Only w (H g) is wanted, not H g, and that saves a third of the work. A layer's output is y = w x + b, and the weights
times the gradient of anything by them is (y - b) times its gradient by y. Now g appears in the pass forward, by y,
and in the pass backward, which is linear in w as well: there dL/dx = w dL/dy. So with z = <g, dL/dw>, g held fixed,

    w (H g) = <y - b, dz/dy> + <dL/dy, dz/d(dL/dy)> - |g|^2

summed over the calls of layers, where the last term takes away what z has of dL/dy directly. Ask for it before the
others of the loss's gradient: its pass backward serves them too, with the same result. The second derivative is badly
conditioned in deep and wide cells: of one of 3x3 convolutions alone, 97 layers, float32 gives two to three digits,
whoever computes it.
"""

import torch
from torch import Tensor

from carbon_nas.evaluate.proxies.passes import Passes, summed


def grasp(passes: Passes) -> float:
    """Give -sum w (H g), zero if no gradient arrives; NaN without convolutions and linear layers."""
    by_weights, by_outputs = passes.differentiable_by_weights, passes.differentiable.by_outputs
    reached = [gradient for gradient in by_weights if gradient.requires_grad]
    calls = [
        (call, gradient)
        for call, gradient in zip(passes.forward.calls, by_outputs, strict=True)
        if gradient.requires_grad
    ]
    if not reached:
        return summed(gradient.sum() for gradient in by_weights)
    outputs, gradients = [call.output for call, _ in calls], [gradient for _, gradient in calls]
    forwards, backwards = _second_derivatives(reached, outputs, gradients)
    terms = [gradient.detach().square().sum() for gradient in reached]
    for (call, gradient), forward, backward in zip(calls, forwards, backwards, strict=True):
        terms += [-_dot(call.product(), forward), -_dot(gradient.detach(), backward)]
    return summed(terms)


def _second_derivatives(
    gradients: list[Tensor], outputs: list[Tensor], output_gradients: list[Tensor]
) -> tuple[list[Tensor], list[Tensor]]:
    """Differentiate <g, dL/dw>, g held fixed, by each output and by each gradient by an output."""
    found = torch.autograd.grad(
        gradients,
        [*outputs, *output_gradients],
        grad_outputs=[gradient.detach() for gradient in gradients],
        retain_graph=True,
        materialize_grads=True,
    )
    return list(found[: len(outputs)]), list(found[len(outputs) :])


def _dot(one: Tensor, two: Tensor) -> Tensor:
    return torch.dot(one.reshape(-1), two.reshape(-1))
