"""The live view for a terminal: what the grid does, what the search does, and what it has emitted.

`render` is pure: a frozen view goes in, a rich renderable comes out, which fits itself to the width and height
it is given (80 x 24 and more).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from carbon_nas.energy.quantities import emissions_text, energy_text, significant
from carbon_nas.model import (
    JOULES_PER_KWH,
    Decision,
    GridView,
    JobKind,
    JobState,
    Reading,
    SearchProgress,
    Window,
)

WINDOW_STYLES = {Window.CLEAN: "bold green", Window.DIRTY: "bold red"}
STATES = {
    JobState.QUEUED: "wait",
    JobState.RUNNING: "run",
    JobState.SUSPENDED: "pause",
    JobState.DONE: "done",
    JobState.FAILED: "fail",
}
KIND_STYLES = {JobKind.SCORE: "cyan", JobKind.TRAIN: "yellow"}
LEVEL_STYLES = ("green", "yellow", "red")
EIGHTHS = " ▁▂▃▄▅▆▇█"
AXIS_WIDTH = 5
TALL = 32
"""From so many rows on there is room for a taller chart and more events."""


@dataclass(frozen=True, slots=True)
class SlotView:
    """One slot, and the job that it runs, if any. `progress` is the share done, 0 to 1."""

    id: str
    kind: JobKind | None = None
    job_id: str | None = None
    what: str = ""
    progress: float | None = None


@dataclass(frozen=True, slots=True)
class LiveView:
    """All that the terminal shows at one moment. None is shown as not known, never as zero.

    `clean_below_grams_per_kwh` is where the policy draws its line, if it has one; otherwise the chart is
    coloured by thirds of all that is known. `elapsed_share` is how much of a limited run has passed, 0 to 1.
    `at_once_emissions_grams` is what the same work would have emitted without waiting.
    """

    zone: str
    now: datetime
    clock_speed: float = 1.0
    grid: GridView | None = None
    decision: Decision | None = None
    clean_below_grams_per_kwh: float | None = None
    jobs: Mapping[tuple[JobKind, JobState], int] = field(default_factory=dict)
    slots: Sequence[SlotView] = ()
    progress: SearchProgress = field(default_factory=SearchProgress)
    energy_joules: float | None = None
    emissions_grams: float | None = None
    at_once_emissions_grams: float | None = None
    elapsed_share: float | None = None
    events: Sequence[str] = ()


def render(view: LiveView) -> RenderableType:
    """Show the view."""
    return _Screen(view)


class _Screen:
    """Lays the panels out for the console's size."""

    def __init__(self, view: LiveView) -> None:
        self._view = view

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        view = self._view
        tall = (options.height or console.height) >= TALL
        inner = options.max_width - 4
        yield _header(view)
        yield Panel(
            Group(*_grid(view, inner, 7 if tall else 4)),
            title="grid",
            title_align="left",
            border_style="dim",
        )
        middle = Table.grid(expand=True)
        middle.add_column(ratio=1)
        middle.add_column(ratio=1)
        middle.add_row(
            Panel(_jobs(view.jobs), title="jobs", title_align="left", border_style="dim", height=5),
            Panel(_totals(view), title="so far", title_align="left", border_style="dim", height=5),
        )
        yield middle
        yield _best(view.progress)
        yield _slots(view.slots, inner)
        yield from _events(view.events, 8 if tall else 3)


def _header(view: LiveView) -> RenderableType:
    title = Text.assemble(
        ("carbon-nas", "bold"), f"  zone {view.zone}  ", f"{view.now:%a %Y-%m-%d %H:%M} UTC"
    )
    if view.clock_speed != 1.0:
        title.append(f"  replay, {view.clock_speed:,.6g}x", "magenta")
    if view.elapsed_share is None:
        return title
    line = Table.grid(expand=True)
    line.add_column()
    line.add_column(justify="right", width=5)
    line.add_row(title, f"{view.elapsed_share:.0%}")
    return line


def _grid(view: LiveView, width: int, height: int) -> Iterator[RenderableType]:
    yield _intensity_now(view)
    yield from _chart(view, width, height)
    if view.decision is None:
        yield Text("no decision yet", "dim")
        return
    window = view.decision.window
    yield Text.assemble(
        (f"taken for {window}", WINDOW_STYLES[window]),
        f": {view.decision.reason}",
        no_wrap=True,
        overflow="ellipsis",
    )


def _intensity_now(view: LiveView) -> Text:
    grid = view.grid
    if grid is None or grid.current is None:
        state = (
            "not known"
            if grid is None
            else f"not known ({grid.state}): treated as dirty, deadlines still count"
        )
        return Text.assemble("intensity now ", (state, "bold yellow"))
    current = grid.current
    style = LEVEL_STYLES[_level(current.grams_per_kwh, *_thresholds(view))]
    return Text.assemble(
        "intensity now ",
        (f"{significant(current.grams_per_kwh)} g/kWh", f"bold {style}"),
        f"  {current.quality} from {current.provider}, {grid.state}",
        no_wrap=True,
        overflow="ellipsis",
    )


