"""Measure what pausing at rungs is worth: how early accuracy tells, and what a search finds that uses it.

    OMP_NUM_THREADS=1 python bench/fidelity/run.py curves CURVES
    OMP_NUM_THREADS=1 python bench/fidelity/run.py tables TABLES [--runs N]

Prints Markdown. CURVES is what `curves.py` printed. TABLES holds nb201.csv.gz, of which the accuracies after a training
of 12 epochs stand in for the first rung of one of 200; a search sees one seed and is judged by the mean of all. Every
search is the product's own `Study` with four slots; epochs of all cells take the same.
"""

# ruff: noqa: T201 -- a script that prints its tables
import argparse
import csv
import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from carbon_nas.search import fidelity
from carbon_nas.search.calibration import spearman
from carbon_nas.search.fidelity import FidelitySettings, Stage, reached, rungs
from carbon_nas.search.pareto import front, hypervolume
from carbon_nas.search.study import Study, StudySettings

SLOTS = 4
BUDGETS = (5, 10, 20)
"""Epochs spent, in full trainings."""


@dataclass(frozen=True)
class World:
    """Cells: scores, accuracy seen after each fidelity, what they are worth, and multiply-accumulates."""

    name: str
    epochs: int
    scores: dict[str, dict[str, float]]
    seen: dict[str, dict[int, float]]
    true: dict[str, float]
    cost: dict[str, float]
    encode: dict[str, tuple[int, ...]]
    variants: dict[str, FidelitySettings]


def from_tables(tables: Path) -> Iterator[World]:
    """Give every data set of the benchmark, 2,000 cells of each, with weak proxies."""
    with gzip.open(tables / "nb201.csv.gz", "rt", newline="") as lines:
        table = list(csv.DictReader(lines))
    chosen = [table[i] for i in np.random.default_rng(1).permutation(len(table))[:2000]]
    for short in ("c10", "c100", "in16"):
        rows = [row for row in chosen if row[f"{short}_val_e12"] and row[f"{short}_test_1seed"]]
        yield World(
            f"{short}, table",
            200,
            {row["ops"]: {"flops": float(row["flops_m"]), "zen": float(row[f"zen_{short}"])} for row in rows},
            {
                row["ops"]: {
                    12: float(row[f"{short}_val_e12"]) / 100,
                    200: float(row[f"{short}_test_1seed"]) / 100,
                }
                for row in rows
            },
            {row["ops"]: float(row[f"{short}_test"]) / 100 for row in rows},
            {row["ops"]: float(row["flops_m"]) for row in rows},
            {row["ops"]: tuple(map(int, row["ops"])) for row in rows},
            # One rung only, whatever the factor: after 12 epochs, as the table has no other.
            {"all": FidelitySettings()} | {f"one in {n}": FidelitySettings(12, n) for n in (2, 3, 4, 8)},
        )


