"""The daemon as a real process: started, watched through its files and its port, signalled, killed.

Nothing waits a fixed time: `wait_until` looks again until a condition holds, the process ends or a deadline has
passed.
"""

import contextlib
import hashlib
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx

from carbon_nas import state_directory
from carbon_nas.clock import monotonic
from carbon_nas.evaluate import protocol
from carbon_nas.execute import processes
from carbon_nas.store.sql import SqlStore

CRASHING = Path(__file__).with_name("daemon_crashing.py")
PATIENCE_SECONDS = 90.0
LOOK_AGAIN_SECONDS = 0.02

SMALL: Mapping[str, Mapping[str, Any]] = {
    "clock": {"replay_from": "2023-01-10T00:00:00Z"},
    "grid": {"zone": "GB", "providers": ["csv"]},
    "grid.csv": {"trace": "gb-2023-30min"},
    "policy": {"name": "always"},
    "space.nasbench201": {"channels": 4, "cells": 1},
    "controller": {"name": "random"},
    "search": {
        "max_scored": 4,
        "max_trained": 2,
        "queue_capacity": 4,
        "score_batch": 4,
        "minimum_pool": 4,
        "train_queue": 1,
    },
    "score": {"proxies": ["params", "flops"]},
    "train": {"epochs": 3, "checkpoint_seconds": 0.2},
    "executor.local": {"gpus": "none", "cpu_slots": 1},
    "energy": {"watts_per_core": 10.0, "sample_seconds": 0.5},
    "daemon": {"tick_seconds": 0.1, "report_seconds": 0.0, "stop_seconds": 30.0},
}
"""Scores four cells and trains two of them, one at a time, in about ten seconds."""

DIRTY: Mapping[str, Mapping[str, Any]] = {
    "policy": {"name": "threshold"},
    "policy__threshold": {"clean_below": 0.5, "dirty_above": 1.0, "minimum_dwell_minutes": 0},
}
"""No hour of any grid is clean."""


def write_config(path: Path, **changes: Mapping[str, Any]) -> Path:
    """Write `SMALL` with `changes`; `grid__csv` is the section `[grid.csv]`, and None takes a key out.

    Takes a free port unless one is given.
    """
    sections = {name: dict(values) for name, values in SMALL.items()}
    for name, values in changes.items():
        sections.setdefault(name.replace("__", "."), {}).update(values)
    sections["daemon"].setdefault("listen", f"127.0.0.1:{free_port()}")
    lines = ["seed = 3"]
    for name, values in sections.items():
        lines += [
            "",
            f"[{name}]",
            *(f"{key} = {json.dumps(value)}" for key, value in values.items() if value is not None),
        ]
    path.write_text("\n".join(lines) + "\n")
    return path


@contextlib.contextmanager
def daemons(folder: Path) -> Iterator[Callable[..., "Daemon"]]:
    """Give a function that starts daemons in `folder`; what is left of them at the end is killed.

    It takes the changes of `write_config`, the `name` of a configuration and its state directory, and `crash_at`.
    """
    made: list[Daemon] = []

    def start(*, name: str = "nas", crash_at: str | None = None, **changes: Mapping[str, Any]) -> Daemon:
        config = write_config(folder / f"{name}.toml", **changes)
        made.append(Daemon(config, folder / f"{name}-state", crash_at=crash_at))
        return made[-1]

    try:
        yield start
    finally:
        for daemon in made:
            daemon.kill()
            kill_runners(daemon.state)


