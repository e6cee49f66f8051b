"""Timing two things in turn, so that a noisy machine disturbs both alike.

The two sides of a comparison run in one process, in pairs. Which of them comes first alternates from pair to pair, the
garbage of one is collected before the other begins, and what is told is the median of the ratios within pairs. Wall
time and CPU time are taken together: where work is bound by the CPU, a busy neighbour cannot move the latter.
"""

from __future__ import annotations

import asyncio
import gc
import time
import tracemalloc
from collections.abc import Awaitable, Callable
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ("Spent", "Watch", "apeak", "atimed", "in_turn", "settled", "timed")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Spent:
    """What something has taken, in seconds."""

    wall: float
    cpu: float
    """Of all threads of the process, in user and system mode."""

    def per(self, number: int) -> Spent:
        """Return the share of one among `number`."""
        return Spent(self.wall / number, self.cpu / number)


class Watch:
    """Runs from its making."""

    def __init__(self) -> None:
        self._wall = time.perf_counter()
        self._cpu = time.process_time()

    def spent(self) -> Spent:
        """Return what has been taken so far."""
        cpu = time.process_time()
        return Spent(time.perf_counter() - self._wall, cpu - self._cpu)


@contextmanager
def settled() -> Iterator[None]:
    """Begin with no garbage, and let later collections look only at what is made inside.

    Collections are left on: they are part of the price of making garbage. What the process held before is none of it.
    """
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def timed(call: Callable[[], object], number: int) -> Callable[[], Spent]:
    """Return a function that measures what one call takes, over `number` calls."""

    def measure() -> Spent:
        with settled():
            watch = Watch()
            for _ in range(number):
                call()
            return watch.spent().per(number)

    return measure


def atimed(call: Callable[[], Awaitable[object]], number: int, *, warm_up: bool = True) -> Callable[[], Spent]:
    """Return a function that measures what one awaited call takes, over `number` calls in a new loop.

    A call before them warms the loop up: its executor's threads have started.
    """

    async def run() -> Spent:
        if warm_up:
            await call()
        with settled():
            watch = Watch()
            for _ in range(number):
                await call()
            return watch.spent().per(number)

    return lambda: asyncio.run(run())


def apeak(call: Callable[[], Awaitable[object]]) -> Callable[[], float]:
    """Return a function that measures the most memory, in bytes, that one awaited call holds at once."""

    async def run() -> float:
        with settled():
            tracemalloc.start()
            try:
                await call()
                return float(tracemalloc.get_traced_memory()[1])
            finally:
                tracemalloc.stop()

    return lambda: asyncio.run(run())


def in_turn(ours: Callable[[], T], theirs: Callable[[], T], repeats: int, *, warm_up: bool = True) -> list[tuple[T, T]]:
    """Measure `repeats` pairs, each side first in every other one; return each as (ours, theirs).

    Args:
        ours: Measures once.
        theirs: Measures once.
        repeats: Pairs.
        warm_up: Whether each side is called once before.
    """
    if warm_up:
        ours(), theirs()
    pairs = []
    for number in range(repeats):
        if number % 2:
            other = theirs()
            mine = ours()
        else:
            mine = ours()
            other = theirs()
        pairs.append((mine, other))
    return pairs
