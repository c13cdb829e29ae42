"""The program: `app.run()` and `vibora run`, with the event loop, signals and the log.

One process serves by itself; `vibora.supervisor` is the parent of workers.
"""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING, Final, NoReturn

from vibora import _core, targets
from vibora.access import AccessLog
from vibora.exceptions import CannotListen, ConfigurationError
from vibora.notify import Notifier
from vibora.settings import Settings
from vibora.sockets import HOST, PORT, Listeners, address_of, take_activated, url_of
from vibora.tls import TLS

if TYPE_CHECKING:
    from vibora.app import Vibora

logger: Final = logging.getLogger("vibora")

#: The exit code of a program that cannot listen where it should (EX_UNAVAILABLE of sysexits.h).
EX_UNAVAILABLE: Final = 69
#: The exit code of a program whose configuration, target or app is wrong (EX_CONFIG).
EX_CONFIG: Final = 78

#: Whether this process is a worker: see `vibora.workers`.
is_worker = False

_HANG_UP: Final[int | None] = getattr(signal, "SIGHUP", None)  # Windows has none


def run(app: "Vibora | None", settings: Settings, sock: socket.socket | None = None) -> None:
    """Serve an app until SIGINT or SIGTERM.

    Args:
        app: The app; None if only workers import it.
        settings: How.
        sock: A bound socket to listen on, in place of the addresses of the settings.

    Raises:
        ConfigurationError: If the settings make no sense.
        RuntimeError: If an event loop is running.
        SystemExit: If it cannot listen, or a worker cannot start.
    """
    _check_place(settings)
    configure_logging(settings.log_level)
    if _core.__build__ == "debug":
        logger.warning("this is a debug build of the core, which is many times slower: build it with --release")
    if not settings.uvloop:
        os.environ["VIBORA_UVLOOP"] = "0"  # workers see it too
    notifier = Notifier()
    listeners = None
    try:
        listeners = _listeners(settings, sock)
        if app and not settings.is_supervised:
            status = _serve(app, settings, listeners, notifier)
        else:
            from vibora.supervisor import Supervisor  # noqa: PLC0415  one process does without

            with tempfile.TemporaryDirectory(prefix="vibora-") as directory:
                os.environ["VIBORA_METRICS_DIR"] = directory  # workers find it there
                status = Supervisor(app, settings, listeners, notifier).run()
    except CannotListen as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201  the last words of the program
        status = EX_UNAVAILABLE
    except KeyboardInterrupt:
        status = 128 + signal.SIGINT
    finally:
        if listeners:
            listeners.close()
        notifier.close()
    if status:
        raise SystemExit(status)


def _check_place(settings: Settings) -> None:
    """Raise an error where no program can run."""
    if asyncio._get_running_loop() is not None:  # noqa: SLF001  the public one raises instead of answering
        raise RuntimeError("an event loop is running already: await app.serve(...) in it, instead of app.run(...)")
    if is_worker:
        raise RuntimeError(
            "app.run() was called while a worker imports the app: put it under if __name__ == '__main__':"
        )
    if settings.is_supervised:
        if sys.platform == "win32":
            raise ConfigurationError("workers with a parent need a Unix system")
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("the parent of workers answers signals: call app.run() in the main thread")


def _listeners(settings: Settings, sock: socket.socket | None) -> Listeners:
    if sock:
        return Listeners.wrap([sock])
    return Listeners.open(
        settings.addresses or take_activated() or [(HOST, PORT)],
        workers=settings.workers,
        socket_mode=settings.socket_mode,
        spelling=settings.spelling,
    )


def _serve(app: "Vibora", settings: Settings, listeners: Listeners, notifier: Notifier) -> int:
    """Serve with this process alone; return the exit code."""
    has_terminal = terminal_is_there()
    AccessLog.configure(app, settings)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        server = await app.start(sock=listeners.sockets, debug=settings.debug, **settings.ingress)
        received = 0

        def on_signal(number: int) -> None:
            nonlocal received
            if number == _HANG_UP and (not has_terminal or terminal_is_there()):
                _reload(settings)
                return
            received += 1
            if received == 1:
                logger.info("stopping on %s; once more to hurry", signal.Signals(number).name)
                notifier.stopping()
            server.shutdown(hurry=received > 1)

        with signals(loop, [signal.SIGINT, signal.SIGTERM, *([_HANG_UP] if _HANG_UP else [])], on_signal):
            announce(app, settings, server.sockets)
            notifier.ready()
            pulse = loop.create_task(_beat(notifier)) if notifier.watchdog else None
            await server.wait_stopped()
            if pulse:
                pulse.cancel()
            logger.info("stopped")

    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(main())
    return 0


def _reload(settings: Settings) -> None:
    """Do what SIGHUP can do without a parent."""
    tls = settings.ingress.get("tls")
    if not isinstance(tls, TLS):
        logger.warning("SIGHUP loads the code anew where a parent looks after workers: see --supervise")
        return
    try:
        tls.reload()
    except ConfigurationError as error:
        logger.error("SIGHUP: the certificates stay what they were: %s", error)  # noqa: TRY400  it says what to do


async def _beat(notifier: Notifier) -> NoReturn:
    """Tell the service manager that the loop turns, as often as it wants to hear it."""
    while True:
        notifier.alive()
        await asyncio.sleep(notifier.watchdog or 1)


def terminal_is_there() -> bool:
    """Return whether this process has a terminal. One that had is sent SIGHUP when the terminal is closed."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except (OSError, AttributeError):
        return False
    return True


@contextlib.contextmanager
def signals(loop: asyncio.AbstractEventLoop, numbers: Sequence[int], handle: Callable[[int], None]) -> Generator[None]:
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


def announce(app: "Vibora | None", settings: Settings, sockets: Sequence[socket.socket]) -> None:
    """Log what is served, where and how."""
    scheme = "https" if settings.ingress.get("tls") else "http"
    logger.info(
        "Vibora %s serving %s on %s (%d %s, %s)",
        _core.__version__,
        settings.target or (targets.find(app) if app else None) or "an app",
        " and ".join(url_of(address_of(sock), scheme=scheme) for sock in sockets),
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
