"""The live view, read from what a terminal would show."""

from dataclasses import replace
from datetime import timedelta
from io import StringIO

import pytest
from report_records import START, STEP, STEPS, intensity, reading
from rich.console import Console

from carbon_nas.model import (
    Decision,
    GridState,
    GridView,
    JobKind,
    JobState,
    Quality,
    SearchProgress,
    Window,
)
from carbon_nas.serve.terminal import LiveView, SlotView, render

NOW = 36
ARCH = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|nor_conv_1x1~0|none~1|avg_pool_3x3~2|"
GRID = GridView(
    zone="GB",
    now=START + NOW * STEP,
    state=GridState.FRESH,
    current=reading(NOW),
    history=tuple(reading(n) for n in range(NOW)),
    forecast=tuple(reading(n, quality=Quality.FORECAST) for n in range(NOW + 1, STEPS)),
)
FULL = LiveView(
    zone="GB",
    now=GRID.now + timedelta(minutes=10),
    clock_speed=1440.0,
    grid=GRID,
    decision=Decision(2, 0, Window.CLEAN, "119 g/kWh is below the 40th percentile"),
    jobs={
        (JobKind.SCORE, JobState.DONE): 33,
        (JobKind.TRAIN, JobState.RUNNING): 2,
        (JobKind.TRAIN, JobState.SUSPENDED): 5,
    },
    slots=(SlotView("cpu-0", JobKind.TRAIN, "train-014", ARCH, 0.42), SlotView("cpu-1")),
    progress=SearchProgress(320, 14, ARCH, 0.8793, 0.6, paused=7),
    energy_joules=4100.0,
    emissions_grams=0.21,
    at_once_emissions_grams=0.25,
    elapsed_share=0.37,
    events=tuple(f"event {n}" for n in range(12)),
)


def show(view, width=80, height=24, *, styles=False):
    console = Console(
        record=True,
        width=width,
        height=height,
        file=StringIO(),
        force_terminal=True,
        color_system="truecolor",
    )
    console.print(render(view))
    return console.export_text(styles=styles)


@pytest.mark.parametrize(("width", "height"), [(80, 24), (120, 24), (120, 40), (200, 60)])
def test_it_fits_the_terminal(width, height):
    lines = show(FULL, width, height).splitlines()
    assert len(lines) < height
    assert max(map(len, lines)) <= width


def test_it_shows_what_matters():
    text = show(FULL)
    for words in (
        "zone GB",
        "Wed 2023-01-11 08:10 UTC",
        "replay, 1,440x",
        "37%",
        f"{intensity(NOW):.0f} g/kWh",
        "actual from csv, fresh",
        "taken for clean: 119 g/kWh is below the 40th percentile",
        "320",
        "paused  7",
        "1.14 Wh",
        "0.210 g CO₂e",
        "0.250 g CO₂e",
        "best 87.93% |nor_conv_3x3~0|",
        "42%",
        "▲now",
        "event 11",
    ):
        assert words in text, words
    assert "event 8" not in text
    counts = {
        line.split()[1]: line.split()[2:7]
        for line in text.splitlines()
        if line.startswith(("│ score ", "│ train "))
    }
    assert counts == {"score": ["0", "0", "0", "33", "0"], "train": ["0", "2", "5", "0", "0"]}


def test_a_taller_terminal_shows_more():
    short, tall = show(FULL, 120, 24), show(FULL, 120, 40)
    assert "event 4" not in short
    assert "event 4" in tall
    assert tall.count("█") > short.count("█")


def test_bars_are_as_high_as_the_intensity():
    step = [replace(reading(n), grams_per_kwh=400.0 if n >= NOW + 10 else 100.0) for n in range(STEPS)]
    grid = replace(GRID, history=tuple(step[:NOW]), current=step[NOW], forecast=tuple(step[NOW + 1 :]))
    rows = [line for line in show(replace(FULL, grid=grid)).splitlines() if "█" in line]
    assert len(rows) == 4
    assert rows[0].index("█") == rows[2].index("█") == rows[-1].index("█") + 70 // 3 + 10
    assert rows[-1].count("█") == 70


def test_colours_follow_the_policys_line():
    green, red = "\x1b[1;32m", "\x1b[1;31m"
    value = f"{intensity(NOW):.0f} g/kWh"
    assert f"{green}{value}" in show(replace(FULL, clean_below_grams_per_kwh=intensity(NOW) + 1), styles=True)
    assert f"{red}{value}" in show(replace(FULL, clean_below_grams_per_kwh=intensity(NOW) - 1), styles=True)


def test_before_anything_is_known_nothing_is_zero():
    text = show(LiveView("GB", START))
    for words in (
        "intensity now not known",
        "no intensities to show",
        "no decision yet",
        "energy  not known",
        "emitted not known",
        "nothing trained yet",
        "no slots",
    ):
        assert words in text, words
    assert "0 g" not in text
    assert "at once" not in text


def test_a_degraded_grid_is_not_taken_for_clean():
    grid = GridView("GB", GRID.now, GridState.DEGRADED, None, history=GRID.history[:10])
    text = show(replace(FULL, grid=grid, decision=Decision(0, 2, Window.DIRTY, "the intensity is not known")))
    assert "not known (degraded): treated as dirty" in text
    assert "taken for dirty: the intensity is not known" in text


def test_gaps_in_the_forecast_stay_gaps():
    assert "····" in show(replace(FULL, grid=replace(GRID, forecast=GRID.forecast[:4])))
    assert "·" not in show(FULL).split("taken for")[0].split("▲now")[0].replace("│", "")


def test_markup_in_names_is_shown_as_it_is():
    slots = (SlotView("[red]cpu", JobKind.SCORE, "score-1", "[bold]16 architectures", None),)
    text = show(replace(FULL, slots=slots, events=("[link=x]done",)))
    for words in ("[red]cpu", "[bold]16", "[link=x]done"):
        assert words in text
