"""Who waits, and where: threads, and tasks by their loop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

from langchain_parallel_plus.limits.waiting.waiters import LoopWaiter

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

    def join(self, waiter: Waiter, entrant: E) -> None:
        """Take note that `waiter` waits for `entrant`."""
        if isinstance(waiter, LoopWaiter):
            self._loops.setdefault(waiter.loop, {})[waiter] = entrant
        else:
            self._threads[waiter] = entrant

    def leave(self, waiter: Waiter | None) -> None:
        """Take note that `waiter`, if there is one, has nothing to wait for any more."""
        if not isinstance(waiter, LoopWaiter):
            if waiter is not None:
                self._threads.pop(waiter, None)
        elif (tasks := self._loops.get(waiter.loop)) is not None:
            tasks.pop(waiter, None)
            if not tasks:
                del self._loops[waiter.loop]

    def lost(self) -> list[E]:
        """Return the entrants whose loop was closed: nobody will ever go on with them."""
        return [entrant for loop, tasks in self._loops.items() if loop.is_closed() for entrant in tasks.values()]
