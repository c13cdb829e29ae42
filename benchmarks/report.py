"""What a run found: the machine it ran on, tables for the terminal and for Markdown, JSON."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from footprint import CONNECTIONS, Footprint
from measure import Sample, median, spread
from workloads import WORKLOADS

BUSY_CORE = 0.9
"""Below this share of its core a server was waiting: for the load generator, or for others that use the core."""


@dataclass
class Report:
    """The samples of a run, by workload and server, and what went wrong."""

    settings: dict[str, object]
    machine: dict[str, object]
    versions: dict[str, dict[str, str]]
    samples: dict[str, dict[str, list[Sample]]] = field(default_factory=dict[str, dict[str, list[Sample]]])
    problems: dict[str, dict[str, str]] = field(default_factory=dict[str, dict[str, str]])
    skipped: dict[str, str] = field(default_factory=dict[str, str])
    absent: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    """The servers that have no handler for a workload."""
    footprints: dict[str, Footprint] = field(default_factory=dict[str, Footprint])

    def add(self, workload: str, server: str, sample: Sample) -> None:
        """Keep the figures of one round."""
        self.samples.setdefault(workload, {}).setdefault(server, []).append(sample)

    def problem(self, workload: str, server: str, what: str) -> None:
        """Keep why a server has no figures for a workload."""
        self.problems.setdefault(workload, {})[server] = what

    def tables(self) -> str:
        """Return one table per workload, the fastest first."""
        parts: list[str] = []
        for workload in self.workloads():
            parts += [f"{workload}: {WORKLOADS[workload].title}", _aligned(self._rows(workload))]
            parts += [f"  {remark}" for remark in self._remarks(workload)]
            parts.append("")
        if self.footprints:
            parts += [FOOTPRINT, _aligned(self._footprint_rows()), ""]
        parts += [f"{server} was left out: {why}" for server, why in self.skipped.items()]
        return "\n".join(parts)

    def markdown(self, picture: str) -> str:
        """Return the same as Markdown, with the machine, the versions and a picture beside it."""
        lines = ["# Benchmark", "", self.machine_line(), "", f"![requests per second]({picture})", ""]
        lines += [f"- {server}: {_joined(versions)}" for server, versions in self.versions.items() if versions]
        for workload in self.workloads():
            head, *rows = self._rows(workload)
            lines += ["", f"## {workload}", "", f"{WORKLOADS[workload].title}.", ""]
            lines += [_row(head), _row(["---"] + ["---:"] * (len(head) - 1)), *map(_row, rows)]
            remarks = self._remarks(workload)
            lines += [""] * bool(remarks) + [f"- {remark}" for remark in remarks]
        if self.footprints:
            head, *rows = self._footprint_rows()
            lines += ["", "## footprint", "", f"{FOOTPRINT}.", ""]
            lines += [_row(head), _row(["---"] + ["---:"] * (len(head) - 1)), *map(_row, rows)]
            problems = self.problems.get("footprint", {})
            lines += [""] * bool(problems) + [f"- {server}: {what}" for server, what in problems.items()]
        if self.skipped:
            lines += ["", "## left out", "", *(f"- {server}: {why}" for server, why in self.skipped.items())]
        lines += ["", NOTES]
        return "\n".join(lines) + "\n"

    def as_json(self) -> str:
        """Return everything, every round included."""
        results = [
            {
                "workload": workload,
                "server": server,
                "median": asdict(median(samples)),
                "spread": round(spread(samples), 4),
                "rounds": [asdict(sample) for sample in samples],
            }
            for workload, servers in self.samples.items()
            for server, samples in servers.items()
        ]
        found = {
            "machine": self.machine,
            "settings": self.settings,
            "versions": self.versions,
            "results": results,
            "footprints": {server: asdict(found) for server, found in self.footprints.items()},
            "problems": self.problems,
            "absent": self.absent,
            "skipped": self.skipped,
        }
        return json.dumps(found, indent=1) + "\n"

    def workloads(self) -> list[str]:
        """Return the workloads there is something to say about, in their usual order."""
        return [name for name in WORKLOADS if name in self.samples or name in self.problems]

    def machine_line(self) -> str:
        """Return the machine in one line."""
        m = self.machine
        return (
            f"{m['cpu']}, {m['cores']} cores, {m['system']}, Python {m['python']}, {m['date']}, "
            f"commit {m['commit']}, load before the run {m['load']}; {_joined(self.settings)}"
        )

    def medians(self, workload: str) -> dict[str, Sample]:
        """Return the medians of a workload by server, the one that needs the least CPU time first."""
        found = {server: median(samples) for server, samples in self.samples.get(workload, {}).items()}
        return dict(sorted(found.items(), key=lambda item: item[1].cpu_microseconds))

    def _remarks(self, workload: str) -> list[str]:
        """Return what must be known of a table: who failed, and who has no such thing."""
        remarks = [f"{server}: {what}" for server, what in self.problems.get(workload, {}).items()]
        for server, samples in self.samples.get(workload, {}).items():
            failed, requests = sum(sample.failed for sample in samples), sum(sample.requests for sample in samples)
            if failed:
                remarks.append(f"{server}: {failed:,} of {requests + failed:,.0f} requests failed: compare with care")
        if absent := self.absent.get(workload):
            remarks.append(f"not asked, for want of such a handler: {', '.join(absent)}")
        return remarks

    def _footprint_rows(self) -> list[list[str]]:
        rows = [["", "idle RSS MB", "KB per connection", "idle CPU", "start s"]]
        for server, found in sorted(self.footprints.items(), key=lambda item: item[1].idle_megabytes):
            row = [server, f"{found.idle_megabytes:.1f}", f"{found.kilobytes_per_connection:.1f}"]
            rows.append([*row, f"{found.idle_cpu_percent:.1f}%", f"{found.start_seconds:.2f}"])
        return rows

    def _rows(self, workload: str) -> list[list[str]]:
        medians = self.medians(workload)
        ours = medians.get("vibora") or medians.get("vibora-tls")
        unit = WORKLOADS[workload].unit
        head = ["", f"{unit[1] if unit else 'requests'}/s", "CPU µs/request", "spread", "CPU", "p50 ms", "p99 ms"]
        head += ["peak RSS MB", "failed"]
        rows = [[*head, "vibora: requests/s", "per CPU"]] if ours else [head]
        for server, found in medians.items():
            rate = f"{found.requests_per_second * (unit[0] if unit else 1):,.0f}"
            row = [
                server,
                rate if found.cpu_share >= BUSY_CORE else f"{rate}*",
                f"{found.cpu_microseconds:,.2f}",
                f"{spread(self.samples[workload][server]):.0%}",
                f"{found.cpu_share:.0%}",
                *(f"{value:.2f}" if value else "-" for value in (found.p50_milliseconds, found.p99_milliseconds)),
                f"{found.peak_megabytes:.0f}",
                f"{found.failed}",
            ]
            if ours:
                row.append(f"{ours.requests_per_second / found.requests_per_second:.2f} x")
                row.append(f"{found.cpu_microseconds / ours.cpu_microseconds:.2f} x")
            rows.append(row)
        return rows


NOTES = """\
Medians of interleaved rounds, one worker on one core, `wrk` on another. *CPU* is the part of its core that the server
used: where it is below 90 % (*), the load generator was the limit (or somebody else used the core), and CPU µs per
request is the figure that counts. wrk's latencies mean nothing when requests are pipelined, and are left out.
*vibora: requests/s* and *per CPU* say how many times Vibora serves what the row's server serves, per second and per
second of CPU time. *spread* is the distance between the highest and the lowest round. *peak RSS* is the most that was
resident during the measurement. `benchmarks/README.md` says how to read the rest."""
FOOTPRINT = (
    f"What a server costs while idle, with {CONNECTIONS:,} connections that were answered once and are kept open"
)


def _joined(pairs: dict[str, str] | dict[str, object]) -> str:
    return ", ".join(f"{name} {value}" for name, value in pairs.items())


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _aligned(rows: list[list[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  "
        + "  ".join(cell.rjust(w) if i else cell.ljust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True)))
        for row in rows
    )


def _output(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:
        return ""


def describe_machine(root: Path) -> dict[str, object]:
    """Return what a reader must know of the machine and the tree to judge the figures."""
    cpu = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    git = ("git", "-C", str(root))
    changed = _output(
        *git, "status", "--porcelain", "--", "rust", "python", "Cargo.toml", "Cargo.lock", "benchmarks/apps"
    )
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "cpu": cpu[0] if cpu else platform.machine(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "cc": _output("cc", "--version").partition("\n")[0],
        "wrk": _output("wrk", "-v").partition(" [")[0],
        "commit": (_output(*git, "rev-parse", "--short", "HEAD") or "unknown") + (" with changes" if changed else ""),
        "load": round(os.getloadavg()[0], 2),
    }
