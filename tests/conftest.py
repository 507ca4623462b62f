"""For all tests: one thread for torch, before anything can import it; a clean environment; no deadline."""

import os
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
from cli_forks import CommandForks
from daemon_process import ended_search

os.environ["OMP_NUM_THREADS"] = "1"  # two cores are shared by two workers; threads only cost here

# How long an example takes is the machine's business.
hypothesis.settings.register_profile("shared", deadline=None)
hypothesis.settings.load_profile("shared")


@pytest.fixture(autouse=True)
def no_settings_of_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide what the caller's own daemon may have in its environment."""
    for name in list(os.environ):
        if name.startswith("CARBON_NAS_") or name in {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"}:
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def forked_cli() -> Iterator[CommandForks]:
    """What runs a command as `daemon_process.cli` does, but without Python's start."""
    forks = CommandForks()
    yield forks
    forks.close()


@pytest.fixture(scope="session")
def ended_state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The state directory of a search that has ended, for all that only look at it; no daemon runs."""
    return ended_search(tmp_path_factory.mktemp("ended"))
