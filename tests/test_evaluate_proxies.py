import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from carbon_nas.evaluate.data import load_task
from carbon_nas.evaluate.proxies import TABLE
from carbon_nas.evaluate.proxies.passes import Passes
from carbon_nas.evaluate.proxies.synflow import FLOOR
from carbon_nas.evaluate.scoring import images_batch
from carbon_nas.evaluate.settings import TaskSettings
from carbon_nas.search.spaces.nasbench201 import NasBench201, NasBench201Options

SPACE = NasBench201(NasBench201Options(channels=4, cells=1))
MIXED = SPACE.decode((3, 1, 2, 4, 2, 3))
DEAD = SPACE.decode((0,) * 6)
CELLS = (MIXED, DEAD, SPACE.decode((1,) * 6), SPACE.decode((2, 3, 0, 4, 1, 2)))


@pytest.fixture(scope="module")
def task():
    return load_task(TaskSettings(), torch.device("cpu"))


@pytest.fixture(scope="module")
def batch(task):
    return images_batch(task, 12, seed=5)


def network_of(arch, space=SPACE):
    torch.manual_seed(3)
    return space.build(arch, 1, 10)


def value(name, network, images, labels):
    return TABLE[name].function(Passes(network, images, labels))


def layers_of(network):
    return [module for module in network.modules() if isinstance(module, nn.Conv2d | nn.Linear)]


@pytest.mark.parametrize("name", TABLE)
@pytest.mark.parametrize("training", [True, False])
def test_a_proxy_leaves_the_network_as_it_was(name, training, batch):
    network = network_of(MIXED).train(training)
    before, rng = copy.deepcopy(network.state_dict()), torch.get_rng_state()
    value(name, network, *batch)
    after = network.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert all(parameter.grad is None for parameter in network.parameters())
    assert network.training is training
    assert not any(module._forward_hooks for module in network.modules())
    assert torch.equal(rng, torch.get_rng_state())


@pytest.mark.parametrize("name", TABLE)
def test_a_proxy_does_not_depend_on_the_networks_mode_or_statistics(name, batch):
    network = network_of(MIXED)
    first = value(name, network, *batch)
    network(batch[0])  # moves the running statistics
    assert value(name, network.eval(), *batch) == first


def test_grad_norm_by_layer(batch):
    network = network_of(MIXED)
    weights = [layer.weight for layer in layers_of(network)]
    gradients = torch.autograd.grad(F.cross_entropy(network.train()(batch[0]), batch[1]), weights)
    expected = sum(math.sqrt(sum(x * x for x in gradient.flatten().tolist())) for gradient in gradients)
    assert value("grad_norm", network_of(MIXED), *batch) == pytest.approx(expected, rel=1e-5)


def test_synflow_by_taking_each_layer_away(batch):
    """R is linear in each layer's weights, so weight x dR/dweight sums to what R loses without the layer."""
    network = network_of(MIXED)
    twin = copy.deepcopy(network).double()
    for module in twin.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.forward = lambda x: x
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.abs_()
        ones = torch.ones(1, 1, 16, 16, dtype=torch.float64)
        total, whole = 0.0, twin(ones).sum().item()
        for layer in layers_of(twin):
            kept = layer.weight.clone()
            layer.weight.zero_()
            total += whole - twin(ones).sum().item()
            layer.weight.copy_(kept)
    assert value("synflow", network, *batch) == pytest.approx(math.log(total), rel=1e-9)


def test_synflow_of_a_chain_by_hand():
    chain = nn.Sequential(nn.Flatten(), nn.Linear(4, 3, bias=False), nn.ReLU(), nn.Linear(3, 2, bias=False))
    first, second = chain[1].weight.abs().double(), chain[3].weight.abs().double()
    flow = (second @ first @ torch.ones(4, dtype=torch.float64)).sum().item()
    scored = value("synflow", chain, torch.zeros(5, 1, 2, 2), torch.zeros(5))
    assert scored == pytest.approx(math.log(2 * flow), rel=1e-9)  # once for each layer


def test_synflow_bears_what_float32_cannot():
    large = NasBench201(NasBench201Options(channels=16, cells=5))
    found = value(
        "synflow", network_of(SPACE.decode((3,) * 6), large), torch.zeros(2, 1, 16, 16), torch.zeros(2)
    )
    assert math.log(torch.finfo(torch.float32).max) < found < math.inf


def test_naswot_by_counting_agreements(batch):
    network, codes = network_of(MIXED).train(), []
    hooks = [
        module.register_forward_hook(lambda _, inputs, output: codes.append((inputs[0] > 0).flatten(1)))
        for module in network.modules()
        if isinstance(module, nn.ReLU)
    ]
    with torch.no_grad():
        network(batch[0])
    for hook in hooks:
        hook.remove()
    bits = [[bool(bit) for bit in row] for row in torch.cat(codes, 1).tolist()]
    kernel = [[float(sum(a == b for a, b in zip(one, two, strict=True))) for two in bits] for one in bits]
    expected = torch.tensor(kernel, dtype=torch.float64).det().abs().log().item()
    assert value("naswot", network_of(MIXED), *batch) == pytest.approx(expected, rel=1e-9)


def test_params_and_flops_of_one_layer_by_hand():
    network = nn.Sequential(nn.Conv2d(3, 5, 3, stride=2), nn.Flatten(), nn.Linear(5 * 7 * 7, 10))
    images = torch.zeros(4, 3, 16, 16)
    assert value("params", network, images, torch.zeros(4)) == (27 + 1) * 5 + (245 + 1) * 10
    assert value("flops", network, images, torch.zeros(4)) == 7 * 7 * (27 + 1) * 5 + (245 + 1) * 10


def test_a_disconnected_cell_scores_below_every_other(batch):
    assert value("naswot", network_of(DEAD), *batch) == -math.inf
    assert value("synflow", network_of(DEAD), *batch) == FLOOR
    assert value("grad_norm", network_of(DEAD), *batch) == 0.0