def _chart(view: LiveView, width: int, height: int) -> Iterator[Text]:
    """Draw a bar for each column's time: a third of them past, and the rest to come."""
    readings = _readings(view.grid)
    columns = max(width - AXIS_WIDTH - 1, 10)
    step = timedelta(minutes=30)
    past = columns // 3
    first = view.now - past * step
    values = [_value_at(readings, first + (n + 0.5) * step) for n in range(columns)]
    known = [value for value in values if value is not None]
    if not known:
        yield Text("no intensities to show", "dim")
        return
    top = max(known)
    low, high = _thresholds(view)
    for row in reversed(range(height)):
        label = {height - 1: f"{top:.0f}", 0: "0"}.get(row, "")
        line = Text(f"{label:>{AXIS_WIDTH - 1}} ", "dim")
        for n, value in enumerate(values):
            style = "" if value is None else LEVEL_STYLES[_level(value, low, high)]
            line.append(_block(value, top, row, height), f"{style} dim" if n < past else style)
        yield line
    yield _time_axis(first, step, columns, past)


def _block(value: float | None, top: float, row: int, height: int) -> str:
    if value is None:
        return "·" if row == 0 else " "
    eighths = round(value / top * height * 8) - row * 8
    return EIGHTHS[min(max(eighths, 1 if row == 0 else 0), 8)]


def _time_axis(first: datetime, step: timedelta, columns: int, past: int) -> Text:
    """Mark now and every sixth hour."""
    marks = [" "] * columns
    for n in range(columns):
        at = first + n * step
        begins = at.replace(minute=0, second=0, microsecond=0)
        if at.hour % 6 == 0 and at - begins < step and n + 5 <= columns and not past - 6 < n < past + 4:
            marks[n : n + 5] = f"{at:%H}:00"
    marks[past : past + 4] = "▲now"
    return Text(" " * AXIS_WIDTH + "".join(marks), "dim", no_wrap=True, overflow="crop")


def _readings(grid: GridView | None) -> list[Reading]:
    if grid is None:
        return []
    return [*grid.history, *([grid.current] if grid.current else []), *grid.forecast]


def _value_at(readings: Sequence[Reading], when: datetime) -> float | None:
    return next((reading.grams_per_kwh for reading in reversed(readings) if reading.covers(when)), None)


def _thresholds(view: LiveView) -> tuple[float, float]:
    """Give the bounds between low, middle and high; with a policy's line there is no middle."""
    if view.clean_below_grams_per_kwh is not None:
        return view.clean_below_grams_per_kwh, view.clean_below_grams_per_kwh
    values = sorted(reading.grams_per_kwh for reading in _readings(view.grid))
    return (values[len(values) // 3], values[2 * len(values) // 3]) if values else (0.0, 0.0)


def _level(value: float, low: float, high: float) -> int:
    return (value >= low) + (value >= high)


def _jobs(jobs: Mapping[tuple[JobKind, JobState], int]) -> Table:
    table = Table.grid(padding=(0, 1), expand=True)
    table.add_column()
    for _ in STATES:
        table.add_column(justify="right")
    table.add_row("", *(Text(label, "dim") for label in STATES.values()))
    for kind in JobKind:
        table.add_row(kind.value, *(str(jobs.get((kind, state), 0)) for state in STATES))
    return table


def _totals(view: LiveView) -> Table:
    energy = None if view.energy_joules is None else view.energy_joules / JOULES_PER_KWH
    table = Table.grid(padding=(0, 1))
    table.add_row(
        Text("scored", "dim"),
        f"{view.progress.scored:,}",
        Text("energy", "dim"),
        energy_text(energy),
    )
    table.add_row(
        Text("trained", "dim"),
        f"{view.progress.trained:,}",
        Text("emitted", "dim"),
        Text(
            f"{emissions_text(view.emissions_grams)}{' CO₂e' if view.emissions_grams is not None else ''}",
            "bold",
        ),
    )
    paused, at_once = view.progress.paused, view.at_once_emissions_grams
    if paused or at_once is not None:
        table.add_row(
            *((Text("paused", "dim"), f"{paused:,}") if paused else ("", "")),
            *(
                (Text("at once", "dim"), f"{emissions_text(at_once)} CO₂e")
                if at_once is not None
                else ("", "")
            ),
        )
    return table


def _best(progress: SearchProgress) -> Text:
    if progress.best_arch is None or progress.best_quality is None:
        return Text(f"best: nothing trained {'to the end ' if progress.paused else ''}yet", "dim")
    return Text.assemble(
        ("best ", "dim"),
        (f"{progress.best_quality:.2%} ", "bold"),
        progress.best_arch,
        no_wrap=True,
        overflow="ellipsis",
    )


def _slots(slots: Sequence[SlotView], width: int) -> RenderableType:
    if not slots:
        return Text("no slots", "dim")
    table = Table.grid(padding=(0, 1), expand=True)
    table.add_column(no_wrap=True, max_width=14)
    table.add_column(width=5)
    table.add_column(width=max(width // 4, 12))
    table.add_column(width=4, justify="right")
    table.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    for slot in slots:
        if slot.kind is None:
            table.add_row(Text(slot.id), Text("idle", "dim"), "", "", "")
            continue
        share = "" if slot.progress is None else f"{slot.progress:.0%}"
        style = KIND_STYLES[slot.kind]
        bar = ProgressBar(
            total=1.0, completed=slot.progress or 0.0, complete_style=style, finished_style=style
        )
        what = Text(slot.what or slot.job_id or "")
        table.add_row(Text(slot.id), Text(slot.kind.value, style), bar, share, what)
    return table


def _events(events: Sequence[str], most: int) -> Iterator[Text]:
    for event in events[-most:]:
        yield Text(event, "dim", no_wrap=True, overflow="ellipsis")
