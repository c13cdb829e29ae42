"""Components: what handlers, hooks and error handlers ask for by type.

A component is an object, or made by a provider: a function, an `async def`, or a generator of either kind, which cleans
up after its `yield`. Its scope says for how long it lives:

- `app`: from the start of a worker to its end. An object that is added has this scope.
- `request`: for one request, shared by everything that takes part in it. Cleaned up after the last byte of the
  response.
- `handler`: for one call. Cleaned up when the handler has returned, before its response is sent.

What asks for what is found out once, when the server starts; whatever is missing is an error then.
"""

import contextlib
import inspect
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Generator,
    Iterable,
    Iterator,
    Mapping,
)
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias, TypeVar, get_args, get_origin, overload

from vibora._core import Request, Route
from vibora.exceptions import ConfigurationError, MissingComponent
from vibora.routing import describe, evaluate_annotation, is_coroutine_function, read_signature

Scope: TypeAlias = Literal["app", "request", "handler"]
Provide: TypeAlias = Callable[..., Any]

_T = TypeVar("_T")
_Kind: TypeAlias = Literal["function", "coroutine", "generator", "async generator"]

_SCOPES: Final[tuple[Scope, ...]] = get_args(Scope)
_WRAPPERS: Final = (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Coroutine,
    Generator,
    Iterable,
    Iterator,
)


@dataclass(frozen=True, slots=True, eq=False)
class Component:
    """A provider, and how long what it makes lives.

    Attributes:
        builder: What makes it: a function, an `async def`, or a generator of either kind that yields it once. Its own
            parameters are components, or the `Request`. It runs on the event loop.
        scope: `"app"`, `"request"` or `"handler"`.
        type: What it is asked for by; the annotation of what `builder` returns when omitted.

    Raises:
        ConfigurationError: If the scope is none of the three, or the type is not known.
    """

    builder: Provide
    scope: Scope = "request"
    type: Any = None

    def __post_init__(self) -> None:
        if self.scope not in _SCOPES:
            raise ConfigurationError(f"a component's scope is 'app', 'request' or 'handler', got {self.scope!r}")
        if not callable(self.builder):
            raise ConfigurationError(f"a component is made by a function, got {self.builder!r}")
        if self.type is None:
            object.__setattr__(self, "type", _provided(self.builder))

    @property
    def kind(self) -> _Kind:
        """What sort of function the builder is."""
        if inspect.isasyncgenfunction(self.builder):
            return "async generator"
        if inspect.isgeneratorfunction(self.builder):
            return "generator"
        return "coroutine" if is_coroutine_function(self.builder) else "function"


def _provided(builder: Provide) -> object:
    """Return the type of what a provider makes, from the annotation of what it returns."""
    if isinstance(builder, type):
        return builder
    signature, namespace = read_signature(builder)
    annotation = signature.return_annotation
    if annotation is inspect.Signature.empty:
        raise ConfigurationError(f"provider {describe(builder)}: annotate what it returns, or give type=")
    try:
        annotation = evaluate_annotation(annotation, namespace)
    except Exception as error:
        raise ConfigurationError(
            f"provider {describe(builder)}: the annotation {annotation!r} of what it returns is unknown: {error}"
        ) from error
    generator = inspect.isgeneratorfunction(builder) or inspect.isasyncgenfunction(builder)
    if generator and get_origin(annotation) in _WRAPPERS:
        annotation = get_args(annotation)[0]
    if annotation is None:
        raise ConfigurationError(f"provider {describe(builder)} returns None: a component is found by its type")
    return annotation


