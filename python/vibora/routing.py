"""Routes: a handler is read once, when it is registered, and never again.

`compile_route` turns a handler and a pattern into a `Route` of the core: what the handler is called with and how each
value is converted (its signature), and how it is run (its code). Whatever is wrong with it is a `ConfigurationError`
that names the handler and its place in the source.
"""

import contextlib
import functools
import inspect
import re
import sys
import types
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from enum import Enum
from typing import Annotated, Any, Final, Literal, TypeAlias, TypedDict, Union, get_args, get_origin

from vibora._core import Request, Response, Route
from vibora._driving import can_suspend, only_reads_content
from vibora.exceptions import ConfigurationError
from vibora.limits import RouteLimits

Handler: TypeAlias = Callable[..., Any]
OnDisconnect: TypeAlias = Literal["cancel", "finish", "auto"]

Drive: TypeAlias = Literal["direct", "content", "task", "thread", "inline"]
Argument: TypeAlias = tuple[str, Any, str | None]
"""What a handler is called with: a kind, a value, and the name where it is passed by keyword.

The kinds are those of `Route`, and `("component", (type, parameter), …)`.
"""


@dataclass(frozen=True, slots=True)
class Call:
    """A function, how it is run, and what it is called with.

    Attributes:
        function: The function.
        drive: How it is run; `Route` describes the ways.
        arguments: What it is called with, in order.
    """

    function: Handler
    drive: Drive
    arguments: list[Argument]

    def without_components(self) -> "Call":
        """Return the call with None in the place of each component."""
        arguments = [
            ("constant", None, name) if kind == "component" else (kind, value, name)
            for kind, value, name in self.arguments
        ]
        return replace(self, arguments=arguments)


Compose: TypeAlias = Callable[[Call], Call]


Cache: TypeAlias = Callable[[Request, Callable[[Request], Awaitable[Response]]], Awaitable[Response]]
"""What stands between a route and its handler: called with the request and what calls the handler."""


Pattern: TypeAlias = str | re.Pattern[str]
#: One host or several: names such as `api.example.com`, `*.example.com`, or expressions.
Hosts: TypeAlias = Pattern | Sequence[Pattern]


class RouterStrategy(Enum):
    """What the other spelling of a path is to a route: `/users/` where its pattern is `/users`, and the reverse.

    The path `/` has no other spelling; a pattern that ends with `<*name>` and an expression say themselves what they
    match.
    """

    STRICT = 1
    """Another path, which some other route may have."""
    REDIRECT = 2
    """A mistake: it is answered with 308, which leads to the pattern's own spelling and keeps method and query."""
    CLONE = 3
    """The same: both are answered."""


class RouteOptions(TypedDict, total=False):
    """What a route can be given besides pattern, methods and handler; `Vibora.route` describes each."""

    name: str | None
    hosts: Hosts | None
    strategy: RouterStrategy | None
    limits: RouteLimits | None
    timeout: float | None
    inline: bool
    on_disconnect: OnDisconnect
    cache: Cache | None


