"""What only streams can show: where an attempt ends and delivery begins."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from langchain_core.runnables import RunnableGenerator

from langchain_parallel_plus import BranchFailure, BranchPolicy, RetryPolicy, RunnableParallelPlus, RunnableWithPolicy
from tests.modes import MODES, Mode

STREAMS = [mode for mode in MODES if mode.streams]
QUICK = BranchPolicy(retry=RetryPolicy(initial_interval=0.001))


class Breaking:
    """Streams words, and breaks after `before` of them in its first `times` runs."""

    def __init__(self, *, before: int, times: int) -> None:
        self.before, self.times, self.runs = before, times, 0

    def words(self) -> Iterator[str]:
        self.runs += 1
        for number, word in enumerate(("one ", "two ", "three ")):
            if number == self.before and self.runs <= self.times:
                raise ConnectionError("cut")
            yield word

    def runnable(self) -> RunnableGenerator[Any, str]:
        def sync(inputs: Iterator[Any]) -> Iterator[str]:
            list(inputs)
            yield from self.words()

        async def tasks(inputs: AsyncIterator[Any]) -> AsyncIterator[str]:
            async for _ in inputs:
                pass
            for word in self.words():
                yield word

        return RunnableGenerator(sync, tasks)


@pytest.mark.parametrize("stream", STREAMS, ids=str)
async def test_before_the_first_chunk_a_stream_starts_again(stream: Mode) -> None:
    breaking = Breaking(before=0, times=2)
    assert await stream.run(RunnableWithPolicy(breaking.runnable(), QUICK), "in", None) == "one two three "
    assert breaking.runs == 3


@pytest.mark.parametrize("stream", STREAMS, ids=str)
async def test_after_the_first_chunk_a_stream_is_never_started_again(stream: Mode) -> None:
    breaking = Breaking(before=1, times=1)
    policy = BranchPolicy(retry=RetryPolicy(initial_interval=0.001), fallbacks=[lambda _: "instead"])
    with pytest.raises(ConnectionError):
        await stream.run(RunnableWithPolicy(breaking.runnable(), policy), "in", None)
    assert breaking.runs == 1


@pytest.mark.parametrize("on_failure", ["keep", "drop"])
@pytest.mark.parametrize("stream", STREAMS, ids=str)
async def test_a_failure_after_some_chunks_keeps_them_and_never_passes_for_a_whole(
    stream: Mode, on_failure: Any
) -> None:
    breaking = Breaking(before=2, times=1)
    fan_out = RunnableParallelPlus(good=lambda _: "good", cut=breaking.runnable()).with_policy(
        cut=BranchPolicy(on_failure=on_failure)
    )
    result = await stream.run(fan_out, "in", None)
    assert result["good"] == "good"
    assert isinstance(result["cut"], BranchFailure)
    assert result["cut"].partial == "one two "


@pytest.mark.parametrize("stream", STREAMS, ids=str)
async def test_an_empty_stream_is_a_success(stream: Mode) -> None:
    def nothing(inputs: Iterator[Any]) -> Iterator[str]:
        yield from ()

    async def anothing(inputs: AsyncIterator[Any]) -> AsyncIterator[str]:
        for word in ():
            yield word

    policy = BranchPolicy(retry=RetryPolicy(initial_interval=0.001), fallbacks=[lambda _: "instead"])
    assert await stream.run(RunnableWithPolicy(RunnableGenerator(nothing, anothing), policy), "in", None) is None


@pytest.mark.parametrize("stream", STREAMS, ids=str)
async def test_an_attempt_reads_a_streamed_input_from_its_start(stream: Mode) -> None:
    seen: list[list[str]] = []

    def sync(inputs: Iterator[str]) -> Iterator[str]:
        seen.append(list(inputs))
        if len(seen) == 1:
            raise ConnectionError
        yield "".join(seen[-1])

    async def tasks(inputs: AsyncIterator[str]) -> AsyncIterator[str]:
        seen.append([item async for item in inputs])
        if len(seen) == 1:
            raise ConnectionError
        yield "".join(seen[-1])

    def words(_: Iterator[Any]) -> Iterator[str]:
        yield from ("a", "b", "c")

    async def awords(_: AsyncIterator[Any]) -> AsyncIterator[str]:
        for word in ("a", "b", "c"):
            yield word

    chain = RunnableGenerator(words, awords) | RunnableWithPolicy(RunnableGenerator(sync, tasks), QUICK)
    assert await stream.run(chain, "in", None) == "abc"
    assert seen == [["a", "b", "c"], ["a", "b", "c"]]
