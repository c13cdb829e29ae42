"""Connections: RFC 9112 §9, expectations, upgrades; and the limits of the server."""

from collections.abc import Iterator
from itertools import chain

from .case import Case, Message
from .language import (
    GET,
    HIDDEN,
    MAX_CHUNK_EXTENSION,
    MAX_FIELDS,
    MAX_HEADERS,
    MAX_REQUEST_LINE,
    MAX_TRAILER_FIELDS,
    MAX_TRAILERS,
    ROOT,
    accept,
    chunked,
    post,
    posted,
    reject,
    request,
    wait,
)


def cases() -> Iterator[Case]:
    """Return every case of this part."""
    return chain(_connections(), _pipelines(), _expectations(), _upgrades(), _limits())


# --- RFC 9112 §9: connection management -------------------------------------------------------------------------------


def _connections() -> Iterator[Case]:
    rule = "RFC 9112 §9.3"
    closing = Message("GET", "/", closes=True)
    for name, lines in {
        "nothing": [],
        "keep-alive": ["Connection: keep-alive"],
        "another-option": ["Connection: x"],
        "upgrade": ["Connection: upgrade"],
        "empty": ["Connection:"],
        "not-close": ["Connection: closed"],
        "close-in-quotes": ['Connection: "close"'],
        "proxy-connection": ["Proxy-Connection: close"],
        "close-as-a-name": ["Close: x"],
        "obs-text": ["Connection: \xe9"],
        "keep-alive-parameters": ["Connection: keep-alive", "Keep-Alive: timeout=5, max=1"],
    }.items():
        yield accept(f"persistence/1.1/{name}", rule, request("GET / HTTP/1.1", *lines) + GET, ROOT, ROOT)
    for name, lines in {
        "close": ["Connection: close"],
        "upper": ["Connection: CLOSE"],
        "mixed": ["connection: Close"],
        "list": ["Connection: keep-alive, close"],
        "list-first": ["Connection: close, keep-alive"],
        "list-without-spaces": ["Connection: x,close,y"],
        "list-with-empty": ["Connection: ,, close ,"],
        "second-line": ["Connection: keep-alive", "Connection: close"],
        "first-line": ["Connection: close", "Connection: keep-alive"],
        "whitespace": ["Connection: \t close \t "],
    }.items():
        yield accept(
            f"persistence/1.1-close/{name}", "RFC 9112 §9.6", request("GET / HTTP/1.1", *lines) + HIDDEN, closing
        )
        yield accept(f"persistence/1.0-close/{name}", rule, request("GET / HTTP/1.0", *lines) + HIDDEN, closing)
    for name, lines in {
        "nothing": [],
        "another-option": ["Connection: x"],
        "keep-alive-field": ["Keep-Alive: timeout=5"],
        "proxy-connection": ["Proxy-Connection: keep-alive"],
        "close": ["Connection: close"],
    }.items():
        yield accept(f"persistence/1.0/{name}", rule, request("GET / HTTP/1.0", *lines) + HIDDEN, closing)
    for name, lines in {
        "keep-alive": ["Connection: keep-alive"],
        "upper": ["Connection: Keep-Alive"],
        "list": ["Connection: x, keep-alive"],
    }.items():
        yield accept(f"persistence/1.0-keep-alive/{name}", rule, request("GET / HTTP/1.0", *lines) + GET, ROOT, ROOT)
    yield accept(
        "persistence/close-after-content",
        "RFC 9112 §9.6",
        post("Content-Length: 5", "Connection: close", body="hello") + HIDDEN,
        Message("POST", "/", b"hello", closes=True),
    )
    yield accept(
        "persistence/close-after-chunks",
        "RFC 9112 §9.6",
        post("Transfer-Encoding: chunked", "Connection: close", body="5\r\nhello\r\n0\r\n\r\n") + HIDDEN,
        Message("POST", "/", b"hello", closes=True),
    )
    yield accept(
        "persistence/garbage-after-close",
        "RFC 9112 §9.6",
        request("GET / HTTP/1.1", "Connection: close") + "\0\n\xff" * 50,
        closing,
    )


