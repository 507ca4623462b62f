"""The forecasts that need no fitting: what has been comes again."""

from dataclasses import dataclass

import numpy as np

from carbon_nas.grid.forecast.base import DAY, HORIZON_HOURS, WEEK, Floats, Hours, Points, Series, lookback

_LEADS = np.arange(HORIZON_HOURS)


@dataclass(frozen=True)
class Repeat:
    """Repeats the mean of the last `days` days, `period_hours` long each, for ever."""

    name: str
    period_hours: int
    days: int = 1

    @property
    def needs_hours(self) -> int:
        """How far back a forecast looks."""
        return self.period_hours * self.days

    def train(self, series: Series, hour_of_day: int) -> Points:
        """Give the forecast itself."""
        return self._points

    def _points(self, series: Series, issues: Hours) -> Floats:
        past = lookback(series.filled(), issues - series.first, self.needs_hours)
        cycle: Floats = past.reshape(len(issues), self.days, self.period_hours).mean(axis=1)
        repeated: Floats = cycle[:, _LEADS % self.period_hours]
        return repeated


PERSISTENCE = Repeat("persistence", DAY)
WEEKLY = Repeat("weekly", WEEK)
MEAN7 = Repeat("mean7", DAY, days=7)
