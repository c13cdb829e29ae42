"""Starts a server, sends it cases in pieces, and judges what comes back.

A case is judged by everything that can be seen from outside: how many responses came, in which order, with which
statuses, what they say was understood, what was executed, whether the connection ended when it had to and only then,
whether the next client is served.
"""

import base64
import contextlib
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self, TypeAlias

from .case import Case, Message
from .echo import METHODS
from .wire import Incomplete, Response, read_response, read_responses

#: How a case is sent: in one piece, octet by octet, or cut at random positions.
Cut: TypeAlias = Literal["whole", "octets", "random"]

#: Seconds after which a server that says nothing is said to hang.
PATIENCE = 3.0

#: Cases longer than this are cut octet by octet at both ends only.
_LONG = 2048


@dataclass(frozen=True, slots=True)
class Result:
    """What a case has come to."""

    case: Case
    cut: Cut
    #: `accept`, `reject`, `wait`, or what else was seen.
    outcome: str
    statuses: tuple[int, ...]
    problems: tuple[str, ...]

    @property
    def violates(self) -> bool:
        """Return whether something was taken for a request that an RFC says is none."""
        return self.case.verdict == "reject" and self.case.must and self.outcome != "reject"


@contextlib.contextmanager
def serving(loop: Literal["uvloop", "asyncio"] = "uvloop") -> Iterator["LiveServer"]:
    """Serve the echo app with a process of its own."""
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listener:
        process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("echo.py")), str(listener.fileno())],
            pass_fds=[listener.fileno()],
            env=os.environ | {"VIBORA_UVLOOP": str(int(loop == "uvloop"))},
        )
        address = listener.getsockname()
    try:
        yield LiveServer(address, process)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@dataclass(frozen=True, slots=True)
