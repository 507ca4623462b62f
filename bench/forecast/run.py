"""Score every forecaster on every trace of a folder, beside the figures published for the same months.

    OMP_NUM_THREADS=1 python bench/forecast/run.py TRACES [OUT.json]

Prints Markdown. For each trace: the last 183 days, issued at 00 UTC, fitted once on what precedes (and the default
again with a refit every 28 days); for four US grids also July to December 2021.
"""

# ruff: noqa: T201 -- a script that prints its tables
import json
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from carbon_nas.grid.forecast import Selector, evaluate_trace
from carbon_nas.grid.forecast.base import Series
from carbon_nas.grid.forecast.evaluate import read_trace

TRACES = (
    "de-smard-2025_hourly",
    "de-smard_hourly",
    "gb-neso_30min_2023",
    "gb-neso_hourly",
    "us-bpat_hourly",
    "us-ciso_hourly",
    "us-erco_hourly",
    "us-isne_hourly",
    "us-miso_hourly",
    "us-pjm_hourly",
    "us-soco_hourly",
)

# CarbonCast (Maji, Shenoy and Sitaraman, BuildSys 2022, tables 3 to 6): life-cycle MAPE of days 1 to 4,
# July to December 2021, with weather forecasts.
CARBONCAST = {
    "us-ciso_hourly": (8.08, 11.19, 12.93, 13.62),
    "us-pjm_hourly": (3.69, 4.93, 5.87, 6.67),
    "us-erco_hourly": (9.78, 10.93, 11.61, 12.23),
    "us-isne_hourly": (5.10, 6.33, 6.97, 7.25),
}
SECOND_HALF_OF_2021 = (datetime(2021, 7, 1, tzinfo=UTC), datetime(2022, 1, 1, tzinfo=UTC))


def slashed(values: Any, digits: int) -> str:
    """Write numbers with strokes between them."""
    return " / ".join(f"{value:.{digits}f}" for value in values)


def row(trace: str, name: str, scores: dict[str, Any], seconds: str = "") -> str:
    """One line of the main table."""
    cells = (
        trace,
        name,
        slashed(scores["mape"].values(), 2),
        slashed(scores["mape_by_day"], 2),
        f"{100 * scores['coverage_80']:.1f}",
        slashed((100 * kept for kept in scores["saving_kept"].values()), 1),
        seconds,
    )
    return f"| {' | '.join(cells)} |"


def last_half_years(folder: Path) -> dict[str, Any]:
    """Print the main table."""
    print(
        "| trace | forecaster | MAPE 24 / 48 / 72 / 96 h | by day 1 / 2 / 3 / 4 | band holds, % "
        "| of the possible saving, %, k = 6 / 12 / 18 | CPU s |"
    )
    print("|---|---|---|---|---|---|---|")
    results: dict[str, Any] = {}
    for trace in TRACES:
        path = folder / f"{trace}.csv.gz"
        begun = time.process_time()
        once = evaluate_trace(path)
        seconds = time.process_time() - begun
        again = evaluate_trace(path, refit_days=28)
        for name, scores in once["forecasters"].items():
            print(row(trace, name, scores))
        print(
            row(
                trace,
                f"**default** ({', '.join(once['default']['chosen'])})",
                once["default"],
                f"{seconds:.1f}",
            )
        )
        print(row(trace, "default, refitted every 28 days", again["default"]))
        results[trace] = {"once": once, "refitted": again}
    return results


def beside_carboncast(folder: Path) -> dict[str, Any]:
    """Print what was published for July to December 2021 beside ours."""
    print(
        "\n| region | CarbonCast (published) | ridge | default, fitted once | default, refitted every 28 days |"
    )
    print("|---|---|---|---|---|")
    results: dict[str, Any] = {}
    since, until = SECOND_HALF_OF_2021
    for trace, published in CARBONCAST.items():
        path = folder / f"{trace}.csv.gz"
        once = evaluate_trace(path, since=since, until=until)
        again = evaluate_trace(path, since=since, until=until, refit_days=28)
        ours = (once["forecasters"]["ridge"], once["default"], again["default"])
        cells = (trace, slashed(published, 2), *(slashed(scores["mape_by_day"], 2) for scores in ours))
        print(f"| {' | '.join(cells)} |")
        results[trace] = {"once": once, "refitted": again}
    return results


def cost(folder: Path) -> None:
    """Print what a daemon pays with two years of history: CPU milliseconds, median of five."""
    series = read_trace(folder / "us-ciso_hourly.csv.gz")
    series = Series(series.start, series.values[: 2 * 365 * 24])
    later = Series(series.start, read_trace(folder / "us-ciso_hourly.csv.gz").values[: 2 * 365 * 24 + 7 * 24])
    fits, firsts, nexts = [], [], []
    for _ in range(5):
        selector = Selector()
        marks = [time.process_time()]
        selector.fit(series)
        marks.append(time.process_time())
        selector.predict(series)
        marks.append(time.process_time())
        selector.predict(later)
        marks.append(time.process_time())
        for kept, spent in zip((fits, firsts, nexts), np.diff(marks), strict=True):
            kept.append(1000 * spent)
    print(
        f"\nTwo years of hours, all five forecasters: fit {np.median(fits):.0f} ms, one 96 h forecast "
        f"{np.median(firsts):.0f} ms, a week later {np.median(nexts):.0f} ms."
    )


def main() -> None:
    """Run all of it."""
    folder = Path(sys.argv[1])
    results = {"last_183_days": last_half_years(folder), "second_half_of_2021": beside_carboncast(folder)}
    cost(folder)
    if len(sys.argv) > 2:
        Path(sys.argv[2]).write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