def compile_route(
    pattern: Pattern,
    handler: Handler,
    methods: Sequence[str] | None = None,
    *,
    default_limits: RouteLimits,
    default_strategy: RouterStrategy = RouterStrategy.REDIRECT,
    name: str | None = None,
    hosts: Hosts | None = None,
    strategy: RouterStrategy | None = None,
    limits: RouteLimits | None = None,
    timeout: float | None = None,
    inline: bool = False,
    on_disconnect: OnDisconnect = "auto",
    compose: "Compose | None" = None,
) -> Route:
    """Read a handler, and make its route.

    Args:
        pattern: The path, with `<name>` for a segment and `<*name>` for the rest; or an expression for all of it.
        handler: What answers.
        methods: The methods it answers; GET when None.
        default_limits: Its limits when `limits` is None.
        default_strategy: Its strategy when `strategy` is None.
        name: The name of the route; the handler's when None.
        hosts: The hosts it answers for; all of them when there are none.
        strategy: Whether the slash at the end of a path counts.
        limits: Its limits.
        timeout: Seconds, instead of the timeout of the limits; 0 is off.
        inline: Run a `def` handler on the event loop instead of in a thread.
        on_disconnect: What becomes of the handler when its client goes away.
        compose: Says what is called in the handler's place, and with what: it knows components and hooks. Without it
            the route is only good for being looked at: what would be a component is None.

    Raises:
        ConfigurationError: If the handler, the pattern or an option is wrong.
    """
    if isinstance(handler, type) or not callable(handler):
        raise ConfigurationError(_NO_HANDLER.format(handler))
    try:
        if on_disconnect not in get_args(OnDisconnect):
            raise ConfigurationError(  # noqa: TRY301  the handler below adds whose it is
                f"on_disconnect is 'auto', 'cancel' or 'finish', got {on_disconnect!r}"
            )
        limits = limits or default_limits
        if timeout is not None:
            limits = replace(limits, timeout=timeout)
        expression = pattern if isinstance(pattern, re.Pattern) else None
        text = pattern.pattern if isinstance(pattern, re.Pattern) else pattern
        parameters = _parameters(text) if expression is None else _groups(expression, strategy)
        call = Call(handler, _drive(handler, inline=inline), list(_arguments(handler, text, parameters)))
        call = compose(call) if compose else call.without_components()
        return Route(
            handler,
            call=call.function,
            pattern=text,
            expression=expression,
            hosts=_hosts(hosts),
            strategy=_strategy(strategy or default_strategy),
            methods=_methods(methods),
            name=name or name_of(handler),
            drive=call.drive,
            arguments=call.arguments,
            parameters=list(parameters),
            max_body_size=limits.max_body_size or sys.maxsize,
            timeout=limits.timeout or 0.0,
            body_timeout=limits.body_timeout or 0.0,
            min_body_rate=limits.min_body_rate or 0,
            on_disconnect=on_disconnect,
            form_limits=(
                limits.max_form_fields,
                limits.max_form_files,
                limits.max_fields_size,
                limits.max_part_header,
                limits.in_memory_threshold,
            ),
        )
    except ConfigurationError as error:
        whose = f"handler {describe(handler)}: "
        if str(error).startswith(whose):
            raise
        raise ConfigurationError(f"{whose}{error}") from error.__cause__


def describe(handler: Handler) -> str:
    """Return what a handler is called and where it is written: `module.name (file.py:12)`.

    Args:
        handler: The handler.
    """
    from pathlib import Path  # noqa: PLC0415  only messages need it

    function = inspect.unwrap(_function(handler))
    name = f"{getattr(function, '__module__', '?')}.{getattr(function, '__qualname__', name_of(function))}"
    code: types.CodeType | None = getattr(function, "__code__", None)
    if code is None:
        return name
    path = Path(code.co_filename)
    if path.is_relative_to(Path.cwd()):
        path = path.relative_to(Path.cwd())
    return f"{name} ({path}:{code.co_firstlineno})"


def _function(handler: Handler) -> Handler:
    """Return the function that runs when the handler is called, out of partials, methods and callable objects."""
    while True:
        if isinstance(handler, functools.partial):
            handler = handler.func
        elif isinstance(handler, _Action):
            handler = handler.method
        elif inspect.ismethod(handler):
            handler = handler.__func__
        elif inspect.isfunction(call := getattr(type(handler), "__call__", None)):  # noqa: B004  not whether: which
            handler = call
        else:
            return handler


def name_of(handler: Handler) -> str:
    """Return the name that a handler gives to its routes.

    Args:
        handler: The handler.
    """
    if isinstance(handler, functools.partial):
        return name_of(handler.func)
    if isinstance(handler, _Action):
        return handler.view.__name__
    name: str | None = getattr(handler, "__name__", None)
    return name or type(handler).__name__


# --- views ------------------------------------------------------------------------------------------------------------

_VERBS: Final = ("get", "head", "post", "put", "patch", "delete", "options")

_NO_HANDLER: Final = "a handler is a function, got {!r}; a class or an object that answers has methods get, post, …"


class _Action:
    """A method of a class that answers: each call makes an object of the class, and calls the method on it."""

    __slots__ = ("__weakref__", "method", "view")

    def __init__(self, view: type, method: Handler) -> None:
        self.view = view
        self.method = method

    def __call__(self, *args: object, **kwargs: object) -> object:
        return self.method(self.view(), *args, **kwargs)

    def __repr__(self) -> str:
        return f"<{self.view.__qualname__}.{name_of(self.method)}>"


