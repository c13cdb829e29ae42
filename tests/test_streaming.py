"""Streams: how chunks reach the wire, and how a stream ends (RFC 9112 §6, §7; RFC 9110 §8.6, §9.3.2, §15)."""

import asyncio
import contextlib
import contextvars
import functools
import sys
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from typing import Any, Self

import pytest

from conftest import Serve, Served
from hostile import (
    Diary,
    connect,
    data_segments,
    has_no_connections,
    message,
    read_until_reset,
    warnings_of,
)
from vibora import Request, Response, StreamingResponse, Vibora

CHUNKS = [b"one", b"two", b"three"]


async def never_waiting() -> AsyncIterator[bytes]:
    for chunk in CHUNKS:
        yield chunk


async def waiting() -> AsyncIterator[bytes]:
    for chunk in CHUNKS:
        await asyncio.sleep(0)
        yield chunk


def synchronous() -> Iterator[bytes]:
    yield from CHUNKS


class ByHand:
    """An async iterator that is no generator."""

    def __init__(self) -> None:
        self.left = list(CHUNKS)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if not self.left:
            raise StopAsyncIteration
        return self.left.pop(0)


class Iterable:
    """Async iterable, and not an iterator."""

    def __aiter__(self) -> AsyncIterator[bytes]:
        return waiting()


SOURCES: dict[str, Callable[[], Any]] = {
    "async generator function": lambda: never_waiting,
    "async generator function that waits": lambda: waiting,
    "async generator": never_waiting,
    "async generator that waits": waiting,
    "async iterator": ByHand,
    "async iterable": Iterable,
    "generator function": lambda: synchronous,
    "generator": synchronous,
    "list": lambda: CHUNKS,
    "tuple": lambda: tuple(CHUNKS),
    "iterator": lambda: iter(CHUNKS),
    "range of texts": lambda: map(str, range(3)),
    "function that returns a list": lambda: lambda: CHUNKS,
}


def app_of(source: Callable[[], Any], **options: Any) -> Vibora:
    """Return an app that streams what the source returns, once without a task and once from within one."""
    app = Vibora()

    @app.get("/at-once", name="stream")
    async def at_once() -> StreamingResponse:
        return StreamingResponse(source(), **options)

    @app.get("/later", name="stream")
    async def later() -> StreamingResponse:
        await asyncio.sleep(0)
        return StreamingResponse(source(), **options)

    @app.get("/after")
    async def after() -> Response:
        return Response("still here")

    return app


def is_alive(served: Served) -> bool:
    return served.ask("/after").text == "still here"


HANDLERS = pytest.mark.parametrize("target", ["/at-once", "/later"])


