"""A controller in a child process, for the daemon's event loop: torch and its faults stay out of the daemon."""

import asyncio
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from carbon_nas.errors import SearchError
from carbon_nas.model import Observation
from carbon_nas.search.worker import Recipe

State = Mapping[str, Any]

_WORKER = (sys.executable, "-m", "carbon_nas.search.worker")
_LONGEST_ANSWER = 256 * 2**20  # bytes; asyncio's 64 KiB would be too short for a policy's weights
_CALM = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
"""A policy is small: one thread is fastest, and a GPU context would draw power all day."""


class ChildController:
    """Speaks with a `search.worker`; the same methods as `Controller`, awaited.

    A child that dies, answers garbage or not in time is killed, and the call raises SearchError. The next call
    starts another one where the last call that went well had left it: from the last state seen, by repeating
    the calls since. So a failed call has not happened, and may be made again.
    """

    def __init__(
        self, recipe: Recipe, *, timeout_seconds: float = 120.0, command: Sequence[str] = _WORKER
    ) -> None:
        self._recipe = recipe
        self._command = command
        self._timeout_seconds = timeout_seconds
        self._process: asyncio.subprocess.Process | None = None
        self._state: State | None = None
        self._since: list[
            tuple[str, Any]
        ] = []  # calls that went well and changed the controller since _state
        self._requests = 0
        self._earlier_cpu_seconds = 0.0
        self._present_cpu_seconds = 0.0
        self._turn = asyncio.Lock()

    async def start(self, state: State | None = None) -> None:
        """Start the child with a controller that goes on at `state`, or anew.

        Raises:
            SearchError: the controller cannot be made, or not with this state.
        """
        async with self._turn:
            await self._stop()
            self._state, self._since = state, []
            await self._running()

    async def propose(self, n: int) -> list[str]:
        """Propose up to `n` architectures.

        Raises:
            SearchError: see above; nothing was proposed.
        """
        archs: list[str] = await self._call("propose", n, changes=True)
        return archs

    async def observe(self, observations: Sequence[Observation]) -> None:
        """Let the controller learn.

        Raises:
            SearchError: see above; nothing was learned.
        """
        await self._call("observe", [asdict(one) for one in observations], changes=True)

    async def state_dict(self) -> dict[str, Any]:
        """Give the controller's state, JSON.

        Raises:
            SearchError: see above.
        """
        state: dict[str, Any] = await self._call("state_dict", None)
        self._state, self._since = state, []
        return state

    async def close(self) -> None:
        """End the child; what it has learned since the last `state_dict` is kept for the next call."""
        async with self._turn:
            await self._stop()

    def cpu_seconds(self) -> float:
        """Give the processor time of all children so far; of one that has died, as last seen. Never falls."""
        self._sample_cpu()
        return self._earlier_cpu_seconds + self._present_cpu_seconds

    @property
    def pid(self) -> int | None:
        """The child's process id, None if there is no child."""
        return self._process.pid if self._process is not None else None

    async def _call(self, call: str, given: object, *, changes: bool = False) -> Any:
        async with self._turn:
            process = await self._running()
            value = await self._exchange(process, call, given)
            if changes:
                self._since.append((call, given))
            return value

    async def _running(self) -> asyncio.subprocess.Process:
        """Give the child, if need be a new one, brought to where the last one was."""
        if self._process is not None and self._process.returncode is None:
            return self._process
        await self._stop()
        self._process = process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=_LONGEST_ANSWER,
            env={**os.environ, **_CALM},
        )
        await self._exchange(process, "start", {"recipe": asdict(self._recipe), "state": self._state})
        for call, given in self._since:
            await self._exchange(process, call, given)
        return process

    async def _exchange(self, process: asyncio.subprocess.Process, call: str, given: object) -> Any:
        """Send a request and wait for its answer; whatever goes wrong, the child's state is unknown: end it."""
        try:
            async with asyncio.timeout(self._timeout_seconds):
                return await self._answer(process, call, given)
        except (OSError, TimeoutError, ValueError) as error:
            await self._stop()
            problem = f"{type(error).__name__}: {error}".removesuffix(": ")
            raise SearchError(
                f"the process of controller {self._recipe.name} failed at {call}: {problem}"
            ) from error
        except BaseException:  # an error answer, or we were cancelled with the answer still under way
            await self._stop()
            raise

    async def _answer(self, process: asyncio.subprocess.Process, call: str, given: object) -> Any:
        if process.stdin is None or process.stdout is None:
            raise ValueError("the process has no pipes")
        self._requests += 1
        request = {"id": self._requests, "call": call, "given": given}
        process.stdin.write(json.dumps(request).encode() + b"\n")
        await process.stdin.drain()
        line = await process.stdout.readline()
        self._sample_cpu()
        if not line:
            raise ConnectionResetError("it ended without an answer")
        answer = json.loads(line)
        if not isinstance(answer, dict) or answer.get("id") != self._requests:
            raise ValueError(f"it answered {line[:200]!r}")
        if "error" in answer:
            raise SearchError(f"controller {self._recipe.name} failed at {call}: {answer['error']}")
        return answer["value"]

    async def _stop(self) -> None:
        self._sample_cpu()
        process, self._process = self._process, None
        if process is None:
            return
        self._earlier_cpu_seconds += self._present_cpu_seconds
        self._present_cpu_seconds = 0.0
        if process.returncode is None:
            process.kill()
        await process.wait()

    def _sample_cpu(self) -> None:
        if self._process is not None and self._process.returncode is None:
            now = _cpu_seconds(self._process.pid)
            self._present_cpu_seconds = max(self._present_cpu_seconds, now or 0.0)


def _cpu_seconds(pid: int) -> float | None:
    """Give utime + stime (fields 14 and 15 of proc_pid_stat(5)); None if the process is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    fields = text.rpartition(")")[
        2
    ].split()  # the name before may hold spaces; the state, field 3, comes next
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
