"""Blueprints: routes, hooks and error handlers that belong together, and are mounted in an app or in each other."""

import re
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Protocol, TypeAlias, TypeVar, Unpack, cast

from vibora._core import Request, Response
from vibora.exceptions import ConfigurationError, DuplicatedBlueprint
from vibora.hooks import SERVER_EVENTS, Events, Hook, HookFunction
from vibora.limits import RouteLimits
from vibora.routing import Handler, Hosts, Pattern, RouteOptions, describe, handlers, is_coroutine_function

Middleware: TypeAlias = Callable[..., Any]
Handled: TypeAlias = Events | int | type[BaseException]
"""What `handle` takes: an event, a status, or a class of exceptions."""

_Handler = TypeVar("_Handler", bound=Handler)


class CallNext(Protocol):
    """What middleware calls to go on."""

    def __call__(self, request: Request, /) -> Awaitable[Response]:
        """Return the response of what is further in.

        Args:
            request: The request.
        """
        ...


class RouteDefinition(NamedTuple):
    """A route as it was written down.

    Attributes:
        pattern: The path, without the prefixes of blueprints.
        handler: What answers.
        methods: The methods it answers; None for GET.
        options: The options of `Blueprint.route`.
    """

    pattern: Pattern
    handler: Handler
    methods: Sequence[str] | None
    options: RouteOptions


@dataclass(frozen=True, slots=True)
class Mount:
    """A blueprint's place in another.

    Attributes:
        blueprint: The blueprint.
        name: What comes before the names of its routes, with a colon.
        prefix: What comes before their patterns.
    """

    blueprint: "Blueprint"
    name: str
    prefix: str


class Place(NamedTuple):
    """A route's place in an app: the mounts that lead to it, from the app down."""

    mounts: tuple[Mount, ...]
    definition: RouteDefinition

    @property
    def blueprints(self) -> "tuple[Blueprint, ...]":
        """The blueprints that it is in, the app first."""
        return tuple(mount.blueprint for mount in self.mounts)

    @property
    def pattern(self) -> Pattern:
        """The path, with the prefixes of its blueprints."""
        prefix = "".join(mount.prefix for mount in self.mounts)
        pattern = self.definition.pattern
        if isinstance(pattern, re.Pattern):
            return re.compile(re.escape(prefix) + pattern.pattern, pattern.flags) if prefix else pattern
        return f"{prefix}{pattern}" if prefix else pattern

    def name(self, own: str) -> str:
        """Return the name of the route, after those of its blueprints: `api:users.show`.

        Args:
            own: Its own name.
        """
        names = [mount.name for mount in self.mounts if mount.name]
        return f"{':'.join(names)}.{own}" if names else own


