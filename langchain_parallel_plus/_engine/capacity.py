"""`max_concurrency` as one cap for a whole tree of fan-outs: permits for leaf work.

A permit is held only while leaf work runs. Whoever waits for others (a nested fan-out, a back-off, a quota) gives it
back for that time, so that no depth of nesting and no cap, down to 1, can deadlock. A shared bounded thread pool could
not do this: a parent that waits for its children keeps its thread.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

from langchain_parallel_plus.errors import BranchAbandonedError, DeclarationError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from langchain_parallel_plus._engine.cancel import CancelToken

__all__ = ("Capacity", "Permit", "checked_max_concurrency")


def checked_max_concurrency(value: object) -> int | None:
    """Return `value` as a cap, or raise `DeclarationError`: upstream hangs on 0 in `abatch`."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        msg = f"max_concurrency must be a whole number of at least 1, got {value!r}; no branch was started"
        raise DeclarationError(msg, help="leave max_concurrency out for no cap")
    return value


# One lock for every capacity: an admission looks at all caps above a leaf in one step, and takes well under a
# microsecond, next to leaf work that is at least a hundred times that.
_lock = threading.Lock()


class Capacity:
    """A number of permits, first come, first served, for any mix of threads and event loops."""

    __slots__ = ("chain", "free", "limit", "queue")

    def __init__(self, limit: int, above: Capacity | None = None) -> None:
        self.limit = limit
        self.free = limit
        self.queue: deque[Permit] = deque()
        self.chain: tuple[Capacity, ...] = (self, *(above.chain if above is not None else ()))
        """This cap and those of the calls around it; a leaf needs a permit of each."""


def _admit(permit: Permit) -> bool:
    """Take one of each cap, or queue at the first that is full; the lock is held."""
    for capacity in permit.chain:
        if capacity.free == 0:
            capacity.queue.append(permit)
            return False
    for capacity in permit.chain:
        capacity.free -= 1
    permit.held = True
    permit.waiting = False
    return True


def _give(permit: Permit) -> list[Permit]:
    """Return one to each cap and admit whom that lets in; the lock is held."""
    permit.held = False
    for capacity in permit.chain:
        capacity.free += 1
    admitted = []
    for capacity in permit.chain:
        while capacity.free and capacity.queue:
            following = capacity.queue.popleft()
            if following.waiting and _admit(following):
                admitted.append(following)
    return admitted


class Permit:
    """One leaf's right to run under every cap above it; given back while the leaf waits for others."""

    __slots__ = ("_granted", "_pauses", "chain", "held", "waiting")

    def __init__(self, capacity: Capacity) -> None:
        self.chain = capacity.chain
        self.held = False
        self.waiting = False
        self._granted: Callable[[], None] | None = None
        self._pauses = 0

    def request(self, granted: Callable[[], None]) -> None:
        """Call `granted` once, from any thread, when the permit is held; at once if there is room."""
        with _lock:
            self._granted = granted
            if self.held:  # taken meanwhile by another part of the same leaf
                admitted = True
            else:
                self.waiting = True
                admitted = _admit(self)
        if admitted:
            granted()

    def release(self) -> None:
        """Give the permit back if it is held; leave the queue if it is waited for."""
        with _lock:
            self.waiting = False
            admitted = _give(self) if self.held else []
        for permit in admitted:
            if permit._granted is not None:
                permit._granted()

    def withdraw(self) -> None:
        """Leave the queue without giving back a permit that is held: its leaf has started."""
        with _lock:
            self.waiting = False

    def acquire(self, token: CancelToken | None = None) -> None:
        """Wait for the permit in this thread.

        Raises:
            BranchAbandonedError: The work was given up meanwhile.
        """
        ready = threading.Event()
        unsubscribe = token.subscribe(ready.set) if token is not None else None
        try:
            self.request(ready.set)
            ready.wait()
        except BaseException:
            self.release()
            raise
        finally:
            if unsubscribe is not None:
                unsubscribe()
        if token is not None and token.cancelled:
            self.release()
            msg = "the fan-out above had ended while this branch waited for its turn to go on"
            raise BranchAbandonedError(msg)

    async def aacquire(self) -> None:
        """Wait for the permit in this task; a cancelled wait returns what it was granted."""
        loop = asyncio.get_running_loop()
        ready = loop.create_future()

        def wake() -> None:
            if not ready.done():
                ready.set_result(None)

        def granted() -> None:
            try:
                loop.call_soon_threadsafe(wake)
            except RuntimeError:  # the loop has closed under its waiter: the next in the queue goes on
                self.release()

        try:
            self.request(granted)
            await ready
        except BaseException:
            self.release()
            raise

    def ensure(self, token: CancelToken | None = None) -> None:
        """Wait in this thread for the permit unless it is held.

        While another part of the same leaf waits for its children, this part goes on without: taken now, the permit
        would be missing to those very children.
        """
        if not (self.held or self._pauses):
            self.acquire(token)

    async def aensure(self) -> None:
        """Wait in this task for the permit unless it is held; see `ensure`."""
        if not (self.held or self._pauses):
            await self.aacquire()

    @contextmanager
    def suspended(self, token: CancelToken | None = None) -> Iterator[None]:
        """Give the permit back for the time of a wait in this thread.

        It is not asked for again when the wait ends with an error: an error on its way up must not queue behind the
        work it has just ended. Whoever goes on working after it calls `ensure`.
        """
        self._pause()
        try:
            yield
        except BaseException:
            self._last_pause()
            raise
        if self._last_pause():
            self.acquire(token)

    @asynccontextmanager
    async def asuspended(self) -> AsyncIterator[None]:
        """Give the permit back for the time of a wait in this task; see `suspended`."""
        self._pause()
        try:
            yield
        except BaseException:
            self._last_pause()
            raise
        if self._last_pause():
            await self.aacquire()

    def _pause(self) -> None:
        """Count a wait: a leaf may wait for several things at once, from several threads or tasks of its own."""
        with _lock:
            self._pauses += 1
        self.release()

    def _last_pause(self) -> bool:
        with _lock:
            self._pauses -= 1
            return self._pauses == 0
