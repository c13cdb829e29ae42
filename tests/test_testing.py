"""The test client: httpx over memory, through the real server; raw connections; a clock that tests move."""

import asyncio
import contextlib
import contextvars
import gc
import logging
import re
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from vibora import (
    CallNext,
    Events,
    HTTPError,
    JsonResponse,
    RedirectResponse,
    Request,
    Response,
    RouteLimits,
    ServerLimits,
    StreamingResponse,
    TextResponse,
    Vibora,
)
from vibora.server import Server
from vibora.testing import Client, TestClock
from vibora.testing._memory import connect

if TYPE_CHECKING:
    from conftest import Serve

Run = Callable[[Coroutine[Any, Any, None]], None]

var: contextvars.ContextVar[str] = contextvars.ContextVar("var", default="nothing")


def make_app() -> Vibora:  # noqa: C901  a list of handlers
    """Return an app with a bit of everything."""
    app = Vibora()

    @app.get("/")
    async def home(request: Request) -> JsonResponse:
        return JsonResponse({"hello": "world", "args": dict(request.args)})

    @app.post("/echo")
    async def echo(request: Request) -> Response:
        return Response(await request.content(), headers={"content-type": request.content_type or "nothing"})

    @app.post("/shout")
    async def shout(request: Request) -> StreamingResponse:
        async def louder() -> AsyncIterator[bytes]:
            async for piece in request.stream:
                yield piece.upper()

        return StreamingResponse(louder)

    @app.get("/headers")
    async def headers(request: Request) -> JsonResponse:
        return JsonResponse({name.lower(): value for name, value in request.headers.items()})

    @app.get("/login")
    async def login() -> Response:
        return RedirectResponse("/headers", headers={"set-cookie": "session=abc; Path=/; HttpOnly"})

    @app.get("/boom")
    async def boom() -> Response:
        raise LookupError("the third time")

    @app.get("/teapot")
    async def teapot() -> Response:
        raise HTTPError(503, "not now")

    @app.get("/broken")
    async def broken() -> StreamingResponse:
        async def stream() -> AsyncIterator[bytes]:
            yield b"so far"
            await asyncio.sleep(0)
            raise LookupError("so good")

        return StreamingResponse(stream)

    @app.get("/threaded")
    def threaded() -> Response:
        return TextResponse(threading.current_thread().name)

    @app.get("/var")
    async def context() -> Response:
        return TextResponse(var.get())

    return app