class TestSources:
    @pytest.mark.parametrize("kind", SOURCES)
    def test_every_kind_of_source_is_sent_chunk_by_chunk(self, serve: Serve, kind: str) -> None:
        served = serve(app_of(SOURCES[kind]))
        expected = [b"0", b"1", b"2"] if kind == "range of texts" else CHUNKS
        for target in ("/at-once", "/later"):
            with served.connect() as peer:
                answer = peer.ask(target)
                assert (answer.status, answer.chunks) == (200, expected)
                assert answer.get("transfer-encoding") == "chunked"
                assert answer.get("content-length") is None
                assert peer.ask("/after").text == "still here", "the connection goes on"
        assert warnings_of(served) == []

    @pytest.mark.parametrize("chunk", ["text: ✓", bytearray(b"bytearray"), memoryview(b"a memoryview")[2:]])
    def test_chunks_may_be_text_or_anything_like_bytes(self, serve: Serve, chunk: str | bytearray | memoryview) -> None:
        served = serve(app_of(lambda: [chunk]))
        expected = chunk.encode() if isinstance(chunk, str) else bytes(chunk)
        assert served.ask("/at-once").chunks == [expected]

    def test_an_empty_chunk_does_not_end_the_content(self, serve: Serve) -> None:
        async def chunks() -> AsyncIterator[bytes | str]:
            yield b""
            yield b"a"
            yield ""
            await asyncio.sleep(0)
            yield b""
            yield b"b"
            yield b""

        served = serve(app_of(lambda: chunks))
        assert served.ask("/at-once").chunks == [b"a", b"b"]

    @HANDLERS
    def test_a_stream_of_nothing_is_an_empty_response(self, serve: Serve, target: str) -> None:
        served = serve(app_of(list))
        with served.connect() as peer:
            answer = peer.ask(target)
            assert (answer.status, answer.content) == (200, b"")
            assert peer.ask("/after").status == 200

    def test_status_headers_and_cookies_are_those_of_any_response(self, serve: Serve) -> None:
        served = serve(app_of(lambda: CHUNKS, status_code=202, headers={"X-Kind": "stream"}, cookies={"a": "1"}))
        answer = served.ask("/later")
        assert (answer.status, answer.get("x-kind")) == (202, "stream")
        assert answer.get_all("set-cookie") == ["a=1; Path=/; SameSite=Lax"]

    def test_a_chunk_of_many_megabytes_arrives_whole(self, serve: Serve) -> None:
        large = bytes(range(256)) * 4 * 1024 * 10
        served = serve(app_of(lambda: [large, b"end"]))
        assert served.ask("/at-once").chunks == [large, b"end"]

    @pytest.mark.parametrize("target", ["/at-once", "/later"])
    @pytest.mark.parametrize("waits", [False, True])
    @pytest.mark.parametrize("version", ["1.1", "1.0"])
    def test_chunks_of_every_size_arrive_in_order(
        self, serve: Serve, target: str, *, waits: bool, version: str
    ) -> None:
        """Small chunks are gathered, large ones are not: neither overtakes the other."""
        sizes = [1, 16 * 1024, 100, 16 * 1024 - 1, 300_000, 0, 5, 64 * 1024, 64 * 1024, 2_000_000, 3]
        pieces = [bytes([65 + number]) * size for number, size in enumerate(sizes)]

        async def chunks() -> AsyncIterator[bytes | memoryview]:
            for number, piece in enumerate(pieces):
                if waits:
                    await asyncio.sleep(0)
                yield memoryview(piece) if number % 2 else piece

        served = serve(app_of(lambda: chunks))
        with connect(served, receive_buffer=64 * 1024) as peer:
            peer.send(message(target, version=version))
            answer = peer.read_answer()
        assert answer.content == b"".join(pieces)
        if version == "1.1":
            assert answer.chunks == [piece for piece in pieces if piece]


