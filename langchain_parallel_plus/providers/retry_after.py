"""How long a provider asks to wait, wherever it says so."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Final

from langchain_parallel_plus.providers.durations import LONGEST, parse_number, parse_prose, seconds_until
from langchain_parallel_plus.providers.evidence import read_evidence
from langchain_parallel_plus.providers.foreign import lowered_headers
from langchain_parallel_plus.providers.headers import parse_rate_limit_headers

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from langchain_parallel_plus.providers.evidence import Evidence

__all__ = ("hint_in", "retry_after", "retry_after_header")

_PROSE: Final = re.compile(r"(?:try again|retry) (?:in|after) |retry_?delay['\"]?\s?[:=]\s?['\"]?", re.IGNORECASE)


def retry_after(error: BaseException, *, now: Callable[[], float] = time.time) -> float | None:
    """Return the seconds that `error` itself asks to wait before the next try, at most 31 days, or `None`.

    In this order: `retry-after-ms`, `retry-after` (seconds or an HTTP date), Google's RetryInfo, "try again in 1.5s" in
    the message, and the reset of the quotas that the headers say are exhausted. Headers are those of `error.response`,
    `error.headers` or botocore's `ResponseMetadata`. Causes are not looked at: `classify` does that.

    Args:
        error: What a client raised.
        now: POSIX time in seconds, for hints that are instants.

    Example:
        ```python
        assert retry_after(RuntimeError("Rate limit reached. Please try again in 644ms.")) == 0.644
        ```
    """
    return hint_in(read_evidence(error), now=now())


def hint_in(evidence: Evidence, *, now: float) -> float | None:
    """Return the seconds to wait that `evidence` names, in the order of `retry_after`."""
    header = retry_after_header(evidence.headers, now)
    if header is not None:
        return header
    if evidence.google.retry_delay is not None:
        return evidence.google.retry_delay
    written = _prose(evidence.message)
    return _reset(evidence.headers, now) if written is None else written


def retry_after_header(headers: object, now: float) -> float | None:
    """Return the seconds of `retry-after-ms` or `retry-after`, at most 31 days; a date that has passed is 0.0.

    Negative numbers, `nan`, `inf` and what is neither number nor date are as if they were not there.
    """
    lowered = lowered_headers(headers)
    milliseconds = parse_number(lowered.get("retry-after-ms", ""))
    if milliseconds is not None:
        return min(milliseconds / 1000, LONGEST)
    value = lowered.get("retry-after")
    if value is None:
        return None
    seconds = parse_number(value)
    return seconds_until(value, now) if seconds is None else min(seconds, LONGEST)


def _prose(message: str) -> float | None:
    """Return the first time to wait in a message.

    "Please try again in 6m0s" (OpenAI, Groq), "Please retry in 47.4s" (Gemini), "Please retry after 86400 seconds"
    (Azure), and RetryInfo where a wrapper left only its text.
    """
    found = (parse_prose(message[match.end() :][:64]) for match in _PROSE.finditer(message))
    return next((seconds for seconds in found if seconds is not None), None)


def _reset(headers: Mapping[str, str], now: float) -> float | None:
    """Return when the exhausted quotas are reset; without one, the reset that stands alone, as Azure sends it."""
    snapshot = parse_rate_limit_headers(headers, now)
    if snapshot.wait is not None:
        return snapshot.wait
    alone = [one.reset for one in snapshot.quotas if one.remaining is None and one.limit is None and one.reset]
    return max(alone, default=None)
