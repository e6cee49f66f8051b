"""What holds a run up, and what to do about it, in one sentence."""

from __future__ import annotations

import asyncio

import pytest

from langchain_parallel_plus import RateLimiter, RunnableParallelPlus, collect_report
from langchain_parallel_plus.display.words import advice
from langchain_parallel_plus.observe import LimiterState, RateState
from langchain_parallel_plus.testing import ScriptedChatModel
from tests.unit.observe.records import branch, fan_out, wait


async def _quick(text: str) -> str:
    return text


@pytest.mark.looptime
async def test_tokens_reserved_in_vain_are_no_lack_of_quota() -> None:
    limiter = RateLimiter(tokens_per_minute=600, burst=10, clock=asyncio.get_running_loop().time, name="reserves")
    models = {f"b{n}": ScriptedChatModel(["well"], cycle=True) for n in range(5)}
    with collect_report() as report:
        await RunnableParallelPlus(models).with_limits(limiter).ainvoke("ask")
        limited = RunnableParallelPlus(a=RunnableParallelPlus(models).with_limits(limiter), b=_quick)
        await limited.ainvoke("ask")
    for told in report.fan_outs:
        [unused] = [rate.unused for state in told.limiters for rate in state.rates.values()]
        assert 0.9 < unused < 1
        assert f"{100 * unused:.0f} % of the tokens that calls reserve are not used: lower max_tokens" in advice(told)
        assert "quota" not in advice(told)
    assert advice(report.fan_outs[0]) in str(report)


@pytest.mark.parametrize(("dimension", "unused"), [("tokens_per_minute", 0.1), ("requests_per_minute", 0.9)])
def test_where_what_is_reserved_is_used_only_quota_helps(dimension: str, unused: float) -> None:
    rates = {dimension: RateState(limit=60, window=60, unused=unused)}
    one = branch("a", 0, 10, wait_log=(wait(0, 9, dimension=dimension),))
    told = fan_out(one, branch("b", 0, 1), seconds=10, limiters=(LimiterState(name="openai", rates=rates),))
    assert "only more quota, or fewer tokens" in advice(told)
