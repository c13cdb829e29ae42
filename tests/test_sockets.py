"""What a server listens on: addresses of every kind, sockets it was given, and what it tells the service manager."""

import asyncio
import contextlib
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from conftest import PATIENCE, Peer, Program
from programs import APP, in_proc, wait_until
from vibora import ConfigurationError, TextResponse, Vibora
from vibora.exceptions import CannotListen
from vibora.sockets import Listeners, bind, parse_address, tune

if TYPE_CHECKING:
    from conftest import Serve, Start

    Run = Callable[[Coroutine[Any, Any, Any]], Any]


def connect_unix(path: Path | str) -> Peer:
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(PATIENCE)
    sock.connect(str(path))
    return Peer(sock)


class TestAddresses:
    @pytest.mark.parametrize(
        ("text", "address"),
        [
            ("127.0.0.1:8000", ("127.0.0.1", 8000)),
            ("localhost:0", ("localhost", 0)),
            ("[::1]:65535", ("::1", 65535)),
            ("[::]:80", ("::", 80)),
        ],
    )
    def test_are_read(self, text: str, address: tuple[str, int]) -> None:
        assert parse_address(text) == address

    @pytest.mark.parametrize(
        "text",
        ["", "8000", ":8000", "host", "host:", "host:x", "host:65536", "::1:80", "[::1]", "[host]:80", "[::1:80"],
    )
    def test_that_make_no_sense_are_refused(self, text: str) -> None:
        with pytest.raises(ConfigurationError, match="expected HOST:PORT"):
            parse_address(text)

    def test_several_at_once(self, program: "Start", tmp_path: Path, free_port: int) -> None:
        path = tmp_path / "app.sock"
        for workers in ("1", "2"):
            run = program(
                *("-m", "vibora", "run", "app", "--workers", workers, "--bind", f"127.0.0.1:{free_port}"),
                *("--bind", f"unix:{path}", "--bind", f"[::1]:{free_port}"),
                code=APP,
            )
            line = run.read_until("serving")
            assert f"http://127.0.0.1:{free_port} and " in line
            assert f"unix:{path}" in line
            assert f"http://[::1]:{free_port}" in line
            with connect_unix(path) as peer:
                assert peer.ask("/").status == 200
            for host in ("127.0.0.1", "::1"):
                with Peer(socket.create_connection((host, free_port), timeout=PATIENCE)) as peer:
                    assert peer.ask("/").status == 200
            run.send_signal(signal.SIGTERM)
            assert run.wait()[0] == 0
            assert not path.exists()

    def test_in_a_loop_that_runs(self, run: "Run", tmp_path: Path) -> None:
        path = tmp_path / "app.sock"

        async def main() -> None:
            async with await Vibora().start(bind=[f"unix:{path}", "127.0.0.1:0"], socket_mode=0o600) as server:
                assert stat.S_IMODE(path.stat().st_mode) == 0o600
                assert len(server.sockets) == 2
                _, writer = await asyncio.open_unix_connection(path)
                writer.close()
                await writer.wait_closed()
            assert not path.exists()

        run(main())

    def test_a_port_and_a_bind_contradict_each_other(self) -> None:
        with pytest.raises(ConfigurationError, match="bind= says where to listen"):
            Vibora().run(port=1, bind="127.0.0.1:2")


