"""Late intensities: new revisions, and only of what is covered."""

from dataclasses import replace
from datetime import timedelta

import pytest
from report_records import STEP, entry, reading

from carbon_nas.energy.restatement import restate
from carbon_nas.model import Quality, Work, emissions_grams

FORECAST = entry(0, Work.TRAIN, 3600.0, job="a", grams_per_kwh=150.0, quality=Quality.FORECAST)


def test_a_forecast_row_is_restated_by_what_was_observed():
    [revision] = restate([FORECAST], [reading(0, value=90.0)])
    assert (revision.revision, revision.quality, revision.grams_per_kwh) == (1, Quality.ACTUAL, 90.0)
    assert revision.emissions_grams == pytest.approx(emissions_grams(3600.0, 90.0))
    assert (revision.start, revision.end, revision.energy_joules) == (
        FORECAST.start,
        FORECAST.end,
        FORECAST.energy_joules,
    )


def test_several_readings_weigh_by_their_time():
    wide = replace(FORECAST, end=FORECAST.start + 1.5 * STEP)
    [revision] = restate([wide], [reading(1, value=300.0), reading(0, value=90.0)])
    assert revision.grams_per_kwh == pytest.approx((90.0 * 2 + 300.0) / 3)


def test_the_worst_quality_of_several_counts():
    wide = replace(FORECAST, end=FORECAST.start + 2 * STEP)
    [revision] = restate([wide], [reading(0), reading(1, quality=Quality.ESTIMATED)])
    assert revision.quality is Quality.ESTIMATED


@pytest.mark.parametrize(
    "readings",
    [
        [],
        [reading(1)],
        [reading(0, quality=Quality.FORECAST)],
        [replace(reading(0), end=reading(0).end - timedelta(minutes=1))],
        [replace(reading(0), zone="elsewhere")],
    ],
    ids=["nothing", "another time", "only a forecast", "not all of it", "another zone"],
)
def test_what_is_not_covered_by_observations_stays(readings):
    assert list(restate([FORECAST], readings)) == []


def test_an_observed_row_is_left_alone():
    assert list(restate([replace(FORECAST, quality=Quality.ACTUAL)], [reading(0, value=90.0)])) == []
