"""The services, as far as the providers know them: good answers of made-up numbers, in each service's own form.

Values follow `grams`, so a test can tell what must come out. Each answer covers what was asked, as the real one would.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

HOUR, HALF, QUARTER, FIVE = (timedelta(minutes=minutes) for minutes in (60, 30, 15, 5))
NOW = datetime(2024, 3, 31, 1, 10, tzinfo=UTC)  # Europe's clocks go forward at 01:00 UTC
QUICK: Mapping[str, object] = {
    "retry": {"attempts": 2, "first_wait_seconds": 0.0, "longest_wait_seconds": 0.0},
    "time_outs": {"connect_seconds": 2.0, "step_seconds": 0.05, "answer_seconds": 5.0},
    "requests_per_minute": 6000.0,
    "burst": 1000,
}


def grams(start: datetime) -> float:
    """A made-up intensity, different from hour to hour."""
    return 100.0 + start.hour


def steps(start: datetime, end: datetime, step: timedelta) -> Iterator[datetime]:
    """The whole intervals that begin in `[start, end)`, and the one that holds `start`."""
    begin = datetime.fromtimestamp(start.timestamp() // step.total_seconds() * step.total_seconds(), UTC)
    while begin < end:
        yield begin
        begin += step


def when(text: str) -> datetime:
    read = datetime.fromisoformat(text)
    return read if read.tzinfo else read.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Known:
    """A provider's service. `values` are the names that intensities stand under; `echoes` how it names the zone."""

    name: str
    zone: str
    answer: Callable[[httpx.Request, datetime], Any]
    options: Mapping[str, object] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)
    values: frozenset[str] = frozenset()
    echoes: str | None = None
    naive_times: bool = False  # its times carry no zone anyway

    def respond(self, request: httpx.Request, now: datetime = NOW) -> httpx.Response:
        """Answer as the service does."""
        content = self.answer(request, now)
        return httpx.Response(
            200, content=content if isinstance(content, bytes) else json.dumps(content).encode()
        )


def neso(request: httpx.Request, now: datetime) -> Any:
    parts = request.url.path.strip("/").split("/")
    regional = parts[0] == "regional"
    times = [when(part) for part in parts if part[:2] == "20"]
    start, end = (times[0], times[-1] + HALF) if times else (now, now + FIVE)
    end = start + 48 * HOUR if "fw48h" in parts else end
    rows = []
    for begin in steps(start - (HALF if times and "fw48h" not in parts else timedelta(0)), end, HALF):
        intensity: dict[str, Any] = {"forecast": grams(begin) + 3, "index": "low"}
        if not regional:
            intensity["actual"] = grams(begin) if begin + 2 * HALF <= now else None
        until = begin + HALF
        rows.append(
            {"from": f"{begin:%Y-%m-%dT%H:%MZ}", "to": f"{until:%Y-%m-%dT%H:%MZ}", "intensity": intensity}
        )
    if not regional:
        return {"data": rows}
    kind, place = parts[-2:]
    named: dict[str, Any] = {
        kind: int(place) if kind == "regionid" else place,
        "shortname": "x",
        "data": rows,
    }
    return {"data": named if times else [named]}


def energy_charts(request: httpx.Request, now: datetime) -> Any:
    start, end = when(request.url.params["start"]), when(request.url.params["end"])
    times = list(steps(start, end, QUARTER))
    past = [begin + QUARTER <= now for begin in times]
    return {
        "unix_seconds": [int(begin.timestamp()) for begin in times],
        "co2eq": [grams(begin) if known else None for begin, known in zip(times, past, strict=True)],
        "co2eq_forecast": [None if known else grams(begin) for begin, known in zip(times, past, strict=True)],
        "deprecated": False,
    }


