"""What listeners are told of a policy's run and of its attempts; nothing is worked out while nobody listens."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from langchain_parallel_plus._engine.telling import error_facts
from langchain_parallel_plus._engine.unheard import AsyncUnheard, Unheard
from langchain_parallel_plus.errors import CircuitOpenError
from langchain_parallel_plus.outcome import BranchOutcome, ErrorKind
from langchain_parallel_plus.providers.classify import classify

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from langchain_core.callbacks import AsyncCallbackManagerForChainRun, CallbackManagerForChainRun

    from langchain_parallel_plus._engine.breaker_guard import BreakerGuard
    from langchain_parallel_plus._engine.machine import Call, Plan
    from langchain_parallel_plus._engine.scope import Scope
    from langchain_parallel_plus.providers.classified import Classified

    RunManager = AsyncCallbackManagerForChainRun | CallbackManagerForChainRun | AsyncUnheard | Unheard

__all__ = ("PolicyTelling",)


class PolicyTelling:
    """Tells of one run of a policy."""

    __slots__ = ("_manager", "_now", "_open", "_own", "_plan", "_scope", "_started")

    def __init__(self, scope: Scope, manager: RunManager, plan: Plan, now: Callable[[], float], *, own: bool) -> None:
        self._scope = scope
        self._manager = manager
        self._plan = plan
        self._now = now
        self._own = own
        self._started = now()
        self._open: dict[int, float] = {}

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
            self._scope.emit("branch.start", seconds=0.0)
        followed = not isinstance(self._manager, Unheard | AsyncUnheard)
        retry = self._plan.retry
        retries = retry is not None and max(retry.max_attempts, retry.rate_limit_attempts or 0) > 1
        several = retries or self._plan.targets > 1
        detail = {"run": self._manager.run_id if followed else None, "several": several, "own": self._own}
        self._scope.tell_followers("policy.start", detail=detail)

    def _end(
        self, outcome: BranchOutcome, error: ErrorKind | None = None, facts: Mapping[str, Any] | None = None
    ) -> None:
        tally = self._scope.tally
        ended: dict[str, Any] = {
            "seconds": self._now() - self._started,
            "outcome": outcome,
            "error": error,
            "attempt": tally.attempts,
            "detail": {"wait": tally.waited, "backoff": tally.backoff, **(facts or {})},
        }
        self._scope.tell_followers("policy.end", **ended)
        if self._own:
            self._scope.emit("branch.end", **ended)

    def attempt_started(self, call: Call) -> None:
        """Tell that an attempt begins."""
        if self._scope.heard:
            self._open[call.number] = self._now()
            self._scope.emit("attempt.start", attempt=call.number, detail=_role(call))

    def is_open(self, call: Call) -> bool:
        """Return whether an attempt's end is still to be told."""
        return call.number in self._open

    def attempt_failed(
        self, call: Call, error: BaseException, classified: Classified, breaker: BreakerGuard | None
    ) -> None:
        """Tell that an attempt has failed; `breaker` is the one that may have refused it."""
        if self._scope.heard:
            facts = error_facts(error, classified)
            if isinstance(error, CircuitOpenError) and breaker is not None:
                facts["breaker"] = breaker.declared.name or ""
            self.attempt_ended(call, "failed", classified.kind, facts)

    def attempt_ended(
        self,
        call: Call,
        outcome: BranchOutcome,
        error: ErrorKind | None = None,
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        """Tell that an attempt has ended."""
        if self._scope.heard:
            self._scope.emit(
                "attempt.end",
                attempt=call.number,
                seconds=self._now() - self._open.pop(call.number, self._started),
                outcome=outcome,
                error=error,
                detail={**_role(call), **(facts or {})},
            )

    def came_late(self, call: Call, error: BaseException | None) -> None:
        """Tell that a call's thread has returned after its time: its result is discarded."""
        outcome: BranchOutcome = "ok" if error is None else "failed"
        self._scope.emit("attempt.late", attempt=call.number, outcome=outcome, detail=_role(call))

    def breaker_changed(self, name: str, before: str, after: str) -> None:
        """Tell that the circuit breaker has changed."""
        self._scope.emit("breaker", detail={"name": name, "before": before, "after": after})


def _role(call: Call) -> dict[str, Any]:
    role = "fallback" if call.target else "retry" if call.attempt > 1 else "primary"
    return {"role": role, "target": call.target}
