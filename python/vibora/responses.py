"""What a handler returns."""

from vibora._core import (
    HtmlResponse,
    JsonResponse,
    RedirectResponse,
    Response,
    StreamingResponse,
    TextResponse,
)

__all__ = [
    "HtmlResponse",
    "JsonResponse",
    "RedirectResponse",
    "Response",
    "StreamingResponse",
    "TextResponse",
]
