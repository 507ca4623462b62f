"""The Prometheus metrics, made from the daemon's state at each scrape: nothing is counted twice over.

Names and units follow prometheus.io/docs/practices/naming: base units, `_total` on counters. An unknown
intensity has no sample; it is not 0.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from carbon_nas.model import (
    Decision,
    GridState,
    GridView,
    JobKind,
    JobState,
    Quality,
    SearchProgress,
    Window,
    Work,
)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The daemon's state, for one scrape."""

    version: str
    grid: GridView
    decision: Decision | None
    jobs: Mapping[tuple[JobKind, JobState], int]
    totals: Mapping[tuple[Work, Quality], tuple[float, float]]
    progress: SearchProgress
    slots: int
    slots_busy: int
    last_tick: datetime | None
    last_feed_success: datetime | None
    reload_successful: bool
    feed_outcomes: Mapping[tuple[str, str], int] = field(default_factory=Counter)
    forecaster: str | None = None  # whose forecast of our own is believed
    forecast_errors: Mapping[str, float | None] = field(
        default_factory=dict
    )  # of each: recent MAPE, per cent


class DaemonCollector(Collector):
    """Reads a snapshot when Prometheus asks."""

    def __init__(self, snapshot: Callable[[], Snapshot]) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterator[Metric]:
        """Give every metric."""
        now = self._snapshot()
        yield InfoMetricFamily("carbon_nas_build", "The running version", {"version": now.version})
        yield from _grid(now)
        yield from _forecast(now)
        yield from _work(now)
        yield from _search(now.progress)
        yield from _health(now)


def registry_of(snapshot: Callable[[], Snapshot]) -> CollectorRegistry:
    """Give a registry of our own: the process-wide one is never touched."""
    registry = CollectorRegistry()
    registry.register(DaemonCollector(snapshot))
    return registry


def _grid(now: Snapshot) -> Iterator[Metric]:
    zone, current = now.grid.zone, now.grid.current
    intensity = GaugeMetricFamily(
        "carbon_nas_grid_intensity_grams_per_kilowatt_hour",
        "Carbon intensity now; absent when unknown",
        labels=["zone", "provider", "signal", "basis", "quality"],
    )
    if current is not None:
        labels = [zone, current.provider, current.signal, current.basis, current.quality]
        intensity.add_metric([str(label) for label in labels], current.grams_per_kwh)
    yield intensity
    yield _one_hot("carbon_nas_grid_state", "How well the grid is known", "state", GridState, now.grid.state)
    window = None if now.decision is None else now.decision.window
    yield _one_hot("carbon_nas_window", "What the policy takes the present for", "window", Window, window)


def _forecast(now: Snapshot) -> Iterator[Metric]:
    believed = GaugeMetricFamily(
        "carbon_nas_forecaster_chosen",
        "1 for the forecaster that is believed, where no provider forecasts",
        labels=["forecaster"],
    )
    errors = GaugeMetricFamily(
        "carbon_nas_forecast_error_ratio",
        "Mean absolute error over the actual value, 24 h ahead, of the last 60 days",
        labels=["forecaster"],
    )
    for name, mape in now.forecast_errors.items():
        believed.add_metric([name], float(name == now.forecaster))
        if mape is not None:
            errors.add_metric([name], mape / 100)
    yield believed
    yield errors


def _work(now: Snapshot) -> Iterator[Metric]:
    jobs = GaugeMetricFamily("carbon_nas_jobs", "Jobs by kind and state", labels=["kind", "state"])
    for kind in JobKind:
        for state in JobState:
            jobs.add_metric([kind, state], now.jobs.get((kind, state), 0))
    yield jobs
    energy = CounterMetricFamily(
        "carbon_nas_energy_joules", "Energy in the ledger, PUE included", labels=["work"]
    )
    for work in Work:
        spent = [joules for (used_for, _), (joules, _) in now.totals.items() if used_for is work]
        energy.add_metric([work], math.fsum(spent))
    yield energy
    # No counter: when an intensity is observed at last, emissions move between qualities, and may fall.
    grams = GaugeMetricFamily(
        "carbon_nas_emissions_grams", "CO2e in the ledger, as restated", labels=["work", "quality"]
    )
    for (work, quality), (_, emitted) in now.totals.items():
        grams.add_metric([work, quality], emitted)
    yield grams
    yield GaugeMetricFamily("carbon_nas_slots", "Slots of the executor", now.slots)
    yield GaugeMetricFamily("carbon_nas_slots_busy", "Slots with a job", now.slots_busy)


def _search(progress: SearchProgress) -> Iterator[Metric]:
    yield CounterMetricFamily("carbon_nas_candidates_scored", "Scored architectures", progress.scored)
    yield CounterMetricFamily(
        "carbon_nas_candidates_trained", "Architectures trained to the end", progress.trained
    )
    yield GaugeMetricFamily(
        "carbon_nas_candidates_paused", "Architectures trained in part only", progress.paused
    )
    yield GaugeMetricFamily(
        "carbon_nas_hypervolume_ratio", "Share of the objective space dominated", progress.hypervolume
    )
    if progress.best_quality is not None:
        yield GaugeMetricFamily(
            "carbon_nas_best_quality_ratio", "Best validation accuracy", progress.best_quality
        )


def _health(now: Snapshot) -> Iterator[Metric]:
    for name, text, when in (
        ("carbon_nas_last_tick_timestamp_seconds", "When the engine last ticked", now.last_tick),
        (
            "carbon_nas_feed_last_success_timestamp_seconds",
            "When a provider last answered",
            now.last_feed_success,
        ),
    ):
        if when is not None:
            yield GaugeMetricFamily(name, f"{text}, in the daemon's clock", when.timestamp())
    requests = CounterMetricFamily(
        "carbon_nas_feed_requests", "Questions to providers", labels=["provider", "outcome"]
    )
    for (provider, outcome), count in now.feed_outcomes.items():
        requests.add_metric([provider, outcome], count)
    yield requests
    yield GaugeMetricFamily(
        "carbon_nas_config_last_reload_successful",
        "Whether the last reload of the configuration was taken",
        float(now.reload_successful),
    )


def _one_hot(
    name: str, text: str, label: str, values: "type[GridState] | type[Window]", present: object
) -> Metric:
    family = GaugeMetricFamily(name, text, labels=[label])
    for value in values:
        family.add_metric([value], float(value is present))
    return family
