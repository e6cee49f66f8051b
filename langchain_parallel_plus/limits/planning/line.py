"""Everybody who waits at a planner: in the order of their turns, and apart from it those who need no slot."""

from __future__ import annotations

from typing import Generic, TypeVar

from langchain_parallel_plus.limits.planning.lanes import FairQueue, Request

__all__ = ("Line",)

R = TypeVar("R", bound=Request)


class Line(Generic[R]):
    """The queue of all, and a second one of those among them that may pass whoever waits for slots.

    Passing costs a lane nothing: whoever is passed keeps the turn that it has.

    Args:
        width: How many rates there are.
        has_slots: Whether anybody waits for slots at all.
    """

    __slots__ = ("_slotless", "everybody")

    def __init__(self, width: int, *, has_slots: bool) -> None:
        self.everybody: FairQueue[R] = FairQueue(width)
        self._slotless: FairQueue[R] | None = FairQueue(width) if has_slots else None

    @property
    def size(self) -> int:
        """How many are queued."""
        return self.everybody.size

    @property
    def amounts(self) -> list[float]:
        """Everything that is queued, by rate, and at last the seconds in which it leaves."""
        return self.everybody.amounts

    def push(self, request: R) -> None:
        """Append `request` to its lane."""
        self.everybody.push(request)
        if self._slotless is not None and not request.slots:
            self._slotless.push(request)

    def head(self) -> R | None:
        """Return the request whose turn it is."""
        return self.everybody.head()

    def passing(self) -> R | None:
        """Return the request that is next to pass those who wait for slots."""
        return None if self._slotless is None else self._slotless.head()

    def serve(self, request: R) -> None:
        """Take out a request that is next, by its turn or in passing."""
        _take(self.everybody, request)
        if self._slotless is not None and not request.slots:
            _take(self._slotless, request)

    def remove(self, request: R) -> None:
        """Take `request` out, wherever it stands."""
        self.everybody.remove(request)
        if self._slotless is not None and not request.slots:
            self._slotless.remove(request)

    def requests(self) -> list[R]:
        """Return everything queued, in order of arrival."""
        return self.everybody.requests()

    def ahead(self, lane: str, *, passing: bool = False) -> list[float]:
        """Return what will be served before a request that joins `lane` now, by rate, and at last its seconds.

        Args:
            lane: Its name.
            passing: Whether the request passes those who wait for slots.
        """
        queue = self._slotless if passing and self._slotless is not None else self.everybody
        return queue.ahead(lane)


def _take(queue: FairQueue[R], request: R) -> None:
    if queue.head() is request:
        queue.pop()
    else:
        queue.remove(request)
