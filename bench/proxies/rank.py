"""How well each proxy ranks NAS-Bench-201, beside the published figures.

    python bench/proxies/rank.py score SCORES.jsonl --table nb201.csv.gz [--cells chosen|chosen-best|fresh|fresh-best]
        [--data DIR --dataset NAME | --side 16 --classes 120] [--proxies A,B] [--part 1/2] [--as-published]
    python bench/proxies/rank.py show SCORES.jsonl --table nb201.csv.gz [--best BEST.jsonl]
    python bench/proxies/rank.py choose SCORES.jsonl --table nb201.csv.gz --best BEST.jsonl [--proxies A,B]

`score` scores cells drawn at random, on noise (`--side`, `--classes`) or on images of a data set, and may be cut off
and called again. Combinations were chosen on "chosen", 1,000 cells, and "chosen-best", 700 others of the best tenth on
one of the data sets, by the accuracy of one seed; "fresh" and "fresh-best" are for reporting.
`--as-published` scores the networks that zero-cost-nas and NASLib scored: every cell as it is written, parts without
effect included, and the convolutions of cells with biases.
`show` prints Markdown: Spearman's rho with the test accuracy after 200 epochs, over all cells and over the best tenth;
with `--best`, over the best tenth of all 15,625 as far as it is in either file.
`choose` tries all combinations of four or more and prints the best.
"""

# ruff: noqa: T201 -- a script that prints its tables
import argparse
import csv
import gzip
import json
import math
import random
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from torch import nn

from carbon_nas.evaluate.proxies import TABLE
from carbon_nas.evaluate.score_batch import ScoreRequest, make_space, minibatch
from carbon_nas.evaluate.scoring import Scorer, noise_batch
from carbon_nas.evaluate.settings import ScoreSettings, TaskSettings
from carbon_nas.interfaces import SearchSpace
from carbon_nas.search.ranking import AGGREGATE, ascending_ranks
from carbon_nas.search.spaces.nasbench201.network import Cell

CELLS, SEED = 1000, 7
TARGETS = ("c10_test", "c100_test", "in16_test")
ONE_SEED = tuple(f"{target}_1seed" for target in TARGETS)
WEIGHT_AT_TOP = 0.25
"""What rho within the best tenth weighs beside rho over all, when a combination is chosen."""

# Spearman's rho with CIFAR-10, CIFAR-100 and ImageNet16-120 test accuracy. Abdelfattah et al. (ICLR 2021), output of
# their notebook, all cells: grad_norm, snip, grasp, fisher, synflow, jacov. NAS-Bench-Suite-Zero (NeurIPS 2022), score
# files, 725 cells: naswot, epe_nas, l2_norm. All 15,625 cells by the formula: params, flops. MeCo (NeurIPS 2023), SWAP
# (ICLR 2024) and AZ-NAS (CVPR 2024): abstract or notebook, CIFAR-10 unless said. zen: the benchmark's own file.
PUBLISHED = {
    "params": (0.753, 0.728, 0.692),
    "flops": (0.753, 0.728, 0.692),
    "grad_norm": (0.594, 0.637, 0.578),
    "snip": (0.596, 0.637, 0.578),
    "grasp": (0.514, 0.547, 0.549),
    "fisher": (0.360, 0.385, 0.327),
    "synflow": (0.737, 0.763, 0.751),
    "jacov": (0.731, 0.704, 0.701),
    "naswot": (0.786, 0.813, 0.794),
    "epe_nas": (0.665, 0.418, 0.104),
    "l2_norm": (0.725, 0.748, 0.738),
    "zen": (0.386, 0.361, 0.399),
    "zico": (0.80, 0.81, 0.79),
    "meco": (0.89, None, None),
    "aggregate": (None, None, None),
    "AZ-NAS": (0.913, 0.900, 0.886),
}
COMBINED = {
    "AZ-NAS": ("az_expressivity", "az_progressivity", "az_trainability", "flops"),
    "the default before": ("flops", "meco", "synflow", "az_expressivity", "az_trainability"),
    "aggregate": AGGREGATE,
}


Table = dict[str, dict[str, float]]


def read_table(path: Path) -> Table:
    """Read the accuracies by cell."""
    with gzip.open(path, "rt", newline="") as file:
        rows = list(csv.DictReader(file))
    return {row["arch"]: {name: float(row[name]) for name in (*TARGETS, *ONE_SEED)} for row in rows}


def read_scores(path: Path) -> dict[str, dict[str, float]]:
    """Read raw scores by cell; what is no finite number is NaN."""
    if not path.exists():
        return {}
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return {
        line["arch"]: {name: math.nan if value is None else value for name, value in line["proxies"].items()}
        for line in lines
    }


