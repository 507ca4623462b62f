"""Which forecaster to believe: the one that erred least of late."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from carbon_nas.errors import NoData
from carbon_nas.grid.forecast.base import HORIZON_HOURS, Prediction, Series
from carbon_nas.grid.forecast.conformal import RECENT_DAYS, Conformal, Forecasts
from carbon_nas.grid.forecast.logridge import LogRidge
from carbon_nas.grid.forecast.naive import MEAN7, PERSISTENCE, WEEKLY
from carbon_nas.grid.forecast.ridge import Ridge


def all_forecasters() -> list[Conformal]:
    """Make one of each, the one to be preferred first."""
    return [Conformal(method) for method in (LogRidge(), Ridge(), MEAN7, WEEKLY, PERSISTENCE)]


MARGIN = 0.95
"""Another forecaster displaces the first when its recent error is below this share of the first's: two months of
errors cannot tell closer ones apart."""


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
        known = {key: float(each.recent_mape[0]) for key, each in made.items()}
        choice = Choice(name, {key: None if np.isnan(mape) else mape for key, mape in known.items()})
        chosen = next(forecaster for forecaster in self._able if forecaster.name == name)
        return choice, chosen.predict(series, hours)


def names_chosen(made: dict[str, Forecasts]) -> list[str]:
    """Name the forecaster to believe at each issue: the first, unless another erred less by the `MARGIN` of late.

    Those whose error is unknown come last, in order.
    """
    names = list(made)
    errors = np.array([forecasts.recent_mape for forecasts in made.values()])
    errors = np.where(np.isnan(errors), np.inf, errors)
    errors[0] *= MARGIN
    return [names[index] for index in np.argmin(errors, axis=0)]


def _fits(forecaster: Conformal, series: Series) -> bool:
    try:
        forecaster.fit(series)
    except NoData:
        return False
    return True
