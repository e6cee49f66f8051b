"""A stream as a run of its own: `traced` for streams.

`Runnable._transform_stream_with_config` does the same, and more than is good here. It reads the input to its end for
the trace, also when nobody needs the rest, and fails with "cannot re-enter the tee iterator" while a thread that was
left behind still reads. Its async form makes a task for every chunk.
"""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

from langchain_core.runnables.config import (
    ensure_config,
    get_async_callback_manager_for_config,
    get_callback_manager_for_config,
    patch_config,
)

from langchain_parallel_plus._engine.capacity import checked_max_concurrency
from langchain_parallel_plus._engine.context import Current
from langchain_parallel_plus._engine.owned import owning
from langchain_parallel_plus.observe.otel import Bystander

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterable, Iterator

    from langchain_core.callbacks import (
        AsyncCallbackManagerForChainRun,
        BaseCallbackHandler,
        CallbackManagerForChainRun,
    )
    from langchain_core.runnables import RunnableConfig

    Work = Callable[[Iterator[Any], CallbackManagerForChainRun, RunnableConfig], Generator[Any, None, None]]
    AsyncWork = Callable[
        [AsyncIterator[Any], AsyncCallbackManagerForChainRun, RunnableConfig], AsyncGenerator[Any, None]
    ]

__all__ = ("atraced_stream", "traced_stream")

_NOTHING: Any = object()


class _Sum:
    """Adds up what passes, for the trace; what cannot be added replaces what was there."""

    __slots__ = ("_addable", "total")

    def __init__(self) -> None:
        self.total: Any = None
        self._addable = True

    def add(self, chunk: Any) -> None:
        if self.total is not None and self._addable:
            try:
                self.total = self.total + chunk
            except TypeError:
                self._addable = False
            else:
                return
        self.total = chunk


class _Seen:
    """The input as it is read; its first item has been read already, so that what makes it starts before this run."""

    def __init__(self, inputs: Iterator[Any], sum_up: bool) -> None:
        self._inputs = inputs
        self._sum = _Sum() if sum_up else None
        self._first = next(inputs, _NOTHING)
        if self._first is not _NOTHING and self._sum is not None:
            self._sum.add(self._first)

    @property
    def total(self) -> Any:
        """What has been read so far."""
        return None if self._sum is None else self._sum.total

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        if self._first is not _NOTHING:
            first, self._first = self._first, _NOTHING
            return first
        item = next(self._inputs)
        if self._sum is not None:
            self._sum.add(item)
        return item


class _AsyncSeen:
    """`_Seen` for tasks."""

    def __init__(self, inputs: AsyncIterator[Any], sum_up: bool) -> None:
        self._inputs = inputs
        self._sum = _Sum() if sum_up else None
        self._first = _NOTHING

    async def open(self) -> None:
        """Read the first item."""
        self._first = await anext(self._inputs, _NOTHING)
        if self._first is not _NOTHING and self._sum is not None:
            self._sum.add(self._first)

    @property
    def total(self) -> Any:
        """What has been read so far."""
        return None if self._sum is None else self._sum.total

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        if self._first is not _NOTHING:
            first, self._first = self._first, _NOTHING
            return first
        item = await anext(self._inputs)
        if self._sum is not None:
            self._sum.add(item)
        return item

    async def aclose(self) -> None:
        """Close the input, if it can be."""
        if hasattr(self._inputs, "aclose"):
            await self._inputs.aclose()


def traced_stream(
    name: str, inputs: Iterator[Any], config: RunnableConfig | None, work: Work
) -> Generator[Any, None, None]:
    """Yield what `work` makes of `inputs`, as a run called `name`, unless the config names it."""
    config = ensure_config(config)
    checked_max_concurrency(config.get("max_concurrency"))
    manager = get_callback_manager_for_config(config)
    seen = _Seen(inputs, _looked_at(manager.handlers))
    run = manager.on_chain_start(
        None,
        {"input": ""},
        run_type=None,
        name=config.get("run_name") or name,
        run_id=config.pop("run_id", None),
        defers_inputs=False,
    )
    output = _Sum() if _looked_at(run.handlers) else None
    try:
        child = patch_config(config, callbacks=run.get_child())
        below = Current(child)
        chunks = work(seen, run, child)
        with closing(chunks), closing(_tapped(run, chunks)) as stream:
            try:
                while True:
                    with below:
                        chunk = next(stream, _NOTHING)
                    if chunk is _NOTHING:
                        break
                    yield chunk
                    if output is not None:
                        output.add(chunk)
            except GeneratorExit:  # closed early: what has been read of it is the output
                pass
    except BaseException as error:
        run.on_chain_error(error, inputs=seen.total)
        raise
    run.on_chain_end(None if output is None else output.total, inputs=seen.total)


async def atraced_stream(
    name: str, inputs: AsyncIterator[Any], config: RunnableConfig | None, work: AsyncWork
) -> AsyncGenerator[Any, None]:
    """Yield what `work` makes of `inputs`, as a run called `name`, unless the config names it."""
    config = ensure_config(config)
    checked_max_concurrency(config.get("max_concurrency"))
    manager = get_async_callback_manager_for_config(config)
    seen = _AsyncSeen(inputs, _looked_at(manager.handlers))
    await seen.open()
    run = await manager.on_chain_start(
        None,
        {"input": ""},
        run_type=None,
        name=config.get("run_name") or name,
        run_id=config.pop("run_id", None),
        defers_inputs=False,
    )
    output = _Sum() if _looked_at(run.handlers) else None
    try:
        child = patch_config(config, callbacks=run.get_child())
        below = Current(child)
        async with owning(work(seen, run, child)) as chunks, owning(_atapped(run, chunks)) as stream:
            while True:
                with below:
                    chunk = await anext(stream, _NOTHING)
                if chunk is _NOTHING:
                    break
                yield chunk
                if output is not None:
                    output.add(chunk)
    except BaseException as error:
        await run.on_chain_error(error, inputs=seen.total)
        raise
    await run.on_chain_end(None if output is None else output.total, inputs=seen.total)


def _looked_at(handlers: Iterable[BaseCallbackHandler]) -> bool:
    """Return whether anybody looks at what passes."""
    return any(not isinstance(one, Bystander) for one in handlers)


def _tapped(run: CallbackManagerForChainRun, chunks: Iterator[Any]) -> Any:
    """Let `astream_events` and `astream_log` see the chunks, as upstream does: the first handler that can."""
    handler = next((one for one in run.handlers if hasattr(one, "tap_output_iter")), None)
    return chunks if handler is None else handler.tap_output_iter(run.run_id, chunks)


def _atapped(run: AsyncCallbackManagerForChainRun, chunks: AsyncIterator[Any]) -> Any:
    """`_tapped` for tasks."""
    handler = next((one for one in run.handlers if hasattr(one, "tap_output_aiter")), None)
    return chunks if handler is None else handler.tap_output_aiter(run.run_id, chunks)