class TestDelivery:
    def test_a_chunk_leaves_as_soon_as_its_generator_waits(self, serve: Serve) -> None:
        read = asyncio.Event()

        async def chunks() -> AsyncIterator[bytes]:
            for chunk in CHUNKS:
                yield chunk
                await read.wait()
                read.clear()

        served = serve(app_of(lambda: chunks))
        with served.connect() as peer:
            peer.send(message("/at-once"))
            peer.read_head()
            for chunk in CHUNKS:
                assert peer.read_chunk() == chunk
                served.loop.call_soon_threadsafe(read.set)
            assert peer.read_chunk() == b""

    def test_the_end_of_a_large_chunk_is_not_kept_back_for_the_next(self, serve: Serve) -> None:
        # Whole packets are filled while a generator goes on. The system would keep the rest for 200 ms.
        read = asyncio.Event()

        async def chunks() -> AsyncIterator[bytes]:
            for _ in range(10):
                yield b"x" * 70_000
                yield b"y" * 65_536
                await read.wait()
                read.clear()

        served = serve(app_of(lambda: chunks))
        for target in ("/at-once", "/later"):
            delays: list[float] = []
            with served.connect() as peer:
                peer.send(message(target))
                peer.read_head()
                for _ in range(10):
                    begun = time.monotonic()
                    assert peer.read_chunk() == b"x" * 70_000
                    assert peer.read_chunk() == b"y" * 65_536
                    delays.append(time.monotonic() - begun)
                    served.loop.call_soon_threadsafe(read.set)
                assert peer.read_chunk() == b""
            assert sorted(delays)[5] < 0.1, target

    @pytest.mark.parametrize("waits", ["never", "first"])
    def test_ten_chunks_without_a_wait_are_one_write(self, serve: Serve, waits: str) -> None:
        async def never() -> AsyncIterator[bytes]:
            for _ in range(10):
                yield b"x" * 1024

        async def first() -> AsyncIterator[bytes]:
            await asyncio.sleep(0.01)
            for _ in range(10):
                yield b"x" * 1024

        served = serve(app_of(lambda: first if waits == "first" else never))
        for target in ("/at-once", "/later"):
            with served.connect() as peer:
                peer.send(message(target))
                assert len(peer.read_answer().content) == 10 * 1024
                assert data_segments(peer) == 1, target

    def test_chunks_around_a_wait_are_two_writes(self, serve: Serve) -> None:
        async def chunks() -> AsyncIterator[bytes]:
            yield b"a"
            yield b"b"
            await asyncio.sleep(0.05)
            yield b"c"
            yield b"d"

        served = serve(app_of(lambda: chunks))
        with served.connect() as peer:
            peer.send(message("/at-once"))
            assert peer.read_answer().chunks == [b"a", b"b", b"c", b"d"]
            assert data_segments(peer) == 2

    def test_the_head_waits_for_the_first_chunk_unless_told_otherwise(self, serve: Serve) -> None:
        go = asyncio.Event()

        async def chunks() -> AsyncIterator[bytes]:
            await go.wait()
            yield b"chunk"

        app = Vibora()

        @app.get("/waits")
        async def waits() -> StreamingResponse:
            return StreamingResponse(chunks)

        @app.get("/first")
        async def first() -> StreamingResponse:
            return StreamingResponse(chunks, send_head_first=True)

        served = serve(app)
        with served.connect() as eager, served.connect(patience=0.2) as patient:
            patient.send(message("/waits"))
            eager.send(message("/first"))
            assert eager.read_head().status == 200
            with pytest.raises(TimeoutError):
                patient.receive()
            served.loop.call_soon_threadsafe(go.set)
            assert eager.read_chunk() == b"chunk"
            assert patient.read_answer().chunks == [b"chunk"]


class TestGenerators:
    """Async generators are resumed without their `__anext__`, which nobody may notice."""

    @HANDLERS
    def test_what_is_raised_where_it_waits_can_be_caught_there(self, serve: Serve, target: str) -> None:
        async def chunks() -> AsyncIterator[bytes]:
            yield b"first"
            for number in range(3):
                try:
                    async with asyncio.timeout(0.001):
                        yield b"before %d" % number
                        await asyncio.Event().wait()
                except TimeoutError:
                    yield b"after %d" % number

        served = serve(app_of(lambda: chunks))
        between = [chunk for number in range(3) for chunk in (b"before %d" % number, b"after %d" % number)]
        assert served.ask(target).chunks == [b"first", *between]

    @HANDLERS
    @pytest.mark.parametrize("error", [StopIteration, StopAsyncIteration])
    def test_the_end_of_something_else_is_not_its_end(self, serve: Serve, target: str, error: type[Exception]) -> None:
        async def chunks() -> AsyncIterator[bytes]:
            yield b"first"
            yield b"second"
            raise error

        served = serve(app_of(lambda: chunks))
        with served.connect() as peer:
            peer.send(message(target))
            assert b"0\r\n\r\n" not in read_until_reset(peer)
        assert "RuntimeError" in str(served.errors[0].exc_info)

    @HANDLERS
    def test_another_may_be_delegated_to(self, serve: Serve, target: str) -> None:
        async def inner() -> AsyncIterator[bytes]:
            for chunk in CHUNKS:
                yield chunk
                await asyncio.sleep(0)

        async def outer() -> AsyncIterator[bytes]:
            async for chunk in inner():
                yield chunk
            yield b"end"

        assert serve(app_of(lambda: outer)).ask(target).chunks == [*CHUNKS, b"end"]

    def test_one_that_somebody_else_has_is_not_taken_away(self, serve: Serve) -> None:
        async def chunks() -> AsyncGenerator[bytes, None]:
            for _ in range(3):
                yield b"chunk"
                await asyncio.sleep(0.1)

        shared = chunks()
        served = serve(app_of(lambda: shared))
        with served.connect() as first, served.connect() as second:
            first.send(message("/later"))
            first.read_head()
            second.send(message("/later"))
            assert second.read_answer().status == 500
            assert first.read_chunk() == b"chunk"
        assert "already running" in str(served.errors[0].exc_info)

    def test_the_loop_knows_those_that_may_wait(self, serve: Serve) -> None:
        known: list[str] = []

        def watch() -> None:
            tell = sys.get_asyncgen_hooks().firstiter

            def note(begun: Any) -> None:
                known.append(begun.__name__)
                if tell is not None:
                    tell(begun)

            sys.set_asyncgen_hooks(note)

        for generator in (never_waiting, waiting):
            served = serve(app_of(functools.partial(lambda source: source, generator)))
            served.loop.call_soon_threadsafe(watch)
            assert served.ask("/at-once").chunks == CHUNKS
            assert served.ask("/later").chunks == CHUNKS
        # The one that cannot wait, run at once, is through before anybody could have to close it.
        assert known == ["never_waiting", "waiting", "waiting"]


