"""Where a request comes from: the connection, and what trusted proxies say (RFC 7239, `X-Forwarded-*`)."""

import asyncio
import ipaddress
import json
import socket
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conftest import Peer
from vibora import ConfigurationError, JsonResponse, Request, Response, Vibora
from vibora.proxies import TrustedProxies

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator
    from pathlib import Path

    from conftest import Serve


def app_behind(proxies: Any) -> Vibora:
    """Return an app that tells where a request comes from."""
    app = Vibora(trusted_proxies=proxies)

    @app.get("/<*rest>")
    async def handler(request: Request) -> Response:
        first = [request.client_ip(), request.scheme, request.host, str(request.url)]
        assert [request.client_ip(), request.scheme, request.host, str(request.url)] == first
        return JsonResponse(first)

    return app


def ask(peer: "Peer", lines: dict[str, Any], target: str = "/x?y") -> Any:
    """Send a request with the lines, several where a value is a list; return client, scheme, host and URL."""
    pairs = [(name, value) for name, all_ in lines.items() for value in ([all_] if isinstance(all_, str) else all_)]
    answer = peer.ask(target, headers=pairs)
    assert answer.status == 200
    return json.loads(answer.content)


PEER = "127.0.0.1"
UNTOUCHED = [PEER, "http", "test", "http://test/x?y"]


SPOOFED = {
    "Forwarded": "for=192.0.2.1;proto=https;host=evil.example",
    "X-Forwarded-For": "192.0.2.1",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "evil.example",
    "X-Forwarded-Port": "444",
    "X-Real-IP": "192.0.2.1",
    "Client-IP": "192.0.2.1",
}


class TestSpoofing:
    """What a client can write itself changes nothing."""

    @pytest.mark.parametrize(
        "proxies", [None, [], ["10.0.0.0/8"], ["unix"], ["127.0.0.2"], ["::1", "::ffff:10.0.0.0/104"]], ids=repr
    )
    def test_nobody_is_believed_who_is_not_trusted(self, serve: "Serve", proxies: Any) -> None:
        with serve(app_behind(proxies)).connect() as peer:
            assert ask(peer, SPOOFED) == UNTOUCHED
            for name, value in SPOOFED.items():
                assert ask(peer, {name: value}) == UNTOUCHED

    def test_what_stands_to_the_left_of_the_client_was_written_by_it(self, serve: "Serve") -> None:
        with serve(app_behind([PEER, "10.0.0.0/8"])).connect() as peer:
            for chain in (
                "203.0.113.7, 198.51.100.2",
                "127.0.0.1, 198.51.100.2",
                "10.0.0.9, 198.51.100.2, 10.0.0.5",
                'nonsense;,"\\, 198.51.100.2, 10.0.0.5',
            ):
                assert ask(peer, {"X-Forwarded-For": chain})[0] == "198.51.100.2"
            for chain in (
                "for=203.0.113.7;proto=https;host=evil, for=198.51.100.2",
                "for=10.0.0.9;proto=https;host=evil, for=198.51.100.2, for=10.0.0.5",
                'for="203.0.113.7;proto=https, for=198.51.100.2',
                'for="\\", for="198.51.100.2:9"',
            ):
                assert ask(peer, {"Forwarded": chain})[:3] == ["198.51.100.2", "http", "test"]
            lines = ["for=203.0.113.7;proto=https", 'for="10.0.0.9', "for=198.51.100.2"]
            assert ask(peer, {"Forwarded": lines})[:2] == ["198.51.100.2", "http"]

    def test_forwarded_of_a_client_does_not_outdo_the_fields_of_the_proxy(self, serve: "Serve") -> None:
        with serve(app_behind([PEER])).connect() as peer:
            lines = {"Forwarded": "for=203.0.113.7;proto=https;host=evil", "X-Forwarded-For": "198.51.100.2"}
            assert ask(peer, lines)[:3] == ["198.51.100.2", "http", "test"]

    @pytest.mark.parametrize("value", ["evil/x", "a b", "user@evil", "[::1", "a:0x50", "", "a?b", "<b>"])
    def test_a_host_that_is_none_is_ignored(self, serve: "Serve", value: str) -> None:
        with serve(app_behind([PEER])).connect() as peer:
            assert ask(peer, {"X-Forwarded-Host": value}) == UNTOUCHED
            assert ask(peer, {"Forwarded": f'host="{value}"'}) == UNTOUCHED

    def test_the_path_is_the_one_that_was_routed(self, serve: "Serve") -> None:
        app = Vibora(trusted_proxies=[PEER])

        @app.get("/admin/<*rest>")
        async def handler(request: Request) -> Response:
            return JsonResponse([request.path, request.url.path, request.url.raw_path, str(request.url)])

        with serve(app).connect() as peer:
            peer.send(b"GET /%61dmin/%2e%2e/x?/y HTTP/1.1\r\nHost: x\r\nX-Forwarded-Host: a.example\r\n\r\n")
            assert json.loads(peer.read_answer().content) == [
                "/admin/../x",
                "/admin/../x",
                "/%61dmin/%2e%2e/x",
                "http://a.example/%61dmin/%2e%2e/x?/y",
            ]


