"""Which fallback is called, and when, in every way to run it."""

from __future__ import annotations

import asyncio
import pickle
from typing import Any

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.load import dumpd, load
from langchain_core.runnables import Runnable, RunnableLambda, RunnablePassthrough

from langchain_parallel_plus import (
    BranchPolicy,
    DeclarationError,
    ErrorKind,
    Fallback,
    RateLimiter,
    RetryPolicy,
    RunnableWithPolicy,
    TimeoutPolicy,
)
from langchain_parallel_plus._engine.machine import Call, Failed, Instead, Plan, Raise, Sleep, Start, State, step
from langchain_parallel_plus.providers.classify import classify
from tests.contract.probes import plus
from tests.modes import MODES, Mode

ALL = pytest.mark.parametrize("mode", MODES, ids=str)


def refusal(status: int, code: str | None = None, retry_after: float | None = None) -> Exception:
    headers = {} if retry_after is None else {"retry-after": str(retry_after)}
    response = type("Response", (), {"status_code": status, "headers": headers})()
    members = {"status_code": status, "code": code, "response": response}
    return type("APIStatusError", (Exception,), members)(f"status {status}")


TOO_LONG = refusal(400, "context_length_exceeded")
NO_MONEY = refusal(429, "insufficient_quota")
BUG = ValueError("bug")


def answering(text: str) -> Runnable[Any, Any]:
    async def asay(_: Any) -> str:
        await asyncio.sleep(0)
        return text

    return RunnableLambda(lambda _: text, afunc=asay)


def raising(error: Exception) -> Runnable[Any, Any]:
    def fail(_: Any) -> Any:
        raise error

    async def afail(_: Any) -> Any:
        raise error

    return RunnableLambda(fail, afunc=afail)


FALLBACKS = [
    Fallback(answering("bigger"), on="context_length"),
    Fallback(answering("other key"), on=(ErrorKind.QUOTA_EXHAUSTED, ErrorKind.AUTH)),
    Fallback(answering("own"), on=ZeroDivisionError),
    answering("last"),
]


@ALL
@pytest.mark.parametrize(
    ("error", "answer"),
    [
        (TOO_LONG, "bigger"),
        (NO_MONEY, "other key"),
        (refusal(401), "other key"),
        (1, "last"),
        (ZeroDivisionError(), "own"),
    ],
    ids=["context_length", "quota_exhausted", "auth", "unknown", "type"],
)
async def test_the_fallback_is_chosen_by_the_kind_of_error(mode: Mode, error: Any, answer: str) -> None:
    failing = raising(error if isinstance(error, Exception) else BUG)
    assert await mode.run(plus(a=failing).with_policy(BranchPolicy(fallbacks=FALLBACKS)), "in") == {"a": answer}


@ALL
async def test_a_failed_fallback_hands_on_by_its_own_error(mode: Mode) -> None:
    fallbacks = [Fallback(raising(TOO_LONG), on="auth"), Fallback(answering("bigger"), on="context_length")]
    policy = BranchPolicy(fallbacks=fallbacks)
    assert await mode.run(RunnableWithPolicy(raising(refusal(401)), policy), "in") == "bigger"
    with pytest.raises(ValueError, match="bug"):
        await mode.run(RunnableWithPolicy(raising(BUG), policy), "in")


def step_once(plan: Plan, error: Exception, *, deadline: float | None = None) -> Any:
    state, _ = step(plan, State(deadline=deadline), Start(), 0.0)
    return step(plan, state, Failed(error, classify(error), 0.5), 1.0)[1]


@pytest.mark.parametrize(
    ("deadline", "waits"),
    [(None, True), (60.0, True), (20.9, False), (5.0, False)],
    ids=["none", "ample", "short", "no"],
)
def test_a_rate_limit_is_waited_for_unless_waiting_cannot_win(deadline: float | None, waits: bool) -> None:
    plan = Plan(targets=2, retry=RetryPolicy())
    action = step_once(plan, refusal(429, retry_after=20), deadline=deadline)
    assert isinstance(action, Sleep) is waits
    if waits:
        assert action.seconds == 20
    else:
        assert isinstance(action, Call)
        assert action.target == 1


def test_without_a_fallback_a_wait_that_cannot_win_fails_now() -> None:
    error = refusal(429, retry_after=20)
    assert step_once(Plan(targets=1, retry=RetryPolicy()), error, deadline=5.0) == Raise(error, ())
    other = Plan(targets=2, retry=RetryPolicy(), fallbacks=(Instead(Fallback(len, on="auth")),))
    assert step_once(other, error, deadline=5.0) == Raise(error, ())


