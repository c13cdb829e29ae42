"""The sockets that a server listens on: TCP, unix, and those that were inherited.

`Listeners` are the sockets of a program, and what has to be tidied up behind them. With several workers on Linux each
gets a TCP socket of its own on the same port (`SO_REUSEPORT`), its *lane*, and the kernel spreads connections over
them; all other sockets are shared. Whoever made them holds every one open, so that the queue of a worker that is gone
is kept for its replacement.
"""

import contextlib
import errno
import os
import socket
import stat
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, Self

from vibora.exceptions import CannotListen, ConfigurationError

#: The first descriptor that systemd passes on (sd_listen_fds(3)).
FIRST_INHERITED: Final = 3

HOST: Final = "127.0.0.1"
PORT: Final = 5000
#: Who may connect to a unix socket: its owner and its group.
SOCKET_MODE: Final = 0o660


class Listeners:
    """Bound sockets, in as many lanes as there are workers.

    Attributes:
        lanes: For each worker, the sockets it listens on. All workers share one lane where there is one.
    """

    def __init__(self) -> None:
        self.lanes: list[list[socket.socket]] = [[]]
        self._files: dict[Path, tuple[int, int]] = {}

    @classmethod
    def wrap(cls, sockets: Iterable[socket.socket]) -> Self:
        """Return listeners of sockets that a program has made itself."""
        listeners = cls()
        listeners.lanes = [list(sockets)]
        return listeners

    @classmethod
    def open(
        cls,
        addresses: Sequence[str | tuple[str, int]],
        *,
        workers: int = 1,
        socket_mode: int = SOCKET_MODE,
        spelling: str = "{}=",
    ) -> Self:
        """Return sockets that are bound to addresses.

        Args:
            addresses: A host and a port each, or what `bind` takes: `HOST:PORT`, `[IPV6]:PORT`, `unix:PATH`,
                `fd://NUMBER`.
            workers: How many lanes are wanted. There is one if it cannot be more.
            socket_mode: The permissions of unix sockets.
            spelling: How an option is written where the caller has it, for the messages.

        Raises:
            CannotListen: If it cannot be done; the message says what to do.
            ConfigurationError: If an address makes no sense.
        """
        listeners = cls()
        try:
            listeners._open(addresses, workers, socket_mode, spelling)
        except BaseException:
            listeners.close()
            raise
        return listeners

    def _open(self, addresses: Sequence[str | tuple[str, int]], workers: int, mode: int, spelling: str) -> None:
        shared: list[socket.socket] = []
        lanes: list[list[socket.socket]] = [[] for _ in range(workers)]
        for address in addresses:
            if isinstance(address, str) and address.startswith("unix:"):
                shared.append(self._bind_unix(address, mode, spelling))
            elif isinstance(address, str) and address.startswith("fd://"):
                shared.append(inherit(_descriptor(address)))
            else:
                host, port = parse_address(address) if isinstance(address, str) else address
                if workers > 1 and sys.platform == "linux":
                    for lane, sockets in zip(lanes, _bind_lanes(host, port, workers, spelling), strict=True):
                        lane.extend(sockets)
                else:
                    shared += bind(host, port, spelling=spelling)
        self.lanes = [lane + shared for lane in lanes] if lanes[0] else [shared]

    def _bind_unix(self, address: str, mode: int, spelling: str) -> socket.socket:
        path = Path(address.removeprefix("unix:"))
        if not hasattr(socket, "AF_UNIX"):
            raise ConfigurationError(f"this system has no unix sockets to listen on, got {address!r}")
        try:
            sock = _bind_unix(path, mode)
        except OSError as error:
            advice = {
                errno.EADDRINUSE: "stop the other server",
                errno.ENOENT: f"make the directory {str(path.parent)!r}",
                errno.EACCES: f"let this user write to {str(path.parent)!r}",
                errno.EEXIST: "something that is no socket has this name: remove it",
            }.get(error.errno or 0)
            reason = os.strerror(error.errno).lower() if error.errno else str(error)
            advice = f"{advice}, or choose another path" if advice else "choose another path"
            raise CannotListen(
                error.errno, f"cannot listen on {address}: {reason}; {advice} with {spelling.format('bind')}"
            ) from None
        found = path.stat()
        self._files[path.absolute()] = (found.st_dev, found.st_ino)
        return sock

    @property
    def sockets(self) -> list[socket.socket]:
        """One socket for each address."""
        return self.lanes[0]

    def lane(self, worker: int) -> list[socket.socket]:
        """Return the sockets of a worker; the first is number 0."""
        return self.lanes[worker % len(self.lanes)]

    def let_go(self) -> None:
        """Close the sockets. Who has copies of them, as workers have, goes on listening."""
        for lane in self.lanes:
            for sock in lane:
                sock.close()

    def close(self) -> None:
        """Close the sockets, and remove the files of unix sockets, unless they are somebody else's by now."""
        self.let_go()
        for path, identity in self._files.items():
            with contextlib.suppress(OSError):
                found = path.stat()
                if (found.st_dev, found.st_ino) == identity:
                    path.unlink()
        self._files.clear()


