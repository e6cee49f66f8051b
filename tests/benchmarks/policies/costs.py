"""The price of policies for a call that succeeds at once: all in a fan-out, and each alone beside its rivals."""

from __future__ import annotations

import asyncio
import statistics
import time
from typing import TYPE_CHECKING, Any

import stamina
import tenacity
from langchain_core.runnables import Runnable, RunnableLambda, RunnableParallel

from langchain_parallel_plus import (
    BranchPolicy,
    CircuitBreaker,
    HedgePolicy,
    RetryBudget,
    RetryPolicy,
    RunnableParallelPlus,
    RunnableWithPolicy,
    TimeoutPolicy,
)
from tests.benchmarks.engine.steps import trivial
from tests.benchmarks.measure import atimed, in_turn, settled, timed
from tests.benchmarks.table import HEADER, time_rows

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

__all__ = ("full_policy", "single_policies")

_WIDTH = 10
_CALLS, _REPEATS = 300, 15
_FULL = BranchPolicy(
    retry=RetryPolicy(budget=RetryBudget()),
    timeout=TimeoutPolicy(run_timeout=60, attempt_timeout=30),
    hedge=HedgePolicy(delay=10.0),
    breaker=CircuitBreaker(),
)
_SINGLE = {
    "RetryPolicy": BranchPolicy(retry=RetryPolicy()),
    "RetryPolicy with a RetryBudget": BranchPolicy(retry=RetryPolicy(budget=RetryBudget())),
    "TimeoutPolicy": BranchPolicy(timeout=TimeoutPolicy(attempt_timeout=30)),
    "CircuitBreaker": BranchPolicy(breaker=CircuitBreaker()),
    "HedgePolicy": BranchPolicy(hedge=HedgePolicy(delay=10.0)),
    "HedgePolicy, p95": BranchPolicy(hedge=HedgePolicy("p95")),
    "all of them": _FULL,
}


def full_policy() -> Iterator[object]:
    """A fan-out under retry, budget, timeouts, hedging and a breaker, against RunnableParallel."""
    yield HEADER
    steps = trivial(_WIDTH)
    plain: RunnableParallel[Any] = RunnableParallel(steps)
    ours = RunnableParallelPlus(steps).with_policy(_FULL)
    name = f"{_WIDTH} trivial branches, all policies on"
    sync = in_turn(timed(lambda: ours.invoke(1), 10), timed(lambda: plain.invoke(1), 10), 25)
    yield from time_rows(f"invoke, {name}", sync, target=1.25)
    tasks = in_turn(atimed(lambda: ours.ainvoke(1), 10), atimed(lambda: plain.ainvoke(1), 10), 25)
    yield from time_rows(f"ainvoke, {name}", tasks, target=1.25)


def single_policies() -> Iterator[object]:
    """What one call takes beyond the call alone: under each policy, langchain-core's, tenacity's, stamina's."""
    yield "Microseconds that a policy adds to a call that succeeds (CPU, median; sync timeouts and hedges use a thread)"
    yield f"  {'':<44} {'invoke':>8} {'ainvoke':>8}"
    sync, tasks = _in_threads(), _in_tasks()
    bare, abare = _median(sync, "nothing"), asyncio.run(_amedian(tasks, "nothing"))
    for name in sync:
        if name != "nothing":
            added = _median(sync, name) - bare, asyncio.run(_amedian(tasks, name)) - abare
            yield f"  {name:<44} {added[0] * 1e6:>8.1f} {added[1] * 1e6:>8.1f}"


def _work(value: int) -> int:
    return value


async def _awork(value: int) -> int:
    return value


class _Step(Runnable[int, int]):
    """As little as a runnable can be."""

    def invoke(self, input: int, config: Any = None, **kwargs: Any) -> int:
        return input

    async def ainvoke(self, input: int, config: Any = None, **kwargs: Any) -> int:
        return input


def _in_threads() -> dict[str, Callable[[int], object]]:
    step = _Step()
    ours = {name: RunnableWithPolicy(step, policy).invoke for name, policy in _SINGLE.items()}
    return {
        "nothing": step.invoke,
        "a run of its own (a bare RunnableLambda)": RunnableLambda(_work, _awork).invoke,
        **ours,
        "with_retry, langchain-core": step.with_retry().invoke,
        "with_fallbacks, langchain-core": step.with_fallbacks([step]).invoke,
        "tenacity.retry on a plain function": tenacity.retry(stop=tenacity.stop_after_attempt(3))(_work),
        "stamina.retry on a plain function": stamina.retry(on=ConnectionError)(_work),
    }


def _in_tasks() -> dict[str, Callable[[int], Awaitable[object]]]:
    step = _Step()
    ours = {name: RunnableWithPolicy(step, policy).ainvoke for name, policy in _SINGLE.items()}
    return {
        "nothing": step.ainvoke,
        "a run of its own (a bare RunnableLambda)": RunnableLambda(_work, _awork).ainvoke,
        **ours,
        "with_retry, langchain-core": step.with_retry().ainvoke,
        "with_fallbacks, langchain-core": step.with_fallbacks([step]).ainvoke,
        "tenacity.retry on a plain function": tenacity.retry(stop=tenacity.stop_after_attempt(3))(_awork),
        "stamina.retry on a plain function": stamina.retry(on=ConnectionError)(_awork),
    }


def _median(calls: dict[str, Callable[[int], object]], name: str) -> float:
    call, spent = calls[name], []
    for _ in range(_REPEATS):
        with settled():
            began = time.process_time()
            for _ in range(_CALLS):
                call(1)
            spent.append((time.process_time() - began) / _CALLS)
    return statistics.median(spent)


async def _amedian(calls: dict[str, Callable[[int], Awaitable[object]]], name: str) -> float:
    call, spent = calls[name], []
    for _ in range(_REPEATS):
        with settled():
            began = time.process_time()
            for _ in range(_CALLS):
                await call(1)
            spent.append((time.process_time() - began) / _CALLS)
    return statistics.median(spent)
