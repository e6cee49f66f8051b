"""Attempts that are no model calls, charged to a limiter: a search API, a database.

An attempt waits for its admission before its own time begins to run, without its permit, and at most as long as its run
may take. What it has been granted goes back if it is never made, and its slot when it ends. Until then it covers what
is called inside it and would be charged to the same limiter: see `limits.covering`.
"""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from langchain_parallel_plus._engine.clock import SYSTEM
from langchain_parallel_plus._engine.owned import owned_context
from langchain_parallel_plus._engine.scope import blocked_loop
from langchain_parallel_plus.errors import DeclarationError, LimiterError
from langchain_parallel_plus.limits import Cost

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from langchain_parallel_plus._engine.guarded import GuardedCall
    from langchain_parallel_plus._engine.machine import Call
    from langchain_parallel_plus.limits import RateLimiter
    from langchain_parallel_plus.limits.ticket import Ticket

__all__ = ("Charge", "acharged", "charged")

ONE_CALL = Cost(slots=1)
"""One request, and one slot of a concurrency for as long as it takes."""


@dataclass(frozen=True, slots=True)
class Charge:
    """Whom an attempt is charged to, and what it costs."""

    limiter: RateLimiter
    cost: Cost | Callable[[Any], Cost] = ONE_CALL

    @property
    def depends(self) -> bool:
        """Whether the cost depends on the input."""
        return callable(self.cost)

    def price(self, value: Any) -> Cost:
        """Return what an attempt with this input costs; with a slot, as `RateLimiter.hold` takes one.

        Raises:
            DeclarationError: The user's function returned something else.
        """
        given = self.cost
        cost: object = given if isinstance(given, Cost) else given(value)
        if not isinstance(cost, Cost):
            if callable(close := getattr(cost, "close", None)):
                close()  # else Python warns of a coroutine that was never awaited
            msg = f"BranchPolicy.cost returned {cost!r}, which is no Cost"
            raise DeclarationError(msg, help="return Cost(requests=1) from it")
        return cost if cost.slots else replace(cost, slots=1)


@contextmanager
def charged(run: GuardedCall, call: Call, value: Callable[[], Any]) -> Iterator[Call]:
    """Wait in this thread for an attempt's admission; yield the call with the time that is left to it."""
    if run.charge is None or call.target:
        yield call
        return
    run.began_to_wait()
    ticket = run.reserve(call, value() if run.charge.depends else None, at_once=blocked_loop())
    made = False
    try:
        if ticket.delay > 0 or not ticket.granted:
            with _waiting(run, ticket), run.scope.suspended():
                if ticket.delay > 0:
                    SYSTEM.sleep(ticket.delay, run.scope.token)
                else:
                    ticket.wait(run.patience(call))
        admitted = run.admitted(call, ticket)
        made = True
        yield admitted
    except LimiterError as error:
        if not made:
            run.turned_away(error)
        raise
    finally:
        run.give_back(ticket, made=made)


@owned_context
async def acharged(run: GuardedCall, call: Call, value: Callable[[], Awaitable[Any]]) -> AsyncIterator[Call]:
    """Wait in this task for an attempt's admission; yield the call with the time that is left to it."""
    if run.charge is None or call.target:
        yield call
        return
    run.began_to_wait()
    ticket = run.reserve(call, await value() if run.charge.depends else None)
    made = False
    try:
        if ticket.delay > 0 or not ticket.granted:
            with _waiting(run, ticket):
                async with run.scope.asuspended():
                    if ticket.delay > 0:
                        await asyncio.sleep(ticket.delay)
                    else:
                        await ticket.wait_async(run.patience(call))
        admitted = run.admitted(call, ticket)
        made = True
        yield admitted
    except LimiterError as error:
        if not made:
            run.turned_away(error)
        raise
    finally:
        run.give_back(ticket, made=made)


@contextmanager
def _waiting(run: GuardedCall, ticket: Ticket) -> Iterator[None]:
    """Cancel the ticket when the branch is given up; meanwhile the time of attempts around stands still."""
    forget = run.scope.on_cancel(ticket.cancel)
    go_on = run.scope.stand_still()
    try:
        yield
    finally:
        go_on()
        forget()
