"""The seam: an hourly series in, 96 hours ahead with bands out."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from carbon_nas.errors import NoData
from carbon_nas.model import require_utc

Floats = NDArray[np.float64]
Hours = NDArray[np.int64]

DAY = 24
WEEK = 7 * DAY
HORIZON_HOURS = 4 * DAY
HOUR = timedelta(hours=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def epoch_hour(when: datetime) -> int:
    """Count the whole hours from 1970 to `when`; UTC has no daylight saving, so hour of day is this modulo 24."""
    return (when - _EPOCH) // HOUR


def from_epoch_hour(hour: int) -> datetime:
    """Undo `epoch_hour`."""
    return _EPOCH + hour * HOUR


@dataclass(frozen=True)
class Series:
    """One value per hour, g/kWh, of the hours that begin at `start`, `start` + 1 h ...; NaN where unknown.

    Raises:
        ValueError: `start` is not a full UTC hour, or a value is zero, negative or infinite (a gap is NaN).
    """

    start: datetime
    values: Floats  # [n]

    def __post_init__(self) -> None:
        require_utc(self.start, "start")
        if self.start != from_epoch_hour(self.first):
            raise ValueError(f"a series starts at a full hour, got {self.start}")
        known = self.values[~np.isnan(self.values)]
        if self.values.ndim != 1 or not (np.isfinite(known) & (known > 0)).all():
            raise ValueError("a series holds one row of values above zero, and NaN for gaps")

    @property
    def first(self) -> int:
        """The epoch hour of the first value."""
        return epoch_hour(self.start)

    @property
    def last(self) -> int:
        """The epoch hour after the last value: where a forecast from this series begins."""
        return self.first + len(self.values)

    def before(self, hour: int) -> "Series":
        """Give the part before epoch hour `hour`."""
        return Series(self.start, self.values[: max(0, hour - self.first)])

    def filled(self) -> Floats:
        """Give the values with each gap filled from its past: the mean of that hour over the 7 days before.

        Nothing after a gap is looked at. Gaps with no such past stay NaN.
        """
        values = self.values.copy()
        for gap in np.flatnonzero(np.isnan(values)):
            past = values[gap % DAY : gap : DAY][-7:]
            past = past[~np.isnan(past)]
            if len(past):
                values[gap] = past.mean()
        return values


@dataclass(frozen=True)
class Prediction:
    """What is expected from `start` on, g/kWh. `low` to `high` is the central 80 % band, NaN where none is known."""

    start: datetime
    mean: Floats  # [hours]
    low: Floats  # [hours]
    high: Floats  # [hours]


class Forecaster(Protocol):
    """Learns from a series, then forecasts what follows one. No I/O, no clock, no randomness."""

    @property
    def name(self) -> str:
        """What it is called in reports."""
        ...

    def fit(self, series: Series) -> None:
        """Learn from all of `series`.

        Raises:
            NoData: it is too short.
        """
        ...

    def predict(self, series: Series, hours: int = HORIZON_HOURS) -> Prediction:
        """Forecast the `hours` (up to 96) after the end of `series`, which goes on from what was fitted.

        Raises:
            NoData: the end of `series` is too short or too full of gaps.
        """
        ...


class Points(Protocol):
    """A trained method: forecasts at many issue times at once."""

    def __call__(self, series: Series, issues: Hours) -> Floats:
        """Give [len(issues), 96] points; row i is computed from what lies before epoch hour `issues[i]` alone."""
        ...


class Method(Protocol):
    """A way to give points."""

    @property
    def name(self) -> str:
        """What it is called in reports."""
        ...

    @property
    def needs_hours(self) -> int:
        """How far back a forecast looks."""
        ...

    def train(self, series: Series, hour_of_day: int) -> Points:
        """Learn to forecast at `hour_of_day`, UTC.

        Raises:
            NoData: `series` is too short.
        """
        ...


def lookback(filled: Floats, rows: Hours, hours: int) -> Floats:
    """Give the `hours` values before each of `rows`, [len(rows), hours]."""
    views = np.lib.stride_tricks.sliding_window_view(filled, hours)
    past: Floats = views[rows - hours]
    return past


def ahead(values: Floats, rows: Hours) -> Floats:
    """Give the 96 values from each of `rows` on, [len(rows), 96]; NaN where the series has ended."""
    padded = np.concatenate([values, np.full(HORIZON_HOURS, np.nan)])
    future: Floats = np.lib.stride_tricks.sliding_window_view(padded, HORIZON_HOURS)[rows]
    return future


def require_rows(name: str, rows: int, least: int) -> None:
    """Refuse to learn from fewer than `least` examples."""
    if rows < least:
        raise NoData(f"{name} has {rows} examples to learn from and needs {least}; give it a longer history")
