"""Compare our proxies with three published codes on random cells of NAS-Bench-201: values, and seconds.

    OMP_NUM_THREADS=1 python bench/proxies/az_nas.py AZ-NAS MECO SWAP [--cells N]

The arguments are checkouts of cvlab-yonsei/AZ-NAS, HamsterMimi/MeCo and pym1024/SWAP. Nothing of them is changed or
copied: each file is loaded by its path, given the same network object's copy, weights and minibatch as ours, and its
own draws are replaced by ours. Prints Markdown. Seconds are processor time; ours share their passes in the order of a
search, and a shared pass counts for the first that needs it.
"""

# ruff: noqa: T201 -- a script that prints its tables
import argparse
import copy
import importlib.util
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from random import Random
from types import ModuleType
from typing import NamedTuple
from unittest.mock import patch

import torch
from torch import Tensor, nn

from carbon_nas.evaluate.proxies import TABLE
from carbon_nas.evaluate.proxies.az_nas import _signs
from carbon_nas.evaluate.proxies.initialisation import Initialise
from carbon_nas.evaluate.proxies.passes import Passes
from carbon_nas.evaluate.proxies.swap import IMAGES as SWAP_IMAGES
from carbon_nas.evaluate.proxies.zen import IMAGES as ZEN_IMAGES
from carbon_nas.evaluate.proxies.zen import STEP, _noise
from carbon_nas.evaluate.scoring import noise_batch
from carbon_nas.search.spaces.nasbench201 import NasBench201, NasBench201Options

SPACE = NasBench201(NasBench201Options(channels=16, cells=5))
NOTHING = SPACE.decode((0,) * 6)
Batch = tuple[Tensor, Tensor]
Run = Callable[[nn.Module, Batch], Sequence[float]]
"""Compute from a network, which may be spoilt, and a minibatch."""


class Reference(NamedTuple):
    """Published code: our names of what it computes, how it is called, and what makes its values ours."""

    names: tuple[str, ...]
    run: Run
    converted: Callable[[float], float] = float


class Interface(nn.Module):
    """Our network, spoken to as AZ-NAS speaks to its own."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def extract_cell_features(self, images: Tensor) -> list[Tensor]:
        """Give the blocks' outputs."""
        kept: list[Tensor] = []
        for block in self.network.blocks:
            block.register_forward_hook(lambda _, __, output: kept.append(output))
        self.network(images)
        return kept

    def forward_pre_GAP(self, images: Tensor) -> Tensor:  # noqa: N802 -- theirs
        """Give what enters the pooling."""
        return self.network.features[:-2](images)

    def forward(self, images: Tensor) -> tuple[None, Tensor]:
        """Give logits in second place."""
        return None, self.network(images)


def load(path: Path, name: str) -> ModuleType:
    """Load one file as a module."""
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None  # noqa: S101
    assert spec.loader is not None  # noqa: S101
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def whole(batch: Batch) -> list[Batch]:
    """Give a loader of the minibatch."""
    return [batch]


def halves(batch: Batch) -> list[Batch]:
    """Give a loader of its halves."""
    return list(zip(batch[0].chunk(2), batch[1].chunk(2), strict=True))


def az_nas(file: Path, theirs: Sequence[str], loader: Callable[[Batch], list[Batch]] = whole) -> Run:
    """Call one of AZ-NAS's files, with our weights in place of its own."""
    module = load(file, file.stem)
    for initialise in ("init_model", "network_weight_gaussian_init"):
        if hasattr(module, initialise):
            setattr(module, initialise, lambda model, *_: model)

    def run(network: nn.Module, batch: Batch) -> list[float]:
        images = batch[0]
        found = module.compute_nas_score(
            Interface(network), None, loader(batch), images.shape[2], len(images)
        )
        return [float(found[name]) for name in theirs]

    return run


def drawing(run: Run, draws: Callable[[Tensor], list[Tensor]]) -> Run:
    """Have it get what we draw from the images in place of its normal noise."""

    def replaced(network: nn.Module, batch: Batch) -> Sequence[float]:
        with patch.object(torch, "randn", side_effect=draws(batch[0])):
            return run(network, batch)

    return replaced


def drawing_signs(run: Run) -> Run:
    """Have it get our random signs in place of its own."""

    def replaced(network: nn.Module, batch: Batch) -> Sequence[float]:
        with patch.object(torch, "bernoulli", lambda halves: (_signs(halves.shape) + 1) / 2):
            return run(network, batch)

    return replaced


def as_our_zen(run: Run) -> Run:
    """Give it as many images as ours; have normalisations keep the variances of the last pass alone."""

    def changed(network: nn.Module, batch: Batch) -> Sequence[float]:
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 1.0
        return run(network, (batch[0][:ZEN_IMAGES], batch[1][:ZEN_IMAGES]))

    return changed


def meco(checkout: Path) -> Run:
    """Call MeCo's measure, which is written for foresight's registry."""
    package = ModuleType("measures")
    package.measure = lambda *_, **__: lambda function: function  # type: ignore[attr-defined]
    with patch.dict(sys.modules, measures=package):
        module = load(checkout / "zero-cost-nas/foresight/pruners/measures/meco.py", "measures.meco")
    return lambda network, batch: [module.compute_meco(network, batch[0][:1], batch[1][:1])]


