"""Count the instructions that a request costs: a guard against slow creep, exact where seconds are noise.

`make perf-check` runs each hot path under callgrind, without a socket: a protocol object is fed with requests and its
answers go nowhere. A path is run with two numbers of requests, and the difference is what a request costs. The counts
are compared with those in `benchmarks/instructions.json`; `--record` writes them. They depend on the machine's C
library and on the Python that runs them, so the file says which they were, and only like is compared with like.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "apps"))
import payload  # what the applications answer with: they import it by this name

HERE = Path(__file__).parent
RECORD = HERE / "instructions.json"
TOLERANCE = 0.03
REQUESTS = (320, 960)
ECHO = b'{"id":7,"name":"Ada Lovelace","tags":["mathematician","writer"]}'


def get(path: str, depth: int = 1, fields: str = "") -> bytes:
    """Return `depth` requests as they come from a client, in one piece."""
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:8000\r\nAccept: */*\r\n{fields}\r\n".encode() * depth


def post(path: str, content: bytes, content_type: str) -> bytes:
    """Return a request with content, in one piece."""
    fields = f"Content-Type: {content_type}\r\nContent-Length: {len(content)}\r\n"
    return f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:8000\r\n{fields}\r\n".encode() + content


PATHS: dict[str, tuple[bytes, int]] = {
    "plaintext": (get("/"), 1),
    "json": (get("/json"), 1),
    "path": (get("/users/123"), 1),
    "query": (get("/items/123?limit=10&q=hello"), 1),
    "headers": (get("/headers", fields="".join(f"{name}: {value}\r\n" for name, value in payload.HEADERS)), 1),
    "pipelined": (get("/", 16), 16),
    "stream": (get("/stream"), 1),
    "echo": (post("/echo", ECHO, "application/json"), 1),
    "multipart": (post("/multipart", payload.MULTIPART.encode(), payload.MULTIPART_TYPE), 1),
    "chunks": (get("/chunks"), 1),
    "events": (get("/events"), 1),
    "await": (get("/await"), 1),
    "not found": (get("/nowhere"), 1),
}


def main() -> int:
    """Count, then record or compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--record", action="store_true", help="write the counts instead of comparing them")
    parser.add_argument("--paths", default=",".join(PATHS), help="comma-separated; default all")
    parser.add_argument("--feed", nargs=2, metavar=("PATH", "REQUESTS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.feed:
        feed(options.feed[0], int(options.feed[1]))
        return 0
    if shutil.which("valgrind") is None:
        print("perf-check needs valgrind (Debian, Ubuntu: apt install valgrind)", file=sys.stderr)
        return 1
    kind = f"{platform.python_implementation()} {platform.python_version()}, {' '.join(platform.libc_ver())}"
    counts = {path: count(path) for path in options.paths.split(",")}
    if options.record:
        RECORD.write_text(json.dumps({"measured with": kind, "instructions": counts}, indent=2) + "\n")
        return 0
    recorded = json.loads(RECORD.read_text())
    if recorded["measured with"] != kind:
        print(f"the record is of {recorded['measured with']}, this is {kind}: compare with care")
    worse = 0
    for path, now in counts.items():
        before = recorded["instructions"].get(path)
        change = now / before - 1 if before else 0.0
        worse += change > TOLERANCE
        print(
            f"{path:10}  {now:8,} instructions per request  {change:+7.2%}{'  <- more' if change > TOLERANCE else ''}"
        )
    return 1 if worse else 0


def count(path: str) -> int:
    """Return the instructions that one more request on this path costs."""
    few, many = (run(path, requests) for requests in REQUESTS)
    return round((many - few) / (REQUESTS[1] - REQUESTS[0]))


def run(path: str, requests: int) -> int:
    """Return the instructions of a whole run."""
    command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"]
    command += [sys.executable, __file__, "--feed", path, str(requests)]
    # Hashes of strings decide how dictionaries are laid out.
    environment = os.environ | {"PYTHONHASHSEED": "0"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    found = re.search(r"Collected : (\d+)", done.stderr)
    if done.returncode or not found:
        raise SystemExit(f"{path}: the run failed:\n{done.stdout}{done.stderr}")
    return int(found[1])


class Transport:
    """A transport that swallows everything."""

    def __init__(self) -> None:
        self.writes = 0

    def write(self, data: bytes) -> None:
        """Count a write."""
        self.writes += bool(data)

    def get_extra_info(self, name: str) -> None:
        """Know nothing."""

    def get_write_buffer_size(self) -> int:
        """Hold nothing back."""
        return 0

    def abort(self) -> None:
        """Fail: no connection may be reset here."""
        raise SystemExit("the core has reset the connection")


def feed(path: str, requests: int) -> None:
    """Serve so many requests on this path, in a fresh event loop."""
    import asyncio  # noqa: PLC0415  the parent does not need these
    import functools  # noqa: PLC0415
    import importlib  # noqa: PLC0415
    import logging  # noqa: PLC0415

    app = importlib.import_module("app_vibora").app
    from vibora import _core  # noqa: PLC0415
    from vibora.errors import answer_error  # noqa: PLC0415

    if _core.__build__ != "release":
        raise SystemExit("this is a debug build of vibora, whose figures mean nothing: make build")
    data, depth = PATHS[path]

    async def serve() -> None:
        loop = asyncio.get_running_loop()
        server = _core.Server(
            loop,
            app._router,  # noqa: SLF001  what the app hands to its servers
            on_error=functools.partial(answer_error, debug=False),
            limits=app.server_limits,
            logger=logging.getLogger("vibora"),
        )
        await asyncio.sleep(0)
        protocol, transport = server.protocol(), Transport()
        protocol.connection_made(transport)  # type: ignore[arg-type]
        done = loop.create_future()

        fed = 0

        def batch() -> None:
            # Outside of a task, as the loop calls it. Handlers that suspend get the turns they need.
            nonlocal fed
            while server.requests == fed < requests:
                fed += depth
                protocol.data_received(data)
            if server.requests >= requests:
                done.set_result(None)
            else:
                loop.call_soon(batch)

        loop.call_soon(batch)
        await done
        while server.exchanges:  # noqa: ASYNC110  nobody would set an event
            await asyncio.sleep(0)
        if transport.writes < requests // depth:
            raise SystemExit(f"{requests} requests, but {transport.writes} writes")

    asyncio.run(serve())


if __name__ == "__main__":
    sys.exit(main())
