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
from dataclasses import dataclass
from typing import TYPE_CHECKING

from langchain_parallel_plus.errors import BranchAbandonedError, DeclarationError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator

    from langchain_parallel_plus._engine.cancel import CancelToken

__all__ = ("Capacity", "Loans", "Permit", "checked_max_concurrency")


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
    """A number of slots, first come, first served, for any mix of threads and event loops."""

    __slots__ = ("chain", "free", "limit", "queue")

    def __init__(self, limit: int, above: Capacity | None = None) -> None:
        self.limit = limit
        self.free = limit
        self.queue: deque[_Request] = deque()
        self.chain: tuple[Capacity, ...] = (self, *(above.chain if above is not None else ()))
        """This cap and those of the calls around it; a leaf needs a slot of each."""


@dataclass(slots=True, eq=False)
class _Request:
    """A wait for one slot of each cap."""

    permit: Permit
    granted: Callable[[], None]
    waiting: bool = True
    taken: bool = False

    def grant(self) -> None:
        """Take note that the slots are taken; the lock is held."""
        self.waiting, self.taken = False, True
        self.permit.held += 1


def _admit(request: _Request, *, first: bool = False) -> bool:
    """Take one of each cap, or queue at the first that is full; the lock is held."""
    chain = request.permit.chain
    for capacity in chain:
        if capacity.free == 0:
            (capacity.queue.appendleft if first else capacity.queue.append)(request)
            return False
    for capacity in chain:
        capacity.free -= 1
    request.grant()
    return True


def _give(permit: Permit, keep: tuple[Capacity, ...] = ()) -> list[_Request]:
    """Return one to each cap but those to `keep`, and admit whom that lets in; the lock is held."""
    permit.held -= 1
    given = [capacity for capacity in permit.chain if capacity not in keep]
    for capacity in given:
        capacity.free += 1
    admitted = []
    for capacity in given:
        while capacity.free and capacity.queue:
            following = capacity.queue.popleft()
            if following.waiting and _admit(following):
                admitted.append(following)
    return admitted


def _tell(admitted: Iterable[_Request]) -> None:
    """Call those who have been admitted; without the lock."""
    for request in admitted:
        request.granted()


