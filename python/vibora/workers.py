"""A worker: one of the processes that serve an app, and what it and its parent say to each other.

A worker is made by a fork of its parent, which has imported the app, or afresh: then it imports the app itself. It
listens on the sockets of its lane (`vibora.sockets`), and talks to its parent over a socket pair, in lines.

```text
parent to worker   stop              gracefully: nobody listens after it
                   retire            gracefully: somebody else listens on its sockets
                   hurry             now
                   ping              is the loop stuck?
                   adopt LANE COUNT  listen on these sockets too, which come along
                   release LANE      no more
worker to parent   serving JSON      it serves; the limits that concern the parent
                   failing JSON      while developing: the app does not start, and it serves the traceback
                   pong              it is not
                   replace REASON    it has served enough
```

When the parent dies its end closes, and the worker stops: no process is left behind. The worker reads in its event
loop, and only when something comes: the parent asks seldom, and a worker that is idle sleeps in between.
"""

import asyncio
import contextlib
import faulthandler
import json
import logging
import pickle
import random
import signal
import socket
import sys
import traceback
from collections.abc import Sequence
from dataclasses import replace
from types import FrameType
from typing import Final, NoReturn, cast

from vibora import program, targets
from vibora.access import AccessLog
from vibora.app import Vibora
from vibora.exceptions import CannotListen, ConfigurationError
from vibora.limits import ServerLimits
from vibora.program import EX_CONFIG, EX_UNAVAILABLE, configure_logging, loop_factory, signals
from vibora.responses import Response, TextResponse
from vibora.server import Server
from vibora.settings import Settings

logger: Final = logging.getLogger("vibora")

#: The most descriptors that come with one message.
_MOST_SOCKETS: Final = 64
#: How much later than `max_requests` a worker asks for its replacement at most, as a part of it.
_JITTER: Final = 0.1
#: The bytes that say how long a brief is.
_SIZE: Final = 4


def work(source: Vibora | str, settings: Settings, sockets: Sequence[socket.socket], channel: socket.socket) -> int:
    """Be a worker, and return the exit code.

    Args:
        source: The app, or the target to import it from.
        settings: How to serve it.
        sockets: What to listen on.
        channel: The parent.
    """
    program.is_worker = True
    # The terminal sends SIGINT to all; the parent answers it. Not SIG_IGN, which programs started here would inherit.
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, _leave_to_parent)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    configure_logging(settings.log_level)
    if not faulthandler.is_enabled():
        with contextlib.suppress(OSError, ValueError):  # a stderr that is no file
            faulthandler.enable()  # so that a stuck worker says where, when its parent ends it
    copies = [sock.dup() for sock in sockets] if settings.reload else []
    try:
        app = targets.load(source) if isinstance(source, str) else source
        app.server_limits = replace(app.server_limits, **settings.limits)
        AccessLog.configure(app, settings)
        return _serve(app, settings, sockets, channel)
    except (CannotListen, ConfigurationError) as error:
        text = f"error: {error}\n"  # what to do about it is in the message
        status = EX_UNAVAILABLE if isinstance(error, CannotListen) else EX_CONFIG
    except targets.TargetFailed as failed:
        text = "".join(traceback.format_exception(failed.__cause__))
        status = 1
    except Exception:  # noqa: BLE001  it is shown
        text = traceback.format_exc()
        status = 1
    print(text, end="", file=sys.stderr, flush=True)  # noqa: T201  where failures go
    return _serve(_failure(text), settings, copies, channel, "failing") if settings.reload else status


def _failure(text: str) -> Vibora:
    """Return an app that shows a developer why the real one does not start."""
    app = Vibora()

    @app.route("/<*path>", ["GET", "POST", "PUT", "PATCH", "DELETE"])
    async def show() -> Response:  # pyright: ignore[reportUnusedFunction]  it is registered
        return TextResponse(text, 500)

    return app


def _leave_to_parent(number: int, frame: FrameType | None) -> None:
    pass


def _serve(
    app: Vibora, settings: Settings, sockets: Sequence[socket.socket], channel: socket.socket, word: str = "serving"
) -> int:
    async def main() -> int:
        loop = asyncio.get_running_loop()
        server = await app.start(sock=sockets, debug=settings.debug, **settings.ingress)
        parent = _Parent(loop, channel, server)
        if settings.max_requests:
            most = settings.max_requests + random.randint(0, int(settings.max_requests * _JITTER))  # noqa: S311  no secret
            server.call_at(most, lambda: parent.say(f"replace it has answered {most} requests"))
        with signals(loop, [signal.SIGTERM], parent.on_signal):
            limits = {name: getattr(app.server_limits, name) or 0.0 for name in REPORTED}
            parent.say(f"{word} {json.dumps(limits)}")
            parent.listen()
            await server.wait_stopped()
            parent.leave()
        return parent.status

    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(main())


