"""The forms in which carbon intensities go round as CSV, told by their headers; and forecasts as they were issued."""

import asyncio
import gzip
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from carbon_nas import plugins
from carbon_nas.clock import SimulatedClock
from carbon_nas.errors import ConfigurationError, NoData
from carbon_nas.interfaces import Provider
from carbon_nas.model import Basis, Quality, Reading, Signal

START = datetime(2023, 3, 26, tzinfo=UTC)  # a day on which Europe's clocks change
HOUR = timedelta(hours=1)
END = START + timedelta(days=3)


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., Provider]:
    def start(text: str, zone: str = "DE", now: datetime = END, **options: object) -> Provider:
        path = tmp_path / "trace.csv"
        path.write_text(text, encoding="utf-8")
        clock = SimulatedClock(now)
        built: Provider = plugins.build(
            "providers", "csv", {"path": path, **options}, key="grid", clock=clock, http=None
        )
        asyncio.run(built.start(zone))
        return built

    return start


def past(provider: Provider, zone: str = "DE") -> list[Reading]:
    return list(asyncio.run(provider.history(zone, START - timedelta(days=999), END)))


PORTAL = (
    "Datetime (UTC),Country,Zone name,Zone id,Carbon intensity gCO₂eq/kWh (direct),"
    "Carbon intensity gCO₂eq/kWh (Life cycle),Carbon-free energy percentage (CFE%),"
    "Renewable energy percentage (RE%),Data source,Data estimated,Data estimation method\n"
)
OLD_PORTAL = PORTAL.replace("Carbon intensity", "Carbon Intensity").replace("(Life cycle)", "(LCA)")
PORTAL_ROWS = "".join(
    f"2023-03-26 0{hour}:00:00,Germany,Germany,DE,{90 + hour}.5,{100 + hour}.5,50,40,ENTSOE,"
    f"{'true' if hour else 'false'},\n"
    for hour in range(3)
)


def plain(stamp: str, header: str, row: str) -> str:
    """Three hours: `row` with the time written as `stamp` and `{value}` from 100 on."""
    rows = [
        row.format(time=(START + index * HOUR).strftime(stamp), value=100.5 + index, n=index)
        for index in range(3)
    ]
    return "\n".join([header, *rows]) + "\n"


DIALECTS: Mapping[str, tuple[str, Mapping[str, object], Basis]] = {
    "plain": (plain("%Y-%m-%dT%H:%MZ", "datetime,carbon_intensity", "{time},{value}"), {}, Basis.UNKNOWN),
    "portal": (PORTAL + PORTAL_ROWS, {"basis": "lifecycle"}, Basis.LIFECYCLE),
    "old portal": (OLD_PORTAL + PORTAL_ROWS, {"basis": "lifecycle"}, Basis.LIFECYCLE),
    "research": (
        plain(
            "%Y-%m-%d %H:%M:%S+00:00",
            "datetime,created_at,updated_at,timestamp,zone_name,carbon_intensity_avg,x",
            "{time},a,b,c,DE,{value},1",
        ),
        {},
        Basis.LIFECYCLE,
    ),
    "CO2Scrap": (
        plain(
            "%Y-%m-%dT%H:%M:%S.000Z",
            "timestamp,zone_datetime,status,zone_name,carbon_intensity_avg,carbon_intensity_unit,fossilFuelPercentage",
            "2023-03-26T09:00:00Z,{time},ok,DE,{value},gCO2eq/kWh,40",
        ),
        {},
        Basis.LIFECYCLE,
    ),
    "let's wait awhile": (
        plain("%Y-%m-%d %H:%M:%S", "Time,Carbon Intensity", "{time},{value}"),
        {},
        Basis.UNKNOWN,
    ),
    "CarbonCast": (
        plain("%Y-%m-%d %H:%M:%S", "UTC time,carbon_intensity,coal", "{time},{value},1"),
        {},
        Basis.UNKNOWN,
    ),
    "CarbonCast forecasts": (
        plain(
            "%Y-%m-%d %H:%M:%S",
            "UTC time,actual_carbon_intensity_direct,forecasted_carbon_intensity_direct",
            "{time},{value},200",
        ),
        {},
        Basis.DIRECT,
    ),
    "roro": (
        plain(
            "%Y-%m-%d %H:%M:%S",
            "UTC time,carbon_intensity,avg_carbon_intensity_forecast",
            "{time},{value},200",
        ),
        {},
        Basis.UNKNOWN,
    ),
    "Glasgow": (
        plain("%Y-%m-%d", "date,hour,day,month,weekday,ci", "{time},{n},26,3,6,{value}"),
        {"assume_utc": True},
        Basis.UNKNOWN,
    ),
    "ecovisor": ("0,100.5\n3600,101.5\n7200,102.5\n", {"starts_at": START}, Basis.UNKNOWN),
    "CATS": (
        plain(
            "%Y-%m-%dT%H:%M",
            "time,deltaseconds,unix,intensity",
            "{time},3600," + "{n}" + ",{value}",
        )
        .replace(",0,", f",{int(START.timestamp())},")
        .replace(",1,", f",{int(START.timestamp()) + 3600},")
        .replace(",2,", f",{int(START.timestamp()) + 7200},"),
        {},
        Basis.UNKNOWN,
    ),
    "WattTime export": (
        plain("%Y-%m-%dT%H:%M:%S+00:00", "point_time,value", "{time},{value}"),
        {"unit": "g/kWh"},
        Basis.DIRECT,
    ),
    "vessim": (
        plain("%Y-%m-%d %H:%M:%S", "time,berlin,paris", "{time},{value},7"),
        {"column": "berlin", "assume_utc": True},
        Basis.UNKNOWN,
    ),
}


