"""Estimates follow what a lane's calls really take."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage

from langchain_parallel_plus import RateLimiter, RunnableParallelPlus
from langchain_parallel_plus.limits import Cost, reset
from langchain_parallel_plus.limits.tokens import lane_correction
from langchain_parallel_plus.limits.tokens.estimate import ModelCall
from langchain_parallel_plus.limits.tokens.lane_correction import Correction, LaneCorrections
from langchain_parallel_plus.testing import ScriptedChatModel

TOKENS = st.floats(min_value=1, max_value=1e6)


def test_a_lane_begins_uncorrected() -> None:
    assert Correction().factor == 1
    assert LaneCorrections().factor("lane", "model") == 1


@given(estimated=TOKENS, ratio=st.floats(min_value=0.3, max_value=3.9))
def test_it_converges_on_a_steady_ratio(estimated: float, ratio: float) -> None:
    correction = Correction()
    for _ in range(60):
        correction = correction.after(estimated, estimated * ratio)
    assert correction.factor == pytest.approx(ratio, rel=0.02)


@given(calls=st.lists(st.tuples(TOKENS, st.floats(min_value=0, max_value=1e7)), max_size=50))
def test_it_stays_from_a_quarter_to_four(calls: list[tuple[float, float]]) -> None:
    correction = Correction()
    for estimated, actual in calls:
        correction = correction.after(estimated, actual)
        assert 0.25 <= correction.factor <= 4


def test_a_tiny_first_call_says_little_and_a_large_one_much() -> None:
    assert Correction().after(5, 20).factor < 1.2
    assert Correction().after(5_000, 10_000).factor > 1.9


def test_it_forgets_in_ten_calls_of_another_kind() -> None:
    correction = Correction()
    for _ in range(20):
        correction = correction.after(1_000, 2_000)
    for _ in range(10):
        correction = correction.after(1_000, 1_000)
    assert correction.factor == pytest.approx(1, abs=0.12)


def test_lanes_and_models_are_apart_and_the_ones_used_last_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lane_correction, "_LANES", 3)
    known = LaneCorrections()
    for lane in ("a", "b", "c", "a", "d"):
        known.observe(lane, "m", estimated=1_000, actual=2_000)
    assert [known.factor(lane, "m") > 1 for lane in "abcd"] == [True, False, True, True]
    assert known.factor("a", "other") == 1
    known.observe("e", "m", estimated=0, actual=100)
    assert known.factor("e", "m") == 1


def test_what_was_learned_goes_with_the_key() -> None:
    named = [RateLimiter(requests_per_minute=60, name="corrected") for _ in range(2)]
    for estimated, limiter in zip((1_000, 2_000), named, strict=True):
        limiter.account.corrections.observe("lane", "model", estimated=estimated, actual=3_000)
    factors = {limiter.account.corrections.factor("lane", "model") for limiter in named}
    assert factors == {Correction().after(1_000, 3_000).after(2_000, 3_000).factor}
    reset("corrected")
    again = RateLimiter(requests_per_minute=60, name="corrected")
    assert again.account.corrections.factor("lane", "model") == 1


def spent(limiter: RateLimiter) -> int:
    rate = limiter.statistics().rates["input_tokens_per_minute"]
    return round(rate.burst - rate.available)


def model(tokens: int) -> ScriptedChatModel:
    usage = {"input_tokens": tokens, "output_tokens": 1, "total_tokens": tokens + 1}
    return ScriptedChatModel([AIMessage("well", usage_metadata=usage)], cycle=True)


class Estimates:
    """An `estimate=` that keeps what it is asked."""

    def __init__(self) -> None:
        self.asked: list[ModelCall] = []

    def __call__(self, call: ModelCall) -> Cost:
        self.asked.append(call)
        return Cost(input_tokens=round(1_000 * call.correction))


def test_a_branch_s_estimates_are_corrected_by_its_own_calls() -> None:
    estimates = Estimates()
    limiter = RateLimiter(input_tokens_per_minute=1e9, estimate=estimates)
    fan_out = RunnableParallelPlus(code=model(2_000), prose=model(900)).with_limits(limiter)
    for _ in range(20):
        fan_out.invoke("x" * 4_000)
    last = {round(call.correction, 1) for call in estimates.asked[-2:]}
    assert last == {2.0, 0.9}


def test_a_limiter_settles_with_what_was_used_whatever_it_was_corrected_with() -> None:
    limiter = RateLimiter(input_tokens_per_minute=1e9, clock=lambda: 1.0, provider="groq")
    fan_out = RunnableParallelPlus(x=model(3_000)).with_limits(limiter)
    for _ in range(5):
        fan_out.invoke("x" * 4_000)
    assert spent(limiter) == 15_000
