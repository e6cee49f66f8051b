"""What is remembered of a run while it lasts: its spans, and the numbers that they end with."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from uuid import UUID

    from opentelemetry.context import Context
    from opentelemetry.trace import Span, SpanContext

    from langchain_parallel_plus.observe.otel.judging import Record

__all__ = ("AttemptUnit", "BranchUnit", "FanOutUnit", "Known", "Opened")


@dataclass(slots=True, eq=False)
class Opened:
    """A span of ours, one of another instrumentation that gets our attributes, or none."""

    context: Context
    """What is inside it."""
    span: Span | None = None
    own: bool = False

    def end(self) -> None:
        """End it, if it is ours."""
        if self.own and self.span is not None:
            self.span.end()


@dataclass(slots=True, eq=False)
class FanOutUnit:
    """One call of a fan-out."""

    name: str
    opened: Opened
    record: Record
    """What its numbers come from."""
    branches: dict[tuple[str, ...], int] = field(default_factory=dict)
    """The numbers of its branches, by path."""
    required: frozenset[str] = frozenset()
    items: Mapping[str, int] = field(default_factory=dict)
    """The numbers of its branches, by key, if it has one for each item of an input."""
    above: UUID | None = None
    """The run of the fan-out around it."""


@dataclass(slots=True, eq=False)
class AttemptUnit:
    """One attempt."""

    opened: Opened
    role: str = "primary"
    waited: float = 0.0


@dataclass(slots=True, eq=False)
class BranchUnit:
    """One branch of one call, or one run of a policy elsewhere."""

    number: int
    key: str
    fan_out: FanOutUnit | None
    parent: Context
    began: int
    """Wall clock, in nanoseconds."""
    opened: Opened | None = None
    """`None` until its run has begun."""
    several: bool = False
    """Whether its policy allows for more than one attempt."""
    attempts: dict[int, AttemptUnit] = field(default_factory=dict)
    """Those under way."""
    failed: tuple[int, SpanContext] | None = None
    """The target and the span of the attempt that failed last."""
    primary: SpanContext | None = None
    """The span of the last attempt that was no hedge."""
    primary_at: float = 0.0
    """When that began, on the clock of its events."""
    delay: float | None = None
    """Seconds of the last back-off."""
    waited: float = 0.0
    wasted: float = 0.0
    queues: dict[UUID, int] = field(default_factory=dict)
    """How many calls waited where one of its calls does, by that call."""

    @property
    def item(self) -> int | None:
        """Its place among the items; `None` where its name has been given by somebody."""
        return None if self.fan_out is None else self.fan_out.items.get(self.key)

    @property
    def context(self) -> Context:
        """What is inside it."""
        return self.parent if self.opened is None else self.opened.context

    def context_of(self, attempt: int | None) -> Context:
        """Return what is inside one of its attempts."""
        one = None if attempt is None else self.attempts.get(attempt)
        return self.context if one is None else one.opened.context


@dataclass(slots=True, eq=False)
class Known:
    """All that is remembered of one outermost run, until it ends."""

    fan_outs: dict[UUID, FanOutUnit] = field(default_factory=dict)
    branches: dict[int, BranchUnit] = field(default_factory=dict)
    syntheses: dict[UUID, Opened] = field(default_factory=dict)
