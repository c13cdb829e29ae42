"""A server as a process tree: started on one core, stopped while others are measured, its CPU time and memory read."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from servers import Server

TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
PROC = Path("/proc")
START_TIMEOUT = 20.0
END_TIMEOUT = 2.0


class NotServing(Exception):
    """The server did not come up."""


def free_port() -> int:
    """Return a port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _stat(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat after the command, which may hold blanks: [0] is field 3 of proc(5)."""
    return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()


class Running:
    """One server that runs, frozen (SIGSTOP) unless it is the one being measured.

    Some servers poll while idle; frozen, they take nothing from the one whose turn it is.
    """

    def __init__(self, server: Server, cwd: Path, core: int, log: Path) -> None:
        self.server = server
        self.port = free_port()
        self._cwd = cwd
        self._core = core
        self._log = log
        self._process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        self._started = time.monotonic()
        with self._log.open("wb") as output:
            return subprocess.Popen(
                ["taskset", "-c", str(self._core), *self.server.argv(self.port)],
                cwd=self._cwd,
                env=self.server.environ(self.port),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def start_again(self) -> None:
        """Replace a server that has ended, or no longer answers.

        Raises:
            NotServing: as `wait_until_it_listens`.
        """
        self.end()
        self.port = free_port()
        self._process = self._start()
        self.wait_until_it_listens()

    start_seconds = 0.0

    def wait_until_it_listens(self) -> None:
        """Return once it accepts connections.

        Raises:
            NotServing: it ended, or took longer than `START_TIMEOUT` seconds; the message is the end of its log.
        """
        give_up = time.monotonic() + START_TIMEOUT
        while time.monotonic() < give_up and self._process.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
                self.start_seconds = time.monotonic() - self._started
                return
            time.sleep(0.02)
        lines = self._log.read_text(errors="replace").strip().splitlines()
        raise NotServing(lines[-1].strip() if lines else "it did not start and said nothing")

    def tree(self) -> list[int]:
        """Return the process and its descendants, those included that were handed to init."""
        parents: dict[int, tuple[int, int]] = {}
        for entry in PROC.iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    fields = _stat(int(entry.name))
                    parents[int(entry.name)] = int(fields[1]), int(fields[3])
        found = {self._process.pid}
        size = 0
        while size != len(found):
            size = len(found)
            found |= {pid for pid, (parent, session) in parents.items() if parent in found or session in found}
        return sorted(found)

    def cpu_seconds(self) -> float:
        """Return the CPU time, user and system, that the whole tree has used, children that ended included."""
        ticks = 0
        for pid in self.tree():
            with contextlib.suppress(OSError):
                ticks += sum(map(int, _stat(pid)[11:15]))
        return ticks / TICKS

    def resident_bytes(self) -> int:
        """Return the resident memory of the tree; pages shared between its processes count once for each."""
        total = 0
        for pid in self.tree():
            with contextlib.suppress(OSError):
                total += int((PROC / str(pid) / "statm").read_text().split()[1]) * PAGE
        return total

    def peak_bytes(self) -> int:
        """Return the sum of what each process of the tree had resident at most."""
        total = 0
        for pid in self.tree():
            with contextlib.suppress(OSError):
                for line in (PROC / str(pid) / "status").read_text().splitlines():
                    if line.startswith("VmHWM:"):
                        total += int(line.split()[1]) * 1024
        return total

    def forget_peak(self) -> None:
        """Have `peak_bytes` begin anew."""
        for pid in self.tree():
            with contextlib.suppress(OSError):
                (PROC / str(pid) / "clear_refs").write_text("5")

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to every process of the tree."""
        for pid in self.tree():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def freeze(self) -> None:
        """Stop the tree where it is."""
        self.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let the tree go on."""
        self.signal(signal.SIGCONT)

    def end(self) -> None:
        """Ask the first process to end, so that it can see to its children; then end by force what is left."""
        tree = self.tree()
        self.thaw()
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(END_TIMEOUT)
        for pid in {*tree, *self.tree()}:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()
