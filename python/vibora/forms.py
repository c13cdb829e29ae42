"""Forms: fields, uploaded files, and multipart content part by part.

`request.form()` and `request.files()` read a form as a whole. Files stay in memory up to
`RouteLimits.in_memory_threshold` bytes together; the others share one temporary file, which has no name where the
operating system allows that, and is gone when the exchange is over. `request.multipart()` hands the parts out as they
arrive, and keeps nothing. Whatever blocks is done in the thread pool of the event loop.
"""

import os
import re
import unicodedata
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Final, Self, TypeAlias, overload

from vibora._core import FormData, FormReader, Headers, MultipartParser, PartHead, Request
from vibora._spool import Destination, Spool, in_thread
from vibora.exceptions import ContentTooLarge, StreamAlreadyConsumed

__all__ = ["FormData", "Multipart", "Part", "UploadedFile", "UploadedFiles", "safe_filename"]

_Path: TypeAlias = str | os.PathLike[str]

#: Bytes that are read from or written to a disk at a time: less, and changing threads costs more than the disk.
_BATCH: Final = 512 * 1024


class UploadedFile:
    """A file of a form, in memory or in a temporary file. It is closed when the exchange is over.

    ```python
    for upload in await request.files():
        await upload.save(folder / safe_filename(upload.filename))
    ```

    Attributes:
        name: The name of the field.
        filename: The name that the client gives the file. It may be anything, a path out of your folder too:
            `safe_filename` makes a name of it.
        content_type: What the client says that it is; `application/octet-stream` when it says nothing. Do not trust it.
        headers: The header section of the part.
        size: Its length in bytes.
    """

    __slots__ = ("__weakref__", "_closed", "_content", "_head", "_position", "_spool", "_start", "size")

    def __init__(self, head: PartHead, content: bytes | None, spool: "Spool", start: int, size: int) -> None:
        """Make one of what has been read; only the reader of forms does."""
        self._head = head
        self._content = content
        self._spool = spool
        self._start = start
        self._position = 0
        self._closed = False
        self.size: Final = size

    @property
    def name(self) -> str:
        """The name of the field."""
        return self._head.name

    @property
    def filename(self) -> str:
        """The name that the client gives the file."""
        return self._head.filename or ""

    @property
    def content_type(self) -> str:
        """What the client says that it is."""
        return self._head.content_type or "application/octet-stream"

    @property
    def headers(self) -> Headers:
        """The header section of the part."""
        return self._head.headers

    @property
    def in_memory(self) -> bool:
        """Whether the content is kept in memory."""
        return self._content is not None

    async def read(self, size: int = -1) -> bytes:
        """Return content from the current position on, and move the position past it.

        Args:
            size: Bytes at most; all that is left when negative.

        Raises:
            ValueError: If the file is closed.
        """
        self._check_open()
        position = self._position
        end = self.size if size < 0 else min(position + size, self.size)
        self._position = max(position, end)
        if end <= position:
            return b""
        if self._content is not None:
            return self._content[position:end]
        return await in_thread(partial(self._spool.read, self._start + position, end - position))

    def seek(self, position: int = 0) -> int:
        """Set the position at which the next `read` begins; return it.

        Args:
            position: Bytes from the beginning. Beyond the end there is nothing to read.

        Raises:
            ValueError: If the position is negative, or the file is closed.
        """
        self._check_open()
        if position < 0:
            raise ValueError(f"a position is not negative, got {position!r}")
        self._position = position
        return position

    def tell(self) -> int:
        """Return the position at which the next `read` begins."""
        return self._position

    async def save(self, path: _Path) -> None:
        """Write the whole content to a file, wherever the position is.

        The file appears under its name when it is complete, and takes the place of one that is there.

        Args:
            path: Where. Its folder must exist. Never a name that the client has chosen: see `safe_filename`.

        Raises:
            OSError: If it cannot be written.
            ValueError: If the file is closed.
        """
        self._check_open()
        async with Destination(path) as destination:
            if self._content is not None:
                await destination.write([self._content])
                return
            for offset in range(0, self.size, 2 * _BATCH):
                length = min(2 * _BATCH, self.size - offset)
                piece = await in_thread(partial(self._spool.read, self._start + offset, length))
                await destination.write([piece])

    def close(self) -> None:
        """Let go of the content. It is done for you when the exchange is over."""
        self._closed = True
        self._content = None

    def _check_open(self) -> None:
        if self._closed:
            raise ValueError(f"the uploaded file {self.filename!r} is closed: it lives as long as its request")

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while piece := await self.read(_BATCH):
            yield piece

    def __repr__(self) -> str:
        return f"<UploadedFile {self.name!r} {self.filename!r} of {self.size} bytes>"


