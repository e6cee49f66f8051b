"""Structured concurrency: when a call comes back, whatever it had started has ended."""

from __future__ import annotations

import asyncio
import gc
import signal
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.runnables import Runnable, RunnableGenerator, RunnableLambda

from langchain_parallel_plus import BranchPolicy, RunnableParallelPlus, TimeoutPolicy, fan_out_results
from tests.contract.aftermath import left_nothing, left_nothing_in_tasks, soon
from tests.contract.probes import others
from tests.modes import MODES, Mode

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

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


def _fan_out(slow: Slow, **more: Any) -> Runnable[Any, Any]:
    inner = RunnableParallelPlus(deep=slow.call, deeper=RunnableParallelPlus(deepest=slow.call))
    policy = BranchPolicy(timeout=TimeoutPolicy(run_timeout=7200))
    return RunnableParallelPlus(
        quick=lambda _: "in",
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
    mode: Mode, config: Any, caps: list[Any]
) -> None:
    slow = Slow()
    async with left_nothing_in_tasks() as runs:
        fan_out = _fan_out(slow, fails=_fails_after_1_second)
        with pytest.raises(OwnError) as caught:
            await mode.run(fan_out, 0, {"callbacks": [runs], **config})
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
    mode: Mode, config: Any, caps: list[Any]
) -> None:
    slow = Slow()
    async with left_nothing_in_tasks() as runs:
        task = asyncio.create_task(mode.run(_fan_out(slow), 0, {"callbacks": [runs], **config}))
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


@pytest.mark.looptime
@async_modes
async def test_a_task_group_can_end_a_fan_out(mode: Mode) -> None:
    slow = Slow()
    async with left_nothing_in_tasks() as runs:
        with pytest.raises(ExceptionGroup) as caught:
            async with asyncio.TaskGroup() as group:
                group.create_task(mode.run(_fan_out(slow), 0, {"callbacks": [runs]}))
                group.create_task(_fails_after_1_second(0))
    assert caught.value.exceptions == (ERROR,)
    assert slow.cleaned == slow.started >= 1


@pytest.mark.looptime
@pytest.mark.parametrize("method", ["astream", "atransform"])
@pytest.mark.parametrize("wrapped", [False, True], ids=["bare", "in_a_chain"])
@caps_or_none
async def test_a_stream_closed_early_has_ended_when_aclose_returns(
    method: str, wrapped: bool, config: Any, caps: list[Any]
) -> None:
    async def inputs() -> AsyncIterator[int]:
        yield 0

    slow = Slow()
    async with left_nothing_in_tasks() as runs:
        fan_out = _fan_out(slow)
        runnable = fan_out | RunnableGenerator(_pass_on) if wrapped else fan_out
        stream = getattr(runnable, method)(0 if method == "astream" else inputs(), {"callbacks": [runs], **config})
        assert await anext(stream)
        await asyncio.sleep(1)
        await stream.aclose()
        if wrapped:  # the generators of langchain-core around ours are closed by the loop
            while others():
                await asyncio.sleep(0.1)
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
        while others():
            await asyncio.sleep(0.1)
    assert slow.cleaned == slow.started


class Held:
    """Branches that block a thread until the test lets them go."""

    def __init__(self) -> None:
        self.going_on = threading.Event()
        self.started = threading.Event()
        self.ended = 0

    def __call__(self, _: Any) -> str:
        self.started.set()
        self.going_on.wait(5)
        self.ended += 1
        return "late"


@pytest.fixture
def held() -> Iterator[Held]:
    branch = Held()
    yield branch
    branch.going_on.set()


