"""Replaying traces: what is shown when, and every way in which a file can be wrong."""

import asyncio
import csv
import gzip
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from pathlib import Path

import pytest

from carbon_nas import plugins
from carbon_nas.clock import ReplayClock, SimulatedClock, SystemClock
from carbon_nas.errors import ConfigurationError, NoData
from carbon_nas.interfaces import Clock
from carbon_nas.model import Basis, Quality
from carbon_nas_providers.csv import TRACES, CsvProvider

GB, CISO = "gb-2023-30min", "us-ciso-2021-2022-hourly"
HALF_HOUR = timedelta(minutes=30)


def at(year: int, month: int, day: int, hour: int = 0, minute: int = 0) -> SimulatedClock:
    return SimulatedClock(datetime(year, month, day, hour, minute, tzinfo=UTC))


def provider(clock: Clock, **options: object) -> CsvProvider:
    built: CsvProvider = plugins.build("providers", "csv", options, key="grid", clock=clock, http=None)
    return built


def started(clock: Clock, zone: str = "GB", **options: object) -> CsvProvider:
    built = provider(clock, **options)
    asyncio.run(built.start(zone))
    return built


def shipped_rows(trace: str) -> list[dict[str, str]]:
    content = (files("carbon_nas") / "data" / f"{trace}.csv.gz").read_bytes()
    return list(csv.DictReader(gzip.decompress(content).decode().splitlines()))


# --- replay ---


@pytest.mark.parametrize(
    ("trace", "zone", "column", "step"),
    [(GB, "GB", "ci_direct", HALF_HOUR), (CISO, "US-CISO", "ci_lifecycle", timedelta(hours=1))],
)
def test_a_shipped_trace_is_shown_whole(trace: str, zone: str, column: str, step: timedelta) -> None:
    rows = shipped_rows(trace)
    clock = at(2025, 1, 1)
    replay = started(clock, zone, trace=trace)
    past = asyncio.run(replay.history(zone, datetime(2019, 1, 1, tzinfo=UTC), clock.now()))
    assert len(past) == len(rows) == 17520
    assert [reading.grams_per_kwh for reading in past] == [float(row[column]) for row in rows]
    assert [f"{reading.start:%Y-%m-%dT%H:%MZ}" for reading in past] == [row["time_utc"] for row in rows]
    assert all(reading.end - reading.start == step for reading in past)


def test_every_shipped_trace_is_in_the_table_and_in_the_folder() -> None:
    folder = files("carbon_nas") / "data"
    there = {
        Path(item.name).name.removesuffix(".csv.gz")
        for item in folder.iterdir()
        if item.name.endswith(".csv.gz")
    }
    assert there == set(TRACES)


def test_time_goes_by_the_clock_it_was_given() -> None:
    clock = at(2023, 6, 1, 12, 10)
    replay = started(clock, trace=GB)
    rows = {row["time_utc"]: row for row in shipped_rows(GB)}
    seen = []
    for _ in range(48):
        latest = asyncio.run(replay.latest("GB"))
        assert latest.covers(clock.now())
        assert latest.grams_per_kwh == float(rows[f"{latest.start:%Y-%m-%dT%H:%MZ}"]["ci_direct"])
        past = asyncio.run(replay.history("GB", clock.now() - timedelta(hours=3), clock.now()))
        assert past[-1].end == latest.start
        seen.append(latest.start)
        clock.advance(HALF_HOUR)
    assert seen == [seen[0] + index * HALF_HOUR for index in range(48)]


def test_a_fast_clock_replays_at_its_speed() -> None:
    wall = SystemClock().now()
    start = datetime(2023, 6, 1, tzinfo=UTC)
    ten_minutes_ago = ReplayClock(start, 720.0, anchor=wall - timedelta(minutes=10))
    latest = asyncio.run(started(ten_minutes_ago, trace=GB).latest("GB"))
    assert latest.start - start in {timedelta(days=5), timedelta(days=5) + HALF_HOUR}


@pytest.mark.parametrize("clock", [at(2022, 12, 31, 23, 59), at(2024, 1, 1)])
def test_outside_its_period_a_trace_has_no_data(clock: SimulatedClock) -> None:
    replay = started(clock, trace=GB)
    with pytest.raises(NoData, match="2023-01-01T00:00Z to 2024-01-01T00:00Z"):
        asyncio.run(replay.latest("GB"))


def test_the_first_and_last_moment_are_served() -> None:
    for clock in (at(2023, 1, 1), at(2023, 12, 31, 23, 59)):
        assert asyncio.run(started(clock, trace=GB).latest("GB")).covers(clock.now())


