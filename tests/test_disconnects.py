"""What happens when the client goes away, and when the server does."""

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from conftest import Peer, Serve
from hostile import (
    SLACK,
    Diary,
    connect,
    fill,
    has_no_connections,
    message,
    read_slowly,
    read_until_reset,
    seconds_to_close,
    server_sockets,
    wait_until,
    warnings_of,
)
from vibora import ClientDisconnected, Request, Response, RouteLimits, ServerLimits, StreamingResponse, Vibora

PIECE = b"x" * 64 * 1024

LEAVING: dict[str, Callable[[Peer], None]] = {"reset": Peer.reset, "close": Peer.close, "half_close": Peer.half_close}


class TestStreams:
    """A stream is closed as soon as its client is gone, whatever it is waiting for."""

    @staticmethod
    def app(diary: Diary) -> Vibora:
        app = Vibora()

        async def ticking() -> AsyncIterator[bytes]:
            try:
                while True:
                    yield b"tick"
                    await asyncio.sleep(0.01)
            finally:
                await asyncio.sleep(0)
                diary.write("closed")

        async def idle() -> AsyncIterator[bytes]:
            try:
                yield b"chunk"
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0)
                diary.write("closed")

        async def flooding() -> AsyncIterator[bytes]:
            try:
                while True:
                    yield PIECE
            finally:
                await asyncio.sleep(0)
                diary.write("closed")

        def in_a_thread() -> Iterator[bytes]:
            try:
                while True:
                    yield b"tick"
                    time.sleep(0.01)
            finally:
                diary.write("closed")

        sources: dict[str, Any] = {"ticking": ticking, "idle": idle, "flooding": flooding, "thread": in_a_thread}

        async def stream(kind: str) -> StreamingResponse:
            return StreamingResponse(sources[kind])

        async def stream_later(kind: str) -> StreamingResponse:
            await asyncio.sleep(0)
            return StreamingResponse(sources[kind]())

        # A stream is closed whatever the method or the policy is: there is nobody to make it for.
        app.add_route("/get/<kind>", stream, ["GET"])
        app.add_route("/post/<kind>", stream_later, ["POST"])
        app.add_route("/finish/<kind>", stream_later, ["POST"], on_disconnect="finish")
        return app

    @pytest.mark.parametrize("how", LEAVING)
    def test_it_is_closed(self, serve: Serve, how: str) -> None:
        diary = Diary()
        served = serve(self.app(diary))
        with contextlib.ExitStack() as stack:
            peers = []
            for target in ("/get", "/post", "/finish"):
                for kind in ("ticking", "idle", "flooding", "thread"):
                    peer = stack.enter_context(connect(served, receive_buffer=4096))
                    peer.send(message(f"{target}/{kind}", "GET" if target == "/get" else "POST"))
                    assert peer.read_head().status == 200
                    peers.append(peer)
            for peer in peers:
                LEAVING[how](peer)
            # A FIN may be a half-close: it is given half a second.
            diary.wait_for("closed", len(peers), SLACK + (how != "reset") * 0.5)
        assert has_no_connections(served)
        assert diary.entries == ["closed"] * len(peers)
        assert warnings_of(served) == [], "a client may leave: nothing is worth a warning"

    @pytest.mark.parametrize("kind", ["ticking", "idle", "flooding"])
    def test_it_is_closed_within_a_tenth_of_a_second_of_a_reset(self, serve: Serve, kind: str) -> None:
        diary = Diary()
        served = serve(self.app(diary))
        took = []
        for times in range(5):  # the machine may be busy at times
            with connect(served, receive_buffer=4096) as peer:
                peer.send(message(f"/get/{kind}"))
                peer.read_head()
                left = time.monotonic()
                peer.reset()
                took.append(diary.wait_for("closed", times + 1) - left)
        assert min(took) < 0.1

    @pytest.mark.parametrize("how", LEAVING)
    def test_it_is_closed_when_more_requests_wait_than_are_read(self, serve: Serve, how: str) -> None:
        """The connection is not being read any more, and the generator waits for something that never comes."""
        diary = Diary()
        served = serve(self.app(diary))
        with served.connect() as peer:
            peer.send(message("/get/idle"))
            peer.read_head()
            assert peer.read_chunk() == b"chunk"
            if how == "reset":
                fill(peer, message("/get/idle") * 1000, 0.3)
            else:
                peer.send(message("/get/idle") * 4000)  # a FIN has to fit behind them
            LEAVING[how](peer)
            diary.wait_for("closed", patience=1 + SLACK)
        assert has_no_connections(served)


