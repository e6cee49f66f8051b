"""The quota of a key: several limits, one decision, three token rules, on any clock."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langchain_parallel_plus.errors import DeclarationError
from langchain_parallel_plus.testing.quota import (
    QUOTA_MODELS,
    Bucket,
    Cost,
    Decision,
    FixedWindow,
    Quota,
    SubWindows,
    admission_cost,
    final_cost,
)

MODELS = list(QUOTA_MODELS)
every_model = pytest.mark.parametrize("model", MODELS)

_limits = st.one_of(st.none(), st.integers(1, 50))
_token_limits = st.one_of(st.none(), st.integers(1, 100_000))
_quotas = st.builds(
    Quota.of,
    st.sampled_from(MODELS),
    requests=_limits,
    tokens=_token_limits,
    output_tokens=_token_limits,
    requests_per_day=_limits,
    failed_requests_count=st.booleans(),
)
_costs = st.builds(
    lambda read, written: Cost(input_tokens=read, output_tokens=written), st.integers(0, 90_000), st.integers(0, 30_000)
)
_arrivals = st.lists(st.tuples(st.floats(0, 30, allow_nan=False), _costs), min_size=1, max_size=60)


def tokens(count: int) -> Cost:
    return Cost(input_tokens=count)


def play(quota: Quota, arrivals: list[tuple[float, Cost]], *, start: float = 0.0) -> list[tuple[float, Cost, Decision]]:
    """Send requests after the given gaps and return (time, cost, decision) of each."""
    now, state, played = start, quota.fresh(now=start), []
    for gap, cost in arrivals:
        now += gap
        decision = quota.admit(state, cost, now=now)
        state = decision.state
        played.append((now, cost, decision))
    return played


@settings(deadline=None)
@given(_quotas, _arrivals, st.sampled_from([0.0, 1e6, 1.8e9]))
def test_a_request_is_admitted_exactly_when_the_refusal_says(quota, arrivals, start):
    """`retry_after` is enough for the same request, and two milliseconds less are not."""
    for now, cost, decision in play(quota, arrivals, start=start):
        refusal = decision.refusal
        if refusal is None or refusal.retry_after is None:
            continue
        assert refusal.retry_after > 0
        assert quota.admit(decision.state, cost, now=now + refusal.retry_after).admitted
        if refusal.retry_after > 0.002:
            assert not quota.admit(decision.state, cost, now=now + refusal.retry_after - 0.002).admitted


@settings(deadline=None)
@given(_quotas, _arrivals)
def test_a_refused_request_charges_nothing_but_requests_that_count(quota, arrivals):
    """And requests only if the quota says so, as far as they fit."""
    state, now = quota.fresh(now=0.0), 0.0
    for gap, cost in arrivals:
        now += gap
        before = quota.readings(state, now=now)
        decision = quota.admit(state, cost, now=now)
        state = decision.state
        for reading, was in zip(decision.readings, before, strict=True):
            counts = reading.dimension.startswith("requests") and quota.failed_requests_count
            expected = cost.of(reading.dimension) if decision.admitted else int(counts and was.free > 0)
            assert abs(reading.used - was.used - expected) <= (0 if decision.admitted or not counts else 1)


@settings(deadline=None)
@given(_quotas, _arrivals)
def test_a_refusal_names_the_limit_that_is_full(quota, arrivals):
    """Its numbers are those of a reading; a request that never fits is told so, with the limit that it exceeds."""
    for _, cost, decision in play(quota, arrivals):
        refusal = decision.refusal
        assert decision.admitted == (refusal is None) == (decision.charge is not None)
        if refusal is None:
            continue
        (reading,) = (one for one in decision.readings if one.dimension == refusal.dimension)
        assert (refusal.limit, refusal.used) == (reading.limit, reading.used)
        assert refusal.requested == cost.of(refusal.dimension)
        assert (refusal.retry_after is None) == any(
            cost.of(dimension) > limit.limit for dimension, limit in quota.limits
        )


@settings(deadline=None)
@given(_quotas.filter(lambda quota: isinstance(quota.tokens, Bucket) and quota.tokens.window == 60), _arrivals)
def test_a_bucket_of_a_minute_obeys_openais_formula(quota, arrivals):
    """`X = (U + R - L) / (L / 60)` on the printed whole numbers, as in the public samples, to within a unit."""
    for _, _, decision in play(quota, arrivals):
        refusal = decision.refusal
        if refusal is None or refusal.retry_after is None or refusal.dimension != "tokens":
            continue
        exact = (refusal.used + refusal.requested - refusal.limit) * 60 / refusal.limit
        assert exact - 60 / refusal.limit - 1e-6 <= refusal.retry_after <= exact + 0.001


@settings(deadline=None)
@given(_quotas, _arrivals)
def test_readings_add_up(quota, arrivals):
    """One for each limit, with whole numbers that are possible."""
    for _, _, decision in play(quota, arrivals):
        assert [reading.dimension for reading in decision.readings] == [name for name, _ in quota.limits]
        for reading in decision.readings:
            assert 0 <= reading.free <= reading.capacity <= reading.limit
            assert reading.free <= reading.remaining <= reading.limit
            assert (reading.reset > 0) == (reading.used > 0)


@pytest.mark.parametrize(("limit", "wait"), [(3, 20.0), (500, 0.12), (10_000, 0.006)])
def test_openais_refusals_are_one_whole_unit_away(limit, wait):
    """Public refusals read "Limit 3, Used 3, Requested 1. Please try again in 20s", since refused requests count."""
    quota = Quota.of(requests=limit, failed_requests_count=True)
    burst = play(quota, [(0.0, Cost())] * limit + [(wait / 3, Cost())])
    assert all(decision.admitted for _, _, decision in burst[:-1])
    refusal = burst[-1][2].refusal
    assert (refusal.dimension, refusal.used, refusal.requested, refusal.retry_after) == ("requests", limit, 1, wait)


@every_model
def test_resending_helps_only_where_refused_requests_do_not_count(model):
    """A bucket that counts them never admits again a client that resends faster than the rate."""
    served = {}
    for counted in (False, True):
        quota = Quota.of(model, requests=60, failed_requests_count=counted)
        played = play(quota, [(0.0, Cost())] * 60 + [(0.5, Cost())] * 240)
        served[counted] = sum(decision.admitted for _, _, decision in played[60:])
    assert served[False] >= 60
    assert served[True] == (0 if model.startswith("bucket") else served[False])


@pytest.mark.parametrize(
    ("used", "requested", "limit", "wait"), [(28_000, 5_000, 30_000, 6.0), (9_900, 164, 10_000, 0.384)]
)
def test_tokens_are_charged_when_admitted_and_not_when_refused(used, requested, limit, wait):
    """A refusal for tokens leaves the tokens bucket as it was."""
    arrivals = [(0.0, tokens(used)), (0.0, tokens(requested)), (0.0, tokens(limit - used))]
    decisions = [decision for _, _, decision in play(Quota.of(tokens=limit), arrivals)]
    assert decisions[1].refusal.retry_after == wait
    assert decisions[2].admitted


def test_the_longest_wait_is_the_one_that_is_told():
    """A request that two limits refuse is told of the limit that keeps it longest."""
    quota = Quota.of(requests=60, tokens=6_000, failed_requests_count=True)
    state = quota.admit(quota.fresh(now=0.0), tokens(6_000), now=0.0).state
    assert quota.admit(state, tokens(100), now=0.0).refusal.dimension == "tokens"
    for _ in range(60):
        state = quota.admit(state, tokens(5), now=30.0).state
    assert quota.admit(state, tokens(2_750), now=30.0).refusal.dimension == "requests"


@pytest.mark.parametrize("counted", [False, True])
def test_a_request_larger_than_the_limit_is_told_that_no_wait_helps(counted):
    """Such a request is refused on an idle key too, and may count as a request."""
    quota = Quota.of(requests=60, tokens=1_000, failed_requests_count=counted)
    ((_, _, decision),) = play(quota, [(0.0, tokens(1_001))])
    assert (decision.refusal.dimension, decision.refusal.requested) == ("tokens", 1_001)
    assert decision.refusal.retry_after is None
    assert [reading.remaining for reading in decision.readings] == [60 - counted, 1_000]


def test_a_quota_without_limits_admits_everything():
    """No limit, no readings, no refusal."""
    played = play(Quota(), [(0.0, tokens(10**9))] * 100)
    assert all(decision.admitted and decision.readings == () for _, _, decision in played)


def test_limits_by_the_day_are_buckets_of_a_day():
    """Groq's headers show it: 14370 of 14400 left, and the rest in 2m59.56s."""
    quota = Quota.of("fixed_window", requests=100, requests_per_day=14_400)
    (*_, (_, _, decision)) = play(quota, [(0.0, Cost())] * 30)
    assert [(reading.dimension, reading.remaining, reading.reset) for reading in decision.readings] == [
        ("requests", 70, 60.0),
        ("requests_per_day", 14_370, 180.0),
    ]


