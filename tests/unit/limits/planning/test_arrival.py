"""What is on its way counts until it has arrived: a bucket may be used to its last unit."""

from __future__ import annotations

import heapq

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langchain_parallel_plus.limits.learning.care import Care
from langchain_parallel_plus.limits.learning.profile import profile_of
from langchain_parallel_plus.limits.learning.rates import known_rate
from langchain_parallel_plus.limits.planning.arrival import ARRIVED_AFTER
from langchain_parallel_plus.limits.planning.bucket import Rate
from langchain_parallel_plus.limits.planning.lanes import Request
from langchain_parallel_plus.limits.planning.planner import Planner
from tests.unit.limits.servers import BucketServer


def planner(limit: float = 60.0, burst: float = 60.0) -> Planner[Request]:
    return Planner(
        {"requests": Rate(limit=limit, window=60.0, burst=burst, utilisation=1.0, refill="bucket", awaits_arrival=True)}
    )


def granted(plan: Planner[Request], count: int, now: float) -> list[Request]:
    requests = [Request(amounts=(1.0,)) for _ in range(count)]
    for request in requests:
        plan.submit(request, now)
    return requests


def test_nothing_is_earned_before_the_first_call_is_known_to_have_arrived() -> None:
    plan = planner()
    first, *_ = granted(plan, 70, 0.0)
    grants, _ = plan.advance(2.0)
    assert len(grants) == 60
    plan.landed(first, 2.0)
    assert plan.advance(2.9).grants == []
    assert len(plan.advance(3.0 + 1e-6).grants) == 1


def test_without_an_answer_calls_have_arrived_some_seconds_after_the_last_of_them() -> None:
    plan = planner()
    granted(plan, 70, 0.0)
    _, wake_at = plan.advance(0.5)
    assert wake_at == pytest.approx(0.5 + ARRIVED_AFTER)
    assert plan.advance(wake_at or 0.0).grants == []
    assert len(plan.advance(0.5 + ARRIVED_AFTER + 1.1).grants) == 1


def test_a_call_that_is_taken_back_before_it_has_arrived_costs_nothing() -> None:
    plan = planner()
    requests = granted(plan, 60, 0.0)
    plan.advance(1.0)
    assert plan.cancel(requests[0], 1.0)
    assert plan.buckets[0].level(1.0) == pytest.approx(1.0)
    plan.landed(requests[1], 1.0)
    assert plan.cancel(requests[1], 1.0)
    assert plan.buckets[0].level(1.0) == pytest.approx(2.0)


@settings(max_examples=60, deadline=None)
@given(
    startup=st.floats(0.0, 6.0),
    lags=st.lists(st.floats(0.0, 2.5), min_size=20, max_size=20),
    latency=st.floats(0.01, 2.0),
    units=st.sampled_from([1.0, 3.0]),
)
def test_a_server_s_bucket_refuses_none_however_late_calls_arrive_within_seconds(
    startup: float, lags: list[float], latency: float, units: float
) -> None:
    """An event loop that needs seconds to begin: what was admitted meanwhile arrives seconds after its admission."""
    plan: Planner[Request] = Planner(
        {"requests": known_rate("requests_per_minute", 120, profile=profile_of("openai"), burst=None, care=Care())}
    )
    provider, events = BucketServer(120, 60), [(0.0, 0, "begin", Request(amounts=(0.0,)))]
    requests, sent, now = [Request(amounts=(units,)) for _ in range(80)], 0, 0.0
    for request in requests:
        plan.submit(request, 0.0)
    while True:
        grants, wake_at = plan.advance(now)
        for request in grants:
            sent += 1
            late = startup - now + lags[sent % 20] if now < startup else 0.0
            at = now + min(late, ARRIVED_AFTER)
            heapq.heappush(events, (at, sent, "arrive", request))
        if not events and wake_at is None:
            break
        if events and (wake_at is None or events[0][0] <= wake_at):
            now, number, what, request = heapq.heappop(events)
            if what == "arrive":
                assert provider.ask(now, units) == 0.0
                heapq.heappush(events, (now + latency, number, "answer", request))
            elif what == "answer":
                plan.landed(request, now)
        else:
            now = max(now, wake_at or 0.0)
    assert sent == 80
