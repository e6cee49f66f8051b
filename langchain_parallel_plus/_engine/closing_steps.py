"""LangChain's chains with streams that close what they read, for branches of async runs.

langchain-core's own leave it to the garbage collector: a chain that is given up between two chunks drops the streams of
its steps, and what runs below them goes on until then.
"""

from __future__ import annotations

from contextlib import AsyncExitStack, aclosing
from typing import TYPE_CHECKING, Any

from langchain_core.runnables import RunnableSequence
from langchain_core.runnables.base import RunnableBinding
from langchain_core.runnables.config import patch_config

from langchain_parallel_plus._engine.traced_stream import atraced_stream

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Sequence

    from langchain_core.callbacks import AsyncCallbackManagerForChainRun
    from langchain_core.runnables import Runnable, RunnableConfig

__all__ = ("closing_binding", "closing_sequence")


class _ClosingSequence(RunnableSequence[Any, Any]):
    """A sequence that closes the streams of its steps."""

    async def atransform(
        self, input: AsyncIterator[Any], config: RunnableConfig | None = None, **kwargs: Any
    ) -> AsyncIterator[Any]:
        async def work(
            inputs: AsyncIterator[Any], manager: AsyncCallbackManagerForChainRun, config: RunnableConfig
        ) -> AsyncGenerator[Any, None]:
            async with AsyncExitStack() as opened:
                stream = inputs
                for number, step in enumerate(self.steps, start=1):
                    child = patch_config(config, callbacks=manager.get_child(f"seq:step:{number}"))
                    stream = step.atransform(stream, child, **(kwargs if number == 1 else {}))
                    opened.push_async_callback(_close, stream)
                async for chunk in stream:
                    yield chunk

        async with aclosing(atraced_stream(self.get_name(), input, config, work)) as chunks:
            async for chunk in chunks:
                yield chunk


class _ClosingBinding(RunnableBinding[Any, Any]):  # type: ignore[no-redef]  # the inherited field is called "kwargs"
    """A binding that closes the stream of what is bound."""

    async def atransform(
        self, input: AsyncIterator[Any], config: RunnableConfig | None = None, **options: Any
    ) -> AsyncIterator[Any]:
        stream = self.bound.atransform(input, self._merge_configs(config), **{**self.kwargs, **options})
        try:
            async for chunk in stream:
                yield chunk
        finally:
            await _close(stream)


async def _close(stream: AsyncIterator[Any]) -> None:
    if hasattr(stream, "aclose"):
        await stream.aclose()


def closing_sequence(sequence: RunnableSequence[Any, Any], steps: Sequence[Runnable[Any, Any]]) -> Runnable[Any, Any]:
    """Return `sequence` with other steps, closing what it reads."""
    first, *middle, last = steps
    return _ClosingSequence.model_construct(first=first, middle=middle, last=last, name=sequence.get_name())


def closing_binding(binding: RunnableBinding[Any, Any], bound: Runnable[Any, Any]) -> Runnable[Any, Any]:
    """Return `binding` of another runnable, closing what it reads."""
    fields = {name: getattr(binding, name) for name in type(binding).model_fields}
    return _ClosingBinding.model_construct(**{**fields, "bound": bound})
