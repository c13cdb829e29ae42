"""Header fields."""

from vibora._core import Headers

__all__ = ["Headers"]
