"""The ways to run a Runnable, so that a test states a behaviour once and runs it in all of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from langchain_core.runnables import Runnable, RunnableConfig

Run = Callable[[Runnable[Any, Any], Any, RunnableConfig | None], Awaitable[Any]]


@dataclass(frozen=True)
class Mode:
    """One way to run a Runnable on one input; streams are added up."""

    name: str
    run: Run
    sync: bool
    streams: bool

    def __str__(self) -> str:
        return self.name


def added(chunks: list[Any]) -> Any:
    total = chunks[0] if chunks else None
    for chunk in chunks[1:]:
        total = total + chunk
    return total


async def _invoke(runnable: Runnable[Any, Any], value: Any, config: RunnableConfig | None = None) -> Any:
    return runnable.invoke(value, config)


async def _ainvoke(runnable: Runnable[Any, Any], value: Any, config: RunnableConfig | None = None) -> Any:
    return await runnable.ainvoke(value, config)


async def _batch(runnable: Runnable[Any, Any], value: Any, config: RunnableConfig | None = None) -> Any:
    return runnable.batch([value], config)[0]


async def _abatch(runnable: Runnable[Any, Any], value: Any, config: RunnableConfig | None = None) -> Any:
    return (await runnable.abatch([value], config))[0]


async def _stream(runnable: Runnable[Any, Any], value: Any, config: RunnableConfig | None = None) -> Any:
    return added(list(runnable.stream(value, config)))


async def _astream(runnable: Runnable[Any, Any], value: Any, config: RunnableConfig | None = None) -> Any:
    return added([chunk async for chunk in runnable.astream(value, config)])


async def _transform(runnable: Runnable[Any, Any], value: Any, config: RunnableConfig | None = None) -> Any:
    return added(list(runnable.transform(iter([value]), config)))


async def _atransform(runnable: Runnable[Any, Any], value: Any, config: RunnableConfig | None = None) -> Any:
    async def inputs() -> AsyncIterator[Any]:
        yield value

    return added([chunk async for chunk in runnable.atransform(inputs(), config)])


MODES = (
    Mode("invoke", _invoke, sync=True, streams=False),
    Mode("ainvoke", _ainvoke, sync=False, streams=False),
    Mode("batch", _batch, sync=True, streams=False),
    Mode("abatch", _abatch, sync=False, streams=False),
    Mode("stream", _stream, sync=True, streams=True),
    Mode("astream", _astream, sync=False, streams=True),
    Mode("transform", _transform, sync=True, streams=True),
    Mode("atransform", _atransform, sync=False, streams=True),
)
