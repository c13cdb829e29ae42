"""Validators and preconditions (RFC 9110 §8.8, §13): entity tags, dates, and what a conditional request comes to.

Pure: fields as text in, decisions out. What a client sends and cannot be read counts the way the RFC says: a date is
ignored, a list of entity tags does not match.
"""

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from vibora._core import Headers

Verdict = Literal["proceed", "not modified", "failed"]

_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
# RFC 9110 §8.8.3: `entity-tag = [ weak ] opaque-tag`, `etagc = %x21 / %x23-7E / obs-text`.
# Said by what it is not, which is much quicker to compile.
_ENTITY_TAG: Final = re.compile(r'(?:W/)?"[^\x00-\x20"\x7f]*"')
_SEPARATOR: Final = re.compile(r"[ \t]*,[ \t,]*")


@lru_cache(1024)
def format_date(seconds: int) -> str:
    """Return a moment as an HTTP-date (RFC 9110 §5.6.7).

    Args:
        seconds: Since 1970, UTC.

    Raises:
        ValueError: If it is no date of the years 1 to 9999.
    """
    try:
        date = datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, OSError) as error:
        raise ValueError(f"not a moment of the years 1 to 9999: {seconds!r}") from error
    return f"{_DAYS[date.weekday()]}, {date:%d} {_MONTHS[date.month - 1]} {date.year:04} {date:%H:%M:%S} GMT"


@cache
def _date_patterns() -> list[re.Pattern[str]]:
    days, months = "|".join(_DAYS), "|".join(_MONTHS)
    time = r"(?P<hour>\d\d):(?P<minute>\d\d):(?P<second>\d\d)"
    # RFC 9110 §5.6.7: "A recipient that parses a timestamp value in an HTTP field MUST accept all three HTTP-date
    # formats."
    return [
        re.compile(pattern, re.ASCII)
        for pattern in (
            rf"(?:{days}), (?P<day>\d\d) (?P<month>{months}) (?P<year>\d{{4}}) {time} GMT",
            rf"(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day, (?P<day>\d\d)-(?P<month>{months})-(?P<year>\d\d) {time} GMT",
            rf"(?:{days}) (?P<month>{months}) (?P<day>[\d ]\d) {time} (?P<year>\d{{4}})",
        )
    ]


def parse_date(text: str) -> int | None:
    """Return the moment that an HTTP-date in one of its three formats means, in seconds since 1970; None if it is none.

    Args:
        text: The value of the field.
    """
    match = next((match for pattern in _date_patterns() if (match := pattern.fullmatch(text))), None)
    if match is None:
        return None
    year = int(match["year"])
    if len(match["year"]) == 2:
        # RFC 9110 §5.6.7: a year "that appears to be more than 50 years in the future" is "the most recent year in the
        # past that had the same last two digits".
        now = datetime.now(UTC).year
        year += now // 100 * 100
        if year > now + 50:
            year -= 100
    hour, minute, second = (int(match[name]) for name in ("hour", "minute", "second"))
    try:
        date = datetime(
            year,
            _MONTHS.index(match["month"]) + 1,
            int(match["day"]),
            hour,
            minute,
            min(second, 59) if second <= 60 else second,  # a leap second
            tzinfo=UTC,
        )
    except ValueError:
        return None
    return int(date.timestamp())


def is_entity_tag(text: str) -> bool:
    """Return whether this is an entity tag, weak or strong.

    Args:
        text: The value of an `ETag` field.
    """
    return _ENTITY_TAG.fullmatch(text) is not None


def _entity_tags(text: str) -> Iterator[str]:
    """Yield the entity tags of a list, up to where it is malformed."""
    at = len(text) - len(text.lstrip(" \t,"))
    while tag := _ENTITY_TAG.match(text, at):
        yield tag[0]
        separator = _SEPARATOR.match(text, tag.end())
        if separator is None:
            return
        at = separator.end()


