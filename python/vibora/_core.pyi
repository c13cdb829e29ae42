# ruff: noqa: PYI021  the documentation of native classes lives here
"""The Rust core: parsing, routing, framing, limits and timers of HTTP/1.1, as an `asyncio.Protocol`.

Private. What apps use is exported by `vibora` and its public modules.
"""

import asyncio
import logging
import re
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Final, Literal, Protocol, Self, TypeAlias, Unpack, final, overload

from _typeshed import StrPath
from typing_extensions import Buffer, disjoint_base

from vibora.app import Vibora
from vibora.cookies import CookieAttributes, CookieScope
from vibora.forms import Multipart, UploadedFiles
from vibora.urls import URL

__version__: Final[str]
__build__: Final[Literal["release", "debug"]]

_Content: TypeAlias = bytes | bytearray | memoryview | str
_HeaderSource: TypeAlias = Mapping[str, str] | Iterable[tuple[str, str]] | Headers
_Pieces: TypeAlias = AsyncIterable[bytes | str] | Iterable[bytes | str]

class _ServerLimits(Protocol):
    @property
    def keep_alive_timeout(self) -> float | None: ...
    @property
    def head_timeout(self) -> float | None: ...
    @property
    def max_request_line(self) -> int: ...
    @property
    def max_headers_size(self) -> int: ...
    @property
    def max_header_fields(self) -> int: ...
    @property
    def write_buffer(self) -> int: ...
    @property
    def read_buffer(self) -> int: ...
    @property
    def max_concurrent_requests(self) -> int | None: ...

@final
class Headers:
    """The field lines of a header section, in order (RFC 9110 §5).

    Names keep the case they were written in and are found in any case. A name may have several lines: `[]` and `get`
    give the first, `get_all` gives all.

    ```python
    headers = Headers({"Content-Type": "text/plain"})
    headers.add("Set-Cookie", "a=1")
    headers.add("Set-Cookie", "b=2")
    headers["content-type"]  # 'text/plain'
    headers.get_all("set-cookie")  # ['a=1', 'b=2']
    ```

    Args:
        headers: A mapping, pairs of name and value, other headers, or None for no line.

    Raises:
        ValueError: If a name is not a token (RFC 9110 §5.6.2), or a value has CR, LF or NUL in it (§5.5). The line that
            sets it raises; a response never carries it.
        TypeError: If a name or a value is not a str.
    """

    def __new__(cls, headers: _HeaderSource | None = None, /) -> Self: ...
    @overload
    def get(self, name: str, default: None = None) -> str | None: ...
    @overload
    def get(self, name: str, default: str) -> str:
        """Return the first value of a name, or the default.

        Args:
            name: The name, in any case.
            default: What is returned when no line has the name.
        """
    def get_all(self, name: str) -> list[str]:
        """Return the values of every line of a name, in order; an empty list when there is none.

        Args:
            name: The name, in any case.
        """
    def add(self, name: str, value: str) -> None:
        """Append a line, and leave the other lines of the name.

        Args:
            name: A token.
            value: The value, without CR, LF and NUL.

        Raises:
            ValueError: If either is not fit for the wire.
        """
    def setdefault(self, name: str, default: str) -> str:
        """Add a line unless the name has one; return the first value of the name.

        Args:
            name: A token.
            default: The value of the new line, without CR, LF and NUL.

        Raises:
            ValueError: If either is not fit for the wire.
        """
    def update(self, headers: _HeaderSource) -> None:
        """Set each name that is given, in place of the lines it had.

        Args:
            headers: A mapping, pairs of name and value, or other headers.

        Raises:
            ValueError: If a name or a value is not fit for the wire.
        """
    def copy(self) -> Headers:
        """Return headers of their own with the same lines."""
    def items(self) -> list[tuple[str, str]]:
        """Return every line as name and value, in order."""
    def keys(self) -> list[str]:
        """Return each name once, as first written, in order."""
    def values(self) -> list[str]:
        """Return the value of every line, in order."""
    @property
    def raw(self) -> list[tuple[bytes, bytes]]:
        """Every line as the bytes that are on the wire."""
    def __getitem__(self, name: str, /) -> str: ...
    def __setitem__(self, name: str, value: str, /) -> None: ...
    def __delitem__(self, name: str, /) -> None: ...
    def __contains__(self, name: object, /) -> bool: ...
    def __iter__(self) -> Iterator[str]: ...
    def __len__(self) -> int: ...
    def __eq__(self, other: object, /) -> bool: ...

