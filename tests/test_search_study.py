"""The study's decisions, each on plain values, and a whole search walked through with them."""

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carbon_nas import plugins
from carbon_nas.errors import ConfigurationError
from carbon_nas.search.pareto import hypervolume
from carbon_nas.search.study import Study, StudySettings


def archs(n: int, start: int = 0) -> list[str]:
    return [f"a{i:04}" for i in range(start, start + n)]


def scored(names: list[str]) -> dict[str, dict[str, float]]:
    """Score by name: the later, the better."""
    return {name: {"proxy": float(name[1:])} for name in names}


def promoted_by(study: Study, slots: int) -> list[str]:
    return [arch for arch, _ in study.promotions(slots)]


class TestAsk:
    def test_a_batch_for_each_slot_and_one_ahead(self) -> None:
        assert Study(StudySettings(score_batch=16)).ask(slots=2) == 48
        assert Study(StudySettings(score_batch=16), candidates=archs(40)).ask(slots=2) == 8
        assert Study(StudySettings(score_batch=16), candidates=archs(48)).ask(slots=2) == 0

    def test_no_more_than_may_be_scored(self) -> None:
        assert Study(StudySettings(max_scored=10)).ask(slots=2) == 10
        assert Study(StudySettings(max_scored=10), candidates=archs(10)).ask(slots=2) == 0

    def test_no_more_than_may_wait(self) -> None:
        study = Study(StudySettings(queue_capacity=50), candidates=archs(45), scores=scored(archs(45)))
        assert study.ask(slots=2) == 5

    def test_promoted_and_given_up_candidates_make_room(self) -> None:
        names = archs(50)
        study = Study(
            StudySettings(queue_capacity=50),
            candidates=names,
            scores=scored(names[10:]),
            promoted=set(names[20:25]),
            unscorable=set(names[:10]),
        )
        assert study.ask(slots=2) == 15

    def test_none_once_the_controller_is_exhausted(self) -> None:
        assert Study(StudySettings(patience=3), futile_asks=2).ask(slots=1) == 32
        assert Study(StudySettings(patience=3), futile_asks=3).ask(slots=1) == 0

    def test_none_when_enough_are_trained(self) -> None:
        names = archs(3)
        study = Study(
            StudySettings(max_trained=3),
            candidates=names,
            scores=scored(names),
            promoted=set(names),
            training={names[0]},
            results=dict.fromkeys(names[1:], (0.5, 1.0)),
        )
        assert study.ask(slots=2) == 0


class TestScoreJobs:
    def test_whole_batches_of_what_nobody_scores(self) -> None:
        names = archs(50)
        study = Study(
            StudySettings(score_batch=16),
            names,
            scores=scored(names[:2]),
            scoring=set(names[2:6]),
            unscorable={names[6]},
        )
        assert study.score_jobs() == [tuple(names[7:23]), tuple(names[23:39])]

    def test_a_short_one_when_no_more_will_come(self) -> None:
        names = archs(20)
        whole, rest = tuple(names[:16]), tuple(names[16:])
        assert Study(StudySettings(), names).score_jobs() == [whole]
        assert Study(StudySettings(max_scored=20), names).score_jobs() == [whole, rest]
        assert Study(StudySettings(patience=1), names, futile_asks=1).score_jobs() == [whole, rest]
        assert Study(StudySettings(queue_capacity=20, minimum_pool=5), names).score_jobs() == [whole, rest]

    def test_none_without_candidates(self) -> None:
        assert Study(StudySettings()).score_jobs() == []


