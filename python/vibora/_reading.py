"""Files read off the event loop, in pieces, by streams that own their descriptor. Imported with the first file sent."""

import asyncio
import os
import stat
import threading
from collections import deque
from collections.abc import Iterable
from typing import Final, Self, TypeVar

from vibora._ranges import Span
from vibora._threads import run_in_thread

PIECE: Final = 64 * 1024
"""Bytes that a client has `chunk_timeout` seconds for."""

HOP: Final = 4 * PIECE
"""Bytes read for each hop to a thread; what a download costs in memory, besides its connection's buffer."""

_FLAGS: Final = (
    os.O_RDONLY
    # Not to wait for somebody who writes into a FIFO, and not to be given a terminal.
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_NOCTTY", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
)

T = TypeVar("T")


def open_regular(path: str, *, follow: bool = True) -> tuple[int, os.stat_result]:
    """Open a regular file to be read.

    Args:
        path: Where it is.
        follow: Whether the path may be a symbolic link.

    Returns:
        Its descriptor, and what is known of the file that is open.

    Raises:
        FileNotFoundError: If there is none, or if it is a directory, a FIFO, a device or a socket.
        OSError: If it cannot be opened.
    """
    descriptor = os.open(path, _FLAGS if follow else _FLAGS | getattr(os, "O_NOFOLLOW", 0))
    status = os.fstat(descriptor)
    if stat.S_ISREG(status.st_mode):
        return descriptor, status
    os.close(descriptor)
    raise FileNotFoundError(f"not a regular file: {path!r}")


def read_whole(descriptor: int, size: int, path: str) -> list[bytes]:
    """Return the content of a file, in pieces.

    Args:
        descriptor: The open file.
        size: Its bytes.
        path: What it is called, for messages.

    Raises:
        OSError: If it cannot be read, or is shorter.
    """
    pieces: list[bytes] = []
    while size:
        piece = os.read(descriptor, min(size, PIECE))
        if not piece:
            raise ended_early(path, size)
        pieces.append(piece)
        size -= len(piece)
    return pieces


def ended_early(path: str, missing: int) -> OSError:
    """Return what is raised when a file has become shorter than it was when it was opened.

    Args:
        path: What it is called.
        missing: Bytes that are owed to the client.
    """
    return OSError(f"the file ended {missing} bytes early, it was cut while it was sent: {path!r}")


class FileContent:
    """Some content, in part from a file, as an async iterator of pieces.

    The file is read in threads, a few pieces at a time. Its descriptor is closed when the last piece was read, when the
    iterator is closed, and when nobody has it any more, whichever comes first; never while a thread reads.

    Args:
        descriptor: The open file. It belongs to the iterator from now on.
        parts: What to send, in order: bytes as they are, or a span of the file.
        path: What the file is called, for messages.
    """

    def __init__(self, descriptor: int, parts: Iterable[bytes | Span], path: str) -> None:
        self._path = path
        self._parts: deque[bytes | Span] = deque(parts)
        self._pieces: deque[bytes] = deque()
        self._at = -1
        # What threads and the loop both touch, under the lock:
        self._lock = threading.Lock()
        self._descriptor: int | None = descriptor
        self._reading = False
        self._closing = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if not self._pieces and self._parts:
            await run_in_thread(self.read)
        if not self._pieces:
            raise StopAsyncIteration
        return self._pieces.popleft()

    def read(self) -> None:
        """Read the next few pieces: in a thread.

        Raises:
            OSError: If the file cannot be read, or has become shorter than it was when it was opened.
        """
        with self._lock:
            if self._descriptor is None or self._closing:
                return
            descriptor, self._reading = self._descriptor, True
        try:
            self._fill(descriptor)
        finally:
            with self._lock:
                self._reading = False
            if not self._parts or self._closing:
                self.close()

    def _fill(self, descriptor: int) -> None:
        size = 0
        while self._parts and size < HOP:
            part = self._parts.popleft()
            if isinstance(part, tuple):
                first, stop = part
                if first == stop:
                    continue
                if first != self._at:
                    os.lseek(descriptor, first, os.SEEK_SET)
                piece = os.read(descriptor, min(stop - first, PIECE))
                if not piece:
                    raise ended_early(self._path, stop - first)
                self._at = first + len(piece)
                if self._at < stop:
                    self._parts.appendleft((self._at, stop))
            else:
                piece = part
            self._pieces.append(piece)
            size += len(piece)

    def taken(self) -> list[bytes] | None:
        """Return all pieces if all have been read; None if there is more to come."""
        return None if self._parts else list(self._pieces)

    def close(self) -> None:
        """Close the file, unless a thread reads it: then that one closes it."""
        with self._lock:
            self._closing = True
            if self._reading:
                return
            descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    async def aclose(self) -> None:
        """Close the file, in a thread: the last user of a file that was deleted waits for the disk."""
        if self._descriptor is not None:
            try:
                closing = run_in_thread(self.close)
            except RuntimeError:  # the loop ends: it has no threads any more
                self.close()
            else:
                await asyncio.shield(closing)

    def __del__(self) -> None:
        self.close()
