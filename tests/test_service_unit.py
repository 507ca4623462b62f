"""The service's files, checked without starting anything."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SYSTEMD = Path(__file__).parents[1] / "systemd"
PREFIX = "/opt/carbon-nas"


def tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"needs {name}, of systemd")
    return found


def run(*command: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit as it would be installed under a prefix that is there: `verify` wants to see the executable."""
    text = (SYSTEMD / "carbon-nas.service").read_text()
    program = tmp_path / "bin" / "carbon-nas"
    program.parent.mkdir()
    program.symlink_to(sys.executable)
    path = tmp_path / "carbon-nas.service"
    path.write_text(text.replace(PREFIX, str(tmp_path)))
    return path


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """An empty system for systemd-sysusers and systemd-tmpfiles to work on."""
    root = tmp_path / "image"
    (root / "etc").mkdir(parents=True)
    return root


def test_systemd_finds_no_mistake_in_the_unit(unit: Path) -> None:
    done = run(tool("systemd-analyze"), "verify", "--man=no", str(unit))
    assert (done.returncode, done.stderr) == (0, "")


def test_verify_would_see_a_mistake(unit: Path) -> None:
    unit.write_text(unit.read_text().replace("WatchdogSec=", "WatchDogSec="))
    done = run(tool("systemd-analyze"), "verify", "--man=no", str(unit))
    assert "WatchDogSec" in done.stderr


def test_the_sandbox_is_tight(unit: Path) -> None:
    done = run(
        tool("systemd-analyze"), "security", "--offline=yes", "--threshold=25", "--no-pager", str(unit)
    )
    assert done.returncode == 0, done.stdout


def test_the_user_is_made_by_sysusers(image: Path) -> None:
    done = run(tool("systemd-sysusers"), f"--root={image}", str(SYSTEMD / "carbon-nas.sysusers.conf"))
    assert done.returncode == 0, done.stderr
    user = next(
        line.split(":") for line in (image / "etc/passwd").read_text().splitlines() if "carbon-nas" in line
    )
    assert user[0] == "carbon-nas"
    assert 0 < int(user[2]) < 1000, "a system user"
    assert user[5] == "/var/lib/carbon-nas"
    assert user[6].endswith("nologin")
    assert "video:x:" in (image / "etc/group").read_text()


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files to other users: needs root")
def test_the_directories_are_made_by_tmpfiles(image: Path) -> None:
    configuration = image / "etc/carbon-nas/carbon-nas.toml"
    configuration.parent.mkdir()
    configuration.write_text("")
    configuration.chmod(0o666)
    sysusers = run(tool("systemd-sysusers"), f"--root={image}", str(SYSTEMD / "carbon-nas.sysusers.conf"))
    assert sysusers.returncode == 0, sysusers.stderr
    tmpfiles = run(
        tool("systemd-tmpfiles"), "--create", f"--root={image}", str(SYSTEMD / "carbon-nas.tmpfiles.conf")
    )
    assert tmpfiles.returncode == 0, tmpfiles.stderr
    modes = {
        str(path.relative_to(image)): path.stat().st_mode & 0o777
        for path in (configuration.parent, configuration, image / "var/lib/carbon-nas")
    }
    assert modes == {
        "etc/carbon-nas": 0o750,
        "etc/carbon-nas/carbon-nas.toml": 0o640,
        "var/lib/carbon-nas": 0o750,
    }


def test_the_readme_installs_the_files_that_are_here() -> None:
    named = set(re.findall(r"systemd/(carbon-nas\.[\w.]+)", (SYSTEMD / "README.md").read_text()))
    assert named == {path.name for path in SYSTEMD.iterdir() if path.name.startswith("carbon-nas.")}
