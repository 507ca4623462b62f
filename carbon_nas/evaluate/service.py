"""What a runner does with the paths it is sent: each job to its outcome, whatever happens to it."""

import logging
from pathlib import Path

import torch

from carbon_nas.errors import EX_SUSPENDED, CarbonNasError
from carbon_nas.evaluate import protocol
from carbon_nas.evaluate.attempt import Attempt, Fenced, cpu_seconds
from carbon_nas.evaluate.jobs import JOBS, Workshop
from carbon_nas.evaluate.protocol import EX_FENCED, Outcome
from carbon_nas.evaluate.signals import Lines, StopRequest
from carbon_nas.model import RunState

EX_DEVICE = 1

log = logging.getLogger(__name__)


def serve(lines: Lines, stop: StopRequest) -> int:
    """Do the jobs whose specifications' paths come in; give the process's exit status."""
    workshop = Workshop()
    base_cpu_seconds = 0.0  # the first job is charged for the start-up
    while (line := lines.next(stop)) is not None:
        try:
            status = _serve_one(Path(line), lines, stop, workshop, base_cpu_seconds)
        except Fenced as overtaken:
            log.warning("%s", overtaken)
            return EX_FENCED
        if status is not None:
            return status
        base_cpu_seconds = cpu_seconds()
    return EX_SUSPENDED if stop.requested else 0


def _serve_one(
    path: Path, lines: Lines, stop: StopRequest, workshop: Workshop, base_cpu_seconds: float
) -> int | None:
    """Do one job and write its outcome; give an exit status if the process must not go on."""
    try:
        spec = protocol.read_spec(path)
    except CarbonNasError as error:
        log.exception("no job in %s", path)
        _refuse(path.parent, error, base_cpu_seconds)
        return None
    attempt = Attempt(spec, stop, lines, base_cpu_seconds)
    attempt.begin()
    broken = False
    try:
        finished = not stop.requested and JOBS[spec.kind](attempt, workshop)
        state, reason = (RunState.DONE, "done") if finished else (RunState.SUSPENDED, "asked to stop")
    except Fenced:
        raise
    except Exception as error:  # whatever it is, it is this job's and not the next one's
        log.exception("job %s failed", spec.job_id)
        state, reason = RunState.FAILED, _describe(error)
        broken = isinstance(error, torch.AcceleratorError)
    if broken or stop.requested:
        lines.close()  # before the outcome: whoever reads it must not send another job to a leaving process
    attempt.end(state, reason)
    if broken:
        return EX_DEVICE
    return EX_SUSPENDED if stop.requested else None


def _refuse(directory: Path, error: CarbonNasError, base_cpu_seconds: float) -> None:
    attempt = protocol.read_attempt(directory)
    if attempt is not None:
        outcome = Outcome(RunState.FAILED, _describe(error), base_cpu_seconds, cpu_seconds(), 0.0)
        protocol.write_outcome(directory, attempt, outcome)


def _describe(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if isinstance(error, CarbonNasError) else f"{type(error).__name__}: {text}"
