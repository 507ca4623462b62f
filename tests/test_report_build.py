"""The report's figures, against sums made here in another way."""

import json
import subprocess
import sys
from collections import defaultdict
from dataclasses import replace
from datetime import timedelta
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from report_records import (
    END,
    START,
    STEP,
    STEPS,
    entry,
    intensity,
    make_empty_record,
    make_record,
    make_record_with_rungs,
    reading,
)

from carbon_nas.energy.quantities import emissions_text, energy_text, energy_unit, significant
from carbon_nas.errors import CarbonNasError
from carbon_nas.model import (
    JOULES_PER_KWH,
    Basis,
    Decision,
    Evaluation,
    JobKind,
    JobState,
    Quality,
    Signal,
    Window,
    Work,
)
from carbon_nas.report import ReportError, build_report
from carbon_nas.report.html import render_html
from carbon_nas.report.json import to_plain
from carbon_nas.report.results import windows
from carbon_nas.report.text import render_text


@pytest.fixture(scope="module")
def record():
    return make_record()


@pytest.fixture(scope="module")
def report(record):
    return build_report(record)


def exact(rows):
    """Energy in kWh and grams, in exact arithmetic."""
    rows = list(rows)
    joules = sum((Fraction(row.energy_joules) for row in rows), Fraction(0))
    grams = sum((Fraction(row.energy_joules) * Fraction(row.grams_per_kwh) for row in rows), Fraction(0))
    return float(joules / 3_600_000), float(grams / 3_600_000)


def close(*pair):
    return pytest.approx(pair, rel=1e-12)


def test_totals_are_those_of_the_ledger(record, report):
    assert (report.totals.energy_kwh, report.totals.emissions_grams) == close(*exact(record.entries))


def test_a_training_in_several_jobs_is_one_and_what_paused_is_compared_with_nobody(report):
    record, first, second, paused = make_record_with_rungs()
    found = build_report(record)
    before = len(report.search.trainings)
    assert len(found.search.trainings) == before - 1
    assert (found.search.trained, found.search.paused) == (before - 3, 2)
    whole = next(one for one in found.search.trainings if one.job_id == second)
    assert whole.earlier_jobs == (first,)
    spent = exact(row for row in record.entries if row.job_id in {first, second})
    assert (whole.energy_kwh, whole.emissions_grams) == close(*spent)
    last = found.search.trainings[-2:]
    assert {one.job_id for one in last} == {job.id for job in paused}
    assert all(one.paused and one.epochs == 4 and not one.on_front for one in last)
    assert all(not one.paused for one in found.search.trainings[:-2])
    assert found.search.best_accuracy < 0.99 == last[0].accuracy
    assert found.totals.energy_kwh == report.totals.energy_kwh, "pausing moves no joule"
    assert all(check.passed for check in found.checks)
    assert "2, after some of the epochs" in render_text(found)
    page = render_html(found, record)
    assert "and 2 in part" in page
    assert page.count("<small>paused</small>") == 2


def test_every_breakdown_has_its_own_rows(record, report):
    for share in report.breakdown.by_work:
        assert (share.energy_kwh, share.emissions_grams) == close(
            *exact(row for row in record.entries if row.work.value == share.key)
        )
    for job in report.breakdown.by_job:
        mine = [row for row in record.entries if row.job_id == job.job_id and row.work is job.work]
        assert (job.energy_kwh, job.emissions_grams) == close(*exact(mine))
    for day in report.breakdown.by_day:
        assert (day.energy_kwh, day.emissions_grams) == close(
            *exact(row for row in record.entries if row.start.date() == day.day)
        )
    assert len(report.breakdown.by_day) == 3
    (source,) = report.breakdown.by_source
    assert (source.provider, source.quality) == ("csv", Quality.ACTUAL)


def test_a_row_across_midnight_is_shared_by_its_days():
    late = replace(entry(0, Work.TRAIN, 900.0, job="a"), start=END - 39 * STEP, end=END - 3 * STEP)
    report = build_report(make_record(entries=(late,)))
    midnight = late.end.replace(hour=0, minute=0)
    first = (midnight - late.start) / (late.end - late.start) * 900.0 / JOULES_PER_KWH
    days = report.breakdown.by_day
    assert [day.energy_kwh for day in days] == pytest.approx([first, 900.0 / JOULES_PER_KWH - first])


def test_what_was_found_is_counted(record, report):
    trained = {one.arch: one for _, one in record.evaluations if one.kind is JobKind.TRAIN}
    scored = {one.arch for _, one in record.evaluations if one.kind is JobKind.SCORE}
    search = report.search
    assert (search.trained, search.scored) == (len(trained), len(scored))
    best = max(trained.values(), key=lambda one: one.values["accuracy"])
    assert (search.best_arch, search.best_accuracy) == (best.arch, best.values["accuracy"])
    pauses = [step for step in record.transitions if step.target is JobState.SUSPENDED]
    assert search.suspended == len(pauses) > search.resumed > 0
    accuracies = [one.accuracy for one in search.trainings]
    assert accuracies == sorted(accuracies, reverse=True)
    assert sum(one.suspensions for one in search.trainings) <= len(pauses)