class TestLength:
    """`content-length` given by the app (RFC 9110 §8.6)."""

    @HANDLERS
    def test_a_right_length_makes_a_raw_body(self, serve: Serve, target: str) -> None:
        served = serve(app_of(lambda: never_waiting, headers={"Content-Length": "11"}))
        with served.connect() as peer:
            answer = peer.ask(target)
            assert (answer.content, answer.get("content-length")) == (b"onetwothree", "11")
            assert answer.get("transfer-encoding") is None
            assert peer.ask("/after").text == "still here"

    @HANDLERS
    @pytest.mark.parametrize(("length", "sent"), [(12, b"onetwothree"), (10, b"onetwo"), (2, b""), (0, b"")])
    def test_a_wrong_length_is_never_taken_for_a_right_one(
        self, serve: Serve, target: str, length: int, sent: bytes
    ) -> None:
        async def chunks() -> AsyncIterator[bytes]:
            for chunk in CHUNKS:
                yield chunk
                await asyncio.sleep(0.02)  # each chunk has left before the next

        served = serve(app_of(lambda: chunks, headers={"Content-Length": str(length)}))
        with served.connect() as peer:
            # A second request waits on the connection: no byte of the first response may seem to answer it.
            peer.send(message(target) + message("/after"))
            received = read_until_reset(peer)
        _, _, content = received.partition(b"\r\n\r\n")
        assert content == sent if received else sent == b""
        assert len(served.errors) == 1, warnings_of(served)
        assert "content" in str(served.errors[0].exc_info)
        assert is_alive(served)


class TestVersions:
    def test_a_client_of_http_1_0_gets_a_body_that_ends_with_the_connection(self, serve: Serve) -> None:
        served = serve(app_of(lambda: waiting))
        with served.connect() as peer:
            peer.send(message("/at-once", version="1.0", headers=["Connection: keep-alive"]))
            head = peer.read_head()
            assert head.get("transfer-encoding") is None
            assert head.get("connection") == "close"
            assert peer.read_to_end() == b"onetwothree"

    def test_a_client_of_http_1_0_may_keep_the_connection_when_the_length_is_known(self, serve: Serve) -> None:
        served = serve(app_of(lambda: waiting, headers={"Content-Length": "11"}))
        with served.connect() as peer:
            for _ in range(2):
                peer.send(message("/later", version="1.0", headers=["Connection: keep-alive"]))
                assert peer.read_answer().content == b"onetwothree"

    def test_a_failure_is_no_end_of_the_body_for_http_1_0_either(self, serve: Serve) -> None:
        async def failing() -> AsyncIterator[bytes]:
            yield b"chunk"
            await asyncio.sleep(0.05)
            raise ZeroDivisionError

        served = serve(app_of(lambda: failing))
        with served.connect() as peer:
            peer.send(message("/at-once", version="1.0"))
            assert read_until_reset(peer).endswith(b"\r\n\r\nchunk")


