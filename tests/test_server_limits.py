"""The limits of a server: what happens at each, and that it is over when the cause is."""

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from conftest import PATIENCE, Serve, Served, Start
from vibora import Request, Response, RouteLimits, ServerLimits, StreamingResponse, TextResponse, Vibora
from vibora.exceptions import ConfigurationError
from vibora.listening import connection_limit


def example(limits: ServerLimits) -> Vibora:
    app = Vibora(server_limits=limits, route_limits=RouteLimits(max_body_size=10_000_000))
    app.release = asyncio.Event()  # type: ignore[attr-defined]

    @app.get("/")
    async def home() -> Response:
        return TextResponse("home")

    @app.get("/wait")
    async def wait() -> Response:
        await app.release.wait()  # type: ignore[attr-defined]
        return TextResponse("waited")

    @app.post("/wait")
    async def upload(request: Request) -> Response:
        await app.release.wait()  # type: ignore[attr-defined]
        return TextResponse(str(len(await request.content())))

    @app.get("/stream")
    async def stream() -> Response:
        async def pieces() -> AsyncIterator[bytes]:
            yield b"begun"
            await app.release.wait()  # type: ignore[attr-defined]

        return StreamingResponse(pieces)

    @app.get("/blocking")
    def blocking() -> Response:
        return TextResponse("threaded")

    return app


def release(served: Served) -> None:
    served.loop.call_soon_threadsafe(served.app.release.set)  # type: ignore[attr-defined]


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


