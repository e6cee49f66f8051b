"""One connected trace, with other instrumentations of LangChain and without."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import Runnable, RunnableLambda
from langchain_core.tracers.langchain import LangChainTracer
from langgraph.graph import START, StateGraph
from langsmith import Client
from openinference.instrumentation.langchain import LangChainInstrumentor as OpenInference
from opentelemetry.instrumentation.genai.langchain import LangChainInstrumentor as GenAI

from langchain_parallel_plus import BranchPolicy, RateLimiter, RetryPolicy, RunnableParallelPlus, RunnableSynthesis
from langchain_parallel_plus.observe.otel import foreign
from langchain_parallel_plus.synthesis import MapReduce
from tests.modes import Mode
from tests.unit.observe.otel.recorder import Recorder, Tree, recording
from tests.unit.synthesis.windows import Reader, words

# OpenInference reads `message.text` in the way of langchain-core 0.3.
pytestmark = pytest.mark.filterwarnings("ignore:Calling .text:DeprecationWarning")

SECRET = "a-secret-of-the-user"


class Model(BaseChatModel):
    """One that instrumentations know by its name."""

    model_name: str = "gpt-x"

    @property
    def _llm_type(self) -> str:
        return "test"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"model_name": self.model_name}

    def _generate(self, messages: Any, *args: Any, **kwargs: Any) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=AIMessage("an answer"))])


def refused_once() -> RunnableLambda[Any, Any]:
    left = iter(range(1))

    def step(value: Any) -> Any:
        if next(left, None) is not None:
            raise ConnectionError("not now")
        return value

    return RunnableLambda(step, name="flaky")


def fan_out() -> RunnableParallelPlus[Any]:
    """A plain branch, one with a policy that retries, and a nested fan-out."""
    ask = ChatPromptTemplate.from_template("{text}") | Model() | StrOutputParser()
    inner = RunnableParallelPlus(x=ask, y=ask, name="inner")
    whole = RunnableParallelPlus(a=ask, b=refused_once() | ask, c=inner, name="outer")
    retry = BranchPolicy(retry=RetryPolicy(max_attempts=3, initial_interval=0.001))
    return whole.with_policy(b=retry).with_limits(RateLimiter(requests_per_minute=60_000, concurrency=100))


@contextmanager
def instrumented(kind: Any, recorder: Recorder) -> Iterator[None]:
    """Switch one of the instrumentations on; without `langchain`, which OpenTelemetry's own asks for."""
    one = kind()
    one.instrument(tracer_provider=recorder.tracers, skip_dep_check=True)
    try:
        yield
    finally:
        one.uninstrument()


ALONE: Tree = [
    "invoke_workflow outer",
    ["branch a", "branch b", ["attempt", "attempt"], "branch c", ["invoke_workflow inner", ["branch x", "branch y"]]],
]
CHAT = ["chat gpt-x"]
WITH_GENAI: Tree = [
    "invoke_workflow outer",
    [
        "branch a",
        CHAT,
        "branch b",
        ["attempt", "attempt", CHAT],
        "branch c",
        ["invoke_workflow inner", ["branch x", CHAT, "branch y", CHAT]],
    ],
]
ASKED = ["ChatPromptTemplate", "Model", "StrOutputParser"]
WITH_OPENINFERENCE: Tree = [
    "outer",
    [
        "branch a",
        ["RunnableSequence", ASKED],
        "branch c",
        ["inner", ["branch x", ["RunnableSequence", ASKED], "branch y", ["RunnableSequence", ASKED]]],
        "branch:b",
        ["attempt", ["RunnableSequence", ["flaky"]], "attempt", ["RunnableSequence", [*ASKED, "flaky"]]],
    ],
]


async def _run(mode: Mode) -> None:
    await mode.run(fan_out(), {"text": SECRET}, None)


async def test_alone_it_is_one_trace(mode: Mode) -> None:
    with recording() as recorder:
        await _run(mode)
    assert recorder.tree() == ALONE
    assert recorder.traces() == 1


async def test_with_opentelemetrys_own_instrumentation_model_calls_are_inside_their_attempts(mode: Mode) -> None:
    with recording() as recorder, instrumented(GenAI, recorder):
        await _run(mode)
    assert recorder.tree() == WITH_GENAI
    assert recorder.traces() == 1
    outer = recorder.span("invoke_workflow outer")
    assert "genai" in outer.instrumentation_scope.name
    assert outer.attributes["lcpp.fan_out.succeeded"] == 3


