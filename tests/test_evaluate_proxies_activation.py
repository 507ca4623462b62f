import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from carbon_nas.evaluate.data import load_task
from carbon_nas.evaluate.proxies import TABLE
from carbon_nas.evaluate.proxies.az_nas import _signs
from carbon_nas.evaluate.proxies.initialisation import as_built, standard_normal
from carbon_nas.evaluate.proxies.passes import Passes
from carbon_nas.evaluate.proxies.spectra import by_size
from carbon_nas.evaluate.proxies.swap import IMAGES
from carbon_nas.evaluate.randomness import generator
from carbon_nas.evaluate.scoring import images_batch
from carbon_nas.evaluate.settings import TaskSettings
from carbon_nas.search.spaces.nasbench201 import NasBench201, NasBench201Options

SPACE = NasBench201(NasBench201Options(channels=4, cells=1))
MIXED = SPACE.decode((3, 1, 2, 4, 2, 3))
DEAD = SPACE.decode((0,) * 6)
SKIPS = SPACE.decode((1, 0, 1, 0, 0, 1))
NAMES = ("swap", "meco", "zen", "az_expressivity", "az_progressivity", "az_trainability")


@pytest.fixture(scope="module")
def batch():
    return images_batch(load_task(TaskSettings(), torch.device("cpu")), 28, seed=5)


def network_of(arch, initialise=as_built):
    torch.manual_seed(3)
    network = SPACE.build(arch, 1, 10)
    initialise(network)
    return network.train()


def value(name, network, images, labels):
    return TABLE[name].function(Passes(network, images, labels))


def calls(network, images, kinds=nn.Module, modules=None):
    """Run, and give each call's module, input and output as they were then."""
    seen = []
    hooks = [
        module.register_forward_hook(
            lambda which, inputs, output: seen.append((which, inputs[0].clone(), output.clone()))
        )
        for module in modules or network.modules()
        if isinstance(module, kinds)
    ]
    network(images)
    for hook in hooks:
        hook.remove()
    return seen


class Overwriting(nn.Module):
    """Changes what its convolution gave in place, and gives it back."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.convolution = nn.Conv2d(1, 5, 3, padding=1)

    def forward(self, images):
        return self.convolution(images).relu_()


def ordinary():
    """A network that is no space's: two convolutions of odd size, the second one halving."""
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Conv2d(1, 5, 3, padding=1),
        nn.BatchNorm2d(5),
        nn.ReLU(),
        nn.Conv2d(5, 6, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(6, 7),
        nn.ReLU(),
        nn.Linear(7, 10),
    )


def smallest_correlation_eigenvalue(output):
    channels = output[0].detach().double().numpy()
    with np.errstate(invalid="ignore", divide="ignore"):
        matrix = np.corrcoef(channels.reshape(len(channels), -1))
    matrix[~np.isfinite(matrix)] = 0
    return min(np.linalg.eigvals(matrix).real)


@pytest.mark.parametrize("network", [network_of(MIXED), ordinary(), Overwriting()])
def test_meco_module_by_module(network, batch):
    """Containers count again; what is changed in place must not spoil what was seen before."""
    with torch.no_grad():
        maps = [output for _, _, output in calls(network, batch[0][:1]) if output[0, 0].numel() > 1]
    expected = sum(smallest_correlation_eigenvalue(output) for output in maps)
    assert expected > 0.1
    assert value("meco", network, *batch) == pytest.approx(expected, rel=1e-4)


def test_swap_by_listing_patterns(batch):
    with torch.no_grad():
        outputs = [output.flatten(1) for _, _, output in calls(network_of(MIXED), batch[0], nn.ReLU)]
    patterns = {tuple(column) for column in (torch.cat(outputs, 1)[:IMAGES] > 0).T.tolist()}
    assert value("swap", network_of(MIXED), *batch) == len(patterns)


@pytest.mark.parametrize("images", [2, IMAGES - 1, IMAGES, IMAGES + 1])
def test_swap_takes_any_number_of_images(images):
    """Unit k is active on image k alone; those beyond the first so many are not looked at."""
    seen = min(images, IMAGES)
    active = torch.eye(seen, images).T.reshape(images, 1, 1, seen)
    network = nn.Sequential(nn.ReLU(), nn.Flatten(), nn.Linear(seen, 3))
    assert value("swap", network, active, torch.zeros(images)) == seen


def test_swap_counts_units_of_maps_alone():
    """As the authors' code does: units of a linear layer are not looked at."""
    network = nn.Sequential(nn.ReLU(), nn.Flatten(), nn.Linear(1, 3), nn.ReLU())
    with torch.no_grad():
        network[2].weight.fill_(1.0)
        network[2].bias.copy_(torch.tensor([-0.2, -0.5, -0.8]))  # three patterns more
    assert value("swap", network, torch.linspace(-1, 1, 8).reshape(8, 1, 1, 1), torch.zeros(8)) == 1


