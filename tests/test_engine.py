"""The engine on a simulated clock: real store, feed, ledger and policies; only the jobs are made up."""

import asyncio
import contextlib
import math
import os
import random
import tempfile
from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from engine_world import BOARD_WATTS, CONTROLLER_CORES, WATTS, World, grams_between, trace
from fakes import DaemonDied, Fate, add_job, make_job

from carbon_nas import engine as engine_module
from carbon_nas.model import JobKind, JobState, Quality, RunState, Window, Work
from carbon_nas.states import TRANSITIONS

START = datetime(2023, 1, 10, tzinfo=UTC)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
TRAIN, SCORE = JobKind.TRAIN, JobKind.SCORE
LOST, FAILED = RunState.LOST, RunState.FAILED
ALWAYS_DIRTY = ("threshold", {"clean_below": 0.5, "dirty_above": 0.6, "minimum_dwell_minutes": 0})


@pytest.fixture
def folder():
    """In memory, where thousands of commits need not wait for a disk."""
    memory = Path("/dev/shm")  # noqa: S108 -- a folder of its own is made in it
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as made:
        yield Path(made)


@pytest.fixture
def path(folder):
    return folder / "s.sqlite"


def run(coroutine):
    return asyncio.run(coroutine)


def add(world, *names, kind=TRAIN, **changes):
    return [add_job(world.store, make_job(name, kind, created_at=START, **changes)) for name in names]


def states(world):
    return {job.id: str(job.state) for job in world.store.jobs()}


def steps(world, job_id):
    return [str(step.target) for step in world.store.transitions() if step.job_id == job_id]


def reasons(world, job_id):
    return [step.why for step in world.store.transitions() if step.job_id == job_id]


def in_force(decisions, when):
    return [decision for at, decision in decisions if at <= when][-1]


# --- what must hold at every moment, and at the end


def watch_slots(world):
    """After a tick: nobody shares a slot, and nobody overdue waits while one is free."""
    engine, now = world.engine, world.clock.now()
    held = [run.slot.id for run in engine.running.values()]
    assert len(set(held)) == len(held) <= world.executor.slots
    waiting = [job for job, _ in world.store.open_jobs() if job.id not in engine.running]
    if len(held) < world.executor.slots:
        assert not [job.id for job in waiting if job.overdue(now)]
    trainings = [r.job for r in engine.running.values() if r.job.kind is TRAIN and r.asked is None]
    eager = [job for job in trainings if not job.overdue(now)]
    assert not eager or len(trainings) <= engine.decision.train_slots
    alive = [a for a in world.executor.attempts.values() if a.end is None]
    assert max(Counter(a.spec.job_id for a in alive).values(), default=1) == 1


def require_lawful(world):
    """Every job's history is a walk through the table, and every step has a reason."""
    stands = {job.id: JobState.QUEUED for job in world.store.jobs()}
    for step in world.store.transitions():
        assert step.source is stands[step.job_id]
        assert step.target in TRANSITIONS[step.source]
        assert step.why
        stands[step.job_id] = step.target
    assert {job.id: job.state for job in world.store.jobs()} == stands


def require_clean_launches(world):
    """Every training was launched in a clean window, unless it was overdue."""
    decisions, jobs = world.store.decisions(), {job.id: job for job in world.store.jobs()}
    launches = [step for step in world.store.transitions() if step.target is JobState.RUNNING]
    assert launches
    for step in launches:
        job, decision = jobs[step.job_id], in_force(decisions, step.at)
        if job.kind is TRAIN and decision.window is not Window.CLEAN:
            assert job.overdue(step.at), step
            assert step.why.startswith("waited until its deadline")


