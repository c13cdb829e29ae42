"""What a handler is told about its request, and the ways to read the content."""

import asyncio
import gc
import json
import time
import weakref
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vibora import BadRequest, ConfigurationError, JsonResponse, Request, Response, RouteLimits, TextResponse, Vibora
from vibora.exceptions import InvalidJSON, StreamAlreadyConsumed
from vibora.request import URL

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import Peer, Serve


def tell(serve: "Serve", target: str, *names: str, **options: Any) -> Any:
    """Return attributes of a request, as JSON takes them."""
    app = Vibora()

    @app.route("/<*rest>", ["GET", "POST"])
    async def handler(request: Request) -> Response:
        return JsonResponse([getattr(request, name) for name in names], default=repr)

    return json.loads(serve(app).ask(target, **options).content)


class TestTarget:
    @pytest.mark.parametrize(
        ("target", "path", "query"),
        [
            ("/", "/", ""),
            ("/a/b?c=d&e", "/a/b", "c=d&e"),
            ("/a?b?c", "/a", "b?c"),
            ("/caf%C3%A9/a%20b?q=caf%C3%A9", "/caf\u00e9/a b", "q=caf%C3%A9"),
            ("/a%2Fb", "/a/b", ""),
            ("http://test/x?y", "/x", "y"),
        ],
    )
    def test_path_and_query(self, serve: "Serve", target: str, path: str, query: str) -> None:
        assert tell(serve, target, "path", "query_string") == [path, query]

    def test_the_path_as_it_came(self, serve: "Serve") -> None:
        assert tell(serve, "/caf%C3%A9?x", "raw_path") == ["b'/caf%C3%A9'"]

    def test_arguments(self, serve: "Serve") -> None:
        app = Vibora()

        @app.get("/")
        async def handler(request: Request) -> Response:
            args = request.args
            with pytest.raises(KeyError, match="missing"):
                args["missing"]
            assert args is request.args
            assert (args["a"], args.get("a"), args.get_all("a"), args.get_list("a")) == (
                "1",
                "1",
                ["1", "2"],
                ["1", "2"],
            )
            assert (args.get("missing"), args.get("missing", "x"), args.get_all("missing")) == (None, "x", [])
            assert ("a" in args, "missing" in args, len(args), list(args)) == (True, False, 4, ["a", "b", ""])
            return JsonResponse([args.items(), args.to_dict()])

        served = serve(app)
        answer = served.ask("/?a=1&b=+x%26%C3%A9&a=2&=z")
        assert answer.status == 200, served.errors
        assert json.loads(answer.content) == [
            [["a", "1"], ["b", " x&\u00e9"], ["a", "2"], ["", "z"]],
            {"a": ["1", "2"], "b": [" x&\u00e9"], "": ["z"]},
        ]


