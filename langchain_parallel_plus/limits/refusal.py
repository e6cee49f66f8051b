"""What a provider's refusal means for the limiter: pause the key, or close it.

Duck-typed, without any provider's package. Sources: OpenAI's error codes guide (a 429 with `insufficient_quota` is no
rate limit: billing is exhausted), Anthropic's errors page (402 `billing_error`), RFC 9110 section 10.2.3 (Retry-After).
Everything here was sent by somebody else, so any attribute may be missing, of another type, or raise.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from langchain_core.outputs import LLMResult

__all__ = ("Refusal", "read_refusal")

_TOO_MANY_REQUESTS: Final = 429
_EXHAUSTED: Final = frozenset(
    {
        "insufficient_quota",
        "credit_balance_exhausted",
        "billing_hard_limit_reached",
        "organization_usage_limit_exceeded",
        "organization_spend_limit_exceeded",
        "project_spend_limit_exceeded",
        "billing_error",
    }
)
_LONGEST_PAUSE: Final = 86_400.0
_READ_AT_MOST: Final = 2_000
_TRY_AGAIN: Final = re.compile(
    r"(?:try again|retry) in (?:(\d{1,6})m(?!s))?(?:(\d{1,9}(?:\.\d{1,9})?)(ms|s))?", re.IGNORECASE
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A provider's refusal of a call for reasons of quota."""

    exhausted: str | None = None
    """The provider's code, if the account is out of quota: waiting does not help."""
    retry_after: float | None = None
    """Seconds to wait, if the provider says so."""
    too_large: bool = False
    """The one request is larger than the limit: others may go on."""


def read_refusal(
    error: BaseException, response: LLMResult | None = None, *, now: Callable[[], datetime] | None = None
) -> Refusal | None:
    """Return what `error` says about the quota; `None` if it is about something else.

    Args:
        error: What the call raised.
        response: What LangChain passes to `on_llm_error` with it: status and headers are in its metadata.
        now: The time of day, for a Retry-After that is a date.
    """
    facts = [*_facts_of(error), *_metadata(response)]
    codes = {code for fact in facts for code in _codes(fact)}
    if exhausted := sorted(codes & _EXHAUSTED):
        return Refusal(exhausted=exhausted[0])
    statuses = {
        status for fact in facts for status in (fact.get("status_code"), fact.get("code")) if _is_number(status)
    }
    if _TOO_MANY_REQUESTS not in statuses and "rate_limit_exceeded" not in codes:
        return None
    text = _text(error)
    if "request too large" in text.lower():
        return Refusal(too_large=True)
    waits = (_retry_after(fact.get("headers"), now) for fact in facts)
    seconds = next((wait for wait in waits if wait is not None), None)
    return Refusal(retry_after=_try_again(text) if seconds is None else seconds)


def _facts_of(error: BaseException) -> Iterator[Mapping[str, Any]]:
    response = _get(error, "response")
    yield {
        "status_code": _get(error, "status_code") or _get(response, "status_code"),
        "code": _get(error, "code"),
        "body": _get(error, "body"),
        "headers": _get(response, "headers"),
    }


def _metadata(response: LLMResult | None) -> Iterator[Mapping[str, Any]]:
    for generations in _get(response, "generations") or ():
        for generation in generations:
            metadata = _get(_get(generation, "message"), "response_metadata")
            if isinstance(metadata, dict):
                yield metadata


def _is_number(value: object) -> bool:
    return isinstance(value, int)


def _codes(fact: Mapping[str, Any]) -> Iterator[str]:
    body = fact.get("body")
    details = body.get("error", body) if isinstance(body, dict) else None
    found = (fact.get("code"), *((details.get("code"), details.get("type")) if isinstance(details, dict) else ()))
    return (code for code in found if isinstance(code, str))


def _retry_after(headers: Any, now: Callable[[], datetime] | None) -> float | None:
    try:
        lowered = {str(name).lower(): str(value) for name, value in dict(headers or {}).items()}
    except (TypeError, ValueError):
        return None
    milliseconds = _seconds(lowered.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    value = lowered.get("retry-after")
    seconds = _seconds(value)
    return _until(value, now) if seconds is None else seconds


def _seconds(value: str | None) -> float | None:
    try:
        seconds = float((value or "")[:32])
    except ValueError:
        return None
    return min(seconds, _LONGEST_PAUSE) if math.isfinite(seconds) and seconds >= 0 else None


def _until(value: str | None, now: Callable[[], datetime] | None) -> float | None:
    try:
        at = parsedate_to_datetime((value or "")[:64])
    except ValueError:
        return None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    present = now() if now else datetime.now(UTC)
    return min(max((at - present).total_seconds(), 0.0), _LONGEST_PAUSE)


def _try_again(text: str) -> float | None:
    found = _TRY_AGAIN.search(text)
    if found is None or not (found[1] or found[2]):
        return None
    seconds = 60 * float(found[1] or 0) + float(found[2] or 0) / (1000 if found[3] == "ms" else 1)
    return min(seconds, _LONGEST_PAUSE)


def _text(error: BaseException) -> str:
    try:
        return str(error)[:_READ_AT_MOST]
    except Exception:  # noqa: BLE001 - a foreign __str__
        return ""


def _get(holder: Any, name: str) -> Any:
    try:
        return getattr(holder, name, None)
    except Exception:  # noqa: BLE001 - a foreign property
        return None
