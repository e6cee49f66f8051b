"""Admission of one model call by all limiters of its branch, written once for threads and tasks.

`admission` decides and yields the tickets that have to be waited for; the three drivers only wait. Limiters with a
concurrency are passed last, and in one order everywhere (by age), so that two branches can never each hold what the
other waits for, and a slot is not held while waiting for tokens elsewhere. The others come in the order of their waits.
"""

from __future__ import annotations

import asyncio
import threading
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from langchain_parallel_plus.limits.branch_wait import wait_in
from langchain_parallel_plus.limits.covering import cover_at
from langchain_parallel_plus.limits.gate.hidden_retries import warn_of_hidden_retries
from langchain_parallel_plus.limits.gate.ledger import Holding

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from langchain_parallel_plus.limits.cost import Cost
    from langchain_parallel_plus.limits.gate.ledger import OpenCall
    from langchain_parallel_plus.limits.limiter import RateLimiter
    from langchain_parallel_plus.limits.ticket import Ticket

__all__ = ("admit_in_task", "admit_in_thread", "admit_on_loop_thread")


def admission(call: OpenCall, *, forced: bool = False) -> Generator[Ticket, None, None]:
    """Take a ticket of every limiter that governs `call`; yield those that have to be waited for.

    Args:
        call: The call, which gets the tickets.
        forced: Pass the queues by, for a caller that must not wait for others, and take no slots.

    Raises:
        BranchAbandonedError: The branch has ended.
        LimiterError: A limiter refuses, or would admit too late for the branch's deadline.
    """
    scope = call.scope
    scope.check()
    for offer in _in_order(call):
        limiter = offer.limiter
        call.ask(limiter)
        held = _reserve(offer, call, forced=forced)
        ticket = held.ticket
        call.holdings.append(held)
        if call.ended:  # swept while it was on its way here
            ticket.cancel()
        if ticket.delay > 0 or not ticket.granted:
            with wait_in(scope, ticket, limiter, model=call.request.model, call=call.run_id):
                yield ticket
        call.call_pass.add(limiter.account)
        scope.waited(
            limiter=limiter.name,
            dimension=ticket.bound_by,
            seconds=ticket.waited,
            model=call.request.model,
            call=call.run_id,
            cost=ticket.cost,
        )
    call.admitted = True
    scope.called(model=call.request.model, call=call.run_id)


def admit_in_thread(call: OpenCall) -> None:
    """Wait for admission, blocking this thread."""
    with closing(admission(call)) as steps:
        for ticket in steps:
            with call.scope.suspended():
                if ticket.delay > 0:
                    _wait_out(call, ticket)
                else:
                    ticket.wait(call.scope.remaining())


async def admit_in_task(call: OpenCall) -> None:
    """Wait for admission without blocking the loop."""
    with closing(admission(call)) as steps:
        for ticket in steps:
            async with call.scope.asuspended():
                if ticket.delay > 0:
                    await asyncio.sleep(ticket.delay)
                else:
                    await ticket.wait_async(call.scope.remaining())


def admit_on_loop_thread(call: OpenCall) -> None:
    """Wait for admission in a synchronous call on the thread of a running loop, which is blocked by it anyway.

    The wait is for time only: whoever holds a slot, or stands ahead in a queue, may run on this very loop and could
    never go on. So queues are passed by, at the price of the quota that is taken, and slots are not counted.
    """
    with closing(admission(call, forced=True)) as steps:
        for ticket in steps:
            _wait_out(call, ticket)


def _wait_out(call: OpenCall, ticket: Ticket) -> None:
    given_up = threading.Event()
    forget = call.scope.on_cancel(given_up.set)
    try:
        given_up.wait(ticket.delay)
    finally:
        forget()


class Offer(NamedTuple):
    """What a call is to take from a limiter."""

    limiter: RateLimiter
    cost: Cost
    correction: float


def _in_order(call: OpenCall) -> Iterator[Offer]:
    """Yield the limiters that govern a call and have not admitted it yet, each when its turn has come.

    Those without slots: the longest wait first, looked up anew after each. What a call holds of a rate while it waits
    elsewhere would reach its provider late, and together with what is admitted then.
    """
    request = call.request
    governing = [limiter for limiter in call.scope.limiters if limiter.governs(request.provider, request.model)]
    if not governing:
        return
    warn_of_hidden_retries(call.serialized, provider=request.provider, model=request.model, limiter=governing[0].name)
    if len(governing) == 1 and not call.holdings:
        yield _offer(governing[0], call)
        return
    passed = {held.limiter.account.rank for held in call.holdings}
    once = {rank: limiter for limiter in governing if (rank := limiter.account.rank) not in passed}
    offers = [_offer(once[rank], call) for rank in sorted(once)]
    while offers:
        free = [one for one in offers if not one.limiter.account.has_slots]
        chosen = offers[0] if len(free) < 2 else max(free, key=lambda one: _expected(one, call))
        offers.remove(chosen)
        yield chosen


def _expected(offer: Offer, call: OpenCall) -> float:
    return offer.limiter.expected_wait(offer.cost, lane=call.scope.lane)


def _offer(limiter: RateLimiter, call: OpenCall) -> Offer:
    request, account = call.request, limiter.account
    limiter.meet(request.endpoint)
    correction = account.corrections.factor(call.scope.lane, request.model)
    return Offer(limiter, limiter.estimate(request, correction=correction), correction)


def _reserve(offer: Offer, call: OpenCall, *, forced: bool) -> Holding:
    scope, (limiter, cost, correction) = call.scope, offer
    slots = 0 if forced or not limiter.account.has_slots else call.slots
    if cost.slots != slots:
        cost = replace(cost, slots=slots)
    within = scope.remaining()
    if (cover := cover_at(limiter.account)) is not None:
        return Holding(limiter, cover.reserve(cost, 0.0 if scope.at_once else within), correction)
    if scope.at_once:
        ticket = limiter.reserve_at_once(cost)
    elif forced:
        ticket = limiter.force(cost, within=within)
    else:
        ticket = limiter.reserve(cost, lane=scope.lane, weight=scope.weight, within=within)
    return Holding(limiter, ticket, correction)
