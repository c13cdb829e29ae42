"""Spans of OpenTelemetry: what they say, what they belong to, and that each ends, however its request does."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from programs import wait_until
from vibora import (
    ConfigurationError,
    Events,
    HTTPError,
    JsonResponse,
    Request,
    Response,
    StreamingResponse,
    TextResponse,
    Vibora,
)
from vibora.telemetry import instrument

if TYPE_CHECKING:
    from conftest import Serve

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"


class Recorder:
    """A provider of tracers, and the spans that have been begun and ended."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.begun = 0
        self.provider = TracerProvider(shutdown_on_exit=False)
        recorder = self

        class Processor(SimpleSpanProcessor):
            def on_start(self, span: Any, parent_context: Any = None) -> None:
                recorder.begun += 1
                super().on_start(span, parent_context)

        self.provider.add_span_processor(Processor(self.exporter))

    def ended(self) -> tuple[ReadableSpan, ...]:
        return self.exporter.get_finished_spans()

    def spans(self, count: int = 1) -> list[ReadableSpan]:
        """Return the spans that have ended, once there are so many; no others are open."""
        wait_until(lambda: len(self.ended()) >= count, "a span has not ended")
        assert len(self.ended()) == self.begun == count
        return list(self.ended())

    def span(self) -> ReadableSpan:
        return self.spans()[0]


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """OpenTelemetry logs what it is not used for: contexts detached elsewhere, spans changed after their end."""
    yield
    assert not [record for record in caplog.records if record.name.startswith("opentelemetry")]


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def current() -> str:
    return trace.format_span_id(trace.get_current_span().get_span_context().span_id)


def context_of(span: ReadableSpan) -> trace.SpanContext:
    context: trace.SpanContext | None = span.context
    assert context is not None
    return context


def id_of(span: ReadableSpan) -> str:
    return trace.format_span_id(context_of(span).span_id)


def seconds(span: ReadableSpan) -> float:
    assert span.start_time is not None
    assert span.end_time is not None
    return (span.end_time - span.start_time) / 1e9


@pytest.fixture
def app(recorder: Recorder) -> Vibora:  # noqa: C901  a handler for each way to end
    app = Vibora()

    @app.get("/users/<user_id>")
    async def user(user_id: int) -> TextResponse:
        return TextResponse(f"{user_id} {current()}")

    @app.get("/thread")
    def thread() -> TextResponse:
        return TextResponse(current())

    @app.get("/stream")
    async def stream() -> StreamingResponse:
        async def chunks() -> AsyncIterator[str]:
            yield current()
            await asyncio.sleep(0.05)
            yield " " + current()

        return StreamingResponse(chunks)

    @app.get("/endless")
    async def endless() -> StreamingResponse:
        async def chunks() -> AsyncIterator[bytes]:
            while True:
                yield b"x"
                await asyncio.sleep(0.01)

        return StreamingResponse(chunks)

    @app.get("/broken")
    async def broken() -> StreamingResponse:
        async def chunks() -> AsyncIterator[bytes]:
            yield b"x"
            await asyncio.sleep(0)
            raise OSError("the disk is gone")

        return StreamingResponse(chunks)

    @app.get("/fails")
    async def fails() -> Response:
        raise LookupError("nothing here")

    @app.get("/unavailable")
    async def unavailable() -> Response:
        raise HTTPError(503)

    @app.get("/slow", timeout=0.05)
    async def slow() -> Response:
        await asyncio.Event().wait()
        raise NotImplementedError

    @app.get("/waits")
    async def waits() -> Response:
        await asyncio.Event().wait()
        raise NotImplementedError

    @app.post("/finishes", on_disconnect="finish")
    async def finishes() -> Response:
        await asyncio.sleep(0.65)
        return TextResponse("nobody reads this")

    instrument(app, recorder.provider)
    return app


