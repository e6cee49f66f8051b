"""A pause of one key: nothing passes until its end, and then nearly empty buckets go on; it may be ended early."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langchain_parallel_plus.limits.planning.bucket import Bucket
    from langchain_parallel_plus.limits.planning.paced import PacedBucket

    AnyBucket: TypeAlias = Bucket | PacedBucket

__all__ = ("Pause",)

_DRAINED_WINDOW: Final = 3600.0
"""Rates over a longer window are not drained by a pause: a refusal within the minute says nothing of the day."""


class Pause:
    """The pause that holds, or the last one."""

    __slots__ = ("_moved", "until")

    def __init__(self) -> None:
        self.until = -math.inf
        """When it ends, or has ended."""
        self._moved: list[float] = []

    def begin(self, buckets: Sequence[AnyBucket], until: float, now: float, keep: Sequence[float] | None) -> bool:
        """Pause until then, unless a pause holds that is no shorter: that one stays as it is. Return whether it does.

        A refusal says that the provider's bucket is empty: going on with a burst would be refused again.

        Args:
            buckets: Of the key's rates.
            until: When it ends.
            now: The present.
            keep: What may pass at the end, by rate; by default a second's worth, and at least one unit.
        """
        if until <= self.until:
            return False
        if self.until <= now:
            self._moved = [0.0] * len(buckets)
        self.until = until
        for index, bucket in enumerate(buckets):
            if bucket.rate.window < _DRAINED_WINDOW:
                before = bucket.tat
                bucket.drain(until, _seconds_worth(bucket) if keep is None else keep[index])
                self._moved[index] += bucket.tat - before
        return True

    def end(self, buckets: Sequence[AnyBucket], now: float) -> bool:
        """End the pause as if `now` had been its end; return whether one held. Debts from before it are kept."""
        if self.until <= now:
            return False
        self.until = now
        for bucket, moved in zip(buckets, self._moved, strict=True):
            if bucket.rate.window < _DRAINED_WINDOW:
                bucket.tat -= moved
                bucket.drain(now, _seconds_worth(bucket))
        return True


def _seconds_worth(bucket: AnyBucket) -> float:
    return max(1.0, bucket.rate.per_second * bucket.rate.utilisation)
