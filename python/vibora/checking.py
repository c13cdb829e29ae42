"""What is doubtful about an app: `vibora check`. What is wrong is an error where it is registered."""

import ast
import inspect
import textwrap
from typing import TYPE_CHECKING, Final

from vibora.exceptions import ConfigurationError
from vibora.hooks import Events
from vibora.routing import describe
from vibora.runtime import Runtime

if TYPE_CHECKING:
    from vibora._core import Route
    from vibora.app import Vibora

#: Calls that block the event loop when an `async def` makes them.
_BLOCKING: Final = frozenset(
    {
        "time.sleep",
        "requests.get",
        "requests.post",
        "requests.put",
        "requests.patch",
        "requests.delete",
        "requests.request",
        "urllib.request.urlopen",
        "subprocess.run",
        "subprocess.call",
        "subprocess.check_call",
        "subprocess.check_output",
        "os.system",
    }
)


def check(app: "Vibora") -> list[str]:
    """Return a sentence for each thing that is doubtful about an app.

    Args:
        app: The app.

    Raises:
        ConfigurationError: If a route or a hook asks for what there is not.
    """
    doubts = _compile(app)
    if not app.routes:
        return ["the app has no routes: every request is answered with 404"]
    found = doubts
    names: dict[str, Route] = {}
    for route in app.routes:
        other = names.setdefault(route.name, route)
        if other is not route and other.handler is not route.handler:
            found.append(
                f"two routes have the name {route.name!r}: {describe(other.handler)} and {describe(route.handler)}"
            )
        found += [
            f"handler {describe(route.handler)} calls {call}(), which blocks the event loop: await something that "
            "does not, or make the handler a def"
            for call in _blocking_calls(route)
        ]
    return found


def _compile(app: "Vibora") -> list[str]:
    """Put the app together as a worker does; its hooks are not called."""
    try:
        Runtime(app).compile()
    except ConfigurationError as error:
        if not app.hooks_for(Events.BEFORE_SERVER_START):
            raise
        return [f"unless a hook that runs before the server starts sees to it: {error}"]
    return []


def _blocking_calls(route: "Route") -> list[str]:
    handler = inspect.unwrap(route.handler)
    if not inspect.iscoroutinefunction(handler):
        return []
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(handler)))
    except (OSError, TypeError, SyntaxError):
        return []  # there is no source to look at
    calls = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    return sorted(calls & _BLOCKING)
