"""`BranchPolicy(limiter=, cost=)`: attempts that are no model calls wait for a quota, and give back what they must."""

from __future__ import annotations

import asyncio
import pickle
import time
from typing import Any

import pytest
from langchain_core.embeddings import FakeEmbeddings
from langchain_core.load import dumpd, load
from langchain_core.runnables import RunnableLambda, RunnablePassthrough

from langchain_parallel_plus import (
    BranchFailure,
    BranchPolicy,
    DeclarationError,
    RateLimiter,
    RetryPolicy,
    RunnableParallelPlus,
    RunnableWithPolicy,
    TimeoutPolicy,
    collect_report,
)
from langchain_parallel_plus.limits import Cost
from langchain_parallel_plus.testing import ScriptedChatModel
from tests.contract.probes import plus
from tests.modes import MODES, Mode

MODES_ALL = pytest.mark.parametrize("mode", MODES, ids=str)


class RateLimitedError(Exception):
    """What a search API answers."""

    status_code = 429


def _limiter(**limits: Any) -> RateLimiter:
    return RateLimiter(**{"requests_per_minute": 60_000, "burst": 0.001, **limits})


async def _async(function: Any, value: Any) -> Any:
    await asyncio.sleep(0)
    return function(value)


def _both(function: Any) -> RunnableLambda[Any, Any]:
    async def afunc(value: Any) -> Any:
        return await _async(function, value)

    return RunnableLambda(function, afunc)


@MODES_ALL
async def test_each_attempt_is_charged_and_its_slot_comes_back(mode: Mode) -> None:
    limiter, calls = _limiter(requests_per_day=1000, concurrency=2), []

    def search(query: str) -> str:
        calls.append(limiter.statistics().in_flight)
        if len(calls) < 3:
            raise ConnectionError("down")
        return query.upper()

    policy = BranchPolicy(limiter=limiter, retry=RetryPolicy(initial_interval=0.001))
    assert await mode.run(plus(a=_both(search)).with_policy(a=policy), "x") == {"a": "X"}
    assert calls == [1, 1, 1]
    assert limiter.statistics().in_flight == 0
    assert limiter.statistics().rates["requests_per_day"].available == pytest.approx(997)


@MODES_ALL
async def test_attempts_wait_for_the_rate_before_their_own_time_runs(mode: Mode) -> None:
    limiter = RateLimiter(requests_per_minute=1200, burst=0.05)
    policy = BranchPolicy(limiter=limiter, timeout=TimeoutPolicy(attempt_timeout=0.15))
    fan_out = plus({str(n): _both(str) for n in range(5)}).with_policy(policy)
    began = time.monotonic()
    with collect_report() as report:
        assert len(await mode.run(fan_out, "x")) == 5
    assert time.monotonic() - began > 0.15
    waits = [wait for branch in report.branches for wait in branch.waits]
    assert {dimension for _, dimension in waits} >= {"requests_per_minute"}


@MODES_ALL
async def test_the_cost_may_depend_on_the_input(mode: Mode) -> None:
    limiter = RateLimiter(tokens_per_day=1000)
    policy = BranchPolicy(limiter=limiter, cost=lambda query: Cost(input_tokens=len(query)))
    await mode.run(RunnableWithPolicy(_both(str.upper), policy), "12345")
    assert limiter.statistics().rates["tokens_per_day"].available == pytest.approx(995)


@MODES_ALL
async def test_a_wait_that_cannot_end_in_time_fails_at_once_and_falls_back(mode: Mode) -> None:
    limiter = RateLimiter(requests_per_minute=1, burst=60)
    assert limiter.try_acquire()
    policy = BranchPolicy(limiter=limiter, fallbacks=[_both(str.lower)], timeout=TimeoutPolicy(run_timeout=5))
    began = time.monotonic()
    assert await mode.run(plus(a=_both(str.upper)).with_policy(policy), "Xy") == {"a": "xy"}
    assert time.monotonic() - began < 2
    assert limiter.statistics().queued == 0


