"""Metrics: what is counted, and that all workers are, also those that have ended."""

import os
import signal
from typing import TYPE_CHECKING

import pytest

from programs import wait_until
from vibora import ConfigurationError, TextResponse, Vibora

if TYPE_CHECKING:
    from conftest import Serve, Start

APP = """
import os
from vibora import TextResponse, Vibora
app = Vibora(metrics_path="/metrics")

@app.get("/")
async def home():
    return TextResponse(str(os.getpid()))
"""
HOME = 'vibora_requests_total{route="/",method="GET",status="2xx"} '


def value(text: str, start: str) -> int:
    """Return the value of the only sample that starts so; 0 if there is none."""
    found = [line for line in text.splitlines() if line.startswith(start)]
    assert len(found) <= 1, found
    return int(found[0].rpartition(" ")[2]) if found else 0


def test_requests_are_counted_by_route_method_and_status(serve: "Serve") -> None:
    app = Vibora(metrics_path="/metrics")

    @app.get("/users/<name>")
    async def user(name: str) -> TextResponse:
        return TextResponse(name)

    served = serve(app)
    for target in ("/users/a", "/users/b", "/nowhere", "/neither"):
        served.ask(target)
    served.ask("/users/a", "PUT")
    answer = served.ask("/metrics")
    assert answer.get("content-type") == "text/plain; version=0.0.4; charset=utf-8"
    assert value(answer.text, 'vibora_requests_total{route="/users/<name>",method="GET",status="2xx"} ') == 2
    assert value(answer.text, 'vibora_requests_total{route="",method="GET",status="4xx"} ') == 2
    assert value(answer.text, 'vibora_requests_total{route="",method="PUT",status="4xx"} ') == 1
    assert value(answer.text, 'vibora_request_duration_seconds_bucket{route="/users/<name>",le="+Inf"} ') == 2
    assert value(answer.text, 'vibora_response_bytes_total{route="/users/<name>"} ') > 100
    assert value(answer.text, "vibora_requests_in_flight ") == 1
    assert value(served.ask("/metrics").text, 'vibora_requests_total{route="/metrics",method="GET",status="2xx"} ') == 1


def test_a_path_that_is_taken_is_an_error(serve: "Serve") -> None:
    app = Vibora(metrics_path="/metrics")

    @app.get("/metrics")
    async def mine() -> TextResponse:
        return TextResponse("mine")

    with pytest.raises(ConfigurationError, match="'/metrics' has a route already"):
        serve(app)


def test_all_workers_are_added_up_and_no_count_goes_back(program: "Start") -> None:
    process = program("-m", "vibora", "run", "app.py", "--port", "0", "--workers", "2", code=APP)
    port = process.port()
    workers: set[int] = set()
    count = 0
    while len(workers) < 2:
        with process.connect(port) as peer:
            workers.add(int(peer.ask("/").text))
            count += 1
    with process.connect(port) as peer:
        assert value(peer.ask("/metrics").text, HOME) == count
    os.kill(min(workers), signal.SIGKILL)

    def is_replaced() -> bool:
        return len(set(process.children()) - {min(workers)}) == 2

    wait_until(is_replaced, "no other worker")
    process.read_until("a new one starts")
    for _ in range(20):
        with process.connect(port) as peer:
            assert value(peer.ask("/metrics").text, HOME) == count
