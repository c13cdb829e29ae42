"""Directories of static files: nothing outside of them, whatever is asked for."""

import os
import re
import stat
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

from vibora._core import Headers, RedirectResponse, Request, Response
from vibora._media_types import media_type
from vibora._validators import Conditions, joined
from vibora.exceptions import ConfigurationError, Forbidden, StaticNotFound
from vibora.files import FileSource, answer_with, check_seconds
from vibora.routing import Hosts

if TYPE_CHECKING:
    from vibora.cache import CacheControl

__all__ = ["StaticHandler"]

_Paths: TypeAlias = "str | os.PathLike[str] | Sequence[str | os.PathLike[str]]"
_CachePolicy: TypeAlias = "str | CacheControl | Callable[[str], str | CacheControl | None] | None"

#: Content codings, with the ending of the files that have them: the one that compresses best first.
_CODINGS: Final = (("br", ".br"), ("zstd", ".zst"), ("gzip", ".gz"))

#: What an `os.stat` says if there is nothing to be had, or nothing that may be had.
_NOT_THERE: Final = (FileNotFoundError, NotADirectoryError)

# RFC 9110 §12.4.2: `qvalue = ( "0" [ "." 0*3DIGIT ] ) / ( "1" [ "." 0*3("0") ] )`.
_QVALUE: Final = re.compile(r"0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?")

_UNRESERVED: Final = frozenset("-._~!$&'()*+,;=:@/0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")


class _TakesRoutes(Protocol):
    """An app or a blueprint."""

    @property
    def add_route(self) -> Callable[..., object]: ...


