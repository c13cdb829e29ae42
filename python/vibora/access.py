"""The access log: one line, or one record, for each request, when its response is out."""

import logging
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, Self, cast

from vibora import _core
from vibora.exceptions import ConfigurationError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from vibora.app import Vibora
    from vibora.settings import Settings

#: Where records go, and what a program configures to get them.
access_logger: Final = logging.getLogger("vibora.access")

_FORMATS: Final = ("text", "json", "logging")


@dataclass(frozen=True, slots=True)
class AccessLog:
    """How the access log is written, and where.

    Lines are made by the core and written by a thread of each worker, at the latest a tenth of a second after the
    response: they cost a request about a microsecond, and never the loop's time. Where a destination does not keep up,
    lines are dropped, and the log of the program says how many.

    Where the logger `vibora.access` has handlers, or with the format `"logging"`, there are records of the standard
    library's `logging` in place of lines, with the fields as attributes. They cost some ten times as much, and the
    handlers run in the loop.

    Args:
        format: `"text"`, for people; `"json"`, an object per line; `"logging"`.
        file: The file that lines are appended to, opened again after it has been moved away; the standard output when
            None.

    Raises:
        ConfigurationError: If there is no such format.
    """

    format: Literal["text", "json", "logging"] = "text"
    file: "str | os.PathLike[str] | None" = None

    def __post_init__(self) -> None:
        if self.format not in _FORMATS:
            raise ConfigurationError(f"access log: expected one of {', '.join(_FORMATS)}, got {self.format!r}")

    @classmethod
    def of(cls, value: "AccessLog | str | None") -> "Self | AccessLog | None":
        """Return the access log that a setting means; none for None and `"off"`."""
        if value is None or isinstance(value, AccessLog):
            return value
        return None if value == "off" else cls(cast("Literal['text']", value))

    @staticmethod
    def configure(app: "Vibora", settings: "Settings") -> None:
        """Give an app the access log that the settings of the program say."""
        if settings.access_log is not None:
            app.access_log = AccessLog.of(settings.access_log)
        if settings.access_log_file is not None and settings.access_log != "off":
            kept = app.access_log.format if app.access_log else "text"
            app.access_log = AccessLog(kept, settings.access_log_file)

    def start(self, event_loop: "asyncio.AbstractEventLoop") -> "_core.AccessLog | Callable[..., object]":
        """Return what the core writes to.

        Args:
            event_loop: The loop of the server.

        Raises:
            ConfigurationError: If the file cannot be opened.
        """
        if self.format == "logging" or access_logger.handlers:
            if access_logger.level == logging.NOTSET:
                access_logger.setLevel(logging.INFO)
            return emit
        path = None if self.file is None else os.fspath(self.file)
        try:
            return _core.AccessLog(event_loop, self.format, logger=logging.getLogger("vibora"), path=path)
        except OSError as error:
            raise ConfigurationError(f"access log: cannot open {path!r}: {error}") from None


def emit(outcome: _core.Outcome, route: _core.Route | None, client: str | None, request_id: str) -> None:
    """Make a record of what became of a response: what the core calls.

    Args:
        outcome: What became of it.
        route: The route that answered, if one did.
        client: The address of the client.
        request_id: What the request is called.
    """
    if not access_logger.isEnabledFor(logging.INFO):
        return
    first = outcome.time_to_first_byte
    pattern = route.pattern if route else None
    path = _printable(outcome.path)
    fields = {
        "client": client,
        "method": outcome.method or None,
        "path": path,
        "route": pattern,
        "status": outcome.status_code,
        "bytes": outcome.bytes_sent,
        "ttfb_ms": None if first is None else round(first * 1000, 3),
        "duration_ms": round(outcome.duration * 1000, 3),
        "request_id": request_id,
        "reason": outcome.reason,
    }
    access_logger.info(
        "%s %s %s %s %d %.3fms",
        client or "-",
        outcome.method or "-",
        path or "-",
        outcome.status_code or "-",
        outcome.bytes_sent,
        outcome.duration * 1000,
        extra=fields,
    )


def _printable(text: str) -> str:
    """Return a path with what could end a line, or write over one in a terminal, escaped."""
    return text.encode("ascii", "backslashreplace").decode().translate(_CONTROLS)


_CONTROLS: Final = {code: f"\\x{code:02x}" for code in (*range(0x20), 0x7F)}
