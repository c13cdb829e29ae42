"""The server: an app that is served in a running event loop, and how that stops.

It stops in four steps, each bounded: it stops accepting and closes idle connections; exchanges may end within
`ServerLimits.graceful_timeout`; those left are cancelled; what is still connected is aborted.

`vibora.sockets` makes what it listens on, `vibora.program` is the whole program around it.
"""

import asyncio
import contextlib
import functools
import logging
import socket
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from vibora import _core
from vibora.errors import answer_error
from vibora.limits import ServerLimits
from vibora.sockets import address_of, url_of

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
        self,
        router: _core.Router,
        limits: ServerLimits,
        sockets: Sequence[socket.socket],
        *,
        debug: bool = False,
        app: "Vibora | None" = None,
        clock: _core.ManualClock | None = None,
        on_failure: Callable[[asyncio.Protocol, BaseException], object] | None = None,
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
            app=app,
            proxies=app.trusted_proxies if app else None,
            on_failure=on_failure,
            clock=clock,
        )

    @classmethod
    async def start(
        cls,
        router: _core.Router,
        limits: ServerLimits,
        sockets: Sequence[socket.socket],
        *,
        debug: bool = False,
        app: "Vibora | None" = None,
        clock: _core.ManualClock | None = None,
        on_failure: Callable[[asyncio.Protocol, BaseException], object] | None = None,
    ) -> Self:
        """Start serving. `Vibora.start` is how apps call it.

        Args:
            router: The routes.
            limits: The limits; read once.
            sockets: Bound sockets; the server owns them from now on. Without any it serves what `protocol` is given.
            debug: Show tracebacks to clients.
            app: What `Request.app` is.
            clock: The clock of its deadlines; the system's when omitted. Whoever moves it calls `tick`.
            on_failure: Called with the protocol of the connection and each exception that an exchange of it ends in.
        """
        server = cls(router, limits, sockets, debug=debug, app=app, clock=clock, on_failure=on_failure)
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
        return self._address()[0]

    @property
    def port(self) -> int:
        """The port it listens on: the chosen one, where 0 was asked for."""
        return self._address()[1]

    @property
    def url(self) -> str:
        """Where it is reached, such as `http://127.0.0.1:5000`."""
        return url_of(self._address())

    def _address(self) -> tuple[str, int]:
        if not self._addresses:
            raise RuntimeError("this server listens on no socket")
        return self._addresses[0]

    def protocol(self) -> asyncio.Protocol:
        """Return the protocol of one more connection, for a transport that is not one of its sockets'."""
        return self._core.protocol()

    def next_deadline(self) -> int | None:
        """Return the earliest deadline of its connections, in milliseconds of its clock; None when there is none."""
        return self._core.next_deadline()

    def tick(self) -> None:
        """See to the deadlines that have passed, where its clock is not the system's."""
        self._core.tick()

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
