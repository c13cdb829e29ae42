"""Ranges of content (RFC 9110 §14): which bytes a `Range` field asks for, and how several are sent as one response."""

import re
import sys
from typing import Final, TypeAlias

#: The first byte, and the one after the last.
Span: TypeAlias = tuple[int, int]

MAX_RANGES: Final = 16
"""More in one request are not served: the whole content is. Protects from clients that make much of little."""

_RANGE: Final = re.compile(r"(?P<first>[0-9]+)-(?P<last>[0-9]*)|-(?P<suffix>[0-9]+)")
_DIGITS: Final = 18


def select_ranges(field: str, size: int) -> list[Span] | None:
    """Return the spans of some content that a `Range` field asks for.

    Those that overlap or touch are made one; they come in the order in which they were first asked for.

    Args:
        field: The value of the field.
        size: Bytes of content.

    Returns:
        None if the field is to be ignored: another unit, a malformed set, too many. An empty list if no range can be
        satisfied (RFC 9110 §15.5.17).
    """
    unit, _, text = field.partition("=")
    # RFC 9110 §14.2: "An origin server MUST ignore a Range header field that contains a range unit it does not
    # understand", and MAY ignore one that is invalid or has many small ranges.
    if unit.lower() != "bytes" or text.count(",") >= 2 * MAX_RANGES:
        return None
    spans: list[Span] = []
    count = 0
    for element in text.split(","):
        spec = element.strip(" \t")
        if (
            not spec
        ):  # RFC 9110 §5.6.1.2: "a recipient MUST parse and ignore a reasonable number of empty list elements"
            continue
        match = _RANGE.fullmatch(spec)
        count += 1
        if match is None or count > MAX_RANGES:
            return None
        if match["suffix"] is not None:
            length = _number(match["suffix"])
            if length > 0 == size:
                return None  # The last bytes of nothing are there, and `Content-Range` cannot say which (§14.4).
            first, stop = max(size - length, 0), size
        else:
            first, stop = _number(match["first"]), size
            if match["last"]:
                last = _number(match["last"])
                if last < first:
                    return None  # RFC 9110 §14.1.1: "An int-range is invalid if the last-pos value is present and less"
                stop = min(last + 1, size)
        if first < stop:
            spans.append((first, stop))
    return _coalesced(spans) if count else None


def _number(digits: str) -> int:
    # A number that long is beyond any content; and `int` refuses to read one of thousands of digits.
    digits = digits.lstrip("0")
    return sys.maxsize if len(digits) > _DIGITS else int(digits or "0")


def _coalesced(spans: list[Span]) -> list[Span]:
    """Return the spans with those that overlap or touch made one, each in the place of the first of them."""
    merged: list[tuple[int, int, int]] = []
    for first, stop, place in sorted((first, stop, place) for place, (first, stop) in enumerate(spans)):
        if merged and first <= merged[-1][1]:
            before = merged[-1]
            merged[-1] = (before[0], max(before[1], stop), min(before[2], place))
        else:
            merged.append((first, stop, place))
    return [(first, stop) for first, stop, _ in sorted(merged, key=lambda span: span[2])]


def content_range(span: Span | None, size: int) -> str:
    """Return the value of a `Content-Range` field (RFC 9110 §14.4).

    Args:
        span: What is sent; None where nothing could be.
        size: Bytes of the whole content.
    """
    return f"bytes */{size}" if span is None else f"bytes {span[0]}-{span[1] - 1}/{size}"


def multipart(spans: list[Span], size: int, content_type: str, boundary: str) -> list[bytes | Span]:
    """Return the content of a `multipart/byteranges` response (RFC 9110 §14.6): delimiters and spans, in order.

    Args:
        spans: What is sent.
        size: Bytes of the whole content.
        content_type: Its media type.
        boundary: What stands between the parts; must not come in the content.
    """
    parts: list[bytes | Span] = []
    for number, span in enumerate(spans):
        fields = f"Content-Type: {content_type}\r\nContent-Range: {content_range(span, size)}\r\n\r\n"
        start = "\r\n" if number else ""
        parts.append(f"{start}--{boundary}\r\n{fields}".encode())
        parts.append(span)
    parts.append(f"\r\n--{boundary}--\r\n".encode())
    return parts