@pytest.fixture(params=["uvloop", "asyncio"])
def client(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    """What a project's own fixture looks like, once on each loop."""
    monkeypatch.setenv("VIBORA_UVLOOP", "1" if request.param == "uvloop" else "0")
    with make_app().test_client() as client:
        yield client


class TestRequests:
    def test_json_and_a_query(self, client: Client) -> None:
        response = client.get("/", params={"q": "é"})
        assert (response.status_code, response.reason_phrase, response.http_version) == (200, "OK", "HTTP/1.1")
        assert response.json() == {"hello": "world", "args": {"q": "é"}}

    @pytest.mark.parametrize("size", [0, 3, 100_000, 900_000])
    def test_content_comes_back(self, client: Client, size: int) -> None:
        response = client.post("/echo", content=b"x" * size, headers={"content-type": "text/plain"})
        assert (len(response.content), response.headers["content-type"]) == (size, "text/plain")

    def test_content_from_a_generator_is_chunked(self, client: Client) -> None:
        response = client.post("/echo", content=iter([b"one", b"", b"two"]))
        assert response.content == b"onetwo"

    def test_what_the_app_sees(self) -> None:
        with make_app().test_client(headers={"X-Own": "1"}, base_url="http://shop.example") as client:
            seen = client.get("/headers").json()
        assert (seen["host"], seen["x-own"], seen["user-agent"]) == ("shop.example", "1", "testclient")

    def test_unknown_paths_and_methods_are_answers(self, client: Client) -> None:
        assert client.get("/nothing").status_code == 404
        assert client.post("/").status_code == 405
        assert client.head("/").content == b""
        assert client.options("/").status_code == 204

    def test_cookies_are_kept_and_redirects_followed(self, client: Client) -> None:
        response = client.get("/login")
        assert (response.url.path, response.json()["cookie"]) == ("/headers", "session=abc")
        assert client.cookies["session"] == "abc"
        assert client.get("/headers").json()["cookie"] == "session=abc"

    def test_cookies_may_be_given_and_redirects_looked_at(self) -> None:
        with make_app().test_client(cookies={"a": "b"}, follow_redirects=False) as client:
            assert client.get("/headers").json()["cookie"] == "a=b"
            assert client.get("/login").headers["location"] == "/headers"

    @pytest.mark.parametrize(("base_url", "kept"), [("https://testserver", True), ("http://testserver", False)])
    def test_secure_cookies_want_a_secure_url(self, base_url: str, *, kept: bool) -> None:
        app = make_app()

        @app.get("/secure")
        async def secure() -> Response:
            return Response(headers={"set-cookie": "safe=1; Secure"})

        with app.test_client(base_url=base_url) as client:
            client.get("/secure")
            assert ("cookie" in client.get("/headers").json()) is kept

    def test_one_connection_serves_them_one_after_another(self, client: Client) -> None:
        connections = {id(client.get("/").extensions["connection"]) for _ in range(3)}
        assert len(connections) == 1
        assert client.get("/", headers={"connection": "close"}).status_code == 200
        assert id(client.get("/").extensions["connection"]) not in connections

    def test_http_1_0(self) -> None:
        with make_app().test_client(http_version="HTTP/1.0") as client:
            response = client.post("/echo", content=b"old")
            assert (response.content, response.headers["connection"]) == (b"old", "keep-alive")
            with pytest.raises(httpx.LocalProtocolError, match=r"HTTP/1\.0 has no chunked content"):
                client.post("/echo", content=iter([b"a"]))

    def test_handlers_run_in_threads_too(self, client: Client) -> None:
        assert client.get("/threaded").text != threading.current_thread().name

    def test_limits_are_those_of_the_server(self) -> None:
        app = Vibora(server_limits=ServerLimits(max_headers_size=500))
        with app.test_client() as client:
            assert client.get("/", headers={"x": "y" * 600}).status_code == 431

    def test_too_much_content_is_refused_and_the_answer_read(self, client: Client) -> None:
        def endless() -> Iterator[bytes]:
            while True:
                yield b"x" * 60_000

        assert client.post("/echo", content=endless()).status_code == 413


class TestExceptions:
    def test_a_handlers_exception_is_raised_where_it_was_asked_for(self, client: Client) -> None:
        with pytest.raises(LookupError, match="the third time") as raised:
            client.get("/boom")
        frames = [entry.name for entry in raised.traceback]
        assert frames[0] == "test_a_handlers_exception_is_raised_where_it_was_asked_for"
        assert frames[-1] == "boom"
        assert client.get("/").status_code == 200

    def test_an_answer_is_no_exception(self, client: Client) -> None:
        assert client.get("/teapot").status_code == 503

    @pytest.mark.parametrize("wrapped", [False, True])
    def test_an_exception_that_is_handled_is_none_either(self, *, wrapped: bool) -> None:
        app = Vibora()

        @app.handle(LookupError)
        def unavailable() -> Response:
            return TextResponse("later", 503)

        if wrapped:

            @app.middleware
            async def around(request: Request, call_next: CallNext) -> Response:
                return await call_next(request)

        @app.get("/<kind>")
        async def fail(kind: str) -> Response:
            raise LookupError if kind == "handled" else ZeroDivisionError

        with app.test_client() as client:
            assert client.get("/handled").text == "later"
            with pytest.raises(ZeroDivisionError):
                client.get("/unhandled")

    def test_a_streams_exception_comes_after_its_chunks(self, client: Client) -> None:
        with client.stream("GET", "/broken") as response:
            pieces = response.iter_bytes()
            assert next(pieces) == b"so far"
            with pytest.raises(LookupError, match="so good"):
                next(pieces)

    def test_or_everything_is_as_clients_see_it(self) -> None:
        with make_app().test_client(raise_server_exceptions=False) as client:
            assert client.get("/boom").status_code == 500
            with pytest.raises(httpx.ReadError, match="the server has reset the connection"):
                client.get("/broken")

    def test_in_debug_the_client_sees_the_traceback(self) -> None:
        with make_app().test_client(raise_server_exceptions=False, debug=True) as client:
            assert "LookupError: the third time" in client.get("/boom").text

    def test_each_request_gets_its_own(self, run: Run) -> None:
        app = Vibora()

        @app.get("/<number>")
        async def fail(number: int) -> Response:
            await asyncio.sleep(0.001 * (number % 3))
            if number % 2:
                raise ValueError(number)
            return TextResponse(str(number))

        async def main() -> None:
            async with app.test_client() as client:
                results = await asyncio.gather(*(client.get(f"/{n}") for n in range(40)), return_exceptions=True)
            for number, result in enumerate(results):
                if number % 2:
                    assert isinstance(result, ValueError)
                    assert result.args == (number,)
                else:
                    assert isinstance(result, httpx.Response)
                    assert result.text == str(number)

        run(main())

    def test_an_exit_goes_to_the_test(self) -> None:
        app = Vibora()

        @app.get("/")
        async def leave() -> Response:
            raise SystemExit(7)

        with pytest.raises(SystemExit, match="7"), app.test_client() as client:
            client.get("/")

    def test_content_that_cannot_be_made_is_the_tests_own_failure(self, client: Client) -> None:
        def pieces() -> Iterator[bytes]:
            yield b"some"
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            client.post("/echo", content=pieces())
        assert client.get("/").status_code == 200


class TestStreams:
    def test_a_chunk_comes_while_the_generator_waits(self, client: Client) -> None:
        made: list[int] = []
        go = asyncio.Semaphore(0)

        async def numbers() -> AsyncIterator[bytes]:
            try:
                for number in range(3):
                    made.append(number)
                    yield b"%d" % number
                    await go.acquire()
            finally:
                made.append(-1)

        @client.app.get("/numbers")
        async def stream() -> StreamingResponse:
            return StreamingResponse(numbers)

        with client.stream("GET", "/numbers") as response:
            seen = []
            for piece in response.iter_bytes():
                client.settle()
                seen.append((piece, list(made)))
                go.release()
        assert seen == [(b"0", [0]), (b"1", [0, 1]), (b"2", [0, 1, 2])]
        assert made == [0, 1, 2, -1]

    def test_live_in_async_too(self, run: Run) -> None:
        app = Vibora()
        go: list[asyncio.Event] = []

        @app.get("/")
        async def stream() -> StreamingResponse:
            async def steps() -> AsyncIterator[bytes]:
                yield b"one"
                await go[0].wait()
                yield b"two"

            return StreamingResponse(steps)

        async def main() -> None:
            go.append(asyncio.Event())
            async with app.test_client() as client, client.stream("GET", "/") as response:
                pieces = response.aiter_bytes()
                assert await anext(pieces) == b"one"
                waiting = asyncio.ensure_future(anext(pieces))
                await client.settle()
                assert not waiting.done()
                go[0].set()
                assert await waiting == b"two"

        run(main())

    def test_leaving_a_stream_closes_its_generator(self, client: Client) -> None:
        closed: list[bool] = []

        @client.app.get("/forever")
        async def stream() -> StreamingResponse:
            async def forever() -> AsyncIterator[bytes]:
                try:
                    while True:
                        yield b"x" * 1000
                        await asyncio.sleep(0)
                finally:
                    closed.append(True)

            return StreamingResponse(forever)

        with client.stream("GET", "/forever") as response:
            next(response.iter_raw())
        client.settle()
        assert closed == [True]

    def test_backpressure_is_real(self, client: Client) -> None:
        made = [0]

        @client.app.get("/large")
        async def stream() -> StreamingResponse:
            async def pieces() -> AsyncIterator[bytes]:
                for _ in range(1000):
                    made[0] += 10_000
                    yield b"x" * 10_000
                    await asyncio.sleep(0)

            return StreamingResponse(pieces)

        with client.slow_reader("/large", receive_buffer=5000) as connection:
            client.run(asyncio.sleep(0.05))
            stalled = made[0]
            assert stalled < 300_000
            assert (connection.unread, connection.unsent > 0) == (5000, True)
            connection.read_exactly(100_000)
            client.run(asyncio.sleep(0.05))
            assert stalled < made[0] < stalled + 200_000

    def test_an_upload_and_its_answer_run_at_the_same_time(self, run: Run) -> None:
        async def main() -> None:
            said = asyncio.Queue[bytes]()

            async def pieces() -> AsyncIterator[bytes]:
                while piece := await said.get():
                    yield piece

            async with (
                make_app().test_client() as client,
                client.stream("POST", "/shout", content=_after(said, pieces())) as response,
            ):
                heard = response.aiter_bytes()
                assert await anext(heard) == b"FIRST"
                said.put_nowait(b"second")
                assert await anext(heard) == b"SECOND"
                said.put_nowait(b"")
                assert [piece async for piece in heard] == []

        run(main())


async def _after(said: asyncio.Queue[bytes], pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    said.put_nowait(b"first")
    async for piece in pieces:
        yield piece


class TestLoops:
    def test_the_app_runs_in_the_thread_and_the_context_of_the_test(self) -> None:
        var.set("the test's")
        with make_app().test_client() as client:
            assert client.get("/var").text == "the test's"

    def test_a_running_loop_is_told_what_to_write(self, run: Run) -> None:
        async def main() -> None:
            with (
                pytest.raises(RuntimeError, match=r"async with app\.test_client\(\)"),
                make_app().test_client(),
            ):
                pass

        run(main())

    def test_another_thread_is_told_to_have_its_own(self) -> None:
        app = Vibora()
        begun, release = threading.Event(), threading.Event()

        @app.get("/")
        def wait() -> Response:
            begun.set()
            release.wait(10)
            return TextResponse("done")

        with app.test_client() as client, ThreadPoolExecutor(1) as pool:
            answer = pool.submit(client.get, "/")
            begun.wait(10)
            with pytest.raises(RuntimeError, match="in another thread"):
                client.get("/")
            release.set()
            assert answer.result(10).text == "done"

    def test_before_and_after_the_block_the_message_says_what_to_do(self) -> None:
        made = make_app().test_client()
        with pytest.raises(AttributeError, match=r"with app\.test_client\(\) as client"):
            made.get("/")  # type: ignore[attr-defined]
        with made as client, pytest.raises(RuntimeError, match="serves the app already"), made:
            pass
        with pytest.raises(RuntimeError, match="closed"):
            client.get("/")
        with made as client:
            assert client.get("/").status_code == 200

    def test_several_clients_each_have_their_own_server_and_cookies(self) -> None:
        app = make_app()
        with app.test_client() as one, app.test_client() as other:
            one.get("/login")
            assert "cookie" not in other.get("/headers").json()
            assert one.get("/headers").json()["cookie"] == "session=abc"

    def test_a_hundred_requests_at_once(self, run: Run) -> None:
        app = Vibora()
        together = [0, 0]

        @app.get("/<number>")
        async def answer(number: int) -> Response:
            together[0] += 1
            together[1] = max(together)
            await asyncio.sleep(0.01)
            together[0] -= 1
            return TextResponse(str(number))

        async def main() -> None:
            async with app.test_client() as client:
                answers = await asyncio.gather(*(client.get(f"/{number}") for number in range(100)))
                assert [answer.text for answer in answers] == [str(number) for number in range(100)]

        run(main())
        assert together == [0, 100]

    def test_a_request_that_is_given_up_cancels_its_handler(self, run: Run) -> None:
        app = Vibora()
        ends: list[str] = []

        @app.get("/")
        async def wait() -> Response:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                ends.append("cancelled")
                raise
            return Response()

        async def main() -> None:
            async with app.test_client() as client:
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.02):
                        await client.get("/")
                await client.settle()
                assert ends == ["cancelled"]
                with pytest.raises(httpx.ReadTimeout, match=r"nothing came for 0\.02 s"):
                    await client.get("/", timeout=0.02)

        run(main())
        assert ends == ["cancelled"] * 2

    def test_nothing_is_left_of_a_client(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.CRITICAL, "vibora")  # a record that is kept keeps the frames of its exception
        app = make_app()
        with app.test_client() as client:
            client.get("/")
            client.half_open(b"GET /boom HTTP/1.1\r\nHost: a\r\n\r\n")
            client.half_open()
            reference = weakref.ref(client._network.server)
        del client
        app._servers.clear()
        gc.collect()
        assert reference() is None

    def test_the_end_of_the_block_is_the_end_of_the_app(self) -> None:
        app = Vibora(server_limits=ServerLimits(graceful_timeout=0.02))
        ends: list[str] = []

        @app.post("/")
        async def work() -> Response:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                ends.append("cancelled")
                raise
            return Response()

        with app.test_client() as client:
            connection = client.slow_reader("/", method="POST")
            connection.disconnect()
            assert ends == []  # what is not safe may finish, though its client is gone
        assert ends == ["cancelled"]
        assert repr(connection) == "<Connection closed unread=0 unsent=0>"

    def test_without_httpx_the_message_says_what_to_install(self) -> None:
        code = "import sys; sys.modules['httpx'] = None\nfrom vibora import Vibora\nVibora().test_client()"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=30)
        assert done.stderr.endswith("ImportError: vibora.testing needs httpx: pip install 'vibora[testing]'\n")

    @pytest.mark.parametrize("options", [{"http_version": "HTTP/2"}])
    def test_options_are_checked(self, options: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match="http_version takes"):
            Vibora().test_client(**options)


