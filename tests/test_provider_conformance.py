"""The built-in providers against the suite that ships for everybody's."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, ClassVar

import httpx
import pytest
from provider_services import NOW, QUICK, SERVICES

from carbon_nas import plugins, secrets
from carbon_nas.clock import SimulatedClock
from carbon_nas.interfaces import Clock, Provider
from carbon_nas.testing.providers import HttpProviderConformance, ProviderConformance, Through


class BuiltIn(ProviderConformance):
    __test__ = False
    name: ClassVar[str]
    options: ClassVar[Mapping[str, object]]
    served: ClassVar[str]
    now: ClassVar[datetime] = NOW

    def __init_subclass__(cls) -> None:
        cls.__test__ = "name" in vars(cls)

    @pytest.fixture
    def clock(self) -> Clock:
        return SimulatedClock(self.now)

    @pytest.fixture
    def zone(self) -> str:
        return self.served

    @pytest.fixture
    def provider(self, clock: Clock) -> Provider:
        return plugins.build("providers", self.name, self.options, key="grid", clock=clock, http=None)


class TestCsv(BuiltIn):
    name = "csv"
    options: ClassVar[Mapping[str, object]] = {"trace": "gb-2023-30min"}
    served = "GB"
    now = datetime(2023, 3, 26, 1, 10, tzinfo=UTC)


class TestCsvWithoutForecast(BuiltIn):
    name = "csv"
    options: ClassVar[Mapping[str, object]] = {"trace": "us-ciso-2021-2022-hourly"}
    served = "US-CISO"
    now = datetime(2022, 11, 6, 9, 0, tzinfo=UTC)


class TestStatic(BuiltIn):
    name = "static"
    options: ClassVar[Mapping[str, object]] = {
        "grams_per_kwh": 402.0,
        "source": "Energy Market Authority, 2024",
    }
    served = "SG"

    def test_an_unknown_zone_is_refused(self) -> None:  # type: ignore[override]
        pytest.skip("a declared constant holds where its user says")


class OverHttp(BuiltIn, HttpProviderConformance):
    @pytest.fixture(autouse=True)
    def _secrets(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for field, value in SERVICES[self.name].secrets.items():
            monkeypatch.setenv(secrets.variable(self.name, field), value)

    @pytest.fixture
    def through(self, clock: Clock) -> Through:
        def make(http: httpx.AsyncClient) -> Any:
            options = {**QUICK, **self.options}
            return plugins.build("providers", self.name, options, key="grid", clock=clock, http=http)

        return make

    @pytest.fixture
    def provider(self, through: Through) -> Provider:
        service = SERVICES[self.name]

        def answer(request: httpx.Request) -> httpx.Response:
            served = service.zone != "GB" or "NOWHERE" not in str(request.url)
            return service.respond(request, self.now) if served else httpx.Response(404)

        return through(httpx.AsyncClient(transport=httpx.MockTransport(answer)))


OVER_HTTP = [
    type(
        f"Test_{name.replace('-', '_')}",
        (OverHttp,),
        {"name": name, "options": service.options, "served": service.zone, "unknown_zone": "xx nowhere"},
    )
    for name, service in SERVICES.items()
]
globals().update({suite.__name__: suite for suite in OVER_HTTP})


class TestNesoRegion(OverHttp):
    name = "neso"
    options: ClassVar[Mapping[str, object]] = {}
    served = "GB-13"


class TestNesoPostcode(OverHttp):
    name = "neso"
    options: ClassVar[Mapping[str, object]] = {}
    served = "GB-EN2"


def test_every_provider_of_ours_is_put_to_the_suite() -> None:
    ours = {
        name
        for name, point in plugins.registered("providers").items()
        if point.value.startswith("carbon_nas_providers.")
    }
    suites = [TestCsv, TestStatic, *OVER_HTTP]
    assert ours == {suite.name for suite in suites}
    assert all(isinstance(plugins.load("providers", name, key="grid"), type) for name in ours)
