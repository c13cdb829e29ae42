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
from vibora.app import Vibora
from vibora.cache import Cache, CacheControl, CachedResponse
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
    NotFound,
    ReverseNotFound,
    Unauthorized,
    ViboraError,
    abort,
)
from vibora.files import FileResponse
from vibora.headers import Headers
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
    "BadRequest",
    "Cache",
    "CacheControl",
    "CachedResponse",
    "ClientDisconnected",
    "ConfigurationError",
    "Conflict",
    "ContentTooLarge",
    "Cookie",
    "FileResponse",
    "Forbidden",
    "HTTPError",
    "Headers",
    "HtmlResponse",
    "JsonResponse",
    "MethodNotAllowed",
    "NotFound",
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
