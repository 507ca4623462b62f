"""Filling in a zone's past, a piece at a time, as far back as forecasts need it.

The present comes first: a service that gives a year in fifty pages must not keep the daemon from its first reading.
"""

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

from carbon_nas.clock import monotonic

PIECE = timedelta(days=30)
PATIENCE_SECONDS = 20.0  # of real time, at each call; a piece that was begun is waited for
AGAIN_AFTER = timedelta(days=1)  # where a provider could not tell

Fetch = Callable[[datetime, datetime], Awaitable[bool]]
"""Asks for `[start, end)`, and says whether anybody answered."""


class Backfill:
    """How far back the past is filled."""

    def __init__(self, fetch: Fetch) -> None:
        self._fetch = fetch
        self._reached: datetime | None = None
        self._again_at: datetime | None = None

    async def go_on(self, now: datetime, known_from: datetime, goal: datetime) -> None:
        """Fetch what lies between `goal` and `known_from`, the newest first, until it is there or takes too long."""
        self._reached = min(known_from, self._reached or known_from)
        if self._again_at is not None and now < self._again_at:
            return
        began = monotonic()
        while self._reached > goal and monotonic() - began < PATIENCE_SECONDS:
            start = max(goal, self._reached - PIECE)
            if not await self._fetch(start, self._reached):
                self._again_at = now + AGAIN_AFTER
                return
            self._reached = start