class TestConcurrentRequests:
    def test_too_many_are_told_to_come_back(self, serve: Serve) -> None:
        served = serve(example(ServerLimits(max_concurrent_requests=2)))
        with served.connect() as first, served.connect() as second, served.connect() as third:
            first.send(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
            second.send(b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n")
            assert second.read_head().status == 200
            for target in ("/wait", "/stream", "/blocking"):
                answer = third.ask(target)
                assert answer.status == 503
                assert answer.get("retry-after") == "1"
                assert answer.get("connection") is None
            # What cannot wait is not refused: it is done before anybody could wait for it.
            assert third.ask().text == "home"
            release(served)
            assert first.read_answer().text == "waited"
            assert list(iter(second.read_chunk, b"")) == [b"begun"]
            assert third.ask("/wait").text == "waited"
        warnings = [record for record in served.log if "max_concurrent_requests (2)" in record.getMessage()]
        assert len(warnings) == 1

    def test_the_content_of_a_refused_request_is_no_request(self, serve: Serve) -> None:
        served = serve(example(ServerLimits(max_concurrent_requests=1)))
        with served.connect() as first, served.connect() as second:
            first.send(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
            wait_until(lambda: served.server._core.exchanges == 1)
            content = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 100
            assert second.ask("/wait", "POST", content=content).status == 503
            assert second.ask().text == "home"
            # More than is thrown away ends the connection.
            second.send(b"POST /wait HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n")
            answer = second.read_answer()
            assert (answer.status, answer.get("connection")) == (503, "close")
            release(served)
            assert first.read_answer().text == "waited"

    def test_pipelined_requests_count_one_at_a_time(self, serve: Serve) -> None:
        served = serve(example(ServerLimits(max_concurrent_requests=1)))
        with served.connect() as peer:
            peer.send(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n" * 3)
            release(served)
            assert [peer.read_answer().status for _ in range(3)] == [200, 200, 200]


class TestConnections:
    def test_more_than_there_may_be_wait_for_their_turn(self, serve: Serve) -> None:
        limit = 40
        served = serve(example(ServerLimits(max_connections=limit)))
        with contextlib.ExitStack() as stack:
            peers = [stack.enter_context(served.connect()) for _ in range(limit)]
            for peer in peers:
                assert peer.ask().text == "home"
            late = [stack.enter_context(served.connect()) for _ in range(60)]
            for peer in late:
                peer.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            time.sleep(0.3)
            assert limit <= served.server.connections <= limit + 33  # two turns of the loop
            # Those that are there are served.
            assert all(peer.ask().text == "home" for peer in peers)
            for peer in peers:
                peer.close()
            for peer in late:
                assert peer.read_answer().text == "home"
                peer.close()
            wait_until(lambda: served.server.connections == 0)
            # And it goes on as before.
            again = [stack.enter_context(served.connect()) for _ in range(limit - 1)]
            assert all(peer.ask().text == "home" for peer in again)
        warnings = [record for record in served.log if f"max_connections ({limit})" in record.getMessage()]
        assert len(warnings) == 1

    def test_a_server_that_accepts_no_more_can_be_stopped(self, serve: Serve) -> None:
        served = serve(example(ServerLimits(max_connections=1)))
        with served.connect() as first, served.connect() as second:
            assert first.ask().text == "home"
            time.sleep(0.1)
            served.server.shutdown()
            assert first.is_closed()
            assert second.is_closed()
        served.thread.join(PATIENCE)
        assert not served.thread.is_alive()

    @pytest.mark.parametrize("uvloop", ["1", "0"])
    def test_the_files_that_may_be_open_are_not_used_up(self, program: Start, uvloop: str) -> None:
        """`ulimit -n 256`, and a thousand clients: those that are in are served, nothing spins, and it passes."""
        running = program(
            "-c",
            "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256)); import app; app.app.run(port=0)",
            code=CODE,
            VIBORA_UVLOOP=uvloop,
        )
        port = running.port()
        with contextlib.ExitStack() as stack:
            customers = [stack.enter_context(running.connect(port)) for _ in range(10)]
            assert all(peer.ask().text == "home" for peer in customers)
            crowd = [stack.enter_context(socket.socket()) for _ in range(1000)]
            for sock in crowd:
                sock.settimeout(0)
                sock.connect_ex(("127.0.0.1", port))
            time.sleep(0.5)
            before = cpu(running.pid)
            for _ in range(5):
                # The app can still open files.
                assert all(peer.ask("/file").text == "opened" for peer in customers)
                time.sleep(0.1)
            assert cpu(running.pid) - before < 0.3
            assert files(running.pid) < 256
            for sock in crowd:
                sock.close()
        deadline = time.monotonic() + PATIENCE
        while True:
            with contextlib.suppress(OSError, EOFError), running.connect(port) as peer:
                if peer.ask().text == "home":
                    break
            assert time.monotonic() < deadline
        running.send_signal(15)
        _, text = running.wait()
        assert "max_connections (192) are open" in text
        assert text.count("\n") < 20, text

    @pytest.mark.parametrize("uvloop", ["1", "0"])
    def test_an_app_that_uses_up_the_files_does_not_make_it_spin(self, program: Start, uvloop: str) -> None:
        running = program(
            "-c",
            "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256)); import app; app.app.run(port=0)",
            code=CODE,
            VIBORA_UVLOOP=uvloop,
        )
        port = running.port()
        with running.connect(port) as customer:
            assert customer.ask("/hoard").text == "hoarded"
            crowd = [socket.socket() for _ in range(50)]
            for sock in crowd:
                sock.settimeout(0)
                sock.connect_ex(("127.0.0.1", port))
            time.sleep(0.2)
            before = cpu(running.pid)
            for _ in range(5):
                assert customer.ask().text == "home"
                time.sleep(0.2)
            assert cpu(running.pid) - before < 0.3
            assert customer.ask("/release").text == "released"
            for sock in crowd:
                sock.close()
        deadline = time.monotonic() + PATIENCE
        while True:
            with contextlib.suppress(OSError, EOFError), running.connect(port) as peer:
                if peer.ask().text == "home":
                    break
            assert time.monotonic() < deadline
            time.sleep(0.05)
        running.send_signal(15)
        _, text = running.wait()
        assert len(text) < 200_000, "the log is bounded"

    def test_as_many_as_files_may_be_open_less_some_for_the_app(self) -> None:
        possible = connection_limit(None)
        assert connection_limit(1) == 1
        assert connection_limit(1 << 40) == possible


CODE = """
from vibora import TextResponse, Vibora

app = Vibora()
kept = []

@app.get("/")
async def home():
    return TextResponse("home")

@app.get("/file")
async def file():
    with open(__file__):
        return TextResponse("opened")

@app.get("/hoard")
async def hoard():
    try:
        while True:
            kept.append(open(__file__))
    except OSError:
        return TextResponse("hoarded")

@app.get("/release")
async def release():
    while kept:
        kept.pop().close()
    return TextResponse("released")
"""


def cpu(pid: int) -> float:
    """Return the seconds that a process has computed."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def files(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


@pytest.fixture(autouse=True)
def many_files() -> Iterator[None]:
    """Let the test itself have a thousand connections."""
    import resource  # noqa: PLC0415  not on Windows

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 4096 if hard == resource.RLIM_INFINITY else min(4096, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class TestSettings:
    @pytest.mark.parametrize("name", ["max_connections", "max_concurrent_requests"])
    @pytest.mark.parametrize("value", [0, -1, 1.5, "1", True])
    def test_takes_whole_numbers(self, name: str, value: object) -> None:
        with pytest.raises(ConfigurationError, match=f"ServerLimits.{name} takes a whole number"):
            ServerLimits(**{name: value})  # type: ignore[arg-type]