def test_models_can_be_mixed():
    """Azure counts requests over ten seconds and tokens over a minute."""
    quota = Quota(requests=SubWindows(480), tokens=FixedWindow(80_000))
    (*_, (_, _, decision)) = play(quota, [(1.0, tokens(18_647))])
    assert [(reading.free, reading.reset) for reading in decision.readings] == [(79, 9.0), (61_353, 59.0)]


@every_model
def test_an_hour_of_paced_traffic_takes_a_moment_and_meets_no_refusal(model):
    """One request each 1/(0.98 x 500) minutes with up to 50 ms of jitter is inside every model of 500 a minute."""
    quota, draw = Quota.of(model, requests=500), random.Random(1)
    state, refused = quota.fresh(now=0.0), 0
    for call in range(int(500 * 0.98 * 60)):
        decision = quota.admit(state, Cost(), now=call * 60 / (500 * 0.98) + draw.uniform(0, 0.05))
        state, refused = decision.state, refused + (not decision.admitted)
    assert refused == 0


@every_model
def test_an_hour_of_too_much_traffic_is_served_at_the_rate(model):
    """A client that offers three times the limit gets the limit: no more, and hardly less."""
    quota = Quota.of(model, requests=500)
    state, served = quota.fresh(now=0.0), 0
    for call in range(30_000):
        decision = quota.admit(state, Cost(), now=call * 0.04)
        state, served = decision.state, served + decision.admitted
    assert 0.98 * 20 <= served / 500 <= 21


