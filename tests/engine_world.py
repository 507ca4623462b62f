"""A daemon's inside without its shell: real engine, store, feed, ledger and policy on a simulated clock."""

import contextlib
import csv
import functools
import gzip
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from importlib.resources import files

from fakes import FakeExecutor

from carbon_nas import plugins
from carbon_nas.clock import SimulatedClock
from carbon_nas.energy.ledger import Bookkeeper
from carbon_nas.energy.meters import CpuModel
from carbon_nas.engine import Engine, EngineSettings
from carbon_nas.grid.feed import Feed, FeedSettings
from carbon_nas.model import JOULES_PER_KWH, EnergyMethod, EnergyReading, SearchProgress
from carbon_nas.store.sql import SqlStore
from carbon_nas_providers.csv import CsvOptions, CsvProvider

TRACE = "gb-2023-30min"
STEP = timedelta(minutes=30)
WATTS = 10.0
BOARD_WATTS = 100.0
CONTROLLER_CORES = 0.01


class SharedTrace(CsvProvider):
    """The shipped trace, read once for all tests."""

    _read_once = None

    async def start(self, zone):
        shared = type(self)._read_once
        if shared is None:
            await super().start(zone)
            type(self)._read_once = self._trace, self._column
        else:
            self._trace, self._column = shared


class Board:
    """The meter of a GPU that draws the same power all the time, whoever holds it."""

    def __init__(self, uuid, clock):
        self.device = f"gpu/{uuid}"
        self._clock = clock

    def read(self):
        return EnergyReading(BOARD_WATTS * self._clock.now().timestamp(), EnergyMethod.COUNTER)


class World:
    """One machine and its state directory, over all the daemons that work on it."""

    def __init__(self, path, start, policy="percentile", **executor):
        self.path = path
        self.clock = SimulatedClock(start)
        self.true_time = self.clock  # what the boards' counters go by
        self.executor = FakeExecutor(self.clock, **executor)
        name, options = (policy, {}) if isinstance(policy, str) else policy
        self.policy = plugins.build("policies", name, options, key="policy")
        self.provider = SharedTrace(CsvOptions(trace=TRACE), clock=self.clock)
        self.controller_joules = 0.0
        self.progress: Callable[[], SearchProgress] = SearchProgress

    @contextlib.asynccontextmanager
    async def daemon(self):
        """One life of the daemon. It ends without a word, unless `engine.stop` is called before."""
        self.store = SqlStore(self.path)
        with contextlib.closing(self.store):
            self.store.open()
            self.feed = Feed(self.clock, "GB", {"csv": self.provider}, FeedSettings(poll_seconds=60))
            self.feed.preload(self.store.readings("GB"))
            await self.feed.start()
            self.born = self.clock.now()
            self.engine = self._make_engine()
            await self.engine.start()
            yield self
        self.executor.restart()

    async def step(self, step, *, samples=True):
        """Let time pass, then do what the daemon does at every tick; energy may be sampled as often."""
        self.clock.advance(step)
        await self.feed.refresh()
        self.store.add_readings(self.feed.new_readings())
        self.engine.restate()
        if samples:
            await self.engine.sample()
        await self.engine.tick()

    async def run(self, until, *, step=timedelta(minutes=10), watch=lambda world: None):
        while self.clock.now() < until:
            await self.step(step)
            watch(self)

    def controller_cpu_seconds(self):
        return (self.clock.now() - self.born).total_seconds() * CONTROLLER_CORES

    def _make_engine(self):
        meters = {slot.gpu_uuid: Board(slot.gpu_uuid, self.true_time) for slot in self.executor.capacity()}
        settings = EngineSettings(1, self.path.parent / "jobs", "nasbench201", train={"epochs": 4})
        bookkeeper = Bookkeeper(
            self.store, self.feed.intensity_at, CpuModel(WATTS), meters, pue=1.0, run_id=self.born.isoformat()
        )
        return Engine(
            settings,
            clock=self.clock,
            feed=self.feed,
            policy=self.policy,
            executor=self.executor,
            store=self.store,
            bookkeeper=bookkeeper,
            controller_cpu_seconds=self.controller_cpu_seconds,
            progress=self.progress,
        )


@functools.cache
def trace() -> dict[datetime, float]:
    """The shipped trace, read without any code of ours."""
    with gzip.open(str(files("carbon_nas") / "data" / f"{TRACE}.csv.gz"), "rt") as file:
        return {
            datetime.fromisoformat(row["time_utc"]).astimezone(UTC): float(row["ci_direct"])
            for row in csv.DictReader(file)
        }


def grams_between(start: datetime, end: datetime, watts: float = WATTS) -> float:
    """The emissions of constant power over `[start, end)`, summed over the trace's half-hours."""
    at = start.replace(minute=start.minute // 30 * 30, second=0, microsecond=0)
    grams = 0.0
    while at < end:
        seconds = (min(at + STEP, end) - max(at, start)).total_seconds()
        grams += watts * seconds / JOULES_PER_KWH * trace()[at]
        at += STEP
    return grams
