"""A report says for each branch how long it waited, and for what of which limiter."""

from __future__ import annotations

import pytest
from langchain_core.runnables import RunnableLambda

from langchain_parallel_plus import RateLimiter, RunnableParallelPlus, collect_report
from langchain_parallel_plus.testing import ScriptedChatModel
from tests.modes import Mode


def chat(**fields: str) -> ScriptedChatModel:
    return ScriptedChatModel(["well"], cycle=True, **fields)


async def test_each_branch_s_waits_are_told_by_limiter_and_dimension(mode: Mode) -> None:
    quick_name, slow_name = f"quick {mode}", f"slow {mode}"  # names of their own: named limiters share their state
    quick = RateLimiter(requests_per_minute=600, burst=0.1, name=quick_name)
    slow = RateLimiter(tokens_per_minute=100_000, burst=0.1, name=slow_name, models="scripted:large")
    fan_out = RunnableParallelPlus(a=chat(), b=chat(), c=chat(model="large")).with_limits(quick, slow)
    slow.pause(0.6)
    with collect_report() as report:
        await mode.run(fan_out, "ask", None)
    branches = {branch.name: branch for branch in report.branches}
    waits = [key for branch in branches.values() for key in branch.waits]
    # The second of a and b; c takes nothing of it before its longer wait is over, and then it is idle.
    assert waits.count((quick_name, "requests_per_minute")) == 1
    assert branches["c"].waits[slow_name, "pause"] == pytest.approx(0.6, abs=0.5)
    for branch in branches.values():
        assert branch.wait == pytest.approx(sum(branch.waits.values()), abs=0.01)
        assert branch.calls == 1  # of which two limiters have admitted that of c
    text = str(report)
    assert "waited for rate limits:" in text
    assert f"{quick_name}: requests_per_minute" in text
    assert f"{slow_name}: pause" in text
    [told] = [one for one in report.to_dict()["fan_outs"][0]["branches"] if one["name"] == "c"]
    assert {"limiter": slow_name, "dimension": "pause", "seconds": branches["c"].waits[slow_name, "pause"]} in told[
        "waits"
    ]


@pytest.mark.parametrize("named", [True, False])
async def test_a_call_is_counted_once_however_many_limiters_admit_it(mode: Mode, named: bool) -> None:
    names = [f"first {mode}", f"second {mode}"] if named else [None, None]
    limiters = [RateLimiter(requests_per_minute=1e6, name=name) for name in names]
    small, large = chat(), chat(model="large")
    asked = RunnableLambda(lambda text: [small.invoke(text), small.invoke(text), large.invoke(text)] and text)
    with collect_report() as report:
        await mode.run(RunnableParallelPlus(x=asked).with_limits(*limiters), "ask", None)
    [branch] = report.branches
    assert (branch.calls, branch.waits) == (3, {})
    assert "waited for" not in str(report)