class TestUnixSockets:
    def open(self, path: Path, mode: int = 0o660) -> Listeners:
        return Listeners.open([f"unix:{path}"], socket_mode=mode)

    @pytest.mark.parametrize("mode", [0o600, 0o660, 0o666])
    def test_have_the_permissions_they_are_given(self, tmp_path: Path, mode: int) -> None:
        path = tmp_path / "app.sock"
        listeners = self.open(path, mode)
        assert stat.S_IMODE(path.stat().st_mode) == mode
        listeners.close()
        assert not path.exists()

    def test_one_whose_server_was_killed_is_replaced(self, tmp_path: Path) -> None:
        path = tmp_path / "app.sock"
        for sock in self.open(path).sockets:
            sock.close()
        assert path.exists()
        listeners = self.open(path)
        listeners.close()
        assert not path.exists()

    def test_one_whose_server_lives_is_not(self, tmp_path: Path) -> None:
        path = tmp_path / "app.sock"
        first = self.open(path)
        first.sockets[0].listen()
        with pytest.raises(CannotListen, match="address already in use; stop the other server, or choose another path"):
            self.open(path)
        with connect_unix(path):
            pass
        first.close()

    def test_what_is_no_socket_is_left_alone(self, tmp_path: Path) -> None:
        path = tmp_path / "app.sock"
        path.write_text("precious")
        with pytest.raises(CannotListen, match="something that is no socket has this name"):
            self.open(path)
        assert path.read_text() == "precious"

    def test_one_that_somebody_else_has_made_since_is_left_alone(self, tmp_path: Path) -> None:
        path = tmp_path / "app.sock"
        first = self.open(path)
        path.unlink()
        second = self.open(path)
        first.close()
        assert path.exists()
        second.close()

    def test_one_is_there_as_long_as_it_is_listened_on(self, program: "Start", tmp_path: Path) -> None:
        path = tmp_path / "app.sock"
        run = program(
            *("-m", "vibora", "run", "app", "--workers", "2", "--bind", f"unix:{path}", "--shutdown-delay", "0.5"),
            code=APP,
        )
        run.read_until("serving")
        run.send_signal(signal.SIGTERM)
        run.read_until("not ready any more")
        with connect_unix(path) as peer:
            assert peer.ask("/").status == 200
        assert run.wait()[0] == 0
        assert not path.exists()

    def test_a_directory_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(CannotListen, match="make the directory"):
            self.open(tmp_path / "nowhere" / "app.sock")

    def test_serve_requests(self, serve: "Serve", tmp_path: Path) -> None:
        app = Vibora()

        @app.get("/")
        async def home() -> TextResponse:
            return TextResponse("home")

        listeners = self.open(tmp_path / "app.sock")
        served = serve(app, sock=listeners.sockets)
        assert served.url == f"unix:{tmp_path / 'app.sock'}"
        with connect_unix(tmp_path / "app.sock") as peer:
            assert peer.ask("/").text == "home"
        served.stop()
        assert (tmp_path / "app.sock").exists()  # a server does not remove what others may listen on
        listeners.close()


class TestConnections:
    """What they inherit, on each loop, from sockets that were made in each way."""

    @pytest.mark.parametrize("made", ["bound", "without a protocol", "inherited"])
    def test_small_answers_leave_at_once_and_peers_are_looked_for(self, run: "Run", made: str) -> None:
        if made == "without a protocol":
            listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            listener.bind(("127.0.0.1", 0))
        else:
            (listener,) = bind("127.0.0.1", 0)
        if made == "inherited":
            listener = socket.socket(fileno=listener.detach())
        tune(listener)

        class Watcher(asyncio.Protocol):
            seen: asyncio.Future[tuple[int, int]]
            lost: asyncio.Future[None]

            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                sock = transport.get_extra_info("socket")
                self.seen.set_result(
                    (
                        sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY),
                        sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE),
                    )
                )
                transport.close()

            def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  how the loop calls it
                self.lost.set_result(None)

        async def main() -> tuple[int, int]:
            loop = asyncio.get_running_loop()
            Watcher.seen, Watcher.lost = loop.create_future(), loop.create_future()
            async with await loop.create_server(Watcher, sock=listener):
                _, writer = await asyncio.open_connection(*listener.getsockname())
                seen = await Watcher.seen
                await Watcher.lost
                writer.close()
                await writer.wait_closed()
                return seen

        assert run(main()) == (1, 1)


def start_with(directory: Path, listener: socket.socket, code: str) -> Program:
    """Start a program with a listener as its descriptor 3, and LISTEN_PID as systemd sets it."""
    descriptor = listener.fileno()
    shell = f"exec 3<&{descriptor}; LISTEN_PID=$$ LISTEN_FDS=1 exec {sys.executable} {code}"
    (directory / "app.py").write_text(APP)
    environment = os.environ.copy()
    process = subprocess.Popen(
        ["/bin/bash", "-c", shell],
        cwd=directory,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        pass_fds=[descriptor],
    )
    program = Program.__new__(Program)
    program.process, program.read = process, b""
    return program


