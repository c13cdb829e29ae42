"""Backpressure: neither a client that does not read nor one that sends too much makes the server hold much."""

import asyncio
import contextlib
import hashlib
import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from conftest import Serve, Start
from hostile import SLACK, Cost, Diary, connect, fill, message, seconds_to_resets, wait_until, warnings_of
from vibora import Response, RouteLimits, ServerLimits, StreamingResponse, Vibora

PIECE = b"x" * 64 * 1024
SMALL = 4096
MEGABYTE = 1024 * 1024


class TestStreams:
    """A generator is not advanced past the high-water mark (`ServerLimits.write_buffer`)."""

    @pytest.mark.parametrize("kind", ["never waiting", "waiting", "thread", "iterator"])
    @pytest.mark.parametrize("size", [1, 1000, len(PIECE)])
    def test_it_stops_when_the_client_does(self, serve: Serve, kind: str, size: int) -> None:  # noqa: C901  four sources
        made = 0

        def chunk() -> bytes:
            nonlocal made
            made += size
            return b"x" * size

        async def never_waiting() -> AsyncIterator[bytes]:
            while True:
                yield chunk()

        async def waiting() -> AsyncIterator[bytes]:
            while True:
                await asyncio.sleep(0)
                yield chunk()

        def in_a_thread() -> Iterator[bytes]:
            while True:
                yield chunk()

        class ByHand:
            def __aiter__(self) -> "ByHand":
                return self

            async def __anext__(self) -> bytes:
                return chunk()

        sources: dict[str, Any] = {
            "never waiting": never_waiting,
            "waiting": waiting,
            "thread": in_a_thread,
            "iterator": ByHand(),
        }
        app = Vibora()

        @app.get("/")
        async def home() -> StreamingResponse:
            return StreamingResponse(sources[kind], chunk_timeout=0)

        @app.get("/other")
        async def other() -> Response:
            return Response("other")

        served = serve(app)
        with connect(served, receive_buffer=SMALL) as peer:
            peer.send(message("/"))
            peer.read_head()
            stopped = 0

            def has_stopped() -> bool:
                nonlocal stopped
                before, stopped = stopped, made
                time.sleep(0.1)
                return before == stopped

            assert wait_until(has_stopped, 20), "it goes on and on"
            # 128 KiB in the kernel, 64 KiB in the transport, and as much again for the piece that goes too far.
            assert made < 600_000
            assert served.ask("/other").text == "other", "others do not notice"

    def test_it_goes_on_when_the_client_does(self, serve: Serve) -> None:
        rounds = 300

        async def chunks() -> AsyncIterator[bytes]:
            for number in range(rounds):
                yield number.to_bytes(2) * 10_000

        app = Vibora()

        @app.get("/")
        async def home() -> StreamingResponse:
            return StreamingResponse(chunks)

        served = serve(app)
        expected = b"".join(number.to_bytes(2) * 10_000 for number in range(rounds))
        with connect(served, receive_buffer=len(PIECE)) as peer:
            peer.send(message("/"))
            time.sleep(0.2)
            answer = peer.read_answer()
            assert hashlib.sha256(answer.content).digest() == hashlib.sha256(expected).digest()
        assert warnings_of(served) == []

    @pytest.mark.parametrize("chunk_size", [100, len(PIECE)])
    def test_an_endless_stream_leaves_time_for_others(self, serve: Serve, chunk_size: int) -> None:
        """Its generator never waits, and its client reads as fast as it can."""

        async def endless() -> AsyncIterator[bytes]:
            while True:
                yield b"x" * chunk_size

        app = Vibora()

        @app.get("/endless")
        async def flood() -> StreamingResponse:
            return StreamingResponse(endless)

        @app.get("/")
        async def home() -> Response:
            return Response("home")

        served = serve(app)
        stop = threading.Event()
        with served.connect() as greedy, served.connect() as peer:
            greedy.send(message("/endless"))

            def read() -> None:
                while not stop.is_set():
                    greedy.sock.recv(MEGABYTE)

            reader = threading.Thread(target=read)
            reader.start()
            try:
                waits = []
                for _ in range(20):
                    started = time.monotonic()
                    assert peer.ask().text == "home"
                    waits.append(time.monotonic() - started)
            finally:
                stop.set()
                reader.join()
        assert sorted(waits)[10] < 0.25, waits

    def test_the_bound_is_a_limit(self, serve: Serve) -> None:
        made = {1: 0, 4_000_000: 0}

        def app_of(write_buffer: int) -> Vibora:
            app = Vibora(server_limits=ServerLimits(write_buffer=write_buffer))

            async def chunks() -> AsyncIterator[bytes]:
                while True:
                    made[write_buffer] += 1
                    yield b"x" * 10_000

            @app.get("/")
            async def home() -> StreamingResponse:
                return StreamingResponse(chunks, chunk_timeout=0)

            return app

        for write_buffer in made:
            with connect(serve(app_of(write_buffer)), receive_buffer=SMALL) as peer:
                peer.send(message("/"))
                peer.read_head()
                time.sleep(0.3)
        assert made[1] * 10_000 < 400_000
        assert 4_000_000 <= made[4_000_000] * 10_000 < 5_000_000


