"""How handlers are read: what they are called with, how values are converted, how they are run."""

import asyncio
import functools
import threading
import types
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from datetime import date
from typing import TYPE_CHECKING, Annotated, Any, NewType, Optional, ParamSpec
from urllib.parse import quote
from uuid import UUID

import pytest

from vibora import ConfigurationError, Request, Response, RouteLimits, TextResponse, Vibora
from vibora.exceptions import DuplicateRoute

if TYPE_CHECKING:
    from conftest import Serve

P = ParamSpec("P")
UserId = NewType("UserId", int)


async def show(*values: object) -> Response:
    return TextResponse(" ".join(map(repr, values)))


class TestConversion:
    """A path parameter is converted to the type that the handler's parameter is annotated with."""

    @pytest.mark.parametrize(
        ("annotation", "segment", "value"),
        [
            (str, "caf%C3%A9%20%2F", "café /"),
            (int, "42", 42),
            (int, "-7", -7),
            (int, "123456789012345678901234567890", 123456789012345678901234567890),
            (float, "2.5", 2.5),
            (float, "1e3", 1000.0),
            (bool, "true", True),
            (bool, "0", False),
            (UUID, "6ba7b810-9dad-11d1-80b4-00c04fd430c8", UUID("6ba7b810-9dad-11d1-80b4-00c04fd430c8")),
            (date, "2024-02-29", date(2024, 2, 29)),
            (Optional[int], "42", 42),  # noqa: UP045  the old spelling works too
            (int | None, "42", 42),
            (Annotated[int, "an id"], "42", 42),
            (Annotated[int | None, "an id"], "42", 42),
            (UserId, "42", 42),
            ("int", "42", 42),
            ("UUID", "6ba7b810-9dad-11d1-80b4-00c04fd430c8", UUID("6ba7b810-9dad-11d1-80b4-00c04fd430c8")),
        ],
        ids=repr,
    )
    def test_converts(self, serve: "Serve", annotation: object, segment: str, value: object) -> None:
        async def handler(value: object) -> Response:
            return await show(type(value), value)

        handler.__annotations__["value"] = annotation
        app = Vibora()
        app.add_route("/<value>", handler)
        assert serve(app).ask(f"/{segment}").text == f"{type(value)!r} {value!r}"

    @pytest.mark.parametrize(
        ("annotation", "segment"),
        [
            (int, "x"),
            (int, "4.2"),
            (int, "1_000"),
            (int, "%2042"),
            (int, "٤٢"),
            (int, "9" * 5000),
            (float, "nan"),
            (float, "inf"),
            (float, "1_0.0"),
            (bool, "yes"),
            (UUID, "6ba7b8109dad11d180b400c04fd430c8"),
            (date, "2023-02-29"),
            (date, "20240229"),
            (str, "%ff"),
        ],
    )
    def test_what_cannot_be_converted_is_not_found(self, serve: "Serve", annotation: object, segment: str) -> None:
        async def handler(value: object) -> Response:
            return await show(value)

        handler.__annotations__["value"] = annotation
        app = Vibora()
        app.add_route("/<value>", handler)
        served = serve(app)
        assert served.ask(f"/{quote(segment, safe='%')}").status == 404
        assert not served.log

    def test_the_rest_of_the_path_keeps_its_slashes(self, serve: "Serve") -> None:
        app = Vibora()

        @app.get("/files/<*path>")
        async def files(path: str) -> Response:
            return await show(path)

        served = serve(app)
        assert served.ask("/files/a/b%20c/d.txt").text == "'a/b c/d.txt'"
        assert served.ask("/files/").text == "''"

    def test_parameters_that_the_handler_does_not_name_are_in_path_params(self, serve: "Serve") -> None:
        app = Vibora()

        @app.get("/<year>/<month>")
        async def archive(request: Request, year: int) -> Response:
            return await show(year, request.path_params)

        assert serve(app).ask("/2024/02").text == "2024 {'year': 2024, 'month': '02'}"


