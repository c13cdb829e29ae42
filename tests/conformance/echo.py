"""The app under test: answers every path with what it has understood, and remembers what it has executed.

Run as a program with the number of an inherited socket that listens: `python echo.py FD`.
"""

import base64
import logging
import socket
import sys

from vibora import JsonResponse, Request, RouteLimits, Vibora

#: The methods that are answered. CONNECT never is (RFC 9110 §9.3.6), any other is refused with 405.
METHODS = frozenset(
    "GET HEAD POST PUT PATCH DELETE OPTIONS TRACE QUERY ACL BIND CHECKOUT COPY LABEL LINK LOCK MERGE MKACTIVITY "  # noqa: SIM905
    "MKCALENDAR MKCOL MKCOLA MKREDIRECTREF MOVE M-SEARCH NOTIFY ORDERPATCH PROPFIND PROPPATCH PURGE REBIND REPORT "
    "SEARCH SOURCE SUBSCRIBE UNBIND UNCHECKOUT UNLINK UNLOCK UNSUBSCRIBE UPDATE VERSION-CONTROL "
    "ANNOUNCE DESCRIBE PAUSE PLAY RECORD REDIRECT SETUP TEARDOWN FLUSH GET1 -BL -BLARGH #SMOL".split()
)

app = Vibora(route_limits=RouteLimits(max_body_size=64 * 1024 * 1024))
executed: dict[int, list[dict[str, object]]] = {}


@app.get("/.executed/<port>")
async def tell(port: int) -> JsonResponse:
    """Return what was executed for the client on a port, and forget it."""
    return JsonResponse(executed.pop(port, []))


@app.route("/<*path>", methods=sorted(METHODS - {"HEAD"}))
async def echo(request: Request) -> JsonResponse:
    """Return the request, after its content is complete."""
    content = await request.content()
    target = request.raw_path.decode("ascii")
    if request.query_string:
        target = f"{target}?{request.query_string}"
    understood: dict[str, object] = {
        "method": request.method,
        "target": target,
        "fields": request.headers.items(),
        "body_b64": base64.b64encode(content).decode(),
    }
    if request.client:
        executed.setdefault(request.client[1], []).append(understood)
    return JsonResponse(understood)


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    app.run(sock=socket.socket(fileno=int(sys.argv[1])))
