"""Measure on NAS-Bench-201 how well the predictor ranks, and what promotion by several rules finds.

    OMP_NUM_THREADS=1 python bench/ranking/run.py predictor|promotion TABLES [--runs N]
        [--chosen-on | --scores FILE [--proxies A,B]]

Prints Markdown. TABLES holds nb201.csv.gz (accuracies, flops_m, zen_*, tgnas_c10) and nb201_zerocost_suite.csv.gz (the
scores of NAS-Bench-Suite-Zero). Trainings are seen as one seed's test accuracy and judged by the mean of all seeds;
`--chosen-on` shows instead what the constants were chosen on: validation accuracy after 12 epochs. `--scores` takes
the cells and their scores, by default those of the default proxies, from what `carbon-nas score --json` printed.
"""

# ruff: noqa: T201 -- a script that prints its tables
import argparse
import csv
import gzip
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from carbon_nas.search import promotion
from carbon_nas.search.calibration import spearman
from carbon_nas.search.pareto import front, hypervolume
from carbon_nas.search.predictor import expected, predict
from carbon_nas.search.promotion import promote
from carbon_nas.search.ranking import AGGREGATE, aggregate
from carbon_nas.search.study import Study, StudySettings

DATASETS = {"c10": "cifar10", "c100": "cifar100", "in16": "ImageNet16-120"}
SUITE = ("flops_m", "synflow", "jacov")
WEAK = ("flops_m", "zen", "tgnas_c10")
TRAININGS = (20, 50, 100)


@dataclass(frozen=True)
class World:
    """Cells by their six digits: scores, what a training shows, and what it is worth; accuracies as shares of 1."""

    name: str
    scores: dict[str, dict[str, float]]
    seen: dict[str, float]
    true: dict[str, float]


def encode(cell: str) -> tuple[int, ...]:
    """Give the operation on each edge."""
    return tuple(map(int, cell))


def read(path: Path) -> list[dict[str, str]]:
    """Read a gzipped CSV file."""
    with gzip.open(path, "rt", newline="") as lines:
        return list(csv.DictReader(lines))


def worlds(tables: Path, *, chosen_on: bool) -> Iterator[World]:
    """Give every data set twice: the suite's cells with strong proxies, and other cells with weak ones."""
    table = read(tables / "nb201.csv.gz")
    suite = read(tables / "nb201_zerocost_suite.csv.gz")
    halves = np.random.default_rng(0).permutation(len(table))
    half = set(map(int, halves[:7800] if chosen_on else halves[7800:]))
    for short, long in DATASETS.items():
        scored = {int(row["idx"]): row for row in suite if row["dataset"] == long}
        strong = {
            int(row["idx"]): row | scored[int(row["idx"])] for row in table if int(row["idx"]) in scored
        }
        weak = {i: row for row in table if (i := int(row["idx"])) in half and i not in scored}
        weak = {i: row | {"zen": row[f"zen_{short}"]} for i, row in weak.items()}
        seen, true = (f"{short}_val_e12",) * 2 if chosen_on else (f"{short}_test_1seed", f"{short}_test")
        for name, rows, proxies in ((f"{short}, suite", strong, SUITE), (f"{short}, others", weak, WEAK)):
            good = [row for row in rows.values() if row[seen] and row[true]]
            yield World(
                name,
                {row["ops"]: {p.removesuffix("_m"): float(row[p] or "nan") for p in proxies} for row in good},
                {row["ops"]: float(row[seen]) / 100 for row in good},
                {row["ops"]: float(row[true]) / 100 for row in good},
            )


def own_worlds(tables: Path, scores: Path, proxies: Sequence[str]) -> Iterator[World]:
    """Give every data set with scores of our own."""
    table = {row["arch"]: row for row in read(tables / "nb201.csv.gz")}
    own = [(table[one["arch"]], one["proxies"]) for one in json.loads(scores.read_text())["scores"]]
    pool = {
        row["ops"]: {name: float("nan" if (v := values[name]) is None else v) for name in proxies}
        for row, values in own
    }
    for short in DATASETS:
        seen, true = (
            {row["ops"]: float(row[f"{short}_{column}"]) / 100 for row, _ in own}
            for column in ("test_1seed", "test")
        )
        yield World(f"{short}, default", pool, seen, true)


def mean_and_error(values: list[Any], digits: int, factor: float = 1.0) -> str:
    """Write a mean and its standard error."""
    found = np.array(values, dtype=float) * factor
    return f"{found.mean():.{digits}f} ± {found.std(ddof=1) / np.sqrt(len(found)):.{digits}f}"