class Components:
    """The components of an app: `app.components`.

    Attributes:
        made: What providers of the scope `app` have made, while the app is served.
    """

    def __init__(self) -> None:
        self._values: dict[Any, object] = {}
        self._providers: dict[Any, Component] = {}
        self._overrides: dict[Any, Component | _Value] = {}
        self._renewed: set[Any] = set()
        self._replaceable: set[Any] = set()
        self.made: Final[dict[Component, object]] = {}

    def add(self, *components: object) -> None:
        """Add objects, which are found by their type, or `Component`s.

        Args:
            *components: The objects.

        Raises:
            ConfigurationError: If there is one of that type already, or a class is given in place of an object.
        """
        for component in components:
            if isinstance(component, Component):
                self._add(component.type, component)
            elif isinstance(component, type):
                raise ConfigurationError(
                    f"{component.__qualname__} is a class: add an object of it, or Component({component.__qualname__})"
                )
            else:
                self._add(type(component), _Value(component))

    def add_as(self, kind: Any, component: object) -> None:
        """Add an object that is found by another type than its own, such as a base class or a protocol.

        Args:
            kind: The type.
            component: The object.

        Raises:
            ConfigurationError: If there is one of that type already.
        """
        self._add(kind, _Value(component))

    def _add(self, kind: Any, component: "Component | _Value") -> None:
        if kind in self._replaceable:
            self._replaceable.remove(kind)
            self._values.pop(kind, None)
            self._providers.pop(kind, None)
        if kind in self._values or kind in self._providers:
            raise ConfigurationError(f"there is a component of type {name_of(kind)} already")
        if isinstance(component, Component):
            self._providers[kind] = component
        else:
            self._values[kind] = component.value

    @overload
    def get(self, kind: type[_T]) -> _T: ...
    @overload
    def get(self, kind: Any) -> Any: ...
    def get(self, kind: Any) -> Any:
        """Return the object of a type. One that is made by a provider is there while the app is served.

        Args:
            kind: The type.

        Raises:
            MissingComponent: If there is none.
        """
        found = self.find(kind)
        if isinstance(found, _Value):
            return found.value
        if found in self.made:
            return self.made[found]
        if found is not None:
            raise MissingComponent(
                f"the component of type {name_of(kind)} is made for each {found.scope}: ask for it in a signature"
                if found.scope != "app"
                else f"the component of type {name_of(kind)} is made when the server starts"
            )
        raise MissingComponent(f"there is no component of type {name_of(kind)}; add it with app.add_component(...)")

    def __getitem__(self, kind: type[_T]) -> _T:
        return self.get(kind)

    def __contains__(self, kind: object) -> bool:
        return self.find(kind) is not None

    def find(self, kind: Any) -> "Component | _Value | None":
        """Return what is asked for by a type: exactly, or the only one that is a subclass of it.

        Args:
            kind: The type.

        Raises:
            ConfigurationError: If several are subclasses of it.
        """
        for table in (self._overrides, self._values, self._providers):
            if kind in table:
                found = table[kind]
                return found if isinstance(found, Component | _Value) else _Value(found)
        if not isinstance(kind, type) or kind is object:
            return None
        fitting = [known for known in {**self._providers, **self._values} if is_subclass(known, kind)]
        if len(fitting) > 1:
            names = " and ".join(name_of(known) for known in fitting)
            raise ConfigurationError(f"{name_of(kind)} may be {names}: ask for one of them")
        return self.find(fitting[0]) if fitting else None

    def providers(self, scope: Scope) -> list[Component]:
        """Return the providers of a scope, in the order in which they were added.

        Args:
            scope: The scope.
        """
        known = {**self._providers, **self._overrides}
        return [found for found in known.values() if isinstance(found, Component) and found.scope == scope]

    @contextlib.contextmanager
    def renew(self) -> Generator[None, None, None]:
        """Let what is added in the block replace what was added in one before: by hooks, at each start of a server."""
        known = {*self._values, *self._providers}
        self._replaceable = set(self._renewed)
        try:
            yield
        finally:
            self._replaceable = set()
            self._renewed |= {*self._values, *self._providers} - known

    def override(self, kind: Any, component: object) -> None:
        """Put something in the place of a component: an object, or a `Component`.

        Args:
            kind: The type that it is asked for by.
            component: What is given instead.
        """
        self._overrides[kind] = component if isinstance(component, Component) else _Value(component)

    def restore(self, kind: Any) -> None:
        """Undo `override`.

        Args:
            kind: The type.
        """
        self._overrides.pop(kind, None)


