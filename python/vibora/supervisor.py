"""The parent of workers: starts them, looks after them, replaces them, and stops them.

It serves nothing, and holds what must outlive a worker: the listening sockets. It

- starts one worker, and the others when that one serves; fails as a whole when one of them cannot start at first;
- replaces a worker that dies: at once when it had lived, later and later when it keeps dying. Until then another one
  listens on its sockets;
- asks each worker three times per `ServerLimits.worker_timeout` whether its event loop turns, and kills one that has
  not answered for so long;
- replaces workers that ask for it (`max_requests`), that have grown too large (`max_rss`) or, on SIGHUP, all of them,
  one after the other and with new code: the replacement serves before the old one stops listening, on the same
  sockets, so that no connection is lost;
- passes signals on, and kills what has not stopped in time.
"""

import contextlib
import logging
import os
import selectors
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import Final, Literal

from vibora import processes, targets, workers
from vibora.app import Vibora
from vibora.exceptions import ConfigurationError
from vibora.limits import ServerLimits
from vibora.notify import Notifier
from vibora.program import announce, terminal_is_there
from vibora.reload import Watcher
from vibora.server import CANCEL_TIMEOUT
from vibora.settings import Settings
from vibora.sockets import Listeners

logger: Final = logging.getLogger("vibora")

#: Seconds that a worker lives before its death no longer counts as a failure to start.
SETTLED: Final = 10.0
#: Seconds before a worker that died young is replaced. They double each time, up to the second figure.
BACK_OFF: Final = (0.5, 30.0)
#: Seconds beyond its own limits after which a worker that stops is killed: its steps have an end, so it must be stuck.
KILL_AFTER: Final = 3 * CANCEL_TIMEOUT + 2.0
#: Seconds that a stuck worker has to say where it is stuck.
LAST_WORDS: Final = 1.0
#: How often a worker is asked whether it is stuck, during its `worker_timeout`.
PINGS: Final = 3
#: Seconds between two looks at the memory of the workers, where it is limited.
RSS_INTERVAL: Final = 1.0
#: Seconds that this process may be late before it was stopped itself, and no worker is to blame.
LATE: Final = 0.5
#: Seconds that a worker has to stop when the app's files have changed.
RELOAD_TIMEOUT: Final = 2.0
#: The byte that wakes the parent when files have changed; signals wake it with their numbers.
CHANGED: Final = 0

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD)


@dataclass(slots=True, eq=False)
class _Worker:
    lane: int
    process: processes.Process
    channel: socket.socket
    is_fresh: bool
    born: float = field(default_factory=time.monotonic)
    state: Literal["starting", "serving", "ending"] = "starting"
    replaces: "_Worker | None" = None
    unread: bytes = b""
    asked: float | None = None
    patience: float = 0.0
    kill_at: float | None = None
    size: int = 0
    adopted: set[int] = field(default_factory=set[int])

    def __str__(self) -> str:
        return f"worker {self.lane + 1} (pid {self.process.pid})"

    def say(self, line: str, sockets: Sequence[socket.socket] = ()) -> None:
        with contextlib.suppress(OSError):  # it is gone, or does not listen: then it will be found stuck
            socket.send_fds(self.channel, [f"{line}\n".encode()], [sock.fileno() for sock in sockets])

    def ask(self, patience: float) -> None:
        """Ask whether its event loop turns; it has so many seconds to answer."""
        self.asked, self.patience = time.monotonic(), patience
        self.say("ping")

    def send_signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.process.pid, number)


