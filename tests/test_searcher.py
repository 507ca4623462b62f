"""The search's shell: what is asked, made, and learnt, with real store, study and controller."""

import asyncio
import contextlib
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from engine_world import World
from fakes import Fate, add_job, evaluations, make_job

from carbon_nas import assembly
from carbon_nas import config as configuration
from carbon_nas.clock import SimulatedClock
from carbon_nas.errors import SearchError
from carbon_nas.model import (
    EnergyMethod,
    JobKind,
    JobSpec,
    JobState,
    LedgerEntry,
    Work,
    emissions_grams,
)
from carbon_nas.search.cost import FLOPS
from carbon_nas.search.fidelity import FidelitySettings
from carbon_nas.search.hosts import make_controller
from carbon_nas.search.study import HOPELESS, StudySettings
from carbon_nas.searcher import RewardOptions, Searcher, SearcherSettings
from carbon_nas.states import transition
from carbon_nas.store.sql import SqlStore

START = datetime(2023, 1, 10, tzinfo=UTC)
HOUR = timedelta(hours=1)
REFERENCE = 200.0  # g/kWh
SMALL = {"max_scored": 24, "max_trained": 4, "score_batch": 4, "minimum_pool": 8, "train_queue": 1}


@dataclass
class Teacher:
    """Behind `AsyncController`: proposes a list in its order, and writes down what it is taught.

    `fails` are the calls that raise, each as often as it says.
    """

    archs: list[str]
    proposed: int = 0
    learnt: list = field(default_factory=list)
    fails: Counter = field(default_factory=Counter)

    async def start(self, state=None):
        if state is not None:
            self.proposed, self.learnt = state["proposed"], [*state["learnt"]]

    async def propose(self, n):
        self.fail("propose")
        first, self.proposed = self.proposed, min(self.proposed + n, len(self.archs))
        return self.archs[first : self.proposed]

    async def observe(self, observations):
        self.fail("observe")
        self.learnt += [seen.arch for seen in observations]
        self.last = observations

    async def state_dict(self):
        return {"proposed": self.proposed, "learnt": self.learnt}

    async def close(self):
        pass

    def cpu_seconds(self):
        return 1.5

    def fail(self, call):
        if self.fails[call]:
            self.fails[call] -= 1
            raise SearchError(f"{call} failed")


def random_controller():
    return make_controller("random", {}, "nasbench201", {}, 1)


def make_settings(study=None, cost=None, fidelity=None, **reward):
    return SearcherSettings(
        zone="GB",
        controller="teacher",
        study=StudySettings(**{**SMALL, **(study or {})}),
        reward=RewardOptions(**reward),
        cost=cost or FLOPS,
        fidelity=fidelity or FidelitySettings(),
        epochs=3,
        max_delay=10 * HOUR,
        retries=1,
    )


def make_searcher(store, controller, clock, settings=None):
    return Searcher(
        settings or make_settings(),
        clock=clock,
        store=store,
        controller=controller,
        reference_grams_per_kwh=lambda: REFERENCE,
    )


@pytest.fixture
def bench(tmp_path):
    """A searcher on a store of its own, whose jobs the test does itself."""
    with contextlib.ExitStack() as stack:

        def make(controller, settings=None):
            store = SqlStore(tmp_path / "s.sqlite")
            stack.enter_context(contextlib.closing(store))
            store.open()
            return Bench(store, controller, settings)

        yield make


class Bench:
    def __init__(self, store, controller, settings):
        self.store, self.clock = store, SimulatedClock(START)
        self.searcher = make_searcher(store, controller, self.clock, settings)
        self.searcher.start()

    def step(self, slots=1):
        asyncio.run(self.searcher.step(slots))

    def do(self, kind=None, end=JobState.DONE, joules=3.6e6):
        """Bring open jobs to their end, with results if they are done."""
        for job, _ in self.store.open_jobs():
            if kind not in {None, job.kind}:
                continue
            spec = JobSpec(job.id, job.kind, 1, job.archs, "nasbench201", "/nowhere", 0)
            found = evaluations(spec) if end is JobState.DONE else ()
            running, step = transition(job, JobState.RUNNING, START, "test")
            self.store.move(running, step)
            self.store.add_entries([energy(job, joules)], {})
            self.store.move(*transition(running, end, START, "test"), found)

    def open(self, kind):
        return [job for job, _ in self.store.open_jobs() if job.kind is kind]


