import csv
import gzip
import itertools
import random
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from carbon_nas import plugins
from carbon_nas.errors import ConfigurationError
from carbon_nas.evaluate.proxies.flops import flops
from carbon_nas.evaluate.proxies.passes import Passes
from carbon_nas.search.spaces.nasbench201 import OPERATIONS, NasBench201, NasBench201Options

EXAMPLE = "|nor_conv_3x3~0|+|skip_connect~0|none~1|+|nor_conv_1x1~0|none~1|avg_pool_3x3~2|"
SPACE = NasBench201(NasBench201Options())
TABLE_FILE = Path(__file__).parents[1] / ".." / "shared" / "data" / "nas" / "nb201.csv.gz"
CELLS = st.tuples(*[st.integers(0, 4)] * 6)


def parameters_by_formula(cell, channels, cells, planes=3, classes=10):
    """Counted on paper: a convolution CxCxk and its normalisation have k*k*C*C + 2C numbers."""
    widths = [channels, 2 * channels, 4 * channels]
    kernels = [{"nor_conv_1x1": 1, "nor_conv_3x3": 3}.get(OPERATIONS[choice], 0) for choice in cell]
    total = 9 * planes * channels + 2 * channels
    total += cells * sum(k * k * c * c + 2 * c for k in kernels if k for c in widths)
    for c in widths[:2]:
        total += 9 * c * 2 * c + 4 * c + 9 * 4 * c * c + 4 * c + 2 * c * c
    return total + 2 * widths[2] + widths[2] * classes + classes


def count_parameters(space, cell, planes=3, classes=10):
    with torch.device("meta"):
        network = space.build(space.decode(cell), planes, classes)
    return sum(parameter.numel() for parameter in network.parameters())


def three_and_one(cell):
    return cell.count(OPERATIONS.index("nor_conv_3x3")), cell.count(OPERATIONS.index("nor_conv_1x1"))


def test_text_form():
    assert SPACE.encode(EXAMPLE) == (3, 1, 0, 2, 0, 4)
    assert SPACE.decode((3, 1, 0, 2, 0, 4)) == EXAMPLE
    assert SPACE.choices == (5,) * 6


@given(CELLS)
def test_decode_undoes_encode(cell):
    assert SPACE.encode(SPACE.decode(cell)) == cell


@pytest.mark.parametrize(
    "text",
    [
        "",
        EXAMPLE[:-1],
        EXAMPLE + "|",
        EXAMPLE + "\n",
        EXAMPLE.replace("none", "zero"),
        EXAMPLE.replace("none~1", "none~0"),
        EXAMPLE.replace("+", ""),
    ],
)
def test_other_text_is_refused(text):
    with pytest.raises(ValueError, match="no cell of nasbench201"):
        SPACE.encode(text)


@pytest.mark.parametrize("choices", [(), (0,) * 5, (0,) * 7, (0, 0, 0, 0, 0, 5), (-1, 0, 0, 0, 0, 0)])
def test_other_choices_are_refused(choices):
    with pytest.raises(ValueError, match="6 numbers from 0 to 4"):
        SPACE.decode(choices)


@given(CELLS, st.integers(0, 10))
def test_neighbours_are_the_24_cells_one_edge_away(cell, seed):
    near = [SPACE.encode(arch) for arch in SPACE.neighbours(SPACE.decode(cell), random.Random(seed))]
    assert len(set(near)) == 24
    assert all(sum(a != b for a, b in zip(cell, other, strict=True)) == 1 for other in near)


def test_neighbours_and_samples_follow_the_generator():
    assert SPACE.neighbours(EXAMPLE, random.Random(1)) == SPACE.neighbours(EXAMPLE, random.Random(1))
    assert SPACE.neighbours(EXAMPLE, random.Random(1)) != SPACE.neighbours(EXAMPLE, random.Random(2))
    rng = random.Random(0)
    drawn = [SPACE.encode(SPACE.sample(rng)) for _ in range(2000)]
    for edge in range(6):
        counts = [sum(cell[edge] == operation for cell in drawn) for operation in range(5)]
        assert all(330 <= count <= 470 for count in counts)  # 400, within four standard deviations


def test_options_are_checked_and_named():
    assert isinstance(plugins.build("spaces", "nasbench201", {"channels": 4}, key="space"), NasBench201)
    with pytest.raises(ConfigurationError, match=r"nasbench201.*cells must be at least 1, got 0"):
        plugins.build("spaces", "nasbench201", {"cells": 0}, key="space")
    with pytest.raises(ConfigurationError, match="did you mean 'channels'"):
        plugins.build("spaces", "nasbench201", {"chanels": 4}, key="space")


def test_the_space_does_not_import_torch():
    code = "import sys, carbon_nas.search.spaces.nasbench201; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_parameters_of_every_mix_of_operations_by_formula():
    """Each of the 210 mixes in two orders; every cell, at full size, is a drill."""
    space, rng = NasBench201(NasBench201Options(channels=16, cells=1)), random.Random(2)
    for mix in itertools.combinations_with_replacement(range(5), 6):
        for _ in range(2):
            cell = rng.sample(mix, 6)
            assert count_parameters(space, cell) == parameters_by_formula(cell, 16, 1), cell


@pytest.mark.drill
def test_parameters_of_every_cell_at_full_size():
    for cell in itertools.product(range(5), repeat=6):
        n3, n1 = three_and_one(cell)
        assert count_parameters(SPACE, cell) == 73306 + 243040 * n3 + 28000 * n1, cell


