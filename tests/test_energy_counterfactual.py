"""What the same work would have emitted without waiting."""

import math
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from report_records import START, STEP, STEPS, entry, intensity, make_record, reading

from carbon_nas.clock import monotonic
from carbon_nas.energy.counterfactual import at_once, intensity_profile
from carbon_nas.model import JOULES_PER_KWH, Basis, Quality, Signal, Work, emissions_grams

READINGS = tuple(reading(n) for n in range(STEPS))


@st.composite
def ledgers(draw):
    """Rows of two slots, each in its own half-hour, with gaps, two devices, idle time and a controller."""
    rows = []
    for slot in ("cpu-0", "cpu-1"):
        for n in sorted(draw(st.sets(st.integers(0, STEPS - 1), max_size=12))):
            begin = draw(st.integers(0, 20))
            end = draw(st.integers(begin + 1, 30))
            work = draw(st.sampled_from([Work.SCORE, Work.TRAIN, Work.IDLE]))
            job = None if work is Work.IDLE else f"job-{slot}-{n}"
            joules = draw(st.floats(0, 1e6))
            row = entry(n, work, joules, job=job, slot=slot, minutes=(begin, end))
            rows += (
                [row, replace(row, device="gpu-0", energy_joules=joules / 3)]
                if draw(st.booleans())
                else [row]
            )
    controller = st.lists(st.integers(0, STEPS - 1), unique=True, max_size=4)
    return rows + [entry(n, Work.CONTROLLER, 2.0, slot=None) for n in draw(controller)]


def beside(rows, readings, start):
    """The run at once, with the jobs in the order in which they began."""
    begun = sorted(rows, key=lambda row: (row.start, row.job_id or ""))
    return at_once(rows, readings, start, list(dict.fromkeys(row.job_id for row in begun if row.job_id)))


def by_brute_force(rows, start, order):
    """The same by walking second by second through each job's busy seconds. Only for whole seconds."""
    grams, free = 0.0, dict.fromkeys(sorted({row.slot_id for row in rows}), start)
    for job in order:
        mine = [row for row in rows if row.job_id == job]
        earliest = min(row.start for row in mine)
        length = int((max(row.end for row in mine) - earliest).total_seconds())
        busy = [earliest + timedelta(seconds=s) for s in range(length)]
        busy = [second for second in busy if any(row.start <= second < row.end for row in mine)]
        slot = min(free, key=lambda name: free[name])
        for second in busy:
            step = int((free[slot] - START).total_seconds()) // 1800
            for row in mine:
                if row.start <= second < row.end:
                    seconds = (row.end - row.start).total_seconds()
                    grams += emissions_grams(row.energy_joules / seconds, intensity(step))
            free[slot] += timedelta(seconds=1)
    return grams


def test_moved_slices_are_valued_where_they_would_have_run():
    # 30 min at step 10, then 20 min at step 20, one slot: at once they fill step 0, and 20 min of step 1.
    rows = [entry(10, Work.TRAIN, 3600.0, job="a"), entry(20, Work.SCORE, 1800.0, job="b", minutes=(5, 25))]
    found = beside(rows, READINGS, START)
    expected = 3600.0 / JOULES_PER_KWH * intensity(0) + 1800.0 / JOULES_PER_KWH * intensity(1)
    assert found.at_once_emissions_grams == pytest.approx(expected, rel=1e-12)
    assert found.at_once_seconds == 50 * 60
    assert found.actual_seconds == 20 * 1800 + 25 * 60
    assert found.delay_seconds == found.actual_seconds - found.at_once_seconds


def test_jobs_run_in_the_order_in_which_they_were_created():
    # The training was asked for first, and waited while the scoring ran: at once it comes first.
    rows = [entry(0, Work.SCORE, 100.0, job="later"), entry(10, Work.TRAIN, 900.0, job="earlier")]
    found = at_once(rows, READINGS, START, ["earlier", "later"])
    assert found.by_job_grams == pytest.approx(
        {"earlier": emissions_grams(900.0, intensity(0)), "later": emissions_grams(100.0, intensity(1))}
    )