def _pipelines() -> Iterator[Case]:
    rule = "RFC 9112 §9.3.2"
    paths = [f"/{number}" for number in range(20)]
    yield accept(
        "pipeline/twenty",
        rule,
        "".join(request(f"GET {path} HTTP/1.1") for path in paths),
        *(Message("GET", path) for path in paths),
    )
    yield accept(
        "pipeline/mixed",
        rule,
        post("Content-Length: 5", body="hello", path="/a")
        + request("HEAD /b HTTP/1.1")
        + chunked("5\r\nhello\r\n0\r\nX: y\r\n\r\n")
        + request("FOO /c HTTP/1.1")
        + request("OPTIONS * HTTP/1.1")
        + request("DELETE /d HTTP/1.1", "Content-Length: 1", body="x")
        + GET,
        posted("hello", "/a"),
        Message("HEAD", "/b"),
        posted("hello"),
        Message("FOO", "/c"),
        Message("OPTIONS", "*"),
        Message("DELETE", "/d", b"x"),
        ROOT,
    )
    yield accept(
        "pipeline/close-in-the-middle",
        "RFC 9112 §9.6",
        GET + request("GET /x HTTP/1.1", "Connection: close") + HIDDEN,
        ROOT,
        Message("GET", "/x", closes=True),
    )
    yield accept(
        "pipeline/1.0-in-the-middle",
        "RFC 9112 §9.3",
        GET + "GET /x HTTP/1.0\r\n\r\n" + HIDDEN,
        ROOT,
        Message("GET", "/x", closes=True),
    )
    yield wait("pipeline/cut", rule, GET + GET + GET[:-1], ROOT, ROOT)
    rule = "RFC 9112 §9.6"
    good = (ROOT, Message("POST", "/p", b"hello"))
    before = GET + post("Content-Length: 5", body="hello", path="/p")
    for name, text, status in (
        ("no-host", "GET / HTTP/1.1\r\n\r\n", 400),
        ("bare-lf", "GET / HTTP/1.1\nHost: a\n\n", 400),
        ("garbage", "\0\1\2\3", 400),
        ("http-0.9", "GET /\r\n", 400),
        ("http-2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", (400, 505)),
        ("two-lengths", post("Content-Length: 1", "Content-Length: 2", body="x"), 400),
        ("both", post("Content-Length: 5", "Transfer-Encoding: chunked", body="0\r\n\r\n"), 400),
        ("bad-chunk", chunked("x\r\n"), 400),
        ("bad-trailer", chunked("0\r\nx\r\n\r\n"), 400),
        ("fold", request("GET / HTTP/1.1", "X: y", " z"), 400),
        ("space-before-colon", request("GET / HTTP/1.1", "X : y"), 400),
        ("unknown-coding", post("Transfer-Encoding: gzip, chunked", body="0\r\n\r\n"), 501),
        ("version", request("GET / HTTP/3.0"), 505),
        ("too-many-fields", request("GET / HTTP/1.1", *["X: y"] * 200), 431),
        ("long-line", request(f"GET /{'x' * 10_000} HTTP/1.1"), 414),
        ("expectation", post("Expect: x", "Content-Length: 5", body="hello"), 417),
    ):
        yield reject(f"pipeline/bad-first/{name}", rule, text + HIDDEN, status=status)
        yield reject(f"pipeline/bad-after-good/{name}", rule, before + text + HIDDEN, *good, status=status)
    yield reject(
        "pipeline/content-too-long-for-its-length",
        rule,
        post("Content-Length: 3", body='hel{"lo') + HIDDEN,
        posted("hel"),
    )
    yield reject("pipeline/content-without-length", rule, post(body="hello\r\n") + HIDDEN, posted(""))
    yield accept(
        "pipeline/request-in-content",
        rule,
        post(f"Content-Length: {len(HIDDEN)}", body=HIDDEN) + GET,
        posted(HIDDEN),
        ROOT,
    )


