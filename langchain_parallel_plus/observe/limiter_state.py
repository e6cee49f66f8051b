"""A rate limiter as it stands when a fan-out begins."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ("LimiterState", "RateState")


@dataclass(frozen=True, slots=True, kw_only=True)
class RateState:
    """One rate at one moment."""

    limit: float
    """Units in a window."""
    window: float
    """Seconds."""
    available: float = 0.0
    """Units that would pass at once."""
    unused: float = 0.0
    """At the end of the run: the share of what calls were charged that they had reserved and did not use, where the
    provider keeps that."""

    @property
    def per_second(self) -> float:
        """Units a second."""
        return self.limit / self.window


@dataclass(frozen=True, slots=True, kw_only=True)
class LimiterState:
    """One limiter at one moment."""

    name: str
    rates: Mapping[str, RateState] = field(default_factory=dict)
    """By dimension, such as "requests_per_minute"."""
    concurrency: int | None = None
    """Calls in flight at most."""
    paused_for: float = 0.0
    """Seconds until a pause ends."""