def test_a_suspended_job_runs_in_one_piece_on_the_slot_that_is_free_first():
    rows = [
        entry(0, Work.TRAIN, 10.0, job="a"),
        entry(5, Work.TRAIN, 10.0, job="a", slot="cpu-1"),
        entry(0, Work.TRAIN, 20.0, job="b", slot="cpu-1"),
        entry(9, Work.TRAIN, 40.0, job="c"),
    ]
    found = at_once(rows, READINGS, START, ["a", "b", "c"])  # a: steps 0 and 1; b: step 0; c: step 1, after b
    expected = 10.0 * (intensity(0) + intensity(1)) + 20.0 * intensity(0) + 40.0 * intensity(1)
    assert found.at_once_emissions_grams == pytest.approx(expected / JOULES_PER_KWH)


def test_a_slice_is_split_where_the_intensity_changes():
    rows = [
        entry(10, Work.TRAIN, 100.0, job="a", minutes=(0, 20)),
        entry(20, Work.TRAIN, 600.0, job="b"),  # would run from minute 20 of step 0 to minute 20 of step 1
    ]
    found = beside(rows, READINGS, START)
    expected = 100.0 * intensity(0) + 600.0 * (intensity(0) / 3 + intensity(1) * 2 / 3)
    assert found.at_once_emissions_grams == pytest.approx(expected / JOULES_PER_KWH, rel=1e-12)


def test_agrees_with_a_walk_through_every_busy_second():
    rows = [
        entry(30, Work.SCORE, 500.0, job="a", minutes=(3, 29)),
        entry(33, Work.TRAIN, 900.0, job="b", minutes=(0, 30)),
        entry(34, Work.TRAIN, 900.0, job="b", minutes=(0, 12)),
        entry(50, Work.TRAIN, 700.0, job="c", slot="cpu-1", minutes=(7, 30)),
        replace(entry(50, Work.TRAIN, 300.0, job="c", slot="cpu-1", minutes=(5, 28)), device="gpu-0"),
    ]
    found = beside(rows, READINGS, START + STEP)
    assert found.at_once_emissions_grams == pytest.approx(by_brute_force(rows, START + STEP, "abc"), rel=1e-9)


@given(ledgers())
@settings(max_examples=80, deadline=None)
def test_a_constant_intensity_makes_waiting_pointless(rows):
    rows = [replace(row, grams_per_kwh=123.0) for row in rows]
    found = beside(rows, [reading(n, value=123.0) for n in range(STEPS)], START)
    assert found.at_once_moved_emissions_grams == pytest.approx(
        found.moved_emissions_grams, rel=1e-9, abs=1e-12
    )


@given(ledgers(), st.randoms())
@settings(max_examples=60, deadline=None)
def test_the_order_of_rows_and_readings_does_not_matter(rows, random):
    shuffled, readings = rows.copy(), list(READINGS)
    random.shuffle(shuffled)
    random.shuffle(readings)
    one, other = beside(rows, READINGS, START), beside(shuffled, readings, START)
    assert other.at_once_emissions_grams == pytest.approx(one.at_once_emissions_grams, rel=1e-12)
    assert other.at_once_seconds == one.at_once_seconds


@given(ledgers())
@settings(max_examples=60, deadline=None)
def test_energy_is_conserved_and_bounded_by_the_intensities(rows):
    found = beside(rows, READINGS, START)
    parts = (found.moved_energy_joules, found.kept_energy_joules, found.idle_energy_joules)
    assert min(parts) >= 0
    assert math.fsum(parts) == pytest.approx(math.fsum(row.energy_joules for row in rows), rel=1e-9)
    values = [one.grams_per_kwh for one in READINGS]
    moved = found.at_once_moved_emissions_grams
    assert emissions_grams(found.moved_energy_joules, min(values)) <= moved * (1 + 1e-9)
    assert moved <= emissions_grams(found.moved_energy_joules, max(values)) * (1 + 1e-9)
    lengths = [(row.end - row.start).total_seconds() for row in rows if row.job_id and row.device == "cpu"]
    slots = len({row.slot_id for row in rows if row.job_id})
    assert math.fsum(lengths) <= found.at_once_seconds * max(slots, 1) * (1 + 1e-9)
    assert found.at_once_seconds <= math.fsum(lengths) * (1 + 1e-9)


