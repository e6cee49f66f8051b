"""Circuit breakers at run time: a state, a lock, and who shares them."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from langchain_parallel_plus._engine.breaker import (
    Admitted,
    BreakerState,
    Closed,
    HalfOpen,
    Open,
    Result,
    ask,
    ended,
    still_admitted,
)
from langchain_parallel_plus._engine.forks import survive_forks
from langchain_parallel_plus._engine.shared_states import SharedStates
from langchain_parallel_plus._engine.sliding_counts import SlidingCounts
from langchain_parallel_plus.errors import CircuitOpenError

if TYPE_CHECKING:
    from collections.abc import Callable

    from langchain_parallel_plus.policy.breaker import CircuitBreaker

__all__ = ("BREAKERS", "BreakerGuard", "BreakerStatistics")

_log = logging.getLogger("langchain_parallel_plus")

Tell: TypeAlias = "Callable[[str, str, str], None]"

_NAMES: dict[type[BreakerState], Literal["closed", "open", "half_open"]] = {
    Closed: "closed",
    Open: "open",
    HalfOpen: "half_open",
}


@dataclass(frozen=True, slots=True)
class BreakerStatistics:
    """What a circuit breaker knows."""

    name: str | None
    state: Literal["closed", "open", "half_open"]
    calls: int
    """In the window, while it is closed."""
    failures: int
    """Of these."""
    opens_in: float
    """Seconds until a probe is let through; 0 unless it is open."""


class BreakerGuard:
    """Asks before each call and takes in each result. Usable from any thread and any event loop.

    Times are seconds on a clock that never goes back and is the same for all that share the breaker:
    `time.monotonic`, which event loops show as well.
    """

    def __init__(self, declared: CircuitBreaker) -> None:
        self.declared = declared
        self._lock = threading.Lock()
        self._state: BreakerState = Closed(0, SlidingCounts(declared.window))
        survive_forks(self)

    @property
    def state(self) -> BreakerState:
        """Closed, open or half-open."""
        return self._state

    def enter(self, now: float, tell: Tell | None = None) -> Admitted:
        """Let one call through; what it returns is due back in `leave`, whatever becomes of the call.

        Args:
            now: The time.
            tell: Called with the breaker's name, its state before, and after, when that changes.

        Raises:
            CircuitOpenError: The breaker is open.
        """
        state = self._state
        if isinstance(state, Closed):  # the way of nearly every call; without the lock, since nothing changes
            return Admitted(state.period, now)
        with self._lock:
            before = self._state
            after, answer = ask(self.declared, before, now)
            self._state = after
        if tell is not None and after.period != before.period:
            tell(self.declared.name or "", _NAMES[type(before)], _NAMES[type(after)])
        if isinstance(answer, Admitted):
            return answer
        raise CircuitOpenError(
            f"{self._label} is open{self._for(answer.seconds)}: {answer.why}; the call was not made",
            retry_after=answer.seconds,
            help="give the branch fallbacks, or call again later",
        )

    def renew(self, admitted: Admitted, now: float) -> Admitted:
        """Ask again after a call that was let through has waited, for a limiter say; report its result with the answer.

        Raises:
            CircuitOpenError: The breaker has opened since.
        """
        return admitted if still_admitted(self._state, admitted) else self.enter(now)

    def leave(self, admitted: Admitted, result: Result, now: float, tell: Tell | None = None) -> None:
        """Take in what became of the call that was let through as `admitted`; `tell` is as for `enter`."""
        with self._lock:
            before = self._state
            after = self._state = ended(self.declared, before, admitted, result, now)
        if after.period != before.period:
            self._log(after, now)
            if tell is not None:
                tell(self.declared.name or "", _NAMES[type(before)], _NAMES[type(after)])

    def statistics(self, now: float) -> BreakerStatistics:
        """Return what is known."""
        state = self._state
        calls, failures = state.counts.totals(now) if isinstance(state, Closed) else (0, 0)
        opens_in = max(state.until - now, 0.0) if isinstance(state, Open) else 0.0
        return BreakerStatistics(self.declared.name, _NAMES[type(state)], calls, failures, opens_in)

    def after_fork(self) -> None:
        """Start with a fresh lock and without the parent's probes, of which nothing will be heard here."""
        self._lock = threading.Lock()
        state = self._state
        if isinstance(state, HalfOpen):
            self._state = HalfOpen(state.period, state.why, (), state.succeeded)

    @property
    def _label(self) -> str:
        name = self.declared.name
        return "a circuit breaker" if name is None else f"circuit breaker {name!r}"

    def _for(self, seconds: float) -> str:
        return f" for another {seconds:.3g} s" if seconds else ", a probe is under way"

    def _log(self, after: BreakerState, now: float) -> None:
        if isinstance(after, Open):
            _log.warning("%s opened for %.3g s: %s", self._label, after.until - now, after.why)
        elif isinstance(after, Closed):
            _log.info("%s closed: its probes succeeded", self._label)


BREAKERS: SharedStates[CircuitBreaker, BreakerGuard] = SharedStates(BreakerGuard)
"""Of this process."""