def test_forecasts_are_of_the_future_and_blank_ones_left_out() -> None:
    clock = at(2023, 10, 20, 20, 10)  # two hours before the hole in the recorded forecasts
    replay = started(clock, trace=GB)
    ahead = asyncio.run(replay.forecast("GB", clock.now() + timedelta(hours=48)))
    rows = {row["time_utc"]: row["api_forecast"] for row in shipped_rows(GB)}
    assert {f"{point.start:%Y-%m-%dT%H:%MZ}": point.grams_per_kwh for point in ahead} == {
        time: float(text)
        for time, text in rows.items()
        if "2023-10-20T20:30Z" <= time <= "2023-10-22T20:00Z" and text
    }
    assert 0 < len(ahead) < 96
    assert all(point.quality is Quality.FORECAST and point.start > clock.now() for point in ahead)


def test_filled_rows_are_marked_as_estimates() -> None:
    clock = at(2024, 1, 1)
    past = asyncio.run(started(clock, trace=GB).history("GB", datetime(2023, 1, 1, tzinfo=UTC), clock.now()))
    filled = [row["filled"] == "1" for row in shipped_rows(GB)]
    assert [reading.quality is Quality.ESTIMATED for reading in past] == filled
    assert sum(filled) == 102


@pytest.mark.parametrize(
    ("trace", "zone", "column", "basis"),
    [
        (GB, "GB", None, Basis.DIRECT),
        (CISO, "US-CISO", None, Basis.LIFECYCLE),
        (CISO, "US-CISO", "ci_direct", Basis.DIRECT),
    ],
)
def test_the_basis_follows_the_column(trace: str, zone: str, column: str | None, basis: Basis) -> None:
    replay = started(at(2022, 1, 1), zone, trace=trace, column=column)
    assert replay.capabilities.basis is basis


def test_a_year_has_no_daylight_saving_holes() -> None:
    replay = started(at(2024, 1, 1), trace=GB)
    for day in (datetime(2023, 3, 26, tzinfo=UTC), datetime(2023, 10, 29, tzinfo=UTC)):
        past = asyncio.run(replay.history("GB", day, day + timedelta(days=1)))
        assert [reading.start for reading in past] == [day + index * HALF_HOUR for index in range(48)]


# --- files of one's own ---

GOOD = [f"2023-01-01T{hour:02}:00Z,{100 + hour}" for hour in range(6)]


@pytest.fixture
def own(tmp_path: Path) -> Callable[..., Path]:
    def write(
        lines: list[str] | bytes, name: str = "own.csv", header: str = "datetime,carbon_intensity"
    ) -> Path:
        path = tmp_path / name
        path.write_bytes(lines if isinstance(lines, bytes) else "\n".join([header, *lines, ""]).encode())
        return path

    return write


def test_the_plain_form_serves_any_zone(own: Callable[..., Path]) -> None:
    replay = started(at(2023, 1, 1, 2, 30), "XX-MINE", path=own(GOOD))
    latest = asyncio.run(replay.latest("XX-MINE"))
    assert (latest.grams_per_kwh, latest.zone, latest.basis) == (102.0, "XX-MINE", Basis.UNKNOWN)
    assert not replay.capabilities.forecast


@pytest.mark.parametrize(
    "change",
    [
        lambda text: b"\xef\xbb\xbf" + text,
        lambda text: text.replace(b"\n", b"\r\n"),
        lambda text: b"# from my meter\n\n" + text.replace(b"\n", b"\n# a note\n", 2) + b"\n\n",
        lambda text: text.replace(b",", b" , "),
        lambda text: text.replace(b"Z", b":00+00:00").replace(b"T", b" "),
        lambda text: b'"' + text.strip().replace(b",", b'","').replace(b"\n", b'"\n"') + b'"',
        gzip.compress,
    ],
    ids=["BOM", "CRLF", "comments", "spaces", "offset", "quotes", "gzip without .gz"],
)
def test_harmless_differences_are_borne(own: Callable[..., Path], change: Callable[[bytes], bytes]) -> None:
    text = "\n".join(["datetime,carbon_intensity", *GOOD, ""]).encode()
    replay = started(at(2023, 1, 1, 6), path=own(change(text)))
    past = asyncio.run(
        replay.history("GB", datetime(2023, 1, 1, tzinfo=UTC), datetime(2024, 1, 1, tzinfo=UTC))
    )
    assert [reading.grams_per_kwh for reading in past] == [100, 101, 102, 103, 104, 105]


