"""Responses that are made once and sent many times: only where an app says so, never guessed.

A `CachedResponse` is written down by the app. A `Cache` keeps what handlers have answered, for routes that ask for it:

```python
@app.get("/prices", cache=Cache(ttl=5))
async def prices() -> Response: ...
```
"""

import math
import time
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from vibora._core import (
    DeferredResponse,
    Headers,
    HtmlResponse,
    JsonResponse,
    RedirectResponse,
    Request,
    Response,
    StreamingResponse,
)
from vibora._validators import Conditions, joined, parse_date
from vibora.exceptions import ConfigurationError, PreconditionFailed
from vibora.files import without_content

if TYPE_CHECKING:
    import asyncio

__all__ = ["Cache", "CacheControl", "CacheEngine", "CachedResponse", "Static"]

CallNext: TypeAlias = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheControl:
    """A `Cache-Control` field of a response (RFC 9111 §5.2.2): what browsers and other caches may do with it.

    ```python
    str(CacheControl(public=True, max_age=31536000, immutable=True))  # 'public, max-age=31536000, immutable'
    ```

    Attributes:
        public: Any cache may store it, also where it would not otherwise.
        private: Only the client's own cache may store it.
        no_cache: A cache may store it, and asks before each use.
        no_store: No cache may store it.
        max_age: Seconds for which it may be used without asking.
        s_maxage: The same for caches that several clients share.
        stale_while_revalidate: Seconds for which it may still be used while a cache asks (RFC 5861).
        stale_if_error: Seconds for which it may still be used when asking fails (RFC 5861).
        must_revalidate: A cache never uses it without asking once it is too old.
        no_transform: Nobody on the way may change the content.
        immutable: It never changes: a client does not ask, even when its user reloads (RFC 8246).

    Raises:
        ValueError: If a number of seconds is negative.
    """

    public: bool = False
    private: bool = False
    no_cache: bool = False
    no_store: bool = False
    max_age: int | None = None
    s_maxage: int | None = None
    stale_while_revalidate: int | None = None
    stale_if_error: int | None = None
    must_revalidate: bool = False
    no_transform: bool = False
    immutable: bool = False

    def __post_init__(self) -> None:
        for name in ("max_age", "s_maxage", "stale_while_revalidate", "stale_if_error"):
            seconds = getattr(self, name)
            if seconds is not None and (not isinstance(seconds, int) or seconds < 0):
                raise ValueError(f"CacheControl.{name} takes whole seconds, got {seconds!r}")

    def __str__(self) -> str:
        directives: list[str] = []
        for name in self.__dataclass_fields__:
            value = getattr(self, name)
            directive = name.replace("_", "-")
            if value is True:
                directives.append(directive)
            elif value is not None and value is not False:
                directives.append(f"{directive}={value}")
        return ", ".join(directives)


class CachedResponse(DeferredResponse):
    r"""A response that is made once, when the app is written, and sent as often as it is returned.

    ```python
    ROBOTS = CachedResponse("User-agent: *\nDisallow:\n", headers={"cache-control": "max-age=3600"})


    @app.get("/robots.txt")
    async def robots() -> Response:
        return ROBOTS
    ```

    Each request gets a response of its own: what hooks add to one is not in the next. It has an entity tag made of the
    content, and a client that has it already is told so (304).

    Args:
        content: The content. A str is sent as UTF-8.
        status_code: 200 to 599.
        headers: Header fields. `Content-Type` is `text/plain; charset=utf-8` unless they say otherwise.
        cookies: Cookies.
        etag: Whether to add an entity tag, where the status is 200 and the headers have none.

    Raises:
        TypeError: If the content is neither bytes-like nor str.
        ValueError: If the status is out of range, or a header is not fit for the wire.
    """

    def __init__(
        self,
        content: bytes | bytearray | memoryview | str = b"",
        status_code: int = 200,
        headers: "Mapping[str, str] | Iterable[tuple[str, str]] | Headers | None" = None,
        cookies: "Mapping[str, str] | Iterable[Any] | None" = None,
        *,
        etag: bool = True,
    ) -> None:
        super().__init__(status_code=status_code, headers=headers, cookies=cookies)
        self.content = content  # type: ignore[assignment]  # what it takes is more than what it gives
        self.headers.setdefault("content-type", "text/plain; charset=utf-8")
        if etag and self.status_code == 200 and "etag" not in self.headers:
            self.headers["etag"] = content_tag(self.content)

    async def resolve(self, request: Request) -> Response:
        """Return the response to a request.

        Args:
            request: The request.

        Raises:
            PreconditionFailed: If a precondition of the request does not hold.
        """
        headers = self.headers.copy()
        if _is_not_modified(request, self.status_code, headers):
            return Response(b"", 304, without_content(headers), self.cookies)
        return Response(self.content, self.status_code, headers, self.cookies)