class TestTrusted:
    @pytest.mark.parametrize(
        ("lines", "expected"),
        [
            ({}, UNTOUCHED),
            ({"X-Forwarded-For": "192.0.2.1"}, ["192.0.2.1", "http", "test", "http://test/x?y"]),
            ({"X-Forwarded-For": "2001:db8::1"}, ["2001:db8::1", "http", "test", "http://test/x?y"]),
            ({"X-Forwarded-Proto": "https"}, [PEER, "https", "test", "https://test/x?y"]),
            ({"X-Forwarded-Proto": "WSS"}, [PEER, "https", "test", "https://test/x?y"]),
            ({"X-Forwarded-Host": "A.example:81"}, [PEER, "http", "A.example:81", "http://a.example:81/x?y"]),
            ({"X-Forwarded-Port": "8443"}, [PEER, "http", "test:8443", "http://test:8443/x?y"]),
            ({"X-Forwarded-Host": "a:81", "X-Forwarded-Port": "82"}, [PEER, "http", "a:81", "http://a:81/x?y"]),
            (
                {"X-Forwarded-Host": "[::1]", "X-Forwarded-Port": "443", "X-Forwarded-Proto": "https"},
                [PEER, "https", "[::1]", "https://[::1]/x?y"],
            ),
            (
                {"X-Forwarded-Host": "[::1]", "X-Forwarded-Port": "80", "X-Forwarded-Proto": "https"},
                [PEER, "https", "[::1]:80", "https://[::1]:80/x?y"],
            ),
            (
                {"Forwarded": 'for="[2001:db8::1]:4711";proto=https;host="a.example:444";by=_x'},
                ["2001:db8::1", "https", "a.example:444", "https://a.example:444/x?y"],
            ),
            ({"Forwarded": "for=unknown;proto=https"}, [PEER, "https", "test", "https://test/x?y"]),
            ({"Forwarded": "for=_hidden"}, UNTOUCHED),
            ({"Forwarded": "nonsense"}, UNTOUCHED),
            ({"X-Forwarded-For": "nonsense"}, UNTOUCHED),
            ({"X-Forwarded-Proto": "gopher", "X-Forwarded-Port": "99999"}, UNTOUCHED),
        ],
    )
    def test_what_is_said_is_believed(self, serve: "Serve", lines: dict[str, str], expected: list[str]) -> None:
        with serve(app_behind([PEER])).connect() as peer:
            assert ask(peer, lines) == expected

    def test_through_a_chain_of_them(self, serve: "Serve") -> None:
        with serve(app_behind([PEER, "10.0.0.0/8"])).connect() as peer:
            assert ask(peer, {"X-Forwarded-For": ["198.51.100.2", "10.0.0.5:80", "[::ffff:10.1.2.3]:80"]})[0] == (
                "198.51.100.2"
            )
            assert ask(peer, {"X-Forwarded-For": "10.0.0.6, 10.0.0.5"})[0] == "10.0.0.6"
            outer = "for=198.51.100.2;proto=https;host=a.example"
            inner = "for=10.0.0.5;proto=http;host=b.internal"
            assert ask(peer, {"Forwarded": f"{outer}, {inner}"})[:3] == ["198.51.100.2", "https", "a.example"]
            assert ask(peer, {"Forwarded": [outer, inner]})[:3] == ["198.51.100.2", "https", "a.example"]

    @pytest.mark.parametrize(
        "proxies",
        ["127.0.0.1", " 127.0.0.0/8 , unix", [ipaddress.ip_network("127.0.0.0/8")], ("0.0.0.0/0",), "*", ["*"]],
        ids=repr,
    )
    def test_ways_to_name_them(self, serve: "Serve", proxies: Any) -> None:
        with serve(app_behind(proxies)).connect() as peer:
            assert ask(peer, {"X-Forwarded-For": "192.0.2.1"})[0] == "192.0.2.1"

    def test_whoever_connects_is_one_hop(self, serve: "Serve") -> None:
        with serve(app_behind(["*"])).connect() as peer:
            assert ask(peer, {"X-Forwarded-For": "203.0.113.7, 192.0.2.1"})[0] == "192.0.2.1"

    def test_only_the_fields_that_are_chosen(self, serve: "Serve") -> None:
        proxies = TrustedProxies([PEER], headers=["Forwarded"])
        assert (proxies.networks, proxies.headers) == ([PEER], ["forwarded"])
        with serve(app_behind(proxies)).connect() as peer:
            assert ask(peer, {"X-Forwarded-For": "203.0.113.7", "X-Forwarded-Proto": "https"}) == UNTOUCHED
            lines = {"Forwarded": "for=192.0.2.1", "X-Forwarded-For": "203.0.113.7"}
            assert ask(peer, lines)[0] == "192.0.2.1"
        with serve(app_behind(TrustedProxies([PEER], headers="x-forwarded-for, X-Forwarded-Proto"))).connect() as peer:
            assert ask(
                peer, {"X-Forwarded-For": "192.0.2.1", "X-Forwarded-Host": "evil", "Forwarded": "host=evil"}
            ) == [
                "192.0.2.1",
                *UNTOUCHED[1:],
            ]

    def test_the_peer_stays_the_peer(self, serve: "Serve") -> None:
        app = Vibora(trusted_proxies=[PEER])

        @app.get("/")
        async def handler(request: Request) -> Response:
            return JsonResponse([request.client_ip(), request.client])

        with serve(app).connect() as peer:
            answer = peer.ask("/", headers=[("X-Forwarded-For", "192.0.2.1")])
            assert json.loads(answer.content) == ["192.0.2.1", list(peer.sock.getsockname())]

    def test_a_unix_socket(self, run: "Callable[[Coroutine[Any, Any, Any]], Any]", tmp_path: "Path") -> None:
        async def ask_over(proxies: Any) -> Any:
            sock = socket.socket(socket.AF_UNIX)
            path = str(tmp_path / f"{len(str(proxies))}.sock")
            sock.bind(path)
            async with await app_behind(proxies).start(sock=sock):
                reader, writer = await asyncio.open_unix_connection(path)
                writer.write(b"GET / HTTP/1.1\r\nHost: test\r\nX-Forwarded-For: 192.0.2.1\r\nConnection: close\r\n\r\n")
                answer = await reader.read()
                writer.close()
                await writer.wait_closed()
            return json.loads(answer.partition(b"\r\n\r\n")[2])[0]

        assert run(ask_over(["unix"])) == "192.0.2.1"
        assert run(ask_over([PEER])) is None
        assert run(ask_over(None)) is None

    def test_an_ipv4_client_of_an_ipv6_socket(self, serve: "Serve") -> None:
        sock = socket.socket(socket.AF_INET6)
        try:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            sock.bind(("::", 0))
        except OSError:
            sock.close()
            pytest.skip("no IPv6 here")
        port = sock.getsockname()[1]
        serve(app_behind(["127.0.0.0/8"]), sock=sock)
        with Peer(socket.create_connection((PEER, port), 10)) as peer:
            assert ask(peer, {})[0] == PEER
            assert ask(peer, {"X-Forwarded-For": "192.0.2.1"})[0] == "192.0.2.1"


