"""The size of the loss's gradient at initialisation (Abdelfattah et al., ICLR 2021, arXiv 2101.08134).

The sum, over convolutions and linear layers, of the L2 norm of the weights' gradient. Batch normalisation works
on the minibatch's own statistics: with the initial running ones the value means something else.
"""

from carbon_nas.evaluate.proxies.passes import Passes, summed


def grad_norm(passes: Passes) -> float:
    """Give sum_l ||dL/dw_l||, zero where no gradient arrives; NaN without convolutions and linear layers."""
    return summed(gradient.norm() for gradient in passes.gradients)
