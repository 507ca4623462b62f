"""Great Britain's live intensity and 48 h forecast, from NESO's Carbon Intensity API (no key needed).

The API is described at https://carbon-intensity.github.io/api-definitions/. What it does besides: a range
includes both its ends and the half hour before; `actual` is null until about half an hour after the interval,
and is revised for a day or more; a forecast may end early; an outage may be a status 200 with nothing in it.
Regions have no `actual` at all, so theirs are forecasts for ever, and are marked so.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any, ClassVar, TypeAlias

from carbon_nas.errors import BadData, ConfigurationError
from carbon_nas.grid.answers import Points, ceil_to, decode_object, floor_to, require_echo, rows_of
from carbon_nas.grid.service import HttpProvider, Question, ServiceOptions
from carbon_nas.model import Accounting, Basis, Capabilities, Quality, Signal, utc

NAME = "neso"
STEP = timedelta(minutes=30)
REGIONS = 17
ZONE = re.compile(r"GB(?:-(?:(?P<regionid>[1-9]\d?)|(?P<postcode>[A-Z]{1,2}\d[A-Z\d]?)))?")

Pick: TypeAlias = Callable[[Mapping[str, Any]], tuple[Any, Quality]]
"""Chooses, from a half hour's `intensity` object, the value to use and says what it is worth."""


@dataclass(frozen=True, kw_only=True)
class NesoOptions(ServiceOptions):
    """Where the API is, and how patiently it is asked."""

    base_url: str = "https://api.carbonintensity.org.uk"


class NesoProvider(HttpProvider):
    """Average intensity, direct emissions, imports and grid losses included.

    Zones: `GB`; a region by its number, `GB-13` (London); or by the first half of a postcode, `GB-EN2`.
    """

    NAME = NAME
    Options: ClassVar[type] = NesoOptions
    LONGEST_RANGE = timedelta(days=13)  # the API's limit is 14 days, its own additions included

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

    def check_zone(self, zone: str) -> None:
        """Accept GB, its regions and its postcodes."""
        match = ZONE.fullmatch(zone)
        if match is None or int(match["regionid"] or 1) > REGIONS:
            raise ConfigurationError(
                f"provider 'neso' serves 'GB', 'GB-1' to 'GB-{REGIONS}' and postcodes as 'GB-EN2', not {zone!r}",
                key="zone",
            )

    def present(self, zone: str, now: datetime) -> Question:
        """Ask for the present half hour."""
        del now
        kind, place = area(zone)
        return Question(
            f"/regional/{kind}/{place}" if kind else "/intensity",
            parse=partial(parse, zone=zone, pick=observed),
        )

    def past(self, zone: str, start: datetime, end: datetime) -> Question:
        """Ask for a range; what is not known yet comes as a forecast."""
        when = f"{text(floor_to(start, STEP))}/{text(ceil_to(end, STEP))}"
        return Question(range_path(zone, when), parse=partial(parse, zone=zone, pick=observed))

    def ahead(self, zone: str, now: datetime, until: datetime) -> Question:
        """Ask for 48 h, which is all there is."""
        del until
        when = f"{text(floor_to(now, STEP))}/fw48h"
        return Question(range_path(zone, when), parse=partial(parse, zone=zone, pick=expected))


def area(zone: str) -> tuple[str, str]:
    """Give the kind of a zone's area, `regionid` or `postcode`, and its name; both empty for the whole country."""
    match = ZONE.fullmatch(zone)
    told = match.groupdict() if match else {}
    return next(((kind, place) for kind, place in told.items() if place), ("", ""))


def range_path(zone: str, when: str) -> str:
    """Give the path of a range of time."""
    kind, place = area(zone)
    return f"/regional/intensity/{when}/{kind}/{place}" if kind else f"/intensity/{when}"


def observed(intensity: Mapping[str, Any]) -> tuple[Any, Quality]:
    """Prefer the actual value."""
    if intensity.get("actual") is None:
        return intensity.get("forecast"), Quality.FORECAST
    return intensity["actual"], Quality.ACTUAL


def expected(intensity: Mapping[str, Any]) -> tuple[Any, Quality]:
    """Take the forecast, whatever became of it."""
    return intensity.get("forecast"), Quality.FORECAST


def parse(body: bytes, *, zone: str, pick: Pick) -> Points:
    """Read an answer, national or of a region.

    Raises:
        ProviderError: it is empty, of another place, or not of the expected form.
    """
    content = decode_object(body, NAME)
    rows = rows_of(_region(content, *area(zone)) if area(zone)[0] else content, "data", NAME)
    points = Points(NAME, STEP)
    for row in rows:
        with points.row():
            points.add(utc(row["from"]), utc(row["to"]), *pick(row["intensity"]))
    return points


def _region(content: Mapping[str, Any], kind: str, place: str) -> Mapping[str, Any]:
    """Find the region: a list of one when the present is asked for, an object when it is a range."""
    data = content.get("data")
    found = data if isinstance(data, dict) else rows_of(content, "data", NAME)[0]
    if not isinstance(found, dict):
        raise BadData(f"{NAME}: the region is {type(found).__name__}, not an object")
    if kind in found or kind == "regionid":
        require_echo(str(found.get(kind)), place, NAME)
    return found


def text(when: datetime) -> str:
    """Write a time as the API wants it."""
    return when.strftime("%Y-%m-%dT%H:%MZ")
