"""From the words of events to those of spans."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opentelemetry.trace import Status, StatusCode

from langchain_parallel_plus.observe.otel import semconv
from langchain_parallel_plus.outcome import ErrorKind

if TYPE_CHECKING:
    from langchain_parallel_plus.observe.event import Event
    from langchain_parallel_plus.observe.otel.units import BranchUnit

__all__ = (
    "attempt_outcome",
    "branch_attributes",
    "error_attributes",
    "fan_out_name",
    "status_of",
    "wait_attributes",
    "workflow_name",
)

_REASONS = {"concurrency": "capacity", "pause": "retry_after", "probe": "headers"}


def fan_out_name(name: str) -> str:
    """Return a name that does not change with the branches: without one of its own, a fan-out is a `FanOut`."""
    return "FanOut" if name.startswith("RunnableParallel<") else name


def workflow_name(name: str) -> str:
    """Return a name that does not change with the steps: LangChain puts their names between angle brackets."""
    return fan_out_name(name.partition("<")[0] if name.startswith("Runnable") else name)


def attempt_outcome(event: Event) -> str:
    """Return `"ok"`, `"error"`, `"timed_out"` or `"cancelled"`."""
    if event.outcome == "skipped":  # a hedge that was not let through
        return "cancelled"
    if event.outcome == "failed":
        return "timed_out" if event.error is ErrorKind.TIMEOUT else "error"
    return str(event.outcome)


def status_of(event: Event) -> Status:
    """Return the status of what failed: the kind of error and the HTTP status, and nothing that an exception says."""
    told = ["" if event.error is None else event.error.value, str(event.detail.get("status") or "")]
    return Status(StatusCode.ERROR, " ".join(word for word in told if word) or None)


def branch_attributes(unit: BranchUnit, event: Event) -> dict[str, Any]:
    """Return what a branch's span says at its end."""
    return {
        semconv.BRANCH_OUTCOME: event.outcome,
        semconv.BRANCH_ATTEMPTS: event.attempt or 0,
        semconv.BRANCH_WAIT: event.detail.get("wait", unit.waited),
        semconv.BRANCH_BACKOFF: event.detail.get("backoff", 0.0),
        semconv.BRANCH_WASTED: unit.wasted,
    }


def error_attributes(event: Event) -> dict[str, Any]:
    """Return what an attempt's span says of its error."""
    told = {
        semconv.ERROR_KIND: None if event.error is None else event.error.value,
        semconv.ERROR_TYPE: event.detail.get("error_type"),
        semconv.HTTP_STATUS: event.detail.get("status"),
    }
    return {name: value for name, value in told.items() if value is not None}


def wait_attributes(event: Event, depth: int | None) -> dict[str, Any]:
    """Return what the span of a wait says; `depth` is how many calls waited there."""
    told: dict[str, Any] = {semconv.LIMITER_NAME: event.detail["limiter"], semconv.LIMITER_QUEUE: depth}
    if dimension := event.detail.get("dimension"):
        resource = _resource_of(dimension)
        told[semconv.LIMITER_RESOURCE] = resource
        told[semconv.LIMITER_REASON] = _REASONS.get(dimension, "window")  # its turn in a rate
        told[semconv.LIMITER_REQUESTED] = event.detail.get(resource)
    return {name: value for name, value in told.items() if value is not None}


def _resource_of(dimension: str) -> str:
    if "tokens" in dimension:
        return "tokens"
    return "concurrency" if dimension == "concurrency" else "requests"
