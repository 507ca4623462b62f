"""What every policy must do, whatever it decides by."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import product

import pytest

from carbon_nas.interfaces import Policy
from carbon_nas.model import (
    Basis,
    Decision,
    GridState,
    GridView,
    Job,
    JobKind,
    Quality,
    Reading,
    Signal,
    Situation,
    Window,
)

NOW = datetime(2023, 3, 26, 1, 10, tzinfo=UTC)  # a spring-forward night in Europe
HOUR = timedelta(hours=1)
SLOTS = (0, 1, 2, 7)


def reading(
    start: datetime, grams_per_kwh: float, quality: Quality = Quality.ACTUAL, step: timedelta = HOUR
) -> Reading:
    """Make a reading of zone XX."""
    return Reading(
        zone="XX",
        start=start,
        end=start + step,
        grams_per_kwh=grams_per_kwh,
        quality=quality,
        signal=Signal.AVERAGE,
        basis=Basis.DIRECT,
        provider="test",
        fetched_at=start,
    )


def grid(current: float | None, history: tuple[float, ...] = (), state: GridState | None = None) -> GridView:
    """Make a view with hourly `history` up to the present hour; `current` None makes it DEGRADED."""
    hour = NOW.replace(minute=0)
    past = tuple(reading(hour - (len(history) - index) * HOUR, value) for index, value in enumerate(history))
    if current is None:
        return GridView("XX", NOW, GridState.DEGRADED, None, past)
    state = state or GridState.FRESH
    quality = Quality.STALE if state is GridState.STALE else Quality.ACTUAL
    return GridView("XX", NOW, state, reading(hour, current, quality), past)


def situations() -> list[Situation]:
    """Give situations of every sort: known, stale and degraded grids, with and without history and past decisions."""
    week = tuple(50.0 + 13 * (hour % 24) for hour in range(168))
    grids = [
        grid(current, history, state)
        for current, history in product((1.0, 150.0, 2000.0), ((), (100.0,), week, (200.0,) * 168))
        for state in (GridState.FRESH, GridState.STALE)
    ] + [grid(None), grid(None, (100.0,)), grid(None, week)]
    previous: list[tuple[Decision | None, datetime | None]] = [(None, None)]
    for window, ago in product(Window, (timedelta(0), timedelta(minutes=10), timedelta(days=2))):
        previous.append((Decision(0, 1, window, "before"), NOW - ago))
    training = Job("running", JobKind.TRAIN, "XX", ("a",), NOW - HOUR)
    return [
        Situation(NOW, view, slots, previous=decision, window_since=since, training=jobs, waiting=jobs)
        for view, slots, (decision, since), jobs in product(grids, SLOTS, previous, ((), (training,)))
    ]


class PolicyConformance:
    """Subclass it and override `policy`.

    A policy class that ignores the grid on purpose says so with `carbon_blind = True`.
    """

    @pytest.fixture
    def policy(self) -> Policy:
        """Give the policy under test."""
        raise NotImplementedError("override the fixture `policy`")

    def test_same_situation_same_decision(self, policy: Policy) -> None:
        """`decide` is pure: neither its calls before nor the object's history count."""
        every = situations()
        forwards = [policy.decide(situation) for situation in every]
        backwards = [policy.decide(replace(situation)) for situation in reversed(every)]
        assert forwards == backwards[::-1]

    def test_gives_a_readable_reason(self, policy: Policy) -> None:
        """One line that a person can read."""
        for situation in situations():
            reason = policy.decide(situation).reason
            assert reason == reason.strip()
            assert "\n" not in reason
            assert 10 <= len(reason) <= 300

    def test_stays_within_the_slots(self, policy: Policy) -> None:
        """Neither kind of work gets more slots than there are."""
        for situation in situations():
            decision = policy.decide(situation)
            assert 0 <= decision.train_slots <= situation.slots
            assert 0 <= decision.score_slots <= situation.slots

    def test_unknown_is_never_clean(self, policy: Policy) -> None:
        """A degraded grid is dirty, and starts no training, unless the policy declares itself carbon-blind."""
        degraded = [one for one in situations() if one.grid.state is GridState.DEGRADED]
        for situation in degraded:
            decision = policy.decide(situation)
            if not getattr(policy, "carbon_blind", False):
                assert decision.window is Window.DIRTY
                assert decision.train_slots == 0

    def test_suspends_only_what_runs(self, policy: Policy) -> None:
        """`suspend` names running trainings."""
        for situation in situations():
            running = {job.id for job in situation.training}
            assert set(policy.decide(situation).suspend) <= running
