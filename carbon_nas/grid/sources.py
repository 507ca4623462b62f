"""The providers of one zone in the user's order: whom to ask, what to believe, and whom to leave alone a while."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from typing import TypeVar

import structlog

from carbon_nas.errors import (
    AccessDenied,
    BadData,
    ConfigurationError,
    NoData,
    ProviderError,
    RateLimited,
    Unavailable,
)
from carbon_nas.interfaces import Clock, Provider
from carbon_nas.model import Basis, Capabilities, Quality, Reading, Signal

Answer = TypeVar("Answer")

ANSWER_SECONDS = 120.0  # of real time; a provider's own time-outs and retries should end long before
LONGEST_BACK_OFF_SECONDS = 3600.0
KNOWN_QUALITIES = frozenset({Quality.ACTUAL, Quality.ESTIMATED, Quality.FORECAST})

OUTCOMES: tuple[tuple[type[BaseException], str], ...] = (  # the first that fits
    (RateLimited, "rate_limited"),
    (Unavailable, "unavailable"),
    (TimeoutError, "unavailable"),
    (NoData, "no_data"),
    (BadData, "bad_data"),
    (AccessDenied, "access_denied"),
    (ProviderError, "unavailable"),
    (Exception, "defect"),
)


class Sources:
    """Asks the providers in order until one answers.

    Attributes:
        outcomes: how often each (provider, outcome) was seen; the outcomes are "ok" and those of `OUTCOMES`.
        last_success: when a provider last answered. None: never.
        last_error: when the last failure was, and what, in words. None: never.
    """

    def __init__(
        self, clock: Clock, zone: str, providers: Mapping[str, Provider], *, poll_seconds: float
    ) -> None:
        self.outcomes: Counter[tuple[str, str]] = Counter()
        self.last_success: datetime | None = None
        self.last_error: str | None = None
        self._clock = clock
        self._zone = zone
        self._providers = dict(providers)
        self._poll_seconds = poll_seconds
        self._failures: Counter[str] = Counter()  # in a row
        self._resume_at: dict[str, datetime] = {}
        self._log = structlog.get_logger(__name__)

    async def start(self) -> None:
        """Start every provider, and make sure that they count the same emissions.

        Raises:
            ConfigurationError: there is none, one cannot serve the zone, or one counts other emissions.
        """
        if not self._providers:
            raise ConfigurationError("no provider is named", key="grid.providers")
        for provider in self._providers.values():
            await provider.start(self._zone)
        for name in self._providers:
            if self._kind(name) != self.kind:
                raise ConfigurationError(
                    f"{name!r} gives {' '.join(self._kind(name))} emissions but {self.first!r}, the first"
                    f" provider, {' '.join(self.kind)} ones; the two cannot be mixed: name one kind only",
                    key="grid.providers",
                )

    @property
    def first(self) -> str:
        """The name of the provider that is asked first."""
        return next(iter(self._providers))

    @property
    def kind(self) -> tuple[Signal, Basis]:
        """What the first provider's intensities count, and so what all must."""
        return self._kind(self.first)

    @property
    def step(self) -> timedelta:
        """The length of the first provider's intervals."""
        return self._providers[self.first].capabilities.step

    async def ask(
        self,
        question: Callable[[Provider], Awaitable[Answer]],
        *,
        can: Callable[[Capabilities], bool] = lambda _: True,
    ) -> Answer | None:
        """Give the first answer that a provider has; None if none has any. Never raises for a failure."""
        for name, provider in self._providers.items():
            if not can(provider.capabilities) or self._backing_off(name):
                continue
            try:
                async with asyncio.timeout(ANSWER_SECONDS):
                    answer = await question(provider)
            except Exception as error:  # noqa: BLE001 -- a stranger's defect must not stop the daemon
                self._note_failure(name, error)
            else:
                self._note_success(name)
                return answer
        return None

    def credible(self, readings: Sequence[Reading]) -> Sequence[Reading]:
        """Give `readings` back if they are of this zone and kind, in order and without overlap.

        Raises:
            BadData: they are not; none of them can be used.
        """
        for reading in readings:
            if reading.zone != self._zone:
                raise BadData(f"{reading.provider} answered for zone {reading.zone}, not {self._zone}")
            if (reading.signal, reading.basis) != self.kind:
                raise BadData(f"{reading.provider} sent {reading.signal} {reading.basis} emissions")
            if reading.quality not in KNOWN_QUALITIES:
                raise BadData(f"{reading.provider} sent a reading of quality {reading.quality}")
        if any(before.end > after.start for before, after in pairwise(readings)):
            raise BadData(f"{readings[0].provider} sent intervals that overlap or are out of order")
        return readings

    @property
    def can_forecast(self) -> bool:
        """Whether any provider gives forecasts."""
        return any(provider.capabilities.forecast for provider in self._providers.values())

    @property
    def patience(self) -> timedelta:
        """How long ago the newest reading may have ended before something is wrong: the slowest provider's lag."""
        return max(provider.capabilities.lag for provider in self._providers.values())

    def refuse(self, reading: Reading) -> None:
        """Take note of a single reading that cannot be believed."""
        self.outcomes[reading.provider, "implausible"] += 1
        self._remember(
            reading.provider,
            f"{reading.grams_per_kwh:g} g/kWh at {reading.start:%Y-%m-%dT%H:%MZ} is far outside this zone's last"
            " days; not used",
        )
        self._log.warning("implausible reading", provider=reading.provider, error=self.last_error)

    def _kind(self, name: str) -> tuple[Signal, Basis]:
        capabilities = self._providers[name].capabilities
        return capabilities.signal, capabilities.basis

    def _backing_off(self, name: str) -> bool:
        return name in self._resume_at and self._clock.now() < self._resume_at[name]

    def _note_success(self, name: str) -> None:
        self.outcomes[name, "ok"] += 1
        self.last_success = self._clock.now()
        self._failures.pop(name, None)
        self._resume_at.pop(name, None)

    def _note_failure(self, name: str, error: Exception) -> None:
        outcome = next(word for kind, word in OUTCOMES if isinstance(error, kind))
        self.outcomes[name, outcome] += 1
        self._remember(name, str(error) or type(error).__name__)
        self._log.warning(
            "grid provider failed",
            provider=name,
            outcome=outcome,
            error=self.last_error,
            exc_info=error if outcome == "defect" else None,
        )
        if not isinstance(error, NoData | BadData):  # those answered, and may know better at the next poll
            self._failures[name] += 1
            self._resume_at[name] = self._clock.now() + timedelta(seconds=self._back_off(name, error))

    def _remember(self, name: str, problem: str) -> None:
        self.last_error = f"{self._clock.now():%Y-%m-%dT%H:%MZ} {name}: {problem}"

    def _back_off(self, name: str, error: Exception) -> float:
        if isinstance(error, RateLimited):
            return max(error.retry_after_seconds, self._poll_seconds)
        if isinstance(error, AccessDenied):
            return LONGEST_BACK_OFF_SECONDS
        doubled = self._poll_seconds * 2.0 ** min(self._failures[name] - 1, 16)
        return min(doubled, LONGEST_BACK_OFF_SECONDS)