class StaticHandler:
    """A handler of static files, from one or several directories.

    ```python
    StaticHandler(["static"]).register(app)  # GET /static/app.css
    ```

    Files are opened and read in threads. What is sent, in which part, and when not, is that of `FileResponse`.

    - **Nothing outside.** No `..`, no encoded separator, no absolute path leaves the directories; a symbolic link that
      leads out of its directory is not followed. Names that begin with a dot are hidden, but for `.well-known` (RFC
      8615). Whatever is not a regular file is not there.
    - **Compressed copies.** Beside `app.css` there may be `app.css.br`, `app.css.zst` or `app.css.gz`; the one that the
      client likes best is sent, with `Content-Encoding` and `Vary`. A copy that is older than its original is not used.
    - **Memory.** Small files are kept in memory, within `max_cache_size`, as long as the file on disk is the same.

    Args:
        paths: The directories, relative to the current one or absolute. The first that has the file answers.
        host: The host that it is for, or several, as for `hosts=` of a route; any when None.
        url_prefix: Where the files are: `/static` in `/static/app.css`.
        max_cache_size: Bytes of files kept in memory; 0 keeps none.
        index: The file that stands for its directory; None for none. A directory without a slash at its end is
            redirected to the one with it.
        fallback: The file, of the first directory that has it, that answers where there is none: that of an app that
            routes in the browser. Only for clients that accept HTML, and for names without an ending.
        follow_symlinks: Follow symbolic links that lead out of the directory, too.
        dotfiles: Show names that begin with a dot, too.
        precompressed: Look for compressed copies.
        cache_control: The `Cache-Control` field: a text, a `CacheControl`, or a function of the path below the prefix
            that returns one, or None for none.
        headers: Further header fields of each response with a file.
        content_types: Media types by the ending of the name, as in `{".foo": "text/x-foo"}`, in place of those known.
        etag: Whether to send entity tags. File times are in them, so servers that share a load have different ones.
        chunk_timeout: Seconds that the client has to consume each piece of 64 KiB. 0 or None: no limit.
        complete_timeout: Seconds that the client has to consume the entire response. 0 or None: no limit.

    Attributes:
        paths: The directories, absolute.
        url_prefix: The same.
        max_cache_size: The same.

    Raises:
        ConfigurationError: If a directory is not there, or an argument is wrong.
    """

    def __init__(
        self,
        paths: _Paths,
        host: Hosts | None = None,
        url_prefix: str = "/static",
        max_cache_size: int = 10 * 1024 * 1024,
        *,
        index: str | None = "index.html",
        fallback: str | None = None,
        follow_symlinks: bool = False,
        dotfiles: bool = False,
        precompressed: bool = True,
        cache_control: _CachePolicy = None,
        headers: "Mapping[str, str] | Iterable[tuple[str, str]] | Headers | None" = None,
        content_types: Mapping[str, str] | None = None,
        etag: bool = True,
        chunk_timeout: float | None = 10,
        complete_timeout: float | None = 0,
    ) -> None:
        self.paths = [_directory(path) for path in ([paths] if isinstance(paths, str | os.PathLike) else paths)]
        self.host = host
        self.url_prefix = _prefix(url_prefix)
        if max_cache_size < 0:
            raise ConfigurationError(f"max_cache_size takes a number of bytes, 0 for none, got {max_cache_size!r}")
        self.max_cache_size = max_cache_size
        for name in (index, fallback):
            if name is not None and segments_of(name, dotfiles=True) is None:
                raise ConfigurationError(f"index and fallback take a path below the directory, got {name!r}")
        check_seconds("chunk_timeout", chunk_timeout)
        check_seconds("complete_timeout", complete_timeout)
        self._index = index
        self._fallback = fallback
        self._follow = follow_symlinks
        self._dotfiles = dotfiles
        self._codings = _CODINGS if precompressed else ()
        self._cache_control = cache_control
        self._headers = Headers(headers)
        self._content_types = {ending.lower(): kind for ending, kind in (content_types or {}).items()}
        self._etag = etag
        self._timeouts = chunk_timeout, complete_timeout
        self._memory = _Memory(max_cache_size)

    def register(self, app: _TakesRoutes, *, name: str = "static") -> None:
        """Add the route of the files: `<url_prefix>/<*path>`, for GET and so for HEAD.

        Args:
            app: An app or a blueprint.
            name: The name of the route.

        Raises:
            ConfigurationError: If the route is refused.
        """
        app.add_route(f"{self.url_prefix}/<*path>", self, name=name, hosts=self.host)

    def url_for(self, path: str) -> str:
        """Return the path of a file's URL.

        Args:
            path: The path of the file below its directory, with slashes.

        Raises:
            ValueError: If no file can have it.
        """
        path = path.removeprefix("/")
        if segments_of(path, dotfiles=self._dotfiles) is None:
            raise ValueError(f"no file is served for the path {path!r}")
        return f"{self.url_prefix}/{_quoted(path)}"

    async def __call__(self, request: Request, path: str) -> Response:
        """Answer a request for a file.

        Args:
            request: The request.
            path: The path of the file below the directories, decoded; the parameter of a route that ends in `<*path>`.

        Raises:
            StaticNotFound: If there is no such file, or none that may be shown.
            Forbidden: If the file may not be read by the server.
            PreconditionFailed: If a precondition of the request does not hold.
            RangeNotSatisfiable: If it asks for bytes that are not there.
        """
        from vibora._threads import run_in_thread  # noqa: PLC0415  it imports asyncio

        # An encoded slash is not a separator, and it is not a part of a name either.
        segments = None if b"%2f" in request.raw_path.lower() else segments_of(path, dotfiles=self._dotfiles)
        fallback = self._fallback_for(request, path)
        if segments is None and fallback is None:
            raise StaticNotFound
        conditions = Conditions(request.method, request.headers)
        accepted = joined(request.headers, "accept-encoding")
        query = request.query_string
        return await run_in_thread(lambda: self._answer(segments, fallback, conditions, accepted, query))

    def _fallback_for(self, request: Request, path: str) -> list[str] | None:
        if self._fallback is None or "." in path.rpartition("/")[2]:
            return None
        accepted = (joined(request.headers, "accept") or "").lower()
        return self._fallback.split("/") if "text/html" in accepted else None

    # --- in a thread --------------------------------------------------------------------------------------------------

    def _answer(
        self,
        segments: list[str] | None,
        fallback: list[str] | None,
        conditions: Conditions,
        accepted: str | None,
        query: str,
    ) -> Response:
        try:
            found = None if segments is None else self._find(segments)
            if isinstance(found, str):
                return RedirectResponse(f"./{_quoted(found)}/{'?' if query else ''}{query}", 307)
            vary = None
            if found is None and fallback is not None:
                segments, found, vary = fallback, self._find(fallback), "Accept"
            if found is None or isinstance(found, str) or segments is None:
                raise StaticNotFound
            return self._send(found, segments, conditions, accepted, vary)
        except PermissionError:
            raise Forbidden from None
        except _NOT_THERE:  # it went away just now
            raise StaticNotFound from None

    def _find(self, segments: list[str]) -> "tuple[str, os.stat_result] | str | None":
        """Return where a file is and what is known of it; a name that needs a slash; None if there is neither."""
        for directory in self.paths:
            try:
                found = self._look(directory, segments)
            except _NOT_THERE:
                continue
            except OSError as error:
                import errno  # noqa: PLC0415  seldom needed

                # A loop of links, a name that is too long: no file can have it.
                if error.errno not in (errno.ELOOP, errno.ENAMETOOLONG, errno.EINVAL):
                    raise
                continue
            if found is not None:
                return found
        return None

    def _look(self, directory: str, segments: list[str]) -> "tuple[str, os.stat_result] | str | None":
        is_slashed = segments[-1] == ""
        names = segments[:-1] if is_slashed else segments
        found = self._walk(directory, names)
        if found is None or stat.S_ISREG(found[1].st_mode):
            return None if is_slashed else found
        if self._index is None or not stat.S_ISDIR(found[1].st_mode):
            return None
        found = self._walk(directory, [*names, *self._index.split("/")])
        if found is None or not stat.S_ISREG(found[1].st_mode):
            return None
        return found if is_slashed else names[-1]

    def _walk(self, directory: str, names: list[str]) -> "tuple[str, os.stat_result] | None":
        """Return the path that the names lead to, and what is there; None if it is not in the directory."""
        path = directory
        if self._follow or not names:
            path = os.path.join(path, *names)  # noqa: PTH118  pathlib is slow
            return path, os.stat(path)  # noqa: PTH116  as above
        status = None
        for name in names:
            path = f"{path.removesuffix(os.sep)}{os.sep}{name}"
            status = os.lstat(path)
            if stat.S_ISLNK(status.st_mode):
                return self._follow_inside(directory, names)
        return None if status is None else (path, status)

    def _follow_inside(self, directory: str, names: list[str]) -> "tuple[str, os.stat_result] | None":
        """Do what `_walk` does where there are links on the way."""
        path = os.path.realpath(os.path.join(directory, *names))  # noqa: PTH118  pathlib is slow
        # The directory may be a link itself, and lead somewhere else tomorrow.
        inside = os.path.realpath(directory).removesuffix(os.sep) + os.sep
        return (path, os.stat(path)) if path.startswith(inside) else None  # noqa: PTH116  as above

    def _send(
        self,
        found: "tuple[str, os.stat_result]",
        segments: list[str],
        conditions: Conditions,
        accepted: str | None,
        vary: str | None,
    ) -> Response:
        path, status = found
        name = path if segments[-1] == "" else segments[-1]
        headers = self._headers.copy()
        headers["content-type"] = self._content_type(name)
        if (policy := self._policy("/".join(segments))) is not None:
            headers["cache-control"] = policy
        copies = self._copies(path, status)
        coding = preferred_coding(accepted, list(copies))
        for field in (vary, "Accept-Encoding" if copies else None):
            if field is not None:
                others = joined(headers, "vary")
                headers["vary"] = f"{others}, {field}" if others else field
        if coding is not None:
            headers["content-encoding"] = coding
            path, status = copies[coding]
        source = self._memory.take(path, status) if self.max_cache_size else None
        if source is None:
            source = self._open(path, keep=conditions.method != "HEAD")
        return answer_with(
            source,
            conditions,
            200,
            headers,
            [],
            etag=self._etag,
            last_modified=True,
            timeouts=self._timeouts,
            tag_suffix="" if coding is None else f"-{coding}",
        )

    def _open(self, path: str, *, keep: bool) -> FileSource:
        """Return the file, or a copy in memory that is kept if it is small."""
        from vibora._reading import open_regular, read_whole  # noqa: PLC0415  it imports asyncio

        descriptor, status = open_regular(path, follow=self._follow)
        source = FileSource(path, status, descriptor)
        if keep and self._memory.fits(status.st_size):
            try:
                source.copy = read_whole(descriptor, status.st_size, path)
            finally:
                source.close()
            self._memory.keep(path, status, source.copy)
        return source

    def _content_type(self, name: str) -> str:
        if self._content_types:
            ending = os.path.splitext(name)[1].lower()  # noqa: PTH122  of the hot path
            if (known := self._content_types.get(ending)) is not None:
                return known
        return media_type(name)

    def _policy(self, path: str) -> str | None:
        policy = self._cache_control
        if callable(policy):
            policy = policy(path)
        return None if policy is None else str(policy)

    def _copies(self, path: str, status: os.stat_result) -> "dict[str, tuple[str, os.stat_result]]":
        """Return the compressed copies of a file, by their coding."""
        copies: dict[str, tuple[str, os.stat_result]] = {}
        for coding, ending in self._codings:
            try:
                copy = os.stat(path + ending, follow_symlinks=self._follow)  # noqa: PTH116  pathlib is slow
            except OSError:
                continue
            # Times that are a bit apart are those of an installation, which does not go by age.
            if stat.S_ISREG(copy.st_mode) and copy.st_mtime >= status.st_mtime - 2:
                copies[coding] = path + ending, copy
        return copies


