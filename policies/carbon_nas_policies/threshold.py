"""Absolute limits in g/kWh, with hysteresis."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field

from carbon_nas.model import Decision, Situation, Window
from carbon_nas_policies._window import decide, describe, settle, unknown


@dataclass(frozen=True)
class ThresholdOptions:
    """A window becomes clean below `clean_below` and dirty above `dirty_above`, both in g/kWh.

    Raises:
        ValueError: the limits are the wrong way round.
    """

    clean_below: Annotated[float, Field(gt=0)] = 150.0
    dirty_above: Annotated[float, Field(gt=0)] = 200.0
    minimum_dwell_minutes: Annotated[float, Field(ge=0)] = 30.0

    def __post_init__(self) -> None:
        if self.clean_below > self.dirty_above:
            raise ValueError(
                f"clean_below ({self.clean_below:g}) must not be above dirty_above ({self.dirty_above:g})"
            )


class Threshold:
    """Trains while the intensity is low in absolute terms."""

    Options: ClassVar[type] = ThresholdOptions

    def __init__(self, options: ThresholdOptions) -> None:
        self._options = options

    def decide(self, situation: Situation) -> Decision:
        """Compare the present intensity with the limits."""
        current = situation.grid.current
        if current is None:
            return unknown(situation)
        options = self._options
        window, held = settle(
            situation,
            becomes_clean=current.grams_per_kwh < options.clean_below,
            stays_clean=current.grams_per_kwh <= options.dirty_above,
            minimum_dwell_minutes=options.minimum_dwell_minutes,
        )
        was_clean = situation.previous is not None and situation.previous.window is Window.CLEAN
        limit = (
            f"dirty above {options.dirty_above:g}" if was_clean else f"clean below {options.clean_below:g}"
        )
        return decide(situation, window, f"{describe(current)} ({limit} g/kWh){held}")
