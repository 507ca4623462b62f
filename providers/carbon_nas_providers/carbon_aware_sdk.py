"""A site's own Carbon Aware SDK WebApi (Green Software Foundation), which asks WattTime or Electricity Maps in turn.

`GET /emissions/bylocation?location=eastus&time=...&toTime=...` and `GET /emissions/forecasts/current`. Values are
g/kWh. What they count, the answer does not say: so signal, basis and step must be declared. A rating of 0 is the SDK's
word for "none". Whether a rating was measured is not told either, so it counts as estimated.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any, ClassVar

from carbon_nas.errors import BadData, ConfigurationError, NoData
from carbon_nas.grid.answers import Points, ceil_to, decode_json, floor_to, require_echo, rows_of
from carbon_nas.grid.service import HttpProvider, Question, ServiceOptions
from carbon_nas.model import Accounting, Basis, Capabilities, Quality, Signal, utc

NAME = "carbon-aware-sdk"
LOOK_BACK = timedelta(hours=6)
MINUTE = timedelta(minutes=1)
ROUND = 5 * MINUTE  # so that a repeated question is the same
DURATION = re.compile(r"(?:(\d+)\.)?(\d+):(\d{2}):(\d{2})")


@dataclass(frozen=True, kw_only=True)
class CarbonAwareSdkOptions(ServiceOptions):
    """Where the site's service is, and what the source behind it gives."""

    signal: Signal
    basis: Basis
    step_minutes: float
    accounting: Accounting = Accounting.UNKNOWN
    forecast: bool = True
    licence: str = "as the source behind the Carbon Aware SDK says"
    attribution: str = "Carbon Aware SDK, and the source behind it"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.step_minutes <= 60:
            raise ValueError("step_minutes must be from 1 to 60")


class CarbonAwareSdkProvider(HttpProvider):
    """What the site's service answers; zones are its locations (`eastus`)."""

    NAME = NAME
    own_zone_names = True
    Options: ClassVar[type] = CarbonAwareSdkOptions

    @property
    def capabilities(self) -> Capabilities:
        """As declared."""
        options = self.options
        return Capabilities(
            signal=options.signal,
            basis=options.basis,
            step=self._step,
            history=True,
            forecast=options.forecast,
            licence=options.licence,
            attribution=options.attribution,
            accounting=options.accounting,
            lag=timedelta(hours=1),
        )

    @property
    def _step(self) -> timedelta:
        return timedelta(minutes=self.options.step_minutes)

    def check_zone(self, zone: str) -> None:
        """Accept what can be a location."""
        if not re.fullmatch(r"[A-Za-z0-9_-]+", zone):
            raise ConfigurationError(f"{NAME!r} has locations as 'eastus', not {zone!r}", key="zone")

    def present(self, zone: str, now: datetime) -> Question:
        """Ask for the last hours."""
        return self.past(zone, now - LOOK_BACK, now)

    def past(self, zone: str, start: datetime, end: datetime) -> Question:
        """Ask for a range."""
        times = {"time": text(floor_to(start, ROUND)), "toTime": text(ceil_to(end, ROUND))}
        parse = partial(parse_observed, zone=zone, step=self._step)
        return Question("/emissions/bylocation", {"location": zone, **times}, parse=parse)

    def ahead(self, zone: str, now: datetime, until: datetime) -> Question:
        """Ask for all that is forecast: the service refuses a range that reaches beyond it."""
        del now, until
        parse = partial(parse_forecast, zone=zone, step=self._step)
        return Question("/emissions/forecasts/current", {"location": zone}, parse=parse)


def parse_observed(body: bytes, *, zone: str, step: timedelta) -> Points:
    """Read a list of ratings.

    Raises:
        ProviderError: another location or step, or not of the expected form.
    """
    points = Points(NAME)
    for row in rows_of({"emissions": decode_json(body, NAME)}, "emissions", NAME):
        with points.row():
            require_echo(row["location"], zone, NAME)
            start = utc(row["time"])
            length = duration(row["duration"]) if row.get("duration") is not None else step
            points.add(start, _end(start, length, step), row["rating"], Quality.ESTIMATED)
    return points


def parse_forecast(body: bytes, *, zone: str, step: timedelta) -> Points:
    """Read the first forecast of the list; `duration` is in minutes there.

    Raises:
        ProviderError: another location or step, or not of the expected form.
    """
    forecasts = rows_of({"forecasts": decode_json(body, NAME)}, "forecasts", NAME)
    first = forecasts[0]
    if not isinstance(first, Mapping):
        raise NoData(f"{NAME}: the answer holds no forecast")
    require_echo(first.get("location"), zone, NAME)
    points = Points(NAME)
    for row in rows_of(first, "forecastData", NAME):
        with points.row():
            require_echo(row["location"], zone, NAME)
            start = utc(row["timestamp"])
            points.add(start, _end(start, row["duration"] * MINUTE, step), row["value"], Quality.FORECAST)
    return points


def duration(text: Any) -> timedelta:
    """Read a .NET time span, `01:00:00` or `1.00:00:00`.

    Raises:
        ValueError: it is none.
    """
    match = DURATION.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is no duration")
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)


def _end(start: datetime, length: timedelta, step: timedelta) -> datetime:
    if length != step:
        raise BadData(f"{NAME}: intervals last {length}, not {step} as declared; mend step_minutes")
    return start + length


def text(when: datetime) -> str:
    """Write a time as the API wants it."""
    return when.strftime("%Y-%m-%dT%H:%M:%SZ")