def ended_search(folder: Path) -> Path:
    """Give the state directory of a search that has ended; no daemon runs."""
    with daemons(folder) as start:
        daemon = start(train={"epochs": 1})
        daemon.wait_until_finished()
        daemon.terminate()
    return daemon.state


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def cli(*arguments: object, stdin: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command line to its end."""
    return subprocess.run(
        [sys.executable, "-m", "carbon_nas", *map(str, arguments)],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "COLUMNS": "200", **environment},
        check=False,
    )


class Daemon:
    """One `carbon-nas run`; several in turn may have one state directory."""

    def __init__(self, config: Path, state: Path, *, crash_at: str | None = None) -> None:
        self.config, self.state = config, state
        self.url = f"http://{tomllib.loads(config.read_text())['daemon']['listen']}"
        self.log_path = config.with_suffix(".log")
        program = ["-m", "carbon_nas"] if crash_at is None else [str(CRASHING), crash_at]
        with self.log_path.open("a") as log:
            self._begins_at = log.tell()
            self.process = subprocess.Popen(
                [sys.executable, *program, "run", "--config", str(config), "--state-dir", str(state)],
                stdin=subprocess.DEVNULL,
                stderr=log,
            )

    @property
    def log(self) -> str:
        """What this process has logged so far."""
        return self.log_path.read_bytes()[self._begins_at :].decode()

    def wait_until(
        self, condition: Callable[[], Any], what: str, *, patience_seconds: float = PATIENCE_SECONDS
    ) -> Any:
        """Look until `condition` gives something true, and give it.

        Raises:
            AssertionError: it took too long, or the daemon ended before.
        """

        def alive() -> bool:
            return self.process.poll() is None

        try:
            return wait_until(condition, what, possible=alive, patience_seconds=patience_seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}; status {self.process.poll()}\n{self.log[-3000:]}") from error

    def wait_for_log(self, *parts: str) -> str:
        """Wait for a line that holds all `parts`, and give it."""
        return self.wait_until(
            lambda: next((x for x in self.log.splitlines() if all(p in x for p in parts)), ""),
            " ".join(parts),
        )

    def wait_for_end(self) -> int:
        """Wait until it has left by itself; give its exit status."""
        return self.process.wait(PATIENCE_SECONDS)

    def children(self, command: str) -> list[int]:
        """Give its child processes whose command line holds `command`."""
        threads = Path(f"/proc/{self.process.pid}/task").glob("*/children")
        pids = [pid for children in threads for pid in children.read_text().split()]
        return [int(pid) for pid in pids if command in command_of(int(pid))]

    def stays_alive(self, seconds: float) -> bool:
        """Let real time pass, and say whether it still runs."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return True
        return False

    def kill(self) -> None:
        """kill -9, and see it gone."""
        self.process.kill()
        self.process.wait(PATIENCE_SECONDS)

    def terminate(self) -> float:
        """SIGTERM; require exit status 0, and give how many seconds it took."""
        begun = monotonic()
        self.process.send_signal(signal.SIGTERM)
        status = self.wait_for_end()
        assert status == 0, self.log[-3000:]
        return monotonic() - begun

    def reconfigure(self, **changes: Mapping[str, Any]) -> None:
        """Write the configuration anew, with `changes` from `SMALL`, and SIGHUP."""
        write_config(self.config, daemon={"listen": self.url.removeprefix("http://")}, **changes)
        self.process.send_signal(signal.SIGHUP)

    def get(self, path: str) -> httpx.Response:
        return httpx.get(f"{self.url}{path}", timeout=10.0)

    def metric(self, name: str, **labels: str) -> float | None:
        """Give a sample of /metrics, None if it is not there."""
        inside = ",".join(f'{key}="{value}"' for key, value in sorted(labels.items()))
        sample = f"{name}{{{inside}}}" if labels else name
        for line in self.get("/metrics").text.splitlines():
            if line.rpartition(" ")[0] == sample:
                return float(line.rpartition(" ")[2])
        return None

    def wait_until_ready(self) -> None:
        self.wait_for_log("running", f"state={self.state}")

    def wait_until_finished(self) -> None:
        """Wait until the two trainings that `SMALL` asks for are done."""
        self.wait_until(lambda: self.trained() == 2, "end of both trainings")

    def trained(self) -> int:
        found: int = self.query("select count(*) from jobs where kind = 'train' and state = 'done'")[0][0]
        return found

    def query(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        return query(self.state, sql, *values)

    def training(self, *, after_fraction: float = 0.0) -> str | None:
        """Give the job of a training that is under way and beyond `after_fraction`."""
        running = self.query("select id, attempt from jobs where kind = 'train' and state = 'running'")
        for job_id, attempt in running:
            progress = protocol.last_progress(self.state / "jobs" / job_id, attempt)
            if progress is not None and progress.fraction > after_fraction:
                return str(job_id)
        return None


def wait_until(
    condition: Callable[[], Any],
    what: str,
    *,
    possible: Callable[[], bool] = lambda: True,
    patience_seconds: float = PATIENCE_SECONDS,
) -> Any:
    """Look until `condition` gives something true, and give it; no longer than that is `possible`."""
    limit, never = monotonic() + patience_seconds, threading.Event()
    while True:
        last = not possible() or monotonic() > limit
        if found := condition():
            return found
        assert not last, f"no {what}"
        never.wait(LOOK_AGAIN_SECONDS)


def command_of(pid: int) -> str:
    """Give a process's command line; nothing if it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def everything(folder: Path) -> dict[Path, str]:
    """Give every path below `folder`, with the digest of its content."""
    return {
        path.relative_to(folder): hashlib.sha256(path.read_bytes()).hexdigest()
        if path.is_file()
        else "folder"
        for path in sorted(folder.rglob("*"))
    }


def content(state: Path) -> dict[Path, str]:
    """Give `everything` that is kept there; SQLite's own shared index and empty log of a reader are not."""
    return {
        path: digest for path, digest in everything(state).items() if not path.name.endswith(("-shm", "-wal"))
    }


def query(state: Path, sql: str, *values: object) -> list[tuple[Any, ...]]:
    """Ask the store's file itself; nothing while it has no tables yet."""
    path = state / state_directory.DATABASE
    if not path.exists():
        return [(0,)] if "count(" in sql else []
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10.0)) as database:
        try:
            return database.execute(sql, values).fetchall()
        except sqlite3.OperationalError as error:
            if "no such table" not in str(error):
                raise
            return [(0,)] if "count(" in sql else []


@contextlib.contextmanager
def reading(state: Path) -> Iterator[SqlStore]:
    with contextlib.closing(state_directory.open_for_reading(state)) as store:
        yield store


def runners(state: Path) -> list[int]:
    """Give the living runner processes of `state`: those whose output goes to its logs."""
    logs = str(state.resolve() / "runners")
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if str((folder / "fd/1").readlink()).startswith(logs) and processes.start_ticks(int(folder.name)):
                found.append(int(folder.name))
    return found


def kill_runners(state: Path) -> list[int]:
    """kill -9 every runner's whole group; give the runners."""
    found = runners(state)
    for pid in found:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
    return found
