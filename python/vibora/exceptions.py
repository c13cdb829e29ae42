"""The exceptions of Vibora: one tree.

::

    ViboraError
    ├── ConfigurationError           the app is wrong; raised before it serves
    │   ├── DuplicateRoute           two routes answer the same requests
    │   ├── DuplicatedBlueprint      a blueprint is mounted twice in the same place
    │   └── MissingComponent         something asks for a component that is not there
    ├── CannotListen                 the address is taken, forbidden or not there; an OSError too
    ├── HTTPError(status)            an answer: raise it in a handler, or call `abort`
    │   ├── BadRequest               400
    │   │   └── InvalidJSON          the content is not JSON, of `Request.json`
    │   ├── Unauthorized             401
    │   ├── Forbidden                403
    │   ├── NotFound                 404
    │   │   └── StaticNotFound       no such file, of a `StaticHandler`
    │   ├── MethodNotAllowed         405, with `Allow`
    │   ├── RequestTimeout           408
    │   ├── Conflict                 409
    │   ├── PreconditionFailed       412
    │   ├── ContentTooLarge          413
    │   ├── URITooLong               414
    │   ├── UnsupportedMediaType     415
    │   ├── RangeNotSatisfiable      416
    │   ├── ExpectationFailed        417
    │   ├── UnprocessableContent     422
    │   ├── TooManyRequests          429
    │   ├── HeaderFieldsTooLarge     431
    │   ├── InternalServerError      500
    │   ├── MethodNotImplemented     501
    │   ├── ServiceUnavailable       503
    │   └── VersionNotSupported      505
    ├── ReverseNotFound              no URL can be built from a name and parameters
    ├── SlashRedirect                the path has its slash at the end too much, or too little; answered with 308
    ├── ClientDisconnected           the client has gone: nobody is left to answer
    └── StreamAlreadyConsumed        the content of a request is streamed once
"""

from collections.abc import Iterable, Mapping
from typing import ClassVar, Final, NoReturn


class ViboraError(Exception):
    """The root of everything that Vibora raises on purpose."""


class ConfigurationError(ViboraError):
    """The app is wrong: raised where it is written down, before it serves a request."""


class DuplicateRoute(ConfigurationError):
    """Two routes answer the same requests; the message names both handlers."""


class DuplicatedBlueprint(ConfigurationError):
    """A blueprint is mounted twice in the same place."""


class MissingComponent(ConfigurationError):
    """Something asks for a component that is not there; the message names it, the parameter and the type."""


class CannotListen(ViboraError, OSError):
    """The address to serve on is taken, forbidden or not there; the message says what to do."""

    def __str__(self) -> str:
        return self.strerror or super().__str__()


class ReverseNotFound(ViboraError, LookupError):
    """No URL can be built: no route has the name, or a parameter is missing or does not fit."""


class SlashRedirect(ViboraError):
    """The path is that of a route but for the slash at its end (`RouterStrategy.REDIRECT`): answered with 308.

    Args:
        location: The other spelling, with the query; always on the same server.

    Attributes:
        location: The same.
    """

    def __init__(self, location: str) -> None:
        super().__init__(location)
        self.location: Final = location


class HTTPError(ViboraError):
    """Answer the request with an error status.

    Raise it, or a subclass, anywhere in a handler; `abort` picks the subclass from the status. It is an answer, not a
    failure: nothing is logged.

    Args:
        status: The status code, 400 to 599 (RFC 9110 §15.5, §15.6). Registered or not.
        detail: What the client is told, as the content of the response. The reason phrase of the status when omitted.
        headers: Header fields of the response.
        members: Further members of the problem details (RFC 9457 §3.2), for clients that accept JSON: also `type`,
            `title` and `instance`.

    Attributes:
        status: The status code.
        detail: What the client is told.
        headers: Header fields of the response, as a dict.
        members: Further members of the problem details, as a dict.

    Raises:
        ValueError: If `status` is not between 400 and 599.
    """

    def __init__(
        self,
        status: int,
        detail: str | None = None,
        headers: Mapping[str, str] | None = None,
        members: Mapping[str, object] | None = None,
    ) -> None:
        if status not in range(400, 600):
            raise ValueError(f"an error status is between 400 and 599, got {status!r}")
        # `args`, which is what `repr` shows, was set from those of the subclass: its own constructor's.
        self.status: Final = status
        self.detail: Final = detail or reason_phrase(status)
        self.headers: Final = dict(headers or {})
        self.members: Final = dict(members or {})

    def __str__(self) -> str:
        return f"{self.status} {self.detail}"

    def __reduce__(self) -> tuple[object, ...]:
        # For pickle and copy. The constructors of the subclasses differ, so they are not called.
        return HTTPError.__new__, (type(self), *self.args), self.__dict__


