"""Limits, each at its value and one past it: RFC 9112 §3, §5, §7.1.1, §7.1.2, RFC 9110 §15.5.14, RFC 6585 §5."""

import asyncio
import socket
import threading
from collections.abc import Callable
from queue import Queue

import pytest
import uvloop

from conformance.wire import converse
from conftest import PATIENCE, Serve, Served
from vibora import Request, Response, RouteLimits, ServerLimits, Vibora

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.fixture
def loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """One loop will do: what is counted does not depend on it, and the corpus runs on both."""
    return uvloop.new_event_loop


def echo_app(server: ServerLimits | None = None, route: RouteLimits | None = None) -> Vibora:
    app = Vibora(server_limits=server, route_limits=route)

    async def echo(request: Request) -> Response:
        return Response(await request.content())

    app.add_route("/<*path>", echo, ["GET", "POST"])
    return app


def status_of(served: Served, octets: bytes, method: str = "GET") -> int:
    """Return the status; fail unless a rejection ends the connection, and everything else leaves it in order."""
    with served.connect() as peer:
        peer.send(octets)
        answer = peer.read_answer(method)
        if answer.status >= 400:
            assert answer.get("connection") == "close"
            assert peer.is_closed()
        else:
            converse(peer.sock, GET)
    assert served.ask("/").status == 200
    return answer.status


class TestRequestLine:
    """RFC 9112 §3: 414."""

    @staticmethod
    def octets(size: int) -> bytes:
        start, end = b"GET /", b" HTTP/1.1"
        return start + b"x" * (size - len(start + end)) + end + b"\r\nHost: a\r\n\r\n"

    def test_at_the_default_and_past_it(self, serve: Serve) -> None:
        served = serve(echo_app())
        assert [status_of(served, self.octets(size)) for size in (8000, 8191, 8192)] == [200, 200, 200]
        assert [status_of(served, self.octets(size)) for size in (8193, 8194, 100_000)] == [414, 414, 414]

    @pytest.mark.parametrize("limit", [50, 1000, 60_000])
    def test_at_a_value_of_the_app_and_past_it(self, serve: Serve, limit: int) -> None:
        served = serve(echo_app(ServerLimits(max_request_line=limit)))
        assert status_of(served, self.octets(limit)) == 200
        assert status_of(served, self.octets(limit + 1)) == 414

    def test_a_line_without_end_is_refused_before_its_end(self, serve: Serve) -> None:
        served = serve(echo_app())
        for start in (b"GET /", b"GET /?", b"GET http://"):
            assert status_of(served, start + b"a" * 10_000) == 414


class TestHeaderSection:
    """RFC 6585 §5: 431."""

    @staticmethod
    def octets(size: int) -> bytes:
        start, end = b"Host: a\r\nX: ", b"\r\n\r\n"
        return b"GET / HTTP/1.1\r\n" + start + b"y" * (size - len(start + end)) + end

    def test_size_at_the_default_and_past_it(self, serve: Serve) -> None:
        served = serve(echo_app())
        assert [status_of(served, self.octets(size)) for size in (32_767, 32_768)] == [200, 200]
        assert [status_of(served, self.octets(size)) for size in (32_769, 32_770, 500_000)] == [431, 431, 431]

    @pytest.mark.parametrize("limit", [40, 1000, 100_000])
    def test_size_at_a_value_of_the_app_and_past_it(self, serve: Serve, limit: int) -> None:
        served = serve(echo_app(ServerLimits(max_headers_size=limit)))
        assert status_of(served, self.octets(limit)) == 200
        assert status_of(served, self.octets(limit + 1)) == 431

    @pytest.mark.parametrize("limit", [2, 3, 99, 100])
    def test_fields_at_their_limit_and_past_it(self, serve: Serve, limit: int) -> None:
        served = serve(echo_app(ServerLimits(max_header_fields=limit)))
        for count, status in ((limit, 200), (limit + 1, 431), (limit + 500, 431)):
            octets = b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * (count - 1) + b"\r\n"
            assert status_of(served, octets) == status

    def test_a_section_without_end_is_refused_before_its_end(self, serve: Serve) -> None:
        served = serve(echo_app())
        for lines in (b"X: y\r\n" * 10_000, b"X: " + b"y" * 100_000, b"x" * 100_000):
            assert status_of(served, b"GET / HTTP/1.1\r\nHost: a\r\n" + lines) == 431


