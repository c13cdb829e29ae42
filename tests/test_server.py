"""Processes: signals, workers, and what is left of them (nothing)."""

import contextlib
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from vibora import ConfigurationError, Vibora

if TYPE_CHECKING:
    from conftest import Program, Start

pytestmark = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="processes are looked up in /proc")

APP = """
import asyncio, os, sys, time
from vibora import JsonResponse, Response, ServerLimits, StreamingResponse, TextResponse, Vibora

app = Vibora(server_limits=ServerLimits(graceful_timeout=float(os.environ.get("GRACEFUL", 10))))

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
    time.sleep(60)

@app.get("/crash")
async def crash():
    os._exit(3)

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

SIGNALS = [signal.SIGINT, signal.SIGTERM]


def is_alive(pid: int) -> bool:
    """Return whether a process runs; a zombie does not."""
    with contextlib.suppress(FileNotFoundError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def wait_for_end(pids: list[int], seconds: float = 5.0) -> None:
    until = time.monotonic() + seconds
    while any(map(is_alive, pids)):
        assert time.monotonic() < until, "a process is left behind"
        time.sleep(0.01)


@pytest.fixture(params=[1, 3], ids=["1 worker", "3 workers"])
def running(request: pytest.FixtureRequest, program: "Start") -> "Program":
    workers: int = request.param
    return program("-m", "vibora", "run", "app", "--port", "0", "--workers", str(workers), code=APP, GRACEFUL="10")


class TestSignals:
    @pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
    def test_an_idle_server_stops_at_once(self, running: "Program", number: signal.Signals) -> None:
        port = running.port()
        processes = [running.pid, *running.children()]
        with running.connect(port) as peer:
            peer.ask("/")
            started = time.monotonic()
            running.send_signal(number)
            assert peer.is_closed()
        code, text = running.wait()
        assert code == 0, text
        assert time.monotonic() - started < 2
        assert f"stopping on {number.name}; once more to hurry" in text
        assert text.count("\n") == 2, text
        wait_for_end(processes)

    def test_what_is_being_answered_may_end(self, running: "Program") -> None:
        with running.connect(running.port()) as peer:
            peer.send(b"GET /slow HTTP/1.1\r\nHost: test\r\n\r\n")
            running.read_until("entered")
            running.send_signal(signal.SIGTERM)
            answer = peer.read_answer()
            assert (answer.text, answer.get("connection")) == ("in the end", "close")
        assert running.wait()[0] == 0

    def test_a_second_signal_hurries(self, running: "Program") -> None:
        with running.connect(running.port()) as peer:
            peer.send(b"GET /endless HTTP/1.1\r\nHost: test\r\n\r\n")
            running.read_until("entered")
            started = time.monotonic()
            running.send_signal(signal.SIGINT)
            running.read_until("stopping on SIGINT")
            running.send_signal(signal.SIGINT)
            running.read_until("cleaned up")
        code, text = running.wait()
        assert code == 0
        assert time.monotonic() - started < 4
        assert "stopping: cancelled 1 exchanges" in text
        assert "Traceback" not in text

    def test_the_grace_ends(self, program: "Start") -> None:
        run = program("-m", "vibora", "run", "app", "--port", "0", code=APP, GRACEFUL="0.1")
        with run.connect(run.port()) as peer:
            peer.send(b"GET /endless HTTP/1.1\r\nHost: test\r\n\r\n")
            run.read_until("entered")
            run.send_signal(signal.SIGTERM)
            run.read_until("cleaned up")
        assert run.wait()[0] == 0

    def test_a_terminal_sends_its_signal_to_all_processes(self, program: "Start") -> None:
        run = program("-m", "vibora", "run", "app", "--port", "0", "--workers", "2", code=APP)
        with run.connect(run.port()) as peer:
            peer.send(b"GET /slow HTTP/1.1\r\nHost: test\r\n\r\n")
            run.read_until("entered")
            os.killpg(run.pid, signal.SIGINT)
            assert peer.read_answer().text == "in the end"
        code, text = run.wait()
        assert code == 0
        assert "Traceback" not in text
        assert "died" not in text

    def test_a_signal_while_the_app_is_imported(self, program: "Start") -> None:
        code = "import sys, time\nprint('importing', file=sys.stderr, flush=True)\ntime.sleep(60)\n"
        run = program("-m", "vibora", "run", "app", code=code)
        run.read_until("importing")
        run.send_signal(signal.SIGINT)
        status, text = run.wait()
        assert status == 130
        assert "Traceback" not in text

    def test_a_handler_can_shut_it_down(self, running: "Program") -> None:
        with running.connect(running.port()) as peer:
            assert peer.ask("/stop").text == "bye"
        assert running.wait()[0] == 0


class TestWorkers:
    @pytest.fixture(params=["fork", "spawn"])
    def run(self, request: pytest.FixtureRequest, program: "Start") -> "Program":
        if request.param == "fork":
            return program("-m", "vibora", "run", "app", "--port", "0", "--workers", "2", code=APP, GRACEFUL="1")
        code = f"{APP}\nif __name__ == '__main__':\n    import multiprocessing\n    "
        code += "multiprocessing.set_start_method('spawn')\n    app.run(port=0, workers=2)\n"
        return program("app.py", code=code, GRACEFUL="1")

    def pids(self, run: "Program", port: int, count: int) -> set[int]:
        """Return the processes that answer, once there are so many."""
        found: set[int] = set()
        until = time.monotonic() + 10
        while time.monotonic() < until:
            with run.connect(port) as peer:
                found.add(int(peer.ask("/").text))
            if len(found) == count:
                return found
        pytest.fail(f"{found} answer, {count} should")

    def test_each_answers_and_none_is_left(self, run: "Program") -> None:
        line = run.read_until("serving")
        assert "(2 workers, uvloop)" in line
        port = int(line.partition("http://127.0.0.1:")[2].split(" ")[0])
        pids = self.pids(run, port, 2)
        assert run.pid not in pids
        assert pids <= set(run.children())
        run.send_signal(signal.SIGTERM)
        assert run.wait()[0] == 0
        wait_for_end(list(pids))

    def test_one_that_crashes_is_replaced(self, run: "Program") -> None:
        port = run.port()
        before = self.pids(run, port, 2)
        with run.connect(port) as peer, contextlib.suppress(ConnectionError, EOFError):
            peer.ask("/crash")
        line = run.read_until("ended with exit code 3")
        assert "; a new one starts in 0.5 s" in line
        (gone,) = {pid for pid in before if not is_alive(pid)}
        assert f"(pid {gone})" in line
        self.until_replaced(run, gone)
        after = self.pids(run, port, 2)
        assert len(after & before) == 1

    def test_one_that_is_killed_is_replaced(self, run: "Program") -> None:
        port = run.port()
        victim = min(self.pids(run, port, 2))
        os.kill(victim, signal.SIGKILL)
        assert f"(pid {victim}) was killed by SIGKILL" in run.read_until("was killed")
        self.until_replaced(run, victim)
        assert victim not in self.pids(run, port, 2)

    def test_one_that_is_told_to_stop_is_replaced(self, run: "Program") -> None:
        port = run.port()
        victim = min(self.pids(run, port, 2))
        os.kill(victim, signal.SIGTERM)
        assert f"(pid {victim}) ended with exit code 143" in run.read_until("ended with")
        self.until_replaced(run, victim)
        assert victim not in self.pids(run, port, 2)

    def until_replaced(self, run: "Program", gone: int) -> None:
        until = time.monotonic() + 5
        while gone in (children := run.children()) or len(children) < 2:
            assert time.monotonic() < until, "no worker replaces the one that is gone"
            time.sleep(0.01)

    def test_they_stop_when_their_parent_is_killed(self, run: "Program") -> None:
        pids = self.pids(run, run.port(), 2)
        os.kill(run.pid, signal.SIGKILL)
        run.wait()
        wait_for_end(list(pids))

    def test_one_that_is_stuck_is_killed(self, run: "Program") -> None:
        with run.connect(run.port()) as peer:
            peer.send(b"GET /stuck HTTP/1.1\r\nHost: test\r\n\r\n")
            run.read_until("entered")
            pids = run.children()
            for _ in range(3):  # the third signal waits for nothing
                run.send_signal(signal.SIGTERM)
                time.sleep(0.05)
            code, text = run.wait()
        assert code == 0
        assert "does not stop: killed" in text
        wait_for_end(pids)

    def test_programs_that_they_start_can_be_interrupted(self, run: "Program") -> None:
        with run.connect(run.port()) as peer:
            assert "default_int_handler" in peer.ask("/child").text

    def test_one_that_cannot_start_fails_the_whole_start(self, program: "Start") -> None:
        code = (
            "import multiprocessing, os, sys\n" + APP + "\nif multiprocessing.parent_process():\n    sys.exit(5)\n"
            "if __name__ == '__main__':\n"
            "    multiprocessing.set_start_method('spawn')\n"
            "    app.run(port=0, workers=2)\n"
        )
        status, text = program("app.py", code=code).wait()
        assert status == 5
        assert "ended with exit code 5 before it could serve" in text
        assert "serving" not in text

    def test_an_app_that_cannot_be_imported_says_what_to_do(self, program: "Start") -> None:
        code = (
            "import multiprocessing\nfrom vibora import Vibora\n"
            "multiprocessing.set_start_method('spawn')\nVibora().run(port=0, workers=2)\n"
        )
        status, text = program("app.py", code=code).wait()
        assert status == 1
        assert "workers import the app here: run it with `vibora run module:app`" in text

    def test_a_socket_of_the_program_is_shared(self, program: "Start") -> None:
        code = (
            "import socket\n" + APP + "\nif __name__ == '__main__':\n"
            "    app.run(sock=socket.create_server(('127.0.0.1', 0)), workers=2)\n"
        )
        run = program("app.py", code=code)
        port = run.port()
        with run.connect(port) as peer:
            assert int(peer.ask("/").text) in run.children()

    def test_less_than_one_is_refused(self) -> None:
        with pytest.raises(ConfigurationError, match="at least one worker is needed, got 0"):
            Vibora().run(port=0, workers=0)
