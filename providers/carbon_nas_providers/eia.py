"""Hourly generation by fuel from the US Energy Information Administration, times declared factors (a key is needed).

`GET https://api.eia.gov/v2/electricity/rto/fuel-type-data/data/`, the key in the header `X-Api-Key`. `period` is the
END of the hour, UTC; values are strings or numbers and may be null. An hour that lacks a value of a fuel its neighbours
have is left out. The figures are up to a day late and cover production only: right for accounting, late for deciding.
"""

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, ClassVar

import structlog
from pydantic import SecretStr

from carbon_nas.errors import BadData, ConfigurationError
from carbon_nas.grid.answers import Points, ceil_to, decode_object, floor_to, require_echo, rows_of
from carbon_nas.grid.http import Keys
from carbon_nas.grid.service import HttpProvider, Question, ServiceOptions, reveal
from carbon_nas.model import Accounting, Basis, Capabilities, Quality, Signal
from carbon_nas_providers._mix import Fuel, factors_of, grams_per_kwh, missing_fuels

NAME = "eia"
HOUR = timedelta(hours=1)
LOOK_BACK = timedelta(hours=48)
ROWS = 5000  # the API's limit of a page
ZONE = re.compile(r"US-([A-Z0-9]{2,6})")
UNIT = "megawatthours"
FUELS: Mapping[str, Fuel] = {
    "COL": Fuel.COAL,
    "NG": Fuel.GAS,
    "OIL": Fuel.OIL,
    "NUC": Fuel.NUCLEAR,
    "WAT": Fuel.HYDRO,
    "WND": Fuel.WIND,
    "SUN": Fuel.SOLAR,
    "SNB": Fuel.SOLAR,  # with its battery
    "WNB": Fuel.WIND,
    "GEO": Fuel.GEOTHERMAL,
    "BIO": Fuel.BIOMASS,
    "OTH": Fuel.OTHER,
    "UNK": Fuel.OTHER,
    "BAT": Fuel.STORAGE,
    "PS": Fuel.STORAGE,
    "OES": Fuel.STORAGE,
    "UES": Fuel.STORAGE,
}
"""Form EIA-930's codes; one that is not here counts as other, which is dirty."""


@dataclass(frozen=True, kw_only=True)
class EiaOptions(ServiceOptions):
    """The key, the factors in g/kWh by fuel, and whether a period names the end of its hour.

    EIA says it does, and most authorities follow; `US-PJM` was seen to send the start.
    """

    base_url: str = "https://api.eia.gov"
    api_key: SecretStr | None = None
    basis: Basis = Basis.LIFECYCLE
    factors: Mapping[Fuel, float] = field(default_factory=dict)
    hour_ending: bool = True
    max_age_seconds: float = 900.0

    def __post_init__(self) -> None:
        super().__post_init__()
        factors_of(self.basis, self.factors)


class EiaProvider(HttpProvider):
    """Average intensity of what a balancing authority generates; zones `US-` and its code, as `US-CISO`."""

    NAME = NAME
    Options: ClassVar[type] = EiaOptions

    @property
    def capabilities(self) -> Capabilities:
        """Hours, a day late, without a forecast."""
        return Capabilities(
            signal=Signal.AVERAGE,
            basis=self.options.basis,
            step=HOUR,
            history=True,
            forecast=False,
            licence="US public domain",
            attribution="U.S. Energy Information Administration, Form EIA-930; intensities computed from its figures",
            accounting=Accounting.PRODUCTION,
            lag=timedelta(hours=24),
        )

    def check_zone(self, zone: str) -> None:
        """Accept what has the form of a balancing authority."""
        if not ZONE.fullmatch(zone):
            raise ConfigurationError(f"{NAME!r} has zones as 'US-CISO', not {zone!r}", key="zone")

    async def keys(self) -> Keys:
        """Give the key, in a header: parameters reach logs."""
        return Keys(headers={"x-api-key": reveal(self.options.api_key)})

    def present(self, zone: str, now: datetime) -> Question:
        """Ask for the last days."""
        return self.past(zone, now - LOOK_BACK, now)

    def past(self, zone: str, start: datetime, end: datetime) -> Question:
        """Ask for a range; both ends of the API's are included."""
        respondent = zone.removeprefix("US-")
        params = {
            "frequency": "hourly",
            "data[]": "value",
            "facets[respondent][]": respondent,
            "start": text(floor_to(start, HOUR)),
            "end": text(ceil_to(end, HOUR) + HOUR),
            "sort[0][column]": "period",
            "sort[0][direction]": "asc",
            "offset": "0",
            "length": str(ROWS),
        }
        factors = factors_of(self.options.basis, self.options.factors)
        parse_it = partial(
            parse, respondent=respondent, factors=factors, hour_ending=self.options.hour_ending
        )
        return Question("/v2/electricity/rto/fuel-type-data/data/", params, parse=parse_it)


def parse(body: bytes, *, respondent: str, factors: Mapping[Fuel, float], hour_ending: bool = True) -> Points:
    """Sum up each hour.

    Raises:
        ProviderError: another respondent or unit, cut short, or not of the expected form.
    """
    response = decode_object(body, NAME).get("response")
    if not isinstance(response, dict):
        raise BadData(f"{NAME}: the answer has no `response`")
    rows = rows_of(response, "data", NAME)
    if len(rows) >= ROWS:
        raise BadData(f"{NAME}: the answer is cut short at {ROWS} rows")
    points = Points(NAME, HOUR)
    hours: dict[datetime, dict[str, float | None]] = defaultdict(dict)
    for row in rows:
        with points.row():
            require_echo(row["respondent"], respondent, NAME)
            require_echo(row.get("value-units", UNIT), UNIT, NAME)
            named = datetime.strptime(row["period"], "%Y-%m-%dT%H").replace(tzinfo=UTC)
            hour, code = hours[named - HOUR if hour_ending else named], str(row["fueltype"])
            hour[code] = None  # a fuel whose value cannot be read is missing, not absent
            hour[code] = number(row["value"])
    _add_hours(points, hours, factors)
    return points


def number(value: Any) -> float | None:
    """Read a number, which may be written as text; None stays None.

    Raises:
        TypeError, ValueError: it is none.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise TypeError(f"{value!r} is no number")
    read = float(value)
    if not abs(read) < float("inf"):
        raise ValueError(f"{value!r} is no number")
    return read


def _add_hours(
    points: Points, hours: Mapping[datetime, Mapping[str, float | None]], factors: Mapping[Fuel, float]
) -> None:
    codes = {code for hour in hours.values() for code in hour}
    unknown = sorted(codes - set(FUELS))
    if unknown:
        structlog.get_logger(__name__).warning("unknown fuels count as other", provider=NAME, codes=unknown)
    counted = {code for code in codes if FUELS.get(code) is not Fuel.STORAGE}
    for start, hour in hours.items():
        known = {code: value for code, value in hour.items() if value is not None}
        missing = missing_fuels(known, counted)
        if missing:
            points.skip(f"has no value of {missing}")
            continue
        generated: dict[Fuel, float] = defaultdict(float)
        for code, value in known.items():
            generated[FUELS.get(code, Fuel.OTHER)] += max(value, 0.0)
        with points.row():
            points.add(start, start + HOUR, grams_per_kwh(generated, factors), Quality.ESTIMATED)


def text(when: datetime) -> str:
    """Write a time as the API wants it."""
    return when.strftime("%Y-%m-%dT%H")