def test_the_front_holds_exactly_what_nothing_beats(report):
    def beats(one, other):
        no_worse = one.accuracy >= other.accuracy and one.inference_cost <= other.inference_cost
        return no_worse and (one.accuracy, one.inference_cost) != (other.accuracy, other.inference_cost)

    for one in report.search.trainings:
        assert one.on_front == (not any(beats(other, one) for other in report.search.trainings))


def test_functional_units_divide_what_they_say(record, report):
    scoring, training, everything = report.functional_units
    _, spent = exact(row for row in record.entries if row.work is Work.SCORE)
    assert scoring.emissions_grams_per_unit == pytest.approx(spent / report.search.scored)
    _, spent = exact(row for row in record.entries if row.work is Work.TRAIN)
    assert training.emissions_grams_per_unit == pytest.approx(spent / report.search.trained)
    assert everything.emissions_grams_per_unit == pytest.approx(
        report.totals.emissions_grams / report.search.trained
    )


def test_the_grid_is_described_by_time_and_by_energy(record, report):
    values = [intensity(n) for n in range(STEPS)]
    grid = report.intensity
    assert grid.mean_grams_per_kwh == pytest.approx(sum(values) / STEPS)
    assert (grid.minimum_grams_per_kwh, grid.maximum_grams_per_kwh) == (min(values), max(values))
    energy, grams = exact(row for row in record.entries if row.work is Work.TRAIN)
    assert grid.energy_weighted_grams_per_kwh[Work.TRAIN] == pytest.approx(grams / energy)
    clean = sum(decision.window is Window.CLEAN for _, decision in record.decisions)
    assert grid.share_of_period_clean == pytest.approx(clean / STEPS)


def test_only_the_latest_revision_counts():
    row = entry(0, Work.TRAIN, 3600.0, job="a", quality=Quality.FORECAST)
    better = replace(row, grams_per_kwh=row.grams_per_kwh / 2, quality=Quality.ACTUAL, revision=1)
    report = build_report(make_record(entries=(better, row)))
    assert report.totals.emissions_grams == pytest.approx(better.emissions_grams)
    assert report.restatement["restated_rows"] == report.restatement["superseded_rows"] == 1
    assert report.restatement["delta_emissions_grams"] == pytest.approx(-better.emissions_grams)


def test_overhead_is_inside_and_shown(record):
    totals = build_report(replace(record, pue=1.25)).totals
    assert totals.device_energy_kwh * 1.25 == pytest.approx(totals.energy_kwh)
    assert totals.device_energy_kwh + totals.overhead_energy_kwh == pytest.approx(totals.energy_kwh)
    assert totals.energy_kwh == build_report(record).totals.energy_kwh


@pytest.mark.parametrize(("kind", "failed_trainings"), [(JobKind.TRAIN, 1), (JobKind.SCORE, 0)])
def test_work_that_came_to_nothing_is_inside_the_totals(record, kind, failed_trainings):
    victim = next(job for job in record.jobs if job.kind is kind)
    jobs = [replace(job, state=JobState.FAILED) if job == victim else job for job in record.jobs]
    report = build_report(replace(record, jobs=jobs))
    expected = exact(row for row in record.entries if row.job_id == victim.id)
    assert (report.totals.unsuccessful_energy_kwh, report.totals.unsuccessful_emissions_grams) == close(
        *expected
    )
    assert report.totals.energy_kwh == build_report(record).totals.energy_kwh
    assert report.search.failed == failed_trainings


@pytest.mark.parametrize("change", [{"signal": Signal.MARGINAL}, {"basis": Basis.LIFECYCLE}])
def test_a_mixture_is_refused(record, change):
    entries = (*record.entries[:-1], replace(record.entries[-1], **change))
    with pytest.raises(ReportError, match="report each kind on its own") as caught:
        build_report(replace(record, entries=entries))
    assert isinstance(caught.value, CarbonNasError)


def nulls_without_reason(value, where="report"):
    """Every null of a section must have its reason in that section's `missing`, and nothing else may."""
    if isinstance(value, list):
        return [gap for n, item in enumerate(value) for gap in nulls_without_reason(item, f"{where}[{n}]")]
    if not isinstance(value, dict):
        return []
    gaps = [
        f"{where}.{key}"
        for key, item in value.items()
        if item is None and key not in value.get("missing", {})
    ]
    gaps += [f"{where}.{key} is not null" for key in value.get("missing", {}) if value[key] is not None]
    return gaps + [gap for key, item in value.items() for gap in nulls_without_reason(item, f"{where}.{key}")]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"clock_speed": 1.0},
        {"clock_speed": float("inf")},
        {"decisions": (), "reference_grams_per_kwh": None},
        {"evaluations": ()},
        {"entries": ()},
        {"entries": (entry(0, Work.TRAIN, 0.0, job="unknown"),)},
        {
            "evaluations": (
                ("train-x", Evaluation("arch", JobKind.TRAIN, {"accuracy": float("nan")}, 1.0, 1.0)),
            )
        },
    ],
)
def test_every_null_has_its_reason(changes):
    plain = to_plain(build_report(make_record(**changes)))
    assert nulls_without_reason(plain) == []
    json.dumps(plain, allow_nan=False)


