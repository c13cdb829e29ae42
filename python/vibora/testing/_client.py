"""The test client: httpx over connections in memory."""

import asyncio
import contextlib
import contextvars
import ssl
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Literal, Self, TypeVar

import h11
import httpx

from vibora.exceptions import HTTPError
from vibora.program import loop_factory
from vibora.server import Server
from vibora.testing import _memory
from vibora.testing._clock import TestClock, settle
from vibora.testing._memory import WINDOW, AsyncConnection

if TYPE_CHECKING:
    from vibora.app import Vibora

T = TypeVar("T")

Headers = Mapping[str, str]
Version = Literal["HTTP/1.1", "HTTP/1.0"]

#: What `half_open` sends: a request that is never complete.
PART: Final = b"GET / HTTP/1.1\r\nHost: testserver\r\nX-Part: "
#: Seconds that are waited for in real time, unless a test says otherwise.
PATIENCE: Final = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What `Vibora.test_client` takes."""

    headers: Headers | None = None
    cookies: Mapping[str, str] | None = None
    base_url: str = "http://testserver"
    follow_redirects: bool = True
    raise_server_exceptions: bool = True
    client: tuple[str, int] = ("127.0.0.1", 50000)
    http_version: Version = "HTTP/1.1"
    timeout: float | None = PATIENCE
    debug: bool = False
    clock: TestClock | None = None

    def __post_init__(self) -> None:
        if self.http_version not in ("HTTP/1.1", "HTTP/1.0"):
            raise ValueError(f'http_version takes "HTTP/1.1" or "HTTP/1.0", got {self.http_version!r}')


class _Failures:
    """The exceptions in which exchanges have ended, by connection."""

    def __init__(self) -> None:
        self._by_protocol: dict[asyncio.Protocol, BaseException] = {}

    def tell(self, protocol: asyncio.Protocol, error: BaseException) -> None:
        # An answer, even one that says 503, is no failure of the app.
        if not isinstance(error, HTTPError):
            self._by_protocol[protocol] = error

    def take(self, protocol: asyncio.Protocol) -> BaseException | None:
        return self._by_protocol.pop(protocol, None)

    def clear(self) -> None:
        """Forget them, and so the connections, which know the server, which knows this object."""
        self._by_protocol.clear()


class _Network:
    """A server that runs in this loop without sockets, and the way to it."""

    def __init__(self, server: Server, options: Options, failures: _Failures) -> None:
        self.server: Final = server
        self.options: Final = options
        self.failures: Final = failures
        self.context: Final = contextvars.copy_context()
        self._connections: list[AsyncConnection] = []

    @classmethod
    async def start(cls, app: "Vibora", options: Options) -> Self:
        failures = _Failures()
        server = await app.start_server(
            (),
            debug=options.debug,
            clock=options.clock,
            on_failure=failures.tell if options.raise_server_exceptions else None,
        )
        return cls(server, options, failures)

    def connect(self, receive_buffer: int = WINDOW) -> tuple[AsyncConnection, asyncio.Protocol]:
        if self.server.is_stopped:
            raise ConnectionRefusedError("the app is not served any more: the client is closed")
        url = httpx.URL(self.options.base_url)
        extra: dict[str, object] = {
            "peername": self.options.client,
            "sockname": (url.host, url.port or {"https": 443}.get(url.scheme, 80)),
        }
        if url.scheme == "https":  # as far as the app can tell
            extra["sslcontext"] = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        protocol = self.server.protocol()
        connection = _memory.connect(
            protocol,
            context=self.context,
            extra=extra,
            receive_buffer=receive_buffer,
        )
        self._connections = [other for other in self._connections if not other.is_over]
        self._connections.append(connection)
        return connection, protocol

    async def stop(self) -> None:
        """Stop the server, when every client has gone."""
        for connection in self._connections:
            connection.close()
            connection.disconnect()
        self._connections.clear()
        await self.server.stop()
        self.failures.clear()


# --- HTTP over a connection -------------------------------------------------------------------------------------------


class _Channel:
    """A connection that requests are sent over, one after another."""

    def __init__(self, network: _Network) -> None:
        self.connection, self.protocol = network.connect()
        self._network = network
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=1024 * 1024)
        self._sending: asyncio.Task[None] | None = None
        self._send_error: BaseException | None = None

    @property
    def is_idle(self) -> bool:
        """Whether another request can be sent."""
        return self._http.our_state is h11.IDLE and self.connection.is_open and not self.connection.unread

    async def request(self, request: httpx.Request) -> tuple[h11.Response, dict[str, Any]]:
        """Send a request; return the head of the response, and the interim responses before it."""
        timeout = request.extensions.get("timeout", {})
        self._network.failures.take(self.protocol)
        self._send(request, timeout.get("write"))
        read: float | None = timeout.get("read")
        interim: list[tuple[int, list[tuple[bytes, bytes]]]] = []
        while True:
            event = await self._next_event(read)
            if isinstance(event, h11.InformationalResponse):
                interim.append((event.status_code, event.headers.raw_items()))
                continue
            assert isinstance(event, h11.Response), event  # noqa: S101  h11's state machine says so
            break
        if event.status_code >= 500 and (failure := self._network.failures.take(self.protocol)) is not None:
            raise failure
        extensions: dict[str, Any] = {
            "http_version": b"HTTP/" + event.http_version,
            "reason_phrase": event.reason,
            "interim_responses": interim,
            "connection": self.connection,
        }
        return event, extensions

    async def content(self, patience: float | None) -> AsyncGenerator[bytes, None]:
        """Return the response's content, live."""
        while True:
            event = await self._next_event(patience)
            if isinstance(event, h11.Data):
                yield bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                return

    async def finish(self) -> None:
        """Be ready for another request if the exchange is over; else go away, as a client does that had enough."""
        if self._sending is not None and not self._sending.done():
            self._sending.cancel()
            await asyncio.wait([self._sending])
        if self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
            self._http.start_next_cycle()
            self._sending = None
        elif self._http.their_state in (h11.SEND_RESPONSE, h11.SEND_BODY):
            self.connection.disconnect()  # so that the app knows it now, and not with the next chunk
        else:
            self.connection.close()

    def _send(self, request: httpx.Request, timeout: float | None) -> None:
        head = self._http.send(
            h11.Request(method=request.method, target=request.url.raw_path, headers=request.headers.raw)
        )
        assert head is not None  # noqa: S101  None is for a connection that is closed
        if self._network.options.http_version == "HTTP/1.0":
            line, separator, rest = head.partition(b"\r\n")
            if "transfer-encoding" in request.headers:
                raise httpx.LocalProtocolError("HTTP/1.0 has no chunked content: give it a content-length")
            head = line.removesuffix(b"1.1") + b"1.0" + separator + rest
        if isinstance(request.stream, httpx.ByteStream):
            content = b"".join(request.stream)
            data = head + (self._http.send(h11.Data(data=content)) or b"" if content else b"")
            data += self._http.send(h11.EndOfMessage()) or b""
            pieces = _whole(data)
        else:
            pieces = self._pieces(head, request)
        # In a task of its own: the app may answer before it has read everything.
        self._sending = asyncio.get_running_loop().create_task(self._send_all(pieces, timeout))

    async def _pieces(self, head: bytes, request: httpx.Request) -> AsyncGenerator[bytes, None]:
        yield head
        stream = request.stream
        if isinstance(stream, httpx.AsyncByteStream):
            async for piece in stream:
                if piece:
                    yield self._http.send(h11.Data(data=piece)) or b""
        else:
            for piece in stream:
                if piece:
                    yield self._http.send(h11.Data(data=piece)) or b""
        yield self._http.send(h11.EndOfMessage()) or b""

    async def _send_all(self, pieces: AsyncGenerator[bytes, None], patience: float | None) -> None:
        try:
            async with contextlib.aclosing(pieces):
                async for piece in pieces:
                    async with asyncio.timeout(patience):
                        await self.connection.send(piece)
        except ConnectionError:
            self._http.send_failed()  # what the server says to it, or does not, is for the reader
        except asyncio.CancelledError:
            self._http.send_failed()
            raise
        except TimeoutError:
            self._fail(httpx.WriteTimeout(f"the server read nothing for {patience:g} s"))
        except BaseException as error:  # noqa: BLE001  it is raised where the response is awaited
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        self._send_error = error
        self._http.send_failed()
        self.connection.disconnect()

    async def _next_event(self, patience: float | None) -> object:
        while True:
            try:
                event = self._http.next_event()
            except h11.RemoteProtocolError as error:
                raise self._failure(httpx.RemoteProtocolError(str(error))) from None
            if event is h11.PAUSED or isinstance(event, h11.ConnectionClosed):
                raise self._failure(httpx.RemoteProtocolError("the server closed the connection without a response"))
            if event is not h11.NEED_DATA:
                return event
            try:
                async with asyncio.timeout(patience):
                    data = await self.connection.read()
            except TimeoutError:
                raise httpx.ReadTimeout(f"nothing came for {patience:g} s") from None
            except ConnectionError as error:
                failure = self._failure(httpx.ReadError(str(error)))
            else:
                self._http.receive_data(data)
                continue
            raise failure

    def _failure(self, error: httpx.TransportError) -> BaseException:
        """Return what is to blame for the end of the connection: the app's exception, if there is one."""
        return self._send_error or self._network.failures.take(self.protocol) or error


