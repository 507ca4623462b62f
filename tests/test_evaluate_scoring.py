import math

import pytest
import torch
from broken_networks import Broken
from torch import nn

from carbon_nas.errors import JobError
from carbon_nas.evaluate import scoring
from carbon_nas.evaluate.data import load_task
from carbon_nas.evaluate.proxies import TABLE, Proxy
from carbon_nas.evaluate.proxies.initialisation import standard_normal
from carbon_nas.evaluate.score_batch import ScoreRequest, score_batch
from carbon_nas.evaluate.scoring import Scorer, noise_batch, study_batch
from carbon_nas.evaluate.settings import ScoreSettings, TaskSettings
from carbon_nas.search.spaces.nasbench201 import NasBench201, NasBench201Options
from carbon_nas.testing.spaces import DigitOptions

CPU = torch.device("cpu")
SPACE = NasBench201(NasBench201Options(channels=4, cells=1))
CELLS = [SPACE.decode(cell) for cell in ((3, 1, 2, 4, 2, 3), (0,) * 6, (1,) * 6, (2, 3, 0, 4, 1, 2))]
MIXED = CELLS[0]


def scorer(seed=1, space=SPACE):
    return Scorer(space, noise_batch((1, 16, 16), 10, 16, seed=seed, device=CPU), 10, seed=seed)


def same(one, two):
    return one.keys() == two.keys() and all(
        one[name] == two[name] or (math.isnan(one[name]) and math.isnan(two[name])) for name in one
    )


def test_neither_order_nor_company_matters():
    first = scorer()
    forward = {arch: first.score(arch, TABLE) for arch in CELLS}
    torch.manual_seed(99)
    second = scorer()
    backward = {arch: second.score(arch, reversed(list(TABLE))) for arch in reversed(CELLS)}
    for arch in CELLS:
        assert same(forward[arch], {name: backward[arch][name] for name in TABLE})
        for name in TABLE:
            assert same(scorer().score(arch, [name]), {name: forward[arch][name]}), name


def digits(kind):
    space = Broken(DigitOptions(choices=(6,) * 6))
    return scorer(space=space), f"{kind}-0-0-0-0-0"


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        (0, "cannot be made: RuntimeError: no such layer"),
        (1, "fails on images 1x16x16: KeyError: 'nowhere"),
        (2, r"fails on images 1x16x16: ValueError: logits \[2, 10\] should come out, not tuple"),
        (3, r"fails on images 1x16x16: ValueError: logits \[2, 10\] should come out, not \[2, 11\]"),
        (4, "fails on images 1x16x16: KeyError: 'nowhere"),
    ],
)
def test_a_network_that_does_not_run_is_refused_by_name(kind, says):
    scores, arch = digits(kind)
    with pytest.raises(JobError, match=f"the network of {arch} {says}"):
        scores.score(arch, TABLE)


def test_a_proxy_that_cannot_be_computed_has_no_value_and_the_log_says_why(monkeypatch, caplog):
    def failing(passes):
        raise NotImplementedError("no second derivative\nof this")

    monkeypatch.setattr(scoring, "TABLE", {**TABLE, "grasp": Proxy(failing)})
    scores, arch = digits(5)
    values = scores.score(arch, ["grasp", "grad_norm"])
    assert math.isnan(values["grasp"])
    assert values["grad_norm"] > 0
    assert caplog.messages == [
        f"grasp of {arch} has no value: NotImplementedError: no second derivative",
    ]


def test_too_little_memory_is_no_value_but_a_reason(monkeypatch):
    def greedy(passes):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(scoring, "TABLE", {**TABLE, "snip": Proxy(greedy)})
    scores, arch = digits(5)
    with pytest.raises(
        JobError, match=f"snip of {arch} does not fit into memory; lower score.batch_size, 16"
    ):
        scores.score(arch, ["snip"])