@pytest.mark.looptime
async def test_the_fan_outs_deadline_decides_whether_a_rate_limit_is_waited_for() -> None:
    from langchain_parallel_plus import JoinPolicy

    for deadline, answer, ends in ((30, "primary", 20), (10, "spare", 0)):
        loop, calls = asyncio.get_running_loop(), []

        async def limited(_: Any, calls: list[Any] = calls) -> str:
            calls.append(1)
            if len(calls) == 1:
                raise refusal(429, retry_after=20)
            return "primary"

        step = RunnableLambda(lambda _: "never", afunc=limited)
        fan_out = plus(a=step).with_policy(BranchPolicy(retry=RetryPolicy(), fallbacks=[answering("spare")]))
        began = loop.time()
        assert await fan_out.with_join(JoinPolicy(deadline=deadline)).ainvoke("in") == {"a": answer}
        assert loop.time() - began == pytest.approx(ends, abs=0.1)


@ALL
async def test_a_fallback_under_a_policy_of_its_own_keeps_to_that(mode: Mode) -> None:
    calls: list[str] = []

    def down(value: Any) -> Any:
        calls.append(value)
        raise ConnectionError("down")

    async def adown(value: Any) -> Any:
        return down(value)

    broken = RunnableLambda(down, afunc=adown)
    quota = RateLimiter(requests_per_day=100)
    own = RunnableWithPolicy(broken, BranchPolicy(retry=RetryPolicy(max_attempts=2, initial_interval=0), limiter=quota))
    policy = BranchPolicy(retry=RetryPolicy(max_attempts=3, initial_interval=0), fallbacks=[own, broken])
    with pytest.raises(ConnectionError):
        await mode.run(RunnableWithPolicy(broken, policy), "in")
    assert len(calls) == 3 + 2 + 3
    assert quota.statistics().rates["requests_per_day"].available == pytest.approx(98, abs=0.1)


@pytest.mark.looptime
async def test_a_fallback_with_timeouts_of_its_own_has_only_those() -> None:
    async def slow(_: Any) -> str:
        await asyncio.sleep(20)
        return "late"

    step = RunnableLambda(lambda _: "never", afunc=slow)
    own = RunnableWithPolicy(step, BranchPolicy(timeout=TimeoutPolicy(run_timeout=60)))
    policy = BranchPolicy(timeout=TimeoutPolicy(attempt_timeout=5, run_timeout=10), fallbacks=[own])
    assert await RunnableWithPolicy(step, policy).ainvoke("in") == "late"
    assert asyncio.get_running_loop().time() == pytest.approx(25, abs=0.1)


@ALL
async def test_a_fallbacks_run_is_a_child_and_the_input_stays_as_it_is(mode: Mode) -> None:
    starts: list[tuple[str, Any]] = []
    names: dict[Any, str] = {}

    class Recorder(BaseCallbackHandler):
        def on_chain_start(
            self, serialized: Any, inputs: Any, *, run_id: Any, parent_run_id: Any = None, **kw: Any
        ) -> None:
            names[run_id] = kw.get("name") or ""
            starts.append((names[run_id], names.get(parent_run_id)))

    value = {"text": "in"}
    fallback = answering("other").with_config(run_name="spare")
    step = plus(a=raising(BUG)).with_policy(BranchPolicy(fallbacks=[fallback]))
    await mode.run(step, value, {"callbacks": [Recorder()]})
    assert ("spare", "branch:a") in starts
    assert value == {"text": "in"}


@pytest.mark.parametrize(
    ("declare", "says", "help"),
    [
        (lambda: Fallback(len, on="contxt_length"), "got 'contxt_length'", "did you mean 'context_length'?"),
        (lambda: Fallback(len, on=("auth", 3)), "got 3", "the kinds are: rate_limit"),  # type: ignore[arg-type]
        (lambda: Fallback(len, on="cancelled"), "got 'cancelled'", "the kinds are"),
        (
            lambda: Fallback("gpt-4o"),
            "takes runnables, functions and dicts of them, got 'gpt-4o'",
            "not the model's name",
        ),
        (lambda: BranchPolicy(fallbacks=Fallback(len)), "must be a list of runnables", "fallbacks=[other_model]"),  # type: ignore[arg-type]
    ],
)
def test_a_fallback_that_makes_no_sense_is_refused_with_the_way_out(declare: Any, says: str, help: str) -> None:
    with pytest.raises(DeclarationError) as caught:
        declare()
    assert says in caught.value.message
    assert help in (caught.value.help or "")


@pytest.mark.filterwarnings("ignore:The function `load` is in beta")
def test_fallbacks_travel_with_what_they_are_for() -> None:
    spare: Runnable[Any, Any] = RunnablePassthrough()
    policy = BranchPolicy(fallbacks=[Fallback(spare, on=("auth", "context_length")), Fallback(spare), spare])
    assert policy.fallbacks[1] is spare
    made = RunnableWithPolicy(RunnablePassthrough(), policy)
    loaded = load(
        dumpd(made),
        allowed_objects=[RunnableWithPolicy, RunnablePassthrough],
        valid_namespaces=["langchain_parallel_plus"],
    )
    for other in (loaded, pickle.loads(pickle.dumps(made))):
        assert other.policy.fallbacks[0].on == (ErrorKind.AUTH, ErrorKind.CONTEXT_LENGTH)
        assert len(other.policy.fallbacks) == 3
