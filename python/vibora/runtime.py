"""The app as one worker runs it: what is written down in blueprints, put together once, when the server starts.

A route that nothing is wrapped around is called by the core itself. Around any other stands one coroutine, made here:

```text
middleware of the app ▸ … ▸ of the blueprint ▸ BEFORE_ENDPOINT ▸ handler
                                              └ an exception becomes a response here, if there is middleware
AFTER_ENDPOINT on whatever response has come out
```

An exception that leaves it, a timeout, and a request without a route come back from the core as `answer`.
"""

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from contextvars import copy_context
from inspect import isawaitable
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from vibora import _core
from vibora._core import DeferredResponse, Request, Response, Route, TextResponse
from vibora._driving import can_suspend
from vibora._threads import close_pool, open_pool, run_in_thread
from vibora.blueprints import Blueprint, Middleware, Place
from vibora.components import Constant, Frame, Resolver, Sources, request_specials
from vibora.errors import answer_error, log_failure
from vibora.exceptions import AutomaticOptions, ClientDisconnected, ConfigurationError, HTTPError, SlashRedirect
from vibora.hooks import Events, HookFunction
from vibora.routing import (
    Argument,
    Call,
    Drive,
    Handler,
    compile_route,
    describe,
    is_coroutine_function,
    read_signature,
)

if TYPE_CHECKING:
    from vibora.app import Vibora
    from vibora.metrics import Counters

logger: Final = logging.getLogger("vibora")


_ANSWERS: Final = AutomaticOptions | ClientDisconnected | SlashRedirect
"""Exceptions that are no failures, and that nobody means when they handle `Exception` or 500."""

_CANCEL_TIMEOUT: Final = 1.0
"""Seconds that what is cancelled has to end."""


class _Function(NamedTuple):
    """A hook, middleware or error handler, and where its parameters come from."""

    function: Handler
    sources: Sources

    async def __call__(self, frame: Frame) -> Any:
        args, kwargs = await self.sources.fill(frame) if self.sources.needs_await else self.sources.fill_now(frame)
        result = self.function(*args, **kwargs)
        return await result if isawaitable(result) else result


class _Surroundings(NamedTuple):
    """What stands around the routes of a blueprint; the app's is the first in each."""

    before: Sequence[_Function]
    after: Sequence[_Function]
    sent: Sequence[_Function]
    middlewares: Sequence[_Function]
    errors: Sequence[dict[int | type[BaseException], _Function]]


