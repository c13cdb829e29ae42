"""Files as responses: validators, conditional requests, ranges (RFC 9110 §8.8, §13, §14), read off the event loop."""

import math
import os
import time
from typing import TYPE_CHECKING, Any, Final

from vibora._core import DeferredResponse, Headers, Response, StreamingResponse
from vibora._media_types import media_type
from vibora._ranges import Span, content_range, multipart, select_ranges
from vibora._validators import Conditions, format_date, is_entity_tag, parse_date
from vibora.exceptions import NotFound, PreconditionFailed, RangeNotSatisfiable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping

    from vibora._core import Request

__all__ = ["FileResponse"]


class FileResponse(DeferredResponse):
    """A file.

    ```python
    @app.get("/report")
    async def report() -> Response:
        return FileResponse("reports/2026.pdf", filename="Annual report.pdf")
    ```

    It is opened, and its content is read, in threads, when the request is known: a client that has it already is told
    so (304), one that asks for a range gets that (206, 416). `ETag`, `Last-Modified`, `Accept-Ranges` and
    `Content-Length` are added. A file that becomes shorter while it is sent ends with a reset of the connection, never
    with something that looks complete.

    A file that is not there, or that is no regular file, is answered with 404; one that cannot be read is a failure.

    Args:
        path: Where the file is. Never a part of a request as it came: `StaticHandler` is for those.
        status_code: 200 to 599. Validators, conditions and ranges belong to 200 only.
        headers: Header fields. An `ETag` or a `Last-Modified` among them is used in place of the file's own.
        cookies: Cookies.
        filename: What the client is to call the file, in any script: a `Content-Disposition` field (RFC 6266) that has
            it saved.
        inline: Have a file with a `filename` shown rather than saved.
        content_type: The `Content-Type`; by the ending of `filename` or `path` when None.
        etag: Whether to send an entity tag, which is made of the file's size and of when it was modified and changed,
            or the entity tag to send, quotes included.
        last_modified: Whether to send `Last-Modified`.
        chunk_timeout: Seconds that the client has to consume each piece of 64 KiB. 0 or None: no limit.
        complete_timeout: Seconds that the client has to consume the entire response. 0 or None: no limit.

    Attributes:
        path: The same.

    Raises:
        ValueError: If an argument cannot stand for what it is said to be.
    """

    path: str

    def __init__(
        self,
        path: "str | os.PathLike[str]",
        status_code: int = 200,
        headers: "Mapping[str, str] | Iterable[tuple[str, str]] | Headers | None" = None,
        cookies: "Mapping[str, str] | Iterable[Any] | None" = None,
        *,
        filename: str | None = None,
        inline: bool = False,
        content_type: str | None = None,
        etag: bool | str = True,
        last_modified: bool = True,
        chunk_timeout: float | None = 10,
        complete_timeout: float | None = 0,
    ) -> None:
        super().__init__(status_code=status_code, headers=headers, cookies=cookies)
        self.path = os.fspath(path)
        check_seconds("chunk_timeout", chunk_timeout)
        check_seconds("complete_timeout", complete_timeout)
        self._etag = etag is True
        self._last_modified = last_modified
        self._timeouts = chunk_timeout, complete_timeout
        if isinstance(etag, str):
            self.headers["etag"] = etag
        if (tag := self.headers.get("etag")) is not None and not is_entity_tag(tag):
            raise ValueError(f"an entity tag has double quotes around it, as in '\"v1\"', got {tag!r}")
        if filename is not None:
            self.headers["content-disposition"] = content_disposition(filename, inline=inline)
        if content_type is not None or "content-type" not in self.headers:
            self.headers["content-type"] = content_type or media_type(filename or self.path)

    async def resolve(self, request: "Request") -> Response:
        """Return the response to a request.

        Args:
            request: The request.

        Raises:
            NotFound: If there is no such file.
            PreconditionFailed: If a precondition of the request does not hold.
            RangeNotSatisfiable: If it asks for bytes that are not there.
            OSError: If the file cannot be read.
        """
        from vibora._threads import run_in_thread  # noqa: PLC0415  it imports asyncio

        conditions = Conditions(request.method, request.headers)
        return await run_in_thread(lambda: self._answer(conditions))

    def _answer(self, conditions: Conditions) -> Response:
        from vibora._reading import open_regular  # noqa: PLC0415  it imports asyncio

        try:
            descriptor, status = open_regular(self.path)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise NotFound from None
        source = FileSource(self.path, status, descriptor)
        return answer_with(
            source,
            conditions,
            self.status_code,
            self.headers.copy(),
            list(self.cookies),
            etag=self._etag,
            last_modified=self._last_modified,
            timeouts=self._timeouts,
        )


