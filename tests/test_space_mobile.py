"""The space `mobile`: its text form, its networks against torchvision's EfficientNets, and what proxies say of them."""

import itertools
import math
import random
import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from search_threads import one_thread  # noqa: F401 -- autouse
from torch import nn
from torchvision.models import efficientnet_b0, efficientnet_b3, efficientnet_b7

from carbon_nas import plugins
from carbon_nas.errors import ConfigurationError
from carbon_nas.evaluate.proxies import TABLE
from carbon_nas.evaluate.proxies.flops import flops
from carbon_nas.evaluate.proxies.passes import Passes
from carbon_nas.evaluate.randomness import generator
from carbon_nas.search.spaces.mobile import Mobile, MobileOptions, strides

B0 = "|".join(
    f"k{kernel}e{expansion}d{depth}w1.0se"
    for kernel, expansion, depth in [
        (3, 1, 1),
        (3, 6, 2),
        (5, 6, 2),
        (3, 6, 3),
        (5, 6, 3),
        (5, 6, 4),
        (3, 6, 1),
    ]
)
SPACE = Mobile(MobileOptions())
SMALL = Mobile(MobileOptions(width_multiplier=0.1, depth_multiplier=0.5))
CHOICES = st.tuples(*[st.integers(0, count - 1) for count in SPACE.choices])
MULTIPLIERS = st.floats(0.1, 3)


def small(arch=B0, planes=1, classes=10):
    torch.manual_seed(3)
    return SMALL.build(arch, planes, classes)


def batch(images=6, side=32):
    """Noise, with two images of each class: some proxies compare those of one class."""
    return torch.randn(images, 1, side, side, generator=generator("mobile")), torch.arange(images) // 2


def parameters(network):
    return sum(parameter.numel() for parameter in network.parameters())


def test_text_form():
    mixed = B0.replace("k3e1d1w1.0se", "k5e3d2w0.75").replace("k3e6d1w1.0se", "k3e6d4w1.25se")
    assert SPACE.encode(mixed)[:5] == (1, 1, 1, 0, 0)
    assert SPACE.encode(mixed)[-5:] == (0, 2, 3, 2, 1)
    assert SPACE.choices == (2, 3, 4, 3, 2) * 7
    assert math.prod(SPACE.choices) == 144**7


@given(CHOICES)
def test_decode_undoes_encode(choices):
    assert SPACE.encode(SPACE.decode(choices)) == choices


@pytest.mark.parametrize(
    ("damaged", "said"),
    [
        ("", "it has 7 stages"),
        (B0 + "|", "it has 7 stages"),
        (B0.rpartition("|")[0], "it has 7 stages"),
        (B0 + "\n", r"stage 7 is 'k3e6d1w1.0se\\n'"),
        (B0.replace("k5e6d4", "k7e6d4"), "stage 6 is 'k7e6d4w1.0se'"),
        (B0.replace("e1", "e2"), "stage 1 .*e1|e3|e6"),
        (B0.replace("d4", "d5"), "stage 6 .*d1|d2|d3|d4"),
        (B0.replace("w1.0", "w1", 1), "stage 1 .*w0.75|w1.0|w1.25"),
        (B0.replace("w1.0", "w1x0", 1), "stage 1 is"),
        (B0.replace("se", "sese", 1), "stage 1 is"),
        (B0.replace("k3e1", "e1k3"), "stage 1 is"),
        (B0.replace("3", "\N{ARABIC-INDIC DIGIT THREE}", 1), "stage 1 is"),
    ],
)
def test_other_text_is_refused_by_the_stage_that_is_wrong(damaged, said):
    with pytest.raises(ValueError, match=f"not of mobile: {said}"):
        SPACE.encode(damaged)


@pytest.mark.parametrize("choices", [(), (0,) * 34, (0,) * 36, (2, *(0,) * 34), (-1, *(0,) * 34)])
def test_other_choices_are_refused(choices):
    with pytest.raises(ValueError, match="35 numbers below"):
        SPACE.decode(choices)


def test_options_are_checked_and_named():
    for options, said in [
        ({"side": 7}, "side must be at least 8, got 7"),
        ({"width_multiplier": 0.0}, "width_multiplier must be above 0 and at most 10"),
        ({"depth_multiplier": math.nan}, "depth_multiplier must be above 0 and at most 10, got nan"),
        ({"with_multiplier": 1.0}, "did you mean 'width_multiplier'"),
    ]:
        with pytest.raises(ConfigurationError, match=said):
            plugins.build("spaces", "mobile", options, key="space")