def segments_of(path: str, *, dotfiles: bool) -> list[str] | None:
    """Return the segments of a path below a directory; None if no file may have it.

    Args:
        path: The path, decoded. It ends with an empty segment where it stands for a directory.
        dotfiles: Whether names may begin with a dot.
    """
    segments = path.split("/")
    names = segments[:-1] if segments[-1] == "" else segments
    return segments if all(_is_name(name, dotfiles=dotfiles) for name in names) else None


def _is_name(segment: str, *, dotfiles: bool) -> bool:
    """Return whether a segment can be the name of a file or directory, and no way to another place."""
    if segment in ("", ".", "..") or (segment.startswith(".") and not dotfiles and segment != ".well-known"):
        return False
    # On Windows a backslash is a separator, a colon makes a drive or a stream, and the end of some names is cut off.
    if "\\" in segment or "\0" in segment:
        return False
    return os.name != "nt" or (":" not in segment and not segment.endswith((".", " ")))


def preferred_coding(accepted: str | None, available: Sequence[str]) -> str | None:
    """Return the content coding to send; None for the content as it is (RFC 9110 §12.5.3).

    Args:
        accepted: The `Accept-Encoding` field; None when there is none.
        available: The codings that there are, the best first.
    """
    if not accepted or not available:
        return None
    weights: dict[str, float] = {}
    for element in accepted.split(","):
        coding, *parameters = (part.strip(" \t") for part in element.split(";"))
        weight = 1.0
        for parameter in parameters:
            name, _, value = parameter.partition("=")
            if name.lower() == "q":
                weight = _weight(value)
        coding = coding.lower()
        weights["gzip" if coding == "x-gzip" else coding] = weight
    rest = weights.get("*", 0.0)
    best, best_weight = None, 0.0
    for coding in available:
        weight = weights.get(coding, rest)
        if weight > best_weight:
            best, best_weight = coding, weight
    # Content as it is is acceptable unless it is excluded, and liked less than what is listed unless it is, too.
    return best if best_weight >= weights.get("identity", 0.0) else None


