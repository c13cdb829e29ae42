"""Responses as values: what they take, what they refuse at the line that is wrong, and what reaches the client."""

import dataclasses
import datetime as dt
import enum
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

from vibora import (
    Headers,
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
    from conftest import Answer, Serve


def kind(value: object) -> str:
    """Return what a case is called: the same in every process, which the address in a `repr` is not."""
    return type(value).__name__


def send(serve: "Serve", response: Response) -> "Answer":
    app = Vibora()

    @app.get("/")
    async def handler() -> Response:
        return response

    return serve(app).ask("/")


class TestContent:
    @pytest.mark.parametrize(
        ("content", "octets"),
        [
            (b"bytes", b"bytes"),
            ("t\u00e9xt", b"t\xc3\xa9xt"),
            (bytearray(b"array"), b"array"),
            (memoryview(b"a view")[2:], b"view"),
            (memoryview(b"a-b-c")[::2], b"abc"),
            (b"", b""),
        ],
        ids=kind,
    )
    def test_takes_bytes_like_and_str(self, serve: "Serve", content: Any, octets: bytes) -> None:
        response = Response(content)
        assert response.content == octets
        answer = send(serve, response)
        assert (answer.content, answer.get("content-length")) == (octets, str(len(octets)))

    @pytest.mark.parametrize("content", [5, None, ["a"], {"a": 1}, object()], ids=kind)
    def test_refuses_anything_else(self, content: Any) -> None:
        with pytest.raises(TypeError, match="content must be str or bytes-like, not"):
            Response(content)

    @pytest.mark.parametrize(
        ("response", "content_type"),
        [
            (Response(b""), "text/plain; charset=utf-8"),
            (TextResponse(""), "text/plain; charset=utf-8"),
            (HtmlResponse(""), "text/html; charset=utf-8"),
            (JsonResponse(None), "application/json"),
            (RedirectResponse("/"), None),
            (StreamingResponse([]), "text/plain; charset=utf-8"),
            (HtmlResponse("", headers={"Content-Type": "html"}), "html"),
            (JsonResponse(None, headers={"content-type": "application/problem+json"}), "application/problem+json"),
        ],
    )
    def test_content_types(self, serve: "Serve", response: Response, content_type: str | None) -> None:
        assert send(serve, response).get("content-type") == content_type


class TestStatus:
    @pytest.mark.parametrize("status", [200, 201, 299, 404, 418, 451, 499, 503, 599])
    def test_any_final_status_will_do(self, serve: "Serve", status: int) -> None:
        assert send(serve, Response(b"x", status)).status == status

    @pytest.mark.parametrize("status", [-1, 0, 99, 100, 199, 600, 2**70])
    def test_others_are_refused(self, status: int) -> None:
        with pytest.raises((ValueError, TypeError), match="status_code must be"):
            Response(b"", status)


class TestHeadersOfResponses:
    @pytest.mark.parametrize(
        "headers",
        [
            {"X-A": "1", "X-B": "2"},
            [("X-A", "1"), ("X-B", "2")],
            {"X-A": "1", "X-B": "2"}.items(),
            Headers({"X-A": "1", "X-B": "2"}),
        ],
        ids=["dict", "pairs", "items", "Headers"],
    )
    def test_takes_a_mapping_pairs_or_headers(self, serve: "Serve", headers: Any) -> None:
        answer = send(serve, Response(headers=headers))
        assert [(name, value) for name, value in answer.headers if name.startswith("X-")] == [
            ("X-A", "1"),
            ("X-B", "2"),
        ]

    def test_can_be_changed_until_they_are_sent(self, serve: "Serve") -> None:
        response = Response(b"x", headers={"X-A": "1"})
        response.headers["x-a"] = "2"
        response.headers.add("X-B", "3")
        response.headers.add("X-B", "4")
        assert response.headers.items() == [("x-a", "2"), ("X-B", "3"), ("X-B", "4")]
        answer = send(serve, response)
        assert (answer.get("x-a"), answer.get_all("x-b")) == ("2", ["3", "4"])

    def test_belong_to_their_response(self) -> None:
        headers = Headers({"X-A": "1"})
        response = Response(headers=headers)
        response.headers["X-A"] = "2"
        assert headers["X-A"] == "1"

    @pytest.mark.parametrize("bad", ["a\r\nb: c", "a\nb", "a\rb", "a\0b"], ids=repr)
    def test_nothing_can_break_out_of_its_line(self, bad: str) -> None:
        with pytest.raises(ValueError, match="header"):
            Response(headers={"x": bad})
        with pytest.raises(ValueError, match="header"):
            Response(headers={bad: "x"})
        with pytest.raises(ValueError, match="cookie"):
            Response(cookies=[bad])
        with pytest.raises(ValueError, match="location"):
            RedirectResponse(bad)
        response = Response()
        with pytest.raises(ValueError, match="header"):
            response.headers["x"] = bad
        with pytest.raises(ValueError, match="header"):
            response.headers = [("x", bad)]  # type: ignore[assignment]

    def test_cookies_are_lines_of_their_own(self, serve: "Serve") -> None:
        answer = send(serve, Response(cookies=["a=1; Path=/; HttpOnly", "b=2"]))
        assert answer.get_all("set-cookie") == ["a=1; Path=/; HttpOnly", "b=2"]


class TestHeaders:
    def test_are_found_in_any_case_and_keep_theirs(self) -> None:
        headers = Headers({"Content-Type": "text/plain"})
        assert headers["content-type"] == headers.get("CONTENT-TYPE") == "text/plain"
        assert "cOnTent-type" in headers
        assert list(headers) == ["Content-Type"]
        assert headers.raw == [(b"Content-Type", b"text/plain")]

    def test_hold_many_values_of_a_name(self) -> None:
        headers = Headers([("A", "1"), ("b", "2"), ("a", "3")])
        assert (headers["a"], headers.get_all("A"), len(headers)) == ("1", ["1", "3"], 3)
        assert (headers.keys(), headers.values()) == (["A", "b"], ["1", "2", "3"])
        headers["a"] = "4"
        assert headers.get_all("a") == ["4"]
        del headers["A"]
        assert headers.items() == [("b", "2")]

    def test_behave_like_a_mapping(self) -> None:
        headers = Headers({"a": "1"})
        assert (headers.get("b"), headers.get("b", "2"), headers.get_all("b")) == (None, "2", [])
        assert (headers.setdefault("a", "5"), headers.setdefault("c", "6")) == ("1", "6")
        headers.update({"A": "7", "d": "8"})
        assert dict(headers) == {"c": "6", "A": "7", "d": "8"}
        other = headers.copy()
        other["a"] = "9"
        assert (headers["a"], headers == Headers([("D", "8"), ("a", "7"), ("C", "6")])) == ("7", True)
        for missing in (lambda: headers["z"], lambda: headers.__delitem__("z")):
            with pytest.raises(KeyError, match="z"):
                missing()

    @pytest.mark.parametrize("source", ["ab", 5, [("a",)], [1], {"a": 5}, {5: "a"}], ids=repr)
    def test_refuse_what_are_no_headers(self, source: Any) -> None:
        with pytest.raises(TypeError, match="header"):
            Headers(source)

    @pytest.mark.parametrize("name", ["", " ", "a b", "a:b", "\u00e9", '"a"'], ids=repr)
    def test_refuse_a_name_that_is_no_token(self, name: str) -> None:
        with pytest.raises(ValueError, match="header"):
            Headers().add(name, "value")


class Colour(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Point:
    x: int
    y: int


class TestJson:
    @pytest.mark.parametrize(
        ("value", "text"),
        [
            ({"a": [1, 2.5, None, True, "\u00e9"]}, '{"a":[1,2.5,null,true,"\u00e9"]}'),
            (dt.datetime(2024, 2, 29, tzinfo=dt.UTC), '"2024-02-29T00:00:00+00:00"'),
            (UUID(int=1), '"00000000-0000-0000-0000-000000000001"'),
            (Point(1, 2), '{"x":1,"y":2}'),
            (Colour.RED, '"red"'),
        ],
        ids=repr,
    )
    def test_writes(self, serve: "Serve", value: object, text: str) -> None:
        assert send(serve, JsonResponse(value)).text == text

    def test_default_is_asked_for_what_is_unknown(self) -> None:
        assert JsonResponse({"a": {1}}, default=list).content == b'{"a":[1]}'

    def test_refuses_where_it_is_made(self) -> None:
        with pytest.raises(TypeError, match="not JSON serializable"):
            JsonResponse({1, 2})


class TestRedirect:
    def test_says_where(self, serve: "Serve") -> None:
        answer = send(serve, RedirectResponse("/caf\u00e9?a=1#b"))
        assert (answer.status, answer.get("location"), answer.content) == (302, "/caf%C3%A9?a=1#b", b"")

    @pytest.mark.parametrize("status", [200, 404, 500])
    def test_refuses_a_status_that_is_none(self, status: int) -> None:
        with pytest.raises(ValueError, match="a redirect's status_code must be 300 to 399"):
            RedirectResponse("/", status)


class TestSubclasses:
    def test_with_a_constructor_and_attributes_of_their_own(self, serve: "Serve") -> None:
        class Envelope(JsonResponse):
            def __init__(self, data: object, *, tag: str) -> None:
                super().__init__({"data": data}, headers={"x-tag": tag})
                self.tag = tag

        response = Envelope([1], tag="blue")
        assert response.tag == "blue"
        answer = send(serve, response)
        assert (answer.text, answer.get("x-tag")) == ('{"data":[1]}', "blue")

    def test_a_response_can_be_sent_many_times(self, serve: "Serve") -> None:
        app = Vibora()
        constant = JsonResponse({"a": 1}, headers={"x": "y"}, cookies=["c=d"])

        @app.get("/")
        async def handler(request: Request) -> Response:
            assert constant.headers["x"] == "y"
            assert request.method in {"GET", "HEAD"}
            return constant

        with serve(app).connect() as peer:
            for method in ("GET", "HEAD", "GET"):
                answer = peer.ask("/", method)
                assert answer.content == (b"" if method == "HEAD" else b'{"a":1}')
                assert (answer.get("x"), answer.get_all("set-cookie"), answer.get("content-length")) == (
                    "y",
                    ["c=d"],
                    "7",
                )


class TestStreamsTake:
    @pytest.mark.parametrize("stream", [b"bytes", "text", 5, None], ids=repr)
    def test_nothing_that_is_no_stream(self, stream: Any) -> None:
        with pytest.raises(TypeError, match="stream must be a generator function"):
            StreamingResponse(stream)

    @pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf")])
    @pytest.mark.parametrize("name", ["chunk_timeout", "complete_timeout"])
    def test_no_timeout_that_is_no_time(self, name: str, seconds: float) -> None:
        with pytest.raises(ValueError, match=f"{name} must be seconds, or 0 or None for no timeout"):
            StreamingResponse([], **{name: seconds})  # type: ignore[arg-type]

    def test_timeouts_that_are_off(self) -> None:
        response = StreamingResponse([], chunk_timeout=None, complete_timeout=None)
        assert (response.chunk_timeout, response.complete_timeout) == (0, 0)
        assert (StreamingResponse([]).chunk_timeout, StreamingResponse([]).complete_timeout) == (10, 0)