@dataclass(frozen=True, slots=True)
class _Value:
    value: object


def name_of(kind: object) -> str:
    """Return what a type is called, for messages.

    Args:
        kind: The type.
    """
    if isinstance(kind, type):
        return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return repr(kind)


def is_subclass(kind: object, base: type) -> bool:
    """Say whether one type is a subclass of another; whatever cannot be compared is not.

    Args:
        kind: The one.
        base: The other.
    """
    try:
        return isinstance(kind, type) and issubclass(kind, base)
    except TypeError:  # as a protocol with attributes says
        return False


# --- what is made when a server runs ----------------------------------------------------------------------------------


class Frame:
    """What has been made for a worker, a request or a call, and has to be cleaned up after it.

    Attributes:
        parent: That of the wider scope.
        specials: What is there without a provider, by type or name: the request, its route, a response, an error.
        error: What the handler has raised. Generators see it at their `yield`.
    """

    __slots__ = ("error", "made", "parent", "scope", "specials", "stack")

    def __init__(self, scope: Scope, parent: "Frame | None" = None, specials: dict[str, object] | None = None) -> None:
        self.scope: Final = scope
        self.parent: Final = parent
        self.specials: Final[dict[str, object]] = {} if specials is None else specials
        self.made: dict[Component, object] = {}
        self.stack: AsyncExitStack | None = None
        self.error: BaseException | None = None

    def special(self, key: str) -> Any:
        """Return what is there without a provider.

        Args:
            key: What it is kept under.

        Raises:
            MissingComponent: If it is not there.
        """
        frame: Frame | None = self
        while frame is not None:
            if key in frame.specials:
                return frame.specials[key]
            frame = frame.parent
        raise MissingComponent(f"there is no {key} here")

    def of(self, scope: Scope) -> "Frame":
        """Return the frame of a scope: this one, or the wider one that it stands in.

        Args:
            scope: The scope.
        """
        frame: Frame = self
        while frame.scope != scope and frame.parent is not None:
            frame = frame.parent
        return frame

    async def make(self, component: Component, sources: "Sources") -> object:
        """Make a component, and note its clean-up.

        Args:
            component: The provider.
            sources: Where its own parameters come from.
        """
        args, kwargs = await sources.fill(self)
        kind = component.kind
        if kind == "function":
            value = component.builder(*args, **kwargs)
        elif kind == "coroutine":
            value = await component.builder(*args, **kwargs)
        else:
            if self.stack is None:
                self.stack = AsyncExitStack()
                if self.scope == "request":
                    self.special("request")._on_exit(self.close)  # noqa: SLF001
            if kind == "generator":
                value = self.stack.enter_context(contextlib.contextmanager(component.builder)(*args, **kwargs))
            else:
                value = await self.stack.enter_async_context(
                    contextlib.asynccontextmanager(component.builder)(*args, **kwargs)
                )
        self.made[component] = value
        return value

    def keep(self) -> None:
        """Leave it to whoever made the frame to close it, and not to the end of the request."""
        self.stack = self.stack or AsyncExitStack()

    async def close(self) -> None:
        """Clean up, the last that was made first."""
        stack, self.stack = self.stack, None
        if stack is not None:
            error = self.error
            await stack.__aexit__(type(error) if error else None, error, error.__traceback__ if error else None)


