"""A circuit breaker's decisions: pure, over frozen values.

`ask` says whether a call may be made, `ended` takes in what became of it. Results count for the period in which their
call was let through: a call that was begun before the breaker opened opens it only once, and neither closes it later
nor opens it again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeAlias

from langchain_parallel_plus._engine.sliding_counts import SlidingCounts
from langchain_parallel_plus.errors import BranchTimeoutError, ParallelPlusError

if TYPE_CHECKING:
    from langchain_parallel_plus.policy.breaker import CircuitBreaker
    from langchain_parallel_plus.providers.classified import Classified

__all__ = (
    "IGNORED",
    "SUCCEEDED",
    "Admitted",
    "BreakerState",
    "Closed",
    "HalfOpen",
    "Open",
    "Refused",
    "Result",
    "ask",
    "ended",
    "result_of",
    "still_admitted",
)

_PROBE_LOST_AFTER: Final = 120.0
"""Seconds; a probe that was let through and never heard of again does not keep the breaker from trying another."""


@dataclass(frozen=True, slots=True)
class Closed:
    """Calls are made, and counted as calls and failures."""

    period: int
    counts: SlidingCounts


@dataclass(frozen=True, slots=True)
class Open:
    """No call is made until `until`."""

    period: int
    until: float
    why: str


@dataclass(frozen=True, slots=True)
class HalfOpen:
    """A few calls are made to see whether the provider is back."""

    period: int
    why: str
    """Why it was opened."""
    under_way: tuple[float, ...] = ()
    """When the probes were begun whose results are still out."""
    succeeded: int = 0


BreakerState: TypeAlias = Closed | Open | HalfOpen


class Admitted(NamedTuple):
    """The call may be made; its result is to be reported with this."""

    period: int
    at: float
    probe: bool = False


@dataclass(frozen=True, slots=True)
class Refused:
    """The call is not to be made."""

    seconds: float
    """Until a probe may be let through; 0 while one is under way."""
    why: str


@dataclass(frozen=True, slots=True)
class Result:
    """What a call says about the provider's health."""

    health: Literal["good", "bad", "closed", "unknown"]
    """`closed`: no call will succeed for now, whatever the share of those that have failed."""
    reset: float | None = None
    """Seconds after which the provider says that calls are taken again."""
    what: str = ""


SUCCEEDED: Final = Result("good")
IGNORED: Final = Result("unknown")
"""Also for a call that was cancelled: the loser of a hedge, say."""


def result_of(error: BaseException, classified: Classified) -> Result:
    """Return what a failed call says, by the table in `providers.facts`.

    Of this package's own errors, only a call's timeout says something about the provider; a limiter's refusal, another
    open breaker and a passed deadline do not.
    """
    if isinstance(error, ParallelPlusError) and not isinstance(error, BranchTimeoutError):
        return IGNORED
    match classified.facts.breaker:
        case "counts":
            return Result("bad", what=classified.kind.value)
        case "opens":
            return Result("closed", reset=classified.retry_after, what=classified.kind.value)
        case "ignores":
            return IGNORED


def ask(breaker: CircuitBreaker, state: BreakerState, now: float) -> tuple[BreakerState, Admitted | Refused]:
    """Return whether a call may be made now."""
    match state:
        case Closed(period):
            return state, Admitted(period, now)
        case Open(period, until, why):
            if now < until:
                return state, Refused(until - now, why)
            return _probe(breaker, HalfOpen(period + 1, why), now)
        case HalfOpen():
            return _probe(breaker, state, now)


def _probe(breaker: CircuitBreaker, state: HalfOpen, now: float) -> tuple[BreakerState, Admitted | Refused]:
    patience = max(_PROBE_LOST_AFTER, breaker.open_for)
    under_way = tuple([at for at in state.under_way if now - at < patience])
    if len(under_way) + state.succeeded >= breaker.probes:
        return state, Refused(0.0, state.why)
    state = HalfOpen(state.period, state.why, (*under_way, now), state.succeeded)
    return state, Admitted(state.period, now, probe=True)


def still_admitted(state: BreakerState, admitted: Admitted) -> bool:
    """Tell whether a call that was let through, and has waited since, may still be made."""
    return state.period == admitted.period


def ended(breaker: CircuitBreaker, state: BreakerState, admitted: Admitted, result: Result, now: float) -> BreakerState:
    """Return the state after the call that was let through as `admitted`; to be called once for each."""
    if state.period != admitted.period:
        return _heard_late(state, result, now)
    match state:
        case Closed():
            return _counted(breaker, state, result, now)
        case HalfOpen():
            return _probed(breaker, state, admitted, result, now)
        case Open():  # nothing is let through while it is open
            return state


def _heard_late(state: BreakerState, result: Result, now: float) -> BreakerState:
    """A call from an earlier period counts no more; but while nothing is known of it, a later reset is news."""
    if isinstance(state, Open) and result.health == "closed" and result.reset is not None:
        return Open(state.period, max(state.until, now + result.reset), state.why)
    return state


def _counted(breaker: CircuitBreaker, state: Closed, result: Result, now: float) -> BreakerState:
    if result.health == "unknown":
        return state
    if result.health == "closed":
        return _opened(breaker, state, result, now, f"a call failed with {result.what}")
    counts = state.counts.add(now, 1, int(result.health == "bad"))
    calls, failures = counts.totals(now)
    if failures and calls >= breaker.minimum_calls and failures >= breaker.failure_ratio * calls:
        why = f"{failures} of the {calls} calls of the last {breaker.window:g} s failed"
        return _opened(breaker, state, result, now, why)
    return Closed(state.period, counts)


def _probed(breaker: CircuitBreaker, state: HalfOpen, admitted: Admitted, result: Result, now: float) -> BreakerState:
    if result.health in ("bad", "closed"):
        return _opened(breaker, state, result, now, f"the probe failed with {result.what}")
    under_way = list(state.under_way)
    if admitted.at in under_way:
        under_way.remove(admitted.at)
    succeeded = state.succeeded + (result.health == "good")
    if succeeded >= breaker.probes:
        return Closed(state.period + 1, SlidingCounts(breaker.window))
    return HalfOpen(state.period, state.why, tuple(under_way), succeeded)


def _opened(breaker: CircuitBreaker, state: BreakerState, result: Result, now: float, why: str) -> Open:
    seconds = breaker.open_for if result.reset is None else result.reset
    return Open(state.period + 1, now + seconds, why)