class _FixedStatus(HTTPError):
    """An `HTTPError` whose class says the status.

    Args:
        detail: What the client is told. The reason phrase of the status when omitted.
        headers: Header fields of the response.
        members: Further members of the problem details.
    """

    status_code: ClassVar[int]

    def __init__(
        self,
        detail: str | None = None,
        headers: Mapping[str, str] | None = None,
        members: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(self.status_code, detail, headers, members)


class BadRequest(_FixedStatus):
    """400: the request is malformed (RFC 9110 §15.5.1)."""

    status_code = 400


class InvalidJSON(BadRequest):
    """400: the content is not JSON."""


class Unauthorized(_FixedStatus):
    """401: credentials are missing or wrong; give a `www-authenticate` field (RFC 9110 §15.5.2)."""

    status_code = 401


class Forbidden(_FixedStatus):
    """403: understood, and refused (RFC 9110 §15.5.4)."""

    status_code = 403


class NotFound(_FixedStatus):
    """404: there is nothing here (RFC 9110 §15.5.5)."""

    status_code = 404


class StaticNotFound(NotFound):
    """404: no directory of a `StaticHandler` has such a file, or it may not be shown."""


class MethodNotAllowed(HTTPError):
    """405: the target exists, this method does not apply to it (RFC 9110 §15.5.6).

    Args:
        allow: The methods that do apply. They become the `Allow` field, which a 405 must carry.
        detail: What the client is told. The reason phrase of the status when omitted.
        headers: Further header fields of the response.
    """

    status_code: ClassVar = 405

    def __init__(
        self, allow: Iterable[str] = (), detail: str | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        self.allow: Final = (allow,) if isinstance(allow, str) else tuple(allow)
        super().__init__(self.status_code, detail, {**(headers or {}), "allow": ", ".join(self.allow)})


class RequestTimeout(_FixedStatus):
    """408: the client took too long to send its request (RFC 9110 §15.5.9)."""

    status_code = 408


class Conflict(_FixedStatus):
    """409: the request conflicts with the state of its target (RFC 9110 §15.5.10)."""

    status_code = 409


class PreconditionFailed(_FixedStatus):
    """412: a precondition of the request, such as `If-Match`, does not hold (RFC 9110 §15.5.13)."""

    status_code = 412


class ContentTooLarge(_FixedStatus):
    """413: the content passes `RouteLimits.max_body_size` (RFC 9110 §15.5.14)."""

    status_code = 413


class URITooLong(_FixedStatus):
    """414: the request line passes `ServerLimits.max_request_line` (RFC 9110 §15.5.15)."""

    status_code = 414


class UnsupportedMediaType(_FixedStatus):
    """415: the content is in a format that the target does not take (RFC 9110 §15.5.16)."""

    status_code = 415


class RangeNotSatisfiable(_FixedStatus):
    """416: the request is for bytes that are not there; `content-range` says how many are (RFC 9110 §15.5.17)."""

    status_code = 416


class ExpectationFailed(_FixedStatus):
    """417: the `Expect` field asks for something other than 100-continue (RFC 9110 §15.5.18)."""

    status_code = 417


class UnprocessableContent(_FixedStatus):
    """422: the content is well formed, and makes no sense here (RFC 9110 §15.5.21)."""

    status_code = 422


class TooManyRequests(_FixedStatus):
    """429: the client asks too often; a `retry-after` field helps it (RFC 6585 §4)."""

    status_code = 429


class HeaderFieldsTooLarge(_FixedStatus):
    """431: the header section passes `ServerLimits.max_headers_size` or `.max_header_fields` (RFC 6585 §5)."""

    status_code = 431


class InternalServerError(_FixedStatus):
    """500: something failed here (RFC 9110 §15.6.1)."""

    status_code = 500


class MethodNotImplemented(_FixedStatus):
    """501: no resource of this server knows the method (RFC 9110 §15.6.2)."""

    status_code = 501


class ServiceUnavailable(_FixedStatus):
    """503: not now; a `retry-after` field says when (RFC 9110 §15.6.4)."""

    status_code = 503


class VersionNotSupported(_FixedStatus):
    """505: the request is written in a version of HTTP that is not spoken here (RFC 9110 §15.6.6)."""

    status_code = 505


class ClientDisconnected(ViboraError):
    """The client has gone. Raised by what reads its request; there is nobody left to answer."""


class StreamAlreadyConsumed(ViboraError):
    """The content of the request was streamed before: it is read once, and not kept."""


class AutomaticOptions(ViboraError):
    """A request with OPTIONS that no route answers, and its automatic answer. Internal: it is never raised.

    Args:
        allow: The value of the `Allow` field.

    Attributes:
        allow: The same.
    """

    def __init__(self, allow: str) -> None:
        super().__init__(allow)
        self.allow: Final = allow


# Their names in the first Vibora.
ViboraException = ViboraError
RouteConfigurationError = ConfigurationError

_BY_STATUS: Final = {kind.status_code: kind for kind in _FixedStatus.__subclasses__()}


def abort(status: int, detail: str | None = None, headers: Mapping[str, str] | None = None) -> NoReturn:
    """Stop the handler here, and answer with an error status.

    Args:
        status: The status code, 400 to 599.
        detail: What the client is told. The reason phrase of the status when omitted.
        headers: Header fields of the response.

    Raises:
        HTTPError: Always; the subclass of the status where there is one.
        ValueError: If `status` is not between 400 and 599.
    """
    if status == MethodNotAllowed.status_code:
        raise MethodNotAllowed(detail=detail, headers=headers)
    if kind := _BY_STATUS.get(status):
        raise kind(detail, headers)
    raise HTTPError(status, detail, headers)


def reason_phrase(status: int) -> str:
    """Return the reason phrase registered for a status code, or `"Error"`.

    Args:
        status: The status code.
    """
    from http import HTTPStatus  # noqa: PLC0415  slow to import, and only errors need it

    try:
        return _RENAMED.get(status) or HTTPStatus(status).phrase
    except ValueError:
        return "Error"


# RFC 9110 renamed them; the standard library followed in Python 3.13.
_RENAMED: Final = {
    413: "Content Too Large",
    414: "URI Too Long",
    422: "Unprocessable Content",
}
