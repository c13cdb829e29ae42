"""What a handler is given: the request, its arguments and its stream."""

from vibora._core import QueryArgs, Request, RequestStream

__all__ = ["QueryArgs", "Request", "RequestStream"]
