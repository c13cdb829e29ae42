"""Listening: a socket whose connections are served, and that can be left alone for a while.

The server must not run out of file descriptors: an event loop that cannot accept spins (asyncio), or accepts and closes
at once (uvloop), and the app cannot open a file or a connection of its own. So it stops accepting before: connections
wait in the kernel's queue, and are served when others have ended.
"""

import asyncio
import contextlib
import logging
import socket
import sys
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

logger: Final = logging.getLogger("vibora")

#: Connections that are accepted in one turn of the loop, at most, where the loop can be told.
ACCEPTS: Final = 16
#: Seconds from the end of a connection until the next is accepted, when there were too many.
PAUSE: Final = 0.05
#: Seconds in which connections that are accepted become open.
LET_GO: Final = 0.02
#: Seconds between two warnings that there are too many.
QUIET: Final = 10.0
#: What the app keeps for itself of the files that may be open: an eighth, and no more and no less than this.
RESERVE: Final = (64, 256)


class Listener:
    """A listening socket of a server.

    Args:
        sock: A bound socket. It is the listener's from now on.
        backlog: Connections that the kernel keeps waiting.
        serve: Makes the event loop serve a socket.
    """

    def __init__(
        self, sock: socket.socket, backlog: int, serve: Callable[[socket.socket], Awaitable[asyncio.Server]]
    ) -> None:
        self._sock = sock
        self._backlog = backlog
        self._serve = serve
        self._server: asyncio.Server | None = None
        self._leaving: list[asyncio.Server] = []
        self._closed = False

    async def resume(self) -> None:
        """Accept connections. Does nothing if it does already, or is closed."""
        if not self._is_idle():
            return
        # The loop closes what it was given when it is told to stop. The queue belongs to both.
        server = await self._serve(self._sock.dup())
        if not self._is_idle():
            server.close()
            return
        self._server = server
        # The loop was told a shorter queue, for that is also how many it would accept in one turn.
        self._sock.listen(self._backlog)

    def _is_idle(self) -> bool:
        return self._server is None and not self._closed

    def pause(self) -> None:
        """Accept no more for now: the kernel keeps them waiting."""
        server, self._server = self._server, None
        if server is None:
            return
        self._leaving = [other for other in self._leaving if other.is_serving()]
        loop = asyncio.get_running_loop()
        try:
            is_reader = [loop.remove_reader(sock.fileno()) for sock in server.sockets]
        except (NotImplementedError, RuntimeError):
            is_reader = []
        # asyncio drops connections that it has accepted and not yet made when their server closes: they come first.
        # uvloop has made them, and knows of no reader.
        if any(is_reader):
            self._leaving.append(server)
            loop.call_later(LET_GO, server.close)
        else:
            server.close()

    def close(self) -> None:
        """Listen no more, and close the socket."""
        self._closed = True
        self.pause()
        self._sock.close()

    async def wait_closed(self) -> None:
        """Return when the loop has let go of it."""
        for server in self._leaving:
            await server.wait_closed()


class Gate:
    """Who decides whether listeners accept: closed while there are too many connections.

    Args:
        listeners: Returns the listeners.
        limit: How many connections there may be, for the log.
    """

    def __init__(self, listeners: Callable[[], Iterable[Listener]], limit: int) -> None:
        self._listeners = listeners
        self._limit = limit
        self._loop = asyncio.get_running_loop()
        self._is_full = False
        self._warned = float("-inf")
        self._opening: asyncio.Task[None] | None = None

    def set(self, full: bool) -> None:  # noqa: FBT001  for the core
        """Be told that the last connection there may be is open, or that one of them has ended."""
        self._is_full = full
        if not full:
            self._loop.call_later(PAUSE, self._open)
            return
        # Not from within the callback that has accepted.
        self._loop.call_soon(self._close)
        if self._loop.time() - self._warned > QUIET:
            self._warned = self._loop.time()
            logger.warning("max_connections (%d) are open: no more are accepted until some close", self._limit)

    def _close(self) -> None:
        if self._is_full:
            for listener in self._listeners():
                listener.pause()

    def _open(self) -> None:
        if not self._is_full and (self._opening is None or self._opening.done()):
            self._opening = self._loop.create_task(self._resume(), name="vibora accept")

    async def _resume(self) -> None:
        for listener in list(self._listeners()):
            try:
                await listener.resume()
            except OSError as error:  # no descriptor, not even one
                logger.warning("cannot accept connections, trying again: %s", error)
                self._loop.call_later(1.0, self._open)
                return
        self._close()  # if there have been enough meanwhile


def connection_limit(wanted: int | None) -> int:
    """Return how many connections a process may have.

    Args:
        wanted: What the user says. None leaves it to the number of files that the process may open; a larger number
            than that is not possible.
    """
    files = 1 << 30
    if sys.platform != "win32":
        import resource  # noqa: PLC0415  there is none on Windows

        with contextlib.suppress(ValueError, OSError):
            soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
            files = soft if soft != resource.RLIM_INFINITY else files
    possible = max(1, files - max(RESERVE[0], min(RESERVE[1], files // 8)))
    return possible if wanted is None else min(wanted, possible)
