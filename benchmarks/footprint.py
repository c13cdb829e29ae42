"""What a server costs while it does nothing: memory, idle connections, CPU time, and the time until it answers."""

from __future__ import annotations

import socket
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from process import Running

CONNECTIONS = 2000
WATCHED = 3.0
"""Seconds in which the CPU time of an idle server is counted."""
REQUEST = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
PATIENCE = 10.0


@dataclass(frozen=True)
class Footprint:
    """What was found; memory is resident, of the whole process tree."""

    start_seconds: float
    """From the start of the process to the first connection it accepts."""
    idle_megabytes: float
    """After its first answer."""
    kilobytes_per_connection: float
    """Of so many connections that have been answered once and are kept open."""
    idle_cpu_percent: float
    """CPU time while these connections are idle."""


def measure(running: Running) -> Footprint:
    """Open many connections to a server that was just started, ask once on each, and watch.

    Raises:
        OSError: It does not answer all of them.
    """
    with ExitStack() as stack:
        _ask(stack.enter_context(_connect(running.port)))
        time.sleep(0.3)
        before = running.resident_bytes()
        for _ in range(CONNECTIONS):
            _ask(stack.enter_context(_connect(running.port)))
        time.sleep(0.5)
        resident = running.resident_bytes()
        cpu, began = running.cpu_seconds(), time.monotonic()
        time.sleep(WATCHED)
        used = (running.cpu_seconds() - cpu) / (time.monotonic() - began)
    return Footprint(
        start_seconds=running.start_seconds,
        idle_megabytes=before / 1e6,
        kilobytes_per_connection=(resident - before) / CONNECTIONS / 1024,
        idle_cpu_percent=used * 100,
    )


def _connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)


def _ask(peer: socket.socket) -> None:
    peer.sendall(REQUEST)
    got = b""
    while not got.endswith(b"Hello, World!"):
        part = peer.recv(4096)
        if not part:
            raise OSError("closed an idle connection")
        got += part
