"""Vibora: a fast asynchronous web framework with its own HTTP server, hard to take hostage.

```python
from vibora import JsonResponse, Vibora

app = Vibora()

@app.get("/")
async def home() -> JsonResponse:
    return JsonResponse({"hello": "world"})
```
"""

from vibora._core import __version__
from vibora.access import AccessLog
from vibora.app import Vibora
from vibora.blueprints import Blueprint, CallNext
from vibora.cache import Cache, CacheControl, CachedResponse
from vibora.components import Component
from vibora.cookies import Cookie
from vibora.exceptions import (
    BadRequest,
    ClientDisconnected,
    ConfigurationError,
    Conflict,
    ContentTooLarge,
    Forbidden,
    HTTPError,
    MethodNotAllowed,
    MissingComponent,
    NotFound,
    ReverseNotFound,
    Unauthorized,
    ViboraError,
    abort,
)
from vibora.files import FileResponse
from vibora.headers import Headers
from vibora.hooks import Events, Hook, Outcome
from vibora.limits import RouteLimits, ServerLimits
from vibora.request import Request
from vibora.responses import (
    HtmlResponse,
    JsonResponse,
    RedirectResponse,
    Response,
    StreamingResponse,
    TextResponse,
)
from vibora.routing import RouterStrategy
from vibora.static import StaticHandler

__all__ = [
    "AccessLog",
    "BadRequest",
    "Blueprint",
    "Cache",
    "CacheControl",
    "CachedResponse",
    "CallNext",
    "ClientDisconnected",
    "Component",
    "ConfigurationError",
    "Conflict",
    "ContentTooLarge",
    "Cookie",
    "Events",
    "FileResponse",
    "Forbidden",
    "HTTPError",
    "Headers",
    "Hook",
    "HtmlResponse",
    "JsonResponse",
    "MethodNotAllowed",
    "MissingComponent",
    "NotFound",
    "Outcome",
    "RedirectResponse",
    "Request",
    "Response",
    "ReverseNotFound",
    "RouteLimits",
    "RouterStrategy",
    "ServerLimits",
    "StaticHandler",
    "StreamingResponse",
    "TextResponse",
    "Unauthorized",
    "Vibora",
    "ViboraError",
    "__version__",
    "abort",
]