def energy(job, joules):
    return LedgerEntry(
        work=Work(job.kind),
        job_id=job.id,
        attempt=1,
        slot_id="s0",
        device="cpu",
        start=START,
        end=START + HOUR,
        energy_joules=joules,
        energy_method=EnergyMethod.MODEL,
        grams_per_kwh=50.0,  # the hour it ran in was a clean one
        quality="actual",
        signal="average",
        basis="direct",
        provider="csv",
        zone="GB",
    )


def names(count):
    return [f"arch-{n:02}" for n in range(count)]


# --- the jobs it makes


def test_candidates_become_scorings_and_the_best_of_them_trainings(bench):
    made = bench(Teacher(names(24)))
    made.step()
    scorings = made.open(JobKind.SCORE)
    assert [job.archs for job in scorings] == [tuple(names(24)[:4]), tuple(names(24)[4:8])]
    assert all(job.deadline is None and job.epochs is None for job in scorings)
    assert made.open(JobKind.TRAIN) == []
    made.do()
    made.clock.advance(HOUR)
    made.step()
    trainings = made.open(JobKind.TRAIN)
    assert len(trainings) == 2  # one slot, one kept ready
    for job in trainings:
        assert (job.zone, job.epochs, job.retries_left, job.state) == ("GB", 3, 1, JobState.QUEUED)
        assert (job.created_at, job.deadline) == (START + HOUR, START + 11 * HOUR)
        assert job.archs[0] in names(8)
    ids = [job.id for job in made.store.jobs()]
    assert ids == [
        f"{kind}-{n:06}" for n, kind in enumerate(["score"] * 2 + ["score"] * 2 + ["train"] * 2, 1)
    ]


def test_a_step_that_has_nothing_to_do_changes_nothing(bench):
    made = bench(Teacher(names(24)))
    made.step()
    before = made.store.jobs(), made.store.candidates()
    for _ in range(3):
        made.step()
    assert (made.store.jobs(), made.store.candidates()) == before


def test_what_cannot_be_scored_is_given_up_and_what_cannot_be_trained_is_replaced(bench):
    made = bench(Teacher(names(24)), make_settings({"max_trained": 2, "minimum_pool": 4}))
    made.step()
    made.do(end=JobState.FAILED)
    made.step()
    made.do(JobKind.SCORE)
    made.step()
    made.do(JobKind.TRAIN, end=JobState.FAILED)
    made.step()
    trained = [arch for job in made.store.jobs() if job.kind is JobKind.TRAIN for arch in job.archs]
    assert len(set(trained)) == len(trained) == 4
    assert not set(trained) & set(names(8)), "the first eight could not be scored"


def test_a_search_in_which_nothing_can_be_scored_gives_up(bench, capsys):
    made = bench(Teacher(names(200)), make_settings({"max_scored": None, "queue_capacity": 20}))
    for _ in range(60):
        made.step()
        made.do(end=JobState.FAILED)
    made.step()
    study = made.searcher.study
    assert study.hopeless
    assert study.is_finished
    assert HOPELESS <= len(study.candidates) == len(study.unscorable) < HOPELESS + 20
    assert capsys.readouterr().out.count("the search gives up") == 1


def test_one_that_can_be_scored_is_reason_to_go_on(bench):
    made = bench(
        Teacher(names(200)), make_settings({"max_scored": None, "max_trained": None, "queue_capacity": 20})
    )
    made.step()
    made.do()
    for _ in range(60):
        made.step()
        made.do(end=JobState.FAILED)
    assert not made.searcher.study.hopeless
    assert len(made.searcher.study.unscorable) > 2 * HOPELESS


def test_scorings_that_nobody_needs_any_more_are_cancelled(bench):
    made = bench(Teacher(names(24)), make_settings({"max_trained": 1}))
    made.step()
    made.do()
    made.step()
    made.do(JobKind.TRAIN)
    waiting = made.open(JobKind.SCORE)
    assert waiting, "scoring goes on while the last training runs"
    made.step()
    assert made.searcher.study.is_finished
    assert made.store.open_jobs() == []
    ended = {job.id: job.state for job in made.store.jobs()}
    assert {ended[job.id] for job in waiting} == {JobState.CANCELLED}


