"""Components: what handlers, hooks and error handlers are given by type."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Callable, Generator, Iterator  # noqa: TC003  evaluated at run time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Protocol, runtime_checkable

import pytest

from vibora import (
    Blueprint,
    Component,
    ConfigurationError,
    Events,
    FileResponse,
    HTTPError,
    MissingComponent,
    Request,
    Response,
    RouteLimits,
    StreamingResponse,
    TextResponse,
    Vibora,
)
from vibora.testing import TestClock

if TYPE_CHECKING:
    from pathlib import Path

    from vibora.components import Scope


@dataclass
class Settings:
    """An object that is added."""

    name: str = "settings"


class Pool:
    """What lives as long as the worker."""

    def __init__(self, name: str = "pool") -> None:
        self.name = name


class Session:
    """What lives as long as a request."""

    count = 0

    def __init__(self) -> None:
        type(self).count += 1
        self.number = type(self).count


class Repository(Protocol):
    """What is asked for by what it can do."""

    name: str


@runtime_checkable
class Getter(Protocol):
    """A protocol that the app, too, has the methods of."""

    def get(self, pattern: str) -> object: ...


@dataclass
class Journal:
    """What has happened, in order."""

    lines: list[str] = field(default_factory=list)

    def scope(self, name: str) -> Callable[[], AsyncIterator[None]]:
        async def lines() -> AsyncIterator[None]:
            self.lines.append(f"open {name}")
            yield
            self.lines.append(f"close {name}")

        return lines


def get(app: Vibora, path: str = "/", **options: Any) -> str:
    """Return the text of an answer."""
    with app.test_client(**options) as client:
        response = client.get(path)
    assert response.status_code == 200, response.text
    return response.text


class TestObjects:
    def test_by_their_type(self) -> None:
        app = Vibora()
        app.add_component(Settings())

        @app.get("/<number>")
        async def home(number: int, settings: Settings, request: Request) -> Response:
            return TextResponse(f"{number} {settings.name} {request.path}")

        assert get(app, "/1") == "1 settings /1"
        assert app.components.get(Settings) is app.components[Settings]
        assert Settings in app.components
        assert Pool not in app.components

    def test_by_a_base_class_or_a_protocol(self) -> None:
        app = Vibora()
        app.add_component(Pool("repository"), provides=Repository)

        class Small(Settings):
            pass

        app.add_component(Small("small"))

        @app.get("/")
        def home(repository: Repository, settings: Settings) -> Response:  # in a thread
            return TextResponse(f"{repository.name} {settings.name}")

        assert get(app) == "repository small"

    def test_a_base_class_of_several(self) -> None:
        class First(Settings):
            pass

        class Second(Settings):
            pass

        app = Vibora()
        app.components.add(First(), Second())

        @app.get("/")
        async def home(settings: Settings) -> Response:
            raise NotImplementedError

        with (
            pytest.raises(ConfigurationError, match=r"Settings may be .*First and .*Second: ask for one"),
            app.test_client(),
        ):
            pass

    def test_the_app_and_the_loop(self) -> None:
        app = Vibora()

        @app.get("/")
        async def home(own: Vibora, loop: asyncio.AbstractEventLoop) -> Response:
            return TextResponse(f"{own is app} {loop is asyncio.get_running_loop()}")

        assert get(app) == "True True"

    def test_the_app_does_not_pass_for_a_protocol(self) -> None:
        app = Vibora()

        @app.get("/")
        async def home(getter: Getter) -> Response:
            raise NotImplementedError

        with pytest.raises(MissingComponent, match="Getter"), app.test_client():
            pass

    def test_a_default_and_optional(self) -> None:
        app = Vibora()
        app.add_component(Settings())

        @app.get("/")
        async def home(pool: Pool | None = None, settings: Settings | None = None) -> Response:
            return TextResponse(f"{pool} {settings.name if settings else None}")

        assert get(app) == "None settings"

    def test_annotated(self) -> None:
        app = Vibora()
        app.add_component(Settings())

        @app.get("/")
        async def home(settings: Annotated[Settings, "whatever"]) -> Response:
            return TextResponse(settings.name)

        assert get(app) == "settings"

    def test_refusals(self) -> None:
        app = Vibora()
        app.add_component(Settings())
        with pytest.raises(ConfigurationError, match=r"a component of type .*Settings already"):
            app.add_component(Settings())
        with pytest.raises(ConfigurationError, match="Pool is a class: add an object of it, or Component"):
            app.add_component(Pool)
        with pytest.raises(ConfigurationError, match="is a function: say how long"):
            app.add_component(lambda: 1)
        with pytest.raises(ConfigurationError, match="scope is 'app', 'request' or 'handler', got 'page'"):
            app.add_component(Pool, scope="page")  # type: ignore[arg-type]

        def nothing():  # type: ignore[no-untyped-def]  # noqa: ANN202
            return 1

        with pytest.raises(ConfigurationError, match="annotate what it returns"):
            app.add_component(nothing, scope="request")


class TestProviders:
    @pytest.mark.parametrize("scope", ["app", "request", "handler"])
    @pytest.mark.parametrize("kind", ["function", "coroutine", "generator", "async generator", "class", "callable"])
    def test_every_kind_in_every_scope(self, kind: str, scope: Scope) -> None:
        app = Vibora()
        seen: list[str] = []

        def function(settings: Settings) -> Pool:
            return Pool(settings.name)

        async def coroutine(settings: Settings) -> Pool:
            await asyncio.sleep(0)
            return Pool(settings.name)

        def generator(settings: Settings) -> Iterator[Pool]:
            yield Pool(settings.name)
            seen.append("closed")

        async def async_generator(settings: Settings) -> AsyncIterator[Pool]:
            yield Pool(settings.name)
            await asyncio.sleep(0)
            seen.append("closed")

        class Made(Pool):
            def __init__(self, settings: Settings) -> None:
                super().__init__(settings.name)

        class Maker:
            async def __call__(self, settings: Settings) -> Pool:
                return Pool(settings.name)

        builders: dict[str, Any] = {
            "function": function,
            "coroutine": coroutine,
            "generator": generator,
            "async generator": async_generator,
            "class": Made,
            "callable": Maker(),
        }
        app.add_component(Settings("a"))
        app.add_component(builders[kind], scope=scope)

        @app.get("/")
        async def home(pool: Pool) -> Response:
            return TextResponse(pool.name)

        assert get(app) == "a"
        assert seen == (["closed"] if "generator" in kind else [])

    def test_generator_annotations(self) -> None:
        app = Vibora()

        @app.component("request")
        def pool() -> Generator[Pool, None, None]:
            yield Pool()

        @app.component("request", provides=Settings)
        def settings():  # type: ignore[no-untyped-def]  # noqa: ANN202
            return Settings("given")

        @app.get("/")
        async def home(pool: Pool, settings: Settings) -> Response:
            return TextResponse(pool.name + settings.name)

        assert get(app) == "poolgiven"

    def test_how_often_they_are_called(self) -> None:
        app, inner = Vibora(), Blueprint()
        made: list[str] = []

        def counting(name: str, kind: type[Any]) -> Callable[[], Any]:
            def make() -> Any:
                made.append(name)
                return kind()

            return make

        app.add_component(Component(counting("app", Pool), "app", Pool))
        app.add_component(Component(counting("request", Session), "request", Session))
        app.add_component(Component(counting("handler", Settings), "handler", Settings))

        @inner.handle(Events.BEFORE_ENDPOINT)
        async def before(session: Session, pool: Pool) -> None: ...

        @inner.middleware
        async def around(request: Request, call_next: Any, session: Session) -> Response:
            response: Response = await call_next(request)
            response.headers["x-session"] = str(session.number)
            return response

        @inner.get("/")
        async def home(session: Session, pool: Pool, settings: Settings, again: Session) -> Response:
            assert session is again
            return TextResponse(str(session.number))

        app.add_blueprint(inner)
        with app.test_client() as client:
            assert made == ["app"]
            responses = [client.get("/") for _ in range(2)]
        assert made == ["app", *["request", "handler"] * 2]
        assert [response.text for response in responses] == [response.headers["x-session"] for response in responses]
        assert responses[0].text != responses[1].text

    def test_clean_up_is_in_reverse_order(self) -> None:
        app, journal = Vibora(), Journal()

        @app.component("request")
        async def session(request: Request) -> AsyncIterator[Session]:
            journal.lines.append("open session")
            yield Session()
            journal.lines.append("close session")

        @app.component("request")
        async def settings(session: Session) -> AsyncIterator[Settings]:
            journal.lines.append("open settings")
            yield Settings()
            journal.lines.append("close settings")

        @app.component("app")
        async def pool() -> AsyncIterator[Pool]:
            journal.lines.append("open pool")
            yield Pool()
            journal.lines.append("close pool")

        @app.get("/")
        async def home(settings: Settings, pool: Pool) -> Response:
            journal.lines.append("handler")
            return Response()

        get(app)
        assert journal.lines == [
            *("open pool", "open session", "open settings", "handler"),
            *("close settings", "close session", "close pool"),
        ]

    def test_app_components_may_need_those_added_later(self) -> None:
        app = Vibora()

        @app.component("app")
        async def pool(settings: Settings) -> Pool:
            return Pool(settings.name)

        @app.component("app")
        async def settings() -> Settings:
            return Settings("later")

        @app.get("/")
        async def home(pool: Pool) -> Response:
            assert app.components.get(Pool) is pool
            return TextResponse(pool.name)

        assert get(app) == "later"
        with pytest.raises(MissingComponent, match="made when the server starts"):
            app.components.get(Pool)

    def test_added_by_a_hook(self) -> None:
        app = Vibora()

        @app.handle(Events.BEFORE_SERVER_START)
        async def connect(own: Vibora) -> None:
            own.add_component(Pool("hook"))

        @app.get("/")
        async def home(pool: Pool) -> Response:
            return TextResponse(pool.name)

        assert get(app) == "hook"

    def test_one_that_fails_is_a_failure_of_the_request(self) -> None:
        app = Vibora()
        closed: list[str] = []

        @app.component("request")
        async def pool() -> AsyncIterator[Pool]:
            yield Pool()
            closed.append("pool")

        @app.component("request")
        async def session(pool: Pool) -> Session:
            raise LookupError("no session")

        @app.get("/")
        async def home(session: Session) -> Response:
            raise NotImplementedError

        @app.handle(LookupError)
        async def handle(error: LookupError) -> Response:
            return TextResponse(str(error))

        assert get(app) == "no session"
        assert closed == []  # it saw the error at its `yield`, and did not go on

    def test_one_may_refuse_the_request(self) -> None:
        app = Vibora()

        @app.component("request")
        async def session(request: Request) -> Session:
            raise HTTPError(401, "who are you")

        @app.get("/")
        async def home(session: Session) -> Response:
            raise NotImplementedError

        with app.test_client() as client:
            response = client.get("/")
        assert (response.status_code, response.text) == (401, "who are you")


class TestRequestScope:
    """It is closed after the last byte of the response, whatever became of that."""

    def app(self, journal: Journal, **options: Any) -> Vibora:
        app = Vibora(**options)

        @app.component("request")
        async def session() -> AsyncIterator[Session]:
            try:
                yield Session()
            except BaseException as error:
                journal.lines.append(f"saw {type(error).__name__}")
                raise
            finally:
                journal.lines.append("closed")

        return app

    def test_after_a_whole_response(self) -> None:
        journal = Journal()
        app = self.app(journal)

        @app.component("handler")
        def settings() -> Iterator[Settings]:
            yield Settings()
            journal.lines.append("handler closed")

        @app.handle(Events.AFTER_ENDPOINT)
        def after() -> None:
            journal.lines.append("response")

        @app.get("/")
        async def home(session: Session, settings: Settings) -> Response:
            return TextResponse("x" * 100_000)

        assert len(get(app)) == 100_000
        assert journal.lines == ["handler closed", "response", "closed"]

    def test_the_client_has_the_response_before_clean_up_ends(self) -> None:
        app = Vibora()
        go_on = asyncio.Event()

        @app.component("request")
        async def session() -> AsyncIterator[Session]:
            yield Session()
            await go_on.wait()

        @app.get("/")
        async def home(session: Session) -> Response:
            return TextResponse("early")

        async def main() -> None:
            async with app.test_client() as client:
                assert (await client.get("/")).text == "early"
                go_on.set()

        asyncio.run(main())

    def test_after_the_last_byte_of_a_stream(self) -> None:
        journal = Journal()
        app = self.app(journal)

        @app.get("/")
        async def home(session: Session) -> Response:
            async def chunks() -> AsyncIterator[str]:
                for number in range(3):
                    await asyncio.sleep(0)
                    journal.lines.append(f"chunk {number}")
                    yield str(number)

            return StreamingResponse(chunks)

        assert get(app) == "012"
        assert journal.lines == ["chunk 0", "chunk 1", "chunk 2", "closed"]

    def test_of_a_file(self, tmp_path: Path) -> None:
        journal = Journal()
        app = self.app(journal)
        (tmp_path / "file").write_bytes(b"x" * 300_000)

        @app.get("/")
        async def home(session: Session) -> Response:
            return FileResponse(tmp_path / "file")

        assert len(get(app)) == 300_000
        assert journal.lines == ["closed"]

    def test_on_a_disconnect(self) -> None:
        journal = Journal()
        app = self.app(journal)

        @app.get("/")
        async def home(session: Session) -> Response:
            async def chunks() -> AsyncIterator[str]:
                yield "first"
                await asyncio.Event().wait()

            return StreamingResponse(chunks)

        with app.test_client() as client:
            with client.stream("GET", "/") as response:
                assert next(response.iter_text()) == "first"
                assert journal.lines == []
            client.settle()
            assert journal.lines == ["saw CancelledError", "closed"]

    def test_on_a_stream_that_fails(self) -> None:
        journal = Journal()
        app = self.app(journal)

        @app.get("/")
        async def home(session: Session) -> Response:
            async def chunks() -> AsyncIterator[str]:
                yield "first"
                await asyncio.sleep(0)
                raise LookupError("broken")

            return StreamingResponse(chunks)

        with app.test_client() as client, pytest.raises(LookupError):
            client.get("/")
        assert journal.lines == ["saw LookupError", "closed"]

    def test_on_a_timeout(self) -> None:
        journal, clock = Journal(), TestClock()
        app = self.app(journal, route_limits=RouteLimits(timeout=5))

        @app.get("/")
        async def home(session: Session) -> Response:
            await asyncio.Event().wait()
            raise NotImplementedError

        async def main() -> None:
            async with app.test_client(clock=clock) as client:
                asking = asyncio.create_task(client.get("/"))
                await clock.advance(5)
                assert (await asking).status_code == 503

        asyncio.run(main())
        assert journal.lines == ["saw CancelledError", "closed"]

    @pytest.mark.parametrize("handled", [False, True])
    def test_on_an_error(self, *, handled: bool) -> None:
        journal = Journal()
        app = self.app(journal)

        @app.get("/")
        async def home(session: Session) -> Response:
            raise LookupError("wrong")

        if handled:
            app.handle(LookupError)(lambda: TextResponse("handled", 400))
        with app.test_client(raise_server_exceptions=False) as client:
            assert client.get("/").status_code == (400 if handled else 500)
        assert journal.lines == ["saw LookupError", "closed"]

    def test_on_an_error_below_middleware(self) -> None:
        journal = Journal()
        app = self.app(journal)

        @app.middleware
        async def around(request: Request, call_next: Any) -> Response:
            response: Response = await call_next(request)
            journal.lines.append(f"middleware {response.status_code}")
            return response

        @app.get("/")
        async def home(session: Session) -> Response:
            raise HTTPError(409)

        with app.test_client() as client:
            assert client.get("/").status_code == 409
        assert journal.lines == ["middleware 409", "saw HTTPError", "closed"]

    def test_clean_up_that_fails_is_logged(self, caplog: pytest.LogCaptureFixture) -> None:
        app = Vibora()

        @app.component("request")
        async def session() -> AsyncIterator[Session]:
            yield Session()
            raise LookupError("at the end")

        @app.get("/")
        async def home(session: Session) -> Response:
            return TextResponse("fine")

        assert get(app, raise_server_exceptions=False) == "fine"
        assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == [
            'the clean-up of a request failed of route "home" (/): GET /'
        ]

    def test_clean_up_that_hangs_is_bounded(self) -> None:
        app, clock = Vibora(), TestClock()

        @app.component("request")
        async def session() -> AsyncIterator[Session]:
            yield Session()
            await asyncio.Event().wait()

        @app.get("/")
        async def home(session: Session) -> Response:
            return TextResponse("fine")

        async def main() -> None:
            async with app.test_client(clock=clock, raise_server_exceptions=False) as client:
                assert (await client.get("/")).text == "fine"
                await clock.advance(5)
                assert (await client.get("/")).text == "fine"
                await clock.advance(5)

        asyncio.run(main())

    def test_each_request_has_its_own(self) -> None:
        app = Vibora()

        @app.component("request")
        async def session() -> Session:
            await asyncio.sleep(0.001)
            return Session()

        @app.get("/")
        async def home(session: Session) -> Response:
            await asyncio.sleep(0.001)
            return TextResponse(str(session.number))

        async def main() -> None:
            async with app.test_client() as client:
                numbers = [response.text for response in await asyncio.gather(*(client.get("/") for _ in range(50)))]
                assert len(set(numbers)) == 50

        asyncio.run(main())

    def test_nothing_is_left_behind(self) -> None:
        app = Vibora()

        @app.component("request")
        async def session(request: Request) -> AsyncIterator[Session]:
            yield Session()

        @app.handle(Events.AFTER_ENDPOINT)
        def after(request: Request, response: Response) -> None: ...

        @app.get("/")
        async def home(session: Session) -> Response:
            return Response()

        @app.get("/fail")
        async def fail(session: Session) -> Response:
            raise HTTPError(400)

        with app.test_client() as client:
            for path in ("/", "/fail"):
                client.get(path)
                gc.collect()
                before = len(gc.get_objects())
                for _ in range(200):
                    client.get(path)
                gc.collect()
                assert len(gc.get_objects()) - before < 200


class TestWhatIsMissing:
    def test_names_handler_parameter_and_type(self) -> None:
        app = Vibora()

        @app.get("/")
        async def home(session: Session) -> Response:
            raise NotImplementedError

        with (
            pytest.raises(
                MissingComponent,
                match=r"handler .*home \(tests/test_components.py:\d+\).*'session'.*no component of type .*Session;",
            ),
            app.test_client(),
        ):
            pass

    def test_of_a_provider(self) -> None:
        app = Vibora()

        @app.component("request")
        async def session(pool: Pool) -> Session:
            raise NotImplementedError

        with pytest.raises(MissingComponent, match=r"provider .*session.*'pool'.*Pool"), app.test_client():
            pass

    def test_of_a_hook(self) -> None:
        app = Vibora()

        @app.handle(Events.AFTER_ENDPOINT)
        async def hook(pool: Pool) -> None: ...

        with pytest.raises(MissingComponent, match=r"hook .*hook.*'pool'.*Pool"), app.test_client():
            pass

    def test_without_an_annotation(self) -> None:
        app = Vibora()

        @app.handle(Events.BEFORE_ENDPOINT)
        async def hook(pool):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
            raise NotImplementedError

        with pytest.raises(MissingComponent, match="'pool' has no annotation"), app.test_client():
            pass

    @pytest.mark.parametrize(("wide", "narrow"), [("app", "request"), ("app", "handler"), ("request", "handler")])
    def test_a_narrower_scope(self, wide: Scope, narrow: Scope) -> None:
        app = Vibora()
        app.add_component(Pool, scope=narrow)

        def session(pool: Pool) -> Session:
            raise NotImplementedError

        app.add_component(session, scope=wide)
        with (
            pytest.raises(ConfigurationError, match=f"'pool' cannot be a .*Pool: its scope is '{narrow}'.* '{wide}'"),
            app.test_client(),
        ):
            pass

    def test_app_components_have_no_request(self) -> None:
        app = Vibora()

        @app.component("app")
        def pool(request: Request) -> Pool:
            raise NotImplementedError

        with pytest.raises(MissingComponent, match=r"'request'.*Request"), app.test_client():
            pass

    def test_rings(self) -> None:
        app = Vibora()

        @app.component("request")
        def session(pool: Pool) -> Session:
            raise NotImplementedError

        @app.component("request")
        def pool(session: Session) -> Pool:
            raise NotImplementedError

        with (
            pytest.raises(ConfigurationError, match=r"need each other: .*Session needs .*Pool needs .*Session"),
            app.test_client(),
        ):
            pass

    def test_what_was_made_is_cleaned_up_when_the_start_fails(self) -> None:
        app, closed = Vibora(), list[str]()

        @app.component("app")
        async def pool() -> AsyncIterator[Pool]:
            try:
                yield Pool()
            finally:
                closed.append("pool")

        @app.component("app")
        async def session() -> Session:
            raise LookupError("no database")

        with pytest.raises(LookupError), app.test_client():
            pass
        assert closed == ["pool"]
        assert not app.components.made


class TestOverrides:
    def test_with_an_object(self) -> None:
        app, made = Vibora(), list[str]()

        @app.component("app")
        async def pool() -> Pool:
            made.append("pool")
            return Pool("real")

        @app.component("request")
        async def session(pool: Pool) -> Session:
            made.append(f"session with {pool.name}")
            return Session()

        @app.get("/")
        async def home(pool: Pool, session: Session) -> Response:
            return TextResponse(pool.name)

        with app.override(Pool, Pool("fake")):
            assert get(app) == "fake"
        assert made == ["session with fake"], "the real one is not made"
        assert get(app) == "real"

    def test_with_a_provider(self) -> None:
        app = Vibora()
        app.add_component(Pool("real"))

        async def fake() -> AsyncIterator[Pool]:
            yield Pool("fake")

        @app.get("/")
        async def home(pool: Pool) -> Response:
            return TextResponse(pool.name)

        with app.override(Pool, Component(fake, "request")):
            assert get(app) == "fake"
        assert get(app) == "real"

    def test_not_while_it_is_served(self) -> None:
        app = Vibora()
        with (
            app.test_client(),
            pytest.raises(ConfigurationError, match="override its components before it starts"),
            app.override(Pool, Pool()),
        ):
            pass
