"""Spans: which there are, what is inside what, and what they say."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any
from uuid import uuid4

import pytest
from langchain_core.language_models.fake_chat_models import FakeListChatModel
from langchain_core.runnables import Runnable, RunnableLambda
from opentelemetry import trace
from opentelemetry.trace import StatusCode

from langchain_parallel_plus import (
    BranchPolicy,
    CircuitBreaker,
    FanOutError,
    JoinPolicy,
    RateLimiter,
    RetryPolicy,
    RunnableParallelPlus,
    RunnableWithPolicy,
    TimeoutPolicy,
)
from langchain_parallel_plus.limits import Cost
from langchain_parallel_plus.observe import Event, subscribed, telling_synthesis
from langchain_parallel_plus.observe.otel import follower
from tests.modes import Mode
from tests.unit.observe.otel.recorder import recording

SECRET = "a-secret-of-the-user"
RUN = uuid4()
RETRY = RetryPolicy(max_attempts=3, initial_interval=0.001)


class StatusError(Exception):
    status_code = 503


def fails(times: int, error: type[Exception] = ConnectionError) -> Runnable[Any, Any]:
    """A step that fails some times, and then answers; its errors quote the prompt."""
    left = iter(range(times))

    def step(value: Any) -> Any:
        if next(left, None) is not None:
            raise error(f"cannot answer {value}")
        return value

    return RunnableLambda(step)


def same() -> Runnable[Any, Any]:
    return RunnableLambda(lambda value: value)


def described(span: Any) -> tuple[str, str | None]:
    return span.status.status_code.name, span.status.description


async def test_a_fan_out_its_branches_and_their_attempts_are_one_trace(mode: Mode) -> None:
    inner = RunnableParallelPlus(x=same(), y=same(), name="inner")
    fan_out = RunnableParallelPlus(a=same(), b=fails(1), c=inner, name="outer").with_policy(b=BranchPolicy(retry=RETRY))
    with recording() as recorder:
        await mode.run(fan_out, "text", None)
    assert recorder.tree() == [
        "invoke_workflow outer",
        [
            "branch a",
            "branch b",
            ["attempt", "attempt"],
            "branch c",
            ["invoke_workflow inner", ["branch x", "branch y"]],
        ],
    ]
    assert recorder.traces() == 1


async def test_spans_say_what_became_of_branches_and_attempts(mode: Mode) -> None:
    fan_out = RunnableParallelPlus(a=same(), b=fails(1), name="research").with_policy(b=BranchPolicy(retry=RETRY))
    with recording() as recorder:
        await mode.run(fan_out, "text", None)
    told = dict(recorder.span("invoke_workflow research").attributes or {})
    assert told.pop("lcpp.fan_out.speedup") > 0
    assert told == {
        "gen_ai.operation.name": "invoke_workflow",
        "gen_ai.workflow.name": "research",
        "openinference.span.kind": "CHAIN",
        "lcpp.fan_out.branch_count": 2,
        "lcpp.fan_out.failure_policy": "raise",
        "lcpp.fan_out.succeeded": 2,
        "lcpp.fan_out.failed": 0,
        "lcpp.fan_out.skipped": 0,
        "lcpp.fan_out.critical_branch": "b",
    }
    branch = recorder.span("branch b").attributes or {}
    assert branch["lcpp.branch.key"] == "b"
    assert branch["lcpp.branch.outcome"] == "recovered"
    assert branch["lcpp.branch.attempts"] == 2
    assert branch["lcpp.branch.required"] is False
    assert branch["lcpp.branch.wasted_s"] > 0
    first, second = recorder.named("attempt")
    assert first.attributes["lcpp.attempt.number"] == 1
    assert first.attributes["lcpp.attempt.role"] == "primary"
    assert first.attributes["lcpp.attempt.outcome"] == "error"
    assert first.attributes["lcpp.error.kind"] == "connection"
    assert first.attributes["error.type"] == "ConnectionError"
    assert second.attributes["lcpp.attempt.role"] == "retry"
    assert second.attributes["lcpp.attempt.outcome"] == "ok"
    assert second.attributes["lcpp.retry.delay_s"] == branch["lcpp.branch.backoff_s"]
    assert all(span.attributes["openinference.span.kind"] == "CHAIN" for span in recorder.spans)


async def test_what_a_retry_has_saved_is_no_error(mode: Mode) -> None:
    fan_out = RunnableParallelPlus(b=fails(1, StatusError)).with_policy(BranchPolicy(retry=RETRY))
    with recording() as recorder:
        await mode.run(fan_out, "text", None)
    assert described(recorder.span("invoke_workflow FanOut")) == ("UNSET", None)
    assert described(recorder.span("branch b")) == ("UNSET", None)
    assert "error.type" not in recorder.span("branch b").attributes
    assert [described(span) for span in recorder.named("attempt")] == [("ERROR", "overloaded 503"), ("UNSET", None)]
    assert recorder.named("attempt")[0].attributes["http.response.status_code"] == 503


async def test_a_branch_that_fails_for_good_is_an_error_up_to_the_fan_out(mode: Mode) -> None:
    with recording() as recorder, pytest.raises(StatusError):
        await mode.run(RunnableParallelPlus(b=fails(9, StatusError), name="n"), "text", None)
    for name in ("invoke_workflow n", "branch b"):
        assert recorder.span(name).status.status_code is StatusCode.ERROR
        assert recorder.span(name).attributes["error.type"].endswith("StatusError")
    assert recorder.span("branch b").attributes["lcpp.branch.outcome"] == "failed"


@pytest.mark.parametrize("on_failure", ["keep", "drop"])
async def test_a_failure_that_is_put_up_with_is_an_error_of_its_branch_alone(mode: Mode, on_failure: Any) -> None:
    fan_out = RunnableParallelPlus(a=same(), b=fails(9), name="n").with_policy(b=BranchPolicy(on_failure=on_failure))
    with recording() as recorder:
        await mode.run(fan_out, "text", None)
    assert described(recorder.span("invoke_workflow n")) == ("UNSET", None)
    assert recorder.span("invoke_workflow n").attributes["lcpp.fan_out.failed"] == 1
    assert recorder.span("invoke_workflow n").attributes["lcpp.fan_out.failure_policy"] == f"{on_failure}/raise"
    assert described(recorder.span("branch b")) == ("ERROR", "connection")


async def test_too_few_successes_are_an_error_of_the_fan_out(mode: Mode) -> None:
    fan_out = RunnableParallelPlus(a=same(), b=fails(9), name="n").with_join(JoinPolicy(min_success=2))
    with recording() as recorder, pytest.raises(FanOutError):
        await mode.run(fan_out, "text", None)
    assert recorder.span("invoke_workflow n").attributes["error.type"].endswith("FanOutError")


async def test_a_fallback_is_linked_to_the_attempt_that_failed(mode: Mode) -> None:
    fan_out = RunnableParallelPlus(b=fails(9)).with_policy(BranchPolicy(fallbacks=[same()]))
    with recording() as recorder:
        await mode.run(fan_out, "text", None)
    failed, fallback = recorder.named("attempt")
    [link] = fallback.links
    assert link.context.span_id == failed.context.span_id
    assert link.attributes == {"lcpp.link.type": "fallback_of"}
    assert fallback.attributes["lcpp.attempt.role"] == "fallback"
    assert fallback.attributes["lcpp.attempt.target"] == 1
    assert fallback.attributes["lcpp.fallback.from"] == 0


async def test_a_fallback_that_is_tried_again_says_so_and_is_linked_once(mode: Mode) -> None:
    policy = BranchPolicy(retry=RETRY, fallbacks=[fails(1)])
    with recording() as recorder:
        await mode.run(RunnableParallelPlus(b=fails(9)).with_policy(policy), "text", None)
    *_, failed, first, second = recorder.named("attempt")
    assert [link.context.span_id for link in first.links] == [failed.context.span_id]
    assert not second.links
    assert "lcpp.retry.delay_s" not in first.attributes
    assert second.attributes["lcpp.retry.delay_s"] > 0


class GraphBubbleUp(Exception):
    """As LangGraph's: told by its name."""


