"""Metrics in the format of Prometheus, of all workers of a program.

Each worker counts in a mapped file of its own, which the core writes with atomic additions. Whoever is asked adds them
up. The counts of workers that have ended are kept, in a file that the next worker to start puts them into.
"""

import contextlib
import mmap
import os
import struct
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Final, Self

from vibora import _core

#: The variable that names the directory of the workers' files.
VARIABLE: Final = "VIBORA_METRICS_DIR"

#: The most routes that are told apart; further ones are counted with what no route has answered.
_ROUTES: Final = 1024
_NAME: Final = 256
_NAMES: Final = 64
_ENTRIES: Final = _NAMES + _ROUTES * _NAME
_SIZE: Final = _ENTRIES + _ROUTES * _core.Metrics.ENTRY * 8
_METHODS: Final = _core.Metrics.METHODS
_CLASSES: Final = ("none", "1xx", "2xx", "3xx", "4xx", "5xx")
_BUCKETS: Final = [f"{bound:g}" for bound in _core.Metrics.BOUNDS] + ["+Inf"]
_DURATIONS: Final = len(_METHODS) * len(_CLASSES)

_Totals = dict[str, list[int]]


class Counters:
    """What one worker counts, and what all of them have counted.

    Args:
        directory: Where the workers of a program have their files; None if there is one process.
    """

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory
        self._names: dict[str, int] = {"": 0}
        if directory is None:
            self._memory = mmap.mmap(-1, _SIZE)
        else:
            with self._alone():
                self._bury(directory)
                self._memory = _mapped(directory / str(os.getpid()))
        self.core = _core.Metrics(self._memory, 0, _ENTRIES // 8)

    @classmethod
    def of_program(cls) -> Self:
        """Return the counters of this process: those of a worker, where a parent has said where they are."""
        directory = os.environ.get(VARIABLE)
        return cls(Path(directory) if directory else None)

    def entry(self, pattern: str) -> int:
        """Return the entry that the requests of a route are counted in.

        Args:
            pattern: The pattern of the route.
        """
        if pattern not in self._names and len(self._names) < _ROUTES:
            self._names[pattern] = len(self._names)
            _put_name(self._memory, self._names[pattern], pattern)
        return self._names.get(pattern, 0)

    def text(self) -> str:
        """Return what all workers have counted, as Prometheus reads it."""
        totals: _Totals = {}
        gauges = [0, 0]
        if self._directory is None:
            _add(self._memory, totals, gauges)
        else:
            with self._alone():
                for path in self._directory.iterdir():
                    if path.name == "lock":
                        continue
                    lives = path.name.isdigit() and _is_alive(int(path.name))
                    with contextlib.closing(_mapped(path)) as memory:
                        _add(memory, totals, gauges if lives else [0, 0])
        return "".join(_lines(totals, gauges))

    def _bury(self, directory: Path) -> None:
        """Keep the counts of workers that have ended, and no file of theirs."""
        for path in directory.iterdir():
            if path.name.isdigit() and not _is_alive(int(path.name)):
                with (
                    contextlib.closing(_mapped(path)) as dead,
                    contextlib.closing(_mapped(directory / "ended")) as kept,
                ):
                    totals: _Totals = {}
                    _add(kept, totals, [0, 0])
                    _add(dead, totals, [0, 0])
                    for number, (name, values) in enumerate(totals.items()):
                        if number < _ROUTES:
                            _put_name(kept, number, name)
                            at = _ENTRIES + number * _core.Metrics.ENTRY * 8
                            struct.pack_into(f"={len(values)}Q", kept, at, *values)
                path.unlink()

    @contextlib.contextmanager
    def _alone(self) -> Generator[None]:
        import fcntl  # noqa: PLC0415  where there are workers, there is this

        if self._directory is None:
            raise AssertionError("one process is alone")
        with (self._directory / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _mapped(path: Path) -> mmap.mmap:
    with path.open("a+b") as file:
        file.truncate(_SIZE)
        return mmap.mmap(file.fileno(), _SIZE)


def _put_name(memory: mmap.mmap, number: int, name: str) -> None:
    octets = name.encode("utf-8", "replace")[: _NAME - 2]
    at = _NAMES + number * _NAME
    memory[at : at + 2 + len(octets)] = len(octets).to_bytes(2, "little") + octets


def _add(memory: mmap.mmap, totals: _Totals, gauges: list[int]) -> None:
    for at, value in enumerate(struct.unpack_from("=2q", memory)):
        gauges[at] += max(0, value)
    for number in range(_ROUTES):
        at = _NAMES + number * _NAME
        length = int.from_bytes(memory[at : at + 2], "little")
        if number and not length:
            break
        name = memory[at + 2 : at + 2 + length].decode("utf-8", "replace")
        values = struct.unpack_from(f"={_core.Metrics.ENTRY}Q", memory, _ENTRIES + number * _core.Metrics.ENTRY * 8)
        before = totals.get(name, [0] * len(values))
        totals[name] = [one + other for one, other in zip(before, values, strict=True)]


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _lines(totals: _Totals, gauges: list[int]) -> Iterator[str]:
    yield "# HELP vibora_requests_total Requests whose response is out, or never will be.\n"
    yield "# TYPE vibora_requests_total counter\n"
    for name, values in totals.items():
        for number, method in enumerate(_METHODS):
            for at, status in enumerate(_CLASSES):
                if count := values[number * len(_CLASSES) + at]:
                    labels = f'route="{_escaped(name)}",method="{method}",status="{status}"'
                    yield f"vibora_requests_total{{{labels}}} {count}\n"
    yield "# HELP vibora_request_duration_seconds From the head of the request until the response was out.\n"
    yield "# TYPE vibora_request_duration_seconds histogram\n"
    for name, values in totals.items():
        label = f'route="{_escaped(name)}"'
        count = 0
        for bound, more in zip(_BUCKETS, values[_DURATIONS:], strict=False):
            count += more
            yield f'vibora_request_duration_seconds_bucket{{{label},le="{bound}"}} {count}\n'
        yield f"vibora_request_duration_seconds_sum{{{label}}} {values[-2] / 1e6}\n"
        yield f"vibora_request_duration_seconds_count{{{label}}} {count}\n"
    yield "# HELP vibora_response_bytes_total Bytes of responses that were handed to connections.\n"
    yield "# TYPE vibora_response_bytes_total counter\n"
    for name, values in totals.items():
        yield f'vibora_response_bytes_total{{route="{_escaped(name)}"}} {values[-1]}\n'
    for name, what, value in (
        ("connections", "Open connections.", gauges[0]),
        ("requests_in_flight", "Requests whose response is not out.", gauges[1]),
    ):
        yield f"# HELP vibora_{name} {what}\n# TYPE vibora_{name} gauge\nvibora_{name} {value}\n"


def _escaped(name: str) -> str:
    return name.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
