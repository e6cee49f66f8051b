"""The limiter in threads and tasks: exact waits, refusals, cancellation, slots, statistics."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from langchain_parallel_plus.errors import (
    DeclarationError,
    LimiterError,
    LimiterTimeoutError,
    QuotaExhaustedError,
    RequestTooLargeError,
)
from langchain_parallel_plus.limits import Cost, LimiterStatistics, RateLimiter
from langchain_parallel_plus.limits.planning.bucket import UTILISATION
from langchain_parallel_plus.outcome import ErrorKind
from langchain_parallel_plus.providers import Classified

PACED = 60 / (60 * UTILISATION)
"""Seconds between requests at 60 a minute."""


def now() -> float:
    """The running loop's time: virtual under looptime."""
    return asyncio.get_running_loop().time()


class Clock:
    """A clock that the test moves, for what does not wait."""

    def __init__(self) -> None:
        self.time = 1_000.0

    def __call__(self) -> float:
        return self.time


async def start_times(limiter: RateLimiter, calls: int, cost: Cost | None = None) -> list[float]:
    times: list[float] = []

    async def call() -> None:
        await limiter.aacquire(cost)
        times.append(now())

    await asyncio.gather(*(call() for _ in range(calls)))
    return times


@pytest.mark.looptime(start=100)
async def test_five_branches_on_an_idle_key_of_60_a_minute_start_at_once() -> None:
    assert await start_times(RateLimiter(requests_per_minute=60, clock=now), 5) == [100.0] * 5


@pytest.mark.looptime(start=0)
async def test_sustained_load_is_paced_just_below_the_rate() -> None:
    times = await start_times(RateLimiter(tokens_per_minute=60, clock=now), 40, Cost(input_tokens=1))
    assert times == pytest.approx([0.0] * 10 + [PACED * n for n in range(10, 40)], abs=1e-3)


