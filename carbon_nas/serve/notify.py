"""Speaking to the service manager: the sd_notify protocol, one datagram a message (sd_notify(3))."""

import os
import socket


class Notifier:
    """Sends to the socket that `NOTIFY_SOCKET` names; does nothing where there is no service manager."""

    def __init__(self, address: str | None) -> None:
        self._address = address

    @classmethod
    def from_environment(cls) -> "Notifier":
        """Take the address out of the environment, so that no child process inherits it."""
        return cls(os.environ.pop("NOTIFY_SOCKET", None) or None)

    def send(self, **fields: object) -> None:
        """Send assignments, as `send(READY=1, STATUS="training")`; a manager that does not listen is no error."""
        if self._address is None:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        message = "\n".join(f"{name}={value}" for name, value in fields.items())
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
            try:
                channel.sendto(message.encode(), address)
            except (FileNotFoundError, ConnectionRefusedError):
                self._address = None


def watchdog_seconds() -> float | None:
    """Give how often the manager wants to hear from us at the latest; None if it does not ask."""
    microseconds = os.environ.pop("WATCHDOG_USEC", None)
    owner = os.environ.pop("WATCHDOG_PID", None)
    if microseconds is None or (owner is not None and int(owner) != os.getpid()):
        return None
    return int(microseconds) / 1e6