@disjoint_base
class QueryArgs:
    """The arguments in the query of a request's target, decoded as a form is (`+` is a space).

    A name may come several times: `[]` and `get` give the first value, `get_all` gives all.

    ```python
    # GET /search?tag=a&tag=b&page=2
    request.args["page"]  # '2'
    request.args.get_all("tag")  # ['a', 'b']
    ```
    """

    @overload
    def get(self, name: str, default: None = None) -> str | None: ...
    @overload
    def get(self, name: str, default: str) -> str:
        """Return the first value of a name, or the default.

        Args:
            name: The name; case counts.
            default: What is returned when the name is absent.
        """
    def get_all(self, name: str) -> list[str]:
        """Return every value of a name, in order; an empty list when it is absent.

        Args:
            name: The name; case counts.
        """
    def get_list(self, name: str) -> list[str]:
        """Do what `get_all` does, under the name it had in the first Vibora.

        Args:
            name: The name; case counts.
        """
    def items(self) -> list[tuple[str, str]]:
        """Return every argument as name and value, in order."""
    def keys(self) -> list[str]:
        """Return each name once, in order."""
    def to_dict(self) -> dict[str, list[str]]:
        """Return each name with all its values."""
    def __getitem__(self, name: str, /) -> str: ...
    def __contains__(self, name: object, /) -> bool: ...
    def __iter__(self) -> Iterator[str]: ...
    def __len__(self) -> int: ...

@final
class TrustedProxies:
    """The proxies that an app stands behind: their word about the client is taken, and nobody else's.

    ```python
    Vibora(trusted_proxies=["127.0.0.1", "10.0.0.0/8", "unix"])
    Vibora(trusted_proxies=TrustedProxies(["10.0.0.0/8"], headers=["forwarded"]))
    ```

    They change what `Request.client_ip`, `.scheme`, `.host` and `.url` say. The client is the last address that is not
    one of theirs, from the peer backwards through `X-Forwarded-For` or `Forwarded` (RFC 7239). What is malformed ends
    the way there. `X-Forwarded-Proto`, `-Host` and `-Port` count with their last value.

    Args:
        networks: Addresses and networks, such as `10.0.0.0/8`; `"unix"` for whoever connects to a unix socket; `"*"`
            for whoever connects, which trusts the last hop only. A str holds several, with commas.
        headers: The fields that the proxies write, and do not pass on from clients: any of `forwarded`,
            `x-forwarded-for`, `x-forwarded-proto`, `x-forwarded-host` and `x-forwarded-port`; all of them when omitted.
            Where an `X-Forwarded-` field of these is there, `Forwarded` is not looked at: proxies that write the former
            mostly pass on the latter.

    Raises:
        ConfigurationError: If one is neither address nor network, or a field is none of those.
    """

    def __new__(cls, networks: Iterable[object] | str, *, headers: Iterable[str] | str | None = None) -> Self: ...
    @property
    def networks(self) -> list[str]:
        """What is trusted, as it was given."""
    @property
    def headers(self) -> list[str]:
        """The fields that are believed, in lower case."""
    def __eq__(self, other: object, /) -> bool: ...

@final
class FormData(QueryArgs):
    """The fields of a form, in order: those of `application/x-www-form-urlencoded`, or of `multipart/form-data`.

    A name may come several times: `[]` and `get` give the first value, `get_all` gives all. Files are not among them:
    see `Request.files`.

    ```python
    form = await request.form()
    form["title"], form.get("page", "1"), form.get_all("tag")
    ```
    """

@final
class PartHead:
    """The head of a part of multipart content (RFC 7578 §4.2)."""

    @property
    def name(self) -> str:
        """The name of the field."""
    @property
    def filename(self) -> str | None:
        """The name that the client gives the file; None if the part is not a file."""
    @property
    def content_type(self) -> str | None:
        """The `Content-Type` of the part, whole; None when there is none."""
    @property
    def headers(self) -> Headers:
        """The header section of the part."""
    @property
    def codec(self) -> str:
        """The encoding that its text is in, as Python calls it."""
    def decode(self, content: bytes) -> str:
        """Return the content of the part as text.

        Args:
            content: The content.

        Raises:
            BadRequest: If it is not text in the part's encoding.
        """

