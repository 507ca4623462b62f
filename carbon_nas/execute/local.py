"""Runs jobs on this machine: one runner process per slot, kept warm between jobs, found again after a restart.

A slot is a GPU, which the runner sees alone (`CUDA_VISIBLE_DEVICES`), or where there is none a share of the CPU.
A runner that outlives its daemon finishes its job by itself: what it found is in the job's directory, which is
all that `poll` needs.
"""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from carbon_nas.clock import monotonic
from carbon_nas.errors import ExecutorError
from carbon_nas.evaluate import protocol
from carbon_nas.execute import gpus, processes
from carbon_nas.model import Handle, JobSpec, RunState, RunStatus, Slot

INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "PYTHONPATH")
"""What a runner's environment keeps of ours: not the notification socket, the watchdog or any credential."""

CLOSE_SECONDS = 10.0
"""How long an idle runner may take to leave when the daemon stops."""


@dataclass(frozen=True)
class LocalOptions:
    """The slots of this machine.

    `gpus` takes all that NVML shows, or none. `cpu_slots` is how many jobs run on the CPU; by default one per
    `threads_per_slot` cores where there is no GPU, and none where there is. A runner without a job leaves after
    `linger_seconds` and so gives its memory back.
    """

    gpus: Literal["all", "none"] = "all"
    cpu_slots: int | None = None
    threads_per_slot: int = 1
    linger_seconds: float = 30.0

    def __post_init__(self) -> None:
        if self.threads_per_slot < 1:
            raise ValueError("threads_per_slot must be at least 1")
        if self.cpu_slots is not None and self.cpu_slots < 0:
            raise ValueError("cpu_slots cannot be negative")
        if not self.linger_seconds >= 0:
            raise ValueError("linger_seconds cannot be negative")


@dataclass(slots=True)
class _Runner:
    """A runner process of ours, and what it does."""

    process: "subprocess.Popen[str]"
    started: int
    handle: Handle | None = None
    idle_since: float = 0.0
    told_to_leave: bool = False


