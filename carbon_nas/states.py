"""The life of a job: one table, and the one function that reads it.

A lost runner's job goes back to `queued` and keeps its checkpoint; a suspended one goes on where it stopped.
Retries are spent by the caller (`engine`): a job without any left goes to `failed`.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from carbon_nas.errors import InvalidTransition
from carbon_nas.model import Job, JobState, Transition

TRANSITIONS: Mapping[JobState, frozenset[JobState]] = {
    JobState.QUEUED: frozenset({JobState.RUNNING, JobState.CANCELLED}),
    JobState.RUNNING: frozenset({JobState.DONE, JobState.FAILED, JobState.SUSPENDED, JobState.QUEUED}),
    JobState.SUSPENDED: frozenset({JobState.RUNNING, JobState.CANCELLED}),
    JobState.DONE: frozenset(),
    JobState.FAILED: frozenset(),
    JobState.CANCELLED: frozenset(),
}


def transition(job: Job, to: JobState, at: datetime, why: str) -> tuple[Job, Transition]:
    """Move `job` to a new state, and give the record of the step.

    Raises:
        InvalidTransition: the table does not hold the step; the job is unchanged.
    """
    if to not in TRANSITIONS[job.state]:
        raise InvalidTransition(f"job {job.id} cannot go from {job.state} to {to} ({why})")
    return replace(job, state=to), Transition(job.id, job.state, to, at, why)


def mermaid() -> str:
    """The table as a Mermaid state diagram, for `docs/architecture.md`."""
    lines = ["stateDiagram-v2", "    [*] --> queued"]
    for source, targets in TRANSITIONS.items():
        lines += [f"    {source} --> {target}" for target in sorted(targets)]
        lines += [] if targets else [f"    {source} --> [*]"]
    return "\n".join(lines)
