"""The feed: everything the daemon knows of one zone's grid, kept fresh, and honest where it is not known."""

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

from carbon_nas.errors import BadData, NoData
from carbon_nas.grid.backfill import Backfill
from carbon_nas.grid.own_forecast import OwnForecast
from carbon_nas.grid.plausibility import implausible
from carbon_nas.grid.sources import KNOWN_QUALITIES, Sources
from carbon_nas.grid.timeline import Timeline, hours, mean_grams_per_kwh, quantile_grams_per_kwh
from carbon_nas.interfaces import Clock, Provider
from carbon_nas.model import MAX_PLAUSIBLE_GRAMS_PER_KWH, GridState, GridView, Quality, Reading

COAL_GRAMS_PER_KWH = 820.0
"""Median life-cycle emissions of pulverised coal: IPCC AR5 WG III (2014), Annex III, table A.III.2."""

FALLBACK_SHARE = 0.95
FALLBACK_NEEDS_HOURS = 24.0  # of history: a single clean reading must not stand for a gap

FORECAST_EVERY = timedelta(minutes=30)
OWN_FORECAST_EVERY = timedelta(hours=1)  # it knows whole hours
REVISIONS_EVERY = timedelta(hours=6)
REVISIONS_REACH = timedelta(hours=48)  # NESO restates its values for a day and more

LARGEST = {"seconds": 1e8, "hours": 1e5, "days": 4e3, "kwh": MAX_PLAUSIBLE_GRAMS_PER_KWH}
"""By the unit in a setting's name: some years, so that times stay within the calendar; and what no grid exceeds."""


@dataclass(frozen=True)
class FeedSettings:
    """How often to ask, how long to believe, and what to do when nothing is known.

    `on_missing`: "treat_as_high" takes an unknown hour for a dirty one; "use_static" believes
    `static_grams_per_kwh`; "run" lets the work go on. Where no provider forecasts, readings of
    `forecast_history_days` are kept and a forecast is made from them. In the ledger an unknown hour counts
    `static_grams_per_kwh` if that is used, else the 95th percentile of what is known of the zone, or with less
    than a day of it `fallback_grams_per_kwh` (by default coal's).

    Raises:
        ValueError: a number is not above zero, or too large for any use, or "use_static" lacks its value.
    """

    poll_seconds: float = 300.0
    max_stale_seconds: float = 3 * 3600.0
    history_days: float = 7.0
    forecast_hours: float = 48.0
    forecast_history_days: float = 365.0
    fallback_grams_per_kwh: float | None = None  # None: coal's, `COAL_GRAMS_PER_KWH`
    on_missing: Literal["treat_as_high", "use_static", "run"] = "treat_as_high"
    static_grams_per_kwh: float | None = None

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            most = LARGEST.get(name.rpartition("_")[2])
            if most is not None and value is not None and not 0 < value <= most:
                raise ValueError(f"{name} must be above zero and at most {most:g}, got {value}")
        if self.on_missing == "use_static" and self.static_grams_per_kwh is None:
            raise ValueError('on_missing = "use_static" needs static_grams_per_kwh')

    @property
    def max_stale(self) -> timedelta:
        """How long the last reading may be carried forward."""
        return timedelta(seconds=self.max_stale_seconds)

    @property
    def history(self) -> timedelta:
        """How far back policies look."""
        return timedelta(days=self.history_days)

    @property
    def horizon(self) -> timedelta:
        """How far ahead providers are asked."""
        return timedelta(hours=self.forecast_hours)


