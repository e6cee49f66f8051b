"""A policy that runs several times in one branch is recorded run by run."""

from __future__ import annotations

import json
from typing import Any

from langchain_core.runnables import RunnableLambda

from langchain_parallel_plus import BranchPolicy, RetryPolicy, RunnableParallelPlus, RunnableWithPolicy, collect_report
from langchain_parallel_plus.observe import RunReport
from langchain_parallel_plus.testing import ScriptedChatModel
from tests.modes import Mode

RETRY = BranchPolicy(retry=RetryPolicy(max_attempts=2, initial_interval=0.001, jitter=False))


def _thrice(step: Any) -> RunnableLambda[Any, Any]:
    """Call `step` three times on the same input, one after another, in whichever way it is called itself."""

    def call(value: Any) -> list[Any]:
        return [step.invoke(value) for _ in range(3)]

    async def acall(value: Any) -> list[Any]:
        return [await step.ainvoke(value) for _ in range(3)]

    return RunnableLambda(call, acall)


async def _reported(mode: Mode, step: Any, value: Any = "in", **options: Any) -> RunReport:
    with collect_report(**options) as report:
        await mode.run(step, value, None)
    return report


async def test_good_calls_are_no_retries_and_no_wasted_work(mode: Mode) -> None:
    each = RunnableWithPolicy(ScriptedChatModel(["well"], cycle=True, latency=0.01), RETRY, name="each")
    [told] = (await _reported(mode, RunnableParallelPlus(a=_thrice(each)))).fan_outs
    assert [one.name for one in told.branches.values()] == ["a", "a/each", "a/each #2", "a/each #3"]
    [branch] = told.own_branches
    assert [(one.attempts, len(one.attempt_log), one.outcome) for one in branch.inner] == [(1, 1, "ok")] * 3
    assert told.measures.branches["a",].wasted == 0
    assert told.measures.failed_attempts == 0
    assert told.measures.attempts == 4  # the branch's own, and one of each run


async def test_a_retry_belongs_to_the_run_that_it_repeats(mode: Mode) -> None:
    left = [ConnectionError("down"), None]

    def second_fails(value: Any) -> Any:
        if len(left) == 1 and (error := left.pop()) is None:
            return value
        if left and (error := left.pop(0)) is not None:
            raise error
        return value

    each = RunnableWithPolicy(second_fails, RETRY, name="each")
    [told] = (await _reported(mode, RunnableParallelPlus(a=_thrice(each)))).fan_outs
    [branch] = told.own_branches
    assert [one.attempts for one in branch.inner] == [2, 1, 1]
    assert [one.outcome for one in branch.inner] == ["recovered", "ok", "ok"]
    assert [len(one.backoff_log) for one in branch.inner] == [1, 0, 0]
    assert told.measures.failed_attempts == 1


async def test_what_runs_below_stands_under_the_run_that_called_it(mode: Mode) -> None:
    deep = RunnableWithPolicy(len, RETRY, name="deep")
    each = RunnableWithPolicy(RunnableParallelPlus(x=deep | str) | str, RETRY, name="each")
    report = await _reported(mode, RunnableParallelPlus(a=_thrice(each)))
    outer, *nested = report.fan_outs
    assert [one.path for one in nested] == [("a", "each"), ("a", "each #2"), ("a", "each #3")]
    [branch] = outer.own_branches
    for number, run in enumerate(branch.inner):
        [called] = run.nested
        assert called.run_id == nested[number].run_id
        assert [one.path for one in called.branches.values()] == [(*run.path, "x"), (*run.path, "x", "deep")]
    assert [(one.name, one.path, one.runs) for one in report.aggregates][1:] == [
        (nested[0].name, ("a", "each"), 3)  # one fan-out that ran three times, not three
    ]


async def test_a_batch_has_a_record_of_each_item(mode: Mode) -> None:
    each = RunnableWithPolicy(len, RETRY, name="each")
    step = RunnableLambda(lambda texts: each.batch(texts), lambda texts: each.abatch(texts))
    [told] = (await _reported(mode, RunnableParallelPlus(a=step), ["a", "bb", "ccc"])).fan_outs
    assert [one.name for one in told.branches["a",].inner] == ["a/each", "a/each #2", "a/each #3"]


async def test_all_views_have_the_same_runs(mode: Mode) -> None:
    model = ScriptedChatModel(["well"], cycle=True, model="small", latency=0.001)
    each = RunnableWithPolicy(model, RETRY, name="each")
    report = await _reported(mode, RunnableParallelPlus(a=_thrice(each)), prices={"small": (1, 2)})
    names = ["a", "a/each", "a/each #2", "a/each #3"]
    told = json.loads(report.to_json())["fan_outs"][0]
    assert [one["name"] for one in told["branches"]] == names
    assert [one["branch"] for one in report.rows()] == names
    threads = [one["args"]["name"] for one in report.to_chrome_trace()["traceEvents"] if one["name"] == "thread_name"]
    assert threads == ["fan-out", *names]
    text, html = str(report), report._repr_html_()
    for name in names[1:]:
        assert f"\n{name} " in text
        assert f'title="{name}"' in html
    tokens = [one["input_tokens"] + one["output_tokens"] for one in report.rows()]
    assert tokens[0] == 0
    assert min(tokens[1:]) > 0
    assert sum(one.input_tokens + one.output_tokens for one in report.branches) == sum(tokens)
