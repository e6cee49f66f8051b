"""How far the runs of this moment are: what `progress()` shows."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from uuid import UUID

    from langchain_parallel_plus.observe.event import Event
    from langchain_parallel_plus.observe.limiter_state import LimiterState

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
    """Seconds until the quota of all that waits now is there, by limiter."""


class Tally:
    """Counts events, from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._total = self._done = self._failed = 0
        self._open: dict[_Key, str] = {}
        self._waiting: dict[UUID, tuple[str, _Key]] = {}
        self._limiters: dict[str, LimiterState] = {}
        self._admitted: Counter[str] = Counter()
        self._tokens: Counter[str] = Counter()

    def take_in(self, event: Event) -> None:
        """Count an event."""
        with self._lock:
            if event.kind.startswith("limiter."):
                self._limiter(event)
            else:
                self._branch(event)

    def _branch(self, event: Event) -> None:
        key, told = (event.run_id, event.path), event.detail
        match event.kind:
            case "fan_out.start":
                self._limiters |= {one.name: one for one in told["limiters"]}
                self._open |= {(event.run_id, (*event.path, name)): "queued" for name in told["branches"]}
                self._total += len(told["branches"])
            case "fan_out.end":
                for other in [one for one in self._open if one[0] == event.run_id]:
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
        if event.kind == "limiter.queue":
            self._waiting[told["call"]] = told["limiter"], (event.run_id, event.path)
            return
        self._waiting.pop(told["call"], None)
        if event.kind == "limiter.wait":
            self._admitted[told["limiter"]] += 1
            self._tokens[told["limiter"]] += told.get("tokens", 0)

    def _end(self, key: _Key, *, failed: bool) -> None:
        del self._open[key]
        self._done += 1
        self._failed += failed
        for call in [call for call, (_, branch) in self._waiting.items() if branch == key]:
            del self._waiting[call]

    def now(self) -> Tallied:
        """Return the counts."""
        with self._lock:
            waiting = Counter(limiter for limiter, _ in self._waiting.values())
            held = {branch for _, branch in self._waiting.values()}
            states = Counter(state for key, state in self._open.items() if key not in held)
            return Tallied(
                total=self._total,
                done=self._done,
                failed=self._failed,
                running=states["running"],
                retrying=states["retrying"],
                waiting=dict(waiting),
                left={name: left for name, count in waiting.items() if (left := self._left(name, count))},
            )

    def _left(self, name: str, count: int) -> float:
        """Return how long the quota of `count` calls takes to come in, each as large as those before it."""
        state = self._limiters.get(name)
        if state is None:
            return 0.0
        mean = self._tokens[name] / self._admitted[name] if self._admitted[name] else 0.0
        rates = {kind: rate.per_second for kind, rate in state.rates.items() if rate.per_second > 0}
        times = [count / rate for kind, rate in rates.items() if kind.startswith("requests")]
        times += [count * mean / rate for kind, rate in rates.items() if kind.startswith("tokens")]
        return max(times, default=0.0)
