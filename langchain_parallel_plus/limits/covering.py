"""Covers: what an attempt has paid at a limiter, for the calls inside it that the same limiter governs.

An attempt holds a slot and has paid for its requests (`BranchPolicy(limiter=...)`). Were a model call inside it to ask
the same limiter for a slot, it would wait for the attempt that waits for it; and one request would be paid for twice.
So calls inside hold the attempt's slot, and use up its requests before any of their own are charged. What is charged
is taken past the queue, in which others may wait for the slot, but not before its time has come.
"""

from __future__ import annotations

import threading
from contextvars import ContextVar
from dataclasses import replace
from typing import TYPE_CHECKING

from langchain_parallel_plus.errors import LimiterError
from langchain_parallel_plus.limits.cost import Cost
from langchain_parallel_plus.limits.ticket import Ticket
from langchain_parallel_plus.limits.waiting.turnstile import Entrant

if TYPE_CHECKING:
    from langchain_parallel_plus.limits.account import Account

__all__ = ("Cover", "cover_at", "hold_cover")


class Cover:
    """What one attempt has paid, and not yet used up.

    Args:
        account: Where.
        cost: What. If it names tokens, they are those of all calls inside.
    """

    __slots__ = ("_account", "_left", "_lock", "_pays_tokens", "is_over")

    def __init__(self, account: Account, cost: Cost) -> None:
        self.is_over = False
        """Whether the attempt has ended, and with it what it holds."""
        self._account = account
        self._left = cost.requests
        self._pays_tokens = bool(cost.total_tokens or cost.input_tokens or cost.output_tokens)
        self._lock = threading.Lock()

    @property
    def account(self) -> Account:
        """Where it was paid."""
        return self._account

    def reserve(self, cost: Cost, within: float | None = None) -> Ticket:
        """Return the ticket of a call inside, whose request may be sent after the ticket's `delay`.

        Args:
            cost: Of the call; what the attempt has paid is taken off.
            within: Seconds that the caller can wait at most.

        Raises:
            LimiterTimeoutError: The delay is longer than `within`; nothing was taken.
            QuotaExhaustedError: The key is closed.
        """
        with self._lock:
            paid = min(self._left, cost.requests)
            self._left -= paid
        rest = replace(cost, requests=cost.requests - paid, slots=0)
        if cost.certain is not None:
            rest = replace(rest, certain=replace(cost.certain, requests=rest.requests, slots=0))
        if self._pays_tokens:
            rest = Cost(requests=rest.requests)
        turnstile = self._account.turnstile
        entrant = Entrant(amounts=self._account.amounts(rest), generation=turnstile.generation)
        try:
            delay = turnstile.cover(entrant, within)
        except LimiterError:
            with self._lock:
                self._left += paid
            raise
        entrant.settled = self._pays_tokens  # what the call turns out to have used is paid as well
        return Ticket(self._account, entrant, rest, delay)


_COVERS: ContextVar[tuple[Cover, ...]] = ContextVar("lcpp_covers", default=())


def hold_cover(cover: Cover) -> None:
    """Let `cover` cover the calls that are made in this context from now on."""
    _COVERS.set((*(one for one in _COVERS.get() if not one.is_over), cover))


def cover_at(account: object) -> Cover | None:
    """Return the cover that calls of this context have at `account`: the innermost attempt's."""
    covers = _COVERS.get()
    if not covers:  # as mostly; asked before every acquisition
        return None
    for cover in reversed(covers):
        if cover.account is account and not cover.is_over:
            return cover
    return None
