"""Running a scene on virtual time, whatever the mode: on a loop whose clock jumps, or in threads of one baton."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from typing import Any

import looptime

from langchain_parallel_plus import RateLimiter
from langchain_parallel_plus.testing import ScriptedChatModel
from tests.chaos.virtual_threads import VirtualThreads
from tests.modes import Mode

__all__ = ("VirtualTime", "at_once", "in_virtual_time", "on_virtual_time")


@dataclass(frozen=True)
class VirtualTime:
    """The time of a scene, and what has to be told of it."""

    now: Callable[[], float]
    sleep: Callable[[float], None]
    """How threads wait; tasks use `asyncio.sleep`."""

    def model(self, script: Any, **fields: Any) -> ScriptedChatModel:
        """Return a model on this time."""
        return ScriptedChatModel(script=script, sleep=self.sleep, **fields)

    def limiter(self, **limits: Any) -> RateLimiter:
        """Return a limiter on this time."""
        return RateLimiter(clock=self.now, **limits)


Scene = Callable[[VirtualTime], Coroutine[Any, Any, Any]]

_ORDERS = 5
"""In how many a scene's threads go on, when several can."""


def in_virtual_time(mode: Mode, scene: Scene) -> None:
    """Play a scene in this mode, and check that it leaves no thread and no task; with threads, in several orders.

    Args:
        mode: How it runs its runnables.
        scene: Given the time, it returns the coroutine to be run.
    """
    if not mode.sync:
        on_virtual_time(_in_task(scene))
        return
    for seed in range(_ORDERS):
        threads = VirtualThreads(seed)
        time = VirtualTime(partial(getattr, threads, "now"), threads.sleep)
        try:
            threads.run(partial(at_once, scene(time)))
        finally:
            assert threads.alive == 0


async def _in_task(scene: Scene) -> Any:
    def sleep(_: float) -> None:
        raise AssertionError("a thread waits where there are only tasks")

    return await scene(VirtualTime(asyncio.get_running_loop().time, sleep))


def on_virtual_time(work: Coroutine[Any, Any, Any]) -> Any:
    """Run `work` on a loop whose clock jumps, and check that no task is left.

    What the loop itself closes, as langchain-core leaves it to, may take it a few steps.
    """

    async def steps() -> None:
        for _ in range(10):
            await asyncio.sleep(0)

    loop = looptime.new_event_loop(start=0, end=10_000)
    try:
        return loop.run_until_complete(work)
    finally:
        loop.run_until_complete(steps())
        left = asyncio.all_tasks(loop)
        loop.close()
        assert not left, left


def at_once(work: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine that waits for nothing."""
    try:
        work.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("it waits")
