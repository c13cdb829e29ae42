"""Forms: urlencoded, multipart, files and parts (RFC 7578; the URL standard §5.1), from clients good and bad."""

import asyncio
import hashlib
import json
import os
import random
import shutil
import stat
import subprocess
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus, urlencode

import aiohttp
import httpx
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from python_multipart.multipart import MultipartParser as PeerParser

from conftest import Answer, Peer, Serve, Served, Start
from hostile import Diary, has_no_connections, message, wait_until
from vibora import JsonResponse, Request, Response, RouteLimits, Vibora
from vibora.exceptions import BadRequest, StreamAlreadyConsumed
from vibora.forms import FormData, Part, UploadedFile, UploadedFiles, safe_filename
from vibora.multipart import MultipartParser, PartHead
from vibora.request import QueryArgs

MEGABYTE = 1024 * 1024
URLENCODED = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data; boundary=b"

#: Header lines of a part, and its content.
Raw = tuple[Sequence[str | bytes], bytes]


def field(name: str, content: bytes = b"x", *lines: str) -> Raw:
    return [f'Content-Disposition: form-data; name="{name}"', *lines], content


def file(name: str, filename: str, content: bytes = b"x", *lines: str) -> Raw:
    return [f'Content-Disposition: form-data; name="{name}"; filename="{filename}"', *lines], content


def multipart(*parts: Raw, end: bytes = b"--b--\r\n") -> bytes:
    pieces = []
    for lines, content in parts:
        head = b"".join((line.encode() if isinstance(line, str) else line) + b"\r\n" for line in lines)
        pieces += [b"--b\r\n", head, b"\r\n", content, b"\r\n"]
    return b"".join([*pieces, end])


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def app_with_forms(  # noqa: C901  a handler for each way
    folder: Path | None = None, diary: Diary | None = None, **limits: Any
) -> Vibora:
    """Return an app that says what it was sent."""
    app = Vibora(route_limits=RouteLimits(**{"max_body_size": 64 * MEGABYTE, **limits}))
    noted = diary or Diary()

    @app.post("/form")
    async def form(request: Request) -> Response:
        fields = await request.form()
        files = await request.files()
        return JsonResponse(
            {
                "fields": fields.items(),
                "files": [
                    [file.name, file.filename, file.content_type, file.size, digest(await file.read()), file.in_memory]
                    for file in files
                ],
            }
        )

    @app.post("/parts")
    async def parts(request: Request) -> Response:
        seen: list[list[object]] = []
        async for part in request.multipart():
            if part.filename is None:
                seen.append([part.name, await part.text()])
            else:
                sha = hashlib.sha256()
                async for piece in part:
                    sha.update(piece)
                seen.append([part.name, part.filename, part.content_type, sha.hexdigest()[:16]])
        return JsonResponse(seen)

    @app.post("/save")
    async def save(request: Request) -> Response:
        assert folder is not None
        sizes = []
        try:
            async for part in request.multipart():
                if part.filename is not None:
                    noted.write("begins")
                    sizes.append(await part.save(folder / safe_filename(part.filename)))
        except BaseException as error:
            noted.write(type(error).__name__)
            raise
        return JsonResponse(sizes)

    @app.post("/strict")
    async def strict(request: Request) -> Response:
        return JsonResponse(await request.json(strict=True))

    return app


def ask(served: Served, target: str, content: bytes, content_type: str | None = MULTIPART) -> Answer:
    headers = [("Content-Type", content_type)] if content_type is not None else []
    return served.ask(target, "POST", headers, content)


def seen(answer: Answer) -> Any:
    assert answer.status == 200, answer.text
    return orjson.loads(answer.content)


