"""A limiter that is its model's own (`rate_limiter=`), or is asked in a user's step: its waits are the branch's."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.output_parsers import StrOutputParser
from langchain_core.runnables import RunnableLambda

from langchain_parallel_plus import (
    BranchPolicy,
    JoinPolicy,
    RateLimiter,
    TimeoutPolicy,
    collect_report,
)
from langchain_parallel_plus.errors import QuotaExhaustedError
from langchain_parallel_plus.observe import Event, subscribed
from tests.contract.probes import plus
from tests.modes import MODES, Mode
from tests.virtual_time import VirtualTime, in_virtual_time

MODES_ALL = pytest.mark.parametrize("mode", MODES, ids=str)

PERIOD = 60.0
"""Seconds from one admission to the next, and somewhat more: a limiter stays below its rate."""


def paced(time: VirtualTime) -> RateLimiter:
    return time.limiter(requests_per_minute=60 / PERIOD, burst=0.001)


def about(number: int) -> Any:
    return pytest.approx(number * PERIOD, rel=0.05, abs=0.2)


@MODES_ALL
def test_the_waits_are_told_as_waits_of_the_branch_and_its_calls(mode: Mode) -> None:
    async def scene(time: VirtualTime) -> None:
        model = time.model(lambda _: "ok", latency=10, rate_limiter=paced(time))
        events: list[Event] = []
        with collect_report() as report, subscribed(events.append):
            await mode.run(plus({str(n): model for n in range(3)}), "x", None)
        waits = sorted(branch.wait for branch in report.branches)
        assert waits == [0, about(1), about(2)]
        assert {key for branch in report.branches for key in branch.waits} == {("unnamed", "requests_per_minute")}
        assert [branch.calls for branch in report.branches] == [1, 1, 1]
        lines = report.fan_outs[0].measures.branches.values()
        assert [line.useful for line in lines] == [pytest.approx(10, abs=0.2)] * 3
        assert "waited for rate limits:" in str(report)
        told = [event for event in events if event.kind.startswith("limiter.")]
        called = {event.detail["call"] for event in events if event.kind == "model.start"}
        assert {event.detail["call"] for event in told} < called
        assert [event.kind for event in told].count("limiter.queue") == 2

    in_virtual_time(mode, scene)


@MODES_ALL
def test_they_take_nothing_of_an_attempts_time(mode: Mode) -> None:
    async def scene(time: VirtualTime) -> None:
        policy = BranchPolicy(timeout=TimeoutPolicy(attempt_timeout=PERIOD / 2))
        model = time.model(lambda _: "ok", latency=10, rate_limiter=paced(time))
        fan_out = plus({str(n): model for n in range(3)}).with_policy(policy)
        assert len(await mode.run(fan_out, "x", None)) == 3

    in_virtual_time(mode, scene)


@MODES_ALL
def test_who_has_been_given_up_leaves_the_queue_and_makes_no_call(mode: Mode) -> None:
    async def scene(time: VirtualTime) -> None:
        limiter = paced(time)
        assert limiter.try_acquire()
        model = time.model(lambda _: "ok", rate_limiter=limiter)
        fan_out = plus(a=model, b=time.model(lambda _: "B")).with_join(JoinPolicy(deadline=5, min_success=1))
        assert (await mode.run(fan_out, "x", None))["b"].content == "B"
        assert time.now() == pytest.approx(5, abs=0.2)
        assert limiter.statistics().queued == 0
        assert not model.calls

    in_virtual_time(mode, scene)


@MODES_ALL
def test_an_own_limiter_of_the_branch_too_is_asked_and_told_once(mode: Mode) -> None:
    async def scene(time: VirtualTime) -> None:
        limiter = paced(time)
        model = time.model(lambda _: "ok", rate_limiter=limiter)
        with collect_report() as report:
            await mode.run(plus({str(n): model for n in range(2)}).with_limits(limiter), "x", None)
        assert sorted(branch.wait for branch in report.branches) == [0, about(1)]
        assert [branch.calls for branch in report.branches] == [1, 1]

    in_virtual_time(mode, scene)


@MODES_ALL
def test_a_wait_in_a_user_s_step_is_told_and_is_no_model_call(mode: Mode) -> None:
    async def scene(time: VirtualTime) -> None:
        limiter = paced(time)
        assert limiter.try_acquire()

        async def search(text: str) -> str:
            await limiter.aacquire()
            return text

        step = RunnableLambda(lambda text: limiter.acquire() and text, afunc=search)
        with collect_report() as report:
            await mode.run(plus(a=step), "x", None)
        [branch] = report.branches
        assert (branch.wait, branch.calls) == (about(1), 0)

    in_virtual_time(mode, scene)


@MODES_ALL
def test_a_refusal_is_told_with_the_seconds_of_its_wait(mode: Mode) -> None:
    async def scene(time: VirtualTime) -> None:
        limiter = paced(time)
        assert limiter.try_acquire()
        asks = time.model(lambda _: "never", rate_limiter=limiter)
        closes = time.model(lambda _: "ok", latency=5) | StrOutputParser()
        closes |= time.model(lambda _: limiter.close("out of credit") or "ok")
        events: list[Event] = []
        with subscribed(events.append), pytest.raises(QuotaExhaustedError):
            await mode.run(plus(a=asks, b=closes), "x", None)
        [refusal] = [event for event in events if event.kind == "limiter.refusal"]
        assert (refusal.seconds, refusal.detail["reason"]) == (pytest.approx(5, abs=0.2), "quota_exhausted")

    in_virtual_time(mode, scene)


@MODES_ALL
def test_outside_any_branch_nothing_is_told(mode: Mode) -> None:
    async def scene(time: VirtualTime) -> None:
        limiter = paced(time)
        assert limiter.try_acquire()
        events: list[Event] = []
        with subscribed(events.append):
            await mode.run(time.model(lambda _: "ok", rate_limiter=limiter), "x", None)
        assert time.now() == about(1)
        assert not events

    in_virtual_time(mode, scene)
