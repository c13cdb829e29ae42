"""What two other parsers make of the same octets, h11 and llhttp (by httptools), over a live connection.

Requests are generated, then damaged. Where both sides see a message they must see the same one: method, target, fields,
content. Where only one sees it, the reason must stand in the lists below: every difference is intended.
"""

import base64
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import h11
import httptools
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conformance import corpus
from conformance.replay import Client, path_of, serving

#: Method, target without authority, fields, content.
Message: TypeAlias = tuple[str, str, tuple[tuple[str, str], ...], bytes]


@dataclass
class Seen:
    """What a parser has made of some octets."""

    #: None where a request was answered without telling how it was understood.
    messages: list[Message | None] = field(default_factory=list)
    ending: Literal["open", "closed", "rejected"] = "open"
    reason: str = ""


#: A valid message with a path that cannot be decoded: refused like one that does not exist.
BAD_PATH = b"the path is not percent-encoded correctly"

# --- the three parsers ------------------------------------------------------------------------------------------------


def read_with_vibora(client: Client, *octets: bytes) -> Seen:
    exchange = client.send(octets, [], 0, to_end=False)
    assert exchange.problems + exchange.grammar() == []
    executed = iter(client.executed(exchange.port))
    seen = Seen(ending="open" if exchange.silent else "closed")
    for response in exchange.responses:
        if response.status == 200:
            told = next(executed)
            fields = tuple((name.lower(), value) for name, value in told["fields"])
            seen.messages.append((told["method"], told["target"], fields, base64.b64decode(told["body_b64"])))
        elif response.status in (204, 405) or response.content == BAD_PATH:
            seen.messages.append(None)
        elif response.status >= 400:
            assert response.closes
            seen.ending, seen.reason = "rejected", response.content.decode().partition(" (RFC")[0]
    return seen


def read_with_h11(octets: bytes) -> Seen:
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1_000_000)
    connection.receive_data(octets)
    seen = Seen()
    request: h11.Request | None = None
    content = b""
    while True:
        try:
            event = connection.next_event()
        except h11.RemoteProtocolError as error:
            seen.ending, seen.reason = "rejected", str(error)
            return seen
        if isinstance(event, h11.Request):
            request, content = event, b""
        elif isinstance(event, h11.Data):
            content += bytes(event.data)
        elif isinstance(event, h11.EndOfMessage):
            assert request is not None
            fields = tuple((name.decode(), value.decode("latin-1")) for name, value in request.headers)
            seen.messages.append((request.method.decode(), path_of(request.target.decode()), fields, content))
            connection.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
            connection.send(h11.EndOfMessage())
            if connection.our_state is h11.MUST_CLOSE:
                seen.ending = "closed"
                return seen
            connection.start_next_cycle()
        else:
            return seen


class Llhttp:
    """The callbacks of an `httptools.HttpRequestParser`."""

    def __init__(self) -> None:
        self.seen = Seen()
        self._parser = httptools.HttpRequestParser(self)
        self._target = self._content = b""
        self._fields: list[tuple[str, str]] = []
        self._trailing = False

    def read(self, octets: bytes) -> Seen:
        try:
            self._parser.feed_data(octets)
        except httptools.HttpParserUpgrade:
            self.seen.messages.pop()  # without its content, which counts as the new protocol's
            self.seen.ending = "closed"
        except httptools.HttpParserError as error:
            if self.seen.ending == "open":
                self.seen.ending, self.seen.reason = "rejected", str(error)
        return self.seen

    def on_message_begin(self) -> None:
        self._target = self._content = b""
        self._fields = []
        self._trailing = False

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._trailing:
            self._fields.append((name.decode("latin-1").lower(), value.decode("latin-1").strip(" \t")))

    def on_headers_complete(self) -> None:
        self._trailing = True

    def on_body(self, body: bytes) -> None:
        self._content += body

    def on_message_complete(self) -> None:
        if self.seen.ending == "closed":
            return
        method = self._parser.get_method().decode()
        self.seen.messages.append((method, path_of(self._target.decode("latin-1")), tuple(self._fields), self._content))
        if not self._parser.should_keep_alive():
            self.seen.ending = "closed"


def read_with_llhttp(octets: bytes) -> Seen:
    return Llhttp().read(octets)


OTHERS: dict[str, Callable[[bytes], Seen]] = {"h11": read_with_h11, "llhttp": read_with_llhttp}


# --- the differences, each intended -----------------------------------------------------------------------------------

