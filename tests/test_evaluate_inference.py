"""What inference costs: measured, counted, and read from the published table."""

import csv
import gzip
import json
import random
import time
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch
from broken_networks import REST, install_broken
from daemon_process import cli
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from carbon_nas.errors import ConfigurationError, JobError
from carbon_nas.evaluate import published
from carbon_nas.evaluate.inference import measure, quartiles, size
from carbon_nas.latency import LatencyRequest, latency
from carbon_nas.model import EnergyMethod, EnergyReading
from carbon_nas.search.spaces.mobile import Mobile, MobileOptions
from carbon_nas.search.spaces.nasbench201 import NasBench201, NasBench201Options

TABLES = Path(__file__).parents[1] / ".." / "shared" / "data" / "nas"
FIRST = "|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|nor_conv_1x1~0|skip_connect~1|skip_connect~2|"
SECOND = "|nor_conv_3x3~0|+|nor_conv_3x3~0|avg_pool_3x3~1|+|skip_connect~0|nor_conv_3x3~1|skip_connect~2|"
B0 = "k3e1d1w1.0se|k3e6d2w1.0se|k5e6d2w1.0se|k3e6d3w1.0se|k5e6d3w1.0se|k5e6d4w1.0se|k3e6d1w1.0se"
SMALL = {"channels": 2, "cells": 1}


class Counting(nn.Module):
    """Counts the images that it sees, and is a meter that reads three joules for each."""

    device = "here"

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(1, 1)
        self.images = 0

    def forward(self, images):
        assert not self.training
        assert not torch.is_grad_enabled()
        self.images += len(images)
        return self.linear(images)

    def read(self):
        return EnergyReading(7.0 + 3.0 * self.images, EnergyMethod.POWER)


@given(st.lists(st.floats(0, 1e3), min_size=2, max_size=50))
def test_quartiles_are_numpys_percentiles(values):
    assert quartiles(values) == pytest.approx(np.percentile(values, [25, 50, 75]))


@pytest.mark.parametrize("batch_size", [1, 5])
def test_energy_is_that_of_the_timed_passes_alone(batch_size):
    network = Counting().train()
    cost = measure(network, torch.zeros(batch_size, 1), network, warm_up=4, passes=6, seconds=0.0)
    assert (cost.batch_size, cost.passes, network.images) == (batch_size, 6, 10 * batch_size)
    assert (cost.joules_per_image, cost.energy_method) == (3.0, EnergyMethod.POWER)
    assert 0 < cost.quartile_seconds[0] <= cost.median_seconds <= cost.quartile_seconds[1]
    assert network.training  # as it was


def test_it_goes_on_until_the_time_is_filled_and_knows_no_energy_without_a_meter():
    network = Counting()
    cost = measure(network, torch.zeros(2, 1), None, warm_up=0, passes=2, seconds=0.05)
    assert cost.passes > 2
    assert network.images == 2 * cost.passes
    assert (cost.joules_per_image, cost.energy_method) == (None, None)


def test_size_is_the_benchmarks():
    """The formulas of section 2 of the paper's own networks, for three 3x3 convolutions and none of 1x1."""
    network = NasBench201(NasBench201Options()).build(SECOND, 3, 10)
    assert size(network, torch.zeros(1, 3, 32, 32)) == (73_306 + 3 * 243_040, 7_783_050 + 3 * 35_389_440)


def test_a_cpu_s_energy_is_the_stated_model_of_its_busy_time():
    before = time.process_time()
    one, four = latency(
        LatencyRequest("nasbench201", SECOND, SMALL, batch_size=4, watts_per_core=7.0, passes=20, seconds=0.0)
    ).costs
    busy = time.process_time() - before
    assert (one.batch_size, four.batch_size) == (1, 4)
    assert {one.energy_method, four.energy_method} == {EnergyMethod.MODEL}
    joules = 20 * one.joules_per_image + 80 * four.joules_per_image
    assert 0 < joules < 7.0 * busy  # making and counting the network took time too


def test_what_was_published_of_the_first_two_cells():
    """Values that HW-NAS-Bench prints in its own examples, in milliseconds; and HELP's of pixel2."""
    printed = {
        FIRST: {"raspi4": 10.482, "pixel3": 3.6058, "eyeriss": 3.6456, "fpga": 2.573, "pixel2": 9.0},
        SECOND: {"raspi4": 54.7774, "pixel3": 17.2381, "eyeriss": 7.5778, "fpga": 5.3154, "pixel2": 17.0},
    }
    for arch, values in printed.items():
        for device, milliseconds in values.items():
            assert published.latency_seconds(device, arch) == pytest.approx(milliseconds / 1000, rel=1e-4)


def test_the_table_holds_each_device_and_each_cell():
    file = files("carbon_nas") / "data" / "nasbench201-latency.npz"
    with file.open("rb") as opened, np.load(opened) as table:
        assert set(table) == set(published.DEVICES)
        assert all(table[device].shape == (15_625,) and table[device].min() > 0 for device in table)


