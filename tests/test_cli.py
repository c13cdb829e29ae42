"""The command line: what it serves, what it lists, and what it says when something is wrong."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import vibora

if TYPE_CHECKING:
    from conftest import Start

APP = """
from vibora import Request, TextResponse, Vibora

app = Vibora()
api = Vibora()
number = 42

@app.get("/")
async def home(request: Request):
    return TextResponse("home")

@api.route("/users/<user_id>", methods=["GET", "DELETE"], name="user")
async def user(user_id: int):
    return TextResponse("api")
"""


class TestTargets:
    @pytest.mark.parametrize(
        ("target", "text"),
        [
            ("app", "home"),
            ("app:app", "home"),
            ("app.py", "home"),
            ("app.py:app", "home"),
            ("./app.py", "home"),
            ("app:api", "api"),
            ("shop.web", "shop"),
            ("shop.web:apps.inner", "shop"),
            ("shop/web.py", "shop"),
        ],
    )
    def test_serves(self, program: "Start", tmp_path: Path, target: str, text: str) -> None:
        (tmp_path / "shop").mkdir()
        (tmp_path / "shop" / "web.py").write_text(
            "from types import SimpleNamespace\n"
            "from vibora import TextResponse, Vibora\n"
            "app = Vibora()\n"
            "apps = SimpleNamespace(inner=app)\n"
            "app.get('/')(lambda: TextResponse('shop'))\n"
        )
        run = program("-m", "vibora", "run", target, "--port", "0", code=APP)
        with run.connect(run.port()) as peer:
            assert peer.ask("/users/1" if text == "api" else "/").text == text

    def test_a_file_finds_the_modules_beside_it(self, program: "Start", tmp_path: Path) -> None:
        (tmp_path / "shop").mkdir()
        (tmp_path / "shop" / "beside.py").write_text("text = 'beside'\n")
        (tmp_path / "shop" / "web.py").write_text(
            "import beside\nfrom vibora import TextResponse, Vibora\n"
            "app = Vibora()\napp.get('/')(lambda: TextResponse(beside.text))\n"
        )
        run = program("-m", "vibora", "run", "shop/web.py", "--port", "0")
        with run.connect(run.port()) as peer:
            assert peer.ask("/").text == "beside"

    def test_a_file_may_have_the_name_of_a_module_that_is_in_use(self, program: "Start", tmp_path: Path) -> None:
        (tmp_path / "app").mkdir()
        (tmp_path / "app" / "logging.py").write_text(APP)
        run = program("-m", "vibora", "run", "app/logging.py", "--port", "0")
        with run.connect(run.port()) as peer:
            assert peer.ask("/").text == "home"

    def test_a_script_that_runs_its_own_app(self, program: "Start") -> None:
        run = program("app.py", code=f"{APP}\nif __name__ == '__main__':\n    app.run(port=0)\n")
        line = run.read_until("serving")
        assert "serving app.py:app on http://127.0.0.1:" in line


class TestStartupLine:
    def test_says_what_where_and_how(self, program: "Start") -> None:
        run = program("-m", "vibora", "run", "app.py", "--port", "0", code=APP)
        line = run.read_until("serving")
        port = line.partition("http://127.0.0.1:")[2].split(" ")[0]
        assert line.endswith(
            f"Vibora {vibora.__version__} serving app.py:app on http://127.0.0.1:{port} (1 worker, uvloop)\n"
        )

    @pytest.mark.parametrize("how", ["option", "variable"])
    def test_without_uvloop(self, program: "Start", how: str) -> None:
        options = ["--no-uvloop"] if how == "option" else []
        variables = {"VIBORA_UVLOOP": "0"} if how == "variable" else {}
        run = program("-m", "vibora", "run", "app:app", "--port", "0", *options, code=APP, **variables)
        assert "(1 worker, asyncio)" in run.read_until("serving")

    def test_logging_that_the_program_configured_is_left_alone(self, program: "Start") -> None:
        configured = "import logging\nlogging.basicConfig(level='INFO', format='MINE %(message)s')\n"
        run = program("-m", "vibora", "run", "app", "--port", "0", code=configured + APP)
        assert run.read_until("serving").startswith("MINE Vibora")

    def test_the_level_of_the_log(self, program: "Start") -> None:
        run = program("-m", "vibora", "run", "nowhere", "--log-level", "loud")
        code, text = run.wait()
        assert code == 2
        assert "--log-level" in text


class TestMistakes:
    """What the user got wrong is one line that says what to do."""

    def fail(self, program: "Start", *arguments: str, code: str = APP) -> str:
        run = program("-m", "vibora", "run", *arguments, code=code)
        status, text = run.wait()
        assert status == 1
        assert text.startswith("error: ")
        assert text.count("\n") == 1, text
        return text.removeprefix("error: ").rstrip("\n")

    def test_no_such_module(self, program: "Start", tmp_path: Path) -> None:
        advice = "run vibora in the directory that has it"
        assert self.fail(program, "nowhere:app") == (
            f"there is no module 'nowhere' in {tmp_path} or on the import path; {advice}"
        )
        assert "there is no module 'nowhere' in" in self.fail(program, "nowhere.web:app")
        assert "there is no module 'app.web' in" in self.fail(program, "app.web:app")

    def test_no_such_file(self, program: "Start", tmp_path: Path) -> None:
        assert self.fail(program, "nowhere.py") == f"there is no file 'nowhere.py' in {tmp_path}"
        assert self.fail(program, "./app") == "there is no file './app'; did you mean ./app.py?"

    def test_no_such_name(self, program: "Start") -> None:
        assert self.fail(program, "app:ap") == "'app' has no 'ap'; did you mean app:app or app:api?"
        assert self.fail(program, "app", code="x = 1\n") == ("'app' has no 'app'; create one there with app = Vibora()")

    def test_something_that_is_no_app(self, program: "Start") -> None:
        assert self.fail(program, "app:number") == "app:number is not a Vibora app but a builtins.int"

    def test_a_target_that_makes_no_sense(self, program: "Start") -> None:
        assert self.fail(program, "app:") == "a target is written module:app or file.py:app, got 'app:'"
        assert self.fail(program, "app:a-b") == "a target is written module:app or file.py:app, got 'app:a-b'"

    def test_a_handler_that_is_wrong(self, program: "Start") -> None:
        code = APP + "\n@app.get('/<when>')\nasync def wrong(when: object): ...\n"
        line = code.count("\n") - 1
        assert self.fail(program, "app", code=code) == (
            f"handler app.wrong (app.py:{line}): path parameter 'when' cannot be converted to object: "
            "supported are str, int, float, bool, uuid.UUID and datetime.date"
        )

    def test_a_duplicate_route(self, program: "Start") -> None:
        code = APP + "\n@app.get('/')\nasync def again(): ...\n"
        message = self.fail(program, "app", code=code)
        assert message.startswith("GET '/', handler app.again (app.py:")
        assert "answers the same requests as GET '/', handler app.home (app.py:" in message

    def test_a_port_in_use(self, program: "Start") -> None:
        first = program("-m", "vibora", "run", "app", "--port", "0", code=APP)
        port = first.port()
        for workers in ("1", "2"):
            assert self.fail(program, "app", "--port", str(port), "--workers", workers) == (
                f"cannot listen on 127.0.0.1:{port}: address already in use; "
                "stop the other server or choose another port with --port"
            )

    def test_a_port_in_use_by_workers(self, program: "Start") -> None:
        first = program("-m", "vibora", "run", "app", "--port", "0", "--workers", "2", code=APP)
        port = first.port()
        for workers in ("1", "2"):
            message = self.fail(program, "app", "--port", str(port), "--workers", workers)
            assert "address already in use" in message

    def test_a_host_that_is_not_here(self, program: "Start") -> None:
        assert self.fail(program, "app", "--host", "192.0.2.1") == (
            "cannot listen on 192.0.2.1:5000: cannot assign requested address; choose another host with --host"
        )

    @pytest.mark.parametrize(
        "arguments",
        [
            ["run"],
            ["run", "app", "--port", "66000"],
            ["run", "app", "--workers", "0"],
            ["run", "app", "--graceful-timeout", "-1"],
            ["run", "app", "--backlog", "many"],
            ["run", "app", "--unknown"],
            ["fly"],
            [],
        ],
        ids=" ".join,
    )
    def test_a_command_line_that_makes_no_sense(self, program: "Start", arguments: list[str]) -> None:
        code, text = program("-m", "vibora", *arguments, code=APP).wait()
        assert code == 2
        assert text.startswith("usage: vibora")
        assert "Traceback" not in text


class TestCodeThatRaises:
    """What the user's code raises is its own traceback, and nothing of ours."""

    def test_its_traceback_begins_in_it(self, program: "Start") -> None:
        code, text = program("-m", "vibora", "run", "app", code="def f():\n    1 / 0\n\nf()\n").wait()
        assert code == 1
        assert text.startswith('Traceback (most recent call last):\n  File "')
        assert text.count('  File "') == 2
        assert text.endswith("ZeroDivisionError: division by zero\n")
        assert "vibora" not in text
        assert "importlib" not in text

    def test_a_module_that_it_misses(self, program: "Start") -> None:
        code, text = program("-m", "vibora", "run", "app.py", code="import nowhere\n").wait()
        assert code == 1
        assert text.endswith("ModuleNotFoundError: No module named 'nowhere'\n")
        assert "importlib" not in text

    def test_a_syntax_error(self, program: "Start") -> None:
        code, text = program("-m", "vibora", "run", "app.py:app", code="app = (\n").wait()
        assert code == 1
        assert text.endswith("SyntaxError: '(' was never closed\n")
        assert "importlib" not in text

    def test_an_exit_is_an_exit(self, program: "Start") -> None:
        assert program("-m", "vibora", "run", "app", code="raise SystemExit(7)\n").wait()[0] == 7


