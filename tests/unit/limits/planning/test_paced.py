"""The schedule for providers that count in windows, over random arrivals and against brute force."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langchain_parallel_plus.limits.learning.care import Care
from langchain_parallel_plus.limits.learning.profile import profile_of
from langchain_parallel_plus.limits.learning.rates import known_rate
from langchain_parallel_plus.limits.planning.bucket import Rate
from langchain_parallel_plus.limits.planning.guard import JITTER, WindowGuard, window_share
from langchain_parallel_plus.limits.planning.lanes import Request
from langchain_parallel_plus.limits.planning.paced import PacedBucket
from langchain_parallel_plus.limits.planning.planner import Planner
from tests.unit.limits.servers import WINDOWED, server

TIGHT = 1e-3


def rate(limit: float, *, seconds: float = 10.0, utilisation: float = 1.0, guarded: tuple[float, ...] = ()) -> Rate:
    return Rate(
        limit=limit,
        window=60.0,
        burst=max(1.0, limit * seconds / 60),
        utilisation=utilisation,
        refill="window",
        guarded=guarded,
    )


ARRIVALS = st.lists(
    st.tuples(
        st.one_of(st.just(0.0), st.floats(0.0, 3.0), st.floats(0.0, 90.0)),  # seconds since the last
        st.integers(1, 12),  # how many at once
        st.sampled_from([1.0, 1.0, 2.0, 7.0]),  # units each
    ),
    max_size=25,
)


def admissions(rates: dict[str, Rate], arrivals: list[tuple[float, int, float]]) -> list[tuple[float, float]]:
    """Follow the planner's own wake-ups; return when how much was admitted."""
    plan: Planner[Request] = Planner(rates)
    now, admitted = 1_000.0, []

    def advance() -> float | None:
        grants, wake_at = plan.advance(now)
        admitted.extend((now, request.amounts[0]) for request in grants)
        return wake_at

    for gap, count, units in arrivals:
        until = now + gap
        while (wake_at := advance()) is not None and wake_at <= until:
            now = wake_at
        now = until
        for _ in range(count):
            plan.submit(Request(amounts=(units,)), now)
    while (wake_at := advance()) is not None:
        now = wake_at
    return admitted


@settings(max_examples=150, deadline=None)
@given(arrivals=ARRIVALS, seconds=st.sampled_from([2.0, 10.0, 30.0]))
def test_no_window_as_long_as_the_burst_holds_more_than_its_rate_and_one_request(
    arrivals: list[tuple[float, int, float]], seconds: float
) -> None:
    paced = rate(60, seconds=seconds)
    log = admissions({"requests": paced}, arrivals)
    assert len(log) == sum(count for _, count, _ in arrivals)
    per_second = 1 / paced.interval
    for first, (begin, _) in enumerate(log):
        taken, largest = 0.0, 0.0
        for at, units in log[first:]:
            taken, largest = taken + units, max(largest, units)
            length = max(at - begin, paced.burst / per_second)
            assert taken <= per_second * length + largest + TIGHT


@settings(max_examples=100, deadline=None)
@given(arrivals=ARRIVALS, data=st.data())
@pytest.mark.parametrize("kind", WINDOWED)
def test_no_server_that_counts_in_windows_refuses_whatever_the_arrivals(
    kind: str, arrivals: list[tuple[float, int, float]], data: st.DataObject
) -> None:
    """Also with network jitter, with large requests, and with windows that begin at any time."""
    limited = rate(60, utilisation=0.98, guarded=(10.0, 60.0))
    sent = admissions({"requests": limited}, arrivals)
    phase = data.draw(st.floats(0.0, 60.0))
    jitter = data.draw(st.lists(st.floats(0.0, JITTER), min_size=len(sent), max_size=len(sent)))
    provider = server(kind, 60)
    for at, units in sorted((at + late + phase, units) for (at, units), late in zip(sent, jitter, strict=True)):
        assert provider.ask(at, units) == 0.0


@settings(max_examples=100, deadline=None)
@given(arrivals=ARRIVALS, jitter=st.data())
@pytest.mark.parametrize("provider", ["openai", "groq", "anthropic"])
def test_no_server_with_a_bucket_refuses_where_the_bucket_is_known(
    provider: str, arrivals: list[tuple[float, int, float]], jitter: st.DataObject
) -> None:
    known = known_rate("requests_per_minute", 60, profile=profile_of(provider), burst=None, care=Care())
    sent = admissions({"requests": known}, arrivals)
    late = jitter.draw(st.lists(st.floats(0.0, JITTER), min_size=len(sent), max_size=len(sent)))
    bucket = server("bucket of a minute", 60)
    for at, units in sorted((at + by, units) for (at, units), by in zip(sent, late, strict=True)):
        assert bucket.ask(at, units) == 0.0


