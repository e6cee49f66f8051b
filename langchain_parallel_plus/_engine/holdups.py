"""When a stream could have gone on, and whoever reads it was not done with its last chunk."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from langchain_parallel_plus._engine.scope import Scope

__all__ = ("Holdups", "holdups_of")

_LEAST = 0.001
"""Seconds below which it is the threads' or tasks' turns that take time, and not the reader."""


class Holdups:
    """The stretches in which one stream was held up. They are told once, at its end: an event for each costs too much.

    Args:
        now: The clock of the run.
    """

    __slots__ = ("_log", "_now", "_since")

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._log: list[tuple[float, float]] = []
        self._since: float | None = None

    def begin(self) -> None:
        """Wait for the reader from now on."""
        self._since = self._now()

    def end(self) -> None:
        """Go on."""
        since, self._since = self._since, None
        now = self._now()
        if since is not None and now - since >= _LEAST:
            self._log.append((since, now))

    def until(self, at: float) -> tuple[tuple[float, float], ...]:
        """Return the stretches until `at`; from another thread one may be there twice, with another end."""
        since = self._since  # first: it may come to the log in this very moment
        log = tuple(self._log)
        return log if since is None or at - since < _LEAST else (*log, (since, at))


def holdups_of(scope: Scope) -> Holdups | None:
    """Return what takes note of the hold-ups of a branch's stream, if somebody hears of them."""
    if scope.heard:
        scope.tally.holdups = Holdups(scope.now)
    return scope.tally.holdups