def test_work_that_never_waited_is_left_where_it_was():
    rows = [
        entry(n, Work.TRAIN, 100.0 + n, job=f"on-{slot}", slot=slot)
        for n in range(6)
        for slot in ("cpu-0", "cpu-1")
    ]
    found = beside(rows, READINGS, START)
    assert found.at_once_emissions_grams == pytest.approx(found.actual_emissions_grams, rel=1e-12)
    assert found.saved_percent == pytest.approx(0.0, abs=1e-9)
    assert found.delay_seconds == 0.0


def test_idle_time_has_no_counterpart_and_the_controller_stays():
    rows = [
        entry(0, Work.IDLE, 50.0),
        entry(8, Work.CONTROLLER, 20.0, slot=None),
        entry(9, Work.TRAIN, 100.0, job="a"),
    ]
    found = beside(rows, READINGS, START)
    kept, moved = emissions_grams(20.0, intensity(8)), emissions_grams(100.0, intensity(0))
    assert found.at_once_emissions_grams == pytest.approx(kept + moved)
    assert found.idle_emissions_grams == pytest.approx(emissions_grams(50.0, intensity(0)))
    assert found.saved_grams == pytest.approx(found.at_once_emissions_grams - found.actual_emissions_grams)


def test_an_unknown_intensity_is_reported_and_valued_at_the_mean():
    rows = [entry(10, Work.TRAIN, 300.0, job="a"), entry(12, Work.TRAIN, 100.0, job="b", minutes=(0, 10))]
    found = beside(rows, READINGS[1:], START)  # nothing is known of step 0, where the first would have run
    assert found.uncovered_share == pytest.approx(300 / 400)
    mean = (300 * intensity(10) + 100 * intensity(12)) / 400
    assert found.at_once_emissions_grams == pytest.approx(
        emissions_grams(300.0, mean) + emissions_grams(100.0, intensity(1))
    )


def test_a_run_without_rows_has_no_percentage():
    found = beside([], READINGS, START)
    assert (found.at_once_emissions_grams, found.saved_percent) == (0.0, None)


@pytest.mark.parametrize("joules", [-1.0, math.nan, math.inf])
def test_energy_that_cannot_be_is_refused(joules):
    with pytest.raises(ValueError, match="cpu used"):
        beside([entry(0, Work.TRAIN, joules, job="a")], READINGS, START)


@pytest.mark.parametrize("change", [{"signal": Signal.MARGINAL}, {"basis": Basis.LIFECYCLE}])
def test_intensities_of_different_kinds_are_never_summed(change):
    row = entry(0, Work.TRAIN, 1.0, job="a")
    with pytest.raises(ValueError, match="different kinds"):
        beside([row, replace(row, job_id="b", **change)], (), START)
    with pytest.raises(ValueError, match="different kinds"):
        beside([row], [replace(reading(0), **change)], START)


def test_the_best_known_value_of_each_moment_counts():
    rough = reading(0, quality=Quality.FORECAST, value=300.0)
    wide = replace(rough, end=rough.start + 3 * STEP)
    better = reading(1, value=100.0)
    late = replace(better, grams_per_kwh=110.0, fetched_at=better.fetched_at + STEP)
    profile = intensity_profile([late, wide, better])
    assert [(one.start - START, one.grams_per_kwh) for one in profile.segments] == [
        (0 * STEP, 300.0),
        (1 * STEP, 110.0),
        (2 * STEP, 300.0),
    ]
    assert profile.mean(START, START + 3 * STEP) == pytest.approx((300 + 110 + 300) / 3)
    assert profile.mean(START + 5 * STEP, START + 6 * STEP) is None


def test_the_ledger_values_both_sides_alike():
    row = entry(0, Work.TRAIN, 100.0, job="a", grams_per_kwh=150.0, quality=Quality.FALLBACK)
    found = beside([row], [reading(0, value=90.0)], START)
    assert found.at_once_emissions_grams == pytest.approx(found.actual_emissions_grams)


def test_a_whole_run_is_moved_in_good_time():
    record = make_record()
    began = monotonic()
    found = at_once(record.entries, record.readings, record.start, [job.id for job in record.jobs])
    assert monotonic() - began < 2.0
    assert found.uncovered_share == 0.0
    assert found.saved_grams > 0  # the run began in dirty hours and its trainings waited for clean ones