def test_parameters_of_a_sample_at_full_size():
    rng = random.Random(0)
    for _ in range(80):
        cell = tuple(rng.randrange(5) for _ in range(6))
        n3, n1 = three_and_one(cell)
        expected = 73306 + 243040 * n3 + 28000 * n1
        assert count_parameters(SPACE, cell) == expected == parameters_by_formula(cell, 16, 5), cell


@pytest.mark.parametrize(("planes", "classes", "channels"), [(1, 10, 4), (3, 100, 8)])
def test_parameters_of_other_tasks(planes, classes, channels):
    space = NasBench201(NasBench201Options(channels=channels, cells=2))
    cell = SPACE.encode(EXAMPLE)
    expected = parameters_by_formula(cell, channels, 2, planes, classes)
    assert count_parameters(space, cell, planes, classes) == expected


def test_flops_of_a_sample_at_full_size():
    rng, images = random.Random(1), torch.zeros(1, 3, 32, 32)
    for _ in range(40):
        cell = tuple(rng.randrange(5) for _ in range(6))
        n3, n1 = three_and_one(cell)
        network = SPACE.build(SPACE.decode(cell), 3, 10)
        assert flops(Passes(network, images, torch.zeros(1))) == 7783050 + 35389440 * n3 + 3932160 * n1, cell


def test_a_cell_computes_what_its_text_says():
    """The same cell written out by hand, with the network's own convolutions."""
    arch = "|nor_conv_3x3~0|+|skip_connect~0|nor_conv_1x1~1|+|none~0|avg_pool_3x3~1|skip_connect~2|"
    cell = NasBench201(NasBench201Options(channels=4, cells=1)).build(arch, 1, 10).features[2]
    x = torch.randn(2, 4, 8, 8)
    with torch.no_grad():
        node1 = cell.edges["0->1"](x)
        node2 = x + cell.edges["1->2"](node1)
        pooled = torch.nn.functional.avg_pool2d(node1, 3, 1, 1, count_include_pad=False)
        assert torch.equal(cell(x), pooled + node2)
    assert sorted(cell.edges) == ["0->1", "0->2", "1->2", "1->3", "2->3"]


@pytest.mark.parametrize("side", [16, 28, 32])
def test_networks_learn_on_images_of_sides_divisible_by_four(side):
    torch.manual_seed(0)
    network = NasBench201(NasBench201Options(channels=2, cells=1)).build(EXAMPLE, 1, 7)
    logits = network(torch.randn(3, 1, side, side))
    assert logits.shape == (3, 7)
    logits.sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.classifier.parameters())


@pytest.mark.skipif(not TABLE_FILE.exists(), reason="needs the NAS-Bench-201 table of ../shared")
def test_the_text_form_is_the_benchmarks_own():
    with gzip.open(TABLE_FILE, "rt") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 15625
    for row in rows:
        cell = SPACE.encode(row["arch"])
        assert "".join(map(str, cell)) == row["ops"]
        assert round(parameters_by_formula(cell, 16, 5) / 1e6, 6) == float(row["params_m"])


@pytest.fixture(scope="module", autouse=True)
def classes():
    """Found once, in half a second, before any example is timed."""
    SPACE.canonical(EXAMPLE)


def stands_for(*cell):
    return SPACE.encode(SPACE.canonical(SPACE.decode(cell)))


@given(CELLS)
def test_the_order_of_unconnected_nodes_does_not_matter(cell):
    to_1, to_2, _, out_0, out_1, out_2 = cell
    assert stands_for(to_1, to_2, 0, out_0, out_1, out_2) == stands_for(to_2, to_1, 0, out_0, out_2, out_1)


@given(CELLS, st.integers(0, 4))
def test_an_operation_on_nothing_is_nothing(cell, other):
    assert stands_for(0, 0, other, *cell[3:4], *cell[4:]) == stands_for(0, 0, 0, cell[3], 0, 0)


@given(CELLS, st.integers(0, 4))
def test_an_operation_that_leads_nowhere_is_none(cell, other):
    assert stands_for(*cell[:4], cell[4], 0) == stands_for(cell[0], 0, 0, cell[3], cell[4], 0)
    assert stands_for(other, cell[1], 0, cell[3], 0, cell[5]) == stands_for(
        0, cell[1], 0, cell[3], 0, cell[5]
    )


@given(CELLS)
def test_a_skip_connection_is_the_node_it_comes_from(cell):
    operation, _, _, out_0, _, out_2 = cell
    assert stands_for(1, 0, operation, out_0, 0, out_2) == stands_for(0, operation, 0, out_0, 0, out_2)


def test_a_convolution_used_twice_is_not_two():
    once_used_twice, two = (3, 0, 1, 0, 1, 1), (3, 3, 0, 0, 1, 1)
    assert stands_for(*once_used_twice) == once_used_twice
    assert stands_for(*two) != stands_for(*once_used_twice)


def test_what_stands_for_a_cell_computes_the_same():
    """Over cells without weights of their own, so that the rest of the network can be given the same."""
    small = NasBench201(NasBench201Options(channels=2, cells=1))
    images = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    for cell in random.Random(1).sample(list(itertools.product((0, 1, 4), repeat=6)), 60):
        outputs = []
        for arch in (small.decode(cell), small.canonical(small.decode(cell))):
            torch.manual_seed(1)
            with torch.no_grad():
                outputs.append(small.build(arch, 3, 10)(images))
        torch.testing.assert_close(*outputs)
