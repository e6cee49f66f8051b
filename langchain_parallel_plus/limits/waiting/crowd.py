"""Who waits, and where: threads, and tasks by their loop; and who of them can be relied on for the timer.

A thread that waits does nothing else, so it wakes in time. A loop may be busy, stopped or blocked, and in a synchronous
call on a loop's thread it is blocked by the very thread that waits: where a thread waits, no loop gets the timer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

from langchain_parallel_plus.limits.waiting.waiters import LoopWaiter, ThreadWaiter

if TYPE_CHECKING:
    import asyncio

    from langchain_parallel_plus.limits.waiting.waiters import Waiter

__all__ = ("Crowd",)

E = TypeVar("E")


class Crowd(Generic[E]):
    """Everybody who waits for an entrant that is queued. All is called under the turnstile's lock."""

    __slots__ = ("_loops", "_threads")

    def __init__(self) -> None:
        self._threads: dict[Waiter, E] = {}
        self._loops: dict[asyncio.AbstractEventLoop, dict[Waiter, E]] = {}

    def join(self, waiter: Waiter, entrant: E) -> bool:
        """Take note that `waiter` waits for `entrant`; return whether it is the first one on its loop."""
        if not isinstance(waiter, LoopWaiter):
            self._threads[waiter] = entrant
            return False
        tasks = self._loops.setdefault(waiter.loop, {})
        tasks[waiter] = entrant
        return len(tasks) == 1

    def leave(self, waiter: Waiter | None) -> None:
        """Take note that `waiter`, if there is one, has nothing to wait for any more."""
        if not isinstance(waiter, LoopWaiter):
            if waiter is not None:
                self._threads.pop(waiter, None)
        elif (tasks := self._loops.get(waiter.loop)) is not None:
            tasks.pop(waiter, None)
            if not tasks:
                del self._loops[waiter.loop]

    def leader(self, head: Waiter | None, awake: Waiter | None, before: Waiter | None) -> Waiter | None:
        """Return who is to have the timer; `None` if nobody waits.

        Args:
            head: Who waits for the entrant that is next, if anybody does.
            awake: Who runs right now.
            before: Who had the timer until now.
        """
        if self._threads:
            if isinstance(head, ThreadWaiter):
                return head
            return next((one for one in (awake, before) if one in self._threads), next(iter(self._threads)))
        if isinstance(awake, LoopWaiter) and awake.loop in self._loops:
            return awake  # its loop has others who wait, if it does not itself
        return head or next((waiter for tasks in self._loops.values() for waiter in tasks), None)

    def relies_on(self, leader: Waiter | None) -> bool:
        """Tell whether nobody who waits can be relied on more than `leader`."""
        if isinstance(leader, LoopWaiter):
            return not self._threads and not leader.loop.is_closed()
        return leader is not None

    def lost(self, waiter: Waiter | None = None) -> list[E]:
        """Return the entrants whose loop is closed, and those of the loop of `waiter`: nobody goes on with them."""
        found = waiter.loop if isinstance(waiter, LoopWaiter) else None
        lost = (tasks for loop, tasks in self._loops.items() if loop is found or loop.is_closed())
        return [entrant for tasks in lost for entrant in tasks.values()]
