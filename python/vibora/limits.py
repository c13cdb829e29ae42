"""Limits: what a client may cost, in bytes and in seconds.

`ServerLimits` belong to a server and its connections, `RouteLimits` to a route and its exchanges. Every field says its
unit and what it protects. 0 or None switches a timeout or a rate off.
"""

import math
from dataclasses import dataclass

from vibora.exceptions import ConfigurationError


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerLimits:
    """The limits of a server: connections, heads, buffers and stopping.

    Attributes:
        keep_alive_timeout: Seconds that a connection may stay open between two requests. Protects file descriptors and
            memory from idle clients.
        head_timeout: Seconds from the first byte of a request, or from connecting, to the end of its header section.
            Protects connections from clients that send their headers slowly, or never.
        graceful_timeout: Seconds that running exchanges are given to end when the server stops. Then they are
            cancelled, then their connections are aborted. 0 or None waits for none.
        shutdown_delay: Seconds that a server goes on serving when it is asked to stop, while `Vibora.is_ready` says no:
            time for load balancers to notice. 0 or None for none.
        worker_timeout: Seconds that the event loop of a worker may be stuck in one handler before its parent kills it.
            Protects from handlers that block for ever. It needs a parent, and `debug` switches it off.
        max_request_line: Bytes of the request line (RFC 9112 §3); 414 beyond. Protects memory.
        max_headers_size: Bytes of the header section (RFC 9112 §5); 431 beyond. Protects memory.
        max_header_fields: Field lines in the header section; 431 beyond. Protects CPU time.
        write_buffer: Bytes of a connection's responses that may wait for the client to read. Beyond, streams are not
            advanced and no further request of the connection is served. Protects memory from clients that do not read.
        read_buffer: Bytes of a connection that may wait for the app: pipelined requests, content that the handler has
            not read. Beyond, the connection is not read. Protects memory from clients that send faster than we work.
        backlog: Connections that the kernel keeps waiting to be accepted, for each listening socket.
        max_connections: Connections that a worker has open. Beyond, no more are accepted: they wait in the kernel's
            queue (`backlog`). Protects file descriptors, of which the app needs some too; None is as many as the
            process may open, less an eighth (at least 64, at most 256).
        max_concurrent_requests: Handlers and streams that a worker runs at a time; 503 with `Retry-After` beyond. Those
            that cannot wait for anything do not count, for they are done at once. Protects memory, and what handlers
            share, from more work than can be done in time. None is no bound.
    """

    keep_alive_timeout: float | None = 30
    head_timeout: float | None = 10
    graceful_timeout: float | None = 10
    shutdown_delay: float | None = 0
    worker_timeout: float | None = 60
    max_request_line: int = 8 * 1024
    max_headers_size: int = 32 * 1024
    max_header_fields: int = 100
    write_buffer: int = 64 * 1024
    read_buffer: int = 64 * 1024
    backlog: int = 2048
    max_connections: int | None = None
    max_concurrent_requests: int | None = None

    def __post_init__(self) -> None:
        for name in ("keep_alive_timeout", "head_timeout", "graceful_timeout", "shutdown_delay", "worker_timeout"):
            _check_amount(self, name, "seconds, 0 or None for none")
        for name in (
            "max_request_line",
            "max_headers_size",
            "max_header_fields",
            "write_buffer",
            "read_buffer",
            "backlog",
        ):
            _check_count(self, name, least=1)
        for name in ("max_connections", "max_concurrent_requests"):
            _check_count(self, name, least=1, optional=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteLimits:
    """The limits of a route: what one request to it may cost.

    Attributes:
        max_body_size: Bytes of content that a request may carry (RFC 9110 §6.4); 413 beyond. Protects memory. 0 or None
            takes away the bound, which suits only handlers that read `request.stream` piece by piece.
        timeout: Seconds from the end of the request's header section until the client has consumed the whole response.
            Protects from handlers that hang and clients that do not read. A `StreamingResponse` has its own.
        body_timeout: Seconds that a client may send nothing while its content is awaited; 408 beyond. Protects handlers
            from stalled uploads.
        min_body_rate: Bytes per second that an upload must reach on average while it is awaited; 408 below. Protects
            handlers from clients that send one byte now and then.
        max_form_fields: Fields that a form may have, files not counted; 413 beyond. Protects memory and CPU time.
        max_form_files: Files that a form may have; 413 beyond. Protects memory and CPU time.
        max_fields_size: Bytes of the fields of a form together, and of a part that is read as a whole; 413 beyond.
            Protects memory, also where `max_body_size` admits large files.
        max_part_header: Bytes of the header section of a part (RFC 7578 §4.8); 431 beyond. Protects memory.
        in_memory_threshold: Bytes of files that a form may keep in memory. The files beyond go to a temporary file.
            Protects memory.
    """

    max_body_size: int | None = 1024 * 1024
    timeout: float | None = 30
    body_timeout: float | None = 30
    min_body_rate: int | None = 240
    max_form_fields: int = 1000
    max_form_files: int = 100
    max_fields_size: int = 1024 * 1024
    max_part_header: int = 8 * 1024
    in_memory_threshold: int = 1024 * 1024

    def __post_init__(self) -> None:
        _check_count(self, "max_body_size", least=0, optional=True)
        _check_count(self, "min_body_rate", least=0, optional=True)
        for name in ("max_form_fields", "max_form_files", "max_fields_size", "max_part_header", "in_memory_threshold"):
            _check_count(self, name, least=0)
        for name in ("timeout", "body_timeout"):
            _check_amount(self, name, "seconds, 0 or None for no limit")


def _check_amount(limits: object, name: str, expected: str) -> None:
    value = getattr(limits, name)
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        raise ConfigurationError(f"{type(limits).__name__}.{name} takes {expected}, got {value!r}")


def _check_count(limits: object, name: str, *, least: int, optional: bool = False) -> None:
    value = getattr(limits, name)
    if value is None and optional:
        return
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigurationError(
            f"{type(limits).__name__}.{name} takes a whole number of at least {least}, got {value!r}"
        )
