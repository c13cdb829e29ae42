"""An app: registering handlers, answering, failing, starting and stopping inside a program's own loop."""

import asyncio
import copy
import errno
import logging
import pickle
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from vibora import (
    BadRequest,
    ConfigurationError,
    Events,
    HTTPError,
    JsonResponse,
    MethodNotAllowed,
    NotFound,
    Request,
    Response,
    RouteLimits,
    ServerLimits,
    TextResponse,
    Vibora,
    abort,
)
from vibora.exceptions import CannotListen

if TYPE_CHECKING:
    from conftest import Serve


async def hello() -> Response:
    return TextResponse("hello")


def pickled(value: object) -> object:
    return pickle.loads(pickle.dumps(value))  # noqa: S301  it was pickled here


class TestRegistration:
    def test_decorators_return_the_handler_as_it_is(self) -> None:
        app = Vibora()
        assert app.route("/")(hello) is hello
        assert app.get("/again")(hello) is hello
        assert app.post("/again")(hello) is hello

    @pytest.mark.parametrize("verb", ["get", "post", "put", "patch", "delete", "head", "options"])
    def test_each_verb_registers_its_method(self, verb: str) -> None:
        app = Vibora()
        getattr(app, verb)("/", name="root")(hello)
        (route,) = app.routes
        assert (route.methods, route.pattern, route.name, route.handler) == ([verb.upper()], "/", "root", hello)

    def test_routes_have_the_name_of_their_handler(self) -> None:
        app = Vibora()
        app.get("/")(hello)
        assert app.routes[0].name == "hello"

    def test_methods_are_names_in_any_case_and_one_may_stand_alone(self) -> None:
        app = Vibora()
        app.route("/", methods=["get", "Post", "GET"])(hello)
        app.route("/one", "purge")(hello)
        assert [route.methods for route in app.routes] == [["GET", "POST"], ["PURGE"]]

    def test_routes_can_be_added_while_the_app_is_served(self, serve: "Serve") -> None:
        app = Vibora()
        served = serve(app)
        assert served.ask("/").status == 404
        app.get("/")(hello)
        assert served.ask("/").text == "hello"


class TestMethods:
    """RFC 9110 §9.3.2, §9.3.7, §15.5.6."""

    @pytest.fixture
    def app(self) -> Vibora:
        app = Vibora()
        app.get("/")(hello)
        app.post("/")(hello)
        return app

    def test_head_comes_with_get(self, serve: "Serve", app: Vibora) -> None:
        answer = serve(app).ask("/", "HEAD")
        assert (answer.status, answer.get("content-length"), answer.content) == (200, "5", b"")

    def test_options_comes_by_itself(self, serve: "Serve", app: Vibora) -> None:
        answer = serve(app).ask("/", "OPTIONS")
        assert answer.status == 204
        assert set((answer.get("allow") or "").split(", ")) == {"GET", "HEAD", "OPTIONS", "POST"}

    def test_another_method_is_not_allowed(self, serve: "Serve", app: Vibora) -> None:
        answer = serve(app).ask("/", "DELETE")
        assert answer.status == 405
        assert set((answer.get("allow") or "").split(", ")) == {"GET", "HEAD", "OPTIONS", "POST"}

    def test_a_handler_of_its_own_comes_first(self, serve: "Serve", app: Vibora) -> None:
        @app.options("/")
        async def options() -> Response:
            return TextResponse("mine")

        assert serve(app).ask("/", "OPTIONS").text == "mine"


