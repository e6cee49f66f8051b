"""Who is next: first in first out within a lane, fair between lanes.

Start-time fair queueing (Goyal, Vin, Cheng, SIGCOMM 1996): the head of a lane carries a start tag, the lane with the
smallest goes first, and being served moves the lane's next tag on by `share / weight`. The share of a request is its
dominant share (Ghodsi et al., NSDI 2011): the largest part of any one limit that it takes. So a branch with twenty
large calls does not hold up a branch with one small call, and neither order nor size can starve anybody.

Tags are given to heads, not to arrivals: a cancelled request then leaves no trace in its lane's tags.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from dataclasses import dataclass, field
from enum import Enum
from typing import Generic, NamedTuple, TypeVar

__all__ = ("FairQueue", "Request", "RequestState")


class RequestState(Enum):
    """Where a request stands."""

    QUEUED = "queued"
    GRANTED = "granted"
    CANCELLED = "cancelled"


@dataclass(slots=True, eq=False, kw_only=True)
class Request:
    """One request for admission and what became of it."""

    amounts: tuple[float, ...]
    """What it takes of each rate, in the planner's order."""
    slots: int = 0
    lane: str = ""
    weight: float = 1.0
    state: RequestState = RequestState.QUEUED
    submitted: float = 0.0
    planned: float = 0.0
    """When it was, or is to be, admitted: the exact time of the schedule, not the later time of a timer."""
    bound_by: str = ""
    """What it waited for: a rate's name, "concurrency", "pause", "probe" or "burst"; empty if it did not wait."""
    share: float = 0.0
    leaving: float = 0.0
    """Seconds that its departure takes in the order of a burst."""
    number: int = 0
    """Order of arrival."""
    unattended: bool = False
    """Nobody waits for it, so it is admitted at its time, however much later the planner gets to know of that."""


R = TypeVar("R", bound=Request)


@dataclass(slots=True, eq=False)
class _Lane(Generic[R]):
    queue: OrderedDict[int, R] = field(default_factory=OrderedDict)
    finish: float = 0.0
    entry: _Entry[R] | None = None
    amounts: list[float] = field(default_factory=list)
    span: float = 0.0
    """How far serving all that is queued would move the lane's tag."""


class _Entry(NamedTuple, Generic[R]):
    start: float
    number: int
    lane: _Lane[R]


_SWEEP_AT = 64


class FairQueue(Generic[R]):
    """Queued requests in the order in which they are to be served."""

    def __init__(self, width: int) -> None:
        self._width = width + 1
        self.amounts = [0.0] * self._width
        """Everything that is queued, by rate, and at last the seconds in which it leaves."""
        self._lanes: dict[str, _Lane[R]] = {}
        self._heap: list[_Entry[R]] = []
        self._virtual = 0.0
        self.size = 0
        """How many are queued."""
        self._sweep_at = _SWEEP_AT

    def push(self, request: R) -> None:
        """Append `request` to its lane."""
        lane = self._lanes.get(request.lane)
        if lane is None:
            lane = self._lanes[request.lane] = _Lane(amounts=[0.0] * self._width)
        lane.queue[request.number] = request
        self._account(lane, request, 1)
        if lane.entry is None:
            self._enter(lane, max(self._virtual, lane.finish))

    def head(self) -> R | None:
        """Return the request that is next."""
        while self._heap:
            entry = self._heap[0]
            if entry.lane.entry is entry:
                return next(iter(entry.lane.queue.values()))
            heapq.heappop(self._heap)
        return None

    def pop(self) -> R:
        """Take out the request that is next; there is one."""
        request = self.head()
        assert request is not None
        entry = heapq.heappop(self._heap)
        lane = entry.lane
        lane.queue.popitem(last=False)
        self._account(lane, request, -1)
        self._virtual = entry.start
        lane.finish = entry.start + request.share / request.weight
        lane.entry = None
        if lane.queue:
            self._enter(lane, lane.finish)
        self._forget()
        return request

    def remove(self, request: R) -> None:
        """Take `request` out, wherever it stands."""
        lane = self._lanes[request.lane]
        del lane.queue[request.number]
        self._account(lane, request, -1)
        if not lane.queue:
            lane.entry = None
        self._forget()

    def requests(self) -> list[R]:
        """Return everything queued, in order of arrival."""
        queued = [request for lane in self._lanes.values() for request in lane.queue.values()]
        return sorted(queued, key=lambda request: request.number)

    def ahead(self, lane_name: str) -> list[float]:
        """Return what will be served before a request that joins `lane_name` now, by rate, and at last its seconds.

        A close lower bound: other lanes are counted up to the newcomer's tag, as if requests could be cut.
        """
        own = self._lanes.get(lane_name)
        if own is None or own.entry is None:
            tag = max(self._virtual, own.finish if own else 0.0)
            sums = [0.0] * self._width
        else:
            tag = own.entry.start + own.span
            sums = list(own.amounts)
        for lane in self._lanes.values():
            if lane is not own and lane.entry is not None and lane.entry.start < tag:
                part = min(1.0, (tag - lane.entry.start) / lane.span) if lane.span else 1.0
                sums = [total + part * amount for total, amount in zip(sums, lane.amounts, strict=True)]
        return sums

    def _enter(self, lane: _Lane[R], start: float) -> None:
        lane.entry = _Entry(start, next(iter(lane.queue)), lane)
        heapq.heappush(self._heap, lane.entry)

    def _account(self, lane: _Lane[R], request: R, sign: int) -> None:
        self.size += sign
        lane.span += sign * request.share / request.weight
        for index, amount in enumerate((*request.amounts, request.leaving)):
            lane.amounts[index] += sign * amount
            self.amounts[index] += sign * amount

    def _forget(self) -> None:
        """Drop lanes that no tag depends on, and rounding errors with them."""
        if not self.size:
            self._lanes.clear()
            self._heap.clear()
            self._virtual = 0.0
            self.amounts = [0.0] * self._width
        elif len(self._heap) + len(self._lanes) > self._sweep_at:
            self._heap = [entry for entry in self._heap if entry.lane.entry is entry]
            heapq.heapify(self._heap)
            self._lanes = {
                name: lane for name, lane in self._lanes.items() if lane.queue or lane.finish > self._virtual
            }
            self._sweep_at = _SWEEP_AT + 2 * (len(self._heap) + len(self._lanes))
