"""One run of a runnable under its policy, without its threads or tasks: state, traces and error messages."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from langchain_core.runnables.config import patch_config

from langchain_parallel_plus._engine.attempts import draws_on_budget
from langchain_parallel_plus._engine.backoff import call_state
from langchain_parallel_plus._engine.cancel import CancelToken
from langchain_parallel_plus._engine.clock import jitter
from langchain_parallel_plus._engine.guarded import GuardedCall, Targets
from langchain_parallel_plus._engine.hearing import hear
from langchain_parallel_plus._engine.hedged_run import HedgeCall, HedgedRun
from langchain_parallel_plus._engine.machine import (
    Action,
    Call,
    Event,
    Failed,
    Raise,
    Returned,
    Sleep,
    Start,
    State,
    Woke,
    step,
)
from langchain_parallel_plus._engine.policy_telling import PolicyTelling
from langchain_parallel_plus._engine.scope import Scope, Tally, callbacks_for, current_scope
from langchain_parallel_plus.observe.followers import followers_below
from langchain_parallel_plus.outcome import ErrorKind, described
from langchain_parallel_plus.providers.classify import classify

if TYPE_CHECKING:
    from collections.abc import Callable

    from langchain_core.runnables import RunnableConfig
    from tenacity import RetryCallState

    from langchain_parallel_plus._engine.call_time import CallTime
    from langchain_parallel_plus._engine.policy_telling import RunManager
    from langchain_parallel_plus.providers.classified import Classified


__all__ = ("PolicyRun", "scope_of")

_log = logging.getLogger("langchain_parallel_plus")


class PolicyRun(GuardedCall):
    """Keeps the state between actions and tells everybody what happens.

    It is also the guarded call of each attempt: there is never more than one at a time, its hedges aside.
    """

    __slots__ = (
        "_beside",
        "_budget",
        "_draw",
        "_manager",
        "_state",
        "_told",
        "_winner",
        "all_targets",
        "hedging",
        "telling",
    )

    def __init__(
        self,
        targets: Targets,
        manager: RunManager,
        scope: Scope,
        now: Callable[[], float],
        draw: Callable[[], float] = jitter,
    ) -> None:
        super().__init__(targets, scope, now)
        self.all_targets = targets
        self._budget = targets.budget
        self._manager = manager
        self._draw = draw
        own, hedged = scope is not current_scope.get(), targets.hedges is not None
        self.telling = PolicyTelling(scope, manager, targets.plan, now, own=own, hedged=hedged)
        self._state = State(deadline=self._deadline())
        self.hedging = None if targets.hedges is None else HedgedRun(self, targets.hedges, now)
        self._beside = 0
        self._winner: HedgeCall | None = None
        self._told = False

    def begin(self) -> Action:
        """Return the first action."""
        self.scope.tally.attempts = 0
        return self._step(Start())

    def returned(self, call: Call, value: Any) -> Action:
        """Take in that a call came back."""
        if self.hedging is not None:
            self.hedging.ended()
        if self._winner is None:
            self.succeeded()
            self.telling.ended(self, call, "ok")
        else:
            self._winner.succeeded()
        return self._step(Returned(value))

    def is_observed(self, call: Call) -> bool:
        """Return whether it matters how long a call takes; see `GuardedCall`."""
        return self.hedging is not None and self.hedging.state.observes and not call.target

    def time_of(self, call: Call) -> CallTime:
        """Return the time of a call that begins now; see `GuardedCall`."""
        time = super().time_of(call)
        if self.hedging is not None and not call.target:
            self.hedging.begins(time)
        return time

    def fell(self, call: Call, error: Exception) -> Classified:
        """Take in that a call failed while a hedge is under way, which may save the attempt."""
        classified = classify(error)
        self.heed(error, classified)
        if self.hedging is not None:
            self.hedging.failed(classified.kind)
        self.telling.failed(self, call, error, classified, self._breaker)
        self._told = True
        return classified

    def delivered(self) -> None:
        """Take in the first chunk of a stream, or its end without any."""
        if self.hedging is not None:
            self.hedging.ended()

    def overtaken(self, call: Call, winner: HedgeCall) -> None:
        """Take in that a hedge was quicker than the call itself, which is given up."""
        self._winner = winner
        self.gave_up(call)

    def failed(self, call: Call, error: Exception) -> Action:
        """Take in that a call failed before it had delivered anything."""
        classified = classify(error) if self._told else self.fell(call, error)
        self._told = False
        paid, affordable = self._pay_for_retry(call, classified.kind)
        if self.scope.time is not None:  # it may have stood still since the run began
            self._state = replace(self._state, deadline=self._deadline())
        action = self._step(Failed(error, classified, self._draw(), affordable))
        if paid and self._budget is not None and not isinstance(action, Sleep):
            self._budget.give_back()
        if isinstance(action, Call):
            self.scope.tally.fell_back = True
            self._warn("%s in call %d; going on with fallback %d: %s", classified, call.number, action.target, error)
        elif isinstance(action, Sleep):
            self._warn("%s in call %d; again in %.3g s: %s", classified, call.number, action.seconds, error)
        return action

    def _warn(self, message: str, classified: Classified, number: int, then: float, error: BaseException) -> None:
        """Keep a record of a failure that something is done about."""
        if _log.isEnabledFor(logging.WARNING):
            what = classified.kind.value
            extra = self.scope.correlation
            _log.warning(f"%s: {message}", self.name, what, number, then, described(error, limit=200), extra=extra)

    def broke(self, call: Call, error: BaseException) -> None:
        """Take in that a stream failed after its first chunk: nothing can be repeated any more."""
        classified = classify(error)
        if self._winner is None:
            self.heed(error, classified)
            self.telling.failed(self, call, error, classified, self._breaker)
        else:
            self._winner.broke(error, classified)

    def gave_up(self, call: Call) -> None:
        """Take in that a call has ended in no result: it was cancelled, or nobody waits for it any more.

        Of one that has ended before, it changes nothing.
        """
        self.let_go()
        if self.telling.is_open(self, call):
            self.telling.ended(self, call, "cancelled")

    def _deadline(self) -> float | None:
        left = self.scope.left()
        return None if left is None else self.now() + left

    def _pay_for_retry(self, call: Call, kind: ErrorKind) -> tuple[bool, bool]:
        """Return whether a retry was paid from the budget, and whether one may be made."""
        retry = self.plan.retry_of(call.target)
        if self._budget is None or retry is None or not draws_on_budget(retry, kind):
            return False, True
        paid = self._budget.take(self.now())
        return paid, paid

    def woke(self, sleep: Sleep) -> Action:
        """Take in that the wait before the next attempt is over."""
        self.scope.tally.add(backoff=sleep.seconds)
        if self.scope.heard:
            self.scope.emit("backoff", seconds=sleep.seconds, attempt=self.scope.tally.attempts)
        return self._step(Woke())

    def retry_state(self, sleep: Sleep) -> RetryCallState:
        """Return what `on_retry` callbacks are told."""
        tally = self.scope.tally
        return call_state(sleep.attempt, sleep.error, sleep=sleep.seconds, slept=tally.backoff)

    def config_for(self, call: Call, config: RunnableConfig) -> RunnableConfig:
        """Return the config of a call's child run: tagged as upstream tags retries, and as it might tag fallbacks."""
        tag = f"fallback:{call.target}" if call.target else None
        if call.attempt > 1:
            tag = f"retry:attempt:{call.number}"
        child = self.child(tag, self.ordinal(call))
        return config if child is config.get("callbacks") else patch_config(config, callbacks=child)

    def child(self, tag: str | None, number: int) -> Any:
        """Return the callbacks of the child run of a call."""
        child = self._manager.get_child(tag)
        return callbacks_for(replace(self.scope, attempt=number), child) if self.scope.followers else child

    def for_hedge(self, call: Call) -> Call:
        """Return the call as it is made now beside itself: with a time of its own, as far as the run's permits."""
        expires = self._state.expires
        left = None if expires is None else max(expires - self.now(), 0.0)
        own = self.plan.attempt_timeout
        timeout = left if own is None else own if left is None else min(own, left)
        return replace(call, timeout=timeout, whole_run=left)

    def ordinal(self, call: Call) -> int:
        """Return the number of a call among those of the branch, the hedges of earlier attempts included."""
        return call.number + self._beside

    def error(self, action: Raise) -> BaseException:
        """Return the error that ends the run, which also tells what became of the fallbacks."""
        for number, other in enumerate(action.others, start=1):
            note = f"fallback {number} failed too: {type(other).__name__}: {described(other, limit=200)}"
            if note not in getattr(action.error, "__notes__", ()):
                action.error.add_note(note)
        return action.error

    def _step(self, event: Event) -> Action:
        self._state, action = step(self.plan, self._state, event, self.now())
        if isinstance(action, Call):
            self.scope.tally.attempts = action.number
            if self.hedging is not None:
                self._beside = self.hedging.begun
                if not action.target:
                    self.hedging.called()
            if self._budget is not None and action.attempt == 1:
                self._budget.called(self.now())
            self.telling.started(self, action)
        return action


def scope_of(outer: Scope | None, runnable: object, name: str, manager: RunManager, now: Callable[[], float]) -> Scope:
    """Return the scope for a policy's run: the branch's own where the runnable is the branch, else one below it.

    A policy somewhere inside a branch counts its attempts apart from the branch's.
    """
    if outer is None:
        alone = Scope(
            path=(name,),
            run_id=manager.run_id,
            token=CancelToken(),
            now=now,
            followers=followers_below(None, manager.handlers),
        )
        return hear(alone)
    if outer.step is runnable:
        return outer
    inner = replace(
        outer,
        path=(*outer.path, name),
        tally=Tally(parent_unit=outer.unit),
        step=runnable,
        attempt=None,
        ears=None,  # of the policy around, which hears of this one's calls
        followers=followers_below(outer.followers if outer.path else None, manager.handlers),
    )
    # An item of a batch that stands in no branch is a run of its own.
    return inner if outer.path else hear(replace(inner, run_id=manager.run_id))
