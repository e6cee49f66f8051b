"""How OpenAI words its quota: response headers, refusal messages and Go durations.

The headers are those of its rate limit guide; the sentences those of public error reports (community.openai.com, thread
1268905 and others), without the organization and the links. All read in November 2026.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar

from langchain_parallel_plus.testing.dialects.dialect import (
    Dialect,
    Headers,
    encode_json,
    retry_after_ms,
    retry_after_seconds,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from langchain_parallel_plus.testing.quota import Dimension, Reading, Refusal

__all__ = ("LABELS", "OpenAIDialect", "go_duration", "quota_header")

LABELS: Mapping[Dimension, str] = {
    "requests": "requests per min (RPM)",
    "tokens": "tokens per min (TPM)",
    "input_tokens": "input tokens per min (ITPM)",
    "output_tokens": "output tokens per min (OTPM)",
    "requests_per_day": "requests per day (RPD)",
    "tokens_per_day": "tokens per day (TPD)",
}

_STATED: Mapping[Dimension, str] = {
    "requests": "requests",
    "tokens": "tokens",
    "input_tokens": "input-tokens",
    "output_tokens": "output-tokens",
}

_ERROR_TYPES = {401: "invalid_request_error", 403: "invalid_request_error", 429: "requests"}

_TOO_LARGE_HINT = "The input or output tokens must be reduced in order to run successfully."


class OpenAIDialect(Dialect):
    """OpenAI: `x-ratelimit-{limit,remaining,reset}-{requests,tokens}`, `retry-after` and `retry-after-ms`.

    The headers state the minute's limit and what is left of it, also where the server counts over a shorter time: that
    a limit of 60,000 a minute may be enforced as 1,000 a second is told by OpenAI's guide only. Limits by the day are
    not in the headers. A `type` of `insufficient_quota` goes with that code.
    """

    name: ClassVar[str] = "openai"
    failed_requests_count: ClassVar[bool] = True

    def quota_headers(self, readings: tuple[Reading, ...], *, wall: float) -> Headers:
        """Return three headers for each limit by the minute."""
        return tuple(
            header
            for reading in readings
            if (name := _STATED.get(reading.dimension))
            for header in quota_header(name, reading.limit, reading.remaining, go_duration(reading.reset))
        )

    def retry_headers(self, seconds: float | None) -> Headers:
        """Return whole seconds and exact milliseconds."""
        return retry_after_seconds(seconds) + retry_after_ms(seconds)

    def refusal_body(self, model: str, refusal: Refusal) -> bytes:
        """Return the sentence of a 429, word for word."""
        kind = "requests" if refusal.dimension.startswith("requests") else "tokens"
        return self.error_body(429, _message(model, refusal), type=kind, code="rate_limit_exceeded")

    def error_body(
        self,
        status: int,
        message: str,
        *,
        type: str | None = None,
        param: str | None = None,
        code: str | None = None,
        retry_after: float | None = None,
    ) -> bytes:
        """Return an error; the type follows from code or status if it is not given."""
        by_status = _ERROR_TYPES.get(status) or ("server_error" if status >= 500 else "invalid_request_error")
        kind = type or (code if code == "insufficient_quota" else by_status)
        return encode_json({"error": {"message": message, "type": kind, "param": param, "code": code}})


def quota_header(name: str, limit: object, remaining: object, reset: str) -> Headers:
    """Return the three headers of one limit."""
    return (
        (f"x-ratelimit-limit-{name}", str(limit)),
        (f"x-ratelimit-remaining-{name}", str(remaining)),
        (f"x-ratelimit-reset-{name}", reset),
    )


def go_duration(seconds: float) -> str:
    """Return `seconds`, rounded up to a millisecond, as Go prints a duration: `12ms`, `9.816s`, `6m0s`, `1h2m3s`."""
    total_ms = max(0, math.ceil(seconds * 1000 - 1e-6))
    if total_ms == 0:
        return "0s"
    if total_ms < 1000:
        return f"{total_ms}ms"
    minutes, ms = divmod(total_ms, 60_000)
    hours, minutes = divmod(minutes, 60)
    text = f"{ms // 1000}.{ms % 1000:03d}".rstrip("0").rstrip(".") + "s"
    if minutes or hours:
        text = f"{minutes}m{text}"
    return f"{hours}h{text}" if hours else text


def _message(model: str, refusal: Refusal) -> str:
    where = f"for {model} on {LABELS[refusal.dimension]}: Limit {refusal.limit}"
    if refusal.retry_after is None:
        return f"Request too large {where}, Requested {refusal.requested}. {_TOO_LARGE_HINT}"
    return (
        f"Rate limit reached {where}, Used {refusal.used}, Requested {refusal.requested}. "
        f"Please try again in {go_duration(refusal.retry_after)}."
    )
