"""What a handler is given: the request, its arguments and its stream."""

from vibora._core import QueryArgs, Request, RequestStream
from vibora.urls import URL

__all__ = ["URL", "QueryArgs", "Request", "RequestStream", "Stream"]

Stream = RequestStream  # its name in the first Vibora
