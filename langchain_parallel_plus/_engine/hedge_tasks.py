"""The task driver of hedging: begins calls beside a slow one, takes the first result, cancels and awaits the rest."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from langchain_parallel_plus._engine.ending import cancel_and_wait
from langchain_parallel_plus._engine.hedging import FIRST, Await, Begin, Delivered, Lost, RaceAction, Won

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from langchain_parallel_plus._engine.hedged_run import HedgeCall, HedgedRun
    from langchain_parallel_plus._engine.machine import Call
    from langchain_parallel_plus._engine.policy_run import PolicyRun

    OpenHedge = Callable[[HedgeCall, AsyncExitStack], Awaitable[Coroutine[Any, Any, Any]]]

__all__ = ("Leg", "race")


@dataclass(slots=True, eq=False)
class Leg:
    """A call under way."""

    task: asyncio.Task[Any]
    hedge: HedgeCall | None = None
    opened: AsyncExitStack = field(default_factory=AsyncExitStack)
    """What a hedge holds."""

    async def aclose(self) -> None:
        """Cancel the call, and give back what it holds."""
        await cancel_and_wait([self.task])
        await self.opened.aclose()


async def race(
    run: PolicyRun,
    call: Call,
    delay: float,
    first: Coroutine[Any, Any, Any],
    hedge: OpenHedge,
    held_up: Callable[[], bool] | None = None,
) -> Leg:
    """Return the call that was the first to deliver; the others have ended.

    Args:
        run: The run, under a policy that hedges.
        call: The first call, which has been under way for `delay` seconds.
        delay: Seconds between one call and the next.
        first: Waits for the first call.
        hedge: Opens a hedge: what it holds goes into the stack, and what it returns waits for it.
        held_up: Whether the first call waits for its input, or for a limiter.

    Raises:
        Exception: The first call's, when all have failed.
    """
    hedged = run.hedging
    assert hedged is not None
    legs = {FIRST: Leg(asyncio.get_running_loop().create_task(first))}
    try:
        action = hedged.start(delay, held_up)
        while True:
            match action:
                case Begin():
                    action = await _begin(hedged, call, action, legs, hedge)
                case Await(until):
                    action = await _next(run, hedged, call, legs, until)
                case Won(number):
                    return _winner(legs.pop(number))
                case Lost(error):
                    raise error
    finally:
        await asyncio.gather(*(leg.aclose() for leg in legs.values()))


async def _begin(hedged: HedgedRun, call: Call, begin: Begin, legs: dict[int, Leg], hedge: OpenHedge) -> RaceAction:
    beside = hedged.beside(call, begin)
    opened = AsyncExitStack()
    opened.callback(beside.close)
    try:
        beside.open()
        waiting = await hedge(beside, opened)
    except Exception as error:
        action = beside.refused(error)
        await opened.aclose()
        return action
    except BaseException:
        await opened.aclose()
        raise
    legs[begin.leg] = Leg(asyncio.get_running_loop().create_task(waiting), beside, opened)
    return Await(hedged.due)


async def _next(run: PolicyRun, hedged: HedgedRun, call: Call, legs: dict[int, Leg], until: float | None) -> RaceAction:
    timeout = None if until is None else max(until - run.now(), 0.0)
    tasks = [leg.task for leg in legs.values()]
    await asyncio.wait(tasks, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
    ended = next((number for number, leg in legs.items() if leg.task.done()), None)
    if ended is None:
        return hedged.slow()
    leg = legs[ended]
    if leg.task.cancelled() and leg.hedge is None:
        raise asyncio.CancelledError
    error = run.given_up() if leg.task.cancelled() else leg.task.exception()
    if error is None:
        return hedged.step(Delivered(ended))
    if not isinstance(error, Exception):
        raise error
    action = hedged.first_failed(call, error) if leg.hedge is None else leg.hedge.failed(error)
    await legs.pop(ended).aclose()
    return action


def _winner(leg: Leg) -> Leg:
    if leg.hedge is not None:
        leg.hedge.won()
    return leg
