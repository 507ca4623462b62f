import copy
import math
from itertools import combinations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call

from carbon_nas.evaluate.proxies import TABLE
from carbon_nas.evaluate.proxies.passes import Passes
from carbon_nas.search.spaces.nasbench201 import NasBench201, NasBench201Options

SPACE = NasBench201(NasBench201Options(channels=2, cells=1))
DEAD = SPACE.decode((0,) * 6)
BY_GRADIENT = ("grad_norm", "snip", "grasp", "fisher", "l2_norm", "jacov", "epe_nas", "zico")
BY_BLOCKS = ("grad_diversity", "norm_preservation")
OF_LAYERS = ("grad_norm", "snip", "grasp", "fisher", "l2_norm", "zico")


class Branches(nn.Module):
    """A sum of branches, whose parts share one gradient; a bias, a layer used twice, an activation in place."""

    def __init__(self, *, normalised):
        super().__init__()
        self.stem = nn.Conv2d(2, 3, 3, padding=1, bias=not normalised)
        self.norm = nn.BatchNorm2d(3) if normalised else nn.Identity()
        self.activation = nn.ReLU(inplace=True)
        self.one = nn.Conv2d(3, 3, 3, padding=1, groups=3)
        self.two = nn.Conv2d(3, 3, 1, bias=False)
        self.head = nn.Linear(3, 4)

    def forward(self, images):
        maps = self.activation(self.norm(self.stem(images)))
        maps = self.two(torch.tanh(self.one(maps) + self.two(maps)))
        return self.head(maps.mean((2, 3)))


@pytest.fixture(params=["plain", "normalised", "cell"])
def network(request):
    torch.manual_seed(7)
    if request.param == "cell":
        return SPACE.build(SPACE.decode((3, 1, 2, 4, 2, 3)), 2, 4).double()
    return Branches(normalised=request.param == "normalised").double()


@pytest.fixture
def batch():
    draws = torch.Generator().manual_seed(1)
    images = torch.randn(9, 2, 4, 4, dtype=torch.float64, generator=draws)
    return images, torch.tensor([0, 1, 1, 0, 2, 2, 2, 0, 3])


def value(name, network, images, labels):
    return TABLE[name].function(Passes(network, images, labels))


def layers_of(network):
    return [module for module in network.modules() if isinstance(module, nn.Conv2d | nn.Linear)]


def gradients(network, images, labels):
    twin = copy.deepcopy(network).train()
    F.cross_entropy(twin(images), labels).backward()
    return [layer.weight.grad for layer in layers_of(twin)]


def jacobian(network, images):
    twin, rows = copy.deepcopy(network).train(), []
    for place in range(len(images)):
        leaves = [image.clone().requires_grad_(i == place) for i, image in enumerate(images)]
        (row,) = torch.autograd.grad(twin(torch.stack(leaves)).sum(), leaves[place])
        rows.append(row.flatten().numpy())
    return np.stack(rows)


def test_snip_weight_by_weight(network, batch):
    expected = sum(
        abs(w * g)
        for layer, gradient in zip(layers_of(network), gradients(network, *batch), strict=True)
        for w, g in zip(layer.weight.flatten().tolist(), gradient.flatten().tolist(), strict=True)
    )
    assert value("snip", network, *batch) == pytest.approx(expected, rel=1e-9)


def test_grasp_by_the_second_derivative_along_two_directions(network, batch):
    """With all weights w + a w + b g, it is minus the loss's derivative by a and b, taken forward."""
    twin = copy.deepcopy(network).train()
    names = [
        f"{name}.weight" for name, module in twin.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)
    ]
    weights = {name: twin.get_parameter(name).detach() for name in names}
    buffers = {name: None for name, _ in twin.named_buffers()}

    def loss(given):
        return F.cross_entropy(functional_call(twin, {**buffers, **given}, (batch[0],)), batch[1])

    slope = torch.func.grad(loss)
    directions = slope(weights)
    _, grown = torch.func.jvp(slope, (weights,), (directions,))
    expected = -sum((weights[name] * grown[name]).sum().item() for name in names)
    assert value("grasp", network, *batch) == pytest.approx(expected, rel=1e-8)


