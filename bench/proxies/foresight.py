"""Run the proxies of zero-cost-nas (Abdelfattah et al., ICLR 2021) beside ours: same network, weights and minibatch.

    OMP_NUM_THREADS=1 python bench/proxies/foresight.py CHECKOUT [--cells 20] [--float64]

CHECKOUT is a clone of github.com/SamsungLabs/zero-cost-nas. Random cells of NAS-Bench-201 at full size, 64 images of
noise at 32x32, one thread; times are the process's seconds of CPU, for they hardly change with what else the machine
does. Ours are all asked of one `Passes`, as a study asks them; theirs by one `find_measures`. Prints Markdown.
"""

# ruff: noqa: T201 -- a script that prints its tables
import argparse
import copy
import math
import random
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from carbon_nas.evaluate.proxies import TABLE
from carbon_nas.evaluate.proxies.passes import Passes
from carbon_nas.evaluate.scoring import noise_batch
from carbon_nas.search.spaces.nasbench201 import NasBench201, NasBench201Options

CPU = torch.device("cpu")
THEIRS: Mapping[str, str] = {
    "grasp": "grasp",  # first: its pass backward serves the others
    "grad_norm": "grad_norm",
    "snip": "snip",
    "fisher": "fisher",
    "jacov": "jacob_cov",
    "synflow": "synflow",
}
"""Our name, their name. Their l2_norm cannot be asked for: it is not loaded, and does not take their own arguments."""


def ours(network: nn.Module, images: Tensor, labels: Tensor) -> dict[str, float]:
    """Score by all proxies together."""
    passes = Passes(network, images, labels)
    return {name: TABLE[name].function(passes) for name in THEIRS}


def theirs(checkout: Path) -> Callable[[nn.Module, Tensor, Tensor], dict[str, float]]:
    """Give a function like `ours` that asks the checkout's code. Their synflow is not yet a logarithm."""
    sys.path.insert(0, str(checkout))
    from foresight.pruners import predictive  # noqa: PLC0415 -- after the path is known

    def score(network: nn.Module, images: Tensor, labels: Tensor) -> dict[str, float]:
        names = list(THEIRS.values())
        batches = [(images.clone(), labels)]
        found = predictive.find_measures(network, batches, ("random", 1, 10), CPU, measure_names=names)
        values = {name: float(np.real(found[name_there])) for name, name_there in THEIRS.items()}
        return values | {"synflow": math.log(values["synflow"]) if values["synflow"] > 0 else -math.inf}

    return score


def timed(work: Callable[..., dict[str, float]], *given: Any) -> tuple[dict[str, float], float]:
    """Give what `work` gives, and the seconds of CPU it took."""
    began = time.process_time()
    return work(*given), time.process_time() - began


def main() -> None:
    """Compare cell by cell, taking turns at who goes first."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("checkout", type=Path)
    parser.add_argument("--cells", type=int, default=20)
    parser.add_argument("--float64", action="store_true", help="compare the formulas, not the rounding")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    space, rng = NasBench201(NasBench201Options()), random.Random(0)
    images, labels = noise_batch((3, 32, 32), 10, 64, seed=0, device=CPU)
    sides = {"ours": ours, "theirs": theirs(options.checkout)}
    rows: list[dict[str, dict[str, float]]] = []
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    for place in range(options.cells):
        torch.manual_seed(place)
        network = space.build(space.sample(rng), 3, 10)
        given = images
        if options.float64:
            network, given = network.double(), images.double()
        row: dict[str, dict[str, float]] = {}
        for side in sorted(sides, reverse=bool(place % 2)):
            row[side], spent = timed(sides[side], copy.deepcopy(network), given, labels)
            seconds[side].append(spent)
        rows.append(row)
    report(rows, seconds)


def report(rows: list[dict[str, dict[str, float]]], seconds: dict[str, list[float]]) -> None:
    """Print the values of the first cell, the differences over all, and the times."""
    print("| proxy | ours | theirs | median difference | largest difference | not a number: ours, theirs |")
    print("|---|---|---|---|---|---|")
    for name in THEIRS:
        pairs = [(row["ours"][name], row["theirs"][name]) for row in rows]
        away = [abs(a - b) / max(abs(b), 1e-300) for a, b in pairs if math.isfinite(a) and math.isfinite(b)]
        undefined = [sum(not math.isfinite(value) for value in side) for side in zip(*pairs, strict=True)]
        print(
            f"| {name} | {pairs[0][0]:.7g} | {pairs[0][1]:.7g} | {np.median(away):.1e} | {max(away):.1e}"
            f" | {undefined[0]}, {undefined[1]} |"
        )
    mine, other = np.array(seconds["ours"]), np.array(seconds["theirs"])
    print(
        f"\n{len(rows)} cells, seconds of CPU a cell: ours {mine.mean():.2f}, theirs {other.mean():.2f};"
        f" theirs / ours {other.sum() / mine.sum():.2f} (each cell: {min(other / mine):.2f}"
        f" to {max(other / mine):.2f})"
    )


if __name__ == "__main__":
    main()
