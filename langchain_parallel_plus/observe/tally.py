"""How far the runs of this moment are: what `progress()` shows."""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from langchain_parallel_plus.observe.watched import watched

if TYPE_CHECKING:
    from collections.abc import Mapping
    from uuid import UUID

    from langchain_parallel_plus.observe.event import Event

__all__ = ("Tallied", "Tally")

_Key = tuple["UUID", tuple[str, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tallied:
    """Branches at one moment, those of nested fan-outs too."""

    total: int = 0
    done: int = 0
    failed: int = 0
    """Of `done`."""
    running: int = 0
    """Begun, and neither waiting nor retrying."""
    retrying: int = 0
    waiting: Mapping[str, int] = field(default_factory=dict)
    """Model calls that wait, by limiter."""
    left: Mapping[str, float] = field(default_factory=dict)
    """Seconds until all that waits now will have been let through, by limiter, where that can be said."""


class Tally:
    """Counts events, from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._total = self._done = self._failed = 0
        self._open: dict[_Key, str] = {}
        self._open_in: defaultdict[UUID, set[_Key]] = defaultdict(set)
        """Of `_open`, by run of a fan-out."""
        self._waiting: dict[UUID, tuple[str, _Key]] = {}
        self._held_up: defaultdict[_Key, set[UUID]] = defaultdict(set)
        """The calls of `_waiting`, by branch."""
        self._slots: dict[str, int] = {}
        self._calls: dict[UUID, float] = {}
        self._over = 0
        self._worked = 0.0

    def take_in(self, event: Event) -> None:
        """Count an event."""
        with self._lock:
            if event.kind.startswith("limiter."):
                self._limiter(event)
            elif event.kind.startswith("model."):
                self._model(event)
            else:
                self._branch(event)

    def _branch(self, event: Event) -> None:
        key, told = (event.run_id, event.path), event.detail
        match event.kind:
            case "fan_out.start":
                self._slots |= {one.name: one.concurrency for one in told["limiters"] if one.concurrency is not None}
                begun = {(event.run_id, (*event.path, name)): "queued" for name in told["branches"]}
                self._open |= begun
                self._open_in[event.run_id].update(begun)
                self._total += len(told["branches"])
            case "fan_out.end":
                for other in self._open_in.pop(event.run_id, ()):
                    self._end(other, failed=False)
            case "branch.start" if key in self._open:
                self._open[key] = "running"
            case "branch.end" if key in self._open:
                self._end(key, failed=event.outcome in ("failed", "timed_out"))
            case "attempt.start" if key in self._open:
                self._open[key] = "retrying" if told["role"] == "retry" else "running"
            case "attempt.end" if key in self._open and event.outcome in ("failed", "timed_out"):
                self._open[key] = "retrying"

    def _limiter(self, event: Event) -> None:
        told = event.detail
        self._passed(told["call"])
        if event.kind == "limiter.queue":
            branch = event.run_id, event.path
            self._waiting[told["call"]] = told["limiter"], branch
            self._held_up[branch].add(told["call"])

    def _passed(self, call: UUID) -> None:
        if (waited := self._waiting.pop(call, None)) is None:
            return
        beside = self._held_up[waited[1]]
        beside.discard(call)
        if not beside:
            del self._held_up[waited[1]]

    def _model(self, event: Event) -> None:
        call = event.detail["call"]
        if event.kind == "model.start":
            self._calls[call] = event.at
        elif (began := self._calls.pop(call, None)) is not None:
            self._over += 1
            self._worked += event.at - began

    def _end(self, key: _Key, *, failed: bool) -> None:
        del self._open[key]
        if (beside := self._open_in.get(key[0])) is not None:
            beside.discard(key)
        self._done += 1
        self._failed += failed
        for call in self._held_up.pop(key, ()):
            del self._waiting[call]

    def now(self) -> Tallied:
        """Return the counts."""
        with self._lock:
            waiting = Counter(limiter for limiter, _ in self._waiting.values())
            states = Counter(state for key, state in self._open.items() if key not in self._held_up)
            counted = Tallied(
                total=self._total,
                done=self._done,
                failed=self._failed,
                running=states["running"],
                retrying=states["retrying"],
                waiting=dict(waiting),
            )
        # Without the lock: a limiter is asked, which has one of its own.
        left = {name: self._left(name, count) for name, count in waiting.items()}
        return replace(counted, left={name: seconds for name, seconds in left.items() if seconds})

    def _left(self, name: str, count: int) -> float | None:
        """Return how long what waits takes to be let through: by its quota, and by calls as long as those before."""
        named = [limiter for limiter in watched() if limiter.name == name]
        asked = [one for one in named if one.statistics().queued] or named  # without a name, that tells them apart
        times = [self._for_slots(name, count), *(one.account.time_left() for one in asked)]
        return max((one for one in times if one is not None), default=None)

    def _for_slots(self, name: str, count: int) -> float | None:
        slots = self._slots.get(name)
        return count * self._worked / self._over / slots if slots and self._over else None
