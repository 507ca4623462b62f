"""Bands that keep their promise: conformal quantiles of a method's own recent errors, corrected as they come in."""

import math
from dataclasses import dataclass

import numpy as np

from carbon_nas.errors import NoData
from carbon_nas.grid.forecast.base import (
    DAY,
    HORIZON_HOURS,
    Floats,
    Hours,
    Method,
    Points,
    Prediction,
    Series,
    ahead,
    from_epoch_hour,
)

COVERAGE = 0.8
CALIBRATION_DAYS = 90
CALIBRATION_SHARE = 1 / 3  # of a short history, at most
LEAST_CALIBRATION_DAYS = 14
STEP = 1.0
RECENT_DAYS = 60
_MISS = (1 - COVERAGE) / 2  # on each side
_OUTWARD = np.array([[-1.0], [1.0]])  # of the lower and the upper edge


@dataclass(frozen=True)
class Forecasts:
    """What one forecaster says at many issue times, g/kWh; `low` and `high` are NaN where no band is known.

    `recent_errors` are its errors in the last 60 days as known at the issue, newest first: the MAPE of the first
    24 h, per cent, NaN where unknown.
    """

    points: Floats  # [n, 96]
    low: Floats  # [n, 96]
    high: Floats  # [n, 96]
    recent_errors: Floats  # [n, 60]


@dataclass(frozen=True)
class _Trained:
    """A method trained for one hour of day, and what it forecast in the days held out before."""

    points: Points
    held_out_issues: Hours
    held_out_points: Floats  # [n, 96]


class Conformal:
    """A `Forecaster`: `method`'s points with an 80 % band.

    The method is trained twice: without the last 90 days, on which its errors (logarithms of actual / forecast) are
    collected for each lead time, and then on everything. The 10 % and 90 % quantiles of the last 90 errors known are
    the first band: split conformal prediction. Each edge of each day ahead is then moved out by `STEP` x (misses -
    10 %) whenever a day is over: the quantile tracker of Angelopoulos, Candes and Tibshirani, "Conformal PID control
    for time series prediction" (2023), whose coverage holds in the long run whatever the weather does. It runs over
    the days held out as well, each with the quantiles known then: a fit made anew starts with a correction that was
    earned out of sample.
    """

    def __init__(self, method: Method) -> None:
        self.name = method.name
        self._method = method
        self._fitted: Series | None = None
        self._trained: dict[int, _Trained] = {}  # by hour of day, made when first asked for

    def fit(self, series: Series) -> None:
        """Learn from `series`; the model of another issue hour than its end's is made when first asked for.

        Raises:
            NoData: it is too short.
        """
        self._trained, self._fitted = {}, None
        if len(series.values) < self._method.needs_hours:
            raise NoData(
                f"{self.name} needs {self._method.needs_hours} h of history, got {len(series.values)}"
            )
        self._fitted = series
        self._at(series.last % DAY)

    def can_predict(self, series: Series) -> bool:
        """Whether the end of `series` is long and whole enough."""
        needs = self._method.needs_hours
        return len(series.values) >= needs and not np.isnan(series.filled()[-needs:]).any()

    def predict(self, series: Series, hours: int = HORIZON_HOURS) -> Prediction:
        """Forecast the `hours` after the end of `series`.

        Raises:
            NoData: `fit` was not called, or the end of `series` is too short or too full of gaps.
            ValueError: `hours` is not in 1..96.
        """
        if not 1 <= hours <= HORIZON_HOURS:
            raise ValueError(f"hours must be 1 to {HORIZON_HOURS}, got {hours}")
        if not self.can_predict(series):
            raise NoData(
                f"{self.name}: too little is known of the hours before {from_epoch_hour(series.last)}"
            )
        every = self.forecasts(series, np.array([series.last]))
        rows = (every.points, every.low, every.high)
        return Prediction(from_epoch_hour(series.last), *(row[0, :hours] for row in rows))

    def forecasts(self, series: Series, issues: Hours) -> Forecasts:
        """Forecast at each of `issues`, epoch hours a whole number of days apart, none before the fit's end.

        Each row depends on nothing in `series` at or after its issue.

        Raises:
            NoData: `fit` was not called, or `series` is too short.
        """
        trained = self._at(int(issues[0]) % DAY)
        past, past_points = self._record(trained, series, int(issues[-1]))
        errors = np.log(_actual(series, past) / past_points)
        points = self._points(trained, series, issues)
        low, high = _bands(past, errors, issues)
        return Forecasts(
            points=points,
            low=points * np.exp(np.minimum(low, 0)),
            high=points * np.exp(np.maximum(high, 0)),
            recent_errors=_recent_errors(past, errors, issues),
        )

    def _at(self, hour_of_day: int) -> _Trained:
        if hour_of_day not in self._trained:
            self._trained[hour_of_day] = self._train(self._known(), hour_of_day)
        return self._trained[hour_of_day]

    def _known(self) -> Series:
        if self._fitted is None:
            raise NoData(f"{self.name} has not been fitted")
        return self._fitted

    def _train(self, series: Series, hour_of_day: int) -> _Trained:
        days = int(min(CALIBRATION_DAYS, len(series.values) / DAY * CALIBRATION_SHARE))
        cut = series.last - days * DAY
        held_out = np.arange(cut + (hour_of_day - cut) % DAY, series.last, DAY)
        points = np.empty((0, HORIZON_HOURS))
        if len(held_out) and held_out[0] - series.first >= self._method.needs_hours:
            points = self._method.train(series.before(cut), hour_of_day)(series, held_out)
        return _Trained(self._method.train(series, hour_of_day), held_out[: len(points)], points)

    def _record(self, trained: _Trained, series: Series, until: int) -> tuple[Hours, Floats]:
        """Give what was forecast, or would have been, before `until`: one issue a day, each from its past alone."""
        last = self._known().last
        since = np.arange(last + (until - last) % DAY, until, DAY)
        since = since[since - series.first >= self._method.needs_hours]
        points = self._points(trained, series, since) if len(since) else np.empty((0, HORIZON_HOURS))
        issues = np.concatenate([trained.held_out_issues, since])
        return issues, np.vstack([trained.held_out_points, points])

    def _points(self, trained: _Trained, series: Series, issues: Hours) -> Floats:
        have = int(issues[0]) - series.first
        if have < self._method.needs_hours:
            raise NoData(f"{self.name} looks back {self._method.needs_hours} h and has {have} h")
        return trained.points(series, issues)


