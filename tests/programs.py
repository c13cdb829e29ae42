"""What the tests of programs share: an app to run, processes to look at, and clients that keep asking."""

import asyncio
import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Self

import pytest

if TYPE_CHECKING:
    from conftest import Program

APP = """
import asyncio, os, sys, time
from vibora import JsonResponse, Response, ServerLimits, StreamingResponse, TextResponse, Vibora

app = Vibora(server_limits=ServerLimits(graceful_timeout=float(os.environ.get("GRACEFUL", 10))))
kept = []

@app.get("/")
async def home():
    return TextResponse(str(os.getpid()))

@app.get("/slow")
async def slow():
    print("entered", file=sys.stderr, flush=True)
    await asyncio.sleep(0.5)
    return TextResponse("in the end")

@app.get("/endless")
async def endless():
    print("entered", file=sys.stderr, flush=True)
    try:
        await asyncio.Event().wait()
    finally:
        print("cleaned up", file=sys.stderr, flush=True)

@app.get("/stuck")
async def stuck():
    print("entered", file=sys.stderr, flush=True)
    while True: pass

@app.get("/crash")
async def crash():
    os._exit(3)

@app.get("/grow")
async def grow():
    kept.append(b"x" * 100_000_000)
    return TextResponse(str(os.getpid()))

@app.get("/ready")
async def ready():
    return TextResponse("", 200 if app.is_ready else 503)

@app.get("/stop")
async def stop():
    app.shutdown()
    return TextResponse("bye")

@app.get("/child")
async def child():
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", "import signal; print(signal.getsignal(2))",
                                                   stdout=asyncio.subprocess.PIPE)
    return Response((await process.communicate())[0])
"""

in_proc = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="processes are looked up in /proc")


def is_alive(pid: int) -> bool:
    """Return whether a process runs; a zombie does not."""
    with contextlib.suppress(FileNotFoundError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def wait_until(happened: Callable[[], bool], what: str, seconds: float = 10.0) -> None:
    until = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < until, what
        time.sleep(0.01)


def wait_for_end(pids: list[int], seconds: float = 5.0) -> None:
    wait_until(lambda: not any(map(is_alive, pids)), "a process is left behind", seconds)


def answering(run: "Program", port: int, count: int) -> set[int]:
    """Return the processes that answer, once there are so many."""
    found: set[int] = set()
    until = time.monotonic() + 10
    while time.monotonic() < until:
        with run.connect(port) as peer:
            found.add(int(peer.ask("/").text))
        if len(found) == count:
            return found
    pytest.fail(f"{found} answer, {count} should")


class Load:
    """Clients that ask for `/` all the time: some over connections they keep, some over a new one each time.

    Attributes:
        answers: How many answers came, whole.
        lost: What happened to requests that were sent and have no answer.
        refused: How many connections were refused, which is what happens when a server has stopped.
        pids: The processes that answered.
    """

    def __init__(self, port: int, keeping: int = 8, opening: int = 4) -> None:
        self.port = port
        self.answers = 0
        self.refused = 0
        self.lost: list[str] = []
        self.pids: set[bytes] = set()
        self._done = False
        self._clients = [self._keep] * keeping + [self._open] * opening

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(client()) for client in self._clients]
        await self.until(lambda: self.answers > 50)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._done = True
        async with asyncio.timeout(20):
            await asyncio.gather(*self._tasks)

    async def until(self, happened: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not happened():  # noqa: ASYNC110  others do not set our events
                await asyncio.sleep(0.01)

    async def some(self) -> None:
        """Let some more answers come."""
        before = self.answers
        await self.until(lambda: self.answers > before + 50)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        try:
            return await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            self.refused += 1
            await asyncio.sleep(0.02)
            return None

    async def _keep(self) -> None:
        while not self._done:
            if connection := await self._connect():
                while await self._ask(*connection) and not self._done:  # noqa: ASYNC110  it asks seldom enough
                    await asyncio.sleep(0.001)
                connection[1].close()

    async def _open(self) -> None:
        while not self._done:
            if connection := await self._connect():
                await self._ask(*connection)
                connection[1].close()

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Return whether the connection can be asked again."""
        try:
            writer.write(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = int(head.partition(b"content-length: ")[2].partition(b"\r")[0])
            self.pids.add(await reader.readexactly(length))
        except (OSError, EOFError) as error:
            self.lost.append(repr(error))
            return False
        assert head.startswith(b"http/1.1 200"), head
        self.answers += 1
        return b"connection: close" not in head
