"""Reports in the Trace Event Format, which Perfetto and chrome://tracing open.

The format: "Trace Event Format", Google, 2016: complete events (`ph: "X"`) with microseconds, a process for each
fan-out and a thread for each branch, named by metadata events (`ph: "M"`). Events of one thread must nest, so the loser
of a hedge, which overlaps with what it raced, has a thread of its own.

Perfetto (52, looked at in November 2026) takes thread 0 for the idle thread of the machine, and puts its events into
another one's; so no number is 0, and none is used twice. The first thread of a process has its number, and comes first.
Times are rounded to nanoseconds before anything is reckoned with them, so that what nests still does.
"""

from __future__ import annotations

import itertools
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
    numbers = itertools.count(1)
    for fan_out in fan_outs:
        events += _fan_out(numbers, fan_out)
    if syntheses:
        events += _syntheses(numbers, syntheses)
    return {"traceEvents": events, "displayTimeUnit": "ms"}


def _fan_out(numbers: Iterator[int], fan_out: FanOutReport) -> Iterator[dict[str, Any]]:
    pid, where = next(numbers), "/".join(fan_out.path)
    yield from _process(pid, f"{fan_out.name} in {where}" if where else fan_out.name)
    yield from _thread(pid, pid, "fan-out")
    took = fan_out.seconds
    if took is None:
        took = max((one.ended for one in fan_out.branches.values()), default=fan_out.started) - fan_out.started
    ended = fan_out.started + took
    yield _complete(pid, pid, fan_out.name, fan_out.started, ended, outcome=fan_out.outcome or "running")
    for branch in fan_out.branches.values():
        yield from _branch(pid, next(numbers), branch)
        for hedge in (one for one in branch.attempt_log if one.role == "hedge"):
            tid, name = next(numbers), f"attempt {hedge.number} (hedge)"
            yield from _thread(pid, tid, f"{branch.name}: hedge")
            yield _complete(pid, tid, name, hedge.started, hedge.ended, outcome=hedge.outcome)


def _branch(pid: int, tid: int, branch: BranchReport) -> Iterator[dict[str, Any]]:
    yield from _thread(pid, tid, branch.name)
    yield _complete(
        pid,
        tid,
        branch.name,
        branch.started,
        branch.ended,
        outcome=branch.outcome or "running",
        error=branch.error,
        attempts=branch.attempts,
        input_tokens=branch.input_tokens,
        output_tokens=branch.output_tokens,
    )
    for segment in timeline(branch).segments:
        started, ended = (min(max(at, branch.started), branch.ended) for at in (segment.started, segment.ended))
        yield _complete(pid, tid, _label(segment), started, ended)


def _label(segment: Segment) -> str:
    if segment.attempt is not None:
        return f"attempt {segment.attempt.number} ({segment.attempt.role}, {segment.attempt.outcome or 'running'})"
    waits = {"wait": "waits for a rate limit", "backoff": "backs off", "reader": "waits for its reader"}
    return waits.get(segment.activity, "waits for its turn")


def _syntheses(numbers: Iterator[int], syntheses: Sequence[SynthesisReport]) -> Iterator[dict[str, Any]]:
    pid = tid = next(numbers)
    yield from _process(pid, "synthesis")
    for one in syntheses:
        yield from _thread(pid, tid, one.strategy)
        if one.seconds is not None:
            ended = one.started + one.seconds
            yield _complete(pid, tid, one.strategy, one.started, ended, outcome=one.outcome, inputs=one.inputs)
        tid = next(numbers)


def _process(pid: int, name: str) -> Iterator[dict[str, Any]]:
    yield _metadata("process_name", pid, pid, name=name)
    yield _metadata("process_sort_index", pid, pid, sort_index=pid)


def _thread(pid: int, tid: int, name: str) -> Iterator[dict[str, Any]]:
    yield _metadata("thread_name", pid, tid, name=name)
    yield _metadata("thread_sort_index", pid, tid, sort_index=tid)


def _metadata(what: str, pid: int, tid: int, **args: Any) -> dict[str, Any]:
    return {"ph": "M", "name": what, "pid": pid, "tid": tid, "ts": 0, "args": args}


def _complete(pid: int, tid: int, name: str, started: float, ended: float, **args: Any) -> dict[str, Any]:
    begin, end = round(started * 1e9), round(ended * 1e9)
    return {
        "ph": "X",
        "cat": "lcpp",
        "name": name,
        "pid": pid,
        "tid": tid,
        "ts": begin / 1000,
        "dur": max(end - begin, 0) / 1000,
        "args": args,
    }
