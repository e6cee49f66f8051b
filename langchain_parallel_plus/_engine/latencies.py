"""How long a branch's calls take: the last ones, in little memory, and what 95 % of them have not exceeded."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from typing import Final

__all__ = ("KEPT", "Latencies")

KEPT: Final = 256
"""Calls; the share of five percent is a dozen of them."""


class Latencies:
    """The seconds of the last calls, at most `KEPT` and none older than `window` seconds.

    A call that was given up because its hedge had won counts with the time it had taken by then. That is longer than
    the hedge's delay, so its rank is right: if only winners counted, the delay would shrink from hedge to hedge.
    """

    __slots__ = ("_by_age", "_sorted", "_window")

    def __init__(self, window: float) -> None:
        self._window = window
        self._by_age: deque[tuple[float, float]] = deque()
        self._sorted: list[float] = []

    def add(self, now: float, seconds: float) -> None:
        """Take in a call that has just ended."""
        self._forget(now, room=1)
        self._by_age.append((now, seconds))
        insort(self._sorted, seconds)

    def p95(self, now: float, least: int) -> float | None:
        """Return what 95 % of the calls have not exceeded (nearest rank); `None` if fewer than `least` are known."""
        self._forget(now)
        number = len(self._sorted)
        return None if number < least else self._sorted[(95 * number + 99) // 100 - 1]

    def _forget(self, now: float, room: int = 0) -> None:
        ages, oldest = self._by_age, now - self._window
        while ages and (ages[0][0] <= oldest or len(ages) + room > KEPT):
            _, seconds = ages.popleft()
            del self._sorted[bisect_left(self._sorted, seconds)]
