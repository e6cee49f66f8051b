"""The limiters that are in use in this process, for whoever shows how they stand now."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol
from weakref import WeakSet

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ("Limiter", "Quota", "Rate", "Statistics", "resource_of", "watch", "watched")


class Rate(Protocol):
    """One rate of a limiter at one moment."""

    @property
    def limit(self) -> float:
        """Units in a window."""

    @property
    def window(self) -> float:
        """Seconds."""

    @property
    def available(self) -> float:
        """What would pass now; negative while something large is paid off."""

    @property
    def utilisation(self) -> float:
        """Share of `limit` that sustained load uses."""


class Statistics(Protocol):
    """A limiter at one moment."""

    @property
    def rates(self) -> Mapping[str, Rate]:
        """By name."""

    @property
    def queued(self) -> int:
        """How many calls wait."""

    @property
    def paused_for(self) -> float:
        """Seconds until a pause ends."""

    @property
    def closed(self) -> str | None:
        """Why nothing passes any more, if it is so."""


class Quota(Protocol):
    """The state that limiters of one name share."""

    def time_left(self) -> float | None:
        """Return the seconds until all that waits now will have been let through, if that can be said."""


class Limiter(Protocol):
    """What is needed of a limiter."""

    @property
    def account(self) -> Quota:
        """Its quota."""

    @property
    def name(self) -> str:
        """Its name."""

    def statistics(self) -> Statistics:
        """Return what it is doing."""


_WATCHED: WeakSet[Limiter] = WeakSet()


def watch(*limiters: Limiter) -> None:
    """Show how `limiters` stand, for as long as they live."""
    _WATCHED.update(limiters)


def watched() -> list[Limiter]:
    """Return those that live."""
    return list(_WATCHED)


def resource_of(rate: str) -> str:
    """Return what a rate counts: `"requests"`, `"tokens"`, `"input_tokens"` or `"output_tokens"`."""
    return rate.partition("_per_")[0]
