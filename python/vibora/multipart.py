"""Multipart content: the parser, what it is made of, and the files that come of it.

A handler calls `request.form()`, `request.files()` or `request.multipart()` and needs nothing from here but types.
"""

from vibora._core import MultipartParser, PartHead
from vibora.forms import Multipart, Part, UploadedFile, UploadedFiles

__all__ = ["Multipart", "MultipartParser", "Part", "PartHead", "UploadedFile", "UploadedFiles"]
