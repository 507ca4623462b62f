"""A stranger's search space: built, installed beside us, put to its own tests, and scored by its name."""

import json

import pytest
from example_distribution import install, python, require_own_tests_to_pass

NAME = "carbon-nas-space-example"


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    return install(NAME, tmp_path_factory.mktemp)


def test_it_passes_its_own_tests(installed):
    require_own_tests_to_pass(NAME, installed)


def test_its_architectures_are_scored(installed):
    archs = ["16-8", "64-32"]
    told = python(
        installed,
        *("-m", "carbon_nas", "score", "--space", "chain", "--space-option", "layers=2", "--json"),
        *("--archs", "-", "--proxies", "params,naswot", "--batch-size", "8"),
        stdin="\n".join(archs),
    )
    scores = {each["arch"]: each["proxies"] for each in json.loads(told)["scores"]}
    assert list(scores) == archs
    for arch, (first, second) in zip(archs, [(16, 8), (64, 32)], strict=True):
        expected = 27 * first + 2 * first + 9 * first * second + 2 * second + (second + 1) * 10
        assert scores[arch]["params"] == expected
    assert scores["64-32"]["naswot"] > scores["16-8"]["naswot"] > 0


def test_it_is_not_found_where_it_is_not_installed():
    from carbon_nas import plugins

    assert "chain" not in plugins.registered("spaces")
