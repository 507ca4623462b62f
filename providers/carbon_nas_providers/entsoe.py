"""Hourly generation by type from ENTSO-E's Transparency Platform, times declared factors (a token is needed).

`GET https://web-api.tp.entsoe.eu/api?documentType=A75&processType=A16&in_Domain=...`, XML. The token can only travel as
a parameter; it is kept out of every message. Types report in steps of 15, 30 or 60 minutes, which are brought to
hours; an hour that lacks a type its neighbours have is left out. Production only: imports are not seen.
"""

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import ClassVar

from pydantic import SecretStr

from carbon_nas.errors import ConfigurationError
from carbon_nas.grid.answers import Points, ceil_to, floor_to
from carbon_nas.grid.http import Keys
from carbon_nas.grid.service import HttpProvider, Question, ServiceOptions, reveal
from carbon_nas.model import Accounting, Basis, Capabilities, Quality, Signal
from carbon_nas_providers._entsoe_xml import QUARTER, read_generation
from carbon_nas_providers._mix import Fuel, factors_of, grams_per_kwh, missing_fuels

NAME = "entsoe"
HOUR = timedelta(hours=1)
LOOK_BACK = timedelta(hours=12)
EIC = re.compile(r"[0-9]{2}[XYZTWV][A-Z0-9-]{13}")
AREAS: Mapping[str, str] = {
    "AT": "10YAT-APG------L",
    "BE": "10YBE----------2",
    "BG": "10YCA-BULGARIA-R",
    "CH": "10YCH-SWISSGRIDZ",
    "CZ": "10YCZ-CEPS-----N",
    "DE": "10Y1001A1001A83F",
    "DE-LU": "10Y1001A1001A82H",
    "DK1": "10YDK-1--------W",
    "DK2": "10YDK-2--------M",
    "EE": "10Y1001A1001A39I",
    "ES": "10YES-REE------0",
    "FI": "10YFI-1--------U",
    "FR": "10YFR-RTE------C",
    "GR": "10YGR-HTSO-----Y",
    "HR": "10YHR-HEP------M",
    "HU": "10YHU-MAVIR----U",
    "LT": "10YLT-1001A0008Q",
    "LV": "10YLV-1001A00074",
    "NL": "10YNL----------L",
    "NO1": "10YNO-1--------2",
    "NO2": "10YNO-2--------T",
    "NO3": "10YNO-3--------J",
    "NO4": "10YNO-4--------9",
    "NO5": "10Y1001A1001A48H",
    "PL": "10YPL-AREA-----S",
    "PT": "10YPT-REN------W",
    "RO": "10YRO-TEL------P",
    "SE1": "10Y1001A1001A44P",
    "SE2": "10Y1001A1001A45N",
    "SE3": "10Y1001A1001A46L",
    "SE4": "10Y1001A1001A47J",
    "SI": "10YSI-ELES-----O",
    "SK": "10YSK-SEPS-----K",
}
"""Energy identification codes; any other area can be named by its own code."""

FUELS: Mapping[str, Fuel] = {
    "B01": Fuel.BIOMASS,
    "B02": Fuel.COAL,  # lignite
    "B03": Fuel.COAL,  # gas from coal
    "B04": Fuel.GAS,
    "B05": Fuel.COAL,
    "B06": Fuel.OIL,
    "B07": Fuel.COAL,  # oil shale
    "B08": Fuel.COAL,  # peat
    "B09": Fuel.GEOTHERMAL,
    "B10": Fuel.STORAGE,  # pumped
    "B11": Fuel.HYDRO,
    "B12": Fuel.HYDRO,
    "B13": Fuel.OTHER_RENEWABLE,  # marine
    "B14": Fuel.NUCLEAR,
    "B15": Fuel.OTHER_RENEWABLE,
    "B16": Fuel.SOLAR,
    "B17": Fuel.OTHER,  # waste
    "B18": Fuel.WIND,
    "B19": Fuel.WIND,
    "B20": Fuel.OTHER,
    "B25": Fuel.STORAGE,
}


