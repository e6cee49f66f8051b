"""A large burst leaves one call after the other, a small one at once, and sustained load is not held up."""

from __future__ import annotations

import math

import pytest

from langchain_parallel_plus.errors import LimiterTimeoutError
from langchain_parallel_plus.limits import Cost, RateLimiter
from langchain_parallel_plus.limits.planning.bucket import Rate
from langchain_parallel_plus.limits.planning.lanes import Request
from langchain_parallel_plus.limits.planning.planner import Planner


def launched(calls: int, per_minute: float, **fields: object) -> list[float]:
    burst = per_minute * 58 / 60
    rate = Rate(**{"limit": per_minute, "window": 60.0, "burst": burst, "refill": "bucket", **fields})
    plan: Planner[Request] = Planner({"requests": rate})
    for _ in range(calls):
        plan.submit(Request(amounts=(1.0,)), 0.0)
    times: list[float] = []
    now: float | None = 0.0
    while now is not None:
        grants, wake_at = plan.advance(now)
        times += [now] * len(grants)
        now = wake_at
    return times


def test_a_fan_out_starts_at_once_and_a_thousand_calls_within_seconds() -> None:
    times = launched(1_000, 1_200)
    assert times[:32] == [0.0] * 32
    assert times[32:35] == pytest.approx([0.004, 0.008, 0.012], abs=1e-6)
    assert times[-1] == pytest.approx(968 * 0.004, abs=1e-6)


def test_the_run_as_a_whole_takes_no_longer() -> None:
    times = launched(2_000, 1_200, utilisation=1.0)
    assert times[-1] == pytest.approx((2_000 - 1_160) / 20, abs=0.1)


def test_a_pace_of_many_calls_a_second_is_kept() -> None:
    times = launched(4_000, 120_000, burst=1.0, utilisation=1.0)
    assert times[-1] == pytest.approx(2.0, rel=0.01)


def test_windows_get_their_burst_one_call_after_the_other_too() -> None:
    times = launched(100, 600, refill="window", burst=100.0)
    assert times[:32] == [0.0] * 32
    assert times[-1] == pytest.approx(68 * 0.004, abs=1e-6)


def test_where_bursts_are_small_or_for_a_day_nothing_is_held_up() -> None:
    assert launched(32, 600, refill="window", burst=100.0) == [0.0] * 32
    assert launched(500, 500, window=86_400.0, burst=500.0) == [0.0] * 500


def test_calls_without_a_queue_leave_one_after_the_other_too() -> None:
    plan: Planner[Request] = Planner({"requests": Rate(limit=600, window=60.0, burst=580, refill="bucket")})
    assert [plan.grant(Request(amounts=(1.0,)), 0.0) for _ in range(33)] == [True] * 32 + [False]
    assert plan.grant(Request(amounts=(1.0,)), 0.004)


def test_calls_that_are_forced_into_the_future_hold_up_nobody_until_then() -> None:
    plan: Planner[Request] = Planner({"requests": Rate(limit=60, window=60.0, burst=1, refill="bucket")})
    forced = [Request(amounts=(1.0,)) for _ in range(31)]
    assert [plan.force(request, 0.0) for request in forced] == pytest.approx(list(range(31)), abs=1.0)
    for request in forced[1:]:
        plan.cancel(request, 0.0)
    newcomer = Request(amounts=(1.0,))
    due = plan.forecast(newcomer, 0.0)
    plan.submit(newcomer, 0.0)
    assert plan.advance(0.0) == ([], pytest.approx(due))
    assert due == pytest.approx(60 / 59.4)


def test_a_refused_force_leaves_no_trace_behind_a_large_call_that_used_little() -> None:
    now = [0.0]
    limiter = RateLimiter(tokens_per_minute=6_000, provider="anthropic", clock=lambda: now[0])
    large = limiter.reserve(Cost(tokens=6_000))
    with pytest.raises(LimiterTimeoutError):
        limiter.force(Cost(tokens=100), within=1)
    large.settle(Cost(tokens=100))
    assert limiter.expected_wait(Cost(tokens=100)) == 0.0
    assert limiter.reserve(Cost(tokens=100)).granted


def test_cancelled_calls_hold_up_nobody() -> None:
    plan: Planner[Request] = Planner({"requests": Rate(limit=600, window=60.0, burst=580, refill="bucket")})
    for _ in range(500):
        request = Request(amounts=(1.0,))
        assert plan.grant(request, 0.0)
        plan.cancel(request, 0.0)


@pytest.mark.parametrize("taken", [0, 20, 40])
@pytest.mark.parametrize("ahead", [0, 10, 100])
def test_the_forecast_knows_the_order_of_a_burst(taken: int, ahead: int) -> None:
    plan: Planner[Request] = Planner({"requests": Rate(limit=600, window=60.0, burst=580, refill="bucket")})
    for _ in range(taken + ahead):
        plan.submit(Request(amounts=(1.0,)), 0.0)
        if plan.counts.submitted <= taken:
            plan.advance(0.0)
    request = Request(amounts=(1.0,))
    due = plan.forecast(request, 0.0)
    plan.submit(request, 0.0)
    assert plan.drained(0.0) >= due - 1e-6
    now: float | None = 0.0
    while (now := plan.advance(now).wake_at) is not None:
        pass
    assert request.planned == pytest.approx(due, abs=1e-6)
    assert due == pytest.approx(max(taken + ahead - 31, 0) * 0.004, abs=1e-5)


def test_where_no_rate_is_known_any_more_nothing_is_held_up() -> None:
    known = Rate(limit=600, window=60.0, burst=580, refill="bucket")
    plan: Planner[Request] = Planner({"requests": known})
    for _ in range(500):
        plan.force(Request(amounts=(1.0,)), 0.0)
    plan.set_rate("requests", Rate(limit=math.inf, window=60.0, burst=0, refill="bucket"), 0.0)
    assert plan.grant(Request(amounts=(1.0,)), 0.0)


def test_what_held_a_call_up_is_named() -> None:
    plan: Planner[Request] = Planner({"requests": Rate(limit=600, window=60.0, burst=580, refill="bucket")})
    requests = [Request(amounts=(1.0,)) for _ in range(33)]
    for request in requests:
        plan.submit(request, 0.0)
    plan.advance(0.0)
    plan.advance(0.1)
    assert [requests[31].bound_by, requests[32].bound_by] == ["", "burst"]


def test_a_limit_on_tokens_does_not_switch_it_off() -> None:
    """10,000 tokens a second are not 10,000 calls a second."""
    rates = {
        "requests": Rate(limit=1_200, window=60.0, burst=1_160, refill="bucket"),
        "tokens": Rate(limit=600_000, window=60.0, burst=580_000, refill="bucket"),
    }
    plan: Planner[Request] = Planner(rates)
    for _ in range(100):
        plan.submit(Request(amounts=(1.0, 80.0)), 0.0)
    assert len(plan.advance(0.0).grants) == 32
    assert len(plan.advance(0.04).grants) == 10


def test_calls_that_are_earned_quickly_leave_quickly_where_only_tokens_are_limited() -> None:
    plan: Planner[Request] = Planner({"tokens": Rate(limit=600_000, window=60.0, burst=580_000, refill="bucket")})
    for _ in range(100):
        plan.submit(Request(amounts=(10.0,)), 0.0)
    assert len(plan.advance(0.01).grants) == pytest.approx(32 + 20, abs=1)
