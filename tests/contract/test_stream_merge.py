"""Streams of branches as one stream: order, back-pressure, fairness, size, and the time a chunk takes."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.runnables import RunnableGenerator, RunnableParallel

from langchain_parallel_plus import JoinPolicy, RunnableParallelPlus
from tests.contract.probes import Parallel, plus

METHODS = pytest.mark.parametrize("method", ["astream", "atransform"])


def _counting(chunks: int, produced: Counter[str], key: str, *, seconds: float = 0.0) -> RunnableGenerator[Any, Any]:
    def stream(inputs: Iterator[Any]) -> Iterator[tuple[str, int]]:
        for _ in inputs:
            pass
        for number in range(chunks):
            produced[key] += 1
            yield key, number

    async def astream(inputs: AsyncIterator[Any]) -> AsyncIterator[tuple[str, int]]:
        async for _ in inputs:
            pass
        for number in range(chunks):
            if seconds:
                await asyncio.sleep(seconds)
            produced[key] += 1
            yield key, number

    return RunnableGenerator(stream, astream)


def _assert_in_order(chunks: list[dict[str, tuple[str, int]]], branches: int, each: int) -> None:
    seen: dict[str, list[int]] = {}
    for chunk in chunks:
        ((key, (source, number)),) = chunk.items()
        assert key == source
        seen.setdefault(key, []).append(number)
    assert seen == ({str(n): list(range(each)) for n in range(branches)} if each else {})


@given(branches=st.integers(1, 8), each=st.integers(0, 6), cap=st.none() | st.integers(1, 4), hold=st.booleans())
@settings(max_examples=25, deadline=None)
def test_every_branchs_chunks_come_in_their_order_in_threads(
    branches: int, each: int, cap: int | None, hold: bool
) -> None:
    produced: Counter[str] = Counter()
    fan_out = plus({str(n): _counting(each, produced, str(n)) for n in range(branches)})
    if hold:
        fan_out = fan_out.with_join(JoinPolicy(wait_for=branches))
    _assert_in_order(list(fan_out.stream(0, {"max_concurrency": cap} if cap else {})), branches, each)


@pytest.mark.looptime
@pytest.mark.parametrize("cap", [None, 3])
async def test_every_branchs_chunks_come_in_their_order_in_tasks(cap: int | None) -> None:
    produced: Counter[str] = Counter()
    steps = {str(n): _counting(5, produced, str(n), seconds=1 + n / 7) for n in range(7)}
    chunks = [chunk async for chunk in plus(steps).astream(0, {"max_concurrency": cap} if cap else {})]
    _assert_in_order(chunks, 7, 5)


def test_a_slow_consumer_holds_threads_at_most_two_chunks_ahead(parallel: Parallel) -> None:
    produced: Counter[str] = Counter()
    consumed: Counter[str] = Counter()
    ahead = []
    for chunk in parallel({key: _counting(20, produced, key) for key in "abc"}).stream(0):
        consumed.update(chunk.keys())
        time.sleep(0.002)
        ahead.append(max(produced[key] - consumed[key] for key in "abc"))
    assert max(ahead) <= 2
    assert consumed == Counter(a=20, b=20, c=20)


@pytest.mark.looptime
@METHODS
async def test_a_slow_consumer_holds_tasks_at_most_two_chunks_ahead(parallel: Parallel, method: str) -> None:
    async def inputs() -> AsyncIterator[int]:
        yield 0

    produced: Counter[str] = Counter()
    consumed: Counter[str] = Counter()
    ahead = []
    fan_out = parallel({key: _counting(20, produced, key) for key in "abc"})
    async for chunk in getattr(fan_out, method)(0 if method == "astream" else inputs()):
        consumed.update(chunk.keys())
        await asyncio.sleep(1)
        ahead.append(max(produced[key] - consumed[key] for key in "abc"))
    assert max(ahead) <= 2
    assert consumed == Counter(a=20, b=20, c=20)


@pytest.mark.looptime
async def test_no_branch_is_starved_by_those_that_always_have_a_chunk() -> None:
    consumed: Counter[str] = Counter()
    async for chunk in plus({key: _counting(50, Counter(), key) for key in "abcd"}).astream(0):
        consumed.update(chunk.keys())
        assert max(consumed.values()) - min(consumed[key] for key in "abcd") <= 2
    assert set(consumed.values()) == {50}


def test_no_branch_is_starved_in_threads() -> None:
    consumed: Counter[str] = Counter()
    for chunk in plus({key: _counting(50, Counter(), key) for key in "abcd"}).stream(0):
        consumed.update(chunk.keys())
        time.sleep(0.0005)
        if len(consumed) == 4:
            assert max(consumed.values()) - min(consumed.values()) <= 10
    assert set(consumed.values()) == {50}


@pytest.mark.looptime
async def test_a_thousand_branches_stream_out_of_step() -> None:
    steps = {str(n): _counting(2, Counter(), str(n), seconds=1 + n / 1000) for n in range(1000)}
    chunks = [chunk async for chunk in plus(steps).astream(0)]
    _assert_in_order(chunks, 1000, 2)


def test_a_thousand_branches_stream_in_threads() -> None:
    steps = {str(n): _counting(2, Counter(), str(n)) for n in range(1000)}
    _assert_in_order(list(plus(steps).stream(0)), 1000, 2)


@pytest.mark.looptime
async def test_an_input_stream_is_read_as_it_comes(parallel: Parallel) -> None:
    async def ticking() -> AsyncIterator[int]:
        for number in range(5):
            yield number
            await asyncio.sleep(1)

    async def doubled(inputs: AsyncIterator[int]) -> AsyncIterator[int]:
        async for number in inputs:
            yield 2 * number

    loop = asyncio.get_running_loop()
    times: dict[int, float] = {}
    fan_out = parallel(a=RunnableGenerator(doubled), b=RunnableGenerator(doubled))
    async for chunk in fan_out.atransform(ticking()):
        (number,) = chunk.values()
        times.setdefault(number, loop.time())
    assert times == {0: 0, 2: 1, 4: 2, 6: 3, 8: 4}


@pytest.mark.parametrize("cls", [RunnableParallel, RunnableParallelPlus])
def test_an_empty_fan_out_streams_nothing(cls: Parallel) -> None:
    assert list(cls({}).stream(0)) == []
