"""What the limiter costs, against LangChain's own in the same run, and how much of the rate a crowd reaches."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from langchain_core.rate_limiters import InMemoryRateLimiter

from langchain_parallel_plus.limits import Cost, RateLimiter

WAITERS = 1_000
PER_SECOND = 500.0


def seconds(function: Callable[[], object], calls: int = 100) -> float:
    begin = time.perf_counter()
    for _ in range(calls):
        function()
    return time.perf_counter() - begin


@pytest.fixture
def no_collection() -> Iterator[None]:
    """Other tests' objects are not looked through meanwhile."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("provider", ["openai", "gemini"], ids=["bucket", "windows"])
@pytest.mark.parametrize("method", ["acquire", "try_acquire"])
@pytest.mark.usefixtures("no_collection")
def test_an_uncontended_acquisition_costs_at_most_four_of_the_plain_limiter_s(method: str, provider: str) -> None:
    """Least of many short runs in turn: a busy machine makes most of them slow, and none of them fast."""
    theirs = InMemoryRateLimiter(requests_per_second=1e9, check_every_n_seconds=0.1, max_bucket_size=1e9).acquire
    ours = getattr(RateLimiter(requests_per_minute=1e12, provider=provider), method)
    pairs = [(seconds(ours), seconds(theirs)) for _ in range(1_000)]
    assert min(ours for ours, _ in pairs) <= 4 * min(theirs for _, theirs in pairs)


def crowd_limiter(clock: Callable[[], float] | None = None) -> RateLimiter:
    limiter = RateLimiter(requests_per_minute=PER_SECOND * 60, burst=0.002, provider="openai", clock=clock)
    limiter.acquire(Cost())
    return limiter


def reached(times: list[float], limiter: RateLimiter) -> float:
    """Return the share of the rate that the limiter paces at."""
    paced = PER_SECOND * limiter.statistics().rates["requests_per_minute"].utilisation
    assert len(times) == WAITERS
    return (WAITERS - 1) / (max(times) - min(times)) / paced


def in_threads() -> float:
    limiter, times = crowd_limiter(), []

    def wait() -> None:
        limiter.acquire(Cost())
        times.append(time.monotonic())

    threads = [threading.Thread(target=wait) for _ in range(WAITERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return reached(times, limiter)


def in_tasks() -> float:
    limiter, times = crowd_limiter(), []

    async def wait() -> None:
        await limiter.aacquire(Cost())
        times.append(time.monotonic())

    async def crowd() -> None:
        await asyncio.gather(*(wait() for _ in range(WAITERS)))

    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        runner.run(crowd())
    return reached(times, limiter)


@pytest.mark.stress
@pytest.mark.parametrize("crowd", [in_threads, in_tasks])
def test_a_thousand_waiters_reach_the_rate(crowd: Callable[[], float]) -> None:
    """In one of a few tries: where something else takes the processor for a while, nobody can keep to a schedule."""
    assert any(crowd() >= 0.995 for _ in range(5))


@pytest.mark.looptime(start=0)
@pytest.mark.parametrize("workers", [1, 8, WAITERS])
async def test_any_number_of_workers_reaches_the_rate(workers: int) -> None:
    def now() -> float:
        return asyncio.get_running_loop().time()

    limiter, times = crowd_limiter(now), []
    left = iter(range(WAITERS))

    async def work() -> None:
        for _ in left:
            await limiter.aacquire(Cost())
            times.append(now())

    await asyncio.gather(*(work() for _ in range(workers)))
    assert reached(times, limiter) >= 0.995


def test_a_thousand_idle_waiters_cost_no_cpu() -> None:
    limiter = RateLimiter(requests_per_minute=1)
    limiter.acquire(Cost())
    tickets = [limiter.reserve(Cost()) for _ in range(WAITERS)]
    threads = [threading.Thread(target=ticket.wait) for ticket in tickets]
    for thread in threads:
        thread.start()
    threading.Event().wait(0.3)
    begin = time.process_time()
    threading.Event().wait(0.5)
    used = time.process_time() - begin
    for ticket in tickets:
        ticket.cancel()
    for thread in threads:
        thread.join()
    assert used < 0.02
