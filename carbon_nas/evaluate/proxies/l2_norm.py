"""The size of the initial weights: the sum of their L2 norms over convolutions and linear layers.

A baseline (Abdelfattah et al., ICLR 2021, arXiv 2101.08134): it has seen neither images nor loss, and shows how much
of another proxy's ranking is the number and the width of the layers.
"""

from carbon_nas.evaluate.proxies.passes import Passes, summed


def l2_norm(passes: Passes) -> float:
    """Give sum_l ||w_l||; NaN without convolutions and linear layers."""
    return summed(layer.weight.detach().norm() for layer in passes.layers)
