"""A token bucket: how often one service is asked, whatever the rest of the program wants of it."""

from datetime import datetime, timedelta

from carbon_nas.interfaces import Clock


class TokenBucket:
    """Allows `per_minute` questions a minute on the clock, and up to `burst` of them at once."""

    def __init__(self, clock: Clock, *, per_minute: float, burst: int) -> None:
        self._clock = clock
        self._interval = timedelta(minutes=1) / per_minute
        self._burst = burst
        self._full_at: datetime | None = None  # when the bucket would be full again; None: it is

    def wait_seconds(self) -> float:
        """How long until the next question may be asked; 0: at once."""
        if self._full_at is None:
            return 0.0
        may_ask_at = self._full_at - (self._burst - 1) * self._interval
        return max(0.0, (may_ask_at - self._clock.now()).total_seconds())

    async def take(self) -> None:
        """Wait for a token and take it."""
        now = self._clock.now()
        wait = self.wait_seconds()
        self._full_at = max(self._full_at or now, now) + self._interval
        if wait > 0:
            await self._clock.sleep_until(now + timedelta(seconds=wait))
