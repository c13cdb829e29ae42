"""The command line: what it serves, what it lists, and what it says when something is wrong."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import vibora
from vibora import _core
from vibora.cli import main

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


class Here:
    """The command line, called in this process, with a directory of its own."""

    def __init__(self, path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.path = path
        self._capsys = capsys

    def __call__(self, *arguments: str) -> tuple[int, str]:
        """Return the exit code, and what is written to stderr."""
        with pytest.raises(SystemExit) as end:
            main(arguments)
        assert isinstance(end.value.code, int)
        return end.value.code, self._capsys.readouterr().err


@pytest.fixture
def here(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Here:
    monkeypatch.chdir(tmp_path)
    return Here(tmp_path, capsys)


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

    def fail(self, program: "Start", *arguments: str, code: str = APP, exit_code: int = 78) -> str:
        run = program("-m", "vibora", "run", *arguments, code=code)
        status, text = run.wait()
        assert status == exit_code
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
            assert self.fail(program, "app", "--port", str(port), "--workers", workers, exit_code=69) == (
                f"cannot listen on 127.0.0.1:{port}: address already in use; "
                "stop the other server or choose another port with --port"
            )

    def test_a_port_in_use_by_workers(self, program: "Start") -> None:
        first = program("-m", "vibora", "run", "app", "--port", "0", "--workers", "2", code=APP)
        port = first.port()
        for workers in ("1", "2"):
            message = self.fail(program, "app", "--port", str(port), "--workers", workers, exit_code=69)
            assert "address already in use" in message

    def test_a_host_that_is_not_here(self, program: "Start") -> None:
        assert self.fail(program, "app", "--host", "192.0.2.1", exit_code=69) == (
            "cannot listen on 192.0.2.1:5000: cannot assign requested address; choose another host with --host"
        )

    @pytest.mark.parametrize(
        "arguments",
        [
            ["run", "app", "--port", "66000"],
            ["run", "app", "--workers", "0"],
            ["run", "app", "--bind", "8000"],
            ["run", "app", "--graceful-timeout", "-1"],
            ["run", "app", "--backlog", "many"],
            ["run", "app", "--unknown"],
            ["fly"],
            [],
        ],
        ids=" ".join,
    )
    def test_a_command_line_that_makes_no_sense(self, here: Here, arguments: list[str]) -> None:
        code, text = here(*arguments)
        assert code == 2
        assert text.startswith("usage: ")
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
        assert output == f"vibora {vibora.__version__} ({_core.__build__} build, Python {python}, {sys.platform})\n"
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


class TestSettings:
    """Options, variables and the table, in this order."""

    CODE = """
import json
from vibora import JsonResponse, ServerLimits, Vibora

app = Vibora(server_limits=ServerLimits(keep_alive_timeout=1, head_timeout=1, graceful_timeout=1, backlog=1))

@app.get("/")
async def home():
    limits = app.server_limits
    return JsonResponse([limits.keep_alive_timeout, limits.head_timeout, limits.graceful_timeout, limits.backlog])