@pytest.mark.parametrize(("text", "options", "basis"), DIALECTS.values(), ids=DIALECTS)
def test_a_dialect_is_recognised(
    read: Callable[..., Provider], text: str, options: Mapping[str, object], basis: Basis
) -> None:
    provider = read(text, **options)
    found = past(provider)
    assert [(reading.start, reading.end, reading.grams_per_kwh) for reading in found] == [
        (START + index * HOUR, START + (index + 1) * HOUR, 100.5 + index) for index in range(3)
    ]
    assert provider.capabilities.basis is basis
    assert {reading.basis for reading in found} == {basis}


def test_the_portal_says_what_was_estimated_and_which_kind_is_meant(read: Callable[..., Provider]) -> None:
    provider = read(PORTAL + PORTAL_ROWS, basis="direct")
    found = past(provider)
    assert [reading.grams_per_kwh for reading in found] == [90.5, 91.5, 92.5]
    assert [reading.quality for reading in found] == [Quality.ACTUAL, Quality.ESTIMATED, Quality.ESTIMATED]
    with pytest.raises(ConfigurationError, match="leave a choice"):
        read(PORTAL + PORTAL_ROWS)
    with pytest.raises(ConfigurationError, match="is not the zone asked for"):
        read(PORTAL + PORTAL_ROWS, zone="FR", basis="direct")


SCRAP = "timestamp,zone_datetime,status,zone_name,carbon_intensity_avg,carbon_intensity_unit\n"


def scrap(*rows: tuple[int, int, object]) -> str:
    """Rows of (poll hour, valid hour, value)."""
    return SCRAP + "".join(
        f"{START + polled * HOUR:%Y-%m-%dT%H:%M:%SZ},{START + hour * HOUR:%Y-%m-%dT%H:%M:%S.000Z},"
        f"ok,DE,{value},gCO2eq/kWh\n"
        for polled, hour, value in rows
    )


def test_of_polls_of_one_hour_the_newest_counts_and_gaps_stay_gaps(read: Callable[..., Provider]) -> None:
    text = scrap(
        (1, 0, 300), (2, 1, 310), (3, 1, 315), (2, 0, 301), (4, 2, ""), (5, 3, 330), (8, 6, 360), (9, 7, 370)
    )
    provider = read(text)
    assert [(reading.start.hour, reading.grams_per_kwh) for reading in past(provider)] == [
        (0, 301.0),
        (1, 315.0),
        (3, 330.0),
        (6, 360.0),
        (7, 370.0),
    ]
    with pytest.raises(NoData, match="gap"):
        asyncio.run(read(text, now=START + 4.5 * HOUR).latest("DE"))
    assert asyncio.run(read(text, now=START + 6.5 * HOUR).latest("DE")).grams_per_kwh == 360.0


@pytest.mark.parametrize(
    ("bad", "words"), [(0, "not above zero"), ("x", "not a number"), (9999, "check the unit")]
)
def test_a_polled_value_that_is_not_credible_is_refused(
    read: Callable[..., Provider], bad: object, words: str
) -> None:
    with pytest.raises(ConfigurationError, match=words) as caught:
        read(scrap((1, 0, 300), (2, 1, bad), (3, 2, 310)))
    assert "line 3" in caught.value.problem


def test_a_unit_that_is_not_known_is_refused(read: Callable[..., Provider]) -> None:
    with pytest.raises(ConfigurationError, match="unit"):
        read(scrap((1, 0, 300), (2, 1, 300), (3, 2, 310)).replace("gCO2eq/kWh\n", "lb/MWh\n"))


