"""Keys come from the environment or from credentials, never from the file, and show themselves nowhere."""

from dataclasses import dataclass
from pathlib import Path

import pytest
from pydantic import BaseModel, SecretStr

from carbon_nas import config, plugins, secrets
from carbon_nas.errors import ConfigurationError


@dataclass(frozen=True)
class Options:
    name: str = "x"
    token: SecretStr | None = None
    api_key: SecretStr | None = None


class Model(BaseModel):
    token: SecretStr
    count: int = 1


def test_secret_fields_are_found_in_dataclasses_and_models() -> None:
    assert secrets.secret_fields(Options) == ["token", "api_key"]
    assert secrets.secret_fields(Model) == ["token"]


def test_the_variable_is_named_for_plug_in_and_option() -> None:
    assert secrets.variable("electricity-maps", "token") == "CARBON_NAS_ELECTRICITY_MAPS_TOKEN"


def test_the_environment_goes_before_the_credentials(tmp_path: Path) -> None:
    (tmp_path / "x-token").write_text("from-file\n", encoding="utf-8")
    there = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    filled = secrets.fill(Options, "x", {}, key="grid", environment=there)
    assert filled["token"].get_secret_value() == "from-file"
    filled = secrets.fill(
        Options, "x", {}, key="grid", environment={**there, "CARBON_NAS_X_TOKEN": " from-env "}
    )
    assert filled["token"].get_secret_value() == "from-env"
    assert "api_key" not in filled


def test_nothing_is_added_where_nothing_is_set(tmp_path: Path) -> None:
    given = {"name": "y"}
    assert secrets.fill(Options, "x", given, key="grid", environment={}) == given
    empty = {"CREDENTIALS_DIRECTORY": str(tmp_path), "CARBON_NAS_X_TOKEN": ""}
    assert secrets.fill(Options, "x", given, key="grid", environment=empty) == given


@pytest.mark.parametrize("blank", ["", "\n", "  \n"])
def test_an_empty_credential_is_none(tmp_path: Path, blank: str) -> None:
    (tmp_path / "x-token").write_text(blank, encoding="utf-8")
    where = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    assert secrets.fill(Options, "x", {}, key="grid", environment=where) == {}


def test_a_secret_in_the_configuration_is_refused_without_being_told() -> None:
    with pytest.raises(ConfigurationError) as caught:
        secrets.fill(Options, "x", {"token": "s3cret"}, key="grid", environment={})
    assert "CARBON_NAS_X_TOKEN" in str(caught.value)
    assert caught.value.key == "grid.x.token"
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("content", [b"\xff\xfe\xfa", b"two\nlines", b"nul\x00"])
def test_a_credential_that_cannot_be_a_key_is_refused_without_being_told(
    tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "x-token").write_bytes(content)
    with pytest.raises(ConfigurationError) as caught:
        secrets.fill(Options, "x", {}, key="grid", environment={"CREDENTIALS_DIRECTORY": str(tmp_path)})
    assert caught.value.file == tmp_path / "x-token"
    assert "lines" not in caught.value.problem


def test_a_credential_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "x-token").mkdir()
    with pytest.raises(ConfigurationError, match="cannot be read"):
        secrets.fill(Options, "x", {}, key="grid", environment={"CREDENTIALS_DIRECTORY": str(tmp_path)})


def test_a_configuration_neither_holds_nor_shows_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CARBON_NAS_ELECTRICITY_MAPS_TOKEN", "s3cret")
    checked = config.check(
        {"grid": {"zone": "DE", "providers": ["electricity-maps"], "electricity-maps": {}}}
    )
    assert "s3cret" not in f"{checked!r} {checked.model_dump_json()}"
    provider = plugins.build("providers", "electricity-maps", {}, key="grid", clock=None, http=None)
    assert provider.options.token.get_secret_value() == "s3cret"
    assert "s3cret" not in f"{provider.options!r}"
    with pytest.raises(ConfigurationError, match="does not belong") as caught:
        config.check({"grid": {"zone": "DE", "providers": ["neso"], "electricity-maps": {"token": "s3cret"}}})
    assert "s3cret" not in str(caught.value)
