"""A limiter as a context manager: a cost and a slot for the time of a block."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from langchain_parallel_plus.limits.acquisition import Acquisition
    from langchain_parallel_plus.limits.cost import Cost
    from langchain_parallel_plus.limits.ticket import Ticket

__all__ = ("Hold",)


class Hold:
    """What `RateLimiter.hold` returns: enters with the ticket, with `with` or with `async with`."""

    def __init__(self, limiter: Acquisition, cost: Cost | None, timeout: float | None) -> None:
        self._limiter = limiter
        self._cost = cost
        self._timeout = timeout
        self._tickets: list[Ticket] = []

    def __enter__(self) -> Ticket:
        ticket = self._reserve()
        ticket.wait(self._timeout)
        self._tickets.append(ticket)
        return ticket

    async def __aenter__(self) -> Ticket:
        ticket = self._reserve()
        await ticket.wait_async(self._timeout)
        self._tickets.append(ticket)
        return ticket

    def __exit__(self, *_exc: object) -> None:
        self._tickets.pop().release()

    async def __aexit__(self, *_exc: object) -> None:
        self._tickets.pop().release()

    def _reserve(self) -> Ticket:
        cost = self._cost or self._limiter.account.typical.cost()
        return self._limiter.reserve(replace(cost, slots=max(cost.slots, 1)), within=self._timeout)
