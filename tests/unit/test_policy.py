from __future__ import annotations

import copy
import pickle
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from langchain_core.runnables import RunnablePassthrough

from langchain_parallel_plus import (
    BranchPolicy,
    CircuitBreaker,
    DeclarationError,
    HedgePolicy,
    JoinPolicy,
    RateLimiter,
    RetryBudget,
    RetryPolicy,
    RunnableParallelPlus,
    RunnableWithPolicy,
    TimeoutPolicy,
    UnknownBranchError,
)
from langchain_parallel_plus.limits import Cost
from langchain_parallel_plus.policy.plain import join_of, plain, policy_of
from tests.unit.synthesis.loading import loaded

HEDGED = BranchPolicy(hedge=HedgePolicy(5))


@pytest.mark.parametrize(
    ("declare", "says"),
    [
        (lambda: RetryPolicy(max_attempts=0), "max_attempts must be a whole number of at least 1, got 0"),
        (lambda: RetryPolicy(max_attempts=True), "got True"),
        (lambda: RetryPolicy(max_attempts=1, budget=RetryBudget()), "makes no retry that a budget could bound"),
        (
            lambda: RunnableParallelPlus(a=len, policies=HEDGED).with_join(JoinPolicy(deadline=5)),
            "JoinPolicy(deadline=5) is over before branch 'a' is hedged, after 5 s",
        ),
        (
            lambda: RunnableParallelPlus(a=len, join=JoinPolicy(deadline=4)).with_policy(HEDGED),
            "JoinPolicy(deadline=4) is over before branch 'a' is hedged, after 5 s",
        ),
        (
            lambda: RunnableParallelPlus(a=len, policies=HEDGED).with_join(JoinPolicy(deadline=10, reserve=6)),
            "JoinPolicy(deadline=10, reserve=6) is over before branch 'a' is hedged, after 5 s",
        ),
        (
            lambda: RetryPolicy(initial_interval=-1),
            "initial_interval must be 0 or more seconds and at most 31 days, got -1",
        ),
        (lambda: RetryPolicy(max_interval="1"), "max_interval must be 0 or more seconds and at most 31 days, got '1'"),  # type: ignore[arg-type]
        (lambda: RetryPolicy(backoff_factor=0.5), "backoff_factor must be at least 1, got 0.5"),
        (lambda: RetryPolicy(retry_on="ValueError"), "retry_on takes exception types or a function"),  # type: ignore[arg-type]
        (lambda: RetryPolicy(retry_on=(KeyboardInterrupt,)), "retry_on takes exception types"),  # type: ignore[arg-type]
        (lambda: TimeoutPolicy(run_timeout=0), "run_timeout must be more than 0 seconds and at most 31 days, got 0"),
        (lambda: TimeoutPolicy(attempt_timeout=float("nan")), "attempt_timeout must be more than 0"),
        (lambda: BranchPolicy(on_failure="ignore"), "'raise', 'keep' or 'drop', got 'ignore'"),  # type: ignore[arg-type]
        (lambda: BranchPolicy(required=True, on_failure="drop"), "contradicts itself"),
        (lambda: BranchPolicy(retry=3), "retry takes a RetryPolicy, LangGraph's or tenacity's included, got 3"),  # type: ignore[arg-type]
        (lambda: BranchPolicy(weight=0), "weight must be more than 0"),
        (lambda: BranchPolicy(weight=float("inf")), "weight must be more than 0 and finite, got inf"),
        (lambda: BranchPolicy(breaker=True), "breaker takes a CircuitBreaker, got True"),  # type: ignore[arg-type]
        (lambda: BranchPolicy(limiter=True), "limiter takes a RateLimiter, got True"),  # type: ignore[arg-type]
        (lambda: BranchPolicy(fallbacks=False), "must be a list of runnables, got bool"),  # type: ignore[arg-type]
        (lambda: BranchPolicy(fallbacks=lambda x: x), "must be a list of runnables, got function"),  # type: ignore[arg-type]
        (lambda: JoinPolicy(wait_for=0), "wait_for must be a whole number of at least 1"),
        (lambda: JoinPolicy(wait_for=1, min_success=2), "asks for more than it waits for"),
        (lambda: JoinPolicy(deadline=-1), "deadline must be more than 0 seconds"),
        (lambda: JoinPolicy(reserve=8), "JoinPolicy(reserve=8) reserves a part of no deadline"),
        (lambda: JoinPolicy(deadline=8, reserve=8), "JoinPolicy(deadline=8, reserve=8) leaves the branches no time"),
        (lambda: JoinPolicy(deadline=8, reserve=-1), "reserve must be 0 or more seconds"),
        (lambda: JoinPolicy(deadline=8, reserve=None), "reserve must be 0 or more seconds"),  # type: ignore[arg-type]
        (lambda: JoinPolicy(accept=3), "accept takes a plain function"),  # type: ignore[arg-type]
        (lambda: RunnableParallelPlus(a=len).with_join(JoinPolicy(min_success=2)), "the fan-out has 1 branches"),
        (lambda: RunnableParallelPlus(a=len, join=3), "join takes a JoinPolicy, got 3"),  # type: ignore[arg-type]
        (lambda: RunnableParallelPlus(a=len, limits=[3]), "limits takes RateLimiters, got 3"),  # type: ignore[list-item]
        (lambda: RunnableParallelPlus(a=len, policies=3), "policies takes a BranchPolicy"),  # type: ignore[arg-type]
        (lambda: RunnableParallelPlus(a=len, name=3), "name must be a string"),  # type: ignore[arg-type]
        (lambda: RunnableParallelPlus(a=len).with_policy(RetryPolicy()), "must be a BranchPolicy"),  # type: ignore[arg-type]
        (lambda: RunnableWithPolicy(len, RetryPolicy()), "must be a BranchPolicy"),  # type: ignore[arg-type]
    ],
)
def test_a_declaration_that_makes_no_sense_is_refused_with_the_way_out(declare: Any, says: str) -> None:
    with pytest.raises(DeclarationError) as caught:
        declare()
    assert says in str(caught.value)
    assert "\nhelp: " in str(caught.value)


