"""What every provider that asks over HTTP has in common; a provider adds its addresses, its parser and its words.

Subclass `HttpProvider`, ours or yours: give a `NAME`, `Options`, `capabilities`, a `check_zone`, and the questions
`present`, `past` and `ahead`. Each question names its path, its parameters and the pure function that reads the answer.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, ClassVar, TypeVar

import httpx
import structlog
from pydantic import SecretStr

from carbon_nas import secrets
from carbon_nas.errors import ConfigurationError, NoData, RateLimited
from carbon_nas.grid.answers import NO_VALUE, Points, floor_to
from carbon_nas.grid.cache import cache_key
from carbon_nas.grid.http import GridClient, Keys, Retry, TimeOuts, fetch
from carbon_nas.grid.rate_limit import TokenBucket
from carbon_nas.interfaces import Clock
from carbon_nas.model import Capabilities, Quality, Reading

Content = TypeVar("Content")

ANEW = timedelta.resolution
"""An age that no kept answer is below, though the new one is kept; with 0 it is not."""


@dataclass(frozen=True, kw_only=True)
class ServiceOptions:
    """Where a service is, and how patiently and how often it is asked.

    An answer less than `max_age_seconds` old, kept on disk, is used instead of asking.

    Raises:
        ValueError: a number or the address makes no sense.
    """

    base_url: str
    retry: Retry = field(default_factory=Retry)
    time_outs: TimeOuts = field(default_factory=TimeOuts)
    requests_per_minute: float = 60.0
    burst: int = 10
    max_age_seconds: float = 60.0

    def __post_init__(self) -> None:
        if httpx.URL(self.base_url).scheme not in {"http", "https"} or not httpx.URL(self.base_url).host:
            raise ValueError("base_url must begin with https:// or http:// and name a host")
        if not 0 < self.requests_per_minute <= 6000 or self.burst < 1:
            raise ValueError("requests_per_minute must be above 0 and at most 6000, burst at least 1")
        if not 0 <= self.max_age_seconds < float("inf"):
            raise ValueError("max_age_seconds must not be negative")


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked, and how the answer's bytes are read. Holds no secret."""

    path: str
    params: Mapping[str, str] = field(default_factory=dict)
    parse: Callable[[bytes], Points] = field(kw_only=True)
    accept: str = "application/json"


class Service:
    """One provider's way to its service: rate limit, cache, and the shared HTTP layer."""

    def __init__(self, name: str, options: ServiceOptions, *, clock: Clock, http: httpx.AsyncClient) -> None:
        self._name = name
        self._options = options
        self._clock = clock
        self._http = http
        self._cache = http.cache if isinstance(http, GridClient) else None
        self._bucket = TokenBucket(clock, per_minute=options.requests_per_minute, burst=options.burst)

    async def ask(
        self,
        path: str,
        params: Mapping[str, str],
        parse: Callable[[bytes], Content],
        *,
        keys: Keys,
        accept: str = "application/json",
        max_age: timedelta | None = None,
    ) -> tuple[Content, datetime]:
        """Give what `parse` makes of the answer, and when it was fetched. Only an answer it accepts is kept.

        Raises:
            ProviderError: there is no usable answer.
        """
        url = self._options.base_url.rstrip("/") + path
        key = cache_key("GET", url, params)
        max_age = timedelta(seconds=self._options.max_age_seconds) if max_age is None else max_age
        kept = self._cache.get(key, self._clock.now(), max_age) if self._cache else None
        if kept is not None:
            return parse(kept.body), kept.fetched_at
        await self._wait()
        body = await fetch(
            self._http,
            url,
            source=self._name,
            params=params,
            keys=keys,
            retry=self._options.retry,
            time_outs=self._options.time_outs,
            accept=accept,
        )
        content, now = parse(body), self._clock.now()
        if self._cache and max_age:
            self._cache.put(key, body, now)
        return content, now

    async def _wait(self) -> None:
        wait = self._bucket.wait_seconds()
        if wait > self._options.retry.longest_wait_seconds:
            raise RateLimited(f"{self._name}: asked too often; {wait:.0f} s until the next question", wait)
        await self._bucket.take()


