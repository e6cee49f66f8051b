"""The pace at an unknown quota: find the ceiling, stay just below it, and look now and then whether it has moved.

Slow start doubles the pace every ten seconds of use, at most to three times the goodput. A bucket of a minute lets
through up to twice its rate before it refuses, so the first refusal sends the pace to half of the goodput; from there
it goes back in steps, and a refusal on the way shows what is earned. Later the goodput of the last minute at a refusal
is the ceiling: the pace goes just below it, and grows by 1, 2, 4, 8 and then 16 % after every two clean minutes.
Simulated at 500 requests a minute against five kinds of servers, one of which counts what it refuses, minutes ten to
thirty serve 96 % of the quota and more with 0.03 to 0.07 % of the calls refused, the first ten minutes refuse 0.6 %
at most; AIMD and the CUBIC of the AWS SDKs have 2 to 18 % refused.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final

__all__ = ("Ceiling",)

_DOUBLE_EVERY: Final = 10.0
_GROW_EVERY: Final = 120.0
_FIRST_GROWTH: Final = 0.01
_GROWTH_AFTER_RECOVERY: Final = 0.04
_LARGEST_GROWTH: Final = 0.16
_BELOW: Final = 0.99
"""Part of the ceiling that the pace keeps to."""
_MOST: Final = 0.97
_LEAST: Final = 0.5
"""A refusal takes at least three hundredths of the pace, or the same ceiling would be hit again; and at most a half."""
_EPOCH: Final = 5.0
"""Seconds from one decrease to the next."""
_SETTLING: Final = 60.0
_SETTLING_LEAST: Final = 0.6
"""For a minute after it, refusals may still be due to what was sent before a decrease: they take at most a fifth, or
a half after slow start."""
_LEAD: Final = 3.0
"""Most that slow start is ahead of the goodput of the last minute."""
_CAREFUL: Final = 0.5
"""A server's bucket lets through up to a minute's quota beside the rate, so slow start may have found twice of it."""
_RECOVERY: Final = (1.2, 1.1, 1.05)
_RECOVER_EVERY: Final = 10.0
"""How quickly the pace goes on from there. What gets through after a refusal is earned: a second one finds the rate."""
_USED: Final = 0.5
"""Share of the pace that must be in use for it to grow: an idle key proves nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ceiling:
    """The pace of one rate."""

    pace: float
    """Units in the rate's window."""
    step_at: float
    """When it grows next."""
    slow_start: bool = True
    growth: float = _FIRST_GROWTH
    decreased_at: float = -math.inf
    settled_at: float = -math.inf
    """When the last decrease that measured the ceiling has taken effect at the server."""
    least: float = 0.0
    """The pace that holds until then."""
    recovery: tuple[float, ...] = ()
    """By how much the pace goes on in each step of the recovery from slow start, now and after further refusals."""
    recovers_to: float | None = None
    """Where the pace goes back to in steps, if nothing is refused on the way: what slow start has found."""

    @classmethod
    def start(cls, pace: float, now: float) -> Ceiling:
        """Begin slow start at `pace`."""
        return cls(pace=pace, step_at=now + _DOUBLE_EVERY)

    def measured(self, now: float) -> float:
        """Return the seconds up to `now` whose goodput tells of the rate alone."""
        if now < self.settled_at:
            return max(now - self.decreased_at, _EPOCH / 2)
        if self.recovers_to is None and len(self.recovery) < 2:
            return _SETTLING
        longest = _SETTLING if self.recovery == _RECOVERY else 2 * _RECOVER_EVERY
        return min(max(now - self.decreased_at, _EPOCH / 2), longest)

    @property
    def _step(self) -> float:
        if self.slow_start:
            return _DOUBLE_EVERY
        return _GROW_EVERY if self.recovers_to is None else _RECOVER_EVERY

    def refused(self, now: float, goodput: float) -> Ceiling:
        """Go just below the ceiling.

        Args:
            now: When calls go again.
            goodput: Units that got through in the last minute. During slow start most of it was slower than the present
                pace, of which half was let through for ten seconds: that is the better estimate then, if it is more.
        """
        if now < self.decreased_at + _EPOCH:
            return replace(self, step_at=max(self.step_at, now + _EPOCH))
        if self.slow_start:
            return self._recovering(now, _CAREFUL * goodput, _RECOVERY)
        if len(self.recovery) > 1:
            return self._recovering(now, _BELOW * goodput, self.recovery[1:])
        if now < self.settled_at:
            pace = min(max(min(_BELOW * goodput, _MOST * self.pace), self.least), self.pace)
            return replace(self, pace=pace, step_at=now + _GROW_EVERY, growth=_FIRST_GROWTH, decreased_at=now)
        pace = min(max(_BELOW * goodput, _LEAST * self.pace, 1.0), _MOST * self.pace)
        return replace(
            self,
            pace=pace,
            step_at=now + _GROW_EVERY,
            growth=_FIRST_GROWTH if self.recovers_to is None else _GROWTH_AFTER_RECOVERY,
            decreased_at=now,
            settled_at=now + _SETTLING,
            least=_SETTLING_LEAST * pace,
            recovers_to=None,
        )

    def _recovering(self, now: float, pace: float, recovery: tuple[float, ...]) -> Ceiling:
        most = _MOST * self.pace
        return replace(
            self,
            pace=min(max(pace, 1.0), most),
            step_at=now + _RECOVER_EVERY,
            slow_start=False,
            decreased_at=now,
            recovers_to=most,
            recovery=recovery,
        )

    def grown(self, now: float, used: float, goodput: float = math.inf) -> Ceiling:
        """Return the pace at `now`.

        Args:
            now: The present.
            used: Units in a window at the recent rate of use.
            goodput: Units that got through in the last minute, which bound slow start.
        """
        if now < self.step_at:
            return self
        if used < _USED * self.pace:
            return replace(self, step_at=now + self._step)
        if self.slow_start:
            pace = max(min(2 * self.pace, _LEAD * goodput), self.pace)
            return replace(self, pace=pace, step_at=now + _DOUBLE_EVERY)
        if self.recovers_to is not None:
            pace = max(min(self.pace * self.recovery[0], self.recovers_to), self.pace)
            if pace < self.recovers_to:
                return replace(self, pace=pace, step_at=now + _RECOVER_EVERY)
            return replace(self, pace=pace, step_at=now + _GROW_EVERY, growth=_GROWTH_AFTER_RECOVERY, recovers_to=None)
        growth = min(2 * self.growth, _LARGEST_GROWTH)
        return replace(self, pace=self.pace * (1 + self.growth), step_at=now + _GROW_EVERY, growth=growth)