def test_grasp_of_two_weights_by_hand():
    """With logits u x and v x the loss is log(1 + exp(-(u - v) x)), its derivatives by u -s x and s (1 - s) x^2."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(1, 2, bias=False)).double()
    with torch.no_grad():
        network[1].weight.copy_(torch.tensor([[0.75], [-0.5]]))
    x, difference = 1.5, 1.25 * 1.5
    s = 1 / (1 + math.exp(difference))
    curvature, gradient = s * (1 - s) * x**2, -s * x
    expected = -1.25 * curvature * 2 * gradient
    images = torch.full((1, 1, 1, 1), x, dtype=torch.float64)
    assert value("grasp", network, images, torch.tensor([0])) == pytest.approx(expected, rel=1e-9)


def test_what_is_asked_first_changes_nothing(network, batch):
    before, after = Passes(network, *batch), Passes(network, *batch)
    first = [TABLE[name].function(before) for name in ("grasp", "snip", "fisher")]
    last = [TABLE[name].function(after) for name in ("fisher", "snip", "grasp")]
    assert first == last[::-1]


def test_fisher_image_by_image_and_channel_by_channel(network, batch):
    twin, kept = copy.deepcopy(network).train(), []
    for module in twin.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False

    def keep(layer, _, output):
        output.retain_grad()
        kept.append((layer, output))
        return output.clone()

    for layer in layers_of(twin):
        layer.register_forward_hook(keep)
    F.cross_entropy(twin(batch[0]), batch[1]).backward()
    expected = 0.0
    for layer, output in kept:
        for channel in range(output.shape[1]):
            each = [
                (a * g).sum().item() for a, g in zip(output[:, channel], output.grad[:, channel], strict=True)
            ]
            expected += np.mean(np.square(each)) / 2 * layer.weight[channel].numel()
    assert value("fisher", network, *batch) == pytest.approx(expected, rel=1e-9)


def test_l2_norm_weight_by_weight(network, batch):
    expected = sum(math.hypot(*layer.weight.flatten().tolist()) for layer in layers_of(network))
    assert value("l2_norm", network, *batch) == pytest.approx(expected, rel=1e-9)


def test_jacov_image_by_image(network, batch):
    values = np.linalg.eigvals(np.corrcoef(jacobian(network, batch[0]))).real + 1e-5
    expected = -np.sum(np.log(values) + 1 / values)
    assert value("jacov", network, *batch) == pytest.approx(expected, rel=1e-6)


def test_jacov_of_images_that_have_nothing_in_common_is_about_minus_their_number():
    network = nn.Sequential(nn.Flatten(), nn.Linear(3072, 50), nn.ReLU(), nn.Linear(50, 400), nn.Tanh())
    rows = torch.randn(16, 3072, generator=torch.Generator().manual_seed(0))
    passes = Passes(network, rows.reshape(16, 3, 32, 32), torch.zeros(16, dtype=torch.int64))
    passes.__dict__["jacobian"] = rows
    assert TABLE["jacov"].function(passes) == pytest.approx(-16, abs=0.1)


def test_jacov_of_images_that_are_all_alike_is_finite(batch):
    """A linear network answers to all in the same way: but one eigenvalue is zero, give or take the rounding."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(32, 4)).double()
    expected = -(8 * (math.log(1e-5) + 1e5) + math.log(9) + 1 / 9)
    assert value("jacov", network, *batch) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("classes", [4, 101])
def test_epe_nas_pair_by_pair(classes, batch):
    torch.manual_seed(2)
    network = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Tanh(), nn.Flatten(), nn.Linear(12, classes)).double()
    images, labels = batch
    rows, sums = jacobian(network, images), {}
    for c in sorted(set(labels.tolist())):
        members = [place for place, label in enumerate(labels.tolist()) if label == c]
        total = sum(
            math.log(abs(np.corrcoef(rows[i], rows[j])[0, 1]) + 1e-5) for i in members for j in members
        )
        if classes <= 100:
            sums[c] = total
        elif len(members) > 1:
            sums[c] = total / len(members)
    if classes <= 100:
        expected = sum(map(abs, sums.values()))
    else:
        expected = sum(abs(a - b) for a in sums.values() for b in sums.values()) / len(sums)
    assert value("epe_nas", network, images, labels) == pytest.approx(expected, rel=1e-7)


def test_epe_nas_wants_a_class_of_two_images(network, batch):
    assert math.isnan(value("epe_nas", network, batch[0][:4], torch.arange(4)))


def block_gradients(network, images, labels):
    """By each block's output: what the loss gains of a little added there, taken back to it by a leaf of zeros."""
    twin, added = copy.deepcopy(network).train(), []

    def add(_, __, output):
        added.append(torch.zeros_like(output, requires_grad=True))
        return output + added[-1]

    hooks = [block.register_forward_hook(add) for block in twin.blocks]
    F.cross_entropy(twin(images), labels).backward()
    assert len(hooks) == len(added)
    return [each.grad.numpy() for each in added]


def a_cell():
    torch.manual_seed(7)
    return SPACE.build(SPACE.decode((3, 1, 2, 4, 2, 3)), 2, 4).double()


def test_grad_diversity_pair_by_pair(batch):
    squares = [
        np.corrcoef(one.flatten(), two.flatten())[0, 1] ** 2
        for gradients in block_gradients(a_cell(), *batch)
        for one, two in combinations(gradients, 2)
    ]
    assert value("grad_diversity", a_cell(), *batch) == pytest.approx(-np.mean(squares), rel=1e-9)


def test_norm_preservation_by_the_first_and_the_last_block(batch):
    first, *_, last = (np.sqrt(np.mean(gradient**2)) for gradient in block_gradients(a_cell(), *batch))
    found = value("norm_preservation", a_cell(), *batch)
    assert found == pytest.approx(-abs(np.log(first / last)), rel=1e-9)
    assert found < 0