@final
class MultipartParser:
    """Splits `multipart/form-data` (RFC 7578) into parts, in whatever pieces it comes.

    ```python
    parser = MultipartParser("boundary")
    parser.feed(data)
    while (event := parser.next_event()) is not None:
        ...
    ```

    Args:
        boundary: The boundary, 1 to 70 characters (RFC 2046 §5.1.1).
        max_fields: Parts without a file name.
        max_files: Parts with a file name.
        max_part_header: Bytes of the header section of a part.

    Raises:
        BadRequest: If the boundary is none.
    """

    def __new__(
        cls, boundary: str, *, max_fields: int = 1000, max_files: int = 100, max_part_header: int = 8192
    ) -> Self: ...
    @staticmethod
    def for_request(request: Request) -> MultipartParser:
        """Return a parser for the content of a request, within the limits of its route.

        Args:
            request: The request.

        Raises:
            UnsupportedMediaType: If the content is not `multipart/form-data`.
            BadRequest: If it has no boundary, or one that is none.
        """
    @property
    def max_fields_size(self) -> int:
        """Bytes that the fields of a form may have together: `RouteLimits.max_fields_size`."""
    def feed(self, data: bytes) -> None:
        """Take a piece of content.

        Args:
            data: The piece.

        Raises:
            ValueError: If the events of the piece before have not all been taken.
        """
    def next_event(self) -> PartHead | bytes | bool | None:
        """Return the next event, None when more has to be fed.

        A head, then pieces of the part's content, False at the end of the part; True after the last.

        Raises:
            BadRequest: If the content is malformed. So it is from then on.
            ContentTooLarge: If there are too many parts.
            HeaderFieldsTooLarge: If the header section of a part is too large.
            UnsupportedMediaType: If a part is encoded, or in an unknown charset.
        """
    def set_charset(self, label: str) -> None:
        """Decode names in this charset from here on, and the text of parts that do not say theirs (RFC 7578 §4.6).

        Args:
            label: The name of the charset.

        Raises:
            BadRequest: If it is unknown.
        """
    def finish(self) -> None:
        """Say that no more will come.

        Raises:
            BadRequest: If the last delimiter has not come.
        """

@final
class FormReader:
    """Collects the form in a request.

    Args:
        request: The request.

    Raises:
        UnsupportedMediaType: If it has none.
        BadRequest: If its boundary is missing or malformed.
        ContentTooLarge: If it is announced to be too large.
    """

    def __new__(cls, request: Request) -> Self: ...
    def feed(self, piece: bytes) -> int:
        """Take a piece of content; return how many bytes wait to be written to a temporary file.

        Args:
            piece: The piece.

        Raises:
            HTTPError: If the form is malformed, or passes a limit.
        """
    def take(self) -> list[bytes]:
        """Return what has to be appended to the temporary file, and forget it."""
    def finish(self) -> tuple[FormData, list[tuple[PartHead, bytes | None, int, int]]]:
        """Return the fields and the files.

        Of each file the head, the content if it is in memory, else where in the temporary file it begins, and its size.

        Raises:
            HTTPError: If the form is malformed or cut short, or passes a limit.
        """

@final
class RequestStream:
    """The content of a request, as it arrives (RFC 9110 §6.4).

    ```python
    async for piece in request.stream:
        digest.update(piece)
    ```

    Reading pauses the client when the handler is behind: at most `ServerLimits.read_buffer` bytes wait.

    Raises:
        StreamAlreadyConsumed: If the content was read before.
        ContentTooLarge: If more than `RouteLimits.max_body_size` bytes arrive.
        RequestTimeout: If the client stalls, or is slower than `RouteLimits.min_body_rate`.
        ClientDisconnected: If the client goes away before the end.
    """

    def __aiter__(self) -> RequestStream: ...
    def __anext__(self) -> Awaitable[bytes]: ...
    def read(self) -> Awaitable[bytes]:
        """Return all that is left of the content."""

