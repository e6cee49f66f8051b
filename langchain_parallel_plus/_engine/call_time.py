"""The time of one call under a policy: it stands still while a model call in it waits for a limiter.

That is while at least one call waits, at any depth below, whatever others do meanwhile. Were it while all of them wait,
a nested fan-out under a quota would time out for its queue: one call of many is nearly always under way, and none of
them is slow. The price is that one which hangs beside those that wait is found out only after the waits; a policy of
its own finds it out at once, because the time of a call does not stand still for what waits elsewhere.

The time of the run, and deadlines, go on.
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
"""Seconds; while the time stands still, whoever waits for its end looks no more often than so.

Nobody is woken when it goes on: what is looked at in time is the moment at which it would have ended, and that is never
later than the end. So a call that has more left than this ends on time.
"""


class CallTime:
    """Counts the seconds of one call. Usable from any thread.

    Args:
        now: The clock of the driver that makes the call, which other threads read as well.
        own: Seconds that the call may take by itself.
        run: Seconds that its run has left.
        around: The time of the call that this one is part of; it stands still together with this one.
    """

    __slots__ = ("_around", "_began", "_lock", "_now", "_own", "_run_ends", "_since", "_stood", "_waiting", "resumed")

    def __init__(
        self, now: Callable[[], float], own: float | None, run: float | None, around: CallTime | None = None
    ) -> None:
        self._now = now
        self._own = own
        self._around = around
        self._lock = threading.Lock()
        self._began = began = now()
        self._run_ends = None if run is None else began + run
        self._waiting = 0
        self._since = self._stood = 0.0
        self.resumed = began
        """When it began, or last went on after it had stood still."""

    @property
    def stands(self) -> bool:
        """Whether a call waits for a limiter, or its consumer has the stream."""
        return self._waiting > 0

    @property
    def stood(self) -> float:
        """Seconds for which it has stood still so far."""
        if not self._waiting:  # what has stood is added before: most calls never wait, and pay for no lock
            return self._stood
        with self._lock:
            return self._stood + (self._now() - self._since if self._waiting else 0.0)

    @property
    def taken(self) -> float:
        """Seconds that have counted so far."""
        return self._now() - self._began - self.stood

    def stand_still(self) -> Callable[[], None]:
        """Stop this time, and those around, until the returned function is called; again, that changes nothing."""
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

    def pause(self) -> None:
        """Stop this time until `resume`: a stream's consumer has a chunk to see to."""
        self._wait()

    def resume(self, taken: float) -> None:
        """Go on: the consumer asks for the next chunk. The seconds that it took do not count for the run either."""
        if self._run_ends is not None:
            self._run_ends += taken
        self._go_on()

    def at(self, seconds: float) -> float:
        """Return the moment at which the call has taken so many seconds by itself, as it looks now."""
        return self._began + self.stood + seconds

    def passed(self, seconds: float) -> bool:
        """Return whether the call has taken so many seconds by itself."""
        return self._now() >= self.at(seconds) - _TOLERANCE

    def over(self) -> Literal["run_timeout", "attempt_timeout"] | None:
        """Return which time is up."""
        if self._run_ends is not None and self._now() >= self._run_ends - _TOLERANCE:
            return "run_timeout"
        if self._own is not None and self.passed(self._own):
            return "attempt_timeout"
        return None

    def until(self, *moments: float) -> float | None:
        """Return when to look again, unless the call ends: at one of its limits, or of these moments.

        All but the run's end move on while it stands still.
        """
        moving = moments if self._own is None else (*moments, self.at(self._own))
        if not moving:
            return self._run_ends
        first = max(min(moving), self._now() + _GLANCE) if self._waiting else min(moving)
        return first if self._run_ends is None else min(first, self._run_ends)

    def left(self) -> float | None:
        """Return the seconds after which this call, or one around it, is over if nothing waits any more."""
        now = self._now()
        ends = [] if self._run_ends is None else [self._run_ends - now]
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
            if self._waiting == 1:
                self.resumed = self._now()
                self._stood += self.resumed - self._since
            self._waiting -= 1
