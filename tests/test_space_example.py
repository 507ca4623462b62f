"""A stranger's search space: built, installed beside us, put to its own tests, and scored by its name."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "carbon-nas-space-example"


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The example, in a folder of its own."""
    target, source = tmp_path_factory.mktemp("site"), tmp_path_factory.mktemp("source") / "example"
    subprocess.run(["cp", "-r", str(EXAMPLE), str(source)], check=True)  # noqa: S607 -- building writes into it
    command = "-m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --no-index"
    python(*command.split(), "--target", str(target), str(source))
    return target


def python(*arguments, stdin="", **environment):
    done = subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, **environment},
        input=stdin,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_it_passes_its_own_tests(installed):
    tests = str(EXAMPLE / "tests")
    told = python(
        *("-m", "pytest", "-q", "-c", os.devnull, "-p", "no:cacheprovider", f"--rootdir={tests}", tests),
        PYTHONPATH=str(installed),
    )
    assert " passed" in told
    assert "skipped" not in told


def test_its_architectures_are_scored(installed):
    archs = ["16-8", "64-32"]
    told = python(
        *("-m", "carbon_nas", "score", "--space", "chain", "--space-option", "layers=2", "--json"),
        *("--archs", "-", "--proxies", "params,naswot", "--batch-size", "8"),
        stdin="\n".join(archs),
        PYTHONPATH=str(installed),
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
