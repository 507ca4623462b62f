"""The example configuration: runs as it stands, and tells of every key there is, with its true default."""

import dataclasses
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, TypeAdapter

from carbon_nas import config as configuration
from carbon_nas import plugins, secrets
from carbon_nas.config import PLUGIN_SECTIONS, Config
from carbon_nas.grid.service import ServiceOptions

EXAMPLE = Path(__file__).parents[1] / "systemd" / "carbon-nas.example.toml"
TEXT = EXAMPLE.read_text(encoding="utf-8")
COMMENTED_OUT = re.compile(r"^#(?=\w+ = |\[)", re.MULTILINE)
"""A key that shows its default, or a section with keys that must be given; prose begins with `# `."""

PARTS = [(section, group) for section, group in PLUGIN_SECTIONS.items()] + [("grid", "providers")]


def fields(model: Any) -> Iterator[tuple[str, Any]]:
    """Give (name, default) of a section; a default that is a section itself stands for that section."""
    if issubclass(model, BaseModel):
        yield from (
            (name, field.get_default(call_default_factory=True)) for name, field in model.model_fields.items()
        )
        return
    for field in dataclasses.fields(model):
        made = field.default_factory
        yield field.name, field.default if made is dataclasses.MISSING else made()


def keys(model: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Give (dotted key, default) of every key of a section and of those within it."""
    for name, default in fields(model):
        key = f"{path}.{name}".removeprefix(".")
        if isinstance(default, BaseModel) or dataclasses.is_dataclass(default):
            yield from keys(type(default), key)
        else:
            yield key, default


def builtin(group: str) -> Iterator[tuple[str, Any]]:
    for name, point in plugins.registered(group).items():
        if point.dist is not None and point.dist.name == "carbon-nas":
            yield name, plugins.load(group, name, key=group).Options


def every_key() -> dict[str, Any]:
    """Give every key but secrets, which stand in no file; those that must be given have the default MISSING."""
    found = dict(keys(Config, ""))
    for section, group in PARTS:
        for name, options in builtin(group):
            found |= {
                f"{section}.{name}.{key}": default
                for key, default in keys(options, "")
                if key not in secrets.secret_fields(options)
            }
    return found


def repeated() -> set[str]:
    """Name the keys that every service has: explained once, under [grid.neso]."""
    return {
        f"grid.{name}.{key}"
        for name, options in PROVIDERS.items()
        if name != "neso" and issubclass(options, ServiceOptions)
        for key in COMMON
    }


def flat(table: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in table.items():
        key = f"{path}.{name}".removeprefix(".")
        if isinstance(value, Mapping) and key not in DEFAULTS:
            yield from flat(value, key)
        else:
            yield key, value


def comments() -> dict[str, str]:
    """Give what is said of each key: the prose lines right above it."""
    found, section, prose = {}, "", ""
    for line in TEXT.splitlines():
        if line.startswith(("[", "#[")):
            section, prose = line.strip("#[]"), ""
        elif line.startswith("# "):
            prose = f"{prose} {line[2:]}".strip()
        elif " = " in line:
            name = line.lstrip("#").partition(" = ")[0]
            found[f"{section}.{name}".removeprefix(".")] = prose
            prose = ""
        else:
            prose = ""
    return found


PROVIDERS = dict(builtin("providers"))
COMMON = dict(keys(ServiceOptions, ""))
DEFAULTS = every_key()
REQUIRED = {key for key, default in DEFAULTS.items() if default is dataclasses.MISSING}
SAID = comments()
ACTIVE = dict(flat(tomllib.loads(TEXT)))
SHOWN = dict(flat(tomllib.loads(COMMENTED_OUT.sub("", TEXT))))


def as_toml(value: object) -> object:
    """Give a default as TOML would hold it."""
    return TypeAdapter(Any).dump_python(value, mode="json") if value is not None else None


def test_the_example_shows_every_key_and_no_other() -> None:
    assert set(SHOWN) <= set(DEFAULTS)
    assert set(DEFAULTS) - set(SHOWN) == repeated() - REQUIRED


def test_what_every_service_has_is_explained_with_the_defaults_that_most_have() -> None:
    explained = {key: SHOWN[f"grid.neso.{key}"] for key in COMMON if key != "base_url"}
    assert explained == {key: default for key, default in COMMON.items() if key != "base_url"}


@pytest.mark.parametrize("key", sorted(SHOWN))
def test_a_key_is_explained_and_its_default_is_true(key: str) -> None:
    said, default = SAID[key], DEFAULTS[key]
    assert len(said.split()) >= 4, f"{key} deserves a sentence"
    assert ("Must be given" in said) == (key in REQUIRED)
    stated = re.search(r"Default: (.+?)[.,;]( |$)", said)
    if key in REQUIRED:
        assert stated is None
    elif stated is not None and stated[1] == "none":
        assert default is None
    elif stated is not None:
        assert tomllib.loads(f"value = {stated[1]}")["value"] == as_toml(default)
    else:
        assert SHOWN[key] == as_toml(default), f"{key} is not shown with its default, and none is stated"


@pytest.mark.parametrize("name", PROVIDERS)
def test_a_provider_is_named_and_so_is_where_its_secrets_come_from(name: str) -> None:
    assert re.search(rf"\[grid\.{name}\]|`{name}`", TEXT)
    for field in secrets.secret_fields(PROVIDERS[name]):
        assert f"grid.{name}.{field}" not in SHOWN
        assert re.search(rf"\b{secrets.variable(name, field)}\b", TEXT)
        assert re.search(rf"\b{name}-{field}\b", TEXT), "the credential"


def test_the_example_runs_as_it_stands() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "carbon_nas", "check-config", str(EXAMPLE)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "csv" in ACTIVE["grid.providers"], "nothing may be asked of the network"
    assert ACTIVE["executor.local.gpus"] == "none"


def test_every_value_shown_is_a_good_one() -> None:
    shown = tomllib.loads(COMMENTED_OUT.sub("", TEXT))
    del shown["grid"]["csv"]["path"]  # or trace
    del shown["grid"]["csv"]["basis"], shown["grid"]["csv"]["column"], shown["grid"]["csv"]["forecast_column"]
    configuration.check(shown)
    own = {
        "path": "/srv/grid/2024.csv",
        "column": "ci_direct",
        "forecast_column": "forecast",
        "basis": "direct",
    }
    assert own == {name: SHOWN[f"grid.csv.{name}"] for name in own}
    configuration.check({**shown, "grid": {**shown["grid"], "csv": own}})
