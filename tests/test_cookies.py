"""Cookies: what a response sets (RFC 6265bis §4.1), what a request brings (§4.2), and the way from one to the other."""

import asyncio
import json
import re
import time
from datetime import UTC, datetime, timedelta, timezone
from email.utils import parsedate_to_datetime
from http.cookies import Morsel, SimpleCookie
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vibora import (
    Cookie,
    HtmlResponse,
    JsonResponse,
    RedirectResponse,
    Request,
    Response,
    StreamingResponse,
    TextResponse,
    Vibora,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Peer, Serve, Served

TOKEN = "!#$%&'*+-.^_`|~" + "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
#: What `http.cookies` takes for attributes, wherever they stand.
RESERVED = set(Morsel._reserved)  # type: ignore[attr-defined]
#: `cookie-av` (RFC 6265bis §4.1.1), behind a `cookie-pair`.
LINE = re.compile(
    r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+=[\x21\x23-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e]*"
    r"(; (Expires=[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT|Max-Age=-?\d+|Domain=[a-z0-9._-]+"
    r"|Path=/[\x20-\x3a\x3c-\x7e]*|Secure|HttpOnly|SameSite=(Lax|Strict|None)|Partitioned))*"
)


def ask(peer: "Peer", cookie: bytes) -> Any:
    """Send a request with the `Cookie` lines; return what the app found in them."""
    lines = b"".join(b"Cookie: %s\r\n" % line for line in cookie.split(b"\n") if cookie)
    peer.send(b"GET / HTTP/1.1\r\nHost: test\r\n%s\r\n" % lines)
    answer = peer.read_answer()
    assert answer.status == 200
    return json.loads(answer.content)


@pytest.fixture
def echo(serve: "Serve") -> "Served":
    app = Vibora()

    @app.get("/")
    async def handler(request: Request) -> Response:
        assert request.cookies is request.cookies
        return JsonResponse(request.cookies)

    return serve(app)


class TestSetting:
    @pytest.mark.parametrize(
        ("cookie", "line"),
        [
            (Cookie("a"), "a=; Path=/; SameSite=Lax"),
            (Cookie("a", "b"), "a=b; Path=/; SameSite=Lax"),
            (Cookie("a", "b", path=None, same_site=None), "a=b"),
            (Cookie("a", "b=c+/=="), "a=b=c+/==; Path=/; SameSite=Lax"),
            (Cookie("a", max_age=0, same_site=None), "a=; Max-Age=0; Path=/"),
            (Cookie("a", max_age=timedelta(days=1), same_site=None), "a=; Max-Age=86400; Path=/"),
            (Cookie("a", max_age=10**30, path=None, same_site=None), "a=; Max-Age=2147483647"),
            (Cookie("a", max_age=-(10**30), path=None, same_site=None), "a=; Max-Age=-2147483647"),
            (Cookie("a", path="/x, y=z", same_site="strict"), "a=; Path=/x, y=z; SameSite=Strict"),
            (Cookie("a", domain=".Example.ORG", same_site=None), "a=; Domain=example.org; Path=/"),
            (Cookie("a", expires=0, same_site=None), "a=; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Path=/"),
            (
                Cookie("a", expires=datetime(2031, 3, 9, 8, 7, 6, 5, timezone(timedelta(hours=2))), path=None),
                "a=; Expires=Sun, 09 Mar 2031 06:07:06 GMT; SameSite=Lax",
            ),
            (Cookie("a", secure=True, http_only=True), "a=; Path=/; Secure; HttpOnly; SameSite=Lax"),
            (
                Cookie("__Host-a", "b", secure=True, same_site="none", partitioned=True),
                "__Host-a=b; Path=/; Secure; SameSite=None; Partitioned",
            ),
        ],
    )
    def test_the_line(self, cookie: Cookie, line: str) -> None:
        assert str(cookie) == line
        assert LINE.fullmatch(line)

    @pytest.mark.parametrize(
        ("value", "encoded"),
        [
            ("a b", "a%20b"),
            (';,"\\', "%3B%2C%22%5C"),
            ("100%", "100%25"),
            ("%41", "%2541"),
            ("\u00e9\U0001f36a", "%C3%A9%F0%9F%8D%AA"),
        ],
    )
    def test_what_a_cookie_cannot_hold_is_encoded(self, value: str, encoded: str) -> None:
        assert str(Cookie("a", value, path=None, same_site=None)) == f"a={encoded}"

    @pytest.mark.parametrize("name", ["", "a b", "a;", "a=", "a,", "\u00e9", "a\r\n", "a\0", '"a"', "a/b"])
    def test_a_name_that_is_no_token(self, name: str) -> None:
        with pytest.raises(ValueError, match="the name of a cookie must be"):
            Cookie(name, "b")

    @pytest.mark.parametrize("control", [*map(chr, range(32)), "\x7f"], ids=repr)
    def test_a_control_character_in_a_value(self, control: str) -> None:
        with pytest.raises(ValueError, match="no control characters"):
            Cookie("a", f"b{control}c")

    @pytest.mark.parametrize(
        ("attributes", "message"),
        [
            ({"path": "x"}, "path must begin with '/'"),
            ({"path": ""}, "path must begin with '/'"),
            ({"path": "/;x"}, "path must begin with '/'"),
            ({"path": "/\r\nSet-Cookie: x=y"}, "path must begin with '/'"),
            ({"path": "/\u00e9"}, "path must begin with '/'"),
            ({"path": "/" + "x" * 1024}, "path takes 1025 bytes"),
            ({"domain": ""}, "domain must be"),
            ({"domain": "a;Secure"}, "domain must be"),
            ({"domain": "a b"}, "domain must be"),
            ({"domain": "a..b"}, "domain must be"),
            ({"domain": "caf\u00e9.example"}, "punycode"),
            ({"domain": "example.org:80"}, "without a port"),
            ({"domain": "x" * 64 + ".org"}, "domain must be"),
            ({"domain": "x." * 127}, "domain must be"),
            ({"same_site": "Lax"}, "same_site must be"),
            ({"same_site": "lax; Secure"}, "same_site must be"),
            ({"same_site": "none"}, "needs secure=True"),
            ({"partitioned": True}, "needs secure=True"),
            ({"expires": datetime(2031, 1, 1)}, "aware datetime"),  # noqa: DTZ001  that is the mistake
            ({"expires": float("nan")}, "in the years 1601 to 9999"),
            ({"expires": float("inf")}, "in the years 1601 to 9999"),
            ({"expires": 10**12}, "in the years 1601 to 9999"),
            ({"expires": datetime(1600, 12, 31, tzinfo=UTC)}, "in the years 1601 to 9999"),
        ],
    )
    def test_an_attribute_that_is_not_fit(self, attributes: dict[str, Any], message: str) -> None:
        with pytest.raises(ValueError, match=re.escape(message)):
            Cookie("a", "b", **attributes)

    @pytest.mark.parametrize(
        "arguments",
        [
            {"name": b"a"},
            {"name": "a", "value": 1},
            {"name": "a", "value": b"b"},
            {"name": "a", "path": b"/"},
            {"name": "a", "domain": 1},
            {"name": "a", "max_age": "60"},
            {"name": "a", "max_age": 1.5},
            {"name": "a", "max_age": True},
            {"name": "a", "expires": "tomorrow"},
            {"name": "a", "expires": True},
            {"name": "a", "secure": 1},
            {"name": "a", "http_only": None},
        ],
    )
    def test_a_type_that_is_wrong(self, arguments: dict[str, Any]) -> None:
        with pytest.raises(TypeError):
            Cookie(**arguments)

    def test_half_a_surrogate_pair(self) -> None:
        with pytest.raises(ValueError, match="half of a surrogate pair"):
            Cookie("a", "\ud800")

    @pytest.mark.parametrize(
        ("name", "kept", "broken"),
        [
            ("__Secure-a", {"secure": True, "path": "/x", "domain": "a.example"}, {}),
            ("__secure-a", {"secure": True}, {}),
            ("__Host-a", {"secure": True}, {"path": "/"}),
            ("__HOST-a", {"secure": True}, {"secure": True, "path": "/x"}),
            ("__Host-a", {"secure": True}, {"secure": True, "path": None}),
            ("__Host-a", {"secure": True}, {"secure": True, "domain": "a.example"}),
            ("__Http-a", {"secure": True, "http_only": True, "path": "/x"}, {"secure": True}),
            ("__Host-Http-a", {"secure": True, "http_only": True}, {"secure": True}),
            ("__Host-Http-a", {"secure": True, "http_only": True}, {"secure": True, "http_only": True, "path": "/x"}),
        ],
    )
    def test_what_a_prefix_promises_is_kept(self, name: str, kept: dict[str, Any], broken: dict[str, Any]) -> None:
        assert str(Cookie(name, **kept)).startswith(f"{name}=")
        with pytest.raises(ValueError, match="its prefix needs"):
            Cookie(name, **broken)

    def test_more_than_browsers_take(self) -> None:
        assert len(str(Cookie("a", "x" * 4095))) > 4096
        with pytest.raises(ValueError, match="name and value take 4097 bytes"):
            Cookie("a", "x" * 4096)
        with pytest.raises(ValueError, match="name and value take 4097 bytes"):
            Cookie("aa", " " * 1365)
        with pytest.raises(ValueError, match="name and value take 5000 bytes"):
            Cookie("a" * 5000)

    def test_nothing_about_it_changes(self) -> None:
        cookie = Cookie("a", "b")
        for name in ("name", "value", "secure"):
            with pytest.raises(AttributeError):
                setattr(cookie, name, "x")
        assert cookie == Cookie("a", "b")
        assert cookie != Cookie("a", "c")
        assert len({cookie, Cookie("a", "b"), Cookie("a", "b", secure=True)}) == 2

    def test_no_secret_in_a_repr(self) -> None:
        assert "secret" not in repr(Cookie("a", "secret"))

    @given(
        name=st.text(TOKEN, min_size=1, max_size=20).filter(
            lambda name: name[0] != "$" and name.lower() not in RESERVED
        ),
        value=st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=100),
        expires=st.none() | st.datetimes(datetime(1601, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
        max_age=st.none() | st.integers(-(2**31) + 1, 2**31 - 1),
        path=st.sampled_from(["/", "/a/b", None]),
        same_site=st.sampled_from(["lax", "strict", "none", None]),
        http_only=st.booleans(),
    )
    def test_the_standard_library_reads_what_was_said(
        self, name: str, value: str, expires: datetime | None, max_age: int | None, **others: Any
    ) -> None:
        """`http.cookies` reads the line too; it leaves the encoding of the value to others."""
        line = str(Cookie(name, value, secure=True, expires=expires, max_age=max_age, **others))
        assert LINE.fullmatch(line)
        jar: SimpleCookie = SimpleCookie()
        jar.load(line)
        morsel = jar[name]
        assert unquote(morsel.value) == value
        assert (morsel["max-age"] or None) == (None if max_age is None else str(max_age))
        assert (morsel["path"] or None, morsel["samesite"].lower() or None) == (others["path"], others["same_site"])
        assert (morsel["secure"], bool(morsel["httponly"])) == (True, others["http_only"])
        if expires:
            assert parsedate_to_datetime(morsel["expires"]) == expires.replace(microsecond=0)
        else:
            assert not morsel["expires"]


class TestResponses:
    @pytest.mark.parametrize(
        "make",
        [
            Response,
            TextResponse,
            HtmlResponse,
            lambda **options: JsonResponse({}, **options),
            lambda **options: RedirectResponse("/", **options),
            lambda **options: StreamingResponse([b"x"], **options),
            type("Own", (Response,), {}),
        ],
    )
    def test_every_class_sets_and_deletes_them(self, serve: "Serve", make: "Callable[..., Response]") -> None:
        app = Vibora()

        @app.get("/")
        async def handler() -> Response:
            response = make(cookies=[Cookie("a", "1"), "raw=1; Path=/x"])
            response.set_cookie("b", "two words", http_only=True)
            response.set_cookie("c", max_age=60, same_site=None)
            response.delete_cookie("d", path="/d", domain="example.org", same_site=None)
            response.cookies.append(Cookie("e", "5"))
            return response

        assert serve(app).ask("/").get_all("set-cookie") == [
            "a=1; Path=/; SameSite=Lax",
            "raw=1; Path=/x",
            "b=two%20words; Path=/; HttpOnly; SameSite=Lax",
            "c=; Max-Age=60; Path=/",
            "d=; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Max-Age=0; Domain=example.org; Path=/d",
            "e=5; Path=/; SameSite=Lax",
        ]

    def test_a_later_one_replaces_what_it_would_replace_in_the_browser(self) -> None:
        response = Response(cookies={"a": "1", "b": "1"})
        response.set_cookie("a", "2")
        response.set_cookie("a", "3", path="/x")
        response.set_cookie("a", "4", domain="example.org")
        response.set_cookie("a", "5", domain=".EXAMPLE.org")
        assert [(cookie.name, cookie.value) for cookie in response.cookies] == [
            ("b", "1"),
            ("a", "2"),
            ("a", "3"),
            ("a", "5"),
        ]

    @pytest.mark.parametrize("name", ["__Host-a", "__Secure-a", "__Http-a", "__Host-Http-a", "a"])
    def test_deleting_keeps_what_a_prefix_promises(self, name: str) -> None:
        response = Response()
        response.delete_cookie(name)
        (cookie,) = response.cookies
        assert (cookie.secure, cookie.http_only) == (name != "a", "Http" in name)

    def test_a_mapping_is_cookies(self) -> None:
        evil = {"a": "b; Domain=evil.example; Secure", "c": "d,e"}
        response = Response(cookies=evil)
        assert [str(cookie) for cookie in response.cookies] == [
            "a=b%3B%20Domain=evil.example%3B%20Secure; Path=/; SameSite=Lax",
            "c=d%2Ce; Path=/; SameSite=Lax",
        ]
        response.cookies = {"f": "g"}  # type: ignore[assignment]
        assert response.cookies == [Cookie("f", "g")]
        for bad in ({"a b": "c"}, {"a": "b\r\n"}, {"": "b"}, {"__Host-a": "b"}):
            with pytest.raises(ValueError, match="cookie"):
                Response(cookies=bad)
            with pytest.raises(ValueError, match="cookie"):
                JsonResponse({}, cookies=bad)
        with pytest.raises(TypeError):
            Response(cookies={"a": 1})

    def test_cookies_of_the_standard_library(self, serve: "Serve") -> None:
        app = Vibora()
        jar: SimpleCookie = SimpleCookie({"a": "b", "c": "d e"})
        jar["c"]["httponly"] = True

        @app.get("/")
        async def handler() -> Response:
            return Response(cookies=jar.values())

        assert serve(app).ask("/").get_all("set-cookie") == ["a=b", 'c="d e"; HttpOnly']

    def test_what_is_refused_is_not_set(self) -> None:
        response = Response()
        for name, attributes in (
            ("a b", {}),
            ("a", {"value": "c\n"}),
            ("a", {"path": "/;x"}),
            ("a", {"domain": "a;b"}),
        ):
            with pytest.raises(ValueError, match="cookie"):
                response.set_cookie(name, **attributes)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="cookie"):
            response.delete_cookie("a", domain="a;b")
        wrong: dict[str, Any]
        for wrong in ({"value": 1}, {"colour": "blue"}):
            with pytest.raises(TypeError):
                response.set_cookie("a", **wrong)
        wrong = {"max_age": 1}
        with pytest.raises(TypeError):
            response.delete_cookie("a", **wrong)
        assert response.cookies == []


class TestReading:
    @pytest.mark.parametrize(
        ("field", "expected"),
        [
            (b"", {}),
            (b"a=1", {"a": "1"}),
            (b"a=1; b=2;c=3 ;; ;", {"a": "1", "b": "2", "c": "3"}),
            (b"a=1\nb=2; a=3", {"a": "1", "b": "2"}),
            (b"a=first; a=second", {"a": "first"}),
            (b"a=; b", {"a": ""}),
            (b"=x; a=1", {"a": "1"}),
            (b"=__Host-a=b", {}),
            (b"%5F_Host-a=b; __host-a=c", {"%5F_Host-a": "b", "__host-a": "c"}),
            (b'a="b c"; d="', {"a": "b c", "d": '"'}),
            (b'a="b; c=d"', {"a": '"b', "c": 'd"'}),
            (
                b"a=caf%C3%A9; b=caf\xc3\xa9; c=100%; d=%ff",
                {"a": "caf\u00e9", "b": "caf\u00e9", "c": "100%", "d": "%ff"},
            ),
            (b"a=\xff; \xff=b", {"a": "\ufffd", "\ufffd": "b"}),
            (b"$Version=1; a=1,b=2", {"$Version": "1", "a": "1,b=2"}),
            (b"a=b=c&d=e", {"a": "b=c&d=e"}),
        ],
    )
    def test_as_browsers_and_others_write_them(self, echo: "Served", field: bytes, expected: dict[str, str]) -> None:
        with echo.connect() as peer:
            assert ask(peer, field) == expected

    @pytest.mark.parametrize("unit", [b'"\\\\', b"a=;", b"%", b'a="', b";=", b"=", b"a=%41;"])
    def test_32_kilobytes_of_anything_are_read_quickly(self, echo: "Served", unit: bytes) -> None:
        with echo.connect() as peer:
            field = unit * (32_000 // len(unit))
            best = 1.0
            for _ in range(3):
                start = time.perf_counter()
                ask(peer, field)
                best = min(best, time.perf_counter() - start)
        assert best < 0.1
        assert not echo.log

    @settings(max_examples=75, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(field=st.binary(max_size=80).map(lambda octets: bytes(octet for octet in octets if octet not in b"\r\n\0")))
    def test_nothing_raises(self, echo: "Served", field: bytes) -> None:
        field = bytes(octet for octet in field if octet >= 0x20 and octet != 0x7F)
        with echo.connect() as peer:
            for name in ask(peer, field):
                assert name
                assert ";" not in name
                assert "=" not in name


class TestThereAndBack:
    @settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        cookies=st.dictionaries(
            st.text(TOKEN, min_size=1, max_size=20).filter(lambda name: not name.startswith("__")),
            st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=60),
            max_size=6,
        )
    )
    def test_a_browser_brings_back_what_was_set(self, echo: "Served", cookies: dict[str, str]) -> None:
        lines = [str(Cookie(name, value)) for name, value in cookies.items()]
        # RFC 6265bis §5.6, §5.8.3: a browser keeps what stands before the first `;`, and sends it joined with `; `.
        field = "; ".join(line.partition(";")[0] for line in lines)
        with echo.connect() as peer:
            assert ask(peer, field.encode()) == cookies

    def test_through_a_real_client(self, serve: "Serve") -> None:
        aiohttp = pytest.importorskip("aiohttp")
        app = Vibora()
        value = 'two words; a "quoted" one, caf\u00e9 100%'

        @app.get("/")
        async def handler(request: Request) -> Response:
            response = JsonResponse(request.cookies)
            response.set_cookie("plain", "a=b==")
            response.set_cookie("odd", value)
            response.set_cookie("elsewhere", "x", path="/elsewhere")
            return response

        served = serve(app)

        async def browse() -> Any:
            jar = aiohttp.CookieJar(unsafe=True, quote_cookie=False)
            async with aiohttp.ClientSession(cookie_jar=jar) as session:
                url = f"http://{served.host}:{served.port}/"
                async with session.get(url) as first, session.get(url) as second:
                    return [await first.json(), await second.json()]

        assert asyncio.run(browse()) == [{}, {"plain": "a=b==", "odd": value}]
