"""How well each proxy ranks NAS-Bench-201, beside the published figures.

    python bench/proxies/rank.py score SCORES.jsonl --table nb201.csv.gz [--fresh] [--data DIR --dataset NAME]
        [--side 16 --classes 120] [--proxies A,B] [--part 1/2]
    python bench/proxies/rank.py show SCORES.jsonl --table nb201.csv.gz

`score` scores 1,000 random cells, on noise or on images of a data set, and may be cut off and called again; `--fresh`
takes 1,000 others, on which nothing was chosen. `--side` and `--classes` are those of noise.
`show` prints Markdown: Spearman's rho with the test accuracy after 200 epochs, over all cells and over the best tenth.
"""

# ruff: noqa: T201 -- a script that prints its tables
import argparse
import csv
import gzip
import json
import math
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from carbon_nas.evaluate.proxies import TABLE
from carbon_nas.evaluate.score_batch import ScoreRequest, make_space, minibatch
from carbon_nas.evaluate.scoring import Scorer, noise_batch
from carbon_nas.evaluate.settings import ScoreSettings, TaskSettings
from carbon_nas.search.ranking import AGGREGATE, aggregate, ascending_ranks

CELLS, SEED, FRESH_SEED = 1000, 7, 8
TARGETS = ("c10_test", "c100_test", "in16_test")

# Spearman's rho with CIFAR-10, CIFAR-100 and ImageNet16-120 test accuracy. Abdelfattah et al. (ICLR 2021), output of
# their notebook, all cells: grad_norm, snip, grasp, fisher, synflow, jacov. NAS-Bench-Suite-Zero (NeurIPS 2022), score
# files, 724 cells: naswot, epe_nas, l2_norm. All 15,625 cells by the formula: params, flops. MeCo (NeurIPS 2023), SWAP
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


def read_table(path: Path) -> dict[str, dict[str, float]]:
    """Read the accuracies by cell."""
    with gzip.open(path, "rt", newline="") as file:
        rows = list(csv.DictReader(file))
    return {row["arch"]: {name: float(row[name]) for name in TARGETS} for row in rows}


def read_scores(path: Path) -> dict[str, dict[str, float]]:
    """Read raw scores by cell; what is no finite number is NaN."""
    if not path.exists():
        return {}
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return {
        line["arch"]: {name: math.nan if value is None else value for name, value in line["proxies"].items()}
        for line in lines
    }


def draw(cells: list[str], *, fresh: bool) -> list[str]:
    """Draw cells at random, the same in every run; fresh ones are none of those."""
    first = random.Random(SEED).sample(cells, CELLS)
    if not fresh:
        return first
    others = sorted(set(cells) - set(first))
    return random.Random(FRESH_SEED).sample(others, CELLS)


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
    return Scorer(make_space(request), batch, classes, seed=SEED)


def score(arguments: argparse.Namespace) -> None:
    """Score the cells that are not in the file yet, one after the other."""
    torch.set_num_threads(1)
    names = arguments.proxies.split(",") if arguments.proxies else list(TABLE)
    scores = scorer(arguments)
    cells = draw(sorted(read_table(arguments.table)), fresh=arguments.fresh)
    part, parts = map(int, arguments.part.split("/"))
    known = read_scores(arguments.scores)
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


def best_tenth(accuracy: np.ndarray) -> np.ndarray:
    """Mark the tenth of the cells that is truly best."""
    return accuracy >= np.quantile(accuracy, 0.9)


def show(arguments: argparse.Namespace) -> None:
    """Print the table."""
    pool = read_scores(arguments.scores)
    cells = list(pool)
    table = read_table(arguments.table)
    truth = {name: np.array([table[cell][name] for cell in cells]) for name in TARGETS}
    columns = {name: [pool[cell][name] for cell in cells] for name in pool[cells[0]]}
    for name, names in COMBINED.items():
        if set(names) <= pool[cells[0]].keys():
            ranked = aggregate(pool, names)
            columns[name] = [ranked[cell] for cell in cells]
    print(f"{len(cells)} cells.\n")
    print(
        "| proxy | CIFAR-10: ours / published | CIFAR-100 | ImageNet16-120 | best tenth of each | no number |"
    )
    print("|---|---|---|---|---|---|")
    for name, values in columns.items():
        scores = np.array(values, dtype=float)
        theirs = PUBLISHED.get(name, (None, None, None))
        pairs = [
            f"{rho(scores, truth[t]):.3f} / {'-' if p is None else f'{p:.3f}'}"
            for t, p in zip(TARGETS, theirs, strict=True)
        ]
        tops = [f"{rho(scores[best], t[best]):.2f}" for t in truth.values() for best in [best_tenth(t)]]
        print(f"| {name} | {' | '.join(pairs)} | {' / '.join(tops)} | {int((~np.isfinite(scores)).sum())} |")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    for command in (score, show):
        sub = commands.add_parser(command.__name__)
        sub.set_defaults(command=command)
        sub.add_argument("scores", type=Path)
        sub.add_argument("--table", type=Path, required=True)
        sub.add_argument("--data", type=Path)
        sub.add_argument("--dataset", default="cifar10")
        sub.add_argument("--proxies")
        sub.add_argument("--part", default="1/1")
        sub.add_argument("--fresh", action="store_true")
        sub.add_argument("--side", type=int, default=32)
        sub.add_argument("--classes", type=int, default=10)
    arguments = parser.parse_args()
    arguments.command(arguments)


if __name__ == "__main__":
    main()
