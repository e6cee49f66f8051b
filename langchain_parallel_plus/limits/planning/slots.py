"""How many calls may be in flight: the declared concurrency, and fewer for a while at a provider that is overloaded."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, TypeVar

from langchain_parallel_plus.errors import RequestTooLargeError
from langchain_parallel_plus.limits.planning.lanes import Request

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ("Concurrency", "SlotCare")

_BACK_EVERY: Final = 10.0
_FACTOR: Final = 0.9
_ROUNDING: Final = 1e-6
"""So that a slot is there at the very time that was announced for it."""

R = TypeVar("R", bound=Request)


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotCare:
    """Slots of a concurrency at a provider that says it is overloaded: fewer by a tenth, then one more at a time.

    This is the AIMD limit of Netflix's concurrency-limits (x0.9, +1). It never touches a rate: overload is no quota.
    Time alone gives slots back, so what has been given back is looked up, and kept nowhere.
    """

    declared: int
    slots: float
    """At `decreased_at`."""
    decreased_at: float = -math.inf

    @classmethod
    def all_of(cls, declared: int) -> SlotCare:
        """Return the care of a provider that has shown no overload."""
        return cls(declared=declared, slots=float(declared))

    def overloaded(self, now: float, sent: float) -> SlotCare:
        """Decrease, once for all calls that were under way."""
        if sent <= self.decreased_at:
            return self
        return replace(self, slots=max(self.at(now) * _FACTOR, 1.0), decreased_at=now)

    def at(self, now: float) -> float:
        """Return the slots that there are at `now`."""
        return min(self.slots + self._steps(now), float(self.declared))

    def back_at(self, now: float) -> float:
        """Return when the next slot is given back after `now`; infinite if all are there."""
        if self.at(now) >= self.declared:
            return math.inf
        return self.decreased_at + (self._steps(now) + 1) * _BACK_EVERY

    def recovered(self, now: float) -> SlotCare:
        """Return the care from `now` on: an overload is forgotten once time has given all slots back."""
        return self.all_of(self.declared) if self.back_at(now) == math.inf else self

    def _steps(self, now: float) -> int:
        steps = (now - self.decreased_at) / _BACK_EVERY
        return max(math.floor(steps + _ROUNDING), 0) if steps < math.inf else 0


class Concurrency:
    """The slots that a planner has to give.

    Args:
        declared: How many; `None` for any number.
    """

    __slots__ = ("_care", "_has_shrunk", "back_at", "number")

    def __init__(self, declared: int | None) -> None:
        self.number = math.inf if declared is None else declared
        """How many there are at present; infinite if they are not counted."""
        self.back_at = math.inf
        """When time gives the next one back; infinite if all are there."""
        self._has_shrunk = False
        self._care = None if declared is None else SlotCare.all_of(declared)

    def follow(self, care: SlotCare, now: float) -> None:
        """Go on with another number of slots."""
        self._has_shrunk |= self._care is not None and care.declared < self._care.declared
        self._care = care
        self.number = max(math.floor(care.at(now)), 1)
        self.back_at = care.back_at(now)

    def recover(self, now: float) -> None:
        """Give back what time has given back by `now`."""
        if self._care is not None:
            self.follow(self._care, now)

    def has_room(self, slots: int, used: int) -> bool:
        """Tell whether `slots` are free where `used` are in use.

        More than an overload has left pass as soon as nothing else is in flight.
        """
        return used + slots <= self.number or (not used and self.too_many(slots) is None)

    def outgrown(self, queued: Callable[[], list[R]]) -> list[tuple[R, RequestTooLargeError]]:
        """Return what is queued for more than there will ever be, if fewer were declared since the last time."""
        if not self._has_shrunk:
            return []
        self._has_shrunk = False
        found = [(request, self.too_many(request.slots)) for request in queued()]
        return [(request, error) for request, error in found if error is not None]

    def too_many(self, slots: int) -> RequestTooLargeError | None:
        """Return the error of a request for more than there will ever be: what is declared counts."""
        if self._care is None or slots <= self._care.declared:
            return None
        msg = f"one request needs {slots} slots, and the concurrency is {self._care.declared}"
        return RequestTooLargeError(msg, help="ask for fewer slots, or declare a higher concurrency")
