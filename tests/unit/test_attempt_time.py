"""The time of an attempt stands still while a model call in it waits for a limiter; that of its run goes on."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from langchain_core.runnables import Runnable, RunnableLambda

from langchain_parallel_plus import (
    BranchPolicy,
    BranchTimeoutError,
    HedgePolicy,
    JoinPolicy,
    LimiterTimeoutError,
    RateLimiter,
    RetryPolicy,
    RunnableParallelPlus,
    RunnableWithPolicy,
    TimeoutPolicy,
    collect_report,
)
from langchain_parallel_plus.testing import ScriptedChatModel
from tests.contract.probes import plus
from tests.modes import MODES, Mode

MODES_ALL = pytest.mark.parametrize("mode", MODES, ids=str)
STREAMS = pytest.mark.parametrize("mode", [mode for mode in MODES if mode.streams], ids=str)

PERIOD = 0.15
"""Seconds from one admission to the next."""
SHORT = 0.12
"""Seconds that an attempt may take: less than the second call waits."""


class BrokenError(Exception):
    """What a provider answers that has counted the call."""

    status_code = 500


def paced() -> RateLimiter:
    """Return a limiter that admits one call at a time, without the margin that would make times odd."""
    return RateLimiter(requests_per_minute=60 / PERIOD, burst=0.001)


def queueing(branches: int, model: Any = None) -> RunnableParallelPlus:
    return plus({str(n): model or ScriptedChatModel(script=lambda _: "ok") for n in range(branches)})


@MODES_ALL
@pytest.mark.parametrize(
    "timeout",
    [
        TimeoutPolicy(attempt_timeout=SHORT),
        TimeoutPolicy(first_chunk_timeout=SHORT),
        TimeoutPolicy(idle_timeout=SHORT),
        TimeoutPolicy(attempt_timeout=SHORT, first_chunk_timeout=SHORT, idle_timeout=SHORT, run_timeout=30),
    ],
    ids=["attempt", "first chunk", "idle", "all"],
)
async def test_waits_for_a_limiter_take_nothing_of_an_attempts_time(mode: Mode, timeout: TimeoutPolicy) -> None:
    fan_out = queueing(3).with_policy(BranchPolicy(timeout=timeout)).with_limits(paced())
    began = time.monotonic()
    answers = await mode.run(fan_out, "x", None)
    assert {answer.content for answer in answers.values()} == {"ok"}
    assert time.monotonic() - began > 2 * SHORT


@MODES_ALL
async def test_the_call_itself_still_has_its_time_after_the_wait(mode: Mode) -> None:
    limiter = paced()
    assert limiter.try_acquire()
    model = ScriptedChatModel(script=lambda _: "late", latency=5)
    policy = BranchPolicy(timeout=TimeoutPolicy(attempt_timeout=SHORT))
    began = time.monotonic()
    with pytest.raises(BranchTimeoutError, match=r"attempt_timeout of 0\.12 s"):
        await mode.run(plus(a=model).with_policy(policy).with_limits(limiter), "x", None)
    assert PERIOD / 2 + SHORT < time.monotonic() - began < 2


@MODES_ALL
async def test_the_time_of_a_run_goes_on(mode: Mode) -> None:
    limiter = RateLimiter(requests_per_minute=1, burst=1)
    assert limiter.try_acquire()
    policy = BranchPolicy(timeout=TimeoutPolicy(attempt_timeout=1, run_timeout=2))
    began = time.monotonic()
    with pytest.raises(LimiterTimeoutError):
        await mode.run(queueing(1).with_policy(policy).with_limits(limiter), "x", None)
    assert time.monotonic() - began < 1


@MODES_ALL
async def test_a_wait_that_has_no_planned_end_ends_with_the_run(mode: Mode) -> None:
    limiter = RateLimiter(concurrency=1)
    with limiter.hold():
        policy = BranchPolicy(timeout=TimeoutPolicy(attempt_timeout=0.05, run_timeout=0.3))
        began = time.monotonic()
        with pytest.raises((BranchTimeoutError, LimiterTimeoutError)):
            await mode.run(queueing(1).with_policy(policy).with_limits(limiter), "x", None)
        assert 0.25 < time.monotonic() - began < 2
    assert limiter.statistics().queued == 0


@MODES_ALL
async def test_the_fan_outs_deadline_goes_on(mode: Mode) -> None:
    limiter = RateLimiter(requests_per_minute=1, burst=1)
    assert limiter.try_acquire()
    policy = BranchPolicy(timeout=TimeoutPolicy(attempt_timeout=1))
    fan_out = queueing(1).with_policy(policy).with_join(JoinPolicy(deadline=2)).with_limits(limiter)
    began = time.monotonic()
    with pytest.raises(LimiterTimeoutError):
        await mode.run(fan_out, "x", None)
    assert time.monotonic() - began < 1


@MODES_ALL
async def test_a_wait_in_a_nested_fan_out_stops_the_time_of_all_attempts_around(mode: Mode) -> None:
    inner = queueing(3).with_policy(BranchPolicy(timeout=TimeoutPolicy(attempt_timeout=SHORT)))
    outer = plus(a=inner).with_policy(BranchPolicy(timeout=TimeoutPolicy(attempt_timeout=1.5 * SHORT)))
    answers = await mode.run(outer.with_limits(paced()), "x", None)
    assert len(answers["a"]) == 3


@MODES_ALL
async def test_a_retry_inside_has_the_time_that_an_attempt_around_has_left_after_a_wait(mode: Mode) -> None:
    model = ScriptedChatModel(script=[BrokenError("500"), BrokenError("500"), "ok"])
    inner = RunnableWithPolicy(model, BranchPolicy(retry=RetryPolicy(max_attempts=3, initial_interval=0.001)))
    outer = plus(a=RunnableLambda(lambda text: text) | inner)
    policy = BranchPolicy(timeout=TimeoutPolicy(attempt_timeout=SHORT))
    answers = await mode.run(outer.with_policy(policy).with_limits(paced()), "x", None)
    assert answers["a"].content == "ok"


@MODES_ALL
async def test_a_retry_inside_that_would_come_after_the_attempt_around_is_not_waited_for(mode: Mode) -> None:
    model = ScriptedChatModel(script=lambda _: BrokenError("500"))
    slow = RetryPolicy(max_attempts=3, initial_interval=30, max_interval=30, jitter=False)
    instead = ScriptedChatModel(script=lambda _: "spare")
    inner = RunnableWithPolicy(model, BranchPolicy(retry=slow, fallbacks=[instead]))
    outer = plus(a=RunnableLambda(lambda text: text) | inner)
    answers = await mode.run(outer.with_policy(BranchPolicy(timeout=TimeoutPolicy(attempt_timeout=10))), "x", None)
    assert answers["a"].content == "spare"


@MODES_ALL
async def test_a_charged_attempt_that_waits_stops_the_time_of_attempts_around(mode: Mode) -> None:
    limiter = paced()

    def search(text: str) -> str:
        return text

    async def asearch(text: str) -> str:
        return text

    charged = BranchPolicy(limiter=limiter)
    inner = plus({str(n): RunnableLambda(search, asearch) for n in range(3)}).with_policy(charged)
    outer = plus(a=inner).with_policy(BranchPolicy(timeout=TimeoutPolicy(attempt_timeout=SHORT)))
    assert len((await mode.run(outer, "x", None))["a"]) == 3


@MODES_ALL
async def test_what_waits_for_a_limiter_is_not_slow(mode: Mode) -> None:
    """A hedge would only wait as well; its delay begins when the call does."""
    limiter = RateLimiter(concurrency=1)
    held = limiter.hold()
    held.__enter__()
    policy = BranchPolicy(hedge=HedgePolicy(0.05, budget=1), timeout=TimeoutPolicy(attempt_timeout=5))
    timer = threading.Timer(0.2, lambda: held.__exit__(None, None, None))
    timer.start()
    with collect_report() as report:
        answers = await mode.run(queueing(1).with_policy(policy).with_limits(limiter), "x", None)
    timer.join()
    assert answers["0"].content == "ok"
    assert [branch.attempts for branch in report.branches] == [1]


@STREAMS
async def test_a_stream_that_waits_alone_under_a_policy(mode: Mode) -> None:
    limiter = paced()
    chain: Runnable[Any, Any] = RunnableWithPolicy(
        ScriptedChatModel(script=lambda _: "one two"), BranchPolicy(timeout=TimeoutPolicy(first_chunk_timeout=SHORT))
    )
    fan_out = plus(a=chain, b=chain).with_limits(limiter)
    answers = await mode.run(fan_out, "x", None)
    assert answers["b"].content == "one two"
