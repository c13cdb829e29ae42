"""Watching files for a developer: tells the parent of a worker that the app has changed."""

import importlib.util
import logging
import os
import socket
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from vibora.exceptions import ConfigurationError

#: The files whose changes count.
SUFFIXES: Final = frozenset({".py", ".toml", ".env"})
#: Directories whose files do not.
_IGNORED: Final = frozenset({"__pycache__", "node_modules", "site-packages", ".git", ".hg", ".tox", ".venv", "venv"})
#: Milliseconds without another change after which changes are told: an editor that saves, or git, makes several.
_STEP: Final = 30
#: Milliseconds for which changes may keep coming before they are told anyway.
_DEBOUNCE: Final = 400


class Watcher:
    """A thread that watches directories.

    Args:
        directories: Which.
        alarm: A socket that is sent `signal` when something has changed.
        signal: What it is sent.

    Raises:
        ConfigurationError: If watchfiles is not installed, or a directory is not there.
    """

    def __init__(self, directories: Sequence[Path], alarm: socket.socket, signal: bytes) -> None:
        if importlib.util.find_spec("watchfiles") is None:
            raise ConfigurationError("reloading needs watchfiles: pip install 'vibora[dev]'")
        for directory in directories:
            if not directory.is_dir():
                raise ConfigurationError(f"there is no directory {str(directory)!r} to watch")
        self._directories = _outermost(directories)
        self._alarm = alarm
        self._signal = signal
        self._changed: set[str] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="vibora reload", daemon=True)
        self._thread.start()

    def take(self) -> list[str]:
        """Return the files that have changed since the last call, and forget them."""
        changed, self._changed = self._changed, set()
        return sorted(changed)

    def stop(self) -> None:
        """Stop watching."""
        self._stop.set()
        self._thread.join(1)

    def _watch(self) -> None:
        import watchfiles  # noqa: PLC0415  optional, and only developers need it

        logging.getLogger("watchfiles").setLevel(logging.WARNING)  # the parent says what has changed
        changes = watchfiles.watch(
            *self._directories,
            watch_filter=lambda _, path: counts(Path(path)),
            debounce=_DEBOUNCE,
            step=_STEP,
            stop_event=self._stop,
            rust_timeout=500,
            raise_interrupt=False,
            ignore_permission_denied=True,
        )
        for batch in changes:
            self._changed |= {os.path.relpath(path) for _, path in batch}
            self._alarm.send(self._signal)


def counts(path: Path) -> bool:
    """Return whether a change of a file is one of the app."""
    return path.suffix in SUFFIXES and _IGNORED.isdisjoint(path.parts) and not path.name.startswith(".#")


def _outermost(directories: Iterable[Path]) -> list[Path]:
    """Return directories without those that are in others."""
    resolved = {directory.resolve() for directory in directories}
    return [one for one in resolved if not any(one != other and one.is_relative_to(other) for other in resolved)]
