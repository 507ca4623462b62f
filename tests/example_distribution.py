"""A stranger's distribution, one of `examples/`: built, installed beside us, and used by a process of its own."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

EXAMPLES = Path(__file__).parents[1] / "examples"

INSTALL = (
    *("-m", "pip", "install", "--quiet", "--disable-pip-version-check"),
    *("--no-deps", "--no-build-isolation", "--no-index"),
)


def install(name: str, make_folder: Callable[[str], Path]) -> Path:
    """Build the example and give the folder it is installed in, which holds nothing else."""
    target, source = make_folder("site"), make_folder("source") / name
    subprocess.run(["cp", "-r", str(EXAMPLES / name), str(source)], check=True)  # noqa: S607 -- building writes into it
    python(None, *INSTALL, "--target", str(target), str(source))
    return target


def python(installed: Path | None, *arguments: str, stdin: str = "", **environment: str) -> str:
    """Run Python with what is `installed` there besides, require that it succeeds, and give what it printed."""
    beside = {} if installed is None else {"PYTHONPATH": str(installed)}
    done = subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, **beside, **environment},
        input=stdin,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def require_own_tests_to_pass(name: str, installed: Path) -> None:
    tests = str(EXAMPLES / name / "tests")
    nothing_of_ours = ("-c", os.devnull, "-p", "no:cacheprovider", f"--rootdir={tests}")
    told = python(installed, "-m", "pytest", "-q", *nothing_of_ours, tests)
    assert " passed" in told
    assert "skipped" not in told
