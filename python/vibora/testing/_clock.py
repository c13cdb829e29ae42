"""Time that tests move: the deadlines of a server without the waiting."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any, Final

from vibora import _core
from vibora.server import Server

#: Turns of the loop in which an app is given to react to what has happened.
TURNS: Final = 25

Run = Callable[[Coroutine[Any, Any, None]], None]


async def settle() -> None:
    """Let the loop go on until what was ready is done, and what that made ready, a number of times."""
    for _ in range(TURNS):
        await asyncio.sleep(0)


class TestClock(_core.ManualClock):
    """A clock that stands still until a test moves it.

    ```python
    clock = TestClock()
    with app.test_client(clock=clock) as client:
        connection = client.half_open()
        clock.advance(10)  # the head_timeout
    ```

    It is the clock of the server's timeouts, of every client it is given to: of `ServerLimits` (but for
    `graceful_timeout`), of `RouteLimits`, of streams. What an app does with the time itself, such as `asyncio.sleep`,
    takes as long as ever.
    """

    __test__ = False  # for pytest, which would collect it

    def __init__(self) -> None:
        self._servers: dict[Server, Run | None] = {}
        self._moved = 0.0
        self._moving: asyncio.Task[None] | None = None

    @property
    def seconds(self) -> float:
        """Seconds that it has been moved."""
        return self._moved

    def advance(self, seconds: float) -> Awaitable[None]:
        """Move the clock: whatever is due on the way happens in its order, and the app reacts before time goes on.

        In the tests of an async client it is awaited, `await clock.advance(5)`; in those of a sync client it returns
        when it is done. It does not wait for threads, in which `def` handlers run.

        Args:
            seconds: How far. 0 lets the app react to what has happened so far.

        Raises:
            ValueError: If it is negative.
            RuntimeError: If the clock is shared by a sync and an async client.
        """
        if not seconds >= 0:
            raise ValueError(f"a clock takes 0 or more seconds, got {seconds!r}")
        runs = set(self._servers.values())
        if None in runs:
            if len(runs) > 1:
                raise RuntimeError("a sync and an async client share this clock: give each one of its own")
            self._moving = asyncio.get_running_loop().create_task(self._advance(seconds, self._moving))
            return self._moving
        moving = self._advance(seconds, None)
        # What it awaits, with sync clients, is done when it comes back.
        try:
            moving.send(None)
        except StopIteration:
            return _Done()
        raise RuntimeError("the clock of a sync client has waited")  # pragma: no cover

    async def _advance(self, seconds: float, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await asyncio.wait([before])
        target = self._moved + seconds
        await self._settle()
        while (due := self._next()) is not None and due <= round(target * 1000):
            if due > self.milliseconds:
                self._move(due / 1000)
            await self._tick()
        self._move(target)
        await self._tick()

    def _move(self, seconds: float) -> None:
        self._moved = seconds
        self.move_to(round(seconds * 1000))

    def _next(self) -> int | None:
        return min((due for server in self._servers if (due := server.next_deadline()) is not None), default=None)

    async def _tick(self) -> None:
        for server, run in self._servers.items():
            if run is None:
                server.tick()
            else:
                run(_tick(server))
        await self._settle()

    async def _settle(self) -> None:
        runs = set(self._servers.values())
        for run in runs:
            if run is None:
                await settle()
            else:
                run(settle())

    def attach(self, server: Server, run: Run | None) -> None:
        """Be the clock of a server.

        Args:
            server: The server.
            run: What runs a coroutine in its loop and returns when it is done; None if the loop is running.
        """
        self._servers[server] = run

    def detach(self, server: Server) -> None:
        """Be its clock no more."""
        del self._servers[server]

    def __repr__(self) -> str:
        return f"<{type(self).__name__} at {self._moved:g} s>"


async def _tick(server: Server) -> None:
    server.tick()


class _Done:
    """What was to be awaited is done."""

    def __await__(self) -> Generator[None, None, None]:
        return
        yield
