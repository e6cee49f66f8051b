"""A limit as a counter that starts again at zero when its window ends."""

from __future__ import annotations

from dataclasses import dataclass, replace

from langchain_parallel_plus.testing.quota.limit import AN_INSTANT, check_limit, check_seconds, tolerance_of

__all__ = ("Count", "FixedWindow")


@dataclass(frozen=True, slots=True)
class Count:
    """What a window has counted."""

    units: float
    start: float
    """When the window began."""
    now: float


@dataclass(frozen=True, slots=True)
class FixedWindow:
    """A counter for each window; what is left of one is not carried into the next, and neither is a debt.

    Two windows' worth can pass around the moment when one ends. Azure OpenAI counts tokens like this, a minute at a
    time (learn.microsoft.com, "Manage Azure OpenAI quota", read in November 2026).

    Raises:
        DeclarationError: If `limit` is not a whole number >= 1, or a time out of range.
    """

    limit: int
    """Units admitted in each window."""
    per: float = 60.0
    """Seconds of a window."""
    phase: float = 0.0
    """Seconds of its first window that have passed when a key is fresh."""

    def __post_init__(self) -> None:
        check_limit(self.limit)
        check_seconds(self.per, "per")
        check_seconds(self.phase, "phase", zero=True)

    @property
    def window(self) -> float:
        """Seconds of a window."""
        return self.per

    @property
    def capacity(self) -> float:
        """Units that an untouched window admits."""
        return float(self.limit)

    def fresh(self, now: float) -> Count:
        """Return an untouched window."""
        return Count(0.0, now - self.phase % self.per, now)

    def at(self, state: Count, now: float) -> Count:
        """Return the window that `now` falls into."""
        if now <= state.now:
            return state
        passed = (now - state.start + AN_INSTANT) // self.per
        return Count(0.0, state.start + passed * self.per, now) if passed else replace(state, now=now)

    def used(self, state: Count) -> float:
        """Return what the window has counted."""
        return state.units

    def wait(self, state: Count, cost: float) -> float:
        """Return the seconds until the window ends, or 0.0 if `cost` units fit into it."""
        fits = state.units + cost <= self.limit + tolerance_of(self.limit)
        return 0.0 if fits else self._left(state)

    def reset(self, state: Count) -> float:
        """Return the seconds until the window ends; 0.0 if it is untouched."""
        return self._left(state) if state.units else 0.0

    def charged(self, state: Count, cost: float) -> Count:
        """Return the window with `cost` more units."""
        return replace(state, units=state.units + cost)

    def refunded(self, state: Count, amount: float, charged_at: float) -> Count:
        """Return the window with `amount` units fewer if it is the one that was charged."""
        if charged_at < state.start - AN_INSTANT:
            return state
        return replace(state, units=max(0.0, state.units - amount))

    def _left(self, state: Count) -> float:
        return state.start + self.per - state.now
