"""Recorded and shape-true answers of the services, against numbers worked out here by hand or independently."""

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from provider_services import NOW, QUICK, SERVICES

from carbon_nas import plugins, secrets
from carbon_nas.clock import SimulatedClock
from carbon_nas.errors import AccessDenied, BadData, NoData
from carbon_nas.grid.answers import Point, Points
from carbon_nas.interfaces import Provider
from carbon_nas.model import Basis, Quality, Signal
from carbon_nas_providers import (
    _entsoe_xml,
    carbon_aware_sdk,
    eia,
    electricity_maps,
    energi_data_service,
    energy_charts,
    entsoe,
    neso,
    rte_eco2mix,
    watttime,
)
from carbon_nas_providers._mix import FACTORS, Fuel, factors_of, grams_per_kwh

SAMPLES = Path(__file__).parents[1] / ".." / "shared" / "data" / "api-samples"
HOUR = timedelta(hours=1)
recorded = pytest.mark.skipif(not SAMPLES.is_dir(), reason="needs the recorded answers in ../shared/data")
LIFECYCLE = FACTORS[Basis.LIFECYCLE]


def sample(name: str) -> bytes:
    return (SAMPLES / name).read_bytes()


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def body(content: object) -> bytes:
    return json.dumps(content).encode()


def whole(points: Points, count: int, step: timedelta) -> list[Point]:
    found = points.credible()
    assert len(found) == count
    assert all(point.end - point.start == step for point in found)
    return found


# --- energy-charts ---


@recorded
@pytest.mark.parametrize(("country", "minutes"), [("de", 15), ("fr", 60)])
def test_energy_charts_is_actual_and_then_forecast(country: str, minutes: int) -> None:
    content = json.loads(sample(f"energy-charts/co2eq_{country}.json"))
    points = energy_charts.parse(body(content)).credible()
    by_start = {int(point.start.timestamp()): point for point in points}
    for seconds, actual, forecast in zip(
        *(content[key] for key in ("unix_seconds", "co2eq", "co2eq_forecast")), strict=True
    ):
        point = by_start.get(seconds)
        value = actual if actual is not None else forecast
        assert (point and point.grams_per_kwh) == (value or None)
        if point:
            assert point.quality is (Quality.FORECAST if actual is None else Quality.ACTUAL)
            assert point.end - point.start == timedelta(minutes=minutes)


def test_energy_charts_takes_zero_and_null_for_nothing() -> None:
    start = int(at("2024-03-22").timestamp())
    content = {
        "unix_seconds": [start + 900 * index for index in range(5)],
        "co2eq": [300, 0, None, None, None],
        "co2eq_forecast": [None, 310, 320, 0, None],
    }
    points = energy_charts.parse(body(content))
    assert [(point.grams_per_kwh, point.quality) for point in points.credible()] == [
        (300.0, Quality.ACTUAL),
        (320.0, Quality.FORECAST),
    ]
    assert points.skipped.total() == 3
    past = energy_charts.parse(body(content), forecast=False).credible()
    assert [point.grams_per_kwh for point in past] == [300.0]


@pytest.mark.parametrize(
    "change",
    [
        {"co2eq": [300]},
        {"co2eq": {"0": 300}},
        {"unix_seconds": ["1", "2"]},
        {"unix_seconds": [0, 1]},
        {"unix_seconds": [900, 0]},
    ],
)
def test_energy_charts_whose_arrays_do_not_fit_is_refused(change: dict[str, object]) -> None:
    good = {"unix_seconds": [0, 900], "co2eq": [300, 301], "co2eq_forecast": [None, None]}
    assert len(energy_charts.parse(body(good)).credible()) == 2
    with pytest.raises(BadData):
        energy_charts.parse(body({**good, **change}))


# --- NESO's regions ---


@recorded
def test_neso_regions_are_forecasts_for_ever() -> None:
    for name, zone, count in (
        ("regional_regionid_range.json", "GB-13", 6),
        ("regional_fw48h.json", "GB-13", 6),
        ("regional_postcode.json", "GB-EN2", 1),
    ):
        points = neso.parse(sample(f"uk-carbonintensity/{name}"), zone=zone, pick=neso.observed)
        found = whole(points, count, timedelta(minutes=30))
        assert {point.quality for point in found} == {Quality.FORECAST}
    with pytest.raises(BadData, match="answered for '13', not for '12'"):
        neso.parse(sample("uk-carbonintensity/regional_fw48h.json"), zone="GB-12", pick=neso.expected)


