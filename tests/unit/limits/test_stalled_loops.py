"""Loops that are busy or blocked while their tasks wait: whoever waits elsewhere, or blocks them, goes on in time.

The times allowed are several times the ideal ones, and a fraction of what a wait takes that counts on such a loop.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from langchain_core.language_models.fake_chat_models import FakeListChatModel

from langchain_parallel_plus import RunnableParallelPlus
from langchain_parallel_plus.limits import Cost, RateLimiter
from langchain_parallel_plus.limits.waiting.crowd import Crowd
from langchain_parallel_plus.limits.waiting.turnstile import Entrant
from langchain_parallel_plus.limits.waiting.waiters import LoopWaiter, ThreadWaiter

TASKS = 21
ALLOWED = 20.0
"""Seconds for what takes two."""


def crowded() -> RateLimiter:
    limiter = RateLimiter(requests_per_minute=600, burst=0.1)
    limiter.acquire()
    return limiter


def run_aside(main: Callable[[], Coroutine[Any, Any, None]]) -> threading.Thread:
    """Run `main` on a loop of its own; a loop that is blocked for good does not hold up the test."""

    def run() -> None:
        with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
            runner.run(main())

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


def acquire(limiter: RateLimiter) -> tuple[Callable[[], Coroutine[Any, Any, Any]], Callable[[], Any]]:
    return limiter.aacquire, limiter.acquire


def model(limiter: RateLimiter) -> tuple[Callable[[], Coroutine[Any, Any, Any]], Callable[[], Any]]:
    chat = FakeListChatModel(responses=["ok"], rate_limiter=limiter)
    return lambda: chat.ainvoke("x"), lambda: chat.invoke("x")


def fan_out(limiter: RateLimiter) -> tuple[Callable[[], Coroutine[Any, Any, Any]], Callable[[], Any]]:
    branch = RunnableParallelPlus(answer=FakeListChatModel(responses=["ok"])).with_limits(limiter)
    return lambda: branch.ainvoke("x"), lambda: branch.invoke("x")


@pytest.mark.stress
@pytest.mark.parametrize("way", [acquire, model, fan_out])
def test_a_synchronous_call_on_a_loop_waits_no_longer_than_for_the_tasks_before_it(
    way: Callable[[RateLimiter], tuple[Callable[[], Coroutine[Any, Any, Any]], Callable[[], Any]]],
) -> None:
    limiter = crowded()
    in_task, in_thread = way(limiter)
    through = threading.Event()

    async def main() -> None:
        tasks = [asyncio.create_task(in_task()) for _ in range(TASKS)]
        while limiter.statistics().submitted < TASKS + 1:  # noqa: ASYNC110 - it comes from inside the limiter
            await asyncio.sleep(0.001)
        in_thread()
        through.set()
        await asyncio.gather(*tasks)

    thread = run_aside(main)
    assert through.wait(ALLOWED)
    thread.join()


@pytest.mark.stress
def test_threads_behind_the_tasks_of_a_busy_loop_are_let_through_in_time() -> None:
    limiter = crowded()
    waiting, done = threading.Event(), threading.Event()

    async def main() -> None:
        tasks = [asyncio.create_task(limiter.aacquire()) for _ in range(TASKS)]
        await asyncio.sleep(0)
        waiting.set()
        done.wait(2 * ALLOWED)
        await asyncio.gather(*tasks)

    loop = run_aside(main)
    waiting.wait()
    begin = time.monotonic()
    threads = [threading.Thread(target=limiter.acquire) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.monotonic() - begin
    done.set()
    loop.join()
    assert took < ALLOWED


@pytest.mark.stress
def test_of_many_threads_that_wait_behind_a_busy_loop_few_wake_for_a_grant(monkeypatch: pytest.MonkeyPatch) -> None:
    """A herd would wake 40,000 times."""
    tasks, threads = 200, 200
    limiter = RateLimiter(requests_per_minute=6_000, burst=0.01)
    limiter.acquire()
    waits: list[float] = []
    wait = ThreadWaiter.wait
    monkeypatch.setattr(ThreadWaiter, "wait", lambda self, seconds: (waits.append(seconds), wait(self, seconds))[1])
    waiting, done = threading.Event(), threading.Event()

    async def main() -> None:
        waiters = [asyncio.create_task(limiter.aacquire()) for _ in range(tasks)]
        await asyncio.sleep(0)
        waiting.set()
        done.wait(60)
        await asyncio.gather(*waiters)

    loop = run_aside(main)
    waiting.wait()
    crowd = [threading.Thread(target=limiter.acquire, args=(Cost(),)) for _ in range(threads)]
    for thread in crowd:
        thread.start()
    for thread in crowd:
        thread.join()
    done.set()
    loop.join()
    assert len(waits) < 10 * (tasks + threads)


def test_one_task_of_a_loop_looks_soon_whether_the_loop_with_the_timer_lives() -> None:
    """The others look when they should be through."""
    loops = [asyncio.new_event_loop() for _ in range(2)]
    turnstile = RateLimiter(requests_per_minute=60, burst=1, provider="openai", clock=lambda: 0.0).account.turnstile
    turnstile.admit((1,), 0)
    looks = []
    for loop in [loops[0]] * 10 + [loops[1]] * 2:
        entrant = Entrant(amounts=(1,))
        turnstile.enter(entrant)
        looks.append(turnstile.attach(entrant, LoopWaiter(loop)))
    for loop in loops:
        loop.close()
    assert looks[10] == looks[0] < 2
    assert looks[11] > 11


def test_a_thread_has_the_timer_where_one_waits_and_keeps_it() -> None:
    loops = [asyncio.new_event_loop() for _ in range(2)]
    first, second = (LoopWaiter(loop) for loop in loops)
    threads = [ThreadWaiter() for _ in range(3)]
    crowd: Crowd[str] = Crowd()
    assert crowd.leader(None, None, None) is None
    crowd.join(first, "first")
    crowd.join(second, "second")
    assert crowd.leader(first, None, None) is first
    assert crowd.leader(first, second, first) is second, "the loop that runs"
    assert crowd.relies_on(first)
    for thread in threads:
        crowd.join(thread, "thread")
    assert not crowd.relies_on(first)
    assert crowd.leader(first, None, None) is threads[0]
    assert crowd.leader(first, first, threads[1]) is threads[1]
    assert crowd.leader(first, threads[2], threads[1]) is threads[2]
    assert crowd.leader(threads[1], threads[2], threads[0]) is threads[1], "exact for itself"
    for thread in threads:
        crowd.leave(thread)
    assert crowd.leader(None, threads[0], threads[1]) in (first, second)
    crowd.leave(second)
    assert crowd.leader(first, second, None) is first, "nobody waits on the loop that runs"
    loops[0].close()
    assert not crowd.relies_on(first)
    assert crowd.lost() == ["first"]
    loops[1].close()
