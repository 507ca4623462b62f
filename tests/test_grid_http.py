"""The HTTP helper: how patient it is, how much it takes, and what it never tells."""

import asyncio
import gzip
import json
import tracemalloc
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from email.utils import format_datetime

import httpx
import pytest

from carbon_nas.errors import BadData, ProviderError, RateLimited, Unavailable
from carbon_nas.grid.answers import decode_json
from carbon_nas.grid.http import Keys, Retry, TimeOuts, fetch, retry_after_seconds

AT_ONCE = Retry(attempts=3, first_wait_seconds=0, longest_wait_seconds=0)
URL = "https://api.example.org/v1/intensity"


def ask(
    *answers: httpx.Response | Exception, retry: Retry = AT_ONCE, time_outs: TimeOuts | None = None
) -> tuple[object, int]:
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        given = answers[min(len(asked), len(answers)) - 1]
        if isinstance(given, Exception):
            raise given
        return given

    async def call() -> object:
        async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http:
            body = await fetch(
                http,
                URL,
                source="example",
                params={"zone": "GB"},
                keys=Keys({"authorization": "s3cret-in-header"}, {"token": "s3cret-in-query"}),
                retry=retry,
                time_outs=time_outs,
            )
            return decode_json(body, "example")

    result = asyncio.run(call())
    assert dict(asked[0].url.params) == {"zone": "GB", "token": "s3cret-in-query"}
    assert asked[0].headers["authorization"] == "s3cret-in-header"
    assert asked[0].headers["accept-encoding"] == "gzip"
    return result, len(asked)


def test_the_answer_is_parsed() -> None:
    assert ask(httpx.Response(200, json={"a": [1, None]})) == ({"a": [1, None]}, 1)


@pytest.mark.parametrize(
    "failure",
    [
        httpx.Response(500, text="s3cret"),
        httpx.Response(401, text="s3cret"),
        httpx.Response(429),
        httpx.Response(404),
        httpx.Response(418),
        httpx.Response(200, text="<html>"),
        httpx.ConnectError(f"cannot reach {URL}?token=s3cret-in-query"),
        httpx.ReadTimeout(f"{URL}?token=s3cret-in-query"),
    ],
)
def test_no_message_tells_a_secret(failure: httpx.Response | Exception) -> None:
    with pytest.raises(ProviderError) as caught:
        ask(failure)
    told = f"{caught.value!r} {caught.value.__cause__!r}"
    assert "s3cret" not in told
    assert "example" in told


def test_a_pause_that_is_asked_for_is_kept_if_it_is_short() -> None:
    pause = httpx.Response(429, headers={"retry-after": "0"})
    assert ask(pause, pause, httpx.Response(200, json=1)) == (1, 3)
    with pytest.raises(RateLimited) as caught:
        ask(httpx.Response(429, headers={"retry-after": "90"}), httpx.Response(200, json=1))
    assert caught.value.retry_after_seconds == 90.0


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": " 7 "}, 7.0),
        ({}, 60.0),
        ({"retry-after": "soon"}, 60.0),
        ({"retry-after": "-7"}, 60.0),
        ({"retry-after": "9" * 30}, 86_400.0),
        ({"retry-after": "Sun, 03 Dec 2023 11:12:00 GMT"}, 60.0),  # nothing to measure it by
        ({"retry-after": "Sun, 03 Dec 2023 11:12:00 GMT", "date": "Sun, 03 Dec 2023 11:10:00 GMT"}, 120.0),
        ({"retry-after": "Sun, 03 Dec 2023 11:12:00 GMT", "date": "Sun, 03 Dec 2023 11:20:00 GMT"}, 0.0),
        ({"retry-after": "Sun, 03 Dec 2023 11:12:00", "date": "Sun, 03 Dec 2023 11:10:00 GMT"}, 60.0),
    ],
)
def test_retry_after_is_seconds_or_a_date(headers: dict[str, str], seconds: float) -> None:
    assert retry_after_seconds(headers) == seconds


def test_a_date_far_ahead_is_cut() -> None:
    headers = {
        "retry-after": format_datetime(datetime(2030, 1, 1, tzinfo=UTC), usegmt=True),
        "date": format_datetime(datetime(2023, 1, 1, tzinfo=UTC), usegmt=True),
    }
    assert retry_after_seconds(headers) == 86_400.0


def test_a_huge_answer_is_cut_off() -> None:
    sent = 0

    async def flood() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 1
            yield b" " * 2**20

    with pytest.raises(BadData, match="larger than 8 MiB"):
        ask(httpx.Response(200, content=flood()))
    assert sent <= 10


def test_a_broken_compression_is_bad_data() -> None:
    class Broken(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield b"not gzip at all"

    with pytest.raises(BadData, match="compression"):
        ask(httpx.Response(200, headers={"content-encoding": "gzip"}, stream=Broken()))


def test_an_endless_drip_is_ended() -> None:
    async def drip() -> AsyncIterator[bytes]:
        while True:
            await asyncio.get_running_loop().create_future()
            yield b" "

    with pytest.raises(Unavailable, match="no whole answer"):
        ask(
            httpx.Response(200, content=drip()), retry=Retry(1, 0, 0), time_outs=TimeOuts(answer_seconds=0.01)
        )


@pytest.mark.parametrize("wrong", [(0, 1, 2), (1, -1, 2), (1, 3, 2)])
def test_retries_must_make_sense(wrong: tuple[int, float, float]) -> None:
    with pytest.raises(ValueError, match="retry needs"):
        Retry(*wrong)


@pytest.mark.parametrize("wrong", [0.0, -1.0, float("inf"), float("nan")])
def test_time_outs_must_make_sense(wrong: float) -> None:
    with pytest.raises(ValueError, match="time-outs"):
        TimeOuts(answer_seconds=wrong)


def test_keys_do_not_show_themselves() -> None:
    keys = Keys({"authorization": "s3cret"}, {"token": "s3cret"}, ("s3cret", "s3cret"))
    assert "s3cret" not in f"{keys!r} {keys}"


def test_a_redirect_on_the_same_host_is_followed() -> None:
    moved = httpx.Response(301, headers={"location": "/v2/intensity"})
    assert ask(moved, httpx.Response(200, json=1)) == (1, 2)


@pytest.mark.parametrize(
    "elsewhere", ["https://example.org/v1", "http://api.example.org/v1", "https://api.example.org:8443/v1"]
)
def test_a_redirect_to_another_place_is_refused(elsewhere: str) -> None:
    with pytest.raises(BadData, match="another host"):
        ask(httpx.Response(302, headers={"location": elsewhere}), httpx.Response(200, json=1))


def streamed(body: bytes, **headers: str) -> httpx.Response:
    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 1000):
            yield body[start : start + 1000]

    return httpx.Response(200, headers={"content-encoding": "gzip", **headers}, content=pieces())


def test_a_compressed_answer_is_read() -> None:
    content = {"data": list(range(10_000))}
    assert ask(streamed(gzip.compress(json.dumps(content).encode()))) == (content, 1)


def test_a_bomb_is_never_held_in_memory() -> None:
    bomb = gzip.compress(b" " * (256 * 2**20), 9)
    assert len(bomb) < 2**19
    tracemalloc.start()
    try:
        with pytest.raises(BadData, match="larger than 8 MiB"):
            ask(streamed(bomb))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 24 * 2**20