class UploadedFiles(Sequence[UploadedFile]):
    """The files of a form, in order; also by the name of their field.

    ```python
    files = await request.files()
    files[0], files["avatar"], files.get("avatar"), files.get_all("photos")
    ```
    """

    __slots__ = ("_files",)

    def __init__(self, files: Iterable[UploadedFile] = ()) -> None:
        self._files = tuple(files)

    def get(self, name: str) -> UploadedFile | None:
        """Return the first file of a field; None when there is none.

        Args:
            name: The name of the field; case counts.
        """
        return next((file for file in self._files if file.name == name), None)

    def get_all(self, name: str) -> list[UploadedFile]:
        """Return every file of a field, in order.

        Args:
            name: The name of the field; case counts.
        """
        return [file for file in self._files if file.name == name]

    @overload
    def __getitem__(self, key: int | str) -> UploadedFile: ...
    @overload
    def __getitem__(self, key: slice) -> Sequence[UploadedFile]: ...
    def __getitem__(self, key: int | str | slice) -> UploadedFile | Sequence[UploadedFile]:
        if isinstance(key, str):
            file = self.get(key)
            if file is None:
                raise KeyError(key)
            return file
        return self._files[key]

    def __contains__(self, value: object) -> bool:
        if isinstance(value, str):
            return self.get(value) is not None
        return value in self._files

    def __iter__(self) -> Iterator[UploadedFile]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)

    def __repr__(self) -> str:
        return f"UploadedFiles({list(self._files)!r})"


# --- a form as a whole ------------------------------------------------------------------------------------------------

_Form: TypeAlias = tuple[FormData, UploadedFiles]


async def read_fields(request: Request) -> FormData:
    """Return the fields of a request's form: what `request.form()` does.

    Args:
        request: The request.
    """
    form: _Form = request._form or await _read(request)  # noqa: SLF001  it is ours to keep
    return form[0]


async def read_files(request: Request) -> UploadedFiles:
    """Return the files of a request's form: what `request.files()` does.

    Args:
        request: The request.
    """
    form: _Form = request._form or await _read(request)  # noqa: SLF001  it is ours to keep
    return form[1]


async def _read(request: Request) -> _Form:
    reader = FormReader(request)
    spool = Spool()
    try:
        collected = request._collected  # noqa: SLF001  what has been read already
        if collected is not None:
            reader.feed(collected)
        else:
            async for piece in request.stream:
                if reader.feed(piece) >= _BATCH:
                    await spool.write(reader.take())
        if waiting := reader.take():
            await spool.write(waiting)
        form, found = reader.finish()
        await spool.settle()
    except BaseException:
        spool.close()
        raise
    files = _NO_FILES
    if found:
        files = UploadedFiles(UploadedFile(head, content, spool, start, size) for head, content, start, size in found)
        spool.files = files
        request._on_exit(spool.close)  # noqa: SLF001  it is ours to clean up
    request._form = form, files  # noqa: SLF001  it is ours to keep
    return form, files


_NO_FILES: Final = UploadedFiles()


# --- part by part -----------------------------------------------------------------------------------------------------