@MODES_ALL
async def test_a_refusal_pauses_the_quota_for_everybody(mode: Mode) -> None:
    limiter = _limiter()

    def search(query: str) -> str:
        raise RateLimitedError("slow down")

    policy = BranchPolicy(limiter=limiter, on_failure="keep")
    output = await mode.run(plus(a=_both(search)).with_policy(policy), "x")
    assert isinstance(output["a"], BranchFailure)
    assert limiter.statistics().paused_for > 0


@pytest.mark.looptime
async def test_a_cancelled_wait_gives_back_what_it_was_granted() -> None:
    limiter = RateLimiter(concurrency=1)
    hold = limiter.reserve(Cost(slots=1))
    policy = BranchPolicy(limiter=limiter)
    task = asyncio.ensure_future(plus(a=_both(str)).with_policy(policy).ainvoke("x"))
    await asyncio.sleep(1)
    assert limiter.statistics().queued == 1
    task.cancel()
    await asyncio.wait([task])
    hold.release()
    assert (limiter.statistics().queued, limiter.statistics().in_flight) == (0, 0)


@MODES_ALL
async def test_embeddings_within_a_branch_are_charged_by_a_policy_around_their_step(mode: Mode) -> None:
    """They are no Runnables and have no callbacks: the fan-out's own limiter never hears of them."""
    models, embeddings = _limiter(requests_per_day=1000), _limiter(requests_per_day=1000, tokens_per_day=1000)
    embed = FakeEmbeddings(size=3).embed_query
    policy = BranchPolicy(limiter=embeddings, cost=lambda text: Cost(tokens=len(text) / 4))
    chain = RunnableWithPolicy(_both(embed), policy) | _both(len) | _both(str) | ScriptedChatModel(["found"])
    found = await mode.run(plus(a=chain).with_limits(models), "a question of 25 letters!")
    assert found["a"].content == "found"
    assert models.statistics().granted == embeddings.statistics().granted == 1
    assert embeddings.statistics().rates["tokens_per_day"].available == pytest.approx(1000 - 25 / 4)


@MODES_ALL
async def test_a_wait_holds_no_permit(mode: Mode) -> None:
    limiter = RateLimiter(requests_per_minute=1200, burst=0.05)
    policy = BranchPolicy(limiter=limiter)
    fan_out = plus(a=_both(str), b=_both(str), c=_both(str)).with_policy(a=policy, b=policy)
    assert await mode.run(fan_out, "x", {"max_concurrency": 1}) == {"a": "x", "b": "x", "c": "x"}


@pytest.mark.filterwarnings("ignore:The function `load` is in beta")
def test_a_limiter_travels_as_its_declaration() -> None:
    limiter = RateLimiter(requests_per_minute=60, name="search")
    fan_out = RunnableParallelPlus(a=RunnablePassthrough()).with_policy(
        a=BranchPolicy(limiter=limiter, cost=Cost(requests=2))
    )
    loaded = load(
        dumpd(fan_out),
        allowed_objects=[RunnableParallelPlus, RunnablePassthrough],
        valid_namespaces=["langchain_parallel_plus"],
    )
    for other in (loaded, pickle.loads(pickle.dumps(fan_out))):
        policy = other.policies.for_branch("a")
        assert policy.limiter.account is limiter.account
        assert policy.cost == Cost(requests=2)


@pytest.mark.parametrize("wrong", [{"limiter": 5}, {"cost": 5}])
def test_what_is_no_limiter_or_cost_is_refused(wrong: Any) -> None:
    with pytest.raises(DeclarationError):
        BranchPolicy(**wrong)


async def test_a_cost_that_is_none_is_an_error_that_says_so() -> None:
    policy = BranchPolicy(limiter=_limiter(), cost=lambda _: 3)  # type: ignore[arg-type,return-value]
    with pytest.raises(DeclarationError, match="returned 3"):
        await RunnableWithPolicy(_both(str), policy).ainvoke("x")
