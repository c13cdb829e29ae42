"""The app: its routes, its components, its limits, and the three ways to serve it."""

import contextlib
import inspect
from collections.abc import Callable, Coroutine, Generator, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar, Unpack

from vibora import _core
from vibora._core import Request
from vibora.access import AccessLog
from vibora.blueprints import Blueprint, Place
from vibora.components import Component, Components, Scope
from vibora.exceptions import ConfigurationError, DuplicateRoute
from vibora.limits import RouteLimits, ServerLimits
from vibora.proxies import TrustedProxies
from vibora.routing import Compose, RouterStrategy, compile_route, describe, name_of

if TYPE_CHECKING:
    import asyncio
    import socket

    from vibora.ingress import Ingress
    from vibora.runtime import Runtime
    from vibora.server import Server
    from vibora.static import StaticHandler
    from vibora.testing import TestClient, TestClock

_T = TypeVar("_T")
_Provide = TypeVar("_Provide", bound=Callable[..., Any])


class Vibora(Blueprint):
    """An app.

    ```python
    from vibora import JsonResponse, Request, Vibora

    app = Vibora()

    @app.get("/")
    async def home(request: Request) -> JsonResponse:
        return JsonResponse({"hello": "world"})

    if __name__ == "__main__":
        app.run()
    ```

    Args:
        server_limits: The limits of the server that serves it.
        route_limits: The limits of its routes, where a route does not give its own.
        router_strategy: Whether the slash at the end of a path counts, where a route does not say so.
        server_name: The host, with its port where it has one, that absolute URLs are for: `example.com`.
        url_scheme: The scheme of absolute URLs.
        trusted_proxies: The proxies it stands behind, such as `["127.0.0.1", "10.0.0.0/8", "unix"]`: what they say
            about the client is believed, and what anybody else says is not. `TrustedProxies` describes it.
        access_log: Write a line for each request: `"text"`, `"json"`, `"logging"`, or an `AccessLog`, which describes
            them.
        metrics_path: Where it tells Prometheus what all workers have counted, such as `"/metrics"`.

        static: Directories whose files it serves: `StaticHandler(["static"])` is registered under its `url_prefix`.

    Attributes:
        server_limits: The same; read when a server starts.
        route_limits: The same; read when a route is registered.
        router_strategy: The same; read when a route is registered.
        server_name: The same.
        url_scheme: The same.
        trusted_proxies: The same, as `TrustedProxies` or None; read when a server starts.
        access_log: The same, as `AccessLog` or None; read when a server starts.
        metrics_path: The same; read when a server starts.
        components: What handlers ask for by type; `add_component` adds to them.
        runtimes: What serves it in this process.

    Raises:
        ConfigurationError: If a trusted proxy is neither an address nor a network, or there is no such access log.
    """

    def __init__(
        self,
        *,
        server_limits: ServerLimits | None = None,
        route_limits: RouteLimits | None = None,
        router_strategy: RouterStrategy = RouterStrategy.REDIRECT,
        server_name: str | None = None,
        url_scheme: str = "http",
        trusted_proxies: TrustedProxies | Iterable[str] | None = None,
        access_log: AccessLog | str | None = None,
        metrics_path: str | None = None,
        static: "StaticHandler | None" = None,
    ) -> None:
        super().__init__()
        self.server_limits = server_limits or ServerLimits()
        self.route_limits = route_limits or RouteLimits()
        self.components: Final = Components()
        self.router_strategy = router_strategy
        self.server_name = server_name
        self.url_scheme = url_scheme
        if trusted_proxies is not None and not isinstance(trusted_proxies, TrustedProxies):
            trusted_proxies = TrustedProxies(trusted_proxies)
        self.trusted_proxies = trusted_proxies
        self.access_log = AccessLog.of(access_log)
        self.metrics_path = metrics_path
        self._router = _core.Router()
        self._servers: list[Server] = []
        self.runtimes: Final[list[Runtime]] = []
        if static is not None:
            static.register(self)

    # --- routes -------------------------------------------------------------------------------------------------------

    @property
    def routes(self) -> tuple[_core.Route, ...]:
        """The routes, also those of its blueprints, in the order in which they were registered."""
        return tuple(self._router.routes)

    def compile_place(self, place: Place, compose: Compose | None = None) -> _core.Route:
        """Return the route of a definition, with the names, prefixes, limits and hosts of the blueprints it is in.

        Args:
            place: Its place in the app.
            compose: What is put around the handler.

        Raises:
            ConfigurationError: If the handler, the pattern or an option is wrong.
        """
        definition = place.definition
        options: dict[str, Any] = {**definition.options}
        options.pop("cache", None)  # what is put around the handler knows it
        options["name"] = place.name(options.get("name") or name_of(definition.handler))
        inner = place.blueprints[::-1]
        limits = next((blueprint.limits for blueprint in inner if blueprint.limits), self.route_limits)
        if not options.get("hosts"):
            options["hosts"] = next((blueprint.hosts for blueprint in inner if blueprint.hosts), None)
        return compile_route(
            place.pattern,
            definition.handler,
            definition.methods,
            default_limits=limits,
            default_strategy=self.router_strategy,
            compose=compose,
            **options,
        )

    def announce(self, places: list[Place]) -> None:
        """Register routes, and serve them if the app is being served.

        Args:
            places: Their places in the app.

        Raises:
            DuplicateRoute: If one answers the same requests as another.
            ConfigurationError: If one is wrong.
        """
        routes: list[_core.Route] = []
        for place in places:
            route = self.compile_place(place)
            try:
                self._router.add(route)
            except _core.RouteConflict as conflict:
                self._forget(routes)
                raise _duplicate(route, conflict) from None
            except ValueError as error:
                self._forget(routes)
                raise ConfigurationError(f"handler {describe(route.handler)}: {error}") from None
            routes.append(route)
        for runtime in self.runtimes:
            for place in places:
                runtime.add(place)

    def _forget(self, routes: list[_core.Route]) -> None:
        """Take routes out again, which one that comes with them conflicts with another."""
        kept = [route for route in self._router.routes if route not in routes]
        self._router = _core.Router()
        for route in kept:
            self._router.add(route)

    def url_for(
        self,
        name: str,
        /,
        _external: bool = False,  # noqa: FBT001, FBT002  as in Flask and in the first Vibora
        *,
        _scheme: str | None = None,
        _host: str | None = None,
        _request: Request | None = None,
        **params: object,
    ) -> str:
        """Return the URL of a route, percent-encoded.

        ```python
        app.url_for("user", user_id=7, tab=["a", "b"])  # /users/7?tab=a&tab=b
        ```

        Args:
            name: The name of the route: that of its handler, unless it was given one.
            _external: Return an absolute URL, with scheme and host. The host is that of the route or the app's
                `server_name`.
            _scheme: The scheme of an absolute URL; that of the request or the app's `url_scheme` when omitted.
            _host: The host of an absolute URL, with its port.
            _request: A request whose host is taken where neither the route nor the app has one. Clients choose what
                they send: do not build links for others with it.
            **params: The parameters of the path, and what becomes the query: a list repeats its name, None is left
                out.

        Raises:
            ReverseNotFound: If no route has the name, a parameter is missing or does not fit, or no host is known.
        """
        from vibora.reverse import build_origin, build_url, find_route  # noqa: PLC0415  urllib is slow to import

        route = find_route(self._router.routes, name, params)
        origin = ""
        if _external:
            origin = build_origin(
                route,
                scheme=_scheme or (_request.scheme if _request else self.url_scheme),
                host=_host,
                server_name=self.server_name,
                requested=None if _request is None else _request.host,
            )
        return build_url(route, params, origin=origin)

    # --- components ---------------------------------------------------------------------------------------------------

    def add_component(self, component: object, *, scope: Scope | None = None, provides: Any = None) -> None:
        """Add a component: what handlers, hooks and error handlers ask for by its type.

        ```python
        app.add_component(Settings.from_environment())

        async def connection(pool: Pool) -> AsyncIterator[Connection]:
            async with pool.acquire() as connection:
                yield connection

        app.add_component(connection, scope="request")

        @app.get("/")
        async def home(connection: Connection, settings: Settings) -> Response: ...
        ```

        Args:
            component: An object; or, with a scope, what makes it: a function, an `async def`, or a generator of either
                kind that cleans up after its `yield`.
            scope: How long what is made lives: `"app"`, for as long as the worker; `"request"`, for one request until
                the last byte of its response; `"handler"`, for one call.
            provides: The type it is asked for by; its own, or what the function is annotated to return, when omitted.

        Raises:
            ConfigurationError: If there is one of that type already, or the type is not known.
        """
        if scope is not None:
            component = Component(component, scope, provides)  # type: ignore[arg-type]
        elif inspect.isroutine(component):
            raise ConfigurationError(
                f"{describe(component)} is a function: say how long what it makes lives with "
                "scope='app', 'request' or 'handler'"
            )
        if isinstance(component, Component) or provides is None:
            self.components.add(component)
        else:
            self.components.add_as(provides, component)

    def component(self, scope: Scope, *, provides: Any = None) -> Callable[[_Provide], _Provide]:
        """Add what the function below makes, as `add_component` does.

        ```python
        @app.component("request")
        async def current_user(request: Request, users: Users) -> User: ...
        ```

        Args:
            scope: How long what is made lives.
            provides: The type it is asked for by; what the function is annotated to return when omitted.

        Raises:
            ConfigurationError: As `add_component` does.
        """

        def register(builder: _Provide) -> _Provide:
            self.add_component(builder, scope=scope, provides=provides)
            return builder

        return register

    @contextlib.contextmanager
    def override(self, kind: Any, component: object) -> "Generator[None, None, None]":
        """Put something in the place of a component while the block runs: for tests.

        ```python
        with app.override(Pool, FakePool()), app.test_client() as client: ...
        ```

        Args:
            kind: The type that it is asked for by.
            component: What is given instead: an object, or a `Component`.

        Raises:
            ConfigurationError: If the app is being served: override before it starts.
        """
        if any(not server.is_stopped for server in self._servers):
            raise ConfigurationError("the app is being served: override its components before it starts")
        self.components.override(kind, component)
        try:
            yield
        finally:
            self.components.restore(kind)

    # --- background tasks ---------------------------------------------------------------------------------------------

    def spawn(self, coroutine: Coroutine[Any, Any, _T], *, name: str | None = None) -> "asyncio.Task[_T]":
        """Run a coroutine in the background, beyond the request that began it.

        The app holds it, logs its exception, and waits for it when it stops, `ServerLimits.graceful_timeout` at most.

        Args:
            coroutine: The coroutine.
            name: The name of the task, for the log; the coroutine's when omitted.

        Raises:
            RuntimeError: If the app is not being served in this process.
        """
        if not self.runtimes:
            coroutine.close()
            raise RuntimeError("the app is not being served: there is nothing to run a background task in")
        return self.runtimes[-1].spawn(coroutine, name or str(getattr(coroutine, "__qualname__", "background")))

    # --- serving ------------------------------------------------------------------------------------------------------

    def run(
        self,
        host: str = "127.0.0.1",
        port: int = 5000,
        *,
        bind: "str | Sequence[str] | None" = None,
        socket_mode: int = 0o660,
        sock: "socket.socket | None" = None,
        workers: int = 1,
        supervise: bool | None = None,
        max_requests: int | None = None,
        max_rss: int | None = None,
        debug: bool = False,
        reload: bool = False,
        access_log: str | None = None,
        **ingress: "Unpack[Ingress]",
    ) -> None:
        """Serve the app until SIGINT or SIGTERM: the whole program, with its loop, its workers and its log.

        The first signal stops it gracefully, within `ServerLimits.graceful_timeout`; a second one hurries. Where a
        parent looks after workers, SIGHUP replaces them one by one, with new code, and loses no request.

        Args:
            host: A host name or an address, IPv4 or IPv6.
            port: A port; 0 lets the system choose.
            bind: One or more addresses to listen on, in place of `host` and `port`: `HOST:PORT`, `[IPV6]:PORT`,
                `unix:PATH` or `fd://NUMBER`.
            socket_mode: The permissions of unix sockets.
            sock: A bound socket to listen on, in place of all these. Without any of them the sockets that systemd has
                passed on are taken, if there are some.
            workers: Processes that serve, each with an event loop of its own.
            supervise: Whether a parent looks after the workers, even if there is only one; when None, where it is
                needed.
            max_requests: Requests after which a worker is replaced, and up to a tenth more.
            max_rss: Bytes of memory beyond which a worker is replaced.
            debug: Show tracebacks to clients.
            reload: Start the app anew when its files change; needs `vibora[dev]`.
            access_log: Write a line for each request: `"text"`, `"json"`, `"logging"` or `"off"`; as the app says when
                None.
            **ingress: `tls`, what connections are encrypted with (`vibora.tls.TLS`), and `proxy_protocol`, a list of
                the networks of load balancers that speak the PROXY protocol.

        Raises:
            ConfigurationError: If the arguments make no sense.
            RuntimeError: If an event loop is running: `serve` and `start` are for those.
            SystemExit: If it cannot listen, or a worker cannot start.
        """
        from vibora.program import run  # noqa: PLC0415  asyncio is slow to import, and not every import serves
        from vibora.settings import Settings  # noqa: PLC0415  as above

        # What nobody has chosen leaves the place to the sockets of systemd.
        settings = Settings(
            host=None if host == "127.0.0.1" else host,
            port=None if port == 5000 else port,
            bind=(bind,) if isinstance(bind, str) else tuple(bind or ()),
            socket_mode=socket_mode,
            workers=workers,
            supervise=supervise,
            max_requests=max_requests,
            max_rss=max_rss,
            debug=debug,
            reload=reload,
            access_log=access_log,
            ingress=ingress,
        )
        run(self, settings, sock)

    async def serve(
        self,
        host: str = "127.0.0.1",
        port: int = 5000,
        *,
        bind: "str | Sequence[str] | None" = None,
        socket_mode: int = 0o660,
        debug: bool = False,
        sock: "socket.socket | None" = None,
        **ingress: "Unpack[Ingress]",
    ) -> None:
        """Serve the app in the running event loop, until `shutdown` is called or the task is cancelled.

        Either way it stops gracefully before it returns. Signals are the program's own business.

        Args:
            host: A host name or an address, IPv4 or IPv6.
            port: A port; 0 lets the system choose, and `start` tells which.
            bind: One or more addresses to listen on, in place of `host` and `port`, as for `run`.
            socket_mode: The permissions of unix sockets.
            debug: Show tracebacks to clients.
            sock: A bound socket to listen on, in place of `host` and `port`.
            **ingress: `tls` and `proxy_protocol`, as for `run`.

        Raises:
            CannotListen: If the address is taken, forbidden or not there.
            ConfigurationError: If an argument makes no sense.
        """
        async with await self.start(
            host, port, bind=bind, socket_mode=socket_mode, debug=debug, sock=sock, **ingress
        ) as server:
            await server.wait_stopped()

    async def start(
        self,
        host: str = "127.0.0.1",
        port: int = 5000,
        *,
        bind: "str | Sequence[str] | None" = None,
        socket_mode: int = 0o660,
        debug: bool = False,
        sock: "socket.socket | Sequence[socket.socket] | None" = None,
        **ingress: "Unpack[Ingress]",
    ) -> "Server":
        """Start serving the app in the running event loop, and return the server.

        ```python
        async with await app.start(port=0) as server:
            print(server.url)
        ```

        Args:
            host: A host name or an address, IPv4 or IPv6.
            port: A port; 0 lets the system choose, and `Server.port` tells which.
            bind: One or more addresses to listen on, in place of `host` and `port`, as for `run`.
            socket_mode: The permissions of unix sockets.
            debug: Show tracebacks to clients.
            sock: A bound socket to listen on, or several, in place of `host` and `port`.
            **ingress: `tls` and `proxy_protocol`, as for `run`.

        Raises:
            CannotListen: If the address is taken, forbidden or not there.
            ConfigurationError: If an argument makes no sense.
        """
        from vibora.sockets import Listeners  # noqa: PLC0415  as in `run`

        if sock is not None:
            sockets = sock if isinstance(sock, Sequence) else [sock]
            return await self.start_server(sockets, debug=debug, **ingress)
        addresses = [bind] if isinstance(bind, str) else bind
        listeners = Listeners.open(addresses or [(host, port)], socket_mode=socket_mode)
        try:
            server = await self.start_server(listeners.sockets, debug=debug, **ingress)
        except BaseException:
            listeners.close()
            raise
        server.call_when_stopped(listeners.close)
        return server

    async def start_server(
        self,
        sockets: "Sequence[socket.socket]",
        *,
        debug: bool = False,
        clock: "_core.ManualClock | None" = None,
        on_failure: "Callable[[asyncio.Protocol, BaseException], object] | None" = None,
        **ingress: "Unpack[Ingress]",
    ) -> "Server":
        """Start serving the app in the running event loop: what `start` and the test clients have in common.

        Args:
            sockets: Bound sockets to listen on; the server owns them from now on. Without any it serves what
                `Server.protocol` is given.
            debug: Show tracebacks to clients.
            clock: The clock of its deadlines; the system's when omitted.
            on_failure: Called with the protocol of a connection and each exception that nobody answers for.
            **ingress: `tls` and `proxy_protocol`, as for `run`.
        """
        from vibora.server import Server  # noqa: PLC0415  as in `run`

        server = await Server.start(self, sockets, debug=debug, clock=clock, on_failure=on_failure, **ingress)
        self._servers = [*(other for other in self._servers if not other.is_stopped), server]
        return server

    def test_client(
        self,
        *,
        headers: Mapping[str, str] | None = None,
        cookies: Mapping[str, str] | None = None,
        base_url: str = "http://testserver",
        follow_redirects: bool = True,
        raise_server_exceptions: bool = True,
        client: tuple[str, int] = ("127.0.0.1", 50000),
        http_version: Literal["HTTP/1.1", "HTTP/1.0"] = "HTTP/1.1",
        timeout: float | None = 10.0,
        debug: bool = False,
        clock: "TestClock | None" = None,
    ) -> "TestClient":
        """Return a client for tests: the app behind its real server, in memory. It needs `vibora[testing]`.

        ```python
        with app.test_client() as client:
            assert client.get("/").status_code == 200
        ```

        `with` gives a `vibora.testing.Client`, which is an `httpx.Client`; `async with` an `AsyncClient`.

        Args:
            headers: Header fields of every request.
            cookies: Cookies that the client has from the beginning.
            base_url: What paths are joined to; its host is the `host` of the requests.
            follow_redirects: Follow redirects, wherever they lead: all of them to this app.
            raise_server_exceptions: Raise an exception of a handler, or of a stream, that no error handler has
                answered, in place of the 500 or of the end of the stream.
            client: The address that the app sees.
            http_version: The version of the requests.
            timeout: Seconds of real time that the client waits for the app, before `httpx.ReadTimeout`; None for ever.
            debug: Show tracebacks to clients.
            clock: A `vibora.testing.TestClock` for the timeouts of the server; the system's clock when omitted.

        Raises:
            ImportError: If httpx is not installed.
        """
        from vibora.testing._client import Options, TestClient  # noqa: PLC0415  httpx is for tests

        return TestClient(
            self,
            Options(
                headers=headers,
                cookies=cookies,
                base_url=base_url,
                follow_redirects=follow_redirects,
                raise_server_exceptions=raise_server_exceptions,
                client=client,
                http_version=http_version,
                timeout=timeout,
                debug=debug,
                clock=clock,
            ),
        )

    @property
    def is_ready(self) -> bool:
        """Whether requests should be sent to this process: it serves the app, and has not been asked to stop.

        A handler that answers a load balancer's question with it is all that a readiness probe needs.
        """
        return any(server.is_ready for server in self._servers)

    def shutdown(self) -> None:
        """Ask every server of the app in this process to stop gracefully. Returns at once; any thread may call it."""
        for server in self._servers:
            server.shutdown()


def _duplicate(route: _core.Route, conflict: _core.RouteConflict) -> DuplicateRoute:
    other = conflict.existing
    return DuplicateRoute(
        f"{' '.join(route.methods)} {route.pattern!r}, handler {describe(route.handler)}, answers the same requests as "
        f"{' '.join(other.methods)} {other.pattern!r}, handler {describe(other.handler)}"
    )
