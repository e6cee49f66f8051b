"""The rate that a limiter keeps to: from the declared limit, the provider's profile, and the care that was learned."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from langchain_parallel_plus.limits.declaration import DAY, DIMENSIONS
from langchain_parallel_plus.limits.planning.bucket import Rate

if TYPE_CHECKING:
    from langchain_parallel_plus.limits.learning.care import Care
    from langchain_parallel_plus.limits.learning.profile import Profile

__all__ = ("found_rate", "known_rate", "unknown_rate")

_NEARLY_WHOLE: Final = 0.95
"""Share of a bucket from which on a burst leaves too little for calls that arrive late."""
_SHORTEST_WINDOW: Final = 1.0
_MUCH: Final = 0.05
"""What refusals have to take off the pace before windows of a second are believed in at any provider."""


def known_rate(
    name: str, limit: float, *, profile: Profile, burst: float | None, care: Care, largest: float | None = None
) -> Rate:
    """Return how to use a limit of `limit` for the dimension `name`.

    A day's quota may go at once: OpenAI and Groq hold it in a bucket of a day's depth, and nobody means a thousand
    requests a day to be one every 88 seconds.

    Args:
        name: One of `DIMENSIONS`.
        limit: Units in the dimension's window.
        profile: How the provider counts.
        burst: Seconds' worth that may go at once, where the user says so.
        care: What refusals have taught.
        largest: Units above which a single request is refused; `None` for `limit`.
    """
    dimension = DIMENSIONS[name]
    if dimension.window == DAY:
        return Rate(limit=limit, window=DAY, burst=limit, refill="bucket", largest=largest)
    counts_requests = dimension.unit == "requests"
    usual = profile.burst if counts_requests else profile.token_burst
    seconds = usual if burst is None else burst
    windows = profile.request_windows if counts_requests else profile.token_windows
    if care.lowered:
        doubtful = profile.doubtful_request_windows if counts_requests else profile.doubtful_token_windows
        windows = tuple(sorted({*windows, *doubtful, *((_SHORTEST_WINDOW,) if care.lowered > _MUCH else ())}))
    return Rate(
        limit=limit,
        window=dimension.window,
        burst=_at_once(limit, seconds * care.burst_share, dimension.window),
        utilisation=care.utilisation(profile.utilisation),
        refill=profile.refill,
        awaits_arrival=profile.refill == "bucket" and seconds > _NEARLY_WHOLE * dimension.window,
        guarded=tuple(length for length in windows if length >= seconds * care.burst_share)
        if profile.refill == "window"
        else (),
        capacity=_at_once(limit, usual, dimension.window) if profile.slack else math.inf,
        slack=profile.slack,
        largest=largest,
    )


def found_rate(name: str, pace: float, *, profile: Profile, burst: float | None) -> Rate:
    """Return how to use a limit that nobody states: `pace` is below what the provider was found to let through."""
    window = DIMENSIONS[name].window
    seconds = min(profile.burst, 1.0) if burst is None else burst
    return Rate(
        limit=pace,
        window=window,
        burst=_at_once(pace, seconds, window),
        utilisation=1.0,
        guarded=(window,) if seconds <= window else (),
        largest=math.inf,
    )


def unknown_rate(name: str) -> Rate:
    """Return the rate of a limit that is not known yet: none."""
    return Rate(limit=math.inf, window=DIMENSIONS[name].window, burst=0.0)


def _at_once(limit: float, seconds: float, window: float) -> float:
    return min(limit, max(1.0, limit * seconds / window))