class Part:
    """A part of multipart content, as it arrives.

    ```python
    async for part in request.multipart():
        if part.filename is not None:
            await part.save(folder / safe_filename(part.filename))
        else:
            print(part.name, await part.text())
    ```

    It is read once, and before the next part is asked for: what is left of it then is skipped.

    Raises:
        StreamAlreadyConsumed: If it is read after the next part has been asked for.
        BadRequest: If the content is malformed or cut short.
        ContentTooLarge: As `request.stream` does; so `RequestTimeout` and `ClientDisconnected`.
    """

    __slots__ = ("_ended", "_head", "_multipart", "_pull")

    def __init__(
        self, multipart: "Multipart", head: PartHead, pull: Callable[["Part"], Awaitable[bytes | None]]
    ) -> None:
        """Make one of a head; only `Multipart` does."""
        self._multipart = multipart
        self._head = head
        self._pull = pull
        self._ended = False

    @property
    def name(self) -> str:
        """The name of the field."""
        return self._head.name

    @property
    def filename(self) -> str | None:
        """The name that the client gives the file; None if the part is not a file. See `safe_filename`."""
        return self._head.filename

    @property
    def content_type(self) -> str | None:
        """What the client says that it is; None when it says nothing."""
        return self._head.content_type

    @property
    def headers(self) -> Headers:
        """The header section of the part."""
        return self._head.headers

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if self._ended:
            raise StopAsyncIteration
        piece = await self._pull(self)
        if piece is None:
            self._ended = True
            raise StopAsyncIteration
        return piece

    async def read(self, limit: int | None = None) -> bytes:
        """Return what is left of the content.

        Args:
            limit: Bytes that it may have; `RouteLimits.max_fields_size` when None.

        Raises:
            ContentTooLarge: If it has more.
        """
        most = self._multipart.max_fields_size if limit is None else limit
        pieces: list[bytes] = []
        size = 0
        async for piece in self:
            size += len(piece)
            if size > most:
                raise self._too_large(most)
            pieces.append(piece)
        return b"".join(pieces)

    async def text(self, limit: int | None = None) -> str:
        """Return what is left of the content as text, in the charset of the part or of the form, else UTF-8.

        Args:
            limit: Bytes that it may have; `RouteLimits.max_fields_size` when None.

        Raises:
            BadRequest: If it is not text in that charset.
            ContentTooLarge: If it has more.
        """
        text = self._head.decode(await self.read(limit))
        if self.name == "_charset_" and self.filename is None:
            self._multipart.set_charset(text)
        return text

    async def save(self, path: _Path, limit: int | None = None, progress: Callable[[int], object] | None = None) -> int:
        """Write what is left of the content to a file, and return its size in bytes.

        The file appears under its name when it is complete, and takes the place of one that is there. If the client
        leaves before, or is cut off, nothing is left behind.

        Args:
            path: Where. Its folder must exist. Never a name that the client has chosen: see `safe_filename`.
            limit: Bytes that it may have; as many as `RouteLimits.max_body_size` admits when None.
            progress: Called on the event loop with the bytes of each piece that has arrived.

        Raises:
            ContentTooLarge: If it has more.
            OSError: If it cannot be written.
        """
        size = 0
        async with Destination(path) as destination:
            waiting: list[bytes] = []
            waiting_size = 0
            async for piece in self:
                size += len(piece)
                if limit is not None and size > limit:
                    raise self._too_large(limit)
                if progress is not None:
                    progress(len(piece))
                waiting.append(piece)
                waiting_size += len(piece)
                if waiting_size >= _BATCH:
                    await destination.write(waiting)
                    waiting, waiting_size = [], 0
            await destination.write(waiting)
        return size

    def _too_large(self, limit: int) -> ContentTooLarge:
        return ContentTooLarge(f"part {self.name!r} is larger than {limit} bytes")

    def __repr__(self) -> str:
        return f"<Part {self.name!r}{f' {self.filename!r}' if self.filename is not None else ''}>"


