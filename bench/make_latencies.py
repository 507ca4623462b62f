"""Make the shipped table `carbon_nas/data/nasbench201-latency.npz` from HELP's published measurements.

    git clone https://github.com/HayeonLee/HELP && git -C HELP checkout 45f70eb92d0d
    python bench/make_latencies.py HELP [carbon_nas/data/nasbench201-latency.npz]

HELP (Lee et al., NeurIPS 2021, arXiv 2106.08630; MIT licence) measured each cell of NAS-Bench-201 on these devices;
its values for raspi4, pixel3, fpga and eyeriss are those of HW-NAS-Bench (Li et al., ICLR 2021, arXiv 2103.10584;
MIT licence). An array for each device, uint32 [15625]: latency in units of 0.1 microseconds, at the place that the
six operations of a cell make as digits of a number to base 5. Made again it is the same to the byte.
"""

import sys
from pathlib import Path

import numpy as np
import torch

from carbon_nas.search.spaces.nasbench201 import OPERATIONS, NasBench201, NasBench201Options

DEVICES = (
    *("1080ti_1", "2080ti_1", "titan_rtx_1", "titan_rtx_256", "titanx_1", "titanxp_1"),
    *("silver_4114", "silver_4210r", "gold_6226", "gold_6240"),
    *("pixel2", "pixel3", "essential_ph_1", "samsung_a50", "samsung_s7", "raspi4", "fpga", "eyeriss"),
)


def main(source: str, target: str = "carbon_nas/data/nasbench201-latency.npz") -> None:
    """Read `source`, write `target`."""
    folder, space = Path(source) / "data/nasbench201", NasBench201(NasBench201Options())
    order = torch.load(folder / "str_arch2idx.pt", weights_only=True)
    numbers = np.zeros(len(order), np.int64)
    for arch, place in order.items():
        numbers[place] = sum(c * len(OPERATIONS) ** n for n, c in enumerate(reversed(space.encode(arch))))
    if sorted(numbers) != list(range(len(OPERATIONS) ** 6)):
        raise ValueError("the source does not hold each cell once")
    table = {}
    for device in DEVICES:
        milliseconds = np.array(torch.load(folder / f"latency/{device}.pt", weights_only=True), np.float64)
        table[device] = np.empty(len(numbers), np.uint32)
        table[device][numbers] = np.rint(milliseconds * 1e4).astype(np.uint32)
    np.savez_compressed(target, **table)


if __name__ == "__main__":
    main(*sys.argv[1:])
