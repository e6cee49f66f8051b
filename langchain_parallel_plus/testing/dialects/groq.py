"""How Groq words its quota: OpenAI's header names, of which `requests` is the day's."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from langchain_parallel_plus.testing.dialects.dialect import Headers, retry_after_seconds
from langchain_parallel_plus.testing.dialects.openai import LABELS, OpenAIDialect, go_duration, quota_header

if TYPE_CHECKING:
    from collections.abc import Mapping

    from langchain_parallel_plus.testing.quota import Dimension, Reading, Refusal

__all__ = ("GroqDialect",)

_STATED: Mapping[Dimension, str] = {"requests_per_day": "requests", "tokens": "tokens"}


class GroqDialect(OpenAIDialect):
    """Groq (console.groq.com/docs/rate-limits, read in November 2026).

    `x-ratelimit-*-requests` always refers to requests per day, `x-ratelimit-*-tokens` to tokens per minute; the limit
    of requests per minute is enforced and not told. `retry-after` is set on a 429 only, in whole seconds. A request
    larger than the limit itself is a 413 (continuedev/continue issue 10218, ha-groq-cloud-api issue 27).
    """

    name: ClassVar[str] = "groq"
    failed_requests_count: ClassVar[bool] = False

    def quota_headers(self, readings: tuple[Reading, ...], *, wall: float) -> Headers:
        """Return three headers for the day's requests and the minute's tokens, as far as they are limited."""
        return tuple(
            header
            for reading in readings
            if (name := _STATED.get(reading.dimension))
            for header in quota_header(name, reading.limit, reading.remaining, go_duration(reading.reset))
        )

    def retry_headers(self, seconds: float | None) -> Headers:
        """Return whole seconds."""
        return retry_after_seconds(seconds)

    def refusal_status(self, refusal: Refusal) -> int:
        """Return 413 for a request that never fits."""
        return 413 if refusal.retry_after is None else 429

    def refusal_body(self, model: str, refusal: Refusal) -> bytes:
        """Return the sentence of a 429, word for word."""
        where = (
            f"for model `{model}` in organization `org_simulator` service tier `on_demand` on "
            f"{LABELS[refusal.dimension].replace('per min', 'per minute')}: Limit {refusal.limit}"
        )
        kind = "requests" if refusal.dimension.startswith("requests") else "tokens"
        if refusal.retry_after is None:
            message = (
                f"Request too large {where}, Requested {refusal.requested}, please reduce your message size and try "
                "again."
            )
        else:
            message = (
                f"Rate limit reached {where}, Used {refusal.used}, Requested {refusal.requested}. "
                f"Please try again in {go_duration(refusal.retry_after)}."
            )
        return self.error_body(429, message, type=kind, code="rate_limit_exceeded")
