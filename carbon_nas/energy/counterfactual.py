"""What the same work would have emitted, had it run at once instead of waiting for clean hours.

The baseline of a saving is "would have started at once", not "the worst hour" (SCI v1.1, ISO/IEC 21031, asks
for a baseline by the same method without the action). So every job keeps its energy and its running time, and
starts in its turn as soon as a slot is free, as under a scheduler that does not look at the grid. The result is
a thought experiment: it stands beside the emissions and is never netted against them.
"""

import heapq
import math
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import pairwise

from carbon_nas.model import LedgerEntry, Quality, Reading, Work, emissions_grams

MOVED = frozenset({Work.SCORE, Work.TRAIN})
"""The work that could have run earlier."""

METHOD = (
    "The jobs of scoring and training run in the order in which they were created, each in one piece, with the "
    "time and the energy it really took, on as many slots, without waiting, from the start of the run. Each "
    "moved piece is valued at the time-weighted intensity of the interval it would have run in."
)
CAVEATS = (
    "Slots held idle while the run waited are inside the actual emissions and have no counterpart at once.",
    "The controller's energy stays where it was, although a run without waiting would have ended earlier.",
    "The energy of saving and resuming is counted on both sides, though at once it would not have been spent.",
    "The jobs are those of the actual search; one that never waited might have proposed other architectures.",
    "A job counts as ready in its turn, although some were made only from the results of those before.",
)


@dataclass(frozen=True, slots=True)
class Segment:
    """An intensity that holds in `[start, end)`."""

    start: datetime
    end: datetime
    grams_per_kwh: float
    quality: Quality


@dataclass(frozen=True, slots=True)
class AtOnce:
    """A run beside the same run without waiting.

    `saved_grams` is positive where waiting would have avoided emissions, and negative where it cost some.
    `by_job_grams` is what each job would have emitted at once.
    `saved_percent` is of the emissions at once; None if these are zero. `uncovered_share` is the share of the
    moved energy whose new time has no known intensity; it is valued at the run's own mean.
    """

    at_once_emissions_grams: float
    actual_emissions_grams: float
    saved_grams: float
    saved_percent: float | None
    moved_energy_joules: float
    moved_emissions_grams: float
    at_once_moved_emissions_grams: float
    kept_energy_joules: float
    kept_emissions_grams: float
    idle_energy_joules: float
    idle_emissions_grams: float
    uncovered_share: float
    at_once_seconds: float
    actual_seconds: float
    delay_seconds: float
    by_job_grams: Mapping[str, float]
    method: str = METHOD
    caveats: tuple[str, ...] = CAVEATS


class IntensityProfile:
    """Disjoint segments of intensity, oldest first, that can be integrated."""

    def __init__(self, segments: Sequence[Segment]) -> None:
        self.segments = tuple(segments)
        self._starts = [segment.start for segment in segments]
        self._ends = [segment.end for segment in segments]

    def integrate(self, start: datetime, end: datetime) -> tuple[float, float]:
        """Give the seconds of `[start, end)` that are known, and the integral of g/kWh over them, in seconds."""
        known = weighted = 0.0
        for index in range(bisect_right(self._ends, start), bisect_left(self._starts, end)):
            segment = self.segments[index]
            seconds = (min(end, segment.end) - max(start, segment.start)).total_seconds()
            known += seconds
            weighted += seconds * segment.grams_per_kwh
        return known, weighted

    def mean(self, start: datetime, end: datetime) -> float | None:
        """Give the time-weighted mean of what is known, g/kWh; None if nothing is."""
        known, weighted = self.integrate(start, end)
        return weighted / known if known else None


def intensity_profile(readings: Iterable[Reading], entries: Iterable[LedgerEntry] = ()) -> IntensityProfile:
    """Lay one zone's intensities out in time; where several claim one moment, the first of these counts.

    What the ledger used comes first, so that the actual run and the one at once are valued alike; then the
    reading of the best quality, and among these the one fetched last.
    """
    quality_rank = {quality: rank for rank, quality in enumerate(Quality)}
    ranked = [
        (
            (0, quality_rank[entry.quality], 0.0),
            Segment(entry.start, entry.end, entry.grams_per_kwh, entry.quality),
        )
        for entry in entries
        if entry.end > entry.start
    ]
    ranked += [
        (
            (1, quality_rank[reading.quality], -reading.fetched_at.timestamp()),
            Segment(reading.start, reading.end, reading.grams_per_kwh, reading.quality),
        )
        for reading in readings
    ]
    return IntensityProfile(_disjoint(ranked))