class TestHandlers:
    """What becomes of a handler is its route's `on_disconnect`: `auto` cancels safe methods only (RFC 9110 §9.2.1)."""

    CANCELLED = (("auto", "GET"), ("auto", "HEAD"), ("cancel", "GET"), ("cancel", "POST"))
    FINISHED = (("auto", "POST"), ("auto", "PUT"), ("auto", "DELETE"), ("finish", "GET"), ("finish", "POST"))

    @pytest.mark.parametrize("how", LEAVING)
    def test_it_is_cancelled_or_it_finishes(self, serve: Serve, how: str) -> None:
        diary = Diary()
        go = asyncio.Event()
        app = Vibora()

        async def handler(request: Request) -> Response:
            name = f"{request.path} {request.method}"
            diary.write("started")
            try:
                await go.wait()
                diary.write(f"{name} finished, disconnected: {await request.is_disconnected()}")
            except asyncio.CancelledError:
                diary.write(f"{name} cancelled")
                raise
            finally:
                diary.write("cleaned up")
            return Response("done")

        app.add_route("/auto", handler, ["GET", "POST", "PUT", "DELETE"])
        app.add_route("/cancel", handler, ["GET", "POST"], on_disconnect="cancel")
        app.add_route("/finish", handler, ["GET", "POST"], on_disconnect="finish")
        served = serve(app)
        with contextlib.ExitStack() as stack:
            peers = {}
            for case in self.CANCELLED + self.FINISHED:
                peers[case] = stack.enter_context(served.connect())
                peers[case].send(message(f"/{case[0]}", case[1]))
            diary.wait_for("started", len(peers))
            for peer in peers.values():
                LEAVING[how](peer)
            diary.wait_for("cleaned up", len(self.CANCELLED), SLACK)
            # Whatever the server does about a client's leaving, it does within half a second.
            assert wait_until(lambda: diary.count("cleaned up") > len(self.CANCELLED), 0.7) is False
            served.loop.call_soon_threadsafe(go.set)
            diary.wait_for("cleaned up", len(peers))
            if how == "half_close":
                for case in self.FINISHED:
                    assert peers[case].read_answer().text == "done", "it has only stopped sending"
        expected = [f"/{policy} {method} cancelled" for policy, method in self.CANCELLED]
        expected += [f"/{policy} {method} finished, disconnected: True" for policy, method in self.FINISHED]
        assert sorted(set(diary.entries)) == sorted([*expected, "started", "cleaned up"])
        assert has_no_connections(served)
        assert warnings_of(served) == []

    def test_a_shielded_part_goes_on(self, serve: Serve) -> None:
        diary = Diary()
        go = asyncio.Event()
        app = Vibora()
        tasks: list[asyncio.Task[None]] = []

        async def part() -> None:
            await go.wait()
            diary.write("part")

        @app.get("/")
        async def home() -> Response:
            tasks.append(asyncio.create_task(part()))
            diary.write("started")
            try:
                await asyncio.shield(tasks[0])
            finally:
                diary.write("cleaned up")
            return Response()

        served = serve(app)
        with served.connect() as peer:
            peer.send(message())
            diary.wait_for("started")
            peer.reset()
        diary.wait_for("cleaned up", patience=SLACK)
        served.loop.call_soon_threadsafe(go.set)
        diary.wait_for("part")
        assert diary.entries == ["started", "cleaned up", "part"]

    def test_who_reads_content_is_told(self, serve: Serve) -> None:
        diary = Diary()
        app = Vibora()

        @app.post("/")
        async def home(request: Request) -> Response:
            diary.write("started")
            try:
                await request.content()
            except ClientDisconnected:
                diary.write("told")
                raise
            return Response()

        served = serve(app)
        for leave in LEAVING.values():
            with served.connect() as peer:
                peer.send(message(method="POST", headers=["Content-Length: 10"], content=b"half"))
                diary.wait_for("started", diary.count("told") + 1)
                leave(peer)
                diary.wait_for("told", diary.count("started"), SLACK)
        assert has_no_connections(served)
        assert warnings_of(served) == []

    def test_a_stream_made_for_nobody_is_closed(self, serve: Serve) -> None:
        """Its handler finishes after the client has left, and returns a stream that will not start."""
        diary = Diary()
        go = asyncio.Event()
        app = Vibora()

        class Chunks:
            def __aiter__(self) -> AsyncIterator[bytes]:
                diary.write("iterated")
                raise NotImplementedError

            async def aclose(self) -> None:
                await asyncio.sleep(0)
                diary.write("closed")

        @app.post("/")
        async def home() -> StreamingResponse:
            diary.write("started")
            await go.wait()
            return StreamingResponse(Chunks())

        served = serve(app)
        with served.connect() as peer:
            peer.send(message(method="POST"))
            diary.wait_for("started")
            peer.reset()
        assert wait_until(lambda: server_sockets(served.port) == 0)
        served.loop.call_soon_threadsafe(go.set)
        diary.wait_for("closed", patience=SLACK)
        assert has_no_connections(served)
        assert diary.entries == ["started", "closed"]

    def test_an_error_after_it_is_logged_once(self, serve: Serve) -> None:
        diary = Diary()
        app = Vibora()

        @app.get("/", name="failing")
        async def home() -> Response:
            diary.write("started")
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                raise ZeroDivisionError from None
            return Response()

        served = serve(app)
        with served.connect() as peer:
            peer.send(message())
            diary.wait_for("started")
            peer.reset()
        assert has_no_connections(served)
        assert len(served.errors) == 1
        assert '"failing"' in served.errors[0].getMessage()

    def test_a_blocking_handler_ends_by_itself(self, serve: Serve) -> None:
        diary = Diary()
        release = threading.Event()
        app = Vibora()

        @app.get("/")
        def home() -> Response:
            diary.write("started")
            release.wait()
            diary.write("ended")
            return Response()

        served = serve(app)
        with served.connect() as peer:
            peer.send(message())
            diary.wait_for("started")
            peer.reset()
        assert has_no_connections(served, SLACK), "the connection does not wait for the thread"
        release.set()
        diary.wait_for("ended")
        assert warnings_of(served) == []


