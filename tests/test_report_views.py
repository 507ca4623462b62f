"""The report as a page, as JSON and as text."""

import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from report_records import STEPS, make_empty_record, make_record, reading

from carbon_nas.clock import monotonic
from carbon_nas.model import Quality, Signal
from carbon_nas.report import ReportError, build_report, write_report
from carbon_nas.report.html import render_html
from carbon_nas.report.json import content_sha256, render_json
from carbon_nas.report.text import render_text

VOID = {"meta", "wbr", "br", "img", "hr", "link", "input"}


class Page(HTMLParser):
    """Reads a page, keeps its text, and fails on tags that do not nest."""

    def __init__(self, text):
        super().__init__()
        self.open, self.ids, self.links, self.tags, self.words = [], [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []
        self.text = re.sub(r"\s+", " ", "".join(self.words))

    def handle_starttag(self, tag, attrs):
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value)
            if name in {"href", "xlink:href", "src"}:
                self.links.append(value)
            assert not name.startswith("on"), f"{tag} has a script in {name}"

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture(scope="module")
def record():
    return make_record()


@pytest.fixture(scope="module")
def page(record):
    return Page(render_html(build_report(record), record))


def test_the_page_needs_nothing_else(page, record):
    assert all(link.startswith("#") for link in page.links)
    assert {link[1:] for link in page.links} <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))
    assert not {"script", "link", "img", "iframe", "metadata"} & set(page.tags)
    text = render_html(build_report(record), record)
    assert "http://" not in text
    assert "https://" not in text
    assert re.search(r"url\((?!#)", text) is None
    assert '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'' in text


def test_the_page_says_the_headline(page, record):
    report = build_report(record)
    for words in (
        f"{report.search.scored}candidates scored",
        f"{report.search.trained}candidates trained",
        f"{report.search.best_accuracy:.2%}".replace("%", " %"),
        report.search.best_arch,
        "Replay: the clock ran 1,440 times as fast",
        "had it run at once",
        "12 W per busy core (model)",
        "CC BY 4.0",
        "National Energy System Operator",
    ):
        assert words in page.text, words
    assert page.text.count("✓ pass") == len(report.checks)
    assert "✗ FAIL" not in page.text


def test_the_figures_are_there_and_labelled(page):
    assert page.tags.count("svg") == 3
    for label in (
        "carbon intensity",
        "(g CO₂e/kWh)",
        "time (UTC)",
        "emissions (g CO₂e)",
        "validation accuracy (%)",
    ):
        assert label in page.text
    assert "training suspended" in page.text
    assert "taken for clean" in page.text


def test_a_forecast_is_told_from_what_was_measured(record):
    readings = [
        reading(n, quality=Quality.FORECAST if n >= STEPS // 2 else Quality.ACTUAL) for n in range(STEPS)
    ]
    entries = [row for row in record.entries if row.start < readings[STEPS // 2].start]
    mixed = replace(record, readings=readings, entries=entries)
    text = Page(render_html(build_report(mixed), mixed)).text
    assert "measured or estimated" in text
    assert " forecast " in text


def test_a_failed_check_is_shown(record):
    broken = replace(record, jobs=record.jobs[1:])
    report = build_report(broken)
    assert Page(render_html(report, broken)).text.count("✗ FAIL") == 1
    assert "FAILED every joule has an owner" in render_text(report)


def test_what_strangers_wrote_is_escaped(record):
    hostile = replace(record, study="<script>alert(1)</script>", policy="$x_{y$ & <b>")
    slots = [replace(record.slots[0], id="cpu-0"), replace(record.slots[1], id="<i>$\\frac")]
    hostile = replace(hostile, slots=slots)
    page = Page(render_html(build_report(hostile), hostile))
    assert not {"script", "b>", "i"} & set(page.tags)
    assert "<script>alert(1)</script>" in page.text
    assert "<i>$\\frac" in page.text


def test_an_empty_run_has_a_page():
    record = make_empty_record()
    page = Page(render_html(build_report(record), record))
    assert "svg" not in page.tags
    assert "the ledger has no rows" in page.text
    assert "No training has finished." in page.text


def test_json_is_canonical_and_carries_its_checksum(record):
    text = render_json(build_report(record))
    assert text == render_json(build_report(make_record()))
    content = json.loads(text)
    stated = content.pop("content_sha256")
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert stated == hashlib.sha256(canonical.encode()).hexdigest() == content_sha256(content)
    assert content["checks"][0].keys() == {"name", "pass", "detail"}
    assert content["period"]["start"] == "2023-01-10T14:00:00Z"
    assert content["totals"]["embodied_emissions_grams"] is None
    assert content["totals"]["missing"]["embodied_emissions_grams"]


def test_the_page_is_the_same_each_time(record):
    report = build_report(record)
    assert render_html(report, record) == render_html(report, record)


def test_both_files_are_written_whole_and_in_time(tmp_path, record):
    began = monotonic()
    path = write_report(record, tmp_path / "new" / "folder")
    assert monotonic() - began < 5.0
    assert path == tmp_path / "new" / "folder" / "report.html"
    assert sorted(file.name for file in path.parent.iterdir()) == ["report.html", "report.json"]
    checksum = json.loads((path.parent / "report.json").read_text("utf-8"))["content_sha256"]
    assert checksum in path.read_text("utf-8")


def test_a_report_that_cannot_be_made_leaves_the_old_one(tmp_path, record):
    path = write_report(record, tmp_path)
    before = path.read_bytes()
    mixed = (*record.entries[:-1], replace(record.entries[-1], signal=Signal.MARGINAL))
    with pytest.raises(ReportError):
        write_report(replace(record, entries=mixed), tmp_path)
    assert path.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 2


def test_the_summary_is_plain_text(record):
    report = build_report(record)
    text = render_text(report)
    assert f"{report.search.scored} of {report.search.candidates} candidates" in text
    assert report.search.best_arch in text
    assert "it would have emitted" in text
    assert "9 of 9 checks passed" in text
    assert "not known: the ledger has no rows" in render_text(build_report(make_empty_record()))
