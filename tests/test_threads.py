"""The threads in which `def` handlers run: what they share, how many there are, and how they end."""

import asyncio
import contextvars
import functools
import gc
import threading
import time
import weakref
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest

from conftest import Serve, Served
from vibora import AccessLog, ConfigurationError, Response, TextResponse, Vibora, _threads
from vibora._threads import MOST, Threads, run_in_thread

if TYPE_CHECKING:
    from conftest import Start

Run: TypeAlias = Callable[[Coroutine[Any, Any, Any]], Any]
variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="nobody's")


def of_vibora() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith("vibora-")}


def have_ended(threads: set[threading.Thread]) -> bool:
    for thread in threads:
        thread.join(5)
    return not any(thread.is_alive() for thread in threads)


class TestThreads:
    def test_a_call_gives_its_result_or_raises(self, run: Run) -> None:
        def fail() -> None:
            raise LookupError("as asked")

        def stop() -> None:
            raise StopIteration("as asked")

        async def main() -> None:
            threads = Threads(asyncio.get_running_loop())
            assert await threads.run(lambda: 7) == 7
            with pytest.raises(LookupError, match="as asked"):
                await threads.run(fail)
            with pytest.raises(RuntimeError, match="StopIteration") as raised:
                await threads.run(stop)
            assert isinstance(raised.value.__cause__, StopIteration)
            threads.close()

        run(main())

    def test_a_call_has_its_context(self, run: Run) -> None:
        async def main() -> None:
            threads = Threads(asyncio.get_running_loop())
            variable.set("the caller's")
            assert await threads.run(variable.get, contextvars.copy_context()) == "the caller's"
            assert await threads.run(variable.get) == "nobody's"
            threads.close()

        run(main())

    def test_every_call_is_answered_by_few_threads(self, run: Run) -> None:
        seen: set[int] = set()

        def work(number: int) -> int:
            seen.add(threading.get_ident())
            return number

        async def main() -> None:
            threads = Threads(asyncio.get_running_loop(), most=3)
            calls = [threads.run(functools.partial(work, number)) for number in range(1000)]
            assert await asyncio.gather(*calls) == list(range(1000))
            threads.close()

        run(main())
        assert 1 <= len(seen) <= 3

    def test_a_thread_that_waits_is_used_before_another_is_made(self, run: Run) -> None:
        async def main() -> None:
            threads = Threads(asyncio.get_running_loop())
            before = threading.active_count()
            for _ in range(50):
                await threads.run(lambda: None)
                await asyncio.sleep(0.001)
            assert threading.active_count() - before <= 3
            threads.close()

        run(main())

    def test_calls_run_at_the_same_time(self, run: Run) -> None:
        barrier = threading.Barrier(MOST, timeout=5)

        async def main() -> None:
            threads = Threads(asyncio.get_running_loop())
            await asyncio.gather(*(threads.run(barrier.wait) for _ in range(MOST)))
            threads.close()

        run(main())

    def test_a_cancelled_call_that_waits_is_not_made(self, run: Run) -> None:
        made: list[str] = []
        go = threading.Event()

        def work() -> None:
            go.wait(5)
            made.append("first")

        async def main() -> None:
            threads = Threads(asyncio.get_running_loop(), most=1)
            first = threads.run(work)
            second = threads.run(lambda: made.append("second"))
            third = threads.run(lambda: made.append("third"))
            second.cancel()
            first.cancel()  # this one runs, and nobody minds its result
            go.set()
            await third
            threads.close()

        run(main())
        assert made == ["first", "third"]

    def test_it_ends_after_what_was_asked_of_it(self, run: Run) -> None:
        async def main() -> None:
            threads = Threads(asyncio.get_running_loop(), most=2)
            calls = [threads.run(lambda: time.sleep(0.001)) for _ in range(20)]
            threads.close()
            await asyncio.gather(*calls)

        others = of_vibora()
        run(main())
        assert have_ended(of_vibora() - others)

    def test_a_loop_that_was_closed_meanwhile_is_no_trouble(
        self, loop_factory: Callable[[], asyncio.AbstractEventLoop]
    ) -> None:
        loop = loop_factory()
        go, done = threading.Event(), threading.Event()

        def work() -> None:
            go.wait(5)
            done.set()

        threads = Threads(loop)
        threads.run(work)
        loop.close()
        go.set()
        assert done.wait(5)

    def test_nothing_of_a_call_outlives_it(self, run: Run) -> None:
        class Large:
            pass

        async def main() -> None:
            threads = Threads(asyncio.get_running_loop())
            large = Large()
            kept = weakref.ref(large)
            assert await threads.run(functools.partial(lambda it: it, large)) is large
            del large
            for _ in range(100):
                gc.collect()
                if kept() is None:
                    break
                await asyncio.sleep(0.01)
            assert kept() is None
            threads.close()

        run(main())

    def test_without_an_app_it_is_the_executor_of_the_loop(self, run: Run) -> None:
        async def main() -> None:
            assert not await run_in_thread(lambda: threading.current_thread().name.startswith("vibora-"))
            variable.set("the caller's")
            assert await run_in_thread(variable.get, contextvars.copy_context()) == "the caller's"

        run(main())


