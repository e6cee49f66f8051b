"""`max_concurrency` as one cap for a whole tree of fan-outs: permits for leaf work.

A permit is held only while leaf work runs. Whoever waits for others (a nested fan-out, a back-off, a quota) gives it
back for that time, so that no depth of nesting and no cap, down to 1, can deadlock. A shared bounded thread pool could
not do this: a parent that waits for its children keeps its thread.
"""

from __future__ import annotations

import asyncio
import threading
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

from langchain_parallel_plus._engine.slots import LOCK, Capacity, Request, admit, covers, free, give, tell
from langchain_parallel_plus.errors import BranchAbandonedError, DeclarationError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from langchain_parallel_plus._engine.cancel import CancelToken
    from langchain_parallel_plus._engine.loans import Loans

__all__ = ("Capacity", "Permit", "checked_max_concurrency")


def checked_max_concurrency(value: object) -> int | None:
    """Return `value` as a cap, or raise `DeclarationError`: upstream hangs on 0 in `abatch`."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        msg = f"max_concurrency must be a whole number of at least 1, got {value!r}; no branch was started"
        raise DeclarationError(msg, help="leave max_concurrency out for no cap")
    return value


class Permit:
    """One leaf's right to run under every cap above it; given back while the leaf waits for others."""

    __slots__ = ("_closed", "_requests", "chain", "held", "parts", "reads")

    def __init__(self, capacity: Capacity) -> None:
        self.chain = capacity.chain
        self.held = 0
        """Slots taken."""
        self.parts = 1
        """Parts of the leaf that work and need a slot: the leaf itself while it does not wait, and whoever reads a
        streamed input for it. Not above 0 while it only waits."""
        self.reads: list[Loans] = []
        """The streams that the leaf reads, any of which lends it its slot while it stands still."""
        self._requests: list[Request] = []
        self._closed = False

    @property
    def lacks(self) -> bool:
        """Whether a part works without a slot, those aside that wait for one."""
        return self.held < self.parts - self._waiting() and not self._closed

    @property
    def idle(self) -> bool:
        """Whether no part works."""
        return self._closed or self.parts < 1

    def request(self, granted: Callable[[], None], *, first: bool = False) -> Callable[[], None]:
        """Call `granted` once, from any thread, when a slot is held; at once if there is room.

        Args:
            granted: What to call.
            first: Go before all that wait: a stream that goes on must not let others start in its place.

        Returns:
            A function that takes the request back, or the slot if it has been granted.
        """
        request = Request(self, granted)
        admitted: list[Request] = []
        with LOCK:
            if not self.lacks:  # taken meanwhile by another part of the same leaf, or nobody's any more
                request.waiting = False
            elif (lender := next((one for loans in self.reads if (one := loans.take(self))), None)) is not None:
                request.grant()
                admitted = free(lender.chain, keep=self.chain)
            elif not admit(request, first=first):
                self._requests = [one for one in self._requests if one.waiting]
                self._requests.append(request)
        tell(admitted)
        if not request.waiting:
            granted()
        return lambda: self._take_back(request)

    @property
    def pending(self) -> Request | None:
        """The wait of a part that has no slot, if there is one."""
        return next((request for request in self._requests if request.waiting), None)

    def _waiting(self) -> int:
        return sum(request.waiting for request in self._requests)

    def _take_back(self, request: Request) -> None:
        with LOCK:
            request.waiting = False
            admitted = give(self) if request.taken and self.held else []
        tell(admitted)

    def release(self) -> None:
        """Give back what is held; leave the queue if it is waited for."""
        self.withdraw()
        with LOCK:
            admitted = [one for _ in range(self.held) for one in give(self)]
        tell(admitted)

    def close(self) -> None:
        """Give everything back for good: whatever still runs for this leaf runs without."""
        with LOCK:
            self._closed = True
            admitted = self._give_loans_up()
        tell(admitted)
        self.release()

    def withdraw(self) -> None:
        """Leave the queue without giving back what is held: the leaf has started."""
        with LOCK:
            for request in self._requests:
                request.waiting = False
            self._requests.clear()

    def acquire(self, token: CancelToken | None = None, *, first: bool = False) -> None:
        """Wait for a slot in this thread; see `request`.

        Raises:
            BranchAbandonedError: The work was given up meanwhile.
        """
        ready = threading.Event()
        unsubscribe = token.subscribe(ready.set) if token is not None else None
        take_back = self.request(ready.set, first=first)
        try:
            ready.wait()
        except BaseException:
            take_back()
            raise
        finally:
            if unsubscribe is not None:
                unsubscribe()
        if token is not None and token.cancelled:
            take_back()
            msg = "the fan-out above had ended while this branch waited for its turn to go on"
            raise BranchAbandonedError(msg)

    async def aacquire(self, *, first: bool = False) -> None:
        """Wait for a slot in this task; a cancelled wait returns what it was granted. See `request`."""
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

        take_back = self.request(granted, first=first)
        try:
            await ready
        except BaseException:
            take_back()
            raise

    def ensure(self, token: CancelToken | None = None, *, first: bool = False) -> None:
        """Wait in this thread for a slot unless it is held.

        While another part of the same leaf waits for its children, this part goes on without: taken now, the slot
        would be missing to those very children.
        """
        if self.lacks:
            self.acquire(token, first=first)

    async def aensure(self, *, first: bool = False) -> None:
        """Wait in this task for a slot unless it is held; see `ensure`."""
        if self.lacks:
            await self.aacquire(first=first)

    @contextmanager
    def away(self, awaited: Loans | None = None) -> Iterator[None]:
        """Give the slot back for the time of a wait; whoever goes on working after it calls `ensure`.

        An error on its way up must not queue behind the work it has just ended.

        Args:
            awaited: The stream whose next chunk is waited for.
        """
        self._rest(awaited)
        try:
            yield
        finally:
            self._go_on(awaited)

    @contextmanager
    def suspended(self, token: CancelToken | None = None) -> Iterator[None]:
        """Give the slot back for the time of a wait in this thread; have it again unless the wait ends in an error."""
        with self.away():
            yield
        self.ensure(token)

    @asynccontextmanager
    async def asuspended(self) -> AsyncIterator[None]:
        """Give the slot back for the time of a wait in this task; have it again unless the wait ends in an error."""
        with self.away():
            yield
        await self.aensure()

    def work_for(self, other: Permit) -> None:
        """Let a part of another leaf work in place of this one, with its slot; undone by the same the other way."""
        with LOCK:
            self.parts -= 1
            other.parts += 1
            admitted: list[Request] = []
            spare = self.held > max(self.parts - self._waiting(), 0)
            if spare and other.lacks and covers(self, other):
                other.held += 1
                admitted = give(self, keep=other.chain)
            admitted += [*self._settle(), *other._settle()]
        tell(admitted)

    def leave_behind(self) -> Permit | None:
        """Return a permit that has taken a slot of this one over, for work that goes on after the leaf's end."""
        if not self.held:
            return None
        left = Permit(self.chain[0])
        left.parts = 0
        self.work_for(left)
        return left

    def _rest(self, awaited: Loans | None) -> None:
        """A leaf may wait for several things at once, from several threads or tasks of its own."""
        with LOCK:
            if awaited is not None:
                awaited.expected = True
            self.parts -= 1
            admitted = [*self._give_loans_up(awaited), *self._settle()]
        tell(admitted)

    def _go_on(self, awaited: Loans | None) -> None:
        with LOCK:
            if awaited is not None:
                awaited.expected = False
            self.parts += 1

    def _settle(self) -> list[Request]:
        """Let a waiting part have the slot of one that rests, or return it; the lock is held."""
        granted = []
        while (request := self.pending) and self.held > self.parts - self._waiting():
            request.waiting, request.taken = False, True
            granted.append(request)
        while self.held > max(self.parts, 0):
            granted += give(self)
        return granted

    def _give_loans_up(self, awaited: Loans | None = None) -> list[Request]:
        """Return who may use the slots that stand ready for this leaf, which has no use for them; the lock is held.

        It waits for something else than those streams, which could otherwise wait for their slots.
        """
        return [one for loans in self.reads if loans is not awaited for one in loans.clear()]