def require_sums(world, *, controller_joules=None):
    """The ledger against the machine's own account, and its totals against each other."""
    store, machine = world.store, world.executor
    rows, by_job, totals = store.entries(), store.energy_by_job(), store.totals()
    for job in store.jobs():
        charged, grams = by_job.get(job.id, (0.0, 0.0))
        assert charged == pytest.approx(WATTS * machine.cpu_seconds_of(job.id), abs=1e-6), job.id
        mine = [a for a in machine.attempts.values() if a.spec.job_id == job.id]
        wanted = sum(grams_between(a.started, a.ended or world.clock.now()) for a in mine)
        assert grams == pytest.approx(wanted, rel=1e-9, abs=1e-9)
    controller = math.fsum(row.energy_joules for row in rows if row.work is Work.CONTROLLER)
    if controller_joules is not None:
        assert controller == pytest.approx(controller_joules)
    joules = sum(one for one, _ in totals.values())
    grams = sum(one for _, one in totals.values())
    idle = math.fsum(row.energy_joules for row in rows if row.work is Work.IDLE)
    assert joules == pytest.approx(sum(one for one, _ in by_job.values()) + controller + idle)
    assert grams == pytest.approx(math.fsum(row.emissions_grams for row in rows))
    assert (world.engine.energy_joules, world.engine.emissions_grams) == pytest.approx((joules, grams))
    assert all(row.quality is not Quality.FALLBACK for row in rows)


def require_each_done_once(world, but=()):
    """No job was lost, and none done twice."""
    jobs = [job for job in world.store.jobs() if job.id not in but]
    assert {job.id: job.state for job in jobs} == {job.id: JobState.DONE for job in jobs}
    ends = Counter(step.job_id for step in world.store.transitions() if step.target is JobState.DONE)
    assert ends == Counter({job.id: 1 for job in jobs})
    found = Counter((job_id, one.arch) for job_id, one in world.store.evaluations())
    assert found == Counter((job.id, arch) for job in jobs for arch in job.archs)


# --- a week


def week_of_work(world, rng):
    """Trainings of one to six hours whose deadlines come one after another, and scorings; some with bad luck."""
    hours = {}
    for n in range(28):
        name = f"t{n:02}"
        add(world, name, deadline=START + (2 + 4 * n) * HOUR)
        hours[name] = rng.randint(2, 12) / 2
    for n in range(40):
        add(world, f"s{n:02}", kind=SCORE)
    world.executor.lasts = lambda spec: hours[spec.job_id] * HOUR if spec.job_id in hours else 20 * MINUTE
    world.executor.fates = {
        ("t03", 1): Fate(after=5 * MINUTE),
        ("t05", 1): Fate(refused=True),
        ("t07", 1): Fate(after=5 * MINUTE),
        ("t07", 2): Fate(after=5 * MINUTE),
        ("t07", 3): Fate(after=5 * MINUTE),
        ("t09", 1): Fate(after=5 * MINUTE, end=FAILED),
        ("s11", 1): Fate(after=5 * MINUTE),
    } | {(f"t{n:02}", attempt): Fate(suspends_in=12 * MINUTE) for n in (0, 1, 2) for attempt in range(1, 9)}


def test_a_week(path):
    async def live():
        world = World(path, START, slots=2)
        async with world.daemon():
            week_of_work(world, random.Random(5))
            await world.run(START + 8 * DAY, step=15 * MINUTE, watch=watch_slots)
            await world.engine.sample()
            require_lawful(world)
            require_clean_launches(world)
            require_each_done_once(world, but=("t07", "t09"))
            assert states(world)["t07"] == states(world)["t09"] == "failed"
            require_sums(world, controller_joules=WATTS * CONTROLLER_CORES * 8 * DAY.total_seconds())
            return world.store.transitions(), world.store.decisions()

    transitions, decisions = run(live())
    # It was a week worth testing: windows came and went, trainings were suspended, went on, were overdue.
    assert 8 < len(decisions) < 100
    words = Counter((str(step.source), str(step.target)) for step in transitions)
    assert words["running", "suspended"] > 5
    assert words["suspended", "running"] == words["running", "suspended"]
    assert sum("deadline" in step.why for step in transitions) > 3
    for (_, one), (_, two) in pairwise(decisions):
        assert one != two, "what is decided is kept when it is new"