class Sources:
    """Where the parameters of a function come from: computed once, used for every call.

    Attributes:
        needs_await: Whether filling them may have to wait.
    """

    __slots__ = ("_keywords", "_positional", "needs_await")

    def __init__(self, positional: list["_Source"], keywords: dict[str, "_Source"]) -> None:
        self._positional: Final = positional
        self._keywords: Final = keywords
        self.needs_await: Final = any(isinstance(source, Made) for source in (*positional, *keywords.values()))

    async def fill(self, frame: Frame) -> tuple[list[object], dict[str, object]]:
        """Return the arguments of a call.

        Args:
            frame: What is there.
        """
        args = [
            await source.get(frame) if isinstance(source, Made) else source.now(frame) for source in self._positional
        ]
        kwargs = {
            name: await source.get(frame) if isinstance(source, Made) else source.now(frame)
            for name, source in self._keywords.items()
        }
        return args, kwargs

    def fill_now(self, frame: Frame) -> tuple[list[object], dict[str, object]]:
        """Return the arguments of a call when none has to be made.

        Args:
            frame: What is there.
        """
        return (
            [source.now(frame) for source in self._positional],
            {name: source.now(frame) for name, source in self._keywords.items()},
        )


@dataclass(frozen=True, slots=True)
class Constant:
    """A source that is known already."""

    value: object

    def now(self, frame: Frame) -> object:  # noqa: ARG002  as the others
        """Return the value."""
        return self.value


@dataclass(frozen=True, slots=True)
class _Special:
    key: str

    def now(self, frame: Frame) -> object:
        return frame.special(self.key)


@dataclass(frozen=True, slots=True)
class Made:
    """A source that is made when it is needed: once in its scope."""

    component: Component
    sources: Sources

    async def get(self, frame: Frame) -> object:
        """Return the component, made if it has not been.

        Args:
            frame: What is there.
        """
        frame = frame.of(self.component.scope)
        if self.component in frame.made:
            return frame.made[self.component]
        return await frame.make(self.component, self.sources)

    def now(self, frame: Frame) -> object:
        """Return the component, which has been made."""
        return frame.of(self.component.scope).made[self.component]


_Source: TypeAlias = Constant | _Special | Made


