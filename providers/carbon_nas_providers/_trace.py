"""Reading a CSV trace strictly: a whole, regular, credible series, or an error that names the line."""

import csv
import gzip
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from carbon_nas.errors import ConfigurationError
from carbon_nas.model import MAX_PLAUSIBLE_GRAMS_PER_KWH

if TYPE_CHECKING:  # 35 MB of memory, which only a daemon that replays a trace should pay for
    import pandas as pd

    Problem = tuple["pd.Series[bool]", "pd.Series[str]", str]  # where it is so, the cells, and what is wrong

GZIP_MAGIC = b"\x1f\x8b"
TIME_COLUMNS = ("time_utc", "datetime")
ZONE_COLUMN = "zone"
FILLED_COLUMN = "filled"
NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
UTC_TIME = r"^\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|\+00:?00)$"


@dataclass(frozen=True, slots=True)
class Trace:
    """A regular series: interval `i` is `[start + i * step, start + (i + 1) * step)`, and has `grams_per_kwh[i]`.

    `forecasts` is None without a forecast column; None at `i` where that had no value. `filled[i]` says that the
    value was not measured.
    """

    start: datetime
    step: timedelta
    grams_per_kwh: Sequence[float]
    filled: Sequence[bool]
    forecasts: Sequence[float | None] | None

    @property
    def end(self) -> datetime:
        """The end of the last interval."""
        return self.start + len(self.grams_per_kwh) * self.step

    def index(self, when: datetime) -> int:
        """Give the interval that `when` lies in; below 0 or too large if it is outside the trace."""
        return (when - self.start) // self.step


def read_table(path: Path) -> "tuple[pd.DataFrame, list[int]]":
    """Give the file's cells as text, and the line of each row. Blank lines and `#` comments are left out.

    Raises:
        ConfigurationError: the file is missing, unreadable, broken, empty or ragged.
    """
    import pandas as pd  # noqa: PLC0415 -- see above

    rows = list(_rows(path))
    if not rows:
        raise ConfigurationError("the file is empty; it needs a header and rows", file=path)
    header = [name.strip() for name in rows[0][1]]
    if len(set(header)) < len(header):
        raise _at(path, rows[0][0], f"a column name appears twice: {', '.join(header)}")
    for line, cells in rows[1:]:
        if len(cells) != len(header):
            raise _at(path, line, f"{len(cells)} cells, but the header names {len(header)} columns")
    if len(rows) < 3:
        raise ConfigurationError("at least two rows are needed, or the step is unknown", file=path)
    return pd.DataFrame([cells for _, cells in rows[1:]], columns=header), [line for line, _ in rows[1:]]


def check_table(
    table: "pd.DataFrame", lines: Sequence[int], path: Path, *, value: str, forecast: str | None, zone: str
) -> Trace:
    """Make a trace of the columns `value` and `forecast` (None: no forecasts).

    Where the table has a column `zone`, every row must name this `zone`.

    Raises:
        ConfigurationError: a column is missing, or a cell is not what it must be; the first such line is named.
    """
    times = _column(table, _time_column(table, path), path)
    values = _column(table, value, path)
    expected = None if forecast is None else _column(table, forecast, path)
    starts = _starts(times)
    problems = [*_time_problems(times, starts), *_value_problems(values), *_zone_problems(table, zone)]
    if expected is not None:
        problems += [(wrong & (expected != ""), text, why) for wrong, text, why in _value_problems(expected)]
    _refuse_first(problems, lines, path)
    return Trace(
        start=starts.iloc[0].to_pydatetime(),
        step=(starts.iloc[1] - starts.iloc[0]).to_pytimedelta(),
        grams_per_kwh=[float(text) for text in values],
        filled=[text == "1" for text in table.get(FILLED_COLUMN, values.where(values.isna(), "0"))],
        forecasts=None if expected is None else [float(text) if text else None for text in expected],
    )


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    for number, line in enumerate(_text(path).splitlines(), start=1):
        if line.strip() and not line.lstrip().startswith("#"):
            try:
                yield number, next(csv.reader([line]))
            except csv.Error as error:
                raise _at(path, number, f"cannot be split into cells: {error}") from error


