"""What time is lost by, where calls wait for limiters: also for several, and also those that are never admitted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatResult

from langchain_parallel_plus import (
    BranchPolicy,
    JoinPolicy,
    RateLimiter,
    RetryPolicy,
    RunnableParallelPlus,
    TimeoutPolicy,
    collect_report,
)
from langchain_parallel_plus.observe import FanOutReport
from langchain_parallel_plus.testing import ScriptedChatModel
from tests.modes import Mode


class SlowModel(GenericFakeChatModel):
    """Answers after one second of the loop's time."""

    async def _agenerate(self, *args: object, **kwargs: object) -> ChatResult:
        await asyncio.sleep(1)
        return self._generate(*args, **kwargs)  # type: ignore[arg-type]


def _models(count: int, *limiters: RateLimiter) -> RunnableParallelPlus[Any]:
    model = SlowModel(messages=iter([AIMessage("well")] * 20))
    return RunnableParallelPlus({f"b{i}": model for i in range(count)}).with_limits(*limiters)


def _charged(count: int, *limiters: RateLimiter) -> RunnableParallelPlus[Any]:
    async def second(_: Any) -> str:
        await asyncio.sleep(1)
        return "well"

    [limiter] = limiters
    return RunnableParallelPlus({f"b{i}": second for i in range(count)}).with_policy(BranchPolicy(limiter=limiter))


def _limiter(per_minute: float, **options: Any) -> RateLimiter:
    return RateLimiter(requests_per_minute=per_minute, clock=asyncio.get_running_loop().time, **options)


async def _reported(step: Any) -> FanOutReport:
    with collect_report() as report:
        await step.ainvoke("in")
    [told] = report.fan_outs
    for one in told.measures.branches.values():
        assert one.useful + sum(one.lost.values()) == pytest.approx(one.timeline.branch.seconds)
    return told


@pytest.mark.looptime
async def test_two_limiters_of_one_call_are_one_wait_and_the_slower_one_is_the_floor() -> None:
    quick, slow = _limiter(60, burst=1, name=None), _limiter(30, burst=2, name="the slow one")
    told = await _reported(_models(10, quick, slow))
    assert told.seconds == pytest.approx(19, rel=0.03)
    assert told.measures.speedup == pytest.approx(10 / 19, rel=0.03)
    assert told.measures.limit_efficiency == pytest.approx(1, rel=0.03)
    assert told.measures.floor == pytest.approx(19, rel=0.03)  # of both together no time is counted twice
    assert told.measures.lost["wait"] == pytest.approx(18, rel=0.03)
    assert told.measures.lost["overhead"] == pytest.approx(0, abs=0.01)
    uses = {use.limiter: (use.used, use.share) for use in told.measures.limiter_use}
    assert uses["the slow one"] == (10, pytest.approx(1, rel=0.1))
    assert uses["unnamed"] == (10, pytest.approx(0.5, rel=0.1))


@pytest.mark.looptime
@pytest.mark.parametrize("made", [_models, _charged])
async def test_a_branch_that_is_given_up_while_it_waits_has_waited(made: Callable[..., Any]) -> None:
    told = await _reported(made(4, _limiter(30, burst=2)).with_join(JoinPolicy(wait_for=2)))
    for name in ("b2", "b3"):
        lost = told.measures.branches[name,].lost
        assert lost["wait"] == pytest.approx(told.seconds)
        assert lost["wasted"] == told.measures.branches[name,].wasted == 0
        [wait] = told.branches[name,].wait_log
        assert (wait.admitted, wait.dimension) == (False, "not admitted")
        assert told.branches[name,].calls == 0
    assert told.measures.critical == ("b1",)  # the last that was waited for
    assert told.measures.straggler == pytest.approx(1)
    assert told.measures.utilisation == pytest.approx(2 / (4 * 3), rel=0.03)
    assert [use.used for use in told.measures.limiter_use] == [2]
    assert told.measures.limit_efficiency == pytest.approx(1, rel=0.03)


@pytest.mark.looptime
async def test_an_attempt_that_times_out_while_it_waits_has_waited_and_what_comes_after_is_its_own() -> None:
    limiter = _limiter(30, burst=2)
    policy = BranchPolicy(
        timeout=TimeoutPolicy(run_timeout=2.5), retry=RetryPolicy(initial_interval=1, jitter=False), on_failure="keep"
    )
    told = await _reported(_models(3, limiter).with_policy(policy))
    third = told.measures.branches["b2",]
    assert third.lost["wait"] == pytest.approx(third.timeline.branch.seconds, abs=0.01)
    assert third.lost["wasted"] == pytest.approx(0, abs=0.01)


@pytest.mark.looptime
async def test_a_call_that_is_cancelled_with_its_attempt_hides_no_wait_after_it() -> None:
    limiter = _limiter(60, burst=1)
    slow = [True]

    class OnceSlow(SlowModel):
        async def _agenerate(self, *args: object, **kwargs: object) -> ChatResult:
            if slow:
                slow.clear()
                await asyncio.sleep(100)
            return await super()._agenerate(*args, **kwargs)

    model = OnceSlow(messages=iter([AIMessage("well")] * 20))
    retry = RetryPolicy(max_attempts=2, initial_interval=1, jitter=False)
    policy = BranchPolicy(timeout=TimeoutPolicy(attempt_timeout=10), retry=retry)

    async def length(text: str) -> int:  # a thread would not see the loop's time
        return len(text)

    step = RunnableParallelPlus(a=model, b=length).with_policy(policy).with_limits(limiter)
    with collect_report() as report:
        task = asyncio.create_task(step.ainvoke("in"))
        await asyncio.sleep(10.5)
        limiter.pause(5)
        await task
    lost = report.fan_outs[0].measures.branches["a",].lost
    assert (lost["wasted"], lost["backoff"]) == (pytest.approx(10), pytest.approx(1))
    assert lost["wait"] == pytest.approx(4.5)
    assert [call.ended for call in report.branches[0].model_calls] == [pytest.approx(10), pytest.approx(16.5)]


@pytest.mark.looptime
async def test_a_call_that_still_waits_waits_until_now() -> None:
    limiter = _limiter(60, burst=1)
    limiter.pause(100)
    with collect_report() as report:
        task = asyncio.create_task(_models(2, limiter).ainvoke("in"))
        await asyncio.sleep(7)
        line = report.fan_outs[0].measures.branches["b0",]
        assert (line.lost["wait"], line.useful) == (pytest.approx(7), 0)
        assert "not admitted" in str(report)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    [told] = report.fan_outs
    assert told.outcome == "cancelled"
    assert told.measures.branches["b0",].lost["wait"] == pytest.approx(7)


async def test_a_wait_ends_with_the_failure_of_another_branch(mode: Mode) -> None:
    limiter = RateLimiter(requests_per_minute=6000)
    limiter.pause(60)

    def bad(_: Any) -> None:
        raise ValueError("bad")

    fan_out = RunnableParallelPlus(waits=ScriptedChatModel(["well"]), bad=bad).with_limits(limiter)
    with collect_report() as report, pytest.raises(ValueError, match="bad"):
        await mode.run(fan_out, "in", None)
    [told] = report.fan_outs
    assert told.measures.critical == ("bad",)
    assert told.measures.branches["waits",].useful == 0
