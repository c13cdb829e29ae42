"""How a program serves its app: `Settings`, and where the command line finds them.

Each is an option of `vibora run`, a variable `VIBORA_*` and a key of a TOML table: `[tool.vibora]` in pyproject.toml,
or the top of vibora.toml, in the current directory. An option goes before a variable, a variable before the table, and
all of them before what the app says. `app.run()` takes arguments, and reads none of this.
"""

import difflib
import os
import ssl
import sys
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal

from vibora.exceptions import ConfigurationError
from vibora.ingress import Ingress
from vibora.sockets import HOST, PORT, SOCKET_MODE, is_port, parse_address
from vibora.tls import TLS


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a program serves its app.

    Attributes:
        host: A host name or an address; 127.0.0.1 when None.
        port: A port; 0 lets the system choose; 5000 when None.
        bind: Addresses to listen on, in place of `host` and `port`.
        socket_mode: The permissions of unix sockets.
        workers: Processes that serve.
        supervise: Whether a parent looks after the workers, even after a single one; when None, where it is needed.
        max_requests: Requests after which a worker is replaced, and up to a tenth more so that not all are at once.
        max_rss: Bytes of memory beyond which a worker is replaced.
        debug: Show tracebacks to clients.
        reload: Start the app anew when its files change.
        reload_dirs: The directories that are watched; the current one and that of the app when empty.
        uvloop: Use uvloop, where it is installed.
        log_level: The level of the log, unless the program has configured one.
        access_log: How the access log is written: `"text"`, `"json"`, `"logging"` or `"off"`; as the app says when
            None.
        access_log_file: The file that it is written to; the standard output when None.
        ingress: What stands between the network and HTTP: TLS, the PROXY protocol.
        limits: Fields of `ServerLimits` that go before those of the app.
        target: Where the app is imported from, such as `module:app`; found out when None.
        spelling: How an option is written where the user has it, for the messages.
    """

    host: str | None = None
    port: int | None = None
    bind: tuple[str, ...] = ()
    socket_mode: int = SOCKET_MODE
    workers: int = 1
    supervise: bool | None = None
    max_requests: int | None = None
    max_rss: int | None = None
    debug: bool = False
    reload: bool = False
    reload_dirs: tuple[str, ...] = ()
    uvloop: bool = True
    log_level: str = "info"
    access_log: str | None = None
    access_log_file: str | None = None
    ingress: Ingress = field(default_factory=Ingress)
    limits: Mapping[str, Any] = field(default_factory=dict[str, Any])
    target: str | None = None
    spelling: str = "{}="

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise ConfigurationError(f"at least one worker is needed, got {self.workers!r}")
        if self.bind and (self.host is not None or self.port is not None):
            raise ConfigurationError(
                f"{self.spelling.format('bind')} says where to listen: leave out {self.spelling.format('host')} "
                f"and {self.spelling.format('port')}"
            )
        if self.is_supervised and isinstance(self.ingress.get("tls"), ssl.SSLContext):
            raise ConfigurationError("an ssl.SSLContext cannot be handed to workers: use vibora.tls.TLS in its place")
        if self.supervise is False and replace(self, supervise=None).is_supervised:
            raise ConfigurationError("workers=, max_requests=, max_rss= and reload= need a parent: supervise them")
        if self.reload and self.workers > 1:
            raise ConfigurationError(f"reloading is for one worker, got {self.workers!r}")

    @property
    def is_supervised(self) -> bool:
        """Whether there is a parent that looks after workers."""
        needed = self.workers > 1 or self.max_requests or self.max_rss or self.reload
        return bool(needed) if self.supervise is None else self.supervise

    @property
    def addresses(self) -> Sequence[str | tuple[str, int]]:
        """Where it listens; empty if nothing is said about it."""
        if self.host is None and self.port is None:
            return self.bind
        return [(HOST if self.host is None else self.host, PORT if self.port is None else self.port)]


# --- values, as they are written --------------------------------------------------------------------------------------


def a_port(text: str) -> int:
    """Return a port."""
    if is_port(text):
        return int(text)
    raise ValueError(f"a port is a number from 0 to 65535, got {text!r}")


def a_count(text: str) -> int:
    """Return a whole number of at least 1."""
    if text.isascii() and text.isdigit() and int(text) > 0:
        return int(text)
    raise ValueError(f"expected a whole number of at least 1, got {text!r}")


def an_amount(text: str) -> float:
    """Return seconds."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if 0 <= seconds < float("inf"):
        return seconds
    raise ValueError(f"expected seconds, such as 10 or 0.5, got {text!r}")


