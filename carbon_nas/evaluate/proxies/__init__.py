"""Zero-cost proxies: how good an untrained network looks, in seconds. Larger is better for all of them.

Each is a function of `Passes`, a network and a minibatch, in its own module. It leaves the network, its mode and
its statistics as they were and draws nothing from the global generators. Raw values are kept: their scales differ,
so only ranks within a pool may be combined, and a value that is not a finite number ranks last.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from carbon_nas.evaluate.proxies.az_nas import az_expressivity, az_progressivity, az_trainability
from carbon_nas.evaluate.proxies.epe_nas import epe_nas
from carbon_nas.evaluate.proxies.fisher import fisher
from carbon_nas.evaluate.proxies.flops import flops
from carbon_nas.evaluate.proxies.grad_diversity import grad_diversity
from carbon_nas.evaluate.proxies.grad_norm import grad_norm
from carbon_nas.evaluate.proxies.grasp import grasp
from carbon_nas.evaluate.proxies.initialisation import Initialise, as_built, standard_normal
from carbon_nas.evaluate.proxies.jacov import jacov
from carbon_nas.evaluate.proxies.l2_norm import l2_norm
from carbon_nas.evaluate.proxies.meco import meco
from carbon_nas.evaluate.proxies.naswot import naswot
from carbon_nas.evaluate.proxies.norm_preservation import norm_preservation
from carbon_nas.evaluate.proxies.params import params
from carbon_nas.evaluate.proxies.passes import Passes
from carbon_nas.evaluate.proxies.snip import snip
from carbon_nas.evaluate.proxies.swap import swap
from carbon_nas.evaluate.proxies.synflow import synflow
from carbon_nas.evaluate.proxies.zen import zen
from carbon_nas.evaluate.proxies.zico import zico


class Proxy(NamedTuple):
    """A proxy, and the initial weights it is meant for.

    `of_shape`: it looks at shapes alone, and so counts parts that nothing flows through.
    """

    function: Callable[[Passes], float]
    initialise: Initialise = as_built
    of_shape: bool = False


TABLE: Mapping[str, Proxy] = {
    "grasp": Proxy(grasp),  # first: its pass backward, which can be differentiated, serves the others
    "params": Proxy(params, of_shape=True),
    "flops": Proxy(flops, of_shape=True),
    "grad_norm": Proxy(grad_norm),
    "synflow": Proxy(synflow),
    "naswot": Proxy(naswot),
    "swap": Proxy(swap),
    "meco": Proxy(meco),
    "zen": Proxy(zen, standard_normal),
    "az_expressivity": Proxy(az_expressivity),
    "az_progressivity": Proxy(az_progressivity),
    "az_trainability": Proxy(az_trainability),
    "grad_diversity": Proxy(grad_diversity),
    "norm_preservation": Proxy(norm_preservation),
    "snip": Proxy(snip),
    "fisher": Proxy(fisher),
    "l2_norm": Proxy(l2_norm),
    "jacov": Proxy(jacov),
    "epe_nas": Proxy(epe_nas),
    "zico": Proxy(zico),
}
