"""Uploads: content that comes slowly, in excess, in crumbs, or not at all (RFC 9110 §10.1.1; RFC 9112 §7, §8, §9.3)."""

import asyncio
import contextlib
import hashlib
import threading
import time

import pytest

from conftest import Peer, Serve, Served, Start
from hostile import (
    SLACK,
    Cost,
    Diary,
    connect,
    fill,
    has_no_connections,
    message,
    seconds_to_close,
    seconds_to_refusal,
    warnings_of,
    write_slowly,
)
from vibora import ContentTooLarge, Request, Response, RouteLimits, ServerLimits, Vibora

MEGABYTE = 1024 * 1024
CHUNKED = "Transfer-Encoding: chunked"
POLITE = "Expect: 100-continue"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def app_that_reads(diary: Diary | None = None, **limits: float | None) -> Vibora:
    """Return an app with handlers that read their content in several ways, and some that do not."""
    app = Vibora(route_limits=RouteLimits(**limits))  # type: ignore[arg-type]  # they are of the field they name
    noted = diary or Diary()

    @app.post("/whole")
    async def whole(request: Request) -> Response:
        noted.write("handler")
        content = await request.content()
        noted.write("read")
        return Response(f"{len(content)} {hashlib.sha256(content).hexdigest()}")

    @app.post("/pieces")
    async def pieces(request: Request) -> Response:
        digest = hashlib.sha256()
        length = 0
        async for piece in request.stream:
            digest.update(piece)
            length += len(piece)
        return Response(f"{length} {digest.hexdigest()}")

    @app.post("/unread")
    async def unread() -> Response:
        noted.write("handler")
        return Response("unread")

    @app.post("/unread-later")
    async def unread_later(request: Request) -> Response:
        await asyncio.sleep(0.01)
        return Response("unread")

    @app.post("/later")
    async def later(request: Request) -> Response:
        await asyncio.sleep(1)
        return Response(f"{len(await request.content())}")

    @app.post("/forgiving")
    async def forgiving(request: Request) -> Response:
        noted.write("handler")
        try:
            await request.content()
        except ContentTooLarge as error:
            return Response(f"my own words: {error.status}", 413)
        return Response()

    return app


def summary(content: bytes) -> str:
    return f"{len(content)} {hashlib.sha256(content).hexdigest()}"


class TestContent:
    @pytest.mark.parametrize("target", ["/whole", "/pieces"])
    @pytest.mark.parametrize("framing", ["length", "chunks"])
    def test_megabytes_arrive_whole(self, serve: Serve, target: str, framing: str) -> None:
        content = bytes(range(251)) * 4 * 5000
        served = serve(app_that_reads(max_body_size=10 * MEGABYTE))
        with served.connect() as peer:
            for _ in range(2):
                if framing == "chunks":
                    body = b"".join(chunk(content[at : at + 7777]) for at in range(0, len(content), 7777)) + chunk(b"")
                    peer.send(message(target, "POST", [CHUNKED], body))
                else:
                    peer.send(message(target, "POST", [f"Content-Length: {len(content)}"], content))
                assert peer.read_answer().text == summary(content)

    def test_pieces_come_as_they_arrive(self, serve: Serve) -> None:
        diary = Diary()
        app = Vibora()

        @app.post("/")
        async def home(request: Request) -> Response:
            async for piece in request.stream:
                diary.write(piece.decode())
            return Response()

        served = serve(app)
        with served.connect() as peer:
            peer.send(message("/", "POST", [CHUNKED]))
            for word in ("one", "two", "three"):
                peer.send(chunk(word.encode()))
                diary.wait_for(word)
            peer.send(chunk(b""))
            assert peer.read_answer().status == 200
        assert diary.entries == ["one", "two", "three"]


