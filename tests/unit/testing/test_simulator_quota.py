"""The simulated quota: OpenAI's continuous bucket, decided without a clock."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_parallel_plus.errors import DeclarationError
from langchain_parallel_plus.testing.simulator.quota import Bucket, Decision, Quota, Reading

_limits = st.one_of(st.none(), st.integers(1, 50))
_token_limits = st.one_of(st.none(), st.integers(1, 100_000))
_quotas = st.builds(
    lambda requests, tokens: Quota(
        requests=None if requests is None else Bucket(requests),
        tokens=None if tokens is None else Bucket(tokens),
    ),
    _limits,
    _token_limits,
)
_arrivals = st.lists(st.tuples(st.floats(0, 30, allow_nan=False), st.integers(0, 120_000)), min_size=1, max_size=60)


def play(quota: Quota, arrivals: list[tuple[float, int]], *, start: float = 0.0) -> list[tuple[float, int, Decision]]:
    """Send requests after the given gaps and return (time, tokens, decision) of each."""
    now, state, played = start, quota.fresh(now=start), []
    for gap, tokens in arrivals:
        now += gap
        decision = quota.admit(state, now=now, tokens=tokens)
        state = decision.state
        played.append((now, tokens, decision))
    return played


@given(_quotas, _arrivals)
def test_no_window_admits_more_than_the_capacity_plus_the_refill(quota, arrivals):
    """Over any window the admitted units stay within one full bucket plus the rate times the window."""
    admitted = [(now, {"requests": 1, "tokens": tokens}) for now, tokens, d in play(quota, arrivals) if d.admitted]
    for dimension, bucket in quota.buckets:
        for first in range(len(admitted)):
            total = 0
            for now, cost in admitted[first:]:
                total += cost[dimension]
                window = now - admitted[first][0]
                assert total <= bucket.limit * (1 + window / 60) * (1 + 1e-6)


@given(_quotas, _arrivals, st.sampled_from([0.0, 1e6]))
def test_a_request_is_admitted_when_the_refusal_says(quota, arrivals, start):
    """`retry_after` is enough for the same request, and a little less is not."""
    for now, tokens, decision in play(quota, arrivals, start=start):
        refusal = decision.refusal
        if refusal is None or refusal.retry_after is None:
            continue
        assert refusal.retry_after > 0
        assert quota.admit(decision.state, now=now + refusal.retry_after, tokens=tokens).admitted
        early = refusal.retry_after - 60 / refusal.limit - 0.002
        if early > 0:
            assert not quota.admit(decision.state, now=now + early, tokens=tokens).admitted


@given(_quotas, _arrivals)
def test_the_numbers_of_a_refusal_obey_openais_formula(quota, arrivals):
    """`X = (U + R - L) / (L / 60)` on the printed whole numbers, as in the public samples."""
    for _, _, decision in play(quota, arrivals):
        refusal = decision.refusal
        if refusal is None:
            continue
        assert 0 <= refusal.used <= refusal.limit
        if refusal.retry_after is None:
            assert refusal.requested > refusal.limit
        else:
            exact = (refusal.used + refusal.requested - refusal.limit) * 60 / refusal.limit
            assert exact - 1e-6 <= refusal.retry_after <= exact + 0.001


@given(_quotas, _arrivals)
def test_readings_are_possible_and_reset_when_they_say(quota, arrivals):
    """`remaining` lies between nothing and the limit, and all of it is back after `reset`."""
    for now, _, decision in play(quota, arrivals):
        assert [reading.dimension for reading in decision.readings] == [name for name, _ in quota.buckets]
        for reading, (_, bucket), fill in zip(decision.readings, quota.buckets, decision.state.fills, strict=True):
            assert 0 <= reading.remaining <= reading.limit
            assert bucket.whole_used(bucket.drained(fill, now + reading.reset)) == 0
            if reading.reset > 0.002:
                assert bucket.drained(fill, now + reading.reset - 0.002).used > 0


@pytest.mark.parametrize(("limit", "wait"), [(3, 20.0), (500, 0.12), (10_000, 0.006)])
def test_a_refused_request_is_one_whole_unit_away(limit, wait):
    """Public refusals read "Limit 3, Used 3, Requested 1. Please try again in 20s", never a fraction of it."""
    burst = play(Quota(requests=Bucket(limit)), [(0.0, 0)] * limit + [(wait / 3, 0)])
    assert all(decision.admitted for _, _, decision in burst[:-1])
    refusal = burst[-1][2].refusal
    assert (refusal.dimension, refusal.used, refusal.requested, refusal.retry_after) == ("requests", limit, 1, wait)


@pytest.mark.parametrize(
    ("used", "requested", "limit", "wait"), [(28_000, 5_000, 30_000, 6.0), (9_900, 164, 10_000, 0.384)]
)
def test_tokens_are_charged_when_admitted_and_not_when_refused(used, requested, limit, wait):
    """A refusal for tokens leaves the tokens bucket as it was."""
    decisions = [
        d for _, _, d in play(Quota(tokens=Bucket(limit)), [(0.0, used), (0.0, requested), (0.0, limit - used)])
    ]
    assert decisions[1].refusal.retry_after == wait
    assert decisions[2].admitted


def test_resending_does_not_help():
    """Refused requests count: a client that resends faster than the rate is never admitted again."""
    quota = Quota(requests=Bucket(60))
    played = play(quota, [(0.0, 0)] * 60 + [(0.5, 0)] * 200)
    assert [decision.admitted for _, _, decision in played] == [True] * 60 + [False] * 200


def test_a_request_refused_for_tokens_counts_as_a_request():
    """Failed requests count against the requests limit whatever made them fail."""
    played = play(Quota(requests=Bucket(10), tokens=Bucket(100)), [(0.0, 100), (0.0, 50)])
    assert played[-1][2].readings[0] == Reading("requests", 10, 8, 12.0)


def test_the_longest_wait_is_the_one_that_is_told():
    """A request that two limits refuse is told of the limit that keeps it longest."""
    quota = Quota(requests=Bucket(60), tokens=Bucket(6_000))
    state = quota.admit(quota.fresh(now=0.0), now=0.0, tokens=6_000).state
    assert quota.admit(state, now=0.0, tokens=100).refusal.dimension == "tokens"
    for _ in range(60):
        state = quota.admit(state, now=30.0, tokens=5).state
    assert quota.admit(state, now=30.0, tokens=2_750).refusal.dimension == "requests"


def test_a_request_larger_than_the_limit_is_told_that_no_wait_helps():
    """Such a request is refused on an idle key too, and counts as a request."""
    ((_, _, decision),) = play(Quota(requests=Bucket(60), tokens=Bucket(1_000)), [(0.0, 1_001)])
    assert (decision.refusal.dimension, decision.refusal.requested) == ("tokens", 1_001)
    assert decision.refusal.retry_after is None
    assert [reading.remaining for reading in decision.readings] == [59, 1_000]


def test_a_quota_without_limits_admits_everything():
    """No dimension, no readings, no refusal."""
    played = play(Quota(), [(0.0, 10**9)] * 100)
    assert all(decision.admitted and decision.readings == () for _, _, decision in played)


def test_a_clock_that_goes_back_neither_drains_nor_fills():
    """Time between two decisions counts once."""
    bucket = Bucket(60)
    fill = bucket.charged(bucket.drained(Quota(requests=bucket).fresh(now=10.0).fills[0], 10.0), 5)
    assert bucket.drained(fill, 3.0) == fill
    assert bucket.drained(bucket.drained(fill, 3.0), 11.0).used == 4.0


@pytest.mark.parametrize("limit", [0, -1, 1.5, True, "60", math.inf])
def test_a_limit_is_a_positive_whole_number(limit):
    """The message names what was given."""
    with pytest.raises(DeclarationError, match=r"a quota must be a whole number >= 1, got .*\n.*help"):
        Bucket(limit)


@pytest.mark.parametrize("window", [0.0, -1.0, math.inf, math.nan])
def test_a_window_is_a_positive_time(window):
    """A window without end would admit nothing twice."""
    with pytest.raises(DeclarationError, match="window must be seconds > 0"):
        Bucket(1, window)
