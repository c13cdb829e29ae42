"""TLS: encrypted connections behave as others do, handshakes end well or badly, keys are checked."""

import asyncio
import contextlib
import pickle
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from conftest import PATIENCE, Answer, Peer, Serve, Served, Start
from vibora import JsonResponse, Request, Response, RouteLimits, ServerLimits, StreamingResponse, TextResponse, Vibora
from vibora.exceptions import ConfigurationError
from vibora.tls import TLS

LARGE = bytes(range(256)) * 20_000  # five megabytes


def example(limits: ServerLimits | None = None) -> Vibora:
    app = Vibora(server_limits=limits, route_limits=RouteLimits(max_body_size=64_000_000, timeout=5))

    @app.get("/")
    async def home() -> Response:
        return TextResponse("home")

    @app.get("/wait")
    async def wait() -> Response:
        await asyncio.sleep(0.05)
        return TextResponse("waited")

    @app.post("/")
    async def echo(request: Request) -> Response:
        return Response(await request.content())

    @app.get("/large")
    async def large() -> Response:
        return Response(LARGE)

    @app.get("/stream")
    async def stream(request: Request) -> Response:
        async def pieces() -> AsyncIterator[bytes]:
            for number in range(int(request.args["pieces"])):
                await asyncio.sleep(0)
                yield b"%06d" % number * 1000

        return StreamingResponse(pieces, chunk_timeout=0.5)

    @app.get("/who")
    async def who(request: Request) -> Response:
        certificate = request.client_certificate
        if certificate is None:
            return JsonResponse(None)
        names = x509.load_der_x509_certificate(certificate).extensions.get_extension_for_class(
            x509.SubjectAlternativeName
        )
        return JsonResponse(names.value.get_values_for_type(x509.RFC822Name))

    return app


def trusting(certificates: Path, shows: str | None = None) -> ssl.SSLContext:
    """Return what a client connects with that trusts our authority, and may show a certificate."""
    context = ssl.create_default_context(cafile=certificates / "ca.pem")
    if shows:
        context.load_cert_chain(certificates / f"{shows}.pem")
    return context


def connect(
    served: Served, context: ssl.SSLContext, host: str = "localhost", session: ssl.SSLSession | None = None
) -> Peer:
    sock = socket.create_connection((served.host, served.port), timeout=PATIENCE)
    try:
        return Peer(context.wrap_socket(sock, server_hostname=host, session=session, suppress_ragged_eofs=False))
    except BaseException:
        sock.close()
        raise


def encrypted(peer: Peer) -> ssl.SSLSocket:
    assert isinstance(peer.sock, ssl.SSLSocket)
    return peer.sock


@pytest.fixture(params=["TLSv1_3", "TLSv1_2"])
def version(request: pytest.FixtureRequest) -> ssl.TLSVersion:
    return ssl.TLSVersion[request.param]


