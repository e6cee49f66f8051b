"""Reports that are read while the run goes on."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any
from uuid import UUID, uuid4

import pytest

from langchain_parallel_plus import RunnableParallelPlus, collect_report
from langchain_parallel_plus.observe import Event, RunReport


class Clock:
    """Says what it is told."""

    def __init__(self, at: float) -> None:
        self.at = at

    def __call__(self) -> float:
        return self.at


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


def _under_way(run_id: UUID) -> list[Event]:
    detail = {"name": "wide", "branches": ["a", "b"], "limiters": (), "parent_run_id": None, "max_concurrency": None}
    at_a: dict[str, Any] = {"run_id": run_id, "path": ("a",), "unit": 1}
    return [
        Event(kind="fan_out.start", at=50.0, run_id=run_id, detail=detail),
        Event(kind="branch.start", at=50.0, **at_a),
        Event(kind="attempt.start", at=50.5, attempt=1, detail={"role": "primary"}, **at_a),
        Event(kind="branch.start", at=50.0, run_id=run_id, path=("b",), unit=2),
        Event(kind="branch.end", at=51.0, run_id=run_id, path=("b",), unit=2, outcome="ok", attempt=1),
    ]


def test_what_still_runs_goes_on_to_now() -> None:
    clock = Clock(50.0)
    report = RunReport(clock=clock)
    run_id = uuid4()
    for event in _under_way(run_id):
        report.take_in(event)
    for now in (51.0, 58.0):
        clock.at = now
        running, ended = report.branches
        assert (running.seconds, ended.seconds) == (now - 50.0, 1.0)
        assert running.attempt_log[0].ended == now - 50.0
        line = report.fan_outs[0].measures.branches["a",]
        assert line.useful == pytest.approx(now - 50.5)  # so far: nobody knows yet that it is for nothing
        assert line.wasted == 0
        assert f"wide: running for {now - 50.0:.2f} s" in str(report)
        assert report.fan_outs[0].measures.critical is None  # nobody knows yet which will be
    report.take_in(Event(kind="fan_out.end", at=59.0, run_id=run_id, outcome="cancelled"))
    clock.at = 99.0
    assert [one.seconds for one in report.branches] == [9.0, 1.0]  # nobody waits for it any more


@pytest.mark.parametrize("off", [1000.0, -1000.0])
def test_a_clock_with_another_zero_is_set_by_the_first_event(off: float) -> None:
    clock = Clock(50.0 + off)
    report = RunReport(clock=clock)
    for event in _under_way(uuid4()):
        report.take_in(event)
    clock.at += 8.0
    assert report.branches[0].seconds == pytest.approx(8.0)


@pytest.mark.looptime
async def test_a_running_report_is_read_by_the_clock_of_its_loop() -> None:
    async def slow(_: str) -> None:
        await asyncio.sleep(10)

    with collect_report() as report:
        task = asyncio.create_task(RunnableParallelPlus(a=slow, b=len).ainvoke("in"))
        await asyncio.sleep(2)
        assert report.branches[0].seconds == pytest.approx(2)
        await asyncio.sleep(5)
        assert report.branches[0].seconds == pytest.approx(7)
        assert report.to_dict()["fan_outs"][0]["branches"][0]["seconds"] == pytest.approx(7)
        await task
    assert report.branches[0].seconds == pytest.approx(10)
    await asyncio.sleep(5)
    assert report.branches[0].seconds == pytest.approx(10)
