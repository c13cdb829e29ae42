"""The import path that the first Vibora had for what is now in `vibora.routing`."""

from vibora._core import Route
from vibora.routing import RouterStrategy

__all__ = ["Route", "RouterStrategy"]
