"""What `providers list` and `providers probe` show: enough to choose and to mend, and never a key."""

import asyncio
from dataclasses import dataclass
from typing import Any, ClassVar

import httpx
import pytest
from provider_services import NOW, QUICK, SERVICES
from pydantic import SecretStr

from carbon_nas import plugins, secrets
from carbon_nas.clock import SimulatedClock
from carbon_nas.errors import ProviderError
from carbon_nas.grid.probe import AS_CONFIGURED, check, describe, probe


@pytest.mark.parametrize("name", plugins.registered("providers"))
def test_every_provider_is_described_without_asking(name: str) -> None:
    described = describe(name, plugins.load("providers", name, key="grid"))
    row = described.row()
    assert row["name"] == name
    assert all(isinstance(value, str) for value in row.values())
    service = SERVICES.get(name)
    if service is not None and name != "carbon-aware-sdk":
        assert described.capabilities is not None
        assert "latest" in row["tells"]
        assert row["needs"] == ", ".join(secrets.variable(name, field) for field in service.secrets)


def test_what_only_the_configuration_tells_is_said_to_be_so() -> None:
    row = describe("carbon-aware-sdk", plugins.load("providers", "carbon-aware-sdk", key="grid")).row()
    assert row["signal"] == row["step"] == AS_CONFIGURED
    assert row["needs"] == "base_url, signal, basis, step_minutes"
    assert describe("csv", plugins.load("providers", "csv", key="grid")).row()["basis"] == AS_CONFIGURED


def build(name: str, answer: Any) -> Any:
    http = httpx.AsyncClient(transport=httpx.MockTransport(answer))
    options = {**QUICK, **SERVICES[name].options}
    return plugins.build("providers", name, options, key="grid", clock=SimulatedClock(NOW), http=http)


@pytest.mark.parametrize("name", SERVICES)
def test_a_probe_tells_what_came(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    service = SERVICES[name]
    for field, value in service.secrets.items():
        monkeypatch.setenv(secrets.variable(name, field), value)
    found = asyncio.run(probe(build(name, service.respond), service.zone))
    assert found["outcome"] == "ok"
    assert found["provider"] == name
    assert 100 <= float(str(found["grams_per_kwh"])) <= 130
    assert found["attribution"]
    assert not any(secret in str(found) for secret in service.secrets.values())


@pytest.mark.parametrize(
    ("status", "error"), [(401, "AccessDenied"), (404, "NoData"), (400, "BadData"), (500, "Unavailable")]
)
def test_a_probe_that_fails_says_how_and_what_to_do(
    status: int, error: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CARBON_NAS_EIA_API_KEY", "s3cret")
    found = asyncio.run(probe(build("eia", lambda _: httpx.Response(status)), "US-CISO"))
    assert (found["outcome"], found["error"]) == ("failed", error)
    assert "eia" in str(found["message"])
    assert found["hint"]
    assert "s3cret" not in str(found)


def test_a_pause_and_a_missing_key_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    limited = httpx.Response(429, headers={"retry-after": "77"})
    assert asyncio.run(probe(build("neso", lambda _: limited), "GB"))["retry_after_seconds"] == 77.0
    found = asyncio.run(probe(build("eia", lambda _: limited), "US-CISO"))
    assert found["error"] == "ConfigurationError"
    assert "CARBON_NAS_EIA_API_KEY" in str(found["message"])


@dataclass
class LeakyOptions:
    token: SecretStr


class Leaky:
    """A stranger's provider whose errors tell its key."""

    Options: ClassVar[type] = LeakyOptions

    def __init__(self, error: type[Exception]) -> None:
        self.options, self.error = LeakyOptions(SecretStr("s3cret")), error

    async def start(self, zone: str) -> None:
        raise self.error(f"GET https://example.org/{zone}?token={self.options.token.get_secret_value()}")


@pytest.mark.parametrize("error", [ProviderError, ValueError])
def test_a_strangers_message_is_masked(error: type[Exception]) -> None:
    found = asyncio.run(probe(Leaky(error), "GB"))  # type: ignore[arg-type]
    assert found["message"] == "GET https://example.org/GB?token=***"
    assert found["error"] == error.__name__


def test_a_check_asks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(request: httpx.Request) -> httpx.Response:
        raise AssertionError(f"asked {request.url}")

    assert asyncio.run(check(build("neso", nobody), "GB-13"))["outcome"] == "ok"
    assert asyncio.run(check(build("neso", nobody), "DE"))["error"] == "ConfigurationError"
    assert asyncio.run(check(build("entsoe", nobody), "DE"))["error"] == "ConfigurationError"
    monkeypatch.setenv("CARBON_NAS_ENTSOE_TOKEN", "s3cret")
    assert asyncio.run(check(build("entsoe", nobody), "DE"))["outcome"] == "ok"