def parse_address(text: str) -> tuple[str, int]:
    """Return the host and the port of `HOST:PORT` or `[IPV6]:PORT`.

    Raises:
        ConfigurationError: If it is neither.
    """
    host, colon, port = text.rpartition(":")
    inner = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not colon or not inner or (":" in inner) is (inner == host) or not is_port(port):
        raise ConfigurationError(
            f"expected HOST:PORT, [IPV6]:PORT, unix:PATH or fd://NUMBER to listen on, got {text!r}; "
            "0.0.0.0:5000 is every address"
        )
    return inner, int(port)


def is_port(text: str) -> bool:
    """Return whether a text is the number of a port."""
    return text.isascii() and text.isdigit() and int(text) < 1 << 16


def bind(host: str, port: int, *, reuse_port: bool = False, spelling: str = "{}=") -> list[socket.socket]:
    """Return sockets bound to each address of a host. They reserve their port, and do not listen yet.

    Args:
        host: A host name or an address, IPv4 or IPv6. `::` takes IPv4 connections too.
        port: A port; 0 lets the system choose one, the same for each address.
        reuse_port: Share the port with other sockets that say so too; the kernel spreads connections over them.
        spelling: How an option is written where the caller has it, for the messages.

    Raises:
        CannotListen: If it cannot be done; the message says what to do.
    """
    where = url_of((host, port)).removeprefix("http://")
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        advice = f"choose another host with {spelling.format('host')}"
        raise CannotListen(errno.EADDRNOTAVAIL, f"cannot listen on {where}: {reason}; {advice}") from None
    sockets: list[socket.socket] = []
    absent: OSError | None = None
    try:
        for family, kind, protocol, _, address in dict.fromkeys(found):
            chosen = address_of(sockets[0])[1] if sockets else port
            try:
                sock = _bound(family, kind, protocol, (address[0], chosen, *address[2:]), reuse_port=reuse_port)
            except OSError as error:
                if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                    raise
                absent = error  # as ::1, which localhost may stand for, on a machine without IPv6
                continue
            sockets.append(sock)
        if absent and not sockets:
            raise absent
    except OSError as error:
        for sock in sockets:
            sock.close()
        advice = {
            errno.EADDRINUSE: f"stop the other server or choose another port with {spelling.format('port')}",
            errno.EACCES: f"choose a port above 1023 with {spelling.format('port')}",
        }.get(error.errno or 0, f"choose another host with {spelling.format('host')}")
        reason = os.strerror(error.errno).lower() if error.errno else str(error)
        raise CannotListen(error.errno, f"cannot listen on {where}: {reason}; {advice}") from None
    return sockets


def _bind_lanes(host: str, port: int, workers: int, spelling: str) -> list[list[socket.socket]]:
    # Others may share a port with us only if they are our workers: it has to be free at first. Holding it while the
    # lanes are bound is not possible, since sharing has to be said by the first one.
    free = bind(host, port, spelling=spelling)
    port = address_of(free[0])[1]
    for sock in free:
        sock.close()
    lanes: list[list[socket.socket]] = []
    try:
        for _ in range(workers):
            lanes.append(bind(host, port, reuse_port=True, spelling=spelling))  # noqa: PERF401  closed on failure
    except BaseException:
        for lane in lanes:
            for sock in lane:
                sock.close()
        raise
    return lanes


