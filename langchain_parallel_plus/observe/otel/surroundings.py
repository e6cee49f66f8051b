"""What is around the spans of a run that is no fan-out: the chain, or the synthesis, that it is a step of.

`fan_out | RunnableSynthesis(llm)` is one run of LangChain and two runs of ours, one after the other. Nothing is current
in both that they could have for a parent, and no span may be made current around them: the steps of a stream run in the
context of whoever reads it. But LangChain hands its callback handlers down from each run to those below, in threads,
tasks and streams alike. So while OpenTelemetry has an SDK, the outermost run of each call is given two handlers: one
that is handed down and does nothing but be found (`Surroundings`), and one that hears how this run begins and ends, and
nothing of those below (`_Ears`).

The first run of ours that finds its surroundings opens a span for the outermost run, which began with it and ends with
it; where that one is ours itself, or nothing of ours is below it, there is none. A shared parent that never arrives
would do without the handlers, but backends show such a trace without its root, or call it incomplete. There is no
registry, and nothing is kept: a run whose end LangChain does not tell (the `batch` of some of its runnables, if they
fail) has its span ended with the next run, once nothing knows its handlers any more.

There is no span of ours where there is a better parent: one that the user has opened inside the chain, or that another
instrumentation has for the outermost run. What the user's own steps write by themselves is not inside it: it is
current nowhere.

langchain-core leaves handlers that do not work inline out of the start of a completion model's call as soon as there is
one that does (langchain#39633). `_Ears` is one, so that this reaches such models where they are called by themselves,
in tasks, with an SDK; chat models and whatever is called in a chain are not concerned.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any, cast
from weakref import ref

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.tracers.context import register_configure_hook
from opentelemetry.context import get_current
from opentelemetry.trace import Status, StatusCode, get_current_span, set_span_in_context

from langchain_parallel_plus.observe.event import error_type
from langchain_parallel_plus.observe.otel import semconv
from langchain_parallel_plus.observe.otel.foreign import foreign_span
from langchain_parallel_plus.observe.otel.place import in_a_unit
from langchain_parallel_plus.observe.otel.settings import settings, tracing
from langchain_parallel_plus.observe.otel.wording import workflow_name

if TYPE_CHECKING:
    from collections.abc import Iterable
    from contextvars import ContextVar
    from uuid import UUID

    from opentelemetry.context import Context
    from opentelemetry.trace import Span

__all__ = ("Bystander", "Surroundings", "surroundings_of")


class Bystander(BaseCallbackHandler):
    """A handler that looks at nothing of what passes: nobody has to add chunks up for it."""

    ignore_agent = True
    ignore_chain = True
    ignore_chat_model = True
    ignore_custom_event = True
    ignore_llm = True
    ignore_retriever = True
    ignore_retry = True


class Surroundings(Bystander):
    """Found by whatever runs below one run of LangChain."""

    def __init__(self, inside: Context | None = None) -> None:
        self._before = get_current()
        self.inside = inside
        """Of a synthesis: the context with its span."""
        self._lock = threading.Lock()
        self._run_id: UUID | None = None
        self._name = ""
        self._began = 0
        self._span: Span | None = None
        self._over = False

    def begun(self, run_id: UUID, name: str) -> None:
        """Note which run it is."""
        if self._run_id is None:
            self._run_id, self._name, self._began, self._before = run_id, name, time.time_ns(), get_current()

    def ended(self, run_id: UUID, error: BaseException | None = None) -> None:
        """End the span of the run, if that is the one that has ended."""
        if run_id != self._run_id:
            return
        with self._lock:
            self._over = True
            if self._span is None or not self._span.is_recording():
                return
            if isinstance(error, Exception):
                self._span.set_attribute(semconv.ERROR_TYPE, error_type(error))
                self._span.set_status(Status(StatusCode.ERROR))
            self._span.end()

    def place_of(self, run_id: UUID | None, place: Context) -> Context:
        """Return what a span of ours belongs to.

        Args:
            run_id: Its run.
            place: What it would belong to without these surroundings.
        """
        here, before = (get_current_span(one).get_span_context() for one in (place, self._before))
        if here.is_valid and here.span_id != before.span_id:  # somebody has opened one in between
            return place
        if self.inside is not None:
            return self.inside
        if self._run_id is None or run_id == self._run_id:
            return place
        foreign = foreign_span(self._run_id)
        with self._lock:
            if self._span is None and foreign is None and not self._over:
                self._span = self._open()
        span = self._span or foreign
        return place if span is None else set_span_in_context(span, place)

    def _open(self) -> Span | None:
        if settings().mode == "enrich":
            return None
        name = workflow_name(self._name)
        attributes = {
            semconv.OPERATION_NAME: semconv.INVOKE_WORKFLOW,
            semconv.WORKFLOW_NAME: name,
            semconv.OPENINFERENCE_KIND: semconv.OPENINFERENCE_CHAIN,
        }
        return settings().tracer.start_span(
            f"{semconv.INVOKE_WORKFLOW} {name}",
            context=self._before,
            attributes=attributes,
            start_time=self._began,
        )

    def __del__(self) -> None:
        if self._span is not None and self._span.is_recording():
            _LOST.append((self._span, time.time_ns()))


_LOST: deque[tuple[Span, int]] = deque()
"""Spans that nobody will end, and since when. They are not ended by the garbage collector itself: it may come at any
moment, also while the same thread holds a lock of the exporter's."""


