"""The span of a synthesis, current while what it calls works.

A branch and an attempt have a context of their own, which they go into once. A synthesis runs in that of its caller,
and behind a stream in that of whoever reads: there its span is current while it makes the next chunk, and no longer. So
what a client library's instrumentation writes of a call stands inside the synthesis, and nothing else does.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from opentelemetry.context import attach, detach, get_current
from opentelemetry.trace import get_current_span, set_span_in_context

from langchain_parallel_plus.observe.otel.place import here
from langchain_parallel_plus.observe.otel.surroundings import surroundings_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator

    from opentelemetry.trace import Span

__all__ = ("amade_inside", "inside_synthesis", "made_inside")

C = TypeVar("C")

_END: Any = object()


@contextmanager
def inside_synthesis(handlers: Iterable[object]) -> Iterator[None]:
    """Make the span of a synthesis current, if it has one; not around a `yield` to a stream's reader.

    Args:
        handlers: The callback handlers that it hands down, in which `telling_synthesis` has put where its span is.
    """
    span = _span_of(handlers)
    if span is None or span is get_current_span():
        yield
        return
    made = set_span_in_context(span, here())
    token = attach(made)
    try:
        yield
    finally:
        if get_current() is made:  # else it is closed elsewhere, by the garbage collector
            detach(token)


def made_inside(handlers: Iterable[object], chunks: Iterator[C]) -> Iterator[C]:
    """Yield `chunks`, each made inside the synthesis."""
    if _span_of(handlers) is None:
        yield from chunks
        return
    try:
        while True:
            with inside_synthesis(handlers):
                chunk = next(chunks, _END)
            if chunk is _END:
                return
            yield chunk
    finally:
        if isinstance(chunks, Generator):
            chunks.close()


async def amade_inside(handlers: Iterable[object], chunks: AsyncIterator[C]) -> AsyncGenerator[C, None]:
    """Yield `chunks` as `made_inside` does."""
    try:
        while True:
            with inside_synthesis(handlers):
                chunk = await anext(chunks, _END)
            if chunk is _END:
                return
            yield chunk
    finally:
        if isinstance(chunks, AsyncGenerator):
            await chunks.aclose()


def _span_of(handlers: Iterable[object]) -> Span | None:
    surroundings = surroundings_of(handlers)
    within = None if surroundings is None else surroundings.inside
    return None if within is None else get_current_span(within)