# --- Electricity Maps ---


@recorded
def test_electricity_maps_says_what_was_estimated() -> None:
    parse = partial(electricity_maps.parse, factors="lifecycle")
    (latest,) = parse(
        sample("electricitymaps-v3/carbon-intensity_latest.json"), zone="US-CAR-DUK", key=None
    ).credible()
    assert latest == Point(at("2024-03-06T19:00"), at("2024-03-06T20:00"), 321.0, Quality.ESTIMATED)
    rows = json.loads(sample("electricitymaps-v3/carbon-intensity_history.json"))["history"]
    past = parse(
        sample("electricitymaps-v3/carbon-intensity_history.json"), zone="DE", key="history"
    ).credible()
    assert [point.grams_per_kwh for point in past] == [
        row["carbonIntensity"] for row in rows if row["carbonIntensity"]
    ]
    assert {point.quality for point in past} <= {Quality.ACTUAL, Quality.ESTIMATED}
    ahead = parse(
        sample("electricitymaps-v3/carbon-intensity_forecast.json"), zone="DE", key="forecast"
    ).credible()
    assert {point.quality for point in ahead} == {Quality.FORECAST}


@pytest.mark.parametrize(
    "change",
    [{"emissionFactorType": "direct"}, {"temporalGranularity": "5_minutes"}, {"zone": "FR"}, {"zone": None}],
)
def test_electricity_maps_of_another_kind_is_refused(change: dict[str, object]) -> None:
    row = {"zone": "DE", "carbonIntensity": 300, "datetime": "2024-03-06T19:00:00.000Z", "isEstimated": False}
    (good,) = electricity_maps.parse(body(row), zone="DE", factors="lifecycle", key=None).credible()
    assert good.quality is Quality.ACTUAL
    with pytest.raises(BadData):
        electricity_maps.parse(body({**row, **change}), zone="DE", factors="lifecycle", key=None)


def test_electricity_maps_v3_is_v4_at_another_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CARBON_NAS_ELECTRICITY_MAPS_TOKEN", "t0ken")
    asked: list[httpx.URL] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url)
        return httpx.Response(
            200, json={"zone": "DE", "carbonIntensity": 300, "datetime": "2024-03-06T19:00:00.000Z"}
        )

    for base in ("https://api.electricitymaps.com/v3", None):
        options = {"emission_factor_type": "direct", **({"base_url": base} if base else {})}
        provider = build("electricity-maps", answer, at("2024-03-06T19:10"), options)
        assert provider.capabilities.basis is Basis.DIRECT
        asyncio.run(provider.latest("DE"))
    assert [url.path for url in asked] == ["/v3/carbon-intensity/latest", "/v4/carbon-intensity/latest"]
    assert all(url.params["disableCallerLookup"] == "true" for url in asked)
    assert all(url.params["emissionFactorType"] == "direct" for url in asked)


def build(
    name: str, answer: Callable[[httpx.Request], httpx.Response], now: datetime, options: Any = None
) -> Provider:
    http = httpx.AsyncClient(transport=httpx.MockTransport(answer))
    built: Provider = plugins.build(
        "providers", name, {**QUICK, **(options or {})}, key="grid", clock=SimulatedClock(now), http=http
    )
    return built


# --- WattTime ---


@recorded
def test_watttime_pounds_become_grams() -> None:
    parse = partial(watttime.parse, zone="CAISO_NORTH", signal="co2_moer")
    for name, quality in (("historical", Quality.ESTIMATED), ("forecast", Quality.FORECAST)):
        rows = json.loads(sample(f"watttime-v3/{name}.json"))["data"]
        points = whole(
            parse(sample(f"watttime-v3/{name}.json"), quality=quality), len(rows), timedelta(minutes=5)
        )
        for row, point in zip(rows, points, strict=True):
            assert point.grams_per_kwh == pytest.approx(row["value"] * 453.59237 / 1000, rel=1e-15)
            assert point.quality is quality
    assert watttime.parse_login(sample("watttime-v3/login.json")) == "PLACEHOLDER"


