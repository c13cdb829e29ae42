"""The project's own cases, written from RFC 9110, RFC 9112 and RFC 3986, in the order of RFC 9112."""

from collections.abc import Iterator
from itertools import chain

from . import bodies, connections, heads
from .case import Case


def cases() -> Iterator[Case]:
    """Return every case."""
    return chain(heads.cases(), bodies.cases(), connections.cases())