# --- the predictor


def ranked(world: World, trained: list[str]) -> dict[str, Any]:
    """Give the orders that are compared, all learnt from the same trainings."""
    pool, seen = world.scores, {cell: world.seen[cell] for cell in trained}
    return {
        "log-rank sum": aggregate(pool),
        "learned": predict(pool, seen, encode).mean,
        "learned, without proxies": predict(pool, seen, encode, proxies=()).mean,
        "followed": expected(pool, seen, encode),
    }


def predictor_table(world: World, runs: int) -> None:
    """Print rho on the cells that were not trained, and within their best 10 %, for each number of trainings."""
    found: dict[str, list[str]] = {}
    for count in (16, 32, 64):
        overall: dict[str, list[float]] = {}
        top: dict[str, list[float]] = {}
        for run in range(runs):
            cells = [str(cell) for cell in np.random.default_rng(run).permutation(sorted(world.scores))]
            cells = cells[:1000]  # a pool of the size that a search has
            rest = cells[count:]
            true = np.array([world.true[cell] for cell in rest])
            best = true >= np.quantile(true, 0.9)
            part = World(world.name, {cell: world.scores[cell] for cell in cells}, world.seen, world.true)
            for name, order in ranked(part, cells[:count]).items():
                told = np.array([order[cell] for cell in rest])
                overall.setdefault(name, []).append(spearman(told, true) or 0.0)
                top.setdefault(name, []).append(spearman(told[best], true[best]) or 0.0)
        for name, rhos in overall.items():
            found.setdefault(name, []).append(f"{np.mean(rhos):.3f} / {np.mean(top[name]):.2f}")
    for name, cells in found.items():
        print(f"| {world.name} | {name} | {' | '.join(cells)} |", flush=True)


# --- promotion


@dataclass
class Search:
    """A search under way: `waiting` are scored, `open_` in training, `results` over."""

    world: World
    luck: np.random.Generator
    waiting: list[str] = field(default_factory=list)
    open_: list[str] = field(default_factory=list)
    results: dict[str, float] = field(default_factory=dict)

    @property
    def known(self) -> set[str]:
        """Those trained or in training."""
        return {*self.open_, *self.results}

    def flops(self, cell: str) -> float:
        """Multiply-accumulates in millions."""
        return self.world.scores[cell]["flops"]

    def pool(self) -> dict[str, dict[str, float]]:
        """Scores of all that a rule may look at."""
        return {cell: self.world.scores[cell] for cell in [*self.waiting, *sorted(self.known)]}


Rule = Callable[[Search, int], list[str]]


def at_random(search: Search, room: int) -> list[str]:
    """Take any."""
    return [str(cell) for cell in search.luck.choice(search.waiting, room, replace=False)]


def by_log_rank_sum(search: Search, room: int) -> list[str]:
    """Take the best by proxies alone."""
    scores = aggregate({cell: search.world.scores[cell] for cell in search.waiting})
    return sorted(scores, key=lambda cell: (-scores[cell], cell))[:room]


def by_dominance(search: Search, room: int) -> list[str]:
    """Take those that fewest dominate, known or waiting, by log-rank sum and flops; of equals the best."""
    quality = aggregate(search.pool())
    q = np.array(list(quality.values()))
    c = np.array([search.flops(cell) for cell in quality])
    beats = (q[:, None] >= q) & (c[:, None] <= c) & ((q[:, None] > q) | (c[:, None] < c))
    number = dict(zip(quality, beats.sum(axis=0), strict=True))
    return sorted(search.waiting, key=lambda cell: (number[cell], -quality[cell], cell))[:room]


def by_crowding(search: Search, room: int) -> list[str]:
    """Take the front of the waiting, the most distant first (NSGA-II's crowding distance)."""
    quality, chosen = aggregate(search.pool()), list[str]()
    left = set(search.waiting)
    while len(chosen) < room:
        places = {cell: (quality[cell], search.flops(cell)) for cell in left}
        best = sorted(left, key=lambda cell: (places[cell][1], -places[cell][0]))
        line, reached = [], -np.inf
        for cell in best:
            if places[cell][0] > reached:
                line.append(cell)
                reached = places[cell][0]
        ends = np.array([places[cell] for cell in line])
        spread = np.maximum(np.ptp(ends, axis=0), 1e-9)
        apart = np.full(len(line), np.inf)
        apart[1:-1] = (np.abs(ends[2:] - ends[:-2]) / spread).sum(axis=1)
        chosen += [line[i] for i in np.argsort(-apart, kind="stable")[: room - len(chosen)]]
        left -= set(chosen)
    return chosen