@final
class Request:
    """A request: what a handler is given when it asks for one.

    ```python
    @app.get("/greet/<name>")
    async def greet(request: Request, name: str) -> Response:
        return TextResponse(f"{request.args.get('greeting', 'Hello')}, {name}")
    ```

    Nothing is decoded before it is asked for. Made by the server only.
    """

    @property
    def method(self) -> str:
        """The method, such as `"GET"`; case counts (RFC 9110 §9.1)."""
    @property
    def path(self) -> str:
        """The path of the target, percent-decoded as UTF-8."""
    @property
    def raw_path(self) -> bytes:
        """The path of the target as it was sent, without the query."""
    @property
    def query_string(self) -> str:
        """The query of the target as it was sent, without the `?`; empty when there is none."""
    @property
    def url(self) -> URL:
        """The URL that the client asks for: scheme, host, port, path and query, and `str()` for the whole."""
    @property
    def scheme(self) -> Literal["http", "https"]:
        """The scheme that the client used: that of the connection, or what a trusted proxy says."""
    @property
    def host(self) -> str:
        """The host that the client asks for, with the port if it says so (RFC 9110 §7.2); empty when it does not.

        What a trusted proxy says, where it says it.
        """
    @property
    def args(self) -> QueryArgs:
        """The arguments in the query."""
    @property
    def headers(self) -> Headers:
        """The header section."""
    @property
    def http_version(self) -> str:
        """The version the client speaks: `"1.1"` or `"1.0"`."""
    @property
    def client(self) -> tuple[str, int] | None:
        """Address and port of the peer, a proxy's too; None where it has none, as on a unix socket."""
    def client_ip(self) -> str | None:
        """Return the address of the client: the peer's, or what trusted proxies say.

        None where nobody knows it, as on a unix socket without `Vibora(trusted_proxies=["unix"])`.
        """
    @property
    def id(self) -> str:
        """What the request is called, in the access log as well.

        The `X-Request-ID` that the client or a proxy has sent, if it is at most 128 letters, digits and marks of
        tokens; else 16 or more hexadecimal digits that no other request has.
        """
    @property
    def cookies(self) -> dict[str, str]:
        """The cookies of the request: names and decoded values (RFC 6265bis §4.2).

        Of several with a name, the first one counts: browsers send the one with the longest path first. What is not a
        cookie is left out, and nothing raises.
        """
    @property
    def session(self) -> Any:
        """The session of the client, as a session middleware has set it.

        Raises:
            ConfigurationError: If none has.
        """
    @session.setter
    def session(self, session: Any) -> None: ...
    @property
    def path_params(self) -> dict[str, Any]:
        """The parameters in the path, by name; converted where the handler's annotation asks for it."""
    @property
    def client_certificate(self) -> bytes | None:
        """The certificate that the client has shown and that was verified, in DER; None if it has not shown one."""
    @property
    def route(self) -> Route | None:
        """The route that matched."""
    @property
    def app(self) -> Vibora:
        """The app that answers.

        Raises:
            RuntimeError: If the server was started without one, which no public way of starting it does.
        """
    @property
    def stream(self) -> RequestStream:
        """The content, piece by piece."""
    @property
    def context(self) -> dict[str, Any]:
        """A dict of the app's own, for the length of the exchange."""
    @property
    def content_type(self) -> str | None:
        """The `Content-Type` field, whole; None when there is none (RFC 9110 §8.3)."""
    @property
    def content_length(self) -> int | None:
        """The bytes of content that the client announced; None when it did not (RFC 9110 §8.6)."""
    def content(self) -> Awaitable[bytes]:
        """Return the whole content. It is kept: later calls return it again.

        Raises:
            ContentTooLarge: If it is larger than `RouteLimits.max_body_size`.
            RequestTimeout: If the client stalls, or is slower than `RouteLimits.min_body_rate`.
            ClientDisconnected: If the client goes away before the end.
            StreamAlreadyConsumed: If it was streamed before.
        """
    def text(self) -> Awaitable[str]:
        """Return the whole content as text, in the charset of `Content-Type`, UTF-8 when it names none.

        Raises:
            BadRequest: If the content is not text in that charset.
            ContentTooLarge: As `content` does; so the other three.
        """
    def json(self, loads: Callable[[bytes], Any] | None = None, strict: bool = False) -> Awaitable[Any]:
        """Return the whole content, read as JSON (RFC 8259).

        Args:
            loads: What reads it; `orjson.loads` when omitted. A `ValueError` of its own is a 400 too.
            strict: Read it only if its `Content-Type` says that it is JSON. A page of another origin can have a browser
                send anything, but not under that type without asking first.

        Raises:
            InvalidJSON: If the content is not JSON: a `BadRequest`.
            UnsupportedMediaType: If `strict`, and the type is neither `application/json` nor one that ends in `+json`.
            ContentTooLarge: As `content` does; so the other three.
        """
    def form(self) -> Awaitable[FormData]:
        """Return the fields of the form in the content: urlencoded, or multipart.

        The content is read once for this and `files`, and the form is kept: later calls return it again.

        Raises:
            UnsupportedMediaType: If the content is not a form.
            BadRequest: If the form is malformed or cut short, or is not text in its charset.
            ContentTooLarge: If it has more fields or files than `RouteLimits` admit, or larger ones.
            HeaderFieldsTooLarge: If the header section of a part is larger than `RouteLimits.max_part_header`.
            StreamAlreadyConsumed: If the content was streamed before.
        """
    def files(self) -> Awaitable[UploadedFiles]:
        """Return the files of the form in the content, in order.

        Those beyond `RouteLimits.in_memory_threshold` are in a temporary file, which lives as long as the exchange.

        Raises:
            UnsupportedMediaType: As `form` does; so the others.
        """
    def multipart(self) -> Multipart:
        """Return the parts of multipart content as they arrive: an async iterator that keeps nothing.

        Raises:
            UnsupportedMediaType: If the content is not `multipart/form-data`.
            BadRequest: If its boundary is missing or malformed.
        """
    @property
    def _form(self) -> tuple[FormData, UploadedFiles] | None: ...
    @_form.setter
    def _form(self, form: tuple[FormData, UploadedFiles]) -> None: ...
    @property
    def _collected(self) -> bytes | None: ...
    _frame: Any
    def _tell_failure(self, error: BaseException) -> None: ...
    def _on_exit(self, callback: Callable[[], object]) -> None:
        """Have something called when the response is out, in the exchange's task, before what was added earlier.

        Args:
            callback: What is called; it may return an awaitable. All have five seconds.
        """
    def is_disconnected(self) -> Awaitable[bool]:
        """Return whether the client has gone."""
    @property
    def is_shutting_down(self) -> bool:
        """Whether the server has begun to stop: a good moment for a long stream to end."""

