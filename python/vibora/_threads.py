"""The threads in which `def` handlers run, files are read, and whatever else blocks."""

import asyncio
import functools
import os
import threading
from collections import deque
from collections.abc import Callable
from contextvars import Context
from queue import SimpleQueue
from typing import Any, Final, TypeVar

T = TypeVar("T")

MOST: Final = min(32, (os.cpu_count() or 1) + 4)
"""As many threads as the pools of `concurrent.futures` have."""


class Threads:
    """A pool of threads for one event loop.

    It does what `loop.run_in_executor` does, for less: a call is one future instead of two with their locks, and all
    calls that end before the loop has its turn wake it once.

    Args:
        loop: The event loop.
        most: How many threads there are at most. They are made when they are needed.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, most: int = MOST) -> None:
        self.users = 0
        self._loop: Final = loop
        self._most: Final = most
        self._threads: Final[list[threading.Thread]] = []
        self._calls: Final[SimpleQueue[_Call | None]] = SimpleQueue()
        # Appending to a deque and popping from it are atomic. Here, one entry for each thread that waits for a call:
        self._idle: Final[deque[None]] = deque()
        self._outcomes: Final[deque[_Outcome]] = deque()
        self._told = False

    def run(self, call: Callable[[], T], context: Context | None = None) -> asyncio.Future[T]:
        """Call a function in a thread; return a future of its result. Cancelled, it drops a call that waits.

        Args:
            call: The function.
            context: The context that it is called in.
        """
        future: asyncio.Future[T] = self._loop.create_future()
        self._calls.put((future, call, context))
        try:
            self._idle.pop()
        except IndexError:
            if len(self._threads) < self._most:
                self._start()
        return future

    def close(self) -> None:
        """Have the threads end when they have nothing left to do."""
        for _ in self._threads:
            self._calls.put(None)
        self._threads.clear()

    def _start(self) -> None:
        # A daemon: Python would wait at its end for any other, and these wait for calls that do not come any more.
        thread = threading.Thread(target=self._work, name=f"vibora-{len(self._threads)}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _work(self) -> None:
        while (item := self._next()) is not None:
            future, call, context = item
            if not future.cancelled():
                self._outcomes.append((future, *_outcome(call, context)))
            del item, future, call, context  # what the call has left must not live until the next
            if self._outcomes and not self._told:
                self._told = True
                try:
                    self._loop.call_soon_threadsafe(self._settle)
                except RuntimeError:
                    return  # the loop is closed: nobody waits for anything

    def _next(self) -> "_Call | None":
        if self._calls.empty():
            self._idle.append(None)
        return self._calls.get()

    def _settle(self) -> None:
        """Hand the results over, in the loop."""
        self._told = False
        while self._outcomes:
            future, result, error = self._outcomes.popleft()
            if future.done():
                continue
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)


_Call = tuple[asyncio.Future[Any], Callable[[], Any], Context | None]
_Outcome = tuple[asyncio.Future[Any], Any, BaseException | None]


def _outcome(call: Callable[[], T], context: Context | None) -> tuple[T | None, BaseException | None]:
    try:
        return (call() if context is None else context.run(call)), None
    except StopIteration as error:  # a future cannot hold it
        stopped = RuntimeError("a function that was called in a thread has raised StopIteration")
        stopped.__cause__ = error
        return None, stopped
    except BaseException as error:  # noqa: BLE001  it is raised where the call is awaited
        return None, error


# --- the pools of the running loops -----------------------------------------------------------------------------------

_pools: Final[dict[asyncio.AbstractEventLoop, Threads]] = {}


def open_pool() -> Threads:
    """Return the pool of the running loop, which all apps that it serves share; `close_pool` is owed for it."""
    loop = asyncio.get_running_loop()
    if loop not in _pools:
        _pools[loop] = Threads(loop)
    _pools[loop].users += 1
    return _pools[loop]


def close_pool() -> None:
    """Give up the pool of the running loop. The last one to do so ends its threads."""
    loop = asyncio.get_running_loop()
    pool = _pools[loop]
    pool.users -= 1
    if pool.users == 0:
        _pools.pop(loop).close()


def run_in_thread(call: Callable[[], T], context: Context | None = None) -> asyncio.Future[T]:
    """Call a function in the pool of the running loop, or where it has none, because it serves no app, in its executor.

    Args:
        call: The function.
        context: The context that it is called in.
    """
    loop = asyncio.get_running_loop()
    pool = _pools.get(loop)
    if pool is not None:
        return pool.run(call, context)
    return loop.run_in_executor(None, call if context is None else functools.partial(context.run, call))
