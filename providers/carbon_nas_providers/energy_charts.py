"""European countries from Energy-Charts (Fraunhofer ISE): actual values, then a forecast to the end of tomorrow.

`GET https://api.energy-charts.info/co2eq?country=de`, no key. Two parallel arrays: `co2eq` is null in the future,
`co2eq_forecast` in the past; zeros occur and are no values. Quarter hours (DE) or hours (FR and others). Which
emission factors are used is not stated, and neither is how often it may be asked: so answers are kept longer.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import pairwise
from typing import ClassVar

from carbon_nas.errors import BadData, ConfigurationError, NoData
from carbon_nas.grid.answers import Points, ceil_to, decode_object, floor_to, rows_of
from carbon_nas.grid.service import HttpProvider, Question, ServiceOptions
from carbon_nas.model import Accounting, Basis, Capabilities, Quality, Reading, Signal

NAME = "energy-charts"
HOUR = timedelta(hours=1)
STEPS = (timedelta(minutes=15), timedelta(minutes=30), HOUR)
LOOK_BACK = timedelta(hours=12)
# fmt: off
COUNTRIES = frozenset([
    "AL", "AT", "BA", "BE", "BG", "CH", "CY", "CZ", "DE", "DK", "EE", "ES", "FI",
    "FR", "GE", "GR", "HR", "HU", "IE", "IT", "LT", "LU", "LV", "MD", "ME", "MK",
    "NL", "NO", "PL", "PT", "RO", "RS", "SE", "SI", "SK", "UA", "XK",
])
# fmt: on
"""Europe, as the service covers it; for some of these it may still answer that it has nothing."""


@dataclass(frozen=True, kw_only=True)
class EnergyChartsOptions(ServiceOptions):
    """Where the API is, and how patiently it is asked."""

    base_url: str = "https://api.energy-charts.info"
    requests_per_minute: float = 10.0
    max_age_seconds: float = 900.0


class EnergyChartsProvider(HttpProvider):
    """Average intensity of a country; zones are `DE`, `FR` and so on."""

    NAME = NAME
    Options: ClassVar[type] = EnergyChartsOptions

    _step = STEPS[0]  # until an answer has told

    @property
    def capabilities(self) -> Capabilities:
        """Steps as the country has them, known after the first answer."""
        return Capabilities(
            signal=Signal.AVERAGE,
            basis=Basis.UNKNOWN,
            step=self._step,
            history=True,
            forecast=True,
            licence="CC BY 4.0 (as others state it; not verified)",
            attribution="Energy-Charts, Fraunhofer ISE",
            accounting=Accounting.UNKNOWN,
            lag=HOUR,
        )

    def check_zone(self, zone: str) -> None:
        """Accept a country of Europe."""
        if zone not in COUNTRIES:
            raise ConfigurationError(
                f"{NAME!r} serves countries of Europe, as 'DE', not {zone!r}", key="zone"
            )

    def present(self, zone: str, now: datetime) -> Question:
        """Ask for the last hours and the next."""
        return question(zone, now - LOOK_BACK, now + HOUR, parse)

    def past(self, zone: str, start: datetime, end: datetime) -> Question:
        """Ask for actual values alone."""
        return question(zone, start, end, partial(parse, forecast=False))

    def ahead(self, zone: str, now: datetime, until: datetime) -> Question:
        """Ask for what is forecast."""
        return question(zone, now, until, partial(parse, actual=False))

    async def ask(self, zone: str, question: Question, max_age: timedelta | None = None) -> list[Reading]:
        """As every provider, and remember the step."""
        readings = await super().ask(zone, question, max_age)
        self._step = readings[0].end - readings[0].start
        return readings


def question(zone: str, start: datetime, end: datetime, parse: Callable[[bytes], Points]) -> Question:
    """Ask for a country and whole hours."""
    params = {"country": zone.lower(), "start": text(floor_to(start, HOUR)), "end": text(ceil_to(end, HOUR))}
    return Question("/co2eq", params, parse=parse)


def parse(body: bytes, *, actual: bool = True, forecast: bool = True) -> Points:
    """Read the arrays: the actual value where there is one, else the forecast.

    Raises:
        ProviderError: arrays of different lengths, or no regular step.
    """
    content = decode_object(body, NAME)
    times = rows_of(content, "unix_seconds", NAME)
    known, expected = (content.get(name) or [None] * len(times) for name in ("co2eq", "co2eq_forecast"))
    if (
        not isinstance(known, list)
        or not isinstance(expected, list)
        or {len(known), len(expected)} != {len(times)}
    ):
        raise BadData(f"{NAME}: the arrays have different lengths")
    step = _step(times)
    points = Points(NAME, step)
    for seconds, value, guess in zip(times, known, expected, strict=True):
        with points.row():
            start = datetime.fromtimestamp(seconds, UTC)
            told = actual and value is not None
            chosen = value if told else guess if forecast else None
            points.add(start, start + step, chosen, Quality.ACTUAL if told else Quality.FORECAST)
    return points


def _step(times: Sequence[object]) -> timedelta:
    if not all(type(seconds) is int for seconds in times):
        raise BadData(f"{NAME}: `unix_seconds` are not whole numbers")
    if len(times) < 2:
        raise NoData(f"{NAME}: a single value does not tell how long it holds")
    step = timedelta(seconds=min(after - before for before, after in pairwise(times)))  # type: ignore[operator]
    if step not in STEPS:
        raise BadData(f"{NAME}: a step of {step} is not known")
    return step


def text(when: datetime) -> str:
    """Write a time as the API wants it."""
    return when.strftime("%Y-%m-%dT%H:%MZ")
