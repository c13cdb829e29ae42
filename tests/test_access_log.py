"""The access log: what its lines say, that nothing in them can be forged, and that nobody waits for them."""

import asyncio
import json
import logging
import os
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from programs import wait_until
from vibora import AccessLog, ConfigurationError, Request, StreamingResponse, TextResponse, Vibora

if TYPE_CHECKING:
    from conftest import Serve, Start


def make_app(log: AccessLog | str | None, **options: Any) -> Vibora:
    app = Vibora(access_log=log, **options)

    @app.get("/")
    async def home() -> TextResponse:
        return TextResponse("home")

    @app.get("/users/<name>")
    async def user(name: str, request: Request) -> TextResponse:
        await asyncio.sleep(0)
        return TextResponse(request.id)

    @app.get("/direct")
    async def direct(request: Request) -> TextResponse:
        return TextResponse(request.id)

    @app.get("/broken")
    async def broken() -> TextResponse:
        raise RuntimeError("no")

    @app.get("/stream")
    async def stream() -> StreamingResponse:
        async def numbers() -> AsyncIterator[bytes]:
            yield b"one"
            await asyncio.sleep(0.05)
            yield b"two"

        return StreamingResponse(numbers)

    @app.get("/endless")
    async def endless() -> TextResponse:
        await asyncio.Event().wait()
        return TextResponse("never")

    return app


def lines(path: Path, count: int) -> list[str]:
    """Return the lines of a log, once there are so many."""
    wait_until(lambda: path.exists() and path.read_text().count("\n") >= count, f"no {count} lines", 5)
    found = path.read_text().splitlines()
    assert len(found) == count, found
    return found


def records(path: Path, count: int) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines(path, count)]


class TestWhatLinesSay:
    def test_json_has_all_that_is_known(self, serve: "Serve", tmp_path: Path) -> None:
        path = tmp_path / "access.log"
        served = serve(make_app(AccessLog("json", path)))
        with served.connect() as peer:
            peer.send(b"GET /users/ann?token=secret HTTP/1.1\r\nHost: test\r\n\r\n")
            head = peer.read_until(b"\r\n\r\n")
            name = peer.read_exactly(16).decode()
        (record,) = records(path, 1)
        assert record.pop("time").endswith("Z")
        assert 0 <= record.pop("ttfb_ms") <= record.pop("duration_ms") < 5_000
        assert record == {
            "client": "127.0.0.1",
            "method": "GET",
            "path": "/users/ann",
            "route": "/users/<name>",
            "status": 200,
            "bytes": len(head) + 16,
            "request_id": name,
            "reason": "complete",
        }

    def test_text_is_for_people(self, serve: "Serve", tmp_path: Path) -> None:
        path = tmp_path / "access.log"
        served = serve(make_app(AccessLog("text", path)))
        served.ask("/")
        words = lines(path, 1)[0].split(" ")
        assert words[1:5] == ["127.0.0.1", "GET", "/", "200"]
        assert words[6].endswith("ms")
        assert words[8] == "route=/"
        assert abs(time.time() - time.mktime(time.strptime(words[0][:19] + " GMT", "%Y-%m-%dT%H:%M:%S %Z"))) < 86_400

    def test_every_request_has_a_line(self, serve: "Serve", tmp_path: Path) -> None:
        path = tmp_path / "access.log"
        served = serve(make_app(AccessLog("json", path)))
        served.ask("/nowhere")
        served.ask("/", "POST")
        served.ask("/broken")
        served.ask("/", "OPTIONS")
        served.ask("/", "HEAD")
        with served.connect() as peer:
            peer.send(b"no request\r\n\r\n")
            peer.read_to_end()
        found = records(path, 6)
        assert [(one["method"], one["route"], one["status"]) for one in found] == [
            ("GET", None, 404),
            ("POST", None, 405),
            ("GET", "/broken", 500),
            ("OPTIONS", None, 204),
            ("HEAD", "/", 200),
            (None, None, 400),
        ]
        assert len({one["request_id"] for one in found}) == 6

    def test_pipelined_requests_are_in_order(self, serve: "Serve", tmp_path: Path) -> None:
        path = tmp_path / "access.log"
        served = serve(make_app(AccessLog("json", path)))
        with served.connect() as peer:
            asked = ["/users/a", "/", "/users/b", "/direct"] * 20
            peer.send(b"".join(f"GET {target} HTTP/1.1\r\nHost: test\r\n\r\n".encode() for target in asked))
            answers = [peer.read_answer() for _ in asked]
        found = records(path, 80)
        assert [one["path"] for one in found] == asked
        named = [(one["request_id"], answer.text) for one, answer in zip(found, answers, strict=True)]
        assert all(name == text for name, text in named if text != "home")

    def test_streams_end_with_their_last_byte(self, serve: "Serve", tmp_path: Path) -> None:
        path = tmp_path / "access.log"
        served = serve(make_app(AccessLog("json", path)))
        served.ask("/stream")
        (record,) = records(path, 1)
        assert record["duration_ms"] >= 50 > record["ttfb_ms"]
        assert record["reason"] == "complete"

    def test_clients_that_leave_are_told_apart(self, serve: "Serve", tmp_path: Path) -> None:
        path = tmp_path / "access.log"
        served = serve(make_app(AccessLog("json", path)))
        with served.connect() as peer:
            peer.send(b"GET /endless HTTP/1.1\r\nHost: test\r\n\r\n")
            time.sleep(0.05)
            peer.reset()
        (record,) = records(path, 1)
        assert (record["client"], record["status"], record["bytes"], record["ttfb_ms"], record["reason"]) == (
            "127.0.0.1",
            None,
            0,
            None,
            "disconnected",
        )

    def test_the_client_is_the_one_that_trusted_proxies_tell(self, serve: "Serve", tmp_path: Path) -> None:
        path = tmp_path / "access.log"
        served = serve(make_app(AccessLog("json", path), trusted_proxies=["127.0.0.1"]))
        served.ask("/", headers=[("X-Forwarded-For", "203.0.113.9")])
        assert records(path, 1)[0]["client"] == "203.0.113.9"


