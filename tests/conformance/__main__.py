# ruff: noqa: T201  its output is the terminal
"""`make conformance`: replays the project's corpus, and any other, against a live server."""

import argparse
import itertools
import sys
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import get_args

from . import case, corpus
from .case import Case
from .replay import Client, Cut, LiveServer, Result, serving

#: How often a case is cut at random positions.
_RANDOM_CUTS = 3


def main() -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(prog="make conformance", description=__doc__)
    parser.add_argument("files", nargs="*", type=Path, help="corpus files to replay instead of the project's own")
    parser.add_argument("--cut", action="append", choices=get_args(Cut), help="how to send; all ways when omitted")
    parser.add_argument("--only", default="", help="replay the cases with this in their name")
    parser.add_argument("--jobs", type=int, default=4, help="connections at once")
    parser.add_argument("--loop", choices=["uvloop", "asyncio"], default="uvloop")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the project's corpus to a file, and stop")
    options = parser.parse_args()
    if options.write:
        case.write(corpus.cases(), options.write)
        return 0
    corpora = {str(file): case.read(file) for file in options.files} or {"vibora": list(corpus.cases())}
    failures: list[Result] = []
    with serving(options.loop) as server:
        _run(server, list(itertools.islice(corpus.cases(), 50)), ["whole"], options.jobs)
        resident = server.resident
        for name, cases in corpora.items():
            chosen = [one for one in cases if options.only in one.name]
            for cut in options.cut or get_args(Cut):
                results = _run(server, chosen, [cut], options.jobs)
                failures += [result for result in results if result.problems]
                print(_row(name, cut, results))
        alive = server.is_alive
        grown = server.resident - resident if alive else 0
    for result in failures:
        print(_line(result))
    violations = sum(result.violates for result in failures)
    print(
        f"\n{len(failures)} disagreements, {violations} of them violations of a MUST; "
        f"the server {'is alive' if alive else 'HAS DIED'}, and has grown by {grown / 1024:.0f} KiB"
    )
    # Another corpus may know another policy; what it may not know is a server that dies, hangs or breaks a MUST.
    tolerable = bool(options.files) and not any(_is_grave(result) for result in failures)
    return 0 if alive and (tolerable or not failures) else 1


def _run(server: LiveServer, cases: Sequence[Case], cuts: Sequence[Cut], jobs: int) -> list[Result]:
    def work(share: Sequence[Case]) -> list[Result]:
        with Client(server) as client:
            return [
                client.replay(one, cut, seed)
                for one, cut in itertools.product(share, cuts)
                for seed in range(_RANDOM_CUTS if cut == "random" else 1)
            ]

    with ThreadPoolExecutor(jobs) as pool:
        shares = [cases[start::jobs] for start in range(jobs)]
        return list(itertools.chain.from_iterable(pool.map(work, shares)))


def _is_grave(result: Result) -> bool:
    return result.violates or result.outcome in ("extra", "partial") or "hangs" in result.problems


def _row(name: str, cut: Cut, results: Sequence[Result]) -> str:
    wanted = Counter(result.case.verdict for result in results)
    agreed = sum(not result.problems for result in results)
    share = 100 * agreed / len(results) if results else 100
    return (
        f"{name}, {cut}: {agreed} of {len(results)} as expected ({share:.1f} %); "
        + ", ".join(f"{count} to {verdict}" for verdict, count in sorted(wanted.items()))
        + f"; {sum(result.violates for result in results)} violations of a MUST"
    )


def _line(result: Result) -> str:
    return (
        f"  {result.case.name} ({result.cut}): to {result.case.verdict}, {result.outcome} with {list(result.statuses)}"
        f": {'; '.join(result.problems)} [{result.case.rule}]"
    )


if __name__ == "__main__":
    sys.exit(main())
