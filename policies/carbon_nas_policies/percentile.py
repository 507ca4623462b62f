"""The default: the present hour against the zone's own last days."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, ClassVar

from pydantic import Field

from carbon_nas.model import Decision, Reading, Situation, Window
from carbon_nas_policies._window import decide, describe, settle, unknown

ENOUGH_HOURS = 24.0


@dataclass(frozen=True)
class PercentileOptions:
    """A window becomes clean below the percentile `percentile`, and dirty from `hysteresis` points above it.

    Raises:
        ValueError: the two together exceed 100.
    """

    percentile: Annotated[float, Field(gt=0, le=100)] = 40.0
    hysteresis: Annotated[float, Field(ge=0)] = 10.0
    history_days: Annotated[float, Field(gt=0)] = 7.0
    minimum_dwell_minutes: Annotated[float, Field(ge=0)] = 30.0

    def __post_init__(self) -> None:
        if self.percentile + self.hysteresis > 100:
            raise ValueError(
                f"percentile + hysteresis must not exceed 100, got {self.percentile:g} + {self.hysteresis:g}"
            )


class Percentile:
    """Trains while the intensity is low for this zone and these days, so it needs no limit in g/kWh.

    An hour's percentile is the share of the last days' time that was cleaner than it. With less than a day of
    history the hour is compared with what there is; with none it is taken for dirty.
    """

    Options: ClassVar[type] = PercentileOptions

    def __init__(self, options: PercentileOptions) -> None:
        self._options = options

    def decide(self, situation: Situation) -> Decision:
        """Compare the present intensity with those of the last days."""
        current = situation.grid.current
        if current is None:
            return unknown(situation)
        options = self._options
        oldest = situation.now - timedelta(days=options.history_days)
        past = [r for r in situation.grid.history if oldest < r.end <= situation.now]
        hours = sum(map(_hours, past))
        if not hours:
            words = f"{describe(current)}, and no history to compare it with: treated as dirty"
            return decide(situation, Window.DIRTY, words)
        cleaner = sum(_hours(reading) for reading in past if reading.grams_per_kwh < current.grams_per_kwh)
        rank = 100.0 * cleaner / hours
        window, held = settle(
            situation,
            becomes_clean=rank < options.percentile,
            stays_clean=rank < options.percentile + options.hysteresis,
            minimum_dwell_minutes=options.minimum_dwell_minutes,
        )
        was_clean = situation.previous is not None and situation.previous.window is Window.CLEAN
        limit = (
            f"dirty from the {_ordinal(options.percentile + options.hysteresis)}"
            if was_clean
            else f"clean below the {_ordinal(options.percentile)}"
        )
        span = f"{options.history_days:g} days" if hours >= ENOUGH_HOURS else f"{hours:.1f} hours known"
        words = (
            f"{describe(current)} is at the {_ordinal(rank)} percentile of the last {span} ({limit}){held}"
        )
        return decide(situation, window, words)


def _hours(reading: Reading) -> float:
    return (reading.end - reading.start).total_seconds() / 3600


def _ordinal(number: float) -> str:
    whole = int(number)  # rounded down, so that the words agree with the comparison
    ending = "th" if whole % 100 in {11, 12, 13} else {1: "st", 2: "nd", 3: "rd"}.get(whole % 10, "th")
    return f"{whole}{ending}"