@disjoint_base
class Response:
    """A response: content, status and header fields.

    ```python
    Response(b"Hello World", headers={"content-type": "text/plain"})
    ```

    `Content-Type` is `text/plain; charset=utf-8` unless `headers` say otherwise. `Content-Length` and `Date` are added
    on the wire.

    Args:
        content: The content. A str is sent as UTF-8.
        status_code: 200 to 599, registered or not (RFC 9110 §15).
        headers: Header fields: a mapping, pairs of name and value, or `Headers`.
        cookies: Cookies: `Cookie`s, values of `Set-Cookie` lines, or a mapping of names to values, each of which
            becomes a `Cookie` with the defaults.

    Raises:
        TypeError: If the content is neither bytes-like nor str.
        ValueError: If the status is out of range, or a header is not fit for the wire.
    """

    content: bytes
    status_code: int
    headers: Headers
    cookies: list[Any]

    def __init__(
        self,
        content: _Content = b"",
        status_code: int = 200,
        headers: _HeaderSource | None = None,
        cookies: Mapping[str, str] | Iterable[Any] | None = None,
    ) -> None: ...
    def set_cookie(self, name: str, value: str = "", **attributes: Unpack[CookieAttributes]) -> None:
        """Set a cookie, in place of one of the same name, domain and path that this response sets already.

        ```python
        response.set_cookie("__Host-session", token, secure=True, http_only=True, max_age=3600)
        ```

        Args:
            name: A token.
            value: The value: any text without control characters.
            **attributes: As for `Cookie`.

        Raises:
            ValueError: If something is not fit for a cookie; as `Cookie` does.
            TypeError: If something is of the wrong type.
        """
    def delete_cookie(self, name: str, **scope: Unpack[CookieScope]) -> None:
        """Delete a cookie in the browser. Name, domain and path must be those with which it was set.

        Args:
            name: A token.
            **scope: As for `Cookie`. What a prefix of the name demands, such as `secure`, is added.

        Raises:
            ValueError: As `set_cookie` does.
            TypeError: As `set_cookie` does.
        """

class TextResponse(Response):
    """A `Response` of `text/plain; charset=utf-8`, unless `headers` say otherwise."""

class HtmlResponse(Response):
    """A `Response` of `text/html; charset=utf-8`, unless `headers` say otherwise."""

class JsonResponse(Response):
    """An object as JSON, written by orjson: also datetimes, UUIDs, dataclasses, enums and numpy arrays.

    ```python
    JsonResponse({"hello": "world"})
    ```

    Args:
        content: The object.
        status_code: 200 to 599.
        headers: Header fields. `Content-Type` is `application/json` unless they say otherwise.
        cookies: Cookies.
        default: Called with an object that orjson does not know; returns one that it does.

    Raises:
        TypeError: If the object, or something in it, cannot be written as JSON.
        ValueError: As `Response` does.
    """

    def __init__(
        self,
        content: object,
        status_code: int = 200,
        headers: _HeaderSource | None = None,
        cookies: Mapping[str, str] | Iterable[Any] | None = None,
        *,
        default: Callable[[Any], Any] | None = None,
    ) -> None: ...

class RedirectResponse(Response):
    """A redirection to another location (RFC 9110 §15.4).

    Args:
        location: The `Location` field: a URI reference, absolute or relative.
        status_code: 300 to 399; 302 when omitted. 307 and 308 keep the method.
        headers: Further header fields.
        cookies: Cookies.

    Raises:
        ValueError: As `Response` does.
    """

    def __init__(
        self,
        location: str,
        status_code: int = 302,
        headers: _HeaderSource | None = None,
        cookies: Mapping[str, str] | Iterable[Any] | None = None,
    ) -> None: ...

class DeferredResponse(Response):
    """A response that depends on the request: what a handler returns when only the engine knows both.

    A subclass defines `resolve`. It runs in the exchange's task, before anything is sent, and what it returns is sent
    in its place.

    Args:
        status_code: 200 to 599.
        headers: Header fields.
        cookies: Cookies.

    Raises:
        ValueError: As `Response` does.
    """

    def __init__(
        self,
        status_code: int = 200,
        headers: _HeaderSource | None = None,
        cookies: Mapping[str, str] | Iterable[Any] | None = None,
    ) -> None: ...
    def resolve(self, request: Request, /) -> Awaitable[Response]:
        """Return the response to a request.

        Args:
            request: The request.
        """