@sync_modes
@caps_or_none
async def test_a_failure_does_not_wait_for_threads_and_their_late_results_are_fenced(
    mode: Mode, config: Any, held: Held, caps: list[Any]
) -> None:
    def fails(_: Any) -> None:
        held.started.wait(5)
        time.sleep(0.02)
        raise ERROR

    with left_nothing() as runs:
        fan_out = RunnableParallelPlus(quick=lambda _: "in", late=held, fails=fails)
        with pytest.raises(OwnError) as caught:
            await mode.run(fan_out, 0, {"callbacks": [runs], **config})
        assert held.ended == 0
        held.going_on.set()
        assert soon(lambda: held.ended == 1)
    assert caught.value is ERROR
    finished = fan_out_results(caught.value)
    assert finished is not None
    assert finished.outputs == {"quick": "in"}


@sync_modes
async def test_a_keyboard_interrupt_of_a_branch_ends_the_call(mode: Mode, held: Held) -> None:
    def interrupts(_: Any) -> None:
        held.started.wait(5)
        raise KeyboardInterrupt

    with left_nothing() as runs:
        with pytest.raises(KeyboardInterrupt):
            await mode.run(RunnableParallelPlus(late=held, stop=interrupts), 0, {"callbacks": [runs]})
        held.going_on.set()


@async_modes
def test_a_keyboard_interrupt_of_a_task_ends_the_loop_and_its_siblings(mode: Mode) -> None:
    async def interrupts(_: Any) -> None:
        await asyncio.sleep(0)
        raise KeyboardInterrupt

    cleaned = []

    async def slow(_: Any) -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            cleaned.append(1)

    fan_out = RunnableParallelPlus(slow=slow, stop=interrupts)
    with left_nothing() as runs, asyncio.Runner() as runner, pytest.raises(KeyboardInterrupt):
        runner.run(mode.run(fan_out, 0, {"callbacks": [runs]}))
    assert cleaned == [1]


@pytest.mark.parametrize("method", ["invoke", "batch", "stream"])
def test_ctrl_c_while_the_main_thread_waits_ends_the_call_at_once(method: str, held: Held) -> None:
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler

    def press() -> None:
        held.started.wait(5)
        time.sleep(0.05)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    with left_nothing() as runs:
        fan_out = RunnableParallelPlus(quick=lambda _: "in", late=held)
        work: dict[str, Callable[[], Any]] = {
            "invoke": lambda: fan_out.invoke(0, {"callbacks": [runs]}),
            "batch": lambda: fan_out.batch([0, 1], {"callbacks": [runs]}),
            "stream": lambda: list(fan_out.stream(0, {"callbacks": [runs]})),
        }
        threading.Thread(target=press, daemon=True).start()
        with pytest.raises(KeyboardInterrupt):
            work[method]()
        assert held.ended == 0
        held.going_on.set()


@pytest.mark.parametrize("config", [{}, {"max_concurrency": 2}], ids=["no_cap", "cap_2"])
def test_a_stream_closed_early_closes_generators_between_two_chunks(config: Any, caps: list[Any]) -> None:
    closed = []

    def chunks(inputs: Iterator[Any]) -> Iterator[int]:
        try:
            for _ in inputs:
                yield from range(100)
        finally:
            closed.append(1)

    with left_nothing() as runs:
        fan_out = RunnableParallelPlus(a=RunnableGenerator(chunks), b=RunnableGenerator(chunks))
        stream = fan_out.stream(0, {"callbacks": [runs], **config})
        seen = {key for _ in range(4) for key in next(stream)}
        stream.close()  # type: ignore[attr-defined]  # a generator, typed as an iterator
        assert soon(lambda: len(closed) == 2)
    assert seen == {"a", "b"}


class Document:
    """An input that can be watched."""


@sync_modes
async def test_nothing_keeps_the_input_alive(mode: Mode) -> None:
    document = Document()
    gone = weakref.ref(document)
    fan_out = RunnableParallelPlus({str(n): lambda _: time.sleep(0.01) for n in range(4)})
    await mode.run(fan_out, document, None)
    del document

    def freed() -> bool:
        gc.collect()
        return gone() is None

    assert soon(freed, 1.0)