class WattTime:
    """A service whose tokens run out after 30 minutes; it counts its logins."""

    def __init__(self, clock: SimulatedClock, *, forgets: bool = False) -> None:
        self.clock, self.logins, self.valid, self.forgets = clock, 0, {}, forgets  # type: ignore[var-annotated]

    def __call__(self, request: httpx.Request) -> httpx.Response:
        now = self.clock.now()
        if request.url.path == "/login":
            assert request.headers["authorization"] == "Basic c29tZWJvZHk6cGE1NXdvcmQ="
            self.logins += 1
            self.valid = {f"Bearer t{self.logins}": now + timedelta(minutes=30)}
            return httpx.Response(200, json={"token": f"t{self.logins}"})
        if now >= self.valid.get(request.headers["authorization"], now):
            return httpx.Response(401, text="<html>expired</html>")
        if self.forgets:
            self.valid, self.forgets = {}, False
            return httpx.Response(401)
        meta = {
            "region": "CAISO_NORTH",
            "signal_type": "co2_moer",
            "units": "lbs_co2_per_mwh",
            "data_point_period_seconds": 300,
        }
        return httpx.Response(
            200, json={"data": [{"point_time": "2024-03-06T19:00:00+00:00", "value": 1000}], "meta": meta}
        )


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(secrets.variable("watttime", "username"), "somebody")
    monkeypatch.setenv(secrets.variable("watttime", "password"), "pa55word")


def with_account(service: WattTime, clock: SimulatedClock) -> Provider:
    http = httpx.AsyncClient(transport=httpx.MockTransport(service))
    built: Provider = plugins.build("providers", "watttime", QUICK, key="grid", clock=clock, http=http)
    return built


@pytest.mark.usefixtures("account")
def test_watttime_renews_its_token_before_it_runs_out() -> None:
    clock = SimulatedClock(at("2024-03-06T19:02"))
    service = WattTime(clock)
    provider = with_account(service, clock)

    async def hours() -> None:
        for _ in range(24):  # ten minutes each
            assert (await provider.latest("CAISO_NORTH")).grams_per_kwh == pytest.approx(453.59237)
            clock.advance(timedelta(minutes=10))

    asyncio.run(hours())
    assert service.logins == 8  # every 30 of its 240 minutes
    assert provider.capabilities.signal is Signal.MARGINAL


@pytest.mark.usefixtures("account")
def test_watttime_logs_in_once_more_when_refused_and_no_more() -> None:
    clock = SimulatedClock(at("2024-03-06T19:02"))
    service = WattTime(clock)
    provider = with_account(service, clock)

    async def ask() -> None:
        await provider.latest("CAISO_NORTH")
        service.valid = {}  # the service has forgotten the token
        await provider.latest("CAISO_NORTH")
        assert service.logins == 2
        service.forgets = True
        await provider.latest("CAISO_NORTH")
        assert service.logins == 3

    asyncio.run(ask())

    def refuse(request: httpx.Request) -> httpx.Response:
        return (
            service(request)
            if request.url.path == "/login"
            else httpx.Response(403, text="<html>Invalid scope")
        )

    before = service.logins
    with pytest.raises(AccessDenied):
        asyncio.run(build("watttime", refuse, clock.now()).latest("CAISO_NORTH"))
    assert service.logins == before + 1


# --- Carbon Aware SDK ---


def test_carbon_aware_sdk_has_two_shapes_of_points() -> None:
    observed = [{"location": "eastus", "time": "2022-05-17T20:45:11.5092741+00:00", "rating": 70}]
    (point,) = carbon_aware_sdk.parse_observed(body(observed), zone="eastus", step=HOUR).credible()
    assert point.grams_per_kwh == 70.0
    assert point.start == datetime(2022, 5, 17, 20, 45, 11, 509274, UTC)
    for optimal in ({"optimalDataPoints": []}, {"optimalDataPoint": {}}):
        data = [
            {"location": "eastus", "timestamp": "2022-05-17T20:45:00+00:00", "duration": 5, "value": 450.1}
        ]
        answer = [{"location": "eastus", "forecastData": data, **optimal}]
        (point,) = carbon_aware_sdk.parse_forecast(
            body(answer), zone="eastus", step=timedelta(minutes=5)
        ).credible()
        assert (point.grams_per_kwh, point.quality) == (450.1, Quality.FORECAST)
    with pytest.raises(BadData, match="mend step_minutes"):
        carbon_aware_sdk.parse_forecast(body(answer), zone="eastus", step=HOUR)
    with pytest.raises(NoData):
        carbon_aware_sdk.parse_observed(b"[]", zone="eastus", step=HOUR)


