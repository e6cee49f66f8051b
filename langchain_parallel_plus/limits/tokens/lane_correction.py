"""How far estimates of input tokens are off, learned for each lane and model.

A quarter of the characters is right for English prose and far off for code, Chinese, or prompts full of numbers. What a
branch sends tends to stay of one kind, so the ratio of what its calls took to what they were estimated at corrects the
next estimate.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

__all__ = ("Correction", "LaneCorrections")

_KEPT: Final = 0.8
"""Share of the past that each new call leaves in the sums: a kind of prompt that changes is forgotten in ten calls."""
_PRIOR: Final = 100.0
"""Tokens that a lane begins with, as if estimated rightly: a first call of five tokens says little."""
_LEAST: Final = 0.25
_MOST: Final = 4.0
_LANES: Final = 512


@dataclass(frozen=True, slots=True)
class Correction:
    """Exponentially forgetting sums of estimated and actual tokens.

    The ratio of the sums, and not the mean of the ratios: the constant tokens of a chat template would make a few tiny
    prompts count for more than a long one.
    """

    estimated: float = _PRIOR
    actual: float = _PRIOR

    @property
    def factor(self) -> float:
        """What an estimate is to be multiplied with, from 0.25 to 4."""
        return min(max(self.actual / self.estimated, _LEAST), _MOST)

    def after(self, estimated: float, actual: float) -> Correction:
        """Return the correction after one more call."""
        return Correction(self.estimated * _KEPT + estimated, self.actual * _KEPT + actual)


_UNCORRECTED: Final = Correction()


class LaneCorrections:
    """The corrections of one key, for the lanes used last."""

    __slots__ = ("_known", "_lock")

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[str, str], Correction] = OrderedDict()
        self._lock = threading.Lock()

    def after_fork(self) -> None:
        """Give up the lock that a thread of the parent process may have held."""
        self._lock = threading.Lock()

    def factor(self, lane: str, model: str) -> float:
        """Return what estimates of a lane's calls are to be multiplied with; 1 before its first call has ended."""
        return self._known.get((lane, model), _UNCORRECTED).factor

    def observe(self, lane: str, model: str, *, estimated: float, actual: float) -> None:
        """Take in what a call was estimated at, uncorrected, and what it took."""
        if not estimated > 0:
            return
        key = (lane, model)
        with self._lock:
            self._known[key] = self._known.pop(key, _UNCORRECTED).after(estimated, actual)
            if len(self._known) > _LANES:
                self._known.popitem(last=False)