class Closable(ByHand):
    """An async iterator that knows whether it was asked and whether it was closed."""

    def __init__(self, diary: Diary) -> None:
        super().__init__()
        self.diary = diary

    async def __anext__(self) -> bytes:
        self.diary.write("started")
        return await super().__anext__()

    async def aclose(self) -> None:
        await asyncio.sleep(0)
        self.diary.write("closed")


class TestWithoutContent:
    """HEAD, 204, 205 and 304 have no content: the generator is not started (RFC 9110 §9.3.2, §15.3.5, §15.4.5)."""

    @HANDLERS
    @pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 205), ("GET", 304)])
    def test_an_unstarted_iterator_is_closed(self, serve: Serve, target: str, method: str, status: int) -> None:
        diary = Diary()
        served = serve(app_of(lambda: Closable(diary), status_code=status))
        with served.connect() as peer:
            peer.send(message(target, method))
            head = peer.read_head()
            assert head.status == status
            if status in (204, 205, 304):
                assert head.get("transfer-encoding") is None
            assert peer.ask("/after").text == "still here", "no byte of content was sent"
        diary.wait_for("closed")
        assert diary.entries == ["closed"]
        assert warnings_of(served) == []

    def test_a_generator_function_is_not_even_called(self, serve: Serve) -> None:
        diary = Diary()

        def chunks() -> Iterator[bytes]:
            diary.write("called")
            return iter(CHUNKS)

        served = serve(app_of(lambda: chunks))
        with served.connect() as peer:
            peer.send(message("/later", "HEAD"))
            assert peer.read_head().status == 200
            assert peer.ask("/after").status == 200
        assert diary.entries == []

    @pytest.mark.parametrize("kind", [waiting, synchronous])
    def test_an_unstarted_generator_cannot_be_used_any_more(self, serve: Serve, kind: Callable[[], Any]) -> None:
        made: list[Any] = []

        def make() -> Any:
            made.append(kind())
            return made[-1]

        served = serve(app_of(make))
        with served.connect() as peer:
            peer.send(message("/later", "HEAD"))
            peer.read_head()
            assert peer.ask("/after").status == 200
        frame = "ag_frame" if kind is waiting else "gi_frame"
        assert getattr(made[0], frame) is None

    def test_head_tells_the_length_that_get_would_have(self, serve: Serve) -> None:
        served = serve(app_of(lambda: never_waiting, headers={"Content-Length": "11"}))
        assert served.ask("/later", "HEAD").get("content-length") == "11"


async def fails_first() -> AsyncIterator[bytes]:
    if CHUNKS:
        raise ZeroDivisionError("first")
    yield b""


async def fails_first_after_a_wait() -> AsyncIterator[bytes]:
    await asyncio.sleep(0)
    if CHUNKS:
        raise ZeroDivisionError("first")
    yield b""


def fails_first_in_a_thread() -> Iterator[bytes]:
    if CHUNKS:
        raise ZeroDivisionError("first")
    yield b""


async def fails_later() -> AsyncIterator[bytes]:
    yield b"chunk"
    await asyncio.sleep(0.05)
    raise ZeroDivisionError("later")


async def fails_at_once_after_a_chunk() -> AsyncIterator[bytes]:
    yield b"chunk"
    raise ZeroDivisionError("later")


def fails_later_in_a_thread() -> Iterator[bytes]:
    yield b"chunk"
    time.sleep(0.05)
    raise ZeroDivisionError("later")


async def yields_a_number() -> AsyncIterator[Any]:
    yield b"chunk"
    await asyncio.sleep(0.05)
    yield 7


async def cancels_itself() -> AsyncIterator[bytes]:
    yield b"chunk"
    await asyncio.sleep(0.05)
    raise asyncio.CancelledError


