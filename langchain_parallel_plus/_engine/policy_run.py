"""One run of a runnable under its policy, without its threads or tasks: state, traces and error messages."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from langchain_core.runnables.config import patch_config

from langchain_parallel_plus._engine.attempts import draws_on_budget
from langchain_parallel_plus._engine.backoff import call_state
from langchain_parallel_plus._engine.breaker import IGNORED, SUCCEEDED, result_of
from langchain_parallel_plus._engine.cancel import CancelToken
from langchain_parallel_plus._engine.clock import jitter
from langchain_parallel_plus._engine.machine import (
    Action,
    Call,
    Event,
    Failed,
    Plan,
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
from langchain_parallel_plus.errors import BranchAbandonedError, BranchTimeoutError, LimiterError
from langchain_parallel_plus.observe.followers import followers_of
from langchain_parallel_plus.outcome import ErrorKind, described
from langchain_parallel_plus.providers.classify import classify

if TYPE_CHECKING:
    from collections.abc import Callable

    from langchain_core.runnables import Runnable, RunnableConfig
    from tenacity import RetryCallState

    from langchain_parallel_plus._engine.breaker import Admitted, Result
    from langchain_parallel_plus._engine.breaker_guard import BreakerGuard
    from langchain_parallel_plus._engine.budget import SharedBudget
    from langchain_parallel_plus._engine.charging import Charge
    from langchain_parallel_plus._engine.policy_telling import RunManager
    from langchain_parallel_plus.limits.ticket import Ticket
    from langchain_parallel_plus.providers.classified import Classified


__all__ = ("PolicyRun", "Targets")

_log = logging.getLogger("langchain_parallel_plus")


@dataclass(frozen=True, slots=True)
class Targets:
    """A runnable, its fallbacks, and the plan to go through them."""

    name: str
    runnables: tuple[Runnable[Any, Any], ...]
    plan: Plan
    charge: Charge | None = None
    budget: SharedBudget | None = None
    breaker: BreakerGuard | None = None


class PolicyRun:
    """Keeps the state between actions and tells everybody what happens."""

    __slots__ = (
        "_breaker",
        "_budget",
        "_draw",
        "_let_through",
        "_manager",
        "_now",
        "_plan",
        "_reserved",
        "_state",
        "_ticket",
        "charge",
        "name",
        "scope",
        "targets",
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
        self.targets = targets.runnables
        self.name = targets.name
        self.scope = scope
        self.charge = targets.charge
        self._budget = targets.budget
        self._breaker = targets.breaker
        self._let_through: Admitted | None = None
        self._ticket: Ticket | None = None
        self._reserved = 0.0
        self._plan = targets.plan
        self._manager = manager
        self._now = now
        self._draw = draw
        self.telling = PolicyTelling(scope, manager, targets.plan, now, own=scope is not current_scope.get())
        left = scope.remaining()
        self._state = State(deadline=None if left is None else now() + left)

    def begin(self) -> Action:
        """Return the first action."""
        self.scope.tally.attempts = 0
        return self._step(Start())

    def returned(self, call: Call, value: Any) -> Action:
        """Take in that a call came back."""
        self._leave(SUCCEEDED)
        if self._ticket is not None:
            self._ticket.settle(self._ticket.cost)  # limiters learn from what went well, too
            self._ticket = None
        self.telling.attempt_ended(call, "ok")
        return self._step(Returned(value))

    def failed(self, call: Call, error: Exception) -> Action:
        """Take in that a call failed before it had delivered anything."""
        classified = classify(error)
        self._heed(error, classified)
        self.telling.attempt_failed(call, error, classified, self._breaker)
        paid, affordable = self._pay_for_retry(classified.kind)
        action = self._step(Failed(error, classified, self._draw(), affordable))
        if paid and self._budget is not None and not isinstance(action, Sleep):
            self._budget.give_back()
        if isinstance(action, Call):
            self.scope.tally.fell_back = True
            self._warn(
                "%s after %d calls; going on with fallback %d: %s", classified, call.number, action.target, error
            )
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
        self._heed(error, classified)
        self.telling.attempt_failed(call, error, classified, self._breaker)

    def enter(self, call: Call) -> None:
        """Ask the circuit breaker before a call; it guards the runnable itself, and none of its fallbacks.

        Raises:
            CircuitOpenError: It is open.
        """
        if self._breaker is not None and not call.target:
            self._let_through = self._breaker.enter(self._now(), self.telling.breaker_changed)

    def let_go(self, call: Call) -> None:
        """Take in that a call has ended in no result: it was cancelled, or nobody waits for it any more.

        Of one that has ended before, it changes nothing.
        """
        self._leave(IGNORED)
        if self.telling.is_open(call):
            self.telling.attempt_ended(call, "cancelled")

    def _leave(self, result: Result) -> None:
        let_through, self._let_through = self._let_through, None
        if let_through is not None and self._breaker is not None:
            self._breaker.leave(let_through, result, self._now(), self.telling.breaker_changed)

    def _pay_for_retry(self, kind: ErrorKind) -> tuple[bool, bool]:
        """Return whether a retry was paid from the budget, and whether one may be made."""
        retry = self._plan.retry
        if self._budget is None or retry is None or not draws_on_budget(retry, kind):
            return False, True
        paid = self._budget.take(self._now())
        return paid, paid

    def began_to_wait(self) -> None:
        """Take in that an attempt is on its way to its limiter: the time of its run goes on."""
        self._reserved = self._now()

    def reserve(self, call: Call, value: Any, *, at_once: bool = False) -> Ticket:
        """Queue an attempt at the limiter that it is charged to; past the queue if it may not wait for others.

        Raises:
            LimiterError: The limiter refuses, or would admit too late.
        """
        assert self.charge is not None
        limiter, cost, within = self.charge.limiter, self.charge.price(value), self.patience(call)
        try:
            if at_once:
                self._ticket = limiter.force(replace(cost, slots=0), within=within)
            else:
                self._ticket = limiter.reserve(cost, lane=self.scope.lane, weight=self.scope.weight, within=within)
        except LimiterError as error:
            self.refused(error)
            raise
        return self._ticket

    def refused(self, error: LimiterError) -> None:
        """Take in that the limiter which attempts are charged to has refused one."""
        if self.charge is not None:
            seconds = self._now() - self._reserved
            self.scope.refused(
                limiter=self.charge.limiter.name, reason=error.code.lower(), seconds=seconds, model="", call=uuid4()
            )

    def patience(self, call: Call) -> float | None:
        """Return the seconds that an attempt may wait for its admission."""
        run_left = None if call.whole_run is None else call.whole_run - (self._now() - self._reserved)
        left = [seconds for seconds in (self.scope.remaining(), run_left) if seconds is not None]
        return min(left) if left else None

    def admitted(self, call: Call, ticket: Ticket) -> Call:
        """Take in that the wait for a limiter is over; return the call with the time that is left to it.

        Raises:
            BranchAbandonedError: Nobody waits for it any more.
            BranchTimeoutError: The run has no time left.
        """
        self.scope.check()
        if not ticket.granted or self.charge is None:
            raise self.given_up()
        waited = self._now() - self._reserved
        self.scope.waited(
            limiter=self.charge.limiter.name,
            dimension=ticket.bound_by,
            seconds=max(ticket.waited, ticket.delay),
            model="",
            call=uuid4(),
            cost=ticket.cost,
        )
        if call.whole_run is None:
            return call
        left = max(call.whole_run - waited, 0.0)
        own = self._plan.attempt_timeout
        return replace(call, whole_run=left, timeout=left if own is None else min(own, left))

    def _heed(self, error: BaseException, classified: Classified) -> None:
        """Tell the breaker, and the limiter, so that everybody who shares it waits.

        What this package has refused by itself says nothing of the provider: it may be about another key, or this one
        closed for a time.
        """
        if self._let_through is not None:
            self._leave(result_of(error, classified))
        ticket, self._ticket = self._ticket, None
        if ticket is not None and classified.detail != "local":
            ticket.refused(classified)

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
        child = self._manager.get_child(tag)
        if self.scope.followers:
            child = callbacks_for(replace(self.scope, attempt=call.number), child)
        return config if child is config.get("callbacks") else patch_config(config, callbacks=child)

    def scope_for(self, call: Call, token: CancelToken | None = None) -> Scope:
        """Return the scope of a call: what waits in it may not wait longer than the call may take."""
        return self.scope.for_call(call.timeout, self._now, token, call.number)

    def chunk_limit(self, first: bool) -> tuple[str, float] | None:
        """Return the timeout for the next chunk of a stream, and its seconds, if the policy has one."""
        limits = {"idle_timeout": self._plan.idle_timeout}
        if first:
            limits["first_chunk_timeout"] = self._plan.first_chunk_timeout
        return min(
            ((name, seconds) for name, seconds in limits.items() if seconds is not None),
            key=itemgetter(1),
            default=None,
        )

    def silent(self, call: Call, field: str, seconds: float) -> BranchTimeoutError:
        """Return the error of a stream that has brought no chunk for longer than it may."""
        return BranchTimeoutError(
            f"{self.name} timed out: no chunk within {field} of {seconds:g} s, in call {call.number}",
            help=f"raise TimeoutPolicy({field}=...), or give the branch a fallback",
        )

    def timed_out(self, call: Call) -> BranchTimeoutError:
        """Return the error of a call that took longer than it may."""
        run_over = call.timeout == call.whole_run
        field = "run_timeout" if run_over else "attempt_timeout"
        allowed = self._plan.run_timeout if run_over else self._plan.attempt_timeout
        return BranchTimeoutError(
            f"{self.name} timed out: {field} of {allowed:g} s, in call {call.number}",
            help=f"raise TimeoutPolicy({field}=...), or give the branch a fallback",
        )

    def given_up(self) -> BranchAbandonedError:
        """Return the error of a call that nobody waits for any more."""
        return BranchAbandonedError(f"{self.name} was given up: the fan-out around it had ended")

    def error(self, action: Raise) -> BaseException:
        """Return the error that ends the run, which also tells what became of the fallbacks."""
        for number, other in enumerate(action.others, start=1):
            note = f"fallback {number} failed too: {type(other).__name__}: {described(other, limit=200)}"
            if note not in getattr(action.error, "__notes__", ()):
                action.error.add_note(note)
        return action.error

    def _step(self, event: Event) -> Action:
        self._state, action = step(self._plan, self._state, event, self._now())
        if isinstance(action, Call):
            self.scope.tally.attempts = action.number
            if self._budget is not None and action.attempt == 1:
                self._budget.called(self._now())
            self.telling.attempt_started(action)
        return action


def scope_of(outer: Scope | None, runnable: object, name: str, manager: RunManager, now: Callable[[], float]) -> Scope:
    """Return the scope for a policy's run: the branch's own where the runnable is the branch, else one below it.

    A policy somewhere inside a branch counts its attempts apart from the branch's.
    """
    if outer is None:
        return Scope(
            path=(name,), run_id=manager.run_id, token=CancelToken(), now=now, followers=followers_of(manager.handlers)
        )
    if outer.step is runnable:
        return outer
    followers = outer.followers if outer.path else followers_of(manager.handlers)
    return replace(outer, path=(*outer.path, name), tally=Tally(), step=runnable, attempt=None, followers=followers)