def test_columns_can_be_named(own: Callable[..., Path]) -> None:
    rows = [f"{row},{200 + index}," for index, row in enumerate(GOOD)]
    path = own(rows, header="datetime,mine,expected,note")
    replay = started(at(2023, 1, 1), path=path, column="mine", forecast_column="expected", basis="direct")
    ahead = asyncio.run(replay.forecast("GB", datetime(2023, 1, 1, 3, tzinfo=UTC)))
    assert [point.grams_per_kwh for point in ahead] == [201.0, 202.0]
    assert ahead[0].basis is Basis.DIRECT


def changed(number: int, row: str) -> list[str]:
    """GOOD with the row of line `number` (the header is line 1) replaced."""
    return [row if line == number else good for line, good in enumerate(GOOD, start=2)]


BAD_ROWS = {
    "null": ("2023-01-01T02:00Z,", "has no value"),
    "null in words": ("2023-01-01T02:00Z,null", "is not a number"),
    "NaN": ("2023-01-01T02:00Z,NaN", "is not a number"),
    "infinite": ("2023-01-01T02:00Z,inf", "is not a number"),
    "true": ("2023-01-01T02:00Z,True", "is not a number"),
    "a word": ("2023-01-01T02:00Z,high", "is not a number"),
    "a unit": ("2023-01-01T02:00Z,120 g", "is not a number"),
    "a decimal comma": ('2023-01-01T02:00Z,"120,5"', "is not a number"),
    "zero": ("2023-01-01T02:00Z,0", "is not above zero"),
    "zero in digits": ("2023-01-01T02:00Z,0.000", "is not above zero"),
    "negative": ("2023-01-01T02:00Z,-5", "is not above zero"),
    "absurd": ("2023-01-01T02:00Z,2000.1", "is above 2000 g/kWh"),
    "overflow": ("2023-01-01T02:00Z,1e999", "is above 2000 g/kWh"),
    "duplicate": ("2023-01-01T01:00Z,102", "appears a second time"),
    "unordered": ("2022-12-31T23:00Z,102", "is earlier than the row before"),
    "irregular": ("2023-01-01T02:01Z,102", "does not follow the row before it by 60 minutes"),
    "naive": ("2023-01-01T02:00,102", "is not a UTC time"),
    "other offset": ("2023-01-01T03:00+01:00,102", "is not a UTC time"),
    "a date only": ("2023-01-01,102", "is not a UTC time"),
    "no time": (",102", "is not a UTC time"),
    "not in the calendar": ("2023-02-30T02:00Z,102", "is not in the calendar"),
    "too few cells": ("2023-01-01T02:00Z", "1 cells, but the header names 2"),
    "too many cells": ("2023-01-01T02:00Z,102,7", "3 cells, but the header names 2"),
}


@pytest.mark.parametrize(("row", "words"), BAD_ROWS.values(), ids=BAD_ROWS)
@pytest.mark.parametrize("packed", [False, True])
def test_a_bad_row_is_refused_by_line(own: Callable[..., Path], row: str, words: str, packed: bool) -> None:
    path = own(changed(4, row))
    if packed:
        path = own(gzip.compress(path.read_bytes()), name="own.csv.gz")
    replay = provider(at(2023, 1, 1), path=path)
    with pytest.raises(ConfigurationError) as caught:
        asyncio.run(replay.start("GB"))
    assert caught.value.file == path
    assert caught.value.problem.startswith("line 4: ")
    assert words in caught.value.problem


def test_a_gap_of_three_days_is_refused_where_it_ends(own: Callable[..., Path]) -> None:
    rows = [*GOOD[:4], *(row.replace("01-01", "01-04") for row in GOOD[4:])]
    with pytest.raises(ConfigurationError, match=r"line 6: '2023-01-04T04:00Z' \(datetime\) does not follow"):
        started(at(2023, 1, 1), path=own(rows))


def test_lines_are_counted_in_the_file_not_in_the_table(own: Callable[..., Path]) -> None:
    rows = ["# one", "", *GOOD[:2], "# two", "2023-01-01T02:00Z,0"]
    with pytest.raises(ConfigurationError, match="line 7: '0'"):
        started(at(2023, 1, 1), path=own(rows))


def test_the_first_bad_line_is_named(own: Callable[..., Path]) -> None:
    rows = [GOOD[0], "2023-01-01T01:00Z,-1", "x,y", "2023-01-01T03:00Z,"]
    with pytest.raises(ConfigurationError, match="line 3: '-1'"):
        started(at(2023, 1, 1), path=own(rows))


