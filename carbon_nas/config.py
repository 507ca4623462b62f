"""The configuration: one TOML file, checked as a whole before anything starts.

Precedence: environment (`CARBON_NAS_GRID__ZONE=GB`) over the file over the defaults. Unknown keys are refused
with the nearest right name. Sections of plug-ins (`[grid.csv]`, `[policy.percentile]`) are checked against the
plug-in's own `Options`.
"""

import hashlib
import tomllib
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError

from carbon_nas import plugins, secrets
from carbon_nas.energy.settings import EnergySettings
from carbon_nas.errors import ConfigurationError
from carbon_nas.evaluate.settings import (
    DATA_SETS,
    ScoreSettings,
    TaskSettings,
    TrainSettings,
    require_cost,
    require_data,
)
from carbon_nas.grid.feed import FeedSettings
from carbon_nas.search.fidelity import FidelitySettings
from carbon_nas.search.sides import require_side
from carbon_nas.search.study import StudySettings
from carbon_nas.searcher import RewardOptions

Seconds = Annotated[float, Field(gt=0, le=1e9)]


class Section(BaseModel):
    """A section whose keys are all ours."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class PluginSection(BaseModel):
    """A section that names a plug-in and may hold a section of options for each one of its group."""

    model_config = ConfigDict(extra="allow", frozen=True)

    def options(self, name: str) -> Mapping[str, object]:
        """Give the options written for a plug-in; none if there is no such section."""
        found: Mapping[str, object] = (self.__pydantic_extra__ or {}).get(name, {})
        return found


class ClockSection(Section):
    """The wall clock, or a replay of recorded time from `replay_from` on, `speed` times as fast."""

    replay_from: datetime | None = None
    speed: Annotated[float, Field(gt=0, le=1e6)] = 1.0

    @field_validator("replay_from")
    @classmethod
    def _aware(cls, when: datetime | None) -> datetime | None:
        if when is not None and when.utcoffset() is None:
            raise ValueError("write the time with its zone, as 2023-01-10T00:00:00Z")
        return when

    @model_validator(mode="after")
    def _speed_needs_replay(self) -> Self:
        if self.speed != 1.0 and self.replay_from is None:
            raise ValueError("speed needs replay_from: the real present cannot be made faster")
        return self


class GridSection(PluginSection):
    """The zone, its providers in order of preference, and how far they are trusted."""

    zone: str = "GB"
    providers: tuple[str, ...] = ("neso",)
    feed: FeedSettings = FeedSettings()

    @field_validator("feed", mode="before")
    @classmethod
    def _known_keys(cls, feed: Any) -> Any:
        # Nested in a section with free keys, pydantic would let unknown ones pass.
        return (
            plugins.check_options(FeedSettings, feed, key="grid.feed") if isinstance(feed, Mapping) else feed
        )

    @field_validator("providers")
    @classmethod
    def _some(cls, providers: tuple[str, ...]) -> tuple[str, ...]:
        if not providers or len(set(providers)) != len(providers):
            raise ValueError("name at least one provider, and each once")
        return providers


class PolicySection(PluginSection):
    """Who decides when to train."""

    name: str = "percentile"


class SpaceSection(PluginSection):
    """Which architectures there are."""

    name: str = "nasbench201"


class ControllerSection(PluginSection):
    """Who proposes architectures."""

    name: str = "reinforce"


class ExecutorSection(PluginSection):
    """Where jobs run."""

    name: str = "local"


class JobsSection(Section):
    """How long a training may wait for clean hours, and how often a lost one is tried again."""

    max_delay_hours: Annotated[float, Field(gt=0, le=1e6)] = 72.0
    retries: Annotated[int, Field(ge=0)] = 2


class DaemonSection(Section):
    """The service itself. Seconds are real ones, whatever the clock's speed."""

    tick_seconds: Seconds = 2.0
    stop_seconds: Seconds = 120.0
    report_seconds: Annotated[float, Field(ge=0, le=1e9)] = 3600.0
    listen: str | None = "127.0.0.1:9464"

    @field_validator("listen")
    @classmethod
    def _loopback(cls, listen: str | None) -> str | None:
        if listen is None:
            return None
        host, _, port = listen.rpartition(":")
        if host not in {"127.0.0.1", "localhost", "[::1]"}:
            raise ValueError("only a loopback address, as 127.0.0.1:9464: the service has no access control")
        if not port.isdigit() or int(port) > 65535:
            raise ValueError("the port must be a number, as in 127.0.0.1:9464")
        return listen