def _weight(text: str) -> float:
    return float(text) if _QVALUE.fullmatch(text) else 0.0


#: Bytes that a copy costs besides its content.
_OVERHEAD: Final = 500


class _Memory:
    """Small files, in memory: those that were asked for last, within a budget of bytes."""

    def __init__(self, budget: int) -> None:
        self._budget = budget
        from threading import Lock  # noqa: PLC0415  not for those who only import vibora

        # Threads use it.
        self._lock = Lock()
        self._copies: OrderedDict[str, tuple[tuple[int, ...], list[bytes]]] = OrderedDict()
        self._size = 0

    def fits(self, size: int) -> bool:
        """Return whether a file is small: none takes more than an eighth of the budget."""
        return size + _OVERHEAD <= self._budget // 8

    def take(self, path: str, status: os.stat_result) -> FileSource | None:
        """Return the copy of a file that has not changed since; None if there is none."""
        with self._lock:
            entry = self._copies.get(path)
            if entry is None:
                return None
            if entry[0] == _identity(status):
                self._copies.move_to_end(path)
                return FileSource(path, status, copy=entry[1])
            self._drop(path)
            return None

    def keep(self, path: str, status: os.stat_result, copy: list[bytes]) -> None:
        """Keep a copy, and forget those that nobody has asked for the longest if it is too much."""
        with self._lock:
            if path in self._copies:
                self._drop(path)
            self._copies[path] = _identity(status), copy
            self._size += _cost(path, copy)
            while self._size > self._budget:
                self._drop(next(iter(self._copies)))

    def _drop(self, path: str) -> None:
        _, copy = self._copies.pop(path)
        self._size -= _cost(path, copy)


def _cost(path: str, copy: list[bytes]) -> int:
    return sum(map(len, copy)) + len(path) + _OVERHEAD


def _identity(status: os.stat_result) -> tuple[int, ...]:
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _quoted(text: str) -> str:
    return "".join(
        char if char in _UNRESERVED else "".join(f"%{octet:02X}" for octet in char.encode()) for char in text
    )


def _directory(path: "str | os.PathLike[str]") -> str:
    absolute = os.path.abspath(path)  # noqa: PTH100  pathlib is slow to import
    if not os.path.isdir(absolute):  # noqa: PTH112  as above
        raise ConfigurationError(
            f"static files are in a directory, and {absolute!r} is none, given as {os.fspath(path)!r}"
        )
    return absolute


def _prefix(prefix: str) -> str:
    if (prefix and not prefix.startswith("/")) or {"<", ">", "?", "#"} & set(prefix):
        raise ConfigurationError(f"url_prefix takes a path such as '/static', got {prefix!r}")
    return prefix.rstrip("/")
