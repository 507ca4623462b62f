"""From a decision to actions: a table of cases, and what holds in every case there is."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from fakes import make_job
from hypothesis import given
from hypothesis import strategies as st

from carbon_nas.allocate import Launch, Release, Suspend, allocate, by_urgency
from carbon_nas.model import Decision, JobKind, JobState, Slot, Window

NOW = datetime(2023, 6, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
SLOTS = [Slot(f"s{n}", "here", "GB") for n in range(3)]


def decide(train, score, *suspend):
    return Decision(train, score, Window.CLEAN, "because", suspend)


def train(name, progress=0.0, *, due=None, state=JobState.QUEUED, age=0):
    deadline = None if due is None else NOW + due * HOUR
    return make_job(name, progress=progress, deadline=deadline, state=state, created_at=NOW - age * HOUR)


def score(name):
    return make_job(name, JobKind.SCORE, created_at=NOW)


def said(actions):
    """Give the actions as words: `+job@slot`, `-job`, `~slot`."""
    words = {
        Launch: lambda a: f"+{a.job.id}@{a.slot.id}",
        Suspend: lambda a: f"-{a.job.id}",
        Release: lambda a: f"~{a.slot.id}",
    }
    return " ".join(words[type(action)](action) for action in actions)


CASES = {
    "nothing to do releases every slot": (decide(3, 3), [], {}, "~s0 ~s1 ~s2"),
    "trainings are served first": (
        decide(3, 3),
        [score("a"), score("b"), train("t")],
        {},
        "+t@s0 +a@s1 +b@s2",
    ),
    "no more trainings than decided": (decide(1, 0), [train("t"), train("u")], {}, "+t@s0 ~s1 ~s2"),
    "those that run count": (
        decide(2, 0),
        [train("r"), train("t"), train("u")],
        {"r": "s1"},
        "+t@s0 ~s2",
    ),
    "no more scorings than decided": (decide(0, 1), [score("a"), score("b")], {}, "+a@s0 ~s1 ~s2"),
    "a dirty hour suspends all trainings": (
        decide(0, 3),
        [train("r", 0.5), train("q", 0.1), score("a")],
        {"r": "s0", "q": "s1"},
        "-r -q +a@s2",
    ),
    "the trainings nearest to their end are kept": (
        decide(1, 0),
        [train("r", 0.2), train("q", 0.9)],
        {"r": "s0", "q": "s1"},
        "-r ~s2",
    ),
    "an overdue training is kept in a dirty hour": (
        decide(0, 0),
        [train("r", 0.2, due=-1), train("q", 0.9)],
        {"r": "s0", "q": "s1"},
        "-q ~s2",
    ),
    "an overdue training starts in a dirty hour": (
        decide(0, 3),
        [score("a"), train("t"), train("u", due=0)],
        {},
        "+u@s0 +a@s1 ~s2",
    ),
    "one that is not yet due does not": (decide(0, 0), [train("u", due=1)], {}, "~s0 ~s1 ~s2"),
    "overdue ones count as trainings": (
        decide(1, 0),
        [train("t"), train("u", due=-1)],
        {},
        "+u@s0 ~s1 ~s2",
    ),
    "a named training is suspended though there is room": (
        decide(3, 0, "q"),
        [train("r"), train("q")],
        {"r": "s0", "q": "s2"},
        "-q ~s1",
    ),
    "a named training makes room for another": (
        decide(1, 0, "q"),
        [train("q", 0.3), train("t")],
        {"q": "s0"},
        "-q +t@s1 ~s2",
    ),
    "a named training that is overdue goes on": (
        decide(1, 0, "q"),
        [train("q", due=-1)],
        {"q": "s0"},
        "~s1 ~s2",
    ),
    "a name that does not run is nobody's": (decide(1, 0, "x"), [train("x")], {}, "+x@s0 ~s1 ~s2"),
    "surplus scorings are asked to leave": (
        decide(0, 1),
        [score("a"), score("b")],
        {"a": "s0", "b": "s1"},
        "-b ~s2",
    ),
    "suspended ones go on before new ones begin": (
        decide(1, 0),
        [train("t", age=9), train("u", 0.1, state=JobState.SUSPENDED)],
        {},
        "+u@s0 ~s1 ~s2",
    ),
    "one suspended before its first step goes on, too": (
        decide(1, 0),
        [train("t", age=9), train("u", state=JobState.SUSPENDED)],
        {},
        "+u@s0 ~s1 ~s2",
    ),
    "with no scoring allowed, one that runs is asked to leave": (
        decide(3, 0),
        [score("a"), train("t")],
        {"a": "s0"},
        "-a +t@s1 ~s2",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_case(case):
    decision, jobs, held, actions = CASES[case]
    assert said(allocate(decision, jobs, SLOTS, held, NOW)) == actions


def test_every_action_has_its_reason():
    jobs = [train("r"), train("t", due=-1), score("a")]
    suspend, overdue, scoring = allocate(decide(0, 3), jobs, SLOTS, {"r": "s0"}, NOW)
    assert (suspend.why, scoring.why) == ("because", "because")
    assert overdue.why == "waited until its deadline 2023-05-31 23:00Z"


def test_urgency_is_deadline_then_progress_then_age():
    jobs = [
        train("new"),
        train("old", age=3),
        train("begun", 0.2),
        train("nearly", 0.8),
        train("late", due=-1),
        train("late and begun", 0.1, due=-2),
    ]
    assert [job.id for job in by_urgency(jobs, NOW)] == [
        "late and begun",
        "late",
        "nearly",
        "begun",
        "old",
        "new",
    ]


@st.composite
def situations(draw):
    slots = [Slot(f"s{n}", "here", "GB") for n in range(draw(st.integers(0, 4)))]
    jobs = []
    for n in range(draw(st.integers(0, 8))):
        kind = draw(st.sampled_from(JobKind))
        due = draw(st.none() | st.integers(-3, 3)) if kind is JobKind.TRAIN else None
        job = make_job(
            f"j{n}",
            kind,
            state=draw(st.sampled_from([JobState.QUEUED, JobState.SUSPENDED])),
            progress=draw(st.sampled_from([0.0, 0.3, 0.9])),
            created_at=NOW - draw(st.integers(0, 5)) * HOUR,
            deadline=None if due is None else NOW + due * HOUR,
        )
        jobs.append(job)
    runners = draw(st.permutations(jobs))[: draw(st.integers(0, min(len(slots), len(jobs))))]
    held = {job.id: slot.id for job, slot in zip(runners, draw(st.permutations(slots)), strict=False)}
    jobs = [replace(job, state=JobState.RUNNING) if job.id in held else job for job in jobs]
    names = draw(st.lists(st.sampled_from([job.id for job in jobs] or ["nobody"]), max_size=3, unique=True))
    decision = decide(draw(st.integers(0, 5)), draw(st.integers(0, 5)), *names)
    return decision, jobs, slots, held


@given(situations())
def test_what_holds_in_every_case(situation):
    decision, jobs, slots, held = situation
    actions = allocate(decision, jobs, slots, held, NOW)
    launches = [a for a in actions if isinstance(a, Launch)]
    suspended = [a.job for a in actions if isinstance(a, Suspend)]
    released = [a.slot.id for a in actions if isinstance(a, Release)]

    free = {slot.id for slot in slots} - set(held.values())
    used = [launch.slot.id for launch in launches] + released
    assert sorted(used) == sorted(free), "every free slot is launched on or released, and once"

    started = [launch.job.id for launch in launches]
    assert len(set(started)) == len(started)
    assert not set(started) & held.keys(), "nothing that runs is launched"
    assert {job.id for job in suspended} <= held.keys()
    assert len({job.id for job in suspended}) == len(suspended)
    assert not any(job.overdue(NOW) for job in suspended), "deadlines win"

    leaving = {job.id for job in suspended}
    for kind, allowed in ((JobKind.TRAIN, decision.train_slots), (JobKind.SCORE, decision.score_slots)):
        staying = [j for j in jobs if j.kind is kind and j.id in held and j.id not in leaving]
        new = [launch.job for launch in launches if launch.job.kind is kind]
        eager = [job for job in staying + new if not job.overdue(NOW)]
        assert not eager or len(staying + new) <= allowed, "only the overdue exceed what was decided"

    waiting = [j for j in jobs if j.id not in held and j.id not in started]
    if released:
        assert not any(j.overdue(NOW) for j in waiting), "none is overdue while a slot is free"
        training = sum(j.kind is JobKind.TRAIN for j in jobs if j.id in held and j.id not in leaving)
        training += sum(launch.job.kind is JobKind.TRAIN for launch in launches)
        if any(j.kind is JobKind.TRAIN for j in waiting):
            assert training >= decision.train_slots, "no slot is left idle that might train"


def test_an_overdue_training_that_starts_takes_the_place_of_one_that_can_wait():
    eager = train("eager", state=JobState.RUNNING)
    actions = allocate(decide(1, 0), [eager, train("late", due=0)], SLOTS[:2], {"eager": "s0"}, NOW)
    assert said(actions) == "-eager +late@s1"


@given(situations(), st.randoms(use_true_random=False))
def test_the_order_in_which_trainings_come_changes_nothing(situation, rng):
    decision, jobs, slots, held = situation
    trainings = [job for job in jobs if job.kind is JobKind.TRAIN]
    once = allocate(decision, trainings, slots, held, NOW)
    assert allocate(decision, trainings, slots, held, NOW) == once
    rng.shuffle(trainings)
    assert allocate(decision, trainings, slots, held, NOW) == once