@dataclass(frozen=True, kw_only=True)
class EntsoeOptions(ServiceOptions):
    """The token, and the factors in g/kWh by fuel."""

    base_url: str = "https://web-api.tp.entsoe.eu"
    token: SecretStr | None = None
    basis: Basis = Basis.LIFECYCLE
    factors: Mapping[Fuel, float] = field(default_factory=dict)
    max_age_seconds: float = 300.0

    def __post_init__(self) -> None:
        super().__post_init__()
        factors_of(self.basis, self.factors)


class EntsoeProvider(HttpProvider):
    """Average intensity of what an area generates; zones as in `AREAS`, or an area's own EIC."""

    NAME = NAME
    Options: ClassVar[type] = EntsoeOptions

    @property
    def capabilities(self) -> Capabilities:
        """Hours, an hour or more late, without a forecast."""
        return Capabilities(
            signal=Signal.AVERAGE,
            basis=self.options.basis,
            step=HOUR,
            history=True,
            forecast=False,
            licence="ENTSO-E Transparency Platform's terms; not all of its data may be used freely",
            attribution="ENTSO-E Transparency Platform; intensities computed from its figures",
            accounting=Accounting.PRODUCTION,
            lag=2 * HOUR,
        )

    def check_zone(self, zone: str) -> None:
        """Accept the known areas, and any code that is well formed."""
        if zone not in AREAS and not EIC.fullmatch(zone):
            raise ConfigurationError(
                f"{NAME!r} serves {', '.join(AREAS)} or an EIC, not {zone!r}", key="zone"
            )

    async def keys(self) -> Keys:
        """Give the token, as the parameter that the service wants."""
        return Keys(params={"securityToken": reveal(self.options.token)})

    def present(self, zone: str, now: datetime) -> Question:
        """Ask for the last hours."""
        return self.past(zone, now - LOOK_BACK, now)

    def past(self, zone: str, start: datetime, end: datetime) -> Question:
        """Ask for a range."""
        eic = AREAS.get(zone, zone)
        params = {
            "documentType": "A75",
            "processType": "A16",
            "in_Domain": eic,
            "periodStart": text(floor_to(start, HOUR)),
            "periodEnd": text(ceil_to(end, HOUR)),
        }
        factors = factors_of(self.options.basis, self.options.factors)
        return Question(
            "/api", params, parse=partial(parse, eic=eic, factors=factors), accept="application/xml"
        )


def parse(body: bytes, *, eic: str, factors: Mapping[Fuel, float]) -> Points:
    """Sum up each whole hour.

    Raises:
        ProviderError: no data, of another area or unit, or not of the expected form.
    """
    generation = read_generation(body, eic)
    hours: dict[datetime, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for kind, quarters in generation.items():
        for quarter, megawatts in quarters.items():
            hours[floor_to(quarter, HOUR)][kind].append(megawatts)
    counted = {kind for kind in generation if FUELS.get(kind) is not Fuel.STORAGE}
    points = Points(NAME, HOUR)
    for start, told in hours.items():
        whole = {
            kind: sum(parts) / len(parts) for kind, parts in told.items() if len(parts) == HOUR // QUARTER
        }
        missing = missing_fuels(whole, counted)
        if missing:
            points.skip(f"has no whole hour of {missing}")
            continue
        generated: dict[Fuel, float] = defaultdict(float)
        for kind, megawatts in whole.items():
            generated[FUELS.get(kind, Fuel.OTHER)] += max(megawatts, 0.0)
        with points.row():
            points.add(start, start + HOUR, grams_per_kwh(generated, factors), Quality.ESTIMATED)
    return points


def text(when: datetime) -> str:
    """Write a time as the API wants it."""
    return when.strftime("%Y%m%d%H%M")
