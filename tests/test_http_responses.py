"""The response side: what a handler can put on the wire, and what it cannot (RFC 9112 §4 to §7, RFC 9110 §8.6, §15)."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from http.cookies import SimpleCookie
from typing import Any

import pytest
import uvloop

from conformance.wire import Response as Answer
from conformance.wire import converse
from conftest import Serve, Served
from vibora import (
    HtmlResponse,
    JsonResponse,
    RedirectResponse,
    Request,
    Response,
    StreamingResponse,
    TextResponse,
    Vibora,
)

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
HEAD = b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n"
GET_1_0 = b"GET / HTTP/1.0\r\nHost: a\r\n\r\n"
#: What ends a line, a header section or a text for somebody.
BREAKS = ["\r\n", "\r", "\n", "\0", "\r\n\r\n", "\x0b", "\x0c", "\x1c", "\x7f", "\r\n "]


@pytest.fixture
def loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """One loop will do: what is encoded does not depend on it, and the corpus runs on both."""
    return uvloop.new_event_loop


def app_of(make: Callable[[], Response]) -> Vibora:
    """An app that answers whatever `make` returns, at `/` by a coroutine, at `/thread` by a function."""
    app = Vibora()

    async def answer() -> Response:
        return make()

    app.add_route("/", answer, ["GET", "POST"])
    app.add_route("/thread", make, ["GET", "POST"])
    return app


def answer_to(served: Served, octets: bytes = GET, method: str = "GET", *, persists: bool = True) -> Answer:
    with served.connect() as peer:
        *_, answer = converse(peer.sock, octets, method, persists=persists)
    return answer


class TestStatusLine:
    """RFC 9112 §4."""

    def test_a_status_without_a_reason_keeps_its_space(self, serve: Serve) -> None:
        served = serve(app_of(lambda: Response(b"", 299)))
        with served.connect() as peer:
            peer.send(GET)
            assert peer.read_until(b"\r\n") == b"HTTP/1.1 299 \r\n"

    @pytest.mark.parametrize("status", [200, 201, 206, 299, 301, 400, 404, 418, 451, 500, 503, 599])
    def test_every_final_status_leaves_the_connection_in_order(self, serve: Serve, status: int) -> None:
        answer = answer_to(serve(app_of(lambda: Response(b"hello", status))))
        assert (answer.status, answer.content, answer.framing) == (status, b"hello", "length")

    @pytest.mark.parametrize(
        "status", [-200, 0, 99, 100, 101, 102, 103, 199, 600, 1000, 65536, 2**31, "200 OK", "200\r\nX: y", 200.5, None]
    )
    def test_what_is_no_final_status_cannot_be_made(self, status: Any) -> None:
        with pytest.raises((ValueError, TypeError)):
            Response(b"", status)
        response = Response(b"")
        with pytest.raises((ValueError, TypeError)):
            response.status_code = status
        assert response.status_code == 200

    def test_responses_say_1_1_to_every_client(self, serve: Serve) -> None:
        served = serve(app_of(lambda: Response(b"hello")))
        for version in (b"HTTP/1.0", b"HTTP/1.1", b"HTTP/1.2"):
            with served.connect() as peer:
                peer.send(b"GET / " + version + b"\r\nHost: a\r\n\r\n")
                assert peer.read_until(b"\r\n") == b"HTTP/1.1 200 OK\r\n"


class TestSplitting:
    """RFC 9112 §11.1: a handler that passes on what a client sent cannot be made to end a line with it."""

    @pytest.mark.parametrize("end", BREAKS)
    def test_no_value_can_end_its_line(self, end: str) -> None:
        value = f"a{end}Set-Cookie: b=c"
        response = Response(b"")
        with pytest.raises(ValueError, match="not allowed"):
            Response(b"", headers={"X": value})
        with pytest.raises(ValueError, match="not allowed"):
            response.headers["X"] = value
        with pytest.raises(ValueError, match="not allowed"):
            response.headers.add("X", value)
        with pytest.raises(ValueError, match="not allowed"):
            response.headers.setdefault("X", value)
        with pytest.raises(ValueError, match="not allowed"):
            response.headers.update({"X": value})
        assert len(response.headers) == 0

    @pytest.mark.parametrize(
        "name",
        [*(f"X{end}Y" for end in BREAKS), "", " ", "X ", " X", "X:", ":", "X Y", "X\tY", "é", "(X)", "X: y\r\nZ"],
    )
    def test_no_name_can_end_its_line(self, name: str) -> None:
        response = Response(b"")
        with pytest.raises(ValueError, match="field name"):
            Response(b"", headers={name: "y"})
        with pytest.raises(ValueError, match="field name"):
            response.headers[name] = "y"
        with pytest.raises(ValueError, match="field name"):
            response.headers.add(name, "y")

    @pytest.mark.parametrize("end", BREAKS)
    def test_no_cookie_can_end_its_line(self, serve: Serve, end: str) -> None:
        for cookies in ({"a": f"b{end}X: y"}, [f"a=b{end}X: y"], {f"a{end}X": "y"}):
            with pytest.raises(ValueError, match=r"not allowed|no control characters|the name of a cookie"):
                Response(b"", cookies=cookies)

        def make() -> Response:
            response = Response(b"hello")
            response.cookies.append(f"a=b{end}X: y")
            return response

        served = serve(app_of(make))
        answer = answer_to(served)
        assert (answer.status, answer.get("x"), answer.get_all("set-cookie")) == (500, None, [])
        assert len(served.errors) == 1

    def test_a_cookie_that_changes_its_mind_is_checked_when_it_is_sent(self, serve: Serve) -> None:
        class Fickle:
            calls = 0

            def __str__(self) -> str:
                self.calls += 1
                return "a=b" if self.calls == 1 else "a=b\r\nX: y"

        answer = answer_to(serve(app_of(lambda: Response(b"", cookies=[Fickle()]))))
        assert (answer.status, answer.get("x")) == (500, None)

    @pytest.mark.parametrize("end", BREAKS)
    def test_no_redirect_target_can_end_its_line(self, end: str) -> None:
        with pytest.raises(ValueError, match="not allowed"):
            RedirectResponse(f"/a{end}Set-Cookie: b=c")

    def test_a_redirect_target_is_ascii_on_the_wire(self, serve: Serve) -> None:
        # U+010A and U+010D lose their high bits to LF and CR where somebody encodes carelessly.
        answer = answer_to(serve(app_of(lambda: RedirectResponse("/é\u010d\u010aX: y"))))
        assert answer.get("location") == "/%C3%A9%C4%8D%C4%8AX: y"
        assert answer.get("x") is None

    def test_a_value_that_is_not_latin_1_is_refused_or_encoded_but_never_cut(self, serve: Serve) -> None:
        def make() -> Response:
            return Response(b"", headers={"X": "\u010d\u010aSet-Cookie: a=b"})

        answer = answer_to(serve(app_of(make)))
        assert answer.get("set-cookie") is None

    @pytest.mark.parametrize("target", [b"/", b"/thread"])
    def test_a_handler_that_tries_is_a_500_and_the_next_request_is_served(self, serve: Serve, target: bytes) -> None:
        app = Vibora()

        async def reflect(request: Request) -> Response:
            return Response(b"hello", headers={"X": request.args["q"]})

        def reflect_in_thread(request: Request) -> Response:
            return RedirectResponse(request.args["q"])

        app.add_route("/", reflect)
        app.add_route("/thread", reflect_in_thread)
        served = serve(app)
        octets = (
            b"GET " + target + b"?q=a%0d%0aX-Injected:%20y%0d%0a%0d%0aHTTP/1.1%20200%20OK HTTP/1.1\r\nHost: a\r\n\r\n"
        )
        answer = answer_to(served, octets)
        assert (answer.status, answer.get("x-injected")) == (500, None)
        assert b"njected" not in answer.content
        assert len(served.errors) == 1

    def test_content_that_looks_like_a_response_is_content(self, serve: Serve) -> None:
        fake = b"0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"

        async def pieces() -> AsyncIterator[bytes]:
            yield fake
            yield b"\r\n"
            yield fake

        for make, content in (
            (lambda: Response(fake), fake),
            (lambda: StreamingResponse(pieces), fake + b"\r\n" + fake),
        ):
            assert answer_to(serve(app_of(make))).content == content


class TestFraming:
    """RFC 9112 §6: one framing, which is the server's business."""

    @pytest.mark.parametrize(
        "headers",
        [
            [("Transfer-Encoding", "chunked")],
            [("transfer-encoding", "gzip, chunked")],
            [("Transfer-Encoding", "identity"), ("Content-Length", "5")],
            [("TRANSFER-ENCODING", "chunked"), ("TRANSFER-ENCODING", "chunked")],
        ],
    )
    def test_a_transfer_encoding_of_the_handler_is_not_sent(self, serve: Serve, headers: list[tuple[str, str]]) -> None:
        answer = answer_to(serve(app_of(lambda: Response(b"hello", headers=headers))))
        assert (answer.content, answer.framing) == (b"hello", "length")

    @pytest.mark.parametrize("headers", [[("Content-Length", "5")], [("content-length", "5"), ("Content-Length", "5")]])
    def test_a_right_content_length_of_the_handler_is_sent_once(
        self, serve: Serve, headers: list[tuple[str, str]]
    ) -> None:
        answer = answer_to(serve(app_of(lambda: Response(b"hello", headers=headers))))
        assert (answer.content, answer.get("content-length")) == (b"hello", "5")

    @pytest.mark.parametrize("length", ["0", "4", "6", "500", "18446744073709551615"])
    @pytest.mark.parametrize("size", [5, 200_000])
    def test_a_wrong_content_length_is_a_500_and_the_next_request_is_served(
        self, serve: Serve, length: str, size: int
    ) -> None:
        served = serve(app_of(lambda: Response(b"x" * size, headers={"Content-Length": length})))
        assert answer_to(served).status == 500
        assert len(served.errors) == 1

    @pytest.mark.parametrize("length", ["", "x", "-1", "+5", "5, 5", "5x", "0x5", "5.0", "99999999999999999999999"])
    def test_a_content_length_that_is_none_does_not_reach_the_wire(self, serve: Serve, length: str) -> None:
        answer = answer_to(serve(app_of(lambda: Response(b"hello", headers={"Content-Length": length}))))
        assert answer.status == 500 or (answer.content, answer.get("content-length")) == (b"hello", "5")

    @pytest.mark.parametrize("headers", [{}, {"Transfer-Encoding": "chunked"}, {"Transfer-Encoding": "gzip"}])
    def test_a_stream_is_chunked_once(self, serve: Serve, headers: dict[str, str]) -> None:
        answer = answer_to(serve(app_of(lambda: StreamingResponse([b"he", b"", b"llo"], headers=headers))))
        assert (answer.content, answer.framing) == (b"hello", "chunked")

    def test_a_stream_with_a_length_is_not_chunked(self, serve: Serve) -> None:
        headers = {"Content-Length": "5", "Transfer-Encoding": "chunked"}
        answer = answer_to(serve(app_of(lambda: StreamingResponse([b"he", b"llo"], headers=headers))))
        assert (answer.content, answer.framing) == (b"hello", "length")

    @pytest.mark.parametrize(("length", "kept"), [("4", b"hell"), ("6", b"hello")])
    def test_a_stream_with_a_wrong_length_ends_the_connection_short(
        self, serve: Serve, length: str, kept: bytes
    ) -> None:
        served = serve(app_of(lambda: StreamingResponse([b"hello"], headers={"Content-Length": length})))
        with served.connect() as peer:
            peer.send(GET + GET)
            received, reset = b"", False
            try:
                while data := peer.receive():
                    received += data
            except ConnectionResetError:
                reset = True
        assert reset
        # Nothing that a client could take for a whole response, and no second one.
        assert received.count(b"HTTP/1.1 200") <= 1
        assert len(received.partition(b"\r\n\r\n")[2]) < int(length)
        assert kept.startswith(received.partition(b"\r\n\r\n")[2])

    def test_a_client_of_1_0_is_sent_no_chunks(self, serve: Serve) -> None:
        served = serve(app_of(lambda: StreamingResponse([b"he", b"llo"])))
        answer = answer_to(served, GET_1_0, persists=False)
        assert (answer.content, answer.framing, answer.closes) == (b"hello", "close", True)


