"""Fan-outs in fan-outs, batches, and ten thousand branches."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

from langchain_core.runnables import RunnableParallel

from langchain_parallel_plus import RunnableParallelPlus
from tests.benchmarks.engine.steps import trivial
from tests.benchmarks.measure import apeak, atimed, in_turn, timed
from tests.benchmarks.table import row, time_rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from langchain_core.runnables import Runnable

    from tests.benchmarks.engine.steps import Make
    from tests.benchmarks.table import Row

__all__ = ("batches", "nested_calls", "wide_calls")


def _nested(make: Make, depth: int) -> Runnable[Any, Any]:
    return make({f"b{i}": _nested(make, depth - 1) if depth > 1 else trivial(1)["b0"] for i in range(5)})


def nested_calls() -> Iterator[Row]:
    """155 branches, of which 125 are leaves."""
    ours, theirs = _nested(RunnableParallelPlus, 3), _nested(RunnableParallel, 3)
    sync = in_turn(timed(partial(ours.invoke, 1), 2), timed(partial(theirs.invoke, 1), 2), 9)
    yield from time_rows("invoke, nested 5 x 5 x 5", sync)
    tasks = in_turn(atimed(partial(ours.ainvoke, 1), 2), atimed(partial(theirs.ainvoke, 1), 2), 9)
    yield from time_rows("ainvoke, nested 5 x 5 x 5", tasks)


def batches() -> Iterator[Row]:
    """A thousand items."""
    steps, inputs = trivial(5), list(range(1000))
    ours: RunnableParallelPlus[Any] = RunnableParallelPlus(steps)
    theirs: RunnableParallel[Any] = RunnableParallel(steps)
    ours.batch(inputs[:100]), theirs.batch(inputs[:100])
    sync = in_turn(timed(lambda: ours.batch(inputs), 1), timed(lambda: theirs.batch(inputs), 1), 3, warm_up=False)
    yield from time_rows("batch(1000) x 5 trivial branches", sync)
    tasks = in_turn(
        atimed(lambda: ours.abatch(inputs), 1, warm_up=False),
        atimed(lambda: theirs.abatch(inputs), 1, warm_up=False),
        3,
        warm_up=False,
    )
    yield from time_rows("abatch(1000) x 5 trivial branches", tasks)


def wide_calls() -> Iterator[Row]:
    """Ten thousand branches at once, as tasks: time and memory."""
    steps = trivial(10_000)
    ours: RunnableParallelPlus[Any] = RunnableParallelPlus(steps)
    theirs: RunnableParallel[Any] = RunnableParallel(steps)
    asyncio.run(ours.ainvoke(1))  # what is made once for each fan-out is no part of a call
    pairs = in_turn(
        atimed(lambda: ours.ainvoke(1), 1, warm_up=False),
        atimed(lambda: theirs.ainvoke(1), 1, warm_up=False),
        2,
        warm_up=False,
    )
    yield from time_rows("ainvoke, 10,000 branches", pairs)
    peaks = in_turn(apeak(lambda: ours.ainvoke(1)), apeak(lambda: theirs.ainvoke(1)), 2, warm_up=False)
    yield row("ainvoke, 10,000 branches", "peak memory", peaks)
