"""Every provider against everything that services have been seen to send: never a value, and the feed goes on."""

import asyncio
import json
import logging
import ssl
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from functools import cache
from typing import Any

import httpx
import pytest
from fault_server import FaultServer
from hypothesis import given, settings
from hypothesis import strategies as st
from provider_services import NOW, QUICK, SERVICES, Known
from pydantic import TypeAdapter

from carbon_nas import plugins
from carbon_nas.clock import SimulatedClock
from carbon_nas.errors import BadData, NoData, ProviderError
from carbon_nas.grid.feed import Feed, FeedSettings
from carbon_nas.interfaces import Provider
from carbon_nas.model import MAX_PLAUSIBLE_GRAMS_PER_KWH, GridState, Reading
from carbon_nas.testing.faults import FAULTS, damaged, naive, renamed

DAY = timedelta(days=1)
JSON = [service for service in SERVICES.values() if service.values]
Change = Callable[[bytes], bytes]
NO_TLS = ssl.SSLContext(
    ssl.PROTOCOL_TLS_CLIENT
)  # made once: reading the certificates takes longer than a test


@cache
def loaded(name: str) -> tuple[type[Provider], TypeAdapter[Any]]:
    cls = plugins.load("providers", name, key="grid")
    return cls, TypeAdapter(cls.Options)


def make(service: Known, http: httpx.AsyncClient, clock: SimulatedClock, **options: object) -> Any:
    """As `plugins.build`, without reading all of the machine's entry points a thousand times."""
    cls, adapter = loaded(service.name)
    chosen = adapter.validate_python({**QUICK, **service.options, **service.secrets, **options})
    return cls(chosen, clock=clock, http=http)  # type: ignore[call-arg]


async def ask_all(
    provider: Provider, zone: str, clock: SimulatedClock
) -> list[Sequence[Reading] | ProviderError]:
    """Ask everything that the provider can tell, a defect of its own apart."""
    now, told = clock.now(), []

    async def latest() -> Sequence[Reading]:
        return [await provider.latest(zone)]

    questions = [latest]
    if provider.capabilities.history:
        questions.append(lambda: provider.history(zone, now - DAY, now))  # type: ignore[arg-type,return-value]
    if provider.capabilities.forecast:
        questions.append(lambda: provider.forecast(zone, now + DAY))  # type: ignore[arg-type,return-value]
    for question in questions:
        try:
            told.append(await question())
        except ProviderError as error:
            told.append(error)
    return told


def ask_spoiled(
    service: Known, change: Change, zone: str | None = None
) -> list[Sequence[Reading] | ProviderError]:
    """Ask everything of a service whose answers are spoiled by `change`."""

    def answer(request: httpx.Request) -> httpx.Response:
        response = service.respond(request)
        if request.url.path == "/login":
            return response
        return httpx.Response(200, content=change(response.content))

    async def ask() -> list[Sequence[Reading] | ProviderError]:
        clock = SimulatedClock(NOW)
        async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http:
            provider = make(service, http, clock)
            await provider.start(zone or service.zone)
            return await ask_all(provider, zone or service.zone, clock)

    return asyncio.run(ask())


def values(told: list[Sequence[Reading] | ProviderError]) -> list[float]:
    return [reading.grams_per_kwh for part in told if not isinstance(part, ProviderError) for reading in part]


# --- whole answers, over a real connection ---


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[str, FaultServer]]:
    started = {name: FaultServer(service.respond).__enter__() for name, service in SERVICES.items()}
    yield started
    for server in started.values():
        server.__exit__(None, None, None)


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
@pytest.mark.parametrize("name", SERVICES)
def test_a_fault_is_an_error_and_never_a_value(
    servers: dict[str, FaultServer], name: str, fault: Any, caplog: pytest.LogCaptureFixture
) -> None:
    service, server = SERVICES[name], servers[name]

    async def ask() -> tuple[list[Any], list[Any]]:
        clock = SimulatedClock(NOW)
        async with httpx.AsyncClient(verify=NO_TLS) as http:
            provider = make(service, http, clock, base_url=server.url)
            await provider.start(service.zone)
            server.fault = fault
            try:
                spoiled = await ask_all(provider, service.zone, clock)
            finally:
                server.fault = None
            return spoiled, await ask_all(provider, service.zone, clock)

    logging.getLogger("httpx").setLevel(logging.WARNING)
    spoiled, good = asyncio.run(ask())
    assert all(isinstance(part, ProviderError) for part in spoiled)
    assert all(len(part) for part in good), "the provider does not recover"
    said = caplog.text + " ".join(repr(error) for error in spoiled)
    assert not any(secret in said for secret in service.secrets.values())