class Chain(nn.Module):
    """Blocks that multiply by a number, then one logit for each of four positions."""

    def __init__(self, *factors):
        super().__init__()
        self.blocks = nn.ModuleList(Times(factor) for factor in factors)

    def forward(self, images):
        for block in self.blocks:
            images = block(images)
        return images.flatten(1)


class Times(nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, images):
        return self.factor * images


def test_gradients_of_a_chain_by_hand():
    """The gradients are the softmax less the label: on logits of zero, 1/4 everywhere less 1 at the label."""
    images, labels = torch.zeros(3, 1, 2, 2), torch.tensor([0, 0, 3])
    assert value("norm_preservation", Chain(1, 3, 0.5), images, labels) == pytest.approx(-math.log(1.5))
    assert value("norm_preservation", Chain(1, 4, 0.25), images, labels) == 0
    same, different = 1, (1 / 3) ** 2  # the correlation of two of four corners of a simplex is -1/3
    found = value("grad_diversity", Chain(1, 2), images, labels)
    assert found == pytest.approx(-(same + 2 * different) / 3, rel=1e-5)


@pytest.mark.parametrize("name", BY_BLOCKS)
def test_a_network_without_blocks_or_gradients_ranks_last(name, batch):
    flat = nn.Sequential(nn.Flatten(), nn.Linear(32, 4)).double()
    assert math.isnan(value(name, flat, *batch))
    dead = SPACE.build(DEAD, 2, 4).double()
    assert value(name, dead, *batch) == -math.inf


def test_one_image_alone_has_nothing_to_differ_from(batch):
    assert math.isnan(value("grad_diversity", a_cell(), batch[0][:1], batch[1][:1]))


def test_block_gradients_need_no_other_pass(batch, monkeypatch):
    """They come with those that snip uses, the same before and after grasp's pass."""
    before, after = Passes(a_cell(), *batch), Passes(a_cell(), *batch)
    first = [TABLE[name].function(before) for name in (*BY_BLOCKS, "snip", "grasp")]
    last = [TABLE[name].function(after) for name in ("grasp", "snip", *reversed(BY_BLOCKS))]
    assert first == last[::-1]
    made = []
    differentiate = torch.autograd.grad
    monkeypatch.setattr(torch.autograd, "grad", lambda *a, **k: made.append(1) or differentiate(*a, **k))
    shared = Passes(a_cell(), *batch)
    for name in (*BY_BLOCKS, "snip", "fisher", "grad_norm"):
        TABLE[name].function(shared)
    assert len(made) == 1


def test_zico_weight_by_weight(network, batch):
    images, labels = batch
    halves = [gradients(network, images[:5], labels[:5]), gradients(network, images[5:], labels[5:])]
    expected = 0.0
    for pair in zip(*halves, strict=True):
        both = np.stack([gradient.numpy().ravel() for gradient in pair])
        spread = both.std(axis=0)
        expected += math.log(sum(abs(g).mean() / s for g, s in zip(both.T, spread, strict=True) if s > 0))
    assert value("zico", network, *batch) == pytest.approx(expected, rel=1e-8)


def test_zico_of_one_weight_is_the_floor_where_the_halves_disagree():
    """Gradients of opposite sign: mean |g| equals the standard deviation, and the logarithm is zero."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(1, 2, bias=False))
    nn.init.zeros_(network[1].weight)
    images = torch.tensor([1.0, -1.0]).reshape(2, 1, 1, 1)
    two_weights = value("zico", network, images, torch.tensor([0, 0]))
    assert two_weights == pytest.approx(math.log(2), rel=1e-6)


def test_a_disconnected_cell(batch):
    images, labels = batch
    dead = SPACE.build(DEAD, 2, 4)
    found = {name: value(name, dead, images.float(), labels) for name in BY_GRADIENT}
    assert found.pop("l2_norm") > 0
    assert math.isnan(found.pop("jacov"))
    assert math.isnan(found.pop("epe_nas"))
    assert 0 < found.pop("fisher") < 0.01  # of the classifier's bias
    assert set(found.values()) == {0.0}


@pytest.mark.parametrize("name", OF_LAYERS)
def test_a_network_without_layers_has_no_value(name, batch):
    assert math.isnan(value(name, nn.Flatten(), *batch))


def test_a_weight_counts_where_its_input_is_constant(batch):
    """A branch that begins with a constant has gradients though nothing comes to it from the images."""

    class Constant(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.head = nn.Linear(3, 4), nn.Linear(32, 4)

        def forward(self, images):
            return self.head(images.flatten(1)) + self.layer(torch.ones(len(images), 3, dtype=images.dtype))

    network = Constant().double()
    expected = sum(gradient.norm().item() for gradient in gradients(network, *batch))
    assert value("grad_norm", network, *batch) == pytest.approx(expected, rel=1e-9)
