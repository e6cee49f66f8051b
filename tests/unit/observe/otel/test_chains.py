"""A chain of several runs of ours is one trace, with nothing else installed."""

from __future__ import annotations

import asyncio
import gc
import threading
from typing import Any
from uuid import uuid4

import pytest
from langchain_core.callbacks import CallbackManager
from langchain_core.language_models.fake_chat_models import FakeListChatModel
from langchain_core.output_parsers import StrOutputParser
from langchain_core.runnables import Runnable, RunnableConfig, RunnableLambda, RunnablePassthrough
from langchain_core.tools import tool
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import StatusCode, get_current_span

from langchain_parallel_plus import (
    BranchPolicy,
    RetryPolicy,
    RunnableParallelPlus,
    RunnableSynthesis,
    RunnableWithPolicy,
)
from langchain_parallel_plus.observe import configure_otel
from langchain_parallel_plus.observe.otel.surroundings import Bystander
from langchain_parallel_plus.synthesis import JoinText, MapReduce, PickBest
from tests.modes import Mode
from tests.unit.observe.otel.recorder import Tree, recording
from tests.unit.synthesis.windows import Reader, words

SECRET = "a-secret-of-the-user"
FAN_OUT: Tree = ["invoke_workflow f", ["branch a", "branch b"]]
CHAIN: Tree = ["invoke_workflow RunnableSequence", [*FAN_OUT, "synthesize llm"]]


def same() -> Runnable[Any, Any]:
    return RunnableLambda(lambda value: value)


def fan_out() -> RunnableParallelPlus[Any]:
    return RunnableParallelPlus(a=same(), b=same(), name="f")


def chain() -> Runnable[Any, Any]:
    return fan_out() | RunnableSynthesis(FakeListChatModel(responses=["well"])) | StrOutputParser()


async def test_a_fan_out_and_its_synthesis_are_one_trace(mode: Mode) -> None:
    with recording() as recorder:
        assert await mode.run(chain(), SECRET, None) == "well"
    assert recorder.tree() == CHAIN
    assert recorder.traces() == 1
    root = recorder.span("invoke_workflow RunnableSequence")
    assert root.attributes == {
        "gen_ai.operation.name": "invoke_workflow",
        "gen_ai.workflow.name": "RunnableSequence",
        "openinference.span.kind": "CHAIN",
    }
    assert root.start_time <= min(span.start_time for span in recorder.spans)
    assert root.end_time >= max(span.end_time for span in recorder.spans)
    assert not any(SECRET in span.to_json() for span in recorder.spans)


@pytest.mark.parametrize("method", ["batch", "abatch"])
async def test_each_item_of_a_batch_of_chains_is_a_trace(method: str) -> None:
    with recording() as recorder:
        await chain().abatch(["x", "y"]) if method == "abatch" else chain().batch(["x", "y"])
    assert recorder.tree() == CHAIN * 2
    assert recorder.traces() == 2


async def test_the_chain_may_be_named_and_may_be_deep(mode: Mode) -> None:
    model = RunnableWithPolicy(same(), BranchPolicy(retry=RetryPolicy(max_attempts=2)), name="model")
    deep = RunnablePassthrough.assign(found=fan_out()) | RunnableLambda(
        lambda value: (same() | JoinText()).invoke(value)
    )
    with recording() as recorder:
        await mode.run(deep | model, {"text": "x"}, {"run_name": "research"})
    assert recorder.tree() == [
        "invoke_workflow research",
        ["branch model", ["attempt"], "invoke_workflow f", ["branch a", "branch b"], "synthesize join_text"],
    ]


async def test_what_a_map_reduce_calls_is_inside_it(mode: Mode) -> None:
    model = FakeListChatModel(responses=["well"])
    reduce = RunnableSynthesis(model) | StrOutputParser()
    with recording() as recorder:
        await mode.run(same() | MapReduce(same(), reduce), ["x", "y"], None)
    inside = ["invoke_workflow map", ["map_item", "map_item"], "synthesize llm"]
    assert recorder.tree() == ["invoke_workflow RunnableSequence", ["synthesize map_reduce", inside]]
    assert recorder.span("synthesize map_reduce").attributes["lcpp.synthesis.inputs"] == 2


async def test_the_digests_of_a_synthesis_are_inside_it(mode: Mode) -> None:
    fan_out = RunnableParallelPlus({name: RunnableLambda(lambda _, name=name: words(name, 60)) for name in "abcd"})
    with recording() as recorder:
        await mode.run(fan_out | Reader().synthesis(), "x", None)
        assert recorder.traces() == 1
    digests = recorder.named("invoke_workflow digests")
    assert digests
    assert {span.parent.span_id for span in digests} == {recorder.span("synthesize map_reduce").context.span_id}
    assert recorder.span("synthesize map_reduce").attributes["lcpp.synthesis.inputs"] == 4


