"""What becomes of an exception: an answer to the client, and one log record where we are to blame."""

import logging
import traceback
from typing import Final

from vibora._core import RedirectResponse, Request, Response, Route, TextResponse
from vibora.exceptions import ClientDisconnected, HTTPError, SlashRedirect, reason_phrase
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
        return TextResponse(error.detail, error.status, error.headers)
    if isinstance(error, SlashRedirect):
        return RedirectResponse(error.location, 308)
    if isinstance(error, ClientDisconnected):
        logger.debug("%s: the client disconnected", _where(request, route))
        return TextResponse("", 499)  # nginx's status for it; nobody reads it
    logger.error("%s failed: %r", _where(request, route), error, exc_info=error)
    return TextResponse("".join(traceback.format_exception(error)) if debug else reason_phrase(500), 500)


def _where(request: Request | None, route: Route | None) -> str:
    """Return what an exception belongs to: method, path as it was sent, route and handler."""
    what = (
        "a request" if request is None else f"{request.method} {request.raw_path.decode('ascii', 'backslashreplace')}"
    )
    if route is None:
        return what
    return f"{what} in route {route.name!r} ({route.pattern}), handler {describe(route.handler)}"
