"""Bodies: RFC 9112 §6 and §7."""

from collections.abc import Iterator
from itertools import chain

from .case import Case, Message
from .language import (
    CONTROLS,
    GET,
    HIDDEN,
    ROOT,
    TCHAR,
    accept,
    chunked,
    hexed,
    post,
    posted,
    reject,
    request,
    wait,
    words,
)


def cases() -> Iterator[Case]:
    """Return every case of this part."""
    return chain(
        _content_length(),
        _transfer_encoding(),
        _both(),
        _chunk_sizes(),
        _chunk_extensions(),
        _chunk_data(),
        _trailers(),
    )


# --- RFC 9112 §6: message body ----------------------------------------------------------------------------------------


def _content_length() -> Iterator[Case]:
    rule = "RFC 9110 §8.6"
    for value, body in {
        "0": "",
        "5": "hello",
        " 5": "hello",
        "\t5\t": "hello",
        "   5   ": "hello",
        "05": "hello",
        "0000000000000000000000000005": "hello",
        "00": "",
    }.items():
        yield accept(f"length/{value!r}", rule, post(f"Content-Length:{value}", body=body), posted(body))
    for name in ("content-length", "CONTENT-LENGTH", "cOnTeNt-LeNgTh"):
        yield accept(f"length/{name}", rule, post(f"{name}: 5", body="hello"), posted("hello"))
    every_octet = bytes(range(256)).decode("latin-1")
    yield accept("length/every-octet", rule, post("Content-Length: 256", body=every_octet), posted(every_octet))
    yield accept(
        "length/a-request-as-content", rule, post(f"Content-Length: {len(HIDDEN)}", body=HIDDEN), posted(HIDDEN)
    )
    yield accept(
        "length/on-get",
        "RFC 9112 §6",
        request("GET / HTTP/1.1", "Content-Length: 5", body="hello") + GET,
        Message("GET", "/", b"hello"),
        ROOT,
    )
    for method in ("HEAD", "DELETE", "OPTIONS", "TRACE", "PROPFIND"):
        yield accept(
            f"length/on-{method}",
            "RFC 9112 §6",
            request(f"{method} / HTTP/1.1", f"Content-Length: {len(HIDDEN)}", body=HIDDEN) + GET,
            Message(method, "/", HIDDEN.encode()),
            ROOT,
        )
    yield accept(
        "length/on-1.0",
        rule,
        request("POST / HTTP/1.0", "Content-Length: 5", body="hello") + HIDDEN,
        Message("POST", "/", b"hello", closes=True),
    )
    yield accept("length/none-on-post", "RFC 9112 §6.3", post(), posted(""))
    yield accept("length/none-and-another", "RFC 9112 §6.3", post() + GET, posted(""), ROOT)
    yield wait("length/content-missing", "RFC 9112 §6.3", post("Content-Length: 5"))
    yield wait("length/content-cut", "RFC 9112 §6.3", post("Content-Length: 6", body="hello"))
    yield wait(
        "length/content-cut-before-another", "RFC 9112 §6.3", post(f"Content-Length: {len(HIDDEN) + 1}", body=HIDDEN)
    )
    yield wait("length/content-far-from-complete", "RFC 9112 §6.3", post("Content-Length: 60000000", body="hello"))
    rule = "RFC 9112 §6.3"
    for value in (
        "",
        " ",
        *words("-1 -0 -5 +5 +0 5+ 5- 0x5 0X5 0b1 0o5 5h 5. 5.0 .5 5e0 5E1 1_0 5_ _5 5L 5f five NaN inf"),
        *words("5;5 5:5 5/5 5=5 (5) [5] {5} <5> '5' `5` $5 %5 %35 5% #5 5! 5* 5~ 5\\ 5| 5^ 5@ 5& ?5"),
        '"5"',
        '5"',
        "5 5",
        "5\t5",
        "5 x",
        "x 5",
        "1 0",
        "\xb2",
        "5\xa0",
        "\xa05",
        "\x855",
        "\xd9\xa5",
        "\xef\xbc\x95",
        "5\xe2\x80\x8b",
    ):
        yield reject(f"length/invalid/{hexed(value)}", rule, post(f"Content-Length: {value}", body="hello"))
    for number in (2**63, 2**64, 2**64 + 5, 2**65, 2**128 + 5, 10**20, 10**30, 10**100, 99999999999999999999):
        yield reject(
            f"length/too-large/{number}",
            "RFC 9110 §8.6",
            post(f"Content-Length: {number}", body="hello"),
            status=(400, 413),
        )
    # RFC 9112 §6.3 admits a list of identical values; a gateway in front may not.
    for value in ("5, 5", "5,5", "5, 5, 5", "05, 5", "5,", ",5", "5,,5", ", 5", "5 , 5", "5,\t5"):
        yield reject(f"length/list/{value!r}", rule, post(f"Content-Length: {value}", body="hello"), must=False)
    for value in ("5, 6", "6, 5", "0, 5", "5, 0", "5, x", "5, -5", "5, 5x", ","):
        yield reject(f"length/list-of-others/{value!r}", rule, post(f"Content-Length: {value}", body="hello"))
    for name, lines in {
        "same": ["Content-Length: 5", "Content-Length: 5"],
        "same-number": ["Content-Length: 5", "Content-Length: 05"],
        "same-in-other-case": ["Content-Length: 5", "content-length: 5"],
        "same-apart": ["Content-Length: 5", "X: y", "Content-Length: 5"],
    }.items():
        yield reject(f"length/several/{name}", rule, post(*lines, body="hello"), must=False)
    for name, lines in {
        "other": ["Content-Length: 5", "Content-Length: 6"],
        "smaller-last": ["Content-Length: 5", "Content-Length: 0"],
        "larger-last": ["Content-Length: 0", f"Content-Length: {len(HIDDEN)}"],
        "one-empty": ["Content-Length: 5", "Content-Length:"],
        "one-invalid": ["Content-Length: 5", "Content-Length: x"],
        "invalid-first": ["Content-Length: x", "Content-Length: 5"],
        "negative": ["Content-Length: 5", "Content-Length: -5"],
    }.items():
        yield reject(f"length/several/{name}", rule, post(*lines, body=HIDDEN))
    yield reject("length/invalid-on-get", rule, request("GET / HTTP/1.1", "Content-Length: x"))
    yield reject("length/invalid-on-1.0", rule, request("POST / HTTP/1.0", "Content-Length: x"))


