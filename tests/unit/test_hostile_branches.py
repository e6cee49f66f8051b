"""Branches, errors, inputs and callers that do what nobody expects."""

from __future__ import annotations

import asyncio
import functools
import operator
import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from langchain_core.messages import AIMessageChunk
from langchain_core.runnables import Runnable, RunnableConfig, RunnableGenerator, RunnableLambda, RunnableParallel

from langchain_parallel_plus import (
    BranchFailure,
    BranchPolicy,
    BranchTimeoutError,
    JoinPolicy,
    RetryPolicy,
    RunnableParallelPlus,
    RunnableWithPolicy,
    TimeoutPolicy,
    collect_report,
    fan_out_results,
)
from langchain_parallel_plus._engine.workers import WORKERS
from langchain_parallel_plus.testing import ScriptedChatModel
from tests.modes import MODES, Mode

KEEP = BranchPolicy(on_failure="keep")
STREAMS = pytest.mark.parametrize("mode", [mode for mode in MODES if mode.streams], ids=str)


class NoMessageError(Exception):
    """An error whose message cannot be made."""

    def __str__(self) -> str:
        raise AttributeError("nothing to say")


class FalsyError(Exception):
    """An error that is falsy."""

    def __len__(self) -> int:
        return 0


@pytest.mark.parametrize("error", [NoMessageError(), FalsyError()], ids=["no_message", "falsy"])
async def test_an_error_that_cannot_be_described_is_raised_or_kept_like_any_other(mode: Mode, error: Any) -> None:
    def fails(_: Any) -> None:
        raise error

    with pytest.raises(type(error)):
        await mode.run(RunnableParallelPlus(bad=fails, good=len), "abc", None)
    kept = await mode.run(RunnableParallelPlus(bad=fails, good=len).with_policy(KEEP), "abc", None)
    assert isinstance(kept["bad"], BranchFailure)
    assert kept["good"] == 3


@pytest.mark.parametrize("error", [NoMessageError(), FalsyError()], ids=["no_message", "falsy"])
async def test_a_batch_returns_such_errors_too(error: Any) -> None:
    def fails(_: Any) -> None:
        raise error

    fan_out = RunnableParallelPlus(bad=fails)
    async with asyncio.timeout(5):
        assert await fan_out.abatch(["a", "b"], return_exceptions=True) == [error, error]
    assert fan_out.batch(["a", "b"], return_exceptions=True) == [error, error]


def cut_input() -> RunnableGenerator[Any, str]:
    def sync(inputs: Iterator[Any]) -> Iterator[str]:
        list(inputs)
        yield "the treaty is "
        yield "NOT "
        raise ConnectionError("cut")

    async def tasks(inputs: AsyncIterator[Any]) -> AsyncIterator[str]:
        async for _ in inputs:
            pass
        yield "the treaty is "
        yield "NOT "
        raise ConnectionError("cut")

    return RunnableGenerator(sync, tasks)


@STREAMS
@pytest.mark.parametrize(
    "policy",
    [
        BranchPolicy(),
        KEEP,
        BranchPolicy(retry=RetryPolicy(initial_interval=0.001)),
        BranchPolicy(fallbacks=[lambda text: f"instead {text}"]),
        BranchPolicy(timeout=TimeoutPolicy(run_timeout=5)),
    ],
    ids=["plain", "keep", "retry", "fallback", "timeout"],
)
async def test_an_input_that_breaks_off_is_nobodys_whole_input(mode: Mode, policy: BranchPolicy) -> None:
    seen: list[str] = []

    def shout(text: str) -> str:
        seen.append(text)
        return text.upper()

    after: list[Runnable[Any, Any]] = [RunnableParallelPlus(a=shout, b=shout).with_policy(policy)]
    if policy.acts:
        after.append(RunnableWithPolicy(shout, policy))
    for runnable in after:
        with pytest.raises(ConnectionError, match="cut"):
            await mode.run(cut_input() | runnable, "q", None)
    assert not seen


