"""`BranchPolicy(limiter=, cost=)` at its edges: other keys, other clocks, streams, cancellation, learning."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from langchain_core.runnables import RunnableGenerator, RunnableLambda

from langchain_parallel_plus import (
    BranchPolicy,
    BranchTimeoutError,
    DeclarationError,
    JoinPolicy,
    LimiterTimeoutError,
    QuotaExhaustedError,
    RateLimiter,
    RetryPolicy,
    RunnableParallelPlus,
    RunnableWithPolicy,
    TimeoutPolicy,
    collect_report,
)
from langchain_parallel_plus.limits import Cost
from tests.contract.aftermath import soon
from tests.modes import MODES, Mode

ALL = pytest.mark.parametrize("mode", MODES, ids=str)


def both(function: Any) -> Any:
    async def afunc(value: Any) -> Any:
        await asyncio.sleep(0)
        return function(value)

    return RunnableLambda(function, afunc)


def fan(step: Any, policy: BranchPolicy) -> Any:
    return RunnableParallelPlus(a=step, b=both(str)).with_policy(a=policy)


@ALL
async def test_another_keys_exhaustion_does_not_close_this_key(mode: Mode) -> None:
    mine, other = RateLimiter(requests_per_minute=600), RateLimiter(requests_per_minute=600)
    other.close("its account is empty")
    step = both(lambda value: other.acquire() and value)
    with pytest.raises(QuotaExhaustedError):
        await mode.run(fan(step, BranchPolicy(limiter=mine)), "x")
    assert mine.statistics().closed is None


@pytest.mark.looptime
async def test_a_key_closed_for_a_time_while_a_branch_waits_stays_closed_for_that_time_only() -> None:
    clock = asyncio.get_running_loop().time
    limiter = RateLimiter(concurrency=1, clock=clock)
    hold = limiter.reserve(Cost(slots=1))
    task = asyncio.ensure_future(fan(both(str), BranchPolicy(limiter=limiter)).ainvoke("x"))
    await asyncio.sleep(1)
    limiter._turnstile.close("asked to wait 300 s", 300)
    with pytest.raises(QuotaExhaustedError):
        await task
    hold.release()
    await asyncio.sleep(301)
    assert limiter.statistics().closed is None


@ALL
async def test_an_explicit_cost_still_takes_a_slot(mode: Mode) -> None:
    limiter, seen = RateLimiter(concurrency=4), []
    policy = BranchPolicy(limiter=limiter, cost=Cost(requests=2))
    await mode.run(fan(both(lambda v: seen.append(limiter.statistics().in_flight) or v), policy), "x")
    assert seen == [1]


@ALL
async def test_successes_teach_an_adaptive_limiter(mode: Mode) -> None:
    now = [0.0]
    limiter = RateLimiter.adaptive(requests_per_minute=60, clock=lambda: now[0])
    fan_out = fan(both(str), BranchPolicy(limiter=limiter))
    for _ in range(40):
        now[0] += 1.1
        await mode.run(fan_out, "x")
    assert limiter.statistics().rates["requests_per_minute"].limit > 60


def test_a_cost_without_a_limiter_is_refused() -> None:
    with pytest.raises(DeclarationError):
        RunnableWithPolicy(str, BranchPolicy(cost=Cost()))
    with pytest.raises(DeclarationError):
        RunnableParallelPlus(a=str).with_policy(a=BranchPolicy(cost=Cost()))


async def acost(value: Any) -> Cost:
    return Cost()


def test_an_async_cost_is_refused_at_construction() -> None:
    with pytest.raises(DeclarationError):
        BranchPolicy(limiter=RateLimiter(requests_per_minute=1), cost=acost)  # type: ignore[arg-type]


async def test_a_coroutine_in_place_of_a_cost_is_refused_without_a_warning() -> None:
    policy = BranchPolicy(limiter=RateLimiter(requests_per_minute=600), cost=lambda value: acost(value))  # type: ignore
    with pytest.raises(DeclarationError, match="is no Cost"):
        await RunnableWithPolicy(both(str), policy).ainvoke("x")


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("cost", [None, lambda value: Cost()])
async def test_run_timeout_bounds_reading_a_streamed_input(asynchronous: bool, cost: Any) -> None:
    release = threading.Event()

    def slow(inputs: Iterator[Any]) -> Iterator[str]:
        yield "a"
        release.wait(1.0)
        yield "b"

    async def aslow(inputs: AsyncIterator[Any]) -> AsyncIterator[str]:
        yield "a"
        await asyncio.sleep(1.0)
        yield "b"

    def word(inputs: Iterator[Any]) -> Iterator[str]:
        yield "".join(inputs)

    async def aword(inputs: AsyncIterator[Any]) -> AsyncIterator[str]:
        yield "".join([one async for one in inputs])

    policy = BranchPolicy(
        limiter=RateLimiter(requests_per_minute=600), cost=cost, timeout=TimeoutPolicy(run_timeout=0.1)
    )
    chain = RunnableGenerator(slow, aslow) | RunnableWithPolicy(RunnableGenerator(word, aword), policy)
    began = time.monotonic()

    async def run() -> None:
        if asynchronous:
            [chunk async for chunk in chain.astream("x")]
        else:
            list(chain.stream("x"))

    with pytest.raises(BranchTimeoutError):
        await run()
    took = time.monotonic() - began
    release.set()
    assert took < 0.9


@ALL
async def test_slots_come_back_when_an_attempt_times_out(mode: Mode) -> None:
    limiter, release = RateLimiter(concurrency=1), threading.Event()
    policy = BranchPolicy(
        limiter=limiter,
        timeout=TimeoutPolicy(attempt_timeout=0.05),
        retry=RetryPolicy(max_attempts=2, initial_interval=0.001),
    )
    with pytest.raises(BranchTimeoutError):
        await mode.run(fan(RunnableLambda(lambda _: release.wait(3)), policy), "x")
    release.set()
    assert limiter.statistics().in_flight == 0


@pytest.mark.parametrize("sync", [True, False])
async def test_slot_is_held_as_long_as_the_stream_and_comes_back_when_closed_early(sync: bool) -> None:
    limiter = RateLimiter(concurrency=1)

    def words(_: Iterator[Any]) -> Iterator[str]:
        yield from ("a", "b", "c")

    async def awords(_: AsyncIterator[Any]) -> AsyncIterator[str]:
        for w in ("a", "b", "c"):
            yield w

    step = RunnableWithPolicy(RunnableGenerator(words, awords), BranchPolicy(limiter=limiter))
    if sync:

        def consume() -> int:
            stream = step.stream("x")
            next(stream)
            held = limiter.statistics().in_flight
            stream.close()
            return held

        held = await asyncio.to_thread(consume)
    else:
        stream = step.astream("x")
        await anext(stream)
        held = limiter.statistics().in_flight
        await stream.aclose()
    assert (held, limiter.statistics().in_flight) == (1, 0)


@ALL
async def test_the_fan_outs_deadline_bounds_the_wait(mode: Mode) -> None:
    limiter = RateLimiter(requests_per_minute=1, burst=60)
    assert limiter.try_acquire()
    fan_out = fan(both(str), BranchPolicy(limiter=limiter, on_failure="keep")).with_join(
        JoinPolicy(min_success=1, deadline=5)
    )
    began = time.monotonic()
    output = await mode.run(fan_out, "x")
    assert output["a"].error_type == "LimiterTimeoutError"
    assert time.monotonic() - began < 1
    assert limiter.statistics().queued == 0


@ALL
async def test_a_branch_given_up_while_it_waits_leaves_nothing(mode: Mode) -> None:
    limiter = RateLimiter(concurrency=1)
    hold = limiter.reserve(Cost(slots=1))
    fan_out = fan(both(str), BranchPolicy(limiter=limiter)).with_join(JoinPolicy(wait_for=1))
    assert "b" in await mode.run(fan_out, "x")
    assert soon(lambda: not limiter.statistics().queued)
    hold.release()
    stats = limiter.statistics()
    assert (stats.queued, stats.in_flight) == (0, 0)


@ALL
async def test_the_weight_and_the_lane_reach_the_limiter(mode: Mode, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    limiter = RateLimiter(requests_per_minute=600)
    original = type(limiter).reserve

    def reserve(self: Any, cost: Any = None, **kw: Any) -> Any:
        if self is limiter:  # a thread that another test has left behind may be here as well
            seen.append((kw["lane"], kw["weight"]))
        return original(self, cost, **kw)

    monkeypatch.setattr(type(limiter), "reserve", reserve)
    await mode.run(fan(both(str), BranchPolicy(limiter=limiter, weight=3)), "x")
    assert seen == [("a", 3)]


@ALL
async def test_the_time_of_the_run_goes_on_during_the_wait(mode: Mode) -> None:
    limiter, release = RateLimiter(requests_per_minute=600), threading.Event()
    limiter.pause(0.3)
    policy = BranchPolicy(limiter=limiter, timeout=TimeoutPolicy(run_timeout=0.5))
    began = time.monotonic()
    with pytest.raises(BranchTimeoutError, match="run_timeout"):
        await mode.run(fan(RunnableLambda(lambda _: release.wait(3)), policy), "x")
    took = time.monotonic() - began
    release.set()
    assert 0.45 < took < 2


@ALL
async def test_a_fallbacks_own_policy_pays_its_own_limiter_and_the_report_shows_the_wait(mode: Mode) -> None:
    mine, theirs = RateLimiter(requests_per_minute=1, burst=60), RateLimiter(requests_per_day=100)
    assert mine.try_acquire()
    other = RunnableWithPolicy(both(str), BranchPolicy(limiter=theirs))
    policy = BranchPolicy(limiter=mine, fallbacks=[other], timeout=TimeoutPolicy(run_timeout=5))
    assert (await mode.run(fan(both(str), policy), "x"))["a"] == "x"
    assert theirs.statistics().rates["requests_per_day"].available == pytest.approx(99)


@ALL
async def test_a_permit_is_free_while_a_branch_waits(mode: Mode) -> None:
    limiter, order = RateLimiter(requests_per_minute=600), []
    limiter.pause(0.3)
    fan_out = RunnableParallelPlus(
        a=both(lambda v: order.append("a") or v), b=both(lambda v: order.append("b") or v)
    ).with_policy(a=BranchPolicy(limiter=limiter))
    await mode.run(fan_out, "x", {"max_concurrency": 1})
    assert order == ["b", "a"]


@ALL
async def test_a_local_refusal_is_not_retried(mode: Mode) -> None:
    limiter = RateLimiter(requests_per_minute=1, burst=60)
    assert limiter.try_acquire()
    policy = BranchPolicy(
        limiter=limiter, retry=RetryPolicy(max_attempts=3, initial_interval=0.001), timeout=TimeoutPolicy(run_timeout=5)
    )
    with collect_report() as report, pytest.raises(LimiterTimeoutError):
        await mode.run(fan(both(str), policy), "x")
    assert next(b for b in report.branches if b.name == "a").attempts == 1


@pytest.mark.parametrize("make", [lambda: RateLimiter.adaptive(name="rt"), lambda: RateLimiter.from_headers()])
def test_learning_limiters_come_back_from_plain_data_as_they_are(make: Any) -> None:
    from langchain_parallel_plus.policy.plain import plain, policy_of

    limiter = make()
    back = policy_of(plain(BranchPolicy(limiter=limiter)))
    assert "adaptive" in repr(back.limiter) or "from_headers" in repr(back.limiter)
