"""The provider's quota as a pure model: frozen configuration, frozen state, no clock and no I/O.

OpenAI's limits are continuous buckets that hold one minute of quota. This is derived from its own errors: in six of six
public samples, "Limit L, Used U, Requested R. Please try again in X" obeys `X = (U + R - L) / (L / 60)` exactly
(community.openai.com, thread 1268905 and others, read in November 2026). Two further facts:

- Refused and failed requests count against the requests limit (OpenAI's rate limit guide, "Error mitigation"). A bucket
  cannot hold more than its limit, which is why public refusals read "Limit 3, Used 3, Requested 1. Please try again in
  20s" and "Limit 500, Used 500, Requested 1. Please try again in 120ms": always one whole unit away.
- Tokens are charged when a request is admitted, from its prompt and `max_tokens`, and never given back.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from langchain_parallel_plus.errors import DeclarationError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ("Bucket", "Decision", "Dimension", "Fill", "Quota", "QuotaState", "Reading", "Refusal")

Dimension = Literal["requests", "tokens"]
"""What a quota counts; each dimension is counted per minute."""

_TOLERANCE = 1e-8
"""Share of a limit below which two fill levels are the same: floats carry the clock's rounding error."""


@dataclass(frozen=True, slots=True)
class Fill:
    """How full a bucket was at one moment."""

    used: float
    """Units in the bucket."""
    at: float
    """When, in seconds of the caller's clock."""


@dataclass(frozen=True, slots=True)
class Bucket:
    """One limit as a continuous bucket: it drains evenly and holds one window of quota.

    Raises:
        DeclarationError: If `limit` is not a positive whole number or `window` not a positive number of seconds.
    """

    limit: int
    """Units admitted in each window; also the capacity."""
    window: float = 60.0
    """Seconds in which a full bucket drains."""

    def __post_init__(self) -> None:
        if not isinstance(self.limit, int) or isinstance(self.limit, bool) or self.limit < 1:
            raise DeclarationError(
                f"a quota must be a whole number >= 1, got {self.limit!r}",
                help="leave it out (None) for no limit",
            )
        if not (math.isfinite(self.window) and self.window > 0):
            raise DeclarationError(f"a quota's window must be seconds > 0, got {self.window!r}")

    @property
    def tolerance(self) -> float:
        """Units below which two fill levels count as equal."""
        return self.limit * _TOLERANCE

    def drained(self, fill: Fill, now: float) -> Fill:
        """Return the bucket as it is at `now`; a clock that went back drains nothing."""
        if now <= fill.at:
            return fill
        return Fill(max(0.0, fill.used - (now - fill.at) * self.limit / self.window), now)

    def fits(self, fill: Fill, cost: int) -> bool:
        """Return whether `cost` units fit on top of what is in the bucket."""
        return fill.used + cost <= self.limit + self.tolerance

    def charged(self, fill: Fill, cost: int) -> Fill:
        """Return the bucket with `cost` more units in it, at most full."""
        return replace(fill, used=min(float(self.limit), fill.used + cost))

    def whole_used(self, fill: Fill) -> int:
        """Return the used units as the provider prints them: whole, rounded up."""
        return min(self.limit, math.ceil(fill.used - self.tolerance))

    def wait(self, fill: Fill, cost: int) -> float:
        """Return the seconds until `cost` units fit: from whole used units, in whole milliseconds, rounded up."""
        missing = self.whole_used(fill) + cost - self.limit
        return 0.0 if missing <= 0 else _ceil_ms(missing * self.window / self.limit)

    def reset(self, fill: Fill) -> float:
        """Return the seconds until the bucket is empty again."""
        return _ceil_ms(fill.used * self.window / self.limit)


@dataclass(frozen=True, slots=True)
class Reading:
    """One dimension as the response headers report it."""

    dimension: Dimension
    limit: int
    remaining: int
    """Whole units that are free now, rounded down."""
    reset: float
    """Seconds until the whole limit is free again."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request was not admitted: the dimension that makes it wait longest, with the numbers of the message."""

    dimension: Dimension
    limit: int
    used: int
    requested: int
    retry_after: float | None
    """Seconds until the same request is admitted if nobody else asks; None if it needs more than the limit itself."""