def electricity_maps(request: httpx.Request, now: datetime) -> Any:
    assert request.headers["auth-token"] == "t0ken"
    zone, what = request.url.params["zone"], request.url.path.rpartition("/")[2]

    def row(begin: datetime) -> dict[str, Any]:
        return {
            "zone": zone,
            "carbonIntensity": grams(begin),
            "datetime": f"{begin:%Y-%m-%dT%H:%M:%S}.000Z",
            "emissionFactorType": request.url.params["emissionFactorType"],
            "isEstimated": begin + 3 * HOUR > now,
        }

    if what == "latest":
        return row(next(steps(now, now + FIVE, HOUR)))
    if what == "history":
        return {"zone": zone, "history": [row(begin) for begin in steps(now - 24 * HOUR, now, HOUR)]}
    if what == "past-range":
        start, end = when(request.url.params["start"]), when(request.url.params["end"])
        return {"zone": zone, "data": [row(begin) for begin in steps(start, end, HOUR)]}
    until = now + int(request.url.params["horizonHours"]) * HOUR
    keys = ("carbonIntensity", "datetime")
    return {
        "zone": zone,
        "forecast": [{key: row(begin)[key] for key in keys} for begin in steps(now, until, HOUR)],
    }


def watttime(request: httpx.Request, now: datetime) -> Any:
    if request.url.path == "/login":
        assert request.headers["authorization"].startswith("Basic ")
        return {"token": "bearer-t0ken"}
    assert request.headers["authorization"] == "Bearer bearer-t0ken"
    asked = request.url.params
    start = when(asked["start"]) if "start" in asked else now
    end = min(when(asked["end"]), now) if "end" in asked else now + int(asked["horizon_hours"]) * HOUR
    meta = {
        "region": asked["region"],
        "signal_type": asked["signal_type"],
        "units": "lbs_co2_per_mwh",
        "data_point_period_seconds": 300,
    }
    data = [
        {"point_time": begin.isoformat(), "value": grams(begin) / 0.45359237}
        for begin in steps(start, end, FIVE)
    ]
    return {"data": data, "meta": meta}


def carbon_aware_sdk(request: httpx.Request, now: datetime) -> Any:
    location = request.url.params["location"]
    if request.url.path == "/emissions/bylocation":
        start, end = when(request.url.params["time"]), min(when(request.url.params["toTime"]), now)
        return [
            {"location": location, "time": begin.isoformat(), "rating": grams(begin), "duration": "01:00:00"}
            for begin in steps(start, end, HOUR)
        ]
    points = [
        {"location": location, "timestamp": begin.isoformat(), "duration": 60, "value": grams(begin)}
        for begin in steps(now, now + 24 * HOUR, HOUR)
    ]
    return [
        {
            "location": location,
            "generatedAt": now.isoformat(),
            "optimalDataPoints": [],
            "forecastData": points,
        }
    ]


def energi_data_service(request: httpx.Request, now: datetime) -> Any:
    start, end = when(request.url.params["start"]), when(request.url.params["end"])
    dataset = request.url.path.rpartition("/")[2]
    end = min(end, now) if dataset == "CO2Emis" else end
    (area,) = json.loads(request.url.params["filter"])["PriceArea"]
    records = [
        {"Minutes5UTC": f"{begin:%Y-%m-%dT%H:%M:%S}", "PriceArea": area, "CO2Emission": grams(begin)}
        for begin in steps(start - HOUR, end - HOUR, FIVE)  # as Danish time reads it
    ]
    return {"total": len(records), "dataset": dataset, "records": records}


def eia(request: httpx.Request, now: datetime) -> Any:
    assert request.headers["x-api-key"] == "t0ken"
    asked = request.url.params
    start, end = when(f"{asked['start']}:00"), when(f"{asked['end']}:00") + HOUR
    share = [(begin, (grams(begin - HOUR) - 24) / (490 - 24)) for begin in steps(start, min(end, now), HOUR)]
    data = [
        {
            "period": f"{begin:%Y-%m-%dT%H}",
            "respondent": asked["facets[respondent][]"],
            "fueltype": fuel,
            "value": str(amount),
            "value-units": "megawatthours",
        }
        for begin, gas in share
        for fuel, amount in (("NG", 1000 * gas), ("WAT", 1000 * (1 - gas)))
    ]
    return {"response": {"total": str(len(data)), "frequency": "hourly", "data": data}}