class TestUrl:
    @pytest.mark.parametrize(
        ("head", "url", "parts"),
        [
            (
                b"GET /a%20b/c?d=%41 HTTP/1.1\r\nHost: Example.ORG\r\n\r\n",
                "http://example.org/a%20b/c?d=%41",
                ["http", "example.org", None, "/a b/c", "/a%20b/c", "d=%41"],
            ),
            (
                b"GET / HTTP/1.1\r\nHost: a:8000\r\n\r\n",
                "http://a:8000/",
                ["http", "a", 8000, "/", "/", ""],
            ),
            (
                b"GET /? HTTP/1.1\r\nHost: [::1]:80\r\n\r\n",
                "http://[::1]:80/",
                ["http", "::1", 80, "/", "/", ""],
            ),
            (
                b"GET http://other/x?y HTTP/1.1\r\nHost: test\r\n\r\n",
                "http://other/x?y",
                ["http", "other", None, "/x", "/x", "y"],
            ),
            (
                b"GET http://other HTTP/1.1\r\nHost: other\r\n\r\n",
                "http://other/",
                ["http", "other", None, "/", "/", ""],
            ),
            (
                b"GET //evil.example/x HTTP/1.1\r\nHost: test\r\n\r\n",
                "http://test//evil.example/x",
                ["http", "test", None, "//evil.example/x", "//evil.example/x", ""],
            ),
        ],
    )
    def test_its_parts(self, serve: "Serve", head: bytes, url: str, parts: list[Any]) -> None:
        app = Vibora()

        @app.get("/<*rest>")
        async def handler(request: Request) -> Response:
            url = request.url
            assert (url, hash(url)) == (request.url, hash(request.url))
            assert (url.scheme, url.path, url.query) == (request.scheme, request.path, request.query_string)
            return JsonResponse([str(url), [url.scheme, url.host, url.port, url.path, url.raw_path, url.query]])

        served = serve(app)
        with served.connect() as peer:
            peer.send(head)
            answer = peer.read_answer()
            assert answer.status == 200, served.errors
            assert json.loads(answer.content) == [url, parts]

    @settings(max_examples=75, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        host=st.sampled_from(
            ["a", "a.example", "xn--caf-dma.example", "127.0.0.1", "[2001:db8::1]", "A_b", "a%41", "a,b"]
        ),
        port=st.none() | st.integers(1, 65535),
        target=st.text(st.sampled_from("abz/.;:@!$&'()*+,=-_~%?"), max_size=20).map(
            lambda text: text.replace("%", "%41")
        ),
    )
    def test_the_whole_of_it_is_a_url_with_those_parts(
        self, echo: "Peer", host: str, port: int | None, target: str
    ) -> None:
        authority = host if port is None else f"{host}:{port}"
        echo.send(f"GET /{target} HTTP/1.1\r\nHost: {authority}\r\n\r\n".encode())
        answer = echo.read_answer()
        assert answer.status == 200
        whole, path, *parts = json.loads(answer.content)
        path_of_it, _, query = target.partition("?")
        assert whole == f"http://{authority.lower()}/{path_of_it}{query and '?'}{query}"
        read = urlsplit(whole)
        assert parts == [read.hostname, read.port, read.path, read.query]
        assert path == unquote(read.path)

    @pytest.fixture
    def echo(self, serve: "Serve") -> "Iterator[Peer]":
        app = Vibora()

        @app.get("/<*rest>")
        async def handler(request: Request) -> Response:
            url = request.url
            assert url.path == request.path
            return JsonResponse([str(url), url.path, url.host, url.port, url.raw_path, url.query])

        with serve(app).connect() as peer:
            yield peer

    def test_of_a_client_that_does_not_say_whom_it_asks(self, serve: "Serve") -> None:
        app = Vibora()

        @app.get("/")
        async def handler(request: Request) -> Response:
            return JsonResponse([request.host, str(request.url)])

        served = serve(app)
        with served.connect() as peer:
            peer.send(b"GET / HTTP/1.0\r\n\r\n")
            assert json.loads(peer.read_answer().content) == ["", f"http://127.0.0.1:{served.port}/"]

    def test_other_parts(self) -> None:
        url = URL("http", "example.org", 8000, "/a b", "/a%20b", "c=d")
        assert str(url.replace(scheme="https", port=None, query="")) == "https://example.org/a%20b"
        moved = url.replace(path="/caf\u00e9/100%;x=1?#")
        assert (moved.path, str(moved)) == (
            "/caf\u00e9/100%;x=1?#",
            "http://example.org:8000/caf%C3%A9/100%25;x=1%3F%23?c=d",
        )
        assert (url.authority, url.origin) == ("example.org:8000", "http://example.org:8000")
        assert URL("https", "::1", 443, "*", "*", "").origin == "https://[::1]"
        assert str(URL("https", "::1", 443, "*", "*", "")) == "https://[::1]:443"
        assert url != moved
        with pytest.raises(AttributeError):
            url.host = "evil"  # type: ignore[misc]


