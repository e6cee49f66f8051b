"""Taking from a quota: at once, after a wait in a thread or a task, with a ticket, for a block; or from now on not."""

from __future__ import annotations

import asyncio
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from langchain_core.rate_limiters import BaseRateLimiter

from langchain_parallel_plus.errors import DeclarationError, LimiterTimeoutError
from langchain_parallel_plus.limits.branch_wait import own_wait
from langchain_parallel_plus.limits.cost import check_cost
from langchain_parallel_plus.limits.covering import cover_at
from langchain_parallel_plus.limits.declaration import check_seconds, check_share, check_timeout, seconds_until
from langchain_parallel_plus.limits.hold import Hold
from langchain_parallel_plus.limits.passes import use_pass
from langchain_parallel_plus.limits.ticket import Ticket
from langchain_parallel_plus.limits.waiting.turnstile import Entrant

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime, timedelta

    from langchain_parallel_plus.limits.account import Account
    from langchain_parallel_plus.limits.cost import Cost
    from langchain_parallel_plus.limits.waiting.turnstile import Turnstile

__all__ = ("Acquisition",)


class Acquisition(BaseRateLimiter):
    """What can be taken from the quota of an account, and when not."""

    _account: Account
    _turnstile: Turnstile

    @property
    def account(self) -> Account:
        """The state that all limiters of one name share."""
        return self._account

    def is_short(self, calm: float) -> bool:
        """Return whether the quota is short: closed, paused, waited for, or refused by the provider of late.

        Args:
            calm: Seconds after a refusal in which it counts as short.
        """
        return self._account.is_short(calm)

    def acquire(self, cost: Cost | None = None, *, blocking: bool | None = None, timeout: float | None = None) -> bool:
        """Take `cost` from the quota, once there is enough of it.

        Args:
            cost: By default one request of average size, without a slot of `concurrency`.
            blocking: `False` to return `False` at once where others would wait. Said outright, as LangChain does for a
                model's `rate_limiter=`, it is for a model call: one that its branch's gate has admitted is not charged
                again.
            timeout: Seconds to wait at most. Known beforehand to be too short, it raises at once.

        Returns:
            Whether the cost was taken.

        Raises:
            LimiterTimeoutError: Not within `timeout` seconds.
            RequestTooLargeError: It is more than a limit itself.
            QuotaExhaustedError: The key is closed.
            BranchAbandonedError: Inside a branch: its fan-out has ended meanwhile.
        """
        if timeout is not None:
            check_timeout(timeout)
        if (blocking is not None and cost is None and use_pass(self._account)) or self._at_once(cost):
            return True
        if blocking is not None and not blocking:
            return False
        if cost is None and (covered := self._covered(timeout)) is not None:
            with own_wait(covered, self), _taken_back(covered):
                threading.Event().wait(covered.delay)
            return True
        ticket = self.reserve(cost, within=timeout)
        with own_wait(ticket, self):
            passed = ticket.wait(timeout)
        self._account.taken_unheard()
        return passed

    async def aacquire(
        self, cost: Cost | None = None, *, blocking: bool | None = None, timeout: float | None = None
    ) -> bool:
        """Take `cost` from the quota as `acquire` does, without blocking the event loop."""
        if timeout is not None:
            check_timeout(timeout)
        if (blocking is not None and cost is None and use_pass(self._account)) or self._at_once(cost):
            return True
        if blocking is not None and not blocking:
            return False
        if cost is None and (covered := self._covered(timeout)) is not None:
            with own_wait(covered, self), _taken_back(covered):
                await asyncio.sleep(covered.delay)
            return True
        ticket = self.reserve(cost, within=timeout)
        with own_wait(ticket, self):
            passed = await ticket.wait_async(timeout)
        self._account.taken_unheard()
        return passed

    def try_acquire(self, cost: Cost | None = None) -> bool:
        """Take `cost` from the quota if it is there and nobody waits; return whether it was."""
        return self._at_once(cost)

    def reserve(
        self, cost: Cost | None = None, *, lane: str = "", weight: float = 1.0, within: float | None = None
    ) -> Ticket:
        """Queue for `cost` and return the ticket to wait for, settle, cancel and release.

        A ticket is admitted when its turn comes, waited for or not: `cancel` one that is not wanted any more.

        Args:
            cost: By default one request of average size.
            lane: Requests are first come, first served within a lane, and lanes share the quota by `weight`.
            weight: A lane of weight 2 gets twice the quota of one of weight 1 while both have requests waiting.
            within: Seconds that the caller can wait at most.

        Raises:
            LimiterTimeoutError: The planned wait is longer than `within`; nothing was queued.
            RequestTooLargeError: It is more than a limit itself.
            QuotaExhaustedError: The key is closed.
        """
        check_share("weight", weight)
        if within is not None:
            check_seconds("within", within, endless=True)
        cost, entrant = self._entrant(cost, lane, weight)
        self._turnstile.enter(entrant, within)
        return Ticket(self._account, entrant, cost)

    def expected_wait(self, cost: Cost | None = None, *, lane: str = "") -> float:
        """Return the seconds that a request would wait if it joined `lane` now; infinite while the key is closed.

        It takes nothing, and promises nothing: close to right in one lane, and a lower bound where slots are short.

        Args:
            cost: By default one request of average size.
            lane: As for `reserve`.
        """
        return self._turnstile.expected_wait(self._entrant(cost, lane, 1.0)[1])

    def reserve_at_once(self, cost: Cost | None = None) -> Ticket:
        """Take `cost` if it is there and nobody waits, as `try_acquire` does, and return its ticket.

        For calls that are made beside others and are not worth a wait, such as hedges.

        Raises:
            LimiterTimeoutError: It would have to wait; nothing was taken.
            RequestTooLargeError: It is more than a limit itself.
            QuotaExhaustedError: The key is closed.
        """
        cost, entrant = self._entrant(cost, "", 1.0)
        self._turnstile.pass_at_once(entrant)
        return Ticket(self._account, entrant, cost)

    def force(self, cost: Cost | None = None, *, within: float | None = None) -> Ticket:
        """Take `cost` past the queue; the caller sends its request `ticket.delay` seconds from now.

        For a caller that must not depend on other waiters' progress, such as a synchronous call on an event loop's
        thread: whoever holds what it waits for may run on that very loop.
        """
        cost, entrant = self._entrant(cost, "", 1.0)
        return Ticket(self._account, entrant, cost, self._turnstile.force(entrant, within))

    def hold(self, cost: Cost | None = None, *, timeout: float | None = None) -> Hold:
        """Return a context manager that takes `cost` and a slot of `concurrency`, and gives the slot back at its end.

        Example:
            ```python
            with limiter.hold(Cost(tokens=1_000)) as ticket:
                answer = search(query)
                ticket.settle(Cost(tokens=answer.tokens))
            ```
        """
        check_timeout(timeout)
        check_cost(cost)
        return Hold(self, cost, timeout)

    def release(self, slots: int = 1) -> None:
        """Give back slots that `acquire(Cost(slots=...))` took. Tickets have a `release` of their own.

        Raises:
            DeclarationError: It is no whole number.
            LimiterError: More than are in use.
        """
        if isinstance(slots, bool) or not isinstance(slots, int):
            msg = f"release({slots!r}) gives back no number of slots"
            raise DeclarationError(msg, help="give a whole number; a call takes one")
        self._turnstile.release_slots(slots)

    def pause(self, until: datetime | timedelta | float, *, keep: Cost | None = None) -> None:
        """Admit nothing until then, and go on with nearly empty buckets rather than with a burst.

        Args:
            until: A moment with its time zone, or seconds or a `timedelta` from now; at most 31 days. What ends sooner
                than the present pause changes nothing, and neither does what is over. `reopen` ends a pause early.
            keep: What may pass right at the end, such as the call that was refused; by default a second's worth.

        Example:
            >>> from langchain_parallel_plus.limits import RateLimiter
            >>> limiter = RateLimiter(requests_per_minute=60)
            >>> limiter.pause(30)
            >>> limiter.try_acquire()
            False

        Raises:
            DeclarationError: It is no time, a moment of no time zone, or more than 31 days away.
        """
        seconds = seconds_until(until)
        kept = None if keep is None else self._account.amounts(keep)
        if seconds > 0:
            self._turnstile.change(lambda planner, now: planner.pause(now + seconds, now, kept))

    def close(self, reason: str) -> None:
        """Refuse every request from now on, those that wait included, with `QuotaExhaustedError`."""
        self._turnstile.close(reason)

    def reopen(self) -> None:
        """Undo `close`, and end a pause: admission goes on now, with the nearly empty buckets of a pause's end."""
        self._turnstile.reopen()
        self._turnstile.change(lambda planner, now: planner.resume(now))

    def _at_once(self, cost: Cost | None) -> bool:
        account = self._account
        if cost is not None:
            check_cost(cost)
            passed = account.turnstile.admit(account.amounts(cost), cost.slots)
        elif cover_at(account) is None:
            passed = account.turnstile.admit(account.typical_amounts, 0)
        else:
            try:
                return self._covered(0.0) is not None
            except LimiterTimeoutError:
                return False
        if passed and account.may_probe:
            account.taken_unheard()
        return passed

    def _covered(self, within: float | None) -> Ticket | None:
        """Return the ticket of a call of average size that a charged attempt covers; `None` if none does."""
        cover = cover_at(self._account)
        return None if cover is None else cover.reserve(self._account.typical.cost(), within)

    def _entrant(self, cost: Cost | None, lane: str, weight: float) -> tuple[Cost, Entrant]:
        check_cost(cost)
        cost = cost or self._account.typical.cost()
        slots = cost.slots if self._account.has_slots else 0
        entrant = Entrant(
            amounts=self._account.amounts(cost),
            slots=slots,
            lane=lane,
            weight=weight,
            generation=self._turnstile.generation,
        )
        return cost, entrant


@contextmanager
def _taken_back(ticket: Ticket) -> Iterator[None]:
    """Cancel what was granted for a later time if nobody waits for that."""
    try:
        yield
    except BaseException:  # a cancelled task, too
        ticket.cancel()
        raise
