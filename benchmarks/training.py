"""The requests that a profile-guided build learns from: `maturin build --pgo` and `make build` run this.

The compiler lays out what these requests run for speed and what they do not run for size, so they are meant to be like
those of the world, not like the benchmark: heads of browsers and of programs, whole and in pieces, content of every
kind, errors, streams, and all of it over TLS as well. Needs nothing but Vibora; over TLS only where there is `openssl`.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import socket
import ssl
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vibora import (
    AccessLog,
    Blueprint,
    Events,
    FileResponse,
    HtmlResponse,
    JsonResponse,
    NotFound,
    RedirectResponse,
    Request,
    Response,
    StreamingResponse,
    TextResponse,
    Vibora,
)
from vibora.tls import TLS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PROGRAM = "Host: api.example.org\r\nUser-Agent: curl/8.5.0\r\nAccept: */*\r\n"
BROWSER = (
    "Host: www.example.org\r\nConnection: keep-alive\r\n"
    'sec-ch-ua: "Chromium";v="142", "Not=A?Brand";v="24"\r\nsec-ch-ua-mobile: ?0\r\nsec-ch-ua-platform: "Linux"\r\n'
    "Upgrade-Insecure-Requests: 1\r\n"
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/142.0.0.0 Safari/537.36\r\n"
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n"
    "Sec-Fetch-Site: same-origin\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\n"
    "Referer: https://www.example.org/articles?page=2\r\nAccept-Encoding: gzip, deflate, br, zstd\r\n"
    "Accept-Language: en-GB,en;q=0.9,de;q=0.8\r\n"
    "Cookie: session=4fzzzb1dd02c4e8c9f; theme=dark; consent=yes\r\n"
)
PROXIED = (
    "Host: api.example.org\r\nX-Forwarded-For: 203.0.113.9, 10.0.0.7\r\nX-Forwarded-Proto: https\r\n"
    "X-Request-Id: 0b6d1f4e-7a53-4c9b-8f60-2d9a5f1c3e77\r\nAuthorization: Bearer eyJhbGciOiJIUzI1NiJ9.e30.Zm9v\r\n"
)
JSON = b'{"id":7,"name":"Ada Lovelace","tags":["mathematician","writer"],"address":{"city":"London","zip":"W1"}}'
FORM = b"title=Notes+on+the+engine&author=Ada+Lovelace&year=1843&language=%C3%A9n"
BOUNDARY = "----training-5d1f"
MULTIPART = (
    f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="title"\r\n\r\nNotes\r\n'
    f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="notes.txt"\r\n'
    f"Content-Type: text/plain\r\n\r\n{'n' * 8000}\r\n--{BOUNDARY}--\r\n"
).encode()


@dataclass(frozen=True)
class Exercise:
    """A request, and how it is sent."""

    target: str
    method: str = "GET"
    fields: str = PROGRAM
    content: bytes = b""
    content_type: str = ""
    chunked: bool = False
    depth: int = 1
    """Requests in one piece."""
    cut: int = 0
    """Where the request is cut in two pieces; 0: nowhere."""
    times: int = 1
    """How often it is asked, in hundreds."""

    def octets(self) -> bytes:
        """Return the request as it is sent."""
        head = f"{self.method} {self.target} HTTP/1.1\r\n{self.fields}"
        content = self.content
        if self.chunked:
            head += f"Content-Type: {self.content_type}\r\nTransfer-Encoding: chunked\r\n"
            halves = content[: len(content) // 2], content[len(content) // 2 :]
            content = b"".join(b"%x\r\n%b\r\n" % (len(half), half) for half in halves) + b"0\r\n\r\n"
        elif content:
            head += f"Content-Type: {self.content_type}\r\nContent-Length: {len(content)}\r\n"
        return f"{head}\r\n".encode() + content


EXERCISES = [
    Exercise("/", times=60),
    Exercise("/", depth=16, times=10),
    Exercise("/", fields=BROWSER, times=40),
    Exercise("/", fields=PROXIED, times=20),
    Exercise("/", fields=BROWSER, cut=300, times=5),
    Exercise("/", "HEAD", times=3),
    Exercise("/json", times=40),
    Exercise("/json", fields=BROWSER, times=20),
    Exercise("/users/4711", times=30),
    Exercise("/users/4711/posts/caf%C3%A9?page=2&q=hello%20world&tag=a&tag=b", fields=BROWSER, times=20),
    Exercise("/users/nobody", times=3),
    Exercise("/headers", fields=BROWSER, times=15),
    Exercise("/cookies", fields=BROWSER, times=10),
    Exercise("/echo", "POST", PROGRAM, JSON, "application/json", times=30),
    Exercise("/echo", "POST", PROGRAM, JSON, "application/json", cut=150, times=10),
    Exercise("/echo", "POST", PROXIED, JSON, "application/json", chunked=True, times=10),
    Exercise("/form", "POST", BROWSER, FORM, "application/x-www-form-urlencoded", times=10),
    Exercise("/form", "POST", BROWSER, MULTIPART, f"multipart/form-data; boundary={BOUNDARY}", times=10),
    Exercise("/upload", "POST", PROGRAM, bytes(1 << 20), "application/octet-stream", times=1),
    Exercise("/upload", "POST", PROGRAM, bytes(1 << 16), "application/octet-stream", chunked=True, times=3),
    Exercise("/wait", times=20),
    Exercise("/blocking", times=5),
    Exercise("/stream", times=20),
    Exercise("/events", times=10),
    Exercise("/chunks", times=1),
    Exercise("/large", times=3),
    Exercise("/file", times=3),
    Exercise("/file", fields=PROGRAM + "Range: bytes=100-999\r\n", times=2),
    Exercise("/moved", fields=BROWSER, times=3),
    Exercise("/dressed/page", fields=BROWSER, times=10),
    Exercise("/dressed/fails", fields=BROWSER, times=3),
    Exercise("/nowhere", fields=BROWSER, times=5),
    Exercise("/echo", "DELETE", times=2),
    Exercise("/echo", "OPTIONS", times=2),
]


def make_app(folder: Path, access_log: AccessLog | None = None) -> Vibora:
    """Return an app with handlers of every kind."""
    app = Vibora(access_log=access_log, metrics_path="/metrics" if access_log else None, trusted_proxies=["127.0.0.1"])
    add_answers(app)
    add_content(app)
    add_streams(app)
    add_files(app, folder)
    app.add_blueprint(make_blueprint(), prefixes={"dressed": "/dressed"})
    return app


def add_answers(app: Vibora) -> None:
    """Add handlers that answer with what they have."""

    @app.get("/")
    async def home() -> Response:
        return Response(b"Hello, World!")

    @app.get("/json")
    async def json() -> Response:
        return JsonResponse({"message": "Hello, World!", "items": [1, 2, 3]})

    @app.get("/users/<user_id>")
    async def user(user_id: int) -> Response:
        return TextResponse(str(user_id), headers={"cache-control": "no-store"})

    @app.get("/users/<user_id>/posts/<slug>")
    async def post(request: Request, user_id: int, slug: str) -> Response:
        args = request.args
        return JsonResponse({"user": user_id, "post": slug, "page": args["page"], "q": args["q"]})

    @app.get("/headers")
    async def headers(request: Request) -> Response:
        return TextResponse(request.headers["user-agent"], headers={f"x-header-{n}": f"value-{n}" for n in range(10)})

    @app.get("/cookies")
    async def cookies(request: Request) -> Response:
        return HtmlResponse(request.cookies["theme"], cookies={"seen": "yes"})

    @app.get("/wait")
    async def wait(request: Request) -> Response:
        await asyncio.sleep(0)
        return TextResponse(request.path)

    @app.get("/blocking")
    def blocking() -> Response:
        return TextResponse("done")

    @app.get("/moved")
    async def moved() -> Response:
        return RedirectResponse("/")


def add_content(app: Vibora) -> None:
    """Add handlers that read content."""

    @app.post("/echo")
    async def echo(request: Request) -> Response:
        return JsonResponse(await request.json())

    @app.post("/form")
    async def form(request: Request) -> Response:
        fields, files = await request.form(), await request.files()
        return TextResponse(f"{fields['title']} {sum(file.size for file in files)}")

    @app.post("/upload")
    async def upload(request: Request) -> Response:
        size = 0
        async for chunk in request.stream:
            size += len(chunk)
        return Response(str(size))


def add_streams(app: Vibora) -> None:
    """Add handlers that answer piece by piece."""

    @app.get("/stream")
    async def stream() -> Response:
        async def chunks() -> AsyncIterator[bytes]:
            for _ in range(10):
                yield b"x" * 1024

        return StreamingResponse(chunks)

    @app.get("/events")
    async def events() -> Response:
        async def chunks() -> AsyncIterator[str]:
            for number in range(10):
                yield f"data: {number}\n\n"
                await asyncio.sleep(0)

        return StreamingResponse(chunks, headers={"content-type": "text/event-stream"})

    @app.get("/chunks")
    async def large_chunks() -> Response:
        async def chunks() -> AsyncIterator[bytes]:
            for _ in range(16):
                yield bytes(65_536)

        return StreamingResponse(chunks)


def add_files(app: Vibora, folder: Path) -> None:
    """Add handlers that answer with much."""
    page = folder / "page.html"
    page.write_bytes(b"<p>" + b"x" * 20_000)

    @app.get("/large")
    async def large() -> Response:
        return Response(bytes(200_000))

    @app.get("/file")
    async def file() -> Response:
        return FileResponse(page)


def make_blueprint() -> Blueprint:
    """Return a blueprint with something around its handlers."""
    dressed = Blueprint()

    @dressed.handle(Events.BEFORE_ENDPOINT)
    async def before(request: Request) -> None:
        request.context["begun"] = True

    @dressed.handle(LookupError)
    async def answer(error: LookupError) -> Response:
        return JsonResponse({"error": str(error)}, 400)

    @dressed.get("/page")
    async def dressed_page(request: Request) -> Response:
        if not request.context["begun"]:
            raise NotFound
        return HtmlResponse("<p>Hello")

    @dressed.get("/fails")
    async def fails() -> Response:
        raise LookupError("as it should")

    return dressed


class Peer:
    """A client that knows as much of HTTP as it has to."""

    def __init__(self, port: int, context: ssl.SSLContext | None) -> None:
        connection = socket.create_connection(("127.0.0.1", port), timeout=30)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.connection = context.wrap_socket(connection) if context else connection

    def read_answer(self, method: str) -> int:
        """Read one answer; return how long it was."""
        received = b""
        while b"\r\n\r\n" not in received:
            received += self._receive()
        head, _, content = received.partition(b"\r\n\r\n")
        lines = head.lower().split(b"\r\n")
        lengths = [int(line.partition(b":")[2]) for line in lines if line.startswith(b"content-length:")]
        if b"transfer-encoding: chunked" in lines:
            while not content.endswith(b"0\r\n\r\n"):
                content += self._receive()
        elif method != "HEAD":
            while len(content) < sum(lengths):
                content += self._receive()
        return len(head) + 4 + len(content)

    def read(self, size: int) -> None:
        """Read so many octets: answers that have been seen before."""
        while size > 0:
            size -= len(self._receive(size))
        if size < 0:
            raise SystemExit("training: an answer was longer than the one before")

    def _receive(self, size: int = 1 << 18) -> bytes:
        received = self.connection.recv(min(size, 1 << 18))
        if not received:
            raise SystemExit("training: the server has closed the connection")
        return received

    def run(self, exercise: Exercise, share: float) -> None:
        """Ask as often as the exercise says, or a part of that."""
        octets = exercise.octets()
        self.connection.sendall(octets)
        length = self.read_answer(exercise.method)
        batch = octets * exercise.depth
        for _ in range(max(1, round(100 * exercise.times * share))):
            if exercise.cut:
                self.connection.sendall(batch[: exercise.cut])
                time.sleep(0.0005)
            self.connection.sendall(batch[exercise.cut :])
            self.read(length * exercise.depth)


def make_certificate(folder: Path) -> TLS | None:
    """Make a certificate and its key, where there is a tool for it."""
    if shutil.which("openssl") is None:
        print("training: openssl was not found, so TLS is left out")
        return None
    made, key = folder / "certificate.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    command += ["-days", "30", "-subj", "/CN=localhost", "-keyout", str(key), "-out", str(made)]
    subprocess.run(command, check=True, capture_output=True)
    return TLS(made, key)


def exercise(port: int, share: float, context: ssl.SSLContext | None) -> None:
    """Go through all exercises, each on a connection of its own."""
    for one in EXERCISES:
        peer = Peer(port, context)
        peer.run(one, share)
        peer.connection.close()


async def train(share: float, folder: Path) -> None:
    """Serve the app bare, with a log, and over TLS, and exercise each."""

    async def serve(app: Vibora, part: float, tls: TLS | None = None) -> None:
        context = None
        if tls is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        async with await app.start(port=0, tls=tls) as server:
            port = server.sockets[0].getsockname()[1]
            await asyncio.to_thread(exercise, port, share * part, context)

    await serve(make_app(folder), 1)
    for form in ("text", "json"):
        await serve(make_app(folder, AccessLog(form, file="/dev/null")), 0.1)
    if tls := make_certificate(folder):
        await serve(make_app(folder), 0.2, tls)


def main() -> None:
    """Train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--share", type=float, default=1.0, help="how much of it; default 1.0, some ten seconds")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        program = train(options.share, Path(folder))
        try:
            import uvloop  # noqa: PLC0415  where there is one
        except ImportError:
            asyncio.run(program)
        else:
            uvloop.run(program)


if __name__ == "__main__":
    main()
