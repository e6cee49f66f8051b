from __future__ import annotations

import asyncio
import pickle
import subprocess
import sys
from datetime import timedelta
from typing import Any

import langgraph.types
import pytest
import tenacity
from tenacity import (
    AsyncRetrying,
    Retrying,
    retry_any,
    retry_if_exception,
    retry_if_exception_cause_type,
    retry_if_exception_message,
    retry_if_exception_type,
    retry_if_not_exception_type,
    stop_after_attempt,
    stop_after_delay,
    wait_exponential,
    wait_exponential_jitter,
    wait_fixed,
    wait_none,
    wait_random,
    wait_random_exponential,
)

from langchain_parallel_plus import DeclarationError, RetryPolicy, TimeoutPolicy
from langchain_parallel_plus._engine.backoff import call_state, computed_wait
from langchain_parallel_plus.policy.foreign import retry_of, timeout_of


def is_lost(error: BaseException) -> bool:
    return isinstance(error, ConnectionError)


def test_ours_is_taken_as_it_is() -> None:
    retry, timeout = RetryPolicy(), TimeoutPolicy()
    assert retry_of(retry) is retry
    assert timeout_of(timeout) is timeout


def test_langgraphs_retry_policy_keeps_its_numbers() -> None:
    foreign = langgraph.types.RetryPolicy(
        initial_interval=1, backoff_factor=3, max_interval=60, max_attempts=7, jitter=False, retry_on=ConnectionError
    )
    assert retry_of(foreign) == RetryPolicy(
        max_attempts=7,
        initial_interval=1.0,
        backoff_factor=3,
        max_interval=60.0,
        jitter=False,
        retry_on=ConnectionError,
    )


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ({}, None),  # its default retries nearly everything: nobody has asked for that
        ({"retry_on": (KeyError, ValueError)}, (KeyError, ValueError)),
        ({"retry_on": [KeyError]}, (KeyError,)),
        ({"retry_on": is_lost}, is_lost),
    ],
)
def test_what_langgraphs_policy_retries(theirs: dict[str, Any], ours: Any) -> None:
    assert retry_of(langgraph.types.RetryPolicy(**theirs)).retry_on == ours


@pytest.mark.parametrize("many", [list, tuple])
def test_a_sequence_of_langgraph_policies_is_refused(many: Any) -> None:
    policies = many([langgraph.types.RetryPolicy(), langgraph.types.RetryPolicy()])
    with pytest.raises(DeclarationError, match=r"retry was given 2 policies in a (list|tuple); a branch has one"):
        retry_of(policies)


def test_langgraphs_timeouts_are_those_of_one_attempt() -> None:
    foreign = langgraph.types.TimeoutPolicy(run_timeout=timedelta(minutes=1), idle_timeout=10)
    assert timeout_of(foreign) == TimeoutPolicy(attempt_timeout=60, idle_timeout=10)
    assert timeout_of(langgraph.types.TimeoutPolicy(run_timeout=5, refresh_on="heartbeat")).attempt_timeout == 5
    with pytest.raises(DeclarationError, match="refresh_on='heartbeat', which no branch can send"):
        timeout_of(langgraph.types.TimeoutPolicy(idle_timeout=5, refresh_on="heartbeat"))


@pytest.mark.parametrize(
    "wrong", [3, None, "3", is_lost, TimeoutPolicy(), RetryPolicy, langgraph.types.RetryPolicy, Retrying, object()]
)
def test_what_is_no_retry_policy_is_refused(wrong: Any) -> None:
    with pytest.raises(DeclarationError, match=r"retry (takes|was given)") as caught:
        retry_of(wrong)
    assert "\nhelp: write retry=RetryPolicy(" in str(caught.value)


@pytest.mark.parametrize(
    "wrong", [3, None, RetryPolicy(), TimeoutPolicy, langgraph.types.TimeoutPolicy, stop_after_delay(3)]
)
def test_what_is_no_timeout_policy_is_refused(wrong: Any) -> None:
    with pytest.raises(DeclarationError, match="timeout takes a TimeoutPolicy"):
        timeout_of(wrong)