class TestWithoutContent:
    """RFC 9110 §9.3.2, §15.3.5, §15.3.6, §15.4.5; §8.6 on lengths."""

    def test_head_has_the_fields_of_get(self, serve: Serve) -> None:
        served = serve(app_of(lambda: JsonResponse({"a": 1}, headers={"ETag": '"x"'})))
        get, head = answer_to(served), answer_to(served, HEAD, "HEAD")
        assert head.content == b""
        assert [field for field in head.fields if field[0] != "date"] == [
            field for field in get.fields if field[0] != "date"
        ]

    def test_head_of_a_stream_has_no_chunks(self, serve: Serve) -> None:
        answer = answer_to(serve(app_of(lambda: StreamingResponse([b"hello"]))), HEAD, "HEAD")
        assert (answer.content, answer.get("content-length")) == (b"", None)

    def test_head_of_an_error_has_no_content(self, serve: Serve) -> None:
        served = serve(app_of(lambda: Response(b"")))
        assert answer_to(served, b"HEAD /nothing HTTP/1.1\r\nHost: a\r\n\r\n", "HEAD").status == 404

        def fail() -> Response:
            raise RuntimeError

        assert answer_to(serve(app_of(fail)), HEAD, "HEAD").status == 500

    @pytest.mark.parametrize("status", [204, 205, 304])
    @pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
    def test_a_status_without_content_has_none_whatever_the_handler_says(
        self, serve: Serve, status: int, method: str
    ) -> None:
        octets = f"{method} / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n".encode()
        for make in (
            lambda: Response(b"hello", status),
            lambda: TextResponse("x" * 200_000, status),
            lambda: Response(b"", status, {"Content-Length": "5", "Transfer-Encoding": "chunked"}),
            lambda: StreamingResponse([b"hello"], status),
        ):
            answer = answer_to(serve(app_of(make)), octets, method)
            assert (answer.status, answer.content) == (status, b"")
            if status == 204:
                assert answer.get("content-length") is None
            if status == 205 and method != "HEAD":
                assert answer.get("content-length") == "0"

    def test_a_304_may_tell_the_length_that_a_200_would_have(self, serve: Serve) -> None:
        answer = answer_to(serve(app_of(lambda: Response(b"", 304, {"Content-Length": "5", "ETag": '"x"'}))))
        assert (answer.get("content-length"), answer.content, answer.get("etag")) == ("5", b"", '"x"')

    def test_an_empty_response_has_a_length(self, serve: Serve) -> None:
        assert answer_to(serve(app_of(lambda: Response(b"")))).get("content-length") == "0"


