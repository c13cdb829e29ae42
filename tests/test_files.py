"""Files as responses: validators, preconditions and ranges (RFC 9110 §8.8, §13, §14), on the wire."""

import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from email.message import Message
from email.parser import BytesParser
from email.policy import HTTP
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import Answer, Serve, Served
from hostile import Cost, Diary, connect, has_no_connections, message, read_until_reset, seconds_to_reset, wait_until
from vibora import FileResponse, Request, Response, Vibora
from vibora._media_types import media_type
from vibora._ranges import MAX_RANGES, select_ranges
from vibora._validators import format_date, parse_date
from vibora.files import content_disposition

if TYPE_CHECKING:
    from conftest import Start

CURL = shutil.which("curl") or ""
CONTENT = bytes(range(256)) * 4
#: A moment that no test runs in: 6 November 1994, 08:49:37 UTC.
THEN = 784111777
THEN_AS_DATE = "Sun, 06 Nov 1994 08:49:37 GMT"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a file.bin"
    path.write_bytes(CONTENT)
    os.utime(path, (THEN, THEN))
    return path


def serving(serve: Serve, path: "str | os.PathLike[str]", **options: Any) -> Served:
    """Serve a file at every path."""
    app = Vibora()

    async def show() -> Response:
        return FileResponse(path, **options)

    app.add_route("/<*path>", show, methods=["GET", "POST"])
    return serve(app)


def descriptors(path: Path) -> int:
    """Return how often this process has a file open."""
    return sum(os.path.realpath(name) == str(path.resolve()) for name in Path("/proc/self/fd").iterdir())


