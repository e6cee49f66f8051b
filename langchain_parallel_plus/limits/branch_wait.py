"""What surrounds a wait for a limiter inside a branch, whoever has sent the call there: the gate, or the model itself.

A wait is told, the time of the attempts around stands still for it, and it ends when nobody waits for its branch.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING
from uuid import uuid4

from langchain_parallel_plus.errors import BranchAbandonedError, LimiterError
from langchain_parallel_plus.limits.branch_scope import scope_here
from langchain_parallel_plus.limits.passes import open_call

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

    from langchain_parallel_plus.limits.acquisition import Acquisition
    from langchain_parallel_plus.limits.branch_scope import GateScope
    from langchain_parallel_plus.limits.ticket import Ticket

__all__ = ("own_wait", "wait_in")


@contextmanager
def wait_in(scope: GateScope, ticket: Ticket, limiter: Acquisition, *, model: str, call: UUID) -> Iterator[None]:
    """Wait for `ticket` inside of this, as a call of the branch of `scope`.

    Raises:
        BranchAbandonedError: The branch has ended meanwhile.
    """
    name, depth = limiter.account.turnstile.label, limiter.account.turnstile.planner.queued
    scope.queued(limiter=name, model=model, call=call, depth=depth)
    forget = scope.on_cancel(ticket.cancel)
    go_on = scope.stand_still()
    try:
        yield
    finally:
        go_on()
        forget()
    scope.check()
    if not ticket.granted:
        msg = f"branch {scope.lane!r} was given up while its call waited for limiter {name!r}"
        raise BranchAbandonedError(msg)


@contextmanager
def own_wait(ticket: Ticket, limiter: Acquisition) -> Iterator[None]:
    """Wait for `ticket` inside of this, where no gate stands: at the `rate_limiter=` of a model, or in a user's step.

    Nothing but the wait is told: a limiter that lets everybody pass at once must not cost more than LangChain's.

    Raises:
        BranchAbandonedError: The code belongs to a branch, which has ended meanwhile.
    """
    scope = scope_here()
    if scope is None or (ticket.granted and not ticket.delay > 0):
        yield
        return
    made = open_call()
    call, model = (uuid4(), "") if made is None else made
    turnstile = limiter.account.turnstile
    began = turnstile.clock()
    try:
        with wait_in(scope, ticket, limiter, model=model, call=call):
            yield
    except LimiterError as error:
        seconds = turnstile.clock() - began
        scope.refused(limiter=turnstile.label, reason=error.code.lower(), seconds=seconds, model=model, call=call)
        raise
    cost = None if made is None else ticket.cost  # else it would be counted as a call
    scope.waited(
        limiter=turnstile.label,
        dimension=ticket.bound_by,
        seconds=ticket.waited,
        model=model,
        call=call,
        cost=cost,
    )