class TestFailures:
    @HANDLERS
    @pytest.mark.parametrize("source", [fails_first, fails_first_after_a_wait, fails_first_in_a_thread])
    def test_a_failure_before_the_first_chunk_is_a_500(
        self, serve: Serve, target: str, source: Callable[[], object]
    ) -> None:
        served = serve(app_of(lambda: source))
        with served.connect() as peer:
            answer = peer.ask(target)
            assert (answer.status, answer.get("transfer-encoding")) == (500, None)
            assert peer.ask("/after").text == "still here"
        assert len(served.errors) == 1, warnings_of(served)
        assert f"({target})" in served.errors[0].getMessage(), "the route is named"
        assert "ZeroDivisionError" in str(served.errors[0].exc_info)

    @HANDLERS
    @pytest.mark.parametrize(
        "source",
        [fails_later, fails_at_once_after_a_chunk, fails_later_in_a_thread, yields_a_number, cancels_itself],
    )
    def test_a_failure_after_it_is_never_a_clean_end(
        self, serve: Serve, target: str, source: Callable[[], object]
    ) -> None:
        served = serve(app_of(lambda: source))
        with served.connect() as peer:
            peer.send(message(target) + message("/after"))
            received = read_until_reset(peer)
        assert b"0\r\n\r\n" not in received
        assert received.count(b"HTTP/1.1") <= 1
        assert len(served.errors) == 1, warnings_of(served)
        assert f"({target})" in served.errors[0].getMessage(), "the route is named"
        assert has_no_connections(served)
        assert is_alive(served)

    def test_a_failure_after_the_head_was_sent_first_is_no_500(self, serve: Serve) -> None:
        served = serve(app_of(lambda: fails_first_after_a_wait, send_head_first=True))
        with served.connect() as peer:
            peer.send(message("/later"))
            assert b" 500 " not in read_until_reset(peer)

    def test_a_coroutine_function_is_told_to_yield(self, serve: Serve) -> None:
        async def forgot() -> list[bytes]:
            return CHUNKS

        served = serve(app_of(lambda: forgot))
        assert served.ask("/later").status == 500
        assert "yield" in str(served.errors[0].exc_info)


class TestCleanUp:
    """The generator is always closed. What a client's going does is in test_disconnects.py."""

    @HANDLERS
    def test_the_clean_up_of_a_generator_is_awaited_before_the_next_request(self, serve: Serve, target: str) -> None:
        diary = Diary()

        async def chunks() -> AsyncIterator[bytes]:
            try:
                yield b"chunk"
            finally:
                await asyncio.sleep(0.05)
                diary.write("closed")

        app = app_of(lambda: chunks)

        @app.get("/next")
        async def following() -> Response:
            diary.write("next")
            return Response()

        served = serve(app)
        with served.connect() as peer:
            peer.send(message(target) + message("/next"))
            assert peer.read_answer().chunks == [b"chunk"]
            assert peer.read_answer().status == 200
        assert diary.entries == ["closed", "next"]

    @pytest.mark.parametrize("when", ["at first", "later"])
    def test_an_iterator_is_closed_when_its_stream_has_failed(self, serve: Serve, when: str) -> None:
        diary = Diary()

        class Failing(Closable):
            async def __anext__(self) -> bytes:
                if when == "later" and len(self.left) == 3:
                    return self.left.pop()
                raise ZeroDivisionError

        served = serve(app_of(lambda: Failing(diary)))
        with served.connect() as peer:
            peer.send(message("/later", headers=["Connection: close"]))
            if when == "later":
                read_until_reset(peer)
            else:
                assert peer.read_answer().status == 500
        diary.wait_for("closed")
        assert diary.entries == ["closed"]

    def test_a_failing_clean_up_is_logged_and_ends_the_stream_uncleanly(self, serve: Serve) -> None:
        async def chunks() -> AsyncIterator[bytes]:
            try:
                yield b"chunk"
                await asyncio.sleep(0)
            finally:
                raise ZeroDivisionError("in the clean-up")

        served = serve(app_of(lambda: chunks))
        with served.connect() as peer:
            peer.send(message("/later"))
            assert b"0\r\n\r\n" not in read_until_reset(peer)
        assert len(served.errors) == 1, warnings_of(served)