def _transfer_encoding() -> Iterator[Case]:
    rule = "RFC 9112 §6.1"
    body = "5\r\nhello\r\n0\r\n\r\n"
    for line in (
        "Transfer-Encoding: chunked",
        "Transfer-Encoding:chunked",
        "transfer-encoding: chunked",
        "TRANSFER-ENCODING: CHUNKED",
        "Transfer-Encoding: Chunked",
        "Transfer-Encoding: cHuNkEd",
        "Transfer-Encoding:   chunked   ",
        "Transfer-Encoding:\tchunked",
        "Transfer-Encoding: chunked\t",
        "Transfer-Encoding: \t chunked \t ",
    ):
        yield accept(f"coding/{line!r}", "RFC 9112 §7", post(line, body=body) + GET, posted("hello"), ROOT)
    for name, lines in {
        "transfer-encodin": ["Transfer-Encodin: chunked"],
        "te": ["TE: chunked"],
        "content-encoding": ["Content-Encoding: chunked"],
        "x": ["X-Transfer-Encoding: chunked"],
        "underscore": ["Transfer_Encoding: chunked"],
    }.items():
        yield accept(f"coding/none/{name}", rule, post(*lines) + GET, posted(""), ROOT)
    yield accept(
        "coding/on-get",
        "RFC 9112 §6",
        request("GET / HTTP/1.1", "Transfer-Encoding: chunked", body=body) + GET,
        Message("GET", "/", b"hello"),
        ROOT,
    )
    # RFC 9112 §6.3: "the chunked transfer coding is not the final encoding [...] MUST respond with the 400".
    for value in (
        "",
        " ",
        *words(
            "identity gzip deflate compress br x-gzip trailers x xchunked chunkedx chunked1 x-chunked chunke chunk nope"
        ),
        *words("'chunked' (chunked) chunked; chunked;q=1 chunked;a=b chunked: chunked= chunked/1 chunked. {chunked}"),
        '"chunked"',
        '"chunked',
        "chunked gzip",
        "chun ked",
        "chunked chunked",
        "chunked x",
        "x chunked",
        "c hunked",
        "chunked, identity",
        "chunked, gzip",
        "chunked,identity",
        "chunked, x",
        "identity, gzip",
        "gzip;a=b",
        "\x80chunked",
        "chunked\x80",
        "\xa0chunked",
        "chunked\xa0",
        "chunked\xff",
        "\xef\xbb\xbfchunked",
        "\xef\xbd\x83hunked",
        "\x85chunked",
        "chu\\nked",
        "\\chunked",
        "chunked\\",
        "%63hunked",
    ):
        yield reject(
            f"coding/not-final/{hexed(value)}", "RFC 9112 §6.3", post(f"Transfer-Encoding: {value}", body=body)
        )
    for value in (
        "chunked, chunked",
        "chunked,chunked",
        "chunked, gzip, chunked",
        "chunked, identity, chunked",
        "CHUNKED, chunked",
    ):
        yield reject(f"coding/chunked-twice/{value}", rule, post(f"Transfer-Encoding: {value}", body=body))
    for value in (
        "gzip, chunked",
        "identity, chunked",
        "x, chunked",
        "gzip;q=1, chunked",
        "gzip,chunked",
        "deflate, gzip, chunked",
    ):
        yield reject(
            f"coding/unknown/{value}", rule, post(f"Transfer-Encoding: {value}", body=body), status=501, must=False
        )
    # RFC 9110 §5.6.1.2 would have empty elements ignored; what reads a framing field so generously is one of two.
    for value in (",", ", chunked", ",chunked", "chunked,", "chunked ,", "chunked, ", ",,chunked", "chunked,,"):
        yield reject(
            f"coding/empty-element/{value!r}", rule, post(f"Transfer-Encoding: {value}", body=body), must=False
        )
    for name, lines, status in (
        ("same", ["Transfer-Encoding: chunked"] * 2, 400),
        ("identity-first", ["Transfer-Encoding: identity", "Transfer-Encoding: chunked"], 501),
        ("identity-last", ["Transfer-Encoding: chunked", "Transfer-Encoding: identity"], 400),
        ("empty-first", ["Transfer-Encoding:", "Transfer-Encoding: chunked"], 400),
        ("empty-last", ["Transfer-Encoding: chunked", "Transfer-Encoding:"], 400),
        ("garbage-last", ["Transfer-Encoding: chunked", "Transfer-Encoding: x"], 400),
        ("garbage-first", ["Transfer-Encoding: x", "Transfer-Encoding: chunked"], 501),
        ("apart", ["Transfer-Encoding: chunked", "X: y", "transfer-encoding: chunked"], 400),
    ):
        yield reject(
            f"coding/several/{name}",
            rule,
            post(*lines, body=body),
            status=status,
            must="last" in name or name == "same",
        )
    for value in ("chunked", "identity", "gzip, chunked", ""):
        yield reject(
            f"coding/on-1.0/{value}", rule, request("POST / HTTP/1.0", f"Transfer-Encoding: {value}", body=body)
        )
    yield reject(
        "coding/on-1.0/keep-alive",
        rule,
        request("POST / HTTP/1.0", "Transfer-Encoding: chunked", "Connection: keep-alive", body=body) + HIDDEN,
    )
    yield reject(
        "coding/on-1.0/with-length",
        rule,
        request("POST / HTTP/1.0", "Transfer-Encoding: chunked", "Content-Length: 5", body=body),
    )