@pytest.mark.parametrize(
    ("text", "minutes"), [("01:00:00", 60), ("00:05:00", 5), ("1.00:30:00", 1470), ("00:15:00", 15)]
)
def test_time_spans_are_read(text: str, minutes: int) -> None:
    assert carbon_aware_sdk.duration(text) == timedelta(minutes=minutes)


# --- Energi Data Service ---


def test_energi_data_service_is_utc_whatever_it_looks_like() -> None:
    record = {
        "Minutes5UTC": "2026-01-01T12:05:00",
        "Minutes5DK": "2026-01-01T13:05:00",
        "PriceArea": "DK1",
        "CO2Emission": 229,
    }
    (point,) = energi_data_service.parse(
        body({"records": [record]}), area="DK1", quality=Quality.ACTUAL
    ).credible()
    assert point == Point(at("2026-01-01T12:05"), at("2026-01-01T12:10"), 229.0, Quality.ACTUAL)
    elsewhere = {**record, "Minutes5UTC": "2026-01-01T12:05:00+01:00"}
    with pytest.raises(BadData):
        energi_data_service.parse(
            body({"records": [elsewhere]}), area="DK1", quality=Quality.ACTUAL
        ).credible()
    with pytest.raises(BadData, match="cut short"):
        energi_data_service.parse(body({"records": [record] * 4000}), area="DK1", quality=Quality.ACTUAL)


# --- EIA ---


def independent(rows: list[dict[str, Any]], period: str) -> float:
    """The hour's intensity, by the factors as its table gives them."""
    factors = {"COL": 820, "NG": 490, "OIL": 650, "NUC": 12, "WAT": 24, "WND": 11, "SUN": 45, "OTH": 700}
    amounts = {row["fueltype"]: max(float(row["value"]), 0) for row in rows if row["period"] == period}
    return sum(amounts[fuel] * factors[fuel] for fuel in amounts) / sum(amounts.values())


@recorded
@pytest.mark.parametrize("name", ["fuel-type-data_ciso.json", "fuel-type-data_ciso_string-values.json"])
def test_eia_names_the_end_of_the_hour(name: str) -> None:
    rows = json.loads(sample(f"eia-v2/{name}"))["response"]["data"]
    periods = sorted({row["period"] for row in rows})
    points = whole(
        eia.parse(sample(f"eia-v2/{name}"), respondent="CISO", factors=LIFECYCLE), len(periods), HOUR
    )
    for period, point in zip(periods, points, strict=True):
        assert point.end == at(f"{period}:00")
        assert point.grams_per_kwh == pytest.approx(independent(rows, period), rel=1e-12)
        assert point.quality is Quality.ESTIMATED
    beginning = eia.parse(
        sample(f"eia-v2/{name}"), respondent="CISO", factors=LIFECYCLE, hour_ending=False
    ).credible()
    assert [point.start for point in beginning] == [point.end for point in points]


@recorded
def test_eia_skips_an_hour_with_a_null() -> None:
    points = eia.parse(sample("eia-v2/fuel-type-data_null-value.json"), respondent="CISO", factors=LIFECYCLE)
    with pytest.raises(BadData, match="no value of NG"):
        points.credible()


def eia_rows(*rows: tuple[str, str, object]) -> bytes:
    data = [
        {"period": p, "respondent": "X", "fueltype": f, "value": v, "value-units": "megawatthours"}
        for p, f, v in rows
    ]
    return body({"response": {"total": len(data), "data": data}})


