"""The page that shows a failure to whoever develops the app. Never sent unless the app runs in debug."""

import linecache
import traceback
from html import escape

from vibora._core import Request, Route
from vibora.routing import describe

_CONTEXT = 4

_SECRET = frozenset({"authorization", "cookie", "proxy-authorization", "x-api-key", "x-auth-token", "x-csrf-token"})

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 0; color: #1c1e21; background: #f6f7f9 }
header { background: #7c1d2b; color: #fff; padding: 1.2rem 2rem }
header h1 { margin: 0; font-size: 1.3rem; overflow-wrap: anywhere }
header p { margin: .3rem 0 0; opacity: .85; overflow-wrap: anywhere }
main { padding: 1rem 2rem 3rem; max-width: 70rem }
section { background: #fff; border: 1px solid #dfe2e7; border-radius: 6px; margin: .8rem 0; overflow: hidden }
section > h2 { font-size: .9rem; font-weight: 600; margin: 0; padding: .5rem 1rem; background: #eef0f3 }
section > h2 { overflow-wrap: anywhere }
pre { margin: 0; padding: .5rem 1rem; overflow-x: auto; font: 13px/1.55 ui-monospace, monospace }
pre mark { display: block; background: #ffe9c7; color: inherit; margin: 0 -1rem; padding: 0 1rem }
@media (prefers-color-scheme: dark) {
  body { color: #e4e6ea; background: #17191c } section { background: #1f2226; border-color: #33373d }
  section > h2 { background: #2a2e34 } pre mark { background: #5a4213 }
}
"""


def error_page(request: Request, error: BaseException, route: Route | None) -> str:
    """Return an HTML page about an exception: what it is, the source around each frame, the request.

    Args:
        request: The request.
        error: The exception.
        route: The route that matched, if one did.
    """
    kind = type(error).__name__
    what = f"{request.method} {request.raw_path.decode('ascii', 'backslashreplace')}"
    where = f"route {route.name} ({route.pattern}), handler {describe(route.handler)}" if route else "no route"
    chain: list[str] = []
    current: BaseException | None = error
    while current is not None and len(chain) < 5:
        heading = f"{type(current).__name__}: {_text(current)}" if chain else ""
        chain.append((f"<h2>Caused by {escape(heading)}</h2>" if heading else "") + _frames(current))
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
    headers = "\n".join(
        f"{name}: {'(not shown)' if name.lower() in _SECRET else value}" for name, value in request.headers.items()
    )
    text = "".join(traceback.format_exception(error))
    return (
        "<!doctype html><html lang=en><meta charset=utf-8>"
        '<meta name=viewport content="width=device-width, initial-scale=1">'
        f"<title>{escape(kind)} · {escape(what)}</title><style>{_STYLE}</style>"
        f"<header><h1>{escape(kind)}: {escape(_text(error))}</h1><p>{escape(what)} · {escape(where)}</p></header><main>"
        + "".join(chain)
        + f"<section><h2>Request headers</h2><pre>{escape(headers)}</pre></section>"
        f"<section><h2>Traceback</h2><pre>{escape(text)}</pre></section>"
        "<p>This page is shown because the app runs in debug.</p></main></html>"
    )


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001  its own code, which may fail too
        return "(it cannot be shown)"


def _frames(error: BaseException) -> str:
    parts: list[str] = []
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if frame.lineno is None:
            continue
        lines: list[str] = []
        for number in range(max(frame.lineno - _CONTEXT, 1), frame.lineno + _CONTEXT + 1):
            line = linecache.getline(frame.filename, number)
            if not line:
                continue
            text = f"{number:>5}  {escape(line.rstrip())}"
            lines.append(f"<mark>{text}</mark>" if number == frame.lineno else f"{text}\n")
        parts.append(
            f"<section><h2>{escape(frame.filename)}:{frame.lineno} in {escape(frame.name)}</h2>"
            f"<pre>{''.join(lines)}</pre></section>"
        )
    return "".join(parts)