"""

    def test_the_nearest_counts(self, program: "Start", tmp_path: Path) -> None:
        (tmp_path / "pyproject.toml").write_text(
            "[tool.vibora]\ntarget = 'app:app'\nport = 0\nkeep-alive-timeout = 2\nhead_timeout = 2\n"
            "graceful_timeout = 2\n"
        )
        variables = {"VIBORA_KEEP_ALIVE_TIMEOUT": "3", "VIBORA_HEAD_TIMEOUT": "3"}
        run = program("-m", "vibora", "run", "--keep-alive-timeout", "4", code=self.CODE, **variables)
        with run.connect(run.port()) as peer:
            assert peer.ask("/").text == "[4.0,3.0,2.0,1]"

    def test_a_file_of_its_own_goes_before_pyproject(self, program: "Start", tmp_path: Path) -> None:
        (tmp_path / "pyproject.toml").write_text("[tool.vibora]\nport = 1\n")
        (tmp_path / "vibora.toml").write_text("target = 'app'\nport = 0\nbacklog = 7\n")
        run = program("-m", "vibora", "run", code=self.CODE)
        with run.connect(run.port()) as peer:
            assert peer.ask("/").text == "[1,1,1,7]"

    def test_a_file_that_is_named_goes_before_both(self, program: "Start", tmp_path: Path) -> None:
        (tmp_path / "vibora.toml").write_text("port = 1\n")
        (tmp_path / "other.toml").write_text("target = 'app'\nport = 0\nbacklog = 8\n")
        run = program("-m", "vibora", "run", "--config", "other.toml", code=self.CODE)
        with run.connect(run.port()) as peer:
            assert peer.ask("/").text == "[1,1,1,8]"

    def test_one_way_to_say_where_replaces_the_other(self, program: "Start", tmp_path: Path) -> None:
        (tmp_path / "vibora.toml").write_text("bind = ['192.0.2.1:1', '192.0.2.2:1']\n")
        assert program("-m", "vibora", "run", "app", "--port", "0", code=self.CODE).port()
        assert program("-m", "vibora", "run", "app", code=self.CODE, VIBORA_PORT="0").port()
        (tmp_path / "vibora.toml").write_text("host = '192.0.2.1'\n")
        assert program("-m", "vibora", "run", "app", code=self.CODE, VIBORA_BIND="127.0.0.1:0").port()

    def test_the_table_is_for_the_other_commands_too(self, program: "Start", tmp_path: Path) -> None:
        (tmp_path / "vibora.toml").write_text("target = 'app:api'\n")
        code, output = program("-m", "vibora", "routes", code=APP).output()
        assert (code, "/users/<user_id>" in output) == (0, True)

    @pytest.mark.parametrize(
        ("table", "message"),
        [
            ("prot = 1", "vibora.toml: there is no setting 'prot'; did you mean 'port'?"),
            ("port = 'x'", "vibora.toml: port: a port is a number from 0 to 65535, got 'x'"),
            ("port = true", "vibora.toml: port: expected a value, got True"),
            ("debug = 'yes'", "vibora.toml: debug: expected true or false, got 'yes'"),
            ("workers = 0", "vibora.toml: workers: expected a whole number of at least 1, got '0'"),
            ("max_rss = '1T'", "vibora.toml: max_rss: expected bytes, such as 500M or 2G, got '1T'"),
            ("socket_mode = '9'", "vibora.toml: socket_mode: expected permissions in octal, such as 660, got '9'"),
            (
                "bind = [1, '::1:80']",
                "vibora.toml: bind: expected HOST:PORT, [IPV6]:PORT, unix:PATH or fd://NUMBER to listen on",
            ),
            ("port = 1\nport = 2", "vibora.toml is no TOML: "),
            ("log_level = 'loud'", "vibora.toml: log_level: expected one of debug, info, warning, error, critical"),
        ],
    )
    def test_a_table_that_makes_no_sense(self, here: Here, table: str, message: str) -> None:
        here.path.joinpath("vibora.toml").write_text(table)
        code, text = here("run", "app")
        assert code == 78
        assert text.startswith(f"error: {message}"), text
        assert text.count("\n") == 1

    def test_a_variable_that_makes_no_sense(self, here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("VIBORA_WORKERS", "many")
        message = "error: VIBORA_WORKERS: expected a whole number of at least 1, got 'many'\n"
        assert here("run", "app") == (78, message)

    def test_a_variable_that_is_misspelt(self, here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("VIBORA_WORKER", "4")
        monkeypatch.setenv("VIBORA_SHOP_COLOUR", "red")  # the app's own business
        _, text = here("run", "nowhere")
        assert text.startswith("warning: VIBORA_WORKER is no setting; did you mean VIBORA_WORKERS?\nerror: ")

    def test_workers_without_a_parent(self, here: Here) -> None:
        code, text = here("run", "app", "--workers", "2", "--no-supervise")
        assert code == 78
        assert text.endswith("need a parent: supervise them\n")

    def test_a_file_that_is_not_there(self, here: Here) -> None:
        assert here("run", "app", "--config", "nowhere.toml") == (78, "error: there is no file 'nowhere.toml'\n")

    def test_no_target_at_all(self, here: Here) -> None:
        code, text = here("run")
        assert code == 78
        assert text.startswith("error: no target: write vibora run module:app, set VIBORA_TARGET")


class TestCheck:
    def test_an_app_that_is_right(self, program: "Start") -> None:
        assert program("-m", "vibora", "check", "app", "--strict", code=APP).output() == (0, "1 route, 0 warnings\n")

    def test_what_is_doubtful(self, program: "Start") -> None:
        code = APP + (
            "\n@app.get('/blocks')\nasync def blocks():\n    import time\n    time.sleep(1)\n"
            "\n@app.get('/twice', name='home')\nasync def twice(): ...\n"
        )
        status, output = program("-m", "vibora", "check", "app", code=code).output()
        assert status == 0
        assert "warning: handler app.blocks (app.py:16) calls time.sleep(), which blocks the event loop" in output
        assert "warning: two routes have the name 'home': app.home" in output
        assert output.endswith("3 routes, 2 warnings\n")
        assert program("-m", "vibora", "check", "app", "--strict", code=code).output()[0] == 78

    def test_what_a_handler_asks_for_and_nobody_has(self, program: "Start") -> None:
        code = APP + "\nclass Database: ...\n\n@app.get('/rows')\nasync def rows(database: Database): ...\n"
        status, text = program("-m", "vibora", "check", "app", code=code).wait()
        assert status == 78
        assert "handler app.rows (app.py:18)" in text
        assert text.count("\n") == 1
        hook = "\nfrom vibora import Events\n@app.handle(Events.BEFORE_SERVER_START)\nasync def connect(): ...\n"
        status, output = program("-m", "vibora", "check", "app", code=code + hook).output()
        assert status == 0
        assert "warning: unless a hook that runs before the server starts sees to it: handler app.rows" in output

    def test_an_app_without_routes(self, program: "Start") -> None:
        code, output = program(
            "-m", "vibora", "check", "app", code="from vibora import Vibora\napp = Vibora()\n"
        ).output()
        assert code == 0
        assert "the app has no routes" in output

    def test_what_is_wrong(self, program: "Start") -> None:
        code = APP + "\n@app.get('/')\nasync def again(): ...\n"
        status, text = program("-m", "vibora", "check", "app", code=code).wait()
        assert status == 78
        assert text.startswith("error: GET '/', handler app.again")


class TestNew:
    def test_makes_a_project_whose_tests_pass(self, program: "Start", tmp_path: Path) -> None:
        code, output = program("-m", "vibora", "new", "my-shop").output()
        assert code == 0
        assert output.startswith("made my-shop. Next:\n")
        assert (tmp_path / "my-shop" / "my_shop" / "web.py").exists()
        run = program("-m", "pytest", "-q", "my-shop", "-c", "my-shop/pyproject.toml", "-p", "no:cacheprovider")
        status, report = run.output()
        assert status == 0, report
        assert "4 passed" in report

    def test_its_settings_are_found(self, program: "Start", tmp_path: Path) -> None:
        program("-m", "vibora", "new", str(tmp_path / "shop")).output()
        run = program("-c", "import os; os.chdir('shop'); from vibora.cli import main; main(['check', '--strict'])")
        assert run.output() == (0, "3 routes, 0 warnings\n")

    @pytest.mark.parametrize("name", ["1shop", "my shop", "json", "vibora", "tests", "-x/.."])
    def test_names_that_cannot_be(self, here: Here, name: str) -> None:
        code, text = here("new", "--", name)
        assert code == 78
        assert text.startswith("error: ")
        assert list(here.path.iterdir()) == []

    def test_nothing_is_overwritten(self, here: Here) -> None:
        (here.path / "shop").mkdir()
        (here.path / "shop" / "precious").write_text("")
        assert here("new", "shop") == (78, "error: 'shop' is there already, and is not an empty directory\n")
        assert [path.name for path in (here.path / "shop").iterdir()] == ["precious"]
