"""The service: starts the parts, lets APScheduler run its jobs, listens to the process's signals.

Recurring jobs: `poll` asks the providers, `tick` moves jobs, `search` refills the queue, `sample` books energy,
`report` writes the report in a process of its own (plots are heavy), `watchdog` tells the service manager that
the tick is alive.
"""

import asyncio
import faulthandler
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import UTC, timedelta
from functools import partial
from importlib.metadata import version
from pathlib import Path
from socket import socket

import httpx
import structlog
from apscheduler.events import EVENT_JOB_ERROR, JobExecutionEvent
from apscheduler.schedulers.asyncio import AsyncIOScheduler

from carbon_nas import assembly, record, state_directory
from carbon_nas import config as configuration
from carbon_nas.clock import SystemClock, monotonic
from carbon_nas.config import Config
from carbon_nas.energy.meters import own_cpu_seconds
from carbon_nas.engine import Engine
from carbon_nas.errors import ConfigurationError
from carbon_nas.execute.processes import run_measured
from carbon_nas.grid.ceiling import ceiling
from carbon_nas.grid.feed import Feed
from carbon_nas.grid.http import GridClient
from carbon_nas.interfaces import Clock, Executor
from carbon_nas.searcher import Searcher
from carbon_nas.serve.http import HttpService, application, bind
from carbon_nas.serve.metrics import Snapshot, registry_of
from carbon_nas.serve.notify import Notifier, watchdog_seconds
from carbon_nas.store.sql import SqlStore

RELOADABLE = frozenset({"policy", "search", "reward", "jobs"})
"""Sections that SIGHUP puts in force; the others need a restart, and the log says so."""


