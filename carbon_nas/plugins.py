"""Finding parts by name, through entry points: ours are registered exactly as a stranger's are.

A group's name is the import path of its concept: `carbon_nas.providers`, `.policies`, `.spaces`,
`.controllers`, `.executors`.
"""

import sys
from collections.abc import Mapping
from difflib import get_close_matches
from functools import lru_cache
from importlib.metadata import EntryPoint, EntryPoints, entry_points
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from carbon_nas import secrets
from carbon_nas.errors import ConfigurationError

GROUPS = ("providers", "policies", "spaces", "controllers", "executors")


def registered(group: str) -> dict[str, EntryPoint]:
    """Give every plug-in of a group by name.

    Raises:
        ConfigurationError: two distributions claim one name.
    """
    found: dict[str, EntryPoint] = {}
    for point in _installed(group, tuple((folder, _changed(folder)) for folder in sys.path)):
        other = found.setdefault(point.name, point)
        if other.value != point.value:
            raise ConfigurationError(
                f"{point.name!r} is claimed by {_owner(other)} and by {_owner(point)}; uninstall one of them",
                key=f"carbon_nas.{group}",
            )
    return dict(sorted(found.items()))


@lru_cache(maxsize=len(GROUPS))
def _installed(group: str, _: tuple[tuple[str, int], ...]) -> EntryPoints:
    """Give a group's entry points. A start asks a dozen times, and each time a file of every distribution is read."""
    return entry_points(group=f"carbon_nas.{group}")


def _changed(folder: str) -> int:
    """Say when something was last installed there or removed; 0 of what is no folder."""
    try:
        return Path(folder).stat().st_mtime_ns
    except OSError:
        return 0


def load(group: str, name: str, *, key: str) -> Any:
    """Give the class registered as `name`.

    Raises:
        ConfigurationError: no such name, two of them, or its module cannot be imported.
    """
    known = registered(group)
    if name not in known:
        raise ConfigurationError(
            f"none of the {group} is named {name!r}{suggestion(name, known)}; known: {', '.join(known)}",
            key=key,
        )
    try:
        return known[name].load()
    except (ImportError, AttributeError) as error:
        raise ConfigurationError(
            f"{name!r} of {_owner(known[name])} cannot be imported: {error}", key=key
        ) from error


def build(group: str, name: str, options: Mapping[str, object], *, key: str, **context: object) -> Any:
    """Make the part `name` from its section of the configuration, its secrets, and what its contract hands it.

    Raises:
        ConfigurationError: unknown name, unknown option, or an option of the wrong type or value.
    """
    cls = load(group, name, key=key)
    options = secrets.fill(cls.Options, name, options, key=key)
    return cls(check_options(cls.Options, options, key=f"{key}.{name}"), **context)


def check_options(cls: type, options: Mapping[str, object], *, key: str) -> Any:
    """Make an options object, refusing unknown keys and wrong types, each with the key that is meant."""
    adapter: TypeAdapter[Any] = TypeAdapter(cls)
    known = list(adapter.json_schema().get("properties", {}))
    for name in options:
        if name not in known:
            raise ConfigurationError(
                f"unknown key{suggestion(name, known)}; known: {', '.join(known) or 'none'}",
                key=f"{key}.{name}",
            )
    try:
        return adapter.validate_python(dict(options))
    except ValidationError as error:
        raise describe(error, key=key) from error


def describe(error: ValidationError, *, key: str) -> ConfigurationError:
    """Say in one line what pydantic found first: key, value, and what is wrong with it."""
    first = error.errors(include_url=False)[0]
    where = ".".join([key, *map(str, first["loc"])]) if key else ".".join(map(str, first["loc"]))
    value = "" if first["type"] == "missing" else f" (got {first['input']!r})"
    return ConfigurationError(f"{first['msg'].removeprefix('Value error, ')}{value}", key=where)


def suggestion(name: str, known: Mapping[str, object] | list[str]) -> str:
    """Give the nearest right name, as ` (did you mean 'x'?)`, or nothing."""
    near = get_close_matches(name, list(known), n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""


def _owner(point: EntryPoint) -> str:
    return point.dist.name if point.dist else point.value
