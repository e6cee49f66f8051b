"""The numbers of a fan-out's span: those of the report, by the same formulas, from the same events."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from langchain_parallel_plus.observe.collector import Collector
from langchain_parallel_plus.observe.otel import semconv
from langchain_parallel_plus.observe.together import limits_of

if TYPE_CHECKING:
    from collections.abc import Iterable
    from uuid import UUID

    from langchain_parallel_plus.observe.event import Event

__all__ = ("LimitsInUse", "Record")

_OF_TRACES = frozenset({"policy.start", "policy.end", "call.refused"})
"""Events that only followers hear: no report knows of them."""


class LimitsInUse:
    """Which runs use which limits now: of one that has shared a limit, nobody can say how well it has used it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users: dict[str, set[UUID]] = {}
        self._shared: set[UUID] = set()

    def began(self, run_id: UUID, limits: Iterable[str]) -> None:
        """Note that a run uses limits."""
        with self._lock:
            for name in limits:
                users = self._users.setdefault(name, set())
                if users:
                    self._shared.add(run_id)
                if len(users) == 1:  # where there are more, all of them are known to share
                    self._shared |= users
                users.add(run_id)

    def ended(self, run_id: UUID, limits: Iterable[str]) -> bool:
        """Note that a run has ended; return whether another one has used a limit of its meanwhile."""
        with self._lock:
            for name in limits:
                users = self._users.get(name, set())
                users.discard(run_id)
                if not users:
                    self._users.pop(name, None)
            shared = run_id in self._shared
            self._shared.discard(run_id)
            return shared


LIMITS = LimitsInUse()


class Record:
    """What has happened in one fan-out, nested ones included."""

    def __init__(self, start: Event) -> None:
        self._run_id = start.run_id
        self._outermost = start.detail.get("parent_run_id") is None
        self._limits = limits_of(start.detail.get("limiters", ()), start.detail.get("max_concurrency"))
        self._collector = Collector(lambda: 0.0)  # read at its end: time stands at its last event
        self.take_in(start)
        if self._outermost:
            LIMITS.began(self._run_id, self._limits)

    def take_in(self, event: Event) -> None:
        """Record an event."""
        if event.kind not in _OF_TRACES:
            self._collector.take_in(event)

    def attributes(self) -> dict[str, Any]:
        """Return what its span says at its end; call it once."""
        shared = LIMITS.ended(self._run_id, self._limits) if self._outermost else True
        report = replace(self._collector.fan_outs(None)[0], shared=shared)
        measures = report.measures
        told = {
            semconv.SPEEDUP: measures.speedup,
            semconv.LIMIT_EFFICIENCY: measures.limit_efficiency,
            semconv.CRITICAL_BRANCH: measures.critical and measures.critical[-1],
        }
        return {name: value for name, value in told.items() if value is not None}
