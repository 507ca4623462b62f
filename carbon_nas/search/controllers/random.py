"""Random search: the baseline that every other controller has to beat."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, ClassVar

from carbon_nas.interfaces import SearchSpace
from carbon_nas.model import Observation


@dataclass(frozen=True, slots=True)
class RandomOptions:
    """There is nothing to set."""


class RandomSearch:
    """Proposes architectures as `space.sample` draws them, and learns nothing.

    The k-th proposal depends on `seed` and k alone, not on how many are asked for at a time.
    """

    Options: ClassVar[type] = RandomOptions
    isolated: ClassVar[bool] = False

    def __init__(self, options: RandomOptions, *, space: SearchSpace, seed: int) -> None:
        self._space = space
        self._seed = seed
        self._proposed = 0

    def propose(self, n: int) -> list[str]:
        """Draw `n` architectures; some may be equal."""
        first, self._proposed = self._proposed, self._proposed + n
        return [self._space.sample(Random(f"{self._seed}:{k}")) for k in range(first, self._proposed)]

    def observe(self, observations: Sequence[Observation]) -> None:
        """Ignore them."""

    def state_dict(self) -> dict[str, Any]:
        """Give the seed and how many were proposed."""
        return {"seed": self._seed, "proposed": self._proposed}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state` was taken, with its seed."""
        self._seed, self._proposed = state["seed"], state["proposed"]
