"""Structured concurrency: when a call comes back, whatever it had started has ended."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.runnables import Runnable, RunnableConfig, RunnableGenerator

from langchain_parallel_plus import BranchPolicy, TimeoutPolicy, fan_out_results
from tests.contract.aftermath import left_nothing_in_tasks, settled
from tests.contract.probes import plus
from tests.modes import MODES, Mode

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

SYNC = [mode for mode in MODES if mode.sync]
ASYNC = [mode for mode in MODES if not mode.sync]

sync_modes = pytest.mark.parametrize("mode", SYNC, ids=str)
async_modes = pytest.mark.parametrize("mode", ASYNC, ids=str)
caps_or_none = pytest.mark.parametrize("config", [{}, {"max_concurrency": 3}], ids=["no_cap", "cap_3"])


class OwnError(Exception):
    """Raised by branches; a user's own type, with a constructor that nobody else could call."""

    def __init__(self, number: int, *, reason: str) -> None:
        super().__init__(number, reason)


ERROR = OwnError(7, reason="as told")


class Slow:
    """Branches that take an hour, and half a second to clean up."""

    def __init__(self) -> None:
        self.started = 0
        self.cleaned = 0

    async def call(self, _: Any) -> None:
        self.started += 1
        try:
            await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(0.5)
            self.cleaned += 1

    async def stream(self, inputs: AsyncIterator[Any]) -> AsyncIterator[str]:
        async for _ in inputs:
            pass
        self.started += 1
        try:
            yield "first"
            await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(0.5)
            self.cleaned += 1


async def _fails_after_1_second(_: Any) -> None:
    await asyncio.sleep(1)
    raise ERROR


async def _quick(_: Any) -> str:
    return "in"


def _fan_out(slow: Slow, **more: Any) -> Runnable[Any, Any]:
    inner = plus(deep=slow.call, deeper=plus(deepest=slow.call))
    policy = BranchPolicy(timeout=TimeoutPolicy(run_timeout=7200))
    return plus(
        quick=_quick,
        **more,
        call=slow.call,
        stream=RunnableGenerator(slow.stream),
        inner=inner,
        guarded=slow.call,
    ).with_policy(guarded=policy)


@pytest.mark.looptime
@async_modes
@caps_or_none
async def test_a_failure_cancels_and_awaits_its_siblings_and_is_raised_as_it_is(
    mode: Mode, config: RunnableConfig, caps: list[Any]
) -> None:
    slow = Slow()
    async with left_nothing_in_tasks() as runs:
        fan_out = _fan_out(slow, fails=_fails_after_1_second)
        with pytest.raises(OwnError) as caught:
            await mode.run(fan_out, 0, {**config, "callbacks": [runs]})
    assert caught.value is ERROR
    finished = fan_out_results(caught.value)
    assert finished is not None
    assert finished.outputs == {"quick": "in"}
    assert list(finished.failures) == ["fails"]
    assert any("branch 'fails' failed" in note for note in caught.value.__notes__)
    assert slow.cleaned == slow.started >= 1
    assert asyncio.get_running_loop().time() <= 4
    assert all(cap.limit == 3 for cap in caps)


@pytest.mark.looptime
@async_modes
@caps_or_none
async def test_cancellation_from_outside_cancels_and_awaits_every_branch(
    mode: Mode, config: RunnableConfig, caps: list[Any]
) -> None:
    slow = Slow()
    async with left_nothing_in_tasks() as runs:
        task = asyncio.ensure_future(mode.run(_fan_out(slow), 0, {**config, "callbacks": [runs]}))
        await asyncio.sleep(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert slow.cleaned == slow.started >= 1


@pytest.mark.looptime
async def test_a_cancelled_call_hands_over_what_is_finished() -> None:
    task = asyncio.create_task(_fan_out(Slow()).ainvoke(0))
    await asyncio.sleep(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    finished = fan_out_results(caught.value)
    assert finished is not None
    assert finished.outputs == {"quick": "in"}


async def _timeout(work: Any) -> None:
    async with asyncio.timeout(1):
        await work


async def _wait_for(work: Any) -> None:
    await asyncio.wait_for(work, 1)


@pytest.mark.looptime
@async_modes
@pytest.mark.parametrize("limited", [_timeout, _wait_for], ids=["timeout", "wait_for"])
async def test_a_timeout_from_outside_leaves_nothing(mode: Mode, limited: Callable[[Any], Any]) -> None:
    slow = Slow()
    async with left_nothing_in_tasks() as runs:
        with pytest.raises(TimeoutError):
            await limited(mode.run(_fan_out(slow), 0, {"callbacks": [runs]}))
    assert slow.cleaned == slow.started >= 1


async def _beside_a_failure(work: Any) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(work)
        group.create_task(_fails_after_1_second(0))


@pytest.mark.looptime
@async_modes
async def test_a_task_group_can_end_a_fan_out(mode: Mode) -> None:
    slow = Slow()
    async with left_nothing_in_tasks() as runs:
        with pytest.raises(ExceptionGroup) as caught:
            await _beside_a_failure(mode.run(_fan_out(slow), 0, {"callbacks": [runs]}))
    assert caught.value.exceptions == (ERROR,)
    assert slow.cleaned == slow.started >= 1


@pytest.mark.looptime
@pytest.mark.parametrize("method", ["astream", "atransform"])
@pytest.mark.parametrize("wrapped", [False, True], ids=["bare", "in_a_chain"])
@caps_or_none
async def test_a_stream_closed_early_has_ended_when_aclose_returns(
    method: str, wrapped: bool, config: RunnableConfig, caps: list[Any]
) -> None:
    async def inputs() -> AsyncIterator[int]:
        yield 0

    slow = Slow()
    async with left_nothing_in_tasks() as runs:
        fan_out = _fan_out(slow)
        runnable = fan_out | RunnableGenerator(_pass_on) if wrapped else fan_out
        stream = getattr(runnable, method)(0 if method == "astream" else inputs(), {**config, "callbacks": [runs]})
        assert await anext(stream)
        await asyncio.sleep(1)
        await stream.aclose()
        if wrapped:  # the generators of langchain-core around ours are closed by the loop
            await settled()
    assert slow.cleaned == slow.started >= 1


async def _pass_on(chunks: AsyncIterator[Any]) -> AsyncIterator[Any]:
    async for chunk in chunks:
        yield chunk


@pytest.mark.looptime
async def test_events_closed_early_leave_nothing() -> None:
    slow = Slow()
    async with left_nothing_in_tasks():
        events = _fan_out(slow).astream_events(0, version="v2")
        async for event in events:
            if event["event"] == "on_chain_stream":
                break
        await events.aclose()  # type: ignore[attr-defined]  # a generator, typed as an iterator
        await settled()
    assert slow.cleaned == slow.started