async def test_the_digests_of_a_synthesis_in_a_branch_are_inside_it(mode: Mode) -> None:
    """Behind a stream there are several at once in one run."""
    several = RunnableParallelPlus({name: RunnableLambda(lambda _, name=name: words(name, 60)) for name in "abcdef"})
    outer = RunnableParallelPlus(a=several | Reader().synthesis(), b=MapReduce(same(), JoinText()), name="outer")
    with recording() as recorder:
        await mode.run(RunnableLambda(lambda _: ["x", "y"]) | outer, "x", None)
        assert recorder.traces() == 1
    spans = {span.context.span_id: span for span in recorder.spans}

    def above(span: Any) -> str:
        return str(spans[span.parent.span_id].name)

    digests = recorder.named("invoke_workflow digests")
    assert {above(span) for span in digests} == {"synthesize map_reduce"}
    assert all(span.attributes["lcpp.fan_out.succeeded"] > 0 for span in digests)
    assert above(recorder.span("invoke_workflow map")) == "synthesize map_reduce"
    assert above(recorder.span("synthesize join_text")) == "synthesize map_reduce"
    assert {above(span) for span in recorder.named("synthesize map_reduce")} == {"branch a", "branch b"}


class Client(FakeListChatModel):
    """A model whose client library is instrumented."""

    tracer: Any

    def _call(self, *args: Any, **kwargs: Any) -> str:
        with self.tracer.start_as_current_span("POST"):
            return super()._call(*args, **kwargs)

    def _stream(self, *args: Any, **kwargs: Any) -> Any:
        self.tracer.start_span("POST").end()
        yield from super()._stream(*args, **kwargs)

    async def _astream(self, *args: Any, **kwargs: Any) -> Any:
        self.tracer.start_span("POST").end()
        async for chunk in super()._astream(*args, **kwargs):
            yield chunk


def synthesis_of(kind: str, model: Runnable[Any, Any]) -> Runnable[Any, Any]:
    if kind == "judge":
        return PickBest(judge=model)
    if kind == "map_reduce":
        return MapReduce(same(), RunnableLambda(str) | model)
    return RunnableSynthesis(model)


@pytest.mark.parametrize("kind", ["llm", "judge", "map_reduce"])
async def test_what_the_client_of_a_synthesis_s_model_writes_is_inside_the_synthesis(mode: Mode, kind: str) -> None:
    with recording() as recorder:
        model = Client(responses=["A"], tracer=recorder.tracers.get_tracer("httpx"))
        different = RunnableParallelPlus(a=same(), b=RunnableLambda(str.upper), name="f")
        await mode.run(different | synthesis_of(kind, model) | same(), "text", None)
    assert recorder.traces() == 1
    synthesis = next(span for span in recorder.spans if span.name.startswith("synthesize"))
    posts = recorder.named("POST")
    assert {post.parent.span_id for post in posts} == {synthesis.context.span_id}
    assert not get_current_span().get_span_context().is_valid


@pytest.mark.parametrize("closed", [False, True])
async def test_between_the_chunks_of_a_synthesis_its_span_is_not_current(closed: bool) -> None:
    def outside() -> bool:
        return not get_current_span().get_span_context().is_valid

    with recording() as recorder:
        model = Client(responses=["many words"], tracer=recorder.tracers.get_tracer("httpx"))
        joined = fan_out() | RunnableSynthesis(model)
        stream = joined.stream("text")
        for _ in range(3):
            next(stream)
            assert outside()
        stream.close() if closed else list(stream)
        assert outside()
        streamed = joined.astream("text")
        for _ in range(3):
            await anext(streamed)
            assert outside()
        await streamed.aclose() if closed else [chunk async for chunk in streamed]
        assert outside()
        for _ in range(100):  # langchain-core leaves the steps of a closed stream to the garbage collector
            await asyncio.sleep(0)
    assert recorder.traces() == 2


async def test_what_is_no_chain_of_ours_has_no_span(mode: Mode) -> None:
    with recording() as recorder:
        await mode.run(same() | same(), "x", None)
        assert not recorder.spans
        await mode.run(fan_out(), "x", None)
    assert recorder.tree() == FAN_OUT


async def test_names_of_runs_that_list_their_steps_are_cut(mode: Mode) -> None:
    with recording() as recorder:
        await mode.run(RunnablePassthrough.assign(found=fan_out()), {"text": "x"}, None)
    assert recorder.tree() == ["invoke_workflow RunnableAssign", FAN_OUT]


async def test_a_span_of_the_users_around_it_is_the_root(mode: Mode) -> None:
    with recording() as recorder, recorder.tracers.get_tracer("server").start_as_current_span("request"):
        await mode.run(chain(), "x", None)
    assert recorder.tree() == ["request", CHAIN]


async def test_a_span_of_the_users_inside_it_keeps_what_is_inside_that(mode: Mode) -> None:
    with recording() as recorder:
        tracer = recorder.tracers.get_tracer("user")

        def step(value: Any) -> Any:
            with tracer.start_as_current_span("mine"):
                return fan_out().invoke(value)

        with tracer.start_as_current_span("request"):
            await mode.run(RunnableLambda(step) | JoinText(), "x", None)
    assert recorder.tree() == [
        "request",
        ["invoke_workflow RunnableSequence", ["synthesize join_text"], "mine", FAN_OUT],
    ]