@disjoint_base
class StreamingResponse(Response):
    """A response that is produced piece by piece.

    ```python
    async def numbers() -> AsyncIterator[bytes]:
        for number in range(5):
            yield str(number).encode()
            await asyncio.sleep(1)

    StreamingResponse(numbers)
    ```

    Pieces are sent when the generator suspends, and the generator waits while more than `ServerLimits.write_buffer`
    bytes are unsent. It is always closed, also when the client goes away. Without a `content-length` of yours the
    content is chunked (RFC 9112 §7.1), or ends with the connection for a client of HTTP/1.0.

    Args:
        stream: An async-generator function, an async iterable, a generator function (run in a thread), or any iterable;
            of bytes or str.
        status_code: 200 to 599.
        headers: Header fields. With `content-length`, exactly that many bytes must be produced.
        cookies: Cookies.
        chunk_timeout: Seconds that the client has to consume each piece, from when it is handed to the connection; the
            time that the generator takes is not counted. 0 or None: no limit.
        complete_timeout: Seconds that the client has to consume the entire response. 0 or None: no limit.
        send_head_first: Send the head before the first piece is there. A failure before the first piece is then no
            longer a 500.

    Raises:
        TypeError: If the stream is none of those.
        ValueError: As `Response` does.
    """

    @property
    def stream(self) -> _Pieces | Callable[[], _Pieces]:
        """Where the pieces come from, as it was given."""
    @property
    def chunk_timeout(self) -> float:
        """Seconds that the client has to consume each piece; 0: no limit."""
    @property
    def complete_timeout(self) -> float:
        """Seconds that the client has to consume the entire response; 0: no limit."""
    def __init__(
        self,
        stream: _Pieces | Callable[[], _Pieces],
        status_code: int = 200,
        headers: _HeaderSource | None = None,
        cookies: Mapping[str, str] | Iterable[Any] | None = None,
        chunk_timeout: float | None = 10,
        complete_timeout: float | None = 0,
        *,
        send_head_first: bool = False,
    ) -> None: ...

@final
class Route:
    """A route: a handler, and how it is called. Immutable.

    Args:
        handler: What answers.
        call: What is called in its place, where the app has wrapped something around it.
        pattern: The path, with `<name>` for a segment and `<*name>` for the rest; with an expression, its text.
        methods: The methods it answers.
        name: Its name.
        drive: How it is run: `"direct"`, a coroutine function that has no suspension point; `"content"`, one that
            waits for nothing but its request's content; `"task"`, another one, or what returns an awaitable;
            `"thread"`, a function in the thread pool; `"inline"`, a function on the loop.
        arguments: What it is called with, in order: kind, value, and the name where it is passed by keyword. Kinds:
            `("request", None, …)`; `("parameter", (index, converter, *default), …)` with one of the converters `"str"`,
            `"int"`, `"float"`, `"bool"`, `"uuid"` and `"date"`, and what stands for a group that takes no part in a
            match, None when omitted; `("constant", value, …)`.
        parameters: The names of the parameters in the pattern, in order.
        max_body_size: Bytes; 0 is off.
        timeout: Seconds; 0 is off.
        body_timeout: Seconds; 0 is off.
        min_body_rate: Bytes per second; 0 is off.
        on_disconnect: What becomes of the handler when the client goes away: `"auto"` cancels it for safe methods
            (RFC 9110 §9.2.1) and lets it finish for others.
        expression: What matches the path in place of the pattern.
        hosts: The hosts it answers for: names, `*.` before a name for all names below, and expressions for names
            without port and in lower case. All hosts when there are none.
        strategy: What the path with or without the slash at its end is: another one, a redirect, or the same.
        form_limits: Fields, files, bytes of fields, bytes of a part's header section, bytes of files in memory.
    """

    def __new__(
        cls,
        handler: Callable[..., Any],
        *,
        call: Callable[..., Any] | None = None,
        pattern: str,
        methods: Sequence[str],
        name: str,
        drive: Literal["direct", "content", "task", "thread", "inline"],
        arguments: Sequence[tuple[str, object, str | None]],
        parameters: Sequence[str],
        max_body_size: int,
        timeout: float,
        body_timeout: float,
        min_body_rate: int,
        on_disconnect: Literal["cancel", "finish", "auto"],
        expression: re.Pattern[str] | None = None,
        hosts: Sequence[str | re.Pattern[str]] = ...,
        strategy: Literal["strict", "redirect", "clone"] = "strict",
        form_limits: tuple[int, int, int, int, int] | None = None,
    ) -> Self: ...
    def count_in(self, entry: int) -> None:
        """Have its requests counted in an entry of `Metrics`; in the first one when it is never called."""
    @property
    def handler(self) -> Callable[..., Any]:
        """What answers."""
    @property
    def pattern(self) -> str:
        """The path, as it was registered; of an expression, its text."""
    @property
    def expression(self) -> re.Pattern[str] | None:
        """What matches the path in place of the pattern."""
    @property
    def parameters(self) -> list[str]:
        """The names of the parameters in the path, in order."""
    @property
    def hosts(self) -> list[str | re.Pattern[str]]:
        """The hosts it answers for; none: all."""
    @property
    def strategy(self) -> Literal["strict", "redirect", "clone"]:
        """What the path with or without the slash at its end is."""
    @property
    def methods(self) -> list[str]:
        """The methods it answers, as they were registered: without the automatic HEAD and OPTIONS."""
    @property
    def name(self) -> str:
        """Its name."""
    @property
    def max_body_size(self) -> int:
        """Bytes of content that a request may carry."""
    def accepts(self, parameter: str, text: str) -> bool:
        """Return whether a path parameter takes a text for its value: whether the handler's type can be made of it.

        Args:
            parameter: The parameter.
            text: The text, decoded.
        """

