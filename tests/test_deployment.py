"""Recipes of docs/deployment.md, tried: nginx as the proxy in front."""

import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from conftest import PATIENCE, Peer
from programs import wait_until

if TYPE_CHECKING:
    from conftest import Start

NGINX = shutil.which("nginx") or next((path for path in ["/usr/sbin/nginx"] if Path(path).exists()), None)
DOCS = Path(__file__).parent.parent / "docs" / "deployment.md"

APP = """
import asyncio
from vibora import Request, StreamingResponse, TextResponse, Vibora

app = Vibora()

@app.get("/")
async def home(request: Request):
    return TextResponse(f"{request.headers['host']} {request.headers['x-forwarded-for']}")

@app.post("/length")
async def length(request: Request):
    return TextResponse(str(len(await request.content())))

@app.get("/numbers")
async def numbers():
    async def count():
        for number in range(3):
            yield b"%d" % number
            await asyncio.sleep(0.2)
    return StreamingResponse(count)
"""

pytestmark = pytest.mark.skipif(NGINX is None, reason="nginx is not installed (Debian: apt install nginx-light)")


class TestNginx:
    @pytest.fixture(params=["tcp", "unix"])
    def front(self, request: pytest.FixtureRequest, program: "Start", tmp_path: Path, free_port: int) -> Iterator[int]:
        """Start nginx with the recipe in front of a server; return its port."""
        where = "127.0.0.1:0" if request.param == "tcp" else f"unix:{tmp_path / 'app.sock'}"
        options = ["--workers", "2", "--socket-mode", "666"]
        self.run = program("-m", "vibora", "run", "app", "--bind", where, *options, code=APP)
        address = re.search(r"on (?:http://)?(\S+)", self.run.read_until("serving"))
        assert address
        (recipe,) = re.findall(r"^```nginx\n(.*?)^```$", DOCS.read_text(), re.MULTILINE | re.DOTALL)
        recipe = recipe.replace("127.0.0.1:8000", address[1]).replace("listen 80", f"listen 127.0.0.1:{free_port}")
        places = "".join(
            f"{name}_temp_path {tmp_path};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        configuration = tmp_path / "nginx.conf"
        configuration.write_text(
            f"daemon off; pid {tmp_path}/pid; error_log {tmp_path}/errors; worker_processes 1; master_process off;"
            f"events {{}} http {{ access_log off; {places} {recipe} }}"
        )
        assert NGINX
        nginx = subprocess.Popen([NGINX, "-c", str(configuration), "-p", str(tmp_path), "-e", f"{tmp_path}/errors"])
        try:
            wait_until(lambda: _listens(free_port), "nginx does not start")
            yield free_port
        finally:
            nginx.kill()
            nginx.wait()

    def test_it_passes_requests_and_answers_on(self, front: int) -> None:
        with _connect(front) as peer:
            assert peer.ask("/").text == "test 127.0.0.1"
            assert peer.ask("/length", "POST", content=b"x" * 300_000).text == "300000"
            assert peer.ask("/nowhere").status == 404

    def test_streams_come_as_they_are_yielded(self, front: int) -> None:
        with _connect(front) as peer:
            peer.send(b"GET /numbers HTTP/1.1\r\nHost: test\r\n\r\n")
            assert peer.read_head().get("transfer-encoding") == "chunked"
            times: list[float] = []
            while chunk := peer.read_chunk():
                assert chunk == b"%d" % len(times)
                times.append(time.monotonic())
        assert len(times) == 3
        assert times[-1] - times[0] > 0.3

    def test_rolling_is_not_noticed_behind_it(self, front: int) -> None:
        with _connect(front) as peer:
            peer.ask("/")
            self.run.send_signal(signal.SIGHUP)
            statuses = []
            until = time.monotonic() + 1.5
            while time.monotonic() < until:
                statuses.append(peer.ask("/").status)
                time.sleep(0.005)  # nginx closes a connection after a thousand requests
            assert set(statuses) == {200}
        self.run.read_until("replaced all workers")


def _connect(port: int) -> Peer:
    return Peer(socket.create_connection(("127.0.0.1", port), timeout=PATIENCE))


def _listens(port: int) -> bool:
    try:
        _connect(port).close()
    except ConnectionRefusedError:
        return False
    return True
