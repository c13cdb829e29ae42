"""What `vibora` exports: a list that is complete, sorted and documented, behind an import that starts nothing."""

import importlib
import importlib.metadata
import inspect
import json
import subprocess
import sys
import types
from pathlib import Path

import pytest

import vibora


def test_all_is_complete_and_sorted() -> None:
    public = {
        name
        for name, value in vars(vibora).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
    }
    assert vibora.__all__ == sorted(public | {"__version__"})


@pytest.mark.parametrize("name", [name for name in vibora.__all__ if name != "__version__"])
def test_what_is_exported_is_ours_and_documented(name: str) -> None:
    value = getattr(vibora, name)
    assert value.__module__.split(".")[0] == "vibora"
    assert not value.__module__.startswith("vibora._")
    assert inspect.getdoc(value)
    assert value.__name__ == name


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("vibora.app", ["Vibora"]),
        ("vibora.application", ["Application", "Vibora"]),
        ("vibora.blueprints", ["Blueprint", "CallNext"]),
        ("vibora.cache", ["Cache", "CacheControl", "CacheEngine", "CachedResponse", "Static"]),
        ("vibora.components", ["Component"]),
        ("vibora.cookies", ["Cookie"]),
        (
            "vibora.exceptions",
            [
                "ClientDisconnected",
                "DuplicatedBlueprint",
                "HTTPError",
                "InvalidJSON",
                "MethodNotAllowed",
                "MissingComponent",
                "NotFound",
                "ReverseNotFound",
                "RouteConfigurationError",
                "StaticNotFound",
                "StreamAlreadyConsumed",
                "ViboraException",
                "abort",
            ],
        ),
        ("vibora.files", ["FileResponse"]),
        ("vibora.forms", ["FormData", "Multipart", "Part", "UploadedFile", "UploadedFiles", "safe_filename"]),
        ("vibora.headers", ["Headers"]),
        ("vibora.hooks", ["Events", "Hook", "Outcome"]),
        ("vibora.limits", ["RouteLimits", "ServerLimits"]),
        ("vibora.multipart", ["MultipartParser", "UploadedFile"]),
        ("vibora.proxies", ["TrustedProxies"]),
        ("vibora.request", ["URL", "QueryArgs", "Request", "RequestStream", "Stream"]),
        (
            "vibora.responses",
            [
                "CachedResponse",
                "FileResponse",
                "HtmlResponse",
                "JsonResponse",
                "RedirectResponse",
                "Response",
                "StreamingResponse",
                "TextResponse",
            ],
        ),
        ("vibora.router", ["Route", "RouterStrategy"]),
        ("vibora.server", ["Server"]),
        ("vibora.static", ["StaticHandler"]),
        ("vibora.testing", ["AsyncClient", "AsyncConnection", "Client", "Connection", "TestClient", "TestClock"]),
        ("vibora.tests", ["TestSuite"]),
    ],
)
def test_import_paths(path: str, names: list[str]) -> None:
    module = importlib.import_module(path)
    for name in names:
        assert getattr(module, name) is getattr(vibora, name, getattr(module, name))


def test_names_of_the_first_vibora_are_those_of_today() -> None:
    exceptions = importlib.import_module("vibora.exceptions")
    assert exceptions.ViboraException is vibora.ViboraError
    assert exceptions.RouteConfigurationError is vibora.ConfigurationError
    assert issubclass(exceptions.InvalidJSON, vibora.BadRequest)
    assert importlib.import_module("vibora.application").Application is vibora.Vibora
    request = importlib.import_module("vibora.request")
    assert request.Stream is request.RequestStream


def test_the_version_is_that_of_the_package() -> None:
    assert vibora.__version__ == importlib.metadata.version("vibora")


class TestImport:
    def look(self, *statements: str) -> dict[str, object]:
        """Return what a fresh interpreter sees after `import vibora`."""
        code = "\n".join(
            [
                "import json, signal, sys, threading, time",
                "signal.signal(signal.SIGINT, signal.default_int_handler)  # where this runs may ignore it",
                "before, start = set(sys.modules), time.perf_counter()",
                "import vibora",
                "seen = {'seconds': time.perf_counter() - start, 'modules': sorted(set(sys.modules) - before)}",
                *statements,
                "print(json.dumps(seen))",
            ]
        )
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
        assert run.stderr == ""
        seen: dict[str, object] = json.loads(run.stdout)
        return seen

    def test_starts_nothing(self) -> None:
        seen = self.look(
            "import asyncio, logging",
            "seen['threads'] = threading.active_count()",
            "loop = asyncio.new_event_loop()",
            "seen['loop'] = type(loop).__module__",
            "loop.close()",
            "seen['handlers'] = len(logging.getLogger().handlers + logging.getLogger('vibora').handlers)",
            "seen['sigint'] = signal.getsignal(signal.SIGINT) is signal.default_int_handler",
        )
        assert (seen["threads"], seen["handlers"], seen["sigint"]) == (1, 0, True)
        assert str(seen["loop"]).startswith("asyncio")

    def test_leaves_out_what_is_slow_and_not_needed_yet(self) -> None:
        loaded = self.look()["modules"]
        assert isinstance(loaded, list)
        slow = {"argparse", "asyncio", "http", "httpx", "multiprocessing", "pathlib", "socket", "ssl", "uuid", "uvloop"}
        assert slow.isdisjoint(loaded)

    def test_is_quick(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        # With bytecode, as it is installed. The best of some: another process may have been in the way.
        monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
        monkeypatch.setenv("PYTHONPYCACHEPREFIX", str(tmp_path))
        assert min(float(str(self.look()["seconds"])) for _ in range(5)) < 0.15
