"""From the words of events to those of spans."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentelemetry.trace import Status, StatusCode

from langchain_parallel_plus.outcome import ErrorKind

if TYPE_CHECKING:
    from langchain_parallel_plus.observe.event import Event

__all__ = ("attempt_outcome", "fan_out_name", "reason_of", "resource_waited_for", "status_of")

_REASONS = {"concurrency": "capacity", "pause": "retry_after", "probe": "headers"}


def fan_out_name(name: str) -> str:
    """Return a name that does not change with the branches: without one of its own, a fan-out is a `FanOut`."""
    return "FanOut" if name.startswith("RunnableParallel<") else name


def attempt_outcome(event: Event) -> str:
    """Return `"ok"`, `"error"`, `"timed_out"` or `"cancelled"`."""
    if event.outcome == "failed":
        return "timed_out" if event.error is ErrorKind.TIMEOUT else "error"
    return str(event.outcome)


def status_of(event: Event) -> Status:
    """Return the status of what failed: the kind of error and the HTTP status, and nothing that an exception says."""
    told = ["" if event.error is None else event.error.value, str(event.detail.get("status") or "")]
    return Status(StatusCode.ERROR, " ".join(word for word in told if word) or None)


def resource_waited_for(dimension: str) -> str:
    """Return what a limiter's dimension counts."""
    if "tokens" in dimension:
        return "tokens"
    return "concurrency" if dimension == "concurrency" else "requests"


def reason_of(dimension: str) -> str:
    """Return why a call waited: for its turn in a rate (`"window"`), or for what the dimension says."""
    return _REASONS.get(dimension, "window")
