"""What the core needs of Python to drive handlers and streams."""

import dis
import inspect
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from types import CodeType

_SUSPENDING = frozenset({"SEND", "GET_AWAITABLE", "YIELD_FROM"})
"""Operations that hand control to the event loop: every `await`, `async for` and `async with` has one of them."""

_BATCH_BYTES = 64 * 1024
_BATCH_SECONDS = 0.005


async def stand_in() -> None:
    """Be the coroutine of the task that is current while handlers run that cannot suspend."""


def exit_with(request: BaseException) -> None:
    """Raise what a handler has raised to end the program, where the loop passes it on to whoever runs it."""
    raise request


def can_suspend(code: CodeType) -> bool:
    """Say whether a coroutine or async generator with this code can ever hand control to the event loop."""
    return any(instruction.opname in _SUSPENDING for instruction in dis.get_instructions(code))


def is_unsuspending_generator(code: CodeType) -> bool:
    """Say whether this is the code of an async generator that yields without ever awaiting."""
    return bool(code.co_flags & inspect.CO_ASYNC_GENERATOR) and not can_suspend(code)


class ThreadedIterator:
    """A synchronous iterator pulled in a thread pool, several chunks to a hop.

    Chunks that come quickly are handed over together, up to 64 KiB or 5 ms; a slow producer's chunks one by one.
    """

    __slots__ = ("_iterator", "_lock", "_source")

    def __init__(self, source: Callable[[], Iterable[bytes | str]] | Iterable[bytes | str]) -> None:
        self._source = source
        self._iterator: Iterator[bytes | str] | None = None
        self._lock = threading.Lock()

    def pull(self) -> tuple[list[bytes | str], bool]:
        """Return the next chunks, and whether they were the last."""
        with self._lock:
            if self._iterator is None:
                source = self._source
                self._iterator = iter(source() if callable(source) else source)
            chunks: list[bytes | str] = []
            size = 0
            until = time.monotonic() + _BATCH_SECONDS
            for chunk in self._iterator:
                chunks.append(chunk)
                size += len(chunk)
                if size >= _BATCH_BYTES or time.monotonic() >= until:
                    return chunks, False
            return chunks, True

    def close(self) -> None:
        """Close the iterator, once no thread is pulling it."""
        with self._lock:
            close = getattr(self._iterator, "close", None)
            if close is not None:
                close()
