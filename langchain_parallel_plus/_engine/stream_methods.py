"""`stream` and its kin for runnables that have a `_transform` and an `_atransform`.

langchain-core's own do not close the generators inside them: closing an async stream early leaves its work to the
garbage collector, and its tasks running until then.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from langchain_parallel_plus._engine.owned import HandedOut, owning
from langchain_parallel_plus._engine.traced_stream import atraced_stream, traced_stream
from langchain_parallel_plus._engine.unheard import AsyncUnheard, Unheard

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
    from uuid import UUID

    from langchain_core.callbacks import BaseCallbackManager
    from langchain_core.runnables import Runnable, RunnableConfig

    Base = Runnable[Any, Any]
else:
    Base = object

__all__ = ("ClosingStreams",)


class ClosingStreams(Base):
    """Streams that end, with everything below them, when they are closed.

    `single` tells `_transform` that the input is one value, which it can read without ever waiting.
    """

    if TYPE_CHECKING:

        def _transform(
            self,
            inputs: Iterator[Any],
            run_manager: Any,
            config: RunnableConfig,
            *,
            single: bool = False,
            **kwargs: Any,
        ) -> Generator[Any, None, None]: ...

        def _atransform(
            self,
            inputs: AsyncIterator[Any],
            run_manager: Any,
            config: RunnableConfig,
            *,
            single: bool = False,
            **kwargs: Any,
        ) -> AsyncGenerator[Any, None]: ...

    def _unheard(self, config: RunnableConfig | None) -> tuple[BaseCallbackManager, UUID] | None:
        """Return the callbacks and the run above where this needs no run of its own."""
        return None

    def transform(self, input: Iterator[Any], config: RunnableConfig | None = None, **kwargs: Any) -> Iterator[Any]:
        """Stream the output of a streamed input."""
        above = self._unheard(config)
        if above is not None and config is not None:
            yield from self._transform(input, Unheard(*above), config, **kwargs)
            return
        yield from traced_stream(self.get_name(), input, config, partial(self._transform, **kwargs))

    def atransform(
        self, input: AsyncIterator[Any], config: RunnableConfig | None = None, **kwargs: Any
    ) -> AsyncIterator[Any]:
        """Stream the output of a streamed input."""
        return HandedOut(self._atransformed(input, config, **kwargs))

    async def _atransformed(
        self, input: AsyncIterator[Any], config: RunnableConfig | None, **kwargs: Any
    ) -> AsyncGenerator[Any, None]:
        above = self._unheard(config)  # in the context of whoever reads
        if above is not None and config is not None:
            chunks = self._atransform(input, AsyncUnheard(*above), config, **kwargs)
        else:
            chunks = atraced_stream(self.get_name(), input, config, partial(self._atransform, **kwargs))
        async with owning(chunks) as stream:
            async for chunk in stream:
                yield chunk

    def stream(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Iterator[Any]:
        """Stream the output."""
        work = partial(self._transform, single=True, **kwargs)
        yield from traced_stream(self.get_name(), iter([input]), config, work)

    def astream(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> AsyncIterator[Any]:
        """Stream the output."""

        async def inputs() -> AsyncIterator[Any]:
            yield input

        work = partial(self._atransform, single=True, **kwargs)
        return HandedOut(atraced_stream(self.get_name(), inputs(), config, work))
