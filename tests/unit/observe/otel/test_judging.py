"""The numbers of a fan-out's span are those of its report."""

from __future__ import annotations

import asyncio
import threading
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.language_models.fake_chat_models import FakeListChatModel
from langchain_core.runnables import RunnableLambda

from langchain_parallel_plus import RateLimiter, RunnableParallelPlus, collect_report
from langchain_parallel_plus.observe.limiter_state import LimiterState
from langchain_parallel_plus.observe.otel.judging import LIMITS, LimitsInUse
from langchain_parallel_plus.observe.records import FanOutReport
from langchain_parallel_plus.observe.together import limits_of, sharing
from tests.modes import Mode
from tests.unit.observe.otel.recorder import recording

NUMBERS = ("speedup", "limit_efficiency", "critical_branch")


def told(span: Any) -> dict[str, Any]:
    return {name: span.attributes.get(f"lcpp.fan_out.{name}") for name in NUMBERS}


def expected(fan_out: FanOutReport) -> dict[str, Any]:
    measures = fan_out.measures
    critical = None if measures.critical is None else measures.critical[-1]
    return {
        "speedup": measures.speedup,
        "limit_efficiency": measures.limit_efficiency,
        "critical_branch": critical,
    }


async def test_a_span_has_the_numbers_of_the_report(mode: Mode) -> None:
    limiter = RateLimiter(requests_per_minute=6000, burst=0.01)
    model = FakeListChatModel(responses=["well"])
    inner = RunnableParallelPlus(x=model, y=model, name="inner")
    fan_out = RunnableParallelPlus(a=model, b=model, c=inner, name="outer").with_limits(limiter)
    with recording() as recorder, collect_report() as report:
        await mode.run(fan_out, "text", None)
    outer, nested = report.fan_outs
    assert told(recorder.span("invoke_workflow outer")) == pytest.approx(expected(outer))
    assert told(recorder.span("invoke_workflow inner")) == pytest.approx(expected(nested))
    assert outer.measures.limit_efficiency is not None
    assert nested.measures.limit_efficiency is None  # it shares the limit with the branches beside it


async def test_without_limits_there_is_no_limit_efficiency(mode: Mode) -> None:
    with recording() as recorder:
        await mode.run(RunnableParallelPlus(a=RunnableLambda(str), b=RunnableLambda(str), name="n"), "text", None)
    assert told(recorder.span("invoke_workflow n"))["limit_efficiency"] is None


@pytest.mark.parametrize("method", ["batch", "abatch"])
async def test_runs_that_share_a_limit_have_no_limit_efficiency(method: str) -> None:
    barrier, met = threading.Barrier(2), asyncio.Barrier(2)

    async def meet(value: str) -> str:
        await met.wait()
        return value

    step = RunnableLambda(lambda value: barrier.wait(20), afunc=meet)
    fan_out = RunnableParallelPlus(a=step, b=str, name="n").with_limits(RateLimiter(requests_per_minute=6000))
    with recording() as recorder, collect_report() as report:
        await fan_out.abatch(["x", "y"]) if method == "abatch" else fan_out.batch(["x", "y"])
    assert [told(span)["limit_efficiency"] for span in recorder.named("invoke_workflow n")] == [None, None]
    assert [one.measures.limit_efficiency for one in report.fan_outs] == [None, None]
    assert not LIMITS._users
    assert not LIMITS._shared


RUNS = st.lists(
    st.tuples(st.integers(0, 20), st.integers(1, 10), st.sets(st.sampled_from("xyz"), max_size=2), st.booleans()),
    max_size=8,
    unique_by=lambda run: run[0],
)


@given(RUNS)
def test_who_shares_is_found_while_they_run_as_it_is_afterwards(runs: list[tuple[int, int, set[str], bool]]) -> None:
    reports = [
        FanOutReport(
            name="n",
            started=float(start),
            seconds=seconds - 0.5,
            limiters=tuple(LimiterState(name=name) for name in names),
            max_concurrency=2 if capped else None,
        )
        for start, seconds, names, capped in runs
    ]
    moments = [(one.started, index, "began") for index, one in enumerate(reports)]
    moments += [(one.started + (one.seconds or 0.0), index, "ended") for index, one in enumerate(reports)]
    limits, found = LimitsInUse(), set()
    for _, index, what in sorted(moments):
        names = limits_of(reports[index].limiters, reports[index].max_concurrency)
        if what == "began":
            limits.began(UUID(int=index), names)
        elif limits.ended(UUID(int=index), names):
            found.add(index)
    assert found == sharing(reports)
    assert not limits._users
    assert not limits._shared