@pytest.mark.parametrize("network", [network_of(MIXED, standard_normal), ordinary()])
@pytest.mark.parametrize("tracking", [True, False])
def test_zen_image_by_image(network, tracking, batch):
    images = batch[0][:16]
    noise = torch.randn(images.shape, generator=generator("zen"))
    with torch.no_grad():
        ((_, still, _),) = calls(network, images, nn.AdaptiveAvgPool2d)
        ((_, moved, _),) = calls(network, images + 0.01 * noise, nn.AdaptiveAvgPool2d)
        norms = [inputs for _, inputs, _ in calls(network, images, nn.BatchNorm2d)]
    expected = math.log(
        np.mean([(a - b).abs().double().sum().item() for a, b in zip(still, moved, strict=True)])
    )
    for inputs in norms:
        channels = inputs.double().transpose(0, 1).flatten(1)
        expected += math.log(np.sqrt(np.mean([channel.var().item() for channel in channels])))
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d) and not tracking:
            module.track_running_stats, module.running_mean, module.running_var = False, None, None
    assert value("zen", network, *batch) == pytest.approx(expected, rel=1e-4)


def test_zen_passes_over_what_nothing_flows_to(batch):
    """A convolution that leads from an empty node normalises zeros; the cell without it computes the same."""
    idle, plain = SPACE.decode((0, 0, 3, 3, 0, 0)), SPACE.decode((0, 0, 0, 3, 0, 0))
    scores = []
    for arch in (idle, plain):
        network = network_of(arch)
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.fill_(0.5) if parameter.dim() == 1 else parameter.copy_(pattern(parameter))
        scores.append(value("zen", network, *batch))
    assert scores[0] == pytest.approx(scores[1])


def pattern(weights):
    return torch.linspace(-1, 1, weights.numel()).sin().mul(7).cos().reshape(weights.shape)


def entropy(block):
    channels = block.detach().double().transpose(0, 1).flatten(1).numpy()
    values = np.clip(np.linalg.eigvalsh(np.cov(channels, bias=True)), 0, None)
    shares = values / values.sum()
    return -(shares * np.log(shares + 1e-8)).sum()


def trainability(before, after, block):
    """One block on its own, image by image and position by position."""
    start = before.detach().requires_grad_()
    arriving = _signs(after.shape)
    block(start).backward(arriving)
    leaving, stride = start.grad, before.shape[2] // after.shape[2]
    product = 0
    for image in range(len(after)):
        for row, column in np.ndindex(*after.shape[2:]):
            rows, columns = (slice(place * stride, (place + 1) * stride) for place in (row, column))
            source = leaving[image, :, rows, columns].flatten().double()
            product = product + torch.outer(source, arriving[image, :, row, column].double())
    size = np.linalg.svd(product.numpy() / arriving[:, 0].numel(), compute_uv=False).max()
    return -size - 1 / (size + 1e-6) + 2


def test_az_nas_block_by_block(batch):
    network, batch = network_of(MIXED), (batch[0][:6], batch[1][:6])
    blocks = network.blocks
    maps = [output for _, _, output in calls(network, batch[0], modules=blocks)]
    entropies = [entropy(block) for block in maps]
    gains = [after - before for before, after in pairwise(entropies)]
    sizes = [trainability(*maps[place : place + 2], blocks[place + 1]) for place in range(len(blocks) - 1)]
    assert len(maps) == 6
    assert value("az_expressivity", network_of(MIXED), *batch) == pytest.approx(sum(entropies), rel=1e-4)
    assert value("az_progressivity", network_of(MIXED), *batch) == pytest.approx(min(gains), rel=1e-3)
    assert value("az_trainability", network_of(MIXED), *batch) == pytest.approx(np.mean(sizes), rel=1e-4)


def test_a_block_that_hands_its_input_on_is_not_trainable(batch):
    assert value("az_trainability", network_of(SKIPS), *batch) == -math.inf
    assert math.isfinite(value("az_expressivity", network_of(SKIPS), *batch))


def test_az_nas_of_a_network_with_odd_sizes():
    images = torch.randn(4, 1, 7, 7, generator=generator("odd"))
    for name in NAMES:
        assert math.isfinite(value(name, ordinary(), images, torch.zeros(4))), name


def test_the_shared_graph_outlives_trainability(batch):
    passes = Passes(network_of(MIXED), *batch)
    TABLE["az_trainability"].function(passes)
    assert TABLE["grad_norm"].function(passes) == value("grad_norm", network_of(MIXED), *batch)


def test_a_disconnected_cell(batch):
    found = {name: value(name, network_of(DEAD), *batch) for name in NAMES}
    assert found["zen"] == found["az_expressivity"] == found["az_progressivity"] == -math.inf
    for name in ("az_trainability", "swap", "meco"):
        assert found[name] < value(name, network_of(MIXED), *batch), name


@pytest.mark.parametrize("name", NAMES)
def test_a_network_without_what_is_looked_at(name):
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 10))
    assert math.isnan(value(name, network, torch.zeros(5, 1, 2, 2), torch.zeros(5)))


def test_stacking_by_size_keeps_the_order():
    sizes = (3, 1, 2, 3, 1)
    matrices = [torch.full((size, size), float(place)) for place, size in enumerate(sizes)]
    expected = [place * size**2 for place, size in enumerate(sizes)]
    assert by_size(lambda stack: stack.sum((1, 2)), matrices) == expected
