"""A comparison says what it has compared, and what its numbers cannot tell."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from langchain_core.runnables import RunnableBranch, RunnableLambda, RunnablePassthrough

from langchain_parallel_plus import (
    BranchPolicy,
    RateLimiter,
    RetryPolicy,
    RunnableParallelPlus,
    RunnableWithPolicy,
)
from langchain_parallel_plus.observe import compare
from langchain_parallel_plus.observe.correlation import here
from langchain_parallel_plus.observe.refill import limiters_of
from langchain_parallel_plus.synthesis import MapReduce

Chain = Callable[[RunnableParallelPlus[Any]], Any]

AROUND: dict[str, Chain] = {
    "retry": lambda fan_out: fan_out.with_retry(),
    "fallbacks": lambda fan_out: fan_out.with_fallbacks([RunnableLambda(str)]),
    "as a fallback": lambda fan_out: RunnablePassthrough().with_fallbacks([fan_out]),
    "policy": lambda fan_out: RunnableWithPolicy(fan_out, BranchPolicy(retry=RetryPolicy(max_attempts=2))),
    "map": lambda fan_out: RunnableLambda(lambda value: [value]) | fan_out.map(),
    "branch": lambda fan_out: RunnableBranch((lambda _: True, fan_out), fan_out),
    "assign": lambda fan_out: RunnableLambda(lambda value: {"in": value}) | RunnablePassthrough.assign(out=fan_out),
    "config": lambda fan_out: fan_out.with_config(tags=["tagged"]),
    "mapper": lambda fan_out: RunnableLambda(lambda value: [value]) | MapReduce(fan_out, len),
    "reducer": lambda fan_out: RunnableLambda(lambda value: [value]) | MapReduce(RunnableLambda(str), fan_out),
    "all of them": lambda fan_out: RunnableWithPolicy(
        fan_out.with_retry(), BranchPolicy(retry=RetryPolicy())
    ).with_fallbacks([RunnableLambda(str)]),
}


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("around", AROUND)
def test_a_fan_out_is_replaced_wherever_it_can_be_seen(around: str, nested: bool) -> None:
    calls: list[bool] = []

    def step(value: Any) -> Any:
        calls.append(here() is not None)
        return value

    chain = AROUND[around](RunnableParallelPlus(a=step))
    told = compare(RunnableParallelPlus(x=chain) if nested else chain, ["in"], warm_up=False)
    if around != "as a fallback":  # which is not called
        alone, plain, ours = calls
        assert (alone, ours) == (True, True)
        assert plain == (around in ("policy", "all of them"))  # a policy stays one
    assert told.parallel.left == 0
    assert "RunnableParallelPlus in it" not in told.verdict


@pytest.mark.parametrize("around", AROUND)
def test_its_limiters_are_found_there_too(around: str) -> None:
    limiter = RateLimiter(requests_per_minute=60)
    assert limiters_of(AROUND[around](RunnableParallelPlus(a=len, limits=limiter))) == (limiter,)


def test_a_map_reduce_is_compared_with_the_same_over_upstream_s_class() -> None:
    seen: list[bool] = []

    def mapper(value: str) -> int:
        seen.append(here() is not None)
        return len(value)

    limiter = RateLimiter(requests_per_minute=6000)
    chain = MapReduce(mapper, lambda lengths: sum(lengths.values()), limits=limiter)
    told = compare(chain, [["one", "three"]], warm_up=False)
    assert seen == [True, True, False, False, True, True]
    assert [way.failed for way in told.ways] == [0, 0, 0]
    assert told.parallel.left == 0
    assert limiters_of(chain) == (limiter,)
    assert not chain._upstream


def test_what_cannot_be_replaced_is_said() -> None:
    hidden = RunnableParallelPlus(a=len)
    told = compare(RunnableParallelPlus(x=lambda value: hidden.invoke(value)), ["in"])
    assert told.parallel.left == 1
    assert (
        "mind that the way called RunnableParallel has 1 run of RunnableParallelPlus in it, "
        "called where it cannot be replaced, such as in a function"
    ) in told.verdict