def at_once(
    entries: Sequence[LedgerEntry], readings: Sequence[Reading], start: datetime, order: Sequence[str]
) -> AtOnce:
    """Value the run had it not waited.

    Args:
        entries: the ledger, one row for each interval (its latest revision).
        readings: what is known of the intensity, for the times that no row covers.
        start: when the run began, UTC.
        order: the ids of all jobs in the order in which they were created.

    Raises:
        ValueError: a row's energy is negative or not finite, or intensities of different signal or basis meet.
    """
    _check(entries, readings)
    moved = [entry for entry in entries if _is_moved(entry)]
    idle = [entry for entry in entries if entry.work is Work.IDLE]
    kept = [entry for entry in entries if entry.work is not Work.IDLE and not _is_moved(entry)]
    shifts = _shifts(moved, start, order)
    actual_moved, actual_idle, actual_kept = (_grams(rows) for rows in (moved, idle, kept))
    values, uncovered_joules = _value(moved, shifts, _profiles(entries, readings))
    moved_grams = math.fsum(values)
    by_job: dict[str, float] = defaultdict(float)
    for entry, grams in zip(moved, values, strict=True):
        by_job[str(entry.job_id)] += grams
    energy = _joules(moved)
    actual_end = max((entry.end for entry in moved), default=start)
    at_once_end = max((entry.end - shift for entry, shift in zip(moved, shifts, strict=True)), default=start)
    at_once_total = moved_grams + actual_kept
    actual_total = actual_moved + actual_idle + actual_kept
    return AtOnce(
        at_once_emissions_grams=at_once_total,
        actual_emissions_grams=actual_total,
        saved_grams=at_once_total - actual_total,
        saved_percent=100.0 * (1.0 - actual_total / at_once_total) if at_once_total else None,
        moved_energy_joules=energy,
        moved_emissions_grams=actual_moved,
        at_once_moved_emissions_grams=moved_grams,
        kept_energy_joules=_joules(kept),
        kept_emissions_grams=actual_kept,
        idle_energy_joules=_joules(idle),
        idle_emissions_grams=actual_idle,
        uncovered_share=uncovered_joules / energy if energy else 0.0,
        at_once_seconds=(at_once_end - start).total_seconds(),
        actual_seconds=(actual_end - start).total_seconds(),
        delay_seconds=(actual_end - at_once_end).total_seconds(),
        by_job_grams=dict(by_job),
    )


def _is_moved(entry: LedgerEntry) -> bool:
    return entry.work in MOVED and entry.slot_id is not None and entry.job_id is not None


def _joules(rows: Iterable[LedgerEntry]) -> float:
    return math.fsum(row.energy_joules for row in rows)


def _grams(rows: Iterable[LedgerEntry]) -> float:
    return math.fsum(row.emissions_grams for row in rows)


def _check(entries: Iterable[LedgerEntry], readings: Iterable[Reading]) -> None:
    for entry in entries:
        if not math.isfinite(entry.energy_joules) or entry.energy_joules < 0:
            raise ValueError(
                f"{entry.device} used {entry.energy_joules} J from {entry.start} to {entry.end}: "
                "energy is finite and never below zero; restate this row with a new revision"
            )
    kinds = {(entry.signal, entry.basis) for entry in entries}
    kinds |= {(reading.signal, reading.basis) for reading in readings}
    if len(kinds) > 1:
        found = "; ".join(sorted(f"{signal} {basis}" for signal, basis in kinds))
        raise ValueError(
            f"intensities of different kinds cannot be summed ({found}); report each kind on its own"
        )


