"""Networks that are not of this project's spaces: a proxy says what is right of them, or that it does not know."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.parametrizations import weight_norm
from torch.utils.flop_counter import FlopCounterMode

from carbon_nas.evaluate.proxies import TABLE
from carbon_nas.evaluate.proxies.passes import Passes, blocks_of

BY_WEIGHTS = ("grad_norm", "snip", "grasp", "fisher", "zico", "synflow")


def step(planes, width):
    return nn.Sequential(nn.Conv2d(planes, width, 3, padding=1), nn.BatchNorm2d(width))


class Blocks(nn.Module):
    """Two blocks and a head; `between` is done to what each block gives."""

    def __init__(self, between=F.relu, head=None):
        super().__init__()
        self.blocks = nn.ModuleList([step(2, 6), step(6, 6)])
        self.between = between
        self.last = nn.Conv2d(6, 6, 1)
        self.head = head or nn.Linear(6, 4)

    def forward(self, images):
        maps = images
        for block in self.blocks:
            maps = self.between(block(maps))
        maps = self.between(self.last(maps) + 0.1)
        return self.head(maps.mean((2, 3)))


def batch(dtype=torch.float32):
    draws = torch.Generator().manual_seed(1)
    return torch.randn(9, 2, 8, 8, dtype=dtype, generator=draws), torch.arange(9) % 4


def made(build):
    torch.manual_seed(7)
    return build()


def value(name, network):
    return TABLE[name].function(Passes(network, *batch(next(network.parameters()).dtype)))


def all_values(build):
    passes = Passes(made(build), *batch())
    return {name: proxy.function(passes) for name, proxy in TABLE.items()}


def scaled_apart(maps):
    return maps * 0.5


def scaled_in_place(maps):
    maps *= 0.5
    return maps


def activated_then_shifted_apart(maps):
    return F.silu(maps) - 0.2


def activated_then_shifted_in_place(maps):
    return F.silu(maps).sub_(0.2)


class Sums(nn.Module):
    """What a layer gave, and its input, added up in one place or in another."""

    def __init__(self, add):
        super().__init__()
        self.stem, self.layer, self.head = step(2, 6), nn.Conv2d(6, 6, 3, padding=1), nn.Linear(6, 4)
        self.add = add

    def forward(self, images):
        maps = F.relu(self.stem(images))
        return self.head(F.relu(self.add(self.layer(maps), maps)).mean((2, 3)))


@pytest.mark.parametrize(
    ("apart", "in_place"),
    [
        (lambda: Blocks(scaled_apart), lambda: Blocks(scaled_in_place)),
        (lambda: Blocks(activated_then_shifted_apart), lambda: Blocks(activated_then_shifted_in_place)),
        (lambda: Sums(torch.add), lambda: Sums(torch.Tensor.add_)),
        (lambda: Blocks(F.silu), lambda: Blocks(lambda maps: F.silu(maps, inplace=True))),
    ],
)
def test_what_is_written_in_place_scores_as_what_is_not(apart, in_place):
    expected, found = all_values(apart), all_values(in_place)
    for name in TABLE:
        if name != "meco":  # it looks at what modules give, as it is when they give it
            assert found[name] == pytest.approx(expected[name], rel=1e-4, nan_ok=True), name
    assert math.isfinite(found["meco"])


class ByHand(nn.Module):
    """Uses the weights of layers by other means than their calls; one of them both ways."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(2, 6, 3, padding=1)
        self.mixed = nn.Linear(6, 6)
        self.both = nn.Linear(6, 6)
        self.attention = nn.MultiheadAttention(6, 2, batch_first=True)
        self.head = nn.Linear(6, 4)

    def forward(self, images):
        standard = self.stem.weight / self.stem.weight.std((1, 2, 3), keepdim=True)
        maps = torch.tanh(F.conv2d(images, standard, self.stem.bias, padding=1))
        rows = torch.einsum("bchw,oc->bohw", maps, self.mixed.weight).flatten(2).mT
        rows = torch.tanh(self.both(rows) + rows @ self.both.weight)
        rows = rows + self.attention(rows, rows, rows)[0]
        return self.head(rows.mean(1))