def a_size(text: str) -> int:
    """Return bytes."""
    digits = text[:-1] if text[-1:].upper() in {"K", "M", "G"} else text
    if digits.isascii() and digits.isdigit() and int(digits) > 0:
        return int(digits) << {"K": 10, "M": 20, "G": 30}.get(text[-1].upper(), 0)
    raise ValueError(f"expected bytes, such as 500M or 2G, got {text!r}")


def a_mode(text: str) -> int:
    """Return permissions."""
    if text and len(text) <= 4 and set(text) <= set("01234567"):
        return int(text, 8)
    raise ValueError(f"expected permissions in octal, such as 660, got {text!r}")


def an_address(text: str) -> str:
    """Return an address to listen on, as it is."""
    if not text.startswith(("unix:", "fd://")):
        try:
            parse_address(text)
        except ConfigurationError as error:
            raise ValueError(str(error)) from None
    return text


def a_truth(text: str) -> bool:
    """Return yes or no."""
    if text.lower() in {"1", "true", "yes", "on"}:
        return True
    if text.lower() in {"0", "false", "no", "off"}:
        return False
    raise ValueError(f"expected true or false, got {text!r}")


def a_level(text: str) -> str:
    """Return a level of the log."""
    if text.lower() in LEVELS:
        return text.lower()
    raise ValueError(f"expected one of {', '.join(LEVELS)}, got {text!r}")


def a_log_format(text: str) -> str:
    """Return a format of the access log."""
    if text.lower() in FORMATS:
        return text.lower()
    raise ValueError(f"expected one of {', '.join(FORMATS)}, got {text!r}")


def a_demand(text: str) -> str:
    """Return whether clients show certificates."""
    if text in {"none", "optional", "required"}:
        return text
    raise ValueError(f"expected none, optional or required, got {text!r}")


def a_tls_version(text: str) -> str:
    """Return a version of TLS."""
    if text in {"1.2", "1.3"}:
        return text
    raise ValueError(f"expected 1.2 or 1.3, got {text!r}")


FORMATS: Final = ("text", "json", "logging", "off")

LEVELS: Final = ("debug", "info", "warning", "error", "critical")


@dataclass(frozen=True, slots=True)
class Option:
    """A setting that is written down: an option, a variable, a key.

    Attributes:
        name: Its name, as a key: `max_requests`.
        convert: Makes a value of a text; a `ValueError` says what was expected.
        help: What it is.
        metavar: What stands for its value.
        group: Where the help lists it.
        many: Whether there may be several values.
    """

    name: str
    convert: Callable[[str], Any]
    help: str
    metavar: str = ""
    group: Literal["serving", "workers", "limits"] = "serving"
    many: bool = False

    @property
    def variable(self) -> str:
        """The variable of the environment."""
        return f"VIBORA_{self.name.upper()}"

    @property
    def flag(self) -> str:
        """The option of the command line."""
        return f"--{self.name.replace('_', '-')}"


