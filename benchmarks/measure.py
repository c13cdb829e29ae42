"""One measurement: wrk on its own core against a server on another, and the server's CPU time around it."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from process import Running
    from workloads import Workload

SCRIPT = Path(__file__).resolve().parent / "load.lua"
WARM_UP = 0.4
"""Seconds, in the first round; wrk itself counts in whole ones, so the warm-up is a wrk that is interrupted."""


@dataclass(frozen=True)
class Sample:
    """What one round showed, or the median of several."""

    requests_per_second: float
    cpu_microseconds: float
    """Server CPU time, user and system, per request."""
    cpu_share: float
    """Part of the core that the server used; well below 1, the load generator is what was measured."""
    p50_milliseconds: float
    """0 where wrk cannot tell."""
    p99_milliseconds: float
    resident_megabytes: float
    peak_megabytes: float
    """The most that was resident while this was measured."""
    requests: float
    """How many were answered."""
    failed: int
    """Connections refused or cut, timeouts, and answers other than 2xx and 3xx."""


def median(samples: Sequence[Sample]) -> Sample:
    """Return the median of every figure; of the failures, the sum."""
    rows = [asdict(sample) for sample in samples]
    middle = {name: statistics.median(row[name] for row in rows) for name in rows[0]}
    return Sample(**(middle | {"failed": sum(sample.failed for sample in samples)}))


def spread(samples: Sequence[Sample]) -> float:
    """Return how far the rounds lie apart in CPU time per request: (highest - lowest) / median."""
    values = [sample.cpu_microseconds for sample in samples]
    return (max(values) - min(values)) / statistics.median(values) if len(values) > 1 else 0.0


class LoadFailed(Exception):
    """The load generator gave no figures."""


def _wrk(workload: Workload, port: int, seconds: int, connections: int, core: int) -> list[str]:
    return [
        *("taskset", "-c", str(core), "wrk", "-t1", f"-c{workload.connections or connections}", f"-d{seconds}s"),
        *("--timeout", "10s", "-s", str(SCRIPT), workload.url(port)),
    ]


def run(running: Running, workload: Workload, *, seconds: int, warm_up: float, connections: int, core: int) -> Sample:
    """Load a running server for some seconds, after a warm-up.

    Raises:
        LoadFailed: wrk did not end in time, or nothing was answered.
    """
    command = _wrk(workload, running.port, seconds, connections, core)
    environment = dict(os.environ) | workload.environment()
    warming = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        warming.wait(warm_up)
    except subprocess.TimeoutExpired:
        warming.kill()
        warming.wait()
    running.forget_peak()
    before = running.cpu_seconds()
    try:
        output = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False, timeout=seconds + 15
        ).stdout
    except subprocess.TimeoutExpired:
        raise LoadFailed("wrk did not end") from None
    cpu = running.cpu_seconds() - before
    line = next((line for line in output.splitlines() if line.startswith("RESULT ")), None)
    if line is None:
        raise LoadFailed((output.strip().splitlines() or ["wrk said nothing"])[-1])
    result = json.loads(line.removeprefix("RESULT "))
    if not result["requests"]:
        raise LoadFailed("no request was answered")
    elapsed = result["microseconds"] / 1e6
    return Sample(
        requests_per_second=result["requests"] / elapsed,
        cpu_microseconds=cpu * 1e6 / result["requests"],
        cpu_share=cpu / elapsed,
        # wrk corrects latencies for requests it should have sent meanwhile, which makes no sense of a pipeline.
        p50_milliseconds=result["p50"] / 1e3 if workload.depth == 1 else 0.0,
        p99_milliseconds=result["p99"] / 1e3 if workload.depth == 1 else 0.0,
        resident_megabytes=running.resident_bytes() / 1e6,
        peak_megabytes=running.peak_bytes() / 1e6,
        requests=result["requests"],
        failed=result["failed"],
    )
