"""One rate limit at a provider that counts in windows, or that nobody knows: a burst out of idle time, then a pace.

A plain bucket of burst `B` lets `B + r * W` units pass in `W` seconds, and refills its burst under load: servers with
fixed, sliding or short windows refuse that. Here the burst comes out of the last idle time only:

- Every unit moves `tat` on by its interval, and a request passes at `tat` or later: a pace of one request.
- Idle time since `tat` is credit, up to the burst (a fresh key has all of it): until the credit's end, `early`, a
  request passes before `tat`. Having used it, the next one waits until the burst has been earned.

So in every window that is at least as long as the burst, at most `r * W` units and one request pass, whatever the
arrivals. Where requests are large, `guard.WindowGuard` keeps the server's windows exactly. A server whose bucket holds
little has no room for what arrives late when a request needs nearly all of that: it keeps `Rate.slack` seconds more
from the one before.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from langchain_parallel_plus.limits.planning.arrival import ArrivalBucket
from langchain_parallel_plus.limits.planning.bucket import ROUNDING, Bucket
from langchain_parallel_plus.limits.planning.guard import WindowGuard, window_share

if TYPE_CHECKING:
    from langchain_parallel_plus.limits.planning.bucket import Rate

__all__ = ("PacedBucket", "bucket_for")


class PacedBucket:
    """The state of one rate limit, with the methods of `Bucket`."""

    __slots__ = ("depth", "early", "guards", "interval", "limit", "rate", "roomy", "tat")

    def __init__(self, rate: Rate) -> None:
        self.tat = -math.inf
        self.early = -math.inf
        """As far as this, `tat` may be moved by requests that pass before it."""
        self.guards: tuple[WindowGuard, ...] = ()
        self._adopt(rate)

    def admits(self, amount: float, now: float) -> bool:
        """Tell whether `amount` may pass now, in the arithmetic of `eligible_at`."""
        tat = self.tat
        if amount > self.limit:
            return False
        span = amount * self.interval
        if span > self.roomy:
            tat += self._apart(span)
        if tat > now and self.tat + span > self.early:
            return False
        for guard in self.guards:  # noqa: SIM110 - all() takes 0.3 us more on the hot path
            if guard.total + amount > guard.share and guard.free_at(amount) > now:
                return False
        return True

    def eligible_at(self, amount: float) -> float:
        """Return when `amount` may pass: at once, if that is in the past."""
        span = amount * self.interval
        at = self.tat + self._apart(span) if self.tat + span > self.early else -math.inf
        for guard in self.guards:
            at = max(at, guard.free_at(amount))
        return at

    def due(self, amount: float, start: float, before: float) -> float:
        """Return when `amount` may pass if `before` units are taken first, none of them earlier than `start`.

        A lower bound where a window is full.
        """
        base = max(self.tat, start)
        at, span = base + before * self.interval, amount * self.interval
        if at + span <= self._early_from(base):
            at = start
        elif before or self.tat > start:
            at += self._apart(span)
        return max([at, *(guard.free_at(before + amount) for guard in self.guards)])

    def take(self, amount: float, at: float) -> None:
        """Take `amount` as of `at`."""
        tat = self.tat
        if at > tat:
            end = at + (at - tat if at - tat < self.depth else self.depth)
            if end > self.early:
                self.early = end
            tat = at
        self.tat = tat + amount * self.interval
        for guard in self.guards:
            guard.add(amount, at)

    def charge(self, amount: float, now: float, since: float) -> None:
        """Take `amount` at once, into debt if need be; a negative amount gives back, at most all that is taken.

        Args:
            amount: Units.
            now: The present.
            since: When what is given back was taken.
        """
        if amount > 0:
            self.take(amount, now)
            return
        if self.tat > now:
            self.tat = max(self.tat + amount * self.interval, now)
            self.early = min(self.early, self.tat + self.depth)
        for guard in self.guards:
            guard.give_back(-amount, since)

    def drain(self, until: float, keep: float) -> None:
        """See to it that no more than `keep` units pass at `until`."""
        if self.tat > until:
            self.early = -math.inf
        else:
            self.tat = until
            self.early = until + min(keep, self.rate.burst) * self.interval + ROUNDING

    def set_rate(self, rate: Rate, now: float) -> None:
        """Go on at another rate; what is taken stays taken, in units."""
        if self.interval:
            scale = rate.interval / self.interval
            self.tat = now + (self.tat - now) * scale if self.tat > now else self.tat
            self.early = now + (self.early - now) * scale if self.early > now else self.early
        else:  # no limit was known, so what was taken was not counted
            self.tat = self.early = -math.inf
        self._adopt(rate)

    def level(self, now: float) -> float:
        """Return the units that could pass at `now`; negative while a large request is being paid off."""
        if not self.interval:
            return math.inf
        if self.tat <= now or self.tat <= self.early:
            base = max(self.tat, now)
            return max(self._early_from(base) - base, 0.0) / self.interval
        return min(self.rate.burst - (self.tat - now) / self.interval, 0.0)

    def is_idle(self, now: float) -> bool:
        """Tell whether the schedule is as it would be new: the credit is whole, and the server's windows are over."""
        longest = max([self.depth, *(guard.seconds for guard in self.guards)])
        return not self.interval or self.tat + longest <= now

    def _apart(self, span: float) -> float:
        """Return the seconds by which a request that takes `span` to be earned is kept from the one before."""
        return min(span - self.roomy, self.rate.slack) if span > self.roomy else 0.0

    def _early_from(self, at: float) -> float:
        idle = at - self.tat
        return max(self.early, at + (idle if idle < self.depth else self.depth)) if idle > 0 else self.early

    def _adopt(self, rate: Rate) -> None:
        self.rate = rate
        self.limit = rate.limit if rate.largest is None else rate.largest
        self.interval = rate.interval
        self.depth = rate.burst * rate.interval + ROUNDING
        self.roomy = rate.capacity * rate.interval - rate.slack
        """Seconds' worth of a request above which it is kept apart from the one before."""
        known = {guard.seconds: guard for guard in self.guards}
        self.guards = tuple(known.get(seconds) or WindowGuard(seconds, 1.0) for seconds in rate.guarded)
        for guard in self.guards:
            guard.set_share(window_share(rate, guard.seconds))


def bucket_for(rate: Rate, like: Rate | None = None) -> Bucket | PacedBucket:
    """Return the schedule for a provider that refills as `rate` says, or as `like` does."""
    model = like or rate
    if model.refill == "window":
        return PacedBucket(rate)
    return ArrivalBucket(rate) if model.awaits_arrival else Bucket(rate)
