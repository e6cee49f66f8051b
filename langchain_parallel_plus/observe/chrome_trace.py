"""Reports in the Trace Event Format, which Perfetto and chrome://tracing open.

The format: "Trace Event Format", Google, 2016: complete events (`ph: "X"`) with microseconds, a process for each
fan-out and a thread for each branch, named by metadata events (`ph: "M"`). Events of one thread must nest, so the loser
of a hedge, which overlaps with what it raced, has a thread of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain_parallel_plus.observe.timeline import timeline

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from langchain_parallel_plus.observe.records import BranchReport, FanOutReport, SynthesisReport
    from langchain_parallel_plus.observe.timeline import Segment

__all__ = ("chrome_trace",)


def chrome_trace(fan_outs: Sequence[FanOutReport], syntheses: Sequence[SynthesisReport]) -> dict[str, Any]:
    """Return the trace as an object to be written as JSON."""
    events: list[dict[str, Any]] = []
    for pid, fan_out in enumerate(fan_outs, start=1):
        events += _fan_out(pid, fan_out)
    if syntheses:
        events += _syntheses(len(fan_outs) + 1, syntheses)
    return {"traceEvents": events, "displayTimeUnit": "ms"}


def _fan_out(pid: int, fan_out: FanOutReport) -> Iterator[dict[str, Any]]:
    where = "/".join(fan_out.path)
    yield _named("process_name", pid, 0, f"{fan_out.name} in {where}" if where else fan_out.name)
    yield _named("thread_name", pid, 0, "fan-out")
    took = fan_out.seconds
    if took is None:
        took = max((one.ended for one in fan_out.branches.values()), default=fan_out.started) - fan_out.started
    yield _complete(pid, 0, fan_out.name, fan_out.started, took, outcome=fan_out.outcome or "running")
    tid = 0
    for branch in fan_out.branches.values():
        tid += 1
        yield from _branch(pid, tid, branch)
        for hedge in (one for one in branch.attempt_log if one.role == "hedge"):
            tid += 1
            name = f"attempt {hedge.number} (hedge)"
            yield _named("thread_name", pid, tid, f"{branch.name}: hedge")
            yield _complete(pid, tid, name, hedge.started, hedge.ended - hedge.started, outcome=hedge.outcome)


def _branch(pid: int, tid: int, branch: BranchReport) -> Iterator[dict[str, Any]]:
    yield _named("thread_name", pid, tid, branch.name)
    yield _complete(
        pid,
        tid,
        branch.name,
        branch.started,
        branch.seconds,
        outcome=branch.outcome or "running",
        error=branch.error,
        attempts=branch.attempts,
        input_tokens=branch.input_tokens,
        output_tokens=branch.output_tokens,
    )
    for segment in timeline(branch).segments:
        yield _complete(pid, tid, _label(segment), segment.started, segment.ended - segment.started)


def _label(segment: Segment) -> str:
    if segment.attempt is not None:
        return f"attempt {segment.attempt.number} ({segment.attempt.role}, {segment.attempt.outcome or 'running'})"
    return {"wait": "waits for a rate limit", "backoff": "backs off"}.get(segment.activity, "waits for its turn")


def _syntheses(pid: int, syntheses: Sequence[SynthesisReport]) -> Iterator[dict[str, Any]]:
    yield _named("process_name", pid, 0, "synthesis")
    for tid, one in enumerate(syntheses):
        yield _named("thread_name", pid, tid, one.strategy)
        if one.seconds is not None:
            yield _complete(pid, tid, one.strategy, one.started, one.seconds, outcome=one.outcome, inputs=one.inputs)


def _named(what: str, pid: int, tid: int, name: str) -> dict[str, Any]:
    return {"ph": "M", "name": what, "pid": pid, "tid": tid, "ts": 0, "args": {"name": name}}


def _complete(pid: int, tid: int, name: str, started: float, seconds: float, **args: Any) -> dict[str, Any]:
    return {
        "ph": "X",
        "cat": "lcpp",
        "name": name,
        "pid": pid,
        "tid": tid,
        "ts": round(started * 1e6, 3),
        "dur": round(max(seconds, 0.0) * 1e6, 3),
        "args": args,
    }
