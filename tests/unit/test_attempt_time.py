"""The time of an attempt stands still while a model call in it waits for a limiter; that of its run goes on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from langchain_core.runnables import Runnable, RunnableGenerator, RunnableLambda

from langchain_parallel_plus import (
    BranchPolicy,
    BranchTimeoutError,
    DeadlineExceededError,
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
from langchain_parallel_plus._engine.hedge_state import HEDGES
from tests.contract.probes import plus
from tests.modes import MODES, Mode
from tests.virtual_time import VirtualTime, in_virtual_time

MODES_ALL = pytest.mark.parametrize("mode", MODES, ids=str)
STREAMS = pytest.mark.parametrize("mode", [mode for mode in MODES if mode.streams], ids=str)

PERIOD = 60.0
"""Seconds from one admission to the next, and somewhat more: a limiter stays below its rate."""
SHORT = 10.0
"""Seconds that an attempt may take."""


def about(seconds: float) -> Any:
    return pytest.approx(seconds, abs=0.2)


def admitted(number: int) -> Any:
    """Return when a limiter admits so many calls after its first: it stays some percent below its rate."""
    return pytest.approx(number * PERIOD, rel=0.05, abs=0.2)


class BrokenError(Exception):
    """What a provider answers that has counted the call."""

    status_code = 500


def paced(time: VirtualTime) -> RateLimiter:
    """Return a limiter that admits one call a minute."""
    return time.limiter(requests_per_minute=60 / PERIOD, burst=0.001)


def queueing(time: VirtualTime, branches: int) -> RunnableParallelPlus[Any]:
    return plus({str(n): time.model(lambda _: "ok") for n in range(branches)})


def within(**seconds: float) -> BranchPolicy:
    return BranchPolicy(timeout=TimeoutPolicy(**seconds))


def step(time: VirtualTime, seconds: float, *, then: Any = None) -> Runnable[Any, Any]:
    """Return work that takes some seconds. (A plain function would run in a real thread, whose time no loop knows.)"""

    def work(value: Any) -> Any:
        time.sleep(seconds)
        return value if then is None else then

    async def awork(value: Any) -> Any:
        await asyncio.sleep(seconds)
        return value if then is None else then

    return RunnableLambda(work, afunc=awork)


@MODES_ALL
@pytest.mark.parametrize(
    "timeout",
    [
        {"attempt_timeout": SHORT},
        {"first_chunk_timeout": SHORT},
        {"idle_timeout": SHORT},
        {"attempt_timeout": SHORT, "first_chunk_timeout": SHORT, "idle_timeout": SHORT, "run_timeout": 1000},
    ],
    ids=["attempt", "first chunk", "idle", "all"],
)
def test_waits_for_a_limiter_take_nothing_of_an_attempts_time(mode: Mode, timeout: dict[str, float]) -> None:
    async def scene(time: VirtualTime) -> None:
        fan_out = queueing(time, 3).with_policy(within(**timeout)).with_limits(paced(time))
        answers = await mode.run(fan_out, "x", None)
        assert {answer.content for answer in answers.values()} == {"ok"}
        assert time.now() == admitted(2)

    in_virtual_time(mode, scene)


@MODES_ALL
def test_the_call_itself_still_has_its_time_after_the_wait(mode: Mode) -> None:
    async def scene(time: VirtualTime) -> None:
        limiter = paced(time)
        assert limiter.try_acquire()
        limited = plus(a=time.model(lambda _: "late", latency=500)).with_policy(within(attempt_timeout=SHORT))
        with pytest.raises(BranchTimeoutError, match="attempt_timeout of 10 s"):
            await mode.run(limited.with_limits(limiter), "x", None)
        assert time.now() - SHORT == admitted(1)

    in_virtual_time(mode, scene)


@MODES_ALL
def test_what_an_attempt_does_before_and_after_the_wait_counts_together(mode: Mode) -> None:
    async def scene(time: VirtualTime) -> None:
        limiter = paced(time)
        assert limiter.try_acquire()
        chain = step(time, 6) | time.model(lambda _: "ok") | step(time, 6)
        with pytest.raises(BranchTimeoutError, match="attempt_timeout of 10 s"):
            await mode.run(plus(a=chain).with_policy(within(attempt_timeout=SHORT)).with_limits(limiter), "x", None)
        assert time.now() - 4 == admitted(1)

    in_virtual_time(mode, scene)


@MODES_ALL
def test_two_waits_of_one_attempt_both_do_not_count(mode: Mode) -> None:
    async def scene(time: VirtualTime) -> None:
        model = time.model(lambda _: "ok", latency=4)
        chain = model | step(time, 0, then="again") | model
        fan_out = plus(a=chain).with_policy(within(attempt_timeout=SHORT))
        assert (await mode.run(fan_out.with_limits(paced(time)), "x", None))["a"].content == "ok"
        assert time.now() - 4 == admitted(1)

    in_virtual_time(mode, scene)


@MODES_ALL
def test_the_time_of_a_run_goes_on(mode: Mode) -> None:
    """A wait that is known to be longer is refused at once."""

    async def scene(time: VirtualTime) -> None:
        limiter = paced(time)
        assert limiter.try_acquire()
        fan_out = queueing(time, 1).with_policy(within(attempt_timeout=1, run_timeout=20))
        with pytest.raises(LimiterTimeoutError):
            await mode.run(fan_out.with_limits(limiter), "x", None)
        assert time.now() == about(0)

    in_virtual_time(mode, scene)


@MODES_ALL
def test_a_wait_that_has_no_planned_end_ends_with_the_run(mode: Mode) -> None:
    async def scene(time: VirtualTime) -> None:
        limiter = time.limiter(concurrency=1)
        with limiter.hold():
            fan_out = queueing(time, 1).with_policy(within(attempt_timeout=5, run_timeout=30))
            with pytest.raises((BranchTimeoutError, LimiterTimeoutError)):
                await mode.run(fan_out.with_limits(limiter), "x", None)
            assert time.now() == about(30)
        assert limiter.statistics().queued == 0

    in_virtual_time(mode, scene)


@MODES_ALL
def test_the_fan_outs_deadline_goes_on(mode: Mode) -> None:
    async def scene(time: VirtualTime) -> None:
        limiter = paced(time)
        assert limiter.try_acquire()
        fan_out = queueing(time, 1).with_policy(within(attempt_timeout=1)).with_join(JoinPolicy(deadline=20))
        with pytest.raises(LimiterTimeoutError):
            await mode.run(fan_out.with_limits(limiter), "x", None)
        assert time.now() == about(0)

    in_virtual_time(mode, scene)


@MODES_ALL
def test_a_deadline_ends_a_wait_under_way(mode: Mode) -> None:
    async def scene(time: VirtualTime) -> None:
        limiter = time.limiter(concurrency=1)
        with limiter.hold():
            fan_out = queueing(time, 2).with_policy(within(attempt_timeout=5)).with_join(JoinPolicy(deadline=30))
            with pytest.raises((BranchTimeoutError, DeadlineExceededError, LimiterTimeoutError)):
                await mode.run(fan_out.with_limits(limiter), "x", None)
            assert time.now() == about(30)
        assert (limiter.statistics().queued, limiter.statistics().in_flight) == (0, 0)

    in_virtual_time(mode, scene)


@MODES_ALL
def test_a_wait_in_a_nested_fan_out_stops_the_time_of_all_attempts_around(mode: Mode) -> None:
    async def scene(time: VirtualTime) -> None:
        inner = queueing(time, 3).with_policy(within(attempt_timeout=SHORT))
        outer = plus(a=inner).with_policy(within(attempt_timeout=SHORT))
        assert len((await mode.run(outer.with_limits(paced(time)), "x", None))["a"]) == 3
        assert time.now() == admitted(2)

    in_virtual_time(mode, scene)


@MODES_ALL
def test_an_attempt_stands_still_while_one_call_waits_and_another_works(mode: Mode) -> None:
    """Else a queue would count: some call of a nested fan-out is nearly always under way."""

    async def scene(time: VirtualTime) -> None:
        inner = plus({str(n): time.model(lambda _: "ok", latency=8) for n in range(3)})
        outer = plus(a=inner).with_policy(within(attempt_timeout=SHORT)).with_limits(time.limiter(concurrency=1))
        assert len((await mode.run(outer, "x", None))["a"]) == 3
        assert time.now() == about(24)

    in_virtual_time(mode, scene)


@MODES_ALL
def test_one_call_that_hangs_beside_one_that_waits_is_found_out_by_a_policy_of_its_own(mode: Mode) -> None:
    async def scene(time: VirtualTime) -> None:
        limiter = paced(time)
        assert limiter.try_acquire()
        hangs = RunnableWithPolicy(step(time, 500), within(attempt_timeout=SHORT))
        inner = plus(waits=time.model(lambda _: "ok"), hangs=hangs)
        outer = plus(a=inner).with_policy(within(attempt_timeout=SHORT)).with_limits(limiter)
        with pytest.raises(BranchTimeoutError):
            await mode.run(outer, "x", None)
        assert time.now() == about(SHORT)

    in_virtual_time(mode, scene)


@MODES_ALL
def test_one_call_that_hangs_beside_one_that_waits_has_its_time_from_the_waits_end(mode: Mode) -> None:
    async def scene(time: VirtualTime) -> None:
        limiter = paced(time)
        assert limiter.try_acquire()
        inner = plus(waits=time.model(lambda _: "ok"), hangs=step(time, 500))
        outer = plus(a=inner).with_policy(within(attempt_timeout=SHORT)).with_limits(limiter)
        with pytest.raises(BranchTimeoutError):
            await mode.run(outer, "x", None)
        assert time.now() - SHORT == admitted(1)

    in_virtual_time(mode, scene)


@MODES_ALL
def test_a_wait_that_is_given_up_lets_the_time_around_go_on(mode: Mode) -> None:
    async def scene(time: VirtualTime) -> None:
        limiter = time.limiter(concurrency=1)
        with limiter.hold():
            waits = RunnableWithPolicy(time.model(lambda _: "ok"), within(run_timeout=30))
            spared = waits.with_fallbacks([step(time, 500)])
            outer = plus(a=spared).with_policy(within(attempt_timeout=SHORT)).with_limits(limiter)
            with pytest.raises(BranchTimeoutError, match="attempt_timeout of 10 s"):
                await mode.run(outer, "x", None)
            assert time.now() == about(30 + SHORT)

    in_virtual_time(mode, scene)


@MODES_ALL
def test_a_retry_has_its_attempts_time_anew_whatever_the_last_one_waited(mode: Mode) -> None:
    async def scene(time: VirtualTime) -> None:
        limiter = paced(time)
        assert limiter.try_acquire()
        slow = time.model(["late", "ok"])
        hangs = iter([500.0, 0.0])

        def work(answer: Any) -> Any:
            time.sleep(next(hangs))
            return answer

        async def awork(answer: Any) -> Any:
            await asyncio.sleep(next(hangs))
            return answer

        chain = slow | RunnableLambda(work, afunc=awork)
        retry = RetryPolicy(max_attempts=2, initial_interval=0)
        policy = BranchPolicy(retry=retry, timeout=TimeoutPolicy(attempt_timeout=SHORT))
        with collect_report() as report:
            fan_out = plus(a=chain).with_policy(policy).with_limits(limiter)
            assert (await mode.run(fan_out, "x", None))["a"].content == "ok"
        assert [branch.attempts for branch in report.branches] == [2]
        assert time.now() == admitted(2)

    in_virtual_time(mode, scene)


@MODES_ALL
def test_a_retry_inside_has_the_time_that_an_attempt_around_has_left_after_a_wait(mode: Mode) -> None:
    async def scene(time: VirtualTime) -> None:
        model = time.model([BrokenError("500"), BrokenError("500"), "ok"])
        retry = RetryPolicy(max_attempts=3, initial_interval=4, backoff_factor=1, jitter=False)
        inner = RunnableWithPolicy(model, BranchPolicy(retry=retry))
        outer = plus(a=step(time, 0) | inner).with_policy(within(attempt_timeout=SHORT))
        assert (await mode.run(outer.with_limits(paced(time)), "x", None))["a"].content == "ok"
        assert time.now() == admitted(2)

    in_virtual_time(mode, scene)


@MODES_ALL
def test_a_retry_inside_that_would_come_after_the_attempt_around_is_not_waited_for(mode: Mode) -> None:
    async def scene(time: VirtualTime) -> None:
        model = time.model(lambda _: BrokenError("500"))
        slow = RetryPolicy(max_attempts=3, initial_interval=30, max_interval=30, jitter=False)
        spare = time.model(lambda _: "spare")
        inner = RunnableWithPolicy(model, BranchPolicy(retry=slow, fallbacks=[spare]))
        outer = plus(a=step(time, 0) | inner).with_policy(within(attempt_timeout=SHORT))
        assert (await mode.run(outer, "x", None))["a"].content == "spare"
        assert time.now() == about(0)

    in_virtual_time(mode, scene)


@MODES_ALL
def test_a_charged_attempt_that_waits_stops_the_time_of_attempts_around(mode: Mode) -> None:
    async def scene(time: VirtualTime) -> None:
        charged = BranchPolicy(limiter=paced(time))
        inner = plus({str(n): step(time, 1) for n in range(3)}).with_policy(charged)
        outer = plus(a=inner).with_policy(within(attempt_timeout=SHORT))
        assert len((await mode.run(outer, "x", None))["a"]) == 3
        assert time.now() - 1 == admitted(2)

    in_virtual_time(mode, scene)


@MODES_ALL
@pytest.mark.parametrize(("latency", "calls"), [(1, 1), (20, 2)], ids=["quick", "slow"])
def test_what_waits_for_a_limiter_is_not_slow(mode: Mode, latency: float, calls: int) -> None:
    """A hedge would only wait as well; its delay begins when the call does."""

    async def scene(time: VirtualTime) -> None:
        limiter = time.limiter(requests_per_minute=20, burst=0.001)  # not short of a call when the hedge is due
        assert limiter.try_acquire()
        policy = BranchPolicy(hedge=HedgePolicy(5, budget=1), timeout=TimeoutPolicy(attempt_timeout=100))
        model = time.model(lambda _: "ok", latency=latency)
        assert (await mode.run(plus(a=model).with_policy(policy).with_limits(limiter), "x", None))["a"].content == "ok"
        assert len(model.calls) == calls

    in_virtual_time(mode, scene)


@MODES_ALL
def test_what_calls_of_an_attempt_wait_side_by_side_is_left_out_of_observed_times_once(mode: Mode) -> None:
    async def scene(time: VirtualTime) -> None:
        hedge = HedgePolicy("p95", minimum_calls=1)
        inner = plus({str(n): time.model(lambda _: "ok", latency=4) for n in range(4)})
        outer = plus(a=inner | step(time, 1, then="done")).with_policy(BranchPolicy(hedge=hedge))
        await mode.run(outer.with_limits(time.limiter(concurrency=1)), "x", None)
        assert time.now() == about(17)
        assert HEDGES.of(hedge).delay("branch:a", mode.streams, time.now()) == about(5)

    in_virtual_time(mode, scene)


@STREAMS
def test_a_stream_that_waits_alone_under_a_policy(mode: Mode) -> None:
    async def scene(time: VirtualTime) -> None:
        chain = RunnableWithPolicy(time.model(lambda _: "one two"), within(first_chunk_timeout=SHORT))
        answers = await mode.run(plus(a=chain, b=chain).with_limits(paced(time)), "x", None)
        assert answers["b"].content == "one two"
        assert time.now() == admitted(1)

    in_virtual_time(mode, scene)


@STREAMS
@pytest.mark.parametrize("waits", [True, False], ids=["waits", "works"])
def test_a_stream_that_waits_between_two_chunks_is_not_idle(mode: Mode, waits: bool) -> None:
    async def scene(time: VirtualTime) -> None:
        limiter = paced(time)
        assert limiter.try_acquire()
        between = time.model(lambda _: "two") if waits else step(time, 500, then="two")

        def chunks(_: Iterator[Any]) -> Iterator[str]:
            yield "one"
            between.invoke("x")
            yield "two"

        async def achunks(_: AsyncIterator[Any]) -> AsyncIterator[str]:
            yield "one"
            await between.ainvoke("x")
            yield "two"

        policy = within(attempt_timeout=3 * SHORT, idle_timeout=SHORT)
        streamed = plus(a=RunnableGenerator(chunks, achunks)).with_policy(policy).with_limits(limiter)
        if waits:
            assert await mode.run(streamed, "x", None) == {"a": "onetwo"}
            assert time.now() == admitted(1)
        else:
            with pytest.raises(BranchTimeoutError, match="idle_timeout of 10 s"):
                await mode.run(streamed, "x", None)
            assert time.now() == about(SHORT)

    in_virtual_time(mode, scene)


@MODES_ALL
def test_a_cancelled_wait_leaves_nothing_of_the_quota_taken(mode: Mode) -> None:
    async def scene(time: VirtualTime) -> None:
        limiter = time.limiter(concurrency=1)
        with limiter.hold():
            fan_out = plus(waits=time.model(lambda _: "ok"), done=step(time, 20, then="ok"))
            policy = within(attempt_timeout=SHORT)
            quick = fan_out.with_policy(policy, done=within(attempt_timeout=30)).with_join(JoinPolicy(wait_for=1))
            assert (await mode.run(quick.with_limits(limiter), "x", None))["done"] == "ok"
            assert time.now() == about(20)
        assert (limiter.statistics().queued, limiter.statistics().in_flight) == (0, 0)

    in_virtual_time(mode, scene)
