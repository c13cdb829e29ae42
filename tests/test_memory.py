"""What is left behind: nothing. Measured in processes of their own, on Linux."""

import contextlib
import json
import select
import time
from pathlib import Path
from typing import Any

import pytest

from conftest import Peer, Program, Start
from hostile import Cost, connect, message, server_sockets, wait_until

MEGABYTE = 1024 * 1024

CODE = """
import asyncio, contextvars, gc, logging, sys

from vibora import HTTPError, JsonResponse, Request, Response, ServerLimits, StreamingResponse, Vibora, _core

logging.basicConfig(filename="log", format="%(message)s")
logging.getLogger().handlers[0].setLevel("WARNING")
voice = logging.StreamHandler()
voice.addFilter(lambda record: record.levelname == "INFO")
logging.getLogger("vibora").addHandler(voice)
logging.getLogger("vibora").setLevel("INFO")

app = Vibora(server_limits=ServerLimits(keep_alive_timeout=60))
finished = 0
kinds = {}

@app.get("/")
async def home():
    return Response("home")

@app.get("/later")
async def later(request: Request):
    await asyncio.sleep(0)
    kinds["Exchange"] = type(asyncio.current_task().get_coro())
    return JsonResponse({"path": request.path, "headers": request.headers.get("host")})

@app.get("/thread")
def thread():
    return Response("thread")

@app.get("/cycle")
async def cycle(request: Request):
    request.context["request"] = request
    return Response()

@app.get("/error")
async def error(request: Request):
    await asyncio.sleep(0)
    raise HTTPError(418)

@app.post("/upload")
async def upload(request: Request):
    return Response(await request.content())

@app.get("/stream")
async def stream(request: Request):
    async def chunks():
        for _ in range(3):
            await asyncio.sleep(0)
            yield request.path
    return StreamingResponse(chunks)

@app.get("/own")
async def own():
    async def chunks():
        yield response.status_code.to_bytes(2)
    response = StreamingResponse(chunks)
    return response

@app.get("/endless")
async def endless():
    async def chunks():
        global finished
        try:
            while True:
                yield b"x" * 65536
        finally:
            await asyncio.sleep(0)
            finished += 1
    return StreamingResponse(chunks, chunk_timeout=2)

@app.get("/large", timeout=1.5)
async def large():
    return Response(b"x" * (100 * 1024 * 1024))

@app.get("/idle")
async def idle():
    async def chunks():
        global finished
        try:
            yield b"x"
            await asyncio.Event().wait()
        finally:
            finished += 1
    return StreamingResponse(chunks)

@app.get("/connections")
async def connections():
    return Response(str(next(iter(app._servers)).connections))

@app.get("/state")
async def state():
    # Each instance of a class of the core holds a reference to it: they are counted without being kept.
    core = next(iter(app._servers))._core
    kinds["Protocol"] = type(core.protocol())
    kinds.update(Request=_core.Request, Response=_core.Response, Streaming=_core.StreamingResponse)
    gc.collect()
    return JsonResponse({
        "instances": {name: sys.getrefcount(kind) for name, kind in kinds.items()},
        "objects": len(gc.get_objects()),
        "tasks": len(asyncio.all_tasks()),
        "connections": core.connections,
        "exchanges": core.exchanges,
        "finished": finished,
    })
"""


class Measured:
    """The app above, in a process that does nothing else."""

    def __init__(self, process: Program, directory: Path) -> None:
        self.cost = Cost(process)
        self.port = process.port()
        self._log = directory / "log"

    def connect(self, receive_buffer: int | None = None) -> Peer:
        return connect(self.port, receive_buffer=receive_buffer)

    def state(self) -> dict[str, Any]:
        with self.connect() as peer:
            answer: dict[str, Any] = json.loads(peer.ask("/state").content)
            return answer

    def is_quiet(self) -> bool:
        """Return whether there is no other connection than the one that asks."""
        with self.connect() as peer:
            return peer.ask("/connections").text == "1"

    def warnings(self) -> list[str]:
        lines = self._log.read_text().splitlines()
        return [line for line in lines if not line.startswith("this is a debug build")]


