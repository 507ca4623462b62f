"""One declared number for ever: for the many places whose grid publishes a yearly factor and nothing else.

It is not a measurement, and says so: its quality is `estimated`, its provider `static`. A constant has neither history
nor forecast, so it fills no gap of the past that another provider may fill later.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import ClassVar, NoReturn

import httpx

from carbon_nas.errors import NoData
from carbon_nas.grid.answers import floor_to
from carbon_nas.interfaces import Clock
from carbon_nas.model import (
    MAX_PLAUSIBLE_GRAMS_PER_KWH,
    Accounting,
    Basis,
    Capabilities,
    Quality,
    Reading,
    Signal,
)

STEP = timedelta(hours=1)


@dataclass(frozen=True, kw_only=True)
class StaticOptions:
    """The number in g/kWh, what it counts, and where it is published (`source`, with its year: reports print it).

    Raises:
        ValueError: the number is not credible, or its source is not named.
    """

    grams_per_kwh: float
    source: str
    basis: Basis = Basis.UNKNOWN
    signal: Signal = Signal.AVERAGE
    accounting: Accounting = Accounting.UNKNOWN
    licence: str = "as its publisher says"

    def __post_init__(self) -> None:
        if not 0 < self.grams_per_kwh <= MAX_PLAUSIBLE_GRAMS_PER_KWH:
            raise ValueError(f"grams_per_kwh must be above 0 and at most {MAX_PLAUSIBLE_GRAMS_PER_KWH:g}")
        if not self.source.strip():
            raise ValueError("source must name who publishes the number, and of which year it is")


class StaticProvider:
    """Gives the declared number for the present hour, in any zone."""

    Options: ClassVar[type] = StaticOptions

    def __init__(
        self, options: StaticOptions, *, clock: Clock, http: httpx.AsyncClient | None = None
    ) -> None:
        del http
        self._options = options
        self._clock = clock

    @property
    def capabilities(self) -> Capabilities:
        """As declared."""
        options = self._options
        return Capabilities(
            signal=options.signal,
            basis=options.basis,
            step=STEP,
            history=False,
            forecast=False,
            licence=options.licence,
            attribution=options.source,
            accounting=options.accounting,
        )

    async def start(self, zone: str) -> None:
        """Accept any zone."""

    async def latest(self, zone: str) -> Reading:
        """Give the number, for the present hour."""
        now = self._clock.now()
        start = floor_to(now, STEP)
        return Reading(
            zone=zone,
            start=start,
            end=start + STEP,
            grams_per_kwh=self._options.grams_per_kwh,
            quality=Quality.ESTIMATED,
            signal=self._options.signal,
            basis=self._options.basis,
            provider="static",
            fetched_at=now,
        )

    async def history(self, zone: str, start: datetime, end: datetime) -> NoReturn:
        """Have none.

        Raises:
            NoData: always.
        """
        raise NoData(f"a constant has no history: {zone}, {start} to {end}")

    async def forecast(self, zone: str, until: datetime) -> NoReturn:
        """Have none.

        Raises:
            NoData: always.
        """
        raise NoData(f"a constant has no forecast: {zone}, to {until}")