async def test_an_interrupt_is_no_error(mode: Mode) -> None:
    def interrupt(value: Any) -> Any:
        raise GraphBubbleUp("a question")

    with recording() as recorder, pytest.raises(GraphBubbleUp):
        await mode.run(RunnableParallelPlus(a=RunnableLambda(interrupt), b=same(), name="n"), "text", None)
    assert {described(span) for span in recorder.spans} == {("UNSET", None)}
    assert not any("error.type" in span.attributes for span in recorder.spans)


def test_a_nested_fan_out_that_nobody_waits_for_any_more_is_no_error() -> None:
    begun, release, over = threading.Event(), threading.Event(), threading.Event()

    def slow(value: Any) -> Any:
        begun.set()
        release.wait(20)
        return value

    def bad(value: Any) -> Any:
        begun.wait(20)
        raise ConnectionError("down")

    fan_out = RunnableParallelPlus(a=RunnableParallelPlus(x=RunnableLambda(slow), name="inner"), b=RunnableLambda(bad))
    with recording() as recorder, subscribed(lambda event: over.set() if _inner_ended(event) else None):
        with pytest.raises(ConnectionError):
            fan_out.invoke("text")
        assert over.wait(20)
        release.set()
        for _ in range(2000):  # the event is told to us before it is told to traces
            if recorder.named("invoke_workflow inner"):
                break
            time.sleep(0.01)
    assert described(recorder.span("invoke_workflow inner")) == ("UNSET", None)
    assert described(recorder.span("branch x")) == ("UNSET", None)