class Daemon:
    """The service: `run` until it is told to stop.

    `after_tick` is called after each tick, for a live view; it may call `stop`. `address` is where HTTP is
    served, once it is.
    """

    def __init__(
        self,
        config: Config,
        state_directory: Path,
        *,
        config_path: Path | None = None,
        notifier: Notifier | None = None,
        after_tick: Callable[["Daemon"], None] | None = None,
    ) -> None:
        self.config = config
        self.state_directory = state_directory.resolve()  # runners and later daemons may stand elsewhere
        self.clock: Clock
        self.feed: Feed
        self.store: SqlStore
        self.engine: Engine
        self.searcher: Searcher
        self.executor: Executor
        self.address: str | None = None
        self._config_path = config_path
        self._notifier = notifier or Notifier(None)
        self._after_tick = after_tick
        self._stopped = asyncio.Event()
        self._failure: BaseException | None = None
        self._reload_successful = True
        self._ticked_at = monotonic()
        self._reports_cpu_seconds = 0.0
        self._log = structlog.get_logger(__name__)

    def stop(self) -> None:
        """Let `run` suspend everything and return."""
        self._stopped.set()

    async def run(self) -> None:
        """Start, serve until `stop` or SIGTERM, then suspend every training and leave.

        Raises:
            ConfigurationError: before anything is written.
            StoreError: the state directory's store cannot be used.
        """
        await assembly.validate(self.config)
        async with AsyncExitStack() as stack:
            await self._start(stack)
            self._catch_signals()
            scheduler = self._schedule()
            scheduler.start()
            self._notifier.send(READY=1, STATUS="running")
            self._log.info(
                "running",
                zone=self.config.grid.zone,
                state=str(self.state_directory),
                address=self.address or "none",
            )
            await self._stopped.wait()
            within = self.config.daemon.stop_seconds
            self._notifier.send(STOPPING=1, STATUS="saving", EXTEND_TIMEOUT_USEC=int((within + 10) * 1e6))
            scheduler.shutdown(wait=False)
            await self.engine.stop(within)
            self.engine.restate()
            self._log.info("stopped", suspended=len(self.engine.running) == 0)
        if self._failure is not None:
            raise self._failure

    def snapshot(self) -> Snapshot:
        """Give the present state, for metrics and views."""
        own = self.feed.own_forecast.choice
        return Snapshot(
            version=version("carbon-nas"),
            grid=self.feed.view(self.clock.now()),
            decision=self.engine.decision,
            jobs=self.store.count_jobs(),
            totals=self.store.totals(),
            progress=self.searcher.progress(),
            slots=len(self.executor.capacity()),
            slots_busy=len(self.engine.running),
            last_tick=self.engine.last_tick,
            last_feed_success=self.feed.last_success,
            reload_successful=self._reload_successful,
            feed_outcomes=dict(self.feed.outcomes),
            forecaster=None if own is None else own.name,
            forecast_errors={} if own is None else own.recent_mape,
        )

    async def _start(self, stack: AsyncExitStack) -> None:
        """Make and start the parts; the controller before the clock, as it takes seconds of replayed time.

        First what another process may hold, so that nothing is written if it does.
        """
        config, directory = self.config, self.state_directory
        listener = self._bind(stack)
        stack.enter_context(state_directory.sole_user(directory))
        self.store = SqlStore(directory / state_directory.DATABASE)
        self.store.open()
        stack.callback(self.store.close)
        state_directory.require_same_study(self.store, config)
        self.executor = assembly.make_executor(config, directory / "runners")
        stack.push_async_callback(self.executor.close)
        controller = assembly.make_controller(config)
        stack.push_async_callback(controller.close)
        await controller.start(self.store.controller_state(config.controller.name))
        http = await stack.enter_async_context(GridClient(cache=directory / "cache"))
        self.clock = assembly.make_clock(config, state_directory.replay_anchor(self.store, config))
        await self._start_feed(http)
        self.searcher = assembly.make_searcher(
            config, clock=self.clock, store=self.store, feed=self.feed, controller=controller
        )
        self.searcher.start()
        self.engine = assembly.make_engine(
            config,
            directory / "jobs",
            clock=self.clock,
            store=self.store,
            feed=self.feed,
            executor=self.executor,
            searcher=self.searcher,
            controller_cpu_seconds=self._controller_cpu_seconds,
        )
        await self.engine.start()
        if listener is not None:
            service = HttpService(application(registry_of(self.snapshot), self._health), listener)
            service.start()
            stack.push_async_callback(service.stop)

    def _controller_cpu_seconds(self) -> float:
        """Give what this process, the controller's, the reports' and the forecasts' have used."""
        children = (
            self.searcher.cpu_seconds() + self._reports_cpu_seconds + self.feed.own_forecast.cpu_seconds
        )
        return own_cpu_seconds() + children

    async def _start_feed(self, http: httpx.AsyncClient) -> None:
        config = self.config
        providers = assembly.make_providers(config, self.clock, http)
        self.feed = Feed(self.clock, config.grid.zone, providers, config.grid.feed)
        since = self.clock.now() - timedelta(days=config.grid.feed.forecast_history_days)
        self.feed.preload(self.store.readings(config.grid.zone, since))
        await self.feed.start()
        self.store.add_readings(self.feed.new_readings())
        best = ceiling(self.feed.view(self.clock.now()).history)
        self._log.info("ceiling", zone=config.grid.zone, saving=str(best or "not enough history to tell"))
        record.keep(
            self.store,
            config,
            now=self.clock.now(),
            speed=self.clock.speed,
            slots=tuple(self.executor.capacity()),
            capabilities=next(iter(providers.values())).capabilities,
        )

    def _bind(self, stack: AsyncExitStack) -> socket | None:
        listen = self.config.daemon.listen
        if listen is None:
            return None
        try:
            listener = stack.enter_context(bind(listen))
        except OSError as error:
            raise ConfigurationError(
                f"{listen} cannot be bound: {os.strerror(error.errno or 0)}; choose another or stop its owner",
                file=self._config_path,
                key="daemon.listen",
            ) from error
        self.address = f"{listen.rpartition(':')[0]}:{listener.getsockname()[1]}"
        return listener

    def _schedule(self) -> AsyncIOScheduler:
        daemon = self.config.daemon
        scheduler = AsyncIOScheduler(
            timezone=UTC,
            # Late is better than never, and once is enough.
            job_defaults={"coalesce": True, "misfire_grace_time": None, "max_instances": 1},
        )
        scheduler.add_listener(self._fail, EVENT_JOB_ERROR)
        sample = max(daemon.tick_seconds, self.config.energy.sample_seconds / self.clock.speed)
        jobs: dict[str, tuple[Callable[[], Awaitable[None]], float]] = {
            "poll": (self._poll, daemon.tick_seconds),
            "tick": (self._tick, daemon.tick_seconds),
            "search": (self._search, daemon.tick_seconds),
            "sample": (self.engine.sample, sample),
        }
        if (limit := watchdog_seconds()) is not None:
            jobs["watchdog"] = (partial(self._feed_watchdog, limit), limit / 3)
        now = SystemClock().now()  # at once, and then at their intervals: a short run must not wait to begin
        for name, (job, seconds) in jobs.items():
            scheduler.add_job(
                self._unless_stopped(job), "interval", id=name, seconds=seconds, next_run_time=now
            )
        if daemon.report_seconds:  # not at once: there is nothing to report yet
            report = self._unless_stopped(self._report)
            scheduler.add_job(report, "interval", id="report", seconds=daemon.report_seconds)
        return scheduler

    def _unless_stopped(self, job: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
        """Give `job` so that it fails no one when the scheduler's shutdown cuts it off in waiting for an answer."""

        async def run() -> None:
            try:
                await job()
            except asyncio.CancelledError:
                if not self._stopped.is_set():
                    raise

        return run

    async def _poll(self) -> None:
        await self.feed.refresh()
        if readings := self.feed.new_readings():
            self.store.add_readings(readings)
            self.engine.restate()
        own = self.feed.own_forecast.choice
        record.keep_grid(
            self.store,
            state=self.feed.view(self.clock.now()).state,
            at=self.clock.now(),
            forecaster=None if own is None else own.reason,
            problem=self.feed.last_error,
        )

    async def _tick(self) -> None:
        await self.engine.tick()
        self._ticked_at = monotonic()
        if self._after_tick is not None:
            self._after_tick(self)

    async def _search(self) -> None:
        await self.searcher.step(len(self.executor.capacity()))

    async def _report(self) -> None:
        """Write the report, and charge its energy to the controller."""
        command = [sys.executable, "-m", "carbon_nas", "report", "--state-dir", str(self.state_directory)]
        done = await asyncio.to_thread(run_measured, command)
        self._reports_cpu_seconds += done.cpu_seconds
        if done.status:
            self._log.warning("no report", problem=done.complaint[-500:])

    async def _feed_watchdog(self, limit_seconds: float) -> None:
        """Answer the service manager only while ticks happen: a wedged daemon must be restarted."""
        if monotonic() - self._ticked_at < limit_seconds:
            self._notifier.send(WATCHDOG=1)

    def _fail(self, event: JobExecutionEvent) -> None:
        """Stop: what our own code did not expect must not go on half alive. The service manager restarts us."""
        self._log.error("a job of the daemon failed", job=event.job_id, error=event.traceback)
        self._failure = self._failure or event.exception
        self.stop()

    def _health(self) -> dict[str, object]:
        age = monotonic() - self._ticked_at
        limit = max(30.0, 10 * self.config.daemon.tick_seconds)
        grid = self.feed.view(self.clock.now())
        return {"ok": age < limit, "tick_age_seconds": round(age, 1), "grid": grid.state, "zone": grid.zone}

    def _catch_signals(self) -> None:
        faulthandler.enable()  # the watchdog's SIGABRT leaves a traceback
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        loop.add_signal_handler(signal.SIGHUP, self.reload)

    def reload(self) -> None:
        """Read the configuration again and put in force what may change while running.

        A file that is wrong changes nothing. The service manager hears RELOADING and READY in any case.
        """
        self._notifier.send(RELOADING=1, MONOTONIC_USEC=int(monotonic() * 1e6))
        try:
            self._put_in_force(configuration.load(self._config_path or Path("no configuration file")))
            self._reload_successful = True
        except ConfigurationError as error:
            self._reload_successful = False
            self._log.error("the old configuration stays in force", problem=str(error))
        status = "running" if self._reload_successful else "running; the last reload failed, see the log"
        self._notifier.send(READY=1, STATUS=status)

    def _put_in_force(self, new: Config) -> None:
        changed = configuration.changed_sections(self.config, new)
        kept = {name: getattr(self.config, name) for name in changed - RELOADABLE}
        config = new.model_copy(update=kept)
        self.engine.policy = assembly.make_policy(config)
        self.searcher.settings = assembly.searcher_settings(config)
        self.config = config
        self._log.info("reloaded", changed=sorted(changed & RELOADABLE), need_restart=sorted(kept))
