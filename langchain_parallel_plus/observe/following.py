"""Who follows a run without having subscribed: traces, where they are switched on.

A run asks once, when it begins, and hands its followers down to everything below it. They hear every event that
subscribers hear, and they enter each context that work runs in, where they may set context variables.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable
    from uuid import UUID

    from langchain_core.callbacks import BaseCallbackHandler, BaseCallbackManager

    from langchain_parallel_plus.observe.event import Event

__all__ = ("Followed", "Follower")

C = TypeVar("C", bound="BaseCallbackManager")

_log = logging.getLogger("langchain_parallel_plus")


class Followed(Protocol):
    """A branch, or one attempt of it, that is about to work in a context of its own."""

    @property
    def run_id(self) -> UUID:
        """The fan-out's run."""

    @property
    def path(self) -> tuple[str, ...]:
        """The names around, and its own."""

    @property
    def unit(self) -> int:
        """Its number, as in its events."""

    @property
    def attempt(self) -> int | None:
        """Which attempt; `None` for the branch as a whole."""


class Follower(ABC):
    """Someone who follows runs. Its errors are its own: the first is logged, and the run goes on."""

    _failed = False

    def __call__(self, event: Event) -> None:
        """Take an event in."""
        try:
            self.take(event)
        except Exception as error:  # noqa: BLE001 - a trace that fails must not end what it traces
            self._fail(error)

    def entered(self, work: Followed, *, later: bool = False) -> None:
        """Take note that `work` is about to run in the present context, which nothing else runs in.

        Args:
            work: What runs.
            later: Whether it is a branch whose policy begins a run of its own, which "policy.start" tells of.
        """
        try:
            self.enter(work, later=later)
        except Exception as error:  # noqa: BLE001 - as above
            self._fail(error)

    def left(self, work: Followed) -> None:
        """Take note that nothing of `work` runs any more."""
        try:
            self.leave(work)
        except Exception as error:  # noqa: BLE001 - as above
            self._fail(error)

    @abstractmethod
    def take(self, event: Event) -> None:
        """Take an event in."""

    def enter(self, work: Followed, *, later: bool) -> None:  # noqa: B027 - not everybody has something to do here
        """Prepare the context of `work`."""

    def leave(self, work: Followed) -> None:  # noqa: B027 - as above
        """Clear up after `work`."""

    def callbacks_for(self, work: Followed, callbacks: C) -> C:
        """Return the callbacks that child runs of `work` are to have."""
        return callbacks

    def below(self, handlers: Iterable[object]) -> Follower:
        """Return who follows a run with these callback handlers, which is below one that this one follows."""
        return self

    def surround(self, run_id: UUID, handlers: list[BaseCallbackHandler]) -> list[BaseCallbackHandler]:
        """Return the handlers that a synthesis is to hand down, with which what it calls finds where it belongs."""
        return handlers

    def _fail(self, error: Exception) -> None:
        if not type(self)._failed:
            type(self)._failed = True
            names = type(self).__name__, type(error).__name__
            _log.warning("%s raised %s; its later errors are not logged", *names, exc_info=error)