def content_tag(content: bytes) -> str:
    """Return a strong entity tag (RFC 9110 §8.8.3) that is the same wherever the content is.

    Args:
        content: The content.
    """
    import hashlib  # noqa: PLC0415  slow to import, and seldom needed

    return f'"{hashlib.blake2b(content, digest_size=16).hexdigest()}"'


def _is_not_modified(request: Request, status_code: int, headers: Headers) -> bool:
    """Evaluate the preconditions of a request (RFC 9110 §13.2)."""
    if status_code != 200:
        return False
    verdict = Conditions(request.method, request.headers).judge(
        headers.get("etag"), parse_date(headers.get("last-modified", ""))
    )
    if verdict == "failed":
        raise PreconditionFailed
    return verdict == "not modified"


# --- what handlers have answered --------------------------------------------------------------------------------------


class CacheEngine(ABC):
    """Keeps responses for routes that ask for it with `cache=`. Subclass it to keep them somewhere else.

    ```python
    class Shared(CacheEngine):
        async def get(self, request: Request) -> Response | None:
            found = await redis.get(repr(self.key(request)))
            return None if found is None else Response(found)

        async def store(self, request: Request, response: Response) -> None:
            await redis.set(repr(self.key(request)), response.content, ex=60)
    ```

    `get` and `store` may be `def` or `async def`. They are asked only where a response may be kept at all:

    - the request is GET or HEAD, without content and without `Authorization`;
    - the response is complete (no stream, no file), has one of the statuses 200, 203, 204, 301 and 308 and no cookies,
      and neither `Cache-Control: no-store`, `no-cache` or `private` nor `Vary: *`.

    An engine has the shape of a middleware: it is called with the request and what comes after it.
    """

    def key(self, request: Request) -> Hashable:
        """Return what tells a request from those that may get another response: method, scheme, host, path and query.

        Args:
            request: The request.
        """
        return request.method, request.scheme, request.host, request.raw_path, request.query_string

    @abstractmethod
    def get(self, request: Request) -> "Response | Awaitable[Response | None] | None":
        """Return a response for the request, one that nobody else has; None if there is none.

        Args:
            request: The request.
        """

    @abstractmethod
    def store(self, request: Request, response: Response) -> "Awaitable[None] | None":
        """Keep a response. It is about to be sent, so what is kept is a copy.

        Args:
            request: The request.
            response: The response.
        """

    async def __call__(self, request: Request, call_next: CallNext) -> Response:
        """Answer a request with what is kept, or with what comes next, and keep that.

        Args:
            request: The request.
            call_next: What answers it otherwise.
        """
        if not is_cacheable_request(request):
            return await call_next(request)
        found = self.get(request)
        if isinstance(found, Awaitable):
            found = await found
        if found is not None:
            return found
        response = await call_next(request)
        if is_cacheable_response(response):
            stored = self.store(request, response)
            if isinstance(stored, Awaitable):
                await stored
        return response


_STATUSES: Final = frozenset({200, 203, 204, 301, 308})