ENTRIES = st.lists(
    st.ip_addresses().map(str)
    | st.sampled_from(
        ["10.0.0.1", "10.9.9.9:80", "[fd00::1]:80", "::ffff:10.0.0.1", "unknown", "_x", "", '"', "1.2.3"]
    ),
    min_size=1,
    max_size=6,
)


class TestTheWalk:
    NETWORKS = ("127.0.0.0/8", "10.0.0.0/8", "fd00::/8")

    @pytest.fixture
    def peer(self, serve: "Serve") -> "Iterator[Peer]":
        with serve(app_behind(self.NETWORKS)).connect() as peer:
            yield peer

    def client(self, entries: list[str]) -> str:
        """Return the client, by the algorithm written down again, over the standard library's addresses."""
        client = PEER
        for entry in reversed(entries):
            host = entry[1:].partition("]")[0] if entry.startswith("[") else entry
            host = host.partition(":")[0] if host.count(":") == 1 else host
            try:
                address = ipaddress.ip_address(host)
            except ValueError:
                break
            address = getattr(address, "ipv4_mapped", None) or address
            client = str(address)
            if not any(address in ipaddress.ip_network(network) for network in self.NETWORKS):
                break
        return client

    @settings(max_examples=75, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(entries=ENTRIES)
    def test_through_x_forwarded_for(self, peer: "Peer", entries: list[str]) -> None:
        seen = ask(peer, {"X-Forwarded-For": ", ".join(entries)})[0]
        assert ipaddress.ip_address(seen) == ipaddress.ip_address(self.client(entries))

    @settings(max_examples=75, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(entries=ENTRIES, lines=st.booleans())
    def test_through_forwarded(self, peer: "Peer", entries: list[str], lines: bool) -> None:  # noqa: FBT001
        elements = [f'for="{entry}"' if ":" in entry else f"for={entry}" for entry in entries]
        seen = ask(peer, {"Forwarded": elements if lines else ",".join(elements)})[0]
        assert ipaddress.ip_address(seen) == ipaddress.ip_address(self.client(entries))

    @settings(max_examples=75, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(left=st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=40))
    def test_nothing_on_the_left_of_the_client_matters(self, peer: "Peer", left: str) -> None:
        for lines in (
            {"X-Forwarded-For": f"{left}, 192.0.2.1, 10.0.0.2"},
            {"X-Forwarded-For": [left, "192.0.2.1", "10.0.0.2"]},
            {"Forwarded": [left, "for=192.0.2.1;proto=https, for=10.0.0.2;proto=http"]},
            {"Forwarded": f'{left}, for=192.0.2.1;proto="https", for="10.0.0.2";proto=http'},
        ):
            seen = ask(peer, lines)
            assert (seen[0], seen[2]) == ("192.0.2.1", "test")


class TestMistakes:
    @pytest.mark.parametrize(
        ("proxies", "message"),
        [
            (["localhost"], "'localhost' is not an address, a network such as 10.0.0.0/8, 'unix' or '*'"),
            (["10.0.0.1/8"], "the network is 10.0.0.0/8, the address is 10.0.0.1"),
            (["10.0.0.0/33"], "must be 0 to 32, not '33'"),
            (["::/129"], "must be 0 to 128, not '129'"),
            (["127.0.0.1:80"], "is not an address"),
            ([""], "is not an address"),
            ([None], "is not an address"),
            ("127.0.0.1;10.0.0.1", "is not an address"),
        ],
    )
    def test_what_is_no_network_is_refused(self, proxies: Any, message: str) -> None:
        with pytest.raises(ConfigurationError) as caught:
            Vibora(trusted_proxies=proxies)
        assert message in str(caught.value).replace('"', "'")

    def test_what_is_no_list_is_refused(self) -> None:
        with pytest.raises(TypeError, match="must be an iterable of str"):
            Vibora(trusted_proxies=7)  # type: ignore[arg-type]

    def test_a_field_that_cannot_be_believed(self) -> None:
        with pytest.raises(ConfigurationError, match="x-real-ip"):
            TrustedProxies([PEER], headers=["x-real-ip"])

    def test_equal_ones_are_equal(self) -> None:
        assert TrustedProxies(["10.0.0.0/8"]) == TrustedProxies("10.0.0.0/8")
        assert TrustedProxies(["10.0.0.0/8"]) != TrustedProxies(["10.0.0.0/9"])
        assert repr(TrustedProxies(["unix"])) == 'TrustedProxies(["unix"])'
