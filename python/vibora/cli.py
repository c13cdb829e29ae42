"""The command line: `vibora run`, `vibora routes`, `vibora version`.

What the user got wrong is one line on stderr that says what to do; what the user's code raises is its own traceback,
without our frames. Exit codes: 0 done, 1 failed, 2 a command line that makes no sense.
"""

import argparse
import os
import sys
import traceback
from collections.abc import Sequence
from dataclasses import replace
from typing import Final, NoReturn

from vibora import _core, targets
from vibora.exceptions import ConfigurationError
from vibora.limits import ServerLimits
from vibora.routing import describe

_TARGET_HELP: Final = "the app: module:app, package.module:app or file.py:app; the name is 'app' when left out"

_EXAMPLES: Final = """\
examples:
  vibora run app:app                        serve `app` of app.py on http://127.0.0.1:5000
  vibora run app.py --port 8000 --debug     show tracebacks to clients while developing
  vibora run shop.web:app --host :: --workers 4

The first Ctrl-C (or SIGTERM) stops gracefully: requests that are being answered may end within
--graceful-timeout seconds. A second one hurries.
"""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line, and exit.

    Args:
        arguments: The arguments; those of the process when None.

    Raises:
        SystemExit: Always.
    """
    options = _parser().parse_args(arguments)
    try:
        options.command(options)
    except ConfigurationError as error:
        sys.exit(f"error: {error}")
    except targets.TargetFailed as failed:
        traceback.print_exception(failed.__cause__)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(0)


def _run(options: argparse.Namespace) -> None:
    # Before the target, which may sit beside files with the names of modules that this needs.
    from vibora.program import Settings, run  # noqa: PLC0415  slow to import, and only this command needs it

    if not options.uvloop:
        os.environ["VIBORA_UVLOOP"] = "0"  # workers that do not fork see it too
    app = targets.load(options.target)

    given = {name: getattr(options, name) for name in _LIMITS if getattr(options, name) is not None}
    app.server_limits = replace(app.server_limits, **given)
    settings = Settings(
        host=options.host,
        port=options.port,
        workers=options.workers,
        debug=options.debug,
        target=options.target if ":" in options.target else f"{options.target}:{targets.DEFAULT_NAME}",
        log_level=options.log_level,
        spelling="--{}",
    )
    run(app, settings)


def _routes(options: argparse.Namespace) -> None:
    routes = targets.load(options.target).routes
    rows = [["METHODS", "PATTERN", "NAME", "HANDLER"]]
    rows += [[" ".join(route.methods), route.pattern, route.name, describe(route.handler)] for route in routes]
    if any(route.hosts for route in routes):
        rows[0].append("HOSTS")
        for row, route in zip(rows[1:], routes, strict=True):
            row.append(" ".join(host if isinstance(host, str) else host.pattern for host in route.hosts))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print(line.rstrip())  # noqa: T201  the output of the command


def _version(options: argparse.Namespace) -> None:  # noqa: ARG001  every command is called alike
    python = ".".join(map(str, sys.version_info[:3]))
    print(f"vibora {_core.__version__} ({_core.__build__} build, Python {python}, {sys.platform})")  # noqa: T201  as above


_LIMITS: Final = {
    "graceful_timeout": "seconds that running requests may take to end when the server stops",
    "keep_alive_timeout": "seconds that a connection may stay open between two requests",
    "head_timeout": "seconds that a client may take to send a request's headers",
    "backlog": "connections that the kernel keeps waiting to be accepted",
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="vibora",
        description="Serve Vibora apps.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"vibora {_core.__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    run = commands.add_parser(
        "run",
        help="serve an app",
        description="Serve an app until Ctrl-C or SIGTERM.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    run.set_defaults(command=_run)
    run.add_argument("target", metavar="TARGET", help=_TARGET_HELP)
    run.add_argument("--host", default="127.0.0.1", help="host name or address, IPv4 or IPv6 (default: %(default)s)")
    run.add_argument("--port", type=_port, default=5000, help="port; 0 lets the system choose (default: %(default)s)")
    run.add_argument("--workers", type=_positive, default=1, help="processes that serve (default: %(default)s)")
    run.add_argument("--debug", action="store_true", help="show tracebacks to clients")
    run.add_argument("--no-uvloop", dest="uvloop", action="store_false", help="use asyncio's own event loop")
    levels = ("debug", "info", "warning", "error", "critical")
    run.add_argument("--log-level", choices=levels, default="info", help="what is logged (default: %(default)s)")
    limits = run.add_argument_group(
        "limits", "0 switches a timeout off; the app's ServerLimits stand for what is left out"
    )
    defaults = ServerLimits()
    for name, text in _LIMITS.items():
        limits.add_argument(
            f"--{name.replace('_', '-')}",
            type=_positive if name == "backlog" else _seconds,
            metavar="N" if name == "backlog" else "SECONDS",
            help=f"{text} (default: {getattr(defaults, name)})",
        )

    routes = commands.add_parser("routes", help="list the routes of an app", description="List the routes of an app.")
    routes.set_defaults(command=_routes)
    routes.add_argument("target", metavar="TARGET", help=_TARGET_HELP)

    version = commands.add_parser("version", help="print the version", description="Print the version.")
    version.set_defaults(command=_version)
    return parser


def _port(text: str) -> int:
    if text.isascii() and text.isdigit() and int(text) < 1 << 16:
        return int(text)
    raise argparse.ArgumentTypeError(f"a port is a number from 0 to 65535, got {text!r}")


def _positive(text: str) -> int:
    if text.isascii() and text.isdigit() and int(text) > 0:
        return int(text)
    raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text!r}")


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if 0 <= seconds < float("inf"):
        return seconds
    raise argparse.ArgumentTypeError(f"expected seconds, such as 10 or 0.5, got {text!r}")
