"""The demo: the daemon itself, on a recorded grid, so fast that two days last about two minutes.

Nothing is made up: architectures are scored and trained, trainings are suspended and go on. Only the grid's
time is replayed, so the energy is what this machine really used, at the intensity of the replayed hour.
"""

import asyncio
import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, timedelta
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live

from carbon_nas import config as configuration
from carbon_nas import record, state_directory
from carbon_nas.config import Config
from carbon_nas.daemon import Daemon
from carbon_nas.report import Report, build_report, write_report
from carbon_nas.serve.terminal import render
from carbon_nas.views import live_view

CONFIGURATION = Path(__file__).with_name("data") / "demo.toml"
REPLAYED = timedelta(days=2)


@dataclass(frozen=True, slots=True)
class DemoResult:
    """The report, and where its pages lie."""

    report: Report
    page: Path

    def summary(self) -> dict[str, Any]:
        """Give the figures that `--json` prints."""
        search, totals = self.report.search, self.report.totals
        return {
            "scored": search.scored,
            "trained": search.trained,
            "suspended": search.suspended,
            "resumed": search.resumed,
            "best_accuracy": search.best_accuracy,
            "energy_kwh": totals.energy_kwh,
            "emissions_grams": totals.emissions_grams,
            "at_once_emissions_grams": self.report.counterfactual.at_once_emissions_grams,
        }


def run_demo(out: Path, *, seconds: float, console: Console | None) -> DemoResult:
    """Replay the demo's two days within `seconds`, show it on `console` if given, leave the report in `out`."""
    config = _configuration(seconds)
    with tempfile.TemporaryDirectory(prefix="carbon-nas-demo-") as state:
        with _screen(console) as live:
            asyncio.run(_daemon(config, Path(state), live).run())
        with contextlib.closing(state_directory.open_for_reading(Path(state))) as store:
            kept = record.load(store)
        return DemoResult(build_report(kept), write_report(kept, out))


def _daemon(config: Config, state: Path, live: Live | None) -> Daemon:
    assert config.clock.replay_from is not None  # noqa: S101 -- demo.toml says so
    begin = config.clock.replay_from.astimezone(UTC)

    def after_tick(daemon: Daemon) -> None:
        share = (daemon.clock.now() - begin) / REPLAYED
        if live is not None:
            live.update(render(live_view(daemon, elapsed_share=min(share, 1.0))), refresh=True)
        if share >= 1 or daemon.searcher.study.is_finished:
            daemon.stop()

    return Daemon(config, state, after_tick=after_tick)


def _configuration(seconds: float) -> Config:
    config = configuration.load(CONFIGURATION)
    clock = config.clock.model_copy(update={"speed": REPLAYED.total_seconds() / seconds})
    daemon = config.daemon.model_copy(update={"listen": None})
    return config.model_copy(update={"clock": clock, "daemon": daemon})


@contextlib.contextmanager
def _screen(console: Console | None) -> Iterator[Live | None]:
    if console is None:
        yield None
        return
    with Live(console=console, auto_refresh=False, transient=True) as live:
        yield live
