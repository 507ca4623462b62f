"""Being asked to stop, and waiting for work without missing it. Imports nothing that takes time to import.

SIGTERM and SIGABRT (what systemd sends when a watchdog was missed) ask the runner to save and leave; SIGINT is
the terminal's word to the daemon in front of it, and is ignored.
"""

import os
import select
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

STOP_SIGNALS = (signal.SIGTERM, signal.SIGABRT)


class StopRequest:
    """Set by a signal, and wakes whoever waits in `wait_readable`."""

    def __init__(self) -> None:
        self.requested = False
        self._waker = -1
        self._leave: Callable[[], NoReturn] | None = None

    def install(self) -> None:
        """Take over the process's signals. A parent may start us with them blocked, so that none is missed."""
        self._waker, wake = os.pipe()
        os.set_blocking(wake, False)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        for number in STOP_SIGNALS:
            signal.signal(number, self._note)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)

    @contextmanager
    def leaving_at_once(self, leave: Callable[[], NoReturn]) -> Iterator[None]:
        """Within, a signal calls `leave`, which ends the process, in the middle of whatever runs.

        For what takes seconds, asks nobody whether to stop, and has nothing to save: imports, reading a data set.
        """
        self._leave = leave
        if self.requested:
            self._leave_now()
        try:
            yield
        finally:
            self._leave = None

    def wait_readable(self, descriptor: int) -> bool:
        """Wait until `descriptor` can be read, and say True; False if a stop was requested and it cannot."""
        timeout = 0 if self.requested else None
        ready, _, _ = select.select([descriptor, self._waker], [], [], timeout)
        return descriptor in ready

    def _note(self, number: int, frame: object) -> None:
        self.requested = True
        self._leave_now()

    def _leave_now(self) -> None:
        leave, self._leave = self._leave, None  # a second signal must not disturb the leaving
        if leave is not None:
            leave()


class Lines:
    """The lines of a file descriptor, one at a time."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._buffer = b""

    def close(self) -> None:
        """Take no more: whoever writes on gets an error instead of silence."""
        os.close(self._descriptor)

    def next(self, stop: StopRequest) -> str | None:
        """Wait for a line. None at the end of the file, or when a stop was requested and no line lies ready."""
        while b"\n" not in self._buffer:
            if not stop.wait_readable(self._descriptor):
                if stop.requested:
                    return None
                continue
            chunk = os.read(self._descriptor, 65536)
            if not chunk:
                return None
            self._buffer += chunk
        line, self._buffer = self._buffer.split(b"\n", 1)
        return line.decode()
