"""One rate as the provider's headers describe it: how much room there is, and how much of it others use.

A response describes the server at its own admission. So what this process admitted after that call is subtracted from
what was left, and what the server has refilled since is added. If that is less room than the limiter's own schedule
has, somebody else uses the key, and admissions wait for it. A mirror only ever adds a wait, and none that is longer
than a window: headers that are stale, or contradict each other, stall nobody.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from langchain_parallel_plus.providers.snapshot import Quota, Snapshot, Unit

__all__ = ("Mirror", "Reading", "read_quota")

_MEMORY: Final = 30.0
"""Seconds over which the use by others is averaged."""
_LEAST_REFILL: Final = 0.1
"""Share of the rate that is taken to be left for us, however much others use."""
_HEADROOM: Final = 3.0
"""Seconds of others' use that are left in the server's bucket: what they take until the next response tells of it."""
_MOST_HEADROOM: Final = 0.2
_NOTICED: Final = 0.02
"""Share of the rate below which the use by others is noise: estimated tokens, and jitter of the network."""
_TOLERANCE: Final = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What one response says of one rate."""

    limit: float
    window: float
    """Seconds."""
    remaining: float | None = None
    ends: float | None = None
    """Seconds until the server's window ends and all of it is there again; `None` if it refills continuously."""


def read_quota(
    snapshot: Snapshot,
    unit: Unit,
    window: float,
    *,
    header_window: float | None,
    continuous: bool,
    parts: Iterable[float] = (),
) -> Reading | None:
    """Return what `snapshot` says of the rate of `unit` over `window` seconds; `None` if nothing usable.

    The same header name means a minute at OpenAI and a day at Groq. So a quota counts for a rate if it names the
    window itself, if its numbers prove it within 2 %, or if the provider is known to mean it (`header_window`).

    Args:
        snapshot: A response's headers.
        unit: What the rate counts.
        window: Seconds.
        header_window: Seconds that the provider is known to mean by such headers.
        continuous: Whether the provider is known to refill continuously.
        parts: Limits that are those of shorter windows, and say nothing of this one.
    """
    for quota in snapshot.quotas:
        if quota.unit != unit or quota.limit is None or any(_is_about(quota.limit, part) for part in parts):
            continue
        if _window(quota, header_window) == window:
            remaining = None if quota.remaining is None else min(quota.remaining, quota.limit)
            return Reading(
                limit=quota.limit, window=window, remaining=remaining, ends=None if continuous else _end(quota, window)
            )
    return None


def _end(quota: Quota, window: float) -> float | None:
    """Return when the window ends. The numbers of a bucket prove themselves, and a longer reset is a contradiction."""
    if quota.reset is None or quota.reset > window * (1 + _TOLERANCE):
        return None
    is_bucket = quota.limit is not None and quota.rate and abs(quota.limit / quota.rate / window - 1) <= _TOLERANCE
    return None if is_bucket else quota.reset


def _is_about(limit: float, part: float) -> bool:
    """Tell whether a header's whole number is `part`, which may be none."""
    return abs(limit - part) <= max(_TOLERANCE * part, 1.0)


def _window(quota: Quota, header_window: float | None) -> float | None:
    inferred = quota.inferred_window
    return inferred if inferred is not None or quota.dialect in {"ietf", "generic"} else header_window


class Mirror:
    """The provider's side of one rate. All amounts are units, all times seconds on the limiter's clock.

    Args:
        reading: What the first response says.
        sent: When its call was admitted.
        taken: What had been taken in all when the server admitted it: by the end of the network's jitter.
    """

    __slots__ = ("_at", "_reading", "_remaining", "_taken", "others")

    def __init__(self, reading: Reading, sent: float, taken: float) -> None:
        self.others = 0.0
        """Units a second that others use, averaged; noise may take it below 0."""
        self._follow(reading, sent, taken)

    @property
    def sees_others(self) -> bool:
        """Whether somebody else uses the key, beyond what noise explains."""
        return self.others > _NOTICED * self._rate

    def hear(self, reading: Reading, sent: float, taken: float) -> None:
        """Take in a response; one to an earlier call than the last is stale."""
        if sent < self._at or reading.remaining is None:
            return
        passed = sent - self._at
        expected = self._expected(sent, taken)
        if passed > 0 and expected >= 0 and reading.limit == self._reading.limit:
            used = expected - reading.remaining
            self.others += (1 - math.exp(-passed / _MEMORY)) * (used / passed - self.others)
        self._follow(reading, sent, taken)

    def eligible_at(self, amount: float, taken: float) -> float:
        """Return when the server has room for `amount`, if `taken` is what was taken in all."""
        reading, refill, kept = self._reading, self._rate, 0.0
        if self.others > _NOTICED * refill:
            refill = max(refill - self.others, _LEAST_REFILL * refill)
            kept = min(_HEADROOM * self.others, _MOST_HEADROOM * reading.limit)
        missing = min(amount + kept, reading.limit) - (self._remaining - (taken - self._taken))
        if missing <= 0:
            return -math.inf
        return self._at + min(missing / refill, reading.window if reading.ends is None else reading.ends)

    def room(self, now: float, taken: float) -> float:
        """Return the units that the server has left at `now`; below 0 for what has yet to be earned."""
        reading, passed, since = self._reading, now - self._at, taken - self._taken
        if reading.ends is not None:  # how much of it fell into the next window is not known: at most all of it
            return (reading.limit if passed >= reading.ends else self._remaining) - since
        refill = max(self._rate - max(self.others, 0.0), 0.0)
        return min(self._remaining + refill * passed, reading.limit + since) - since

    @property
    def _rate(self) -> float:
        return self._reading.limit / self._reading.window

    def _expected(self, now: float, taken: float) -> float:
        """Return the least that would be left without others: below 0 after a time too long to tell."""
        reading, passed = self._reading, now - self._at
        if reading.ends is not None:
            left = reading.limit if passed >= reading.ends else self._remaining
        else:
            left = min(self._remaining + self._rate * passed, reading.limit)
        return left - (taken - self._taken)

    def _follow(self, reading: Reading, sent: float, taken: float) -> None:
        self._reading = reading
        self._remaining = reading.limit if reading.remaining is None else reading.remaining
        self._at = sent
        self._taken = taken
