"""Spans of other instrumentations for the same runs: found, and made parents and children of ours.

OpenInference's and OpenTelemetry's own instrumentation of LangChain each keep spans by run, and find the parent of a
new one by the run above. Both would put what a branch calls beside the branch: they do not know of ours. So where we
open a span inside a run of theirs, their entry for that run is made to answer with the span that is current where they
ask. That uses what is private to them (OpenInference 0.1.80, genai-langchain 1.3b0). Where it is not there any more,
nothing fails: OpenInference's spans then stand beside ours, OpenTelemetry's own in a trace beside.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from opentelemetry import trace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from uuid import UUID

    from opentelemetry.context import Context
    from opentelemetry.trace import Span, SpanContext

__all__ = ("adopt", "exports_to_otel", "foreign_span")

OPENINFERENCE = "openinference.instrumentation.langchain"
GENAI = "opentelemetry.instrumentation.genai.langchain"


def foreign_span(run_id: UUID) -> Span | None:
    """Return the span that another instrumentation has opened for a run; `None` where there is none."""
    span = _openinference_span(run_id) or getattr(_genai_invocation(run_id), "span", None)
    return span if isinstance(span, trace.Span) else None


def adopt(run_id: UUID, here: Callable[[], Context]) -> None:
    """Let other instrumentations put what runs below `run_id` into the span that is current there.

    Args:
        run_id: A run of ours.
        here: Returns the context with that span, in the context of whoever asks.
    """
    _adopt_in_openinference(run_id, here)
    _adopt_in_genai(run_id, here)


def exports_to_otel(handlers: Iterable[object]) -> bool:
    """Return whether a handler sends its runs to OpenTelemetry by itself, as LangSmith's client may."""
    return any(getattr(getattr(handler, "client", None), "otel_exporter", None) is not None for handler in handlers)


def _instrumentor(module: str) -> Any:
    """Return the instrumentor of `module` if that is loaded and switched on; each is one object for the process."""
    loaded = sys.modules.get(module)
    kind = getattr(loaded, "LangChainInstrumentor", None)
    one = None if kind is None else kind()
    return one if getattr(one, "is_instrumented_by_opentelemetry", False) else None


def _openinference_span(run_id: UUID) -> Any:
    one = _instrumentor(OPENINFERENCE)
    return None if one is None else one.get_span(run_id)


def _genai_states(run_id: UUID) -> Any:
    handler = getattr(_instrumentor(GENAI), "_callback_handler", None)
    states = getattr(getattr(handler, "_invocation_manager", None), "_invocations", None)
    return states.get(run_id) if isinstance(states, dict) else None


def _genai_invocation(run_id: UUID) -> Any:
    return getattr(_genai_states(run_id), "invocation", None)


def _adopt_in_openinference(run_id: UUID, here: Callable[[], Context]) -> None:
    spans: Any = getattr(getattr(_instrumentor(OPENINFERENCE), "_tracer", None), "_spans_by_run", None)
    span = None if spans is None else spans.get(run_id)
    if span is not None:
        spans[run_id] = _rerouted_span(span, here)


def _adopt_in_genai(run_id: UUID, here: Callable[[], Context]) -> None:
    state = _genai_states(run_id)
    if state is None:
        return
    invocation = state.invocation
    state.invocation = _Passage(here) if invocation is None else _rerouted_invocation(invocation, here)


class _Passage:
    """In place of the invocation of a run that has no span there."""

    def __init__(self, here: Callable[[], Context]) -> None:
        self._here = here

    @property
    def context(self) -> Context:
        """What a child's span is opened in."""
        return self._here()

    def stop(self) -> None:
        """End nothing."""

    def fail(self, error: BaseException) -> None:
        """End nothing."""


def _proxy() -> Any:
    """Return the class whose objects are what they wrap to everybody; both instrumentations have loaded it."""
    return sys.modules["wrapt"].ObjectProxy


def _rerouted_span(span: Span, here: Callable[[], Context]) -> Any:
    class Rerouted(_proxy()):  # type: ignore[misc]
        def get_span_context(self) -> SpanContext:
            inner: SpanContext = trace.get_current_span(here()).get_span_context()
            return inner

    return Rerouted(span)


def _rerouted_invocation(invocation: Any, here: Callable[[], Context]) -> Any:
    class Rerouted(_proxy()):  # type: ignore[misc]
        @property
        def context(self) -> Context:
            return here()

    return Rerouted(invocation)