def is_cacheable_request(request: Request, *, authorized: bool = False) -> bool:
    """Return whether the response to a request may be kept, or one that is kept used.

    Args:
        request: The request.
        authorized: Whether it may be a request with `Authorization`.
    """
    if request.method not in ("GET", "HEAD") or request.content_length:
        return False
    headers = request.headers
    # RFC 9111 §3.5: what is answered to somebody is not for everybody.
    return (authorized or "authorization" not in headers) and "transfer-encoding" not in headers


def is_cacheable_response(response: Response) -> bool:
    """Return whether a response may be kept and sent to others.

    Args:
        response: The response.
    """
    if response.status_code not in _STATUSES or isinstance(response, _NEVER_KEPT) or response.cookies:
        return False
    headers = response.headers
    if "set-cookie" in headers or "content-range" in headers:
        return False
    directives = {part.partition("=")[0].strip(" \t").lower() for part in _members(headers, "cache-control")}
    return directives.isdisjoint({"no-store", "no-cache", "private"}) and "*" not in _members(headers, "vary")


#: Streams are sent once; the others are made anew for each request anyway.
_NEVER_KEPT: Final = (StreamingResponse, DeferredResponse)


def _members(headers: Headers, name: str) -> list[str]:
    """Return the members of a list-valued field."""
    return [part.strip(" \t") for part in (joined(headers, name) or "").split(",")]


class _Entry:
    """A response that is kept; without headers, the knowledge that what is answered cannot be kept."""

    __slots__ = ("content", "cost", "expires", "headers", "is_redirect", "status_code", "stored")

    def __init__(self, now: float, lifetime: float, response: Response | None = None) -> None:
        self.stored = now
        self.expires = now + lifetime
        self.cost = _OVERHEAD
        self.headers: Headers | None = None
        if response is None:
            return
        self.status_code = response.status_code
        self.content = response.content
        self.headers = response.headers.copy()
        self.is_redirect = isinstance(response, RedirectResponse)
        if "content-type" not in self.headers and (kind := _default_type(response)) is not None:
            self.headers["content-type"] = kind
        self.cost += len(self.content) + sum(len(name) + len(value) + 4 for name, value in self.headers.raw)


class _Running:
    """A handler that runs for all requests that wait for what it answers."""

    __slots__ = ("awaited", "ended")

    def __init__(self, ended: "asyncio.Future[bool]") -> None:
        # Whether those who wait shall look again: there is something, or the client it ran for has gone.
        self.ended = ended
        self.awaited = False


#: The key of a request, and the values of the fields that the `Vary` of its responses names.
_Place: TypeAlias = "tuple[Hashable, tuple[str | None, ...]]"

#: Bytes that an entry costs besides what is in it.
_OVERHEAD: Final = 600

#: Seconds for which it is remembered that a response cannot be kept.
_HOPELESS: Final = 5.0


