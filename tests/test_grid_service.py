"""Between a provider and the shared HTTP layer: the cache on disk, the rate limit, and keys that are missing."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from provider_services import NOW, QUICK, SERVICES

from carbon_nas import plugins, secrets
from carbon_nas.clock import SimulatedClock
from carbon_nas.errors import ConfigurationError, NoData, ProviderError, RateLimited
from carbon_nas.grid.answers import ceil_to, floor_to
from carbon_nas.grid.cache import ResponseCache, cache_key
from carbon_nas.grid.http import GridClient
from carbon_nas.grid.rate_limit import TokenBucket
from carbon_nas.interfaces import Provider

MINUTE = timedelta(minutes=1)
KEY = cache_key("GET", "https://api.example.org/x", {"a": "1"})


# --- the cache ---


def test_an_answer_is_kept_for_its_age_and_no_longer(tmp_path: Path) -> None:
    cache = ResponseCache(tmp_path / "not" / "there" / "yet")
    assert cache.get(KEY, NOW, MINUTE) is None
    cache.put(KEY, b'{"a": 1}\n', NOW)
    for age, there in ((timedelta(0), True), (MINUTE - timedelta(seconds=1), True), (MINUTE, False)):
        kept = cache.get(KEY, NOW + age, MINUTE)
        assert (kept is not None) == there
        assert kept is None or (kept.body, kept.fetched_at) == (b'{"a": 1}\n', NOW)
    assert cache.get(KEY, NOW - MINUTE, MINUTE) is None, "the clock was set back: its age is not known"
    assert cache.get(cache_key("GET", "https://api.example.org/x", {"a": "2"}), NOW, MINUTE) is None


def test_a_torn_or_foreign_file_counts_as_absent(tmp_path: Path) -> None:
    cache = ResponseCache(tmp_path)
    cache.put(KEY, b"body", NOW)
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    for torn in (b"", whole[:-1], whole[:10], b"\x00" * 50, b"{}\nbody", b"[]\nbody", whole + b"x"):
        file.write_bytes(torn)
        assert cache.get(KEY, NOW, MINUTE) is None


def test_nothing_is_left_half_written_and_a_missing_disk_costs_nothing(tmp_path: Path) -> None:
    cache = ResponseCache(tmp_path)
    for index in range(20):
        cache.put(KEY, b"x" * index, NOW)
    assert [file.suffix for file in tmp_path.iterdir()] == [".answer"]
    blocked = tmp_path / "a-file"
    blocked.write_text("")
    ResponseCache(blocked / "below").put(KEY, b"x", NOW)
    assert ResponseCache(blocked / "below").get(KEY, NOW, MINUTE) is None


def test_the_oldest_answers_make_room(tmp_path: Path) -> None:
    cache = ResponseCache(tmp_path, max_bytes=5000)
    keys = [cache_key("GET", "https://api.example.org", {"n": str(n)}) for n in range(20)]
    for key in keys:
        cache.put(key, b"x" * 500, NOW)
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) <= 5000
    assert cache.get(keys[-1], NOW, MINUTE) is not None
    assert cache.get(keys[0], NOW, MINUTE) is None


def test_the_order_of_parameters_is_no_difference() -> None:
    assert cache_key("GET", "u", {"a": "1", "b": "2"}) == cache_key("GET", "u", {"b": "2", "a": "1"})
    assert cache_key("GET", "u", {"a": "1"}) != cache_key("GET", "u", {"a": "2"})


# --- a provider with a cache ---


class Counting:
    """A service that counts its questions."""

    def __init__(self, name: str, clock: SimulatedClock) -> None:
        self.name, self.clock, self.asked = name, clock, 0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked += 1
        return SERVICES[self.name].respond(request, self.clock.now())


def build(name: str, http: httpx.AsyncClient, clock: SimulatedClock, **options: object) -> Provider:
    chosen = {**QUICK, **SERVICES[name].options, **options}
    built: Provider = plugins.build("providers", name, chosen, key="grid", clock=clock, http=http)
    return built


@pytest.fixture(autouse=True)
def _secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for service in SERVICES.values():
        for field, value in service.secrets.items():
            monkeypatch.setenv(secrets.variable(service.name, field), value)


@pytest.mark.parametrize("name", SERVICES)
def test_a_restart_does_not_ask_again_and_no_secret_is_kept(tmp_path: Path, name: str) -> None:
    clock, zone = SimulatedClock(NOW + MINUTE / 2), SERVICES[name].zone
    service = Counting(name, clock)

    async def latest() -> tuple[float, datetime]:
        async with GridClient(cache=tmp_path, transport=httpx.MockTransport(service)) as http:
            reading = await build(name, http, clock, max_age_seconds=60.0).latest(zone)
            return reading.grams_per_kwh, reading.fetched_at

    first = asyncio.run(latest())
    login = 1 if name == "watttime" else 0
    assert service.asked == 1 + login
    clock.advance(timedelta(seconds=20))
    assert asyncio.run(latest()) == first, "the same value, and known to be as old as it is"
    assert service.asked == 1 + 2 * login
    clock.advance(MINUTE)
    asyncio.run(latest())
    assert service.asked == 2 + 3 * login
    kept = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert not any(secret.encode() in kept for secret in [*SERVICES[name].secrets.values(), "bearer-t0ken"])


def test_a_kept_answer_does_not_hide_that_a_new_interval_has_begun(tmp_path: Path) -> None:
    clock = SimulatedClock(NOW + 19 * MINUTE + MINUTE / 2)  # half a minute before the half hour
    service = Counting("neso", clock)

    async def latest() -> datetime:
        async with GridClient(cache=tmp_path, transport=httpx.MockTransport(service)) as http:
            return (await build("neso", http, clock).latest("GB")).start

    before = asyncio.run(latest())
    clock.advance(MINUTE / 2)
    assert asyncio.run(latest()) == before + 30 * MINUTE
    assert asyncio.run(latest()) == before + 30 * MINUTE
    assert service.asked == 2


def test_a_bad_answer_is_not_kept(tmp_path: Path) -> None:
    answers = [b'{"data":[]}', b"null", json.dumps({"data": [{"from": "x"}]}).encode()]

    async def ask(body: bytes) -> None:
        transport = httpx.MockTransport(lambda _: httpx.Response(200, content=body))
        async with GridClient(cache=tmp_path, transport=transport) as http:
            await build("neso", http, SimulatedClock(NOW)).latest("GB")

    for body in answers:
        with pytest.raises(ProviderError):
            asyncio.run(ask(body))
    assert list(tmp_path.iterdir()) == []


def test_a_gap_of_days_does_not_hide_what_lies_around_it() -> None:
    clock = SimulatedClock(NOW)
    service = SERVICES["rte-eco2mix"]

    def answer(request: httpx.Request) -> httpx.Response:
        missing = "date'2024-03-28" in request.url.params["where"].partition(" and ")[0]
        return httpx.Response(200, json={"results": []}) if missing else service.respond(request, clock.now())

    async def past(start: datetime, end: datetime) -> set[int]:
        async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http:
            return {r.start.day for r in await build("rte-eco2mix", http, clock).history("FR", start, end)}

    midnight = datetime(2024, 3, 27, tzinfo=UTC)
    assert asyncio.run(past(midnight, NOW)) == {27, 29, 30, 31}
    with pytest.raises(NoData):
        asyncio.run(past(midnight + timedelta(days=1), midnight + timedelta(days=2)))


# --- the rate limit ---


def test_a_burst_is_free_and_then_each_question_waits() -> None:
    async def take() -> list[float]:
        clock = SimulatedClock(NOW)
        bucket = TokenBucket(clock, per_minute=60, burst=3)
        at = []
        for _ in range(6):
            await bucket.take()
            at.append((clock.now() - NOW).total_seconds())
        return at

    assert asyncio.run(take()) == [0, 0, 0, 1, 2, 3]


@given(
    per_minute=st.floats(0.5, 600),
    burst=st.integers(1, 20),
    gaps=st.lists(st.floats(0, 30), min_size=1, max_size=40),
)
def test_no_minute_sees_more_than_the_limit(per_minute: float, burst: int, gaps: list[float]) -> None:
    async def take() -> list[datetime]:
        clock = SimulatedClock(NOW)
        bucket, at = TokenBucket(clock, per_minute=per_minute, burst=burst), []
        for gap in gaps:
            clock.advance(timedelta(seconds=gap))
            await bucket.take()
            at.append(clock.now())
        return at

    at = asyncio.run(take())
    for index, begin in enumerate(at):
        within = sum(1 for when in at[index:] if when < begin + MINUTE)
        assert within <= burst + per_minute + 1


def test_a_limit_that_would_stop_the_feed_is_told_instead() -> None:
    clock = SimulatedClock(NOW)

    async def ask() -> None:
        async with httpx.AsyncClient(transport=httpx.MockTransport(Counting("neso", clock))) as http:
            provider = build("neso", http, clock, requests_per_minute=0.5, burst=1)
            await provider.latest("GB")
            await provider.latest("GB")

    with pytest.raises(RateLimited) as caught:
        asyncio.run(ask())
    assert caught.value.retry_after_seconds == pytest.approx(120.0)


# --- keys and zones ---


@pytest.mark.parametrize("name", [name for name, service in SERVICES.items() if service.secrets])
def test_a_missing_key_is_told_at_the_start_with_its_variable(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for field in SERVICES[name].secrets:
        monkeypatch.delenv(secrets.variable(name, field))
    field = next(iter(SERVICES[name].secrets))
    with pytest.raises(ConfigurationError, match=secrets.variable(name, field)):
        asyncio.run(build(name, GridClient(), SimulatedClock(NOW)).start(SERVICES[name].zone))


@pytest.mark.parametrize("name", SERVICES)
@pytest.mark.parametrize("zone", ["", "../x", "DE?x=1", "de\n", "\N{SNOWMAN}", "GB-18", "GB-0"])
def test_a_zone_that_cannot_be_one_is_refused_before_anything_is_asked(name: str, zone: str) -> None:
    if (name, zone) in {("carbon-aware-sdk", "GB-18"), ("carbon-aware-sdk", "GB-0")} or (
        name == "electricity-maps" and zone.startswith("GB-")
    ):
        pytest.skip("has the form of a zone there")
    with pytest.raises(ConfigurationError):
        asyncio.run(build(name, GridClient(), SimulatedClock(NOW)).start(zone))


@pytest.mark.parametrize(
    "wrong",
    [
        {"base_url": "ftp://x.example"},
        {"base_url": "example"},
        {"requests_per_minute": 0},
        {"burst": 0},
        {"max_age_seconds": -1},
    ],
)
def test_options_that_make_no_sense_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError):
        build("neso", GridClient(), SimulatedClock(NOW), **wrong)


@given(st.floats(0, 4e9), st.sampled_from([5, 15, 30, 60]))
def test_rounding_brackets_a_time(seconds: float, minutes: int) -> None:
    when, step = datetime.fromtimestamp(seconds, UTC), timedelta(minutes=minutes)
    low, high = floor_to(when, step), ceil_to(when, step)
    assert low <= when <= high
    assert high - low in {timedelta(0), step}
    assert low.timestamp() % step.total_seconds() == high.timestamp() % step.total_seconds() == 0