def _end_the_lost() -> None:
    while _LOST:
        span, at = _LOST.popleft()
        span.end(at)


class _Ears(Bystander):
    """Hears how the outermost run begins and ends."""

    run_inline = True
    ignore_agent = False  # tools are among them
    ignore_chain = False
    ignore_retriever = False

    def __init__(self, surroundings: Surroundings) -> None:
        self._surroundings = surroundings

    def on_chain_start(self, serialized: Any, *given: Any, run_id: UUID, name: str | None = None, **facts: Any) -> None:
        self._surroundings.begun(run_id, name or (serialized or {}).get("name") or "run")

    def on_chain_end(self, *given: Any, run_id: UUID, **facts: Any) -> None:
        self._surroundings.ended(run_id)

    def on_chain_error(self, error: BaseException, *, run_id: UUID, **facts: Any) -> None:
        self._surroundings.ended(run_id, error)

    on_tool_start = on_retriever_start = on_chain_start
    on_tool_end = on_retriever_end = on_chain_end
    on_tool_error = on_retriever_error = on_chain_error


class _Hook:
    """Looks to langchain-core like a context variable with a handler: a new one for each outermost run.

    What is registered with a class is added only where no handler of that class has been handed down, so that both are
    for outermost runs alone: they are asked for one after the other, the ears first.
    """

    def __init__(self, made: threading.local, *, ears: bool) -> None:
        self._made = made
        self._ears = ears

    def get(self) -> Bystander | None:
        """Return the handler for a run that is about to begin, if anybody would see its span."""
        if _LOST:
            _end_the_lost()
        if not self._ears:
            surroundings: Surroundings | None = self._made.surroundings()
            return surroundings
        if not tracing() or in_a_unit():
            self._made.surroundings = _nothing
            return None
        made = Surroundings()
        self._made.surroundings = ref(made)  # which the ears keep, if they are wanted
        return _Ears(made)


def _nothing() -> None:
    """Return what is found where there are no surroundings."""


def _register() -> None:
    made = threading.local()
    for ears in (True, False):
        hook = cast("ContextVar[BaseCallbackHandler | None]", _Hook(made, ears=ears))
        register_configure_hook(hook, inheritable=not ears, handle_class=Surroundings)


_register()


def surroundings_of(handlers: Iterable[object]) -> Surroundings | None:
    """Return what is around a run with these callback handlers."""
    return next((one for one in handlers if isinstance(one, Surroundings)), None)