def _covers(lender: Permit, borrower: Permit) -> bool:
    """Return whether the slots of one are all that the other needs."""
    return all(capacity in lender.chain for capacity in borrower.chain)


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
        self._requests: list[_Request] = []
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
        request = _Request(self, granted)
        admitted: list[_Request] = []
        with _lock:
            if not self.lacks:  # taken meanwhile by another part of the same leaf, or nobody's any more
                request.waiting = False
            elif (lender := next((one for loans in self.reads if (one := loans.take(self))), None)) is not None:
                admitted = self.borrow(request, lender)
            elif not _admit(request, first=first):
                self._requests = [one for one in self._requests if one.waiting]
                self._requests.append(request)
        _tell(admitted)
        if not request.waiting:
            granted()
        return lambda: self._take_back(request)

    def borrow(self, request: _Request, lender: Permit) -> list[_Request]:
        """Take another's slot; return whom the caps that only the lender needed let in; the lock is held."""
        request.grant()
        return _give(lender, keep=self.chain)

    @property
    def pending(self) -> _Request | None:
        """The wait of a part that has no slot, if there is one."""
        return next((request for request in self._requests if request.waiting), None)

    def _waiting(self) -> int:
        return sum(request.waiting for request in self._requests)

    def _take_back(self, request: _Request) -> None:
        with _lock:
            request.waiting = False
            admitted = _give(self) if request.taken and self.held else []
        _tell(admitted)

    def release(self) -> None:
        """Give back what is held; leave the queue if it is waited for."""
        self.withdraw()
        with _lock:
            admitted = [one for _ in range(self.held) for one in _give(self)]
        _tell(admitted)

    def close(self) -> None:
        """Give everything back for good: whatever still runs for this leaf runs without."""
        with _lock:
            self._closed = True
            admitted = self._give_loans_up()
        _tell(admitted)
        self.release()

    def withdraw(self) -> None:
        """Leave the queue without giving back what is held: the leaf has started."""
        with _lock:
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
        with _lock:
            self.parts -= 1
            other.parts += 1
            admitted: list[_Request] = []
            if self.held > max(self.parts, 0) and other.lacks and _covers(self, other):
                other.held += 1
                admitted = _give(self, keep=other.chain)
            admitted += [*self._settle(), *other._settle()]
        _tell(admitted)

    def _rest(self, awaited: Loans | None) -> None:
        """A leaf may wait for several things at once, from several threads or tasks of its own."""
        with _lock:
            if awaited is not None:
                awaited.expected = True
            self.parts -= 1
            admitted = [*self._give_loans_up(awaited), *self._settle()]
        _tell(admitted)

    def _go_on(self, awaited: Loans | None) -> None:
        with _lock:
            if awaited is not None:
                awaited.expected = False
            self.parts += 1

    def _settle(self) -> list[_Request]:
        """Let a waiting part have the slot of one that rests, or return it; the lock is held."""
        granted = []
        while (request := self.pending) and self.held > self.parts - self._waiting():
            request.waiting, request.taken = False, True
            granted.append(request)
        while self.held > max(self.parts, 0):
            granted += _give(self)
        return granted

    def _give_loans_up(self, awaited: Loans | None = None) -> list[_Request]:
        """Return who may use the slots that stand ready for this leaf, which has no use for them; the lock is held.

        It waits for something else than those streams, which could otherwise wait for their slots.
        """
        return [one for loans in self.reads if loans is not awaited for one in loans.clear()]


class Loans:
    """Slots of streams that stand still until their consumer comes back, for the work of that consumer.

    A stream that has delivered a chunk keeps its slot, so that no other stream is opened in its place. Its consumer
    needs one to work on the chunk, and would wait for ever where the streams that wait for it hold them all.

    Args:
        reader: The consumer's permit.
    """

    __slots__ = ("_idle", "_reader", "expected")

    def __init__(self, reader: Permit) -> None:
        self._idle: list[Permit] = []
        self._reader: Permit | None = reader
        self.expected = True
        """Whether the reader waits for this stream's next chunk."""
        with _lock:
            reader.reads.append(self)

    def close(self) -> None:
        """Lend to nobody: the stream has ended."""
        with _lock:
            if self._reader is not None:
                self._reader.reads.remove(self)
            self._reader = None
            admitted = self.clear()
        _tell(admitted)

    def offer(self, lender: Permit) -> None:
        """Lend a slot from now on: its stream does nothing until its consumer comes back."""
        admitted: list[_Request] = []
        with _lock:
            reader = self._reader
            request = reader.pending if reader is not None else None
            if not lender.held:
                return
            if reader is None or (reader.idle and not self.expected):
                admitted = _give(lender)
            elif request is not None and _covers(lender, reader):
                admitted = [request, *reader.borrow(request, lender)]
            else:
                self._idle.append(lender)
        _tell(admitted)

    def withdraw(self, lender: Permit) -> None:
        """Lend a slot no more; it may have been taken, and must be asked for again."""
        with _lock:
            if lender in self._idle:
                self._idle.remove(lender)

    def take(self, borrower: Permit) -> Permit | None:
        """Return a permit whose slot can stand in for that of `borrower`, if there is one; the lock is held."""
        lender = next((one for one in self._idle if one.held and _covers(one, borrower)), None)
        if lender is not None:
            self._idle.remove(lender)
        return lender

    def clear(self) -> list[_Request]:
        """Give up what is lent and not taken; return whom that lets in; the lock is held."""
        idle, self._idle = self._idle, []
        return [one for lender in idle if lender.held for one in _give(lender)]
