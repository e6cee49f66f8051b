"""Every model call inside a fan-out's branch is admitted exactly once, however deep it sits and however it is made."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypedDict

import pytest
from langchain_core.language_models import BaseChatModel, FakeListLLM
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.rate_limiters import BaseRateLimiter
from langchain_core.runnables import RunnableLambda, RunnableParallel
from langchain_core.tools import tool
from langchain_core.tracers.base import BaseTracer
from langchain_core.tracers.schemas import Run
from langgraph.graph import END, START, StateGraph
from pydantic import BaseModel

from langchain_parallel_plus import (
    BranchPolicy,
    RateLimiter,
    RetryPolicy,
    RunnableParallelPlus,
    RunnableWithPolicy,
    collect_report,
)
from langchain_parallel_plus.limits.gate import branch_gate as gate_module
from langchain_parallel_plus.testing import ScriptedChatModel
from tests.modes import Mode

PROMPT = "ask this"
MESSAGES = [[HumanMessage(PROMPT)] for _ in range(3)]


class Answer(BaseModel):
    """A structured answer."""

    text: str


class State(TypedDict, total=False):
    text: str
    answer: str


def limiter(**limits: Any) -> RateLimiter:
    """A limiter whose counters do not refill: its clock stands still."""
    return RateLimiter(**{"requests_per_day": 1_000, "concurrency": 1, "clock": lambda: 1.0, **limits})


def spent(one: RateLimiter) -> int:
    rate = one.statistics().rates["requests_per_day"]
    return round(rate.burst - rate.available)


def chat(**fields: Any) -> ScriptedChatModel:
    return ScriptedChatModel([AIMessage("well then")], cycle=True, **fields)


@dataclass(frozen=True)
class Place:
    """Where a branch has its model, and how many calls it makes."""

    name: str
    step: Callable[[Any], Any]
    calls: int = 1

    def __str__(self) -> str:
        return self.name


def _in_a_tool(model: Any) -> Any:
    @tool
    def ask(text: str) -> str:
        """Ask."""
        return str(model.invoke(text).content)

    return RunnableLambda(lambda text: {"text": text}) | ask


def _in_a_tool_call(model: Any) -> Any:
    """The model asks for a tool that asks the model."""
    asked = AIMessage("", tool_calls=[{"name": "ask", "args": {"text": "again"}, "id": "1"}])
    first = ScriptedChatModel([asked], cycle=True)

    @tool
    def ask(text: str) -> str:
        """Ask."""
        return str(model.invoke(text).content)

    return first | RunnableLambda(lambda message: ask.invoke(message.tool_calls[0]))


class CallsTools(ScriptedChatModel):
    """A model that takes tools."""

    def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
        return self.bind(**kwargs)


def _structured(model: Any) -> Any:
    """As `with_structured_output` builds it where a model calls tools: a binding and a parser."""
    answered = AIMessage("", tool_calls=[{"name": "Answer", "args": {"text": "well"}, "id": "1"}])

    return CallsTools([answered], cycle=True).with_structured_output(Answer)


def _graph(model: Any) -> Any:
    async def aanswer(state: State) -> State:
        return {"answer": str((await model.ainvoke(state["text"])).content)}

    def answer(state: State) -> State:
        return {"answer": str(model.invoke(state["text"]).content)}

    builder = StateGraph(State)
    builder.add_node("first", RunnableLambda(answer, afunc=aanswer))
    builder.add_node("second", RunnableLambda(answer, afunc=aanswer))
    builder.add_edge(START, "first")
    builder.add_edge("first", "second")
    builder.add_edge("second", END)
    graph = builder.compile()

    async def arun(text: str) -> str:
        return str((await graph.ainvoke({"text": text}))["answer"])

    return RunnableLambda(lambda text: graph.invoke({"text": text})["answer"], afunc=arun)


def _nested(model: Any) -> Any:
    return RunnableParallelPlus(inner=RunnableParallelPlus(a=model, b=model), c=model) | str


def _events(model: Any) -> Any:
    async def read(text: str) -> str:
        async for _ in model.astream_events(text, version="v2"):
            pass
        return text

    return RunnableLambda(lambda text: consumed(model.stream(text)), afunc=read)


def consumed(items: Any) -> str:
    for _ in items:
        pass
    return "read"


PLACES = [
    Place("itself", lambda model: model),
    Place("in a chain", lambda model: ChatPromptTemplate.from_template("{x}") | model | StrOutputParser()),
    Place("in a lambda", lambda model: RunnableLambda(lambda text: model.invoke(text).content)),
    Place("in an async lambda", lambda model: RunnableLambda(lambda text: text, afunc=_ainvoke(model)), 1),
    Place("without callbacks", lambda model: RunnableLambda(lambda text: model.invoke(text, {"callbacks": []}))),
    Place("a stream in a lambda", lambda model: RunnableLambda(lambda text: consumed(model.stream(text)))),
    Place("a batch in a lambda", lambda model: RunnableLambda(lambda text: str(model.batch([text, text]))), 2),
    Place("generate in a lambda", lambda model: RunnableLambda(lambda _: str(model.generate(MESSAGES))), 3),
    Place("events v2", _events),
    Place("bound", lambda model: model.bind(stop=["."])),
    Place("with a retry of LangChain's", lambda model: model.with_retry()),
    Place("with a fallback of LangChain's", lambda model: model.with_fallbacks([model])),
    Place("in a tool", _in_a_tool),
    Place("in a tool that a model calls", _in_a_tool_call, 2),
    Place("with structured output", _structured),
    Place("under a policy", lambda model: RunnableWithPolicy(model, BranchPolicy(retry=RetryPolicy()))),
    Place("in nested fan-outs", _nested, 3),
    Place("in RunnableParallel", lambda model: RunnableParallel(a=model, b=model) | str, 2),
    Place("in a graph", _graph, 2),
]


def _ainvoke(model: Any) -> Any:
    async def call(text: str) -> Any:
        return (await model.ainvoke(text)).content

    return call


def _value(place: Place) -> Any:
    return {"x": PROMPT} if place.name == "in a chain" else PROMPT


def _calls(place: Place, mode: Mode) -> int:
    # A lambda with an async side returns its input in synchronous runs.
    return 0 if place.name == "in an async lambda" and mode.sync else place.calls


@pytest.fixture
def _no_collection() -> Any:
    """No garbage collection of what other tests have left, which stops the loop for a fifth of a second."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.fixture(autouse=True)
