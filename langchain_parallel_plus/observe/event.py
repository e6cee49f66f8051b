"""The one event type: every fact that the engine, the policies and the limiters know of, as frozen data."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from uuid import UUID

    from langchain_parallel_plus.outcome import BranchOutcome, ErrorKind

__all__ = ("Event", "EventKind", "emit", "listening", "subscribed")

EventKind = Literal[
    "fan_out.start",
    "fan_out.end",
    "branch.start",
    "branch.end",
    "attempt.start",
    "attempt.end",
    "backoff",
    "limiter.wait",
    "model.usage",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One fact about one run."""

    kind: EventKind
    at: float
    """Seconds on the monotonic clock of the run (the event loop's clock in async runs)."""
    run_id: UUID
    """The fan-out's run, or that of a `RunnableWithPolicy` outside any fan-out."""
    path: tuple[str, ...] = ()
    """Names from the outermost fan-out's branch down to the one concerned; empty for the outermost fan-out itself."""
    seconds: float | None = None
    """How long it took or waited."""
    outcome: BranchOutcome | None = None
    error: ErrorKind | None = None
    attempt: int | None = None
    """Number of the call within its branch, from 1; fallbacks count on."""
    detail: Mapping[str, Any] = field(default_factory=dict)
    """What only this kind has: the limiter and dimension of a wait, tokens, the role of an attempt."""


_sinks: ContextVar[tuple[Callable[[Event], None], ...]] = ContextVar("lcpp_event_sinks", default=())


def listening() -> bool:
    """Return whether anybody listens, so that nobody builds an event for nothing."""
    return bool(_sinks.get())


def emit(event: Event) -> None:
    """Hand `event` to everybody who listens in this context."""
    for sink in _sinks.get():
        sink(event)


@contextmanager
def subscribed(sink: Callable[[Event], None]) -> Iterator[None]:
    """Call `sink` with every event of the runs started inside, from whichever thread or task they happen in.

    Example:
        ```python
        with subscribed(lambda event: log.append(event.kind)):
            fan_out.invoke(document)
        ```
    """
    token = _sinks.set((*_sinks.get(), sink))
    try:
        yield
    finally:
        _sinks.reset(token)
