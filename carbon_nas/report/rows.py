"""The ledger's rows as a report counts them, and sums of them."""

import math
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime, time, timedelta
from typing import TypeVar

from carbon_nas.model import JOULES_PER_KWH, Job, LedgerEntry
from carbon_nas.report.model import (
    Breakdown,
    DayShare,
    Excluded,
    JobShare,
    Share,
    SourceShare,
)

K = TypeVar("K", bound=Hashable)


def interval_key(entry: LedgerEntry) -> tuple[object, ...]:
    """Give what identifies a row's interval: rows that share it are revisions of one another."""
    return (entry.work, entry.job_id, entry.attempt, entry.slot_id, entry.device, entry.start, entry.end)


def latest(entries: Iterable[LedgerEntry]) -> list[LedgerEntry]:
    """Give the highest revision of each interval, in an order that does not depend on theirs."""
    best: dict[tuple[object, ...], LedgerEntry] = {}
    for entry in entries:
        known = best.setdefault(interval_key(entry), entry)
        if entry.revision > known.revision:
            best[interval_key(entry)] = entry
    return sorted(best.values(), key=lambda row: (row.start, row.end, *map(str, interval_key(row)[:5])))


def kwh(rows: Iterable[LedgerEntry]) -> float:
    """Add up energy, kWh."""
    return math.fsum(row.energy_joules for row in rows) / JOULES_PER_KWH


def grams(rows: Iterable[LedgerEntry]) -> float:
    """Add up emissions, grams of CO2e."""
    return math.fsum(row.emissions_grams for row in rows)


def grouped(rows: Iterable[LedgerEntry], key: Callable[[LedgerEntry], K]) -> dict[K, list[LedgerEntry]]:
    """Sort rows into groups."""
    groups: dict[K, list[LedgerEntry]] = defaultdict(list)
    for row in rows:
        groups[key(row)].append(row)
    return dict(groups)


def shares(rows: Sequence[LedgerEntry], key: Callable[[LedgerEntry], K]) -> dict[K, float]:
    """Give each group's share of the energy; nothing if there is no energy to share."""
    total = kwh(rows)
    return {name: kwh(group) / total for name, group in grouped(rows, key).items()} if total else {}


def breakdown(
    rows: Sequence[LedgerEntry], jobs: Sequence[Job], at_once_grams: Mapping[str, float]
) -> Breakdown:
    """Take the totals apart by kind of work, by job, by UTC day, and by source of the intensity."""
    return Breakdown(
        by_work=tuple(_work_shares(rows)),
        by_job=tuple(_job_shares(rows, {job.id: job for job in jobs}, at_once_grams)),
        by_day=tuple(
            DayShare(day, kwh(group), grams(group))
            for day, group in sorted(grouped(_cut_at_midnight(rows), _day).items())
        ),
        by_source=tuple(
            SourceShare(provider, quality, kwh(group), grams(group))
            for (provider, quality), group in sorted(
                grouped(rows, lambda row: (row.provider, row.quality)).items()
            )
        ),
    )


def _work_shares(rows: Sequence[LedgerEntry]) -> Iterator[Share]:
    energy, emissions = kwh(rows), grams(rows)
    for work, group in sorted(grouped(rows, lambda row: row.work).items()):
        missing = {}
        if not energy:
            missing = {
                "share_of_energy": "there is no energy to share",
                "share_of_emissions": "there are no emissions to share",
            }
        yield Share(
            key=work.value,
            energy_kwh=kwh(group),
            emissions_grams=grams(group),
            share_of_energy=kwh(group) / energy if energy else None,
            share_of_emissions=grams(group) / emissions if emissions else None,
            missing=missing,
        )


def _job_shares(
    rows: Sequence[LedgerEntry], jobs: Mapping[str, Job], at_once_grams: Mapping[str, float]
) -> Iterator[JobShare]:
    groups = grouped(rows, lambda row: (row.work, row.job_id))
    for (work, job_id), group in sorted(groups.items(), key=lambda item: (item[0][0], item[0][1] or "")):
        job = jobs.get(job_id) if job_id is not None else None
        missing = {} if job else dict.fromkeys(("state", "attempts"), "no such job is in the record")
        if job_id is None:
            missing = dict.fromkeys(
                ("job_id", "state", "attempts", "at_once_emissions_grams"), f"{work} energy belongs to no job"
            )
        elsewhere = None if job_id is None else at_once_grams.get(job_id)
        if job_id is not None and elsewhere is None:
            missing |= {"at_once_emissions_grams": f"{work} energy is not moved"}
        yield JobShare(
            job_id=job_id,
            work=work,
            state=job.state if job else None,
            attempts=job.attempt if job else None,
            energy_kwh=kwh(group),
            emissions_grams=grams(group),
            at_once_emissions_grams=elsewhere,
            missing=missing,
        )


def _day(row: LedgerEntry) -> date:
    return row.start.date()


def _cut_at_midnight(rows: Iterable[LedgerEntry]) -> Iterator[LedgerEntry]:
    """Split rows that cross midnight UTC, energy in proportion to time."""
    for row in rows:
        length = row.end - row.start
        start = row.start
        while (midnight := _next_midnight(start)) < row.end:
            yield replace(
                row,
                start=start,
                end=midnight,
                energy_joules=row.energy_joules * ((midnight - start) / length),
            )
            start = midnight
        share = (row.end - start) / length if length else 1.0
        yield replace(row, start=start, energy_joules=row.energy_joules * share)


def _next_midnight(when: datetime) -> datetime:
    return datetime.combine(when.date() + timedelta(days=1), time.min, tzinfo=when.tzinfo)


NOT_COUNTED = (
    Excluded("embodied emissions of the hardware", "no life-cycle inventory of this machine is configured"),
    Excluded("memory, disks, fans, power supply and network", "not metered apart; see the energy statement"),
    Excluded("making and shipping the data set, and using the model", "outside the search"),
    Excluded("offsets, certificates and supply contracts", "SCI v1.1 does not let them be subtracted"),
)
COUNTED = (
    "scoring of every candidate, also of those dropped",
    "training of every candidate, also failed, repeated and suspended attempts",
    "saving and resuming checkpoints",
    "slots held idle while the run waited",
    "the daemon and the search controller",
)
