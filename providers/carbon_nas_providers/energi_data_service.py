"""Denmark's two price areas in five-minute steps from Energi Data Service (Energinet; no key needed).

`GET https://api.energidataservice.dk/dataset/CO2Emis` and `.../CO2EmisProg`. `Minutes5UTC` is UTC without saying so.
`start` and `end` are read as Danish time, so a margin is asked for and cut off here. Without `limit` and `sort` only
the last 100 rows come.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import ClassVar

from carbon_nas.errors import BadData, ConfigurationError
from carbon_nas.grid.answers import Points, ceil_to, decode_object, floor_to, require_echo, rows_of, utc_known
from carbon_nas.grid.service import HttpProvider, Question, ServiceOptions
from carbon_nas.model import Accounting, Basis, Capabilities, Quality, Signal

NAME = "energi-data-service"
STEP = timedelta(minutes=5)
LOOK_BACK = timedelta(hours=2)
MARGIN = timedelta(hours=3)  # Danish time is at most two hours ahead of UTC
ROWS = 4000
AREAS: Mapping[str, str] = {"DK1": "DK1", "DK2": "DK2", "DK-DK1": "DK1", "DK-DK2": "DK2"}


@dataclass(frozen=True, kw_only=True)
class EnergiDataServiceOptions(ServiceOptions):
    """Where the API is, and how patiently it is asked."""

    base_url: str = "https://api.energidataservice.dk"
    requests_per_minute: float = 20.0


class EnergiDataServiceProvider(HttpProvider):
    """Average intensity of the electricity used; zones `DK1` (west) and `DK2` (east)."""

    NAME = NAME
    Options: ClassVar[type] = EnergiDataServiceOptions

    @property
    def capabilities(self) -> Capabilities:
        """Five minutes, with a forecast to the end of the day or the next."""
        return Capabilities(
            signal=Signal.AVERAGE,
            basis=Basis.DIRECT,
            step=STEP,
            history=True,
            forecast=True,
            licence="Energinet's terms of use: free, with attribution",
            attribution="Energi Data Service, Energinet",
            accounting=Accounting.CONSUMPTION,
            lag=2 * STEP,
        )

    def check_zone(self, zone: str) -> None:
        """Accept the two price areas."""
        if zone not in AREAS:
            raise ConfigurationError(f"{NAME!r} serves {', '.join(AREAS)}, not {zone!r}", key="zone")

    def present(self, zone: str, now: datetime) -> Question:
        """Ask for the last hours."""
        return self.past(zone, now - LOOK_BACK, now)

    def past(self, zone: str, start: datetime, end: datetime) -> Question:
        """Ask for a range."""
        return question("CO2Emis", AREAS[zone], start, end, Quality.ACTUAL)

    def ahead(self, zone: str, now: datetime, until: datetime) -> Question:
        """Ask for what is forecast."""
        return question("CO2EmisProg", AREAS[zone], now, until, Quality.FORECAST)


def question(dataset: str, area: str, start: datetime, end: datetime, quality: Quality) -> Question:
    """Ask for one area's rows, oldest first."""
    params = {
        "start": text(floor_to(start, STEP) - MARGIN),
        "end": text(ceil_to(end, STEP) + MARGIN),
        "filter": json.dumps({"PriceArea": [area]}, separators=(",", ":")),
        "sort": "Minutes5UTC",
        "limit": str(ROWS),
    }
    return Question(f"/dataset/{dataset}", params, parse=partial(parse, area=area, quality=quality))


def parse(body: bytes, *, area: str, quality: Quality) -> Points:
    """Read the records.

    Raises:
        ProviderError: another area, cut short, or not of the expected form.
    """
    records = rows_of(decode_object(body, NAME), "records", NAME)
    if len(records) >= ROWS:
        raise BadData(f"{NAME}: the answer is cut short at {ROWS} rows")
    points = Points(NAME, STEP)
    for record in records:
        with points.row():
            require_echo(record["PriceArea"], area, NAME)
            start = utc_known(record["Minutes5UTC"])
            points.add(start, start + STEP, record["CO2Emission"], quality)
    return points


def text(when: datetime) -> str:
    """Write a time as the API wants it."""
    return when.strftime("%Y-%m-%dT%H:%M")
