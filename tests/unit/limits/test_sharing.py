"""Limiters of one name share one quota: in a process, after copying, after pickling, and across a fork."""

from __future__ import annotations

import copy
import gc
import os
import pickle
import signal
import threading
import uuid
import weakref
from typing import TYPE_CHECKING

import httpx
import pytest

from langchain_parallel_plus.errors import DeclarationError, QuotaExhaustedError
from langchain_parallel_plus.limits import Cost, RateLimiter, reset
from langchain_parallel_plus.providers.classify import classify
from langchain_parallel_plus.providers.headers import parse_rate_limit_headers

if TYPE_CHECKING:
    from collections.abc import Callable

REQUEST = httpx.Request("POST", "https://api.example.com")


def triple(call: object) -> Cost:
    return Cost(tokens=3)


def a_name() -> str:
    return f"key {uuid.uuid4()}"


def test_limiters_of_one_name_share_the_quota() -> None:
    name = a_name()
    first, second = (RateLimiter(requests_per_minute=60, burst=1, name=name) for _ in range(2))
    assert first.try_acquire()
    assert not second.try_acquire()
    assert first.account is second.account


def test_limiters_without_a_name_do_not() -> None:
    first, second = (RateLimiter(requests_per_minute=60, burst=1) for _ in range(2))
    assert first.try_acquire()
    assert second.try_acquire()


def test_a_name_declared_with_other_limits_is_refused_with_the_numbers() -> None:
    name = a_name()
    kept = RateLimiter(requests_per_minute=60, name=name)
    with pytest.raises(DeclarationError, match=r"requests_per_minute 60, then 90; tokens_per_minute None, then 5000"):
        RateLimiter(requests_per_minute=90, tokens_per_minute=5_000, name=name)
    assert kept.try_acquire()


def test_a_changed_rate_does_not_make_the_declaration_disagree() -> None:
    name = a_name()
    first = RateLimiter(requests_per_minute=60, name=name)
    first.set_rate(requests_per_minute=120)
    assert RateLimiter(requests_per_minute=60, name=name).statistics().rates["requests_per_minute"].limit == 120


def use_once(name: str) -> bool:
    return RateLimiter(requests_per_minute=60, burst=1, name=name).try_acquire()


def test_a_limiter_made_anew_for_each_request_has_the_name_s_quota() -> None:
    name = a_name()
    assert use_once(name)
    gc.collect()
    assert not use_once(name)
    with pytest.raises(DeclarationError, match="requests_per_minute 60, then 90"):
        RateLimiter(requests_per_minute=90, burst=1, name=name)
    reset(name)
    assert RateLimiter(requests_per_minute=90, name=name).try_acquire()


def test_a_closed_key_stays_closed_while_nobody_holds_its_limiter() -> None:
    name = a_name()
    RateLimiter(requests_per_minute=60, name=name).close("unpaid")
    gc.collect()
    with pytest.raises(QuotaExhaustedError, match="unpaid"):
        RateLimiter(requests_per_minute=60, name=name).acquire()


def test_what_is_pickled_and_dropped_is_loaded_with_what_it_had_taken() -> None:
    limiter = RateLimiter(requests_per_minute=60, burst=1, name=a_name())
    assert limiter.try_acquire()
    data = pickle.dumps(limiter)
    del limiter
    gc.collect()
    assert not pickle.loads(data).try_acquire()


def in_use(limiter: RateLimiter) -> None:
    limiter.reserve().release()


def closed(limiter: RateLimiter) -> None:
    limiter.close("unpaid")


def paused(limiter: RateLimiter) -> None:
    limiter.pause(900)


def set_anew(limiter: RateLimiter) -> None:
    limiter.set_rate(requests_per_minute=30)


def careful(limiter: RateLimiter) -> None:
    ticket = limiter.reserve()
    ticket.refused(classify(httpx.HTTPStatusError("", request=REQUEST, response=httpx.Response(429, request=REQUEST))))


def told_of_less(limiter: RateLimiter) -> None:
    limiter.reserve().heard(parse_rate_limit_headers({"x-ratelimit-limit-requests-minute": "20"}, 0.0))


