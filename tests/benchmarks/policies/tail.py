"""The slow tail of a fan-out: of twenty branches, one call in a hundred hangs, and so does every fifth result."""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from typing import TYPE_CHECKING, Any

from langchain_core.runnables import RunnableLambda, RunnableParallel

from langchain_parallel_plus import BranchPolicy, HedgePolicy, RunnableParallelPlus

if TYPE_CHECKING:
    from collections.abc import Iterator

    from langchain_core.runnables import Runnable

__all__ = ("hedged_tail",)

_BRANCHES, _RUNS, _WARM_UP = 20, 300, 20
_QUICK, _SLOW, _SHARE = 0.02, 0.4, 0.01
_MOST_EXTRA = 0.05


class _Calls:
    """A call that takes 20 ms, give or take a quarter, or 400 ms; the same ones in every run, its hedges apart."""

    def __init__(self) -> None:
        self._drawn = random.Random(7)
        self.made = 0

    async def __call__(self, value: Any) -> Any:
        self.made += 1
        slow = self._drawn.random() < _SHARE
        await asyncio.sleep(_SLOW if slow else _QUICK * self._drawn.uniform(0.75, 1.25))
        return value

    @property
    def branches(self) -> dict[str, Runnable[Any, Any]]:
        def never(value: Any) -> Any:
            raise NotImplementedError

        return {f"b{number}": RunnableLambda(never, afunc=self) for number in range(_BRANCHES)}


def hedged_tail() -> Iterator[str]:
    """The 99th percentile of the fan-out's time, and the calls made for it."""
    yield (
        f"{_BRANCHES} branches of {_QUICK * 1e3:g} ms, {_SHARE:.0%} of the calls take {_SLOW * 1e3:g} ms; "
        f"{_RUNS} fan-outs"
    )
    yield f"  {'':<44} {'p50':>8} {'p95':>8} {'p99':>8} {'extra calls':>12}"
    plain, p99, _ = _measured("RunnableParallel", None)
    yield plain
    for name, hedge in {
        'HedgePolicy("p95", budget=0.05)': HedgePolicy("p95", budget=_MOST_EXTRA),
        "HedgePolicy(0.06, budget=0.05)": HedgePolicy(0.06, budget=_MOST_EXTRA),
    }.items():
        line, ours, extra = _measured(name, hedge)
        met = "met" if ours <= p99 / 2 and extra <= _MOST_EXTRA else "missed"
        yield f"{line}  p99 {ours / p99:.2f}x, <= 0.5x at <= {_MOST_EXTRA:.0%}: {met}"


def _measured(name: str, hedge: HedgePolicy | None) -> tuple[str, float, float]:
    calls = _Calls()
    fan_out: Runnable[Any, Any] = (
        RunnableParallel(calls.branches)
        if hedge is None
        else RunnableParallelPlus(calls.branches).with_policy(BranchPolicy(hedge=hedge))
    )
    spent = asyncio.run(_spent(fan_out))
    cuts = statistics.quantiles(spent, n=100)
    extra = calls.made / (_BRANCHES * (_WARM_UP + _RUNS)) - 1
    p50, p95, p99 = cuts[49], cuts[94], cuts[98]
    return f"  {name:<44} {p50 * 1e3:>5.0f} ms {p95 * 1e3:>5.0f} ms {p99 * 1e3:>5.0f} ms {extra:>12.1%}", p99, extra


async def _spent(fan_out: Runnable[Any, Any]) -> list[float]:
    spent = []
    for number in range(_WARM_UP + _RUNS):
        began = time.perf_counter()
        await fan_out.ainvoke(1)
        if number >= _WARM_UP:
            spent.append(time.perf_counter() - began)
    return spent