def _both() -> Iterator[Case]:
    rule = "RFC 9112 §6.1"
    body = "0\r\n\r\n" + HIDDEN
    for name, lines in {
        "length-first": [f"Content-Length: {len(body)}", "Transfer-Encoding: chunked"],
        "coding-first": ["Transfer-Encoding: chunked", f"Content-Length: {len(body)}"],
        "length-0": ["Content-Length: 0", "Transfer-Encoding: chunked"],
        "length-5": ["Content-Length: 5", "Transfer-Encoding: chunked"],
        "apart": ["Content-Length: 5", "X: y", "Transfer-Encoding: chunked"],
        "other-case": ["content-length: 5", "TRANSFER-ENCODING: chunked"],
        "identity": ["Content-Length: 5", "Transfer-Encoding: identity"],
        "unknown": ["Content-Length: 5", "Transfer-Encoding: x"],
        "empty-coding": ["Content-Length: 5", "Transfer-Encoding:"],
        "twice-coded": ["Content-Length: 5", "Transfer-Encoding: chunked", "Transfer-Encoding: identity"],
        "invalid-length": ["Content-Length: x", "Transfer-Encoding: chunked"],
        "empty-length": ["Content-Length:", "Transfer-Encoding: chunked"],
        "two-lengths": ["Content-Length: 5", "Content-Length: 5", "Transfer-Encoding: chunked"],
        "close": ["Content-Length: 5", "Transfer-Encoding: chunked", "Connection: close"],
        "hidden-by-connection": ["Connection: Content-Length", "Content-Length: 5", "Transfer-Encoding: chunked"],
    }.items():
        yield reject(f"both/{name}", rule, post(*lines, body=body), must=False)
    yield reject(
        "both/after-a-good-one",
        rule,
        GET + post("Content-Length: 5", "Transfer-Encoding: chunked", body=body),
        ROOT,
        must=False,
    )
    # The framing of a field that only looks like one is none.
    yield accept(
        "both/only-length-is-real",
        rule,
        post("Content-Length: 5", "Transfer_Encoding: chunked", body="hello") + GET,
        posted("hello"),
        ROOT,
    )
    yield accept(
        "both/only-coding-is-real",
        rule,
        post("Content_Length: 5", "Transfer-Encoding: chunked", body="0\r\n\r\n") + GET,
        posted(""),
        ROOT,
    )
    yield accept(
        "both/connection-option-names-the-framing",
        "RFC 9110 §7.6.1",
        post("Connection: Content-Length", "Content-Length: 5", body="hello") + GET,
        posted("hello"),
        ROOT,
    )


