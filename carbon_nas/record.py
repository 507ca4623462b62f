"""What a run keeps about itself, and reading it back as the record that reports are made from.

So that a report needs the state directory alone: it can be written after the daemon, the configuration and the
trace are gone.
"""

import dataclasses
import json
from collections.abc import Iterable
from datetime import datetime
from importlib.metadata import version
from typing import Any

from pydantic import TypeAdapter

from carbon_nas.config import Config, digest
from carbon_nas.errors import StoreError
from carbon_nas.grid.timeline import Timeline, mean_grams_per_kwh
from carbon_nas.model import JOULES_PER_KWH, Capabilities, GridState, JobKind, Reading, Slot
from carbon_nas.report.record import RunRecord
from carbon_nas.search import cost
from carbon_nas.store.sql import SqlStore


@dataclasses.dataclass(frozen=True)
class RunMeta:
    """What the tables do not hold. `started_at` is in the run's own clock."""

    study: str
    zone: str
    started_at: datetime
    clock_speed: float
    slots: tuple[Slot, ...]
    capabilities: Capabilities
    policy: str
    controller: str
    space: str
    dataset: str
    energy_model: str
    pue: float
    tool_version: str
    config_sha256: str
    inference_cost: str = cost.FLOPS.name
    epochs: int | None = None


_META: TypeAdapter[RunMeta] = TypeAdapter(RunMeta)


def keep(
    store: SqlStore,
    config: Config,
    *,
    now: datetime,
    speed: float,
    slots: tuple[Slot, ...],
    capabilities: Capabilities,
) -> None:
    """Keep what this start of the daemon knows; the run's beginning stays that of its first start."""
    before = store.get_meta("run")
    meta = RunMeta(
        study=config.study,
        zone=config.grid.zone,
        started_at=now if before is None else _META.validate_json(before).started_at,
        clock_speed=speed,
        slots=slots,
        capabilities=capabilities,
        policy=config.policy.name,
        controller=config.controller.name,
        space=config.space.name,
        dataset=config.task.dataset,
        energy_model=f"{config.energy.watts_per_core:g} W per busy CPU core (model); GPUs by their own counters",
        pue=config.energy.pue,
        tool_version=version("carbon-nas"),
        config_sha256=digest(config),
        inference_cost=config.score.inference_cost,
        epochs=config.train.epochs,
    )
    store.set_meta("run", _META.dump_json(meta).decode())


def keep_grid(
    store: SqlStore, *, state: GridState, at: datetime, forecaster: str | None, problem: str | None
) -> None:
    """Keep how well the grid is known, whenever that has changed, for `carbon-nas status`."""
    before = json.loads(store.get_meta("grid") or "{}")
    now = {"state": str(state), "forecaster": forecaster, "last_problem": problem}
    if any(before.get(name) != value for name, value in now.items()):
        since = before["since"] if before.get("state") == state else at.isoformat()
        store.set_meta("grid", json.dumps({**now, "since": since}))


def load(store: SqlStore) -> RunRecord:
    """Read a run back.

    Raises:
        StoreError: no daemon has run on this store yet.
    """
    kept = store.get_meta("run")
    if kept is None:
        raise StoreError("nothing has run here yet")
    meta = _META.validate_json(kept)
    entries, transitions, decisions = store.entries(), store.transitions(), store.decisions()
    ends = [entry.end for entry in entries] + [step.at for step in transitions] + [at for at, _ in decisions]
    end = max(ends, default=meta.started_at)
    if end <= meta.started_at:
        raise StoreError("nothing has happened here yet")
    readings = store.readings(meta.zone)
    values: dict[str, Any] = {field.name: getattr(meta, field.name) for field in dataclasses.fields(meta)}
    start = values.pop("started_at")
    return RunRecord(
        start=start,
        end=end,
        jobs=store.jobs(),
        transitions=transitions,
        entries=entries,
        readings=readings,
        decisions=decisions,
        evaluations=store.evaluations(),
        candidates=len(store.candidates()),
        reference_grams_per_kwh=mean_grams_per_kwh(_settled(readings)),
        **values,
    )


def standing(store: SqlStore) -> dict[str, object]:
    """Give how a run stands, for `carbon-nas status`. None is what is not known.

    Raises:
        StoreError: no daemon has run on this store yet.
    """
    kept = store.get_meta("run")
    if kept is None:
        raise StoreError("nothing has run here yet")
    meta = _META.validate_json(kept)
    decided = store.decisions()[-1:]
    readings = _settled(store.readings(meta.zone))[-1:]
    reached = {job.id: job.epochs for job in store.jobs() if job.kind is JobKind.TRAIN}
    found = store.evaluations(JobKind.TRAIN)
    trained = [one for job_id, one in found if meta.epochs in {None, reached[job_id] or meta.epochs}]
    best = max(trained, key=lambda one: one.values["accuracy"], default=None)
    totals = store.totals().values()
    grid = json.loads(store.get_meta("grid") or "{}")
    return {
        "study": meta.study,
        "zone": meta.zone,
        "grid_state": grid.get("state"),
        "grid_state_since": grid.get("since"),
        "grid_last_problem": grid.get("last_problem"),
        "forecaster": grid.get("forecaster"),
        "policy": meta.policy,
        "inference_cost": meta.inference_cost,
        "intensity_grams_per_kwh": readings[0].grams_per_kwh if readings else None,
        "intensity_valid_from": readings[0].start if readings else None,
        "window": decided[0][1].window if decided else None,
        "reason": decided[0][1].reason if decided else None,
        "candidates": len(store.candidates()),
        "scored": len(store.scores()),
        "trained": len(trained),
        "paused": len({one.arch for _, one in found} - {one.arch for one in trained}),
        "jobs": {f"{kind} {state}": count for (kind, state), count in sorted(store.count_jobs().items())},
        "best_arch": best.arch if best else None,
        "best_accuracy": best.values["accuracy"] if best else None,
        "energy_kwh": sum(joules for joules, _ in totals) / JOULES_PER_KWH,
        "emissions_grams": sum(grams for _, grams in totals),
    }


def _settled(readings: Iterable[Reading]) -> list[Reading]:
    """Give what is known by now, oldest first: of revised readings the last, whenever it came."""
    timeline = Timeline()
    for reading in readings:
        timeline.put(reading)
    return list(timeline)