def matches_strongly(tag: str, other: str) -> bool:
    """Compare two entity tags by the strong comparison (RFC 9110 §8.8.3.2).

    Args:
        tag: One of them.
        other: The other.
    """
    return tag == other and not tag.startswith("W/")


def matches_weakly(tag: str, other: str) -> bool:
    """Compare two entity tags by the weak comparison (RFC 9110 §8.8.3.2).

    Args:
        tag: One of them.
        other: The other.
    """
    return tag.removeprefix("W/") == other.removeprefix("W/")


class Conditions:
    """What a request says about the content it wants: its method, its preconditions, its ranges.

    Each field is the value of its lines, joined: a date or a range that comes twice is malformed, a list goes on.

    Args:
        method: The method.
        headers: The header section.
    """

    __slots__ = ("if_match", "if_modified_since", "if_none_match", "if_range", "if_unmodified_since", "method", "range")

    def __init__(self, method: str, headers: "Headers") -> None:
        self.method = method
        self.if_match = joined(headers, "if-match")
        self.if_none_match = joined(headers, "if-none-match")
        self.if_modified_since = joined(headers, "if-modified-since")
        self.if_unmodified_since = joined(headers, "if-unmodified-since")
        self.if_range = joined(headers, "if-range")
        self.range = joined(headers, "range")

    def judge(self, etag: str | None, modified: int | None) -> Verdict:
        """Evaluate the preconditions, in the order of RFC 9110 §13.2.2.

        Args:
            etag: The entity tag of the selected representation; None when it has none.
            modified: When it was modified, in seconds since 1970; None when that is not known.
        """
        if self.method not in ("GET", "HEAD"):
            # RFC 9110 §13.2.1: they are evaluated "just before [performing] the action associated with the request
            # method". Whoever answers another method with a file has performed it.
            return "proceed"
        if self.if_match is not None:
            if not _lists(self.if_match, etag, matches_strongly):
                return "failed"
        elif self.if_unmodified_since is not None:
            date = parse_date(self.if_unmodified_since)
            if date is not None and modified is not None and modified > date:
                return "failed"
        if self.if_none_match is not None:
            if _lists(self.if_none_match, etag, matches_weakly):
                return "not modified"
        elif self.if_modified_since is not None:
            date = parse_date(self.if_modified_since)
            if date is not None and modified is not None and modified <= date:
                return "not modified"
        return "proceed"

    def wanted_range(self, etag: str | None, modified: int | None, now: float) -> str | None:
        """Return the `Range` field if it applies; None where the whole content is to be sent.

        Args:
            etag: The entity tag of the selected representation; None when it has none.
            modified: When it was modified, in seconds since 1970; None when that is not known.
            now: The same of this moment.
        """
        # RFC 9110 §14.2: GET "is the only method for which range handling is defined".
        if self.range is None or self.method != "GET":
            return None
        if self.if_range is None:
            return self.range
        if is_entity_tag(self.if_range):
            matched = etag is not None and matches_strongly(self.if_range, etag)
        else:
            # RFC 9110 §13.1.5, §8.8.2.2: an exact match, and a date that is no weak validator: the content may change
            # again in the second in which it has changed.
            date = parse_date(self.if_range)
            matched = date is not None and date == modified and now >= date + 1
        return self.range if matched else None


def joined(headers: "Headers", name: str) -> str | None:
    """Return the lines of a field as one value (RFC 9110 §5.3); None when there is none.

    Args:
        headers: The header section.
        name: The name of the field.
    """
    values = headers.get_all(name)
    return ", ".join(values) if values else None


def _lists(field: str, etag: str | None, matches: Callable[[str, str], bool]) -> bool:
    """Return whether an `If-Match` or `If-None-Match` field has the tag. `*` stands for any."""
    if field == "*":
        return True
    return etag is not None and any(matches(tag, etag) for tag in _entity_tags(field))