async def test_with_openinference_its_spans_get_our_attributes(mode: Mode) -> None:
    with recording() as recorder, instrumented(OpenInference, recorder):
        await _run(mode)
    assert _sorted(recorder.tree()) == _sorted(WITH_OPENINFERENCE)
    assert recorder.traces() == 1
    assert recorder.span("outer").attributes["lcpp.fan_out.succeeded"] == 3
    branch = recorder.span("branch:b")
    assert branch.attributes["lcpp.branch.outcome"] == "recovered"
    assert branch.attributes["lcpp.branch.attempts"] == 2


def chain() -> Runnable[Any, Any]:
    two = RunnableParallelPlus(a=RunnableLambda(str), b=RunnableLambda(str), name="two")
    return two | RunnableSynthesis(Model()) | StrOutputParser()


CHAIN_ALONE: Tree = [
    "invoke_workflow RunnableSequence",
    ["invoke_workflow two", ["branch a", "branch b"], "synthesize llm"],
]


async def test_a_chain_is_one_trace_of_the_same_shape_with_opentelemetrys_own_instrumentation(mode: Mode) -> None:
    with recording() as recorder:
        await mode.run(chain(), "text", None)
    assert recorder.tree() == CHAIN_ALONE
    with recording() as recorder, instrumented(GenAI, recorder):
        await mode.run(chain(), "text", None)
    [root, below] = CHAIN_ALONE
    assert recorder.tree() == [root, [*below, CHAT]]
    assert recorder.traces() == 1
    assert "genai" in recorder.span(root).instrumentation_scope.name


async def test_a_chain_with_openinference_is_theirs(mode: Mode) -> None:
    with recording() as recorder, instrumented(OpenInference, recorder):
        await mode.run(chain(), "text", None)
    step = ["str"]
    assert _sorted(recorder.tree()) == _sorted(
        [
            "RunnableSequence",
            ["two", ["branch a", step, "branch b", step], "synthesize", ["Model"], "StrOutputParser"],
        ]
    )
    assert recorder.span("synthesize").attributes["lcpp.synthesis.strategy"] == "llm"


async def test_the_calls_of_a_tree_reduce_and_of_a_map_reduce_are_inside_it(mode: Mode) -> None:
    branches = {name: RunnableLambda(lambda _, name=name: words(name, 60)) for name in "ab"}
    tree = RunnableParallelPlus(branches, name="two") | Reader().synthesis()
    digest, step = ["map_item", ["chat scripted"]], ["RunnableLambda"]
    with recording() as recorder, instrumented(GenAI, recorder):
        await mode.run(tree, "x", None)
    [_, below] = CHAIN_ALONE
    digests = recorder.named("invoke_workflow digests")
    assert digests
    calls = ["chat scripted", *["invoke_workflow digests", digest] * len(digests)]
    if len(digests) == 1:
        calls[2] = digest * len(recorder.named("map_item"))
    assert recorder.tree() == [
        "invoke_workflow RunnableSequence",
        [*below[:-1], "synthesize map_reduce", calls],
    ]
    with recording() as recorder, instrumented(OpenInference, recorder):
        await mode.run(MapReduce(RunnableLambda(lambda value: value), RunnableSynthesis(Model())), ["a"], None)
    inside = ["map", ["map_item", step], "synthesize", ["Model"]]
    assert _sorted(recorder.tree()) == _sorted(["MapReduce", inside])


async def test_the_nodes_of_a_graph_are_one_trace() -> None:
    def answer(state: dict[str, Any]) -> dict[str, Any]:
        return {"answer": RunnableSynthesis(Model()).invoke(state["found"]).text}

    graph = StateGraph(dict)
    graph.add_node("find", lambda state: {"found": RunnableParallelPlus(a=str, b=str, name="two").invoke(state)})
    graph.add_node("answer", answer)
    graph.add_edge(START, "find")
    graph.add_edge("find", "answer")
    app = graph.compile()
    with recording() as recorder:
        app.invoke({"text": "x"})
        await app.ainvoke({"text": "x"})
    [_, below] = CHAIN_ALONE
    assert recorder.tree() == ["invoke_workflow LangGraph", below] * 2


