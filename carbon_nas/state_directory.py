"""The state directory: who may use it, and what a run that goes on must have in common with its beginning.

carbon-nas.sqlite   the store          jobs/       a folder for each job: checkpoints, results
lock                held while in use  runners/    logs of the runner processes
report/             the newest report    cache/      answers of grid services
"""

import fcntl
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

from carbon_nas.clock import SystemClock
from carbon_nas.config import Config
from carbon_nas.errors import ConfigurationError, StoreError
from carbon_nas.store.sql import SqlStore

DATABASE = "carbon-nas.sqlite"


@contextmanager
def sole_user(directory: Path) -> Iterator[None]:
    """Make and hold the state directory: two daemons on one would run every job twice.

    Raises:
        ConfigurationError: another daemon holds it, or it cannot be written.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock = (directory / "lock").open("w")
    except OSError as error:
        raise ConfigurationError(f"cannot be written: {error.strerror}", file=directory) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigurationError(
                "in use by another daemon; stop it, or choose another --state-dir", file=directory
            ) from error
        yield


def open_for_reading(directory: Path) -> SqlStore:
    """Open the store without disturbing a daemon that may be using it.

    Raises:
        StoreError: there is none, or it is of another version.
    """
    path = directory / DATABASE
    if not path.exists():
        raise StoreError(
            f"no {DATABASE} in {directory}: has `carbon-nas run --state-dir` been started there?"
        )
    store = SqlStore(path, read_only=True)
    store.open()
    return store


def require_same_study(store: SqlStore, config: Config) -> None:
    """Refuse to mix in one study what cannot be compared.

    Raises:
        ConfigurationError: the seed, zone, space, data set, scoring, fidelities or training
            are not what the study was begun with.
    """
    identity: Mapping[str, object] = {
        "seed": config.seed,
        "grid.zone": config.grid.zone,
        "space": config.space.model_dump(mode="json"),
        "task.dataset": config.task.dataset,
        # Scores of another minibatch, or by other proxies, cannot be ranked with those that are kept.
        "score": config.score.model_dump(mode="json") | {"proxies": sorted(config.score.proxies)},
        # Rungs and controllers compare what was trained for equally long.
        "fidelity": asdict(config.fidelity),
        # Also because a training goes on from its checkpoint only under the settings it was begun with.
        "train": config.train.model_dump(mode="json", exclude={"checkpoint_seconds"}),
    }
    kept = store.get_meta("identity")
    if kept is None:
        store.set_meta("identity", json.dumps(identity))
        return
    for key, value in json.loads(kept).items():
        if value != identity[key]:
            raise ConfigurationError(
                f"the state directory holds a study with {value}, not {identity[key]}; use a new --state-dir",
                key=key,
            )


def replay_anchor(store: SqlStore, config: Config) -> datetime:
    """Give the real time at which this study's clock began, so that a replay goes on and does not begin anew.

    Raises:
        ConfigurationError: the clock is not the one the study was begun with.
    """
    section = config.clock.model_dump(mode="json")
    kept = store.get_meta("clock")
    if kept is None:
        anchor = SystemClock().now()
        store.set_meta("clock", json.dumps({"section": section, "anchor": anchor.isoformat()}))
        return anchor
    before = json.loads(kept)
    if before["section"] != section:
        raise ConfigurationError(
            f"the state directory was begun with {before['section']}; go on so, or use a new --state-dir",
            key="clock",
        )
    return datetime.fromisoformat(before["anchor"])
