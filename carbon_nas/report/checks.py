"""What an auditor would test, computed from the record and not asserted.

The rules are those of the ledger: sums agree, nothing is counted twice, nothing is mixed, nothing
lies outside the period, and a forecast does not stay where an actual value is known.
"""

import math
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

from carbon_nas.energy.counterfactual import AtOnce, intensity_profile
from carbon_nas.model import JOULES_PER_KWH, LedgerEntry, Quality
from carbon_nas.report.model import Breakdown, Check, DayShare, JobShare, Share, SourceShare, Totals
from carbon_nas.report.record import RunRecord
from carbon_nas.report.rows import grouped, interval_key, kwh

KNOWN = frozenset({Quality.ACTUAL, Quality.ESTIMATED, Quality.FORECAST})
"""Qualities that speak of the interval itself; the others stand in for a value that was not known."""

MINIMUM_COVERAGE = 0.95


def run_checks(
    record: RunRecord,
    rows: Sequence[LedgerEntry],
    totals: Totals,
    parts: Breakdown,
    beside: AtOnce | None,
) -> tuple[Check, ...]:
    """Test the report against the record that it is made from. `rows` are the latest revisions."""
    checks = [
        _sums(totals, parts),
        _overlaps(rows),
        _kinds(record, rows),
        _period(record, rows),
        _coverage(rows),
        _revisions(record, rows),
        _restated(record, rows),
        _owners(record, rows),
    ]
    return (*checks, *([_same_energy(rows, beside)] if beside else []))


def _sums(totals: Totals, parts: Breakdown) -> Check:
    if totals.energy_kwh is None or totals.emissions_grams is None:
        return Check("sums agree", True, "the ledger has no rows, and so there is nothing to add up")
    views: dict[str, Sequence[Share | JobShare | DayShare | SourceShare]] = {
        "work": parts.by_work,
        "job": parts.by_job,
        "UTC day": parts.by_day,
        "source": parts.by_source,
    }
    wrong = [
        name
        for name, view in views.items()
        if not _close(math.fsum(row.energy_kwh for row in view), totals.energy_kwh)
        or not _close(math.fsum(row.emissions_grams for row in view), totals.emissions_grams)
    ]
    detail = (
        f"the rows by {', '.join(wrong)} do not add up to the totals"
        if wrong
        else (f"the sums by {', '.join(views)} equal the totals, in energy and in emissions")
    )
    return Check("sums agree", not wrong, detail)


def _overlaps(rows: Sequence[LedgerEntry]) -> Check:
    overlapping = []
    for owner, group in grouped(rows, _owner).items():
        ordered = sorted(group, key=lambda row: (row.start, row.end))
        overlapping += [
            f"{' '.join(map(str, owner))} at {later.start:%Y-%m-%d %H:%M:%S}"
            for earlier, later in pairwise(ordered)
            if later.start < earlier.end
        ]
    return Check(
        "no interval counted twice",
        not overlapping,
        _found(overlapping, f"no two rows of one job, attempt and device overlap ({len(rows)} rows)"),
    )


def _owner(row: LedgerEntry) -> tuple[object, ...]:
    if row.job_id is None:  # idle and controller rows: what tells them apart is where the energy went
        return (row.work, row.slot_id or "no slot", row.device)
    return (row.job_id, row.attempt, row.device)


def _kinds(record: RunRecord, rows: Sequence[LedgerEntry]) -> Check:
    kinds = Counter(f"{row.signal} {row.basis}" for row in rows)
    kinds.update(f"{reading.signal} {reading.basis}" for reading in record.readings)
    return Check(
        "one kind of intensity",
        len(kinds) <= 1,
        "; ".join(f"{count} values are {kind}" for kind, count in sorted(kinds.items()))
        or "there are no values",
    )


def _period(record: RunRecord, rows: Sequence[LedgerEntry]) -> Check:
    outside = [
        f"{row.device} {row.start:%Y-%m-%d %H:%M:%S}"
        for row in rows
        if row.start < record.start or row.end > record.end or row.end <= row.start
    ]
    return Check(
        "inside the period", not outside, _found(outside, "every interval begins and ends within the period")
    )


def _coverage(rows: Sequence[LedgerEntry]) -> Check:
    total = kwh(rows)
    share = kwh([row for row in rows if row.quality in KNOWN]) / total if total else None
    if share is None:
        return Check("intensity is known", True, "there is no energy to value")
    return Check(
        "intensity is known",
        share >= MINIMUM_COVERAGE,
        f"{share:.1%} of the energy is valued at an intensity published for its own interval "
        f"(at least {MINIMUM_COVERAGE:.0%} is asked); the rest at a stated stand-in, never at zero",
    )


def _revisions(record: RunRecord, rows: Sequence[LedgerEntry]) -> Check:
    counts = Counter((interval_key(row), row.revision) for row in record.entries)
    newest: dict[tuple[object, ...], int] = {}
    for key, revision in counts:
        newest[key] = max(revision, newest.get(key, revision))
    twice = [f"{key[4]} at {key[5]}" for (key, _), count in counts.items() if count > 1]
    used = {interval_key(row): row.revision for row in rows}
    superseded = len(record.entries) - len(rows)
    return Check(
        "latest revision counts",
        used == newest and not twice,
        _found(twice, f"{len(rows)} rows count, {superseded} superseded rows are kept and do not"),
    )


def _restated(record: RunRecord, rows: Sequence[LedgerEntry]) -> Check:
    measured = intensity_profile(
        [
            reading
            for reading in record.readings
            if reading.zone == record.zone and reading.quality in {Quality.ACTUAL, Quality.ESTIMATED}
        ]
    )
    late = [
        f"{row.device} at {row.start:%Y-%m-%d %H:%M:%S} ({row.quality})"
        for row in rows
        if row.quality not in {Quality.ACTUAL, Quality.ESTIMATED}
        and row.zone == record.zone
        and measured.integrate(row.start, row.end)[0] >= (row.end - row.start).total_seconds()
    ]
    return Check(
        "forecasts restated",
        not late,
        _found(late, "no row keeps a stand-in or a forecast where an actual or estimated value is known"),
    )


def _owners(record: RunRecord, rows: Sequence[LedgerEntry]) -> Check:
    jobs = {job.id for job in record.jobs}
    unknown = sorted({row.job_id for row in rows if row.job_id is not None} - jobs)
    return Check(
        "every joule has an owner",
        not unknown,
        _found(unknown, "every row's job is in the record, or it has none"),
    )


def _same_energy(rows: Sequence[LedgerEntry], beside: AtOnce) -> Check:
    joules = beside.moved_energy_joules + beside.kept_energy_joules + beside.idle_energy_joules
    return Check(
        "same energy at once",
        _close(joules / JOULES_PER_KWH, kwh(rows)),
        "work moved, work kept in place and idle energy left out add up to the energy of the totals",
    )


def _close(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-15)


def _found(wrong: Sequence[str], right: str) -> str:
    return f"{len(wrong)}, the first: {wrong[0]}" if wrong else right
