"""The import path that the first Vibora had for `vibora.app`."""

from vibora.app import Vibora

__all__ = ["Application", "Vibora"]

Application = Vibora
