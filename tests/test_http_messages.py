"""Request messages as handlers see them: RFC 9112 §2 to §8, RFC 9110 §5 to §7 and §10.1.1.

What is accepted and what is refused is the business of the corpus (`test_conformance`); here stands what the accepted
means, and what becomes of messages that are not read, or never complete.
"""

import asyncio
from collections.abc import Callable
from queue import Queue
from typing import Any

import orjson
import pytest
import uvloop

from conformance.wire import Response as Answer
from conformance.wire import converse
from conftest import PATIENCE, Serve, Served
from vibora import ClientDisconnected, JsonResponse, Request, Response, RouteLimits, Vibora

SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.fixture
def loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """One loop will do: what is parsed does not depend on it, and the corpus runs on both."""
    return uvloop.new_event_loop


@pytest.fixture
def seen() -> list[str]:
    """The paths of the requests that were handled."""
    return []


@pytest.fixture
def served(serve: Serve, seen: list[str]) -> Served:
    app = Vibora()

    async def echo(request: Request) -> JsonResponse:
        content = await request.content()
        seen.append(request.path)
        return JsonResponse(
            {
                "path": request.path,
                "raw_path": request.raw_path.decode("ascii"),
                "query": request.query_string,
                "host": request.host,
                "version": request.http_version,
                "fields": request.headers.items(),
                "length": request.content_length,
                "content": content.decode("latin-1"),
            }
        )

    async def early(request: Request) -> Response:
        seen.append(request.path)
        return Response(b"early")

    app.add_route("/early", early, ["POST"])
    app.add_route("/<*path>", echo, ["GET", "POST", "OPTIONS"])
    return serve(app)


def understood(served: Served, octets: bytes) -> dict[str, Any]:
    with served.connect() as peer:
        peer.send(octets)
        answer = peer.read_answer()
    assert answer.status == 200, answer
    result: dict[str, Any] = orjson.loads(answer.content)
    return result


def statuses(served: Served, octets: bytes, *methods: str, persists: bool = True) -> list[int]:
    with served.connect() as peer:
        return [answer.status for answer in converse(peer.sock, octets, *methods, persists=persists)]