class Supervisor:
    """The parent of workers.

    Args:
        app: The app; None if only workers import it.
        settings: How it is served.
        listeners: What they listen on; whoever made them closes them.
        notifier: The service manager.

    Raises:
        ConfigurationError: If workers have to import the app, and it is not known from where.
    """

    def __init__(self, app: Vibora | None, settings: Settings, listeners: Listeners, notifier: Notifier) -> None:
        self._app = app
        target = settings.target or (targets.find(app) if app else None)
        self._settings = replace(settings, target=target)
        self._is_fresh = app is None or settings.reload or processes.start_method() == "spawn"
        if target and threading.active_count() > 1:
            self._is_fresh = True  # a fork would have locks that threads hold, and not the threads
        if self._is_fresh and target is None:
            raise ConfigurationError(
                "workers import the app here: run it with `vibora run module:app`, or call app.run() in its module"
            )
        if settings.max_rss and not Path("/proc/self/statm").exists():
            raise ConfigurationError("max_rss needs /proc, which this system does not have")
        self._listeners = listeners
        self._notifier = notifier
        self._limits = app.server_limits if app else ServerLimits()
        self._workers: list[_Worker] = []
        self._due: dict[int, float] = {}
        self._later: dict[int, tuple[float, str]] = {}
        self._failures: dict[int, int] = {}
        self._queue: deque[tuple[int, str]] = deque()
        self._rolling: float | None = None
        self._announced = False
        self._stops: int | None = None
        self._status = 0
        self._next_ping = self._next_look = self._next_pulse = time.monotonic()
        self._watcher: Watcher | None = None
        self._spare: _Worker | None = None
        self._changed: float | None = None
        self._selector = selectors.DefaultSelector()
        self._has_terminal = terminal_is_there()

    # --- the loop -----------------------------------------------------------------------------------------------------

    def run(self) -> int:
        """Serve until it is over, and return the exit code."""
        self._wake, self._alarm = socket.socketpair()
        self._wake.settimeout(0)
        self._alarm.settimeout(0)
        self._selector.register(self._wake, selectors.EVENT_READ)
        before = {number: signal.signal(number, _do_nothing) for number in _SIGNALS}
        before_wake = signal.set_wakeup_fd(self._alarm.fileno(), warn_on_full_buffer=False)
        try:
            if self._settings.reload:
                self._watcher = Watcher(self._watched(), self._alarm, bytes([CHANGED]))
            self._start(0)
            while self._workers or self._due or (self._settings.reload and self._stops is None):
                self._step()
        finally:
            if self._watcher:
                self._watcher.stop()
            if self._spare:
                self._spare.send_signal(signal.SIGKILL)
                self._spare.process.poll()
            for worker in self._workers:  # only after an error of our own
                worker.send_signal(signal.SIGKILL)
            signal.set_wakeup_fd(before_wake)
            for number, handler in before.items():
                signal.signal(number, handler)
            self._selector.close()
            self._alarm.close()
            self._wake.close()
        return self._status

    def _step(self) -> None:
        """Wait until something happens, and see to it."""
        now = time.monotonic()
        due = min(self._times(), default=None)
        ready = self._selector.select(None if due is None else max(0.0, due - now))
        now = time.monotonic()
        if due is not None and now - due > LATE:
            for worker in self._workers:
                if worker.asked is not None:
                    worker.asked += now - due
        for key, _ in ready:
            if key.fileobj is self._wake:
                self._wake_up(self._wake.recv(4096))
            else:
                self._hear(key.data)
        for worker in list(self._workers):
            if (code := worker.process.poll()) is not None:
                self._hear(worker)  # its last words may say more than its exit code
                self._bury(worker, code)
        self._start_what_is_due(now)
        self._look_after(now)

    def _times(self) -> Generator[float]:
        yield from self._due.values()
        yield from (due for due, _ in self._later.values())
        for worker in self._workers:
            if worker.kill_at is not None:
                yield worker.kill_at
            if worker.asked is not None:
                yield worker.asked + worker.patience
        if self._stops is None and self._announced:
            if self._patience:
                yield self._next_ping
            if self._settings.max_rss:
                yield self._next_look
        if self._notifier.watchdog:
            yield self._next_pulse

    def _wake_up(self, reasons: bytes) -> None:
        for reason in reasons:
            if reason in (signal.SIGINT, signal.SIGTERM):
                self._stop(signal.Signals(reason).name)
            elif reason == signal.SIGHUP:
                if self._has_terminal and not terminal_is_there():
                    self._stop("SIGHUP: the terminal is gone")
                else:
                    self._roll()
            elif reason == CHANGED and self._watcher:
                self._reload(self._watcher.take())

    @property
    def _patience(self) -> float:
        """Seconds that a worker may be stuck; 0 for no limit, as where a debugger may hold it."""
        return 0.0 if self._settings.debug else self._limits.worker_timeout or 0.0

    # --- starting -----------------------------------------------------------------------------------------------------

    def _start(self, lane: int, replaces: _Worker | None = None, *, fresh: bool = False) -> None:
        is_fresh = fresh or self._is_fresh
        sockets = self._listeners.lane(lane)
        worker, self._spare = self._spare or self._make(lane, sockets, is_fresh=is_fresh), None
        worker.born = time.monotonic()
        worker.replaces = replaces
        if is_fresh:
            with contextlib.suppress(OSError):  # it has died already
                worker.channel.sendall(workers.brief(self._settings, sockets))
        worker.channel.settimeout(0)
        self._workers.append(worker)
        self._selector.register(worker.channel, selectors.EVENT_READ, worker)

    def _make(self, lane: int, sockets: Sequence[socket.socket], *, is_fresh: bool) -> _Worker:
        ours, theirs = socket.socketpair()
        descriptors = [theirs.fileno(), *(sock.fileno() for sock in sockets)]
        with processes.blocked(_SIGNALS):
            if is_fresh:
                process = processes.spawn("vibora._worker", str(theirs.fileno()), descriptors=descriptors)
            else:
                process = processes.fork(lambda: self._be_forked(sockets, ours, theirs))
        theirs.close()
        return _Worker(lane, process, ours, is_fresh)

    def _be_forked(self, sockets: Sequence[socket.socket], ours: socket.socket, theirs: socket.socket) -> int:
        """Go on as a worker, in its process."""
        if self._app is None:
            raise AssertionError("a worker that is forked has its app")
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._selector.close()
        strange = {sock for lane in self._listeners.lanes for sock in lane} - set(sockets)
        for sock in (*strange, ours, self._wake, self._alarm, *(worker.channel for worker in self._workers)):
            sock.close()
        self._notifier.close()
        return workers.work(self._app, self._settings, sockets, theirs)

    def _start_what_is_due(self, now: float) -> None:
        if self._stops is not None:
            return
        for lane in [lane for lane, due in self._due.items() if due <= now]:
            del self._due[lane]
            self._start(lane)
        for lane in [lane for lane, (due, _) in self._later.items() if due <= now]:
            self._replace(lane, self._later.pop(lane)[1])
        if not self._queue or any(worker.replaces for worker in self._workers):
            return
        lane, reason = self._queue[0]
        old = self._serving(lane)
        if old is None and lane not in self._due:
            return  # one has died, and another one starts: that one is replaced when it serves
        self._queue.popleft()
        self._due.pop(lane, None)
        if old:
            logger.info("%s is replaced: %s", old, reason)
        self._start(lane, old, fresh=self._rolling is not None and self._settings.target is not None)

    # --- hearing ------------------------------------------------------------------------------------------------------

    def _hear(self, worker: _Worker) -> None:
        try:
            data = worker.channel.recv(4096)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            # It has ended, which SIGCHLD tells, or is about to.
            with contextlib.suppress(KeyError):
                self._selector.unregister(worker.channel)
            return
        *lines, worker.unread = (worker.unread + data).split(b"\n")
        for line in lines:
            word, _, rest = line.decode().partition(" ")
            if word == "pong":
                worker.asked = None
            elif word in {"serving", "failing"}:
                if word == "failing":
                    logger.error("the app does not start; it is tried again when a file changes")
                    self._changed = None
                self._serves(worker, workers.reported(rest))
            elif word == "replace" and worker.state == "serving":
                self._replace(worker.lane, rest)

    def _serves(self, worker: _Worker, limits: ServerLimits) -> None:
        if self._stops is not None or worker.state != "starting":
            return
        worker.state = "serving"
        self._limits = limits
        if worker.replaces:
            self._is_fresh = worker.is_fresh  # the code that works is the code of replacements
            self._retire(worker.replaces)
            worker.replaces = None
        self._share_lanes()
        if not self._announced:
            missing = set(range(self._settings.workers)) - {one.lane for one in self._workers}
            for lane in sorted(missing):
                self._start(lane)
            if sum(one.state == "serving" for one in self._workers) == self._settings.workers:
                self._announced = True
                announce(self._app, self._settings, self._listeners.sockets)
                self._notifier.ready()
        self._end_roll()
        if self._settings.reload:
            if self._changed is not None:
                logger.info("serving again, after %.2f s", time.monotonic() - self._changed)
                self._changed = None
            # An interpreter that waits with all it needs but the app makes the next start a quick one.
            self._spare = self._make(0, self._listeners.lane(0), is_fresh=True)

    def _serving(self, lane: int) -> _Worker | None:
        return next((one for one in self._workers if one.lane == lane and one.state == "serving"), None)

    def _share_lanes(self) -> None:
        """Have each lane listened on: by its own worker, or by another one while that is gone."""
        if len(self._listeners.lanes) == 1 or not self._announced or self._stops is not None:
            return
        first, second = (set(lane) for lane in self._listeners.lanes[:2])
        shared = first & second
        able = [worker for worker in self._workers if worker.state == "serving"]
        for lane in range(len(self._listeners.lanes)):
            keepers = [worker for worker in able if lane in worker.adopted]
            if self._serving(lane):
                for worker in keepers:
                    worker.adopted.remove(lane)
                    worker.say(f"release {lane}")
            elif able and not keepers:
                worker = min(able, key=lambda one: len(one.adopted))
                sockets = [sock for sock in self._listeners.lanes[lane] if sock not in shared]
                worker.adopted.add(lane)
                worker.say(f"adopt {lane} {len(sockets)}", sockets)

    # --- replacing ----------------------------------------------------------------------------------------------------

    def _replace(self, lane: int, reason: str) -> None:
        if self._stops is not None or any(lane == queued for queued, _ in self._queue):
            return
        if any(worker.lane == lane and worker.replaces for worker in self._workers):
            return
        self._queue.append((lane, reason))

    def _roll(self) -> None:
        """Replace all workers, one after the other."""
        if self._stops is not None or not self._announced:
            return
        if self._settings.target is None:
            logger.warning("SIGHUP: workers keep the code of the start: run the app with `vibora run module:app`")
        logger.info("SIGHUP: replacing %d %s", self._settings.workers, _workers(self._settings.workers))
        self._notifier.reloading()
        self._rolling = time.monotonic()
        self._queue = deque((lane, "SIGHUP") for lane in range(self._settings.workers))

    def _end_roll(self) -> None:
        if self._rolling is None or self._queue or any(worker.replaces for worker in self._workers):
            return
        logger.info("SIGHUP: replaced all workers in %.1f s", time.monotonic() - self._rolling)
        self._rolling = None
        self._notifier.ready()

    def _watched(self) -> list[Path]:
        if self._settings.reload_dirs:
            return [Path(directory) for directory in self._settings.reload_dirs]
        source = (self._settings.target or "").rpartition(":")[0]
        return [Path.cwd(), *([Path(source).absolute().parent] if source.endswith(".py") else [])]

    def _reload(self, files: Sequence[str]) -> None:
        """Replace the worker: here the old one ends first, since it may hold what the new one needs."""
        if self._stops is not None or not files:
            return
        more = f" and {len(files) - 3} more" if len(files) > 3 else ""
        logger.info("%s%s changed: starting anew", ", ".join(files[:3]), more)
        self._changed = now = time.monotonic()
        for worker in self._workers:
            if worker.state == "starting":
                worker.send_signal(signal.SIGKILL)
            elif worker.state == "serving":
                worker.say("hurry")
                worker.kill_at = now + RELOAD_TIMEOUT
            worker.state = "ending"
        if not self._workers:
            self._due[0] = now

    def _bury_reloaded(self, worker: _Worker, end: str, code: int) -> None:
        if worker.state == "ending":
            self._due[0] = time.monotonic()
        elif worker.state == "serving" and code == 0:
            self._stop("shutdown()")
        else:
            logger.error("%s %s; it starts again when a file changes", worker, end)

    def _retire(self, worker: _Worker) -> None:
        worker.state = "ending"
        self._end(worker, "retire")

    def _end(self, worker: _Worker, command: str) -> None:
        """Have a worker stop, and be sure that it does: hooks, exchanges and clean-up each have their time."""
        graceful = self._limits.graceful_timeout or 0.0
        delay = self._limits.shutdown_delay or 0.0 if command == "stop" else 0.0
        worker.say(command)
        if command == "hurry":
            graceful = 0.0
        worker.kill_at = time.monotonic() + delay + 3 * graceful + KILL_AFTER
        worker.ask(graceful + KILL_AFTER)  # one that is stuck does not get all of that

    def _look_after(self, now: float) -> None:
        for worker in self._workers:
            if worker.kill_at is not None and now >= worker.kill_at:
                logger.warning("%s does not stop: killed", worker)
                worker.send_signal(signal.SIGKILL)
                worker.kill_at = now + KILL_AFTER
            elif worker.asked is not None and now >= worker.asked + worker.patience:
                logger.error(
                    "%s is stuck: its event loop has not turned for %.1f s; killed", worker, now - worker.asked
                )
                worker.asked = None
                worker.state = "ending"
                worker.send_signal(signal.SIGABRT)
                worker.kill_at = now + LAST_WORDS
                self._share_lanes()
        if self._notifier.watchdog and now >= self._next_pulse:
            self._notifier.alive()
            self._next_pulse = now + self._notifier.watchdog
        if self._stops is None and self._announced:
            self._examine(now)

    def _examine(self, now: float) -> None:
        """Ask the workers whether they are stuck, and see how large they are, when it is time to."""
        serving = [worker for worker in self._workers if worker.state == "serving"]
        if self._patience and now >= self._next_ping:
            self._next_ping = now + self._patience / PINGS
            for worker in serving:
                if worker.asked is None:
                    worker.ask(self._patience)
        if self._settings.max_rss and now >= self._next_look:
            self._next_look = now + RSS_INTERVAL
            for worker in serving:
                used = processes.memory(worker.process.pid)
                if worker.size == 0:
                    worker.size = used
                    if used > self._settings.max_rss:
                        logger.warning("%s uses %d MiB from the start: max_rss is too small", worker, used >> 20)
                elif used > self._settings.max_rss > worker.size:
                    self._replace(worker.lane, f"it uses {used >> 20} MiB")

    # --- ending -------------------------------------------------------------------------------------------------------

    def _stop(self, reason: str | None) -> None:
        """Stop the workers: gracefully the first time, faster the second, at once the third."""
        self._stops = (self._stops or 0) + 1
        self._due.clear()
        self._later.clear()
        self._queue.clear()
        if self._stops == 1:
            if reason:
                logger.info("stopping on %s; once more to hurry", reason)
            self._notifier.stopping()
            self._listeners.let_go()
        for worker in self._workers:
            if self._stops > 2:
                worker.kill_at = time.monotonic()
            elif worker.state == "starting":
                worker.kill_at = time.monotonic() + KILL_AFTER
                worker.send_signal(signal.SIGTERM)
            else:
                self._end(worker, "stop" if self._stops == 1 else "hurry")

    def _bury(self, worker: _Worker, code: int) -> None:
        """Put a worker that has ended out of the books, and see to what follows."""
        with contextlib.suppress(KeyError):
            self._selector.unregister(worker.channel)
        worker.channel.close()
        self._workers.remove(worker)
        for other in self._workers:
            if other.replaces is worker:
                other.replaces = None
        end = f"ended with exit code {code}" if code >= 0 else f"was killed by {signal.Signals(-code).name}"
        if self._stops is not None:
            if not self._workers:
                logger.info("stopped")
        elif self._settings.reload:
            self._bury_reloaded(worker, end, code)
        elif not self._announced:
            self._fail(worker, end, code)
        elif worker.state == "starting" and worker.replaces:
            logger.error("%s %s before it could serve; %s goes on", worker, end, worker.replaces)
            if self._rolling is None:
                self._later[worker.lane] = time.monotonic() + BACK_OFF[1], "once more"
            self._abandon_roll()
        elif worker.state == "serving" and code == 0:  # the app has called `shutdown`
            self._stop("shutdown()")
        else:
            self._succeed(worker, end, code)

    def _fail(self, worker: _Worker, end: str, code: int) -> None:
        """End as a whole: a worker could not start, or did not want to serve."""
        if code or worker.state == "starting":
            logger.error("%s %s before it could serve", worker, end)
            self._status = code if code > 0 else 128 - code if code < 0 else 1
        self._stop(None)

    def _succeed(self, worker: _Worker, end: str, code: int) -> None:
        """See to it that a worker has a successor."""
        others = [one for one in self._workers if one.lane == worker.lane and one.state != "ending"]
        if others or worker.lane in self._due:
            if code:
                logger.warning("%s %s", worker, end)
            return
        now = time.monotonic()
        failures = 0 if now - worker.born >= SETTLED else self._failures.get(worker.lane, 0) + 1
        self._failures[worker.lane] = failures
        delay = min(BACK_OFF[0] * 2 ** (failures - 1), BACK_OFF[1]) if failures else 0.0
        logger.error("%s %s; a new one starts in %g s", worker, end, delay)
        self._due[worker.lane] = now + delay
        self._share_lanes()
        self._end_roll()

    def _abandon_roll(self) -> None:
        self._queue.clear()
        if self._rolling is not None:
            logger.error("SIGHUP: the other workers go on with the code they have")
            self._rolling = None
            self._notifier.ready()


def _do_nothing(number: int, frame: FrameType | None) -> None:
    """Let the signal wake the parent."""


def _workers(count: int) -> str:
    return "worker" if count == 1 else "workers"
