"""Keys and tokens: from the environment or the service manager's credentials, never from the configuration file.

A plug-in's option of type `SecretStr` named `token` of the provider `electricity-maps` is read from the variable
`CARBON_NAS_ELECTRICITY_MAPS_TOKEN`, or else from the file `electricity-maps-token` in `$CREDENTIALS_DIRECTORY`
(systemd's `LoadCredential=electricity-maps-token:/etc/carbon-nas/credentials/electricity-maps-token`).
"""

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_type_hints

from pydantic import SecretStr

from carbon_nas.errors import ConfigurationError


def fill(
    cls: type,
    name: str,
    options: Mapping[str, object],
    *,
    key: str,
    environment: Mapping[str, str] = os.environ,
) -> dict[str, Any]:
    """Add to `options` the secrets that the options class `cls` of the plug-in `name` asks for, where they are set.

    Raises:
        ConfigurationError: a secret stands in the configuration, or its file cannot be read or holds no key.
    """
    filled: dict[str, Any] = dict(options)
    for field in secret_fields(cls):
        if field in options:
            raise ConfigurationError(
                f"a secret does not belong into this file; set {variable(name, field)}, or the credential "
                f"{name}-{field}",
                key=f"{key}.{name}.{field}",
            )
        found = environment.get(variable(name, field), "").strip() or _credential(
            f"{name}-{field}", environment
        )
        if found:
            filled[field] = SecretStr(found)
    return filled


def secret_fields(cls: type) -> list[str]:
    """Name the options that are secrets."""
    hints = get_type_hints(cls)
    names = (
        [field.name for field in dataclasses.fields(cls)] if dataclasses.is_dataclass(cls) else list(hints)
    )
    return [name for name in names if "SecretStr" in str(hints.get(name))]


def variable(name: str, field: str) -> str:
    """Give the environment variable of a secret."""
    return f"CARBON_NAS_{name}_{field}".upper().replace("-", "_")


def _credential(name: str, environment: Mapping[str, str]) -> str:
    directory = environment.get("CREDENTIALS_DIRECTORY")
    path = None if directory is None else Path(directory) / name
    if path is None or not path.exists():
        return ""
    try:
        key = path.read_bytes().decode("utf-8").strip()
    except OSError as error:
        raise ConfigurationError(f"cannot be read: {error.strerror}", file=path) from error
    except UnicodeDecodeError:  # its text would tell the bytes
        raise ConfigurationError("is no text; put the key alone into it", file=path) from None
    if key and not key.isprintable():
        raise ConfigurationError(
            "holds more than one line or unprintable characters; put the key alone into it", file=path
        )
    return key