@pytest.mark.parametrize("name", ["electricity-maps", "watttime", "entsoe", "eia"])
def test_a_key_is_never_sent_to_another_host(servers: dict[str, FaultServer], name: str) -> None:
    service, server = SERVICES[name], servers[name]
    with FaultServer(service.respond) as stranger:
        redirect = httpx.Response(302, headers={"location": f"{stranger.url}/api"})

        async def ask() -> None:
            async with httpx.AsyncClient(transport=httpx.MockTransport(lambda _: redirect)) as http:
                await make(service, http, SimulatedClock(NOW)).latest(service.zone)

        with pytest.raises(BadData, match="another host"):
            asyncio.run(ask())
        assert stranger.asked == []
    assert server.fault is None


# --- answers with something spoiled in them ---

BAD_VALUES = [None, 0, 0.0, -5, "", "120", "n/a", True, 1e9, [], {}, [120]]


@pytest.mark.parametrize("bad", BAD_VALUES, ids=repr)
@pytest.mark.parametrize("service", JSON, ids=lambda service: service.name)
def test_a_bad_value_is_never_a_value(service: Known, bad: object) -> None:
    if service.name == "eia" and bad in ("120", 1e9):
        pytest.skip("megawatt hours are written as text too, and no number of them is absurd")
    assert values(ask_spoiled(service, lambda body: damaged(body, service.values, bad))) == []


@pytest.mark.parametrize("bad", BAD_VALUES, ids=repr)
@pytest.mark.parametrize("service", JSON, ids=lambda service: service.name)
def test_one_bad_value_leaves_out_one_interval(service: Known, bad: object) -> None:
    if service.name == "eia" and bad in ("120", 1e9, 0, 0.0, -5):
        pytest.skip("of one fuel among others these are amounts")

    async def ask(change: Change) -> list[Reading]:
        clock = SimulatedClock(NOW)

        def answer(request: httpx.Request) -> httpx.Response:
            response = service.respond(request)
            return (
                response
                if request.url.path == "/login"
                else httpx.Response(200, content=change(response.content))
            )

        async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http:
            provider = make(service, http, clock)
            return list(await provider.history(service.zone, NOW - timedelta(hours=12), NOW))

    whole = asyncio.run(ask(lambda body: body))
    rest = asyncio.run(ask(lambda body: spoil_one(body, service.values, bad)))
    gone = {reading.start for reading in whole} - {reading.start for reading in rest}
    if service.name == "neso" and bad is None:  # its own forecast stands in, marked as such
        assert len(whole) == len(rest)
        return
    assert len(gone) == 1
    assert rest == [reading for reading in whole if reading.start not in gone]