def _expectations() -> Iterator[Case]:
    rule = "RFC 9110 §10.1.1"
    for value in ("100-continue", "100-Continue", "100-CONTINUE", " 100-continue "):
        yield accept(
            f"expect/{value!r}",
            rule,
            post(f"Expect:{value}", "Content-Length: 5", body="hello") + GET,
            posted("hello"),
            ROOT,
        )
    yield accept(
        "expect/chunked",
        rule,
        post("Expect: 100-continue", "Transfer-Encoding: chunked", body="5\r\nhello\r\n0\r\n\r\n") + GET,
        posted("hello"),
        ROOT,
    )
    yield accept("expect/without-content", rule, request("GET / HTTP/1.1", "Expect: 100-continue") + GET, ROOT, ROOT)
    yield accept(
        "expect/content-length-0", rule, post("Expect: 100-continue", "Content-Length: 0") + GET, posted(""), ROOT
    )
    for value in ("100-continue", "x"):
        yield accept(
            f"expect/on-1.0/{value}",
            rule,
            request("POST / HTTP/1.0", f"Expect: {value}", "Content-Length: 5", body="hello"),
            Message("POST", "/", b"hello", closes=True),
        )
    yield wait("expect/content-to-come", rule, post("Expect: 100-continue", "Content-Length: 5"))
    for value in ("x", "100-continu", "100", "200-ok", "100-continue, x", "100-continue; x", "x=y", '"100-continue"'):
        yield reject(
            f"expect/unknown/{value}",
            rule,
            post(f"Expect: {value}", "Content-Length: 5", body="hello"),
            status=417,
            must=False,
        )


def _upgrades() -> Iterator[Case]:
    rule = "RFC 9110 §7.8"
    for name, lines in {
        "websocket": [
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        ],
        "websocket-subprotocol-not-ascii": [
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            "Sec-WebSocket-Protocol: caf\xe9",
        ],
        "h2c": ["Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__"],
        "tls": ["Connection: Upgrade", "Upgrade: TLS/1.0"],
        "without-option": ["Upgrade: h2c"],
        "without-field": ["Connection: upgrade"],
        "several": ["Connection: upgrade", "Upgrade: x/1, y, websocket"],
        "empty": ["Connection: upgrade", "Upgrade:"],
        "malformed": ["Connection: upgrade", "Upgrade: \xff/;,"],
    }.items():
        yield accept(f"upgrade/{name}", rule, request("GET / HTTP/1.1", *lines) + GET, ROOT, ROOT)
    yield accept(
        "upgrade/h2c-with-content",
        rule,
        post("Connection: Upgrade", "Upgrade: h2c", "Content-Length: 5", body="hello") + GET,
        posted("hello"),
        ROOT,
    )
    yield accept(
        "upgrade/on-1.0",
        rule,
        request("GET / HTTP/1.0", "Connection: Upgrade", "Upgrade: websocket"),
        Message("GET", "/", closes=True),
    )
    yield reject(
        "upgrade/h2-preface-after-h2c",
        rule,
        request("GET / HTTP/1.1", "Connection: Upgrade", "Upgrade: h2c") + "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        ROOT,
        status=(400, 505),
    )


# --- limits -----------------------------------------------------------------------------------------------------------