class TestFacts:
    def test_method_version_host_and_route(self, serve: "Serve") -> None:
        names = ("method", "http_version", "host", "route", "path_params")
        assert tell(serve, "/a/b", *names, method="POST", content=b"x") == [
            "POST",
            "1.1",
            "test",
            '<Route "handler" GET,POST /<*rest>>',
            {"rest": "a/b"},
        ]

    def test_the_app(self, serve: "Serve") -> None:
        app = Vibora()
        kept: list[Request] = []

        @app.get("/")
        async def handler(request: Request) -> Response:
            kept.append(request)
            return JsonResponse(request.app is app)

        assert serve(app).ask("/").text == "true"
        assert kept[0].app is app

    def test_an_app_that_nobody_knows_any_more_is_collected(self) -> None:
        async def serve_once() -> "weakref.ref[Vibora]":
            app = Vibora()
            async with await app.start(port=0):
                pass
            return weakref.ref(app)

        gone = asyncio.run(serve_once())
        gc.collect()
        assert gone() is None

    def test_the_client(self, serve: "Serve") -> None:
        app = Vibora()

        @app.get("/")
        async def handler(request: Request) -> Response:
            return JsonResponse(request.client)

        with serve(app).connect() as peer:
            assert json.loads(peer.ask("/").content) == list(peer.sock.getsockname())

    def test_what_is_known_of_the_client_outlives_the_exchange(self, serve: "Serve") -> None:
        app = Vibora()
        kept: list[Request] = []

        @app.get("/")
        async def handler(request: Request) -> Response:
            kept.append(request)
            return Response()

        served = serve(app)
        with served.connect() as peer:
            name = peer.sock.getsockname()
            for _ in range(2):
                peer.ask("/", headers=[("Cookie", "a=b")])
        served.stop()
        for request in kept:
            assert (request.client, request.client_ip(), request.scheme) == (name, "127.0.0.1", "http")
            assert (str(request.url), request.cookies, request.app) == ("http://test/", {"a": "b"}, app)

    def test_a_session_is_what_a_middleware_sets(self, serve: "Serve") -> None:
        app = Vibora()

        @app.get("/")
        async def handler(request: Request) -> Response:
            with pytest.raises(ConfigurationError, match="this app has no sessions"):
                request.session  # noqa: B018  it raises
            request.session = {"user": request}
            assert request.session["user"] is request
            return TextResponse("done")

        assert serve(app).ask("/").text == "done"

    def test_headers(self, serve: "Serve") -> None:
        fields = [("X-A", "1"), ("x-a", "2"), ("Content-Type", "text/plain; charset=utf-8")]
        app = Vibora()

        @app.post("/")
        async def handler(request: Request) -> Response:
            assert request.headers is request.headers
            assert request.headers.get_all("x-A") == ["1", "2"]
            return JsonResponse([request.headers.items(), request.content_type, request.content_length])

        assert json.loads(serve(app).ask("/", "POST", fields, b"abc").content) == [
            [["Host", "test"], *map(list, fields), ["Content-Length", "3"]],
            "text/plain; charset=utf-8",
            3,
        ]

    def test_what_is_not_there_is_none(self, serve: "Serve") -> None:
        assert tell(serve, "/", "content_type", "content_length") == [None, None]

    def test_a_context_of_its_own(self, serve: "Serve") -> None:
        app = Vibora()

        @app.get("/")
        async def handler(request: Request) -> Response:
            request.context["times"] = request.context.get("times", 0) + 1
            return JsonResponse(request.context)

        with serve(app).connect() as peer:
            assert [peer.ask("/").text for _ in range(2)] == ['{"times":1}'] * 2