class TestRequestIds:
    def test_one_that_was_given_is_taken_over(self, serve: "Serve", tmp_path: Path) -> None:
        path = tmp_path / "access.log"
        served = serve(make_app(AccessLog("json", path)))
        answer = served.ask("/direct", headers=[("x-request-id", "4bf92f35-77b3")])
        assert (answer.text, records(path, 1)[0]["request_id"]) == ("4bf92f35-77b3", "4bf92f35-77b3")

    @pytest.mark.parametrize("value", ['a"b', "a b", "x" * 129, "caf\xe9", ""])
    def test_one_that_could_do_harm_is_not(self, value: str, serve: "Serve", tmp_path: Path) -> None:
        path = tmp_path / "access.log"
        served = serve(make_app(AccessLog("json", path)))
        answer = served.ask("/direct", headers=[("X-Request-ID", value)])
        assert records(path, 1)[0]["request_id"] == answer.text
        assert len(answer.text) == 16
        assert int(answer.text, 16)

    def test_requests_have_names_without_a_log(self, serve: "Serve") -> None:
        served = serve(make_app(None))
        names = {served.ask("/direct").text for _ in range(3)}
        assert len(names) == 3
        assert served.ask("/direct", headers=[("X-Request-ID", "mine")]).text == "mine"


class TestForgery:
    @pytest.mark.parametrize("kind", ["text", "json"])
    def test_a_path_cannot_end_a_line_or_a_value(self, kind: Any, serve: "Serve", tmp_path: Path) -> None:
        path = tmp_path / "access.log"
        served = serve(make_app(AccessLog(kind, path)))
        targets = [b'/"', b'/","status":200,"x":"', b"/%0a%22", b"/\\u000a", b"/\xe9\x80\xa8", b"/\x1b[2J", b"/\x7f"]
        for target in targets:
            with served.connect() as peer:
                peer.send(b"GET " + target + b" HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
                peer.read_to_end()
        found = lines(path, len(targets))
        assert all(line.isascii() and line.isprintable() for line in found)
        if kind == "json":
            assert all(json.loads(line)["status"] in (400, 404) for line in found)

    def test_records_are_harmless_too(self, serve: "Serve", caplog: pytest.LogCaptureFixture) -> None:
        served = serve(make_app("logging"))
        with caplog.at_level(logging.INFO, "vibora.access"), served.connect() as peer:
            peer.send(b"GET /\xe9\x9b HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
            peer.read_to_end()
            wait_until(lambda: bool(caplog.records), "no record", 5)
        message = caplog.records[-1].getMessage()
        assert message.isascii()
        assert message.isprintable()


class TestRecords:
    def test_records_have_fields(self, serve: "Serve", caplog: pytest.LogCaptureFixture) -> None:
        served = serve(make_app("logging"))
        with caplog.at_level(logging.INFO, "vibora.access"):
            served.ask("/users/ann?token=secret")
            wait_until(lambda: bool(caplog.records), "no record", 5)
        (record,) = [record for record in caplog.records if record.name == "vibora.access"]
        fields = vars(record)
        assert {name: fields[name] for name in ("client", "method", "path", "route", "status", "reason")} == {
            "client": "127.0.0.1",
            "method": "GET",
            "path": "/users/ann",
            "route": "/users/<name>",
            "status": 200,
            "reason": "complete",
        }
        assert 0 <= fields["ttfb_ms"] <= fields["duration_ms"]
        assert len(fields["request_id"]) == 16
        assert "secret" not in record.getMessage()

    def test_handlers_of_the_program_go_before_a_format(self, serve: "Serve", tmp_path: Path) -> None:
        seen: list[logging.LogRecord] = []

        class Keep(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                seen.append(record)

        access = logging.getLogger("vibora.access")
        handler = Keep()
        access.addHandler(handler)
        try:
            serve(make_app(AccessLog("json", tmp_path / "access.log"))).ask("/")
            wait_until(lambda: bool(seen), "no record", 5)
        finally:
            access.removeHandler(handler)
            access.setLevel(logging.NOTSET)
        assert not (tmp_path / "access.log").exists()


class TestDestinations:
    def test_a_file_that_was_moved_away_is_opened_again(self, serve: "Serve", tmp_path: Path) -> None:
        path = tmp_path / "access.log"
        served = serve(make_app(AccessLog("json", path)))
        served.ask("/")
        lines(path, 1)
        path.rename(tmp_path / "access.log.1")
        served.ask("/direct")
        assert records(path, 1)[0]["path"] == "/direct"

    def test_what_cannot_be_opened_is_an_error_of_the_configuration(
        self, run: Callable[[Any], Any], tmp_path: Path
    ) -> None:
        async def main() -> None:
            await make_app(AccessLog("json", tmp_path / "no" / "access.log")).start(port=0)

        with pytest.raises(ConfigurationError, match=r"cannot open .*access.log.*: No such file"):
            run(main())

    def test_a_format_that_is_not_there_is_one_too(self) -> None:
        with pytest.raises(ConfigurationError, match="expected one of text, json, logging, got 'xml'"):
            Vibora(access_log="xml")

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs a FIFO")
    def test_a_reader_that_is_stuck_costs_lines_and_no_time(self, serve: "Serve", tmp_path: Path) -> None:
        path = tmp_path / "pipe"
        os.mkfifo(path)
        app = make_app(AccessLog("json", path))
        served = serve(app)
        target = "/" + "x" * 1_900
        ask = f"GET {target} HTTP/1.1\r\nHost: test\r\n\r\n".encode() * 16
        with served.connect() as peer:
            for _ in range(90):  # 2.8 MiB of lines
                peer.send(ask)
                for _ in range(16):
                    peer.read_answer()
        warnings = [record.getMessage() for record in served.log if record.levelno == logging.WARNING]
        assert warnings == ["access log: its destination does not keep up; lines are dropped"]
        assert served.ask("/").status == 200
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            read = bytearray()

            def has_all_come() -> bool:
                try:
                    while piece := os.read(descriptor, 1 << 20):
                        read.extend(piece)
                except BlockingIOError:
                    pass
                served.ask("/")
                return any("were dropped" in record.getMessage() for record in served.log)

            wait_until(has_all_come, "it does not say how many", 10)
            time.sleep(0.2)
            has_all_come()
        finally:
            os.close(descriptor)
        whole, _, _ = bytes(read).rpartition(b"\n")
        assert all(json.loads(line)["status"] in (200, 404) for line in whole.splitlines())


class TestCost:
    def test_an_idle_server_has_no_timer_for_it(self, tmp_path: Path) -> None:
        path = tmp_path / "access.log"

        async def main() -> list[str]:
            async with await make_app(AccessLog("json", path)).start(port=0) as server:
                reader, writer = await asyncio.open_connection(server.host, server.port)
                writer.write(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
                await reader.readuntil(b"home")
                loop: Any = asyncio.get_running_loop()
                armed = [repr(handle) for handle in loop._scheduled if "flush" in repr(handle)]
                assert len(armed) == 1
                await asyncio.sleep(0.2)
                writer.close()
                return [repr(handle) for handle in loop._scheduled if "flush" in repr(handle)]

        with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
            assert runner.run(main()) == []
        assert len(lines(path, 1)) == 1


APP = """
import os
from vibora import TextResponse, Vibora
app = Vibora()

@app.get("/")
async def home():
    return TextResponse(str(os.getpid()))
"""


class TestPrograms:
    def test_workers_share_the_standard_output(self, program: "Start") -> None:
        process = program(
            "-m", "vibora", "run", "app.py", "--port", "0", "--workers", "2", "--access-log", "json", code=APP
        )
        port = process.port()
        workers: set[str] = set()
        count = 0
        while len(workers) < 2 or count < 60:
            with process.connect(port) as peer:
                workers.add(peer.ask("/").text)
                count += 1
        process.send_signal(15)
        output, errors = process.process.communicate(timeout=10)
        assert process.process.returncode == 0, errors
        found = [json.loads(line) for line in output.splitlines()]
        assert len(found) == count
        assert len({one["request_id"] for one in found}) == count
        assert len({one["request_id"][:8] for one in found}) == 2

    def test_settings_name_a_file(self, program: "Start", tmp_path: Path) -> None:
        process = program("-m", "vibora", "run", "app.py", "--port", "0", code=APP, VIBORA_ACCESS_LOG_FILE="access.log")
        with process.connect(process.port()) as peer:
            peer.ask("/")
        assert " GET / 200 " in lines(tmp_path / "access.log", 1)[0]

    def test_a_format_that_is_not_there(self, program: "Start") -> None:
        process = program("-m", "vibora", "run", "app.py", "--access-log", "xml", code=APP)
        status, text = process.wait()
        assert status == 2
        assert "expected one of text, json, logging, off, got 'xml'" in text
