"""Branches that block their thread: how many go at once, and how many threads that starts."""

from __future__ import annotations

import asyncio
import threading
from functools import partial
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from langchain_core.runnables import RunnableParallel

from langchain_parallel_plus import RunnableParallelPlus
from tests.benchmarks.engine.steps import blocking
from tests.benchmarks.measure import atimed, in_turn, timed
from tests.benchmarks.table import row

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.benchmarks.measure import Spent
    from tests.benchmarks.table import Row

__all__ = ("blocking_calls", "threads_started")


def blocking_calls() -> Iterator[Row]:
    """How long it takes, against `RunnableParallel` and against the longest branch alone."""
    ours, theirs = _pair(50, 0.5)
    ours.invoke(1)
    pairs = in_turn(timed(partial(ours.invoke, 1), 1), timed(partial(theirs.invoke, 1), 1), 2, warm_up=False)
    yield from _rows("invoke, 50 branches that block for 0.5 s", pairs, 0.5, target=1.1)
    ours, theirs = _pair(5, 0.3)
    items = list(range(100))
    ours.batch(items)
    pairs = in_turn(timed(partial(ours.batch, items), 1), timed(partial(theirs.batch, items), 1), 2, warm_up=False)
    yield from _rows("batch(100) x 5 branches that block for 0.3 s", pairs, 0.3, target=2.0)
    ours, theirs = _pair(60, 0.05)
    pairs = in_turn(atimed(partial(ours.ainvoke, 1), 1), atimed(partial(theirs.ainvoke, 1), 1), 9)
    yield from _rows("ainvoke, 60 plain functions that block for 0.05 s", pairs, 0.05)


def _rows(name: str, pairs: Sequence[tuple[Spent, Spent]], least: float, target: float | None = None) -> Iterator[Row]:
    yield row(name, "wall", [(mine.wall, other.wall) for mine, other in pairs])
    yield row(name, "wall", [(mine.wall, least) for mine, _ in pairs], target=target, against=f"{least:g} s")


def _pair(count: int, seconds: float) -> tuple[RunnableParallelPlus[Any], RunnableParallel[Any]]:
    return RunnableParallelPlus(blocking(count, seconds)), RunnableParallel(blocking(count, seconds))


def threads_started() -> Iterator[Row]:
    """Threads started a call, after the first one."""
    ours, theirs = _pair(5, 0.01)
    items = list(range(100))
    calls: tuple[tuple[str, Callable[[], object], Callable[[], object]], ...] = (
        ("invoke, 5 blocking branches", lambda: ours.invoke(1), lambda: theirs.invoke(1)),
        ("batch(100) x 5 blocking branches", lambda: ours.batch(items), lambda: theirs.batch(items)),
        (
            "ainvoke, 5 blocking branches, in a new loop",
            lambda: asyncio.run(ours.ainvoke(1)),
            lambda: asyncio.run(theirs.ainvoke(1)),
        ),
    )
    for name, mine, other in calls:
        pairs = in_turn(partial(_started, mine), partial(_started, other), 7)
        yield row(f"{name}, once warm", "threads", pairs)


def _started(call: Callable[[], object]) -> float:
    """Count the threads that `call` starts, whoever makes them."""
    with patch.object(threading.Thread, "start", autospec=True, side_effect=threading.Thread.start) as start:
        call()
    return float(start.call_count)
