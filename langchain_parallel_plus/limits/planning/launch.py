"""How quickly the calls of a large burst leave: not all in one moment.

A thousand calls let go in the same moment keep the client busy for seconds before the first of them is on the wire.
A provider's bucket begins to refill when the first call arrives, and a provider's windows count calls when they arrive:
what was let go seconds before that is counted in a later window than its schedule says. Let go one after the other the
calls arrive from the beginning on, about when they were admitted, and the run as a whole takes no longer.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from langchain_parallel_plus.limits.planning.bucket import ROUNDING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from langchain_parallel_plus.limits.planning.bucket import Rate

__all__ = ("Launch",)

_AT_ONCE: Final = 32
"""Calls that leave in the same moment."""
_INTERVAL: Final = 0.004
"""Seconds between further ones: 250 a second is what one process sends through a provider's SDK."""
_LEAD: Final = 0.5
"""Part of the time in which a call is earned: so much faster than the rate it may leave at any rate."""
_HOUR: Final = 3_600.0


class Launch:
    """The calls of one key.

    Args:
        rates: The key's rates, in the planner's order. Those of a day say nothing of single seconds.
    """

    __slots__ = ("_interval", "_seconds", "_tat")

    def __init__(self, rates: Iterable[Rate]) -> None:
        self._tat = -math.inf
        self._interval = 0.0
        self._seconds: tuple[float, ...] = ()
        self.follow(rates)

    def follow(self, rates: Iterable[Rate]) -> None:
        """Go on with other rates."""
        seconds = tuple(_LEAD / rate.per_second if rate.window < _HOUR and rate.burst else 0.0 for rate in rates)
        self._seconds = seconds if any(seconds) else ()
        if not self._seconds:
            self._interval = 0.0
            self._tat = -math.inf

    def due(self) -> float:
        """Return when the next call may leave: at once, if that is in the past."""
        return self._tat - (_AT_ONCE - 1) * self._interval - ROUNDING

    def forecast(self, start: float, before: float, interval: float = 0.0) -> float:
        """Return when a call may leave if others leave first, none of them earlier than `start`.

        Args:
            start: When the first of them may leave.
            before: The seconds that those take.
            interval: The seconds that the call takes itself.
        """
        if not before:
            return self.due()
        return max(self._tat, start) + before - (_AT_ONCE - 1) * max(self._interval, interval) - ROUNDING

    def seconds(self, amounts: Sequence[float]) -> float:
        """Return the seconds that a call of `amounts` takes; where calls are earned faster, it holds up none."""
        if not self._seconds:
            return 0.0
        earned = max([amount * seconds for amount, seconds in zip(amounts, self._seconds, strict=True)])
        return earned if earned < _INTERVAL else _INTERVAL

    def took(self, amounts: Sequence[float], now: float) -> None:
        """Take note of a call of `amounts` that is let go now.

        One that is let go now to leave later is paced anyway: it would only keep others from leaving until then.
        """
        if self._seconds:
            self._interval = self.seconds(amounts)
            self._tat = max(self._tat, now) + self._interval

    def gave_back(self, amounts: Sequence[float], now: float) -> None:
        """Take note that a call of `amounts` was taken back and does not leave."""
        if self._tat > now:
            self._tat = max(self._tat - self.seconds(amounts), now)
