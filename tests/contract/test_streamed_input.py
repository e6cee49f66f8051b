"""What a stream reads of its input, and who may still be reading it when the stream has ended."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from typing import Any

import pytest
from langchain_core.runnables import Runnable, RunnableConfig, RunnableGenerator, RunnableLambda

from langchain_parallel_plus import BranchFailure, BranchPolicy, JoinPolicy, TimeoutPolicy
from tests.contract.probes import plus


class _First(Runnable[Any, Any]):
    """Takes the first item and no more; langchain-core's own steps read their input to its end for the trace."""

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        return input

    def transform(self, input: Iterator[Any], config: RunnableConfig | None = None, **kwargs: Any) -> Iterator[Any]:
        yield next(input)

    async def atransform(
        self, input: AsyncIterator[Any], config: RunnableConfig | None = None, **kwargs: Any
    ) -> AsyncIterator[Any]:
        yield await anext(input)


FIRST = _First()


def test_what_nobody_needs_of_the_input_is_not_read_in_threads() -> None:
    read = []

    def inputs() -> Iterator[int]:
        for number in range(1000):
            read.append(number)
            yield number

    assert list(plus(a=FIRST, b=FIRST).transform(inputs())) in ([{"a": 0}, {"b": 0}], [{"b": 0}, {"a": 0}])
    assert len(read) < 5


async def test_what_nobody_needs_of_the_input_is_not_read_in_tasks() -> None:
    read, closed = [], []

    async def inputs() -> AsyncIterator[int]:
        try:
            for number in range(1000):
                read.append(number)
                yield number
        finally:
            closed.append(True)

    assert [chunk async for chunk in plus(a=FIRST, b=FIRST).atransform(inputs())] == [{"a": 0}, {"b": 0}]
    assert len(read) < 5
    assert closed


def test_a_stream_ends_while_a_thread_that_was_left_behind_still_reads() -> None:
    reading, go_on = threading.Event(), threading.Event()

    def inputs() -> Iterator[str]:
        yield "x"
        reading.set()
        go_on.wait(10)
        yield "y"

    def whole(chunks: Iterator[str]) -> Iterator[str]:
        yield "".join(chunks)

    policy = BranchPolicy(timeout=TimeoutPolicy(run_timeout=0.1), on_failure="keep")
    try:
        (chunk,) = plus(a=RunnableGenerator(whole)).with_policy(policy).transform(inputs())
    finally:
        go_on.set()
    assert reading.is_set()
    assert isinstance(chunk["a"], BranchFailure)


@pytest.mark.looptime
async def test_a_deadline_ends_an_input_that_waits() -> None:
    ended = []

    async def inputs() -> AsyncIterator[str]:
        try:
            yield "x"
            await asyncio.sleep(1000)
        finally:
            ended.append(True)

    async def whole(chunks: AsyncIterator[str]) -> AsyncIterator[str]:
        yield "".join([chunk async for chunk in chunks])

    def never(chunks: Iterator[str]) -> Iterator[str]:
        yield from chunks

    fan_out = plus(a=RunnableGenerator(never, whole)).with_policy(BranchPolicy(on_failure="keep"))
    chunks = [chunk async for chunk in fan_out.with_join(JoinPolicy(deadline=5, min_success=0)).atransform(inputs())]
    assert isinstance(chunks[0]["a"], BranchFailure)
    assert asyncio.get_running_loop().time() < 10
    assert ended


async def test_a_chain_that_is_closed_early_leaves_no_task() -> None:
    async def slowly(inputs: AsyncIterator[Any]) -> AsyncIterator[str]:
        async for _ in inputs:
            pass
        for number in range(100):
            await asyncio.sleep(0.01)
            yield str(number)

    def never(inputs: Iterator[Any]) -> Iterator[Any]:
        yield from inputs

    async def same(value: Any) -> Any:
        return value

    branch = RunnableGenerator(never, slowly)
    chain = (RunnableLambda(lambda value: value, same) | plus(x=branch, y=branch)).with_config(tags=["mine"])
    async with aclosing(plus(a=chain, b=branch).astream("x")) as chunks:  # type: ignore[type-var]
        for _ in range(3):
            await anext(chunks)
    assert asyncio.all_tasks() == {asyncio.current_task()}
