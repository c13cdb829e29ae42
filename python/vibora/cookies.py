"""Cookies that a response sets: RFC 6265bis, the living version of RFC 6265.

Those that a request brings are in `Request.cookies`.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, TypedDict, Unpack

if TYPE_CHECKING:
    from datetime import datetime, timedelta

SameSite: TypeAlias = Literal["lax", "strict", "none"]

#: Bytes of name and value together, and of an attribute's value: browsers drop what is larger (RFC 6265bis §5.6).
MAX_SIZE: Final = 4096
MAX_ATTRIBUTE: Final = 1024

_DIGITS: Final = b"0123456789"
_LETTERS: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
#: `token` (RFC 9110 §5.6.2).
_TOKEN: Final = _LETTERS + _DIGITS + b"!#$%&'*+-.^_`|~"
#: `cookie-octet` (RFC 6265bis §4.1.1) without the percent sign, which begins an encoded octet.
_PLAIN: Final = bytes(set(range(0x21, 0x7F)) - set(b'",;\\%'))
#: `av-octet` (RFC 6265bis §4.1.1).
_ATTRIBUTE: Final = bytes(set(range(0x20, 0x7F)) - set(b";"))
_CONTROLS: Final = bytes({*range(0x20), 0x7F})
_HOST: Final = _LETTERS + _DIGITS + b"-_."

#: What the beginning of a name promises, in any case (RFC 6265bis §4.1.3; the two with `Http` come from the draft
#: `draft-ietf-httpbis-layered-cookies`). Browsers drop a cookie that does not keep it.
_PREFIXES: Final = {
    "__secure-": ("secure",),
    "__host-": ("secure", "host"),
    "__http-": ("secure", "http_only"),
    "__host-http-": ("secure", "host", "http_only"),
}

_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class CookieScope(TypedDict, total=False):
    """The attributes that a `Cookie` is deleted with, as `Response.delete_cookie` takes them."""

    path: str | None
    domain: str | None
    secure: bool
    http_only: bool
    same_site: SameSite | None
    partitioned: bool


class CookieAttributes(CookieScope, total=False):
    """The attributes of a `Cookie`, as `Response.set_cookie` takes them."""

    max_age: "int | timedelta | None"
    expires: "datetime | float | None"


@dataclass(frozen=True, slots=True)
class Cookie:
    """A cookie that a response sets. Immutable; `str()` of it is the value of its `Set-Cookie` line.

    ```python
    Cookie("__Host-session", token, secure=True, http_only=True, max_age=3600)
    ```

    The value is any text without control characters. What a cookie cannot hold (spaces, quotes, commas, semicolons,
    backslashes, percent signs and everything that is not ASCII) is percent-encoded as UTF-8, and decoded again by
    `Request.cookies`, and by `decodeURIComponent` in a browser.

    Two defaults differ from those of browsers, to be safe and to be the same everywhere. `path` is `/`: without one, a
    browser sends the cookie to the folder of the page that set it, and to no other. `same_site` is `lax`: the cookie
    stays away from requests that other sites start, but for following a link; some browsers do so by themselves, others
    do not. `secure` and `http_only` are left to you: the first would keep the cookie from a development server without
    TLS, the second from the scripts of your pages. A cookie that identifies somebody deserves both.

    Args:
        name: A token (RFC 9110 §5.6.2), and case counts. Names that begin with `__Secure-`, `__Host-`, `__Http-` or
            `__Host-Http-` demand the attributes that they promise.
        value: The value.
        path: The path under which the cookie is sent; None for the folder of the page that sets it.
        domain: The domain whose hosts the cookie is sent to, with all below it; None for this host only, the safer way.
        max_age: Seconds that the cookie lives; 0 or less deletes it. Wins over `expires`.
        expires: When it dies: an aware datetime, or seconds since 1970. Without it and `max_age`: with the browser's
            session.
        secure: Send it over HTTPS only.
        http_only: Hide it from scripts.
        same_site: `"lax"`, `"strict"` (never with a request that another site starts), `"none"` (with all; needs
            `secure`), or None for the browser's own default.
        partitioned: Keep it apart for each site that embeds this one; needs `secure`.

    Raises:
        ValueError: If the name, the value or an attribute is not fit for a cookie, name and value are larger than
            browsers take (4,096 bytes), or attributes contradict each other.
        TypeError: If one is of the wrong type.
    """

    name: str
    value: str = field(default="", repr=False)  # which is often a secret, and a repr often ends in a log
    path: str | None = field(default="/", kw_only=True)
    domain: str | None = field(default=None, kw_only=True)
    max_age: "int | timedelta | None" = field(default=None, kw_only=True)
    expires: "datetime | float | None" = field(default=None, kw_only=True)
    secure: bool = field(default=False, kw_only=True)
    http_only: bool = field(default=False, kw_only=True)
    same_site: SameSite | None = field(default="lax", kw_only=True)
    partitioned: bool = field(default=False, kw_only=True)
    _line: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        name = _name(self.name)
        value = _value(name, self.value)
        if len(name) + len(value) > MAX_SIZE:
            raise ValueError(
                f"cookie {_short(name)}: name and value take {len(name) + len(value)} bytes, and browsers drop more "
                f"than {MAX_SIZE}; keep the data on the server, and its key in the cookie"
            )
        self._check_promises()
        parts = [f"{name}={value}"]
        if self.expires is not None:
            parts.append(f"Expires={_date(name, self.expires)}")
        if self.max_age is not None:
            parts.append(f"Max-Age={_seconds(name, self.max_age)}")
        if self.domain is not None:
            parts.append(f"Domain={_domain(name, self.domain)}")
        if self.path is not None:
            parts.append(f"Path={_path(name, self.path)}")
        if self.secure:
            parts.append("Secure")
        if self.http_only:
            parts.append("HttpOnly")
        if self.same_site is not None:
            parts.append(f"SameSite={self.same_site.title()}")
        if self.partitioned:
            parts.append("Partitioned")
        object.__setattr__(self, "_line", "; ".join(parts))

    def _check_promises(self) -> None:
        if self.same_site not in ("lax", "strict", "none", None):
            raise ValueError(
                f"cookie {self.name!r}: same_site must be 'lax', 'strict', 'none' or None, not {self.same_site!r}"
            )
        flags: tuple[object, ...] = (self.secure, self.http_only, self.partitioned)
        if any(flag is not True and flag is not False for flag in flags):
            raise TypeError(f"cookie {self.name!r}: secure, http_only and partitioned must be bools, not {flags!r}")
        if self.same_site == "none" and not self.secure:
            raise ValueError(f"cookie {self.name!r}: same_site='none' needs secure=True, or browsers drop the cookie")
        if self.partitioned and not self.secure:
            raise ValueError(f"cookie {self.name!r}: partitioned=True needs secure=True, or browsers drop the cookie")
        for promise in _promises(self.name):
            if promise == "host":
                if self.path != "/" or self.domain is not None:
                    raise ValueError(f"cookie {self.name!r}: its prefix needs path='/' and no domain")
            elif not getattr(self, promise):
                raise ValueError(f"cookie {self.name!r}: its prefix needs {promise}=True")

    def __str__(self) -> str:
        return self._line


def _promises(name: str) -> tuple[str, ...]:
    """Return what the prefix of a name demands; nothing where it has none. The longest prefix counts."""
    if not name.startswith("__"):
        return ()
    lowered = name[:12].lower()
    found = [prefix for prefix in _PREFIXES if lowered.startswith(prefix)]
    return _PREFIXES[max(found, key=len)] if found else ()


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:40]}...")


def _octets(name: str, what: str, text: object) -> bytes:
    if not isinstance(text, str):
        raise TypeError(f"cookie {_short(name)}: {what} must be a str, not {type(text).__name__!r}")
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"cookie {_short(name)}: {what} holds half of a surrogate pair, which is no text") from None


def _name(name: object) -> str:
    if not isinstance(name, str):
        raise TypeError(f"the name of a cookie must be a str, not {type(name).__name__!r}")
    if not name or not name.isascii() or name.encode().translate(None, _TOKEN):
        raise ValueError(
            f"the name of a cookie must be one or more letters, digits or any of !#$%&'*+-.^_`|~, not {_short(name)}"
        )
    return name


def _value(name: str, value: object) -> str:
    octets = _octets(name, "value", value)
    odd = octets.translate(None, _PLAIN)
    if not odd:
        return octets.decode("ascii")
    if found := [octet for octet in odd if octet in _CONTROLS]:
        raise ValueError(
            f"cookie {_short(name)}: the value holds {chr(found[0])!r}, and a cookie holds no control characters; "
            "encode it, as base64 does"
        )
    return "".join(chr(octet) if octet in _PLAIN else f"%{octet:02X}" for octet in octets)


def _path(name: str, path: object) -> str:
    octets = _octets(name, "path", path)
    # RFC 6265bis §5.6.4: what does not begin with a slash is not looked at.
    if not octets.startswith(b"/") or octets.translate(None, _ATTRIBUTE):
        raise ValueError(
            f"cookie {_short(name)}: path must begin with '/' and be ASCII without ';' and control characters "
            f"(percent-encode them), not {_short(str(path))}"
        )
    if len(octets) > MAX_ATTRIBUTE:
        raise ValueError(f"cookie {_short(name)}: path takes {len(octets)} bytes, browsers {MAX_ATTRIBUTE}")
    return octets.decode("ascii")


def _domain(name: str, domain: object) -> str:
    octets = _octets(name, "domain", domain).lower()
    # RFC 6265bis §5.6.3: a leading dot is ignored.
    host = octets.removeprefix(b".")
    labels = host.split(b".")
    if (
        host.translate(None, _HOST) or not all(labels) or max(map(len, labels)) > 63 or len(host) > 253
    ):  # RFC 1035 §2.3.4
        raise ValueError(
            f"cookie {_short(name)}: domain must be the name of a host (an international one in punycode, such as "
            f"'xn--caf-dma.example'), without a port, not {_short(str(domain))}"
        )
    return host.decode("ascii")


def _seconds(name: str, max_age: object) -> int:
    from datetime import timedelta  # noqa: PLC0415  not every cookie has a time

    if isinstance(max_age, int) and not isinstance(max_age, bool):
        seconds = max_age
    elif isinstance(max_age, timedelta):
        seconds = int(max_age.total_seconds())
    else:
        raise TypeError(f"cookie {_short(name)}: max_age must be whole seconds or a timedelta, not {max_age!r}")
    # Browsers cut it at 400 days (RFC 6265bis §5.6.2); a number that is too large for them might be no number at all.
    limit = 2**31 - 1
    return max(-limit, min(seconds, limit))


def _date(name: str, expires: object) -> str:
    """Return a date as RFC 9110 §5.6.7 writes it: the IMF-fixdate."""
    from datetime import datetime  # noqa: PLC0415  not every cookie has a time

    if isinstance(expires, int | float) and not isinstance(expires, bool):
        seconds: float = expires
    elif isinstance(expires, datetime):
        if expires.utcoffset() is None:
            raise ValueError(
                f"cookie {_short(name)}: expires must be an aware datetime, as datetime.now(timezone.utc) is, "
                f"not {expires!r}"
            )
        seconds = expires.timestamp()
    else:
        raise TypeError(f"cookie {_short(name)}: expires must be a datetime or seconds since 1970, not {expires!r}")
    try:
        moment = time.gmtime(seconds)
    except (OverflowError, ValueError, OSError):
        moment = None
    # RFC 6265bis §5.1.1: years before 1601 are no dates for browsers, nor are those of more than four digits.
    if moment is None or not 1601 <= moment.tm_year <= 9999:
        raise ValueError(f"cookie {_short(name)}: expires must be in the years 1601 to 9999, not {expires!r}")
    day, month = _DAYS[moment.tm_wday], _MONTHS[moment.tm_mon - 1]
    clock = f"{moment.tm_hour:02}:{moment.tm_min:02}:{moment.tm_sec:02}"
    return f"{day}, {moment.tm_mday:02} {month} {moment.tm_year:04} {clock} GMT"


# --- what the responses do with them ----------------------------------------------------------------------------------


def of_mapping(cookies: Mapping[str, str]) -> list[Cookie]:
    """Return the cookies that a mapping of names to values stands for.

    Args:
        cookies: The names and values.
    """
    return [Cookie(name, value) for name, value in cookies.items()]


def add_to(cookies: list[object], name: str, value: str = "", **attributes: Unpack[CookieAttributes]) -> None:
    """Add a cookie to those of a response, in place of one that it would replace in the browser.

    RFC 6265bis §4.1.1: "Servers SHOULD NOT include more than one Set-Cookie header field in the same response with the
    same cookie-name" (and the same domain and path).

    Args:
        cookies: The cookies of the response.
        name: The name.
        value: The value.
        **attributes: As for `Cookie`.
    """
    new = Cookie(name, value, **attributes)
    cookies[:] = [old for old in cookies if not (isinstance(old, Cookie) and _key(old) == _key(new))]
    cookies.append(new)


def delete_from(cookies: list[object], name: str, **scope: Unpack[CookieScope]) -> None:
    """Add a cookie that deletes the one with the same name, domain and path from the browser.

    Args:
        cookies: The cookies of the response.
        name: The name.
        **scope: As for `Cookie`. What the prefix of the name demands is added.
    """
    promises = _promises(name)
    if "secure" in promises:
        scope["secure"] = True
    if "http_only" in promises:
        scope["http_only"] = True
    add_to(cookies, name, "", max_age=0, expires=0, **scope)


def _key(cookie: Cookie) -> tuple[str, str | None, str | None]:
    domain = cookie.domain
    return cookie.name, domain and domain.lower().removeprefix("."), cookie.path
