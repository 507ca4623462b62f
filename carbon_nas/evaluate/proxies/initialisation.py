"""The initial weights that proxies were published with; a proxy's ranking depends on them."""

from collections.abc import Callable
from typing import TypeAlias

from torch import nn

Initialise: TypeAlias = Callable[[nn.Module], None]
"""Sets a network's weights, in place, from torch's global generator."""


def as_built(network: nn.Module) -> None:
    """Leave the weights as the space made them."""


def standard_normal(network: nn.Module) -> None:
    """Weights from N(0, 1), no bias, normalisation at one and zero (Zen-NAS, ICCV 2021)."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.normal_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d | nn.GroupNorm) and module.affine:
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
