"""The slots of `max_concurrency`: taken and returned over several nested caps in one step, first come, first served."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from langchain_parallel_plus._engine.capacity import Permit

__all__ = ("LOCK", "Capacity", "Request", "admit", "covers", "free", "give", "tell")

# One lock for every capacity: an admission looks at all caps above a leaf in one step, and takes well under a
# microsecond, next to leaf work that is at least a hundred times that.
LOCK = threading.Lock()


class Capacity:
    """A number of slots, first come, first served, for any mix of threads and event loops."""

    __slots__ = ("chain", "free", "limit", "queue")

    def __init__(self, limit: int, above: Capacity | None = None) -> None:
        self.limit = limit
        self.free = limit
        self.queue: deque[Request] = deque()
        self.chain: tuple[Capacity, ...] = (self, *(above.chain if above is not None else ()))
        """This cap and those of the calls around it; a leaf needs a slot of each."""


@dataclass(slots=True, eq=False)
class Request:
    """A wait for one slot of each cap."""

    permit: Permit
    granted: Callable[[], None]
    waiting: bool = True
    taken: bool = False

    def grant(self) -> None:
        """Take note that the slots are taken; the lock is held."""
        self.waiting, self.taken = False, True
        self.permit.held += 1


def admit(request: Request, *, first: bool = False) -> bool:
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


def give(permit: Permit, keep: tuple[Capacity, ...] = ()) -> list[Request]:
    """Return a permit's slot; see `free`."""
    permit.held -= 1
    return free(permit.chain, keep)


def free(chain: tuple[Capacity, ...], keep: tuple[Capacity, ...] = ()) -> list[Request]:
    """Return one to each cap but those to `keep`, and admit whom that lets in; the lock is held."""
    given = [capacity for capacity in chain if capacity not in keep]
    for capacity in given:
        capacity.free += 1
    admitted = []
    for capacity in given:
        while capacity.free and capacity.queue:
            following = capacity.queue.popleft()
            if following.waiting and admit(following):
                admitted.append(following)
    return admitted


def tell(admitted: Iterable[Request]) -> None:
    """Call those who have been admitted; without the lock."""
    for request in admitted:
        request.granted()


def covers(lender: Permit, borrower: Permit) -> bool:
    """Return whether the slots of one are all that the other needs."""
    return all(capacity in lender.chain for capacity in borrower.chain)