class LiveServer:
    """The server under test."""

    address: tuple[str, int]
    process: subprocess.Popen[bytes]

    @property
    def is_alive(self) -> bool:
        """Return whether the process that was started still runs."""
        return self.process.poll() is None

    @property
    def resident(self) -> int:
        """Return the bytes of memory that it has."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        match = re.search(r"VmRSS:\s*(\d+) kB", status)
        return int(match[1]) * 1024 if match else 0


def pieces(case: Case, cut: Cut, seed: int = 0) -> list[bytes]:
    """Return the octets of a case, cut."""
    octets = case.octets
    if cut == "whole":
        ends = [len(octets)]
    elif cut == "random":
        chance = random.Random(f"{case.name} {seed}")
        ends = sorted({chance.randrange(len(octets)) + 1 for _ in range(chance.randint(1, 8))} | {len(octets)})
    elif len(octets) <= _LONG:
        ends = list(range(1, len(octets) + 1))
    else:
        ends = [*range(1, 256), *range(256, len(octets) - 256, 1021), *range(len(octets) - 256, len(octets) + 1)]
    starts = [0, *ends[:-1]]
    return [octets[start:end] for start, end in zip(starts, ends, strict=True)]


class Client:
    """Replays cases, one at a time."""

    def __init__(self, server: LiveServer, patience: float = PATIENCE) -> None:
        self._address = server.address
        self._patience = patience
        self._clock = socket.create_connection(server.address, PATIENCE)
        self._clock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._clock.close()

    def settle(self) -> None:
        """Return when the server has worked off what it has received so far: a tick of its loop, as seen from here."""
        self._clock.sendall(b"GET /.executed/0 HTTP/1.1\r\nHost: a\r\n\r\n")
        received = b""
        while not received.endswith(b"\r\n\r\n[]"):
            data = self._clock.recv(4096)
            if not data:
                raise ConnectionError("the server has closed a connection that did nothing wrong")
            received += data

    def executed(self, port: int) -> list[dict[str, Any]]:
        """Return what the server has executed for the client on a port. Asks over a new connection, as a new client."""
        with socket.create_connection(self._address, PATIENCE) as sock:
            sock.sendall(f"GET /.executed/{port} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
            received = b""
            while data := sock.recv(65536):
                received += data
        answer, rest = read_response(received, "GET", ended=True)
        if answer.status != 200 or rest:
            raise ValueError(f"a well-formed request got {received!r}")
        executed: list[dict[str, Any]] = json.loads(answer.content)
        return executed

    def send(self, octets: Sequence[bytes], methods: Sequence[str], wanted: int, *, to_end: bool) -> "Exchange":
        """Send octets over a new connection, and return what came back.

        Args:
            octets: The pieces; the server works each off before the next is sent.
            methods: The methods of the requests in them.
            wanted: How many final responses to wait for.
            to_end: Whether to wait for the end of the connection.
        """
        with socket.create_connection(self._address, self._patience) as sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            exchange = Exchange(sock, sock.getsockname()[1], methods)
            for piece in octets:
                try:
                    sock.sendall(piece)
                except OSError:
                    break  # closed already; what was answered can still be read
                if len(octets) > 1:
                    self.settle()
            while not exchange.ended and (to_end or exchange.finals < wanted):
                try:
                    exchange.receive()
                except TimeoutError:
                    exchange.problems.append("hangs")
                    break
            # Whatever it still has to say, it says in the next turns of its loop.
            quiet = 0
            while not exchange.ended and quiet < 3:
                self.settle()
                quiet = 0 if exchange.receive_rest() else quiet + 1
            if not exchange.ended:
                exchange.silent = True
                exchange.half_close()
        return exchange

    def replay(self, case: Case, cut: Cut, seed: int = 0) -> Result:
        """Send a case, and judge what comes back."""
        messages = case.messages
        closes = bool(messages) and _closes(messages[-1])
        exchange = self.send(
            pieces(case, cut, seed),
            [message.method for message in messages],
            len(messages) + (case.verdict == "reject"),
            to_end=closes or case.verdict == "reject",
        )
        problems = [*exchange.problems, *exchange.grammar()]
        finals = [response for response in exchange.responses if response.status >= 200]
        answers, beyond = finals[: len(messages)], finals[len(messages) :]
        for message, answer in zip(messages, answers, strict=False):
            problems += _judge_answer(message, answer)
        if len(answers) < len(messages):
            problems.append(f"{len(answers)} responses to {len(messages)} messages")
        if exchange.reset and not (messages and messages[-1].closes):
            # RFC 9112 §9.6: a reset may destroy a response. Only who said that nothing would follow has earned one.
            problems.append("reset")
        outcome = _outcome(case, answers, beyond, ended=not exchange.silent)
        if case.verdict == "reject":
            problems += _judge_rejection(case, beyond, ended=not exchange.silent)
        else:
            problems += [f"{response.status} without a message" for response in beyond]
            if closes and exchange.silent:
                problems.append("not closed")
            if not closes and not exchange.silent:
                problems.append("closed")
        problems += [
            f"{response.status}" for response in finals if response.status >= 500 and response.status not in (501, 505)
        ]
        problems += _judge_executed(messages, self.executed(exchange.port))
        return Result(case, cut, outcome, tuple(response.status for response in finals), tuple(problems))


class Exchange:
    """What went over one connection."""

    def __init__(self, sock: socket.socket, port: int, methods: Sequence[str]) -> None:
        self.port = port
        self.ended = False
        #: Whether the connection was open, and nothing more came, when everything was sent and worked off.
        self.silent = False
        self.reset = False
        self.problems: list[str] = []
        self._sock = sock
        self._methods = methods
        self._received = b""

    @property
    def responses(self) -> list[Response]:
        """Return the responses so far."""
        with contextlib.suppress(ValueError):
            return read_responses(self._received, self._methods, ended=self.ended)[0]
        return []

    @property
    def finals(self) -> int:
        """Return the number of final responses so far."""
        return sum(response.status >= 200 for response in self.responses)

    def grammar(self) -> list[str]:
        """Return what is wrong with the octets that were received."""
        try:
            rest = read_responses(self._received, self._methods, ended=self.ended)[1]
        except (ValueError, Incomplete) as error:
            return [f"malformed response: {error}"]
        return [f"octets that are no response: {rest[:60]!r}"] if rest else []

    def receive(self) -> None:
        """Take what comes next, or the end."""
        try:
            data = self._sock.recv(65536)
        except ConnectionResetError:
            self.reset = True
            data = b""
        self._received += data
        self.ended = not data

    def half_close(self) -> None:
        """End the sending side. RFC 9112 §8: what is cut off here is incomplete, and must not be executed."""
        before = self.finals
        self._sock.shutdown(socket.SHUT_WR)
        with contextlib.suppress(TimeoutError):
            while not self.ended:
                self.receive()
        if self.finals > before and self.responses[-1].status < 400:
            self.problems.append("executed what was cut off")
        if not self.ended:
            self.problems.append("not closed after the client closed")

    def receive_rest(self) -> bool:
        """Take what is there; return whether there was anything."""
        before = len(self._received)
        patience = self._sock.gettimeout()
        self._sock.settimeout(0)
        with contextlib.suppress(BlockingIOError):
            while not self.ended:
                self.receive()
        self._sock.settimeout(patience)
        return self.ended or len(self._received) > before


def _closes(message: Message) -> bool:
    # RFC 9110 §9.3.6: CONNECT is refused, and what follows would be the tunnel's.
    return message.closes or message.method == "CONNECT"


def _outcome(case: Case, answers: Sequence[Response], beyond: Sequence[Response], *, ended: bool) -> str:
    if beyond:
        return "reject" if beyond[-1].status >= 400 else "extra"
    pairs = zip(case.messages, answers, strict=False)
    if any(answer.status != _expected_status(message) for message, answer in pairs):
        return "reject"
    if len(answers) < len(case.messages):
        return "closed" if ended else "partial"
    if case.verdict == "wait" or not answers:
        return "closed" if ended else "wait"
    return "accept"


def _judge_rejection(case: Case, beyond: Sequence[Response], *, ended: bool) -> Iterator[str]:
    """RFC 9112 §6.3 and §9.6: one error, the announcement of the close, the close."""
    if len(beyond) != 1:
        yield f"{len(beyond)} responses to what should be rejected"
    for response in beyond[:1]:
        if response.status < 400:
            yield f"{response.status} to what should be rejected"
        elif case.statuses and response.status not in case.statuses:
            yield f"{response.status} instead of {' or '.join(map(str, case.statuses))}"
        if not response.closes:
            yield "the rejection does not announce the close"
    if not ended:
        yield "not closed after the rejection"


def _expected_status(message: Message) -> int:
    if message.method == "CONNECT":
        return 501
    if message.target == "*":
        return 204
    return 200 if message.method in METHODS else 405


def _judge_answer(message: Message, answer: Response) -> Iterator[str]:
    expected = _expected_status(message)
    if answer.status != expected:
        yield f"{answer.status} instead of {expected} to {message.method} {message.target}"
    elif expected == 200 and message.method != "HEAD":
        yield from _judge_understood(message, json.loads(answer.content))


def _judge_executed(messages: Sequence[Message], executed: Sequence[dict[str, Any]]) -> Iterator[str]:
    expected = [message for message in messages if message.method in METHODS and message.target != "*"]
    if len(executed) != len(expected):
        yield f"executed {len(executed)} messages instead of {len(expected)}"
    for message, understood in zip(expected, executed, strict=False):
        yield from _judge_understood(message, understood)


def _judge_understood(message: Message, understood: dict[str, Any]) -> Iterator[str]:
    for what, expected, seen in (
        ("method", message.method, understood["method"]),
        ("target", path_of(message.target), understood["target"]),
        ("body", message.body, base64.b64decode(understood["body_b64"])),
    ):
        if expected != seen:
            yield f"understood the {what} {expected!r} as {seen!r}"


def path_of(target: str) -> str:
    """Return path and query of a target, in the way the app tells them: `/` for none, no `?` without a query."""
    absolute = re.match(r"(?i:https?)://[^/?]*", target)
    path = target[absolute.end() :] if absolute else target
    if not path.startswith("/"):
        path = f"/{path}"
    return path.removesuffix("?") if path.count("?") == 1 else path
