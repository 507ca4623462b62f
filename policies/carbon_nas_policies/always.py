"""The carbon-blind baseline."""

from dataclasses import dataclass
from typing import ClassVar

from carbon_nas.model import Decision, Situation, Window
from carbon_nas_policies._window import decide, describe


@dataclass(frozen=True)
class AlwaysOptions:
    """Nothing to set."""


class Always:
    """Trains on all slots, and scores on those left over, whatever the grid does."""

    Options: ClassVar[type] = AlwaysOptions
    carbon_blind: ClassVar[bool] = True

    def __init__(self, options: AlwaysOptions) -> None:
        self._options = options

    def decide(self, situation: Situation) -> Decision:
        """Take every hour for a clean one."""
        current = situation.grid.current
        now = describe(current) if current else "unknown"
        return decide(situation, Window.CLEAN, f"carbon-blind: trains at any intensity (now {now})")
