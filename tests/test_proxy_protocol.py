"""The PROXY protocol: who may say whose bytes follow, and what becomes of those who say it wrongly."""

import socket
import ssl
import struct
import time
from pathlib import Path

import pytest

from conftest import Peer, Serve, Served
from vibora import JsonResponse, Request, Response, ServerLimits, Vibora
from vibora.exceptions import ConfigurationError
from vibora.tls import TLS

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
REQUEST = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n"
#: The networks that the tests' own connections come from, and others that they do not.
HERE = ["127.0.0.0/8", "::1"]
ELSEWHERE = ["10.0.0.0/8", "2001:db8::/32"]


def v2(command: int, family: int, block: bytes) -> bytes:
    return SIGNATURE + struct.pack("!BBH", command, family, len(block)) + block


TCP4 = socket.inet_aton("192.0.2.1") + socket.inet_aton("198.51.100.7") + struct.pack("!HH", 56789, 443)
TCP6 = socket.inet_pton(socket.AF_INET6, "2001:db8::1") + bytes(16) + struct.pack("!HH", 80, 443)


def who() -> Vibora:
    app = Vibora(server_limits=ServerLimits(head_timeout=0.4))

    @app.get("/")
    async def home(request: Request) -> Response:
        return JsonResponse(request.client)

    @app.post("/")
    async def echo(request: Request) -> Response:
        return Response(await request.content())

    return app


def client_of(served: Served, header: bytes) -> tuple[str, int]:
    with served.connect() as peer:
        peer.send(header + REQUEST)
        host, port = eval(peer.read_answer().text)  # noqa: S307  two literals of our own
        return host, port


class TestTrusted:
    @pytest.mark.parametrize(
        ("header", "client"),
        [
            (b"PROXY TCP4 192.0.2.1 198.51.100.7 56789 443\r\n", ("192.0.2.1", 56789)),
            (b"PROXY TCP6 2001:db8::1 ::1 80 443\r\n", ("2001:db8::1", 80)),
            (b"PROXY TCP6 ::ffff:192.0.2.9 ::1 80 443\r\n", ("192.0.2.9", 80)),
            (v2(0x21, 0x11, TCP4), ("192.0.2.1", 56789)),
            (v2(0x21, 0x21, TCP6), ("2001:db8::1", 80)),
            (v2(0x21, 0x11, TCP4 + b"\x04\x00\x03abc"), ("192.0.2.1", 56789)),
        ],
    )
    def test_says_who_the_client_is(self, serve: Serve, header: bytes, client: tuple[str, int]) -> None:
        assert client_of(serve(who(), proxy_protocol=HERE), header) == client

    @pytest.mark.parametrize(
        "header",
        [b"PROXY UNKNOWN\r\n", v2(0x20, 0, b""), v2(0x20, 0x11, TCP4), v2(0x21, 0, b""), v2(0x21, 0x31, bytes(216))],
    )
    def test_may_have_nobody_to_tell_of(self, serve: Serve, header: bytes) -> None:
        host, port = client_of(serve(who(), proxy_protocol=HERE), header)
        assert host == "127.0.0.1"
        assert port > 1023

    def test_header_and_request_may_come_in_any_pieces(self, serve: Serve) -> None:
        served = serve(who(), proxy_protocol=HERE)
        for header in (b"PROXY TCP4 192.0.2.1 198.51.100.7 56789 443\r\n", v2(0x21, 0x11, TCP4)):
            whole = header + REQUEST
            for cut in (1, 6, len(header) - 1, len(header), len(header) + 1):
                with served.connect() as peer:
                    peer.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    peer.send(whole[:cut])
                    time.sleep(0.02)
                    peer.send(whole[cut:])
                    assert "192.0.2.1" in peer.read_answer().text

    def test_one_header_is_for_the_whole_connection(self, serve: Serve) -> None:
        with serve(who(), proxy_protocol=HERE).connect() as peer:
            peer.send(b"PROXY TCP4 192.0.2.1 198.51.100.7 56789 443\r\n" + REQUEST * 2)
            assert "192.0.2.1" in peer.read_answer().text
            assert "192.0.2.1" in peer.read_answer().text
            assert "192.0.2.1" in peer.ask().text
            content = bytes(range(256)) * 1000
            assert peer.ask(method="POST", content=content).content == content
            # A second one is not HTTP.
            peer.send(b"PROXY TCP4 192.0.2.2 198.51.100.7 56789 443\r\n")
            assert peer.read_answer().status == 400
            assert peer.is_closed()

    @pytest.mark.parametrize(
        "header",
        [
            REQUEST,
            b"PROXY TCP4 192.0.2.1\r\n",
            b"PROXY TCP4 192.0.2.1 198.51.100.7 56789 443\n",
            b"PROXY " + b"x" * 200,
            SIGNATURE + b"\x31\x11\x00\x0c",
            v2(0x21, 0x11, TCP4[:8]),
            SIGNATURE + b"\x21\x11\xff\xff",
            b"\x16\x03\x01\x00\x05hello",
        ],
    )
    def test_anything_else_closes_the_connection_in_silence(self, serve: Serve, header: bytes) -> None:
        served = serve(who(), proxy_protocol=HERE)
        with served.connect() as peer:
            peer.send(header)
            assert peer.receive() == b""
        assert not served.errors

    def test_a_header_that_does_not_come_is_not_awaited(self, serve: Serve) -> None:
        served = serve(who(), proxy_protocol=HERE)
        for part in (b"", b"PROXY TCP4 192.0.2.1", SIGNATURE):
            start = time.monotonic()
            with served.connect() as peer:
                peer.send(part)
                assert peer.receive() == b""
            assert 0.2 < time.monotonic() - start < 3

    def test_comes_before_tls(self, serve: Serve, certificates: Path) -> None:
        tls = TLS(certificates / "server.pem")
        served = serve(who(), proxy_protocol=HERE, tls=tls)
        for header in (b"PROXY TCP4 192.0.2.1 198.51.100.7 56789 443\r\n", v2(0x21, 0x11, TCP4)):
            with served.connect() as outer:
                outer.send(header)
                context = ssl.create_default_context(cafile=certificates / "ca.pem")
                with Peer(context.wrap_socket(outer.sock, server_hostname="localhost")) as peer:
                    assert "192.0.2.1" in peer.ask().text


