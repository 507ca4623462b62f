"""One way to ask an HTTP service for JSON, shared by all providers: patient, bounded, and discreet.

Every failure becomes a `ProviderError` that names the service, its host and path. Query strings and headers,
where keys travel, appear in no message.
"""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
import stamina

from carbon_nas.errors import AccessDenied, BadData, NoData, ProviderError, RateLimited, Unavailable

TIME_OUT = httpx.Timeout(20.0, connect=5.0)  # of one step; a slow drip is ended by ANSWER_SECONDS
ANSWER_SECONDS = 30.0
MAX_BYTES = 8 * 2**20
RETRY_AFTER_SECONDS = 60.0  # where a service asks for patience without saying how much
LONGEST_RETRY_AFTER_SECONDS = 86_400.0

REFUSALS: Mapping[int, tuple[type[ProviderError], str]] = {
    401: (AccessDenied, "the key is missing or wrong"),
    403: (AccessDenied, "the key is not good for this, or this address is blocked"),
    404: (NoData, "nothing is there"),
    408: (Unavailable, "the service gave up waiting"),
    410: (NoData, "nothing is there any more"),
    425: (Unavailable, "too early"),
}


@dataclass(frozen=True)
class Retry:
    """How patiently one question is asked: `attempts` in all, waiting ever longer, with jitter, in between."""

    attempts: int = 3
    first_wait_seconds: float = 1.0
    longest_wait_seconds: float = 15.0

    def __post_init__(self) -> None:
        if self.attempts < 1 or not 0 <= self.first_wait_seconds <= self.longest_wait_seconds:
            raise ValueError("retry needs attempts >= 1 and 0 <= first_wait_seconds <= longest_wait_seconds")

    def wait_after(self, error: Exception) -> bool | float:
        """Say whether to ask again (True: after the usual wait), or after how many seconds (stamina's hook)."""
        if isinstance(error, RateLimited):
            wait = error.retry_after_seconds
            return wait if wait <= self.longest_wait_seconds else False
        return isinstance(error, Unavailable)


async def get_json(
    http: httpx.AsyncClient,
    url: str,
    *,
    source: str,
    params: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
    retry: Retry | None = None,
) -> Any:
    """Give the JSON at `url`, asking again where that may help.

    Raises:
        RateLimited: the service asks for a longer pause than `retry` would wait.
        Unavailable: no answer, a slow one, or a server error, each time it was asked.
        AccessDenied: status 401 or 403.
        NoData: status 404 or 410.
        BadData: not JSON, too large, or the request was refused.
    """
    retry = retry or Retry()
    async for attempt in stamina.retry_context(
        on=retry.wait_after,
        attempts=retry.attempts,
        timeout=None,
        wait_initial=retry.first_wait_seconds,
        wait_max=retry.longest_wait_seconds,
        wait_jitter=retry.first_wait_seconds,
    ):
        with attempt:
            return _parse(await _get(http, url, source, params, headers), source)
    raise AssertionError("a retry either returns or raises")


async def _get(
    http: httpx.AsyncClient,
    url: str,
    source: str,
    params: Mapping[str, str] | None,
    headers: Mapping[str, str] | None,
) -> bytes:
    place = f"{source} ({httpx.URL(url).host}{httpx.URL(url).path})"
    asked = {"accept": "application/json", **(headers or {})}
    try:
        async with (
            asyncio.timeout(ANSWER_SECONDS),
            http.stream("GET", url, params=params, headers=asked, timeout=TIME_OUT) as response,
        ):
            _check_status(response, place)
            return await _read(response, place)
    except TimeoutError:
        raise Unavailable(f"{place}: no whole answer within {ANSWER_SECONDS:.0f} s") from None
    except httpx.DecodingError:
        raise BadData(f"{place}: the answer's compression is broken") from None
    except httpx.HTTPError as error:  # the texts of httpx may hold the whole URL
        raise Unavailable(f"{place}: {type(error).__name__}") from None


def _check_status(response: httpx.Response, place: str) -> None:
    status = response.status_code
    if status == 429 or (status == 503 and "retry-after" in response.headers):
        pause = retry_after_seconds(response.headers)
        raise RateLimited(f"{place}: asks for a pause of {pause:.0f} s (status {status})", pause)
    if status in REFUSALS:
        kind, words = REFUSALS[status]
        raise kind(f"{place}: {words} (status {status})")
    if 400 <= status < 500:
        raise BadData(f"{place}: the request was refused (status {status})")
    if status != 200:
        raise Unavailable(f"{place}: status {status}")


async def _read(response: httpx.Response, place: str) -> bytes:
    body = bytearray()
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) > MAX_BYTES:
            raise BadData(f"{place}: the answer is larger than {MAX_BYTES // 2**20} MiB")
    return bytes(body)


def retry_after_seconds(headers: Mapping[str, str]) -> float:
    """Read `Retry-After`, seconds or a date (RFC 9110, 10.2.3); a date is measured by the service's own clock."""
    text = headers.get("retry-after", "").strip()
    try:
        if text.isdecimal():
            seconds = float(text)
        else:
            until, now = parsedate_to_datetime(text), parsedate_to_datetime(headers.get("date", ""))
            seconds = (until - now).total_seconds()
    except (ValueError, TypeError):
        return RETRY_AFTER_SECONDS
    return min(max(seconds, 0.0), LONGEST_RETRY_AFTER_SECONDS)


def _parse(body: bytes, source: str) -> Any:
    try:
        return json.loads(body, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise BadData(f"{source}: the answer is not JSON (it begins with {body[:24]!r})") from None


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
