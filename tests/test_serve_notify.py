"""Speaking to a service manager: a real datagram socket, by path and by abstract name."""

import os
import socket
import subprocess
import sys
import uuid

import pytest

from carbon_nas.serve.notify import Notifier, watchdog_seconds


@pytest.fixture(params=["path", "abstract"])
def manager(request, tmp_path):
    """A manager's socket, and the address as NOTIFY_SOCKET has it."""
    name = str(tmp_path / "notify") if request.param == "path" else f"@carbon-nas-test-{uuid.uuid4()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.bind(name.replace("@", "\0", 1) if name.startswith("@") else name)
        channel.settimeout(10)
        yield channel, name


def test_each_message_is_one_datagram_of_assignments(manager):
    channel, address = manager
    notifier = Notifier(address)
    notifier.send(READY=1, STATUS="running, 2 of 3 in Zürich")
    notifier.send(WATCHDOG=1)
    assert channel.recv(4096).decode() == "READY=1\nSTATUS=running, 2 of 3 in Zürich"
    assert channel.recv(4096) == b"WATCHDOG=1"


def test_the_address_is_taken_out_of_the_environment(manager, monkeypatch):
    channel, address = manager
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    notifier = Notifier.from_environment()
    assert "NOTIFY_SOCKET" not in os.environ
    child = [sys.executable, "-c", "import os; print('NOTIFY_SOCKET' in os.environ)"]
    assert subprocess.run(child, capture_output=True, text=True, check=True).stdout.strip() == "False"
    notifier.send(READY=1)
    assert channel.recv(4096) == b"READY=1"


@pytest.mark.parametrize("value", [None, ""])
def test_without_a_manager_nothing_is_said(monkeypatch, value):
    if value is not None:
        monkeypatch.setenv("NOTIFY_SOCKET", value)
    Notifier.from_environment().send(READY=1)


def test_a_manager_that_is_gone_is_no_error(manager):
    channel, address = manager
    notifier = Notifier(address)
    notifier.send(READY=1)
    channel.close()
    notifier.send(WATCHDOG=1)
    notifier.send(WATCHDOG=1)


def test_a_manager_that_never_was_is_no_error(tmp_path):
    Notifier(str(tmp_path / "nobody")).send(READY=1)


@pytest.mark.parametrize(
    ("environment", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "1500000", "WATCHDOG_PID": str(os.getpid())}, 1.5),
        ({"WATCHDOG_USEC": "1500000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_PID": str(os.getpid())}, None),
    ],
)
def test_the_watchdog_is_for_whom_it_names(monkeypatch, environment, seconds):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert watchdog_seconds() == seconds
    assert not {"WATCHDOG_USEC", "WATCHDOG_PID"} & os.environ.keys(), "no child is to answer for us"