# --- RFC 9112 §7: transfer codings ------------------------------------------------------------------------------------


def _chunk_sizes() -> Iterator[Case]:
    rule = "RFC 9112 §7.1"
    for size in ("5", "05", "005", "0000000000000005"):
        yield accept(f"chunks/size/{size}", rule, chunked(f"{size}\r\nhello\r\n0\r\n\r\n") + GET, posted("hello"), ROOT)
    for size in ("a", "A", "0a", "0A"):
        yield accept(f"chunks/size/{size}", rule, chunked(f"{size}\r\n0123456789\r\n0\r\n\r\n"), posted("0123456789"))
    for size in ("1f", "1F", "001f"):
        yield accept(f"chunks/size/{size}", rule, chunked(f"{size}\r\n{'x' * 31}\r\n0\r\n\r\n"), posted("x" * 31))
    yield accept("chunks/size/3e8", rule, chunked(f"3e8\r\n{'x' * 1000}\r\n0\r\n\r\n"), posted("x" * 1000))
    for last in ("0", "00", "000", "0000000000000000"):
        yield accept(f"chunks/last/{last}", rule, chunked(f"5\r\nhello\r\n{last}\r\n\r\n") + GET, posted("hello"), ROOT)
    yield accept("chunks/none", rule, chunked("0\r\n\r\n") + GET, posted(""), ROOT)
    yield accept("chunks/several", rule, chunked("1\r\na\r\n2\r\nbc\r\n3\r\ndef\r\n0\r\n\r\n"), posted("abcdef"))
    yield accept("chunks/many", rule, chunked("1\r\nx\r\n" * 300 + "0\r\n\r\n"), posted("x" * 300))
    for name, data in {
        "crlf": "\r\n\r\n",
        "last-chunk": "0\r\n\r\n",
        "request": HIDDEN,
        "every-octet": bytes(range(256)).decode("latin-1"),
    }.items():
        yield accept(
            f"chunks/data-is-{name}", rule, chunked(f"{len(data):x}\r\n{data}\r\n0\r\n\r\n") + GET, posted(data), ROOT
        )
    for size in (
        *words(
            "-5 +5 -0 +0 0x5 0X5 x5 5x 5h $5 #5 &h5 5_ _5 0_5 1_0 5. 5.0 .5 5,0 5,5 '5' (5) 5/ 5: 5= 5@ 5! g G 5g z"
        ),
        "",
        " 5",
        "\t5",
        "\r5",
        "\n5",
        "5 5",
        "5 0",
        "- 5",
        "0x",
        "\x005",
        "5\0",
        "5\x0b",
        "5\x0c",
        "5\x1f",
        "5\x7f",
        "5\x80",
        "5\xa0",
        "\xa05",
        "\xb2",
        "\xef\xbc\x95",
        "\xd9\xa5",
        '"5"',
        "hello",
    ):
        yield reject(f"chunks/invalid-size/{hexed(size)}", rule, chunked(f"{size}\r\nhello\r\n0\r\n\r\n"))
    # What a conversion to 64, 63 or 32 bits, or to a float, would make small.
    for size in (
        "10000000000000005",
        "100000000000000000000000000000005",
        "FFFFFFFFFFFFFFFFF",
        "f" * 17,
        "f" * 40,
        "F" * 300,
        "1" + "0" * 16,
    ):
        yield reject(f"chunks/overflow/{size[:20]}", rule, chunked(f"{size}\r\nhello\r\n0\r\n\r\n"), status=(400, 413))
    for size in ("7fffffffffffffff", "8000000000000000", "ffffffffffffffff", "100000000"):
        yield wait(f"chunks/huge/{size}", rule, chunked(f"{size}\r\nhello\r\n0\r\n\r\n"))
    for name, text in {
        "nothing": "",
        "size": "5",
        "size-and-cr": "5\r",
        "size-line": "5\r\n",
        "some-data": "5\r\nhel",
        "data": "5\r\nhello",
        "data-and-cr": "5\r\nhello\r",
        "chunk": "5\r\nhello\r\n",
        "last-size": "5\r\nhello\r\n0",
        "last-size-and-cr": "5\r\nhello\r\n0\r",
        "last-chunk": "5\r\nhello\r\n0\r\n",
        "last-chunk-and-cr": "5\r\nhello\r\n0\r\n\r",
        "trailer": "0\r\nX: y",
        "trailer-line": "0\r\nX: y\r\n",
        "extension": "5;a",
    }.items():
        yield wait(f"chunks/cut-after/{name}", "RFC 9112 §8", chunked(text))


