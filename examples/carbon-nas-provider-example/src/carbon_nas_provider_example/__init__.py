"""A source of carbon intensity for carbon-nas, in one file: copy it, and put your service in the place of this one.

The service it asks is made up. `GET {base_url}/v1/intensity?area=XY&from=...&to=...`, with a token in a header, answers

    {"area": "XY", "unit": "g/kWh", "points": [{"at": "2024-03-31T01:00:00Z", "value": 132.5, "kind": "measured"}]}

with the start of each hour; `kind` is `measured` or `expected`.
"""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import ClassVar

from pydantic import SecretStr

from carbon_nas.errors import BadData, ConfigurationError
from carbon_nas.grid.answers import Points, ceil_to, decode_object, floor_to, require_echo, rows_of
from carbon_nas.grid.http import Keys
from carbon_nas.grid.service import HttpProvider, Question, ServiceOptions, reveal
from carbon_nas.model import Accounting, Basis, Capabilities, Quality, Signal, utc

NAME = "example"
HOUR = timedelta(hours=1)
QUALITIES = {"measured": Quality.ACTUAL, "expected": Quality.FORECAST}


@dataclass(frozen=True, kw_only=True)
class ExampleOptions(ServiceOptions):
    """The keys of `[grid.example]`. The token is a secret, so it comes from CARBON_NAS_EXAMPLE_TOKEN instead."""

    base_url: str = "https://intensity.example.org"
    token: SecretStr | None = None


class ExampleProvider(HttpProvider):
    """Average, life-cycle intensity of what an area uses; zones are two capital letters."""

    NAME = NAME
    Options: ClassVar[type] = ExampleOptions
    LONGEST_RANGE = timedelta(days=7)

    @property
    def capabilities(self) -> Capabilities:
        """Hours, with history and a forecast. Licence and attribution reach every report."""
        return Capabilities(
            signal=Signal.AVERAGE,
            basis=Basis.LIFECYCLE,
            step=HOUR,
            history=True,
            forecast=True,
            licence="CC BY 4.0",
            attribution="Example Grid Company",
            accounting=Accounting.CONSUMPTION,
            lag=HOUR,
        )

    def check_zone(self, zone: str) -> None:
        """Refuse what cannot be an area, before anything is asked."""
        if not re.fullmatch("[A-Z]{2}", zone):
            raise ConfigurationError(f"{NAME!r} has areas as 'XY', not {zone!r}", key="zone")

    async def keys(self) -> Keys:
        """Give what proves who asks; it reaches no message, log or cache."""
        return Keys(headers={"authorization": f"Bearer {reveal(self.options.token)}"})

    def present(self, zone: str, now: datetime) -> Question:
        """Ask for the last hours."""
        return self.past(zone, now - 3 * HOUR, now)

    def past(self, zone: str, start: datetime, end: datetime) -> Question:
        """Ask for a range. Rounded, so that the answer to the same question can be kept on disk."""
        times = {
            "from": f"{floor_to(start, HOUR):%Y-%m-%dT%H:%MZ}",
            "to": f"{ceil_to(end, HOUR):%Y-%m-%dT%H:%MZ}",
        }
        return Question("/v1/intensity", {"area": zone, **times}, parse=partial(parse, zone=zone))

    def ahead(self, zone: str, now: datetime, until: datetime) -> Question:
        """Ask for what is expected."""
        return self.past(zone, now, until)


def parse(body: bytes, *, zone: str) -> Points:
    """Read an answer. Pure: bytes in, intervals out.

    Raises:
        ProviderError: another area or unit, nothing in it, or not of the expected form.
    """
    content = decode_object(body, NAME)
    require_echo(content.get("area"), zone, NAME)
    if content.get("unit") != "g/kWh":
        raise BadData(f"{NAME}: the unit {content.get('unit')!r} is not known")
    points = Points(NAME, HOUR)
    for row in rows_of(content, "points", NAME):
        with points.row():  # a row that is not as expected is left out, and said so
            start = utc(row["at"])
            points.add(start, start + HOUR, row["value"], QUALITIES[row["kind"]])
    return points