def handlers(
    handler: Handler | object, methods: Sequence[str] | None = None
) -> Iterator[tuple[Sequence[str] | None, Handler, str | None]]:
    """Yield the methods that a handler answers, what answers them, and its name where it has none of its own.

    A function answers all of them. A class answers with a method of its own for each: `get` answers GET. It is made
    anew for each request, so that what one request leaves in it is seen by no other. An object is shared.

    Args:
        handler: A function, a class, or an object that cannot be called.
        methods: The methods; for a class or an object those that it has a method for, when None.

    Raises:
        ConfigurationError: If a method is missing, or the class cannot be made without arguments.
    """
    if callable(handler) and not isinstance(handler, type):
        yield methods, handler, None
        return
    view: type = handler if isinstance(handler, type) else type(handler)
    verbs = [verb for verb in _VERBS if callable(getattr(handler, verb, None))]
    if not verbs and methods is None:
        raise ConfigurationError(_NO_HANDLER.format(handler))
    if methods is not None:
        verbs = [method.lower() for method in _methods(methods)]
    for verb in verbs:
        if not callable(found := getattr(handler, verb, None)):
            raise ConfigurationError(f"{view.__qualname__} has no method {verb!r}, as methods={methods!r} asks for")
        if view is handler and inspect.isfunction(inspect.getattr_static(view, verb)):
            found = _Action(view, found)
            try:
                inspect.signature(view).bind()
            except (TypeError, ValueError) as error:
                raise ConfigurationError(
                    f"class {view.__qualname__} is made for each request, without arguments: {error}; "
                    "to share one object, register that"
                ) from None
        yield [verb.upper()], found, view.__name__


# --- the pattern ------------------------------------------------------------------------------------------------------

_PARAMETER: Final = re.compile(r"<(\*?)([^<>]*)>")
_TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")


def _parameters(pattern: object) -> dict[str, bool]:
    """Return the parameters of a pattern in order; True for the one that takes the rest of the path."""
    if not isinstance(pattern, str) or not pattern.startswith("/"):
        raise ConfigurationError(f"a pattern is a str that starts with '/', got {pattern!r}")
    parameters: dict[str, bool] = {}
    for match in _PARAMETER.finditer(pattern):
        whole, rest, name = match[0], bool(match[1]), match[2]
        if ":" in name:
            advice = f"annotate the handler's parameter with the type, and write <{name.partition(':')[0]}>"
            raise ConfigurationError(f"{whole!r} in pattern {pattern!r}: {advice}")
        if not name.isidentifier():
            raise ConfigurationError(f"{whole!r} in pattern {pattern!r}: a path parameter is named like a variable")
        if name in parameters:
            raise ConfigurationError(f"the path parameter {name!r} comes twice in pattern {pattern!r}")
        if rest and match.end() != len(pattern):
            raise ConfigurationError(f"{whole!r} takes the rest of the path: pattern {pattern!r} must end with it")
        parameters[name] = rest
    if not {"<", ">"}.isdisjoint(_PARAMETER.sub("", pattern)):
        raise ConfigurationError(
            f"'<' and '>' enclose a path parameter, as in '/users/<name>', got pattern {pattern!r}"
        )
    return parameters


def _groups(expression: re.Pattern[Any], strategy: RouterStrategy | None) -> dict[str, bool]:
    """Return the parameters of an expression in order: its groups that have a name."""
    text = expression.pattern
    if not isinstance(text, str):
        raise ConfigurationError(f"an expression is made from a str, got {expression!r}")
    if re.match(r"\^?[\w\-~%@:]", text):
        raise ConfigurationError(f"an expression matches all of the path, which starts with '/', got {expression!r}")
    if strategy is not None:
        raise ConfigurationError(
            f"an expression says itself what may be at the end, as '/?' does: {expression!r} takes no strategy"
        )
    return dict.fromkeys(sorted(expression.groupindex, key=expression.groupindex.__getitem__), False)


def _strategy(strategy: object) -> Literal["strict", "redirect", "clone"]:
    match strategy:
        case RouterStrategy.STRICT:
            return "strict"
        case RouterStrategy.REDIRECT:
            return "redirect"
        case RouterStrategy.CLONE:
            return "clone"
        case _:
            raise ConfigurationError(f"strategy is a RouterStrategy, got {strategy!r}")


_HOST: Final = re.compile(r"(\*\.)?[a-z0-9_-]+(\.[a-z0-9_-]+)*\.?|\[[0-9a-f:.]+\]", re.ASCII)


def _hosts(hosts: Hosts | None) -> list[Pattern]:
    """Return the hosts as the router compares them: in lower case, without the dot at the end."""
    found: list[Pattern] = []
    given: Iterable[object] = (hosts,) if isinstance(hosts, (str, re.Pattern)) else hosts or ()
    for host in given:
        expression: re.Pattern[Any] | None = host if isinstance(host, re.Pattern) else None
        if expression is not None and isinstance(expression.pattern, str):
            # The case of a host does not count (RFC 9110 §4.2.3).
            found.append(re.compile(expression.pattern, expression.flags | re.IGNORECASE))
        elif isinstance(host, str) and _HOST.fullmatch(host.lower()):
            found.append(host.lower().removesuffix("."))
        else:
            advice = "without a port, in ASCII" if isinstance(host, str) else "or an expression made from a str"
            raise ConfigurationError(
                f"a host is a name such as 'api.example.com', '*.example.com', {advice}, got {host!r}"
            )
    return found


