"""Reads responses by the letter of RFC 9112: what a lenient client would forgive is a `ValueError` here."""

import contextlib
import re
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime

_STATUS_LINE = re.compile(rb"HTTP/1\.1 ([1-5][0-9]{2}) ([\t \x21-\x7e\x80-\xff]*)")
_FIELD_LINE = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[\t ]*([\t \x21-\x7e\x80-\xff]*?)[\t ]*")
_CHUNK_SIZE = re.compile(rb"[0-9A-Fa-f]{1,16}")
_IMF_FIXDATE = re.compile(r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT", re.ASCII)


@dataclass(frozen=True, slots=True)
class Response:
    """A response as it came over the wire."""

    status: int
    reason: str
    fields: Sequence[tuple[str, str]]
    content: bytes
    #: How the content ended: `none`, `length`, `chunked` or `close`.
    framing: str
    trailers: Sequence[tuple[str, str]] = field(default=())

    def get_all(self, name: str) -> list[str]:
        """Return the values of a field."""
        return [value for key, value in self.fields if key.lower() == name]

    def get(self, name: str) -> str | None:
        """Return the value of a field that comes once, or None."""
        values = self.get_all(name)
        if len(values) > 1:
            raise ValueError(f"{name} comes {len(values)} times: {values}")
        return values[0] if values else None

    @property
    def closes(self) -> bool:
        """Return whether it announces the end of the connection."""
        options = ",".join(self.get_all("connection")).lower().split(",")
        return "close" in (option.strip() for option in options)


class Incomplete(Exception):
    """The octets end before the response does."""


def read_responses(octets: bytes, methods: Sequence[str], *, ended: bool) -> tuple[list[Response], bytes]:
    """Return the responses in what a server sent, interim ones too, and what is left behind them.

    Args:
        octets: What was sent.
        methods: The methods of the requests, in order; GET for what is answered beyond.
        ended: Whether the connection has ended.

    Raises:
        ValueError: If the octets are not responses.
    """
    responses: list[Response] = []
    finals = 0
    while octets:
        method = methods[finals] if finals < len(methods) else "GET"
        try:
            response, octets = read_response(octets, method, ended=ended)
        except Incomplete:
            break
        responses.append(response)
        finals += response.status >= 200
    return responses, octets


def read_response(octets: bytes, method: str, *, ended: bool) -> tuple[Response, bytes]:
    """Return the first response, and what is left behind it.

    Raises:
        Incomplete: If there is not enough for one.
        ValueError: If it is not one.
    """
    head, separator, rest = octets.partition(b"\r\n\r\n")
    if not separator:
        raise Incomplete
    status_line, *lines = head.split(b"\r\n")
    match = _STATUS_LINE.fullmatch(status_line)
    if match is None:
        raise ValueError(f"status line {status_line!r}")
    status = int(match[1])
    fields = list(_fields(lines))
    response = Response(status, match[2].decode("latin-1"), fields, b"", "none")
    _check_fields(response)
    lengths, codings = response.get_all("content-length"), response.get_all("transfer-encoding")
    if method == "HEAD" or status < 200 or status in (204, 304):
        return response, rest
    if codings:
        content, trailers, rest = _dechunk(rest)
        return Response(status, response.reason, fields, content, "chunked", trailers), rest
    if lengths:
        length = int(lengths[0])
        if len(rest) < length:
            raise Incomplete
        return Response(status, response.reason, fields, rest[:length], "length"), rest[length:]
    # RFC 9112 §9.6: what ends with the connection says so.
    if not response.closes:
        raise ValueError(f"content without an end in {fields}")
    if not ended:
        raise Incomplete
    return Response(status, response.reason, fields, rest, "close"), b""


def _check_fields(response: Response) -> None:
    status, fields = response.status, response.fields
    lengths, codings = response.get_all("content-length"), response.get_all("transfer-encoding")
    # RFC 9112 §6.2: "A sender MUST NOT send a Content-Length header field in any message that contains a
    # Transfer-Encoding header field."
    if len(lengths) + len(codings) > 1:
        raise ValueError(f"framed {len(lengths) + len(codings)} times: {fields}")
    if lengths and not re.fullmatch(r"[0-9]+", lengths[0]):
        raise ValueError(f"content-length {lengths[0]!r}")
    if codings and codings[0] != "chunked":
        raise ValueError(f"transfer-encoding {codings[0]!r}")
    # RFC 9112 §6.1 and RFC 9110 §8.6: no framing in 1xx and 204.
    if (status < 200 or status == 204) and lengths + codings:
        raise ValueError(f"framing in a {status}: {fields}")
    # RFC 9110 §6.6.1: "An origin server with a clock MUST generate a Date header field in all 2xx (Successful), 3xx
    # (Redirection), and 4xx (Client Error) responses".
    if status >= 200:
        date = response.get("date")
        if date is None or not _IMF_FIXDATE.fullmatch(date):
            raise ValueError(f"date {date!r} in a {status}")
        parsedate_to_datetime(date)


def _fields(lines: Sequence[bytes]) -> Iterator[tuple[str, str]]:
    for line in lines:
        match = _FIELD_LINE.fullmatch(line)
        if match is None:
            raise ValueError(f"field line {line!r}")
        yield match[1].decode(), match[2].decode("latin-1")


def _dechunk(octets: bytes) -> tuple[bytes, list[tuple[str, str]], bytes]:
    content = b""
    while True:
        size_line, separator, octets = octets.partition(b"\r\n")
        if not separator:
            raise Incomplete
        if not _CHUNK_SIZE.fullmatch(size_line):
            raise ValueError(f"chunk-size {size_line!r}")
        size = int(size_line, 16)
        if size == 0:
            break
        if len(octets) < size + 2:
            raise Incomplete
        content, end, octets = content + octets[:size], octets[size : size + 2], octets[size + 2 :]
        if end != b"\r\n":
            raise ValueError(f"{end!r} after chunk-data")
    lines: list[bytes] = []
    while True:
        line, separator, octets = octets.partition(b"\r\n")
        if not separator:
            raise Incomplete
        if not line:
            return content, list(_fields(lines)), octets
        lines.append(line)


#: A request that no app sees, and the last of its connection.
_LAST = b"OPTIONS * HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


def converse(sock: socket.socket, octets: bytes, *methods: str, persists: bool = True) -> list[Response]:
    """Send octets and one request more; return the responses to the former, interim ones too.

    That the last request gets its own response shows that the others have left nothing behind, and nothing out.

    Args:
        sock: A new connection.
        octets: What to send.
        methods: The methods of the requests in it; GET for one when omitted.
        persists: Whether the connection outlives the octets. If not, nothing else may be answered.
    """
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        sock.sendall(octets + _LAST)
    received = b"".join(iter(lambda: sock.recv(65536), b""))
    responses, rest = read_responses(received, [*(methods or ["GET"]), "OPTIONS"], ended=True)
    if rest:
        raise ValueError(f"octets that are no response: {rest[:60]!r}")
    if persists:
        last = responses.pop()
        if last.status != 204 or not last.closes:
            raise ValueError(f"the last request was answered with {last}")
    finals = sum(response.status >= 200 for response in responses)
    if finals != len(methods or ["GET"]):
        raise ValueError(f"{finals} responses to {len(methods or ['GET'])} requests")
    return responses
