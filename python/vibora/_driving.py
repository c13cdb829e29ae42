"""What the core needs of Python to drive handlers and streams."""

import dis
import inspect
import types
from collections.abc import AsyncIterator, Callable, Collection, Generator
from inspect import isawaitable
from types import CodeType
from typing import Final

_SUSPENDING = frozenset({"SEND", "GET_AWAITABLE", "YIELD_FROM"})
"""Operations that hand control to the event loop: every `await`, `async for` and `async with` has one of them."""


async def stand_in() -> None:
    """Be the coroutine of the task that is current while handlers run that cannot suspend."""


def exit_with(request: BaseException) -> None:
    """Raise what a handler has raised to end the program, where the loop passes it on to whoever runs it."""
    raise request


def can_suspend(code: CodeType) -> bool:
    """Say whether a coroutine or async generator with this code can ever hand control to the event loop."""
    return any(instruction.opname in _SUSPENDING for instruction in dis.get_instructions(code))


_READING = frozenset({"content", "text", "json"})
"""What of a request completes without suspending once its content has arrived."""


def only_reads_content(code: CodeType, requests: Collection[str]) -> bool:
    """Say whether a coroutine suspends for nothing but the content of its request: `await request.json()` and the like.

    Args:
        code: Its code.
        requests: The names of those of its parameters that are the request.
    """
    instructions = list(dis.get_instructions(code))
    assigned: set[str] = set()
    for instruction in instructions:
        if instruction.opname.startswith(("STORE_FAST", "DELETE_FAST")):
            names: str | tuple[str, ...] = instruction.argval
            assigned.update((names,) if isinstance(names, str) else names)
    awaits = 0
    for at, instruction in enumerate(instructions):
        if instruction.opname == "GET_AWAITABLE":
            call = [before for before in instructions[max(at - 4, 0) : at] if before.opname != "PRECALL"][-3:]
            if [before.opname.removesuffix("_BORROW") for before in call] not in _METHOD_CALLS:
                return False
            variable, method, arguments = (before.argval for before in call)
            if variable not in requests or variable in assigned or method not in _READING or arguments:
                return False
            awaits += 1
        elif instruction.opname == "SEND":
            awaits -= 1  # each `await` is one of both; `async for` and `async with` are not
        elif instruction.opname in _SUSPENDING:
            return False
    return awaits == 0


_METHOD_CALLS = (["LOAD_FAST", "LOAD_METHOD", "CALL"], ["LOAD_FAST", "LOAD_ATTR", "CALL"])
"""`name.method()` as Python 3.11, and as newer ones, compile it."""


def is_unsuspending_generator(code: CodeType) -> bool:
    """Say whether this is the code of an async generator that yields without ever awaiting."""
    return bool(code.co_flags & inspect.CO_ASYNC_GENERATOR) and not can_suspend(code)


MARKER: Final = object()
"""What `probe` yields and what it waits for."""


@types.coroutine
def _pause() -> Generator[object, None, None]:
    yield MARKER


async def probe() -> AsyncIterator[object]:
    """Yield, wait, and end: the core tries with it whether it can resume async generators by itself."""
    yield MARKER
    await _pause()


async def run_exits(exits: list[Callable[[], object]]) -> None:
    """Call what a request has to clean up, the last first. One that fails does not keep the others from it.

    Args:
        exits: What is called; each may return an awaitable.

    Raises:
        BaseExceptionGroup: What they raised, if they did.
    """
    errors: list[BaseException] = []
    while exits:
        try:
            result = exits.pop()()
            if isawaitable(result):
                await result
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # noqa: BLE001  they are raised together
            errors.append(error)
    if errors:
        raise BaseExceptionGroup("a request was not cleaned up", errors) if len(errors) > 1 else errors[0]
