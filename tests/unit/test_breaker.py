from __future__ import annotations

import pickle
from typing import Any

import pytest

from langchain_parallel_plus import (
    BranchTimeoutError,
    DeadlineExceededError,
    DeclarationError,
    LimiterTimeoutError,
    QuotaExhaustedError,
)
from langchain_parallel_plus._engine.breaker import (
    IGNORED,
    SUCCEEDED,
    Admitted,
    BreakerState,
    Closed,
    HalfOpen,
    Open,
    Refused,
    Result,
    ask,
    ended,
    result_of,
    still_admitted,
)
from langchain_parallel_plus._engine.sliding_counts import SlidingCounts
from langchain_parallel_plus.errors import CircuitOpenError
from langchain_parallel_plus.outcome import ErrorKind
from langchain_parallel_plus.policy.breaker import CircuitBreaker
from langchain_parallel_plus.providers.classified import Classified
from langchain_parallel_plus.providers.classify import classify

BAD = Result("bad", what="server")
FOUR = CircuitBreaker(minimum_calls=4, window=10, open_for=5)


def closed(breaker: CircuitBreaker) -> BreakerState:
    return Closed(0, SlidingCounts(breaker.window))


def call(
    breaker: CircuitBreaker, state: BreakerState, result: Result, begun: float, done: float | None = None
) -> BreakerState:
    state, answer = ask(breaker, state, begun)
    assert isinstance(answer, Admitted)
    return ended(breaker, state, answer, result, begun if done is None else done)


def play(breaker: CircuitBreaker, results: list[Result], every: float = 0.0) -> BreakerState:
    state = closed(breaker)
    for number, result in enumerate(results):
        state = call(breaker, state, result, number * every)
    return state


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"failure_ratio": 0}, "failure_ratio must be more than 0 and at most 1, got 0"),
        ({"failure_ratio": 50}, "got 50"),
        ({"failure_ratio": float("nan")}, "got nan"),
        ({"minimum_calls": 0}, "minimum_calls must be a whole number of at least 1"),
        ({"window": 0}, "window must be more than 0 seconds"),
        ({"window": None}, "window must be more than 0 seconds"),
        ({"open_for": -1}, "open_for must be more than 0 seconds"),
        ({"probes": 0}, "probes must be a whole number of at least 1"),
        ({"name": ""}, "name must be a string that is not empty"),
        ({"name": 3}, "got 3"),
    ],
)
def test_a_declaration_that_makes_no_sense_is_refused_with_the_way_out(given: dict[str, Any], says: str) -> None:
    with pytest.raises(DeclarationError) as caught:
        CircuitBreaker(**given)
    assert says in str(caught.value)
    assert "\nhelp: " in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "health"),
    [
        (ErrorKind.OVERLOADED, "bad"),
        (ErrorKind.SERVER, "bad"),
        (ErrorKind.TIMEOUT, "bad"),
        (ErrorKind.CONNECTION, "bad"),
        (ErrorKind.QUOTA_EXHAUSTED, "closed"),
        (ErrorKind.AUTH, "closed"),
        (ErrorKind.RATE_LIMIT, "unknown"),
        (ErrorKind.TOO_LARGE_FOR_QUOTA, "unknown"),
        (ErrorKind.CONTEXT_LENGTH, "unknown"),
        (ErrorKind.CONTENT_FILTER, "unknown"),
        (ErrorKind.OUTPUT_LENGTH, "unknown"),
        (ErrorKind.NOT_FOUND, "unknown"),
        (ErrorKind.BAD_REQUEST, "unknown"),
        (ErrorKind.LOCAL, "unknown"),
        (ErrorKind.CANCELLED, "unknown"),
        (ErrorKind.UNKNOWN, "unknown"),
    ],
)
def test_only_an_outage_counts_and_only_a_closed_account_opens_at_once(kind: ErrorKind, health: str) -> None:
    assert result_of(Exception("from a provider"), Classified(kind)).health == health


@pytest.mark.parametrize(
    ("error", "health"),
    [
        (BranchTimeoutError("a call took too long"), "bad"),
        (DeadlineExceededError("the fan-out's time is over"), "unknown"),
        (LimiterTimeoutError("no admission in time"), "unknown"),
        (QuotaExhaustedError("the limiter has closed the key"), "unknown"),
        (CircuitOpenError("another one is open", retry_after=3), "unknown"),
    ],
)
def test_of_our_own_errors_only_a_calls_timeout_counts(error: Exception, health: str) -> None:
    assert result_of(error, classify(error)).health == health


def test_it_opens_at_the_ratio_but_not_below_the_minimum() -> None:
    assert isinstance(play(FOUR, [BAD, BAD, BAD]), Closed)
    opened = play(FOUR, [BAD, BAD, SUCCEEDED, SUCCEEDED])
    assert isinstance(opened, Open)
    assert opened.why == "2 of the 4 calls of the last 10 s failed"
    assert isinstance(play(FOUR, [BAD, SUCCEEDED, SUCCEEDED, SUCCEEDED, BAD]), Closed)


def test_what_counts_as_nothing_is_no_call_either() -> None:
    assert isinstance(play(FOUR, [BAD, BAD, BAD, *[IGNORED] * 50]), Closed)
    assert isinstance(play(FOUR, [BAD, *[IGNORED] * 50, BAD, BAD, BAD]), Open)


def test_failures_are_forgotten_after_the_window() -> None:
    assert isinstance(play(FOUR, [BAD] * 40, every=4.0), Closed)  # never four within ten seconds
    assert isinstance(play(FOUR, [BAD] * 4, every=2.0), Open)


