"""Ending tasks: none is left behind without a word, and none holds its caller up for long."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from langchain_parallel_plus._engine.call_time import CallTime

__all__ = ("cancel_and_wait", "ended_in_time")

_log = logging.getLogger("langchain_parallel_plus")

_DRAIN_SECONDS = 2.0
"""How long cancelled tasks may take to clean up before they are left behind with a warning: the most by which a branch
that resists its cancellation can make a timeout or a deadline late."""


async def cancel_and_wait(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks and wait until they have cleaned up; one that refuses to end is left behind with a warning."""
    given = list(tasks)
    pending = [task for task in given if not task.done()]
    for task in pending:
        task.cancel()
    if not pending:
        _retrieve(given)
        return
    try:
        await asyncio.wait(pending, timeout=_DRAIN_SECONDS)
    except asyncio.CancelledError:  # whoever cancels this wait too is obeyed, once the tasks have cleaned up
        await asyncio.wait(pending, timeout=_DRAIN_SECONDS)
        raise
    _retrieve(given)
    stuck = sum(not task.done() for task in pending)
    if stuck:
        _log.warning("%d cancelled tasks have not ended within %g s", stuck, _DRAIN_SECONDS)


async def ended_in_time(task: asyncio.Task[Any], time: CallTime | None, within: float | None = None) -> bool:
    """Wait until the task has ended, at most as long as its call may take; return whether it has. It goes on anyway.

    Args:
        task: The task.
        time: Of its call; `None` waits for as long as it takes.
        within: At most so many seconds of that time.
    """
    if time is None:
        return await _ended_by(task, None)
    while True:
        if await _ended_by(task, time.until() if within is None else time.until(time.at(within))):
            return True
        if time.over() is not None or (within is not None and time.passed(within)):
            return False


async def _ended_by(task: asyncio.Task[Any], until: float | None) -> bool:
    """Wait until the task has ended, or the loop's clock shows `until`; return whether it has. It goes on anyway."""
    loop = asyncio.get_running_loop()
    ended = loop.create_future()

    def end(_: object = None) -> None:
        if not ended.done():
            ended.set_result(None)

    task.add_done_callback(end)
    timer = None if until is None else loop.call_at(until, end)
    try:
        await ended
    finally:
        if not task.done():
            task.remove_done_callback(end)
        if timer is not None:
            timer.cancel()
    return task.done()


def _retrieve(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Look at errors that nobody waits for, such as an answer to a cancellation: nobody is to be warned of them."""
    for task in tasks:
        if task.done() and not task.cancelled():
            task.exception()
