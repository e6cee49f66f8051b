"""A limit as a continuous bucket that drains evenly: OpenAI's, Groq's and Anthropic's."""

from __future__ import annotations

from dataclasses import dataclass, replace

from langchain_parallel_plus.testing.quota.limit import check_limit, check_seconds, tolerance_of

__all__ = ("Bucket", "Fill")


@dataclass(frozen=True, slots=True)
class Fill:
    """How full a bucket was at one moment."""

    level: float
    """Units in the bucket; above its capacity after a request that is larger."""
    at: float
    """When, in seconds of the caller's clock."""


@dataclass(frozen=True, slots=True)
class Bucket:
    """A continuous token bucket.

    With a `window` of a minute an idle key may use the whole minute's limit at once: OpenAI's behaviour, derived from
    its own errors. In six of six public samples "Limit L, Used U, Requested R. Please try again in X" obeys
    `X = (U + R - L) / (L / 60)` (community.openai.com, thread 1268905 and others, read in November 2026). With a
    `window` of a second the rate is the same, and the burst a sixtieth of it: "60,000 requests/minute may be enforced
    as 1,000 requests/second" (OpenAI's rate limit guide).

    Example:
        ```python
        from langchain_parallel_plus.testing.quota import Bucket

        bucket = Bucket(60)
        full = bucket.charged(bucket.fresh(now=0.0), 60)
        assert bucket.wait(full, 1) == 1.0
        assert bucket.wait(bucket.at(full, now=1.0), 1) == 0.0
        ```

    Raises:
        DeclarationError: If `limit` is not a whole number >= 1, or a time not a number of seconds > 0.
    """

    limit: int
    """Units that drain in `per` seconds."""
    window: float = 60.0
    """Seconds of quota that the bucket holds."""
    per: float = 60.0

    def __post_init__(self) -> None:
        check_limit(self.limit)
        check_seconds(self.window, "window")
        check_seconds(self.per, "per")

    @property
    def capacity(self) -> float:
        """Units that the bucket holds."""
        return self.limit * self.window / self.per

    def fresh(self, now: float) -> Fill:
        """Return an empty bucket."""
        return Fill(0.0, now)

    def at(self, state: Fill, now: float) -> Fill:
        """Return what is left in the bucket at `now`."""
        if now <= state.at:
            return state
        return Fill(max(0.0, state.level - (now - state.at) * self.limit / self.per), now)

    def used(self, state: Fill) -> float:
        """Return the units in the bucket."""
        return state.level

    def wait(self, state: Fill, cost: float) -> float:
        """Return the seconds until `cost` units fit, or until the bucket is empty if they are more than it holds."""
        missing = state.level + (cost - self.capacity if cost <= self.capacity else 0.0)
        return missing * self.per / self.limit if missing > tolerance_of(self.limit) else 0.0

    def reset(self, state: Fill) -> float:
        """Return the seconds until the bucket is empty."""
        return state.level * self.per / self.limit

    def charged(self, state: Fill, cost: float) -> Fill:
        """Return the bucket with `cost` more units in it."""
        return replace(state, level=state.level + cost)

    def refunded(self, state: Fill, amount: float, charged_at: float) -> Fill:
        """Return the bucket with `amount` units fewer, at least empty."""
        return replace(state, level=max(0.0, state.level - amount))
