"""Signals: how a program stops, step by step, and what is left of it (nothing)."""

import os
import pty
import shutil
import signal
import ssl
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from conftest import PATIENCE
from programs import APP, answering, in_proc, wait_for_end, wait_until

if TYPE_CHECKING:
    from conftest import Program, Start

pytestmark = in_proc

SIGNALS = [signal.SIGINT, signal.SIGTERM]


@pytest.fixture(params=[1, 3], ids=["1 worker", "3 workers"])
def running(request: pytest.FixtureRequest, program: "Start") -> "Program":
    workers: int = request.param
    return program("-m", "vibora", "run", "app", "--port", "0", "--workers", str(workers), code=APP, GRACEFUL="10")


class TestStopping:
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
        story = [line.partition("] ")[2] for line in text.splitlines()]
        assert story[1:] == [
            f"stopping on {number.name}; once more to hurry",
            "stopping: accepting no more, 1 connections are open",
            "stopped",
        ]
        wait_for_end(processes)

    def test_what_is_being_answered_may_end(self, running: "Program") -> None:
        with running.connect(running.port()) as peer:
            peer.send(b"GET /slow HTTP/1.1\r\nHost: test\r\n\r\n")
            running.read_until("entered")
            running.send_signal(signal.SIGTERM)
            answer = peer.read_answer()
            assert (answer.text, answer.get("connection")) == ("in the end", "close")
        assert running.wait()[0] == 0

    def test_a_request_that_comes_as_it_stops_is_the_last_of_its_connection(self, running: "Program") -> None:
        port = running.port()
        with running.connect(port) as idle, running.connect(port) as peer:
            peer.ask("/")
            running.send_signal(signal.SIGTERM)
            running.read_until("accepting no more")
            answer = peer.ask("/")
            assert (answer.status, answer.get("connection")) == (200, "close")
            assert idle.is_closed()
        assert running.wait()[0] == 0

    def test_connections_that_wait_to_be_accepted_are(self, program: "Start") -> None:
        """The loop is busy while they come, and when the signal comes."""
        busy = APP + "\n@app.get('/busy')\nasync def busy():\n    print('entered', file=sys.stderr, flush=True)\n"
        run = program(
            "-m", "vibora", "run", "app", "--port", "0", code=f"{busy}    time.sleep(0.6)\n    return await home()\n"
        )
        port = run.port()
        with run.connect(port) as first:
            first.send(b"GET /busy HTTP/1.1\r\nHost: test\r\n\r\n")
            run.read_until("entered")
            waiting = [run.connect(port) for _ in range(20)]
            for peer in waiting:
                peer.send(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
            run.send_signal(signal.SIGTERM)
            answers = [peer.read_answer() for peer in (first, *waiting)]
            assert all(peer.is_closed() for peer in (first, *waiting))
            for peer in waiting:
                peer.close()
        assert {answer.status for answer in answers} == {200}
        assert run.wait()[0] == 0

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


class TestReadiness:
    def test_it_serves_on_and_says_that_it_is_not_ready(self, program: "Start") -> None:
        run = program("-m", "vibora", "run", "app", "--port", "0", "--shutdown-delay", "1", code=APP)
        port = run.port()
        with run.connect(port) as probe:
            assert probe.ask("/ready").status == 200
            run.send_signal(signal.SIGTERM)
            run.read_until("not ready any more, serving for another 1 s")
            assert probe.ask("/ready").status == 503
            with run.connect(port) as peer:
                answer = peer.ask("/")
                assert (answer.status, answer.get("connection")) == (200, None)
        assert run.wait()[0] == 0


class TestTerminals:
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

    @pytest.mark.parametrize("workers", ["1", "2"])
    @pytest.mark.parametrize("how", ["Ctrl-C", "closing"])
    def test_it_leaves_nothing_behind(self, tmp_path: Path, workers: str, how: str) -> None:
        """Ctrl-C in a terminal, and a terminal that is closed, as with a window or a lost connection."""
        (tmp_path / "app.py").write_text(APP)
        log = tmp_path / "log"
        pid, terminal = pty.fork()
        if pid == 0:  # pragma: no cover  it becomes the program
            os.chdir(tmp_path)
            command = f"exec {sys.executable} -m vibora run app --port 0 --workers {workers} 2>>log"
            os.execv("/bin/sh", ["sh", "-c", command])  # noqa: S606  it redirects
        try:
            wait_until(lambda: log.exists() and "serving" in log.read_text(), "it does not serve")
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            if how == "Ctrl-C":
                os.write(terminal, b"\x03")
                wait_until(lambda: "stopped" in log.read_text(), "it does not stop")
            else:
                os.close(terminal)
            wait_until(lambda: os.waitpid(pid, os.WNOHANG)[0] == pid, "it does not end")
            wait_for_end([int(child) for child in children])
        finally:
            if how == "Ctrl-C":
                os.close(terminal)
        text = log.read_text()
        assert f"stopping on {'SIGINT' if how == 'Ctrl-C' else 'SIGHUP'}" in text
        assert "Traceback" not in text
        assert "ERROR" not in text


class TestHangUp:
    def test_a_single_process_says_what_it_cannot_do(self, program: "Start") -> None:
        run = program("-m", "vibora", "run", "app", "--port", "0", code=APP)
        port = run.port()
        run.send_signal(signal.SIGHUP)
        assert "see --supervise" in run.read_until("SIGHUP")
        with run.connect(port) as peer:
            assert peer.ask("/").status == 200

    def test_a_supervised_one_takes_up_new_code(self, program: "Start", tmp_path: Path) -> None:
        run = program("-m", "vibora", "run", "app", "--port", "0", "--supervise", code=APP)
        port = run.port()
        (before,) = answering(run, port, 1)
        (tmp_path / "app.py").write_text(APP.replace("str(os.getpid())", "f'{os.getpid()}0000000'"))
        run.send_signal(signal.SIGHUP)
        run.read_until("replaced all workers")
        wait_for_end([before])
        (after,) = answering(run, port, 1)
        assert after % 10_000_000 == 0
        assert after // 10_000_000 in run.children()

    @pytest.mark.parametrize("workers", ["1", "2"])
    def test_certificates_that_were_renewed_are_read(
        self, program: "Start", tmp_path: Path, certificates: Path, workers: str
    ) -> None:
        cert = tmp_path / "cert.pem"
        shutil.copy(certificates / "server.pem", cert)
        run = program(
            *("-m", "vibora", "run", "app", "--port", "0", "--cert", str(cert), "--workers", workers), code=APP
        )
        port = int(run.read_until("serving").partition("https://127.0.0.1:")[2].split(" ")[0])

        def shown() -> str:
            return ssl.get_server_certificate(("127.0.0.1", port), timeout=PATIENCE)

        before = shown()
        shutil.copy(certificates / "expired.pem", cert)
        run.send_signal(signal.SIGHUP)
        run.read_until("read again" if workers == "1" else "replaced all workers")
        # A worker that is replaced may still have accepted the first.
        wait_until(lambda: shown() != before, "the old certificate is still shown")
        if workers == "1":
            cert.write_text("nonsense")
            run.send_signal(signal.SIGHUP)
            run.read_until("the certificates stay what they were")
            assert shown() != before
