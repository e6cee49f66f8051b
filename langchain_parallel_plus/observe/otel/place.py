"""Where a span belongs: the innermost of ours that the running code is in, and what the user has opened inside it."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING

from opentelemetry.context import attach, create_key, get_current, get_value, set_value
from opentelemetry.trace import set_span_in_context

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Span

__all__ = ("belongs_to", "go_into", "here", "in_a_unit", "inside")

_UNIT = create_key("lcpp-unit")
_innermost: ContextVar[Context | None] = ContextVar("lcpp_otel_context", default=None)


def inside(context: Context, span: Span | None, unit: int, attempt: int = 0) -> Context:
    """Return `context` with `span` in it, if there is one, marked as the inside of a branch or of an attempt."""
    if span is not None:
        context = set_span_in_context(span, context)
    return set_value(_UNIT, (unit, attempt), context)


def go_into(context: Context) -> None:
    """Make `context` current here, where nothing else runs, and where the branch's end is the end of this as well."""
    _innermost.set(context)
    attach(context)


def here() -> Context:
    """Return the context that a new span belongs to.

    That is OpenTelemetry's current one, with whatever the user has opened, unless it leads out of the branch: another
    instrumentation has put the span of a run further out there.
    """
    current, ours = get_current(), _innermost.get()
    if ours is None or get_value(_UNIT, current) == get_value(_UNIT, ours):
        return current
    return ours


def in_a_unit() -> bool:
    """Return whether the running code is in a branch or an attempt whose spans are written."""
    return _innermost.get() is not None


def belongs_to(context: Context, unit: int) -> bool:
    """Return whether `context` is inside a branch's run, or an attempt of it."""
    mark = get_value(_UNIT, context)
    return isinstance(mark, tuple) and mark[0] == unit