class TestUrlencoded:
    @pytest.mark.parametrize(
        ("content", "fields"),
        [
            (b"", []),
            (b"a=1&b=2", [["a", "1"], ["b", "2"]]),
            (b"a=1&a=2&a", [["a", "1"], ["a", "2"], ["a", ""]]),
            (b"&&=&a=b=c", [["", ""], ["a", "b=c"]]),
            (b"caf%C3%A9=%E2%82%AC+x%20y", [["caf\u00e9", "\u20ac x y"]]),
            # The URL standard: what is no escape stands for itself. `;` separates nothing (CVE-2020-28473).
            (b"a=%zz%4&b=100%;c=d", [["a", "%zz%4"], ["b", "100%;c=d"]]),
            (b"a=%00%0d%0a", [["a", "\0\r\n"]]),
        ],
    )
    def test_pairs_are_decoded(self, serve: Serve, content: bytes, fields: list[list[str]]) -> None:
        served = serve(app_with_forms())
        assert seen(ask(served, "/form", content, URLENCODED)) == {"fields": fields, "files": []}

    @pytest.mark.parametrize(
        ("charset", "codec"),
        [
            ("utf-8", "utf-8"),
            ('"UTF-8"', "utf-8"),
            ("iso-8859-1", "cp1252"),
            ("shift_jis", "cp932"),
            ("euc-kr", "cp949"),
        ],
    )
    def test_the_charset_is_that_of_the_content_type(self, serve: Serve, charset: str, codec: str) -> None:
        text = {"cp932": "\u65e5\u672c", "cp949": "\ud55c\uae00"}.get(codec, "\u20ac\u00e9")
        content = f"a={quote_plus(text, encoding=codec)}".encode()
        served = serve(app_with_forms())
        assert seen(ask(served, "/form", content, f"{URLENCODED}; charset={charset}"))["fields"] == [["a", text]]

    @pytest.mark.parametrize(
        ("content", "content_type", "status", "reason"),
        [
            (b"a=%ff", URLENCODED, 400, "field 1 of the form is not utf-8 text"),
            (b"a=%81", f"{URLENCODED}; charset=windows-1252", 400, "is not cp1252 text"),
            (b"a=b", f"{URLENCODED}; charset=utf-7", 415, 'charset "utf-7" is unknown'),
            (b"a=b", f"{URLENCODED}; charset=a; charset=b", 400, "malformed"),
            (b"a=b", "text/plain", 415, 'the content-type is "text/plain"; expected is application/x-www'),
            (b"a=b", None, 415, "no content-type"),
        ],
    )
    def test_what_is_no_form_is_refused(
        self, serve: Serve, content: bytes, content_type: str | None, status: int, reason: str
    ) -> None:
        answer = ask(serve(app_with_forms()), "/form", content, content_type)
        assert answer.status == status
        assert reason in answer.text

    def test_nothing_is_an_empty_form(self, serve: Serve) -> None:
        assert seen(ask(serve(app_with_forms()), "/form", b"", None)) == {"fields": [], "files": []}

    def test_fields_are_counted(self, serve: Serve) -> None:
        served = serve(app_with_forms(max_form_fields=3))
        assert len(seen(ask(served, "/form", b"a&b&c", URLENCODED))["fields"]) == 3
        answer = ask(served, "/form", b"a&b&c&d", URLENCODED)
        assert (answer.status, answer.text) == (413, "the form has more than 3 fields")

    @pytest.mark.parametrize("framing", ["length", "chunked"])
    def test_their_size_is_limited_together(self, serve: Serve, framing: str) -> None:
        served = serve(app_with_forms(max_fields_size=100))
        for size, status in ((100, 200), (101, 413)):
            content = b"a=" + b"x" * (size - 2)
            headers = [("Content-Type", URLENCODED)]
            with served.connect() as peer:
                if framing == "length":
                    answer = peer.ask("/form", "POST", headers, content)
                else:
                    lines = [f"Content-Type: {URLENCODED}", "Transfer-Encoding: chunked"]
                    peer.send(message("/form", "POST", lines, b"%x\r\n%b\r\n0\r\n\r\n" % (size, content)))
                    answer = peer.read_answer()
            assert answer.status == status
            if status == 413:
                assert answer.text == "the fields of the form are larger than 100 bytes together"


class TestForm:
    def test_the_fields_are_a_multi_dict(self, serve: Serve) -> None:
        app = Vibora()
        kept: list[FormData] = []

        @app.post("/")
        async def home(request: Request) -> Response:
            kept.append(await request.form())
            return Response()

        served = serve(app)
        served.ask("/", "POST", [("Content-Type", URLENCODED)], b"a=1&b=2&a=3")
        form = kept[0]
        assert isinstance(form, QueryArgs)
        assert repr(form) == 'FormData([("a", "1"), ("b", "2"), ("a", "3")])'
        assert (form["a"], form.get("a"), form.get("c"), form.get("c", "d")) == ("1", "1", None, "d")
        assert form.get_all("a") == form.get_list("a") == ["1", "3"]
        assert form.to_dict() == {"a": ["1", "3"], "b": ["2"]}
        assert (list(form), len(form), "a" in form, "c" in form) == (["a", "b"], 3, True, False)
        with pytest.raises(KeyError):
            form["c"]

    def test_it_is_read_once_and_kept(self, serve: Serve) -> None:
        app = Vibora()

        @app.post("/")
        async def home(request: Request) -> Response:
            assert await request.form() is await request.form()
            assert await request.files() is await request.files()
            for other in (request.content(), request.text(), anext(request.stream)):
                with pytest.raises(StreamAlreadyConsumed):
                    await other
            with pytest.raises(StreamAlreadyConsumed):
                request.multipart()
            return Response()

        assert ask(serve(app), "/", multipart(field("a"), file("b", "c"))).status == 200

    def test_content_that_was_read_as_a_whole_is_a_form_still(self, serve: Serve) -> None:
        app = Vibora(route_limits=RouteLimits(in_memory_threshold=10))

        @app.post("/<kind>")
        async def home(request: Request, kind: str) -> Response:
            content = await request.content()
            names = (
                [part.name async for part in request.multipart()]
                if kind == "parts"
                else [*(await request.form()).keys(), *(file.name for file in await request.files())]
            )
            assert await request.content() is content
            return JsonResponse(names)

        served = serve(app)
        for kind in ("form", "parts"):
            assert seen(ask(served, f"/{kind}", multipart(field("a"), file("b", "c", b"x" * 100)))) == ["a", "b"]

    def test_streamed_content_is_no_form_any_more(self, serve: Serve) -> None:
        app = Vibora()

        @app.post("/")
        async def home(request: Request) -> Response:
            await request.stream.read()
            with pytest.raises(StreamAlreadyConsumed):
                await request.form()
            return Response()

        assert ask(serve(app), "/", b"a=b", URLENCODED).status == 200

    def test_files_are_found_by_place_and_by_name(self, serve: Serve) -> None:
        app = Vibora()

        @app.post("/")
        async def home(request: Request) -> Response:
            files = await request.files()
            assert isinstance(files, UploadedFiles)
            assert [file.filename for file in files] == ["1", "2", "3"]
            assert (files[0].filename, files[-1].filename, files["a"].filename) == ("1", "3", "1")
            assert [file.filename for file in files[1:]] == ["2", "3"]
            assert [file.filename for file in files.get_all("a")] == ["1", "3"]
            assert (files.get("b"), files.get("c")) == (files[1], None)
            assert ("a" in files, "c" in files, files[0] in files, len(files), bool(files)) == (  # type: ignore[comparison-overlap]
                True,
                False,
                True,
                3,
                True,
            )
            with pytest.raises(KeyError):
                files["c"]
            with pytest.raises(IndexError):
                files[3]
            assert "'a' '1' of 1 bytes" in repr(files)
            return Response()

        assert ask(serve(app), "/", multipart(file("a", "1"), file("b", "2"), file("a", "3"))).status == 200


