"""Where time comes from: the only module that may ask the machine for it.

Everything else takes a `Clock`. So the same daemon runs by the wall clock, replays a recorded day faster, or
jumps through a year in a test.
"""

import asyncio
import time
from datetime import UTC, datetime, timedelta

from carbon_nas.model import require_utc


class SystemClock:
    """The wall clock. Kept from going back when the machine's clock is set: then time stands still."""

    speed = 1.0

    def __init__(self) -> None:
        self._latest = datetime.min.replace(tzinfo=UTC)

    def now(self) -> datetime:
        """Give the present time, UTC."""
        self._latest = max(self._latest, datetime.now(UTC))
        return self._latest

    async def sleep_until(self, when: datetime) -> None:
        """Wait; short steps, so that a suspended machine or a set clock is noticed within a minute."""
        while (left := (when - self.now()).total_seconds()) > 0:
            await asyncio.sleep(min(left, 60.0))


class ReplayClock:
    """Time that began at `start` when the wall clock showed `anchor`, and runs `speed` times as fast.

    `anchor` outlives a restart of the daemon (it is kept in the store), so replayed time goes on as real time
    would have: it never shows the same hour twice.
    """

    def __init__(self, start: datetime, speed: float, anchor: datetime) -> None:
        require_utc(start, "start")
        require_utc(anchor, "anchor")
        if not speed > 0:
            raise ValueError(f"speed must be above zero, got {speed}")
        self.speed = speed
        self._start = start
        self._anchor = anchor
        self._wall = SystemClock()

    def now(self) -> datetime:
        """Give the replayed time, UTC."""
        return self._start + (self._wall.now() - self._anchor) * self.speed

    async def sleep_until(self, when: datetime) -> None:
        """Wait until the replayed time has come."""
        await self._wall.sleep_until(self._anchor + (when - self._start) / self.speed)


class SimulatedClock:
    """Time that stands still until somebody sleeps, and then is there."""

    speed = float("inf")

    def __init__(self, start: datetime) -> None:
        require_utc(start, "start")
        self._now = start

    def now(self) -> datetime:
        """Give the simulated time, UTC."""
        return self._now

    def advance(self, step: timedelta) -> None:
        """Let time pass."""
        if step < timedelta(0):
            raise ValueError(f"time does not go back: {step}")
        self._now += step

    async def sleep_until(self, when: datetime) -> None:
        """Be there at once; other tasks get their turn first."""
        await asyncio.sleep(0)
        self._now = max(self._now, when)


async def real_sleep(seconds: float) -> None:
    """Wait in real time, for what is about this machine and not about the grid (processes, sockets)."""
    await asyncio.sleep(seconds)


def monotonic() -> float:
    """Seconds of real time since an arbitrary origin, for measuring durations."""
    return time.monotonic()
