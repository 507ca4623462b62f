"""From the record of a run to its report: pure, so that the same record gives the same bytes."""

import math
from collections.abc import Sequence

from carbon_nas.energy.counterfactual import AtOnce, at_once, intensity_profile
from carbon_nas.model import JOULES_PER_KWH, JobState, LedgerEntry, Work
from carbon_nas.report.checks import run_checks
from carbon_nas.report.model import (
    SCHEMA_VERSION,
    Boundary,
    Counterfactual,
    EnergyAccounting,
    FunctionalUnit,
    IntensityMethod,
    Period,
    Report,
    SearchResults,
    Tool,
    Totals,
)
from carbon_nas.report.record import ReportError, RunRecord
from carbon_nas.report.results import intensity_statistics, search_results
from carbon_nas.report.rows import (
    COUNTED,
    NOT_COUNTED,
    breakdown,
    grams,
    interval_key,
    kwh,
    latest,
    shares,
)

EMPTY_LEDGER = "the ledger has no rows"


def build_report(record: RunRecord) -> Report:
    """Make the report of a run.

    Raises:
        ReportError: intensities of different signal or basis would be summed, or an energy is not credible.
    """
    rows = latest(record.entries)
    beside = _beside(record, rows)
    totals = _totals(record, rows)
    parts = breakdown(rows, record.jobs, beside.by_job_grams if beside else {})
    search = search_results(record, rows)
    zone_readings = [reading for reading in record.readings if reading.zone == record.zone]
    zone_rows = [row for row in rows if row.zone == record.zone]
    return Report(
        schema_version=SCHEMA_VERSION,
        study=record.study,
        tool=_tool(record),
        period=_period(record),
        boundary=_boundary(record, rows),
        intensity_method=_intensity_method(record, rows),
        energy_method=EnergyAccounting(record.energy_model, shares(rows, lambda row: row.energy_method)),
        totals=totals,
        breakdown=parts,
        functional_units=_functional_units(rows, search),
        counterfactual=_counterfactual(beside),
        search=search,
        intensity=intensity_statistics(record, rows, intensity_profile(zone_readings, zone_rows)),
        restatement=_restatement(record, rows),
        checks=run_checks(record, rows, totals, parts, beside),
    )


def _beside(record: RunRecord, rows: Sequence[LedgerEntry]) -> AtOnce | None:
    try:
        order = [job.id for job in sorted(record.jobs, key=lambda job: (job.created_at, job.id))]
        found = at_once(rows, record.readings, record.start, order)
    except ValueError as error:
        raise ReportError(str(error)) from error
    return found if rows else None


def _tool(record: RunRecord) -> Tool:
    return Tool(
        version=record.tool_version,
        config_sha256=record.config_sha256,
        policy=record.policy,
        controller=record.controller,
        space=record.space,
        dataset=record.dataset,
    )


def _period(record: RunRecord) -> Period:
    replayed = (record.end - record.start).total_seconds()
    if not math.isfinite(record.clock_speed):
        return Period(
            record.start,
            record.end,
            clock_speed=None,
            real_seconds=None,
            replay=(
                "Simulation: the clock jumped from event to event. The intensities are those of the simulated "
                "hours; the grams are what the same work would emit in them, and were not emitted on these dates."
            ),
            missing=dict.fromkeys(("clock_speed", "real_seconds"), "simulated time has no speed"),
        )
    real = replayed / record.clock_speed
    if record.clock_speed == 1.0:
        return Period(
            record.start, record.end, 1.0, real, replay=None, missing={"replay": "the clock ran in real time"}
        )
    return Period(
        record.start,
        record.end,
        clock_speed=record.clock_speed,
        real_seconds=real,
        replay=(
            f"Replay: the clock ran {record.clock_speed:,.6g} times as fast, so {replayed / 3600:,.1f} hours of "
            f"the grid passed in {real / 60:,.1f} minutes. Energy is what this machine really used in these "
            f"minutes; the intensity is that of the replayed hour. The grams are what this work would emit in "
            "the replayed hours, and were not emitted on these dates."
        ),
    )


def _boundary(record: RunRecord, rows: Sequence[LedgerEntry]) -> Boundary:
    return Boundary(
        slots=tuple(f"{slot.id}: {slot.name} on {slot.node}, zone {slot.zone}" for slot in record.slots),
        devices=tuple(sorted({row.device for row in rows})),
        included=COUNTED,
        excluded=NOT_COUNTED,
        pue=record.pue,
        pue_source=record.pue_source,
    )


def _intensity_method(record: RunRecord, rows: Sequence[LedgerEntry]) -> IntensityMethod:
    capabilities = record.capabilities
    first = rows[0] if rows else None
    reference = record.reference_grams_per_kwh
    return IntensityMethod(
        providers=tuple(
            sorted({row.provider for row in rows} | {reading.provider for reading in record.readings})
        ),
        zone=record.zone,
        signal=first.signal if first else capabilities.signal,
        basis=first.basis if first else capabilities.basis,
        accounting="location-based: the intensity of the zone's grid, not of a supply contract",
        licence=capabilities.licence,
        attribution=capabilities.attribution,
        reference_grams_per_kwh=reference,
        share_of_energy_by_quality=shares(rows, lambda row: row.quality),
        missing={} if reference is not None else {"reference_grams_per_kwh": "none was configured or known"},
    )


