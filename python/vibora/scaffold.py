"""A new project: `vibora new`."""

import re
import sys
from pathlib import Path
from typing import Final

from vibora import _core
from vibora.exceptions import ConfigurationError

_PYPROJECT: Final = """\
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "@name@"
version = "0.1.0"
requires-python = ">=3.11"
dependencies = ["vibora>=@version@"]

[dependency-groups]
dev = ["vibora[dev,testing]", "pytest>=8"]

[tool.setuptools]
packages = ["@package@"]

# What `vibora run` and `vibora dev` do here: see `vibora run --help`.
[tool.vibora]
target = "@package@.web:app"
port = 5000

[tool.pytest.ini_options]
testpaths = ["tests"]
pythonpath = ["."]
"""

_WEB: Final = '''\
"""The app: `vibora dev` serves it."""

from vibora import JsonResponse, Request, Response, Vibora

app = Vibora()


@app.get("/")
async def home(request: Request) -> JsonResponse:
    return JsonResponse({"hello": "world"})


@app.get("/hello/<name>")
async def hello(name: str) -> JsonResponse:
    return JsonResponse({"hello": name})


@app.get("/ready")
async def ready() -> Response:
    """Say whether this process should be sent requests: a load balancer asks."""
    return Response(b"", status_code=200 if app.is_ready else 503)
'''

_TESTS: Final = '''\
"""The app behind its real server, in memory."""

from collections.abc import Iterator

import pytest
from vibora.testing import Client

from @package@.web import app


@pytest.fixture
def client() -> Iterator[Client]:
    with app.test_client() as client:
        yield client


def test_home(client: Client) -> None:
    assert client.get("/").json() == {"hello": "world"}


def test_hello(client: Client) -> None:
    assert client.get("/hello/you").json() == {"hello": "you"}


def test_ready(client: Client) -> None:
    assert client.get("/ready").status_code == 200


def test_what_is_not_there(client: Client) -> None:
    assert client.get("/nowhere").status_code == 404
'''

_MAKEFILE: Final = """\
# The commands of the project; `make` alone lists them.
PYTHON ?= python3

.PHONY: help install dev run test check

help:  ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-9s %s\\n", $$1, $$2 }' Makefile

install:  ## install the project and what its development needs (pip 25.1 or newer)
	$(PYTHON) -m pip install --editable . --group dev

dev:  ## serve it, and start it anew when a file changes
	$(PYTHON) -m vibora dev

run:  ## serve it
	$(PYTHON) -m vibora run

test:  ## run the tests
	$(PYTHON) -m pytest

check:  ## import the app, and say what is wrong with it
	$(PYTHON) -m vibora check --strict
"""

_README: Final = """\
# @name@

    make install    # once
    make dev        # http://127.0.0.1:5000, anew whenever a file changes
    make test

`@package@/web.py` is the app, `tests/` are its tests, `[tool.vibora]` in `pyproject.toml` says how it is served.
"""

_IGNORED: Final = """\
__pycache__/
*.egg-info/
.pytest_cache/
.venv/
"""


def scaffold(name: str) -> Path:
    """Make a small project, and return its directory.

    Args:
        name: Its name, or the path of its directory, which ends in its name.

    Raises:
        ConfigurationError: If it cannot be a name, or if the directory is there already.
    """
    directory = Path(name)
    package = re.sub(r"[-.]", "_", directory.name).lower()
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9._-]*", directory.name) or not package.isidentifier():
        raise ConfigurationError(
            "the name of a project begins with a letter and has letters, digits, '-', '_' and '.', "
            f"got {directory.name!r}"
        )
    if package in {"vibora", "tests", *sys.stdlib_module_names}:
        raise ConfigurationError(f"a project cannot have the name {directory.name!r}: its package would hide another")
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise ConfigurationError(f"{str(directory)!r} is there already, and is not an empty directory")
    files = {
        "pyproject.toml": _PYPROJECT,
        "README.md": _README,
        "Makefile": _MAKEFILE,
        ".gitignore": _IGNORED,
        f"{package}/__init__.py": f'"""{directory.name}."""\n',
        f"{package}/web.py": _WEB,
        "tests/test_web.py": _TESTS,
    }
    for path, text in files.items():
        file = directory / path
        file.parent.mkdir(parents=True, exist_ok=True)
        filled = text.replace("@name@", directory.name).replace("@package@", package)
        file.write_text(filled.replace("@version@", _core.__version__), encoding="utf-8")
    return directory