def test_while_open_it_refuses_and_says_for_how_long() -> None:
    state = play(FOUR, [BAD] * 4)
    same, answer = ask(FOUR, state, 2.0)
    assert answer == Refused(3.0, "4 of the 4 calls of the last 10 s failed")
    assert same is state


def test_one_probe_at_a_time_and_its_success_closes_it() -> None:
    state, probe = ask(FOUR, play(FOUR, [BAD] * 4), 5.0)
    assert probe == Admitted(2, 5.0, probe=True)
    assert isinstance(ask(FOUR, state, 6.0)[1], Refused)
    state = ended(FOUR, state, probe, SUCCEEDED, 7.0)
    assert state == Closed(3, SlidingCounts(10.0))
    assert isinstance(call(FOUR, state, BAD, 7.0), Closed)  # what was before is forgotten


def test_a_probe_that_fails_opens_it_again() -> None:
    state, probe = ask(FOUR, play(FOUR, [BAD] * 4), 5.0)
    assert isinstance(probe, Admitted)
    state = ended(FOUR, state, probe, BAD, 7.0)
    assert state == Open(3, 12.0, "the probe failed with server")


def test_a_probe_that_says_nothing_lets_the_next_one_through() -> None:
    state, probe = ask(FOUR, play(FOUR, [BAD] * 4), 5.0)
    assert isinstance(probe, Admitted)
    state = ended(FOUR, state, probe, IGNORED, 6.0)
    assert isinstance(state, HalfOpen)
    assert isinstance(ask(FOUR, state, 6.0)[1], Admitted)


def test_as_many_probes_as_declared_have_to_succeed() -> None:
    breaker = CircuitBreaker(minimum_calls=1, open_for=5, probes=3)
    state = call(breaker, closed(breaker), BAD, 0.0)
    probes = []
    for _ in range(3):
        state, answer = ask(breaker, state, 5.0)
        assert isinstance(answer, Admitted)
        probes.append(answer)
    assert isinstance(ask(breaker, state, 5.0)[1], Refused)
    for probe in probes[:2]:
        state = ended(breaker, state, probe, SUCCEEDED, 6.0)
        assert isinstance(state, HalfOpen)
        assert isinstance(ask(breaker, state, 6.0)[1], Refused)  # no fourth
    assert isinstance(ended(breaker, state, probes[2], SUCCEEDED, 6.0), Closed)


def test_a_probe_never_heard_of_again_does_not_close_the_key_for_ever() -> None:
    state, _ = ask(FOUR, play(FOUR, [BAD] * 4), 5.0)
    assert isinstance(ask(FOUR, state, 124.9)[1], Refused)
    assert isinstance(ask(FOUR, state, 125.0)[1], Admitted)


@pytest.mark.parametrize(("reset", "until"), [(None, 6.0), (3600.0, 3601.0), (2.0, 3.0)])
def test_an_exhausted_quota_opens_it_until_the_reset(reset: float | None, until: float) -> None:
    error = Classified(ErrorKind.QUOTA_EXHAUSTED, retry_after=reset)
    state = call(FOUR, closed(FOUR), result_of(Exception(), error), 1.0)
    assert state == Open(1, until, "a call failed with quota_exhausted")


def test_calls_begun_before_the_opening_count_no_more() -> None:
    state = closed(FOUR)
    admitted = []
    for _ in range(20):
        state, answer = ask(FOUR, state, 0.0)
        assert isinstance(answer, Admitted)
        admitted.append(answer)
    for one in admitted[:4]:
        state = ended(FOUR, state, one, BAD, 1.0)
    assert state == Open(1, 6.0, "4 of the 4 calls of the last 10 s failed")
    for one in admitted[4:10]:
        assert ended(FOUR, state, one, BAD, 3.0) is state  # not until 8.0
        assert ended(FOUR, state, one, SUCCEEDED, 3.0) is state
    state, probe = ask(FOUR, state, 6.0)
    assert isinstance(probe, Admitted)
    for one in admitted[10:]:
        assert ended(FOUR, state, one, BAD, 6.5) is state
        assert ended(FOUR, state, one, SUCCEEDED, 6.5) is state
    state = ended(FOUR, state, probe, SUCCEEDED, 7.0)
    for one in admitted[10:]:
        assert ended(FOUR, state, one, BAD, 7.5) is state


def test_a_late_reset_is_news_while_it_is_open() -> None:
    state = closed(FOUR)
    state, late = ask(FOUR, state, 0.0)
    assert isinstance(late, Admitted)
    state = call(FOUR, state, Result("closed", what="auth"), 0.0)
    assert isinstance(state, Open)
    later = ended(FOUR, state, late, Result("closed", reset=900.0, what="quota_exhausted"), 1.0)
    assert isinstance(later, Open)
    assert (later.until, later.period) == (901.0, state.period)
    assert ended(FOUR, later, late, Result("closed", reset=1.0), 1.0) == later


def test_a_call_that_has_waited_asks_again() -> None:
    state, waiting = ask(FOUR, closed(FOUR), 0.0)
    assert isinstance(waiting, Admitted)
    assert still_admitted(state, waiting)
    for _ in range(4):
        state = call(FOUR, state, BAD, 0.0)
    assert not still_admitted(state, waiting)


def test_the_error_is_local_for_retry_and_fallback_and_travels() -> None:
    error = pickle.loads(pickle.dumps(CircuitOpenError("it is open", retry_after=12.5, help="wait")))
    assert (error.retry_after, str(error)) == (12.5, "it is open\nhelp: wait")
    verdict = classify(error)
    assert (verdict.kind, verdict.retryable, verdict.fallback) == (ErrorKind.LOCAL, False, True)
