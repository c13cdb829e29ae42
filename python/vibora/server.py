"""The server: an app that is served in a running event loop, and how that stops.

It stops in steps, each bounded and logged. The app's hooks are called. It is not ready any more, and goes on for
`ServerLimits.shutdown_delay`. It accepts what is waiting, and then nothing. Connections get a last response, and close
when they are idle; exchanges may end within `ServerLimits.graceful_timeout`. Those left are cancelled; what is still
connected is aborted. Then background tasks end, and the app's components are cleaned up.

`vibora.sockets` makes what it listens on, `vibora.program` is the whole program around it.
"""

import asyncio
import contextlib
import errno
import logging
import selectors
import socket
import ssl
import threading
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self, Unpack

from vibora import _core
from vibora.exceptions import CannotListen
from vibora.ingress import Ingress, check
from vibora.listening import ACCEPTS, Gate, Listener, connection_limit
from vibora.runtime import Runtime
from vibora.sockets import address_of, tune, url_of
from vibora.tls import TLS, context_of

if TYPE_CHECKING:
    from vibora.app import Vibora

logger: Final = logging.getLogger("vibora")

#: Seconds for which connections without a request stay open when the server stops: a request that is on its way to us
#: is still answered, and a client whose next one follows its last response closely never finds a closed connection. One
#: that is replaced has more time: half of the graceful timeout.
IDLE_GRACE: Final = 0.3
#: Seconds that the kernel's queue of connections may take to be accepted when the server stops.
ACCEPT_TIMEOUT: Final = 0.25
#: Seconds that cancelled exchanges have to clean up, and then aborted connections to go away.
CANCEL_TIMEOUT: Final = 1.0
#: Seconds that the last lines of the access log may take to be written.
LOG_TIMEOUT: Final = 1.0