class TestWhole:
    def test_sends_the_file_and_what_is_known_of_it(self, serve: Serve, file: Path) -> None:
        answer = serving(serve, file).ask()
        assert (answer.status, answer.content) == (200, CONTENT)
        assert answer.get("content-length") == str(len(CONTENT))
        assert answer.get("content-type") == "application/octet-stream"
        assert answer.get("last-modified") == THEN_AS_DATE
        assert answer.get("accept-ranges") == "bytes"
        assert re.fullmatch(r'"[\x21\x23-\x7e]+"', answer.get("etag") or "")
        assert answer.get("transfer-encoding") is None
        assert answer.get("content-disposition") is None

    @pytest.mark.parametrize("size", [0, 1, 65536, 65537, 262144, 262145, 3_000_001])
    def test_sends_files_of_every_size(self, serve: Serve, tmp_path: Path, size: int) -> None:
        path = tmp_path / "file"
        path.write_bytes(os.urandom(size))
        served = serving(serve, path)
        with served.connect() as peer:
            for _ in range(2):
                answer = peer.ask()
                assert answer.content == path.read_bytes()
                assert answer.get("content-length") == str(size)
        assert has_no_connections(served)
        assert descriptors(path) == 0

    def test_head_is_the_same_without_the_content(self, serve: Serve, file: Path) -> None:
        served = serving(serve, file)
        with served.connect() as peer:
            head, whole = peer.ask(method="HEAD"), peer.ask()
        for answer in (head, whole):
            answer.headers[:] = [field for field in answer.headers if field[0] != "date"]
        assert (head.status, head.headers, head.content) == (whole.status, whole.headers, b"")

    def test_headers_cookies_and_status_are_those_that_were_given(self, serve: Serve, file: Path) -> None:
        answer = serving(
            serve,
            file,
            status_code=404,
            headers={"X-Kept": "yes", "content-length": "5"},
            cookies=["a=1"],
            content_type="text/html",
        ).ask(headers=[("Range", "bytes=0-1"), ("If-None-Match", "*")])
        assert (answer.status, answer.content, answer.get("content-type")) == (404, CONTENT, "text/html")
        assert (answer.get("x-kept"), answer.get("set-cookie")) == ("yes", "a=1")
        assert (answer.get("etag"), answer.get("last-modified"), answer.get("accept-ranges")) == (None, None, None)

    def test_validators_can_be_given_or_left_out(self, serve: Serve, file: Path) -> None:
        answer = serving(serve, file, etag='W/"mine"', headers={"Last-Modified": format_date(86400)}).ask()
        assert (answer.get("etag"), answer.get("last-modified")) == ('W/"mine"', "Fri, 02 Jan 1970 00:00:00 GMT")
        answer = serving(serve, file, etag=False, last_modified=False).ask()
        assert (answer.get("etag"), answer.get("last-modified")) == (None, None)

    def test_the_entity_tag_changes_with_the_file(self, serve: Serve, file: Path) -> None:
        served = serving(serve, file)
        first = served.ask().get("etag")
        assert served.ask().get("etag") == first
        file.write_bytes(CONTENT[::-1])
        os.utime(file, (THEN, THEN))  # the same size and the same date: an archive's, say
        assert served.ask().get("etag") not in (None, first)

    def test_the_entity_tag_is_weak_while_the_file_may_change_unseen(self, serve: Serve, file: Path) -> None:
        os.utime(file)
        served = serving(serve, file)
        weak = served.ask().get("etag")
        assert weak is not None
        assert weak.startswith('W/"')
        answer = served.ask(headers=[("If-Range", weak), ("Range", "bytes=0-0")])
        assert answer.status == 200
        assert served.ask(headers=[("If-None-Match", weak)]).status == 304

    def test_a_date_in_the_future_is_not_told(self, serve: Serve, file: Path) -> None:
        future = time.time() + 3600
        os.utime(file, (future, future))
        sent = parse_date(serving(serve, file).ask().get("last-modified") or "")
        assert sent is not None
        assert abs(sent - time.time()) < 60

    @pytest.mark.parametrize("make", [str, Path.mkdir, os.mkfifo], ids=["nothing", "directory", "fifo"])
    def test_what_is_no_file_is_not_found(self, serve: Serve, tmp_path: Path, make: Callable[[Path], object]) -> None:
        make(tmp_path / "it")
        served = serving(serve, tmp_path / "it")
        assert served.ask().status == 404
        assert not served.log

    def test_a_path_through_a_file_is_not_found(self, serve: Serve, file: Path) -> None:
        assert serving(serve, file / "more").ask().status == 404

    def test_a_file_that_cannot_be_read_is_a_failure(self, serve: Serve, tmp_path: Path) -> None:
        (tmp_path / "loop").symlink_to("loop")
        served = serving(serve, tmp_path / "loop")
        assert served.ask().status == 500
        assert len(served.errors) == 1

    def test_a_post_may_answer_with_a_file(self, serve: Serve, file: Path) -> None:
        fields = [("If-None-Match", "*"), ("Range", "bytes=0-0")]
        answer = serving(serve, file).ask(method="POST", headers=fields)
        assert (answer.status, answer.content) == (200, CONTENT)

    @pytest.mark.parametrize(
        ("options", "error"),
        [
            ({"etag": "v1"}, "double quotes"),
            ({"etag": 'w/"v1"'}, "double quotes"),
            ({"headers": {"ETag": "v1"}}, "double quotes"),
            ({"chunk_timeout": -1}, "chunk_timeout"),
            ({"complete_timeout": float("nan")}, "complete_timeout"),
            ({"status_code": 99}, "status_code"),
            ({"content_type": "a\r\nb"}, "content-type"),
        ],
        ids=repr,
    )
    def test_refuses_where_it_is_written(self, options: dict[str, Any], error: str) -> None:
        with pytest.raises(ValueError, match=error):
            FileResponse("file", **options)


