"""Readings in order of time, at most one for any instant. Pure: it neither asks for the time nor for data."""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime

from carbon_nas.model import Quality, Reading

_RANK = {quality: rank for rank, quality in enumerate(Quality)}  # the enumeration is ordered best first


class Timeline:
    """Readings that never overlap, oldest first.

    Of two readings of one instant the better quality counts, and of equal ones the one fetched last. A reading
    that is only partly superseded keeps the rest of its interval.
    """

    def __init__(self) -> None:
        self._readings: list[Reading] = []

    def __len__(self) -> int:
        return len(self._readings)

    def __iter__(self) -> Iterator[Reading]:
        return iter(self._readings)

    def put(self, new: Reading) -> list[Reading]:
        """Take up `new`; give the parts of it that tell something not known before (none if it repeats)."""
        low = bisect_right(self._readings, new.start, key=_end)
        high = bisect_left(self._readings, new.end, key=_start)
        kept: list[Reading] = []
        taken, news = [new], [new]
        for old in self._readings[low:high]:
            better = _supersedes(new, old)
            kept += _outside([old], new) if better else [old]
            taken = taken if better else _outside(taken, old)
            news = news if better and not _repeats(new, old) else _outside(news, old)
        self._readings[low:high] = sorted(kept + taken, key=_start)
        return news

    def at(self, when: datetime) -> Reading | None:
        """Give the reading whose interval holds `when`."""
        before = self.last_begun(when)
        return before if before is not None and before.covers(when) else None

    def last_begun(self, when: datetime) -> Reading | None:
        """Give the last reading that begins at or before `when`."""
        index = bisect_right(self._readings, when, key=_start)
        return self._readings[index - 1] if index else None

    def next_start(self, when: datetime) -> datetime | None:
        """Give the start of the first reading that begins after `when`."""
        index = bisect_right(self._readings, when, key=_start)
        return self._readings[index].start if index < len(self._readings) else None

    def between(self, earliest: datetime, latest: datetime) -> tuple[Reading, ...]:
        """Give the readings that end after `earliest` and begin at or before `latest`."""
        low = bisect_right(self._readings, earliest, key=_end)
        high = bisect_right(self._readings, latest, key=_start)
        return tuple(self._readings[low:high])

    def forget_before(self, when: datetime) -> None:
        """Drop what ended by `when`."""
        del self._readings[: bisect_right(self._readings, when, key=_end)]

    def keep(self, wanted: Callable[[Reading], bool]) -> None:
        """Drop what is not `wanted`."""
        self._readings = [reading for reading in self._readings if wanted(reading)]


def hours(readings: Iterable[Reading]) -> float:
    """How much time the readings cover, in hours."""
    return sum(map(_seconds, readings)) / 3600


def mean_grams_per_kwh(readings: Sequence[Reading]) -> float | None:
    """Mean over time, so that steps of different length weigh what they last. None if there are none."""
    total = sum(map(_seconds, readings))
    weighted = sum(reading.grams_per_kwh * _seconds(reading) for reading in readings)
    return weighted / total if total else None


def quantile_grams_per_kwh(readings: Sequence[Reading], share: float) -> float | None:
    """Give the lowest known value that was not exceeded for `share` (0 to 1) of the time covered."""
    left = share * sum(map(_seconds, readings))
    ordered = sorted(readings, key=lambda reading: reading.grams_per_kwh)
    for reading in ordered:
        left -= _seconds(reading)
        if left <= 0:
            return reading.grams_per_kwh
    return ordered[-1].grams_per_kwh if ordered else None  # reached only by rounding


def _start(reading: Reading) -> datetime:
    return reading.start


def _end(reading: Reading) -> datetime:
    return reading.end


def _seconds(reading: Reading) -> float:
    return (reading.end - reading.start).total_seconds()


def _supersedes(new: Reading, old: Reading) -> bool:
    if new.quality is not old.quality:
        return _RANK[new.quality] < _RANK[old.quality]
    return new.fetched_at >= old.fetched_at


def _repeats(new: Reading, old: Reading) -> bool:
    return replace(new, start=old.start, end=old.end, fetched_at=old.fetched_at) == old


def _outside(readings: Iterable[Reading], other: Reading) -> list[Reading]:
    """Give the parts of `readings` that lie outside `other`'s interval."""
    return [
        replace(reading, start=start, end=end)
        for reading in readings
        for start, end in (
            (reading.start, min(reading.end, other.start)),
            (max(reading.start, other.end), reading.end),
        )
        if start < end
    ]
