"""Making the parts that a configuration names. Nothing here starts anything; `daemon` does."""

import os
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pynvml

from carbon_nas import plugins
from carbon_nas.clock import ReplayClock, SystemClock
from carbon_nas.config import Config
from carbon_nas.energy.ledger import Bookkeeper
from carbon_nas.energy.meters import CpuModel, NvmlMeter
from carbon_nas.engine import Engine, EngineSettings
from carbon_nas.errors import ConfigurationError, ExecutorError
from carbon_nas.grid.feed import Feed
from carbon_nas.grid.http import GridClient
from carbon_nas.grid.missing import RunWhenUnknown
from carbon_nas.interfaces import Clock, Executor, Policy, Provider, SearchSpace
from carbon_nas.model import Slot
from carbon_nas.search.cost import LATENCY, Cost
from carbon_nas.search.hosts import AsyncController
from carbon_nas.search.hosts import make_controller as host_controller
from carbon_nas.searcher import Searcher, SearcherSettings
from carbon_nas.store.sql import SqlStore


async def validate(config: Config) -> None:
    """Check what a configuration alone cannot tell: that providers can serve the zone, and somewhere jobs can run.

    Writes nothing.

    Raises:
        ConfigurationError: a trace is missing or wrong, a provider does not know the zone, or there is no slot, or
            slots of several kinds where latency is measured.
    """
    clock = make_clock(config, SystemClock().now())
    async with GridClient() as http:
        for provider in make_providers(config, clock, http).values():
            try:
                await provider.start(config.grid.zone)
            except ConfigurationError as error:
                key = f"grid.{error.key}" if error.key == "zone" else error.key
                raise ConfigurationError(error.problem, file=error.file, key=key) from error
            _require_recorded(provider, clock.now())
    try:
        slots = make_executor(config, Path()).capacity()
    except ExecutorError as error:
        raise ConfigurationError(str(error), key=f"executor.{config.executor.name}") from error
    _require_alike(slots, config.score.cost)


def _require_alike(slots: Sequence[Slot], cost: Cost) -> None:
    """See that it does not matter where a latency is measured."""
    names = sorted({slot.name for slot in slots})
    if cost == LATENCY and len(names) > 1:
        raise ConfigurationError(
            f"latencies measured on {' and on '.join(names)} cannot be compared; let the executor have slots of one "
            "kind, or choose a cost that is counted",
            key="score.inference_cost",
        )


def _require_recorded(provider: Provider, now: datetime) -> None:
    """See that a provider of recorded data, which tells its `period`, has any for the clock's beginning."""
    period = getattr(provider, "period", None)
    if period is not None and not period[0] <= now < period[1]:
        raise ConfigurationError(
            f"the clock begins at {now:%Y-%m-%dT%H:%MZ}, but the trace lasts from {period[0]:%Y-%m-%dT%H:%MZ} to "
            f"{period[1]:%Y-%m-%dT%H:%MZ}; choose a time within it",
            key="clock.replay_from",
        )


def make_clock(config: Config, anchor: datetime) -> Clock:
    """Give the clock of a run whose replay, if it is one, began at the real time `anchor`."""
    section = config.clock
    if section.replay_from is None:
        return SystemClock()
    return ReplayClock(section.replay_from.astimezone(UTC), section.speed, anchor)


def make_providers(config: Config, clock: Clock, http: httpx.AsyncClient) -> dict[str, Provider]:
    """Give the zone's providers in the configured order."""
    return {
        name: plugins.build("providers", name, config.grid.options(name), key="grid", clock=clock, http=http)
        for name in config.grid.providers
    }


def make_policy(config: Config) -> Policy:
    """Give the policy."""
    chosen = config.policy
    policy: Policy = plugins.build("policies", chosen.name, chosen.options(chosen.name), key="policy")
    return RunWhenUnknown(policy) if config.grid.feed.on_missing == "run" else policy


def make_controller(config: Config) -> AsyncController:
    """Give the controller, in a child process if it needs torch."""
    chosen, space = config.controller, config.space
    return host_controller(
        chosen.name,
        chosen.options(chosen.name),
        space.name,
        space.options(space.name),
        config.seed,
        key="controller",
    )


def make_space(config: Config) -> SearchSpace:
    """Give the search space."""
    chosen = config.space
    space: SearchSpace = plugins.build("spaces", chosen.name, chosen.options(chosen.name), key="space")
    return space


def make_executor(config: Config, directory: Path) -> Executor:
    """Give the executor; `directory` takes its logs."""
    chosen = config.executor
    executor: Executor = plugins.build(
        "executors",
        chosen.name,
        chosen.options(chosen.name),
        key="executor",
        zone=config.grid.zone,
        directory=directory,
    )
    return executor


def searcher_settings(config: Config) -> SearcherSettings:
    """Give what the searcher reads of the configuration."""
    return SearcherSettings(
        zone=config.grid.zone,
        controller=config.controller.name,
        study=config.search,
        reward=config.reward,
        cost=config.score.cost,
        fidelity=config.fidelity,
        epochs=config.train.epochs,
        max_delay=timedelta(hours=config.jobs.max_delay_hours),
        retries=config.jobs.retries,
    )


def make_searcher(
    config: Config, *, clock: Clock, store: SqlStore, feed: Feed, controller: AsyncController
) -> Searcher:
    """Give the searcher."""
    return Searcher(
        searcher_settings(config),
        clock=clock,
        store=store,
        controller=controller,
        reference_grams_per_kwh=lambda: feed.reference_grams_per_kwh(clock.now()),
        encode=make_space(config).encode,
    )


def make_engine(
    config: Config,
    jobs_directory: Path,
    *,
    clock: Clock,
    store: SqlStore,
    feed: Feed,
    executor: Executor,
    searcher: Searcher,
    controller_cpu_seconds: Callable[[], float],
) -> Engine:
    """Give the engine with its ledger and meters."""
    uuids = [slot.gpu_uuid for slot in executor.capacity() if slot.gpu_uuid is not None]
    bookkeeper = Bookkeeper(
        store,
        feed.intensity_at,
        CpuModel(config.energy.watts_per_core),
        {uuid: NvmlMeter(uuid, pynvml) for uuid in uuids},
        pue=config.energy.pue,
        run_id=f"{os.getpid()}/{clock.now().isoformat()}",
    )
    settings = EngineSettings(
        seed=config.seed,
        jobs_directory=jobs_directory,
        space=config.space.name,
        space_options=config.space.options(config.space.name),
        task=config.task.model_dump(mode="json"),
        score=config.score.model_dump(mode="json"),
        train=config.train.model_dump(mode="json"),
    )
    return Engine(
        settings,
        clock=clock,
        feed=feed,
        policy=make_policy(config),
        executor=executor,
        store=store,
        bookkeeper=bookkeeper,
        controller_cpu_seconds=controller_cpu_seconds,
        progress=searcher.progress,
    )