def _nothing_stays_open() -> Any:
    yield
    assert gate_module._LEDGER._calls == {}


@pytest.mark.parametrize("place", PLACES, ids=str)
async def test_a_call_is_admitted_once(place: Place, mode: Mode) -> None:
    quota = limiter()
    fan_out = RunnableParallelPlus(x=place.step(chat()), y=place.step(chat())).with_limits(quota)
    with collect_report() as report:
        await mode.run(fan_out, _value(place), None)
    statistics = quota.statistics()
    assert spent(quota) == 2 * _calls(place, mode)
    assert (statistics.in_flight, statistics.queued) == (0, 0)
    assert sum(branch.calls for branch in report.branches) == 2 * _calls(place, mode)


class Collector(BaseTracer):
    """Follows runs as LangSmith's tracer does, in line with the calls."""

    run_inline = True

    def __init__(self) -> None:
        super().__init__()
        self.models: list[Run] = []

    def _persist_run(self, run: Run) -> None:
        """Nothing is sent anywhere."""

    def _on_llm_end(self, run: Run) -> None:
        self.models.append(run)


@pytest.mark.parametrize("place", PLACES, ids=str)
async def test_a_tracer_sees_each_call_and_changes_nothing(place: Place, mode: Mode) -> None:
    quota, tracer = limiter(), Collector()
    fan_out = RunnableParallelPlus(x=place.step(chat())).with_limits(quota)
    await mode.run(fan_out, _value(place), {"callbacks": [tracer]})
    assert spent(quota) == _calls(place, mode)
    if place.name not in ("without callbacks", "generate in a lambda"):  # which LangChain hides from all tracers
        assert len(tracer.models) == _calls(place, mode)


COMPLETIONS = {
    "itself": (lambda llm: llm, 1),
    "in a lambda": (lambda llm: RunnableLambda(llm.invoke), 1),
    "a stream in a lambda": (lambda llm: RunnableLambda(lambda text: consumed(llm.stream(text))), 1),
    "a batch in a lambda": (lambda llm: RunnableLambda(lambda text: str(llm.batch([text, text]))), 2),
    "generate in a lambda": (lambda llm: RunnableLambda(lambda text: str(llm.generate([text] * 3))), 3),
}


@pytest.mark.parametrize("place", COMPLETIONS)
async def test_completion_models_are_admitted_once(place: str, mode: Mode) -> None:
    quota = limiter()
    step, calls = COMPLETIONS[place]
    fan_out = RunnableParallelPlus(x=step(FakeListLLM(responses=["well"]))).with_limits(quota)
    await mode.run(fan_out, PROMPT, None)
    assert spent(quota) == calls