class TestArguments:
    """What a handler is called with follows from its signature."""

    @staticmethod
    def ask(serve: "Serve", handler: Callable[..., Any], target: str = "/5/six", pattern: str = "/<a>/<b>") -> str:
        app = Vibora()
        app.add_route(pattern, handler)
        served = serve(app)
        answer = served.ask(target)
        assert answer.status == 200, [record.getMessage() for record in served.log]
        return answer.text

    def test_nothing(self, serve: "Serve") -> None:
        async def handler() -> Response:
            return await show()

        assert self.ask(serve, handler) == ""

    def test_the_request_by_annotation_at_any_place(self, serve: "Serve") -> None:
        async def handler(b: str, r: Request, a: int) -> Response:
            return await show(b, r.path, a)

        assert self.ask(serve, handler) == "'six' '/5/six' 5"

    def test_the_request_by_name_without_annotation(self, serve: "Serve") -> None:
        async def handler(request, a):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
            return await show(request.path, a)

        assert self.ask(serve, handler) == "'/5/six' '5'"

    def test_a_path_parameter_may_be_called_request(self, serve: "Serve") -> None:
        async def handler(request, other: Request):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
            return await show(request, other.path)

        assert self.ask(serve, handler, "/x", "/<request>") == "'x' '/x'"

    def test_an_annotation_that_only_type_checkers_can_see(self, serve: "Serve") -> None:
        async def handler(r: object, a: object) -> Response:
            return await show(type(r).__name__, a)

        handler.__annotations__.update(r="Request", a="UUID")
        module = types.ModuleType("elsewhere")  # where neither is imported
        hidden = types.FunctionType(handler.__code__, {**vars(module), "show": show}, "handler")
        hidden.__annotations__ = handler.__annotations__
        target = "/6ba7b810-9dad-11d1-80b4-00c04fd430c8/six"
        assert self.ask(serve, hidden, target) == "'Request' UUID('6ba7b810-9dad-11d1-80b4-00c04fd430c8')"

    def test_parameters_with_defaults_are_left_alone(self, serve: "Serve") -> None:
        async def handler(page: int = 1, a: int = 0, size: "Nowhere" = 10, *, b: str, sort: str = "up") -> Response:  # type: ignore[name-defined]  # noqa: F821
            return await show(page, a, size, b, sort)

        assert self.ask(serve, handler) == "1 5 10 'six' 'up'"

    def test_positional_only_and_keyword_only(self, serve: "Serve") -> None:
        async def handler(first: str = "f", a: int = 0, /, *, r: Request, b: str) -> Response:
            return await show(first, a, r.path, b)

        assert self.ask(serve, handler) == "'f' 5 '/5/six' 'six'"

    def test_variadic_parameters_get_nothing(self, serve: "Serve") -> None:
        async def handler(a: int, *args: object, **kwargs: object) -> Response:
            return await show(a, args, kwargs)

        assert self.ask(serve, handler) == "5 () {}"

    def test_a_partial(self, serve: "Serve") -> None:
        async def handler(store: str, a: int, *, b: str, flag: bool) -> Response:
            return await show(store, a, b, flag)

        assert self.ask(serve, functools.partial(handler, "store", flag=True)) == "'store' 5 'six' True"

    def test_a_partial_that_binds_a_parameter_of_the_path(self, serve: "Serve") -> None:
        async def handler(a: int, b: str) -> Response:
            return await show(a, b)

        assert self.ask(serve, functools.partial(handler, b="bound")) == "5 'bound'"

    def test_a_callable_object(self, serve: "Serve") -> None:
        class Handler:
            async def __call__(self, a: int) -> Response:
                return await show(type(self).__name__, a)

        assert self.ask(serve, Handler()) == "'Handler' 5"

    def test_a_bound_method(self, serve: "Serve") -> None:
        class Controller:
            async def handler(self, request: Request, a: int) -> Response:
                return await show(type(self).__name__, request.path, a)

        assert self.ask(serve, Controller().handler) == "'Controller' '/5/six' 5"

    def test_a_wrapper_that_passes_everything_on_is_seen_through(self, serve: "Serve") -> None:
        def traced(
            handler: Callable[P, Coroutine[Any, Any, Response]],
        ) -> Callable[P, Coroutine[Any, Any, Response]]:
            @functools.wraps(handler)
            async def wrapper(*args: P.args, **kwargs: P.kwargs) -> Response:
                return await handler(*args, **kwargs)

            return wrapper

        @traced
        async def handler(b: str, *, a: int) -> Response:
            return await show(b, a)

        assert self.ask(serve, handler) == "'six' 5"

    def test_a_wrapper_with_arguments_of_its_own_is_called_with_those(self, serve: "Serve") -> None:
        def with_user(
            handler: Callable[[Request, str], Coroutine[Any, Any, Response]],
        ) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            @functools.wraps(handler)
            async def wrapper(request: Request) -> Response:
                return await handler(request, "a user")

            return wrapper

        @with_user
        async def handler(request: Request, user: str) -> Response:
            return await show(request.path, user)

        assert self.ask(serve, handler) == "'/5/six' 'a user'"

    def test_a_plain_wrapper_of_a_coroutine_function(self, serve: "Serve") -> None:
        def checked(handler: Callable[P, Coroutine[Any, Any, Response]]) -> Callable[P, Coroutine[Any, Any, Response]]:
            @functools.wraps(handler)
            def wrapper(*args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, Response]:
                return handler(*args, **kwargs)

            return wrapper

        @checked
        async def handler(a: int) -> Response:
            await asyncio.sleep(0)
            return await show(a)

        assert self.ask(serve, handler) == "5"