@pytest.mark.parametrize(
    ("provider", "happens", "after", "kept"),
    [
        (None, in_use, 0.5, True),
        (None, in_use, 30.0, True),  # the burst is there again, and the server's minute is not over
        (None, in_use, 62.0, False),
        ("openai", in_use, 0.5, True),
        ("openai", in_use, 30.0, False),
        (None, closed, 600.0, True),
        (None, paused, 600.0, True),
        (None, paused, 1_000.0, False),
        (None, set_anew, 600.0, True),
        (None, careful, 120.0, True),
        (None, careful, 50_000.0, False),
        (None, told_of_less, 600.0, True),
    ],
)
def test_of_very_many_names_only_those_go_that_cannot_be_told_from_new_ones(
    provider: str | None, happens: Callable[[RateLimiter], None], after: float, kept: bool
) -> None:
    now = [0.0]
    limiter = RateLimiter(requests_per_minute=60, provider=provider, name=a_name(), clock=lambda: now[0])
    happens(limiter)
    account = weakref.ref(limiter.account)
    del limiter
    now[0] = after
    for _ in range(600):
        RateLimiter(requests_per_minute=60, name=a_name())
    gc.collect()
    assert (account() is not None) == kept


def test_a_cell_with_another_limit_runs_again_once_its_name_is_forgotten() -> None:
    name, other = a_name(), a_name()
    kept, elsewhere = RateLimiter(requests_per_minute=60, name=name), RateLimiter(requests_per_minute=60, name=other)
    with pytest.raises(DeclarationError, match=r"limits\.reset"):
        RateLimiter(requests_per_minute=90, name=name)
    reset(name)
    fresh = RateLimiter(requests_per_minute=90, name=name)
    assert fresh.account is not kept.account
    assert kept.try_acquire()
    assert RateLimiter(requests_per_minute=60, name=other).account is elsewhere.account
    reset()
    assert RateLimiter(requests_per_minute=90, name=other).account is not elsewhere.account


def test_a_name_that_nobody_has_is_forgotten_without_a_word() -> None:
    reset(a_name())


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda limiter: pickle.loads(pickle.dumps(limiter))])
@pytest.mark.parametrize("named", [True, False])
def test_a_duplicate_is_under_the_same_quota(duplicate: object, named: bool) -> None:
    limiter = RateLimiter(
        requests_per_minute=60, burst=1, name=a_name() if named else None, models="gpt*", estimate=triple
    )
    other = duplicate(limiter)
    assert limiter.try_acquire()
    assert not other.try_acquire()
    assert other.estimate.__self__._estimate is triple
    assert repr(other) == repr(limiter)


def test_pickling_into_another_process_keeps_the_declaration() -> None:
    limiter = RateLimiter(requests_per_minute=60, concurrency=3, burst=2, name=a_name())
    data, shown = pickle.dumps(limiter), repr(limiter)
    reset()  # as if in another process
    restored = pickle.loads(data)
    assert repr(restored) == shown
    assert restored.statistics().submitted == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")
def test_a_forked_child_keeps_the_quota_and_forgets_the_parent_s_waiters() -> None:
    limiter = RateLimiter(requests_per_minute=30, burst=4, concurrency=2)
    held = limiter.reserve(Cost(requests=2, slots=2))
    limiter.account.corrections._lock.acquire()  # as a thread of the parent might, in the moment of the fork
    waiter = threading.Thread(target=lambda: limiter.reserve(Cost(slots=1)).wait(60), daemon=True)
    waiter.start()
    while not limiter.statistics().queued:
        threading.Event().wait(0.005)
    child = os.fork()
    if child == 0:
        signal.alarm(30)
        limiter.account.corrections.observe("branch", "model", estimated=1, actual=1)
        statistics = limiter.statistics()
        fresh = (statistics.queued, statistics.in_flight) == (0, 0) and statistics.rates[
            "requests_per_minute"
        ].available < 1
        held.release()
        limiter.acquire()  # waits for the schedule, with nobody of the parent's in the way
        os._exit(0 if fresh and limiter.statistics().in_flight == 0 else 1)
    _, status = os.waitpid(child, 0)
    held.release()
    waiter.join()
    assert os.waitstatus_to_exitcode(status) == 0