class TestMultipart:
    """RFC 7578, as whole forms and part by part."""

    def test_fields_and_files(self, serve: Serve) -> None:
        served = serve(app_with_forms())
        content = multipart(
            field("title", "caf\u00e9".encode()),
            file("empty", "e.txt", b""),
            field("none", b""),
            file("data", "\u65e5\u672c.bin", b"\r\n--\r\n--a\0\xff", "Content-Type: image/png; x=y"),
            field("title", b"again", "Content-Type: text/plain; charset=iso-8859-1"),
        )
        assert seen(ask(served, "/form", content)) == {
            "fields": [["title", "caf\u00e9"], ["none", ""], ["title", "again"]],
            "files": [
                ["empty", "e.txt", "application/octet-stream", 0, digest(b""), True],
                ["data", "\u65e5\u672c.bin", "image/png; x=y", 11, digest(b"\r\n--\r\n--a\0\xff"), True],
            ],
        }
        assert seen(ask(served, "/parts", content)) == [
            ["title", "caf\u00e9"],
            ["empty", "e.txt", None, digest(b"")],
            ["none", ""],
            ["data", "\u65e5\u672c.bin", "image/png; x=y", digest(b"\r\n--\r\n--a\0\xff")],
            ["title", "again"],
        ]

    def test_no_cut_makes_a_difference(self, serve: Serve) -> None:
        served = serve(app_with_forms())
        content = multipart(field("a", b"\r\n-\r\n--"), file("b", "c", b"-\r--b"))
        expected = seen(ask(served, "/form", content))
        head = message("/form", "POST", [f"Content-Type: {MULTIPART}", "Transfer-Encoding: chunked"])
        with served.connect() as peer:
            for at in range(1, len(content)):
                pieces = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in (content[:at], content[at:]))
                peer.send(head + pieces + b"0\r\n\r\n")
                assert seen(peer.read_answer()) == expected, at

    def test_a_file_input_without_a_file_is_no_file(self, serve: Serve) -> None:
        """HTML §4.10.21.7."""
        content = multipart(file("a", "", b"", "Content-Type: application/octet-stream"), field("b"))
        assert seen(ask(serve(app_with_forms()), "/form", content)) == {"fields": [["b", "x"]], "files": []}

    def test_a_form_without_parts(self, serve: Serve) -> None:
        served = serve(app_with_forms())
        assert seen(ask(served, "/form", b"--b--\r\n")) == {"fields": [], "files": []}
        assert seen(ask(served, "/parts", b"--b--")) == []

    def test_the_charset_of_the_form(self, serve: Serve) -> None:
        """RFC 7578 §4.6: `_charset_`, and the charset of a part, which counts for that part alone."""
        name = b'Content-Disposition: form-data; name="\xe9"'
        content = multipart(
            field("a", "\u20ac".encode("utf-16-le"), "Content-Type: text/plain; charset=koi8-r"),
            field("_charset_", b"iso-8859-1"),
            ([name], b"\x80"),
            field("c", "\u20ac".encode(), "Content-Type: text/plain; charset=utf-8"),
        )
        served = serve(app_with_forms())
        expected = [
            ["a", b"\xac\x20".decode("koi8-r")],
            ["_charset_", "iso-8859-1"],
            ["\u00e9", "\u20ac"],
            ["c", "\u20ac"],
        ]
        assert seen(ask(served, "/form", content))["fields"] == expected
        assert seen(ask(served, "/parts", content)) == expected

    MALFORMED = (
        (multipart(field("a")), "multipart/form-data", 400, "has no boundary (RFC 7578 §4.1)"),
        (multipart(field("a")), "multipart/form-data; boundary=", 400, "malformed"),
        (multipart(field("a")), 'multipart/form-data; boundary="b', 400, "malformed"),
        (multipart(field("a")), "multipart/form-data; boundary=b; boundary=c", 400, "malformed"),
        (multipart(field("a")), f"multipart/form-data; boundary={'b' * 71}", 400, "1 to 70 characters"),
        (multipart(field("a")), "multipart/form-data; boundary=c", 400, "the delimiter does not occur"),
        (multipart(field("a")), "multipart/mixed; boundary=b", 415, "multipart/mixed"),
        (b"", MULTIPART, 400, "the delimiter does not occur"),
        (b"x" * 2000, MULTIPART, 400, "does not begin with the delimiter"),
        (multipart(field("a")) + b"x" * 2000, MULTIPART, 400, "more follows the last delimiter"),
        (multipart(field("a"), end=b""), MULTIPART, 400, "part 1: the content ends before its last delimiter"),
        (multipart(field("a"), file("b", "c"))[:-9], MULTIPART, 400, "part 2: the content ends before its last"),
        (multipart(field("a")).replace(b"\r\n", b"\n"), MULTIPART, 400, "a line feed without a carriage return"),
        (
            multipart(field("a"), (["a: b"], b"")),
            MULTIPART,
            400,
            "part 2: a part does not have exactly",
        ),
        (multipart(([], b"")), MULTIPART, 400, "exactly one content-disposition"),
        (multipart((["Content-Disposition: attachment; name=a"], b"")), MULTIPART, 400, "is not form-data"),
        (multipart((["Content-Disposition: form-data; filename=a"], b"")), MULTIPART, 400, "a part has no name"),
        (
            multipart(field("a", b"", "Content-Transfer-Encoding: base64")),
            MULTIPART,
            415,
            "content-transfer-encoding",
        ),
        (multipart(field("a", b"\xff")), MULTIPART, 400, 'part "a" is not utf-8 text'),
        (
            multipart(([b'Content-Disposition: form-data; name="\xff"'], b"")),
            MULTIPART,
            400,
            "its name is not utf-8",
        ),
        (
            multipart(field("a", b"", "Content-Type: text/plain; charset=x")),
            MULTIPART,
            415,
            'charset "x" is unknown',
        ),
        (multipart(field("_charset_", b"utf-7")), MULTIPART, 400, '_charset_ "utf-7" is unknown'),
        (multipart(field("a", b"", "x: \0")), MULTIPART, 400, "control character"),
    )

    @pytest.mark.parametrize("target", ["/form", "/parts"])
    def test_what_is_malformed_is_refused_with_a_reason(self, serve: Serve, target: str) -> None:
        served = serve(app_with_forms())
        for content, content_type, status, reason in self.MALFORMED:
            answer = ask(served, target, content, content_type)
            expected = reason.replace('part "a"', 'field "a"') if target == "/form" else reason
            assert (answer.status, expected in answer.text) == (status, True), (reason, answer.text)
        assert served.errors == []


