"""Who goes on from a rung and who is left there, on plain values, and whole searches walked through rung by rung."""

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carbon_nas.search.fidelity import (
    FidelitySettings,
    Rung,
    Stage,
    going_on,
    hopeless,
    reached,
    rungs,
)
from carbon_nas.search.study import Study, StudySettings

ENOUGH = 9  # curves, so that one in ten may be steeper


def equals(names, cost=1.0):
    """Points of one cost whose quality is the name's number, in per cent."""
    return {name: (int(name[1:]) / 100, cost) for name in names}


def names(*numbers):
    return [f"a{number}" for number in numbers]


@pytest.mark.parametrize(
    ("minimum", "factor", "epochs", "expected"),
    [
        (None, 3, 200, (200,)),
        (1, 3, 27, (1, 3, 9, 27)),
        (1, 3, 28, (1, 3, 9, 27, 28)),
        (12, 4, 200, (12, 48, 192, 200)),
        (5, 2, 5, (5,)),
        (9, 2, 5, (5,)),
    ],
)
def test_the_fidelities_of_a_training(minimum, factor, epochs, expected):
    assert FidelitySettings(minimum, factor).fidelities(epochs) == expected


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"minimum_epochs": 0}, "minimum_epochs must be"),
        ({"reduction_factor": 1}, "reduction_factor must be"),
    ],
)
def test_impossible_settings_are_refused(given, says):
    with pytest.raises(ValueError, match=says):
        FidelitySettings(**given)


class TestRungs:
    def test_are_read_from_the_jobs(self):
        stages = [
            Stage("j1", "a", 1, open=False, point=(0.5, 1.0)),
            Stage("j2", "b", 1, open=False, point=(0.6, 1.0)),
            Stage("j3", "c", 1, open=False, point=None),  # failed
            Stage("j4", "d", 1, open=True, point=None),
            Stage("j5", "b", 3, open=False, point=(0.7, 1.0)),
            Stage("j6", "b", 9, open=True, point=None),
        ]
        low, middle = rungs(stages, (1, 3, 9))
        assert (low.epochs, low.next_epochs, middle.epochs, middle.next_epochs) == (1, 3, 3, 9)
        assert low.reached == {"a": (0.5, 1.0), "b": (0.6, 1.0)}
        assert (low.beyond, low.coming, low.paused) == ({"b"}, {"d"}, ["a"])
        assert middle.reached == {"b": (0.7, 1.0)}
        assert (middle.beyond, middle.coming, middle.paused) == ({"b"}, set(), [])
        assert reached(stages, 9) == {}

    def test_without_pauses_there_are_none(self):
        assert rungs([Stage("j1", "a", 4, open=True, point=None)], (4,)) == []


