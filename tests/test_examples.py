"""The programs in `examples/`, as their users find them. `test_examples_upload.py` has the one that takes uploads."""

import contextlib
import importlib.util
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import orjson
import pytest

from hostile import message
from vibora.testing import Client

if TYPE_CHECKING:
    import httpx

    from conftest import Start

EXAMPLES = Path(__file__).parent.parent / "examples"


@contextlib.contextmanager
def imported(name: str) -> Iterator[ModuleType]:
    """Import the app.py of an example; they have no package, so they get a name of their own here."""
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / name / "app.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
        yield module
    finally:
        del sys.modules[spec.name]


class TestTodo:
    @pytest.fixture
    def client(self) -> Iterator[Client]:
        with imported("todo") as todo:
            memory = todo.Settings(":memory:")
            with todo.app.override(todo.Settings, memory), todo.app.test_client() as client:
                yield client

    def test_a_todo_lives_and_dies(self, client: Client) -> None:
        assert client.get("/").json() == {"todos": "/v1/todos"}
        made = client.post("/v1/todos", json={"title": " milk "})
        assert (made.status_code, made.headers["location"]) == (201, "/v1/todos/1")
        assert made.json() == {"id": 1, "title": "milk", "done": False}
        assert client.get(made.headers["location"]).json() == made.json()
        changed = {"id": 1, "title": "milk", "done": True}
        assert client.patch("/v1/todos/1", json={"done": True}).json() == changed
        assert client.patch("/v1/todos/1", json={"title": None}).json() == changed
        assert client.delete("/v1/todos/1").status_code == 204
        assert client.get("/v1/todos/1").status_code == 404

    def test_the_list_comes_in_pages(self, client: Client) -> None:
        for number in range(5):
            assert client.post("/v1/todos", json={"title": f"t{number}", "done": number % 2 == 0}).status_code == 201
        pages = [client.get("/v1/todos", params={"done": "true", "limit": 2}).json()]
        while pages[-1]["next"]:
            pages.append(client.get(pages[-1]["next"]).json())
        assert pages[0]["next"] == "/v1/todos?after=3&limit=2&done=true"
        assert [[todo["title"] for todo in page["todos"]] for page in pages] == [["t0", "t2"], ["t4"]]

    @pytest.mark.parametrize(
        ("sent", "errors"),
        [
            ({}, {"title": "is missing"}),
            ({"title": "  "}, {"title": "is a text of 1 to 200 characters"}),
            ({"title": "x" * 201}, {"title": "is a text of 1 to 200 characters"}),
            (
                {"title": 7, "done": "yes", "color": "red"},
                {
                    "color": "is not known",
                    "title": "is a text of 1 to 200 characters",
                    "done": "is true or false",
                },
            ),
        ],
    )
    def test_each_wrong_member_is_told(self, client: Client, sent: object, errors: dict[str, str]) -> None:
        answer = client.post("/v1/todos", json=sent)
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json() == {
            "title": "Unprocessable Content",
            "status": 422,
            "detail": "some members are wrong",
            "errors": errors,
        }
        assert client.get("/v1/todos").json()["todos"] == []

    def test_whatever_is_wrong_is_told_as_problem_details(self, client: Client) -> None:
        client.post("/v1/todos", json={"title": "milk"})
        is_json = {"content-type": "application/json"}
        answers: list[tuple[httpx.Response, int]] = [
            (client.post("/v1/todos", json={"title": "milk"}), 409),
            (client.post("/v1/todos", content=b"title=milk"), 415),
            (client.post("/v1/todos", content=b"{", headers=is_json), 400),
            (client.post("/v1/todos", content=b"[]", headers=is_json), 400),
            (client.patch("/v1/todos/2", json={}), 404),
            (client.delete("/v1/todos/2"), 404),
            (client.get(f"/v1/todos/{10**30}"), 404),
            (client.get("/v1/todos/milk"), 404),
            (client.get("/v1/todos?limit=x"), 400),
            (client.get("/v1/todos?done=1"), 400),
            (client.put("/v1/todos/1"), 405),
            (client.get("/v2"), 404),
        ]
        for answer, status in answers:
            assert answer.status_code == status, answer.text
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.json()["status"] == status
        assert client.get(f"/v1/todos?after={10**30}").json() == {"todos": [], "next": None}

    def test_the_list_is_there_after_a_restart(self, program: "Start", tmp_path: Path) -> None:
        arguments = ("-m", "vibora", "run", str(EXAMPLES / "todo" / "app.py"), "--port", "0")
        first = program(*arguments, TODOS=str(tmp_path / "list"))
        with first.connect(first.port()) as peer:
            headers = [("Content-Type", "application/json")]
            assert peer.ask("/v1/todos", "POST", headers, b'{"title": "milk"}').status == 201
        first.read_until("POST /v1/todos 201, complete, ")
        first.process.terminate()
        assert first.wait()[0] == 0
        second = program(*arguments, TODOS=str(tmp_path / "list"))
        with second.connect(second.port()) as peer:
            assert orjson.loads(peer.ask("/v1/todos/1").content)["title"] == "milk"