@pytest.mark.parametrize(
    ("rule", "admitted", "ended"),
    [
        ("reserve", (100, 1_000), (100, 1_000)),
        ("reserve_refund", (100, 1_000), (90, 30)),
        ("actual", (100, 0), (90, 30)),
    ],
)
@every_model
def test_the_token_rules(model, rule, admitted, ended):
    """What a request takes when it is admitted, and what it has cost in the end, whatever counts it."""
    cost = admission_cost(rule, input_tokens=100, max_tokens=1_000)
    assert (cost.input_tokens, cost.output_tokens) == admitted
    final = final_cost(rule, cost, Cost(input_tokens=90, output_tokens=30))
    assert (final.input_tokens, final.output_tokens) == ended
    quota = Quota.of(model, tokens=1_000_000, input_tokens=1_000_000, output_tokens=1_000_000, requests=600)
    decision = quota.admit(quota.fresh(now=0.0), cost, now=0.0)
    state = quota.settle(decision.state, decision.charge, final, now=0.001)
    used = {reading.dimension: reading.used for reading in quota.readings(state, now=0.001)}
    drained = 17 if model.startswith("bucket") else 0
    assert sum(ended) - drained <= used["tokens"] <= sum(ended)
    assert max(0, ended[1] - drained) <= used["output_tokens"] <= ended[1]
    assert used["requests"] == 1


def test_without_max_tokens_sixteen_are_reserved():
    """The legacy default of OpenAI's API."""
    assert admission_cost("reserve", input_tokens=1, max_tokens=None).tokens == 17


def test_actual_use_may_exceed_the_limit_and_is_paid_off():
    """The rule admits by the prompt: what the answers took too much keeps the next request waiting."""
    quota = Quota.of(tokens=600)
    decision = quota.admit(quota.fresh(now=0.0), tokens(100), now=0.0)
    state = quota.settle(decision.state, decision.charge, Cost(input_tokens=100, output_tokens=900), now=0.0)
    (reading,) = quota.readings(state, now=0.0)
    assert (reading.used, reading.remaining, reading.reset) == (1_000, 0, 100.0)
    assert quota.admit(state, tokens(100), now=0.0).refusal.retry_after == 50.0


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Quota.of("leaky", requests=1),
        lambda: Quota.of(requests=0),
        lambda: Cost(requests=-1),
        lambda: Cost(input_tokens=1.5),
    ],
)
def test_wrong_numbers_are_refused(wrong):
    """With what was given."""
    with pytest.raises(DeclarationError, match="got"):
        wrong()


def test_the_representation_shows_the_limits_that_there_are():
    """And nothing else."""
    assert repr(Quota.of("fixed_window", requests=5)) == "Quota(requests=FixedWindow(limit=5, per=60.0, phase=0.0))"