def _methods(methods: Iterable[object] | None) -> list[str]:
    if methods is None:
        return ["GET"]
    names: dict[str, None] = {}
    for method in [methods] if isinstance(methods, str) else methods:
        if not isinstance(method, str) or not _TOKEN.fullmatch(method):
            raise ConfigurationError(f"a method is a name such as 'GET', got {method!r}")
        names[method.upper()] = None
    if not names:
        raise ConfigurationError(f"a route answers at least one method, got methods={methods!r}")
    return list(names)


# --- the signature ----------------------------------------------------------------------------------------------------

_CONVERTERS: Final = {
    # By name, so that `uuid` is imported by the handlers that use it and by nobody else.
    "builtins.str": "str",
    "builtins.int": "int",
    "builtins.float": "float",
    "builtins.bool": "bool",
    "uuid.UUID": "uuid",
    "datetime.date": "date",
}


def _arguments(handler: Handler, pattern: str, parameters: Mapping[str, bool]) -> Iterator[Argument]:
    """Yield what the handler is called with, in order."""
    signature, namespace = read_signature(handler)
    # What a partial binds by keyword stays as it is.
    bound: Mapping[str, object] = handler.keywords if isinstance(handler, functools.partial) else {}
    skipped: list[Argument] = []
    for parameter in signature.parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD) or parameter.name in bound:
            continue
        source = _source(parameter, pattern, parameters, namespace)
        if parameter.kind is parameter.KEYWORD_ONLY:
            if source is not None:
                yield (*source, parameter.name)
        elif source is None:
            skipped.append(("constant", parameter.default, None))
        else:
            # Defaults in between are passed, so that all goes by position: calls with keywords are slower.
            yield from skipped
            skipped.clear()
            yield (*source, None)


def _source(
    parameter: inspect.Parameter, pattern: str, parameters: Mapping[str, bool], namespace: Mapping[str, object]
) -> tuple[str, object] | None:
    """Return where a value for a parameter of the handler comes from; None when its default is left."""
    name = parameter.name
    has_default = parameter.default is not parameter.empty
    annotation = parameter.annotation
    if annotation is parameter.empty:
        annotation = Request if name == "request" and name not in parameters else str
    try:
        annotation = evaluate_annotation(annotation, namespace)
    except Exception as error:
        if has_default and name not in parameters:
            return None
        raise ConfigurationError(f"the annotation {annotation!r} of parameter {name!r} is unknown: {error}") from error
    if annotation is Request:
        return "request", None
    if name in parameters:
        kind = f"{getattr(annotation, '__module__', None)}.{getattr(annotation, '__qualname__', None)}"
        if parameters[name] and kind != "builtins.str":
            raise ConfigurationError(f"path parameter {name!r} takes the rest of the path, which is a str, not {kind}")
        if kind not in _CONVERTERS:
            raise ConfigurationError(
                f"path parameter {name!r} cannot be converted to {inspect.formatannotation(annotation)}: "
                "supported are str, int, float, bool, uuid.UUID and datetime.date"
            )
        place = list(parameters).index(name)
        # The default is for a group of an expression that takes no part in a match.
        return "parameter", (place, _CONVERTERS[kind], *((parameter.default,) if has_default else ()))
    if isinstance(annotation, type) and annotation.__module__ != "builtins":
        return "component", (annotation, parameter)
    if has_default:
        return None
    raise ConfigurationError(
        f"nothing fills parameter {name!r}: name it after a path parameter of {pattern!r}, "
        "annotate it with Request or the type of a component, or give it a default"
    )


def read_signature(handler: Handler) -> tuple[inspect.Signature, Mapping[str, object]]:
    """Return the signature of a function, and where the names in its annotations are looked up.

    Args:
        handler: The function.

    Raises:
        ConfigurationError: If it has none.
    """
    if isinstance(handler, _Action):
        signature, namespace = _signature_of(handler.method)
        parameters = list(signature.parameters.values())
        own = parameters[0].kind if parameters else None
        if own in (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD):
            del parameters[0]
        elif own is not inspect.Parameter.VAR_POSITIONAL:
            raise ConfigurationError("a method takes the object it belongs to first, which is called self")
        return signature.replace(parameters=parameters), namespace
    return _signature_of(handler)