class TestExpectContinue:
    """RFC 9110 §10.1.1."""

    def test_a_client_that_waits_is_told_to_go_on_when_its_content_is_read(self, serve: Serve) -> None:
        served = serve(app_that_reads())
        with served.connect() as peer:
            for target in ("/whole", "/pieces"):
                peer.send(message(target, "POST", ["Content-Length: 5", POLITE]))
                assert peer.read_head().status == 100
                peer.send(b"hello")
                assert peer.read_answer().text == summary(b"hello")

    def test_it_is_answered_at_once_when_nobody_will_read(self, serve: Serve) -> None:
        served = serve(app_that_reads())
        for target in ("/unread", "/unread-later", "/nowhere"):
            with served.connect() as peer:
                peer.send(message(target, "POST", ["Content-Length: 5", POLITE]))
                answer = peer.read_answer()
                assert answer.status == (404 if target == "/nowhere" else 200)
                # It may send its content or not: only the end of the connection tells the two apart.
                assert answer.get("connection") == "close"
                assert peer.is_closed()

    def test_it_is_refused_before_it_sends_too_much(self, serve: Serve) -> None:
        diary = Diary()
        served = serve(app_that_reads(diary, max_body_size=100))
        with served.connect() as peer:
            peer.send(message("/whole", "POST", ["Content-Length: 101", POLITE]))
            assert peer.read_answer().status == 413
        assert diary.entries == []

    def test_who_does_not_wait_is_not_told(self, serve: Serve) -> None:
        served = serve(app_that_reads())
        with served.connect() as peer:
            peer.send(message("/whole", "POST", ["Content-Length: 5", POLITE], b"hello"))
            assert peer.read_answer().text == summary(b"hello")
            peer.send(message("/whole", "POST", ["Content-Length: 0", POLITE]))
            assert peer.read_answer().text == summary(b"")

    def test_http_1_0_knows_no_interim_responses(self, serve: Serve) -> None:
        served = serve(app_that_reads())
        with served.connect(patience=0.3) as peer:
            peer.send(message("/whole", "POST", ["Content-Length: 5", POLITE], version="1.0"))
            with pytest.raises(TimeoutError):
                peer.receive()
            peer.send(b"hello")
            assert peer.read_answer().text == summary(b"hello")

    def test_the_time_before_it_is_told_is_not_its_own(self, serve: Serve) -> None:
        served = serve(app_that_reads(body_timeout=0.3))
        with served.connect() as peer:
            peer.send(message("/later", "POST", ["Content-Length: 5", POLITE]))
            assert peer.read_head().status == 100
            peer.send(b"hello")
            assert peer.read_answer().text == "5"
        assert warnings_of(served) == []


class TestSize:
    """`RouteLimits.max_body_size` (RFC 9110 §15.5.14)."""

    @pytest.mark.parametrize("target", ["/whole", "/pieces", "/unread", "/later"])
    def test_an_announced_excess_is_refused_without_a_handler(self, serve: Serve, target: str) -> None:
        diary = Diary()
        served = serve(app_that_reads(diary, max_body_size=1000))
        with served.connect() as peer:
            peer.send(message(target, "POST", ["Content-Length: 1001"]))
            answer = peer.read_answer()
            assert (answer.status, answer.get("connection")) == (413, "close")
        assert diary.entries == []

    @pytest.mark.parametrize("target", ["/whole", "/pieces"])
    def test_an_excess_in_chunks_is_refused_when_it_comes(self, serve: Serve, target: str) -> None:
        diary = Diary()
        served = serve(app_that_reads(diary, max_body_size=1000))
        with served.connect() as peer:
            peer.send(message(target, "POST", [CHUNKED], chunk(b"x" * 600)))
            peer.send(chunk(b"x" * 600))
            answer = peer.read_answer()
            assert (answer.status, answer.get("connection")) == (413, "close")
            assert peer.is_closed()
        assert "read" not in diary.entries

    def test_what_is_just_not_too_much_is_read(self, serve: Serve) -> None:
        served = serve(app_that_reads(max_body_size=1000))
        with served.connect() as peer:
            peer.send(message("/whole", "POST", ["Content-Length: 1000"], b"x" * 1000))
            assert peer.read_answer().text == summary(b"x" * 1000)
            peer.send(message("/whole", "POST", [CHUNKED], chunk(b"x" * 1000) + chunk(b"")))
            assert peer.read_answer().text == summary(b"x" * 1000)

    def test_a_handler_may_answer_for_it(self, serve: Serve) -> None:
        diary = Diary()
        served = serve(app_that_reads(diary, max_body_size=10))
        with served.connect() as peer:
            peer.send(message("/forgiving", "POST", [CHUNKED]))
            diary.wait_for("handler")
            peer.send(chunk(b"x" * 11))
            assert peer.read_answer().text == "my own words: 413"
            assert peer.is_closed()

    @pytest.mark.parametrize("headers", [["Content-Length: 10000000"], [CHUNKED]])
    def test_the_answer_reaches_a_client_that_is_still_sending(self, serve: Serve, headers: list[str]) -> None:
        """The connection is closed in stages: a reset would destroy the answer on its way (RFC 9112 §9.6)."""
        served = serve(app_that_reads(max_body_size=1000))
        content = b"x" * 10_000_000
        with served.connect() as peer:
            peer.send(message("/whole", "POST", headers))
            peer.send(b"989680\r\n" + content if headers == [CHUNKED] else content)
            peer.half_close()
            assert peer.read_answer().status == 413
            assert peer.read_to_end() == b""

    def test_it_can_be_switched_off(self, serve: Serve) -> None:
        served = serve(app_that_reads(max_body_size=None))
        content = b"x" * 3 * MEGABYTE
        with served.connect() as peer:
            peer.send(message("/pieces", "POST", [f"Content-Length: {len(content)}"], content))
            assert peer.read_answer().text == summary(content)