def test_eia_an_hour_without_its_coal_is_not_clean() -> None:
    hours = {
        "01": {"COL": 50, "WND": 50},
        "02": {"WND": 50},
        "03": {"COL": "?", "WND": 50},
        "04": {"COL": "50", "WND": -9, "BAT": -40},
    }
    answer = eia_rows(
        *((f"2024-01-01T{hour}", fuel, value) for hour, mix in hours.items() for fuel, value in mix.items())
    )
    points = eia.parse(answer, respondent="X", factors=LIFECYCLE)
    assert [(point.start.hour, point.grams_per_kwh) for point in points.credible()] == [
        (0, 415.5),
        (3, 820.0),
    ]


def test_eia_unknown_fuels_are_dirty() -> None:
    (point,) = eia.parse(eia_rows(("2024-01-01T01", "XYZ", 10)), respondent="X", factors=LIFECYCLE).credible()
    assert point.grams_per_kwh == 700.0


# --- ENTSO-E ---

EIC = "10Y1001A1001A47J"


@recorded
def test_entsoe_fills_what_a_curve_leaves_out() -> None:
    document = sample("entsoe/A75_actual-generation_A03-gaps.xml")
    generation = _entsoe_xml.read_generation(document, EIC)
    start = at("2025-10-20T11:00")
    hourly = {
        kind: [quarters[start + index * HOUR] for index in range(6)] for kind, quarters in generation.items()
    }
    assert hourly["B04"] == [120.5, 118, 118, 117.5, 117.5, 117.5]
    assert hourly["B12"] == [300, 310, 305, 299, 280, 260]
    assert hourly["B19"] == [640, 640, 610, 610, 610, 580]
    points = whole(entsoe.parse(document, eic=EIC, factors=LIFECYCLE), 6, HOUR)
    named = {"B04": 490, "B12": 24, "B19": 11, "B20": 700, "B16": 45, "B14": 12}
    for index, point in enumerate(points):
        amounts = {kind: values[index] for kind, values in hourly.items()}
        expected = sum(amounts[kind] * named[kind] for kind in amounts) / sum(amounts.values())
        assert point.grams_per_kwh == pytest.approx(expected, rel=1e-12)


def test_every_area_code_has_its_right_check_character() -> None:
    """The 16th character checks the 15 before it (ENTSO-E, Energy Identification Codes, annex)."""
    order = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ-"
    for zone, code in entsoe.AREAS.items():
        weighed = sum(order.index(letter) * (16 - index) for index, letter in enumerate(code[:15]))
        assert code[15] == order[36 - (weighed - 1) % 37], zone
    assert len(set(entsoe.AREAS.values())) == len(entsoe.AREAS)


SERIES = """<TimeSeries><inBiddingZone_Domain.mRID>{eic}</inBiddingZone_Domain.mRID>
<quantity_Measure_Unit.name>{unit}</quantity_Measure_Unit.name><curveType>{curve}</curveType>
<MktPSRType><psrType>{kind}</psrType></MktPSRType><Period><timeInterval><start>2025-10-20T11:00Z</start>
<end>2025-10-20T13:00Z</end></timeInterval><resolution>{step}</resolution>{points}</Period></TimeSeries>"""


def document(*series: dict[str, Any]) -> bytes:
    """A document of series; `points` are (position, quantity)."""
    text = ""
    for one in series:
        told = {"eic": EIC, "unit": "MAW", "curve": "A01", "kind": "B04", "step": "PT60M", **one}
        points = "".join(
            f"<Point><position>{position}</position><quantity>{quantity}</quantity></Point>"
            for position, quantity in told.pop("points")
        )
        text += SERIES.format(**told, points=points)
    return f'<GL_MarketDocument xmlns="urn:x">{text}</GL_MarketDocument>'.encode()


def test_entsoe_brings_quarter_hours_and_hours_together() -> None:
    quarters = [(position, 100 + position) for position in range(1, 9)]
    answer = document({"points": [(1, 200), (2, 300)]}, {"kind": "B19", "step": "PT15M", "points": quarters})
    points = entsoe.parse(answer, eic=EIC, factors=LIFECYCLE).credible()
    means = [(101 + 102 + 103 + 104) / 4, (105 + 106 + 107 + 108) / 4]
    for point, gas, wind in zip(points, (200, 300), means, strict=True):
        assert point.grams_per_kwh == pytest.approx((490 * gas + 11 * wind) / (gas + wind))


