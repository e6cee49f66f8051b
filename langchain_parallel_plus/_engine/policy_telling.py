"""What listeners are told of a policy's run and of its attempts; nothing is worked out while nobody listens."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from langchain_parallel_plus._engine.holdups import holdups_of
from langchain_parallel_plus._engine.telling import error_facts
from langchain_parallel_plus._engine.unheard import AsyncUnheard, Unheard
from langchain_parallel_plus.errors import CircuitOpenError
from langchain_parallel_plus.outcome import BranchOutcome, ErrorKind
from langchain_parallel_plus.providers.classify import classify

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from langchain_core.callbacks import AsyncCallbackManagerForChainRun, CallbackManagerForChainRun

    from langchain_parallel_plus._engine.breaker_guard import BreakerGuard
    from langchain_parallel_plus._engine.guarded import GuardedCall
    from langchain_parallel_plus._engine.holdups import Holdups
    from langchain_parallel_plus._engine.machine import Call, Plan
    from langchain_parallel_plus._engine.scope import Scope
    from langchain_parallel_plus.providers.classified import Classified

    RunManager = AsyncCallbackManagerForChainRun | CallbackManagerForChainRun | AsyncUnheard | Unheard

__all__ = ("PolicyTelling",)


class PolicyTelling:
    """Tells of one run of a policy."""

    __slots__ = ("_hedged", "_holdups", "_manager", "_now", "_open", "_own", "_plan", "_scope", "_started")

    def __init__(
        self,
        scope: Scope,
        manager: RunManager,
        plan: Plan,
        now: Callable[[], float],
        *,
        own: bool,
        hedged: bool,
    ) -> None:
        self._scope = scope
        self._manager = manager
        self._plan = plan
        self._now = now
        self._own = own
        self._hedged = hedged
        self._started = now()
        self._open: dict[int, float] = {}
        self._holdups: Holdups | None = None

    @contextmanager
    def whole(self) -> Iterator[None]:
        """Tell how the run begins and ends; of a branch, its fan-out tells as well."""
        if not self._scope.heard:
            yield
            return
        self._begin()
        try:
            yield
        except BaseException as error:
            classified = classify(error)
            outcomes: dict[ErrorKind, BranchOutcome] = {
                ErrorKind.TIMEOUT: "timed_out",
                ErrorKind.CANCELLED: "cancelled",
            }
            outcome = outcomes.get(classified.kind, "failed")
            facts = {} if outcome == "cancelled" else error_facts(error, classified)
            self._end(outcome, classified.kind, facts)
            raise
        self._end("recovered" if self._scope.tally.attempts > 1 else "ok")

    def _begin(self) -> None:
        if self._own:
            self._holdups = holdups_of(self._scope)
            self._scope.emit("branch.start", seconds=0.0, detail={"parent_unit": self._scope.tally.parent_unit})
        followed = not isinstance(self._manager, Unheard | AsyncUnheard)
        retry = self._plan.retry
        retries = retry is not None and max(retry.max_attempts, retry.rate_limit_attempts or 0) > 1
        several = retries or self._hedged or self._plan.targets > 1
        detail = {"run": self._manager.run_id if followed else None, "several": several, "own": self._own}
        self._scope.tell_followers("policy.start", detail=detail)

    def _end(
        self, outcome: BranchOutcome, error: ErrorKind | None = None, facts: Mapping[str, Any] | None = None
    ) -> None:
        tally = self._scope.tally
        if self._scope.ears is not None:
            self._scope.ears.sweep()
        ended: dict[str, Any] = {
            "seconds": self._now() - self._started,
            "outcome": outcome,
            "error": error,
            "attempt": tally.attempts,
            "detail": {"wait": tally.waited, "backoff": tally.backoff, **(facts or {})},
        }
        self._scope.tell_followers("policy.end", **ended)
        if self._own:
            reader = () if tally.holdups is None else tally.holdups.until(self._now())
            self._scope.emit("branch.end", **{**ended, "detail": {**ended["detail"], "reader": reader}})

    def delivers(self, holdups: Holdups | None) -> None:
        """Take note of the hold-ups of the stream that it delivers, if that makes its chunks ahead."""
        if holdups is not None:
            self._scope.tally.holdups, self._holdups = holdups, None

    def handed_over(self) -> None:
        """Take note that whoever reads its stream has a chunk, and that no other is made meanwhile."""
        if self._holdups is not None:
            self._holdups.begin()

    def went_on(self) -> None:
        """Take note that the next chunk is asked for."""
        if self._holdups is not None:
            self._holdups.end()

    def started(self, guard: GuardedCall, call: Call) -> None:
        """Tell that an attempt begins, or a hedge beside it."""
        if self._scope.heard:
            number = guard.ordinal(call)
            self._open[number] = self._now()
            self._scope.emit("attempt.start", attempt=number, detail=guard.role(call))

    def is_open(self, guard: GuardedCall, call: Call) -> bool:
        """Return whether an attempt's end is still to be told."""
        return guard.ordinal(call) in self._open

    def failed(
        self,
        guard: GuardedCall,
        call: Call,
        error: BaseException,
        classified: Classified,
        breaker: BreakerGuard | None,
    ) -> None:
        """Tell that an attempt has failed; `breaker` is the one that may have refused it."""
        if self._scope.heard:
            self.ended(guard, call, "failed", classified.kind, self.facts(error, classified, breaker))

    def facts(self, error: BaseException, classified: Classified, breaker: BreakerGuard | None) -> dict[str, Any]:
        """Return what may be told of an attempt's error."""
        facts = error_facts(error, classified)
        if isinstance(error, CircuitOpenError) and breaker is not None:
            facts["breaker"] = breaker.declared.name or ""
        return facts

    def ended(
        self,
        guard: GuardedCall,
        call: Call,
        outcome: BranchOutcome,
        error: ErrorKind | None = None,
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        """Tell that an attempt has ended, or a hedge."""
        if self._scope.heard:
            number = guard.ordinal(call)
            self._scope.emit(
                "attempt.end",
                attempt=number,
                seconds=self._now() - self._open.pop(number, self._started),
                outcome=outcome,
                error=error,
                detail={**guard.role(call), **(facts or {})},
            )
