"""Workers: several processes that serve one app, and the parent that looks after them.

A worker is a process with one event loop. On Linux each listens on a socket of its own (`SO_REUSEPORT`) and the kernel
spreads connections over them; elsewhere they share one listening socket. The parent serves nothing. It

- keeps the port, starts the workers, and fails as a whole when one of them cannot start at first;
- replaces a worker that dies: at once when it had lived, later and later when it keeps dying;
- passes signals on, and kills what has not stopped in time.

A socket pair joins each worker to the parent. The worker writes one byte when it serves; the parent writes one to stop
it, and another to hurry it. When the parent dies its end closes, and the workers stop: no process is left behind.
"""

import contextlib
import logging
import multiprocessing
import multiprocessing.connection
import os
import signal
import socket
import sys
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import TYPE_CHECKING, Final, Literal, cast

from vibora import targets
from vibora.app import Vibora
from vibora.exceptions import CannotListen, ConfigurationError
from vibora.limits import ServerLimits
from vibora.program import Settings, announce, configure_logging, serve_process
from vibora.server import CANCEL_TIMEOUT
from vibora.sockets import bind, bind_again

if TYPE_CHECKING:
    from multiprocessing.context import SpawnContext

logger: Final = logging.getLogger("vibora")

#: Seconds that a worker lives before its death no longer counts as a failure to start.
SETTLED: Final = 10.0
#: Seconds before a worker that died young is replaced. They double each time, up to the second figure.
BACK_OFF: Final = (0.5, 30.0)
#: Seconds beyond `graceful_timeout` after which a worker is killed: its own steps have an end, so it must be stuck.
KILL_AFTER: Final = 3 * CANCEL_TIMEOUT + 2.0

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


@dataclass(slots=True)
class _Worker:
    number: int
    process: BaseProcess
    channel: socket.socket
    born: float
    state: Literal["starting", "serving", "ending"] = "starting"


def supervise(app: Vibora, settings: Settings, sock: socket.socket | None = None) -> None:
    """Serve an app with several processes, until SIGINT or SIGTERM.

    Args:
        app: The app.
        settings: How.
        sock: A bound socket to listen on, in place of the host and the port of the settings.

    Raises:
        CannotListen: If the address is taken, forbidden or not there.
        ConfigurationError: If processes have to import the app here, and it is not known from where.
        SystemExit: If a worker cannot start; with its exit code.
    """
    _Supervisor(app, settings, sock).run()


