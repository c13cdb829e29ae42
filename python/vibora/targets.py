"""Targets: how a command line says where an app is.

`module:app`, `package.module:app`, `file.py:app`; without a name after the colon it is `app`. The current directory and
the directory of the file are importable.
"""

import importlib
import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Final

from vibora.app import Vibora
from vibora.exceptions import ConfigurationError, ViboraError

DEFAULT_NAME: Final = "app"


class TargetFailed(ViboraError):
    """The code of the target raised. The cause is what it raised, with a traceback that begins in that code."""


def load(target: str) -> Vibora:
    """Import an app.

    Args:
        target: Where it is.

    Raises:
        ConfigurationError: If there is no such file, module or app, or if the app is wrong.
        TargetFailed: If the code of the target raises anything else.
    """
    source, names = _split(target)
    _make_importable(Path.cwd())
    try:
        module = _load_file(source) if _is_file(source) else _load_module(source)
    except ConfigurationError:
        raise
    except Exception as error:  # noqa: BLE001  it is passed on
        raise TargetFailed(target) from error.with_traceback(_outside(error.__traceback__))
    found: object = module
    for name in names.split("."):
        if not hasattr(found, name):
            apps = [f"{source}:{name}" for name, value in vars(module).items() if isinstance(value, Vibora)]
            advice = f"did you mean {' or '.join(apps)}?" if apps else "create one there with app = Vibora()"
            raise ConfigurationError(f"{source!r} has no {names!r}; {advice}")
        found = getattr(found, name)
    if not isinstance(found, Vibora):
        raise ConfigurationError(
            f"{source}:{names} is not a Vibora app but a {type(found).__module__}.{type(found).__qualname__}"
        )
    return found


def find(app: Vibora) -> str | None:
    """Return the target of an app, if the script that runs holds it.

    Args:
        app: The app.
    """
    main = sys.modules["__main__"]
    file: str | None = getattr(main, "__file__", None)
    if file is None:
        return None
    path = Path(file)
    if path.is_relative_to(Path.cwd()):
        path = path.relative_to(Path.cwd())
    return next((f"{path}:{name}" for name, value in vars(main).items() if value is app), None)


def _split(target: str) -> tuple[str, str]:
    source, colon, names = target.rpartition(":")
    if not colon or os.sep in names or "/" in names:  # the colon of C:\app.py is not ours
        return target, DEFAULT_NAME
    if not source or not all(name.isidentifier() for name in names.split(".")):
        raise ConfigurationError(f"a target is written module:app or file.py:app, got {target!r}")
    return source, names


def _is_file(source: str) -> bool:
    return source.endswith(".py") or os.sep in source or "/" in source


def _load_file(source: str) -> ModuleType:
    path = Path(source).absolute()
    if not path.is_file():
        beside = path.with_name(f"{path.name}.py")
        advice = f"; did you mean {source}.py?" if beside.is_file() else f" in {Path.cwd()}"
        raise ConfigurationError(f"there is no file {source!r}{advice}")
    _make_importable(path.parent)
    # A script may have the name of a module that is in use, as http.py does.
    name = path.stem if path.stem not in sys.modules else f"vibora_target_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ConfigurationError(f"{source!r} is not a Python file: the name of one ends in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _load_module(source: str) -> ModuleType:
    try:
        return importlib.import_module(source)
    except ModuleNotFoundError as error:
        # The target itself, or a package it is in; not something that its code imports.
        if error.name is None or not f"{source}.".startswith(f"{error.name}."):
            raise
        path = f"{source.replace('.', '/')}.py"
        advice = f"did you mean {path}?" if Path(path).is_file() else "run vibora in the directory that has it"
        raise ConfigurationError(
            f"there is no module {error.name!r} in {Path.cwd()} or on the import path; {advice}"
        ) from None


def _make_importable(directory: Path) -> None:
    if str(directory) not in sys.path:
        sys.path.insert(0, str(directory))


def _outside(trace: TracebackType | None) -> TracebackType | None:
    """Return what is left of a traceback without the frames that import the target."""
    while trace and (trace.tb_frame.f_code.co_filename == __file__ or _is_importlib(trace)):
        trace = trace.tb_next
    return trace


def _is_importlib(trace: TracebackType) -> bool:
    return str(trace.tb_frame.f_globals.get("__name__", "")).partition(".")[0] == "importlib"