class TestRawConnections:
    def test_says_and_hears_bytes(self, client: Client) -> None:
        with client.connect() as connection:
            connection.send(b"GET / HTTP/1.1\r\nHo")
            assert connection.unread == 0
            connection.send(b"st: a\r\n\r\n")
            assert connection.read_until(b"\r\n\r\n").startswith(b"HTTP/1.1 200 OK\r\n")
            assert connection.read_exactly(2) == b'{"'
            assert connection.is_open

    def test_what_is_not_http_is_answered_and_closed(self, client: Client) -> None:
        connection = client.connect()
        connection.send(b"hello?\r\n\r\n")
        assert connection.read_to_end().startswith(b"HTTP/1.1 400 Bad Request\r\n")
        assert not connection.is_open

    def test_pipelined_requests_are_answered_in_order(self, client: Client) -> None:
        with client.connect() as connection:
            connection.send(
                b"GET /nothing HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
            )
            heard = connection.read_to_end()
        assert heard.index(b"404") < heard.index(b"200")

    def test_half_closed_it_is_still_answered(self, client: Client) -> None:
        with client.connect() as connection:
            connection.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            connection.half_close()
            assert connection.read_to_end().endswith(b"}")
            with pytest.raises(BrokenPipeError):
                connection.send(b"more")

    def test_the_end_before_what_was_expected(self, client: Client) -> None:
        with client.connect() as connection:
            connection.half_close()
            with pytest.raises(EOFError, match="before b'x'"):
                connection.read_until(b"x")
        with client.connect() as connection:
            connection.half_close()
            with pytest.raises(EOFError, match="1 bytes early"):
                connection.read_exactly(1)

    def test_a_server_that_does_not_read_is_waited_for(self, run: Run) -> None:
        app = Vibora(server_limits=ServerLimits(read_buffer=1000))

        @app.post("/", limits=RouteLimits(max_body_size=None))
        async def busy(request: Request) -> Response:
            await asyncio.sleep(0.05)
            return TextResponse(str(len(await request.content())))

        async def main() -> None:
            async with app.test_client() as client, client.connect() as connection:
                await connection.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 500000\r\n\r\n")
                sending = asyncio.ensure_future(connection.send(b"x" * 500_000))
                await client.settle()
                assert not sending.done()
                await connection.read_until(b"\r\n\r\n500000")
                await sending

        run(main())

    def test_a_client_that_vanishes_while_it_is_not_read(self) -> None:
        app = Vibora(server_limits=ServerLimits(read_buffer=1000))
        clock = TestClock()
        ends: list[str] = []

        @app.get("/")
        async def busy() -> Response:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                ends.append("cancelled")
                raise
            return Response()

        with app.test_client(clock=clock) as client:
            for leave in ("half_close", "disconnect"):
                connection = client.connect()
                connection.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" + b"G" * 2000)
                getattr(connection, leave)()
                clock.advance(1)
                assert ends.pop() == "cancelled"

    @pytest.mark.parametrize("leave", ["disconnect", "close"])
    def test_a_handler_is_cancelled_when_its_client_goes_away(self, client: Client, leave: str) -> None:
        ends: list[str] = []

        @client.app.get("/wait")
        async def wait() -> StreamingResponse:
            async def stream() -> AsyncIterator[bytes]:
                try:
                    while True:
                        yield b"x"
                        await asyncio.sleep(0.001)
                finally:
                    ends.append("closed")

            return StreamingResponse(stream)

        connection = client.slow_reader("/wait")
        getattr(connection, leave)()
        client.run(asyncio.sleep(0.05))
        assert ends == ["closed"]

    def test_disconnecting_in_a_stream(self, client: Client) -> None:
        ends: list[str] = []

        @client.app.get("/wait")
        async def wait() -> StreamingResponse:
            async def stream() -> AsyncIterator[bytes]:
                try:
                    yield b"x"
                    await asyncio.Event().wait()
                finally:
                    ends.append("closed")

            return StreamingResponse(stream)

        with client.stream("GET", "/wait") as response:
            assert next(response.iter_raw()) == b"x"
            client.disconnect(response)
            assert ends == ["closed"]
        with pytest.raises(TypeError, match="a response of this client"):
            client.disconnect(httpx.Response(200))

    def test_the_apps_exceptions_stay_with_it(self, client: Client) -> None:
        with client.connect() as connection:
            connection.send(b"GET /boom HTTP/1.1\r\nHost: a\r\n\r\n")
            assert connection.read_until(b"\r\n").startswith(b"HTTP/1.1 500 ")

    def test_in_async(self, run: Run) -> None:
        async def main() -> None:
            async with make_app().test_client() as client:
                async with await client.half_open() as connection:
                    await connection.send(b"\r\n\r\n")
                    assert (await connection.read()).startswith(b"HTTP/1.1 200 ")
                async with await client.slow_reader("/", receive_buffer=0) as connection:
                    await client.settle()
                    assert (connection.unread, connection.unsent > 0) == (0, True)
                    assert await connection.read(4) == b"HTTP"
                connection = client.connect()
                reading = asyncio.ensure_future(connection.read())
                await client.settle()
                connection.disconnect()
                with pytest.raises(ConnectionResetError, match="reset here"):
                    await reading
                with pytest.raises(ConnectionResetError, match="reset here"):
                    await connection.send(b"x")
                async with client.connect() as connection:
                    pass
                with pytest.raises(ConnectionError, match="closed here"):
                    await connection.read()
                with pytest.raises(ValueError, match="receive_buffer takes 0 or more bytes, got -1"):
                    client.connect(receive_buffer=-1)

        run(main())