def app_that_tells() -> Vibora:
    app = Vibora()

    @app.get("/")
    def name() -> Response:
        return TextResponse(threading.current_thread().name)

    return app


class TestApps:
    def test_a_def_handler_runs_in_one(self, serve: Serve) -> None:
        assert serve(app_that_tells()).ask("/").text.startswith("vibora-")

    def test_apps_of_one_loop_share_them(self, run: Run) -> None:
        async def main() -> None:
            async with app_that_tells().test_client() as first:
                async with app_that_tells().test_client() as second:
                    assert (await second.get("/")).text.startswith("vibora-")
                # The other one still needs them.
                assert (await first.get("/")).text.startswith("vibora-")
            async with app_that_tells().test_client() as third:
                assert (await third.get("/")).text.startswith("vibora-")

        others = of_vibora()
        run(main())
        assert have_ended(of_vibora() - others)

    def test_a_server_that_cannot_start_keeps_nothing(self, run: Run, tmp_path: Path) -> None:
        app = Vibora(access_log=AccessLog("text", file=tmp_path / "nowhere" / "access.log"))
        ends: list[str] = []

        @app.component("app")
        def connection() -> Iterator[dict[str, str]]:
            yield {}
            ends.append("closed")

        async def main() -> None:
            for _ in range(2):
                with pytest.raises(ConfigurationError):
                    await app.start(port=0)
            assert ends == ["closed"] * 2
            assert asyncio.get_running_loop() not in _threads._pools
            assert app.runtimes == []

        run(main())

    def test_more_calls_than_threads_wait_their_turn(self, serve: Serve) -> None:
        running, most = 0, 0
        lock = threading.Lock()
        app = Vibora()

        @app.get("/")
        def slow() -> Response:
            nonlocal running, most
            with lock:
                running += 1
                most = max(most, running)
            time.sleep(0.01)
            with lock:
                running -= 1
            return TextResponse("done")

        served: Served = serve(app)
        peers = [served.connect() for _ in range(3 * MOST)]
        for peer in peers:
            peer.send(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
        assert [peer.read_answer().text for peer in peers] == ["done"] * len(peers)
        for peer in peers:
            peer.close()
        assert 1 < most <= MOST


STUCK = """
import sys, threading
from vibora import ServerLimits, TextResponse, Vibora

app = Vibora(server_limits=ServerLimits(graceful_timeout=0.1))

@app.get("/")
def stuck():
    print("entered", file=sys.stderr, flush=True)
    threading.Event().wait()

if __name__ == "__main__":
    app.run(port=0)
"""


def test_a_handler_that_never_ends_keeps_no_program_alive(program: "Start") -> None:
    run = program("app.py", code=STUCK)
    with run.connect(run.port()) as peer:
        peer.send(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
        run.read_until("entered")
        begun = time.monotonic()
        run.process.terminate()
        assert run.wait()[0] == 0
    assert time.monotonic() - begun < 5