OPTIONS: Final = (
    Option("host", str, f"host name or address, IPv4 or IPv6 (default: {HOST})", "HOST"),
    Option("port", a_port, f"port; 0 lets the system choose (default: {PORT})", "PORT"),
    Option(
        "bind",
        an_address,
        "listen on HOST:PORT, [IPV6]:PORT, unix:PATH or fd://NUMBER; may be repeated",
        "ADDRESS",
        many=True,
    ),
    Option("socket_mode", a_mode, f"permissions of unix sockets (default: {SOCKET_MODE:o})", "MODE"),
    Option("cert", str, "serve over TLS with this certificate, and those that vouch for it, in PEM", "FILE"),
    Option("key", str, "its private key (default: in the file of the certificate)", "FILE"),
    Option("ca", str, "clients have to show a certificate that one of these has issued", "FILE"),
    Option("client_auth", a_demand, "none, optional or required (default with --ca)", "DEMAND"),
    Option("tls_minimum", a_tls_version, "the oldest version of TLS: 1.2 (default) or 1.3", "VERSION"),
    Option(
        "proxy_protocol",
        str,
        "connections from this network (10.0.0.0/8, an address, unix) begin with a header of the PROXY protocol; may "
        "be repeated",
        "NETWORK",
        many=True,
    ),
    Option("debug", a_truth, "show tracebacks to clients"),
    Option("uvloop", a_truth, "use uvloop, where it is installed (default), or asyncio's own event loop"),
    Option("log_level", a_level, f"what is logged: {', '.join(LEVELS)} (default: info)", "LEVEL"),
    Option(
        "access_log",
        a_log_format,
        "write a line for each request: text, json, logging (to the logger vibora.access) or off (default)",
        "FORMAT",
    ),
    Option("access_log_file", str, "the file that these lines are appended to (default: standard output)", "FILE"),
    Option("workers", a_count, "processes that serve (default: 1)", "N", "workers"),
    Option(
        "supervise",
        a_truth,
        "have a parent look after the worker, even if there is only one: it replaces one that dies or is stuck, and "
        "SIGHUP loads the code anew (default: with several workers)",
        "",
        "workers",
    ),
    Option("max_requests", a_count, "replace a worker after so many requests, and up to a tenth more", "N", "workers"),
    Option("max_rss", a_size, "replace a worker that uses more memory than this, such as 500M", "BYTES", "workers"),
    Option("worker_timeout", an_amount, "kill a worker that is stuck for so long", "SECONDS", "workers"),
    Option("graceful_timeout", an_amount, "what running requests may take to end on stopping", "SECONDS", "limits"),
    Option("shutdown_delay", an_amount, "how long to go on, not ready any more, on stopping", "SECONDS", "limits"),
    Option("keep_alive_timeout", an_amount, "how long a connection may be idle", "SECONDS", "limits"),
    Option("head_timeout", an_amount, "how long a client may take to send a request's headers", "SECONDS", "limits"),
    Option("max_connections", a_count, "connections that a worker has open; more wait", "N", "limits"),
    Option("max_concurrent_requests", a_count, "handlers that a worker runs at a time; 503 beyond", "N", "limits"),
    Option("backlog", a_count, "connections that the kernel keeps waiting to be accepted", "N", "limits"),
)

#: The options that are fields of `ServerLimits`.
LIMITS: Final = frozenset(
    {
        "worker_timeout",
        "graceful_timeout",
        "shutdown_delay",
        "keep_alive_timeout",
        "head_timeout",
        "max_connections",
        "max_concurrent_requests",
        "backlog",
    }
)

#: The options that say what stands between the network and HTTP.
_TLS: Final = ("cert", "key", "ca", "client_auth", "tls_minimum")
_INGRESS: Final = frozenset({*_TLS, "proxy_protocol"})

_ADDRESS: Final = frozenset({"host", "port", "bind"})


# --- where they come from ---------------------------------------------------------------------------------------------


def gather(options: Mapping[str, Any], config: str | None = None) -> dict[str, Any]:
    """Return the settings of a command line, the environment and a TOML table, by name; and `target`.

    Args:
        options: What the command line says.
        config: The file with the table; looked for in the current directory when None.

    Raises:
        ConfigurationError: If the environment or the table makes no sense.
    """
    found: dict[str, Any] = dict(options)
    for source in (_from_environment(os.environ), _from_file(config or os.environ.get("VIBORA_CONFIG"))):
        if "bind" in found or ("bind" in source and _ADDRESS & found.keys()):
            # What says where to listen replaces the other way to say it.
            source = {name: value for name, value in source.items() if name not in _ADDRESS}  # noqa: PLW2901  a copy
        found = source | found
    return found