class TestOthers:
    def test_are_served_as_they_are(self, serve: Serve) -> None:
        served = serve(who(), proxy_protocol=ELSEWHERE)
        host, _ = client_of(served, b"")
        assert host == "127.0.0.1"

    @pytest.mark.parametrize("header", [b"PROXY TCP4 192.0.2.1 198.51.100.7 56789 443\r\n", v2(0x21, 0x11, TCP4)])
    def test_cannot_say_that_they_are_somebody_else(self, serve: Serve, header: bytes) -> None:
        for trusted in (ELSEWHERE, None, []):
            with serve(who(), proxy_protocol=trusted).connect() as peer:
                peer.send(header + REQUEST)
                assert peer.read_answer().status == 400
                assert peer.is_closed()


class TestSettings:
    @pytest.mark.parametrize("entry", ["", "10.0.0.0/33", "example.com", "10.0.0/8", "::/129", "fe80::1%lo"])
    def test_an_entry_that_is_no_network_is_refused(self, serve: Serve, entry: str) -> None:
        with pytest.raises(ConfigurationError, match="proxy_protocol takes networks"):
            serve(who(), proxy_protocol=["10.0.0.0/8", entry])

    def test_one_text_is_refused(self, serve: Serve) -> None:
        with pytest.raises(ConfigurationError, match="a list of networks"):
            serve(who(), proxy_protocol="10.0.0.0/8")

    def test_a_context_of_the_loop_cannot_come_behind_it(self, serve: Serve) -> None:
        with pytest.raises(ConfigurationError, match=r"vibora\.tls\.TLS"):
            serve(who(), proxy_protocol=HERE, tls=ssl.create_default_context(ssl.Purpose.CLIENT_AUTH))
