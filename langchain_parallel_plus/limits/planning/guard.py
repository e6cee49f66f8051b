"""What was admitted in a server's window, wherever that begins: an exact log, and no window gets more than its share.

A pace alone cannot promise that: at 0.99 of the rate, a minute holds 0.99 of the limit plus one request, and with
requests of more than a hundredth of the limit that is too much. The window is longer than the server's by the jitter of
the network: what was sent up to `JITTER` before a window begins may arrive in it.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from langchain_parallel_plus.limits.planning.bucket import Rate

__all__ = ("JITTER", "WindowGuard", "window_share")

JITTER: Final = 0.2
"""Seconds by which one request may take longer to arrive than another."""
_GRAINS: Final = 1_024
"""Entries closer than this part of the window are one: the log stays short at any rate, and errs by a thousandth."""
_ROUNDING: Final = 1e-9
_WORTH_IT: Final = {1.0: 0.75, 10.0: 0.96}
"""Least share of the rate that whole units in a window must leave, by length; below that they are rounded up. Of 100 a
minute, sixteen whole requests fit into a sixth of a minute, which is 0.94 of the rate: too dear for a guess. Azure's
windows of a second are documented, and few requests fit into them."""
_SWEEP: Final = 512


def window_share(rate: Rate, seconds: float) -> float:
    """Return the units of `rate` that may pass in a window of `seconds`; whole units where that does not cost much."""
    share = rate.limit * seconds / rate.window
    whole = max(math.floor(share), 1)
    part = whole * seconds / (share * (seconds + JITTER))
    return max(share, 1.0) if part >= _WORTH_IT.get(seconds, 0.0) else float(math.ceil(share))


class WindowGuard:
    """The log of one window length."""

    __slots__ = ("_amounts", "_grain", "_head", "_opened", "_span", "_times", "seconds", "share", "total")

    def __init__(self, seconds: float, share: float) -> None:
        self.seconds = seconds
        self._span = seconds + JITTER
        self._grain = self._span / _GRAINS
        self._times: list[float] = []
        self._amounts: list[float] = []
        self._head = 0
        self.total = 0.0
        """Units in the log; some of them may have left the window."""
        self._opened = -math.inf
        self.set_share(share)

    def set_share(self, share: float) -> None:
        """Let `share` units pass in a window."""
        self.share = share * (1 + _ROUNDING)

    def free_at(self, amount: float) -> float:
        """Return when `amount` fits; more than a share fits when nothing else is in the window."""
        missing = self.total + min(amount, self.share) - self.share
        if missing <= _ROUNDING * self.share:
            return -math.inf
        for index in range(self._head, len(self._times)):
            missing -= self._amounts[index]
            if missing <= _ROUNDING * self.share:
                return self._times[index] + self._span
        return -math.inf

    def add(self, amount: float, at: float) -> None:
        """Take note of `amount`, admitted at `at`."""
        self.total += amount
        if at <= self._opened + self._grain:
            self._amounts[-1] += amount
            if at > self._times[-1]:
                self._times[-1] = at
            return
        times, head = self._times, self._head
        while head < len(times) and times[head] + self._span <= at:
            self.total -= self._amounts[head]
            head += 1
        self._head = head
        if head >= _SWEEP or head == len(times):
            self._sweep()
            self.total += amount
        self._opened = at
        times.append(at)
        self._amounts.append(amount)

    def give_back(self, amount: float, since: float) -> None:
        """Take `amount` out of what was admitted at `since`, unless that has left the window."""
        index = bisect_left(self._times, since, self._head)
        if index < len(self._times) and self._times[index] - since <= self._grain:
            given = min(amount, self._amounts[index])
            self._amounts[index] -= given
            self.total -= given

    def _sweep(self) -> None:
        del self._times[: self._head], self._amounts[: self._head]
        self._head = 0
        self.total = math.fsum(self._amounts)  # and forget rounding errors
