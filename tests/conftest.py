"""Fixtures: a real server on a port of its own, and a raw socket that talks to it."""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar

import pytest
import trustme
import uvloop

from vibora import Vibora
from vibora.server import Server  # noqa: TC001  what `Served` shows

#: Files whose tests measure real seconds, of a real server and of real clients. A machine that is busy with something
#: else can make any of them late, so one that fails is tried again; a defect fails each time.
_REAL_TIME = frozenset(
    {
        "test_backpressure.py",
        "test_disconnects.py",
        "test_examples.py",
        "test_examples_upload.py",
        "test_forms.py",
        "test_http_connections.py",
        "test_memory.py",
        "test_public_surface.py",
        "test_reload.py",
        "test_signals.py",
        "test_streaming.py",
        "test_timeouts.py",
        "test_uploads.py",
        "test_workers.py",
    }
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give tests of real time further tries."""
    for item in items:
        if item.path.name in _REAL_TIME:
            item.add_marker(pytest.mark.flaky(reruns=2, reruns_delay=1))


#: Seconds that anything in a test may take before the test fails. Nothing waits for it on the way to success.
PATIENCE = 10.0

T = TypeVar("T")


@dataclass(frozen=True)
class Answer:
    """A response as it came over the wire."""

    version: str
    status: int
    reason: str
    headers: list[tuple[str, str]]
    content: bytes
    chunks: list[bytes] = field(default_factory=list)

    def get(self, name: str) -> str | None:
        """Return the only value of a header field; None when there is none."""
        values = self.get_all(name)
        assert len(values) <= 1, f"{name} comes {len(values)} times: {values}"
        return values[0] if values else None

    def get_all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name.lower()]

    @property
    def text(self) -> str:
        return self.content.decode()


class Peer:
    """A client that says exactly what a test tells it to, and shows exactly what comes back."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.unread = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def receive(self) -> bytes:
        """Return some bytes; none at the end of the stream."""
        if self.unread:
            data, self.unread = self.unread, b""
            return data
        return self.sock.recv(65536)

    def read_until(self, marker: bytes) -> bytes:
        """Return what comes up to and with the marker."""
        while marker not in self.unread:
            data = self.sock.recv(65536)
            if not data:
                raise EOFError(f"the connection ended before {marker!r}, after {self.unread!r}")
            self.unread += data
        found, _, self.unread = self.unread.partition(marker)
        return found + marker

    def read_exactly(self, size: int) -> bytes:
        while len(self.unread) < size:
            data = self.sock.recv(65536)
            if not data:
                raise EOFError(f"the connection ended {size - len(self.unread)} bytes early, after {self.unread!r}")
            self.unread += data
        found, self.unread = self.unread[:size], self.unread[size:]
        return found

    def read_to_end(self) -> bytes:
        """Return everything up to the end of the stream."""
        pieces = [self.unread]
        self.unread = b""
        while data := self.sock.recv(65536):
            pieces.append(data)
        return b"".join(pieces)

    def read_head(self) -> Answer:
        """Return the head of a response, without its content."""
        status_line, *lines = self.read_until(b"\r\n\r\n")[:-4].decode("latin-1").split("\r\n")
        version, status, reason = status_line.split(" ", 2)
        headers = [(name, value.strip(" ")) for name, _, value in (line.partition(":") for line in lines)]
        return Answer(version, int(status), reason, headers, b"")

    def read_chunk(self) -> bytes:
        """Return the data of one chunk; none for the last one, whose trailer section is read too (RFC 9112 §7.1)."""
        size = int(self.read_until(b"\r\n")[:-2].partition(b";")[0], 16)
        if size == 0:
            while self.read_until(b"\r\n") != b"\r\n":
                pass
            return b""
        data = self.read_exactly(size + 2)
        assert data.endswith(b"\r\n"), data
        return data[:-2]

    def read_answer(self, method: str = "GET") -> Answer:
        """Return a whole final response to a request of the method (RFC 9112 §6.3)."""
        head = self.read_head()
        chunks: list[bytes] = []
        length = head.get("content-length")
        if method == "HEAD" or head.status in (204, 304) or head.status < 200:
            content = b""
        elif head.get("transfer-encoding") == "chunked":
            chunks = list(iter(self.read_chunk, b""))
            content = b"".join(chunks)
        elif length is not None:
            content = self.read_exactly(int(length))
        else:
            content = self.read_to_end()
        return Answer(head.version, head.status, head.reason, head.headers, content, chunks)

    def ask(
        self, target: str = "/", method: str = "GET", headers: Sequence[tuple[str, str]] = (), content: bytes = b""
    ) -> Answer:
        """Send a request, and return the response."""
        lines = [f"{method} {target} HTTP/1.1", "Host: test", *(f"{name}: {value}" for name, value in headers)]
        if content:
            lines.append(f"Content-Length: {len(content)}")
        self.send("\r\n".join([*lines, "", ""]).encode("latin-1") + content)
        return self.read_answer(method)

    def is_closed(self) -> bool:
        """Return whether the server has closed the connection; wait for it if it has not yet."""
        try:
            return self.receive() == b""
        except ConnectionResetError:
            return True
        except TimeoutError:
            return False

    def close(self) -> None:
        self.sock.close()

    def half_close(self) -> None:
        """Send no more, and go on reading."""
        self.sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Go away with an RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


class Log(logging.Handler):
    """A handler that keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


class Served:
    """An app that is being served by a thread of its own."""

    def __init__(self, app: Vibora, loop_factory: Callable[[], asyncio.AbstractEventLoop], options: Any) -> None:
        self.app = app
        self._log = Log()
        logging.getLogger("vibora").addHandler(self._log)
        started: Future[tuple[Server, asyncio.AbstractEventLoop]] = Future()

        async def main() -> None:
            try:
                server = await app.start(port=0, **options)
            except BaseException as error:  # noqa: BLE001  it belongs to the test
                started.set_exception(error)
                return
            started.set_result((server, asyncio.get_running_loop()))
            await server.wait_stopped()

        def run() -> None:
            with asyncio.Runner(loop_factory=loop_factory) as runner:
                runner.run(main())

        self.thread = threading.Thread(target=run, daemon=True)
        self.thread.start()
        self.server, self.loop = started.result(PATIENCE)
        self.host, self.port, self.url = self.server.host, self.server.port, self.server.url

    @property
    def log(self) -> list[logging.LogRecord]:
        return self._log.records

    @property
    def errors(self) -> list[logging.LogRecord]:
        return [record for record in self.log if record.levelno >= logging.ERROR]

    def connect(self, patience: float = PATIENCE) -> Peer:
        """Return a new connection; whatever it waits for fails after so many seconds."""
        return Peer(socket.create_connection((self.host, self.port), timeout=patience))

    def ask(
        self, target: str = "/", method: str = "GET", headers: Sequence[tuple[str, str]] = (), content: bytes = b""
    ) -> Answer:
        """Send a request over a new connection, and return the response."""
        with self.connect() as peer:
            return peer.ask(target, method, headers, content)

    def run(self, job: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run a coroutine function in the loop of the server."""
        return asyncio.run_coroutine_threadsafe(job(), self.loop).result(PATIENCE)

    def stop(self) -> None:
        self.server.shutdown(hurry=True)
        self.thread.join(PATIENCE)
        logging.getLogger("vibora").removeHandler(self._log)
        assert not self.thread.is_alive(), "the server did not stop"


class Serve(Protocol):
    """The fixture `serve`."""

    def __call__(self, app: Vibora, **options: Any) -> Served: ...


@pytest.fixture(params=["uvloop", "asyncio"])
def loop_factory(request: pytest.FixtureRequest) -> Callable[[], asyncio.AbstractEventLoop]:
    return {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}[request.param]


@pytest.fixture
def serve(loop_factory: Callable[[], asyncio.AbstractEventLoop]) -> Iterator[Serve]:
    """Serve an app on a free port, once on each event loop; stop it when the test ends."""
    with contextlib.ExitStack() as stack:

        def start(app: Vibora, **options: Any) -> Served:
            served = Served(app, loop_factory, options)
            stack.callback(served.stop)
            return served

        yield start


@pytest.fixture
def run(loop_factory: Callable[[], asyncio.AbstractEventLoop]) -> Callable[[Coroutine[Any, Any, T]], T]:
    """Run a coroutine as the program of a test, once on each event loop."""

    def start(main: Coroutine[Any, Any, T]) -> T:
        async def bounded() -> T:
            async with asyncio.timeout(PATIENCE):
                return await main

        with asyncio.Runner(loop_factory=loop_factory) as runner:
            return runner.run(bounded())

    return start


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory of certificates, each with its key in the same file: `server.pem` is for localhost and
    `*.example.test`, `other.pem` for other.test, `client.pem` for Ada, `stranger.pem` is of another authority,
    `expired.pem` has expired. `ca.pem` is the authority's.
    """
    directory = tmp_path_factory.mktemp("certificates")
    authority, stranger = trustme.CA(), trustme.CA()
    authority.cert_pem.write_to_path(str(directory / "ca.pem"))
    past = datetime(2020, 1, 2, tzinfo=UTC)
    issued = {
        "server": authority.issue_cert("localhost", "127.0.0.1", "*.example.test"),
        "other": authority.issue_cert("other.test", key_type=trustme.KeyType.RSA),
        "client": authority.issue_cert("ada@example.test"),
        "stranger": stranger.issue_cert("ada@example.test"),
        "expired": authority.issue_cert("localhost", not_before=past, not_after=past + timedelta(days=1)),
    }
    for name, certificate in issued.items():
        certificate.private_key_and_cert_chain_pem.write_to_path(str(directory / f"{name}.pem"))
    return directory


@pytest.fixture
def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port: int = sock.getsockname()[1]
        return port


class Program:
    """A Python program that runs."""

    def __init__(self, arguments: Sequence[str], directory: Path, environment: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=directory,
            env=os.environ | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            # A shell that starts the tests in the background ignores SIGINT, and so would all that it starts.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509  it takes no lock
        )
        self.read = b""

    @property
    def pid(self) -> int:
        return self.process.pid

    def _without_our_own_warning(self) -> None:
        """Forget what a debug build of the core says, so that the tests may run with one."""
        self.read = b"".join(line for line in self.read.splitlines(keepends=True) if b"a debug build" not in line)

    def read_until(self, part: str) -> str:
        """Return the line of stderr that has the part, once it is there."""
        assert self.process.stderr is not None
        while line := self.process.stderr.readline():
            self.read += line
            if part.encode() in line:
                return line.decode()
        raise EOFError(f"no line has {part!r}: {self.read.decode()}")

    def port(self) -> int:
        """Return the port that it serves on, once it does."""
        return int(self.read_until("serving").partition("http://")[2].split(" ")[0].rpartition(":")[2])

    def connect(self, port: int) -> Peer:
        return Peer(socket.create_connection(("127.0.0.1", port), timeout=PATIENCE))

    def send_signal(self, number: int) -> None:
        self.process.send_signal(number)

    def wait(self) -> tuple[int, str]:
        """Return the exit code and all of stderr, once it has ended."""
        assert self.process.stderr is not None
        self.read += self.process.stderr.read()
        self._without_our_own_warning()
        return self.process.wait(PATIENCE), self.read.decode()

    def output(self) -> tuple[int, str]:
        """Return the exit code and all of stdout, once it has ended."""
        output, errors = self.process.communicate(timeout=PATIENCE)
        assert not errors, errors.decode()
        return self.process.returncode, output.decode()

    def children(self) -> list[int]:
        return [int(pid) for pid in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()]

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.process.wait()
        for pipe in (self.process.stdout, self.process.stderr):
            assert pipe is not None
            pipe.close()


class Start(Protocol):
    """The fixture `program`."""

    def __call__(self, *arguments: str, code: str = "", **environment: str) -> Program: ...


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Start]:
    """Run Python with some arguments in a directory that has `app.py`; kill what is left when the test ends."""
    with contextlib.ExitStack() as stack:

        def start(*arguments: str, code: str = "", **environment: str) -> Program:
            if code:
                (tmp_path / "app.py").write_text(code)
            process = Program(arguments, tmp_path, environment)
            stack.callback(process.kill)
            return process

        yield start
