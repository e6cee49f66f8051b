"""The `google.rpc` details of Gemini's and Vertex AI's errors: RetryInfo, QuotaFailure, ErrorInfo.

They come as JSON (google-genai, plain HTTP) or as protobuf messages (google-api-core).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from langchain_parallel_plus.providers.durations import LONGEST, parse_duration, parse_number
from langchain_parallel_plus.providers.foreign import attribute, entry, items_of, text_of
from langchain_parallel_plus.providers.snapshot import Quota

if TYPE_CHECKING:
    from collections.abc import Iterator

    from langchain_parallel_plus.providers.snapshot import Unit

__all__ = ("GoogleDetails", "read_google_details")

_WINDOWS: Final = {"PerMinute": 60.0, "PerDay": 86_400.0}
_UNITS: Final[dict[str, Unit]] = {
    "InputToken": "input_tokens",
    "OutputToken": "output_tokens",
    "Token": "tokens",
    "Request": "requests",
}
"""What a quota's id says that it counts: the first word of these that is in it."""


@dataclass(frozen=True, slots=True)
class GoogleDetails:
    """What the details say."""

    retry_delay: float | None = None
    """Seconds of RetryInfo."""
    quota_ids: tuple[str, ...] = ()
    """Such as `GenerateRequestsPerDayPerProjectPerModel-FreeTier`."""
    quotas: tuple[Quota, ...] = ()
    """The limits that QuotaFailure names (`quotaValue`), for a minute or a day."""
    reasons: tuple[str, ...] = ()
    """ErrorInfo's, such as `API_KEY_INVALID`."""

    @property
    def day_is_over(self) -> bool:
        """Whether a daily quota is spent and the provider names no time to try again.

        With a RetryInfo it is a rate limit all the same: the quota's id was seen to say "PerDay" on refusals that were
        over after the 36 seconds that RetryInfo said.
        """
        return self.retry_delay is None and any("PerDay" in one for one in self.quota_ids)


def read_google_details(details: object) -> GoogleDetails:
    """Read the first 16 of a status's `details`; those of other types say nothing."""
    entries = items_of(details)
    delays = (_delay(one) for one in entries)
    return GoogleDetails(
        retry_delay=next((delay for delay in delays if delay is not None), None),
        quota_ids=tuple(text_of(found, 256) for one in entries for found in _quota_ids(one) if isinstance(found, str)),
        quotas=tuple(quota for one in entries for quota in _quotas(one)),
        reasons=tuple(reason for one in entries if isinstance(reason := _get(one, "reason", "reason"), str)),
    )


def _get(holder: Any, field: str, key: str) -> Any:
    """Return a message's `field`, or what JSON calls `key`."""
    return entry(holder, key) if isinstance(holder, dict) else attribute(holder, field)


def _delay(detail: Any) -> float | None:
    delay = _get(detail, "retry_delay", "retryDelay")
    if isinstance(delay, str):
        return parse_duration(delay)
    seconds, nanos = _get(delay, "seconds", "seconds"), _get(delay, "nanos", "nanos")
    if not isinstance(seconds, int) or not isinstance(nanos, int | None) or seconds < 0:
        return None
    return min(seconds, LONGEST) + (nanos or 0) / 1e9


def _quota_ids(detail: Any) -> Iterator[Any]:
    for violation in items_of(_get(detail, "violations", "violations")):
        yield _get(violation, "quota_id", "quotaId")
    yield entry(_get(detail, "metadata", "metadata"), "quota_limit")


def _quotas(detail: Any) -> Iterator[Quota]:
    for violation in items_of(_get(detail, "violations", "violations")):
        found, value = _get(violation, "quota_id", "quotaId"), _get(violation, "quota_value", "quotaValue")
        if not isinstance(found, str) or not isinstance(value, str | int) or isinstance(value, bool):
            continue
        name, limit = text_of(found, 256), parse_number(text_of(value, 66) if isinstance(value, str) else str(value))
        window = next((seconds for word, seconds in _WINDOWS.items() if word in name), None)
        unit = next((unit for word, unit in _UNITS.items() if word in name), None)
        if limit and window and unit:  # a limit of 0 is that of a model which the account may not use
            yield Quota(name=name, unit=unit, dialect="google", limit=limit, window=window)