class Clocked:
    """A client of an app whose clock only the test moves."""

    def __init__(self, app: Vibora) -> None:
        self.clock = TestClock()
        self.app = app

    @contextlib.contextmanager
    def serve(self) -> Iterator[Client]:
        began = time.monotonic()
        with self.app.test_client(clock=self.clock) as client:
            yield client
        assert time.monotonic() - began < 9, "it took real time"


class TestClocks:
    def test_head_timeout_of_a_request_that_has_begun(self) -> None:
        clocked = Clocked(Vibora())
        with clocked.serve() as client:
            connection = client.half_open()
            clocked.clock.advance(9.9)
            assert connection.is_open
            clocked.clock.advance(0.1)
            assert connection.read_to_end().startswith(b"HTTP/1.1 408 ")

    def test_head_timeout_of_one_that_has_not(self) -> None:
        clocked = Clocked(Vibora(server_limits=ServerLimits(head_timeout=5, keep_alive_timeout=60)))
        with clocked.serve() as client:
            connection = client.connect()
            clocked.clock.advance(4.999)
            assert connection.is_open
            clocked.clock.advance(0.001)
            assert connection.read() == b""

    def test_a_head_that_comes_byte_by_byte(self) -> None:
        clocked = Clocked(Vibora())
        with clocked.serve() as client:
            connection = client.connect()
            for octet in b"GET / HTT":
                connection.send(bytes([octet]))
                clocked.clock.advance(1)
            assert connection.is_open
            connection.send(b"P")
            clocked.clock.advance(1)
            assert not connection.is_open

    def test_keep_alive_timeout(self) -> None:
        clocked = Clocked(make_app())
        with clocked.serve() as client:
            first = client.get("/").extensions["connection"]
            clocked.clock.advance(29.9)
            assert client.get("/").extensions["connection"] is first
            clocked.clock.advance(30)
            assert not first.is_open
            assert client.get("/").extensions["connection"] is not first

    def test_body_timeout(self) -> None:
        app = Vibora(route_limits=RouteLimits(body_timeout=10, min_body_rate=None, timeout=None))

        @app.post("/")
        async def upload(request: Request) -> Response:
            return TextResponse(str(len(await request.content())))

        clocked = Clocked(app)
        with clocked.serve() as client:
            connection = client.half_open(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n")
            for _ in range(3):
                clocked.clock.advance(9.9)
                connection.send(b"x")
            clocked.clock.advance(9.9)
            assert connection.unread == 0
            clocked.clock.advance(0.1)
            assert connection.read_until(b"\r\n").startswith(b"HTTP/1.1 408 ")

    @pytest.mark.parametrize("rate", [300, 200])
    def test_min_body_rate(self, rate: int) -> None:
        app = Vibora()

        @app.post("/", limits=RouteLimits(timeout=None))
        async def upload(request: Request) -> Response:
            return TextResponse(str(len(await request.content())))

        clocked = Clocked(app)
        with clocked.serve() as client:
            connection = client.half_open(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18000\r\n\r\n")
            sent = 0
            while sent < 18_000 and not connection.unread:
                connection.send(b"x" * rate)
                sent += rate
                clocked.clock.advance(1)
            assert connection.read(12) == (b"HTTP/1.1 200" if rate > 240 else b"HTTP/1.1 408")

    def test_route_timeout(self) -> None:
        app = Vibora(route_limits=RouteLimits(timeout=7))
        ends: list[str] = []

        @app.get("/")
        async def hang() -> Response:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                ends.append("cancelled")
                raise
            return Response()

        clocked = Clocked(app)
        with clocked.serve() as client:
            connection = client.slow_reader("/")
            clocked.clock.advance(6.99)
            assert (ends, connection.unread) == ([], 0)
            clocked.clock.advance(0.01)
            assert ends == ["cancelled"]
            assert connection.read_until(b"\r\n").startswith(b"HTTP/1.1 503 ")

    def test_what_is_due_on_the_way_happens_in_its_order(self) -> None:
        """A handler that is cancelled has 5 s to clean up: had the app no turn meanwhile, it would be given up."""
        app = Vibora(route_limits=RouteLimits(timeout=7))

        @app.get("/")
        async def hang() -> Response:
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0)
            return Response()

        clocked = Clocked(app)
        with clocked.serve() as client:
            connection = client.slow_reader("/")
            clocked.clock.advance(3600)
            assert connection.read_to_end().startswith(b"HTTP/1.1 503 ")

    def test_chunk_timeout_of_a_client_that_does_not_read(self) -> None:
        app = Vibora()

        @app.get("/")
        async def stream() -> StreamingResponse:
            async def pieces() -> AsyncIterator[bytes]:
                while True:
                    yield b"x" * 1000
                    await asyncio.sleep(0)

            return StreamingResponse(pieces, chunk_timeout=3)

        clocked = Clocked(app)
        with clocked.serve() as client:
            connection = client.slow_reader("/", receive_buffer=2000)
            clocked.clock.advance(2.9)
            connection.read_exactly(1500)
            clocked.clock.advance(0.5)
            assert not connection.is_open
            with pytest.raises(ConnectionResetError, match="the server has reset the connection"):
                connection.read_to_end()

    def test_chunk_timeout_does_not_count_what_the_generator_takes(self) -> None:
        app = Vibora()
        go = asyncio.Event()

        @app.get("/")
        async def stream() -> StreamingResponse:
            async def pieces() -> AsyncIterator[bytes]:
                yield b"one"
                await go.wait()
                yield b"two"

            return StreamingResponse(pieces, chunk_timeout=3)

        clocked = Clocked(app)
        with clocked.serve() as client, client.stream("GET", "/") as response:
            pieces = response.iter_bytes()
            assert next(pieces) == b"one"
            clocked.clock.advance(3600)
            go.set()
            assert next(pieces) == b"two"

    def test_complete_timeout(self) -> None:
        app = Vibora()

        @app.get("/")
        async def stream() -> StreamingResponse:
            async def pieces() -> AsyncIterator[bytes]:
                while True:
                    yield b"x" * 100
                    await asyncio.Event().wait()

            return StreamingResponse(pieces, complete_timeout=60)

        clocked = Clocked(app)
        with clocked.serve() as client, client.stream("GET", "/") as response:
            pieces = response.iter_bytes()
            assert next(pieces) == b"x" * 100
            clocked.clock.advance(59.9)
            assert response.extensions["connection"].is_open
            clocked.clock.advance(0.1)
            with pytest.raises(httpx.ReadError):
                next(pieces)

    def test_in_async_it_is_awaited(self, run: Run) -> None:
        app = Vibora()

        @app.get("/")
        async def hang() -> Response:
            await asyncio.Event().wait()
            return Response()

        async def main() -> None:
            clock = TestClock()
            async with app.test_client(clock=clock) as client, app.test_client(clock=clock) as other:
                asking = [asyncio.ensure_future(each.get("/")) for each in (client, other)]
                await clock.advance(29)
                assert not any(each.done() for each in asking)
                late = asyncio.ensure_future(client.get("/"))
                clock.advance(0.5)
                await clock.advance(0.5)
                assert [(await each).status_code for each in asking] == [503, 503]
                assert (clock.seconds, repr(clock), late.done()) == (30, "<TestClock at 30 s>", False)
                late.cancel()

        run(main())

    def test_it_goes_only_forward(self) -> None:
        clock = TestClock()
        clock.advance(1.5)
        assert (clock.seconds, clock.milliseconds) == (1.5, 1500)
        with pytest.raises(ValueError, match="0 or more seconds, got -1"):
            clock.advance(-1)
        with pytest.raises(ValueError, match="does not go back"):
            clock.move_to(1)

    def test_it_takes_one_kind_of_client(self, run: Run) -> None:
        clock = TestClock()
        with Vibora().test_client(clock=clock):

            async def main() -> None:
                async with Vibora().test_client(clock=clock):
                    with pytest.raises(RuntimeError, match="share this clock"):
                        clock.advance(1)

            run(main())


class TestTheTransport:
    """Where the core's behaviour depends on the transport, the one in memory does what sockets do."""

    @pytest.mark.parametrize(
        "said",
        [
            b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            b"GET / HTTP/1.0\r\n\r\n",
            b"HEAD / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
            b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n" * 3,
            b"POST /shout HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
            b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
            b"GET / HTTP/1.1\r\n\r\n",
            b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 40_000 + b"\r\n\r\n",
            b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n",
            b"\x16\x03\x01\x02",
            b"",
        ],
        ids=lambda said: repr(said[:24]),
    )
    def test_hears_what_a_socket_hears(self, serve: "Serve", said: bytes) -> None:
        with serve(make_app()).connect() as peer:
            peer.send(said)
            peer.half_close()
            over_a_socket = peer.read_to_end()
        with make_app().test_client() as client, client.connect() as connection:
            connection.send(said)
            connection.half_close()
            in_memory = connection.read_to_end()
        date = re.compile(rb"date: [^\r]*")
        assert date.sub(b"", in_memory) == date.sub(b"", over_a_socket)

    def test_keeps_the_rules_of_asyncio(self, run: Run) -> None:
        async def main() -> None:
            calls: list[object] = []

            class Protocol(asyncio.Protocol):
                transport: Any

                def connection_made(self, transport: asyncio.BaseTransport) -> None:
                    self.transport = transport

                def data_received(self, data: bytes) -> None:
                    calls.append(bytes(data))

                def eof_received(self) -> bool:
                    calls.append("eof")
                    return False

                def pause_writing(self) -> None:
                    calls.append("pause")

                def resume_writing(self) -> None:
                    calls.append("resume")

                def connection_lost(self, exc: Exception | None) -> None:
                    calls.append(type(exc))

            protocol = Protocol()
            address = ("127.0.0.1", 1)
            client = connect(
                protocol,
                context=contextvars.copy_context(),
                extra={"peername": address},
                receive_buffer=10,
            )
            await asyncio.sleep(0)
            transport = protocol.transport
            assert transport.get_extra_info("peername") == address
            assert transport.get_extra_info("socket") is None
            assert transport.get_extra_info("cipher", "none") == "none"
            assert transport.get_write_buffer_limits() == (16 * 1024, 64 * 1024)
            transport.set_write_buffer_limits(high=20)
            assert transport.get_write_buffer_limits() == (5, 20)
            with pytest.raises(ValueError, match="must be >= low"):
                transport.set_write_buffer_limits(high=1, low=2)
            transport.writelines([b"x" * 10, b"y" * 20])
            assert (calls, transport.get_write_buffer_size()) == ([], 20)
            transport.write(b"z")
            assert calls == ["pause"]
            assert await client.read(10) == b"x" * 10
            assert calls == ["pause"]  # not from within a call of the client's
            assert await client.read_exactly(21) == b"y" * 20 + b"z"
            await asyncio.sleep(0)
            assert calls == ["pause", "resume"]
            calls.clear()
            transport.pause_reading()
            assert not transport.is_reading()
            await client.send(b"abc")
            await asyncio.sleep(0.001)
            assert calls == []
            transport.resume_reading()
            client.half_close()
            transport.write(b"bye")
            await asyncio.sleep(0.001)
            assert calls == [b"abc", "eof", type(None)]
            assert transport.is_closing()
            transport.write(b"too late")
            assert await client.read_to_end() == b"bye"

        run(main())

    def test_a_unix_socket_is_as_good(self, run: Run) -> None:
        """The core wants nothing of TCP: it does without the options, the address and the port."""
        app = make_app()

        async def main() -> None:
            loop = asyncio.get_running_loop()
            async with await app.start_server(()) as server:
                ours, theirs = socket.socketpair()
                await loop.connect_accepted_socket(server.protocol, theirs)
                reader, writer = await asyncio.open_connection(sock=ours)
                writer.write(b"GET /broken HTTP/1.1\r\nHost: a\r\n\r\n")
                assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
                with contextlib.suppress(ConnectionResetError):
                    assert (await reader.read()).endswith(b"so far\r\n")
                writer.close()
                ours, theirs = socket.socketpair()
                await loop.connect_accepted_socket(server.protocol, theirs)
                reader, writer = await asyncio.open_connection(sock=ours)
                for path in (b"/", b"/nothing"):
                    writer.write(b"GET %s HTTP/1.1\r\nHost: a\r\n\r\n" % path)
                    await reader.readuntil(b"\r\n\r\n")
                writer.close()

        run(main())

    def test_a_server_without_sockets_has_no_address(self, run: Run) -> None:
        async def main() -> None:
            async with await make_app().start_server(()) as server:
                assert isinstance(server, Server)
                with pytest.raises(RuntimeError, match="listens on no socket"):
                    _ = server.url

        run(main())


class TestLifespan:
    def test_hooks_run_around_the_block(self) -> None:
        app = Vibora()
        seen: list[str] = []
        loops: set[int] = set()

        @app.handle(Events.BEFORE_SERVER_START)
        async def before() -> None:
            await asyncio.sleep(0)
            loops.add(id(asyncio.get_running_loop()))
            seen.append("before start")

        @app.handle(Events.AFTER_SERVER_START)
        def after() -> None:
            seen.append("after start")

        @app.handle(Events.BEFORE_SERVER_STOP)
        async def stop() -> None:
            loops.add(id(asyncio.get_running_loop()))
            seen.append("before stop")

        @app.get("/")
        async def home() -> Response:
            loops.add(id(asyncio.get_running_loop()))
            seen.append("request")
            return Response()

        for _ in range(2):
            loops.clear()
            with app.test_client() as client:
                assert seen.pop(0) == "before start"
                client.get("/")
            assert seen == ["after start", "request", "before stop"]
            assert len(loops) == 1
            seen.clear()

    def test_a_hook_that_fails_fails_the_block(self) -> None:
        app = Vibora()

        @app.handle(Events.BEFORE_SERVER_START)
        async def before() -> None:
            raise LookupError("no database")

        for _ in range(2):
            with pytest.raises(LookupError, match="no database"), app.test_client():
                pytest.fail("it must not be entered")

    def test_what_the_app_handles_is_no_failure(self) -> None:
        app = Vibora()

        @app.handle(LookupError)
        async def missing(error: LookupError) -> Response:
            return TextResponse(str(error), 404)

        @app.get("/")
        async def home() -> Response:
            raise LookupError("gone")

        with app.test_client() as client:
            response = client.get("/")
        assert (response.status_code, response.text) == (404, "gone")
