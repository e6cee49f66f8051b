"""What headers say of a rate, and what the limiter believes of it."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_parallel_plus.limits.planning.mirror import Mirror, Reading, read_quota
from langchain_parallel_plus.providers.headers import parse_rate_limit_headers
from langchain_parallel_plus.providers.snapshot import Quota, Snapshot


def reading(remaining: float | None, *, limit: float = 600, ends: float | None = None) -> Reading:
    return Reading(limit=limit, window=60.0, remaining=remaining, ends=ends)


def parse(**headers: str) -> Snapshot:
    return parse_rate_limit_headers({name.replace("_", "-"): value for name, value in headers.items()}, 0.0)


def test_there_is_room_for_what_was_left_without_what_was_taken_since_and_with_what_came_back() -> None:
    mirror = Mirror(reading(100), sent=10.0, taken=50.0)
    assert mirror.room(10.0, 50.0) == 100
    assert mirror.room(12.0, 80.0) == 100 - 30 + 20
    assert mirror.eligible_at(90.0, 80.0) == pytest.approx(12.0)
    assert mirror.eligible_at(70.0, 80.0) == -math.inf


def test_use_by_others_is_measured_and_slows_the_refill() -> None:
    mirror = Mirror(reading(600), sent=0.0, taken=0.0)
    for second in range(1, 200):  # ten a second come back, we take two, others three; so the bucket is full in between
        mirror.hear(reading(600 - 5), float(second), 2.0 * second)
    assert mirror.others == pytest.approx(3.0, rel=0.02)
    for second in range(200, 400):  # others take ten
        mirror.hear(reading(600 - 2 * (second - 199)), float(second), 2.0 * second)
    assert mirror.others == pytest.approx(10.0, rel=0.02)
    assert mirror.sees_others
    alone = Mirror(reading(0), sent=400.0, taken=0.0).eligible_at(10.0, 0.0)
    mirror.hear(reading(0), 400.0, 800.0)
    assert mirror.eligible_at(10.0, 800.0) > alone + 5


def test_our_own_use_is_nobody_else_s() -> None:
    mirror = Mirror(reading(600), sent=0.0, taken=0.0)
    for second in range(1, 100):
        mirror.hear(reading(max(600 - 5.0 * second, 0)), float(second), 15.0 * second)
    assert mirror.others == pytest.approx(0.0, abs=0.05)


def test_a_response_to_an_earlier_call_is_stale() -> None:
    mirror = Mirror(reading(100), sent=10.0, taken=0.0)
    mirror.hear(reading(5), 9.0, 0.0)
    mirror.hear(reading(None), 11.0, 0.0)
    assert mirror.room(10.0, 0.0) == 100


@given(
    remaining=st.floats(0, 600),
    ends=st.one_of(st.none(), st.floats(0, 61)),
    amount=st.floats(0.1, 5_000),
    taken=st.floats(0, 1e6),
    others=st.floats(-50, 50),
)
def test_no_mirror_holds_a_request_up_for_longer_than_a_window(
    remaining: float, ends: float | None, amount: float, taken: float, others: float
) -> None:
    mirror = Mirror(reading(remaining, ends=ends), sent=100.0, taken=0.0)
    mirror.others = others
    assert mirror.eligible_at(amount, taken) <= 100.0 + (60.0 if ends is None else ends) + 1e-6


def test_a_window_is_full_again_when_it_ends() -> None:
    mirror = Mirror(reading(3, ends=20.0), sent=100.0, taken=0.0)
    assert mirror.eligible_at(2.0, 0.0) == -math.inf
    assert mirror.eligible_at(50.0, 0.0) == pytest.approx(104.7)  # or before, if it refills evenly
    assert mirror.eligible_at(500.0, 0.0) == 120.0
    assert mirror.room(121.0, 5.0) == 595


@pytest.mark.parametrize(
    ("headers", "unit", "header_window", "expected"),
    [
        # OpenAI's and Groq's: the numbers prove a minute, and a day.
        (
            {"x_ratelimit_limit_requests": "5000", "x_ratelimit_remaining_requests": "4999",
             "x_ratelimit_reset_requests": "12ms"},
            "requests", None, Reading(limit=5000, window=60, remaining=4999),
        ),
        (
            {"x_ratelimit_limit_requests": "14400", "x_ratelimit_remaining_requests": "14370",
             "x_ratelimit_reset_requests": "2m59.56s"},
            "requests", 60.0, None,
        ),
        # A full bucket proves nothing: then the provider has to be known.
        ({"x_ratelimit_limit_requests": "500", "x_ratelimit_remaining_requests": "500"}, "requests", None, None),
        (
            {"x_ratelimit_limit_requests": "500", "x_ratelimit_remaining_requests": "500"},
            "requests", 60.0, Reading(limit=500, window=60, remaining=500),
        ),
        # Azure: -1 and 0 are no values; resets are whole seconds, of a window.
        (
            {"x_ratelimit_limit_tokens": "-1", "x_ratelimit_remaining_tokens": "-1", "x_ratelimit_reset_tokens": "0"},
            "tokens", 60.0, None,
        ),
        (
            {"x_ratelimit_limit_tokens": "1000", "x_ratelimit_remaining_tokens": "100",
             "x_ratelimit_reset_tokens": "7"},
            "tokens", 60.0, Reading(limit=1000, window=60, remaining=100, ends=7),
        ),
        # OpenAI's documentation contradicts itself: the limit may be taken, the reset may not.
        (
            {"x_ratelimit_limit_tokens": "150000", "x_ratelimit_remaining_tokens": "149984",
             "x_ratelimit_reset_tokens": "6m0s"},
            "tokens", 60.0, Reading(limit=150000, window=60, remaining=149984),
        ),
        # IETF: the window is named.
        (
            {"ratelimit_policy": '"a";q=100;w=60', "ratelimit": '"a";r=50;t=30'},
            "requests", None, Reading(limit=100, window=60, remaining=50),
        ),
        ({"ratelimit_policy": '"a";q=100;w=10', "ratelimit": '"a";r=50;t=3'}, "requests", 60.0, None),
    ],
)  # fmt: skip
def test_a_quota_counts_for_the_window_that_it_proves_or_names(
    headers: dict[str, str], unit: str, header_window: float | None, expected: Reading | None
) -> None:
    assert read_quota(parse(**headers), unit, 60.0, header_window=header_window, continuous=False) == expected


def test_a_remainder_above_the_limit_is_cut() -> None:
    snapshot = Snapshot((Quota(name="r", unit="requests", dialect="ietf", limit=10, remaining=99, window=60.0),))
    found = read_quota(snapshot, "requests", 60.0, header_window=None, continuous=True)
    assert found == Reading(limit=10, window=60.0, remaining=10)
