"""Breakers, retry budgets, chunk timeouts and foreign policies, as branches run under them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import tenacity
from langchain_core.runnables import Runnable, RunnableGenerator, RunnableLambda

from langchain_parallel_plus import (
    BranchFailure,
    BranchPolicy,
    BranchTimeoutError,
    CircuitBreaker,
    CircuitOpenError,
    ErrorKind,
    RateLimiter,
    RetryBudget,
    RetryPolicy,
    RunnableWithPolicy,
    TimeoutPolicy,
)
from langchain_parallel_plus.testing import ScriptedChatModel
from tests.contract.probes import plus
from tests.modes import MODES, Mode

ALL = pytest.mark.parametrize("mode", MODES, ids=str)
QUICK = RetryPolicy(max_attempts=3, initial_interval=0.001)


class Calls:
    """A runnable that raises what it is told, and counts."""

    def __init__(self, *errors: Exception | None) -> None:
        self.errors = list(errors)
        self.made = 0

    def __call__(self, value: Any) -> Any:
        self.made += 1
        error = self.errors[min(self.made, len(self.errors)) - 1] if self.errors else None
        if error is not None:
            raise error
        return value

    @property
    def runnable(self) -> Runnable[Any, Any]:
        async def acall(value: Any) -> Any:
            await asyncio.sleep(0)
            return self(value)

        return RunnableLambda(self.__call__, acall)


class RateLimitedError(Exception):
    status_code = 429


@ALL
async def test_an_open_breaker_refuses_the_call_and_goes_to_the_fallback(mode: Mode) -> None:
    down, spare = Calls(ConnectionError("down")), Calls()
    breaker = CircuitBreaker(minimum_calls=2)
    alone = RunnableWithPolicy(down.runnable, BranchPolicy(breaker=breaker))
    for _ in range(2):
        with pytest.raises(ConnectionError):
            await mode.run(alone, 1)
    with pytest.raises(CircuitOpenError, match="open for another 30 s") as caught:
        await mode.run(alone, 1)
    assert down.made == 2
    assert "help:" in str(caught.value)
    policy = BranchPolicy(breaker=breaker, retry=QUICK, fallbacks=[spare.runnable])
    assert await mode.run(plus(a=down.runnable).with_policy(policy), 7) == {"a": 7}
    assert (down.made, spare.made) == (2, 1)


@ALL
async def test_rate_limits_do_not_open_a_breaker_and_successes_keep_it_closed(mode: Mode) -> None:
    calls = Calls(RateLimitedError("slow down"), None, RateLimitedError("slow down"), None)
    policy = BranchPolicy(breaker=CircuitBreaker(minimum_calls=1), on_failure="keep")
    fan_out = plus(a=calls.runnable).with_policy(policy)
    kinds = []
    for _ in range(4):
        output = (await mode.run(fan_out, 1))["a"]
        kinds.append(output.kind if isinstance(output, BranchFailure) else output)
    assert kinds == [ErrorKind.RATE_LIMIT, 1, ErrorKind.RATE_LIMIT, 1]


@ALL
async def test_a_budget_bounds_the_retries_of_all_who_share_it(mode: Mode) -> None:
    calls = Calls(ConnectionError("down"))
    retry = RetryPolicy(max_attempts=5, initial_interval=0.001, budget=RetryBudget(ratio=0.01, minimum=2))
    policy = BranchPolicy(retry=retry, on_failure="keep")
    output = await mode.run(plus(a=calls.runnable, b=calls.runnable).with_policy(policy), 1)
    assert all(isinstance(one, BranchFailure) for one in output.values())
    assert calls.made == 4  # two first calls, and two retries between them


@ALL
async def test_rate_limits_may_have_attempts_of_their_own(mode: Mode) -> None:
    calls = Calls(*[RateLimitedError("slow down")] * 4, None)
    retry = RetryPolicy(max_attempts=1, rate_limit_attempts=5, initial_interval=0.001)
    assert await mode.run(RunnableWithPolicy(calls.runnable, BranchPolicy(retry=retry)), 3) == 3
    assert calls.made == 5


def _stream(*waits: float) -> tuple[Runnable[Any, Any], list[int]]:
    """Return a generator that waits before each chunk; no longer from its second run on."""
    runs: list[int] = []

    async def chunks(inputs: AsyncIterator[Any]) -> AsyncIterator[str]:
        async for _ in inputs:
            pass
        runs.append(1)
        for wait in waits:
            await asyncio.sleep(wait if len(runs) == 1 else 0)
            yield "x"

    def never(inputs: Iterator[Any]) -> Iterator[Any]:
        yield from inputs

    return RunnableGenerator(never, chunks), runs


@pytest.mark.looptime
async def test_a_stream_whose_first_chunk_is_late_starts_again() -> None:
    stream, runs = _stream(60, 0)
    policy = BranchPolicy(retry=QUICK, timeout=TimeoutPolicy(first_chunk_timeout=10))
    assert [chunk async for chunk in RunnableWithPolicy(stream, policy).astream(1)] == ["x", "x"]
    assert len(runs) == 2


@pytest.mark.looptime
async def test_a_stream_that_falls_silent_fails_and_keeps_what_it_has_brought() -> None:
    stream, runs = _stream(8, 8, 60)
    policy = BranchPolicy(retry=QUICK, timeout=TimeoutPolicy(idle_timeout=10), on_failure="keep")
    total: Any = None
    async for chunk in plus(a=stream).with_policy(policy).astream(1):
        total = chunk if total is None else total + chunk
    failure = total["a"]
    assert isinstance(failure, BranchFailure)
    assert (failure.kind, failure.partial, len(runs)) == (ErrorKind.TIMEOUT, "xx", 1)
    assert "idle_timeout of 10 s" in failure.message


def test_a_silent_stream_is_left_in_threads_too() -> None:
    def chunks(inputs: Iterator[Any]) -> Iterator[str]:
        yield "x"
        threading.Event().wait(5)
        yield "y"

    policy = BranchPolicy(timeout=TimeoutPolicy(idle_timeout=0.05))
    stream = RunnableWithPolicy(RunnableGenerator(chunks), policy).stream(1)
    assert next(stream) == "x"
    with pytest.raises(BranchTimeoutError, match="idle_timeout"):
        next(stream)


@ALL
async def test_tenacitys_terms_are_taken_for_a_retry_policy(mode: Mode) -> None:
    calls = Calls(ConnectionError("down"), ConnectionError("down"), None)
    retry: Any = tenacity.Retrying(
        stop=tenacity.stop_after_attempt(3), wait=tenacity.wait_exponential(0.001, max=0.002)
    )
    assert await mode.run(RunnableWithPolicy(calls.runnable, BranchPolicy(retry=retry)), 3) == 3
    assert calls.made == 3


@ALL
async def test_an_attempt_whose_time_is_over_gives_its_model_calls_slot_to_the_next(mode: Mode) -> None:
    begun: list[int] = []
    release = threading.Event()

    class Model(ScriptedChatModel):
        def _generate(self, *args: Any, **kwargs: Any) -> Any:
            begun.append(1)
            if len(begun) == 1:
                release.wait(5)
            return super()._generate(*args, **kwargs)

        async def _agenerate(self, *args: Any, **kwargs: Any) -> Any:
            begun.append(1)
            await asyncio.sleep(5 if len(begun) == 1 else 0)
            return await super()._agenerate(*args, **kwargs)

    model, limiter = Model(["answer"] * 3), RateLimiter(concurrency=1)

    async def ask(value: Any) -> Any:
        return (await model.ainvoke(value)).content

    step = RunnableLambda(lambda value: model.invoke(value).content, afunc=ask)
    policy = BranchPolicy(retry=QUICK, timeout=TimeoutPolicy(attempt_timeout=0.1))
    assert await mode.run(plus(a=step).with_limits(limiter).with_policy(policy), "hi") == {"a": "answer"}
    release.set()
    assert len(begun) == 2
    assert limiter.statistics().in_flight == 0


def _working(*steps: float) -> Runnable[Any, Any]:
    """Return a stream that runs something for each number of seconds before its one chunk."""

    async def wait(seconds: float) -> float:
        await asyncio.sleep(seconds)
        return seconds

    step = RunnableLambda(lambda seconds: seconds, afunc=wait)

    async def chunks(inputs: AsyncIterator[Any]) -> AsyncIterator[str]:
        async for _ in inputs:
            pass
        for seconds in steps:
            await step.ainvoke(seconds)
        yield "done"

    def never(inputs: Iterator[Any]) -> Iterator[Any]:
        yield from inputs

    return RunnableGenerator(never, chunks)


@pytest.mark.looptime
@pytest.mark.parametrize("made", [lambda step, policy: plus(a=step).with_policy(policy).pick("a"), RunnableWithPolicy])
async def test_callbacks_beneath_refresh_the_idle_timeout(made: Any) -> None:
    policy = BranchPolicy(timeout=TimeoutPolicy(idle_timeout=10))
    assert [chunk async for chunk in made(_working(8, 8, 8), policy).astream(1)] == ["done"]
    with pytest.raises(BranchTimeoutError, match="idle_timeout of 10 s"):
        [chunk async for chunk in made(_working(8, 12), policy).astream(1)]
    assert asyncio.get_running_loop().time() == pytest.approx(24 + 18, abs=0.1)


@pytest.mark.looptime
async def test_callbacks_do_not_refresh_the_time_to_the_first_chunk() -> None:
    policy = BranchPolicy(timeout=TimeoutPolicy(idle_timeout=10, first_chunk_timeout=15))
    with pytest.raises(BranchTimeoutError, match="first_chunk_timeout of 15 s"):
        [chunk async for chunk in RunnableWithPolicy(_working(8, 8, 8), policy).astream(1)]


def test_callbacks_refresh_the_idle_timeout_in_threads_too() -> None:
    step = RunnableLambda(lambda seconds: threading.Event().wait(seconds))

    def chunks(inputs: Iterator[Any]) -> Iterator[str]:
        for _ in range(4):
            step.invoke(0.06)
        yield "done"

    policy = BranchPolicy(timeout=TimeoutPolicy(idle_timeout=0.15))
    assert list(RunnableWithPolicy(RunnableGenerator(chunks), policy).stream(1)) == ["done"]
