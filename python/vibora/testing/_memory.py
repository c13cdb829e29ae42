"""A network of one process: the transport that the server gets, and the client's end of it.

It behaves as TCP does on Linux, as far as a server can notice. Each direction is in order and bounded: what the server
writes waits in its transport until it fits into the `receive_buffer` bytes on the client's side, which acknowledges it.
The protocol is only ever called from the loop, never from within a call of its own or of the client's.
"""

import asyncio
import collections
import contextvars
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Final, Self

#: Bytes that the server is handed at once, and that may be on their way to it.
WINDOW: Final = 64 * 1024
#: The high-water mark of asyncio's own transports.
HIGH: Final = 64 * 1024


class MemoryTransport(asyncio.Transport):
    """The server's end of a connection in memory."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        context: contextvars.Context,
        protocol: asyncio.Protocol,
        extra: dict[str, object],
        receive_buffer: int,
    ) -> None:
        super().__init__(extra)
        self._loop = loop
        self._context = context
        self._protocol = protocol
        self._incoming: collections.deque[bytes] = collections.deque()
        self._incoming_size = 0
        self._reading = True
        self._delivering = False
        self._eof_told = False
        self._outgoing = bytearray()
        self._high, self._low = HIGH, HIGH // 4
        self._writing_paused = False
        self._eof_written = False
        self._closing = False
        self._lost = False
        self.client: Final = _End(self, receive_buffer)
        self._soon(protocol.connection_made, self)

    # --- what a protocol may ask --------------------------------------------------------------------------------------

    def get_extra_info(self, name: str, default: object = None) -> object:
        """Return what is known of the connection: `peername` and `sockname`; there is no `socket`."""
        if name == "peer_presence":  # what the core asks the kernel where there is a socket
            return "gone" if self.client.has_reset else "silent" if self.client.has_ended else "here"
        return super().get_extra_info(name, default)

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Return the protocol."""
        return self._protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Put another protocol in its place."""
        if not isinstance(protocol, asyncio.Protocol):
            raise TypeError(f"expected an asyncio.Protocol, got {protocol!r}")
        self._protocol = protocol

    def is_closing(self) -> bool:
        """Whether it is closed, or being closed."""
        return self._closing

    @property
    def is_lost(self) -> bool:
        """Whether the protocol has been told, or is about to be, that the connection is no more."""
        return self._lost

    def is_reading(self) -> bool:
        """Whether data is being delivered."""
        return self._reading and not self._closing

    def pause_reading(self) -> None:
        """Deliver nothing until `resume_reading`: the client can send `WINDOW` bytes more, then it has to wait."""
        self._reading = False

    def resume_reading(self) -> None:
        """Deliver what has come meanwhile, and what comes."""
        self._reading = True
        self._deliver_soon()

    def get_write_buffer_size(self) -> int:
        """Return how many bytes the client's side has not taken yet."""
        return len(self._outgoing)

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """Return the low-water and the high-water mark."""
        return self._low, self._high

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set the marks, by the rules of asyncio."""
        if high is None:
            high = HIGH if low is None else 4 * low
        if low is None:
            low = high // 4
        if not high >= low >= 0:
            raise ValueError(f"high ({high!r}) must be >= low ({low!r}) must be >= 0")
        self._high, self._low = high, low
        self._watch()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send data."""
        if self._eof_written:
            raise RuntimeError("cannot write after write_eof()")
        if self._lost or not data:
            return
        if self.client.is_closed:
            self._lose(BrokenPipeError("the client has closed the connection"))
            return
        self._outgoing += data
        self.flow()

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        """Send data that is in pieces."""
        self.write(b"".join(list_of_data))

    def can_write_eof(self) -> bool:
        """Whether there is `write_eof`."""
        return True

    def write_eof(self) -> None:
        """Close this half when everything is sent."""
        self._eof_written = True
        self.flow()

    def close(self) -> None:
        """Close the connection when everything is sent."""
        if not self._closing:
            self._closing = True
            self.flow()

    def abort(self) -> None:
        """Reset the connection at once."""
        self._closing = True
        self._lose(None)

    # --- from the server to the client --------------------------------------------------------------------------------

    def flow(self, wanted: int = 0) -> None:
        """Move what fits to the client's side, or what it wants to read now."""
        client = self.client
        room = max(client.receive_buffer, wanted) - len(client.received)
        if room > 0 and self._outgoing:
            client.received += self._outgoing[:room]
            del self._outgoing[:room]
        if not self._outgoing:
            if self._eof_written or self._closing:
                client.ended = True
            if self._closing and not self._lost:
                unread = bool(self._incoming)
                self._incoming.clear()
                self._lost = True
                if unread:  # a close that leaves data unread is a reset (RFC 9112 §9.6)
                    client.error = ConnectionResetError("the server has closed the connection with data unread")
                self._soon(self._protocol.connection_lost, None)
        client.wake()
        self._watch()

    def _watch(self) -> None:
        """Pause the protocol above the high-water mark, resume it below the low one."""
        size = len(self._outgoing)
        if size > self._high and not self._writing_paused:
            self._writing_paused = True
            # At once, as asyncio does it: the writer is to know before it writes more.
            self._protocol.pause_writing()
        elif size <= self._low and self._writing_paused:
            self._writing_paused = False
            self._soon(self._resume_writing)

    def _resume_writing(self) -> None:
        if not self._writing_paused and not self._lost:
            self._protocol.resume_writing()

    def _lose(self, error: Exception | None) -> None:
        """End the connection: nothing more in either direction. What the client has received it may read."""
        if self._lost:
            return
        self._lost = self._closing = True
        self._incoming.clear()
        self._outgoing.clear()
        if not self.client.has_reset:
            self.client.error = ConnectionResetError("the server has reset the connection")
        self.client.wake()
        self._soon(self._protocol.connection_lost, error)

    # --- from the client to the server --------------------------------------------------------------------------------

    def take(self, data: bytes) -> None:
        """Have data on its way to the server."""
        if data and not self._lost:
            for start in range(0, len(data), WINDOW):
                self._incoming.append(data[start : start + WINDOW])
            self._incoming_size += len(data)
            self._deliver_soon()

    def take_end(self) -> None:
        """Have the end of the data on its way to the server."""
        self._deliver_soon()

    def take_reset(self) -> None:
        """Lose the connection: after what is on its way, if the server reads; at once, if it does not."""
        if self._closing or not self._reading or not self._incoming:
            self._lose(ConnectionResetError("the client has reset the connection"))
        else:
            self._deliver_soon()

    def take_close(self) -> None:
        """Have the client gone: it reads no more. What the server has left to say ends in a reset."""
        if self._outgoing:
            self._lose(BrokenPipeError("the client has closed the connection"))

    @property
    def window(self) -> int:
        """Bytes that may be sent before the server reads some."""
        return WINDOW - self._incoming_size

    def _deliver_soon(self) -> None:
        if not self._delivering and not self._lost:
            self._delivering = True
            self._soon(self._deliver)

    def _deliver(self) -> None:
        """Hand over one piece of data, or the end of it."""
        self._delivering = False
        if self._lost or self._closing or not self._reading:
            return
        if self._incoming:
            data = self._incoming.popleft()
            self._incoming_size -= len(data)
            self.client.wake_sender()
            if self._incoming or self.client.has_ended:
                self._deliver_soon()
            self._protocol.data_received(data)
        elif self.client.has_reset:
            self._lose(ConnectionResetError("the client has reset the connection"))
        elif self.client.has_ended and not self._eof_told:
            self._eof_told = True
            if not self._protocol.eof_received():
                self.close()

    def _soon(self, callback: Callable[..., object], *arguments: object) -> None:
        self._loop.call_soon(callback, *arguments, context=self._context)