def _inner_ended(event: Event) -> bool:
    return event.kind == "fan_out.end" and event.path == ("a",)


async def test_a_policy_that_allows_for_one_attempt_has_no_span_for_it(mode: Mode) -> None:
    policy = BranchPolicy(timeout=TimeoutPolicy(run_timeout=10))
    with recording() as recorder:
        await mode.run(RunnableParallelPlus(b=same()).with_policy(policy), "text", None)
    assert recorder.tree() == ["invoke_workflow FanOut", ["branch b"]]


async def test_a_timeout_says_so(mode: Mode) -> None:
    gate = threading.Event()
    slow = RunnableLambda(lambda value: gate.wait(5), afunc=lambda value: asyncio.sleep(5))
    policy = BranchPolicy(timeout=TimeoutPolicy(attempt_timeout=0.2), fallbacks=[same()])
    with recording() as recorder:
        await mode.run(RunnableParallelPlus(b=slow).with_policy(policy), "text", None)
        gate.set()
    first, _ = recorder.named("attempt")
    assert first.attributes["lcpp.attempt.outcome"] == "timed_out"
    assert described(first) == ("ERROR", "timeout")


async def test_what_is_not_waited_for_is_skipped_and_no_error(mode: Mode) -> None:
    gate = threading.Event()
    slow = RunnableLambda(lambda value: gate.wait(5), afunc=lambda value: asyncio.sleep(5))
    fan_out = RunnableParallelPlus(a=same(), b=slow, name="n").with_policy(b=BranchPolicy(retry=RETRY))
    with recording() as recorder:
        await mode.run(fan_out.with_join(JoinPolicy(wait_for=1)), "text", None)
        gate.set()
    assert recorder.span("branch b").attributes["lcpp.branch.outcome"] == "skipped"
    assert {described(span) for span in recorder.spans} == {("UNSET", None)}
    assert {span.attributes["lcpp.attempt.outcome"] for span in recorder.named("attempt")} <= {"cancelled"}
    assert recorder.span("invoke_workflow n").attributes["lcpp.fan_out.skipped"] == 1


async def test_cancelling_ends_every_span() -> None:
    fan_out = RunnableParallelPlus(
        a=RunnableLambda(lambda value: value, afunc=lambda value: asyncio.sleep(5)), b=same()
    )
    with recording() as recorder:
        task = asyncio.create_task(fan_out.with_policy(a=BranchPolicy(retry=RETRY)).ainvoke("text"))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert recorder.tree() == ["invoke_workflow FanOut", ["branch a", ["attempt"], "branch b"]]
    assert recorder.span("branch a").attributes["lcpp.branch.outcome"] == "cancelled"
    assert described(recorder.span("invoke_workflow FanOut")) == ("UNSET", None)


async def test_a_stream_that_is_closed_early_ends_every_span() -> None:
    with recording() as recorder:
        stream = RunnableParallelPlus(a=same(), b=fails(1)).with_policy(b=BranchPolicy(retry=RETRY)).stream("text")
        next(stream)
        stream.close()
        chunks = RunnableParallelPlus(a=same(), b=same()).astream("text")
        await anext(chunks)
        await chunks.aclose()
    assert len(recorder.named("invoke_workflow FanOut")) == 2


async def test_what_the_user_opens_in_a_branch_is_inside_it_and_what_is_inside_that_as_well(mode: Mode) -> None:
    inner = RunnableParallelPlus(x=same(), name="inner")
    with recording() as recorder:
        tracer = recorder.tracers.get_tracer("user")

        def step(value: Any) -> Any:
            with tracer.start_as_current_span("mine"):
                return inner.invoke(value)

        with tracer.start_as_current_span("request"):
            fan_out = RunnableParallelPlus(a=RunnableLambda(step), b=RunnableLambda(step), name="outer")
            await mode.run(fan_out.with_policy(b=BranchPolicy(retry=RETRY)), "text", None)
            assert trace.get_current_span().get_span_context().is_valid
        assert not trace.get_current_span().get_span_context().is_valid
    mine = ["mine", ["invoke_workflow inner", ["branch x"]]]
    assert recorder.tree() == [
        "request",
        ["invoke_workflow outer", ["branch a", mine, "branch b", ["attempt", mine]]],
    ]


