"""From the feed's readings to an hourly series, and from a prediction back to readings."""

from collections.abc import Iterable
from datetime import datetime
from itertools import pairwise

import numpy as np

from carbon_nas.errors import NoData
from carbon_nas.grid.forecast.base import HOUR, Floats, Prediction, Series, epoch_hour, from_epoch_hour
from carbon_nas.model import MAX_PLAUSIBLE_GRAMS_PER_KWH, Quality, Reading

SHORT_GAP_HOURS = 3
"""A gap of up to this many hours is bridged by a straight line; a longer one stays a gap."""

KNOWN_SHARE = 0.5
"""An hour is known if readings cover at least this share of it."""


def series_from(readings: Iterable[Reading]) -> Series:
    """Give the time-weighted mean of each hour of one zone's observed readings, which must not overlap.

    Forecast, stale and fallback values are left out: nothing is learnt from what was not seen. The series begins
    and ends with a known hour.

    Raises:
        NoData: no hour is known.
    """
    observed = [reading for reading in readings if reading.quality.observed]
    if not observed:
        raise NoData("there are no observed readings to forecast from")
    first = epoch_hour(min(reading.start for reading in observed))
    count = epoch_hour(max(reading.end for reading in observed)) + 1 - first
    covered, weighted = np.zeros(count), np.zeros(count)
    for reading in observed:
        for hour in range(epoch_hour(reading.start), epoch_hour(reading.end) + 1):
            share = _share(reading, from_epoch_hour(hour))
            covered[hour - first] += share
            weighted[hour - first] += share * reading.grams_per_kwh
    known = covered >= KNOWN_SHARE
    if not known.any():
        raise NoData("no hour is known to half of its length")
    values = np.full(count, np.nan)
    values[known] = weighted[known] / covered[known]
    begin, end = np.flatnonzero(known)[[0, -1]]
    return Series(from_epoch_hour(first + int(begin)), _bridged(values[begin : end + 1]))


def readings_from(prediction: Prediction, name: str, like: Reading, now: datetime) -> list[Reading]:
    """Give `prediction` of the forecaster `name` as readings of the zone, signal and basis of `like`, made `now`."""
    cap = MAX_PLAUSIBLE_GRAMS_PER_KWH
    rows = zip(prediction.mean, prediction.low, prediction.high, strict=True)
    return [
        Reading(
            zone=like.zone,
            start=prediction.start + lead * HOUR,
            end=prediction.start + (lead + 1) * HOUR,
            grams_per_kwh=min(float(mean), cap),
            quality=Quality.FORECAST,
            signal=like.signal,
            basis=like.basis,
            provider=f"forecast:{name}",
            fetched_at=now,
            band=None if np.isnan(low) or np.isnan(high) else (min(float(low), cap), min(float(high), cap)),
        )
        for lead, (mean, low, high) in enumerate(rows)
    ]


def _share(reading: Reading, hour: datetime) -> float:
    overlap = min(reading.end, hour + HOUR) - max(reading.start, hour)
    return max(0.0, overlap / HOUR)


def _bridged(values: Floats) -> Floats:
    """Bridge the short gaps; the ends are known."""
    known = np.flatnonzero(~np.isnan(values))
    bridged = np.interp(np.arange(len(values)), known, values[known])
    for before, after in pairwise(known):
        if after - before - 1 > SHORT_GAP_HOURS:
            bridged[before + 1 : after] = np.nan
    return bridged
