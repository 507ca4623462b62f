"""One way to ask an HTTP service, shared by all providers: patient, bounded, and discreet.

Every failure becomes a `ProviderError` that names the service, its host and path. Query strings and headers,
where keys travel, appear in no message.
"""

import asyncio
import zlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from pathlib import Path

import httpx
import stamina

from carbon_nas.errors import AccessDenied, BadData, NoData, ProviderError, RateLimited, Unavailable
from carbon_nas.grid.cache import ResponseCache

MAX_BYTES = 8 * 2**20  # of an answer, decompressed
MAX_REDIRECTS = 3
RETRY_AFTER_SECONDS = 60.0  # where a service asks for patience without saying how much
LONGEST_RETRY_AFTER_SECONDS = 86_400.0
USER_AGENT = "carbon-nas"

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


@dataclass(frozen=True)
class TimeOuts:
    """How long to wait: to be connected, for each step of an answer, and for the whole of it."""

    connect_seconds: float = 5.0
    step_seconds: float = 20.0
    answer_seconds: float = 30.0

    def __post_init__(self) -> None:
        if not all(0 < value < float("inf") for value in vars(self).values()):
            raise ValueError("time-outs must be above zero")


@dataclass(frozen=True, slots=True, repr=False)
class Keys:
    """What proves who asks. Kept apart from the question, so that it can reach no message, log or cache."""

    headers: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)
    basic: tuple[str, str] | None = None


class GridClient(httpx.AsyncClient):
    """The client that providers are given. With a `cache`, their answers are also kept on disk."""

    def __init__(
        self, *, cache: Path | None = None, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        super().__init__(transport=transport, headers={"user-agent": USER_AGENT})
        self.cache = None if cache is None else ResponseCache(cache)


async def fetch(
    http: httpx.AsyncClient,
    url: str,
    *,
    source: str,
    params: Mapping[str, str] | None = None,
    keys: Keys | None = None,
    retry: Retry | None = None,
    time_outs: TimeOuts | None = None,
    accept: str = "application/json",
) -> bytes:
    """Give the body at `url`, asking again where that may help.

    Raises:
        RateLimited: the service asks for a longer pause than `retry` would wait.
        Unavailable: no answer, a slow one, or a server error, each time it was asked.
        AccessDenied: status 401 or 403.
        NoData: status 404 or 410.
        BadData: too large, broken, sent elsewhere, or the request was refused.
    """
    retry = retry or Retry()
    one = _Asking(http, source, keys or Keys(), time_outs or TimeOuts(), accept)
    async for attempt in stamina.retry_context(
        on=retry.wait_after,
        attempts=retry.attempts,
        timeout=None,
        wait_initial=retry.first_wait_seconds,
        wait_max=retry.longest_wait_seconds,
        wait_jitter=retry.first_wait_seconds,
    ):
        with attempt:
            return await one.get(url, params or {})
    raise AssertionError("a retry either returns or raises")


@dataclass(frozen=True, slots=True)
class _Asking:
    http: httpx.AsyncClient
    source: str
    keys: Keys
    time_outs: TimeOuts
    accept: str

    async def get(self, url: str, params: Mapping[str, str]) -> bytes:
        place = f"{self.source} ({httpx.URL(url).host}{httpx.URL(url).path})"
        whole = self.time_outs.answer_seconds
        try:
            async with asyncio.timeout(whole):
                return await self._follow(self._request(url, params), place)
        except TimeoutError:
            raise Unavailable(f"{place}: no whole answer within {whole:g} s") from None
        except httpx.HTTPError as error:  # the texts of httpx may hold the whole URL
            raise Unavailable(f"{place}: {type(error).__name__}") from None

    def _request(self, url: str, params: Mapping[str, str]) -> httpx.Request:
        waits = httpx.Timeout(self.time_outs.step_seconds, connect=self.time_outs.connect_seconds)
        # Only gzip: each layer of compression can hide a thousand times its size.
        headers = {"accept": self.accept, "accept-encoding": "gzip", **self.keys.headers}
        asked = {**params, **self.keys.params}
        return self.http.build_request("GET", url, params=asked, headers=headers, timeout=waits)

    async def _follow(self, request: httpx.Request, place: str) -> bytes:
        basic = None if self.keys.basic is None else httpx.BasicAuth(*self.keys.basic)
        for _ in range(MAX_REDIRECTS + 1):
            response = await self.http.send(request, stream=True, auth=basic, follow_redirects=False)
            try:
                if response.next_request is None:
                    _check_status(response, place)
                    return await _read(response, place)
            finally:
                await response.aclose()
            if _origin(response.next_request.url) != _origin(request.url):
                raise BadData(f"{place}: sent on to another host; not followed, for it would get the key")
            request = response.next_request
        raise BadData(f"{place}: sent on more than {MAX_REDIRECTS} times")


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


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
    """Read and decompress, never holding more than the limit: a bomb is a small file until it is opened."""
    in_memory = response.is_stream_consumed  # such a transport hands the answer over whole and decompressed
    coding = "" if in_memory else response.headers.get("content-encoding", "").strip().lower()
    if coding not in {"", "identity", "gzip"}:
        raise BadData(f"{place}: the answer's compression was not asked for")
    inflate = zlib.decompressobj(zlib.MAX_WBITS | 16) if coding == "gzip" else None
    body = bytearray()
    try:
        async for chunk in _chunks(response):
            room = MAX_BYTES + 1 - len(body)
            body += chunk if inflate is None else inflate.decompress(chunk, room)
            if len(body) > MAX_BYTES:
                raise BadData(f"{place}: the answer is larger than {MAX_BYTES // 2**20} MiB")
    except zlib.error:
        raise BadData(f"{place}: the answer's compression is broken") from None
    if inflate is not None and not inflate.eof:
        raise BadData(f"{place}: the answer is cut off")
    return bytes(body)


async def _chunks(response: httpx.Response) -> AsyncIterator[bytes]:
    if response.is_stream_consumed:
        yield response.content
        return
    async for chunk in response.aiter_raw():
        yield chunk


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
