"""When a stream has taken too long: as a whole, to its first chunk, or to its next one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain_parallel_plus._engine.pulse import Pulse

if TYPE_CHECKING:
    from contextvars import Context

    from langchain_parallel_plus._engine.call_time import CallTime
    from langchain_parallel_plus._engine.guarded import GuardedCall
    from langchain_parallel_plus._engine.machine import Call
    from langchain_parallel_plus.errors import BranchTimeoutError

__all__ = ("LATER", "ChunkWatch")

LATER: Any = object()
"""In place of a chunk: none has come within the time in which one would have been quick."""


class ChunkWatch:
    """The clock of one call's stream. Its consumer's time does not count; callbacks beneath refresh `idle_timeout`.

    Without a `time`, nothing is limited, and no clock is read.
    """

    __slots__ = ("_asked", "_call", "_first", "_given", "_guard", "_now", "_pulse", "_time", "_timed", "waits")

    def __init__(self, guard: GuardedCall, call: Call, context: Context, time: CallTime | None) -> None:
        self._guard = guard
        self._call = call
        self._now = guard.now
        self._first = True
        self._asked = self._given = 0.0
        self._time = time
        self._pulse: Pulse | None = None
        self._timed = guard.plan.times(call.target)
        if guard.plan.idle_timeout is not None and self._timed:
            self._pulse = Pulse(guard.now)
            self._pulse.listen(context)
        self.waits = False
        """Whether a chunk has been asked for that has not come yet."""

    def ask(self) -> bool:
        """Begin to wait for a chunk; return whether it is the first."""
        self.waits = True
        if self._time is not None:
            self._asked = self._now()
            if not self._first:
                self._time.resume(self._asked - self._given)
        return self._first

    def got(self) -> None:
        """Take in that the chunk is there, or the end, or an error."""
        self.waits = self._first = False
        if self._time is not None:
            self._given = self._now()
            self._time.pause()

    def until(self, within: float | None = None) -> float | None:
        """Return when to look again, unless a chunk comes before; also if it is slow, which it is after `within`."""
        if self._time is None:
            return None
        slow = () if within is None else (self._time.at(within),)
        return self._time.until(*slow, *(at for at, _, _ in self._silences(self._time)))

    def slow(self, within: float | None) -> bool:
        """Return whether the chunk has not come within so many seconds."""
        return within is not None and self._time is not None and self._time.passed(within)

    def over(self) -> BranchTimeoutError | None:
        """Return the error if the time is up."""
        if self._time is None:
            return None
        now, ends = self._now(), self._time.until()
        for at, field, seconds in sorted(self._silences(self._time)):
            if now >= at and (ends is None or at <= ends):
                return self._guard.silent(self._call, field, seconds)
        return None if self._time.over() is None else self._guard.timed_out(self._call, self._time)

    def _silences(self, time: CallTime) -> list[tuple[float, str, float]]:
        """Return when each limit on silence is reached, as it looks now."""
        plan = self._guard.plan
        silences = []
        if self._first and self._timed and plan.first_chunk_timeout is not None:
            first = plan.first_chunk_timeout
            silences.append((time.at(first), "first_chunk_timeout", first))
        if self._pulse is not None and plan.idle_timeout is not None:
            alive = self._now() if time.stands else max(self._asked, self._pulse.at, time.resumed)
            silences.append((alive + plan.idle_timeout, "idle_timeout", plan.idle_timeout))
        return silences