#: What we refuse and they take: our reason, and why we keep it.
REFUSED: dict[str, dict[str, str]] = {
    "h11": {
        "a line feed without a carriage return": "RFC 9112 §2.2 lets a recipient take it; another in the chain may not",
        "a control character in a field value": "RFC 9110 §5.5: invalid; h11 takes all but NUL and whitespace",
        "a field line that starts with whitespace": "RFC 9112 §5.2: refuse or unfold; h11 unfolds",
        "the host field is not a host and port": "RFC 9112 §3.2: MUST 400; h11 counts the lines only",
        "the request target has no form that its method may use": "RFC 9112 §3.2; h11 leaves targets to its user",
        "the authority of the request target is not a host and port": "the same",
        "the authority of the request target has userinfo": "RFC 9110 §4.2.4; the same",
        "a fragment in the request target": "RFC 9112 §3.2; the same",
        "the major version of the protocol is not supported": "RFC 9110 §15.6.6; h11 takes any digit",
        "both transfer-encoding and content-length": "RFC 9112 §6.1: MAY reject; h11 takes the coding",
        "transfer-encoding in an http/1.0 request": "RFC 9112 §6.1: faulty framing; h11 decodes it, then closes",
        "more than one content-length": "RFC 9112 §6.3 tolerates equal values; h11 does",
        "the content-length is not a decimal number below 2^63": "h11 takes twenty digits",
        "the chunk size is not 1 to 16 hexadecimal digits": "h11 takes twenty digits",
        "a malformed chunk extension": "RFC 9112 §7.1.1; h11 takes anything up to the line end, and spaces before it",
        "more than one content-type field": "RFC 9110 §5.3: not a list; h11 leaves it to its user",
        "an expectation other than 100-continue": "RFC 9110 §10.1.1: MAY 417; h11 leaves it to its user",
    },
    "llhttp": {
        "a line feed without a carriage return": "RFC 9112 §2.2; llhttp skips any before the request line",
        "a carriage return without a line feed": "RFC 9112 §2.2; llhttp skips any before the request line",
        "too many empty lines before the request line": "llhttp skips them for ever",
        "the request line is not method, target and version": "RFC 9112 §3; llhttp takes HTTP/0.9",
        "the host field is missing": "RFC 9112 §3.2: MUST 400; llhttp leaves it to its user",
        "more than one host field": "the same",
        "the host field is not a host and port": "the same",
        "the request target has no form that its method may use": "RFC 9112 §3.2; llhttp knows `*` with any method",
        "the authority of the request target is not a host and port": "the same",
        "the authority of the request target has userinfo": "RFC 9110 §4.2.4; llhttp reads it as part of the URL",
        "a fragment in the request target": "RFC 9112 §3.2; the same",
        "the major version of the protocol is not supported": "RFC 9110 §15.6.6; llhttp takes 0.9 and 2.0",
        "transfer-encoding in an http/1.0 request": "RFC 9112 §6.1: faulty framing; llhttp decodes it, then closes",
        "a transfer coding other than chunked": "RFC 9112 §6.1: SHOULD 501; llhttp leaves the coding to its user",
        "the content-length is not a decimal number below 2^63": "llhttp takes 64 bits",
        "the chunk size is not 1 to 16 hexadecimal digits": "RFC 9112 §7.1: any number of zeros; sixteen are enough",
        "more than one content-type field": "RFC 9110 §5.3; llhttp leaves it to its user",
        "an expectation other than 100-continue": "RFC 9110 §10.1.1: MAY 417; llhttp leaves it to its user",
    },
}

#: What we take and they refuse: how their reason begins, and why it is valid.
TAKEN: dict[str, dict[str, str]] = {
    "h11": {
        "no request line received": "RFC 9112 §2.2: SHOULD ignore at least one empty line before a request line",
        "bad Content-Length": "RFC 9110 §8.6: any number of digits; h11 takes twenty, and reads trailers as well",
        "illegal chunk header": "RFC 9112 §7.1.1: `BWS` may stand around the `;` of an extension",
    },
    "llhttp": {
        "Invalid HTTP version": "RFC 9110 §2.5: a higher minor version is processed as the highest that is known",
        "Invalid method encountered": "RFC 9110 §9.1: any token is a method, to be answered with 405 or 501",
        "Expected HTTP/2 Connection Preface": "the same, for the method PRI",
        "Request has invalid `Transfer-Encoding`": "RFC 9112 §5: `OWS` after a field value may be HTAB",
        "Invalid character in chunk": "RFC 9112 §7.1.1: `BWS` may stand around the `;` and the `=` of an extension",
        "Content-Length can't be present with Transfer-Encoding": "RFC 9110 §6.5.1: a trailer field is no header field",
        "Invalid `Transfer-Encoding` header value": "the same",
    },
}

#: Where they end the connection, and we go on.
CONTINUED = {
    "h11": "RFC 9112 §9.3: HTTP/1.0 persists with `keep-alive`; h11 never lets it",
    "llhttp": "RFC 9110 §7.8: an offer to upgrade may be ignored; llhttp ends its message there",
}

