"""Which forecaster to believe: the one that erred least of late."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from carbon_nas.errors import NoData
from carbon_nas.grid.forecast.base import HORIZON_HOURS, Floats, Prediction, Series
from carbon_nas.grid.forecast.blend import Blend
from carbon_nas.grid.forecast.conformal import RECENT_DAYS, Conformal, Forecasts
from carbon_nas.grid.forecast.naive import MEAN7, PERSISTENCE, WEEKLY
from carbon_nas.grid.forecast.ridge import Ridge


def all_forecasters() -> list[Conformal]:
    """Make one of each, the one to be preferred first."""
    return [Conformal(method) for method in (Blend(), Ridge(), MEAN7, WEEKLY, PERSISTENCE)]


SIGNIFICANT = 2.0
"""Standard errors by which another must be better than the first to displace it."""


@dataclass(frozen=True)
class Choice:
    """Which forecaster is believed and why. Errors are of the last 60 days' first 24 h, per cent; None: unknown."""

    name: str
    recent_mape: dict[str, float | None]  # of every forecaster that could be fitted

    @property
    def reason(self) -> str:
        """Say it in words."""
        errors = ", ".join(
            f"{name} {'unknown' if mape is None else f'{mape:.1f} %'}"
            for name, mape in self.recent_mape.items()
        )
        return f"{self.name}, by the error of the last {RECENT_DAYS} days, 24 h ahead: {errors}"


class Selector:
    """A `Forecaster` that asks, at each issue, the one of `forecasters` that `names_chosen` names.

    Those that cannot learn from the history given are left out.
    """

    def __init__(self, forecasters: Sequence[Conformal] | None = None) -> None:
        self.name = "default"
        self._all = list(all_forecasters() if forecasters is None else forecasters)
        self._able: list[Conformal] = []

    def fit(self, series: Series) -> None:
        """Fit all.

        Raises:
            NoData: none could be fitted.
        """
        self._able = [forecaster for forecaster in self._all if _fits(forecaster, series)]
        if not self._able:
            raise NoData(f"{len(series.values)} h of history are too few to forecast from")

    def predict(self, series: Series, hours: int = HORIZON_HOURS) -> Prediction:
        """Forecast with the one chosen for the end of `series`.

        Raises:
            NoData: `fit` was not called, or the end of `series` is too short or too full of gaps for all.
        """
        return self.choose(series, hours)[1]

    def choose(self, series: Series, hours: int = HORIZON_HOURS) -> tuple[Choice, Prediction]:
        """Forecast, and say who did and why.

        Raises:
            NoData: as `predict`.
        """
        issue = np.array([series.last])
        made = {each.name: each.forecasts(series, issue) for each in self._able if each.can_predict(series)}
        if not made:
            raise NoData("no forecaster has the history it needs")
        name = names_chosen(made)[0]
        known = {key: float(_means(each.recent_errors)[0]) for key, each in made.items()}
        choice = Choice(name, {key: None if np.isnan(mape) else mape for key, mape in known.items()})
        chosen = next(forecaster for forecaster in self._able if forecaster.name == name)
        return choice, chosen.predict(series, hours)


def names_chosen(made: dict[str, Forecasts]) -> list[str]:
    """Name the forecaster to believe at each issue: the first, unless others were clearly better, then their best.

    Clearly: on the days known of both, the mean difference of their daily errors exceeds two standard errors, the
    test of Diebold and Mariano, "Comparing predictive accuracy" (1995). If nothing is known of the first, the
    best of the others is believed, and the first if nothing is known of any.
    """
    names = list(made)
    errors = np.array([forecasts.recent_errors for forecasts in made.values()])  # [forecasters, issues, 60]
    rank = _means(errors)
    gain = errors[0] - errors
    known = (~np.isnan(gain)).sum(axis=2)
    spread = np.sqrt(_means((gain - _means(gain)[..., None]) ** 2) / np.maximum(known - 1, 1))
    clear = np.isnan(rank[0]) | (_means(gain) > SIGNIFICANT * spread)
    rank = np.where(clear & ~np.isnan(rank), rank, np.inf)
    rank[0] = np.where(np.isfinite(rank[1:]).any(axis=0), np.inf, 0)
    return [names[index] for index in np.argmin(rank, axis=0)]


def _means(values: Floats) -> Floats:
    """Give the means over the last axis of what is known; NaN where nothing is."""
    known = ~np.isnan(values)
    count = known.sum(axis=-1)
    means: Floats = np.where(
        count > 0, np.where(known, values, 0).sum(axis=-1) / np.maximum(count, 1), np.nan
    )
    return means


def _fits(forecaster: Conformal, series: Series) -> bool:
    try:
        forecaster.fit(series)
    except NoData:
        return False
    return True
