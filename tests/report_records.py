"""A two-day run on two slots, made by a small deterministic simulation with plausible values."""

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random

from carbon_nas.model import (
    Basis,
    Capabilities,
    Decision,
    EnergyMethod,
    Evaluation,
    Job,
    JobKind,
    JobState,
    LedgerEntry,
    Quality,
    Reading,
    Signal,
    Slot,
    Transition,
    Window,
    Work,
)
from carbon_nas.report.record import RunRecord

START = datetime(2023, 1, 10, 14, tzinfo=UTC)
STEP = timedelta(minutes=30)
STEPS = 96
END = START + STEPS * STEP
THRESHOLD = 170.0
OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")


def intensity(step):
    """Grams per kWh as on two windy winter days of Great Britain: low at night, high in the evening."""
    hours = START.hour + step / 2
    daily = 55 * math.sin((hours - 11) / 24 * 2 * math.pi) + 22 * math.sin((hours - 8) / 12 * 2 * math.pi)
    return round(175 + daily + 18 * math.sin(hours / 7.3), 1)


def reading(step, *, quality=Quality.ACTUAL, value=None):
    start = START + step * STEP
    return Reading(
        zone="GB",
        start=start,
        end=start + STEP,
        grams_per_kwh=intensity(step) if value is None else value,
        quality=quality,
        signal=Signal.AVERAGE,
        basis=Basis.DIRECT,
        provider="csv",
        fetched_at=start,
    )


def entry(step, work, joules, *, job=None, slot="cpu-0", attempt=1, minutes=(0, 30), **changes):
    """One ledger row within one half-hour."""
    known = reading(step)
    row = LedgerEntry(
        work=work,
        job_id=job,
        attempt=attempt if job else 0,
        slot_id=slot,
        device="cpu",
        start=known.start + timedelta(minutes=minutes[0]),
        end=known.start + timedelta(minutes=minutes[1]),
        energy_joules=joules,
        energy_method=EnergyMethod.MODEL,
        grams_per_kwh=known.grams_per_kwh,
        quality=known.quality,
        signal=known.signal,
        basis=known.basis,
        provider=known.provider,
        zone=known.zone,
    )
    return replace(row, **changes)


def arch(rng):
    edges = [f"{rng.choice(OPERATIONS)}~{source}" for node in (1, 2, 3) for source in range(node)]
    return "+".join(f"|{'|'.join(edges[first:last])}|" for first, last in ((0, 1), (1, 3), (3, 6)))


class _Run:
    """Keeps two slots busy: trainings in clean half-hours, scoring in dirty ones, as a daemon would."""

    def __init__(self, seed=7):
        self.rng = Random(seed)
        self.jobs, self.transitions, self.entries, self.evaluations = {}, [], [], []
        self.decisions, self.suspended, self.held, self.left = [], [], {}, {}

    def step(self, n):
        now = START + n * STEP
        clean = intensity(n) < THRESHOLD
        window = Window.CLEAN if clean else Window.DIRTY
        reason = f"{intensity(n):.0f} g/kWh is {'below' if clean else 'above'} the 40th percentile"
        self.decisions.append((now, Decision(2 * clean, 2 - 2 * clean, window, reason)))
        for slot in ("cpu-0", "cpu-1"):
            if clean:
                self._train(n, slot, now)
            else:
                self._score(n, slot, now)
        self.entries.append(entry(n, Work.CONTROLLER, 1.5, slot=None))

    def _train(self, n, slot, now):
        if slot not in self.held:
            if self.suspended:
                job = self.suspended.pop(0)
                self._move(job, JobState.RUNNING, now, "the window is clean")
                self.jobs[job] = replace(self.jobs[job], attempt=self.jobs[job].attempt + 1)
            else:
                job = f"train-{len(self.jobs):03}"
                self._add(job, JobKind.TRAIN, (arch(self.rng),), now)
                self.left[job] = self.rng.randint(2, 6)
            self.held[slot] = job
        job = self.held[slot]
        minutes = (0, 30 if self.left[job] > 1 else 26)
        joules = 40.0 + self.rng.random() * 8
        self.entries.append(
            entry(n, Work.TRAIN, joules, job=job, slot=slot, attempt=self.jobs[job].attempt, minutes=minutes)
        )
        self.left[job] -= 1
        if self.left[job] == 0:
            self._finish_training(job, now + timedelta(minutes=26))
            del self.held[slot]

    def _finish_training(self, job, at):
        self._move(job, JobState.DONE, at, "finished")
        convolutions = self.jobs[job].archs[0].count("conv_3x3") * 9 + self.jobs[job].archs[0].count(
            "conv_1x1"
        )
        flops = 1.1e6 + convolutions * 0.31e6
        values = {
            "accuracy": round(0.88 - 0.35 * math.exp(-convolutions / 9) + self.rng.uniform(-0.015, 0.015), 4),
            "loss": 0.41,
            "parameters": float(9_000 + convolutions * 2_300),
            "flops": flops,
        }
        self.evaluations.append((job, Evaluation(self.jobs[job].archs[0], JobKind.TRAIN, values, 9.0, 9.0)))

    def _score(self, n, slot, now):
        if slot in self.held:
            job = self.held.pop(slot)
            self._move(job, JobState.SUSPENDED, now, "the window is dirty")
            self.suspended.append(job)
        job = f"score-{len(self.jobs):03}"
        archs = tuple(arch(self.rng) for _ in range(4))
        self._add(job, JobKind.SCORE, archs, now)
        self.entries += [
            entry(n, Work.SCORE, 21.0 + self.rng.random(), job=job, slot=slot, minutes=(0, 18)),
            entry(n, Work.IDLE, 2.0, slot=slot, minutes=(18, 30)),
        ]
        self._move(job, JobState.DONE, now + timedelta(minutes=18), "finished")
        self.evaluations += [
            (job, Evaluation(one, JobKind.SCORE, {"synflow": 1.0}, 0.4, 0.4)) for one in archs
        ]

    def _add(self, job, kind, archs, now):
        epochs = 12 if kind is JobKind.TRAIN else None
        self.jobs[job] = Job(job, kind, "GB", archs, now, attempt=1, epochs=epochs)
        self._move(job, JobState.RUNNING, now, "a slot is free")

    def _move(self, job, to, at, why):
        self.transitions.append(Transition(job, self.jobs[job].state, to, at, why))
        self.jobs[job] = replace(self.jobs[job], state=to)


