import weakref

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from carbon_nas.evaluate.proxies.differentiation import Recording


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("shape", [(5, 3), (4, 3, 2, 2)])
def test_normalisation_can_be_differentiated_twice(affine, shape):
    draws = torch.Generator().manual_seed(3)
    x = torch.randn(shape, dtype=torch.float64, generator=draws).requires_grad_()
    weight, bias = torch.rand(2, 3, dtype=torch.float64, generator=draws)
    given = (x, weight.requires_grad_(), bias.requires_grad_()) if affine else (x,)

    def ours(x, weight=None, bias=None):
        with Recording([]):
            return F.batch_norm(
                x, None, None, weight=weight, bias=bias, training=True, momentum=0.1, eps=1e-5
            )

    def theirs(x, weight=None, bias=None):
        return F.batch_norm(x, None, None, weight=weight, bias=bias, training=True, momentum=0.1, eps=1e-5)

    assert torch.equal(ours(*given), theirs(*given))
    found = []
    for normalise in (ours, theirs):
        first = torch.autograd.grad(normalise(*given).tanh().sum(), given, create_graph=True)
        second = torch.autograd.grad((first[0] * x.detach().cos()).sum(), given[:2])
        found.append(([g.detach() for g in first], second))
    assert all(map(torch.equal, found[0][0], found[1][0]))
    assert all(map(torch.allclose, found[0][1], found[1][1]))


def test_normalisation_keeps_its_running_statistics():
    one, two = nn.BatchNorm2d(3), nn.BatchNorm2d(3)
    images = torch.randn(4, 3, 2, 2, generator=torch.Generator().manual_seed(3))
    one(images)
    with Recording([]):
        two(images)
    assert all(map(torch.equal, one.state_dict().values(), two.state_dict().values()))


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(3, 4, 3, stride=2, padding=1),
        nn.Conv2d(3, 6, (3, 2), padding="same", dilation=(1, 2), groups=3),
        nn.Conv2d(3, 4, 3, padding="valid", bias=False),
        nn.Conv2d(3, 4, 3, padding=1, padding_mode="circular"),
        nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False),
        nn.AvgPool2d((1, 5), stride=1, padding=(0, 2), count_include_pad=False),
        nn.AvgPool2d(3, stride=1, padding=1),
        nn.AvgPool2d(2),
        nn.Linear(7, 4),
        nn.ReLU(),
    ],
    ids=str,
)
def test_layers_differ_from_torchs_in_nothing(layer):
    """In value to the bit; the gradients by image and weight may be added up in another order."""
    images = torch.randn(5, 3, 7, 7, generator=torch.Generator().manual_seed(3)).requires_grad_()
    weights = [layer.weight] if hasattr(layer, "weight") else []
    with Recording(weights) as recording:
        ours = layer(images)
    theirs = layer(images)
    assert torch.equal(ours, theirs)
    gradient = theirs.detach().cos()
    (by_images,) = torch.autograd.grad(ours, images, gradient)
    expected = torch.autograd.grad(theirs, [images, *weights], gradient)
    found = [by_images, *(call.by_weight(gradient) for call in recording.calls)]
    assert len(found) == len(expected)
    assert all(
        torch.allclose(one, two, rtol=1e-5, atol=1e-5) for one, two in zip(found, expected, strict=True)
    )


def test_a_rectifier_can_be_differentiated_twice_and_its_graph_goes_with_it():
    x = torch.randn(5, 3, 4, 4, generator=torch.Generator().manual_seed(3)).requires_grad_()

    def second(rectify):
        (first,) = torch.autograd.grad(rectify(x.sin()).square().sum(), x, create_graph=True)
        return torch.autograd.grad(first.square().sum(), x)[0]

    with Recording([]):
        ours = second(F.relu)
        held = weakref.ref(F.relu(x))
    assert torch.allclose(ours, second(F.relu))
    assert held() is None, "a cycle would keep all the maps until the collector runs"


def test_what_was_recorded_goes_with_the_recording():
    layer = nn.Conv2d(3, 4, 3)
    with Recording([layer.weight]) as recording:
        layer(torch.ones(1, 3, 5, 5))
    held = weakref.ref(recording.calls[0].output)
    del recording
    assert held() is None, "a cycle would keep all the maps until the collector runs"


def test_functions_may_be_called_by_keyword():
    """As networks do that are no space's of ours; pooling is torch's own then."""
    draws = torch.Generator().manual_seed(3)
    images, weight = torch.randn(2, 3, 6, 6, generator=draws), torch.randn(4, 3, 3, 3, generator=draws)
    rows = torch.randn(5, 6, generator=draws)

    def network():
        maps = F.relu(input=F.conv2d(images, weight, stride=2, padding=1))
        maps = F.avg_pool2d(input=F.conv2d(maps, weight=weight[:, :1], groups=4), kernel_size=1)
        maps = F.conv2d(input=maps.mean(1, keepdim=True).expand(-1, 3, -1, -1), weight=weight, padding="same")
        return F.linear(F.batch_norm(maps, None, None, training=True).mean((2, 3)), weight=rows[:, :4])

    with Recording([weight]) as recording:
        ours = network()
    assert torch.equal(ours, network())
    assert [call.geometry for call in recording.calls] == [(2, 1, 1, 1), (1, 0, 1, 1)]
