"""The servers that are compared, each in the configuration its own documentation recommends for speed.

One worker each; they may start what threads and processes they like, all of them on one core.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from workloads import ECHO_BODY, JSON_BODY, WORKLOADS

HERE = Path(__file__).resolve().parent
APPS = HERE / "apps"
VIBORA = HERE.parent / ".venv"
PEERS = HERE / ".venv"
ROBYN = HERE / ".venv-robyn"
REQUIREMENTS = {PEERS: HERE / "requirements.txt", ROBYN: HERE / "requirements-robyn.txt"}
FLOOR = HERE / ".build" / "floor"

CERTIFICATE = HERE / ".build" / "cert.pem"
KEY = HERE / ".build" / "key.pem"

TLS = frozenset(name for name, workload in WORKLOADS.items() if workload.tls)
ALL = frozenset(WORKLOADS) - TLS
NO_DEF = ALL - {"def"}
"""For those that have no handlers in threads: on their loop, a handler that blocks would stop every other request."""
BARE = NO_DEF - {"multipart"}
"""For callbacks without a framework: they have no parser for forms."""
WAITING = frozenset({"echo", "upload", "events", "await", "future"})
"""What socketify cannot answer from its reused request objects."""

UVICORN = (
    *("uvicorn", "--host", "127.0.0.1", "--port", "{port}", "--workers", "1", "--loop", "uvloop"),
    *("--http", "httptools", "--no-access-log", "--log-level", "warning"),
)
GRANIAN = (
    *("granian", "--host", "127.0.0.1", "--port", "{port}", "--workers", "1", "--loop", "uvloop", "--http", "1"),
    *("--no-ws", "--http1-pipeline-flush", "--log-level", "warning"),
)


@dataclass(frozen=True)
class Server:
    """How one server is started; `{port}` stands for the port, the first argument is a program of `venv`."""

    name: str
    command: tuple[str, ...]
    packages: tuple[str, ...] = ()
    """The distributions whose versions belong to the result, the deciding one first."""
    module: str = ""
    """What must be importable for it to run here."""
    venv: Path | None = PEERS
    workloads: frozenset[str] = NO_DEF
    environment: tuple[tuple[str, str], ...] = ()

    def argv(self, port: int) -> list[str]:
        """Return the command line that serves on `port`."""
        program, *rest = (part.replace("{port}", str(port)) for part in self.command)
        return [str(self.venv / "bin" / program) if self.venv else program, *rest]

    def environ(self, port: int) -> dict[str, str]:
        """Return the environment it is started in, without what the caller's shell may have set for Python."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_"))}
        return inherited | {name: value.replace("{port}", str(port)) for name, value in self.environment}

    def missing(self) -> str | None:
        """Return why it cannot run on this machine, or None."""
        if self.venv is None:
            return None
        python = self.venv / "bin" / "python"
        if not python.exists():
            return f"{self.venv.name} does not exist"
        command = [str(python), "-c", f"import {self.module}"]
        run = subprocess.run(command, capture_output=True, text=True, check=False, env=self.environ(0))
        return None if run.returncode == 0 else (run.stderr.strip().splitlines() or ["import failed"])[-1]

    def versions(self) -> dict[str, str]:
        """Return the versions of its packages."""
        if self.venv is None or not self.packages:
            return {}
        code = "import sys, importlib.metadata as m; print(*[m.version(name) for name in sys.argv[1:]])"
        run = subprocess.run(
            [self.venv / "bin" / "python", "-c", code, *self.packages], capture_output=True, text=True, check=True
        )
        found = dict(zip(self.packages, run.stdout.split(), strict=True))
        if self.venv == VIBORA and (self.venv / ".built-pgo").exists():
            found["vibora"] += ", guided by a profile"
        return found


