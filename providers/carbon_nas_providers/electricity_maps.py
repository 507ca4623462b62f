"""Nearly the whole world from Electricity Maps: hourly, flow-traced, life-cycle or direct (a token is needed).

`https://api.electricitymaps.com/v4`; v3 has the same paths and fields, so set `base_url` for it. The token travels
in the header `auth-token`. Without care the service answers for the caller's own zone when it does not know the one
asked for, so the zone in the answer is checked. `carbonIntensity` may be null, which is no value.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from functools import partial
from typing import Any, ClassVar

from pydantic import SecretStr

from carbon_nas.errors import BadData, ConfigurationError
from carbon_nas.grid.answers import Points, ceil_to, decode_object, floor_to, require_echo, rows_of
from carbon_nas.grid.http import Keys
from carbon_nas.grid.service import HttpProvider, Question, ServiceOptions, reveal
from carbon_nas.model import Accounting, Basis, Capabilities, Quality, Signal, utc

NAME = "electricity-maps"
HOUR = timedelta(hours=1)
LONGEST_FORECAST_HOURS = 72
ZONE = re.compile(r"[A-Z]{2,3}(-[A-Z0-9]+)*")


class FactorType(StrEnum):
    """Which emission factors are applied, as the API names them."""

    LIFECYCLE = "lifecycle"
    DIRECT = "direct"


@dataclass(frozen=True, kw_only=True)
class ElectricityMapsOptions(ServiceOptions):
    """The token, the factors, and what the plan allows.

    The free plan has neither a forecast nor history before the last 24 h: asking for it is refused. Say with `forecast`
    and `past_range` that yours has.
    """

    base_url: str = "https://api.electricitymaps.com/v4"
    token: SecretStr | None = None
    emission_factor_type: FactorType = FactorType.LIFECYCLE
    forecast: bool = False
    past_range: bool = False


class ElectricityMapsProvider(HttpProvider):
    """Average intensity of what a zone uses, imports traced; zones as the service names them (`DE`, `US-CAL-CISO`)."""

    NAME = NAME
    Options: ClassVar[type] = ElectricityMapsOptions
    LONGEST_RANGE = timedelta(days=9)  # the service's limit is 10 days

    @property
    def capabilities(self) -> Capabilities:
        """Hours; the forecast as the plan has it."""
        return Capabilities(
            signal=Signal.AVERAGE,
            basis=Basis(self.options.emission_factor_type),
            step=HOUR,
            history=True,
            forecast=self.options.forecast,
            licence="Electricity Maps' terms; the free plan is for non-commercial use",
            attribution="Electricity Maps",
            accounting=Accounting.CONSUMPTION,
            lag=2 * HOUR,
        )

    def check_zone(self, zone: str) -> None:
        """Accept what has the form of a zone."""
        if not ZONE.fullmatch(zone):
            raise ConfigurationError(f"{NAME!r} has zones as 'DE' or 'US-CAL-CISO', not {zone!r}", key="zone")

    async def keys(self) -> Keys:
        """Give the token, in a header."""
        return Keys(headers={"auth-token": reveal(self.options.token)})

    def present(self, zone: str, now: datetime) -> Question:
        """Ask for the newest hour."""
        del now
        return self._question(zone, "latest", None)

    def past(self, zone: str, start: datetime, end: datetime) -> Question:
        """Ask for a range or, without `past_range`, for the last 24 h, whatever the range."""
        if not self.options.past_range:
            return self._question(zone, "history", "history")
        times = {"start": text(floor_to(start, HOUR)), "end": text(ceil_to(end, HOUR))}
        return self._question(zone, "past-range", "data", times)

    def ahead(self, zone: str, now: datetime, until: datetime) -> Question:
        """Ask for up to 72 h."""
        hours = min(max(-((now - until) // HOUR), 1), LONGEST_FORECAST_HOURS)
        return self._question(zone, "forecast", "forecast", {"horizonHours": str(hours)})

    def _question(
        self, zone: str, what: str, key: str | None, more: dict[str, str] | None = None
    ) -> Question:
        factors = str(self.options.emission_factor_type)
        params = {"zone": zone, "emissionFactorType": factors, "disableCallerLookup": "true", **(more or {})}
        return Question(
            f"/carbon-intensity/{what}", params, parse=partial(parse, zone=zone, factors=factors, key=key)
        )


def parse(body: bytes, *, zone: str, factors: str, key: str | None) -> Points:
    """Read an answer whose hours stand in the list `key`, or which is one hour itself (None).

    Raises:
        ProviderError: it is of another zone or of other factors, or not of the expected form.
    """
    content = decode_object(body, NAME)
    require_echo(content.get("zone"), zone, NAME)
    points = Points(NAME, HOUR)
    for row in [content] if key is None else rows_of(content, key, NAME):
        with points.row():
            _require_kind({**content, **row}, zone, factors)
            start = utc(row["datetime"])
            points.add(start, start + HOUR, row["carbonIntensity"], _quality(row, key))
    return points


def _require_kind(row: Mapping[str, Any], zone: str, factors: str) -> None:
    require_echo(row["zone"], zone, NAME)
    for name, wanted in (("emissionFactorType", factors), ("temporalGranularity", "hourly")):
        if row.get(name, wanted) != wanted:
            raise BadData(f"{NAME}: {name} is {row[name]!r}, not {wanted!r}")


def _quality(row: Mapping[str, Any], key: str | None) -> Quality:
    if key == "forecast":
        return Quality.FORECAST
    # Without the field nothing says that it was measured.
    return Quality.ESTIMATED if row.get("isEstimated", True) else Quality.ACTUAL


def text(when: datetime) -> str:
    """Write a time as the API wants it."""
    return when.strftime("%Y-%m-%dT%H:%M:%SZ")
