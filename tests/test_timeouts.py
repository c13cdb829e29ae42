"""Timeouts: what a slow client, and a slow handler, may cost in seconds."""

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from conftest import Peer, Serve, Served
from hostile import (
    SLACK,
    Diary,
    connect,
    has_no_connections,
    is_readable,
    message,
    read_slowly,
    read_until_reset,
    seconds_to_close,
    seconds_to_reset,
    seconds_to_resets,
    server_sockets,
    wait_until,
    warnings_of,
)
from vibora import Request, Response, RouteLimits, ServerLimits, StreamingResponse, Vibora

PIECE = b"x" * 64 * 1024

#: A receive buffer so small that the kernel takes little for a client that does not read.
SMALL = 4096


class TestChunkTimeout:
    """The client has so long to consume each chunk (`StreamingResponse.chunk_timeout`)."""

    @staticmethod
    def app(diary: Diary, **options: Any) -> Vibora:
        app = Vibora()

        async def endless() -> AsyncIterator[bytes]:
            try:
                while True:
                    yield PIECE
            finally:
                await asyncio.sleep(0)
                diary.write("closed")

        def in_a_thread() -> Iterator[bytes]:
            try:
                while True:
                    yield PIECE
            finally:
                diary.write("closed")

        async def then_waiting() -> AsyncIterator[bytes]:
            try:
                for _ in range(20):
                    yield PIECE
                await asyncio.Event().wait()
            finally:
                diary.write("closed")

        sources: dict[str, Any] = {"endless": endless, "thread": in_a_thread, "waiting": then_waiting}

        @app.get("/<kind>", name="stream")
        async def stream(kind: str) -> StreamingResponse:
            return StreamingResponse(sources[kind], **options)

        return app

    def test_readers_that_stall_are_reset(self, serve: Serve) -> None:
        diary = Diary()
        served = serve(self.app(diary, chunk_timeout=0.5))
        kinds = ["endless", "thread", "waiting"]
        with contextlib.ExitStack() as stack:
            peers = [stack.enter_context(connect(served, receive_buffer=SMALL)) for _ in kinds]
            for peer, kind in zip(peers, kinds, strict=True):
                peer.send(message(f"/{kind}"))
            for took in seconds_to_resets(peers, 0.5 + SLACK):
                assert took is not None
                assert took > 0.45
            diary.wait_for("closed", 3)
            assert wait_until(lambda: server_sockets(served.port) == 0, 0.2), "gone from the kernel at once"
            assert has_no_connections(served)
            warnings = warnings_of(served)
            assert len(warnings) == 3, warnings
            for peer, kind in zip(peers, kinds, strict=True):
                client = "{}:{}".format(*peer.sock.getsockname())
                facts = ["chunk_timeout (0.5 s)", '"stream"', f"GET /{kind}", client, "bytes sent", "not consumed"]
                assert any(all(fact in warning for fact in facts) for warning in warnings), (facts, warnings)

    def test_a_drip_reader_is_reset(self, serve: Serve) -> None:
        diary = Diary()
        served = serve(self.app(diary, chunk_timeout=0.5))
        with connect(served, receive_buffer=SMALL) as peer:
            peer.send(message("/endless"))
            started = time.monotonic()
            while seconds_to_reset(peer, 0.05) is None and time.monotonic() < started + 5:
                assert peer.sock.recv(1)
            assert 0.45 < time.monotonic() - started < 0.5 + SLACK
            diary.wait_for("closed", patience=SLACK)

    def test_a_slow_reader_that_is_fair_is_not(self, serve: Serve) -> None:
        """It takes many times the chunk timeout for everything, and less than it for each chunk."""
        count = 40

        async def chunks() -> AsyncIterator[bytes]:
            for _ in range(count):
                yield PIECE

        app = Vibora()

        @app.get("/")
        async def home() -> StreamingResponse:
            return StreamingResponse(chunks, chunk_timeout=1, headers={"Content-Length": str(count * len(PIECE))})

        served = serve(app)
        with connect(served, receive_buffer=len(PIECE)) as peer:
            peer.send(message(headers=["Connection: close"]))
            started = time.monotonic()
            content = read_slowly(peer, len(PIECE), 0.03).partition(b"\r\n\r\n")[2]
            assert time.monotonic() - started > 1
            assert len(content) == count * len(PIECE)
        assert warnings_of(served) == []

    def test_the_time_that_the_generator_takes_does_not_count(self, serve: Serve) -> None:
        async def slow() -> AsyncIterator[bytes]:
            for _ in range(2):
                await asyncio.sleep(0.5)
                yield b"chunk"

        def slow_in_a_thread() -> Iterator[bytes]:
            for _ in range(2):
                time.sleep(0.5)
                yield b"chunk"

        app = Vibora()

        @app.get("/<kind>", timeout=0.2)
        async def home(kind: str) -> StreamingResponse:
            return StreamingResponse(slow if kind == "task" else slow_in_a_thread, chunk_timeout=0.2)

        served = serve(app)
        with served.connect() as task, served.connect() as thread:
            task.send(message("/task"))
            thread.send(message("/thread"))
            assert task.read_answer().chunks == [b"chunk"] * 2
            assert thread.read_answer().chunks == [b"chunk"] * 2
        assert warnings_of(served) == []

    def test_it_can_be_switched_off(self, serve: Serve) -> None:
        diary = Diary()
        with contextlib.ExitStack() as stack:
            peers = []
            for off in (0, None):
                served = serve(self.app(diary, chunk_timeout=off))
                peers.append(stack.enter_context(connect(served, receive_buffer=SMALL)))
                peers[-1].send(message("/endless"))
            assert seconds_to_resets(peers, 0.8) == [None, None]
        diary.wait_for("closed", 2, SLACK)

    def test_the_last_chunks_are_watched_when_the_generator_is_through(self, serve: Serve) -> None:
        app = Vibora()

        @app.get("/<size>", name="short")
        async def home(size: int) -> StreamingResponse:
            return StreamingResponse([b"x" * size], chunk_timeout=0.5)

        served = serve(app)
        with contextlib.ExitStack() as stack:
            peers = [stack.enter_context(connect(served, receive_buffer=SMALL)) for _ in range(4)]
            for number, peer in enumerate(peers):
                headers = ["Connection: close"] if number % 2 else []
                peer.send(message("/50000" if number < 2 else "/400000", headers=headers))
            for took in seconds_to_resets(peers, 0.5 + SLACK):
                assert took is not None, "the kernel keeps a connection that nobody watches"
                assert took > 0.45
        warnings = warnings_of(served)
        assert len(warnings) == 4, warnings
        for warning in warnings:
            for fact in ("chunk_timeout (0.5 s)", '"short"'):
                assert fact in warning, fact

    def test_the_last_chunk_has_its_time_whatever_the_keep_alive_timeout_is(self, serve: Serve) -> None:
        app = Vibora(server_limits=ServerLimits(keep_alive_timeout=0.2))
        size = 300_000

        @app.get("/")
        async def home() -> StreamingResponse:
            return StreamingResponse([b"x" * size], chunk_timeout=5, headers={"Content-Length": str(size)})

        served = serve(app)
        with connect(served, receive_buffer=SMALL) as peer:
            peer.send(message())
            time.sleep(0.8)  # longer than an idle connection may last
            assert len(peer.read_answer().content) == size
            assert seconds_to_close(peer) < 0.2 + SLACK, "and then it is idle"
        assert warnings_of(served) == []

    def test_a_server_that_stalls_does_not_blame_its_clients(self, serve: Serve) -> None:
        """The loop is blocked for longer than the timeout, while there is more to write than the kernel takes."""
        go = threading.Event()
        size = 2_000_000
        app = Vibora()

        @app.get("/")
        async def home() -> StreamingResponse:
            return StreamingResponse([PIECE] * (size // len(PIECE)), chunk_timeout=0.5)

        @app.get("/block")
        async def block() -> Response:
            go.wait()
            return Response()

        served = serve(app)
        with served.connect() as blocker, connect(served, receive_buffer=len(PIECE)) as reader:
            reader.send(message())
            head = reader.read_head()
            blocker.send(message("/block"))
            stalled = threading.Timer(1.2, go.set)
            stalled.start()
            content = b"".join(iter(reader.read_chunk, b""))
            assert head.status == 200
            assert len(content) == size // len(PIECE) * len(PIECE)
            stalled.join()
        assert warnings_of(served) == []


class TestCompleteTimeout:
    """The client has so long, on the wall clock, to consume the whole of a stream."""

    @staticmethod
    def app(seconds: float | None) -> Vibora:
        app = Vibora()

        async def chunks() -> AsyncIterator[bytes]:
            for _ in range(40):
                yield PIECE

        async def slow() -> AsyncIterator[bytes]:
            for _ in range(3):
                yield b"chunk"
                await asyncio.sleep(0.3)

        @app.get("/<kind>", name="stream")
        async def home(kind: str) -> StreamingResponse:
            source = chunks if kind == "large" else slow
            return StreamingResponse(source, chunk_timeout=1, complete_timeout=seconds)

        return app

    def test_it_resets_a_reader_whose_every_chunk_is_in_time(self, serve: Serve) -> None:
        served = serve(self.app(0.7))
        with connect(served, receive_buffer=len(PIECE)) as peer:
            started = time.monotonic()
            peer.send(message("/large"))
            with pytest.raises(ConnectionResetError):
                read_slowly(peer, len(PIECE), 0.05)
            assert 0.65 < time.monotonic() - started < 0.7 + SLACK
        warnings = warnings_of(served)
        assert len(warnings) == 1, warnings
        for fact in ("complete_timeout (0.7 s)", '"stream"', "GET /large", "bytes sent"):
            assert fact in warnings[0], fact

    def test_the_time_that_the_generator_takes_counts(self, serve: Serve) -> None:
        served = serve(self.app(0.5))
        with served.connect() as peer:
            peer.send(message("/slow"))
            assert b"0\r\n\r\n" not in read_until_reset(peer)

    def test_a_stalled_reader_is_cut_after_the_generator_is_through(self, serve: Serve) -> None:
        app = Vibora()

        @app.get("/", name="short")
        async def home() -> StreamingResponse:
            return StreamingResponse([b"x" * 50_000], chunk_timeout=0, complete_timeout=0.5)

        served = serve(app)
        with connect(served, receive_buffer=SMALL) as peer:
            peer.send(message())
            took = seconds_to_reset(peer, 0.5 + SLACK)
            assert took is not None
            assert took > 0.45
        assert 'complete_timeout (0.5 s): route "short"' in warnings_of(served)[0]

    def test_a_quick_reader_keeps_its_connection(self, serve: Serve) -> None:
        served = serve(self.app(1))
        with served.connect() as peer:
            assert len(peer.ask("/large").content) == 40 * len(PIECE)
            time.sleep(1.1)
            assert len(peer.ask("/large").content) == 40 * len(PIECE), "the first response's time was not this one's"

    @pytest.mark.parametrize("off", [0, None])
    def test_off_it_cuts_nobody(self, serve: Serve, off: float | None) -> None:
        served = serve(self.app(off))
        with served.connect() as peer:
            assert peer.ask("/slow").chunks == [b"chunk"] * 3


class TestRouteTimeout:
    """A request has so long, from the end of its head to the client's having the response (`RouteLimits.timeout`)."""

    def test_a_handler_that_is_late_is_cancelled_and_answered_for(self, serve: Serve) -> None:
        diary = Diary()
        app = Vibora()

        @app.get("/", timeout=0.3, name="late")
        async def home() -> Response:
            try:
                await asyncio.Event().wait()
            finally:
                diary.write("cleaned up")
            return Response()

        @app.get("/next")
        async def following() -> Response:
            return Response("next")

        served = serve(app)
        with served.connect() as peer:
            started = time.monotonic()
            assert peer.ask().status == 503
            assert 0.25 < time.monotonic() - started < 0.3 + SLACK
            assert peer.ask("/next").text == "next", "the connection is as good as before"
        assert diary.entries == ["cleaned up"]
        warnings = warnings_of(served)
        assert len(warnings) == 1, warnings
        for fact in ("timeout (0.3 s)", '"late"', "GET /"):
            assert fact in warnings[0], fact

    def test_clean_up_may_wait(self, serve: Serve) -> None:
        diary = Diary()
        app = Vibora()

        @app.get("/", timeout=0.2)
        async def home() -> Response:
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0.3)
                diary.write("cleaned up")
            return Response()

        served = serve(app)
        assert served.ask().status == 503
        assert diary.entries == ["cleaned up"]

    def test_a_handler_that_answers_its_cancellation_is_still_late(self, serve: Serve) -> None:
        app = Vibora()

        @app.get("/", timeout=0.2)
        async def home() -> Response:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
            return Response("as if nothing had happened")

        assert serve(app).ask().status == 503

    def test_a_blocking_handler_is_answered_for(self, serve: Serve) -> None:
        release = threading.Event()
        app = Vibora()

        @app.get("/", timeout=0.2)
        def home() -> Response:
            release.wait()
            return Response()

        served = serve(app)
        try:
            assert served.ask().status == 503
        finally:
            release.set()

    def test_waiting_for_content_counts(self, serve: Serve) -> None:
        app = Vibora()

        @app.post("/", timeout=0.3)
        async def home(request: Request) -> Response:
            return Response(await request.content())

        served = serve(app)
        with served.connect() as peer:
            peer.send(message(method="POST", headers=["Content-Length: 10"], content=b"half"))
            assert peer.read_answer().status == 503

    def test_it_comes_from_the_route_or_else_from_its_limits_or_else_from_the_app(self, serve: Serve) -> None:
        app = Vibora(route_limits=RouteLimits(timeout=0.2))

        async def slow() -> Response:
            await asyncio.sleep(0.6)
            return Response("slow")

        app.add_route("/app", slow)
        app.add_route("/limits", slow, limits=RouteLimits(timeout=5))
        app.add_route("/route", slow, limits=RouteLimits(timeout=5), timeout=0.2)
        app.add_route("/off", slow, timeout=0)
        app.add_route("/none", slow, limits=RouteLimits(timeout=None))
        served = serve(app)
        with contextlib.ExitStack() as stack:
            peers = {}
            for target in ("/app", "/limits", "/route", "/off", "/none"):
                peers[target] = stack.enter_context(served.connect())
                peers[target].send(message(target))
            statuses = {target: peer.read_answer().status for target, peer in peers.items()}
        assert statuses == {"/app": 503, "/limits": 200, "/route": 503, "/off": 200, "/none": 200}

    @staticmethod
    def large(size: int, timeout: float, **limits: Any) -> Vibora:
        app = Vibora(server_limits=ServerLimits(**limits))
        content = bytes(size)

        @app.get("/at-once", timeout=timeout, name="large")
        async def at_once() -> Response:
            return Response(content)

        @app.get("/later", timeout=timeout, name="large")
        async def later() -> Response:
            await asyncio.sleep(0)
            return Response(content)

        @app.get("/thread", timeout=timeout, name="large")
        def thread() -> Response:
            return Response(content)

        return app

    def test_readers_that_stall_are_reset(self, serve: Serve) -> None:
        served = serve(self.large(20_000_000, 0.5, keep_alive_timeout=60))
        requests = [
            message(target, headers=headers)
            for target in ("/at-once", "/later", "/thread")
            for headers in ([], ["Connection: close"])
        ]
        with contextlib.ExitStack() as stack:
            peers = [stack.enter_context(connect(served, receive_buffer=SMALL)) for _ in requests]
            for peer, request in zip(peers, requests, strict=True):
                peer.send(request)
            for took in seconds_to_resets(peers, 0.5 + SLACK):
                assert took is not None
                assert took > 0.4
            assert wait_until(lambda: server_sockets(served.port) == 0, 0.2), "gone from the kernel at once"
        warnings = warnings_of(served)
        assert len(warnings) == len(requests), warnings
        for warning in warnings:
            for fact in (" timeout (0.5 s)", '"large"', "client 127.0.0.1:", "bytes sent", "not consumed"):
                assert fact in f" {warning}", fact

    def test_small_responses_that_nobody_takes_are_reset_too(self, serve: Serve) -> None:
        """The kernel has taken all of it; the client's has not."""
        served = serve(self.large(60_000, 0.5, keep_alive_timeout=1))
        with connect(served, receive_buffer=SMALL) as kept, connect(served, receive_buffer=SMALL) as closed:
            kept.send(message("/at-once"))
            closed.send(message("/at-once", headers=["Connection: close"]))
            assert None not in seconds_to_resets([kept, closed], 1 + SLACK), "the kernel keeps what nobody watches"
            assert wait_until(lambda: server_sockets(served.port) == 0, 0.2)

    @pytest.mark.parametrize("timeout", [0, 10])
    def test_slow_readers_have_all_of_it(self, serve: Serve, timeout: float) -> None:
        """Whatever the keep-alive timeout is: a connection with bytes on their way is not idle."""
        size = 2_000_000
        served = serve(self.large(size, timeout, keep_alive_timeout=0.3))
        requests = [message(target) for target in ("/at-once", "/later", "/thread")]
        requests.append(message("/at-once", headers=["Connection: close"]))
        with contextlib.ExitStack() as stack:
            peers = [stack.enter_context(connect(served, receive_buffer=len(PIECE))) for _ in requests]
            for peer, request in zip(peers, requests, strict=True):
                peer.send(request)
                peer.read_head()
            started = time.monotonic()
            received = [len(peer.receive()) for peer in peers]
            while min(received) < size:
                for number, peer in enumerate(peers):
                    if received[number] < size:
                        received[number] += len(peer.sock.recv(len(PIECE)))
                time.sleep(0.03)
            assert time.monotonic() - started > 0.6
            for peer in peers:
                assert seconds_to_close(peer) < 0.3 + SLACK
        assert warnings_of(served) == []

    def test_pipelined_responses_that_nobody_takes_are_reset(self, serve: Serve) -> None:
        served = serve(self.large(50_000, 0.5, keep_alive_timeout=60))
        with connect(served, receive_buffer=SMALL) as peer:
            peer.send(message("/at-once") * 200)
            assert seconds_to_reset(peer, 0.5 + SLACK) is not None


class TestHeadTimeout:
    """A head has so long from its first byte, or from connecting, to its end (`ServerLimits.head_timeout`)."""

    @pytest.fixture
    def served(self, serve: Serve) -> Served:
        app = Vibora(server_limits=ServerLimits(head_timeout=0.5, keep_alive_timeout=60))

        @app.get("/")
        async def home() -> Response:
            return Response("home")

        return serve(app)

    def test_a_client_that_says_nothing_is_left_without_a_word(self, served: Served) -> None:
        with served.connect() as peer:
            assert 0.45 < seconds_to_close(peer) < 0.5 + SLACK
        assert warnings_of(served) == []

    def test_a_client_that_stops_halfway_is_told(self, served: Served) -> None:
        with served.connect() as peer:
            started = time.monotonic()
            peer.send(b"GET / HTTP/1.1\r\nHost: te")
            answer = peer.read_answer()
            assert (answer.status, answer.get("connection")) == (408, "close")
            assert 0.45 < time.monotonic() - started < 0.5 + SLACK
            assert peer.is_closed()

    def test_dripping_wins_no_time(self, served: Served) -> None:
        for crumb in (b"X", b"X: y\r\n"):
            with served.connect() as peer:
                peer.send(b"GET / HTTP/1.1\r\n")
                started = time.monotonic()
                while not is_readable(peer, 0.05) and time.monotonic() < started + 3:
                    peer.send(crumb)
                assert 0.45 < time.monotonic() - started < 0.5 + SLACK
                assert peer.read_answer().status == 408

    def test_empty_lines_are_no_progress(self, served: Served) -> None:
        with served.connect() as peer:
            assert peer.ask().text == "home"
            started = time.monotonic()
            while not is_readable(peer, 0.05) and time.monotonic() < started + 3:
                peer.send(b"\r\n")
            assert time.monotonic() - started < 0.5 + SLACK

    def test_it_runs_anew_for_each_request(self, served: Served) -> None:
        with served.connect() as peer:
            for _ in range(3):
                peer.send(b"GET / HTTP/1.1\r\n")
                time.sleep(0.3)
                peer.send(b"Host: test\r\n\r\n")
                assert peer.read_answer().text == "home"
            started = time.monotonic()
            peer.send(b"GET")
            assert peer.read_answer().status == 408
            assert 0.45 < time.monotonic() - started < 0.5 + SLACK

    def test_it_can_be_switched_off(self, serve: Serve) -> None:
        app = Vibora(server_limits=ServerLimits(head_timeout=0))

        @app.get("/")
        async def home() -> Response:
            return Response("home")

        served = serve(app)
        with served.connect() as silent, served.connect() as slow:
            slow.send(b"GET / HTTP/1.1\r\n")
            time.sleep(0.8)
            slow.send(b"Host: test\r\n\r\n")
            assert slow.read_answer().text == "home"
            assert silent.ask().text == "home"

    def test_a_hundred_at_once_are_all_shed_and_others_are_served(self, served: Served) -> None:
        with contextlib.ExitStack() as stack:
            peers = [stack.enter_context(served.connect()) for _ in range(100)]
            for peer in peers:
                peer.send(b"GET / HTTP/1.1\r\n")
            assert served.ask().text == "home"
            started = time.monotonic()
            for peer in peers:
                assert peer.read_answer().status == 408
            assert time.monotonic() - started < 0.5 + SLACK
        assert has_no_connections(served)


class TestKeepAliveTimeout:
    """A connection may be idle for so long between two requests (`ServerLimits.keep_alive_timeout`)."""

    @staticmethod
    def app(seconds: float | None) -> Vibora:
        app = Vibora(server_limits=ServerLimits(keep_alive_timeout=seconds, head_timeout=10))

        @app.get("/")
        async def home() -> Response:
            return Response("home")

        @app.get("/slow")
        async def slow() -> Response:
            await asyncio.sleep(0.8)
            return Response("slow")

        return app

    @pytest.mark.parametrize("target", ["/", "/slow"])
    def test_an_idle_connection_ends_without_a_word(self, serve: Serve, target: str) -> None:
        served = serve(self.app(0.4))
        with served.connect() as peer:
            assert peer.ask(target).status == 200
            # A 408 would be taken for the answer to the next request.
            assert 0.35 < seconds_to_close(peer) < 0.4 + SLACK
        assert warnings_of(served) == []

    def test_each_request_winds_it_up(self, serve: Serve) -> None:
        served = serve(self.app(0.4))
        with served.connect() as peer:
            for _ in range(4):
                assert peer.ask().text == "home"
                time.sleep(0.25)

    def test_it_does_not_run_while_a_handler_does(self, serve: Serve) -> None:
        served = serve(self.app(0.4))
        with served.connect() as peer:
            assert peer.ask("/slow").text == "slow"

    def test_the_first_byte_of_a_request_ends_it(self, serve: Serve) -> None:
        served = serve(self.app(0.4))
        with served.connect() as peer:
            peer.ask()
            peer.send(b"GET / HTTP/1.1\r\n")
            time.sleep(0.8)
            peer.send(b"Host: test\r\n\r\n")
            assert peer.read_answer().text == "home"

    @pytest.mark.parametrize("off", [0, None])
    def test_it_can_be_switched_off(self, serve: Serve, off: float | None) -> None:
        served = serve(self.app(off))
        with served.connect() as peer:
            peer.ask()
            time.sleep(0.3)
            assert peer.ask().text == "home"


def test_deadlines_of_many_connections_come_in_their_order(serve: Serve) -> None:
    """Set in another order than they come, on one wheel."""
    app = Vibora()
    ended: list[float] = []
    seconds = [0.8, 0.2, 0.5, 0.35, 1.0, 0.65]

    def handler(timeout: float) -> Callable[[], Any]:
        async def late() -> Response:
            try:
                await asyncio.Event().wait()
            finally:
                ended.append(timeout)
            return Response()

        return late

    for timeout in seconds:
        app.add_route(f"/{timeout}", handler(timeout), timeout=timeout)
    served = serve(app)
    with contextlib.ExitStack() as stack:
        peers: list[Peer] = []
        for timeout in seconds:
            peers.append(stack.enter_context(served.connect()))
            peers[-1].send(message(f"/{timeout}"))
        assert {peer.read_answer().status for peer in peers} == {503}
    assert ended == sorted(seconds)
