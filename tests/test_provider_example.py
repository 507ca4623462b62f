"""A stranger's provider: built, installed beside us, found by its name, and put to its own tests."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "carbon-nas-provider-example"

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
    """The example, in a folder of its own."""
    target = tmp_path_factory.mktemp("site")
    source = tmp_path_factory.mktemp("source") / "example"
    subprocess.run(["cp", "-r", str(EXAMPLE), str(source)], check=True)  # noqa: S607 -- building writes into it
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--no-build-isolation", "--no-index", "--target", str(target), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return target


def run(installed: Path, *arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(installed), "CARBON_NAS_EXAMPLE_TOKEN": "t0ken"}
    done = subprocess.run(
        [sys.executable, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_it_is_found_by_its_name_and_driven(installed: Path) -> None:
    assert run(installed, "-c", DRIVE).split() == ["carbon_nas_provider_example", "XY", "132.5", "forecast"]


def test_it_passes_its_own_tests(installed: Path) -> None:
    config = f"--rootdir={EXAMPLE / 'tests'}"
    told = run(
        installed,
        "-m",
        "pytest",
        "-q",
        "-c",
        os.devnull,
        "-p",
        "no:cacheprovider",
        config,
        str(EXAMPLE / "tests"),
    )
    assert " passed" in told
    assert "skipped" not in told


def test_it_is_not_found_where_it_is_not_installed() -> None:
    from carbon_nas import plugins

    assert "example" not in plugins.registered("providers")
