"""What is asked of the servers: one row per workload, and the check that a server answers it rightly.

A new workload is a row here, a route in the files of `apps/` (a server without it is left out of that table), and an
answer in `floor/floor.c` if the floor should appear beside it.
"""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import sys
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "apps"))
import payload  # what the applications answer with: they import it by this name

UPLOAD_SIZE = 20 * 1024 * 1024
ECHO_BODY = json.dumps(
    {"id": 7, "name": "Ada Lovelace", "tags": ["mathematician", "writer"], "address": {"city": "London", "zip": "W1"}},
    separators=(",", ":"),
)


JSON_BODY = payload.RECORDS_JSON.decode()


@dataclass(frozen=True)
class Workload:
    """One kind of request, and the answer that is right."""

    name: str
    title: str
    path: str
    expected: bytes
    method: str = "GET"
    body: str = ""
    body_size: int = 0
    """Bytes of a body made up while sending, instead of `body`."""
    content_type: str = "application/octet-stream"
    headers: tuple[tuple[str, str], ...] = ()
    """Sent with each request, besides what the method and the body need."""
    answered: tuple[tuple[str, str], ...] = ()
    """Header fields that the answer must have."""
    is_json: bool = False
    depth: int = 1
    """Requests sent in one write before their answers are read."""
    close_every: int = 0
    """The last of so many requests asks to close its connection, and the load generator makes a new one; 0: never."""
    connections: int | None = None
    """Connections where the number asked for on the command line makes no sense."""
    least_seconds: int = 1
    """How long it is measured at least."""
    tls: bool = False
    unit: tuple[float, str] | None = None
    """What a request stands for, where requests per second say little: how many of what."""

    def environment(self) -> dict[str, str]:
        """Return what `load.lua` wants to know."""
        found = {"LOAD_METHOD": self.method, "LOAD_BODY_SIZE": str(self.body_size), "LOAD_DEPTH": str(self.depth)}
        found |= {"LOAD_CLOSE_EVERY": str(self.close_every), "LOAD_CONTENT_TYPE": self.content_type}
        found["LOAD_HEADERS"] = "".join(f"{name}: {value}\n" for name, value in self.headers)
        return found | ({"LOAD_BODY": self.body} if self.body else {})

    def url(self, port: int) -> str:
        """Return where it is asked for."""
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{port}{self.path}"

    def check(self, port: int) -> str | None:
        """Ask once; return what is wrong with the answer, or None."""
        try:
            return self._check_pipeline(port) if self.depth > 1 else self._check_once(port)
        except (OSError, http.client.HTTPException, ValueError) as error:
            return f"{type(error).__name__}: {error}"

    def _check_once(self, port: int) -> str | None:
        if self.tls:
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                "127.0.0.1", port, timeout=5, context=context
            )
        else:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            body = b"x" * self.body_size if self.body_size else self.body.encode()
            headers = dict(self.headers) | ({"content-type": self.content_type} if body else {})
            connection.request(self.method, self.path, body or None, headers)
            response = connection.getresponse()
            got = response.read()
        finally:
            connection.close()
        if response.status != http.HTTPStatus.OK:
            return f"status {response.status}"
        if missing := [name for name, value in self.answered if response.headers[name] != value]:
            return f"without the header fields {', '.join(missing)}"
        if got == self.expected or (self.is_json and json.loads(got) == json.loads(self.expected)):
            return None
        return f"answered {got[:40]!r}"

    def _check_pipeline(self, port: int) -> str | None:
        request = f"{self.method} {self.path} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n".encode()
        with socket.create_connection(("127.0.0.1", port), timeout=5) as peer:
            peer.sendall(request * self.depth)
            got = b""
            while got.count(self.expected) < self.depth:
                part = peer.recv(65536)
                if not part:
                    return f"closed after {got.count(self.expected)} of {self.depth} answers"
                got += part
        return None if got.count(b"HTTP/1.1 200 ") == self.depth else "not every answer is a 200"


HELLO = b"Hello, World!"
_JSON = "application/json"
WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload("plaintext", "GET /, 13 bytes of text", "/", HELLO),
        Workload("json", "GET /json, a small object", "/json", b'{"message":"Hello, World!"}', is_json=True),
        Workload("json10k", "GET /json10k, 10 KB of JSON", "/json10k", payload.RECORDS_JSON, is_json=True),
        Workload("path", "GET /users/123, converted to int", "/users/123", b"123"),
        Workload(
            "query",
            "GET /items/123?limit=10&q=hello, a typed path parameter and two of the query",
            "/items/123?limit=10&q=hello",
            b"123 10 hello",
        ),
        Workload(
            "headers",
            "GET /headers, 20 header fields in, one of them read, 20 out",
            "/headers",
            b"value-10",
            headers=payload.HEADERS,
            answered=payload.HEADERS,
        ),
        Workload("pipelined", "GET /, 16 at once", "/", HELLO, depth=16),
        Workload(
            "echo",
            "POST /echo, JSON in and out",
            "/echo",
            ECHO_BODY.encode(),
            "POST",
            ECHO_BODY,
            content_type=_JSON,
            is_json=True,
        ),
        Workload(
            "multipart",
            "POST /multipart, three fields and a file of 4 KB",
            "/multipart",
            b"3 4096",
            "POST",
            payload.MULTIPART,
            content_type=payload.MULTIPART_TYPE,
        ),
        Workload("stream", "GET /stream, 10 chunks of 1 KB", "/stream", b"x" * 10240),
        Workload(
            "chunks",
            "GET /chunks, 64 chunks of 64 KB, 4 connections",
            "/chunks",
            b"x" * (4 << 20),
            connections=4,
            unit=(4.194304, "MB"),
        ),
        Workload(
            "events",
            "GET /events, 20 small chunks, a turn of the loop between each, 1,000 connections",
            "/events",
            payload.EVENT * 20,
            connections=1000,
            unit=(20, "events"),
        ),
        Workload(
            "upload",
            "POST /upload, 20 MB, 4 connections",
            "/upload",
            str(UPLOAD_SIZE).encode(),
            "POST",
            body_size=UPLOAD_SIZE,
            connections=4,
            unit=(20.97152, "MB"),
        ),
        Workload("await", "GET /await, asyncio.sleep(0)", "/await", HELLO),
        Workload("future", "GET /future, a future that the loop completes", "/future", HELLO),
        Workload("def", "GET /def, a blocking handler in a thread", "/def", HELLO),
        Workload("short", "GET /, 10 requests to a connection", "/", HELLO, close_every=10),
        Workload("tls", "GET / over TLS", "/", HELLO, tls=True),
        Workload("c1", "GET /, 1 connection", "/", HELLO, connections=1),
        Workload("c512", "GET /, 512 connections", "/", HELLO, connections=512),
        Workload("c4000", "GET /, 4,000 connections", "/", HELLO, connections=4000, least_seconds=3),
    )
}
