"""The program: `app.run()` and `vibora run`, with the event loop, signals and the log.

One process serves by itself; `vibora.workers` looks after several.
"""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from vibora import _core, targets
from vibora.exceptions import CannotListen, ConfigurationError
from vibora.sockets import address_of, bind, url_of

if TYPE_CHECKING:
    from vibora.app import Vibora
    from vibora.server import Server

logger: Final = logging.getLogger("vibora")


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
    started: "Callable[[Server], object]",
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


async def _obey(parent: socket.socket, server: "Server") -> None:
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
