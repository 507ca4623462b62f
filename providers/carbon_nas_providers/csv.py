"""Replays a recorded trace against whatever clock it is given: real, faster, or simulated.

A file has a header; a time column, `time_utc` or `datetime`, with the start of each interval in UTC; and an
intensity in g/kWh. It may be gzipped, and may have a forecast (blank where there was none), a `zone`, and a
`filled` column (1 where the value was not measured).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path
from typing import ClassVar

import httpx

from carbon_nas.errors import ConfigurationError, NoData
from carbon_nas.interfaces import Clock
from carbon_nas.model import Basis, Capabilities, Quality, Reading, Signal
from carbon_nas_providers._trace import Trace, check_table, read_table

COLUMNS: Mapping[str, Basis] = {
    "ci_direct": Basis.DIRECT,
    "ci_lifecycle": Basis.LIFECYCLE,
    "carbon_intensity": Basis.UNKNOWN,
}
"""The intensity columns that need no naming, and what they count."""


@dataclass(frozen=True, slots=True)
class Shipped:
    """A trace that comes with the project, in `carbon_nas/data`; see NOTICE."""

    zone: str
    column: str
    forecast_column: str | None
    licence: str
    attribution: str


TRACES: Mapping[str, Shipped] = {
    "gb-2023-30min": Shipped(
        "GB",
        "ci_direct",
        "api_forecast",
        "CC BY 4.0",
        "National Energy System Operator, Carbon Intensity API (CC BY 4.0)",
    ),
    "us-ciso-2021-2022-hourly": Shipped(
        "US-CISO",
        "ci_lifecycle",
        None,
        "US public domain",
        "U.S. Energy Information Administration, Form EIA-930; intensities computed from its generation figures",
    ),
}


@dataclass(frozen=True)
class CsvOptions:
    """Which series to replay: `trace`, one of those shipped, or `path`, a file of your own.

    `column` is the intensity column (needed where the header leaves a choice), `forecast_column` that of the
    forecasts; `basis` is needed only where the column's name does not tell it and several providers are mixed.

    Raises:
        ValueError: both or neither of `path` and `trace`, or a basis that the column contradicts.
    """

    path: Path | None = None
    trace: str | None = None
    column: str | None = None
    forecast_column: str | None = None
    signal: Signal = Signal.AVERAGE
    basis: Basis | None = None

    def __post_init__(self) -> None:
        if (self.path is None) == (self.trace is None):
            raise ValueError(f"give either path or trace; the traces shipped are {', '.join(TRACES)}")
        shipped = TRACES.get(self.trace or "")
        counts = COLUMNS.get(self.column or (shipped.column if shipped else ""), Basis.UNKNOWN)
        if self.basis not in {None, counts} and counts is not Basis.UNKNOWN:
            raise ValueError(f"basis {self.basis} contradicts the column, which holds {counts} emissions")


class CsvProvider:
    """Shows of a trace, at any moment, only what was known by then."""

    Options: ClassVar[type] = CsvOptions

    def __init__(self, options: CsvOptions, *, clock: Clock, http: httpx.AsyncClient | None = None) -> None:
        del http
        self._options = options
        self._clock = clock
        self._shipped = TRACES.get(options.trace or "")
        self._column = options.column or (self._shipped.column if self._shipped else None)
        self._trace: Trace | None = None

    @property
    def capabilities(self) -> Capabilities:
        """What the trace holds; known once it has been read."""
        own = "as the file's owner says"
        return Capabilities(
            signal=self._options.signal,
            basis=self._basis,
            step=self._read.step,
            history=True,
            forecast=self._read.forecasts is not None,
            licence=self._shipped.licence if self._shipped else own,
            attribution=self._shipped.attribution if self._shipped else own,
        )

    @property
    def period(self) -> tuple[datetime, datetime]:
        """The start and the end of the trace, once it has been read."""
        return self._read.start, self._read.end

    async def start(self, zone: str) -> None:
        """Read and check the whole file.

        Raises:
            ConfigurationError: unknown trace or zone; or the file is not whole, regular and credible.
        """
        path = self._path()
        if self._shipped and zone != self._shipped.zone:
            raise ConfigurationError(
                f"trace {self._options.trace!r} is of zone {self._shipped.zone!r}, not {zone!r}", key="zone"
            )
        table, lines = read_table(path)
        self._column = self._column or _only_intensity(list(table.columns), path)
        forecast = self._options.forecast_column
        if forecast is None and self._shipped and self._column == self._shipped.column:
            forecast = self._shipped.forecast_column
        self._trace = check_table(table, lines, path, value=self._column, forecast=forecast, zone=zone)

    async def latest(self, zone: str) -> Reading:
        """Give the reading that covers now.

        Raises:
            NoData: now is outside the trace's period.
        """
        trace, now = self._read, self._clock.now()
        if not trace.start <= now < trace.end:
            raise NoData(
                f"the trace covers {trace.start:%Y-%m-%dT%H:%MZ} to {trace.end:%Y-%m-%dT%H:%MZ} but it is"
                f" {now:%Y-%m-%dT%H:%MZ}; replay it by a clock that starts within its period"
            )
        return self._reading(trace.index(now), zone)

    async def history(self, zone: str, start: datetime, end: datetime) -> Sequence[Reading]:
        """Give the readings that begin in `[start, end)` and have ended."""
        trace = self._read
        first = max(0, -((trace.start - start) // trace.step))
        last = min(
            len(trace.grams_per_kwh), -((trace.start - end) // trace.step), trace.index(self._clock.now())
        )
        return [self._reading(index, zone) for index in range(first, last)]

    async def forecast(self, zone: str, until: datetime) -> Sequence[Reading]:
        """Give the recorded forecasts of intervals that have not begun, up to `until`.

        Raises:
            NoData: the trace has no forecasts, or none from now to `until`.
        """
        trace = self._read
        if trace.forecasts is None:
            raise NoData("the trace has no forecast column")
        first = max(0, trace.index(self._clock.now()) + 1)
        last = min(len(trace.forecasts), -((trace.start - until) // trace.step))
        points = [
            replace(self._reading(index, zone), grams_per_kwh=value, quality=Quality.FORECAST)
            for index in range(first, last)
            if (value := trace.forecasts[index]) is not None
        ]
        if not points:
            raise NoData(f"the trace has no forecast from now to {until:%Y-%m-%dT%H:%MZ}")
        return points

    @property
    def _basis(self) -> Basis:
        return self._options.basis or COLUMNS.get(self._column or "", Basis.UNKNOWN)

    @property
    def _read(self) -> Trace:
        if self._trace is None:
            raise RuntimeError("start() must have read the trace first")
        return self._trace

    def _path(self) -> Path:
        name = self._options.trace
        if name is None:
            return Path(self._options.path or "")
        if name not in TRACES:
            near = get_close_matches(name, TRACES, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ConfigurationError(
                f"no trace {name!r} is shipped, only {', '.join(TRACES)}{hint}", key="trace"
            )
        return Path(str(files("carbon_nas") / "data" / f"{name}.csv.gz"))

    def _reading(self, index: int, zone: str) -> Reading:
        trace = self._read
        start = trace.start + index * trace.step
        return Reading(
            zone=zone,
            start=start,
            end=start + trace.step,
            grams_per_kwh=trace.grams_per_kwh[index],
            quality=Quality.ESTIMATED if trace.filled[index] else Quality.ACTUAL,
            signal=self._options.signal,
            basis=self._basis,
            provider="csv",
            fetched_at=self._clock.now(),
        )


def _only_intensity(header: Sequence[str], path: Path) -> str:
    known = [name for name in COLUMNS if name in header]
    if len(known) == 1:
        return known[0]
    choice = f"{', '.join(known)} leave a choice" if known else f"none of {', '.join(COLUMNS)} is there"
    raise ConfigurationError(
        f"set `column` to the intensity column: {choice}, and the header has {', '.join(header)}", file=path
    )