class TestPreconditions:
    """RFC 9110 §13.2.2: which of them is evaluated, in which order, and what it comes to."""

    BEFORE, AFTER = format_date(THEN - 1), format_date(THEN + 1)
    RFC_850, ASCTIME = "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"

    TABLE: ClassVar[list[tuple[list[tuple[str, str]], int]]] = [
        # If-Match, by the strong comparison
        ([("If-Match", '"tag"')], 200),
        ([("If-Match", '"other", "tag"')], 200),
        ([("If-Match", '"other"'), ("If-Match", '"tag"')], 200),
        ([("If-Match", '"with,comma" , ,"tag"')], 200),
        ([("If-Match", "*")], 200),
        ([("If-Match", '"other"')], 412),
        ([("If-Match", 'W/"tag"')], 412),
        ([("If-Match", "tag")], 412),
        ([("If-Match", '"other"'), ("If-None-Match", '"tag"')], 412),
        # If-Unmodified-Since, unless there is an If-Match
        ([("If-Unmodified-Since", THEN_AS_DATE)], 200),
        ([("If-Unmodified-Since", AFTER)], 200),
        ([("If-Unmodified-Since", BEFORE)], 412),
        ([("If-Unmodified-Since", "yesterday")], 200),
        ([("If-Match", '"tag"'), ("If-Unmodified-Since", BEFORE)], 200),
        # If-None-Match, by the weak comparison
        ([("If-None-Match", '"tag"')], 304),
        ([("If-None-Match", 'W/"tag"')], 304),
        ([("If-None-Match", '"other",W/"tag"')], 304),
        ([("If-None-Match", '"other"'), ("If-None-Match", '"tag"')], 304),
        ([("If-None-Match", "*")], 304),
        ([("If-None-Match", '"other"')], 200),
        ([("If-None-Match", "tag")], 200),
        ([("If-None-Match", '"other" "tag"')], 200),
        # If-Modified-Since, unless there is an If-None-Match
        ([("If-Modified-Since", THEN_AS_DATE)], 304),
        ([("If-Modified-Since", RFC_850)], 304),
        ([("If-Modified-Since", ASCTIME)], 304),
        ([("If-Modified-Since", AFTER)], 304),
        ([("If-Modified-Since", BEFORE)], 200),
        ([("If-Modified-Since", "0784111777")], 200),
        ([("If-Modified-Since", AFTER), ("If-Modified-Since", AFTER)], 200),
        ([("If-None-Match", '"other"'), ("If-Modified-Since", AFTER)], 200),
        ([("If-None-Match", '"tag"'), ("If-Modified-Since", BEFORE)], 304),
        # both kinds
        ([("If-Match", '"tag"'), ("If-None-Match", '"tag"')], 304),
        ([("If-Unmodified-Since", THEN_AS_DATE), ("If-Modified-Since", THEN_AS_DATE)], 304),
    ]

    @pytest.mark.parametrize("method", ["GET", "HEAD"])
    def test_the_answer(self, serve: Serve, file: Path, method: str) -> None:
        served = serving(serve, file, etag='"tag"', headers={"Cache-Control": "no-cache", "Vary": "Accept"})
        with served.connect() as peer:
            for fields, status in self.TABLE:
                answer = peer.ask(method=method, headers=fields)
                assert answer.status == status, fields
                if status == 304:
                    assert answer.get("etag") == '"tag"'
                    assert answer.get("last-modified") == THEN_AS_DATE
                    assert (answer.get("cache-control"), answer.get("vary")) == ("no-cache", "Accept")
                    assert (answer.get("content-type"), answer.get("content-length")) == (None, None)
        assert not served.log

    def test_without_a_tag_only_a_star_matches(self, serve: Serve, file: Path) -> None:
        served = serving(serve, file, etag=False)
        assert served.ask(headers=[("If-None-Match", '"tag"')]).status == 200
        assert served.ask(headers=[("If-None-Match", "*")]).status == 304
        assert served.ask(headers=[("If-Match", '"tag"')]).status == 412
        assert served.ask(headers=[("If-Match", "*")]).status == 200

    def test_a_connection_goes_on_after_304_and_412(self, serve: Serve, file: Path) -> None:
        with serving(serve, file, etag='"tag"').connect() as peer:
            assert peer.ask(headers=[("If-None-Match", "*")]).status == 304
            assert peer.ask(headers=[("If-Match", '"x"')]).status == 412
            assert peer.ask(headers=[("Range", "bytes=9999-")]).status == 416
            assert peer.ask().content == CONTENT


