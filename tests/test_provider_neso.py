"""NESO's service: recorded answers, its habits, and every way in which it can fail to answer."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import httpx
import pytest

from carbon_nas import plugins
from carbon_nas.clock import SimulatedClock
from carbon_nas.errors import (
    AccessDenied,
    BadData,
    ConfigurationError,
    NoData,
    ProviderError,
    RateLimited,
    Unavailable,
)
from carbon_nas.model import Quality
from carbon_nas_providers.neso import NesoProvider

RECORDED = Path(__file__).parents[1] / ".." / "shared" / "data" / "api-samples" / "uk-carbonintensity"
AT_ONCE = {"attempts": 3, "first_wait_seconds": 0.0, "longest_wait_seconds": 0.0}
NOW = datetime(2023, 12, 3, 11, 10, tzinfo=UTC)
STEP = timedelta(minutes=30)

recorded = pytest.mark.skipif(not RECORDED.is_dir(), reason="needs the recorded answers in ../shared/data")


class Service:
    """Answers from a list, the last one for ever, and remembers what it was asked."""

    def __init__(self, *answers: httpx.Response | Exception) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request.url.path)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)


def neso(service: Service, now: datetime = NOW, **options: object) -> NesoProvider:
    http = httpx.AsyncClient(transport=httpx.MockTransport(service))
    built: NesoProvider = plugins.build(
        "providers",
        "neso",
        {"retry": AT_ONCE, **options},
        key="grid",
        clock=SimulatedClock(now),
        http=http,
    )
    return built


def from_file(name: str) -> httpx.Response:
    return httpx.Response(200, content=(RECORDED / name).read_bytes())


def row(start: datetime, actual: object, forecast: object = 150, **other: object) -> dict[str, object]:
    return {
        "from": f"{start:%Y-%m-%dT%H:%MZ}",
        "to": f"{start + STEP:%Y-%m-%dT%H:%MZ}",
        "intensity": {"forecast": forecast, "actual": actual, "index": "low"},
        **other,
    }


def rows(*data: object) -> httpx.Response:
    return httpx.Response(200, json={"data": list(data)})


# --- recorded answers ---


@recorded
def test_a_recorded_half_hour_without_actual_is_a_forecast() -> None:
    service = Service(from_file("intensity_now.json"))
    latest = asyncio.run(neso(service, datetime(2021, 4, 30, 22, 45, tzinfo=UTC)).latest("GB"))
    assert (latest.grams_per_kwh, latest.quality) == (255.0, Quality.FORECAST)
    assert (latest.start, latest.end) == (
        datetime(2021, 4, 30, 22, 30, tzinfo=UTC),
        datetime(2021, 4, 30, 23, 0, tzinfo=UTC),
    )
    assert service.asked == ["/intensity"]


@recorded
def test_a_recorded_range_gives_up_the_half_hour_before_it() -> None:
    service = Service(from_file("intensity_range.json"))
    start, end = datetime(2020, 1, 1, tzinfo=UTC), datetime(2020, 1, 2, tzinfo=UTC)
    past = asyncio.run(neso(service).history("GB", start, end))
    body = json.loads((RECORDED / "intensity_range.json").read_text())
    expected = [
        float(item["intensity"]["actual"])
        for item in body["data"]
        if "2020-01-01T00:00Z" <= item["from"] < "2020-01-02T00:00Z"
    ]
    assert [reading.grams_per_kwh for reading in past] == expected
    assert len(past) == 48
    assert past[0].start == start
    assert past[-1].end == end
    assert {reading.quality for reading in past} == {Quality.ACTUAL}


@recorded
def test_a_recorded_forecast_is_of_now_and_later() -> None:
    service = Service(from_file("intensity_fw48h.json"))
    ahead = asyncio.run(neso(service).forecast("GB", NOW + timedelta(hours=48)))
    assert service.asked == ["/intensity/2023-12-03T11:00Z/fw48h"]
    assert ahead[0].covers(NOW)
    assert [point.grams_per_kwh for point in ahead[:3]] == [216.0, 220.0, 222.0]
    assert all(after.start == before.end for before, after in pairwise(ahead))
    assert {point.quality for point in ahead} == {Quality.FORECAST}
    assert ahead[-1].end == datetime(2023, 12, 5, 10, 30, tzinfo=UTC)


@recorded
@pytest.mark.parametrize(
    "name", ["intensity_factors.json", "intensity_stats.json", "generation_now.json", "regional_now.json"]
)
def test_recorded_answers_to_other_questions_are_no_readings(name: str) -> None:
    with pytest.raises(ProviderError):
        asyncio.run(neso(Service(from_file(name))).latest("GB"))


# --- habits ---


def test_the_actual_value_is_preferred() -> None:
    latest = asyncio.run(neso(Service(rows(row(NOW.replace(minute=0), 120, 150)))).latest("GB"))
    assert (latest.grams_per_kwh, latest.quality) == (120.0, Quality.ACTUAL)


def test_long_histories_are_asked_in_parts_that_fit_the_limit() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        start, end = map(datetime.fromisoformat, request.url.path.split("/")[2:])
        assert end - start <= timedelta(days=14)
        asked.append((start, end))
        count = (end - start) // STEP + 2  # both ends, and the half hour before
        return rows(*(row(start + (index - 1) * STEP, 100 + index % 7) for index in range(count)))

    asked: list[tuple[datetime, datetime]] = []
    http = httpx.AsyncClient(transport=httpx.MockTransport(answer))
    provider = plugins.build("providers", "neso", {}, key="grid", clock=SimulatedClock(NOW), http=http)
    start, end = datetime(2023, 11, 1, tzinfo=UTC), datetime(2023, 12, 1, tzinfo=UTC)
    past = asyncio.run(provider.history("GB", start, end))
    assert len(asked) == 3
    assert [reading.start for reading in past] == [start + index * STEP for index in range(30 * 48)]


def test_history_stops_at_the_half_hour_in_progress() -> None:
    begin = NOW.replace(minute=0)
    service = Service(rows(*(row(begin + index * STEP, 100) for index in range(-4, 3))))
    past = asyncio.run(neso(service).history("GB", begin - 10 * STEP, NOW + timedelta(days=1)))
    assert past[-1].end == begin


def test_rows_out_of_order_or_repeated_are_put_right() -> None:
    begin = NOW.replace(minute=0)
    data = [row(begin - index * STEP, 100 + index) for index in (1, 3, 2, 3)]
    past = asyncio.run(neso(Service(rows(*data))).history("GB", begin - 10 * STEP, NOW))
    assert [reading.grams_per_kwh for reading in past] == [103.0, 102.0, 101.0]


BEGUN = NOW.replace(minute=0)
NO_NUMBERS: list[object] = [0, -3, 0.0, "120", True, 99999, 1e300, [120], {"value": 120}]


@pytest.mark.parametrize(
    "bad",
    [
        *(row(BEGUN, value) for value in NO_NUMBERS),
        row(BEGUN, None, None),
        *(row(BEGUN, None, value) for value in NO_NUMBERS),
        row(BEGUN + timedelta(minutes=5), 120),
        row(BEGUN, 120, to=f"{BEGUN + 2 * STEP:%Y-%m-%dT%H:%MZ}"),
        row(BEGUN, 120, to=None),
        row(BEGUN, 120, **{"from": "2023-12-03T11:00"}),
        row(BEGUN, 120, **{"from": "yesterday"}),
        row(BEGUN, 120, intensity=120),
        row(BEGUN, 120, intensity={}),
        {},
        [],
        None,
        "x",
    ],
)
def test_a_reading_that_is_not_credible_is_left_out(bad: object) -> None:
    good = row(BEGUN - STEP, 111)
    latest = asyncio.run(neso(Service(rows(good, bad))).latest("GB"))
    assert latest.grams_per_kwh == 111.0
    with pytest.raises((BadData, NoData)):
        asyncio.run(neso(Service(rows(bad))).latest("GB"))


@pytest.mark.parametrize("value", [None, *NO_NUMBERS])
def test_a_forecast_that_is_not_credible_is_left_out(value: object) -> None:
    bad, good = row(BEGUN + STEP, 100, value), row(BEGUN + 2 * STEP, None, 111)
    ahead = asyncio.run(neso(Service(rows(bad, good))).forecast("GB", NOW + timedelta(days=1)))
    assert [point.grams_per_kwh for point in ahead] == [111.0]


def test_a_reading_of_the_future_is_not_the_latest() -> None:
    with pytest.raises(NoData):
        asyncio.run(neso(Service(rows(row(BEGUN + STEP, 100)))).latest("GB"))


# --- failures ---

OK = rows(row(NOW.replace(minute=0), 120))

FAILURES: dict[str, tuple[httpx.Response | Exception, type[ProviderError], int]] = {
    "server error": (httpx.Response(500), Unavailable, 3),
    "bad gateway": (httpx.Response(502, text="<html>"), Unavailable, 3),
    "no connection": (httpx.ConnectError("refused"), Unavailable, 3),
    "slow": (httpx.ReadTimeout("slow"), Unavailable, 3),
    "cut off": (httpx.RemoteProtocolError("cut"), Unavailable, 3),
    "moved": (httpx.Response(302, headers={"location": "https://example.org"}), BadData, 1),
    "rate limited": (httpx.Response(429, headers={"retry-after": "120"}), RateLimited, 1),
    "rate limited, unsaid": (httpx.Response(429), RateLimited, 1),
    "in maintenance": (httpx.Response(503, headers={"retry-after": "3600"}), RateLimited, 1),
    "forbidden": (httpx.Response(403, text="<html>blocked</html>"), AccessDenied, 1),
    "unauthorised": (httpx.Response(401), AccessDenied, 1),
    "not found": (httpx.Response(404), NoData, 1),
    "refused": (httpx.Response(400, json={"error": {"code": "400 Bad Request"}}), BadData, 1),
    "empty body": (httpx.Response(200), BadData, 1),
    "an error": (httpx.Response(200, json={"error": {"message": "Please enter a valid date"}}), BadData, 1),
    "empty object": (httpx.Response(200, json={}), NoData, 1),
    "empty data": (httpx.Response(200, json={"data": []}), NoData, 1),
    "null data": (httpx.Response(200, json={"data": None}), NoData, 1),
    "data an object": (httpx.Response(200, json={"data": {"from": "x"}}), BadData, 1),
    "a list": (httpx.Response(200, json=[1]), BadData, 1),
    "a number": (httpx.Response(200, json=999), BadData, 1),
    "HTML": (httpx.Response(200, html="<!DOCTYPE html><h1>Sorry</h1>"), BadData, 1),
    "torn JSON": (httpx.Response(200, text='{"data":[{"from":"2023'), BadData, 1),
    "NaN": (httpx.Response(200, text='{"data":[{"intensity":{"actual":NaN}}]}'), BadData, 1),
    "deep JSON": (httpx.Response(200, text="[" * 200_000), BadData, 1),
}


@pytest.mark.parametrize(("answer", "error", "times"), FAILURES.values(), ids=FAILURES)
def test_a_failure_is_an_error_of_its_kind(
    answer: httpx.Response | Exception, error: type[ProviderError], times: int
) -> None:
    for ask in (
        lambda provider: provider.latest("GB"),
        lambda provider: provider.history("GB", NOW - STEP, NOW),
        lambda provider: provider.forecast("GB", NOW + STEP),
    ):
        service = Service(answer)
        with pytest.raises(ProviderError) as caught:
            asyncio.run(ask(neso(service)))
        assert type(caught.value) is error
        assert "neso" in str(caught.value)
        assert len(service.asked) == times


def test_a_passing_failure_is_borne() -> None:
    service = Service(httpx.Response(500), httpx.ConnectError("refused"), OK)
    assert asyncio.run(neso(service).latest("GB")).grams_per_kwh == 120.0
    assert len(service.asked) == 3


def test_only_great_britain_is_served() -> None:
    with pytest.raises(ConfigurationError, match=r"serves 'GB', .*, not 'DE'"):
        asyncio.run(neso(Service(OK)).start("DE"))


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"base_url": "api.carbonintensity.org.uk"}, "grid.neso"),
        ({"base_url": "ftp://example.org"}, "grid.neso"),
        ({"retry": {"attempts": 0}}, "grid.neso.retry"),
        ({"region": 13}, "grid.neso.region"),
    ],
)
def test_wrong_options_are_refused_by_key(options: dict[str, object], key: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        neso(Service(OK), **options)
    assert caught.value.key == key


def test_another_base_url_is_asked() -> None:
    hosts: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        hosts.append(str(request.url))
        return httpx.Response(200, content=OK.content)

    http = httpx.AsyncClient(transport=httpx.MockTransport(answer))
    options = {"base_url": "http://127.0.0.1:8080/mirror/"}
    provider = plugins.build("providers", "neso", options, key="grid", clock=SimulatedClock(NOW), http=http)
    asyncio.run(provider.latest("GB"))
    assert hosts == ["http://127.0.0.1:8080/mirror/intensity"]
