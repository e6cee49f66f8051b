"""How a fan-out's stream tells its reader which branches have ended: a chunk says what came, not that no more will.

Upstream's streams have no such mark, so that one is sent only where the reader asks for it, in the context in which it
reads. Only a fan-out that it reads directly hears it: steps between the two run in contexts of their own.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from langchain_parallel_plus.outcome import FanOutDict

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator

    from langchain_parallel_plus._engine.capacity import Capacity

__all__ = ("EndMarks", "asked_marks")

_EXHAUSTED: Any = object()


class EndMarks:
    """What a reader asks of the fan-out whose stream it reads, and what that one has answered.

    Args:
        in_band: Whether a chunk without outputs is to follow the last one of each branch that succeeds, with the
            branch's name in `ended`.
    """

    __slots__ = ("branches", "capacity", "in_band")

    def __init__(self, *, in_band: bool) -> None:
        self.in_band = in_band
        self.branches: tuple[str, ...] = ()
        """All branches in declared order, once one has succeeded."""
        self.capacity: Capacity | None = None
        """The cap under which the branches run."""

    def mark(self, branches: tuple[str, ...], index: int, capacity: Capacity | None) -> tuple[FanOutDict, ...]:
        """Take note of a branch that has succeeded; return what the stream says of it."""
        self.branches = branches
        self.capacity = capacity
        return (FanOutDict.end_of(branches[index]),) if self.in_band else ()

    def read(self, inputs: Iterator[Any]) -> Generator[Any, None, None]:
        """Yield `inputs`, asking for marks."""
        while True:
            token = asked_marks.set(self)
            try:
                chunk = next(inputs, _EXHAUSTED)
            finally:
                asked_marks.reset(token)
            if chunk is _EXHAUSTED:
                return
            yield chunk

    async def aread(self, inputs: AsyncIterator[Any]) -> AsyncGenerator[Any, None]:
        """Yield `inputs`, asking for marks."""
        while True:
            token = asked_marks.set(self)
            try:
                chunk = await anext(inputs, _EXHAUSTED)
            finally:
                asked_marks.reset(token)
            if chunk is _EXHAUSTED:
                return
            yield chunk


asked_marks: ContextVar[EndMarks | None] = ContextVar("lcpp_asked_marks", default=None)
"""The reader that waits for the next chunk, if it asks for marks."""