async def test_an_error_of_the_chain_is_told_by_its_class_alone(mode: Mode) -> None:
    def fail(value: Any) -> Any:
        raise ConnectionError(SECRET)

    with recording() as recorder, pytest.raises(ConnectionError):
        await mode.run(fan_out() | RunnableLambda(fail), "x", None)
    root = recorder.span("invoke_workflow RunnableSequence")
    assert (root.status.status_code, root.status.description) == (StatusCode.ERROR, None)
    assert root.attributes["error.type"] == "ConnectionError"
    assert not any(SECRET in span.to_json() for span in recorder.spans)


async def test_a_chain_that_is_cancelled_ends_its_span() -> None:
    begun = asyncio.Event()

    async def forever(value: Any) -> Any:
        begun.set()
        await asyncio.Event().wait()

    with recording() as recorder:
        task = asyncio.create_task((fan_out() | RunnableLambda(forever)).ainvoke("x"))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert recorder.span("invoke_workflow RunnableSequence").status.status_code is StatusCode.UNSET


async def test_a_stream_that_is_closed_early_ends_its_span() -> None:
    with recording() as recorder:
        stream = chain().stream("x")
        next(stream)
        stream.close()
        chunks = chain().astream("x")
        await anext(chunks)
        await chunks.aclose()
        for _ in range(1000):  # upstream's sequence leaves its steps to the loop
            if len(recorder.spans) == 10:
                break
            await asyncio.sleep(0)
    assert recorder.tree() == CHAIN * 2


async def test_streams_that_are_read_in_turns_keep_their_traces_apart() -> None:
    with recording() as recorder:
        for _ in zip(chain().stream("x"), chain().stream("y"), strict=True):
            pass
        first, second = chain().astream("x"), chain().astream("y")
        async for _ in first:
            await anext(second, None)
        async for _ in second:
            pass
    assert recorder.tree() == CHAIN * 4
    assert recorder.traces() == 4


def test_a_step_in_a_thread_that_lost_the_context_is_in_the_chain_that_its_config_says() -> None:
    def step(value: Any, config: RunnableConfig) -> Any:
        thread = threading.Thread(target=lambda: fan_out().invoke(value, config))
        thread.start()
        thread.join()
        return {"a": value}

    with recording() as recorder:
        (RunnableLambda(step) | JoinText()).invoke("x")
    assert recorder.tree() == ["invoke_workflow RunnableSequence", [*FAN_OUT, "synthesize join_text"]]


def test_a_tool_may_be_the_chain() -> None:
    @tool
    def search(query: str) -> str:
        """Search."""
        return str(JoinText().invoke(fan_out().invoke(query)))

    with recording() as recorder:
        search.invoke("x")
    assert recorder.tree() == ["invoke_workflow search", [*FAN_OUT, "synthesize join_text"]]


def test_a_run_whose_end_nobody_tells_ends_with_the_next_run_once_nothing_knows_it() -> None:
    """As upstream's `batch` of a runnable with fallbacks leaves its runs."""
    with recording() as recorder:
        manager = CallbackManager.configure()
        run = manager.on_chain_start(None, "x", run_id=uuid4(), name="lost")
        fan_out().invoke("x", {"callbacks": run.get_child()})
        assert not recorder.named("invoke_workflow lost")
        del manager, run
        gc.collect()
        assert not recorder.named("invoke_workflow lost")  # not from within the garbage collector
        same().invoke("y")
    assert recorder.tree() == ["invoke_workflow lost", FAN_OUT]


async def test_what_is_not_sampled_is_not_written(mode: Mode) -> None:
    with recording() as recorder:
        configure_otel(tracer_provider=TracerProvider(sampler=ALWAYS_OFF), meter_provider=recorder.meters)
        await mode.run(chain(), "x", None)
        assert not recorder.spans
        assert recorder.points("lcpp.synthesis.duration")


@pytest.mark.parametrize("mode_of_otel", ["off", "enrich"])
async def test_where_no_spans_are_wanted_there_is_none(mode: Mode, mode_of_otel: Any) -> None:
    with recording(mode_of_otel) as recorder:
        await mode.run(chain(), "x", None)
        assert not recorder.spans


async def test_without_an_sdk_no_run_has_a_handler_of_ours_and_with_one_branches_have_none_that_works(
    mode: Mode,
) -> None:
    seen: list[Any] = []

    def look(value: Any, config: RunnableConfig) -> Any:
        callbacks: Any = config["callbacks"]
        seen.extend(one for one in callbacks.handlers if isinstance(one, Bystander))
        return value

    looks = RunnableLambda(look)
    await mode.run(looks | RunnableParallelPlus(a=looks), "x", None)
    assert not seen
    with recording():
        await mode.run(looks | RunnableParallelPlus(a=looks), "x", None)
    assert all(one.ignore_chain and one.ignore_llm and one.ignore_agent for one in seen)