class LocalExecutor:
    """See `interfaces.Executor`."""

    Options = LocalOptions

    def __init__(self, options: LocalOptions, *, zone: str, directory: Path) -> None:
        self._options = options
        self._zone = zone
        self._directory = directory
        self._runners: dict[str, _Runner] = {}
        self._leaving: list[subprocess.Popen[str]] = []
        self._slots: tuple[Slot, ...] | None = None
        self._used: dict[str, tuple[Handle, float]] = {}  # by slot: the attempt last polled there

    def capacity(self) -> Sequence[Slot]:
        """Give this machine's slots; looked up once.

        Raises:
            ExecutorError: there is none.
        """
        if self._slots is None:
            node = os.uname().nodename
            found = gpus.list_gpus() if self._options.gpus == "all" else []
            slots = [
                Slot(f"gpu{n}", node, self._zone, gpu_uuid=gpu.uuid, name=gpu.name)
                for n, gpu in enumerate(found)
            ]
            slots += [Slot(f"cpu{n}", node, self._zone) for n in range(self._count_cpu_slots(len(found)))]
            self._slots = tuple(slots)
        if not self._slots:
            raise ExecutorError("this machine has no slot: NVML shows no GPU and cpu_slots is 0")
        return self._slots

    async def launch(self, spec: JobSpec, slot: Slot) -> Handle:
        """Start an attempt in the slot's warm runner, or in a new one."""
        runner = self._runners.get(slot.id)
        if (
            runner
            and runner.handle
            and (runner.handle.job_id, runner.handle.attempt) == (spec.job_id, spec.attempt)
        ):
            return runner.handle
        if runner and runner.handle:
            raise ExecutorError(f"slot {slot.id} still runs job {runner.handle.job_id}")
        device = "cpu" if slot.gpu_uuid is None else "cuda"
        spec = replace(spec, device=device, threads=self._options.threads_per_slot)
        path = protocol.write_spec(spec)  # from here on earlier attempts write nothing
        if runner is None or not self._feed(runner, path):
            runner = self._spawn(slot)
            if not self._feed(runner, path):
                raise ExecutorError(f"the runner of slot {slot.id} left at once; see {self._log(slot)}")
        pid = runner.process.pid
        handle = Handle(
            spec.job_id,
            spec.attempt,
            slot.id,
            {
                "pid": pid,
                "started": runner.started,
                "directory": str(spec.directory),
                # What the runner used before belongs to earlier jobs; a new one's start belongs to this.
                "base_cpu_seconds": 0.0 if runner.idle_since == 0.0 else processes.cpu_seconds(pid) or 0.0,
            },
        )
        runner.handle = handle
        return handle

    async def request_suspend(self, handle: Handle) -> None:
        """Send SIGTERM: the runner saves at its next step and leaves."""
        runner = self._runners.get(handle.slot_id)
        if runner and runner.handle == handle:
            runner.told_to_leave = True  # even if the job is done before the signal arrives
        self._signal(handle, signal.SIGTERM)

    async def kill(self, handle: Handle) -> None:
        """Send SIGKILL."""
        self._signal(handle, signal.SIGKILL)

    async def poll(self, handle: Handle) -> RunStatus:
        """Say how an attempt stands, from what it wrote and whether its process lives."""
        pid, started, directory, base = _unpack(handle)
        cpu_now = processes.cpu_seconds(pid) if processes.start_ticks(pid) in {started, None} else None
        alive = self._is_alive(handle.slot_id, pid, started)
        # Read after the look at the process: one that ended in between has written its outcome.
        status = protocol.read_status(directory, handle.attempt)
        if status.state is RunState.RUNNING and not alive:
            status = replace(status, state=RunState.LOST, reason="the runner is gone without a word")
        if status.state is not RunState.RUNNING:
            self._free(handle, status.state)
        return replace(
            status, cpu_seconds=self._most(handle, max((cpu_now or 0.0) - base, status.cpu_seconds))
        )

    async def release(self, slot: Slot) -> None:
        """Let a runner go that has had no job for `linger_seconds`."""
        self._reap()
        runner = self._runners.get(slot.id)
        if (
            runner
            and runner.handle is None
            and monotonic() - runner.idle_since >= self._options.linger_seconds
        ):
            self._dismiss(slot.id)

    async def reattach(self, handles: Sequence[Handle]) -> None:
        """Nothing to take up: handles hold all that is needed, and orphans leave when their job is done."""

    async def close(self) -> None:
        """Let idle runners go; those with a job finish it."""
        idle = [runner.process for runner in self._runners.values() if runner.handle is None]
        for slot_id in list(self._runners):
            self._dismiss(slot_id)
        for process in idle:
            with contextlib.suppress(subprocess.TimeoutExpired):
                await asyncio.to_thread(process.wait, timeout=CLOSE_SECONDS)

    def _most(self, handle: Handle, cpu_seconds: float) -> float:
        """Give the most an attempt was seen to have used: a runner that was killed had not told the last of it."""
        seen, before = self._used.get(handle.slot_id, (handle, 0.0))
        most = max(cpu_seconds, before) if seen == handle else cpu_seconds
        self._used[handle.slot_id] = handle, most
        return most

    def _count_cpu_slots(self, gpu_count: int) -> int:
        if self._options.cpu_slots is not None:
            return self._options.cpu_slots
        cores = len(os.sched_getaffinity(0))
        return 0 if gpu_count else max(1, cores // self._options.threads_per_slot)

    def _spawn(self, slot: Slot) -> _Runner:
        if slot.id in self._runners:
            self._dismiss(slot.id)
        self._directory.mkdir(parents=True, exist_ok=True)
        with self._log(slot).open("a") as log, _signals_held():
            process = subprocess.Popen(
                [sys.executable, "-m", "carbon_nas.evaluate.runner"],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                text=True,
                env=self._environment(slot),
                start_new_session=True,  # a Ctrl-C meant for the daemon is not meant for the runner
            )
        started = processes.start_ticks(process.pid)
        if started is None:
            self._let_go(process)
            raise ExecutorError(f"the runner of slot {slot.id} left at once; see {self._log(slot)}")
        self._runners[slot.id] = runner = _Runner(process, started)
        return runner

    def _environment(self, slot: Slot) -> dict[str, str]:
        kept = {name: os.environ[name] for name in INHERITED if name in os.environ}
        return kept | {
            "CUDA_VISIBLE_DEVICES": slot.gpu_uuid or "",
            "CUBLAS_WORKSPACE_CONFIG": ":4096:8",  # deterministic matrix products on CUDA
            "OMP_NUM_THREADS": str(self._options.threads_per_slot),
            "PYTHONUNBUFFERED": "1",
        }

    def _log(self, slot: Slot) -> Path:
        return self._directory / f"{slot.id}.log"

    def _is_alive(self, slot_id: str, pid: int, started: int) -> bool:
        runner = self._runners.get(slot_id)
        if runner and runner.process.pid == pid:
            return runner.process.poll() is None
        return processes.is_alive(pid, started)

    @staticmethod
    def _feed(runner: _Runner, spec: Path) -> bool:
        """Hand the runner its next job; say whether it was there to take it."""
        assert runner.process.stdin is not None  # noqa: S101 -- opened as a pipe in _spawn
        try:
            runner.process.stdin.write(f"{spec}\n")
            runner.process.stdin.flush()
        except (BrokenPipeError, ValueError):
            return False
        return runner.process.poll() is None

    @staticmethod
    def _signal(handle: Handle, number: signal.Signals) -> None:
        pid, started, _, _ = _unpack(handle)
        processes.send(pid, started, number)

    def _free(self, handle: Handle, state: RunState) -> None:
        """The attempt is over. Only a runner that did its job is kept warm; any other is leaving, or unwell."""
        runner = self._runners.get(handle.slot_id)
        if runner is None or runner.handle != handle:
            return
        runner.handle, runner.idle_since = None, monotonic()
        if state is not RunState.DONE or runner.told_to_leave or runner.process.poll() is not None:
            self._dismiss(handle.slot_id)

    def _dismiss(self, slot_id: str) -> None:
        """Close the runner's input: it leaves when it has nothing left to do."""
        self._let_go(self._runners.pop(slot_id).process)

    def _let_go(self, process: "subprocess.Popen[str]") -> None:
        if process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
        self._leaving.append(process)
        self._reap()

    def _reap(self) -> None:
        """Take note of the runners that have left, so that none stays a zombie."""
        self._leaving = [process for process in self._leaving if process.poll() is None]


@contextlib.contextmanager
def _signals_held() -> Iterator[None]:
    """Let a child start with its stop signals blocked: it takes them up once it has its handlers."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGABRT))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _unpack(handle: Handle) -> tuple[int, int, Path, float]:
    data: Any = handle.data
    return data["pid"], data["started"], Path(data["directory"]), data["base_cpu_seconds"]
