"""Waiting at a turnstile: a thread blocks on a lock of its own, a task awaits a future of its loop."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from langchain_parallel_plus.limits.planning.lanes import RequestState
from langchain_parallel_plus.limits.waiting.waiters import LoopWaiter, ThreadWaiter

if TYPE_CHECKING:
    from langchain_parallel_plus.limits.waiting.turnstile import Entrant, Turnstile

__all__ = ("wait_in_task", "wait_in_thread")

_GRACE = 0.1
"""Seconds after which a waiter stops trusting the leader's timer."""


def wait_in_thread(turnstile: Turnstile, entrant: Entrant, timeout: float | None) -> bool:
    """Block until `entrant` is through; `False` if it was withdrawn meanwhile.

    Raises:
        LimiterTimeoutError: Not within `timeout` seconds.
        QuotaExhaustedError: The key was closed meanwhile.
    """
    waiter = ThreadWaiter()
    started = turnstile.clock()
    try:
        guard = turnstile.attach(entrant, waiter) + _GRACE
        while entrant.state is RequestState.QUEUED:
            now = turnstile.clock()
            if timeout is not None and now >= started + timeout:
                turnstile.expire(entrant, timeout)
                break
            if now >= guard:
                guard = now + max(_GRACE, now - entrant.submitted)
            until = (guard, turnstile.leads_until(waiter), None if timeout is None else started + timeout)
            waiter.wait(min(at for at in until if at is not None) - now)
            turnstile.dispatch(waiter)
    except BaseException:
        turnstile.withdraw(entrant)
        raise
    finally:
        if turnstile.leads_until(waiter) is not None:
            turnstile.dispatch(waiter)
    return _outcome(entrant)


async def wait_in_task(turnstile: Turnstile, entrant: Entrant, timeout: float | None) -> bool:
    """Wait as `wait_in_thread` does, without blocking the loop. A cancelled wait takes nothing from the quota."""
    loop = asyncio.get_running_loop()
    waiter = LoopWaiter(loop)
    try:
        due = turnstile.attach(entrant, waiter)
        if entrant.state is RequestState.QUEUED:
            waiter.later(due + _GRACE - turnstile.clock(), _look_after, turnstile, entrant, waiter)
            if timeout is not None:
                waiter.later(timeout, turnstile.expire, entrant, timeout)
            await waiter.future
    except BaseException:
        turnstile.withdraw(entrant)
        raise
    finally:
        waiter.cancel_timers()
    return _outcome(entrant)


def _look_after(turnstile: Turnstile, entrant: Entrant, waiter: LoopWaiter) -> None:
    turnstile.dispatch(waiter)
    if entrant.state is RequestState.QUEUED:
        again = max(_GRACE, turnstile.clock() - entrant.submitted)
        waiter.later(again, _look_after, turnstile, entrant, waiter)


def _outcome(entrant: Entrant) -> bool:
    if entrant.error is not None:
        raise entrant.error
    return entrant.state is RequestState.GRANTED
