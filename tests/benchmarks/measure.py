"""Timing two things in turn, so that a noisy machine disturbs both alike."""

from __future__ import annotations

import asyncio
import gc
import statistics
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

__all__ = ("Row", "against", "aseconds", "seconds")


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    name: str
    ours: float
    theirs: float
    unit: str
    target: str
    against: str = "RunnableParallel"

    @property
    def ratio(self) -> float:
        return self.ours / self.theirs

    def __str__(self) -> str:
        numbers = f"{self.ours:10.3f} {self.theirs:10.3f} {self.unit:<9} {self.ratio:6.2f}x"
        return f"{self.name:<52} {numbers}  {self.target:<9} {self.against}"


def seconds(call: Callable[[], object], number: int) -> float:
    """Return the seconds that one call takes, over `number` calls."""
    gc.collect()
    began = time.perf_counter()
    for _ in range(number):
        call()
    return (time.perf_counter() - began) / number


def aseconds(call: Callable[[], Awaitable[object]], number: int) -> float:
    """Return the seconds that one awaited call takes, over `number` calls in a loop of their own."""

    async def run() -> float:
        await call()
        gc.collect()
        began = time.perf_counter()
        for _ in range(number):
            await call()
        return (time.perf_counter() - began) / number

    return asyncio.run(run())


def against(name: str, ours: Callable[[], float], theirs: Callable[[], float], *, target: str, repeats: int = 7) -> Row:
    """Measure both in turn and return the medians, in milliseconds."""
    ours(), theirs()  # once to warm up
    pairs = [(ours(), theirs()) for _ in range(repeats)]
    mine, other = (statistics.median(pair[i] for pair in pairs) for i in (0, 1))
    return Row(name, mine * 1e3, other * 1e3, "ms", target)
