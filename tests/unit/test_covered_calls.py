"""An attempt that a limiter was charged for covers the calls inside it that the same limiter governs."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from langchain_core.messages import AIMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.runnables import RunnableLambda

from langchain_parallel_plus import (
    BranchPolicy,
    HedgePolicy,
    LimiterTimeoutError,
    RateLimiter,
    RetryPolicy,
    RunnableParallelPlus,
    RunnableWithPolicy,
    TimeoutPolicy,
    collect_report,
)
from langchain_parallel_plus.limits import Cost
from langchain_parallel_plus.testing import ScriptedChatModel
from tests.modes import MODES, Mode

ALL = pytest.mark.parametrize("mode", MODES, ids=str)


def limiter(**limits: Any) -> RateLimiter:
    return RateLimiter(**{"requests_per_day": 1000, "clock": lambda: 100.0, **limits})


def model(**options: Any) -> ScriptedChatModel:
    return ScriptedChatModel(["well said"], cycle=True, **options)


def requests(limiter: RateLimiter) -> float:
    return 1000 - limiter.statistics().rates["requests_per_day"].available


def tokens(limiter: RateLimiter) -> float:
    return 100_000 - limiter.statistics().rates["tokens_per_day"].available


def idle(limiter: RateLimiter) -> bool:
    return (limiter.statistics().queued, limiter.statistics().in_flight) == (0, 0)


def twice(step: Any) -> RunnableLambda[Any, Any]:
    async def acall(value: Any) -> Any:
        await step.ainvoke(value)
        return await step.ainvoke(value)

    def call(value: Any) -> Any:
        step.invoke(value)
        return step.invoke(value)

    return RunnableLambda(call, acall)


@ALL
@pytest.mark.parametrize("slots", [None, 1])
async def test_a_model_call_under_the_fan_outs_limit_is_charged_once(mode: Mode, slots: int | None) -> None:
    quota = limiter(concurrency=slots)
    fan_out = RunnableParallelPlus(a=model()).with_limits(quota).with_policy(a=BranchPolicy(limiter=quota))
    assert (await mode.run(fan_out, "ask"))["a"].content == "well said"
    assert requests(quota) == pytest.approx(1)
    assert idle(quota)


@ALL
@pytest.mark.parametrize("within", ["policy", "fan-out", "both"])
async def test_a_model_with_the_same_limiter_is_charged_once(mode: Mode, within: str) -> None:
    quota = limiter(concurrency=1)
    step: Any = model(rate_limiter=quota)
    if within != "fan-out":
        step = RunnableWithPolicy(step, BranchPolicy(limiter=quota))
    if within != "policy":
        policy = BranchPolicy(limiter=quota)
        step = RunnableParallelPlus(a=step).with_limits(quota).with_policy(a=policy) | RunnableLambda(lambda x: x["a"])
    assert (await mode.run(step, "ask")).content == "well said"
    assert requests(quota) == pytest.approx(1)
    assert idle(quota)


@ALL
async def test_a_policy_inside_inherits_the_slot(mode: Mode) -> None:
    quota = limiter(concurrency=1)
    policy = BranchPolicy(limiter=quota)
    inner = RunnableParallelPlus(x=RunnableWithPolicy(RunnableLambda(str), policy)).with_policy(policy)
    assert await mode.run(RunnableParallelPlus(a=inner).with_policy(policy), "in") == {"a": {"x": "in"}}
    assert requests(quota) == pytest.approx(1)
    assert idle(quota)


@ALL
async def test_calls_beyond_what_the_attempt_has_paid_are_charged_and_hold_no_slot(mode: Mode) -> None:
    quota = limiter(concurrency=1)
    for cost, charged in ((None, 2), (Cost(requests=2), 2), (Cost(requests=5), 5)):
        before = requests(quota)
        fan_out = RunnableParallelPlus(a=twice(model())).with_limits(quota)
        await mode.run(fan_out.with_policy(a=BranchPolicy(limiter=quota, cost=cost)), "ask")
        assert requests(quota) - before == pytest.approx(charged)
    assert idle(quota)


@ALL
async def test_each_attempt_covers_its_own_calls(mode: Mode) -> None:
    quota, failures = limiter(concurrency=1), [ConnectionError("down"), ConnectionError("down")]

    def flaky(value: Any) -> Any:
        if failures:
            raise failures.pop()
        return value

    async def aflaky(value: Any) -> Any:
        return flaky(value)

    policy = BranchPolicy(limiter=quota, retry=RetryPolicy(initial_interval=0.001))
    step = model() | RunnableLambda(flaky, aflaky)
    await mode.run(RunnableParallelPlus(a=step).with_limits(quota).with_policy(a=policy), "ask")
    assert requests(quota) == pytest.approx(3)
    assert idle(quota)


@ALL
@pytest.mark.parametrize(("cost", "charged"), [(None, 30), (Cost(requests=1, tokens=7), 7)])
async def test_tokens_are_those_of_the_model_unless_the_attempt_s_cost_names_some(
    mode: Mode, cost: Cost | None, charged: float
) -> None:
    quota = limiter(tokens_per_day=100_000, provider="anthropic")
    usage = UsageMetadata(input_tokens=20, output_tokens=10, total_tokens=30)
    step = ScriptedChatModel([AIMessage("well", usage_metadata=usage)], cycle=True)
    fan_out = RunnableParallelPlus(a=step).with_limits(quota).with_policy(a=BranchPolicy(limiter=quota, cost=cost))
    await mode.run(fan_out, "ask")
    assert requests(quota) == pytest.approx(1)
    assert tokens(quota) == pytest.approx(charged)


@ALL
async def test_another_limiter_is_charged_as_ever(mode: Mode) -> None:
    mine, theirs = limiter(concurrency=1), limiter(concurrency=1)
    await mode.run(RunnableParallelPlus(a=model()).with_limits(theirs).with_policy(BranchPolicy(limiter=mine)), "ask")
    assert requests(mine) == pytest.approx(1)
    assert requests(theirs) == pytest.approx(1)
    assert idle(mine)
    assert idle(theirs)


@ALL
async def test_after_the_attempt_nothing_is_covered(mode: Mode) -> None:
    quota = limiter()
    step = RunnableWithPolicy(RunnableLambda(str), BranchPolicy(limiter=quota)) | model()
    await mode.run(RunnableParallelPlus(a=step).with_limits(quota), "ask")
    assert requests(quota) == pytest.approx(2)


@pytest.mark.looptime
async def test_unpaid_calls_keep_to_the_pace_while_others_queue_for_the_slot() -> None:
    now = asyncio.get_running_loop().time
    quota = RateLimiter(requests_per_minute=60, burst=1, concurrency=1, clock=now)
    sent: list[float] = []

    async def note(value: Any) -> Any:
        sent.append(now())
        return value

    step = RunnableWithPolicy(RunnableLambda(note), BranchPolicy(limiter=quota))
    branch = step | step | step
    fan_out = RunnableParallelPlus(a=branch, b=branch).with_policy(BranchPolicy(limiter=quota))
    await fan_out.ainvoke("x")
    assert [later - sent[0] for later in sent] == pytest.approx([0, 1, 2, 3, 4, 5], rel=0.05)
    assert idle(quota)


@pytest.mark.looptime
async def test_an_unpaid_call_that_cannot_be_made_in_time_is_refused_at_once() -> None:
    now = asyncio.get_running_loop().time
    quota = RateLimiter(requests_per_minute=1, burst=60, clock=now)

    async def same(value: Any) -> Any:
        return value

    step = RunnableWithPolicy(RunnableLambda(same), BranchPolicy(limiter=quota))
    policy = BranchPolicy(limiter=quota, timeout=TimeoutPolicy(run_timeout=5))
    with pytest.raises(LimiterTimeoutError):
        await RunnableParallelPlus(a=step | step).with_policy(policy).ainvoke("x")
    assert now() == 0


@pytest.mark.looptime
async def test_a_call_inside_does_not_wait_for_the_answer_that_it_is_itself_to_bring() -> None:
    """At a quota that nobody knows one attempt goes first, and its model call tells what the headers say."""
    now = asyncio.get_running_loop().time
    quota = RateLimiter.from_headers(clock=now)
    fan_out = RunnableParallelPlus(a=model()).with_limits(quota).with_policy(BranchPolicy(limiter=quota))
    await fan_out.ainvoke("ask")
    assert now() == 0


@pytest.mark.looptime
async def test_a_models_own_wait_that_is_cancelled_takes_nothing() -> None:
    now = asyncio.get_running_loop().time
    quota = RateLimiter(requests_per_minute=60, burst=1, clock=now)
    step = twice(model(rate_limiter=quota))
    task = asyncio.ensure_future(RunnableWithPolicy(step, BranchPolicy(limiter=quota)).ainvoke("ask"))
    await asyncio.sleep(0.5)
    assert quota.expected_wait() == pytest.approx(1.5, rel=0.02)
    task.cancel()
    await asyncio.wait([task])
    assert quota.expected_wait() == pytest.approx(0.5, rel=0.05)


@pytest.mark.looptime
async def test_a_hedge_inside_waits_for_nothing() -> None:
    now = asyncio.get_running_loop().time
    quota = RateLimiter(requests_per_minute=60, burst=1, concurrency=1, clock=now)
    called: list[float] = []

    async def slow(value: Any) -> Any:
        called.append(now())
        await asyncio.sleep(5)
        return value

    inner = RunnableWithPolicy(RunnableLambda(slow), BranchPolicy(limiter=quota, hedge=HedgePolicy(delay=2)))
    await RunnableParallelPlus(a=inner).with_policy(BranchPolicy(limiter=quota)).ainvoke("x")
    assert called == [0, 2]
    assert idle(quota)


@ALL
async def test_a_key_that_was_closed_meanwhile_lets_no_covered_call_pass(mode: Mode) -> None:
    quota = limiter()

    def close(value: Any) -> Any:
        quota.close("out of credit")
        return value

    step = RunnableLambda(close) | model()
    fan_out = RunnableParallelPlus(a=step).with_limits(quota)
    with pytest.raises(Exception, match="out of credit"):
        await mode.run(fan_out.with_policy(BranchPolicy(limiter=quota)), "ask")


@pytest.mark.looptime
async def test_an_unpaid_wait_at_a_models_own_limiter_is_told_and_takes_nothing_of_the_attempts_time() -> None:
    now = asyncio.get_running_loop().time
    quota = RateLimiter(requests_per_minute=60, burst=1, clock=now)
    policy = BranchPolicy(limiter=quota, timeout=TimeoutPolicy(attempt_timeout=0.5))
    fan_out = RunnableParallelPlus(a=twice(model(rate_limiter=quota))).with_policy(policy)
    with collect_report() as report:
        assert (await fan_out.ainvoke("ask"))["a"].content == "well said"
    [told] = report.fan_outs[0].branches.values()
    assert now() == pytest.approx(1.0, rel=0.05)
    assert told.wait == pytest.approx(1.0, rel=0.05)
    assert {one.limiter for one in told.wait_log if one.ended > one.started} == {quota.name}
