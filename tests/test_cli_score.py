"""`carbon-nas score`, through the real command line."""

import json
import os
from pathlib import Path

import pytest
import torch
from broken_networks import REST, install_broken
from daemon_process import cli

from carbon_nas.errors import EX_CONFIG
from carbon_nas.evaluate.inference import size
from carbon_nas.search.ranking import aggregate
from carbon_nas.search.spaces.mobile import Mobile, MobileOptions

SMALL = ("--space-option", "channels=4", "--space-option", "cells=1", "--batch-size", "8")
CELL = "|nor_conv_3x3~0|+|skip_connect~0|none~1|+|nor_conv_1x1~0|none~1|avg_pool_3x3~2|"
MOBILE = "|".join(["k3e1d1w1.0"] * 7)
DEAD = "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"


def scores(*arguments, **options):
    done = cli("score", *SMALL, "--json", *arguments, **options)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def values(found):
    return {each["arch"]: each["proxies"] for each in found["scores"]}


def test_workers_and_company_change_no_score(tmp_path):
    proxies = ("--proxies", "flops,naswot,grad_norm")  # with two threads grad_norm differs in its last bits
    alone = scores(*proxies, "--count", "5", "--seed", "3", OMP_NUM_THREADS="2")
    assert len(alone["scores"]) == 5
    listed = tmp_path / "cells.txt"
    listed.write_text("\n".join(reversed(values(alone))) + "\n")
    again = scores(*proxies, "--archs", str(listed), "--workers", "2", "--seed", "3")
    assert [each["arch"] for each in again["scores"]] == list(reversed(values(alone)))
    assert values(again) == values(alone)
    raw = {arch: {n: v for n, v in each.items() if n != "aggregate"} for arch, each in values(alone).items()}
    assert {arch: each["aggregate"] for arch, each in values(alone).items()} == aggregate(raw)
    assert alone["seconds_by_proxy"].keys() == {"flops", "naswot", "grad_norm"}
    assert sum(each["seconds"] for each in alone["scores"]) == pytest.approx(
        sum(alone["seconds_by_proxy"].values()), rel=0.2
    )


def test_what_is_no_number_is_null_and_counted():
    found = scores("--archs", "-", "--proxies", "naswot,flops", stdin=f"{CELL}\n{DEAD}\n\n")
    assert values(found)[DEAD]["naswot"] is None
    assert values(found)[CELL]["naswot"] > 0
    assert found["unusable"] == {"flops": 0, "naswot": 1}


def test_a_person_sees_the_best_first():
    """In 80 columns, with more proxies than they have room for."""
    proxies = ("flops", "naswot", "az_expressivity", "az_progressivity", "az_trainability", "l2_norm")
    asked = ("--archs", "-", "--proxies", ",".join(proxies))
    done = cli("score", *SMALL, *asked, stdin=f"{DEAD}\n{CELL}\n", COLUMNS="80")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[lines.index(f"    1  {CELL}") + 1] == f"    2  {DEAD}"
    assert all(len(line) <= 80 for line in lines if "|" not in line)
    heads = [(place, line.split()) for place, line in enumerate(lines) if line.split()[:1] == ["rank"]]
    assert [name for _, (_, *names) in heads for name in names] == ["aggregate", *proxies]
    for place, head in heads:
        rows = [line.split() for line in lines[place + 1 : place + 3]]
        assert [(row[0], len(row)) for row in rows] == [("1", len(head)), ("2", len(head))]
    assert "naswot says nothing of 1; they rank last by it." in done.stdout


def test_noise_is_of_the_size_that_the_space_is_for(forked_cli):
    """By its operations, which another size would change."""
    quick = ("--proxies", "flops", "--batch-size", "4", "--classes", "7")
    narrow = ("--space", "mobile", "--space-option", "side=64", "--space-option", "width_multiplier=0.1")
    found = json.loads(forked_cli("score", *quick, *narrow, "--archs", "-", "--json", stdin=MOBILE).stdout)
    assert found["images"] == {"source": "noise", "shape": [3, 64, 64], "classes": 7}
    network = Mobile(MobileOptions(side=64, width_multiplier=0.1)).build(MOBILE, 3, 7)
    assert values(found)[MOBILE]["flops"] == size(network, torch.zeros(1, 3, 64, 64))[1]


