"""Heads: RFC 9112 §2 to §5, and what RFC 9110 says about methods, fields and hosts."""

from collections.abc import Iterator
from itertools import chain

from .case import Case, Message
from .language import (
    CONTROLS,
    DELIMITERS,
    GET,
    ROOT,
    TCHAR,
    accept,
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
        _lines(),
        _other_protocols(),
        _request_line(),
        _methods(),
        _origin_form(),
        _absolute_form(),
        _authority_form(),
        _asterisk_form(),
        _hosts(),
        _fields(),
    )


# --- RFC 9112 §2: message format --------------------------------------------------------------------------------------


def _lines() -> Iterator[Case]:
    rule = "RFC 9112 §2.2"
    yield accept("lines/plain", rule, GET)
    yield accept("lines/one-empty-line-before", rule, "\r\n" + GET)
    yield accept("lines/two-empty-lines-before", rule, "\r\n\r\n" + GET)
    yield accept("lines/empty-line-between", rule, GET + "\r\n" + GET, ROOT, ROOT)
    yield accept("lines/empty-line-after", rule, GET + "\r\n", ROOT)
    yield accept(
        "lines/empty-line-after-content", rule, post("Content-Length: 1", body="x") + "\r\n" + GET, posted("x"), ROOT
    )
    yield reject("lines/empty-lines-for-ever", rule, "\r\n" * 1000 + GET, must=False)
    for name, before in {
        "lf": "\n",
        "cr": "\r",
        "cr-cr-lf": "\r\r\n",
        "lf-cr": "\n\r",
        "space": " ",
        "tab": "\t",
        "space-line": " \r\n",
        "nul": "\0",
        "bom": "\xef\xbb\xbf",
        "nel": "\x85",
    }.items():
        yield reject(f"lines/{name}-before", rule, before + GET)
    for name, text in {
        "request-line": "GET / HTTP/1.1<>Host: a\r\n\r\n",
        "field-line": "GET / HTTP/1.1\r\nHost: a<>\r\n",
        "field-line-before-another": "GET / HTTP/1.1\r\nHost: a<>X: y\r\n\r\n",
        "end": "GET / HTTP/1.1\r\nHost: a\r\n<>",
        "everywhere": "GET / HTTP/1.1<>Host: a<><>",
        "before-framing": "GET / HTTP/1.1\r\nHost: a\r\nX: y<>Content-Length: 5\r\n\r\nhello",
    }.items():
        # RFC 9112 §2.2 lets a recipient take a lone LF for a line end; it says nothing of the kind about the others.
        yield reject(f"lines/bare-lf/{name}", rule, text.replace("<>", "\n"), must=False)
        yield reject(f"lines/bare-cr/{name}", rule, text.replace("<>", "\r") + "x")
        yield reject(f"lines/cr-cr-lf/{name}", rule, text.replace("<>", "\r\r\n"))
        yield reject(f"lines/lf-cr/{name}", rule, text.replace("<>", "\n\r"))
    yield reject("lines/cr-in-the-method", rule, "G\rET / HTTP/1.1\r\nHost: a\r\n\r\n")
    yield reject("lines/cr-in-the-target", rule, "GET /\rx HTTP/1.1\r\nHost: a\r\n\r\n")
    yield reject("lines/cr-in-the-version", rule, "GET / HTTP/1.\r1\r\nHost: a\r\n\r\n")
    yield reject("lines/cr-before-the-version", rule, "GET / \rHTTP/1.1\r\nHost: a\r\n\r\n")
    yield reject("lines/cr-in-a-name", rule, "GET / HTTP/1.1\r\nHost: a\r\nX\rY: z\r\n\r\n")
    yield reject("lines/cr-before-a-colon", rule, "GET / HTTP/1.1\r\nHost: a\r\nX\r: z\r\n\r\n")
    yield reject("lines/cr-after-a-colon", rule, "GET / HTTP/1.1\r\nHost: a\r\nX:\rz\r\n\r\n")
    yield reject("lines/end-is-cr-lf-cr-x", rule, "GET / HTTP/1.1\r\nHost: a\r\n\rX: y\r\n\r\n")
    for name, text in {
        "nothing": "",
        "cr": "\r",
        "empty-line": "\r\n",
        "method": "GE",
        "method-and-space": "GET ",
        "target": "GET /x",
        "target-and-space": "GET /x ",
        "version": "GET /x HTTP/1",
        "request-line-without-lf": "GET /x HTTP/1.1\r",
        "request-line": "GET /x HTTP/1.1\r\n",
        "name": "GET /x HTTP/1.1\r\nHos",
        "colon": "GET /x HTTP/1.1\r\nHost:",
        "value": "GET /x HTTP/1.1\r\nHost: a",
        "value-and-cr": "GET /x HTTP/1.1\r\nHost: a\r",
        "field-line": "GET /x HTTP/1.1\r\nHost: a\r\n",
        "end-without-lf": "GET /x HTTP/1.1\r\nHost: a\r\n\r",
    }.items():
        if text:
            yield wait(f"lines/cut-after/{name}", rule, text)
        yield wait(f"lines/cut-after-another/{name}", rule, GET + text, ROOT)


