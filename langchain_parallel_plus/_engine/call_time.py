"""The time of one call under a policy: it stands still while a model call in it waits for a limiter.

That is the time in which at least one call waits, at any depth below, whatever others do meanwhile: in a nested fan-out
under a quota some call is nearly always under way, and none of them is slow. The time of the run, and deadlines, go on.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ("CallTime",)

_TOLERANCE: Final = 1e-6
"""Seconds by which a timer may fire early."""

_GLANCE: Final = 0.05
"""Seconds; while the time stands still, whoever waits for its end looks no more often than so."""


class CallTime:
    """Counts the seconds of one call. Usable from any thread.

    Args:
        now: The clock of the driver that makes the call.
        own: Seconds that the call may take by itself.
        run: Seconds that its run has left.
        around: The time of the call that this one is part of; it stands still together with this one.
    """

    __slots__ = ("_around", "_began", "_lock", "_now", "_own", "_run", "_since", "_stood", "_waiting", "resumed")

    def __init__(
        self, now: Callable[[], float], own: float | None, run: float | None, around: CallTime | None = None
    ) -> None:
        self._now = now
        self._own = own
        self._run = run
        self._around = around
        self._lock = threading.Lock()
        self._began = now()
        self._waiting = 0
        self._since = self._stood = 0.0
        self.resumed = self._began
        """When it began, or last went on after it had stood still."""

    @property
    def stands(self) -> bool:
        """Whether a call waits for a limiter."""
        return self._waiting > 0

    @property
    def stood(self) -> float:
        """Seconds for which it has stood still so far."""
        with self._lock:
            return self._stood + (self._now() - self._since if self._waiting else 0.0)

    def stand_still(self) -> Callable[[], None]:
        """Stop this time, and those around, until the returned function is called; further calls change nothing."""
        for each in self._upwards():
            each._wait()
        waits = True

        def go_on() -> None:
            nonlocal waits
            if waits:
                waits = False
                for each in self._upwards():
                    each._go_on()

        return go_on

    def leave_out(self, seconds: float) -> None:
        """Count some seconds neither for the call nor for its run: a stream's consumer has taken them."""
        self._began += seconds

    def at(self, seconds: float) -> float:
        """Return the moment at which the call has taken so many seconds by itself, as it looks now."""
        return self._began + self.stood + seconds

    def passed(self, seconds: float) -> bool:
        """Return whether the call has taken so many seconds by itself."""
        return self._now() >= self.at(seconds) - _TOLERANCE

    def over(self) -> Literal["run_timeout", "attempt_timeout"] | None:
        """Return which time is up."""
        if self._run is not None and self._now() >= self._began + self._run - _TOLERANCE:
            return "run_timeout"
        if self._own is not None and self.passed(self._own):
            return "attempt_timeout"
        return None

    def until(self, *moments: float) -> float | None:
        """Return when to look again, unless the call ends: at one of its limits, or of these moments.

        All but the run's end move on while it stands still.
        """
        moving = [*moments] if self._own is None else [*moments, self.at(self._own)]
        if moving and self.stands:
            moving = [max(min(moving), self._now() + _GLANCE)]
        if self._run is not None:
            moving.append(self._began + self._run)
        return min(moving, default=None)

    def left(self) -> float | None:
        """Return the seconds after which this call, or one around it, is over if nothing waits any more."""
        now = self._now()
        ends = [] if self._run is None else [self._began + self._run - now]
        if self._own is not None:
            ends.append(self.at(self._own) - now)
        if self._around is not None and (left := self._around.left()) is not None:
            ends.append(left)
        return min(ends, default=None)

    def _upwards(self) -> Iterator[CallTime]:
        each: CallTime | None = self
        while each is not None:
            yield each
            each = each._around

    def _wait(self) -> None:
        with self._lock:
            if not self._waiting:
                self._since = self._now()
            self._waiting += 1

    def _go_on(self) -> None:
        with self._lock:
            self._waiting -= 1
            if not self._waiting:
                self.resumed = self._now()
                self._stood += self.resumed - self._since
