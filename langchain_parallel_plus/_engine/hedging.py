"""One attempt and its hedges, decided purely: a step machine inside that of `machine`, which sees one call.

`race_step(race, event, now)` returns the next state and one action, as `machine.step` does. It begins when the first
call has turned out to be slow: a call that is quick never comes here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = (
    "FIRST",
    "Await",
    "Begin",
    "Delivered",
    "Fell",
    "Lost",
    "Race",
    "RaceAction",
    "RaceEvent",
    "Slow",
    "Won",
    "race_step",
)

FIRST: Final = 0
"""The number of the first call; its hedges are numbered from 1."""


@dataclass(frozen=True, slots=True)
class Race:
    """Where an attempt is."""

    delay: float
    """Seconds between the begin of one call and the next."""
    left: int
    """Hedges that may still be begun."""
    begun: int = 0
    """Hedges begun, those that were refused included."""
    flying: Sequence[int] = (FIRST,)
    """The calls under way, by number."""
    due: float | None = None
    """When the next hedge is; `None` if there is none."""
    error: Exception | None = None
    """The first call's, if it has failed while a hedge was under way."""


@dataclass(frozen=True, slots=True)
class Slow:
    """The time for a hedge has come."""

    throttled: bool = False
    """Whether a rate limit is short, or was met a moment ago."""
    affordable: bool = True
    """Whether the budget has paid for it."""


@dataclass(frozen=True, slots=True)
class Delivered:
    """A call came back; in a stream, with its first chunk or its end."""

    leg: int


@dataclass(frozen=True, slots=True)
class Fell:
    """A call failed, or was not let through."""

    leg: int
    error: Exception
    interrupts: bool = False
    """Whether the error is no failure: an interrupt, which nothing may hold up."""
    refused: bool = False
    """Whether it was a hedge that has called nobody: it could not be admitted at once."""


@dataclass(frozen=True, slots=True)
class Begin:
    """Begin a hedge of this number."""

    leg: int


@dataclass(frozen=True, slots=True)
class Await:
    """Wait for what is under way, at most until a hedge is due."""

    until: float | None


@dataclass(frozen=True, slots=True)
class Won:
    """The attempt ends with what this call has delivered; the others are to be cancelled and awaited."""

    leg: int


@dataclass(frozen=True, slots=True)
class Lost:
    """The attempt ends with the first call's error."""

    error: Exception


RaceEvent = Slow | Delivered | Fell
RaceAction = Begin | Await | Won | Lost


def race_step(race: Race, event: RaceEvent, now: float) -> tuple[Race, RaceAction]:
    """Return what follows from `event`."""
    match event:
        case Slow():
            return _slow(race, event, now)
        case Delivered(leg):
            return race, Won(leg)
        case Fell(leg, error) if leg == FIRST:
            flying = _without(race.flying, FIRST)
            if event.interrupts or not flying:
                return race, Lost(error)
            # What would be begun now would be a retry, and that is decided elsewhere.
            return Race(race.delay, 0, race.begun, flying, None, error), Await(None)
        case Fell():
            return _hedge_fell(race, event, now)


def _slow(race: Race, event: Slow, now: float) -> tuple[Race, RaceAction]:
    if not race.left or race.error is not None:
        return _waiting(race, race.flying, None)
    if event.throttled or not event.affordable:
        return _waiting(race, race.flying, now + race.delay)  # this may have passed by then
    leg, left = race.begun + 1, race.left - 1
    due = now + race.delay if left else None
    return Race(race.delay, left, leg, (*race.flying, leg), due, race.error), Begin(leg)


def _hedge_fell(race: Race, event: Fell, now: float) -> tuple[Race, RaceAction]:
    flying = _without(race.flying, event.leg)
    if not flying:
        assert race.error is not None  # the first call has failed: it would be under way otherwise
        return race, Lost(race.error)
    if not event.refused or race.error is not None:
        return _waiting(race, flying, race.due)
    again = Race(race.delay, race.left + 1, race.begun, flying, race.due, race.error)
    return _waiting(again, flying, now + race.delay)


def _waiting(race: Race, flying: Sequence[int], due: float | None) -> tuple[Race, RaceAction]:
    return Race(race.delay, race.left, race.begun, flying, due, race.error), Await(due)


def _without(flying: Sequence[int], leg: int) -> tuple[int, ...]:
    return tuple([one for one in flying if one != leg])
