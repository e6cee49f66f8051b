"""How OpenAI words its quota: response headers, refusal messages and Go durations."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from langchain_parallel_plus.testing.simulator.quota import Dimension, Reading, Refusal

__all__ = ("go_duration", "quota_headers", "refusal_message", "retry_headers")

_LABELS: Mapping[Dimension, str] = {"requests": "requests per min (RPM)", "tokens": "tokens per min (TPM)"}

_TOO_LARGE_HINT = "The input or output tokens must be reduced in order to run successfully."


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


def quota_headers(readings: tuple[Reading, ...]) -> tuple[tuple[str, str], ...]:
    """Return the `x-ratelimit-{limit,remaining,reset}-{requests,tokens}` headers of a response."""
    return tuple(
        header
        for reading in readings
        for header in (
            (f"x-ratelimit-limit-{reading.dimension}", str(reading.limit)),
            (f"x-ratelimit-remaining-{reading.dimension}", str(reading.remaining)),
            (f"x-ratelimit-reset-{reading.dimension}", go_duration(reading.reset)),
        )
    )


def retry_headers(seconds: float | None) -> tuple[tuple[str, str], ...]:
    """Return `retry-after` (whole seconds, rounded up, at least 1) and `retry-after-ms` (exact); nothing for None."""
    if seconds is None:
        return ()
    ms = math.ceil(seconds * 1000 - 1e-6)
    return ("retry-after", str(max(1, math.ceil(ms / 1000)))), ("retry-after-ms", str(ms))


def refusal_message(model: str, refusal: Refusal) -> str:
    """Return the sentence of a 429, word for word as OpenAI writes it, without the organization and the links."""
    where = f"for {model} on {_LABELS[refusal.dimension]}: Limit {refusal.limit}"
    if refusal.retry_after is None:
        return f"Request too large {where}, Requested {refusal.requested}. {_TOO_LARGE_HINT}"
    return (
        f"Rate limit reached {where}, Used {refusal.used}, Requested {refusal.requested}. "
        f"Please try again in {go_duration(refusal.retry_after)}."
    )