class HttpProvider:
    """A provider over HTTP."""

    NAME: ClassVar[str]
    Options: ClassVar[type]
    LONGEST_RANGE: ClassVar[timedelta] = timedelta(days=7)

    def __init__(self, options: Any, *, clock: Clock, http: httpx.AsyncClient) -> None:
        self.options = options
        self.clock = clock
        self.service = Service(self.NAME, options, clock=clock, http=http)
        self._log = structlog.get_logger(__name__)

    @property
    def capabilities(self) -> Capabilities:
        """What the service can tell, and under which licence."""
        raise NotImplementedError

    def check_zone(self, zone: str) -> None:
        """Refuse a zone that the service cannot serve.

        Raises:
            ConfigurationError: it cannot.
        """
        raise NotImplementedError

    def present(self, zone: str, now: datetime) -> Question:
        """Ask for the newest intervals."""
        raise NotImplementedError

    def past(self, zone: str, start: datetime, end: datetime) -> Question:
        """Ask for intervals that begin in `[start, end)`, at most `LONGEST_RANGE`; more may come, and is dropped."""
        raise NotImplementedError

    def ahead(self, zone: str, now: datetime, until: datetime) -> Question:
        """Ask for the forecast from `now` to `until`."""
        raise NotImplementedError

    async def keys(self) -> Keys:
        """Give what proves who asks."""
        return Keys()

    async def start(self, zone: str) -> None:
        """Check the zone, and that the keys are set.

        Raises:
            ConfigurationError: the zone is not served, or a key is not set.
        """
        self.check_zone(zone)
        for name in secrets.secret_fields(type(self.options)):
            if not reveal(getattr(self.options, name)):
                raise ConfigurationError(
                    f"{self.NAME!r} needs a {name}; set {secrets.variable(self.NAME, name)}, or the credential "
                    f"{self.NAME}-{name}",
                    key=f"grid.{self.NAME}.{name}",
                )

    async def latest(self, zone: str) -> Reading:
        """Give the newest interval that has begun.

        Raises:
            ProviderError: no usable answer.
        """
        now = self.clock.now()
        points = await self.ask(zone, self.present(zone, now))
        if points[0].fetched_at < floor_to(
            now, self.capabilities.step
        ):  # kept from before the present interval
            points = await self.ask(zone, self.present(zone, now), max_age=ANEW)
        begun = [point for point in points if point.start <= now]
        if not begun:
            raise NoData(f"{self.NAME}: no interval that has begun for {zone}")
        return begun[-1]

    async def history(self, zone: str, start: datetime, end: datetime) -> Sequence[Reading]:
        """Give the intervals that begin in `[start, end)` and have ended.

        Raises:
            ProviderError: no usable answer.
        """
        if not self.capabilities.history:
            raise NoData(f"{self.NAME} has no history")
        points: dict[datetime, Reading] = {}
        missing: NoData | None = None
        end = min(end, self.clock.now())
        while start < end:
            until = min(start + self.LONGEST_RANGE, end)
            try:
                part = await self.ask(zone, self.past(zone, start, until))
            except NoData as error:  # a gap of days must not hide what lies around it
                part, missing = [], error
            points.update((point.start, point) for point in part if start <= point.start < until)
            start = until
        if missing is not None and not points:
            raise missing
        now = self.clock.now()
        return [points[begin] for begin in sorted(points) if points[begin].end <= now]

    async def forecast(self, zone: str, until: datetime) -> Sequence[Reading]:
        """Give what is expected from the present interval on, up to `until` and often less.

        Raises:
            ProviderError: no usable answer.
        """
        if not self.capabilities.forecast:
            raise NoData(f"{self.NAME} has no forecast")
        now = self.clock.now()
        points = await self.ask(zone, self.ahead(zone, now, until))
        return [
            point
            for point in points
            if point.quality is Quality.FORECAST and now < point.end and point.start < until
        ]

    async def ask(self, zone: str, question: Question, max_age: timedelta | None = None) -> list[Reading]:
        """Ask, and give the answer's credible intervals as readings of `zone`, in order.

        `max_age` is how old a kept answer may be; None: as the options say.

        Raises:
            ProviderError: there is none.
        """
        skipped: Mapping[str, int] = {}

        def read(body: bytes) -> list[Any]:
            nonlocal skipped
            points = question.parse(body)
            skipped = points.skipped
            return points.credible()

        points, fetched_at = await self.service.ask(
            question.path,
            question.params,
            read,
            keys=await self.keys(),
            accept=question.accept,
            max_age=max_age,
        )
        strange = {reason: count for reason, count in skipped.items() if reason != NO_VALUE}
        if strange:
            self._log.warning("left out of an answer", provider=self.NAME, zone=zone, rows=strange)
        kind = self.capabilities
        return [
            Reading(
                zone=zone,
                start=point.start,
                end=point.end,
                grams_per_kwh=point.grams_per_kwh,
                quality=point.quality,
                signal=kind.signal,
                basis=kind.basis,
                provider=self.NAME,
                fetched_at=fetched_at,
            )
            for point in points
        ]


def reveal(secret: SecretStr | None) -> str:
    """Give a secret's text; nothing if it is not set."""
    return "" if secret is None else secret.get_secret_value()


__all__ = ["HttpProvider", "Keys", "Question", "Service", "ServiceOptions", "reveal"]
