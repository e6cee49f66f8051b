"""A limit as short windows, each with its share: what makes a minute's burst fail at Azure."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from langchain_parallel_plus.errors import DeclarationError
from langchain_parallel_plus.testing.quota.limit import AN_INSTANT, check_limit, check_seconds, tolerance_of

__all__ = ("Share", "SubWindows")


@dataclass(frozen=True, slots=True)
class Share:
    """What the present sub-window has counted."""

    units: float
    carried: float
    """The part of `units` that a request larger than a share has left from an earlier sub-window."""
    start: float
    """When the sub-window began."""
    now: float


@dataclass(frozen=True, slots=True)
class SubWindows:
    """A counter for each sixth of a minute, which admits a sixth of the limit.

    Azure OpenAI checks requests "over a small period of time, typically 1 or 10 seconds" (learn.microsoft.com, "Manage
    Azure OpenAI quota", read in November 2026). A share need not be a whole number: of 500 a minute 83 fit into each
    ten seconds. A request larger than a share is admitted by an untouched sub-window, and what is too much is counted
    in the next ones, so that the rate holds.

    Raises:
        DeclarationError: If `limit` or `parts` is not a whole number >= 1, or a time out of range.
    """

    limit: int
    """Units admitted in `per` seconds."""
    per: float = 60.0
    parts: int = 6
    """Into how many sub-windows `per` is divided."""
    phase: float = 0.0
    """Seconds of its first sub-window that have passed when a key is fresh."""

    def __post_init__(self) -> None:
        check_limit(self.limit)
        check_seconds(self.per, "per")
        check_seconds(self.phase, "phase", zero=True)
        if not isinstance(self.parts, int) or isinstance(self.parts, bool) or self.parts < 1:
            raise DeclarationError(f"a quota's parts must be a whole number >= 1, got {self.parts!r}")

    @property
    def window(self) -> float:
        """Seconds of a sub-window."""
        return self.per / self.parts

    @property
    def capacity(self) -> float:
        """Units that an untouched sub-window admits."""
        return self.limit / self.parts

    def fresh(self, now: float) -> Share:
        """Return an untouched sub-window."""
        return Share(0.0, 0.0, now - self.phase % self.window, now)

    def at(self, state: Share, now: float) -> Share:
        """Return the sub-window that `now` falls into."""
        if now <= state.now:
            return state
        passed = (now - state.start + AN_INSTANT) // self.window
        if not passed:
            return replace(state, now=now)
        carried = max(0.0, state.units - passed * self.capacity)
        return Share(carried, carried, state.start + passed * self.window, now)

    def used(self, state: Share) -> float:
        """Return what the sub-window has counted, and what was carried into it."""
        return state.units

    def wait(self, state: Share, cost: float) -> float:
        """Return the seconds until the sub-window that admits `cost` units begins; 0.0 if this one does."""
        room = max(0.0, self.capacity - cost)
        missing = state.units - room
        return self._until_passed(state, missing) if missing > tolerance_of(self.limit) else 0.0

    def reset(self, state: Share) -> float:
        """Return the seconds until an untouched sub-window begins; 0.0 if this one is."""
        return self._until_passed(state, state.units) if state.units > 0 else 0.0

    def charged(self, state: Share, cost: float) -> Share:
        """Return the sub-window with `cost` more units."""
        return replace(state, units=state.units + cost)

    def refunded(self, state: Share, amount: float, charged_at: float) -> Share:
        """Return the sub-window with `amount` units fewer: of its own, or of those that were carried into it."""
        if charged_at >= state.start - AN_INSTANT:
            return replace(state, units=max(state.carried, state.units - amount))
        back = min(state.carried, amount)
        return replace(state, units=state.units - back, carried=state.carried - back)

    def _until_passed(self, state: Share, units: float) -> float:
        windows = max(1, math.ceil((units - tolerance_of(self.limit)) / self.capacity))
        return state.start + windows * self.window - state.now