async def _whole(data: bytes) -> AsyncGenerator[bytes, None]:
    yield data


class _Content(httpx.AsyncByteStream):
    def __init__(self, channel: _Channel, timeout: float | None, release: Callable[[_Channel], None]) -> None:
        self._channel = channel
        self._content = channel.content(timeout)
        self._release: Callable[[_Channel], None] | None = release

    async def __aiter__(self) -> AsyncGenerator[bytes, None]:
        async for piece in self._content:
            yield piece

    async def aclose(self) -> None:
        release, self._release = self._release, None
        if release is not None:
            await self._content.aclose()
            await self._channel.finish()
            release(self._channel)


class _AsyncTransport(httpx.AsyncBaseTransport):
    """Requests over connections in memory, kept open as a browser keeps them."""

    def __init__(self, network: _Network) -> None:
        self._network = network
        self._idle: list[_Channel] = []
        self._open: set[_Channel] = set()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        channel = self._channel()
        self._open.add(channel)
        try:
            head, extensions = await channel.request(request)
        except BaseException:
            self._open.discard(channel)
            await channel.finish()
            raise
        timeout = request.extensions.get("timeout", {}).get("read")
        return httpx.Response(
            head.status_code,
            headers=head.headers.raw_items(),
            stream=_Content(channel, timeout, self._release),
            extensions=extensions,
        )

    def _channel(self) -> _Channel:
        while self._idle:
            channel = self._idle.pop()
            if channel.is_idle:
                return channel
            channel.connection.close()
        return _Channel(self._network)

    def _release(self, channel: _Channel) -> None:
        self._open.discard(channel)
        if channel.is_idle:
            self._idle.append(channel)
        else:
            channel.connection.close()

    async def aclose(self) -> None:
        channels = (*self._idle, *self._open)
        self._idle.clear()
        self._open.clear()
        for channel in channels:
            await channel.finish()
            channel.connection.close()


