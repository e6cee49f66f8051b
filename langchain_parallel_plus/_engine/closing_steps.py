"""LangChain's chains with streams that close what they read, for branches.

langchain-core's own leave it to the garbage collector: a chain that is given up between two chunks drops the streams of
its steps, and what runs below them goes on until then. Its sync ones even read their whole input when they are closed.
"""

from __future__ import annotations

from contextlib import AsyncExitStack, ExitStack, aclosing, closing
from typing import TYPE_CHECKING, Any

from langchain_core.runnables import RunnableSequence
from langchain_core.runnables.base import RunnableBinding
from langchain_core.runnables.config import patch_config

from langchain_parallel_plus._engine.traced_stream import atraced_stream, traced_stream

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator, Sequence

    from langchain_core.callbacks import AsyncCallbackManagerForChainRun, CallbackManagerForChainRun
    from langchain_core.runnables import Runnable, RunnableConfig

__all__ = ("closing_binding", "closing_sequence")


class _ClosingSequence(RunnableSequence[Any, Any]):
    """A sequence that closes the streams of its steps."""

    def transform(
        self, input: Iterator[Any], config: RunnableConfig | None = None, **kwargs: Any
    ) -> Generator[Any, None, None]:
        def work(
            inputs: Iterator[Any], manager: CallbackManagerForChainRun, config: RunnableConfig
        ) -> Generator[Any, None, None]:
            opened: list[Iterator[Any]] = []
            stream = inputs
            for number, step in enumerate(self.steps, start=1):
                child = patch_config(config, callbacks=manager.get_child(f"seq:step:{number}"))
                stream = step.transform(stream, child, **(kwargs if number == 1 else {}))
                opened.append(stream)
            with ExitStack() as closers:
                for one in reversed(
                    opened
                ):  # so that the first step closes first: the others find that input has ended
                    closers.callback(_close, one)
                yield from stream

        with closing(traced_stream(self.get_name(), input, config, work)) as chunks:
            yield from chunks

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
                    opened.push_async_callback(_aclose, stream)
                async for chunk in stream:
                    yield chunk

        async with aclosing(atraced_stream(self.get_name(), input, config, work)) as chunks:
            async for chunk in chunks:
                yield chunk


class _ClosingBinding(RunnableBinding[Any, Any]):  # type: ignore[no-redef]  # the inherited field is called "kwargs"
    """A binding that closes the stream of what is bound; its sync form does already."""

    async def atransform(
        self, input: AsyncIterator[Any], config: RunnableConfig | None = None, **options: Any
    ) -> AsyncIterator[Any]:
        stream = self.bound.atransform(input, self._merge_configs(config), **{**self.kwargs, **options})
        try:
            async for chunk in stream:
                yield chunk
        finally:
            await _aclose(stream)


def _close(stream: Iterator[Any]) -> None:
    if hasattr(stream, "close"):
        stream.close()


async def _aclose(stream: AsyncIterator[Any]) -> None:
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
