"""The report's figures: matplotlib drawings as SVG text to stand inline in the page.

Text and axes take the page's own colour (`currentColor`), so that they read on light and on dark ground; the
data colours are those of Okabe and Ito (2008), which stay apart for colour-blind readers on both.
"""

import io
import re
from collections.abc import Sequence
from datetime import datetime
from itertools import groupby
from typing import Any

import matplotlib as mpl
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from carbon_nas.energy.counterfactual import Segment, intensity_profile
from carbon_nas.energy.quantities import emissions_unit, energy_unit, significant
from carbon_nas.model import JobState, LedgerEntry, Quality, Transition, Window, Work
from carbon_nas.report.model import CostUnit, Report, SearchResults, TrainedCandidate
from carbon_nas.report.record import RunRecord
from carbon_nas.report.results import windows
from carbon_nas.report.rows import latest

INK = "#010203"  # replaced by currentColor when the figure is written
COLOURS = {Work.TRAIN: "#e69f00", Work.SCORE: "#56b4e9", Work.IDLE: "#8c8c8c", Work.CONTROLLER: "#cc79a7"}
WINDOW_COLOURS = {Window.CLEAN: "#009e73", Window.DIRTY: "#d55e00"}
MARK = "#d55e00"
LINES: tuple[tuple[str, Any, frozenset[Quality]], ...] = (
    ("measured or estimated", "solid", frozenset({Quality.ACTUAL, Quality.ESTIMATED})),
    ("forecast", (0, (4, 2)), frozenset({Quality.FORECAST})),
    ("stand-in (stale or fallback)", (0, (1, 1.5)), frozenset({Quality.STALE, Quality.FALLBACK})),
)
STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "carbon-nas",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Verdana", "Arial", "sans-serif"],
    "font.size": 10,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.alpha": 0.15,
    "legend.frameon": False,
    "legend.fontsize": 9,
} | dict.fromkeys(
    ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color", "grid.color"), INK
)


def timeline_svg(record: RunRecord) -> str:
    """Draw the intensity over time, and below it what each slot did."""
    rows = latest(record.entries)
    with mpl.rc_context(STYLE):
        lanes = [slot.id for slot in record.slots]
        figure = Figure(figsize=(9, 3.9 + 0.32 * len(lanes)), layout="constrained")
        top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(3.0, 0.5 + 0.38 * max(len(lanes), 1)))
        _draw_intensity(top, record, rows)
        _draw_lanes(bottom, record, rows, lanes)
        bottom.set_xlim(record.start, record.end)
        locator = AutoDateLocator(minticks=5, maxticks=9)  # type: ignore[no-untyped-call]
        bottom.xaxis.set_major_locator(locator)
        formatter = ConciseDateFormatter(locator, show_offset=False)  # type: ignore[no-untyped-call]
        bottom.xaxis.set_major_formatter(formatter)
        bottom.set_xlabel("time (UTC)")
        return _svg(figure, "timeline")


def work_svg(report: Report) -> str:
    """Draw energy and emissions by kind of work as two rows of bars."""
    shares = report.breakdown.by_work
    energy = energy_unit([report.totals.energy_kwh])
    emissions = emissions_unit([report.totals.emissions_grams])
    names = [share.key for share in shares]
    colours = [COLOURS[Work(name)] for name in names]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9, 0.9 + 0.38 * max(len(names), 1)), layout="constrained")
        left, right = figure.subplots(1, 2, sharey=True)
        panels = (
            (left, f"energy ({energy.symbol})", [share.energy_kwh * energy.factor for share in shares]),
            (
                right,
                f"emissions ({emissions.symbol} CO₂e)",
                [share.emissions_grams * emissions.factor for share in shares],
            ),
        )
        for axes, label, values in panels:
            bars = axes.barh(names, values, color=colours, height=0.65)
            axes.bar_label(bars, fmt=significant, padding=4)
            axes.set_xlabel(label)
            axes.margins(x=0.14)
            axes.grid(axis="x")
        left.invert_yaxis()
        return _svg(figure, "work")