class Server:
    """An app that is being served in the running event loop. `Vibora.start` makes one.

    As an async context manager it stops at the end of the block.

    Attributes:
        sockets: The sockets it listens on.
    """

    def __init__(
        self,
        app: "Vibora",
        runtime: Runtime,
        sockets: Sequence[socket.socket],
        *,
        clock: _core.ManualClock | None = None,
        on_failure: Callable[[asyncio.Protocol, BaseException], object] | None = None,
        **ingress: Unpack[Ingress],
    ) -> None:
        tls, proxy_protocol = ingress.get("tls"), ingress.get("proxy_protocol")
        self._ssl = tls if isinstance(tls, ssl.SSLContext) else None
        self._is_encrypted = tls is not None
        self.sockets: Final = tuple(sockets)
        self._addresses: Final = [address_of(sock) for sock in sockets]  # a closed socket does not tell
        self._limits: Final = app.server_limits
        self._runtime: Final = runtime
        self._loop = asyncio.get_running_loop()
        self._listeners: dict[socket.socket, Listener] = {}
        self._is_retired = False
        self._clean_ups: list[Callable[[], object]] = []
        self._hurried: asyncio.Future[None] = self._loop.create_future()
        self._stopping: asyncio.Task[None] | None = None
        self._stopped = asyncio.Event()
        most = connection_limit(self._limits.max_connections)
        self._gate = Gate(self._listeners.values, most)
        self._access = app.access_log.start(self._loop) if app.access_log else None
        self._core = _core.Server(
            self._loop,
            runtime.router,
            on_error=runtime.answer,
            limits=self._limits,
            logger=logger,
            app=app,
            proxies=app.trusted_proxies,
            on_failure=on_failure,
            clock=clock,
            intercept=runtime.intercepts,
            on_sent=runtime.sent if runtime.observes else None,
            tls=context_of(tls) if isinstance(tls, TLS) else None,
            proxy_protocol=proxy_protocol or None,
            max_connections=most,
            on_pressure=self._gate.set,
            access=self._access,
            metrics=runtime.counters.core if runtime.counters else None,
        )

    @classmethod
    async def start(
        cls,
        app: "Vibora",
        sockets: Sequence[socket.socket],
        *,
        debug: bool = False,
        clock: _core.ManualClock | None = None,
        on_failure: Callable[[asyncio.Protocol, BaseException], object] | None = None,
        **ingress: Unpack[Ingress],
    ) -> Self:
        """Start serving. `Vibora.start` is how apps call it.

        Args:
            app: The app.
            sockets: Bound sockets; the server owns them from now on. Without any it serves what `protocol` is given.
            debug: Show tracebacks to clients.
            clock: The clock of its deadlines; the system's when omitted. Whoever moves it calls `tick`.
            on_failure: Called with the protocol of the connection and each exception that nobody answers for.
            **ingress: `Ingress` describes them.

        Raises:
            ConfigurationError: If a route, a hook or a provider asks for what there is not, or if what stands in front
                of HTTP makes no sense, or the access log cannot be opened.
        """
        runtime = Runtime(app, debug=debug)
        try:
            check(ingress)
            await runtime.start()
            try:
                server = cls(app, runtime, sockets, clock=clock, on_failure=on_failure, **ingress)
            except BaseException:
                await runtime.stop(app.server_limits.graceful_timeout or 0, asyncio.get_running_loop().create_future())
                raise
        except BaseException:
            for sock in sockets:
                sock.close()
            raise
        try:
            await server._listen()
            await runtime.started()
        except BaseException:
            await server.stop(hurry=True)
            raise
        return server

    async def _listen(self) -> None:
        try:
            for sock in self.sockets:
                await self.listen(sock)
        except BaseException as error:
            for sock in self.sockets:
                sock.close()
            if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:  # somebody was quicker
                raise CannotListen(error.errno, f"cannot listen on {self.url}: {error.strerror}") from None
            raise

    async def listen(self, sock: socket.socket) -> None:
        """Listen on one more socket, bound or listening; the server owns it from now on."""
        tune(sock)
        listener = Listener(sock, self._limits.backlog, self._accept)
        await listener.resume()
        self._listeners[sock] = listener
        if self._stopping:
            listener.close()

    async def _accept(self, sock: socket.socket) -> asyncio.Server:
        return await self._loop.create_server(
            self._core.protocol,
            sock=sock,
            backlog=min(self._limits.backlog, ACCEPTS),
            ssl=self._ssl,
            ssl_handshake_timeout=(self._limits.head_timeout or None) if self._ssl else None,
        )

    def unlisten(self, sock: socket.socket) -> None:
        """Listen no more on a socket, and close it; its connections stay."""
        if listener := self._listeners.pop(sock, None):
            listener.close()

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
        return url_of(self._address(), scheme="https" if self._is_encrypted else "http")

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

    @property
    def is_ready(self) -> bool:
        """Whether it should be sent requests: it serves, and is not about to stop."""
        return self._stopping is None or self._is_retired

    def call_at(self, requests: int, callback: Callable[[], object]) -> None:
        """Have a callback called in the loop, once, when so many requests have been answered.

        Args:
            requests: How many, from the start.
            callback: What is called.
        """
        self._core.call_at(requests, callback)

    def call_when_stopped(self, callback: Callable[[], object]) -> None:
        """Have a callback called when nothing is left of it."""
        self._clean_ups.append(callback)

    def retire(self) -> None:
        """Stop gracefully, and at once: others go on listening on the same sockets. For the server's own loop."""
        self._is_retired = self._stopping is None
        self._begin_stop()

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
            await self._call_hooks()
            delay = 0 if self._is_retired or self._hurried.done() else self._limits.shutdown_delay or 0
            if delay:
                logger.info("stopping: not ready any more, serving for another %g s", delay)
                await asyncio.wait({self._hurried}, timeout=delay)
            self._core.begin_shutdown()
            if not self._is_retired:
                await self._accept_waiting()
            for listener in self._listeners.values():
                listener.close()
            drained = self._core.drained()
            graceful = self._limits.graceful_timeout or 0
            until = self._loop.time() + graceful
            if not drained.done():
                logger.info("stopping: accepting no more, %d connections are open", self._core.connections)
                await self._wait(drained, graceful / 2 if self._is_retired else min(IDLE_GRACE, graceful))
            self._core.close_idle()
            await self._wait(drained, until - self._loop.time())
            if not drained.done():
                logger.warning("stopping: cancelled %d exchanges that had not ended", self._core.cancel_exchanges())
                await asyncio.wait({drained}, timeout=CANCEL_TIMEOUT)
            if not drained.done():
                logger.warning("stopping: aborted %d connections", self._core.abort_connections())
                await asyncio.wait({drained}, timeout=CANCEL_TIMEOUT)
            for listener in self._listeners.values():
                # From Python 3.12 on it waits for connections too, and one may have refused to die.
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(listener.wait_closed(), CANCEL_TIMEOUT)
        finally:
            try:
                await self._runtime.stop(self._limits.graceful_timeout or 0, self._hurried)
                await self._close_access_log()
            finally:
                for callback in self._clean_ups:
                    callback()
                self._stopped.set()

    async def _close_access_log(self) -> None:
        log = self._access
        if not isinstance(log, _core.AccessLog):
            return
        closed = asyncio.Event()

        def close() -> None:
            if not log.close(LOG_TIMEOUT):
                logger.warning("stopping: the last lines of the access log could not be written")
            with contextlib.suppress(RuntimeError):  # the loop has ended, too
                self._loop.call_soon_threadsafe(closed.set)

        # A thread of its own: those of the loop may all be held by handlers that do not end.
        threading.Thread(target=close, name="vibora access log", daemon=True).start()
        await closed.wait()

    async def _call_hooks(self) -> None:
        """Call the app's hooks. They have as long as exchanges have to end; in a hurry, a second."""
        if not self._runtime.wants_stop:
            return
        hooks = self._loop.create_task(self._runtime.stopping(), name="vibora BEFORE_SERVER_STOP")
        timeout = self._limits.graceful_timeout or CANCEL_TIMEOUT
        await asyncio.wait({hooks, self._hurried}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        if self._hurried.done():
            await asyncio.wait({hooks}, timeout=min(timeout, CANCEL_TIMEOUT))
        if not hooks.done():
            logger.warning("stopping: cancelled hooks that had not ended")
            hooks.cancel()
            await asyncio.wait({hooks}, timeout=CANCEL_TIMEOUT)

    async def _wait(self, event: asyncio.Future[None], seconds: float) -> None:
        """Wait for an event, unless it is hurried."""
        await asyncio.wait({event, self._hurried}, timeout=max(0.0, seconds), return_when=asyncio.FIRST_COMPLETED)

    async def _accept_waiting(self) -> None:
        """Accept the connections that the kernel has accepted, before it is told to accept none."""
        until = self._loop.time() + ACCEPT_TIMEOUT
        with selectors.DefaultSelector() as waiting:
            for sock in self._listeners:
                waiting.register(sock, selectors.EVENT_READ)
            while waiting.select(0) and self._loop.time() < until and not self._hurried.done():  # noqa: ASYNC110  they pass
                await asyncio.sleep(0)
