"""Making a trace of a table: a whole, regular, credible series, or an error that names the line."""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from carbon_nas.model import MAX_PLAUSIBLE_GRAMS_PER_KWH
from carbon_nas_providers._dialects import WRITTEN_UNITS
from carbon_nas_providers._table import NUMBER, at_line

if TYPE_CHECKING:  # 35 MB of memory, which only a daemon that replays a trace should pay for
    import pandas as pd

    Problem = tuple["pd.Series[bool]", "pd.Series[str]", str]  # where it is so, the cells, and what is wrong

UTC_TIME = r"^\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|\+00:?00)$"


@dataclass(frozen=True, slots=True)
class Trace:
    """A regular series: interval `i` is `[start + i * step, start + (i + 1) * step)`, and has `grams_per_kwh[i]`.

    That is None in a gap. `forecasts` is None without a forecast column; None at `i` where that had no value. `issues`
    are forecasts that replace one another: when each was made, and its values by index. `filled[i]` says that the value
    was not measured.
    """

    start: datetime
    step: timedelta
    grams_per_kwh: Sequence[float | None]
    filled: Sequence[bool]
    forecasts: Sequence[float | None] | None
    issues: Sequence[tuple[datetime, Mapping[int, float]]] = ()

    @property
    def end(self) -> datetime:
        """The end of the last interval."""
        return self.start + len(self.grams_per_kwh) * self.step

    @property
    def has_forecasts(self) -> bool:
        """Whether there is any forecast to replay."""
        return self.forecasts is not None or bool(self.issues)

    def forecast_at(self, now: datetime) -> Mapping[int, float]:
        """Give what was forecast, by index, as it was known at `now`: of several the newest."""
        if not self.issues:
            return {i: value for i, value in enumerate(self.forecasts or ()) if value is not None}
        made = bisect_right(self.issues, now, key=lambda issue: issue[0])
        return self.issues[made - 1][1] if made else {}

    def index(self, when: datetime) -> int:
        """Give the interval that `when` lies in; below 0 or too large if it is outside the trace."""
        return (when - self.start) // self.step


@dataclass(frozen=True, slots=True)
class Series:
    """What of a table is read, as text: a row's time and value, and whatever else its dialect has."""

    times: "pd.Series[str]"
    values: "pd.Series[str]"
    forecasts: "pd.Series[str] | None" = None
    issued: "pd.Series[str] | None" = None  # when the row's forecast was made
    zones: "pd.Series[str] | None" = None
    filled: "pd.Series[str] | None" = None
    units: "pd.Series[str] | None" = None
    polled: "pd.Series[str] | None" = None  # when the row was fetched
    gaps: bool = False


def check_series(
    series: Series, lines: Sequence[int], path: Path, *, zone: str, unit_grams: float = 1.0
) -> Trace:
    """Make a trace; `unit_grams` is what one unit of the file is in g/kWh.

    Where the rows name a zone, each must name this one.

    Raises:
        ConfigurationError: a cell is not what it must be; the first such line is named.
    """
    import pandas as pd  # noqa: PLC0415

    starts = _starts(series.times)
    _refuse_first(_cell_problems(series, starts, zone, unit_grams), lines, path)
    numbers = pd.to_numeric(series.values.where(series.values != ""), errors="coerce") * unit_grams
    frame = pd.DataFrame({"start": starts, "value": numbers, "row": range(len(starts)), "line": lines})
    frame["filled"] = False if series.filled is None else series.filled.str.lower().isin(["1", "true"])
    frame["polled"] = "" if series.polled is None else series.polled
    frame["forecast"] = (
        float("nan")
        if series.forecasts is None
        else pd.to_numeric(series.forecasts, errors="coerce") * unit_grams
    )
    issues = frame.assign(issued=_issued(series, starts)) if series.issued is not None else None
    if series.polled is not None:
        frame = frame.sort_values(["start", "polled"], kind="stable").drop_duplicates("start", keep="last")
    elif issues is not None:
        frame = frame.sort_values(["start", "row"], kind="stable").drop_duplicates("start", keep="first")
    times = series.times.iloc[frame["row"]]
    _refuse_first(_order_problems(times, frame["start"], gaps=series.gaps), list(frame["line"]), path)
    return _trace(frame, issues, has_forecasts=series.forecasts is not None)