async def test_a_wait_for_a_limiter_is_inside_the_attempt_that_waits(mode: Mode) -> None:
    limiter = RateLimiter(requests_per_minute=3000, burst=0.02, name="search")
    policy = BranchPolicy(limiter=limiter, cost=Cost(requests=1), retry=RETRY)
    with recording() as recorder:
        await mode.run(RunnableParallelPlus(a=same(), b=same()).with_policy(policy), "text", None)
    wait = recorder.named("rate_limit.wait")[-1]
    attributes = dict(wait.attributes)
    assert attributes.pop("lcpp.limiter.queue_depth") >= 1
    assert attributes == {
        "openinference.span.kind": "CHAIN",
        "lcpp.limiter.name": "search",
        "lcpp.limiter.resource": "requests",
        "lcpp.limiter.reason": "window",
        "lcpp.limiter.requested": 1,
    }
    assert wait.parent.span_id in {span.context.span_id for span in recorder.named("attempt")}
    assert 0.01 < (wait.end_time - wait.start_time) / 1e9 < 1


async def test_a_call_that_a_breaker_refuses_says_so() -> None:
    breaker = CircuitBreaker(failure_ratio=0.5, minimum_calls=1, window=60, open_for=30, name="search")
    fan_out = RunnableParallelPlus(b=fails(9)).with_policy(BranchPolicy(breaker=breaker, fallbacks=[same()]))
    with recording() as recorder:
        fan_out.invoke("text")
        fan_out.invoke("text")
    refused = recorder.named("attempt")[2]
    assert refused.attributes["lcpp.breaker.state"] == "open"
    assert refused.attributes["lcpp.breaker.name"] == "search"
    assert refused.attributes["error.type"].endswith("CircuitOpenError")


async def test_a_policy_outside_any_fan_out_is_a_branch_of_its_own(mode: Mode) -> None:
    step = RunnableWithPolicy(fails(1), BranchPolicy(retry=RETRY), name="model")
    with recording() as recorder:
        await mode.run(step, "text", None)
    assert recorder.tree() == ["branch model", ["attempt", "attempt"]]


async def test_a_policy_that_runs_several_times_in_one_branch_keeps_them_apart(mode: Mode) -> None:
    step = RunnableWithPolicy(RunnableLambda(lambda value: value), BranchPolicy(retry=RETRY), name="model")
    fan_out = RunnableParallelPlus(a=RunnableLambda(lambda value: [value] * 3) | step.map())
    with recording() as recorder:
        await mode.run(fan_out, "text", None)
    assert recorder.tree() == ["invoke_workflow FanOut", ["branch a", ["branch model", ["attempt"]] * 3]]


async def test_no_span_has_anything_of_prompts_outputs_or_exceptions(mode: Mode) -> None:
    kept = BranchPolicy(retry=RETRY, on_failure="keep")
    fan_out = RunnableParallelPlus(a=same(), b=fails(1), c=fails(9), name="n").with_policy(b=kept, c=kept)
    with recording() as recorder:
        await mode.run(fan_out, SECRET, None)
    assert len(recorder.named("attempt")) == 5
    assert not any(SECRET in span.to_json() for span in recorder.spans)
    assert not any(span.events for span in recorder.spans)


@pytest.mark.parametrize("method", ["batch", "abatch"])
async def test_each_item_of_a_batch_is_a_trace(method: str) -> None:
    with recording() as recorder:
        fan_out = RunnableParallelPlus(a=same(), b=same())
        await fan_out.abatch(["x", "y"]) if method == "abatch" else fan_out.batch(["x", "y"])
    assert recorder.tree() == ["invoke_workflow FanOut", ["branch a", "branch b"]] * 2
    assert recorder.traces() == 2


