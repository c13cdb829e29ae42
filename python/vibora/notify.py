"""What a service manager is told: sd_notify(3), where systemd or something like it asks for it."""

import os
import socket
import time
from typing import Final

_MICROSECONDS: Final = 1_000_000


class Notifier:
    """The voice of this process towards its service manager; silent where there is none."""

    def __init__(self) -> None:
        address = os.environ.get("NOTIFY_SOCKET", "")
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) if address else None
        self.watchdog: float | None = None
        """Seconds between two calls of `alive`, if the manager wants any: half of what it waits."""
        pid = os.environ.get("WATCHDOG_PID", str(os.getpid()))
        period = os.environ.get("WATCHDOG_USEC", "")
        if self._sock and pid == str(os.getpid()) and period.isdigit() and int(period):
            self.watchdog = int(period) / _MICROSECONDS / 2

    def ready(self) -> None:
        """It serves; after `reloading`, again."""
        self._tell("READY=1")

    def reloading(self) -> None:
        """It takes up its new code, and goes on serving."""
        self._tell(f"RELOADING=1\nMONOTONIC_USEC={int(time.monotonic() * _MICROSECONDS)}")

    def stopping(self) -> None:
        """It has begun to stop."""
        self._tell("STOPPING=1")

    def alive(self) -> None:
        """It works."""
        self._tell("WATCHDOG=1")

    def close(self) -> None:
        """Say nothing any more."""
        if self._sock:
            self._sock.close()
            self._sock = None

    def _tell(self, message: str) -> None:
        if self._sock:
            try:
                self._sock.sendto(message.encode(), socket.MSG_DONTWAIT, self._address)
            except OSError:
                self.close()  # a manager that does not listen is none
