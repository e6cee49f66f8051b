"""Runs at the same time share their limits, and are judged together."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_parallel_plus import (
    BranchPolicy,
    RateLimiter,
    RetryPolicy,
    RunnableParallelPlus,
    RunnableWithPolicy,
    collect_report,
)
from langchain_parallel_plus.observe import FanOutReport
from langchain_parallel_plus.observe.intervals import common, minus, total, union
from langchain_parallel_plus.observe.together import sharing, together
from tests.modes import Mode
from tests.unit.observe.records import branch, fan_out, per_second


async def _second(text: str) -> str:
    await asyncio.sleep(1)
    return text


def _run(started: float, ended: float, limiter: str = "openai") -> FanOutReport:
    own = replace(branch("a", started, ended - started), started=started)
    return fan_out(own, started=started, seconds=ended - started, limiters=(per_second(1, name=limiter),))


def test_only_runs_that_overlap_under_one_limiter_share_it() -> None:
    assert sharing([_run(0, 5), _run(1, 2), _run(3, 4)]) == {0, 1, 2}
    assert sharing([_run(0, 1), _run(1, 2)]) == set()
    assert sharing([_run(0, 5), _run(1, 2, "anthropic")]) == set()


def test_runs_one_after_another_are_not_taken_together() -> None:
    assert together([_run(0, 1), _run(2, 3)]) is None
    assert together([_run(0, 1)]) is None
    whole = together([_run(1, 3), _run(2, 5)])
    assert whole is not None
    assert (whole.started, whole.seconds) == (1, 4)
    assert whole.measures.ran == 2
    assert whole.measures.speedup == pytest.approx((2 + 3) / 4)


@pytest.mark.looptime
async def test_a_batch_behind_a_limit_is_at_the_limit_as_a_whole_and_each_run_says_nothing_of_it() -> None:
    limiter = RateLimiter(requests_per_minute=60, burst=1, clock=asyncio.get_running_loop().time)
    step = RunnableParallelPlus(a=_second, b=_second).with_policy(BranchPolicy(limiter=limiter))
    with collect_report() as report:
        await step.abatch(["x"] * 5)
    assert [one.shared for one in report.fan_outs] == [True] * 5
    assert [one.measures.limit_efficiency for one in report.fan_outs] == [None] * 5
    assert report.together is not None
    assert report.together.measures.limit_efficiency == pytest.approx(1.0, rel=0.03)
    assert report.together.measures.speedup == pytest.approx(1.0, rel=0.03)
    [runs] = report.aggregates
    assert runs.runs == 5
    assert runs.seconds.p95 == pytest.approx(10, rel=0.1)


@pytest.mark.looptime
async def test_one_run_alone_is_judged_by_its_limits() -> None:
    limiter = RateLimiter(requests_per_minute=60, burst=1, clock=asyncio.get_running_loop().time)
    step = RunnableParallelPlus(a=_second, b=_second).with_policy(BranchPolicy(limiter=limiter))
    with collect_report() as report:
        await step.ainvoke("x")
        await asyncio.sleep(5)
        await step.ainvoke("x")
    assert [one.shared for one in report.fan_outs] == [False, False]
    assert report.together is None
    for one in report.fan_outs:
        assert one.measures.limit_efficiency == pytest.approx(1.0, rel=0.03)


async def test_a_batch_inside_a_branch_belongs_to_that_branch(mode: Mode) -> None:
    """Neither its waits nor its retries turn up as a fan-out that nobody has called."""
    left = [ConnectionError("down")]

    def flaky(text: str) -> str:
        if left:
            raise left.pop()
        return text

    each = RunnableWithPolicy(flaky, BranchPolicy(retry=RetryPolicy(initial_interval=0.001)), name="each")
    with collect_report() as report:
        out = await mode.run(RunnableParallelPlus(a=lambda text: each.batch([text, text])), "x", None)
    assert out == {"a": ["x", "x"]}
    [told] = report.fan_outs
    assert [one.path for one in told.own_branches] == [("a",)]
    assert told.branches["a",].inner[0].path == ("a", "each")


@pytest.mark.parametrize("in_tasks", [False, True])
async def test_a_policy_that_is_called_many_times_has_a_run_each(in_tasks: bool) -> None:
    step = RunnableWithPolicy(len, BranchPolicy(retry=RetryPolicy()), name="step")
    with collect_report() as report:
        inputs = ["a", "bb", "ccc"]
        assert (await step.abatch(inputs) if in_tasks else step.batch(inputs)) == [1, 2, 3]
    assert [(one.name, one.alone, one.outcome) for one in report.fan_outs] == [("step", True, "ok")] * 3
    assert [branch.attempts for branch in report.branches] == [1, 1, 1]
    assert report.aggregates[0].runs == 3


SPANS = st.lists(
    st.tuples(st.integers(0, 40), st.integers(0, 10)).map(lambda one: (one[0], one[0] + one[1])), max_size=8
)


@given(SPANS, SPANS)
def test_stretches_of_time_are_sets_of_moments(first: list[tuple[int, int]], second: list[tuple[int, int]]) -> None:
    def moments(intervals: object) -> set[int]:
        return {at for start, end in intervals for at in range(start, end)}  # type: ignore[attr-defined]

    one, other = union(first), union(second)
    assert moments(union(first, second)) == moments(first) | moments(second)
    assert moments(minus(one, other)) == moments(first) - moments(second)
    assert moments(common(one, other)) == moments(first) & moments(second)
    assert total(one) == len(moments(first))
    assert all(a[1] < b[0] for a, b in itertools.pairwise(one))