class TestConnect:
    """RFC 9110 §9.3.6: an origin server makes no tunnels."""

    def test_is_refused_and_what_follows_is_not_read_as_requests(self, serve: Serve) -> None:
        served = serve(app_of(lambda: Response(b"hello")))
        octets = b"CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n"
        answer = answer_to(served, octets + GET, "CONNECT", persists=False)
        assert (answer.status, answer.closes) == (501, True)
        assert answer.get("transfer-encoding") is None


class TestDate:
    """RFC 9110 §6.6.1 and §5.6.7."""

    @pytest.mark.parametrize(
        "octets", [GET, b"GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n", b"PUT / HTTP/1.1\r\nHost: a\r\n\r\n"]
    )
    def test_every_final_response_has_one_that_is_now(self, serve: Serve, octets: bytes) -> None:
        before = datetime.now(UTC).replace(microsecond=0) - timedelta(seconds=1)
        date = answer_to(serve(app_of(lambda: Response(b"hello"))), octets).get("date")
        assert date is not None
        assert before <= parsedate_to_datetime(date) <= datetime.now(UTC)

    def test_one_of_the_handler_takes_its_place(self, serve: Serve) -> None:
        date = "Sun, 06 Nov 1994 08:49:37 GMT"
        answer = answer_to(serve(app_of(lambda: Response(b"", headers={"DATE": date}))))
        assert answer.get_all("date") == [date]

    def test_a_rejection_has_one(self, serve: Serve) -> None:
        served = serve(app_of(lambda: Response(b"")))
        assert answer_to(served, b"GET / HTTP/1.1\r\n\r\n", persists=False).get("date") is not None

    def test_an_interim_response_has_none(self, serve: Serve) -> None:
        app = Vibora()

        @app.post("/")
        async def read(request: Request) -> Response:
            return Response(await request.content())

        octets = b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
        with serve(app).connect() as peer:
            peer.send(octets)
            assert peer.read_until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            (answer,) = converse(peer.sock, b"hello", "POST")
        assert answer.content == b"hello"