class TestRanges:
    """RFC 9110 §14.2, §15.3.7, §15.5.17."""

    ONE: ClassVar = [
        ("bytes=0-0", 0, 0),
        ("bytes=0-", 0, 1023),
        ("bytes=5-9", 5, 9),
        ("bytes=1023-", 1023, 1023),
        ("bytes=1000-99999", 1000, 1023),
        ("bytes=1000-" + "9" * 5000, 1000, 1023),
        ("bytes=-1", 1023, 1023),
        ("bytes=-500", 524, 1023),
        ("bytes=-5000", 0, 1023),
        ("bytes=-" + "9" * 5000, 0, 1023),
        ("bytes=" + "0" * 500 + "7-7", 7, 7),
        ("Bytes=5-9", 5, 9),
        ("bytes= 5-9", 5, 9),
        ("bytes=,5-9 ,", 5, 9),
        ("bytes=5-9,9999-", 5, 9),
        ("bytes=5-7,6-9", 5, 9),
        ("bytes=8-9,5-7", 5, 9),
    ]

    def test_one_range(self, serve: Serve, file: Path) -> None:
        served = serving(serve, file)
        with served.connect() as peer:
            tag = peer.ask().get("etag")
            for field, first, last in self.ONE:
                answer = peer.ask(headers=[("Range", field)])
                assert (answer.status, answer.content) == (206, CONTENT[first : last + 1]), field[:50]
                assert answer.get("content-range") == f"bytes {first}-{last}/1024"
                assert answer.get("content-length") == str(last + 1 - first)
                assert (answer.get("content-type"), answer.get("etag")) == ("application/octet-stream", tag)

    IGNORED: ClassVar = [
        "bytes=9-5",
        "bytes=",
        "bytes=,",
        "bytes",
        "bytes=-",
        "bytes=a-b",
        "bytes=1-2-3",
        "bytes=1 - 2",
        "bytes=--5",
        "bytes=+1-5",
        "bytes=0x1-5",
        "bytes=1_0-20",
        "bytes=0-1;2-3",
        "bytes=0-1, 5",
        "bytes =0-1",
        "lines=0-1",
        "bytes=\u0660-\u0661",
        "bytes=\uff10-\uff11",
        "bytes=" + ",".join(f"{at}-{at}" for at in range(0, 2 * MAX_RANGES + 2, 2)),
        "bytes=" + "0-0," * 5000,
    ]

    def test_what_is_not_a_range_is_ignored(self, serve: Serve, file: Path) -> None:
        with serving(serve, file).connect() as peer:
            for field in self.IGNORED:
                answer = peer.ask(headers=[("Range", field.encode().decode("latin-1"))])
                assert (answer.status, answer.content, answer.get("content-range")) == (200, CONTENT, None), field[:50]

    def test_two_fields_are_ignored(self, serve: Serve, file: Path) -> None:
        answer = serving(serve, file).ask(headers=[("Range", "bytes=0-1"), ("Range", "bytes=2-3")])
        assert (answer.status, answer.content) == (200, CONTENT)

    @pytest.mark.parametrize("field", ["bytes=1024-", "bytes=5000-6000", "bytes=-0", "bytes=2000-,3000-"])
    def test_what_is_not_there_is_not_satisfiable(self, serve: Serve, file: Path, field: str) -> None:
        answer = serving(serve, file).ask(headers=[("Range", field)])
        assert (answer.status, answer.get("content-range")) == (416, "bytes */1024")
        assert CONTENT not in answer.content

    def test_an_empty_file_has_no_ranges(self, serve: Serve, tmp_path: Path) -> None:
        (tmp_path / "empty").touch()
        served = serving(serve, tmp_path / "empty")
        answer = served.ask(headers=[("Range", "bytes=0-")])
        assert (answer.status, answer.get("content-range")) == (416, "bytes */0")
        assert served.ask(headers=[("Range", "bytes=-5")]).status == 200

    def test_head_has_no_ranges(self, serve: Serve, file: Path) -> None:
        answer = serving(serve, file).ask(method="HEAD", headers=[("Range", "bytes=0-1")])
        assert (answer.status, answer.get("content-length")) == (200, "1024")

    def parts(self, answer: Answer) -> list[Message]:
        assert answer.status == 206
        assert answer.get("content-range") is None
        assert answer.get("content-length") == str(len(answer.content))
        kind = answer.get("content-type") or ""
        parsed = BytesParser(policy=HTTP).parsebytes(f"Content-Type: {kind}\r\n\r\n".encode() + answer.content)
        assert parsed.get_content_type() == "multipart/byteranges"
        assert not parsed.defects
        parts = parsed.get_payload()
        assert isinstance(parts, list)
        return [part for part in parts if isinstance(part, Message)]

    def test_several_ranges_come_as_parts_in_the_order_asked_for(self, serve: Serve, file: Path) -> None:
        served = serving(serve, file, content_type="image/png")
        answer = served.ask(headers=[("Range", "bytes=-24, 0-9,100-199,150-249,2000-")])
        assert re.fullmatch(r"multipart/byteranges; boundary=[0-9a-f]{32}", answer.get("content-type") or "")
        boundary = (answer.get("content-type") or "").partition("=")[2].encode()
        expected = b""
        for first, last in [(1000, 1023), (0, 9), (100, 249)]:
            fields = b"Content-Type: image/png\r\nContent-Range: bytes %d-%d/1024\r\n\r\n" % (first, last)
            start = b"--" if not expected else b"\r\n--"
            expected += start + boundary + b"\r\n" + fields + CONTENT[first : last + 1]
        assert answer.content == expected + b"\r\n--" + boundary + b"--\r\n"
        assert [part["content-range"] for part in self.parts(answer)] == [
            "bytes 1000-1023/1024",
            "bytes 0-9/1024",
            "bytes 100-249/1024",
        ]

    def test_parts_of_a_large_file(self, serve: Serve, tmp_path: Path) -> None:
        path = tmp_path / "large"
        path.write_bytes(os.urandom(2_000_000))
        answer = serving(serve, path).ask(headers=[("Range", "bytes=0-0,500000-1499999,-1")])
        whole = path.read_bytes()
        assert len(self.parts(answer)) == 3
        assert whole[500_000:1_500_000] in answer.content
        assert wait_until(lambda: descriptors(path) == 0)

    @pytest.mark.parametrize(
        ("field", "status"),
        [
            ('"tag"', 206),
            ('"other"', 200),
            ('W/"tag"', 200),
            ("tag", 200),
            ('"tag", "other"', 200),
            ("*", 200),
            (THEN_AS_DATE, 206),
            (TestPreconditions.ASCTIME, 206),
            (TestPreconditions.BEFORE, 200),
            (TestPreconditions.AFTER, 200),
        ],
    )
    def test_if_range(self, serve: Serve, file: Path, field: str, status: int) -> None:
        served = serving(serve, file, etag='"tag"')
        answer = served.ask(headers=[("Range", "bytes=0-4"), ("If-Range", field)])
        assert (answer.status, answer.content) == (status, CONTENT[:5] if status == 206 else CONTENT)
        # RFC 9110 §13.1.5: without a Range it says nothing.
        assert served.ask(headers=[("If-Range", field)]).status == 200

    def test_if_range_comes_after_the_preconditions(self, serve: Serve, file: Path) -> None:
        served = serving(serve, file, etag='"tag"')
        fields = [("Range", "bytes=0-4"), ("If-Range", '"tag"')]
        assert served.ask(headers=[*fields, ("If-None-Match", '"tag"')]).status == 304
        assert served.ask(headers=[*fields, ("If-Match", '"other"')]).status == 412
        # What cannot be satisfied does not matter when the content is another one.
        assert served.ask(headers=[("Range", "bytes=9999-"), ("If-Range", '"other"')]).status == 200

    def test_an_app_can_decline_ranges(self, serve: Serve, file: Path) -> None:
        answer = serving(serve, file, headers={"accept-ranges": "none"}).ask(headers=[("Range", "bytes=0-4")])
        assert (answer.status, answer.content, answer.get("accept-ranges")) == (200, CONTENT, "none")

    @pytest.mark.skipif(not CURL, reason="curl is not installed")
    def test_curl_resumes_a_download(self, serve: Serve, file: Path, tmp_path: Path) -> None:
        served = serving(serve, file)
        part = tmp_path / "part"
        part.write_bytes(CONTENT[:300])
        subprocess.run([CURL, "-sS", "-C", "-", "-o", part, served.url], check=True, timeout=20)
        assert part.read_bytes() == CONTENT
        output = subprocess.run(
            [CURL, "-sS", "-r", "0-2,-3", served.url], check=True, timeout=20, capture_output=True
        ).stdout
        assert output.count(b"Content-Range: bytes") == 2


