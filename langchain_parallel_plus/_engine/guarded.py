"""One call's way through breaker and limiter, and what it holds of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from langchain_parallel_plus._engine.breaker import IGNORED, SUCCEEDED, result_of
from langchain_parallel_plus._engine.call_time import CallTime
from langchain_parallel_plus.errors import BranchAbandonedError, BranchTimeoutError, LimiterError
from langchain_parallel_plus.limits.covering import Cover, cover_at

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from langchain_core.runnables import Runnable

    from langchain_parallel_plus._engine.breaker import Admitted, Result
    from langchain_parallel_plus._engine.breaker_guard import BreakerGuard
    from langchain_parallel_plus._engine.budget import SharedBudget
    from langchain_parallel_plus._engine.cancel import CancelToken
    from langchain_parallel_plus._engine.charging import Charge
    from langchain_parallel_plus._engine.hedge_state import HedgeState
    from langchain_parallel_plus._engine.machine import Call, Plan
    from langchain_parallel_plus._engine.scope import Scope
    from langchain_parallel_plus.limits.ticket import Ticket
    from langchain_parallel_plus.providers.classified import Classified

__all__ = ("GuardedCall", "Targets")


@dataclass(frozen=True, slots=True)
class Targets:
    """A runnable, its fallbacks, and the plan to go through them."""

    name: str
    runnables: tuple[Runnable[Any, Any], ...]
    plan: Plan
    charge: Charge | None = None
    budget: SharedBudget | None = None
    breaker: BreakerGuard | None = None
    hedges: HedgeState | None = None


class GuardedCall:
    """Asks breaker and limiter before a call, and tells them what became of it."""

    __slots__ = (
        "_admission",
        "_breaker",
        "_cover",
        "_let_through",
        "_reserved",
        "_ticket",
        "charge",
        "name",
        "now",
        "plan",
        "scope",
        "targets",
    )

    def __init__(self, targets: Targets, scope: Scope, now: Callable[[], float]) -> None:
        self.name = targets.name
        self.targets = targets.runnables
        self.scope = scope
        self.charge = targets.charge
        self._breaker = targets.breaker
        self.plan = targets.plan
        self.now = now
        self._let_through: Admitted | None = None
        self._ticket: Ticket | None = None
        self._cover: Cover | None = None
        self._reserved = 0.0
        self._admission: UUID

    def enter(self, call: Call) -> None:
        """Ask the circuit breaker before a call; it guards the runnable itself, and none of its fallbacks.

        Raises:
            CircuitOpenError: It is open.
        """
        if self._breaker is not None and not call.target:
            self._let_through = self._breaker.enter(self.now(), self.breaker_changed)

    def let_go(self) -> None:
        """Take in that a call has ended in no result: it was cancelled, or nobody waits for it any more."""
        self._leave(IGNORED)

    def succeeded(self) -> None:
        """Take in that the call came back."""
        self._leave(SUCCEEDED)
        if self._ticket is not None:
            self._ticket.settle(self._ticket.cost)  # limiters learn from what went well, too
            self._ticket = None

    def heed(self, error: BaseException, classified: Classified) -> None:
        """Tell the breaker, and the limiter, so that everybody who shares it waits; a second time it changes nothing.

        What this package has refused by itself says nothing of the provider: it may be about another key, or this one
        closed for a time.
        """
        if self._let_through is not None:
            self._leave(result_of(error, classified))
        ticket, self._ticket = self._ticket, None
        if ticket is not None and classified.detail != "local":
            ticket.refused(classified)

    def _leave(self, result: Result) -> None:
        let_through, self._let_through = self._let_through, None
        if let_through is not None and self._breaker is not None:
            self._breaker.leave(let_through, result, self.now(), self.breaker_changed)

    def began_to_wait(self) -> None:
        """Take in that an attempt is on its way to its limiter: the time of its run goes on."""
        self._reserved = self.now()
        self._admission = uuid4()

    def reserve(self, call: Call, value: Any, *, at_once: bool = False) -> Ticket:
        """Queue an attempt at the limiter that it is charged to; past the queue if it may not wait for others.

        Raises:
            LimiterError: The limiter refuses, or would admit too late.
        """
        assert self.charge is not None
        limiter, cost, within = self.charge.limiter, self.charge.price(value), self.patience(call)
        around = cover_at(limiter.account)
        self._cover = Cover(limiter.account, cost)
        try:
            if around is not None:
                self._ticket = around.reserve(cost, 0.0 if self.scope.at_once else within)
            elif self.scope.at_once:
                self._ticket = limiter.reserve_at_once(replace(cost, slots=0) if at_once else cost)
            elif at_once:
                self._ticket = limiter.force(replace(cost, slots=0), within=within)
            else:
                self._ticket = limiter.reserve(cost, lane=self.scope.lane, weight=self.scope.weight, within=within)
        except LimiterError as error:
            self.turned_away(error)
            raise
        if self._ticket.delay > 0 or not self._ticket.granted:
            depth = limiter.account.turnstile.planner.queued
            self.scope.queued(limiter=limiter.name, model="", call=self._admission, depth=depth)
        return self._ticket

    def give_back(self, ticket: Ticket, *, made: bool) -> None:
        """End an attempt's hold on its limiter; one that was never made costs nothing."""
        cover, self._cover = self._cover, None
        if cover is not None:
            cover.is_over = True
        if made:
            ticket.release()
        else:
            ticket.cancel()

    def turned_away(self, error: LimiterError) -> None:
        """Take in that the limiter which attempts are charged to has refused one."""
        if self.charge is not None:
            seconds = self.now() - self._reserved
            self.scope.refused(
                limiter=self.charge.limiter.name,
                reason=error.code.lower(),
                seconds=seconds,
                model="",
                call=self._admission,
            )

    def patience(self, call: Call) -> float | None:
        """Return the seconds that an attempt may wait for its admission."""
        run_left = None if call.whole_run is None else call.whole_run - (self.now() - self._reserved)
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
        waited = self.now() - self._reserved
        self.scope.waited(
            limiter=self.charge.limiter.name,
            dimension=ticket.bound_by,
            seconds=max(ticket.waited, ticket.delay),
            model="",
            call=self._admission,
            cost=ticket.cost,
        )
        if call.whole_run is None:
            return call
        left = max(call.whole_run - waited, 0.0)
        own = self.plan.attempt_timeout
        return replace(call, whole_run=left, timeout=left if own is None else min(own, left))

    def limits(self, call: Call) -> bool:
        """Return whether something limits the time of a streamed call."""
        return call.timeout is not None or self.plan.watches_chunks

    def is_observed(self, call: Call) -> bool:
        """Return whether it matters how long a call takes, also where nothing limits that."""
        return False

    def time_of(self, call: Call) -> CallTime:
        """Return the time of a call that begins now."""
        own = None if call.timeout == call.whole_run else call.timeout  # the run's end comes first
        return CallTime(self.now, own, call.whole_run, self.scope.time)

    def scope_for(self, call: Call, token: CancelToken | None = None, time: CallTime | None = None) -> Scope:
        """Return the scope of a call: what waits in it may wait as long as its run may take."""
        return self.scope.for_call(call.whole_run, self.now, token, self.ordinal(call), time, self._cover)

    def ordinal(self, call: Call) -> int:
        """Return the number of a call among those of the branch, as events tell it."""
        return call.number

    def role(self, call: Call) -> dict[str, Any]:
        """Return what a call is to the branch, as events tell it."""
        role = "fallback" if call.target else "retry" if call.attempt > 1 else "primary"
        return {"role": role, "target": call.target}

    def came_late(self, call: Call, error: BaseException | None) -> None:
        """Take in that a call's thread has returned after its time: its result is discarded."""
        outcome = "ok" if error is None else "failed"
        self.scope.emit("attempt.late", attempt=self.ordinal(call), outcome=outcome, detail=self.role(call))

    def breaker_changed(self, name: str, before: str, after: str) -> None:
        """Take in that the circuit breaker has changed."""
        self.scope.emit("breaker", detail={"name": name, "before": before, "after": after})

    def silent(self, call: Call, field: str, seconds: float) -> BranchTimeoutError:
        """Return the error of a stream that has brought no chunk for longer than it may."""
        return BranchTimeoutError(
            f"{self.name} timed out: no chunk within {field} of {seconds:g} s, in call {call.number}",
            help=f"raise TimeoutPolicy({field}=...), or give the branch a fallback",
        )

    def timed_out(self, call: Call, time: CallTime) -> BranchTimeoutError:
        """Return the error of a call that took longer than it may."""
        field = time.over() or "attempt_timeout"
        allowed = self.plan.run_timeout if field == "run_timeout" else self.plan.attempt_timeout
        return BranchTimeoutError(
            f"{self.name} timed out: {field} of {allowed:g} s, in call {call.number}",
            help=f"raise TimeoutPolicy({field}=...), or give the branch a fallback",
        )

    def given_up(self) -> BranchAbandonedError:
        """Return the error of a call that nobody waits for any more."""
        return BranchAbandonedError(f"{self.name} was given up: the fan-out around it had ended")