def test_a_synthesis_has_a_span_and_a_duration() -> None:
    with recording() as recorder:
        with telling_synthesis("vote", run_id=uuid4(), inputs=3) as told:
            told["agreement"] = 0.6
        with pytest.raises(ConnectionError), telling_synthesis("llm", run_id=uuid4(), inputs=2):
            raise ConnectionError(SECRET)
        durations = recorder.points("lcpp.synthesis.duration")
    vote, failed = recorder.span("synthesize vote"), recorder.span("synthesize llm")
    assert vote.attributes["lcpp.synthesis.inputs"] == 3
    assert vote.attributes["lcpp.synthesis.agreement"] == 0.6
    assert described(failed) == ("ERROR", None)
    assert failed.attributes["error.type"] == "ConnectionError"
    assert {point.attributes["lcpp.synthesis.strategy"] for point in durations} == {"vote", "llm"}


def test_a_synthesis_in_a_branch_is_inside_it() -> None:
    def step(value: Any) -> Any:
        with telling_synthesis("vote", run_id=uuid4(), inputs=3):
            return value

    with recording() as recorder:
        RunnableParallelPlus(a=RunnableLambda(step)).invoke("text")
    assert recorder.tree() == ["invoke_workflow FanOut", ["branch a", ["synthesize vote"]]]


def test_a_model_call_that_waits_says_for_what_and_how_many_wait() -> None:
    limiter = RateLimiter(concurrency=1, name="one at a time")
    model = FakeListChatModel(responses=["an answer"], sleep=0.05)
    fan_out = RunnableParallelPlus(a=model, b=model).with_limits(limiter)
    with recording() as recorder:
        fan_out.invoke("text")
    [wait] = recorder.named("rate_limit.wait")
    assert wait.attributes["lcpp.limiter.resource"] == "concurrency"
    assert wait.attributes["lcpp.limiter.reason"] == "capacity"
    assert wait.attributes["lcpp.limiter.queue_depth"] == 1


async def test_a_model_that_waits_for_a_limiter_of_its_own_says_so_in_its_branch(mode: Mode) -> None:
    limiter = RateLimiter(requests_per_minute=3000, burst=0.02, name=f"the model's own in {mode}")
    model = FakeListChatModel(responses=["an answer"], rate_limiter=limiter)
    with recording() as recorder:
        await mode.run(RunnableParallelPlus(a=model, b=model), "text", None)
    wait = recorder.named("rate_limit.wait")[-1]
    assert wait.attributes["lcpp.limiter.name"] == f"the model's own in {mode}"
    assert wait.parent.span_id in {recorder.span(f"branch {key}").context.span_id for key in "ab"}


def test_a_wait_that_ends_in_a_refusal_is_an_error() -> None:
    limiter = RateLimiter(concurrency=1, name="to be closed")
    model = FakeListChatModel(responses=["an answer"], sleep=0.5)
    fan_out = RunnableParallelPlus(a=model, b=model).with_limits(limiter).with_policy(BranchPolicy(on_failure="keep"))
    with recording() as recorder:
        closing = threading.Timer(0.2, limiter.account.turnstile.close, ["out of credit"])
        closing.start()
        fan_out.invoke("text")
        closing.join()
        refusals = recorder.points("lcpp.limiter.rejections")
    [wait] = recorder.named("rate_limit.wait")
    assert described(wait) == ("ERROR", "quota_exhausted")
    assert [point.attributes["lcpp.limiter.reason"] for point in refusals] == ["quota_exhausted"]


def test_a_hedge_is_linked_to_the_call_beside_it() -> None:
    write = follower.OtelFollower(spans=True)

    def told(kind: Any, attempt: int | None = None, role: str = "primary", at: float = 0.0, **facts: Any) -> None:
        detail = {"role": role, "target": 0, "run": None, "several": True, "own": True}
        event = Event(kind=kind, at=at, run_id=RUN, path=("model",), unit=-1, attempt=attempt, detail=detail, **facts)
        write(event)

    with recording() as recorder:
        told("policy.start")
        told("attempt.start", 1)
        told("attempt.start", 2, "hedge", at=0.5)
        told("attempt.end", 2, "hedge", outcome="ok", seconds=0.25)
        told("attempt.end", 1, outcome="cancelled", seconds=1.0)
        told("branch.end", 2, outcome="ok", seconds=1.0)
    primary, hedge = recorder.named("attempt")
    [link] = hedge.links
    assert link.context.span_id == primary.context.span_id
    assert link.attributes == {"lcpp.link.type": "hedge_of"}
    assert hedge.attributes["lcpp.hedge.won"] is True
    assert hedge.attributes["lcpp.hedge.delay_s"] == 0.5
    assert described(primary) == ("UNSET", None)
    assert recorder.span("branch model").attributes["lcpp.branch.wasted_s"] == 1.0
