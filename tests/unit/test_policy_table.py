"""The README's table of policies, row by row, on virtual time."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from langchain_core.runnables import Runnable, RunnableGenerator, RunnableLambda

from langchain_parallel_plus import (
    BranchFailure,
    BranchPolicy,
    BranchTimeoutError,
    CircuitBreaker,
    CircuitOpenError,
    ErrorKind,
    Fallback,
    FanOutError,
    HedgePolicy,
    JoinPolicy,
    RateLimiter,
    RetryBudget,
    RetryPolicy,
    RunnableWithPolicy,
    TimeoutPolicy,
)
from langchain_parallel_plus.testing import ScriptedChatModel
from tests.contract.probes import others, plus

pytestmark = pytest.mark.looptime

JUMP = 0.01
"""How far a clock that jumps may be off."""
AT_ONCE = RetryPolicy(initial_interval=0)


class Refused(Exception):
    def __init__(self, status: int, code: str | None = None, retry_after: float | None = None) -> None:
        super().__init__(f"status {status}")
        self.status_code, self.code = status, code
        headers = {} if retry_after is None else {"retry-after": str(retry_after)}
        self.response = type("Response", (), {"status_code": status, "headers": headers})()


class Script:
    """A branch that does in turn what it is told: waits some seconds, then raises or returns. The last is repeated."""

    def __init__(self, *steps: tuple[float, Any]) -> None:
        self.steps = steps
        self.begun: list[float] = []
        self.cancelled = 0

    async def __call__(self, _: Any) -> Any:
        self.begun.append(now())
        seconds, what = self.steps[min(len(self.begun), len(self.steps)) - 1]
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if isinstance(what, Exception):
            raise what
        return what

    @property
    def step(self) -> Runnable[Any, Any]:
        return RunnableLambda(_never, afunc=self.__call__)


def _never(_: Any) -> Any:
    raise AssertionError("these are tasks")


def now() -> float:
    return asyncio.get_running_loop().time()


def about(seconds: float) -> Any:
    return pytest.approx(seconds, abs=JUMP)


LOST, BUG, LIMITED = ConnectionError("lost"), ValueError("bug"), Refused(429)


async def ended(runnable: Runnable[Any, Any]) -> Any:
    try:
        return await runnable.ainvoke("in")
    except Exception as error:
        return error


async def test_retry_counts_all_calls_of_a_target_that_may_pass() -> None:
    for error, calls in ((LOST, 3), (Refused(503), 3), (Refused(500), 3), (LIMITED, 3), (BUG, 1), (Refused(400), 1)):
        script = Script((0, error))
        assert await ended(RunnableWithPolicy(script.step, BranchPolicy(retry=AT_ONCE))) is error
        assert len(script.begun) == calls


async def test_retry_waits_with_full_jitter_and_as_long_as_the_provider_asks() -> None:
    waits = []
    for _ in range(40):
        script = Script((0, LOST), (0, "ok"))
        await RunnableWithPolicy(script.step, BranchPolicy(retry=RetryPolicy(initial_interval=8))).ainvoke("in")
        waits.append(script.begun[1] - script.begun[0])
    assert 0 <= min(waits) < 3 < 5 < max(waits) <= 8 + JUMP
    told = Script((0, Refused(429, retry_after=30)), (0, "ok"))
    await RunnableWithPolicy(told.step, BranchPolicy(retry=RetryPolicy())).ainvoke("in")
    assert told.begun[1] - told.begun[0] == about(30)


async def test_retry_takes_no_wait_that_does_not_fit_the_time_left() -> None:
    script = Script((0, Refused(429, retry_after=30)))
    policy = BranchPolicy(retry=RetryPolicy(), timeout=TimeoutPolicy(run_timeout=20))
    assert isinstance(await ended(RunnableWithPolicy(script.step, policy)), Refused)
    assert now() == about(0)


async def test_retry_counts_rate_limits_apart_where_it_is_told_to() -> None:
    script = Script(*[(0, LIMITED)] * 4, (0, LOST), (0, "ok"))
    retry = RetryPolicy(max_attempts=2, rate_limit_attempts=5, initial_interval=0)
    assert await RunnableWithPolicy(script.step, BranchPolicy(retry=retry)).ainvoke("in") == "ok"


async def test_retries_multiply_with_those_inside() -> None:
    script = Script((0, LOST))
    inner = RunnableWithPolicy(script.step, BranchPolicy(retry=AT_ONCE))
    await ended(RunnableWithPolicy(inner, BranchPolicy(retry=AT_ONCE)))
    assert len(script.begun) == 9


async def test_budget_bounds_the_retries_of_all_who_share_it_and_429s_are_free() -> None:
    budget = RetryBudget(ratio=0.1, minimum=2)
    policy = BranchPolicy(retry=RetryPolicy(initial_interval=0, budget=budget), on_failure="keep")
    down = [Script((0, LOST)) for _ in range(10)]
    await plus({str(i): script.step for i, script in enumerate(down)}).with_policy(policy).ainvoke("in")
    assert sum(len(script.begun) for script in down) == 10 + 2 + 1
    limited = Script((0, LIMITED))
    await ended(RunnableWithPolicy(limited.step, policy))
    assert len(limited.begun) == 3
    await asyncio.sleep(61)
    again = Script((0, LOST))
    await ended(RunnableWithPolicy(again.step, policy))
    assert len(again.begun) == 3


async def test_budget_that_is_spent_goes_to_the_fallback_at_once() -> None:
    retry = RetryPolicy(initial_interval=60, jitter=False, max_interval=60, budget=RetryBudget(ratio=0.01, minimum=0))
    policy = BranchPolicy(retry=retry, fallbacks=[Script((0, "spare")).step])
    assert await RunnableWithPolicy(Script((0, LOST)).step, policy).ainvoke("in") == "spare"
    assert now() == about(0)


async def test_fallback_is_chosen_by_the_kind_of_error_and_retried_like_the_branch() -> None:
    spare = Script((0, LOST), (0, LOST), (0, "bigger"))
    policy = BranchPolicy(
        retry=AT_ONCE,
        fallbacks=[Fallback(Script((0, "key")).step, on="auth"), Fallback(spare.step, on="context_length")],
    )
    first = Script((0, Refused(400, "context_length_exceeded")))
    assert await RunnableWithPolicy(first.step, policy).ainvoke("in") == "bigger"
    assert (len(first.begun), len(spare.begun)) == (1, 3)


@pytest.mark.parametrize(("deadline", "answer", "at"), [(60, "ok", 20), (15, "spare", 0)])
async def test_fallback_takes_a_429_only_when_waiting_cannot_win(deadline: float, answer: str, at: float) -> None:
    script, spare = Script((0, Refused(429, retry_after=20)), (0, "ok")), Script((0, "spare"))
    fan_out = plus(a=script.step).with_policy(BranchPolicy(retry=RetryPolicy(), fallbacks=[spare.step]))
    assert await fan_out.with_join(JoinPolicy(deadline=deadline)).ainvoke("in") == {"a": answer}
    assert now() == about(at)


async def test_timeout_of_a_run_holds_retries_and_waits_and_each_fallback_has_it_anew() -> None:
    script, spare = Script((4, LOST)), Script((9, "spare"))
    retry = RetryPolicy(max_attempts=9, initial_interval=1, backoff_factor=1, jitter=False)
    policy = BranchPolicy(retry=retry, timeout=TimeoutPolicy(run_timeout=10), fallbacks=[spare.step])
    assert await RunnableWithPolicy(script.step, policy).ainvoke("in") == "spare"
    assert script.begun == [about(0), about(5)]
    assert spare.begun == [about(9)]  # nothing is begun whose wait would end at the run's end


async def test_timeout_of_an_attempt_is_retried() -> None:
    script = Script((100, "never"), (1, "ok"))
    policy = BranchPolicy(retry=AT_ONCE, timeout=TimeoutPolicy(attempt_timeout=10))
    assert await RunnableWithPolicy(script.step, policy).ainvoke("in") == "ok"
    assert (now(), script.cancelled) == (about(11), 1)


def _streaming(*waits: float) -> Runnable[Any, Any]:
    def never(inputs: Iterator[Any]) -> Iterator[Any]:
        yield from inputs

    async def chunks(inputs: AsyncIterator[Any]) -> AsyncIterator[str]:
        async for _ in inputs:
            for wait in waits:
                await asyncio.sleep(wait)
                yield "x"

    return RunnableGenerator(never, chunks)


@pytest.mark.parametrize(
    ("field", "waits", "at"), [("first_chunk_timeout", (12, 1), 10), ("idle_timeout", (8, 12), 18)], ids=str
)
async def test_timeout_of_a_stream_is_to_the_first_chunk_or_without_a_sign_of_life(
    field: str, waits: tuple[float, ...], at: float
) -> None:
    policy = BranchPolicy(timeout=TimeoutPolicy(**{field: 10}))
    with pytest.raises(BranchTimeoutError, match=field):
        async for _ in RunnableWithPolicy(_streaming(*waits), policy).astream("in"):
            pass
    assert now() == about(at)


async def test_timeout_does_not_count_the_time_of_the_streams_reader() -> None:
    policy = BranchPolicy(timeout=TimeoutPolicy(run_timeout=10, idle_timeout=5))
    async for _ in RunnableWithPolicy(_streaming(3, 3), policy).astream("in"):
        await asyncio.sleep(100)


async def test_timeout_of_an_attempt_does_not_count_its_calls_waits_for_a_rate_limit() -> None:
    limiter = RateLimiter(requests_per_minute=1, burst=0.001, clock=asyncio.get_running_loop().time)
    policy = BranchPolicy(timeout=TimeoutPolicy(attempt_timeout=10))
    fan_out = plus({str(n): ScriptedChatModel(script=lambda _: "ok", latency=8) for n in range(3)})
    await fan_out.with_policy(policy).with_limits(limiter).ainvoke("in")
    assert now() > 120


async def test_hedge_takes_the_first_result_and_cancels_the_other_call() -> None:
    script = Script((100, "slow"), (1, "quick"))
    assert await RunnableWithPolicy(script.step, BranchPolicy(hedge=HedgePolicy(5))).ainvoke("in") == "quick"
    assert (now(), script.cancelled, others()) == (about(6), 1, set())


async def test_hedge_errors_are_no_attempts_and_the_first_calls_error_counts() -> None:
    script = Script((10, LOST), (1, BUG))
    fan_out = plus(a=script.step).with_policy(BranchPolicy(hedge=HedgePolicy(5), on_failure="keep"))
    failure = (await fan_out.ainvoke("in"))["a"]
    assert (failure.error, failure.attempts, len(script.begun)) == (LOST, 1, 2)


async def test_hedge_delay_may_be_what_95_percent_of_the_branchs_calls_took() -> None:
    script = Script(*[(1 + i / 10, "ok") for i in range(20)], (100, "slow"), (0, "quick"))
    step = RunnableWithPolicy(script.step, BranchPolicy(hedge=HedgePolicy("p95")))
    for _ in range(20):
        await step.ainvoke("in")
    began = now()
    assert await step.ainvoke("in") == "quick"
    assert now() - began == about(2.8)  # the 19th of 20


async def test_hedges_are_a_share_of_the_calls() -> None:
    script = Script((10, "slow"))
    step = RunnableWithPolicy(script.step, BranchPolicy(hedge=HedgePolicy(5, budget=0.1)))
    for _ in range(20):
        await step.ainvoke("in")
    assert len(script.begun) == 20 + 1 + 2


async def test_hedge_rests_after_a_429() -> None:
    script = Script((0, LIMITED), (10, "slow"))
    policy = BranchPolicy(hedge=HedgePolicy(5, budget=1), retry=RetryPolicy(initial_interval=0))
    step = RunnableWithPolicy(script.step, policy)
    await step.ainvoke("in")
    assert len(script.begun) == 2
    await asyncio.sleep(30)
    await step.ainvoke("in")
    assert len(script.begun) == 4


async def test_breaker_opens_on_outages_and_closes_after_a_probe() -> None:
    script, spare = Script(*[(0, LOST)] * 10, (0, "back")), Script((0, "spare"))
    breaker = CircuitBreaker()
    alone = RunnableWithPolicy(script.step, BranchPolicy(breaker=breaker))
    for _ in range(10):
        assert await ended(alone) is LOST
    policy = BranchPolicy(breaker=breaker, retry=RetryPolicy(initial_interval=9), fallbacks=[spare.step])
    assert await RunnableWithPolicy(script.step, policy).ainvoke("in") == "spare"  # not retried: no time has passed
    assert (len(script.begun), now()) == (10, about(0))
    assert isinstance(await ended(alone), CircuitOpenError)
    await asyncio.sleep(30)
    assert await ended(alone) == "back"


@pytest.mark.parametrize(
    ("error", "opens"),
    [(LIMITED, False), (Refused(400), False), (Refused(429, "insufficient_quota"), True), (Refused(401), True)],
    ids=["429", "400", "quota", "key"],
)
async def test_breaker_ignores_429s_and_opens_at_once_for_quota_and_key(error: Exception, opens: bool) -> None:
    script = Script((0, error))
    step = RunnableWithPolicy(script.step, BranchPolicy(breaker=CircuitBreaker(minimum_calls=100)))
    for _ in range(20):
        await ended(step)
    assert len(script.begun) == (1 if opens else 20)


async def test_deadline_is_passed_down_to_nested_fan_outs_and_their_retries() -> None:
    script = Script((0, Refused(429, retry_after=30)))
    inner = plus(x=script.step).with_policy(BranchPolicy(retry=RetryPolicy(), on_failure="keep"))
    outer = plus(a=inner, b=Script((50, "late")).step).with_join(JoinPolicy(deadline=20, min_success=1))
    output = await outer.ainvoke("in")
    assert output["a"]["x"].kind is ErrorKind.RATE_LIMIT  # 30 seconds do not fit: not waited for
    assert output["b"].kind is ErrorKind.TIMEOUT
    assert now() == about(20)


async def test_join_counts_successes_and_cancels_the_rest() -> None:
    slow, odd = Script((50, "slow")), Script((1, "no"))
    fan_out = plus(a=Script((2, "yes")).step, b=odd.step, c=slow.step)
    join = JoinPolicy(wait_for=1, accept=lambda output: output == "yes")
    output = await fan_out.with_join(join).ainvoke("in")
    assert (output["a"], output["b"].partial, "c" in output) == ("yes", "no", False)
    assert (now(), slow.cancelled) == (about(2), 1)


async def test_join_fails_as_soon_as_too_few_are_certain() -> None:
    fan_out = plus(a=Script((1, LOST)).step, b=Script((2, LOST)).step, c=Script((50, "late")).step)
    with pytest.raises(FanOutError, match="2 of 3 branches failed"):
        await fan_out.with_join(JoinPolicy(min_success=2)).ainvoke("in")
    assert now() == about(2)


@pytest.mark.parametrize("on_failure", ["raise", "keep", "drop", "required"])
async def test_failure_is_raised_kept_or_dropped(on_failure: str, caplog: pytest.LogCaptureFixture) -> None:
    policy = BranchPolicy(required=True) if on_failure == "required" else BranchPolicy(on_failure=on_failure)  # type: ignore[arg-type]
    fan_out = plus(good=Script((1, "good")).step, bad=Script((2, LOST)).step).with_policy(bad=policy)
    with caplog.at_level(logging.WARNING, "langchain_parallel_plus"):
        output = await ended(fan_out.with_join(JoinPolicy(min_success=1)) if on_failure == "required" else fan_out)
    match on_failure:
        case "keep":
            assert isinstance(output["bad"], BranchFailure)
            assert not output["bad"]
        case "drop":
            assert output == {"good": "good"}
            assert "'bad'" in caplog.text
        case _:
            assert output is LOST


async def test_the_order_is_fixed() -> None:
    """Fallback around retry around hedge around breaker around timeout: what each sees is what the next ends as."""
    told: Counter[str] = Counter()

    def note(name: str, seconds: float, what: Any) -> Callable[[Any], Any]:
        async def work(_: Any) -> Any:
            told[name] += 1
            await asyncio.sleep(seconds)
            if isinstance(what, Exception):
                raise what
            return what

        return work

    policy = BranchPolicy(
        retry=RetryPolicy(max_attempts=2, initial_interval=0),
        timeout=TimeoutPolicy(attempt_timeout=10),
        hedge=HedgePolicy(4, budget=1),
        breaker=CircuitBreaker(minimum_calls=4, failure_ratio=1),
        fallbacks=[RunnableLambda(_never, afunc=note("spare", 0, "spare"))],
    )
    step = RunnableWithPolicy(RunnableLambda(_never, afunc=note("call", 100, "never")), policy)
    assert await step.ainvoke("in") == "spare"
    # Each attempt ends when its hedge has had its ten seconds as well: 14 s, twice. Then four timeouts are an outage.
    assert (told, now()) == ({"call": 4, "spare": 1}, about(28))
    assert await step.ainvoke("in") == "spare"
    assert (told, now()) == ({"call": 4, "spare": 2}, about(28))