class TestPace:
    """`RouteLimits.body_timeout` and `min_body_rate`: 408 (RFC 9110 §15.5.9)."""

    @staticmethod
    def refused(peer: Peer, started: float, least: float, most: float) -> None:
        answer = peer.read_answer()
        assert (answer.status, answer.get("connection")) == (408, "close")
        assert least < time.monotonic() - started < most
        assert peer.is_closed()

    def test_who_stops_sending_is_refused(self, serve: Serve) -> None:
        served = serve(app_that_reads(body_timeout=0.5, min_body_rate=0))
        with contextlib.ExitStack() as stack:
            started = time.monotonic()
            peers = []
            for target in ("/whole", "/pieces"):
                halves = [("Content-Length: 10", b"half"), (CHUNKED, chunk(b"half")), (CHUNKED, b"9\r\nha")]
                for framing, half in halves:
                    peers.append(stack.enter_context(served.connect()))
                    peers[-1].send(message(target, "POST", [framing], half))
            for peer in peers:
                self.refused(peer, started, 0.45, 0.5 + SLACK)
        assert has_no_connections(served)

    def test_crumbs_do_not_win(self, serve: Serve) -> None:
        """Neither content in crumbs, nor bytes that carry none: those of an endless chunk extension."""
        served = serve(app_that_reads(body_timeout=0.6, min_body_rate=240))
        crumbs = [b"x", b"1\r\nx\r\n", b"1;extension=1\r\nx\r\n", b"1;", b"x"]
        with contextlib.ExitStack() as stack:
            started = time.monotonic()
            peers = []
            for number, crumb in enumerate(crumbs):
                peers.append(stack.enter_context(served.connect()))
                framing = CHUNKED if number else "Content-Length: 4096"
                peers[-1].send(message("/whole", "POST", [framing], b"1;" if number == 4 else b""))
                dripping = threading.Thread(target=write_slowly, args=(peers[-1], crumb * 20, len(crumb), 0.05))
                stack.callback(dripping.join)
                dripping.start()
            for peer in peers:
                self.refused(peer, started, 0.5, 0.6 + SLACK)

    def test_who_is_slow_and_quick_enough_is_read(self, serve: Serve) -> None:
        served = serve(app_that_reads(body_timeout=1, min_body_rate=240))
        with served.connect() as peer:
            peer.send(message("/whole", "POST", ["Content-Length: 1000"]))
            write_slowly(peer, b"x" * 1000, 50, 0.1)
            assert peer.read_answer().text == summary(b"x" * 1000)

    def test_the_time_in_which_the_handler_does_not_read_is_not_the_clients(self, serve: Serve) -> None:
        content = b"x" * MEGABYTE
        served = serve(app_that_reads(body_timeout=0.3, min_body_rate=MEGABYTE))
        with served.connect() as peer:
            peer.send(message("/later", "POST", [f"Content-Length: {len(content)}"], content))
            assert peer.read_answer().text == str(len(content))
        assert warnings_of(served) == []

    def test_both_can_be_switched_off(self, serve: Serve) -> None:
        served = serve(app_that_reads(body_timeout=0, min_body_rate=0))
        with served.connect() as peer:
            peer.send(message("/whole", "POST", ["Content-Length: 4"], b"ha"))
            time.sleep(0.8)
            peer.send(b"lf")
            assert peer.read_answer().text == summary(b"half")

    def test_a_server_that_stalls_does_not_blame_its_clients(self, serve: Serve) -> None:
        """The content has arrived, and the loop has had no time to look."""
        go = threading.Event()
        app = app_that_reads(body_timeout=0.5)

        @app.get("/block")
        async def block() -> Response:
            go.wait()
            return Response()

        served = serve(app)
        with served.connect() as blocker, served.connect() as peer:
            peer.send(message("/whole", "POST", ["Content-Length: 4"], b"ha"))
            time.sleep(0.1)
            blocker.send(message("/block"))
            time.sleep(0.1)
            peer.send(b"lf")
            time.sleep(1)
            go.set()
            assert peer.read_answer().text == summary(b"half")