def is_placed(one: TrainedCandidate) -> bool:
    """Whether the figure of quality shows a training: one to the end, both of whose coordinates are known."""
    return not one.paused and one.accuracy is not None and one.inference_cost is not None


def quality_svg(search: SearchResults) -> str:
    """Draw accuracy against inference cost, coloured by what the training emitted, with the Pareto front."""
    placed = [one for one in search.trainings if is_placed(one)]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9, 4.2), layout="constrained")
        axes = figure.subplots()
        _draw_front(axes, [one for one in placed if one.on_front], search.cost)
        _draw_trainings(figure, axes, placed, search.cost)
        axes.set_xlabel(f"inference cost ({search.cost.label})")
        axes.set_ylabel("validation accuracy (%)")
        axes.margins(0.08)
        axes.grid()
        _legend_above(axes, axes.get_legend_handles_labels()[0])
        return _svg(figure, "quality")


def _draw_intensity(axes: Any, record: RunRecord, rows: Sequence[LedgerEntry]) -> None:
    found = {window for _, _, window in windows(record.decisions, record.start, record.end)}
    for begin, until, window in windows(record.decisions, record.start, record.end):
        axes.axvspan(begin, until, color=WINDOW_COLOURS[window], alpha=0.16, linewidth=0)
    profile = intensity_profile(
        [reading for reading in record.readings if reading.zone == record.zone],
        [row for row in rows if row.zone == record.zone],
    )
    inside = [one for one in profile.segments if one.end > record.start and one.start < record.end]
    handles: list[Any] = []
    for label, dashes, qualities in LINES:
        runs = _runs([one for one in inside if one.quality in qualities])
        for times, values in runs:
            axes.step(times, values, where="post", color=INK, linewidth=1.4, linestyle=dashes)
        handles += [Line2D([], [], color=INK, linestyle=dashes, label=label)] if runs else []
    handles += [
        Patch(color=WINDOW_COLOURS[window], alpha=0.3, label=f"taken for {window}")
        for window in Window
        if window in found
    ]
    axes.set_ylabel("carbon intensity\n(g CO₂e/kWh)")
    axes.set_ylim(bottom=0)
    axes.grid(axis="y")
    _legend_above(axes, handles)


def _runs(segments: Sequence[Segment]) -> list[tuple[list[datetime], list[float]]]:
    """Join segments that touch, so that a gap in what is known stays a gap in the line."""
    runs: list[tuple[list[datetime], list[float]]] = []
    for segment in segments:
        if not runs or runs[-1][0][-1] != segment.start:
            runs.append(([segment.start], [segment.grams_per_kwh]))
        times, values = runs[-1]
        values[-1] = segment.grams_per_kwh
        times.append(segment.end)
        values.append(segment.grams_per_kwh)
    return runs