class TestPromotions:
    names = archs(40)

    def test_the_best_of_the_pool_for_slots_and_queue(self) -> None:
        study = Study(StudySettings(minimum_pool=32, train_queue=2), self.names, scores=scored(self.names))
        assert promoted_by(study, slots=2) == self.names[:-5:-1]

    def test_open_trainings_take_room_and_promoted_ones_do_not_return(self) -> None:
        study = Study(
            StudySettings(minimum_pool=32, train_queue=2),
            self.names,
            scores=scored(self.names),
            promoted=set(self.names[36:]),
            training=set(self.names[37:]),
        )
        assert promoted_by(study, slots=2) == [self.names[35]]

    def test_never_the_best_of_few(self) -> None:
        few = Study(StudySettings(minimum_pool=32), self.names, scores=scored(self.names[:31]))
        assert promoted_by(few, slots=2) == []
        over = Study(
            StudySettings(minimum_pool=32, max_scored=4), self.names[:4], scores=scored(self.names[:4])
        )
        assert promoted_by(over, slots=1) == self.names[3:0:-1]

    def test_no_more_than_may_be_trained_and_failed_ones_are_replaced(self) -> None:
        study = Study(
            StudySettings(max_trained=3, train_queue=5),
            self.names,
            scores=scored(self.names),
            promoted=set(self.names[36:]),  # one of them failed
            training={self.names[39]},
            results={self.names[38]: (0.5, 1.0)},
        )
        assert promoted_by(study, slots=2) == [self.names[35]]

    def test_the_cheap_end_is_trained_too(self) -> None:
        """Where better is dearer, as proxies have it, trainings are spread over the whole range of costs."""
        costs = {name: 1e6 * float(name[1:]) for name in self.names}
        study = Study(
            StudySettings(minimum_pool=32, train_queue=4), self.names, scores=scored(self.names), costs=costs
        )
        chosen = sorted(float(name[1:]) for name in promoted_by(study, slots=4))
        assert chosen[0] < 10
        assert chosen[-1] > 30

    def test_the_unit_of_costs_does_not_matter_and_their_order_does(self) -> None:
        costs = {name: 1e6 * float(name[1:]) for name in self.names}
        study = Study(
            StudySettings(minimum_pool=32, train_queue=4), self.names, scores=scored(self.names), costs=costs
        )
        chosen = promoted_by(study, slots=4)
        for factor in (1e-9, 1e-3, 7.0):
            scaled = {name: factor * value for name, value in costs.items()}
            assert promoted_by(replace(study, costs=scaled), slots=4) == chosen
        reverse = {name: -value for name, value in costs.items()}
        assert promoted_by(replace(study, costs=reverse), slots=4)[0] == self.names[-1] != chosen[0]

    def test_what_is_in_training_counts_as_known(self) -> None:
        costs = {name: 1e6 * float(name[1:]) for name in self.names}
        first = Study(
            StudySettings(minimum_pool=32, train_queue=0), self.names, scores=scored(self.names), costs=costs
        )
        promoted = promoted_by(first, slots=3)
        later = replace(first, promoted=set(promoted), training=set(promoted[1:]))
        later = replace(later, results={promoted[0]: (0.5, 1e6)})
        assert promoted + promoted_by(later, slots=4) == promoted_by(first, slots=5)

    def test_trainings_teach_what_scores_do_not_tell(self) -> None:
        luck = random.Random(0)
        names = [f"{i:03}" for i in luck.sample(range(1000), 80)]
        scores = {name: {"proxy": luck.random()} for name in names}
        results = {name: (int(name[0]) / 10, 1.0) for name in names[:40]}
        told = {"settings": StudySettings(), "candidates": names, "scores": scores, "results": results}
        study = Study(**told, promoted=results.keys(), encode=lambda arch: tuple(map(int, arch)))
        assert {name[0] for name in promoted_by(study, slots=2)} <= {"8", "9"}
        assert {name[0] for name in promoted_by(replace(study, encode=None), slots=2)} - {"8", "9"}


class TestFinished:
    def test_a_new_study_is_not(self) -> None:
        assert not Study(StudySettings()).is_finished

    def test_when_enough_are_trained_and_none_is_training(self) -> None:
        names = archs(5)
        done = {"settings": StudySettings(max_trained=1), "candidates": names, "promoted": {names[0]}}
        assert Study(**done, results={names[0]: (0.5, 1.0)}).is_finished
        assert not Study(**done, training={names[0]}).is_finished

    def test_when_all_there_is_was_scored_and_trained(self) -> None:
        names = archs(3)
        all_but_one = Study(
            StudySettings(max_scored=3), names, scored(names[:2]), unscorable={names[2]}, promoted={names[0]}
        )
        assert all_but_one.scoring_finished
        assert not all_but_one.is_finished
        rest = Study(
            StudySettings(max_scored=3),
            names,
            scored(names[:2]),
            promoted=set(names[:2]),
            unscorable={names[2]},
        )
        assert rest.is_finished


