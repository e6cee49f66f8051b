"""Whether parallelising pays, as measured."""

from __future__ import annotations

import asyncio
import itertools
import re
import threading
import time
from typing import Any

import pytest
from langchain_core.runnables import RunnableConfig, RunnableLambda, RunnableParallel, RunnablePassthrough

from langchain_parallel_plus import (
    BranchPolicy,
    DeclarationError,
    JoinPolicy,
    RateLimiter,
    RunnableParallelPlus,
    TimeoutPolicy,
)
from langchain_parallel_plus.observe import acompare, compare
from langchain_parallel_plus.observe.correlation import here
from langchain_parallel_plus.testing import ScriptedChatModel
from tests.unit.observe.crowded import only_one_at_once


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


@pytest.mark.looptime
async def test_a_quota_that_allows_no_more_does_not_pay() -> None:
    model = ScriptedChatModel(["well"], cycle=True, latency=1)
    limiter = RateLimiter(requests_per_minute=60, burst=1, name="slow quota", clock=asyncio.get_running_loop().time)
    told = await acompare(RunnableParallelPlus({f"b{i}": model for i in range(10)}).with_limits(limiter), ["in"])
    assert not told.pays
    assert "the limits are the bottleneck" in told.verdict


@pytest.mark.looptime
async def test_ways_that_fail_are_counted_and_not_praised() -> None:
    crowded = only_one_at_once()
    told = await acompare(RunnableParallelPlus(a=crowded, b=crowded), ["in"])
    assert (told.sequential.failed, told.ours.failed) == (0, 1)
    assert told.speedup is None
    assert told.verdict == "do not parallelise: 1 of 1 inputs fail, one after another 0 do"


def test_threads_are_compared_too() -> None:
    told = compare(RunnablePassthrough.assign(b=RunnableParallelPlus(a=len, b=len)), [{"x": 1}, {"y": 2}])
    assert [way.inputs for way in told.ways] == [2, 2, 2]
    assert not any(way.failed for way in told.ways)


@pytest.mark.looptime
async def test_work_of_no_length_does_not_pay() -> None:
    async def short(value: Any) -> Any:
        await asyncio.sleep(0.002)
        return value

    told = await acompare(RunnableParallelPlus(a=short, b=short), ["in"])
    assert not told.pays
    assert told.verdict == "do not parallelise: it saves 0.0020 s; the branches are too short"


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


def _limited(**limits: Any) -> RunnableParallelPlus[Any]:
    """Five branches of a second each, under a limit."""
    limiter = RateLimiter(clock=asyncio.get_running_loop().time, **limits)
    return RunnableParallelPlus({f"b{i}": _second for i in range(5)}).with_policy(BranchPolicy(limiter=limiter))


@pytest.mark.looptime
async def test_each_way_begins_with_a_full_quota() -> None:
    chain = _limited(requests_per_minute=6, burst=50)  # five at once, and then one in ten seconds
    told = await acompare(chain, ["in"])
    assert told.sequential.seconds == pytest.approx(5)
    assert told.ours.seconds == pytest.approx(1)  # what the first way has used is there again
    assert told.verdict == "parallelise: it is 5.00x as fast as one after another"
    assert told.rested > 3 * 40  # the warm-up's, the first way's, and what upstream's class used without asking
    assert "of rest for the quota, which all ways share" in str(told)
    assert "of rest for the quota, which all ways share" in told._repr_html_()


@pytest.mark.looptime
async def test_what_began_with_less_than_its_quota_says_so() -> None:
    chain = _limited(requests_per_minute=6, burst=50)
    told = await acompare(chain, ["in"], refill_timeout=0)
    assert told.rested == 0
    assert told.ours.short_of == ("unnamed (requests_per_minute)",)
    assert (
        "mind that in parallel it began with less than the full quota of unnamed (requests_per_minute)" in told.verdict
    )


@pytest.mark.looptime
async def test_a_day_s_quota_is_not_waited_for() -> None:
    told = await acompare(_limited(requests_per_day=1000), ["in"])
    assert told.rested == 0
    assert told.verdict == "parallelise: it is 5.00x as fast as one after another"


@pytest.mark.looptime
async def test_a_way_that_waits_for_quota_says_so() -> None:
    told = await acompare(_limited(requests_per_minute=60, burst=1), ["in"])
    assert told.ours.waited == pytest.approx(4, rel=0.05)  # of the last one
    assert told.sequential.waited == pytest.approx(0, abs=0.1)  # there is work for all of the time
    assert told.verdict.startswith("do not parallelise: it is 1.00x")
    assert re.search(
        r"; mind that rate limits took (0\.0. s one after another and )?4\.\d\d s in parallel$", told.verdict
    )