class Config(BaseSettings):
    """All of it; see `systemd/carbon-nas.example.toml` for what each key means."""

    model_config = SettingsConfigDict(
        extra="forbid", frozen=True, env_prefix="CARBON_NAS_", env_nested_delimiter="__"
    )

    study: str = "study"
    seed: int = 0
    clock: ClockSection = ClockSection()
    grid: GridSection = GridSection()
    policy: PolicySection = PolicySection()
    space: SpaceSection = SpaceSection()
    controller: ControllerSection = ControllerSection()
    search: StudySettings = StudySettings()
    reward: RewardOptions = RewardOptions()
    task: TaskSettings = TaskSettings()
    score: ScoreSettings = ScoreSettings()
    train: TrainSettings = TrainSettings()
    fidelity: FidelitySettings = FidelitySettings()
    jobs: JobsSection = JobsSection()
    executor: ExecutorSection = ExecutorSection()
    energy: EnergySettings = EnergySettings()
    daemon: DaemonSection = DaemonSection()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Let the environment win over the file, which comes in by the constructor."""
        return env_settings, init_settings


PLUGIN_SECTIONS = {
    "policy": "policies",
    "space": "spaces",
    "controller": "controllers",
    "executor": "executors",
}


def load(path: Path) -> Config:
    """Read and check a configuration file.

    Raises:
        ConfigurationError: with file, key and value, and what to do about it.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"cannot be read: {error.strerror}", file=path) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"not valid TOML: {error}", file=path) from error
    try:
        return check(values)
    except ConfigurationError as error:
        raise ConfigurationError(error.problem, file=path, key=error.key) from error


def check(values: Mapping[str, Any]) -> Config:
    """Check a configuration as it would stand in a file.

    Raises:
        ConfigurationError: with key and value.
    """
    try:
        config = Config(**values)
    except ValidationError as error:
        raise _describe(error) from error
    except SettingsError as error:
        raise ConfigurationError(f"{error}: it must be JSON there", key="environment") from error
    for section, group in PLUGIN_SECTIONS.items():
        chosen = getattr(config, section)
        plugins.load(group, chosen.name, key=f"{section}.name")
        _check_options(section, group, chosen)
    for name in config.grid.providers:
        plugins.load("providers", name, key="grid.providers")
    _check_options("grid", "providers", config.grid)
    require_data(config.task)
    _check_space(config)
    first = config.fidelity.minimum_epochs
    if first is not None and first >= config.train.epochs:
        raise ConfigurationError(
            f"must be below train.epochs, {config.train.epochs}, to pause before the end (got {first})",
            key="fidelity.minimum_epochs",
        )
    return config


def digest(config: Config) -> str:
    """Give the SHA-256 of the configuration as it was understood, for reports."""
    return hashlib.sha256(config.model_dump_json().encode()).hexdigest()


def changed_sections(old: Config, new: Config) -> set[str]:
    """Name the sections that differ."""
    return {name for name in Config.model_fields if getattr(old, name) != getattr(new, name)}


def _check_space(config: Config) -> None:
    """Check the space in use, and that it goes with the data set."""
    name, dataset = config.space.name, config.task.dataset
    options = config.space.options(name)
    space = plugins.build("spaces", name, options, key="space")
    require_cost(config.score, config.task, space, options)
    side = DATA_SETS[dataset].side
    if side is not None:  # else the runners see to it, once the images are read
        require_side(space, side, images=f"those of {dataset}", key=f"space.{name}")


def _check_options(section: str, group: str, chosen: PluginSection) -> None:
    """Check every plug-in's section, in use or not: a key that nothing reads is a mistake."""
    known = plugins.registered(group)
    own = list(type(chosen).model_fields)
    for name, options in (chosen.__pydantic_extra__ or {}).items():
        key = f"{section}.{name}"
        if name not in known:
            near = plugins.suggestion(name, [*known, *own])
            raise ConfigurationError(f"unknown key{near}; known: {', '.join([*own, *known])}", key=key)
        if not isinstance(options, Mapping):
            raise ConfigurationError(f"must be a section of options, [{key}] (got {options!r})", key=key)
        cls = plugins.load(group, name, key=key).Options
        plugins.check_options(cls, secrets.fill(cls, name, options, key=section), key=key)


def _describe(error: ValidationError) -> ConfigurationError:
    """As `plugins.describe`, and with the nearest right name for an unknown key."""
    first = error.errors(include_url=False)[0]
    *path, name = [str(part) for part in first["loc"]] or [""]
    if first["type"] not in {"extra_forbidden", "unexpected_keyword_argument"}:
        return plugins.describe(error, key="")
    known = _keys(Config, path)
    return ConfigurationError(
        f"unknown key{plugins.suggestion(name, known)}; known: {', '.join(known)}",
        key=".".join([*path, name]),
    )


def _keys(model: Any, path: list[str]) -> list[str]:
    """Give the keys of the section at `path`."""
    fields: Mapping[str, Any] = getattr(model, "model_fields", None) or model.__dataclass_fields__
    if not path:
        return list(fields)
    inner = fields[path[0]]
    return _keys(getattr(inner, "annotation", None) or inner.type, path[1:])


__all__ = ["Config", "changed_sections", "check", "digest", "load"]
