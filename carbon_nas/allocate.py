"""From a decision to actions on slots: pure, so that every case is a row in a test.

Deadlines win: a training past its deadline takes a slot whatever the policy says, and is not suspended.
Scoring batches are short; a training that wants their slot waits for their end.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from carbon_nas.model import Decision, Job, JobKind, JobState, Slot


@dataclass(frozen=True, slots=True)
class Launch:
    """Start the job on the slot."""

    job: Job
    slot: Slot
    why: str


@dataclass(frozen=True, slots=True)
class Suspend:
    """Ask the job to save and leave."""

    job: Job
    why: str


@dataclass(frozen=True, slots=True)
class Release:
    """The slot has nothing to do for now."""

    slot: Slot


Action = Launch | Suspend | Release


def allocate(
    decision: Decision,
    jobs: Sequence[Job],
    slots: Sequence[Slot],
    held: Mapping[str, str],
    now: datetime,
) -> list[Action]:
    """Say what to start, stop and give back.

    Args:
        decision: what the policy allows.
        jobs: all open jobs.
        slots: what the executor has.
        held: the slot of each running job, by job.
        now: to tell who is overdue.
    """
    running = {kind: [j for j in jobs if j.id in held and j.kind is kind] for kind in JobKind}
    waiting = {kind: [j for j in jobs if j.id not in held and j.kind is kind] for kind in JobKind}
    free = [slot for slot in slots if slot.id not in set(held.values())]
    # The overdue that start now take their share of what the policy allows before those that run do.
    starting = min(len(free), sum(job.overdue(now) for job in waiting[JobKind.TRAIN]))
    suspended = _to_suspend(decision, running, starting, now)
    actions: list[Action] = [Suspend(job, decision.reason) for job in suspended]

    training = len(running[JobKind.TRAIN]) - sum(job.kind is JobKind.TRAIN for job in suspended)
    for job in by_urgency(waiting[JobKind.TRAIN], now):
        overdue = job.overdue(now)
        if not free or not (overdue or training < decision.train_slots):
            break
        why = f"waited until its deadline {job.deadline:%Y-%m-%d %H:%M}Z" if overdue else decision.reason
        actions.append(Launch(job, free.pop(0), why))
        training += 1

    scoring = len(running[JobKind.SCORE])
    for job in waiting[JobKind.SCORE]:
        if not free or scoring >= decision.score_slots:
            break
        actions.append(Launch(job, free.pop(0), decision.reason))
        scoring += 1
    return actions + [Release(slot) for slot in free]


def by_urgency(trainings: Sequence[Job], now: datetime) -> list[Job]:
    """Order trainings: the overdue first, then those begun, those nearest to their end first, then by age."""
    return sorted(
        trainings,
        key=lambda job: (
            not job.overdue(now),
            job.state is not JobState.SUSPENDED and job.progress == 0,
            -job.progress,
            job.created_at,
            job.id,
        ),
    )


def _to_suspend(
    decision: Decision, running: Mapping[JobKind, list[Job]], starting: int, now: datetime
) -> list[Job]:
    """Choose whom to stop: those the policy names, then the trainings furthest from their end, then scorings."""
    trainings = by_urgency(running[JobKind.TRAIN], now)
    named = [job for job in trainings if job.id in decision.suspend and not job.overdue(now)]
    kept = [job for job in trainings if job not in named]
    allowed = max(0, decision.train_slots - starting)
    surplus = [job for job in kept[allowed:] if not job.overdue(now)]
    return named + surplus + running[JobKind.SCORE][decision.score_slots :]
