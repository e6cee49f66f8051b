"""Model calls that are cancelled with their branch: their runs end in every trace, once."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any
from unittest.mock import MagicMock

import pytest
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda, RunnableParallel
from langchain_core.tracers import LangChainTracer
from langsmith import Client

from langchain_parallel_plus import BranchPolicy, JoinPolicy, RetryPolicy, TimeoutPolicy
from langchain_parallel_plus.testing import ScriptedChatModel
from tests.contract.aftermath import left_nothing_in_tasks
from tests.contract.probes import Runs, others, plus
from tests.modes import MODES, Mode

async_modes = pytest.mark.parametrize("mode", [mode for mode in MODES if not mode.sync], ids=str)
slow_model = ScriptedChatModel(["never"], cycle=True, latency=3600)


async def calls_model(text: str) -> Any:
    return await slow_model.ainvoke(text)


async def calls_unheard(text: str) -> Any:
    return await slow_model.agenerate([[], []])


async def twice(text: str) -> list[str]:
    return [text, text]


PLACES: dict[str, Any] = {
    "alone": slow_model,
    "in a chain": ChatPromptTemplate.from_template("{text}") | slow_model | RunnableLambda(str),
    "bound": slow_model.bind(stop=["."]),
    "in a function": RunnableLambda(calls_model),
    "nested": plus(deep=slow_model, deeper=plus(deepest=RunnableLambda(calls_model))),
    "retried": slow_model.with_retry(),
    "batched": RunnableLambda(twice) | slow_model.map(),
}


async def _fails(_: Any) -> None:
    await asyncio.sleep(1)
    raise LookupError("not found")


@pytest.mark.looptime
@async_modes
@pytest.mark.parametrize("place", PLACES)
async def test_a_siblings_failure_ends_the_runs_of_the_calls_it_cancels(place: str, mode: Mode) -> None:
    value = {"text": "a question"} if place == "in a chain" else "a question"
    async with left_nothing_in_tasks() as runs:
        with pytest.raises(LookupError):
            await mode.run(plus(a=PLACES[place], b=_fails), value, {"callbacks": [runs]})
    models = runs.named("model")
    assert models
    assert {run.error for run in models} <= {"CancelledError", "GeneratorExit"}


@pytest.mark.looptime
@async_modes
async def test_handlers_do_not_hear_the_end_of_what_they_have_not_heard_begin(mode: Mode) -> None:
    async with left_nothing_in_tasks() as runs:
        with pytest.raises(LookupError):
            await mode.run(plus(a=RunnableLambda(calls_unheard), b=_fails), "a question", {"callbacks": [runs]})
    assert runs.named("model") == []


@pytest.mark.looptime
@async_modes
async def test_a_cancellation_from_outside_ends_them_too(mode: Mode) -> None:
    async with left_nothing_in_tasks() as runs:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(mode.run(plus(a=slow_model), "a question", {"callbacks": [runs]}), 1)
    assert len(runs.named("model")) == 1


@pytest.mark.looptime
@async_modes
async def test_a_call_given_up_by_a_policy_ends_though_its_branch_goes_on(mode: Mode) -> None:
    quick = ScriptedChatModel(["in time"])
    policy = BranchPolicy(
        retry=RetryPolicy(max_attempts=1), timeout=TimeoutPolicy(attempt_timeout=1), fallbacks=[quick]
    )
    async with left_nothing_in_tasks() as runs:
        output = await mode.run(
            plus(a=RunnableLambda(calls_model)).with_policy(policy), "a question", {"callbacks": [runs]}
        )
    assert output["a"].content == "in time"
    assert sorted(str(run.error) for run in runs.named("model")) == ["CancelledError", "None"]


@pytest.mark.looptime
async def test_those_not_waited_for_by_a_join_end() -> None:
    async with left_nothing_in_tasks() as runs:
        fan_out = plus(a=slow_model, b=ScriptedChatModel(["first"])).with_join(JoinPolicy(wait_for=1))
        await fan_out.ainvoke("a question", {"callbacks": [runs]})
    assert sorted(str(run.error) for run in runs.named("model")) == ["CancelledError", "None"]


@pytest.mark.looptime
async def test_upstream_leaves_them_open() -> None:
    runs = Runs()
    fan_out: Any = RunnableParallel(a=slow_model)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(fan_out.ainvoke("a question", {"callbacks": [runs]}), 1)
    for task in others():
        task.cancel()
    await asyncio.sleep(0)
    assert runs.open == ["model (0)"]


@pytest.mark.looptime
async def test_a_tracer_stores_their_end() -> None:
    tracer = LangChainTracer(client=MagicMock(spec=Client))
    ended: list[Any] = []
    tracer._update_run_single = ended.append  # type: ignore[method-assign]
    with pytest.raises(LookupError):
        await plus(a=slow_model, b=_fails).ainvoke("a question", {"callbacks": [tracer]})
    assert not tracer.run_map
    (model,) = [run for run in ended if run.run_type in ("llm", "chat_model")]
    assert "cancelled" in model.error.lower()
    assert model.end_time is not None


@pytest.mark.looptime
async def test_events_tell_of_nothing_that_goes_on() -> None:
    seen: Counter[str] = Counter()

    async def collect() -> None:
        async for event in plus(a=RunnableLambda(calls_model), b=_fails).astream_events("text", version="v2"):
            seen[event["event"]] += 1

    with pytest.raises(LookupError):
        await collect()
    assert (seen["on_chat_model_start"], seen["on_chat_model_end"]) == (1, 0)


@pytest.mark.looptime
async def test_a_handler_that_fails_does_not_hide_the_reason(caplog: pytest.LogCaptureFixture) -> None:
    class Failing(Runs):
        def on_llm_error(self, error: BaseException, **facts: Any) -> None:
            raise OSError("no disk")

    with pytest.raises(LookupError):
        await plus(a=slow_model, b=_fails).ainvoke("a question", {"callbacks": [Failing()]})
    assert "no disk" in caplog.text
