"""Zero-cost proxies: how good an untrained network looks, in seconds. Larger is better for all of them.

Each is a function `(network, images, labels) -> float` in its own module. `images` is a normalised float32
minibatch [B, planes, H, W], `labels` int64 [B]. It leaves the network, its mode and its statistics as they were
and draws nothing at random. Raw values are kept: their scales differ, so only ranks within a pool may be
combined, and a value that is not a finite number ranks last.
"""

from collections.abc import Callable, Mapping
from typing import TypeAlias

from torch import Tensor, nn

from carbon_nas.evaluate.proxies.flops import flops
from carbon_nas.evaluate.proxies.grad_norm import grad_norm
from carbon_nas.evaluate.proxies.naswot import naswot
from carbon_nas.evaluate.proxies.params import params
from carbon_nas.evaluate.proxies.synflow import synflow

Proxy: TypeAlias = Callable[[nn.Module, Tensor, Tensor], float]

TABLE: Mapping[str, Proxy] = {
    "params": params,
    "flops": flops,
    "grad_norm": grad_norm,
    "synflow": synflow,
    "naswot": naswot,
}
