"""What the hedges of those who share a policy have in common: their budget, observed times, and rate limits met."""

from __future__ import annotations

import math
import threading
from typing import TYPE_CHECKING, Final, NamedTuple

from langchain_parallel_plus._engine.budget import SharedBudget
from langchain_parallel_plus._engine.forks import survive_forks
from langchain_parallel_plus._engine.latencies import Latencies
from langchain_parallel_plus._engine.shared_states import SharedStates
from langchain_parallel_plus.policy.budget import RetryBudget

if TYPE_CHECKING:
    from langchain_parallel_plus.policy.hedge import HedgePolicy

__all__ = ("CALM", "HEDGES", "HedgeState")

CALM: Final = 30.0
"""Seconds after a rate limit in which nothing is hedged: more calls would only be refused, too."""

_SHORTEST: Final = 0.001
"""Seconds; no call is hedged earlier, however quick the others are."""

_BRANCHES: Final = 1024
"""Whose times are remembered; those of the branch that was first seen longest ago are forgotten."""


class Observed(NamedTuple):
    """Whose times they are."""

    branch: str
    streamed: bool
    """Whether it is the time to the first chunk."""


class HedgeState:
    """Usable from any thread and any event loop; times are monotonic seconds."""

    def __init__(self, declared: HedgePolicy) -> None:
        self.declared = declared
        # One hedge needs no calls: else a policy would seem not to work wherever calls are few.
        self.budget = SharedBudget(RetryBudget(ratio=declared.budget, minimum=1, window=declared.window))
        self.observes = isinstance(declared.delay, str)
        """Whether the times of calls matter."""
        self._lock = threading.Lock()
        self._times: dict[Observed, Latencies] = {}
        self._throttled = -math.inf
        survive_forks(self)

    def delay(self, branch: str, streamed: bool, now: float) -> float | None:
        """Return the seconds after which a call is slow; `None` while nobody knows, or after a rate limit."""
        if self.is_throttled(now):
            return None
        fixed = self.declared.delay
        if not isinstance(fixed, str):
            return fixed
        with self._lock:
            times = self._times.get(Observed(branch, streamed))
            seconds = None if times is None else times.p95(now, self.declared.minimum_calls)
        return None if seconds is None else max(seconds, _SHORTEST)

    def observed(self, branch: str, streamed: bool, now: float, seconds: float) -> None:
        """Take in how long a call has taken; in a stream, to its first chunk."""
        whose = Observed(branch, streamed)
        with self._lock:
            times = self._times.get(whose)
            if times is None:
                if len(self._times) >= _BRANCHES:
                    del self._times[next(iter(self._times))]
                times = self._times[whose] = Latencies(self.declared.window)
            times.add(now, seconds)

    def throttled(self, now: float) -> None:
        """Take in that a call met a rate limit."""
        self._throttled = now

    def is_throttled(self, now: float) -> bool:
        """Return whether a call met one a moment ago."""
        return now < self._throttled + CALM

    def after_fork(self) -> None:
        """Start with a fresh lock."""
        self._lock = threading.Lock()


HEDGES: SharedStates[HedgePolicy, HedgeState] = SharedStates(HedgeState)
"""Of this process."""