class TestPipelining:
    """Requests that wait for their predecessors (RFC 9112 §9.3.2)."""

    @staticmethod
    def app(diary: Diary, go: asyncio.Event) -> Vibora:
        app = Vibora(route_limits=RouteLimits(timeout=60))

        @app.get("/quick/<number>")
        async def quick(number: int) -> Response:
            return Response(f"{number} ")

        @app.get("/slow/<number>")
        async def slow(number: int) -> Response:
            await asyncio.sleep(0.0005 * (number % 3))
            return Response(f"{number} ")

        @app.get("/thread/<number>")
        def thread(number: int) -> Response:
            return Response(f"{number} ")

        @app.get("/gate")
        async def gate() -> Response:
            diary.write("gate")
            await go.wait()
            return Response("gate ")

        return app

    @pytest.mark.parametrize("kinds", [["slow"], ["slow", "quick"], ["thread", "slow", "quick"], ["quick"]])
    def test_answers_come_in_the_order_of_the_requests(self, serve: Serve, kinds: list[str]) -> None:
        served = serve(self.app(Diary(), asyncio.Event()))
        count = 300
        with served.connect() as peer:
            peer.send(b"".join(message(f"/{kinds[n % len(kinds)]}/{n}") for n in range(count)))
            assert "".join(peer.read_answer().text for _ in range(count)) == "".join(f"{n} " for n in range(count))

    def test_one_at_a_time(self, serve: Serve) -> None:
        diary = Diary()
        go = asyncio.Event()
        served = serve(self.app(diary, go))
        with served.connect() as peer:
            peer.send(message("/gate") * 5)
            diary.wait_for("gate")
            peer.sock.settimeout(0.2)
            with pytest.raises(TimeoutError):
                peer.sock.recv(1)
            assert diary.count("gate") == 1
            peer.sock.settimeout(5)
            served.loop.call_soon_threadsafe(go.set)
            assert [peer.read_answer().text for _ in range(5)] == ["gate "] * 5

    def test_who_sends_more_than_is_served_has_to_wait(self, serve: Serve) -> None:
        diary = Diary()
        go = asyncio.Event()
        served = serve(self.app(diary, go))
        requests = message("/slow/0") * 1000
        with served.connect() as peer:
            peer.send(message("/gate"))
            diary.wait_for("gate")
            sent = fill(peer, requests, 0.5)
            assert sent < 16 * MEGABYTE, "the kernel holds some, the server next to nothing"
            served.loop.call_soon_threadsafe(go.set)
            assert peer.read_answer().text == "gate "
            # The last request may have been cut.
            for _ in range(min(2000, sent // len(message("/slow/0")))):
                assert peer.read_answer().text == "0 "

    def test_who_does_not_read_gets_no_more_answers_made(self, serve: Serve) -> None:
        made = 0
        app = Vibora()

        @app.get("/")
        async def home() -> Response:
            nonlocal made
            made += 1
            return Response(b"x" * 10_000)

        served = serve(app)
        with connect(served, receive_buffer=SMALL) as peer:
            sent = fill(peer, message("/") * 100, 0.5)
            assert sent < 16 * MEGABYTE
            # What the kernel takes of a connection that is no stream, by default four megabytes, and no more.
            assert made * 10_000 < 8 * MEGABYTE
            before = made
            assert len(peer.read_answer().content) == 10_000
            for _ in range(made + 10):
                assert len(peer.read_answer().content) == 10_000
            assert made > before, "and when it reads, they are"

    @pytest.mark.parametrize("event_loop", ["uvloop", "asyncio"])
    def test_a_flood_that_is_not_read_costs_little_and_ends(self, program: Start, event_loop: str) -> None:
        code = """
import asyncio
from vibora import Response, RouteLimits, StreamingResponse, Vibora
app = Vibora(route_limits=RouteLimits(timeout=2))
@app.get("/")
async def home():
    return Response(b"x" * 1000)
@app.get("/later")
async def later():
    await asyncio.sleep(0)
    return Response(b"x" * 1000)
@app.get("/stream")
async def stream():
    return StreamingResponse([b"x" * 1000], chunk_timeout=2)
"""
        process = program(
            *("-m", "vibora", "run", "app.py", "--port", "0"),
            code=code,
            VIBORA_UVLOOP=str(int(event_loop == "uvloop")),
        )
        cost = Cost(process)
        port = process.port()
        targets = ["/", "/later", "/stream"]
        with connect(port) as peer:
            for number in range(300):
                peer.ask(targets[number % 3])
        before = cost.resident
        with contextlib.ExitStack() as stack:
            other = stack.enter_context(connect(port))
            peers = [stack.enter_context(connect(port, receive_buffer=SMALL)) for _ in targets]
            for peer, target in zip(peers, targets, strict=True):
                sent = fill(peer, message(target) * 1000, 0.2)
                assert sent < 16 * MEGABYTE, "the server reads on and on"
            assert cost.resident - before < 6 * MEGABYTE
            used = cost.cpu
            assert other.ask("/").status == 200
            assert None not in seconds_to_resets(peers, 2 + SLACK)
            assert cost.cpu - used < 0.5, "it costs nothing while it waits"