def test_the_space_does_not_import_torch():
    code = "import sys, carbon_nas.search.spaces.mobile; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("published", "width", "depth"),
    [(efficientnet_b0, 1.0, 1.0), (efficientnet_b3, 1.2, 1.4), (efficientnet_b7, 2.0, 3.1)],
)
def test_scaled_it_is_efficientnet(published, width, depth):
    """Every tensor has the shape that it has in torchvision's, and so as many numbers."""
    space = Mobile(MobileOptions(side=224, width_multiplier=width, depth_multiplier=depth))
    with torch.device("meta"):
        ours, theirs = space.build(B0, 3, 1000), published()
    shapes = [[tensor.shape for tensor in network.state_dict().values()] for network in (ours, theirs)]
    assert shapes[0] == shapes[1]
    assert parameters(ours) == parameters(theirs)


def test_b0_begins_and_computes_as_torchvisions():
    networks = []
    for make in (
        lambda: Mobile(MobileOptions(side=224)).build(B0, 3, 10),
        lambda: efficientnet_b0(num_classes=10),
    ):
        torch.manual_seed(1)
        networks.append(make().eval())
    ours, theirs = (network.state_dict().values() for network in networks)
    assert all(torch.equal(one, other) for one, other in zip(ours, theirs, strict=True))
    images = torch.randn(2, 3, 96, 96, generator=generator("b0"))
    with torch.no_grad():
        logits = [network(images) for network in networks]
    assert torch.equal(*logits)
    assert logits[0].std() > 0