class Blueprint:
    """Routes, hooks, middleware, error handlers and limits that belong together.

    ```python
    users = Blueprint()

    @users.get("/<user_id>")
    async def show(user_id: int) -> JsonResponse:
        return JsonResponse({"id": user_id})

    app.add_blueprint(users, prefixes={"users": "/users"})  # GET /users/7, app.url_for("users.show", user_id=7)
    ```

    It may be mounted several times, in an app or in other blueprints. What it has applies to its own routes and to
    those of the blueprints mounted in it, wherever those say nothing themselves. What is added after mounting counts
    too.

    Args:
        limits: The limits of its routes; those of what it is mounted in when omitted.
        hosts: The hosts that its routes answer for; likewise.

    Attributes:
        limits: The same.
        hosts: The same.
        hooks: Its hooks, in the order in which they were registered.
        middlewares: Its middleware, the outermost first.
        error_handlers: Its error handlers, by status and by class of exceptions.
        mounts: The blueprints mounted in it.
        parents: What it is mounted in.
    """

    def __init__(self, *, limits: RouteLimits | None = None, hosts: Hosts | None = None) -> None:
        self.limits: RouteLimits | None = limits
        self.hosts: Final = hosts
        self.hooks: Final[list[Hook]] = []
        self.middlewares: Final[list[Middleware]] = []
        self.error_handlers: Final[dict[int | type[BaseException], Handler]] = {}
        self._definitions: Final[list[RouteDefinition]] = []
        self.mounts: Final[list[Mount]] = []
        self.parents: Final[list[Blueprint]] = []

    # --- routes -------------------------------------------------------------------------------------------------------

    def add_route(
        self,
        pattern: Pattern,
        handler: Handler | object,
        methods: Sequence[str] | None = None,
        **options: Unpack[RouteOptions],
    ) -> None:
        """Register a handler: what `route` does, as a call.

        Args:
            pattern: The path. `<name>` stands for one segment, `<*name>` at the end for the rest. Or an expression,
                `re.compile(...)`, that matches all of the path; its named groups are the parameters.
            handler: What answers. An `async def` runs on the event loop, a `def` in a thread pool. A class, or an
                object that cannot be called, answers with its methods `get`, `post` and so on.
            methods: The methods it answers; GET when omitted. HEAD comes with GET, and OPTIONS by itself.
            **options: As for `route`.

        Raises:
            DuplicateRoute: If a route answers the same requests.
            ConfigurationError: If the handler, the pattern or an option is wrong.
        """
        definitions: list[RouteDefinition] = []
        for answered, function, view in handlers(handler, methods):
            given: RouteOptions = options if view is None or options.get("name") else {**options, "name": view}
            definitions.append(RouteDefinition(pattern, function, answered, given))
        self._definitions.extend(definitions)
        try:
            self.announce([Place((), definition) for definition in definitions])
        except BaseException:
            for definition in definitions:
                self._definitions.remove(definition)
            raise

    def route(
        self,
        pattern: Pattern,
        methods: Sequence[str] | None = None,
        **options: Unpack[RouteOptions],
    ) -> Callable[[_Handler], _Handler]:
        """Register the handler below. It is returned as it is, and can be registered again.

        ```python
        @app.route("/users/<user_id>", methods=["GET", "DELETE"])
        async def user(request: Request, user_id: int) -> Response: ...
        ```

        Args:
            pattern: The path. `<name>` stands for one segment, `<*name>` at the end for the rest. Or an expression,
                `re.compile(...)`, that matches all of the path; its named groups are the parameters.
            methods: The methods it answers; GET when omitted. HEAD comes with GET, and OPTIONS by itself.
            **options: `name`, the name of the route; the handler's when omitted.
                `hosts`, the hosts it answers for: names such as `"api.example.com"`, `"*.example.com"` for all names
                below, or expressions; those of the blueprint, or all, when omitted.
                `strategy`, whether the slash at the end of the path counts; the app's when omitted.
                `cache`, such as `Cache(ttl=60)`: what answers in the handler's place when it can.
                `limits`, its `RouteLimits`; those of the blueprint or the app when omitted.
                `timeout`, seconds in place of `limits.timeout`; 0 switches it off.
                `inline`, run a `def` handler on the event loop: quicker, and right only when it never blocks.
                `on_disconnect`, what becomes of the handler when its client goes away: `"cancel"`, `"finish"`, or
                `"auto"`, which cancels safe methods (RFC 9110 §9.2.1) and lets the others finish.

        Raises:
            DuplicateRoute: If a route answers the same requests.
            ConfigurationError: If the handler, the pattern or an option is wrong.
        """

        def register(handler: _Handler) -> _Handler:
            self.add_route(pattern, handler, methods, **options)
            return handler

        return register

    def get(self, pattern: Pattern, **options: Unpack[RouteOptions]) -> Callable[[_Handler], _Handler]:
        """Register the handler below for GET, and so for HEAD; `route` describes the options."""
        return self.route(pattern, ["GET"], **options)

    def post(self, pattern: Pattern, **options: Unpack[RouteOptions]) -> Callable[[_Handler], _Handler]:
        """Register the handler below for POST; `route` describes the options."""
        return self.route(pattern, ["POST"], **options)

    def put(self, pattern: Pattern, **options: Unpack[RouteOptions]) -> Callable[[_Handler], _Handler]:
        """Register the handler below for PUT; `route` describes the options."""
        return self.route(pattern, ["PUT"], **options)

    def patch(self, pattern: Pattern, **options: Unpack[RouteOptions]) -> Callable[[_Handler], _Handler]:
        """Register the handler below for PATCH; `route` describes the options."""
        return self.route(pattern, ["PATCH"], **options)

    def delete(self, pattern: Pattern, **options: Unpack[RouteOptions]) -> Callable[[_Handler], _Handler]:
        """Register the handler below for DELETE; `route` describes the options."""
        return self.route(pattern, ["DELETE"], **options)

    def head(self, pattern: Pattern, **options: Unpack[RouteOptions]) -> Callable[[_Handler], _Handler]:
        """Register the handler below for HEAD; `route` describes the options."""
        return self.route(pattern, ["HEAD"], **options)

    def options(self, pattern: Pattern, **options: Unpack[RouteOptions]) -> Callable[[_Handler], _Handler]:
        """Register the handler below for OPTIONS; `route` describes the options."""
        return self.route(pattern, ["OPTIONS"], **options)

    # --- blueprints in blueprints -------------------------------------------------------------------------------------

    def add_blueprint(self, blueprint: "Blueprint", prefixes: Mapping[str, str] | None = None) -> None:
        """Mount a blueprint here.

        Args:
            blueprint: The blueprint.
            prefixes: Where: what comes before the names of its routes, and before their patterns. With several it is
                mounted several times. `{"": ""}` when omitted: its routes are as if they were written here.

        Raises:
            DuplicatedBlueprint: If it is mounted here under that name or prefix already.
            DuplicateRoute: If one of its routes answers the same requests as another.
            ConfigurationError: If it is an app, or would be mounted in itself, or a prefix is wrong.
        """
        from vibora.app import Vibora  # noqa: PLC0415  it is a blueprint itself

        if not isinstance(cast("object", blueprint), Blueprint) or isinstance(blueprint, Vibora):
            raise ConfigurationError(f"a blueprint is mounted with add_blueprint, got {blueprint!r}")
        if self in (blueprint, *blueprint.descendants()):
            raise ConfigurationError("a blueprint cannot be mounted in itself")
        mounts = [Mount(blueprint, name, _prefix(prefix)) for name, prefix in (prefixes or {"": ""}).items()]
        for mount in mounts:
            if not re.fullmatch(r"[^.:]*", mount.name):
                raise ConfigurationError(f"a blueprint's name is without '.' and ':', got {mount.name!r}")
            if any(other.blueprint is blueprint and mount.prefix == other.prefix for other in self.mounts):
                raise DuplicatedBlueprint(f"the blueprint is mounted at {mount.prefix or '/'!r} already")
            if any(
                mount.name and other.name == mount.name and other.blueprint is not blueprint for other in self.mounts
            ):
                raise DuplicatedBlueprint(f"a blueprint is mounted under the name {mount.name!r} already")
        self.mounts.extend(mounts)
        blueprint.parents.append(self)
        try:
            for mount in mounts:
                self.announce([Place((mount, *place.mounts), place.definition) for place in blueprint.places()])
        except BaseException:
            for mount in mounts:
                self.mounts.remove(mount)
            blueprint.parents.remove(self)
            raise

    def places(self) -> Iterator[Place]:
        """Yield every route of the blueprint and of those mounted in it."""
        for definition in self._definitions:
            yield Place((), definition)
        for mount in self.mounts:
            for place in mount.blueprint.places():
                yield Place((mount, *place.mounts), place.definition)

    def descendants(self) -> "Iterator[Blueprint]":
        """Yield the blueprints mounted in it, at any depth."""
        for mount in self.mounts:
            yield mount.blueprint
            yield from mount.blueprint.descendants()

    def announce(self, places: list[Place]) -> None:
        """Tell what this is mounted in of new routes.

        Args:
            places: Their places here.

        Raises:
            DuplicateRoute: If one answers the same requests as another route of an app.
            ConfigurationError: If one is wrong.
        """
        for parent in dict.fromkeys(self.parents):
            for mount in parent.mounts:
                if mount.blueprint is self:
                    parent.announce([Place((mount, *place.mounts), place.definition) for place in places])

    # --- hooks, errors, middleware ------------------------------------------------------------------------------------

    def handle(self, *what: Handled | Sequence[Handled]) -> Callable[[_Handler], _Handler]:
        """Register the function below for events, for statuses, or for exceptions.

        ```python
        @app.handle(Events.BEFORE_SERVER_START)
        async def connect(app: Vibora) -> None:
            app.add_component(await Pool.connect())

        @app.handle(404)
        async def missing(request: Request) -> Response:
            return HtmlResponse("<h1>Not here</h1>", 404)

        @app.handle(OutOfStock)
        async def sorry(error: OutOfStock) -> Response:
            return JsonResponse({"sold out": error.name}, 409)
        ```

        Hooks and error handlers ask for what they need by type: `Request`, `Route`, components; error handlers for the
        error as well. They are `def` or `async def`, and run on the event loop. An error handler that returns None
        leaves the error to the next more general one.

        Args:
            *what: `Events`, statuses from 400 to 599, or classes of exceptions; one or several.

        Raises:
            ConfigurationError: If one of them is none of these, or has a handler already.
        """
        flat: list[Handled] = []
        for item in what:
            if isinstance(item, Events | int | type):
                flat.append(item)
            else:
                flat.extend(item)
        if not flat:
            raise ConfigurationError("handle takes events, statuses or classes of exceptions, got nothing")

        def register(handler: _Handler) -> _Handler:
            for item in flat:
                self._handle(item, handler)
            return handler

        return register

    def _handle(self, item: Handled, handler: Handler) -> None:
        if isinstance(item, Events):
            self.add_hook(Hook(item, handler))
            return
        if isinstance(item, bool) or not (
            (isinstance(item, int) and item in range(400, 600))
            or (isinstance(item, type) and issubclass(item, Exception))
        ):
            raise ConfigurationError(
                f"handle takes events, statuses from 400 to 599 or classes of exceptions, got {item!r}"
            )
        if item in self.error_handlers:
            other = describe(self.error_handlers[item])
            raise ConfigurationError(f"{item!r} is handled by {other} already, so not by {describe(handler)}")
        self.error_handlers[item] = handler

    def add_hook(self, *hooks: Hook) -> None:
        """Register hooks: what `handle` does with an event, as a call.

        Args:
            *hooks: The hooks.
        """
        for hook in hooks:
            if not isinstance(cast("object", hook), Hook):
                raise ConfigurationError(f"a hook is written Hook(event, function), got {hook!r}")
            self.hooks.append(hook)

    def middleware(self, function: _Handler) -> _Handler:
        """Wrap the function below around every request of these routes; an app's around those without a route too.

        ```python
        @app.middleware
        async def timing(request: Request, call_next: CallNext) -> Response:
            started = time.perf_counter()
            response = await call_next(request)
            response.headers["server-timing"] = f"app;dur={1000 * (time.perf_counter() - started):.1f}"
            return response
        ```

        It runs in the handler's own task, so that context variables, timeouts and cancellation work through it. A
        stream passes as it is: it is pulled when the middleware has returned. An exception of the handler has become
        a response when it gets here.

        Args:
            function: An `async def` that takes the request and what calls the next, and returns a response.

        Raises:
            ConfigurationError: If it is something else.
        """
        if not is_coroutine_function(function):
            raise ConfigurationError(f"middleware is an async def (request, call_next), got {function!r}")
        self.middlewares.append(function)
        return function

    def hooks_for(self, event: Events) -> list[HookFunction]:
        """Return the hooks for an event, in the order in which they were registered.

        Args:
            event: The event. For those of the server, the hooks of the blueprints mounted here come after its own.
        """
        hooks = [hook.handler for hook in self.hooks if hook.event is event]
        if event in SERVER_EVENTS:
            for blueprint in dict.fromkeys(self.descendants()):
                hooks += [hook.handler for hook in blueprint.hooks if hook.event is event]
        return hooks


def _prefix(prefix: object) -> str:
    if not isinstance(prefix, str) or (prefix and not prefix.startswith("/")):
        raise ConfigurationError(f"a blueprint's prefix is empty or starts with '/', got {prefix!r}")
    return prefix.rstrip("/")
