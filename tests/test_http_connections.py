"""Connections: pipelines, persistence, the close (RFC 9112 §9), on both event loops."""

import socket
import threading
from collections.abc import AsyncIterator
from queue import Queue

import pytest

from conformance.wire import converse
from conftest import PATIENCE, Serve, Served
from vibora import Request, Response, StreamingResponse, Vibora

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
BAD = [
    b"GET / HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\nHost: a\n\n",
    b"\0\0\0\0",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST /task/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello!\r\n",
]
#: Version, fields, and whether the connection persists.
PERSISTENCE = [
    ("1.1", [], True),
    ("1.1", ["Connection: close"], False),
    ("1.1", ["Connection: keep-alive, close"], False),
    ("1.0", [], False),
    ("1.0", ["Connection: keep-alive"], True),
    ("1.0", ["Connection: keep-alive, close"], False),
]


@pytest.fixture
def seen() -> list[str]:
    """The paths of the requests that were handled, in order."""
    return []


@pytest.fixture
def served(serve: Serve, seen: list[str]) -> Served:
    app = Vibora()

    async def direct(request: Request) -> Response:
        seen.append(request.path)
        return Response(request.path)

    async def task(request: Request) -> Response:
        content = await request.content()
        seen.append(request.path)
        return Response(request.path.encode() + content)

    def thread(request: Request) -> Response:
        seen.append(request.path)
        return Response(request.path)

    async def stream(request: Request) -> StreamingResponse:
        seen.append(request.path)

        async def pieces() -> AsyncIterator[str]:
            for piece in request.path:
                yield piece

        return StreamingResponse(pieces)

    async def last(request: Request) -> Response:
        seen.append(request.path)
        return Response(request.path, headers={"Connection": "close"})

    app.add_route("/direct/<*rest>", direct, ["GET", "POST"])
    app.add_route("/task/<*rest>", task, ["GET", "POST"])
    app.add_route("/thread/<*rest>", thread, ["GET", "POST"])
    app.add_route("/stream/<*rest>", stream, ["GET", "POST"])
    app.add_route("/last", last)
    app.add_route("/", direct)
    return serve(app)


def get(path: str, *fields: str, version: str = "1.1") -> bytes:
    return "\r\n".join([f"GET {path} HTTP/{version}", "Host: a", *fields, "", ""]).encode()


class TestPipelining:
    """RFC 9112 §9.3.2: "it MUST send the corresponding responses in the same order that the requests were received"."""

    KINDS = ("direct", "task", "thread", "stream", "nothing")

    def test_responses_keep_the_order_of_the_requests(self, served: Served, seen: list[str]) -> None:
        paths = [f"/{kind}/{number}" for number in range(12) for kind in self.KINDS]
        with served.connect() as peer:
            answers = converse(peer.sock, b"".join(map(get, paths)), *["GET"] * len(paths))
        for path, answer in zip(paths, answers, strict=True):
            assert answer.content == path.encode() or (answer.status, path.startswith("/nothing")) == (404, True)
        assert seen == [path for path in paths if not path.startswith("/nothing")]

    def test_a_slow_handler_holds_up_those_behind_it(self, serve: Serve) -> None:
        app = Vibora()
        entered: Queue[str] = Queue()
        gate = threading.Event()

        @app.get("/slow")
        def slow() -> Response:
            entered.put("slow")
            gate.wait(PATIENCE)
            return Response(b"slow")

        @app.get("/quick")
        async def quick() -> Response:
            entered.put("quick")
            return Response(b"quick")

        served = serve(app)
        with served.connect() as peer:
            peer.send(get("/slow") + get("/quick"))
            assert entered.get(timeout=PATIENCE) == "slow"
            # Another connection is not held up, and its answer shows that the second request had its chance.
            assert served.ask("/quick").text == "quick"
            assert entered.get(timeout=PATIENCE) == "quick"
            assert entered.empty()
            gate.set()
            assert [peer.read_answer().text, peer.read_answer().text] == ["slow", "quick"]


class TestPersistence:
    """RFC 9112 §9.3."""

    @pytest.mark.parametrize("kind", ["direct", "task", "thread", "stream"])
    def test_follows_version_and_options(self, served: Served, seen: list[str], kind: str) -> None:
        for version, fields, persists in PERSISTENCE:
            # RFC 9112 §6.3: without chunks, the end of the connection ends the content of a stream.
            lasts = persists and (kind, version) != ("stream", "1.0")
            octets = get(f"/{kind}/a", *fields, version=version)
            with served.connect() as peer:
                answer, *others = converse(peer.sock, octets + GET * lasts, *["GET"] * (1 + lasts), persists=lasts)
            assert answer.content == f"/{kind}/a".encode()
            assert answer.closes != lasts
            assert [other.content for other in others] == [b"/"] * lasts
        assert seen.count("/") == sum(lasts for _, _, lasts in PERSISTENCE) - (kind == "stream")

    def test_lasts_for_many_requests(self, served: Served) -> None:
        with served.connect() as peer:
            for _ in range(500):
                peer.send(GET)
                assert peer.read_answer().content == b"/"