class TestRequestTarget:
    """RFC 9112 §3.2 and §3.3."""

    @pytest.mark.parametrize(
        ("target", "host", "authority"),
        [
            ("/", "a.example", "a.example"),
            ("/", "A.example:8080", "A.example:8080"),
            ("/", "", ""),
            ("http://b.example/", "a.example", "b.example"),
            ("HTTP://B.example:81/", "a.example:80", "B.example:81"),
            ("http://[::1]:80/", "a.example", "[::1]:80"),
            ("https://b.example", "", "b.example"),
        ],
    )
    def test_the_authority_of_the_target_goes_before_the_host_field(
        self, served: Served, target: str, host: str, authority: str
    ) -> None:
        seen = understood(served, f"GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        assert seen["host"] == authority
        assert dict(seen["fields"])["Host"] == host

    def test_http_1_0_needs_no_host(self, served: Served) -> None:
        seen = understood(served, b"GET / HTTP/1.0\r\n\r\n")
        assert (seen["host"], seen["version"]) == ("", "1.0")

    @pytest.mark.parametrize(
        ("target", "path", "query"),
        [
            ("http://a", "/", ""),
            ("http://a?b", "/", "b"),
            ("http://a/b?c", "/b", "c"),
            ("/a%2Fb", "/a/b", ""),
            ("/a%252Fb", "/a%2Fb", ""),
            ("/%41%62?%41", "/Ab", "%41"),
            ("/caf%C3%A9", "/café", ""),
            ("/a/../b/./c", "/a/../b/./c", ""),
            ("//a//b", "//a//b", ""),
            ("/a;b=c?d?e", "/a;b=c", "d?e"),
            ("/a?", "/a", ""),
        ],
    )
    def test_is_decoded_once_and_not_normalised(self, served: Served, target: str, path: str, query: str) -> None:
        seen = understood(served, f"GET {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        assert (seen["path"], seen["query"]) == (path, query)

    @pytest.mark.parametrize("path", ["/%", "/%4", "/%zz", "/a%2", "/%%41", "/%u0041", "/%00", "/a%00b"])
    def test_a_path_that_cannot_be_decoded_is_refused_and_the_next_request_is_served(
        self, served: Served, seen: list[str], path: str
    ) -> None:
        octets = f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode()
        assert statuses(served, octets * 2, "GET", "GET") == [400, 400]
        assert seen == []

    def test_options_for_the_server_is_answered_by_it(self, served: Served, seen: list[str]) -> None:
        octets = b"OPTIONS * HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
        assert statuses(served, octets, "OPTIONS") == [204]
        assert seen == []


class TestFields:
    """RFC 9112 §5, RFC 9110 §5.3 and §5.5."""

    def test_keep_their_order_their_case_and_their_repetitions(self, served: Served) -> None:
        seen = understood(served, b"GET / HTTP/1.1\r\nB: 1\r\nhost: a\r\na: 2\r\nB: 3\r\nb:4\r\n\r\n")
        assert seen["fields"] == [["B", "1"], ["host", "a"], ["a", "2"], ["B", "3"], ["b", "4"]]

    @pytest.mark.parametrize(
        ("line", "value"),
        [
            (b"X:y", "y"),
            (b"X: y", "y"),
            (b"X: \t y \t ", "y"),
            (b"X:", ""),
            (b"X: \t ", ""),
            (b"X: a \t b", "a \t b"),
            (b"X: a:b", "a:b"),
            (b"X: caf\xe9", "caf\xe9"),
            (b"X: caf\xc3\xa9", "caf\xc3\xa9"),
            (b'X: "a, b"', '"a, b"'),
        ],
    )
    def test_values_are_what_stands_between_the_whitespace(self, served: Served, line: bytes, value: str) -> None:
        seen = understood(served, b"GET / HTTP/1.1\r\nHost: a\r\n" + line + b"\r\n\r\n")
        assert dict(seen["fields"])["X"] == value

    def test_a_name_that_only_looks_like_framing_is_a_name(self, served: Served) -> None:
        octets = b"POST / HTTP/1.1\r\nHost: a\r\nContent_Length: 5\r\nTransfer_Encoding: chunked\r\n\r\n"
        seen = understood(served, octets)
        assert (seen["content"], dict(seen["fields"])["Content_Length"]) == ("", "5")


class TestContent:
    """RFC 9112 §6 and §7."""

    @pytest.mark.parametrize("method", [b"GET", b"POST", b"OPTIONS"])
    def test_belongs_to_its_request_whatever_the_method(self, served: Served, method: bytes) -> None:
        octets = (
            method
            + b" / HTTP/1.1\r\nHost: a\r\nContent-Length: "
            + str(len(SMUGGLED)).encode()
            + b"\r\n\r\n"
            + SMUGGLED
        )
        assert understood(served, octets)["content"] == SMUGGLED.decode()

    def test_the_length_of_chunks_is_not_known_before(self, served: Served) -> None:
        octets = (
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n1\r\n!\r\n0\r\n\r\n"
        )
        seen = understood(served, octets)
        assert (seen["content"], seen["length"]) == ("hello!", None)

    def test_trailers_are_not_merged_into_the_header_section(self, served: Served) -> None:
        octets = (
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nX: head\r\n\r\n5\r\nhello\r\n0\r\n"
            b"X: trailer\r\nHost: b\r\nContent-Length: 500\r\nAuthorization: x\r\n\r\n"
        )
        seen = understood(served, octets)
        assert seen["fields"] == [["Host", "a"], ["Transfer-Encoding", "chunked"], ["X", "head"]]
        assert (seen["host"], seen["content"], seen["length"]) == ("a", "hello", None)

    def test_no_limit_makes_a_number_small(self, served: Served, seen: list[str]) -> None:
        octets = (
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000005\r\nhello\r\n0\r\n\r\n"
        )
        assert statuses(served, octets, "POST", persists=False) == [400]
        assert seen == []


class TestSmuggling:
    """RFC 9112 §11.2: whoever reads the length, and whoever reads the chunks, they never see another request."""

    BODY = b"0\r\n\r\n" + SMUGGLED
    PLACES = (
        b"%bTransfer-Encoding: chunked",
        b"Transfer%bEncoding: chunked",
        b"Transfer-%bEncoding: chunked",
        b"Transfer-Encoding%b: chunked",
        b"Transfer-Encoding:%bchunked",
        b"Transfer-Encoding: %bchunked",
        b"Transfer-Encoding: chu%bnked",
        b"Transfer-Encoding: chunked%b",
        b"X: y%bTransfer-Encoding: chunked",
        b"X: y\r\n%bTransfer-Encoding: chunked",
        b"Transfer-Encoding: chunked%bX: y",
    )

    @pytest.mark.parametrize("place", PLACES)
    def test_no_octet_makes_a_transfer_encoding_and_a_length_two_messages(
        self, served: Served, seen: list[str], place: bytes
    ) -> None:
        for octet in range(256):
            lines = [b"POST / HTTP/1.1", b"Host: a", b"Content-Length: %d" % len(self.BODY), place % bytes([octet])]
            with served.connect() as peer:
                peer.send(b"\r\n".join([*lines, b"", b""]) + self.BODY + b"OPTIONS * HTTP/1.0\r\n\r\n")
                answers = peer.read_to_end().count(b"HTTP/1.1 ")
            # Taken by its length, and then the last one; or refused.
            assert answers in (1, 2), octet
            assert seen.count("/") == (answers == 2), octet
            seen.clear()

    @pytest.mark.parametrize(
        "line", [b"Content-Length: 5%b", b"Content-Length: %b5", b"Content-Length%b: 5", b"Content-Length:%b5"]
    )
    def test_no_octet_makes_a_length_another(self, served: Served, seen: list[str], line: bytes) -> None:
        for octet in range(256):
            with served.connect() as peer:
                head = b"\r\n".join([b"POST / HTTP/1.1", b"Host: a", line % bytes([octet]), b"", b""])
                peer.send(head + b"hello" + b"x" * 200 + SMUGGLED)
                peer.half_close()
                assert b" 500 " not in peer.read_to_end()
        # "hello" is the content, or there is none: what follows is no request either way.
        assert "/smuggled" not in seen


class TestUnread:
    """RFC 9112 §9.3: "A server MUST read the entire request message body or close the connection"."""

    @pytest.mark.parametrize(
        ("fields", "body"),
        [
            (b"Content-Length: %d" % len(SMUGGLED), SMUGGLED),
            (b"Content-Length: 60000", (SMUGGLED * 2000)[:60000]),
            (b"Transfer-Encoding: chunked", b"%x\r\n%b\r\n0\r\n\r\n" % (len(SMUGGLED), SMUGGLED)),
        ],
    )
    def test_content_that_nobody_reads_is_no_request(
        self, served: Served, seen: list[str], fields: bytes, body: bytes
    ) -> None:
        for target in (b"/early", b"/nothing/../early"):
            octets = b"POST " + target + b" HTTP/1.1\r\nHost: a\r\n" + fields + b"\r\n\r\n" + body
            assert len(statuses(served, octets * 2, "POST", "POST")) == 2
        assert "/smuggled" not in seen

    @pytest.mark.parametrize("target", [b"/early", b"/"])
    @pytest.mark.parametrize("method", [b"POST", b"PUT"])
    def test_more_than_is_thrown_away_ends_the_connection(
        self, served: Served, seen: list[str], target: bytes, method: bytes
    ) -> None:
        if (target, method) == (b"/", b"POST"):
            return  # is read
        octets = method + b" " + target + b" HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n"
        with served.connect() as peer:
            answers = converse(peer.sock, octets + SMUGGLED * 20_000, method.decode(), persists=False)
        assert answers[0].closes
        assert "/smuggled" not in seen

    @pytest.mark.parametrize("body", [b"2\r\nhellox", b"x\r\n", b"2\r\nhe\n", b"0\r\nx\r\n\r\n", b"1;\r\n"])
    @pytest.mark.parametrize("cut", [True, False])
    def test_broken_content_that_nobody_reads_gets_no_second_response(
        self,
        served: Served,
        seen: list[str],
        body: bytes,
        cut: bool,  # noqa: FBT001
    ) -> None:
        head = b"POST /early HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        with served.connect() as peer:
            if cut:
                peer.send(head)
                assert peer.read_answer().content == b"early"
                peer.send(body + SMUGGLED)
                assert peer.is_closed()
            else:
                (answer,) = converse(peer.sock, head + body + SMUGGLED, "POST", persists=False)
                assert answer.content == b"early"
        assert seen == ["/early"]


class TestIncomplete:
    """RFC 9112 §6.3 and §8: what is cut off is incomplete, and is not handled as if it were not."""

    @pytest.mark.parametrize(
        "octets",
        [
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nhello",
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nhello",
        ],
    )
    @pytest.mark.parametrize("how", ["half_close", "reset"])
    def test_content_that_ends_early_never_reaches_a_handler_as_a_whole(
        self, serve: Serve, octets: bytes, how: str
    ) -> None:
        app = Vibora()
        ends: Queue[str] = Queue()

        @app.post("/")
        async def read(request: Request) -> Response:
            try:
                ends.put(repr(await request.content()))
            except ClientDisconnected:
                ends.put("disconnected")
                raise
            return Response(b"done")

        served = serve(app)
        with served.connect() as peer:
            peer.send(octets)
            # Once another client has an answer, the handler is reading.
            assert served.ask("/nothing").status == 404
            getattr(peer, how)()
            if how == "half_close":
                assert b" 200 " not in peer.read_to_end()
        assert ends.get(timeout=PATIENCE) == "disconnected"
        assert ends.empty()

    def test_a_head_that_ends_early_is_not_handled(self, served: Served, seen: list[str]) -> None:
        octets = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
        for length in range(1, len(octets)):
            with served.connect() as peer:
                peer.send(octets[:length])
                peer.half_close()
                assert b" 200 " not in peer.read_to_end()
        assert seen == []


class TestExpectations:
    """RFC 9110 §10.1.1."""

    HEAD = b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"

    def test_a_client_that_waits_is_told_once(self, served: Served) -> None:
        with served.connect() as peer:
            peer.send(self.HEAD)
            assert peer.read_until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            (answer,) = converse(peer.sock, b"hello", "POST")
        assert b"hello" in answer.content

    def test_a_client_that_does_not_wait_is_told_nothing(self, served: Served) -> None:
        with served.connect() as peer:
            (answer,) = converse(peer.sock, self.HEAD + b"hello", "POST")
        assert answer.status == 200

    def test_a_client_of_1_0_is_told_nothing(self, served: Served) -> None:
        octets = self.HEAD.replace(b"1.1", b"1.0", 1)
        with served.connect() as peer:
            peer.send(octets)
            assert served.ask("/").status == 200
            (answer,) = converse(peer.sock, b"hello", "POST", persists=False)
        assert answer.status == 200

    @pytest.mark.parametrize(
        ("target", "method", "status"), [(b"/early", "POST", 200), (b"/", "PUT", 405), (b"/%zz", "POST", 400)]
    )
    def test_a_final_response_without_content_ends_the_connection(
        self, served: Served, seen: list[str], target: bytes, method: str, status: int
    ) -> None:
        # What follows may be the content, or the next request: nobody can tell.
        head = self.HEAD.replace(b"POST /", method.encode() + b" " + target, 1)
        with served.connect() as peer:
            (answer,) = converse(peer.sock, head, method, persists=False)
        assert (answer.status, answer.closes) == (status, True)
        assert "/smuggled" not in seen

    def test_another_expectation_is_refused(self, served: Served, seen: list[str]) -> None:
        octets = b"POST / HTTP/1.1\r\nHost: a\r\nExpect: x\r\nContent-Length: 5\r\n\r\nhello"
        assert statuses(served, octets + SMUGGLED, "POST", persists=False) == [417]
        assert seen == []


class TestHostileValues:
    """What is valid on the wire and nonsense otherwise is the client's mistake, never a failure of ours."""

    NAMES = (
        "Accept", "Accept-Charset", "Accept-Encoding", "Accept-Language", "Authorization", "Cache-Control", "Cookie",
        "Content-Encoding", "Content-Type", "Date", "Forwarded", "If-Match", "If-Modified-Since", "If-None-Match",
        "If-Range", "Keep-Alive", "Max-Forwards", "Origin", "Pragma", "Proxy-Authorization", "Range", "Referer", "TE",
        "Sec-WebSocket-Key", "Sec-WebSocket-Protocol", "Sec-WebSocket-Version", "Trailer", "Upgrade", "User-Agent",
        "Via", "X-Forwarded-For", "Connection",
    )  # fmt: skip
    VALUES = (
        b"", b"\xff\x80\xe9", b"\xc3\xa9", b"\xed\xa0\x80", b"\x85", b"=", b";", b",", b'"', b"'", b"\\", b"%", b"%zz",
        b"\t", b"x" * 8000, b"1" * 5000, b"-1", b"NaN", b"a" * 500 + b"=", b"a=b; c", b"=b", b"bytes=-",
        b"bytes=9999999-", b";charset", b";charset=", b";charset=x", b";charset=\xff", b'a/b; charset="utf-8',
        b"a/b; charset=utf-7",
        b"a/b;charset=idna", b"a/b;charset=base64", b"a/b;charset=undefined", b"a/b; charset=unicode_escape",
        b"a/b;charset=zlib", b"a/b;charset=rot13", b"a/b;charset=mbcs", b"a/b;charset=" + b"x" * 1000,
    )  # fmt: skip

    @pytest.mark.parametrize("name", NAMES)
    def test_in_any_field_are_no_failure(self, serve: Serve, name: str) -> None:
        app = Vibora()

        @app.route("/<*path>", ["GET", "POST"])
        async def look(request: Request, path: str) -> Response:
            facts = (request.path, request.raw_path, request.query_string, request.host, request.args.to_dict(), path)
            more = (request.headers.items(), request.content_type, request.content_length, request.client)
            text = await request.text()
            return Response(repr((facts, more, text)))

        served = serve(app)
        statuses = set()
        for value in self.VALUES:
            head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n" + name.encode() + b": " + value + b"\r\n\r\n"
            with served.connect() as peer:
                (answer,) = converse(peer.sock, head + b"hel\xffo", "POST")
                statuses.add(answer.status)
        assert statuses <= {200, 400, 415}
        assert served.errors == []

    @pytest.mark.parametrize(
        "target", [b"/%ff%fe", b"/?%ff=%fe&%=%&;", b"/%ed%a0%80", b"/?" + b"a=b&" * 2000, b"/" + b"a/" * 4000]
    )
    def test_in_the_target_are_no_failure(self, served: Served, target: bytes) -> None:
        with served.connect() as peer:
            (answer,) = converse(peer.sock, b"GET " + target + b" HTTP/1.1\r\nHost: a\r\n\r\n")
        assert answer.status in (200, 400)
        assert served.errors == []


class TestLog:
    """What clients send does not become lines, colours or floods in a log."""

    def test_a_line_about_a_request_has_no_control_characters(self, serve: Serve) -> None:
        app = Vibora()

        @app.get("/<*path>")
        async def fail(path: str) -> Response:
            raise RuntimeError

        served = serve(app)
        assert served.ask("/%1b[31m%0d%0aERROR?%1b").status == 500
        (record,) = served.errors
        assert record.getMessage().isprintable()
        assert "%1b[31m%0d%0aERROR" in record.getMessage()

    def test_refused_requests_write_nothing(self, served: Served) -> None:
        for octets in (
            b"GET / HTTP/1.1\r\n\r\n",
            b"\0",
            b"GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n",
            b"PUT / HTTP/1.1\r\nHost: a\r\n\r\n",
        ):
            with served.connect() as peer:
                peer.send(octets)
                assert peer.read_answer().status in (400, 405)
        assert [record for record in served.log if record.levelname != "INFO"] == []


class TestIsolation:
    """RFC 9110 §3.3: each request is understood by itself."""

    def test_nothing_of_one_request_shows_in_the_next(self, served: Served) -> None:
        first = (
            b"POST /first?a=b HTTP/1.1\r\nHost: first\r\nX-Secret: x\r\nAuthorization: x\r\nCookie: a=b\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n6\r\nsecret\r\n0\r\nX-Trailer: x\r\n\r\n"
        )
        second = b"GET / HTTP/1.1\r\nHost: second\r\n\r\n"
        with served.connect() as peer:
            answers: list[Answer] = converse(peer.sock, first + second, "POST", "GET")
        assert orjson.loads(answers[1].content) == {
            "path": "/",
            "raw_path": "/",
            "query": "",
            "host": "second",
            "version": "1.1",
            "fields": [["Host", "second"]],
            "length": None,
            "content": "",
        }

    def test_a_refused_request_says_nothing_about_the_next_connection(self, served: Served, seen: list[str]) -> None:
        for _ in range(100):
            assert statuses(served, b"GET / HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n" + SMUGGLED, persists=False) == [400]
            assert served.ask("/next").status == 200
        assert seen == ["/next"] * 100


def test_a_limit_on_content_is_told_before_it_is_sent(serve: Serve) -> None:
    app = Vibora(route_limits=RouteLimits(max_body_size=4))

    @app.post("/")
    async def read(request: Request) -> Response:
        return Response(await request.content())

    octets = b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
    with serve(app).connect() as peer:
        (answer,) = converse(peer.sock, octets, "POST", persists=False)
    assert (answer.status, answer.closes) == (413, True)