def make_record(**changes):
    """The record of the whole run; `changes` replace its fields."""
    run = _Run()
    for n in range(STEPS):
        run.step(n)
    fields = {
        "study": "demo",
        "zone": "GB",
        "start": START,
        "end": END,
        "clock_speed": 1440.0,
        "slots": tuple(Slot(f"cpu-{n}", "host-a", "GB", name="CPU, 1 core") for n in range(2)),
        "jobs": tuple(run.jobs.values()),
        "transitions": tuple(run.transitions),
        "entries": tuple(run.entries),
        "readings": tuple(reading(n) for n in range(STEPS)),
        "decisions": tuple(run.decisions),
        "evaluations": tuple(run.evaluations),
        "candidates": len({found.arch for _, found in run.evaluations}),
        "capabilities": Capabilities(
            signal=Signal.AVERAGE,
            basis=Basis.DIRECT,
            step=STEP,
            history=True,
            forecast=True,
            licence="CC BY 4.0",
            attribution="National Energy System Operator, Carbon Intensity API",
        ),
        "policy": "percentile",
        "controller": "reinforce",
        "space": "nasbench201",
        "dataset": "fashion16",
        "energy_model": "12 W per busy core (model)",
        "tool_version": "0.1.0",
        "config_sha256": "9f" * 32,
        "reference_grams_per_kwh": 175.0,
    }
    return RunRecord(**(fields | changes))


def make_empty_record():
    """A run that has only begun: no row, no reading, no decision."""
    nothing = dict.fromkeys(("jobs", "transitions", "entries", "readings", "decisions", "evaluations"), ())
    return make_record(**nothing, candidates=0, reference_grams_per_kwh=None)


def make_record_with_rungs():
    """The same run, where trainings of 12 epochs paused after 4: the first was continued by the second, and the third
    and the fourth, the most accurate by far, have paused."""
    record = make_record(epochs=12)
    trainings = [job for job in record.jobs if job.kind is JobKind.TRAIN and job.state is JobState.DONE]
    first, second, *paused = trainings[:4]
    changed = {
        first.id: replace(first, epochs=4),
        second.id: replace(second, archs=first.archs, continues=first.id),
        **{job.id: replace(job, epochs=4) for job in paused},
    }
    dear = {job.id: {"accuracy": 0.99} for job in paused}
    evaluations = [
        (job_id, replace(found, values=found.values | dear.get(job_id, {})))
        for job_id, found in record.evaluations
    ]
    evaluations = [
        (job_id, replace(found, arch=first.archs[0]) if job_id == second.id else found)
        for job_id, found in evaluations
    ]
    jobs = tuple(changed.get(job.id, job) for job in record.jobs)
    return replace(record, jobs=jobs, evaluations=tuple(evaluations)), first.id, second.id, paused