@STREAMS
async def test_a_failure_stands_at_its_key_whatever_chunks_came_before(mode: Mode) -> None:
    def sync(inputs: Iterator[Any]) -> Iterator[Any]:
        list(inputs)
        yield AIMessageChunk("hello ")
        yield AIMessageChunk("wor")
        raise ConnectionError("cut")

    async def tasks(inputs: AsyncIterator[Any]) -> AsyncIterator[Any]:
        for chunk in sync(iter([])):
            yield chunk

    inner = RunnableParallelPlus(model=RunnableGenerator(sync, tasks))
    fan_out = RunnableParallelPlus(model=RunnableGenerator(sync, tasks), nested=inner, good=len).with_policy(KEEP)
    for chain in (fan_out, fan_out | RunnableLambda(lambda outputs: outputs)):
        result = await mode.run(chain, "abc", None)
        assert result["good"] == 3
        assert result["model"].partial.content == "hello wor"
        assert isinstance(result["nested"], BranchFailure)


async def test_what_an_inner_fan_out_had_finished_is_there_too(mode: Mode) -> None:
    def bad(_: Any) -> None:
        time.sleep(0.05)
        raise ValueError("deep")

    fan_out = RunnableParallelPlus(outer=len, sub=RunnableParallelPlus(inner=len, bad=bad))
    with pytest.raises(ValueError, match="deep") as caught:
        await mode.run(fan_out, "abc", None)
    results = fan_out_results(caught.value)
    assert results is not None
    assert results.outputs == {"outer": 3}
    assert results.inner["sub"].outputs == {"inner": 3}


@pytest.mark.looptime
async def test_a_cancellation_while_branches_clean_up_is_obeyed() -> None:
    ended = []

    async def slow(_: Any) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(1)
            ended.append("slow")

    async def quick(_: Any) -> int:
        return 1

    fan_out = RunnableParallelPlus(a=RunnableLambda(quick), b=RunnableLambda(slow)).with_join(JoinPolicy(wait_for=1))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await fan_out.ainvoke("x")
    assert ended == ["slow"]


@pytest.mark.looptime
async def test_a_branch_that_resists_its_cancellation_makes_a_deadline_late_by_two_seconds_at_most() -> None:
    async def stubborn(_: Any) -> None:
        for _ in range(20):
            try:
                await asyncio.sleep(1)
            except asyncio.CancelledError:
                continue

    fan_out = RunnableParallelPlus(a=RunnableLambda(stubborn)).with_join(JoinPolicy(min_success=0, deadline=1))
    began = asyncio.get_running_loop().time()
    assert isinstance((await fan_out.ainvoke("x"))["a"], BranchFailure)
    assert asyncio.get_running_loop().time() - began <= 3.1
    await asyncio.sleep(30)


async def test_an_ainvoke_that_is_a_plain_function_fails_its_branch_only() -> None:
    class Weird(Runnable[Any, Any]):
        def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
            raise ConnectionError("sync")

        def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:  # type: ignore[override]
            raise ConnectionError("no coroutine")

    result = await RunnableParallelPlus(weird=Weird(), good=len).with_policy(KEEP).ainvoke("abc")
    assert (result["weird"].message, result["good"]) == ("no coroutine", 3)


@pytest.mark.parametrize("join", [None, JoinPolicy(deadline=0.2)])
def test_the_time_of_a_streams_consumer_is_no_branchs(join: JoinPolicy | None) -> None:
    def chunks(inputs: Iterator[Any]) -> Iterator[str]:
        list(inputs)
        yield from "abcdef"

    fan_out = RunnableParallelPlus({"a": RunnableGenerator(chunks)})
    if join is None:
        fan_out = fan_out.with_policy(BranchPolicy(timeout=TimeoutPolicy(run_timeout=0.2)))
    else:
        fan_out = fan_out.with_join(join)
    collected = []
    for chunk in fan_out.stream("x"):
        time.sleep(0.06)
        collected.append(chunk)
    assert functools.reduce(operator.add, collected) == {"a": "abcdef"}


# A branch that reads a streamed input gives its turn away meanwhile: there, both have started.
@pytest.mark.parametrize("mode", [mode for mode in MODES if "transform" not in mode.name], ids=str)
async def test_a_branch_that_was_never_started_had_no_attempts(mode: Mode) -> None:
    fan_out = RunnableParallelPlus(a=lambda _: time.sleep(0.3), b=lambda _: time.sleep(0.3)).with_join(
        JoinPolicy(min_success=0, deadline=0.1)
    )
    result = await mode.run(fan_out, "x", {"max_concurrency": 1})
    assert sorted(failure.attempts for failure in result.values()) == [0, 1]


