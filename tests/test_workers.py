"""Workers: a parent looks after them, and clients do not notice."""

import asyncio
import contextlib
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from programs import APP, Load, answering, in_proc, is_alive, wait_for_end, wait_until
from vibora import ConfigurationError, Vibora

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from conftest import Program, Start

    Run = Callable[[Coroutine[Any, Any, None]], None]

pytestmark = in_proc

SPAWN = f"""{APP}
if __name__ == '__main__':
    import multiprocessing
    multiprocessing.set_start_method('spawn')
    app.run(port=0, workers=2)
"""


def start(program: "Start", *options: str, workers: int = 2, code: str = APP) -> "Program":
    return program("-m", "vibora", "run", "app", "--port", "0", "--workers", str(workers), *options, code=code)


class TestBothWaysToStart:
    @pytest.fixture(params=["fork", "spawn"])
    def run(self, request: pytest.FixtureRequest, program: "Start") -> "Program":
        if request.param == "fork":
            return program("-m", "vibora", "run", "app", "--port", "0", "--workers", "2", code=APP, GRACEFUL="1")
        return program("app.py", code=SPAWN, GRACEFUL="1")

    def test_each_answers_and_none_is_left(self, run: "Program") -> None:
        line = run.read_until("serving")
        assert "(2 workers, uvloop)" in line
        port = int(line.partition("http://127.0.0.1:")[2].split(" ")[0])
        pids = answering(run, port, 2)
        assert run.pid not in pids
        assert pids == set(run.children())
        run.send_signal(signal.SIGTERM)
        assert run.wait()[0] == 0
        wait_for_end(list(pids))

    def test_one_that_crashes_is_replaced(self, run: "Program") -> None:
        port = run.port()
        before = answering(run, port, 2)
        with run.connect(port) as peer, contextlib.suppress(ConnectionError, EOFError):
            peer.ask("/crash")
        line = run.read_until("ended with exit code 3")
        assert "; a new one starts in 0.5 s" in line
        (gone,) = {pid for pid in before if not is_alive(pid)}
        assert f"(pid {gone})" in line
        self.wait_for_replacement(run, gone)
        assert len(answering(run, port, 2) & before) == 1

    def test_one_that_is_told_to_stop_is_replaced_first(self, run: "Program") -> None:
        port = run.port()
        victim = min(answering(run, port, 2))
        with run.connect(port) as peer:
            os.kill(victim, signal.SIGTERM)
            run.read_until(f"(pid {victim}) is replaced: it was sent SIGTERM")
            assert peer.ask("/").status == 200
        self.wait_for_replacement(run, victim)
        assert victim not in answering(run, port, 2)

    def wait_for_replacement(self, run: "Program", gone: int) -> None:
        wait_until(
            lambda: gone not in (children := run.children()) and len(children) == 2,
            "no worker replaces the one that is gone",
        )

    def test_they_stop_when_their_parent_is_killed(self, run: "Program") -> None:
        pids = answering(run, run.port(), 2)
        os.kill(run.pid, signal.SIGKILL)
        run.wait()
        wait_for_end(list(pids))

    def test_programs_that_they_start_can_be_interrupted(self, run: "Program") -> None:
        with run.connect(run.port()) as peer:
            assert "default_int_handler" in peer.ask("/child").text


class TestUnderLoad:
    """What happens to requests while workers come and go: nothing."""

    def test_a_killed_worker_costs_only_its_own_connections(self, program: "Start", run: "Run") -> None:
        served = start(program)
        port = served.port()
        victim = min(answering(served, port, 2))

        async def main() -> None:
            async with Load(port) as load:
                os.kill(victim, signal.SIGKILL)
                await asyncio.to_thread(served.read_until, "was killed by SIGKILL")
                connections = 12
                assert len(load.lost) <= connections
                lost = len(load.lost)
                await load.until(lambda: len(set(served.children()) - {victim}) == 2)
                await load.some()
            # Those that waited in its queue were not accepted by it, and have been answered.
            assert len(load.lost) <= connections
            assert lost <= len(load.lost)
            assert load.refused == 0

        run(main())

    def test_rolling_loses_nothing(self, program: "Start", run: "Run") -> None:
        served = start(program)
        port = served.port()
        before = set(served.children())

        async def main() -> None:
            async with Load(port) as load:
                served.send_signal(signal.SIGHUP)
                await asyncio.to_thread(served.read_until, "replaced all workers")
                await load.until(lambda: before.isdisjoint(served.children()))
                await load.some()
            assert (load.lost, load.refused) == ([], 0)
            assert len(load.pids) == 4

        run(main())

    def test_stopping_loses_nothing(self, program: "Start", run: "Run") -> None:
        served = start(program)
        port = served.port()

        async def main() -> None:
            async with Load(port) as load:
                served.send_signal(signal.SIGTERM)
                await load.until(lambda: served.process.poll() is not None)
            assert load.lost == []
            assert load.refused > 0

        run(main())
        assert served.wait()[0] == 0

    def test_recycling_loses_nothing(self, program: "Start", run: "Run") -> None:
        served = start(program, "--max-requests", "100", workers=1)
        port = served.port()

        async def main() -> None:
            async with Load(port) as load:
                await load.until(lambda: len(load.pids) >= 3)
            assert (load.lost, load.refused) == ([], 0)

        run(main())
        line = served.read_until("is replaced")
        assert 100 <= int(line.partition("it has answered ")[2].partition(" ")[0]) <= 110