class TestClose:
    """RFC 9112 §9.6: after a close that was received or sent, nothing more is processed."""

    @pytest.mark.parametrize("after", [GET, get("/task/a"), *BAD, b"\r\n", b"x" * 100_000])
    def test_nothing_is_answered_after_the_client_has_said_close(
        self, served: Served, seen: list[str], after: bytes
    ) -> None:
        with served.connect() as peer:
            (answer,) = converse(peer.sock, get("/direct/a", "Connection: close") + after, persists=False)
        assert answer.content == b"/direct/a"
        assert seen == ["/direct/a"]

    @pytest.mark.parametrize("after", [GET, get("/task/a"), *BAD])
    def test_nothing_is_answered_after_the_server_has_said_close(
        self, served: Served, seen: list[str], after: bytes
    ) -> None:
        with served.connect() as peer:
            (answer,) = converse(peer.sock, get("/last") + after, persists=False)
        assert (answer.content, answer.closes) == (b"/last", True)
        assert seen == ["/last"]

    @pytest.mark.parametrize("bad", BAD)
    @pytest.mark.parametrize("kind", ["direct", "task", "thread", "stream"])
    def test_nothing_is_answered_after_a_rejection(
        self, served: Served, seen: list[str], bad: bytes, kind: str
    ) -> None:
        octets = get(f"/{kind}/a") + bad + get(f"/{kind}/b") * 3
        with served.connect() as peer:
            good, rejection = converse(peer.sock, octets, "GET", "GET", persists=False)
        assert good.content == f"/{kind}/a".encode()
        assert (rejection.status, rejection.closes) == (400, True)
        assert seen == [f"/{kind}/a"]

    @pytest.mark.parametrize("bad", BAD)
    def test_bad_and_good_in_one_segment_a_hundred_times(self, served: Served, seen: list[str], bad: bytes) -> None:
        for _ in range(100):
            with served.connect() as peer:
                peer.send(bad + GET * 10)
                assert peer.read_answer().status == 400
                assert peer.is_closed()
        assert seen == []
        assert served.ask("/").status == 200

    @pytest.mark.parametrize(
        "octets",
        [
            get("/last"),
            get("/direct/a", "Connection: close"),
            get("/direct/a", version="1.0"),
            BAD[0],
            b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n",
        ],
    )
    def test_the_connection_ends_without_being_asked_again(self, served: Served, octets: bytes) -> None:
        with served.connect() as peer:
            peer.send(octets)
            peer.read_answer()
            assert peer.receive() == b""

    @pytest.mark.parametrize("head", [BAD[0], b"POST /last HTTP/1.1\r\nHost: a\r\nContent-Length: 10000000\r\n\r\n"])
    def test_the_last_response_survives_a_client_that_is_still_sending(self, served: Served, head: bytes) -> None:
        # Closed at once, the kernel answers what still comes with a reset, and the client's may drop the response.
        with served.connect() as peer:
            peer.send(head)
            for _ in range(50):
                peer.send(b"x" * 10_000)
            assert peer.read_answer().status in (400, 405)
            assert peer.receive() == b""

    def test_a_connection_in_its_end_does_not_outlive_its_client(self, served: Served) -> None:
        with served.connect() as peer:
            peer.send(BAD[0])
            peer.read_answer()
            assert peer.is_closed()
            assert served.server.connections == 1

        def wait() -> bool:
            # Each answer is a turn of the loop that the end of the other connection has had as well.
            return served.ask("/").status == 200 and served.server.connections <= 1

        assert any(wait() for _ in range(100))


class TestHalfClose:
    """RFC 9112 §9.6: it does not "imply that the client is no longer interested in a response"."""

    @pytest.mark.parametrize("kind", ["direct", "task", "thread", "stream"])
    def test_the_response_is_still_sent(self, served: Served, kind: str) -> None:
        with served.connect() as peer:
            peer.send(get(f"/{kind}/a") + get(f"/{kind}/b"))
            peer.half_close()
            assert peer.read_answer().content == f"/{kind}/a".encode()
            assert peer.read_answer().content == f"/{kind}/b".encode()
            assert peer.receive() == b""


class TestEmptyLines:
    """RFC 9112 §2.2."""

    def test_between_requests_are_ignored_however_they_come(self, served: Served) -> None:
        with served.connect() as peer:
            peer.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for _ in range(20):
                peer.send(GET + b"\r")
                assert peer.read_answer().content == b"/"
                peer.send(b"\n")
            converse(peer.sock, GET)

    def test_alone_are_no_request(self, served: Served, seen: list[str]) -> None:
        with served.connect() as peer:
            peer.send(b"\r\n")
            peer.half_close()
            assert peer.read_to_end() == b""
        assert seen == []