async def test_a_dropped_branch_is_missing_and_says_why(mode: Mode) -> None:
    def bad(_: Any) -> None:
        raise ConnectionError

    fan_out = RunnableParallelPlus(bad=bad, good=len).with_policy(bad=BranchPolicy(on_failure="drop"))
    result = await mode.run(fan_out, "abc", None)
    assert result == {"good": 3}
    assert result.missing == {"bad": "connection"}


async def test_a_policy_outside_any_fan_out_is_reported_to_its_end(mode: Mode) -> None:
    policy = BranchPolicy(timeout=TimeoutPolicy(run_timeout=0.05))
    with collect_report() as report:
        assert await mode.run(RunnableWithPolicy(len, policy), "abc", None) == 3
        with pytest.raises(BranchTimeoutError):
            await mode.run(RunnableWithPolicy(lambda _: time.sleep(0.3), policy, name="slow"), "abc", None)
    assert [(run.name, run.failed, run.seconds is None) for run in report.fan_outs] == [
        ("len", False, False),
        ("slow", True, False),
    ]
    assert [branch.outcome for branch in report.branches] == ["ok", "timed_out"]


def test_a_branch_may_be_required_where_the_others_are_kept() -> None:
    def bad(_: Any) -> None:
        raise ConnectionError

    fan_out = RunnableParallelPlus(must=bad, may=bad).with_policy(KEEP, must=BranchPolicy(required=True))
    with pytest.raises(ConnectionError):
        fan_out.invoke("x")
    assert isinstance(
        RunnableParallelPlus(must=len, may=bad).with_policy(KEEP, must=BranchPolicy(required=True)).invoke("x")["may"],
        BranchFailure,
    )


def test_a_class_with_its_type_written_out_is_found_again() -> None:
    assert RunnableParallelPlus[dict].lc_id() == RunnableParallelPlus.lc_id()  # type: ignore[type-arg]


async def test_a_busy_stream_ends_at_its_limit_all_the_same() -> None:
    async def endless(inputs: AsyncIterator[Any]) -> AsyncIterator[int]:
        async for _ in inputs:
            pass
        while True:
            await asyncio.sleep(0)
            yield 1

    def unused(inputs: Iterator[Any]) -> Iterator[int]:
        yield from ()

    step = RunnableGenerator(unused, endless)
    limited = RunnableWithPolicy(step, BranchPolicy(timeout=TimeoutPolicy(run_timeout=0.1)))
    for runnable in (limited, RunnableParallelPlus({"a": step}).with_join(JoinPolicy(deadline=0.1))):
        async with asyncio.timeout(5):
            with pytest.raises(TimeoutError, match=r"0\.1 s"):
                async for _ in runnable.astream("x"):
                    pass


async def test_policies_and_fan_outs_side_by_side_in_one_branch_take_its_permit_once() -> None:
    async def work(value: Any) -> Any:
        await asyncio.sleep(0.05)
        return value

    async def late(value: Any) -> Any:
        await asyncio.sleep(0.02)
        return value

    step = RunnableLambda(work)
    tended = RunnableWithPolicy(step, BranchPolicy(retry=RetryPolicy(max_attempts=2)))
    both = RunnableParallel(x=RunnableParallelPlus(p=step, q=step), y=RunnableLambda(late) | tended)
    for cap in (1, 2):
        async with asyncio.timeout(5):
            fan_out = RunnableParallelPlus(a=both, b=step, c=both)
            assert (await fan_out.ainvoke(1, {"max_concurrency": cap}))["a"] == {"x": {"p": 1, "q": 1}, "y": 1}