def _text(path: Path) -> str:
    try:
        content = path.read_bytes()
        if path.suffix == ".gz" and content and not content.startswith(GZIP_MAGIC):
            raise ConfigurationError(
                "the name ends with .gz but the content is not gzip; rename it", file=path
            )
        if content.startswith(GZIP_MAGIC):
            content = gzip.decompress(content)
        return content.decode("utf-8-sig")
    except FileNotFoundError as error:
        raise ConfigurationError("no such file; check the path", file=path) from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ConfigurationError(f"the gzip data are broken ({error}); fetch it again", file=path) from error
    except OSError as error:
        raise ConfigurationError(f"cannot be read: {error.strerror}", file=path) from error
    except UnicodeDecodeError as error:
        raise ConfigurationError("is not UTF-8 text; save it as a CSV file in UTF-8", file=path) from error


def _time_column(table: "pd.DataFrame", path: Path) -> str:
    known = [name for name in TIME_COLUMNS if name in table]
    if len(known) != 1:
        raise ConfigurationError(
            f"the header must name one time column, {' or '.join(TIME_COLUMNS)} (the start of the interval, in"
            f" UTC); it has {', '.join(table.columns)}",
            file=path,
        )
    return known[0]


def _column(table: "pd.DataFrame", name: str, path: Path) -> "pd.Series[str]":
    if name not in table:
        raise ConfigurationError(f"no column {name!r}; the header has {', '.join(table.columns)}", file=path)
    return table[name].str.strip()


def _starts(times: "pd.Series[str]") -> "pd.Series[pd.Timestamp]":
    import pandas as pd  # noqa: PLC0415

    return pd.to_datetime(times.where(times.str.match(UTC_TIME)), format="ISO8601", utc=True, errors="coerce")


def _time_problems(times: "pd.Series[str]", starts: "pd.Series[pd.Timestamp]") -> "list[Problem]":
    steps = starts.diff().dt.total_seconds()
    step = steps.median()
    return [
        (~times.str.match(UTC_TIME), times, "is not a UTC time; write it as 2023-01-10T00:30Z"),
        (starts.isna(), times, "is not in the calendar"),
        (steps == 0, times, "appears a second time; keep one row for each interval"),
        (steps < 0, times, "is earlier than the row before it; sort the rows by time"),
        (
            steps.notna() & (steps != step),
            times,
            f"does not follow the row before it by {step / 60:g} minutes, as the others do; add what is missing",
        ),
    ]


def _value_problems(cells: "pd.Series[str]") -> "list[Problem]":
    import pandas as pd  # noqa: PLC0415

    numbers = pd.to_numeric(cells.where(cells.str.match(NUMBER)), errors="coerce")
    return [
        (cells == "", cells, "has no value; a gap must be filled, for it is not zero"),
        (numbers.isna(), cells, "is not a number"),
        (numbers <= 0, cells, "is not above zero; no grid is, so put the true value in g/kWh"),
        (
            numbers > MAX_PLAUSIBLE_GRAMS_PER_KWH,
            cells,
            f"is above {MAX_PLAUSIBLE_GRAMS_PER_KWH:g} g/kWh; no grid is, so check the unit",
        ),
    ]


def _zone_problems(table: "pd.DataFrame", zone: str) -> "list[Problem]":
    if ZONE_COLUMN not in table:
        return []
    zones = table[ZONE_COLUMN].str.strip()
    return [(zones != zone, zones, f"is not the zone asked for, {zone!r}; keep one zone in a file")]


def _refuse_first(problems: "list[Problem]", lines: Sequence[int], path: Path) -> None:
    found = [(int(wrong.argmax()), order) for order, (wrong, _, _) in enumerate(problems) if wrong.any()]
    if found:
        row, order = min(found)
        _, cells, why = problems[order]
        raise _at(path, lines[row], f"{cells.iloc[row]!r} ({cells.name}) {why}")


def _at(path: Path, line: int, problem: str) -> ConfigurationError:
    return ConfigurationError(f"line {line}: {problem}", file=path)