class Feed:
    """One zone's readings and forecast, from the first provider in `providers` that answers.

    Call `preload` with what the store remembers, then `start`, then `refresh` as often as you like.
    """

    def __init__(
        self, clock: Clock, zone: str, providers: Mapping[str, Provider], settings: FeedSettings
    ) -> None:
        self.zone = zone
        self.settings = settings
        self._clock = clock
        self._sources = Sources(clock, zone, providers, poll_seconds=settings.poll_seconds)
        self._known = Timeline()
        self._expected = Timeline()  # forecasts; past ones stay, to stand in for readings that never came
        self.own_forecast = OwnForecast()
        self._backfill = Backfill(self._ask_history)
        self._news: list[Reading] = []
        self._lock = asyncio.Lock()
        self._poll_at: datetime | None = None
        self._forecast_at: datetime | None = None
        self._settled_until: datetime | None = None  # up to here, history needs no second look for now
        self._revise_at: datetime | None = None

    @property
    def memory(self) -> timedelta:
        """How far back readings are of use: as far as policies look, or further if forecasts are made from them."""
        own = timedelta(days=0 if self._sources.can_forecast else self.settings.forecast_history_days)
        return max(self.settings.history, own)

    @property
    def last_success(self) -> datetime | None:
        """When a provider last answered. None: never."""
        return self._sources.last_success

    @property
    def last_error(self) -> str | None:
        """When a provider failed last, and how, in words. None: never."""
        return self._sources.last_error

    @property
    def outcomes(self) -> Counter[tuple[str, str]]:
        """How often each (provider, outcome) was seen."""
        return self._sources.outcomes

    def preload(self, readings: Iterable[Reading]) -> None:
        """Take up readings that the store kept, before `start`; they do not count as new."""
        for reading in sorted(readings, key=lambda reading: reading.fetched_at):
            self._known.put(reading)

    async def start(self) -> None:
        """Start the providers and load history and forecast. A provider that does not answer stops nothing.

        Raises:
            ConfigurationError: a provider cannot serve the zone, or two of them count different emissions.
        """
        await self._sources.start()
        self._known.keep(
            lambda reading: (
                reading.zone == self.zone
                and (reading.signal, reading.basis) == self._sources.kind
                and reading.quality in KNOWN_QUALITIES
            )
        )
        await self.refresh()

    async def refresh(self) -> None:
        """Poll, if the poll interval has passed or the present reading has ended. Never fails."""
        async with self._lock:
            now = self._clock.now()
            if self._poll_at is not None and now < self._poll_at:
                return
            await self._ask_past(now)
            await self._sources.ask(self._ask_latest)
            await self._fill_past(now)
            await self._ask_forecast(now)
            for timeline in (self._known, self._expected):
                timeline.forget_before(now - self.memory - self.settings.max_stale)
            self._poll_at = self._next_poll(now)

    def new_readings(self) -> Sequence[Reading]:
        """Hand out what is new or revised since the last call, for the store."""
        news, self._news = self._news, []
        return news

    def view(self, now: datetime) -> GridView:
        """Show what is known at `now`: nothing but the past, the present, and forecasts of what comes."""
        present = self.intensity_at(now)
        state = self._state(now, present)
        unknown = present.quality is Quality.FALLBACK and self.settings.on_missing != "use_static"
        return GridView(
            zone=self.zone,
            now=now,
            state=state,
            current=None if unknown else present,
            history=self._history(now),
            forecast=tuple(
                point
                for point in self._expected.between(now, now + self.settings.horizon)
                if point.start > now
            ),
        )

    def intensity_at(self, when: datetime) -> Reading:
        """Give the best known intensity at `when`; it holds for the whole interval of the reading given.

        The order: the reading; the forecast; the reading before, carried forward (quality STALE); the 95th
        percentile of the known history or, with less than a day of it, the constant of the settings (FALLBACK).
        Intervals given for neighbouring times never overlap, so energy can be split at their bounds.
        """
        known = self._known.at(when)
        if known is not None:
            return known
        before = self._known.last_begun(when)
        start, end = _bounds(self._known, when)
        expected = self._expected.at(when)
        if expected is not None:
            return replace(expected, start=max(start, expected.start), end=min(end, expected.end))
        gap_start, gap_end = _bounds(self._expected, when)
        start, end = max(start, gap_start), min(end, gap_end)
        if before is None:
            return self._fallback(start, end)
        carried_until = before.end + self.settings.max_stale
        if when < carried_until:
            return replace(before, start=start, end=min(end, carried_until), quality=Quality.STALE)
        return self._fallback(max(start, carried_until), end)

    def reference_grams_per_kwh(self, now: datetime) -> float:
        """Mean of the known history up to `now`; the fallback's value if there is none. Never zero."""
        return mean_grams_per_kwh(self._history(now)) or self._fallback_grams_per_kwh()

    def _state(self, now: datetime, present: Reading) -> GridState:
        if present.quality is Quality.FALLBACK:
            return GridState.DEGRADED if len(self._known) else GridState.FAILED
        last = self._known.last_begun(now)
        usual = last is not None and now < last.end + self._sources.patience
        return GridState.FRESH if usual else GridState.STALE

    async def _ask_past(self, now: datetime) -> None:
        revise = self._revise_at is None or now >= self._revise_at
        oldest = now - self.settings.history
        since = max(self._settled_until or oldest, oldest)
        if revise:
            since = min(since, now - min(REVISIONS_REACH, self.settings.history))
        elif since + self._sources.step > now:  # no whole interval can be missing
            return
        if await self._ask_history(since, now):
            settled = [reading.end for reading in self._known if reading.quality is not Quality.FORECAST]
            self._settled_until = settled[-1] if settled else None
            self._revise_at = now + REVISIONS_EVERY if revise else self._revise_at

    async def _ask_history(self, start: datetime, end: datetime) -> bool:
        async def question(provider: Provider) -> bool:
            self._learn(await provider.history(self.zone, start, end), self._clock.now())
            return True

        return bool(await self._sources.ask(question, can=lambda capabilities: capabilities.history))

    async def _fill_past(self, now: datetime) -> None:
        """Fetch what only forecasts of our own need, from where the known past begins."""
        first = next(iter(self._known), None)
        if first is not None:
            known_from = min(first.start, now - self.settings.history)
            await self._backfill.go_on(now, known_from, now - self.memory)

    async def _ask_latest(self, provider: Provider) -> None:
        latest = await provider.latest(self.zone)
        now = self._clock.now()
        self._learn([latest], now)
        if latest.end + self.settings.max_stale <= now:
            raise NoData(f"the newest reading ended at {latest.end:%Y-%m-%dT%H:%MZ}, too long ago to be used")

    async def _ask_forecast(self, now: datetime) -> None:
        if self._forecast_at is not None and now < self._forecast_at:
            return
        until = now + self.settings.horizon
        if not self._sources.can_forecast:
            for point in await self.own_forecast.ask(tuple(self._known), now, until):
                self._expected.put(point)
            self._forecast_at = now + OWN_FORECAST_EVERY
            return

        async def question(provider: Provider) -> bool:
            for point in self._sources.credible(await provider.forecast(self.zone, until)):
                self._expected.put(replace(point, quality=Quality.FORECAST))
            return True

        if await self._sources.ask(question, can=lambda capabilities: capabilities.forecast):
            self._forecast_at = now + FORECAST_EVERY

    def _learn(self, readings: Sequence[Reading], now: datetime) -> None:
        for reading in self._sources.credible(readings):
            if reading.start > now:
                raise BadData(f"{reading.provider} sent a reading of the future, {reading.start}")
        history = self._history(now)
        for reading in readings:
            if implausible(reading, history):
                self._sources.refuse(reading)
            else:
                self._news += self._known.put(reading)

    def _next_poll(self, now: datetime) -> datetime:
        regular = now + timedelta(seconds=self.settings.poll_seconds)
        present = self._known.at(now)
        return min(regular, present.end) if present else regular

    def _history(self, now: datetime) -> tuple[Reading, ...]:
        return self._known.between(now - self.settings.history, now)

    def _fallback(self, start: datetime, end: datetime) -> Reading:
        signal, basis = self._sources.kind
        return Reading(
            zone=self.zone,
            start=start,
            end=end,
            grams_per_kwh=self._fallback_grams_per_kwh(),
            quality=Quality.FALLBACK,
            signal=signal,
            basis=basis,
            provider="fallback",
            fetched_at=self._clock.now(),
        )

    def _fallback_grams_per_kwh(self) -> float:
        if self.settings.on_missing == "use_static" and self.settings.static_grams_per_kwh is not None:
            return self.settings.static_grams_per_kwh
        known = tuple(self._known)
        if hours(known) >= FALLBACK_NEEDS_HOURS:
            return quantile_grams_per_kwh(known, FALLBACK_SHARE) or COAL_GRAMS_PER_KWH
        return self.settings.fallback_grams_per_kwh or COAL_GRAMS_PER_KWH


def _bounds(timeline: Timeline, when: datetime) -> tuple[datetime, datetime]:
    """Give the part of the gap around `when` that lies within its hour: gaps can be endless, intervals not."""
    hour = when.replace(minute=0, second=0, microsecond=0)
    before, after = timeline.last_begun(when), timeline.next_start(when)
    start = max(hour, before.end) if before else hour
    end = hour + timedelta(hours=1)
    return start, min(end, after) if after else end
