"""A stream's reader is nobody's work: while a branch waits for it, that is a cause of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from langchain_core.runnables import Runnable, RunnableGenerator

from langchain_parallel_plus import (
    BranchPolicy,
    RunnableParallelPlus,
    RunnableWithPolicy,
    TimeoutPolicy,
    collect_report,
)
from langchain_parallel_plus.observe import BranchReport, RunReport
from langchain_parallel_plus.observe.timeline import CAUSES, timeline
from tests.modes import MODES, Mode
from tests.unit.observe.records import attempt, branch, call, fan_out
from tests.unit.observe.test_rows import Known
from tests.virtual_time import VirtualTime, in_virtual_time

STREAMS = [mode for mode in MODES if mode.name in ("stream", "astream")]


def _source(time: VirtualTime, chunks: int = 3, seconds: float = 2) -> Runnable[Any, Any]:
    def written(_: Iterator[Any]) -> Iterator[str]:
        for number in range(chunks):
            time.sleep(seconds)
            yield str(number)

    async def awritten(_: AsyncIterator[Any]) -> AsyncIterator[str]:
        for number in range(chunks):
            await asyncio.sleep(seconds)
            yield str(number)

    return RunnableGenerator(written, awritten)


def _same() -> Runnable[Any, Any]:
    def same(chunks: Iterator[Any]) -> Iterator[Any]:
        yield from chunks

    async def asame(chunks: AsyncIterator[Any]) -> AsyncIterator[Any]:
        async for chunk in chunks:
            yield chunk

    return RunnableGenerator(same, asame)


async def _read(mode: Mode, time: VirtualTime, step: Any, config: Any = None, seconds: float = 5) -> RunReport:
    with collect_report(clock=time.now) as report:
        if mode.sync:
            for _ in step.stream("x", config):
                time.sleep(seconds)
        else:
            async for _ in step.astream("x", config):
                await asyncio.sleep(seconds)
    return report


def _times(one: BranchReport) -> tuple[float, float]:
    line = timeline(one)
    assert line.seconds("useful") + sum(line.seconds(cause) for cause in CAUSES) == pytest.approx(one.seconds)
    assert line.seconds("wasted") == 0
    return round(line.seconds("useful"), 6), round(line.seconds("reader"), 6)


@pytest.mark.parametrize("mode", STREAMS, ids=str)
@pytest.mark.parametrize("capped", [False, True])
def test_a_slow_reader_makes_no_branch_work_longer(mode: Mode, capped: bool) -> None:
    async def scene(time: VirtualTime) -> None:
        step = RunnableParallelPlus(a=_source(time), b=_source(time))
        report = await _read(mode, time, step, {"max_concurrency": 2} if capped else None)
        [told] = report.fan_outs
        assert told.seconds == pytest.approx(32)
        assert [_times(one)[0] for one in told.own_branches] == [6, 6]
        assert all(_times(one)[1] > 10 for one in told.own_branches)
        assert told.measures.speedup == pytest.approx(12 / 32)
        assert told.measures.lost["reader"] > 20
        assert "waiting for the reader" in str(report)
        assert "reader s" in str(report)
        assert "waiting for the reader" in report.to_html()
        assert [row["reader"] for row in report.rows()] == [_times(one)[1] for one in told.own_branches]

    in_virtual_time(mode, scene)


@pytest.mark.parametrize("mode", STREAMS, ids=str)
def test_a_quick_reader_holds_nobody_up(mode: Mode) -> None:
    async def scene(time: VirtualTime) -> None:
        report = await _read(mode, time, RunnableParallelPlus(a=_source(time), b=_source(time)), seconds=0)
        assert [_times(one) for one in report.branches] == [(6, 0)] * 2

    in_virtual_time(mode, scene)


@pytest.mark.parametrize("mode", STREAMS, ids=str)
@pytest.mark.parametrize("timed", [False, True])
def test_who_reads_a_policys_stream_holds_it_up(mode: Mode, timed: bool) -> None:
    async def scene(time: VirtualTime) -> None:
        policy = BranchPolicy(timeout=TimeoutPolicy(run_timeout=1000)) if timed else BranchPolicy()
        report = await _read(mode, time, RunnableWithPolicy(_source(time), policy))
        ahead = timed or not mode.sync  # the next chunk is made while the last one is read
        assert _times(report.branches[0]) == (6, 11 if ahead else 15)

    in_virtual_time(mode, scene)


@pytest.mark.parametrize("mode", STREAMS, ids=str)
@pytest.mark.parametrize("timed", [False, True])
@pytest.mark.parametrize("behind", [False, True], ids=["is the branch", "inside the branch"])
@pytest.mark.parametrize("capped", [False, True])
def test_what_a_branch_makes_ahead_under_a_policy_is_work(mode: Mode, timed: bool, behind: bool, capped: bool) -> None:
    async def scene(time: VirtualTime) -> None:
        policy = BranchPolicy(timeout=TimeoutPolicy(run_timeout=1000)) if timed else BranchPolicy()
        step: Any = RunnableWithPolicy(_source(time), policy)
        config = {"max_concurrency": 2} if capped else None
        report = await _read(mode, time, RunnableParallelPlus(a=step | _same() if behind else step), config)
        assert [_times(one)[0] for one in report.branches] == [6] * (2 if behind else 1)

    in_virtual_time(mode, scene)


@pytest.mark.parametrize("mode", STREAMS, ids=str)
def test_what_a_step_behind_a_nested_fan_out_takes_is_work_of_the_branch(mode: Mode) -> None:
    async def scene(time: VirtualTime) -> None:
        def slow(chunks: Iterator[Any]) -> Iterator[Any]:
            for chunk in chunks:
                time.sleep(5)
                yield chunk

        async def aslow(chunks: AsyncIterator[Any]) -> AsyncIterator[Any]:
            async for chunk in chunks:
                await asyncio.sleep(5)
                yield chunk

        inner = RunnableParallelPlus(b=_source(time)) | RunnableGenerator(slow, aslow)
        report = await _read(mode, time, RunnableParallelPlus(a=inner), seconds=0)
        outer, nested = report.branches
        assert _times(outer) == (17, 0)
        assert _times(nested) == (6, 11)

    in_virtual_time(mode, scene)


def test_a_model_whose_stream_is_held_up_does_not_work() -> None:
    one = branch(
        "a", 0, 10, attempt_log=(attempt(1, 0, 10, "ok"),), model_calls=(call(0, 10),), reader_log=((2, 5), (6, 9))
    )
    assert _times(one) == (4, 6)
    assert fan_out(one, seconds=10).measures.lost["reader"] == 6


def test_a_bar_of_many_chunks_has_no_piece_for_each() -> None:
    held = tuple((n + 0.5, n + 1.0) for n in range(5000))
    log = (attempt(1, 0, 5000, "ok"),)
    told = fan_out(branch("a", 0, 5000, attempt_log=log, reader_log=held), branch("b", 0, 5000), seconds=5000)

    assert len(Known(told).to_html()) < 100_000