def _other_protocols() -> Iterator[Case]:
    rule = "RFC 9112 §3"
    yield reject("protocols/http-0.9", rule, "GET /\r\n")
    yield reject("protocols/http-0.9-and-end", rule, "GET /\r\n\r\n")
    yield reject("protocols/http-0.9-and-host", rule, "GET /\r\nHost: a\r\n\r\n")
    yield reject("protocols/http-0.9-and-space", rule, "GET / \r\n\r\n")
    yield reject("protocols/http-2-preface", rule, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", status=(400, 505))
    yield reject("protocols/http-2-frames", rule, "\0\0\x12\x04\0\0\0\0\0" + "\0\x03\0\0\0\x80" * 3)
    yield reject("protocols/tls-client-hello", rule, "\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03" + "\x5a" * 32)
    yield reject("protocols/tls-alert", rule, "\x15\x03\x01\0\x02\x02\x28")
    yield reject("protocols/ssl-2", rule, "\x80\x2e\x01\0\x02\0\x15\0\0\0\x10")
    yield reject("protocols/ssh", rule, "SSH-2.0-OpenSSH_9.6\r\n")
    yield reject("protocols/smtp", rule, "EHLO example.org\r\n")
    yield reject("protocols/socks-5", rule, "\x05\x01\0")
    yield reject("protocols/proxy-1", rule, "PROXY TCP4 192.0.2.1 192.0.2.2 1234 80\r\n" + GET)
    yield reject("protocols/proxy-2", rule, "\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + "\x7f" * 12)
    yield reject("protocols/rtsp", rule, "DESCRIBE rtsp://a/b RTSP/1.0\r\nCSeq: 1\r\n\r\n")
    yield reject("protocols/sip", rule, "OPTIONS sip:a@b SIP/2.0\r\n\r\n")
    yield reject("protocols/icy", rule, "SOURCE /x ICE/1.0\r\nHost: a\r\n\r\n")
    yield reject("protocols/response", rule, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    yield reject("protocols/utf-16", rule, "".join(char + "\0" for char in GET))
    yield reject("protocols/json", rule, '{"method": "GET"}\r\n\r\n')
    yield reject("protocols/header-only", rule, "Host: a\r\n\r\n")


# --- RFC 9112 §3: request line ----------------------------------------------------------------------------------------


def _request_line() -> Iterator[Case]:
    rule = "RFC 9112 §3"
    for name, line in {
        "no-method": " / HTTP/1.1",
        "no-target": "GET HTTP/1.1",
        "empty-target": "GET  HTTP/1.1",
        "no-version": "GET / ",
        "two-spaces-after-method": "GET  / HTTP/1.1",
        "two-spaces-before-version": "GET /  HTTP/1.1",
        "space-before": " GET / HTTP/1.1",
        "space-after": "GET / HTTP/1.1 ",
        "tab-after": "GET / HTTP/1.1\t",
        "tab-after-method": "GET\t/ HTTP/1.1",
        "tab-before-version": "GET /\tHTTP/1.1",
        "tab-and-space": "GET \t/ HTTP/1.1",
        "vertical-tab": "GET\x0b/ HTTP/1.1",
        "form-feed": "GET /\x0cHTTP/1.1",
        "no-break-space": "GET\xa0/ HTTP/1.1",
        "four-parts": "GET / x HTTP/1.1",
        "two-versions": "GET / HTTP/1.1 HTTP/1.1",
        "space-in-the-target": "GET /a b HTTP/1.1",
        "query-with-a-space": "GET /?q=a b HTTP/1.1",
        "no-spaces": "GET/HTTP/1.1",
        "quoted": '"GET / HTTP/1.1"',
    }.items():
        yield reject(f"request-line/{name}", rule, request(line))
    rule = "RFC 9112 §2.3"
    for version in words(
        "http/1.1 Http/1.1 HTTp/1.1 HTTPS/1.1 HTTP/1 HTTP/1. HTTP/.1 HTTP/11 HTTP/1.1. HTTP/1.1.1 HTTP/1.10 HTTP/01.1 "
        "HTTP/1.01 HTTP/10.1 HTTP/+1.1 HTTP/-1.1 HTTP/1.-1 HTTP/1,1 HTTP/1:1 HTTP1.1 HTTP-1.1 HTTP//1.1 HTTP\\1.1 "
        "HTTP/A.1 HTTP/1.A HTTP/0x1.1 HTTP/1.1x xHTTP/1.1 HTT/1.1 XTTP/1.1 HTTP/ HTTP HTTP/1.\xb9 HTTP/\xb2.0 / 1.1 "
        "HTTP/1.1; HTTP/1.1, SHTTP/1.3 HTTP/1.1\0 HTTP/1.1\x7f"
    ):
        yield reject(f"version/{hexed(version)}", rule, request(f"GET / {version}"))
    for version in ("0.0", "0.9", "2.0", "2.1", "3.0", "9.9"):
        yield reject(f"version/{version}", "RFC 9110 §15.6.6", request(f"GET / HTTP/{version}"), status=505, must=False)
    for version in ("1.2", "1.9"):
        yield accept(f"version/{version}", "RFC 9110 §2.5", request(f"GET / HTTP/{version}"))
    yield accept("version/1.0", rule, "GET / HTTP/1.0\r\n\r\n", Message("GET", "/", closes=True))
    for octet in CONTROLS:
        yield reject(f"controls/method/{hexed(octet)}", "RFC 9112 §3.1", request(f"G{octet}ET / HTTP/1.1"))
        yield reject(f"controls/target/{hexed(octet)}", "RFC 9112 §3.2", request(f"GET /{octet} HTTP/1.1"))
        yield reject(f"controls/query/{hexed(octet)}", "RFC 9112 §3.2", request(f"GET /?{octet} HTTP/1.1"))


def _methods() -> Iterator[Case]:
    rule = "RFC 9110 §9.1"
    for method in (
        "GET",
        "HEAD",
        "POST",
        "PUT",
        "DELETE",
        "OPTIONS",
        "TRACE",
        "PATCH",
        "PROPFIND",
        "QUERY",
        "M-SEARCH",
    ):
        yield accept(f"methods/{method}", rule, request(f"{method} /x HTTP/1.1"), Message(method, "/x"))
    # Names are case-sensitive, and any token is one.
    for method in ("get", "Get", "FOO", "G", TCHAR, "PRI", "X" * 1000, "0", "!"):
        yield accept(f"methods/unknown/{method[:8]}", rule, request(f"{method} /x HTTP/1.1"), Message(method, "/x"))
    for octet in DELIMITERS:
        yield reject(f"methods/delimiter/{hexed(octet)}", rule, request(f"GE{octet}T /x HTTP/1.1"))
    for method in ("\xc3\xa9", "GET\x80", "\xff", "G\xa0ET"):
        yield reject(f"methods/obs-text/{hexed(method)}", rule, request(f"{method} /x HTTP/1.1"))
    yield reject("methods/endless", "RFC 9112 §3", "G" * 100_000, status=(414, 501), must=False)


def _get(target: str, method: str = "GET") -> str:
    return request(f"{method} {target} HTTP/1.1")


def _origin_form() -> Iterator[Case]:
    rule = "RFC 9112 §3.2.1"
    for target in words(
        "/ /? // //a/b /. /.. /a/./b/../c /a;b=c /a:b /a@b /a,b /a&b=c /a+b /a*b /a!b$c'd(e)f /~a /a_b /-"
        " /a?b /a?b=c&d=e /a?b?c /a?/ /?a=b;c /a?b=http://c/d /%41 /%e9 /%C3%A9 /%20 /%23 /%2F /%252F /a?%zz /a?%"
        " /a.html /index.php?x[]=1 /http://a/b /*"
    ):
        yield accept(f"targets/origin/{target}", rule, _get(target), Message("GET", target))
    # RFC 3986 has no room for these, and browsers send them all the same; none is a delimiter of the request line.
    for octet in '"<>[\\]^`{|}':
        yield accept(f"targets/lenient/{hexed(octet)}", rule, _get(f"/a{octet}b"), Message("GET", f"/a{octet}b"))
    for target in ("/#", "/a#b", "/a?b#c", "#", "#a", "/a%23b#"):
        yield reject(f"targets/fragment/{target}", "RFC 9112 §3.2", _get(target))
    for target in ("/\x80", "/\xc3\xa9", "/?\xff", "/\xa0", "/a\xe2\x80\xa8b", "\xe9"):
        yield reject(f"targets/obs-text/{hexed(target)}", "RFC 9112 §3.2", _get(target))
    for target in ("a", "a/b", "?a", ".", "..", "./a", ":80", "a:80", "a.b", "\\", "\\a", "&", "%2F", "@", "="):
        yield reject(f"targets/no-form/{target}", "RFC 9112 §3.2", _get(target))


def _absolute_form() -> Iterator[Case]:
    rule = "RFC 9112 §3.2.2"
    for target in words(
        "http://a http://a/ http://a/b http://a/b?c http://a?c HTTP://A/B hTtP://a/ https://a/b http://a:80/ http://a:/"
        " http://a.b.c:8080/d http://127.0.0.1/ http://[::1]/ http://[::1]:80/ http://[2001:db8::1]:443 http://a%41/b"
        " http://a_b/ http://a!$&'()*+,;=/b http://a//b http://a/@ http://a/b:c http://a?b@c"
    ):
        yield accept(f"targets/absolute/{target}", rule, _get(target), Message("GET", target))
        yield reject(
            f"targets/absolute-without-host/{target}", "RFC 9112 §3.2", f"GET {target} HTTP/1.1\r\nX: y\r\n\r\n"
        )
    yield accept(
        "targets/absolute/another-host",
        rule,
        "GET http://b/c HTTP/1.1\r\nHost: a\r\n\r\n",
        Message("GET", "http://b/c"),
    )
    yield accept(
        "targets/absolute/empty-host-field",
        rule,
        "GET http://b/c HTTP/1.1\r\nHost:\r\n\r\n",
        Message("GET", "http://b/c"),
    )
    yield accept(
        "targets/absolute/options", rule, _get("http://a/b", method="OPTIONS"), Message("OPTIONS", "http://a/b")
    )
    for target in words(
        "http:// http:/// http:///a http://?a http://:80/ http://:/ http://[ http://[/ http://[]/ http://[::1 http://[::1/"
        " http://[::1]a/ http://[g::1]/ http://::1/ http://a:b/ http://a:80a/ http://a:-1/ http://a:+1/ http://a:65536/"
        " http://a:99999999999/ http://a:80:80/ http://a\\b/ http://a|b/ http://a^b/ http://a<b/ http://%/ http://%4/ http://%zz/"
    ):
        yield reject(f"targets/absolute-authority/{target}", "RFC 9110 §4.2.1", _get(target))
    for target in ("http://u@a/", "http://u:p@a/", "http://@a/", "https://u@a", "http://a@b@c/", "http://a%40b@c/"):
        yield reject(f"targets/userinfo/{target}", "RFC 9110 §4.2.4", _get(target), must=False)
    for target in ("http:", "http:/", "http:a", "http:/a", "http//a", "://a/", "ht!tp://a/", "1http://a/"):
        yield reject(f"targets/scheme/{target}", "RFC 9112 §3.2", _get(target))
    for target in (
        "ftp://a/",
        "ws://a/",
        "file:///etc/passwd",
        "urn:a:b",
        "javascript:alert(1)",
        "mailto:a@b",
        "x://a/b",
    ):
        yield reject(f"targets/other-scheme/{target}", "RFC 9110 §7.4", _get(target), status=(400, 421), must=False)


def _authority_form() -> Iterator[Case]:
    rule = "RFC 9112 §3.2.3"
    for target in ("a:80", "a.b:443", "[::1]:80", "127.0.0.1:65535"):
        yield accept(f"targets/authority/{target}", rule, _get(target, "CONNECT"), Message("CONNECT", target))
    for target in words(
        "/ /a * a a: :80 a:0 a:00 a:65536 a:-1 a:+80 a:b a:80/ a:80?b a:80:80 http://a:80 http://a:80/ u@a:80 u:p@a:80"
        " [::1 [::1] ::1:80 []:80 a/b:80 a:80,b:80 a%:80"
    ):
        yield reject(f"targets/connect/{target}", "RFC 9110 §9.3.6", _get(target, "CONNECT"))


def _asterisk_form() -> Iterator[Case]:
    rule = "RFC 9112 §3.2.4"
    yield accept("targets/asterisk", rule, _get("*", "OPTIONS"), Message("OPTIONS", "*"))
    for method in ("GET", "HEAD", "POST", "DELETE", "TRACE", "options", "CONNECT", "PRI"):
        yield reject(f"targets/asterisk/{method}", rule, _get("*", method))
    for target in ("**", "*/", "*?", "*a", "%2A"):
        yield reject(f"targets/no-asterisk/{target}", rule, _get(target, "OPTIONS"))


def _hosts() -> Iterator[Case]:
    rule = "RFC 9112 §3.2"

    def get(*lines: str, version: str = "1.1") -> str:
        return "\r\n".join([f"GET / HTTP/{version}", *lines, "", ""])

    closing = Message("GET", "/", closes=True)
    yield reject("hosts/none", rule, get())
    yield reject("hosts/none-but-others", rule, get("X-Host: a", "Hos: a", "Hostt: a"))
    yield reject("hosts/none-on-1.2", rule, get(version="1.2"))
    yield reject("hosts/with-another-name", rule, get("H\xf6st: a"))
    yield accept("hosts/none-on-1.0", rule, get(version="1.0"), closing)
    yield accept("hosts/one-on-1.0", rule, get("Host: a", version="1.0"), closing)
    yield accept("hosts/any-case", rule, get("hOsT: a"))
    yield accept("hosts/last", rule, get("X: y", "Host: a"))
    for version in ("1.0", "1.1"):
        for name, lines in {
            "same": ["Host: a", "Host: a"],
            "other": ["Host: a", "Host: b"],
            "apart": ["Host: a", "X: y", "host: b"],
            "one-empty": ["Host: a", "Host:"],
            "both-empty": ["Host:", "Host:"],
            "three": ["Host: a"] * 3,
        }.items():
            yield reject(f"hosts/several/{name}-on-{version}", rule, get(*lines, version=version))
        yield reject(f"hosts/invalid-on-{version}", rule, get("Host: a/b", version=version))
    for host in words(
        "a a.b.c A.EXAMPLE a. a:80 a:0 a:65535 a: 127.0.0.1 127.0.0.1:80 1 a_b a-b ~ %41 %c3%a9 a%20b xn--bcher-kva "
        "!$&'()*+;= [::] [::1] [::1]:80 [::1]: [2001:db8::ff00:42:8329] [::ffff:192.0.2.1] [v1.a:b] [vF.~!$&'()*+,;=]"
    ):
        yield accept(f"hosts/valid/{host}", rule, get(f"Host: {host}"))
    yield accept("hosts/valid/empty", rule, get("Host:"))
    yield accept("hosts/valid/whitespace-around", rule, get("Host: \t a \t "))
    yield accept("hosts/valid/long", rule, get(f"Host: {'a.' * 500}a:80"))
    for host in words(
        "a/ /a a/b a?b a#b a@b u:p@a @a @ :80 : a:b a:80a a:8_0 a:-1 a:+1 a:65536 a:99999999999999999999 a:80:80 "
        'a::80 a\\b \\ a|b a^b a`b {a} <a> a"b http://a http://a/ //a a%zz % a%4 [ ] [] [:] [::1 ::1 [::1]] [[::1]] '
        "[::1]a [::1]80 [::1]:b [:::] [1] [1:2:3:4:5:6:7] [1:2:3:4:5:6:7:8:9] [12345::] [::g] [::1%25eth0] "
        "[::256.1.1.1] [v.a] [v1] [v1.] [vg.a] [a] a[b] \xe9 a\xa0b \x80 a,b,[ \xef\xbb\xbfa"
    ):
        yield reject(f"hosts/invalid/{hexed(host)}", rule, get(f"Host: {host}"))
    for host in ("a b", "a, b", "a\tb", "a: 80", "a :80", "a b:80", "a /hidden"):
        yield reject(f"hosts/whitespace/{host!r}", rule, get(f"Host: {host}"))


# --- RFC 9112 §5: field syntax ----------------------------------------------------------------------------------------


def _fields() -> Iterator[Case]:
    rule = "RFC 9112 §5.1"
    for name, line in {
        "space": "X : y",
        "tab": "X\t: y",
        "spaces": "X   : y",
        "content-length": "Content-Length : 5",
        "transfer-encoding": "Transfer-Encoding : chunked",
        "transfer-encoding-tab": "Transfer-Encoding\t: chunked",
        "host": "Host : b",
    }.items():
        yield reject(f"fields/whitespace-before-colon/{name}", rule, post(line, body="hello"))
    yield reject("fields/whitespace-before-colon/only-host", rule, "GET / HTTP/1.1\r\nHost : a\r\n\r\n")
    rule = "RFC 9112 §5"
    for name, line in {
        "no-colon": "X",
        "no-colon-but-value": "X y",
        "no-colon-in-framing": "Transfer-Encoding chunked",
        "no-name": ": y",
        "no-name-nor-value": ":",
        "two-colons": "::",
        "equals": "X=y",
        "request-line": "GET / HTTP/1.1",
    }.items():
        yield reject(f"fields/{name}", rule, request("GET / HTTP/1.1", line))
    yield reject("fields/none-but-garbage", rule, "GET / HTTP/1.1\r\n\0\0\0\0")
    rule = "RFC 9110 §5.1"
    yield accept("fields/every-tchar", rule, request("GET / HTTP/1.1", f"{TCHAR}: y"))
    yield accept("fields/name-of-digits", rule, request("GET / HTTP/1.1", "1: y"))
    yield accept("fields/name-of-500", rule, request("GET / HTTP/1.1", f"{'x' * 500}: y"))
    yield accept(
        "fields/underscore", rule, request("GET / HTTP/1.1", "Content_Length: 5", "Transfer_Encoding: chunked")
    )
    for octet in DELIMITERS.replace(":", ""):
        yield reject(f"fields/delimiter/{hexed(octet)}", rule, request("GET / HTTP/1.1", f"X{octet}: y"))
        yield reject(
            f"fields/delimiter-in-framing/{hexed(octet)}", rule, post(f"Content-Length{octet}: 5", body="hello")
        )
    for octet in ("\x80", "\xa0", "\xe9", "\xff", "\x85"):
        yield reject(f"fields/obs-text-in-name/{hexed(octet)}", rule, request("GET / HTTP/1.1", f"X{octet}: y"))
    for octet in CONTROLS:
        yield reject(f"controls/name/{hexed(octet)}", rule, request("GET / HTTP/1.1", f"X{octet}Y: z"))
        yield reject(
            f"controls/name-end/{hexed(octet)}", rule, post(f"Transfer-Encoding{octet}: chunked", body="0\r\n\r\n")
        )
        # RFC 9110 §5.5: NUL must be refused or replaced; of the others "recipients MAY retain such characters".
        yield reject(
            f"controls/value/{hexed(octet)}",
            "RFC 9110 §5.5",
            request("GET / HTTP/1.1", f"X: y{octet}z"),
            must=octet == "\0",
        )
        yield reject(
            f"controls/value-start/{hexed(octet)}",
            "RFC 9110 §5.5",
            post(f"Transfer-Encoding:{octet}chunked", body="0\r\n\r\n"),
        )
    rule = "RFC 9110 §5.5"
    for name, value in {
        "empty": "",
        "spaces": "   ",
        "tab": "\t",
        "no-space": "y",
        "spaces-around": "   y   ",
        "tabs-around": "\ty\t",
        "spaces-inside": "y  z",
        "tab-inside": "y\tz",
        "visible": "".join(map(chr, range(0x21, 0x7F))),
        "obs-text": "".join(map(chr, range(0x80, 0x100))),
        "colon": ":",
        "quoted": '"a\\"b"',
        "unbalanced": '"a',
        "comma": ",,,",
        "long": "y" * 5000,
        "tabs": "\t" * 500 + "y",
    }.items():
        yield accept(f"fields/value/{name}", rule, request("GET / HTTP/1.1", f"X:{value}"))
    yield accept("fields/repeated", "RFC 9110 §5.3", request("GET / HTTP/1.1", *["Accept: a"] * 20))
    yield reject(
        "fields/two-content-types", "RFC 9110 §5.3", post("Content-Type: a/b", "Content-Type: a/b"), must=False
    )
    rule = "RFC 9112 §5.2"
    for name, lines in {
        "space": ["X: y", " z"],
        "tab": ["X: y", "\tz"],
        "empty": ["X: y", " "],
        "empty-value": ["X:", " y"],
        "two": ["X: y", " z", " z"],
        "field-like": ["X: y", " Content-Length: 5"],
        "content-length": ["Content-Length:", " 5"],
        "content-length-digits": ["Content-Length: 1", " 0"],
        "transfer-encoding": ["Transfer-Encoding:", " chunked"],
        "transfer-encoding-list": ["Transfer-Encoding: x,", "\tchunked"],
    }.items():
        yield reject(f"fields/folded/{name}", rule, post(*lines, body="hello"), must=False)
    yield reject("fields/folded/host", rule, "GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n", must=False)
    rule = "RFC 9112 §2.2"
    for name, lines in {
        "space": [" X: y", "Host: a"],
        "tab": ["\tX: y", "Host: a"],
        "host": [" Host: a"],
        "empty": [" ", "Host: a"],
        "framing": [" Transfer-Encoding: chunked", "Host: a"],
    }.items():
        text = "\r\n".join(["POST / HTTP/1.1", *lines, "", "0\r\n\r\n"])
        yield reject(f"fields/whitespace-before-first/{name}", rule, text)