def _totals(record: RunRecord, rows: Sequence[LedgerEntry]) -> Totals:
    lost = {job.id for job in record.jobs if job.state in {JobState.FAILED, JobState.CANCELLED}}
    wasted = [row for row in rows if row.job_id in lost]
    total, emitted = kwh(rows), grams(rows)
    device = total / record.pue
    missing = {
        "market_based_emissions_grams": "no supply contract with an emission factor is configured",
        "embodied_emissions_grams": "no life-cycle inventory of the hardware is configured",
    }
    if not rows:
        names = ("device_energy_kwh", "overhead_energy_kwh", "energy_kwh", "emissions_grams")
        missing |= dict.fromkeys(
            (*names, "unsuccessful_energy_kwh", "unsuccessful_emissions_grams"), EMPTY_LEDGER
        )
    if not total:
        missing["mean_grams_per_kwh"] = "no energy was used" if rows else EMPTY_LEDGER
    return Totals(
        device_energy_kwh=device if rows else None,
        overhead_energy_kwh=total - device if rows else None,
        energy_kwh=total if rows else None,
        emissions_grams=emitted if rows else None,
        mean_grams_per_kwh=emitted / total if total else None,
        unsuccessful_energy_kwh=kwh(wasted) if rows else None,
        unsuccessful_emissions_grams=grams(wasted) if rows else None,
        market_based_emissions_grams=None,
        embodied_emissions_grams=None,
        missing=missing,
    )


def _functional_units(rows: Sequence[LedgerEntry], search: SearchResults) -> tuple[FunctionalUnit, ...]:
    scoring = [row for row in rows if row.work is Work.SCORE]
    training = [row for row in rows if row.work is Work.TRAIN]
    table = (
        ("scored candidate", search.scored, scoring, "scoring alone, by candidate that has scores"),
        (
            "trained candidate",
            search.trained,
            training,
            "training alone, failed and paused ones too, by training that came to its end",
        ),
        ("trained candidate, all work", search.trained, rows, "the whole search, by candidate it delivers"),
    )
    return tuple(_functional_unit(*line) for line in table)


def _functional_unit(name: str, count: int, rows: Sequence[LedgerEntry], rationale: str) -> FunctionalUnit:
    missing = {} if rows else {"emissions_grams": f"no energy is recorded for a {name}"}
    if not (rows and count):
        missing["emissions_grams_per_unit"] = missing.get("emissions_grams", f"there is no {name}")
    return FunctionalUnit(
        name=name,
        count=count,
        emissions_grams=grams(rows) if rows else None,
        emissions_grams_per_unit=grams(rows) / count if rows and count else None,
        rationale=rationale,
        missing=missing,
    )


def _counterfactual(beside: AtOnce | None) -> Counterfactual:
    policy = "run at once: the same jobs, in the order they were created, on as many slots, without waiting"
    if beside is None:
        names = [
            name
            for name in Counterfactual.__slots__
            if name not in {"policy", "method", "caveats", "missing"}
        ]
        nothing = dict.fromkeys(names)
        return Counterfactual(
            policy=policy,
            method=EMPTY_LEDGER,
            caveats=(),
            missing=dict.fromkeys(names, EMPTY_LEDGER),
            **nothing,
        )
    return Counterfactual(
        policy=policy,
        method=beside.method,
        at_once_emissions_grams=beside.at_once_emissions_grams,
        saved_grams=beside.saved_grams,
        saved_percent=beside.saved_percent,
        moved_energy_kwh=beside.moved_energy_joules / JOULES_PER_KWH,
        moved_emissions_grams=beside.moved_emissions_grams,
        at_once_moved_emissions_grams=beside.at_once_moved_emissions_grams,
        kept_emissions_grams=beside.kept_emissions_grams,
        idle_emissions_grams=beside.idle_emissions_grams,
        uncovered_share=beside.uncovered_share,
        at_once_seconds=beside.at_once_seconds,
        actual_seconds=beside.actual_seconds,
        delay_seconds=beside.delay_seconds,
        caveats=beside.caveats,
        missing={}
        if beside.saved_percent is not None
        else {"saved_percent": "nothing would have been emitted"},
    )


def _restatement(record: RunRecord, rows: Sequence[LedgerEntry]) -> dict[str, float | int]:
    """Say how much the revisions changed: the rows that count against the first statement of each."""
    first: dict[tuple[object, ...], LedgerEntry] = {}
    for entry in sorted(record.entries, key=lambda entry: entry.revision):
        first.setdefault(interval_key(entry), entry)
    stated = grams(first.values())
    return {
        "rows": len(rows),
        "restated_rows": sum(row.revision > first[interval_key(row)].revision for row in rows),
        "superseded_rows": len(record.entries) - len(rows),
        "delta_emissions_grams": grams(rows) - stated,
    }
