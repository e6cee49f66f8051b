"""Those who queued and are gone, or look at their ticket only later: nobody else waits for them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import pytest

from langchain_parallel_plus.errors import LimiterTimeoutError
from langchain_parallel_plus.limits import Cost, RateLimiter
from langchain_parallel_plus.limits.planning.bucket import UTILISATION


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.time = 0.0

    def __call__(self) -> float:
        return self.time


class ClosedLoops:
    """Loops that are closed under tasks that wait."""

    def __init__(self) -> None:
        self.tasks: list[asyncio.Task[Any]] = []

    def wait_in_one(self, limiter: RateLimiter, tasks: int, cost: Cost | None = None) -> None:
        loop = asyncio.new_event_loop()
        self.tasks += [loop.create_task(limiter.aacquire(cost)) for _ in range(tasks)]
        for _ in range(3):
            loop.run_until_complete(asyncio.sleep(0))
        assert limiter.statistics().queued >= tasks
        loop.close()


@pytest.fixture
def closed_loops() -> Iterator[ClosedLoops]:
    loops = ClosedLoops()
    yield loops
    for task in loops.tasks:
        task._log_destroy_pending = False  # its loop just ended


def full(clock: Clock, provider: str | None = None, **limits: Any) -> RateLimiter:
    limiter = RateLimiter(requests_per_minute=60, burst=1, provider=provider, clock=clock, **limits)
    limiter.acquire()
    return limiter


@pytest.mark.parametrize("provider", [None, "openai", "gemini"])
@pytest.mark.parametrize("entry", ["try_acquire", "acquire", "reserve", "reserve_at_once", "force"])
def test_waiters_of_a_closed_loop_are_dropped_when_somebody_comes(
    entry: str, provider: str | None, closed_loops: ClosedLoops
) -> None:
    clock = Clock()
    limiter = full(clock, provider)
    closed_loops.wait_in_one(limiter, 40)
    clock.time = 10.0
    match entry:
        case "acquire":
            assert limiter.acquire(timeout=0.5)
        case "reserve":
            assert limiter.reserve(within=0.5).granted
        case "force":
            assert limiter.force().delay == 0
        case _:
            assert getattr(limiter, entry)()
    statistics = limiter.statistics()
    assert (statistics.queued, statistics.cancelled, statistics.granted) == (0, 40, 2)


def test_what_they_would_have_taken_is_not_counted_on(closed_loops: ClosedLoops) -> None:
    """Also at once, and behind somebody whose turn is still to come."""
    clock = Clock()
    limiter = full(clock)
    ahead = limiter.reserve()
    closed_loops.wait_in_one(limiter, 10)
    assert limiter.expected_wait() == pytest.approx(2 / UTILISATION, abs=1e-3)
    assert not ahead.granted
    assert limiter.statistics().queued == 1


def test_a_key_that_only_closed_loops_wait_for_is_not_short(closed_loops: ClosedLoops) -> None:
    limiter = full(Clock())
    closed_loops.wait_in_one(limiter, 3)
    assert not limiter.is_short(60)


def test_a_thread_behind_waiters_of_a_closed_loop_waits_for_none_of_them(closed_loops: ClosedLoops) -> None:
    limiter = RateLimiter(requests_per_minute=60, burst=1)
    limiter.acquire()
    closed_loops.wait_in_one(limiter, 30)
    begin = time.monotonic()
    limiter.acquire()
    assert time.monotonic() - begin < 20  # one second, and not thirty


@pytest.mark.parametrize("provider", [None, "openai", "gemini"])
def test_a_ticket_that_nobody_waits_for_is_admitted_at_its_time(provider: str | None) -> None:
    clock = Clock()
    limiter = full(clock, provider)
    tickets = [limiter.reserve() for _ in range(5)]
    assert not tickets[0].granted
    clock.time = 3_600.0
    assert limiter.try_acquire()
    assert [ticket.granted for ticket in tickets] == [True] * 5


def test_looking_at_a_ticket_is_enough() -> None:
    clock = Clock()
    limiter = full(clock)
    ticket = limiter.reserve()
    clock.time = 1.0
    assert not ticket.granted
    clock.time = 1.1
    assert ticket.granted


@pytest.mark.parametrize("provider", [None, "openai", "gemini"])
def test_tickets_that_nobody_waits_for_take_no_more_than_their_time(provider: str | None) -> None:
    clock = Clock()
    limiter = full(clock, provider)
    for _ in range(100):
        limiter.reserve()
    clock.time = 30.0
    with pytest.raises(LimiterTimeoutError):
        limiter.acquire(timeout=15)
    clock.time = 1_000.0
    assert limiter.acquire(timeout=15)
    assert limiter.statistics().queued == 0


@pytest.mark.looptime(start=0)
async def test_tasks_behind_tickets_that_nobody_waits_for_are_woken_at_their_time() -> None:
    def now() -> float:
        return asyncio.get_running_loop().time()

    limiter = RateLimiter(requests_per_minute=60, burst=1, clock=now)
    limiter.acquire()
    times = []
    for _ in range(3):
        limiter.reserve()
        await limiter.aacquire()
        times.append(now())
    assert times == pytest.approx([2 / UTILISATION, 4 / UTILISATION, 6 / UTILISATION], abs=1e-3)
