"""Hooks: functions of an app that are called at certain moments of a server's and of a request's life."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final, TypeAlias, cast

from vibora._core import Outcome
from vibora.exceptions import ConfigurationError

__all__ = ["SERVER_EVENTS", "Events", "Hook", "HookFunction", "Outcome"]

HookFunction: TypeAlias = Callable[..., Any]


class Events(IntEnum):
    """When a hook is called. What it is given is asked for by type, as in handlers.

    Attributes:
        BEFORE_SERVER_START: Before a worker listens. Components may still be added. It may ask for the app and for
            components of the scope `app`.
        AFTER_SERVER_START: When a worker serves.
        BEFORE_ENDPOINT: Before the handler. A `Response` that it returns is the answer: the handler is not called. It
            may ask for `Request`, `Route` and components.
        AFTER_ENDPOINT: When there is a response, before it is sent, whoever made it: a handler, a hook, middleware, an
            error, a timeout, a missing route. It may ask for `Response` too, change it, or return another.
        AFTER_RESPONSE_SENT: When a response is out, or the client has gone. It may ask for `Outcome`, which tells what
            became of it, `Request` and `Route`.
        BEFORE_SERVER_STOP: When a worker begins to stop, while it still serves.
    """

    BEFORE_SERVER_START = 1
    AFTER_SERVER_START = 2
    BEFORE_ENDPOINT = 3
    AFTER_ENDPOINT = 4
    AFTER_RESPONSE_SENT = 5
    BEFORE_SERVER_STOP = 6


SERVER_EVENTS: Final = frozenset({Events.BEFORE_SERVER_START, Events.AFTER_SERVER_START, Events.BEFORE_SERVER_STOP})
"""Events of the worker as a whole: a hook of a blueprint is called for them as one of the app is."""


@dataclass(frozen=True, slots=True)
class Hook:
    """A function and the event it is called at.

    Attributes:
        event: The event.
        handler: The function, `def` or `async def`. It runs on the event loop.

    Raises:
        ConfigurationError: If either is not what it should be.
    """

    event: Events
    handler: HookFunction

    def __post_init__(self) -> None:
        if not isinstance(cast("object", self.event), Events):
            raise ConfigurationError(f"a hook's event is one of vibora.Events, got {self.event!r}")
        if not callable(cast("object", self.handler)) or isinstance(self.handler, type):
            raise ConfigurationError(f"a hook is a function, got {self.handler!r}")