def test_watttimes_export_needs_its_unit_declared(read: Callable[..., Provider]) -> None:
    text = DIALECTS["WattTime export"][0].replace("100.5", "1000")
    with pytest.raises(ConfigurationError, match="set `unit`"):
        read(text)
    provider = read(text, unit="lbs/MWh")
    assert past(provider)[0].grams_per_kwh == pytest.approx(453.59237)
    assert provider.capabilities.signal is Signal.MARGINAL
    with pytest.raises(ConfigurationError, match="unit must be one of"):
        read(text, unit="pounds")
    with pytest.raises(ConfigurationError, match="above 2000"):
        read(text.replace("1000", "4500"), unit="lbs/MWh")


@pytest.mark.parametrize("name", ["Glasgow", "vessim", "ecovisor"])
def test_a_time_that_may_be_anywhere_must_be_declared(read: Callable[..., Provider], name: str) -> None:
    text, options, _ = DIALECTS[name]
    left = {key: value for key, value in options.items() if key not in {"assume_utc", "starts_at"}}
    with pytest.raises(ConfigurationError, match=r"assume_utc|starts_at|not a UTC time"):
        read(text, **left)


def test_a_time_in_another_zone_is_refused_even_where_utc_is_usual(read: Callable[..., Provider]) -> None:
    text = DIALECTS["CarbonCast"][0].replace(":00:00", ":00:00+02:00")
    with pytest.raises(ConfigurationError, match="not a UTC time"):
        read(text)


# --- forecasts as they were issued ---


def issued(days: int = 3) -> dict[tuple[int, int], float]:
    """Forecasts of 48 h, issued daily at midnight: by (issue, hour)."""
    return {
        (24 * day, 24 * day + lead): 200.0 + 10 * day + lead / 10 for day in range(days) for lead in range(48)
    }


def test_forecasts_are_replayed_as_they_were_issued(read: Callable[..., Provider]) -> None:
    table = issued()
    ours = "issue_utc,lead_h,time_utc,forecast_direct,actual_direct\n" + "".join(
        f"{START + made * HOUR:%Y-%m-%dT%H:%MZ},{hour - made},"
        f"{START + hour * HOUR:%Y-%m-%dT%H:%MZ},{value},{300 + hour}\n"
        for (made, hour), value in table.items()
    )
    theirs = "UTC time,actual_carbon_intensity_direct,forecasted_carbon_intensity_direct\n" + "".join(
        f"{START + hour * HOUR:%Y-%m-%d %H:%M:%S},{300 + hour},{value}\n"
        for (_, hour), value in table.items()
    )
    for text in (ours, theirs):
        for now in (0.5, 23.5, 24.0, 30.0, 71.5):
            provider = read(text, now=START + now * HOUR)
            ahead = asyncio.run(provider.forecast("DE", START + (now + 20) * HOUR))
            made = int(now // 24) * 24
            hours = [
                hour
                for hour in range(int(now) + 1, int(now) + 21)
                if (made, hour) in table and hour < now + 20
            ]
            assert [point.grams_per_kwh for point in ahead] == [table[made, hour] for hour in hours]
            assert {point.quality for point in ahead} == {Quality.FORECAST}
        provider = read(text, now=START + timedelta(days=9))
        assert [reading.grams_per_kwh for reading in past(provider)] == [300.0 + hour for hour in range(72)]


SHARED = Path(__file__).parents[1] / ".." / "shared" / "data" / "grid" / "forecasts"


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the forecasts in ../shared/data")
def test_a_real_file_of_issued_forecasts_is_replayed() -> None:
    path = SHARED / "us-ciso_carboncast-tier1_2021H2.csv.gz"
    lines = [line.split(",") for line in gzip.decompress(path.read_bytes()).decode().splitlines()[1:]]
    now = datetime(2021, 9, 1, 13, 30, tzinfo=UTC)
    options = {"path": path, "column": "actual_lifecycle"}
    provider: Provider = plugins.build(
        "providers", "csv", options, key="grid", clock=SimulatedClock(now), http=None
    )
    asyncio.run(provider.start("US-CISO"))
    ahead = asyncio.run(provider.forecast("US-CISO", now + timedelta(hours=96)))
    expected = [float(line[3]) for line in lines if line[0] == "2021-09-01T00:00Z" and int(line[1]) >= 14]
    assert [point.grams_per_kwh for point in ahead] == expected
    assert len(expected) == 82