XML = """<?xml version="1.0" encoding="utf-8"?>
<GL_MarketDocument xmlns="urn:iec62325.351:tc57wg16:451-6:generationloaddocument:3:0">{series}</GL_MarketDocument>"""
SERIES = """<TimeSeries><inBiddingZone_Domain.mRID codingScheme="A01">{eic}</inBiddingZone_Domain.mRID>
<quantity_Measure_Unit.name>MAW</quantity_Measure_Unit.name><curveType>A03</curveType>
<MktPSRType><psrType>{kind}</psrType></MktPSRType><Period><timeInterval><start>{start}</start><end>{end}</end>
</timeInterval><resolution>PT60M</resolution>{points}</Period></TimeSeries>"""


def entsoe(request: httpx.Request, now: datetime) -> Any:
    assert request.url.params["securityToken"] == "t0ken"
    start, end = (
        datetime.strptime(request.url.params[name], "%Y%m%d%H%M").replace(tzinfo=UTC)
        for name in ("periodStart", "periodEnd")
    )
    hours = [begin for begin in steps(start, end, HOUR) if begin + HOUR <= now]
    series = []
    for kind in ("B04", "B12"):
        points, before = "", None
        for position, begin in enumerate(hours, start=1):
            gas = (grams(begin) - 24) / (490 - 24)
            amount = 1000 * (gas if kind == "B04" else 1 - gas)
            if amount != before:
                points += f"<Point><position>{position}</position><quantity>{amount!r}</quantity></Point>"
            before = amount
        series.append(
            SERIES.format(
                eic=request.url.params["in_Domain"],
                kind=kind,
                start=f"{hours[0]:%Y-%m-%dT%H:%MZ}",
                end=f"{hours[-1] + HOUR:%Y-%m-%dT%H:%MZ}",
                points=points,
            )
        )
    return XML.format(series="".join(series)).encode()


def rte(request: httpx.Request, now: datetime) -> Any:
    start, end = (when(text) for text in request.url.params["where"].split("'")[1::2])
    rows = [
        {
            "perimetre": "France",
            "date_heure": begin.isoformat(),
            "taux_co2": grams(begin) if begin + HALF <= now else None,
        }
        for begin in steps(start, end, QUARTER)
    ]
    return {"total_count": len(rows), "results": rows[: int(request.url.params["limit"])]}


TOKEN = {"token": "t0ken"}
SERVICES = {
    service.name: service
    for service in (
        Known("neso", "GB", neso, values=frozenset({"actual", "forecast"})),
        Known(
            "energy-charts",
            "DE",
            energy_charts,
            values=frozenset({"co2eq", "co2eq_forecast"}),
            naive_times=True,
        ),
        Known(
            "electricity-maps",
            "DE",
            electricity_maps,
            {"forecast": True, "past_range": True},
            TOKEN,
            frozenset({"carbonIntensity"}),
            echoes="DE",
        ),
        Known(
            "watttime",
            "CAISO_NORTH",
            watttime,
            secrets={"username": "somebody", "password": "pa55word"},
            values=frozenset({"value"}),
            echoes="CAISO_NORTH",
        ),
        Known(
            "carbon-aware-sdk",
            "eastus",
            carbon_aware_sdk,
            {
                "base_url": "http://sdk.site.example",
                "signal": "average",
                "basis": "lifecycle",
                "step_minutes": 60,
            },
            values=frozenset({"rating", "value"}),
            echoes="eastus",
        ),
        Known(
            "energi-data-service",
            "DK1",
            energi_data_service,
            values=frozenset({"CO2Emission"}),
            echoes="DK1",
            naive_times=True,
        ),
        Known(
            "eia", "US-CISO", eia, {}, {"api_key": "t0ken"}, frozenset({"value"}), "CISO", naive_times=True
        ),
        Known("entsoe", "DE", entsoe, secrets=TOKEN, echoes="10Y1001A1001A83F", naive_times=True),
        Known("rte-eco2mix", "FR", rte, values=frozenset({"taux_co2"}), echoes="France"),
    )
}