class TestRangeParser:
    @given(st.text(alphabet="bytes=0123456789-, \t;x", max_size=60), st.integers(0, 50))
    def test_never_leaves_the_content(self, field: str, size: int) -> None:
        spans = select_ranges(field, size)
        for first, stop in spans or []:
            assert 0 <= first < stop <= size

    @given(
        st.lists(
            st.one_of(
                st.tuples(st.integers(0, 60), st.one_of(st.none(), st.integers(0, 60))),
                st.tuples(st.none(), st.integers(0, 60)),
            ),
            min_size=1,
            max_size=MAX_RANGES,
        ),
        st.integers(1, 50),
    )
    def test_selects_the_bytes_that_were_asked_for(self, specs: list[tuple[int | None, int | None]], size: int) -> None:
        field = "bytes=" + ",".join(f"{'' if a is None else a}-{'' if b is None else b}" for a, b in specs)
        spans = select_ranges(field, size)
        if any(a is not None and b is not None and b < a for a, b in specs):
            assert spans is None
            return
        wanted: set[int] = set()
        for a, b in specs:
            if a is None:
                assert b is not None
                wanted |= set(range(max(size - b, 0), size))
            else:
                wanted |= set(range(a, size if b is None else min(b + 1, size)))
        assert spans is not None
        chosen = [at for first, stop in spans for at in range(first, stop)]
        assert set(chosen) == wanted
        assert len(chosen) == len(wanted)  # nothing twice

    def test_is_quick_with_whatever_comes(self) -> None:
        started = time.perf_counter()
        for field in ["bytes=" + "0-0," * 10_000, "bytes=" + "," * 30_000, "bytes=" + "9" * 30_000 + "-"]:
            select_ranges(field, 1_000_000)
        assert time.perf_counter() - started < 0.1


