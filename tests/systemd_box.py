"""A real systemd manager in namespaces of its own, with carbon-nas installed in it as systemd/README.md says."""

import compileall
import contextlib
import os
import select
import shutil
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

import pytest

from carbon_nas import state_directory
from carbon_nas.clock import monotonic
from carbon_nas.store.sql import SqlStore

ROOT = Path(__file__).parents[1]
EXAMPLE = (ROOT / "systemd" / "carbon-nas.example.toml").read_text(encoding="utf-8")
PACKAGES = ("carbon_nas", "providers/carbon_nas_providers", "policies/carbon_nas_policies")
TOOLS = ("unshare", "nsenter", "setpriv", "runuser", "ps", "systemctl", "journalctl", "systemd-sysusers")
MANAGER = "/lib/systemd/systemd"
CGROUPS = (Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup"))
STATE = "var/lib/carbon-nas"
CONFIGURATION = "etc/carbon-nas/carbon-nas.toml"
LOOK_SECONDS = 0.1

UNITS = {
    "box.target": "[Unit]\nDefaultDependencies=no\nWants=systemd-journald.service\nAfter=systemd-journald.service\n",
    "systemd-journald.socket": (
        "[Unit]\nDefaultDependencies=no\n[Socket]\nListenStream=/run/systemd/journal/stdout\n"
        "ListenDatagram=/run/systemd/journal/socket\nPassCredentials=yes\n"
    ),
    "systemd-journald.service": (
        "[Unit]\nDefaultDependencies=no\nRequires=systemd-journald.socket\nAfter=systemd-journald.socket\n"
        "[Service]\nType=notify\nExecStart=/lib/systemd/systemd-journald\nSockets=systemd-journald.socket\n"
    ),
}

INSTALL_CONFIGURATION = f"install -m 640 -g carbon-nas /run/box/carbon-nas.example.toml /{CONFIGURATION}"
SETUP = f"""
systemd-sysusers /run/box/carbon-nas.sysusers.conf
systemd-tmpfiles --create /run/box/carbon-nas.tmpfiles.conf
{INSTALL_CONFIGURATION}
mount --bind /run/box/state /{STATE}
chown carbon-nas: /{STATE}
"""
"""Installing, as systemd/README.md says. The state directory is the test's, so that SQLite can open it from outside."""

T = TypeVar("T")


def require_manager() -> None:
    """Skip where a manager cannot be started; on CI that is a failure, wherever it ought to work."""
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("needs root and unshare(1)")
    missing = [tool for tool in (*TOOLS, MANAGER) if shutil.which(tool) is None]
    if not any((path / "cgroup.controllers").exists() for path in CGROUPS):
        missing.append("cgroup2")
    if missing:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(
            f"needs systemd; missing: {', '.join(missing)}"
        )


class Box:
    """The manager, once booted. Paths and processes of its namespaces are reached from outside."""

    def __init__(self, process: "subprocess.Popen[bytes]", folder: Path) -> None:
        self.state = folder / "state"
        self._process = process
        self._folder = folder
        self._log = folder / "boot.log"
        self._init = ""

    def boot(self) -> None:
        """Wait until the manager answers."""
        self._init = self.until(self._find_init, 30, "no PID 1")
        self.until(
            lambda: self.run("systemctl", "is-active", "box.target", check=False) == "active",
            30,
            "not booted",
        )

    def _find_init(self) -> str | None:
        pid = self._process.pid
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            with contextlib.suppress(FileNotFoundError):
                if Path(f"/proc/{child}/comm").read_text().strip() == "systemd":
                    return child
        return None

    def run(self, *command: str, check: bool = True) -> str:
        """Run a command inside; give what it printed."""
        inside = ["nsenter", "-t", self._init, "-m", "-p", "-C", "-u", "-i", "--", *command]
        done = subprocess.run(inside, capture_output=True, text=True, check=False, timeout=200)
        if check and done.returncode:
            raise AssertionError(f"{command} ended with {done.returncode}: {done.stderr}\n{self.journal()}")
        return done.stdout.strip()

    def systemctl(self, verb: str, *, check: bool = True) -> None:
        """Do something to the service, and wait until it is done."""
        self.run("systemctl", verb, "carbon-nas.service", check=check)

    def configure(self, text: str) -> None:
        """Install another configuration."""
        (self._folder / "carbon-nas.example.toml").write_text(text)
        self.run("sh", "-c", INSTALL_CONFIGURATION)

    def carbon_nas(self, verb: str, *options: str) -> str:
        """Run our own command as the service's user, on its state directory."""
        program = "/opt/carbon-nas/bin/carbon-nas"
        return self.run(
            "runuser", "-u", "carbon-nas", "--", program, verb, "--state-dir", f"/{STATE}", *options
        )

    def show(self, name: str) -> str:
        """Give a property of the service's unit."""
        return self.run("systemctl", "show", "carbon-nas.service", "--property", name, "--value")

    def journal(self) -> str:
        """Give what the service and the manager logged about it."""
        if not self._init:
            return self._log.read_text()
        return self.run("journalctl", "--no-pager", "--output=cat", "--unit=carbon-nas.service", check=False)

    @contextlib.contextmanager
    def store(self) -> Iterator[SqlStore]:
        """The service's store, for reading while the daemon writes."""
        with contextlib.closing(state_directory.open_for_reading(self.state)) as store:
            yield store

    def until(self, look: Callable[[], T | None], within_seconds: float, otherwise: str) -> T:
        """Look again and again until there is something to see. Fails at once when the box is gone."""
        deadline = monotonic() + within_seconds
        while not (seen := look()):
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(LOOK_SECONDS)
                raise AssertionError(f"the manager ended: {self._log.read_text()}")
            if monotonic() > deadline:
                raise AssertionError(f"{otherwise} within {within_seconds} s\n{self.journal()}")
        return seen

    def close(self) -> None:
        """Kill everything inside and take the cgroups away."""
        if self._init:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(self._init), signal.SIGKILL)  # PID 1 takes its whole namespace along
        else:
            self._process.kill()
        self._process.wait()
        _remove_cgroup(f"carbon-nas-box.{self._process.pid}")


