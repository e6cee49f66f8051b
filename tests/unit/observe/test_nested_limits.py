"""A limiter of a nested fan-out says how good that one is, and the one around it, if nobody else uses it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from langchain_core.runnables import RunnableLambda

from langchain_parallel_plus import RateLimiter, RunnableParallelPlus, collect_report
from langchain_parallel_plus.observe import RunReport
from langchain_parallel_plus.testing import ScriptedChatModel

pytestmark = pytest.mark.looptime


def _limiter(**options: Any) -> RateLimiter:
    return RateLimiter(requests_per_minute=60, burst=1, clock=asyncio.get_running_loop().time, **options)


def _models(count: int, latency: float = 0.5) -> RunnableParallelPlus[Any]:
    return RunnableParallelPlus(
        {f"m{n}": ScriptedChatModel(["well"], cycle=True, latency=latency) for n in range(count)}
    )


async def _reported(step: Any, config: Any = None) -> RunReport:
    with collect_report() as report:
        await step.ainvoke("in", config)
    return report


def _efficiencies(report: RunReport) -> list[float | None]:
    return [one.measures.limit_efficiency for one in report.fan_outs]


async def _idle(_: Any) -> str:
    await asyncio.sleep(2)
    return "idle"


async def test_both_are_judged_by_a_limiter_of_the_nested_one_alone() -> None:
    report = await _reported(RunnableParallelPlus(a=_models(5).with_limits(_limiter()), b=_idle))
    assert [one.seconds for one in report.fan_outs] == [pytest.approx(4.5, rel=0.03)] * 2
    assert _efficiencies(report) == [pytest.approx(1, rel=0.03)] * 2
    assert "limit efficiency" in str(report)


async def test_of_a_nested_one_whose_limiter_a_sibling_uses_nothing_can_be_said_but_of_the_whole() -> None:
    limiter = _limiter()
    step = RunnableParallelPlus(a=_models(3).with_limits(limiter), b=_models(2).with_limits(limiter))
    step = RunnableParallelPlus(a=step)
    report = await _reported(step)
    named = {one.path: one.measures.limit_efficiency for one in report.fan_outs}
    # It has no name: whether the two share one or have one each cannot be told.
    assert named == {(): None, ("a",): None, ("a", "a"): None, ("a", "b"): None}


async def test_a_limiter_with_a_name_is_known_again() -> None:
    limiter = _limiter(name="nested known")
    report = await _reported(RunnableParallelPlus(a=_models(3).with_limits(limiter), b=_models(2).with_limits(limiter)))
    whole, *nested = _efficiencies(report)
    assert whole == pytest.approx(1, rel=0.03)
    assert nested == [None, None]


async def test_one_after_another_they_do_not_share() -> None:
    limiter = _limiter(name="nested turns")
    steps = _models(3).with_limits(limiter) | RunnableLambda(_idle) | _models(2).with_limits(limiter)
    report = await _reported(RunnableParallelPlus(a=steps, b=_idle))
    assert None not in _efficiencies(report)


async def test_runs_at_the_same_time_share_the_limiter_of_what_they_call() -> None:
    step = RunnableParallelPlus(a=_models(2).with_limits(_limiter(name="nested batch")), b=_idle)
    with collect_report() as report:
        await step.abatch(["in"] * 2)
    assert _efficiencies(report) == [None] * 4


async def test_a_shared_cap_says_nothing_of_a_part() -> None:
    report = await _reported(
        RunnableParallelPlus(a=_models(3).with_limits(_limiter(name="nested capped")), b=_idle), {"max_concurrency": 3}
    )
    assert _efficiencies(report)[1] is None


async def test_a_limiter_of_the_outer_one_is_for_all_of_its_branches() -> None:
    step = RunnableParallelPlus(a=_models(3), b=_idle).with_limits(_limiter())
    assert _efficiencies(await _reported(step)) == [pytest.approx(1, rel=0.03), None]