@dataclass(frozen=True, slots=True)
class QuotaState:
    """How full each bucket of a `Quota` is, in the order of its dimensions."""

    fills: tuple[Fill, ...]


@dataclass(frozen=True, slots=True)
class Decision:
    """What the provider decided about one request, and the state after it."""

    state: QuotaState
    readings: tuple[Reading, ...]
    refusal: Refusal | None
    """None if the request is admitted."""

    @property
    def admitted(self) -> bool:
        """Whether the request may run."""
        return self.refusal is None


@dataclass(frozen=True, slots=True)
class Quota:
    """What one API key may use, per minute. A dimension that is None has no limit.

    Example:
        ```python
        from langchain_parallel_plus.testing.simulator.quota import Bucket, Quota

        quota = Quota(requests=Bucket(3))
        state = quota.fresh(now=0.0)
        for _ in range(3):
            state = quota.admit(state, now=0.0, tokens=0).state
        refusal = quota.admit(state, now=0.0, tokens=0).refusal
        assert refusal is not None
        assert refusal.retry_after == 20.0
        ```
    """

    requests: Bucket | None = None
    tokens: Bucket | None = None

    @property
    def buckets(self) -> tuple[tuple[Dimension, Bucket], ...]:
        """The limited dimensions with their buckets."""
        pairs: tuple[tuple[Dimension, Bucket | None], ...] = (("requests", self.requests), ("tokens", self.tokens))
        return tuple((dimension, bucket) for dimension, bucket in pairs if bucket is not None)

    def fresh(self, *, now: float) -> QuotaState:
        """Return the state of a key that has used nothing."""
        return QuotaState(tuple(Fill(0.0, now) for _ in self.buckets))

    def admit(self, state: QuotaState, *, now: float, tokens: int) -> Decision:
        """Decide about one request that needs one request unit and `tokens` token units, all or nothing.

        An admitted request is charged on every dimension. A refused one is charged on requests only, as far as the
        bucket can hold it. If no other request comes, the same request is admitted `retry_after` seconds later.

        Args:
            state: The state left by the previous decision.
            now: The time of arrival, in seconds of any clock that does not go back.
            tokens: What the provider counts for the request at admission.
        """
        cost: Mapping[Dimension, int] = {"requests": 1, "tokens": tokens}
        rows = [
            (dimension, bucket, bucket.drained(fill, now))
            for (dimension, bucket), fill in zip(self.buckets, state.fills, strict=True)
        ]
        admitted = all(bucket.fits(fill, cost[dimension]) for dimension, bucket, fill in rows)
        after = [
            (
                dimension,
                bucket,
                bucket.charged(fill, cost[dimension]) if admitted or dimension == "requests" else fill,
            )
            for dimension, bucket, fill in rows
        ]
        return Decision(
            state=QuotaState(tuple(fill for _, _, fill in after)),
            readings=tuple(_reading(dimension, bucket, fill) for dimension, bucket, fill in after),
            refusal=None if admitted else _refusal(after, cost),
        )


def _reading(dimension: Dimension, bucket: Bucket, fill: Fill) -> Reading:
    return Reading(dimension, bucket.limit, bucket.limit - bucket.whole_used(fill), bucket.reset(fill))


def _refusal(rows: list[tuple[Dimension, Bucket, Fill]], cost: Mapping[Dimension, int]) -> Refusal:
    too_large = [row for row in rows if cost[row[0]] > row[1].limit]
    # The longest wait is the only one worth telling: after any shorter one the request is refused again.
    dimension, bucket, fill = max(too_large or rows, key=lambda row: row[1].wait(row[2], cost[row[0]]))
    requested = cost[dimension]
    wait = None if too_large else bucket.wait(fill, requested)
    return Refusal(dimension, bucket.limit, bucket.whole_used(fill), requested, wait)


def _ceil_ms(seconds: float) -> float:
    # The nanosecond keeps 20.000000000001 s at 20 s.
    return math.ceil(seconds * 1000 - 1e-6) / 1000
