"""Costs by name: what people read, and one number for each architecture."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbon_nas.evaluate.settings import PROXIES
from carbon_nas.model import Evaluation, JobKind
from carbon_nas.search.cost import COSTS, FLOPS, LATENCY, PARAMETERS, known, named, proxies

SCORE, TRAIN = JobKind.SCORE, JobKind.TRAIN


def found(kind, arch="a", **values):
    return Evaluation(arch, kind, values, 1.0, 1.0)


def test_each_is_found_by_its_name():
    assert [named(name) for name in ("flops", "parameters", "latency")] == [FLOPS, PARAMETERS, LATENCY]
    assert {one.device for one in COSTS.values()} == {None}
    on_device = named("latency:pixel2")
    assert (on_device.name, on_device.device) == ("latency:pixel2", "pixel2")
    assert on_device.label == "ms on pixel2, as published"
    assert on_device.recorded == LATENCY.recorded == "latency_seconds"


@pytest.mark.parametrize("name", ["", "flop", "latency:", "FLOPS", "energy", "parameters:pixel2"])
def test_what_is_none_is_refused_with_those_there_are(name):
    with pytest.raises(ValueError, match=r"known: flops, parameters, latency, latency:DEVICE") as caught:
        named(name)
    assert repr(name) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("flops", 42.5e6, "42.5 MMAC"),
        ("parameters", 1.2e6, "1.2 M parameters"),
        ("latency", 0.0032, "3.2 ms"),
        ("latency:pixel2", 0.5, "500.0 ms"),
    ],
)
def test_people_read_it_in_a_unit_of_its_own(name, value, text):
    chosen = named(name)
    assert f"{round(value / chosen.scale, 6)} {chosen.unit}" == text


def test_no_cost_is_a_proxy():
    """It would vote in the ranking of quality, where more is better."""
    assert not {one.recorded for one in COSTS.values()} & set(PROXIES)
    values = dict.fromkeys(PROXIES, 1.0) | {one.recorded: 2.0 for one in COSTS.values()}
    assert proxies(values) == dict.fromkeys(PROXIES, 1.0)


def test_the_scorings_number_stands_whatever_the_training_says():
    scoring, training = found(SCORE, inference_flops=5.0), found(TRAIN, flops=6.0, accuracy=0.5)
    for evaluations in ([scoring, training], [training, scoring]):
        assert known(evaluations, FLOPS) == {"a": 5.0}
    assert known([training], FLOPS) == {"a": 6.0}
    assert known([training], LATENCY) == {}
    assert known([found(SCORE, synflow=1.0)], FLOPS) == {}


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 1e3)), max_size=12))
def test_the_first_number_of_an_architecture_is_its_only_one(measured):
    evaluations = [found(SCORE, arch, latency_seconds=seconds) for arch, seconds in measured]
    first = known(evaluations, LATENCY)
    for count in range(len(evaluations) + 1):
        for arch, seconds in known(evaluations[:count], LATENCY).items():
            assert first[arch] == seconds
    assert first.keys() == {arch for arch, _ in measured}
