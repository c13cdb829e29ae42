"""The URL of a request, in its parts (RFC 3986, RFC 9110 §4.2)."""

from dataclasses import dataclass, field, replace
from typing import Final, TypedDict, Unpack

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


class _Parts(TypedDict, total=False):
    scheme: str
    host: str
    port: int | None
    path: str
    query: str


@dataclass(frozen=True, slots=True)
class URL:
    """The URL that a client asked for. Immutable; `str()` of it is the whole.

    ```python
    url = request.url
    url.scheme, url.host, url.port  # 'https', 'example.org', None
    str(url)  # 'https://example.org/search?q=1'
    str(url.replace(scheme="http", query=""))  # 'http://example.org/search'
    ```

    Attributes:
        scheme: `"http"` or `"https"`.
        host: The host in lower case, without port and brackets.
        port: The port, if the client named one; None for that of the scheme.
        path: The path, percent-decoded: `Request.path`, and so what was routed.
        raw_path: The path as it was sent.
        query: The query as it was sent, without the `?`.
    """

    scheme: str
    host: str
    port: int | None
    path: str = field(compare=False)
    raw_path: str
    query: str

    @property
    def authority(self) -> str:
        """Host and port as they stand in a URL: `"example.org:8000"`, `"[::1]"`."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port is None else f"{host}:{self.port}"

    @property
    def origin(self) -> str:
        """Scheme, host and port, as browsers write them in `Origin` (RFC 6454 §6.2)."""
        if self.port == _DEFAULT_PORTS.get(self.scheme):
            return f"{self.scheme}://{self.replace(port=None).authority}"
        return f"{self.scheme}://{self.authority}"

    def replace(self, **parts: Unpack[_Parts]) -> "URL":
        """Return a URL with other parts.

        Args:
            **parts: Any of `scheme`, `host`, `port`, `path` (which is percent-encoded) and `query` (which is not).
        """
        if "path" not in parts:
            return replace(self, **parts)
        from urllib.parse import quote  # noqa: PLC0415  slow to import

        # RFC 3986 §3.3: what a path may hold as it is.
        return replace(self, **parts, raw_path=quote(parts["path"], safe="/:@!$&'()*+,;=-._~"))

    def __str__(self) -> str:
        # RFC 9110 §7.1: the target URI of the asterisk-form has no path.
        path = "" if self.raw_path == "*" else self.raw_path
        query = f"?{self.query}" if self.query else ""
        return f"{self.scheme}://{self.authority}{path}{query}"