def _bound(family: int, kind: int, protocol: int, address: tuple[object, ...], *, reuse_port: bool) -> socket.socket:
    sock = socket.socket(family, kind, protocol)
    try:
        if sys.platform != "win32":  # where it means to take the port from its owner
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, address[0] != "::")
        sock.bind(address)
    except BaseException:
        sock.close()
        raise
    return sock


def _bind_unix(path: Path, mode: int) -> socket.socket:
    """Return a unix socket; one that nobody listens on any more is replaced."""
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.stat().st_mode):
            raise FileExistsError(errno.EEXIST, "not a socket")
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(1)  # a server that is too busy to accept lives too
            try:
                probe.connect(str(path))
            except ConnectionRefusedError:
                path.unlink()  # its server was killed
            except (TimeoutError, BlockingIOError):
                raise OSError(errno.EADDRINUSE, "in use") from None
            else:
                raise OSError(errno.EADDRINUSE, "in use")
    sock = socket.socket(socket.AF_UNIX)
    try:
        with contextlib.suppress(OSError):  # on Linux the file is born with it; elsewhere the umask decides
            os.fchmod(sock.fileno(), 0)
        sock.bind(str(path))
        path.chmod(mode)
    except BaseException:
        sock.close()
        raise
    return sock


# --- inherited sockets ------------------------------------------------------------------------------------------------


def _descriptor(address: str) -> int:
    number = address.removeprefix("fd://")
    if not (number.isascii() and number.isdigit()):
        raise ConfigurationError(f"expected the number of a descriptor, such as fd://3, got {address!r}")
    return int(number)


def inherit(descriptor: int) -> socket.socket:
    """Return the socket that this process was started with.

    Args:
        descriptor: The number of its descriptor.

    Raises:
        CannotListen: If it is not a socket that can listen.
    """
    try:
        sock = socket.socket(fileno=descriptor)
    except OSError as error:
        reason = os.strerror(error.errno).lower() if error.errno else str(error)
        raise CannotListen(
            error.errno,
            f"cannot listen on fd://{descriptor}: {reason}; whoever starts this passes a bound socket there",
        ) from None
    if sock.type != socket.SOCK_STREAM:
        sock.detach()
        raise CannotListen(errno.EINVAL, f"cannot listen on fd://{descriptor}: expected a stream socket")
    sock.set_inheritable(False)
    return sock


def take_activated() -> list[str]:
    """Return the addresses of the sockets that systemd has passed to this process, and take them.

    They are in `LISTEN_FDS`, if `LISTEN_PID` is this process (sd_listen_fds(3)). Both are removed, so that processes
    started from here do not mistake them for theirs.
    """
    count, pid = os.environ.get("LISTEN_FDS", ""), os.environ.get("LISTEN_PID", "")
    if pid != str(os.getpid()) or not count.isdigit():
        return []
    for name in ("LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"):
        os.environ.pop(name, None)
    return [f"fd://{number}" for number in range(FIRST_INHERITED, FIRST_INHERITED + int(count))]


# --- any socket -------------------------------------------------------------------------------------------------------


def tune(sock: socket.socket) -> None:
    """Set what connections inherit from the socket that accepts them.

    Small answers leave at once: asyncio sees to it only where the socket knows its protocol, which one that was made
    without naming it does not. And the kernel probes peers that are silent for a minute, and gives up on those that do
    not answer for half one: a connection that waits for its handler, such as a stream of rare events, has no other way
    to learn that its client lost its power or its network.
    """
    if sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3)):
        option: int | None = getattr(socket, name, None)  # not every system has them
        if option is not None:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)


def address_of(sock: socket.socket) -> tuple[str, int]:
    """Return the address and the port that a socket is bound to; for a unix socket `unix:PATH`, and 0."""
    if sock.family in (socket.AF_INET, socket.AF_INET6):
        host, port = sock.getsockname()[:2]
        return host, port
    name = sock.getsockname()
    path = os.fsdecode(name) if isinstance(name, bytes) else str(name)
    return f"unix:{path}".replace("\0", "@"), 0


def url_of(address: tuple[str, int], *, scheme: str = "http") -> str:
    """Return the URL of an address; of a unix socket, `unix:PATH`."""
    host, port = address
    if host.startswith("unix:"):
        return host
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
