"""Latencies of NAS-Bench-201's networks on devices that are not here, as they were published.

HELP (Lee et al., NeurIPS 2021, arXiv 2106.08630) measured all 15,625 cells at the benchmark's own size on CIFAR-10's
images; its values for raspi4, pixel3, fpga and eyeriss are HW-NAS-Bench's (Li et al., ICLR 2021, arXiv 2103.10584).
Cells whose output nothing reaches have values near zero on some of them: their compilers left the network out.
"""

from collections.abc import Mapping
from importlib.resources import files

import numpy as np

from carbon_nas.errors import ConfigurationError
from carbon_nas.interfaces import SearchSpace
from carbon_nas.plugins import check_options
from carbon_nas.search.spaces.nasbench201 import OPERATIONS, NasBench201, NasBench201Options

SOURCE = "published by HELP (arXiv 2106.08630), not measured here"
SIDE = 32
SECONDS = 1e-7
"""One unit of the table."""

DEVICES: Mapping[str, int | None] = {
    **dict.fromkeys(("1080ti_1", "2080ti_1", "titan_rtx_1", "titanx_1", "titanxp_1"), 1),
    "titan_rtx_256": 256,
    **dict.fromkeys(("silver_4114", "silver_4210r", "gold_6226", "gold_6240")),
    **dict.fromkeys(("pixel2", "pixel3", "essential_ph_1", "samsung_a50", "samsung_s7")),
    **dict.fromkeys(("raspi4", "fpga", "eyeriss")),
}
"""The devices by HELP's names, and the images of one forward pass; None where the table does not state them."""


def latency_seconds(device: str, arch: str) -> float:
    """Give the seconds of one forward pass of a cell's network, of 16 channels and 5 cells a stage.

    Raises:
        KeyError: the table does not have the device.
        ValueError: `arch` is no cell of NAS-Bench-201.
    """
    row = 0
    for choice in NasBench201(NasBench201Options()).encode(arch):
        row = row * len(OPERATIONS) + choice
    with (
        (files("carbon_nas") / "data" / "nasbench201-latency.npz").open("rb") as file,
        np.load(file) as table,
    ):
        return float(table[device][row]) * SECONDS


def require_benchmark(space: SearchSpace, options: Mapping[str, object], *, side: int) -> None:
    """Check that the networks of `space`, made with `options`, are those that were published.

    Raises:
        ConfigurationError: another space, another size of network, or other images.
    """
    is_space = isinstance(space, NasBench201)
    if not is_space or check_options(NasBench201Options, options, key="space") != NasBench201Options():
        raise ConfigurationError(
            "the published latencies are of nasbench201 at 16 channels and 5 cells", key="--space"
        )
    if side != SIDE:
        raise ConfigurationError(
            f"the published latencies are of images of {SIDE}x{SIDE}, not {side}x{side}", key="--side"
        )