class TestInherited:
    @pytest.fixture
    def listener(self) -> Iterator[socket.socket]:
        with socket.create_server(("127.0.0.1", 0)) as sock:
            yield sock

    @pytest.mark.parametrize("workers", ["1", "2"])
    @pytest.mark.parametrize("how", ["systemd", "number"])
    def test_are_listened_on(self, tmp_path: Path, listener: socket.socket, workers: str, how: str) -> None:
        option = "--bind fd://3" if how == "number" else ""
        run = start_with(tmp_path, listener, f"-m vibora run app --workers {workers} {option}")
        try:
            port = run.port()
            assert port == listener.getsockname()[1]
            with run.connect(port) as peer:
                assert peer.ask("/").status == 200
            run.send_signal(signal.SIGTERM)
            assert run.wait()[0] == 0
            # Whoever passed it on still has it: the next one finds the connections that came in between.
            with socket.create_connection(("127.0.0.1", port), timeout=1):
                pass
        finally:
            run.kill()

    def test_an_address_goes_before_the_sockets_of_systemd(self, tmp_path: Path, listener: socket.socket) -> None:
        run = start_with(tmp_path, listener, "-m vibora run app --port 0")
        try:
            assert run.port() != listener.getsockname()[1]
        finally:
            run.kill()

    def test_a_number_that_is_no_socket(self, program: "Start") -> None:
        code, text = program("-m", "vibora", "run", "app", "--bind", "fd://77", code=APP).wait()
        assert code == 69
        assert text.startswith("error: cannot listen on fd://77: bad file descriptor; ")


@in_proc
class TestServiceManager:
    """sd_notify(3)."""

    @pytest.fixture
    def manager(self, tmp_path: Path) -> Iterator[socket.socket]:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.bind(str(tmp_path / "notify"))
            sock.settimeout(PATIENCE)
            yield sock

    @pytest.mark.parametrize("workers", ["1", "2"])
    def test_is_told(self, program: "Start", tmp_path: Path, manager: socket.socket, workers: str) -> None:
        run = program(
            *("-m", "vibora", "run", "app", "--port", "0", "--workers", workers),
            code=APP,
            NOTIFY_SOCKET=str(tmp_path / "notify"),
        )
        run.port()
        assert manager.recv(1024) == b"READY=1"
        if workers == "2":
            run.send_signal(signal.SIGHUP)
            assert manager.recv(1024).startswith(b"RELOADING=1\nMONOTONIC_USEC=")
            assert manager.recv(1024) == b"READY=1"
        run.send_signal(signal.SIGTERM)
        assert manager.recv(1024) == b"STOPPING=1"
        assert run.wait()[0] == 0

    @pytest.mark.parametrize("options", [[], ["--supervise"]], ids=["1 process", "supervised"])
    def test_hears_that_it_is_alive(
        self, program: "Start", tmp_path: Path, manager: socket.socket, options: list[str]
    ) -> None:
        run = program(
            *("-m", "vibora", "run", "app", "--port", "0", *options),
            code=APP,
            NOTIFY_SOCKET=str(tmp_path / "notify"),
            WATCHDOG_USEC="200000",
        )
        run.port()
        beats = 0
        while beats < 3:
            beats += manager.recv(1024) == b"WATCHDOG=1"

    def test_that_has_gone_is_no_matter(self, program: "Start", tmp_path: Path) -> None:
        run = program("-m", "vibora", "run", "app", "--port", "0", code=APP, NOTIFY_SOCKET=str(tmp_path / "nobody"))
        with run.connect(run.port()) as peer:
            assert peer.ask("/").status == 200


@in_proc
def test_an_idle_program_does_not_wake_up(program: "Start") -> None:
    """The parent asks whether loops turn only every 20 s; nobody else has a timer."""
    run = program("-m", "vibora", "run", "app", "--port", "0", "--workers", "2", code=APP)
    port = run.port()
    with run.connect(port) as peer:
        peer.ask("/")
    processes = [run.pid, *run.children()]

    def switches() -> list[str]:
        found = []
        for pid in processes:
            for task in Path(f"/proc/{pid}/task").iterdir():
                with contextlib.suppress(FileNotFoundError):
                    lines = (task / "status").read_text().splitlines()
                    found += [line for line in lines if line.startswith("voluntary")]
        return found

    # The first ping comes with the start, and the connection has just been closed.
    def rests() -> bool:
        before = switches()
        time.sleep(0.2)
        return switches() == before

    wait_until(rests, "it never rests", 5)
    before = switches()
    time.sleep(1.5)
    assert switches() == before
