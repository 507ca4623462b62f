"""The example against the suite that every space must pass, and a test of its own."""

from typing import ClassVar

from carbon_nas import plugins
from carbon_nas.testing.spaces import SpaceConformance


class TestChain(SpaceConformance):
    """Every duty of a space is a test of the suite. `side` is that of the images it tries the networks on."""

    name = "chain"
    options: ClassVar = {"layers": 4}
    side = 15


def test_a_network_is_what_its_text_says() -> None:
    space = plugins.build("spaces", "chain", {}, key="space")
    network = space.build("64-8-16", 1, 10)
    kernels = [tuple(parameter.shape) for parameter in network.parameters() if parameter.dim() == 4]
    assert kernels == [(64, 1, 3, 3), (8, 64, 3, 3), (16, 8, 3, 3)]
