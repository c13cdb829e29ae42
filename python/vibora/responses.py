"""What a handler returns."""

from vibora._core import (
    DeferredResponse,
    HtmlResponse,
    JsonResponse,
    RedirectResponse,
    Response,
    StreamingResponse,
    TextResponse,
)
from vibora.cache import CachedResponse
from vibora.files import FileResponse

__all__ = [
    "CachedResponse",
    "DeferredResponse",
    "FileResponse",
    "HtmlResponse",
    "JsonResponse",
    "RedirectResponse",
    "Response",
    "StreamingResponse",
    "TextResponse",
]
