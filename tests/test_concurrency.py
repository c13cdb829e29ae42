"""What is built on asyncio works in handlers: tasks, timeouts, groups, context variables, other libraries."""

import asyncio
import contextvars
import gc
import weakref
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import httpx
import pytest

from vibora import JsonResponse, Request, Response, StreamingResponse, TextResponse, Vibora

if TYPE_CHECKING:
    from conftest import Serve

state: contextvars.ContextVar[str] = contextvars.ContextVar("state", default="unset")


class TestTasks:
    @pytest.mark.parametrize("suspends", [False, True], ids=["direct", "task"])
    def test_every_exchange_has_a_current_task(self, serve: "Serve", suspends: bool) -> None:  # noqa: FBT001
        def current() -> str:
            task = asyncio.current_task()
            assert task is not None
            assert task.get_loop() is asyncio.get_running_loop()
            assert asyncio.isfuture(task)
            assert weakref.ref(task)() is task
            return type(task).__name__

        async def direct() -> Response:
            return TextResponse(current())

        async def task() -> Response:
            await asyncio.sleep(0)
            return TextResponse(current())

        app = Vibora()
        app.add_route("/", task if suspends else direct)
        served = serve(app)
        answer = served.ask("/")
        assert answer.status == 200, served.errors
        assert "Task" in answer.text

    def test_exchanges_at_the_same_time_have_tasks_of_their_own(self, serve: "Serve") -> None:
        app = Vibora()
        tasks: set[asyncio.Task[object] | None] = set()

        @app.get("/")
        async def meet() -> Response:
            barrier = await barrier_of_two()
            tasks.add(asyncio.current_task())
            await barrier.wait()
            return Response()

        barriers: list[asyncio.Barrier] = []

        async def barrier_of_two() -> asyncio.Barrier:
            if not barriers:
                barriers.append(asyncio.Barrier(2))
            return barriers[0]

        served = serve(app)
        with served.connect() as one, served.connect() as two:
            for peer in (one, two):
                peer.send(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
            assert [one.read_answer().status, two.read_answer().status] == [200, 200]
        assert len(tasks) == 2

    def test_create_task_outlives_the_exchange(self, serve: "Serve") -> None:
        app = Vibora()
        done: list[str] = []
        background: set[asyncio.Task[None]] = set()

        @app.get("/start")
        async def start() -> Response:
            async def work() -> None:
                await answered.wait()
                done.append(state.get())

            state.set("of the handler")
            background.add(asyncio.create_task(work()))
            return Response()

        @app.get("/finish")
        async def finish() -> Response:
            answered.set()
            await asyncio.gather(*background)
            return JsonResponse(done)

        answered = asyncio.Event()
        served = serve(app)
        assert served.ask("/start").status == 200
        assert served.ask("/finish").text == '["of the handler"]'

    def test_a_task_factory_of_the_program(self, run: Callable[..., Any]) -> None:
        app = Vibora()

        @app.get("/")
        async def handler() -> Response:
            await asyncio.sleep(0)
            return TextResponse(type(asyncio.current_task()).__name__)

        class OwnTask(asyncio.Task[Any]):
            pass

        async def main() -> bytes:
            loop = asyncio.get_running_loop()
            loop.set_task_factory(lambda loop, coroutine, **options: OwnTask(coroutine, loop=loop, **options))
            async with await app.start(port=0) as server:
                reader, writer = await asyncio.open_connection(server.host, server.port)
                writer.write(b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
                answer = await reader.read()
                writer.close()
                return answer

        assert run(main()).endswith(b"\r\n\r\nOwnTask")


class TestExits:
    @pytest.mark.parametrize("where", ["direct", "first_step", "later_step", "direct_stream", "stream"])
    def test_one_that_a_handler_asks_for_ends_the_loop(self, run: Callable[..., Any], where: str) -> None:
        async def direct() -> Response:
            raise SystemExit(7)

        async def first_step(wait: bool = False) -> Response:  # noqa: FBT001, FBT002
            if wait:
                await asyncio.sleep(0)
            raise SystemExit(7)

        async def later_step() -> Response:
            await asyncio.sleep(0)
            raise SystemExit(7)

        async def direct_stream() -> Response:
            async def chunks() -> AsyncIterator[bytes]:
                yield b"one"
                raise SystemExit(7)

            return StreamingResponse(chunks)

        async def stream() -> Response:
            async def chunks() -> AsyncIterator[bytes]:
                yield b"one"
                await asyncio.sleep(0)
                raise SystemExit(7)

            return StreamingResponse(chunks)

        app = Vibora()
        app.add_route("/", {f.__name__: f for f in (direct, first_step, later_step, direct_stream, stream)}[where])
        cleaned: list[bool] = []

        async def main() -> None:
            async with await app.start(port=0) as server:
                _, writer = await asyncio.open_connection(server.host, server.port)
                try:
                    writer.write(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
                    await asyncio.Event().wait()
                finally:
                    # The loop goes on to clean up: no task may be left current.
                    writer.close()
                    await asyncio.sleep(0)
                    cleaned.append(True)

        with pytest.raises(SystemExit) as exit_:
            run(main())
        assert exit_.value.code == 7
        assert cleaned == [True]
        # The task's exception is told of when the task is collected. CPython 3.11 fails if that is amid `ast.parse`,
        # as when pytest imports a plugin.
        del exit_
        gc.collect()


class TestTimeouts:
    def test_asyncio_timeout(self, serve: "Serve") -> None:
        app = Vibora()

        @app.get("/late")
        async def late() -> Response:
            try:
                async with asyncio.timeout(0.01):
                    await asyncio.Event().wait()
            except TimeoutError:
                return TextResponse("timed out")
            return TextResponse("in time")

        @app.get("/early")
        async def early() -> Response:
            async with asyncio.timeout(10):
                await asyncio.sleep(0)
            return TextResponse("in time")

        served = serve(app)
        with served.connect() as peer:
            answers = [peer.ask(target).text for target in ("/late", "/early", "/late")]
        assert answers == ["timed out", "in time", "timed out"]

    def test_wait_for(self, serve: "Serve") -> None:
        app = Vibora()

        @app.get("/")
        async def handler() -> Response:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(asyncio.Event().wait(), 0.01)
            return TextResponse(await asyncio.wait_for(asyncio.sleep(0, "in time"), 10))

        assert serve(app).ask("/").text == "in time"

    def test_shield(self, serve: "Serve") -> None:
        app = Vibora()

        @app.get("/")
        async def handler() -> Response:
            return TextResponse(await asyncio.shield(asyncio.sleep(0, "shielded")))

        assert serve(app).ask("/").text == "shielded"


class TestGroups:
    def test_task_group(self, serve: "Serve") -> None:
        app = Vibora()

        @app.get("/")
        async def handler() -> Response:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(asyncio.sleep(0, number)) for number in range(3)]
            return JsonResponse([task.result() for task in tasks])

        assert serve(app).ask("/").text == "[0,1,2]"

    def test_a_failure_in_a_task_group_cancels_the_rest_of_it(self, serve: "Serve") -> None:
        app = Vibora()

        waiting: list[asyncio.Task[Any]] = []

        async def fail() -> None:
            raise LookupError

        @app.get("/")
        async def handler() -> Response:
            with pytest.raises(ExceptionGroup) as caught:  # noqa: PT012  the group is what raises
                async with asyncio.TaskGroup() as group:
                    waiting.append(group.create_task(asyncio.Event().wait()))
                    group.create_task(fail())
            assert caught.group_contains(LookupError)
            return JsonResponse([task.cancelled() for task in waiting])

        assert serve(app).ask("/").text == "[true]"

    def test_anyio_task_group_and_cancel_scope(self, serve: "Serve") -> None:
        app = Vibora()

        @app.get("/")
        async def handler() -> Response:
            seen: list[str] = []

            async def work(name: str) -> None:
                await anyio.lowlevel.checkpoint()
                seen.append(name)

            async with anyio.create_task_group() as group:
                group.start_soon(work, "a")
                group.start_soon(work, "b")
            with anyio.move_on_after(0.01) as scope:
                await anyio.sleep_forever()
            async with anyio.create_task_group() as group:
                group.start_soon(anyio.sleep_forever)
                group.cancel_scope.cancel()
            return JsonResponse([sorted(seen), scope.cancelled_caught])

        assert serve(app).ask("/").text == '[["a","b"],true]'

    def test_anyio_cancel_scope_in_a_handler_that_never_suspends(self, serve: "Serve") -> None:
        app = Vibora()

        @app.get("/")
        async def handler() -> Response:
            with anyio.CancelScope(deadline=anyio.current_time() + 10) as scope:  # noqa: ASYNC100  on purpose
                pass
            return JsonResponse(scope.cancel_called)

        served = serve(app)
        with served.connect() as peer:
            assert [peer.ask("/").text for _ in range(3)] == ["false"] * 3

    def test_anyio_threads(self, serve: "Serve") -> None:
        app = Vibora()

        @app.get("/")
        async def handler() -> Response:
            return TextResponse(
                await anyio.to_thread.run_sync(lambda: anyio.from_thread.run(asyncio.sleep, 0, "there"))
            )

        assert serve(app).ask("/").text == "there"


class TestContextVariables:
    """Each exchange has a context of its own, a copy of the one that the server was started in."""

    @pytest.mark.parametrize("kind", ["direct", "task", "thread", "inline"])
    def test_do_not_leak_into_the_next_request(self, serve: "Serve", kind: str) -> None:
        def touch() -> Response:
            before = state.get()
            state.set("touched")
            return TextResponse(before)

        async def direct() -> Response:
            return touch()

        async def task() -> Response:
            await asyncio.sleep(0)
            return touch()

        app = Vibora()
        app.add_route("/", {"direct": direct, "task": task}.get(kind, touch), inline=kind == "inline")
        served = serve(app)
        with served.connect() as peer:
            assert [peer.ask("/").text for _ in range(3)] == ["unset"] * 3
            peer.send(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n" * 3)  # pipelined
            assert [peer.read_answer().text for _ in range(3)] == ["unset"] * 3

    def test_do_not_leak_between_requests_at_the_same_time(self, serve: "Serve") -> None:
        app = Vibora()
        barriers: list[asyncio.Barrier] = []

        @app.get("/<name>")
        async def handler(name: str) -> Response:
            state.set(name)
            if not barriers:
                barriers.append(asyncio.Barrier(2))
            await barriers[0].wait()
            return TextResponse(state.get())

        served = serve(app)
        with served.connect() as one, served.connect() as two:
            one.send(b"GET /one HTTP/1.1\r\nHost: test\r\n\r\n")
            two.send(b"GET /two HTTP/1.1\r\nHost: test\r\n\r\n")
            assert [one.read_answer().text, two.read_answer().text] == ["one", "two"]

    def test_are_those_of_the_handler_in_its_stream(self, serve: "Serve") -> None:
        app = Vibora()

        @app.get("/")
        async def handler() -> Response:
            state.set("of the handler")

            async def stream() -> AsyncIterator[bytes]:
                yield state.get().encode()
                await asyncio.sleep(0)
                yield state.get().encode()

            return StreamingResponse(stream)

        assert serve(app).ask("/").chunks == [b"of the handler"] * 2

    def test_a_token_can_be_reset_after_waiting(self, serve: "Serve") -> None:
        app = Vibora()

        @app.get("/")
        async def handler() -> Response:
            token = state.set("set")
            await asyncio.sleep(0)
            state.reset(token)
            return TextResponse(state.get())

        assert serve(app).ask("/").text == "unset"


class TestStreams:
    def test_a_task_group_around_a_yield(self, serve: "Serve") -> None:
        app = Vibora()

        @asynccontextmanager
        async def feed() -> AsyncIterator[asyncio.Queue[bytes]]:
            queue: asyncio.Queue[bytes] = asyncio.Queue(1)

            async def produce() -> None:
                for number in range(3):
                    await queue.put(b"%d" % number)
                await queue.put(b"")

            async with asyncio.TaskGroup() as group:
                group.create_task(produce())
                yield queue

        @app.get("/")
        async def handler() -> Response:
            async def stream() -> AsyncIterator[bytes]:
                async with feed() as queue, asyncio.timeout(10):
                    while piece := await queue.get():
                        yield piece

            return StreamingResponse(stream)

        served = serve(app)
        assert served.ask("/").content == b"012"
        assert not served.log


class TestLibraries:
    def test_httpx_asks_the_same_server_from_a_handler(self, serve: "Serve") -> None:
        app = Vibora()

        @app.get("/inner")
        async def inner(request: Request) -> Response:
            return JsonResponse({"agent": request.headers["user-agent"].partition("/")[0]})

        @app.get("/outer")
        async def outer(request: Request) -> Response:
            async with httpx.AsyncClient() as client:
                answer = await client.get(f"http://{request.headers['host']}/inner")
            return JsonResponse([answer.status_code, answer.json()])

        served = serve(app)
        host = f"{served.host}:{served.port}"
        with served.connect() as peer:
            peer.send(f"GET /outer HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            assert peer.read_answer().text == '[200,{"agent":"python-httpx"}]'

    def test_subprocesses(self, serve: "Serve") -> None:
        app = Vibora()

        @app.get("/")
        async def handler() -> Response:
            process = await asyncio.create_subprocess_exec("echo", "hello", stdout=asyncio.subprocess.PIPE)
            output, _ = await process.communicate()
            return Response(output)

        assert serve(app).ask("/").text == "hello\n"


def test_exchanges_leave_nothing_behind(serve: "Serve") -> None:
    app = Vibora()
    seen: list[weakref.ref[object]] = []

    @app.get("/direct")
    async def direct(request: Request) -> Response:
        seen.append(weakref.ref(request))
        return Response()

    @app.get("/task")
    async def task(request: Request) -> Response:
        await asyncio.sleep(0)
        seen.append(weakref.ref(request))
        return Response()

    @app.get("/thread")
    def thread(request: Request) -> Response:
        seen.append(weakref.ref(request))
        return Response()

    served = serve(app)
    with served.connect() as peer:
        for target in ("/direct", "/task", "/thread"):
            peer.ask(target)
    served.run(lambda: asyncio.sleep(0))
    gc.collect()
    assert len(seen) == 3
    assert [reference() for reference in seen] == [None] * 3