class TestErrors:
    """An HTTPError is an answer. Anything else is a failure: 500 for the client, a record with the traceback for us."""

    def test_an_http_error_is_an_answer(self, serve: "Serve") -> None:
        app = Vibora()

        @app.get("/<status>")
        async def fail(status: int) -> Response:
            raise HTTPError(status, "no tea", {"x-pot": "short and stout"})

        served = serve(app)
        answer = served.ask("/418")
        assert (answer.status, answer.text, answer.get("x-pot")) == (418, "no tea", "short and stout")
        assert not served.log

    def test_abort_raises_the_class_of_the_status(self) -> None:
        with pytest.raises(NotFound, match="404 no such user"):
            abort(404, "no such user")
        with pytest.raises(MethodNotAllowed, match="405 Method Not Allowed"):
            abort(405)
        with pytest.raises(HTTPError, match="451 Unavailable For Legal Reasons"):
            abort(451)
        with pytest.raises(HTTPError, match="499 Error"):
            abort(499)

    @pytest.mark.parametrize("status", [200, 302, 399, 600])
    def test_success_is_no_error(self, status: int) -> None:
        with pytest.raises(ValueError, match=f"an error status is between 400 and 599, got {status}"):
            abort(status)

    def test_method_not_allowed_says_what_is(self) -> None:
        assert MethodNotAllowed(["GET", "HEAD"]).headers == {"allow": "GET, HEAD"}
        assert MethodNotAllowed("GET", headers={"x": "y"}).headers == {"x": "y", "allow": "GET"}

    @pytest.mark.parametrize("error", [NotFound("gone"), HTTPError(499), MethodNotAllowed(["GET"], "no")], ids=repr)
    @pytest.mark.parametrize("clone", [copy.copy, pickled])
    def test_errors_can_be_copied_and_pickled(self, error: HTTPError, clone: Callable[[Any], Any]) -> None:
        other = clone(error)
        assert type(other) is type(error)
        assert vars(other) == vars(error)
        assert (str(other), repr(other)) == (str(error), repr(error))

    def test_errors_show_how_they_were_made(self) -> None:
        assert repr(NotFound("gone")) == "NotFound('gone')"
        assert repr(HTTPError(418, "a teapot")) == "HTTPError(418, 'a teapot')"

    @pytest.mark.parametrize("kind", ["async def", "def"])
    def test_a_failure_is_logged_once_with_traceback_route_and_handler(self, serve: "Serve", kind: str) -> None:
        app = Vibora()

        def function(name: str) -> Response:
            raise LookupError(name)

        async def coroutine_function(name: str) -> Response:
            raise LookupError(name)

        fail: Callable[[str], object] = function if kind == "def" else coroutine_function
        app.add_route("/users/<name>", fail, name="user")
        served = serve(app)
        answer = served.ask("/users/caf%C3%A9")
        assert (answer.status, answer.text) == (500, "Internal Server Error")
        (record,) = served.log
        assert (record.name, record.levelno) == ("vibora.error", logging.ERROR)
        place = f"tests/test_app.py:{fail.__code__.co_firstlineno}"
        assert record.getMessage() == (
            f"GET /users/caf%C3%A9 in route 'user' (/users/<name>), handler {fail.__module__}.{fail.__qualname__} "
            f"({place}) failed: LookupError('café')"
        )
        assert record.exc_info is not None
        assert isinstance(record.exc_info[1], LookupError)
        assert record.exc_info[2] is not None

    def test_debug_shows_the_traceback_to_the_client(self, serve: "Serve") -> None:
        app = Vibora()

        @app.get("/")
        async def fail() -> Response:
            raise LookupError("what was looked for")

        answer = serve(app, debug=True).ask("/")
        assert answer.status == 500
        assert answer.text.startswith("Traceback (most recent call last):\n")
        assert answer.text.endswith("LookupError: what was looked for\n")

    @pytest.mark.parametrize("value", [None, "text", b"bytes", {"a": 1}, 404], ids=repr)
    @pytest.mark.parametrize("kind", ["direct", "task", "thread", "inline"])
    def test_a_handler_that_returns_no_response(self, serve: "Serve", value: object, kind: str) -> None:
        app = Vibora()

        async def direct() -> object:
            return value

        async def task() -> object:
            await asyncio.sleep(0)
            return value

        def function() -> object:
            return value

        handler: Callable[[], object] = {"direct": direct, "task": task}.get(kind, function)
        app.add_route("/x", handler, inline=kind == "inline", name="wrong")
        served = serve(app)
        assert served.ask("/x").status == 500
        (record,) = served.log
        message = record.getMessage()
        assert "'wrong'" in message
        assert handler.__qualname__ in message
        assert type(value).__name__ in message

    @pytest.mark.filterwarnings("ignore:.*coroutine 'hello' was never awaited")
    def test_a_handler_that_forgets_to_await(self, serve: "Serve") -> None:
        app = Vibora()

        @app.get("/")
        def forgetful() -> object:
            return hello()

        served = serve(app)
        assert served.ask("/").status == 500
        assert "coroutine" in served.errors[0].getMessage()

    def test_an_error_that_cannot_be_sent_is_still_a_500(self, serve: "Serve") -> None:
        app = Vibora()

        @app.get("/")
        async def fail() -> Response:
            raise BadRequest("\udcff", {"x": "a\r\nb"})

        served = serve(app)
        assert served.ask("/").status == 500
        assert served.errors

    def test_the_server_goes_on_after_a_failure(self, serve: "Serve") -> None:
        app = Vibora()
        app.get("/hello")(hello)

        @app.get("/")
        async def fail() -> Response:
            raise LookupError

        served = serve(app)
        with served.connect() as peer:
            assert [peer.ask(target).status for target in ("/", "/hello", "/", "/hello")] == [500, 200, 500, 200]


