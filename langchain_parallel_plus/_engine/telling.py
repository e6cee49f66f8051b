"""What listeners are told of a fan-out; nothing is worked out while nobody listens."""

from __future__ import annotations

import logging
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from langchain_parallel_plus.observe.event import Event, emit, error_type, listening
from langchain_parallel_plus.observe.limiter_state import LimiterState, RateState

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from uuid import UUID

    from langchain_parallel_plus._engine.capacity import Capacity
    from langchain_parallel_plus._engine.fan_out import FanOut
    from langchain_parallel_plus._engine.scope import Scope
    from langchain_parallel_plus.limits import RateLimiter
    from langchain_parallel_plus.observe.following import Follower
    from langchain_parallel_plus.outcome import BranchOutcome, ErrorKind
    from langchain_parallel_plus.providers.classified import Classified

__all__ = ("FanOutTelling", "error_facts")

_log = logging.getLogger("langchain_parallel_plus")

_NO_FACTS: Mapping[str, Any] = MappingProxyType({})


def error_facts(error: BaseException | type[BaseException], classified: Classified | None = None) -> dict[str, Any]:
    """Return what may be told of an error everywhere: its class and its HTTP status, and nothing of what it says."""
    facts: dict[str, Any] = {"error_type": error_type(error)}
    if classified is not None and classified.status is not None:
        facts["status"] = classified.status
    return facts


class FanOutTelling:
    """Tells of one call of a fan-out."""

    __slots__ = ("_fan_out", "_limiters", "_now", "_path", "_run_id", "_started", "_told", "active", "followers")

    def __init__(self, fan_out: FanOut, run_id: UUID, now: Callable[[], float], started: float) -> None:
        self._fan_out = fan_out
        self._run_id = run_id
        self._now = now
        self._started = started
        self._path: tuple[str, ...] = ()
        self._told: dict[BranchOutcome, int] = {}
        self._limiters: tuple[RateLimiter, ...] = ()
        self.active = listening()
        """Whether somebody listens."""
        self.followers: tuple[Follower, ...] = ()

    def started(
        self, outer: Scope | None, capacity: Capacity | None, followers: tuple[Follower, ...], run: UUID
    ) -> None:
        """Tell that the fan-out begins; `run` is LangChain's run that its branches are children of."""
        self.followers = followers
        self.active = self.active or bool(followers)
        if not self.active:
            return
        self._path = () if outer is None else outer.path
        limiters = dict.fromkeys((*(outer.limiters if outer is not None else ()), *self._fan_out.limiters))
        branches = self._fan_out.branches
        around = outer if self._path else None  # a batch is none
        limiters |= dict.fromkeys(branch.limiter for branch in branches if branch.limiter is not None)
        self._limiters = tuple(limiters)
        self._emit(
            Event(
                kind="fan_out.start",
                at=self._started,
                run_id=self._run_id,
                path=self._path,
                detail={
                    "name": self._fan_out.name,
                    "branches": [branch.key for branch in branches],
                    "required": [branch.key for branch in branches if branch.required],
                    "failure_policy": "/".join(sorted({branch.on_failure for branch in branches})),
                    "max_concurrency": None if capacity is None else capacity.limit,
                    "limiters": tuple(_state(limiter) for limiter in limiters),
                    "parent_run_id": None if around is None else around.run_id,
                    "parent_unit": 0 if around is None else around.unit,
                    "run": run,
                    "dynamic": self._fan_out.dynamic,
                },
            )
        )

    def branch_ended(
        self,
        scope: Scope,
        outcome: BranchOutcome,
        kind: ErrorKind | None = None,
        facts: Mapping[str, Any] = _NO_FACTS,
    ) -> None:
        """Tell how a branch has ended; of its error, the `error_facts`."""
        if not self.active:
            return
        self._told[outcome] = self._told.get(outcome, 0) + 1
        now = self._now()
        self._emit(
            Event(
                kind="branch.end",
                at=now,
                run_id=self._run_id,
                path=scope.path,
                unit=scope.unit,
                seconds=now - self._started,
                outcome=outcome,
                error=kind,
                attempt=scope.tally.attempts,
                detail={
                    "wait": scope.tally.waited,
                    "backoff": scope.tally.backoff,
                    "started": self._started,
                    "reader": () if scope.tally.holdups is None else scope.tally.holdups.until(now),
                    **facts,
                },
            )
        )

    def ended(self, outcome: BranchOutcome, scopes: Sequence[Scope], facts: Mapping[str, Any] = _NO_FACTS) -> None:
        """Tell, once, how the fan-out has ended; and keep a line of it where records of that level are wanted."""
        seconds = self._now() - self._started
        if _log.isEnabledFor(logging.INFO):
            _log.info(
                "fan-out %r of %d branches: %s after %.3g s", self._fan_out.name, len(scopes), outcome, seconds,
                extra=self.correlation(scopes[0].path[:-1] if scopes else ()),
            )  # fmt: skip
        if not self.active:
            return
        self.active = False
        succeeded = sum(self._told.get(kind, 0) for kind in _SUCCEEDED)
        skipped = sum(self._told.get(kind, 0) for kind in _SKIPPED)
        self._emit(
            Event(
                kind="fan_out.end",
                at=self._now(),
                run_id=self._run_id,
                path=self._path,
                seconds=seconds,
                outcome=outcome,
                detail={
                    "succeeded": succeeded,
                    "failed": sum(self._told.values()) - succeeded - skipped,
                    "skipped": skipped,
                    **self._unused(),
                    **facts,
                },
            )
        )

    def _unused(self) -> dict[str, Any]:
        """Return what calls have reserved of each limiter and not used, as shares."""
        if not self._limiters:
            return {}
        found = {
            limiter.name: {name: rate.unused for name, rate in limiter.statistics().rates.items()}
            for limiter in self._limiters
        }
        return {"unused": found}

    def _emit(self, event: Event) -> None:
        emit(event, self.followers)

    def correlation(self, path: tuple[str, ...]) -> dict[str, str]:
        """Return what a log record says of this run: see `CorrelationFilter`."""
        return {
            "lcpp_run_id": str(self._run_id),
            "lcpp_fan_out": self._fan_out.name,
            "lcpp_branch": "/".join(path),
        }


_SUCCEEDED: tuple[BranchOutcome, ...] = ("ok", "recovered")
_SKIPPED: tuple[BranchOutcome, ...] = ("skipped", "cancelled")


def _state(limiter: RateLimiter) -> LimiterState:
    statistics = limiter.statistics()
    rates = {
        name: RateState(limit=rate.limit, window=rate.window, available=rate.available)
        for name, rate in statistics.rates.items()
    }
    slots = limiter.account.quota.concurrency
    return LimiterState(name=limiter.name, rates=rates, concurrency=slots, paused_for=statistics.paused_for)
