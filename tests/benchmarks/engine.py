"""The engine: what a fan-out costs, and how long it takes where work blocks."""

from __future__ import annotations

import asyncio
import random
import threading
import time
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from typing import Any

from langchain_core.runnables import Runnable, RunnableGenerator, RunnableLambda, RunnableParallel

from langchain_parallel_plus import BranchPolicy, RateLimiter, RetryPolicy, RunnableParallelPlus, TimeoutPolicy
from langchain_parallel_plus._engine.workers import WORKERS
from tests.benchmarks.measure import Row, against, aseconds, seconds

__all__ = ("CASES",)

Make = Callable[[dict[str, Any]], Runnable[Any, Any]]


async def _same(value: Any) -> Any:
    return value


def trivial(count: int) -> dict[str, Any]:
    return {f"b{i}": RunnableLambda(lambda x: x, _same) for i in range(count)}


def blocking(count: int, wait: float) -> dict[str, Any]:
    def work(value: Any) -> Any:
        time.sleep(wait)
        return value

    return {f"b{i}": work for i in range(count)}


def tended(branches: dict[str, Any]) -> RunnableParallelPlus[Any]:
    """A fan-out with every policy on."""
    policy = BranchPolicy(retry=RetryPolicy(), timeout=TimeoutPolicy(run_timeout=60))
    return RunnableParallelPlus(branches).with_policy(policy).with_limits(RateLimiter(requests_per_minute=1e6))


def trivial_calls() -> Iterator[Row]:
    steps = trivial(10)
    plain, plus, full = RunnableParallel(steps), RunnableParallelPlus(steps), tended(steps)
    for label, ours, target in (("", plus, "<= 1.0x"), (", retry, timeout and limiter on", full, "<= 1.25x")):
        yield against(
            f"invoke, 10 trivial branches{label}",
            lambda ours=ours: seconds(lambda: ours.invoke(1), 30),
            lambda: seconds(lambda: plain.invoke(1), 30),
            target=target,
        )
        yield against(
            f"ainvoke, 10 trivial branches{label}",
            lambda ours=ours: aseconds(lambda: ours.ainvoke(1), 30),
            lambda: aseconds(lambda: plain.ainvoke(1), 30),
            target=target,
        )


def blocking_calls() -> Iterator[Row]:
    fan_out = RunnableParallelPlus(blocking(50, 0.5))
    fan_out.invoke(1)
    took = min(seconds(lambda: fan_out.invoke(1), 1) for _ in range(3))
    yield Row("invoke, 50 branches of 0.5 s blocking work", took * 1e3, 500.0, "ms", "<= 1.1x", "0.5 s")
    items = RunnableParallelPlus(blocking(5, 0.3))
    took = min(seconds(lambda: items.batch(list(range(100))), 1) for _ in range(3))
    yield Row("batch(100) x 5 branches of 0.3 s blocking work", took * 1e3, 300.0, "ms", "<= 2x", "0.3 s")
    many = RunnableParallelPlus(blocking(60, 0.1))
    took = min(aseconds(lambda: many.ainvoke(1), 1) for _ in range(3))
    yield Row("ainvoke, 60 branches of 0.1 s blocking work", took * 1e3, 100.0, "ms", "", "0.1 s")


def _out_of_step(index: int, chunks: int, apart: float) -> RunnableGenerator[Any, int]:
    """Chunks at times of its own, seldom together with those of the others."""

    def sync(inputs: Iterator[Any]) -> Iterator[int]:
        yield from range(chunks)

    async def tasks(inputs: AsyncIterator[Any]) -> AsyncIterator[int]:
        times = random.Random(index)
        for number in range(chunks):
            await asyncio.sleep(times.uniform(0, apart))
            yield number

    return RunnableGenerator(sync, tasks)