@pytest.mark.parametrize("kind", [GenAI, OpenInference])
async def test_in_a_chain_behind_a_request_it_is_one_trace(mode: Mode, kind: Any) -> None:
    with recording() as recorder, instrumented(kind, recorder):
        tracer = recorder.tracers.get_tracer("server")
        with tracer.start_as_current_span("request"):
            await mode.run(RunnableLambda(lambda value: value) | fan_out(), {"text": SECRET}, None)
    assert recorder.traces() == 1
    [root] = [span.name for span in recorder.spans if span.parent is None]
    assert root == "request"


@pytest.mark.parametrize("kind", [GenAI, OpenInference])
async def test_what_a_step_opens_by_itself_is_inside_its_branch(mode: Mode, kind: Any) -> None:
    """As an instrumentation of an HTTP client would."""
    with recording() as recorder, instrumented(kind, recorder):
        tracer = recorder.tracers.get_tracer("http")

        def step(value: Any) -> Any:
            with tracer.start_as_current_span("GET"):
                return value

        retry = BranchPolicy(retry=RetryPolicy(max_attempts=2))
        step_of = RunnableLambda(lambda value: value) | RunnableLambda(step)
        await mode.run(RunnableParallelPlus(a=step_of, b=step_of, name="n").with_policy(b=retry), "text", None)
    spans = {span.context.span_id: span for span in recorder.spans}

    def above(span: Any) -> list[str]:
        names = []
        while span.parent is not None:
            span = spans[span.parent.span_id]
            names.append(span.name)
        return names

    first, second = sorted((above(span) for span in recorder.named("GET")), key=len)
    assert "branch a" in first
    assert "attempt" in second


@pytest.mark.parametrize("kind", [GenAI, OpenInference])
async def test_spans_of_ours_may_be_had_beside_theirs(mode: Mode, kind: Any) -> None:
    with recording("spans") as recorder, instrumented(kind, recorder):
        await _run(mode)
    assert recorder.traces() == 1
    ours = [span for span in recorder.spans if span.instrumentation_scope.name == "langchain_parallel_plus"]
    assert len(ours) == 9


@pytest.mark.parametrize("kind", [GenAI, OpenInference])
async def test_or_none_of_ours(mode: Mode, kind: Any) -> None:
    with recording("enrich") as recorder, instrumented(kind, recorder):
        await _run(mode)
    assert recorder.traces() == 1
    assert "langchain_parallel_plus" not in {span.instrumentation_scope.name for span in recorder.spans}
    roots = [span for span in recorder.spans if span.parent is None]
    assert [span.attributes["lcpp.fan_out.branch_count"] for span in roots] == [3]


async def test_without_what_is_private_to_openinference_it_is_one_trace_all_the_same(
    mode: Mode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(foreign, "_adopt_in_openinference", lambda *args: None)
    with recording() as recorder, instrumented(OpenInference, recorder):
        await _run(mode)
    assert recorder.traces() == 1


async def test_fan_outs_in_threads_at_once_keep_their_traces_apart() -> None:
    with recording() as recorder, instrumented(GenAI, recorder):
        threads = [threading.Thread(target=lambda: fan_out().invoke({"text": SECRET})) for _ in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert recorder.tree() == WITH_GENAI * 5
    assert recorder.traces() == 5


async def test_where_langsmith_writes_to_opentelemetry_it_writes_all(mode: Mode) -> None:
    with recording() as recorder:
        client = Client(
            api_url="http://127.0.0.1:9", api_key="x", tracing_mode="otel", otel_tracer_provider=recorder.tracers
        )
        with recorder.tracers.get_tracer("server").start_as_current_span("request"):
            await mode.run(fan_out(), {"text": "hello"}, {"callbacks": [LangChainTracer(client=client)]})
        client.flush()
        for _ in range(200):  # the client hands them to a thread
            if recorder.named("outer"):
                break
            await asyncio.sleep(0.05)
        client.cleanup()
    assert recorder.traces() == 1
    assert "langchain_parallel_plus" not in {span.instrumentation_scope.name for span in recorder.spans}
    assert "recovered" in str(recorder.span("outer").attributes["langsmith.metadata.lcpp_outcomes"])


def _sorted(tree: Tree) -> Any:
    """The same whatever the order of siblings of one name."""
    pairs = []
    for index, name in enumerate(tree):
        if isinstance(name, str):
            inside = tree[index + 1] if index + 1 < len(tree) and isinstance(tree[index + 1], list) else []
            pairs.append((name, _sorted(inside)))
    return sorted(pairs, key=str)