class TestContext:
    def test_what_the_handler_sets_is_visible_in_its_stream(self, serve: Serve) -> None:
        variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="nobody's")

        async def asynchronous() -> AsyncIterator[str]:
            yield variable.get()
            await asyncio.sleep(0)
            yield variable.get()

        async def unsuspending() -> AsyncIterator[str]:
            yield variable.get()

        def in_a_thread() -> Iterator[str]:
            yield variable.get()

        app = Vibora()
        sources: dict[str, Any] = {"a": asynchronous, "u": unsuspending, "t": in_a_thread}

        @app.get("/at-once/<kind>")
        async def at_once(kind: str) -> StreamingResponse:
            variable.set("the handler's")
            return StreamingResponse(sources[kind])

        @app.get("/later/<kind>")
        async def later(kind: str) -> StreamingResponse:
            variable.set("the handler's")
            await asyncio.sleep(0)
            return StreamingResponse(sources[kind])

        @app.get("/other")
        async def other() -> Response:
            return Response(variable.get())

        served = serve(app)
        for target in ("/at-once", "/later"):
            for kind in sources:
                assert set(served.ask(f"{target}/{kind}").chunks) == {b"the handler's"}, (target, kind)
        assert served.ask("/other").text == "nobody's"

    def test_handler_stream_and_clean_up_run_in_one_task(self, serve: Serve) -> None:
        tasks: list[asyncio.Task[Any] | None] = []

        async def chunks() -> AsyncIterator[bytes]:
            try:
                tasks.append(asyncio.current_task())
                yield b"chunk"
                await asyncio.sleep(0)
                tasks.append(asyncio.current_task())
            finally:
                tasks.append(asyncio.current_task())

        app = Vibora()

        @app.get("/")
        async def home() -> StreamingResponse:
            await asyncio.sleep(0)
            tasks.append(asyncio.current_task())
            return StreamingResponse(chunks)

        served = serve(app)
        assert served.ask().chunks == [b"chunk"]
        assert tasks[0] is not None
        assert tasks == [tasks[0]] * 4

    def test_timeouts_and_task_groups_work_in_a_stream(self, serve: Serve) -> None:
        async def chunks() -> AsyncIterator[bytes]:
            try:
                async with asyncio.timeout(0.01):
                    await asyncio.Event().wait()
            except TimeoutError:
                yield b"timeout"
            async with asyncio.TaskGroup() as group:
                task = group.create_task(asyncio.sleep(0, b"group"))
            yield task.result()

        served = serve(app_of(lambda: chunks))
        assert served.ask("/at-once").chunks == [b"timeout", b"group"]

    def test_a_synchronous_generator_runs_in_a_thread(self, serve: Serve) -> None:
        threads: list[threading.Thread] = []

        def chunks() -> Iterator[bytes]:
            threads.append(threading.current_thread())
            yield b"chunk"

        served = serve(app_of(lambda: chunks))
        assert served.ask("/at-once").chunks == [b"chunk"]
        assert threads[0] is not served.thread

    def test_a_slow_synchronous_generator_delays_nobody(self, serve: Serve) -> None:
        go = threading.Event()

        def chunks() -> Iterator[bytes]:
            yield b"first"
            go.wait()
            yield b"second"

        served = serve(app_of(lambda: chunks))
        with served.connect() as peer:
            peer.send(message("/at-once"))
            try:
                peer.read_head()
                assert peer.read_chunk() == b"first"
                assert is_alive(served)
            finally:
                go.set()
            assert peer.read_chunk() == b"second"


class TestRequest:
    def test_a_stream_may_go_on_reading_its_request(self, serve: Serve) -> None:
        app = Vibora()

        @app.post("/")
        async def echo(request: Request) -> StreamingResponse:
            async def chunks() -> AsyncIterator[bytes]:
                async for chunk in request.stream:
                    yield chunk.upper()

            return StreamingResponse(chunks)

        served = serve(app)
        with served.connect() as peer:
            peer.send(message(method="POST", headers=["Transfer-Encoding: chunked"]))
            for word in (b"one", b"three"):
                peer.send(b"%x\r\n%b\r\n" % (len(word), word))
                if word == b"one":
                    assert peer.read_head().status == 200
                assert peer.read_chunk() == word.upper()
            peer.send(b"0\r\n\r\n")
            assert peer.read_chunk() == b""
            peer.send(message(method="POST", headers=["Content-Length: 1"], content=b"x"))
            assert peer.read_answer().chunks == [b"X"]

    def test_pipelined_streams_are_answered_in_order(self, serve: Serve) -> None:
        app = Vibora()

        @app.get("/<number>")
        async def numbered(number: int) -> StreamingResponse:
            async def chunks() -> AsyncIterator[str]:
                await asyncio.sleep(0.03 / (1 + number))  # a later one would be quicker
                yield str(number)
                yield "."

            return StreamingResponse(chunks)

        served = serve(app)
        with served.connect() as peer:
            peer.send(b"".join(message(f"/{number}") for number in range(10)))
            assert [peer.read_answer().text for _ in range(10)] == [f"{number}." for number in range(10)]