class TestGoingOn:
    def go(self, *of, final=None, factor=3, more=True):
        return going_on(of, final or {}, factor, more_begin=more)

    def test_one_in_three_goes_on_as_soon_as_there_are_three(self):
        for count, expected in ((2, 0), (3, 1), (5, 1), (6, 2), (9, 3)):
            rung = Rung(1, 3, equals(names(*range(10, 10 + count))))
            found = self.go(rung)
            assert len(found) == expected
            assert {epochs for _, epochs in found} <= {3}
        assert self.go(rung)[0][0] == "a18", "at one cost, the best"

    def test_those_that_went_on_before_take_up_their_places(self):
        rung = Rung(1, 3, equals(names(*range(10, 17))), beyond=set(names(10)))
        assert self.go(rung) == [("a16", 3)]
        assert self.go(replace(rung, beyond=set(names(10, 11)))) == []

    def test_the_furthest_come_first(self):
        low = Rung(1, 3, equals(names(*range(10, 19))), beyond=set(names(16, 17, 18)))
        more = replace(low, reached=low.reached | equals(names(20, 21, 22)))
        middle = Rung(3, 9, equals(names(16, 17, 18)))
        assert self.go(more, middle) == [("a18", 9), ("a22", 3)]

    def test_both_ends_of_the_front_go_on(self):
        dear = equals(names(*range(80, 90)), cost=100.0)
        cheap = equals(names(*range(40, 50)), cost=1.0)
        rung = Rung(1, 3, dear | cheap)
        found = {arch for arch, _ in self.go(rung)}
        assert {"a89", "a49"} <= found

    def test_when_none_will_come_any_more_one_goes_on_to_the_end(self):
        low, middle = Rung(1, 3, equals(names(1, 2))), Rung(3, 9)
        assert self.go(low, middle) == []
        assert self.go(replace(low, coming={"x"}), middle, more=False) == []
        assert self.go(low, middle, more=False) == [("a2", 3)]
        low = replace(low, beyond={"a2"})
        assert self.go(low, replace(middle, coming={"a2"}), more=False) == []
        middle = replace(middle, reached=equals(["a2"]))
        assert self.go(low, middle, more=False) == [("a2", 9)]
        assert self.go(low, replace(middle, beyond={"a2"}), more=False) == []

    def test_the_hopeless_leave_their_places_empty(self):
        past = {f"a{n}": (n / 100, 1.0) for n in range(50, 50 + ENOUGH)}
        final = {arch: (1 - (1 - quality) / 2, cost) for arch, (quality, cost) in past.items()}
        weak = equals(names(*range(20, 40)))
        rung = Rung(1, 3, past | weak, beyond=past.keys())
        assert hopeless(rung.reached, final) == weak.keys()
        assert self.go(rung, final=final, factor=2) == []
        assert len(self.go(rung, final={}, factor=2)) == len(rung.reached) // 2 - ENOUGH == 5


class TestHopeless:
    def curves(self, count, kept=0.5, cost=1.0):
        """`count` full trainings at 60 to 70 % that kept the share `kept` of their errors, at the latest."""
        at_rung = {f"f{n}": (0.6 + 0.1 * n / count, cost) for n in range(count)}
        return at_rung, {arch: (1 - (1 - quality) * kept, cost) for arch, (quality, cost) in at_rung.items()}

    def test_few_curves_say_nothing(self):
        for count, expected in ((ENOUGH - 1, set()), (ENOUGH, {"x"})):
            at_rung, final = self.curves(count)
            assert hopeless(at_rung | {"x": (0.1, 1.0)}, final) == expected

    def test_the_steepest_curve_is_the_hope(self):
        at_rung, final = self.curves(12)
        best = max(quality for quality, _ in final.values())
        equal = 1 - (1 - best) / 0.5  # with half its error left it would be just as good
        found = hopeless(at_rung | {"below": (equal - 0.001, 1.0), "above": (equal + 0.001, 1.0)}, final)
        assert found == {"below"}
        # One has kept a fortieth of its error: anything may happen to what is as cheap, but not to what is dearer.
        final["f0"] = (0.99, 0.5)
        assert hopeless(at_rung | {"cheap": (0.6, 0.4), "dear": (0.5, 1.0)}, final) == {"dear"}

    def test_of_many_curves_the_steepest_tenth_are_beyond_hope(self):
        at_rung, final = self.curves(29)  # 30 with the next: three are steeper than is hoped for
        for place, kept in enumerate((0.1, 0.2, 0.3)):
            final[f"f{place}"] = (1 - (1 - at_rung[f"f{place}"][0]) * kept, 5.0)
        best = max(quality for quality, cost in final.values() if cost == 1.0)
        equal = 1 - (1 - best) / 0.3
        found = hopeless(at_rung | {"below": (equal - 0.001, 1.0), "above": (equal + 0.001, 1.0)}, final)
        assert found == {"below"}

    def test_the_cheaper_is_not_beaten_by_the_dearer(self):
        at_rung, final = self.curves(12, cost=2.0)
        assert hopeless(at_rung | {"x": (0.1, 1.0), "y": (0.1, 3.0)}, final) == {"y"}

    def test_what_is_already_perfect_or_got_worse_is_no_division_by_zero(self):
        at_rung, final = self.curves(12, kept=1.2)
        at_rung["p"], final["p"] = (1.0, 1.0), (0.9, 1.0)
        assert hopeless(at_rung | {"x": (0.1, 1.0), "y": (1.0, 1.0)}, final) == {"x"}


