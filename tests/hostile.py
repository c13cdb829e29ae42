"""Clients that mean no good, and what they cost a server."""

import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from os import sysconf
from pathlib import Path

from conftest import PATIENCE, Peer, Program, Served

#: Seconds that something may come late: the timers look every 64 ms, and the machine may be busy.
SLACK = 2.0

ESTABLISHED, LISTEN, TIME_WAIT = 0x01, 0x0A, 0x06  # as /proc/net/tcp numbers them


class Diary:
    """What happened in a server's thread, and when."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._entries: list[tuple[str, float]] = []

    @property
    def entries(self) -> list[str]:
        with self._changed:
            return [what for what, _ in self._entries]

    def write(self, what: str) -> None:
        with self._changed:
            self._entries.append((what, time.monotonic()))
            self._changed.notify_all()

    def count(self, what: str) -> int:
        return self.entries.count(what)

    def wait_for(self, what: str, times: int = 1, patience: float = PATIENCE) -> float:
        """Return when it happened for the so-manieth time, once it has."""
        with self._changed:
            happened = self._changed.wait_for(lambda: len(self._when(what)) >= times, patience)
            assert happened, f"{what!r} happened {len(self._when(what))} times in {patience} s, not {times}"
            return self._when(what)[times - 1]

    def _when(self, what: str) -> list[float]:
        return [when for other, when in self._entries if other == what]


def message(
    target: str = "/", method: str = "GET", headers: Sequence[str] = (), content: bytes = b"", version: str = "1.1"
) -> bytes:
    """Return a request's bytes. The headers are whole lines; the content's length is not among them by itself."""
    lines = [f"{method} {target} HTTP/{version}", "Host: test", *headers, "", ""]
    return "\r\n".join(lines).encode("latin-1") + content


def connect(served: Served | int, *, receive_buffer: int | None = None, patience: float = PATIENCE) -> Peer:
    """Return a new connection, whose kernel takes no more than so many bytes that nobody reads."""
    sock = socket.socket()
    if receive_buffer is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    sock.settimeout(patience)
    sock.connect(("127.0.0.1", served if isinstance(served, int) else served.port))
    return Peer(sock)


def seconds_to_reset(peer: Peer, patience: float) -> float | None:
    """Return how long it takes until the server resets the connection, nothing being read; None if it does not."""
    poller = select.poll()
    poller.register(peer.sock, 0)  # of an error the kernel tells unasked, and of nothing else
    started = time.monotonic()
    return time.monotonic() - started if poller.poll(patience * 1000) else None


def seconds_to_resets(peers: Iterable[Peer], patience: float) -> list[float | None]:
    """Return the same for several connections at once, in their order."""
    numbers = [peer.sock.fileno() for peer in peers]
    poller = select.poll()
    for number in numbers:
        poller.register(number, 0)
    started = time.monotonic()
    took: dict[int, float] = {}
    while len(took) < len(numbers) and time.monotonic() < started + patience:
        for number, _ in poller.poll(50):
            took[number] = time.monotonic() - started
            poller.unregister(number)
    return [took.get(number) for number in numbers]


def is_readable(peer: Peer, patience: float) -> bool:
    """Return whether something arrives, be it the end."""
    return bool(select.select([peer.sock], [], [], patience)[0])


def seconds_to_close(peer: Peer) -> float:
    """Return how long it takes until the server ends the connection properly, having sent nothing more."""
    started = time.monotonic()
    rest = peer.read_to_end()
    assert rest == b""
    return time.monotonic() - started


def read_until_reset(peer: Peer) -> bytes:
    """Return what arrives before the reset. A proper end instead is a failure."""
    pieces = [peer.unread]
    try:
        while data := peer.sock.recv(65536):
            pieces.append(data)
    except ConnectionResetError:
        return b"".join(pieces)
    raise AssertionError(f"the connection ended properly, after {sum(map(len, pieces))} bytes")


def read_slowly(peer: Peer, size: int, every: float) -> bytes:
    """Read a so-sized piece now and then, up to the end of the stream."""
    pieces = []
    while data := peer.sock.recv(size):
        pieces.append(data)
        time.sleep(every)
    return b"".join(pieces)


def write_slowly(peer: Peer, data: bytes, size: int, every: float) -> None:
    """Send a so-sized piece now and then, as long as the server lets itself be sent anything."""
    for at in range(0, len(data), size):
        try:
            peer.send(data[at : at + size])
        except OSError:
            return
        time.sleep(every)


def seconds_to_refusal(peer: Peer, data: bytes, every: float, patience: float) -> float:
    """Send the data now and then until the server takes no more of it. Return how long it took."""
    started = time.monotonic()
    while time.monotonic() < started + patience:
        try:
            peer.send(data)
        except ConnectionError:
            return time.monotonic() - started
        time.sleep(every)
    raise AssertionError(f"the server still takes bytes after {patience} s")


def fill(peer: Peer, data: bytes, patience: float = 1.0) -> int:
    """Send the data again and again until the server has read none for a while. Return how many bytes went out."""
    peer.sock.settimeout(patience)
    sent = 0
    try:
        while True:
            sent += peer.sock.send(data)
    except TimeoutError:
        peer.sock.settimeout(PATIENCE)
        return sent


def server_sockets(port: int) -> int:
    """Return how many of a server's connections the kernel still knows, those that only wait for time to pass aside."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    states = [int(state, 16) for _, local, _, state, *_ in lines if int(local.rpartition(":")[2], 16) == port]
    return sum(state not in (LISTEN, TIME_WAIT) for state in states)


def data_segments(peer: Peer) -> int:
    """Return how many TCP segments with data have arrived (`tcpi_data_segs_in`)."""
    info = peer.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 192)
    return int(struct.unpack_from("=I", info, 152)[0])


def wait_until(condition: Callable[[], bool], patience: float = PATIENCE) -> bool:
    """Return whether the condition holds in time. For what no event tells."""
    until = time.monotonic() + patience
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(0.005)
    return True


def has_no_connections(served: Served, patience: float = PATIENCE) -> bool:
    """Return whether nothing is left in the server: no connection, no handler, no stream."""
    core = served.server._core
    return wait_until(lambda: core.connections == 0 and core.exchanges == 0, patience)


def warnings_of(served: Served) -> list[str]:
    """Return the warnings of the log, and what is worse."""
    return [record.getMessage() for record in served.log if record.levelname in ("WARNING", "ERROR", "CRITICAL")]


class Cost:
    """What a process costs, as Linux knows it."""

    def __init__(self, program: Program) -> None:
        self._directory = Path(f"/proc/{program.pid}")

    @property
    def resident(self) -> int:
        """Bytes of memory."""
        return int((self._directory / "statm").read_text().split()[1]) * sysconf("SC_PAGE_SIZE")

    @property
    def cpu(self) -> float:
        """Seconds of CPU time."""
        fields = (self._directory / "stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / sysconf("SC_CLK_TCK")

    @property
    def wakeups(self) -> int:
        """How often its threads have gone to sleep."""
        names = [task / "status" for task in (self._directory / "task").iterdir()]
        counts = [line for name in names for line in name.read_text().splitlines() if line.startswith("voluntary_")]
        return sum(int(line.split()[1]) for line in counts)

    @property
    def descriptors(self) -> int:
        """Open files and sockets."""
        return len(list((self._directory / "fd").iterdir()))