class TestConnectionField:
    """RFC 9110 §7.6.1, RFC 9112 §9.3 and §9.6."""

    @pytest.mark.parametrize("value", ["close", "Close", "x, close", "keep-alive, close"])
    def test_a_handler_may_end_the_connection(self, serve: Serve, value: str) -> None:
        served = serve(app_of(lambda: Response(b"hello", headers={"Connection": value})))
        with served.connect() as peer:
            (answer,) = converse(peer.sock, GET, persists=False)
        assert (answer.content, answer.get("connection")) == (b"hello", "close")

    @pytest.mark.parametrize("value", ["keep-alive", "x", "X-Secret", "Content-Length", "upgrade"])
    def test_a_handler_says_nothing_else_in_it(self, serve: Serve, value: str) -> None:
        headers = {"Connection": value, "Keep-Alive": "timeout=5", "Proxy-Connection": "x", "TE": "trailers", "X": "y"}
        answer = answer_to(serve(app_of(lambda: Response(b"hello", headers=headers))))
        assert [name.lower() for name, _ in answer.fields] == ["content-length", "content-type", "date", "x"]

    def test_a_client_of_1_0_is_told_that_it_may_go_on(self, serve: Serve) -> None:
        octets = b"GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n"
        assert answer_to(serve(app_of(lambda: Response(b"hello"))), octets).get("connection") == "keep-alive"

    @pytest.mark.parametrize("octets", [GET_1_0, b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"])
    def test_the_last_response_says_close(self, serve: Serve, octets: bytes) -> None:
        served = serve(app_of(lambda: Response(b"hello")))
        assert answer_to(served, octets, persists=False).get("connection") == "close"


class TestUpgrade:
    """RFC 9110 §7.8: without WebSockets, every offer is ignored; a handler may demand one with 426."""

    @pytest.mark.parametrize(
        "fields",
        [
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAA",
            "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__",
        ],
    )
    def test_an_offer_gets_a_normal_response(self, serve: Serve, fields: str) -> None:
        octets = f"GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n".encode()
        answer = answer_to(serve(app_of(lambda: Response(b"hello"))), octets)
        assert (answer.status, answer.content, answer.get("upgrade")) == (200, b"hello", None)

    def test_a_426_says_what_it_wants_and_that_it_is_for_this_hop(self, serve: Serve) -> None:
        answer = answer_to(serve(app_of(lambda: Response(b"", 426, {"Upgrade": "websocket"}))))
        assert (answer.status, answer.get("upgrade"), answer.get("connection")) == (426, "websocket", "upgrade")


class TestErrors:
    """What the server says by itself."""

    def test_a_405_lists_what_is_allowed(self, serve: Serve) -> None:
        answer = answer_to(serve(app_of(lambda: Response(b""))), b"PUT / HTTP/1.1\r\nHost: a\r\n\r\n", "PUT")
        allowed = answer.get("allow") or ""
        assert answer.status == 405
        assert set(allowed.split(", ")) == {"GET", "HEAD", "OPTIONS", "POST"}

    @pytest.mark.parametrize("target", [b"/", b"*"])
    def test_options_is_answered_without_content(self, serve: Serve, target: bytes) -> None:
        served = serve(app_of(lambda: Response(b"")))
        answer = answer_to(served, b"OPTIONS " + target + b" HTTP/1.1\r\nHost: a\r\n\r\n", "OPTIONS")
        assert (answer.status, answer.content) == (204, b"")
        assert (answer.get("allow") is not None) == (target == b"/")

    @pytest.mark.parametrize(
        "octets",
        [
            b"GET /<script>alert(1)</script> HTTP/1.1\r\nHost: a\r\n\r\n",
            b"GET /<script>%zz HTTP/1.1\r\nHost: a\r\n\r\n",
            b"<script> / HTTP/1.1\r\nHost: a\r\n\r\n",
            b"GET / <script>\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: <script>\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\n<script>: a\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\nX: <script>\0\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: <script>\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: <script>\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\nExpect: <script>\r\n\r\n",
            b"<SCRIPT> / HTTP/1.1\r\nHost: a\r\n\r\n",
            b"PUT /?<script> HTTP/1.1\r\nHost: a\r\n\r\n",
        ],
    )
    def test_an_error_repeats_nothing_of_the_request(self, serve: Serve, octets: bytes) -> None:
        with serve(app_of(lambda: Response(b""))).connect() as peer:
            peer.send(octets)
            answer = peer.read_answer()
        assert 400 <= answer.status < 500
        assert b"script" not in answer.content.lower()
        assert answer.get("content-type") == "text/plain; charset=utf-8"

    def test_a_rejection_names_the_rule(self, serve: Serve) -> None:
        served = serve(app_of(lambda: Response(b"")))
        answer = answer_to(served, b"GET / HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n", persists=False)
        assert answer.content.endswith(b"(RFC 9112 \xc2\xa75.1)")

    def test_a_failure_tells_nothing_about_the_app(self, serve: Serve) -> None:
        def fail() -> Response:
            raise RuntimeError("secret")

        served = serve(app_of(fail))
        answer = answer_to(served)
        assert (answer.status, answer.content) == (500, b"Internal Server Error")
        assert len(served.errors) == 1

    @pytest.mark.parametrize("wrong", [None, b"hello", "hello", 200, {"a": 1}, object(), (b"hello", 200)])
    def test_what_is_no_response_is_a_500(self, serve: Serve, wrong: Any) -> None:
        assert answer_to(serve(app_of(lambda: wrong))).status == 500


class TestMany:
    """A connection with everything on it stays in step."""

    def test_responses_of_every_kind_follow_each_other(self, serve: Serve) -> None:
        app = Vibora()

        def pieces() -> Iterator[bytes]:
            yield b"he"
            yield b"llo"

        makers: dict[str, Callable[[], Response]] = {
            "plain": lambda: Response(b"hello"),
            "empty": lambda: Response(b"", 204),
            "large": lambda: HtmlResponse("x" * 300_000),
            "stream": lambda: StreamingResponse(pieces),
            "sized": lambda: StreamingResponse(pieces, headers={"Content-Length": "5"}),
            "same": lambda: Response(b"hello", 304),
            "wrong": lambda: Response(b"hello", headers={"Content-Length": "4"}),
            "json": lambda: JsonResponse([1]),
            "cookies": lambda: Response(b"", cookies=SimpleCookie({"a": "b", "c": "d"}).values()),
        }

        @app.route("/<kind>", ["GET", "POST"])
        async def make(kind: str) -> Response:
            return makers[kind]()

        kinds = [
            "plain",
            "empty",
            "large",
            "stream",
            "sized",
            "same",
            "wrong",
            "json",
            "cookies",
            "nothing",
            "large",
        ] * 3
        methods = ["GET", "HEAD", "POST"]
        requests = [(methods[index % 3], kind) for index, kind in enumerate(kinds * 3)]
        octets = b"".join(
            f"{method} /{kind} HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello".encode()
            for method, kind in requests
        )
        served = serve(app)
        with served.connect() as peer:
            answers = converse(peer.sock, octets, *(method for method, _ in requests))
        expected = {"plain": 200, "empty": 204, "large": 200, "stream": 200, "sized": 200, "same": 304, "wrong": 500}
        expected |= {"json": 200, "cookies": 200, "nothing": 500}
        assert [answer.status for answer in answers] == [
            200 if kind == "wrong" and method == "HEAD" else expected[kind] for method, kind in requests
        ]