def _chunk_extensions() -> Iterator[Case]:
    rule = "RFC 9112 §7.1.1"
    for extension in (
        ";a",
        ";a=b",
        ";a;b",
        ";a=b;c=d",
        ";a=1",
        ";1=2",
        '; a="b c"',
        ';a=""',
        ';a="b"',
        ';a="b;c"',
        ';a="\\""',
        ';a="\\\\"',
        ';a="b\\"c";d',
        ';a="\t"',
        ';a="\x80\xff"',
        ';a="0"',
        " ;a",
        "\t;a",
        "; a",
        ";a =b",
        ";a= b",
        ' ; a = "b"',
        ";a=b ;c",
        ';a="b" ;c',
        f";{TCHAR}={TCHAR}",
        ";chunked",
        ";a=b" * 100,
    ):
        yield accept(
            f"extensions/{extension[:16]!r}",
            rule,
            chunked(f"5{extension}\r\nhello\r\n0{extension}\r\n\r\n") + GET,
            posted("hello"),
            ROOT,
        )
    for extension in (
        ";",
        "; ",
        ";;",
        ";;a",
        ";a;",
        ";=",
        ";=b",
        ";a=",
        ";a=;b",
        ";a=b=c",
        ";a==b",
        ";a b",
        ";a=b c",
        ";a,b",
        ";a:b",
        ";a/b",
        ";(a)",
        ";a=(b)",
        ";a=b,c",
        ";a=b/c",
        ";a=[b]",
        ';"a"',
        ';"a"=b',
        ';a="b',
        ';a=b"',
        ';a="b"c',
        ';a="b""c"',
        ';a="b\\"',
        ";a='b c'",
        ";\xe9",
        ";a=\xe9",
        ",a",
        "=a",
        ":a",
        "/a",
        " a",
        " a=b",
        " 5",
        ".",
        ";a\\b",
        ";a=\\b",
    ):
        yield reject(f"extensions/invalid/{hexed(extension)}", rule, chunked(f"5{extension}\r\nhello\r\n0\r\n\r\n"))
        yield reject(
            f"extensions/invalid-on-last/{hexed(extension)}",
            rule,
            chunked(f"5\r\nhello\r\n0{extension}\r\n\r\n"),
        )
    for octet in CONTROLS:
        yield reject(f"extensions/control/{hexed(octet)}", rule, chunked(f"5;a{octet}\r\nhello\r\n0\r\n\r\n"))
        yield reject(f"extensions/quoted-control/{hexed(octet)}", rule, chunked(f'5;a="{octet}"\r\nhello\r\n0\r\n\r\n'))
    # A line end that one parser sees in an extension, and another does not, ends the chunk for one of them only.
    for name, text in {
        "lf": "5;a\nhello\r\n0\r\n\r\n",
        "lf-in-value": "5;a=b\nc\r\nhello\r\n0\r\n\r\n",
        "lf-in-quotes": '5;a="\n"\r\nhello\r\n0\r\n\r\n',
        "crlf-in-quotes": '5;a="\r\n"\r\nhello\r\n0\r\n\r\n',
        "cr": "5;a\rhello\r\n0\r\n\r\n",
        "cr-cr-lf": "5;a\r\r\nhello\r\n0\r\n\r\n",
        "cr-in-quotes": '5;a="\r"\r\nhello\r\n0\r\n\r\n',
        "lf-cr": "5;a\n\rhello\r\n0\r\n\r\n",
        "escaped-cr": '5;a="\\\r\n"\r\nhello\r\n0\r\n\r\n',
        "on-last": f"0;a\n\r\n{HIDDEN}",
    }.items():
        yield reject(f"extensions/line-end/{name}", rule, chunked(text))