#: Where we end the connection, and they go on.
ENDED = {
    "llhttp": "RFC 9112 §9.3: `close` goes before `keep-alive`, and `Proxy-Connection` is none of its options",
}


def compare(client: Client, octets: bytes) -> None:
    """Fail unless the other parsers see the same, or the difference is intended."""
    ours = read_with_vibora(client, octets)
    # One of two may see in the middle of a line what the other will see at its end.
    completed = octets + b"\r\n\r\n"
    for name, read in OTHERS.items():
        theirs = read(octets)
        if theirs.ending == "open" and ours.ending == "rejected" and read(completed).ending == "rejected":
            theirs.ending = "rejected"
        if ours.ending == "open" and theirs.ending == "rejected" and len(ours.messages) == len(theirs.messages):
            finished = read_with_vibora(client, completed)
            check(name, finished if finished.ending == "rejected" else ours, theirs, octets)
        else:
            check(name, ours, theirs, octets)


def check(name: str, ours: Seen, theirs: Seen, octets: bytes) -> None:
    """Fail unless two parsers saw the same, or the difference is intended."""
    for mine, other in zip(ours.messages, theirs.messages, strict=False):
        assert mine is None or normal(mine) == normal(other), name
    ahead = len(ours.messages) - len(theirs.messages)
    if ahead == 0 and ours.ending == theirs.ending:
        return
    difference = f"{name}: {ours} and {theirs}"
    if ahead == 1 and ours.messages[-1] is None and ours.ending != "rejected":
        return  # answered before its content was complete, or found to be broken
    if ours.ending == "rejected" and ahead <= 0:
        assert ours.reason in REFUSED[name], difference
    elif theirs.ending == "rejected" and ahead >= 0:
        assert any(theirs.reason.startswith(start) for start in TAKEN[name]), difference
    elif theirs.ending == "closed" and ahead >= 0:
        assert name in CONTINUED, difference
    else:
        assert ours.ending == "closed", difference
        assert name in ENDED, difference
        assert b"HTTP/1.0" in octets, difference


def normal(message: Message | None) -> Message | None:
    """Return a message without what the parsers may change in a field: h11 writes codings in lower case."""
    if message is None:
        return None
    method, target, fields, content = message
    return method, target, tuple((name, value.lower()) for name, value in fields), content


# --- octets -----------------------------------------------------------------------------------------------------------


def mostly(usual: list[str], odd: list[str]) -> st.SearchStrategy[str]:
    """One of the usual, or, once in twenty, one of the odd."""
    return st.integers(0, 19).flatmap(lambda chance: st.sampled_from(odd if chance == 19 else usual))


METHODS = mostly(["GET", "POST", "PUT", "DELETE", "PATCH"], ["OPTIONS", "TRACE", "PROPFIND", "get", "M-SEARCH"])
TARGETS = mostly(
    ["/", "/a", "/a/b?c=d", "/?", "/%41%20", "/a;b=c", "//a", "http://a/b", "http://a", "/[", "/'\"<>|^`{}"],
    ["*", "a", "/a#b", "/a b", "/\x01", "http://u@a/", "http://", "/a%", "", "/\xc3\xa9"],
)
VERSIONS = mostly(
    ["HTTP/1.1"], ["HTTP/1.0", "HTTP/1.2", "HTTP/2.0", "HTTP/0.9", "http/1.1", "HTTP/1.10", "HTTP/11", ""]
)
NAMES = mostly(
    ["X", "Accept", "x-y_z", "Cookie", "Date", "Keep-Alive", "TE", "Trailer", "!#$%&'*+-.^_`|~"],
    ["Connection", "Expect", "Upgrade", "Content-Type", "X ", "X:", "\xe9", "(", ""],
)
VALUES = mostly(
    ["y", "a b", "", " y ", "\ty", "keep-alive", 'a,b;c="d"', "\x80\xff", ":", "100-continue"],
    ["close", "upgrade", "websocket", "x\x00", "x\x01y", "x\x7f", "x\ny", "x\r\n y", "x\ry"],
)
FIELDS = st.builds("{}: {}".format, NAMES, VALUES)
CONNECTIONS = st.builds("Connection: {}".format, VALUES)
HOSTS = mostly(["Host: a", "host: a:80", "Host:"], ["Host: a b", "Host: a/b", "X: y", "Host: a\r\nHost: a", "Host : a"])
CHUNKS = mostly(
    [
        "5\r\nhello\r\n",
        "1\r\nx\r\n",
        "a\r\n0123456789\r\n",
        "5;a=b\r\nhello\r\n",
        '1;a="b"\r\n\n\r\n',
        "05\r\nhello\r\n",
    ],
    [
        *("5\nhello\n", "5 \r\nhello\r\n", "+5\r\nhello\r\n", "0x5\r\nhello\r\n", "5;\r\nhello\r\n", "5\r\nhello"),
        *("5\r\nhello!\r\n", "5;a=\x01\r\nhello\r\n", "00000000000000000005\r\nhello\r\n", "\r\n", "5_\r\n"),
    ],
)
LASTS = mostly(
    ["0\r\n\r\n", "0\r\nX: y\r\n\r\n", "00;a\r\n\r\n"],
    ["", "0\r\n", "0\n\n", "0\r\nX\r\n\r\n", "0\r\n X: y\r\n\r\n", "0\r\n\r\r\n"],
)
CODINGS = mostly(
    ["chunked", "Chunked", "\tchunked"],
    [
        "gzip, chunked",
        "chunked, chunked",
        "identity",
        "xchunked",
        "chunked,",
        "",
        "chunked\r\nTransfer-Encoding: chunked",
    ],
)
LENGTHS = mostly(
    ["{}", "0{}", " {} "],
    [
        "+{}",
        "{}, {}",
        "-1",
        "{}x",
        "99999999999999999999",
        "3",
        "20",
        "",
        "{}\r\nContent-Length: {}",
        "{}\r\nContent-Length: 9",
    ],
)
CONTENTS = st.sampled_from(["", "hello", "GET /x HTTP/1.1\r\nHost: a\r\n\r\n", "\r\n", "0\r\n\r\n"])
BEFORE = mostly([""], ["\r\n", "\n", "\r\n\r\n", " ", "\r"])
NOISE = st.sampled_from([b"", b"\r", b"\n", b"\r\n", b" ", b"\t", b"\0", b":", b",", b"0", b"\x80", b"\x0b", b"x"])


