"""How much of the loss hangs on the weights (Lee et al., ICLR 2019, arXiv 1810.02340).

The sum, over the weights of convolutions and linear layers, of |weight x dL/dweight|: the connection sensitivity,
which the paper takes from the gradient by a mask of ones. As a score of networks: Abdelfattah et al., ICLR 2021.
"""

from carbon_nas.evaluate.proxies.passes import Passes, summed


def snip(passes: Passes) -> float:
    """Give sum |w dL/dw|, zero where no gradient arrives; NaN without convolutions and linear layers."""
    pairs = zip(passes.layers, passes.gradients, strict=True)
    return summed((layer.weight.detach() * gradient).abs().sum() for layer, gradient in pairs)
