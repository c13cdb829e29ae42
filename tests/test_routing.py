"""How handlers are read: what they are called with, how values are converted, how they are run."""

import asyncio
import functools
import re
import threading
import types
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from datetime import date
from typing import TYPE_CHECKING, Annotated, Any, NewType, Optional, ParamSpec
from urllib.parse import quote
from uuid import UUID

import pytest

import vibora.router
from vibora import (
    ConfigurationError,
    Request,
    Response,
    ReverseNotFound,
    RouteLimits,
    RouterStrategy,
    TextResponse,
    Vibora,
)
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


def named(name: str) -> Callable[[], Coroutine[Any, Any, Response]]:
    """Return a handler that answers with a name."""

    async def handler() -> Response:
        return TextResponse(name)

    return handler


class TestHosts:
    def test_routes_of_the_host_come_before_those_of_none(self, serve: "Serve") -> None:
        app = Vibora()
        app.add_route("/", named("any"))
        app.add_route("/only", named("any"))
        app.add_route("/", named("api"), hosts="api.example.com")
        app.add_route("/", named("below"), hosts=["*.Example.com."])
        app.add_route("/", named("expression"), hosts=[re.compile(r"(staging|test)\d*\.Internal"), "[::1]"])
        app.add_route("/api", named("api"), methods=["POST"], hosts=["api.example.com", "API.example.org"])
        served = serve(app)

        def ask(host: str, target: str = "/", method: str = "GET") -> str:
            with served.connect() as peer:
                peer.send(f"{method} {target} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
                answer = peer.read_answer(method)
                return answer.text if answer.status == 200 else f"{answer.status} {answer.get('allow')}"

        for host, name in {
            "api.example.com": "api",
            "API.Example.COM:8000": "api",
            "api.example.com.": "api",
            "a.example.com": "below",
            "b.a.example.com": "below",
            "example.com": "any",
            "notexample.com": "any",
            "test.internal": "expression",
            "STAGING12.internal:80": "expression",
            "staging.internal.evil.test": "any",
            "a.test.internal": "any",
            "[::1]:5000": "expression",
            "": "any",
        }.items():
            assert ask(host) == name, host
        assert ask("api.example.com", "/only") == "any"
        assert ask("api.example.org", "/api", "POST") == "api"
        assert ask("api.example.org", "/api") == "405 OPTIONS, POST"
        assert ask("api.example.org", "/api", "OPTIONS") == "204 OPTIONS, POST"
        assert ask("example.org", "/api", "POST") == "404 None"
        # RFC 9112 §3.2.2: the target's authority counts, not the field.
        assert ask("example.org", "http://api.example.com/") == "api"
        assert ask("api.example.com", "http://example.org/") == "any"
        with served.connect() as peer:
            peer.send(b"GET / HTTP/1.0\r\n\r\n")
            assert peer.read_answer().text == "any"

    def test_parameters_are_found_again(self, serve: "Serve") -> None:
        app = Vibora()

        @app.get("/<name>", hosts="*.test")
        async def handler(request: Request) -> Response:
            return await show(request.path_params, None if request.route is None else request.route.hosts)

        served = serve(app)
        with served.connect() as peer:
            peer.send(b"GET /x HTTP/1.1\r\nHost: a.test\r\n\r\n")
            assert peer.read_answer().text == "{'name': 'x'} ['*.test']"

    def test_the_host_is_what_trusted_proxies_say(self, serve: "Serve") -> None:
        async def public(request: Request, path: str) -> Response:
            return await show(path, request.path_params)

        for proxies, text in (["127.0.0.1"], "'a' {'path': 'a'}"), ([], "any"), (None, "any"):
            app = Vibora(trusted_proxies=proxies)
            app.add_route("/a", named("any"))
            app.add_route("/<*path>", public, hosts="public.test")
            assert serve(app).ask("/a", headers=[("X-Forwarded-Host", "public.test")]).text == text

    @pytest.mark.parametrize(
        "host",
        ["example.com:80", "http://a", "a/b", "", "*", ".*", "a.*.b", "b\u00fccher.example", b"a", 7, re.compile(b"a")],
    )
    def test_refuses_what_is_no_host(self, host: Any) -> None:
        with pytest.raises(ConfigurationError, match="a host is a name such as"):
            Vibora().add_route("/", home, hosts=["fine.test", host])

    def test_refuses_duplicates_of_one_host(self) -> None:
        app = Vibora()
        app.add_route("/", home, hosts=["a.test", "b.test"])
        app.add_route("/", home)
        app.add_route("/", home, hosts=re.compile("c"))
        for hosts in ("B.test", ["c.test", "a.test."], re.compile("c")):
            with pytest.raises(DuplicateRoute):
                app.add_route("/", home, hosts=hosts)
        app.add_route("/", home, hosts="c.test")
        assert len(app.routes) == 4

    def test_are_added_while_the_app_is_served(self, serve: "Serve") -> None:
        app = Vibora()
        app.add_route("/", home)
        served = serve(app)
        app.add_route("/", named("late"), hosts="test")
        assert served.ask("/").text == "late"


class TestExpressions:
    """`re.compile(...)` as a pattern matches all of the path; its named groups are the parameters."""

    def test_named_groups_are_converted(self, serve: "Serve") -> None:
        app = Vibora()

        @app.get(re.compile(r"/users/(?P<user_id>\d+)(?:-(?P<slug>[^/]+))?(\.html)?"))
        async def user(request: Request, user_id: int, slug: str = "none") -> Response:
            return await show(user_id, slug, request.path_params)

        served = serve(app)
        for target, text in {
            "/users/42": "42 'none' {'user_id': 42, 'slug': None}",
            "/users/42.html": "42 'none' {'user_id': 42, 'slug': None}",
            "/users/7-ab": "7 'ab' {'user_id': 7, 'slug': 'ab'}",
            "/users/7-caf%C3%A9%2F%25": "7 'caf\u00e9/%' {'user_id': 7, 'slug': 'caf\u00e9/%'}",
        }.items():
            assert served.ask(target).text == text, target
        for target in (
            "/users/x",
            "/users/42/",
            "/Users/42",
            "/a/users/42",
            "/users/42%0A",
            "/users/7-%ff",
            "/users/7-a/b",
        ):
            assert served.ask(target).status == 404, target
        assert not served.log

    def test_a_group_that_takes_no_part_is_none(self, serve: "Serve") -> None:
        app = Vibora()

        @app.get(re.compile(r"/a(?P<number>\d+)?"))
        async def handler(number: int | None) -> Response:
            return await show(number)

        served = serve(app)
        assert served.ask("/a").text == "None"
        assert served.ask("/a1").text == "1"

    def test_what_cannot_be_converted_is_not_found(self, serve: "Serve") -> None:
        app = Vibora()

        @app.get(re.compile(r"/(?P<day>.*)"))
        async def handler(day: date) -> Response:
            return await show(day)

        served = serve(app)
        assert served.ask("/2024-02-29").status == 200
        assert served.ask("/2023-02-29").status == 404

    def test_patterns_come_first_then_expressions_in_order(self, serve: "Serve") -> None:
        app = Vibora()
        app.add_route(re.compile("/a.*"), named("first"))
        app.add_route(re.compile("/.*"), named("second"), methods=["GET", "PUT"])
        app.add_route(re.compile("/a.*"), named("third"), methods=["DELETE"])
        app.add_route("/ab/<x>", named("pattern"))
        served = serve(app)
        for method, target, text in [
            ("GET", "/ab/c", "pattern"),
            ("GET", "/ab", "first"),
            ("GET", "/b", "second"),
            ("PUT", "/ab/c", "second"),
            ("DELETE", "/a", "third"),
        ]:
            assert served.ask(target, method).text == text, target
        assert served.ask("/a", "POST").get("allow") == "DELETE, GET, HEAD, OPTIONS, PUT"
        assert served.ask("/b", "OPTIONS").get("allow") == "GET, HEAD, OPTIONS, PUT"
        assert served.ask("/b", "HEAD").status == 200

    def test_refuses_the_same_expression_twice(self) -> None:
        app = Vibora()
        app.add_route(re.compile("/a"), home)
        app.add_route(re.compile("/a"), home, methods=["POST"])
        app.add_route(re.compile("/a", re.IGNORECASE), home)
        with pytest.raises(DuplicateRoute, match="GET '/a'"):
            app.add_route(re.compile("/a"), home)

    @pytest.mark.parametrize(
        ("pattern", "options", "reason"),
        [
            (re.compile(b"/a"), {}, "an expression is made from a str, got re.compile(b'/a')"),
            (re.compile("users/"), {}, "an expression matches all of the path, which starts with '/'"),
            (re.compile("^users/"), {}, "an expression matches all of the path, which starts with '/'"),
            (re.compile("/a"), {"strategy": RouterStrategy.CLONE}, "re.compile('/a') takes no strategy"),
        ],
    )
    def test_mistakes(self, pattern: Any, options: dict[str, Any], reason: str) -> None:
        assert reason in TestMistakes.refusal(home, pattern, **options)

    def test_a_parameter_that_is_no_group(self) -> None:
        async def handler(name: str) -> Response:
            return await show(name)

        reason = "nothing fills parameter 'name': name it after a path parameter of '/(?P<nam>.*)'"
        assert reason in TestMistakes.refusal(handler, re.compile("/(?P<nam>.*)"))  # type: ignore[arg-type]


class TestTheSlashAtTheEnd:
    """`RouterStrategy`: what `/a/` is to the route of `/a`."""

    @staticmethod
    def answer(app: Vibora, serve: "Serve") -> Callable[..., str]:
        served = serve(app)

        def ask(target: str, method: str = "GET") -> str:
            answer = served.ask(target, method)
            if answer.status == 200:
                return answer.text
            return " ".join([str(answer.status), *filter(None, map(answer.get, ("location", "allow")))])

        return ask

    def test_a_redirect_keeps_method_and_query(self, serve: "Serve") -> None:
        app = Vibora()
        app.add_route("/", named("root"))
        app.add_route("/a", named("a"), methods=["GET", "POST"])
        app.add_route("/b/", named("b"))
        app.add_route("/c/<x>", named("c"))
        app.add_route("/d/<*x>", named("d"))
        ask = self.answer(app, serve)
        assert ask("/a/") == "308 /a"
        assert ask("/a/?b=c%20d&e=/") == "308 /a?b=c%20d&e=/"
        assert ask("/a/", "POST") == "308 /a"
        assert ask("/a/", "HEAD") == "308 /a"
        assert ask("/b?") == "308 /b/?"
        assert ask("/c/caf%C3%A9%2F/") == "308 /c/caf%C3%A9%2F"
        assert ask("http://test/b?c") == "308 /b/?c"
        assert ask("/a/", "DELETE") == "405 GET, HEAD, OPTIONS, POST"
        assert ask("/a/", "OPTIONS") == "204 GET, HEAD, OPTIONS, POST"
        assert ask("/a//") == "404"
        assert ask("/d") == "404"
        assert ask("/d/x/") == "d"

    def test_content_of_a_redirected_request_does_not_stay_in_the_way(self, serve: "Serve") -> None:
        app = Vibora()
        app.add_route("/a", named("a"), methods=["POST"])
        with serve(app).connect() as peer:
            assert peer.ask("/a/", "POST", content=b"x" * 100).status == 308
            assert peer.ask("/a", "POST", content=b"x" * 100).text == "a"

    def test_a_redirect_never_leads_to_another_server(self, serve: "Serve") -> None:
        app = Vibora()
        app.add_route("/<a>/", named("a"))
        app.add_route("//<a>/<b>", named("b"))
        ask = self.answer(app, serve)
        assert ask("/%5Cevil.test") == "308 /%5Cevil.test/"
        assert ask("/\\evil.test") == "308 /%5Cevil.test/"
        assert ask("/\\evil.test?\\") == "308 /%5Cevil.test/?%5C"
        assert ask("//evil.test") == "404"
        assert ask("//evil.test/a/") == "308 /.//evil.test/a"
        assert ask("/%2Fevil.test") == "308 /%2Fevil.test/"

    def test_strict_and_clone(self, serve: "Serve") -> None:
        app = Vibora(router_strategy=RouterStrategy.CLONE)
        app.add_route("/a", named("clone"))
        app.add_route("/b/<x>/", named("clone"))
        app.add_route("/c", named("strict"), strategy=RouterStrategy.STRICT)
        app.add_route("/d", named("redirect"), strategy=RouterStrategy.REDIRECT)
        ask = self.answer(app, serve)
        assert [ask(target) for target in ("/a", "/a/", "/b/1", "/b/1/")] == ["clone"] * 4
        assert (ask("/c"), ask("/c/")) == ("strict", "404")
        assert (ask("/d"), ask("/d/")) == ("redirect", "308 /d")

    @pytest.mark.parametrize("backwards", [False, True])
    def test_a_route_of_its_own_comes_first(self, serve: "Serve", *, backwards: bool) -> None:
        app = Vibora(router_strategy=RouterStrategy.CLONE)
        routes = [("/a", "GET"), ("/a/", "GET"), ("/a/", "PUT"), ("/<x>/", "GET")]
        for pattern, method in reversed(routes) if backwards else routes:
            app.add_route(pattern, named(f"{method} {pattern}"), [method])
        ask = self.answer(app, serve)
        assert ask("/a") == "GET /a"
        assert ask("/a/") == "GET /a/"
        assert ask("/a", "PUT") == "PUT /a/"
        assert ask("/b") == "GET /<x>/"
        with pytest.raises(DuplicateRoute):
            app.add_route("/a/", home)

    def test_refuses_another_strategy(self) -> None:
        assert "strategy is a RouterStrategy, got 'strict'" in TestMistakes.refusal(home, strategy="strict")

    def test_the_import_path_of_the_first_vibora(self) -> None:
        assert vibora.router.RouterStrategy is RouterStrategy
        assert [strategy.name for strategy in RouterStrategy] == ["STRICT", "REDIRECT", "CLONE"]


class TestViews:
    """Classes and objects that answer with a method for each of HTTP's."""

    def test_a_class_is_made_for_each_request(self, serve: "Serve") -> None:
        app = Vibora()

        @app.route("/users/<user_id>")
        class User:
            made = 0

            def __init__(self) -> None:
                type(self).made += 1
                self.number = self.made

            async def get(self, user_id: int) -> Response:
                return await show("get", self.number, user_id)

            async def put(self, request: Request, user_id: int, *, flag: bool = True) -> Response:
                await asyncio.sleep(0)
                return await show("put", self.number, user_id, await request.text(), flag)

            def delete(self, user_id: str) -> Response:
                return TextResponse(f"delete {self.number} {user_id} {threading.current_thread() is served.thread}")

            @staticmethod
            async def patch() -> Response:
                return await show("patch")

            @classmethod
            async def post(cls) -> Response:
                return await show("post", cls.__name__)

            async def other(self) -> Response:
                raise NotImplementedError

        served = serve(app)
        assert served.ask("/users/1").text == "'get' 1 1"
        assert served.ask("/users/1").text == "'get' 2 1"
        assert served.ask("/users/2", "PUT", content=b"text").text == "'put' 3 2 'text' True"
        assert served.ask("/users/x", "DELETE").text == "delete 4 x False"
        assert served.ask("/users/1", "PATCH").text == "'patch'"
        assert served.ask("/users/1", "POST").text == "'post' 'User'"
        assert served.ask("/users/x").status == 404
        refused = served.ask("/users/1", "OTHER")
        assert (refused.status, refused.get("allow")) == (405, "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT")
        assert served.ask("/users/1", "HEAD").status == 200
        assert app.url_for("User", user_id=3) == "/users/3"
        assert {route.name for route in app.routes} == {"User"}

    def test_an_object_is_shared(self, serve: "Serve") -> None:
        class Counter:
            def __init__(self, start: int) -> None:
                self.count = start

            async def get(self) -> Response:
                self.count += 1
                return await show(self.count)

        class More(Counter):
            async def purge(self) -> Response:
                self.count = 0
                return await show("purged")

        app = Vibora()
        app.add_route("/counter", Counter(10), name="counter")
        app.add_route("/more", More(0), methods=["GET", "PURGE"])
        served = serve(app)
        assert [served.ask("/counter").text for _ in range(2)] == ["11", "12"]
        assert served.ask("/more", "PURGE").text == "'purged'"
        assert served.ask("/more", "POST").get("allow") == "GET, HEAD, OPTIONS, PURGE"

    def test_mistakes(self) -> None:
        class Empty:
            pass

        class Needy:
            def __init__(self, database: object) -> None:
                self.database = database

            async def get(self) -> Response:
                return await show(self.database)

        class Selfless:
            async def get() -> Response:  # type: ignore[misc]  # that is the mistake
                return await show()

        class Typo:
            async def get(self, usr: int) -> Response:
                return await show(usr)

        refusal = TestMistakes.refusal
        assert "a class or an object that answers has methods get, post, …" in refusal(Empty)
        assert "Needy is made for each request, without arguments: missing a required argument: 'database'" in refusal(
            Needy
        )
        assert "a method takes the object it belongs to first, which is called self" in refusal(Selfless)
        message = refusal(Typo, "/<user>")
        assert "nothing fills parameter 'usr'" in message
        assert "Typo.get (tests/test_routing.py:" in message
        assert "Needy has no method 'post', as methods=['POST'] asks for" in refusal(Needy, methods=["POST"])


class TestUrls:
    """`url_for` is the way back: what it returns, the router finds."""

    @staticmethod
    def app(pattern: Any, annotation: object = str, **options: Any) -> Vibora:
        async def page(value: object = None, other: str = "") -> Response:
            return await show(value, other)

        page.__annotations__["value"] = annotation
        app = Vibora(**options)
        app.add_route(pattern, page)
        return app

    @pytest.mark.parametrize(
        ("pattern", "annotation", "value", "url"),
        [
            ("/<value>", str, "a", "/a"),
            ("/<value>/", str, "caf\u00e9 /?#%", "/caf%C3%A9%20%2F%3F%23%25/"),
            ("/<value>", str, "a:b@c!$&()*+,;=-._~", "/a:b@c!$&()*+,;=-._~"),
            ("/<value>", str, "\\evil.test", "/%5Cevil.test"),
            ("/<value>", str, "/evil.test", "/%2Fevil.test"),
            ("/<value>", str, "'\"<>", "/%27%22%3C%3E"),
            ("/<value>", str, 7, "/7"),
            ("/f-<value>.txt", str, ".", "/f-..txt"),
            ("/100%/<value>", str, "100%", "/100%25/100%25"),
            ("/caf\u00e9/<value>", str, "a", "/caf%C3%A9/a"),
            ("/<value>", int, 42, "/42"),
            ("/<value>", int, "42", "/42"),
            ("/<value>", float, 1e16, "/1e+16"),
            ("/<value>", bool, True, "/true"),
            ("/<value>", date, date(2024, 2, 29), "/2024-02-29"),
            ("/<value>", UUID, UUID(int=1), "/00000000-0000-0000-0000-000000000001"),
            ("/s/<*value>", str, "a/b c/%2F", "/s/a/b%20c/%252F"),
            ("/s/<*value>", str, "", "/s/"),
            ("/s/<*value>", str, "/a", "/s//a"),
            ("/<*value>", str, "/evil.test/a", "/%2Fevil.test/a"),
            (re.compile(r"/users/(?P<value>\d+)"), int, 42, "/users/42"),
            (re.compile(r"^/a\.b/(?P<value>[^/]+)/?$"), str, "x y/z%", "/a.b/x%20y%2Fz%25"),
            (re.compile(r"/(?P<value>.*)"), str, "a/b", "/a/b"),
            (re.compile(r"/(?P<value>[])(\]]+|(?:a(b)?))-x"), str, ")]", "/)%5D-x"),
        ],
    )
    def test_leads_back(self, serve: "Serve", pattern: Any, annotation: object, value: object, url: str) -> None:
        app = self.app(pattern, annotation)
        assert app.url_for("page", value=value) == url
        assert app._router.lookup("GET", url) is app.routes[0]
        typed = str(value) if annotation is str else int(str(value)) if annotation is int else value
        assert serve(app).ask(url).text == f"{typed!r} ''"

    @pytest.mark.parametrize(
        ("params", "url"),
        [
            ({}, "/a"),
            ({"q": "a b&c=/"}, "/a?q=a%20b%26c%3D%2F"),
            ({"q": ["a", 1, None], "r": None, "s": ()}, "/a?q=a&q=1"),
            ({"q": True, "d": date(2024, 1, 2)}, "/a?q=true&d=2024-01-02"),
            ({"n\u00e9": ""}, "/a?n%C3%A9="),
        ],
    )
    def test_what_is_not_in_the_path_becomes_the_query(self, params: dict[str, Any], url: str) -> None:
        assert self.app("/a").url_for("page", **params) == url

    @pytest.mark.parametrize(
        ("pattern", "annotation", "params", "reason"),
        [
            ("/<value>", str, {}, "the URL of route 'page' (/<value>) lacks 'value', got {}"),
            ("/<value>/<other>", str, {"x": 1}, "lacks 'value' and 'other', got {'x': 1}"),
            ("/<value>", str, {"value": None}, "lacks 'value'"),
            ("/<value>", str, {"value": ""}, "'' is no value for 'value', the route would not match"),
            ("/<value>", int, {"value": "x"}, "'x' is no value for 'value'"),
            ("/<value>", int, {"value": 1.0}, "1.0 is no value for 'value'"),
            ("/<value>", float, {"value": float("inf")}, "inf is no value for 'value'"),
            ("/<value>", str, {"value": "a\0b"}, "is no value for 'value'"),
            ("/<value>", str, {"value": "\ud800"}, "surrogates not allowed"),
            ("/<value>", str, {"value": b"x"}, "parameter 'value' of a URL cannot be b'x'"),
            ("/<value>", str, {"value": ["x"]}, "parameter 'value' of a URL cannot be ['x']"),
            ("/a/<value>", str, {"value": ".."}, "would be '/a/..', where clients remove the segment '..'"),
            ("/<*value>", str, {"value": "a/./b"}, "clients remove the segment '.'"),
            (re.compile(r"/(?P<value>\d+)"), str, {"value": "x"}, "does not match with {'value': 'x'}"),
            (re.compile(r"/(?P<value>\d+)|/b"), str, {"value": "1"}, "expressions of text and named groups"),
            (re.compile(r"/(\d+)"), str, {}, "expressions of text and named groups"),
            (re.compile(r"/(?P<value>\d)+"), str, {"value": "1"}, "expressions of text and named groups"),
            (re.compile(r"/a+(?P<value>\d)"), str, {"value": "1"}, "expressions of text and named groups"),
            (re.compile(r"/\w(?P<value>\d)"), str, {"value": "1"}, "expressions of text and named groups"),
            (re.compile(r"/ (?P<value>\d)", re.VERBOSE), str, {"value": "1"}, "expressions of text and named groups"),
        ],
    )
    def test_mistakes_are_told(self, pattern: Any, annotation: object, params: dict[str, Any], reason: str) -> None:
        with pytest.raises(ReverseNotFound) as caught:
            self.app(pattern, annotation).url_for("page", **params)
        assert reason in str(caught.value)

    def test_a_name_that_nobody_has_or_several(self) -> None:
        app = self.app("/a")
        with pytest.raises(ReverseNotFound, match="no route is called 'pag'"):
            app.url_for("pag")
        app.add_route("/b", home, name="page")
        with pytest.raises(ReverseNotFound, match="several routes are called 'page', such as '/a' and '/b'"):
            app.url_for("page")

    def test_of_several_patterns_the_one_that_takes_most(self) -> None:
        app = self.app("/<value>")
        handler = app.routes[0].handler
        app.add_route("/", handler)
        app.add_route("/<value>/<other>", handler)
        app.add_route("/<value>", handler, methods=["POST"])
        assert app.url_for("page") == "/"
        assert app.url_for("page", value=1, x=2) == "/1?x=2"
        assert app.url_for("page", value=1, other="a") == "/1/a"

    def test_absolute_urls_have_the_host_of_the_route_or_of_the_app(self) -> None:
        app = Vibora(server_name="example.com:8000", url_scheme="https")
        app.add_route("/any", named("any"), name="any")
        app.add_route("/one", named("one"), name="one", hosts=["one.test", "two.test"])
        app.add_route("/own", named("own"), name="own", hosts=["*.example.org", "example.com"])
        app.add_route("/below", named("below"), name="below", hosts=["*.example.org", re.compile("x.*")])
        assert app.url_for("any", _external=True) == "https://example.com:8000/any"
        assert app.url_for("any", True, _scheme="http", _host="localhost") == "http://localhost/any"  # noqa: FBT003
        assert app.url_for("one", _external=True) == "https://one.test:8000/one"
        assert app.url_for("own", _external=True) == "https://example.com:8000/own"
        with pytest.raises(ReverseNotFound, match="has no host to put into an absolute URL"):
            app.url_for("below", _external=True)
        with pytest.raises(ReverseNotFound, match="give `server_name` to Vibora"):
            self.app("/").url_for("page", _external=True)

    def test_a_request_chooses_among_the_hosts_of_a_route(self, serve: "Serve") -> None:
        app = Vibora()

        @app.get("/")
        async def links(request: Request) -> Response:
            names = ("links", "one", "below")
            return TextResponse(" ".join(app.url_for(name, _external=True, _request=request) for name in names))

        app.add_route("/one", named("one"), name="one", hosts=["one.test", "two.test"])
        app.add_route("/below", named("below"), name="below", hosts=["*.test", re.compile("127.*")])
        served = serve(app)
        for host, text in {
            "two.test": "http://two.test/ http://two.test/one http://two.test/below",
            "Three.Test:80": "http://Three.Test:80/ http://one.test:80/one http://Three.Test:80/below",
            "127.0.0.1:9": "http://127.0.0.1:9/ http://one.test:9/one http://127.0.0.1:9/below",
        }.items():
            with served.connect() as peer:
                peer.send(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
                assert peer.read_answer().text == text

    def test_what_the_app_says_comes_before_what_a_client_says(self, serve: "Serve") -> None:
        app = Vibora(server_name="configured.test")

        @app.get("/")
        async def link(request: Request) -> Response:
            return TextResponse(app.url_for("link", _external=True, _request=request))

        assert serve(app).ask("/").text == "http://configured.test/"