class TestDates:
    """RFC 9110 §5.6.7."""

    @given(st.integers(0, 4_000_000_000))
    def test_what_is_written_is_read(self, seconds: int) -> None:
        assert parse_date(format_date(seconds)) == seconds

    @pytest.mark.parametrize(
        "text",
        [THEN_AS_DATE, TestPreconditions.RFC_850, TestPreconditions.ASCTIME],
    )
    def test_the_three_formats(self, text: str) -> None:
        assert parse_date(text) == THEN

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "Sun, 06 Nov 1994 08:49:37",
            "Sun, 06 Nov 1994 08:49:37 UTC",
            "sun, 06 nov 1994 08:49:37 gmt",
            "Sun, 31 Feb 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 24:49:37 GMT",
            "Sun, 06 Nov 1994 08:49:61 GMT",
            "Sun, 06 Nov 0000 08:49:37 GMT",
            "Sun, \u0660\u0666 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 08:49:37 GMT ",
            "784111777",
        ],
    )
    def test_anything_else_is_no_date(self, text: str) -> None:
        assert parse_date(text) is None

    def test_a_year_of_two_digits_is_never_far_in_the_future(self) -> None:
        seconds = parse_date(f"Sunday, 06-Nov-{(time.gmtime().tm_year + 51) % 100:02} 08:49:37 GMT")
        assert seconds is not None
        assert time.gmtime(seconds).tm_year == time.gmtime().tm_year - 49

    def test_a_leap_second_is_a_date(self) -> None:
        assert parse_date("Sat, 31 Dec 2016 23:59:60 GMT") == 1483228799