def _settings(options: Options) -> dict[str, Any]:
    headers = httpx.Headers({"user-agent": "testclient"})
    headers.update(options.headers)
    return {
        "headers": headers,
        "cookies": dict(options.cookies) if options.cookies else None,
        "base_url": options.base_url,
        "follow_redirects": options.follow_redirects,
        "timeout": options.timeout,
        "trust_env": False,
    }


def _opening(options: Options, method: str, url: str, headers: Headers | None, content: bytes) -> bytes:
    """Return a request as bytes, for a connection that is no good."""
    address = httpx.URL(options.base_url).join(url)
    request = httpx.Request(method, address, headers=headers, content=content)
    line = b"%s %s %s\r\n" % (method.encode(), address.raw_path, options.http_version.encode())
    fields = b"".join(b"%s: %s\r\n" % field for field in request.headers.raw)
    return line + fields + b"\r\n" + content


def _connection_of(response: httpx.Response) -> AsyncConnection:
    connection = response.extensions.get("connection")
    if not isinstance(connection, AsyncConnection):
        raise TypeError(f"expected a response of this client, got {response!r}")
    return connection


class AsyncClient(httpx.AsyncClient):
    """An `httpx.AsyncClient` whose requests go to an app in this loop, through the server's own parser and timeouts.

    `async with app.test_client() as client:` makes one; everything that httpx's client has is there.
    """

    def __init__(self, app: "Vibora", network: _Network) -> None:
        super().__init__(transport=_AsyncTransport(network), **_settings(network.options))
        self.app: Final = app
        self._network: Final = network

    def connect(self, *, receive_buffer: int = WINDOW) -> AsyncConnection:
        """Return a raw connection to the app: the test sends and reads the bytes.

        Args:
            receive_buffer: Bytes that arrive, and are acknowledged, without being read.
        """
        return self._network.connect(receive_buffer)[0]

    async def slow_reader(
        self,
        url: str,
        *,
        method: str = "GET",
        headers: Headers | None = None,
        content: bytes = b"",
        receive_buffer: int = 1024,
    ) -> AsyncConnection:
        """Return a connection that has sent a request, and reads of the response only what it is told to.

        Args:
            url: What is asked for.
            method: How.
            headers: More header fields.
            content: Content of the request.
            receive_buffer: Bytes of the response that arrive, and are acknowledged, without being read.
        """
        connection = self.connect(receive_buffer=receive_buffer)
        await connection.send(_opening(self._network.options, method, url, headers, content))
        return connection

    async def half_open(self, data: bytes = PART) -> AsyncConnection:
        """Return a connection that has sent a part of a request, and stays.

        Args:
            data: The part; when omitted, a head that lacks its end.
        """
        connection = self.connect()
        await connection.send(data)
        return connection

    async def disconnect(self, response: httpx.Response) -> None:
        """Go away in the middle of a response that is being streamed: a reset. The app has learned of it afterwards."""
        _connection_of(response).disconnect()
        await settle()

    async def settle(self) -> None:
        """Let the app go on until it has nothing to do but to wait."""
        await settle()