def _shifts(moved: Sequence[LedgerEntry], start: datetime, order: Sequence[str]) -> list[timedelta]:
    """Say by how much each row moves: jobs go in order to the slot that is free first, each in one piece.

    A job is busy in the union of its rows: several devices are busy together, and move together.
    """
    by_job: dict[str, list[LedgerEntry]] = defaultdict(list)
    for entry in moved:
        by_job[str(entry.job_id)].append(entry)
    turn = {job_id: n for n, job_id in enumerate(order)}
    free_at = [start] * len({entry.slot_id for entry in moved})
    steps: dict[str, list[tuple[datetime, timedelta]]] = {}
    for job_id in sorted(by_job, key=lambda job_id: (turn.get(job_id, len(turn)), job_id)):
        steps[job_id], end = _steps(by_job[job_id], heapq.heappop(free_at))
        heapq.heappush(free_at, end)
    return [_last_step(steps[str(entry.job_id)], entry.start) for entry in moved]


def _steps(
    rows: Iterable[LedgerEntry], begin_at: datetime
) -> tuple[list[tuple[datetime, timedelta]], datetime]:
    """Give, for each stretch of uninterrupted work, its beginning and how much it moves; and the new end."""
    steps: list[tuple[datetime, timedelta]] = []
    busy_until, free_at = None, begin_at
    for begin, end in sorted((row.start, row.end) for row in rows):
        if busy_until is None or begin > busy_until:
            steps.append((begin, begin - free_at))
            free_at += end - begin
            busy_until = end
        elif end > busy_until:
            free_at += end - busy_until
            busy_until = end
    return steps, free_at


def _last_step(steps: Sequence[tuple[datetime, timedelta]], when: datetime) -> timedelta:
    return steps[bisect_right(steps, when, key=lambda step: step[0]) - 1][1]


def _profiles(entries: Iterable[LedgerEntry], readings: Iterable[Reading]) -> Mapping[str, IntensityProfile]:
    rows: dict[str, list[LedgerEntry]] = defaultdict(list)
    known: dict[str, list[Reading]] = defaultdict(list)
    for entry in entries:
        rows[entry.zone].append(entry)
    for reading in readings:
        known[reading.zone].append(reading)
    return {zone: intensity_profile(known[zone], rows[zone]) for zone in rows}


def _value(
    moved: Sequence[LedgerEntry], shifts: Sequence[timedelta], profiles: Mapping[str, IntensityProfile]
) -> tuple[list[float], float]:
    """Give the grams of each moved row at its new time, and the joules for which no intensity is known."""
    energy = _joules(moved)
    weighted_energy = math.fsum(row.energy_joules * row.grams_per_kwh for row in moved)
    mean = weighted_energy / energy if energy else 0.0
    grams, uncovered = [], []
    for row, shift in zip(moved, shifts, strict=True):
        seconds = (row.end - row.start).total_seconds()
        known, weighted = profiles[row.zone].integrate(row.start - shift, row.end - shift)
        missing = max(seconds - known, 0.0)
        value = (weighted + missing * mean) / seconds if seconds else row.grams_per_kwh
        grams.append(emissions_grams(row.energy_joules, value))
        uncovered.append(row.energy_joules * missing / seconds if seconds else 0.0)
    return grams, math.fsum(uncovered)


def _disjoint(ranked: Sequence[tuple[tuple[int, int, float], Segment]]) -> list[Segment]:
    """Cut overlapping segments so that each moment belongs to the one of the lowest rank (a sweep, n log n)."""
    waiting = sorted(((segment.start, rank, n) for n, (rank, segment) in enumerate(ranked)), reverse=True)
    valid: list[tuple[tuple[int, int, float], int]] = []
    found: list[Segment] = []
    for start, end in pairwise(
        sorted({time for _, segment in ranked for time in (segment.start, segment.end)})
    ):
        while waiting and waiting[-1][0] <= start:
            _, rank, n = waiting.pop()
            heapq.heappush(valid, (rank, n))
        while valid and ranked[valid[0][1]][1].end <= start:
            heapq.heappop(valid)
        if valid:
            found.append(replace(ranked[valid[0][1]][1], start=start, end=end))
    return found
