"""Forecasts from a zone's own history, for zones whose providers give none. numpy alone, pure and deterministic.

A *method* (`naive`, `ridge`, `logridge`, `blend`) gives points; `conformal` adds bands that keep their promise;
`selector` picks the best by recent error; `readings` leads from the feed's values to a series and back.
"""

from carbon_nas.grid.forecast.base import HORIZON_HOURS, Forecaster, Prediction, Series
from carbon_nas.grid.forecast.evaluate import evaluate, evaluate_trace
from carbon_nas.grid.forecast.readings import readings_from, series_from
from carbon_nas.grid.forecast.selector import Choice, Selector, all_forecasters

__all__ = [
    "HORIZON_HOURS",
    "Choice",
    "Forecaster",
    "Prediction",
    "Selector",
    "Series",
    "all_forecasters",
    "evaluate",
    "evaluate_trace",
    "readings_from",
    "series_from",
]