def test_nothing_known_is_not_zero():
    report = build_report(make_empty_record())
    assert report.totals.energy_kwh is report.totals.emissions_grams is None
    assert report.counterfactual.at_once_emissions_grams is None
    assert report.intensity.mean_grams_per_kwh is None
    assert nulls_without_reason(to_plain(report)) == []


def test_a_replay_is_declared(record):
    replayed = build_report(record).period
    assert replayed.replay.startswith("Replay: the clock ran 1,440 times as fast")
    assert replayed.real_seconds == pytest.approx(120.0)
    assert build_report(replace(record, clock_speed=1.0)).period.replay is None
    assert build_report(replace(record, clock_speed=float("inf"))).period.replay.startswith("Simulation")


def test_windows_join_and_stay_within_the_period():
    def decide(hours, window):
        return (START + timedelta(hours=hours), Decision(1, 1, window, "because"))

    decisions = [
        decide(4, Window.DIRTY),
        decide(-2, Window.CLEAN),
        decide(2, Window.CLEAN),
        decide(99, Window.CLEAN),
    ]
    assert windows(decisions, START, END) == [
        (START, START + timedelta(hours=4), Window.CLEAN),
        (START + timedelta(hours=4), END, Window.DIRTY),
    ]


@given(st.permutations(range(40)))
@settings(max_examples=20, deadline=None)
def test_the_same_record_in_another_order_gives_the_same_totals(order):
    record = make_record()
    rows = record.entries[:40]
    one = build_report(replace(record, entries=rows))
    other = build_report(replace(record, entries=tuple(rows[n] for n in order)))
    assert to_plain(one.totals) == to_plain(other.totals)
    assert to_plain(one.breakdown) == to_plain(other.breakdown)


def test_checks_pass_for_an_honest_record(report):
    assert [check.name for check in report.checks if not check.passed] == []
    assert len(report.checks) == 9


def failing(record, **changes):
    return {check.name for check in build_report(replace(record, **changes)).checks if not check.passed}


def test_each_check_fails_for_what_it_is_about(record):
    rows = record.entries
    train = next(row for row in rows if row.work is Work.TRAIN)
    overlap = replace(train, start=train.start + STEP / 3)
    assert failing(record, entries=(*rows, overlap)) == {"no interval counted twice"}
    assert failing(record, entries=(*rows, train)) == {"latest revision counts"}
    assert failing(record, end=END - STEP) == {"inside the period"}
    assert failing(record, jobs=[job for job in record.jobs if job.id != train.job_id]) == {
        "every joule has an owner"
    }
    guessed = [replace(row, quality=Quality.FALLBACK) for row in rows]
    assert failing(record, entries=guessed) == {"intensity is known", "forecasts restated"}
    assert failing(record, entries=guessed, readings=()) == {"intensity is known"}
    hoped = [replace(row, quality=Quality.FORECAST) for row in rows]
    assert failing(record, entries=hoped) == {"forecasts restated"}
    expected = [reading(n, quality=Quality.FORECAST) for n in range(STEPS)]
    assert failing(record, entries=hoped, readings=expected) == set()


def test_idle_slots_of_one_device_name_do_not_overlap():
    rows = tuple(entry(0, Work.IDLE, 1.0, slot=slot) for slot in ("cpu-0", "cpu-1"))
    assert failing(make_record(), entries=rows) == set()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.00042, "0.000420"),
        (12.345, "12.3"),
        (1234.5, "1,230"),
        (0.9996, "1.00"),
        (0.0, "0"),
        (-0.05, "-0.0500"),
    ],
)
def test_three_significant_digits(value, text):
    assert significant(value) == text


def test_small_numbers_are_readable():
    assert energy_text(0.00042) == "420 mWh"
    assert energy_text(0.0042) == "4.20 Wh"
    assert energy_text(1e-9) == "0.00360 J"
    assert emissions_text(0.00312) == "3.12 mg"
    assert emissions_text(1520.0) == "1.52 kg"
    assert energy_text(None) == "not known"
    assert energy_unit([None, 0.0]).symbol == "kWh"


def test_the_model_is_cheap_to_import():
    code = (
        "import sys; import carbon_nas.report.model, carbon_nas.report;"
        "print([name for name in ('torch', 'matplotlib', 'pandas', 'jinja2') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_period_must_not_be_empty():
    with pytest.raises(ValueError, match="empty period"):
        make_record(end=START)
    with pytest.raises(ValueError, match="at least 1"):
        make_record(pue=0.9)


def test_jobs_are_counted_by_state(record, report):
    counts = defaultdict(int)
    for job in record.jobs:
        counts[job.kind, job.state] += 1
    assert {
        (kind, state): n for kind, states in report.search.jobs.items() for state, n in states.items()
    } == counts
