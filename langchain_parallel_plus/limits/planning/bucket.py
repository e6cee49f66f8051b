"""One rate limit as a virtual schedule (GCRA): one float of state, exact admission times, debts, refunds.

The state is the theoretical arrival time `tat`: the moment at which everything taken so far would have been earned at
the steady rate. A request of `c` units may pass once `tat + c * interval` is at most the bucket's depth ahead. GCRA is
the leaky bucket of ITU-T I.371 and equals a token bucket with continuous refill, which is what OpenAI and Groq run:
the waits in their error messages are `(used + requested - limit) / rate`, to the millisecond.

That is the schedule for a provider known to hold a bucket. `paced.PacedBucket` is the one for all others.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

__all__ = ("ROUNDING", "UTILISATION", "Bucket", "Rate", "Refill")

UTILISATION = 0.99
"""Share of a declared rate that sustained load uses. A pace alone is safe at 0.98: there none of five simulated server
models (bucket of a minute and of a second, fixed and sliding minute, windows of ten seconds) answered 429 at 500 and
5000 requests a minute with network jitter up to 200 ms. Since `guard.WindowGuard` keeps the windows exactly, 0.99 is as
safe: no refusal more in 60,000 requests at 40 to 3000 a minute and in 5,000 calls of mixed sizes (simulated, the same
jitter), and 0.995 gains no more than a tenth of a percent."""

ROUNDING = 1e-6
"""Seconds of slack, so that the last unit of a burst does not fail on the rounding of the sums before it."""

Refill = Literal["bucket", "window"]
"""How a server gives back what was used: continuously, or when a window of time is over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """`limit` units in `window` seconds, of which `burst` units may go at once.

    An infinite `limit` with a `burst` of 0 lets everything pass: a limit that is not known yet.
    """

    limit: float
    """Units in a window, as the provider states them."""
    window: float
    """Seconds."""
    burst: float
    """Units that an idle key lets through at once."""
    utilisation: float = UTILISATION
    refill: Refill = "window"
    """`bucket`: the burst is there again as soon as it is earned, also under load. `window`: only out of idle time."""
    awaits_arrival: bool = False
    """With refill `bucket`: what is on its way is earned back only from its arrival on, so that all of it may be used.
    """
    guarded: tuple[float, ...] = ()
    """With refill `window`: lengths in seconds of the server's windows, none of which gets more than its share."""
    capacity: float = math.inf
    """With refill `window`: units that the server's bucket holds, where that is known to be little."""
    slack: float = 0.0
    """Seconds by which requests that need nearly all of `capacity` are kept apart beyond the pace: what arrives late
    leaves no room for them."""
    largest: float | None = None
    """Units above which a single request is refused; `None` for `limit`."""

    @property
    def interval(self) -> float:
        """Seconds that one unit takes at the paced rate."""
        return self.window / (self.limit * self.utilisation)

    @property
    def per_second(self) -> float:
        """Units a second that the provider grants."""
        return self.limit / self.window


class Bucket:
    """The state of one rate limit. Times are seconds on any clock that never goes back."""

    __slots__ = ("depth", "interval", "limit", "rate", "tat")

    def __init__(self, rate: Rate) -> None:
        self.tat = -math.inf
        self._adopt(rate)

    def admits(self, amount: float, now: float) -> bool:
        """Tell whether `amount` may pass now, in the arithmetic of `eligible_at`."""
        span = amount * self.interval
        depth = self.depth
        return amount <= self.limit and self.tat + (span if span < depth else depth) - depth <= now

    def eligible_at(self, amount: float) -> float:
        """Return when `amount` may pass: at once, if that is in the past.

        More than the burst passes when the bucket is full, and leaves a debt.
        """
        return self.tat + min(amount * self.interval, self.depth) - self.depth

    def due(self, amount: float, start: float, before: float) -> float:
        """Return when `amount` may pass if `before` units are taken first, none of them earlier than `start`."""
        taken = max(self.tat, start) + before * self.interval
        return taken + min(amount * self.interval, self.depth) - self.depth

    def take(self, amount: float, at: float) -> None:
        """Take `amount` as of `at`."""
        self.tat = (self.tat if self.tat > at else at) + amount * self.interval

    def charge(self, amount: float, now: float, since: float) -> None:
        """Take `amount` at once, into debt if need be; a negative amount gives back, at most up to a full bucket.

        Args:
            amount: Units.
            now: The present.
            since: When what is given back was taken.
        """
        if amount > 0:
            self.take(amount, now)
        elif self.tat > now:
            self.tat = max(self.tat + amount * self.interval, now)

    def drain(self, until: float, keep: float) -> None:
        """See to it that no more than `keep` units are in the bucket at `until`."""
        self.tat = max(self.tat, until + self.depth - min(keep, self.rate.burst) * self.interval)

    def set_rate(self, rate: Rate, now: float) -> None:
        """Go on at another rate; what is taken stays taken, in units.

        But for a burst that shrinks under the same limit: a bucket that was found to be smaller is not emptier than
        empty, and what could be a debt then is none.
        """
        if self.tat > now and self.interval:
            taken = (self.tat - now) / self.interval
            if rate.limit == self.rate.limit and rate.burst < self.rate.burst:
                taken = min(taken, max(rate.burst, taken - self.rate.burst + rate.burst))
            self.tat = now + taken * rate.interval
        self._adopt(rate)

    def level(self, now: float) -> float:
        """Return the units that could pass at `now`; negative while there is a debt."""
        return self.rate.burst - max(self.tat - now, 0.0) / self.interval

    def is_idle(self, now: float) -> bool:
        """Tell whether the bucket is as it would be new."""
        return self.level(now) >= self.rate.burst

    def _adopt(self, rate: Rate) -> None:
        self.rate = rate
        self.limit = rate.limit if rate.largest is None else rate.largest
        self.interval = rate.interval
        self.depth = rate.burst * rate.interval + ROUNDING
