"""How much was taken of each rate by when: what a response's headers, and a goodput, are compared with."""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ("History",)

_GRAIN: Final = 0.05
"""Seconds between two entries."""
_ENTRIES: Final = 8_192
"""Entries kept; at the highest density they go back seven minutes."""


class History:
    """Running sums over time.

    Args:
        width: How many rates there are.
        now: When it begins.
    """

    __slots__ = ("_sums", "_times", "total")

    def __init__(self, width: int, now: float) -> None:
        self.total: tuple[float, ...] = (0.0,) * width
        """What was taken in all, by rate; given back amounts are not in it any more."""
        self._times = [now]
        self._sums = [self.total]

    @property
    def began(self) -> float:
        """The time of the oldest entry."""
        return self._times[0]

    def add(self, amounts: Sequence[float], at: float) -> None:
        """Take note of `amounts`, taken at `at`."""
        self.total = total = tuple([old + new for old, new in zip(self.total, amounts, strict=True)])
        if at < self._times[-1] + _GRAIN and len(self._times) > 1:
            self._sums[-1] = total
            return
        self._times.append(max(at, self._times[-1]))
        self._sums.append(total)
        if len(self._times) > _ENTRIES:
            del self._times[: _ENTRIES // 2], self._sums[: _ENTRIES // 2]

    def by(self, at: float) -> tuple[float, ...]:
        """Return what had been taken by `at`, as far as is known."""
        index = bisect_right(self._times, at)
        return self._sums[max(index - 1, 0)]