class Cache(CacheEngine):
    """Keeps responses in the memory of the worker.

    ```python
    @app.get("/prices", cache=Cache(ttl=5))
    async def prices() -> Response: ...
    ```

    A response is kept under the method, the scheme, the host, the path and the query of its request, and the fields of
    the request that its `Vary` names. Of several requests that miss at the same time one runs the handler, and the
    others wait for what it answers. A hit has an `Age` field, and a client that has the content already is told so
    (304) where the response has an `ETag` or a `Last-Modified`. What must not be kept is described for `CacheEngine`.

    Args:
        ttl: Seconds for which a response is used; None for as long as the worker runs.
        max_entries: Responses kept. Beyond, those that were used the longest ago are forgotten.
        max_bytes: Bytes of responses kept; none may take more than a quarter. Beyond, the same.
        key: Returns what else tells requests apart, such as a user or a language, or None for a request that is
            answered without the cache. With it, requests with `Authorization` may be kept: it has to tell users apart.

    Attributes:
        hits: Requests answered from the cache.
        misses: Requests that could have been, and were not.

    Raises:
        ConfigurationError: If an argument is not a number as it should be.
    """

    def __init__(
        self,
        ttl: float | None = 60,
        *,
        max_entries: int = 1024,
        max_bytes: int = 16 * 1024 * 1024,
        key: Callable[[Request], Hashable] | None = None,
    ) -> None:
        if ttl is not None and not (math.isfinite(ttl) and ttl > 0):
            raise ConfigurationError(f"Cache.ttl takes seconds, None for no end, got {ttl!r}")
        for name, value in (("max_entries", max_entries), ("max_bytes", max_bytes)):
            if value < 1:
                raise ConfigurationError(f"Cache.{name} takes a whole number of at least 1, got {value!r}")
        self._ttl = math.inf if ttl is None else ttl
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._key = key
        from threading import Lock  # noqa: PLC0415  not for those who only import vibora

        # Several loops may use it, each in its thread.
        self._lock = Lock()
        self._entries: OrderedDict[_Place, _Entry] = OrderedDict()
        # The fields that tell the responses of a key apart, and where they are.
        self._names: dict[Hashable, tuple[tuple[str, ...], set[_Place]]] = {}
        self._size = 0
        self._running: dict[tuple[asyncio.AbstractEventLoop, _Place], _Running] = {}
        self.hits = 0
        self.misses = 0

    def __len__(self) -> int:
        return sum(entry.headers is not None for entry in self._entries.values())

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._entries.clear()
            self._names.clear()
            self._size = 0

    def key(self, request: Request) -> Hashable | None:
        """Return what a response is kept under, apart from the fields that its `Vary` names; None to keep none.

        Args:
            request: The request.
        """
        parts = super().key(request)
        if self._key is None:
            return parts
        more = self._key(request)
        return None if more is None else (parts, more)

    def get(self, request: Request) -> Response | None:
        """Return a response for the request, one that nobody else has; None if there is none.

        Args:
            request: The request.

        Raises:
            PreconditionFailed: If a precondition of the request does not hold.
        """
        key = self.key(request)
        entry = None if key is None else self._find(self._place(key, request))
        return None if entry is None or entry.headers is None else _answer(entry, entry.headers, request)

    def store(self, request: Request, response: Response) -> None:
        """Keep a copy of a response, in the place of one that is kept.

        Args:
            request: The request.
            response: The response; one that may be kept, see `CacheEngine`.
        """
        key = self.key(request)
        if key is not None:
            self._keep(key, request, response)

    async def __call__(self, request: Request, call_next: CallNext) -> Response:
        """Answer a request with what is kept, or with what comes next, and keep that.

        Args:
            request: The request.
            call_next: What answers it otherwise.

        Raises:
            PreconditionFailed: If a precondition of the request does not hold for what is kept.
        """
        key = self.key(request) if is_cacheable_request(request, authorized=self._key is not None) else None
        if key is None:
            return await call_next(request)
        import asyncio  # noqa: PLC0415  not for those who only import vibora

        loop = asyncio.get_running_loop()
        while True:
            place = self._place(key, request)
            entry = self._find(place)
            if entry is not None and entry.headers is not None:
                self.hits += 1
                return _answer(entry, entry.headers, request)
            running = self._running.get((loop, place)) if entry is None else None
            if running is None:
                break
            running.awaited = True
            # Shielded, or the first that stops waiting would stop them all.
            if not await asyncio.shield(running.ended):
                break
        self.misses += 1
        if entry is not None or running is not None:
            # What is answered cannot be kept: nobody shall wait for it.
            response = await call_next(request)
            self._consider(key, request, response, awaited=True)
            return response
        mine = self._running[loop, place] = _Running(loop.create_future())
        look_again = False
        try:
            response = await call_next(request)
            look_again = self._consider(key, request, response, awaited=mine.awaited)
        except asyncio.CancelledError:
            look_again = True  # It is this client that has gone: the next one takes its place.
            raise
        finally:
            del self._running[loop, place]
            mine.ended.set_result(look_again)
        return response

    # --- what is kept -------------------------------------------------------------------------------------------------

    def _place(self, key: Hashable, request: Request) -> _Place:
        """Return where a response to the request is, if there is one."""
        known = self._names.get(key)
        if known is None or not known[0]:
            return key, ()
        return key, tuple(joined(request.headers, name) for name in known[0])

    def _find(self, place: _Place) -> _Entry | None:
        with self._lock:
            entry = self._entries.get(place)
            if entry is None:
                return None
            if entry.expires <= time.monotonic():
                self._drop(place)
                return None
            self._entries.move_to_end(place)
            return entry

    def _consider(self, key: Hashable, request: Request, response: Response, *, awaited: bool) -> bool:
        """Keep a response if it may be; if others wait, keep for a while that it may not. Return whether it is kept."""
        if is_cacheable_response(response) and self._keep(key, request, response):
            return True
        if not awaited:
            return False
        entry = _Entry(time.monotonic(), min(self._ttl, _HOPELESS))
        self._put(self._place(key, request), entry)
        return False

    def _keep(self, key: Hashable, request: Request, response: Response) -> bool:
        entry = _Entry(time.monotonic(), self._ttl, response)
        if entry.cost > self._max_bytes // 4:
            return False
        names = tuple(sorted({name.lower() for name in _members(response.headers, "vary") if name}))
        with self._lock:
            known = self._names.get(key)
            if known is not None and known[0] != names:
                # What is kept was told apart by other fields: it cannot be found any more.
                for place in list(known[1]):
                    self._drop(place)
            self._names.setdefault(key, (names, set()))
        self._put(self._place(key, request), entry)
        return True

    def _put(self, place: _Place, entry: _Entry) -> None:
        entry.cost += len(repr(place))
        with self._lock:
            if place in self._entries:
                self._drop(place)
            self._entries[place] = entry
            self._names.setdefault(place[0], ((), set()))[1].add(place)
            self._size += entry.cost
            while len(self._entries) > self._max_entries or self._size > self._max_bytes:
                self._drop(next(iter(self._entries)))

    def _drop(self, place: _Place) -> None:
        self._size -= self._entries.pop(place).cost
        places = self._names[place[0]][1]
        places.discard(place)
        if not places:
            del self._names[place[0]]


