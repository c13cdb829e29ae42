"""Synchronous generators as streams. The core imports this when the first of them is sent."""

import asyncio
import contextlib
import contextvars
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Self, TypeAlias

from vibora._threads import run_in_thread

Chunk: TypeAlias = bytes | str

_BATCH_BYTES = 64 * 1024


class ThreadedIterator:
    """A synchronous iterator as an async one: pulled in the thread pool of the event loop.

    A chunk is handed over as soon as it is there, together with what else has come. When 64 KiB wait, the thread
    goes back to its pool until they are taken: a client that does not read holds no thread.
    """

    def __init__(self, source: Callable[[], Iterable[Chunk]] | Iterable[Chunk]) -> None:
        self._source = source
        self._loop = asyncio.get_running_loop()
        self._context = contextvars.copy_context()
        self._iterator: Iterator[Chunk] | None = None
        self._pulling: asyncio.Future[None] | None = None
        self._taken: asyncio.Future[None] | None = None
        # What both sides touch, under the lock:
        self._lock = threading.Lock()
        self._chunks: list[Chunk] = []
        self._size = 0
        self._paused = False
        self._ended = False
        self._closing = False
        self._error: BaseException | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> list[Chunk]:
        """Return the chunks that have come since, at least one."""
        while True:
            taken = self._loop.create_future()
            with self._lock:
                chunks, self._chunks, self._size = self._chunks, [], 0
                if not chunks:
                    if self._error is not None:
                        raise self._error
                    if self._ended:
                        raise StopAsyncIteration
                    self._taken = taken
                paused = self._paused
            if chunks:
                return chunks
            if self._pulling is not None and paused:
                # The thread has had enough and is about to leave; the next may enter the context after it.
                await asyncio.shield(self._pulling)
            if self._pulling is None or paused:
                self._paused = False
                self._pulling = run_in_thread(self._pull, self._context)
            await taken

    def _pull(self) -> None:
        """Run in a thread: take chunks until enough of them wait, or there are no more."""
        try:
            if self._iterator is None:
                source = self._source
                self._iterator = iter(source() if callable(source) else source)
            for chunk in self._iterator:
                with self._lock:
                    self._chunks.append(chunk)
                    self._size += len(chunk)
                    self._paused = self._size >= _BATCH_BYTES or self._closing
                    paused = self._paused
                self._tell()
                if paused:
                    return
            self._ended = True
        except BaseException as error:  # noqa: BLE001  it is raised where the chunks are taken
            self._error = error
        self._tell()

    def _tell(self) -> None:
        """Wake whoever waits for a chunk."""
        with self._lock:
            taken, self._taken = self._taken, None
        if taken is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                self._loop.call_soon_threadsafe(_settle, taken)

    async def aclose(self) -> None:
        """Close the iterator, once no thread is in it."""
        with self._lock:
            self._closing = True
        if self._pulling is not None:
            await asyncio.shield(self._pulling)
        close = getattr(self._iterator, "close", None)
        if close is not None:
            await run_in_thread(close, self._context)


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
