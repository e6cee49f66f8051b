"""What listeners are told, and that nobody else pays for it."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any
from uuid import uuid4

import pytest
from langchain_core.runnables import RunnableGenerator, RunnableLambda

from langchain_parallel_plus import (
    BranchPolicy,
    CircuitBreaker,
    RateLimiter,
    RetryPolicy,
    RunnableParallelPlus,
    RunnableWithPolicy,
    TimeoutPolicy,
)
from langchain_parallel_plus.errors import DeclarationError
from langchain_parallel_plus.observe import Event, subscribe, subscribed, telling_synthesis
from langchain_parallel_plus.observe import event as event_module
from langchain_parallel_plus.testing import ScriptedChatModel
from tests.modes import MODES, Mode

RETRY = BranchPolicy(retry=RetryPolicy(max_attempts=2, initial_interval=0.001, jitter=False))


class Flaky:
    """Fails the first `times`."""

    def __init__(self, times: int = 1) -> None:
        self.left = times

    def __call__(self, value: Any) -> Any:
        if self.left:
            self.left -= 1
            raise ConnectionError("down")
        return value


def _of(events: list[Event], *kinds: str) -> list[Event]:
    return [one for one in events if one.kind in kinds]


async def test_a_branch_tells_its_whole_story_in_order(mode: Mode) -> None:
    events: list[Event] = []
    policy = BranchPolicy(
        retry=RetryPolicy(max_attempts=2, initial_interval=0.001, jitter=False), fallbacks=[RunnableLambda(str.upper)]
    )
    fan_out = RunnableParallelPlus(x=Flaky(2), y=len).with_policy(x=policy)
    with subscribed(events.append):
        assert await mode.run(fan_out, "in", None) == {"x": "IN", "y": 2}
    assert events[0].kind == "fan_out.start"
    assert events[-1].kind == "fan_out.end"
    assert events[0].detail["branches"] == ["x", "y"]
    assert (events[-1].outcome, dict(events[-1].detail)) == ("ok", {"succeeded": 2, "failed": 0, "skipped": 0})
    assert len({one.run_id for one in events}) == 1
    told = [one for one in events if one.path == ("x",)]
    assert [one.kind for one in told] == [
        "branch.start",
        "attempt.start",
        "attempt.end",
        "backoff",
        "attempt.start",
        "attempt.end",
        "attempt.start",
        "attempt.end",
        "branch.end",
    ]
    ends = _of(told, "attempt.end")
    assert [(one.attempt, one.detail["role"], one.outcome) for one in ends] == [
        (1, "primary", "failed"),
        (2, "retry", "failed"),
        (3, "fallback", "ok"),
    ]
    assert ends[0].error == "connection"
    assert all(one.seconds is not None and one.seconds >= 0 for one in ends)
    assert [one.at for one in told] == sorted(one.at for one in told)
    assert [one.kind for one in events if one.path == ("y",)] == ["branch.start", "branch.end"]


async def test_a_model_call_tells_its_wait_and_its_tokens(mode: Mode) -> None:
    events: list[Event] = []
    limiter = RateLimiter(requests_per_minute=1200, burst=0.05)
    model = ScriptedChatModel(["well"], cycle=True, model="scripted-1")
    with subscribed(events.append):
        await mode.run(RunnableParallelPlus(a=model, b=model).with_limits(limiter), "ask", None)
    state = events[0].detail["limiters"][0]
    assert state.rates["requests_per_minute"].per_second == 20
    waits, queued = _of(events, "limiter.wait"), _of(events, "limiter.queue")
    assert len(waits) == 2
    assert [one.detail["call"] for one in queued] == [one.detail["call"] for one in waits if one.detail["dimension"]]
    assert all(one.detail["requests"] == 1 and one.detail["tokens"] > 0 for one in waits)
    usage = _of(events, "model.usage")
    assert {one.detail["call"] for one in _of(events, "model.start")} == {one.detail["call"] for one in usage}
    assert [one.detail["model"] for one in usage] == ["scripted-1"] * 2
    assert all(one.detail["input_tokens"] > 0 and one.outcome == "ok" for one in usage)


async def test_tokens_are_told_without_any_limiter_too(mode: Mode) -> None:
    events: list[Event] = []
    fan_out = RunnableParallelPlus(a=ScriptedChatModel(["well"], cycle=True)).with_policy(RETRY)
    with subscribed(events.append):
        await mode.run(fan_out, "ask", None)
    [usage] = _of(events, "model.usage")
    assert usage.attempt == 1
    assert usage.detail["output_tokens"] > 0
    assert not _of(events, "limiter.wait")


async def test_a_failed_model_call_ends_as_one(mode: Mode) -> None:
    events: list[Event] = []
    model = ScriptedChatModel([ConnectionError("down"), "well"])
    with subscribed(events.append):
        await mode.run(RunnableParallelPlus(a=model).with_policy(RETRY), "ask", None)
    assert [(one.attempt, one.outcome) for one in _of(events, "model.usage")] == [(1, "failed"), (2, "ok")]


async def test_nested_fan_outs_name_their_parent(mode: Mode) -> None:
    events: list[Event] = []
    inner = RunnableParallelPlus(deep=len)
    with subscribed(events.append):
        await mode.run(RunnableParallelPlus(outer=inner), "in", None)
    first, second = _of(events, "fan_out.start")
    assert first.detail["parent_run_id"] is None
    assert second.detail["parent_run_id"] == first.run_id
    assert second.path == ("outer",)


@pytest.mark.looptime
async def test_a_cancelled_attempt_ends_as_one() -> None:
    events: list[Event] = []
    policy = BranchPolicy(timeout=TimeoutPolicy(attempt_timeout=5))
    fan_out = RunnableParallelPlus(slow=RunnableLambda(_sleep)).with_policy(policy)
    with subscribed(events.append):
        task = asyncio.create_task(fan_out.ainvoke(100))
        await asyncio.sleep(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    [attempt] = _of(events, "attempt.end")
    assert (attempt.outcome, attempt.seconds) == ("cancelled", pytest.approx(1))
    assert [one.outcome for one in _of(events, "branch.end", "fan_out.end")] == ["cancelled", "cancelled"]


async def _sleep(seconds: float) -> None:
    await asyncio.sleep(seconds)


SYNC = pytest.mark.parametrize("sync", [one for one in MODES if one.sync], ids=str)


@SYNC
async def test_a_thread_that_returns_after_its_time_is_told_of(sync: Mode) -> None:
    events: list[Event] = []
    release, late = threading.Event(), threading.Event()

    def listen(event: Event) -> None:
        events.append(event)
        if event.kind.endswith(".late"):
            late.set()

    def slow(_: Any) -> str:
        release.wait(20)
        return "late"

    policy = BranchPolicy(timeout=TimeoutPolicy(attempt_timeout=0.02), on_failure="keep")
    with subscribed(listen):
        await sync.run(RunnableParallelPlus(x=slow).with_policy(x=policy), "in", None)
        release.set()
        assert late.wait(20)
    [told] = _of(events, "attempt.late")
    assert (told.path, told.attempt, told.outcome) == (("x",), 1, "ok")


@SYNC
async def test_a_branch_that_returns_after_its_fan_out_is_told_of(sync: Mode) -> None:
    begun, release, late = threading.Event(), threading.Event(), threading.Event()

    def slow(_: Any) -> None:
        begun.set()
        release.wait(20)

    def bad(_: Any) -> None:
        begun.wait(20)  # else the other branch may never begin
        raise ConnectionError("down")

    fan_out = RunnableParallelPlus(slow=slow, bad=bad)
    with subscribed(lambda event: late.set() if event.kind == "branch.late" else None):
        with pytest.raises(ConnectionError):
            await sync.run(fan_out, "in", None)
        release.set()
        assert late.wait(20)


def test_a_stream_that_is_closed_between_two_chunks_leaves_nothing_that_comes_late() -> None:
    events: list[Event] = []

    def chunks(_: Any) -> Iterator[int]:
        yield from range(100)

    policy = BranchPolicy(timeout=TimeoutPolicy(attempt_timeout=20))
    fan_out = RunnableParallelPlus(x=RunnableGenerator(chunks)).with_policy(policy)
    stream = fan_out.stream("in", {"max_concurrency": 1})  # so that the thread waits while the chunk is read
    with subscribed(events.append):
        next(stream)
        stream.close()
    assert not [event for event in events if event.kind.endswith(".late")]


async def test_a_breaker_s_transitions_are_told(mode: Mode) -> None:
    events: list[Event] = []
    breaker = CircuitBreaker(name=f"told {mode}", minimum_calls=1, open_for=0.02)
    step = RunnableWithPolicy(Flaky(), BranchPolicy(breaker=breaker))
    with subscribed(events.append):
        with pytest.raises(ConnectionError):
            await mode.run(step, "in", None)
        await asyncio.sleep(0.03)
        assert await mode.run(step, "in", None) == "in"
    changes = [(one.detail["name"], one.detail["before"], one.detail["after"]) for one in _of(events, "breaker")]
    assert changes == [
        (f"told {mode}", "closed", "open"),
        (f"told {mode}", "open", "half_open"),
        (f"told {mode}", "half_open", "closed"),
    ]


def test_a_synthesis_is_told_with_how_it_ended() -> None:
    events: list[Event] = []
    with subscribed(events.append):
        with telling_synthesis("vote", run_id=uuid4(), inputs=3):
            pass
        with pytest.raises(ValueError, match="bad"), telling_synthesis("vote", run_id=uuid4(), inputs=3):
            raise ValueError("bad")
    assert [one.outcome for one in events] == [None, "ok", None, "failed"]
    assert events[0].detail == {"strategy": "vote", "inputs": 3}


async def test_nobody_builds_an_event_while_nobody_listens(mode: Mode, monkeypatch: pytest.MonkeyPatch) -> None:
    def built(**_: Any) -> None:
        raise AssertionError("an event was built for nobody")

    for module in ("_engine.scope", "_engine.telling"):
        monkeypatch.setattr(f"langchain_parallel_plus.{module}.Event", built)
    fan_out = RunnableParallelPlus(a=ScriptedChatModel(["well"], cycle=True), b=Flaky()).with_policy(RETRY)
    limited = fan_out.with_limits(RateLimiter(requests_per_minute=1e6))
    assert (await mode.run(limited, "ask", None))["b"] == "ask"


@pytest.mark.parametrize("how", ["in a block", "in the background", "in the process"])
async def test_a_sink_that_raises_is_left_out_with_one_warning_and_the_others_go_on(
    mode: Mode, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[str] = []

    def broken(event: Event) -> None:
        heard.append(event.kind)
        if len(heard) == 2:
            raise RuntimeError("a bug in the sink")

    kinds: list[str] = []
    with ExitStack() as stack:
        if how == "in the process":
            stack.callback(subscribe(broken))
        else:
            stack.enter_context(subscribed(broken, background=how == "in the background"))
        stack.enter_context(caplog.at_level(logging.WARNING))
        stack.enter_context(subscribed(lambda event: kinds.append(event.kind)))
        assert await mode.run(RunnableParallelPlus(a=len), "abc", None) == {"a": 3}
        assert await mode.run(RunnableParallelPlus(a=len), "abc", None) == {"a": 3}
    assert heard == ["fan_out.start", "branch.start"]
    assert kinds == ["fan_out.start", "branch.start", "branch.end", "fan_out.end"] * 2
    [record] = caplog.records
    assert "RuntimeError at branch.start" in record.message
    assert record.levelno == logging.WARNING
    assert record.exc_info is not None
    assert record.exc_info[2] is not None  # with its traceback


async def test_nobody_listens_where_every_sink_has_failed(mode: Mode) -> None:
    def broken(event: Event) -> None:
        raise RuntimeError("a bug in the sink")

    unsubscribe = subscribe(broken)
    try:
        with subscribed(broken):
            assert event_module.listening()
            await mode.run(RunnableParallelPlus(a=len), "abc", None)
            assert not event_module.listening()
    finally:
        unsubscribe()


async def test_a_slow_sink_in_the_background_holds_nobody_up(mode: Mode) -> None:
    taken: list[str] = []
    over = threading.Event()

    def slow(event: Event) -> None:
        assert over.wait(10)
        taken.append(event.kind)

    with subscribed(slow, background=True):
        await mode.run(RunnableParallelPlus(a=len), "abc", None)
        assert taken == []
        over.set()
    assert taken == ["fan_out.start", "branch.start", "branch.end", "fan_out.end"]
    assert "lcpp-events" not in {thread.name for thread in threading.enumerate()}


async def test_a_process_can_listen_as_a_whole(mode: Mode) -> None:
    kinds: list[str] = []
    unsubscribe = subscribe(lambda event: kinds.append(event.kind))
    try:
        await mode.run(RunnableParallelPlus(a=len), "abc", None)
    finally:
        unsubscribe()
    assert kinds == ["fan_out.start", "branch.start", "branch.end", "fan_out.end"]
    assert not event_module.listening()
    await mode.run(RunnableParallelPlus(a=len), "abc", None)
    assert len(kinds) == 4


class _AsyncSink:
    async def __call__(self, event: Event) -> None:
        raise AssertionError


async def _async_sink(event: Event) -> None:
    raise AssertionError


@pytest.mark.parametrize("sink", [5, None, "print", _async_sink, _AsyncSink()], ids=lambda sink: type(sink).__name__)
def test_what_cannot_be_told_of_an_event_is_refused_at_once(sink: Any) -> None:
    with pytest.raises(DeclarationError, match="event sink"):
        subscribe(sink)
    for background in (False, True):
        with pytest.raises(DeclarationError, match="event sink"), subscribed(sink, background=background):
            pass