class _Supervisor:
    def __init__(self, app: Vibora, settings: Settings, sock: socket.socket | None) -> None:
        method = multiprocessing.get_start_method(allow_none=True) or ("fork" if hasattr(os, "fork") else "spawn")
        # Every context has `Process`; the type of their base does not say so.
        self._context = cast("SpawnContext", multiprocessing.get_context(method))
        self._forks = method == "fork"
        self._app = app
        self._settings = replace(settings, target=settings.target or targets.find(app))
        if not self._forks and self._settings.target is None:
            raise ConfigurationError(
                "workers import the app here: run it with `vibora run module:app`, or call app.run() in its module"
            )
        self._shared = sock is not None or sys.platform != "linux"
        self._sockets = [sock] if sock else self._bind()
        self._workers: dict[int, _Worker] = {}
        self._due: dict[int, float] = {}
        self._failures: dict[int, int] = {}
        self._signals: list[int] = []
        self._announced = False
        self._kill_at: float | None = None
        self._status = 0

    def _bind(self) -> list[socket.socket]:
        settings = self._settings
        if self._shared:
            return bind(
                settings.host, settings.port, backlog=self._app.server_limits.backlog, spelling=settings.spelling
            )
        # Others may share a port with us only if they are our workers: it has to be free at first.
        free = bind(settings.host, settings.port, spelling=settings.spelling)
        try:
            port = settings.port or free[0].getsockname()[1]
        finally:
            for sock in free:
                sock.close()
        return bind(settings.host, port, reuse_port=True, spelling=settings.spelling)

    def run(self) -> None:
        wake, self._wake = socket.socketpair()
        before = {number: signal.signal(number, self._on_signal) for number in _SIGNALS}
        try:
            for number in range(1, self._settings.workers + 1):
                self._start(number)
            while self._workers or self._due:
                self._step(wake)
        finally:
            for worker in self._workers.values():  # only after an error of our own
                worker.process.kill()
            for number, handler in before.items():
                signal.signal(number, handler)
            for sock in (wake, self._wake, *self._sockets):
                sock.close()
        if self._status:
            raise SystemExit(self._status)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002  how `signal` calls it
        self._signals.append(number)
        self._wake.send(b"s")

    def _start(self, number: int) -> None:
        ours, theirs = socket.socketpair()
        ends = [worker.channel for worker in self._workers.values()]
        process = self._context.Process(
            target=_work,
            name=f"vibora worker {number}",
            # A fork has the app already, and copies of sockets that are none of its business.
            args=(self._app if self._forks else self._settings.target, self._settings, self._sockets),
            kwargs={
                "limits": self._app.server_limits,
                "shared": self._shared,
                "parent": theirs,
                "strange": [ours, *ends] if self._forks else [],
            },
        )
        with _blocked_signals():
            process.start()
        theirs.close()
        self._workers[number] = _Worker(number, process, ours, time.monotonic())

    def _step(self, wake: socket.socket) -> None:
        """Wait until something happens, and see to it."""
        times = [*self._due.values(), *([self._kill_at] if self._kill_at else [])]
        timeout = max(0.0, min(times) - time.monotonic()) if times else None
        channels = [worker.channel for worker in self._workers.values() if worker.state == "starting"]
        sentinels = [worker.process.sentinel for worker in self._workers.values()]
        ready = multiprocessing.connection.wait([wake, *channels, *sentinels], timeout)
        if wake in ready:
            wake.recv(4096)
            self._stop()
        for worker in list(self._workers.values()):
            if worker.state == "starting" and worker.channel in ready:
                worker.state = "ending"
                with contextlib.suppress(ConnectionError):  # it died with something unread
                    worker.state = "serving" if worker.channel.recv(1) else "ending"
            if worker.process.sentinel in ready:
                self._bury(worker)
        serving = sum(worker.state == "serving" for worker in self._workers.values())
        if not self._announced and serving == self._settings.workers:
            self._announced = True
            announce(self._app, self._settings, self._sockets)
        now = time.monotonic()
        for number in [number for number, due in self._due.items() if due <= now]:
            del self._due[number]
            self._start(number)
        if self._kill_at and now >= self._kill_at:
            self._kill()

    def _stop(self) -> None:
        """Stop the workers: gracefully on the first signal, faster on the second, at once on the third."""
        self._due.clear()
        graceful = self._app.server_limits.graceful_timeout or 0.0
        match self._signals:
            case [number]:
                logger.info("stopping on %s; once more to hurry", signal.Signals(number).name)
            case [_, _]:
                graceful = 0.0
            case [_, _, *_]:
                self._kill()
                return
            case _:  # the app has asked
                pass
        self._kill_at = time.monotonic() + graceful + KILL_AFTER
        for worker in self._workers.values():
            with contextlib.suppress(OSError):  # it is gone already
                worker.channel.send(b"s")

    def _kill(self) -> None:
        for worker in self._workers.values():
            logger.warning("worker %d (pid %d) does not stop: killed", worker.number, worker.process.pid)
            worker.process.kill()
        self._kill_at = time.monotonic() + KILL_AFTER

    def _bury(self, worker: _Worker) -> None:
        """See to a worker that has ended."""
        worker.process.join()
        code = worker.process.exitcode or 0
        pid = worker.process.pid
        worker.process.close()
        worker.channel.close()
        del self._workers[worker.number]
        if self._kill_at is not None:
            return
        if code == 0:  # the app has called `shutdown`
            self._stop()
            return
        end = f"ended with exit code {code}" if code > 0 else f"was killed by {signal.Signals(-code).name}"
        if not self._announced:
            logger.error("worker %d (pid %d) %s before it could serve", worker.number, pid, end)
            self._status = code if code > 0 else 128 - code
            self._stop()
            return
        now = time.monotonic()
        failures = 0 if now - worker.born >= SETTLED else self._failures.get(worker.number, 0) + 1
        self._failures[worker.number] = failures
        delay = min(BACK_OFF[0] * 2 ** (failures - 1), BACK_OFF[1]) if failures else 0.0
        logger.error("worker %d (pid %d) %s; a new one starts in %g s", worker.number, pid, end, delay)
        self._due[worker.number] = now + delay


@contextlib.contextmanager
def _blocked_signals() -> Generator[None]:
    """Hold signals back while a process starts, so that none finds it with the handlers of its parent."""
    if sys.platform == "win32":
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _leave_to_parent(number: int, frame: FrameType | None) -> None:
    pass


def _work(
    source: Vibora | str,
    settings: Settings,
    sockets: Sequence[socket.socket],
    *,
    limits: ServerLimits,
    shared: bool,
    parent: socket.socket,
    strange: Sequence[socket.socket],
) -> None:
    """Be a worker: the process's main function."""
    # The terminal sends SIGINT to all; the parent answers it. Not SIG_IGN, which programs started here would inherit.
    signal.signal(signal.SIGINT, _leave_to_parent)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if sys.platform != "win32":
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    for sock in strange:
        sock.close()
    configure_logging(settings.log_level)
    try:
        app = targets.load(source) if isinstance(source, str) else source
        app.server_limits = limits
        stopped_by = serve_process(
            app,
            sockets if shared else [bind_again(sock) for sock in sockets],
            debug=settings.debug,
            started=lambda _: parent.send(b"+"),
            parent=parent,
        )
    except CannotListen as error:
        logger.error("%s", error)  # noqa: TRY400  what to do about it is in the message, not in a traceback
        raise SystemExit(1) from None
    if stopped_by is not None:
        raise SystemExit(128 + stopped_by)
