"""The built-in providers against the suite that ships for everybody's."""

from datetime import UTC, datetime, timedelta
from typing import ClassVar

import httpx
import pytest

from carbon_nas import plugins
from carbon_nas.clock import SimulatedClock
from carbon_nas.interfaces import Clock, Provider
from carbon_nas.testing.providers import ProviderConformance


def half_hours(request: httpx.Request, now: datetime) -> httpx.Response:
    """The service's answers in its own form, with its own habits: both ends, and one half hour before."""
    step = timedelta(minutes=30)
    match request.url.path.strip("/").split("/"):
        case ["intensity"]:
            start, end = now - step, now
        case ["intensity", begin, "fw48h"]:
            start, end = datetime.fromisoformat(begin), datetime.fromisoformat(begin) + timedelta(hours=48)
        case ["intensity", begin, until]:
            start, end = datetime.fromisoformat(begin), datetime.fromisoformat(until)
        case _:
            return httpx.Response(404)
    first = start.replace(minute=start.minute // 30 * 30) - (step if end <= now else timedelta(0))
    data = []
    while first <= end:
        past = first + step <= now
        value = 100 + first.hour
        intensity = {"forecast": value + 3, "actual": value if past else None, "index": "low"}
        data.append(
            {
                "from": f"{first:%Y-%m-%dT%H:%MZ}",
                "to": f"{first + step:%Y-%m-%dT%H:%MZ}",
                "intensity": intensity,
            }
        )
        first += step
    return httpx.Response(200, json={"data": data})


class BuiltIn(ProviderConformance):
    __test__ = False
    name: ClassVar[str]
    options: ClassVar[dict[str, object]]
    served: ClassVar[str]
    now: ClassVar[datetime]

    def __init_subclass__(cls) -> None:
        cls.__test__ = True

    @pytest.fixture
    def clock(self) -> Clock:
        return SimulatedClock(self.now)

    @pytest.fixture
    def zone(self) -> str:
        return self.served

    @pytest.fixture
    def provider(self, clock: Clock) -> Provider:
        http = httpx.AsyncClient(transport=httpx.MockTransport(lambda asked: half_hours(asked, self.now)))
        return plugins.build("providers", self.name, self.options, key="grid", clock=clock, http=http)


class TestCsv(BuiltIn):
    name = "csv"
    options: ClassVar[dict[str, object]] = {"trace": "gb-2023-30min"}
    served = "GB"
    now = datetime(2023, 3, 26, 1, 10, tzinfo=UTC)


class TestCsvWithoutForecast(BuiltIn):
    name = "csv"
    options: ClassVar[dict[str, object]] = {"trace": "us-ciso-2021-2022-hourly"}
    served = "US-CISO"
    now = datetime(2022, 11, 6, 9, 0, tzinfo=UTC)


class TestNeso(BuiltIn):
    name = "neso"
    options: ClassVar[dict[str, object]] = {}
    served = "GB"
    now = datetime(2023, 3, 26, 1, 10, tzinfo=UTC)


def test_every_provider_of_ours_is_put_to_the_suite() -> None:
    ours = {
        name
        for name, point in plugins.registered("providers").items()
        if point.value.startswith("carbon_nas_providers.")
    }
    assert ours == {suite.name for suite in BuiltIn.__subclasses__()}
