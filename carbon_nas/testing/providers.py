"""What every provider must do, whatever it asks."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import timedelta
from itertools import pairwise
from typing import TypeAlias

import httpx
import pytest

from carbon_nas.errors import ConfigurationError, NoData, ProviderError
from carbon_nas.interfaces import Clock, Provider
from carbon_nas.model import Quality, Reading
from carbon_nas.testing.faults import FAULTS, Fault

DAY = timedelta(days=1)

WHOLE_FAULTS = {name: fault for name, fault in FAULTS.items() if not fault.needs_a_server}

Through: TypeAlias = Callable[[httpx.AsyncClient], Provider]
"""Makes the provider under test with this client, not yet started, and such that it never waits to ask again."""


class ProviderConformance:
    """Subclass it and override the fixtures.

    `provider` has not been started; `clock`, the one it was made with, shows a time within its data.
    """

    unknown_zone = "XX-NOWHERE"

    @pytest.fixture
    def clock(self) -> Clock:
        """Give the clock that the provider was made with."""
        raise NotImplementedError("override the fixture `clock`")

    @pytest.fixture
    def provider(self, clock: Clock) -> Provider:
        """Give the provider under test, not yet started."""
        raise NotImplementedError("override the fixture `provider`")

    @pytest.fixture
    def zone(self) -> str:
        """Give a zone that the provider serves."""
        raise NotImplementedError("override the fixture `zone`")

    @pytest.fixture
    def started(self, provider: Provider, zone: str) -> Provider:
        """Give the provider, started."""
        asyncio.run(provider.start(zone))
        return provider

    def test_latest_is_present_and_of_the_zone(self, started: Provider, clock: Clock, zone: str) -> None:
        """The newest reading has begun, and echoes what was asked."""
        latest = asyncio.run(started.latest(zone))
        assert latest.start <= clock.now()
        self.check([latest], started, zone)

    def test_history_is_past_and_within_the_range(self, started: Provider, clock: Clock, zone: str) -> None:
        """Intervals begin in the half-open range asked for, and have ended."""
        if not started.capabilities.history:
            pytest.skip("declares no history")
        now = clock.now()
        past = asyncio.run(started.history(zone, now - DAY, now))
        assert past, "the clock must show a time with a day of history before it"
        assert all(now - DAY <= reading.start and reading.end <= now for reading in past)
        self.check(past, started, zone)

    def test_ranges_that_meet_give_each_interval_once(
        self, started: Provider, clock: Clock, zone: str
    ) -> None:
        """A range asked for in two parts is the range asked for at once."""
        if not started.capabilities.history:
            pytest.skip("declares no history")
        end = clock.now()
        middle, start = end - DAY / 2, end - DAY
        whole = asyncio.run(started.history(zone, start, end))
        parts = [
            *asyncio.run(started.history(zone, start, middle)),
            *asyncio.run(started.history(zone, middle, end)),
        ]
        assert [(r.start, r.grams_per_kwh) for r in whole] == [(r.start, r.grams_per_kwh) for r in parts]

    def test_forecast_is_of_the_future_and_says_so(self, started: Provider, clock: Clock, zone: str) -> None:
        """Expected values are marked as such, and none has passed."""
        if not started.capabilities.forecast:
            pytest.skip("declares no forecast")
        now = clock.now()
        ahead = asyncio.run(started.forecast(zone, now + DAY))
        assert ahead, "the clock must show a time with a forecast after it"
        assert all(point.quality is Quality.FORECAST for point in ahead)
        assert all(now < point.end and point.start < now + DAY for point in ahead)
        self.check(ahead, started, zone)

    def test_declares_what_reports_need(self, started: Provider) -> None:
        """Step and lag make sense, and somebody is named."""
        capabilities = started.capabilities
        assert timedelta(0) < capabilities.step <= DAY
        assert timedelta(0) <= capabilities.lag
        assert capabilities.licence.strip()
        assert capabilities.attribution.strip()

    def test_an_unknown_zone_is_refused(self, provider: Provider) -> None:
        """At the start where the provider can know, or else by having no data."""

        async def ask() -> Reading:
            await provider.start(self.unknown_zone)
            return await provider.latest(self.unknown_zone)

        with pytest.raises((ConfigurationError, NoData)):
            asyncio.run(ask())

    @staticmethod
    def check(readings: Sequence[Reading], provider: Provider, zone: str) -> None:
        """Whole intervals of the right zone and kind, in order, none twice."""
        capabilities = provider.capabilities
        for reading in readings:
            assert reading.zone == zone
            assert (reading.signal, reading.basis) == (capabilities.signal, capabilities.basis)
            assert reading.end - reading.start == capabilities.step
            assert reading.quality in {Quality.ACTUAL, Quality.ESTIMATED, Quality.FORECAST}
        assert all(before.end <= after.start for before, after in pairwise(readings))


class HttpProviderConformance(ProviderConformance):
    """As `ProviderConformance`, for a provider that asks an HTTP service: override `through` too."""

    @pytest.fixture
    def through(self) -> Through:
        """Give the way to make the provider with a client."""
        raise NotImplementedError("override the fixture `through`")

    @pytest.mark.parametrize("fault", WHOLE_FAULTS.values(), ids=WHOLE_FAULTS)
    def test_refuses_bad_answers(self, through: Through, fault: Fault, clock: Clock, zone: str) -> None:
        """Whatever a service sends instead of data ends in an error of the kind that the feed knows."""
        asyncio.run(_refuses(through, fault, clock, zone))


def answer_with(fault: Fault) -> httpx.MockTransport:
    """Give a transport that answers everything with `fault`, as a stream, so that nothing is decompressed before."""

    async def body() -> AsyncIterator[bytes]:
        yield fault.body

    return httpx.MockTransport(lambda _: httpx.Response(fault.status, headers=fault.headers, content=body()))


async def _refuses(through: Through, fault: Fault, clock: Clock, zone: str) -> None:
    async with httpx.AsyncClient(transport=answer_with(fault)) as http:
        provider = through(http)
        await provider.start(zone)
        now = clock.now()
        questions: list[Callable[[], Awaitable[object]]] = [
            lambda: provider.latest(zone),
            lambda: provider.history(zone, now - DAY, now),
            lambda: provider.forecast(zone, now + DAY),
        ]
        for question in questions:
            with pytest.raises(ProviderError):
                await question()