def _actual(series: Series, issues: Hours) -> Floats:
    """Give what came in the 96 h from each of `issues`; NaN before the series and after it."""
    rows = issues - series.first
    actual = np.full((len(issues), HORIZON_HOURS), np.nan)
    inside = (rows >= 0) & (rows < len(series.values))
    actual[inside] = ahead(series.values, rows[inside])
    return actual


def _bands(past: Hours, errors: Floats, issues: Hours) -> tuple[Floats, Floats]:
    """Give the lower and upper edges at each of `issues`, [n, 96], as logarithms relative to the point."""
    edges = [
        _edges(past, errors[:, day : day + DAY], issues, delay=day + DAY)
        for day in range(0, HORIZON_HOURS, DAY)
    ]
    low, high = np.concatenate(edges, axis=2)
    return low, high


def _edges(past: Hours, errors: Floats, issues: Hours, delay: int) -> Floats:
    """Track the edges of one day ahead, [2, n, 24]; what became of a forecast is known `delay` hours after it."""
    edges = np.full((2, len(issues), DAY), np.nan)
    edges_past = np.full((2, len(past), DAY), np.nan)  # of the past forecasts, from what was known then
    shift, settled = np.zeros((2, 1)), 0
    for moment in np.union1d(past, issues):
        while settled < len(past) and past[settled] + delay <= moment:
            shift = shift + STEP * _surprise(errors[settled], edges_past[:, settled])
            settled += 1
        quantiles = _quantiles(errors[max(0, settled - CALIBRATION_DAYS) : settled])
        width = (quantiles[1] - quantiles[0]) / 2
        moved = (quantiles + _OUTWARD * shift * width)[:, None]
        edges_past[:, past == moment] = moved
        edges[:, issues == moment] = moved
    return edges


def _quantiles(errors: Floats) -> Floats:
    """Give the 10 % and 90 % quantiles of whole days of errors, [2, 24]; NaN if there are too few.

    The next error lies below the r-th least of n with probability r / (n + 1), Weibull's plotting position. As
    `np.quantile(..., method="weibull")`, in a fifth of its time.
    """
    known = np.sort(errors[~np.isnan(errors).any(axis=1)], axis=0)
    if len(known) < LEAST_CALIBRATION_DAYS:
        return np.full((2, DAY), np.nan)
    part, whole = math.modf(_MISS * (len(known) + 1))
    rank = int(whole)
    low = known[rank - 1] + part * (known[rank] - known[rank - 1])
    high = known[-rank] + part * (known[-rank - 1] - known[-rank])
    return np.stack([low, high])


def _surprise(errors: Floats, edges: Floats) -> Floats:
    """Give the share of misses above what is due, per side [2, 1]; nothing if nothing is known of that day."""
    known = ~np.isnan(errors + edges[0])
    if not known.any():
        return np.zeros((2, 1))
    misses = _OUTWARD * (errors - edges) > 0
    surprise: Floats = misses[:, known].mean(axis=1, keepdims=True) - _MISS
    return surprise


def _recent_errors(past: Hours, errors: Floats, issues: Hours) -> Floats:
    """Give the errors of the 60 days before each of `issues`, [n, 60], newest first."""
    recent = np.full((len(issues), RECENT_DAYS), np.nan)
    daily = np.mean(np.abs(1 - np.exp(-errors[:, :DAY])), axis=1) * 100  # |actual - point| / actual
    days_ago = (issues[:, None] - past) // DAY
    row, day = np.nonzero((days_ago >= 1) & (days_ago <= RECENT_DAYS))
    recent[row, days_ago[row, day] - 1] = daily[day]
    return recent
