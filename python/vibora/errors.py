"""What becomes of an exception: an answer to the client, and one log record where we are to blame.

The answer has the form that the client accepts: problem details (RFC 9457) where it asks for JSON, else plain text. In
debug a browser is shown the traceback.
"""

import logging
import traceback
from typing import Final

from vibora._core import HtmlResponse, JsonResponse, RedirectResponse, Request, Response, Route, TextResponse
from vibora.exceptions import AutomaticOptions, ClientDisconnected, HTTPError, SlashRedirect, reason_phrase
from vibora.routing import describe

logger: Final = logging.getLogger("vibora.error")


def answer_error(
    request: Request | None, error: BaseException, route: Route | None, *, debug: bool = False
) -> Response:
    """Return the response to a request that ended in an exception.

    An `HTTPError` is an answer of the app's own. Anything else is a failure: it is logged once, with its traceback and
    the route, and the client is told nothing but 500; in debug, the traceback.

    Args:
        request: The request; None when there was not enough of it.
        error: The exception.
        route: The route that matched, if one did.
        debug: Whether the client may see the traceback.
    """
    if isinstance(error, HTTPError):
        return _problem(request, error)
    if isinstance(error, SlashRedirect):
        return RedirectResponse(error.location, 308)
    if isinstance(error, AutomaticOptions):
        return Response(b"", 204, {"allow": error.allow})
    if isinstance(error, ClientDisconnected):
        logger.debug("%s: the client disconnected", _where(request, route))
        return TextResponse("", 499)  # nginx's status for it; nobody reads it
    log_failure(request, error, route)
    return _show(request, error, route) if debug else _problem(request, HTTPError(500))


def _show(request: Request | None, error: BaseException, route: Route | None) -> Response:
    """Return the response that shows a failure to whoever develops the app."""
    text = "".join(traceback.format_exception(error))
    form = _TEXT if request is None else preferred(request, _TEXT, _HTML, *_JSON)
    if request is not None and form == _HTML:
        from vibora.debug import error_page  # noqa: PLC0415  only in debug

        return HtmlResponse(error_page(request, error, route), 500)
    return _problem(request, HTTPError(500, text)) if form in _JSON else TextResponse(text, 500)


def log_failure(request: Request | None, error: BaseException, route: Route | None) -> None:
    """Log an exception that nobody has answered for, and tell the test client that waits for the answer.

    Args:
        request: The request.
        error: The exception.
        route: The route that matched, if one did.
    """
    if request is not None:
        request._tell_failure(error)  # noqa: SLF001
    try:
        shown = repr(error)
    except Exception:  # noqa: BLE001  its own code: the record must come nevertheless
        shown = type(error).__qualname__
    logger.error("%s failed: %s", _where(request, route), shown, exc_info=error)


def _where(request: Request | None, route: Route | None) -> str:
    """Return what an exception belongs to: method, path as it was sent, route and handler."""
    what = (
        "a request" if request is None else f"{request.method} {request.raw_path.decode('ascii', 'backslashreplace')}"
    )
    if route is None:
        return what
    return f"{what} in route {route.name!r} ({route.pattern}), handler {describe(route.handler)}"


# --- the form of the answer -------------------------------------------------------------------------------------------

_TEXT: Final = "text/plain"
_HTML: Final = "text/html"
_JSON: Final = ("application/problem+json", "application/json")


def _problem(request: Request | None, error: HTTPError) -> Response:
    if request is None or not _wants_json(request):
        return TextResponse(error.detail, error.status, error.headers)
    title = reason_phrase(error.status)
    problem: dict[str, object] = {"type": "about:blank", "title": title, "status": error.status}
    if error.detail != title:
        problem["detail"] = error.detail
    return JsonResponse(
        {**problem, **error.members}, error.status, {"content-type": "application/problem+json", **error.headers}
    )


def _wants_json(request: Request) -> bool:
    return preferred(request, _TEXT, *_JSON) in _JSON


def preferred(request: Request, default: str, *others: str) -> str:
    """Return the media type that a client likes best (RFC 9110 §12.5.1).

    A client that takes anything gets the default. One is preferred to it if the client names it, or its kind, and
    likes it no less.

    Args:
        request: The request.
        default: The media type where the client does not care.
        *others: Other media types.
    """
    accept = request.headers.get("accept")
    if accept is None:
        return default
    accept = accept.lower()
    if not any(f"{media_type.partition('/')[0]}/" in accept for media_type in others):
        return default  # none of the others is named, as for most programs, which send `*/*`
    weights = dict(_ranges(accept))
    chosen, best = default, _weight(default, weights)
    for media_type in others:
        named = media_type in weights or f"{media_type.partition('/')[0]}/*" in weights
        weight = _weight(media_type, weights)
        if named and weight > 0 and (weight > best or (weight == best and chosen == default)):
            chosen, best = media_type, weight
    return chosen


def _ranges(accept: str) -> list[tuple[str, float]]:
    ranges: list[tuple[str, float]] = []
    for item in accept.split(",")[:32]:
        media_range, *parameters = (part.strip() for part in item.split(";"))
        weight = 1.0
        for parameter in parameters:
            if parameter.startswith("q="):
                try:
                    weight = min(max(float(parameter[2:]), 0.0), 1.0)
                except ValueError:
                    weight = 0.0
        ranges.append((media_range, weight))
    return ranges


def _weight(media_type: str, weights: dict[str, float]) -> float:
    kind = media_type.partition("/")[0]
    return next((weights[name] for name in (media_type, f"{kind}/*", "*/*") if name in weights), 0.0)
