"""Serving: sockets, one event loop, and how it stops.

`Server` serves an app in a loop that is already running. `run` is a whole program: it makes the loop, answers signals,
and hands over to `vibora.workers` when there is more than one process.

A server stops in four steps, each bounded: it stops accepting and closes idle connections; exchanges may end within
`ServerLimits.graceful_timeout`; those left are cancelled; what is still connected is aborted.
"""

import asyncio
import contextlib
import errno
import functools
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from vibora import _core, targets
from vibora.errors import answer_error
from vibora.exceptions import CannotListen, ConfigurationError
from vibora.limits import ServerLimits

if TYPE_CHECKING:
    from vibora.app import Vibora

logger: Final = logging.getLogger("vibora")

#: Seconds that cancelled exchanges have to clean up, and then aborted connections to go away.
CANCEL_TIMEOUT: Final = 1.0


class Server:
    """An app that is being served in the running event loop. `Vibora.start` makes one.

    As an async context manager it stops at the end of the block.

    Attributes:
        sockets: The sockets it listens on.
    """

    def __init__(
        self, router: _core.Router, limits: ServerLimits, sockets: Sequence[socket.socket], *, debug: bool = False
    ) -> None:
        self.sockets: Final = tuple(sockets)
        self._addresses: Final = [address_of(sock) for sock in sockets]  # a closed socket does not tell
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._listeners: list[asyncio.Server] = []
        self._hurried: asyncio.Future[None] = self._loop.create_future()
        self._stopping: asyncio.Task[None] | None = None
        self._stopped = asyncio.Event()
        self._core = _core.Server(
            self._loop,
            router,
            on_error=functools.partial(answer_error, debug=debug),
            limits=limits,
            logger=logger,
        )

    @classmethod
    async def start(
        cls, router: _core.Router, limits: ServerLimits, sockets: Sequence[socket.socket], *, debug: bool = False
    ) -> Self:
        """Start serving. `Vibora.start` is how apps call it.

        Args:
            router: The routes.
            limits: The limits; read once.
            sockets: Bound sockets; the server owns them from now on.
            debug: Show tracebacks to clients.
        """
        server = cls(router, limits, sockets, debug=debug)
        await server._listen()
        return server

    async def _listen(self) -> None:
        try:
            for sock in self.sockets:
                listener = await self._loop.create_server(self._core.protocol, sock=sock, backlog=self._limits.backlog)
                self._listeners.append(listener)
        except BaseException:
            for listener in self._listeners:
                listener.close()
            for sock in self.sockets:
                sock.close()
            raise

    @property
    def host(self) -> str:
        """The address it listens on; of the first socket, where there are several."""
        return self._addresses[0][0]

    @property
    def port(self) -> int:
        """The port it listens on: the chosen one, where 0 was asked for."""
        return self._addresses[0][1]

    @property
    def url(self) -> str:
        """Where it is reached, such as `http://127.0.0.1:5000`."""
        return url_of(self._addresses[0])

    @property
    def connections(self) -> int:
        """Open connections."""
        return self._core.connections

    @property
    def requests(self) -> int:
        """Requests answered so far."""
        return self._core.requests

    def shutdown(self, *, hurry: bool = False) -> None:
        """Ask it to stop gracefully. Returns at once; any thread may call it, and so may a handler.

        Args:
            hurry: Give running exchanges no time to end; also when it is stopping already.
        """
        # A loop that is closed has stopped serving already.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._begin_stop, hurry)

    async def stop(self, *, hurry: bool = False) -> None:
        """Stop gracefully, and return when nothing is left. Cancelling hurries it.

        A handler that awaits it awaits its own end: `shutdown` is for handlers.

        Args:
            hurry: Give running exchanges no time to end; also when it is stopping already.
        """
        stopping = self._begin_stop(hurry)
        try:
            await asyncio.shield(stopping)
        except asyncio.CancelledError:
            self._begin_stop(hurry=True)
            await asyncio.shield(stopping)
            raise

    @property
    def is_stopped(self) -> bool:
        """Whether it has stopped, and nothing is left of it."""
        return self._stopped.is_set()

    async def wait_stopped(self) -> None:
        """Return when it has stopped, whoever asked it to."""
        await self._stopped.wait()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def _begin_stop(self, hurry: bool = False) -> asyncio.Task[None]:  # noqa: FBT001, FBT002  for `call_soon`
        if hurry and not self._hurried.done():
            self._hurried.set_result(None)
        if self._stopping is None:
            self._stopping = self._loop.create_task(self._stop(), name="vibora stop")
        return self._stopping

    async def _stop(self) -> None:
        try:
            for listener in self._listeners:
                listener.close()
            self._core.begin_shutdown()
            drained = self._core.drained()
            graceful = self._limits.graceful_timeout or 0
            await asyncio.wait({drained, self._hurried}, timeout=graceful, return_when=asyncio.FIRST_COMPLETED)
            if not drained.done():
                logger.warning("stopping: cancelled %d exchanges that had not ended", self._core.cancel_exchanges())
                await asyncio.wait({drained}, timeout=CANCEL_TIMEOUT)
            if not drained.done():
                logger.warning("stopping: aborted %d connections", self._core.abort_connections())
                await asyncio.wait({drained}, timeout=CANCEL_TIMEOUT)
            for listener in self._listeners:
                # From Python 3.12 on it waits for connections too, and one may have refused to die.
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(listener.wait_closed(), CANCEL_TIMEOUT)
        finally:
            self._stopped.set()


