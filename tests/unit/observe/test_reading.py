"""Reports that are read while the run goes on."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any
from uuid import UUID, uuid4

import pytest

from langchain_parallel_plus.observe import Event, RunReport


def _events(run_id: UUID, branches: int, inner: int) -> list[Event]:
    """A fan-out under way: every branch has begun, and runs a policy `inner` times."""
    keys = [f"b{number}" for number in range(branches)]
    start = {"name": "wide", "branches": keys, "limiters": (), "parent_run_id": None, "max_concurrency": None}
    events = [Event(kind="fan_out.start", at=0.0, run_id=run_id, detail=start)]
    unit = 0
    for key in keys:
        unit = parent = unit + 1
        events.append(Event(kind="branch.start", at=0.0, run_id=run_id, path=(key,), unit=parent))
        for _ in range(inner):
            unit += 1
            detail = {"parent_unit": parent}
            events.append(
                Event(kind="branch.start", at=0.1, run_id=run_id, path=(key, "each"), unit=unit, detail=detail)
            )
    return events


def _operations(work: Callable[[], object]) -> int:
    """Count the byte codes that this package runs through."""
    count = 0

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal count
        if "langchain_parallel_plus" not in frame.f_code.co_filename:
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        count += event == "opcode"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


@pytest.mark.parametrize(("branches", "inner"), [(1, 0), (1, 1), (0, 1)])
def test_reading_a_report_while_it_runs_takes_no_longer_a_branch_if_there_are_many(branches: int, inner: int) -> None:
    counted = []
    for many in (250, 1000):
        report = RunReport()
        heard = _events(uuid4(), max(branches * many, 1), many if not branches else inner)
        counted.append(_operations(lambda report=report, heard=heard: [report.take_in(one) for one in heard]))  # type: ignore[misc]
        counted[-1] += _operations(lambda report=report: (report.fan_outs, report.branches))  # type: ignore[misc]
    assert counted[1] < 4.4 * counted[0]
