"""`blend`: between `logridge`, which errs less, and `ridge`, which sometimes ranks the hours better."""

from dataclasses import dataclass, field

from carbon_nas.grid.forecast.base import Floats, Hours, Method, Points, Series
from carbon_nas.grid.forecast.logridge import YEAR_HOURS, LogRidge
from carbon_nas.grid.forecast.ridge import Ridge


@dataclass(frozen=True)
class Blend:
    """The weighted mean, on logarithms, of two methods: a combination of forecasts, by fixed weights.

    Bates and Granger, "The combination of forecasts", Operational Research Quarterly 20 (1969). Less than a year of
    history gives the second more weight: the first has more to learn. Chosen without the test months, see
    `bench/forecast`.
    """

    name: str = "blend"
    first: Method = field(default_factory=LogRidge)
    second: Method = field(default_factory=Ridge)
    second_share: float = 1 / 3
    second_share_below_a_year: float = 1 / 2

    @property
    def needs_hours(self) -> int:
        """How far back a forecast looks."""
        return max(self.first.needs_hours, self.second.needs_hours)

    def train(self, series: Series, hour_of_day: int) -> Points:
        """Train both.

        Raises:
            NoData: `series` is too short for one of them.
        """
        short = len(series.values) < YEAR_HOURS
        return _BlendPoints(
            self.first.train(series, hour_of_day),
            self.second.train(series, hour_of_day),
            self.second_share_below_a_year if short else self.second_share,
        )


@dataclass(frozen=True)
class _BlendPoints:
    first: Points
    second: Points
    second_share: float

    def __call__(self, series: Series, issues: Hours) -> Floats:
        one, other = self.first(series, issues), self.second(series, issues)
        points: Floats = one ** (1 - self.second_share) * other**self.second_share
        return points
