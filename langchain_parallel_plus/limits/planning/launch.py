"""How quickly the calls of a large burst leave: not all in one moment.

A provider's bucket begins to refill when the first call arrives. A thousand calls let go in the same moment keep the
client busy for seconds before the first of them is on the wire, and the limiter would have counted on quota that the
server has not earned. Let go one after the other they arrive from the beginning on, and the run as a whole takes no
longer.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from langchain_parallel_plus.limits.planning.bucket import ROUNDING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from langchain_parallel_plus.limits.planning.bucket import Rate

__all__ = ("Launch",)

_AT_ONCE: Final = 32
"""Calls that leave in the same moment."""
_INTERVAL: Final = 0.004
"""Seconds between further ones: 250 a second is what one process sends through a provider's SDK."""
_HOUR: Final = 3_600.0


class Launch:
    """The calls of one key, whatever they cost.

    Args:
        rates: The key's rates. Only a bucket of minutes lets large bursts through.
    """

    __slots__ = ("_interval", "_tat")

    def __init__(self, rates: Iterable[Rate]) -> None:
        self._tat = -math.inf
        self._interval = 0.0
        self.follow(rates)

    def follow(self, rates: Iterable[Rate]) -> None:
        """Go on with other rates; a pace of many calls a second is not held up."""
        buckets = [rate for rate in rates if rate.refill == "bucket" and rate.window < _HOUR]
        fastest = max((rate.per_second for rate in buckets), default=0.0)
        self._interval = min(_INTERVAL, 0.5 / fastest) if fastest else 0.0

    def due(self) -> float:
        """Return when the next call may leave: at once, if that is in the past."""
        return self._tat - (_AT_ONCE - 1) * self._interval - ROUNDING

    def took(self, at: float) -> None:
        """Take note of a call that leaves at `at`."""
        self._tat = max(self._tat, at) + self._interval