class _End:
    """The state of the client's end, which the transport looks at and moves."""

    def __init__(self, transport: MemoryTransport, receive_buffer: int) -> None:
        self.transport: Final = transport
        self.receive_buffer: Final = receive_buffer
        self.received = bytearray()
        #: The server has said its last.
        self.ended = False
        #: What a read raises when everything received has been read.
        self.error: ConnectionError | None = None
        self.has_ended = False
        self.has_reset = False
        self.is_closed = False
        self._reader: asyncio.Future[None] | None = None
        self._sender: asyncio.Future[None] | None = None

    def wake(self) -> None:
        """Wake whoever waits to read, if there is something to know; and who sends, if it is over."""
        if self._reader is not None and (self.received or self.ended or self.error or self.transport.is_closing()):
            _settle(self._reader)
        if self.error or self.transport.is_closing():
            self.wake_sender()

    def wake_sender(self) -> None:
        """Wake whoever waits to send."""
        if self._sender is not None:
            _settle(self._sender)

    async def wait_readable(self) -> None:
        if self._reader is not None:
            raise RuntimeError("another task reads from this connection already")
        self._reader = asyncio.get_running_loop().create_future()
        try:
            await self._reader
        finally:
            self._reader = None

    async def wait_writable(self) -> None:
        if self._sender is not None:
            raise RuntimeError("another task sends over this connection already")
        self._sender = asyncio.get_running_loop().create_future()
        try:
            await self._sender
        finally:
            self._sender = None


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class AsyncConnection:
    """A raw connection to the app, on which a test says exactly what it wants to. `AsyncClient.connect` makes one.

    Nothing is read that is not asked for: a connection that is never read from is a client that does not read. As an
    async context manager it is closed at the end of the block.
    """

    def __init__(self, transport: MemoryTransport) -> None:
        self._transport = transport
        self._end = transport.client

    @property
    def is_open(self) -> bool:
        """Whether both sides may still speak, as far as is known here."""
        end = self._end
        return not (self._transport.is_closing() or end.ended or end.error or end.has_ended)

    @property
    def is_over(self) -> bool:
        """Whether the server has forgotten the connection."""
        return self._transport.is_lost

    @property
    def unread(self) -> int:
        """Bytes that have arrived and were not read yet."""
        return len(self._end.received)

    @property
    def unsent(self) -> int:
        """Bytes that the server has written and that have not arrived: the receive buffer is full."""
        return self._transport.get_write_buffer_size()

    async def send(self, data: bytes) -> None:
        """Send data; wait while the server does not read what was sent before.

        Raises:
            ConnectionError: If the connection is no more, or this half was closed.
        """
        view = memoryview(data)
        while True:
            self._check_sendable()
            room = self._transport.window
            if room > 0:
                self._transport.take(bytes(view[:room]))
                view = view[room:]
            if not view:
                return
            await self._end.wait_writable()

    def _check_sendable(self) -> None:
        if self._end.error:
            raise self._end.error.with_traceback(None)
        if self._end.has_ended:
            raise BrokenPipeError("this half of the connection is closed")
        if self._transport.is_closing():
            raise BrokenPipeError("the server has closed the connection")

    async def read(self, size: int = WINDOW) -> bytes:
        """Return what has arrived, once something has, and at most `size` bytes; none at the end of the data.

        Raises:
            ConnectionResetError: If the server has reset the connection, or it was reset here.
        """
        end = self._end
        while True:
            if end.is_closed and not end.has_reset:
                raise ConnectionError("this connection was closed here")
            self._transport.flow(size)
            if end.received:
                data = bytes(end.received[:size])
                del end.received[:size]
                self._transport.flow()
                return data
            if end.error:
                raise end.error.with_traceback(None)
            if end.ended:
                return b""
            await end.wait_readable()

    async def read_exactly(self, size: int) -> bytes:
        """Return so many bytes.

        Raises:
            EOFError: If the data ends before.
            ConnectionResetError: If the connection is reset before.
        """
        data = bytearray()
        while len(data) < size:
            piece = await self.read(size - len(data))
            if not piece:
                raise EOFError(f"the data ended {size - len(data)} bytes early, after {bytes(data)!r}")
            data += piece
        return bytes(data)

    async def read_until(self, marker: bytes) -> bytes:
        """Return everything up to and with a marker.

        Raises:
            EOFError: If the data ends before.
            ConnectionResetError: If the connection is reset before.
        """
        data = bytearray()
        start = 0
        while (at := data.find(marker, start)) < 0:
            start = max(0, len(data) - len(marker) + 1)
            piece = await self.read()
            if not piece:
                raise EOFError(f"the data ended before {marker!r}, after {bytes(data)!r}")
            data += piece
        end = at + len(marker)
        self._end.received[:0] = data[end:]
        return bytes(data[:end])

    async def read_to_end(self) -> bytes:
        """Return everything up to the end of the data.

        Raises:
            ConnectionResetError: If the connection is reset before.
        """
        data = bytearray()
        while piece := await self.read():
            data += piece
        return bytes(data)

    def half_close(self) -> None:
        """Send no more, and go on reading: a FIN."""
        if not self._end.has_ended:
            self._end.has_ended = True
            self._transport.take_end()

    def close(self) -> None:
        """Close, as a client does that has what it wants: a FIN, or a reset where data was left unread."""
        if self._end.is_closed:
            return
        if self._end.received:
            self.disconnect()
            return
        self._end.is_closed = True
        self.half_close()
        self._transport.take_close()

    def disconnect(self) -> None:
        """Go away at once: a reset, as of a program that is killed, or of a phone between two networks."""
        if self._end.is_closed:
            return
        self._end.is_closed = self._end.has_ended = self._end.has_reset = True
        self._end.received.clear()
        self._end.error = ConnectionResetError("this connection was reset here")
        self._end.wake()
        self._transport.take_reset()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "open" if self.is_open else "closed"
        return f"<{type(self).__name__} {state} unread={self.unread} unsent={self.unsent}>"


def connect(
    protocol: asyncio.Protocol,
    *,
    context: contextvars.Context,
    extra: dict[str, object],
    receive_buffer: int = WINDOW,
) -> AsyncConnection:
    """Connect a client to a protocol, in the running loop.

    Args:
        protocol: The server's protocol; from now on it is the connection's.
        context: The context that the protocol is called in.
        extra: What the server may ask of the transport: `peername`, `sockname`.
        receive_buffer: Bytes that arrive without being read.

    Raises:
        ValueError: If the buffer's size is negative.
    """
    if receive_buffer < 0:
        raise ValueError(f"receive_buffer takes 0 or more bytes, got {receive_buffer!r}")
    transport = MemoryTransport(asyncio.get_running_loop(), context, protocol, extra, receive_buffer)
    return AsyncConnection(transport)
