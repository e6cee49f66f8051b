"""Real threads and loops at one limiter, with random cancellation: nothing hangs, is exceeded, or is left over."""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
import time

import pytest

from langchain_parallel_plus.errors import LimiterTimeoutError
from langchain_parallel_plus.limits import Cost, RateLimiter
from langchain_parallel_plus.limits.planning.planner import CATCH_UP_BUCKETS
from langchain_parallel_plus.limits.ticket import Ticket
from langchain_parallel_plus.outcome import ErrorKind
from langchain_parallel_plus.providers.classified import Classified
from langchain_parallel_plus.providers.headers import parse_rate_limit_headers

SECONDS = 1.5
RATE = 1_000.0
BURST = 20.0
HEADERS = {
    "x-ratelimit-limit-requests": "60000",
    "x-ratelimit-remaining-requests": "59000",
    "x-ratelimit-reset-requests": "1s",
}


class Crowd:
    """Users of one limiter who come, wait, give up and go at random."""

    def __init__(self, provider: str | None) -> None:
        self.limiter = RateLimiter(requests_per_minute=RATE * 60, concurrency=25, burst=BURST / RATE, provider=provider)
        self.admitted: list[float] = []
        self.given_up = 0
        self.end = time.monotonic() + SECONDS

    def use_loop(self, seed: int) -> None:
        with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
            runner.run(self._tasks(random.Random(seed)))

    def use_thread(self, seed: int) -> None:
        rng = random.Random(seed)
        while time.monotonic() < self.end:
            ticket = self.limiter.reserve(Cost(slots=1), lane=f"lane {seed % 7}", weight=1 + seed % 3)
            if rng.random() < 0.2:
                ticket.cancel()
                self.given_up += 1
            with contextlib.suppress(LimiterTimeoutError):
                if ticket.wait(rng.choice([None, 0.02, 0.5])):
                    self.admitted.append(time.monotonic())
                    time.sleep(rng.random() * 0.01)
                    self.answer(ticket, rng)
            ticket.release()

    def answer(self, ticket: Ticket, rng: random.Random) -> None:
        """Let the provider say something: all of it is learned from while others wait, cancel and go."""
        self.limiter.meet(rng.choice(["openai", "openai", ""]))
        match rng.randrange(40):
            case 0:
                ticket.refused(Classified(ErrorKind.RATE_LIMIT, retry_after=0.01))
            case 1:
                ticket.refused(Classified(ErrorKind.OVERLOADED))
            case _:
                ticket.heard(parse_rate_limit_headers(HEADERS, 0.0))
                ticket.settle(Cost())

    async def _tasks(self, rng: random.Random) -> None:
        while time.monotonic() < self.end:
            tasks = [asyncio.create_task(self._call(rng)) for _ in range(15)]
            await asyncio.sleep(rng.random() * 0.03)
            self.given_up += sum(rng.random() < 0.4 and task.cancel() for task in tasks)
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _call(self, rng: random.Random) -> None:
        async with self.limiter.hold():
            self.admitted.append(time.monotonic())
            await asyncio.sleep(rng.random() * 0.01)


@pytest.mark.stress
@pytest.mark.parametrize("provider", ["openai", None], ids=["a bucket", "whoever is met"])
def test_three_loops_and_forty_threads_with_random_cancellation(provider: str | None) -> None:
    """Half of the calls are answered, with headers, refusals and overloads that the limiter learns from meanwhile."""
    crowd = Crowd(provider)
    threads = [threading.Thread(target=crowd.use_loop, args=(seed,), daemon=True) for seed in range(3)]
    threads += [threading.Thread(target=crowd.use_thread, args=(seed,), daemon=True) for seed in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS + 8)
    assert not any(thread.is_alive() for thread in threads)

    statistics = crowd.limiter.statistics()
    assert (statistics.queued, statistics.in_flight) == (0, 0)
    assert statistics.submitted == statistics.granted + statistics.cancelled
    assert len(crowd.admitted) > 0.2 * SECONDS * RATE
    assert crowd.given_up > 100
    times = sorted(crowd.admitted)
    for first in range(0, len(times), 25):
        for last in range(first + 50, len(times), 50):
            # Times are taken after the admission, by a thread that may have to wait for its turn to run.
            allowed = BURST + RATE * (times[last] - times[first] + CATCH_UP_BUCKETS + 0.1)
            assert last - first + 1 <= allowed