def check_seconds(name: str, value: float | None) -> None:
    """Refuse what is not a timeout.

    Args:
        name: What it is called.
        value: Seconds, 0 or None for none.

    Raises:
        ValueError: If it is something else.
    """
    if value is not None and (isinstance(value, bool) or not math.isfinite(value) or value < 0):
        raise ValueError(f"{name} must be seconds, or 0 or None for no timeout, not {value!r}")


# --- from a source to a response --------------------------------------------------------------------------------------


class FileSource:
    """A regular file, and where its content comes from: a descriptor, or a copy in memory.

    Args:
        path: What it is called.
        status: What is known of it.
        descriptor: The open file, which whoever has the source must close; None where there is a copy.
        copy: The content, in pieces.
    """

    __slots__ = ("copy", "descriptor", "path", "status")

    def __init__(
        self, path: str, status: os.stat_result, descriptor: int | None = None, copy: list[bytes] | None = None
    ) -> None:
        self.path = path
        self.status = status
        self.descriptor = descriptor
        self.copy = copy

    def entity_tag(self, now: float) -> str:
        """Return an entity tag that changes whenever the file does.

        The times alone may be those of the content before, where a file is put back or comes out of an archive; so the
        time at which the file was changed, which nobody can set, is a part of it.

        Args:
            now: Seconds since 1970, now.
        """
        status = self.status
        # Two changes within a tick of the file system's clock would have the same tag: while that may be, it is weak
        # (RFC 9110 §8.8.1).
        weak = "" if status.st_mtime <= now - 1 else "W/"
        return f'{weak}"{status.st_mtime_ns:x}-{status.st_ctime_ns:x}-{status.st_size:x}"'

    def close(self) -> None:
        """Close the descriptor."""
        if self.descriptor is not None:
            os.close(self.descriptor)
            self.descriptor = None

    def body(self, parts: list[bytes | Span]) -> "AsyncIterator[bytes] | list[bytes]":
        """Return what a stream takes: an iterator that owns the descriptor, or a list of all there is.

        Args:
            parts: What to send, in order.
        """
        from vibora._reading import PIECE, FileContent  # noqa: PLC0415  it imports asyncio

        if self.copy is None:
            assert self.descriptor is not None  # noqa: S101  one of the two is there
            content = FileContent(self.descriptor, parts, self.path)
            self.descriptor = None
            try:
                content.read()
            except BaseException:
                content.close()
                raise
            return content if (read := content.taken()) is None else read
        if parts == [(0, self.status.st_size)]:
            return self.copy
        whole = memoryview(b"".join(self.copy))
        pieces: list[bytes] = []
        for part in parts:
            if isinstance(part, tuple):
                first, stop = part
                pieces += [bytes(whole[at : min(at + PIECE, stop)]) for at in range(first, stop, PIECE)]
            else:
                pieces.append(part)
        return pieces