def _chunk_data() -> Iterator[Case]:
    rule = "RFC 9112 §7.1"
    for name, text in {
        "no-end": "5\r\nhello0\r\n\r\n",
        "lf": "5\r\nhello\n0\r\n\r\n",
        "cr": "5\r\nhello\r0\r\n\r\n",
        "cr-x": "5\r\nhello\rx0\r\n\r\n",
        "cr-cr-lf": "5\r\nhello\r\r\n0\r\n\r\n",
        "lf-cr": "5\r\nhello\n\r0\r\n\r\n",
        "xx": "5\r\nhelloxx0\r\n\r\n",
        "space": "5\r\nhello \r\n0\r\n\r\n",
        "longer": "4\r\nhello\r\n0\r\n\r\n",
        "shorter": "6\r\nhello\r\n0\r\n\r\n",
        "much-longer": f"5\r\nhello{HIDDEN}\r\n0\r\n\r\n",
        "two-ends": "5\r\nhello\r\n\r\n0\r\n\r\n",
        "end-twice-before-last": "5\r\nhello\r\n\n0\r\n\r\n",
    }.items():
        yield reject(f"chunks/data-end/{name}", rule, chunked(text))
    for name, text in {
        "lf": "5\nhello\r\n0\r\n\r\n",
        "cr": "5\rhello\r\n0\r\n\r\n",
        "cr-cr-lf": "5\r\r\nhello\r\n0\r\n\r\n",
        "lf-cr": "5\n\rhello\r\n0\r\n\r\n",
        "lf-everywhere": "5\nhello\n0\n\n",
        "lf-on-last": "5\r\nhello\r\n0\n\r\n",
        "lf-at-end": "5\r\nhello\r\n0\r\n\n",
        "lf-lf-at-end": "5\r\nhello\r\n0\n\n",
        "cr-on-last": "5\r\nhello\r\n0\r\r\n",
        "cr-at-end": "5\r\nhello\r\n0\r\n\rX",
        "empty-line-before": "\r\n5\r\nhello\r\n0\r\n\r\n",
        "empty-line-before-last": "5\r\nhello\r\n\r\n0\r\n\r\n",
        "space-at-end": "5 \r\nhello\r\n0\r\n\r\n",
        "space-on-last": "5\r\nhello\r\n0 \r\n\r\n",
        "tab-at-end": "5\t\r\nhello\r\n0\r\n\r\n",
        "not-chunked": "hello",
        "not-chunked-request": HIDDEN,
        "not-chunked-json": '{"a": 1}',
    }.items():
        yield reject(f"chunks/line/{name}", rule, chunked(text))
    yield reject("chunks/after-last", rule, chunked("0\r\nhello\r\n\r\n"))
    yield reject("chunks/another-after-last", rule, chunked("0\r\n5\r\nhello\r\n0\r\n\r\n"))
    yield reject(
        "chunks/good-then-bad", rule, chunked("5\r\nhello\r\n0\r\n\r\n") + chunked("5\nhello"), posted("hello")
    )