@pytest.mark.parametrize("name", ["batch", "abatch"])
async def test_batches_under_a_policy_share_the_cap_of_the_tree(name: str) -> None:
    running, peak, lock = 0, 0, threading.Lock()

    def work(value: Any) -> Any:
        nonlocal running, peak
        with lock:
            running += 1
            peak = max(peak, running)
        time.sleep(0.01)
        with lock:
            running -= 1
        return value

    tended = RunnableWithPolicy(work, BranchPolicy(retry=RetryPolicy()))

    def sync(_: Any) -> Any:
        return tended.batch([1, 2, 3, 4])

    async def tasks(_: Any) -> Any:
        return await tended.abatch([1, 2, 3, 4])

    fan_out = RunnableParallelPlus({key: RunnableLambda(sync, tasks) for key in "abcd"})
    config: RunnableConfig = {"max_concurrency": 3}
    result = fan_out.invoke(0, config) if name == "batch" else await fan_out.ainvoke(0, config)
    assert result["d"] == [1, 2, 3, 4]
    assert peak <= 3


async def test_an_exception_that_refuses_notes_is_raised_as_it_is(mode: Mode) -> None:
    class Stern(Exception):
        def add_note(self, note: str) -> None:
            raise RuntimeError("no notes")

    def bad(_: Any) -> None:
        raise Stern

    with pytest.raises(Stern):
        await mode.run(RunnableParallelPlus(bad=bad, good=len), "abc", None)


async def test_an_input_whose_reader_timed_out_is_not_taken_for_whole() -> None:
    async def slow(_: AsyncIterator[Any]) -> AsyncIterator[str]:
        yield "a"
        await asyncio.sleep(0.3)
        yield "b"

    def unused(inputs: Iterator[Any]) -> Iterator[str]:
        yield from ()

    async def whole(inputs: AsyncIterator[str]) -> AsyncIterator[str]:
        yield "".join([part async for part in inputs])

    policy = BranchPolicy(
        retry=RetryPolicy(max_attempts=5, initial_interval=0.001), timeout=TimeoutPolicy(attempt_timeout=0.1)
    )
    chain = RunnableGenerator(unused, slow) | RunnableWithPolicy(RunnableGenerator(unused, whole), policy)
    assert [chunk async for chunk in chain.astream("x")] == ["ab"]


def test_streams_whose_consumers_pause_hold_up_no_other_fan_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def chunks(inputs: Iterator[Any]) -> Iterator[int]:
        list(inputs)
        yield from range(5)

    monkeypatch.setattr(WORKERS, "_limit", 4)
    streams = [
        RunnableParallelPlus(a=RunnableGenerator(chunks), b=RunnableGenerator(chunks)).stream(1) for _ in range(4)
    ]
    for stream in streams:
        next(stream)
    done = threading.Thread(target=lambda: RunnableParallelPlus(a=lambda x: x, b=lambda x: x).invoke(1), daemon=True)
    done.start()
    done.join(5)
    assert not done.is_alive()
    for stream in streams:
        stream.close()  # type: ignore[attr-defined]  # a generator, typed as an iterator


def test_a_stream_under_a_policy_gives_its_work_up_when_it_is_closed() -> None:
    model, going_on, ended = ScriptedChatModel(["late"]), threading.Event(), threading.Event()

    def chunks(inputs: Iterator[Any]) -> Iterator[str]:
        list(inputs)
        try:
            yield "first"
            going_on.wait(5)
            model.invoke("still wanted?")
        finally:
            ended.set()

    policy = BranchPolicy(timeout=TimeoutPolicy(attempt_timeout=9))
    stream = RunnableWithPolicy(RunnableGenerator(chunks), policy).stream("x")
    assert next(stream) == "first"
    stream.close()  # type: ignore[attr-defined]  # a generator, typed as an iterator
    going_on.set()
    assert ended.wait(5)
    assert model.calls == ()


def test_an_item_whose_turn_comes_after_its_batch_has_ended_is_not_run() -> None:
    ran: list[int] = []
    holding = threading.Event()

    def work(value: int) -> int:
        ran.append(value)
        if value == 0:
            raise ValueError("first")
        return value

    tended = RunnableWithPolicy(work, BranchPolicy(retry=RetryPolicy()))

    def batch(_: Any) -> None:
        tended.batch([0, 1, 2, 3])

    fan_out = RunnableParallelPlus(a=batch, b=lambda _: holding.wait(0.2))
    with pytest.raises(ValueError, match="first"):
        fan_out.invoke(0, {"max_concurrency": 1})
    time.sleep(0.3)
    assert ran == [0]
