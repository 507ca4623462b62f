"""Great Britain's live intensity and 48 h forecast, from NESO's Carbon Intensity API (no key needed).

The API is described at https://carbon-intensity.github.io/api-definitions/. What it does besides: a range
includes both its ends and the half hour before; `actual` is null until about half an hour after the interval,
and is revised for a day or more; a forecast may end early; an outage may be a status 200 with nothing in it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, ClassVar, TypeAlias

import httpx

from carbon_nas.errors import BadData, ConfigurationError, NoData
from carbon_nas.grid.http import Retry, get_json
from carbon_nas.interfaces import Clock
from carbon_nas.model import (
    MAX_PLAUSIBLE_GRAMS_PER_KWH,
    Accounting,
    Basis,
    Capabilities,
    Quality,
    Reading,
    Signal,
    utc,
)

STEP = timedelta(minutes=30)
LONGEST_RANGE = timedelta(days=13)  # the API's limit is 14 days, its own additions included

Pick: TypeAlias = Callable[[Mapping[str, Any]], tuple[Any, Quality]]
"""Chooses, from a half hour's `intensity` object, the value to use and says what it is worth."""


@dataclass(frozen=True)
class NesoOptions:
    """Where the API is, and how patiently it is asked."""

    base_url: str = "https://api.carbonintensity.org.uk"
    retry: Retry = field(default_factory=Retry)

    def __post_init__(self) -> None:
        if httpx.URL(self.base_url).scheme not in {"http", "https"} or not httpx.URL(self.base_url).host:
            raise ValueError("base_url must begin with https:// or http:// and name a host")


class NesoProvider:
    """The national figures: average intensity, direct emissions, imports and grid losses included."""

    Options: ClassVar[type] = NesoOptions
    ZONE = "GB"

    def __init__(self, options: NesoOptions, *, clock: Clock, http: httpx.AsyncClient) -> None:
        self._options = options
        self._clock = clock
        self._http = http

    @property
    def capabilities(self) -> Capabilities:
        """Half hours, with history since 2018 and a forecast of 48 h."""
        return Capabilities(
            signal=Signal.AVERAGE,
            basis=Basis.DIRECT,
            step=STEP,
            history=True,
            forecast=True,
            licence="CC BY 4.0",
            attribution="National Energy System Operator, Carbon Intensity API",
            accounting=Accounting.CONSUMPTION,
            lag=STEP,
        )

    async def start(self, zone: str) -> None:
        """Refuse every zone but GB.

        Raises:
            ConfigurationError: another zone.
        """
        if zone != self.ZONE:
            raise ConfigurationError(
                f"provider 'neso' serves zone {self.ZONE!r} only, not {zone!r}", key="zone"
            )

    async def latest(self, zone: str) -> Reading:
        """Give the present half hour; a forecast (and marked so) until its actual value is known.

        Raises:
            ProviderError: no usable answer.
        """
        now = self._clock.now()
        begun = [point for point in await self._ask("/intensity", _reading) if point.start <= now]
        if not begun:
            raise NoData(f"neso: no half hour that has begun for {zone}")
        return begun[-1]

    async def history(self, zone: str, start: datetime, end: datetime) -> Sequence[Reading]:
        """Give past half hours; those whose actual value is not known (yet) are of quality FORECAST.

        Raises:
            ProviderError: no usable answer.
        """
        del zone
        points: dict[datetime, Reading] = {}
        while start < end:
            until = min(start + LONGEST_RANGE, end)
            part = await self._ask(f"/intensity/{_text(start)}/{_text(until)}", _reading)
            points.update((point.start, point) for point in part if start <= point.start < until)
            start = until
        now = self._clock.now()
        return [points[begin] for begin in sorted(points) if points[begin].end <= now]

    async def forecast(self, zone: str, until: datetime) -> Sequence[Reading]:
        """Give the forecast from the present half hour on, at most 48 h of it and sometimes much less.

        Raises:
            ProviderError: no usable answer.
        """
        del zone
        now = self._clock.now()
        points = await self._ask(f"/intensity/{_text(now)}/fw48h", _expectation)
        return [point for point in points if now < point.end and point.start < until]

    async def _ask(self, path: str, pick: "Pick") -> list[Reading]:
        url = self._options.base_url.rstrip("/") + path
        body = await get_json(self._http, url, source="neso", retry=self._options.retry)
        points = {
            start: Reading(
                zone=self.ZONE,
                start=start,
                end=start + STEP,
                grams_per_kwh=grams_per_kwh,
                quality=quality,
                signal=Signal.AVERAGE,
                basis=Basis.DIRECT,
                provider="neso",
                fetched_at=self._clock.now(),
            )
            for start, grams_per_kwh, quality in _rows(body, pick)
        }
        if not points:
            raise BadData(f"neso: not one credible half hour in the answer to {path}")
        return [points[start] for start in sorted(points)]


def _reading(intensity: Mapping[str, Any]) -> tuple[Any, Quality]:
    if intensity.get("actual") is None:
        return intensity.get("forecast"), Quality.FORECAST
    return intensity["actual"], Quality.ACTUAL


def _expectation(intensity: Mapping[str, Any]) -> tuple[Any, Quality]:
    return intensity.get("forecast"), Quality.FORECAST


def _rows(body: Any, pick: Pick) -> Iterator[tuple[datetime, float, Quality]]:
    """Give the credible half hours of an answer; leave out the others."""
    if not isinstance(body, dict):
        raise BadData("neso: the answer is not an object")
    if "error" in body:
        raise BadData(f"neso: the answer is an error: {str(body['error'])[:200]}")
    rows = body.get("data")
    if not rows:
        raise NoData("neso: the answer is empty")
    if not isinstance(rows, list):
        raise BadData("neso: `data` is not a list")
    for row in rows:
        try:
            start, end = utc(row["from"]), utc(row["to"])
            value, quality = pick(row["intensity"])
        except (KeyError, TypeError, ValueError, AttributeError):
            continue
        whole = end - start == STEP and start.timestamp() % STEP.total_seconds() == 0
        if whole and _is_credible(value):
            yield start, float(value), quality


def _is_credible(value: object) -> bool:
    return type(value) in {int, float} and 0 < value <= MAX_PLAUSIBLE_GRAMS_PER_KWH  # type: ignore[operator]


def _text(when: datetime) -> str:
    return when.strftime("%Y-%m-%dT%H:%MZ")
