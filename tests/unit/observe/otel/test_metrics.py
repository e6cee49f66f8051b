"""Metrics: what is measured, under which attributes, and which trace it points to."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.runnables import RunnableLambda

from langchain_parallel_plus import BranchPolicy, CircuitBreaker, RateLimiter, RetryPolicy, RunnableParallelPlus
from langchain_parallel_plus.errors import RequestTooLargeError
from langchain_parallel_plus.limits import Cost
from langchain_parallel_plus.observe.otel import semconv
from langchain_parallel_plus.synthesis import JoinText, MapReduce
from tests.modes import Mode
from tests.unit.observe.otel.recorder import Recorder, recording
from tests.unit.observe.otel.test_spans import RETRY, fails, same


def measured(recorder: Recorder, name: str) -> list[dict[str, Any]]:
    return sorted((dict(point.attributes) for point in recorder.points(name)), key=str)


async def test_fan_outs_branches_and_attempts_are_measured(mode: Mode) -> None:
    kept = BranchPolicy(retry=RETRY, on_failure="keep")
    fan_out = RunnableParallelPlus(a=same(), b=fails(1), c=fails(9), name="n").with_policy(b=kept, c=kept)
    with recording() as recorder:
        await mode.run(fan_out, "text", None)
        assert measured(recorder, "lcpp.fan_out.duration") == [{"lcpp.fan_out.name": "n"}]
        named = {"lcpp.fan_out.name": "n"}
        assert measured(recorder, "lcpp.branch.duration") == [
            {**named, "lcpp.branch.key": "a", "lcpp.branch.outcome": "ok"},
            {**named, "lcpp.branch.key": "b", "lcpp.branch.outcome": "recovered"},
            {**named, "lcpp.branch.key": "c", "lcpp.branch.outcome": "failed", "error.type": "ConnectionError"},
        ]
        retries = [
            point
            for point in recorder.points("lcpp.attempt.duration")
            if point.attributes["lcpp.attempt.role"] == "retry"
        ]
        assert sum(point.count for point in retries) == 3
        assert {point.attributes.get("lcpp.error.kind") for point in retries} == {None, "connection"}


async def test_active_branches_go_back_to_none(mode: Mode) -> None:
    seen = []
    with recording() as recorder:

        def look(value: Any) -> Any:
            seen.extend(point.value for point in recorder.points("lcpp.branch.active"))
            return value

        await mode.run(RunnableParallelPlus(a=RunnableLambda(look)), "text", None)
        assert seen == [1]
        [point] = recorder.points("lcpp.branch.active")
        assert point.value == 0


async def test_every_measurement_points_to_the_span_it_describes(mode: Mode) -> None:
    fan_out = RunnableParallelPlus(b=fails(1)).with_policy(BranchPolicy(retry=RETRY))
    with recording() as recorder:
        await mode.run(fan_out, "text", None)
        spans = {span.context.span_id: span.name for span in recorder.spans}
        metrics = recorder.metrics()
        for metric, name in {
            "lcpp.fan_out.duration": "invoke_workflow FanOut",
            "lcpp.branch.duration": "branch b",
            "lcpp.attempt.duration": "attempt",
        }.items():
            for point in metrics[metric]:
                assert [spans[exemplar.span_id] for exemplar in point.exemplars] == [name]


async def test_a_limiters_waits_refusals_and_what_it_has_left_are_measured(mode: Mode) -> None:
    limiter = RateLimiter(requests_per_minute=3000, tokens_per_minute=100, burst=0.02, name="measured")
    fan_out = RunnableParallelPlus(a=same(), b=same()).with_policy(
        a=BranchPolicy(limiter=limiter, cost=Cost(requests=3)),
        b=BranchPolicy(limiter=limiter, cost=Cost(requests=1, input_tokens=500), on_failure="keep"),
    )
    with recording() as recorder:
        await mode.run(fan_out, "text", None)
        await mode.run(fan_out, "text", None)
        assert measured(recorder, "lcpp.limiter.wait.duration") == [
            {"lcpp.limiter.name": "measured", "lcpp.limiter.resource": "requests", "lcpp.limiter.reason": "window"}
        ]
        [refused] = recorder.points("lcpp.limiter.rejections")
        assert refused.value == 2
        assert refused.attributes == {
            "lcpp.limiter.name": "measured",
            "lcpp.limiter.reason": RequestTooLargeError.code.lower(),
        }
        left = {
            point.attributes["lcpp.limiter.resource"]: point.value
            for point in recorder.points("lcpp.limiter.available")
            if point.attributes["lcpp.limiter.name"] == "measured"
        }
        assert left.keys() == {"requests", "tokens"}
        assert left["requests"] <= 1


async def test_items_have_no_names_in_traces_and_metrics(mode: Mode) -> None:
    with recording() as recorder:
        await mode.run(MapReduce(same(), JoinText()), [f"text {n}" for n in range(12)], None)
        branches = measured(recorder, "lcpp.branch.duration")
    assert branches == [{"lcpp.fan_out.name": "map", "lcpp.branch.outcome": "ok"}]
    items = recorder.named("map_item")
    assert sorted(span.attributes["lcpp.item.index"] for span in items) == list(range(12))
    assert not any("lcpp.branch.key" in span.attributes for span in items)


def test_a_breaker_that_opens_is_counted() -> None:
    breaker = CircuitBreaker(failure_ratio=0.5, minimum_calls=1, window=60, open_for=30, name="search api")
    fan_out = RunnableParallelPlus(b=fails(9)).with_policy(BranchPolicy(breaker=breaker, on_failure="keep"))
    with recording() as recorder:
        fan_out.invoke("text")
        assert measured(recorder, "lcpp.breaker.transitions") == [
            {"lcpp.breaker.name": "search api", "lcpp.breaker.from": "closed", "lcpp.breaker.to": "open"}
        ]


def test_no_metric_is_of_what_model_instrumentations_measure() -> None:
    with recording() as recorder:
        RunnableParallelPlus(a=same()).invoke("text")
        assert not recorder.points("gen_ai.client.operation.duration")


def test_the_names_are_those_that_dashboards_know() -> None:
    """The conventions move: a name changes here on purpose or not at all."""
    assert semconv.GENAI_VERSION == "0.1.0"
    assert semconv.SCHEMA_URL == "https://opentelemetry.io/schemas/1.41.0"
    assert (semconv.OPERATION_NAME, semconv.WORKFLOW_NAME) == ("gen_ai.operation.name", "gen_ai.workflow.name")
    ours = {value for name, value in vars(semconv).items() if name.isupper() and str(value).startswith("lcpp.")}
    assert ours == {
        *(f"lcpp.fan_out.{name}" for name in ("name", "branch_count", "failure_policy", "succeeded", "failed")),
        *(f"lcpp.fan_out.{name}" for name in ("skipped", "speedup", "limit_efficiency", "critical_branch")),
        *(f"lcpp.branch.{name}" for name in ("key", "required", "outcome", "attempts", "wait_s", "backoff_s")),
        *(f"lcpp.attempt.{name}" for name in ("number", "role", "target", "outcome")),
        *(f"lcpp.limiter.{name}" for name in ("name", "resource", "requested", "reason", "queue_depth")),
        *(f"lcpp.breaker.{name}" for name in ("name", "state", "from", "to")),
        *(f"lcpp.synthesis.{name}" for name in ("strategy", "inputs", "dropped", "agreement")),
        *("lcpp.item.index", "lcpp.branch.wasted_s", "lcpp.error.kind", "lcpp.retry.delay_s", "lcpp.fallback.from"),
        *("lcpp.hedge.delay_s", "lcpp.hedge.won", "lcpp.link.type"),
    }


@pytest.mark.parametrize("wait", ["fixed", "jittered"])
def test_durations_are_seconds(wait: str) -> None:
    retry = RetryPolicy(max_attempts=2, initial_interval=0.05, jitter=wait == "jittered")
    fan_out = RunnableParallelPlus(b=fails(1)).with_policy(BranchPolicy(retry=retry))
    with recording() as recorder:
        fan_out.invoke("text")
        [branch] = recorder.points("lcpp.branch.duration")
        assert (0.05 if wait == "fixed" else 0) < branch.sum < 2
        assert branch.explicit_bounds[:3] == (0.01, 0.02, 0.04)