@pytest.fixture(params=["uvloop", "asyncio"])
def measured(request: pytest.FixtureRequest, program: Start, tmp_path: Path) -> Measured:
    arguments = ["-m", "vibora", "run", "app.py", "--port", "0"]
    return Measured(program(*arguments, code=CODE, VIBORA_UVLOOP=str(int(request.param == "uvloop"))), tmp_path)


def ask(peer: Peer, data: bytes, count: int, batch: int = 50) -> None:
    """Send a request so many times, and read the answers as one: they are all of one length."""
    peer.send(data)
    first = peer.read_answer()
    assert first.status < 500
    peer.send(data)
    size = 0
    while size == 0 or wait_until_quiet(peer):
        size += len(peer.receive())
    for _ in range(count // batch):
        peer.send(data * batch)
        peer.read_exactly(size * batch)


def wait_until_quiet(peer: Peer) -> bool:
    """Return whether more arrives."""
    peer.sock.settimeout(0.1)
    try:
        peer.unread += peer.sock.recv(65536)
    except TimeoutError:
        return False
    finally:
        peer.sock.settimeout(10)
    return True


UPLOAD = message("/upload", "POST", ["Content-Length: 2000"], b"x" * 2000)
REQUESTS = {
    "/": (message("/"), 20_000),
    "/later": (message("/later"), 20_000),
    "/thread": (message("/thread"), 2_000),
    "/stream": (message("/stream"), 10_000),
    "/error": (message("/error"), 20_000),
    "/nowhere": (message("/nowhere"), 20_000),
    "/upload": (UPLOAD, 8_000),
}


def test_a_hundred_thousand_requests_leave_nothing(measured: Measured) -> None:
    def all_of_them(share: int) -> None:
        for data, count in REQUESTS.values():
            with measured.connect() as peer:
                ask(peer, data, count // share)

    all_of_them(20)
    assert wait_until(measured.is_quiet)
    before, resident, descriptors = measured.state(), measured.cost.resident, measured.cost.descriptors
    all_of_them(1)
    assert wait_until(measured.is_quiet)
    after = measured.state()
    assert after["instances"] == before["instances"]
    assert after["objects"] - before["objects"] < 50
    assert (after["tasks"], after["exchanges"]) == (before["tasks"], 0)
    assert wait_until(lambda: measured.cost.descriptors <= descriptors)  # the last connection may still be closing
    assert measured.cost.resident - resident < 2 * MEGABYTE
    assert measured.warnings() == []


def test_a_request_that_knows_itself_is_collected(measured: Measured) -> None:
    """`request.context` may hold what holds the request: a session, a unit of work."""
    with measured.connect() as peer:
        ask(peer, message("/cycle"), 100)
        before = measured.state()["instances"]["Request"]
        ask(peer, message("/cycle"), 1000)
        assert measured.state()["instances"]["Request"] - before < 10


def test_a_stream_that_knows_its_response_is_collected(measured: Measured) -> None:
    with measured.connect() as peer:
        ask(peer, message("/own"), 100)
        before = measured.state()["instances"]["Streaming"]
        ask(peer, message("/own"), 1000)
        assert measured.state()["instances"]["Streaming"] - before < 10


def test_clients_that_vanish_leave_nothing(measured: Measured) -> None:
    targets = ["/endless", "/idle", "/stream", "/later", "/upload"]

    def come_and_go(times: int) -> None:
        for number in range(times):
            target = targets[number % len(targets)]
            headers = ["Content-Length: 10"] if target == "/upload" else []
            with measured.connect(receive_buffer=4096) as peer:
                peer.send(message(target, "POST" if headers else "GET", headers, b"half" if headers else b""))
                if number % 3:
                    if target != "/upload":
                        peer.sock.recv(1)
                    peer.reset()

    come_and_go(50)
    assert wait_until(measured.is_quiet)
    before, resident, descriptors = measured.state(), measured.cost.resident, measured.cost.descriptors
    come_and_go(1000)
    assert wait_until(measured.is_quiet)
    after = measured.state()
    assert after["instances"] == before["instances"]
    assert after["objects"] - before["objects"] < 50
    assert (after["tasks"], after["exchanges"]) == (before["tasks"], 0)
    assert wait_until(lambda: measured.cost.descriptors <= descriptors)  # the last connection may still be closing
    assert measured.cost.resident - resident < 4 * MEGABYTE


@pytest.mark.parametrize("count", [50, 1000])
def test_stalled_readers_of_an_endless_stream_are_shed(measured: Measured, count: int) -> None:
    with contextlib.ExitStack() as stack:
        with measured.connect() as peer:
            peer.ask("/stream")
        assert wait_until(measured.is_quiet)
        before, resident = measured.state(), measured.cost.resident
        peers = []
        poller = select.poll()
        sent: dict[int, float] = {}
        for _ in range(count):
            peers.append(stack.enter_context(measured.connect()))
            peers[-1].send(message("/endless"))
            sent[peers[-1].sock.fileno()] = time.monotonic()
            poller.register(peers[-1].sock, 0)  # of a reset the kernel tells unasked
        growth, took = 0, [0.0]
        while sent and max(took) < 5:
            growth = max(growth, measured.cost.resident - resident)
            for descriptor, _ in poller.poll(100):
                took.append(time.monotonic() - sent.pop(descriptor))
                poller.unregister(descriptor)
        assert len(took) == 1 + count, f"{len(sent)} of {count} are still connected"
        assert min(took[1:]) > 1.9
        assert sorted(took)[count // 2] < 2 + 1
        assert max(took) < 2 + 1 + count / 1000, "a thousand at once may keep a slow machine busy"
        assert growth < (10 if count == 50 else 200) * MEGABYTE
        assert wait_until(measured.is_quiet, 1)
        after = measured.state()
        assert after["finished"] - before["finished"] == count, "every generator was closed"
        assert wait_until(lambda: server_sockets(measured.port) == 0, 1)
        warnings = measured.warnings()
        assert len(warnings) == count
        for peer, warning in zip(peers, sorted_by_client(peers, warnings), strict=True):
            client = "{}:{}".format(*peer.sock.getsockname())
            for fact in (
                "chunk_timeout (2 s)",
                '"endless"',
                "GET /endless",
                f"client {client}:",
                "bytes sent",
                "of them",
            ):
                assert fact in warning, fact
        assert after["instances"] == before["instances"]
        assert after["tasks"] == before["tasks"]


def sorted_by_client(peers: list[Peer], warnings: list[str]) -> list[str]:
    """Return each peer's warning, or nothing."""
    return [next((w for w in warnings if f":{peer.sock.getsockname()[1]}:" in w), "") for peer in peers]


def test_a_large_response_that_nobody_reads_is_freed(measured: Measured) -> None:
    resident = measured.cost.resident
    with measured.connect(receive_buffer=4096) as peer:
        peer.send(message("/large"))
        assert wait_until(lambda: measured.cost.resident - resident > 90 * MEGABYTE, 2)
        assert wait_until(lambda: measured.cost.resident - resident < 10 * MEGABYTE, 1.5 + 1)
        assert server_sockets(measured.port) == 0
    assert "timeout (1.5 s)" in measured.warnings()[0]


def test_a_worker_without_connections_never_wakes(measured: Measured) -> None:
    time.sleep(0.3)
    before = measured.cost.wakeups
    time.sleep(1.5)
    assert measured.cost.wakeups == before, "it has never had one"
    with measured.connect() as peer:
        peer.ask("/later")
        peer.ask("/stream")
        peer.send(message("/endless"))
        peer.read_head()
        peer.reset()
    assert wait_until(measured.is_quiet)
    time.sleep(0.2)
    before = measured.cost.wakeups
    time.sleep(3)
    assert measured.cost.wakeups == before, "and now it has none left"


def test_idle_connections_cost_next_to_nothing(measured: Measured) -> None:
    count = 1000
    with contextlib.ExitStack() as stack:
        with measured.connect() as peer:
            peer.ask("/later")
        resident = measured.cost.resident
        for _ in range(count):
            peer = stack.enter_context(measured.connect())
            peer.send(message("/"))
            peer.read_answer()
        grown = measured.cost.resident - resident
        assert grown / count < 6 * 1024, f"{grown / count} bytes for each"
        time.sleep(0.2)
        wakeups, cpu = measured.cost.wakeups, measured.cost.cpu
        time.sleep(1)
        assert measured.cost.wakeups - wakeups <= 1
        assert measured.cost.cpu - cpu <= 0.01
