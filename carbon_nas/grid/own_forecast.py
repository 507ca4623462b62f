"""A forecast of our own, for zones whose providers give none: from the readings the feed has kept.

It is made in a process of its own that ends with it: fitting a year of hours takes a second and, for that second,
more memory than the daemon should ever hold.
"""

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from datetime import datetime
from multiprocessing import get_context

import structlog

from carbon_nas.errors import NoData
from carbon_nas.grid.forecast import HORIZON_HOURS, Choice, Selector, readings_from, series_from
from carbon_nas.model import Reading


@dataclass(frozen=True, slots=True)
class Made:
    """A forecast, who made it and why it is believed, and the CPU time it took."""

    points: tuple[Reading, ...]
    choice: Choice
    cpu_seconds: float


def make(known: Sequence[Reading], now: datetime, until: datetime) -> Made:
    """Forecast from the end of what is known up to `until`, at most 96 h; only what is not past at `now`.

    Raises:
        NoData: the history is too short for every forecaster.
    """
    began = time.process_time()
    series = series_from(known)
    selector = Selector()
    selector.fit(series)
    choice, prediction = selector.choose(series, HORIZON_HOURS)
    points = readings_from(prediction, choice.name, known[-1], now)
    ahead = tuple(point for point in points if point.end > now and point.start < until)
    return Made(ahead, choice, time.process_time() - began)


class OwnForecast:
    """Asks a child process for forecasts. `choice` says whom it believed last; `cpu_seconds` never falls."""

    def __init__(self) -> None:
        self.choice: Choice | None = None
        self.cpu_seconds = 0.0
        self._log = structlog.get_logger(__name__)

    async def ask(self, known: Sequence[Reading], now: datetime, until: datetime) -> tuple[Reading, ...]:
        """Give a forecast; nothing if the history is too short, or the child died."""
        pool = ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn"))
        try:
            made = await asyncio.get_running_loop().run_in_executor(pool, make, known, now, until)
        except (NoData, BrokenProcessPool) as error:
            self._log.info("no forecast of our own", why=str(error))
            return ()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
        self.cpu_seconds += made.cpu_seconds
        if self.choice is None or made.choice.name != self.choice.name:
            self._log.info("forecaster", chosen=made.choice.name, why=made.choice.reason)
        self.choice = made.choice
        return made.points