@pytest.mark.parametrize(
    ("foreign", "ours"),
    [
        (stop_after_attempt(5), RetryPolicy(max_attempts=5)),
        (stop_after_attempt(5) | stop_after_attempt(4), RetryPolicy(max_attempts=4)),
        (stop_after_attempt(5) & stop_after_attempt(4), RetryPolicy(max_attempts=5)),
        (retry_if_exception_type(KeyError), RetryPolicy(retry_on=KeyError)),
        (retry_if_exception_type((KeyError, OSError)), RetryPolicy(retry_on=(KeyError, OSError))),
        (retry_if_exception_type(Exception), RetryPolicy(retry_on=Exception)),
    ],
    ids=repr,
)
def test_tenacitys_stops_and_types_are_fields(foreign: Any, ours: RetryPolicy) -> None:
    assert retry_of(foreign) == ours


@pytest.mark.parametrize("kind", [Retrying, AsyncRetrying])
def test_a_whole_retrying_is_taken(kind: Any) -> None:
    foreign = kind(
        stop=stop_after_attempt(4), wait=wait_fixed(2), retry=retry_if_exception_type(KeyError), reraise=True
    )
    assert retry_of(foreign) == RetryPolicy(
        max_attempts=4, initial_interval=2, backoff_factor=1, max_interval=2, jitter=False, retry_on=KeyError
    )
    assert retry_of(kind(stop=stop_after_attempt(2))).retry_on is None  # as with LangGraph's default


WAITS = [
    wait_none(),
    wait_fixed(2),
    wait_fixed(timedelta(seconds=3)),
    wait_random(0, 3),
    wait_exponential(),
    wait_exponential(multiplier=0.5, max=10, exp_base=3),
    wait_exponential(multiplier=2, max=60, min=1),
    wait_random_exponential(multiplier=0.5, max=20),
    wait_exponential_jitter(initial=1, max=8, jitter=0),
]


