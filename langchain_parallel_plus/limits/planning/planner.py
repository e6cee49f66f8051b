"""The rate limiter's decisions, without clock, lock or I/O: who is admitted, and when.

```
submit(request, now)   a request joins its lane
advance(now)           -> what is admitted by now, and the exact time of the next admission
cancel / charge / release / pause / resume / set_rate / force
```
All dimensions of a request are admitted in one step: the head of the queue passes when every rate it uses allows it and
a slot is free, and nothing overtakes the head but what needs no slot, where the head waits for slots only. Such a
request may continue what holds a slot: the second prompt of a `generate`, a plain `acquire` inside of a `hold`. Behind
the head it would wait for a slot that is given back only after it has passed itself, and nobody would ever go on. The
head loses no turn by it: while it waits for a rate as well nobody passes, and with a slot free it is next.

Callers pass `now` in seconds on one clock that never goes back. Admission happens at the *planned* time: a timer that
fires half a millisecond late does not move the schedule. Without this, 1,000 waiters at 500/s reached 80 % of the rate.
"""

from __future__ import annotations

import math
from operator import itemgetter
from typing import TYPE_CHECKING, Generic, TypeVar

from langchain_parallel_plus.limits.planning.arrival import ArrivalBucket, Flights
from langchain_parallel_plus.limits.planning.counts import Advance, Counts
from langchain_parallel_plus.limits.planning.lanes import Request, RequestState
from langchain_parallel_plus.limits.planning.launch import Launch
from langchain_parallel_plus.limits.planning.line import Line
from langchain_parallel_plus.limits.planning.paced import bucket_for
from langchain_parallel_plus.limits.planning.pause import Pause
from langchain_parallel_plus.limits.planning.slots import Concurrency
from langchain_parallel_plus.limits.planning.too_large import refuse_too_large

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from langchain_parallel_plus.errors import RequestTooLargeError
    from langchain_parallel_plus.limits.planning.bucket import Rate
    from langchain_parallel_plus.limits.planning.provider_side import ProviderSide

__all__ = ("CATCH_UP", "CATCH_UP_BUCKETS", "Planner")

CATCH_UP = 0.05
"""Seconds of timer lateness that the schedule makes up for; a longer stall loses its quota rather than burst."""
CATCH_UP_BUCKETS = 0.5
"""The same where all rates are those of buckets: they keep what is not used in time."""

_CONCURRENCY, _PAUSE, _BURST = "concurrency", "pause", "burst"

R = TypeVar("R", bound=Request)