def test_noise_is_of_the_size_asked_for(forked_cli):
    done = forked_cli("score", *SMALL, "--proxies", "flops", "--archs", "-", "--side", "8", stdin=CELL)
    assert (done.returncode, done.stderr) == (0, "")
    assert "On noise, images of 3x8x8 in 10 classes." in done.stdout


def test_a_shipped_data_set_needs_no_folder_to_be_scored_on(forked_cli):
    asked = ("score", *SMALL, "--json", "--proxies", "naswot", "--archs", "-")
    found, noise = (
        json.loads(forked_cli(*asked, *inputs, stdin=CELL).stdout)
        for inputs in (("--dataset", "fashion16"), ("--side", "16"))
    )
    assert found["images"] == {"source": "fashion16", "shape": [1, 16, 16], "classes": 10}
    assert values(found)[CELL]["naswot"] != values(noise)[CELL]["naswot"]


def test_text_that_is_no_utf8_is_refused_by_its_line(forked_cli, tmp_path):
    (tmp_path / "cells.txt").write_bytes(f"{CELL}\n".encode() + b"\xfcber\n")
    done = forked_cli("score", "--archs", tmp_path / "cells.txt")
    assert (done.returncode, done.stdout) == (EX_CONFIG, "")
    assert done.stderr.endswith("cells.txt: line 2 is not UTF-8, by its byte 0xfc; save it as UTF-8\n")


def test_a_network_that_fails_is_one_line(tmp_path, monkeypatch):
    """Also where it fails in one of several processes."""
    install_broken(tmp_path, monkeypatch)
    path = os.pathsep.join([str(tmp_path), str(Path(__file__).parent)])
    asked = ("--space", "broken", "--archs", "-", "--proxies", "grad_norm", "--workers", "2")
    done = cli("score", *asked, "--batch-size", "4", stdin=f"1{REST}\n1-1-0-0-0-0\n", PYTHONPATH=path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("carbon-nas: ")
    assert f"1{REST}" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "stdin", "said"),
    [
        (("--proxies", "synflo"), "", "did you mean 'synflow'?"),
        (("--archs", "-"), "foo\n", "'foo' is no cell of nasbench201"),
        (("--archs", "-"), "\n", "no architecture in it"),
        (("--archs", "nowhere.txt"), "", "nowhere.txt: cannot read it"),
        (("--space", "nasbench"), "", "none of the spaces is named 'nasbench'"),
        (("--space-option", "cells"), "", "expected KEY=VALUE, got 'cells'"),
        (("--data", "nowhere"), "", "no folder nowhere/cifar-10-batches-py"),
        (("--dataset", "cifar100"), "", "--data: cifar100 is not shipped: name the folder that holds"),
        (("--dataset", "fashion-16"), "", "no data set named 'fashion-16' (did you mean 'fashion16'?)"),
        (("--dataset", "fashion16", "--side", "16"), "", "--side: is of noise; the images of fashion16"),
        (("--dataset", "fashion16", "--classes", "9"), "", "--classes: is of noise"),
        (("--dataset", "fashion16", "--batch-size", "4001"), "", "batch_size 4001 exceeds the 4000 training"),
        (
            ("--dataset", "fashion16", "--space", "mobile"),
            "",
            "those of fashion16 are 16x16: set the space's",
        ),
        (("--side", "33"), "", "--side: the networks take images of sides divisible by 4"),
        (("--device", "cuda:99"), "", "'cuda:99' cannot be used"),
    ],
)
def test_bad_input_is_one_line(forked_cli, arguments, stdin, said):
    done = forked_cli("score", *arguments, stdin=stdin)
    assert done.returncode in (1, EX_CONFIG)
    assert said in done.stderr
    assert (done.stdout, done.stderr.count("\n")) == ("", 1)