#: The limits that the parent has to know.
REPORTED: Final = ("graceful_timeout", "shutdown_delay", "worker_timeout")


def reported(text: str) -> ServerLimits:
    """Return the limits that a worker reports when it serves."""
    return ServerLimits(**json.loads(text))


class _Parent:
    """The worker's side of the conversation."""

    def __init__(self, loop: asyncio.AbstractEventLoop, channel: socket.socket, server: Server) -> None:
        self.status = 0
        self._loop = loop
        self._channel = channel
        self._server = server
        self._unread = b""
        self._descriptors: list[int] = []
        self._adopted: dict[str, list[socket.socket]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._signals = 0

    def listen(self) -> None:
        self._channel.settimeout(0)
        self._loop.add_reader(self._channel, self._read)

    def leave(self) -> None:
        self._loop.remove_reader(self._channel)

    def say(self, line: str) -> None:
        with contextlib.suppress(OSError):  # it is gone, and reading will tell
            self._channel.send(f"{line}\n".encode())

    def on_signal(self, number: int) -> None:
        """Someone wants to be rid of this one worker: its replacement comes first, unless they insist."""
        self._signals += 1
        if self._signals == 1:
            self.say(f"replace it was sent {signal.Signals(number).name}")
        else:
            self.status = 128 + number
            self._server.shutdown(hurry=self._signals > 2)

    def _read(self) -> None:
        try:
            data, descriptors, _, _ = socket.recv_fds(self._channel, 4096, _MOST_SOCKETS)
        except BlockingIOError:
            return
        except OSError:
            data, descriptors = b"", []
        self._descriptors += descriptors
        if not data:
            self.leave()
            self._server.shutdown()
            return
        *lines, self._unread = (self._unread + data).split(b"\n")
        for line in lines:
            self._obey(*line.decode().split())

    def _obey(self, command: str, *arguments: str) -> None:
        match command:
            case "ping":
                self.say("pong")
            case "stop":
                self._server.shutdown()
            case "retire":
                self._server.retire()
            case "hurry":
                self._server.shutdown(hurry=True)
            case "adopt":
                lane, count = arguments
                taken, self._descriptors = self._descriptors[: int(count)], self._descriptors[int(count) :]
                self._adopted[lane] = [socket.socket(fileno=number) for number in taken]
                task = self._loop.create_task(self._adopt(lane, self._adopted[lane]))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            case "release":
                for sock in self._adopted.pop(arguments[0], []):
                    self._server.unlisten(sock)  # if it listens already
            case _:
                logger.error("the parent says %r, which this worker does not understand", command)

    async def _adopt(self, lane: str, sockets: list[socket.socket]) -> None:
        for sock in sockets:
            await self._server.listen(sock)
        if self._adopted.get(lane) is not sockets:  # it has been released meanwhile
            for sock in sockets:
                self._server.unlisten(sock)


# --- a worker that begins afresh --------------------------------------------------------------------------------------


def brief(settings: Settings, sockets: Sequence[socket.socket]) -> bytes:
    """Return what a fresh worker has to know, as bytes for its channel."""
    # The settings come last: the path has to be there before what they are made of.
    line = pickle.dumps((sys.path, [sock.fileno() for sock in sockets], pickle.dumps(settings)))
    return len(line).to_bytes(_SIZE) + line


def _receive(channel: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = channel.recv(size - len(data))
        if not part:
            sys.exit(0)  # the parent is gone, or does not need this worker any more
        data += part
    return data


def begin(descriptor: int) -> NoReturn:
    """Be a fresh worker: read the brief, and work. `vibora._worker` is the process's main module."""
    channel = socket.socket(fileno=descriptor)
    channel.set_inheritable(False)
    loop_factory()  # imports what takes time, for a worker that is started before it is needed
    size = int.from_bytes(_receive(channel, _SIZE))
    path, numbers, pickled = cast("tuple[list[str], list[int], bytes]", pickle.loads(_receive(channel, size)))  # noqa: S301  ours
    sys.path[:] = path
    settings = cast("Settings", pickle.loads(pickled))  # noqa: S301  ours
    sockets = [socket.socket(fileno=number) for number in numbers]
    for sock in sockets:
        sock.set_inheritable(False)
    if settings.target is None:
        raise AssertionError("a fresh worker imports its app")
    sys.exit(work(settings.target, settings, sockets, channel))
