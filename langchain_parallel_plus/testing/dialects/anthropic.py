"""How Anthropic words its quota: a header for each value, resets as RFC 3339 instants, errors with a type."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, ClassVar

from langchain_parallel_plus.testing.dialects.dialect import (
    Dialect,
    Headers,
    encode_json,
    retry_after_seconds,
    whole_seconds,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from langchain_parallel_plus.testing.quota import Dimension, Reading, Refusal

__all__ = ("AnthropicDialect",)

_STATED: Mapping[Dimension, str] = {
    "requests": "requests",
    "tokens": "tokens",
    "input_tokens": "input-tokens",
    "output_tokens": "output-tokens",
}

_LABELS: Mapping[Dimension, str] = {
    "requests": "requests per minute",
    "tokens": "tokens per minute",
    "input_tokens": "input tokens per minute",
    "output_tokens": "output tokens per minute",
    "requests_per_day": "requests per day",
    "tokens_per_day": "tokens per day",
}

_ERROR_TYPES = {
    400: "invalid_request_error", 401: "authentication_error", 402: "billing_error", 403: "permission_error",
    404: "not_found_error", 413: "request_too_large", 429: "rate_limit_error", 504: "timeout_error",
    529: "overloaded_error",
}  # fmt: skip


class AnthropicDialect(Dialect):
    """Anthropic (docs.anthropic.com, "Rate limits" and "Errors", read in November 2026).

    `anthropic-ratelimit-{requests,tokens,input-tokens,output-tokens}-{limit,remaining,reset}`; `tokens` repeats
    whichever limit of tokens is the tightest at the time. Resets are instants in whole seconds, rounded up, and
    `retry-after` is whole seconds. Remainders are exact here, where Anthropic rounds those of tokens to thousands. The
    sentence of a refusal is that of anthropics/claude-code issue 55132 (2026-04).
    """

    name: ClassVar[str] = "anthropic"

    def quota_headers(self, readings: tuple[Reading, ...], *, wall: float) -> Headers:
        """Return three headers for each limit by the minute, and for the tightest limit of tokens."""
        named = [(name, reading) for reading in readings if (name := _STATED.get(reading.dimension))]
        of_tokens = [reading for name, reading in named if name in ("input-tokens", "output-tokens")]
        if of_tokens and all(name != "tokens" for name, _ in named):
            named.append(("tokens", min(of_tokens, key=lambda reading: reading.remaining / reading.limit)))
        return tuple(header for name, reading in named for header in _headers(name, reading, wall))

    def retry_headers(self, seconds: float | None) -> Headers:
        """Return whole seconds."""
        return retry_after_seconds(seconds)

    def refusal_body(self, model: str, refusal: Refusal) -> bytes:
        """Return the sentence of a 429; of a request that never fits, too."""
        message = (
            f"This request would exceed your organization's rate limit of {refusal.limit:,} "
            f"{_LABELS[refusal.dimension]} (org: org_simulator, model: {model}). For details, refer to: "
            "https://docs.claude.com/en/api/rate-limits. You can see the response headers for current usage. Please "
            "reduce the prompt length or the maximum tokens requested, or try again later."
        )
        return self.error_body(429, message)

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
        """Return an error; `code`, if given, stands in `error.details.error_code`."""
        kind = type or _ERROR_TYPES.get(status) or ("api_error" if status >= 500 else "invalid_request_error")
        error: dict[str, object] = {"type": kind, "message": message}
        if code is not None:
            error["details"] = {"error_code": code}
        return encode_json({"type": "error", "error": error})


def _headers(name: str, reading: Reading, wall: float) -> Headers:
    reset = datetime.fromtimestamp(whole_seconds(wall + reading.reset), UTC)
    return (
        (f"anthropic-ratelimit-{name}-limit", str(reading.limit)),
        (f"anthropic-ratelimit-{name}-remaining", str(reading.remaining)),
        (f"anthropic-ratelimit-{name}-reset", reset.strftime("%Y-%m-%dT%H:%M:%SZ")),
    )
