"""The language that the cases are written in.

Texts are latin-1: `\\x80` is the octet 80.
"""

from typing import Final

from .case import Case, Message

#: RFC 9110 §5.6.2, and what it leaves of printable ASCII.
TCHAR: Final = "!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
DELIMITERS: Final = '"(),/:;<=>?@[\\]{}'
#: Controls without HTAB, LF and CR.
CONTROLS: Final = [chr(octet) for octet in [*range(9), 0x0B, 0x0C, *range(0x0E, 0x20), 0x7F]]
#: Limits of the server, as they are by default.
MAX_REQUEST_LINE: Final = 8 * 1024
MAX_HEADERS: Final = 32 * 1024
MAX_FIELDS: Final = 100
MAX_CHUNK_EXTENSION: Final = 4096
MAX_TRAILERS: Final = 8192
MAX_TRAILER_FIELDS: Final = 64

GET: Final = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
ROOT: Final = Message("GET", "/")
#: What a smuggler hides, and nobody may execute.
HIDDEN: Final = "GET /hidden HTTP/1.1\r\nHost: a\r\n\r\n"


def accept(name: str, rule: str, text: str, *messages: Message) -> Case:
    return Case(name, text.encode("latin-1"), "accept", rule, messages or (ROOT,))


def reject(
    name: str, rule: str, text: str, *messages: Message, status: int | tuple[int, ...] = 400, must: bool = True
) -> Case:
    statuses = status if isinstance(status, tuple) else (status,)
    return Case(name, text.encode("latin-1"), "reject", rule, messages, statuses, must)


def wait(name: str, rule: str, text: str, *messages: Message) -> Case:
    return Case(name, text.encode("latin-1"), "wait", rule, messages)


def request(line: str, *fields: str, body: str = "") -> str:
    return "\r\n".join([line, "Host: a", *fields, "", ""]) + body


def post(*fields: str, body: str = "", path: str = "/") -> str:
    return request(f"POST {path} HTTP/1.1", *fields, body=body)


def chunked(body: str) -> str:
    return post("Transfer-Encoding: chunked", body=body)


def posted(body: str, path: str = "/") -> Message:
    return Message("POST", path, body.encode("latin-1"))


def hexed(text: str) -> str:
    return "-".join(f"{octet:02x}" for octet in text.encode("latin-1"))


def words(text: str) -> list[str]:
    """Return what spaces separate."""
    return text.split(" ")
