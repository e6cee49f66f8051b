"""When a stream has taken too long: as a whole, to its first chunk, or to its next one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain_parallel_plus._engine.pulse import Pulse
from langchain_parallel_plus._engine.pump import later

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Context

    from langchain_parallel_plus._engine.guarded import GuardedCall
    from langchain_parallel_plus._engine.machine import Call
    from langchain_parallel_plus.errors import BranchTimeoutError

__all__ = ("LATER", "ChunkWatch")

LATER: Any = object()
"""In place of a chunk: none has come within the time in which one would have been quick."""


class ChunkWatch:
    """The clock of one call's stream. Its consumer's time does not count; callbacks beneath refresh `idle_timeout`."""

    __slots__ = ("_asked", "_call", "_first", "_given", "_guard", "_now", "_pulse", "_timed", "_until", "waits")

    def __init__(self, guard: GuardedCall, call: Call, now: Callable[[], float], context: Context) -> None:
        self._guard = guard
        self._call = call
        self._now = now
        self._first = True
        self._asked = self._given = now()
        self._until: float | None = None
        self._pulse: Pulse | None = None
        self._timed = guard.plan.times(call.target)
        if guard.plan.idle_timeout is not None and self._timed:
            self._pulse = Pulse(now)
            self._pulse.listen(context)
        self.waits = False
        """Whether a chunk has been asked for that has not come yet."""

    def ask(self) -> bool:
        """Begin to wait for a chunk; return whether it is the first."""
        self.waits, self._asked = True, self._now()
        if self._first:
            timeout = self._call.timeout
            self._until = None if timeout is None else self._asked + timeout
        else:
            self._until = later(self._until, self._asked - self._given)
        return self._first

    def got(self) -> None:
        """Take in that the chunk is there, or the end, or an error."""
        self.waits = self._first = False
        self._given = self._now()

    def until(self, slow_at: float | None = None) -> float | None:
        """Return when to look again, unless a chunk comes before."""
        ends = [end for end in (self._until, slow_at, *(at for at, _, _ in self._silences())) if end is not None]
        return min(ends) if ends else None

    def over(self) -> BranchTimeoutError | None:
        """Return the error if the time is up."""
        now = self._now()
        for at, field, seconds in sorted(self._silences()):
            if now >= at and (self._until is None or at <= self._until):
                return self._guard.silent(self._call, field, seconds)
        if self._until is not None and now >= self._until:
            return self._guard.timed_out(self._call)
        return None

    def _silences(self) -> list[tuple[float, str, float]]:
        """Return when each limit on silence is reached, as it looks now."""
        plan = self._guard.plan
        silences = []
        if self._first and self._timed and plan.first_chunk_timeout is not None:
            silences.append((self._asked + plan.first_chunk_timeout, "first_chunk_timeout", plan.first_chunk_timeout))
        if self._pulse is not None and plan.idle_timeout is not None:
            alive = max(self._asked, self._pulse.at)
            silences.append((alive + plan.idle_timeout, "idle_timeout", plan.idle_timeout))
        return silences
