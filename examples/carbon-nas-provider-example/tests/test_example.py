"""The example against the suite that every provider must pass, and on an answer of its own."""

from datetime import UTC, datetime, timedelta

import httpx
import pytest

from carbon_nas import plugins
from carbon_nas.clock import SimulatedClock
from carbon_nas.interfaces import Clock, Provider
from carbon_nas.testing.providers import HttpProviderConformance, Through

HOUR = timedelta(hours=1)
NOW = datetime(2024, 3, 31, 1, 10, tzinfo=UTC)
NEVER_WAIT = {"attempts": 2, "first_wait_seconds": 0.0, "longest_wait_seconds": 0.0}


def answer(request: httpx.Request) -> httpx.Response:
    """As the service: hours from `from` to `to`, measured as far as they are past."""
    assert request.headers["authorization"] == "Bearer t0ken"
    begin, end = (datetime.fromisoformat(request.url.params[name]) for name in ("from", "to"))
    points = []
    while begin < end:
        kind = "measured" if begin + HOUR <= NOW else "expected"
        points.append({"at": begin.isoformat(), "value": 100.0 + begin.hour, "kind": kind})
        begin += HOUR
    return httpx.Response(200, json={"area": request.url.params["area"], "unit": "g/kWh", "points": points})


class TestExample(HttpProviderConformance):
    """Every duty of a provider is a test of the suite."""

    @pytest.fixture(autouse=True)
    def token(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CARBON_NAS_EXAMPLE_TOKEN", "t0ken")

    @pytest.fixture
    def clock(self) -> Clock:
        return SimulatedClock(NOW)

    @pytest.fixture
    def zone(self) -> str:
        return "XY"

    @pytest.fixture
    def through(self, clock: Clock) -> Through:
        def make(http: httpx.AsyncClient) -> Provider:
            built: Provider = plugins.build(
                "providers", "example", {"retry": NEVER_WAIT}, key="grid", clock=clock, http=http
            )
            return built

        return make

    @pytest.fixture
    def provider(self, through: Through) -> Provider:
        return through(httpx.AsyncClient(transport=httpx.MockTransport(answer)))