def test_a_controller_with_nothing_new_ends_the_search_of_new_ones(bench):
    made = bench(Teacher(names(3)), make_settings({"patience": 4, "max_trained": 9}))
    for _ in range(12):
        made.step()
        made.do()
    made.step()
    assert made.searcher.study.exhausted
    assert made.searcher.study.is_finished
    assert (made.searcher.progress().scored, made.searcher.progress().trained) == (3, 3)


def test_a_training_goes_on_rung_by_rung_as_one_job_after_the_other(bench):
    made = bench(
        Teacher(names(24)),
        make_settings({"max_trained": 6}, fidelity=FidelitySettings(1, reduction_factor=2)),
    )
    for _ in range(20):
        made.step()
        made.do()
    made.step()
    assert made.searcher.study.is_finished
    trainings = [job for job in made.store.jobs() if job.kind is JobKind.TRAIN]
    assert Counter(job.epochs for job in trainings) == {1: 6, 2: 3, 3: 1}, "with 3 epochs all is done"
    by_id = {job.id: job for job in trainings}
    for job in trainings:
        if job.epochs == 1:
            assert job.continues is None
        else:
            before = by_id[job.continues]
            assert (before.archs, before.epochs) == (job.archs, job.epochs - 1)
    progress = made.searcher.progress()
    assert (progress.trained, progress.paused) == (1, 3 + 2)
    [end] = [job for job in trainings if job.epochs == 3]
    assert progress.best_arch == end.archs[0], "the best of those that were trained to the end"


# --- what the controller learns


def test_at_several_fidelities_all_are_learnt_at_the_lowest(bench):
    teacher = Teacher(names(24))
    fidelity = FidelitySettings(1, reduction_factor=2)
    made = bench(teacher, make_settings({"max_trained": 6}, fidelity=fidelity, reference_grams=100.0))
    for n in range(20):
        made.step()
        made.do(joules=1.8e6 if n < 2 else 3.6e6)
    trainings = [job for job in made.store.jobs() if job.kind is JobKind.TRAIN]
    first = [job.archs[0] for job in trainings if job.epochs == 1]
    assert len(trainings) > len(first)
    assert Counter(teacher.learnt) == dict.fromkeys(first, 1)


def test_a_training_is_learnt_once_by_its_energy_and_not_by_its_weather(bench):
    teacher = Teacher(names(24))
    made = bench(teacher, make_settings(reference_cost=1e7, reference_grams=100.0))
    for _ in range(2):
        made.step()
        made.do(JobKind.SCORE)
    made.do(JobKind.TRAIN, joules=1.8e6)
    made.step()
    seen = {one.arch: one for one in teacher.last}
    assert len(seen) == 2
    for job in made.store.jobs():
        if job.kind is JobKind.TRAIN and job.state is JobState.DONE:
            [arch] = job.archs
            known = 1.0 + sum(map(ord, arch)) % 97  # as the fake finds out
            grams = emissions_grams(1.8e6, REFERENCE)
            assert grams == 100.0
            assert seen[arch].energy_joules == 1.8e6
            assert seen[arch].emissions_grams == grams, "not the 25 g of the clean hour it ran in"
            assert seen[arch].quality == known / 100
            assert seen[arch].reward == pytest.approx(known / 100 * (known * 1e5 / 1e7) ** -0.07)
    for _ in range(3):
        made.step()
    assert Counter(teacher.learnt) == dict.fromkeys(seen, 1)


@pytest.mark.parametrize("call", ["propose", "observe"])
def test_a_controller_that_fails_is_asked_again_and_nothing_else_stops(bench, call):
    teacher = Teacher(names(24), fails=Counter({call: 2}))
    made = bench(teacher)
    for _ in range(4):
        made.step()
        made.do()
    made.step()
    trained = [found.arch for _, found in made.store.evaluations(JobKind.TRAIN)]
    assert len(trained) > 0
    assert sorted(teacher.learnt) == sorted(trained)


def test_references_are_taken_from_the_first_results_and_kept(bench):
    made = bench(Teacher(names(24)))
    made.step()
    made.do()
    made.step()
    made.searcher.progress()
    kept = float(made.store.get_meta("reference_cost"))
    assert kept == max(values["inference_flops"] for values in made.store.scores().values())
    made.do(joules=7.2e6)
    made.step()
    assert float(made.store.get_meta("reference_grams")) == emissions_grams(7.2e6, REFERENCE)
    for _ in range(4):
        made.do(joules=1e9)
        made.step()
    assert float(made.store.get_meta("reference_cost")) == kept
    assert float(made.store.get_meta("reference_grams")) == emissions_grams(7.2e6, REFERENCE)