def spoil_one(body: bytes, names: frozenset[str], bad: object) -> bytes:
    """Put `bad` in place of one value, well within the answer."""
    content = json.loads(body)
    leaves = [leaf for leaf in find(content) if leaf[2] in names and leaf[0][leaf[1]] is not None]
    holder, key, _ = leaves[len(leaves) // 2]
    holder[key] = bad
    return json.dumps(content).encode()


def find(content: Any, name: str = "") -> Iterator[tuple[Any, Any, str]]:
    """Give each leaf of JSON as (holder, key, name of the nearest key)."""
    items = (
        content.items()
        if isinstance(content, dict)
        else enumerate(content)
        if isinstance(content, list)
        else ()
    )
    for key, value in list(items):
        inner = key if isinstance(key, str) else name
        if isinstance(value, dict | list):
            yield from find(value, inner)
        else:
            yield content, key, inner


ECHOED = [(service, service.zone, service.echoes) for service in JSON if service.echoes]


@pytest.mark.parametrize(
    ("service", "zone", "echo"),
    [*ECHOED, (SERVICES["neso"], "GB-13", "13"), (SERVICES["neso"], "GB-EN2", "EN2")],
    ids=lambda value: value if isinstance(value, str) else value.name,
)
def test_an_answer_for_another_zone_is_refused(service: Known, zone: str, echo: str) -> None:
    told = ask_spoiled(service, lambda body: renamed(body, echo), zone)
    assert all(isinstance(part, BadData) for part in told)


def test_a_document_for_another_area_is_refused() -> None:
    service = SERVICES["entsoe"]
    told = ask_spoiled(service, lambda body: body.replace(b"10Y1001A1001A83F", b"10YFR-RTE------C"))
    assert all(isinstance(part, BadData) for part in told)


@pytest.mark.parametrize(
    "service", [service for service in JSON if not service.naive_times], ids=lambda service: service.name
)
def test_a_naive_time_is_refused(service: Known) -> None:
    told = ask_spoiled(service, naive)
    assert all(isinstance(part, BadData | NoData) for part in told)


@pytest.mark.parametrize("unit", ["kg_co2_per_mwh", None, 7, ["lbs_co2_per_mwh"]])
def test_an_unknown_unit_is_refused(unit: object) -> None:
    told = ask_spoiled(SERVICES["watttime"], lambda body: damaged(body, frozenset({"units"}), unit))
    assert all(isinstance(part, BadData) for part in told)
    told = ask_spoiled(SERVICES["eia"], lambda body: damaged(body, frozenset({"value-units"}), unit))
    assert all(isinstance(part, BadData) for part in told)


SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8)
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
)


@pytest.mark.parametrize("service", JSON, ids=lambda service: service.name)
@given(bad=ANYTHING, place=st.integers(0, 10**6), whole=st.booleans())
@settings(max_examples=40, deadline=None)
def test_whatever_stands_anywhere_no_value_is_invented(
    service: Known, bad: object, place: int, *, whole: bool
) -> None:
    """Replace any one part of an answer by anything: what comes out was there before, or is an error."""

    def change(body: bytes) -> bytes:
        if whole:
            return json.dumps(bad).encode()
        content = json.loads(body)
        leaves = list(find(content))
        holder, key, _ = leaves[place % len(leaves)]
        holder[key] = bad
        return json.dumps(content).encode()

    for value in values(ask_spoiled(service, change)):
        assert 0 < value <= MAX_PLAUSIBLE_GRAMS_PER_KWH


# --- the feed goes on ---


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_the_feed_falls_to_the_next_provider_and_recovers(
    servers: dict[str, FaultServer], fault: Any
) -> None:
    service, first = SERVICES["neso"], servers["neso"]

    async def run() -> None:
        clock = SimulatedClock(NOW)
        respond = first.respond
        first.respond = lambda request: service.respond(request, clock.now())
        with FaultServer(first.respond) as second:
            async with httpx.AsyncClient(verify=NO_TLS) as http:
                providers = {
                    name: make(service, http, clock, base_url=server.url)
                    for name, server in (("first", first), ("second", second))
                }
                feed = Feed(clock, "GB", providers, FeedSettings(history_days=1))
                first.fault = fault
                try:
                    await feed.start()
                    assert feed.view(clock.now()).state is GridState.FRESH
                    assert second.asked
                    assert not any(outcome == "ok" for name, outcome in feed.outcomes if name == "first")
                finally:
                    first.fault = None
                for _ in range(5):
                    clock.advance(timedelta(hours=1))
                    await feed.refresh()
                assert feed.outcomes["first", "ok"] > 0
                assert feed.view(clock.now()).state is GridState.FRESH
        first.respond = respond

    asyncio.run(run())


def test_a_feed_with_nothing_but_faults_knows_nothing_and_says_so(servers: dict[str, FaultServer]) -> None:
    service, server = SERVICES["neso"], servers["neso"]

    async def run() -> None:
        clock = SimulatedClock(NOW)
        async with httpx.AsyncClient(verify=NO_TLS) as http:
            provider = make(service, http, clock, base_url=server.url)
            feed = Feed(clock, "GB", {"neso": provider}, FeedSettings(history_days=1))
            try:
                for fault in FAULTS.values():
                    server.fault = fault
                    await (feed.refresh() if feed.last_error else feed.start())
                    clock.advance(timedelta(hours=2))
                    view = feed.view(clock.now())
                    assert view.state not in {GridState.FRESH, GridState.STALE}
                    assert view.current is None
                    assert view.history == ()
            finally:
                server.fault = None

    asyncio.run(run())