class TestWhatSpansSay:
    """Names and attributes."""

    def test_a_request_with_a_route(self, serve: "Serve", app: Vibora, recorder: Recorder) -> None:
        served = serve(app)
        answer = served.ask("/users/7?token=secret", headers=[("User-Agent", "tests/1")])
        span = recorder.span()
        assert answer.text == f"7 {id_of(span)}"
        assert (span.name, span.kind, span.parent) == ("GET /users/<user_id>", trace.SpanKind.SERVER, None)
        assert span.status.status_code is trace.StatusCode.UNSET
        said = attributes(span)
        assert said.pop("network.peer.port") > 0
        assert said.pop("server.address") in ("test", "localhost", "127.0.0.1")
        said.pop("server.port", None)
        assert said == {
            "http.request.method": "GET",
            "http.response.status_code": 200,
            "http.route": "/users/<user_id>",
            "url.path": "/users/7",
            "url.scheme": "http",
            "client.address": "127.0.0.1",
            "network.peer.address": "127.0.0.1",
            "network.protocol.version": "1.1",
            "user_agent.original": "tests/1",
        }

    def test_address_and_port_are_those_of_the_host_field(
        self, serve: "Serve", app: Vibora, recorder: Recorder
    ) -> None:
        with serve(app).connect() as peer:
            peer.send(b"GET /users/7 HTTP/1.1\r\nHost: Shop.example:8080\r\nConnection: close\r\n\r\n")
            peer.read_to_end()
        said = attributes(recorder.span())
        assert (said["server.address"], said["server.port"]) == ("shop.example", 8080)

    def test_what_no_route_answers(self, serve: "Serve", app: Vibora, recorder: Recorder) -> None:
        served = serve(app)
        assert [served.ask("/nowhere/1").status, served.ask("/users/7", "PUT").status] == [404, 405]
        missing, method = recorder.spans(2)
        assert (missing.name, method.name.split(" ")[0]) == ("GET", "PUT")
        assert "http.route" not in attributes(missing)
        for span, status in ((missing, 404), (method, 405)):
            assert attributes(span)["http.response.status_code"] == status
            assert "error.type" not in attributes(span)
            assert span.status.status_code is trace.StatusCode.UNSET

    def test_methods_that_clients_invent_are_one(self, serve: "Serve", app: Vibora, recorder: Recorder) -> None:
        serve(app).ask("/nowhere", "BREW")
        said = attributes(recorder.span())
        assert recorder.span().name == "HTTP"
        assert (said["http.request.method"], said["http.request.method_original"]) == ("_OTHER", "BREW")

    def test_an_exception_is_recorded(self, serve: "Serve", app: Vibora, recorder: Recorder) -> None:
        assert serve(app).ask("/fails").status == 500
        span = recorder.span()
        assert span.status.status_code is trace.StatusCode.ERROR
        assert attributes(span)["error.type"] == "builtins.LookupError"
        (event,) = span.events
        assert dict(event.attributes or {})["exception.message"] == "nothing here"

    def test_an_error_that_is_an_answer_is_not_an_exception(
        self, serve: "Serve", app: Vibora, recorder: Recorder
    ) -> None:
        assert serve(app).ask("/unavailable").status == 503
        span = recorder.span()
        assert (attributes(span)["error.type"], span.events) == ("503", ())
        assert span.status.status_code is trace.StatusCode.ERROR


class TestWhereSpansBelong:
    """Parents, and what is current."""

    def test_the_trace_of_the_client_goes_on(self, serve: "Serve", app: Vibora, recorder: Recorder) -> None:
        serve(app).ask("/users/7", headers=[("Traceparent", f"00-{TRACE}-{PARENT}-01"), ("tracestate", "a=1")])
        span = recorder.span()
        assert trace.format_trace_id(context_of(span).trace_id) == TRACE
        assert span.parent is not None
        assert (trace.format_span_id(span.parent.span_id), span.parent.is_remote) == (PARENT, True)
        assert context_of(span).trace_state.get("a") == "1"

    def test_a_malformed_parent_is_none(self, serve: "Serve", app: Vibora, recorder: Recorder) -> None:
        served = serve(app)
        malformed = ["", "nonsense", f"00-{TRACE}-{'0' * 16}-01", f"00-{TRACE}-{PARENT}-01, x"]
        for value in malformed:
            assert served.ask("/users/7", headers=[("traceparent", value)]).status == 200
        assert [span.parent for span in recorder.spans(len(malformed))] == [None] * len(malformed)

    def test_a_handler_in_a_thread_has_it(self, serve: "Serve", app: Vibora, recorder: Recorder) -> None:
        text = serve(app).ask("/thread").text
        assert text == id_of(recorder.span())

    def test_hooks_have_it_and_spans_within_are_its_children(
        self, serve: "Serve", app: Vibora, recorder: Recorder
    ) -> None:
        tracer = recorder.provider.get_tracer("shop")

        @app.handle(Events.AFTER_ENDPOINT)
        async def after(response: Response) -> None:
            response.headers["x-span"] = current()

        @app.get("/query")
        async def query() -> TextResponse:
            with tracer.start_as_current_span("query"):
                await asyncio.sleep(0)
            return TextResponse(current())

        answer = serve(app).ask("/query")
        child, span = recorder.spans(2)
        assert child.parent is not None
        assert (child.name, child.parent.span_id) == ("query", context_of(span).span_id)
        assert answer.text == answer.get("x-span") == id_of(span)

    def test_requests_of_a_connection_do_not_share_it(self, serve: "Serve", app: Vibora, recorder: Recorder) -> None:
        with serve(app).connect() as peer:
            seen = [peer.ask("/users/7").text.split()[1] for _ in range(3)]
        spans = recorder.spans(3)
        assert seen == [id_of(span) for span in spans]
        assert all(span.parent is None for span in spans)