def test_the_study_seed_matters():
    names = [name for name, proxy in TABLE.items() if not proxy.of_shape]
    one, two = (scorer(seed=seed).score(MIXED, names) for seed in (1, 2))
    assert [name for name in names if one[name] == two[name]] == []


def test_cells_that_compute_the_same_score_the_same_but_for_their_size():
    """Node 1 is the input in one and the second edge goes from it; in the other a convolution leads nowhere."""
    plain, idle = SPACE.decode((0, 3, 0, 0, 0, 1)), SPACE.decode((3, 3, 0, 0, 0, 1))
    found = {arch: scorer().score(arch, TABLE) for arch in (plain, idle)}
    for name, proxy in TABLE.items():
        assert (found[plain][name] == found[idle][name]) is not proxy.of_shape, name


def test_what_computes_the_same_is_scored_once(monkeypatch):
    built = []

    class Counting(NasBench201):
        def build(self, arch, channels, classes):
            built.append(arch)
            return super().build(arch, channels, classes)

    counting = scorer(space=Counting(NasBench201Options(channels=4, cells=1)))
    for cell in ((0, 3, 0, 0, 0, 1), (3, 3, 0, 0, 0, 1), (3, 0, 0, 0, 1, 0)):
        counting.score(SPACE.decode(cell), ["naswot", "grad_norm"])
    assert len(built) == 1


def test_scoring_stops_between_proxies():
    answers = iter([False, True])
    assert scorer().score(MIXED, ["params", "flops"], should_stop=lambda: next(answers)) is None
    assert next(answers, None) is None


def test_what_is_no_architecture_is_refused():
    with pytest.raises(ValueError, match="no cell"):
        scorer().score("nonsense", ["params"])


def test_time_is_kept_by_proxy():
    timed = scorer()
    timed.score(MIXED, ["flops", "naswot"])
    once = dict(timed.seconds_by_proxy)
    assert once.keys() == {"flops", "naswot"}
    assert min(once.values()) > 0
    timed.score(CELLS[3], ["naswot"])
    assert timed.seconds_by_proxy["naswot"] > once["naswot"]
    assert timed.seconds_by_proxy["flops"] == once["flops"]


def test_one_worker_has_one_thread_and_leaves_the_number_as_it_was():
    request = ScoreRequest("nasbench201", {"channels": 4, "cells": 1}, ScoreSettings(batch_size=8))
    before, seen = torch.get_num_threads(), []
    try:
        torch.set_num_threads(3)
        score_batch(request, CELLS[:2], workers=1, done=lambda _: seen.append(torch.get_num_threads()))
        assert (seen, torch.get_num_threads()) == ([1, 1], 3)
    finally:
        torch.set_num_threads(before)


def test_the_minibatch_is_of_images_or_of_noise():
    task = load_task(TaskSettings(), CPU)
    images, labels = study_batch(task, ScoreSettings(batch_size=12, inputs="images"), seed=3)
    assert all(any(image.equal(x) for x in task.normalise(task.train.images)) for image in images[:2])
    noise, drawn = study_batch(task, ScoreSettings(batch_size=12, inputs="noise"), seed=3)
    assert noise.shape == images.shape == (12, 1, 16, 16)
    assert drawn.shape == labels.shape == (12,)
    assert abs(noise.mean().item()) < 0.1
    assert noise.std().item() == pytest.approx(1, abs=0.05)
    assert not noise.equal(study_batch(task, ScoreSettings(batch_size=12, inputs="noise"), seed=4)[0])


def test_initial_weights():
    network = nn.Sequential(nn.Conv2d(64, 64, 3), nn.BatchNorm2d(64), nn.Flatten(), nn.Linear(64, 10))
    nn.init.constant_(network[1].weight, 5.0)
    torch.manual_seed(0)
    standard_normal(network)
    assert network[0].weight.var().item() == pytest.approx(1.0, rel=0.05)
    assert network[0].bias.abs().max() == network[3].bias.abs().max() == 0
    assert network[1].weight.eq(1).all()