class TestNames:
    @pytest.mark.parametrize(
        ("filename", "value"),
        [
            ("a.txt", 'attachment; filename="a.txt"'),
            ("Annual report.pdf", 'attachment; filename="Annual report.pdf"'),
            ("naïve.txt", "attachment; filename=\"naive.txt\"; filename*=UTF-8''na%C3%AFve.txt"),
            ("日本.txt", "attachment; filename=\"__.txt\"; filename*=UTF-8''%E6%97%A5%E6%9C%AC.txt"),
            ('a"b.txt', "attachment; filename=\"a_b.txt\"; filename*=UTF-8''a%22b.txt"),
            ("100%.txt", "attachment; filename=\"100_.txt\"; filename*=UTF-8''100%25.txt"),
            ("../../etc/passwd", 'attachment; filename=".._.._etc_passwd"'),
            ("C:\\a.txt", 'attachment; filename="C:_a.txt"'),
            ("a\r\nSet-Cookie: b=c", 'attachment; filename="a__Set-Cookie: b=c"'),
            ("a\0b\x7f", 'attachment; filename="a_b_"'),
        ],
    )
    def test_content_disposition(self, filename: str, value: str) -> None:
        assert content_disposition(filename) == value

    @given(st.text(max_size=40))
    def test_any_name_is_fit_for_the_wire(self, filename: str) -> None:
        value = content_disposition(filename, inline=True)
        assert value.isascii()
        assert value.isprintable()
        Response(headers={"content-disposition": value})

    def test_on_the_wire(self, serve: Serve, file: Path) -> None:
        answer = serving(serve, file, filename="Übersicht.csv").ask()
        assert answer.get("content-type") == "text/csv; charset=utf-8"
        expected = "attachment; filename=\"Ubersicht.csv\"; filename*=UTF-8''%C3%9Cbersicht.csv"
        assert answer.get("content-disposition") == expected
        assert serving(serve, file, filename="a.pdf", inline=True).ask().get("content-disposition") == (
            'inline; filename="a.pdf"'
        )

    @pytest.mark.parametrize(
        ("name", "kind"),
        [
            ("a.html", "text/html; charset=utf-8"),
            ("a.JS", "text/javascript; charset=utf-8"),
            ("/x/a.svg", "image/svg+xml"),
            ("a.woff2", "font/woff2"),
            ("a.tar.gz", "application/gzip"),
            ("a.css.br", "application/octet-stream"),
            ("a", "application/octet-stream"),
            (".html", "application/octet-stream"),
            ("dir.html/a", "application/octet-stream"),
            ("a.unheard-of", "application/octet-stream"),
            ("a.py", "text/x-python; charset=utf-8"),
        ],
    )
    def test_media_types(self, name: str, kind: str) -> None:
        assert media_type(name) == kind


