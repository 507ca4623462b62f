"""The files through which an executor and a runner speak, in the job's own directory. Needs no torch.

    spec-<n>.json         the job as attempt n does it; written by the executor before it sends the path to the runner
    attempt               the number of the attempt that may write; with it
    progress.jsonl        how far it is; a line at the start, then about every second and at each epoch
    results.jsonl         one line for each architecture evaluated, of all attempts
    outcome-<n>.json      how attempt n ended; written last
    checkpoints/          see `checkpoint`

`attempt` is the fence: a runner that finds another number in it writes nothing more and exits with status 70.
Lines may be torn by a crash; whoever reads skips what is not JSON. Proxy scores that are not finite numbers are
written as the strings "nan", "inf" and "-inf", because JSON has no numbers for them.
"""

import json
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from carbon_nas.errors import ConfigurationError, JobError
from carbon_nas.model import Evaluation, JobSpec, RunState, RunStatus
from carbon_nas.plugins import describe

EX_FENCED = 70
"""Exit status of a runner whose attempt is no longer the job's."""

TAIL_BYTES = 8192


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an attempt is. What it used itself is `cpu_seconds - base_cpu_seconds`.

    `cpu_seconds` is the runner process's total; `base_cpu_seconds` what it was when this job began in it, and 0
    for the process's first job, which so is charged for the start-up. `fraction` is the share done, 0 to 1.
    """

    attempt: int
    pid: int
    base_cpu_seconds: float
    cpu_seconds: float
    fraction: float = 0.0
    step: int = 0
    epoch: int = 0
    loss: float | None = None
    accuracy: float | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt ended: DONE, SUSPENDED or FAILED, and why in one line."""

    state: RunState
    reason: str
    base_cpu_seconds: float
    cpu_seconds: float
    fraction: float


_SPEC = TypeAdapter(JobSpec)
_PROGRESS = TypeAdapter(Progress)
_OUTCOME = TypeAdapter(Outcome)
_EVALUATION = TypeAdapter(Evaluation)


def write_spec(spec: JobSpec) -> Path:
    """Write `attempt` and `spec-<n>.json` into the job's directory, made if need be; give the latter's path.

    From then on no earlier attempt writes there. Each has a file of its own: a runner that starts late must not
    take its successor's for its own.
    """
    spec.directory.mkdir(parents=True, exist_ok=True)
    write_attempt(spec.directory, spec.attempt)
    path = spec.directory / f"spec-{spec.attempt}.json"
    write_atomically(path, _SPEC.dump_json(spec, indent=1))
    return path


def read_spec(path: Path) -> JobSpec:
    """Read what `write_spec` wrote.

    Raises:
        JobError: there is no such file.
        ConfigurationError: it is not a job's specification.
    """
    try:
        return _SPEC.validate_json(path.read_bytes())
    except OSError as error:
        raise JobError(f"cannot read the job's specification: {error}") from error
    except ValidationError as error:
        raise ConfigurationError(describe(error, key="").problem, file=path) from error


def write_attempt(directory: Path, attempt: int) -> None:
    """Make `attempt` the only one that may write into the job's directory."""
    write_atomically(directory / "attempt", f"{attempt}\n".encode())


def read_attempt(directory: Path) -> int | None:
    """Give the attempt that may write; None if there is none."""
    try:
        return int((directory / "attempt").read_text())
    except (OSError, ValueError):
        return None


def append_progress(directory: Path, progress: Progress) -> None:
    """Add a line to `progress.jsonl`."""
    _append(directory / "progress.jsonl", _PROGRESS.dump_python(progress, mode="json", exclude_none=True))


def last_progress(directory: Path, attempt: int | None = None) -> Progress | None:
    """Give the newest progress of an attempt, or of any; None if the last lines of the file hold none."""
    newest = None
    for line in _lines(directory / "progress.jsonl", tail=True):
        if attempt is None or line.get("attempt") == attempt:
            newest = _PROGRESS.validate_python(line)
    return newest


def append_result(directory: Path, attempt: int, evaluation: Evaluation) -> None:
    """Add a line to `results.jsonl`, on disk when this returns."""
    line = _EVALUATION.dump_python(evaluation, mode="python")
    line["values"] = {name: _number(value) for name, value in evaluation.values.items()}
    _append(directory / "results.jsonl", {"attempt": attempt, **line}, durable=True)


def read_results(directory: Path) -> tuple[Evaluation, ...]:
    """Give all evaluations so far, of all attempts; of an architecture the first."""
    found: dict[str, Evaluation] = {}
    for line in _lines(directory / "results.jsonl"):
        line.pop("attempt", None)
        evaluation = _EVALUATION.validate_python(line)
        found.setdefault(evaluation.arch, evaluation)
    return tuple(found.values())


def write_outcome(directory: Path, attempt: int, outcome: Outcome) -> None:
    """Write how an attempt ended."""
    write_atomically(directory / f"outcome-{attempt}.json", _OUTCOME.dump_json(outcome))


def read_outcome(directory: Path, attempt: int) -> Outcome | None:
    """Give how an attempt ended; None if it has not, or went without a word."""
    try:
        return _OUTCOME.validate_json((directory / f"outcome-{attempt}.json").read_bytes())
    except (FileNotFoundError, ValidationError):
        return None


def read_status(directory: Path, attempt: int) -> RunStatus:
    """Give an attempt as its files tell it: RUNNING until there is an outcome, whether its process lives or not."""
    outcome = read_outcome(directory, attempt)
    found = read_results(directory)
    if outcome is not None:
        used = outcome.cpu_seconds - outcome.base_cpu_seconds
        return RunStatus(outcome.state, outcome.fraction, used, found, outcome.reason)
    progress = last_progress(directory, attempt)
    if progress is None:
        return RunStatus(RunState.RUNNING, evaluations=found)
    used = progress.cpu_seconds - progress.base_cpu_seconds
    return RunStatus(RunState.RUNNING, progress.fraction, used, found)


def write_atomically(path: Path, content: bytes) -> None:
    """Replace a file by `content`: a crash leaves the old one or the new one, on disk when this returns."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _append(path: Path, line: dict[str, Any], *, durable: bool = False) -> None:
    with path.open("ab+") as file:
        torn = file.tell() > 0 and _last_byte(file.fileno(), file.tell()) != b"\n"
        file.write(b"\n" * torn + json.dumps(line).encode() + b"\n")
        if durable:
            file.flush()
            os.fsync(file.fileno())


def _last_byte(descriptor: int, size: int) -> bytes:
    return os.pread(descriptor, 1, size - 1)


def _lines(path: Path, *, tail: bool = False) -> Iterator[dict[str, Any]]:
    try:
        with path.open("rb") as file:
            if tail:
                file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL_BYTES))
            raw = file.read().split(b"\n")
    except FileNotFoundError:
        return
    for text in raw:
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if isinstance(line, dict):
            yield line


def _number(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)