def answer_with(
    source: FileSource,
    conditions: Conditions,
    status_code: int,
    headers: Headers,
    cookies: list[Any],
    *,
    etag: bool,
    last_modified: bool,
    timeouts: tuple[float | None, float | None],
    tag_suffix: str = "",
) -> Response:
    """Return the response to a request for a file: whole, in part, or none of it. To be called in a thread.

    Args:
        source: The file. It is closed, or belongs to the response.
        conditions: What the request says about the content it wants.
        status_code: What is answered when the file is sent whole. Any but 200 switches the rest off.
        headers: Header fields; changed. Must have a content type.
        cookies: Cookies.
        etag: Whether to add an entity tag.
        last_modified: Whether to add a date.
        timeouts: Of a chunk, and of the response.
        tag_suffix: What the entity tag of a variant has more.

    Raises:
        PreconditionFailed: If a precondition of the request does not hold.
        RangeNotSatisfiable: If it asks for bytes that are not there.
        OSError: If the file cannot be read.
    """
    try:
        size = source.status.st_size
        spans: list[Span] | None = None
        if status_code == 200:
            now = time.time()
            if etag and "etag" not in headers:
                headers["etag"] = f'{source.entity_tag(now)[:-1]}{tag_suffix}"'
            modified: int | None
            if last_modified and "last-modified" not in headers:
                # RFC 9110 §8.8.2.1: never "a Last-Modified date that is later than the server's time of message
                # origination".
                modified = int(max(0, min(source.status.st_mtime, now)))
                headers["last-modified"] = format_date(modified)
            else:
                modified = parse_date(headers.get("last-modified", ""))
            verdict = conditions.judge(headers.get("etag"), modified)
            if verdict == "failed":
                raise PreconditionFailed
            if verdict == "not modified":
                return Response(b"", 304, without_content(headers), cookies)
            spans = _wanted_spans(conditions, headers, modified, size, now)
        parts: list[bytes | Span] = [(0, size)]
        if spans is not None:
            status_code = 206
            parts = _partial(spans, size, headers)
        length = sum(len(part) if isinstance(part, bytes) else part[1] - part[0] for part in parts)
        headers["content-length"] = str(length)
        if conditions.method == "HEAD":
            return Response(b"", status_code, headers, cookies)
        return StreamingResponse(source.body(parts), status_code, headers, cookies, *timeouts)
    finally:
        source.close()


_OF_CONTENT: Final = (
    "content-type",
    "content-length",
    "content-encoding",
    "content-language",
    "content-disposition",
    "content-range",
)


def without_content(headers: Headers) -> Headers:
    """Take out of the headers what a 304 has no use for, and return them.

    Args:
        headers: What a 200 would have; changed.
    """
    # RFC 9110 §15.4.5: no "representation metadata other than" what caches go by.
    for name in _OF_CONTENT:
        if name in headers:
            del headers[name]
    return headers


def _wanted_spans(
    conditions: Conditions, headers: Headers, modified: int | None, size: int, now: float
) -> list[Span] | None:
    """Return the spans that a request asks for; None if it is to have the whole."""
    if conditions.method not in ("GET", "HEAD") or headers.setdefault("accept-ranges", "bytes") != "bytes":
        return None
    wanted = conditions.wanted_range(headers.get("etag"), modified, now)
    spans = None if wanted is None else select_ranges(wanted, size)
    if spans == []:
        raise RangeNotSatisfiable(headers={"content-range": content_range(None, size), "accept-ranges": "bytes"})
    return spans


def _partial(spans: list[Span], size: int, headers: Headers) -> list[bytes | Span]:
    """Return the content of a 206, and say in the headers what it is."""
    # RFC 9110 §15.3.7.2: one range is never sent as several.
    if len(spans) == 1:
        headers["content-range"] = content_range(spans[0], size)
        return [spans[0]]
    import secrets  # noqa: PLC0415  seldom needed

    boundary = secrets.token_hex(16)
    parts = multipart(spans, size, headers["content-type"], boundary)
    headers["content-type"] = f"multipart/byteranges; boundary={boundary}"
    return parts


# --- the name of a file -----------------------------------------------------------------------------------------------

# RFC 8187 §3.2.1: `attr-char`, which need not be encoded.
_ATTR_CHARS: Final = frozenset("!#$&+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")


def content_disposition(filename: str, *, inline: bool = False) -> str:
    """Return the value of a `Content-Disposition` field that names a file (RFC 6266).

    Clients that know `filename*` get the name as it is; for others, what ASCII has of it. Path separators and control
    characters, which no client may use, become `_`.

    Args:
        filename: The name.
        inline: Have the file shown rather than saved.
    """
    kind = "inline" if inline else "attachment"
    name = "".join("_" if char in "/\\" or not char.isprintable() else char for char in filename)
    name = name.encode("utf-8", "replace").decode()
    # RFC 6266, appendix D: not every client understands escapes, or leaves `%` alone, in `filename`.
    if name.isascii() and name.isprintable() and not {'"', "%"} & set(name):
        return f'{kind}; filename="{name}"'
    import unicodedata  # noqa: PLC0415  seldom needed

    plain = "".join(
        char if char.isascii() and char not in '"%' else "_"
        for char in unicodedata.normalize("NFKD", name)
        if not unicodedata.combining(char)
    )
    encoded = "".join(
        char if char in _ATTR_CHARS else "".join(f"%{octet:02X}" for octet in char.encode()) for char in name
    )
    return f"{kind}; filename=\"{plain}\"; filename*=UTF-8''{encoded}"