class Client(httpx.Client):
    """An `httpx.Client` whose requests go to an app in this thread, through the server's own parser and timeouts.

    `with app.test_client() as client:` makes one; everything that httpx's client has is there. The event loop runs only
    while a method of the client does: the app stands still in between, and so it is there in the debugger.
    """

    def __init__(self, app: "Vibora", network: _Network, runner: "_Runner") -> None:
        transport = _AsyncTransport(network)
        super().__init__(transport=_SyncTransport(transport, runner), **_settings(network.options))
        self.app: Final = app
        self._network: Final = network
        self._runner: Final = runner

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the loop of the app, and return what it returns."""
        return self._runner.run(coroutine)

    def connect(self, *, receive_buffer: int = WINDOW) -> "Connection":
        """Return a raw connection to the app: the test sends and reads the bytes.

        Args:
            receive_buffer: Bytes that arrive, and are acknowledged, without being read.
        """

        async def connect() -> AsyncConnection:
            return self._network.connect(receive_buffer)[0]

        return Connection(self._runner.run(connect()), self._runner)

    def slow_reader(
        self,
        url: str,
        *,
        method: str = "GET",
        headers: Headers | None = None,
        content: bytes = b"",
        receive_buffer: int = 1024,
    ) -> "Connection":
        """Return a connection that has sent a request, and reads of the response only what it is told to.

        Args:
            url: What is asked for.
            method: How.
            headers: More header fields.
            content: Content of the request.
            receive_buffer: Bytes of the response that arrive, and are acknowledged, without being read.
        """
        connection = self.connect(receive_buffer=receive_buffer)
        connection.send(_opening(self._network.options, method, url, headers, content))
        return connection

    def half_open(self, data: bytes = PART) -> "Connection":
        """Return a connection that has sent a part of a request, and stays.

        Args:
            data: The part; when omitted, a head that lacks its end.
        """
        connection = self.connect()
        connection.send(data)
        return connection

    def disconnect(self, response: httpx.Response) -> None:
        """Go away in the middle of a response that is being streamed: a reset. The app has learned of it afterwards."""
        connection = _connection_of(response)
        self._runner.do(connection.disconnect)

    def settle(self) -> None:
        """Let the app go on until it has nothing to do but to wait."""
        self._runner.run(settle())


# --- without a running loop -------------------------------------------------------------------------------------------


_RUNNING: Final = "an event loop is running here: write `async with app.test_client()`, and await what it does"


class _Runner:
    """An event loop that runs when it is asked to, in the thread that asks."""

    def __init__(self) -> None:
        if asyncio._get_running_loop() is not None:  # noqa: SLF001  the public one raises instead of answering
            raise RuntimeError(_RUNNING)
        self._runner = asyncio.Runner(loop_factory=loop_factory())
        self._loop = self._runner.get_loop()
        self._context = contextvars.copy_context()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        problem = None
        if asyncio._get_running_loop() is not None:  # noqa: SLF001  the public one raises instead of answering
            problem = _RUNNING
        elif self._loop.is_running():
            problem = "the client is at work in another thread: give each thread a client of its own"
        elif self._loop.is_closed():
            problem = "the client is closed: its `with` block has ended"
        if problem:
            coroutine.close()
            raise RuntimeError(problem)
        # Not `Runner.run`, which installs and removes a signal handler each time.
        task = self._loop.create_task(coroutine, context=self._context)
        try:
            return self._loop.run_until_complete(task)
        except (SystemExit, KeyboardInterrupt):
            with contextlib.suppress(RuntimeError):
                self._loop.run_until_complete(asyncio.sleep(0.001))  # uvloop stops once more after such an exception
            raise

    def do(self, action: Callable[[], None]) -> None:
        """Do something in the loop, and let it go on."""

        async def act() -> None:
            action()
            await settle()

        self.run(act())

    def close(self) -> None:
        self._runner.close()


class _SyncContent(httpx.SyncByteStream):
    def __init__(self, content: httpx.AsyncByteStream, runner: _Runner) -> None:
        self._content = content
        self._runner = runner

    def __iter__(self) -> Iterator[bytes]:
        pieces = aiter(self._content)

        async def next_piece() -> bytes | None:
            return await anext(pieces, None)

        while (piece := self._runner.run(next_piece())) is not None:
            yield piece

    def close(self) -> None:
        self._runner.run(self._content.aclose())


class _SyncTransport(httpx.BaseTransport):
    def __init__(self, transport: _AsyncTransport, runner: _Runner) -> None:
        self._transport = transport
        self._runner = runner

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        response = self._runner.run(self._transport.handle_async_request(request))
        content = response.stream
        assert isinstance(content, httpx.AsyncByteStream)  # noqa: S101  the transport makes it
        return httpx.Response(
            response.status_code,
            headers=response.headers.raw,
            stream=_SyncContent(content, self._runner),
            extensions=response.extensions,
        )

    def close(self) -> None:
        self._runner.run(self._transport.aclose())


class Connection:
    """A raw connection to the app, on which a test says exactly what it wants to. `Client.connect` makes one.

    Nothing is read that is not asked for: a connection that is never read from is a client that does not read. As a
    context manager it is closed at the end of the block.
    """

    def __init__(self, connection: AsyncConnection, runner: _Runner) -> None:
        self._connection = connection
        self._runner = runner

    @property
    def is_open(self) -> bool:
        """Whether both sides may still speak, as far as is known here."""
        return self._connection.is_open

    @property
    def unread(self) -> int:
        """Bytes that have arrived and were not read yet."""
        return self._connection.unread

    @property
    def unsent(self) -> int:
        """Bytes that the server has written and that have not arrived: the receive buffer is full."""
        return self._connection.unsent

    def send(self, data: bytes) -> None:
        """Send data; wait while the server does not read what was sent before.

        Raises:
            ConnectionError: If the connection is no more, or this half was closed.
        """

        async def send() -> None:
            await self._connection.send(data)
            await settle()

        self._runner.run(send())

    def read(self, size: int = WINDOW) -> bytes:
        """Return what has arrived, once something has, and at most `size` bytes; none at the end of the data.

        Raises:
            ConnectionResetError: If the server has reset the connection, or it was reset here.
        """
        return self._runner.run(self._connection.read(size))

    def read_exactly(self, size: int) -> bytes:
        """Return so many bytes.

        Raises:
            EOFError: If the data ends before.
            ConnectionResetError: If the connection is reset before.
        """
        return self._runner.run(self._connection.read_exactly(size))

    def read_until(self, marker: bytes) -> bytes:
        """Return everything up to and with a marker.

        Raises:
            EOFError: If the data ends before.
            ConnectionResetError: If the connection is reset before.
        """
        return self._runner.run(self._connection.read_until(marker))

    def read_to_end(self) -> bytes:
        """Return everything up to the end of the data.

        Raises:
            ConnectionResetError: If the connection is reset before.
        """
        return self._runner.run(self._connection.read_to_end())

    def half_close(self) -> None:
        """Send no more, and go on reading: a FIN."""
        self._runner.do(self._connection.half_close)

    def close(self) -> None:
        """Close, as a client does that has what it wants: a FIN, or a reset where data was left unread."""
        self._runner.do(self._connection.close)

    def disconnect(self) -> None:
        """Go away at once: a reset, as of a program that is killed, or of a phone between two networks."""
        self._runner.do(self._connection.disconnect)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return repr(self._connection).replace(AsyncConnection.__name__, type(self).__name__)


# --- what the app hands out -------------------------------------------------------------------------------------------


class TestClient:
    """An app that is about to be served to tests. `Vibora.test_client` makes one.

    `with` serves the app and gives a `Client`, `async with` an `AsyncClient`. At the end of the block the app is
    stopped, as it is by a signal. Then it can be entered again.
    """

    __test__ = False  # for pytest, which would collect it

    def __init__(self, app: "Vibora", options: Options) -> None:
        self._app = app
        self._options = options
        self._entered: AbstractContextManager[Client] | None = None
        self._entered_async: AbstractAsyncContextManager[AsyncClient] | None = None

    def __enter__(self) -> Client:
        self._check_free()
        entered = self._serve()
        client = entered.__enter__()
        self._entered = entered
        return client

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        entered, self._entered = self._entered, None
        assert entered is not None  # noqa: S101  `with` has entered it
        entered.__exit__(kind, error, trace)

    async def __aenter__(self) -> AsyncClient:
        self._check_free()
        entered = self._serve_async()
        client = await entered.__aenter__()
        self._entered_async = entered
        return client

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        entered, self._entered_async = self._entered_async, None
        assert entered is not None  # noqa: S101  `async with` has entered it
        await entered.__aexit__(kind, error, trace)

    def _check_free(self) -> None:
        if self._entered or self._entered_async:
            raise RuntimeError("this test client serves the app already: app.test_client() makes another")

    @contextlib.contextmanager
    def _serve(self) -> Generator[Client]:
        runner = _Runner()
        try:
            network = runner.run(_Network.start(self._app, self._options))
            clock = self._options.clock
            if clock:
                clock.attach(network.server, runner.run)
            client = Client(self._app, network, runner)
            try:
                yield client
            finally:
                client.close()
                runner.run(network.stop())
                if clock:
                    clock.detach(network.server)
        finally:
            runner.close()

    @contextlib.asynccontextmanager
    async def _serve_async(self) -> AsyncGenerator[AsyncClient, None]:
        network = await _Network.start(self._app, self._options)
        clock = self._options.clock
        if clock:
            clock.attach(network.server, None)
        client = AsyncClient(self._app, network)
        try:
            yield client
        finally:
            try:
                await client.aclose()
            finally:
                await network.stop()
                if clock:
                    clock.detach(network.server)

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> object:
            raise AttributeError(
                f"a test client has no {name!r} before the app is served: "
                "write `with app.test_client() as client:`, or `async with`"
            )
