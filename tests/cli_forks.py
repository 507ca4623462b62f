"""The command line without Python's start, which takes longer than most commands.

A server that has loaded `carbon_nas` forks for each: so a command still has a process, an environment, files 0 to 2
and an end of its own, and runs the same `main`. `daemon_process.cli` is the whole of it.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any

PATIENCE_SECONDS = 60


class CommandForks:
    """The server, from the side of the tests."""

    def __init__(self) -> None:
        self._server = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __call__(
        self, *arguments: object, stdin: str = "", **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end, as `daemon_process.cli` does."""
        command = [str(argument) for argument in arguments]
        order = {
            "arguments": command,
            "folder": str(Path.cwd()),
            "stdin": stdin,
            "environment": {**os.environ, "COLUMNS": "200", **environment},
        }
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps(order) + "\n")
        self._server.stdin.flush()
        status, printed, complaint = json.loads(self._server.stdout.readline())
        return subprocess.CompletedProcess(command, status, printed, complaint)

    def close(self) -> None:
        """End the server by the end of its input."""
        self._server.communicate()


def serve() -> None:
    """Do one order a line until there are no more."""
    import pandas  # noqa: F401, ICN001 -- loaded by commands that read a trace

    import carbon_nas.cli  # noqa: F401 -- loaded by all
    from carbon_nas import plugins

    for group in plugins.GROUPS:
        plugins.registered(group)  # is kept, and so is handed on to each command
    for line in sys.stdin:
        sys.stdout.write(json.dumps(done(json.loads(line))) + "\n")
        sys.stdout.flush()


def done(order: dict[str, Any]) -> tuple[int, str, str]:
    """Give the exit status of a command, what it printed and what it complained of."""
    with contextlib.ExitStack() as stack:
        given, *said = (stack.enter_context(tempfile.TemporaryFile("w+")) for _ in range(3))
        given.write(order["stdin"])
        given.seek(0)
        child = os.fork()
        if child == 0:
            obey(order, (given, *said))
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        for file in said:
            file.seek(0)
        printed, complaint = (file.read() for file in said)
        return status, printed, complaint


def obey(order: dict[str, Any], files: Iterable[IO[str]]) -> None:
    """Become the command, and never return."""
    status = 1
    try:
        signal.alarm(PATIENCE_SECONDS)  # a daemon that should have refused to start ends by it
        for number, file in enumerate(files):
            os.dup2(file.fileno(), number)
        sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w")  # noqa: SIM115 -- until the end
        os.environ.clear()
        os.environ.update(order["environment"])
        os.chdir(order["folder"])
        sys.argv = ["carbon-nas", *order["arguments"]]
        status = ended()
    except BaseException:  # noqa: BLE001 -- printed as Python itself would
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def ended() -> int:
    from carbon_nas.cli import main

    try:
        main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


if __name__ == "__main__":
    serve()
