"""`stream` and its kin for runnables that have a `_transform` and an `_atransform`.

langchain-core's own do not close the generators inside them: closing an async stream early leaves its work to the
garbage collector, and its tasks running until then.
"""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from langchain_core.callbacks import AsyncCallbackManagerForChainRun, CallbackManagerForChainRun
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
            run_manager: CallbackManagerForChainRun,
            config: RunnableConfig,
            *,
            single: bool = False,
            **kwargs: Any,
        ) -> Iterator[Any]: ...

        def _atransform(
            self,
            inputs: AsyncIterator[Any],
            run_manager: AsyncCallbackManagerForChainRun,
            config: RunnableConfig,
            *,
            single: bool = False,
            **kwargs: Any,
        ) -> AsyncIterator[Any]: ...

    def transform(self, input: Iterator[Any], config: RunnableConfig | None = None, **kwargs: Any) -> Iterator[Any]:
        """Stream the output of a streamed input."""
        yield from self._transform_stream_with_config(input, self._transform, config, **kwargs)

    async def atransform(
        self, input: AsyncIterator[Any], config: RunnableConfig | None = None, **kwargs: Any
    ) -> AsyncIterator[Any]:
        """Stream the output of a streamed input."""
        stream = self._atransform_stream_with_config(input, self._atransform, config, **kwargs)
        async with aclosing(stream):  # type: ignore[type-var]  # a generator, typed as an iterator
            async for chunk in stream:
                yield chunk

    def stream(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Iterator[Any]:
        """Stream the output."""
        yield from self._transform_stream_with_config(iter([input]), self._transform, config, single=True, **kwargs)

    async def astream(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> AsyncIterator[Any]:
        """Stream the output."""

        async def inputs() -> AsyncIterator[Any]:
            yield input

        stream = self._atransform_stream_with_config(inputs(), self._atransform, config, single=True, **kwargs)
        async with aclosing(stream):  # type: ignore[type-var]  # a generator, typed as an iterator
            async for chunk in stream:
                yield chunk