@contextlib.contextmanager
def booted(folder: Path, drop_in: str) -> Iterator[Box]:
    """Boot a manager with the service installed and not started; `drop_in` changes the unit for the test."""
    require_manager()
    _furnish(folder, drop_in)
    log = folder / "boot.log"
    python = f"python{sys.version_info.major}.{sys.version_info.minor}"
    script = [str(ROOT / "tests" / "systemd_box.sh"), str(folder)]
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*script, os.path.realpath(sys.base_prefix), sysconfig.get_path("purelib"), python],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    box = Box(process, folder)
    try:
        box.boot()
        yield box
    finally:
        box.close()


def _furnish(folder: Path, drop_in: str) -> None:
    folder.mkdir(exist_ok=True)
    for name in ("carbon-nas.sysusers.conf", "carbon-nas.tmpfiles.conf", "carbon-nas.example.toml"):
        shutil.copy(ROOT / "systemd" / name, folder)
    for package in PACKAGES:
        shutil.copytree(ROOT / package, folder / "packages" / Path(package).name)
    compileall.compile_dir(folder / "packages", quiet=2)  # the service cannot write there
    (folder / "state").mkdir()
    units = folder / "units"
    (units / "carbon-nas.service.d").mkdir(parents=True)
    shutil.copy(ROOT / "systemd" / "carbon-nas.service", units)
    files: Mapping[str, str] = UNITS | {"carbon-nas.service.d/test.conf": drop_in, "../setup": SETUP}
    for name, text in files.items():
        (units / name).write_text(text)


def _remove_cgroup(name: str) -> None:
    """Remove the box's cgroup and those in it, from the leaves up, when its last process is gone."""
    top = next(path / name for path in CGROUPS if (path / "cgroup.controllers").exists())
    if not top.exists():
        return
    with (top / "cgroup.events").open() as events:
        while "populated 1" in events.read():
            select.select([], [], [events], 5)
            events.seek(0)
    for folder in sorted((path for path in top.rglob("*") if path.is_dir()), reverse=True):
        folder.rmdir()
    top.rmdir()