_ASGI = ("uvicorn", "httptools", "uvloop")
SOURCES = (("PYTHONPATH", str(HERE.parent / "python")),)
"""What is measured is this tree, whatever else is installed."""
SERVERS = {
    server.name: server
    for server in (
        Server(
            "floor",
            (str(FLOOR), "{port}"),
            venv=None,
            workloads=ALL,
            environment=(("ECHO_BODY", ECHO_BODY), ("JSON_BODY", JSON_BODY)),
        ),
        Server(
            "vibora",
            ("vibora", "run", "app_vibora:app", "--host", "127.0.0.1", "--port", "{port}", "--workers", "1"),
            ("vibora", "uvloop", "orjson"),
            "vibora",
            VIBORA,
            ALL,
            SOURCES,
        ),
        Server(
            "granian-rsgi",
            (*GRANIAN, "--interface", "rsgi", "app_rsgi:app"),
            ("granian", "uvloop"),
            "granian",
            workloads=BARE,
        ),
        Server(
            "granian-asgi",
            (*GRANIAN, "--interface", "asgi", "app_asgi:app"),
            ("granian", "uvloop"),
            "granian",
            workloads=BARE,
        ),
        Server("uvicorn", (*UVICORN, "--lifespan", "off", "app_asgi:app"), _ASGI, "uvicorn", workloads=BARE),
        Server("starlette", (*UVICORN, "app_starlette:app"), ("starlette", *_ASGI), "starlette", workloads=ALL),
        Server("fastapi", (*UVICORN, "app_fastapi:app"), ("fastapi", *_ASGI), "fastapi", workloads=ALL),
        Server("litestar", (*UVICORN, "app_litestar:app"), ("litestar", *_ASGI), "litestar", workloads=ALL),
        Server("falcon", (*UVICORN, "app_falcon:app"), ("falcon", *_ASGI), "falcon"),
        Server("blacksheep", (*UVICORN, "app_blacksheep:app"), ("blacksheep", *_ASGI), "blacksheep"),
        Server(
            "sanic",
            (
                *("sanic", "app_sanic:app", "--host", "127.0.0.1", "--port", "{port}"),
                *("--single-process", "--no-access-logs", "--no-motd"),
            ),
            ("sanic", "httptools", "uvloop"),
            "sanic",
        ),
        Server("aiohttp", ("python", "app_aiohttp.py", "{port}"), ("aiohttp", "uvloop"), "aiohttp"),
        Server(
            "robyn",
            ("python", "app_robyn.py", "--processes", "1", "--workers", "1", "--log-level", "WARN"),
            ("robyn", "uvloop"),
            "robyn",
            ROBYN,
            ALL,
            (("BENCH_PORT", "{port}"), ("ROBYN_MAX_PAYLOAD_SIZE", str(64 * 1024 * 1024))),
        ),
        Server(
            "socketify",
            ("python", "app_socketify.py", "{port}", "200000"),
            ("socketify",),
            "socketify",
            workloads=BARE - WAITING - {"chunks"},
        ),
        Server(
            "socketify-async",
            ("python", "app_socketify.py", "{port}", "0"),
            ("socketify",),
            "socketify",
            workloads=WAITING,
        ),
        Server(
            "fastpysgi",
            ("python", "serve_fastpysgi.py", "{port}"),
            ("fastpysgi", "uvloop"),
            "fastpysgi",
            workloads=BARE,
        ),
        Server(
            "vibora-tls",
            ("python", "serve_vibora_tls.py", "{port}", str(CERTIFICATE), str(KEY)),
            ("vibora", "uvloop"),
            "vibora.tls",
            VIBORA,
            TLS,
            SOURCES,
        ),
        Server(
            "granian-rsgi-tls",
            (
                *(*GRANIAN, "--interface", "rsgi"),
                *("--ssl-certificate", str(CERTIFICATE), "--ssl-keyfile", str(KEY), "app_rsgi:app"),
            ),
            ("granian", "uvloop"),
            "granian",
            workloads=TLS,
        ),
        Server(
            "uvicorn-tls",
            (
                *(*UVICORN, "--lifespan", "off"),
                *("--ssl-certfile", str(CERTIFICATE), "--ssl-keyfile", str(KEY), "app_asgi:app"),
            ),
            _ASGI,
            "uvicorn",
            workloads=TLS,
        ),
    )
}


def make_certificate() -> None:
    """Make the certificate that all servers show: ECDSA, as anybody would ask for today."""
    if CERTIFICATE.exists():
        return
    CERTIFICATE.parent.mkdir(exist_ok=True)
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    command += ["-days", "3650", "-subj", "/CN=localhost", "-keyout", str(KEY), "-out", str(CERTIFICATE)]
    subprocess.run(command, check=True, capture_output=True)


def build_floor() -> None:
    """Compile the C server that the others are compared with."""
    source = HERE / "floor" / "floor.c"
    if FLOOR.exists() and FLOOR.stat().st_mtime > source.stat().st_mtime:
        return
    FLOOR.parent.mkdir(exist_ok=True)
    subprocess.run(["cc", "-O2", "-o", FLOOR, source], check=True)


def install_peers(venv: Path) -> None:
    """Create an environment of peers, or bring it up to date with its requirements; what has no wheel is left out."""
    requirements = REQUIREMENTS[venv]
    stamp = venv / ".installed"
    digest = hashlib.sha256(requirements.read_bytes() + sys.version.encode()).hexdigest()
    if stamp.exists() and stamp.read_text() == digest:
        return
    print(f"installing {requirements.name} into benchmarks/{venv.name} …", flush=True)
    subprocess.run([sys.executable, "-m", "venv", "--clear", venv], check=True)
    pip = [str(venv / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    if subprocess.run([*pip, "-r", requirements], check=False).returncode != 0:
        for line in requirements.read_text().splitlines():
            if line and not line.startswith("#") and subprocess.run([*pip, line], check=False).returncode != 0:
                print(f"  {line} could not be installed: left out")
    stamp.write_text(digest)