def test_without_a_scoring_progress_is_told_by_the_cost_that_the_training_reports(bench):
    made = bench(Teacher(names(24)))
    add_job(made.store, make_job("x", JobKind.TRAIN))
    made.do()
    made.step()
    progress = made.searcher.progress()
    assert progress.trained == 1
    assert progress.best_arch == "a-x"
    assert progress.best_quality > 0


# --- the whole of it


def whole_search(path, controller, *, daemons=1, fates=None, **study):
    """Search to the end on a simulated machine, in as many daemons as told; give store contents and machine."""

    async def live():
        world = World(path, START, "always", slots=2, lasts=lambda spec: HOUR / 2, fates=fates or {})
        for n in range(daemons):
            last = n == daemons - 1
            async with world.daemon():
                hosted = controller()
                await hosted.start(world.store.controller_state("teacher"))
                searcher = make_searcher(world.store, hosted, world.clock, make_settings(study))
                searcher.start()
                for _ in range(200 if last else 4 + n):
                    await world.step(HOUR / 6, samples=False)
                    await searcher.step(2)
                    if last and searcher.study.is_finished:
                        break
                await searcher.step(2)
                kept = world.store.jobs(), world.store.candidates(), world.store.evaluations()
                state, unobserved = world.store.controller_state("teacher"), world.store.unobserved()
        return kept, state, unobserved, searcher

    return asyncio.run(live())


@pytest.mark.parametrize("daemons", [1, 4])
def test_a_whole_search_with_the_random_controller(tmp_path, daemons):
    (jobs, candidates, found), _, unobserved, searcher = whole_search(
        tmp_path / "s.sqlite", random_controller, daemons=daemons, max_scored=12, max_trained=None
    )
    assert searcher.study.is_finished
    assert {job.state for job in jobs} == {JobState.DONE}
    assert len(candidates) == 12
    scored = Counter(one.arch for _, one in found if one.kind is JobKind.SCORE)
    assert scored == Counter(candidate.arch for candidate in candidates)
    trained = Counter(one.arch for _, one in found if one.kind is JobKind.TRAIN)
    assert trained == scored, "without a limit all are trained, and none twice"
    assert unobserved == []
    progress = searcher.progress()
    assert (progress.scored, progress.trained) == (12, 12)
    assert 0 < progress.hypervolume <= 1
    assert progress.best_quality == max(
        one.values["accuracy"] for _, one in found if one.kind is JobKind.TRAIN
    )


def test_the_same_seed_searches_the_same(tmp_path):
    one, *_ = whole_search(tmp_path / "one.sqlite", random_controller)
    two, *_ = whole_search(tmp_path / "two.sqlite", random_controller)
    assert one == two


def test_over_restarts_and_losses_each_training_is_learnt_once(tmp_path):
    fates = {("score-000001", 1): Fate(after=HOUR / 4), ("score-000003", 1): Fate(refused=True)}
    (_, _, found), state, unobserved, _ = whole_search(
        tmp_path / "s.sqlite", lambda: Teacher(names(24)), daemons=5, fates=fates
    )
    trained = Counter(one.arch for _, one in found if one.kind is JobKind.TRAIN)
    assert Counter(state["learnt"]) == trained
    assert set(trained.values()) == {1}
    assert unobserved == []


def test_the_controllers_processor_time_is_handed_on(bench):
    assert bench(Teacher([])).searcher.cpu_seconds() == 1.5


def test_the_study_learns_from_the_choices_of_the_configured_space(tmp_path):
    with contextlib.closing(SqlStore(tmp_path / "s.sqlite")) as store:
        store.open()
        searcher = assembly.make_searcher(
            configuration.check({}),
            clock=SimulatedClock(START),
            store=store,
            feed=None,
            controller=Teacher([]),
        )
        searcher.start()
        cell = "|nor_conv_3x3~0|+|skip_connect~0|none~1|+|nor_conv_1x1~0|none~1|avg_pool_3x3~2|"
        assert searcher.study.encode(cell) == (3, 1, 0, 2, 0, 4)
