"""Compare Vibora with other servers: `make bench`, or `python benchmarks/run.py --help`.

`--profile short`, the default, measures the best known servers in a few minutes; `--profile full` measures all servers
in all workloads, and what they cost while idle, in less than twenty (with `--rounds 3` in twenty-five). Other options
take the place of a profile's.

Every server gets one worker on one core and `wrk` gets another. A round measures each workload on each server in turn,
and there are several rounds, so that a machine that becomes slower becomes slower for all. Before anything is measured
each answer is checked. A debug build of Vibora is refused.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import footprint
import measure
from plot import plot
from process import NotServing, Running
from report import Report, describe_machine
from servers import APPS, HERE, REQUIREMENTS, SERVERS, TLS, VIBORA, Server, build_floor, install_peers, make_certificate
from workloads import WORKLOADS, Workload

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import FrameType

BEST_KNOWN = ["floor", "vibora", "granian-rsgi", "uvicorn", "starlette", "fastapi"]
PROFILES: dict[str, dict[str, object]] = {
    "short": {
        "servers": BEST_KNOWN,
        "workloads": ["plaintext", "json", "path", "pipelined", "echo", "stream", "chunks", "upload", "await", "c512"],
        "seconds": 1,
        "rounds": 3,
        "footprint": False,
    },
    "full": {"servers": list(SERVERS), "workloads": list(WORKLOADS), "seconds": 1, "rounds": 2, "footprint": True},
}
DESCRIPTORS = 20_000
"""What servers and load generator may open, where the system lets them: 4,000 connections need more than is usual."""
BUSY_MACHINE = 0.5
"""A load average above this means that somebody else is measured too."""


def give_up(message: str) -> NoReturn:
    """End with one sentence."""
    sys.exit(f"benchmarks: {message}")


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)

    def names(known: Sequence[str]) -> Callable[[str], list[str]]:
        def split(text: str) -> list[str]:
            chosen = list(known) if text == "all" else text.split(",")
            if unknown := set(chosen) - set(known):
                raise argparse.ArgumentTypeError(f"no {', '.join(sorted(unknown))}; there are {', '.join(known)}")
            return chosen

        return split

    def positive(text: str) -> int:
        value = int(text)
        if value < 1:
            raise argparse.ArgumentTypeError("must be at least 1")
        return value

    parser.add_argument("--profile", choices=list(PROFILES), default="short", help="what is measured; default short")
    parser.add_argument(
        "--servers", type=names(list(SERVERS)), help=f"comma-separated, or all; there are {', '.join(SERVERS)}"
    )
    parser.add_argument(
        "--workloads", type=names(list(WORKLOADS)), help=f"comma-separated, or all; there are {', '.join(WORKLOADS)}"
    )
    parser.add_argument("--seconds", type=positive, help="length of a measurement; default 1")
    parser.add_argument("--rounds", type=positive, help="measurements of each pair; default 3, in the full profile 2")
    parser.add_argument("--connections", type=positive, default=64, help="where a workload does not say; default 64")
    parser.add_argument("--footprint", action=argparse.BooleanOptionalAction, help="measure idle servers as well")
    parser.add_argument("--server-core", type=int, default=0, help="default 0")
    parser.add_argument("--load-core", type=int, default=1, help="default 1")
    parser.add_argument(
        "--output",
        type=Path,
        help="where the JSON goes, with a .md and a .svg beside it; default benchmarks/results/DATE-COMMIT.json",
    )
    options = parser.parse_args(arguments)
    for name, value in PROFILES[options.profile].items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    return options


def check_tools(options: argparse.Namespace) -> None:
    """Give up where the machine cannot run benchmarks at all."""
    if sys.platform != "linux":
        give_up("they read /proc and pin processes to cores, which needs Linux")
    for tool, package in (("wrk", "wrk"), ("taskset", "util-linux"), ("cc", "a C compiler")):
        if shutil.which(tool) is None:
            give_up(f"{tool} was not found; install {package}")
    cores = os.sched_getaffinity(0)
    if options.server_core == options.load_core or not {options.server_core, options.load_core} <= cores:
        give_up(f"server and load need two different cores of {sorted(cores)} (--server-core, --load-core)")
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if most == resource.RLIM_INFINITY else min(DESCRIPTORS, most)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))
    for name in [name for name in options.workloads if (WORKLOADS[name].connections or 0) > wanted - 200]:
        print(f"{name} is left out: {wanted} file descriptors are too few (ulimit -Hn)", flush=True)
        options.workloads.remove(name)


def check_build() -> str | None:
    """Return why there is no Vibora to measure, or None; refuse a build whose figures would mislead."""
    python = VIBORA / "bin" / "python"
    code = "import vibora, vibora._core as core; print(getattr(core, '__build__', 'unknown'))"
    if not python.exists():
        return "it is not built, make build does that"
    environment = SERVERS["vibora"].environ(0)
    run = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False, cwd=APPS, env=environment)
    if run.returncode != 0:
        return f"it cannot be imported, make build may help: {(run.stderr.strip().splitlines() or ['?'])[-1]}"
    if (build := run.stdout.strip()) != "release":
        give_up(f"the vibora in .venv is a {build} build, and its figures would say nothing: run make build first")
    return None


def choose(options: argparse.Namespace, report: Report) -> list[Server]:
    """Return the servers that can run here; the others are noted."""
    chosen: list[Server] = []
    for name in options.servers:
        server = SERVERS[name]
        if server.venv in REQUIREMENTS:
            install_peers(server.venv)
        why = (check_build() if server.venv == VIBORA else None) or server.missing()
        if why is None:
            chosen.append(server)
            report.versions[name] = server.versions()
        else:
            leave_out(name, why, report)
    return chosen


def stop_on_signal(_number: int, _frame: FrameType | None) -> NoReturn:
    """End in the way of Ctrl-C: through the ends of the `with` blocks, which end the servers."""
    give_up("stopped")


def leave_out(server: str, why: object, report: Report) -> None:
    """Note that a server takes no part, or none any more."""
    report.skipped[server] = str(why)
    print(f"{server} is left out: {why}", flush=True)


def start(servers: Sequence[Server], stack: ExitStack, core: int, report: Report) -> dict[str, Running]:
    """Start the servers and freeze them; one that does not come up is noted."""
    found: dict[str, Running] = {}
    logs = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    for server in servers:
        running = Running(server, APPS, core, logs / server.name)
        stack.callback(running.end)
        try:
            running.wait_until_it_listens()
        except NotServing as error:
            leave_out(server.name, error, report)
        else:
            found[server.name] = running
        running.freeze()
    return found


def replace(name: str, server: Running, report: Report) -> None:
    """Start a server afresh that may have crashed or hang."""
    try:
        server.start_again()
    except NotServing as error:
        leave_out(name, error, report)


def check_answers(running: dict[str, Running], workloads: Sequence[Workload], report: Report) -> set[tuple[str, str]]:
    """Ask every server everything once; return the pairs of workload and server that may be measured."""
    good: set[tuple[str, str]] = set()
    for name, server in running.items():
        server.thaw()
        for workload in workloads:
            if workload.name not in SERVERS[name].workloads:
                # Servers over TLS are servers of their own, and socketify is two.
                if not workload.tls and not SERVERS[name].workloads <= TLS and name != "socketify-async":
                    report.absent.setdefault(workload.name, []).append(name)
                continue
            if (wrong := workload.check(server.port)) is None:
                good.add((workload.name, name))
            else:
                report.problem(workload.name, name, f"wrong answer, not measured: {wrong}")
                print(f"{name}, {workload.name}: wrong answer, not measured: {wrong}", flush=True)
                replace(name, server, report)
        server.freeze()
    return good & {(workload.name, name) for workload in workloads for name in running if name not in report.skipped}


def measure_footprints(running: dict[str, Running], report: Report) -> None:
    """Start each server afresh, and look at it while it has nothing to do."""
    for name, server in running.items():
        if name in report.skipped or SERVERS[name].workloads <= TLS:
            continue
        try:
            server.start_again()
            report.footprints[name] = found = footprint.measure(server)
            each = f"{found.kilobytes_per_connection:6.1f} KB/connection"
            print(f"footprint  {name:16} {found.idle_megabytes:8.1f} MB {each}", flush=True)
        except (NotServing, OSError) as error:
            report.problem("footprint", name, f"no figures: {error}")
            print(f"footprint  {name:16} no figures: {error}", flush=True)
        server.freeze()


def measure_all(
    options: argparse.Namespace, running: dict[str, Running], good: set[tuple[str, str]], report: Report
) -> None:
    """Run the rounds; each starts with another server, so that none is always the first."""
    names = list(running)
    for number in range(options.rounds):
        turn = number % max(len(names), 1)
        for workload in (WORKLOADS[name] for name in options.workloads):
            for name in names[turn:] + names[:turn]:
                if (workload.name, name) not in good or name in report.skipped:
                    continue
                server = running[name]
                server.thaw()
                try:
                    sample = measure.run(
                        server,
                        workload,
                        seconds=max(options.seconds, workload.least_seconds),
                        warm_up=measure.WARM_UP if number == 0 else measure.WARM_UP / 4,
                        connections=options.connections,
                        core=options.load_core,
                    )
                except measure.LoadFailed as error:
                    good.discard((workload.name, name))
                    report.problem(workload.name, name, f"no figures: {error}")
                    print(f"{name}, {workload.name}: no figures: {error}", flush=True)
                    replace(name, server, report)
                else:
                    report.add(workload.name, name, sample)
                    print(
                        f"round {number + 1}  {workload.name:10} {name:16} {sample.requests_per_second:10,.0f}/s"
                        f" {sample.cpu_microseconds:9.2f} µs",
                        flush=True,
                    )
                server.freeze()


def main() -> None:
    """Do what the command line asks for."""
    options = parse()
    check_tools(options)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop_on_signal)
    settings: dict[str, object] = {
        "profile": options.profile,
        "seconds": options.seconds,
        "rounds": options.rounds,
        "connections": options.connections,
    }
    machine = describe_machine(HERE.parent)
    report = Report(settings, machine, {})
    if os.getloadavg()[0] > BUSY_MACHINE:
        print(f"the machine is busy (load {machine['load']}): these figures are noisy", flush=True)
    if "floor" in options.servers:
        build_floor()
    if "tls" in options.workloads:
        make_certificate()
    servers = choose(options, report)
    began = time.monotonic()
    with ExitStack() as stack:
        running = start(servers, stack, options.server_core, report)
        good = check_answers(running, [WORKLOADS[name] for name in options.workloads], report)
        if not good:
            give_up("nothing is left to measure")
        estimate = sum(
            options.rounds * (max(options.seconds, WORKLOADS[workload].least_seconds) + measure.WARM_UP / 4 + 0.2)
            for workload, _ in good
        )
        estimate += len(good) * measure.WARM_UP + options.footprint * len(running) * 8
        print(f"{len(good)} pairs, {options.rounds} rounds: about {estimate / 60:.0f} minutes", flush=True)
        measure_all(options, running, good, report)
        if options.footprint:
            measure_footprints(running, report)
    print(f"\n{report.tables()}\n\n{report.machine_line()}; took {time.monotonic() - began:.0f} s")
    name = f"{datetime.now(UTC):%Y-%m-%d}-{str(machine['commit']).replace(' with changes', '-changed')}.json"
    output: Path = options.output or HERE / "results" / name
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(report.as_json())
    output.with_suffix(".svg").write_text(plot(report))
    output.with_suffix(".md").write_text(report.markdown(output.with_suffix(".svg").name))
    print(
        f"\n{output.relative_to(Path.cwd()) if output.is_relative_to(Path.cwd()) else output}, and .md, .svg beside it"
    )


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("benchmarks: stopped")