def by_gain(best_every: int, *, learned: bool) -> Rule:
    """Take what the study takes, with another `BEST_EVERY`, or never learning from trainings."""

    def rule(search: Search, room: int) -> list[str]:
        pool = search.pool()
        quality = expected(pool, search.results, encode) if learned else aggregate(pool)
        promotion.BEST_EVERY = best_every
        return promote(room, search.waiting, search.known, quality, {c: s["flops"] for c, s in pool.items()})

    return rule


def by_study(search: Search, room: int) -> list[str]:
    """Take what the study itself takes."""
    promotion.BEST_EVERY = 4
    study = Study(
        StudySettings(minimum_pool=1, train_queue=0),
        candidates=list(search.pool()),
        scores=search.pool(),
        costs={cell: search.flops(cell) for cell in search.pool()},
        promoted=search.known,
        training=set(search.open_),
        results={cell: (found, search.flops(cell)) for cell, found in search.results.items()},
        encode=encode,
    )
    return [cell for cell, _ in study.promotions(room + len(search.open_))]


NEVER = 10**9
RULES: dict[str, Rule] = {
    "random": at_random,
    "log-rank sum alone": by_log_rank_sum,
    "front of the waiting, crowding": by_crowding,
    "dominance number": by_dominance,
    "hypervolume gain, log-rank sum": by_gain(NEVER, learned=False),
    "the same, learned": by_gain(NEVER, learned=True),
    "the same, and every 2nd the best": by_gain(2, learned=True),
    "**the study's**, every 4th the best": by_study,
}


def searched(world: World, rule: Rule, run: int, reference: float) -> list[float]:
    """Search once: 4 trainings open, 64 scored at first and 5 more with each result, 300 waiting at most."""
    search = Search(world, np.random.default_rng(run))
    stream = [str(cell) for cell in search.luck.permutation(sorted(world.scores))]
    search.waiting, stream = stream[:64], stream[64:]
    found: list[float] = []
    for done in range(1, max(TRAININGS) + 1):
        for cell in rule(search, 4 - len(search.open_)):
            search.waiting.remove(cell)
            search.open_.append(cell)
        cell = search.open_.pop(0)
        search.results[cell] = world.seen[cell]
        room = min(5, 300 - len(search.waiting), len(stream))
        search.waiting, stream = search.waiting + stream[:room], stream[room:]
        if done in TRAININGS:
            points = [(world.true[one], search.flops(one)) for one in search.results]
            best = max(search.results, key=lambda one: search.results[one])
            found += [hypervolume(points, reference_cost=reference), world.true[best]]
    return found


def promotion_table(world: World, runs: int) -> None:
    """Print, after each number of trainings, the share of the whole front's hypervolume, and the best accuracy."""
    everything = {cell: (world.true[cell], world.scores[cell]["flops"]) for cell in world.scores}
    reference = max(flops for _, flops in everything.values())
    whole = hypervolume([everything[cell] for cell in front(everything)], reference_cost=reference)
    for name, rule in RULES.items():
        found = np.array([searched(world, rule, run, reference) for run in range(runs)])
        volumes = [mean_and_error(list(found[:, i]), 1, 100 / whole) for i in (0, 2, 4)]
        accuracies = [mean_and_error(list(found[:, i]), 2, 100) for i in (1, 3, 5)]
        print(f"| {world.name} | {name} | {' | '.join([*volumes, *accuracies])} |", flush=True)


def main() -> None:
    """Print one of the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["predictor", "promotion"])
    parser.add_argument("tables", type=Path)
    parser.add_argument("--chosen-on", action="store_true")
    parser.add_argument("--scores", type=Path)
    parser.add_argument("--proxies", default=",".join(AGGREGATE), type=lambda names: names.split(","))
    parser.add_argument("--runs", type=int, default=20)
    given = parser.parse_args()
    columns = {
        "predictor": ["16 trainings", "32", "64"],
        "promotion": [f"{what} {n}" for what in ("hypervolume, %,", "best, %,") for n in TRAININGS],
    }[given.what]
    print(f"| cells | order | {' | '.join(columns)} |\n|{'---|' * (len(columns) + 2)}")
    table = {"predictor": predictor_table, "promotion": promotion_table}[given.what]
    found = worlds(given.tables, chosen_on=given.chosen_on)
    for world in own_worlds(given.tables, given.scores, given.proxies) if given.scores else found:
        table(world, given.runs)


if __name__ == "__main__":
    main()