class TestUnread:
    """Content that nobody reads is thrown away when it is little, else the connection ends (RFC 9112 §9.3, §9.6)."""

    @pytest.mark.parametrize("target", ["/unread", "/unread-later", "/nowhere"])
    @pytest.mark.parametrize("framing", ["Content-Length: 10000", CHUNKED])
    def test_a_little_is_drained_and_the_connection_goes_on(self, serve: Serve, target: str, framing: str) -> None:
        served = serve(app_that_reads())
        with served.connect() as peer:
            for cut in (0, 5_000, 10_000):  # before the answer, and after
                content = b"GET / HTTP/1.1\r\n" * 625
                body = chunk(content) + chunk(b"") if framing == CHUNKED else content
                peer.send(message(target, "POST", [framing], body[:cut]))
                answer = peer.read_answer()
                assert (answer.status, answer.get("connection")) == (404 if target == "/nowhere" else 200, None)
                peer.send(body[cut:])
            assert peer.ask("/whole", "POST", content=b"hello").text == summary(b"hello")

    @pytest.mark.parametrize("target", ["/unread", "/unread-later", "/nowhere"])
    def test_after_a_lot_the_connection_ends_and_the_answer_survives(self, serve: Serve, target: str) -> None:
        served = serve(app_that_reads(max_body_size=None))
        with served.connect() as peer:
            peer.send(message(target, "POST", ["Content-Length: 5000000"]))
            with contextlib.suppress(ConnectionError):
                peer.send(b"x" * 5_000_000)
            answer = peer.read_answer()
            assert (answer.status, answer.get("connection")) == (404 if target == "/nowhere" else 200, "close")
            assert peer.is_closed()

    def test_chunks_without_end_are_not_drained_for_ever(self, serve: Serve) -> None:
        served = serve(app_that_reads(max_body_size=None))
        with served.connect() as peer:
            peer.send(message("/unread", "POST", [CHUNKED], chunk(b"x")))
            assert peer.read_answer().status == 200
            peer.send(chunk(b"x" * 1000) * 100)
            started = time.monotonic()
            assert peer.is_closed()
            assert time.monotonic() - started < SLACK

    def test_content_that_never_comes_is_not_waited_for(self, serve: Serve) -> None:
        app = app_that_reads()
        app.server_limits = ServerLimits(head_timeout=0.5)
        served = serve(app)
        with contextlib.ExitStack() as stack:
            peers = []
            for number, target in enumerate(("/unread", "/unread-later", "/nowhere") * 2):
                peer = stack.enter_context(served.connect())
                peer.send(message(target, "POST", ["Content-Length: 10000"], b"x"))
                assert peer.read_answer().status in (200, 404)
                peers.append(peer)
                if number >= 3:
                    dripping = threading.Thread(target=write_slowly, args=(peer, b"x" * 200, 1, 0.05))
                    stack.callback(dripping.join)
                    dripping.start()
            started = time.monotonic()
            for peer in peers:
                assert peer.is_closed(), "a client that owes content holds a connection without a time limit"
            assert time.monotonic() - started < 0.5 + 2 + SLACK

    def test_a_connection_that_ends_is_not_read_for_ever(self, serve: Serve) -> None:
        served = serve(app_that_reads(max_body_size=1000))
        with served.connect() as peer:
            peer.send(message("/whole", "POST", ["Content-Length: 100000"]))
            assert peer.read_answer().status == 413
            seconds_to_refusal(peer, b"x" * 100, 0.05, 2 + SLACK)


