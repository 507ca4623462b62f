"""What the search found, and what the grid was like meanwhile."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from carbon_nas.energy.counterfactual import IntensityProfile
from carbon_nas.model import Decision, Evaluation, Job, JobKind, JobState, LedgerEntry, Window
from carbon_nas.report.model import CostUnit, IntensityStatistics, SearchResults, TrainedCandidate
from carbon_nas.report.record import RunRecord
from carbon_nas.report.rows import grams, grouped, kwh
from carbon_nas.search import cost
from carbon_nas.search.pareto import Point, front


def search_results(record: RunRecord, rows: Sequence[LedgerEntry]) -> SearchResults:
    """Count what was scored, trained, suspended and resumed, and rank what was trained."""
    steps = Counter((step.source, step.target) for step in record.transitions)
    weighed = cost.named(record.inference_cost)
    costs = cost.known((found for _, found in record.evaluations), weighed)
    trained = _trainings(record, rows, costs)
    ended = [one for one in trained if not one.paused]
    best = ended[0] if ended and ended[0].accuracy is not None else None
    why = "no training reported an accuracy" if ended else "no training has finished"
    return SearchResults(
        candidates=record.candidates,
        scored=len({found.arch for _, found in record.evaluations if found.kind is JobKind.SCORE}),
        trained=len({one.arch for one in ended}),
        paused=len({one.arch for one in trained} - {one.arch for one in ended}),
        suspended=sum(count for (_, target), count in steps.items() if target is JobState.SUSPENDED),
        resumed=steps[JobState.SUSPENDED, JobState.RUNNING],
        failed=sum(job.kind is JobKind.TRAIN and job.state is JobState.FAILED for job in record.jobs),
        jobs=_jobs_by_state(record),
        best_arch=best.arch if best else None,
        best_accuracy=best.accuracy if best else None,
        cost=CostUnit(weighed.name, weighed.label, weighed.unit, weighed.scale),
        trainings=tuple(trained),
        missing={} if best else {"best_arch": why, "best_accuracy": why},
    )


def intensity_statistics(
    record: RunRecord, rows: Sequence[LedgerEntry], known: IntensityProfile
) -> IntensityStatistics:
    """Describe the grid in the period by time, and as each kind of work met it by energy."""
    values = [
        segment.grams_per_kwh
        for segment in known.segments
        if segment.end > record.start and segment.start < record.end
    ]
    clean = _clean_share(record.decisions, record.start, record.end)
    missing = dict.fromkeys(
        ("minimum_grams_per_kwh", "mean_grams_per_kwh", "maximum_grams_per_kwh"),
        "no intensity of the period is known",
    )
    missing = {} if values else missing
    if clean is None:
        missing["share_of_period_clean"] = "no decision was recorded"
    return IntensityStatistics(
        minimum_grams_per_kwh=min(values, default=None),
        mean_grams_per_kwh=known.mean(record.start, record.end),
        maximum_grams_per_kwh=max(values, default=None),
        share_of_period_known=known.integrate(record.start, record.end)[0]
        / (record.end - record.start).total_seconds(),
        share_of_period_clean=clean,
        energy_weighted_grams_per_kwh={
            work: grams(group) / kwh(group)
            for work, group in sorted(grouped(rows, lambda row: row.work).items())
            if kwh(group)
        },
        missing=missing,
    )


def windows(
    decisions: Sequence[tuple[datetime, Decision]], start: datetime, end: datetime
) -> list[tuple[datetime, datetime, Window]]:
    """Give the stretches of one window each; a decision holds until the next one, the last until `end`."""
    ordered = sorted(decisions, key=lambda item: item[0])
    stretches: list[tuple[datetime, datetime, Window]] = []
    for n, (at, decision) in enumerate(ordered):
        until = ordered[n + 1][0] if n + 1 < len(ordered) else end
        begin, until = max(at, start), min(until, end)
        if until <= begin:
            continue
        if stretches and stretches[-1][2] is decision.window and stretches[-1][1] == begin:
            begin = stretches.pop()[0]
        stretches.append((begin, until, decision.window))
    return stretches


def _clean_share(
    decisions: Sequence[tuple[datetime, Decision]], start: datetime, end: datetime
) -> float | None:
    stretches = windows(decisions, start, end)
    if not stretches:
        return None
    clean = sum((until - begin for begin, until, window in stretches if window is Window.CLEAN), timedelta())
    return clean / sum((until - begin for begin, until, _ in stretches), timedelta())


def _jobs_by_state(record: RunRecord) -> Mapping[JobKind, Mapping[JobState, int]]:
    counts = Counter((job.kind, job.state) for job in record.jobs)
    return {
        kind: {state: counts[kind, state] for state in JobState if counts[kind, state]} for kind in JobKind
    }


def _trainings(
    record: RunRecord, rows: Sequence[LedgerEntry], costs: Mapping[str, float]
) -> list[TrainedCandidate]:
    """List the finished trainings, those to the end first, the most accurate first; each with all its jobs.

    A job that trained again counts once, its last.
    """
    jobs = {job.id: job for job in record.jobs if job.kind is JobKind.TRAIN}
    found = {job_id: result for job_id, result in record.evaluations if result.kind is JobKind.TRAIN}
    told = {
        jobs[job_id].continues for job_id in found if job_id in jobs
    }  # by the jobs that went on from them
    found = {job_id: result for job_id, result in found.items() if job_id not in told}
    end = record.epochs or max((job.epochs or 0 for job in jobs.values()), default=0)
    paused = {job_id for job_id in found if job_id in jobs and (jobs[job_id].epochs or end) < end}
    points = {job_id: _point(result, costs) for job_id, result in found.items() if job_id not in paused}
    best = set(front({job: point for job, point in points.items() if point is not None}))
    spent = grouped(rows, lambda row: row.job_id)
    suspensions = Counter(step.job_id for step in record.transitions if step.target is JobState.SUSPENDED)
    trained = []
    for job_id, result in found.items():
        chain = _chain(job_id, jobs)
        trained.append(
            _training(
                chain,
                result,
                inference_cost=costs.get(result.arch),
                rows=[row for each in chain for row in spent.get(each, [])],
                epochs=jobs[job_id].epochs if job_id in jobs else None,
                suspensions=sum(suspensions[each] for each in chain),
                paused=job_id in paused,
                on_front=job_id in best,
            )
        )
    return sorted(
        trained,
        key=lambda one: (
            *(one.paused, -_or(one.accuracy, -1.0), _or(one.inference_cost, 0.0)),
            *(one.arch, one.job_id),
        ),
    )


def _chain(job_id: str, jobs: Mapping[str, Job]) -> list[str]:
    """Give the jobs of one training, oldest first; the last is `job_id`."""
    chain = [job_id]
    while (job := jobs.get(chain[0])) is not None and job.continues is not None:
        chain.insert(0, job.continues)
    return chain


def _point(result: Evaluation, costs: Mapping[str, float]) -> Point | None:
    """Give (accuracy, inference cost), if both are known."""
    accuracy, spent = result.values.get("accuracy"), costs.get(result.arch)
    if accuracy is None or spent is None or not (math.isfinite(accuracy) and math.isfinite(spent)):
        return None
    return accuracy, spent


def _training(
    chain: Sequence[str],
    result: Evaluation,
    *,
    inference_cost: float | None,
    rows: Sequence[LedgerEntry],
    epochs: int | None,
    suspensions: int,
    paused: bool,
    on_front: bool,
) -> TrainedCandidate:
    parameters = result.values.get("parameters")
    fields = {
        "accuracy": _finite(result.values.get("accuracy")),
        "flops": result.values.get("flops"),
        "inference_cost": inference_cost,
        "parameters": None if parameters is None else int(parameters),
        "epochs": epochs,
        "energy_kwh": kwh(rows) if rows else None,
        "emissions_grams": grams(rows) if rows else None,
    }
    return TrainedCandidate(
        arch=result.arch,
        job_id=chain[-1],
        earlier_jobs=tuple(chain[:-1]),
        suspensions=suspensions,
        paused=paused,
        on_front=on_front,
        missing={name: _WHY_NOT[name] for name, value in fields.items() if value is None},
        **fields,  # type: ignore[arg-type]  # a dict's values have one type
    )


_WHY_NOT = {
    "accuracy": "the training did not report it",
    "flops": "the training did not report it",
    "inference_cost": "neither its scoring nor its training tells it",
    "parameters": "the training did not report it",
    "epochs": "the job does not state its fidelity",
    "energy_kwh": "no ledger row belongs to this job",
    "emissions_grams": "no ledger row belongs to this job",
}


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _or(value: float | None, default: float) -> float:
    return default if value is None else value