class TestChunks:
    """RFC 9112 §7.1.1 and §7.1.2: 413 for extensions, 431 for trailers."""

    HEAD = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"

    @pytest.mark.parametrize("pieces", [1, 2, 64])
    def test_extensions_of_a_message_at_their_limit_and_past_it(self, serve: Serve, pieces: int) -> None:
        served = serve(echo_app())
        for total, status in ((4096, 200), (4097, 413), (40_960, 413)):
            sizes = [total // pieces] * (pieces - 1)
            sizes.append(total - sum(sizes))
            chunks = b"".join(b"1;%b\r\nx\r\n" % (b"a" * (size - 1)) for size in sizes)
            assert status_of(served, self.HEAD + chunks + b"0\r\n\r\n", "POST") == status

    def test_trailers_at_their_limit_and_past_it(self, serve: Serve) -> None:
        served = serve(echo_app())
        for size, status in ((8192, 200), (8193, 431), (80_000, 431)):
            trailer = b"X: " + b"y" * (size - len(b"X: \r\n")) + b"\r\n"
            assert status_of(served, self.HEAD + b"0\r\n" + trailer + b"\r\n", "POST") == status
        for count, status in ((64, 200), (65, 431), (5000, 431)):
            assert status_of(served, self.HEAD + b"0\r\n" + b"X: y\r\n" * count + b"\r\n", "POST") == status

    def test_neither_may_go_on_for_ever(self, serve: Serve) -> None:
        served = serve(echo_app())
        assert status_of(served, self.HEAD + b"1;" + b"a" * 100_000, "POST") == 413
        assert status_of(served, self.HEAD + b"0\r\n" + b"X: y\r\n" * 20_000, "POST") == 431


class TestBody:
    """RFC 9110 §15.5.14: 413."""

    @staticmethod
    def sized(size: int) -> bytes:
        return b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size

    @staticmethod
    def chunked(size: int, piece: int) -> bytes:
        sizes = [piece] * (size // piece) + ([size % piece] if size % piece else [])
        chunks = b"".join(b"%x\r\n%b\r\n" % (length, b"x" * length) for length in sizes)
        return b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"

    @pytest.mark.parametrize("limit", [1, 1000, 1024 * 1024])
    def test_at_its_limit_and_past_it(self, serve: Serve, limit: int) -> None:
        served = serve(echo_app(route=RouteLimits(max_body_size=limit)))
        for size, status in ((limit - 1, 200), (limit, 200), (limit + 1, 413), (2 * limit, 413)):
            assert status_of(served, self.sized(size), "POST") == status
            for piece in {size or 1, max(1, size // 3)}:
                assert status_of(served, self.chunked(size, piece), "POST") == status

    def test_what_is_announced_is_refused_before_it_comes(self, serve: Serve) -> None:
        served = serve(echo_app(route=RouteLimits(max_body_size=1000)))
        for size in (1001, 2**31, 2**32, 2**63 - 1):
            octets = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size
            assert status_of(served, octets, "POST") == 413

    def test_a_chunk_is_refused_when_it_passes_the_limit_not_when_it_says_so(self, serve: Serve) -> None:
        served = serve(echo_app(route=RouteLimits(max_body_size=1000)))
        head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        assert status_of(served, head + b"ffffffffffffffff\r\n" + b"x" * 1001, "POST") == 413

    def test_the_default_is_a_mebibyte_and_none_is_none(self, serve: Serve) -> None:
        served = serve(echo_app())
        assert status_of(served, self.sized(1024 * 1024), "POST") == 200
        assert status_of(served, self.sized(1024 * 1024 + 1), "POST") == 413
        for off in (0, None):
            served = serve(echo_app(route=RouteLimits(max_body_size=off)))
            assert status_of(served, self.sized(3 * 1024 * 1024), "POST") == 200

    def test_each_route_may_have_its_own(self, serve: Serve) -> None:
        app = Vibora(route_limits=RouteLimits(max_body_size=10))

        @app.post("/large", limits=RouteLimits(max_body_size=100))
        @app.post("/small")
        async def read(request: Request) -> Response:
            return Response(await request.content())

        served = serve(app)
        assert [served.ask("/large", "POST", content=b"x" * size).status for size in (100, 101)] == [200, 413]
        assert [served.ask("/small", "POST", content=b"x" * size).status for size in (10, 11)] == [200, 413]


class TestPipeline:
    """Requests that wait for their turn take a bounded part of the server's memory."""

    @pytest.mark.parametrize("limit", [1024, 64 * 1024])
    def test_a_client_that_floods_is_not_read(self, serve: Serve, limit: int) -> None:
        app = Vibora(server_limits=ServerLimits(read_buffer=limit))
        entered: Queue[None] = Queue()
        gate = threading.Event()

        @app.get("/slow")
        def slow() -> Response:
            entered.put(None)
            gate.wait(PATIENCE)
            return Response(b"")

        @app.get("/")
        async def quick() -> Response:
            return Response(b"")

        served = serve(app)
        with served.connect() as peer:
            peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            peer.send(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
            entered.get(timeout=PATIENCE)
            flood = memoryview(GET * 100_000)
            taken = refused = 0
            peer.sock.settimeout(0)
            while refused < 5:
                try:
                    taken += peer.sock.send(flood[taken:])
                except BlockingIOError:
                    # By the next answer the server has had a turn of its loop to take more.
                    assert served.ask("/").status == 200
                    refused += 1
                else:
                    refused = 0
            # What the kernel holds for both of them, one read of the transport, and what may wait.
            assert taken < 1024 * 1024 + limit
            peer.sock.settimeout(PATIENCE)
            gate.set()
            answered = 0
            while answered < 1 + taken // len(GET):
                answered += peer.read_until(b"\r\n\r\n").startswith(b"HTTP/1.1 200 OK\r\n")