class Counting(BaseRateLimiter):
    """Another package's limiter."""

    def __init__(self) -> None:
        self.acquired = 0

    def acquire(self, *, blocking: bool = True) -> bool:
        self.acquired += 1
        return True

    async def aacquire(self, *, blocking: bool = True) -> bool:
        return self.acquire()


OF_ONE_MODEL = [
    place for place in PLACES if place.name not in ("with structured output", "in a tool that a model calls")
]


@pytest.mark.parametrize("place", OF_ONE_MODEL, ids=str)
@pytest.mark.parametrize("own", ["the same", "another", "another package's"])
async def test_a_limiter_of_the_model_s_own_is_passed_too_and_the_same_one_only_once(
    place: Place, own: str, mode: Mode
) -> None:
    quota, other = limiter(), limiter()
    foreign = Counting()
    model = chat(rate_limiter={"the same": quota, "another": other, "another package's": foreign}[own])
    fan_out = RunnableParallelPlus(x=place.step(model)).with_limits(quota)
    await mode.run(fan_out, _value(place), None)
    calls = _calls(place, mode)
    assert spent(quota) == calls
    assert spent(other) == (calls if own == "another" else 0)
    assert foreign.acquired == (calls if own == "another package's" else 0)


async def test_several_limiters_govern_one_call_and_patterns_choose(mode: Mode) -> None:
    organisation, ours, others = limiter(), limiter(models="scripted:small*"), limiter(models="openai:*")
    small, large = chat(model="small-1"), chat(model="large-1")
    fan_out = RunnableParallelPlus(a=small, b=small, c=large).with_limits(organisation, ours, others)
    await mode.run(fan_out, PROMPT, None)
    assert [spent(one) for one in (organisation, ours, others)] == [3, 2, 0]


async def test_a_nested_fan_out_adds_its_limiters_to_those_around_it(mode: Mode) -> None:
    outer, inner = limiter(), limiter()
    nested = RunnableParallelPlus(a=chat(), b=chat()).with_limits(inner, outer)
    fan_out = RunnableParallelPlus(x=nested, y=chat()).with_limits(outer)
    await mode.run(fan_out, PROMPT, None)
    assert (spent(outer), spent(inner)) == (3, 2)


async def test_each_attempt_is_admitted(mode: Mode) -> None:
    quota = limiter()
    script = iter([ConnectionResetError("down"), TimeoutError("slow"), AIMessage("well then")])
    model = ScriptedChatModel(lambda _: next(script))
    policy = BranchPolicy(retry=RetryPolicy(max_attempts=3, initial_interval=0.001))
    fan_out = RunnableParallelPlus(x=model).with_policy(policy).with_limits(quota)
    await mode.run(fan_out, PROMPT, None)
    assert quota.statistics().granted == 3
    assert spent(quota) == 2  # the one that never reached the provider was given back


@pytest.mark.usefixtures("_no_collection")
@pytest.mark.parametrize("place", [place for place in PLACES if place.calls == 1], ids=str)
@pytest.mark.parametrize("way", ["ainvoke", "astream"])
async def test_waiting_for_a_limit_does_not_block_the_loop(place: Place, way: str) -> None:
    quota = RateLimiter(requests_per_minute=600, burst=0.1)
    fan_out = RunnableParallelPlus({str(i): place.step(chat()) for i in range(4)}).with_limits(quota)
    gaps: list[float] = []

    async def heart() -> None:
        last = time.perf_counter()
        while True:
            await asyncio.sleep(0.005)
            now = time.perf_counter()
            gaps.append(now - last)
            last = now

    beating = asyncio.create_task(heart())
    started = time.perf_counter()
    if way == "ainvoke":
        await fan_out.ainvoke(_value(place))
    else:
        async for _ in fan_out.astream(_value(place)):
            pass
    took = time.perf_counter() - started
    beating.cancel()
    assert took > 0.25  # four calls, one every 102 ms after the first
    assert max(gaps) < 0.15, f"the loop stood still for {max(gaps):.3f} s"


def test_a_branch_that_fails_at_its_start_leaves_nothing_open() -> None:
    quota = limiter()

    def work(model: BaseChatModel) -> Any:
        raise ValueError("a bug before the call")

    fan_out = RunnableParallelPlus(x=lambda _: work(chat()), y=chat()).with_limits(quota)
    with pytest.raises(ValueError, match="a bug"):
        fan_out.invoke(PROMPT)
    assert quota.statistics().in_flight == 0
