"""Processes as Linux tells of them. A process is its pid and its start time: pids are used again."""

import os
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

CLOCK_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


def start_ticks(pid: int) -> int | None:
    """Give when the process started, in clock ticks since boot; None if it is gone or a zombie."""
    fields = _stat(pid)
    return None if fields is None or fields[0] in {"Z", "X"} else int(fields[19])


def is_alive(pid: int, started: int) -> bool:
    """Whether that very process still runs."""
    return start_ticks(pid) == started


def cpu_seconds(pid: int) -> float | None:
    """Give the CPU time of the process, user and system, its children not included; None if it is gone."""
    fields = _stat(pid)
    return None if fields is None else (int(fields[11]) + int(fields[12])) / CLOCK_TICKS_PER_SECOND


def send(pid: int, started: int, number: signal.Signals) -> bool:
    """Send a signal to that very process; say whether it was there."""
    if not is_alive(pid, started):
        return False
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class Done:
    """How a process ended: exit status, CPU seconds with those of its children, and its standard error."""

    status: int
    cpu_seconds: float
    complaint: str


def run_measured(command: Sequence[str]) -> Done:
    """Run a command to its end and measure it; its standard output is thrown away."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None  # noqa: S101 -- opened as a pipe in the line above
    with process.stderr as stream:
        complaint = stream.read().strip()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return Done(process.returncode, usage.ru_utime + usage.ru_stime, complaint)


def _stat(pid: int) -> list[str] | None:
    """Fields of /proc/PID/stat from the third on (proc(5)); the second, the name, may hold anything."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return text.rpartition(")")[2].split()
