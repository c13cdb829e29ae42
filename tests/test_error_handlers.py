"""Error handlers, and what is answered where there is none."""

import json
import logging
from collections.abc import AsyncIterator, Callable

import pytest

from vibora import (
    Blueprint,
    HTTPError,
    JsonResponse,
    NotFound,
    Request,
    Response,
    RouteLimits,
    StreamingResponse,
    TextResponse,
    Vibora,
    abort,
)
from vibora._core import Route
from vibora.exceptions import ConfigurationError, MethodNotAllowed


class Shortage(Exception):
    """What the shop has not got."""


class SoldOut(Shortage):
    """It had it."""


def raising(app: Blueprint, error: Callable[[], BaseException], path: str = "/") -> None:
    """Register a handler that raises."""

    @app.get(path)
    async def fail() -> Response:
        raise error()


def saying(text: str, status: int = 400) -> Callable[[], Response]:
    """Return an error handler that says something."""
    return lambda: TextResponse(text, status)


def said(app: Vibora, path: str = "/", method: str = "GET") -> tuple[int, str]:
    """Return status and text of an answer."""
    with app.test_client(raise_server_exceptions=False) as client:
        response = client.request(method, path)
    return response.status_code, response.text


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what was logged as an error."""
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]


class TestWhoAnswers:
    def test_the_most_specific_class(self) -> None:
        app = Vibora()
        raising(app, SoldOut)
        app.handle(Exception)(saying("exception"))
        app.handle(Shortage)(saying("shortage"))
        assert said(app) == (400, "shortage")
        app.handle(SoldOut)(saying("sold out"))
        assert said(app) == (400, "sold out")

    def test_the_order_among_classes_and_statuses(self) -> None:
        class NoSuchUser(NotFound):
            pass

        app = Vibora()
        raising(app, NoSuchUser)
        for what in (Exception, HTTPError, NotFound, 404, NoSuchUser):
            app.handle(what)(saying(str(what)))
            assert said(app) == (400, str(what))

    def test_500_comes_before_exception_and_after_classes(self) -> None:
        app = Vibora()
        raising(app, SoldOut)
        for what in (Exception, 500, Shortage):
            app.handle(what)(saying(str(what)))
            assert said(app) == (400, str(what))

    def test_the_innermost_blueprint_first(self) -> None:
        app, outer, inner = Vibora(), Blueprint(), Blueprint()
        raising(inner, SoldOut)
        outer.add_blueprint(inner, {"": "/inner"})
        app.add_blueprint(outer, {"": "/outer"})
        app.handle(SoldOut)(saying("app"))
        assert said(app, "/outer/inner/") == (400, "app")
        outer.handle(Shortage)(saying("outer"))  # nearer, though less specific
        assert said(app, "/outer/inner/") == (400, "outer")
        inner.handle(Exception)(saying("inner"))
        assert said(app, "/outer/inner/") == (400, "inner")

    def test_none_passes_on(self) -> None:
        app, inner = Vibora(), Blueprint()
        raising(inner, SoldOut)
        app.add_blueprint(inner)
        seen: list[str] = []

        @inner.handle(SoldOut)
        async def first() -> None:
            seen.append("first")

        @inner.handle(Shortage)
        def second() -> None:
            seen.append("second")

        @app.handle(SoldOut)
        async def third(error: SoldOut) -> Response:
            return TextResponse("third", 409)

        assert said(app) == (409, "third")
        assert seen == ["first", "second"]

    def test_if_all_pass_on_the_default_answers(self) -> None:
        app = Vibora()
        raising(app, lambda: NotFound("no such thing"))

        @app.handle(404)
        async def nothing() -> None: ...

        assert said(app) == (404, "no such thing")

    def test_requests_without_a_route(self) -> None:
        app = Vibora()

        @app.get("/there")
        async def there(number: int = 1) -> Response:
            return Response()

        @app.handle(404)
        async def missing(request: Request, error: NotFound) -> Response:
            return TextResponse(f"no {request.path}", 404)

        @app.handle(405)
        async def refused(error: MethodNotAllowed) -> Response:
            return TextResponse("not so", 405, error.headers)

        assert said(app, "/away") == (404, "no /away")
        assert said(app, "/there", "POST") == (405, "not so")

    def test_a_parameter_that_does_not_fit_is_a_404(self) -> None:
        app = Vibora()

        @app.get("/<number>")
        async def show(number: int) -> Response:
            return Response()

        app.handle(404)(saying("handled", 404))
        assert said(app, "/x") == (404, "handled")

    def test_content_that_is_too_large(self) -> None:
        app, inner = Vibora(), Blueprint(limits=RouteLimits(max_body_size=3))

        @inner.post("/")
        async def take(request: Request) -> Response:
            return Response(await request.content())

        app.add_blueprint(inner)
        inner.handle(413)(saying("too much", 413))
        with app.test_client() as client:
            assert client.post("/", content=b"abc").text == "abc"
            assert client.post("/", content=b"abcd").text == "too much"
            assert client.post("/", content=iter([b"ab", b"cd"])).text == "too much"

    def test_a_redirect_and_options_are_no_errors(self) -> None:
        app = Vibora()

        @app.get("/x")
        async def there() -> Response:
            return TextResponse("there")

        app.handle(Exception)(saying("error", 500))
        app.handle(500)(saying("error", 500))
        with app.test_client(follow_redirects=False) as client:
            assert client.get("/x/").status_code == 308
            assert client.options("/x").status_code == 204

    def test_what_they_may_ask_for(self) -> None:
        app = Vibora()
        app.add_component({"a": 1}, provides=Shortage)  # of a type that has nothing to do with the error's
        raising(app, LookupError, "/fail")

        @app.handle(LookupError, ValueError)
        async def handle(error: Exception, request: Request, route: Route, app: Vibora) -> Response:
            assert request.route is route
            assert isinstance(app, Vibora)
            return TextResponse(f"{type(error).__name__} {route.name}", 400)

        assert said(app, "/fail") == (400, "LookupError fail")

    def test_by_name_without_annotations(self) -> None:
        app = Vibora()
        raising(app, lambda: SoldOut("apples"))

        @app.handle(SoldOut)
        def handle(request, error):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202  that is the point
            return TextResponse(f"{request.path} {error}")

        assert said(app) == (200, "/ apples")

    def test_a_response_may_be_a_stream(self) -> None:
        app = Vibora()
        raising(app, SoldOut)

        @app.handle(SoldOut)
        async def handle() -> Response:
            return StreamingResponse(["a", "b"], status_code=409)

        assert said(app) == (409, "ab")


class TestFailingHandlers:
    def test_a_failing_500_handler_is_a_500_and_logged_once(self, caplog: pytest.LogCaptureFixture) -> None:
        app = Vibora()
        raising(app, lambda: SoldOut("apples"))

        @app.handle(500)
        async def worse() -> Response:
            raise RuntimeError("worse")

        assert said(app) == (500, "Internal Server Error")
        (record,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
        assert "worse" in record.getMessage()
        assert record.exc_info is not None
        assert record.exc_info[1] is not None
        assert isinstance(record.exc_info[1].__context__, SoldOut), "the first failure is shown too"

    def test_a_handler_that_returns_nonsense(self, caplog: pytest.LogCaptureFixture) -> None:
        app = Vibora()
        raising(app, SoldOut)

        @app.handle(SoldOut)
        async def nonsense() -> object:
            return {"error": 1}

        assert said(app) == (500, "Internal Server Error")
        assert "must return a Response, not dict; JsonResponse(...)" in errors(caplog)[0]
        assert len(errors(caplog)) == 1

    def test_a_handler_may_raise_an_http_error(self, caplog: pytest.LogCaptureFixture) -> None:
        app = Vibora()
        raising(app, SoldOut)

        @app.handle(SoldOut)
        async def refuse() -> Response:
            raise HTTPError(409, "sold out")

        assert said(app) == (409, "sold out")
        assert not errors(caplog)

    @pytest.mark.parametrize("what", [500, Exception])
    def test_the_last_resorts_log(self, what: int | type[Exception], caplog: pytest.LogCaptureFixture) -> None:
        app = Vibora()
        raising(app, lambda: SoldOut("apples"))
        app.handle(what)(saying("sorry", 500))
        assert said(app) == (500, "sorry")
        assert len(errors(caplog)) == 1
        assert "GET / in route 'fail' (/)" in errors(caplog)[0]

    def test_handled_classes_do_not_log(self, caplog: pytest.LogCaptureFixture) -> None:
        app = Vibora()
        raising(app, SoldOut)
        app.handle(Shortage)(saying("sorry", 400))
        app.handle(Exception)(saying("-", 500))
        assert said(app) == (400, "sorry")
        assert said(app, "/away") == (500, "-")  # `Exception` means all of them
        assert not errors(caplog)

    def test_streams_that_fail_before_their_first_chunk(self) -> None:
        app = Vibora()

        @app.get("/")
        async def home() -> Response:
            async def chunks() -> AsyncIterator[bytes]:
                for count in range(1):
                    yield b"%d" % (1 // count)

            return StreamingResponse(chunks)

        app.handle(ZeroDivisionError)(saying("early", 409))
        assert said(app) == (409, "early")


class TestRegistration:
    @pytest.mark.parametrize("what", [200, 399, 600, True, BaseException, KeyboardInterrupt, int, "404"])
    def test_what_cannot_be_handled(self, what: object) -> None:
        with pytest.raises(ConfigurationError, match="events, statuses from 400 to 599 or classes of exceptions"):
            Vibora().handle(what)(saying("x"))  # type: ignore[arg-type]

    def test_nothing(self) -> None:
        with pytest.raises(ConfigurationError, match="got nothing"):
            Vibora().handle()

    def test_the_same_twice(self) -> None:
        app = Vibora()
        app.handle(404)(saying("a"))
        with pytest.raises(ConfigurationError, match=r"404 is handled by .*saying.* already"):
            app.handle(404)(saying("b"))

    def test_what_a_handler_cannot_be_given_is_told_at_the_start(self) -> None:
        app = Vibora()

        @app.handle(404)
        async def missing(shop: Shortage) -> Response:
            raise NotImplementedError

        with pytest.raises(ConfigurationError, match=r"error handler .*missing.*'shop'.*Shortage"), app.test_client():
            pass


class TestProblemDetails:
    """RFC 9457."""

    @pytest.mark.parametrize(
        ("accept", "expected"),
        [
            (None, "text/plain"),
            ("*/*", "text/plain"),
            ("application/json", "application/problem+json"),
            ("application/problem+json", "application/problem+json"),
            ("application/*", "application/problem+json"),
            ("application/json, text/plain, */*", "application/problem+json"),  # axios
            ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "text/plain"),
            ("text/plain, application/json;q=0.5", "text/plain"),
            ("text/plain;q=0.1, application/json;q=0.5", "application/problem+json"),
            ("application/json;q=0", "text/plain"),
            ("application/json;q=x, */*", "text/plain"),
            ("image/png", "text/plain"),
        ],
    )
    def test_the_form_follows_accept(self, accept: str | None, expected: str) -> None:
        app = Vibora()
        with app.test_client() as client:
            if accept is None:
                del client.headers["accept"]
            response = client.get("/away", headers={} if accept is None else {"accept": accept})
        assert response.headers["content-type"].partition(";")[0] == expected

    def test_members(self) -> None:
        app = Vibora()
        raising(app, lambda: HTTPError(422, "the age is wrong", headers={"x-why": "age"}, members={"age": -1}))
        with app.test_client(headers={"accept": "application/json"}) as client:
            response = client.get("/")
            assert response.json() == {
                "type": "about:blank",
                "title": "Unprocessable Content",
                "status": 422,
                "detail": "the age is wrong",
                "age": -1,
            }
            assert response.headers["x-why"] == "age"
            assert client.get("/away").json() == {"type": "about:blank", "title": "Not Found", "status": 404}

    def test_a_failure_tells_nothing(self) -> None:
        app = Vibora()
        raising(app, lambda: LookupError("secret"))
        with app.test_client(headers={"accept": "application/json"}, raise_server_exceptions=False) as client:
            assert json.loads(client.get("/").content) == {
                "type": "about:blank",
                "title": "Internal Server Error",
                "status": 500,
            }


class TestAbort:
    def test_the_subclass_for_a_status(self) -> None:
        with pytest.raises(NotFound, match="gone"):
            abort(404, "gone")

    def test_through_a_handler(self) -> None:
        app = Vibora()

        @app.get("/")
        def teapot() -> Response:  # in a thread
            abort(418, "short and stout")

        assert said(app) == (418, "short and stout")


class TestDebug:
    """What the client is shown with `debug=True`."""

    def page(self, accept: str, error: Exception | None = None) -> tuple[str, str]:
        app = Vibora()
        raising(app, lambda: error or LookupError("<script>alert(1)</script>"), "/<*rest>")

        @app.get("/json")
        async def other() -> Response:
            return JsonResponse({})

        with app.test_client(debug=True, raise_server_exceptions=False) as client:
            response = client.get("/a?<b>", headers={"accept": accept, "x-evil": "<i>", "cookie": "session=s3cret"})
        assert response.status_code == 500
        return response.headers["content-type"], response.text

    def test_browsers_get_a_page_with_everything_escaped(self) -> None:
        kind, text = self.page("text/html,*/*;q=0.8")
        assert kind.startswith("text/html")
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
        assert "<script>" not in text
        assert "<i>" not in text
        assert "raising.&lt;locals&gt;.fail" in text
        assert "<mark>" in text
        assert "raise error()" in text

    def test_secrets_are_not_shown(self) -> None:
        _, text = self.page("text/html")
        assert "s3cret" not in text

    def test_text_and_json(self) -> None:
        kind, text = self.page("*/*")
        assert kind.startswith("text/plain")
        assert "Traceback" in text
        kind, text = self.page("application/json")
        assert kind == "application/problem+json"
        assert "Traceback" in json.loads(text)["detail"]

    def test_an_exception_that_cannot_be_shown(self) -> None:
        class Silent(Exception):
            def __str__(self) -> str:
                raise RuntimeError("no words")

            __repr__ = __str__

        _, text = self.page("text/html", Silent())
        assert "Silent" in text

    def test_never_without_it(self) -> None:
        app = Vibora()
        raising(app, lambda: LookupError("secret"))
        with app.test_client(raise_server_exceptions=False) as client:
            response = client.get("/", headers={"accept": "text/html"})
        assert response.text == "Internal Server Error"
