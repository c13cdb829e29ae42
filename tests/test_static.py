"""Directories of static files: what is found, what is refused, which of several copies is sent."""

import gzip
import os
import shutil
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import Serve, Served
from vibora import CacheControl, ConfigurationError, StaticHandler, Vibora
from vibora.static import preferred_coding, segments_of

CURL = shutil.which("curl") or ""
#: A moment that no test runs in: 6 November 1994, 08:49:37 UTC.
THEN = 784111777
SECRET = b"nobody may read this"


def write(path: Path, content: bytes, age: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    os.utime(path, (THEN - age, THEN - age))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A directory, with secrets around it."""
    root = tmp_path / "static"
    write(root / "app.css", b"a { color: red }")
    write(root / "docs" / "index.html", b"<h1>Docs</h1>")
    write(root / "docs" / "a b" / "caf\u00e9.txt", b"name")
    write(root / "empty" / "x.bin", b"")
    write(root / ".hidden" / "file", SECRET)
    write(root / ".env", SECRET)
    write(root / ".well-known" / "security.txt", b"mail us")
    write(tmp_path / "secret.txt", SECRET)
    write(tmp_path / "static-secret" / "file", SECRET)
    return root


def serving(serve: Serve, *paths: Path, **options: Any) -> Served:
    app = Vibora()
    StaticHandler([*paths], **options).register(app)
    return serve(app)


class TestFinding:
    def test_sends_files(self, serve: Serve, root: Path) -> None:
        served = serving(serve, root)
        with served.connect() as peer:
            for _ in range(2):  # from disk, and from memory
                answer = peer.ask("/static/app.css")
                assert (answer.status, answer.content) == (200, b"a { color: red }")
                assert answer.get("content-type") == "text/css; charset=utf-8"
                assert answer.get("last-modified") == "Sun, 06 Nov 1994 08:49:37 GMT"
                assert answer.get("vary") is None
                head = peer.ask("/static/app.css", "HEAD")
                assert (head.status, head.get("content-length"), head.content) == (200, "16", b"")
                tag = answer.get("etag") or ""
                assert peer.ask("/static/app.css", headers=[("If-None-Match", tag)]).status == 304
                part = peer.ask("/static/app.css", headers=[("Range", "bytes=2-2,-1"), ("If-Range", tag)])
                assert part.status == 206
                assert part.content.count(b"Content-Range: bytes ") == 2
                assert peer.ask("/static/app.css", headers=[("Range", "bytes=4-8")]).content == b"color"
            assert peer.ask("/static/docs/a%20b/caf%C3%A9.txt").content == b"name"
            assert peer.ask("/static/empty/x.bin").content == b""
        assert not served.log

    def test_other_methods_are_refused_with_what_there_is(self, serve: Serve, root: Path) -> None:
        answer = serving(serve, root).ask("/static/app.css", "POST")
        assert (answer.status, answer.get("allow")) == (405, "GET, HEAD, OPTIONS")

    def test_what_is_not_there_is_not_found(self, serve: Serve, root: Path) -> None:
        served = serving(serve, root)
        with served.connect() as peer:
            for path in ["nothing", "docs/nothing", "app.css/", "app.css/x", "nothing/", "empty/", "empty", "x" * 300]:
                assert peer.ask(f"/static/{path}").status == 404, path
        assert not served.log

    def test_new_changed_and_deleted_files_are_seen_at_once(self, serve: Serve, root: Path) -> None:
        with serving(serve, root).connect() as peer:
            assert peer.ask("/static/new.txt").status == 404
            for content in (b"one", b"two", b"longer"):
                write(root / "new.txt", content)
                assert peer.ask("/static/new.txt").content == content
                assert peer.ask("/static/new.txt").content == content
            (root / "new.txt").unlink()
            assert peer.ask("/static/new.txt").status == 404

    def test_the_first_directory_that_has_the_file_answers(self, serve: Serve, root: Path, tmp_path: Path) -> None:
        write(tmp_path / "theme" / "app.css", b"theme")
        with serving(serve, tmp_path / "theme", root).connect() as peer:
            assert peer.ask("/static/app.css").content == b"theme"
            assert peer.ask("/static/docs/").content == b"<h1>Docs</h1>"

    def test_a_directory_is_its_index(self, serve: Serve, root: Path) -> None:
        write(root / "index.html", b"<h1>Home</h1>")
        with serving(serve, root).connect() as peer:
            answer = peer.ask("/static/docs/")
            assert (answer.content, answer.get("content-type")) == (b"<h1>Docs</h1>", "text/html; charset=utf-8")
            assert peer.ask("/static/").content == b"<h1>Home</h1>"
            answer = peer.ask("/static/docs?a=1&b=//x")
            assert (answer.status, answer.get("location")) == (307, "./docs/?a=1&b=//x")
        with serving(serve, root, index=None).connect() as peer:
            assert peer.ask("/static/docs/").status == 404
            assert peer.ask("/static/docs").status == 404

    def test_a_redirect_stays_here(self, serve: Serve, root: Path) -> None:
        # CVE-2023-28370: `//evil.example` in a Location is another host.
        for name in ["evil.example", "javascript:alert(1)", "a b", "caf\u00e9"]:
            write(root / name / "index.html", b"page")
        with serving(serve, root, url_prefix="").connect() as peer:
            assert peer.ask("//evil.example").status == 404
            assert peer.ask("/evil.example").get("location") == "./evil.example/"
            assert peer.ask("/javascript:alert(1)").get("location") == "./javascript:alert(1)/"
            assert peer.ask("/a%20b").get("location") == "./a%20b/"
            assert peer.ask("/caf%C3%A9").get("location") == "./caf%C3%A9/"

    @pytest.mark.skipif(not CURL, reason="curl is not installed")
    def test_curl_follows_to_the_index_and_decompresses(self, serve: Serve, root: Path) -> None:
        write(root / "docs" / "index.html.gz", gzip.compress(b"<h1>Docs</h1>"))
        served = serving(serve, root)
        run = subprocess.run(
            [CURL, "-sSL", "--compressed", f"{served.url}/static/docs"], capture_output=True, check=True, timeout=20
        )
        assert run.stdout == b"<h1>Docs</h1>"

    def test_a_fallback_answers_where_there_is_no_file(self, serve: Serve, root: Path) -> None:
        write(root / "index.html", b"the app")
        html = [("Accept", "text/html,*/*;q=0.8")]
        with serving(serve, root, url_prefix="", fallback="index.html").connect() as peer:
            for path in ["/users/7", "/users/", "/", "/docs/a%20b"]:
                answer = peer.ask(path, headers=html)
                assert (answer.status, answer.content) == (200, b"the app"), path
                assert answer.get("content-type") == "text/html; charset=utf-8"
                assert answer.get("vary") == ("Accept" if path != "/" else None)
            assert peer.ask("/docs/", headers=html).content == b"<h1>Docs</h1>"
            assert peer.ask("/users/7").status == 404
            assert peer.ask("/missing.js", headers=html).status == 404

    def test_headers_types_and_cache_control(self, serve: Serve, root: Path) -> None:
        write(root / "app.3f7a.js", b"")
        write(root / "x.foo", b"")

        def policy(path: str) -> CacheControl | str | None:
            if path == "app.3f7a.js":
                return CacheControl(public=True, max_age=31536000, immutable=True)
            return "no-cache" if path == "docs/" else None

        options = {"headers": {"X-Content-Type-Options": "nosniff"}, "content_types": {".FOO": "text/x-foo"}}
        with serving(serve, root, cache_control=policy, **options).connect() as peer:
            answer = peer.ask("/static/app.3f7a.js")
            assert answer.get("cache-control") == "public, max-age=31536000, immutable"
            assert answer.get("x-content-type-options") == "nosniff"
            assert peer.ask("/static/docs/").get("cache-control") == "no-cache"
            assert peer.ask("/static/app.css").get("cache-control") is None
            assert peer.ask("/static/x.foo").get("content-type") == "text/x-foo"
        answer = serving(serve, root, cache_control="max-age=60", etag=False).ask("/static/app.css")
        assert (answer.get("cache-control"), answer.get("etag")) == ("max-age=60", None)

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
    def test_a_file_that_may_not_be_read_is_forbidden(self, serve: Serve, root: Path) -> None:
        (root / "app.css").chmod(0)
        assert serving(serve, root).ask("/static/app.css").status == 403


#: Below a prefix: ways out of the directory, and ways to what is hidden in it.
ESCAPES = [
    "../secret.txt",
    "..%2fsecret.txt",
    "..%2Fsecret.txt",
    "%2e%2e/secret.txt",
    "%2e%2e%2fsecret.txt",
    ".%2e/secret.txt",
    "%2E./secret.txt",
    "docs/../../secret.txt",
    "docs/..%2f..%2fsecret.txt",
    "docs/%2e%2e/%2e%2e/secret.txt",
    "./../secret.txt",
    "..%5csecret.txt",
    "..\\secret.txt",
    "%2e%2e%5csecret.txt",
    "..%252fsecret.txt",
    "%252e%252e/secret.txt",
    "%25%32%65%25%32%65/secret.txt",
    "..%c0%afsecret.txt",
    "%c0%ae%c0%ae/secret.txt",
    "..%ef%bc%8fsecret.txt",
    "%e2%80%a5/secret.txt",
    "..;/secret.txt",
    "....//secret.txt",
    ".../secret.txt",
    "..//secret.txt",
    "../static-secret/file",
    "../static/app.css",
    "docs/../app.css",
    "./app.css",
    "docs/./index.html",
    "/etc/passwd",
    "//etc/passwd",
    "%2fetc/passwd",
    "%2Fetc%2Fpasswd",
    "/secret.txt",
    "{root}/../secret.txt",
    "{root}/app.css",
    "C:/Windows/win.ini",
    "C:%5cWindows%5cwin.ini",
    "%5c%5chost%5cshare",
    "app.css%00.txt",
    "app.css%00",
    "%00",
    "app.css%0a",
    "app.css%20",
    "app.css.",
    "docs%2findex.html",
    "docs//index.html",
    "docs/index.html/",
    ".env",
    "%2eenv",
    ".hidden/file",
    "docs/../.env",
    ".",
    "..",
    "~root/.bashrc",
    "file:///etc/passwd",
    "link-to-secret",
    "link-to-secret/",
    "link-to-outside/secret.txt",
    "link-to-sibling/file",
    "link-absolute",
    "link-to-nothing",
    "link-to-itself",
    "docs/link-up/secret.txt",
]


class TestEscapes:
    @pytest.fixture
    def trap(self, root: Path, tmp_path: Path) -> Path:
        (root / "link-to-secret").symlink_to("../secret.txt")
        (root / "link-to-outside").symlink_to("..")
        (root / "link-to-sibling").symlink_to("../static-secret")
        (root / "link-absolute").symlink_to(tmp_path / "secret.txt")
        (root / "link-to-nothing").symlink_to("../not-there")
        (root / "link-to-itself").symlink_to("link-to-itself")
        (root / "docs" / "link-up").symlink_to("../..")
        return root

    @pytest.mark.parametrize("prefix", ["/static", "", "/a/b"])
    def test_nothing_outside_is_shown(self, serve: Serve, trap: Path, prefix: str) -> None:
        served = serving(serve, trap, url_prefix=prefix)
        for escape in ESCAPES:
            path = escape.replace("{root}", str(trap))
            answer = served.ask(f"{prefix}/{path}")
            assert answer.status in (400, 404), path
            assert SECRET not in answer.content, path
        assert not served.log

    def test_what_is_there_and_what_is_not_look_alike(self, serve: Serve, trap: Path) -> None:
        # CVE-2025-69226: the answer must not tell what is outside.
        served = serving(serve, trap)
        for there, not_there in [("../secret.txt", "../nothing"), ("link-to-secret", "link-to-nothing")]:
            answers = [served.ask(f"/static/{path}") for path in (there, not_there)]
            assert [(answer.status, answer.content) for answer in answers] == [(404, b"Not Found")] * 2

    def test_links_inside_are_followed(self, serve: Serve, root: Path) -> None:
        (root / "current").symlink_to("docs")
        (root / "style.css").symlink_to("app.css")
        with serving(serve, root).connect() as peer:
            assert peer.ask("/static/current/").content == b"<h1>Docs</h1>"
            answer = peer.ask("/static/style.css")
            assert (answer.status, answer.get("content-type")) == (200, "text/css; charset=utf-8")

    def test_the_directory_may_be_a_link_and_lead_elsewhere_tomorrow(
        self, serve: Serve, root: Path, tmp_path: Path
    ) -> None:
        write(tmp_path / "next" / "app.css", b"next")
        (tmp_path / "current").symlink_to(root)
        with serving(serve, tmp_path / "current").connect() as peer:
            assert peer.ask("/static/app.css").content == b"a { color: red }"
            (tmp_path / "current").unlink()
            (tmp_path / "current").symlink_to(tmp_path / "next")
            assert peer.ask("/static/app.css").content == b"next"

    def test_links_outside_are_followed_when_asked_for(self, serve: Serve, trap: Path) -> None:
        with serving(serve, trap, follow_symlinks=True).connect() as peer:
            assert peer.ask("/static/link-to-secret").content == SECRET
            assert peer.ask("/static/link-to-sibling/file").content == SECRET
            assert peer.ask("/static/link-to-itself").status == 404
            assert peer.ask("/static/../secret.txt").status == 404

    def test_dotfiles_are_shown_when_asked_for(self, serve: Serve, root: Path) -> None:
        with serving(serve, root).connect() as peer:
            assert peer.ask("/static/.well-known/security.txt").content == b"mail us"
        with serving(serve, root, dotfiles=True).connect() as peer:
            assert peer.ask("/static/.env").content == SECRET
            assert peer.ask("/static/.hidden/../.env").status == 404

    @pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")], ids=["fifo", "device"])
    def test_special_files_are_not_there(self, serve: Serve, root: Path, make: Callable[[Path], None]) -> None:
        make(root / "special")
        make(root / "app.css.gz")
        served = serving(serve, root, follow_symlinks=True)
        assert served.ask("/static/special").status == 404
        answer = served.ask("/static/app.css", headers=[("Accept-Encoding", "gzip")])
        assert (answer.content, answer.get("content-encoding")) == (b"a { color: red }", None)

    @given(st.text(alphabet="./\\%ab:~ \0\n\u2025\uff0e", max_size=30))
    def test_segments_never_lead_out(self, path: str) -> None:
        for text in (path, unquote(path)):
            segments = segments_of(text, dotfiles=True)
            if segments is not None:
                assert os.path.normpath("/".join(["/root", *segments])).startswith("/root")
                assert "\0" not in text


class TestCopies:
    """RFC 9110 §12.5.3."""

    @pytest.fixture
    def css(self, root: Path) -> Path:
        for ending, content in ((".br", b"brotli"), (".zst", b"zstandard"), (".gz", b"gzip")):
            write(root / f"app.css{ending}", content)
        return root

    @pytest.mark.parametrize(
        ("accepted", "coding"),
        [
            (None, None),
            ("", None),
            ("identity", None),
            ("gzip", "gzip"),
            ("x-gzip", "gzip"),
            ("GZIP", "gzip"),
            ("deflate", None),
            ("gzip, deflate, br, zstd", "br"),
            ("gzip, zstd", "zstd"),
            ("gzip;q=1.0, br;q=0.5", "gzip"),
            ("gzip;q=0.001", "gzip"),
            ("br;q=0, gzip", "gzip"),
            ("gzip;q=0", None),
            ("gzip;q=0, *", "br"),
            ("*", "br"),
            ("*;q=0", None),
            ("br;q=0,*;q=0.1", "zstd"),
            ("gzip;q=0.5, identity", None),
            ("gzip;q=0.5, identity;q=0.4", "gzip"),
            ("identity;q=0, gzip;q=0.1", "gzip"),
            ("gzip ; q=0.5 , br ; Q=0.7", "br"),
            ("gzip;q=2", None),
            ("gzip;q=-1", None),
            ("gzip;q=nan", None),
            ("gzip;q=0.1234", None),
            (",,gzip,", "gzip"),
        ],
    )
    def test_the_client_chooses(self, accepted: str | None, coding: str | None) -> None:
        assert preferred_coding(accepted, ["br", "zstd", "gzip"]) == coding

    @given(st.text(max_size=50))
    def test_any_field_gives_an_answer(self, accepted: str) -> None:
        assert preferred_coding(accepted, ["br", "gzip"]) in (None, "br", "gzip")

    def test_a_copy_is_the_file_with_a_coding(self, serve: Serve, css: Path) -> None:
        with serving(serve, css).connect() as peer:
            tags = set()
            for accepted, coding, content in [
                ("br, gzip", "br", b"brotli"),
                ("zstd", "zstd", b"zstandard"),
                ("gzip", "gzip", b"gzip"),
                ("identity", None, b"a { color: red }"),
            ]:
                answer = peer.ask("/static/app.css", headers=[("Accept-Encoding", accepted)])
                assert (answer.content, answer.get("content-encoding")) == (content, coding)
                assert answer.get("content-type") == "text/css; charset=utf-8"
                assert answer.get("vary") == "Accept-Encoding"
                tag = answer.get("etag") or ""
                tags.add(tag)
                fields = [("Accept-Encoding", accepted), ("If-None-Match", tag)]
                unchanged = peer.ask("/static/app.css", headers=fields)
                assert (unchanged.status, unchanged.get("vary")) == (304, "Accept-Encoding")
                part = peer.ask("/static/app.css", headers=[("Accept-Encoding", accepted), ("Range", "bytes=1-3")])
                assert part.content == content[1:4]
            assert len(tags) == 4
            answer = peer.ask("/static/app.css.gz", headers=[("Accept-Encoding", "gzip")])
            assert (answer.get("content-type"), answer.get("content-encoding")) == ("application/gzip", None)

    def test_an_outdated_copy_is_not_used(self, serve: Serve, root: Path) -> None:
        write(root / "app.css.gz", b"old", age=60)
        answer = serving(serve, root).ask("/static/app.css", headers=[("Accept-Encoding", "gzip")])
        assert (answer.content, answer.get("vary")) == (b"a { color: red }", None)

    def test_copies_are_left_alone_when_asked_for(self, serve: Serve, css: Path) -> None:
        answer = serving(serve, css, precompressed=False).ask("/static/app.css", headers=[("Accept-Encoding", "gzip")])
        assert (answer.content, answer.get("vary")) == (b"a { color: red }", None)

    def test_a_copy_is_no_way_out(self, serve: Serve, root: Path) -> None:
        (root / "app.css.gz").symlink_to("../secret.txt")
        os.utime(root / "app.css.gz", (THEN, THEN), follow_symlinks=False)
        answer = serving(serve, root).ask("/static/app.css", headers=[("Accept-Encoding", "gzip")])
        assert (answer.content, answer.get("vary")) == (b"a { color: red }", None)

    def test_vary_is_added_to_one_that_was_given(self, serve: Serve, css: Path) -> None:
        answer = serving(serve, css, headers={"Vary": "Origin"}).ask("/static/app.css")
        assert answer.get("vary") == "Origin, Accept-Encoding"


class TestMemory:
    def test_keeps_small_files_within_its_budget(self, serve: Serve, tmp_path: Path) -> None:
        for number in range(40):
            write(tmp_path / "files" / str(number), bytes([number]) * 10_000)
        write(tmp_path / "files" / "large", b"x" * 20_000)
        app = Vibora()
        handler = StaticHandler(tmp_path / "files", max_cache_size=100_000)
        handler.register(app)
        with serve(app).connect() as peer:
            for number in [*range(40), *range(40)]:
                assert peer.ask(f"/static/{number}").content == bytes([number]) * 10_000
            assert peer.ask("/static/large").content == b"x" * 20_000
        memory = handler._memory
        kept = [Path(path).name for path in memory._copies]
        assert kept == [str(number) for number in range(31, 40)]
        assert memory._size == sum(10_500 + len(path) for path in memory._copies) <= 100_000

    def test_keeps_nothing_when_told_so(self, serve: Serve, root: Path) -> None:
        app = Vibora()
        handler = StaticHandler(root, max_cache_size=0)
        handler.register(app)
        assert serve(app).ask("/static/app.css").content == b"a { color: red }"
        assert not handler._memory._copies

    def test_a_file_of_several_pieces_comes_from_memory_as_it_is(self, serve: Serve, tmp_path: Path) -> None:
        content = os.urandom(1_000_000)
        write(tmp_path / "files" / "it", content)
        app = Vibora()
        handler = StaticHandler(tmp_path / "files")
        handler.register(app)
        with serve(app).connect() as peer:
            for _ in range(2):
                assert peer.ask("/static/it").content == content
                answer = peer.ask("/static/it", headers=[("Range", "bytes=65530-200000")])
                assert answer.content == content[65530:200001]
        assert len(handler._memory._copies) == 1

    def test_many_clients_at_once(self, serve: Serve, root: Path) -> None:
        write(root / "big", os.urandom(300_000))
        served = serving(serve, root)
        failures: list[BaseException] = []

        def ask() -> None:
            try:
                with served.connect() as peer:
                    for _ in range(10):
                        assert peer.ask("/static/app.css").content == b"a { color: red }"
                        assert peer.ask("/static/big").content == (root / "big").read_bytes()
            except BaseException as error:  # noqa: BLE001  it belongs to the test
                failures.append(error)

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures
        names = [os.path.realpath(name) for name in Path("/proc/self/fd").iterdir()]
        assert not [name for name in names if name.startswith(str(root.resolve()))]


class TestConfiguration:
    @pytest.mark.parametrize(
        ("options", "error"),
        [
            ({"paths": ["not-there"]}, "static files are in a directory, and .*not-there' is none"),
            ({"paths": __file__}, "is none"),
            ({"url_prefix": "static"}, "url_prefix"),
            ({"url_prefix": "/<a>"}, "url_prefix"),
            ({"max_cache_size": -1}, "max_cache_size"),
            ({"index": "../index.html"}, "index and fallback"),
            ({"fallback": "/etc/passwd"}, "index and fallback"),
        ],
        ids=repr,
    )
    def test_refuses_where_it_is_written(self, tmp_path: Path, options: dict[str, Any], error: str) -> None:
        options = options.copy()
        with pytest.raises(ConfigurationError, match=error):
            StaticHandler(options.pop("paths", tmp_path), **options)

    def test_paths_are_made_absolute(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "static").mkdir()
        monkeypatch.chdir(tmp_path)
        assert StaticHandler("static").paths == [str(tmp_path / "static")]
        assert StaticHandler([Path("static"), "."]).paths == [str(tmp_path / "static"), str(tmp_path)]
        assert StaticHandler([]).paths == []

    def test_url_for(self, tmp_path: Path) -> None:
        handler = StaticHandler(tmp_path, url_prefix="/assets/")
        assert handler.url_for("app.css") == "/assets/app.css"
        assert handler.url_for("/docs/a b/caf\u00e9?#.txt") == "/assets/docs/a%20b/caf%C3%A9%3F%23.txt"
        assert handler.url_for("docs/") == "/assets/docs/"
        for path in ("../x", "a//b", ".env", "a\\b"):
            with pytest.raises(ValueError, match="no file is served"):
                handler.url_for(path)

    def test_the_route_has_a_name(self, tmp_path: Path) -> None:
        app = Vibora()
        handler = StaticHandler(tmp_path, url_prefix="/assets")
        handler.register(app)
        StaticHandler(tmp_path, url_prefix="/more").register(app, name="more")
        assert app.url_for("static", path="docs/a b.txt") == handler.url_for("docs/a b.txt")
        assert app.url_for("more", path="x") == "/more/x"

    def test_a_host_of_its_own(self, serve: Serve, root: Path, tmp_path: Path) -> None:
        write(tmp_path / "theme" / "app.css", b"theme")
        app = Vibora()
        StaticHandler(root, host="static.example").register(app)
        StaticHandler(tmp_path / "theme", host=["test", "*.test"]).register(app, name="theme")
        with serve(app).connect() as peer:
            assert peer.ask("/static/app.css").content == b"theme"
            peer.send(b"GET /static/app.css HTTP/1.1\r\nHost: static.example\r\n\r\n")
            assert peer.read_answer().content == b"a { color: red }"
            peer.send(b"GET /static/app.css HTTP/1.1\r\nHost: elsewhere.example\r\n\r\n")
            assert peer.read_answer().status == 404

    def test_is_a_handler_for_any_route(self, serve: Serve, root: Path) -> None:
        app = Vibora()
        app.add_route("/<tenant>/files/<*path>", StaticHandler(root))
        assert serve(app).ask("/acme/files/app.css").content == b"a { color: red }"