def swap(checkout: Path) -> Run:
    """Call SWAP's counter, unregularised; it passes the whole minibatch and looks at as much of it as ours."""
    with patch.object(sys, "path", [str(checkout), *sys.path]):
        module = load(checkout / "src/metrics/swap.py", "swap_reference")

    def run(network: nn.Module, batch: Batch) -> list[float]:
        with patch.object(torch, "sign", lambda active: active[:SWAP_IMAGES].sign()):
            return [module.SWAP(network, batch[0], "cpu").forward()]

    return run


def references(az: Path, meco_checkout: Path, swap_checkout: Path) -> Iterator[Reference]:
    """Give everything published that we may have too."""

    def of(name: str, theirs: Sequence[str], loader: Callable[[Batch], list[Batch]] = whole) -> Run:
        return az_nas(az / f"NB201/ZeroShotProxy/compute_{name}_score.py", theirs, loader)

    def moved_first(images: Tensor) -> list[Tensor]:  # so that the variances kept are those of the images
        noise = _noise(images.shape)
        return [images + STEP * noise, -noise]

    terms = ("expressivity", "progressivity", "trainability")
    yield Reference(tuple(f"az_{term}" for term in terms), drawing_signs(of("az_nas", terms)))
    yield Reference(("zen",), as_our_zen(drawing(of("zen", ["zen"]), moved_first)))
    yield Reference(("naswot",), drawing(of("naswot", ["naswot"]), lambda images: [images.clone()]))
    yield Reference(("synflow",), drawing(of("synflow", ["synflow"]), lambda images: [images]), math.log)
    yield Reference(("snip",), of("snip", ["snip"]))
    yield Reference(("grasp",), of("grasp", ["grasp"]))
    yield Reference(("zico",), of("zico", ["zico"], halves))
    yield Reference(("meco",), meco(meco_checkout))
    yield Reference(("swap",), swap(swap_checkout))


@dataclass
class Row:
    """What is known of one reference: the largest relative difference, its seconds and ours."""

    reference: Reference
    difference: float = 0.0
    theirs: float = 0.0
    ours: float = 0.0


def networks_of(arch: str, names: Sequence[str]) -> dict[Initialise, nn.Module]:
    """Build a network for each kind of initial weights that the proxies are meant for."""
    made: dict[Initialise, nn.Module] = {}
    for initialise in dict.fromkeys(TABLE[name].initialise for name in names):
        torch.manual_seed(0)
        made[initialise] = SPACE.build(arch, 3, 10).train()
        initialise(made[initialise])
    return made


def difference(ours: float, theirs: float) -> float:
    """Give the relative difference: none between equal infinities or two NaN, infinity if one alone is finite."""
    if ours == theirs or (math.isnan(ours) and math.isnan(theirs)):
        return 0.0
    if not (math.isfinite(ours) and math.isfinite(theirs)):
        return math.inf
    return abs(ours - theirs) / abs(theirs)


def compare(arch: str, batch: Batch, rows: Sequence[Row]) -> None:
    """Compare on one architecture: all of ours, sharing passes, and each of theirs on a copy of the network."""
    networks = networks_of(arch, [name for row in rows for name in row.reference.names])
    passes = {initialise: Passes(network, *batch) for initialise, network in networks.items()}
    for row in rows:
        initialise = TABLE[row.reference.names[0]].initialise
        network = copy.deepcopy(networks[initialise])
        began = time.process_time()
        ours = [TABLE[name].function(passes[initialise]) for name in row.reference.names]
        row.ours += time.process_time() - began
        began = time.process_time()
        theirs = [row.reference.converted(value) for value in row.reference.run(network, batch)]
        row.theirs += time.process_time() - began
        row.difference = max(row.difference, *map(difference, ours, theirs))


def main() -> None:
    """Compare on random cells that something flows through, and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    for checkout in ("az_nas", "meco", "swap"):
        parser.add_argument(checkout, type=Path)
    parser.add_argument("--cells", type=int, default=10)
    given = parser.parse_args()
    torch.set_num_threads(1)
    batch = noise_batch((3, 32, 32), 10, 64, seed=0, device=torch.device("cpu"))
    rng = Random(0)
    sampled = (SPACE.canonical(SPACE.sample(rng)) for _ in iter(int, 1))
    published = references(given.az_nas, given.meco, given.swap)
    rows = [Row(each) for each in sorted(published, key=lambda each: list(TABLE).index(each.names[0]))]
    with patch.object(nn.Module, "cuda", lambda module, *_: module):
        compare(SPACE.decode((3,) * 6), batch, copy.deepcopy(rows))  # the first pass of a process is slow
        for arch in islice(filter(NOTHING.__ne__, sampled), given.cells):
            compare(arch, batch, rows)
    print(f"{given.cells} cells, batch {len(batch[0])}, {torch.get_num_threads()} thread\n")
    print("| proxies | largest relative difference | theirs, s a cell | ours, s a cell |\n|---|---|---|---|")
    for row in rows:
        names, seconds = ", ".join(row.reference.names), (row.theirs / given.cells, row.ours / given.cells)
        print(f"| {names} | {row.difference:.1e} | {seconds[0]:.2f} | {seconds[1]:.2f} |")
    theirs, ours = sum(row.theirs for row in rows) / given.cells, sum(row.ours for row in rows) / given.cells
    print(f"| all | | {theirs:.2f} | {ours:.2f} |\n\nOurs take {theirs / ours:.1f} times less.")


if __name__ == "__main__":
    main()