class TestReplacing:
    def test_one_that_has_grown_is_replaced(self, program: "Start") -> None:
        run = start(program, "--max-rss", "100M", workers=1)
        port = run.port()
        time.sleep(0.1)  # its size at the start is looked at
        with run.connect(port) as peer:
            before = int(peer.ask("/grow").text)
        assert " MiB" in run.read_until(f"(pid {before}) is replaced: it uses")
        wait_for_end([before])
        assert before not in answering(run, port, 1)

    def test_new_code_that_does_not_start_replaces_nothing(self, program: "Start", tmp_path: Path) -> None:
        run = start(program)
        port = run.port()
        before = answering(run, port, 2)
        (tmp_path / "app.py").write_text("def broken(:\n")
        run.send_signal(signal.SIGHUP)
        run.read_until("SyntaxError")
        assert "before it could serve; worker 1 (pid " in run.read_until("goes on")
        run.read_until("the other workers go on with the code they have")
        assert answering(run, port, 2) == before
        (tmp_path / "app.py").write_text(APP)
        run.send_signal(signal.SIGHUP)
        run.read_until("replaced all workers")
        wait_for_end(list(before))

    def test_while_one_is_missing_another_accepts_for_it(self, program: "Start") -> None:
        run = start(program)
        port = run.port()
        answering(run, port, 2)
        (survivor, victim) = sorted(run.children())
        delays = []
        for _ in range(3):
            os.kill(victim, signal.SIGKILL)
            delays.append(run.read_until("was killed").split()[-2])
            if len(delays) < 3:
                wait_until(lambda: len(run.children()) == 2, "it is not replaced")
                (victim,) = set(run.children()) - {survivor}
        assert delays == ["0.5", "1", "2"]
        seen = set()
        for _ in range(20):
            with run.connect(port) as peer:
                seen.add(int(peer.ask("/").text))
        assert run.children() == [survivor]
        assert seen == {survivor}


class TestStuck:
    def test_one_that_is_stuck_is_killed_and_replaced(self, program: "Start") -> None:
        run = start(program, "--worker-timeout", "0.6")
        port = run.port()
        before = set(run.children())
        with run.connect(port) as peer:
            peer.send(b"GET /stuck HTTP/1.1\r\nHost: test\r\n\r\n")
            line = run.read_until("is stuck: its event loop has not turned for")
            run.read_until("in stuck")  # it says where
            run.read_until("was killed by SIGABRT; a new one starts")
            assert peer.is_closed()
        (gone,) = {pid for pid in before if f"(pid {pid})" in line}
        wait_until(lambda: len(set(run.children()) - {gone}) == 2, "it is not replaced")
        assert gone not in answering(run, port, 2)

    def test_clients_cannot_make_one_look_stuck(self, program: "Start") -> None:
        run = start(program, "--worker-timeout", "0.3", "--supervise", workers=1)
        port = run.port()
        (before,) = run.children()
        with run.connect(port) as half, run.connect(port) as silent, run.connect(port) as waiting:
            half.send(b"GET / HTTP/1.1\r\nHost: te")
            waiting.send(b"GET /endless HTTP/1.1\r\nHost: test\r\n\r\n")
            run.read_until("entered")
            time.sleep(1)
            half.send(b"st\r\n\r\n")
            assert half.read_answer().text == str(before)
            assert silent.ask("/").text == str(before)

    def test_a_parent_that_was_asleep_itself_blames_nobody(self, program: "Start") -> None:
        run = start(program, "--worker-timeout", "1", "--supervise", workers=1)
        port = run.port()
        (worker,) = run.children()
        os.kill(worker, signal.SIGSTOP)
        time.sleep(0.5)  # it has been asked, and cannot answer
        os.kill(run.pid, signal.SIGSTOP)
        time.sleep(1.6)
        os.kill(run.pid, signal.SIGCONT)
        time.sleep(0.1)
        os.kill(worker, signal.SIGCONT)
        with run.connect(port) as peer:
            assert peer.ask("/").text == str(worker)

    def test_one_that_does_not_stop_is_killed(self, program: "Start") -> None:
        run = start(program)
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