class TestLimits:
    def test_a_thousand_parts(self, serve: Serve) -> None:
        served = serve(app_with_forms())
        content = multipart(*(field(str(number), b"v") for number in range(1000)))
        assert len(seen(ask(served, "/form", content))["fields"]) == 1000
        for target in ("/form", "/parts"):
            answer = ask(served, target, multipart(*(field("a") for _ in range(1001))))
            assert (answer.status, answer.text) == (413, "the form has more than 1000 fields")
            answer = ask(served, target, multipart(*(file("a", "b") for _ in range(1000))))
            assert (answer.status, answer.text) == (413, "the form has more than 100 files")

    @pytest.mark.parametrize("target", ["/form", "/parts"])
    def test_a_megabyte_of_header_in_a_part(self, serve: Serve, target: str) -> None:
        served = serve(app_with_forms())
        for line in (f"X: {'x' * MEGABYTE}", "x" * MEGABYTE):
            started = time.monotonic()
            answer = ask(served, target, multipart(field("a", b"", line)))
            assert (answer.status, "the header section of a part is too large" in answer.text) == (431, True)
            assert time.monotonic() - started < 2
        answer = ask(served, target, multipart(field("a", b"", *["a: b"] * 32)))
        assert (answer.status, "too many lines" in answer.text) == (431, True)

    def test_fields_are_limited_together(self, serve: Serve) -> None:
        """CVE-2024-47874, CVE-2025-69228: neither one large field, nor many that are each just small enough."""
        served = serve(app_with_forms(max_fields_size=10_000))
        assert seen(ask(served, "/form", multipart(field("a", b"x" * 9_900), file("b", "c", b"x" * 100_000))))
        for parts in ([field("a", b"x" * 10_000)], [field("a", b"x" * 900)] * 11, [field("a" * 900, b"")] * 11):
            answer = ask(served, "/form", multipart(*parts))
            assert answer.text == "the fields of the form are larger than 10000 bytes together"
            assert answer.status == 413
        answer = ask(served, "/parts", multipart(field("a", b"x" * 10_001)))
        assert (answer.status, answer.text) == (413, "part 'a' is larger than 10000 bytes")

    def test_the_body_is_limited_as_ever(self, serve: Serve) -> None:
        served = serve(app_with_forms(max_body_size=1000))
        for target in ("/form", "/parts"):
            assert ask(served, target, multipart(file("a", "b", b"x" * 1000))).status == 413

    @pytest.mark.parametrize("target", ["/form", "/parts"])
    @pytest.mark.parametrize("flood", [b"\r\n--", b"\r\n", b"\r", b"\n--b", b"\r\n-"])
    def test_what_looks_like_delimiters_costs_no_more(self, serve: Serve, target: str, flood: bytes) -> None:
        """CVE-2023-46136, CVE-2024-53981."""
        content = flood * (4 * MEGABYTE // len(flood))
        served = serve(app_with_forms())
        started = time.monotonic()
        assert ask(served, target, multipart(file("a", "b", content), end=b"--b--")).status == 200
        assert time.monotonic() - started < 4


class TestUploadedFile:
    @pytest.mark.parametrize("threshold", [0, 10, MEGABYTE])
    def test_it_reads_seeks_and_saves(self, serve: Serve, tmp_path: Path, threshold: int) -> None:
        content = bytes(range(256)) * 400
        app = Vibora(route_limits=RouteLimits(in_memory_threshold=threshold))

        @app.post("/")
        async def home(request: Request) -> Response:
            first, second = await request.files()
            assert isinstance(first, UploadedFile)
            assert (first.in_memory, second.in_memory) == (threshold > 10, threshold > 0)
            assert (first.size, second.size, await second.read()) == (len(content), 3, b"abc")
            assert first.headers["content-type"] == first.content_type == "image/png"
            assert (await first.read(3), first.tell(), await first.read(2)) == (b"\0\1\2", 3, b"\3\4")
            assert await first.read() == content[5:]
            assert (await first.read(), await first.read(5)) == (b"", b"")
            assert (first.seek(1000), await first.read(1)) == (1000, content[1000:1001])
            assert (first.seek(), b"".join([piece async for piece in first])) == (0, content)
            assert (first.seek(len(content) + 5), await first.read()) == (len(content) + 5, b"")
            with pytest.raises(ValueError, match="not negative"):
                first.seek(-1)
            await first.save(tmp_path / "first")
            await second.save(str(tmp_path / "second"))
            first.close()
            with pytest.raises(ValueError, match="lives as long as its request"):
                await first.read()
            with pytest.raises(ValueError, match="closed"):
                await first.save(tmp_path / "third")
            return Response()

        parts = multipart(file("a", "1", content, "Content-Type: image/png"), file("b", "2", b"abc"))
        answer = ask(serve(app), "/", parts)
        assert answer.status == 200, answer.text
        assert (tmp_path / "first").read_bytes() == content
        assert (tmp_path / "second").read_bytes() == b"abc"
        assert {path.name for path in tmp_path.iterdir()} == {"first", "second"}

    def test_small_ones_stay_in_memory_as_far_as_the_limit_goes(self, serve: Serve) -> None:
        served = serve(app_with_forms(in_memory_threshold=1000))
        sizes = [400, 400, 400, 100, 5000, 100, 1]
        files = [file(str(number), "x", bytes([number]) * size) for number, size in enumerate(sizes)]
        answer = seen(ask(served, "/form", multipart(*files)))
        assert [entry[3] for entry in answer["files"]] == sizes
        assert [entry[4] for entry in answer["files"]] == [digest(content) for _, content in files]
        assert [entry[5] for entry in answer["files"]] == [True, True, False, True, False, True, False]

    def test_it_replaces_a_file_when_it_is_complete_and_writes_to_what_is_none(
        self, serve: Serve, tmp_path: Path
    ) -> None:
        app = Vibora()
        (tmp_path / "old").write_text("old")
        (tmp_path / "link").symlink_to(tmp_path / "old")

        @app.post("/")
        async def home(request: Request) -> Response:
            (upload,) = await request.files()
            await upload.save(tmp_path / "link")
            await upload.save(os.devnull)
            with pytest.raises(IsADirectoryError):
                await upload.save(tmp_path)
            with pytest.raises(FileNotFoundError):
                await upload.save(tmp_path / "nowhere" / "file")
            return Response()

        assert ask(serve(app), "/", multipart(file("a", "b", b"new"))).status == 200
        assert (tmp_path / "old").read_bytes() == b"new"
        assert (tmp_path / "link").is_symlink()
        assert stat.S_ISCHR(Path(os.devnull).stat().st_mode)
        assert {path.name for path in tmp_path.iterdir()} == {"old", "link"}

    @pytest.mark.parametrize("ending", ["answer", "error", "abort", "timeout", "disconnect", "unread"])
    def test_the_temporary_file_goes_with_the_exchange(self, serve: Serve, ending: str) -> None:
        """However it ends: nothing stays open, and what is kept of it says why it cannot be read."""
        app = Vibora(route_limits=RouteLimits(in_memory_threshold=0, timeout=0.3 if ending == "timeout" else 30))
        kept: list[UploadedFile] = []
        diary = Diary()
        others = open_temporary_files()

        @app.post("/", on_disconnect="cancel")
        async def home(request: Request) -> Response:
            kept.extend(await request.files())
            assert len(open_temporary_files() - others) == 1
            diary.write("read")
            if ending == "error":
                raise RuntimeError("on purpose")
            if ending == "abort":
                raise BadRequest
            if ending in ("timeout", "disconnect"):
                await asyncio.sleep(60)
            return Response()

        served = serve(app)
        content = multipart(file("a", "b", b"x" * 100_000))
        with served.connect() as peer:
            if ending == "unread":
                whole = message("/", "POST", [f"Content-Type: {MULTIPART}", f"Content-Length: {len(content)}"], content)
                peer.send(whole[:-20])
            else:
                headers = [f"Content-Type: {MULTIPART}", f"Content-Length: {len(content)}"]
                peer.send(message("/", "POST", headers, content))
                diary.wait_for("read")
                if ending != "disconnect":
                    status = {"error": 500, "abort": 400, "timeout": 503}.get(ending, 200)
                    assert peer.read_answer().status == status
            peer.reset()
        assert has_no_connections(served)
        assert wait_until(lambda: open_temporary_files() <= others, 5)
        for upload in kept:
            with pytest.raises(ValueError, match="lives as long as its request"):
                served.run(lambda upload=upload: upload.read())  # type: ignore[misc]

    def test_the_loop_is_not_blocked(self, serve: Serve) -> None:
        """CVE-2025-54121."""
        served = serve(app_with_forms(in_memory_threshold=0, max_body_size=200 * MEGABYTE))
        late: list[float] = []

        async def watch() -> None:
            for _ in range(40):
                before = time.monotonic()
                await asyncio.sleep(0.01)
                late.append(time.monotonic() - before - 0.01)

        content = multipart(file("a", "b", bytes(40 * MEGABYTE)))
        watching = threading.Thread(target=lambda: served.run(watch))
        watching.start()
        assert ask(served, "/form", content).status == 200
        watching.join()
        assert sorted(late)[len(late) // 2] < 0.05


def open_temporary_files() -> set[str]:
    """Return what is open, and has no name any more."""
    found = set()
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            target = str(descriptor.readlink())
        except FileNotFoundError:
            continue
        if target.endswith("(deleted)") and target.startswith(("/tmp/", os.environ.get("TMPDIR", "/tmp"))):  # noqa: S108
            found.add(target)
    return found


class TestParts:
    def test_they_come_as_they_arrive(self, serve: Serve) -> None:
        app = Vibora()
        diary = Diary()

        @app.post("/")
        async def home(request: Request) -> Response:
            async for part in request.multipart():
                diary.write(f"part {part.name}")
                async for piece in part:
                    diary.write(piece.decode())
            return Response()

        served = serve(app)
        content = multipart(field("a", b"one"), file("b", "c", b"two"))
        at = content.index(b"one") + 3
        later = content.index(b"two") + 1
        with served.connect() as peer:
            peer.send(message("/", "POST", [f"Content-Type: {MULTIPART}", f"Content-Length: {len(content)}"]))
            peer.send(content[:at])
            diary.wait_for("one")
            peer.send(content[at:later])
            diary.wait_for("t")
            peer.send(content[later:])
            assert peer.read_answer().status == 200
        assert diary.entries == ["part a", "one", "part b", "t", "wo"]

    def test_what_is_not_read_is_skipped(self, serve: Serve) -> None:
        app = Vibora()

        @app.post("/")
        async def home(request: Request) -> Response:
            names: list[str] = []
            passed: Part | None = None
            async for part in request.multipart():
                if passed is not None:
                    with pytest.raises(StreamAlreadyConsumed, match="'0' has been passed"):
                        await passed.read()
                    passed = None
                names.append(part.name)
                if part.name == "0":
                    await anext(part)
                    passed = part
                if part.name == "2":
                    assert await part.read(200_000) == b"x" * 200_000
                    assert await part.read() == b""
            return JsonResponse(names)

        parts = multipart(*(file(str(number), "f", b"x" * 200_000) for number in range(4)))
        assert seen(ask(serve(app), "/", parts)) == ["0", "1", "2", "3"]

    def test_they_are_saved(self, serve: Serve, tmp_path: Path) -> None:
        served = serve(app_with_forms(tmp_path))
        contents = [random.randbytes(size) for size in (0, 1, 3_000_000)]
        content = multipart(field("a"), *(file("f", f"../{len(content)}", content) for content in contents))
        assert seen(ask(served, "/save", content)) == [0, 1, 3_000_000]
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
            str(len(content)): content for content in contents
        }

    @pytest.mark.parametrize("ending", ["truncated", "disconnect", "too large", "malformed"])
    def test_half_a_file_is_not_left_behind(self, serve: Serve, tmp_path: Path, ending: str) -> None:
        diary = Diary()
        served = serve(app_with_forms(tmp_path, diary, max_body_size=2 * MEGABYTE))
        content = multipart(file("a", "b", b"x" * 1_500_000))
        if ending == "malformed":
            content = content[:-7] + b"\r\n--bX"
        with served.connect() as peer:
            if ending == "truncated":
                answer = peer.ask("/save", "POST", [("Content-Type", MULTIPART)], content[:1_000_000])
                assert answer.status == 400
            elif ending == "malformed":
                assert peer.ask("/save", "POST", [("Content-Type", MULTIPART)], content).status == 400
            else:
                peer.send(message("/save", "POST", [f"Content-Type: {MULTIPART}", "Transfer-Encoding: chunked"]))
                peer.send(b"100000\r\n" + content[:MEGABYTE] + b"\r\n")
                assert wait_until(lambda: any(path.suffix == ".part" for path in tmp_path.iterdir()), 5)
                if ending == "too large":
                    peer.send(b"200000\r\n" + bytes(2 * MEGABYTE))
                    assert peer.read_answer().status == 413
                else:
                    peer.reset()
                    diary.wait_for("ClientDisconnected")
        assert has_no_connections(served)
        assert list(tmp_path.iterdir()) == []

    def test_a_limit_of_its_own(self, serve: Serve, tmp_path: Path) -> None:
        app = Vibora()

        @app.post("/<way>")
        async def home(request: Request, way: str) -> Response:
            async for part in request.multipart():
                if way == "read":
                    await part.read(10)
                else:
                    await part.save(tmp_path / "file", limit=10)
            return Response()

        served = serve(app)
        for way in ("read", "save"):
            assert ask(served, f"/{way}", multipart(file("a", "b", b"x" * 10))).status == 200
            answer = ask(served, f"/{way}", multipart(file("a", "b", b"x" * 11)))
            assert (answer.status, answer.text) == (413, "part 'a' is larger than 10 bytes")
        assert [path.name for path in tmp_path.iterdir()] == ["file"]


class TestClients:
    """What real clients send."""

    #: Names and file names that every one of them has to quote somehow.
    NAMES = ("plain", "two words", "caf\u00e9", 'quo"te', "per%22cent", "semi;colon=", "\U0001f600")

    def test_browsers(self, serve: Serve) -> None:
        served = serve(app_with_forms())
        chrome = "----WebKitFormBoundaryx8jO2oVc6SWP3Sad"
        firefox = "---------------------------9051914041544843365972754266"
        body = (
            '--{b}\r\nContent-Disposition: form-data; name="text"\r\n\r\na\r\nb\r\n'
            '--{b}\r\nContent-Disposition: form-data; name="quo%22te"; filename="caf\u00e9 %22x%22;.txt"\r\n'
            "Content-Type: text/plain\r\n\r\nContent of a.txt.\n\r\n"
            '--{b}\r\nContent-Disposition: form-data; name="none"; filename=""\r\n'
            "Content-Type: application/octet-stream\r\n\r\n\r\n"
            "--{b}--\r\n"
        )
        for boundary in (chrome, firefox, "----geckoformboundary5b1d3e7e1b"):
            content = body.replace("{b}", boundary).encode()
            assert seen(ask(served, "/form", content, f"multipart/form-data; boundary={boundary}")) == {
                "fields": [["text", "a\r\nb"]],
                "files": [['quo"te', 'caf\u00e9 "x";.txt', "text/plain", 18, digest(b"Content of a.txt.\n"), True]],
            }

    @pytest.mark.skipif(shutil.which("curl") is None, reason="curl is the client")
    @pytest.mark.parametrize("escape", [[], ["--form-escape"]])
    def test_curl(self, serve: Serve, tmp_path: Path, escape: list[str]) -> None:
        served = serve(app_with_forms(in_memory_threshold=1000))
        content = random.randbytes(2_000_000)
        (tmp_path / "photo.png").write_bytes(content)
        arguments = [
            "-F",
            "a=b c",
            "-F",
            f"file=@{tmp_path / 'photo.png'}",
            "-F",
            'x=@-;filename="q\\"\\\\.txt";type=a/b',
        ]
        command = ["curl", "-s", *escape, *arguments, f"{served.url}/form"]
        result = subprocess.run(command, input=b"stdin", capture_output=True, check=True, timeout=20)
        assert orjson.loads(result.stdout) == {
            "fields": [["a", "b c"]],
            "files": [
                ["file", "photo.png", "image/png", len(content), digest(content), False],
                ["x", 'q"\\.txt', "a/b", 5, digest(b"stdin"), True],
            ],
        }
        command = ["curl", "-s", "--data-urlencode", "a=b c&d", "-d", "e=f", f"{served.url}/form"]
        result = subprocess.run(command, capture_output=True, check=True, timeout=20)
        assert orjson.loads(result.stdout)["fields"] == [["a", "b c&d"], ["e", "f"]]

    def test_httpx(self, serve: Serve) -> None:
        served = serve(app_with_forms())
        with httpx.Client(base_url=served.url) as client:
            for name in self.NAMES:
                files = [(name, (name, b"1", "a/b")), (name, (name, b"2", "c/d"))]
                answer = client.post("/form", data={name: ["x", "y"]}, files=files).json()
                assert answer["fields"] == [[name.replace("%22", '"'), "x"], [name.replace("%22", '"'), "y"]]
                assert [entry[:2] for entry in answer["files"]] == [[name.replace("%22", '"')] * 2] * 2
                assert client.post("/form", data={name: name}).json()["fields"] == [[name, name]]

    def test_aiohttp(self, serve: Serve) -> None:
        served = serve(app_with_forms())

        async def post() -> None:
            async with aiohttp.ClientSession(served.url) as session:
                for name in self.NAMES:
                    form = aiohttp.FormData(quote_fields=False)
                    form.add_field(name.replace('"', "'"), "x")
                    form.add_field("file", b"1", filename=name.replace('"', "'"), content_type="a/b")
                    async with session.post("/form", data=form) as answer:
                        found = await answer.json()
                    expected = name.replace("%22", '"').replace('quo"te', "quo'te")
                    assert found["fields"] == [[expected, "x"]]
                    assert [entry[:3] for entry in found["files"]] == [["file", expected, "a/b"]]

        asyncio.run(post())


def parse(content: bytes, sizes: Sequence[int] = ()) -> list[tuple[str, str | None, bytes]]:
    """Return the parts that the parser finds, fed in pieces of the sizes, then the rest."""
    parser = MultipartParser("b")
    found: list[tuple[str, str | None, list[bytes]]] = []
    ended = False
    for size in (*sizes, len(content)):
        parser.feed(content[:size])
        content = content[size:]
        while (event := parser.next_event()) is not None:
            if isinstance(event, PartHead):
                found.append((event.name, event.filename, []))
            elif isinstance(event, bytes):
                found[-1][2].append(event)
            else:
                ended = event
    parser.finish()
    assert ended
    return [(name, filename, b"".join(pieces)) for name, filename, pieces in found]


class TestParser:
    """`MultipartParser`, the same that requests use."""

    CONTENT = st.one_of(
        st.binary(max_size=60),
        st.lists(st.sampled_from([b"\r\n", b"--", b"b", b"\r", b"\n", b"-", b"--b", b"x"]), max_size=12).map(b"".join),
    ).filter(lambda content: b"\r\n--b" not in b"\r\n" + content + b"\r\n")
    NAME = st.text(st.characters(exclude_categories=["Cc", "Cs"], exclude_characters='"%\\'), max_size=12)

    @given(parts=st.lists(st.tuples(NAME, st.none() | NAME, CONTENT), max_size=4), sizes=st.lists(st.integers(0, 40)))
    @settings(max_examples=60, deadline=None)
    def test_what_is_encoded_comes_out_however_it_is_cut(
        self, parts: list[tuple[str, str | None, bytes]], sizes: list[int]
    ) -> None:
        encoded = multipart(
            *(
                field(name, content) if filename is None else file(name, filename, content)
                for name, filename, content in parts
            )
        )
        assert parse(encoded, sizes) == parts

    @given(contents=st.lists(CONTENT, min_size=1, max_size=4), sizes=st.lists(st.integers(1, 40)))
    @settings(max_examples=50, deadline=None)
    def test_python_multipart_finds_the_same_parts(self, contents: list[bytes], sizes: list[int]) -> None:
        encoded = multipart(*(field(str(number), content) for number, content in enumerate(contents)))
        theirs: list[list[bytes]] = []
        peer = PeerParser(
            b"b",
            {
                "on_part_begin": lambda: theirs.append([]),
                "on_part_data": lambda data, start, end: theirs[-1].append(data[start:end]),
            },
        )
        rest = encoded
        for size in (*sizes, len(encoded)):
            peer.write(rest[:size])
            rest = rest[size:]
        peer.finalize()
        assert [b"".join(pieces) for pieces in theirs] == [part[2] for part in parse(encoded, sizes)] == contents

    def test_it_is_used_in_order(self) -> None:
        parser = MultipartParser("b")
        assert parser.next_event() is None
        parser.feed(b"--b--")
        with pytest.raises(ValueError, match="fed before"):
            parser.feed(b"")
        assert (parser.next_event(), parser.next_event()) == (True, None)
        parser.feed(b"")
        parser.finish()
        with pytest.raises(BadRequest, match="1 to 70"):
            MultipartParser("")
        with pytest.raises(BadRequest, match="does not occur"):
            MultipartParser("b").finish()

    def test_a_piece_that_is_content_is_not_copied(self) -> None:
        parser = MultipartParser("b")
        parser.feed(multipart(field("a"), end=b"")[:-2])
        while parser.next_event() is not None:
            pass
        piece = b"x" * 100_000
        parser.feed(piece)
        assert parser.next_event() is piece


class TestSafeFilename:
    @pytest.mark.parametrize(
        ("filename", "expected"),
        [
            ("photo.png", "photo.png"),
            ("caf\u00e9 \u65e5\u672c.txt", "caf\u00e9 \u65e5\u672c.txt"),
            ("cafe\u0301", "caf\u00e9"),
            ("../../etc/passwd", "passwd"),
            ("/etc/passwd", "passwd"),
            (r"C:\dir\file.txt", "file.txt"),
            (r"..\..\file", "file"),
            (r"\\server\share\x", "x"),
            ("a:b", "a_b"),
            ('<>:"|?*', "_______"),
            (".htaccess", "htaccess"),
            ("-rf", "rf"),
            ("~/x", "x"),
            ("a.txt. . ", "a.txt"),
            ("con", "_con"),
            ("NUL.tar.gz", "_NUL.tar.gz"),
            ("com1.txt", "_com1.txt"),
            ("console.txt", "console.txt"),
            ("a\0b\x1b[31m\u202egnp.exe", "ab[31mgnp.exe"),
            ("a\r\nb\tc", "a  b c"),
            ("\udc80", "file"),
            ("", "file"),
            (None, "file"),
            (".", "file"),
            ("..", "file"),
            ("a/", "file"),
            ("x" * 300 + ".png", "x" * 196 + ".png"),
            ("\u65e5" * 100 + ".png", "\u65e5" * 65 + ".png"),
        ],
    )
    def test_only_a_name_is_left(self, filename: str | None, expected: str) -> None:
        assert safe_filename(filename) == expected

    @given(st.text(max_size=300))
    @settings(max_examples=50, deadline=None)
    def test_it_is_a_name_whatever_it_was(self, filename: str) -> None:
        name = safe_filename(filename, "default")
        assert name
        assert name not in (".", "..")
        assert not {"/", "\\", "\0", "\n", ":"} & set(name)
        assert len(name.encode()) <= 200
        assert safe_filename(name) == name


class TestStrictJson:
    @pytest.mark.parametrize(
        ("content_type", "status"),
        [
            ("application/json", 200),
            ("Application/JSON; charset=utf-8", 200),
            ("application/vnd.api+json", 200),
            ("text/plain", 415),
            ("text/json5", 415),
            (URLENCODED, 415),
            (None, 415),
        ],
    )
    def test_only_what_says_that_it_is_json(self, serve: Serve, content_type: str | None, status: int) -> None:
        """CVE-2021-32677."""
        answer = ask(serve(app_with_forms()), "/strict", b"[1]", content_type)
        assert answer.status == status
        if status == 415:
            assert "expected is application/json" in answer.text

    def test_what_a_reader_of_ones_own_refuses_is_a_400(self, serve: Serve) -> None:
        app = Vibora()

        @app.post("/")
        async def home(request: Request) -> Response:
            return JsonResponse(await request.json(json.loads))

        served = serve(app)
        assert ask(served, "/", b"[1]", None).text == "[1]"
        for content in (b"[1", b"\xff", b"[" * 100_000):
            answer = ask(served, "/", content, None)
            assert answer.status == 400
            assert answer.text.startswith("invalid JSON: ")
        assert served.errors == []


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is looked up in /proc")
@pytest.mark.parametrize("way", ["form", "save"])
def test_a_large_upload_needs_little_memory(program: Start, tmp_path: Path, way: str) -> None:
    code = f"""
from pathlib import Path
from vibora import JsonResponse, Request, RouteLimits, Vibora

app = Vibora(route_limits=RouteLimits(max_body_size=None, timeout=60))
folder = Path({str(tmp_path)!r})

@app.post("/form")
async def form(request: Request) -> JsonResponse:
    (upload,) = await request.files()
    last = upload.seek(upload.size - 4) and await upload.read()
    return JsonResponse([upload.size, last.decode()])

@app.post("/save")
async def save(request: Request) -> JsonResponse:
    return JsonResponse([await part.save(folder / "saved") async for part in request.multipart()])
"""
    size = 80 * MEGABYTE
    served = program("-m", "vibora", "run", "app.py:app", "--port", "0", code=code, TMPDIR=str(tmp_path))
    port = served.port()
    head, tail = multipart(file("a", "b", b"")).split(b"\r\n\r\n\r\n")
    head, tail = head + b"\r\n\r\n", b"\r\n" + tail
    with served.connect(port) as peer:
        peer.ask("/form", "POST", [("Content-Type", MULTIPART)], head + b"warm" + tail)
        before = peak_memory(served.pid)
        length = len(head) + size + len(tail)
        peer.send(message(f"/{way}", "POST", [f"Content-Type: {MULTIPART}", f"Content-Length: {length}"], head))
        send_zeros(peer, size - 4)
        peer.send(b"last" + tail)
        expected = [size, "last"] if way == "form" else [size]
        assert orjson.loads(peer.read_answer().content) == expected
        assert peak_memory(served.pid) - before < 16 * MEGABYTE
    if way == "save":
        assert (tmp_path / "saved").stat().st_size == size


def send_zeros(peer: Peer, size: int) -> None:
    piece = bytes(MEGABYTE)
    while size:
        peer.send(piece[:size])
        size -= min(size, len(piece))


def peak_memory(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def test_urlencoded_forms_are_those_of_the_standard_library(serve: Serve) -> None:
    pairs = [("a b", "c&d"), ("\u00e9", "\u20ac+%"), ("", "="), ("a b", "")]
    assert seen(ask(serve(app_with_forms()), "/form", urlencode(pairs).encode(), URLENCODED))["fields"] == [
        list(pair) for pair in pairs
    ]
