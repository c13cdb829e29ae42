"""The README and the guides are tests: their programs run, their commands print what they say.

The blocks of a file share one namespace, in order. A `$ curl` in a console block asks the `app` that is there then.
"""

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from vibora import RouteLimits, ServerLimits

if TYPE_CHECKING:
    from conftest import Serve, Start

ROOT = Path(__file__).parent.parent
#: Pages without programs: a table of requirements, checked by test_conformance.py, and recipes for other programs, of
#: which test_deployment.py tries some.
_TABLES = {"conformance", "deployment"}
#: The pages for users.
PAGES = [ROOT / "README.md", *sorted(page for page in (ROOT / "docs").glob("*.md") if page.stem not in _TABLES)]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
DATE = re.compile(r"^date: .* GMT$", re.MULTILINE)
RUNS = ("curl ", "head ")


@pytest.mark.skipif(shutil.which("curl") is None, reason="the commands in the guides are curl's")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_blocks_of_a_page(page: Path, serve: "Serve", monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = BLOCK.findall(page.read_text())
    assert blocks
    names: dict[str, Any] = {"__name__": "guide"}
    # `python` in a command is this one.
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    for language, text in blocks:
        if language == "python":
            exec(compile(text, page, "exec"), names)  # noqa: S102  that is the test
            continue
        assert language == "console", f"nobody runs a block of {language}"
        if "app" not in names:
            continue
        served = serve(names["app"])
        for command, expected in re.findall(r"^\$ (.*)\n((?:[^$].*\n|\n)*)", text, re.MULTILINE):
            if not command.startswith(RUNS):
                assert not expected, f"nobody checks what {command!r} prints"
                continue
            command_here = command.replace("127.0.0.1:5000", f"{served.host}:{served.port}")
            result = subprocess.run(command_here, shell=True, capture_output=True, text=True, timeout=20, check=True)  # noqa: S602
            shown = DATE.sub("date", result.stdout.replace("\r\n", "\n")).strip("\n")
            assert shown == DATE.sub("date", expected).strip("\n"), command


def test_links_lead_somewhere() -> None:
    for page in (*PAGES, ROOT / "CHANGELOG.md"):
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_table_of_limits_tells_the_defaults() -> None:
    text = (ROOT / "docs" / "limits.md").read_text()
    for limits in (ServerLimits(), RouteLimits()):
        for name in type(limits).__dataclass_fields__:
            assert re.search(rf"^\| `{name}` \| {getattr(limits, name)}\b", text, re.MULTILINE), name


class TestExamples:
    """`examples/responses.py` is the Responses page of the first Vibora, and what `make run` serves."""

    def test_a_stream_comes_one_number_a_second(self, program: "Start") -> None:
        served = program("-m", "vibora", "run", str(ROOT / "examples" / "responses.py"), "--port", "0")
        port = served.port()
        with served.connect(port) as peer:
            assert peer.ask("/").text == '{"hello":"world"}'
            raw = peer.ask("/raw")
            assert (raw.content, raw.get_all("content-type")) == (b"Hello World", ["html"])
            assert peer.ask("/hello/caf%C3%A9").text == "Hello, caf\u00e9!\n"
            peer.send(b"GET /stream HTTP/1.1\r\nHost: test\r\n\r\n")
            assert peer.read_head().get("transfer-encoding") == "chunked"
            times = []
            for number in range(5):
                assert peer.read_chunk() == b"%d" % number
                times.append(time.monotonic())
            assert peer.read_chunk() == b""
        late = [at - times[0] - number for number, at in enumerate(times)]
        assert all(abs(seconds) < 0.8 for seconds in late), late