# --- sockets ----------------------------------------------------------------------------------------------------------


def bind(
    host: str, port: int, *, backlog: int | None = None, reuse_port: bool = False, spelling: str = "{}="
) -> list[socket.socket]:
    """Return sockets bound to each address of a host.

    Args:
        host: A host name or an address, IPv4 or IPv6. `::` takes IPv4 connections too.
        port: A port; 0 lets the system choose one, the same for each address.
        backlog: Listen already, with so many connections waiting. A socket that does not listen reserves its port.
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
            if backlog is not None:
                sock.listen(backlog)
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


def _bound(family: int, kind: int, protocol: int, address: tuple[object, ...], *, reuse_port: bool) -> socket.socket:
    sock = socket.socket(family, kind, protocol)
    try:
        if sys.platform != "win32":  # where it means to take the port from its owner
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, address[0] != "::")
        _find_vanished_peers(sock)
        sock.bind(address)
    except BaseException:
        sock.close()
        raise
    return sock


def _find_vanished_peers(sock: socket.socket) -> None:
    """Have the kernel probe peers that are silent for a minute, and give up on those that do not answer for half one.

    A connection that waits for its handler, such as a stream of rare events, has no other way to learn that its client
    lost its power or its network. Connections inherit this from the socket that accepts them.
    """
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3)):
        option: int | None = getattr(socket, name, None)  # not every system has them
        if option is not None:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)


def bind_again(sock: socket.socket) -> socket.socket:
    """Return another socket on the port of one that shares it.

    Args:
        sock: A socket bound with `reuse_port`. It is closed.

    Raises:
        OSError: If it cannot be done.
    """
    address = sock.getsockname()
    sock.close()
    return _bound(sock.family, sock.type, sock.proto, address, reuse_port=True)


def address_of(sock: socket.socket) -> tuple[str, int]:
    """Return the address and the port that a socket is bound to."""
    host, port = sock.getsockname()[:2]
    return host, port


def url_of(address: tuple[str, int]) -> str:
    """Return the URL of an address."""
    host, port = address
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


# --- the program ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a program serves its app.

    Attributes:
        host: A host name or an address.
        port: A port; 0 lets the system choose.
        workers: Processes that serve.
        debug: Show tracebacks to clients.
        target: Where the app is imported from, such as `module:app`; found out when None.
        log_level: The level of the log, unless the program has configured one.
        spelling: How an option is written where the user has it, for the messages.
    """

    host: str
    port: int
    workers: int = 1
    debug: bool = False
    target: str | None = None
    log_level: str = "info"
    spelling: str = "{}="


def run(app: "Vibora", settings: Settings, sock: socket.socket | None = None) -> None:
    """Serve an app until SIGINT or SIGTERM.

    Args:
        app: The app.
        settings: How.
        sock: A bound socket to listen on, in place of `host` and `port`.

    Raises:
        ConfigurationError: If the number of workers is not one.
        RuntimeError: If an event loop is running.
        SystemExit: If it cannot listen, or a worker cannot start.
    """
    if asyncio._get_running_loop() is not None:  # noqa: SLF001  the public one raises instead of answering
        raise RuntimeError("an event loop is running already: await app.serve(...) in it, instead of app.run(...)")
    if settings.workers < 1:
        raise ConfigurationError(f"at least one worker is needed, got {settings.workers!r}")
    configure_logging(settings.log_level)
    if _core.__build__ == "debug":
        logger.warning("this is a debug build of the core, which is many times slower: build it with --release")
    try:
        if settings.workers == 1:
            sockets = (
                [sock]
                if sock
                else bind(settings.host, settings.port, backlog=app.server_limits.backlog, spelling=settings.spelling)
            )
            serve_process(
                app, sockets, debug=settings.debug, started=lambda server: announce(app, settings, server.sockets)
            )
        else:
            from vibora.workers import supervise  # noqa: PLC0415  multiprocessing is slow to import

            supervise(app, settings, sock)
    except CannotListen as error:
        raise SystemExit(f"error: {error}") from None
    except KeyboardInterrupt:
        raise SystemExit(128 + signal.SIGINT) from None