@pytest.mark.looptime(start=0)
async def test_no_ten_seconds_hold_more_requests_than_their_share() -> None:
    times = await start_times(RateLimiter(requests_per_minute=60, clock=now), 40)
    assert times == pytest.approx([10.2 * (n // 10) + PACED * (n % 10) * (n >= 10) for n in range(40)], abs=1e-3)


@pytest.mark.looptime(start=0)
async def test_where_the_provider_holds_a_bucket_the_burst_refills_under_load() -> None:
    limiter = RateLimiter(requests_per_minute=60, provider="openai", burst=10, clock=now)
    times = await start_times(limiter, 40)
    assert times == pytest.approx([0.0] * 10 + [n / 0.998 for n in range(1, 31)], abs=1e-3)


@pytest.mark.looptime(start=0)
async def test_a_thousand_waiters_reach_the_rate() -> None:
    times = await start_times(RateLimiter(requests_per_minute=30_000, burst=0.002, clock=now), 1_000)
    assert times[-1] == pytest.approx(999 * 0.002 / UTILISATION, rel=0.005)
    assert times == sorted(times)


@pytest.mark.looptime(start=0)
async def test_every_dimension_paces() -> None:
    limiter = RateLimiter(requests_per_minute=6_000, tokens_per_minute=60_000, clock=now)
    times = await start_times(limiter, 12, Cost(input_tokens=800, output_tokens=200))
    assert times == pytest.approx([0.0] * 10 + [10 * PACED, 11 * PACED], abs=1e-3)


@pytest.mark.looptime(start=0)
async def test_a_day_s_quota_may_go_at_once() -> None:
    limiter = RateLimiter(requests_per_day=50, clock=now)
    times = await start_times(limiter, 51)
    assert times[:50] == [0.0] * 50
    assert times[50] == pytest.approx(86_400 / (50 * UTILISATION), abs=1e-2)


@pytest.mark.looptime(start=0)
async def test_burst_is_seconds_of_quota() -> None:
    times = await start_times(RateLimiter(requests_per_minute=60, burst=2, clock=now), 3)
    assert times == pytest.approx([0.0, 0.0, 2 * PACED], abs=1e-3)


@pytest.mark.looptime(start=0)
async def test_a_cancelled_waiter_takes_nothing_and_the_next_moves_up() -> None:
    limiter = RateLimiter(requests_per_minute=60, burst=1, clock=now)
    limiter.acquire()
    tasks = [asyncio.create_task(limiter.aacquire()) for _ in range(3)]
    await asyncio.sleep(0.5)
    tasks[0].cancel()
    await tasks[1]
    assert now() == pytest.approx(PACED, abs=1e-3)
    await tasks[2]
    assert now() == pytest.approx(2 * PACED, abs=1e-3)
    statistics = limiter.statistics()
    assert (statistics.granted, statistics.cancelled, statistics.queued) == (3, 1, 0)


@pytest.mark.looptime(start=0)
async def test_cancelled_in_the_moment_of_admission_it_is_refunded() -> None:
    limiter = RateLimiter(concurrency=1, requests_per_day=10, clock=now)
    limiter.acquire(Cost(requests=0, slots=1))
    task = asyncio.create_task(limiter.aacquire(Cost(slots=1)))
    await asyncio.sleep(0.1)
    limiter.release()
    assert limiter.statistics().granted == 2
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    statistics = limiter.statistics()
    assert (statistics.in_flight, statistics.rates["requests_per_day"].available) == (0, 10)


@pytest.mark.looptime(start=0)
async def test_a_wait_known_to_be_too_long_fails_at_once_and_takes_nothing() -> None:
    limiter = RateLimiter(requests_per_minute=60, burst=1, clock=now)
    limiter.acquire()
    with pytest.raises(LimiterTimeoutError, match=r"in 1.01 s, and there are 0.5 s; 0 are queued\nhelp: "):
        await limiter.aacquire(timeout=0.5)
    assert now() == 0.0
    await limiter.aacquire(timeout=1.1)
    assert now() == pytest.approx(PACED, abs=1e-3)


@pytest.mark.looptime(start=0)
async def test_a_wait_that_nobody_could_foresee_ends_on_time() -> None:
    limiter = RateLimiter(concurrency=1, clock=now)
    async with limiter.hold():
        with pytest.raises(LimiterTimeoutError, match="within 3 s"):
            async with limiter.hold(timeout=3):
                pytest.fail("two held one slot")
        assert now() == pytest.approx(3.0)
    assert limiter.statistics().queued == limiter.statistics().in_flight == 0


@pytest.mark.looptime(start=0)
async def test_slots_are_held_until_the_block_ends_and_settling_corrects_the_charge() -> None:
    limiter = RateLimiter(concurrency=2, tokens_per_day=86_400, provider="bedrock", clock=now)
    running = peak = 0

    async def call() -> None:
        nonlocal running, peak
        async with limiter.hold(Cost(tokens=100)) as ticket:
            running += 1
            peak = max(peak, running)
            await asyncio.sleep(1)
            ticket.settle(Cost(tokens=40))
            ticket.settle(Cost(tokens=0))
            running -= 1

    await asyncio.gather(*(call() for _ in range(6)))
    assert (peak, now()) == (2, pytest.approx(3.0))
    assert limiter.statistics().rates["tokens_per_day"].available == pytest.approx(86_400 - 6 * 40, abs=5)


@pytest.mark.looptime(start=0)
async def test_a_pause_holds_everybody_and_wakes_nobody_early() -> None:
    limiter = RateLimiter(requests_per_minute=60, clock=now)
    limiter.pause(7)
    limiter.pause(3)
    assert limiter.statistics().paused_for == pytest.approx(7)
    assert await start_times(limiter, 3) == pytest.approx([7.0, 7 + PACED, 7 + 2 * PACED], abs=1e-3)


@pytest.mark.looptime(start=0)
async def test_a_higher_rate_is_felt_by_those_who_wait() -> None:
    limiter = RateLimiter(requests_per_minute=6, burst=1, clock=now)
    limiter.acquire()
    waiter = asyncio.create_task(limiter.aacquire())
    await asyncio.sleep(1)
    limiter.set_rate(requests_per_minute=60)
    await waiter
    assert now() == pytest.approx(1 + (10 / UTILISATION - 1) / 10, abs=0.01)


@pytest.mark.looptime(start=0)
async def test_closing_the_key_refuses_those_who_wait_and_those_who_come() -> None:
    limiter = RateLimiter(requests_per_minute=60, burst=1, name="closing", clock=now)
    limiter.acquire()
    waiter = asyncio.create_task(limiter.aacquire())
    await asyncio.sleep(0.1)
    limiter.close("the provider answered 'insufficient_quota'")
    with pytest.raises(QuotaExhaustedError, match=r"'closing' is closed: .*insufficient_quota"):
        await waiter
    with pytest.raises(QuotaExhaustedError):
        limiter.try_acquire()
    assert limiter.statistics().closed is not None
    limiter.reopen()
    await limiter.aacquire()


def refusal(seconds: float) -> Classified:
    return Classified(ErrorKind.RATE_LIMIT, retry_after=seconds)


@pytest.mark.looptime(start=0)
async def test_whom_the_provider_asks_to_wait_for_hours_is_refused_until_then_and_does_not_hang() -> None:
    limiter = RateLimiter(requests_per_minute=60, burst=1, name="hours", clock=now)
    sent = limiter.reserve()
    waiter = asyncio.create_task(limiter.aacquire())
    await asyncio.sleep(0.1)
    sent.refused(refusal(3_600))
    with pytest.raises(QuotaExhaustedError, match=r"'hours' is closed for another 3600 s: .* asked to wait 3600 s"):
        await waiter
    await asyncio.sleep(1_800)
    with pytest.raises(QuotaExhaustedError, match="for another 1800 s") as refused:
        limiter.reserve(within=7_200)
    assert "fallback" in str(refused.value)
    with pytest.raises(QuotaExhaustedError):
        limiter.try_acquire()
    assert limiter.statistics().closed == "the provider asked to wait 3600 s"
    await asyncio.sleep(1_800)
    assert limiter.statistics().closed is None
    assert limiter.try_acquire()


@pytest.mark.looptime(start=0)
async def test_a_wait_of_two_minutes_is_waited_for() -> None:
    limiter = RateLimiter(requests_per_minute=60, clock=now)
    limiter.reserve().refused(refusal(120))
    assert limiter.statistics().closed is None
    with pytest.raises(LimiterTimeoutError):
        limiter.reserve(within=60)
    await limiter.aacquire()
    assert now() == pytest.approx(120, abs=0.01)


def test_a_key_that_is_closed_stays_so_for_the_longest_time_that_was_asked_for() -> None:
    clock = Clock()
    limiter = RateLimiter(requests_per_minute=60, clock=clock)
    tickets = [limiter.reserve() for _ in range(3)]
    for ticket, seconds in zip(tickets, (200, 400, 300), strict=True):
        ticket.refused(refusal(seconds))
    clock.time += 399
    with pytest.raises(QuotaExhaustedError, match="400 s"):
        limiter.reserve()
    limiter.close("no credit")
    clock.time += 1e6
    with pytest.raises(QuotaExhaustedError, match="is closed: no credit"):
        limiter.reserve()
    tickets[0].refused(refusal(200))
    limiter.reopen()
    assert limiter.try_acquire()


def test_a_caller_whose_deadline_is_over_is_refused_though_nobody_waits() -> None:
    limiter = RateLimiter(requests_per_minute=60)
    with pytest.raises(LimiterTimeoutError):
        limiter.reserve(within=-0.001)
    assert limiter.reserve(within=0.0).granted
    assert limiter.statistics().submitted == 1


def test_who_does_not_wait_is_told_of_no_wait() -> None:
    limiter = RateLimiter(requests_per_minute=60)
    tickets = [limiter.reserve() for _ in range(5)]
    assert [(ticket.granted, ticket.waited, ticket.bound_by) for ticket in tickets] == [(True, 0.0, "")] * 5
    assert limiter.statistics().waited_seconds == 0


@pytest.mark.looptime(start=0)
async def test_a_ticket_cancelled_elsewhere_ends_the_wait() -> None:
    limiter = RateLimiter(requests_per_minute=1, burst=1, clock=now)
    limiter.acquire()
    ticket = limiter.reserve()
    asyncio.get_running_loop().call_later(0.2, ticket.cancel)
    assert await ticket.wait_async() is False
    assert now() == pytest.approx(0.2)


@pytest.mark.looptime(start=0)
async def test_a_new_arrival_due_sooner_is_not_held_up_by_a_later_timer() -> None:
    """The head's timer was set for another lane's large request; a lane with precedence gets its own."""
    limiter = RateLimiter(tokens_per_minute=60, burst=1, clock=now)
    limiter.acquire(Cost(tokens=1))
    large = limiter.reserve(Cost(tokens=30), lane="large")
    larger = limiter.reserve(Cost(tokens=50), lane="large")
    waits = [asyncio.create_task(ticket.wait_async()) for ticket in (large, larger)]
    await waits[0]
    small = limiter.reserve(Cost(tokens=1), lane="small")
    await small.wait_async()
    assert not larger.granted
    waits[1].cancel()


def test_a_blocked_thread_is_woken_at_its_time() -> None:
    limiter = RateLimiter(requests_per_minute=600, burst=0.1)
    begin = time.monotonic()
    for _ in range(4):
        limiter.acquire()
    assert 3 * 0.1 / UTILISATION - 0.002 <= time.monotonic() - begin < 2


def test_forty_calls_at_600_a_minute_go_at_once() -> None:
    limiter = RateLimiter(requests_per_minute=600)
    assert all(limiter.acquire(blocking=False) for _ in range(40))


def test_non_blocking_calls_say_no_instead_of_waiting() -> None:
    limiter = RateLimiter(requests_per_minute=60, burst=1, clock=Clock())
    assert limiter.acquire(blocking=False)
    assert not limiter.acquire(blocking=False)
    assert not limiter.try_acquire(Cost(requests=1))


async def test_non_blocking_calls_say_no_in_tasks_too() -> None:
    limiter = RateLimiter(requests_per_minute=60, burst=1, clock=Clock())
    assert await limiter.aacquire(blocking=False)
    assert not await limiter.aacquire(blocking=False)


def test_a_thread_that_gives_up_leaves_the_queue() -> None:
    limiter = RateLimiter(concurrency=1)
    with limiter.hold():
        with pytest.raises(LimiterTimeoutError, match=r"within 0\.05 s"):
            limiter.acquire(Cost(slots=1), timeout=0.05)
        assert limiter.statistics().queued == 0


def test_a_ticket_cancelled_by_another_thread_ends_a_thread_s_wait() -> None:
    limiter = RateLimiter(requests_per_minute=1, burst=1)
    limiter.acquire()
    ticket = limiter.reserve()
    threading.Timer(0.05, ticket.cancel).start()
    begin = time.monotonic()
    assert ticket.wait() is False
    assert time.monotonic() - begin < 1


def test_a_slot_released_by_a_thread_wakes_a_task_and_the_other_way_round() -> None:
    limiter = RateLimiter(concurrency=1)
    order: list[str] = []
    entered = threading.Event()

    def in_thread() -> None:
        with limiter.hold():
            entered.set()
            time.sleep(0.05)
            order.append("thread")
        with limiter.hold():
            order.append("thread again")

    async def in_task() -> None:
        async with limiter.hold():
            await asyncio.sleep(0.05)
            order.append("task")

    thread = threading.Thread(target=in_thread)
    thread.start()
    entered.wait()
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        runner.run(in_task())
    thread.join()
    assert order == ["thread", "task", "thread again"]


def test_waiters_of_a_closed_loop_do_not_hold_up_the_rest() -> None:
    limiter = RateLimiter(requests_per_minute=600, burst=0.1)
    limiter.acquire()
    loop = asyncio.new_event_loop()
    task = loop.create_task(limiter.aacquire())
    loop.run_until_complete(asyncio.sleep(0))
    loop.run_until_complete(asyncio.sleep(0))
    task._log_destroy_pending = False  # its loop just ends
    loop.close()
    begin = time.monotonic()
    limiter.acquire()
    assert time.monotonic() - begin < 3
    assert limiter.statistics().queued == 0


def test_a_stalled_loop_with_the_timer_does_not_hold_up_threads() -> None:
    limiter = RateLimiter(requests_per_minute=1_200, burst=0.05)
    limiter.acquire()
    waiting, done = threading.Event(), threading.Event()

    async def stall() -> None:
        task = asyncio.create_task(limiter.aacquire())
        await asyncio.sleep(0)
        waiting.set()
        done.wait(2)  # blocks the loop that has the timer
        await task

    def run() -> None:
        with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
            runner.run(stall())

    thread = threading.Thread(target=run)
    thread.start()
    waiting.wait()
    begin = time.monotonic()
    limiter.acquire()
    took = time.monotonic() - begin
    done.set()
    thread.join()
    assert took < 1


def test_settling_cancelling_and_releasing_twice_changes_nothing() -> None:
    limiter = RateLimiter(tokens_per_minute=6_000, concurrency=3, clock=Clock())
    ticket = limiter.reserve(Cost(tokens=100, slots=1))
    ticket.release()
    ticket.release()
    ticket.cancel()
    ticket.cancel()
    ticket.settle(Cost(tokens=900))
    statistics = limiter.statistics()
    assert statistics.in_flight == 0
    assert statistics.rates["tokens_per_minute"].available == pytest.approx(1_000)


def test_a_settled_ticket_is_not_refunded() -> None:
    limiter = RateLimiter(tokens_per_minute=6_000, concurrency=3, clock=Clock())
    ticket = limiter.reserve(Cost(tokens=100, slots=1))
    ticket.settle(Cost(tokens=150))
    ticket.cancel()
    statistics = limiter.statistics()
    assert (statistics.in_flight, statistics.rates["tokens_per_minute"].available) == (0, pytest.approx(850))


def test_a_slot_is_given_back_only_once() -> None:
    limiter = RateLimiter(concurrency=2)
    limiter.acquire(Cost(slots=1))
    limiter.release()
    with pytest.raises(LimiterError, match="given 1 slots back, and 0 are in use"):
        limiter.release()


@pytest.mark.parametrize("way", ["task", "thread", "nobody yet"])
async def test_who_waits_for_more_slots_than_are_declared_any_more_is_refused_and_others_go_on(way: str) -> None:
    limiter = RateLimiter(concurrency=4)
    held, large = limiter.reserve(Cost(slots=2)), limiter.reserve(Cost(slots=4))
    small = limiter.reserve(Cost(slots=1))
    waits = {"task": large.wait_async, "thread": lambda: asyncio.to_thread(large.wait)}
    waiting = asyncio.ensure_future(waits[way]()) if way in waits else None
    await asyncio.sleep(0)
    limiter.set_rate(concurrency=2)
    held.release()
    assert small.granted
    assert (limiter.statistics().queued, limiter.statistics().in_flight) == (0, 1)
    with pytest.raises(RequestTooLargeError, match="needs 4 slots, and the concurrency is 2\nhelp: "):
        await (large.wait_async() if waiting is None else waiting)


def test_a_plain_acquire_takes_no_slot() -> None:
    """`ChatX(rate_limiter=...)` acquires and never releases."""
    limiter = RateLimiter(concurrency=1)
    assert all(limiter.acquire(blocking=False) for _ in range(5))


def test_a_request_above_the_limit_fails_at_once() -> None:
    with pytest.raises(RequestTooLargeError, match=r"needs 70000 of tokens_per_minute.*is 60000\nhelp: "):
        RateLimiter(tokens_per_minute=60_000).acquire(Cost(tokens=70_000), blocking=False)


def test_statistics_show_what_is_going_on() -> None:
    clock = Clock()
    limiter = RateLimiter(requests_per_minute=60, burst=2, concurrency=4, name="shown", clock=clock)
    limiter.reserve(Cost(slots=1))
    limiter.acquire()
    waiting = limiter.reserve()
    shown = limiter.statistics()
    assert shown == LimiterStatistics(
        name="shown",
        submitted=3,
        granted=2,
        cancelled=0,
        queued=1,
        in_flight=1,
        waited_seconds=0.0,
        paused_for=0.0,
        rates=shown.rates,
    )
    assert shown.rates["requests_per_minute"].available == pytest.approx(0, abs=1e-3)
    clock.time += 3
    limiter.release(0)
    assert limiter.statistics().waited_seconds == pytest.approx(3)
    assert waiting.bound_by == "requests_per_minute"


@pytest.mark.parametrize(
    ("declaration", "message"),
    [
        ({}, "without any limit"),
        ({"requests_per_minute": 0}, "requests_per_minute=0 is no limit"),
        ({"tokens_per_minute": -5}, "tokens_per_minute=-5 is no limit"),
        ({"tokens_per_day": float("nan")}, "tokens_per_day=nan is no limit"),
        ({"requests_per_day": float("inf")}, "requests_per_day=inf is no limit"),
        ({"requests_per_minute": "500"}, "requests_per_minute='500' is no limit"),
        ({"requests_per_minute": True}, "requests_per_minute=True is no limit"),
        ({"requests_per_minute": 10**400}, "is no limit"),
        ({"requests_per_minute": 0.5}, "requests_per_minute=0.5 lets no request pass"),
        ({"requests_per_day": 0.5}, "requests_per_day=0.5 lets no request pass"),
        ({"concurrency": 0}, "concurrency=0 is no number of calls"),
        ({"concurrency": 1.5}, "concurrency=1.5 is no number of calls"),
        ({"requests_per_minute": 1, "burst": 0}, "burst=0 lets nothing pass\nhelp: give seconds' worth"),
        ({"requests_per_minute": 1, "burst": "1"}, "burst='1' lets nothing pass"),
        ({"requests_per_minute": 1, "burst": 61}, "burst=61 is more than"),
        ({"requests_per_minute": 1, "models": ()}, "matches no model"),
        ({"requests_per_minute": 1, "models": ""}, "matches no model"),
        ({"requests_per_minute": 1, "models": 5}, "models=5 matches no model"),
        ({"requests_per_minute": 1, "models": [5]}, r"models=\(5,\) matches no model"),
        ({"requests_per_minute": 1, "clock": 5}, "clock=5 cannot be called"),
        ({"requests_per_minute": 1, "estimate": 5}, "estimate=5 cannot be called"),
        ({"requests_per_minute": 1, "name": ""}, "name='' is no name"),
        ({"requests_per_minute": 1, "provider": "opnai"}, "provider='opnai' is none that is known\nhelp: did you mean"),
    ],
)
def test_a_wrong_declaration_is_refused_and_explained(declaration: dict[str, object], message: str) -> None:
    with pytest.raises(DeclarationError, match=message) as refused:
        RateLimiter(**declaration)
    assert refused.value.help


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tokens_per_minute": 5}, "tokens_per_minute"),
        ({"burst": 5}, "burst"),
        ({"concurrency": 5}, "concurrency"),
        ({"requests_per_minute": 0}, "requests_per_minute=0"),
        ({"requests_per_minute": 0.5}, "requests_per_minute=0.5"),
    ],
)
def test_only_declared_limits_can_be_changed(change: dict[str, float], message: str) -> None:
    with pytest.raises(DeclarationError, match=message):
        RateLimiter(requests_per_minute=60, burst=2).set_rate(**change)


def test_a_limit_that_was_not_declared_is_told_from_those_that_were() -> None:
    limiter = RateLimiter(requests_per_minute=60, concurrency=4, provider="openai", name="ours")
    with pytest.raises(DeclarationError) as refused:
        limiter.set_rate(tokens_per_minute=5)
    assert str(refused.value).startswith(
        "set_rate() names 'tokens_per_minute', and limiter 'ours' was declared with requests_per_minute=60, "
        "concurrency=4\nhelp: "
    )


@pytest.mark.parametrize("cost", [3, "call", {"tokens": 5}, (), 0])
async def test_what_is_taken_is_a_cost(cost: Any) -> None:
    limiter = RateLimiter(requests_per_minute=60)
    for take in (
        limiter.acquire, limiter.try_acquire, limiter.reserve, limiter.reserve_at_once, limiter.force, limiter.hold,
        limiter.expected_wait,
    ):  # fmt: skip
        with pytest.raises(DeclarationError, match="is no Cost\nhelp: "):
            take(cost)
    with pytest.raises(DeclarationError, match="is no Cost\nhelp: "):
        await limiter.aacquire(cost)
    assert limiter.statistics().submitted == 0


@pytest.mark.parametrize("weight", ["a", float("inf"), float("nan"), 0, -1, None, True])
def test_a_weight_is_a_positive_number(weight: Any) -> None:
    with pytest.raises(DeclarationError, match="is no share\nhelp: "):
        RateLimiter(requests_per_minute=60).reserve(weight=weight)


@pytest.mark.parametrize("slots", ["a", 0.5, True, None])
def test_what_is_given_back_is_a_number_of_slots(slots: Any) -> None:
    with pytest.raises(DeclarationError, match="gives back no number of slots\nhelp: "):
        RateLimiter(concurrency=1).release(slots)


@pytest.mark.parametrize("amount", [-1, float("nan"), float("inf"), "a"])
@pytest.mark.parametrize("field", ["requests", "input_tokens", "output_tokens", "tokens", "slots"])
def test_a_cost_is_a_finite_amount(field: str, amount: float) -> None:
    with pytest.raises(DeclarationError, match=field):
        Cost(**{field: amount})


@pytest.mark.parametrize("slots", [0.5, True, "1"])
def test_slots_are_whole(slots: Any) -> None:
    with pytest.raises(DeclarationError, match="slots"):
        Cost(slots=slots)


async def _take(limiter: RateLimiter, method: str, timeout: Any) -> None:
    taken = getattr(limiter, method)(**{"within" if method == "reserve" else "timeout": timeout})
    if method == "aacquire":
        await taken


@pytest.mark.parametrize("method", ["acquire", "aacquire", "hold"])
async def test_nobody_can_wait_for_less_than_no_time(method: str) -> None:
    limiter = RateLimiter(requests_per_minute=60)
    with pytest.raises(DeclarationError, match="timeout=-1 is less than no time\nhelp: "):
        await _take(limiter, method, -1)
    assert limiter.statistics().submitted == 0


@pytest.mark.parametrize("timeout", [float("nan"), "1", True])
@pytest.mark.parametrize("method", ["acquire", "aacquire", "hold", "reserve"])
async def test_a_timeout_is_a_number_also_where_nobody_waits(method: str, timeout: Any) -> None:
    limiter = RateLimiter(requests_per_minute=60)
    with pytest.raises(DeclarationError, match=r"(within|timeout)="):
        await _take(limiter, method, timeout)
    assert limiter.statistics().submitted == 0


def test_the_wait_to_expect_is_told_and_nothing_taken() -> None:
    limiter = RateLimiter(requests_per_minute=60, burst=1, provider="groq", clock=lambda: 1.0)
    assert limiter.expected_wait() == 0
    limiter.acquire()
    assert limiter.expected_wait() == pytest.approx(60 / (60 * 0.998), abs=0.01)
    limiter.close("no money")
    assert limiter.expected_wait() == math.inf
    assert limiter.statistics().submitted == 1


@pytest.mark.parametrize(
    ("limits", "cost", "help_"),
    [
        ({"requests_per_minute": 5}, {"requests": 6}, "fewer requests"),
        ({"tokens_per_minute": 5}, {"tokens": 6}, "shorten the prompt"),
        ({"output_tokens_per_minute": 5}, {"output_tokens": 6}, "max_tokens"),
    ],
)
def test_the_way_out_of_a_limit_fits_its_dimension(limits: Any, cost: Any, help_: str) -> None:
    with pytest.raises(RequestTooLargeError, match=help_):
        RateLimiter(**limits).acquire(Cost(**cost))


@pytest.mark.parametrize("weight", [0, -1, float("nan")])
def test_a_weight_is_positive(weight: float) -> None:
    with pytest.raises(DeclarationError, match="weight"):
        RateLimiter(requests_per_minute=1).reserve(weight=weight)


@pytest.mark.parametrize(
    "until",
    [-1, float("nan"), float("inf"), "1", None, True, timedelta(seconds=-1), datetime(2999, 1, 1)],
)
def test_a_pause_is_finite_and_of_a_known_time_zone(until: Any) -> None:
    with pytest.raises(DeclarationError, match="pause"):
        RateLimiter(requests_per_minute=1).pause(until)


@pytest.mark.parametrize(
    "until",
    [
        lambda: 3_600,
        lambda: timedelta(hours=1),
        lambda: datetime.now(UTC) + timedelta(hours=1),
        lambda: datetime.now(timezone(timedelta(hours=5))) + timedelta(hours=1),
    ],
    ids=["seconds", "timedelta", "moment", "moment elsewhere"],
)
def test_a_pause_is_said_in_seconds_or_as_the_moment_of_its_end(until: Callable[[], Any]) -> None:
    limiter = RateLimiter(requests_per_minute=60, clock=lambda: 0.0)
    limiter.pause(until=until())
    assert limiter.statistics().paused_for == pytest.approx(3_600, abs=30)
    limiter.pause(datetime.now(UTC) - timedelta(hours=1))
    assert limiter.statistics().paused_for == pytest.approx(3_600, abs=30)


@pytest.mark.parametrize("until", [time.time() + 5, timedelta(days=32), datetime.now(UTC) + timedelta(days=32)])
def test_a_pause_of_more_than_a_month_is_taken_for_a_mistake(until: Any) -> None:
    limiter = RateLimiter(requests_per_minute=60)
    with pytest.raises(DeclarationError, match=r"days, and 31 are the most\nhelp: a number is seconds.*datetime"):
        limiter.pause(until)
    assert limiter.try_acquire()


def passed_at_once(limiter: RateLimiter) -> int:
    passed = 0
    while limiter.try_acquire():
        passed += 1
    return passed


@pytest.mark.parametrize("provider", ["openai", None], ids=["bucket", "windows"])
@pytest.mark.parametrize("pauses", [(10,), (10, 0), (30, 10), (30, 10, 0), (0, 30)])
def test_a_pause_that_ends_sooner_changes_nothing(pauses: tuple[float, ...], provider: str | None) -> None:
    clock = Clock()
    once, again = (RateLimiter(requests_per_minute=600, provider=provider, clock=clock) for _ in range(2))
    once.pause(max(pauses))
    for seconds in pauses:
        again.pause(seconds)
    clock.time += max(pauses)
    assert passed_at_once(again) == passed_at_once(once) > 1


@pytest.mark.parametrize("until", [0, timedelta(0), datetime.now(UTC) - timedelta(hours=1)])
def test_a_pause_that_is_over_takes_nothing(until: Any) -> None:
    paused, other = (RateLimiter(requests_per_minute=600, clock=Clock()) for _ in range(2))
    paused.pause(until)
    assert passed_at_once(paused) == passed_at_once(other) > 10


@pytest.mark.looptime(start=0)
async def test_reopening_ends_a_pause_for_those_who_wait_and_gives_no_burst() -> None:
    limiter = RateLimiter(requests_per_minute=60, clock=now)
    limiter.pause(3_600)
    waiting = asyncio.create_task(start_times(limiter, 3))
    await asyncio.sleep(5)
    limiter.reopen()
    assert await waiting == pytest.approx([5.0, 5 + PACED, 5 + 2 * PACED], abs=1e-3)
    assert limiter.statistics().paused_for == 0


@pytest.mark.parametrize(
    ("models", "provider", "model", "governed"),
    [
        (None, "openai", "gpt-4o", True),
        ("openai:gpt-4o*", "openai", "gpt-4o-mini", True),
        ("openai:gpt-4o*", "azure", "gpt-4o-mini", False),
        ("openai:*", "openai", "", True),
        ("gpt-4o*", "anything", "gpt-4o-mini", True),
        (["o3*", "anthropic:*"], "anthropic", "claude-sonnet-5", True),
        (["o3*", "anthropic:*"], "openai", "gpt-4o", False),
        ("llama3:8b", "ollama", "llama3:8b", True),
        ("openai*", "openai", "gpt-4o", False),
    ],
)
def test_models_are_matched_by_provider_and_name(
    models: str | list[str] | None, provider: str, model: str, governed: bool
) -> None:
    assert RateLimiter(requests_per_minute=1, models=models).governs(provider, model) is governed


@pytest.mark.parametrize("learned", [False, True])
def test_a_cost_that_nobody_gave_makes_no_request_too_large(learned: bool) -> None:
    clock = Clock()
    limiter = RateLimiter(requests_per_minute=10, tokens_per_minute=500, clock=clock)
    if learned:
        limiter.account.observe(9_000, 9_000)
    limiter.set_rate(tokens_per_minute=400)
    assert limiter.acquire(timeout=0)
    clock.time += 200
    with limiter.hold(timeout=0) as ticket:
        assert ticket.granted
    clock.time += 200
    limiter.set_rate(tokens_per_minute=300)
    assert limiter.try_acquire()
    with pytest.raises(RequestTooLargeError, match="needs 750 of tokens_per_minute"):
        limiter.acquire(Cost(tokens=750))


def test_what_is_certain_of_a_cost_can_be_too_large() -> None:
    limiter = RateLimiter(tokens_per_minute=500, input_tokens_per_minute=300)
    limiter.reserve(Cost(input_tokens=900, output_tokens=900, certain=Cost(input_tokens=200))).cancel()
    with pytest.raises(RequestTooLargeError, match="needs 301 of input_tokens_per_minute"):
        limiter.reserve(Cost(input_tokens=900, certain=Cost(input_tokens=301)))
    with pytest.raises(DeclarationError, match="certain=3"):
        Cost(certain=3)