class TestBackpressure:
    def test_who_sends_faster_than_the_handler_reads_has_to_wait(self, serve: Serve) -> None:
        go = asyncio.Event()
        diary = Diary()
        app = Vibora(route_limits=RouteLimits(max_body_size=None))

        @app.post("/")
        async def home(request: Request) -> Response:
            diary.write("started")
            await go.wait()
            length = 0
            async for piece in request.stream:
                length += len(piece)
            return Response(str(length))

        served = serve(app)
        with served.connect() as peer:
            peer.send(message("/", "POST", [f"Content-Length: {64 * MEGABYTE}"]))
            diary.wait_for("started")
            sent = fill(peer, b"x" * 64 * 1024, 0.5)
            assert sent < 16 * MEGABYTE, "the kernel holds some, the server next to nothing"
            served.loop.call_soon_threadsafe(go.set)
            peer.send(b"x" * (64 * MEGABYTE - sent))
            assert peer.read_answer().text == str(64 * MEGABYTE)

    @pytest.mark.parametrize("event_loop", ["uvloop", "asyncio"])
    def test_a_streamed_upload_needs_no_memory(self, program: Start, event_loop: str) -> None:
        code = """
import asyncio
from vibora import Request, Response, RouteLimits, Vibora
app = Vibora(route_limits=RouteLimits(max_body_size=None))
@app.post("/")
async def home(request: Request):
    length = 0
    async for piece in request.stream:
        length += len(piece)
        await asyncio.sleep(0)
    return Response(str(length))
"""
        process = program(
            *("-m", "vibora", "run", "app.py", "--port", "0"),
            code=code,
            VIBORA_UVLOOP=str(int(event_loop == "uvloop")),
        )
        cost = Cost(process)
        with connect(process.port()) as peer:
            peer.ask("/", "POST", content=b"x")
            before = cost.resident
            peer.send(message("/", "POST", [f"Content-Length: {200 * MEGABYTE}"]))
            for _ in range(200):
                peer.send(b"x" * MEGABYTE)
            assert peer.read_answer().text == str(200 * MEGABYTE)
            assert cost.resident - before < 8 * MEGABYTE


class TestCrumbs:
    """What is legal, and made to cost."""

    @pytest.mark.parametrize("target", ["/whole", "/pieces"])
    def test_a_chunk_for_each_byte_costs_in_proportion(self, serve: Serve, target: str) -> None:
        served = serve(app_that_reads(max_body_size=None))

        async def time_spent() -> float:
            return time.thread_time()

        spent = []
        with served.connect() as peer:
            for count in (200_000, 800_000):
                before = served.run(time_spent)
                peer.send(message(target, "POST", [CHUNKED], chunk(b"x") * count + chunk(b"")))
                assert peer.read_answer().text == summary(b"x" * count)
                spent.append(served.run(time_spent) - before)
        assert spent[0] < 1, f"200,000 chunks took {spent[0]} s"
        assert spent[1] < 10 * max(spent[0], 0.01), f"{spent} s are more than linear"

    def test_extensions_and_trailers_without_end_are_refused(self, serve: Serve) -> None:
        served = serve(app_that_reads(max_body_size=None))
        floods = {
            b"1;" + b"x" * 100_000: (400, 413, 431),
            chunk(b"x") + b"0\r\n" + b"X-A: b\r\n" * 20_000: (400, 413, 431),
        }
        for flood, statuses in floods.items():
            with served.connect() as peer:
                with contextlib.suppress(ConnectionError):
                    peer.send(message("/whole", "POST", [CHUNKED], flood))
                answer = peer.read_answer()
                assert answer.status in statuses
                assert peer.is_closed()

    def test_a_request_in_crumbs_is_read_like_any_other(self, serve: Serve) -> None:
        app = app_that_reads()
        served = serve(app)
        with served.connect() as peer:
            peer.sock.setsockopt(6, 1, 1)  # TCP_NODELAY
            for byte in message("/whole", "POST", [CHUNKED], chunk(b"hello") + chunk(b" you") + chunk(b"")):
                peer.send(bytes([byte]))
                time.sleep(0.0005)
            assert peer.read_answer().text == summary(b"hello you")


def test_an_idle_connection_after_an_upload_ends_by_its_own_timeout(serve: Serve) -> None:
    app = Vibora(server_limits=ServerLimits(keep_alive_timeout=0.3), route_limits=RouteLimits(body_timeout=0.1))

    @app.post("/")
    async def home(request: Request) -> Response:
        return Response(await request.content())

    served: Served = serve(app)
    with served.connect() as peer:
        assert peer.ask("/", "POST", content=b"hello").text == "hello"
        assert 0.25 < seconds_to_close(peer) < 0.3 + SLACK
