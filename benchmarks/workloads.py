"""What is asked of the servers: one row per workload, and the check that a server answers it rightly.

A new workload is a row here, a route in the files of `apps/` (a server without it is left out of that table), and an
answer in `floor/floor.c` if the floor should appear beside it.
"""

from __future__ import annotations

import http.client
import json
import socket
from dataclasses import dataclass

UPLOAD_SIZE = 20 * 1024 * 1024
ECHO_BODY = json.dumps(
    {"id": 7, "name": "Ada Lovelace", "tags": ["mathematician", "writer"], "address": {"city": "London", "zip": "W1"}},
    separators=(",", ":"),
)


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
    is_json: bool = False
    depth: int = 1
    """Requests sent in one write before their answers are read."""
    connections: int | None = None
    """Connections where the number asked for on the command line makes no sense."""

    def environment(self) -> dict[str, str]:
        """Return what `load.lua` wants to know."""
        found = {"LOAD_METHOD": self.method, "LOAD_BODY_SIZE": str(self.body_size), "LOAD_DEPTH": str(self.depth)}
        return found | ({"LOAD_BODY": self.body} if self.body else {})

    def check(self, port: int) -> str | None:
        """Ask once; return what is wrong with the answer, or None."""
        try:
            return self._check_pipeline(port) if self.depth > 1 else self._check_once(port)
        except (OSError, http.client.HTTPException, ValueError) as error:
            return f"{type(error).__name__}: {error}"

    def _check_once(self, port: int) -> str | None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            kind = "application/json" if self.body else "application/octet-stream"
            body = b"x" * self.body_size if self.body_size else self.body.encode()
            connection.request(self.method, self.path, body or None, {"content-type": kind} if body else {})
            response = connection.getresponse()
            got = response.read()
        finally:
            connection.close()
        if response.status != http.HTTPStatus.OK:
            return f"status {response.status}"
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
WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload("plaintext", "GET /, 13 bytes of text", "/", HELLO),
        Workload("json", "GET /json, a small object", "/json", b'{"message":"Hello, World!"}', is_json=True),
        Workload("path", "GET /users/123, converted to int", "/users/123", b"123"),
        Workload("pipelined", "GET /, 16 at once", "/", HELLO, depth=16),
        Workload("stream", "GET /stream, 10 chunks of 1 KB", "/stream", b"x" * 10240),
        Workload("echo", "POST /echo, JSON in and out", "/echo", ECHO_BODY.encode(), "POST", ECHO_BODY, is_json=True),
        Workload(
            "upload",
            "POST /upload, 20 MB, 4 connections",
            "/upload",
            str(UPLOAD_SIZE).encode(),
            "POST",
            body_size=UPLOAD_SIZE,
            connections=4,
        ),
        Workload("await", "GET /await, asyncio.sleep(0)", "/await", HELLO),
        Workload("def", "GET /def, a blocking handler in a thread", "/def", HELLO),
    )
}