def searched(world: World, settings: FidelitySettings, run: int, whole: float) -> list[float]:
    """Search once; give hypervolume and best accuracy at each budget, of what was trained to the end by then."""
    luck = np.random.default_rng(run)
    stream = [str(cell) for cell in luck.permutation(sorted(world.scores))]
    fidelities = _fidelities(world, settings)
    stages: list[Stage] = []
    ends: list[tuple[float, int]] = []  # (when, place in stages)
    now, spent, found, shown = 0.0, 0.0, list[float](), 40
    while len(found) < 2 * len(BUDGETS):
        study = _study(world, stream[:shown], stages, fidelities, settings)
        for arch, epochs in study.promotions(SLOTS):
            before = max((stage.epochs for stage in stages if stage.arch == arch), default=0)
            ends.append((now + int(epochs or 0) - before, len(stages)))
            stages.append(Stage(str(len(stages)), arch, int(epochs or 0), open=True, point=None))
        if not ends:
            shown = len(stream)  # nothing to train: show all there is, or stop
            if study.is_finished or shown == len(study.candidates):
                return found + _judged(world, stages, whole) * (len(BUDGETS) - len(found) // 2)
            continue
        ends.sort()
        now, place = ends.pop(0)
        stage = stages[place]
        point = world.seen[stage.arch][stage.epochs], world.cost[stage.arch]
        stages[place] = replace(stage, open=False, point=point)
        before = max(
            (one.epochs for one in stages if one.arch == stage.arch and one is not stages[place]), default=0
        )
        spent += stage.epochs - before
        shown = min(shown + 5, len(stream))
        while len(found) < 2 * len(BUDGETS) and spent >= BUDGETS[len(found) // 2] * world.epochs:
            found += _judged(world, stages, whole)
    return found


def _study(
    world: World,
    shown: list[str],
    stages: list[Stage],
    fidelities: tuple[int, ...],
    settings: FidelitySettings,
) -> Study:
    return Study(
        StudySettings(minimum_pool=1, train_queue=0),
        candidates=shown,
        scores={cell: world.scores[cell] for cell in shown},
        promoted={stage.arch for stage in stages},
        training={stage.arch for stage in stages if stage.open},
        costs=world.cost,
        results=reached(stages, world.epochs),
        rungs=rungs(stages, fidelities),
        epochs=world.epochs,
        reduction_factor=settings.reduction_factor,
        encode=world.encode.__getitem__,
    )


def _judged(world: World, stages: list[Stage], whole: float) -> list[float]:
    seen = reached(stages, world.epochs)
    if not seen:
        return [0.0, 0.0]
    points = [(world.true[cell], world.cost[cell]) for cell in seen]
    best = max(seen, key=lambda cell: seen[cell][0])
    return [hypervolume(points, reference_cost=max(world.cost.values())) / whole, world.true[best]]


def _fidelities(world: World, settings: FidelitySettings) -> tuple[int, ...]:
    first = settings.minimum_epochs
    return settings.fidelities(world.epochs) if first is None else (first, world.epochs)


def table(world: World, runs: int) -> None:
    """Print a row for each variant: mean and standard error of the differences to the first variant, run by run."""
    everything = {cell: (world.true[cell], world.cost[cell]) for cell in world.true}
    whole = hypervolume(
        [everything[cell] for cell in front(everything)], reference_cost=max(world.cost.values())
    )
    base: np.ndarray | None = None
    chance = fidelity.CHANCE
    for name, settings in world.variants.items():
        for suffix, given_up in (("", chance), (", none given up", 0.0)):
            if suffix and name != "one in 3":
                continue
            fidelity.CHANCE = given_up
            found = 100 * np.array([searched(world, settings, run, whole) for run in range(runs)])
            base = found if base is None else base
            gain = found - base
            errors = gain.std(axis=0, ddof=1) / np.sqrt(runs)
            cells = [
                f"{found[:, i].mean():.1f} ({gain[:, i].mean():+.1f} ± {errors[i]:.1f})"
                for i in (*range(0, found.shape[1], 2), *range(1, found.shape[1], 2))
            ]
            print(f"| {world.name} | {name}{suffix} | {' | '.join(cells)} |", flush=True)
    fidelity.CHANCE = chance


def curves_table(path: Path) -> None:
    """Print how well the first seed's accuracy at a pause ranks the second seed's at the end, for each epoch."""
    cells = [json.loads(line) for line in path.read_text().splitlines()]
    end = np.array([one["curves"][1][-1] for one in cells])
    best = end >= np.quantile(end, 2 / 3)
    print(f"{len(cells)} cells; the best third ends at {end[best].min():.3f} to {end.max():.3f}\n")
    print("| epochs | rho with the end | within the best third | share of the error left at the end |")
    print("|---|---|---|---|")
    for epoch in range(len(cells[0]["curves"][0])):
        seen = np.array([one["curves"][0][epoch] for one in cells])
        left = np.array([(1 - one["curves"][0][-1]) / (1 - one["curves"][0][epoch]) for one in cells])
        rhos = spearman(seen, end) or 0.0, spearman(seen[best], end[best]) or 0.0
        print(f"| {epoch + 1} | {rhos[0]:.2f} | {rhos[1]:.2f} | {np.median(left):.2f} |")


def main() -> None:
    """Print one of the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["curves", "tables"])
    parser.add_argument("path", type=Path)
    parser.add_argument("--runs", type=int, default=24)
    given = parser.parse_args()
    if given.what == "curves":
        curves_table(given.path)
        return
    columns = [f"{what} {n}" for what in ("hypervolume, %,", "best, %,") for n in BUDGETS]
    print(f"| cells | trainings that go on | {' | '.join(columns)} |\n|{'---|' * (len(columns) + 2)}")
    for world in from_tables(given.path):
        table(world, given.runs)


if __name__ == "__main__":
    main()
