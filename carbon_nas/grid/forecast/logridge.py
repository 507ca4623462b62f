"""`logridge`: a ridge regression on logarithms, fitted for the hour of issue, with day shape and calendar."""

from dataclasses import dataclass

import numpy as np

from carbon_nas.grid.forecast.base import (
    DAY,
    HORIZON_HOURS,
    WEEK,
    Floats,
    Hours,
    Points,
    Series,
    ahead,
    lookback,
    require_rows,
)
from carbon_nas.grid.forecast.ridge import Linear, fit_ridge

SHAPE_DAYS = 28
YEAR_HOURS = 365.25 * DAY
MAX_TRAINING_HOURS = 3 * 366 * DAY  # bounds time and memory; older years tell little of the grid of today
CALENDAR_SCALE = 0.1  # small inputs are shrunk harder: a short history must not explain weather by the season
LARGEST_LAG_SCALE = 3.0


@dataclass(frozen=True)
class LogRidge:
    """From logarithms relative to the last day's mean to the next 96 hours.

    Inputs, each shrunk by its scale: the last 168 hours (scale: 1 / days past, so that the last hours may tell
    most), the day's mean shape over 28 days, two harmonics of the year, the day of the week. Windows of all issue
    hours are used, those near `hour_of_day` most: sunrise has its own place in each. The nearness is a Gaussian of
    `width_hours`, wider in proportion where there is less than a year to learn from.
    On logarithms errors count in proportion, so the point is nearer the median than the mean: at or below it.

    All constants were chosen on the year before the last six months of each trace, see `bench/forecast`.
    """

    name: str = "logridge"
    needs_hours: int = SHAPE_DAYS * DAY
    penalty: float = 5.0
    width_hours: float = 4.0
    least_rows: int = 28 * DAY

    def train(self, series: Series, hour_of_day: int) -> Points:
        """Fit on the windows around `hour_of_day` of the last three years."""
        recent = series.values[-MAX_TRAINING_HOURS:]
        first = series.last - len(recent)
        filled = series.filled()[-MAX_TRAINING_HOURS:]
        rows = np.arange(self.needs_hours, len(recent) - HORIZON_HOURS + 1)
        away = np.abs((first + rows - hour_of_day + DAY // 2) % DAY - DAY // 2)
        width = self.width_hours * max(1.0, YEAR_HOURS / len(recent))
        near = away <= 2.5 * width
        rows, away = rows[near], away[near]
        require_rows(self.name, len(rows), self.least_rows)
        inputs, level = _inputs(filled, first, rows)
        outputs = np.log(ahead(recent, rows)) - level
        whole = ~(np.isnan(inputs).any(axis=1) | np.isnan(outputs).any(axis=1))
        require_rows(self.name, int(whole.sum()), self.least_rows)
        closeness = np.exp(-0.5 * (away[whole] / width) ** 2)
        return _LogRidgePoints(fit_ridge(inputs[whole], outputs[whole], self.penalty, closeness))


@dataclass(frozen=True)
class _LogRidgePoints:
    linear: Linear

    def __call__(self, series: Series, issues: Hours) -> Floats:
        inputs, level = _inputs(series.filled(), series.first, issues - series.first)
        points: Floats = np.exp(self.linear(inputs) + level)
        return points


def _inputs(filled: Floats, first: int, rows: Hours) -> tuple[Floats, Floats]:
    """Give the inputs [n, 168 + 24 + 4 + 7] and the level [n, 1] that they and the outputs are relative to."""
    past = lookback(filled, rows, WEEK)
    level = np.log(past[:, -DAY:].mean(axis=1, keepdims=True))
    days_past = np.arange(WEEK, 0, -1) / DAY
    lags = (np.log(past) - level) * np.minimum(1 / days_past, LARGEST_LAG_SCALE)
    shape = np.log(_mean_days(filled, rows)) - level
    return np.hstack([lags, shape, CALENDAR_SCALE * _calendar(first + rows)]), level


def _mean_days(filled: Floats, rows: Hours) -> Floats:
    """Give the mean day of the 28 days before each of `rows`, [n, 24]."""
    reach = (SHAPE_DAYS - 1) * DAY
    end = len(filled) - reach
    total = np.sum([filled[day * DAY : end + day * DAY] for day in range(SHAPE_DAYS)], axis=0)
    days: Floats = np.lib.stride_tricks.sliding_window_view(total / SHAPE_DAYS, DAY)[rows - SHAPE_DAYS * DAY]
    return days


def _calendar(epoch_hours: Hours) -> Floats:
    """Give two harmonics of the year and the day of the week as one-hot, [n, 4 + 7]."""
    angle = 2 * np.pi * (epoch_hours % YEAR_HOURS) / YEAR_HOURS
    waves = [wave(order * angle) for order in (1, 2) for wave in (np.sin, np.cos)]
    weekday = (epoch_hours // DAY) % 7
    return np.column_stack([*waves, np.eye(7)[weekday]])