@pytest.mark.skipif(not TABLES.is_dir(), reason="the published tables are not beside this checkout")
def test_the_table_is_the_published_one():
    with (
        gzip.open(TABLES / "nb201.csv.gz", "rt") as cells,
        gzip.open(TABLES / "nb201_latency_ms.csv.gz", "rt") as latencies,
    ):
        rows = list(zip(csv.DictReader(cells), csv.DictReader(latencies), strict=True))
    for cell, row in random.Random(5).sample(rows, 8):
        for device in published.DEVICES:
            assert published.latency_seconds(device, cell["arch"]) == pytest.approx(float(row[device]) / 1000)


def test_published_is_said_to_be_so(forked_cli):
    found = forked_cli("latency", "--arch", SECOND, "--device", "pixel2")
    assert (found.returncode, found.stderr) == (0, "")
    assert "17.0" in found.stdout.split()
    assert "pixel2: published by HELP" in found.stdout
    assert "Energy: not known." in found.stdout


def test_measured_is_told_to_a_program():
    small = ("--space-option", "channels=2", "--space-option", "cells=1", "--side", "16")
    found = cli("latency", "--arch", FIRST, *small, "--batch-size", "3", "--seconds", "0", "--json")
    assert (found.returncode, found.stderr) == (0, "")
    told = json.loads(found.stdout)
    assert (told["source"], told["threads"]) == ("measured here, float32", 1)
    assert told["energy"] == "12 W per busy CPU core (model)"
    assert [cost["batch_size"] for cost in told["costs"]] == [1, 3]
    assert all(
        cost["passes"] == 100 and cost["joules_per_image"] > 0 and cost["energy_method"] == "model"
        for cost in told["costs"]
    )
    network = NasBench201(NasBench201Options(**SMALL)).build(FIRST, 3, 10)
    assert told["parameters"] == sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(
    ("changes", "kind", "said"),
    [
        ({"arch": "foo"}, ConfigurationError, "'foo' is no cell of nasbench201"),
        ({"device": "pixle2"}, JobError, r"'pixle2' cannot be used \(did you mean 'pixel2'\?\)"),
        ({"side": 30}, ConfigurationError, "sides divisible by 4, and those asked for are 30x30"),
        (
            {"space": "mobile", "arch": B0, "space_options": {"side": "224"}, "side": 32},
            ConfigurationError,
            "for images of 224x224, and those asked for are 32x32: set the space's option side to 32",
        ),
        ({"device": "pixel2", "side": 16}, ConfigurationError, "of images of 32x32, not 16x16"),
        ({"device": "pixel2", "space_options": SMALL}, ConfigurationError, "at 16 channels and 5 cells"),
        (
            {"device": "pixel2", "space": "mobile", "arch": "|".join(["k3e1d1w1.0"] * 7)},
            ConfigurationError,
            "published latencies are of nasbench201",
        ),
        ({"device": "1080ti_1", "batch_size": 2}, ConfigurationError, "1080ti_1 are batches of 1, not 2"),
        ({"device": "fpga", "batch_size": 2}, ConfigurationError, "size that is not stated, not 2"),
    ],
)
def test_what_cannot_be_told_is_said(changes, kind, said):
    with pytest.raises(kind, match=said):
        latency(LatencyRequest(**{"space": "nasbench201", "arch": FIRST, **changes}))


def test_the_images_are_those_that_the_space_is_for(forked_cli):
    asked = ("--space", "mobile", "--space-option", "side=64", "--space-option", "width_multiplier=0.1")
    quick = ("--passes", "2", "--seconds", "0")
    found = forked_cli("latency", *asked, *quick, "--arch", B0)
    assert (found.returncode, found.stderr) == (0, "")
    network = Mobile(MobileOptions(side=64, width_multiplier=0.1)).build(B0, 3, 10)
    operations = size(network, torch.zeros(1, 3, 64, 64))[1]
    assert f"{operations:,} multiply-accumulates an image of 64x64." in found.stdout


def test_operations_that_cannot_be_counted_are_not_known():
    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.steps = nn.LSTM(12, 4)

        def forward(self, images):
            return self.steps(images.flatten(2).transpose(0, 1))[0][-1]

    assert size(Recurrent(), torch.zeros(1, 3, 3, 4)) == (4 * 4 * (12 + 4 + 2), None)


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("0", "RuntimeError: no such layer"),
        ("1", r"KeyError: 'nowhere\\nto be found'"),
        ("2", r"ValueError: logits \[1, 10\] should come out, not tuple"),
        ("3", r"ValueError: logits \[1, 10\] should come out, not \[1, 11\]"),
        ("4", r"KeyError: 'nowhere\\nto be found'"),
    ],
)
def test_a_network_that_fails_is_named(tmp_path, monkeypatch, kind, said):
    install_broken(tmp_path, monkeypatch)
    arch = kind + REST
    named = rf"^--arch: '{arch}' of the space broken fails on images of 16x16: {said}$"
    with pytest.raises(ConfigurationError, match=named):
        latency(LatencyRequest("broken", arch, side=16, batch_size=2, passes=2, seconds=0.0))