def test_an_unknown_branch_is_told_what_it_may_have_meant() -> None:
    fan_out = RunnableParallelPlus(summary=len, questions=len)
    with pytest.raises(UnknownBranchError, match="did you mean 'summary'"):
        fan_out.with_policy(sumary=BranchPolicy())
    with pytest.raises(UnknownBranchError, match="'questions'"):
        fan_out.with_policy(zzz=BranchPolicy())


def test_a_branchs_policy_is_laid_over_the_default_field_by_field() -> None:
    retry, timeout = RetryPolicy(max_attempts=5), TimeoutPolicy(run_timeout=3)
    fan_out = (
        RunnableParallelPlus(a=len, b=len)
        .with_policy(BranchPolicy(retry=retry, on_failure="keep"), b=BranchPolicy(timeout=timeout))
        .with_policy(b=BranchPolicy(on_failure="drop"))
    )
    assert fan_out.policies.for_branch("a") == BranchPolicy(retry=retry, on_failure="keep")
    assert fan_out.policies.for_branch("b") == BranchPolicy(retry=retry, timeout=timeout, on_failure="drop")


FULL = BranchPolicy(
    retry=RetryPolicy(max_attempts=2),
    fallbacks=[RunnablePassthrough()],
    timeout=TimeoutPolicy(run_timeout=9),
    hedge=HedgePolicy(5),
    breaker=CircuitBreaker(),
    limiter=RateLimiter(requests_per_minute=60),
    cost=Cost(requests=2),
)
OFF: dict[str, Any] = {
    "retry": False, "fallbacks": [], "timeout": False, "hedge": False, "breaker": False, "limiter": False
}  # fmt: skip


@pytest.mark.parametrize("name", OFF)
def test_one_branch_may_be_without_what_the_others_have_by_default(name: str) -> None:
    own = BranchPolicy(**{name: OFF[name]})
    fan_out = RunnableParallelPlus(a=len, b=len, c=len).with_policy(FULL, a=own).with_policy(a=BranchPolicy(weight=2))
    left = {"cost": None} if name == "limiter" else {}
    assert fan_out.policies.for_branch("a") == replace(FULL, weight=2, **{name: None}, **left)
    assert fan_out.policies.for_branch("b") == FULL
    again = fan_out.with_policy(a=BranchPolicy(**{name: getattr(FULL, name)}))
    assert again.policies.for_branch("a") == replace(FULL, weight=2)


def test_a_default_that_is_switched_off_stays_off_for_those_that_do_not_say_otherwise() -> None:
    retry = RetryPolicy(max_attempts=3)
    fan_out = RunnableParallelPlus(a=len, b=len).with_policy(FULL).with_policy(BranchPolicy(**OFF))
    for_all = fan_out.with_policy(b=BranchPolicy(retry=retry))
    assert for_all.policies.for_branch("a") == BranchPolicy()
    assert for_all.policies.for_branch("b") == BranchPolicy(retry=retry)


