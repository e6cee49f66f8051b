"""A comparison says what it has compared, and what its numbers cannot tell."""

from __future__ import annotations

import asyncio
import logging
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
from langchain_parallel_plus.observe import acompare, compare
from langchain_parallel_plus.observe.correlation import here
from langchain_parallel_plus.observe.refill import limiters_of
from langchain_parallel_plus.synthesis import MapReduce
from tests.unit.observe.crowded import only_one_at_once

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


async def _second(value: Any) -> Any:
    await asyncio.sleep(1)
    return value


@pytest.mark.looptime
async def test_of_what_a_cache_answers_no_advice_is_given() -> None:
    known: set[Any] = set()

    async def cached(value: Any) -> Any:
        if value not in known:
            await asyncio.sleep(5)
            known.add(value)
        await asyncio.sleep(0.1)
        return value

    told = await acompare(RunnableParallelPlus(a=cached, b=cached), ["in"])
    assert told.cached
    assert told.verdict.startswith(
        "nothing can be said of time: the call before took 5.10 s, and then all inputs one after another 0.2000 s, so a"
    )
    unfilled = await acompare(RunnableParallelPlus(a=_second, b=_second), ["in"])
    assert not unfilled.cached


@pytest.mark.looptime
async def test_a_call_before_that_waited_for_quota_is_no_sign_of_a_cache() -> None:
    limiter = RateLimiter(requests_per_minute=6, burst=10, clock=asyncio.get_running_loop().time)
    limiter.pause(100)
    chain = RunnableParallelPlus(a=_second).with_policy(BranchPolicy(limiter=limiter))
    assert not (await acompare(chain, ["in"])).cached


@pytest.mark.looptime
async def test_what_a_batch_brings_is_not_put_down_to_a_fan_out_of_one_branch() -> None:
    told = await acompare(RunnableParallelPlus(a=_second), [1, 2, 3])
    assert told.verdict == (
        "parallelise: it is 3.00x as fast as one after another, by running inputs at once as a batch: "
        "the fan-out, of one branch, adds nothing to it"
    )
    two = await acompare(RunnableParallelPlus(a=_second, b=_second), [1, 2, 3])
    assert "batch" not in two.verdict


@pytest.mark.looptime
@pytest.mark.parametrize("on_failure", ["drop", "keep"])
async def test_a_branch_that_may_fail_and_does_each_way_leaves_something_to_compare(on_failure: Any) -> None:
    async def fails(value: Any) -> Any:
        raise ValueError(value)

    fan_out = RunnableParallelPlus(a=_second, b=_second, c=fails).with_policy(BranchPolicy(on_failure=on_failure))
    told = await acompare(fan_out, ["in"])
    assert [(way.failed, way.gaps, way.raised, way.missing) for way in (told.sequential, told.ours)] == [
        (1, 1, 0, 1)
    ] * 2
    assert told.speedup == pytest.approx(2)
    assert told.pays
    assert told.verdict == (
        "parallelise: it is 2.00x as fast as one after another; with RunnableParallel 1 of 1 inputs fail; "
        "mind that 1 branch failed and no result has them, both ways"
    )
    assert "1 of 1 ok, 1 with gaps" in str(told)
    assert "1 of 1 ok, 1 with gaps" in told._repr_html_()


@pytest.mark.looptime
async def test_more_failed_branches_are_no_gain() -> None:
    crowded = only_one_at_once()

    async def fails(value: Any) -> Any:
        raise ValueError(value)

    fan_out = RunnableParallelPlus(a=crowded, b=crowded, c=fails).with_policy(BranchPolicy(on_failure="drop"))
    told = await acompare(fan_out, ["in"])
    assert not told.pays
    assert told.verdict == "do not parallelise: 2 branches failed, one after another 1"
    needed = await acompare(fan_out.with_policy(a=BranchPolicy(required=True)), ["in"])
    assert not needed.pays
    assert needed.verdict.startswith("do not parallelise: 1 of 1 inputs get no result, one after another 0")


@pytest.mark.looptime
async def test_the_limit_that_held_it_up_is_named_as_the_reason() -> None:
    limiter = RateLimiter(requests_per_minute=60, burst=1, name="search", clock=asyncio.get_running_loop().time)
    charged = BranchPolicy(limiter=limiter)
    fan_out = RunnableParallelPlus(a=RunnableWithPolicy(_second, charged), b=RunnableWithPolicy(_second, charged))
    chain = fan_out | RunnableLambda(_slow)
    told = await acompare(chain, ["in"])
    assert told.verdict.startswith("do not parallelise: it is 1.00x as fast as one after another; search (requests_per")
    assert "too short" not in told.verdict


async def _slow(value: Any) -> Any:
    await asyncio.sleep(2)
    return value


@pytest.mark.looptime
async def test_a_rest_is_announced(caplog: pytest.LogCaptureFixture) -> None:
    limiter = RateLimiter(requests_per_minute=6, burst=20, name="search", clock=asyncio.get_running_loop().time)
    chain = RunnableParallelPlus(a=_second, b=_second).with_policy(BranchPolicy(limiter=limiter))
    with caplog.at_level(logging.INFO, logger="langchain_parallel_plus"):
        await acompare(chain, ["in"], refill_timeout=60)
    told = [record.message for record in caplog.records if "rests" in record.message]
    assert len(told) == 3
    assert all("at most 60 s, for the quota: search (requests_per_minute)" in one for one in told[:2])
