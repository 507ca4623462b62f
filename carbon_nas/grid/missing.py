"""What runs while nothing is known of the grid, if the user chose that it should."""

from typing import ClassVar

from carbon_nas.interfaces import Policy
from carbon_nas.model import Decision, Situation, Window


class RunWhenUnknown:
    """A policy that lets everything run while the grid is unknown (`on_missing = "run"`), and else asks another.

    The hour still counts as a dirty one: nobody has seen that it is clean.
    """

    Options: ClassVar[type] = type(None)  # it has none of its own

    def __init__(self, policy: Policy) -> None:
        self._policy = policy

    def decide(self, situation: Situation) -> Decision:
        """Ask the policy if there is anything to ask about."""
        if situation.grid.current is not None:
            return self._policy.decide(situation)
        reason = f"nothing recent is known of {situation.grid.zone}'s grid: set to run regardless"
        return Decision(situation.slots, situation.slots, Window.DIRTY, reason)
