"""The report for people: one HTML file that needs nothing else, neither a script nor the network."""

from collections.abc import Mapping
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from carbon_nas.energy.quantities import (
    emissions_text,
    emissions_unit,
    energy_text,
    energy_unit,
    significant,
)
from carbon_nas.model import EnergyMethod, Quality
from carbon_nas.report.json import content_sha256, to_plain
from carbon_nas.report.model import Report
from carbon_nas.report.plots import is_placed, quality_svg, timeline_svg, work_svg
from carbon_nas.report.record import RunRecord
from carbon_nas.report.words import comparison, duration_text

TOP = 20
"""Trainings and jobs shown before the rest is folded away; `report.json` holds them all."""

QUALITY_WORDS = {
    Quality.ACTUAL: "measured by the grid's operator",
    Quality.ESTIMATED: "estimated by the provider",
    Quality.FORECAST: "forecast",
    Quality.STALE: "the last known value, carried forward",
    Quality.FALLBACK: "a stated constant, because nothing was known",
}
METHOD_WORDS = {
    EnergyMethod.COUNTER: "the device's own energy counter",
    EnergyMethod.POWER: "power readings, integrated",
    EnergyMethod.MODEL: "the stated model",
}


def render_html(report: Report, record: RunRecord) -> str:
    """Write the page. `record` is what `report` was made from; the figures draw its intervals."""
    environment = Environment(
        loader=PackageLoader("carbon_nas.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "energy": energy_text,
        "emissions": emissions_text,
        "significant": significant,
        "duration": duration_text,
        "breakable": _breakable,
        "percent": lambda share: f"{share:.1%}",
        "grouped": lambda number: f"{number:,.0f}",
        "utc": lambda when: f"{when:%Y-%m-%d %H:%M} UTC",
    }
    return environment.get_template("report.html").render(
        report=report,
        top=TOP,
        comparison=comparison(report),
        quality_words=QUALITY_WORDS,
        method_words=METHOD_WORDS,
        figures=_figures(report, record),
        units=_units(report),
        content_sha256=content_sha256(to_plain(report)),
    )


def _breakable(arch: str) -> Markup:
    """Let a long architecture break after each node, and not within an operation."""
    return escape(arch).replace("+", Markup("+<wbr>"))


def _figures(report: Report, record: RunRecord) -> Mapping[str, Markup]:
    """Draw what there is something to draw of. The text in the figures is escaped by matplotlib."""
    figures = {"timeline": timeline_svg(record)} if record.readings or record.entries else {}
    if report.breakdown.by_work:
        figures["work"] = work_svg(report)
    if any(map(is_placed, report.search.trainings)):
        figures["quality"] = quality_svg(report.search)
    return {name: Markup(svg) for name, svg in figures.items()}  # noqa: S704 -- our own drawing


def _units(report: Report) -> Mapping[str, Any]:
    """Choose one unit for each column, so that its numbers can be compared."""
    parts = report.breakdown
    views: Mapping[str, Any] = {
        "work": (*parts.by_work, report.totals),
        "job": parts.by_job,
        "day": parts.by_day,
        "source": parts.by_source,
        "training": report.search.trainings,
    }
    return {
        name: {
            "energy": energy_unit(row.energy_kwh for row in rows),
            "emissions": emissions_unit(row.emissions_grams for row in rows),
        }
        for name, rows in views.items()
    }