def settings_of(values: Mapping[str, Any], **others: Any) -> Settings:
    """Return settings from values by name, with the limits and the certificates among them in their place.

    Raises:
        ConfigurationError: If they make no sense.
    """
    limits = {name: value for name, value in values.items() if name in LIMITS}
    rest = {name: value for name, value in values.items() if name not in LIMITS | _INGRESS}
    return Settings(**(rest | others), limits=limits, ingress=_ingress_of(values))


def _ingress_of(values: Mapping[str, Any]) -> Ingress:
    cert, key, ca, client_auth, minimum = (values.get(name) for name in _TLS)
    if cert is None and (given := [name for name in _TLS if values.get(name)]):
        raise ConfigurationError(f"{given[0].replace('_', '-')} is about TLS, which needs a certificate: give cert too")
    tls = TLS(cert, key, ca=ca, client_auth=client_auth, minimum_version=minimum or "1.2") if cert else None
    return Ingress(tls=tls, proxy_protocol=list(values.get("proxy_protocol") or ()))


def _from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if target := environment.get("VIBORA_TARGET"):
        found["target"] = target
    for option in OPTIONS:
        text = environment.get(option.variable)
        if not text:
            continue
        try:
            found[option.name] = (
                tuple(option.convert(part) for part in text.split()) if option.many else option.convert(text)
            )
        except ValueError as error:
            raise ConfigurationError(f"{option.variable}: {error}") from None
    known = ["VIBORA_TARGET", "VIBORA_CONFIG", *(option.variable for option in OPTIONS)]
    for name in environment.keys() - set(known):
        # Others are the app's own.
        if name.startswith("VIBORA_") and (close := difflib.get_close_matches(name, known, 1, cutoff=0.9)):
            print(f"warning: {name} is no setting; did you mean {close[0]}?", file=sys.stderr)  # noqa: T201  no log yet
    return found


def _from_file(name: str | None) -> dict[str, Any]:
    paths = [Path(name)] if name else [Path("vibora.toml"), Path("pyproject.toml")]
    for path in paths:
        try:
            document = tomllib.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            if name:
                raise ConfigurationError(f"there is no file {name!r}") from None
            continue
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"cannot read {str(path)!r}: {error}") from None
        except tomllib.TOMLDecodeError as error:
            raise ConfigurationError(f"{path} is no TOML: {error}") from None
        if path.name == "pyproject.toml":
            table = document.get("tool", {}).get("vibora")
            where = f"{path}, [tool.vibora]"
        else:
            table, where = document, str(path)
        if table is not None:
            return _from_table(table, where)
    return {}


def _from_table(table: Mapping[str, Any], where: str) -> dict[str, Any]:
    known = {option.name: option for option in OPTIONS}
    found: dict[str, Any] = {}
    for key, value in table.items():
        name = key.replace("-", "_")
        if name == "target" and isinstance(value, str):
            found[name] = value
            continue
        if name not in known:
            close = difflib.get_close_matches(name, [*known, "target"], 1)
            advice = f"did you mean {close[0]!r}?" if close else f"expected {', '.join(sorted([*known, 'target']))}"
            raise ConfigurationError(f"{where}: there is no setting {key!r}; {advice}")
        option = known[name]
        try:
            if option.many:
                values = value if isinstance(value, list | tuple) else [value]  # pyright: ignore[reportUnknownVariableType]
                found[name] = tuple(_converted(option, one) for one in values)  # pyright: ignore[reportUnknownVariableType]
            else:
                found[name] = _converted(option, value)
        except ValueError as error:
            raise ConfigurationError(f"{where}: {key}: {error}") from None
    return found


def _converted(option: Option, value: Any) -> Any:
    """Return a value of the table, which has a type, as its text would say it."""
    if isinstance(value, bool):
        if option.convert is not a_truth:
            raise ValueError(f"expected a value, got {value!r}")
        return value
    if not isinstance(value, str | int | float) or option.convert is a_truth:
        raise ValueError(f"expected {'true or false' if option.convert is a_truth else 'a value'}, got {value!r}")
    return option.convert(str(value))
