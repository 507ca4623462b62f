"""What the design promises and no single room can: a light daemon, a short core, time from one place."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from carbon_nas import clock, plugins

ROOT = Path(__file__).parents[1]
SOURCES = sorted(
    path for folder in ("carbon_nas", "providers", "policies") for path in (ROOT / folder).rglob("*.py")
)
CONTRACTS = ("model", "interfaces", "states", "errors")
HEAVY = {"torch", "torchvision", "matplotlib", "pandas", "scipy", "sklearn"}

TELLS_THE_TIME = {
    ("datetime", "now"),
    ("datetime", "utcnow"),
    ("datetime", "today"),
    ("date", "today"),
    ("time", "time"),
    ("time", "time_ns"),
    ("time", "monotonic"),
    ("time", "perf_counter"),
    ("time", "sleep"),
    ("asyncio", "sleep"),
}


def imported_by(code):
    """Give the top-level modules that a fresh interpreter has after running `code`."""
    program = f"import sys\n{code}\nprint(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_the_daemon_and_the_command_line_import_nothing_heavy():
    assert not imported_by("import carbon_nas.daemon, carbon_nas.cli") & HEAVY


def test_nor_does_checking_a_whole_configuration_with_every_plug_in():
    every = "; ".join(
        f"plugins.load({group!r}, {name!r}, key='')"
        for group in plugins.GROUPS
        for name in plugins.registered(group)
    )
    heavy = imported_by(
        f"from carbon_nas import plugins\nfrom carbon_nas.config import check\ncheck({{}})\n{every}"
    )
    assert not heavy & {"torch", "torchvision", "matplotlib"}


def test_the_runner_imports_torch_only_after_it_has_its_signals():
    assert "torch" not in imported_by("import carbon_nas.evaluate.runner")
    assert "torch" in imported_by("import carbon_nas.evaluate.service")


def test_the_contracts_together_are_read_in_one_sitting():
    lines = sum(len((ROOT / "carbon_nas" / f"{name}.py").read_text().splitlines()) for name in CONTRACTS)
    assert lines < 800


@pytest.mark.parametrize("name", CONTRACTS)
def test_the_contracts_import_nothing_of_ours_but_each_other(name):
    tree = ast.parse((ROOT / "carbon_nas" / f"{name}.py").read_text())
    modules = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    ours = {module for module in modules if module.startswith("carbon_nas")}
    assert ours <= {f"carbon_nas.{other}" for other in CONTRACTS}


def test_time_is_asked_for_in_one_place():
    """By the parsed code, so that no alias of a module's name hides a call."""
    found = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in SOURCES
        if path != Path(clock.__file__)
        for line in time_asked_in(path.read_text())
    ]
    assert found == []


def time_asked_in(code):
    tree = ast.parse(code)
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            for alias in node.names:
                origin = alias.name if isinstance(node, ast.Import) else f"{node.module}.{alias.name}"
                names[alias.asname or alias.name] = origin.rpartition(".")[2]
                if isinstance(node, ast.ImportFrom) and (node.module, alias.name) in TELLS_THE_TIME:
                    yield node.lineno
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name | ast.Attribute):
            owner = node.value.id if isinstance(node.value, ast.Name) else node.value.attr
            if (names.get(owner, owner), node.attr) in TELLS_THE_TIME:
                yield node.lineno


@pytest.mark.parametrize(
    "code",
    [
        "import time\ntime.time()",
        "import time as t\nt.sleep(1)",
        "from time import sleep",
        "from datetime import datetime\nnow = datetime.now",
        "import datetime\ndatetime.datetime.now()",
        "from datetime import datetime as d\nd.now()",
        "import asyncio\nasync def f():\n    await asyncio.sleep(1)",
    ],
)
def test_the_search_for_it_finds_it(code):
    assert list(time_asked_in(code))


def test_no_part_is_chosen_by_comparing_its_name():
    built_in = {name for group in plugins.GROUPS for name in plugins.registered(group)}
    compared = re.compile(rf"""[=!]=\s*["']({"|".join(built_in)})["']""")
    core = [path for path in SOURCES if path.is_relative_to(ROOT / "carbon_nas")]
    assert [str(path) for path in core if compared.search(path.read_text())] == []


def test_importing_any_module_of_the_core_starts_nothing():
    """Nothing is open or running after the import: no thread, no socket, no child, no global registry in use."""
    code = (
        "import threading\n"
        "before = threading.active_count()\n"
        "import carbon_nas.daemon, carbon_nas.cli, carbon_nas.demo\n"
        "from prometheus_client import REGISTRY\n"
        "assert threading.active_count() == before\n"
        "assert not [m for m in REGISTRY.collect() if m.name.startswith('carbon_nas')]"
    )
    imported_by(code)
