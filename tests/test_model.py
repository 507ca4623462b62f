"""The values: what they refuse when they are made, and what they compute."""

import dataclasses
from datetime import UTC, datetime, timedelta, timezone

import pytest
from fakes import make_job, make_reading

from carbon_nas import model
from carbon_nas.errors import BadData
from carbon_nas.model import Decision, GridState, GridView, Window, emissions_grams, utc

NOON = datetime(2023, 6, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.mark.parametrize("value", [0.0, -0.0, -1.0, float("nan"), float("inf"), float("-inf"), 2000.1, 1e9])
def test_an_intensity_that_cannot_be_is_no_reading(value):
    with pytest.raises(BadData, match=r"csv: .* g/kWh for GB at 2023-06-01 12:00"):
        make_reading(NOON, value)


@pytest.mark.parametrize("value", [1e-9, 1.0, 2000.0])
def test_an_intensity_that_can_be_is_one(value):
    assert make_reading(NOON, value).grams_per_kwh == value


@pytest.mark.parametrize("when", [NOON.replace(tzinfo=None), NOON.replace(tzinfo=timezone(HOUR))])
@pytest.mark.parametrize("name", ["start", "end", "fetched_at"])
def test_a_time_that_is_not_utc_is_refused(name, when):
    with pytest.raises(ValueError, match=f"{name} must be an aware UTC time"):
        dataclasses.replace(make_reading(NOON), **{name: when})


@pytest.mark.parametrize("step", [timedelta(0), -HOUR])
def test_an_interval_cannot_be_empty(step):
    with pytest.raises(ValueError, match="empty interval"):
        make_reading(NOON, step=step)


def test_an_interval_is_half_open():
    reading = make_reading(NOON, step=HOUR)
    microsecond = timedelta(microseconds=1)
    moments = [NOON - microsecond, NOON, NOON + HOUR - microsecond, NOON + HOUR]
    assert [reading.covers(when) for when in moments] == [False, True, True, False]


@pytest.mark.parametrize("state", GridState)
def test_only_a_grid_that_is_not_known_may_lack_a_present(state):
    GridView("GB", NOON, state, make_reading(NOON))  # also a static value, declared for a degraded grid
    if state in {GridState.DEGRADED, GridState.FAILED}:
        GridView("GB", NOON, state, None)
    else:
        with pytest.raises(ValueError, match=state):
            GridView("GB", NOON, state, None)


@pytest.mark.parametrize(
    ("values", "problem"),
    [((1, 1, " \n"), "reason"), ((-1, 0, "why"), "negative"), ((0, -1, "why"), "negative")],
)
def test_a_decision_gives_its_reason_and_no_negative_slots(values, problem):
    train, score, reason = values
    with pytest.raises(ValueError, match=problem):
        Decision(train, score, Window.CLEAN, reason)


def test_a_job_is_overdue_from_its_deadline_on():
    job = make_job("x", deadline=NOON)
    assert [job.overdue(NOON + n * HOUR) for n in (-1, 0, 1)] == [False, True, True]
    assert not make_job("x").overdue(NOON)


def test_a_kilowatt_hour_at_an_intensity_of_300_emits_300_grams():
    assert emissions_grams(3_600_000.0, 300.0) == 300.0
    assert emissions_grams(0.0, 300.0) == 0.0


@pytest.mark.parametrize(
    "text", ["2023-06-01T12:00Z", "2023-06-01T13:00+01:00", "2023-06-01 12:00:00+00:00", "20230601T120000Z"]
)
def test_a_time_with_any_offset_is_read_as_utc(text):
    when = utc(text)
    assert (when, when.tzinfo) == (NOON, UTC)


@pytest.mark.parametrize("text", ["2023-06-01T12:00", "2023-06-01", "noon", ""])
def test_a_time_without_an_offset_is_refused(text):
    with pytest.raises(ValueError, match=r"time zone|isoformat"):
        utc(text)


def test_all_values_are_frozen_and_without_a_dictionary_of_their_own():
    values = [v for v in vars(model).values() if isinstance(v, type) and dataclasses.is_dataclass(v)]
    assert len(values) > 15
    for value in values:
        assert value.__dataclass_params__.frozen, value
        assert "__slots__" in vars(value), value