class TestLlmStream:
    @pytest.fixture
    def llm(self) -> Iterator[ModuleType]:
        with imported("llm_stream") as llm:
            yield llm

    def serve(self, llm: ModuleType, **model: float) -> contextlib.AbstractContextManager[Client]:
        client = llm.app.test_client()

        @contextlib.contextmanager
        def served() -> Iterator[Client]:
            with llm.app.override(llm.Model, llm.Model(**{"pace": 0.001, **model})), client as opened:
                yield opened

        return served()

    def events(self, text: str) -> list[tuple[str, object]]:
        blocks = [block.split("\n") for block in text.split("\n\n")[:-1]]
        return [(name.removeprefix("event: "), orjson.loads(data.removeprefix("data: "))) for name, data in blocks]

    def test_an_answer_comes_token_by_token(self, llm: ModuleType) -> None:
        with self.serve(llm) as client:
            answer = client.post("/v1/answers", json={"prompt": "why?"})
            assert answer.headers["content-type"] == "text/event-stream"
            *tokens, end = self.events(answer.text)
            assert {name for name, _ in tokens} == {"token"}
            text = "".join(str(token) for _, token in tokens)
            assert text[0].isupper()
            assert text.endswith(".")
            assert end == ("done", {"tokens": len(tokens)})
            assert client.post("/v1/answers", json={"prompt": " why? "}).text == answer.text

    def test_a_reader_who_leaves_stops_the_model(self, llm: ModuleType, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO, "llm")
        with self.serve(llm, slots=1, pace=0.01) as client:
            with client.stream("POST", "/v1/answers", json={"prompt": "why?"}) as answer:
                lines = answer.iter_lines()
                assert next(lines) == "event: token"
                busy = client.post("/v1/answers", json={"prompt": "me too"})
                assert (busy.status_code, busy.headers["retry-after"]) == (503, "5")
            client.settle()
            told = [record.getMessage() for record in caplog.records if record.name == "llm"]
            assert told[0].startswith("503, complete")
            assert told[1].startswith("stopped after ")
            assert told[2].startswith("200, disconnected after ")
            assert client.post("/v1/answers", json={"prompt": "and now?"}).status_code == 200

    def test_a_model_that_is_stuck_ends_the_answer(self, llm: ModuleType) -> None:
        with self.serve(llm, pace=60.0, patience=0.01) as client:
            assert self.events(client.post("/v1/answers", json={"prompt": "why?"}).text) == [
                ("error", "the model is stuck")
            ]

    @pytest.mark.parametrize("sent", [{}, [], {"prompt": ""}, {"prompt": 7}, {"prompt": "x" * 2001}])
    def test_what_is_no_question_is_refused(self, llm: ModuleType, sent: object) -> None:
        with self.serve(llm) as client:
            answer = client.post("/v1/answers", json=sent)
            assert (answer.status_code, answer.text) == (400, "'prompt' is a text of 1 to 2000 characters")

    def test_the_page_asks_what_the_app_answers(self, llm: ModuleType) -> None:
        with self.serve(llm) as client:
            page = client.get("/")
            assert page.headers["content-type"] == "text/html; charset=utf-8"
            assert f'fetch("{llm.app.url_for("v1.answer")}"' in page.text

    def test_it_runs_as_it_says(self, program: "Start") -> None:
        served = program("-m", "vibora", "run", str(EXAMPLES / "llm_stream" / "app.py"), "--port", "0")
        with served.connect(served.port()) as peer:
            headers = ["Content-Type: application/json", "Content-Length: 18"]
            peer.send(message("/v1/answers", "POST", headers, b'{"prompt": "why?"}'))
            assert peer.read_head().get("content-type") == "text/event-stream"
            assert peer.read_chunk().startswith(b"event: token\ndata: ")
        served.read_until("stopped after ")
        served.read_until("200, disconnected after ")


class TestRoutes:
    """What `vibora routes` prints."""

    @pytest.mark.parametrize(
        ("example", "rows"),
        [
            (
                "todo/app.py",
                [
                    "GET /v1/todos v1.index",
                    "POST /v1/todos v1.create",
                    "GET /v1/todos/<number> v1.show",
                    "PATCH /v1/todos/<number> v1.update",
                    "DELETE /v1/todos/<number> v1.delete",
                    "GET / home",
                ],
            ),
            ("llm_stream/app.py", ["POST /v1/answers v1.answer", "GET / home"]),
            (
                "upload/app.py",
                ["GET / home", "POST /uploads/<number> receive", "GET /uploads/<number>/progress progress"],
            ),
            ("responses.py", ["GET / home", "GET /stream stream", "GET /raw raw", "GET /hello/<name> hello"]),
        ],
    )
    def test_routes(self, program: "Start", tmp_path: Path, example: str, rows: list[str]) -> None:
        run = program("-m", "vibora", "routes", str(EXAMPLES / example), UPLOADS=str(tmp_path / "uploads"))
        code, output = run.output()
        assert code == 0
        head, *lines = (line.split() for line in output.splitlines())
        assert head == ["METHODS", "PATTERN", "NAME", "HANDLER"]
        assert [" ".join(line[:3]) for line in lines] == rows
        assert all(str(EXAMPLES / example) in line[-1] for line in lines)
