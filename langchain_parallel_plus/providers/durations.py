"""Seconds out of what providers write: numbers, Go durations, HTTP dates, RFC 3339 instants and prose.

No pattern here backtracks, and every text is cut before it is matched.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

__all__ = ("LONGEST", "parse_duration", "parse_instant", "parse_number", "parse_prose", "seconds_until")

LONGEST: Final = 2_678_400.0
"""31 days, the longest quota window that a provider is known to have; a longer time is read as this."""

_NUMBER: Final = re.compile(r"\d{1,32}(?:\.\d{0,32})?|\.\d{1,32}", re.ASCII)
_PART: Final = re.compile(r"(\d{1,18}(?:\.\d{0,18})?|\.\d{1,18})(ns|us|µs|μs|ms|s|m|h|d)", re.ASCII)
_UNITS: Final = {
    "ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0,
}  # fmt: skip
_PROSE: Final = re.compile(
    r"([0-9]{1,9}(?:\.[0-9]{1,9})?) ?(milliseconds?|seconds?|secs?|minutes?|mins?|hours?|days?)\b"
)
_WORDS: Final = {"mil": 1e-3, "sec": 1.0, "min": 60.0, "hou": 3600.0, "day": 86_400.0}


def parse_number(text: str) -> float | None:
    """Return a plain, non-negative decimal number; `None` for signs, exponents, `nan`, `inf` and anything else.

    Example:
        ```python
        assert parse_number("4999") == 4999.0
        assert parse_number("-1") is None
        ```
    """
    text = text[:66].strip()
    return float(text) if _NUMBER.fullmatch(text) else None


def parse_duration(text: str) -> float | None:
    """Return the seconds of a Go duration (`time.ParseDuration`), with days besides: `"6m0s"`, `"12ms"`, `"1h2m3s"`.

    A number without a unit is no duration here, and neither is a negative one: both give `None`.

    Example:
        ```python
        assert parse_duration("6m0s") == 360.0
        assert parse_duration("5.289s") == 5.289
        ```
    """
    text = text[:64].strip()
    seconds, at = 0.0, 0
    while at < len(text):
        part = _PART.match(text, at)
        if part is None:
            return None
        seconds += float(part[1]) * _UNITS[part[2]]
        at = part.end()
    return min(seconds, LONGEST) if text else None


def parse_instant(text: str) -> float | None:
    """Return the POSIX time of an HTTP date (RFC 9110 section 5.6.7) or an RFC 3339 instant; UTC if it has no zone.

    Example:
        ```python
        assert parse_instant("1970-01-01T00:01:00Z") == 60.0
        assert parse_instant("Thu, 01 Jan 1970 00:01:00 GMT") == 60.0
        ```
    """
    text = text[:64].strip()
    try:
        at = datetime.fromisoformat(text) if text[:4].isdigit() else parsedate_to_datetime(text)
        return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def parse_prose(text: str) -> float | None:
    """Return the seconds that `text` begins with, as error messages write them: `"1h12m0s."`, `"86400 seconds"`.

    Example:
        ```python
        assert parse_prose("644ms. Visit ...") == 0.644
        assert parse_prose(" 2 minutes and so on") == 120.0
        ```
    """
    text = text[:64].lower().lstrip()
    if written := _PROSE.match(text):
        return min(float(written[1]) * _WORDS[written[2][:3]], LONGEST)
    end = 0
    while part := _PART.match(text, end):
        end = part.end()
    return parse_duration(text[:end]) if end else None


def seconds_until(text: str, now: float) -> float | None:
    """Return the seconds from `now` (POSIX time) to what a reset header names, in any of its spellings.

    A duration or plain number is relative; a number from 1e9 is a POSIX time in seconds, from 1e12 in milliseconds.
    What has passed is 0.0.
    """
    number = parse_number(text)
    if number is None:
        relative = parse_duration(text)
        if relative is not None:
            return relative
        at = parse_instant(text)
    elif number < 1e9:
        return min(number, LONGEST)
    else:
        at = number if number < 1e12 else number / 1000
    return None if at is None else min(max(at - now, 0.0), LONGEST)