def _trailers() -> Iterator[Case]:
    rule = "RFC 9112 §7.1.2"
    for name, lines in {
        "one": ["X: y"],
        "several": ["X: y", "Z: z", "X: y"],
        "empty-value": ["X:"],
        "whitespace": ["X: \t y \t "],
        "obs-text": ["X: \x80\xff"],
        # RFC 9110 §6.5.1: not fields of the header section, whatever their names say.
        "content-length": ["Content-Length: 5"],
        "invalid-content-length": ["Content-Length: x"],
        "transfer-encoding": ["Transfer-Encoding: chunked"],
        "both": ["Transfer-Encoding: chunked", f"Content-Length: {len(GET)}"],
        "host": ["Host: b"],
        "invalid-host": ["Host: a/b"],
        "two-hosts": ["Host: a", "Host: b"],
        "connection-close": ["Connection: close"],
        "expect": ["Expect: 100-continue"],
        "upgrade": ["Upgrade: h2c", "Connection: upgrade"],
        "content-type": ["Content-Type: a/b", "Content-Type: c/d"],
        "authorization": ["Authorization: x"],
    }.items():
        trailer = "".join(f"{line}\r\n" for line in lines)
        yield accept(
            f"trailers/{name}", rule, chunked(f"5\r\nhello\r\n0\r\n{trailer}\r\n") + GET, posted("hello"), ROOT
        )
    for name, text in {
        "no-colon": "X\r\n\r\n",
        "no-colon-value": "X y\r\n\r\n",
        "no-name": ": y\r\n\r\n",
        "space-before-colon": "X : y\r\n\r\n",
        "delimiter": "X(: y\r\n\r\n",
        "obs-text": "X\xe9: y\r\n\r\n",
        "nul": "X: \0\r\n\r\n",
        "control": "X: \x01\r\n\r\n",
        "space-first": " X: y\r\n\r\n",
        "folded": "X: y\r\n z\r\n\r\n",
        "lf": "X: y\n\r\n",
        "lf-at-end": "X: y\r\n\n",
        "cr": "X: y\rZ: z\r\n\r\n",
        "cr-at-end": "X: y\r\n\rX",
        "request": "GET /hidden HTTP/1.1\r\nHost: a\r\n\r\n",
    }.items():
        yield reject(f"trailers/invalid/{name}", rule, chunked(f"5\r\nhello\r\n0\r\n{text}") + HIDDEN)
