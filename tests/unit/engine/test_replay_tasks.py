"""A streamed input that tasks share: a reader that gives up ends it for nobody, and nothing of it is left behind."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import aclosing, suppress
from contextvars import ContextVar
from typing import Any

import anyio
import pytest
from langchain_core.runnables import RunnableGenerator

from langchain_parallel_plus import BranchPolicy, JoinPolicy, RetryPolicy, TimeoutPolicy
from langchain_parallel_plus._engine.replay import AsyncInput, AsyncReplay
from tests.contract.aftermath import left_nothing_in_tasks
from tests.contract.probes import others, plus

pytestmark = pytest.mark.looptime

Wait = Callable[[], Any]
WAITS = pytest.mark.parametrize("wait", [lambda: asyncio.sleep(1), lambda: asyncio.sleep(0)], ids=["timer", "tick"])


class Ticking:
    """An input with an item a second, which knows what has become of it."""

    def __init__(self, items: str = "abc", seconds: float = 1, error: BaseException | None = None) -> None:
        self.items, self.seconds, self.error = items, seconds, error
        self.read: list[str] = []
        self.closed = False

    async def __call__(self) -> AsyncGenerator[str, None]:
        try:
            for item in self.items:
                self.read.append(item)
                if self.seconds:
                    await asyncio.sleep(self.seconds)
                yield item
            if self.error is not None:
                raise self.error
        finally:
            self.closed = True


def _unused(inputs: Iterator[Any]) -> Iterator[str]:
    yield from ()


def step(tasks: Callable[[AsyncIterator[Any]], AsyncIterator[str]]) -> RunnableGenerator[Any, str]:
    return RunnableGenerator(_unused, tasks)


async def _whole(inputs: AsyncIterator[str]) -> AsyncIterator[str]:
    yield "".join([part async for part in inputs])


async def _each(inputs: AsyncIterator[str]) -> AsyncIterator[str]:
    async for part in inputs:
        yield part


WHOLE, EACH = step(_whole), step(_each)


async def given_up(reading: Any, after: float) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(after):
            await reading


@pytest.mark.parametrize("times", [1, 3])
async def test_what_a_cancelled_reader_waited_for_goes_to_the_next_one_once(times: int) -> None:
    ticking = Ticking()
    source = AsyncInput(ticking())
    for _ in range(times):
        await given_up(anext(source), 0.2)
    await asyncio.sleep(0.9 if times == 1 else 0)
    assert [item async for item in source] == ["a", "b", "c"]
    assert ticking.read == ["a", "b", "c"]
    await source.aend()


async def test_a_replay_goes_on_where_a_cancelled_reader_had_waited() -> None:
    ticking = Ticking()
    async with aclosing(AsyncReplay(ticking())) as replay:
        first = replay.again()
        assert await anext(first) == "a"
        await given_up(anext(first), 0.5)
        assert [item async for item in replay.again()] == ["a", "b", "c"]
        assert [item async for item in replay.again()] == ["a", "b", "c"]
    assert ticking.read == ["a", "b", "c"]


async def test_an_attempt_that_timed_out_leaves_the_input_whole_for_the_next() -> None:
    policy = BranchPolicy(retry=RetryPolicy(max_attempts=5), timeout=TimeoutPolicy(attempt_timeout=1.5))
    async with left_nothing_in_tasks() as runs:
        chain = EACH | plus(a=WHOLE, b=EACH).with_policy(a=policy)
        chunks = [chunk async for chunk in chain.atransform(Ticking()(), {"callbacks": [runs]})]
    assert "".join(chunk.get("a", "") for chunk in chunks) == "abc"
    assert [chunk["b"] for chunk in chunks if "b" in chunk] == ["a", "b", "c"]


async def test_a_branch_that_gives_up_harms_no_sibling() -> None:
    policy = BranchPolicy(timeout=TimeoutPolicy(run_timeout=0.5), on_failure="drop")
    fan_out = plus(a=WHOLE, b=WHOLE).with_policy(a=policy)
    chunks = [chunk async for chunk in fan_out.atransform(Ticking("abcd")())]
    assert [chunk["b"] for chunk in chunks if "b" in chunk] == ["abcd"]


async def test_nothing_is_read_that_nobody_has_asked_for() -> None:
    ticking = Ticking("abcdef", seconds=0)
    source = AsyncInput(ticking())
    await asyncio.sleep(5)
    assert ticking.read == []
    for count, item in enumerate("abc", start=1):
        assert await anext(source) == item
        await asyncio.sleep(5)
        assert len(ticking.read) == count
    await source.aend()
    ticking = Ticking("abcdef")
    source = AsyncInput(ticking())
    await given_up(anext(source), 0.5)
    await asyncio.sleep(60)
    assert ticking.read == ["a"]
    await source.aend()


async def test_an_input_that_never_waits_costs_no_switch() -> None:
    switched: list[int] = []
    source = AsyncInput(Ticking("x" * 1000, seconds=0)())
    asyncio.get_running_loop().call_soon(switched.append, 1)
    assert len([item async for item in source]) == 1000
    assert not switched
    await source.aend()
    assert not others()


@WAITS
async def test_an_input_runs_in_one_task_whoever_reads(wait: Wait) -> None:
    seen = set()

    async def inputs() -> AsyncIterator[int]:
        for number in range(4):
            seen.add(asyncio.current_task())
            if number % 2:
                await wait()
                seen.add(asyncio.current_task())
            yield number

    source = AsyncInput(inputs())
    for number in range(4):
        assert await asyncio.create_task(anext(source)) == number  # type: ignore[arg-type]  # a coroutine
        assert asyncio.current_task() not in seen
    assert len(seen) == 1
    await source.aend()


@pytest.mark.parametrize("timeout", [asyncio.timeout, anyio.fail_after], ids=["asyncio", "anyio"])
@pytest.mark.parametrize("seconds", [0, 0.5])
async def test_timeouts_inside_the_input_are_its_own(timeout: Any, seconds: float) -> None:
    async def inputs() -> AsyncIterator[str]:
        with suppress(TimeoutError):
            if timeout is anyio.fail_after:
                with timeout(seconds):
                    await asyncio.sleep(60)
            else:
                async with timeout(seconds):
                    await asyncio.sleep(60)
        yield "late"
        await asyncio.sleep(1)
        yield "later"

    source = AsyncInput(inputs())
    began = asyncio.get_running_loop().time()
    await given_up(anext(source), 0)
    assert await anext(source) == "late"
    assert asyncio.get_running_loop().time() - began == pytest.approx(seconds, abs=0.01)
    assert await anext(source) == "later"
    await source.aend()


@pytest.mark.parametrize("seconds", [0, 1])
async def test_an_input_finds_the_callers_variables_and_its_own_but_no_branchs(seconds: float) -> None:
    callers: ContextVar[str] = ContextVar("callers", default="")
    own: ContextVar[int] = ContextVar("own", default=-1)
    branchs: ContextVar[str] = ContextVar("branchs", default="")
    seen = []

    async def inputs() -> AsyncIterator[str]:
        for number in range(4):
            own.set(number)
            await asyncio.sleep(seconds)
            yield str(number)
            seen.append((callers.get(), own.get(), branchs.get()))

    async def sets(parts: AsyncIterator[str]) -> AsyncIterator[str]:
        branchs.set("set")
        async for part in parts:
            branchs.set("set")
            yield part

    callers.set("caller")
    async for _ in plus(a=step(sets), b=step(sets)).atransform(inputs()):
        pass
    assert seen == [("caller", number, "") for number in range(4)]


async def _to_its_end(stream: AsyncIterator[Any]) -> None:
    async for _ in stream:
        pass


async def _closed_early(stream: Any) -> None:
    await anext(stream)
    await stream.aclose()


async def _cancelled_from_outside(stream: AsyncIterator[Any]) -> None:
    await given_up(_to_its_end(stream), 1.5)


async def _failing(inputs: AsyncIterator[str]) -> AsyncIterator[str]:
    await asyncio.sleep(1.5)
    raise ValueError("mine")
    yield ""


async def _failed(stream: AsyncIterator[Any]) -> None:
    with pytest.raises(ValueError, match="mine"):
        await _to_its_end(stream)


async def _gives_up(inputs: AsyncIterator[str]) -> AsyncIterator[str]:
    yield await anext(inputs)
    await given_up(anext(inputs), 0.5)


RETRY = BranchPolicy(retry=RetryPolicy(max_attempts=2))
LATE = JoinPolicy(deadline=1.5, min_success=0)
ENDS = {
    "whole": (plus(a=EACH, b=WHOLE), _to_its_end),
    "closed early": (plus(a=EACH, b=WHOLE), _closed_early),
    "cancelled": (plus(a=EACH, b=WHOLE), _cancelled_from_outside),
    "a branch fails": (plus(a=step(_failing), b=WHOLE), _failed),
    "a deadline": (plus(a=EACH, b=WHOLE).with_join(LATE), _to_its_end),
    "the only reader gives up": (plus(a=step(_gives_up)), _to_its_end),
}


@pytest.mark.parametrize("how", ENDS)
@pytest.mark.parametrize("policy", [None, RETRY], ids=["plain", "retry"])
async def test_nothing_of_the_reading_is_left(how: str, policy: BranchPolicy | None) -> None:
    fan_out, use = ENDS[how]
    if policy is not None:
        failing = BranchPolicy() if how == "a branch fails" else policy
        fan_out = fan_out.with_policy(policy, a=failing)
    ticking = Ticking()
    async with left_nothing_in_tasks() as runs:
        await use(fan_out.atransform(ticking(), {"callbacks": [runs]}))
    assert ticking.closed


@WAITS
async def test_a_call_that_has_only_just_begun_is_ended_too(wait: Wait) -> None:
    ended = []

    async def inputs() -> AsyncIterator[str]:
        try:
            while True:
                await wait()
        finally:
            await asyncio.sleep(1)
            ended.append("cleaned up")
        yield ""

    source = AsyncInput(inputs())
    reader = asyncio.create_task(anext(source))  # type: ignore[arg-type]  # a coroutine
    asyncio.get_running_loop().call_soon(reader.cancel)
    ending = asyncio.create_task(source.aend())
    await asyncio.wait([reader, ending])
    assert ended == ["cleaned up"]
    assert reader.cancelled()
    assert not others()


async def test_an_input_that_resists_holds_its_end_up_for_two_seconds_at_most(caplog: pytest.LogCaptureFixture) -> None:
    async def stubborn() -> AsyncIterator[str]:
        for _ in range(20):
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(1)
        yield "at last"

    source = AsyncInput(stubborn())
    await given_up(anext(source), 0.5)
    began = asyncio.get_running_loop().time()
    with caplog.at_level(logging.WARNING):
        await source.aend()
    assert asyncio.get_running_loop().time() - began == pytest.approx(2, abs=0.01)
    assert "have not ended within 2 s" in caplog.text
    await asyncio.sleep(30)
    assert not others()


@pytest.mark.parametrize("seconds", [0, 1])
@pytest.mark.parametrize("error", [ConnectionError("cut"), asyncio.CancelledError("mine")], ids=["error", "cancelled"])
async def test_everybody_sees_the_error_that_ended_the_input(error: BaseException, seconds: float) -> None:
    source = AsyncInput(Ticking("ab", seconds, error)())
    assert [await anext(source), await anext(source)] == ["a", "b"]
    for _ in range(3):
        with pytest.raises(type(error)) as caught:
            await anext(source)
        assert caught.value is source.error
    await source.aend()
    fan_out = plus(a=WHOLE, b=EACH).with_policy(BranchPolicy(retry=RETRY.retry, on_failure="keep"))
    with pytest.raises(type(error)):
        await _to_its_end(fan_out.atransform(Ticking("ab", seconds, error)()))
    assert not others()


@pytest.mark.parametrize("seconds", [0, 0.01])
@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_what_ends_the_program_is_not_swallowed(
    error: type[BaseException], seconds: float, caplog: pytest.LogCaptureFixture
) -> None:
    fan_out = plus(a=WHOLE, b=EACH).with_policy(BranchPolicy(retry=RETRY.retry, on_failure="keep"))
    with asyncio.Runner() as runner, pytest.raises(error):
        runner.run(_to_its_end(fan_out.atransform(Ticking("ab", seconds, error())())))
    gc.collect()
    assert not caplog.records


@pytest.mark.parametrize("busy", [True, False], ids=["busy", "idle"])
async def test_whoever_cancels_all_tasks_gets_no_input_taken_for_whole(busy: bool) -> None:
    ticking = Ticking("abc")
    source = AsyncInput(ticking())
    assert await anext(source) == "a"
    if busy:
        await given_up(anext(source), 0.5)
    for task in others():
        task.cancel()
    await asyncio.sleep(0)
    if busy:
        with pytest.raises(RuntimeError, match="cut off"):
            await anext(source)
    else:
        assert [item async for item in source] == ["b", "c"]
    await source.aend()
    assert ticking.closed
    assert not others()