class TestStarting:
    def test_one_that_cannot_start_fails_the_whole_start(self, program: "Start") -> None:
        code = SPAWN.replace(
            "app = Vibora", "import vibora.program\nif vibora.program.is_worker: sys.exit(5)\napp = Vibora"
        )
        status, text = program("app.py", code=code).wait()
        assert status == 5
        assert text.count("ended with exit code 5 before it could serve") == 1
        assert "serving" not in text

    def test_what_its_code_raises_is_shown_once(self, program: "Start") -> None:
        code = SPAWN.replace("app = Vibora", "import vibora.program\n1 / (not vibora.program.is_worker)\napp = Vibora")
        status, text = program("app.py", code=code).wait()
        assert status == 1
        assert text.count("ZeroDivisionError") == 1
        assert "serving" not in text

    @pytest.mark.parametrize("workers", [1, 2])
    def test_a_hook_that_fails_fails_it(self, program: "Start", workers: int) -> None:
        code = (
            APP + "\n@app.handle(Events.BEFORE_SERVER_START)\nasync def connect():\n    raise OSError('no database')\n"
        )
        run = start(program, workers=workers, code=code.replace("import JsonResponse", "import Events, JsonResponse"))
        status, text = run.wait()
        assert status == 1
        assert text.count("OSError: no database") == 1
        assert "serving" not in text

    def test_hooks_have_their_time_when_one_stops(self, program: "Start") -> None:
        code = APP + (
            "\n@app.handle(Events.BEFORE_SERVER_STOP)\nasync def leave():\n    await asyncio.sleep(0.3)\n"
            "    print('left', file=sys.stderr, flush=True)\n"
        )
        run = start(program, code=code.replace("import JsonResponse", "import Events, JsonResponse"))
        run.port()
        run.send_signal(signal.SIGTERM)
        status, text = run.wait()
        assert (status, text.count("left\n")) == (0, 2)

    def test_an_app_that_cannot_be_imported_says_what_to_do(self, program: "Start") -> None:
        code = (
            "import multiprocessing\nfrom vibora import Vibora\n"
            "multiprocessing.set_start_method('spawn')\nVibora().run(port=0, workers=2)\n"
        )
        status, text = program("app.py", code=code).wait()
        assert status == 1
        assert "workers import the app here: run it with `vibora run module:app`" in text

    def test_a_program_that_runs_when_it_is_imported_says_what_to_do(self, program: "Start") -> None:
        code = SPAWN.replace("if __name__ == '__main__':", "if True:").replace(
            "set_start_method(", "set_start_method(force=True, method="
        )
        status, text = program("app.py", code=code).wait()
        assert status == 1
        assert "put it under if __name__ == '__main__':" in text

    def test_an_app_that_has_started_threads_is_not_forked(self, program: "Start") -> None:
        code = APP + "\nimport threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\n"
        run = start(program, code=code)
        port = run.port()
        for pid in answering(run, port, 2):
            assert b"vibora._worker" in Path(f"/proc/{pid}/cmdline").read_bytes()

    def test_a_socket_of_the_program_is_shared(self, program: "Start") -> None:
        code = (
            "import socket\n" + APP + "\nif __name__ == '__main__':\n"
            "    app.run(sock=socket.create_server(('127.0.0.1', 0)), workers=2)\n"
        )
        run = program("app.py", code=code)
        port = run.port()
        with run.connect(port) as peer:
            assert int(peer.ask("/").text) in run.children()

    def test_only_the_main_thread_can_be_a_parent(self) -> None:
        with ThreadPoolExecutor() as pool:
            started = pool.submit(Vibora().run, port=0, workers=2)
        with pytest.raises(RuntimeError, match="in the main thread"):
            started.result()

    def test_less_than_one_is_refused(self) -> None:
        with pytest.raises(ConfigurationError, match="at least one worker is needed, got 0"):
            Vibora().run(port=0, workers=0)
