from __future__ import annotations

import contextlib
import copy
import gc
import logging
import os
import pickle
import signal
import threading

import pytest

from langchain_parallel_plus import DeclarationError
from langchain_parallel_plus._engine.breaker import SUCCEEDED, Closed, HalfOpen, Open, Result
from langchain_parallel_plus._engine.breaker_guard import BREAKERS, BreakerGuard
from langchain_parallel_plus.errors import CircuitOpenError
from langchain_parallel_plus.policy.breaker import CircuitBreaker

BAD = Result("bad", what="server")


def trip(guard: BreakerGuard, now: float = 0.0) -> None:
    for _ in range(guard.declared.minimum_calls):
        guard.leave(guard.enter(now), BAD, now)


def test_an_open_breaker_refuses_with_numbers_and_a_next_step() -> None:
    guard = BreakerGuard(CircuitBreaker(name="openai"))
    trip(guard)
    with pytest.raises(CircuitOpenError) as caught:
        guard.enter(12.5)
    assert str(caught.value) == (
        "circuit breaker 'openai' is open for another 17.5 s: 10 of the 10 calls of the last 60 s failed; "
        "the call was not made\nhelp: give the branch fallbacks, or call again later"
    )
    assert caught.value.retry_after == 17.5
    guard.enter(30.0)
    with pytest.raises(CircuitOpenError, match="is open, a probe is under way") as caught:
        guard.enter(30.0)
    assert caught.value.retry_after == 0


def test_its_statistics_tell_the_state() -> None:
    guard = BreakerGuard(CircuitBreaker(name="seen", minimum_calls=2))
    guard.leave(guard.enter(0.0), SUCCEEDED, 0.0)
    guard.leave(guard.enter(0.0), SUCCEEDED, 0.0)
    guard.leave(guard.enter(0.0), BAD, 0.0)
    seen = guard.statistics(1.0)
    assert (seen.name, seen.state, seen.calls, seen.failures, seen.opens_in) == ("seen", "closed", 3, 1, 0)
    guard.leave(guard.enter(0.0), BAD, 0.0)
    assert (guard.statistics(10.0).state, guard.statistics(10.0).opens_in) == ("open", 20.0)
    guard.enter(30.0)
    assert guard.statistics(30.0).state == "half_open"


def test_opening_is_a_warning_and_closing_is_told(caplog: pytest.LogCaptureFixture) -> None:
    guard = BreakerGuard(CircuitBreaker(name="told", minimum_calls=1))
    with caplog.at_level(logging.INFO, logger="langchain_parallel_plus"):
        trip(guard)
        guard.leave(guard.enter(30.0), SUCCEEDED, 31.0)
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", "circuit breaker 'told' opened for 30 s: 1 of the 1 calls of the last 60 s failed"),
        ("INFO", "circuit breaker 'told' closed: its probes succeeded"),
    ]


def test_who_has_waited_is_let_through_again_unless_it_has_opened() -> None:
    guard = BreakerGuard(CircuitBreaker(minimum_calls=1))
    waiting = guard.enter(0.0)
    assert guard.renew(waiting, 1.0) is waiting
    trip(guard, 1.0)
    with pytest.raises(CircuitOpenError):
        guard.renew(waiting, 2.0)
    assert guard.renew(waiting, 31.0).probe


def test_breakers_of_one_name_share_one_state_and_others_do_not() -> None:
    one, two = CircuitBreaker(name="shared"), CircuitBreaker(name="shared")
    assert BREAKERS.of(one) is BREAKERS.of(two) is BREAKERS.of(one)
    assert BREAKERS.of(CircuitBreaker(name="another")) is not BREAKERS.of(one)
    plain, equal = CircuitBreaker(), CircuitBreaker()
    assert plain == equal
    assert BREAKERS.of(plain) is BREAKERS.of(plain)
    assert BREAKERS.of(plain) is not BREAKERS.of(equal)


def test_a_name_declared_again_with_other_values_is_an_error() -> None:
    first = CircuitBreaker(name="declared", open_for=30)
    BREAKERS.of(first)
    with pytest.raises(DeclarationError) as caught:
        BREAKERS.of(CircuitBreaker(name="declared", open_for=5))
    assert "CircuitBreaker 'declared' was declared before with other values: open_for 30.0, then 5.0" in str(
        caught.value
    )
    assert "\nhelp: those of one name share one state" in str(caught.value)


def test_the_state_lives_as_long_as_a_declaration_is_kept() -> None:
    one, two = CircuitBreaker(name="kept", minimum_calls=1), CircuitBreaker(name="kept", minimum_calls=1)
    trip(BREAKERS.of(one))
    BREAKERS.of(two)
    del one
    gc.collect()
    assert isinstance(BREAKERS.of(two).state, Open)
    del two
    gc.collect()
    assert isinstance(BREAKERS.of(CircuitBreaker(name="kept", minimum_calls=99)).state, Closed)


@pytest.mark.parametrize("travel", [lambda one: pickle.loads(pickle.dumps(one)), copy.deepcopy, copy.copy])
def test_it_travels_as_a_declaration(travel: object) -> None:
    named, plain = CircuitBreaker(name="travels", probes=2), CircuitBreaker(probes=2)
    assert travel(named) == named  # type: ignore[operator]
    assert BREAKERS.of(travel(named)) is BREAKERS.of(named)  # type: ignore[operator]
    assert BREAKERS.of(travel(plain)) is not BREAKERS.of(plain)  # type: ignore[operator]
    assert repr(named) == "CircuitBreaker(probes=2, name='travels')"


def test_many_threads_find_one_state_and_count_every_call() -> None:
    declared = [CircuitBreaker(name="threads", minimum_calls=10_000) for _ in range(8)]
    together = threading.Barrier(8)

    def work(own: CircuitBreaker) -> None:
        together.wait()
        for number in range(500):
            guard = BREAKERS.of(own)
            guard.leave(guard.enter(0.0), BAD if number % 2 else SUCCEEDED, 0.0)

    threads = [threading.Thread(target=work, args=(own,)) for own in declared]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seen = BREAKERS.of(declared[0]).statistics(0.0)
    assert (seen.calls, seen.failures) == (4000, 2000)


def test_of_many_threads_only_the_probes_get_through() -> None:
    guard = BreakerGuard(CircuitBreaker(minimum_calls=1, probes=3))
    trip(guard)
    together, through = threading.Barrier(16), []

    def work() -> None:
        together.wait()
        with contextlib.suppress(CircuitOpenError):
            through.append(guard.enter(30.0))

    threads = [threading.Thread(target=work) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(through) == 3


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_process_has_the_state_but_not_the_parents_probes_and_locks() -> None:
    declared = CircuitBreaker(name="forked", minimum_calls=1)
    guard = BREAKERS.of(declared)
    trip(guard)
    guard.enter(30.0)
    assert isinstance(guard.state, HalfOpen)
    with guard._lock:  # as if another thread were in the middle of it
        child = os.fork()
        if child == 0:
            code = 1
            try:
                signal.signal(signal.SIGALRM, signal.SIG_DFL)
                signal.alarm(5)  # rather dead than stuck
                BREAKERS.of(declared).enter(31.0)
                code = 0
            finally:
                os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    with pytest.raises(CircuitOpenError):
        guard.enter(31.0)
