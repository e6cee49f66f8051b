"""One planner and everyone who waits at it: any number of threads and of event loops at once.

One of those who wait has the one exact timer (the leader): the thread at the head, or else any thread, as its time-out;
where only tasks wait, the loop that runs, or that of the head. When it fires, everything due is admitted, the admitted
are woken where they live, and the timer is kept or handed on. Nobody polls. A loop can die or stall (it was closed, or
a callback blocks it); so every waiter also has a coarse timer of its own, past the time at which it should be through,
and every arrival, release and refund runs the same dispatch.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from langchain_parallel_plus.errors import LimiterError, LimiterTimeoutError, QuotaExhaustedError
from langchain_parallel_plus.limits.planning.lanes import Request, RequestState
from langchain_parallel_plus.limits.waiting.crowd import Crowd
from langchain_parallel_plus.limits.waiting.waiters import Leader, ThreadWaiter

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from langchain_parallel_plus.limits.planning.planner import Planner
    from langchain_parallel_plus.limits.waiting.waiters import Waiter

__all__ = ("Entrant", "Turnstile")


@dataclass(slots=True, eq=False, kw_only=True)
class Entrant(Request):
    """A request with somebody who may wait for it."""

    waiter: Waiter | None = None
    passed: float = 0.0
    """When it was let through, on the turnstile's clock."""
    error: Exception | None = None
    """Why it never will be."""
    settled: bool = False
    """Charged with what it really used: the rates are not refunded any more."""
    generation: int = 0
    """The turnstile's when it was granted."""


class Closure(NamedTuple):
    """Why nobody is let through, and until when on the clock."""

    reason: str
    until: float