def _draw_lanes(axes: Any, record: RunRecord, rows: Sequence[LedgerEntry], lanes: Sequence[str]) -> None:
    height = {Work.TRAIN: 0.62, Work.SCORE: 0.62, Work.IDLE: 0.2}
    drawn = {row.work for row in rows if row.slot_id in lanes and row.work in height}
    for place, slot in enumerate(lanes):
        mine = [row for row in rows if row.slot_id == slot and row.work in height]
        for work, thickness in height.items():
            spans = _spans([row for row in mine if row.work is work])
            bars = [(start, end - start) for start, end in spans]
            axes.broken_barh(bars, (place - thickness / 2, thickness), facecolors=COLOURS[work], linewidth=0)
    marks = _suspensions(record.transitions, rows, lanes)
    if marks:
        axes.scatter(
            *zip(*marks, strict=True), marker="X", s=46, color=MARK, edgecolors=INK, linewidths=0.7, zorder=5
        )
    axes.set_yticks(range(len(lanes)), lanes)
    axes.set_ylim(len(lanes) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    handles: list[Any] = [Patch(color=COLOURS[work], label=work.value) for work in height if work in drawn]
    if marks:
        handles.append(
            Line2D(
                [],
                [],
                marker="X",
                markersize=7,
                linestyle="none",
                color=MARK,
                markeredgecolor=INK,
                label="training suspended",
            )
        )
    _legend_above(axes, handles)


def _spans(rows: Sequence[LedgerEntry]) -> list[tuple[datetime, datetime]]:
    """Join the rows of one job that touch; a thin gap is left between two jobs."""
    spans: list[tuple[datetime, datetime, str | None]] = []
    for _, group in groupby(
        sorted(rows, key=lambda row: row.start), key=lambda row: (row.job_id, row.attempt)
    ):
        for row in group:
            if spans and spans[-1][1] == row.start and spans[-1][2] == row.job_id:
                spans[-1] = (spans[-1][0], row.end, row.job_id)
            else:
                spans.append((row.start, row.end, row.job_id))
    return [(start, end) for start, end, _ in spans]


def _suspensions(
    transitions: Sequence[Transition], rows: Sequence[LedgerEntry], lanes: Sequence[str]
) -> list[tuple[datetime, int]]:
    """Give when and in which lane each suspension happened: where the job's last row before it is."""
    marks = []
    for step in transitions:
        if step.target is not JobState.SUSPENDED:
            continue
        before = [
            row for row in rows if row.job_id == step.job_id and row.start < step.at and row.slot_id in lanes
        ]
        if before:
            slot = max(before, key=lambda row: row.start).slot_id
            marks.append((step.at, lanes.index(str(slot))))
    return marks


def _draw_front(axes: Any, front: Sequence[TrainedCandidate], cost: CostUnit) -> None:
    ordered = sorted(front, key=lambda one: one.inference_cost or 0.0)
    axes.step(
        [(one.inference_cost or 0.0) / cost.scale for one in ordered],
        [100 * (one.accuracy or 0.0) for one in ordered],
        where="post",
        color="#009e73",
        linewidth=1.6,
        label="Pareto front: no other is both cheaper and more accurate",
    )


def _draw_trainings(figure: Figure, axes: Any, placed: Sequence[TrainedCandidate], cost: CostUnit) -> None:
    """Colour each training by what it emitted; leave it hollow where that is not known."""
    known = [one for one in placed if one.emissions_grams is not None]
    unknown = [one for one in placed if one.emissions_grams is None]
    unit = emissions_unit(one.emissions_grams for one in known)
    grams = [one.emissions_grams * unit.factor for one in known if one.emissions_grams is not None]
    points = _scatter(
        axes, known, cost, "trained architecture", c=grams, cmap=mpl.colormaps["cividis"].resampled(6)
    )
    if unknown:
        _scatter(axes, unknown, cost, "emissions not known", facecolors="none")
    bar = figure.colorbar(points, ax=axes, pad=0.02)
    bar.set_label(f"emissions of its training ({unit.symbol} CO₂e)")
    bar.outline.set_visible(False)


def _scatter(axes: Any, placed: Sequence[TrainedCandidate], cost: CostUnit, label: str, **style: Any) -> Any:
    return axes.scatter(
        [one.inference_cost / cost.scale for one in placed if one.inference_cost is not None],
        [100 * one.accuracy for one in placed if one.accuracy is not None],
        s=70,
        edgecolors=INK,
        linewidths=0.8,
        zorder=3,
        label=label,
        **style,
    )


def _legend_above(axes: Any, handles: Sequence[Any]) -> None:
    if handles:
        axes.legend(
            handles=handles,
            loc="lower left",
            bbox_to_anchor=(-0.01, 1.0),
            ncols=len(handles),
            borderaxespad=0.2,
        )


def _svg(figure: Figure, prefix: str) -> str:
    """Write the figure as an `<svg>` element whose ids are its own and whose ink is the page's."""
    text = io.StringIO()
    FigureCanvasSVG(figure).print_svg(text, metadata={"Date": None})  # type: ignore[no-untyped-call]
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\s(xmlns(:xlink)?|version)="[^"]*"', "", svg)
    svg = re.sub(r'<svg([^>]*?) width="[^"]*"', r"<svg\1", svg, count=1)
    svg = re.sub(r'<svg([^>]*?) height="[^"]*"', r"<svg\1", svg, count=1)
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{prefix}-", svg)
    return svg.replace(INK, "currentColor")