def test_entsoe_leaves_out_an_hour_that_lacks_a_kind() -> None:
    answer = document({"points": [(1, 200)]}, {"kind": "B19", "points": [(1, 100), (2, 100)]})
    (point,) = entsoe.parse(answer, eic=EIC, factors=LIFECYCLE).credible()
    assert point.start == at("2025-10-20T11:00")


GOOD_SERIES = {"points": [(1, 200), (2, 300)]}


@pytest.mark.parametrize(
    "change",
    [
        {"eic": "10YFR-RTE------C"},
        {"unit": "MWH"},
        {"step": "P1D"},
        {"points": [(0, 200)]},
        {"points": [(3, 200)]},
        {"points": [(1, "many")]},
        {"points": [(1, "NaN")]},
        {"points": [(1, "INF")]},
        {"points": [("first", 200)]},
    ],
)
def test_entsoe_documents_that_are_not_as_agreed_are_refused(change: dict[str, Any]) -> None:
    assert len(entsoe.parse(document(GOOD_SERIES), eic=EIC, factors=LIFECYCLE).credible()) == 2
    with pytest.raises(BadData):
        entsoe.parse(document({**GOOD_SERIES, **change}), eic=EIC, factors=LIFECYCLE)


# --- RTE ---


@recorded
def test_rte_rows_come_in_any_order_and_in_local_time() -> None:
    content = sample("rte-eco2mix/eco2mix-national-tr.json")
    points = whole(rte_eco2mix.parse(content), 8, timedelta(minutes=15))
    assert points[0] == Point(at("2023-09-21T00:45"), at("2023-09-21T01:00"), 13.0, Quality.ESTIMATED)
    assert [point.grams_per_kwh for point in points] == [13, 21, 21, 21, 21, 20, 21, 21]
    newer = {"results": [record["fields"] for record in json.loads(content)["records"]]}
    assert rte_eco2mix.parse(body(newer)).credible() == points


def test_rte_is_not_asked_for_days_that_it_no_longer_holds() -> None:
    known, asked = SERVICES["rte-eco2mix"], []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return known.respond(request, NOW)

    async def past() -> list[Any]:
        async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http:
            provider = plugins.build(
                "providers", known.name, QUICK, key="grid", clock=SimulatedClock(NOW), http=http
            )
            return list(await provider.history("FR", NOW - timedelta(days=365), NOW))

    found = asyncio.run(past())
    assert len(asked) == 31
    assert found[-1].end > NOW - HOUR
    assert NOW - timedelta(days=31) <= found[0].start < NOW - timedelta(days=30)


# --- the mix ---


def test_the_factors_are_those_of_their_source() -> None:
    assert {
        fuel: factor
        for fuel, factor in LIFECYCLE.items()
        if fuel in ("coal", "gas", "oil", "nuclear", "wind")
    } == {
        Fuel.COAL: 820,
        Fuel.GAS: 490,
        Fuel.OIL: 650,
        Fuel.NUCLEAR: 12,
        Fuel.WIND: 11,
    }
    assert set(FACTORS[Basis.DIRECT]) == set(LIFECYCLE) == set(Fuel) - {Fuel.STORAGE}


def test_a_mix_is_weighed() -> None:
    assert (
        grams_per_kwh({Fuel.COAL: 1, Fuel.WIND: 3, Fuel.STORAGE: 90, Fuel.SOLAR: -5}, LIFECYCLE)
        == (820 + 33) / 4
    )
    assert grams_per_kwh({Fuel.COAL: 1}, factors_of(Basis.DIRECT, {Fuel.COAL: 900})) == 900
    with pytest.raises(ValueError, match="nothing"):
        grams_per_kwh({Fuel.STORAGE: 5, Fuel.SOLAR: -1}, LIFECYCLE)
    for wrong in ({Fuel.COAL: -1}, {Fuel.COAL: 2001}, {Fuel.STORAGE: 1}):
        with pytest.raises(ValueError, match="factors"):
            factors_of(Basis.DIRECT, wrong)
    with pytest.raises(ValueError, match="basis"):
        factors_of(Basis.UNKNOWN, {})
