"""URLs from routes: the way back from a handler's name and its parameters to a path."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date
from typing import Final, cast
from urllib.parse import quote, urlencode

from vibora._core import Route
from vibora.exceptions import ReverseNotFound

# RFC 3986 §3.3: pchar = unreserved / pct-encoded / sub-delims / ":" / "@"; without "'", which ends attributes in HTML.
_SAFE: Final = "!$&()*+,;=:@"
_PARAMETER: Final = re.compile(r"<(\*?)([^<>]*)>")


def find_route(routes: Iterable[Route], name: str, params: Mapping[str, object]) -> Route:
    """Return the route with a name that parameters are for: of several patterns the one that uses most of them.

    Args:
        routes: The routes of the app.
        name: The name.
        params: The parameters.

    Raises:
        ReverseNotFound: If no route has the name, handlers share it, or every pattern lacks a parameter.
    """
    found: list[Route] = [route for route in routes if route.name == name]
    if not found:
        raise ReverseNotFound(f"no route is called {name!r}")
    first = found[0]
    for route in found:
        if route.handler != first.handler and _place(route) != _place(first):
            raise ReverseNotFound(
                f"several routes are called {name!r}, such as {first.pattern!r} and {route.pattern!r}: "
                "register them with names of their own"
            )
    fitting = [route for route in found if all(params.get(each) is not None for each in route.parameters)]
    if not fitting:
        missing = [each for each in first.parameters if params.get(each) is None]
        raise ReverseNotFound(f"{_what(first)} lacks {' and '.join(map(repr, missing))}, got {dict(params)!r}")
    return max(fitting, key=lambda route: len(route.parameters))


def build_url(route: Route, params: Mapping[str, object], *, origin: str = "") -> str:
    """Return the URL of a route.

    What is in the pattern fills it, the rest becomes the query: a list repeats its name, None is left out.

    Args:
        route: The route.
        params: The parameters by name.
        origin: What stands before the path, such as `https://example.com`.

    Raises:
        ReverseNotFound: If a parameter is missing, or the route would not match with its value.
    """
    texts: dict[str, str] = {}
    try:
        for name in route.parameters:
            if params.get(name) is None:
                raise ReverseNotFound(f"{_what(route)} lacks {name!r}, got {dict(params)!r}")
            text = texts[name] = _text(params[name], name)
            if "\0" in text or not route.accepts(name, text):
                raise _unfit(route, name, params[name])
        path = _fill(route, texts) if route.expression is None else _reverse(route, route.expression, texts)
        query = urlencode(list(_query(params, texts)), quote_via=quote, safe="")
    except UnicodeEncodeError as error:
        raise ReverseNotFound(f"{_what(route)}: {error}") from None
    for segment in path.split("/"):
        # RFC 3986 §5.2.4: clients remove these, however they are written.
        if segment in (".", ".."):
            raise ReverseNotFound(f"{_what(route)} would be {path!r}, where clients remove the segment {segment!r}")
    return f"{origin}{path}?{query}" if query else f"{origin}{path}"


def build_origin(
    route: Route, *, scheme: str, host: str | None = None, server_name: str | None = None, requested: str | None = None
) -> str:
    """Return what stands before the path in an absolute URL of a route.

    Args:
        route: The route.
        scheme: The scheme.
        host: The host, with its port where it has one, if the caller says so.
        server_name: The host, with its port, of the app.
        requested: The host, with its port, that a client asks for.

    Raises:
        ReverseNotFound: If no host is known, or none that the route answers for.
    """
    if host:
        return f"{scheme}://{host}"
    # What the app says comes before what a client says; that only chooses among the hosts of a route that has some.
    known = [each for each in ((requested, server_name) if route.hosts else (server_name, requested)) if each]
    for each in known:
        if not route.hosts or any(_is_host(each, own) for own in route.hosts):
            return f"{scheme}://{each}"
    for own in route.hosts:
        if isinstance(own, str) and not own.startswith("*"):
            port = next((found[0] for each in known if (found := re.search(r":\d+$", each))), "")
            return f"{scheme}://{own}{port}"
    raise ReverseNotFound(
        f"{_what(route)} has no host to put into an absolute URL: give `server_name` to Vibora, "
        "or `_host` or `_request` to url_for"
    )


def _is_host(host: str, own: str | re.Pattern[str]) -> bool:
    name = re.sub(r":\d*$", "", host).removesuffix(".").lower()
    if isinstance(own, re.Pattern):
        return own.fullmatch(name) is not None
    return name == own or (own.startswith("*") and name.endswith(own[1:]) and not name.startswith("."))


def _what(route: Route) -> str:
    return f"the URL of route {route.name!r} ({route.pattern})"


def _place(route: Route) -> tuple[object, ...]:
    return route.expression or route.pattern, tuple(route.hosts)


def _unfit(route: Route, name: str, value: object) -> ReverseNotFound:
    return ReverseNotFound(f"{_what(route)}: {value!r} is no value for {name!r}, the route would not match")


def _text(value: object, name: str) -> str:
    """Return a value as it is written in a URL."""
    match value:
        case str():
            return str(value)
        case bool():
            return "true" if value else "false"
        case date():
            return value.isoformat()
        case bytes() | bytearray() | memoryview() | list() | tuple() | dict() | set():
            raise ReverseNotFound(
                f"parameter {name!r} of a URL cannot be {value!r}: expected a text, a number, a date, …"
            )
        case _:
            return str(value)


def _query(params: Mapping[str, object], taken: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for name, value in params.items():
        if name not in taken:
            is_many = isinstance(value, (list, tuple, set, frozenset))
            for each in cast("Iterable[object]", value) if is_many else (value,):
                if each is not None:
                    yield name, _text(each, name)


def _fill(route: Route, texts: Mapping[str, str]) -> str:
    """Return the path of a pattern, percent-encoded."""
    pieces: list[str] = []
    end = 0
    for match in _PARAMETER.finditer(route.pattern):
        rest, name = match[1], match[2]
        if not rest and not texts[name]:
            raise _unfit(route, name, texts[name])
        pieces += (
            quote(route.pattern[end : match.start()], safe="/" + _SAFE),
            quote(texts[name], safe="/" + _SAFE if rest else _SAFE),
        )
        end = match.end()
    pieces.append(quote(route.pattern[end:], safe="/" + _SAFE))
    path = "".join(pieces)
    if path.startswith("//"):
        # It would name another server (RFC 3986 §4.2). A rest is decoded, so that it may have its slash encoded.
        return f"/%2F{path[2:]}" if pieces[0] == "/" else f"/.{path}"
    return path


# --- expressions ------------------------------------------------------------------------------------------------------


_GROUP: Final = re.compile(r"\(\?P<(\w+)>")
#: A letter that stands for itself, escaped or not, and whether it may be left out.
_LETTER: Final = re.compile(r"(?:\\(\W)|([^\\.^$*+?{}\[\]|()]))(\??)(?![?*+{])", re.DOTALL)


def _reverse(route: Route, expression: re.Pattern[str], texts: Mapping[str, str]) -> str:
    """Return a path that an expression matches, percent-encoded."""
    pieces = list(_pieces(route, expression))
    # As paths are matched: a percent sign is encoded, and so is a slash that is no separator.
    writings: tuple[Callable[[str], str], ...] = (
        lambda text: text.replace("%", "%25"),
        lambda text: text.replace("%", "%25").replace("/", "%2F"),
    )
    for write in writings:
        values = {name: write(text) for name, text in texts.items()}
        path = "".join(values[text] if is_group else text for is_group, text in pieces)
        match = expression.fullmatch(path)
        if match and match.groupdict() == values and path.startswith("/") and not path.startswith("//"):
            return quote(path, safe="/%" + _SAFE)
    raise ReverseNotFound(f"{_what(route)}: the expression does not match with {dict(texts)!r}")


def _pieces(route: Route, expression: re.Pattern[str]) -> Iterator[tuple[bool, str]]:
    """Yield the text and the groups of an expression that has nothing else; True for the name of a group."""
    text = expression.pattern.removeprefix("^")
    if text.endswith("$") and not text.endswith("\\$"):
        text = text[:-1]
    at = 0
    while at < len(text) and not expression.flags & re.VERBOSE:
        if group := _GROUP.match(text, at):
            at = _group_end(text, at)
            if text[at : at + 1] in ("?", "*", "+", "{"):
                break
            yield True, group[1]
        elif letter := _LETTER.match(text, at):
            at = letter.end()
            # One that may be there need not be.
            if not letter[3]:
                yield False, letter[1] or letter[2]
        else:
            break
    if at < len(text):
        raise ReverseNotFound(
            f"{_what(route)} cannot be built: that is for expressions of text and named groups, "
            "such as '/users/(?P<id>\\d+)'"
        )


def _group_end(text: str, at: int) -> int:
    """Return the place after the group that opens at a place."""
    depth = 0
    while at < len(text):
        match text[at]:
            case "\\":
                at += 1
            case "[":
                at += 2 if text[at + 1 : at + 2] == "^" else 1
                # "]" is one of the characters of a set where it comes first.
                at += text[at : at + 1] == "]"
                while at < len(text) and text[at] != "]":
                    at += 2 if text[at] == "\\" else 1
            case "(":
                depth += 1
            case ")":
                depth -= 1
            case _:
                pass
        at += 1
        if depth == 0:
            break
    return at
