"""The fan-out in a LangGraph graph, and graphs as its branches."""

from __future__ import annotations

import asyncio
import operator
import time
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.runnables import Runnable, RunnableConfig, RunnableLambda

from langchain_parallel_plus import (
    BranchPolicy,
    HedgePolicy,
    JoinPolicy,
    RetryPolicy,
    RunnableParallelPlus,
    TimeoutPolicy,
)
from tests.contract.probes import Parallel, Runs, plus
from tests.modes import MODES, Mode

pytest.importorskip("langgraph")

from langgraph.checkpoint.memory import InMemorySaver
from langgraph.errors import GraphInterrupt
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, interrupt

# A graph streams states, which do not add up to its output.
whole = pytest.mark.parametrize("mode", [mode for mode in MODES if not mode.streams], ids=str)


class State(TypedDict, total=False):
    text: str
    length: int
    upper: str
    log: Annotated[list[str], operator.add]


def _graph(node: Any, **options: Any) -> Any:
    builder = StateGraph(State)
    builder.add_node("work", node)
    builder.add_edge(START, "work")
    builder.add_edge("work", END)
    return builder.compile(**options)


def _length(state: State) -> int:
    return len(state["text"])


def _upper(state: State) -> str:
    return state["text"].upper()


@whole
async def test_as_a_node_its_outputs_update_the_state(parallel: Parallel, mode: Mode) -> None:
    graph = _graph(parallel(length=_length, upper=_upper, log=lambda _: ["ran"]))
    output = await mode.run(graph, {"text": "ab", "log": ["began"]}, None)
    assert output == {"text": "ab", "length": 2, "upper": "AB", "log": ["began", "ran"]}


async def test_a_graphs_stream_shows_it_as_one_node(parallel: Parallel) -> None:
    graph = _graph(parallel(length=_length, upper=_upper))
    updates = list(graph.stream({"text": "ab"}, stream_mode="updates"))
    assert updates == [{"work": {"length": 2, "upper": "AB"}}]
    assert [one async for one in graph.astream({"text": "ab"}, stream_mode="updates")] == updates


def _branch(parallel: Parallel, graph: Runnable[Any, Any]) -> Runnable[Any, Any]:
    fan_out = parallel(graph=graph, length=_length)
    if isinstance(fan_out, RunnableParallelPlus):
        guarded = BranchPolicy(retry=RetryPolicy(), timeout=TimeoutPolicy(run_timeout=30))
        return fan_out.with_policy(graph=guarded)
    return fan_out


@whole
async def test_a_graph_is_a_branch(parallel: Parallel, mode: Mode) -> None:
    output = await mode.run(_branch(parallel, _graph(parallel(upper=_upper))), {"text": "ab"}, None)
    assert (output["graph"]["upper"], output["length"]) == ("AB", 2)


def _asks(state: State) -> dict[str, str]:
    return {"upper": f"{interrupt('what now?')} {state['text']}"}


THREAD: RunnableConfig = {"configurable": {"thread_id": "1"}}


@pytest.mark.parametrize("policy", [None, "keep", "drop"])
@pytest.mark.parametrize("mode", [mode for mode in MODES if mode.name in ("invoke", "ainvoke")], ids=str)
async def test_an_interrupt_in_a_branch_pauses_the_graph_around_it(policy: Any, mode: Mode) -> None:
    asked: list[str] = []

    def asks(state: State) -> str:
        asked.append(state["text"])
        return f"{interrupt('what now?')} {state['text']}"

    node = plus(upper=asks, length=_length)
    if policy:
        hedge = HedgePolicy(5)
        lenient = BranchPolicy(retry=RetryPolicy(), hedge=hedge, on_failure=policy, fallbacks=[lambda _: "fallback"])
        node = node.with_policy(lenient).with_join(JoinPolicy(min_success=0))
    graph = _graph(node, checkpointer=InMemorySaver())
    runs = Runs()
    config: RunnableConfig = {**THREAD, "callbacks": [runs]}
    paused = await mode.run(graph, {"text": "ab"}, config)
    assert [one.value for one in paused["__interrupt__"]] == ["what now?"]
    assert len(asked) == 1
    resumed = await mode.run(graph, Command(resume="go"), config)
    assert (resumed["upper"], resumed["length"]) == ("go ab", 2)
    assert len(asked) == 2
    assert runs.open == []


async def test_an_interrupt_is_no_failure_of_the_branch_outside_a_graph(mode: Mode) -> None:
    def interrupts(_: Any) -> None:
        raise GraphInterrupt(())

    lenient = BranchPolicy(retry=RetryPolicy(), on_failure="drop", fallbacks=[lambda _: "fallback"])
    fan_out = plus(a=interrupts, b=_length).with_policy(lenient)
    with pytest.raises(GraphInterrupt):
        await mode.run(fan_out, {"text": "ab"}, None)


@whole
async def test_a_graph_that_pauses_is_a_branch_with_an_output(parallel: Parallel, mode: Mode) -> None:
    fan_out = parallel(graph=_graph(_asks, checkpointer=InMemorySaver()), length=RunnableLambda(_length))
    output = await mode.run(fan_out, {"text": "ab"}, THREAD)
    assert [one.value for one in output["graph"]["__interrupt__"]] == ["what now?"]
    assert output["length"] == 2


@whole
async def test_the_run_tree_of_a_graph_hangs_below_its_branch(parallel: Parallel, mode: Mode) -> None:
    runs = Runs()
    fan_out = parallel(graph=_graph(parallel(upper=_upper)), length=_length)
    await mode.run(fan_out, {"text": "ab"}, {"callbacks": [runs]})
    (graph,) = runs.named("LangGraph")
    assert graph.tags == ("map:key:graph",)
    (node,) = runs.named("work")
    assert node.parent == graph.id
    assert runs.open == []


@whole
async def test_a_max_concurrency_of_the_graph_reaches_the_node(mode: Mode) -> None:
    graph = _graph(plus(length=_length, upper=plus(x=_upper) | (lambda d: d["x"])))
    output = await mode.run(graph, {"text": "ab"}, {"max_concurrency": 1})
    assert (output["length"], output["upper"]) == (2, "AB")


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode.name in ("invoke", "ainvoke")], ids=str)
async def test_an_interrupt_after_the_hedge_has_begun_is_raised_at_once(mode: Mode) -> None:
    begun: list[int] = []

    def asks(_: Any) -> str:
        begun.append(1)
        time.sleep(0.5 if len(begun) == 1 else 5)
        raise GraphInterrupt(())

    async def aasks(_: Any) -> str:
        begun.append(1)
        await asyncio.sleep(0.5 if len(begun) == 1 else 5)
        raise GraphInterrupt(())

    began = time.monotonic()
    hedged = plus(a=RunnableLambda(asks, afunc=aasks)).with_policy(BranchPolicy(hedge=HedgePolicy(0.03)))
    with pytest.raises(GraphInterrupt):
        await mode.run(hedged, 1, None)
    assert len(begun) == 2
    assert time.monotonic() - began < 2