def draw(table: Table) -> dict[str, list[str]]:
    """Draw cells at random, the same in every run, and none twice."""
    left = sorted(table)

    def take(seed: int, count: int, among: list[str]) -> list[str]:
        nonlocal left
        taken = random.Random(seed).sample(among, count)
        left = [cell for cell in left if cell not in set(taken)]
        return taken

    return {
        "chosen": take(SEED, CELLS, left),
        "fresh": take(8, CELLS, left),
        "chosen-best": take(10, 700, best_of_any(left, table, ONE_SEED)),
        "fresh-best": take(11, 600, best_of_any(left, table, TARGETS)),
    }


def best_of_any(cells: list[str], table: Table, columns: Sequence[str]) -> list[str]:
    """Give those of the best tenth of all cells in at least one column."""
    least = {name: least_of_best_tenth(table, name) for name in columns}
    return [cell for cell in cells if any(table[cell][name] >= least[name] for name in columns)]


def least_of_best_tenth(table: Table, column: str) -> float:
    """Give the accuracy from which on a cell is of the best tenth of all."""
    return float(np.quantile([row[column] for row in table.values()], 0.9))


class AsPublished:
    """NAS-Bench-201 with every cell as it is written, and biases that normalisation takes away again."""

    def __init__(self, space: SearchSpace) -> None:
        self._space = space

    def canonical(self, arch: str) -> str:
        """Give the cell as it is."""
        return arch

    def build(self, arch: str, channels: int, classes: int) -> nn.Module:
        """Build the network, with biases in its cells."""
        network = self._space.build(arch, channels, classes)
        cells = [block for block in network.blocks if isinstance(block, Cell)]
        for layer in (module for cell in cells for module in cell.modules() if isinstance(module, nn.Conv2d)):
            bound = layer.weight[0].numel() ** -0.5  # as torch draws biases
            layer.bias = nn.Parameter(torch.empty(layer.out_channels).uniform_(-bound, bound))
        return network


def scorer(arguments: argparse.Namespace) -> Scorer:
    """Make what scores, on images if a folder of them is given, else on noise."""
    request = ScoreRequest("nasbench201", seed=SEED)
    if arguments.data:
        task = TaskSettings(dataset=arguments.dataset, data_dir=arguments.data)
        request = replace(request, score=ScoreSettings(inputs="images"), task=task)
        batch, classes = minibatch(request)
    else:
        shape, classes = (3, arguments.side, arguments.side), arguments.classes
        batch = noise_batch(shape, classes, request.score.batch_size, SEED, torch.device("cpu"))
    space = make_space(request)
    return Scorer(AsPublished(space) if arguments.as_published else space, batch, classes, seed=SEED)


def score(arguments: argparse.Namespace) -> None:
    """Score the cells drawn."""
    score_cells(arguments, draw(read_table(arguments.table))[arguments.cells])


def score_cells(arguments: argparse.Namespace, cells: Sequence[str]) -> None:
    """Score those of the cells that are not in the file yet, one after the other."""
    torch.set_num_threads(1)
    names = arguments.proxies.split(",") if arguments.proxies else list(TABLE)
    known = read_scores(arguments.scores)
    if any(missing := set(names) - set(values) for values in known.values()):
        raise SystemExit(
            f"{arguments.scores} has cells without {', '.join(sorted(missing))}; name another file"
        )
    scores = scorer(arguments)
    part, parts = map(int, arguments.part.split("/"))
    for cell in cells[part - 1 :: parts]:
        if cell in known:
            continue
        values = scores.score(cell, names) or {}
        shown = {name: value if math.isfinite(value) else None for name, value in values.items()}
        with arguments.scores.open("a") as file:
            file.write(json.dumps({"arch": cell, "proxies": shown}) + "\n")


def rho(scores: np.ndarray, accuracy: np.ndarray) -> float:
    """Give Spearman's rho; what is not finite ranks last, ties share their mean rank."""
    return float(np.corrcoef(ascending_ranks(scores), ascending_ranks(accuracy))[0, 1])