class RouteConflict(ValueError):
    """Two routes answer the same requests.

    Attributes:
        existing: The route that was there first.
    """

    existing: Route

@final
class Router:
    """The routes of an app."""

    def __new__(cls) -> Self: ...
    @property
    def routes(self) -> list[Route]:
        """The routes, in the order in which they were added."""
    def add(self, route: Route) -> None:
        """Add a route, also while requests are served.

        Args:
            route: The route.

        Raises:
            RouteConflict: If a route answers the same method and paths, for the same host.
            ValueError: If the pattern is malformed.
        """
    def lookup(self, method: str, path: str, host: str = "") -> Route | None:
        """Return the route that answers, or None.

        Args:
            method: The method.
            path: The path of a target, as it is sent.
            host: The host that the request is for, with or without port.
        """

@disjoint_base
class ManualClock:
    """A clock that stands still until it is moved: `vibora.testing.TestClock` is one."""

    def __new__(cls) -> Self: ...
    @property
    def milliseconds(self) -> int:
        """How far it has been moved."""
    def move_to(self, milliseconds: int) -> None:
        """Move it on.

        Raises:
            ValueError: If it would go back.
        """

@final
class Outcome:
    """What became of a response. Made by the server only."""

    @property
    def method(self) -> str:
        """The method of the request; empty when there was not enough of it."""
    @property
    def path(self) -> str:
        """The path of the target as it was sent, without the query; at most its first 2,000 characters."""
    @property
    def status_code(self) -> int | None:
        """The status of the response; None when there was none, because the client had gone."""
    @property
    def bytes_sent(self) -> int:
        """Bytes of the response, head and framing included, that were handed to the connection."""
    @property
    def duration(self) -> float:
        """Seconds from the end of the request's header section until the response was out."""
    @property
    def time_to_first_byte(self) -> float | None:
        """Seconds from the end of the request's header section until the response began; None when it did not."""
    @property
    def reason(self) -> Literal["complete", "disconnected", "timed out", "aborted"]:
        """How it ended.

        `"complete"`; the client was `"disconnected"`; `"timed out"`, because the client did not consume it in time or
        the handler was too slow; `"aborted"` by the server, because the stream failed or the server stopped.
        """
    @property
    def client(self) -> tuple[str, int] | None:
        """Address and port of the peer."""

@final
class TLSContext:
    """What TLS sessions are made with. `vibora.tls.TLS` makes it.

    Args:
        identity: The certificate and its key, each a file's name and its content in the PEM format.
        sni: Others, by host.
        ca: The certificates that those of clients have to be issued by.
        client_auth: `"none"`, `"optional"` or `"required"`.
        tls12: Whether TLS 1.2 is spoken.
        alpn: The protocols to choose from.
        ticket_secret: What the keys of session tickets are derived from.

    Raises:
        ConfigurationError: If something is wrong; the message names the file.
    """

    def __new__(
        cls,
        identity: tuple[tuple[str, bytes], tuple[str, bytes]],
        *,
        sni: Sequence[tuple[str, tuple[tuple[str, bytes], tuple[str, bytes]]]],
        ca: tuple[str, bytes] | None,
        client_auth: str,
        tls12: bool,
        alpn: Sequence[str],
        ticket_secret: bytes,
    ) -> Self: ...
    def replace(self, other: TLSContext) -> None:
        """Become another; sessions that are under way stay what they are."""
    @property
    def not_after(self) -> list[tuple[str, int]]:
        """The last second in which each certificate is valid, since 1970."""

@final
class AccessLog:
    """The lines of one worker's access log, written by a thread of its own.

    What waits to be written is bounded: a destination that does not keep up costs lines, never time.

    Args:
        event_loop: The loop, whose timer hands over lines that have waited for a tenth of a second.
        format: `"text"` or `"json"`.
        logger: Where it says that lines are lost.
        path: The file that lines are appended to, opened again when it was moved away; the standard output when None.

    Raises:
        OSError: If the file cannot be opened.
    """

    def __new__(
        cls,
        event_loop: asyncio.AbstractEventLoop,
        format: Literal["text", "json"],  # noqa: A002  as `AccessLog.format`
        *,
        logger: logging.Logger,
        path: StrPath | None = None,
    ) -> Self: ...
    def flush(self) -> None:
        """Hand over what there is. Returns at once."""
    @property
    def lost(self) -> int:
        """Lines that could not be written."""
    def close(self, timeout: float) -> bool:
        """Hand over what there is, and wait for the writer.

        Args:
            timeout: Seconds that it may take.

        Returns:
            Whether all is written.
        """

