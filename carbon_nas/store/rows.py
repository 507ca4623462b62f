"""From table rows to values of the model."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from sqlalchemy import RowMapping

from carbon_nas.model import (
    Basis,
    Candidate,
    Decision,
    EnergyMethod,
    Evaluation,
    Handle,
    Job,
    JobKind,
    JobState,
    LedgerEntry,
    Quality,
    Reading,
    Signal,
    Transition,
    Window,
    Work,
)


def candidate(row: RowMapping) -> Candidate:
    """Read a row of `candidates`."""
    return Candidate(row["arch"], row["origin"], row["proposed_at"])


def evaluation(row: RowMapping) -> Evaluation:
    """Read a row of `evaluations`."""
    return Evaluation(
        row["arch"], JobKind(row["kind"]), row["values"], row["duration_seconds"], row["cpu_seconds"]
    )


def job_row(job: Job) -> dict[str, Any]:
    """Write a row of `jobs`, without its handle."""
    return asdict(job) | {"archs": list(job.archs)}


def job(row: RowMapping) -> Job:
    """Read a row of `jobs`."""
    return Job(
        id=row["id"],
        kind=JobKind(row["kind"]),
        zone=row["zone"],
        archs=tuple(row["archs"]),
        created_at=row["created_at"],
        state=JobState(row["state"]),
        attempt=row["attempt"],
        retries_left=row["retries_left"],
        deadline=row["deadline"],
        progress=row["progress"],
        epochs=row["epochs"],
        continues=row["continues"],
    )


def handle(value: Mapping[str, Any] | None) -> Handle | None:
    """Read the handle of a running job."""
    return None if value is None else Handle(**value)


def transition(row: RowMapping) -> Transition:
    """Read a row of `transitions`."""
    return Transition(row["job_id"], JobState(row["source"]), JobState(row["target"]), row["at"], row["why"])


def reading_row(reading: Reading) -> dict[str, Any]:
    """Write a row of `readings`; what is kept was observed, and has no band."""
    values = asdict(reading)
    del values["band"]
    return values


def reading(row: RowMapping) -> Reading:
    """Read a row of `readings`."""
    return Reading(
        zone=row["zone"],
        start=row["start"],
        end=row["end"],
        grams_per_kwh=row["grams_per_kwh"],
        quality=Quality(row["quality"]),
        signal=Signal(row["signal"]),
        basis=Basis(row["basis"]),
        provider=row["provider"],
        fetched_at=row["fetched_at"],
    )


def decision(row: RowMapping) -> Decision:
    """Read a row of `decisions`."""
    return Decision(row["train_slots"], row["score_slots"], Window(row["window"]), row["reason"])


def entry(row: RowMapping) -> LedgerEntry:
    """Read a row of `ledger`."""
    return LedgerEntry(
        work=Work(row["work"]),
        job_id=row["job_id"],
        attempt=row["attempt"],
        slot_id=row["slot_id"],
        device=row["device"],
        start=row["start"],
        end=row["end"],
        energy_joules=row["energy_joules"],
        energy_method=EnergyMethod(row["energy_method"]),
        grams_per_kwh=row["grams_per_kwh"],
        quality=Quality(row["quality"]),
        signal=Signal(row["signal"]),
        basis=Basis(row["basis"]),
        provider=row["provider"],
        zone=row["zone"],
        revision=row["revision"],
    )