class TestSending:
    """Descriptors, memory and clients that do not read."""

    SIZE = 200 * 1024 * 1024

    def test_a_large_file_costs_no_memory(self, program: "Start", tmp_path: Path) -> None:
        path = tmp_path / "large"
        with path.open("wb") as file:
            file.truncate(self.SIZE)  # sparse: it costs no disk
        code = f"""
from vibora import FileResponse, Vibora

app = Vibora()

@app.get("/")
async def large():
    return FileResponse({str(path)!r})

app.run(port=0)
"""
        server = program("app.py", code=code)
        port = server.port()
        cost = Cost(server)
        with connect(port) as peer:
            peer.send(message())
            head = peer.read_head()
            assert head.get("content-length") == str(self.SIZE)
            before, descriptors_before = cost.resident, cost.descriptors
            received, most = len(peer.unread), 0
            peer.unread = b""
            while received < self.SIZE:
                received += len(peer.sock.recv(1024 * 1024))
                most = max(most, cost.resident)
            assert most - before < 16 * 1024 * 1024
            assert wait_until(lambda: cost.descriptors == descriptors_before - 1)

    def test_a_client_that_does_not_read_is_cut_off(self, serve: Serve, tmp_path: Path) -> None:
        path = tmp_path / "large"
        with path.open("wb") as file:
            file.truncate(self.SIZE)
        served = serving(serve, path, chunk_timeout=0.3)
        with connect(served, receive_buffer=4096) as peer:
            peer.send(message())
            peer.read_head()
            assert descriptors(path) == 1
            assert seconds_to_reset(peer, 5) is not None
            assert wait_until(lambda: descriptors(path) == 0)
        assert has_no_connections(served)

    def test_a_client_that_goes_away_leaves_no_descriptor(self, serve: Serve, tmp_path: Path) -> None:
        path = tmp_path / "large"
        with path.open("wb") as file:
            file.truncate(self.SIZE)
        served = serving(serve, path)
        for _ in range(5):
            peer = connect(served, receive_buffer=4096)
            peer.send(message())
            peer.read_head()
            peer.reset()
        assert has_no_connections(served)
        assert wait_until(lambda: descriptors(path) == 0)
        assert not served.errors

    @pytest.mark.parametrize(
        "fields", [["Range: bytes=5-6"], ["If-None-Match: *"], ['If-Match: "x"'], ["Range: bytes=9-5"]]
    )
    def test_no_answer_leaves_a_descriptor(self, serve: Serve, file: Path, fields: list[str]) -> None:
        served = serving(serve, file)
        for method in ("GET", "HEAD"):
            with served.connect() as peer:
                peer.send(message(method=method, headers=fields))
                peer.read_answer(method)
        assert descriptors(file) == 0

    def test_a_descriptor_is_not_closed_while_it_is_read(
        self, serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / "large"
        with path.open("wb") as file:
            file.truncate(self.SIZE)
        served = serving(serve, path)
        diary = Diary()
        read = os.read

        def slow(descriptor: int, size: int) -> bytes:
            if diary.count("slow") and os.path.realpath(f"/proc/self/fd/{descriptor}") == str(path):
                diary.write("begins")
                time.sleep(0.5)
                try:
                    os.fstat(descriptor)
                except OSError:
                    diary.write("closed under the reader")
                diary.write("ends")
            return read(descriptor, size)

        monkeypatch.setattr(os, "read", slow)
        peer = connect(served, receive_buffer=4096)
        peer.send(message())
        peer.read_head()
        diary.write("slow")
        while not diary.count("begins"):
            peer.receive()
        peer.reset()
        diary.wait_for("ends")
        assert has_no_connections(served)
        assert wait_until(lambda: descriptors(path) == 0)
        assert diary.count("closed under the reader") == 0

    def test_a_response_that_is_not_sent_leaves_no_descriptor(self, serve: Serve, tmp_path: Path) -> None:
        path = tmp_path / "large"
        with path.open("wb") as file:
            file.truncate(self.SIZE)
        app = Vibora()

        @app.get("/")
        async def change_of_mind(request: Request) -> Response:
            response = await FileResponse(path).resolve(request)
            return Response(str(descriptors(path)), headers={"x-length": response.headers["content-length"]})

        answer = serve(app).ask()
        assert (answer.text, answer.get("x-length")) == ("1", str(self.SIZE))
        assert wait_until(lambda: descriptors(path) == 0)

    def test_a_file_that_is_cut_while_it_is_sent_ends_with_a_reset(self, serve: Serve, tmp_path: Path) -> None:
        path = tmp_path / "shrinking"
        with path.open("wb") as file:
            file.truncate(self.SIZE)
        served = serving(serve, path)
        with connect(served, receive_buffer=4096) as peer:
            peer.send(message())
            assert peer.read_head().get("content-length") == str(self.SIZE)
            os.truncate(path, 1_000_000)
            assert len(read_until_reset(peer)) < self.SIZE
        assert wait_until(lambda: descriptors(path) == 0)
        assert "bytes early" in str(served.errors[0].exc_info)

    def test_a_file_that_grows_is_sent_as_it_was(self, serve: Serve, tmp_path: Path) -> None:
        path = tmp_path / "growing"
        path.write_bytes(bytes(3_000_000))
        served = serving(serve, path)
        with connect(served, receive_buffer=4096) as peer:
            peer.send(message())
            assert peer.read_head().get("content-length") == "3000000"
            with path.open("ab") as file:
                file.write(b"more" * 1000)
            assert peer.read_exactly(3_000_000) == bytes(3_000_000)
            assert peer.ask(method="HEAD").get("content-length") == "3004000"

    def test_the_loop_goes_on_while_a_disk_is_slow(
        self, serve: Serve, file: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        app = Vibora()

        @app.get("/file")
        async def show() -> Response:
            return FileResponse(file)

        @app.get("/")
        async def quick() -> Response:
            return Response(b"quick")

        opened = os.open

        def slow(path: Any, *arguments: Any, **options: Any) -> int:
            if path == str(file):
                time.sleep(0.5)
            return opened(path, *arguments, **options)

        monkeypatch.setattr(os, "open", slow)
        served = serve(app)
        with served.connect() as waiting, served.connect() as peer:
            waiting.send(message("/file"))
            started = time.monotonic()
            assert peer.ask().content == b"quick"
            assert time.monotonic() - started < 0.4
            assert waiting.read_answer().content == CONTENT
