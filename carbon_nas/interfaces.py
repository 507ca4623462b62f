"""Every contract between the rooms, with the duties of whoever implements it.

A plug-in is a class with an inner or assigned `Options` (a dataclass, or pydantic model, whose fields are the
keys of its section in the configuration) and a constructor that takes these options and, by keyword, what the
contract below names. Constructors assign; they neither read files nor open connections. `carbon_nas.testing`
holds conformance suites for providers, policies, spaces and controllers.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from random import Random
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from carbon_nas.model import (
    Capabilities,
    Decision,
    EnergyReading,
    Handle,
    JobSpec,
    Observation,
    Reading,
    RunStatus,
    Situation,
    Slot,
)

if TYPE_CHECKING:  # the daemon never imports torch
    from torch import nn


class Clock(Protocol):
    """The only source of time. `now` never goes back, and is UTC. `speed` is clock seconds per real second."""

    @property
    def speed(self) -> float: ...
    def now(self) -> datetime: ...
    async def sleep_until(self, when: datetime) -> None: ...


class Provider(Protocol):
    """A source of carbon intensities. Constructor: `(options, *, clock, http)`, `http` an httpx.AsyncClient.

    Every method returns whole intervals, oldest first, without duplicates, and raises a `ProviderError` rather
    than return a value that is null, zero, absurd, of another zone or another unit.
    """

    Options: ClassVar[type]

    @property
    def capabilities(self) -> Capabilities: ...

    async def start(self, zone: str) -> None:
        """Check, once and without the network, that the zone can be served.

        Raises:
            ConfigurationError: a file is missing or wrong, or the provider does not know the zone.
        """

    async def latest(self, zone: str) -> Reading:
        """Give the newest reading: the one that covers now if the provider has it."""
        ...

    async def history(self, zone: str, start: datetime, end: datetime) -> Sequence[Reading]:
        """Give the readings whose intervals begin in `[start, end)`, as far as they are past."""
        ...

    async def forecast(self, zone: str, until: datetime) -> Sequence[Reading]:
        """Give what is expected from now to `until`, all of quality FORECAST."""
        ...


class Policy(Protocol):
    """Decides what runs now. Constructor: `(options)`.

    `decide` is pure: the same situation gives the same decision. A degraded grid (`current` is None) is never
    taken for a clean one.
    """

    Options: ClassVar[type]

    def decide(self, situation: Situation) -> Decision: ...


class SearchSpace(Protocol):
    """A set of architectures with a text form. Constructor: `(options)`. Only `build` may import torch."""

    Options: ClassVar[type]

    def sample(self, rng: Random) -> str: ...
    def neighbours(self, arch: str, rng: Random) -> list[str]:
        """Give all architectures one change away, in an order drawn from `rng`."""
        ...

    def encode(self, arch: str) -> tuple[int, ...]:
        """Give the choice made at each decision, in order.

        Raises:
            ValueError: `arch` is not of this space.
        """
        ...

    def decode(self, choices: Sequence[int]) -> str:
        """Undo `encode`."""
        ...

    @property
    def choices(self) -> tuple[int, ...]:
        """How many options each decision has."""
        ...

    def canonical(self, arch: str) -> str:
        """Give the one that stands for all that compute the same when untrained; a space without such gives `arch`.

        Raises:
            ValueError: `arch` is not of this space.
        """
        ...

    def build(self, arch: str, channels: int, classes: int) -> "nn.Module":
        """Make the network, freshly initialised from torch's generator, for images of `channels` planes.

        It may name its `blocks`, the modules that follow each other in it; see `evaluate.proxies.passes`. And the
        space may say which images its networks take; see `search.sides`.
        """
        ...


class Controller(Protocol):
    """Proposes architectures and learns from those that were trained. Constructor: `(options, *, space, seed)`.

    `state_dict` is JSON and holds all that `load_state_dict` needs to go on as if nothing had happened. A class
    with `isolated = True` needs torch, so it runs in a child process.
    """

    Options: ClassVar[type]
    isolated: ClassVar[bool]

    def propose(self, n: int) -> list[str]:
        """Propose up to `n` architectures; the caller drops those it knows."""
        ...

    def observe(self, observations: Sequence[Observation]) -> None: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


class Executor(Protocol):
    """Runs jobs on slots. Constructor: `(options, *, zone, directory)`, the directory its own, for logs.

    Runners follow the protocol of `evaluate.runner`, so that a job can be suspended and found again.
    """

    Options: ClassVar[type]

    def capacity(self) -> Sequence[Slot]: ...

    async def launch(self, spec: JobSpec, slot: Slot) -> Handle:
        """Start an attempt; what an earlier attempt still writes is fenced off. Idempotent on (job, attempt)."""
        ...

    async def request_suspend(self, handle: Handle) -> None:
        """Ask the runner to save and leave; never waits for it."""

    async def kill(self, handle: Handle) -> None:
        """End the attempt at once, unsaved."""

    async def poll(self, handle: Handle) -> RunStatus: ...

    async def release(self, slot: Slot) -> None:
        """Give back what an idle slot still holds, such as a warm runner's memory."""

    async def reattach(self, handles: Sequence[Handle]) -> None:
        """Take up attempts of an earlier daemon; `poll` then tells which are lost."""

    async def close(self) -> None:
        """Let go of everything idle; attempts still running go on."""


class Meter(Protocol):
    """Measures one device's energy, cumulated and never falling.

    Raises on `read`:
        ExecutorError: the device cannot be read now; nothing is counted and the next reading covers the gap.
    """

    @property
    def device(self) -> str: ...
    def read(self) -> EnergyReading: ...