class TestStartAndStop:
    """`await app.start()` serves in the loop of the program, and gives the server."""

    def test_it_starts_serves_and_stops(self, run: Callable[..., Any]) -> None:
        app = Vibora()
        app.get("/")(hello)

        async def main() -> None:
            async with await app.start(port=0) as server:
                assert server.url == f"http://127.0.0.1:{server.port}"
                reader, writer = await asyncio.open_connection(server.host, server.port)
                writer.write(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
                assert (await reader.readuntil(b"hello")).startswith(b"HTTP/1.1 200 OK\r\n")
                assert (server.connections, server.requests) == (1, 1)
            assert await reader.read() == b""
            writer.close()
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection(server.host, server.port)
            assert server.connections == 0

        run(main())

    def test_what_a_hook_adds_it_adds_anew_at_each_start(self) -> None:
        class Pool:
            made = 0

        app = Vibora()

        @app.handle(Events.BEFORE_SERVER_START)
        def connect(app: Vibora) -> None:
            app.add_component(Pool())
            app.components[Pool].made = Pool.made = Pool.made + 1

        @app.get("/")
        async def handler(pool: Pool) -> Response:
            return Response(str(pool.made))

        for number in (1, 2):
            with app.test_client() as client, app.test_client() as other:
                assert (client.get("/").text, other.get("/").text) == (str(2 * number - 1), str(2 * number))

        @app.handle(Events.BEFORE_SERVER_START)
        def connect_again(app: Vibora) -> None:
            app.add_component(Pool())

        with pytest.raises(ConfigurationError, match=r"there is a component of type .*Pool already"), app.test_client():
            pass

    def test_it_can_be_served_twice_at_once_and_again(self, run: Callable[..., Any]) -> None:
        app = Vibora()

        async def main() -> None:
            first, second = await app.start(port=0), await app.start(port=0)
            assert first.port != second.port
            await first.stop()
            async with await app.start(port=first.port) as again:
                assert again.port == first.port
            await second.stop()

        run(main())

    def test_shutdown_stops_every_server(self, run: Callable[..., Any]) -> None:
        app = Vibora()

        async def main() -> None:
            servers = [await app.start(port=0), await app.start(port=0)]
            app.shutdown()
            for server in servers:
                await server.wait_stopped()
                assert server.is_stopped

        run(main())

    def test_stopping_twice_is_stopping_once(self, run: Callable[..., Any]) -> None:
        async def main() -> None:
            server = await Vibora().start(port=0)
            await asyncio.gather(server.stop(), server.stop(), server.wait_stopped())
            await server.stop()
            server.shutdown()

        run(main())

    def test_a_request_that_is_being_answered_may_end(self, run: Callable[..., Any]) -> None:
        app = Vibora()
        entered, release = asyncio.Event(), asyncio.Event()

        @app.get("/")
        async def slow() -> Response:
            entered.set()
            await release.wait()
            return TextResponse("in the end")

        async def main() -> None:
            server = await app.start(port=0)
            reader, writer = await asyncio.open_connection(server.host, server.port)
            writer.write(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
            await entered.wait()
            stopping = asyncio.create_task(server.stop())
            await asyncio.sleep(0)
            release.set()
            answer = await reader.read()
            assert b"connection: close" in answer.lower()
            assert answer.endswith(b"in the end")
            writer.close()
            await stopping

        run(main())

    @pytest.mark.parametrize("how", ["timeout", "hurry", "cancel"])
    def test_what_does_not_end_in_time_is_cancelled(
        self, run: Callable[..., Any], how: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        app = Vibora(server_limits=ServerLimits(graceful_timeout=0.05 if how == "timeout" else 60))
        entered = asyncio.Event()
        ends: list[str] = []

        @app.get("/")
        async def endless() -> Response:
            entered.set()
            try:
                await asyncio.Event().wait()
            finally:
                ends.append("cleaned up")
            return Response()

        async def main() -> None:
            server = await app.start(port=0)
            _, writer = await asyncio.open_connection(server.host, server.port)
            writer.write(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
            await entered.wait()
            stopping = asyncio.create_task(server.stop())
            await asyncio.sleep(0)
            if how == "hurry":
                server.shutdown(hurry=True)
            elif how == "cancel":
                stopping.cancel()
            await asyncio.wait([stopping])
            assert stopping.cancelled() == (how == "cancel")
            assert ends == ["cleaned up"]
            assert server.connections == 0
            writer.close()

        with caplog.at_level(logging.WARNING, "vibora"):
            run(main())
        assert "stopping: cancelled 1 exchanges that had not ended" in caplog.messages

    def test_what_refuses_to_be_cancelled_is_aborted(
        self, run: Callable[..., Any], caplog: pytest.LogCaptureFixture
    ) -> None:
        app = Vibora(server_limits=ServerLimits(graceful_timeout=0))
        entered, release = asyncio.Event(), asyncio.Event()

        @app.get("/")
        async def stubborn() -> Response:
            entered.set()
            while not release.is_set():
                try:
                    await release.wait()
                except asyncio.CancelledError:
                    continue
            return Response()

        async def main() -> None:
            server = await app.start(port=0)
            reader, writer = await asyncio.open_connection(server.host, server.port)
            writer.write(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
            await entered.wait()
            await server.stop()
            with pytest.raises(ConnectionResetError):
                await reader.read()
            writer.close()
            release.set()
            await asyncio.sleep(0)

        with caplog.at_level(logging.WARNING, "vibora"):
            run(main())
        assert "stopping: aborted 1 connections" in caplog.messages


class TestServe:
    """`await app.serve()` returns when the app is shut down, or its task is cancelled."""

    def test_a_handler_can_shut_the_app_down(self, run: Callable[..., Any], free_port: int) -> None:
        app = Vibora()

        @app.get("/stop")
        def stop() -> Response:
            app.shutdown()  # from a thread
            return TextResponse("bye")

        async def main() -> None:
            serving = asyncio.create_task(app.serve(port=free_port))
            await asyncio.sleep(0)
            reader, writer = await asyncio.open_connection("127.0.0.1", free_port)
            writer.write(b"GET /stop HTTP/1.1\r\nHost: test\r\n\r\n")
            assert (await reader.read()).endswith(b"bye")
            writer.close()
            await serving

        run(main())

    def test_cancelling_stops_it_before_the_task_ends(self, run: Callable[..., Any], free_port: int) -> None:
        app = Vibora()

        async def main() -> None:
            serving = asyncio.create_task(app.serve(port=free_port))
            await asyncio.sleep(0)
            reader, writer = await asyncio.open_connection("127.0.0.1", free_port)
            serving.cancel()
            assert await reader.read() == b""
            with pytest.raises(asyncio.CancelledError):
                await serving
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection("127.0.0.1", free_port)
            writer.close()

        run(main())

    def test_run_inside_a_loop_says_what_to_do(self, run: Callable[..., Any]) -> None:
        async def main() -> None:
            with pytest.raises(RuntimeError, match=r"await app.serve\(...\) in it, instead of app.run"):
                Vibora().run()

        run(main())


class TestSockets:
    def test_a_port_in_use_says_what_to_do(self, run: Callable[..., Any]) -> None:
        async def main() -> None:
            async with await Vibora().start(port=0) as server:
                with pytest.raises(CannotListen) as caught:
                    await Vibora().start(port=server.port)
                assert str(caught.value) == (
                    f"cannot listen on 127.0.0.1:{server.port}: address already in use; "
                    "stop the other server or choose another port with port="
                )
                assert isinstance(caught.value, OSError)
                assert caught.value.errno == errno.EADDRINUSE

        run(main())

    @pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
    def test_a_host_that_is_not_here_says_what_to_do(self, run: Callable[..., Any], host: str) -> None:
        async def main() -> None:
            with pytest.raises(CannotListen, match=f"cannot listen on {host}:5000: .*; choose another host with host="):
                await Vibora().start(host, 5000)

        run(main())

    @pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")
    def test_ipv6(self, run: Callable[..., Any]) -> None:
        app = Vibora()

        @app.get("/")
        async def client(request: Request) -> Response:
            return JsonResponse(request.client)

        async def ask(host: str, port: int) -> bytes:
            reader, writer = await asyncio.open_connection(host, port)
            writer.write(b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
            answer = await reader.read()
            writer.close()
            return answer.partition(b"\r\n\r\n")[2]

        async def main() -> None:
            async with await app.start("::1", 0) as server:
                assert server.url == f"http://[::1]:{server.port}"
                assert (await ask("::1", server.port)).startswith(b'["::1",')
            async with await app.start("::", 0) as server:
                assert (await ask("::1", server.port)).startswith(b'["::1",')
                assert b"127.0.0.1" in await ask("127.0.0.1", server.port)

        run(main())

    def test_a_name_is_served_on_all_its_addresses_with_one_port(self, run: Callable[..., Any]) -> None:
        async def main() -> None:
            async with await Vibora().start("localhost", 0) as server:
                assert {sock.getsockname()[1] for sock in server.sockets} == {server.port}

        run(main())

    def test_a_socket_of_the_program(self, run: Callable[..., Any]) -> None:
        async def main() -> None:
            sock = socket.create_server(("127.0.0.1", 0))
            port = sock.getsockname()[1]
            async with await Vibora().start(sock=sock) as server:
                assert (server.host, server.port) == ("127.0.0.1", port)

        run(main())


class TestLimitsSayWhatTheyTake:
    @pytest.mark.parametrize("value", [-1, float("nan"), float("inf"), "10", True], ids=repr)
    def test_refuses_a_timeout(self, value: Any) -> None:
        with pytest.raises(
            ConfigurationError, match=r"ServerLimits.head_timeout takes seconds, 0 or None for none, got"
        ):
            ServerLimits(head_timeout=value)

    @pytest.mark.parametrize("value", [-1, 0, 1.5, None, "10", True], ids=repr)
    def test_refuses_a_size(self, value: Any) -> None:
        with pytest.raises(
            ConfigurationError, match=r"ServerLimits.write_buffer takes a whole number of at least 1, got"
        ):
            ServerLimits(write_buffer=value)

    @pytest.mark.parametrize("value", [0, None])
    def test_a_limit_of_a_route_can_be_off(self, value: Any) -> None:
        RouteLimits(max_body_size=value, timeout=value, body_timeout=value, min_body_rate=value)