class TestProgress:
    def test_of_nothing(self) -> None:
        progress = Study(StudySettings()).progress(reference_cost=1e8)
        assert (progress.scored, progress.trained, progress.best_arch, progress.best_quality) == (
            0,
            0,
            None,
            None,
        )
        assert progress.hypervolume == 0.0

    def test_names_the_best_and_the_cheapest_of_equals(self) -> None:
        results = {"c": (0.8, 5e7), "a": (0.9, 8e7), "b": (0.9, 6e7)}
        study = Study(
            StudySettings(), list("abcd"), scored(["a0", "a1"]), promoted=set(results), results=results
        )
        progress = study.progress(reference_cost=1e8)
        assert (progress.scored, progress.trained) == (2, 3)
        assert (progress.best_arch, progress.best_quality) == ("b", 0.9)
        assert progress.hypervolume == hypervolume([(0.8, 5e7), (0.9, 6e7)], reference_cost=1e8)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"max_scored": 0}, "max_scored must be at least 1"),
        ({"score_batch": -1}, "score_batch must be at least 1"),
        ({"train_queue": -1}, "train_queue must not be below zero"),
        ({"minimum_pool": 400}, "no training would ever start"),
        ({"max_score": 3}, "did you mean 'max_scored'"),
    ],
)
def test_wrong_settings_are_named(options: dict[str, int], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        plugins.check_options(StudySettings, options, key="study")


limits = st.none() | st.integers(1, 60)


@settings(deadline=None, max_examples=60)
@given(
    st.builds(
        StudySettings,
        max_scored=limits,
        max_trained=limits,
        queue_capacity=st.integers(10, 40),
        score_batch=st.integers(1, 20),
        minimum_pool=st.integers(1, 10),
        train_queue=st.integers(0, 3),
        patience=st.integers(1, 4),
    ),
    st.integers(1, 3),
    st.integers(0, 100),
    st.integers(0, 10**9).map(random.Random),
)
def test_every_study_comes_to_its_end(
    limits: StudySettings, slots: int, size: int, luck: random.Random
) -> None:
    """Walk a search through a space of `size` architectures in which jobs fail at random, and check each step."""
    unseen, world = archs(size), Study(limits)
    while not world.is_finished:
        before = world
        n = world.ask(slots)
        new, unseen = (unseen[:n], unseen[n:]) if luck.random() < 0.8 else ([], unseen)
        futile = 0 if new else world.futile_asks + bool(n)
        world = replace(world, candidates=[*world.candidates, *new], futile_asks=futile)
        waiting = set(world.candidates) - world.promoted - world.unscorable
        assert len(waiting) <= limits.queue_capacity
        assert len(world.candidates) <= (limits.max_scored or size)

        jobs = world.score_jobs()
        taken = [arch for job in jobs for arch in job]
        assert len(taken) == len(set(taken))
        assert not set(taken) & (world.scores.keys() | world.unscorable)
        assert all(1 <= len(job) <= limits.score_batch for job in jobs)
        good = [arch for arch in taken if luck.random() < 0.9]
        world = replace(
            world, scores=world.scores | scored(good), unscorable=world.unscorable | (set(taken) - set(good))
        )

        chosen = promoted_by(world, slots)
        assert not set(chosen) & world.promoted
        assert len(world.training) + len(chosen) <= slots + limits.train_queue
        assert set(chosen) <= world.scores.keys()
        world = replace(world, promoted=world.promoted | set(chosen), training=world.training | set(chosen))

        over = {arch for arch in sorted(world.training) if luck.random() < 0.7}
        won = {arch: (0.5, 1.0) for arch in sorted(over) if luck.random() < 0.9}
        world = replace(world, training=world.training - over, results=world.results | won)
        assert len(world.results) <= (limits.max_trained or size)
        assert before.scores.keys() <= world.scores.keys()
    reached = len(world.results) == limits.max_trained
    assert reached or world.promoted | world.unscorable == set(world.candidates)