def test_a_forecast_may_be_blank_but_not_wrong(own: Callable[..., Path]) -> None:
    header = "datetime,carbon_intensity,expected"
    rows = [row + "," for row in GOOD[:5]]
    with pytest.raises(ConfigurationError, match=r"line 7: '0' \(expected\) is not above zero"):
        started(at(2023, 1, 1), path=own([*rows, GOOD[5] + ",0"], header=header), forecast_column="expected")
    replay = started(at(2023, 1, 1), path=own(rows, header=header), forecast_column="expected")
    with pytest.raises(NoData, match="no forecast"):
        asyncio.run(replay.forecast("GB", datetime(2023, 1, 2, tzinfo=UTC)))


def test_a_zone_column_must_agree(own: Callable[..., Path]) -> None:
    rows = [f"{row},{'FR' if index == 3 else 'DE'}" for index, row in enumerate(GOOD)]
    path = own(rows, header="datetime,carbon_intensity,zone")
    with pytest.raises(ConfigurationError, match=r"line 5: 'FR' \(zone\) is not the zone asked for, 'DE'"):
        started(at(2023, 1, 1), "DE", path=path)


BAD_FILES = {
    "empty": (b"", "own.csv", "the file is empty"),
    "blank": (b"\n\n# nothing\n", "own.csv", "the file is empty"),
    "header only": (b"datetime,carbon_intensity\n", "own.csv", "at least two rows"),
    "one row": (b"datetime,carbon_intensity\n2023-01-01T00:00Z,5\n", "own.csv", "at least two rows"),
    "not gzip": (b"datetime,carbon_intensity\n", "own.csv.gz", "the content is not gzip"),
    "torn gzip": (
        gzip.compress(b"datetime,carbon_intensity\n" * 99)[:-9],
        "own.csv.gz",
        "gzip data are broken",
    ),
    "altered gzip": (b"\x1f\x8b" + b"\x00" * 50, "own.csv.gz", "gzip data are broken"),
    "not text": (b"datetime,carbon_intensity\n\xff\xfe\n", "own.csv", "is not UTF-8"),
    "no header": ("\n".join(GOOD).encode(), "own.csv", "the header has 2023-01-01T00:00Z, 100"),
    "no time": (b"when,carbon_intensity\n1,2\n3,4\n", "own.csv", "must name one time column"),
    "two times": (b"datetime,time_utc,ci_direct\n1,2,3\n4,5,6\n", "own.csv", "must name one time column"),
    "no intensity": (b"datetime,co2\n2023-01-01T00:00Z,5\n2023-01-01T01:00Z,5\n", "own.csv", "set `column`"),
    "two intensities": (
        b"datetime,ci_direct,ci_lifecycle\n2023-01-01T00:00Z,5,6\n2023-01-01T01:00Z,5,6\n",
        "own.csv",
        "ci_direct, ci_lifecycle leave a choice",
    ),
    "a column twice": (b"datetime,ci_direct,ci_direct\n1,2,3\n4,5,6\n", "own.csv", "appears twice"),
}


@pytest.mark.parametrize(("content", "name", "words"), BAD_FILES.values(), ids=BAD_FILES)
def test_a_bad_file_is_refused_by_name(
    own: Callable[..., Path], content: bytes, name: str, words: str
) -> None:
    path = own(content, name=name)
    with pytest.raises(ConfigurationError) as caught:
        started(at(2023, 1, 1), path=path)
    assert caught.value.file == path
    assert words in caught.value.problem


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no such file"):
        started(at(2023, 1, 1), path=tmp_path / "none.csv")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        started(at(2023, 1, 1), path=tmp_path)


def test_a_column_that_is_not_there_is_refused(own: Callable[..., Path]) -> None:
    for option in ("column", "forecast_column"):
        with pytest.raises(ConfigurationError, match="no column 'co2'"):
            started(at(2023, 1, 1), path=own(GOOD), **{option: "co2"})


@pytest.mark.parametrize(
    ("options", "zone", "words"),
    [
        ({}, "GB", "give either path or trace"),
        ({"trace": GB, "path": "x.csv"}, "GB", "give either path or trace"),
        ({"trace": "gb-2023"}, "GB", "did you mean 'gb-2023-30min'"),
        ({"trace": GB}, "DE", "is of zone 'GB', not 'DE'"),
        ({"trace": GB, "basis": "lifecycle"}, "GB", "contradicts the column"),
        ({"trace": GB, "signal": "both"}, "GB", "signal"),
        ({"trace": GB, "colum": "x"}, "GB", "did you mean 'column'"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, object], zone: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        started(at(2023, 1, 1), zone, **options)
