"""Hooks, middleware and background tasks."""

import asyncio
import contextvars
import gc
import inspect
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from vibora import (
    Blueprint,
    CallNext,
    Component,
    ConfigurationError,
    Events,
    FileResponse,
    Hook,
    HTTPError,
    MissingComponent,
    Outcome,
    Request,
    Response,
    RouteLimits,
    ServerLimits,
    StreamingResponse,
    TextResponse,
    Vibora,
    runtime,
)
from vibora._core import Route
from vibora.testing import TestClock

if TYPE_CHECKING:
    from conftest import Serve

Run = Callable[[Any], Any]

user: contextvars.ContextVar[str] = contextvars.ContextVar("user", default="nobody")


def wait_for(condition: Callable[[], bool], seconds: float = 5) -> None:
    """Wait until something is so."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it never came"
        time.sleep(0.005)


def messages(caplog: pytest.LogCaptureFixture, level: int = logging.ERROR) -> list[str]:
    """Return what was logged, from a level on."""
    return [record.getMessage() for record in caplog.records if record.levelno >= level]


def nothing() -> None:
    """Be a hook that does nothing."""


class TestRegistration:
    def test_as_an_object(self) -> None:
        app, seen = Vibora(), list[str]()
        app.add_hook(Hook(Events.BEFORE_ENDPOINT, lambda: seen.append("hook")))

        @app.get("/")
        async def home() -> Response:
            return Response()

        with app.test_client() as client:
            client.get("/")
        assert seen == ["hook"]

    def test_one_function_for_several_events(self) -> None:
        app, seen = Vibora(), list[int]()

        @app.handle([Events.BEFORE_SERVER_START, Events.AFTER_SERVER_START])
        @app.handle(Events.BEFORE_SERVER_STOP)
        def hook() -> None:
            seen.append(1)

        with app.test_client():
            assert len(seen) == 2
        assert len(seen) == 3

    def test_refusals(self) -> None:
        with pytest.raises(ConfigurationError, match=r"one of vibora\.Events, got 3"):
            Hook(3, nothing)  # type: ignore[arg-type]
        with pytest.raises(ConfigurationError, match="a hook is a function"):
            Hook(Events.BEFORE_ENDPOINT, dict)
        with pytest.raises(ConfigurationError, match="Hook"):
            Vibora().add_hook(nothing)  # type: ignore[arg-type]
        with pytest.raises(ConfigurationError, match="middleware is an async def"):
            Vibora().middleware(nothing)


class TestOrder:
    def test_from_the_app_inwards(self) -> None:
        app, outer, inner, other = Vibora(), Blueprint(), Blueprint(), Blueprint()
        seen: list[str] = []
        for name, blueprint in (("inner", inner), ("outer", outer), ("app", app), ("other", other)):
            for event in (Events.BEFORE_ENDPOINT, Events.AFTER_ENDPOINT, Events.AFTER_RESPONSE_SENT):

                def sync(name: str = name, event: Events = event) -> None:
                    seen.append(f"{name} {event.name} 1")

                async def suspending(name: str = name, event: Events = event) -> None:
                    await asyncio.sleep(0)
                    seen.append(f"{name} {event.name} 2")

                blueprint.handle(event)(sync)
                blueprint.handle(event)(suspending)

        @inner.get("/")
        async def home() -> Response:
            seen.append("handler")
            return Response()

        other.add_route("/other", home)
        outer.add_blueprint(inner)
        app.add_blueprint(outer)
        app.add_blueprint(other)
        with app.test_client() as client:
            client.get("/")
            client.settle()

        def around(event: Events) -> list[str]:
            return [f"{name} {event.name} {number}" for name in ("app", "outer", "inner") for number in (1, 2)]

        assert seen == [
            *around(Events.BEFORE_ENDPOINT),
            "handler",
            *around(Events.AFTER_ENDPOINT),
            *around(Events.AFTER_RESPONSE_SENT),
        ]

    def test_server_events_of_blueprints_come_after_the_apps(self) -> None:
        app, outer, inner = Vibora(), Blueprint(), Blueprint()
        seen: list[str] = []
        for name, blueprint in (("inner", inner), ("outer", outer), ("app", app)):
            blueprint.handle(Events.BEFORE_SERVER_START)(lambda name=name: seen.append(name))
        outer.add_blueprint(inner, {"a": "/a", "b": "/b"})  # mounted twice, called once
        app.add_blueprint(outer)
        with app.test_client():
            assert seen == ["app", "outer", "inner"]


class TestBeforeEndpoint:
    @pytest.mark.parametrize("kind", ["async", "sync", "suspending"])
    def test_a_response_is_the_answer(self, kind: str) -> None:
        app, seen = Vibora(), list[str]()

        def refuse(request: Request) -> Response | None:
            return None if "token" in request.headers else TextResponse("who are you", 401)

        async def refuse_async(request: Request) -> Response | None:
            return refuse(request)

        async def refuse_slowly(request: Request) -> Response | None:
            await asyncio.sleep(0)
            return refuse(request)

        app.handle(Events.BEFORE_ENDPOINT)({"async": refuse_async, "sync": refuse, "suspending": refuse_slowly}[kind])
        app.handle(Events.BEFORE_ENDPOINT)(lambda: seen.append("second"))
        app.handle(Events.AFTER_ENDPOINT)(lambda: seen.append("after"))

        @app.get("/<name>")
        async def home(name: str) -> Response:
            seen.append("handler")
            return TextResponse(name)

        with app.test_client() as client:
            assert client.get("/x").status_code == 401
            assert seen == ["after"]
            assert client.get("/x", headers={"token": "1"}).text == "x"
            assert seen == ["after", "second", "handler", "after"]

    def test_every_way_to_run_a_handler(self) -> None:
        app, threads = Vibora(), list[bool]()

        @app.handle(Events.BEFORE_ENDPOINT)
        def hook(request: Request) -> None:
            threads.append(threading.current_thread() is threading.main_thread())
            user.set("somebody")

        @app.get("/direct/<number>")
        async def direct(number: int, request: Request, *, also: str = "x") -> Response:
            return TextResponse(f"{number} {request.path} {also} {user.get()}")

        @app.get("/task/<number>")
        async def task(request: Request, number: int) -> Response:
            await asyncio.sleep(0)
            return TextResponse(f"{number} {request.path} x {user.get()}")

        @app.get("/thread/<number>")
        def thread(request: Request, number: int) -> Response:
            assert threading.current_thread() is not threading.main_thread()
            return TextResponse(f"{number} {request.path} x {user.get()}")

        @app.get("/inline/<number>", inline=True)
        def inline(request: Request, number: int) -> Response:
            return TextResponse(f"{number} {request.path} x {user.get()}")

        @app.post("/content/<number>")
        async def content(request: Request, number: int) -> Response:
            assert await request.json() == [1]
            return TextResponse(f"{number} {request.path} x {user.get()}")

        with app.test_client() as client:
            for name in ("direct", "task", "thread", "inline"):
                assert client.get(f"/{name}/7").text == f"7 /{name}/7 x somebody", name
                assert client.get(f"/{name}/x").status_code == 404, name
            assert client.post("/content/7", json=[1]).text == "7 /content/7 x somebody"
        assert threads == [True] * 5

    def test_components(self) -> None:
        app = Vibora()
        app.add_component(Component(lambda: {"a": 1}, "request", dict[str, int]))

        @app.handle(Events.BEFORE_ENDPOINT)
        def hook(counts: dict[str, int], route: Route) -> None:
            counts[route.name] = 2

        @app.handle(Events.AFTER_ENDPOINT)
        def after(counts: dict[str, int], response: Response) -> None:
            response.headers["x-counts"] = str(counts)

        @app.get("/")
        async def home() -> Response:
            return Response()

        with app.test_client() as client:
            assert client.get("/").headers["x-counts"] == "{'a': 1, 'home': 2}"

    def test_not_for_requests_without_a_route(self) -> None:
        app, seen = Vibora(), list[str]()
        app.handle(Events.BEFORE_ENDPOINT)(lambda: seen.append("before"))
        with app.test_client() as client:
            assert client.get("/").status_code == 404
        assert not seen

    def test_one_that_fails_is_a_failure(self) -> None:
        app = Vibora()

        @app.handle(Events.BEFORE_ENDPOINT)
        def hook() -> None:
            raise LookupError("hook")

        @app.handle(LookupError)
        def handle(error: LookupError) -> Response:
            return TextResponse(f"handled {error}", 400)

        @app.get("/")
        async def home() -> Response:
            raise NotImplementedError

        with app.test_client() as client:
            assert client.get("/").text == "handled hook"

    def test_one_that_returns_nonsense(self) -> None:
        app = Vibora()
        app.handle(Events.BEFORE_ENDPOINT)(lambda: True)

        @app.get("/")
        async def home() -> Response:
            raise NotImplementedError

        with app.test_client() as client, pytest.raises(TypeError, match="must return a Response, not bool"):
            client.get("/")


class TestAfterEndpoint:
    def app(self, **options: Any) -> Vibora:
        """Return an app that marks each response, by hooks that run once."""
        app = Vibora(**options)

        @app.handle(Events.AFTER_ENDPOINT)
        def mark(request: Request, response: Response) -> None:
            assert "x-mark" not in response.headers
            response.headers["x-mark"] = f"{request.method} {response.status_code}"

        @app.handle(Events.AFTER_ENDPOINT)
        async def second(response: Response) -> None:
            response.headers["x-second"] = response.headers["x-mark"]

        @app.get("/")
        async def home() -> Response:
            return TextResponse("home")

        return app

    def test_every_answer(self) -> None:
        app = self.app(route_limits=RouteLimits(max_body_size=3))

        @app.get("/fail")
        async def fail() -> Response:
            raise LookupError("fail")

        @app.get("/refuse")
        async def refuse() -> Response:
            raise HTTPError(418)

        @app.get("/task")
        async def task() -> Response:
            await asyncio.sleep(0)
            raise LookupError("task")

        @app.get("/thread")
        def thread() -> Response:
            return Response(status_code=202)

        @app.get("/nonsense")
        async def nonsense() -> Response:
            return None  # type: ignore[return-value]

        @app.get("/<number>/number")
        async def number(number: int) -> Response:
            raise NotImplementedError

        @app.post("/content")
        async def content(request: Request) -> Response:
            return Response(await request.content())

        expected = {
            ("GET", "/"): 200,
            ("HEAD", "/"): 200,
            ("GET", "/away"): 404,
            ("GET", "/x/number"): 404,
            ("POST", "/"): 405,
            ("OPTIONS", "/"): 204,
            ("GET", "/fail/"): 308,
            ("GET", "/fail"): 500,
            ("GET", "/task"): 500,
            ("GET", "/refuse"): 418,
            ("GET", "/thread"): 202,
            ("GET", "/nonsense"): 500,
            ("POST", "/content"): 413,
        }
        with app.test_client(raise_server_exceptions=False, follow_redirects=False) as client:
            for (method, path), status in expected.items():
                response = client.request(method, path, content=b"long" if method == "POST" else None)
                assert response.status_code == status, path
                assert response.headers.get("x-mark") == f"{method} {status}", path
                assert response.headers.get("x-second") == f"{method} {status}", path
            assert client.options("/").headers["allow"] == "GET, HEAD, OPTIONS"

    def test_timeouts(self) -> None:
        app, clock = self.app(), TestClock()

        @app.get("/slow", timeout=5)
        async def slow() -> Response:
            await asyncio.Event().wait()
            raise NotImplementedError

        async def main() -> None:
            async with app.test_client(clock=clock) as client:
                asking = asyncio.create_task(client.get("/slow"))
                await clock.advance(5)
                response = await asking
                assert (response.status_code, response.headers["x-mark"]) == (503, "GET 503")

        asyncio.run(main())

    def test_one_that_hangs_is_bounded(self) -> None:
        app, clock = Vibora(), TestClock()

        @app.handle(Events.AFTER_ENDPOINT)
        async def hang(response: Response) -> None:
            await asyncio.Event().wait()

        @app.get("/", timeout=5)
        async def home() -> Response:
            return Response()

        async def main() -> None:
            async with app.test_client(clock=clock, raise_server_exceptions=False) as client:
                asking = asyncio.create_task(client.get("/"))
                await clock.advance(5)
                assert (await asking).status_code == 503
                missing = asyncio.create_task(client.get("/away"))  # no route, so the default timeout
                await clock.advance(120)
                assert (await missing).status_code == 503

        asyncio.run(main())

    def test_another_response(self) -> None:
        app = Vibora()

        @app.handle(Events.AFTER_ENDPOINT)
        async def replace(response: Response) -> Response:
            return TextResponse(f"instead of {response.status_code}", 203)

        @app.handle(Events.AFTER_ENDPOINT)
        async def look(response: Response) -> None:
            response.headers["x-seen"] = str(response.status_code)

        with app.test_client() as client:
            response = client.get("/away")
        assert (response.status_code, response.text, response.headers["x-seen"]) == (203, "instead of 404", "203")

    def test_one_that_fails_leaves_the_others_theirs(self) -> None:
        app, seen = Vibora(), list[tuple[str, int]]()

        def hook(name: str, *, fails: bool) -> Callable[[Response], None]:
            def look(response: Response) -> None:
                seen.append((name, response.status_code))
                if fails:
                    raise LookupError(name)

            return look

        for name in "abcd":
            app.handle(Events.AFTER_ENDPOINT)(hook(name, fails=name in "bd"))

        @app.get("/")
        async def home() -> Response:
            return Response()

        with app.test_client(raise_server_exceptions=False) as client:
            for path, status in (("/", 200), ("/away", 404)):
                assert client.get(path).status_code == 500
                assert seen == [("a", status), ("b", status), ("c", 500), ("d", 500)]
                seen.clear()

    def test_streams_and_files(self, tmp_path: Path) -> None:
        app = self.app()
        (tmp_path / "file").write_bytes(b"x" * 200_000)

        @app.get("/stream")
        async def stream() -> Response:
            async def chunks() -> AsyncIterator[str]:
                yield "a"
                await asyncio.sleep(0)
                yield "b"

            return StreamingResponse(chunks)

        @app.get("/file")
        async def file() -> Response:  # it runs without a task, and a file needs one
            return FileResponse(tmp_path / "file")

        @app.get("/none")
        async def none() -> Response:
            return FileResponse(tmp_path / "none")

        with app.test_client() as client:
            assert client.get("/stream").text == "ab"
            response = client.get("/file")
            assert (len(response.content), response.headers["x-second"]) == (200_000, "GET 200")
            cached = client.get("/file", headers={"if-none-match": response.headers["etag"]})
            assert (cached.status_code, cached.headers["x-mark"]) == (304, "GET 304")
            missing = client.get("/none")
            assert (missing.status_code, missing.headers["x-mark"]) == (404, "GET 404")

    def test_only_the_apps_for_requests_without_a_route(self) -> None:
        app, inner = Vibora(), Blueprint()

        @inner.handle(Events.AFTER_ENDPOINT)
        def mark(response: Response) -> None:
            response.headers["x-inner"] = "1"

        @inner.get("/")
        async def home() -> Response:
            raise HTTPError(418)

        app.add_blueprint(inner, {"": "/inner"})
        with app.test_client() as client:
            assert client.get("/inner/").headers["x-inner"] == "1"
            assert "x-inner" not in client.post("/inner/").headers


class TestAfterResponseSent:
    """A hook that is told what became of the response."""

    def app(self) -> tuple[Vibora, list[tuple[Any, ...]]]:  # noqa: C901  a handler for each way to end
        app, seen = Vibora(), list[tuple[Any, ...]]()

        @app.handle(Events.AFTER_RESPONSE_SENT)
        def sent(request: Request, route: Route | None, outcome: Outcome) -> None:
            assert outcome.duration >= (outcome.time_to_first_byte or 0) >= 0
            assert (outcome.method, outcome.path) == (request.method, request.path)
            seen.append((request.path, outcome.status_code, outcome.reason, outcome.bytes_sent))

        @app.get("/plain")
        async def plain() -> Response:
            return TextResponse("plain")

        @app.get("/large")
        async def large() -> Response:
            return Response(b"x" * 300_000)

        @app.get("/stream")
        async def stream() -> Response:
            async def chunks() -> AsyncIterator[bytes]:
                for _ in range(3):
                    yield b"x" * 10
                    await asyncio.sleep(0)

            return StreamingResponse(chunks)

        @app.get("/endless")
        async def endless() -> Response:
            async def chunks() -> AsyncIterator[bytes]:
                while True:
                    yield b"x" * 10_000
                    await asyncio.sleep(0)

            return StreamingResponse(chunks, chunk_timeout=3)

        @app.get("/slow", timeout=3)
        async def slow() -> Response:
            await asyncio.Event().wait()
            raise NotImplementedError

        @app.get("/broken")
        async def broken() -> Response:
            async def chunks() -> AsyncIterator[bytes]:
                yield b"first"
                await asyncio.sleep(0)
                raise LookupError("broken")

            return StreamingResponse(chunks)

        return app, seen

    @pytest.mark.parametrize("path", ["/plain", "/large", "/stream", "/away"])
    def test_complete(self, path: str, serve: "Serve") -> None:
        app, seen = self.app()
        with serve(app).connect() as peer:
            peer.send(f"GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n".encode())
            size = len(peer.read_to_end())
        wait_for(lambda: bool(seen))
        assert seen == [(path, 404 if path == "/away" else 200, "complete", size)]

    def test_one_for_each_of_pipelined_requests(self, serve: "Serve") -> None:
        app, seen = self.app()
        paths = ["/plain", "/stream", "/away", "/large", "/plain"]
        with serve(app).connect() as peer:
            peer.send(b"".join(f"GET {path} HTTP/1.1\r\nHost: test\r\n\r\n".encode() for path in paths))
            for _ in paths:
                peer.read_answer()
            wait_for(lambda: len(seen) == len(paths))
        assert [(path, reason) for path, _, reason, _ in seen] == [(path, "complete") for path in paths]

    def test_the_client_disconnects(self, serve: "Serve") -> None:
        app, seen = self.app()
        served = serve(app)
        with served.connect() as peer:
            peer.send(b"GET /endless HTTP/1.1\r\nHost: test\r\n\r\n")
            peer.read_exactly(50_000)
            peer.reset()
        wait_for(lambda: bool(seen))
        ((path, status, reason, size),) = seen
        assert (path, status, reason) == ("/endless", 200, "disconnected")
        assert size >= 50_000

    def test_the_client_disconnects_before_there_is_a_response(self, serve: "Serve") -> None:
        app, seen = self.app()
        served = serve(app)
        with served.connect() as peer:
            peer.send(b"GET /slow HTTP/1.1\r\nHost: test\r\n\r\n")
            time.sleep(0.05)
            peer.reset()
        wait_for(lambda: bool(seen))
        assert seen == [("/slow", None, "disconnected", 0)]

    @pytest.mark.parametrize("leaves", ["with a reset", "with a FIN"])
    def test_a_handler_that_finishes_has_answered_nobody(self, serve: "Serve", leaves: str) -> None:
        app, seen = self.app()

        @app.post("/order", on_disconnect="finish")
        async def order() -> Response:
            await asyncio.sleep(0.7)  # a peer that has sent FIN counts as gone after half a second
            return TextResponse("done")

        served = serve(app)
        with served.connect() as peer:
            peer.send(b"POST /order HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n\r\n")
            time.sleep(0.05)
            if leaves == "with a reset":
                peer.reset()
        wait_for(lambda: bool(seen))
        ((path, _, reason, _),) = seen
        assert (path, reason) == ("/order", "disconnected")

    def test_the_client_is_too_slow(self) -> None:
        app, seen = self.app()
        clock = TestClock()
        with app.test_client(clock=clock) as client:
            slow = client.slow_reader("/endless", receive_buffer=1024)
            client.settle()
            clock.advance(10)
            assert not slow.is_open
        assert [(path, status, reason) for path, status, reason, _ in seen] == [("/endless", 200, "timed out")]

    def test_the_handler_is_too_slow(self) -> None:
        app, seen = self.app()
        clock = TestClock()

        async def main() -> None:
            async with app.test_client(clock=clock) as client:
                asking = asyncio.create_task(client.get("/slow"))
                await clock.advance(3)
                assert (await asking).status_code == 503

        asyncio.run(main())
        # The client got a response, all of it.
        assert [(path, status, reason) for path, status, reason, _ in seen] == [("/slow", 503, "complete")]

    def test_a_stream_that_breaks(self) -> None:
        app, seen = self.app()
        with app.test_client() as client, pytest.raises(LookupError):
            client.get("/broken")
        assert [(path, status, reason) for path, status, reason, _ in seen] == [("/broken", 200, "aborted")]

    def test_it_is_told_after_the_request_is_cleaned_up_or_not_but_once(self) -> None:
        app, seen = self.app()
        with app.test_client() as client:
            for _ in range(20):
                client.get("/plain")
            client.settle()
        assert len(seen) == 20

    def test_a_blueprints_own(self) -> None:
        app, inner, seen = Vibora(), Blueprint(), list[str]()

        @inner.handle(Events.AFTER_RESPONSE_SENT)
        async def sent(request: Request, outcome: Outcome) -> None:
            await asyncio.sleep(0)
            seen.append(f"{request.path} {outcome.status_code}")

        @inner.get("/")
        async def home(number: int = 1) -> Response:
            return Response()

        app.add_blueprint(inner, {"": "/inner"})
        app.add_route("/outer", home)
        with app.test_client() as client:
            client.get("/inner/")
            client.get("/outer")
        assert seen == ["/inner/ 200"]

    def test_components_are_of_its_own(self) -> None:
        app, seen, made = Vibora(), list[str](), list[str]()

        @app.component("request")
        async def session() -> AsyncIterator[dict[str, int]]:
            made.append("open")
            yield {"number": len(made)}
            made.append("close")

        @app.handle(Events.AFTER_RESPONSE_SENT)
        async def sent(session: dict[str, int]) -> None:
            seen.append(str(session))

        @app.get("/")
        async def home() -> Response:
            return Response()

        with app.test_client() as client:
            for _ in range(2):
                client.get("/")
                client.settle()
        assert (seen, made) == (["{'number': 1}", "{'number': 3}"], ["open", "close"] * 2)

    @pytest.mark.parametrize("suspends", [False, True])
    def test_one_that_fails_is_logged_and_the_others_are_told(
        self, *, suspends: bool, caplog: pytest.LogCaptureFixture
    ) -> None:
        app, seen = Vibora(), list[str]()

        def fail() -> None:
            raise LookupError("fail")

        async def fail_later() -> None:
            await asyncio.sleep(0)
            raise LookupError("fail")

        app.handle(Events.AFTER_RESPONSE_SENT)(fail_later if suspends else fail)
        app.handle(Events.AFTER_RESPONSE_SENT)(lambda: seen.append("told"))
        with app.test_client() as client:
            assert client.get("/away").status_code == 404
            client.settle()
        assert seen == ["told"]
        assert len(messages(caplog)) == 1
        assert "fail" in messages(caplog)[0]


class TestServerEvents:
    def test_in_order(self) -> None:
        app, seen = Vibora(), list[str]()
        for event in (Events.BEFORE_SERVER_STOP, Events.AFTER_SERVER_START, Events.BEFORE_SERVER_START):

            async def hook(own: Vibora, event: Events = event) -> None:
                await asyncio.sleep(0)
                seen.append(event.name)

            app.handle(event)(hook)
        with app.test_client():
            assert seen == ["BEFORE_SERVER_START", "AFTER_SERVER_START"]
        assert seen[2:] == ["BEFORE_SERVER_STOP"]

    @pytest.mark.parametrize("event", [Events.BEFORE_SERVER_START, Events.AFTER_SERVER_START])
    def test_one_that_fails_fails_the_start(self, event: Events, run: Run) -> None:
        app, seen = Vibora(), list[str]()

        @app.component("app")
        async def pool() -> AsyncIterator[dict[str, str]]:
            seen.append("open")
            yield {}
            seen.append("close")

        @app.handle(event)
        def hook() -> None:
            raise LookupError("no database")

        async def main() -> None:
            with pytest.raises(LookupError, match="no database"):
                await app.start(port=0)
            assert not app.is_ready

        run(main())
        assert seen == ([] if event is Events.BEFORE_SERVER_START else ["open", "close"])
        assert not app.runtimes

    def test_a_hook_has_no_request(self) -> None:
        app = Vibora()

        @app.handle(Events.BEFORE_SERVER_START)
        def hook(request: Request) -> None: ...

        with pytest.raises(MissingComponent, match="'request'"), app.test_client():
            pass

    def test_before_the_stop_it_still_serves(self, run: Run) -> None:
        app, seen = Vibora(), list[bytes]()

        @app.get("/")
        async def home() -> Response:
            return TextResponse("still here")

        async def main() -> None:
            server = await app.start(port=0)

            @app.handle(Events.BEFORE_SERVER_STOP)
            async def hook() -> None:
                reader, writer = await asyncio.open_connection(server.host, server.port)
                writer.write(b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
                seen.append(await reader.read())
                writer.close()

            await server.stop()

        run(main())
        assert seen[0].endswith(b"still here")

    @pytest.mark.parametrize("hurry", [False, True])
    def test_one_that_hangs_before_the_stop_is_bounded(
        self, *, hurry: bool, run: Run, caplog: pytest.LogCaptureFixture
    ) -> None:
        app, seen = Vibora(server_limits=ServerLimits(graceful_timeout=0.2)), list[str]()

        @app.handle(Events.BEFORE_SERVER_STOP)
        async def hook() -> None:
            seen.append("called")
            try:
                await asyncio.Event().wait()
            finally:
                seen.append("cancelled")

        async def main() -> None:
            server = await app.start(port=0)
            async with asyncio.timeout(3):
                await server.stop(hurry=hurry)

        run(main())
        assert seen == ["called", "cancelled"]
        assert any("cancelled hooks that had not ended" in message for message in messages(caplog, logging.WARNING))

    def test_one_that_fails_before_the_stop_is_logged(self, caplog: pytest.LogCaptureFixture) -> None:
        app, seen = Vibora(), list[str]()

        @app.handle(Events.BEFORE_SERVER_STOP)
        def hook() -> None:
            raise LookupError("stop")

        app.handle(Events.BEFORE_SERVER_STOP)(lambda: seen.append("next"))
        with app.test_client():
            pass
        assert seen == ["next"]
        assert len(messages(caplog)) == 1

    def test_a_hurry_without_hooks_logs_nothing(self, run: Run, caplog: pytest.LogCaptureFixture) -> None:
        async def main() -> None:
            server = await Vibora().start(port=0)
            await server.stop(hurry=True)

        run(main())
        assert not messages(caplog, logging.WARNING)


class TestMiddleware:
    def test_like_an_onion(self) -> None:
        app, inner, seen = Vibora(), Blueprint(), list[str]()
        for name, blueprint in (("app 1", app), ("inner", inner), ("app 2", app)):

            async def around(request: Request, call_next: CallNext, name: str = name) -> Response:
                seen.append(f"> {name}")
                response = await call_next(request)
                seen.append(f"< {name}")
                return response

            blueprint.middleware(around)
        app.handle(Events.BEFORE_ENDPOINT)(lambda: seen.append("before"))
        app.handle(Events.AFTER_ENDPOINT)(lambda: seen.append("after"))

        @inner.get("/<number>")
        async def home(number: int) -> Response:
            seen.append(f"handler {number}")
            return Response()

        app.add_blueprint(inner)
        with app.test_client() as client:
            client.get("/7")
        assert seen == [
            *("> app 1", "> app 2", "> inner", "before", "handler 7"),
            *("< inner", "< app 2", "< app 1", "after"),
        ]

    def test_without_a_route(self) -> None:
        app, inner = Vibora(), Blueprint()

        @app.middleware
        async def outer(request, call_next):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
            response = await call_next(request)
            response.headers["x-outer"] = str(response.status_code)
            return response

        @inner.middleware
        async def never(request: Request, call_next: CallNext) -> Response:
            raise NotImplementedError

        app.add_blueprint(inner, {"": "/inner"})

        @app.get("/x")
        async def home() -> Response:
            return Response()

        with app.test_client(follow_redirects=False) as client:
            for method, path, status in (
                ("GET", "/away", 404),
                ("POST", "/x", 405),
                ("OPTIONS", "/x", 204),
                ("GET", "/x/", 308),
            ):
                response = client.request(method, path)
                assert (response.status_code, response.headers["x-outer"]) == (status, str(status))

    def test_an_early_return(self) -> None:
        app, seen = Vibora(), list[str]()

        @app.middleware
        async def cut(request: Request, call_next: CallNext) -> Response:
            return TextResponse("cut", 403)

        app.handle(Events.AFTER_ENDPOINT)(lambda: seen.append("after"))

        @app.get("/")
        async def home() -> Response:
            raise NotImplementedError

        with app.test_client() as client:
            assert client.get("/").text == "cut"
            assert client.get("/away").text == "cut"
        assert seen == ["after", "after"]

    def test_exceptions_have_become_responses(self, caplog: pytest.LogCaptureFixture) -> None:
        app, seen = Vibora(), list[int]()

        @app.middleware
        async def look(request: Request, call_next: CallNext) -> Response:
            response = await call_next(request)
            seen.append(response.status_code)
            return response

        @app.get("/handled")
        async def handled() -> Response:
            raise LookupError

        @app.get("/failed")
        def failed() -> Response:
            raise ValueError("failed")

        app.handle(LookupError)(lambda: TextResponse("handled", 409))
        with app.test_client(raise_server_exceptions=False) as client:
            assert [client.get(path).status_code for path in ("/handled", "/failed", "/away")] == [409, 500, 404]
        assert seen == [409, 500, 404]
        assert len(messages(caplog)) == 1

    def test_its_own_exceptions_are_answered(self) -> None:
        app, marks = Vibora(), list[int]()

        @app.middleware
        async def fail(request: Request, call_next: CallNext) -> Response:
            await call_next(request)
            raise LookupError("middleware")

        app.handle(LookupError)(lambda: TextResponse("handled", 409))

        @app.handle(Events.AFTER_ENDPOINT)
        def after(response: Response) -> None:
            marks.append(response.status_code)

        @app.get("/")
        async def home() -> Response:
            return Response()

        with app.test_client() as client:
            assert [client.get(path).status_code for path in ("/", "/away")] == [409, 409]
        assert marks == [409, 409]

    def test_one_that_returns_no_response(self) -> None:
        app = Vibora()

        @app.middleware
        async def forgetful(request: Request, call_next: CallNext) -> Response:
            await call_next(request)
            return None  # type: ignore[return-value]

        @app.get("/")
        async def home() -> Response:
            return Response()

        with app.test_client() as client, pytest.raises(TypeError, match=r"forgetful.*is a `return` missing"):
            client.get("/")

    def test_streams_pass_untouched(self) -> None:
        app, seen = Vibora(), list[str]()

        @app.middleware
        async def mark(request: Request, call_next: CallNext) -> Response:
            response = await call_next(request)
            seen.append("middleware is through")
            response.headers["x-mark"] = "1"
            return response

        @app.get("/")
        async def home() -> Response:
            async def chunks() -> AsyncIterator[str]:
                number = 0
                try:
                    while True:
                        seen.append(f"chunk {number}")
                        yield f"{number}"
                        number += 1
                        await asyncio.sleep(0.001)
                finally:
                    seen.append("closed")

            return StreamingResponse(chunks)

        with app.test_client() as client:
            with client.stream("GET", "/") as response:
                assert response.headers["x-mark"] == "1"
                assert next(response.iter_text()) == "0"
                assert seen[:2] == ["middleware is through", "chunk 0"]
            client.settle()
        assert seen[-1] == "closed"

    def test_context_variables_and_the_task(self) -> None:
        app, tasks = Vibora(), set[object]()

        @app.middleware
        async def login(request: Request, call_next: CallNext) -> Response:
            tasks.add(asyncio.current_task())
            user.set("inside")
            response = await call_next(request)
            assert user.get() == "changed"
            return response

        @app.get("/")
        async def home() -> Response:
            tasks.add(asyncio.current_task())
            before = user.get()
            user.set("changed")

            async def chunks() -> AsyncIterator[str]:
                tasks.add(asyncio.current_task())
                yield f"{before} {user.get()}"
                await asyncio.sleep(0)

            return StreamingResponse(chunks)

        with app.test_client() as client:
            assert client.get("/").text == "inside changed"
        assert len(tasks) == 1
        assert user.get() == "nobody"

    def test_timeouts_go_through_it(self) -> None:
        app, seen, clock = Vibora(), list[str](), TestClock()

        @app.middleware
        async def around(request: Request, call_next: CallNext) -> Response:
            try:
                return await call_next(request)
            except asyncio.CancelledError:
                seen.append("cancelled")
                raise

        @app.get("/", timeout=5)
        async def home() -> Response:
            await asyncio.Event().wait()
            raise NotImplementedError

        async def main() -> None:
            async with app.test_client(clock=clock) as client:
                asking = asyncio.create_task(client.get("/"))
                await clock.advance(5)
                assert (await asking).status_code == 503

        asyncio.run(main())
        assert seen == ["cancelled"]

    def test_a_disconnect_cancels_through_it(self) -> None:
        app, seen = Vibora(), list[str]()

        @app.middleware
        async def around(request: Request, call_next: CallNext) -> Response:
            try:
                return await call_next(request)
            finally:
                seen.append("left")

        @app.get("/")
        async def home() -> Response:
            seen.append("entered")
            await asyncio.Event().wait()
            raise NotImplementedError

        with app.test_client() as client:
            connection = client.connect()
            connection.send(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
            client.settle()
            assert seen == ["entered"]
            connection.disconnect()
            client.settle()
            assert seen == ["entered", "left"]

    def test_components_and_files(self, tmp_path: Path) -> None:
        app = Vibora()
        (tmp_path / "file").write_text("content")
        app.add_component({"a": "b"}, provides=dict[str, str])

        @app.middleware
        async def around(request: Request, following: CallNext, settings: dict[str, str]) -> Response:
            response = await following(request)
            response.headers.update({"x-status": str(response.status_code), **settings})
            return response

        @app.get("/")
        async def home() -> Response:
            return FileResponse(tmp_path / "file")

        with app.test_client() as client:
            response = client.get("/")
            assert (response.text, response.headers["x-status"], response.headers["a"]) == ("content", "200", "b")


class TestBackground:
    def test_beyond_the_request(self) -> None:
        app, seen = Vibora(), list[str]()

        @app.get("/")
        async def home() -> Response:
            async def job() -> str:
                await asyncio.sleep(0.01)
                seen.append("job")
                return "result"

            task = app.spawn(job(), name="the job")
            assert task.get_name() == "the job"
            seen.append("handler")
            return Response()

        with app.test_client() as client:
            client.get("/")
            assert seen == ["handler"]
        assert seen == ["handler", "job"], "the end of the server waits for it"

    def test_an_exception_is_logged(self, caplog: pytest.LogCaptureFixture) -> None:
        app = Vibora()

        async def job() -> None:
            raise LookupError("job")

        async def main() -> None:
            async with await app.start(port=0):
                app.spawn(job())
                await asyncio.sleep(0.01)

        asyncio.run(main())
        (message,) = messages(caplog)
        assert "job failed: LookupError('job')" in message

    def test_those_that_others_begin_are_waited_for(self, run: Run) -> None:
        app, seen = Vibora(), list[int]()

        async def job(left: int) -> None:
            await asyncio.sleep(0.001)
            seen.append(left)
            if left:
                app.spawn(job(left - 1))

        async def main() -> None:
            server = await app.start(port=0)
            app.spawn(job(3))
            await server.stop()

        run(main())
        assert seen == [3, 2, 1, 0]

    @pytest.mark.parametrize("hurry", [False, True])
    def test_cancelled_when_the_time_is_up(self, *, hurry: bool, run: Run, caplog: pytest.LogCaptureFixture) -> None:
        app = Vibora(server_limits=ServerLimits(graceful_timeout=60 if hurry else 0.1))
        seen: list[str] = []

        async def job() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                seen.append("cancelled")

        async def main() -> None:
            server = await app.start(port=0)
            app.spawn(job())
            stopping = asyncio.create_task(server.stop())
            if hurry:
                await asyncio.sleep(0.05)
                assert not seen
                server.shutdown(hurry=True)
            async with asyncio.timeout(5):
                await stopping

        run(main())
        assert seen == ["cancelled"]
        assert any("1 background tasks" in message for message in messages(caplog, logging.WARNING))

    def test_components_outlive_it(self, run: Run) -> None:
        app, seen = Vibora(), list[str]()

        @app.component("app")
        async def pool() -> AsyncIterator[dict[str, str]]:
            yield {}
            seen.append("pool closed")

        async def job() -> None:
            await asyncio.sleep(0.01)
            seen.append("job")

        async def main() -> None:
            server = await app.start(port=0)
            app.spawn(job())
            await server.stop()

        run(main())
        assert seen == ["job", "pool closed"]

    def test_clean_up_that_hangs_is_bounded(self, run: Run, caplog: pytest.LogCaptureFixture) -> None:
        app = Vibora(server_limits=ServerLimits(graceful_timeout=0.1))

        @app.component("app")
        async def pool() -> AsyncIterator[dict[str, str]]:
            yield {}
            await asyncio.Event().wait()

        async def main() -> None:
            server = await app.start(port=0)
            async with asyncio.timeout(5):
                await server.stop()

        run(main())
        assert any("clean-up of components" in message for message in messages(caplog, logging.WARNING))

    def test_not_without_a_server(self) -> None:
        async def job() -> None:
            raise NotImplementedError

        with pytest.raises(RuntimeError, match="not being served"):
            Vibora().spawn(job())


class TestWhatItCosts:
    def callers(self, app: Vibora) -> tuple[bool, bool]:
        """Say whether the handler of an app has a task, and whether something of ours stands around it."""
        found: list[tuple[bool, bool]] = []

        @app.get("/")
        async def home(request: Request) -> Response:
            tasks = {task.get_name() for task in asyncio.all_tasks()}
            found.append(("home" in tasks, any(frame.filename == runtime.__file__ for frame in inspect.stack())))
            return Response()

        with app.test_client() as client:
            client.get("/")
        return found[0]

    def test_an_app_without_hooks_is_called_directly(self) -> None:
        app = Vibora()
        app.add_component({"a": 1}, provides=dict[str, int])
        app.handle(404)(nothing)
        app.handle(Events.BEFORE_SERVER_START)(nothing)
        app.handle(Events.AFTER_RESPONSE_SENT)(nothing)
        assert self.callers(app) == (False, False)

    def test_hooks_that_do_not_suspend_need_no_task(self) -> None:
        app = Vibora()

        @app.handle(Events.BEFORE_ENDPOINT)
        async def hook(request: Request) -> None: ...

        assert self.callers(app) == (False, True)

    def test_hooks_that_suspend_do(self) -> None:
        app = Vibora()

        @app.handle(Events.AFTER_ENDPOINT)
        async def hook(request: Request) -> None:
            await asyncio.sleep(0)

        assert self.callers(app) == (True, True)

    def test_requests_are_freed_without_the_collector(self) -> None:
        app, alive = Vibora(), list[int]()

        class Marker:
            def __init__(self) -> None:
                alive.append(1)

            def __del__(self) -> None:
                alive.pop()

        @app.handle(Events.AFTER_ENDPOINT)
        def after(request: Request) -> None:
            request.context["marker"] = Marker()

        @app.get("/")
        async def home() -> Response:
            return Response()

        with app.test_client() as client:
            gc.disable()
            try:
                for _ in range(20):
                    client.get("/")
                assert len(alive) <= 1
            finally:
                gc.enable()