def counted(space, arch, side, planes, classes):
    """Count parameters and multiply-accumulates on paper; a normalisation has two numbers a channel."""
    inputs, head, steps = rounded(32 * 0.3), rounded(1280 * 0.3), strides(side)
    after = math.ceil(side / steps[0])
    total, operations = (9 * planes + 2) * inputs, 9 * planes * inputs * after**2
    for stage, halving in zip(space.stages(arch), steps[1:], strict=True):
        for place in range(stage.blocks):
            wide = stage.expansion * inputs
            before, after = after, math.ceil(after / (halving if place == 0 else 1))
            expand = inputs * wide if stage.expansion > 1 else 0
            depthwise, project = stage.kernel**2 * wide, wide * stage.channels
            total += expand + depthwise + project + 2 * (wide * (1 + (stage.expansion > 1)) + stage.channels)
            operations += expand * before**2 + (depthwise + project) * after**2
            squeezed = 2 * wide * (inputs // 4) + wide + inputs // 4 if stage.squeeze else 0
            total, operations = total + squeezed, operations + squeezed
            inputs = stage.channels
    last, linear = inputs * head, (head + 1) * classes
    return total + last + 2 * head + linear, operations + last * after**2 + linear


def rounded(width):
    """The nearest multiple of eight, the next if that lost more than a tenth; eight at least."""
    down, up = math.floor(width / 8) * 8, math.ceil(width / 8) * 8
    nearest = up if up - width <= width - down else down
    return max(8, nearest if nearest >= 0.9 * width else up)


@pytest.mark.parametrize(("planes", "classes", "side"), [(1, 7, 16), (3, 10, 49), (2, 3, 28)])
def test_parameters_and_operations_by_formula(planes, classes, side):
    space, rng = (
        Mobile(MobileOptions(side=side, width_multiplier=0.3, depth_multiplier=0.7)),
        random.Random(side),
    )
    images = torch.zeros(1, planes, side, side)
    for arch in (B0, *(space.sample(rng) for _ in range(3))):
        network = space.build(arch, planes, classes)
        found = parameters(network), flops(Passes(network, images, torch.zeros(1)))
        assert found == counted(space, arch, side, planes, classes), arch


@given(MULTIPLIERS, MULTIPLIERS, CHOICES)
def test_widths_and_depths_are_scaled_as_published(width, depth, choices):
    space = Mobile(MobileOptions(width_multiplier=width, depth_multiplier=depth))
    for place, (stage, base) in enumerate(
        zip(space.stages(space.decode(choices)), (16, 24, 40, 80, 112, 192, 320), strict=True)
    ):
        deep, wide = choices[5 * place + 2], choices[5 * place + 3]
        assert stage.blocks == math.ceil((deep + 1) * depth)
        assert stage.channels == rounded(base * (0.75, 1.0, 1.25)[wide] * width)


@given(st.integers(8, 700))
def test_maps_are_halved_as_often_as_leaves_four_by_four(side):
    found = strides(side)
    reduction = math.prod(found)
    assert math.ceil(side / reduction) >= 4
    assert reduction == 32 or math.ceil(side / (2 * reduction)) < 4
    kept = [step for step, published in zip(found, (2, 1, 2, 2, 2, 1, 2, 1), strict=True) if published == 2]
    assert kept == sorted(kept), "the first do not halve"
    assert math.prod(kept) == reduction


@pytest.mark.parametrize(("side", "last"), [(16, 4), (28, 4), (32, 4), (63, 4), (64, 4), (97, 4), (224, 7)])
def test_the_last_map(side, last):
    space = Mobile(MobileOptions(side=side, width_multiplier=0.1, depth_multiplier=0.25))
    network = space.build(B0, 1, 10)
    assert network.features(torch.zeros(2, 1, side, side)).shape[2:] == (last, last)


@given(CHOICES, MULTIPLIERS, MULTIPLIERS)
def test_what_stands_for_an_architecture_is_the_same_network(choices, width, depth):
    space = Mobile(MobileOptions(width_multiplier=width, depth_multiplier=depth))
    arch = space.decode(choices)
    standing = space.canonical(arch)
    assert space.stages(standing) == space.stages(arch)
    assert all(one <= other for one, other in zip(space.encode(standing), choices, strict=True))


def settings(stage):
    """Give the 144 texts that differ in one stage."""
    others = [*SPACE.encode(B0)]
    for setting in itertools.product(*map(range, SPACE.choices[:5])):
        others[5 * stage : 5 * stage + 5] = setting
        yield SPACE.decode(others)


@pytest.mark.parametrize(
    ("space", "networks"), [(SPACE, [96] * 2 + [144] * 5), (SMALL, [24] * 3 + [48] * 3 + [72])]
)
def test_two_that_stand_for_themselves_differ(space, networks):
    for stage in range(7):
        found = {space.canonical(text): tuple(space.stages(text)) for text in settings(stage)}
        assert len(found) == len(set(found.values())) == networks[stage]


def test_blocks_are_the_stem_and_each_mbconv_in_the_order_they_are_run():
    network, shapes = small(), []
    for block in network.blocks:
        block.register_forward_hook(lambda _, __, output: shapes.append(tuple(output.shape[1:])))
    network(batch()[0])
    widths, sides = (8, 8, 8, 8, 8, 8, 16, 16, 24, 24, 32), (32, 32, 32, 16, 8, 8, 8, 8, 4, 4, 4)
    assert shapes == [(width, side, side) for width, side in zip(widths, sides, strict=True)]


def test_training_draws_nothing():
    network, before = small().train(), torch.get_rng_state()
    network(batch()[0]).sum().backward()
    assert torch.equal(before, torch.get_rng_state())
    assert all(parameter.grad.isfinite().all() for parameter in network.parameters())


@pytest.mark.parametrize("arch", [B0, SMALL.decode((1, 1, 1, 2, 0) * 7)])
def test_every_proxy_says_something(arch):
    before = torch.get_rng_state()
    for name, proxy in TABLE.items():
        network = small(arch)
        proxy.initialise(network)
        torch.set_rng_state(before)
        found = proxy.function(Passes(network, *batch()))
        assert torch.equal(before, torch.get_rng_state()), name
        assert math.isfinite(found), name


def test_naswot_and_swap_by_listing_codes():
    """A unit's bit is the sign of what enters its SiLU, which is done in place."""
    network, codes = small().train(), []
    for module in network.modules():
        if isinstance(module, nn.SiLU):
            module.register_forward_pre_hook(lambda _, inputs: codes.append((inputs[0] > 0).flatten(1)))
    with torch.no_grad():
        network(batch()[0])
    bits = torch.cat(codes, 1)
    agreements = (bits[:, None] == bits[None]).sum(2).double()
    naswot, swap = (TABLE[name].function(Passes(small(), *batch())) for name in ("naswot", "swap"))
    assert naswot == pytest.approx(agreements.det().log().item(), rel=1e-9)
    assert swap == len({tuple(column) for column in bits.T.tolist()})


@pytest.mark.parametrize("activation", [nn.ReLU6, nn.SiLU, nn.Hardswish, nn.GELU])
@pytest.mark.parametrize("name", ["naswot", "swap"])
def test_other_activations_are_active_where_a_relu_is(activation, name):
    scores = []
    for kind in (nn.ReLU, activation):
        torch.manual_seed(3)
        network = nn.Sequential(
            nn.Conv2d(1, 5, 3), kind(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 10)
        )
        scores.append(TABLE[name].function(Passes(network, *batch(side=8))))
    assert math.isfinite(scores[0])
    assert scores[0] == scores[1]
