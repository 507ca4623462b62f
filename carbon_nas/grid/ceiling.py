"""The zone's ceiling: what perfect timing could have saved here lately, so that nobody waits for nothing.

Perfect foresight over a constant-power job that needs only a share of the hours, against the same energy spread
evenly (the bound of Sukprasert et al., EuroSys 2024, for one zone). No policy can save more by timing alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from carbon_nas.grid.timeline import hours
from carbon_nas.model import Reading

SHARES = (0.25, 0.5)
NEEDED_HOURS = 24.0


@dataclass(frozen=True, slots=True)
class Ceiling:
    """`saved_share[i]` of the emissions, 0 to 1, if only the cleanest `shares[i]` of the `days` are used."""

    days: float
    shares: tuple[float, ...]
    saved_share: tuple[float, ...]

    def __str__(self) -> str:
        parts = [
            f"{saved:.0%} using the cleanest {share:.0%} of the hours"
            for share, saved in zip(self.shares, self.saved_share, strict=True)
        ]
        return f"best case here over the last {self.days:.1f} days: " + ", ".join(parts)


def ceiling(history: Sequence[Reading], shares: Sequence[float] = SHARES) -> Ceiling | None:
    """Give the ceiling of a zone's history; None with less than a day of it.

    Raises:
        ValueError: a share is not within (0, 1].
    """
    if any(not 0 < share <= 1 for share in shares):
        raise ValueError(f"shares must be within (0, 1], got {shares}")
    known = hours(history)
    if known < NEEDED_HOURS:
        return None
    even = _mean_of_cleanest(history, known)
    saved = tuple(1 - _mean_of_cleanest(history, share * known) / even for share in shares)
    return Ceiling(known / 24, tuple(shares), saved)


def _mean_of_cleanest(history: Sequence[Reading], wanted_hours: float) -> float:
    """Give the mean g/kWh of the cleanest `wanted_hours`; the last reading taken may count in part."""
    left, weighted = wanted_hours, 0.0
    for reading in sorted(history, key=lambda reading: reading.grams_per_kwh):
        taken = min(left, hours([reading]))
        weighted += taken * reading.grams_per_kwh
        left -= taken
        if left <= 0:
            break
    return weighted / (wanted_hours - max(left, 0.0))