@st.composite
def framed(draw: st.DrawFn) -> tuple[list[str], str]:
    """Field lines that frame a body, and the body."""
    kind = draw(
        st.sampled_from(["none", "none", "length", "length", "chunked", "chunked", "both"][: draw(st.integers(6, 7))])
    )
    content = draw(CONTENTS)
    length = "Content-Length: " + draw(LENGTHS).replace("{}", str(len(content)))
    coding = "Transfer-Encoding: " + draw(CODINGS)
    chunks = "".join(draw(st.lists(CHUNKS, max_size=3))) + draw(LASTS)
    return {
        "none": ([], ""),
        "length": ([length], content),
        "chunked": ([coding], chunks),
        "both": ([length, coding], chunks),
    }[kind]


@st.composite
def requests(draw: st.DrawFn) -> str:
    """One request."""
    framing, body = draw(framed())
    fields = draw(st.lists(st.one_of(FIELDS, FIELDS, CONNECTIONS), max_size=3))
    lines = draw(st.permutations([draw(HOSTS), *fields, *framing]))
    start = f"{draw(BEFORE)}{draw(METHODS)} {draw(TARGETS)} {draw(VERSIONS)}"
    return "\r\n".join([start, *lines, "", ""]) + body


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    """Up to three requests, pipelined; then, perhaps, a few octets replaced, removed or added."""
    octets = bytearray("".join(draw(st.lists(requests(), min_size=1, max_size=3))).encode("latin-1"))
    for _ in range(draw(st.sampled_from([0, 0, 0, 0, 1, 2]))):
        at = draw(st.integers(0, len(octets)))
        octets[at : at + draw(st.integers(0, 2))] = draw(NOISE)
    return bytes(octets)


#: Of the project's corpus, without the methods whose responses have another end.
VALID = [
    case
    for case in corpus.cases()
    if case.verdict == "accept" and not {message.method for message in case.messages} & {"CONNECT", "HEAD"}
]


# --- the tests --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with serving() as server, Client(server) as client:
        yield client
        assert server.is_alive


class TestAgainstItself:
    @settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
    @given(octets=streams(), cuts=st.lists(st.floats(0, 1), min_size=1, max_size=5))
    def test_no_cut_makes_a_difference(self, client: Client, octets: bytes, cuts: list[float]) -> None:
        ends = sorted({round(cut * len(octets)) for cut in cuts} | {len(octets)})
        pieces = [octets[start:end] for start, end in zip([0, *ends[:-1]], ends, strict=True)]
        assert read_with_vibora(client, *filter(None, pieces)) == read_with_vibora(client, octets)


class TestAgainstOtherParsers:
    @settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
    @given(octets=streams())
    def test_every_difference_is_intended(self, client: Client, octets: bytes) -> None:
        compare(client, octets)

    @pytest.mark.parametrize("part", sorted({case.name.partition("/")[0] for case in VALID}))
    def test_what_is_valid_is_understood_alike(self, client: Client, part: str) -> None:
        for case in VALID:
            if case.name.startswith(f"{part}/"):
                compare(client, case.octets)