class Multipart:
    """The parts of a request's multipart content, as they arrive: what `request.multipart()` returns.

    Args:
        request: The request.

    Raises:
        UnsupportedMediaType: If the content is not `multipart/form-data`.
        BadRequest: If its boundary is missing or malformed.
    """

    def __init__(self, request: Request) -> None:
        self._parser = MultipartParser.for_request(request)
        self._collected = request._collected  # noqa: SLF001  what has been read already
        self._stream = request.stream
        self._part: Part | None = None
        self._in_part = False
        self._ended = False

    @property
    def max_fields_size(self) -> int:
        """Bytes that `Part.read` takes when it is not told otherwise."""
        return self._parser.max_fields_size

    def set_charset(self, label: str) -> None:
        """Read names and texts in another charset than UTF-8 from here on.

        A field named `_charset_` does it when it is read with `Part.text` (RFC 7578 §4.6).

        Args:
            label: The name of the charset.

        Raises:
            BadRequest: If it is unknown.
        """
        self._parser.set_charset(label)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Part:
        if self._part is not None:
            while self._in_part:
                await self._next_of(self._part)
            self._part = None
        while not self._ended:
            event = await self._next_event()
            if isinstance(event, PartHead):
                self._part, self._in_part = Part(self, event, self._next_of), True
                return self._part
        raise StopAsyncIteration

    async def _next_of(self, part: Part) -> bytes | None:
        """Return a piece of a part; None at its end."""
        if part is not self._part:
            raise StreamAlreadyConsumed(f"part {part.name!r} has been passed: a later one was asked for")
        event = await self._next_event()
        if isinstance(event, bytes):
            return event
        self._in_part = False
        return None

    async def _next_event(self) -> PartHead | bytes | bool:
        while (event := self._parser.next_event()) is None:
            piece = self._collected
            if piece is not None:
                self._collected = b""
            else:
                piece = await anext(self._stream, b"")
            if not piece:
                self._ended = True
                self._parser.finish()
                return True
            self._parser.feed(piece)
        return event


# --- names ------------------------------------------------------------------------------------------------------------

_UNFIT: Final = re.compile(r'[<>:"|?*]')
_RESERVED: Final = re.compile(r"(?:con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³])", re.IGNORECASE)
_LONGEST: Final = 200


def safe_filename(filename: str | None, default: str = "file") -> str:
    r"""Return a name for a file that is a name on every system, and nothing but a name.

    Paths are cut off, of Unix and of Windows, and so are characters that are invisible, control something, or mean
    something to a file system or a shell's glob. It never begins with a dot or a dash and is at most 200 bytes long
    in UTF-8. It may be taken already: names are not unique.

    ```python
    safe_filename("../../etc/passwd")  # 'passwd'
    safe_filename(r"C:\photos\café.jpg")  # 'café.jpg'
    ```

    Args:
        filename: What the client calls the file.
        default: The name when nothing is left of it.
    """
    name = unicodedata.normalize("NFC", filename or "")
    name = re.split(r"[/\\]", name)[-1]
    # Controls, formats such as the marks that turn the direction of writing, surrogates, and what is unassigned.
    name = "".join(" " if c.isspace() else c for c in name if c.isspace() or unicodedata.category(c)[0] != "C")
    name = _UNFIT.sub("_", name).strip(" ").lstrip(".- ").rstrip(". ")
    stem, dot, extension = name.rpartition(".")
    if not dot:
        stem, extension = name, ""
    if _RESERVED.fullmatch(name.partition(".")[0].rstrip(" ")):
        stem = f"_{stem}"
    ending = (dot + extension).encode()[:20].decode(errors="ignore")
    stem = stem.encode()[: _LONGEST - len(ending.encode())].decode(errors="ignore")
    return f"{stem}{ending}" if stem or ending else default
