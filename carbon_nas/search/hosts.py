"""Where a controller runs: in the daemon if it is light, in a child process if it needs torch."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from carbon_nas.errors import CarbonNasError, SearchError
from carbon_nas.interfaces import Controller
from carbon_nas.model import Observation
from carbon_nas.search.child import ChildController
from carbon_nas.search.worker import Recipe, proposals


class AsyncController(Protocol):
    """A controller, wherever it runs. A call that raises SearchError has not happened and may be made again."""

    async def start(self, state: Mapping[str, Any] | None = None) -> None:
        """Begin anew, or go on where `state` was taken."""

    async def propose(self, n: int) -> list[str]:
        """Propose up to `n` architectures; the caller drops those it knows."""
        ...

    async def observe(self, observations: Sequence[Observation]) -> None:
        """Learn."""

    async def state_dict(self) -> dict[str, Any]:
        """Give what `start` needs to go on from here, JSON."""
        ...

    async def close(self) -> None:
        """End the process, if there is one."""

    def cpu_seconds(self) -> float:
        """Give the processor time used outside the daemon's own process. Never falls."""
        ...


class LocalController:
    """Runs a controller that needs no torch in the daemon itself."""

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe
        self._controller: Controller | None = None

    async def start(self, state: Mapping[str, Any] | None = None) -> None:
        """Make the controller."""
        self._controller = None
        with self._reported("start") as controller:
            if state is not None:
                controller.load_state_dict(state)

    async def propose(self, n: int) -> list[str]:
        """Propose up to `n` architectures."""
        with self._reported("propose") as controller:
            return proposals(controller, n)

    async def observe(self, observations: Sequence[Observation]) -> None:
        """Let the controller learn."""
        with self._reported("observe") as controller:
            controller.observe(observations)

    async def state_dict(self) -> dict[str, Any]:
        """Give the controller's state."""
        with self._reported("state_dict") as controller:
            return controller.state_dict()

    async def close(self) -> None:
        """Nothing to end."""

    def cpu_seconds(self) -> float:
        """Nothing: its time is in the daemon's own."""
        return 0.0

    @contextmanager
    def _reported(self, call: str) -> Iterator[Controller]:
        """Give the controller, made anew if need be; its exceptions become SearchError."""
        try:
            if self._controller is None:
                self._controller = self._recipe.build()
            yield self._controller
        except CarbonNasError:
            raise
        except Exception as error:
            raise SearchError(f"controller {self._recipe.name} failed at {call}: {error!r}") from error


def make_controller(
    name: str,
    options: Mapping[str, object],
    space_name: str,
    space_options: Mapping[str, object],
    seed: int,
    *,
    key: str = "search",
) -> AsyncController:
    """Choose the host that the controller's class asks for; nothing starts before `start`.

    A class tells by `isolated`, so its module must be importable without torch (the conformance suite tests it).

    Raises:
        ConfigurationError: a name or an option is wrong; it names `<key>.controller` or `<key>.space`.
    """
    recipe = Recipe(name, options, space_name, space_options, seed, key)
    return ChildController(recipe) if recipe.isolated else LocalController(recipe)
