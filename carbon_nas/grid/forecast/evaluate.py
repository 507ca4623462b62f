"""How good the forecasters are on a trace: error, coverage of the bands, and how much of the saving they keep."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from carbon_nas.errors import BadData, ConfigurationError, NoData
from carbon_nas.grid.forecast.base import (
    DAY,
    HORIZON_HOURS,
    Floats,
    Hours,
    Series,
    ahead,
    epoch_hour,
    from_epoch_hour,
)
from carbon_nas.grid.forecast.conformal import Conformal, Forecasts
from carbon_nas.grid.forecast.selector import all_forecasters, names_chosen

TEST_PERIOD = timedelta(days=183)
SAVING_HOURS = (6, 12, 18)
COLUMNS = ("ci_lifecycle", "ci_direct", "grams_per_kwh")


def evaluate_trace(
    path: Path,
    *,
    column: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    issue_hour: int = 0,
    refit_days: int | None = None,
) -> dict[str, Any]:
    """Evaluate on a CSV trace, see `read_trace` and `evaluate`; by default on its last 183 days.

    Raises:
        ConfigurationError: there is no such file or column, or the period leaves nothing to score.
        BadData: the file is no trace.
        NoData: what precedes the period is too short for every forecaster.
    """
    series = read_trace(path, column)
    end = until or from_epoch_hour(series.last)
    return evaluate(series, since or end - TEST_PERIOD, end, issue_hour=issue_hour, refit_days=refit_days)


def read_trace(path: Path, column: str | None = None) -> Series:
    """Read `time_utc` and `column` of a CSV file, plain or compressed, as hourly means; zero counts as unknown.

    Without `column`: the first there is of `COLUMNS`, or else the only other one.

    Raises:
        ConfigurationError: there is no such file or column.
        BadData: the times or values cannot be read.
    """
    import pandas as pd  # noqa: PLC0415 -- who only forecasts need not load it

    try:
        table = pd.read_csv(path)
    except OSError as error:
        raise ConfigurationError(f"cannot be read: {error.strerror or error}", file=path) from error
    except ValueError as error:  # pandas' parser errors are ValueErrors
        raise BadData(f"{path} is no CSV file: {error}") from error
    name = _column(list(table.columns), column, path)
    try:
        times = pd.to_datetime(table["time_utc"], utc=True)
        values = pd.to_numeric(table[name]).astype(float).where(lambda value: value > 0)
    except (ValueError, TypeError) as error:
        raise BadData(f"{path}: {error}") from error
    hourly = pd.Series(values.to_numpy(), index=pd.DatetimeIndex(times)).resample("1h").mean()
    if not hourly.notna().any():
        raise BadData(f"{path}: column {name} holds no value above zero")
    return Series(hourly.index[0].to_pydatetime(), np.asarray(hourly.to_numpy(), dtype=np.float64))


def evaluate(
    series: Series,
    since: datetime,
    until: datetime,
    *,
    issue_hour: int = 0,
    refit_days: int | None = None,
    forecasters: Sequence[Conformal] | None = None,
) -> dict[str, Any]:
    """Forecast once a day at `issue_hour` from `since` on, 96 h ahead within `until`, and score what came.

    Each forecaster is fitted once, on what precedes the first issue, or again every `refit_days`, always on what
    precedes an issue. The bands and the choice of the default use the errors known at each issue.

    Gives, for every forecaster that could be fitted and for the default: `mape` (per cent, over the first 24, 48,
    72 and 96 h), `mape_by_day`, `coverage_80` (share of values within the band), and `saving_kept` for k = 6, 12, 18:
    of what the k cleanest hours of the coming UTC days save against all of their hours, the share saved by the k
    hours that the forecast takes for the cleanest.

    Raises:
        ConfigurationError: the period leaves nothing to score.
        NoData: what precedes it is too short for every forecaster.
    """
    issues = _issues(series, since, until, issue_hour)
    made, left_out = _forecast(
        series, issues, refit_days, all_forecasters() if forecasters is None else forecasters
    )
    if not made:
        raise NoData(f"what precedes {since:%Y-%m-%dT%H:%MZ} is too short: {left_out}")
    actual = ahead(series.values, issues - series.first)
    chosen = names_chosen(made)
    return {
        "period": {
            "from": f"{from_epoch_hour(int(issues[0])):%Y-%m-%dT%H:%MZ}",
            "until": f"{from_epoch_hour(int(issues[-1]) + HORIZON_HOURS):%Y-%m-%dT%H:%MZ}",
            "issues": len(issues),
            "issue_hour": issue_hour,
            "refit_days": refit_days,
        },
        "forecasters": {name: _scores(forecasts, actual, issue_hour) for name, forecasts in made.items()},
        "default": {**_scores(_pick(made, chosen), actual, issue_hour), "chosen": dict(Counter(chosen))},
        "left_out": left_out,
    }


def _column(columns: list[str], wanted: str | None, path: Path) -> str:
    if "time_utc" not in columns:
        raise ConfigurationError(f"has no column time_utc, only {', '.join(columns)}", file=path)
    others = [name for name in columns if name != "time_utc"]
    known = [name for name in COLUMNS if name in others]
    name = wanted or next(iter(known), others[0] if len(others) == 1 else None)
    if name not in others:
        raise ConfigurationError(
            f"has no column {name or '/'.join(COLUMNS)}; name one of {others}", file=path
        )
    return name


def _issues(series: Series, since: datetime, until: datetime, issue_hour: int) -> Hours:
    if not 0 <= issue_hour < DAY:
        raise ConfigurationError(f"the hour of issue must be 0 to 23, got {issue_hour}")
    first, last = epoch_hour(since), min(epoch_hour(until), series.last) - HORIZON_HOURS
    issues = np.arange(first + (issue_hour - first) % DAY, last + 1, DAY)
    if not len(issues) or issues[0] <= series.first:
        raise ConfigurationError(
            f"no forecast of {HORIZON_HOURS} h with history before it lies between {since:%Y-%m-%d} and "
            f"{until:%Y-%m-%d}; the trace covers {series.start:%Y-%m-%d} to {from_epoch_hour(series.last):%Y-%m-%d}"
        )
    return issues


def _forecast(
    series: Series, issues: Hours, refit_days: int | None, forecasters: Sequence[Conformal]
) -> tuple[dict[str, Forecasts], dict[str, str]]:
    made: dict[str, Forecasts] = {}
    left_out: dict[str, str] = {}
    for forecaster in forecasters:
        parts = []
        try:
            for chunk in np.array_split(issues, range(0, len(issues), refit_days or len(issues))[1:]):
                forecaster.fit(series.before(int(chunk[0])))
                parts.append(forecaster.forecasts(series, chunk))
        except NoData as error:
            left_out[forecaster.name] = str(error)
        else:
            made[forecaster.name] = _joined(parts)
    return made, left_out


def _joined(parts: Sequence[Forecasts]) -> Forecasts:
    return Forecasts(
        *(np.concatenate([getattr(part, name) for part in parts]) for name in Forecasts.__dataclass_fields__)
    )


def _pick(made: Mapping[str, Forecasts], chosen: Sequence[str]) -> Forecasts:
    """Put together what the chosen one said at each issue."""
    return Forecasts(
        *(
            np.stack([getattr(made[name], field)[row] for row, name in enumerate(chosen)])
            for field in Forecasts.__dataclass_fields__
        )
    )


def _scores(forecasts: Forecasts, actual: Floats, issue_hour: int) -> dict[str, Any]:
    errors = np.abs(forecasts.points - actual) / actual * 100
    known = ~np.isnan(actual) & ~np.isnan(forecasts.low)
    inside = (forecasts.low <= actual) & (actual <= forecasts.high)
    ends = range(DAY, HORIZON_HOURS + 1, DAY)
    midnight = -issue_hour % DAY
    day = slice(midnight, midnight + DAY)
    return {
        "mape": {str(end): _mean(errors[:, :end]) for end in ends},
        "mape_by_day": [_mean(errors[:, end - DAY : end]) for end in ends],
        "coverage_80": _mean(inside[known].astype(np.float64)),
        "saving_kept": {
            str(k): _saving_kept(forecasts.points[:, day], actual[:, day], k) for k in SAVING_HOURS
        },
    }


def _mean(values: Floats) -> float | None:
    known = values[~np.isnan(values)]
    return round(float(known.mean()), 4) if known.size else None


def _saving_kept(points: Floats, actual: Floats, k: int) -> float | None:
    whole = ~np.isnan(actual).any(axis=1)
    if not whole.any():
        return None
    points, actual = points[whole], actual[whole]
    order = np.argsort(points, axis=1, kind="stable")
    taken = np.take_along_axis(actual, order[:, :k], axis=1).mean()
    best, even = np.sort(actual, axis=1)[:, :k].mean(), actual.mean()
    return round(float((even - taken) / (even - best)), 4) if even > best else None