class Ranked:
    """Cells scored, and how combinations of their proxies rank them.

    `pool` is a fair sample, in which ranks are made; `best` has more cells of the best tenth. Without them the best
    tenth is the pool's own.
    """

    def __init__(
        self,
        table: Table,
        pool: dict[str, dict[str, float]],
        best: dict[str, dict[str, float]],
        columns: Sequence[str],
    ) -> None:
        self.cells = list(pool)
        self.everywhere = list({**pool, **best})
        self.proxies = [name for name in pool[self.cells[0]] if all(name in each for each in best.values())]
        values = {**best, **pool}
        self.values = {
            name: np.array([values[cell][name] for cell in self.everywhere]) for name in self.proxies
        }
        self._truth = [np.array([table[cell][name] for cell in self.everywhere]) for name in columns]
        size = len(self.cells)
        self._tops = [
            truth >= (least_of_best_tenth(table, name) if best else np.quantile(truth[:size], 0.9))
            for name, truth in zip(columns, self._truth, strict=True)
        ]
        self.logs = {name: np.log(self._standing(each)) for name, each in self.values.items()}

    def _standing(self, values: np.ndarray) -> np.ndarray:
        """Give the rank that each value has, or would have, in the pool, ties at their mean, as a share."""
        usable = np.where(np.isfinite(values), values, -np.inf)
        pool = np.sort(usable[: len(self.cells)])
        below, up_to = (np.searchsorted(pool, usable, side) for side in ("left", "right"))
        return np.maximum((below + up_to + 1) / 2, 1) / len(pool)

    def rhos(self, scores: np.ndarray) -> tuple[list[float], list[float]]:
        """Give rho with each column over the pool, and within the best tenth."""
        size = len(self.cells)
        return (
            [rho(scores[:size], truth[:size]) for truth in self._truth],
            [rho(scores[top], truth[top]) for truth, top in zip(self._truth, self._tops, strict=True)],
        )


def ranked(arguments: argparse.Namespace, columns: Sequence[str]) -> Ranked:
    """Read the files named."""
    best = read_scores(arguments.best) if arguments.best else {}
    return Ranked(read_table(arguments.table), read_scores(arguments.scores), best, columns)


def show(arguments: argparse.Namespace) -> None:
    """Print the table."""
    found = ranked(arguments, TARGETS)
    columns = dict(found.values)
    for name, names in COMBINED.items():
        if set(names) <= set(found.proxies):
            columns[name] = sum(found.logs[each] for each in names)
    print(f"{len(found.cells)} cells, and {len(found.everywhere) - len(found.cells)} of the best.\n")
    print(
        "| proxy | CIFAR-10: ours / published | CIFAR-100 | ImageNet16-120 | best tenth of each | no number |"
    )
    print("|---|---|---|---|---|---|")
    for name, scores in columns.items():
        theirs = PUBLISHED.get(name, (None, None, None))
        overall, top = found.rhos(scores)
        pairs = [
            f"{ours:.3f} / {'-' if p is None else f'{p:.3f}'}"
            for ours, p in zip(overall, theirs, strict=True)
        ]
        lost = int((~np.isfinite(scores[: len(found.cells)])).sum())
        print(f"| {name} | {' | '.join(pairs)} | {' / '.join(f'{one:.2f}' for one in top)} | {lost} |")


def choose(arguments: argparse.Namespace) -> None:
    """Print the best combinations of four or more by the accuracy of one seed."""
    found = ranked(arguments, ONE_SEED)
    names = arguments.proxies.split(",") if arguments.proxies else found.proxies
    tried = []
    for size in range(4, len(names) + 1):
        for combination in combinations(names, size):
            overall, top = found.rhos(sum(found.logs[name] for name in combination))
            tried.append((np.mean(overall) + WEIGHT_AT_TOP * np.mean(top), combination, overall, top))
    for _, combination, overall, top in sorted(tried, reverse=True)[:20]:
        figures = " / ".join(f"{one:.3f}" for one in overall), " / ".join(f"{one:.2f}" for one in top)
        print(f"| {', '.join(combination)} | {' | '.join(figures)} |")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take what scoring needs to know."""
    parser.add_argument("scores", type=Path)
    parser.add_argument("--table", type=Path, required=True)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--dataset", default="cifar10")
    parser.add_argument("--proxies")
    parser.add_argument("--part", default="1/1")
    parser.add_argument("--as-published", action="store_true")
    parser.add_argument("--side", type=int, default=32)
    parser.add_argument("--classes", type=int, default=10)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    for command in (score, show, choose):
        sub = commands.add_parser(command.__name__)
        sub.set_defaults(command=command)
        add_arguments(sub)
        sub.add_argument(
            "--cells", default="chosen", choices=("chosen", "chosen-best", "fresh", "fresh-best")
        )
        sub.add_argument("--best", type=Path)
    arguments = parser.parse_args()
    arguments.command(arguments)


if __name__ == "__main__":
    main()
