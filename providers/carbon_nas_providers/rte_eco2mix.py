"""France in quarter hours from RTE's eCO2mix, by the open-data portal ODRE (no key needed).

Data set `eco2mix-national-tr` (real time, about the last month), field `taux_co2`: grams of CO2 per kWh generated, the
direct emissions of the plants, imports left out. The figures come from telemetry and are replaced later, so they count
as estimated. Rows reach to the end of the day, with null for what is to come. Both forms of the portal's API are read.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, ClassVar

from carbon_nas.errors import BadData, ConfigurationError
from carbon_nas.grid.answers import Points, ceil_to, decode_object, floor_to, require_echo, rows_of
from carbon_nas.grid.service import HttpProvider, Question, ServiceOptions
from carbon_nas.model import Accounting, Basis, Capabilities, Quality, Reading, Signal, utc

NAME = "rte-eco2mix"
STEP = timedelta(minutes=15)
LOOK_BACK = timedelta(hours=6)
HELD = timedelta(days=31)  # of data; to ask for a year, a page a day, would take longer than the feed waits
ROWS = 100  # the portal's limit of a page
PATH = "/api/explore/v2.1/catalog/datasets/eco2mix-national-tr/records"


@dataclass(frozen=True, kw_only=True)
class RteEco2mixOptions(ServiceOptions):
    """Where the portal is, and how patiently it is asked."""

    base_url: str = "https://odre.opendatasoft.com"
    requests_per_minute: float = 30.0


class RteEco2mixProvider(HttpProvider):
    """Average intensity of what is generated in France; zone `FR`."""

    NAME = NAME
    Options: ClassVar[type] = RteEco2mixOptions
    LONGEST_RANGE = timedelta(hours=24)  # 96 rows, a page

    @property
    def capabilities(self) -> Capabilities:
        """Quarter hours, without a forecast."""
        return Capabilities(
            signal=Signal.AVERAGE,
            basis=Basis.DIRECT,
            step=STEP,
            history=True,
            forecast=False,
            licence="Licence Ouverte / Etalab 2.0",
            attribution="RTE, eCO2mix",
            accounting=Accounting.PRODUCTION,
            lag=2 * STEP,
        )

    def check_zone(self, zone: str) -> None:
        """Accept France."""
        if zone != "FR":
            raise ConfigurationError(f"{NAME!r} serves 'FR', not {zone!r}", key="zone")

    def present(self, zone: str, now: datetime) -> Question:
        """Ask for the last hours."""
        return self.past(zone, now - LOOK_BACK, now)

    def past(self, zone: str, start: datetime, end: datetime) -> Question:
        """Ask for a range."""
        del zone
        first, last = floor_to(start, STEP), ceil_to(end, STEP)
        params = {
            "where": f"date_heure >= date'{text(first)}' and date_heure < date'{text(last)}'",
            "order_by": "date_heure",
            "limit": str(ROWS),
            "timezone": "UTC",
        }
        return Question(PATH, params, parse=parse)

    async def history(self, zone: str, start: datetime, end: datetime) -> Sequence[Reading]:
        """As every provider, but for days that the data set no longer holds."""
        return await super().history(zone, max(start, self.clock.now() - HELD), end)


def parse(body: bytes) -> Points:
    """Read the rows, in any order.

    Raises:
        ProviderError: of another area, or not of the expected form.
    """
    points = Points(NAME, STEP)
    for row in _rows(decode_object(body, NAME)):
        with points.row():
            require_echo(row.get("perimetre", "France"), "France", NAME)
            start = utc(row["date_heure"])
            points.add(start, start + STEP, row.get("taux_co2"), Quality.ESTIMATED)
    return points


def _rows(content: Mapping[str, Any]) -> Iterator[Any]:
    """Give the rows of version 2.1 (`results`), or of version 1 (`records`, each with its `fields`)."""
    if "records" not in content:
        yield from rows_of(content, "results", NAME)
        return
    for record in rows_of(content, "records", NAME):
        if not isinstance(record, dict) or not isinstance(record.get("fields"), dict):
            raise BadData(f"{NAME}: a record has no fields")
        yield record["fields"]


def text(when: datetime) -> str:
    """Write a time as the portal wants it."""
    return when.strftime("%Y-%m-%dT%H:%M:%SZ")