def test_what_a_clean_window_is_by_the_trace_itself(path):
    """A threshold without hysteresis or dwell, against the trace read by hand."""
    limit = sorted(trace()[START + n * HOUR / 2] for n in range(96))[30]
    options = {"clean_below": limit, "dirty_above": limit, "minimum_dwell_minutes": 0}

    async def live():
        world = World(path, START, ("threshold", options), lasts=lambda spec: 2 * HOUR)
        async with world.daemon():
            add(world, *(f"t{n:02}" for n in range(40)))
            await world.run(START + 2 * DAY, watch=watch_slots)
            return world.store.transitions()

    transitions = run(live())
    launches = [step.at for step in transitions if step.target is JobState.RUNNING]
    suspensions = [step.at for step in transitions if step.target is JobState.SUSPENDED]
    assert len(launches) > 10
    assert len(suspensions) > 2

    def intensity(when):
        return trace()[when.replace(minute=when.minute // 30 * 30)]

    assert all(intensity(when) <= limit for when in launches)
    # The tick that asks finds it gone at the next one, ten minutes later.
    assert all(intensity(when - 10 * MINUTE) > limit for when in suspensions)


def replay(path, policy):
    """Do the same work under a policy; give the grams and joules of each training."""

    async def live():
        world = World(path, START, policy, slots=1)
        async with world.daemon():
            add(world, *(f"t{n}" for n in range(8)))
            await world.run(START + 4 * DAY, step=30 * MINUTE)
            require_each_done_once(world)
            require_sums(world)
            return world.store.energy_by_job()

    return run(live())


def test_waiting_for_clean_hours_saves_grams_and_no_work(folder):
    blind = replay(folder / "always.sqlite", "always")
    aware = replay(folder / "percentile.sqlite", "percentile")
    again = replay(folder / "again.sqlite", "percentile")
    assert aware == again, "a replay is deterministic"
    work = [3 * 3600 * WATTS] * 8
    assert [joules for joules, _ in blind.values()] == pytest.approx(work)
    assert [joules for joules, _ in aware.values()] == pytest.approx(work)
    assert sum(grams for _, grams in aware.values()) < sum(grams for _, grams in blind.values())


# --- what can go wrong with one job


@pytest.mark.parametrize("end", [LOST, FAILED])
@pytest.mark.parametrize("retries", [0, 1, 2])
def test_a_lost_job_is_tried_again_until_its_retries_are_spent_a_failed_one_is_not(path, end, retries):
    async def live():
        world = World(path, START, "always", slots=1)
        async with world.daemon():
            add(world, "j", retries_left=retries)
            world.executor.fates = {("j", n): Fate(after=5 * MINUTE, end=end) for n in range(1, 9)}
            await world.run(START + 5 * HOUR, watch=watch_slots)
            require_sums(world)
            return steps(world, "j"), reasons(world, "j"), len(world.executor.attempts)

    history, why, attempts = run(live())
    tries = retries + 1 if end is LOST else 1
    assert history == ["running", "queued"] * (tries - 1) + ["running", "failed"]
    assert attempts == tries
    wanted = f"fate: {end}" if end is FAILED else "fate: lost; no retry is left"
    assert why[-1] == wanted


def test_a_launch_that_is_refused_costs_a_retry_and_leaves_the_slot_to_others(path):
    async def live():
        world = World(path, START, "always", slots=2)
        async with world.daemon():
            add(world, "j", "k", retries_left=1)
            world.executor.fates = {("j", 1): Fate(refused=True), ("k", 1): Fate(refused=True)}
            world.executor.fates |= {("k", 2): Fate(refused=True)}
            await world.run(START + 5 * HOUR, watch=watch_slots)
            require_lawful(world)
            return states(world), reasons(world, "j"), reasons(world, "k")

    after, j, k = run(live())
    assert after == {"j": "done", "k": "failed"}
    assert j[1] == "slot s0 refuses j; 0 retries left"
    assert k[-1] == "slot s1 refuses k; no retry is left" or k[-1] == "slot s0 refuses k; no retry is left"


def test_a_job_lost_while_it_was_asked_to_leave_spends_no_retry(path):
    dirty = World(path, START, ALWAYS_DIRTY, slots=1)

    async def live(world):
        async with world.daemon():
            add(world, "j", retries_left=0)
            world.executor.fates = {("j", 1): Fate(after=15 * MINUTE, suspends_in=HOUR)}
            always = World(path, START, "always").policy
            dirty_policy, world.engine.policy = world.engine.policy, always
            await world.step(10 * MINUTE)
            world.engine.policy = dirty_policy
            await world.step(10 * MINUTE)
            await world.step(10 * MINUTE)
            return world.store.jobs()[0], steps(world, "j"), reasons(world, "j")

    job, history, why = run(live(dirty))
    assert history == ["running", "queued"]
    assert job.retries_left == 0
    assert "g/kWh" in why[-1]


def test_an_overdue_training_runs_through_a_dirty_week_to_its_end(path):
    async def live():
        world = World(path, START, ALWAYS_DIRTY, slots=1)
        async with world.daemon():
            add(world, "late", deadline=START + 5 * HOUR)
            add(world, "patient")
            await world.run(START + DAY, watch=watch_slots)
            return {
                job.id: [s for s in world.store.transitions() if s.job_id == job.id]
                for job in world.store.jobs()
            }

    history = run(live())
    assert [(step.at, str(step.target)) for step in history["late"]] == [
        (START + 5 * HOUR, "running"),
        (START + 8 * HOUR, "done"),
    ]
    assert history["patient"] == []


def test_results_progress_and_specification_reach_where_they_belong(path):
    async def live():
        world = World(path, START, "always", slots=2)
        async with world.daemon():
            add(world, "t", epochs=9)
            add(world, "s", kind=SCORE)
            await world.step(10 * MINUTE)
            await world.step(HOUR)
            assert world.engine.running["t"].job.progress == pytest.approx(1 / 3)
            await world.run(START + 4 * HOUR)
            assert [job.progress for job in world.store.jobs()] == [1.0, 1.0]
            found = world.store.evaluations()
            specs = {key: attempt.spec for key, attempt in world.executor.attempts.items()}
            assert world.executor.released, "a slot with nothing to do is given back"
            return found, specs

    found, specs = run(live())
    assert {(job_id, one.arch, one.kind) for job_id, one in found} == {
        ("t", "a-t", TRAIN),
        ("s", "a-s", SCORE),
        ("s", "b-s", SCORE),
    }
    spec = specs["t", 1]
    assert (spec.epochs, spec.continues) == (9, None)
    assert specs["s", 1].train == spec.train == {"epochs": 4}
    assert spec.directory == path.parent / "jobs" / "t"
    assert (spec.archs, spec.seed, spec.space, spec.attempt) == (("a-t",), 1, "nasbench201", 1)


def test_ticks_and_samples_at_once_see_each_others_work_whole(path):
    async def live():
        world = World(path, START, "always", slots=3)
        async with world.daemon():
            add(world, *(f"t{n}" for n in range(6)))
            for _ in range(40):
                world.clock.advance(10 * MINUTE)
                await world.feed.refresh()
                engine = world.engine
                await asyncio.gather(engine.sample(), engine.tick(), engine.sample(), engine.tick())
            require_each_done_once(world)
            require_sums(world)

    run(live())


def test_a_training_is_asked_to_leave_once(path):
    async def live():
        world = World(path, START, "always", slots=1)
        async with world.daemon():
            add(world, "j")
            world.executor.fates = {("j", 1): Fate(suspends_in=HOUR)}
            await world.step(10 * MINUTE)
            world.engine.policy = World(path, START, ALWAYS_DIRTY).policy
            for _ in range(4):
                await world.step(10 * MINUTE)
            assert world.executor.asked == ["j"]
            assert states(world) == {"j": "running"}
            await world.step(HOUR)
            assert states(world) == {"j": "suspended"}

    run(live())


def test_a_board_is_charged_to_its_holder_from_launch_to_end_and_idle_between(path):
    """With one sample, the first: what changes hands is booked before it does."""

    async def live():
        world = World(path, START, "always", slots=1, gpu=True, lasts=lambda spec: 25 * MINUTE)
        async with world.daemon():
            await world.engine.sample()
            await world.step(10 * MINUTE, samples=False)
            add(world, "j")
            for _ in range(5):
                await world.step(10 * MINUTE, samples=False)
            await world.engine.sample()
            rows = [row for row in world.store.entries() if row.device.startswith("gpu/")]
            begin = min(row.start for row in rows)
            return (
                begin,
                sum_by(rows, lambda row: row.job_id),
                world.executor.cpu_seconds_of("j"),
                world.store.energy_by_job(),
            )

    begin, by_holder, cpu_seconds, by_job = run(live())
    assert begin == START
    # Launched at the second tick, 20 minutes after the first look; its end was seen 30 minutes later.
    assert by_holder == {
        None: pytest.approx(30 * 60 * BOARD_WATTS),
        "j": pytest.approx(30 * 60 * BOARD_WATTS),
    }
    assert by_job["j"][0] == pytest.approx(30 * 60 * BOARD_WATTS + cpu_seconds * WATTS)


def sum_by(rows, key):
    sums = Counter()
    for row in rows:
        sums[key(row)] += row.energy_joules
    return dict(sums)


# --- the end of a daemon, and the next one


def test_what_a_training_used_before_anybody_looked_is_booked_from_its_launch_on(path):
    async def live():
        world = World(path, START, "always", slots=1)
        async with world.daemon():
            add(world, "j")
            await world.step(10 * MINUTE, samples=False)
        world.clock.advance(90 * MINUTE)
        async with world.daemon():
            await world.engine.sample()
            return [row for row in world.store.entries() if row.job_id == "j"]

    rows = run(live())
    assert (rows[0].start, rows[-1].end) == (START + 10 * MINUTE, START + 100 * MINUTE)
    assert sum(row.energy_joules for row in rows) == pytest.approx(90 * 60 * WATTS)


@pytest.fixture
def no_real_waiting(monkeypatch):
    """While the engine waits for runners, simulated time passes instead of real time."""
    worlds = []

    async def wait(seconds):
        worlds[-1].clock.advance(timedelta(seconds=seconds))

    monkeypatch.setattr(engine_module, "real_sleep", wait)
    return worlds


def test_stop_waits_until_everything_is_saved(path, no_real_waiting):
    async def live():
        world = World(path, START, "always", slots=3)
        no_real_waiting.append(world)
        async with world.daemon():
            add(world, "quick", "slow", "stubborn")
            fates = {"quick": 0, "slow": 4, "stubborn": 100}
            world.executor.fates = {
                (name, 1): Fate(suspends_in=timedelta(seconds=seconds)) for name, seconds in fates.items()
            }
            await world.step(10 * MINUTE)
            await world.step(10 * MINUTE)
            await world.engine.stop(within_seconds=10)
            assert states(world) == {"quick": "suspended", "slow": "suspended", "stubborn": "running"}
            assert reasons(world, "slow")[-1] == "the daemon stops"
            await world.engine.tick()  # one that was already due
            assert states(world)["quick"] == "suspended", "a stopped engine launches nothing more"
            ended = world.executor.attempts["slow", 1].ended - world.executor.attempts["slow", 1].started
            assert ended == 10 * MINUTE + timedelta(seconds=4)
        async with world.daemon():
            handles = [(handle.job_id, handle.attempt) for handle in world.executor.reattached]
            assert handles == [("stubborn", 1)]
            await world.run(START + 6 * HOUR, watch=watch_slots)
            require_each_done_once(world)
            assert steps(world, "stubborn")[:2] == ["running", "suspended"]
            assert world.executor.attempts["quick", 2].base == 10 * MINUTE

    run(live())


def test_stop_with_nothing_to_do_does_not_wait(path, no_real_waiting):
    async def live():
        world = World(path, START, "always")
        no_real_waiting.append(world)
        async with world.daemon():
            await world.engine.stop(within_seconds=10)
            assert world.clock.now() == START

    run(live())


def test_a_new_engine_takes_up_decision_window_and_totals(path):
    async def live():
        world = World(path, START, slots=1)
        async with world.daemon():
            add(world, "t0", "t1")
            await world.run(START + 20 * HOUR)
            before = world.engine
            kept = (before.decision, before.window_since, before.energy_joules, before.emissions_grams)
        async with world.daemon():
            now = world.engine
            assert (now.decision.window, now.decision.train_slots) == (kept[0].window, kept[0].train_slots)
            assert now.window_since == kept[1]
            assert (now.energy_joules, now.emissions_grams) == pytest.approx(kept[2:])

    run(live())


def test_a_job_whose_slot_is_gone_is_queued_again(path):
    async def live():
        world = World(path, START, "always", slots=2)
        async with world.daemon():
            add(world, "j", "k")
            await world.step(10 * MINUTE)
        world.executor.slots = 1
        async with world.daemon():
            assert sorted(states(world).values()) == ["queued", "running"]
            await world.run(START + DAY, watch=watch_slots)
            require_each_done_once(world)

    run(live())


@pytest.mark.parametrize("seed", [0, *(pytest.param(n, marks=pytest.mark.drill) for n in range(1, 8))])
def test_daemons_that_die_at_any_moment_lose_no_job_and_do_none_twice(path, seed):
    rng = random.Random(seed)
    hours = {f"t{n}": rng.randint(1, 6) / 2 for n in range(10)}

    async def live_and_die(world, until):
        """One life: to its time, or into death in the middle of a launch."""
        async with world.daemon():
            if not world.store.jobs():
                add(world, *hours, deadline=START + 40 * HOUR)
                add(world, *(f"s{n}" for n in range(10)), kind=SCORE)
            open_ones = [job for job, state in states(world).items() if job in hours and state != "done"]
            if open_ones:
                world.executor.dies_at = (rng.choice(["before", "after"]), rng.choice(open_ones))
            with contextlib.suppress(DaemonDied):
                await world.run(until, watch=watch_slots)

    async def live():
        world = World(path, START, slots=2)
        world.executor.lasts = lambda spec: hours.get(spec.job_id, 0.4) * HOUR
        deaths = 0
        for _ in range(8):
            until = world.clock.now() + rng.randrange(1, 12) * HOUR
            await live_and_die(world, until)
            deaths += world.clock.now() < until
        async with world.daemon():
            await world.run(START + 6 * DAY, step=30 * MINUTE, watch=watch_slots)
            await world.engine.sample()
            require_lawful(world)
            require_each_done_once(world)
            require_sums_but_for_orphans(world)
        return deaths

    assert run(live()) > 0, "some died in the middle of a launch"


def require_sums_but_for_orphans(world):
    """A runner whose daemon died before it could keep where it is, is fenced; its energy alone is not known."""
    store, by_job = world.store, world.store.energy_by_job()
    unknown = Counter()
    for step in store.transitions():
        unknown[step.job_id] += step.why == "the daemon ended before its runner was known"
    for job in store.jobs():
        charged = by_job[job.id][0]
        used = WATTS * world.executor.cpu_seconds_of(job.id)
        assert charged <= used * (1 + 1e-9)
        if not unknown[job.id]:
            assert charged == pytest.approx(used)
    rows = store.entries()
    for job in store.jobs():
        mine = [row for row in rows if row.job_id == job.id]
        assert all(one.end <= two.start for one, two in pairwise(mine)), "no moment is charged twice"