class TestHowHandlersRun:
    def test_coroutine_functions_run_on_the_loop_and_functions_in_threads(self, serve: "Serve") -> None:
        app = Vibora()

        def where() -> Response:
            return TextResponse(str(threading.get_ident()))

        @app.get("/direct")
        async def direct() -> Response:
            return where()

        @app.get("/task")
        async def task() -> Response:
            await asyncio.sleep(0)
            return where()

        app.add_route("/thread", where)
        app.add_route("/inline", where, inline=True)
        served = serve(app)
        loop = str(served.thread.ident)
        assert [served.ask(f"/{name}").text for name in ("direct", "task", "inline")] == [loop] * 3
        assert served.ask("/thread").text != loop

    def test_threads_do_not_hold_the_loop_up(self, serve: "Serve") -> None:
        app = Vibora()
        release = threading.Event()

        @app.get("/wait")
        def wait() -> Response:
            return TextResponse(str(release.wait(10)))

        @app.get("/release")
        async def let_go() -> Response:
            release.set()
            return Response()

        served = serve(app)
        with served.connect() as peer:
            peer.send(b"GET /wait HTTP/1.1\r\nHost: test\r\n\r\n")
            assert served.ask("/release").status == 200
            assert peer.read_answer().text == "True"


async def home() -> Response:
    return Response()


async def numbers() -> AsyncIterator[bytes]:
    yield b"1"


def letters() -> Iterator[bytes]:
    yield b"a"


