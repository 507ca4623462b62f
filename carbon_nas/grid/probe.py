"""What `carbon-nas providers` shows: what each provider can tell, and what one live question brings.

Nothing here prints, and nothing that is returned holds a secret.
"""

from collections.abc import Awaitable, Callable
from dataclasses import MISSING, dataclass, fields, is_dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from carbon_nas import secrets
from carbon_nas.clock import SystemClock, monotonic
from carbon_nas.errors import AccessDenied, BadData, ConfigurationError, NoData, ProviderError, RateLimited
from carbon_nas.interfaces import Provider
from carbon_nas.model import Capabilities, Reading

AS_CONFIGURED = "as configured"
HINTS: tuple[tuple[type[Exception], str], ...] = (  # the first that fits
    (ConfigurationError, "mend the configuration, then try again"),
    (AccessDenied, "check the key, and what its plan allows"),
    (RateLimited, "wait, then try again"),
    (NoData, "the service answers, but knows nothing of this zone now"),
    (BadData, "the answer cannot be used; report it if it stays so"),
    (ProviderError, "the service does not answer; try again later"),
    (Exception, "this is a defect of the provider; report it"),
)


class Outcome(StrEnum):
    """How a probe ended."""

    OK = "ok"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Description:
    """One provider as `providers list` shows it. What only its configuration tells is None."""

    name: str
    capabilities: Capabilities | None
    required: tuple[str, ...]
    secrets: tuple[str, ...]

    def row(self) -> dict[str, str]:
        """Give words for a table."""
        told = self.capabilities
        can = [name for name in ("latest", "history", "forecast") if told and getattr(told, name)]
        return {
            "name": self.name,
            "tells": ", ".join(can) or AS_CONFIGURED,
            "signal": str(told.signal) if told else AS_CONFIGURED,
            "basis": str(told.basis) if told else AS_CONFIGURED,
            "accounting": str(told.accounting) if told else AS_CONFIGURED,
            "step": _minutes(told.step.total_seconds()) if told else AS_CONFIGURED,
            "lag": _minutes(told.lag.total_seconds()) if told else AS_CONFIGURED,
            "licence": told.licence if told else AS_CONFIGURED,
            "attribution": told.attribution if told else AS_CONFIGURED,
            "needs": ", ".join([*self.required, *self.secrets]),
        }


def describe(name: str, cls: Any) -> Description:
    """Tell what a provider can do, without asking anybody: from one made with nothing but its defaults."""
    wanted = tuple(secrets.variable(name, field) for field in secrets.secret_fields(cls.Options))
    return Description(name, _capabilities(cls), _required(cls.Options), wanted)


async def check(provider: Provider, zone: str) -> dict[str, object]:
    """Check without the network that `zone` can be served and all keys are set. Never raises for a failure."""

    async def start() -> dict[str, object]:
        await provider.start(zone)
        return _kind(provider.capabilities)

    return {"zone": zone, **await _outcome(provider, start)}


async def probe(provider: Provider, zone: str) -> dict[str, object]:
    """Ask once for the newest reading of `zone`, and tell what came, or how it failed. Never raises for a failure."""

    async def ask() -> dict[str, object]:
        await provider.start(zone)
        return {**_told(await provider.latest(zone)), **_kind(provider.capabilities)}

    begin = monotonic()
    found = await _outcome(provider, ask)
    return {"zone": zone, **found, "duration_seconds": round(monotonic() - begin, 3)}


async def _outcome(
    provider: Provider, attempt: Callable[[], Awaitable[dict[str, object]]]
) -> dict[str, object]:
    try:
        found = await attempt()
    except Exception as error:  # noqa: BLE001 -- a stranger's defect is a finding too
        told: dict[str, object] = {
            "outcome": Outcome.FAILED,
            "error": type(error).__name__,
            "message": _mask(str(error), provider),
            "hint": next(words for kind, words in HINTS if isinstance(error, kind)),
        }
        return (
            {**told, "retry_after_seconds": error.retry_after_seconds}
            if isinstance(error, RateLimited)
            else told
        )
    return {"outcome": Outcome.OK, **found}


def _capabilities(cls: Any) -> Capabilities | None:
    try:
        capabilities: Capabilities = cls(cls.Options(), clock=SystemClock(), http=None).capabilities
    except Exception:  # noqa: BLE001 -- what it needs differs from provider to provider
        return None
    return capabilities


def _required(options: type) -> tuple[str, ...]:
    if not is_dataclass(options):
        return ()
    return tuple(
        field.name
        for field in fields(options)
        if field.default is MISSING and field.default_factory is MISSING
    )


def _told(reading: Reading) -> dict[str, object]:
    return {
        "start": _text(reading.start),
        "end": _text(reading.end),
        "grams_per_kwh": round(reading.grams_per_kwh, 3),
        "quality": str(reading.quality),
        "provider": reading.provider,
        "fetched_at": _text(reading.fetched_at),
    }


def _kind(capabilities: Capabilities) -> dict[str, object]:
    return {
        "signal": str(capabilities.signal),
        "basis": str(capabilities.basis),
        "accounting": str(capabilities.accounting),
        "licence": capabilities.licence,
        "attribution": capabilities.attribution,
    }


def _mask(text: str, provider: Provider) -> str:
    """Take out every secret of the provider's options: a stranger's messages may tell one."""
    options = getattr(provider, "options", None)
    for name in secrets.secret_fields(type(options)) if options is not None else ():
        secret = getattr(options, name)
        if secret is not None and secret.get_secret_value():
            text = text.replace(secret.get_secret_value(), "***")
    return text


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:g} min"


def _text(when: datetime) -> str:
    return f"{when:%Y-%m-%dT%H:%M:%SZ}"
