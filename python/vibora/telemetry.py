"""OpenTelemetry: a span for each request of an app.

```python
from vibora.telemetry import instrument

instrument(app)
```

Attributes, names and statuses follow the [semantic conventions](https://opentelemetry.io/docs/specs/semconv/http/) of
HTTP servers, version 1.44. The query is left out: it may hold secrets. What exports spans is the program's choice; this
needs the API only, `pip install 'vibora[telemetry]'`.
"""

from typing import TYPE_CHECKING, Final

try:
    from opentelemetry import context, propagate, trace
    from opentelemetry.propagators.textmap import Getter
except ImportError:
    raise ImportError(
        "vibora.telemetry needs OpenTelemetry's API: pip install 'vibora[telemetry]'", name="opentelemetry"
    ) from None

from vibora import _core
from vibora._core import Headers, Outcome, Request, Response
from vibora.app import Vibora
from vibora.blueprints import CallNext
from vibora.exceptions import ConfigurationError, HTTPError
from vibora.hooks import Events, Hook

if TYPE_CHECKING:
    from vibora.components import Frame

__all__ = ["instrument"]

_SCHEMA: Final = "https://opentelemetry.io/schemas/1.44.0"

#: What `Request.context` keeps the span under.
_KEY: Final = "vibora.telemetry.span"

#: The methods that may be told apart; clients invent others (RFC 9110 §9.3, RFC 5789).
_METHODS: Final = frozenset({"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"})


def instrument(app: Vibora, tracer_provider: trace.TracerProvider | None = None) -> None:
    """Make a span for each request: from its head to the last byte of the response, or until the client is gone.

    It continues the trace that the request's headers tell of (`traceparent`), and is the current span of handlers,
    hooks, middleware and streams.

    Args:
        app: The app, before it is served.
        tracer_provider: What makes the spans; the global provider when omitted, also one that is set later.

    Raises:
        ConfigurationError: If the app is instrumented already, or is being served.
    """
    if any(isinstance(getattr(middleware, "__self__", None), _Tracing) for middleware in app.middlewares):
        raise ConfigurationError("the app is instrumented already")
    if app.runtimes:
        raise ConfigurationError("the app is being served: instrument it before it starts")
    tracing = _Tracing(trace.get_tracer("vibora", _core.__version__, tracer_provider, _SCHEMA))
    app.middlewares.insert(0, tracing.begin)
    app.hooks.insert(0, Hook(Events.AFTER_RESPONSE_SENT, tracing.end))


class _HeadersGetter(Getter[Headers]):
    """Reads what propagators ask for out of a header section."""

    def get(self, carrier: Headers, key: str) -> list[str] | None:
        return carrier.get_all(key) or None

    def keys(self, carrier: Headers) -> list[str]:
        return carrier.keys()


_GETTER: Final = _HeadersGetter()


class _Tracing:
    """The middleware that begins spans, and the hook that ends them.

    Args:
        tracer: What makes them.
    """

    def __init__(self, tracer: trace.Tracer) -> None:
        self._tracer: Final = tracer

    async def begin(self, request: Request, call_next: CallNext) -> Response:
        """Begin the span of a request.

        It stays the current one when this returns, for streams. An exchange has a context of its own, which ends with
        it.

        Args:
            request: The request.
            call_next: What goes on.
        """
        parent = propagate.extract(request.headers, getter=_GETTER)
        span = self._tracer.start_span(
            _name(request), context=parent, kind=trace.SpanKind.SERVER, attributes=_attributes(request)
        )
        # The frame has what the handler raises. The request forgets it before its response is out.
        request.context[_KEY] = span, request._frame  # noqa: SLF001
        context.attach(trace.set_span_in_context(span, parent))
        return await call_next(request)

    def end(self, request: Request, outcome: Outcome) -> None:
        """End the span of a request; there is none where the app did not see it, as with requests for metrics.

        Args:
            request: The request.
            outcome: What became of the response.
        """
        kept: tuple[trace.Span, Frame] | None = request.context.pop(_KEY, None)
        if kept is None:
            return
        span, frame = kept
        if span.is_recording():
            _tell(span, frame.error, outcome)
        span.end()


def _name(request: Request) -> str:
    """Return what many requests have in common: neither the path nor an unknown method."""
    method = request.method if request.method in _METHODS else "HTTP"
    return f"{method} {request.route.pattern}" if request.route else method


def _attributes(request: Request) -> dict[str, str | int]:
    url, peer = request.url, request.client
    attributes: dict[str, str | int | None] = {
        "http.request.method": request.method if request.method in _METHODS else "_OTHER",
        "http.request.method_original": None if request.method in _METHODS else request.method,
        "http.route": request.route.pattern if request.route else None,
        "url.path": url.raw_path,
        "url.scheme": url.scheme,
        "server.address": url.host or None,
        "server.port": url.port if url.host else None,
        "client.address": request.client_ip(),
        "network.peer.address": peer[0] if peer else None,
        "network.peer.port": peer[1] if peer else None,
        "network.protocol.version": request.http_version,
        "user_agent.original": request.headers.get("user-agent"),
    }
    return {name: value for name, value in attributes.items() if value is not None}


def _tell(span: trace.Span, error: BaseException | None, outcome: Outcome) -> None:
    """Write down how a request ended. Statuses below 500 are no errors of a server, nor is a client that leaves."""
    status, reason = outcome.status_code, outcome.reason
    if status is not None:
        span.set_attribute("http.response.status_code", status)
    failed = status is not None and status >= 500
    if reason == "complete" and not failed:
        return
    if isinstance(error, HTTPError) or not isinstance(error, Exception):  # an answer, or a cancellation
        error = None
    if error is not None and reason != "disconnected":
        span.record_exception(error)
    if reason != "complete":
        span.set_attribute("error.type", reason)
    elif error is not None:
        span.set_attribute("error.type", f"{type(error).__module__}.{type(error).__qualname__}")
    else:
        span.set_attribute("error.type", str(status))
    if failed or reason != "disconnected":
        span.set_status(trace.StatusCode.ERROR)