def scored(archs):
    return {name: {"proxy": float(name[1:])} for name in archs}


@settings(max_examples=60, deadline=None)
@given(
    st.builds(
        StudySettings,
        max_scored=st.none() | st.integers(1, 60),
        max_trained=st.none() | st.integers(1, 20),
        score_batch=st.integers(1, 8),
        minimum_pool=st.integers(1, 16),
        train_queue=st.integers(0, 3),
        patience=st.just(3),
    ),
    st.builds(FidelitySettings, st.integers(1, 8), st.integers(2, 4)),
    st.integers(1, 4),
    st.integers(0, 40),
    st.integers(0, 10**9).map(random.Random),
)
def test_every_search_ends_and_keeps_to_the_shares(limits, fidelity, slots, size, luck):
    """Walk a search in which jobs fail at random, and check each step."""
    unseen, stages, archs, futile, unscorable, scores = [f"a{i}" for i in range(size)], [], [], 0, set(), {}
    fidelities = fidelity.fidelities(20)
    for _ in range(1000):
        trained = {stage.arch for stage in stages}
        study = Study(
            limits,
            archs,
            scores,
            unscorable=unscorable,
            promoted=trained,
            training={stage.arch for stage in stages if stage.open},
            costs={arch: float(arch[1:]) for arch in archs},
            results=reached(stages, 20),
            rungs=rungs(stages, fidelities),
            epochs=20,
            reduction_factor=fidelity.reduction_factor,
            futile_asks=futile,
        )
        if study.is_finished:
            break
        n = study.ask(slots)
        new, unseen = unseen[:n], unseen[n:]
        futile = 0 if new else futile + bool(n)
        archs = [*archs, *new]
        for job in study.score_jobs():
            good = {arch for arch in job if luck.random() < 0.9}
            scores, unscorable = scores | scored(good), unscorable | (set(job) - good)
        chosen = study.promotions(slots)
        assert len(study.training) + len(chosen) <= max(slots + limits.train_queue, len(study.training))
        for arch, epochs in chosen:
            before = [stage for stage in stages if stage.arch == arch]
            at = fidelities.index(epochs)
            assert [stage.epochs for stage in before] == list(fidelities[:at]), "one rung after the other"
            assert all(stage.point is not None and not stage.open for stage in before)
            stages.append(Stage(f"j{len(stages)}", arch, epochs, open=True, point=None))
        for place, stage in enumerate(stages):
            if stage.open and luck.random() < 0.7:
                point = (luck.random(), float(stage.arch[1:])) if luck.random() < 0.9 else None
                stages[place] = replace(stage, open=False, point=point)
        begun = {stage.arch for stage in stages if stage.open or stage.point is not None}
        assert limits.max_trained is None or len(begun) <= limits.max_trained
    assert study.is_finished
    for rung in study.rungs:
        assert len(rung.beyond) <= max(1, len(rung.reached) // fidelity.reduction_factor)
        tried = [stage for stage in stages if stage.epochs > rung.epochs]
        assert not rung.reached or tried, "a rung with anybody on it has sent one on"
    lost = any(stage.point is None for stage in stages)
    assert lost or not stages or study.results, "what began ends with a full training"


def test_at_one_fidelity_nothing_changes():
    archs = [f"a{i}" for i in range(40)]
    study = Study(StudySettings(), archs, scored(archs), epochs=7)
    plain = Study(StudySettings(), archs, scored(archs))
    assert study.promotions(2) == [(arch, 7) for arch, _ in plain.promotions(2)]
    assert len(study.promotions(2)) == 4