class TestConnections:
    def test_carry_requests_and_responses(self, serve: Serve, certificates: Path, version: ssl.TLSVersion) -> None:
        served = serve(example(), tls=TLS(certificates / "server.pem"))
        assert served.url.startswith("https://")
        context = trusting(certificates)
        context.minimum_version = context.maximum_version = version
        content = LARGE[:1_000_000]
        with connect(served, context) as peer:
            assert peer.ask().text == "home"
            assert peer.ask("/wait").text == "waited"
            assert peer.ask(method="POST", content=content).content == content
            assert peer.ask("/large").content == LARGE
            assert len(peer.ask("/stream?pieces=100").content) == 600_000
            assert peer.ask(method="HEAD").content == b""
            assert peer.ask("/nowhere").status == 404
            assert peer.ask().text == "home"
        assert not served.errors

    def test_the_loops_own_tls_does_the_same(self, serve: Serve, certificates: Path) -> None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=certificates / "ca.pem")
        context.load_cert_chain(certificates / "server.pem")
        context.verify_mode = ssl.CERT_OPTIONAL
        served = serve(example(), tls=context)
        assert served.url.startswith("https://")
        with connect(served, trusting(certificates, "client")) as peer:
            assert peer.ask().text == "home"
            assert peer.ask("/large").content == LARGE
            assert peer.ask("/who").text == '["ada@example.test"]'
        with connect(served, trusting(certificates)) as peer:
            assert peer.ask("/who").text == "null"

    def test_pipelined_requests_are_answered_in_order(self, serve: Serve, certificates: Path) -> None:
        with connect(serve(example(), tls=TLS(certificates / "server.pem")), trusting(certificates)) as peer:
            peer.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET /wait HTTP/1.1\r\nHost: x\r\n\r\n" * 10)
            assert [peer.read_answer().text for _ in range(20)] == ["home", "waited"] * 10

    def test_records_may_come_an_octet_at_a_time(self, serve: Serve, certificates: Path) -> None:
        served = serve(example(), tls=TLS(certificates / "server.pem"))
        context = trusting(certificates)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        session = context.wrap_bio(incoming, outgoing, server_hostname="localhost")

        def slowly() -> None:
            for octet in outgoing.read():
                peer.send(bytes([octet]))

        with served.connect() as peer:
            peer.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while True:
                try:
                    session.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    slowly()
                    incoming.write(peer.receive())
            session.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            slowly()
            answer = b""
            while not answer.endswith(b"home"):
                incoming.write(peer.receive())
                with contextlib.suppress(ssl.SSLWantReadError):
                    answer += session.read()

    def test_a_large_response_is_encrypted_as_it_is_read(self, serve: Serve, certificates: Path) -> None:
        """A client that reads nothing costs some buffers, not a copy of the response."""
        served = serve(example(), tls=TLS(certificates / "server.pem"))
        before = memory()
        with contextlib.ExitStack() as stack:
            peers = [stack.enter_context(connect(served, trusting(certificates))) for _ in range(20)]
            for peer in peers:
                peer.send(b"GET /large HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            for peer in peers:
                peer.read_head()
            assert memory() - before < 50_000_000  # and not 100 MB
            assert peers[-1].read_to_end().endswith(LARGE[-1000:])
            assert peers[-1].is_closed()

    def test_a_client_that_does_not_read_a_stream_is_reset(self, serve: Serve, certificates: Path) -> None:
        served = serve(example(), tls=TLS(certificates / "server.pem"))
        with connect(served, trusting(certificates)) as peer:
            peer.send(b"GET /stream?pieces=100000 HTTP/1.1\r\nHost: x\r\n\r\n")
            time.sleep(1.2)
            assert any("chunk_timeout" in record.getMessage() for record in served.log)
            with pytest.raises(OSError, match=r"reset|EOF"):
                peer.read_to_end()

    def test_a_client_that_does_not_read_a_large_response_is_reset(self, serve: Serve, certificates: Path) -> None:
        app = example()

        @app.get("/quick", timeout=0.4)
        async def quick() -> Response:
            return Response(LARGE)

        served = serve(app, tls=TLS(certificates / "server.pem"))
        with connect(served, trusting(certificates)) as peer:
            peer.send(b"GET /quick HTTP/1.1\r\nHost: x\r\n\r\n")
            time.sleep(1.2)
            assert any("did not consume" in record.getMessage() for record in served.log)
            with pytest.raises(OSError, match=r"reset|EOF"):
                peer.read_to_end()


def memory() -> int:
    """Return the bytes that this process keeps in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


class TestTheEnd:
    """RFC 9112 §9.8: both say that nothing more follows, and what is cut is never complete."""

    def test_the_server_says_that_nothing_follows(
        self, serve: Serve, certificates: Path, version: ssl.TLSVersion
    ) -> None:
        served = serve(example(ServerLimits(keep_alive_timeout=0.2)), tls=TLS(certificates / "server.pem"))
        context = trusting(certificates)
        context.minimum_version = context.maximum_version = version
        # Python raises an error where the connection ends without `close_notify`.
        with connect(served, context) as peer:
            peer.send(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert peer.read_answer().text == "home"
            assert peer.receive() == b""
        with connect(served, context) as peer:
            peer.send(b"GET / HTTP/1.0\r\n\r\n")
            assert peer.read_to_end().endswith(b"home")
        with connect(served, context) as peer:
            peer.send(b"no HTTP\r\n\r\n")
            assert peer.read_answer().status == 400
            assert peer.receive() == b""
        with connect(served, context) as peer:
            peer.ask()
            assert peer.receive() == b"", "an idle connection ends"
        with connect(served, context) as peer:
            peer.send(b"GET /large HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert peer.read_answer().content == LARGE
            assert peer.receive() == b""

    def test_an_answer_reaches_a_client_that_has_said_its_last(self, serve: Serve, certificates: Path) -> None:
        served = serve(example(), tls=TLS(certificates / "server.pem"))
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        session = trusting(certificates).wrap_bio(incoming, outgoing, server_hostname="localhost")
        with served.connect() as peer:
            while True:
                try:
                    session.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    peer.send(outgoing.read())
                    incoming.write(peer.receive())
            session.write(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
            with contextlib.suppress(ssl.SSLWantReadError, ssl.SSLSyscallError):
                session.unwrap()
            peer.send(outgoing.read())
            incoming.write(peer.read_to_end())
            answer = b""
            with contextlib.suppress(ssl.SSLError):
                while piece := session.read():
                    answer += piece
        assert answer.endswith(b"waited")

    @pytest.mark.parametrize("farewell", [True, False])
    def test_content_that_is_cut_never_reaches_a_handler(
        self, serve: Serve, certificates: Path, *, farewell: bool
    ) -> None:
        app, seen = example(), list[str]()

        @app.post("/cut")
        async def cut(request: Request) -> Response:
            try:
                await request.content()
            except Exception as error:
                seen.append(type(error).__name__)
                raise
            seen.append("whole")
            return TextResponse("")

        served = serve(app, tls=TLS(certificates / "server.pem"))
        peer = connect(served, trusting(certificates))
        peer.send(b"POST /cut HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf")
        time.sleep(0.05)
        if farewell:
            with contextlib.suppress(OSError):
                encrypted(peer).unwrap()
        peer.close()
        deadline = time.monotonic() + PATIENCE
        while not seen and time.monotonic() < deadline:
            time.sleep(0.01)
        assert seen == ["ClientDisconnected"]

    def test_a_stop_says_goodbye(self, serve: Serve, certificates: Path) -> None:
        served = serve(example(), tls=TLS(certificates / "server.pem"))
        with connect(served, trusting(certificates)) as peer:
            peer.ask()
            served.server.shutdown()
            assert peer.receive() == b""


class TestHandshakes:
    def test_one_that_stalls_is_ended(self, serve: Serve, certificates: Path) -> None:
        served = serve(example(ServerLimits(head_timeout=0.4)), tls=TLS(certificates / "server.pem"))
        hello = client_hello(certificates)
        for part in (b"", hello[:3], hello[:60], hello):
            start = time.monotonic()
            with served.connect() as peer:
                peer.send(part)
                with contextlib.suppress(ConnectionResetError):
                    peer.read_to_end()
            assert time.monotonic() - start < 4
        start = time.monotonic()
        with connect(served, trusting(certificates)) as peer:
            assert peer.receive() == b"", "a handshake is no request"
        assert time.monotonic() - start < 4
        assert not served.errors

    def test_one_that_is_cut_costs_nothing(self, serve: Serve, certificates: Path) -> None:
        served = serve(example(), tls=TLS(certificates / "server.pem"))
        hello = client_hello(certificates)
        for length in (0, 1, 5, 6, 100, len(hello)):
            with served.connect() as peer:
                peer.send(hello[:length])
                if length == 100:
                    peer.reset()
        with connect(served, trusting(certificates)) as peer:
            assert peer.ask().text == "home"
        wait_until(lambda: served.server.connections == 0)
        assert not served.errors

    @pytest.mark.parametrize(
        "octets",
        [
            b"\x16\x03\x01\xff\xff" + bytes(100),
            b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00" + bytes(10),
            b"\x80\x2e\x01\x00\x02" + bytes(41),  # SSL 2
            b"\x00" * 50,
            b"ssh-2.0-lower\r\n",
            b"\x15\x03\x03\x00\x02\x02\x28",
            b"\x17\x03\x03\x00\x10" + bytes(16),
        ],
    )
    def test_what_is_no_handshake_is_refused(self, serve: Serve, certificates: Path, octets: bytes) -> None:
        served = serve(example(), tls=TLS(certificates / "server.pem"))
        with served.connect() as peer:
            peer.send(octets)
            answer = peer.read_to_end()
            assert answer == b"" or answer.startswith(b"\x15\x03")
        assert not served.errors

    @pytest.mark.parametrize("request_line", [b"GET / HTTP/1.1\r\n", b"POST", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"])
    def test_plain_http_is_told_in_plain_http(self, serve: Serve, certificates: Path, request_line: bytes) -> None:
        served = serve(example(), tls=TLS(certificates / "server.pem"))
        with served.connect() as peer:
            peer.send(request_line + b"Host: x\r\n\r\n")
            answer = peer.read_answer()
            assert answer.status == 400
            assert "https" in answer.text
            assert answer.get("connection") == "close"
            assert peer.is_closed()

    def test_old_versions_and_weak_ciphers_are_refused(self, serve: Serve, certificates: Path) -> None:
        served = serve(example(), tls=TLS(certificates / "server.pem"))
        for options in (
            ["-tls1"],
            ["-tls1_1"],
            ["-tls1_2", "-cipher", "AES128-SHA:AES256-SHA"],
            ["-tls1_2", "-cipher", "AES128-GCM-SHA256"],
            ["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA:ECDHE-RSA-AES128-SHA"],
            ["-tls1_2", "-cipher", "DHE-RSA-AES128-GCM-SHA256"],
        ):
            code, text = s_client(served, *options)
            assert code != 0, text
            assert "Cipher is (NONE)" in text
        for options in (["-tls1_2"], ["-tls1_3"]):
            code, text = s_client(served, *options)
            assert code == 0, text
            assert "Secure Renegotiation IS" in text or "-tls1_3" in options

    def test_renegotiation_is_refused(self, serve: Serve, certificates: Path) -> None:
        served = serve(example(), tls=TLS(certificates / "server.pem"))
        _, text = s_client(served, "-tls1_2", talk=b"R\n")
        assert "RENEGOTIATING" in text
        assert "home" not in text
        with connect(served, trusting(certificates)) as peer:
            assert peer.ask().text == "home"

    def test_a_minimum_version_is_one(self, serve: Serve, certificates: Path) -> None:
        served = serve(example(), tls=TLS(certificates / "server.pem", minimum_version="1.3"))
        context = trusting(certificates)
        with connect(served, context) as peer:
            assert encrypted(peer).version() == "TLSv1.3"
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        with pytest.raises(ssl.SSLError, match=r"(?i)protocol.version"):
            connect(served, context)

    def test_a_protocol_is_agreed_on(self, serve: Serve, certificates: Path) -> None:
        served = serve(example(), tls=TLS(certificates / "server.pem"))
        for offered, chosen in ((["h2", "http/1.1"], "http/1.1"), ([], None)):
            context = trusting(certificates)
            if offered:
                context.set_alpn_protocols(offered)
            with connect(served, context) as peer:
                assert encrypted(peer).selected_alpn_protocol() == chosen
        context = trusting(certificates)
        context.set_alpn_protocols(["h2"])
        with pytest.raises(ssl.SSLError, match=r"(?i)no.application.protocol"):
            connect(served, context)

    def test_sessions_are_resumed(self, serve: Serve, certificates: Path, version: ssl.TLSVersion) -> None:
        tls = TLS(certificates / "server.pem")
        context = trusting(certificates)
        context.minimum_version = context.maximum_version = version
        with connect(serve(example(), tls=tls), context) as peer:
            peer.ask()
            session = encrypted(peer).session
            assert not encrypted(peer).session_reused
        # By another server too, as another worker is one: it was given the object.
        for other in (tls, pickle.loads(pickle.dumps(tls))):  # noqa: S301  our own
            with connect(serve(example(), tls=other), context, session=session) as peer:
                assert peer.ask().text == "home"
                assert encrypted(peer).session_reused
                session = encrypted(peer).session

    def test_a_flood_of_them_leaves_nothing_behind(self, serve: Serve, certificates: Path) -> None:
        served = serve(example(), tls=TLS(certificates / "server.pem"))
        hello = client_hello(certificates)
        with connect(served, trusting(certificates)) as customer:
            for _ in range(200):
                with served.connect() as peer:
                    peer.send(hello)
            assert customer.ask().text == "home"
        wait_until(lambda: served.server.connections == 0)
        assert not served.errors


def client_hello(certificates: Path) -> bytes:
    outgoing = ssl.MemoryBIO()
    session = trusting(certificates).wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        session.do_handshake()
    return outgoing.read()


def s_client(served: Served, *options: str, talk: bytes = b"GET / HTTP/1.0\r\n\r\n") -> tuple[int, str]:
    """Run `openssl s_client`, and return its exit code and what it says."""
    command = ["openssl", "s_client", "-connect", f"{served.host}:{served.port}", "-servername", "localhost", *options]
    # Without this, OpenSSL itself refuses to try what is old.
    command += ["-cipher", "ALL:@SECLEVEL=0"] if options[0] in ("-tls1", "-tls1_1") else []
    done = subprocess.run(command, input=talk, capture_output=True, timeout=PATIENCE, check=False)
    return done.returncode, (done.stdout + done.stderr).decode(errors="replace")


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


class TestClients:
    def test_show_a_certificate_where_they_must(
        self, serve: Serve, certificates: Path, version: ssl.TLSVersion
    ) -> None:
        served = serve(example(), tls=TLS(certificates / "server.pem", ca=certificates / "ca.pem"))

        def ask(shows: str | None) -> Answer:
            context = trusting(certificates, shows)
            context.minimum_version = context.maximum_version = version
            with connect(served, context) as peer:
                return peer.ask("/who")

        assert ask("client").text == '["ada@example.test"]'
        for shows in (None, "stranger"):
            with pytest.raises(OSError, match=r"ALERT|CERTIFICATE|reset|[Bb]roken|EOF|closed"):
                ask(shows)
        assert not served.errors

    def test_may_show_one_where_they_can(self, serve: Serve, certificates: Path) -> None:
        tls = TLS(certificates / "server.pem", ca=certificates / "ca.pem", client_auth="optional")
        served = serve(example(), tls=tls)
        for shows, text in (("client", '["ada@example.test"]'), (None, "null")):
            with connect(served, trusting(certificates, shows)) as peer:
                assert peer.ask("/who").text == text
        with pytest.raises(OSError, match=r"ALERT|CERTIFICATE|reset|[Bb]roken|EOF|closed"):  # noqa: SIM117
            with connect(served, trusting(certificates, "stranger")) as peer:
                peer.ask("/who")

    def test_have_none_to_show_without_tls(self, serve: Serve) -> None:
        assert serve(example()).ask("/who").text == "null"

    def test_curl_is_one(self, serve: Serve, certificates: Path) -> None:
        served = serve(example(), tls=TLS(certificates / "server.pem"))
        command = ["curl", "-sS", "--cacert", str(certificates / "ca.pem"), f"https://localhost:{served.port}/"]
        assert subprocess.run(command, capture_output=True, timeout=PATIENCE, check=True).stdout == b"home"


class TestCertificates:
    def test_are_chosen_by_the_host(self, serve: Serve, certificates: Path) -> None:
        pair = (certificates / "server.pem", None)
        tls = TLS(certificates / "other.pem", sni={"localhost": pair, "*.example.test": pair})
        served = serve(example(), tls=tls)
        for host in ("localhost", "a.example.test", "other.test"):
            with connect(served, trusting(certificates), host) as peer:
                assert peer.ask().text == "home"
        with pytest.raises(ssl.SSLCertVerificationError, match="not valid for"):
            connect(served, trusting(certificates), "unknown.test")

    def test_are_read_again(self, serve: Serve, certificates: Path, tmp_path: Path) -> None:
        file = tmp_path / "cert.pem"
        shutil.copy(certificates / "other.pem", file)
        tls = TLS(file)
        served = serve(example(), tls=tls)
        with connect(served, trusting(certificates), "other.test") as old:
            shutil.copy(certificates / "server.pem", file)
            tls.reload()
            with connect(served, trusting(certificates)) as peer:
                assert peer.ask().text == "home"
            assert old.ask().text == "home"
            file.write_text("no certificate")
            with pytest.raises(ConfigurationError, match="no certificate"):
                tls.reload()
            with connect(served, trusting(certificates)) as peer:
                assert peer.ask().text == "home"

    def test_that_have_expired_are_warned_of(self, certificates: Path, caplog: pytest.LogCaptureFixture) -> None:
        tls = TLS(certificates / "expired.pem")
        assert "expired.pem' has expired on 2020-01-03" in caplog.text
        assert tls.not_after.year == 2020

    @pytest.mark.parametrize("form", ["TraditionalOpenSSL", "PKCS8"])
    @pytest.mark.parametrize("password", [None, "secret"])
    def test_keys_come_in_every_form(
        self, serve: Serve, certificates: Path, tmp_path: Path, form: str, password: str | None
    ) -> None:
        cert = certificates / "server.pem"
        key = serialization.load_pem_private_key(cert.read_bytes(), None)
        encryption = (
            serialization.BestAvailableEncryption(password.encode()) if password else serialization.NoEncryption()
        )
        file = tmp_path / "key.pem"
        file.write_bytes(
            key.private_bytes(serialization.Encoding.PEM, getattr(serialization.PrivateFormat, form), encryption)
        )
        with connect(serve(example(), tls=TLS(cert, file, password=password)), trusting(certificates)) as peer:
            assert peer.ask().text == "home"
        if password:
            with pytest.raises(ConfigurationError, match=r"key\.pem.*encrypted: give its password"):
                TLS(cert, file)
            with pytest.raises(ConfigurationError, match=r"cannot decrypt.*key\.pem"):
                TLS(cert, file, password="wrong")  # noqa: S106  it is

    def test_come_as_octets_too(self, serve: Serve, certificates: Path) -> None:
        content = (certificates / "server.pem").read_bytes()
        with connect(serve(example(), tls=TLS(content)), trusting(certificates)) as peer:
            assert peer.ask().text == "home"

    def test_what_is_wrong_is_told_with_the_file(self, certificates: Path) -> None:
        server, other, ca = (str(certificates / f"{name}.pem") for name in ("server", "other", "ca"))
        for message, arguments, options in (
            (r"cannot read cert '/nowhere\.pem': no such file", ("/nowhere.pem",), {}),
            (r"cannot read key '/nowhere\.pem': no such file", (server, "/nowhere.pem"), {}),
            (r"cannot read ca '/nowhere\.pem': no such file", (server,), {"ca": "/nowhere.pem"}),
            (r"other\.pem.* does not belong to .*server\.pem", (server, other), {}),
            (r"ca\.pem.* has no private key; .* swapped", (server, ca), {}),
            (r"<cert>.* has no certificate", (b"nothing",), {}),
            (r"not valid for host .example\.org", (server,), {"sni": {"example.org": (server, None)}}),
            (r"client_auth takes", (server,), {"client_auth": "maybe"}),
            (r"needs a ca", (server,), {"client_auth": "required"}),
            (r"minimum_version takes", (server,), {"minimum_version": "1.1"}),
            (r"alpn takes", (server,), {"alpn": ["h2"]}),
            (r"alpn takes", (server,), {"alpn": "http/1.1"}),
        ):
            with pytest.raises(ConfigurationError, match=message):
                TLS(*arguments, **options)

    def test_what_is_neither_kind_of_tls_is_refused(self, serve: Serve) -> None:
        with pytest.raises(ConfigurationError, match=r"vibora\.tls\.TLS"):
            serve(example(), tls="cert.pem")

    def test_show_no_secrets(self, certificates: Path) -> None:
        content = (certificates / "server.pem").read_bytes()
        assert repr(TLS(content)) == "TLS(..., client_auth='none')"
        assert "server.pem" in repr(TLS(certificates / "server.pem"))


class TestPrograms:
    @pytest.mark.parametrize("workers", [1, 2])
    def test_serve_with_every_worker(self, program: Start, certificates: Path, workers: int) -> None:
        cert = str(certificates / "server.pem")
        running = program("app.py", code=PROGRAM.format(cert=cert, workers=workers))
        line = running.read_until("serving")
        port = int(line.partition("https://")[2].split(" ")[0].rpartition(":")[2])
        context, session, reused = trusting(certificates), None, 0
        for _ in range(6):
            sock = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
            with Peer(context.wrap_socket(sock, server_hostname="localhost", session=session)) as peer:
                assert peer.ask().text == "home"
                reused += encrypted(peer).session_reused or False
                session = encrypted(peer).session
        assert reused == 5, "a worker opens the tickets of the others"

    @pytest.mark.parametrize("workers", ["1", "2"])
    def test_take_the_files_from_the_command_line(self, program: Start, certificates: Path, workers: str) -> None:
        cert, ca = str(certificates / "server.pem"), str(certificates / "ca.pem")
        options = ["--cert", cert, "--ca", ca, "--client-auth", "optional", "--port", "0", "--workers", workers]
        running = program("-m", "vibora", "run", "app.py", *options, code=PROGRAM.format(cert=cert, workers=1))
        line = running.read_until("serving")
        port = int(line.partition("https://")[2].split(" ")[0].rpartition(":")[2])
        for shows in (None, "client"):
            sock = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
            context = trusting(certificates, shows)
            with Peer(context.wrap_socket(sock, server_hostname="localhost")) as peer:
                assert peer.ask().text == "home"

    def test_a_file_that_is_wrong_is_one_line(self, program: Start, certificates: Path) -> None:
        code = PROGRAM.format(cert=str(certificates / "server.pem"), workers=1)
        for options, message in (
            (["--cert", "nowhere.pem"], "cannot read cert 'nowhere.pem': no such file"),
            (["--key", "key.pem"], "key is about TLS, which needs a certificate"),
        ):
            status, text = program("-m", "vibora", "run", "app.py", *options, code=code).wait()
            assert status == 78
            assert message in text
            assert "Traceback" not in text


PROGRAM = """
from vibora import TextResponse, Vibora
from vibora.tls import TLS

app = Vibora()

@app.get("/")
async def home():
    return TextResponse("home")

if __name__ == "__main__":
    app.run(port=0, workers={workers}, tls=TLS({cert!r}))
"""