def test_weights_used_by_other_means_than_a_layers_call():
    network = made(ByHand).double()
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):  # can be differentiated twice
        twin = copy.deepcopy(network).train()
        images, labels = batch(torch.float64)
        weights = [module.weight for module in twin.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
        gradients = torch.autograd.grad(F.cross_entropy(twin(images), labels), weights, create_graph=True)
        growth = torch.autograd.grad(sum((g * g.detach()).sum() for g in gradients), weights)
        pairs = list(zip(weights, gradients, growth, strict=True))
        expected = {
            "grad_norm": sum(g.norm() for _, g, _ in pairs),
            "snip": sum((w * g).abs().sum() for w, g, _ in pairs),
            "grasp": -sum((w * h).sum() for w, _, h in pairs),
        }
        for name, right in expected.items():
            assert value(name, network) == pytest.approx(right.item(), rel=1e-9), name
        assert math.isnan(value("fisher", network))  # of these layers there are no outputs


def test_a_weight_made_of_others_has_no_gradient_of_its_own():
    network = made(Blocks)
    network.last = weight_norm(network.last)
    assert [name for name in BY_WEIGHTS if not math.isnan(value(name, network))] == []
    assert value("l2_norm", network) == pytest.approx(value("l2_norm", made(Blocks)))


@pytest.mark.parametrize("name", ["naswot", "swap", "az_progressivity", "grad_norm"])
@pytest.mark.parametrize(
    "rectify", [torch.relu, torch.Tensor.relu, torch.relu_, F.relu, F.leaky_relu, F.mish]
)
def test_functional_activations_are_seen_as_modules_are(name, rectify):
    module = {F.leaky_relu: nn.LeakyReLU(), F.mish: nn.Mish()}.get(rectify, nn.ReLU(inplace=True))
    assert value(name, made(lambda: Blocks(rectify))) == value(name, made(lambda: Blocks(module)))


def test_without_activations_there_are_no_patterns():
    network = made(lambda: Blocks(torch.tanh))
    assert math.isnan(value("naswot", network))
    assert math.isnan(value("swap", network))


def test_dropout_drops_nothing():
    head = (lambda: nn.Sequential(nn.Dropout(0.5), nn.Linear(6, 4))), (lambda: nn.Sequential(nn.Linear(6, 4)))
    with_, without = (all_values(lambda made_head=each: Blocks(head=made_head())) for each in head)
    del with_["meco"], without["meco"]  # it counts modules
    assert with_ == pytest.approx(without, nan_ok=True)


def test_one_value_a_channel_is_enough_for_meco():
    """Normalisation of one image after the pooling, which torch refuses to learn from."""
    head = nn.Sequential(nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 4))
    network = made(lambda: Blocks(head=head))
    assert value("meco", network) == pytest.approx(value("meco", made(Blocks)))
    alone, passes = value("synflow", network), Passes(network, *batch())
    for name in ("meco", "grad_norm", "naswot"):
        TABLE[name].function(passes)
    assert TABLE["synflow"].function(passes) == alone  # whatever was normalised before


class Overflowing(Blocks):
    def forward(self, images):
        return super().forward(images * 1e30)


def test_what_is_not_finite_has_no_value():
    network = made(Overflowing)
    for block in network.blocks:
        block[1] = nn.Identity()
        nn.init.constant_(block[0].weight, 1e10)
    for name in ("meco", "zen"):
        assert not math.isfinite(value(name, network)), name
    for name in ("swap", "naswot", "az_progressivity", "jacov", "snip"):
        with pytest.raises(ArithmeticError, match="not finite"):
            value(name, network)


def test_synflow_knows_when_signs_are_lost():
    network = made(lambda: Blocks(lambda maps: -maps))
    network.last.bias.data.fill_(0)
    assert math.isnan(value("synflow", network))
    assert math.isnan(value("synflow", nn.Sequential(nn.BatchNorm2d(2), nn.Flatten())))


class Head(nn.Module):
    def __init__(self, *, pool):
        super().__init__()
        self.stages = nn.ModuleDict({"one": nn.Sequential(step(2, 6), step(6, 6)), "two": step(6, 6)})
        self.squeeze = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(6, 6, 1), nn.Sigmoid())
        self.blocks = [*self.stages["one"], self.stages["two"]]
        self.pool, self.head = nn.AdaptiveAvgPool2d(1) if pool else None, nn.Linear(6, 4)

    def forward(self, images):
        maps = self.stages["one"](images)
        maps = self.stages["two"](maps * self.squeeze(maps))
        return self.head(maps.mean((2, 3)) if self.pool is None else self.pool(maps).flatten(1))


def test_zen_looks_at_the_last_maps_and_not_at_what_is_squeezed():
    assert value("zen", made(lambda: Head(pool=True))) == value("zen", made(lambda: Head(pool=False)))


def test_blocks_are_those_named_or_most_of_the_network():
    chain = nn.Sequential(*(step(2, 2) for _ in range(4)))
    rest = [nn.Conv2d(2, 2, 1) for _ in range(2)]
    whole = nn.Sequential(nn.Sequential(chain, rest[0]), nn.Flatten(), nn.Linear(2, 2))
    assert blocks_of(whole) == list(chain)
    assert blocks_of(nn.ModuleList([chain, *rest, *rest, nn.Linear(2, 2), nn.Linear(2, 2)])) == []
    chain.blocks = 3  # a number of them, not the blocks
    assert blocks_of(chain) == list(chain)


class Tokens(nn.Module):
    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(2, 8, 4, stride=4)
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
        self.head = nn.Linear(8, 4)

    def forward(self, images):
        return self.head(self.layer(self.patches(images).flatten(2).mT).mean(1))


class Upwards(nn.Module):
    def __init__(self):
        super().__init__()
        self.line = nn.Conv1d(16, 6, 3)
        self.up = nn.ConvTranspose2d(2, 6, 3, stride=2, groups=2)
        self.last = nn.Linear(6, 4, bias=False)

    def forward(self, images):
        channels_last = self.last(self.up(images).movedim(1, -1))
        return channels_last.mean((1, 2)) + self.line(images.flatten(1, 2)).mean((1, 2))[:, None]


def multiplications(network):
    """Of one image, by torch's own counter: half its operations. It does not count what is added for biases."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network.eval()(batch()[0][:1])
    return counter.get_total_flops() / 2


def test_flops_of_layers_of_any_kind():
    network = made(Upwards)
    biases = 6 * (8 - 2) + 6 * 17 * 17
    assert value("flops", network) == multiplications(network) + biases


def test_flops_of_attention_are_those_of_its_projections():
    network = made(Tokens)
    layers = 8 * 8 * (3 + 1) + 8 * 16 * 2  # in and out, and the two linear layers
    biases = 8 * (3 + 1) + 16 + 8
    assert value("flops", network) == 4 * (2 * 16 * 8 + 8 + layers + biases) + 8 * 4 + 4


def test_flops_of_recurrent_layers_are_not_known():
    assert math.isnan(value("flops", nn.Sequential(nn.Flatten(2), nn.LSTM(64, 3))))
