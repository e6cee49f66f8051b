"""A provider's bucket that may be used to its last unit: what is on its way counts in full until it has arrived.

A bucket refills from the arrival of a call on, and a call may arrive seconds after its admission: where a thousand of
them are let go together, the event loop has to send all of them. A schedule that counts from admission would count on
quota that the server has not earned. So what a call takes is *held* until the call is known to have arrived: it has
been answered, refused or given up; or, where no answer tells, some seconds have passed. Only from then on it is earned
back. However late the calls arrive within `ARRIVED_AFTER`, and in whatever order, the server has at least what this
schedule says.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from langchain_parallel_plus.limits.planning.bucket import Bucket

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langchain_parallel_plus.limits.planning.bucket import Rate

__all__ = ("ARRIVED_AFTER", "ArrivalBucket", "Flights")

ARRIVED_AFTER: Final = 3.0
"""Seconds after which a call is taken to have arrived. It is only what a burst of calls loses that take longer."""


class ArrivalBucket(Bucket):
    """A bucket whose refill counts from arrivals. `tat` is that of what has arrived."""

    __slots__ = ("held", "lands_at")

    def __init__(self, rate: Rate) -> None:
        self.held = 0.0
        """Units on their way."""
        self.lands_at = 0.0
        """When the next of them count as arrived, if nothing is heard before."""
        super().__init__(rate)

    def admits(self, amount: float, now: float) -> bool:
        """Tell whether `amount` may pass now, in the arithmetic of `eligible_at`."""
        span, depth = amount * self.interval, self.depth
        span = (span if span < depth else depth) + self.held * self.interval
        if span <= depth:
            return amount <= self.limit and self.tat + span - depth <= now
        return amount <= self.limit and self.eligible_at(amount) <= now

    def eligible_at(self, amount: float) -> float:
        """Return when `amount` may pass, or when something else has arrived if that is to be awaited first."""
        span = min(amount * self.interval, self.depth) + self.held * self.interval
        if span <= self.depth:
            return self.tat + span - self.depth
        return max(self.lands_at, self.tat + span - self.depth) if self.held else self.tat

    def due(self, amount: float, start: float, before: float) -> float:
        """Return when `amount` may pass if `before` units are taken first and all on their way arrives at `start`."""
        return super().due(amount, start, before + self.held)

    def take(self, amount: float, at: float) -> None:
        """Send `amount` on its way."""
        self.held += amount

    def land(self, amount: float, at: float) -> None:
        """Let `amount` arrive at `at`."""
        self.held = max(self.held - amount, 0.0)
        super().take(amount, at)

    def recall(self, amount: float) -> None:
        """Take `amount` back from its way."""
        self.held = max(self.held - amount, 0.0)

    def charge(self, amount: float, now: float, since: float) -> None:
        """Take `amount` at once, as if it had arrived; a negative amount gives back of what has."""
        if amount > 0:
            super().take(amount, now)
        else:
            super().charge(amount, now, since)

    def level(self, now: float) -> float:
        """Return the units that could pass at `now`; negative while there is a debt."""
        return super().level(now) - self.held


class _Flight:
    __slots__ = ("amounts", "at")

    def __init__(self, amounts: Sequence[float], at: float) -> None:
        self.amounts: Sequence[float] | None = amounts
        self.at = at


class Flights:
    """The calls that are on their way to a provider, by number where somebody will tell of their end.

    Args:
        buckets: By index of the rate.
    """

    __slots__ = ("_awaiting", "_buckets", "_by_number", "_last", "_order", "_some_arrived")

    def __init__(self, buckets: dict[int, ArrivalBucket]) -> None:
        self._buckets = buckets
        self._awaiting = tuple(buckets.values())
        self._order: deque[_Flight] = deque()
        self._by_number: dict[int, _Flight] = {}
        self._last = 0.0
        self._some_arrived = False

    @property
    def lands_at(self) -> float:
        """When the next call counts as arrived: the last one's time counts while nothing is heard of any."""
        return (self._order[0].at if self._some_arrived else self._last) + ARRIVED_AFTER

    def left(self, amounts: Sequence[float], at: float, number: int | None) -> None:
        """Take note of a call that was admitted at `at`; its end will be told under `number`."""
        flight = _Flight(amounts, at)
        self._order.append(flight)
        if at > self._last:
            self._last = at
        if number is not None:
            self._by_number[number] = flight
        lands_at = (self._order[0].at if self._some_arrived else self._last) + ARRIVED_AFTER
        for bucket in self._awaiting:
            bucket.lands_at = lands_at

    def arrived(self, number: int, now: float) -> None:
        """Let the call `number` arrive, unless it has."""
        flight = self._by_number.pop(number, None)
        if flight is not None and flight.amounts is not None:
            self._some_arrived = True
            self._land(flight, now)
            self._forget()

    def recall(self, number: int, refund: Sequence[float]) -> Sequence[float]:
        """Take the call `number` back, unless it has arrived; return what of `refund` remains to be given back."""
        flight = self._by_number.pop(number, None)
        if flight is None or flight.amounts is None:
            return refund
        for index, bucket in self._buckets.items():
            bucket.recall(flight.amounts[index])
        flight.amounts = None
        self._forget()
        return [0.0 if index in self._buckets else amount for index, amount in enumerate(refund)]

    def advance(self, now: float) -> None:
        """Let everything arrive that is due."""
        if not self._order or now < self.lands_at:
            return
        self._some_arrived = True
        while self._order and self._order[0].at + ARRIVED_AFTER <= now:
            self._land(self._order.popleft(), now)
        self._forget()

    def land_all(self, now: float) -> None:
        """Let everything arrive: the provider has shown that its bucket is empty."""
        for flight in self._order:
            self._land(flight, now)
        self._order.clear()
        self._forget()

    def _land(self, flight: _Flight, at: float) -> None:
        if flight.amounts is not None:
            for index, bucket in self._buckets.items():
                bucket.land(flight.amounts[index], at)
            flight.amounts = None

    def _forget(self) -> None:
        while self._order and self._order[0].amounts is None:
            self._order.popleft()
        if not self._order:
            self._some_arrived = False
            self._by_number.clear()
            for bucket in self._buckets.values():
                bucket.held = 0.0  # and forget rounding errors
        elif len(self._by_number) > 2 * len(self._order) + 64:
            self._by_number = {n: flight for n, flight in self._by_number.items() if flight.amounts is not None}
        self._tell()

    def _tell(self) -> None:
        if self._order:
            for bucket in self._buckets.values():
                bucket.lands_at = self.lands_at