class Planner(Generic[R]):
    """Admission over several rates and a concurrency, as pure state.

    Args:
        rates: The rates, by name.
        slots: How many requests may be in flight; `None` for any number.
    """

    def __init__(self, rates: Mapping[str, Rate], *, slots: int | None = None) -> None:
        self.names = tuple(rates)
        self.buckets = [bucket_for(rate) for rate in rates.values()]
        self.provider: ProviderSide | None = None
        """What responses tell of the provider, once somebody listens."""
        self.concurrency = Concurrency(slots)
        self.slots_used = 0
        self.counts = Counts()
        self._pause = Pause()
        self._floor = -math.inf
        self._floor_reason = ""
        self._last_bound = ""
        self._launch = Launch(rates.values())
        self._follow_buckets()
        self._line: Line[R] = Line(len(self.names), has_slots=slots is not None)

    @property
    def queued(self) -> int:
        """How many requests wait."""
        return self._line.size

    @property
    def paused_until(self) -> float:
        """When the pause ends that holds, or when the last one has ended."""
        return self._pause.until

    def admit(self, amounts: Sequence[float], slots: int, now: float, number: int | None = None) -> bool:
        """Admit at once, or change nothing: the way of an uncontended request, without a `Request`.

        Args:
            amounts: By rate.
            slots: Of the concurrency.
            now: The present.
            number: Under which `landed` will tell of the call's end, if anybody does.

        Raises:
            RequestTooLargeError: It needs more than a limit itself.
        """
        flights = self._flights
        if flights is not None:
            flights.advance(now)
        if self.concurrency.back_at <= now:
            self._recover_slots(now)
        if self._line.everybody.size or self._floor > now or not self._fits(amounts, slots, now):
            self.check(amounts, slots)
            return False
        self._take(amounts, slots, now)
        if flights is not None:
            flights.left(amounts, now, number)
        counts = self.counts
        counts.submitted += 1
        counts.granted += 1
        return True

    def grant(self, request: R, now: float) -> bool:
        """Admit `request` at once, as `submit` and `advance` would, or change nothing.

        Raises:
            RequestTooLargeError: It needs more than a limit itself.
        """
        number = self.counts.submitted + 1
        if self._launch.due() > now or not self.admit(request.amounts, request.slots, now, number):
            return False
        self._launch.took(request.amounts, now)
        request.number = self.counts.submitted
        request.submitted = request.planned = now
        request.state = RequestState.GRANTED
        return True

    def submit(self, request: R, now: float) -> None:
        """Queue `request`; `advance` admits it.

        Raises:
            RequestTooLargeError: It needs more than a limit itself, so no wait would help.
        """
        self.check(request.amounts, request.slots)
        self.counts.submitted += 1
        request.number = self.counts.submitted
        request.submitted = now
        request.share = self._share(request)
        request.leaving = self._launch.seconds(request.amounts)
        self._line.push(request)

    def advance(self, now: float) -> Advance[R]:
        """Admit everything that is due by `now`."""
        if self.concurrency.back_at <= now:
            self._recover_slots(now)
        grants: list[R] = []
        while (request := self.head()) is not None:
            moment = min(self._due_in_turn(request)[0], now) if request.unattended else now
            self._land(moment)
            if not self._has_slots(request.slots):
                return Advance(grants, self._wake_at(math.inf))
            due, bound = self._due_in_turn(request)
            if due > moment:
                if moment < now:
                    continue  # something has arrived by then, and moved it on
                return Advance(grants, self._wake_at(due))
            self._line.serve(request)
            if not bound and moment > request.submitted:
                bound = self._last_bound  # free to go, but behind others: what held them held it
            self._grant(request, max(due, moment - self._catch_up), bound, moment)
            grants.append(request)
        self._land(now)
        return Advance(grants, None)

    def head(self) -> R | None:
        """Return the request that is next: whose turn it is, or who passes that one because it waits for slots."""
        blocked = self._waits_for_slots()
        return self._line.head() if blocked is None else self._line.passing() or blocked

    def force(self, request: R, now: float, latest: float = math.inf) -> float:
        """Admit past the queue and return when the request may be sent, which may be later than `now`.

        For callers that must not wait for others' progress. What would be sent after `latest` is not admitted.

        Raises:
            RequestTooLargeError: It needs more than a limit itself.
        """
        self.check(request.amounts, request.slots)
        request.submitted = now
        due, bound = self._due(request)
        if due <= latest:
            self.counts.submitted += 1
            request.number = self.counts.submitted
            self._grant(request, due, bound, now)
        return due

    def cancel(self, request: R, now: float) -> bool:
        """Take `request` back, from the queue or with a refund of what it was granted; `False` if it was before."""
        if request.state is RequestState.QUEUED:
            self._line.remove(request)
            self.counts.cancelled += 1
        elif request.state is RequestState.GRANTED:
            refund = [-amount for amount in request.amounts]
            rest = refund if self._flights is None else self._flights.recall(request.number, refund)
            self.charge(rest, now, request.planned, told=refund)
            self._launch.gave_back(request.amounts, now)
            self.release(request.slots, now)
        else:
            return False
        request.state = RequestState.CANCELLED
        return True

    def charge(
        self, amounts: Sequence[float], now: float, since: float | None = None, told: Sequence[float] | None = None
    ) -> None:
        """Take more, or give back (negative), after the fact. A bucket never gets fuller than full.

        Args:
            amounts: By rate.
            now: The present.
            since: When what is given back was taken; now by default.
            told: What the provider's side is told of; the same by default.
        """
        for bucket, amount in zip(self.buckets, amounts, strict=True):
            if amount:
                bucket.charge(amount, now, now if since is None else since)
        if self.provider is not None:
            self.provider.history.add(told or amounts, now)

    def landed(self, request: R, now: float) -> None:
        """Take note that the call of `request` has arrived at the provider, if that is not known yet."""
        if self._flights is not None:
            self._flights.arrived(request.number, now)

    def all_landed(self, now: float) -> None:
        """Take note that everything on its way has arrived: the provider has refused some of it."""
        if self._flights is not None:
            self._flights.land_all(now)

    def release(self, slots: int, now: float) -> None:
        """Give `slots` back."""
        if slots:
            if self.slots_used >= self.concurrency.number:
                self._raise_floor(now, _CONCURRENCY)
            self.slots_used = max(self.slots_used - slots, 0)

    def pause(self, until: float, now: float, keep: Sequence[float] | None = None) -> None:
        """Admit nothing before `until`, and go on from there with nearly empty buckets.

        Args:
            until: On the clock of `now`. A pause that ends no later than the present one changes nothing.
            now: The present.
            keep: What may pass at `until`, by rate; by default a second's worth, and at least one unit.
        """
        if self._pause.begin(self.buckets, until, now, keep):
            self._raise_floor(until, _PAUSE)

    def resume(self, now: float) -> None:
        """End a pause now."""
        if self._pause.end(self.buckets, now):
            self._floor = min(self._floor, now)

    def set_rate(self, name: str, rate: Rate, now: float) -> None:
        """Change the rate `name`; what is taken stays taken."""
        index = self.names.index(name)
        old = self.buckets[index]
        if (old.rate.refill, old.rate.awaits_arrival) != (rate.refill, rate.awaits_arrival):
            self.all_landed(now)
            self.buckets[index] = new = bucket_for(old.rate, rate)
            new.tat = old.tat
            self._follow_buckets()
        self.buckets[index].set_rate(rate, now)
        self._launch.follow(bucket.rate for bucket in self.buckets)

    def forecast(self, request: R, now: float) -> float:
        """Return when `request` would be admitted if it joined its lane now, should nothing be in flight for long.

        Exact in a single lane; a close lower bound under fair queueing, or where slots or a server's window are short.
        """
        passed = None if request.slots else self._waits_for_slots()
        *ahead, leaving = self._line.ahead(request.lane, passing=passed is not None)
        start = max(now, self._floor if passed is None else self._due(passed)[0])
        due = max(start, self._launch.forecast(start, leaving, self._launch.seconds(request.amounts)))
        for bucket, amount, before in zip(self.buckets, request.amounts, ahead, strict=True):
            if amount:
                due = max(due, bucket.due(amount, start, before))
        return due if self.provider is None else max(due, self.provider.due(request.amounts)[0])

    def drained(self, now: float, usual: Sequence[float] | None = None) -> float:
        """Return when the last of the queue would be let through, slots aside; all of it is taken for of one size.

        Without a queue it is when the last that was forced past it may be sent, if that is of the `usual` size.
        """
        *queued, leaving = self._line.amounts
        size, head = self._line.size, self._line.head()
        start = max(now, self._floor)
        due = max(start, self._launch.forecast(start, leaving))
        for bucket, waiting, amount in zip(self.buckets, queued, usual or queued, strict=True):
            last = waiting / size if size else amount
            if last:
                due = max(due, bucket.due(last, start, waiting - last))
        return due if head is None or self.provider is None else max(due, self.provider.due(head.amounts)[0])

    def drop_queue(self) -> list[R]:
        """Cancel everything queued and return it."""
        return [request for request in self._line.requests() if self.cancel(request, 0.0)]

    def oversized(self) -> list[tuple[R, RequestTooLargeError]]:
        """Return what is queued and will never fit, with the error: fewer slots were declared since the last time."""
        return self.concurrency.outgrown(self._line.requests)

    def forget_queue(self) -> None:
        """Drop everything queued, whatever state an interrupted change has left it in."""
        self.counts.cancelled = self.counts.submitted - self.counts.granted
        self._line = Line(len(self.names), has_slots=self.concurrency.number < math.inf)

    def check(self, amounts: Sequence[float], slots: int) -> None:
        """Raise if no wait can make the request fit.

        Raises:
            RequestTooLargeError: It needs more than a limit itself.
        """
        refuse_too_large(zip(self.names, [bucket.limit for bucket in self.buckets], amounts, strict=True))
        if (error := self.concurrency.too_many(slots)) is not None:
            raise error

    def _fits(self, amounts: Sequence[float], slots: int, now: float) -> bool:
        if slots and not self._has_slots(slots):
            return False
        for bucket, amount in zip(self.buckets, amounts):  # noqa: B905 - 0.1 us on the hot path
            if amount and not bucket.admits(amount, now):
                return False
        return self.provider is None or self.provider.due(amounts)[0] <= now

    def _land(self, now: float) -> None:
        if self._flights is not None:
            self._flights.advance(now)

    def _has_slots(self, slots: int) -> bool:
        return not slots or self.concurrency.has_room(slots, self.slots_used)

    def _recover_slots(self, now: float) -> None:
        if self.slots_used >= self.concurrency.number:
            self._raise_floor(self.concurrency.back_at, _CONCURRENCY)
        self.concurrency.recover(now)

    def _wake_at(self, due: float) -> float | None:
        """Return when to look again: at `due`, or when time gives a slot back."""
        at = min(due, self.concurrency.back_at)
        return None if at == math.inf else at

    def _waits_for_slots(self) -> R | None:
        head = self._line.head()
        return None if head is None or self._has_slots(head.slots) else head

    def _due_in_turn(self, request: R) -> tuple[float, str]:
        """Return when `request`, which is next, may pass: not before one whose turn it is waits for slots only."""
        due, passed = self._due(request), self._line.head()
        return due if passed is None or passed is request else max(due, self._due(passed), key=itemgetter(0))

    def _due(self, request: R) -> tuple[float, str]:
        due, bound = request.submitted, ""
        if (launch := self._launch.due()) > due:
            due, bound = launch, _BURST
        if self._floor > due:
            due, bound = self._floor, self._floor_reason
        for name, bucket, amount in zip(self.names, self.buckets, request.amounts, strict=True):
            if amount and (eligible := bucket.eligible_at(amount)) > due:
                due, bound = eligible, name
        if self.provider is not None:
            theirs, name = self.provider.due(request.amounts)
            if theirs > due:
                due, bound = theirs, name
        return due, bound

    def _grant(self, request: R, at: float, bound: str, now: float) -> None:
        self._take(request.amounts, request.slots, at)
        if self._flights is not None:
            self._flights.left(request.amounts, max(at, now), request.number)
        self._launch.took(request.amounts, min(at, now))
        self.counts.granted += 1
        request.state = RequestState.GRANTED
        request.planned = at
        request.bound_by = bound
        self._last_bound = bound or self._last_bound

    def _take(self, amounts: Sequence[float], slots: int, at: float) -> None:
        for bucket, amount in zip(self.buckets, amounts):  # noqa: B905
            if amount:
                bucket.take(amount, at)
        if slots and self.concurrency.number < math.inf:
            self.slots_used += slots
        if self.provider is not None:
            self.provider.took(amounts, at)

    def _share(self, request: R) -> float:
        shares = [amount / bucket.rate.limit for bucket, amount in zip(self.buckets, request.amounts, strict=True)]
        # Slots are held, not spent, so they compare with rates only where there is nothing else to go by.
        return max(shares, default=0.0) or 1.0

    def _raise_floor(self, at: float, reason: str) -> None:
        if at > self._floor:
            self._floor, self._floor_reason = at, reason

    def _follow_buckets(self) -> None:
        awaiting = {index: one for index, one in enumerate(self.buckets) if isinstance(one, ArrivalBucket)}
        self._flights = Flights(awaiting) if awaiting else None
        self._catch_up = min([CATCH_UP_BUCKETS, *(CATCH_UP for one in self.buckets if one.rate.refill == "window")])
