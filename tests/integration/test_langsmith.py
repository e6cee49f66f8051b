"""LangSmith: what arrives at the service from a real client."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import Runnable, RunnableConfig, RunnableLambda, RunnableParallel
from langsmith import tracing_context

from langchain_parallel_plus import (
    BranchPolicy,
    JoinPolicy,
    RateLimiter,
    RetryPolicy,
    RunnableParallelPlus,
    RunnableWithPolicy,
    TimeoutPolicy,
)
from langchain_parallel_plus.errors import RequestTooLargeError
from tests.integration.langsmith_receiver import events, langsmith, metadata
from tests.modes import Mode

RETRY = RetryPolicy(max_attempts=3, initial_interval=0.001)


class Model(BaseChatModel):
    """A model that can be slow."""

    seconds: float = 0.0

    @property
    def _llm_type(self) -> str:
        return "test"

    def _generate(self, messages: Any, *args: Any, **kwargs: Any) -> ChatResult:
        threading.Event().wait(self.seconds)
        return ChatResult(generations=[ChatGeneration(message=AIMessage("an answer", id="1"))])

    async def _agenerate(self, messages: Any, *args: Any, **kwargs: Any) -> ChatResult:
        await asyncio.sleep(self.seconds)
        return ChatResult(generations=[ChatGeneration(message=AIMessage("an answer", id="1"))])


def ask(seconds: float = 0.0) -> Runnable[Any, Any]:
    return ChatPromptTemplate.from_template("{text}") | Model(seconds=seconds) | StrOutputParser()


def fails(times: int, then: Runnable[Any, Any] | None = None) -> Runnable[Any, Any]:
    left = iter(range(times))

    def step(value: Any) -> Any:
        if next(left, None) is not None:
            raise ConnectionError("not now")
        return value

    return RunnableLambda(step) | (then or ask())


VALUE = {"text": "hello"}


@pytest.mark.parametrize("transport", ["multipart", "zstd", "json"])
async def test_runs_arrive_by_every_transport(mode: Mode, transport: Any) -> None:
    fan_out = RunnableParallelPlus(a=ask(), b=fails(1), name="research").with_policy(b=BranchPolicy(retry=RETRY))
    with langsmith(transport) as service:
        await mode.run(fan_out, VALUE, service.config())
        runs = service.sent()
    assert not runs.pending
    root = runs.run("research")
    assert root.get("parent_run_id") is None
    assert metadata(root)["lcpp_outcomes"] == {"a": "ok", "b": "recovered"}
    assert runs.run("branch:b")["parent_run_id"] == root["id"]
    assert "map:key:b" in runs.run("branch:b")["tags"]


async def test_a_plain_branch_is_traced_as_runnable_parallel_traces_it(mode: Mode) -> None:
    steps: dict[str, Any] = {"a": ask(), "b": RunnableLambda(len), "c": {"x": ask(), "y": RunnableLambda(len)}}
    steps["c"] = RunnableParallel(steps["c"])
    trees = []
    for kind in (RunnableParallel, RunnableParallelPlus):
        with langsmith() as service:
            await mode.run(RunnableLambda(lambda value: value) | kind(steps), VALUE, service.config())
            trees.append(service.sent().tree())
    assert trees[0] == trees[1]


async def test_every_run_of_a_branch_says_where_it_belongs(mode: Mode) -> None:
    inner = RunnableParallelPlus(x=ask(), name="inner")
    fan_out = RunnableParallelPlus(a=ask(), b=inner, c=fails(1), name="outer").with_policy(c=BranchPolicy(retry=RETRY))
    with langsmith() as service:
        await mode.run(fan_out, VALUE, service.config())
        runs = service.sent()
    outer, within = runs.run("outer")["id"], runs.run("inner")["id"]
    places = sorted((metadata(run) for run in runs.named("Model")), key=str)
    assert places == [
        {"lcpp_branch": "a", "lcpp_fan_out": "outer", "lcpp_run_id": outer},
        {"lcpp_branch": "b/x", "lcpp_fan_out": "inner", "lcpp_run_id": within},
        {"lcpp_attempt": 2, "lcpp_branch": "c", "lcpp_fan_out": "outer", "lcpp_run_id": outer},
    ]


async def test_steps_and_callbacks_are_given_what_they_are_given_without_it(mode: Mode) -> None:
    seen: list[dict[str, Any]] = []

    def look(value: Any, config: RunnableConfig) -> Any:
        seen.append(dict(config["metadata"]))
        return value

    with langsmith() as service:
        await mode.run(RunnableParallelPlus(a=RunnableLambda(look)), VALUE, service.config())
    assert seen == [{}]


async def test_retries_and_fallbacks_are_tagged_and_told(mode: Mode) -> None:
    policy = BranchPolicy(retry=RetryPolicy(max_attempts=2, initial_interval=0.001), fallbacks=[ask()])
    with langsmith() as service:
        await mode.run(RunnableParallelPlus(b=fails(9)).with_policy(policy), VALUE, service.config())
        runs = service.sent()
    branch = runs.run("branch:b")
    attempts = [run for run in runs.by_id.values() if run.get("parent_run_id") == branch["id"]]
    tags = sorted(tag for run in attempts for tag in run["tags"] if not tag.startswith("map:"))
    assert tags == ["fallback:1", "retry:attempt:2"]
    told = metadata(branch)
    assert told["lcpp_attempts"] == 3
    assert told["lcpp_outcome"] == "recovered"
    assert told["lcpp_backoff_s"] > 0
    [retry] = events(branch, "retry")
    assert retry["kwargs"]["attempt"] == 1


async def test_waits_for_a_limiter_are_events_of_the_model_run(mode: Mode) -> None:
    limiter = RateLimiter(requests_per_minute=1200, burst=0.05, name="traced")
    fan_out = RunnableParallelPlus(a=ask(), b=ask(), c=ask()).with_limits(limiter)
    with langsmith() as service:
        await mode.run(fan_out, VALUE, service.config())
        runs = service.sent()
    waits = [(run, event) for run in runs.named("Model") for event in events(run, "limiter_wait")]
    assert waits
    for run, event in waits:
        assert event["kwargs"]["limiter"] == "traced"
        assert event["kwargs"]["dimension"] == "requests_per_minute"
        assert event["kwargs"]["branch"] == metadata(run)["lcpp_branch"]
        assert metadata(run)["lcpp_wait_s"] == event["kwargs"]["seconds"] > 0


async def test_a_call_that_a_limiter_refuses_does_not_stay_pending(mode: Mode) -> None:
    limiter = RateLimiter(tokens_per_minute=10, name="small")
    fan_out = RunnableParallelPlus(a=ask(), b=RunnableLambda(len)).with_limits(limiter)
    with langsmith() as service:
        with pytest.raises(RequestTooLargeError):
            await mode.run(fan_out, {"text": "hello " * 100}, service.config())
        runs = service.sent()
    assert not runs.pending
    assert "refused before it began" in runs.run("Model")["error"]
    [refusal] = [event for run in runs.by_id.values() for event in events(run, "limiter_refusal")]
    assert refusal["kwargs"]["reason"] == "request_too_large"


async def test_what_is_cancelled_does_not_stay_pending() -> None:
    fan_out = RunnableParallelPlus(a=ask(9), b=ask(), c=fails(0, ask(9))).with_policy(c=BranchPolicy(retry=RETRY))
    with langsmith() as service:
        task = asyncio.create_task(fan_out.ainvoke(VALUE, service.config()))
        await asyncio.sleep(0.2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        runs = service.sent()
    assert not runs.pending
    assert len([run for run in runs.named("Model") if run.get("error")]) == 2


async def test_siblings_of_what_fails_do_not_stay_pending() -> None:
    with langsmith() as service:
        with pytest.raises(ConnectionError):
            await RunnableParallelPlus(a=ask(9), b=fails(9)).ainvoke(VALUE, service.config())
        runs = service.sent()
    assert not runs.pending


async def test_what_a_join_does_not_wait_for_does_not_stay_pending() -> None:
    fan_out = RunnableParallelPlus(a=ask(9), b=ask()).with_join(JoinPolicy(wait_for=1))
    with langsmith() as service:
        await fan_out.ainvoke(VALUE, service.config())
        runs = service.sent()
    assert not runs.pending


@pytest.mark.parametrize("inside", [True, False], ids=["in a fan-out", "alone"])
async def test_an_attempt_that_times_out_ends_when_it_does_and_not_with_the_branch(inside: bool) -> None:
    timeout = BranchPolicy(timeout=TimeoutPolicy(attempt_timeout=0.2), fallbacks=[RunnableLambda(len) | _pause()])
    step: Runnable[Any, Any] = RunnableWithPolicy(ask(9), timeout)
    with langsmith() as service:
        await (RunnableParallelPlus(a=step) if inside else step).ainvoke(VALUE, service.config())
        runs = service.sent()
    assert not runs.pending
    assert runs.run("Model")["end_time"] < runs.run("pause")["end_time"]


def _pause() -> Runnable[Any, Any]:
    async def pause(value: Any) -> Any:
        await asyncio.sleep(0.05)
        return value

    return RunnableLambda(lambda value: value, afunc=pause, name="pause")


@pytest.mark.parametrize("method", ["stream", "astream"])
async def test_a_stream_that_is_closed_early_leaves_nothing_pending(method: str) -> None:
    slow = ask(0.3)
    fan_out = RunnableParallelPlus(a=ask(), b=slow, c=slow).with_policy(c=BranchPolicy(retry=RETRY))
    with langsmith() as service:
        if method == "stream":
            chunks = fan_out.stream(VALUE, service.config())
            next(chunks)
            chunks.close()
            await asyncio.sleep(0.5)  # threads cannot be cancelled: their runs end when they do
        else:
            achunks = fan_out.astream(VALUE, service.config())
            await anext(achunks)
            await achunks.aclose()
        runs = service.sent()
    assert not runs.pending


async def test_work_that_outlives_a_branch_that_succeeded_is_left_alone() -> None:
    kept = []

    async def start(value: Any) -> Any:
        kept.append(asyncio.create_task(Model(seconds=0.2).ainvoke("later")))
        await asyncio.sleep(0.05)
        return value

    with langsmith() as service:
        await RunnableParallelPlus(a=RunnableLambda(len, afunc=start)).ainvoke(VALUE, service.config())
        await kept[0]
        runs = service.sent()
    assert not runs.pending
    assert runs.run("Model").get("error") is None


async def test_the_environments_tracer_is_followed_as_well(mode: Mode) -> None:
    """As with `LANGSMITH_TRACING=true`."""
    with langsmith() as service:
        with tracing_context(enabled=True, client=service.client, project_name="p"):
            await mode.run(RunnableParallelPlus(a=ask(), name="n"), VALUE, None)
        runs = service.sent()
    assert metadata(runs.run("Model"))["lcpp_branch"] == "a"
    assert metadata(runs.run("n"))["lcpp_outcomes"] == {"a": "ok"}


async def test_a_batch_keeps_its_items_apart() -> None:
    with langsmith() as service:
        RunnableParallelPlus(a=ask(), name="n").batch([VALUE] * 3, service.config())
        runs = service.sent()
    assert {metadata(run)["lcpp_run_id"] for run in runs.named("Model")} == {run["id"] for run in runs.named("n")}
    assert len(runs.named("n")) == 3


async def test_a_step_with_callbacks_of_its_own_is_traced_once(mode: Mode) -> None:
    class Mine(BaseCallbackHandler):
        pass

    step = ask().with_config(callbacks=[Mine()])
    fan_out = RunnableParallelPlus(a=step, b=step).with_policy(b=BranchPolicy(retry=RETRY))
    with langsmith() as service:
        await mode.run(fan_out, VALUE, service.config())
        runs = service.sent()
    assert len(runs.named("Model")) == 2
    assert not runs.repeated


async def test_outcomes_are_those_of_branches_and_not_of_policies_inside_them(mode: Mode) -> None:
    inside = RunnableWithPolicy(fails(1), BranchPolicy(retry=RETRY), name="inside")
    with langsmith() as service:
        await mode.run(RunnableParallelPlus(a=RunnableLambda(_same) | inside, name="n"), VALUE, service.config())
        runs = service.sent()
    assert metadata(runs.run("n"))["lcpp_outcomes"] == {"a": "ok"}
    assert metadata(runs.run("inside"))["lcpp_outcome"] == "recovered"
    assert metadata(runs.run("Model"))["lcpp_branch"] == "a/inside"


def _same(value: Any) -> Any:
    return value


@pytest.mark.parametrize("seconds", ["run_timeout", "attempt_timeout"])
def test_a_thread_that_is_left_behind_ends_its_runs_itself_and_its_refused_call_is_ended(seconds: str) -> None:
    going_on, over = threading.Event(), threading.Event()

    def left_behind(value: Any) -> Any:
        going_on.wait(5)
        try:
            return Model().invoke("still wanted?")
        finally:
            over.set()

    policy = BranchPolicy(timeout=TimeoutPolicy(**{seconds: 0.1}), on_failure="keep")
    with langsmith() as service:
        RunnableParallelPlus(a=RunnableLambda(left_behind)).with_policy(policy).invoke(VALUE, service.config())
        assert service.sent().pending == ["left_behind"]
        going_on.set()
        assert over.wait(5)
        for _ in range(100):
            if not (runs := service.sent()).pending:
                break
            threading.Event().wait(0.02)
    assert not runs.pending
    assert not runs.repeated
    assert "BranchAbandonedError" in runs.run("Model")["error"]