class Resolver:
    """Finds out where parameters come from, for one worker.

    Attributes:
        worker: The components of the scope `app` that were made so far.
    """

    def __init__(self, components: Components, present: Iterable[object]) -> None:
        """Begin with a worker's components.

        Args:
            components: The components of the app.
            present: Objects that are there without being added: the app, the event loop.
        """
        self._components: Final = components
        self._present: Final = tuple(present)
        self._sources: dict[Component, Sources] = {}
        self._pending: list[Component] = []
        self.worker: Final = Frame("app")

    def sources(
        self, function: Provide, specials: Mapping[Any, str], what: str, *, scope: Scope = "handler"
    ) -> Sources:
        """Return where the parameters of a function come from.

        Args:
            function: The function.
            specials: What is there besides components: by type, or by name for parameters without an annotation. The
                values are the keys under which frames have it.
            what: What the function is, for messages.
            scope: The scope it runs in: narrower components cannot be asked for.

        Raises:
            MissingComponent: If a parameter can be filled with nothing.
            ConfigurationError: If its signature cannot be read.
        """
        signature, namespace = read_signature(function)
        positional: list[_Source] = []
        keywords: dict[str, _Source] = {}
        by_name = False
        for parameter in signature.parameters.values():
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                continue
            source = self._source(parameter, namespace, specials, f"{what} {describe(function)}", scope)
            if source is None:
                by_name = True
            elif parameter.kind is parameter.KEYWORD_ONLY or by_name:
                keywords[parameter.name] = source
            else:
                positional.append(source)
        return Sources(positional, keywords)

    def _source(
        self,
        parameter: inspect.Parameter,
        namespace: Mapping[str, object],
        specials: Mapping[Any, str],
        what: str,
        scope: Scope,
    ) -> _Source | None:
        """Return where a parameter comes from; None if its default is left."""
        name = parameter.name
        kind: object = None
        if parameter.annotation is not parameter.empty:
            try:
                kind = evaluate_annotation(parameter.annotation, namespace)
            except Exception as error:
                if name not in specials:
                    raise ConfigurationError(
                        f"{what}: the annotation {parameter.annotation!r} of parameter {name!r} is unknown: {error}"
                    ) from error
        found: _Source | None = None
        if isinstance(kind, type) and kind in specials:
            found = _Special(specials[kind])
        elif kind is not None:
            found = self.component(kind, scope, f"{what}: parameter {name!r}")
        if found is None and name in specials:
            found = _Special(specials[name])
        if found is not None or parameter.default is not parameter.empty:
            return found
        if parameter.annotation is parameter.empty:
            raise MissingComponent(f"{what}: parameter {name!r} has no annotation, so nothing fills it")
        raise _missing(what, parameter, kind)

    def argument(self, kind: Any, parameter: inspect.Parameter, what: str) -> "Constant | Made":
        """Return where an argument of a handler comes from.

        Args:
            kind: The type that it asks for.
            parameter: The parameter.
            what: The handler, for messages.

        Raises:
            MissingComponent: If there is none of this type, and no default.
            ConfigurationError: If several would do.
        """
        found = self.component(kind, "handler", f"{what}: parameter {parameter.name!r}")
        if found is not None:
            return found
        if parameter.default is not parameter.empty:
            return Constant(parameter.default)
        raise _missing(what, parameter, kind)

    def component(self, kind: Any, scope: Scope, what: str) -> Constant | Made | None:
        """Return where a component comes from; None if there is none of this type.

        Args:
            kind: Its type.
            scope: The scope it is asked for in.
            what: Who asks, for messages.
        """
        found = self._components.find(kind)
        if found is None:
            # By its classes alone: the app would pass for many a protocol.
            return next((Constant(value) for value in self._present if kind in type(value).__mro__[:-1]), None)
        if isinstance(found, _Value):
            return Constant(found.value)
        if _SCOPES.index(found.scope) > _SCOPES.index(scope):
            raise ConfigurationError(
                f"{what} cannot be a {name_of(kind)}: its scope is {found.scope!r}, which ends before {scope!r} does"
            )
        if found in self.worker.made:
            return Constant(self.worker.made[found])
        return Made(found, self._sources_of(found))

    def _sources_of(self, component: Component) -> Sources:
        if component in self._sources:
            return self._sources[component]
        if component in self._pending:
            ring = " needs ".join(name_of(one.type) for one in (*self._pending, component))
            raise ConfigurationError(f"components need each other: {ring}")
        self._pending.append(component)
        try:
            specials: dict[Any, str] = {} if component.scope == "app" else request_specials()
            sources = self.sources(component.builder, specials, "provider", scope=component.scope)
        finally:
            self._pending.pop()
        self._sources[component] = sources
        return sources

    async def close(self) -> None:
        """Clean up what was made for the worker, the last first."""
        for component, value in self.worker.made.items():
            if self._components.made.get(component) is value:
                del self._components.made[component]
        await self.worker.close()

    async def make_all(self) -> None:
        """Make every component of the scope `app` that has not been made yet, and check the others."""
        for component in self._components.providers("app"):
            if component not in self.worker.made:
                await self.worker.make(component, self._sources_of(component))
            self._components.made[component] = self.worker.made[component]
        for scope in _SCOPES[1:]:
            for component in self._components.providers(scope):
                self._sources_of(component)


def _missing(what: str, parameter: inspect.Parameter, kind: object) -> MissingComponent:
    return MissingComponent(
        f"{what}: nothing fills parameter {parameter.name!r}: there is no component of type {name_of(kind)}; "
        "add it with app.add_component(...)"
    )


def request_specials() -> dict[Any, str]:
    """Return what every function has that takes part in a request, besides components."""
    return {Request: "request", "request": "request", Route: "route"}