def _limits() -> Iterator[Case]:
    def line(size: int) -> tuple[str, str]:
        path = "/" + "x" * (size - len("GET / HTTP/1.1"))
        return f"GET {path} HTTP/1.1", path

    text, path = line(MAX_REQUEST_LINE)
    yield accept("limits/request-line-at", "RFC 9112 §3", request(text) + GET, Message("GET", path), ROOT)
    yield accept("limits/request-line-8000", "RFC 9112 §3", request(line(8000)[0]), Message("GET", line(8000)[1]))
    for size in (MAX_REQUEST_LINE + 1, MAX_REQUEST_LINE + 2, 100_000):
        yield reject(f"limits/request-line-{size}", "RFC 9112 §3", request(line(size)[0]), status=414)
    yield reject("limits/request-line-endless", "RFC 9112 §3", "GET /" + "x" * 100_000, status=414)
    yield reject("limits/query-endless", "RFC 9112 §3", "GET /?" + "x" * 100_000, status=414)
    yield reject("limits/version-endless", "RFC 9112 §3", "GET / " + "H" * 100_000, status=(400, 414))

    rule = "RFC 6585 §5"

    def head(size: int) -> str:
        base = request("GET / HTTP/1.1", "X: ")
        return request("GET / HTTP/1.1", "X: " + "y" * (size - (len(base) - len("GET / HTTP/1.1\r\n"))))

    yield accept("limits/headers-at", rule, head(MAX_HEADERS) + GET, ROOT, ROOT)
    for size in (MAX_HEADERS + 1, MAX_HEADERS + 2, 2 * MAX_HEADERS):
        yield reject(f"limits/headers-{size}", rule, head(size), status=431, must=False)
    yield reject(
        "limits/headers-endless", rule, "GET / HTTP/1.1\r\nHost: a\r\nX: " + "y" * 100_000, status=431, must=False
    )
    yield reject("limits/name-endless", rule, "GET / HTTP/1.1\r\nHost: a\r\n" + "x" * 100_000, status=431, must=False)
    yield accept("limits/fields-at", rule, request("GET / HTTP/1.1", *["X: y"] * (MAX_FIELDS - 1)) + GET, ROOT, ROOT)
    for count in (MAX_FIELDS + 1, 1000):
        yield reject(
            f"limits/fields-{count}", rule, request("GET / HTTP/1.1", *["X: y"] * (count - 1)), status=431, must=False
        )

    rule = "RFC 9112 §7.1.1"
    fits = f";{'x' * (MAX_CHUNK_EXTENSION - 1)}"
    half = f";{'x' * (MAX_CHUNK_EXTENSION // 2 - 1)}"
    end = "\r\nhello\r\n0\r\n\r\n"
    yield accept("limits/extension-at", rule, chunked(f"5{fits}{end}") + GET, posted("hello"), ROOT)
    yield accept("limits/extensions-at", rule, chunked(f"1{half}\r\nx\r\n5{half}{end}") + GET, posted("xhello"), ROOT)
    for name, text in {
        "extension-past": f"5{fits}x{end}",
        "extensions-past": f"1{half}\r\nx\r\n5{half}x{end}",
        "extension-on-last-past": f"0{fits}x\r\n\r\n",
        "extension-endless": "5;" + "x" * 100_000,
        "extensions-endless": "1;a\r\nx\r\n" * 5000,
    }.items():
        yield reject(f"limits/{name}", rule, chunked(text), status=413, must=False)

    rule = "RFC 9112 §7.1.2"
    trailer = f"X: {'y' * (MAX_TRAILERS - len('X: ') - 2)}\r\n"
    yield accept("limits/trailers-at", rule, chunked(f"0\r\n{trailer}\r\n") + GET, posted(""), ROOT)
    yield accept(
        "limits/trailer-fields-at", rule, chunked("0\r\n" + "X: y\r\n" * MAX_TRAILER_FIELDS + "\r\n"), posted("")
    )
    for name, text in {
        "trailers-past": f"0\r\nx{trailer}\r\n",
        "trailers-endless": f"0\r\n{'X: yyyyyyyyyyyyyyyy' * 10_000}",
        "trailer-fields-past": "0\r\n" + "X: y\r\n" * (MAX_TRAILER_FIELDS + 1) + "\r\n",
        "trailer-fields-endless": "0\r\n" + "X: y\r\n" * 10_000,
    }.items():
        yield reject(f"limits/{name}", rule, chunked(text), status=431, must=False)