class TestContent:
    @pytest.mark.parametrize("size", [0, 1, 100_000])
    def test_whole_and_as_often_as_wanted(self, serve: "Serve", size: int) -> None:
        app = Vibora()

        @app.post("/")
        async def handler(request: Request) -> Response:
            content = await request.content()
            assert await request.content() == content
            assert (await request.text()).encode() == content
            return Response(content)

        assert serve(app).ask("/", "POST", content=b"x" * size).content == b"x" * size

    def test_piece_by_piece_as_it_comes(self, serve: "Serve") -> None:
        app = Vibora()
        pieces: list[bytes] = []
        came = asyncio.Event()

        @app.post("/")
        async def handler(request: Request) -> Response:
            async for piece in request.stream:
                pieces.append(piece)
                came.set()
            return TextResponse(str(len(pieces)))

        served = serve(app)
        with served.connect() as peer:
            peer.send(b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 6\r\n\r\nabc")
            served.run(came.wait)
            assert pieces == [b"abc"]
            peer.send(b"def")
            assert peer.read_answer().text == "2"
        assert pieces == [b"abc", b"def"]

    def test_what_is_left_of_a_stream(self, serve: "Serve") -> None:
        app = Vibora()

        @app.post("/")
        async def handler(request: Request) -> Response:
            first = await anext(request.stream)
            return JsonResponse([len(first) > 0, len(first) + len(await request.stream.read())])

        assert serve(app).ask("/", "POST", content=b"x" * 500_000).text == "[true,500000]"

    def test_streamed_content_is_not_kept(self, serve: "Serve") -> None:
        app = Vibora()

        @app.post("/")
        async def handler(request: Request) -> Response:
            async for _ in request.stream:
                pass
            for read in (request.content, request.text, request.json):
                with pytest.raises(StreamAlreadyConsumed):
                    await read()
            return Response()

        served = serve(app)
        assert served.ask("/", "POST", content=b"x").status == 200, served.errors

    def test_a_handler_that_reads_nothing(self, serve: "Serve") -> None:
        app = Vibora()

        @app.post("/")
        async def handler() -> Response:
            return TextResponse("done")

        with serve(app).connect() as peer:
            assert [peer.ask("/", "POST", content=b"x" * 1000).text for _ in range(3)] == ["done"] * 3

    def test_more_than_the_limit(self, serve: "Serve") -> None:
        app = Vibora(route_limits=RouteLimits(max_body_size=10))

        @app.post("/")
        async def handler(request: Request) -> Response:
            return Response(await request.content())

        served = serve(app)
        assert served.ask("/", "POST", content=b"x" * 10).status == 200
        assert served.ask("/", "POST", content=b"x" * 11).status == 413
        assert not served.log


class TestTextAndJson:
    @pytest.mark.parametrize(
        ("content_type", "content", "text"),
        [
            (None, "\u00e9".encode(), "\u00e9"),
            ("text/plain", "\u00e9".encode(), "\u00e9"),
            ("text/plain; charset=latin-1", b"\xe9", "\u00e9"),
            ('text/plain; format=flowed; Charset="UTF-16"', "\u00e9".encode("utf-16"), "\u00e9"),
        ],
    )
    def test_text_is_in_its_charset(self, serve: "Serve", content_type: str | None, content: bytes, text: str) -> None:
        app = Vibora()

        @app.post("/")
        async def handler(request: Request) -> Response:
            return TextResponse(await request.text())

        fields = [("Content-Type", content_type)] if content_type else []
        assert serve(app).ask("/", "POST", fields, content).text == text

    @pytest.mark.parametrize(
        "content_type", ["text/plain", "text/plain; charset=no-such", "text/plain; charset=base64"]
    )
    def test_text_that_is_none_is_a_bad_request(self, serve: "Serve", content_type: str) -> None:
        app = Vibora()

        @app.post("/")
        async def handler(request: Request) -> Response:
            with pytest.raises(BadRequest, match=r"the content is not .* text"):
                await request.text()
            return TextResponse(await request.text())

        served = serve(app)
        assert served.ask("/", "POST", [("Content-Type", content_type)], b"\xff\xfe\xfd").status == 400
        assert not served.log

    def test_json(self, serve: "Serve") -> None:
        app = Vibora()

        @app.post("/")
        async def handler(request: Request) -> Response:
            assert await request.json(loads=lambda content: content[::-1]) == b'}1:"a"{'
            return JsonResponse(await request.json())

        assert serve(app).ask("/", "POST", content=b'{"a":1}').text == '{"a":1}'

    @pytest.mark.parametrize("content", [b"", b"{", b"nan", b"{'a': 1}", b'"\xff"', b"[" * 100_000], ids=range(6))
    def test_json_that_is_none_is_a_bad_request(self, serve: "Serve", content: bytes) -> None:
        app = Vibora()

        @app.post("/")
        async def handler(request: Request) -> Response:
            return JsonResponse(await request.json())

        served = serve(app)
        answer = served.ask("/", "POST", content=content)
        assert (answer.status, answer.text.partition(":")[0]) == (400, "invalid JSON")
        assert not served.log

    def test_what_is_no_json_can_be_told_from_other_bad_requests(self, serve: "Serve") -> None:
        app = Vibora()

        @app.post("/")
        async def handler(request: Request) -> Response:
            try:
                return JsonResponse(await request.json())
            except InvalidJSON as error:
                return JsonResponse({"detail": error.detail}, error.status)

        answer = serve(app).ask("/", "POST", content=b"{")
        assert (answer.status, answer.get("content-type")) == (400, "application/json")


def name_of_the_task() -> str:
    task = asyncio.current_task()
    assert task is not None
    return task.get_name()


class TestHandlersThatOnlyRead:
    """Their content is there as a rule: then nothing can suspend, and no task is made for them."""

    POST = b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 7\r\n\r\n"

    def app(self) -> Vibora:
        app = Vibora()

        @app.post("/", name="reads")
        async def reads(request: Request) -> Response:
            number = await request.json()
            again = await request.text()
            return JsonResponse([number, again, name_of_the_task()])

        return app

    def test_content_that_is_there_needs_no_task(self, serve: "Serve") -> None:
        with serve(self.app()).connect() as peer:
            peer.send((self.POST + b"1234567") * 3)
            for _ in range(3):
                assert json.loads(peer.read_answer().content) == [1234567, "1234567", "vibora"]

    def test_content_that_is_still_to_come_is_waited_for_in_one(self, serve: "Serve") -> None:
        with serve(self.app()).connect() as peer:
            peer.send(self.POST + b"123")
            time.sleep(0.05)
            peer.send(b"4567" + self.POST + b"7654321")
            assert json.loads(peer.read_answer().content) == [1234567, "1234567", "reads"]
            assert json.loads(peer.read_answer().content) == [7654321, "7654321", "vibora"]

    def test_content_that_cannot_be_read_is_refused_in_the_same_way(self, serve: "Serve") -> None:
        with serve(self.app()).connect() as peer:
            for data in (b"not {JSON", b"[" * 9):
                peer.send(self.POST.replace(b"7", b"9") + data)
                assert peer.read_answer().status == 400

    @pytest.mark.parametrize("kind", ["own_name", "other_object", "assigned", "later", "iterates", "enters"])
    def test_whatever_else_may_suspend_gets_a_task(self, serve: "Serve", kind: str) -> None:  # noqa: C901  six kinds
        class Other:
            async def json(self) -> str:
                await asyncio.sleep(0)
                return name_of_the_task()

            async def __aenter__(self) -> str:
                return await self.json()

            async def __aexit__(self, *_: object) -> None:
                await asyncio.sleep(0)

        other = Other()

        async def own_name(this: Request) -> Response:
            await this.json()
            return Response(name_of_the_task())

        async def other_object(request: Request) -> Response:
            await request.json()
            return Response(await other.json())

        async def assigned(request: Request) -> Response:
            request = other  # type: ignore[assignment]
            return Response(await request.json())

        async def later(request: Request) -> Response:
            reading = other.json()
            await request.json()
            return Response(await reading)

        async def iterates(request: Request) -> Response:
            async for _ in request.stream:
                pass
            return Response(name_of_the_task())

        async def enters(request: Request) -> Response:
            await request.json()
            async with other as name:
                return Response(name)

        app = Vibora()
        app.add_route("/", locals()[kind], ["POST"], name="task")
        served = serve(app)
        with served.connect() as peer:
            peer.send(self.POST + b"1234567")
            expected = "vibora" if kind == "own_name" else "task"
            assert peer.read_answer().text == expected
