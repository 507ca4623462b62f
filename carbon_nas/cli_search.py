"""The part of the command line that is about the search itself: whether cheap scoring works."""

import contextlib
import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from carbon_nas import plugins, state_directory
from carbon_nas.errors import StoreError
from carbon_nas.model import JobKind
from carbon_nas.search import calibration, cost
from carbon_nas.search.predictor import Encode
from carbon_nas.store.sql import SqlStore

NOTES = (
    "\nrho: Spearman's, with trained quality; in the best 10 %; at equal {cost}. lost: points of accuracy lost by"
    " training only the k best-ranked. The learned predictor is judged on each training by what the others teach."
    " The trained were picked by these scores, so this is the rho of the picked, not of all candidates."
)


def add_search_commands(app: typer.Typer) -> None:
    """Put the commands of this module into the command line."""
    app.command("calibrate")(calibrate)


def calibrate(
    state_dir: Annotated[
        Path, typer.Option("--state-dir", envvar="STATE_DIRECTORY", help="Where the store is kept.")
    ],
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """Tell from the trainings there are whether cheap scoring works here; the daemon need not run."""
    with contextlib.closing(state_directory.open_for_reading(state_dir)) as store:
        found = _calibrated(store)
    if as_json:
        print(json.dumps(dataclasses.asdict(found)))
        return
    console = Console(highlight=False)
    ranking = (
        f"{found.trained} trained of {found.scored} scored; the search now ranks by the {found.followed}."
    )
    noun = cost.named(found.cost).noun
    notes = NOTES.format(cost=noun)
    console.print(ranking, _table(found.signals, noun), notes, f"\n{found.verdict}", sep="\n")


def _calibrated(store: SqlStore) -> calibration.Calibration:
    evaluations, identity = store.evaluations(), _identity(store)
    first = {job.id for job in store.jobs() if job.continues is None}  # the fidelity to which all come
    found = [one for job_id, one in evaluations if job_id in first]
    chosen = cost.named(identity["score"]["inference_cost"])
    scores = {one.arch: cost.proxies(one.values) for one in found if one.kind is JobKind.SCORE}
    costs = cost.known(found, chosen)
    results = {
        one.arch: (one.values["accuracy"], costs[one.arch]) for one in found if one.kind is JobKind.TRAIN
    }
    if not scores.keys() & results.keys():
        raise StoreError(
            f"{len(scores)} scored and {len(results)} trained: nothing to compare yet; "
            "let `carbon-nas run` train some of what it has scored (a dozen tell little, thirty enough)"
        )
    return calibration.calibrate(scores, results, _encode(identity["space"]), chosen)


def _identity(store: SqlStore) -> Any:
    """Give the sections that the study was begun with."""
    kept = store.get_meta("identity")
    if kept is None:
        raise StoreError("nothing has run here yet")
    return json.loads(kept)


def _encode(section: Mapping[str, Any]) -> Encode:
    """Give the encoding of a space."""
    space = plugins.build("spaces", section["name"], section.get(section["name"], {}), key="space")
    encode: Encode = space.encode
    return encode


def _table(signals: tuple[calibration.Signal, ...], cost_noun: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("\nranked by", overflow="fold")
    lost = [f"lost\nk={k}" for k in calibration.REGRETS]
    for heading in ("\nrho", "\n95 %", "best\n10 %", f"equal\n{cost_noun}", *lost, "not\nusable"):
        table.add_column(heading, justify="right")
    for one in signals:
        low_high = "-" if one.interval is None else "{:.2f} to {:.2f}".format(*one.interval)
        losses = (_number(one.regret[k], 1, 100.0) for k in calibration.REGRETS)
        table.add_row(
            one.name,
            _number(one.rho),
            low_high,
            _number(one.rho_top),
            _number(one.rho_given_cost),
            *losses,
            str(one.unusable),
        )
    return table


def _number(value: float | None, digits: int = 2, factor: float = 1.0) -> str:
    return "-" if value is None else f"{value * factor:.{digits}f}"