class Runtime:
    """An app in one worker.

    Args:
        app: The app.
        debug: Show tracebacks to clients.

    Attributes:
        app: The same.
        router: Its routes, as the core calls them; empty before `start`.
    """

    def __init__(self, app: "Vibora", *, debug: bool = False) -> None:
        self.app: Final = app
        self.router = _core.Router()
        self._debug: Final = debug
        self.counters: Counters | None = None
        if app.metrics_path is not None:
            from vibora import metrics  # noqa: PLC0415  not every app has them

            self.counters = metrics.Counters.of_program()
        self._resolver = Resolver(app.components, [app])
        self._surroundings: dict[tuple[Blueprint, ...], _Surroundings] = {}
        self._of_route: dict[Route, _Surroundings] = {}
        self._background: set[asyncio.Task[Any]] = set()

    # --- starting and stopping ----------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Call the hooks that come before the start, make the components of the scope `app`, compile the routes.

        Raises:
            ConfigurationError: If a route, a hook or a provider asks for what there is not.
        """
        self._resolver = Resolver(self.app.components, [self.app, asyncio.get_running_loop()])
        open_pool()
        try:
            await self._call_server_hooks(Events.BEFORE_SERVER_START)
            await self._resolver.make_all()
            self.compile()
        except BaseException:
            close_pool()
            await self._resolver.close()
            raise
        self.app.runtimes.append(self)

    async def started(self) -> None:
        """Call the hooks that come after the start."""
        await self._call_server_hooks(Events.AFTER_SERVER_START)

    async def stopping(self) -> None:
        """Call the hooks that come before the end. One that fails does not keep the server from stopping."""
        for hook in self.app.hooks_for(Events.BEFORE_SERVER_STOP):
            try:
                await self._call_server_hook(hook)
            except Exception:
                logger.exception("stopping: hook %s failed", describe(hook))

    @property
    def wants_stop(self) -> bool:
        """Whether there are hooks that come before the end."""
        return bool(self.app.hooks_for(Events.BEFORE_SERVER_STOP))

    async def stop(self, timeout: float, hurried: asyncio.Future[None]) -> None:  # noqa: ASYNC109  passed on
        """Wait for background tasks, then clean up the components of the scope `app`.

        Args:
            timeout: Seconds that background tasks are given. Then they are cancelled. Clean-up has as long again.
            hurried: When it is done, they are given no time.
        """
        try:
            await self._end_background(timeout, hurried)
            await self._clean_up(timeout, hurried)
        finally:
            close_pool()

    async def _end_background(self, timeout: float, hurried: asyncio.Future[None]) -> None:  # noqa: ASYNC109
        loop = asyncio.get_running_loop()
        until = loop.time() + timeout
        while self._background and not hurried.done() and (left := until - loop.time()) > 0:
            ended = loop.create_task(_wait_for(self._background))  # those may begin others
            await asyncio.wait({ended, hurried}, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            ended.cancel()
        if self._background:
            logger.warning("stopping: cancelled %d background tasks that had not ended", len(self._background))
            for task in self._background:
                task.cancel()
            await asyncio.wait(self._background, timeout=_CANCEL_TIMEOUT)

    async def _clean_up(self, timeout: float, hurried: asyncio.Future[None]) -> None:  # noqa: ASYNC109
        if self in self.app.runtimes:
            self.app.runtimes.remove(self)
        closing = asyncio.get_running_loop().create_task(self._resolver.close(), name="vibora clean-up")
        await asyncio.wait({closing, hurried}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.wait({closing}, timeout=_CANCEL_TIMEOUT)
        if not closing.done():
            logger.warning("stopping: cancelled the clean-up of components, which had not ended")
            closing.cancel()
            await asyncio.wait({closing}, timeout=_CANCEL_TIMEOUT)
        if closing.done() and not closing.cancelled() and (error := closing.exception()) is not None:
            logger.error("stopping: a component could not be cleaned up: %r", error, exc_info=error)

    def spawn(self, coroutine: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """Run a coroutine in a task that the worker waits for when it stops. Its exception is logged.

        Args:
            coroutine: The coroutine.
            name: The name of the task, for the log.
        """
        task = asyncio.get_running_loop().create_task(coroutine, name=name)
        self._background.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._background.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("background task %s failed: %r", task.get_name(), error, exc_info=error)

    async def _call_server_hooks(self, event: Events) -> None:
        with self.app.components.renew():
            for hook in self.app.hooks_for(event):  # one at a time: a hook may add what the next asks for
                await self._call_server_hook(hook)

    async def _call_server_hook(self, hook: HookFunction) -> None:
        sources = self._resolver.sources(hook, {}, "hook", scope="app")
        await _Function(hook, sources)(self._resolver.worker)

    # --- compiling ----------------------------------------------------------------------------------------------------

    def compile(self) -> None:
        """Put every route of the app together.

        Raises:
            ConfigurationError: If one asks for what there is not.
        """
        self._around((self.app,))
        for place in self.app.places():
            self.add(place)
        if self.counters:
            self._add_metrics(self.counters)

    def _add_metrics(self, counters: "Counters") -> None:
        async def metrics() -> TextResponse:
            return TextResponse(counters.text(), headers={"content-type": "text/plain; version=0.0.4; charset=utf-8"})

        path = self.app.metrics_path or "/metrics"
        route = compile_route(path, metrics, ("GET",), default_limits=self.app.route_limits, name="vibora.metrics")
        route.count_in(counters.entry(path))
        try:
            self.router.add(route)
        except _core.RouteConflict:
            raise ConfigurationError(f"metrics_path {path!r} has a route already") from None

    def add(self, place: Place) -> None:
        """Put a route together, and serve it.

        Args:
            place: Its place in the app.

        Raises:
            ConfigurationError: If it asks for what there is not.
        """
        around = self._around((self.app, *place.blueprints))
        route = self.app.compile_place(place, functools.partial(self._compose, place, around))
        self._of_route[route] = around
        if self.counters:
            route.count_in(self.counters.entry(route.pattern))
        self.router.add(route)

    @property
    def intercepts(self) -> bool:
        """Whether requests without a route concern the app: it has middleware, hooks or error handlers."""
        around = self._around((self.app,))
        return bool(around.middlewares or around.after)

    @property
    def observes(self) -> bool:
        """Whether the app wants to know what became of responses."""
        return any(around.sent for around in self._surroundings.values())

    def _around(self, blueprints: tuple[Blueprint, ...]) -> _Surroundings:
        if blueprints not in self._surroundings:
            request = request_specials()
            response = {**request, Response: "response", "response": "response"}
            outcome = {**request, _core.Outcome: "outcome", "outcome": "outcome"}
            middleware = {**request, "call_next": "call_next"}
            self._surroundings[blueprints] = _Surroundings(
                before=self._hooks(blueprints, Events.BEFORE_ENDPOINT, request),
                after=self._hooks(blueprints, Events.AFTER_ENDPOINT, response),
                sent=self._hooks(blueprints, Events.AFTER_RESPONSE_SENT, outcome),
                middlewares=[
                    _Function(function, self._middleware_sources(function, middleware))
                    for blueprint in blueprints
                    for function in blueprint.middlewares
                ],
                errors=[self._error_handlers(blueprint) for blueprint in reversed(blueprints)],
            )
        return self._surroundings[blueprints]

    def _hooks(self, blueprints: Iterable[Blueprint], event: Events, specials: dict[Any, str]) -> list[_Function]:
        hooks = [hook.handler for blueprint in blueprints for hook in blueprint.hooks if hook.event is event]
        return [_Function(hook, self._resolver.sources(hook, specials, "hook", scope="request")) for hook in hooks]

    def _middleware_sources(self, function: Middleware, specials: dict[Any, str]) -> Sources:
        """The second parameter is what calls the next, however it is called and annotated."""
        names = [name for name in read_signature(function)[0].parameters if name not in ("self", "request")]
        if "call_next" not in names and names:
            specials = {**specials, names[0]: "call_next"}
        return self._resolver.sources(function, specials, "middleware", scope="request")

    def _error_handlers(self, blueprint: Blueprint) -> dict[int | type[BaseException], _Function]:
        handlers: dict[int | type[BaseException], _Function] = {}
        for what, function in blueprint.error_handlers.items():
            specials: dict[Any, str] = {**request_specials(), "error": "error", "exception": "error"}
            kinds = what.__mro__ if isinstance(what, type) else HTTPError.__mro__
            specials.update((kind, "error") for kind in kinds if issubclass(kind, BaseException))
            for kind in blueprint.error_handlers:  # one function may handle several classes
                if isinstance(kind, type) and blueprint.error_handlers[kind] is function:
                    specials[kind] = "error"
            handlers[what] = _Function(
                function, self._resolver.sources(function, specials, "error handler", scope="handler")
            )
        return handlers

    def _compose(self, place: Place, around: _Surroundings, call: Call) -> Call:
        """Return what the core calls for a route: the handler itself, if nothing stands around it."""
        what = f"handler {describe(call.function)}"
        arguments: list[Argument] = []
        made = False
        for kind, value, name in call.arguments:
            if kind != "component":
                arguments.append((kind, value, name))
                continue
            annotation, parameter = value
            source = self._resolver.argument(annotation, parameter, what)
            if isinstance(source, Constant):
                arguments.append(("constant", source.value, name))
            else:
                made = True
                arguments.append(("component", source, name))
        cache = place.definition.options.get("cache")
        if not (made or cache is not None or around.before or around.after or around.middlewares):
            return Call(call.function, call.drive, arguments)
        return self._wrap(Call(call.function, call.drive, arguments), around, cache)

    def _wrap(self, call: Call, around: _Surroundings, cache: Any) -> Call:
        outer: list[Argument] = [("request", None, None)]
        invoke = _invocation(call, outer)
        simple = not around.middlewares
        drive = self._drive(call, around, cache)

        async def innermost(frame: Frame) -> Response:
            for hook in around.before:
                early = await hook(frame)
                if early is not None:
                    return _checked(early, hook.function)
            if cache is not None:
                return await self._cached(cache, frame, invoke, call.function)
            return _checked(await invoke(frame), call.function)

        async def exchange(request: Request, *values: object) -> Response:
            frame = Frame("request", self._resolver.worker, {"request": request, "route": request.route})
            frame.specials["values"] = values
            request._frame = frame  # noqa: SLF001
            try:
                if simple:
                    response = await innermost(frame)
                else:
                    response = await self._respond(frame, around, innermost)
                if around.after and drive != "task" and isinstance(response, DeferredResponse):
                    return _Later(lambda: self._finish(frame, response, around.after))
                return await self._finish(frame, response, around.after) if around.after else response
            except BaseException as error:
                frame.error = error
                raise

        return Call(exchange, drive, outer)

    @staticmethod
    async def _cached(
        cache: Any, frame: Frame, invoke: Callable[[Frame], Awaitable[Any]], function: Handler
    ) -> Response:
        async def handler(_: Request) -> Response:
            return _checked(await invoke(frame), function)

        response: Response = await cache(frame.special("request"), handler)
        return response

    @staticmethod
    def _drive(call: Call, around: _Surroundings, cache: Any) -> Drive:
        """Return how a handler is run with what stands around it: without a task only if nothing of it can suspend."""
        hooks = (*around.before, *around.after)
        if (
            around.middlewares
            or cache is not None
            or call.drive not in ("direct", "content", "inline")
            or any(kind == "component" for kind, _, _ in call.arguments)
            or any(hook.sources.needs_await or _may_suspend(hook.function) for hook in hooks)
        ):
            return "task"
        return "content" if call.drive == "content" else "direct"

    async def _respond(
        self, frame: Frame, around: _Surroundings, innermost: Callable[[Frame], Awaitable[Response]]
    ) -> Response:
        """Go through the middleware to the handler. On the way back an exception has become a response."""
        request: Request = frame.special("request")

        async def core(request: Request) -> Response:
            try:
                return await _resolved(await innermost(frame), request)
            except Exception as error:  # noqa: BLE001  it is answered
                frame.error = error
                return await self._answer_with_handlers(frame, error, around)

        call: Callable[[Request], Awaitable[Response]] = core
        for middleware in reversed(around.middlewares):
            call = functools.partial(self._through, middleware, call, frame)
        return await call(request)

    async def _through(
        self, middleware: _Function, call_next: Callable[[Request], Awaitable[Response]], frame: Frame, _: Request
    ) -> Response:
        inner = Frame("handler", frame, {"call_next": call_next})
        return _checked(await middleware(inner), middleware.function)

    async def _finish(self, frame: Frame, response: Response, hooks: Sequence[_Function]) -> Response:
        """Call the hooks that see every response. Each is called once: after one that fails, those that are left."""
        response = await _resolved(response, frame.special("request"))
        finished = cast("int", frame.specials.get("finished", 0))
        for number, hook in enumerate(hooks[finished:], finished + 1):
            frame.specials["response"] = response
            frame.specials["finished"] = number
            changed = await hook(frame)
            if changed is not None:
                response = _checked(changed, hook.function)
        return response

    # --- errors -------------------------------------------------------------------------------------------------------

    def answer(
        self, request: Request | None, error: BaseException, route: Route | None
    ) -> Response | Awaitable[Response]:
        """Return the response to a request that did not get one from its handler: what the core calls.

        Args:
            request: The request; None when there was not enough of it.
            error: The exception.
            route: The route that matched, if one did.
        """
        if request is None:
            return answer_error(request, error, route, debug=self._debug)
        route = route or request.route
        around = self._of_route.get(route) if route else None
        if around is None:
            around = self._around((self.app,))
        if not around.middlewares and not around.after and not any(around.errors):
            return answer_error(request, error, route, debug=self._debug)
        return self._answer(request, error, route, around)

    async def _answer(
        self, request: Request, error: BaseException, route: Route | None, around: _Surroundings
    ) -> Response:
        frame: Frame | None = request._frame  # noqa: SLF001
        fresh = frame is None
        if frame is None:
            frame = Frame("request", self._resolver.worker, {"request": request, "route": route})
            request._frame = frame  # noqa: SLF001
        frame.error = frame.error or error
        try:
            if fresh and around.middlewares:

                async def innermost(frame: Frame) -> Response:
                    return await self._answer_with_handlers(frame, error, around)

                try:
                    response = await self._respond(frame, around, innermost)
                except Exception as failure:  # noqa: BLE001  it is answered
                    response = await self._answer_with_handlers(frame, failure, around)
            else:
                response = await self._answer_with_handlers(frame, error, around)
        except Exception as failure:  # noqa: BLE001  it is answered, and logged there
            response = answer_error(request, failure, route, debug=self._debug)
        for _ in around.after:  # each may fail
            try:
                return await self._finish(frame, response, around.after)
            except Exception as failure:  # noqa: BLE001  as above
                response = answer_error(request, failure, route, debug=self._debug)
        return response

    async def _answer_with_handlers(self, frame: Frame, error: BaseException, around: _Surroundings) -> Response:
        request: Request = frame.special("request")
        route: Route | None = frame.special("route")
        for what, handler in _most_specific(error, around.errors):
            inner = Frame("handler", frame, {"error": error})
            try:
                response = await handler(inner)
                if response is None:
                    continue
                response = await _resolved(_checked(response, handler.function), request)
            except HTTPError as refused:
                return answer_error(request, refused, route, debug=self._debug)
            except Exception as failure:  # noqa: BLE001  it is logged
                failure.__context__ = failure.__context__ or error
                return answer_error(request, failure, route, debug=self._debug)
            finally:
                await inner.close()
            if what in (500, Exception) and not isinstance(
                error, HTTPError | AutomaticOptions | ClientDisconnected | SlashRedirect
            ):
                log_failure(request, error, route)
            return response
        return answer_error(request, error, route, debug=self._debug)

    # --- what became of responses -------------------------------------------------------------------------------------

    def sent(self, request: Request | None, route: Route | None, outcome: _core.Outcome) -> None:
        """Call the hooks that want to know what became of a response: what the core calls.

        Args:
            request: The request; None when there was not enough of it.
            route: The route that matched, if one did.
            outcome: What became of the response.
        """
        if request is None:
            return
        around = self._of_route.get(route) if route else None
        hooks = (around or self._around((self.app,))).sent
        if not hooks:
            return
        frame = Frame("request", self._resolver.worker, {"request": request, "route": route, "outcome": outcome})
        if any(hook.sources.needs_await or is_coroutine_function(hook.function) for hook in hooks):
            self.spawn(self._tell(hooks, frame), "AFTER_RESPONSE_SENT")
            return
        for hook in hooks:
            args, kwargs = hook.sources.fill_now(frame)
            try:
                hook.function(*args, **kwargs)
            except Exception:
                logger.exception("hook %s failed", describe(hook.function))

    async def _tell(self, hooks: Sequence[_Function], frame: Frame) -> None:
        frame.keep()
        try:
            for hook in hooks:
                try:
                    await hook(frame)
                except Exception:
                    logger.exception("hook %s failed", describe(hook.function))
        finally:
            await frame.close()


async def _wait_for(tasks: Iterable[asyncio.Task[Any]]) -> None:
    await asyncio.wait(list(tasks))


class _Later(DeferredResponse):
    """A deferred response of a handler that runs without a task: what comes after it waits until it has one."""

    def __init__(self, resolve: Callable[[], Awaitable[Response]]) -> None:
        super().__init__()
        self._resolve: Final = resolve

    def resolve(self, request: Request, /) -> Awaitable[Response]:  # noqa: ARG002  what it calls knows it
        return self._resolve()


def _invocation(call: Call, outer: list[Argument]) -> Callable[[Frame], Awaitable[Any]]:
    """Return what calls a handler with the values that the core has passed on.

    Args:
        call: The handler's call.
        outer: The arguments of the coroutine that stands around it; parameters of the path are added.
    """
    plan: list[Argument] = []
    for kind, value, name in call.arguments:
        if kind == "parameter":
            plan.append(("value", len(outer) - 1, name))
            outer.append((kind, value, None))
        else:
            plan.append((kind, value, name))
    function, drive = call.function, call.drive

    async def run(frame: Frame) -> Any:
        args: list[object] = []
        kwargs: dict[str, object] = {}
        for kind, value, name in plan:
            filled = await value.get(frame) if kind == "component" else _filled(kind, value, frame)
            if name is None:
                args.append(filled)
            else:
                kwargs[name] = filled
        if drive == "thread":
            result: Any = await run_in_thread(functools.partial(function, *args, **kwargs), copy_context())
        else:
            result = function(*args, **kwargs)
        return await result if isawaitable(result) else result

    if not any(kind == "component" for kind, _, _ in plan):
        return run

    async def run_in_scope(frame: Frame) -> Any:
        inner = Frame("handler", frame)
        try:
            result = await run(inner)
        except BaseException as error:
            inner.error = error
            await inner.close()
            raise
        await inner.close()
        return result

    return run_in_scope


def _filled(kind: str, value: Any, frame: Frame) -> object:
    if kind == "value":
        return frame.special("values")[value]
    return frame.special("request") if kind == "request" else value


async def _resolved(response: Response, request: Request) -> Response:
    while isinstance(response, DeferredResponse):
        response = await response.resolve(request)
    return response


def _checked(value: Any, function: Handler) -> Response:
    if isinstance(value, Response):
        return value
    hint, kind = "", type(value).__qualname__
    if value is None:
        hint = "; is a `return` missing?"
    elif isinstance(value, dict | list):
        hint = "; JsonResponse(...) sends it as JSON"
    raise TypeError(f"{describe(function)} must return a Response, not {kind}{hint}")


def _may_suspend(function: Handler) -> bool:
    code = getattr(function, "__code__", None)
    return code is None or can_suspend(code)


def _most_specific(
    error: BaseException, tables: Iterable[dict[int | type[BaseException], _Function]]
) -> Iterable[tuple[int | type[BaseException], _Function]]:
    """Yield the handlers of an error: the innermost blueprint's first, and of one blueprint the most specific first.

    The class of the error comes before its status, the status before the classes that the class is derived from. What
    is not an `HTTPError` has the status 500, which comes before `Exception`.
    """
    kinds = [kind for kind in type(error).__mro__ if issubclass(kind, Exception)]
    keys: list[int | type[BaseException]] = list(kinds)
    if isinstance(error, HTTPError):
        keys.insert(1 if type(error) is not HTTPError else 0, error.status)
    elif kinds and not isinstance(error, _ANSWERS):
        keys.insert(len(keys) - 1, 500)
    if isinstance(error, _ANSWERS):
        keys = [kind for kind in kinds if kind is not Exception]
    for table in tables:
        for key in keys:
            if key in table:
                yield key, table[key]
