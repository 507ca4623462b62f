"""What the policies of clean and dirty hours share: hysteresis, dwell, and what a window means for the slots."""

from datetime import timedelta

from carbon_nas.model import Decision, Quality, Reading, Situation, Window


def settle(
    situation: Situation, *, becomes_clean: bool, stays_clean: bool, minimum_dwell_minutes: float
) -> tuple[Window, str]:
    """Choose the window, and say (` ...`, or nothing) if the minimum dwell is what keeps it.

    `becomes_clean` counts in a dirty window or before the first one, `stays_clean` in a clean one.
    """
    previous = situation.previous.window if situation.previous else None
    clean = stays_clean if previous is Window.CLEAN else becomes_clean
    wanted = Window.CLEAN if clean else Window.DIRTY
    if previous in {None, wanted} or situation.window_since is None:
        return wanted, ""
    until = situation.window_since + timedelta(minutes=minimum_dwell_minutes)
    if situation.now >= until:
        return wanted, ""
    return Window(previous), f", but the {previous} window lasts until {until:%H:%M} UTC at least"


def decide(situation: Situation, window: Window, reason: str) -> Decision:
    """Train and score on all slots in a clean window (trainings are served first), only score in a dirty one."""
    train_slots = situation.slots if window is Window.CLEAN else 0
    return Decision(train_slots=train_slots, score_slots=situation.slots, window=window, reason=reason)


def unknown(situation: Situation) -> Decision:
    """Decide for an hour of which nothing is known."""
    return decide(
        situation, Window.DIRTY, f"nothing recent is known of {situation.grid.zone}'s grid: treated as dirty"
    )


def describe(reading: Reading) -> str:
    """Give the intensity in words, and how far it can be trusted unless it was measured."""
    words = {Quality.STALE: " (stale: the last known value)", Quality.FORECAST: " (forecast)"}
    return f"{reading.grams_per_kwh:.0f} g/kWh{words.get(reading.quality, '')}"
