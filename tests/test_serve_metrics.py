"""The metrics, as Prometheus reads them."""

import shutil
import subprocess

import pytest
from metrics_snapshots import INTENSITY, NOW, beginning, snapshot
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.parser import text_string_to_metric_families

from carbon_nas.model import JobKind, JobState
from carbon_nas.serve.metrics import registry_of


def text(now):
    return generate_latest(registry_of(lambda: now)).decode()


def scrape(now):
    """Give each sample's value by its name and labels."""
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text(now))
        for sample in family.samples
    }


def test_every_figure_is_the_snapshots():
    found = scrape(snapshot())
    wanted = {
        ("carbon_nas_build_info", ("version", "1.2.3")): 1,
        (
            INTENSITY,
            ("basis", "direct"),
            ("provider", "csv"),
            ("quality", "actual"),
            ("signal", "average"),
            ("zone", "GB"),
        ): 123.5,
        ("carbon_nas_grid_state", ("state", "fresh")): 1,
        ("carbon_nas_grid_state", ("state", "stale")): 0,
        ("carbon_nas_window", ("window", "clean")): 1,
        ("carbon_nas_window", ("window", "dirty")): 0,
        ("carbon_nas_jobs", ("kind", "train"), ("state", "running")): 2,
        ("carbon_nas_jobs", ("kind", "score"), ("state", "done")): 7,
        ("carbon_nas_jobs", ("kind", "score"), ("state", "failed")): 0,
        ("carbon_nas_energy_joules_total", ("work", "train")): 3.6e6 + 100,
        ("carbon_nas_energy_joules_total", ("work", "idle")): 50,
        ("carbon_nas_energy_joules_total", ("work", "controller")): 0,
        ("carbon_nas_emissions_grams", ("quality", "stale"), ("work", "train")): 5,
        ("carbon_nas_slots",): 4,
        ("carbon_nas_slots_busy",): 2,
        ("carbon_nas_candidates_scored_total",): 10,
        ("carbon_nas_candidates_trained_total",): 3,
        ("carbon_nas_candidates_paused",): 4,
        ("carbon_nas_hypervolume_ratio",): 0.5,
        ("carbon_nas_best_quality_ratio",): 0.87,
        ("carbon_nas_last_tick_timestamp_seconds",): NOW.timestamp(),
        ("carbon_nas_feed_last_success_timestamp_seconds",): NOW.timestamp() - 300,
        ("carbon_nas_feed_requests_total", ("outcome", "ok"), ("provider", "csv")): 9,
        ("carbon_nas_feed_requests_total", ("outcome", "unavailable"), ("provider", "neso")): 1,
        ("carbon_nas_config_last_reload_successful",): 1,
        ("carbon_nas_forecaster_chosen", ("forecaster", "blend")): 1,
        ("carbon_nas_forecaster_chosen", ("forecaster", "weekly")): 0,
        ("carbon_nas_forecast_error_ratio", ("forecaster", "blend")): 0.125,
    }
    assert {key: found.get(key) for key in wanted} == wanted
    assert ("carbon_nas_forecast_error_ratio", ("forecaster", "persistence")) not in found
    assert sum(key[0] == "carbon_nas_jobs" for key in found) == len(JobKind) * len(JobState)


def test_what_is_not_known_is_absent_and_not_zero():
    found = scrape(beginning())
    absent = {
        INTENSITY,
        "carbon_nas_best_quality_ratio",
        "carbon_nas_forecaster_chosen",
        "carbon_nas_last_tick_timestamp_seconds",
        "carbon_nas_feed_last_success_timestamp_seconds",
    }
    assert not absent & {key[0] for key in found}
    assert found["carbon_nas_grid_state", ("state", "degraded")] == 1
    assert (
        found["carbon_nas_window", ("window", "clean")]
        == found["carbon_nas_window", ("window", "dirty")]
        == 0
    )


def test_a_failed_reload_is_told():
    assert scrape(snapshot(reload_successful=False))["carbon_nas_config_last_reload_successful",] == 0


@pytest.mark.parametrize("now", [snapshot(), beginning()], ids=["running", "beginning"])
def test_the_names_keep_the_rules_for_names(now):
    """Of prometheus.io/docs/practices/naming: prefixed, base units, counters end in _total."""
    families = list(text_string_to_metric_families(text(now)))
    assert families
    for family in families:
        assert family.name.startswith("carbon_nas_")
        assert family.documentation
        assert not family.name.endswith(("_total", "_kwh", "_ms", "_kg", "_percent"))
    names = [family.name for family in families]
    assert len(set(names)) == len(names)
    assert generate_openmetrics(registry_of(lambda: now)).endswith(b"# EOF\n")


@pytest.mark.parametrize("now", [snapshot(), beginning()], ids=["running", "beginning"])
def test_promtool_has_nothing_to_say_against_it(now):
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (Debian: package prometheus)")
    checked = subprocess.run(
        [promtool, "check", "metrics"], input=text(now), text=True, capture_output=True, check=False
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


def test_each_daemon_has_a_registry_of_its_own():
    one, two = registry_of(snapshot), registry_of(beginning)
    assert generate_latest(one) != generate_latest(two)
