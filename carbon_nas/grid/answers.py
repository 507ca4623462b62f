"""From a service's answer to credible intervals: what is not credible is left out, with the reason.

A parser makes `Points` and adds rows to it, each within `row()`; whatever is missing, of the wrong type, naive,
zero or absurd in a row leaves out that row alone.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

from carbon_nas.errors import BadData, NoData
from carbon_nas.model import MAX_PLAUSIBLE_GRAMS_PER_KWH, Quality

NO_VALUE = "has no value"


@dataclass(frozen=True, slots=True)
class Point:
    """One interval `[start, end)` as a service told it, in g/kWh."""

    start: datetime
    end: datetime
    grams_per_kwh: float
    quality: Quality


class Points:
    """The credible intervals of one answer.

    With `step`, every interval must be so long, and begin on a whole multiple of it since midnight.

    Attributes:
        skipped: how many rows were left out, by reason.
    """

    def __init__(self, source: str, step: timedelta | None = None) -> None:
        self.source = source
        self.skipped: Counter[str] = Counter()
        self._step = step
        self._points: dict[datetime, Point] = {}

    @contextmanager
    def row(self) -> Iterator[None]:
        """Read one row: if it is not of the expected form, it is left out."""
        try:
            yield
        except KeyError as error:
            self.skip(f"has no {error}")
        except (TypeError, ValueError, AttributeError, OverflowError) as error:
            self.skip(f"is not of the expected form ({str(error)[:80]})")

    def add(self, start: datetime, end: datetime, value: object, quality: Quality) -> None:
        """Take up one interval, if its value is credible. Of two with one start the later one counts."""
        whole = self._step is None or (
            end - start == self._step and start.timestamp() % self._step.total_seconds() == 0
        )
        if value is None:
            self.skip(NO_VALUE)
        elif isinstance(value, bool) or not isinstance(value, int | float):
            self.skip(f"is {type(value).__name__} where a number belongs")
        elif not 0 < value <= MAX_PLAUSIBLE_GRAMS_PER_KWH:
            self.skip(f"is {value:g} g/kWh, which is not credible")
        elif not whole or end <= start:
            self.skip("is not a whole interval")
        else:
            self._points[start] = Point(start, end, float(value), quality)

    def skip(self, reason: str) -> None:
        """Leave out a row."""
        self.skipped[reason] += 1

    def credible(self) -> list[Point]:
        """Give the intervals in order.

        Raises:
            NoData: the answer had none, or only such as are not known yet.
            BadData: none of those it had is credible, or some overlap.
        """
        points = [self._points[start] for start in sorted(self._points)]
        if any(before.end > after.start for before, after in pairwise(points)):
            raise BadData(f"{self.source}: intervals overlap")
        if points:
            return points
        wrong = Counter({reason: n for reason, n in self.skipped.items() if reason != NO_VALUE})
        if wrong:
            raise BadData(f"{self.source}: not one credible interval; the first {wrong.most_common(1)[0][0]}")
        raise NoData(f"{self.source}: the answer holds no value")


def decode_json(body: bytes, source: str) -> Any:
    """Read JSON strictly.

    Raises:
        BadData: it is not JSON, or holds NaN or Infinity.
    """
    try:
        return json.loads(body, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise BadData(f"{source}: the answer is not JSON (it begins with {body[:24]!r})") from None


def decode_object(body: bytes, source: str) -> Mapping[str, Any]:
    """Read a JSON object that is not an error message.

    Raises:
        NoData: it is empty.
        BadData: it is not JSON, not an object, or tells of an error.
    """
    content = decode_json(body, source)
    if not isinstance(content, dict):
        raise BadData(f"{source}: the answer is {type(content).__name__}, not an object")
    if not content:
        raise NoData(f"{source}: the answer is empty")
    if content.get("error"):
        raise BadData(f"{source}: the answer is an error: {str(content['error'])[:200]}")
    return content


def rows_of(content: Mapping[str, Any], key: str, source: str) -> list[Any]:
    """Give the list `key` of an answer.

    Raises:
        NoData: it is missing or empty.
        BadData: it is not a list.
    """
    rows = content.get(key)
    if not rows and not isinstance(rows, int | str):
        raise NoData(f"{source}: the answer's `{key}` is empty")
    if not isinstance(rows, list):
        raise BadData(f"{source}: the answer's `{key}` is {type(rows).__name__}, not a list")
    return rows


def require_echo(told: object, asked: object, source: str) -> None:
    """Refuse an answer for another place than was asked for.

    Raises:
        BadData: it is for another.
    """
    if told != asked:
        raise BadData(f"{source}: answered for {told!r}, not for {asked!r}")


def utc_known(text: str) -> datetime:
    """Read a time of a service that is known to write UTC without saying so.

    Raises:
        ValueError: the text is no time, or says that it is of another zone.
    """
    when = datetime.fromisoformat(text)
    if when.tzinfo is not None and when.utcoffset() != timedelta(0):
        raise ValueError(f"{text!r} is not in UTC")
    return when.replace(tzinfo=UTC)


def floor_to(when: datetime, step: timedelta) -> datetime:
    """Give the last whole multiple of `step` up to `when`."""
    return when - (when - datetime.min.replace(tzinfo=UTC)) % step


def ceil_to(when: datetime, step: timedelta) -> datetime:
    """Give the first whole multiple of `step` from `when` on."""
    return floor_to(when, step) + (step if when != floor_to(when, step) else timedelta(0))


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
