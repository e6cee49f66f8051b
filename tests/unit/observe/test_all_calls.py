"""Every model call is in a report, once: those of syntheses and of policies outside of fan-outs, too."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest
from langchain_core.runnables import RunnableLambda

from langchain_parallel_plus import (
    BranchPolicy,
    RateLimiter,
    RetryPolicy,
    RunnableParallelPlus,
    RunnableSynthesis,
    RunnableWithPolicy,
    TimeoutPolicy,
    collect_report,
)
from langchain_parallel_plus.observe import Event, RunReport, subscribed
from langchain_parallel_plus.synthesis import MapReduce, PickBest
from langchain_parallel_plus.testing import ScriptedChatModel
from tests.modes import Mode
from tests.unit.synthesis.windows import Reader, words

IN_TIME = BranchPolicy(timeout=TimeoutPolicy(run_timeout=60))
PRICES = {"*": (1e6, 1e6)}  # a token costs 1


def _model(text: str = "A") -> ScriptedChatModel:
    return ScriptedChatModel([text], cycle=True)


async def _spent(mode: Mode, step: Any, value: Any = "q") -> tuple[RunReport, list[Event]]:
    events: list[Event] = []
    with collect_report(prices=PRICES) as report, subscribed(events.append):
        await mode.run(step, value, None)
    return report, events


def _tokens(usage: list[Event]) -> int:
    return sum(one.detail["input_tokens"] + one.detail["output_tokens"] for one in usage)


def _fan_out() -> RunnableParallelPlus[Any]:
    return RunnableParallelPlus(a=_model(), b=_model())


@pytest.mark.parametrize(
    ("step", "value", "calls"),
    [
        (_fan_out() | RunnableSynthesis(_model()), "q", 3),
        (RunnableSynthesis(_model()), {"a": "one", "b": "two"}, 1),
        (RunnableSynthesis(_model(), limits=RateLimiter(requests_per_minute=6000)), {"a": "one", "b": "two"}, 1),
        (RunnableSynthesis(RunnableWithPolicy(_model(), IN_TIME)), {"a": "one", "b": "two"}, 1),
        (PickBest(_model()), {"a": "one", "b": "two"}, 1),
        (MapReduce(_model(), RunnableSynthesis(_model())), ["one", "two"], 3),
        (MapReduce(_model(), RunnableLambda(str) | _model()), ["one", "two"], 3),
        (RunnableParallelPlus(a=_fan_out() | RunnableSynthesis(_model())), "q", 3),
        (RunnableWithPolicy(_model(), BranchPolicy(retry=RetryPolicy(max_attempts=2))), "q", 1),
        (RunnableWithPolicy(RunnableWithPolicy(_model(), BranchPolicy()), IN_TIME), "q", 1),
        (RunnableWithPolicy(_fan_out(), BranchPolicy()), "q", 2),
    ],
    ids=[
        "synthesis", "alone", "limited", "policed", "judge", "reduced by a synthesis",
        "reduced by a chain", "in a branch", "policy", "policy in a policy", "fan-out in a policy",
    ],
)  # fmt: skip
async def test_each_call_costs_once(step: Any, value: Any, calls: int, mode: Mode) -> None:
    report, events = await _spent(mode, step, value)
    usage = [event for event in events if event.kind == "model.usage"]
    assert len({event.detail["call"] for event in usage}) == len(usage) == calls
    assert report.cost == _tokens(usage) > 0
    rows = report.rows()
    assert sum(row["cost"] for row in rows if row["depth"] == 1) == report.cost
    assert sum(row["input_tokens"] + row["output_tokens"] for row in rows) == report.cost
    assert sum(row["calls"] for row in rows) == calls


async def test_a_synthesis_is_shown_with_what_its_calls_took_and_the_whole_is_more(mode: Mode) -> None:
    report, _ = await _spent(mode, _fan_out() | RunnableSynthesis(_model()))
    [one], [fan_out] = report.syntheses, report.fan_outs
    fan_out_cost = fan_out.measures.cost
    assert one.cost == one.input_tokens + one.output_tokens > 0
    assert fan_out_cost is not None
    assert report.cost == fan_out_cost + one.cost
    for shown in (str(report), report.to_html()):
        assert f"{one.input_tokens + one.output_tokens} tokens, cost {one.cost:.0f}" in shown
        assert f"cost of all model calls: {report.cost:.0f}" in shown
    [told] = report.to_dict()["syntheses"]
    assert (told["calls"], told["input_tokens"], told["cost"]) == (1, one.input_tokens, one.cost)
    [row] = [row for row in report.rows() if row["kind"] == "synthesis"]
    assert (row["branch"], row["seconds"], row["cost"]) == ("llm", one.seconds, one.cost)
    assert list(row) == list(report.rows()[0])


async def test_a_synthesis_alone_is_shown(mode: Mode) -> None:
    report, _ = await _spent(mode, RunnableSynthesis(_model()), {"a": "one", "b": "two"})
    for shown in (str(report), report.to_html()):
        assert "synthesis of 2 outputs (llm)" in shown
        assert "no fan-out ran" not in shown


async def test_digests_are_counted_as_the_branches_that_they_are(mode: Mode) -> None:
    texts = {f"b{n}": words(f"b{n}-", 60) for n in range(4)}
    report, events = await _spent(mode, Reader().synthesis(), texts)
    usage = [event for event in events if event.kind == "model.usage"]
    [one] = report.syntheses
    assert (len(one.model_calls), report.cost) == (1, _tokens(usage))
    assert len(usage) > 2


async def test_the_retries_of_a_policy_outside_of_a_fan_out_are_counted(mode: Mode) -> None:
    model = ScriptedChatModel([TimeoutError("late"), "A"])
    step = RunnableWithPolicy(model, BranchPolicy(retry=RetryPolicy(max_attempts=2, initial_interval=0.001)))
    report, _ = await _spent(mode, step)
    [one] = report.branches
    assert [(call.attempt, call.failed) for call in one.model_calls] == [(1, True), (2, False)]
    assert report.cost == one.input_tokens + one.output_tokens > 0


async def test_each_of_a_batch_tells_of_its_own_calls() -> None:
    step = RunnableWithPolicy(_model(), BranchPolicy())
    synthesis = RunnableSynthesis(_model())
    with collect_report(prices=PRICES) as report:
        await asyncio.to_thread(step.batch, ["q", "r"])
        await step.abatch(["q", "r"])
        synthesis.batch([{"a": "one"}] * 2)
        await synthesis.abatch([{"a": "one"}] * 2)
    assert [len(one.branches) for one in report.fan_outs] == [1] * 4
    assert [len(one.model_calls) for one in (*report.branches, *report.syntheses)] == [1] * 8


async def test_what_an_interrupted_synthesis_has_used_is_not_known() -> None:
    asked = asyncio.Event()

    class Silent(ScriptedChatModel):
        async def _agenerate(self, *args: Any, **facts: Any) -> Any:
            asked.set()
            await asyncio.Event().wait()

    with collect_report(prices=PRICES) as report:
        task = asyncio.ensure_future(RunnableSynthesis(Silent(["text"])).ainvoke({"a": "one"}))
        await asked.wait()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    [one] = report.syntheses
    assert (one.outcome, len(one.model_calls), report.cost) == ("cancelled", 1, None)