def test_what_is_switched_off_survives_everything_that_a_policy_goes_through() -> None:
    own = BranchPolicy(**OFF)
    names = "retry=False, fallbacks=(), timeout=False, hedge=False, breaker=False, limiter=False"
    assert repr(own) == f"BranchPolicy({names})"
    for other in (eval(repr(own)), pickle.loads(pickle.dumps(own)), copy.deepcopy(own), policy_of(plain(own))):
        assert other == own
        assert other.over(FULL).settled() == BranchPolicy()
    assert replace(own, weight=2).over(FULL).settled() == BranchPolicy(weight=2)
    assert RunnableWithPolicy(RunnablePassthrough(), own).invoke("x") == "x"
    assert not own.acts


def test_a_cost_of_a_branch_without_the_default_limiter_is_refused() -> None:
    with pytest.raises(DeclarationError, match="has a cost and no limiter"):
        RunnableParallelPlus(a=len).with_policy(FULL, a=BranchPolicy(limiter=False, cost=Cost(requests=3)))


def test_with_methods_return_copies() -> None:
    plain = RunnableParallelPlus(a=len)
    limiter = RateLimiter(requests_per_minute=60)
    changed = plain.with_policy(BranchPolicy(on_failure="keep")).with_limits(limiter, limiter).with_join(JoinPolicy())
    assert plain == RunnableParallelPlus(plain.steps__)
    assert changed.limits == (limiter,)
    assert changed.join == JoinPolicy()
    assert type(changed) is RunnableParallelPlus


def test_the_constructor_takes_the_same_options() -> None:
    policy, join, limiter = BranchPolicy(on_failure="keep"), JoinPolicy(deadline=3), RateLimiter(requests_per_minute=9)
    by_method = RunnableParallelPlus(a=len).with_policy(a=policy).with_join(join).with_limits(limiter)
    by_argument = RunnableParallelPlus({"a": len}, name="n", policies={"a": policy}, join=join, limits=limiter)
    assert by_argument.policies == by_method.policies
    assert (by_argument.join, by_argument.limits, by_argument.name) == (join, (limiter,), "n")


def test_an_options_name_can_be_a_branch() -> None:
    fan_out = RunnableParallelPlus(name=len, policies=len, join={"deep": len}, limits=len)
    assert fan_out.invoke("abc") == {"name": 3, "policies": 3, "join": {"deep": 3}, "limits": 3}


def test_seconds_may_be_timedeltas() -> None:
    assert TimeoutPolicy(run_timeout=timedelta(minutes=1)).run_timeout == 60.0  # type: ignore[arg-type]
    assert JoinPolicy(deadline=timedelta(seconds=1.5)).deadline == 1.5  # type: ignore[arg-type]


def test_a_reserve_shortens_the_time_of_the_branches() -> None:
    join = JoinPolicy(deadline=timedelta(seconds=30), reserve=timedelta(seconds=8))  # type: ignore[arg-type]
    assert (join.deadline, join.reserve, join.branch_deadline) == (30.0, 8.0, 22.0)
    assert JoinPolicy(deadline=30).branch_deadline == 30.0
    assert JoinPolicy().branch_deadline is None
    assert eval(repr(join)) == join
    assert join_of(plain(join)) == join


def test_a_reserve_travels_with_its_fan_out() -> None:
    join = JoinPolicy(min_success=1, deadline=30, reserve=8)
    fan_out = RunnableParallelPlus(a=RunnablePassthrough(), b=RunnablePassthrough()).with_join(join)
    assert loaded(fan_out, RunnableParallelPlus, RunnablePassthrough).join == join
    assert pickle.loads(pickle.dumps(fan_out)).join == join


def test_a_policys_repr_is_the_code_that_makes_it() -> None:
    policy = BranchPolicy(retry=RetryPolicy(max_attempts=4), on_failure="keep")
    assert repr(policy) == "BranchPolicy(retry=RetryPolicy(max_attempts=4), on_failure='keep')"
    assert eval(repr(policy)) == policy


def shout(text: str) -> str:
    return text.upper()


def test_a_fan_out_with_all_its_options_can_be_pickled_and_copied() -> None:
    fan_out = RunnableParallelPlus(
        {"a": RunnableParallelPlus(b=len)},
        policies=BranchPolicy(retry=RetryPolicy(), fallbacks=[shout], timeout=TimeoutPolicy(run_timeout=1)),
        join=JoinPolicy(min_success=1),
        limits=RateLimiter(requests_per_minute=60, name="pickled"),
    )
    assert fan_out.invoke("abc") == {"a": {"b": 3}}
    for other in (pickle.loads(pickle.dumps(fan_out)), copy.deepcopy(fan_out), copy.copy(fan_out)):
        assert other.invoke("abc") == {"a": {"b": 3}}
        assert other.policies.default.retry == RetryPolicy()