@final
class Metrics:
    """Counts what one worker does, in memory that other processes read.

    Args:
        memory: The memory, in words of 64 bits.
        gauges: The first word of this process: its connections, and after it the requests in flight.
        entries: The first word of the entries: for each method the count of each class of status, then that of each
            class of durations, then the microseconds and the bytes of all.
    """

    BOUNDS: ClassVar[list[float]]
    """The upper bounds of the durations, in seconds; longer ones have a class of their own."""
    METHODS: ClassVar[list[str]]
    """The methods that are told apart."""
    CLASSES: ClassVar[int]
    """The classes of statuses: none, and 1xx to 5xx."""
    ENTRY: ClassVar[int]
    """The words of an entry."""

    def __new__(cls, memory: Buffer, gauges: int, entries: int) -> Self: ...

@final
class Server:
    """The connections of one worker: makes their protocols, owns their timers.

    Args:
        event_loop: The running loop.
        router: The routes.
        on_error: Called with the request, the exception and the route (None where there is none yet); returns the
            response. Where there is a request, it may return an awaitable of the response, which is given a task.
        limits: The limits; read once.
        logger: Where it logs.
        app: What `Request.app` is.
        proxies: Whose word is taken about the clients; nobody's when None.
        on_failure: Called with the connection's protocol and each exception that one of its exchanges ends in, and
            that nobody has answered for.
        clock: The clock of its deadlines; the system's when omitted. Whoever moves it calls `tick`.
        intercept: Ask `on_error` about automatic answers to OPTIONS as well, with an `AutomaticOptions`.
        on_sent: Called with the request, the route and the outcome of each response, when it is out.
        access: Where its lines of the access log go: a log, or what is called with the outcome of each response, its
            route, the address of the client and what the request is called.
        metrics: Where its requests are counted.
        tls: What connections are encrypted with, by the core.
        proxy_protocol: The networks and addresses whose connections begin with a header of the PROXY protocol, and
            `"unix"`.
        max_connections: How many connections may be open.
        on_pressure: Called with True when so many are, and with False when one of them has ended.

    Raises:
        ConfigurationError: If an entry of `proxy_protocol` is no network.
    """

    def __new__(
        cls,
        event_loop: asyncio.AbstractEventLoop,
        router: Router,
        *,
        on_error: Callable[[Request | None, BaseException, Route | None], Response | Awaitable[Response]],
        limits: _ServerLimits,
        logger: logging.Logger,
        app: Vibora | None = None,
        proxies: TrustedProxies | None = None,
        on_failure: Callable[[asyncio.Protocol, BaseException], object] | None = None,
        clock: ManualClock | None = None,
        intercept: bool = False,
        on_sent: Callable[[Request | None, Route | None, Outcome], object] | None = None,
        tls: TLSContext | None = None,
        proxy_protocol: Iterable[str] | None = None,
        max_connections: int = 0,
        on_pressure: Callable[[bool], object] | None = None,
        access: AccessLog | Callable[[Outcome, Route | None, str | None, str], object] | None = None,
        metrics: Metrics | None = None,
    ) -> Self: ...
    def protocol(self) -> asyncio.Protocol:
        """Return the protocol of a new connection: the factory that `loop.create_server` takes."""
    @property
    def connections(self) -> int:
        """Connections that are open, or whose handler still runs."""
    @property
    def exchanges(self) -> int:
        """Exchanges whose handler or stream runs in a task."""
    @property
    def requests(self) -> int:
        """Requests answered so far."""
    @property
    def stopping(self) -> bool:
        """Whether the shutdown has begun."""
    def call_at(self, requests: int, callback: Callable[[], object]) -> None:
        """Have a callback called, once, when so many responses have been made."""
    def begin_shutdown(self) -> None:
        """Make the next response of every connection its last, which says `connection: close`."""
    def close_idle(self) -> None:
        """Close the connections that are idle, now and as they come to be."""
    def drained(self) -> asyncio.Future[None]:
        """Return a future that is done when no connection is left."""
    def cancel_exchanges(self) -> int:
        """Cancel what runs; return how many exchanges that were."""
    def abort_connections(self) -> int:
        """Reset what is connected; return how many connections that were."""
    def next_deadline(self) -> int | None:
        """Return the earliest deadline of all connections, in milliseconds of the clock; None when there is none."""
    def tick(self) -> None:
        """See to the deadlines that have passed."""
