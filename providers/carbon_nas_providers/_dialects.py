"""The CSV forms in which carbon intensities go round, recognised by their header.

A dialect says which column is the time and how it is written, which columns are intensities and what they count, and
what the rest means. A time without a zone is taken for UTC only where its writers are known to write UTC.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import Enum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from carbon_nas.errors import ConfigurationError
from carbon_nas.model import Basis, Signal

if TYPE_CHECKING:
    import pandas as pd

GRAMS_PER_POUND = 453.59237
UNITS: Mapping[str, float] = {"g/kWh": 1.0, "kg/MWh": 1.0, "lbs/MWh": GRAMS_PER_POUND / 1000}
"""What one of each unit is, in g/kWh."""

WRITTEN_UNITS = frozenset({"gCO2eq/kWh", "gCO₂eq/kWh", "gCO2/kWh", "g/kWh"})
"""How files write g/kWh."""

UNIX_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NAIVE_TIME = r"^\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?$"


class Times(Enum):
    """How the time of a row is written."""

    AWARE = "with its zone"
    UTC = "in UTC, with or without saying so"
    UNIX = "in seconds since 1970"
    OFFSET = "in seconds since a time that must be declared"
    HOUR = "as a date and an hour, without a zone"


@dataclass(frozen=True, slots=True)
class Dialect:
    """One form. `needs` are the columns that tell it; `values` the intensity columns and what they count.

    `forecasts` gives the forecast column of an intensity column. `polled` is when a row was fetched: rows repeat, and
    the newest counts. With `gaps`, rows may be missing. `unit` None: it must be declared.
    """

    name: str
    needs: frozenset[str]
    time: str
    times: Times = Times.UTC
    values: Mapping[str, Basis] = field(default_factory=dict)
    forecasts: Mapping[str, str] = field(default_factory=dict)
    issued: str | None = None
    zone: str | None = None
    filled: str | None = None
    polled: str | None = None
    written_unit: str | None = None
    unit: str | None = "g/kWh"
    signal: Signal = Signal.AVERAGE
    gaps: bool = False


def _portal(direct: str, lifecycle: str) -> Dialect:
    return Dialect(
        "Electricity Maps data portal",
        frozenset({"Datetime (UTC)", lifecycle}),
        "Datetime (UTC)",
        values={direct: Basis.DIRECT, lifecycle: Basis.LIFECYCLE},
        zone="Zone id",
        filled="Data estimated",
        gaps=True,
    )


OURS: Mapping[str, Basis] = {
    "ci_direct": Basis.DIRECT,
    "ci_lifecycle": Basis.LIFECYCLE,
    "carbon_intensity": Basis.UNKNOWN,
}
BOTH = (Basis.DIRECT, Basis.LIFECYCLE)

DIALECTS: tuple[Dialect, ...] = (  # the first whose needs are met
    _portal("Carbon intensity gCO₂eq/kWh (direct)", "Carbon intensity gCO₂eq/kWh (Life cycle)"),
    _portal("Carbon Intensity gCO₂eq/kWh (direct)", "Carbon Intensity gCO₂eq/kWh (LCA)"),
    Dialect(
        "CO2Scrap",
        frozenset({"zone_datetime", "carbon_intensity_avg"}),
        "zone_datetime",
        values={"carbon_intensity_avg": Basis.LIFECYCLE},
        zone="zone_name",
        polled="timestamp",
        written_unit="carbon_intensity_unit",
        gaps=True,
    ),
    Dialect(
        "Electricity Maps research",
        frozenset({"datetime", "zone_name", "carbon_intensity_avg"}),
        "datetime",
        values={"carbon_intensity_avg": Basis.LIFECYCLE},
        zone="zone_name",
        polled="updated_at",
        gaps=True,
    ),
    Dialect(
        "issued forecasts",
        frozenset({"issue_utc", "time_utc"}),
        "time_utc",
        values={f"actual_{basis}": basis for basis in BOTH},
        forecasts={f"actual_{basis}": f"forecast_{basis}" for basis in BOTH},
        issued="issue_utc",
    ),
    Dialect(
        "CarbonCast",
        frozenset({"UTC time"}),
        "UTC time",
        values={
            "carbon_intensity": Basis.UNKNOWN,
            **{f"actual_carbon_intensity_{basis}": basis for basis in BOTH},
        },
        forecasts={
            "carbon_intensity": "avg_carbon_intensity_forecast",
            **{f"actual_carbon_intensity_{basis}": f"forecasted_carbon_intensity_{basis}" for basis in BOTH},
        },
        issued="",  # each time the hours jump back, a new forecast begins
    ),
    Dialect(
        "Let's Wait Awhile",
        frozenset({"Time", "Carbon Intensity"}),
        "Time",
        values={"Carbon Intensity": Basis.UNKNOWN},
    ),
    Dialect(
        "Glasgow workflows",
        frozenset({"date", "hour", "ci"}),
        "date",
        Times.HOUR,
        values={"ci": Basis.UNKNOWN},
    ),
    Dialect(
        "CATS",
        frozenset({"time", "unix", "intensity"}),
        "unix",
        Times.UNIX,
        values={"intensity": Basis.UNKNOWN},
    ),
    Dialect(
        "WattTime export",
        frozenset({"point_time", "value"}),
        "point_time",
        Times.AWARE,
        values={"value": Basis.DIRECT},
        unit=None,
        signal=Signal.MARGINAL,
        gaps=True,
    ),
    Dialect(
        "ecovisor",
        frozenset({"seconds", "value"}),
        "seconds",
        Times.OFFSET,
        values={"value": Basis.UNKNOWN},
    ),
    Dialect(
        "plain", frozenset({"time_utc"}), "time_utc", Times.AWARE, values=OURS, zone="zone", filled="filled"
    ),
    Dialect(
        "plain", frozenset({"datetime"}), "datetime", Times.AWARE, values=OURS, zone="zone", filled="filled"
    ),
    Dialect("vessim", frozenset({"time"}), "time", Times.AWARE),
)


def recognise(header: Sequence[str], path: Path) -> Dialect:
    """Tell the dialect by the names of the columns.

    Raises:
        ConfigurationError: it is none of those known, or it has two times.
    """
    if "time_utc" in header and "datetime" in header:
        raise ConfigurationError(
            f"the header must name one time column, time_utc or datetime; it has {', '.join(header)}",
            file=path,
        )
    for dialect in DIALECTS:
        if dialect.needs <= set(header):
            return dialect
    raise ConfigurationError(
        "the header must name one time column, time_utc or datetime (the start of the interval, in UTC), or be of"
        f" another known form; the header has {', '.join(header)}",
        file=path,
    )


def written_times(
    table: "pd.DataFrame", dialect: Dialect, *, assume_utc: bool, starts_at: datetime | None, path: Path
) -> "pd.Series[str]":
    """Give each row's time as text with its zone, or as it is where that cannot be done.

    Raises:
        ConfigurationError: the form leaves something open that must be declared.
    """
    cells: pd.Series[str] = table[dialect.time].str.strip()
    if dialect.times is Times.OFFSET and starts_at is None:
        raise ConfigurationError(
            "the times are seconds since the beginning; set `starts_at` to it", file=path
        )
    if dialect.times is Times.HOUR and not assume_utc:
        raise ConfigurationError(
            f"files of the form {dialect.name!r} do not say which zone their hours are in; if it is UTC, set"
            " `assume_utc`",
            file=path,
        )
    if dialect.times in {Times.UNIX, Times.OFFSET}:
        origin = (
            datetime.fromisoformat("1970-01-01T00:00+00:00") if dialect.times is Times.UNIX else starts_at
        )
        return cells.map(partial(_counted, origin=origin)).rename(dialect.time)
    if dialect.times is Times.HOUR:
        cells = cells + "T" + table["hour"].str.strip().str.split(":").str[0].str.zfill(2) + ":00"
    known = assume_utc or dialect.times is Times.UTC
    naive = cells.str.match(NAIVE_TIME)
    return cells.where(~naive, cells + "Z") if known else cells


def _counted(text: str, *, origin: datetime | None) -> str:
    try:
        return ((origin or UNIX_EPOCH) + timedelta(seconds=float(text))).isoformat()
    except (ValueError, OverflowError):
        return text
