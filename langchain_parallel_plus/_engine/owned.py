"""Async generators whose reader closes them, and those that are handed out: both end quietly with their loop.

A loop that shuts down closes all the generators that were read in it, all at once (`shutdown_asyncgens`). Where one
closes another in its turn, and that takes a wait, the two meet: "aclose(): asynchronous generator is already running".
langchain-core's generators never close each other, and are left to the garbage collector. Ours do, so:

- What a generator of ours reads and closes is its own (`owning`): the loop does not know of it.
- What is handed out (`HandedOut`) is known to the loop in place of the generators inside. It may be closed by several
  at once, each of which waits for the end. While the loop shuts down, only the loop itself does: others, such as
  `langchain_core.utils.aiter.tee_peer`, are generators that it closes at the same time as well.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager, suppress
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from contextlib import AbstractAsyncContextManager

__all__ = ("HandedOut", "Owned", "owned_context", "owning")

P = ParamSpec("P")
T = TypeVar("T")


class Owned(AsyncGenerator[Any, None]):
    """A generator that its reader closes, whatever happens; nobody else does.

    Args:
        chunks: The generator, which nobody has read from; another iterator is read as it is.
    """

    def __init__(self, chunks: AsyncIterator[Any]) -> None:
        self._chunks: Any = chunks
        self._begun = False

    def __anext__(self) -> Any:
        if self._begun:
            return self._chunks.__anext__()
        self._begun = True
        return _unknown_to_the_loop(self._chunks.__anext__)

    def asend(self, value: Any) -> Any:
        """Go on with a value."""
        self._begun = True
        return _unknown_to_the_loop(self._chunks.asend, value)

    def athrow(self, *error: Any) -> Any:
        """Go on with an error."""
        self._begun = True
        return _unknown_to_the_loop(self._chunks.athrow, *error)

    def aclose(self) -> Any:
        """End it."""
        close = getattr(self._chunks, "aclose", None)
        return _nothing() if close is None else _unknown_to_the_loop(close)


def owning(chunks: AsyncIterator[Any]) -> AbstractAsyncContextManager[Owned]:
    """Read `chunks` inside of this; they are closed at its end."""
    return aclosing(Owned(chunks))


def owned_context(function: Callable[P, AsyncIterator[T]]) -> Callable[P, AbstractAsyncContextManager[T]]:
    """Make a context manager of a generator function, as `asynccontextmanager` does, for use inside generators."""

    @asynccontextmanager
    @wraps(function)
    def owned(*args: P.args, **kwargs: P.kwargs) -> AsyncIterator[T]:
        return Owned(function(*args, **kwargs))

    return owned


class HandedOut(Owned):
    """A generator for others to read, who may close it, at once or again, or let it go.

    Args:
        chunks: The generator, which nobody has read from.
    """

    def __init__(self, chunks: AsyncGenerator[Any, None]) -> None:
        super().__init__(chunks)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._known = False
        """Whether the loop knows of it: not where a generator of ours owns it."""
        self._closed: asyncio.Future[None] | None = None

    def __anext__(self) -> Any:
        self._begin()
        return super().__anext__()

    def asend(self, value: Any) -> Any:
        """Go on with a value."""
        self._begin()
        return super().asend(value)

    def athrow(self, *error: Any) -> Any:
        """Go on with an error."""
        self._begin()
        return super().athrow(*error)

    async def aclose(self) -> None:
        """End it, and everything below it."""
        if not self._open:
            await super().aclose()
            return
        loop = asyncio.get_running_loop()
        task = asyncio.current_task(loop)
        if self._known and _shuts_down(loop) and task is not None:
            own_task = getattr(task.get_coro(), "cr_frame", None) is sys._getframe()
            if not own_task:
                return
        if self._closed is not None:
            await asyncio.wait([self._closed])
            return
        closed = self._closed = loop.create_future()
        try:
            await super().aclose()
        finally:
            closed.set_result(None)
            if self._open:  # somebody reads from it just now: it has refused
                self._closed = None

    @property
    def _open(self) -> bool:
        return self._loop is not None and self._chunks.ag_frame is not None

    def _begin(self) -> None:
        if self._begun:
            return
        with suppress(RuntimeError):  # asked for before its loop runs, which then would not be told either
            self._loop = asyncio.get_running_loop()
            self._tell_the_loop()

    def _tell_the_loop(self) -> None:
        told = sys.get_asyncgen_hooks().firstiter
        if told is not None:
            told(self)
            self._known = True

    def __del__(self) -> None:
        if self._loop is not None and self._open and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._let_go)

    def _let_go(self) -> None:
        """Close what nobody reads any more; a task that is cancelled before it could leaves that to the loop."""
        if self._loop is None or not self._open:
            return
        if not _shuts_down(self._loop):  # else it does not want to know of more
            _LET_GO.add(self)
            self._tell_the_loop()
        self._loop.create_task(self.aclose()).add_done_callback(self._forget)

    def _forget(self, task: asyncio.Task[None]) -> None:
        if self._closed is not None:
            _LET_GO.discard(self)


_LET_GO: set[HandedOut] = set()
"""Kept until they are closed: the loop holds them by weak references."""


def _shuts_down(loop: asyncio.AbstractEventLoop) -> bool:
    """Return whether the loop closes all generators now, or has; where it does not say, it is taken for running."""
    return getattr(loop, "_asyncgens_shutdown_called", False)


async def _nothing() -> None:
    """Close what cannot be closed."""


def _unknown_to_the_loop(step: Callable[..., Awaitable[Any]], *arguments: Any) -> Awaitable[Any]:
    """Take a generator's step, without telling the loop of the generator: the hooks are looked at in its first."""
    hooks = sys.get_asyncgen_hooks()
    sys.set_asyncgen_hooks(None, None)
    try:
        return step(*arguments)
    finally:
        sys.set_asyncgen_hooks(*hooks)
