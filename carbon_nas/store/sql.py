"""The store: every method is one transaction, and returns plain values of the model.

Two engines (SQLAlchemy 2.1 with SQLite 3.40): writes begin IMMEDIATE, since a deferred BEGIN loses
read-modify-write transactions to "database is locked" in spite of a busy timeout; reads begin deferred, so that
`carbon-nas status` never waits for the daemon. WAL with synchronous=FULL: a commit that returned is on the disk.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Table, func, select
from sqlalchemy.exc import DatabaseError

from carbon_nas.errors import StoreError
from carbon_nas.model import (
    Candidate,
    Decision,
    Evaluation,
    Handle,
    Job,
    JobKind,
    JobState,
    LedgerEntry,
    Quality,
    Reading,
    Transition,
    Work,
)
from carbon_nas.store import rows
from carbon_nas.store import tables as t
from carbon_nas.store.database import connect, require_known_schema, upgrade

OPEN_STATES = (JobState.QUEUED, JobState.RUNNING, JobState.SUSPENDED)


class SqlStore:
    """A store in the SQLite file `path`.

    Raises:
        StoreError: on `open`, if the file was written by a newer version, is no database or cannot be used.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self._path = path
        self._read_only = read_only
        self._writes = connect(path, begin="BEGIN IMMEDIATE", read_only=read_only)
        self._reads = connect(path, begin="BEGIN", read_only=read_only)
        self.version = 0
        """Counts this object's changes of candidates, jobs and evaluations, so that a reader can tell."""

    def open(self) -> None:
        """Bring the schema up to date, or see that it is when the store is only read."""
        try:
            self._open()
        except StoreError as error:
            raise StoreError(f"{self._path}: {error}") from error
        except (DatabaseError, OSError) as error:
            reason = getattr(error, "orig", error)
            raise StoreError(f"{self._path}: cannot be used as a database: {reason}") from error

    def _open(self) -> None:
        if self._read_only:
            with self._reads.begin() as c:
                require_known_schema(c, current=True)
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._writes.begin() as c:
            require_known_schema(c)
            upgrade(c)

    def close(self) -> None:
        """Give the connections back."""
        self._writes.dispose()
        self._reads.dispose()

    # --- settings that outlive a restart

    def get_meta(self, key: str) -> str | None:
        """Give a kept setting, or None."""
        with self._reads.begin() as c:
            return c.execute(select(t.meta.c.value).where(t.meta.c.key == key)).scalar()

    def set_meta(self, key: str, value: str) -> None:
        """Keep a setting."""
        with self._writes.begin() as c:
            _upsert(c, t.meta, {"key": key}, {"value": value})

    # --- candidates and what was found out about them

    def add_candidates(self, candidates: Sequence[Candidate]) -> int:
        """Keep those not yet known; say how many."""
        self.version += 1
        with self._writes.begin() as c:
            names = [candidate.arch for candidate in candidates]
            known = set(
                c.execute(select(t.candidates.c.arch).where(t.candidates.c.arch.in_(names))).scalars()
            )
            fresh = {x.arch: asdict(x) for x in candidates if x.arch not in known}
            if fresh:
                c.execute(t.candidates.insert(), list(fresh.values()))
            return len(fresh)

    def candidates(self) -> list[Candidate]:
        """Give all candidates in the order they were proposed."""
        with self._reads.begin() as c:
            return [
                rows.candidate(row)
                for row in c.execute(select(t.candidates).order_by(t.candidates.c.id)).mappings()
            ]

    def scores(self) -> dict[str, Mapping[str, float]]:
        """Give the raw proxy scores of every scored candidate."""
        e = t.evaluations.c
        with self._reads.begin() as c:
            found = c.execute(select(e.arch, e["values"]).where(e.kind == JobKind.SCORE).order_by(e.id))
            return dict(found.all())

    def evaluations(self, kind: JobKind | None = None) -> list[tuple[str, Evaluation]]:
        """Give (job, evaluation), oldest first."""
        query = select(t.evaluations).order_by(t.evaluations.c.id)
        with self._reads.begin() as c:
            query = query if kind is None else query.where(t.evaluations.c.kind == kind)
            return [(row["job_id"], rows.evaluation(row)) for row in c.execute(query).mappings()]

    # --- jobs

    def add_job(self, job: Job) -> None:
        """Keep a new job."""
        self.version += 1
        with self._writes.begin() as c:
            c.execute(t.jobs.insert(), {**rows.job_row(job), "observed": False})

    def move(
        self,
        job: Job,
        step: Transition,
        found: Sequence[Evaluation] = (),
    ) -> None:
        """Keep a job's new state together with what its attempt found out; the handle of the attempt goes."""
        self.version += 1
        with self._writes.begin() as c:
            c.execute(
                t.jobs.update().where(t.jobs.c.id == job.id).values(rows.job_row(job) | {"handle": None})
            )
            c.execute(t.transitions.insert(), asdict(step))
            known = set(
                c.execute(select(t.evaluations.c.arch).where(t.evaluations.c.job_id == job.id)).scalars()
            )
            fresh = [{"job_id": job.id, **asdict(x)} for x in found if x.arch not in known]
            if fresh:
                c.execute(t.evaluations.insert(), fresh)

    def open_jobs(self) -> list[tuple[Job, Handle | None]]:
        """Give the jobs that are not ended, oldest first, with the handles of those that run."""
        with self._reads.begin() as c:
            query = (
                select(t.jobs)
                .where(t.jobs.c.state.in_(OPEN_STATES))
                .order_by(t.jobs.c.created_at, t.jobs.c.id)
            )
            return [(rows.job(row), rows.handle(row["handle"])) for row in c.execute(query).mappings()]

    def set_handle(self, handle: Handle) -> None:
        """Keep where a running job is to be found again."""
        with self._writes.begin() as c:
            c.execute(t.jobs.update().where(t.jobs.c.id == handle.job_id).values(handle=asdict(handle)))

    def count_all_jobs(self) -> int:
        """Count the jobs there ever were."""
        with self._reads.begin() as c:
            return c.execute(select(func.count()).select_from(t.jobs)).scalar_one()

    def jobs(self) -> list[Job]:
        """Give all jobs, oldest first."""
        with self._reads.begin() as c:
            query = select(t.jobs).order_by(t.jobs.c.created_at, t.jobs.c.id)
            return [rows.job(row) for row in c.execute(query).mappings()]

    def count_jobs(self) -> dict[tuple[JobKind, JobState], int]:
        """Count jobs by kind and state."""
        j = t.jobs.c
        with self._reads.begin() as c:
            found = c.execute(select(j.kind, j.state, func.count()).group_by(j.kind, j.state))
            return {(JobKind(kind), JobState(state)): n for kind, state, n in found}

    def transitions(self) -> list[Transition]:
        """Give every step of every job, oldest first."""
        with self._reads.begin() as c:
            found = c.execute(select(t.transitions).order_by(t.transitions.c.id)).mappings()
            return [rows.transition(r) for r in found]

    def last_steps(self, job_ids: Sequence[str]) -> dict[str, datetime]:
        """Give when each job made its last step."""
        s = t.transitions.c
        query = select(s.job_id, func.max(s.at)).where(s.job_id.in_(job_ids)).group_by(s.job_id)
        with self._reads.begin() as c:
            return dict(c.execute(query).all())

    # --- the grid, and what was decided

    def add_readings(self, readings: Sequence[Reading]) -> None:
        """Keep readings; a later one of the same interval is a revision, and the older is kept."""
        if readings:
            with self._writes.begin() as c:
                c.execute(t.readings.insert(), [rows.reading_row(reading) for reading in readings])

    def readings(self, zone: str, since: datetime | None = None) -> list[Reading]:
        """Give a zone's readings in the order they came."""
        query = select(t.readings).where(t.readings.c.zone == zone).order_by(t.readings.c.id)
        with self._reads.begin() as c:
            query = query if since is None else query.where(t.readings.c.end > since)
            return [rows.reading(row) for row in c.execute(query).mappings()]

    def add_decision(self, at: datetime, decision: Decision) -> None:
        """Keep a decision and its reason."""
        with self._writes.begin() as c:
            row = asdict(decision)
            del row["suspend"]  # seen in the transitions
            c.execute(t.decisions.insert(), row | {"at": at})

    def decisions(self) -> list[tuple[datetime, Decision]]:
        """Give the decisions, oldest first."""
        with self._reads.begin() as c:
            found = c.execute(select(t.decisions).order_by(t.decisions.c.id)).mappings()
            return [(r["at"], rows.decision(r)) for r in found]

    # --- the ledger

    def add_entries(
        self, entries: Sequence[LedgerEntry], marks: Mapping[str, tuple[float, datetime]]
    ) -> None:
        """Add ledger rows and move the counters' marks with them, so that no joule is counted twice."""
        with self._writes.begin() as c:
            if entries:
                c.execute(
                    t.ledger.insert(), [asdict(x) | {"emissions_grams": x.emissions_grams} for x in entries]
                )
            for key, (joules, at) in marks.items():
                _upsert(c, t.marks, {"key": key}, {"joules": joules, "at": at})

    def entries(self) -> list[LedgerEntry]:
        """Give every ledger row, oldest first."""
        with self._reads.begin() as c:
            return [rows.entry(row) for row in c.execute(select(t.ledger).order_by(t.ledger.c.id)).mappings()]

    def provisional_entries(self, since: datetime) -> list[LedgerEntry]:
        """Give the rows from `since` on whose intensity was not observed, and that nothing has restated yet."""
        g = t.ledger.c
        provisional = [quality for quality in Quality if not quality.observed]
        query = select(t.ledger).where(g.start >= since, g.quality.in_(provisional), _is_latest())
        with self._reads.begin() as c:
            return [rows.entry(row) for row in c.execute(query.order_by(g.id)).mappings()]

    def marks(self) -> dict[str, tuple[float, datetime]]:
        """Give how far each energy counter is in the ledger."""
        with self._reads.begin() as c:
            return {r["key"]: (r["joules"], r["at"]) for r in c.execute(select(t.marks)).mappings()}

    def totals(self) -> dict[tuple[Work, Quality], tuple[float, float]]:
        """Give (joules, grams) by kind of work and quality of the intensity."""
        g = t.ledger.c
        query = select(g.work, g.quality, func.sum(g.energy_joules), func.sum(g.emissions_grams))
        with self._reads.begin() as c:
            found = c.execute(query.where(_is_latest()).group_by(g.work, g.quality))
            return {(Work(work), Quality(quality)): (joules, grams) for work, quality, joules, grams in found}

    def energy_by_job(self) -> dict[str, tuple[float, float]]:
        """Give (joules, grams) of each job, all attempts and devices."""
        g = t.ledger.c
        query = select(g.job_id, func.sum(g.energy_joules), func.sum(g.emissions_grams))
        with self._reads.begin() as c:
            found = c.execute(query.where(g.job_id.is_not(None), _is_latest()).group_by(g.job_id))
            return {job_id: (joules, grams) for job_id, joules, grams in found}

    # --- the controller

    def unobserved(self) -> list[tuple[str, Evaluation]]:
        """Give the finished trainings the controller has not learnt from yet.

        What continues another is not among them: controllers compare architectures, and all come to the first rung.
        """
        query = (
            select(t.evaluations)
            .join(t.jobs, t.jobs.c.id == t.evaluations.c.job_id)
            .where(
                t.jobs.c.state == JobState.DONE,
                t.jobs.c.kind == JobKind.TRAIN,
                t.jobs.c.continues.is_(None),
                t.jobs.c.observed.is_(False),
            )
            .order_by(t.evaluations.c.id)
        )
        with self._reads.begin() as c:
            return [(row["job_id"], rows.evaluation(row)) for row in c.execute(query).mappings()]

    def save_controller(self, name: str, state: Mapping[str, Any], observed: Sequence[str] = ()) -> None:
        """Keep the controller's state together with which jobs it holds, so that none is learnt twice."""
        with self._writes.begin() as c:
            _upsert(c, t.controller, {"id": 1}, {"name": name, "state": dict(state)})
            if observed:
                c.execute(t.jobs.update().where(t.jobs.c.id.in_(observed)).values(observed=True))

    def controller_state(self, name: str) -> dict[str, Any] | None:
        """Give the state last kept for the controller `name`, or None."""
        with self._reads.begin() as c:
            query = select(t.controller.c.state).where(t.controller.c.name == name)
            return c.execute(query).scalar()


def _is_latest() -> Any:
    """A row that no later revision of the same interval restates."""
    later = t.ledger.alias("later")
    same = ("job_id", "attempt", "slot_id", "device", "start")
    return ~(
        select(later.c.id)
        .where(
            *(later.c[name].is_not_distinct_from(t.ledger.c[name]) for name in same),
            later.c.work == t.ledger.c.work,
            later.c.revision > t.ledger.c.revision,
        )
        .exists()
    )


def _upsert(c: Connection, table: Table, key: Mapping[str, object], values: Mapping[str, object]) -> None:
    """Update the row of `key`, or insert it: portable SQL, safe inside one immediate transaction."""
    matches = [table.c[name] == value for name, value in key.items()]
    if c.execute(table.update().where(*matches).values(dict(values))).rowcount == 0:
        c.execute(table.insert(), {**key, **values})
