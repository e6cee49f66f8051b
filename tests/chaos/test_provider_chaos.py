"""Two thousand calls at a provider of which every fifth goes wrong, under all policies at once."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextvars import copy_context
from typing import Any

import pytest

from langchain_parallel_plus import (
    BranchFailure,
    BranchPolicy,
    CircuitBreaker,
    HedgePolicy,
    RateLimiter,
    RetryBudget,
    RetryPolicy,
    RunnableParallelPlus,
    TimeoutPolicy,
)
from langchain_parallel_plus._engine.workers import WORKERS
from langchain_parallel_plus.observe.event import Event, subscribed
from langchain_parallel_plus.testing import (
    ConnectionReset,
    CutStream,
    Fault,
    FaultPlan,
    FaultRule,
    Hang,
    MalformedBody,
    ProviderSimulator,
    SlowStart,
    SlowTokens,
)
from tests.contract.aftermath import soon
from tests.contract.probes import others

BRANCHES, INPUTS, AT_ONCE = 5, 100, 20
CALLS = BRANCHES * INPUTS
"""In each of four modes."""
FAULTS = (
    Fault(status=500),
    Fault(status=502),
    Fault(status=503, retry_after=0.02),
    Fault(status=529, code="overloaded_error"),
    Fault(status=400, code="context_length_exceeded"),
    Fault(status=404),
    Fault(status=408),
    Hang(),
    SlowStart(0.25),
    SlowTokens(0.03),
    CutStream(after=1),
    CutStream(after=0),
    MalformedBody(),
    MalformedBody(form="html"),
    ConnectionReset(),
)
SHARE = 0.2
ENDS = "ok", "recovered", "failed", "timed_out"


def faults() -> FaultPlan:
    """Return a plan in which 20 % of the requests meet a fault, each kind as likely as the others.

    Rate limits come late: they end the hedging.
    """
    left, rules = 1.0, [FaultRule(Fault(status=429, retry_after=0.05), at=range(350, 2000, 40))]
    for fault in FAULTS:  # a rule is asked only about what those before it have left
        share = SHARE / len(FAULTS)
        rules.append(FaultRule(fault, share=share / left))
        left -= share
    return FaultPlan(*rules, seed=11)


class Told:
    """Counts the events."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.ends: Counter[tuple[str, ...]] = Counter()
        self.roles: Counter[str] = Counter()
        self.open: Counter[tuple[Any, ...]] = Counter()
        self.rate_limited = 0

    def __call__(self, event: Event) -> None:
        with self._lock:
            if event.kind == "branch.end":
                assert event.outcome in ENDS
                self.ends[(str(event.run_id), *event.path)] += 1
            if event.kind.startswith("attempt."):
                call = (event.run_id, event.path, event.attempt)
                self.open[call] += 1 if event.kind == "attempt.start" else -1
            if event.kind == "attempt.start":
                self.roles[event.detail["role"]] += 1
            if event.kind == "attempt.end" and event.error is not None and event.error.value == "rate_limit":
                self.rate_limited += 1


class Pulse:
    """Measures how long this process was kept from running: a machine that stands still makes timeouts fire."""

    def __init__(self) -> None:
        self.longest = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat)

    def _beat(self) -> None:
        last = time.monotonic()
        while not self._over.wait(0.02):
            now = time.monotonic()
            self.longest, last = max(self.longest, now - last), now

    def __enter__(self) -> Pulse:
        self._thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._over.set()
        self._thread.join()


@pytest.fixture
def provider() -> Iterator[ProviderSimulator]:
    with ProviderSimulator(fail=faults(), latency=0.005) as running:
        yield running


def run_in_threads(step: Any, inputs: list[str], config: Any, *, streamed: bool) -> list[Any]:
    if not streamed:
        return step.batch(inputs, config)
    totals: list[Any] = [None] * len(inputs)

    def stream(index: int) -> None:
        for chunk in step.stream(inputs[index], config):
            totals[index] = chunk if totals[index] is None else totals[index] + chunk

    threads = [threading.Thread(target=copy_context().run, args=(stream, index)) for index in range(len(inputs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return totals


async def run_in_tasks(step: Any, inputs: list[str], config: Any, *, streamed: bool) -> list[Any]:
    if not streamed:
        return await step.abatch(inputs, config)

    async def stream(value: str) -> Any:
        total: Any = None
        async for chunk in step.astream(value, config):
            total = chunk if total is None else total + chunk
        return total

    return await asyncio.gather(*map(stream, inputs))


@pytest.mark.stress
@pytest.mark.timeout(120)
@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("tasks", [False, True], ids=["threads", "tasks"])
async def test_every_input_has_one_outcome_and_nothing_is_left(
    provider: ProviderSimulator, tasks: bool, streamed: bool
) -> None:
    limiter, told = RateLimiter(requests_per_minute=120_000, concurrency=200), Told()
    retry_budget = RetryBudget(ratio=0.2, minimum=10, window=600)
    hedge = HedgePolicy(0.1, budget=0.1, window=600)
    policy = BranchPolicy(
        retry=RetryPolicy(max_attempts=3, initial_interval=0.01, max_interval=0.05, budget=retry_budget),
        timeout=TimeoutPolicy(attempt_timeout=1.8, first_chunk_timeout=1.4, idle_timeout=1.4),
        hedge=hedge,
        breaker=CircuitBreaker(failure_ratio=0.9, minimum_calls=CALLS),  # a machine at a standstill opens none
        on_failure="keep",
    )
    model = provider.chat_model(timeout=4)
    spare = model.with_config(tags=["spare"])
    step = (
        RunnableParallelPlus({f"b{number}": model for number in range(BRANCHES)})
        .with_policy(policy, b0=BranchPolicy(fallbacks=[spare]))
        .with_limits(limiter)
    )
    inputs = [f"question {number}" for number in range(INPUTS)]
    config = {"max_concurrency": 2 * BRANCHES * AT_ONCE}  # a cap that is full has no room for hedges
    outputs: list[Any] = []
    with subscribed(told), Pulse() as pulse:
        for start in range(0, INPUTS, AT_ONCE):
            group = inputs[start : start + AT_ONCE]
            if tasks:
                outputs += await run_in_tasks(step, group, config, streamed=streamed)
            else:
                outputs += await asyncio.to_thread(run_in_threads, step, group, config, streamed=streamed)

    assert len(outputs) == INPUTS
    for output in outputs:
        assert sorted(output) == sorted(step.steps__)
    ended = [one for output in outputs for one in output.values()]
    failures = [one for one in ended if isinstance(one, BranchFailure)]
    assert failures
    if pulse.longest < 0.3:
        assert len(failures) < 0.15 * CALLS, Counter((one.kind, one.message[:60]) for one in failures).most_common(6)
    assert all(one.content for one in ended if not isinstance(one, BranchFailure))
    assert set(told.ends.values()) == {1}
    assert len(told.ends) == CALLS

    assert told.roles["primary"] == CALLS
    assert told.roles["hedge"] <= 1 + hedge.budget * (CALLS + told.roles["retry"])
    assert told.roles["retry"] <= 10 + 0.2 * (CALLS + told.roles["fallback"]) + told.rate_limited
    assert min(told.roles[role] for role in ("hedge", "retry", "fallback")) > 0
    assert told.rate_limited > 0
    assert provider.tally.requests <= sum(told.roles.values())

    assert soon(lambda: not +told.open)
    assert not others()
    statistics = limiter.statistics()
    assert (statistics.queued, statistics.in_flight) == (0, 0)
    assert soon(lambda: WORKERS.running == 0, seconds=5)