class TestHalfClose:
    """A client that has sent its last byte may read on for a while (RFC 9293 §3.6; RFC 9112 §9.6)."""

    @staticmethod
    def app() -> Vibora:
        app = Vibora()

        @app.get("/at-once")
        async def at_once() -> Response:
            return Response("at once")

        @app.get("/later")
        async def later() -> Response:
            await asyncio.sleep(0.05)
            return Response("later")

        @app.get("/large")
        async def large() -> Response:
            return Response(PIECE * 30)

        return app

    @pytest.mark.parametrize("target", ["/at-once", "/later"])
    def test_the_request_before_it_is_answered(self, serve: Serve, target: str) -> None:
        served = serve(self.app())
        with served.connect() as peer:
            peer.send(message(target))
            peer.half_close()
            assert peer.read_answer().text == target[1:].replace("-", " ")
            assert peer.is_closed()
        assert has_no_connections(served)

    @pytest.mark.parametrize("target", ["/at-once", "/later"])
    def test_all_pipelined_requests_before_it_are_answered(self, serve: Serve, target: str) -> None:
        served = serve(self.app())
        with served.connect() as peer:
            peer.send(message(target) * 3)
            peer.half_close()
            assert [peer.read_answer().status for _ in range(3)] == [200] * 3
            assert peer.is_closed()

    def test_a_slow_reader_has_all_of_its_response(self, serve: Serve) -> None:
        served = serve(self.app())
        with connect(served, receive_buffer=len(PIECE)) as peer:
            peer.send(message("/large"))
            peer.half_close()
            content = read_slowly(peer, len(PIECE), 0.03).partition(b"\r\n\r\n")[2]
            assert len(content) == 30 * len(PIECE)

    def test_in_a_head_or_between_requests_it_is_the_end(self, serve: Serve) -> None:
        served = serve(self.app())
        for said in (b"", b"GET / HTTP/1.1\r\nHo", message("/at-once")):
            with served.connect() as peer:
                peer.send(said)
                peer.half_close()
                started = time.monotonic()
                rest = peer.read_to_end()
                assert time.monotonic() - started < 0.5
                assert rest.startswith(b"HTTP/1.1 200") if said.endswith(b"\r\n\r\n") else rest == b""
        assert warnings_of(served) == []

    def test_in_the_content_it_is_an_incomplete_request(self, serve: Serve) -> None:
        diary = Diary()
        app = Vibora()

        @app.post("/")
        async def home(request: Request) -> Response:
            diary.write((await request.content()).decode())
            return Response()

        served = serve(app)
        for framing, content in (("Content-Length: 10", b"half"), ("Transfer-Encoding: chunked", b"4\r\nhalf\r\n")):
            with served.connect() as peer:
                peer.send(message(method="POST", headers=[framing], content=content))
                peer.half_close()
                assert wait_until(lambda: served.server.connections == 0, SLACK)
        assert diary.entries == [], "half a message was taken for a whole one (RFC 9112 §8)"
        assert served.errors == []