def _signature_of(handler: Handler) -> tuple[inspect.Signature, Mapping[str, object]]:
    function: Any = inspect.unwrap(_function(handler))
    if isinstance(function, type):
        function = getattr(function, "__init__", None)
    namespace: Mapping[str, object] = getattr(function, "__globals__", {})
    options: dict[str, Any] = {}
    if sys.version_info >= (3, 14):
        from annotationlib import Format  # noqa: PLC0415  new in 3.14

        # Names that exist for type checkers only come as forward references, as they do in older versions.
        options["annotation_format"] = Format.FORWARDREF
    try:
        if inspect.isfunction(handler):
            # A wrapper that passes `*args` on is seen through; one that takes arguments of its own is given those.
            handler = inspect.unwrap(handler, stop=_takes_its_own)
            return inspect.signature(handler, follow_wrapped=False, **options), namespace
        return inspect.signature(handler, **options), namespace
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"its signature cannot be read: {error}") from error


def _takes_its_own(function: Handler) -> bool:
    code: types.CodeType | None = getattr(function, "__code__", None)
    return code is not None and not code.co_flags & (inspect.CO_VARARGS | inspect.CO_VARKEYWORDS)


class _Names(dict[str, object]):
    """The names an annotation may use: the module's, then those that are often imported for type checkers only."""

    def __missing__(self, name: str) -> object:
        if name == "Request":
            return Request
        if name == "date":
            return date
        if name == "UUID":
            from uuid import UUID  # noqa: PLC0415  slow to import, seldom needed

            return UUID
        raise KeyError(name)


def evaluate_annotation(annotation: object, namespace: Mapping[str, object]) -> object:
    """Return the type that an annotation means: out of strings, `Annotated`, `Optional`, `NewType` and aliases.

    Args:
        annotation: The annotation.
        namespace: Where its names are looked up.
    """
    return _plain(_evaluate(annotation, namespace))


def _evaluate(annotation: object, namespace: Mapping[str, object]) -> object:
    """Return the type that an annotation stands for: it may be a str, as after `from __future__ import annotations`."""
    text = annotation if isinstance(annotation, str) else getattr(annotation, "__forward_arg__", None)
    if text is None:
        return annotation
    return eval(text, {}, _Names(namespace))  # noqa: S307  the app's own source, as typing.get_type_hints does


def _plain(annotation: object) -> object:
    """Return the type inside `Annotated`, `Optional`, `NewType` and aliases."""
    while True:
        if get_origin(annotation) is Annotated:
            annotation = get_args(annotation)[0]
        elif get_origin(annotation) in (Union, types.UnionType):
            members = [member for member in get_args(annotation) if member is not type(None)]
            if len(members) != 1:
                return annotation
            annotation = members[0]
        elif (
            inner := getattr(annotation, "__supertype__", None) or getattr(annotation, "__value__", None)
        ) is not None:
            annotation = inner
        else:
            return annotation


# --- the code ---------------------------------------------------------------------------------------------------------


def _drive(handler: Handler, *, inline: bool) -> Drive:
    """Return how a handler is run."""
    function = _function(handler)
    if inspect.isasyncgenfunction(function) or inspect.isgeneratorfunction(function):
        raise ConfigurationError(
            f"it is a generator function: have a handler return StreamingResponse({name_of(function)}) instead"
        )
    if not is_coroutine_function(handler):
        return "inline" if inline else "thread"
    if inline:
        raise ConfigurationError("inline=True is for def handlers: an async def handler runs on the event loop anyway")
    code: types.CodeType | None = getattr(function, "__code__", None)
    # One that asks for the task that it runs in is given one.
    if code is None or not code.co_flags & inspect.CO_COROUTINE or "current_task" in code.co_names:
        return "task"
    if not can_suspend(code):
        return "direct"
    return "content" if only_reads_content(code, _requests(handler)) else "task"


def is_coroutine_function(handler: Handler) -> bool:
    """Say whether what a function returns has to be awaited.

    Args:
        handler: The function.
    """
    function = _function(handler)
    # A plain wrapper of a coroutine function returns what that returns: an awaitable.
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(inspect.unwrap(function))


def _requests(handler: Handler) -> list[str]:
    """Return the names of the parameters that are the request."""
    signature, namespace = read_signature(handler)
    found: list[str] = []
    for name, parameter in signature.parameters.items():
        annotation = parameter.annotation
        if annotation is parameter.empty and name == "request":
            annotation = Request
        with contextlib.suppress(Exception):  # an annotation that is unknown is no request's
            if evaluate_annotation(annotation, namespace) is Request:
                found.append(name)
    return found