def test_the_burst_comes_out_of_idle_time_only() -> None:
    bucket = PacedBucket(rate(60))
    now = 1_000.0
    for _ in range(10):
        assert bucket.admits(1.0, now)
        bucket.take(1.0, now)
    assert not bucket.admits(1.0, now)
    assert bucket.eligible_at(1.0) == pytest.approx(now + 10)
    for second in range(10, 40):  # served at the pace, it earns no burst
        at = bucket.eligible_at(1.0)
        assert at == pytest.approx(now + second)
        bucket.take(1.0, at)
    bucket.take(1.0, now + 44.0)  # four idle seconds are four units, and this is one of them
    assert [bucket.admits(float(units), now + 44.0) for units in (1, 3, 4)] == [True, True, False]


def test_a_request_above_the_burst_passes_when_all_is_earned_and_leaves_a_debt() -> None:
    bucket = PacedBucket(rate(60))
    bucket.take(4.0, 0.0)
    assert bucket.eligible_at(30.0) == pytest.approx(4.0)
    bucket.take(30.0, 4.0)
    assert bucket.eligible_at(1.0) == pytest.approx(34.0)
    assert bucket.level(4.0) == pytest.approx(-20.0)


@settings(max_examples=200, deadline=None)
@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["take", "give back", "more", "idle", "drain"]), st.floats(0.1, 15.0)), max_size=30
    )
)
def test_refunds_never_over_credit(steps: list[tuple[str, float]]) -> None:
    bucket = PacedBucket(rate(60, guarded=(10.0, 60.0)))
    now = 1_000.0
    taken: list[tuple[float, float]] = []
    for step, amount in steps:
        if step == "idle":
            now += amount
        elif step == "take" and bucket.admits(amount, now):
            bucket.take(amount, now)
            taken.append((amount, now))
        elif step == "give back" and taken:
            units, since = taken.pop()
            bucket.charge(-units, now, since)
        elif step == "more":
            bucket.charge(amount, now, now)
        elif step == "drain":
            bucket.drain(now, 1.0)
        assert bucket.level(now) <= bucket.rate.burst + TIGHT


def test_what_is_given_back_right_away_can_be_taken_again() -> None:
    bucket = PacedBucket(rate(60, guarded=(10.0, 60.0)))
    for _ in range(10):
        bucket.take(1.0, 5.0)
    for _ in range(10):
        bucket.charge(-1.0, 5.5, 5.0)
    assert bucket.level(5.5) == pytest.approx(10.0, abs=0.6)
    assert bucket.admits(9.0, 5.5)


@settings(max_examples=150, deadline=None)
@given(
    calls=st.lists(st.tuples(st.floats(0.0, 6.0), st.floats(0.5, 12.0), st.booleans()), max_size=40),
    share=st.floats(5.0, 30.0),
)
def test_a_guard_is_an_exact_log(calls: list[tuple[float, float, bool]], share: float) -> None:
    guard, span, now = WindowGuard(10.0, share), 10.0 + JITTER, 0.0
    log: list[tuple[float, float]] = []
    for gap, amount, is_given_back in calls:
        now += gap
        free_at = guard.free_at(amount)
        held = [(at, units) for at, units in log if at + span > now + 1e-9]
        fits = sum(units for _, units in held) + min(amount, share) <= share + 1e-6
        grain = span / 1_000  # close entries are one, to the careful side
        assert fits or free_at > now
        if free_at > now + grain:
            assert not fits or any(abs(at + span - now) < grain for at, _ in log)
        at = max(now, free_at)
        guard.add(amount, at)
        now = at
        log.append((at, amount))
        if is_given_back:
            guard.give_back(amount, at)
            log.pop()


def test_what_has_left_a_window_cannot_be_given_back_to_it() -> None:
    guard = WindowGuard(10.0, 5.0)
    guard.add(5.0, 0.0)
    guard.add(5.0, 20.0)
    guard.give_back(5.0, 0.0)
    assert guard.free_at(1.0) == pytest.approx(20.0 + 10.0 + JITTER)


@pytest.mark.parametrize(
    ("limit", "seconds", "share"),
    [
        (600, 10.0, 100.0),
        (500, 10.0, 500 / 6),
        (100, 10.0, 17.0),
        (60, 1.0, 1.0),
        (500, 1.0, 500 / 60),
        (100, 1.0, 2.0),
    ],
)
def test_whole_requests_are_rounded_down_only_where_that_costs_little(
    limit: float, seconds: float, share: float
) -> None:
    assert window_share(rate(limit), seconds) == pytest.approx(share)


def test_a_limit_that_is_not_known_lets_everything_pass() -> None:
    bucket = PacedBucket(Rate(limit=math.inf, window=60.0, burst=0.0))
    for _ in range(1_000):
        assert bucket.admits(1e6, 5.0)
        bucket.take(1e6, 5.0)
    bucket.drain(9.0, 1.0)
    assert bucket.level(5.0) == math.inf
    bucket.set_rate(rate(60), 20.0)
    assert bucket.level(20.0) == pytest.approx(10.0)