def test_clean_up_that_never_ends_is_given_five_seconds(serve: Serve) -> None:  # noqa: C901, PLR0915  six kinds of it
    """All kinds at once, since each takes as long."""
    diary = Diary()
    release = threading.Event()
    app = Vibora()

    async def until_forever(kind: str) -> None:
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                diary.write(f"{kind} cancelled")
                if diary.count(f"{kind} cancelled") > 1:
                    raise

    async def stubborn() -> AsyncIterator[bytes]:
        yield b"chunk"
        await until_forever("stream")

    async def hanging() -> AsyncIterator[bytes]:
        try:
            yield b"chunk"
            await asyncio.Event().wait()
        finally:
            diary.write("cleaning up")
            await until_forever("clean-up")

    def blocking() -> Iterator[bytes]:
        diary.write("blocking")
        release.wait()
        yield b"chunk"

    class Unclosable(ByHand):
        async def aclose(self) -> None:
            diary.write("closing")
            await until_forever("aclose")

    class Failing(Unclosable):
        async def __anext__(self) -> bytes:
            raise ZeroDivisionError

    sources: dict[str, Any] = {
        "stubborn": stubborn,
        "hanging": hanging,
        "blocking": blocking,
        "unclosable": Unclosable(),
        "failing": Failing(),
    }

    @app.get("/<kind>", timeout=0.2)
    async def stream(kind: str) -> StreamingResponse:
        if kind == "handler":
            await until_forever(kind)
        return StreamingResponse(sources[kind], send_head_first=kind != "failing")

    served = serve(app)
    with contextlib.ExitStack() as stack:
        stack.callback(release.set)
        peers = {kind: stack.enter_context(connect(served)) for kind in ("handler", *sources)}
        for kind, peer in peers.items():
            peer.send(message(f"/{kind}", "HEAD" if kind == "unclosable" else "GET"))
        for kind in ("stubborn", "hanging", "blocking"):
            peers[kind].read_head()
        diary.wait_for("blocking")
        for kind in ("stubborn", "hanging", "blocking"):
            peers[kind].reset()
        assert peers["failing"].read_answer().status == 500
        diary.wait_for("closing", 2)
        diary.wait_for("cleaning up")
        started = diary.wait_for("handler cancelled")
        assert has_no_connections(served, 7), warnings_of(served)
        assert 4 < time.monotonic() - started < 7
        abandoned = [text for text in warnings_of(served) if "abandoned" in text]
        assert len(abandoned) == len(peers), warnings_of(served)
        assert peers["handler"].is_closed()
        for kind in ("handler", "stream"):
            diary.wait_for(f"{kind} cancelled", 2)


def test_tasks_are_awaited_by_nobody_else(serve: Serve) -> None:
    """A stream's task can be found, named and stopped like any other."""
    app = Vibora()
    found: list[str] = []

    async def endless() -> AsyncIterator[bytes]:
        yield b"chunk"
        await asyncio.Event().wait()

    @app.get("/", name="endless")
    async def home() -> StreamingResponse:
        return StreamingResponse(endless)

    served = serve(app)

    async def cancel() -> None:
        for task in asyncio.all_tasks():
            if task.get_name() == "endless":
                found.append(task.get_name())
                task.cancel()

    with served.connect() as peer:
        peer.send(message())
        peer.read_head()
        assert peer.read_chunk() == b"chunk"
        served.run(cancel)
        assert read_until_reset(peer) == b""
    assert found == ["endless"]
    assert len(served.errors) == 1
