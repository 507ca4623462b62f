"""Two moments of a daemon, as the metrics see them: in the middle of its work, and before it has begun."""

from datetime import UTC, datetime, timedelta

from fakes import make_reading

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
from carbon_nas.serve.metrics import Snapshot

NOW = datetime(2023, 6, 1, 12, tzinfo=UTC)
INTENSITY = "carbon_nas_grid_intensity_grams_per_kilowatt_hour"


def snapshot(**changes):
    values = {
        "version": "1.2.3",
        "grid": GridView("GB", NOW, GridState.FRESH, make_reading(NOW, 123.5)),
        "decision": Decision(2, 0, Window.CLEAN, "below"),
        "jobs": {(JobKind.TRAIN, JobState.RUNNING): 2, (JobKind.SCORE, JobState.DONE): 7},
        "totals": {
            (Work.TRAIN, Quality.ACTUAL): (3.6e6, 200.0),
            (Work.TRAIN, Quality.STALE): (100.0, 5.0),
            (Work.IDLE, Quality.ACTUAL): (50.0, 2.5),
        },
        "progress": SearchProgress(10, 3, "a", 0.87, 0.5, paused=4),
        "slots": 4,
        "slots_busy": 2,
        "last_tick": NOW,
        "last_feed_success": NOW - timedelta(minutes=5),
        "reload_successful": True,
        "feed_outcomes": {("csv", "ok"): 9, ("neso", "unavailable"): 1},
        "forecaster": "blend",
        "forecast_errors": {"blend": 12.5, "weekly": 30.0, "persistence": None},
    }
    return Snapshot(**(values | changes))


def beginning():
    """A daemon that has done nothing yet and knows nothing of the grid."""
    return snapshot(
        grid=GridView("GB", NOW, GridState.DEGRADED, None),
        decision=None,
        jobs={},
        totals={},
        progress=SearchProgress(),
        last_tick=None,
        last_feed_success=None,
        feed_outcomes={},
        forecaster=None,
        forecast_errors={},
    )