def _cpu_a_chunk(make: Make, count: int) -> float:
    """Return the CPU seconds of one more chunk: of long streams less short ones, so that starting is left out."""
    few, many = 2, 6

    async def drain(chunks: int) -> float:
        fan_out = make({f"b{i}": _out_of_step(i, chunks, count / 1000) for i in range(count)})
        began = time.process_time()
        async for _ in fan_out.astream(1):
            pass
        return time.process_time() - began

    return (asyncio.run(drain(many)) - asyncio.run(drain(few))) / (count * (many - few))


def streams() -> Iterator[Row]:
    for count, target in ((10, ""), (100, ""), (1000, "<= 0.2x")):
        row = against(
            f"astream, {count} branches out of step, CPU a chunk",
            lambda count=count: _cpu_a_chunk(RunnableParallelPlus, count),
            lambda count=count: _cpu_a_chunk(RunnableParallel, count),
            target=target,
            repeats=3,
        )
        yield replace(row, ours=row.ours * 1e3, theirs=row.theirs * 1e3, unit="us")


def _nested(make: Make, depth: int) -> Runnable[Any, Any]:
    return make({f"b{i}": _nested(make, depth - 1) if depth > 1 else trivial(1)["b0"] for i in range(5)})


def shapes() -> Iterator[Row]:
    plus, plain = _nested(RunnableParallelPlus, 3), _nested(RunnableParallel, 3)
    yield against(
        "invoke, nested 5 x 5 x 5",
        lambda: seconds(lambda: plus.invoke(1), 3),
        lambda: seconds(lambda: plain.invoke(1), 3),
        target="",
    )
    yield against(
        "ainvoke, nested 5 x 5 x 5",
        lambda: aseconds(lambda: plus.ainvoke(1), 3),
        lambda: aseconds(lambda: plain.ainvoke(1), 3),
        target="",
    )
    steps, inputs = trivial(5), list(range(1000))
    wide, upstream = RunnableParallelPlus(steps), RunnableParallel(steps)
    yield against(
        "batch(1000) x 5 trivial branches",
        lambda: seconds(lambda: wide.batch(inputs), 1),
        lambda: seconds(lambda: upstream.batch(inputs), 1),
        target="",
        repeats=3,
    )
    yield against(
        "abatch(1000) x 5 trivial branches",
        lambda: aseconds(lambda: wide.abatch(inputs), 1),
        lambda: aseconds(lambda: upstream.abatch(inputs), 1),
        target="",
        repeats=3,
    )


def width() -> Iterator[Row]:
    steps = trivial(10_000)
    plus, plain = RunnableParallelPlus(steps), RunnableParallel(steps)
    yield against(
        "ainvoke, 10,000 branches",
        lambda: aseconds(lambda: plus.ainvoke(1), 1),
        lambda: aseconds(lambda: plain.ainvoke(1), 1),
        target="",
        repeats=3,
    )
    ours, theirs = (_peak(fan_out) for fan_out in (plus, plain))
    yield Row("ainvoke, 10,000 branches: peak memory", ours, theirs, "MiB", "")


def _peak(fan_out: Runnable[Any, Any]) -> float:
    async def run() -> float:
        tracemalloc.start()
        await fan_out.ainvoke(1)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak / 2**20

    return asyncio.run(run())


def threads_started() -> Iterator[Row]:
    calls = 20
    plus, plain = RunnableParallelPlus(blocking(5, 0.01)), RunnableParallel(blocking(5, 0.01))
    plus.invoke(1)
    before = WORKERS.started
    for _ in range(calls):
        plus.invoke(1)
    ours = (WORKERS.started - before) / calls
    started, original = 0, threading.Thread.start

    def counting(thread: threading.Thread) -> None:
        nonlocal started
        started += 1
        original(thread)

    threading.Thread.start = counting  # type: ignore[method-assign]  # counted, and put back below
    try:
        for _ in range(calls):
            plain.invoke(1)
    finally:
        threading.Thread.start = original  # type: ignore[method-assign]
    yield Row("threads started per invoke, 5 blocking branches", ours, started / calls, "threads", "")


CASES = {
    "trivial": trivial_calls,
    "blocking": blocking_calls,
    "streams": streams,
    "shapes": shapes,
    "width": width,
    "threads": threads_started,
}
