"""`ridge`: one ridge regression from the last week to the next four days; and the regression itself."""

from dataclasses import dataclass

import numpy as np

from carbon_nas.grid.forecast.base import (
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

FLOOR_SHARE = 0.02
"""A forecast is at least this share of the recent mean: a straight line can fall below zero, a grid cannot."""


@dataclass(frozen=True)
class Linear:
    """A fitted linear map, [n, inputs] to [n, outputs]."""

    centre: Floats  # [inputs]
    offset: Floats  # [outputs]
    weights: Floats  # [inputs, outputs]

    def __call__(self, inputs: Floats) -> Floats:
        """Apply it."""
        outputs: Floats = (inputs - self.centre) @ self.weights + self.offset
        return outputs


def fit_ridge(
    inputs: Floats, outputs: Floats, penalty: float, sample_weights: Floats | None = None
) -> Linear:
    """Minimise the weighted squared error + `penalty` x squared weights, the intercept unpenalised.

    Hoerl and Kennard, Technometrics 12 (1970), by the normal equations. Weights are scaled to a mean of 1.
    """
    share = np.ones(len(inputs)) if sample_weights is None else sample_weights / sample_weights.mean()
    centre = np.average(inputs, axis=0, weights=share)
    offset = np.average(outputs, axis=0, weights=share)
    root = np.sqrt(share)[:, None]
    centred = (inputs - centre) * root
    normal = centred.T @ centred + penalty * np.eye(inputs.shape[1])
    weights = np.linalg.solve(normal, centred.T @ ((outputs - offset) * root))
    return Linear(centre, offset, weights)


@dataclass(frozen=True)
class Ridge:
    """From the last 168 hours, divided by their mean, to the next 96: no calendar, no weather, no mix."""

    name: str = "ridge"
    needs_hours: int = WEEK
    penalty: float = 30.0
    stride_hours: int = 6
    least_rows: int = 28

    def train(self, series: Series, hour_of_day: int) -> Points:
        """Fit one map on windows `stride_hours` apart, from the first on."""
        filled = series.filled()
        rows = np.arange(WEEK, len(filled) - HORIZON_HOURS + 1, self.stride_hours)
        require_rows(self.name, len(rows), self.least_rows)
        past, future = lookback(filled, rows, WEEK), ahead(series.values, rows)
        mean = past.mean(axis=1, keepdims=True)
        inputs, outputs = past / mean, future / mean
        whole = ~(np.isnan(inputs).any(axis=1) | np.isnan(outputs).any(axis=1))
        require_rows(self.name, int(whole.sum()), self.least_rows)
        return _RidgePoints(fit_ridge(inputs[whole], outputs[whole], self.penalty))


@dataclass(frozen=True)
class _RidgePoints:
    linear: Linear

    def __call__(self, series: Series, issues: Hours) -> Floats:
        past = lookback(series.filled(), issues - series.first, WEEK)
        mean = past.mean(axis=1, keepdims=True)
        points: Floats = mean * np.maximum(self.linear(past / mean), FLOOR_SHARE)
        return points
