"""Our scores beside those that NAS-Bench-Suite-Zero published, on the same cells.

    python bench/proxies/suite.py score SCORES.jsonl --table nb201.csv.gz --suite nb201_zerocost_suite.csv.gz
        --data DIR [--dataset NAME] [--part 1/2] [--as-published]
    python bench/proxies/suite.py show SCORES.jsonl --table nb201.csv.gz --suite nb201_zerocost_suite.csv.gz

Krishnakumar et al. (NeurIPS 2022 Datasets and Benchmarks, arXiv 2210.03230) give the scores of each of 725 cells of
NAS-Bench-201 on CIFAR-10. On the same cells no luck of the draw lies between their rho and ours, and how alike the two
rank the cells shows whether it is the same proxy. `show` prints Markdown: Spearman's rho with the test accuracy after
200 epochs, theirs and ours, and rho between the two. `--as-published` as in `rank.py`, which scores.
"""

# ruff: noqa: T201 -- a script that prints its table
import argparse
import csv
import gzip
import math
from pathlib import Path

import numpy as np
from rank import Table, add_arguments, read_scores, read_table, rho, score_cells

THEIRS = {
    "params": "params",
    "flops": "flops",
    "grad_norm": "grad_norm",
    "snip": "snip",
    "grasp": "grasp",
    "fisher": "fisher",
    "synflow": "synflow",
    "jacov": "jacov",
    "naswot": "nwot",
    "epe_nas": "epe_nas",
    "l2_norm": "l2_norm",
    "zen": "zen",
}
"""Our name, their column."""


def read_suite(path: Path, table: Path) -> Table:
    """Read the published scores on CIFAR-10 by cell; what is missing is NaN."""
    with gzip.open(table, "rt", newline="") as file:
        cell_of = {row["idx"]: row["arch"] for row in csv.DictReader(file)}
    with gzip.open(path, "rt", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["dataset"] == "cifar10"]
    return {
        cell_of[row["idx"]]: {ours: float(row[theirs] or math.nan) for ours, theirs in THEIRS.items()}
        for row in rows
    }


def score(arguments: argparse.Namespace) -> None:
    """Score the cells that have published scores."""
    arguments.proxies = ",".join(THEIRS)
    score_cells(arguments, list(read_suite(arguments.suite, arguments.table)))


def show(arguments: argparse.Namespace) -> None:
    """Print the table."""
    accuracy = read_table(arguments.table)
    published = read_suite(arguments.suite, arguments.table)
    scores = read_scores(arguments.scores)
    cells = [cell for cell in published if cell in scores]
    truth = np.array([accuracy[cell]["c10_test"] for cell in cells])
    print(f"{len(cells)} cells.\n\n| proxy | published | ours | published with ours |\n|---|---|---|---|")
    for name in THEIRS:
        theirs, ours = (np.array([values[cell][name] for cell in cells]) for values in (published, scores))
        print(f"| {name} | {rho(theirs, truth):.3f} | {rho(ours, truth):.3f} | {rho(theirs, ours):.3f} |")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    for command in (score, show):
        sub = commands.add_parser(command.__name__)
        sub.set_defaults(command=command)
        add_arguments(sub)
        sub.add_argument("--suite", type=Path, required=True)
    arguments = parser.parse_args()
    arguments.command(arguments)


if __name__ == "__main__":
    main()
