"""Making processes, by a fork or afresh, and looking at them."""

import atexit
import contextlib
import os
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Literal, NoReturn, Protocol, cast


class Process(Protocol):
    """A process that this one has made."""

    @property
    def pid(self) -> int:
        """Its number."""
        ...

    def poll(self) -> int | None:
        """Return its exit code, negative for a signal, if it has ended."""
        ...


class _Fork:
    def __init__(self, pid: int) -> None:
        self.pid = pid

    def poll(self) -> int | None:
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        return os.waitstatus_to_exitcode(status) if pid else None


def fork(main: Callable[[], int]) -> Process:
    """Return a copy of this process that runs a function and ends with the exit code it returns.

    Args:
        main: The function.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if not pid:
        _leave_by(main)
    return _Fork(pid)


def spawn(module: str, *arguments: str, descriptors: Sequence[int]) -> Process:
    """Return a new interpreter that runs a module.

    Args:
        module: The module.
        *arguments: Its arguments.
        descriptors: What it inherits.
    """
    # As multiprocessing does it. -P: no file of the current directory stands for a module.
    flags = cast("list[str]", vars(subprocess)["_args_from_interpreter_flags"]())
    return subprocess.Popen(  # noqa: S603  ourselves
        [sys.executable, *flags, "-P", "-m", module, *arguments], pass_fds=descriptors
    )


def start_method() -> Literal["fork", "spawn"]:
    """Return how processes are to be started: `multiprocessing`'s word, if somebody has asked it."""
    multiprocessing = sys.modules.get("multiprocessing")
    method: str | None = multiprocessing.get_start_method(allow_none=True) if multiprocessing else None
    return "fork" if method in (None, "fork") else "spawn"


def memory(pid: int) -> int:
    """Return the bytes of memory that a process uses; 0 if that is not known."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGESIZE")
    except (OSError, IndexError):
        return 0


@contextlib.contextmanager
def blocked(numbers: Sequence[signal.Signals]) -> Generator[None]:
    """Hold signals back while a process starts, so that none finds it with the handlers of its parent."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _leave_by(main: Callable[[], int]) -> NoReturn:
    """Run a forked process to its end, which is not that of its parent: nothing of the parent's is cleaned up."""
    status = 1
    try:
        vars(atexit)["_clear"]()  # what the parent has registered is the parent's
        status = main()
    except SystemExit as error:
        status = _exit_code(error)
    except BaseException:  # noqa: BLE001  as the interpreter does
        traceback.print_exc()
    finally:
        with contextlib.suppress(BaseException):
            vars(threading)["_shutdown"]()  # as the interpreter does: waits for threads
            vars(atexit)["_run_exitfuncs"]()
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def _exit_code(error: SystemExit) -> int:
    if error.code is None or isinstance(error.code, int):
        return error.code or 0
    print(error.code, file=sys.stderr)  # noqa: T201  as the interpreter does
    return 1
