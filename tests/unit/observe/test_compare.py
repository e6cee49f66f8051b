"""Whether parallelising pays, as measured."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest
from langchain_core.runnables import RunnableLambda, RunnableParallel, RunnablePassthrough

from langchain_parallel_plus import BranchPolicy, DeclarationError, RateLimiter, RunnableParallelPlus
from langchain_parallel_plus.observe import acompare, compare
from langchain_parallel_plus.testing import ScriptedChatModel


async def _second(value: Any) -> Any:
    await asyncio.sleep(1)
    return value


@pytest.mark.looptime
async def test_independent_branches_pay() -> None:
    chain = RunnableParallelPlus(a=_second, b=_second, c=_second) | RunnableLambda(len)
    told = await acompare(chain, ["in"])
    assert told.sequential.seconds == pytest.approx(3)
    assert told.parallel.seconds == told.ours.seconds == pytest.approx(1)
    assert told.speedup == pytest.approx(3)
    assert told.pays
    assert told.verdict == "parallelise: it is 3.00x as fast as one after another"
    assert "one after another" in str(told)
    assert "3.00 s" in told._repr_html_()


@pytest.mark.looptime
async def test_a_bottleneck_that_all_share_does_not_pay() -> None:
    lock = asyncio.Lock()

    async def alone(value: Any) -> Any:
        async with lock:
            return await _second(value)

    told = await acompare(RunnableParallelPlus(a=alone, b=alone), ["in"])
    assert not told.pays
    assert told.verdict.startswith("do not parallelise: it is 1.00x")


async def test_a_quota_that_allows_no_more_does_not_pay() -> None:
    model = ScriptedChatModel(["well"], cycle=True, latency=0.05)
    limiter = RateLimiter(requests_per_minute=1200, burst=0.05, name="slow quota")
    told = await acompare(RunnableParallelPlus({f"b{i}": model for i in range(10)}).with_limits(limiter), ["in"])
    assert not told.pays
    assert "the limits are the bottleneck" in told.verdict


@pytest.mark.looptime
async def test_ways_that_fail_are_counted_and_not_praised() -> None:
    running = 0

    async def crowded(value: Any) -> Any:
        nonlocal running
        running += 1
        try:
            await asyncio.sleep(1)
            if running > 1:
                raise ConnectionError("too many at once")
            return value
        finally:
            running -= 1

    told = await acompare(RunnableParallelPlus(a=crowded, b=crowded), ["in"])
    assert (told.sequential.failed, told.ours.failed) == (0, 1)
    assert told.speedup is None
    assert told.verdict == "do not parallelise: 1 of 1 inputs fail, one after another 0 do"


def test_threads_are_compared_too() -> None:
    told = compare(RunnablePassthrough.assign(b=RunnableParallelPlus(a=len, b=len)), [{"x": 1}, {"y": 2}])
    assert [way.inputs for way in told.ways] == [2, 2, 2]
    assert not any(way.failed for way in told.ways)


def test_work_of_no_length_does_not_pay() -> None:
    told = compare(RunnableParallelPlus(a=len, b=len), ["in"])
    assert not told.pays
    assert "too short" in told.verdict


@pytest.mark.parametrize("inputs", ["text", {"document": "x"}, [], None])
def test_inputs_that_are_no_list_are_refused(inputs: Any) -> None:
    with pytest.raises(DeclarationError, match="compare"):
        compare(RunnableParallelPlus(a=len), inputs)


def test_a_chain_without_a_fan_out_of_ours_is_refused() -> None:
    with pytest.raises(DeclarationError, match="no RunnableParallelPlus"):
        compare(RunnableParallel(a=len), ["in"])


def test_a_chain_whose_branches_fail_at_once_is_no_gain() -> None:
    lock = threading.Lock()

    def alone(value: Any) -> Any:
        if not lock.acquire(blocking=False):
            raise ConnectionError("busy")
        try:
            time.sleep(0.05)
            return value
        finally:
            lock.release()

    policy = BranchPolicy(on_failure="keep")
    compared = compare(RunnableParallelPlus({f"b{place}": alone for place in range(4)}).with_policy(policy), ["x"])
    assert (compared.sequential.failed, compared.ours.failed) == (0, 1)
    assert compared.verdict.startswith("do not parallelise: 1 of 1 inputs fail")