class TestOtherCommands:
    def test_routes(self, program: "Start") -> None:
        code, output = program("-m", "vibora", "routes", "app:api", code=APP).output()
        assert code == 0
        assert output == (
            "METHODS     PATTERN           NAME  HANDLER\nGET DELETE  /users/<user_id>  user  app.user (app.py:12)\n"
        )

    def test_routes_with_hosts(self, program: "Start") -> None:
        code = """
import re
from vibora import Vibora

app = Vibora()

@app.get(re.compile(r"/(?P<year>\\d+)"), hosts=["a.test", re.compile("b.*")])
def year(year=""): ...

app.add_route("/", year)
"""
        status, output = program("-m", "vibora", "routes", "app", code=code).output()
        assert status == 0
        assert [line.split() for line in output.splitlines()] == [
            ["METHODS", "PATTERN", "NAME", "HANDLER", "HOSTS"],
            ["GET", r"/(?P<year>\d+)", "year", "app.year", "(app.py:7)", "a.test", "b.*"],
            ["GET", "/", "year", "app.year", "(app.py:7)"],
        ]

    def test_version(self, program: "Start") -> None:
        python = ".".join(map(str, sys.version_info[:3]))
        code, output = program("-m", "vibora", "version").output()
        assert code == 0
        assert output == f"vibora {vibora.__version__} (release build, Python {python}, {sys.platform})\n"
        assert program("-m", "vibora", "--version").output() == (0, f"vibora {vibora.__version__}\n")

    @pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["routes", "--help"]], ids=" ".join)
    def test_help(self, program: "Start", arguments: list[str]) -> None:
        code, output = program("-m", "vibora", *arguments).output()
        assert code == 0
        assert output.startswith("usage: vibora")
        assert "vibora run app.py --port 8000" in output or "routes" in arguments

    def test_the_limits_of_the_command_line_are_those_of_the_server(self, program: "Start") -> None:
        run = program("-m", "vibora", "run", "app", "--port", "0", "--keep-alive-timeout", "0.1", code=APP)
        with run.connect(run.port()) as peer:
            peer.ask("/")
            assert peer.is_closed()