def serve_process(
    app: "Vibora",
    sockets: Sequence[socket.socket],
    *,
    debug: bool,
    started: Callable[[Server], object],
    parent: socket.socket | None = None,
) -> int | None:
    """Serve an app with this process: one event loop, until a signal, `Vibora.shutdown`, or the end of the parent.

    Args:
        app: The app.
        sockets: Bound sockets to listen on.
        debug: Show tracebacks to clients.
        started: Called when it serves.
        parent: For a worker, the parent's voice: see `vibora.workers`. SIGINT is then left to the parent, who gets it
            too.

    Returns:
        The signal that stopped it; None if it was something else.
    """

    async def main() -> int | None:
        loop = asyncio.get_running_loop()
        server = await app.start(sock=sockets, debug=debug)
        received: list[int] = []

        def on_signal(number: int) -> None:
            received.append(number)
            if parent is None and len(received) == 1:
                logger.info("stopping on %s; once more to hurry", signal.Signals(number).name)
            server.shutdown(hurry=len(received) > 1)

        numbers = (signal.SIGINT, signal.SIGTERM) if parent is None else (signal.SIGTERM,)
        with _signals(loop, numbers, on_signal):
            started(server)
            obedience = None
            if parent:
                parent.settimeout(0)
                obedience = loop.create_task(_obey(parent, server))
            await server.wait_stopped()
            if obedience:
                obedience.cancel()
        return received[0] if received else None

    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(main())


async def _obey(parent: socket.socket, server: Server) -> None:
    """Stop the server on a byte from the parent, hurry it on another, and stop it when the parent is no more."""
    loop = asyncio.get_running_loop()
    hurry = False
    with contextlib.suppress(ConnectionError):
        while await loop.sock_recv(parent, 1):
            server.shutdown(hurry=hurry)
            hurry = True
    server.shutdown()


@contextlib.contextmanager
def _signals(
    loop: asyncio.AbstractEventLoop, numbers: Sequence[signal.Signals], handle: Callable[[int], None]
) -> Generator[None]:
    """Handle signals in the loop, for as long as the block lasts."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals belong to the main thread
        return
    before = {number: signal.getsignal(number) for number in numbers}
    for number in numbers:
        try:
            loop.add_signal_handler(number, handle, number)
        except NotImplementedError:  # Windows
            signal.signal(number, lambda number, _: loop.call_soon_threadsafe(handle, number))
    try:
        yield
    finally:
        for number in numbers:
            with contextlib.suppress(NotImplementedError):
                loop.remove_signal_handler(number)
            signal.signal(number, before[number])


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """Return what makes event loops: uvloop where it is installed, unless `VIBORA_UVLOOP` is 0."""
    if os.environ.get("VIBORA_UVLOOP") != "0":
        with contextlib.suppress(ImportError):
            import uvloop  # noqa: PLC0415  optional, and absent on Windows

            return uvloop.new_event_loop
    return asyncio.new_event_loop


def announce(app: "Vibora", settings: Settings, sockets: Sequence[socket.socket]) -> None:
    """Log what is served, where and how."""
    logger.info(
        "Vibora %s serving %s on %s (%d %s, %s)",
        _core.__version__,
        settings.target or targets.find(app) or "an app",
        " and ".join(url_of(address_of(sock)) for sock in sockets),
        settings.workers,
        "worker" if settings.workers == 1 else "workers",
        loop_factory().__module__.partition(".")[0],
    )


def configure_logging(level: str) -> None:
    """Log to stderr, unless the program has configured a log.

    Args:
        level: The level, such as `info`.
    """
    if not logger.hasHandlers():
        logging.basicConfig(
            level=level.upper(), format="%(asctime)s %(levelname)s [%(process)d] %(message)s", stream=sys.stderr
        )
