"""Whatever the cost of an inference is, the report weighs it against accuracy, and says in which unit."""

import html
import json
import re
from dataclasses import replace
from random import Random

import pytest
from report_records import make_record

from carbon_nas.energy.quantities import significant
from carbon_nas.model import Evaluation, JobKind
from carbon_nas.report.build import build_report
from carbon_nas.report.card import render_card
from carbon_nas.report.html import render_html
from carbon_nas.report.json import render_json
from carbon_nas.report.text import render_text
from carbon_nas.search.cost import named

LABELS = {
    "flops": "M multiply-accumulates of one image",
    "parameters": "M parameters",
    "latency": "ms for one image, measured by the search",
    "latency:pixel2": "ms on pixel2, as published",
}
COLUMNS = {"flops": "MMAC", "parameters": "M parameters", "latency": "ms", "latency:pixel2": "ms"}
UNIT = {"flops": 1e6, "parameters": 1e6, "latency": 1e-3, "latency:pixel2": 1e-3}


def record_by(name):
    """The demo's run, with every trained architecture scored, at a cost that has nothing to do with its size."""
    record, luck, chosen = make_record(), Random(5), named(name)
    trained = sorted({found.arch for _, found in record.evaluations if found.kind is JobKind.TRAIN})
    values = {arch: {chosen.recorded: luck.uniform(1, 9) * UNIT[name]} for arch in trained}
    scorings = [("score-x", Evaluation(arch, JobKind.SCORE, values[arch], 1.0, 1.0)) for arch in trained]
    return replace(record, inference_cost=name, evaluations=(*scorings, *record.evaluations))


@pytest.fixture(scope="module", params=sorted(LABELS))
def name(request):
    return request.param


@pytest.fixture(scope="module")
def record(name):
    return record_by(name)


@pytest.fixture(scope="module")
def report(record):
    return build_report(record)


def costs_of(record):
    recorded = named(record.inference_cost).recorded
    return {f.arch: f.values[recorded] for _, f in record.evaluations if recorded in f.values}


def test_the_front_is_of_accuracy_and_that_cost(record, report):
    costs = costs_of(record)
    trainings = report.search.trainings
    assert {one.arch: one.inference_cost for one in trainings} == costs
    for one in trainings:
        beaten = any(
            other.accuracy >= one.accuracy
            and costs[other.arch] <= costs[one.arch]
            and (other.accuracy, costs[other.arch]) != (one.accuracy, costs[one.arch])
            for other in trainings
        )
        assert one.on_front is not beaten


def test_another_cost_makes_another_front():
    by_size = build_report(make_record())
    assert by_size.search.cost.name == "flops"
    assert _front(build_report(record_by("latency"))) != _front(by_size)


def _front(report):
    return {one.arch for one in report.search.trainings if one.on_front}


def test_the_page_says_what_it_is_on_the_axis_in_the_table_and_below(name, record, report):
    page = html.unescape(render_html(report, record))
    assert f"inference cost ({LABELS[name]})" in " ".join(re.sub(r"<[^>]+>", " ", page).split())
    assert f'<th class="n">inference cost ({COLUMNS[name]})</th>' in page
    assert f"what the search weighs against accuracy: {LABELS[name]}." in page
    first = report.search.trainings[0]
    assert f'<td class="n">{significant(first.inference_cost / UNIT[name])}</td>' in page


def test_a_program_is_told_its_name_and_unit(name, report):
    found = json.loads(render_json(report))["search"]
    assert found["cost"]["name"] == name
    assert found["cost"]["label"] == LABELS[name]
    assert found["cost"]["scale"] == UNIT[name]
    assert all(isinstance(one["inference_cost"], float) for one in found["trainings"])


def test_the_terminal_tells_that_of_the_best(name, report):
    [line] = [line for line in render_text(report).splitlines() if "its inference cost" in line]
    best = report.search.trainings[0].inference_cost
    assert line.endswith(f"{significant(best / UNIT[name])} {LABELS[name]}")


def test_the_card_of_a_model_tells_it(name, report):
    description = {
        "architecture": "a",
        "space": {"name": "nasbench201"},
        "training": {"dataset": "fashion16"},
        "input": {"shape": [None, 1, 16, 16], "is": "images"},
        "classes": 10,
        "emissions": {"training": {}, "search": {}, "energy_method": "m", "intensity": "i", "zone": "GB"},
    }
    training = report.search.trainings[0]
    spent = significant(training.inference_cost / UNIT[name])
    line = f"| inference cost in the search | {spent} {LABELS[name]} |"
    assert line in render_card(report, training, description, ())
    unknown = render_card(report, replace(training, inference_cost=None), description, ())
    assert "inference cost" not in unknown


def test_a_cost_that_nothing_tells_is_missing_and_not_zero():
    record = replace(make_record(), inference_cost="latency")
    report = build_report(record)
    for one in report.search.trainings:
        assert one.inference_cost is None
        assert one.missing["inference_cost"] == "neither its scoring nor its training tells it"
        assert not one.on_front
    page = render_html(report, record)
    assert "neither its scoring nor its training tells it" in page
    assert "Accuracy against inference cost" not in page
    assert "its inference cost" not in render_text(report)