class TestMistakes:
    """What is wrong is said when it is written down, in one line that names the handler and where it is."""

    @staticmethod
    def refusal(handler: Callable[..., Any], pattern: str = "/", **options: Any) -> str:
        app = Vibora()
        with pytest.raises(ConfigurationError) as caught:
            app.add_route(pattern, handler, **options)
        assert app.routes == ()
        message = str(caught.value)
        assert "\n" not in message
        return message

    def test_names_the_handler_and_its_place(self) -> None:
        line = home.__code__.co_firstlineno
        assert f"handler {home.__module__}.home (tests/test_routing.py:{line}): " in self.refusal(home, "no-slash")

    @pytest.mark.parametrize(
        ("pattern", "reason"),
        [
            ("home", "a pattern is a str that starts with '/', got 'home'"),
            (b"/home", "a pattern is a str that starts with '/', got b'/home'"),
            ("/<id:int>", "annotate the handler's parameter with the type, and write <id>"),
            ("/<a-b>", "'<a-b>' in pattern '/<a-b>': a path parameter is named like a variable"),
            ("/<>", "'<>' in pattern '/<>': a path parameter is named like a variable"),
            ("/<a>/<a>", "the path parameter 'a' comes twice in pattern '/<a>/<a>'"),
            ("/<*a>/b", "'<*a>' takes the rest of the path: pattern '/<*a>/b' must end with it"),
            ("/<a", "'<' and '>' enclose a path parameter, as in '/users/<name>', got pattern '/<a'"),
            ("/a>", "'<' and '>' enclose a path parameter"),
        ],
    )
    def test_a_malformed_pattern(self, pattern: str, reason: str) -> None:
        assert reason in self.refusal(home, pattern)

    def test_an_unsupported_type(self) -> None:
        async def handler(when: "asyncio.Event") -> Response:
            return await show(when)

        message = self.refusal(handler, "/<when>")
        assert "path parameter 'when' cannot be converted to asyncio.locks.Event: supported are str, int" in message

    def test_a_union_of_types(self) -> None:
        async def handler(key: int | str) -> Response:
            return await show(key)

        assert "path parameter 'key' cannot be converted to int | str" in self.refusal(handler, "/<key>")

    def test_the_rest_of_a_path_as_a_number(self) -> None:
        async def handler(rest: int) -> Response:
            return await show(rest)

        assert "'rest' takes the rest of the path, which is a str, not builtins.int" in self.refusal(
            handler, "/<*rest>"
        )

    def test_a_parameter_that_nothing_fills(self) -> None:
        async def handler(usr: int) -> Response:
            return await show(usr)

        assert "nothing fills parameter 'usr': name it after a path parameter of '/<user>'" in self.refusal(
            handler, "/<user>"
        )

    def test_an_annotation_that_does_not_exist(self) -> None:
        async def handler(user: "Usr") -> Response:  # type: ignore[name-defined]  # noqa: F821
            return await show(user)

        assert "the annotation 'Usr' of parameter 'user' is unknown: name 'Usr' is not defined" in self.refusal(
            handler, "/<user>"
        )

    @pytest.mark.parametrize("handler", [numbers, letters])
    def test_a_generator_function(self, handler: Callable[..., Any]) -> None:
        name = handler.__name__
        assert f"have a handler return StreamingResponse({name}) instead" in self.refusal(handler)

    def test_inline_for_a_coroutine_function(self) -> None:
        assert "inline=True is for def handlers" in self.refusal(home, inline=True)

    @pytest.mark.parametrize("handler", ["home", Response, None])
    def test_something_that_is_no_function(self, handler: Any) -> None:
        assert "a handler is a function, got" in self.refusal(handler)

    @pytest.mark.parametrize(
        ("methods", "reason"),
        [([], "at least one method, got methods=[]"), (["GE T"], "a name such as 'GET', got 'GE T'"), ([1], "got 1")],
    )
    def test_methods_that_are_none(self, methods: Any, reason: str) -> None:
        assert reason in self.refusal(home, methods=methods)

    def test_an_unknown_policy(self) -> None:
        assert "on_disconnect is 'auto', 'cancel' or 'finish', got 'later'" in self.refusal(home, on_disconnect="later")

    def test_a_timeout_that_is_no_time(self) -> None:
        assert "RouteLimits.timeout takes seconds, 0 or None for no limit, got -1" in self.refusal(home, timeout=-1)


class TestDuplicates:
    """Two routes that answer the same requests are refused at once, and both are named."""

    @pytest.mark.parametrize(
        ("first", "second"),
        [("/", "/"), ("/users/<id>", "/users/<name>"), ("/<*all>", "/<*rest>"), ("/<a>.txt", "/<b>.txt")],
    )
    def test_refuses_both(self, first: str, second: str) -> None:
        async def other() -> Response:
            return Response()

        app = Vibora()
        app.add_route(first, home)
        with pytest.raises(DuplicateRoute) as caught:
            app.add_route(second, other)
        message = str(caught.value)
        for pattern, handler in ((first, home), (second, other)):
            name = f"{handler.__module__}.{handler.__qualname__}"
            assert (
                f"GET {pattern!r}, handler {name} (tests/test_routing.py:{handler.__code__.co_firstlineno})" in message
            )
        assert [route.pattern for route in app.routes] == [first]

    def test_one_method_in_common_is_enough(self) -> None:
        app = Vibora()
        app.add_route("/", home, methods=["GET", "POST"])
        with pytest.raises(DuplicateRoute, match="POST PUT '/'"):
            app.add_route("/", home, methods=["POST", "PUT"])

    def test_other_methods_and_more_specific_patterns_are_fine(self) -> None:
        app = Vibora()
        app.add_route("/<name>", home)
        app.add_route("/<name>", home, methods=["DELETE"])
        app.add_route("/me", home)
        app.add_route("/<name>/<*rest>", home)
        assert len(app.routes) == 4


class TestLimitsOfRoutes:
    def test_a_route_takes_the_limits_of_the_app_unless_it_has_its_own(self) -> None:
        app = Vibora(route_limits=RouteLimits(max_body_size=10))
        app.add_route("/app", home)
        app.add_route("/own", home, limits=RouteLimits(max_body_size=20))
        app.add_route("/off", home, limits=RouteLimits(max_body_size=0))
        assert [route.max_body_size for route in app.routes] == [10, 20, 2**63 - 1]
