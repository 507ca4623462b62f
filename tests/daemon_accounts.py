"""What must hold in every state directory once its search is over, however often its daemon died."""

import json
import math
from collections import Counter, defaultdict
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path

from daemon_process import SMALL, query, reading

from carbon_nas.evaluate import protocol
from carbon_nas.model import JobKind, JobState

WATTS_PER_CORE = SMALL["energy"]["watts_per_core"]

LEAVING_CPU_SECONDS = 0.3
"""What a runner may use between its last word and its end, and the grain of the kernel's clock."""

REPORT_CPU_SECONDS = 2.0
"""What a killed runner may have used since its last word: it reports once a second."""


def require_whole(state: Path, *, trained: int = 2) -> None:
    """Require that no job was lost and none done twice, and that the ledger is whole."""
    require_each_done_once(state, trained)
    require_sums(state)
    require_no_overlap(state)
    require_energy_as_reported(state)


def require_each_done_once(state: Path, trained: int) -> None:
    with reading(state) as store:
        jobs, transitions, found = store.jobs(), store.transitions(), store.evaluations()
        candidates = [candidate.arch for candidate in store.candidates()]
    assert {job.id: job.state for job in jobs} == {job.id: JobState.DONE for job in jobs}
    ends = Counter(step.job_id for step in transitions if step.target is JobState.DONE)
    assert ends == Counter({job.id: 1 for job in jobs})
    assert sorted(arch for job in jobs if job.kind is JobKind.SCORE for arch in job.archs) == sorted(
        candidates
    )
    promoted = [(arch, job.epochs) for job in jobs if job.kind is JobKind.TRAIN for arch in job.archs]
    assert len(set(promoted)) == len(promoted) == trained
    assert Counter((job_id, one.arch) for job_id, one in found) == Counter(
        (job.id, arch) for job in jobs for arch in job.archs
    )
    for job in jobs:  # nor did a second runner do over what was done
        lines = (state / "jobs" / job.id / "results.jsonl").read_text().splitlines()
        assert sorted(json.loads(line)["arch"] for line in lines) == sorted(job.archs)


def require_sums(state: Path) -> None:
    """The store's totals against sums by hand over the file's own rows."""
    rows = query(state, "select job_id, work, energy_joules, emissions_grams, grams_per_kwh from ledger")
    with reading(state) as store:
        totals, by_job = store.totals().values(), store.energy_by_job()
    joules = math.fsum(row[2] for row in rows)
    assert joules > 0
    without_job = math.fsum(row[2] for row in rows if row[0] is None)
    assert math.isclose(sum(joules for joules, _ in totals), joules, rel_tol=1e-9)
    assert math.isclose(sum(one for one, _ in by_job.values()) + without_job, joules, rel_tol=1e-9)
    assert {row[1] for row in rows if row[0] is None} <= {"controller", "idle"}
    grams = math.fsum(row[2] / 3.6e6 * row[4] for row in rows)
    assert math.isclose(sum(grams for _, grams in totals), grams, rel_tol=1e-9)
    assert math.isclose(math.fsum(row[3] for row in rows), grams, rel_tol=1e-9)


def require_no_overlap(state: Path) -> None:
    """No slot is charged twice for one moment, be it to one job or to two."""
    rows = query(
        state, "select slot_id, device, start, end from ledger where slot_id is not null order by start"
    )
    places = defaultdict(list)
    for slot_id, device, start, end in rows:
        assert start < end
        places[slot_id, device].append((start, end))
    for intervals in places.values():
        for before, after in pairwise(intervals):
            assert before[1] <= after[0]


def require_energy_as_reported(state: Path) -> None:
    """Each attempt's joules are the stated watts times the CPU seconds that its runner itself told of."""
    charged = query(
        state, "select job_id, attempt, sum(energy_joules) from ledger where job_id is not null group by 1, 2"
    )
    assert charged
    for job_id, attempt, joules in charged:
        directory = state / "jobs" / job_id
        outcome = protocol.read_outcome(directory, attempt)
        told = asdict(outcome) if outcome else last_line(directory, attempt)
        reported = told["cpu_seconds"] - told["base_cpu_seconds"]
        grace = LEAVING_CPU_SECONDS if outcome else REPORT_CPU_SECONDS
        assert joules <= WATTS_PER_CORE * (reported + grace), (job_id, attempt)
        if outcome is not None:
            assert joules >= WATTS_PER_CORE * reported * (1 - 1e-9), (job_id, attempt)


def last_line(directory: Path, attempt: int) -> dict[str, float]:
    """Give the last progress that an attempt reported, however much later ones did since; nothing used if none."""
    lines = map(json.loads, (directory / "progress.jsonl").read_text().splitlines())
    none = {"cpu_seconds": 0.0, "base_cpu_seconds": 0.0}
    return [none, *(line for line in lines if line["attempt"] == attempt)][-1]