class TestTheEnd:
    """A span ends with the last byte, or with whatever comes in its place."""

    def test_a_stream_has_it_to_its_last_byte(self, serve: "Serve", app: Vibora, recorder: Recorder) -> None:
        answer = serve(app).ask("/stream")
        span = recorder.span()
        assert answer.content.decode() == f"{id_of(span)} {id_of(span)}"
        assert seconds(span) >= 0.04

    def test_a_client_leaves_a_stream(self, serve: "Serve", app: Vibora, recorder: Recorder) -> None:
        with serve(app).connect() as peer:
            peer.send(b"GET /endless HTTP/1.1\r\nHost: test\r\n\r\n")
            peer.read_until(b"x")
            assert (recorder.begun, recorder.ended()) == (1, ())
        span = recorder.span()
        said = attributes(span)
        assert (said["http.response.status_code"], said["error.type"]) == (200, "disconnected")
        assert span.status.status_code is trace.StatusCode.UNSET

    def test_a_client_leaves_a_handler(self, serve: "Serve", app: Vibora, recorder: Recorder) -> None:
        with serve(app).connect() as peer:
            peer.send(b"GET /waits HTTP/1.1\r\nHost: test\r\n\r\n")
            wait_until(lambda: recorder.begun == 1, "no span has begun")
        assert attributes(recorder.span())["error.type"] == "disconnected"

    def test_a_handler_that_finishes_without_its_client(self, serve: "Serve", app: Vibora, recorder: Recorder) -> None:
        with serve(app).connect() as peer:
            peer.send(b"POST /finishes HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n\r\n")
            wait_until(lambda: recorder.begun == 1, "no span has begun")
        assert seconds(recorder.span()) >= 0.6

    def test_a_handler_is_too_slow(self, serve: "Serve", app: Vibora, recorder: Recorder) -> None:
        status = serve(app).ask("/slow").status
        span = recorder.span()
        said = attributes(span)
        assert status == said["http.response.status_code"] >= 500
        assert span.status.status_code is trace.StatusCode.ERROR
        assert said["error.type"] == "503"
        assert span.events == ()

    def test_a_stream_fails(self, serve: "Serve", app: Vibora, recorder: Recorder) -> None:
        with serve(app).connect() as peer:
            peer.send(b"GET /broken HTTP/1.1\r\nHost: test\r\n\r\n")
            with pytest.raises((ConnectionResetError, EOFError)):
                peer.read_until(b"\r\n0\r\n\r\n")
        span = recorder.span()
        assert attributes(span)["error.type"] == "aborted"
        assert span.status.status_code is trace.StatusCode.ERROR

    def test_the_server_stops(self, serve: "Serve", app: Vibora, recorder: Recorder) -> None:
        served = serve(app)
        with served.connect() as peer:
            peer.send(b"GET /waits HTTP/1.1\r\nHost: test\r\n\r\n")
            wait_until(lambda: recorder.begun == 1, "no span has begun")
            served.stop()
        assert recorder.span().status.status_code is trace.StatusCode.ERROR

    def test_middleware_of_the_app_fails(self, serve: "Serve", app: Vibora, recorder: Recorder) -> None:
        @app.middleware
        async def broken(request: Request, call_next: Callable[[Request], Any]) -> Response:
            raise ValueError("in middleware")

        assert serve(app).ask("/users/7").status == 500
        assert attributes(recorder.span())["error.type"] == "builtins.ValueError"


class TestInstrumenting:
    """What is refused, and what is missing."""

    def test_once_is_enough(self, app: Vibora) -> None:
        with pytest.raises(ConfigurationError, match="instrumented already"):
            instrument(app)

    def test_an_app_that_is_served_is_too_late(self, serve: "Serve") -> None:
        app = Vibora()
        serve(app)
        with pytest.raises(ConfigurationError, match="before it starts"):
            instrument(app)

    def test_without_a_provider_nothing_is_recorded_and_all_works(self, serve: "Serve") -> None:
        app = Vibora()

        @app.get("/")
        async def home() -> JsonResponse:
            return JsonResponse({"span": current()})

        instrument(app)
        parent = [("traceparent", f"00-{TRACE}-{PARENT}-01")]
        assert serve(app).ask("/", headers=parent).text == f'{{"span":"{PARENT}"}}'  # passed on to what it calls

    def test_requests_for_metrics_have_none(self, serve: "Serve", recorder: Recorder) -> None:
        app = Vibora(metrics_path="/metrics")
        instrument(app, recorder.provider)
        served = serve(app)
        assert served.ask("/metrics").status == 200
        assert served.ask("/nowhere").status == 404
        assert recorder.span().name == "GET"

    def test_the_message_when_opentelemetry_is_missing(self) -> None:
        code = "import sys; sys.modules['opentelemetry'] = None; import vibora.telemetry"
        failed = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=20, env=os.environ
        )
        assert failed.returncode == 1
        assert failed.stderr.endswith(
            "ImportError: vibora.telemetry needs OpenTelemetry's API: pip install 'vibora[telemetry]'\n"
        )

    def test_the_framework_does_not_import_it(self) -> None:
        code = "import sys, vibora; assert not any(name.startswith('opentelemetry') for name in sys.modules)"
        subprocess.run([sys.executable, "-c", code], check=True, timeout=20)
