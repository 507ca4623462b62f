"""The demo, as a user starts it."""

import json
import re

import pytest
from daemon_process import cli

from carbon_nas.clock import monotonic

KEYS = (
    "scored",
    "trained",
    "suspended",
    "resumed",
    "best_accuracy",
    "energy_kwh",
    "emissions_grams",
    "at_once_emissions_grams",
)
LOADED = re.compile(
    r"""(?:\b(?:src|href|srcset|poster|data|action)\s*=\s*["']?|url\(\s*["']?|@import\s+["']?)([^"')\s>]+)"""
)
"""Whatever a browser would fetch or follow of itself or at a click."""


def demo(out, *arguments, **environment):
    """Run it; give the line that it printed last, and the report that it left."""
    found = cli("demo", "--out", out, "--json", *arguments, **environment)
    assert found.returncode == 0, found.stderr
    assert found.stderr == ""
    summary = json.loads(found.stdout.splitlines()[-1])
    assert tuple(summary) == KEYS
    return summary, json.loads((out / "report.json").read_text())


def require_consistent(summary, report):
    search, totals = report["search"], report["totals"]
    assert {key: search[key] for key in KEYS[:5]} == {key: summary[key] for key in KEYS[:5]}
    assert totals["energy_kwh"] == summary["energy_kwh"]
    assert totals["emissions_grams"] == summary["emissions_grams"]
    assert report["counterfactual"]["at_once_emissions_grams"] == summary["at_once_emissions_grams"]
    assert summary["scored"] > summary["trained"] > 0
    assert summary["suspended"] >= summary["resumed"] >= 0
    assert 0.1 < summary["best_accuracy"] < 1
    # Two cores for a few minutes at 12 W each; Great Britain in 2023 lay between 30 and 400 g/kWh.
    assert 0 < summary["energy_kwh"] < 2 * 12 * 180 / 3.6e6
    assert 30 < summary["emissions_grams"] / summary["energy_kwh"] < 400


def require_self_contained(page):
    loaded = LOADED.findall(page)
    assert loaded
    assert [target for target in loaded if not target.startswith(("#", "data:"))] == []


def test_a_short_demo_scores_trains_and_leaves_a_report_that_says_the_same(tmp_path):
    smaller = {
        "CARBON_NAS_TRAIN__EPOCHS": "2",
        "CARBON_NAS_SEARCH__MAX_TRAINED": "2",
    }  # it ends when they are trained
    summary, report = demo(tmp_path / "out", "--seconds", "60", **smaller)
    require_consistent(summary, report)
    require_self_contained((tmp_path / "out/report.html").read_text())
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["out", "report.html", "report.json"]


@pytest.mark.drill
def test_the_full_demo_suspends_and_resumes_in_under_three_minutes(tmp_path):
    begun = monotonic()
    summary, report = demo(tmp_path / "out")
    assert monotonic() - begun < 180
    require_consistent(summary, report)
    assert summary["suspended"] >= 1
    assert summary["resumed"] >= 1
    assert report["checks"]
