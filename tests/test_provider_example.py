"""A stranger's provider: built, installed beside us, found by its name, and put to its own tests."""

from pathlib import Path

import pytest
from example_distribution import install, python, require_own_tests_to_pass

NAME = "carbon-nas-provider-example"
ENVIRONMENT = {"CARBON_NAS_EXAMPLE_TOKEN": "t0ken"}

DRIVE = """
import asyncio, httpx
from datetime import datetime, UTC
from carbon_nas import config, plugins
from carbon_nas.clock import SimulatedClock

config.check({"grid": {"zone": "XY", "providers": ["example"], "example": {"base_url": "https://grid.test"}}})

def answer(request):
    assert request.url.host == "grid.test" and request.headers["authorization"] == "Bearer t0ken"
    points = [{"at": "2024-03-31T01:00:00Z", "value": 132.5, "kind": "expected"}]
    return httpx.Response(200, json={"area": "XY", "unit": "g/kWh", "points": points})

async def main():
    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http:
        clock = SimulatedClock(datetime(2024, 3, 31, 1, 10, tzinfo=UTC))
        options = {"base_url": "https://grid.test"}
        provider = plugins.build("providers", "example", options, key="grid", clock=clock, http=http)
        await provider.start("XY")
        reading = await provider.latest("XY")
        print(type(provider).__module__, reading.zone, reading.grams_per_kwh, reading.quality)

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install(NAME, tmp_path_factory.mktemp)


def test_it_is_found_by_its_name_and_driven(installed: Path) -> None:
    told = python(installed, "-c", DRIVE, **ENVIRONMENT)
    assert told.split() == ["carbon_nas_provider_example", "XY", "132.5", "forecast"]


def test_it_passes_its_own_tests(installed: Path) -> None:
    require_own_tests_to_pass(NAME, installed)


def test_it_is_not_found_where_it_is_not_installed() -> None:
    from carbon_nas import plugins

    assert "example" not in plugins.registered("providers")