class Turnstile:
    """The lock, the timer and the waiters around one planner.

    Args:
        label: The limiter's name in messages.
        planner: The decisions.
        clock: Seconds that never go back.
    """

    def __init__(self, label: str, planner: Planner[Entrant], clock: Callable[[], float]) -> None:
        self.label = label
        self.planner = planner
        self.clock = clock
        self.waited_seconds = 0.0
        self.generation = 0
        """How many forks this state went through: what a parent's threads hold, they do not hold in the child."""
        self.lock = threading.Lock()
        self._closure: Closure | None = None
        self._leader = Leader(self._tick)
        self._crowd: Crowd[Entrant] = Crowd()
        self._advanced_at = -math.inf

    @property
    def closed(self) -> str | None:
        """Why nobody is let through at the moment; `None` if it is open."""
        closure = self._closure
        return None if closure is None or closure.until <= self.clock() else closure.reason

    def admit(self, amounts: Sequence[float], slots: int) -> bool:
        """Let a request through at once, or not at all."""
        with self.lock:
            now = self.clock()
            if self._closure is not None:
                self._check_open(now)
            if self.planner.admit(amounts, slots, now):
                return True
            if not self.planner.queued:
                return False
        self.dispatch()
        with self.lock:
            now = self.clock()
            self._check_open(now)
            return self.planner.admit(amounts, slots, now)

    def expected_wait(self, entrant: Entrant) -> float:
        """Return the seconds that `entrant` would wait; infinite if it would be refused."""
        self.dispatch()
        with self.lock:
            now = self.clock()
            if self._closure is not None and now < self._closure.until:
                return math.inf
            return max(self.planner.forecast(entrant, now) - now, 0.0)

    def enter(self, entrant: Entrant, within: float | None = None) -> None:
        """Queue `entrant`; it may be through when this returns.

        Raises:
            LimiterTimeoutError: It would have to wait longer than `within` seconds; nothing was queued.
        """
        self.dispatch()
        with self.lock:
            now = self.clock()
            if self._closure is not None:
                self._check_open(now)
            if (within is None or within >= 0) and self.planner.grant(entrant, now):
                entrant.passed = now
                return
            if within is not None and (wait := self.planner.forecast(entrant, now) - now) > within:
                raise self._too_late(f"would admit a request in {wait:.3g} s, and there are {max(within, 0):.3g} s")
            entrant.unattended = True
            self.planner.submit(entrant, now)
        self.dispatch()

    def pass_at_once(self, entrant: Entrant) -> None:
        """Let `entrant` through now, as `admit` would.

        Raises:
            LimiterTimeoutError: It would have to wait; nothing was taken.
        """
        self.dispatch()
        with self.lock:
            now = self.clock()
            if self._closure is not None:
                self._check_open(now)
            if not self.planner.grant(entrant, now):
                raise self._too_late("does not admit a request at once, and this one does not wait")
            entrant.passed = now

    def force(self, entrant: Entrant, within: float | None = None) -> float:
        """Admit `entrant` past the queue; return the seconds after which its request may be sent.

        Raises:
            LimiterTimeoutError: That is longer than `within` seconds; nothing was taken.
        """
        self.dispatch()
        with self.lock:
            now = self.clock()
            if self._closure is not None:
                self._check_open(now)
            return self._force(entrant, within, now)

    def cover(self, entrant: Entrant, within: float | None = None) -> float:
        """Admit what is part of a request that was admitted before; return the seconds as `force` does.

        Without amounts of its own it goes at once, also in a pause, and with some while there is no limit to keep to.

        Raises:
            LimiterTimeoutError: As for `force`.
        """
        with self.lock:
            now = self.clock()
            if self._closure is not None:
                self._check_open(now)
            provider = self.planner.provider
            if any(entrant.amounts) and (provider is None or not provider.probing):
                return self._force(entrant, within, now)
            # Also while the answer to a probe is awaited: it may be this one that brings it.
            entrant.amounts = (0.0,) * len(entrant.amounts)
            entrant.submitted = entrant.planned = entrant.passed = now
            entrant.state = RequestState.GRANTED
            return 0.0

    def withdraw(self, entrant: Entrant) -> None:
        """Take `entrant` back, queued or let through, and wake it if it waits."""
        if entrant.settled:
            self.release(entrant)
            return
        if entrant.state is RequestState.CANCELLED:
            return  # without the lock: a task that is collected as garbage comes here too, whoever holds it
        with self.lock:
            self._check_generation(entrant)
            changed = self._cancel(entrant)
        if changed:
            if entrant.waiter is not None:
                entrant.waiter.wake()
            self.dispatch()

    def settle(self, entrant: Entrant, amounts: Sequence[float]) -> bool:
        """Charge `amounts` in place of what `entrant` was let through with, once; return whether that was now."""
        with self.lock:
            if entrant.settled or entrant.state is not RequestState.GRANTED:
                return False
            entrant.settled = True
            now = self.clock()
            self.planner.landed(entrant, now)
            difference = [used - held for used, held in zip(amounts, entrant.amounts, strict=True)]
            self.planner.charge(difference, now, entrant.planned)
        self.dispatch()
        return True

    def release(self, entrant: Entrant) -> None:
        """Give the slots of `entrant` back, once."""
        if entrant.settled and not entrant.slots:
            return  # and its call is known to have landed
        with self.lock:
            if entrant.state is not RequestState.GRANTED:
                return
            self._check_generation(entrant)
            slots, entrant.slots = entrant.slots, 0
            self.planner.landed(entrant, self.clock())
            self.planner.release(slots, self.clock())
        self.dispatch()

    def release_slots(self, slots: int) -> None:
        """Give back slots that were taken without a ticket.

        Raises:
            LimiterError: More than are in use.
        """
        with self.lock:
            used = self.planner.slots_used
            if not 0 <= slots <= used:
                msg = f"limiter {self.label!r} was given {slots} slots back, and {used} are in use"
                raise LimiterError(msg, help="release each slot once; acquire() takes one only with Cost(slots=1)")
            self.planner.release(slots, self.clock())
        self.dispatch()

    def change(self, change: Callable[[Planner[Entrant], float], None]) -> None:
        """Apply `change(planner, now)`, refuse what can never pass after it, and plan anew."""
        with self.lock:
            change(self.planner, self.clock())
            refused = self.planner.oversized()
            for entrant, error in refused:
                entrant.error = error
        for entrant, _ in refused:
            self.withdraw(entrant)
        self.dispatch()

    def close(self, reason: str, seconds: float = math.inf) -> None:
        """Refuse everybody from now on, with `QuotaExhaustedError`.

        Args:
            reason: For messages.
            seconds: After these it opens by itself, unless it is to be closed for longer already.
        """
        with self.lock:
            now = self.clock()
            if self._closure is None or now + seconds >= self._closure.until:
                self._closure = Closure(reason, now + seconds)
            dropped = self.planner.drop_queue()
            for entrant in dropped:
                entrant.error = self._exhausted(self._closure, now)
                self._crowd.leave(entrant.waiter)
        for entrant in dropped:
            if entrant.waiter is not None:
                entrant.waiter.wake()

    def reopen(self) -> None:
        """Undo `close`."""
        with self.lock:
            self._closure = None

    def attach(self, entrant: Entrant, waiter: Waiter) -> float:
        """Let `waiter` wait for `entrant`; return when something should have happened, on the clock, if all goes well.

        It should be through by then; and of each loop one finds out sooner whether the leader is alive.
        """
        looks_after = False
        with self.lock:
            if entrant.state is RequestState.QUEUED:
                self._crowd.leave(entrant.waiter)
                looks_after = self._crowd.join(waiter, entrant)
                entrant.waiter, entrant.unattended = waiter, False
            due = self.planner.drained(self.clock())
        self.dispatch(waiter)
        return min(due, self._leader.at()) if looks_after else due

    def leads_until(self, waiter: ThreadWaiter) -> float | None:
        """Return until when `waiter` has to sleep as the leader; `None` if it is not."""
        return self._leader.until(waiter)

    def expire(self, entrant: Entrant, timeout: float) -> None:
        """Withdraw `entrant` if it still waits, because its `timeout` seconds are over."""
        with self.lock:
            if entrant.state is not RequestState.QUEUED:
                return
            entrant.error = self._too_late(f"did not admit a request within {timeout:.3g} s")
        self.withdraw(entrant)

    def dispatch(self, awake: Waiter | None = None) -> None:
        """Let through whoever is due, and see to the next timer.

        Args:
            awake: The waiter that calls: a thread, which will look up its own time-out, or one on a loop that runs.
        """
        if not isinstance(awake, ThreadWaiter) and not self.planner.queued:
            return
        with self.lock:
            lost = self._drop_lost()
            grants = self._advance(awake)
        del lost  # and with them their tasks, which withdraw
        for entrant in grants:
            if entrant.waiter is not None and not entrant.waiter.wake():
                self.withdraw(entrant)

    def look(self) -> None:
        """Let through whoever is due, unless that was seen to in this very moment."""
        if self.clock() != self._advanced_at:
            self.dispatch()

    def after_fork(self) -> None:
        """Forget the parent's threads and loops; keep what is taken of the quota."""
        self.lock = threading.Lock()
        self._leader = Leader(self._tick)
        self._crowd = Crowd()
        self.planner.forget_queue()
        self.planner.slots_used = 0
        self.generation += 1

    def _force(self, entrant: Entrant, within: float | None, now: float) -> float:
        entrant.passed = self.planner.force(entrant, now, math.inf if within is None else now + within)
        delay = entrant.passed - now
        if within is not None and entrant.state is not RequestState.GRANTED:
            raise self._too_late(f"would admit a request in {delay:.3g} s, and there are {max(within, 0):.3g} s")
        self.waited_seconds += delay
        return delay

    def _advance(self, awake: Waiter | None) -> list[Entrant]:
        before = self._leader.waiter
        if isinstance(awake, ThreadWaiter):
            self._leader.awakes(awake)
        passed: list[Entrant] = []
        while True:
            now = self.clock()
            grants, wake_at = self.planner.advance(now)
            self._advanced_at = now
            for entrant in grants:
                entrant.passed = now
                self._crowd.leave(entrant.waiter)
                self.waited_seconds += now - entrant.submitted
            passed += grants
            if wake_at is None or self._arm(wake_at, now, awake, before):
                return passed

    def _arm(self, wake_at: float, now: float, awake: Waiter | None, before: Waiter | None) -> bool:
        """Have somebody wake at `wake_at`, unless a timer that is as early runs; `False` if a loop was found closed."""
        if self._leader.covers(wake_at, now) and self._crowd.relies_on(self._leader.waiter):
            return True
        head = self.planner.head()
        chosen = self._crowd.leader(None if head is None else head.waiter, awake, before)
        if chosen is None:
            return True  # whoever begins to wait comes here itself
        is_awake = chosen is awake and isinstance(chosen, ThreadWaiter)
        if self._leader.appoint(chosen, wake_at, now, is_awake=is_awake):
            return True
        self._drop_lost(chosen)
        return False

    def _drop_lost(self, waiter: Waiter | None = None) -> list[Entrant]:
        lost = self._crowd.lost(waiter)
        for entrant in lost:
            self._cancel(entrant)
        return lost

    def _cancel(self, entrant: Entrant) -> bool:
        self._crowd.leave(entrant.waiter)
        return self.planner.cancel(entrant, self.clock())

    def _tick(self, number: int, waiter: Waiter) -> None:
        with self.lock:
            self._leader.fired(number)
        self.dispatch(waiter)

    def _check_generation(self, entrant: Entrant) -> None:
        if entrant.generation != self.generation:
            entrant.slots = 0  # held by a thread of the parent process

    def _too_late(self, what: str) -> LimiterTimeoutError:
        return LimiterTimeoutError(
            f"limiter {self.label!r} {what}; {self.planner.queued} are queued",
            help="allow more time, send less at once, or raise the declared limit if the provider's is higher",
        )

    def _check_open(self, now: float) -> None:
        if (closure := self._closure) is not None:
            if now < closure.until:
                raise self._exhausted(closure, now)
            self._closure = None

    def _exhausted(self, closure: Closure, now: float) -> QuotaExhaustedError:
        if closure.until == math.inf:
            told = f"limiter {self.label!r} is closed: {closure.reason}"
            return QuotaExhaustedError(told, help="top the account up, then call `reopen()` on the limiter")
        told = f"limiter {self.label!r} is closed for another {closure.until - now:.0f} s: {closure.reason}"
        return QuotaExhaustedError(
            told, help="come back then, give the branch a fallback on another key, or call `reopen()` on the limiter"
        )
