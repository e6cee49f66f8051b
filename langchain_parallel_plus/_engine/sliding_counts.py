"""Two counts over the last seconds, in little memory: frozen, and told the time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

__all__ = ("SLICES", "Slice", "SlidingCounts")

SLICES: Final = 10
"""Of a window; the oldest is forgotten as a whole, so the counts cover nine tenths of the window to all of it."""


class Slice(NamedTuple):
    """What was counted in a tenth of the window."""

    number: int
    """Tenths of the window since the clock's zero."""
    first: int
    second: int


@dataclass(frozen=True, slots=True)
class SlidingCounts:
    """Counts of two things, such as calls and failures, that are forgotten after `window` seconds."""

    window: float
    slices: tuple[Slice, ...] = ()
    """Oldest first; at most `SLICES`."""

    def add(self, now: float, first: int = 0, second: int = 0) -> SlidingCounts:
        """Return the counts with some more. A clock that goes back counts as one that stands still."""
        number = int(now / self.window * SLICES)
        if self.slices and number <= self.slices[-1].number:
            last = self.slices[-1]
            newest = Slice(last.number, last.first + first, last.second + second)
            return SlidingCounts(self.window, (*self.slices[:-1], newest))
        kept = tuple([one for one in self.slices if one.number > number - SLICES])
        return SlidingCounts(self.window, (*kept, Slice(number, first, second)))

    def totals(self, now: float) -> tuple[int, int]:
        """Return both counts."""
        oldest = int(now / self.window * SLICES) - SLICES
        first = second = 0
        for one in self.slices:
            if one.number > oldest:
                first += one.first
                second += one.second
        return first, second
