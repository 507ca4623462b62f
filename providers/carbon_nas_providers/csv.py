"""Replays a recorded trace against whatever clock it is given: real, faster, or simulated.

A file in our own form has a header; a time column, `time_utc` or `datetime`, with the start of each interval in UTC;
and an intensity in g/kWh. It may be gzipped, and may have a forecast (blank where there was none), a `zone`, and a
`filled` column (1 where the value was not measured). The other forms that are read are in `_dialects`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import httpx

from carbon_nas.errors import ConfigurationError, NoData
from carbon_nas.interfaces import Clock
from carbon_nas.model import Accounting, Basis, Capabilities, Quality, Reading, Signal
from carbon_nas_providers._dialects import OURS, UNITS, Dialect, recognise, written_times
from carbon_nas_providers._table import read_table
from carbon_nas_providers._trace import Series, Trace, check_series

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True)
class Shipped:
    """A trace that comes with the project, in `carbon_nas/data`; see NOTICE."""

    zone: str
    column: str
    forecast_column: str | None
    licence: str
    attribution: str
    accounting: Accounting


TRACES: Mapping[str, Shipped] = {
    "gb-2023-30min": Shipped(
        "GB",
        "ci_direct",
        "api_forecast",
        "CC BY 4.0",
        "National Energy System Operator, Carbon Intensity API (CC BY 4.0)",
        Accounting.CONSUMPTION,
    ),
    "us-ciso-2021-2022-hourly": Shipped(
        "US-CISO",
        "ci_lifecycle",
        None,
        "US public domain",
        "U.S. Energy Information Administration, Form EIA-930; intensities computed from its generation figures",
        Accounting.PRODUCTION,
    ),
}


@dataclass(frozen=True)
class CsvOptions:
    """Which series to replay: `trace`, one of those shipped, or `path`, a file of your own.

    `column` is the intensity column (needed where the header leaves a choice, which `basis` may settle too),
    `forecast_column` that of the forecasts; `basis` is needed only where the column's name does not tell it and several
    providers are mixed. `unit` must be declared where files of the form do not say it, `assume_utc` where they give
    times without a zone, and `starts_at` where they count seconds from it.

    Raises:
        ValueError: both or neither of `path` and `trace`, an unknown unit, or a basis that the column contradicts.
    """

    path: Path | None = None
    trace: str | None = None
    column: str | None = None
    forecast_column: str | None = None
    signal: Signal | None = None
    basis: Basis | None = None
    accounting: Accounting = Accounting.UNKNOWN
    unit: str | None = None
    assume_utc: bool = False
    starts_at: datetime | None = None

    def __post_init__(self) -> None:
        if (self.path is None) == (self.trace is None):
            raise ValueError(f"give either path or trace; the traces shipped are {', '.join(TRACES)}")
        if self.unit is not None and self.unit not in UNITS:
            raise ValueError(f"unit must be one of {', '.join(UNITS)}")
        if self.starts_at is not None and self.starts_at.utcoffset() is None:
            raise ValueError("write starts_at with its zone, as 2023-01-10T00:00:00Z")
        shipped = TRACES.get(self.trace or "")
        counts = OURS.get(self.column or (shipped.column if shipped else ""), Basis.UNKNOWN)
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
        self._dialect: Dialect | None = None
        self._column = options.column or (self._shipped.column if self._shipped else None)
        self._trace: Trace | None = None

    @property
    def capabilities(self) -> Capabilities:
        """What the trace holds; known once it has been read."""
        own = "as the file's owner says"
        return Capabilities(
            signal=self._signal,
            basis=self._basis,
            step=self._read.step,
            history=True,
            forecast=self._read.has_forecasts,
            licence=self._shipped.licence if self._shipped else own,
            attribution=self._shipped.attribution if self._shipped else own,
            accounting=self._shipped.accounting if self._shipped else self._options.accounting,
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
        self._dialect = dialect = recognise(list(table.columns), path)
        self._column = self._column or _intensity(dialect, list(table.columns), self._options.basis, path)
        self._trace = check_series(
            self._series(table, dialect, self._column, path),
            lines,
            path,
            zone=zone,
            unit_grams=self._unit_grams(path),
        )

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
        index = trace.index(now)
        value = trace.grams_per_kwh[index]
        if value is None:
            raise NoData(f"the trace has a gap at {now:%Y-%m-%dT%H:%MZ}")
        return self._reading(index, value, zone)

    async def history(self, zone: str, start: datetime, end: datetime) -> Sequence[Reading]:
        """Give the readings that begin in `[start, end)` and have ended."""
        trace = self._read
        first = max(0, -((trace.start - start) // trace.step))
        last = min(
            len(trace.grams_per_kwh), -((trace.start - end) // trace.step), trace.index(self._clock.now())
        )
        return [
            self._reading(index, value, zone)
            for index in range(first, last)
            if (value := trace.grams_per_kwh[index]) is not None
        ]

    async def forecast(self, zone: str, until: datetime) -> Sequence[Reading]:
        """Give the recorded forecasts of intervals that have not begun, up to `until`, as they were known now.

        Raises:
            NoData: the trace has no forecasts, or none from now to `until`.
        """
        trace, now = self._read, self._clock.now()
        if not trace.has_forecasts:
            raise NoData("the trace has no forecast column")
        first, last = trace.index(now) + 1, -((trace.start - until) // trace.step)
        points = [
            self._reading(index, value, zone, Quality.FORECAST)
            for index, value in trace.forecast_at(now).items()
            if first <= index < last
        ]
        if not points:
            raise NoData(f"the trace has no forecast from now to {until:%Y-%m-%dT%H:%MZ}")
        return points

    @property
    def _basis(self) -> Basis:
        told = OURS if self._dialect is None else self._dialect.values
        return self._options.basis or told.get(self._column or "", Basis.UNKNOWN)

    @property
    def _signal(self) -> Signal:
        return self._options.signal or (self._dialect.signal if self._dialect else Signal.AVERAGE)

    def _unit_grams(self, path: Path) -> float:
        unit = self._options.unit or (self._dialect.unit if self._dialect else None)
        if unit is None:
            raise ConfigurationError(
                f"files of this form do not say their unit; set `unit` to one of {', '.join(UNITS)}",
                file=path,
            )
        return UNITS[unit]

    def _series(self, table: "pd.DataFrame", dialect: Dialect, column: str, path: Path) -> Series:
        def cells(name: str | None) -> "pd.Series[str] | None":
            return table[name].str.strip() if name in table else None

        forecast = self._options.forecast_column or dialect.forecasts.get(column)
        if self._shipped and column == self._shipped.column:
            forecast = forecast or self._shipped.forecast_column
        needed = [column] if self._options.forecast_column is None else [column, forecast]
        for name in needed:
            if name not in table:
                raise ConfigurationError(
                    f"no column {name!r}; the header has {', '.join(table.columns)}", file=path
                )
        options = self._options
        unknown = table[column].str[:0]  # when a forecast was made, where only the order of the rows tells it
        return Series(
            times=written_times(
                table, dialect, assume_utc=options.assume_utc, starts_at=options.starts_at, path=path
            ),
            values=table[column].str.strip(),
            forecasts=cells(forecast),
            issued=unknown if dialect.issued == "" and forecast in table else cells(dialect.issued),
            zones=cells(dialect.zone),
            filled=cells(dialect.filled),
            units=cells(dialect.written_unit),
            polled=cells(dialect.polled),
            gaps=dialect.gaps,
        )

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

    def _reading(
        self, index: int, grams_per_kwh: float, zone: str, quality: Quality | None = None
    ) -> Reading:
        trace = self._read
        start = trace.start + index * trace.step
        return Reading(
            zone=zone,
            start=start,
            end=start + trace.step,
            grams_per_kwh=grams_per_kwh,
            quality=quality or (Quality.ESTIMATED if trace.filled[index] else Quality.ACTUAL),
            signal=self._signal,
            basis=self._basis,
            provider="csv",
            fetched_at=self._clock.now(),
        )


def _intensity(dialect: Dialect, header: Sequence[str], basis: Basis | None, path: Path) -> str:
    known = [name for name in dialect.values if name in header]
    if len(known) > 1 and basis is not None:
        known = [name for name in known if dialect.values[name] is basis] or known
    if len(known) == 1:
        return known[0]
    choice = (
        f"{', '.join(known)} leave a choice" if known else f"none of {', '.join(dialect.values)} is there"
    )
    raise ConfigurationError(
        f"set `column` to the intensity column: {choice}, and the header has {', '.join(header)}", file=path
    )
