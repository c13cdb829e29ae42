"""Responses that are sent more than once: what is kept, for whom, for how long, and what never is."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from conftest import Answer, Serve, Served
from hostile import has_no_connections, message
from vibora import (
    Cache,
    CacheControl,
    CachedResponse,
    ConfigurationError,
    FileResponse,
    HtmlResponse,
    HTTPError,
    JsonResponse,
    RedirectResponse,
    Request,
    Response,
    StreamingResponse,
    TextResponse,
    Vibora,
)
from vibora.cache import CacheEngine, Static

Handler = Callable[[Request], Awaitable[Response]]


def serving(serve: Serve, cache: CacheEngine, handler: Handler, methods: list[str] | None = None) -> Served:
    """Serve a handler behind a cache, at every path."""
    app = Vibora()

    async def cached(request: Request) -> Response:
        return await cache(request, handler)

    app.add_route("/<*path>", cached, methods=methods)
    return serve(app)


class Counter:
    """A handler that says how often it was called."""

    def __init__(self, make: Callable[[str], Response] = TextResponse) -> None:
        self.calls = 0
        self.make = make

    async def __call__(self, request: Request) -> Response:
        self.calls += 1
        return self.make(f"{request.path} {self.calls}")


class TestKept:
    def test_a_handler_runs_once(self, serve: Serve) -> None:
        handler, cache = Counter(), Cache()
        with serving(serve, cache, handler).connect() as peer:
            answers = [peer.ask("/a") for _ in range(5)]
        assert [answer.text for answer in answers] == ["/a 1"] * 5
        assert handler.calls == 1
        assert (len(cache), cache.hits, cache.misses) == (1, 4, 1)
        assert answers[0].get("age") is None
        assert answers[1].get("age") == "0"

    @pytest.mark.parametrize(
        "response",
        [
            lambda: Response(b"plain", 203, {"X-A": "1"}),
            lambda: Response(b"\x00\xff", headers={"content-type": "image/png"}),
            lambda: TextResponse("text"),
            lambda: HtmlResponse("<p>page"),
            lambda: JsonResponse({"a": 1}),
            lambda: JsonResponse([], headers={"content-type": "application/problem+json"}),
            lambda: RedirectResponse("/caf\u00e9?a=%20", 301),
            lambda: RedirectResponse("/b", 308, {"X-A": "1"}),
            lambda: Response(b"", 204),
            lambda: Response(b"x" * 100_000, headers=[("X-A", "1"), ("X-A", "2"), ("Link", "</a>")]),
        ],
    )
    def test_what_is_sent_again_is_the_same(self, serve: Serve, response: Callable[[], Response]) -> None:
        async def handler(request: Request) -> Response:
            return response()

        def whole(answer: Answer) -> tuple[int, dict[str, list[str]], bytes]:
            names = {name.lower() for name, _ in answer.headers} - {"date", "age"}
            return answer.status, {name: answer.get_all(name) for name in names}, answer.content

        cache = Cache()
        with serving(serve, cache, handler).connect() as peer:
            first, second, third = (peer.ask() for _ in range(3))
        assert whole(first) == whole(second) == whole(third)
        assert cache.hits == 2

    def test_method_path_query_and_host_tell_requests_apart(self, serve: Serve) -> None:
        handler = Counter()
        with serving(serve, Cache(), handler).connect() as peer:

            def ask(method: str, target: str, host: str) -> str:
                peer.send(f"{method} {target} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
                return peer.read_answer(method).text

            targets = ["/", "/a", "/a/", "/A", "/a?", "/a?x=1", "/a?x=2", "/a?y=1&x=1", "/a%2Fb", "/a/b"]
            asked = [("GET", target, host) for target in targets for host in ("one", "two")]
            first = [ask(*what) for what in asked]
            assert len(set(first)) == len(asked) - 2  # "/a" and "/a?" have the same path and query
            assert [ask(*what) for what in asked] == first
            calls = handler.calls
            ask("HEAD", "/", "one")
            ask("HEAD", "/", "one")
            assert handler.calls == calls + 1

    def test_each_request_gets_a_response_of_its_own(self, serve: Serve) -> None:
        cache, app = Cache(), Vibora()

        async def handler(request: Request) -> Response:
            return Response(b"shared")

        @app.get("/<name>")
        async def cached(request: Request, name: str) -> Response:
            response = await cache(request, handler)
            response.headers.add("set-cookie", f"user={name}")
            return response

        with serve(app).connect() as peer:
            for name in "abc":
                assert peer.ask("/x", headers=[("Name", name)]).get_all("set-cookie") == ["user=x"]

    def test_until_its_time_is_up(self, serve: Serve) -> None:
        handler = Counter()
        with serving(serve, Cache(ttl=0.2), handler).connect() as peer:
            assert [peer.ask().text for _ in range(3)] == ["/ 1"] * 3
            time.sleep(0.25)
            assert [peer.ask().text for _ in range(3)] == ["/ 2"] * 3

    def test_static_has_no_end(self, serve: Serve) -> None:
        handler, cache = Counter(lambda text: Response(text, headers={"content-type": "text/x"})), Static()
        with serving(serve, cache, handler).connect() as peer:
            assert {(a := peer.ask()).text + (a.get("content-type") or "") for _ in range(5)} == {"/ 1text/x"}
        cache.clear()
        assert len(cache) == 0

    def test_a_client_that_has_it_is_told_so(self, serve: Serve) -> None:
        async def handler(request: Request) -> Response:
            headers = {"ETag": '"1"', "Cache-Control": "max-age=5", "Vary": "Accept", "Content-Type": "text/x"}
            return Response(b"content", headers=headers)

        with serving(serve, Cache(), handler).connect() as peer:
            assert peer.ask().status == 200
            answer = peer.ask(headers=[("If-None-Match", '"1"')])
            assert (answer.status, answer.get("etag"), answer.get("content-type")) == (304, '"1"', None)
            assert (answer.get("cache-control"), answer.get("vary")) == ("max-age=5", "Accept")
            answer = peer.ask(headers=[("If-None-Match", '"2"')])
            assert (answer.content, answer.get("content-type")) == (b"content", "text/x")
            assert peer.ask(headers=[("If-Match", '"2"')]).status == 412
            assert peer.ask(method="HEAD").status == 200


class TestVary:
    def test_the_fields_that_vary_names_tell_requests_apart(self, serve: Serve) -> None:
        calls = []

        async def handler(request: Request) -> Response:
            calls.append(request.headers.get("accept-language"))
            return Response(f"{calls[-1]}", headers={"Vary": "Accept-Language, accept-language ,X-Other"})

        with serving(serve, Cache(), handler).connect() as peer:
            for _ in range(3):
                for language in ["de", "en", None]:
                    fields = [("Accept-Language", language)] if language else []
                    assert peer.ask(headers=fields).text == str(language)
            fields = [("Accept-Language", "de"), ("Accept-Language", "en")]
            assert peer.ask(headers=fields).text == "de"
            assert peer.ask(headers=[("Accept-Language", "de"), ("X-Other", "1")]).text == "de"
        assert calls == ["de", "en", None, "de", "de"]

    def test_what_varies_with_everything_is_not_kept(self, serve: Serve) -> None:
        handler = Counter(lambda text: Response(text, headers={"Vary": "Accept, *"}))
        with serving(serve, Cache(), handler).connect() as peer:
            assert [peer.ask().text for _ in range(3)] == ["/ 1", "/ 2", "/ 3"]

    def test_a_vary_that_changes_replaces_what_was_kept(self, serve: Serve) -> None:
        vary = ["X-A", "X-B"]
        cache = Cache()

        async def handler(request: Request) -> Response:
            return Response(request.headers.get("x-b") or "-", headers={"Vary": vary[0]})

        with serving(serve, cache, handler).connect() as peer:
            assert peer.ask(headers=[("X-A", "1")]).text == "-"
            vary.pop(0)
            assert peer.ask(headers=[("X-A", "2"), ("X-B", "b")]).text == "b"
            assert len(cache) == 1
            assert peer.ask(headers=[("X-B", "c")]).text == "c"
            assert peer.ask(headers=[("X-A", "9"), ("X-B", "b")]).text == "b"
        assert (len(cache), cache.misses) == (2, 3)


class TestNeverKept:
    @pytest.mark.parametrize(
        "make",
        [
            lambda text: Response(text, 500),
            lambda text: Response(text, 404),
            lambda text: Response(text, 201),
            lambda text: Response(text, 206, {"Content-Range": "bytes 0-1/5"}),
            lambda text: Response(text, 200, {"Content-Range": "bytes 0-1/5"}),
            lambda text: RedirectResponse(f"/{text.strip('/ ')}"),
            lambda text: Response(text, cookies={"a": "1"}),
            lambda text: Response(text, headers={"Set-Cookie": "a=1"}),
            lambda text: Response(text, headers={"Cache-Control": "no-store"}),
            lambda text: Response(text, headers={"Cache-Control": "max-age=5, Private"}),
            lambda text: Response(text, headers=[("Cache-Control", "max-age=5"), ("Cache-Control", "NO-CACHE")]),
            lambda text: Response(text, headers={"Cache-Control": 'private="x-a"'}),
            lambda text: StreamingResponse([text.encode()]),
            lambda text: Response(text + "x" * 5000),
        ],
    )
    def test_responses(self, serve: Serve, make: Callable[[str], Response]) -> None:
        handler, cache = Counter(make), Cache(max_bytes=20_000)
        with serving(serve, cache, handler).connect() as peer:
            for _ in range(3):
                assert peer.ask().get("age") is None
        assert handler.calls == 3
        assert len(cache) == 0

    def test_a_file(self, serve: Serve) -> None:
        handler, cache = Counter(lambda _: FileResponse(__file__)), Cache()
        with serving(serve, cache, handler).connect() as peer:
            assert b"test_a_file" in peer.ask().content
            assert b"test_a_file" in peer.ask().content
        assert handler.calls == 2

    @pytest.mark.parametrize("error", [HTTPError(404), RuntimeError("no")], ids=repr)
    def test_errors(self, serve: Serve, error: Exception) -> None:
        calls = []

        async def handler(request: Request) -> Response:
            calls.append(request.path)
            raise error

        cache = Cache()
        with serving(serve, cache, handler).connect() as peer:
            statuses = [peer.ask().status for _ in range(3)]
        assert statuses == [404 if isinstance(error, HTTPError) else 500] * 3
        assert len(calls) == 3
        assert not cache._running

    @pytest.mark.parametrize(
        ("method", "fields", "content"),
        [
            ("POST", [], b""),
            ("PUT", [], b"x"),
            ("GET", [], b"content"),
            ("GET", [("Transfer-Encoding", "chunked")], b""),
            ("GET", [("Authorization", "Bearer a")], b""),
        ],
    )
    def test_requests(self, serve: Serve, method: str, fields: list[tuple[str, str]], content: bytes) -> None:
        handler, cache = Counter(), Cache()
        served = serving(serve, cache, handler, ["GET", "POST", "PUT"])
        served.ask()
        for _ in range(2):
            with served.connect() as peer:
                lines = [f"{name}: {value}" for name, value in fields]
                if content:
                    lines.append(f"Content-Length: {len(content)}")
                end = b"0\r\n\r\n" if "Transfer-Encoding: chunked" in lines else content
                peer.send(message("/", method, lines, end))
                assert peer.read_answer().status == 200
        assert handler.calls == 3
        assert len(cache) == 1

    def test_a_key_of_ones_own_tells_users_apart(self, serve: Serve) -> None:
        handler = Counter()
        cache = Cache(key=lambda request: request.headers.get("authorization"))
        with serving(serve, cache, handler).connect() as peer:
            for user, text in [("a", "/ 1"), ("b", "/ 2"), ("a", "/ 1"), ("b", "/ 2")]:
                assert peer.ask(headers=[("Authorization", user)]).text == text
            assert [peer.ask().text, peer.ask().text] == ["/ 3", "/ 4"]  # None: without the cache
        assert len(cache) == 2


class TestBounds:
    def test_by_entries_those_used_last_stay(self, serve: Serve) -> None:
        handler, cache = Counter(), Cache(max_entries=3)
        with serving(serve, cache, handler).connect() as peer:
            for target in ["/1", "/2", "/3", "/1", "/4", "/1", "/2"]:
                peer.ask(target)
        assert len(cache) == 3
        assert handler.calls == 5
        assert cache._names.keys() == {place[0] for place in cache._entries}

    def test_by_bytes(self, serve: Serve) -> None:
        handler, cache = Counter(lambda text: Response(text + "x" * 4000)), Cache(max_bytes=50_000)
        with serving(serve, cache, handler).connect() as peer:
            for number in range(100):
                peer.ask(f"/{number}")
        assert 9 <= len(cache) <= 12
        assert cache._size == sum(entry.cost for entry in cache._entries.values()) <= 50_000
        assert len(cache._names) == len(cache._entries)
        cache.clear()
        assert (cache._size, len(cache._names)) == (0, 0)

    def test_what_cannot_be_kept_takes_no_place(self, serve: Serve) -> None:
        def answer(text: str) -> Response:
            return Response(text, 200 if text.startswith("/kept") else 404)

        cache = Cache(max_entries=10)
        with serving(serve, cache, Counter(answer)).connect() as peer:
            for number in range(50):
                peer.ask(f"/{'kept' if number < 10 else 'lost'}/{number}")
        assert len(cache) == len(cache._entries) == 10

    @pytest.mark.parametrize(
        ("options", "error"),
        [
            ({"ttl": 0}, "ttl"),
            ({"ttl": float("inf")}, "ttl"),
            ({"max_entries": 0}, "max_entries"),
            ({"max_bytes": -1}, "max_bytes"),
        ],
        ids=repr,
    )
    def test_refuses_where_it_is_written(self, options: dict[str, Any], error: str) -> None:
        with pytest.raises(ConfigurationError, match=error):
            Cache(**options)


class Slow:
    """A handler that waits until it is let go."""

    def __init__(self, make: Callable[[str], Response] = TextResponse) -> None:
        self.calls = 0
        self.ended = 0
        self.go = threading.Event()
        self.make = make

    async def __call__(self, request: Request) -> Response:
        self.calls += 1
        number = self.calls
        try:
            while not self.go.is_set():  # noqa: ASYNC110  it is set by another thread
                await asyncio.sleep(0.005)
        finally:
            self.ended += 1
        return self.make(f"{request.path} {number}")


class TestAtOnce:
    """Of several requests that miss at the same time, one runs the handler."""

    @staticmethod
    def wait(condition: Callable[[], bool]) -> None:
        until = time.monotonic() + 5
        while not condition():
            assert time.monotonic() < until
            time.sleep(0.005)

    def test_one_runs_and_the_others_wait(self, serve: Serve) -> None:
        handler, cache = Slow(), Cache()
        served = serving(serve, cache, handler)
        peers = [served.connect() for _ in range(10)]
        for peer in peers:
            peer.send(message())
        with served.connect() as other:
            other.send(message("/other"))
            self.wait(lambda: served.server._core.exchanges == 11 and handler.calls == 2)
            handler.go.set()
            texts = {peer.read_answer().text for peer in peers}
            other.read_answer()
        assert len(texts) == 1
        assert handler.calls == 2
        for peer in peers:
            peer.close()
        assert not cache._running

    def test_one_that_goes_away_leaves_its_place_to_another(self, serve: Serve) -> None:
        handler, cache = Slow(), Cache()
        served = serving(serve, cache, handler)
        first = served.connect()
        first.send(message())
        self.wait(lambda: handler.calls == 1)
        others = [served.connect() for _ in range(3)]
        for peer in others:
            peer.send(message())
        self.wait(lambda: served.server._core.exchanges == 4)
        others.pop().reset()  # one that waits may go, too
        first.reset()
        self.wait(lambda: handler.ended == 1 and handler.calls == 2)
        handler.go.set()
        assert {peer.read_answer().text for peer in others} == {"/ 2"}
        for peer in others:
            peer.close()
        assert has_no_connections(served)
        assert not cache._running

    def test_nobody_waits_twice_for_what_cannot_be_kept(self, serve: Serve) -> None:
        handler, cache = Slow(lambda text: Response(text, headers={"Cache-Control": "private"})), Cache()
        served = serving(serve, cache, handler)
        peers = [served.connect() for _ in range(5)]
        for peer in peers:
            peer.send(message())
        self.wait(lambda: served.server._core.exchanges == 5 and handler.calls == 1)
        handler.go.set()
        assert len({peer.read_answer().text for peer in peers}) == 5
        # That it cannot be kept is known now: they all run at once.
        handler.go.clear()
        for peer in peers:
            peer.send(message())
        self.wait(lambda: handler.calls == 10)
        handler.go.set()
        assert len({peer.read_answer().text for peer in peers}) == 5
        for peer in peers:
            peer.close()

    def test_a_failure_is_not_shared(self, serve: Serve) -> None:
        def fail(text: str) -> Response:
            if text == "/ 1":
                raise RuntimeError(text)
            return Response(text)

        handler, cache = Slow(fail), Cache()
        served = serving(serve, cache, handler)
        peers = [served.connect() for _ in range(3)]
        for peer in peers:
            peer.send(message())
            self.wait(lambda: handler.calls >= 1)
        self.wait(lambda: served.server._core.exchanges == 3)
        handler.go.set()
        assert sorted(peer.read_answer().status for peer in peers) == [200, 200, 500]
        for peer in peers:
            peer.close()


class TestEngines:
    def test_one_that_lacks_a_method_is_refused_where_it_is_made(self) -> None:
        class Half(CacheEngine):
            def get(self, request: Request) -> None:
                pass

        with pytest.raises(TypeError, match=r"Half.*\bstore\b"):
            Half()  # type: ignore[abstract]  # pyright: ignore[reportAbstractUsage]

    @pytest.mark.parametrize("is_async", [False, True])
    def test_an_engine_keeps_them_elsewhere(self, serve: Serve, *, is_async: bool) -> None:
        kept: dict[Any, bytes] = {}

        class Sync(CacheEngine):
            def get(self, request: Request) -> Response | None:
                found = kept.get(self.key(request))
                return None if found is None else Response(found)

            def store(self, request: Request, response: Response) -> None:
                kept[self.key(request)] = response.content

        class Async(CacheEngine):
            async def get(self, request: Request) -> Response | None:
                await asyncio.sleep(0)
                return Sync().get(request)

            async def store(self, request: Request, response: Response) -> None:
                await asyncio.sleep(0)
                Sync().store(request, response)

        handler = Counter()
        served = serving(serve, Async() if is_async else Sync(), handler)
        assert [served.ask("/a").text, served.ask("/a").text, served.ask("/b").text] == ["/a 1", "/a 1", "/b 2"]
        served.ask("/c", headers=[("Authorization", "x")])
        assert len(kept) == 2


class TestCachedResponse:
    @pytest.fixture
    def served(self, serve: Serve) -> Served:
        app = Vibora()
        robots = CachedResponse("User-agent: *\n", headers={"Cache-Control": "max-age=60"}, cookies=["a=1"])
        gone = CachedResponse(b"gone", 410)
        bare = CachedResponse(b"bare", headers={"content-type": "text/x"}, etag=False)

        @app.get("/")
        async def home() -> Response:
            return robots

        @app.get("/gone")
        async def old() -> Response:
            return gone

        @app.get("/bare")
        async def plain(request: Request) -> Response:
            response = await bare.resolve(request)
            response.headers.add("x-hook", "1")
            return response

        return serve(app)

    def test_is_sent_again_and_again(self, served: Served) -> None:
        with served.connect() as peer:
            for _ in range(3):
                answer = peer.ask()
                assert (answer.status, answer.content) == (200, b"User-agent: *\n")
                assert answer.get("content-type") == "text/plain; charset=utf-8"
                assert answer.get_all("set-cookie") == ["a=1"]
                assert answer.get("cache-control") == "max-age=60"
                answer = peer.ask("/gone")
                assert (answer.status, answer.content, answer.get("etag")) == (410, b"gone", None)
                answer = peer.ask("/bare")
                assert (answer.get_all("x-hook"), answer.get("etag")) == (["1"], None)
                assert peer.ask(method="HEAD").get("content-length") == "14"

    def test_a_client_that_has_it_is_told_so(self, served: Served) -> None:
        with served.connect() as peer:
            tag = peer.ask().get("etag") or ""
            answer = peer.ask(headers=[("If-None-Match", f'"x", {tag}')])
            assert (answer.status, answer.get("etag"), answer.get("cache-control")) == (304, tag, "max-age=60")
            assert answer.get("content-type") is None
            assert peer.ask("/bare", headers=[("If-None-Match", "*")]).status == 304
            assert peer.ask("/bare").get("content-type") == "text/x"
            assert peer.ask(headers=[("If-Match", '"x"')]).status == 412
            assert peer.ask("/gone", headers=[("If-None-Match", "*")]).status == 410

    def test_the_tag_is_that_of_the_content(self) -> None:
        tags = [CachedResponse(content).headers["etag"] for content in (b"a", "a", b"b")]
        assert tags[0] == tags[1] != tags[2]
        assert CachedResponse(b"a", headers={"ETag": '"mine"'}).headers["etag"] == '"mine"'

    @pytest.mark.parametrize("arguments", [(5,), (b"", 99), (b"", 200, {"a b": "c"})], ids=repr)
    def test_refuses_what_a_response_refuses(self, arguments: tuple[Any, ...]) -> None:
        with pytest.raises((TypeError, ValueError)):
            CachedResponse(*arguments)


class TestCacheControl:
    @pytest.mark.parametrize(
        ("control", "text"),
        [
            (CacheControl(), ""),
            (CacheControl(public=True, max_age=31536000, immutable=True), "public, max-age=31536000, immutable"),
            (CacheControl(no_store=True), "no-store"),
            (CacheControl(private=True, no_cache=True, max_age=0), "private, no-cache, max-age=0"),
            (
                CacheControl(s_maxage=5, stale_while_revalidate=60, stale_if_error=600, must_revalidate=True),
                "s-maxage=5, stale-while-revalidate=60, stale-if-error=600, must-revalidate",
            ),
        ],
    )
    def test_is_the_value_of_the_field(self, control: CacheControl, text: str) -> None:
        assert str(control) == text

    @pytest.mark.parametrize("options", [{"max_age": -1}, {"s_maxage": 1.5}, {"max_age": "1"}], ids=repr)
    def test_refuses_what_is_no_number_of_seconds(self, options: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match="takes whole seconds"):
            CacheControl(**options)