class Static(Cache):
    """Keeps responses as long as the worker runs: for what never changes while it does.

    Args:
        max_entries: As for `Cache`; so the others.
        max_bytes: Bytes of responses kept.
        key: What else tells requests apart.
    """

    def __init__(
        self,
        *,
        max_entries: int = 1024,
        max_bytes: int = 16 * 1024 * 1024,
        key: Callable[[Request], Hashable] | None = None,
    ) -> None:
        super().__init__(None, max_entries=max_entries, max_bytes=max_bytes, key=key)


def _default_type(response: Response) -> str | None:
    """Return the content type that a response has by its class."""
    if isinstance(response, JsonResponse):
        return "application/json"
    if isinstance(response, HtmlResponse):
        return "text/html; charset=utf-8"
    return (
        None if isinstance(response, RedirectResponse) or response.status_code == 204 else "text/plain; charset=utf-8"
    )


def _answer(entry: _Entry, kept: Headers, request: Request) -> Response:
    headers = kept.copy()
    # RFC 9111 §5.1: caches on the way add it to the age that they know of.
    headers["age"] = str(int(time.monotonic() - entry.stored))
    if ("etag" in headers or "last-modified" in headers) and _is_not_modified(request, entry.status_code, headers):
        return Response(b"", 304, without_content(headers))
    if not entry.is_redirect:
        return Response(entry.content, entry.status_code, headers)
    response = RedirectResponse(headers["location"], entry.status_code, headers)
    response.content = entry.content
    return response