def _trace(frame: "pd.DataFrame", issues: "pd.DataFrame | None", *, has_forecasts: bool) -> Trace:
    start, step = frame["start"].iloc[0], _step(frame["start"])
    index = ((frame["start"] - start) // step).tolist()
    rows = dict(zip(index, zip(frame["value"], frame["filled"], frame["forecast"], strict=True), strict=True))
    nothing = (None, False, None)
    told = [rows.get(i, nothing) for i in range(index[-1] + 1)]
    begin, length = start.to_pydatetime(), step.to_pytimedelta()
    made = [] if issues is None else _issues(issues, start, step)
    return Trace(
        start=begin,
        step=length,
        grams_per_kwh=[_known(value) for value, _, _ in told],
        filled=[bool(filled) for _, filled, _ in told],
        forecasts=[_known(value) for _, _, value in told] if has_forecasts and not made else None,
        issues=made,
    )


def _known(value: float | None) -> float | None:
    return None if value is None or value != value else float(value)  # noqa: PLR0124 -- NaN is not itself


def _issues(
    frame: "pd.DataFrame", start: "pd.Timestamp", step: "pd.Timedelta"
) -> list[tuple[datetime, Mapping[int, float]]]:
    made: list[tuple[datetime, Mapping[int, float]]] = []
    for issued, rows in frame.dropna(subset=["forecast"]).groupby("issued"):
        index = ((rows["start"] - start) // step).tolist()
        made.append((issued.to_pydatetime(), dict(zip(index, rows["forecast"].tolist(), strict=True))))  # type: ignore[union-attr]
    return made if len(made) > 1 else []


def _issued(series: Series, starts: "pd.Series[pd.Timestamp]") -> "pd.Series[pd.Timestamp]":
    """Give when each row's forecast was made: as written, or else at the start of each run of rising times."""
    if series.issued is not None and (series.issued != "").all():
        return _starts(series.issued)
    run = (starts.diff().dt.total_seconds() <= 0).cumsum()
    return starts.groupby(run).transform("first")


def _starts(times: "pd.Series[str]") -> "pd.Series[pd.Timestamp]":
    import pandas as pd  # noqa: PLC0415

    return pd.to_datetime(times.where(times.str.match(UTC_TIME)), format="ISO8601", utc=True, errors="coerce")


def _step(starts: "pd.Series[pd.Timestamp]") -> "pd.Timedelta":
    return starts.diff().median()


def _cell_problems(
    series: Series, starts: "pd.Series[pd.Timestamp]", zone: str, unit_grams: float
) -> "list[Problem]":
    times, values = series.times, series.values
    problems: list[Problem] = [
        (~times.str.match(UTC_TIME), times, "is not a UTC time; write it as 2023-01-10T00:30Z"),
        (starts.isna(), times, "is not in the calendar"),
    ]
    for cells, may_be_empty in ((values, series.gaps), (series.forecasts, True)):
        if cells is not None:
            problems += [
                (wrong & ~((cells == "") & may_be_empty), text, why)
                for wrong, text, why in _value_problems(cells, unit_grams)
            ]
    if series.zones is not None:
        zones = series.zones
        problems.append(
            (zones != zone, zones, f"is not the zone asked for, {zone!r}; keep one zone in a file")
        )
    if series.units is not None:
        units = series.units
        problems.append((~units.isin(WRITTEN_UNITS), units, "is not a known unit of carbon intensity"))
    return problems


def _order_problems(
    times: "pd.Series[str]", starts: "pd.Series[pd.Timestamp]", *, gaps: bool
) -> "list[Problem]":
    steps = starts.diff().dt.total_seconds()
    step = _step(starts).total_seconds()
    odd = steps.notna() & ((steps % step != 0) if gaps and step > 0 else (steps != step))
    return [
        (steps == 0, times, "appears a second time; keep one row for each interval"),
        (steps < 0, times, "is earlier than the row before it; sort the rows by time"),
        (
            odd,
            times,
            f"does not follow the row before it by {step / 60:g} minutes, as the others do; add what is missing",
        ),
    ]


def _value_problems(cells: "pd.Series[str]", unit_grams: float) -> "list[Problem]":
    import pandas as pd  # noqa: PLC0415

    numbers = pd.to_numeric(cells.where(cells.str.match(NUMBER)), errors="coerce")
    return [
        (cells == "", cells, "has no value; a gap must be filled, for it is not zero"),
        (numbers.isna(), cells, "is not a number"),
        (numbers <= 0, cells, "is not above zero; no grid is, so put the true value in g/kWh"),
        (
            numbers * unit_grams > MAX_PLAUSIBLE_GRAMS_PER_KWH,
            cells,
            f"is above {MAX_PLAUSIBLE_GRAMS_PER_KWH:g} g/kWh; no grid is, so check the unit",
        ),
    ]


def _refuse_first(problems: "list[Problem]", lines: Sequence[int], path: Path) -> None:
    found = [(int(wrong.argmax()), order) for order, (wrong, _, _) in enumerate(problems) if wrong.any()]
    if found:
        row, order = min(found)
        _, cells, why = problems[order]
        raise at_line(path, lines[row], f"{cells.iloc[row]!r} ({cells.name}) {why}")
