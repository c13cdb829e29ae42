"""The command line: `vibora run`, `dev`, `routes`, `check`, `new` and `version`.

What the user got wrong is one line on stderr that says what to do; what the user's code raises is its own traceback,
without our frames.
"""

import argparse
import sys
import traceback
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, NoReturn

from vibora import _core, targets
from vibora.exceptions import ConfigurationError
from vibora.routing import describe

if TYPE_CHECKING:
    from vibora.app import Vibora
    from vibora.settings import Option

#: The exit code when the configuration, the target or the app is wrong (EX_CONFIG of sysexits.h).
EX_CONFIG: Final = 78

_TARGET_HELP: Final = (
    "the app: module:app, package.module:app or file.py:app; the name is 'app' when left out. "
    "VIBORA_TARGET, or 'target' in the settings' table, stands for all of it"
)

_EXAMPLES: Final = """\
examples:
  vibora run app:app                        serve `app` of app.py on http://127.0.0.1:5000
  vibora run app.py --port 8000 --debug     show tracebacks to clients
  vibora run shop.web:app --host :: --workers 4
  vibora run shop.web:app --bind 0.0.0.0:8000 --bind unix:/run/shop.sock
"""

_RUN_EPILOG: Final = f"""\
{_EXAMPLES}
signals:
  SIGINT (Ctrl-C), SIGTERM   stop gracefully: requests that are being answered may end within
                             --graceful-timeout seconds. A second one hurries, a third one kills workers
  SIGHUP                     replace the workers one by one, with new code, and lose no request

settings:
  Every option is also a variable, such as VIBORA_KEEP_ALIVE_TIMEOUT, and a key of [tool.vibora] in
  pyproject.toml, or of vibora.toml, in this directory. Options go before variables, variables before
  the file, and all of them before the app's own ServerLimits.

exit codes:
  0 stopped as asked, 1 the app's code raised, 2 a command line that makes no sense,
  69 cannot listen, 78 a setting, the target or the app is wrong, 130 interrupted before it served
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
        print(f"error: {error}", file=sys.stderr)  # noqa: T201  where errors go
        sys.exit(EX_CONFIG)
    except targets.TargetFailed as failed:
        traceback.print_exception(failed.__cause__)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(0)


def _run(options: argparse.Namespace) -> None:
    # Before the target, which may sit beside files with the names of modules that this needs.
    from vibora.program import run  # noqa: PLC0415  slow to import, and only this command needs it
    from vibora.settings import settings_of  # noqa: PLC0415  as above

    values = _gathered(options)
    target = _named(values.pop("target", None))
    settings = settings_of(values, target=target, spelling="--{}")
    app = targets.load(target)
    app.server_limits = replace(app.server_limits, **settings.limits)
    run(app, settings)


def _dev(options: argparse.Namespace) -> None:
    from vibora.program import run  # noqa: PLC0415  as in `_run`
    from vibora.settings import settings_of  # noqa: PLC0415  as in `_run`

    values = _gathered(options)
    for name in ("workers", "supervise", "max_requests", "max_rss"):
        values.pop(name, None)  # of the table, which is for `run` too
    target = _named(values.pop("target", None))
    directories = tuple(options.reload_dir or ())
    settings = settings_of(
        {"debug": True} | values, target=target, reload=True, reload_dirs=directories, spelling="--{}"
    )
    run(None, settings)


def _gathered(options: argparse.Namespace) -> dict[str, Any]:
    from vibora.settings import OPTIONS, gather  # noqa: PLC0415  as in `_run`

    given = {option.name: getattr(options, option.name, None) for option in OPTIONS}
    given["target"] = options.target
    values = gather({name: value for name, value in given.items() if value is not None}, options.config)
    if "bind" in values:
        values["bind"] = tuple(values["bind"])
    return values


def _named(target: str | None) -> str:
    """Return a target with the name of its app."""
    if target is None:
        raise ConfigurationError(
            "no target: write vibora run module:app, set VIBORA_TARGET, or write target = 'module:app' in the table"
        )
    return target if ":" in target else f"{target}:{targets.DEFAULT_NAME}"


def _target_of(options: argparse.Namespace) -> "Vibora":
    target: str | None = options.target
    if target is None:
        from vibora.settings import gather  # noqa: PLC0415  as in `_run`

        target = gather({}).get("target")
    return targets.load(_named(target))


def _routes(options: argparse.Namespace) -> None:
    routes = _target_of(options).routes
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


def _check(options: argparse.Namespace) -> None:
    from vibora.checking import check  # noqa: PLC0415  only this command needs it

    app = _target_of(options)
    warnings = check(app)
    for warning in warnings:
        print(f"warning: {warning}")  # noqa: T201  the output of the command
    count = len(app.routes)
    print(f"{count} {'route' if count == 1 else 'routes'}, {len(warnings)} warnings")  # noqa: T201  as above
    if warnings and options.strict:
        sys.exit(EX_CONFIG)


def _new(options: argparse.Namespace) -> None:
    from vibora.scaffold import scaffold  # noqa: PLC0415  only this command needs it

    directory = scaffold(options.name)
    print(f"made {directory}. Next:\n\n  cd {directory}\n  make test\n  make dev")  # noqa: T201  the output of the command


def _version(options: argparse.Namespace) -> None:  # noqa: ARG001  every command is called alike
    python = ".".join(map(str, sys.version_info[:3]))
    print(f"vibora {_core.__version__} ({_core.__build__} build, Python {python}, {sys.platform})")  # noqa: T201  as above


# --- the parser -------------------------------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="vibora",
        description="Serve Vibora apps.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"vibora {_core.__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    run = _command(commands, "run", "serve an app", "Serve an app until Ctrl-C or SIGTERM.", epilog=_RUN_EPILOG)
    run.set_defaults(command=_run)
    run.add_argument("target", metavar="TARGET", nargs="?", help=_TARGET_HELP)
    _add_settings(run)

    dev = _command(
        commands,
        "dev",
        "serve an app, and start it anew when its files change",
        "Serve an app for its developer: --debug, and a new start whenever a Python file changes. A mistake in the\n"
        "code is shown, here and in the browser, until the next change. Needs vibora[dev].",
        epilog="The settings of `vibora run --help` that concern one process are here too.",
    )
    dev.set_defaults(command=_dev)
    dev.add_argument("target", metavar="TARGET", nargs="?", help=_TARGET_HELP)
    dev.add_argument(
        "--reload-dir",
        action="append",
        metavar="DIR",
        help="a directory to watch; may be repeated (default: this one, and that of the app)",
    )
    _add_settings(dev, groups=("serving", "limits"))

    routes = _command(commands, "routes", "list the routes of an app", "List the routes of an app.")
    routes.set_defaults(command=_routes)
    routes.add_argument("target", metavar="TARGET", nargs="?", help=_TARGET_HELP)

    check = _command(
        commands,
        "check",
        "import an app, and say what is wrong with it",
        "Import an app and compile its routes without serving it. What is wrong ends it with an exit code;\n"
        "what is doubtful is a warning.",
    )
    check.set_defaults(command=_check)
    check.add_argument("target", metavar="TARGET", nargs="?", help=_TARGET_HELP)
    check.add_argument("--strict", action="store_true", help="end with exit code 78 if there are warnings")

    new = _command(
        commands, "new", "make a small project", "Make a directory with an app, its tests, and what runs them."
    )
    new.set_defaults(command=_new)
    new.add_argument("name", metavar="NAME", help="the name of the project, such as shop, or the path of its directory")

    version = _command(commands, "version", "print the version", "Print the version.")
    version.set_defaults(command=_version)
    return parser


def _command(commands: Any, name: str, summary: str, description: str, epilog: str | None = None) -> Any:
    return commands.add_parser(
        name,
        help=summary,
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def _add_settings(parser: argparse.ArgumentParser, groups: Sequence[str] = ("serving", "workers", "limits")) -> None:
    from vibora.settings import OPTIONS, a_truth  # noqa: PLC0415  as in `_run`

    titles = {
        "serving": ("serving", None),
        "workers": ("workers", "One process serves by itself; several have a parent that looks after them."),
        "limits": ("limits", "0 switches a timeout off; the app's ServerLimits stand for what is left out."),
    }
    for name in groups:
        title, description = titles[name]
        group = parser.add_argument_group(title, description)
        if name == "serving":
            group.add_argument(
                "--config", metavar="FILE", help="a TOML file with settings, in place of those looked for"
            )
        for option in OPTIONS:
            if option.group != name:
                continue
            if option.convert is a_truth:
                group.add_argument(
                    option.flag, dest=option.name, action=argparse.BooleanOptionalAction, default=None, help=option.help
                )
                continue
            group.add_argument(
                option.flag,
                dest=option.name,
                type=_converter(option),
                action="append" if option.many else "store",
                metavar=option.metavar,
                help=option.help,
            )


def _converter(option: "Option") -> Any:
    def convert(text: str) -> Any:
        try:
            return option.convert(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return convert
