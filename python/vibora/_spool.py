"""Files of uploads, on disk: whatever blocks is done in the thread pool of the event loop."""

import asyncio
import contextlib
import functools
import os
import secrets
import stat
import tempfile
import threading
from collections.abc import Callable, Iterable
from io import FileIO
from pathlib import Path
from typing import Protocol, Self, TypeVar

from vibora._threads import run_in_thread

_T = TypeVar("_T")


class Closeable(Protocol):
    """What is closed with a spool."""

    def close(self) -> None:
        """Let go of the content."""


async def in_thread(job: Callable[[], _T]) -> _T:
    """Run something that blocks. It is not torn apart by cancellation, only left alone.

    Args:
        job: What blocks.
    """
    return await asyncio.shield(run_in_thread(job))


def _write_all(file: FileIO, pieces: Iterable[bytes]) -> None:
    for piece in pieces:
        rest = memoryview(piece)
        while rest:
            rest = rest[file.write(rest) :]


class Spool:
    """The temporary file of a request: made when it is needed, closed after the last thread has left it."""

    __slots__ = ("__weakref__", "_closed", "_file", "_lock", "_loop", "_size", "_writing", "files")

    def __init__(self) -> None:
        self._file: FileIO | None = None
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._size = 0
        self._closed = False
        self._writing: asyncio.Future[None] | None = None
        self.files: Iterable[Closeable] | None = None

    async def write(self, pieces: list[bytes]) -> None:
        """Append; what was given before is written by then, and this may not be yet."""
        await self.settle()
        self._writing = run_in_thread(functools.partial(self._append, pieces))

    async def settle(self) -> None:
        """Wait until everything is written."""
        if self._writing is not None:
            writing, self._writing = self._writing, None
            await asyncio.shield(writing)

    def _append(self, pieces: list[bytes]) -> None:
        with self._lock:
            if self._closed:
                return
            if self._file is None:
                # The lock's owner closes it: see `close`.
                self._file = tempfile.TemporaryFile(buffering=0, prefix="vibora-")  # noqa: SIM115
            self._file.seek(self._size)
            _write_all(self._file, pieces)
            self._size = self._file.tell()

    def read(self, offset: int, size: int) -> bytes:
        """Return so many bytes. Blocks."""
        with self._lock:
            if self._file is None:
                raise ValueError("the uploaded files are closed: they live as long as their request")
            self._file.seek(offset)
            pieces: list[bytes] = []
            while size > 0 and (piece := self._file.read(size)):
                pieces.append(piece)
                size -= len(piece)
        return b"".join(pieces)

    def close(self) -> None:
        """Close the file, and those that are in it. In a thread: to free gigabytes takes a disk its time."""
        self._closed = True
        files, self.files = self.files, None
        for file in files or ():
            file.close()
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.add_done_callback(_forget)
        if self._file is None and writing is None:
            return
        try:
            self._loop.run_in_executor(None, self._dispose)
        except RuntimeError:  # the loop is closed, and so is its thread pool
            self._dispose()

    def _dispose(self) -> None:
        with self._lock:
            file, self._file = self._file, None
            if file is not None:
                file.close()

    def __del__(self) -> None:
        # The exchange closes it; this is for one that never ends properly.
        if self._file is not None:
            self._dispose()


def _forget(writing: asyncio.Future[None]) -> None:
    if not writing.cancelled():
        writing.exception()


class Destination:
    """A file that is written beside its place, and put there when it is complete."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)
        self._lock = threading.Lock()
        self._file: FileIO | None = None
        self._part: Path | None = None
        self._over = False
        self._writing: asyncio.Future[None] | None = None

    async def write(self, pieces: list[bytes]) -> None:
        """Append; what was given before is written by then, and this may not be yet."""
        await self._settle()
        self._writing = run_in_thread(functools.partial(self._append, pieces))

    async def _settle(self) -> None:
        if self._writing is not None:
            writing, self._writing = self._writing, None
            await asyncio.shield(writing)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                await self._settle()
                await in_thread(self._commit)
        finally:
            if not self._over:
                if self._writing is not None:
                    self._writing.add_done_callback(_forget)
                await in_thread(self._discard)

    def _append(self, pieces: list[bytes]) -> None:
        with self._lock:
            if not self._over:
                _write_all(self._open(), pieces)

    def _open(self) -> FileIO:
        if self._file is not None:
            return self._file
        self._path = self._path.resolve()
        try:
            is_file = stat.S_ISREG(self._path.stat().st_mode)
        except FileNotFoundError:
            is_file = True
        if is_file:
            self._part = self._path.parent / f".{secrets.token_hex(8)}.part"
            self._file = FileIO(self._part, "x")
        else:
            # A device or a pipe is written to, not replaced; a folder is refused.
            self._file = FileIO(self._path, "w")
        return self._file

    def _commit(self) -> None:
        with self._lock:
            self._open().close()
            if self._part is not None:
                self._part.replace(self._path)
            self._over = True

    def _discard(self) -> None:
        with self._lock:
            self._over = True
            if self._file is not None:
                self._file.close()
            if self._part is not None:
                with contextlib.suppress(FileNotFoundError):
                    self._part.unlink()
