"""Restating the ledger when better intensities arrive: new revisions of rows, never an edit.

A row that was valued by a forecast, by a value carried forward or by the fallback is provisional. Once readings
that were really observed cover its whole interval, a new revision of it is added, and the highest one counts.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from carbon_nas.model import LedgerEntry, Quality, Reading


def restate(entries: Iterable[LedgerEntry], readings: Sequence[Reading]) -> Iterator[LedgerEntry]:
    """Give the new revisions of those `entries` that `readings` now cover.

    Args:
        entries: the latest revision of rows; those not provisional are passed over.
        readings: of the rows' zone, each interval once.
    """
    observed = sorted((r for r in readings if r.quality.observed), key=lambda reading: reading.start)
    for entry in entries:
        if not entry.quality.observed:
            yield from _revision(entry, observed)


def _revision(entry: LedgerEntry, observed: Sequence[Reading]) -> Iterator[LedgerEntry]:
    over = [r for r in observed if r.zone == entry.zone and r.start < entry.end and r.end > entry.start]
    seconds = [(min(r.end, entry.end) - max(r.start, entry.start)).total_seconds() for r in over]
    total = (entry.end - entry.start).total_seconds()
    # Times have microseconds: less than one of them is rounding, not a hole.
    if not over or sum(seconds) < total - 1e-6:
        return
    weighted = sum(part * r.grams_per_kwh for part, r in zip(seconds, over, strict=True))
    worst = max(over, key=lambda r: list(Quality).index(r.quality))
    yield replace(
        entry,
        grams_per_kwh=weighted / sum(seconds),
        quality=worst.quality,
        provider=worst.provider,
        signal=worst.signal,
        basis=worst.basis,
        revision=entry.revision + 1,
    )
