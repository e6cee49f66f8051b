"""A strict reader of the Trace Event Format, as Perfetto's importer takes it.

The rules are those of "Trace Event Format" (Google, 2016;
https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU) and of Perfetto's FAQ
(https://perfetto.dev/docs/faq), which says of complete events that overlap in one thread that they are not supported;
read in November 2026. That number 0 is no thread of a program was seen in Perfetto 52 itself.
"""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any

METADATA = {
    "process_name": ("name", str),
    "process_labels": ("labels", str),
    "process_sort_index": ("sort_index", int),
    "thread_name": ("name", str),
    "thread_sort_index": ("sort_index", int),
}
"""What a metadata event may say: its one argument, and of which type that is."""


def check_trace(trace: dict[str, Any]) -> dict[tuple[int, int], list[dict[str, Any]]]:
    """Hold every event to the format; return the complete events of each thread in their order."""
    assert trace == json.loads(json.dumps(trace, allow_nan=False))
    assert trace.keys() <= {"traceEvents", "displayTimeUnit", "otherData", "metadata", "stackFrames", "samples"}
    assert trace.get("displayTimeUnit", "ms") in ("ms", "ns")
    threads: dict[tuple[int, int], list[dict[str, Any]]] = defaultdict(list)
    named: set[tuple[str, int]] = set()
    opened: dict[tuple[Any, ...], list[str]] = defaultdict(list)
    for event in sorted(trace["traceEvents"], key=lambda event: event["ts"]):
        _check_common(event)
        match event["ph"]:
            case "M":
                named.add(_check_metadata(event))
            case "X":
                assert _is_number(event["dur"])
                assert event["dur"] >= 0
                threads[event["pid"], event["tid"]].append(event)
            case "b" | "e":
                _check_async(event, opened)
            case other:
                raise AssertionError(f"an event of a phase that is not read here: {other!r}")
    assert not any(opened.values()), "an asynchronous event that never ends"
    for (pid, tid), events in threads.items():
        assert ("process_name", pid) in named
        assert ("thread_name", tid) in named
        _check_nesting(events)
    owners = defaultdict(set)
    for pid, tid in threads:
        owners[tid].add(pid)
    assert all(len(pids) == 1 for pids in owners.values()), "one number for threads of several processes"
    return threads


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _check_common(event: dict[str, Any]) -> None:
    assert event.keys() <= {"name", "cat", "ph", "ts", "dur", "pid", "tid", "id", "args"}, event
    assert isinstance(event["name"], str)
    assert event["name"]
    assert _is_number(event["ts"])
    assert event["ts"] >= 0
    for number in (event["pid"], event["tid"]):
        assert isinstance(number, int)
        assert not isinstance(number, bool)
        assert 0 < number < 2**31
    assert isinstance(event.get("args", {}), dict)
    assert isinstance(event.get("cat", ""), str)


def _check_metadata(event: dict[str, Any]) -> tuple[str, int]:
    argument, kind = METADATA[event["name"]]
    assert event["args"].keys() == {argument}
    assert isinstance(event["args"][argument], kind)
    return event["name"], event["pid"] if event["name"].startswith("process") else event["tid"]


def _check_async(event: dict[str, Any], opened: dict[tuple[Any, ...], list[str]]) -> None:
    assert isinstance(event["cat"], str)
    assert isinstance(event["id"], str | int)
    stack = opened[event["cat"], event["id"]]
    if event["ph"] == "b":
        stack.append(event["name"])
    else:
        assert stack
        assert stack.pop() == event["name"]


def _check_nesting(events: list[dict[str, Any]]) -> None:
    """Two events of a thread are one inside the other, or apart; in nanoseconds, as importers keep them."""
    spans = sorted(((round(e["ts"] * 1000), round(e["dur"] * 1000), e["name"]) for e in events), key=_outer_first)
    stack: list[tuple[int, str]] = []
    for start, length, name in spans:
        while stack and stack[-1][0] <= start:
            stack.pop()
        assert not stack or start + length <= stack[-1][0], f"{name} overlaps with {stack[-1][1]}"
        stack.append((start + length, name))


def _outer_first(span: tuple[int, int, str]) -> tuple[int, int]:
    return span[0], -span[1]
