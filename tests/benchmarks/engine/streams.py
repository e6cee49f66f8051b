"""What merging streams costs a chunk, where chunks come one by one and where they come together."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any

from langchain_core.runnables import RunnableGenerator, RunnableParallel

from langchain_parallel_plus import RunnableParallelPlus
from tests.benchmarks.measure import Watch, in_turn, settled
from tests.benchmarks.table import time_rows

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterator

    from langchain_core.runnables import Runnable

    from tests.benchmarks.engine.steps import Make
    from tests.benchmarks.measure import Spent
    from tests.benchmarks.table import Row

    _Play = Callable[[Make, int, int], Coroutine[Any, Any, Spent]]

__all__ = ("streams",)


class _Score:
    """Lets one branch at a time produce a chunk, in a random order that is the same for both sides.

    Sleeps of random lengths would make chunks come out of step too, but on a busy machine they pile up, and then a
    merge that looks at all branches for each wake-up is measured at its cheapest.
    """

    def __init__(self, branches: int, chunks: int) -> None:
        order = [branch for branch in range(branches) for _ in range(chunks)]
        random.Random(branches).shuffle(order)
        self._order = iter(order)
        self._cues = [asyncio.Semaphore(0) for _ in range(branches)]

    def cue(self) -> None:
        """Let the next branch go on."""
        branch = next(self._order, None)
        if branch is not None:
            self._cues[branch].release()

    async def wait(self, branch: int) -> None:
        """Wait until it is this branch's turn."""
        await self._cues[branch].acquire()


def _out_of_step(branch: int, chunks: int, score: _Score) -> RunnableGenerator[Any, int]:
    async def produce(inputs: AsyncIterator[Any]) -> AsyncIterator[int]:
        for number in range(chunks):
            await score.wait(branch)
            yield number

    return RunnableGenerator(produce)


def _in_step(chunks: int) -> RunnableGenerator[Any, int]:
    async def produce(inputs: AsyncIterator[Any]) -> AsyncIterator[int]:
        for number in range(chunks):
            await asyncio.sleep(0)
            yield number

    return RunnableGenerator(produce)


async def _one_by_one(make: Make, branches: int, total: int) -> Spent:
    """Return what one chunk takes when all streams have started and none has ended: between two moments of a run."""
    chunks = 2 * total // branches + 2
    score = _Score(branches, chunks)
    fan_out = make({f"b{i}": _out_of_step(i, chunks, score) for i in range(branches)})
    return await _window(fan_out, total, score.cue)


async def _together(make: Make, branches: int, total: int) -> Spent:
    chunks = 2 * total // branches + 2
    fan_out = make({f"b{i}": _in_step(chunks) for i in range(branches)})
    return await _window(fan_out, total, lambda: None)


async def _window(fan_out: Runnable[Any, Any], total: int, cue: Callable[[], None]) -> Spent:
    """Return what a chunk takes over `total` chunks, after a fifth as many to warm up."""
    first = total // 5
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda loop, context: None)  # upstream warns of the tasks that it leaves at the end
    stream = fan_out.astream(1)
    loop.call_later(0.05, cue)  # when every branch waits for its turn
    for _ in range(first):
        await anext(stream)
        cue()
    with settled():
        watch = Watch()
        for _ in range(total):
            await anext(stream)
            cue()
        spent = watch.spent().per(total)
    await stream.aclose()  # type: ignore[attr-defined]  # an async generator
    return spent


def _run(play: _Play, make: Make, branches: int, total: int) -> Callable[[], Spent]:
    return lambda: asyncio.run(play(make, branches, total))


def streams() -> Iterator[Row]:
    """What a chunk takes, apart from starting and ending."""
    cases: tuple[tuple[str, _Play, int, int, int, float | None], ...] = (
        ("one by one", _one_by_one, 10, 1500, 7, None),
        ("one by one", _one_by_one, 100, 1500, 7, None),
        ("one by one", _one_by_one, 1000, 600, 5, 0.2),
        ("all at once", _together, 10, 1500, 7, None),
        ("all at once", _together, 1000, 3000, 5, None),
    )
    for order, play, branches, total, repeats, target in cases:
        ours, theirs = (_run(play, make, branches, total) for make in (RunnableParallelPlus, RunnableParallel))
        name = f"astream, {branches} branches, chunks {order}, a chunk"
        yield from time_rows(name, in_turn(ours, theirs, repeats), target=target)
