"""Work on the chunks of a nested fan-out's stream counts under the cap, and no way to read such a stream deadlocks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from langchain_core.runnables import Runnable, RunnableGenerator, RunnableLambda

from langchain_parallel_plus import BranchPolicy, RetryPolicy, TimeoutPolicy
from tests.contract.probes import Gauge, leaf, plus
from tests.modes import MODES, Mode

SYNC = [mode for mode in MODES if mode.sync]
ASYNC = [mode for mode in MODES if not mode.sync]

Tree = Callable[[Gauge], Runnable[Any, Any]]


def _source(gauge: Gauge) -> Runnable[Any, Any]:
    """Return a branch that works before each of three chunks."""

    def chunks(inputs: Iterator[Any]) -> Iterator[int]:
        for _ in inputs:
            pass
        for number in range(3):
            with gauge:
                time.sleep(0.0005)
            yield number

    async def achunks(inputs: AsyncIterator[Any]) -> AsyncIterator[int]:
        async for _ in inputs:
            pass
        for number in range(3):
            with gauge:
                await asyncio.sleep(1)
            yield number

    return RunnableGenerator(chunks, achunks)


def _worker(gauge: Gauge) -> Runnable[Any, Any]:
    """Return a step that works on each chunk of its input."""

    def work(inputs: Iterator[Any]) -> Iterator[int]:
        for chunk in inputs:
            with gauge:
                time.sleep(0.0005)
            yield len(chunk)

    async def awork(inputs: AsyncIterator[Any]) -> AsyncIterator[int]:
        async for chunk in inputs:
            with gauge:
                await asyncio.sleep(1)
            yield len(chunk)

    return RunnableGenerator(work, awork)


def _passing(gauge: Gauge) -> Runnable[Any, Any]:
    """Return a step that works on each chunk of its input and passes it on."""

    def work(inputs: Iterator[Any]) -> Iterator[Any]:
        for chunk in inputs:
            with gauge:
                time.sleep(0.0005)
            yield chunk

    async def awork(inputs: AsyncIterator[Any]) -> AsyncIterator[Any]:
        async for chunk in inputs:
            with gauge:
                await asyncio.sleep(1)
            yield chunk

    return RunnableGenerator(work, awork)


def _piped(gauge: Gauge) -> Runnable[Any, Any]:
    """A step behind a nested fan-out works on its chunks."""
    inner = plus(a=_source(gauge), b=_source(gauge))
    return plus({str(n): inner | _worker(gauge) for n in range(3)})


def _looped(gauge: Gauge) -> Runnable[Any, Any]:
    """A function reads a nested stream and works between its chunks."""
    inner = plus(a=_source(gauge), b=_source(gauge))

    def work(value: Any) -> int:
        total = 0
        for chunk in inner.stream(value):
            with gauge:
                time.sleep(0.0005)
            total += len(chunk)
        return total

    async def awork(value: Any) -> int:
        total = 0
        async for chunk in inner.astream(value):
            with gauge:
                await asyncio.sleep(1)
            total += len(chunk)
        return total

    return plus({str(n): RunnableLambda(work, awork) for n in range(3)})


def _looped_with_calls(gauge: Gauge) -> Runnable[Any, Any]:
    """A function calls another fan-out for each chunk of a stream that stands open meanwhile."""
    inner = plus(a=_source(gauge), b=_source(gauge))
    called = plus(x=leaf(gauge, 0.5), y=leaf(gauge, 0.5))

    def work(value: Any) -> int:
        return sum(len(called.invoke(chunk)) for chunk in inner.stream(value))

    async def awork(value: Any) -> int:
        return sum([len(await called.ainvoke(chunk)) async for chunk in inner.astream(value)])

    return plus({str(n): RunnableLambda(work, awork) for n in range(3)})


def _chained(gauge: Gauge) -> Runnable[Any, Any]:
    """A nested fan-out's stream is the streamed input of the branches of the next, through a step that works on it."""
    first = plus(a=_source(gauge), b=_source(gauge))
    chain = first | _passing(gauge) | plus(c=_worker(gauge), d=_worker(gauge))
    return plus(x=chain, y=chain)


def _guarded(gauge: Gauge) -> Runnable[Any, Any]:
    """The same under policies, whose attempts run in threads and tasks of their own."""
    guarded = BranchPolicy(retry=RetryPolicy(), timeout=TimeoutPolicy(run_timeout=600, attempt_timeout=500))
    inner = plus(a=_source(gauge), b=_source(gauge)).with_policy(guarded)
    return plus({str(n): inner | _worker(gauge) for n in range(3)}).with_policy(guarded)


def _deep(gauge: Gauge) -> Runnable[Any, Any]:
    """Five levels, each of which passes the chunks of the next on."""
    tree = plus(a=_source(gauge), b=_source(gauge), c=_source(gauge))
    for _ in range(4):
        tree = plus(n=tree)
    return tree


TREES = pytest.mark.parametrize(
    "tree", [_piped, _looped, _looped_with_calls, _chained, _guarded, _deep], ids=lambda tree: tree.__name__.strip("_")
)


async def _check(mode: Mode, tree: Tree, cap: int) -> None:
    gauge, free = Gauge(), Gauge()
    capped = await mode.run(tree(gauge), 0, {"max_concurrency": cap})
    assert capped == await mode.run(tree(free), 0)
    assert gauge.entered == free.entered
    assert gauge.peak <= cap


@pytest.mark.parametrize("cap", [1, 2, 3])
@pytest.mark.parametrize("mode", SYNC, ids=str)
@TREES
async def test_work_on_nested_streams_counts_in_threads(mode: Mode, tree: Tree, cap: int) -> None:
    await _check(mode, tree, cap)


@pytest.mark.looptime
@pytest.mark.parametrize("cap", [1, 2, 3])
@pytest.mark.parametrize("mode", ASYNC, ids=str)
@TREES
async def test_work_on_nested_streams_counts_in_tasks(mode: Mode, tree: Tree, cap: int) -> None:
    await _check(mode, tree, cap)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("how", ["invoke", "stream", "batch"])
@pytest.mark.parametrize("cap", [1, 2])
async def test_a_sync_call_on_the_loops_thread_has_the_slot_of_its_branch(how: str, cap: int) -> None:
    gauge = Gauge()
    inner = plus(x=leaf(gauge, 1), y=leaf(gauge, 1))

    async def call(value: Any) -> Any:
        await asyncio.sleep(0)
        if how == "batch":
            return inner.batch([value, value])
        return inner.invoke(value) if how == "invoke" else list(inner.stream(value))

    tree = plus({str(n): RunnableLambda(lambda value: value, call) for n in range(4)})
    outputs = await tree.ainvoke(1, {"max_concurrency": cap})
    assert len(outputs) == 4
    assert gauge.peak == 1


@pytest.mark.parametrize("mode", MODES, ids=str)
async def test_threads_of_an_ended_fan_out_count_until_they_end(mode: Mode) -> None:
    gauge = Gauge()

    def fail(value: Any) -> Any:
        time.sleep(0.005)
        raise ConnectionError("down")

    def work(value: Any) -> Any:
        with gauge:
            time.sleep(0.03)
        return value

    policy = BranchPolicy(on_failure="keep")
    ended = plus(bad=fail, **{str(n): work for n in range(3)})
    tree = plus({f"e{n}": ended for n in range(3)}).with_policy(policy)
    await mode.run(tree, 0, {"max_concurrency": 2})
    assert gauge.peak <= 2