class TestLeaks:
    def test_nothing_is_left_of_clients_that_come_and_go(self, serve: Serve) -> None:
        diary = Diary()
        served = serve(TestStreams.app(diary))
        for times in range(60):
            with served.connect() as peer:
                peer.send(message(f"/get/{('ticking', 'idle', 'flooding')[times % 3]}"))
                if times % 2:
                    peer.read_head()
                if times % 5:
                    peer.reset()
        assert has_no_connections(served)
        assert set(diary.entries) <= {"closed"}
        assert warnings_of(served) == []


class TestShutdown:
    """A server that stops lets go of its clients in phases, each bounded."""

    @staticmethod
    def app(diary: Diary, graceful: float) -> Vibora:  # noqa: C901  a handler for each phase
        app = Vibora(
            server_limits=ServerLimits(graceful_timeout=graceful, keep_alive_timeout=60),
            route_limits=RouteLimits(timeout=60),
        )

        @app.get("/polite")
        async def polite(request: Request) -> StreamingResponse:
            async def chunks() -> AsyncIterator[bytes]:
                yield b"chunk"
                while not request.is_shutting_down:  # noqa: ASYNC110  what a handler can do
                    await asyncio.sleep(0.01)
                yield b"farewell"
                diary.write("polite")

            return StreamingResponse(chunks)

        @app.get("/endless")
        async def endless() -> StreamingResponse:
            async def chunks() -> AsyncIterator[bytes]:
                try:
                    yield b"chunk"
                    await asyncio.Event().wait()
                finally:
                    await asyncio.sleep(0.05)
                    diary.write("endless")

            return StreamingResponse(chunks)

        @app.get("/hanging")
        async def hanging() -> StreamingResponse:
            async def chunks() -> AsyncIterator[bytes]:
                try:
                    yield b"chunk"
                    await asyncio.Event().wait()
                finally:
                    diary.write("hanging")
                    await asyncio.Event().wait()

            return StreamingResponse(chunks)

        @app.get("/handler")
        async def handler() -> Response:
            diary.write("handler started")
            try:
                await asyncio.Event().wait()
            finally:
                diary.write("handler")
            return Response()

        @app.get("/large")
        async def large() -> Response:
            return Response(PIECE * 30)

        @app.get("/home")
        async def home() -> Response:
            return Response("home")

        return app

    def test_streams_may_end_and_idle_connections_do_at_once(self, serve: Serve) -> None:
        diary = Diary()
        served = serve(self.app(diary, 5))
        with served.connect() as idle, served.connect() as silent, served.connect() as stream:
            idle.ask("/home")
            stream.send(message("/polite"))
            assert stream.read_head().status == 200
            assert stream.read_chunk() == b"chunk"
            served.server.shutdown()
            assert seconds_to_close(idle) < SLACK
            assert seconds_to_close(silent) < SLACK
            assert stream.read_chunk() == b"farewell"
            assert stream.read_chunk() == b""
            assert stream.is_closed()
        served.thread.join(2)
        assert not served.thread.is_alive()
        assert diary.entries == ["polite"]
        assert warnings_of(served) == []

    def test_nobody_is_let_in_any_more(self, serve: Serve) -> None:
        diary = Diary()
        served = serve(self.app(diary, 5))
        with served.connect() as peer:
            peer.send(message("/endless"))
            peer.read_head()
            served.server.shutdown()

            def is_refused() -> bool:
                try:
                    with served.connect():
                        return False  # it was waiting to be accepted, or came before nothing is accepted
                except ConnectionError:
                    return True

            assert wait_until(is_refused, SLACK)

    def test_then_what_is_left_is_cancelled(self, serve: Serve) -> None:
        diary = Diary()
        served = serve(self.app(diary, 0.4))
        with served.connect() as stream, served.connect() as handler:
            stream.send(message("/endless"))
            stream.read_head()
            assert stream.read_chunk() == b"chunk"
            handler.send(message("/handler"))
            diary.wait_for("handler started")
            started = time.monotonic()
            served.server.shutdown()
            assert handler.read_answer().status == 503
            assert read_until_reset(stream) == b"", "a stream that is cut has no clean end"
            assert 0.35 < time.monotonic() - started < 0.4 + SLACK
        served.thread.join(3)
        assert not served.thread.is_alive()
        assert sorted(diary.entries) == ["endless", "handler", "handler started"]

    def test_then_what_does_not_end_is_aborted(self, serve: Serve) -> None:
        diary = Diary()
        served = serve(self.app(diary, 0.2))
        with served.connect() as peer:
            peer.send(message("/hanging"))
            peer.read_head()
            assert peer.read_chunk() == b"chunk"
            started = time.monotonic()
            served.server.shutdown()
            assert read_until_reset(peer) == b""
            served.thread.join(6)
            assert not served.thread.is_alive()
            assert time.monotonic() - started < 0.2 + 1 + 1 + SLACK
        assert diary.entries == ["hanging"]

    def test_a_stalled_reader_does_not_hold_it_up(self, serve: Serve) -> None:
        diary = Diary()
        served = serve(self.app(diary, 0.3))
        with connect(served, receive_buffer=4096) as peer:
            peer.send(message("/large"))
            peer.sock.recv(1)
            started = time.monotonic()
            served.server.shutdown()
            served.thread.join(6)
            assert not served.thread.is_alive()
            assert time.monotonic() - started < 0.3 + 1 + 1 + SLACK

    def test_a_reader_in_the_middle_of_a_response_has_the_rest(self, serve: Serve) -> None:
        served = serve(self.app(Diary(), 10))
        with connect(served, receive_buffer=len(PIECE)) as peer:
            peer.send(message("/large"))
            head = peer.read_head()
            served.server.shutdown()
            time.sleep(0.1)
            assert len(peer.read_exactly(int(head.get("content-length") or 0))) == 30 * len(PIECE)
            assert peer.is_closed()
        served.thread.join(3)
        assert not served.thread.is_alive()
        assert warnings_of(served) == []

    def test_hurried_it_gives_no_time(self, serve: Serve) -> None:
        diary = Diary()
        served = serve(self.app(diary, 60))
        with served.connect() as peer:
            peer.send(message("/endless"))
            peer.read_head()
            started = time.monotonic()
            served.server.shutdown()
            served.server.shutdown(hurry=True)
            served.thread.join(5)
            assert not served.thread.is_alive()
            assert time.monotonic() - started < SLACK
        assert diary.entries == ["endless"]
