"""`examples/upload`: a page with a form, an upload to disk, and its progress as server-sent events."""

import re
from pathlib import Path

import orjson
import pytest

from conftest import Peer, Program, Start
from hostile import message

APP = Path(__file__).parent.parent / "examples" / "upload" / "app.py"


@pytest.fixture
def served(program: Start, tmp_path: Path) -> Program:
    return program("-m", "vibora", "run", f"{APP}:app", "--port", "0", UPLOADS=str(tmp_path / "uploads"))


def form(*parts: tuple[str, bytes]) -> bytes:
    pieces = [
        b"--b\r\nContent-Disposition: form-data; %b\r\n\r\n%b\r\n" % (head.encode(), body) for head, body in parts
    ]
    return b"".join([*pieces, b"--b--\r\n"])


def next_event(peer: Peer) -> tuple[str, dict[str, int]]:
    lines = peer.read_chunk().decode().split("\n")
    return lines[0].removeprefix("event: "), orjson.loads(lines[1].removeprefix("data: "))


def test_an_upload_is_stored_and_its_progress_is_told(served: Program, tmp_path: Path) -> None:
    port = served.port()
    with served.connect(port) as peer, served.connect(port) as watcher:
        page = peer.ask("/")
        assert page.get("content-type") == "text/html; charset=utf-8"
        action = re.findall(
            r'<form action="(/uploads/[0-9a-f-]{36})" method="post" enctype="multipart/form-data">', page.text
        )
        assert len(action) == 1
        content = form(
            ('name="files"; filename="../../caf\u00e9.bin"', b"x" * 3_000_000),
            ('name="note"', b"a note"),
            ('name="files"; filename=""', b""),
        )
        half = 1_500_000
        headers = ["Content-Type: multipart/form-data; boundary=b", f"Content-Length: {len(content)}"]
        peer.send(message(action[0], "POST", headers, content[:half]))

        watcher.send(message(f"{action[0]}/progress"))
        assert watcher.read_head().get("content-type") == "text/event-stream"
        seen = [next_event(watcher)]
        while seen[-1][1]["received"] < half - 100_000:
            seen.append(next_event(watcher))
        assert {name for name, _ in seen} == {"progress"}
        assert seen[-1][1]["received"] <= half
        assert seen[-1][1]["total"] == len(content)
        assert not [path for path in (tmp_path / "uploads").iterdir() if path.suffix != ".part"]

        peer.send(content[half:])
        answer = peer.read_answer()
        assert answer.status == 200, answer.text
        result = orjson.loads(answer.content)
        assert result["note"] == "a note"
        assert [(file["name"], file["size"]) for file in result["files"]] == [("../../caf\u00e9.bin", 3_000_000)]
        assert result["next"].startswith("/uploads/")
        while seen[-1][0] == "progress":
            seen.append(next_event(watcher))
        assert seen[-1] == ("end", {"received": 3_000_000, "total": len(content)})
        (stored,) = (tmp_path / "uploads").iterdir()
        assert stored.name == result["files"][0]["stored"]
        assert stored.name.endswith("-0-caf\u00e9.bin")
        assert stored.read_bytes() == b"x" * 3_000_000


def test_what_is_no_upload_is_refused(served: Program, tmp_path: Path) -> None:
    port = served.port()
    with served.connect(port) as peer:
        number = "00000000-0000-0000-0000-000000000000"
        answer = peer.ask(f"/uploads/{number}", "POST", [("Content-Type", "text/plain")], b"x")
        assert answer.status == 415
    with served.connect(port) as peer:
        assert peer.ask("/uploads/1", "POST", [], b"x").status == 404
    with served.connect(port) as peer:
        content = form(('name="files"; filename="a"', b"x" * 1000))
        half = content[:-10]
        answer = peer.ask(f"/uploads/{number}", "POST", [("Content-Type", "multipart/form-data; boundary=b")], half)
        assert (answer.status, "part 1" in answer.text) == (400, True)
    assert list((tmp_path / "uploads").iterdir()) == []