@pytest.mark.parametrize("wait", WAITS, ids=lambda wait: f"{type(wait).__name__} {vars(wait)}")
@pytest.mark.parametrize("chance", [0.0, 0.37, 0.999])
def test_waits_are_as_long_as_tenacitys(wait: Any, chance: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("random.uniform", lambda low, high: low + (high - low) * chance)
    monkeypatch.setattr("random.random", lambda: chance)
    policy = retry_of(wait)
    for attempt in range(1, 9):
        state = call_state(attempt, KeyError("x"))
        assert computed_wait(policy, state, chance) == pytest.approx(wait(state))


@pytest.mark.parametrize(
    ("strategy", "yes", "no"),
    [
        (retry_if_exception(is_lost), ConnectionResetError(), KeyError()),
        (retry_if_not_exception_type(KeyError), OSError(), KeyError()),
        (retry_if_exception_message(match="busy"), KeyError("x"), OSError("idle")),
        (retry_any(retry_if_exception_type(KeyError), retry_if_exception_message("busy")), KeyError(), OSError()),
        (retry_if_exception_type(OSError) & retry_if_exception_message("busy"), OSError("busy"), KeyError("busy")),
    ],
    ids=lambda value: type(value).__name__,
)
def test_tenacitys_questions_about_the_error_are_asked(strategy: Any, yes: Exception, no: Exception) -> None:
    judge: Any = retry_of(strategy).retry_on
    if isinstance(strategy, retry_if_exception_message):
        yes = OSError("busy")
    assert judge(yes) is True
    assert judge(no) is False


def test_the_cause_is_looked_at() -> None:
    judge: Any = retry_of(retry_if_exception_cause_type(ConnectionError)).retry_on
    error = ValueError()
    assert judge(error) is False
    error.__cause__ = ConnectionResetError()
    assert judge(error) is True


def test_a_tenacity_question_that_can_travel_travels() -> None:
    policy = retry_of(retry_if_exception_cause_type(ConnectionError))
    judge: Any = pickle.loads(pickle.dumps(policy)).retry_on
    assert judge(ValueError()) is False


async def is_busy(error: BaseException) -> bool:
    return True


class OwnStop(stop_after_attempt):
    """May mean anything."""


@pytest.mark.parametrize(
    ("foreign", "says"),
    [
        (Retrying(), "_stop_never cannot be expressed as a RetryPolicy\nhelp: use stop_after_attempt"),
        (stop_after_delay(30), r"use stop_after_attempt\(n\), and TimeoutPolicy\(run_timeout=30\) for the time"),
        (stop_after_attempt(3) | stop_after_delay(30), "stop_after_delay cannot be expressed"),
        (tenacity.stop_before_delay(30), "run_timeout=30"),
        (OwnStop(3), "OwnStop cannot be expressed"),
        (wait_fixed(1) + wait_random(0, 1), "wait_combine cannot be expressed"),
        (tenacity.wait_chain(wait_fixed(1), wait_fixed(5)), "wait_chain cannot be expressed"),
        (wait_random(1, 2), "wait_random cannot be expressed"),
        (wait_exponential(multiplier=1, min=4), "wait_exponential cannot be expressed"),
        (wait_random_exponential(min=1), "wait_random_exponential cannot be expressed"),
        (wait_exponential_jitter(), "wait_exponential_jitter cannot be expressed"),
        (tenacity.wait_incrementing(), "wait_incrementing cannot be expressed"),
        (wait_exponential(exp_base=0.5), "backoff_factor must be at least 1"),
        (tenacity.wait_exception(lambda error: 1.0), "Retry-After is waited for"),
        (tenacity.retry_if_result(bool), r"JoinPolicy\(accept=...\)"),
        (tenacity.retry_if_exception_type() | tenacity.retry_if_result(bool), "retry_if_result cannot be expressed"),
        (tenacity.retry_unless_exception_type(KeyError), "retry_unless_exception_type cannot be expressed"),
        (tenacity.retry_if_not_exception_message("x"), "retry_if_not_exception_message cannot be expressed"),
        (tenacity.retry_always, "_retry_always cannot be expressed"),
        (retry_if_exception_type(KeyboardInterrupt), "takes exception types"),
        (tenacity.asyncio.retry_if_exception(is_busy), "retry_if_exception cannot be expressed"),
        (retry_if_exception(is_busy), "retry_if_exception cannot be expressed"),  # type: ignore[arg-type]  # the mistake
        (Retrying(stop=lambda state: True), "a function in tenacity's terms cannot be expressed"),
        (Retrying(stop=stop_after_attempt(2), sleep=print), r"Retrying\(sleep=...\) cannot be kept"),
        (Retrying(stop=stop_after_attempt(2), before_sleep=print), r"before_sleep=...\) cannot be kept"),
        (AsyncRetrying(stop=stop_after_attempt(2), after=print), r"AsyncRetrying\(after=...\) cannot be kept"),
        (Retrying(stop=stop_after_attempt(2), retry_error_callback=print), r"retry_error_callback=...\) cannot"),
    ],
)
def test_what_cannot_be_expressed_is_refused_with_the_way_out(foreign: Any, says: str) -> None:
    with pytest.raises(DeclarationError, match=says) as caught:
        retry_of(foreign)
    assert "\nhelp: " in str(caught.value)


async def test_one_retrying_may_serve_many_tasks_at_once() -> None:
    shared = retry_of(AsyncRetrying(stop=stop_after_attempt(3), retry=retry_if_exception(is_lost), wait=wait_none()))
    judge: Any = shared.retry_on

    async def ask(error: Exception) -> bool:
        await asyncio.sleep(0)
        return bool(judge(error))

    errors = [ConnectionError() if number % 3 else KeyError() for number in range(60)]
    assert await asyncio.gather(*map(ask, errors)) == [is_lost(error) for error in errors]


def test_langgraph_is_not_imported() -> None:
    script = "import sys, langchain_parallel_plus.policy.foreign; print('langgraph' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