@pytest.mark.looptime
@pytest.mark.parametrize("warm_up", [True, False])
async def test_no_way_pays_for_a_cold_start(warm_up: bool) -> None:
    cold = [True]

    async def connecting(value: Any) -> Any:
        if cold:
            cold.clear()
            await asyncio.sleep(20)
        return await _second(value)

    told = await acompare(RunnableParallelPlus(a=connecting, b=connecting), ["in"], warm_up=warm_up)
    assert told.sequential.seconds == pytest.approx(2 if warm_up else 22)
    assert ("after one call that is not counted" in told.conditions) == warm_up
    assert told.speedup == pytest.approx(2 if warm_up else 22)


@pytest.mark.looptime
async def test_ways_that_are_repeated_take_turns_and_their_medians_count() -> None:
    ways: list[str] = []
    seconds = itertools.chain([9, 1, 5], itertools.repeat(1))

    async def step(value: Any, config: RunnableConfig) -> Any:
        place = here()
        alone = config.get("max_concurrency") == 1
        ways.append("plain" if place is None else "alone" if alone else "ours")
        await asyncio.sleep(next(seconds) if alone else 1)
        return value

    told = await acompare(RunnableParallelPlus(a=step, b=RunnableLambda(len)), ["in"], repeats=3)
    assert ways == ["ours", "alone", "plain", "ours", "plain", "ours", "alone", "ours", "alone", "plain"]
    assert told.sequential.runs == (9, 1, 5)
    assert told.sequential.seconds == 5
    assert told.sequential.inputs == 3
    assert told.verdict.endswith("mind that the times of single runs overlap: repeat it more often") is False
    assert "each way 3 times, in turn: medians" in str(told)


@pytest.mark.looptime
async def test_times_that_overlap_are_no_clear_answer() -> None:
    seconds = itertools.cycle([1, 9])

    async def unsteady(value: Any) -> Any:
        await asyncio.sleep(next(seconds))
        return value

    told = await acompare(RunnableParallelPlus(a=unsteady, b=_second, c=_second), ["in"], repeats=4, warm_up=False)
    assert "the times of single runs overlap" in told.verdict


@pytest.mark.looptime
@pytest.mark.parametrize("policy", [None, BranchPolicy(timeout=TimeoutPolicy(run_timeout=60))])
async def test_what_a_join_s_deadline_cuts_off_is_said(policy: BranchPolicy | None) -> None:
    fan_out = RunnableParallelPlus({f"b{i}": _second for i in range(4)}, join=JoinPolicy(min_success=1, deadline=2.5))
    told = await acompare(fan_out if policy is None else fan_out.with_policy(policy), ["in"])
    assert (told.sequential.cut_off, told.ours.cut_off) == (2, 0)
    assert told.verdict == (
        "parallelise: 1 of 1 inputs succeed, one after another 0 do; "
        "mind that one after another the join's deadline cut 2 branches off"
    )


def test_threads_rest_for_the_quota_too() -> None:
    limiter = RateLimiter(requests_per_minute=1200, burst=0.1)
    model = ScriptedChatModel(["well"], cycle=True)
    told = compare(RunnableParallelPlus(a=model, b=model).with_limits(limiter), ["in"], repeats=2)
    assert told.rested > 0.1  # two calls are a tenth of a second's quota, which five ways find used
    assert [len(way.runs) for way in told.ways] == [2, 2, 2]
    assert [way.short_of for way in told.ways] == [(), (), ()]


@pytest.mark.parametrize("wrong", [{"repeats": 0}, {"repeats": 1.5}, {"refill_timeout": -1}, {"refill_timeout": None}])
def test_numbers_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    def called(_: Any) -> None:
        raise AssertionError("called")

    with pytest.raises(DeclarationError, match=next(iter(wrong))):
        compare(RunnableParallelPlus(a=called), ["in"], **wrong)


@pytest.mark.looptime
async def test_upstream_s_class_is_only_said_to_be_faster_where_a_limit_holds_ours_up() -> None:
    held_up = await acompare(_limited(requests_per_minute=60, burst=4, provider="openai"), ["in"])
    assert held_up.ours.waited > 0.5
    assert held_up.verdict.startswith("parallelise: ")
    assert "RunnableParallel is 2." in held_up.verdict
    assert "as fast again: no limit held it up; mind that rate limits took" in held_up.verdict
    free = await acompare(RunnableParallelPlus(a=_second, b=_second), ["in"])
    assert "no limit" not in free.verdict
