"""`invoke` and `ainvoke` of ten branches that cost little by themselves: plain, under a policy, under limits."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from langchain_core.rate_limiters import InMemoryRateLimiter
from langchain_core.runnables import RunnableParallel

from langchain_parallel_plus import (
    BranchPolicy,
    RateLimiter,
    RetryPolicy,
    RunnableParallelPlus,
    TimeoutPolicy,
    collect_report,
)
from langchain_parallel_plus.testing import ScriptedChatModel
from tests.benchmarks.engine.steps import bare, trivial
from tests.benchmarks.measure import atimed, in_turn, timed
from tests.benchmarks.table import PEER, time_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from langchain_core.runnables import Runnable

    from tests.benchmarks.measure import Spent
    from tests.benchmarks.table import Row

__all__ = ("limited_calls", "model_calls", "model_streams", "policy_calls", "reported_calls", "trivial_calls")

_WIDTH = 10
_POLICY = BranchPolicy(retry=RetryPolicy(), timeout=TimeoutPolicy(run_timeout=60))


def _limited(fan_out: RunnableParallelPlus[Any]) -> RunnableParallelPlus[Any]:
    """Put it under a policy and a limiter that never makes anybody wait."""
    return fan_out.with_policy(_POLICY).with_limits(RateLimiter(requests_per_minute=1e7, tokens_per_minute=1e10))


def _both_modes(
    name: str,
    ours: Runnable[Any, Any],
    theirs: Runnable[Any, Any],
    *,
    value: Any = 1,
    target: float | None = None,
    against: str = PEER,
    number: int = 10,
    repeats: int = 25,
) -> Iterator[Row]:
    sync = in_turn(timed(partial(ours.invoke, value), number), timed(partial(theirs.invoke, value), number), repeats)
    yield from time_rows(f"invoke, {name}", sync, target=target, against=against)
    tasks = in_turn(
        atimed(partial(ours.ainvoke, value), number), atimed(partial(theirs.ainvoke, value), number), repeats
    )
    yield from time_rows(f"ainvoke, {name}", tasks, target=target, against=against)


def trivial_calls() -> Iterator[Row]:
    """Without options."""
    steps = trivial(_WIDTH)
    ours, theirs = RunnableParallelPlus(steps), RunnableParallel(steps)
    yield from _both_modes(f"{_WIDTH} trivial branches", ours, theirs, target=1.0)
    steps = bare(_WIDTH)
    ours, theirs = RunnableParallelPlus(steps), RunnableParallel(steps)
    yield from _both_modes(f"{_WIDTH} branches that are no runs", ours, theirs, number=40)


def policy_calls() -> Iterator[Row]:
    """Under a retry and a timeout."""
    steps = trivial(_WIDTH)
    ours, theirs = RunnableParallelPlus(steps).with_policy(_POLICY), RunnableParallel(steps)
    yield from _both_modes(f"{_WIDTH} trivial branches, retry and timeout on", ours, theirs, target=1.25)


def reported_calls() -> Iterator[Row]:
    """Under a policy, while a report is collected: against the same calls that nobody listens to."""
    fan_out: RunnableParallelPlus[Any] = RunnableParallelPlus(trivial(_WIDTH)).with_policy(_POLICY)

    def reported() -> None:
        with collect_report():
            fan_out.invoke(1)

    async def areported() -> None:
        with collect_report():
            await fan_out.ainvoke(1)

    name, against = f"{_WIDTH} trivial branches, retry and timeout on, reported", "the same, not reported"
    sync = in_turn(timed(reported, 10), timed(partial(fan_out.invoke, 1), 10), 25)
    yield from time_rows(f"invoke, {name}", sync, against=against)
    tasks = in_turn(atimed(areported, 10), atimed(partial(fan_out.ainvoke, 1), 10), 25)
    yield from time_rows(f"ainvoke, {name}", tasks, against=against)


def limited_calls() -> Iterator[Row]:
    """Under a retry, a timeout and a rate limiter, which no branch asks for anything: only its set-up is measured."""
    steps = trivial(_WIDTH)
    ours, theirs = _limited(RunnableParallelPlus(steps)), RunnableParallel(steps)
    yield from _both_modes(f"{_WIDTH} trivial branches, limiter on, no model call", ours, theirs, target=1.25)


def model_calls() -> Iterator[Row]:
    """Each branch is a model call, admitted by the limiter and settled after it."""
    model = ScriptedChatModel(["an answer of some words"], cycle=True)
    steps = {f"b{i}": model for i in range(_WIDTH)}
    plain: RunnableParallel[Any] = RunnableParallel(steps)
    fan_out: RunnableParallelPlus[Any] = RunnableParallelPlus(steps)
    limited = _limited(fan_out)
    both = partial(_both_modes, value="a question", number=4, repeats=17)
    yield from both(f"{_WIDTH} model calls", fan_out, plain, target=1.0)
    yield from both(f"{_WIDTH} model calls, retry, timeout, limiter on", limited, plain, target=1.25)
    rate = InMemoryRateLimiter(requests_per_second=1e6, check_every_n_seconds=0.001, max_bucket_size=1e6)
    slowed = ScriptedChatModel(["an answer of some words"], cycle=True, rate_limiter=rate)
    rival: RunnableParallel[Any] = RunnableParallel({key: slowed.with_retry() for key in steps})
    name = f"{_WIDTH} model calls, retry, timeout, limiter on"
    yield from both(name, limited, rival, against="with_retry, InMemoryRateLimiter")


def model_streams() -> Iterator[Row]:
    """Each branch is a model's stream, admitted before its first word: what that costs a word."""
    words = 200
    model = ScriptedChatModel(["word " * words], cycle=True)
    steps = {f"b{i}": model for i in range(_WIDTH)}
    fan_out: RunnableParallelPlus[Any] = RunnableParallelPlus(steps)

    def measure(streamed: Runnable[Any, Any]) -> Callable[[], Spent]:
        async def drain() -> None:
            async for _ in streamed.astream("a question"):
                pass

        whole = atimed(drain, 1)
        return lambda: whole().per(words * _WIDTH)

    plain: RunnableParallel[Any] = RunnableParallel(steps)
    name = f"astream, {_WIDTH} models of {words} words"
    yield from time_rows(f"{name}, a word", in_turn(measure(fan_out), measure(plain), 7))
    limited = measure(_limited(fan_out))
    yield from time_rows(f"{name}, limiter on, a word", in_turn(limited, measure(plain), 7))
