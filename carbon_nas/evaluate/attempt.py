"""One attempt at a job as its runner sees it: whether it should stop, what it used, and what it may still write."""

import os
import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NoReturn

from carbon_nas.clock import monotonic
from carbon_nas.errors import EX_SUSPENDED, CarbonNasError
from carbon_nas.evaluate import protocol
from carbon_nas.evaluate.protocol import EX_FENCED, Outcome, Progress
from carbon_nas.evaluate.signals import Lines, StopRequest
from carbon_nas.model import Evaluation, JobSpec, RunState

REPORT_SECONDS = 1.0


class Fenced(CarbonNasError):  # noqa: N818 -- named for what happened, as the others
    """Another attempt has taken over the job: nothing may be written any more."""


def cpu_seconds() -> float:
    """Give the processor time of this process so far, all its threads together."""
    return time.process_time()


class Stopwatch:
    """Measures real and processor time from where it is made, on top of what was spent before."""

    def __init__(self, duration_seconds: float = 0.0, used_cpu_seconds: float = 0.0) -> None:
        self._started = monotonic() - duration_seconds
        self._base = cpu_seconds() - used_cpu_seconds

    @property
    def duration_seconds(self) -> float:
        """Real time."""
        return monotonic() - self._started

    @property
    def cpu_seconds(self) -> float:
        """Processor time."""
        return cpu_seconds() - self._base


class Attempt:
    """The right to write into a job's directory, as long as the file `attempt` there names it.

    `lines` is where the job came from. Every method that writes raises `Fenced` if it does not.
    """

    def __init__(self, spec: JobSpec, stop: StopRequest, lines: Lines, base_cpu_seconds: float) -> None:
        self.spec = spec
        self._stop = stop
        self._lines = lines
        self._base_cpu_seconds = base_cpu_seconds
        self._fraction = 0.0
        self._reported_at = -REPORT_SECONDS

    def should_stop(self) -> bool:
        """Whether to save and leave."""
        return self._stop.requested

    def leaving_at_once(self) -> AbstractContextManager[None]:
        """While there is nothing to save: asked to stop within, the process ends there, the job suspended."""
        return self._stop.leaving_at_once(self.leave)

    def leave(self) -> NoReturn:
        """End the process, the job suspended as it lies on the disk."""
        self._lines.close()  # before the outcome: whoever reads it must not send another job
        try:
            self.end(RunState.SUSPENDED, "asked to stop")
        except Fenced:
            os._exit(EX_FENCED)
        os._exit(EX_SUSPENDED)

    def require_unfenced(self) -> None:
        """Check that no later attempt has begun.

        Raises:
            Fenced: one has, or the job's directory is gone.
        """
        current = protocol.read_attempt(self.spec.directory)
        if current != self.spec.attempt:
            raise Fenced(f"attempt {self.spec.attempt} of job {self.spec.job_id} was overtaken by {current}")

    def begin(self) -> None:
        """Say that the runner has taken up the job, as far as an earlier attempt had brought it."""
        before = protocol.last_progress(self.spec.directory)
        self.report(before.fraction if before else 0.0)

    def report_due(self) -> bool:
        """Whether the last report is a second old."""
        return monotonic() - self._reported_at >= REPORT_SECONDS

    def report(
        self,
        fraction: float,
        *,
        step: int = 0,
        epoch: int = 0,
        loss: float | None = None,
        accuracy: float | None = None,
    ) -> None:
        """Say how far the job is."""
        self.require_unfenced()
        self._fraction = fraction
        self._reported_at = monotonic()
        progress = Progress(
            attempt=self.spec.attempt,
            pid=os.getpid(),
            base_cpu_seconds=self._base_cpu_seconds,
            cpu_seconds=cpu_seconds(),
            fraction=fraction,
            step=step,
            epoch=epoch,
            loss=loss,
            accuracy=accuracy,
        )
        protocol.append_progress(self.spec.directory, progress)

    def add_result(self, evaluation: Evaluation) -> None:
        """Keep what was found out about one architecture."""
        self.require_unfenced()
        protocol.append_result(self.spec.directory, self.spec.attempt, evaluation)

    def end(self, state: RunState, reason: str) -> None:
        """Say how the attempt ended; the last thing it writes."""
        self.require_unfenced()
        fraction = 1.0 if state is RunState.DONE else self._fraction
        outcome = Outcome(state, reason, self._base_cpu_seconds, cpu_seconds(), fraction)
        protocol.write_outcome(self.spec.directory, self.spec.attempt, outcome)


def leave_unstarted(lines: Lines, stop: StopRequest) -> NoReturn:
    """Suspend the job whose path lies ready, if one does, as it lies on the disk; end the process."""
    line = lines.next(stop)
    if line is not None:
        try:
            attempt = Attempt(protocol.read_spec(Path(line)), stop, lines, base_cpu_seconds=0.0)
            attempt.begin()
            attempt.leave()
        except Fenced:
            os._exit(EX_FENCED)
        except CarbonNasError:
            pass  # no job there; the next process says so
    os._exit(EX_SUSPENDED)
