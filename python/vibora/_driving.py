"""What the core needs of Python to drive handlers and streams."""

import dis
import inspect
from types import CodeType

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


def is_unsuspending_generator(code: CodeType) -> bool:
    """Say whether this is the code of an async generator that yields without ever awaiting."""
    return bool(code.co_flags & inspect.CO_ASYNC_GENERATOR) and not can_suspend(code)
