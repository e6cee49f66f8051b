"""What a limiter is doing, as a frozen record."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ("LimiterStatistics", "RateStatistics")


@dataclass(frozen=True, slots=True, kw_only=True)
class RateStatistics:
    """One rate at one moment."""

    limit: float
    """Units in a window that the limiter keeps to: declared or set since, stated, or found."""
    window: float
    """Seconds."""
    burst: float
    """Units that an idle key lets through at once."""
    available: float
    """Units that would pass now, by the limiter's schedule and by what the provider says is left; negative while a
    large request is being paid off."""
    utilisation: float = 1.0
    """Share of `limit` that sustained load uses; refusals lower it."""
    declared: float | None = None
    """The limit as declared or set since; `None` if it was to be learned."""
    stated: float | None = None
    """The limit as the provider's headers state it, if they do."""
    others: float = 0.0
    """Units a minute that somebody else seems to use of the same key: 0 unless headers show it."""
    unused: float = 0.0
    """Share of what settled calls were charged that they had reserved and did not use: the cost of a `max_tokens` far
    above the answers' length where the provider keeps what is reserved. 0 where it gives that back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LimiterStatistics:
    """One limiter at one moment; counts are since it was made, in this process."""

    name: str
    submitted: int
    """Requests for admission: granted, cancelled and queued ones."""
    granted: int
    cancelled: int
    """Left the queue without admission: cancelled, timed out, or the key was closed."""
    queued: int
    in_flight: int
    """Slots of `concurrency` in use."""
    waited_seconds: float
    """Sum of all waits for admission."""
    paused_for: float
    """Seconds until the present pause ends; 0 without one."""
    closed: str | None = None
    """Why the key is closed, if it is."""
    rates: Mapping[str, RateStatistics] = field(default_factory=dict)
    """The rates, declared or learned, by name."""
    provider: str = ""
    """Whose rules the key is used by: a name, several joined by "+", or "" for the careful default."""
